#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Random input to the targets of t/fuzz: a second each, with what is in their
# corpora.  RBGV_LONG=1: a minute.

use strict;
use warnings;

use File::Basename qw(basename);
use JSON::PP qw(decode_json);
use Test::More;

use Test::Rbgv;

my $t = Test::Rbgv->new;
my $root = $t->root;
my $seconds = $ENV{RBGV_LONG} ? 60 : 1;
my $told = $t->dir . '/told';

my $table = `'$root/scripts/fuzz' --seconds $seconds --json 2>'$told'`;
my $failed = $?;
my $log = $t->read_log('told');

if (my ($why) = $log =~ /^scripts\/fuzz: ((?:missing packages|cannot install).*)/m)
{
    plan(skip_all => $why);
}

my @targets = map { basename($_) } glob("$root/t/fuzz/corpus/*");
my @rows = $table eq '' ? () : @{ decode_json($table) };

cmp_ok(scalar @targets, '>=', 7, 'targets');
is_deeply([ map { $_->{target} } @rows ], \@targets, 'all of them were run');

for my $row (@rows) {
    my @corpus = glob("$root/t/fuzz/corpus/$row->{target}/*");

    cmp_ok($row->{executions}, '>', @corpus,
        "$row->{target}: the corpus and more");
    is($row->{crashes}, 0, "$row->{target}: no promise is broken");

    note "$row->{target}: $row->{executions} executions,"
        . " $row->{executions_per_second} a second";
}

is($failed, 0, 'none has failed') or diag($log);

$t->done;
