#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for the configuration of limits and costs: what is wrong stops
# "nginx -t" with a message that names it.

use strict;
use warnings;

use Test::More;
use Test::Rbgv;
use Test::Rbgv::Conf;

my $t = Test::Rbgv->new;
my $limit = '"rbgv_auth_limit"';

refuse_conf($t, 'location', "rbgv_auth_limit $_->[0];", $_->[1]) for (
    map({ [ "a $_", qr/invalid limit "\Q$_\E" in $limit: .*not of the form/ ] }
        '600/1m', '600r/', 'r/1m', '600', '600r1m', '-1r/1m', '600q/1m',
        '0x5r/1m', '1.5r/1s'),
    map({ [ "a $_", qr/invalid limit "$_" in $limit: its quota is not/ ] }
        '0r/1m', '2147483648r/1m', '99999999999r/1m'),
    map({ [ "a $_", qr/invalid limit "$_" in $limit: its window is not/ ] }
        '600r/0s', '600r/367d', '600r/53w', '600r/1x', '600r/1s1m', '600r/ms',
        '600r/99999999999d'),
    [ '600r/1m', qr/invalid name "600r\/1m" in $limit: .*QUOTAr\/WINDOW/ ],
    [ 'a', qr/no limit follows the name "a" in $limit/ ],
    [ 'é 1r/1s', qr/invalid name "é" in $limit/ ],
    [ '"a b" 1r/1s', qr/invalid name "a b" in $limit/ ],
    [ '"a\";q=1" 1r/1s', qr/invalid name "a";q=1" in $limit/ ],
    [ '"" 1r/1s', qr/invalid name "" in $limit/ ],
    [ 'n' x 33 . ' 1r/1s', qr/invalid name "n{33}" in $limit/ ],
    map({ [ "a 1r/1s $_", qr/invalid parameter "$_" in $limit/ ] }
        'prod', 'environment=', 'environment=Prod', 'environment=e-e',
        'environment=e{17}' =~ s/e\{17}/'e' x 17/er),
    [ 'a 1r/1s environment=e 5', qr/number of arguments in $limit/ ],
    [ 'a 1r/1s; rbgv_auth_limit a 2r/1m', qr/duplicate name "a" in $limit/ ],
    [ 'a 1r/1s environment=e; rbgv_auth_limit a 2r/1m environment=e',
      qr/duplicate name "a" in $limit/ ],
    [ 'off; rbgv_auth_limit a 1r/1s', qr/$limit .* used together with "off"/ ],
    [ 'a 1r/1s; rbgv_auth_limit off', qr/name "off" in $limit/ ],
    [ join('; rbgv_auth_limit ', map { "n$_ 1r/1s" } 1 .. 9),
      qr/more than 8 limits in $limit, at "n9"/ ],
);

refuse_conf($t, 'location', "rbgv_auth_cost $_;",
    qr/invalid cost "$_" in "rbgv_auth_cost"/)
    for 'one', '-1', '1.5', '2147483648', '1m';
refuse_conf($t, 'location', 'rbgv_auth_cost $none;', qr/unknown "none" var/);

accept_conf($t, 'location', "rbgv_auth_limit $_;") for (
    'off',
    map({ "a $_" } '1r/1s', '2147483647r/366d', '5r/1h30m', '5r/60', '5r/4w'),
    'n' x 32 . ' 1r/1s', 'A.b_c-9 1r/1s',
    'a 1r/1s; rbgv_auth_limit a 2r/1s environment=e',
    join('; rbgv_auth_limit ', map { "n$_ 1r/1s" } 1 .. 8),
);
accept_conf($t, 'location', "rbgv_auth_cost $_;")
    for '0', '2147483647', '$arg_n', '1$arg_n';

$t->done;
