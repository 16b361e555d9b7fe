package Test::Rbgv::Process;

# A program that a test started.  Whatever still runs when the test ends, in
# any way, is stopped.

use strict;
use warnings;

use Exporter qw(import);
use POSIX qw(WNOHANG);
use Time::HiRes qw(sleep time);

our @EXPORT_OK = qw(memory patience wait_for);

my $owner = $$;
my %running;


# new(command => [...], log => FILE, env => {...})
sub new {
    my ($class, %arg) = @_;

    my $pid = fork() // die "fork: $!";

    if ($pid == 0) {
        # a group of its own: the terminal's Ctrl-C reaches the test alone
        setpgrp;
        $SIG{$_} = 'DEFAULT' for qw(INT TERM PIPE);
        $ENV{$_} = $arg{env}{$_} for keys %{ $arg{env} // {} };

        open STDIN,  '<',  '/dev/null' or die "/dev/null: $!";
        open STDOUT, '>>', $arg{log}   or die "$arg{log}: $!";
        open STDERR, '>&', \*STDOUT    or die "stderr: $!";

        exec { $arg{command}[0] } @{ $arg{command} }
            or POSIX::_exit(127);
    }

    my $self = bless { pid => $pid, name => $arg{command}[0] }, $class;

    return $running{$pid} = $self;
}


sub pid { $_[0]{pid} }


sub alive {
    my ($self) = @_;

    return 0 if defined $self->{status};

    if (waitpid($self->{pid}, WNOHANG) == $self->{pid}) {
        $self->{status} = $?;
        delete $running{ $self->{pid} };
        return 0;
    }

    return 1;
}


sub signal {
    my ($self, $signal) = @_;

    return $self->alive && CORE::kill($signal, $self->{pid});
}


sub freeze { $_[0]->signal('STOP') }
sub thaw   { $_[0]->signal('CONT') }


# true if it has ended, which "status" then tells
sub wait {
    my ($self, $seconds) = @_;

    return eval { wait_for(sub { !$self->alive }, 'it to end', $seconds) };
}


sub status { $_[0]{status} }


# true if it ended by itself after the signal
sub stop {
    my ($self, $signal, $seconds) = @_;

    return 1 unless $self->alive;

    CORE::kill('CONT', -$self->{pid});
    $self->signal($signal // 'TERM');

    return 1 if $self->wait($seconds // 10);

    $self->kill;
    return 0;
}


# its children too: without nginx's master, workers go on
sub kill {
    my ($self) = @_;

    CORE::kill('KILL', -$self->{pid});
    $self->wait(10);

    return $self;
}


# seconds as they are on this machine: valgrind is that much slower
sub patience { $_[0] * ($ENV{RBGV_VALGRIND} ? 20 : 1) }


sub wait_for {
    my ($condition, $what, $seconds) = @_;

    my $deadline = time + patience($seconds // 30);

    while (1) {
        my $result = $condition->();
        return $result if $result;
        die "timed out waiting for $what\n" if time > $deadline;
        sleep 0.01;
    }
}


# the most that a process has had, in kB
sub memory {
    my ($pid) = @_;

    open my $file, '<', "/proc/$pid/status" or return 'inf';
    return (map { /^VmHWM:\s+(\d+)/ } <$file>)[0];
}


END {
    if ($$ == $owner) {
        local $?;
        $_->stop('TERM', 5) for values %running;
    }
}


1;
