# No memory: each allocation of a request fails once, one after the other, from
# its connection to its answer.  The worker goes on, nobody passes who should
# not, and no good key is refused as a bad one.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;
use Test::Rbgv::Key qw(make_key);
use Test::Rbgv::Preload;

my $t = Test::Rbgv->new;

# they have allocators of their own
plan skip_all => 'with a sanitizer'
    if `ldd '$t->{build}/ngx_http_rbgv_auth_module.so'` =~ /lib[au]b?san/;

$t->start_redis;
$t->allow_alert(qr/(?:malloc|posix_memalign)\(.*\) failed|OpenSSL/);

# how many allocations are left until one fails
my $malloc = Test::Rbgv::Preload->new($t, 'malloc', 'RBGV_MALLOC');

my %key = map { $_ => $t->create_key(name => "$_-prod") }
          qw(good disabled full);

$t->rbgvctl('disable', $key{disabled}{id});
$key{unknown} = { key => make_key() };

my $nginx = $t->nginx;

$nginx->write_conf(<<"EOC");
%%TEST_GLOBALS%%
worker_processes 1;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth_lease off;
    rbgv_auth_redis_timeout 9s;
    rbgv_auth_redis_connect_timeout 9s;
    rbgv_auth_limit_unavailable deny;
    connection_pool_size 256;
    request_pool_size 256;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth on;
        rbgv_auth_limit default 1000000r/1m;
        location / { empty_gif; }
        location /lease {
            rbgv_auth_lease auto;
            rbgv_auth_limit lease 1000000r/1m;
            empty_gif;
        }
        location /one { rbgv_auth_limit one 1r/1d; empty_gif; }
        location /job { rbgv_auth_job \$arg_id; empty_gif; }
        location /new { rbgv_auth_job_record \$request_id;
                        rbgv_auth_events on; empty_gif; }
        location /usage/ { rbgv_auth_usage; }
        location /metrics { rbgv_auth_metrics; }
        location /local { rbgv_auth_limit_unavailable local; empty_gif; }
    }
}
EOC

$malloc->around(sub { $nginx->start });

my ($worker) = $nginx->workers;


sub ask {
    my ($uri, $name) = @_;

    return eval { $t->get($uri, key => $key{$name}{key}) };
}

# with as many members as without a fault, if it is of JSON
sub shape {
    my ($response) = @_;

    return 'none' if !$response;
    return $response->{status}
        if ($response->{headers}{'content-type'}[0] // '') !~ /json/
           || $response->{status} != 200;
    return '200 ' . (() = $response->{body} =~ /":/g);
}

# no location with a lease has this limit: Redis is asked
sub recovers { wait_for(sub { shape(ask('/', 'good')) eq '200' }, 'recovery') }

# the record is read again
sub changed {
    my ($name) = @_;

    $t->redis(HSET => "rbgv:key:{$key{$name}{id}}", note => rand);
}

# all connections are made again; the worker has seen it
sub disconnected { $t->redis('CLIENT', 'KILL', 'TYPE', 'normal') }

sub flushed { $t->redis('SCRIPT', 'FLUSH') }


recovers();
is(ask('/one', 'full')->{status}, 200, 'a key that has one');
$t->redis(SET => 'rbgv:job:foreign', $key{full}{id});
$t->redis(SET => 'rbgv:job:own', $key{good}{id});

# name, location, key, what it is without a fault, what happens before
my @requests = (
    [ 'a known key',        '/',               'good',     200 ],
    [ 'a record to read',   '/',               'good',     200,
      sub { changed('good') } ],
    [ 'no connection',      '/',               'good',     200,
      \&disconnected ],
    [ 'no script',          '/',               'good',     200, \&flushed ],
    [ 'a lease',            '/lease',          'good',     200 ],
    [ 'local limits',       '/local',          'good',     200 ],
    [ 'a disabled key',     '/',               'disabled', 401,
      sub { changed('disabled') } ],
    [ 'an unknown key',     '/',               'unknown',  401 ],
    [ 'a full window',      '/one',            'full',     429 ],
    [ 'a job',              '/job?id=own',     'good',     200 ],
    [ "another's job",      '/job?id=foreign', 'good',     404 ],
    [ 'a new job',          '/new',            'good',     200 ],
    [ 'usage',              '/usage/summary',  'good',     200 ],
    [ 'events',             '/usage/events',   'good',     200 ],
    [ 'metrics',            '/metrics',        'good',     200 ],
);

for (@requests) {
    my ($name, $uri, $key, $status, $before) = @$_;
    my ($n, %seen) = (0);

    recovers();

    my $expected = ask($uri, $key);
    is($expected->{status}, $status, "$name: without a fault");

    while (1) {
        recovers();
        $before->() if $before;

        $malloc->set(++$n);
        my $is   = shape(ask($uri, $key));
        my $left = $malloc->get;
        $malloc->set(0);

        last if $left;
        $seen{$is}++;
    }

    note "$name: ", $n - 1, ' allocations: ',
         join ', ', map { "$_: $seen{$_}" } sort keys %seen;

    # the connection is closed if there is no memory for an answer
    delete @seen{ shape($expected), qw(500 503 none) };
    is_deeply(\%seen, {}, "fault 33: $name: nothing else");
    cmp_ok($n, '>', 4, "fault 33: $name: some have failed");
    recovers();
    ok(wait_for(sub { shape(ask($uri, $key)) eq shape($expected) },
                'recovery'), "fault 33: $name: as before");
}

is(($nginx->workers)[0], $worker, 'fault 33: the same worker');

$t->done;
