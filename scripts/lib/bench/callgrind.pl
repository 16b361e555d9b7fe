#!/usr/bin/env perl

# Instructions a request, for scripts/bench --callgrind, which has started
# nginx in one process under valgrind.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use JSON::PP;

use lib dirname(abs_path(__FILE__));
use Bench qw(instructions read_keys request);

my ($dir, $port, $pid) = @ENV{qw(BENCH_DIR BENCH_PORT BENCH_MODULE)};

my @keys     = read_keys("$dir/keys");
my $requests = 5000;

my @variants = (
    { path => 'open',  text => 'no auth, one key sent' },
    { path => 'lease', text => 'lease, one key' },
    { path => 'both',  text => 'lease, one key, both header sets' },
    { path => 'exact', text => 'exact (lease off), one key' },
    { path => 'lease', text => 'refused: no key', key => undef },
    { path => 'over',  text => 'refused: over quota', key => $keys[1] },
);


for my $v (@variants) {
    my $key = exists $v->{key} ? $v->{key} : $keys[0];

    print STDERR "$v->{text}\n";
    request($port, "/$v->{path}", ($key) x 1000);

    $v->{instructions} = instructions($pid, $dir, sub {
        request($port, "/$v->{path}", ($key) x $requests);
    }) / $requests;

    $v->{added} = $v->{instructions} - $variants[0]{instructions};
}

if ($ENV{BENCH_JSON}) {
    delete $_->{key} for @variants;
    print JSON::PP->new->canonical->pretty->encode(\@variants);
    exit;
}

printf "%-34s %12s %12s\n", 'instructions of nginx a request', '', 'added';
printf "%-34s %12.0f %12.0f\n", @$_{qw(text instructions added)} for @variants;
