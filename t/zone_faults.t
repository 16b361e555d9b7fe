# What happens to the shared zone when replies are late, workers are replaced
# or killed, the zone is changed, and the login may not track keys.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;
use Test::Rbgv::Load;
use Test::Rbgv::Proxy;
use Test::Rbgv::Usage qw(usage);

my $t = Test::Rbgv->new;

$t->start_redis;
$t->allow_alert(qr/exited on signal 9|was locked by/,
                qr/refused "CLIENT TRACKING": "NOPERM /);

my $proxy = Test::Rbgv::Proxy->new(listen => $t->dir . '/proxy.sock',
                                   to => $t->redis_server->socket);


sub conf {
    my ($port, $workers, $zone, $redis) = @_;

    return <<"EOC";
%%TEST_GLOBALS%%
worker_processes $workers;
error_log error.log notice;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth_zone $zone;
    rbgv_auth_redis_timeout 9s;
    rbgv_auth_log_level info;
    rbgv_auth_lease auto;
    keepalive_requests 1000000;
    add_header X-Source \$rbgv_auth_source always;

    server {
        listen 127.0.0.1:%%PORT_$port%%;
        $redis
        rbgv_auth on;
        rbgv_auth_limit default 1000000r/1m;
        location / { empty_gif; }
    }
}
EOC
}


# how often a key has passed, and how often nobody knows
my (%passed, %cut);

sub ask {
    my ($port, $key) = @_;

    my $r = $t->get('/', port => $port, key => $key->{key});
    $passed{ $key->{id} }++ if $r->{status} == 200;
    return "$r->{status} " . ($r->{headers}{'x-source'}[0] // '');
}


sub leased {
    my ($port, $key) = @_;

    wait_for(sub { ask($port, $key) eq '200 lease' }, 'a lease');
}


sub reads {
    my ($n) = ($t->redis('INFO', 'commandstats')->{cmdstat_hgetall} // '')
        =~ /^calls=(\d+)/;
    return $n // 0;
}


# told with a lease's end; an answer that was cut off may have been charged
sub calls_are_passed {
    my ($key, $name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $passed = $passed{ $key->{id} };
    my $calls;

    eval { wait_for(sub { ($calls = usage($t, $key->{id})->{calls})
                          >= $passed }, 'usage', 12) };
    cmp_ok($calls, '>=', $passed, $name);
    cmp_ok($calls, '<=', $passed + ($cut{ $key->{id} } // 0), 'and once each');
}


# a read that was sent before a change is answered after it

my $key = $t->create_key;

$t->nginx('late')->write_conf(
    conf(0, 1, '1m', 'rbgv_auth_redis unix://rbgv-gateway@%%DIR%%/proxy.sock;'
         . 'rbgv_auth_redis_password_file '
         . $t->redis_server->password_file('rbgv-gateway') . ';')
)->start;

for my $trial (1 .. 5) {
    my $late = $t->create_key;
    leased(0, $key);

    my $before = $proxy->stats->{messages};
    $proxy->rule(on => 'HGETALL', hold => 1);

    my $request = Test::Rbgv::request_text('GET', '/', key => $late->{key});
    my $first   = $t->connect->send($request);
    wait_for(sub { $proxy->stats->{held} == 1 }, 'the read');

    $t->rbgvctl('disable', $late->{id});
    wait_for(sub { $proxy->stats->{messages} > $before }, 'the message');
    # and the worker has seen it
    ask(0, $key) for 1 .. 3;
    my $second = $t->connect->send($request);
    # so that it waits as well
    wait_for(sub { ask(0, $key) =~ /^200/ }, 'a lease');

    $proxy->rule;
    like($first->response->{status}, qr/^(?:200|401|503)$/,
         'fault 26: the read is used');
    isnt($second->response->{status}, 200,
         'fault 26: but not for who has asked after the change');
    like(ask(0, $late), qr/^401/, 'fault 26: and is not kept');
}


# reload under load

my $nginx = $t->nginx('main');
$nginx->write_conf(conf(1, 2, '16m', ''))->start;


# load with something that happens each 2000 requests
sub load {
    my ($key, $n, $event) = @_;

    leased(1, $key);
    my $asked = 0;
    my %source;

    my $count = Test::Rbgv::Load->new(
        ports       => [ $t->port(1) ],
        connections => 16,
        request     => Test::Rbgv::request_text('GET', '/',
                                                key => $key->{key}),
        seen        => sub { $source{$1}++ if $_[4] =~ /^X-Source: (\w+)/m },
    )->run(sub {
        $event->() if ++$asked % 2000 == 0 && $asked <= $n - 2000;
        return $asked < $n;
    });

    $passed{ $key->{id} } += $count->{200};
    $cut{ $key->{id} } += $count->{retried} + $count->{failed};
    note join ', ', map { "$_: $count->{$_}" } sort keys %$count;
    note join ', ', map { "$_: $source{$_}" } sort keys %source;

    return ($count, \%source);
}

# a new worker that had no time yet to listen for changes asks Redis, so that
# on a busy machine it takes some rounds to see one without
my ($count, $source, $read);

for my $round (1 .. 8) {
    leased(1, $key);
    $read = -reads();
    ($count, $source) = load($key, 12_000,
                             sub { $nginx->process->signal('HUP') });
    $read += reads();
    last if $read == 0;
}

is($read, 0, 'fault 29: reload under load: nothing is read again');
is($count->{failed}, 0, 'fault 29: reload under load: no request fails');
is_deeply([ sort keys %$count ], [ 200, 'failed', 'retried' ], 'all pass');
cmp_ok($source->{lease}, '>', 0.95 * $count->{200}, 'leases go on');

my $fresh = $t->create_key;
$count = (load($fresh, 8000, sub {
    my $size = ++$t->{resized} % 2 ? '2m' : '16m';
    $nginx->write_conf(conf(1, 2, $size, ''));
    $nginx->process->signal('HUP');
}))[0];

is($count->{failed}, 0, 'fault 29: another zone size: no request fails');
is_deeply([ sort keys %$count ], [ 200, 'failed', 'retried' ], 'all pass');


calls_are_passed($key, 'fault 29: reload under load: all uses are counted');
calls_are_passed($fresh, 'another zone size: all uses are counted');


# workers are killed under load

my $bad = $t->create_key;
$t->rbgvctl('disable', $bad->{id});
like(ask(1, $bad), qr/^401/, 'a disabled key');

my %wrong;
($count) = load($key, 20_000, sub {
    my @workers = $nginx->workers;
    kill 'KILL', $workers[rand @workers] if @workers;
    my $is = eval { ask(1, $bad) } // 'none';
    $wrong{$is}++ if $is !~ /^401|^none/;
});

is_deeply([ grep { !/^(?:200|failed|retried)$/ } keys %$count ], [],
          'fault 30: killed under load: all others pass');
is_deeply(\%wrong, {}, 'fault 30: and the disabled key does not');
cmp_ok($count->{failed} + $count->{retried}, '<=', 16 * 10,
       'fault 30: requests in the killed ones are lost');
leased(1, $key);
ok($nginx->process->alive, 'and it goes on');


# a login that may not track

$t->redis(ACL => 'SETUSER', 'rbgv-gateway', '-client|tracking');
my $acl = $t->nginx('acl');
$acl->write_conf(conf(2, 2, '1m', ''))->start;

my %seen;
wait_for(sub {
    $seen{ ask(2, $key) }++;
    $acl->read_log('error.log') =~ /\[crit\].*"CLIENT TRACKING".*NOPERM/;
}, 'the message');
$seen{ ask(2, $key) }++ for 1 .. 50;

is_deeply([ sort keys %seen ], [ '200 redis' ],
          'without tracking: passes by asking Redis');
like(ask(2, $bad), qr/^401/, 'and refuses');
$t->rbgvctl('disable', $key->{id});
is(ask(2, $key), '401 redis', 'at once');
$t->rbgvctl('enable', $key->{id});

$t->redis(ACL => 'SETUSER', 'rbgv-gateway', '+client|tracking');
ok(leased(2, $key), 'leases when it may track');

$t->done;
