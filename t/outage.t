# Redis stopped, frozen, restarted empty, restarted with its data, under load,
# in each policy: what clients see.
#
# RBGV_LONG=1: with leases, for longer, and prints the tables of
# docs/operations.md, second by second.

use strict;
use warnings;

use Test::More;
use POSIX ();
use Time::HiRes qw(time);

use Test::Rbgv;
use Test::Rbgv::Load;

my $long = $ENV{RBGV_LONG};

# name, rbgv_auth_unavailable, rbgv_auth_limit_unavailable
my @policies = (
    [ 'deny, deny',         'deny',      'deny' ],
    [ 'deny, local',        'deny',      'local' ],
    [ 'stale=60s, deny',    'stale=60s', 'deny' ],
    [ 'stale=60s, local',   'stale=60s', 'local' ],
    [ 'stale=60s, allow',   'stale=60s', 'allow' ],
);

my $t = Test::Rbgv->new;
$t->allow_alert(qr/connect\(\) to unix:\S+ failed \(2:/,
                qr/is empty or foreign/);
$t->allow_refused('LOADING');

$t->start_redis;
my $key = $t->create_key;

my $locations = join "\n", map {
    "location /$_ { empty_gif;"
    . " rbgv_auth_unavailable $policies[$_][1];"
    . " rbgv_auth_limit_unavailable $policies[$_][2]; }"
} 0 .. $#policies;

my $lease = $long ? 'auto' : 'off';
my $deadline = $long ? '100ms' : '2s';

$t->write_conf(<<"EOC")->start_nginx;
%%TEST_GLOBALS%%
worker_processes 2;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth_lease $lease;
    rbgv_auth_log_level info;
    rbgv_auth_redis_timeout $deadline;
    rbgv_auth_limit default 1000000r/1m;
    keepalive_requests 1000000;
    add_header X-Source \$rbgv_auth_source always;

    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth on;
        $locations
        location = /metrics { rbgv_auth off; rbgv_auth_metrics; }
    }
}
EOC

my $redis = $t->redis_server;
my $data  = $t->dir . '/redis-main';


sub restart_empty {
    $redis->stop;
    rename "$data/appendonlydir", "$data/kept" or die $!;
    $redis->start;

    # it is asked again
    wait_for(sub { $t->get('/metrics')->{body}
                   =~ /^rbgv_auth_redis_up\{.*\} 1$/m }, 'the breakers')
        unless $long;
}

sub restore {
    $redis->stop;
    unlink glob "$data/appendonlydir/*";
    rmdir "$data/appendonlydir" or die $!;
    rename "$data/kept", "$data/appendonlydir" or die $!;
    $redis->start;
}

# name, what happens, what mends it
my @faults = (
    [ 'fault 1: stopped', sub { $redis->stop }, sub { $redis->start } ],
    [ 'fault 3: frozen', sub { $redis->freeze }, sub { $redis->thaw } ],
    [ 'fault 13: restarted empty', \&restart_empty, \&restore ],
    [ 'fault 12: restarted with data',
      sub { $redis->kill; $redis->start }, sub {} ],
);

my (%sources, $first);


# All policies at the same time.  Returns when the fault began, when what the
# zone knew was not trusted any more, when it was mended, and the answers: the
# policy, the status with its source, and when it was asked and answered.
sub load {
    my ($begin, $mend) = @_;

    my ($hurt, $late, $mended, @answers, %in_row);
    my $seen = sub {
        my ($n, $status, $sent, $came, $text) = @_;

        my ($source) = $text =~ /^X-Source: (\w+)/m;
        $source = $source ? " $source" : '';

        push @answers, [ $n, "$status$source", $sent, $came ];
        $sources{ $source =~ s/ //r }++;

        my $phase = !$hurt          ? 'before'
                  : $sent < $late   ? 'early'
                  : !$mended        ? 'late'
                  : $sent > $mended ? 'after' : '';

        # one after the other that is good counts, but for what is late
        if ($phase eq 'late' || "$status$source" =~ /^200 (?:redis|lease)/) {
            $in_row{$phase}[$n]++;
        } else {
            $in_row{$phase}[$n] = 0;
        }
    };

    my $all = sub {
        my ($phase, $n) = @_;
        return !grep { ($in_row{$phase}[$_] // 0) < $n } 0 .. $#policies;
    };

    my $started = time;
    my $count = Test::Rbgv::Load->new(
        ports       => [ $t->port(0) ],
        connections => 4 * @policies,
        request     => [ map { Test::Rbgv::request_text('GET', "/$_",
                                    key => $key->{key}) } 0 .. $#policies ],
        pauses      => 0.02,
        seen        => $seen,
    )->run(sub {
        my $now = time;

        if (!$hurt && $all->('before', 40)
            && (!$long || $now > $started + 3))
        {
            $hurt = $now;
            $begin->();
            # an answer takes its deadline, and trust ends after 0.9 s
            $late = time + 1.5;

        } elsif ($hurt && !$mended && $all->('late', 20)
                 && (!$long || $now > $hurt + 8))
        {
            $mend->();
            $mended = time;
        }

        return !$mended || !$all->('after', 40)
               || $long && $now < $mended + 5;
    });

    return ($hurt, $late, $mended, \@answers, $count);
}


sub table {
    my ($name, $hurt, $mended, $answers) = @_;
    my %seen;

    for (@$answers) {
        my ($n, $what, $sent, $came) = @$_;
        $seen{ POSIX::floor($came - $hurt) }[$n]{$what}++;
    }

    $name =~ s/^fault \d+: //;

    my @lines = ("$name, mended after " . sprintf('%.1f s', $mended - $hurt),
                 '', '| second | ' . join(' | ', map { "`$_->[0]`" } @policies)
                     . ' |', '|---' x (1 + @policies) . '|');

    for my $second (sort { $a <=> $b } keys %seen) {
        next if $second < -1;

        push @lines, "| $second | " . join(' | ', map {
            my $of  = $seen{$second}[$_] // {};
            my $sum = 0;
            $sum += $_ for values %$of;

            join ', ', map {
                keys %$of == 1 ? $_
                               : sprintf '%s %.0f%%', $_, 100 * $of->{$_} / $sum
            } sort { $of->{$b} <=> $of->{$a} || $a cmp $b } keys %$of;
        } 0 .. $#policies) . ' |';
    }

    diag(join "\n", '', @lines, '');
}


# when nothing is trusted any more; all others pass by Redis
my %late = (
    'fault 1: stopped' => [ '503', '503', '503', '200 stale', '200 stale' ],
    'fault 13: restarted empty' => [ ('503 redis') x @policies ],
);

$late{'fault 3: frozen'} = $late{'fault 1: stopped'};

$first = time;

for (@faults) {
    my ($name, $begin, $mend) = @$_;
    my ($hurt, $late, $mended, $answers, $count) = load($begin, $mend);

    table($name, $hurt, $mended, $answers) if $long;

    is_deeply([ grep { !/^(?:200|503|failed|retried)$/ } keys %$count ], [],
              "$name: nothing but 200 and 503");
    is($count->{failed} + $count->{retried}, 0, "$name: all are answered");

    for my $n (0 .. $#policies) {
        my $policy = "$name: $policies[$n][0]";
        my @mine   = grep { $_->[0] == $n } @$answers;
        my %late   = map { $_->[1] => 1 }
                     grep { $_->[2] > $late && $_->[3] < $mended } @mine;

        is(join(', ', sort keys %late), $late{$name}[$n],
           "$policy: then what it says") if $late{$name};

        # without a gap
        is(scalar(grep { $_->[1] !~ /^200/ } @mine), 0,
           "$policy: nobody is refused")
            if $name !~ /empty/ && $n > 2;
    }
}


# all that was decided without Redis is counted, and told of now and then

my $metrics = $t->get('/metrics')->{body};
my %mode = $metrics =~ /^rbgv_auth_degraded_requests_total\{mode="(\w+)"\} (\d+)/mg;

is($mode{stale}, $sources{stale}, 'promise 2: metric of stale records');
is($mode{local} + $mode{allow},
   $sources{stale} + ($sources{local} // 0),
   'promise 2: metric of what was not counted by Redis') unless $long;

my @lines = $t->read_log('error.log')
    =~ /\[warn\] .*(rbgv_auth: decisions without redis .*)/g;

cmp_ok(scalar @lines, '>', 0, 'logged');
cmp_ok(scalar @lines, '<=', 2 * (1 + (time - $first) / 10),
       'not once a request');
like($t->read_log('error.log'),
     qr/\[notice\] .*rbgv_auth: decisions by redis "\S+" again, \d+ were/,
     'and its end');

$t->done;
