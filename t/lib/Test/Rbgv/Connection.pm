package Test::Rbgv::Connection;

# A client's connection, byte for byte: what is sent is what the test says.

use strict;
use warnings;

use Carp qw(croak);
use IO::Select;
use IO::Socket::INET;
use Time::HiRes qw(time);

use Test::Rbgv::Process qw(patience);


# new(port => PORT, timeout => SECONDS)
sub new {
    my ($class, %arg) = @_;

    my $socket = IO::Socket::INET->new(
        PeerAddr => '127.0.0.1',
        PeerPort => $arg{port},
        Timeout  => 10,
    ) or croak "cannot connect to port $arg{port}: $@";

    return bless {
        socket  => $socket,
        timeout => patience($arg{timeout} // 10),
        buffer  => '',
    }, $class;
}


sub socket { $_[0]{socket} }


sub send {
    my ($self, $bytes) = @_;

    local $SIG{PIPE} = 'IGNORE';

    while (length $bytes) {
        my $n = syswrite $self->{socket}, $bytes;
        last unless defined $n;
        substr $bytes, 0, $n, '';
    }

    return $self;
}


# One response: { status, reason, version, headers, body, text }.  "headers"
# holds a list of values a name, in lower case; "text" is all of it as it
# came.  undef if the connection was closed before the first byte.
sub response {
    my ($self, %arg) = @_;

    my $head = $self->_take(qr/\A(.*?\r\n)\r\n/s);
    return $head if !defined $head;

    my ($line, @fields) = split /\r\n/, $head;

    my ($version, $status, $reason) = $line =~ m{^HTTP/(\S+) (\d+) ?(.*)}
        or croak "not a status line: $line";

    my %headers;
    for (@fields) {
        my ($name, $value) = /^([^:]+):\s*(.*?)\s*$/ or croak "bad field: $_";
        push @{ $headers{ lc $name } }, $value;
    }

    my ($raw, $body) = ('', '');

    if (($arg{method} // '') ne 'HEAD' && $status !~ /^(?:1..|204|304)$/) {
        ($raw, $body) = $self->_body(\%headers);
    }

    return {
        version => $version,
        status  => $status + 0,
        reason  => $reason,
        headers => \%headers,
        body    => $body,
        text    => "$head\r\n$raw",
    };
}


# everything until the other side closes
sub rest {
    my ($self) = @_;

    1 while $self->_fill;
    my $rest = $self->{buffer};
    $self->{buffer} = '';

    return $rest;
}


# so many bytes
sub read {
    my ($self, $n) = @_;

    while (length $self->{buffer} < $n) {
        $self->_fill or croak "closed before $n bytes";
    }

    return substr $self->{buffer}, 0, $n, '';
}


# true if the other side has closed and nothing is left to read
sub closed {
    my ($self) = @_;

    return $self->{buffer} eq '' && !$self->_fill;
}


sub close { CORE::close($_[0]{socket}) }


# closes with a reset
sub abort {
    my ($self) = @_;

    setsockopt $self->{socket}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0);
    $self->close;
}


sub _body {
    my ($self, $headers) = @_;

    return $self->_chunks if $headers->{'transfer-encoding'};

    if ($headers->{'content-length'}) {
        my $body = $self->read($headers->{'content-length'}[0]);
        return ($body, $body);
    }

    my $body = $self->rest;
    return ($body, $body);
}


sub _chunks {
    my ($self) = @_;

    my ($raw, $body) = ('', '');

    while (1) {
        my $line = $self->_take(qr/\A([0-9a-fA-F]+)\r\n/)
            // croak 'closed within chunks';
        my $size = hex $line;

        my $chunk = $self->read($size + 2);
        $raw  .= "$line\r\n$chunk";
        $body .= substr $chunk, 0, $size;

        return ($raw, $body) if $size == 0;
    }
}


# removes what matches from the buffer and returns $1
sub _take {
    my ($self, $regex) = @_;

    while (1) {
        return $1 if $self->{buffer} =~ s/$regex//;
        next if $self->_fill;
        croak 'closed within a head' if $self->{buffer} ne '';
        return;
    }
}


# false at the end of the stream
sub _fill {
    my ($self) = @_;

    IO::Select->new($self->{socket})->can_read($self->{timeout})
        or croak "no answer within $self->{timeout} s";

    my $n = sysread $self->{socket}, $self->{buffer}, 65536,
        length $self->{buffer};

    return $n;
}


1;
