# Clocks that are set while requests come: that of Redis, which counts, and that
# of nginx.  No key has much more than its quota, nobody is locked out for much
# longer than a window, and what waits in nginx waits as long as it should.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep time);

use Test::Rbgv;
use Test::Rbgv::Load;
use Test::Rbgv::Preload;
use Test::Rbgv::Proxy;

use constant {
    QUOTA  => 64,
    WINDOW => 1,
    DAY    => 86_400,
};

my $t = Test::Rbgv->new;

# the difference of the wall clock to the real one, in seconds
my $clock = Test::Rbgv::Preload->new($t, 'clock', 'RBGV_CLOCK');

$clock->around(sub { $t->start_redis(acl => 0, init => 0) });
$t->rbgvctl('init');

my %key = map { $_ => $t->create_key(name => "$_-prod") }
          qw(off lease good ends);
my $proxy = Test::Rbgv::Proxy->new(listen => $t->dir . '/proxy.sock',
                                   to => $t->redis_server->socket);

my $limit = QUOTA . 'r/' . WINDOW . 's';

my %locations = (
    redis => "rbgv_auth_limit default $limit;
              location /off { rbgv_auth_lease off; empty_gif; }
              location /lease { rbgv_auth_lease 8; empty_gif; }",
    nginx => 'rbgv_auth_limit default 1000000r/1h;
              location / { empty_gif; }
              location /held {
                  rbgv_auth_redis unix:%%DIR%%/proxy.sock;
                  rbgv_auth_redis_timeout 1s;
                  rbgv_auth_lease off;
                  empty_gif;
              }',
);

for my $name (qw(redis nginx)) {
    $t->nginx($name)->write_conf(<<"EOC");
%%TEST_GLOBALS%%
worker_processes 1;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth_lease auto;
    rbgv_auth_redis_timeout 5s;
    rbgv_auth_limit_unavailable deny;
    rbgv_auth_log_level info;
    keepalive_requests 10000000;
    add_header X-Source \$rbgv_auth_source always;
    add_header X-Time \$rbgv_auth_time always;
    server {
        listen 127.0.0.1:%%PORT_$name%%;
        rbgv_auth on;
        $locations{$name}
    }
}
EOC
}


sub ask {
    my ($port, $uri, $name) = @_;

    return $t->get($uri, port => $port, key => $key{$name}{key});
}

sub source_of {
    my ($name) = @_;

    return ask('nginx', '/', $name)->{headers}{'x-source'}[0];
}


# that of Redis

$t->nginx('redis')->start;

my @uris = qw(off lease);
my %stop;

for my $uri (@uris) {
    wait_for(sub { ask('redis', "/$uri", $uri)->{status} == 200 }, 'a start');

    $stop{$uri} = Test::Rbgv::Load->new(
        ports       => [ $t->port('redis') ],
        connections => 2,
        pauses      => 0.005,
        request     => Test::Rbgv::request_text('GET', "/$uri",
                                                key => $key{$uri}{key}),
    )->start($t->dir . "/answers-$uri");
}

for my $seconds (DAY, 0) {
    # a window is used up by then
    sleep 1.5 * WINDOW;

    $clock->set($seconds);

    my ($now) = map { ref $_ ? $_->[0] : $_ } $t->redis('TIME');
    cmp_ok(abs($now - time - $seconds), '<', 60,
           "the clock of Redis is set by $seconds s");

    for my $uri (@uris) {
        ok(wait_for(sub { ask('redis', "/$uri", $uri)->{status} == 200 },
                    'somebody to pass'),
           "fault 34: $uri: nobody is locked out, $seconds s");
    }
}

sleep 1.5 * WINDOW;

for my $uri (@uris) {
    my @answers = @{ $stop{$uri}->() };
    my %status;

    $status{ $_->[1] }++ for @answers;
    is_deeply([ sort keys %status ], [ 200, 429 ],
              "fault 34: $uri: nothing but 200 and 429");

    # what was used before the clock was set forward has left the window
    my @passed = grep { $_->[1] eq '200' } @answers;
    cmp_ok(Test::Rbgv::Load::most(WINDOW, map { [ @$_[2, 3] ] } @passed), '<=',
           2 * QUOTA, "fault 34: $uri: no burst");
}

$t->nginx('redis')->stop;


# that of nginx

$clock->around(sub { $t->nginx('nginx')->start });

$t->rbgvctl('set', $key{ends}{id}, '--expires', '1h');

for my $seconds (DAY, -1 * DAY) {
    my $name = "fault 35: set by $seconds s";
    my ($others, $tries) = (1, 0);

    # on a busy machine the channel may be late, and Redis is asked
    while ($others && $tries++ < 8) {
        $clock->set(0);
        wait_for(sub { source_of('good') eq 'lease' }, 'a lease');
        $clock->set($seconds);
        $others = grep { source_of('good') ne 'lease' } 1 .. 50;
    }

    is($others, 0, "$name: leases go on");
    is(ask('nginx', '/', 'ends')->{status}, $seconds > 0 ? 401 : 200,
       "$name: a key ends by it");

    # and while one waits
    $clock->set(0);
    wait_for(sub { ask('nginx', '/held', 'good')->{status} == 200 },
             'the proxy');
    $proxy->rule(on => 'EVALSHA', hold => 1);

    my $held = $t->connect(port => 'nginx')->send(
        Test::Rbgv::request_text('GET', '/held', key => $key{good}{key}));
    wait_for(sub { $proxy->stats->{held} }, 'one that waits');
    $clock->set($seconds);

    my $response = $held->response;
    refused($response, 503, 'auth_unavailable', "$name: the deadline");
    cmp_ok($response->{headers}{'x-time'}[0], '>=', 0.9,
           "$name: not before it");
    cmp_ok($response->{headers}{'x-time'}[0], '<', 10, "$name: nor much later");

    $proxy->rule;
}

$t->done;
