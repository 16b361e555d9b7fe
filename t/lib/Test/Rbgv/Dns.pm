package Test::Rbgv::Dns;

# A name server that knows one address, under every name.
#
#     my $dns = Test::Rbgv::Dns->new(file => PATH);
#     $dns->port;                      # of UDP; a free one if not given
#     $dns->address;                   # 127.0.0.1 if not given
#     $dns->answer('127.0.0.2');       # for a second
#     $dns->nobody;                    # no such name
#     $dns->silent;                    # until told otherwise

use strict;
use warnings;

use IO::Socket::INET;
use POSIX ();


sub new {
    my ($class, %arg) = @_;

    my $socket = IO::Socket::INET->new(
        LocalAddr => $arg{address} // '127.0.0.1',
        LocalPort => $arg{port} // 0,
        Proto     => 'udp',
    ) or die "cannot listen: $!\n";

    my $self = bless {
        address => $socket->sockhost,
        port    => $socket->sockport,
        file    => $arg{file},
        owner   => $$,
    }, $class;
    $self->nobody;

    my $pid = fork() // die "fork: $!";

    if ($pid == 0) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM);
        eval { _run($socket, $arg{file}) };
        warn "dns: $@";
        POSIX::_exit(1);
    }

    $self->{pid} = $pid;
    return $self;
}


sub address { $_[0]{address} }
sub port    { $_[0]{port} }


sub answer { $_[0]->_tell($_[1]) }
sub nobody { $_[0]->_tell('nobody') }
sub silent { $_[0]->_tell('silent') }


sub DESTROY {
    my ($self) = @_;

    return if $self->{owner} != $$;

    local $?;
    kill 'TERM', $self->{pid};
    waitpid $self->{pid}, 0;
}


sub _tell {
    my ($self, $text) = @_;

    open my $file, '>', "$self->{file}.new" or die "$self->{file}: $!\n";
    print $file $text;
    close $file;

    rename "$self->{file}.new", $self->{file} or die "$self->{file}: $!\n";
}


# In the process of the name server.  RFC 1035, section 4.

sub _run {
    my ($socket, $path) = @_;

    while (defined $socket->recv(my $query, 512)) {
        open my $file, '<', $path or die "$path: $!\n";
        my $text = <$file>;

        next if $text eq 'silent';

        # one question: labels, an empty one, type and class
        my ($question) = substr($query, 12) =~ /^((?:[^\0][^\0]*)?\0.{4})/s;
        my $type       = unpack 'n', substr $question, -4;
        my $found      = $text ne 'nobody';
        my $address    = $found && $type == 1;

        # a response, recursion is desired and available
        my $flags = 0x8180 | ($found ? 0 : 3);
        my $reply = substr($query, 0, 2)
            . pack('n5', $flags, 1, $address ? 1 : 0, 0, 0) . $question;

        # the name is that at offset 12; type A, class IN, a second
        $reply .= pack 'nnnNna4', 0xc00c, 1, 1, 1, 4,
                       pack 'C4', split /\./, $text if $address;

        $socket->send($reply);
    }

    die "recv: $!\n";
}


1;
