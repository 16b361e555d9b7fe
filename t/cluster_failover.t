# A master of a cluster goes away under load, and its replica takes over: once
# killed, and once frozen and thawed when it has been replaced.  A key that was
# disabled meanwhile is not let pass because of what the old master says.
#
# RBGV_LONG=1: ten times each.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep time);

use Test::Rbgv;
use Test::Rbgv::Fleet qw(good_fleet);
use Test::Rbgv::Load;

my $trials = $ENV{RBGV_LONG} ? 10 : 1;
my $bound  = $ENV{RBGV_LONG} ? 1 : 3;

my $t       = Test::Rbgv->new;
$t->allow_refused(qw(CLUSTERDOWN LOADING MASTERDOWN READONLY));
my $cluster = $t->start_cluster(replicas => 1);
my @keys    = good_fleet($t, 30);

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
worker_processes 2;
error_log error.log notice;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    access_log off;
    %%REDIS%%
    rbgv_auth on;
    rbgv_auth_log_level info;
    keepalive_requests 10000000;

    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth_limit p 1000000r/1m;
        location / { empty_gif; }
    }
}
EOC


sub ask { $t->get('/', key => $_[0]{key})->{status} }


sub all_are_good {
    wait_for(sub { !grep { ask($_) != 200 } @keys }, 'all keys');
}


sub start_load {
    return Test::Rbgv::Load->new(
        ports       => [ $t->port(0) ],
        connections => 8,
        rotate      => 1,
        pauses      => 0.005,
        request     => [ map {
            Test::Rbgv::request_text('GET', '/', key => $_->{key})
        } @keys ],
    )->start($t->dir . '/answers');
}


# What was answered from the moment on when the master went away until it was
# replaced, and how long it took then.
sub outage_is {
    my ($what, $answers, $gone, $replaced) = @_;

    my %count;
    my ($first, $last) = (0, 0);

    for (@$answers) {
        my (undef, $status, $sent, $came) = @$_;

        $count{$status}++;

        if ($status eq '503') {
            $first ||= $came;
            $last = $came;
        }
    }

    diag(sprintf '%s: replaced after %.2f s, 503 for %.2f s, until %.0f ms '
                 . 'after that', $what, $replaced - $gone, $last - $first,
                 1000 * ($last - $replaced));

    is_deeply([ grep { !/^(?:200|401|503)$/ } sort keys %count ], [],
              "$what: nothing but 200 and 503");
    cmp_ok($last - $replaced, '<=', $bound,
           "$what: decisions within $bound s of the replacement");
}


sub kill_master {
    my ($key) = @_;

    my $old = $cluster->master("rbgv:key:{$key->{id}}");

    all_are_good();

    my $stop = start_load();
    sleep 0.3;

    my $gone = time;
    $old->kill;
    $cluster->wait_failover($old);
    my $replaced = time;

    all_are_good();

    my $answers = $stop->();

    outage_is('fault 15: killed', $answers, $gone, $replaced);
    is((grep { $_->[1] eq '401' } @$answers), 0,
       'fault 15: no good key refused');

    $old->start;
    $cluster->wait_ok;
}


sub freeze_master {
    my ($key) = @_;

    my $record = "rbgv:key:{$key->{id}}";
    my $old    = $cluster->master($record);

    all_are_good();

    my $stop = start_load();
    sleep 0.3;

    my $gone = time;
    $old->freeze;
    $cluster->wait_failover($old);
    my $replaced = time;

    $cluster->command('HSET', $record, 'status', 'disabled');
    my $disabled = time;

    wait_for(sub { ask($key) == 401 }, 'the key to be refused');

    $old->thaw;
    wait_for(sub { $old->command('INFO', 'replication')->{role} eq 'slave' },
             'the old master to hear of it');
    sleep 1.2;

    my $answers = $stop->();

    outage_is('fault 16: frozen', $answers, $gone, $replaced);

    my @passed = grep { $keys[ $_->[0] ] == $key && $_->[1] eq '200'
                        && $_->[2] > $disabled } @$answers;
    my $last   = @passed ? $passed[-1][3] - $disabled : 0;

    cmp_ok($last, '<=', $bound, 'fault 16: the disabled key is refused');
    is((grep { $keys[ $_->[0] ] != $key && $_->[1] eq '401' } @$answers), 0,
       'fault 16: no good key refused');

    $cluster->wait_ok;
    $cluster->command('HSET', $record, 'status', 'active');
}


for my $trial (0 .. $trials - 1) {
    kill_master($keys[ 2 * $trial % @keys ]);
    freeze_master($keys[ (2 * $trial + 1) % @keys ]);
}

like($t->read_log('error.log'), qr/redis "[\d.:]+" is no master any more/,
     'the log tells');

$t->done;
