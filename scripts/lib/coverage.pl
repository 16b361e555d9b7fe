#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# coverage.pl [--json] DIR: what was run of the files compiled in DIR, by the
# counters that gcov keeps beside their objects; and the functions with the most
# lines that were not.

use strict;
use warnings;

use Cwd qw(abs_path getcwd);
use Getopt::Long qw(GetOptions);
use JSON::PP;

my $json;
GetOptions('json' => \$json) && @ARGV == 1 or die "usage: $0 [--json] DIR\n";

my ($dir) = @ARGV;
my $holes = 20;

open my $gcovr, '-|', 'gcovr', '--root', '.', '--json', '--filter', 'src/',
    '--filter', 'ngx_http_rbgv_auth_module\.c', $dir
    or die "gcovr: $!\n";

my $report = decode_json(do { local $/; <$gcovr> // '' } || '{}');
close $gcovr or die "gcovr failed\n";

my $lines = merged($report->{files});
my @files = map { file($_, $lines->{$_}) } sort keys %$lines;
@files or die "no counters in $dir\n";

my %total = (file => 'total');

for my $file (@files) {
    $total{$_} += $file->{$_}
        for qw(lines lines_run branches branches_taken);
}

my @holes = sort { $b->{not_run} <=> $a->{not_run} || $a->{name} cmp $b->{name} }
            map { @{ delete $_->{functions} } } @files;

splice @holes, $holes if @holes > $holes;

if ($json) {
    print JSON::PP->new->canonical->pretty->encode(
        { files => \@files, total => \%total, holes => \@holes });
    exit;
}

printf "%-40s %6s %6s   %8s %6s\n", qw(file lines % branches %);
row($_) for @files, \%total;

printf "\n%-40s %-34s %s\n", 'function', 'file', 'lines not run';
printf "%-40s %-34s %d of %d\n", $_->{name}, short($_->{file}),
    @{$_}{qw(not_run lines)} for @holes;


sub row {
    my ($file) = @_;

    printf "%-40s %6d %6s   %8d %6s\n", short($file->{file}),
        $file->{lines}, percent(@{$file}{qw(lines_run lines)}),
        $file->{branches}, percent(@{$file}{qw(branches_taken branches)});
}


sub short { return $_[0] =~ s/^src\///r }


sub percent {
    my ($part, $all) = @_;

    return $all ? sprintf '%.1f', 100 * $part / $all : '-';
}


# Lines by file and number.  A file is compiled twice, for the module, by a
# link, and for rbgvctl: what either has run was run.
sub merged {
    my ($reports) = @_;

    my %merged;
    my $root = getcwd();

    for my $report (@$reports) {
        my $path = abs_path($report->{file}) =~ s/^\Q$root\E\///r;

        for my $line (grep { !$_->{'gcovr/noncode'} } @{ $report->{lines} }) {
            my $to = $merged{$path}{ $line->{line_number} }
                //= { count => 0, branches => [] };
            my $i = 0;

            $to->{count} += $line->{count};
            $to->{branches}[ $i++ ] += $_->{count} for @{ $line->{branches} };
        }
    }

    return \%merged;
}


# counts of a file, and those of its functions in which a line was not run
sub file {
    my ($path, $lines) = @_;

    my @branches = map { @{ $_->{branches} } } values %$lines;
    my @starts = functions($path);
    my %function;

    for my $number (keys %$lines) {
        my ($start) = grep { $_->[0] <= $number } @starts;
        my $function = $function{ $start->[1] }
            //= { name => $start->[1], file => $path, lines => 0, not_run => 0 };

        $function->{lines}++;
        $function->{not_run}++ if $lines->{$number}{count} == 0;
    }

    return {
        file           => $path,
        lines          => scalar keys %$lines,
        lines_run      => scalar(grep { $_->{count} > 0 } values %$lines),
        branches       => scalar @branches,
        branches_taken => scalar(grep { $_ > 0 } @branches),
        functions      => [ grep { $_->{not_run} > 0 } values %function ],
    };
}


# [ line, name ] of each, the last one first
sub functions {
    my ($path) = @_;

    my @starts = [ 0, '-' ];

    open my $file, '<', $path or die "$path: $!\n";

    while (my $line = <$file>) {
        unshift @starts, [ $., $1 ] if $line =~ /^(\w+)\(/;
    }

    return @starts;
}
