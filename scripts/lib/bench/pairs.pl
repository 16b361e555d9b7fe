#!/usr/bin/env perl

# scripts/bench --pairs, which sets up what is measured here and passes it in
# the environment.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use JSON::PP;

use lib dirname(abs_path(__FILE__));
use Bench qw(cpu measure median slurp wrk);

my ($dir, $port, $pid) = @ENV{qw(BENCH_DIR BENCH_PORT BENCH_MODULE)};
my $redis = $ENV{BENCH_REDIS};
my $most  = 1.1;          # of the p99 without the module
my ($rounds, $seconds) = @ENV{qw(BENCH_ROUNDS BENCH_SECONDS)};

# text, path, file of keys, least ratio
my @pairs = (
    [ 'nothing: no auth',                'open',  'one_key', undef ],
    [ 'lease, one key',                  'lease', 'one_key', 0.95 ],
    [ 'lease, one key, both header sets', 'both', 'one_key', 0.90 ],
    [ 'lease, 10,000 keys',              'lease', 'keys',    0.85 ],
    [ 'exact, one key',                  'exact', 'one_key', undef ],
);

my ($key) = slurp("$dir/keys") =~ /^(\S+)/;
open my $file, '>', "$dir/one_key" or die "$dir/one_key: $!\n";
print $file "$key\n";
close $file;


# ratios of neighbours, requests of each, and the part of a CPU that nginx had
sub run {
    my ($path, $keys) = @_;

    my $cpu = cpu($pid);

    open my $output, '-|', wrk(
        url     => "http://127.0.0.1:$port/",
        seconds => $seconds,
        script  => 'pair.lua',
        paths   => [ '/open', "/$path" ],
        keys    => "$dir/$keys",
    ) or die "wrk: $!\n";
    my $text = join '', <$output>;
    close $output or die "wrk failed:\n$text";

    my ($refused) = $text =~ /^refused (\d+)/m;
    warn "$path: $refused were refused\n" if $refused;

    my ($slots) = $text =~ /^slots (.*)/m or die "no slots:\n$text";
    my @slots = map { [ split /:/ ] } $slots =~ s/(\d+) (\d+)/$1:$2/gr =~ /\S+/g;

    # leases of many keys begin in the first seconds; the last one is cut off
    splice @slots, 0, 40;
    pop @slots;

    my (@ratios, @count);

    for my $i (1 .. $#slots - 1) {
        $count[ $slots[$i][0] ] += $slots[$i][1];

        next if !$slots[$i][0];
        push @ratios, 2 * $slots[$i][1]
                      / ($slots[ $i - 1 ][1] + $slots[ $i + 1 ][1] || 1);
    }

    return { ratios => \@ratios, count => \@count,
             cpu => (cpu($pid) - $cpu) / $seconds };
}


# in turns: p99 to that of no auth just before and behind, microseconds of
# nginx that a request takes more, and those of Redis
sub turns {
    my ($path, $keys) = @_;

    # leases of many keys are measured as they are after a while
    my $many = $keys eq 'keys';

    my $turn = sub {
        my ($path) = @_;

        return measure(url => "http://127.0.0.1:$port/$path",
                       seconds => $many ? 3 : 1,
                       steady => $many && $path ne 'open',
                       keys => "$dir/$keys", nginx => $pid, redis => $redis,
                       socket => "$dir/redis.sock");
    };

    my $before = $turn->('open');
    my @turns;

    for my $i (1 .. $seconds / 3) {
        my $guarded = $turn->($path);
        my $after   = $turn->('open');
        my %open    = map { $_ => ($before->{$_} + $after->{$_}) / 2 }
                      qw(p99 nginx_us);

        push @turns, { p99 => $guarded->{p99} / $open{p99},
                       us  => $guarded->{nginx_us} - $open{nginx_us},
                       redis_us => $guarded->{redis_us} };

        $before = $after;
    }

    return @turns;
}


my (%result, %turns);

for my $round (1 .. $rounds) {
    for my $pair (@pairs) {
        my ($text, $path, $keys) = @$pair;

        print STDERR "round $round of $rounds: $text\n";
        push @{ $result{$text} }, run($path, $keys);
        push @{ $turns{$text} }, turns($path, $keys);

        # a lease lasts 5 s at most
        sleep 6 if $keys eq 'keys';
    }
}

my @table = map {
    my ($text, undef, undef, $least) = @$_;

    my @ratios = sort { $a <=> $b } map { @{ $_->{ratios} } } @{ $result{$text} };
    my @rounds = map { median(@{ $_->{ratios} }) } @{ $result{$text} };
    my $ratio  = median(@ratios);
    my @p99    = sort { $a <=> $b } map { $_->{p99} } @{ $turns{$text} };
    my $p99    = median(@p99);

    {
        text => $text, ratio => $ratio, least => $least,
        slots => scalar @ratios,
        quartiles => [ @ratios[ $#ratios / 4, 3 * $#ratios / 4 ] ],
        rounds => [ map { sprintf '%.3f', $_ } @rounds ],
        cpu => median(map { $_->{cpu} } @{ $result{$text} }),
        pass => !defined $least || $ratio >= $least ? 1 : 0,
        turns => scalar @p99,
        p99_quartiles => [ @p99[ $#p99 / 4, 3 * $#p99 / 4 ] ],
        p99 => $p99, us => median(map { $_->{us} } @{ $turns{$text} }),
        redis_us => median(map { $_->{redis_us} } @{ $turns{$text} }),
        p99_pass => !defined $least || $p99 <= $most ? 1 : 0,
    };
} @pairs;

if ($ENV{BENCH_JSON}) {
    print JSON::PP->new->canonical->pretty->encode(\@table);
    exit;
}

printf "%-34s %6s  %-14s %6s %6s  %s\n", 'requests/s to no auth', 'median',
    'quartiles', 'slots', 'nginx', 'rounds';

for my $row (@table) {
    printf "%-34s %6.3f  %.3f..%.3f %8d %5.0f%%  %s%s\n",
        $row->{text}, $row->{ratio}, @{ $row->{quartiles} }, $row->{slots},
        100 * $row->{cpu}, join(' ', @{ $row->{rounds} }),
        defined $row->{least}
            ? "  >= $row->{least} " . ($row->{pass} ? 'PASS' : 'FAIL') : '';
}

print "\n";

printf "%-34s %6s  %-14s %5s %9s %9s\n", 'turns of seconds', 'p99',
    'quartiles', 'turns', 'nginx us', 'Redis us';

for my $row (@table) {
    printf "%-34s %6.3f  %.3f..%.3f %5d %+9.2f %9.2f%s\n", $row->{text},
        $row->{p99}, @{ $row->{p99_quartiles} }, $row->{turns}, $row->{us},
        $row->{redis_us},
        defined $row->{least}
            ? "  p99 <= $most " . ($row->{p99_pass} ? 'PASS' : 'FAIL') : '';
}
