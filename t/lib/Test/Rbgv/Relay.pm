package Test::Rbgv::Relay;

# A relay of bytes between nginx and a server, whatever they speak.  It keeps
# what both sides have said, and passes it on in pieces.
#
#     my $relay = Test::Rbgv::Relay->new(listen => PORT, to => PORT,
#                                        file => PATH, pieces => BYTES);
#
# Without "to" nobody is asked and nothing is answered, but for "answer", once
# there are bytes.  With "bytes" the pieces end after so many, and the rest
# goes as it comes.  With "cut" the n-th connection ends after n times so many
# bytes of the server.

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use POSIX ();
use Socket qw(IPPROTO_TCP SOMAXCONN TCP_NODELAY);
use Time::HiRes qw(sleep);


sub new {
    my ($class, %arg) = @_;

    my $listen = IO::Socket::INET->new(
        LocalAddr => '127.0.0.1',
        LocalPort => $arg{listen},
        ReuseAddr => 1,
        Listen    => SOMAXCONN,
    ) or die "cannot listen on $arg{listen}: $!\n";

    my $pid = fork() // die "fork: $!";

    if ($pid == 0) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM);
        $SIG{PIPE} = 'IGNORE';
        eval { _run($listen, %arg) };
        warn "relay: $@";
        POSIX::_exit(1);
    }

    return bless { pid => $pid, owner => $$, file => $arg{file} }, $class;
}


# what was said, by connection: [ { client => BYTES, server => BYTES }, ... ]
sub said {
    my ($self) = @_;

    open my $file, '<', $self->{file} or return [];
    my @said;

    while (my $line = <$file>) {
        # the last one may not be whole yet
        my ($n, $side, $hex) = $line =~ /^(\d+) (\w+) ([0-9a-f]*)\n/ or last;
        $said[$n]{$side} .= pack 'H*', $hex;
    }

    return [ map { { client => $_->{client} // '',
                     server => $_->{server} // '' } } @said ];
}


sub DESTROY {
    my ($self) = @_;

    return if $self->{owner} != $$;

    local $?;
    kill 'TERM', $self->{pid};
    waitpid $self->{pid}, 0;
}


# In the process of the relay

sub _run {
    my ($listen, %arg) = @_;

    my $select = IO::Select->new($listen);
    my ($n, %side) = 0;

    open my $file, '>>', $arg{file} or die "$arg{file}: $!\n";
    $file->autoflush(1);

    while (1) {
        for my $socket ($select->can_read) {
            if ($socket == $listen) {
                my @new = _accept($listen, $n++, $arg{to});
                $side{ $_->{socket} } = $_ for @new;
                $select->add(map { $_->{socket} } @new);
                next;
            }

            my $this = $side{$socket} // next;
            my $peer = $this->{peer};

            my $left = _left($peer, $arg{cut});

            if (!$left || !sysread $socket, my $bytes, $left) {
                for (grep { defined } $this, $peer) {
                    $select->remove($_->{socket});
                    delete $side{ $_->{socket} };
                    close $_->{socket};
                }
            } else {
                print $file "$this->{n} $this->{name} ",
                    unpack('H*', $bytes), "\n";

                _pass($peer, $bytes, \%arg) if $peer;
                syswrite $socket, $arg{answer}
                    if defined $arg{answer} && !$this->{answered}++;
            }
        }
    }
}


sub _accept {
    my ($listen, $n, $to) = @_;

    my $socket = $listen->accept // return;
    my $client = { n => $n, name => 'client', socket => $socket };

    setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1;
    return $client unless $to;

    my $other = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                      PeerPort => $to)
        // do { close $socket; return };
    my $server = { n => $n, name => 'server', socket => $other };

    setsockopt $other, IPPROTO_TCP, TCP_NODELAY, 1;
    $client->{peer} = $server;
    $server->{peer} = $client;

    return ($client, $server);
}


# how many bytes may be read for this side
sub _left {
    my ($peer, $cut) = @_;

    my $most = 65536;

    return $most if !$cut || !$peer || $peer->{name} ne 'client';

    my $left = $peer->{n} * $cut - ($peer->{passed} // 0);
    return $left < $most ? $left : $most;
}


sub _pass {
    my ($peer, $bytes, $arg) = @_;

    while (length $bytes) {
        my $slow = $arg->{pieces}
            && ($peer->{passed} // 0) < ($arg->{bytes} // 1e9);
        my $piece = $slow ? substr $bytes, 0, $arg->{pieces}, ''
                          : substr $bytes, 0, length $bytes, '';
        my $sent = 0;

        while ($sent < length $piece) {
            my $n = syswrite $peer->{socket}, $piece, length($piece) - $sent,
                $sent;
            return unless defined $n;
            $sent += $n;
        }

        $peer->{passed} += $sent;

        # so that each one is read alone
        sleep 0.0005 if $slow;
    }
}


1;
