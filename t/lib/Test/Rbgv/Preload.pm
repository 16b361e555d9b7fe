package Test::Rbgv::Preload;

# A library of t/preload/, in front of what a program calls.
#
#     my $clock = Test::Rbgv::Preload->new($t, 'clock', 'RBGV_CLOCK');
#     $clock->set(0);
#     $clock->around(sub { ... });   # programs that are started there have it
#
# It reads one number from a file that the environment names, which may be set
# while it runs.

use strict;
use warnings;


sub new {
    my ($class, $t, $name, $variable) = @_;

    my $self = bless {
        library  => $t->dir . "/$name.so",
        number   => $t->dir . "/$name-number",
        variable => $variable,
    }, $class;

    my $source = $t->root . "/t/preload/$name.c";

    system('gcc', '-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', '-fPIC',
           '-shared', '-o', $self->{library}, $source) and die "gcc: $?\n";

    $t->write_file("$name-number", pack 'q', 0);

    return $self;
}


# in place: it is mapped by those who read it
sub set {
    my ($self, $number) = @_;

    open my $file, '+<', $self->{number} or die "$self->{number}: $!\n";
    syswrite $file, pack 'q', $number;
    close $file;
}


sub get {
    my ($self) = @_;

    open my $file, '<', $self->{number} or die "$self->{number}: $!\n";
    sysread $file, my $bytes, 8;

    return unpack 'q', $bytes;
}


sub around {
    my ($self, $code) = @_;

    local $ENV{LD_PRELOAD}         = $self->{library};
    local $ENV{ $self->{variable} } = $self->{number};

    return $code->();
}


1;
