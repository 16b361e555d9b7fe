# Two nginx hosts with two workers each never admit more than the quota in an
# interval of the window's length, by the clock of Redis.

use strict;
use warnings;

use IO::Socket::UNIX;
use List::Util qw(max sum0);
use POSIX ();
use Test::More;

use Test::Rbgv;
use Test::Rbgv::Load;
use Test::Rbgv::Script;

my $quota   = 1000;
my $window  = 10;
my $slice   = $window * 63493;
my $seconds = $ENV{RBGV_LONG} // 25;

my $t = Test::Rbgv->new;

$t->start_redis;
my $key = $t->create_key;
my $shift = Test::Rbgv::Script::shift_of($key->{id}, $window);

for my $host (0, 1) {
    $t->nginx("host$host")->write_conf(<<"EOC")->start;
%%TEST_GLOBALS%%
worker_processes 2;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    keepalive_requests 1000000;
    rbgv_auth_redis_timeout 5s;
    rbgv_auth_log_level info;
    error_log error.log notice;

    server {
        listen 127.0.0.1:%%PORT_$host%%;
        rbgv_auth on;
        rbgv_auth_limit default ${quota}r/${window}s;
        location / { empty_gif; }
    }
}
EOC
}


# Every admission writes a field whose first number is the slice it was
# counted in; MONITOR prints the time at which Redis ran that command.
sub monitor {
    my $socket = IO::Socket::UNIX->new(Peer => $t->redis_server->socket)
        or die "redis: $!";
    syswrite $socket, "MONITOR\r\n";
    readline $socket;

    my $pid = fork() // die "fork: $!";
    return $pid if $pid;

    open my $file, '>', $t->dir . '/monitor' or POSIX::_exit(1);

    while (<$socket>) {
        print $file $_ if index($_, ' lua] "HSET"') > 0;
        last if index($_, '"end of the test"') > 0;
    }

    close $file;
    POSIX::_exit(0);
}


my $monitor = monitor();

my $count = Test::Rbgv::Load->new(
    ports       => [ $t->port(0), $t->port(1) ],
    connections => 64,
    request     => Test::Rbgv::request_text('GET', '/', key => $key->{key}),
)->run_for($seconds);

$t->redis('ECHO', 'end of the test');
waitpid $monitor, 0;
is($?, 0, 'monitored to the end');

note join ', ', map { "$_: $count->{$_}" } sort keys %$count;

my @admitted;

for (split /\n/, $t->read_file('monitor')) {
    my ($time) = /^\+([\d.]+)/;
    my ($value) = /"w:default:$window" "((?:\\.|[^"\\])*)"/ or die "line: $_";

    $value =~ s/\\(?:x([0-9a-f]{2})|(.))/
        defined $1 ? chr hex $1
                   : { n => "\n", r => "\r", t => "\t", a => "\a",
                       b => "\b" }->{$2} \/\/ $2/gex;

    # several calls are counted at once
    my ($calls) = /"d:\d+" "(\d+)"/ or die "line: $_";

    # it was printed after the script had asked for the time, in the slice
    my $at  = unpack 'Q<', $value;
    my $end = ($at + 1) * $slice - $shift;

    push @admitted, map {
        { slice => $at, time => $time * 1e6 < $end ? $time * 1e6 : $end - 1 }
    } @admitted + 1 .. $calls;
}

my $first = $admitted[0]{time} + $window * 1e6;

is(scalar(grep { $_->{time} <= $first } @admitted), $quota,
   'input 31: the whole quota in the first window, and no more');
is(scalar @admitted, $count->{200},
   'input 31: all that were admitted were let pass');
is_deeply([ sort keys %$count ], [ 200, 429, 'failed', 'retried' ],
          'nothing but 200 and 429');
is($count->{failed} + $count->{retried}, 0, 'no request without an answer');


# the number of admissions in any interval that ends with one

my ($oldest, $most, $slices, %slice) = (0, 0, 0);

for my $i (0 .. $#admitted) {
    $oldest++ while $admitted[$oldest]{time}
                    < $admitted[$i]{time} - $window * 1e6;
    $most = max $most, $i - $oldest + 1;

    my $at = $admitted[$i]{slice};
    $slice{$at}++;
    $slices = max $slices, sum0 map { $slice{$_} // 0 } $at - 16 .. $at;
}

note scalar @admitted, " admitted, at most $most in $window s, ",
    "$slices in 17 slices";

is($most, $quota, 'input 32: at most the quota in any interval, and all of it');
is($slices, $quota, 'input 32: so in any 17 slices');
cmp_ok(scalar @admitted, '>', $quota * ($seconds / ($window + 2) - 1),
       'the quota is given back');

$t->done;
