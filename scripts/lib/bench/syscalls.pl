#!/usr/bin/env perl

# System calls of the worker a request, for scripts/bench --syscalls.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use JSON::PP;

use lib dirname(abs_path(__FILE__));
use Bench qw(measure read_keys slurp);

my ($dir, $port, $pid) = @ENV{qw(BENCH_DIR BENCH_PORT BENCH_MODULE)};

my ($key) = read_keys("$dir/keys");

my @variants = (
    { path => 'open',  text => 'no auth, one key sent' },
    { path => 'lease', text => 'lease, one key' },
    { path => 'both',  text => 'lease, one key, both header sets' },
    { path => 'exact', text => 'exact (lease off), one key' },
    { path => 'lease', text => 'refused: no key', key => undef },
);


# calls a request, by name
sub trace {
    my ($v) = @_;

    my %load = (
        url     => "http://127.0.0.1:$port/$v->{path}",
        key     => exists $v->{key} ? $v->{key} : $key,
        nginx   => $pid,
        redis   => $ENV{BENCH_REDIS},
        socket  => "$dir/redis.sock",
    );
    my $output = "$dir/strace.out";

    measure(%load, seconds => 1);

    my $strace = fork // die "fork: $!\n";
    $strace or exec 'strace', '-c', '-f', '-qq', '-o', $output, '-p', $pid
            or die "strace: $!\n";

    sleep 1;
    my $m = measure(%load, seconds => $ENV{BENCH_SECONDS});

    kill 'INT', $strace;
    waitpid $strace, 0;

    my %calls;

    # % time, seconds, usecs/call, calls, errors if there are any, syscall
    for (split /\n/, slurp($output)) {
        my @field = split;
        $calls{ $field[-1] } = $field[3] / $m->{requests}
            if @field > 4 && $field[3] =~ /^\d+$/ && $field[-1] ne 'total';
    }

    return \%calls;
}


for my $v (@variants) {
    print STDERR "$v->{text}\n";
    $v->{calls} = trace($v);
    $v->{all} += $_ for values %{ $v->{calls} };
}

if ($ENV{BENCH_JSON}) {
    delete $_->{key} for @variants;
    print JSON::PP->new->canonical->pretty->encode(\@variants);
    exit;
}

for my $v (@variants) {
    my %calls = %{ $v->{calls} };

    printf "%-34s %6.3f  %s\n", $v->{text}, $v->{all},
        join ', ', map { sprintf '%s %.3f', $_, $calls{$_} }
                   grep { $calls{$_} >= 0.001 }
                   sort { $calls{$b} <=> $calls{$a} } keys %calls;
}
