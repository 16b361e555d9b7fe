# Redis refused, frozen, killed, empty, loading or busy: 503 and never 401, at
# the deadline at the latest, and good again without any help.

use strict;
use warnings;

use IO::Select;
use IO::Socket::UNIX;
use Test::More;
use Time::HiRes qw(time);

use Test::Rbgv;
use Test::Rbgv::Load;

my $t = Test::Rbgv->new;
$t->allow_alert(qr/connect\(\) to unix:\S+ failed \(2:/,
                qr/is empty or foreign/);
$t->allow_refused(qw(BUSY LOADING));

$t->start_redis;
my $key = $t->create_key->{key};

$t->write_conf(<<'EOC');
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
        rbgv_auth_limit default 1000000r/1m;
        rbgv_auth_limit_unavailable deny;
        rbgv_auth_redis_timeout 200ms;

        location / { empty_gif; }
        location /slow { rbgv_auth_redis_timeout 1500ms; empty_gif; }
        location /open { rbgv_auth off; empty_gif; }
    }
}
EOC

my $redis  = $t->redis_server;
my $socket = $redis->socket;


sub good { return $t->get('/', key => $key)->{status} == 200 }

sub recovers {
    my ($name) = @_;

    ok(wait_for(\&good, 'recovery'), "$name: good again");
}

sub unavailable {
    my ($name, $response) = @_;

    refused($response // $t->get('/', key => $key), 503, 'auth_unavailable',
            $name);
}

# all that was logged since the last call
my $logged = 0;

sub logged {
    my $log = substr $t->read_log('error.log'), $logged;
    $logged += length $log;
    return $log;
}

# the answer is not waited for
sub command {
    my ($text) = @_;

    my $connection = IO::Socket::UNIX->new(Peer => $socket) or die $!;
    syswrite $connection, "$text\r\n";
    return $connection;
}


# refused

$redis->stop;
$t->start_nginx;

my $response = $t->get('/', key => $key);
unavailable('fault 1: refused', $response);
like($response->{headers}{'retry-after'}[0], qr/^[1-5]$/,
     'fault 1: when to try again');
unavailable('fault 1: refused again');
like(logged(), qr/connect\(\) to \S+ failed .* while connecting to redis/,
     'fault 1: logged');

$redis->start;
recovers('fault 1: refused');


# frozen

is($t->get('/slow', key => $key)->{status}, 200, 'a connection to wait on');
$redis->freeze;

my $start   = time;
my $waiting = $t->connect->send(Test::Rbgv::request_text('GET', '/slow',
                                                         key => $key));

is($t->get('/open')->{status}, 200, 'fault 3: others are served meanwhile');
ok(!IO::Select->new($waiting->socket)->can_read(0), 'fault 3: while one waits');

unavailable('fault 3: frozen', $waiting->response);
cmp_ok(time - $start, '>=', 1.5, 'fault 3: not before the deadline');
like(logged(),
     qr/no reply in time, 1 commands unanswered .* (?<!channel of )redis "/,
     'fault 3: logged');

# see breaker.t
is(scalar(grep { good() } 1 .. 20), 0, 'fault 3: frozen still');

$redis->thaw;
recovers('fault 3: frozen');


# restarted, with its data and without

$redis->kill;
unavailable('fault 12: killed');
$redis->start;
recovers('fault 12: killed');

my $loaded = $t->redis('INFO', 'commandstats')->{'cmdstat_script|load'};
like($loaded, qr/calls=1,/, 'fault 11: the script is loaded once');
is($t->redis('INFO', 'errorstats')->{errorstat_NOSCRIPT}, undef,
   'fault 11: before it is asked for');

my $data = $t->dir . '/redis-main';

$redis->stop;
rename "$data/appendonlydir", "$data/kept" or die $!;
$redis->start;
is($t->redis('DBSIZE'), 0, 'fault 13: restarted without data');

my %status;
wait_for(sub {
    $status{ $t->get('/', key => $key)->{status} }++;
    logged() =~ /the store \S+ is empty or foreign/;
}, 'an answer from it');
is_deeply([ keys %status ], [ 503 ],
          'fault 13: restarted without data: never 401');

$redis->stop;
unlink glob "$data/appendonlydir/*";
rmdir "$data/appendonlydir" or die $!;
rename "$data/kept", "$data/appendonlydir" or die $!;
$redis->start;
recovers('fault 13: data are back');

$t->redis('FLUSHALL');
unavailable('fault 13: flushed');
is(($t->rbgvctl('--redis', $redis->uri, 'init'))[0], 0, 'init');
refused($t->get('/', key => $key), 401, 'invalid_api_key',
        'initialized, and the key is unknown');
$key = $t->create_key->{key};
ok(good(), 'a new key');


# the cache of scripts is lost, again and again

my ($n, $flushes) = (2000, 0);
my $loads = $redis->calls('script|load');
my $count = Test::Rbgv::Load->new(
    ports       => [ $t->port(0) ],
    connections => 8,
    request     => Test::Rbgv::request_text('GET', '/', key => $key),
)->run(sub {
    $t->redis('SCRIPT', 'FLUSH'), $flushes++ if $n % 100 == 0;
    return $n-- > 0;
});

is_deeply($count, { 200 => 2000, failed => 0, retried => 0 },
          'fault 11: SCRIPT FLUSH is not noticed');
cmp_ok($redis->calls('script|load') - $loads, '<=', 8 * $flushes,
       'fault 11: loaded by what was under way only');


# loading: some seconds of it, in which Redis answers that it is

$t->redis('DEBUG', 'POPULATE', 4000);
$t->redis('CONFIG', 'SET', 'key-load-delay', 500,
          'loading-process-events-interval-bytes', 1024);
logged();

my $reload = command('DEBUG RELOAD');
wait_for(sub { good(); logged() =~ /"LOADING / }, 'LOADING');
unavailable('fault 10: loading');
like(readline $reload, qr/^\+OK/, 'fault 10: loaded');
recovers('fault 10: loading');


# a script that does not end

$t->redis('CONFIG', 'SET', 'busy-reply-threshold', 10);
my $busy = command(q{EVAL "while true do end" 0});
wait_for(sub { good(); logged() =~ /"BUSY / }, 'BUSY');
unavailable('fault 19: busy');
$t->redis('SCRIPT', 'KILL');
like(readline $busy, qr/^-ERR .*killed/i, 'killed');
recovers('fault 19: busy');

$t->done;
