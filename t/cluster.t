# A cluster of three masters, two nginx hosts, and many keys, while slots are
# moved between the masters under load: no key has more than its quota in any
# interval, no good key is refused, and each call is counted once.
#
# RBGV_LONG=1: 10,000 keys, for a minute.

use strict;
use warnings;

use List::Util qw(max min sum0);
use Test::More;
use Time::HiRes qw(time);

use Test::Rbgv;
use Test::Rbgv::Cluster qw(key_slot);
use Test::Rbgv::Fleet qw(good_fleet);
use Test::Rbgv::Load;
use Test::Rbgv::Usage qw(usage);

my $long    = $ENV{RBGV_LONG};
my $count   = $long ? 10_000 : 240;
my $seconds = $long ? 60 : 4;

# the first keys have the location with leases
my $leased = 6;
my %quota  = (off => $long ? [ 5, 30 ] : [ 3, 2 ], auto => [ 300, 2 ]);

my $t       = Test::Rbgv->new;
my $cluster = $t->start_cluster;
my @keys    = good_fleet($t, $count);

$_->{slot} = key_slot("rbgv:key:{$_->{id}}") for @keys;
$_->{kind} = 'off'  for @keys;
$_->{kind} = 'auto' for @keys[0 .. $leased - 1];

my $locations = join "\n", map {
    "location /$_ { rbgv_auth_lease $_; "
    . "rbgv_auth_limit p $quota{$_}[0]r/$quota{$_}[1]s; empty_gif; }"
} sort keys %quota;

for my $host (0, 1) {
    $t->nginx("host$host")->write_conf(<<"EOC")->start;
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
    rbgv_auth_redis_timeout 30s;
    keepalive_requests 10000000;

    server {
        listen 127.0.0.1:%%PORT_$host%%;
        location / { rbgv_auth_lease off; empty_gif; }
        $locations
    }
}
EOC
}


# each key, asked once, by the master that has it

{
    my %status;

    my $before = $cluster->calls('evalsha');
    $status{ $t->get('/', key => $_->{key}, port => 0)->{status} }++ for @keys;

    is_deeply(\%status, { 200 => $count }, 'each key is good');
    is($cluster->calls('evalsha') - $before, $count, 'each is counted once');

    my @calls = map { $_->calls('evalsha') } $cluster->masters;
    note "by master: @calls";

    cmp_ok(min(@calls), '>', 0.6 * $count / @calls, 'masters have even shares');
}


# and under load, while slots move

sub load {
    my ($name, $connections, @load) = @_;

    return Test::Rbgv::Load->new(
        ports       => [ map { $t->port($_) } 0, 1 ],
        connections => $connections,
        rotate      => 1,
        pauses      => 0.002,
        request     => [ map {
            Test::Rbgv::request_text('GET', "/$_->{kind}", key => $_->{key})
        } @load ],
    )->start($t->dir . "/answers-$name");
}

my %keys = (
    auto => [ @keys[0 .. $leased - 1] ],
    off  => [ @keys[$leased .. $#keys] ],
);

my %stop = (
    auto => load('auto', 2 * $leased, @{ $keys{auto} }),
    off  => load('off', 24, @{ $keys{off} }),
);

my @masters = $cluster->masters;
my $end     = time + $seconds;
my $moves   = 0;

# those with leases more often than their number would have it
for (my $i = 0; time < $end; $i++) {
    my $key    = $i % 4 ? $keys[ rand @keys ] : $keys[ rand $leased ];
    my $owner  = $cluster->owners->[ $key->{slot} ];
    my @others = grep { $_ != $owner } @masters;

    $cluster->move_slot($key->{slot}, $others[ rand @others ]);
    $moves++;
}

my $find = $cluster->router;
my %all;

for my $kind (sort keys %quota) {
    my ($quota, $window) = @{ $quota{$kind} };
    my (@times, @failed);

    for (@{ $stop{$kind}->() }) {
        my ($n, $status, $sent, $came) = @$_;

        $all{$status}++;
        push @{ $times[$n] }, [ $sent, $came ] if $status eq '200';
        $failed[$n]++ if $status !~ /^(?:200|429)$/;
    }

    my @most = map { Test::Rbgv::Load::most($window, @{ $_ // [] }) } @times;

    cmp_ok(max(@most), '<=', $quota, "lease $kind: no key above its quota");
    cmp_ok(max(@most), '>', 0, "lease $kind: keys were admitted");

    # what has no answer may have been counted; each was asked once before
    my @off = grep {
        my $id   = $keys{$kind}[$_]{id};
        my $node = $find->("rbgv:use:{$id}");
        my $is   = 1 + @{ $times[$_] // [] };

        !$failed[$_] && !eval {
            wait_for(sub { usage($t, $id, $node)->{calls} == $is },
                     'usage', $kind eq 'auto' ? 20 : 1);
        };
    } 0 .. $#{ $keys{$kind} };

    is_deeply([ map { $keys{$kind}[$_]{id} } @off ], [],
              "lease $kind: each call is counted once");
}

my $answers = sum0 values %all;
my $errors  = sum0 map { $all{$_} } grep { /^5/ } keys %all;

diag("$moves slots moved, " . join ', ', map { "$_: $all{$_}" } sort keys %all);

cmp_ok($moves, '>', $seconds, 'slots were moved');
is_deeply([ grep { !/^(?:200|429|5..)$/ } sort keys %all ], [],
          'nothing but 200 and 429');
cmp_ok($errors, '<=', 0.001 * $answers, 'no more than 0.1 % without a decision');
cmp_ok($all{429} // 0, '>', 0, 'quotas were used up');

$t->done;
