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
use Bench qw(combine commands measure median read_keys request slurp spread
             start_wrk values_of);

my ($dir, $rounds, $seconds) = @ENV{qw(BENCH_DIR BENCH_ROUNDS BENCH_SECONDS)};

my $socket  = "$dir/redis.sock";
my @keys    = read_keys("$dir/keys");
my @unknown = read_keys("$dir/unknown");
my @unasked = read_keys("$dir/unasked");
my $many    = scalar(@keys) =~ s/(?<=\d)(?=(?:\d{3})+$)/,/gr;

# by name: its port, and the pid of its worker
my %server = map { my ($name, $port, $worker) = split;
                   ($name => { port => $port, worker => $worker }) }
             split /\n/, slurp("$dir/servers");

# by name, which is also the path: the text for people, and where it is not
# one good key that is sent to the module
my %variant = (
    open     => { text => 'no auth' },
    plain    => { text => 'no auth, no module', server => 'plain' },
    lease    => { text => 'lease' },
    both     => { text => 'lease, both header sets' },
    exact    => { text => 'exact (lease off)' },
    lua      => { text => 'Lua, lua-nginx-redis', server => 'lua' },
    request  => { text => 'auth_request to a Lua service',
                  server => 'lua_service' },
    limit    => { text => 'limit_req, checks no key', server => 'plain' },
    missing  => { text => 'no key', path => 'lease', key => undef,
                  status => 401 },
    checksum => { text => 'bad checksum', path => 'lease',
                  key => damage($keys[0]), status => 401 },
    unknown  => { text => 'unknown, 1,000 keys', path => 'lease',
                  key => $unknown[0], keys => "$dir/unknown", status => 401 },
    over     => { text => 'over quota', key => $keys[1],
                  status => 429 },
);

my @peers = qw(lua request limit);

# Settings, in each of which some are measured in turns, but for "alone": leases
# of many keys take "lead" seconds until they begin and end all the time, and as
# many to end, and its turns are long enough to ask for all keys.
my @scenes = (
    { name => 'one', text => 'one key, 64 connections',
      variants => [ qw(open plain lease both exact), @peers ] },
    { name => 'single', text => 'one key, 1 connection', connections => 1,
      variants => [ qw(open lease exact), @peers ] },
    { name => 'crowd', text => 'one key, 256 connections', connections => 256,
      variants => [ qw(open lease exact), @peers ] },
    { name => 'far', text => 'one key, 64 connections, Redis 1 ms away',
      far => 1, variants => [ qw(open lease exact lua request) ] },
    { name => 'many', text => "$many keys, 64 connections", many => 1,
      alone => 'lease', lead => 20,
      variants => [ qw(open lease exact), @peers ] },
    { name => 'refused', text => 'refused, 64 connections',
      variants => [ qw(open missing checksum unknown over) ] },
);

my %run;                  # by scene and variant: a list, one of each turn


sub main {
    $| = 1;
    try_each();

    my $turns = $rounds * $seconds;

    for my $scene (@scenes) {
        alone($scene, $turns) if $scene->{alone};
        turn($scene, "turn $_ of $turns") for 1 .. $turns;
    }

    my @required = (checks(), check_unknown(), check_refused());
    progress('');

    $ENV{BENCH_JSON} ? print_json(\@required) : print_tables(\@required);
}


# before an hour is spent on a mistake; and the first requests are slower.  600
# of these may be counted by Redis, and 600 by the host if Redis was slow.
sub try_each {
    for my $scene (grep { !$_->{many} } @scenes) {
        for my $name (@{ $scene->{variants} }) {
            my $v = $variant{$name};
            my %status = request(server($scene, $v)->{port}, path($name),
                                 (key($v)) x 1500);
            my $want = $v->{status} // 200;

            $status{$want} or die "$scene->{text}, $v->{text}: status "
                                  . join(' ', %status)
                                  . " instead of $want\n";
        }
    }
}


sub server {
    my ($scene, $v) = @_;

    my $name = $v->{server} // 'module';
    $name .= '_far' if $scene->{far};

    return $server{$name} // die "no server $name\n";
}


sub path {
    my ($name) = @_;
    return '/' . ($variant{$name}{path} // $name);
}


sub key {
    my ($v) = @_;
    return exists $v->{key} ? $v->{key} : $keys[0];
}


sub alone {
    my ($scene, $turns) = @_;

    my $name = $scene->{alone};
    my $runs = $run{ $scene->{name} }{$name} = [];

    progress("$scene->{text}: $variant{$name}{text}");

    waitpid start_wrk(client($scene, $name), seconds => $scene->{lead},
                      output => '/dev/null'), 0;

    push @$runs, run($scene, $name, 5) for 1 .. $turns;
    sleep $scene->{lead};
}


# The one that all are compared to comes again and again.  There and back:
# whoever is first is last the next time.
sub turn {
    my ($scene, $text) = @_;

    state $back = 0;
    my ($base, @rest) = grep { $_ ne ($scene->{alone} // '') }
                             @{ $scene->{variants} };
    my (@turn, %part);

    push @turn, $base, splice @rest, 0, 3 while @rest;

    for my $name ($back ? reverse @turn : @turn) {
        progress("$scene->{text}: $text: $variant{$name}{text}");
        push @{ $part{$name} }, run($scene, $name, 1);
    }

    push @{ $run{ $scene->{name} }{$_} }, combine(@{ $part{$_} })
        for keys %part;
    $back = !$back;
}


# arguments for Bench::measure
sub client {
    my ($scene, $name) = @_;

    my $v = $variant{$name};
    my $keys = $v->{keys} // ($scene->{many} ? "$dir/keys" : undef);

    return (
        url => 'http://127.0.0.1:' . server($scene, $v)->{port} . path($name),
        connections => $scene->{connections},
        key         => $keys ? undef : key($v),
        keys        => $keys,
    );
}


sub run {
    my ($scene, $name, $time) = @_;

    my $v = $variant{$name};
    my $m = measure(
        client($scene, $name),
        seconds => $time,
        nginx   => server($scene, $v)->{worker},
        redis   => $ENV{BENCH_REDIS},
        socket  => $socket,
    );

    warn "\n$v->{text}: $m->{refused} of $m->{requests} were refused\n"
        if !$v->{status} && $m->{refused};
    warn "\n$v->{text}: $m->{lost} were lost\n" if $m->{lost};

    return $m;
}


sub damage {
    my ($key) = @_;
    return $key =~ s/(.)$/$1 eq '0' ? '1' : '0'/er;
}


# a figure, one of each turn; and what is made of the figures of two variants
sub figures {
    my ($scene, $name, $figure) = @_;
    return values_of($figure, quiet(@{ $run{$scene}{$name} }));
}


sub pairs_of {
    my ($scene, $name, $base, $figure, $combine) = @_;

    my @pairs = map {
        my ($m, $b) = ($run{$scene}{$name}[$_], $run{$scene}{$base}[$_]);

        {
            value        => $combine->($m->{$figure}, $b->{$figure}),
            others_share => $m->{others_share} + $b->{others_share},
            steal_share  => $m->{steal_share} + $b->{steal_share},
        };
    } 0 .. $#{ $run{$scene}{$name} };

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
                 1, 0.95, ratios(qw(one lease open rate))),
        $check->('requests/s to no auth: lease, both header sets',
                 1, 0.90, ratios(qw(one both open rate))),
        $check->('p99 to no auth: lease, one key',
                 0, 1.1, ratios(qw(one lease open p99))),
        $check->('p99 to no auth: lease, both header sets',
                 0, 1.1, ratios(qw(one both open p99))),
        $check->('us of nginx added to a request: lease',
                 0, 1, additional(qw(one lease open nginx_us))),
        $check->('us of nginx added to a request: exact',
                 0, 5, additional(qw(one exact open nginx_us))),
        $check->('us of Redis a request: exact',
                 0, 6, figures(qw(one exact redis_us))),
        $check->('requests/s to the Lua peer: exact',
                 1, 1.5, ratios(qw(one exact lua rate))),
        $check->('Redis commands a second: over quota, hammered',
                 0, 20, map { ($_->{evalsha} + $_->{hgetall})
                              * 1e6 / $_->{microseconds} }
                         quiet(@{ $run{refused}{over} })),
    );
}


# each of 1,000 keys, and again, five times
sub check_unknown {
    my $times  = 5;
    my %before = commands($socket);
    my %status = request($server{module}{port}, '/lease', (@unasked) x $times);
    my %after  = commands($socket);
    my $value  = ($after{hgetall} - $before{hgetall}) / @unasked;

    $status{401} == $times * @unasked
        or warn "\nunknown keys: status @{[%status]}\n";

    return { text => 'Redis lookups of an unknown key sent 5 times',
             bound => 1, value => $value, min => $value, max => $value,
             pass => $value <= 1 };
}


sub check_refused {
    my @bad = (undef, damage($keys[0]), '', 'x', 'x' x 62, "$keys[0]x",
               $keys[0] =~ s/_prod_/_PROD_/r);

    my %before = commands($socket);
    my %status = request($server{module}{port}, '/lease', (@bad) x 100);
    my %after  = commands($socket);
    my $value  = 0;

    $value += $after{$_} - $before{$_} for keys %after;

    $status{401} == 100 * @bad
        or warn "\nbad keys: status @{[%status]}\n";

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


# of a variant in a scene: text, and figures, each of which is a list of the
# median, the least and the most
sub table_row {
    my ($scene, $name) = @_;

    my $base = $scene->{variants}[0];
    my %row = (name => $name, text => $variant{$name}{text});

    $row{$_} = [ spread(figures($scene->{name}, $name, $_)) ]
        for qw(rate nginx_us redis_us p50 p99 commands memory);

    if ($name ne $base) {
        my @pair = ($scene->{name}, $name, $base);

        $row{ratio}     = [ spread(ratios(@pair, 'rate')) ];
        $row{p99_ratio} = [ spread(ratios(@pair, 'p99')) ];
    }

    return \%row;
}


sub print_tables {
    my ($checks) = @_;

    my $form = "%-30s %8s %-15s %-18s %6s %6s %6s %7s %5s %8s %5s\n";

    printf $form, '', 'req/s', '  least..most', 'ratio least..most', 'nginx',
        'Redis', 'p50', 'p99', 'ratio', 'commands', 'MB';
    printf $form, '', '', '', '', 'us/req', 'us/req', 'us', 'us', '', '/req',
        '';

    for my $scene (@scenes) {
        print "\n$scene->{text}\n";
        print_row($form, table_row($scene, $_)) for @{ $scene->{variants} };
    }

    print_checks($checks);
    print_others();
}


sub print_row {
    my ($form, $row) = @_;

    my %median = map { $_ => $row->{$_}[0] } grep { ref $row->{$_} } keys %$row;

    printf $form, "  $row->{text}", sprintf('%.0f', $median{rate}),
        sprintf('%7.0f..%.0f', @{ $row->{rate} }[1, 2]),
        $row->{ratio} ? sprintf('%.3f %.3f..%.3f', @{ $row->{ratio} }) : '',
        (map { sprintf '%.2f', $_ } @median{qw(nginx_us redis_us)}),
        (map { sprintf '%.0f', $_ } @median{qw(p50 p99)}),
        $row->{p99_ratio} ? sprintf('%.2f', $median{p99_ratio}) : '',
        sprintf('%.4f', $median{commands}), sprintf('%.1f', $median{memory});
}


sub print_checks {
    my ($checks) = @_;

    printf "\n%-50s %9s %-22s %8s\n", 'required', 'median', ' least..most',
        'bound';

    for my $c (@$checks) {
        printf "%-50s %9.3f %-22s %8s %s\n", $c->{text}, $c->{value},
            sprintf('%10.3f..%.3f', @$c{qw(min max)}),
            ($c->{least} ? '>= ' : '<= ') . $c->{bound},
            $c->{pass} ? 'PASS' : 'FAIL';
    }
}


# of the machine, while it was measured
sub print_others {
    my @runs   = map { quiet(@$_) } map { values %$_ } values %run;
    my @others = map { 100 * $_ } spread(values_of('others_share', @runs));
    my @steal  = map { 100 * $_ } spread(values_of('steal_share', @runs));

    printf "\n%d turns of a second%s; other processes used %.0f %% of a CPU"
           . " meanwhile, %.0f %% at most; stolen by the hypervisor: %.1f %%,"
           . " %.1f %% at most\n",
        $rounds * $seconds,
        $ENV{BENCH_QUIET} ? ', of which the quieter half counts' : '',
        @others[0, 2], @steal[0, 2];
}


# a line each, so that a change of one is seen
sub print_json {
    my ($checks) = @_;

    my $json = JSON::PP->new->canonical;
    my @rows;

    for my $scene (@scenes) {
        for my $row (map { table_row($scene, $_) } @{ $scene->{variants} }) {
            ref and $_ = [ map { sprintf('%.4g', $_) + 0 } @$_ ]
                for values %$row;
            push @rows, { %$row, scene => $scene->{name},
                          setting => $scene->{text} };
        }
    }

    $_->{pass} = $_->{pass} ? JSON::PP::true : JSON::PP::false for @$checks;

    printf qq({"turns":%d,"rows":[\n%s\n],"required":[\n%s\n]}\n),
        $rounds * $seconds,
        map { join ",\n", map { $json->encode($_) } @$_ } \@rows, $checks;
}


main();
