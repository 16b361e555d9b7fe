# Redis answers with an error: out of memory, read-only, a login that is not
# allowed to.  503 with a line in the log, never a 200 or 401, until mended.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;

my $t = Test::Rbgv->new;

$t->start_redis(config => ['enable-protected-configs yes',
                          'save 86400 1000000']);
my $key = $t->create_key;

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
worker_processes 1;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    rbgv_auth_zone off;
    rbgv_auth_pepper_file %%DIR%%/pepper;
    rbgv_auth_limit default 1000000r/1m;
    rbgv_auth_limit_unavailable deny;
    rbgv_auth_redis_timeout 500ms;

    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth on;

        location / {
            %%REDIS_main%%
            rbgv_auth_lease off;
            empty_gif;
        }

        location /local {
            %%REDIS_main%%
            rbgv_auth_lease off;
            rbgv_auth_limit_unavailable local;
            add_header X-Source $rbgv_auth_source always;
            empty_gif;
        }

        location /nobody {
            rbgv_auth_redis unix:%%DIR%%/redis-main/redis.sock;
            empty_gif;
        }
    }
}
EOC

my $logged = 0;


sub config { $t->redis('CONFIG', 'SET', @_) }

sub gateway { $t->redis('ACL', 'SETUSER', 'rbgv-gateway', @_) }

sub reconnect { $t->redis('CLIENT', 'KILL', 'TYPE', 'normal') }


# two assertions: it is unavailable and the log says why.  A connection that
# Redis is about to close may take the first request: it is lost with another
# line.
sub broken {
    my ($name, $why, $uri) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $answer;
    ok(wait_for(sub {
        $answer = $t->get($uri // '/', key => $key->{key});
        $answer->{status} != 503
            || substr($t->read_log('error.log'), $logged)
               =~ /\[crit\].*$why/;
    }, 'the log'), "$name: logged");

    refused($answer, 503, 'auth_unavailable', $name);
}


# what it does not count is counted here, if that is the policy
sub passes_locally {
    my ($name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $r = $t->get('/local', key => $key->{key});
    is("$r->{status} $r->{headers}{'x-source'}[0]", '200 local', $name);
}


sub mended {
    my ($name, $uri) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my %status;
    wait_for(sub {
        my $status = $t->get($uri // '/', key => $key->{key})->{status};
        $status{$status}++;
        $status == 200;
    }, 'recovery');

    is(join(' ', grep { !/^(?:200|503)$/ } keys %status), '',
       "$name: mended");
    $logged = length $t->read_log('error.log');
}


mended('nothing');

config(maxmemory => 1);
broken('fault 18: out of memory', qr/"OOM /);
passes_locally('fault 18: out of memory, locally');
config(maxmemory => 0);
mended('fault 18: out of memory');

mkdir $t->dir . '/gone' or die $!;
config(dir => $t->dir . '/gone');
rmdir $t->dir . '/gone' or die $!;
$t->redis('BGSAVE');
wait_for(sub {
    $t->redis('INFO', 'persistence')->{rdb_last_bgsave_status} eq 'err';
}, 'a save that fails');
broken('fault 18: cannot save', qr/"MISCONF /);
passes_locally('fault 18: cannot save, locally');
config(dir => $t->dir . '/redis-main');
$t->redis('BGSAVE');
mended('fault 18: cannot save');

config('min-replicas-to-write' => 1);
broken('fault 18: no replicas', qr/"NOREPLICAS /);
passes_locally('fault 18: no replicas, locally');
config('min-replicas-to-write' => 0);
mended('fault 18: no replicas');

$t->redis('REPLICAOF', '127.0.0.1', $t->port('nobody'));
broken('fault 14: a replica', qr/"READONLY /);
config('replica-serve-stale-data' => 'no');
broken('fault 14: a replica without its master', qr/"MASTERDOWN /);
$t->redis('REPLICAOF', 'NO', 'ONE');
mended('fault 14: a replica');

$t->redis('CLIENT', 'PAUSE', 1000, 'WRITE');
is($t->get('/', key => $key->{key})->{status}, 503, 'writes are paused');
mended('writes are paused');


# the login

for my $command (qw(hgetall evalsha hset time)) {
    gateway("-$command");
    broken("not allowed: $command",
           qr/"(?:NOPERM |ERR (?:The user executing the script can't|ACL failure in script))/);
    gateway("+$command");
    mended("not allowed: $command");
}

for my $command ('client|setname', 'script|load') {
    gateway("-$command");
    reconnect();
    broken("not allowed: $command", qr/"NOPERM /);
    gateway("+$command");
    mended("not allowed: $command");
}

my ($user) = grep { /^user rbgv-gateway / } $t->redis('ACL', 'LIST');
my (undef, undef, @rules) = split / /, $user;

gateway('resetpass', '>another');
reconnect();
broken('another password', qr/"AUTH" was refused: "WRONGPASS /);
gateway('reset', @rules);
mended('another password');

gateway('off');
reconnect();
broken('switched off', qr/"AUTH" was refused: "WRONGPASS /);
gateway('on');
mended('switched off');

$t->redis('ACL', 'DELUSER', 'rbgv-gateway');
broken('deleted', qr/"AUTH" was refused: "WRONGPASS /);
gateway(@rules);
mended('deleted');

mended('no password', '/nobody');
$t->redis('ACL', 'SETUSER', 'default', 'resetpass', '>secret');
reconnect();
broken('no password', qr/was refused: "NOAUTH /, '/nobody');
$t->redis('ACL', 'SETUSER', 'default', 'nopass');
mended('no password', '/nobody');

unlike($t->read_log('error.log'), qr/secret|>another/, 'no password is logged');

$t->done;
