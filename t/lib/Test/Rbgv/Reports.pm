package Test::Rbgv::Reports;

# What sanitizers and valgrind find: a file in DIR for each process.

use strict;
use warnings;

use Exporter qw(import);
use File::Slurper qw(read_binary);

our @EXPORT_OK = qw(keep_reports reports valgrind);


# of all that is started from now on
sub keep_reports {
    my ($dir) = @_;

    $ENV{ASAN_OPTIONS}  = _options($ENV{ASAN_OPTIONS}, $dir);
    $ENV{UBSAN_OPTIONS} = _options($ENV{UBSAN_OPTIONS}, $dir,
                                   'print_stacktrace=1');
}


sub _options {
    my ($given, $dir, @more) = @_;

    return join ':', grep { defined } $given, "log_path=$dir/report", @more;
}


# The command that a program is run by.  It has no leaks told, because nginx
# leaves memory to the end of a process.
sub valgrind {
    my ($dir) = @_;

    return ('valgrind', '--quiet', "--log-file=$dir/report.%p",
            '--error-exitcode=99', '--child-silent-after-fork=no',
            '--leak-check=no');
}


sub reports {
    my ($dir) = @_;

    my $reports = join '', map { read_binary($_) } glob "$dir/report.*";

    # where clang comes without llvm
    return $reports =~ s/^==\d+==WARNING: .* external symbolizer!\n//mgr;
}


1;
