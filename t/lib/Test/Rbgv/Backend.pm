package Test::Rbgv::Backend;

# A server behind nginx whose answers are a test's, byte for byte.

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ();
use Socket qw(AF_UNIX SOCK_STREAM);

my %owner;


# new(port => PORT, answer => sub { my ($socket, $head, $body) = @_; ... });
# each request has a process and a connection of its own
sub new {
    my ($class, %arg) = @_;

    my $listen = IO::Socket::INET->new(
        LocalAddr => '127.0.0.1',
        LocalPort => $arg{port},
        ReuseAddr => 1,
        Listen    => 128,
    ) or die "cannot listen on $arg{port}: $!\n";

    my ($here, $there) = IO::Socket::UNIX->socketpair(AF_UNIX, SOCK_STREAM, 0)
        or die "socketpair: $!\n";
    my $pid = fork() // die "fork: $!";

    if ($pid == 0) {
        close $here;
        $SIG{$_}   = 'DEFAULT' for qw(INT TERM);
        $SIG{PIPE} = $SIG{CHLD} = 'IGNORE';
        eval { _run($listen, $there, $arg{answer}) };
        warn "backend: $@" if $@;
        POSIX::_exit(1);
    }

    close $there;
    $owner{$pid} = $$;

    return bless { pid => $pid, control => $here }, $class;
}


# It ends with the test in any case: its control socket is closed then.
sub DESTROY {
    my ($self) = @_;

    return if ($owner{ $self->{pid} } // 0) != $$;

    local $?;
    kill 'TERM', $self->{pid};
    waitpid $self->{pid}, 0;
}


sub _run {
    my ($listen, $control, $answer) = @_;

    my $select = IO::Select->new($listen, $control);

    while (1) {
        for my $socket ($select->can_read) {
            POSIX::_exit(0) if $socket == $control;

            my $client = $listen->accept // next;
            my $pid = fork() // die "fork: $!";
            next if $pid;

            # whatever happens to the test
            alarm 60;
            eval { $answer->($client, _request($client)) };
            warn "backend: $@" if $@;
            POSIX::_exit(0);
        }
    }
}


sub _request {
    my ($client) = @_;

    my ($head, $body) = ('', '');

    while ($head !~ /\r\n\r\n\z/) {
        $head .= readline($client) // POSIX::_exit(0);
    }

    read $client, $body, $1 if $head =~ /^Content-Length: (\d+)/mi;

    return ($head, $body);
}


1;
