package Test::Rbgv::Load;

# Keep-alive connections that ask again as soon as they are answered.

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use Time::HiRes qw(time);


# new(ports => [PORT, ...], connections => N, request => TEXT); connections
# are spread over the ports
sub new {
    my ($class, %arg) = @_;

    my @ports = @{ $arg{ports} };

    return bless {
        request => $arg{request},
        ports   => [ map { $ports[ $_ % @ports ] } 1 .. $arg{connections} ],
    }, $class;
}


# Asks while the condition, looked at before each request, is true, and waits
# until all is answered.  Returns how many answers there were of each status;
# "retried" counts requests on a used connection that was closed without an
# answer, as a server may do, and "failed" all others without one.
sub run {
    my ($self, $condition) = @_;

    my %count  = (retried => 0, failed => 0);
    my $select = IO::Select->new;
    my %client;

    local $SIG{PIPE} = 'IGNORE';

    my $open = sub {
        my ($port) = @_;

        my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                           PeerPort => $port)
            // die "cannot connect to port $port: $!\n";

        $select->add($socket);
        $client{$socket} = { port => $port, buffer => '', used => 0 };
        syswrite $socket, $self->{request};
    };

    my $close = sub {
        my ($socket) = @_;

        $select->remove($socket);
        return delete $client{$socket};
    };

    for (@{ $self->{ports} }) {
        $open->($_) if $condition->();
    }

    while ($select->count) {
        my @ready = $select->can_read(15) or die "no answer within 15 s\n";

        for my $socket (@ready) {
            my $c = $client{$socket};

            if (!sysread $socket, $c->{buffer}, 65536, length $c->{buffer}) {
                $close->($socket);
                $count{ $c->{used} && $c->{buffer} eq '' ? 'retried'
                                                         : 'failed' }++;
                $open->($c->{port});
                next;
            }

            my $response = _response(\$c->{buffer}) // next;
            my ($status) = $response =~ m{^HTTP/1.1 (\d+)};
            $count{ $status // 'failed' }++;
            $c->{used} = 1;

            my $more = $condition->();

            if ($response =~ /^Connection: close\r$/m) {
                $close->($socket);
                $open->($c->{port}) if $more;

            } elsif ($more) {
                syswrite $socket, $self->{request};

            } else {
                $close->($socket);
            }
        }
    }

    return \%count;
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
    return undef if $head < 0;

    my ($length) = $$buffer =~ /^Content-Length: (\d+)/m;
    $length = $head + 4 + ($length // 0);

    return undef if length $$buffer < $length;
    return substr $$buffer, 0, $length, '';
}


1;
