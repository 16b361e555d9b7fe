# What a cluster answers instead of doing it: ASK while a slot moves, MOVED
# after that and after a failover, NOSCRIPT, a refusal, and that it is down.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep);

use Test::Rbgv;
use Test::Rbgv::Cluster qw(key_slot);
use Test::Rbgv::Fleet qw(good_fleet);

my $t       = Test::Rbgv->new;
$t->allow_refused('CLUSTERDOWN');
$t->allow_alert(qr/refused "CLUSTER SLOTS": "NOPERM /);
my $cluster = $t->start_cluster(replicas => 1);
my @keys    = good_fleet($t, 20);
my $key     = $keys[0];
my $record  = "rbgv:key:{$key->{id}}";

my $conf = <<'EOC';
%%TEST_GLOBALS%%
worker_processes 1;
error_log error.log notice;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth on;
    rbgv_auth_redis_timeout 5s;
    rbgv_auth_limit_unavailable allow;
    add_header X-Source $rbgv_auth_source always;

    server {
        listen 127.0.0.1:%%PORT_0%%;
        location / { empty_gif; }
    }
    server {
        listen 127.0.0.1:%%PORT_1%%;
        location / { rbgv_auth_metrics; rbgv_auth off; }
    }
}
EOC

$t->write_conf($conf)->start_nginx;


sub ask { $t->get('/', key => ($_[0] // $key)->{key}) }


sub statuses {
    my %status;

    $status{ ask($_)->{status} }++ for @keys;

    return \%status;
}


sub up {
    my ($value) = $t->get('/', port => 1)->{body}
                  =~ /^rbgv_auth_redis_up\{.*\} (\d)/m;
    return $value;
}


is_deeply(statuses(), { 200 => scalar @keys }, 'keys are good');
is(up(), 1, 'the store is up');


# of the two names of the key one has moved, whichever it is

my $slot     = key_slot($record);
my $old      = $cluster->master($record);
my ($new)    = grep { $_ != $old } $cluster->masters;

$cluster->open_slot($slot, $new);

for my $names (0, 1, 2) {
    $cluster->move_keys($slot, $old, $new, 1) if $names;

    my $asked = $new->calls('asking');

    is(ask()->{status}, 200, "fault 23: $names names of the slot have moved");
    is(ask()->{status}, 200, "$names names of the slot have moved, again");

    my $asking = $new->calls('asking') - $asked;
    ok($names ? $asking >= 2 : $asking == 0,
       "fault 23: $names: ASK is followed");
}

$cluster->command('HSET', $record, 'status', 'disabled');
wait_for(sub { ask()->{status} == 401 }, 'an invalidation by the new master');
$cluster->command('HSET', $record, 'status', 'active');
wait_for(sub { ask()->{status} == 200 }, 'and another one');

$cluster->close_slot($slot, $old, $new);
is(ask()->{status}, 200, 'fault 23: the slot has moved');
is($cluster->master($record), $new, 'to the new master');


# the scripts of one master are no other's

$cluster->every('SCRIPT', 'FLUSH');
is_deeply(statuses(), { 200 => scalar @keys }, 'NOSCRIPT is healed');


# workers of another configuration learn of the masters anew

$t->reload;
is_deeply(statuses(), { 200 => scalar @keys }, 'a reload');


# a master that nobody knew

my $joined = $cluster->failover($new);
my $source;

wait_for(sub {
    my $r = ask();
    $r->{status} == 200 && $r->{headers}{'x-source'}[0] eq 'redis';
}, 'the new master to count');

my $log = $t->read_log('error.log');

like($log, qr/redis "127\.0\.0\.1:@{[ $joined->port ]}" is a master now/,
     'the log tells of it');
wait_for(sub {
    $t->read_log('error.log')
        =~ qr/redis "127\.0\.0\.1:@{[ $new->port ]}" is no master any more/;
}, 'the old one to leave');

$cluster->command('HSET', $record, 'status', 'disabled');
wait_for(sub { ask()->{status} == 401 }, 'an invalidation by the one');
$cluster->command('HSET', $record, 'status', 'active');
wait_for(sub { ask()->{status} == 200 }, 'and another one');


# two masters of three: the cluster is down, and says so

my @gone = grep { $_ != $joined } $cluster->masters;

$_->freeze for @gone;
wait_for(sub { $t->read_log('error.log') =~ /the cluster is down/ },
         'the cluster to be down');
refused(ask(), 503, 'auth_unavailable', 'fault 23: the cluster is down');
is(up(), 0, 'the store is not up');

$_->thaw for @gone;
$cluster->wait_ok;
wait_for(sub { !grep { ask($_)->{status} != 200 } @keys }, 'all keys');
wait_for(sub { up() }, 'the store to be up');


# a login that may not ask for the map opens nothing

$t->stop;
$cluster->every('ACL', 'SETUSER', 'rbgv-gateway', '-cluster|slots');
$t->start_nginx;

refused(ask(), 503, 'auth_unavailable', 'no permission');
like($t->read_log('error.log'),
     qr/\[crit\].*refused "CLUSTER SLOTS": "NOPERM/, 'the log says why');

$cluster->every('ACL', 'SETUSER', 'rbgv-gateway', '+cluster|slots');
wait_for(sub { ask()->{status} == 200 }, 'a permission');

$t->done;
