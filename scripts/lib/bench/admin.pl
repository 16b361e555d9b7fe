#!/usr/bin/env perl

# Latency of requests while the admin API lists all keys, for scripts/bench
# --admin.  Their rate is moderate: a queue of their own would hide the rest.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use IO::Socket::INET;
use Time::HiRes qw(sleep);

use lib dirname(abs_path(__FILE__));
use Bench qw(measure median print_rows read_keys row values_of);

my ($dir, $port, $count) = @ENV{qw(BENCH_DIR BENCH_PORT BENCH_KEYS)};
my ($rounds, $seconds)   = @ENV{qw(BENCH_ROUNDS BENCH_SECONDS)};

my $socket = "$dir/redis.sock";
my $pause  = 32;
my $limit  = 100;
my $listing;

$SIG{INT} = $SIG{TERM} = sub { exit 1 };

END { kill 'KILL', $listing if $listing }


sub main {
    $| = 1;

    count_uses();

    $listing = start_listing();
    my %runs;

    for my $round (0 .. $rounds) {
        for my $name ($round % 2 ? qw(with without) : qw(without with)) {
            print STDERR "round $round of $rounds: $name\n";

            my $m = run($name eq 'with' ? $listing : undef);
            push @{ $runs{$name} }, $m if $round > 0;
        }
    }

    report(%runs);
    print_rows();
}


# 30 days of it, as the gateway counts
sub count_uses {
    my $script = <<'END_OF_SCRIPT';
local now = tonumber(redis.call('TIME')[1])
for i, id in ipairs(redis.call('ZRANGE', 'rbgv:keys', 0, -1)) do
    local uses = { 'last', now - i }
    for day = 0, 29 do
        uses[#uses + 1] = 'd:' .. math.floor(now / 86400) - day
        uses[#uses + 1] = i + day
    end
    redis.call('HSET', 'rbgv:use:{' .. id .. '}', unpack(uses))
end
END_OF_SCRIPT

    system('redis-cli', '-s', $socket, '-e', 'eval', $script, 0) == 0
        or die "redis-cli failed\n";
}


# a stopped process that lists all keys over and over
sub start_listing {
    my $pid = fork // die "fork: $!\n";

    if ($pid) {
        kill 'STOP', $pid;
        return $pid;
    }

    open my $listed, '>>', "$dir/listed" or die "$dir/listed: $!\n";
    $listed->autoflush;

    my $cursor = '';

    while (1) {
        my $page = page($cursor);

        $page =~ m{^HTTP/1.1 200 } or die "no page: $page\n";
        my ($next) = substr($page, -80) =~ /"cursor":(?:"([\d.:]+)"|null)\}$/
            or die "no cursor at the end of a page\n";

        $cursor = $next // '';
        print $listed "$limit\n";
    }
}


sub page {
    my ($cursor) = @_;

    my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                       PeerPort => $port)
        or die "port $port: $!\n";

    my $args = "limit=$limit" . ($cursor && "&cursor=$cursor");

    print $client "GET /v1/admin/keys?$args HTTP/1.0\r\nHost: localhost\r\n"
                  . "X-Admin-Token: bench\r\n\r\n";

    my $page = '';
    1 while sysread $client, $page, 65536, length $page;

    return $page;
}


# with a listing under way, if there is a process that does it
sub run {
    my ($pid) = @_;

    my $before = listed();
    kill 'CONT', $pid if $pid;

    my $m = measure(
        url => "http://127.0.0.1:$port/lease", seconds => $seconds,
        keys => "$dir/few", pause => $pause, nginx => $ENV{BENCH_MODULE},
        redis => $ENV{BENCH_REDIS}, socket => $socket,
    );

    kill 'STOP', $pid if $pid;
    $m->{listed} = (listed() - $before) / $m->{seconds};

    $pid && !$m->{listed} and die "no page was listed\n";

    # the worker may have a page to end
    sleep 0.3;

    return $m;
}


sub listed {
    return -e "$dir/listed" ? $limit * read_keys("$dir/listed") : 0;
}


sub report {
    my (%runs) = @_;

    my %p99;

    row(text => 'keys', value => $count);
    row(text => 'keys listed a second',
        values => [values_of('listed', @{ $runs{with} })]);

    for my $name (qw(without with)) {
        my @m = @{ $runs{$name} };
        my $p99 = $p99{$name} = [values_of('p99', @m)];

        row(text => "requests a second, $name a listing",
            values => [values_of('rate', @m)]);
        row(text => "% of a CPU the worker uses, $name a listing",
            values => [map { 100 * $_->{nginx_cpu} / 1e6 / $_->{seconds} } @m]);
        row(text => "p50, us, $name a listing",
            values => [values_of('p50', @m)]);
        row(text => "p99, us, $name a listing", values => $p99);
    }

    row(text => 'p99 with a listing to p99 without, of the medians',
        value => median(@{ $p99{with} }) / median(@{ $p99{without} }),
        bound => 1.2);
    row(text => 'refused',
        values => [map { $_->{refused} + $_->{lost} } map { @$_ } values %runs],
        bound => 0);
}


main();
