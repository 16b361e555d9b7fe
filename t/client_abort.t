# Clients that go away while Redis is asked, in each state that a request waits
# in: their requests are freed, the late replies are nobody's, no connection is
# left.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;
use Test::Rbgv::Http2;
use Test::Rbgv::Proxy;

my $t = Test::Rbgv->new;

$t->start_redis(acl => 0);

# requests of one key share what is asked: each has a key of its own
my @key   = map { $t->create_key(name => "abort$_-prod") } 0 .. 71;
my $proxy = Test::Rbgv::Proxy->new(listen => $t->dir . '/proxy.sock',
                                   to => $t->redis_server->socket);

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
worker_processes 1;
events { worker_connections 1024; }
http {
    %%TEST_GLOBALS_HTTP%%
    rbgv_auth_zone off;
    rbgv_auth_redis unix:%%DIR%%/proxy.sock;
    rbgv_auth_pepper_file %%DIR%%/pepper;
    rbgv_auth_redis_timeout 30s;

    server {
        listen 127.0.0.1:%%PORT_0%%;
        listen 127.0.0.1:%%PORT_1%% http2;
        rbgv_auth on;
        rbgv_auth_limit default 1000000r/1m;
        add_header X-Key $rbgv_auth_key_id always;
        location / { empty_gif; }
        location /short/ { rbgv_auth_redis_timeout 300ms; empty_gif; }
        location /job { rbgv_auth_job $arg_id; empty_gif; }
        location /new { rbgv_auth_job_record $request_id; empty_gif; }
        location /usage/ { rbgv_auth_usage; }
        location = /status { rbgv_auth off; stub_status; }
    }
}
EOC

my ($worker) = $t->nginx->workers;


# the open connections of the worker
sub open_files { return scalar(() = glob "/proc/$worker/fd/*") }


# the requests that are being handled, but for the one that asks
sub handled {
    my ($n) = $t->get('/status')->{body} =~ /Writing: (\d+)/;
    return $n - 1;
}


sub send_as {
    my ($n, $uri) = @_;

    return $t->connect->send(Test::Rbgv::request_text('GET', $uri // '/',
                                                      key => $key[$n]{key}));
}


# what the key of the answer is
sub key_of {
    my ($response) = @_;

    return $response->{status} . ' '
        . ($response->{headers}{'x-key'}[0] // 'none');
}


sub aborted {
    return scalar(() = $t->read_log('access.log') =~ /" 499 /g);
}


# connections to Redis are made, those of clients are closed
for my $uri ('/', '/short/') {
    like($t->http(Test::Rbgv::request_text('GET', $uri, close => 1,
                                           key => $key[0]{key})),
         qr/^HTTP\S+ 200 .*X-Key: $key[0]{id}/s, "before, $uri");
}

my $files = open_files();

$t->redis(SET => "rbgv:job:$_->{id}", $_->{id}) for @key;


# What it waits for, the command that is not answered meanwhile, how many of
# its replies come, and the location.  72 requests wait: three ways to go, and
# some of each kind stay.

my @states = (
    [ 'a login',              'CLIENT',  1,  '/' ],
    [ 'a record',             'HGETALL', 72, '/' ],
    [ "another's read",       'HGETALL', 1,  '/', 'one key' ],
    [ 'a count',              'EVALSHA', 72, '/' ],
    [ 'the owner of a job',   'GET',     72, '/job' ],
    [ 'the record of a job',  'SET',     72, '/new' ],
    [ 'its usage',            'HMGET',   72, '/usage/summary' ],
);

my $gone = 0;

for (@states) {
    my ($state, $command, $replies, $uri, $one) = @$_;
    my @mine = $one ? ($key[0]) x @key : @key;
    my %wrong;

    my $location = sub { $uri eq '/job' ? "/job?id=$_[0]{id}" : $uri };

    for my $round (1 .. 3) {
        # a new one is made
        $proxy->rule(close => 1) if $command eq 'CLIENT';
        $proxy->rule(on => $command, hold => 1);

        my $h2 = Test::Rbgv::Http2->new(port => $t->port(1));

        # the one that reads for others is among those that go
        my @client = map {
            $t->connect->send(Test::Rbgv::request_text(
                'GET', $location->($_), key => $_->{key}))
        } @mine[0 .. 47];

        my @stream = $h2->ask(map { [ $location->($_), $_->{key} ] }
                              @mine[48 .. 71]);

        wait_for(sub { $proxy->stats->{held} >= $replies && handled() == 72 },
                 'all to wait');

        for my $n (grep { $_ % 6 != 5 } 0 .. $#client) {
            $n % 2 ? $client[$n]->abort : $client[$n]->close;
        }

        $h2->reset(@stream[ grep { $_ % 6 != 5 } 0 .. $#stream ]);
        $gone += 60;

        wait_for(sub { aborted() == $gone }, 'requests to be freed');
        is(handled(), 12, "fault 28: $state: freed at once") if $round == 1;

        $proxy->rule;

        for my $n (grep { $_ % 6 == 5 } 0 .. $#client) {
            my $got = key_of($client[$n]->response);
            $wrong{$got}++ if $got ne "200 $mine[$n]{id}";
            $client[$n]->close;
        }

        for my $n (grep { $_ % 6 == 5 } 0 .. $#stream) {
            my $got = $h2->status($stream[$n]);
            $wrong{$got}++ if $got ne '200';
        }

        $h2->close;
    }

    is_deeply(\%wrong, {}, "fault 28: $state: those that stay have their own");
}

cmp_ok($gone, '>=', 1000, "fault 28: $gone have gone");


# the deadline of those that have gone

is(send_as(0, '/short/')->response->{status}, 200, 'a connection to wait on');

my $connections = $proxy->stats->{connections};

$proxy->rule(on => 'HGETALL', hold => 1);

my @client = map { send_as($_, '/short/') } 0 .. 19;
wait_for(sub { $proxy->stats->{held} == @client }, 'replies');
$_->abort for @client;

wait_for(sub {
    $t->read_log('error.log') =~ /no reply in time, 20 commands unanswered/;
}, 'the deadline');
is(aborted(), $gone + 20, 'fault 28: the deadline of those that have gone');
$proxy->rule;
wait_for(sub { send_as(1, '/short/')->response->{status} == 200 },
         'recovery');


# nothing is left

is(key_of(send_as(1)->response), "200 $key[1]{id}", 'works again');
wait_for(sub { open_files() <= $files }, 'connections to be closed');
is(($t->nginx->workers)[0], $worker, 'still the same worker');
is($proxy->stats->{connections}, $connections + 1,
   'one connection was closed');

$t->done;
