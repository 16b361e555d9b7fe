# Four nginx hosts, each with its own zone, on one Redis, and more demand than
# the quota: with leases as without, no interval of the window's length has
# more admissions than the quota, and leases waste next to none of it.
#
# Both kinds run at the same time, each with a key of its own.  An admission
# is known to lie between the sending of its request and the coming of its
# answer, by the clock of the client.
#
# RBGV_LONG=60: the quotas of a minute, for so many seconds each.
# RBGV_CLUSTER=1: on a Redis Cluster of three masters.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);

use Test::Rbgv;
use Test::Rbgv::Load;
use Test::Rbgv::Usage qw(usage);

my $hosts = 4;
my @kinds = qw(off auto);

# quota and seconds of policies that are tried at the same time
my @rounds = $ENV{RBGV_LONG}
    ? map { [ $_ ] } [ 10, 1 ], [ 600, 60 ], [ 6000, 60 ], [ 100_000, 60 ]
    : [ [ 10, 1 ], [ 300, 5 ], [ 3000, 5 ] ];
my $seconds = $ENV{RBGV_LONG} || 13;

my $t = Test::Rbgv->new;

$ENV{RBGV_CLUSTER} ? $t->start_cluster : $t->start_redis;
$t->allow_alert(qr/exited on signal 9/);

my $locations = join "\n", map {
    my $policy = $_;
    map { "location /$policy->[0]/$policy->[1]/$_ { rbgv_auth_lease $_; "
        . "rbgv_auth_limit p $policy->[0]r/$policy->[1]s; empty_gif; }" }
    @kinds;
} map { @$_ } @rounds;


sub start_hosts {
    my ($run) = @_;

    for my $host (1 .. $hosts) {
        $t->nginx("$run$host")->write_conf(<<"EOC")->start;
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
    rbgv_auth_redis_timeout 5s;
    rbgv_auth_headers off;
    keepalive_requests 10000000;

    server {
        listen 127.0.0.1:%%PORT_$run$host%%;
        location / { empty_gif; }
        $locations
    }
}
EOC
    }
}


# runs policies against the hosts; one of them is killed when half of the first
# quota of the last policy is admitted
sub run {
    my ($name, $killed, @policies) = @_;

    my (@requests, @keys, @times, %kill);

    for my $policy (@policies) {
        for my $kind (@kinds) {
            my $key = $t->create_key;
            push @keys, $key;
            push @times, [];
            push @requests, Test::Rbgv::request_text(
                'GET', "/$policy->[0]/$policy->[1]/$kind",
                key => $key->{key});
        }
    }

    if ($killed) {
        $kill{$#requests} = $policies[-1][0] / 2;
    }

    my %status;
    my $count = Test::Rbgv::Load->new(
        ports       => [ map { $t->port("$name$_") } 1 .. $hosts ],
        connections => $hosts * 8 * @requests,
        request     => \@requests,
        pause       => 0.03,
        gone        => $killed,
        seen        => sub {
            my ($n, $status, $sent, $came) = @_;

            $status{$n}{$status}++;
            return if $status ne '200';

            push @{ $times[$n] }, [ $sent, $came ];

            if ($kill{$n} && $kill{$n} == @{ $times[$n] }) {
                $t->nginx("${name}2")->process->kill;
            }
        },
    )->run_for($seconds);

    is_deeply([ grep { !/^(?:200|429|gone|failed|retried)$/ } keys %$count ],
              [], "$name: nothing but 200 and 429");
    is($count->{failed} + $count->{retried}, 0, "$name: all are answered");
    diag("$name: one host killed, $count->{gone} requests lost")
        if $count->{gone};
    is(!!$count->{gone}, !!$killed, "$name: a host is lost, or none");

    for my $p (0 .. $#policies) {
        my ($quota, $window) = @{ $policies[$p] };
        my %admitted;

        for my $k (0 .. $#kinds) {
            my $n    = $p * @kinds + $k;
            my $what = "$name: ${quota}r/${window}s, lease $kinds[$k]";
            my $most = Test::Rbgv::Load::most($window, @{ $times[$n] });

            cmp_ok($most, '<=', $quota,
                   "input 32: $what: never above the quota");

            # what the host that was killed did not answer has been charged
            $admitted{ $kinds[$k] } = @{ $times[$n] }
                                      + ($status{$n}{gone} // 0);

            next if $killed;

            # what was refused by a host is told with its next report
            my %is = (calls => $status{$n}{200}, limited => $status{$n}{429} // 0);
            my $used = sub {
                my $usage = usage($t, $keys[$n]{id});
                return { map { $_ => $usage->{$_} // 0 } keys %is };
            };

            eval { wait_for(sub {
                my $used = $used->();
                !grep { $used->{$_} != $is{$_} } keys %is;
            }, 'usage', 12) };

            is_deeply($used->(), \%is, "$what: counted exactly");
        }

        my $ratio = $admitted{auto} / $admitted{off};

        diag(sprintf '%-6s %6dr/%ds, %d s: %d with leases off, %d with auto, '
                     . 'ratio %.4f', $name, $quota, $window, $seconds,
             @admitted{@kinds}, $ratio);
        # a host that is slow can't make the demand
        cmp_ok($ratio, '>=', 0.98, "$name: ${quota}r/${window}s: 0.98 of what "
                                   . 'is admitted without leases')
            unless $t->slow;
        cmp_ok($admitted{off}, '>=', $quota, 'the demand is enough');
    }
}


for my $killed (0, 1) {
    for my $round (@rounds) {
        my $name = ($killed ? 'killed' : 'steady') . @{ $round->[-1] }[0];

        start_hosts($name);

        # every host has to have its channel
        for my $host (1 .. $hosts) {
            my $key = $t->create_key;
            wait_for(sub {
                $t->get('/', port => "$name$host", key => $key->{key})
                    ->{status} == 200
            }, 'an answer');
        }

        run($name, $killed, @$round);
        $t->nginx("$name$_")->stop for grep { !$killed || $_ != 2 } 1 .. $hosts;
    }
}

$t->done;
