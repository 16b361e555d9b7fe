#!/usr/bin/env perl

# Bytes a key of a zone, for scripts/bench --zone: how many of the keys that
# were sent last are still in it.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);

use lib dirname(abs_path(__FILE__));
use Bench qw(commands read_keys request);

my ($dir, $port, $size) = @ENV{qw(BENCH_DIR BENCH_PORT BENCH_SIZE)};

my $socket = "$dir/redis.sock";
my @keys   = read_keys("$dir/capacity");
my $step   = 50;
my $held   = 0;

request($port, '/lease', @keys);

while (@keys) {
    my %before = commands($socket);
    request($port, '/lease', reverse splice @keys, -$step);
    my %after = commands($socket);

    last if $after{hgetall} > $before{hgetall};
    $held += $step;
}

@keys or die "the zone holds more keys than there are\n";
$held or die "the zone holds no key\n";

printf "%d\n", $size / $held;
