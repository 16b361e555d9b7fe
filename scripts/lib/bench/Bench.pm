package Bench;

# Runs of wrk, with what they cost nginx and Redis.

use strict;
use warnings;

use Exporter qw(import);
use File::Basename qw(dirname);
use IO::Socket::INET;
use JSON::PP;
use POSIX qw(_SC_CLK_TCK sysconf);
use Time::HiRes qw(sleep time);

our @EXPORT_OK = qw(combine commands cpu instructions measure median
                    print_rows read_keys request row slurp spread start_wrk
                    values_of wrk);

my $lib   = dirname(__FILE__);
my $ticks = sysconf(_SC_CLK_TCK);
my @rows;


# measure(url => URL, seconds => N, key => KEY or keys => FILE, nginx => PID,
# redis => PID, socket => PATH): 64 kept connections of one thread, or so many
# connections => N; with pause => MS, each of them waits so long on average
# between requests.
sub measure {
    my (%arg) = @_;

    my %pid     = (nginx => $arg{nginx}, redis => $arg{redis});
    my %before  = map { $_ => cpu($pid{$_}) } keys %pid;
    my %counted = commands($arg{socket});
    my ($busy, $steal) = machine();
    my $wrk   = children();
    my $start = time;

    open my $output, '-|', wrk(%arg) or die "wrk: $!\n";
    my $text = join '', <$output>;
    close $output or die "wrk failed:\n$text";

    my %m = $text =~ /^figures (.*)/m ? map { split /=/ } split ' ', $1 : ();

    $m{requests} or die "nothing was answered: $arg{url}\n$text";

    my $lasted = time - $start;
    my ($busy_now, $steal_now) = machine();
    my $own = children() - $wrk;
    $own += cpu($pid{$_}) - $before{$_} for keys %pid;

    my %now = commands($arg{socket});

    $m{"${_}_cpu"} = (cpu($pid{$_}) - $before{$_}) * 1e6 for keys %pid;
    $m{$_} = $now{$_} - $counted{$_} for keys %now;

    $m{others}  = $busy_now - $busy - $own;
    $m{steal}   = $steal_now - $steal;
    $m{seconds} = $lasted;
    $m{memory}  = memory($arg{nginx});

    return combine(\%m);
}


# one of several, with what is derived
sub combine {
    my (@parts) = @_;

    my %m;

    for my $name (qw(requests microseconds seconds nginx_cpu redis_cpu others
                     steal evalsha hgetall hget refused lost))
    {
        $m{$name} += $_->{$name} for @parts;
    }

    $m{$_} = median(values_of($_, @parts)) for qw(p50 p99);
    ($m{$_}) = sort { $b <=> $a } values_of($_, @parts) for qw(max memory);

    $m{rate}     = $m{requests} * 1e6 / $m{microseconds};
    $m{nginx_us} = $m{nginx_cpu} / $m{requests};
    $m{redis_us} = $m{redis_cpu} / $m{requests};

    # of the CPUs
    $m{others_share} = $m{others} > 0 ? $m{others} / $m{seconds} : 0;
    $m{steal_share}  = $m{steal} / $m{seconds};

    # HGET is what the script itself uses, too
    $m{commands} = ($m{evalsha} + $m{hgetall}) / $m{requests};

    return \%m;
}


sub values_of {
    my ($name, @parts) = @_;
    return map { $_->{$name} } @parts;
}


# the command; paths: of pair.lua, before the keys
sub wrk {
    my (%arg) = @_;

    my @cpu = defined $ENV{BENCH_CPU} ? ('taskset', '-c', $ENV{BENCH_CPU}) : ();

    # what else the machine does takes slices of its CPU, which p99 would show
    unshift @cpu, qw(nice -n -20) if @cpu && $> == 0;

    return (@cpu, 'wrk', '-t', 1, '-c', $arg{connections} // 64,
            '-d', "$arg{seconds}s", '-s', "$lib/" . ($arg{script} // 'wrk.lua'),
            (defined $arg{key} ? ('-H', "X-Api-Key: $arg{key}") : ()),
            $arg{url},
            (defined $arg{keys} ? ('--', @{ $arg{paths} // [] }, $arg{keys},
                                   $arg{pause} // ())
                                : ()));
}


# the same, as far as wrk takes it, with output => FILE; returns a pid
sub start_wrk {
    my (%arg) = @_;

    my $pid = fork // die "fork: $!\n";
    return $pid if $pid;

    open STDOUT, '>', $arg{output} or die "$arg{output}: $!\n";
    exec wrk(%arg);
    die "wrk: $!\n";
}


# seconds of CPU that a process has used
sub cpu {
    my ($pid) = @_;

    my $nanoseconds = 0;

    for my $file (glob "/proc/$pid/task/*/schedstat") {
        $nanoseconds += (split ' ', slurp($file))[0];
    }

    return $nanoseconds / 1e9 if $nanoseconds;

    # a kernel that does not tell
    my $stat = slurp("/proc/$pid/stat");
    my @field = split ' ', substr $stat, rindex($stat, ')') + 2;

    return ($field[11] + $field[12]) / $ticks;
}


# MB of a process; of what it shares with others, its part
sub memory {
    my ($pid) = @_;

    slurp("/proc/$pid/smaps_rollup") =~ /^Pss: +(\d+) kB/m
        or die "no size of process $pid\n";

    return $1 / 1024;
}


# and that ended children have
sub children {
    my (undef, undef, $user, $system) = times;
    return $user + $system;
}


# seconds that all CPUs were busy, and taken away by the hypervisor
sub machine {
    my @field = split ' ', slurp('/proc/stat');
    return (($field[1] + $field[2] + $field[3] + $field[6] + $field[7])
            / $ticks, $field[8] / $ticks);
}


sub slurp {
    my ($file) = @_;

    open my $fh, '<', $file or die "$file: $!\n";
    return join '', <$fh>;
}


# calls of the commands that the module sends, since Redis was started
sub commands {
    my ($socket) = @_;

    my %calls = map { $_ => 0 } qw(evalsha hgetall hget);

    open my $output, '-|', 'redis-cli', '-s', $socket, 'info', 'commandstats'
        or die "redis-cli: $!\n";

    while (<$output>) {
        $calls{$1} = $2 if /^cmdstat_(\w+):calls=(\d+)/ && exists $calls{$1};
    }

    close $output or die "redis-cli failed\n";

    return %calls;
}


sub read_keys {
    my ($file) = @_;
    return split /\n/, slurp($file);
}


# request(PORT, PATH, KEY...): one after the other, on one kept connection;
# undef: without a key.  Returns how many answers there were of each status.
sub request {
    my ($port, $path, @keys) = @_;

    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                       PeerPort => $port)
        or die "port $port: $!\n";

    my (%status, $buffer);

    for my $key (@keys) {
        my $header = defined $key ? "X-Api-Key: $key\r\n" : '';

        syswrite $socket, "GET $path HTTP/1.1\r\nHost: localhost\r\n"
                          . "$header\r\n";

        $buffer = '';

        while (1) {
            sysread $socket, $buffer, 65536, length $buffer
                or die "port $port: connection closed\n";

            my $head = index $buffer, "\r\n\r\n";
            next if $head < 0;

            my ($length) = $buffer =~ /^Content-Length: (\d+)/m;
            last if length $buffer >= $head + 4 + ($length // 0);
        }

        $status{ substr $buffer, 9, 3 }++;
    }

    return %status;
}


# instructions(PID, DIR, CODE): of a process under callgrind, which writes
# $dir/callgrind.out, while the code runs
sub instructions {
    my ($pid, $dir, $code) = @_;

    my $control = sub {
        my $said = qx(callgrind_control @_ $pid 2>&1);
        $? == 0 or die "callgrind_control @_: $said\n";
    };

    $control->('-i', 'on');
    $control->('-z');
    $code->();

    my %seen = map { $_ => 1 } glob "$dir/callgrind.out*";
    $control->('-d');
    $control->('-i', 'off');

    # which may be written later, if the machine is busy
    for (1 .. 100) {
        for my $new (grep { !$seen{$_} } glob "$dir/callgrind.out*") {
            return $1 if slurp($new) =~ /^(?:totals|summary): (\d+)/m;
        }

        sleep 0.1;
    }

    die "callgrind wrote nothing\n";
}


sub median {
    my @sorted = sort { $a <=> $b } @_;
    my $middle = @sorted / 2;

    return @sorted % 2 ? $sorted[$middle]
                       : ($sorted[$middle - 1] + $sorted[$middle]) / 2;
}


# (median, least, most)
sub spread {
    my @sorted = sort { $a <=> $b } @_;
    return (median(@sorted), $sorted[0], $sorted[-1]);
}


# row(text => TEXT, value => N or values => [N, ...], bound => N): of a table
sub row {
    my %row = @_;

    @row{qw(value min max)} = spread(@{ $row{values} }) if $row{values};
    delete $row{values};
    $row{pass} = $row{value} <= $row{bound} if defined $row{bound};

    push @rows, \%row;
}


sub print_rows { $ENV{BENCH_JSON} ? print_json() : print_table() }


sub print_table {
    for my $r (@rows) {
        printf "%-52s %12.2f %-22s %8s %s\n", $r->{text}, $r->{value},
            defined $r->{min} ? sprintf('%10.2f..%.2f', @$r{qw(min max)}) : '',
            defined $r->{bound} ? "<= $r->{bound}" : '',
            defined $r->{bound} ? $r->{pass} ? 'PASS' : 'FAIL' : '';
    }
}


sub print_json {
    for my $r (@rows) {
        $r->{pass} = $r->{pass} ? JSON::PP::true : JSON::PP::false
            if defined $r->{bound};
    }

    print JSON::PP->new->canonical->pretty->encode(\@rows);
}


1;
