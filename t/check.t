#!/usr/bin/perl

# Tests that scripts/check finds nothing, and would find what is there.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;

my $t = Test::Rbgv->new;
my $root = $t->root;

my $output = `'$root/scripts/check' --quick 2>&1`;
is($?, 0, 'nothing is found') or diag($output);
like($output, qr/^scripts\/check: $_: good$/m, $_)
    for 'style', 'generated files', 'shell scripts';


# a file of C, and what is told of it

my $head = "\n/*\n * Copyright (C) The ngx_http_rbgv_auth authors\n */\n\n\n";
my $body = "static int\nf(void)\n{\n    return 0;\n}\n";

is(style("$head$body\n\n$body"), '', 'a good file');

my @bad = (
    [ "/* A file. */$head",         1, 'the first line is not empty' ],
    [ "\n/*\n * A file.\n */\n",    3, 'no copyright' ],
    [ "${head}int\tn;\n",           7, 'a tab' ],
    [ "${head}int n; \n",           7, 'a space at the end' ],
    [ "${head}int n;\r\n",          7, 'a space at the end' ],
    [ $head . 'x' x 81 . "\n",      7, 'longer than 80 columns' ],
    [ "$head// n\n",                7, 'a comment with //' ],
    [ "$head    if(n) {\n",         7, 'no space before (' ],
    [ "$head    a;\n    } else {\n", 8, 'no blank line before else' ],
    [ "$head\nint n;\n",            8, 'more than two blank lines' ],
    [ "$head$body\n$body",         13, 'not two blank lines before' ],
    [ "$head$body\n\n#include <a.h>\n", 14, 'included after a function' ],
    [ "$head$body\n\nstatic int f(int);\n",
                                   14, 'declared after a function' ],
);

is(style($_->[0]), "$_->[1]: $_->[2]", $_->[2]) for @bad;

$t->done;


sub style {
    my $path = $t->write_file('style.c', $_[0]);
    my @told = `awk -f '$root/scripts/lib/style.awk' '$path'`;

    return join "\n", map { chomp; s/^\Q$path\E://r } @told;
}
