#!/usr/bin/perl

# Tests for docs/proof.md: each row has the tests that it names, and each test
# with the name of a row is in it.

use strict;
use warnings;

use File::Slurper qw(read_binary);
use Test::More;

use Test::Rbgv;

my $t = Test::Rbgv->new;
my $root = $t->root;

# of a table that is begun
my %rows = (fault => 38, input => 37, promise => 15);

my $proof = read_binary("$root/docs/proof.md");
my (@rows, %proven);

for my $table (sort keys %rows) {
    my ($text) = $proof =~ /^\| $table \| .*\n\|[-|]+\|\n((?:\|.*\n)*)/m;
    my @lines = split /\n/, $text // '';

    ok(defined $text, "a table of each $table");
    push @rows, map { row($table, $_) } @lines;

    next if !@lines;

    is_deeply([ map { $_->{name} } grep { $_->{table} eq $table } @rows ],
              [ map { "$table $_" } 1 .. $rows{$table} ],
              "every $table, in order");
}


# names of tests, by file: [ "fault 7", ... ]

for my $file (glob "$root/t/*.t") {
    my ($name) = $file =~ m{([^/]+)$};
    my %seen = map { $_ => 1 }
               read_binary($file) =~ /['"{(]((?:fault|input|promise) \d+): /g;

    push @{ $proven{$_} }, $name for keys %seen;
}

my %known = map { $_->{name} => 1 } @rows;

for my $row (@rows) {
    is_deeply([ sort @{ $row->{files} } ], [ sort @{ $proven{ $row->{name} }
                                                     // [] } ],
        "$row->{name}: the files with tests of that name");

    ok(@{ $row->{files} } || @{ $row->{rows} }
       || $row->{text} =~ /\| Does not apply: /,
        "$row->{name} is proven, or says why not");

    is_deeply([ grep { !$known{$_} } @{ $row->{rows} } ], [],
        "$row->{name}: rows that are there");
}

is_deeply([ grep { !$known{$_} } sort keys %proven ], [],
    'tests of rows that are there');

$t->done;


# | 7 | what | expected | [file.t](../t/file.t), fault 3 to 5 |
sub row {
    my ($table, $line) = @_;

    my ($n, $tests) = $line =~ /^\| (\d+) \| .* \| (.*) \|$/;

    return {
        name  => "$table " . ($n // 'of another form'),
        table => $table,
        text  => $line,
        files => [ ($tests // '') =~ m{\[([\w.]+)\]\(\.\./t/\1\)}g ],
        rows  => [ row_names($tests // '') ],
    };
}


sub row_names {
    my ($text) = @_;

    my @names;

    while ($text =~ /\b(fault|input) (\d+)(?: to (\d+))?/g) {
        push @names, map { "$1 $_" } $2 .. $3 // $2;
    }

    return @names;
}
