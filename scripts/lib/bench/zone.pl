#!/usr/bin/env perl

# A zone with a great many keys, for scripts/bench --zone.  All but the first
# thousand of them are disabled, and refused by what the zone knows.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use Time::HiRes qw(sleep time);

use lib dirname(abs_path(__FILE__));
use Bench qw(commands instructions measure print_rows read_keys request row
             slurp start_wrk);

my ($dir, $base, $master) = @ENV{qw(BENCH_DIR BENCH_PORT BENCH_MASTER)};
my ($rounds, $seconds, $count) = @ENV{qw(BENCH_ROUNDS BENCH_SECONDS
                                         BENCH_KEYS)};

my $socket = "$dir/redis.sock";
my %port   = (big => $base, small => $base + 1, counted => $base + 2);
my %worker = (big => $ENV{BENCH_BIG}, small => $ENV{BENCH_SMALL},
              counted => $ENV{BENCH_COUNTED});


sub main {
    $| = 1;

    row(text => 'bytes of the zone a key', value => $ENV{BENCH_BYTES});

    fill('small', "$dir/few_off", 1000);
    row(text => "seconds to fill the zone with $count keys",
        value => fill('big', "$dir/all_off", $count));

    lookups();
    counted();
    reload();

    print_rows();
}


sub url { "http://127.0.0.1:$port{$_[0]}/$_[1]" }


# sends each key once, as often as Redis has to be asked
sub fill {
    my ($name, $file, $keys) = @_;

    print STDERR "filling with $keys keys\n";

    # the zone is trusted as soon as Redis tells of changes
    request($port{$name}, '/lease', undef);
    request($port{$name}, '/lease', (read_keys("$dir/few_on"))[0]);
    sleep 1;

    my %before = commands($socket);
    my $start  = time;
    my $pid    = start_wrk(seconds => 3600, url => url($name, 'lease'),
                           keys => $file, output => '/dev/null');
    my ($last, $at) = (-1, 0);

    while (1) {
        sleep 0.2;

        my %now = commands($socket);
        my $got = $now{hgetall} - $before{hgetall};

        die "the zone does not hold $keys keys: $got lookups\n"
            if $got > 1.5 * $keys + 1000;

        if ($got > $last) {
            ($last, $at) = ($got, time);
        } elsif ($last > 0 && time - $at > 2) {
            # wrk takes a while to read its keys
            last;
        }
    }

    kill 'INT', $pid;
    waitpid $pid, 0;

    # a thousand may have been there before
    $last >= $keys - 1000 or die "only $last of $keys keys were looked up\n";

    return $at - $start;
}


# what hold.c counts
sub held {
    my ($name) = @_;

    my ($count, $total, $max, @counts) = unpack 'Q*', slurp("$dir/$name.hold");

    return { count => $count, total => $total, max => $max,
             counts => \@counts };
}


# the average, and what 99 of 100 are below, in nanoseconds
sub held_between {
    my ($before, $after) = @_;

    my $n    = $after->{count} - $before->{count} or return (0, 0);
    my $mean = ($after->{total} - $before->{total}) / $n;
    my $rest = $n;

    for my $i (0 .. $#{ $after->{counts} }) {
        $rest -= $after->{counts}[$i] - $before->{counts}[$i];
        return ($mean, 2 ** $i) if $rest <= $n / 100;
    }
}


sub lookups {
    my %variant = (
        small  => { server => 'small', keys => 'few_off' },
        same   => { server => 'big',   keys => 'few_off' },
        all    => { server => 'big',   keys => 'all_off' },
        lease  => { server => 'big',   keys => 'few_on' },
    );

    my (%us, %mean, %most);

    for my $round (0 .. $rounds) {
        for my $name ($round % 2 ? sort keys %variant
                                 : reverse sort keys %variant)
        {
            my $v      = $variant{$name};
            my $before = held($v->{server});

            print STDERR "round $round of $rounds: $name\n";

            my $m = measure(
                url => url($v->{server}, 'lease'), seconds => $seconds,
                keys => "$dir/$v->{keys}", nginx => $worker{ $v->{server} },
                redis => $ENV{BENCH_REDIS}, socket => $socket,
            );

            $name eq 'lease' || !$m->{hgetall}
                or warn "$name: $m->{hgetall} lookups in Redis\n";

            next if $round == 0;

            my ($mean, $most) = held_between($before, held($v->{server}));

            push @{ $us{$name} }, $m->{nginx_us};
            push @{ $mean{$name} }, $mean;
            push @{ $most{$name} }, $most;
        }
    }

    my $ratio = sub {
        my ($of, $name) = @_;
        return map { $of->{$name}[$_] / $of->{small}[$_] } 0 .. $rounds - 1;
    };

    row(text => 'us of nginx a request, 1,000 keys in the zone',
        values => $us{small});
    row(text => "us of nginx a request, 1,000 of $count keys",
        values => $us{same});
    row(text => "us of nginx a request, all of $count keys",
        values => $us{all});
    row(text => 'cost of a request, 1,000 of many to 1,000 keys',
        values => [$ratio->(\%us, 'same')], bound => 1.3);
    row(text => 'cost of a request, all of many to 1,000 keys',
        values => [$ratio->(\%us, 'all')], bound => 1.3);

    row(text => 'ns the mutex is held by a lookup, 1,000 keys',
        values => $mean{small});
    row(text => "ns the mutex is held by a lookup, 1,000 of $count",
        values => $mean{same});
    row(text => "ns the mutex is held by a lookup, all of $count",
        values => $mean{all});
    row(text => 'ns the mutex is held, lookups and leases',
        values => $mean{lease});
    row(text => 'ns that 99 of 100 are held less, lookups',
        values => $most{all});
    row(text => 'ns that 99 of 100 are held less, leases',
        values => $most{lease});
    row(text => 'ns of the longest, with all that interrupted it',
        value => held('big')->{max});
}


# instructions of a request
sub counted {
    my $instructions = sub {
        my (@keys) = @_;

        request($port{counted}, '/lease', @keys);

        return instructions($worker{counted}, $dir, sub {
            request($port{counted}, '/lease', @keys);
        }) / @keys;
    };

    my $among = sub {
        my ($keys, $from) = @_;
        return map { $from->[$_ * @$from / $keys] } 0 .. $keys - 1;
    };

    my @few = read_keys("$dir/few_off");
    my @all = $among->(5000, [read_keys("$dir/all_off")]);

    fill('counted', "$dir/few_off", 1000);
    my $small = $instructions->((@few) x 5);

    fill('counted', "$dir/all_off", $count);
    my $same = $instructions->((@few) x 5);
    my $all  = $instructions->(@all);

    row(text => 'instructions of a request, 1,000 keys in the zone',
        value => $small);
    row(text => "instructions of a request, 1,000 of $count keys",
        value => $same);
    row(text => "instructions of a request, all of $count keys",
        value => $all);
    row(text => 'instructions, 1,000 of many to 1,000 keys',
        value => $same / $small, bound => 1.3);
}


# the longest latency while nothing happens, and while nginx is reloaded
sub reload {
    my $run = sub {
        my ($reload) = @_;

        my $output = "$dir/wrk.log";
        my $pid = start_wrk(seconds => 4, url => url('big', 'lease'),
                            keys => "$dir/few_on", output => $output);

        my %before = commands($socket);
        sleep 2;
        kill 'HUP', $master if $reload;

        waitpid $pid, 0;

        my %after = commands($socket);
        my %m = map { split /=/ } slurp($output) =~ /(\w+=\d+)/g;

        return { %m, hgetall => $after{hgetall} - $before{hgetall} };
    };

    my (@quiet, @loaded);

    for my $round (1 .. $rounds) {
        print STDERR "reload $round of $rounds\n";

        push @quiet, $run->(0);
        push @loaded, $run->(1);
    }

    row(text => 'longest latency in 4 s, ms',
        values => [map { $_->{max} / 1000 } @quiet]);
    row(text => 'longest latency in 4 s with a reload, ms',
        values => [map { $_->{max} / 1000 } @loaded]);
    row(text => 'refused in 4 s with a reload',
        values => [map { $_->{refused} } @loaded], bound => 0);
    row(text => 'Redis lookups in 4 s with a reload',
        values => [map { $_->{hgetall} } @loaded]);
    row(text => 'connections closed by the reload',
        values => [map { $_->{lost} } @loaded]);
}


main();
