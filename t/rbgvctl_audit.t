#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for "rbgvctl audit": every change of rbgvctl has an entry.

use strict;
use warnings;

use JSON::PP;
use Test::More;

use Test::Rbgv;

my $t = Test::Rbgv->new;

$t->start_redis;

is_deeply([ $t->rbgvctl('audit') ], [ 0, '', "rbgvctl: no changes\n" ],
    'nothing yet');
is_deeply(audit(), [], 'nothing as JSON');

my $id = $t->create_key->{id};

for my $command ([ 'rotate', $id ], [ 'rotate', $id, '--cancel', '--force' ],
                 [ 'rotate', $id ], [ 'rotate', $id, '--finish', '--force' ],
                 [ 'disable', $id ], [ 'enable', $id ],
                 [ 'set', $id, '--note', 'x' ], [ 'delete', $id, '--yes' ],
                 [ 'environments', '--set', 'qa' ],
                 [ 'environments', '--remove', 'qa' ])
{
    is(($t->rbgvctl(@$command))[0], 0, join ' ', grep { $_ ne $id } @$command);
}

my $csv = $t->write_file('keys.csv', "client_id,environment,owner,sha256\n"
    . 'one-prod,prod,tests,' . 'a' x 64 . "\n"
    . 'two-prod,prod,tests,' . 'b' x 64 . "\n");

is(($t->rbgvctl('import', '--dry-run', $csv))[0], 0, 'what an import does');
is(($t->rbgvctl('import', $csv))[0], 0, 'import');

my $items = audit();

is_deeply([ map { $_->{action} } @$items ],
    [ qw(import environment environment delete set enable disable finish
         rotate cancel rotate create) ], 'changes, the newest first');

my %of_key = map { $_->{action} => $_ } grep { $_->{key_fingerprint} } @$items;

like(delete $of_key{delete}{at}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/,
    'when');
like(delete $of_key{delete}{by}, qr/^[\w.-]+$/, 'who');
is_deeply($of_key{delete}, { action => 'delete', key_fingerprint => $id,
    client_id => 'api-gateway-prod', source => 'rbgvctl',
    request_id => undef }, 'entry');
is($items->[1]{client_id}, 'qa', 'environment');

is(scalar @{ audit('--limit', 3) }, 3, 'limit');

my ($exit, $out) = $t->rbgvctl('audit', '--limit', 4);

is($exit, 0, 'table');
like($out, qr/^AT +ACTION +ID +NAME +BY +SOURCE$/m, 'heading');
like($out, qr/^\S+Z delete +$id api-gateway-prod \S+ +rbgvctl$/m, 'row');

is(($t->rbgvctl('audit', '--limit', $_))[0], 2, "limit $_")
    for 0, 1001, 'x';


# what is refused is no change

my $entries = $t->redis(XLEN => 'rbgv:audit');

is(($t->rbgvctl('disable', $id))[0], 1, 'no such key');
is(($t->rbgvctl('create', '--name', 'x-zz', '--environment', 'zz'))[0], 1,
    'no such environment');
is($t->redis(XLEN => 'rbgv:audit'), $entries, 'no entries');


# a change stays one if it cannot be written down

$t->redis(SET => 'rbgv:other', 1);
$t->redis(RENAME => 'rbgv:other', 'rbgv:audit');

($exit, $out, my $err) = $t->rbgvctl('--json', 'create', '--name',
    'last-prod', '--environment', 'prod');

is($exit, 0, 'created all the same');
like(decode_json($out)->{api_key}, qr/^rbgv_prod_/, 'and shown');
like($err, qr/the change is done, and is not in the audit stream/, 'with a note');

$t->done;


sub audit {
    return decode_json(($t->rbgvctl('--json', 'audit', @_))[1]);
}
