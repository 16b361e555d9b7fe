package Test::Rbgv::Load;

# Keep-alive connections that ask again as soon as they are answered.

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use List::Util qw(max);
use POSIX ();
use Time::HiRes qw(time);


# new(ports => [PORT, ...], connections => N, request => TEXT or [TEXT, ...]);
# connections are spread over the ports, and then over the requests.  Also:
#
#     pause  => SECONDS   to the next request after a refusal; or
#     pauses => SECONDS   after any answer
#     rotate => 1         each connection asks all of the requests in turn
#     gone   => 1         a server may go away: its connections end
#     seen   => CODE      called with the number of the request, the status (or
#                         gone, retried, failed), the times of sending and
#                         receiving, and the text
sub new {
    my ($class, %arg) = @_;

    my @ports    = @{ $arg{ports} };
    my @requests = ref $arg{request} ? @{ $arg{request} } : $arg{request};

    return bless {
        %arg,
        clients => [
            map { {
                port    => $ports[ $_ % @ports ],
                request => $_ / @ports % @requests,
            } } 0 .. $arg{connections} - 1
        ],
        requests => \@requests,
    }, $class;
}


# Asks while the condition, looked at before each request, is true, and waits
# until all is answered.  Returns how many answers there were of each status;
# "retried" counts requests on a used connection that was closed without an
# answer, as a server may do, "gone" those that a lost server took with it, and
# "failed" all others without one.
sub run {
    my ($self, $condition) = @_;

    my %count  = (retried => 0, failed => 0);
    my $select = IO::Select->new;
    my (%client, @paused);

    local $SIG{PIPE} = 'IGNORE';

    my $send = sub {
        my ($c) = @_;

        $c->{request} = ($c->{request} + 1) % @{ $self->{requests} }
            if $self->{rotate};

        $c->{sent} = time;
        syswrite $c->{socket}, $self->{requests}[ $c->{request} ];
    };

    my $open = sub {
        my ($c) = @_;

        my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                           PeerPort => $c->{port});
        if (!$socket) {
            die "cannot connect to port $c->{port}: $!\n" unless $self->{gone};
            return;
        }

        @$c{qw(socket buffer used)} = ($socket, '', 0);
        $client{$socket} = $c;
        $select->add($socket);
        $send->($c);
    };

    my $close = sub {
        my ($c) = @_;

        $select->remove($c->{socket});
        delete $client{ $c->{socket} };
    };

    for (@{ $self->{clients} }) {
        $open->($_) if $condition->();
    }

    while ($select->count) {
        my $wait = 15;

        if (@paused) {
            $wait = $paused[0]{until} - time;
            $wait = 0 if $wait < 0;
        }

        my @ready = $select->can_read($wait);
        die "no answer within 15 s\n" if !@ready && !@paused;

        while (@paused && $paused[0]{until} <= time) {
            my $c = shift @paused;
            $c->{until} = 0;

            if ($condition->()) {
                $send->($c);
            } else {
                $close->($c);
            }
        }

        for my $socket (@ready) {
            my $c = $client{$socket} // next;

            if (!sysread $socket, $c->{buffer}, 65536, length $c->{buffer}) {
                $close->($c);

                if ($c->{until}) {
                    # closed while it had nothing to answer
                    $c->{until} = 0;
                    @paused = grep { $_ != $c } @paused;
                    $open->($c);
                    next;
                }

                my $how = $self->{gone}                      ? 'gone'
                        : $c->{used} && $c->{buffer} eq '' ? 'retried'
                                                           : 'failed';
                $count{$how}++;
                $self->{seen}->($c->{request}, $how, $c->{sent}, time, '')
                    if $self->{seen};
                $open->($c);
                next;
            }

            my $response = _response(\$c->{buffer}) // next;
            my ($status) = $response =~ m{^HTTP/1.1 (\d+)};
            $status //= 'failed';

            $count{$status}++;
            $c->{used} = 1;
            $self->{seen}->($c->{request}, $status, $c->{sent}, time,
                            $response) if $self->{seen};

            my $more  = $condition->();
            my $pause = $self->{pauses}
                // ($status eq '200' ? 0 : $self->{pause} // 0);

            if ($response =~ /^Connection: close\r$/m) {
                $close->($c);
                $open->($c) if $more;

            } elsif (!$more) {
                $close->($c);

            } elsif ($pause) {
                $c->{until} = time + $pause;
                push @paused, $c;

            } else {
                $send->($c);
            }
        }
    }

    return \%count;
}


# In a process of its own, which writes for each answer into the file: the
# number of the request, the status, the times of sending and receiving.
# Returns CODE that ends it, and returns that as [[...], ...].
sub start {
    my ($self, $path) = @_;

    pipe my $here, my $there or die "pipe: $!";
    my $pid = fork() // die "fork: $!";

    if ($pid == 0) {
        close $there;
        $SIG{$_} = 'DEFAULT' for qw(INT TERM);
        $here->blocking(0);

        open my $file, '>', $path or POSIX::_exit(1);

        $self->{seen} = sub { printf $file "%d %s %.6f %.6f\n", @_[0 .. 3] };

        eval {
            my $end;
            $self->run(sub { !($end ||= defined sysread $here, my $byte, 1) });
        };
        print $file "error $@" if $@;

        close $file;
        POSIX::_exit(0);
    }

    close $here;

    return sub {
        # other processes may have this end too: a byte rather than the end
        syswrite $there, '.';
        close $there;
        waitpid $pid, 0;

        open my $file, '<', $path or die "$path: $!";
        my @answers = map { [ split ] } <$file>;

        die "load: @{ $answers[-1] }\n" if $answers[-1][0] eq 'error';
        return \@answers;
    };
}


# the most admissions, [sent, came], that an interval of so many seconds surely
# holds
sub most {
    my ($window, @times) = @_;

    my @sent = sort { $a <=> $b } map { $_->[0] } @times;
    my @came = sort { $a <=> $b } map { $_->[1] } @times;
    my @late = grep { $_->[1] - $_->[0] > $window } @times;
    my ($most, $ended) = (0, 0);

    for my $before (0 .. $#sent) {
        my $from = $sent[$before];
        my $to   = $from + $window;

        $ended++ while $ended < @came && $came[$ended] <= $to;

        # what was sent before has ended too, but for what took so long
        my $around = grep { $_->[0] < $from && $_->[1] > $to } @late;
        $most = max $most, $ended - ($before - $around);
    }

    return $most;
}


# for so many seconds
sub run_for {
    my ($self, $seconds) = @_;

    my $end = time + $seconds;
    return $self->run(sub { time < $end });
}


sub _response {
    my ($buffer) = @_;

    my $head = index $$buffer, "\r\n\r\n";
    return if $head < 0;

    my ($length) = $$buffer =~ /^Content-Length: (\d+)/m;
    $length = $head + 4 + ($length // 0);

    return if length $$buffer < $length;
    return substr $$buffer, 0, $length, '';
}


1;
