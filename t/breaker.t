# The breaker: a Redis that is frozen, away, or does not let anybody connect
# costs one deadline of one request, and then nobody waits.  It is probed, and
# in use again as soon as it answers, whether somebody asks or not.

use strict;
use warnings;

use IO::Select;
use Test::More;
use Time::HiRes qw(time);

use Test::Rbgv;
use Test::Rbgv::Proxy;

my $t = Test::Rbgv->new;
$t->allow_alert(qr/connect\(\) to unix:\S+ failed \(2:/);

$t->start_redis(acl => 0);
my $key = $t->create_key;

my $proxy = Test::Rbgv::Proxy->new(listen => $t->dir . '/proxy.sock',
                                   to => $t->redis_server->socket);

my $dark = Test::Rbgv::Proxy->new(listen => $t->port('dark'),
                                  to => $t->redis_server->socket);
$dark->rule(dark => 1);

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
worker_processes 1;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    rbgv_auth_zone off;
    %%REDIS%%

    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth on;
        rbgv_auth_limit_unavailable deny;
        rbgv_auth_redis_timeout 1500ms;
        add_header X-Time $rbgv_auth_time always;

        location / { empty_gif; }
        location /proxy {
            rbgv_auth_redis unix:%%DIR%%/proxy.sock;
            rbgv_auth_redis_timeout 300ms;
            empty_gif;
        }
        location /dark {
            rbgv_auth_redis redis://127.0.0.1:%%PORT_dark%%;
            rbgv_auth_redis_timeout 3s;
            rbgv_auth_redis_connect_timeout 5s;
            empty_gif;
        }
        location /dark/soon {
            rbgv_auth_redis redis://127.0.0.1:%%PORT_dark%%;
            rbgv_auth_redis_timeout 60s;
            rbgv_auth_redis_connect_timeout 300ms;
            empty_gif;
        }
        location = /metrics { rbgv_auth off; rbgv_auth_metrics; }
    }
}
EOC

my $logged = 0;

# lines of the log since the last call; of one store, and not of its channel
sub logged {
    my ($line, $store) = @_;

    return scalar grep { /$line.* redis "\S*$store"/ }
        split /\n/, substr $t->read_log('error.log'), $logged;
}

sub forget { $logged = length $t->read_log('error.log') }

sub good {
    my ($uri) = @_;

    return $t->get($uri // '/', key => $key->{key})->{status} == 200;
}

# n requests one after the other: their status, and how many have waited
sub ask {
    my ($n, $uri, $deadline) = @_;
    my (%status, $waited);

    for (1 .. $n) {
        my $r = $t->get($uri // '/', key => $key->{key});
        $status{ $r->{status} }++;
        $waited += $r->{headers}{'x-time'}[0] >= ($deadline // 1.5) - 0.1;
    }

    return (\%status, $waited);
}

sub calls {
    my ($command) = @_;

    return ($t->redis('INFO', 'commandstats')->{"cmdstat_$command"} // '')
        =~ /^calls=(\d+)/ ? $1 : 0;
}

sub metric {
    my ($name) = @_;

    return $t->get('/metrics')->{body} =~ /^\Q$name\E (\d+)$/m ? $1 : undef;
}

my $labels = sprintf '{store="unix:%s",db="0"}', $t->redis_server->socket;


# frozen

ok(good(), 'good');
is(metric("rbgv_auth_redis_up$labels"), 1, 'up');
is(metric("rbgv_auth_redis_breakers_open$labels"), 0, 'closed');

my %before = map { $_ => calls($_) } qw(hgetall client|setname);
my $since  = time;

$t->redis_freeze;
my ($status, $waited) = ask(200);

is_deeply($status, { 503 => 200 }, 'fault 3: nobody passes');
is($waited, 1, 'fault 3: one of 200 has waited');
is(logged('breaker opened', 'redis.sock'), 1, 'and so it is logged');
is(metric("rbgv_auth_redis_up$labels"), 0, 'not up');
is(metric("rbgv_auth_redis_breakers_open$labels"), 1, 'open');
is(metric('rbgv_auth_redis_errors_total{kind="timeout"}') > 0, 1,
   'a timeout is counted');

# the next one is of the probe
wait_for(sub {
    metric('rbgv_auth_redis_errors_total{kind="timeout"}') > 1
}, 'a probe that fails');
cmp_ok(logged('no reply in time', 'redis.sock'), '<=',
       1 + (time - $since) / 10, 'which is not logged each time');

$t->redis_thaw;
wait_for(sub { logged('breaker closed after \d+ ms', 'redis.sock') },
         'the breaker');
($status, $waited) = ask(20);
is_deeply($status, { 200 => 20 }, 'fault 3: good again without any request');
is(metric("rbgv_auth_redis_up$labels"), 1, 'up again');
is(logged('breaker closed', 'redis.sock'), 1, 'and so it is logged');

cmp_ok(calls('hgetall') - $before{hgetall}, '<=', 21,
       'one command was sent to the frozen one');
cmp_ok(calls('client|setname') - $before{'client|setname'}, '<=',
       8 + (time - $since), 'few logins were');


# stopped: nobody waits at all

forget();
$since = time;
$t->redis_stop;
# the first one finds it out
ask(1);
($status, $waited) = ask(100);
is_deeply($status, { 503 => 100 }, 'fault 1: nobody passes');
is($waited, 0, 'fault 1: nobody waits');
is(logged('breaker opened', 'redis.sock'), 1, 'logged once');
wait_for(sub { metric('rbgv_auth_redis_errors_total{kind="connect"}') > 3 },
         'probes');
cmp_ok(logged('connect\(\) to', 'redis.sock'), '<=',
       2 + (time - $since) / 10, 'which are not logged each time');

$t->redis_start;
wait_for(sub { logged('breaker closed', 'redis.sock') }, 'the breaker');
ok(good(), 'fault 1: good again');


# a connection that is never made

my $waiting = $t->connect->send(Test::Rbgv::request_text(
    'GET', '/dark', key => $key->{key}));
ok(good(), 'fault 2: others are served meanwhile');
ok(!IO::Select->new($waiting->socket)->can_read(0), 'fault 2: while one waits');

my $r = $waiting->response;
is($r->{status}, 503, 'fault 2: unavailable');
cmp_ok($r->{headers}{'x-time'}[0], '>=', 2.9, 'fault 2: at the deadline');

($status, $waited) = ask(100, '/dark');
is_deeply($status, { 503 => 100 }, 'fault 2: nobody passes');
is($waited, 0, 'fault 2: and nobody else waits');

$r = $t->get('/dark/soon', key => $key->{key});
is($r->{status}, 503, 'fault 2: unavailable, without a connection');
cmp_ok($r->{headers}{'x-time'}[0], '<', 60, 'fault 2: before the deadline');

$dark->rule;
ok(wait_for(sub { good('/dark') && good('/dark/soon') }, 'recovery'),
   'fault 2: good again');


# logins are answered, and commands are not: each opening costs one deadline

ok(good('/proxy'), 'by the proxy');
forget();
$proxy->rule(on => 'HGETALL', hold => 1);
my $paid = 0;

wait_for(sub {
    ($status, $waited) = ask(20, '/proxy', 0.3);
    $paid += $waited;
    logged('breaker opened', 'proxy.sock') >= 4;
}, 'the breaker', 20);

is($paid, logged('breaker opened', 'proxy.sock'),
   'fault 3: no commands: each time one has waited');
$proxy->rule;
wait_for(sub { good('/proxy') }, 'recovery');

$t->done;
