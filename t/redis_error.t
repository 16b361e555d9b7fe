# Redis answers with an error: out of memory, read-only, a login that is not
# allowed to.  503 with a line in the log, never a 200 or 401, until mended.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;

my $t = Test::Rbgv->new;
$t->allow_alert(qr/refused "[A-Z]+": /,
                qr/"[A-Z]+" was refused: /);

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


# writes are paused: records are read, and counts wait for their deadline

my $paused = $t->nginx('paused');

$paused->write_conf(<<'EOC')->start;
%%TEST_GLOBALS%%
worker_processes 1;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth_limit default 1000000r/1m;
    rbgv_auth_redis_timeout 1s;
    add_header X-Source $rbgv_auth_source always;
    add_header X-Time $rbgv_auth_time always;

    server {
        listen 127.0.0.1:%%PORT_1%%;
        rbgv_auth on;
        location / { empty_gif; }
        location /deny { rbgv_auth_limit_unavailable deny; empty_gif; }
    }
}
EOC

my $fresh    = $t->create_key;
my $disabled = $t->create_key;

$t->rbgvctl('disable', $disabled->{id});

sub ask_paused {
    my ($key, $uri) = @_;

    my $r = $t->get($uri // '/', port => 1, key => $key->{key});
    return ("$r->{status} " . ($r->{headers}{'x-source'}[0] // ''),
            $r->{headers}{'x-time'}[0]);
}

sub counted { (ask_paused($key))[0] eq '200 redis' }

# its record is in the zone
wait_for(sub {
    my $before = $t->redis_server->calls('hgetall');
    counted() && $t->redis_server->calls('hgetall') == $before;
}, 'a record');
$t->redis('CLIENT', 'PAUSE', 60_000, 'WRITE');

# what is read and refused does not wait
like((ask_paused($disabled))[0], qr/^401/, 'fault 20: a record is read');

# another one is read, and then its count waits
my ($is, $waited) = ask_paused($fresh);
is($is, '200 local', 'fault 20: a good one is counted on this host');
cmp_ok($waited, '>=', 0.9, 'fault 20: not before the deadline');
cmp_ok($waited, '<', 10, 'fault 20: and no later');

is((ask_paused($key))[0], '200 local', 'fault 20: a record of the zone');
like((ask_paused($key, '/deny'))[0], qr/^503/,
     'fault 20: nobody passes uncounted where that is denied');
is($t->get('/', key => $key->{key})->{status}, 503,
   'fault 20: nor without a zone');

$t->redis('CLIENT', 'UNPAUSE');
mended('fault 20: writes are paused');
ok(wait_for(\&counted, 'recovery'), 'fault 20: counted by Redis again');
$paused->stop;


# the login

for my $command (qw(hgetall evalsha hset time)) {
    gateway("-$command");
    broken("fault 21: not allowed: $command",
           qr/"(?:NOPERM |ERR (?:The user executing the script can't|ACL failure in script))/);
    gateway("+$command");
    mended("fault 21: not allowed: $command");
}

for my $command ('client|setname', 'script|load') {
    gateway("-$command");
    reconnect();
    broken("fault 21: not allowed: $command", qr/"NOPERM /);
    gateway("+$command");
    mended("fault 21: not allowed: $command");
}

my ($user) = grep { /^user rbgv-gateway / } $t->redis('ACL', 'LIST');
my (undef, undef, @rules) = split / /, $user;

gateway('resetpass', '>another');
is($t->get('/', key => $key->{key})->{status}, 200,
   'fault 21: another password: a connection goes on');
reconnect();
broken('fault 21: another password', qr/"AUTH" was refused: "WRONGPASS /);
gateway('reset', @rules);
mended('fault 21: another password');

gateway('off');
reconnect();
broken('fault 21: switched off', qr/"AUTH" was refused: "WRONGPASS /);
gateway('on');
mended('fault 21: switched off');

$t->redis('ACL', 'DELUSER', 'rbgv-gateway');
broken('fault 21: deleted', qr/"AUTH" was refused: "WRONGPASS /);
gateway(@rules);
mended('fault 21: deleted');

mended('no password', '/nobody');
$t->redis('ACL', 'SETUSER', 'default', 'resetpass', '>secret');
reconnect();
broken('fault 21: no password', qr/was refused: "NOAUTH /, '/nobody');
$t->redis('ACL', 'SETUSER', 'default', 'nopass');
mended('fault 21: no password', '/nobody');

unlike($t->read_log('error.log'), qr/secret|>another/, 'no password is logged');

$t->done;
