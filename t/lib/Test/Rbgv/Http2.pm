package Test::Rbgv::Http2;

# A client's connection of HTTP/2 with many streams, by hand: RFC 9113, and of
# RFC 7541 what needs no state.
#
#     my $h2 = Test::Rbgv::Http2->new(port => PORT);
#     my @stream = $h2->ask([URI, KEY], ...);   # in one write
#     $h2->reset(@stream);
#     $h2->status($stream);                     # when it is answered, or reset

use strict;
use warnings;

use Socket qw(IPPROTO_TCP TCP_NODELAY);

use Test::Rbgv::Connection;

use constant {
    HEADERS       => 1,
    RST_STREAM    => 3,
    SETTINGS      => 4,
    PING          => 6,
    WINDOW_UPDATE => 8,

    ACK           => 1,
    LAST          => 5,    # of the stream and of its header
    CANCEL        => 8,
};


# as Test::Rbgv::Connection; with room for all answers
sub new {
    my ($class, %arg) = @_;

    my $connection = Test::Rbgv::Connection->new(%arg);

    # a frame goes out when it is sent
    setsockopt $connection->socket, IPPROTO_TCP, TCP_NODELAY, 1;

    $connection->send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                      . _frame(SETTINGS, 0, 0, '')
                      . _frame(WINDOW_UPDATE, 0, 0, pack 'N', 1 << 30));

    return bless {
        connection => $connection,
        next       => 1,
        status     => {},
    }, $class;
}


sub ask {
    my ($self, @requests) = @_;

    return $self->ask_block(map {
        my ($uri, $key) = @$_;

        # GET and http of the static table, two of its names, a new name
        "\x82\x86" . pack 'C C/a C C/a C C/a C/a', 4, $uri, 1, 'localhost',
                           0, 'x-api-key', $key;
    } @requests);
}


# the same with blocks of headers as they are sent
sub ask_block {
    my ($self, @blocks) = @_;

    my ($bytes, @streams) = '';

    for (@blocks) {
        push @streams, $self->{next};
        $self->{next} += 2;
        $bytes .= _frame(HEADERS, LAST, $streams[-1], $_);
    }

    $self->{connection}->send($bytes);

    return @streams;
}


sub reset {
    my ($self, @streams) = @_;

    $self->{connection}->send(join '', map {
        _frame(RST_STREAM, 0, $_, pack 'N', CANCEL)
    } @streams);
}


sub status {
    my ($self, $stream) = @_;

    $self->_read while !defined $self->{status}{$stream};

    return $self->{status}{$stream};
}


sub close { $_[0]{connection}->close }


sub _frame {
    my ($type, $flags, $stream, $payload) = @_;

    return substr(pack('N', length $payload), 1)
        . pack('C C N', $type, $flags, $stream) . $payload;
}


sub _read {
    my ($self) = @_;

    my $c = $self->{connection};
    my ($high, $low, $type, $flags, $stream) = unpack 'C n C C N', $c->read(9);
    my $payload = $c->read(($high << 16) + $low);

    if ($type == PING && !($flags & ACK)) {
        $c->send(_frame(PING, ACK, 0, $payload));
    }

    $self->{status}{$stream} //= 'reset' if $type == RST_STREAM;

    return if $type != HEADERS;

    # the status comes first, behind a change of the size of the table:
    # an index of the static table, or its name and three digits
    my ($index, $digits) = $payload =~ /\A(?:\x20|\x3f.*?[\0-\x7f])?
                                        (?:([\x88-\x8e])|\x48\x03(\d+))/xs;

    $self->{status}{$stream} = $digits
        // (200, 204, 206, 304, 400, 404, 500)[ ord($index) - 0x88 ];
}


1;
