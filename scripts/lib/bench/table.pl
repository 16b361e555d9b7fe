#!/usr/bin/env perl

# The table of scripts/bench, which sets up what is measured here and passes
# it in the environment.

use strict;
use warnings;
use feature qw(state);

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use JSON::PP;
use POSIX qw(isatty);

use lib dirname(abs_path(__FILE__));
use Bench qw(combine commands measure median read_keys request spread
             values_of);

my $dir     = $ENV{BENCH_DIR};
my $rounds  = $ENV{BENCH_ROUNDS};
my $seconds = $ENV{BENCH_SECONDS};
my %port    = (module => $ENV{BENCH_PORT}, plain => $ENV{BENCH_PORT} + 1,
               lua => $ENV{BENCH_PORT} + 2);

my $socket  = "$dir/redis.sock";
my @keys    = read_keys("$dir/keys");
my @unknown = read_keys("$dir/unknown");

# names of what is in the table; the text for people; which it is a ratio to
my @variants = (
    { name => 'open',       text => 'no auth, one key sent' },
    { name => 'lease',      text => 'lease, one key',
      base => 'open', ok => 1 },
    { name => 'both',       text => 'lease, one key, both header sets',
      base => 'open', ok => 1 },
    { name => 'exact',      text => 'exact (lease off), one key',
      base => 'open', ok => 1 },
    { name => 'lua',        text => 'Lua peer, one key',
      base => 'open', ok => 1, server => 'lua' },
    { name => 'plain',      text => 'nginx without the module',
      base => 'open', server => 'plain' },
    { name => 'missing',    text => 'refused: no key',
      base => 'open', path => 'lease', key => undef },
    { name => 'checksum',   text => 'refused: bad checksum',
      base => 'open', path => 'lease', key => damage($keys[0]) },
    { name => 'over',       text => 'refused: over quota',
      base => 'open', key => $keys[1] },
    { name => 'open_many',  text => 'no auth, 10,000 keys sent',
      path => 'open', many => 1 },
    { name => 'lease_many', text => 'lease, 10,000 keys',
      base => 'open_many', path => 'lease', many => 1, ok => 1 },
    { name => 'exact_many', text => 'exact, 10,000 keys',
      base => 'open_many', path => 'exact', many => 1, ok => 1 },
);

# A round is made of turns of a second, so that who is compared runs close to
# the one it is compared to; and of one longer turn, since leases of many keys
# take a while.
my @turn = qw(lease open both exact open lua plain missing checksum over);
my @once = qw(open_many lease_many open_many exact_many);

my %variant = map { $_->{name} => $_ } @variants;
my %run;                  # by name: a list, one of each turn


sub main {
    $| = 1;
    try_each();

    round('warming up', 1);
    %run = ();

    round("round $_ of $rounds", $seconds) for 1 .. $rounds;

    my @checks = (checks(), check_unknown(), check_refused());
    progress('');

    $ENV{BENCH_JSON} ? print_json(\@checks) : print_tables(\@checks);
}


sub round {
    my ($text, $time) = @_;

    turn($text, 1, @turn) for 1 .. $time;
    turn($text, $time, @once);
}


# there and back: whoever is first is last the next time
sub turn {
    my ($text, $time, @names) = @_;

    state $back = 0;
    my %part;

    for my $v (@variant{ $back ? reverse @names : @names }) {
        progress("$text: $v->{text}");
        push @{ $part{ $v->{name} } }, run($v, $time);
    }

    push @{ $run{$_} }, combine(@{ $part{$_} }) for keys %part;
    $back = !$back;
}


sub url {
    my ($v) = @_;
    return "http://127.0.0.1:$port{ $v->{server} // 'module' }/"
           . ($v->{path} // $v->{name});
}


sub run {
    my ($v, $time) = @_;

    my $m = measure(
        url     => url($v),
        seconds => $time,
        key     => $v->{many} ? undef
                   : exists $v->{key} ? $v->{key} : $keys[0],
        keys    => $v->{many} ? "$dir/keys" : undef,
        steady  => $v->{name} eq 'lease_many',
        nginx   => $ENV{ 'BENCH_' . uc($v->{server} // 'module') },
        redis   => $ENV{BENCH_REDIS},
        socket  => $socket,
    );

    warn "\n$v->{text}: $m->{refused} of $m->{requests} were refused\n"
        if $v->{ok} && $m->{refused};
    warn "\n$v->{text}: $m->{lost} were lost\n" if $m->{lost};

    return $m;
}


sub damage {
    my ($key) = @_;
    return $key =~ s/(.)$/$1 eq '0' ? '1' : '0'/er;
}


# before an hour is spent on a mistake
sub try_each {
    for my $v (@variants) {
        next if $v->{many};

        my $key = exists $v->{key} ? $v->{key} : $keys[0];
        my %status = request($port{ $v->{server} // 'module' },
                             '/' . ($v->{path} // $v->{name}), $key);
        my $want = $v->{name} =~ /^(missing|checksum)$/ ? 401 : 200;

        $status{$want} or die "$v->{text}: status " . join(' ', %status)
                              . " instead of $want\n";
    }
}


# a figure, one of each turn; and what is made of the figures of two variants
sub figures {
    my ($name, $figure) = @_;
    return values_of($figure, quiet(@{ $run{$name} }));
}


sub pairs_of {
    my ($name, $base, $figure, $combine) = @_;

    my @pairs = map {
        my ($m, $b) = ($run{$name}[$_], $run{$base}[$_]);

        {
            value        => $combine->($m->{$figure}, $b->{$figure}),
            others_share => $m->{others_share} + $b->{others_share},
            steal_share  => $m->{steal_share} + $b->{steal_share},
        };
    } 0 .. $#{ $run{$name} };

    return values_of('value', quiet(@pairs));
}


# with --quiet the half in which the CPUs had least else to do
sub quiet {
    my (@all) = @_;

    return @all if !$ENV{BENCH_QUIET};

    my @sorted = sort {
        $a->{others_share} + $a->{steal_share}
            <=> $b->{others_share} + $b->{steal_share}
    } @all;

    return @sorted[0 .. $#sorted / 2];
}


sub ratios     { pairs_of(@_, sub { $_[0] / ($_[1] || 1) }) }
sub additional { pairs_of(@_, sub { $_[0] - $_[1] }) }


# what is asked for: text, values, bound, and 1 if it is the least allowed
sub checks {
    my $check = sub {
        my ($text, $least, $bound, @values) = @_;
        my ($median, $min, $max) = spread(@values);

        return { text => $text, least => $least, bound => $bound,
                 value => $median, min => $min, max => $max,
                 pass => $least ? $median >= $bound : $median <= $bound };
    };

    return (
        $check->('requests/s to no auth: lease, one key',
                 1, 0.95, ratios(qw(lease open rate))),
        $check->('requests/s to no auth: lease, 10,000 keys',
                 1, 0.85, ratios(qw(lease_many open_many rate))),
        $check->('requests/s to no auth: lease, both header sets',
                 1, 0.90, ratios(qw(both open rate))),
        $check->('p99 to no auth: lease, one key',
                 0, 1.1, ratios(qw(lease open p99))),
        $check->('p99 to no auth: lease, 10,000 keys',
                 0, 1.1, ratios(qw(lease_many open_many p99))),
        $check->('p99 to no auth: lease, both header sets',
                 0, 1.1, ratios(qw(both open p99))),
        $check->('us of nginx added to a request: lease',
                 0, 1, additional(qw(lease open nginx_us))),
        $check->('us of nginx added to a request: exact',
                 0, 5, additional(qw(exact open nginx_us))),
        $check->('us of Redis a request: exact',
                 0, 6, figures(qw(exact redis_us))),
        $check->('requests/s to the Lua peer: exact',
                 1, 1.5, ratios(qw(exact lua rate))),
        $check->('Redis commands a second: over quota, hammered',
                 0, 20, map { ($_->{evalsha} + $_->{hgetall})
                              * 1e6 / $_->{microseconds} }
                         quiet(@{ $run{over} })),
    );
}


# each of 1,000 keys, and again, five times
sub check_unknown {
    my $times  = 5;
    my %before = commands($socket);
    my %status = request($port{module}, '/lease', (@unknown) x $times);
    my %after  = commands($socket);
    my $value  = ($after{hgetall} - $before{hgetall}) / @unknown;

    $status{401} == $times * @unknown or die "unknown keys: status @{[%status]}\n";

    return { text => 'Redis lookups of an unknown key sent 5 times',
             bound => 1, value => $value, min => $value, max => $value,
             pass => $value <= 1 };
}


sub check_refused {
    my @bad = (undef, damage($keys[0]), '', 'x', 'x' x 62, "$keys[0]x",
               $keys[0] =~ s/_prod_/_PROD_/r);

    my %before = commands($socket);
    my %status = request($port{module}, '/lease', (@bad) x 100);
    my %after  = commands($socket);
    my $value  = 0;

    $value += $after{$_} - $before{$_} for keys %after;

    $status{401} == 100 * @bad or die "bad keys: status @{[%status]}\n";

    return { text => 'Redis commands: missing, malformed, bad checksum',
             bound => 0, value => $value, min => $value, max => $value,
             pass => $value <= 0 };
}


sub progress {
    my ($text) = @_;

    state $part = '';

    if (isatty(*STDERR)) {
        print STDERR "\r\e[K$text";
        return;
    }

    my ($begins) = $text =~ /^(.*?):/ or return;
    print STDERR "$begins\n" if $begins ne $part;
    $part = $begins;
}


sub print_tables {
    my ($checks) = @_;

    printf "%-34s %8s %-15s %-17s %6s %6s %6s %7s %5s %8s\n",
        '', 'req/s', '   min..max', 'ratio  min..max', 'nginx', 'Redis',
        'p50', 'p99', 'ratio', 'commands';
    printf "%-34s %8s %-15s %-17s %6s %6s %6s %7s %5s %8s\n",
        '', '', '', '', 'us/req', 'us/req', 'us', 'us', '', '/req';

    for my $v (@variants) {
        my @rate = spread(figures($v->{name}, 'rate'));
        my @ratio = $v->{base} ? spread(ratios($v->{name}, $v->{base}, 'rate'))
                               : ();
        my $p99 = $v->{base} ? median(ratios($v->{name}, $v->{base}, 'p99'))
                             : undef;
        my %median = map { $_ => median(figures($v->{name}, $_)) }
                         qw(nginx_us redis_us p50 p99 commands);

        printf "%-34s %8.0f %-15s %-17s %6.2f %6.2f %6.0f %7.0f %5s %8s\n",
            $v->{text}, $rate[0],
            sprintf('%7.0f..%.0f', @rate[1, 2]),
            @ratio ? sprintf('%.3f %.3f..%.3f', @ratio) : '',
            @median{qw(nginx_us redis_us p50 p99)},
            defined $p99 ? sprintf('%.2f', $p99) : '',
            $v->{server} && $v->{server} eq 'plain' ? '-'
                : sprintf('%.4f', $median{commands});
    }

    printf "\n%-50s %9s %-22s %8s\n", 'required', 'median', '   min..max',
        'bound';

    for my $c (@$checks) {
        printf "%-50s %9.3f %-22s %8s %s\n", $c->{text}, $c->{value},
            sprintf('%10.3f..%.3f', @$c{qw(min max)}),
            ($c->{least} ? '>= ' : '<= ') . $c->{bound},
            $c->{pass} ? 'PASS' : 'FAIL';
    }

    my @runs   = map { quiet(@$_) } values %run;
    my @others = map { 100 * $_ } spread(values_of('others_share', @runs));
    my @steal  = map { 100 * $_ } spread(values_of('steal_share', @runs));

    printf "\n%d rounds of %d s%s; other processes used %.0f %% of a CPU"
           . " meanwhile, %.0f %% at most; stolen by the hypervisor: %.1f %%,"
           . " %.1f %% at most\n",
        $rounds, $seconds,
        $ENV{BENCH_QUIET} ? ', of which the quieter half counts' : '',
        @others[0, 2], @steal[0, 2];
}


sub print_json {
    my ($checks) = @_;

    my %table = map {
        my $v = $_;

        ($v->{name} => {
            text => $v->{text}, base => $v->{base}, turns => $run{$v->{name}},
        })
    } @variants;

    $_->{pass} = $_->{pass} ? JSON::PP::true : JSON::PP::false for @$checks;

    print JSON::PP->new->canonical->pretty->encode(
        { rounds => $rounds + 0, seconds => $seconds + 0,
          variants => \%table, required => $checks });
}


main();
