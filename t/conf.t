#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for the configuration: what is wrong stops "nginx -t" with a message
# that names it; what is right is so in every context.  Limits, store and
# pepper have files of their own.

use strict;
use warnings;

use Test::More;
use Test::Rbgv;
use Test::Rbgv::Conf;

my $t = Test::Rbgv->new;

$t->write_file(password => "geheim\n");
$t->write_file(pepper => 'p' x 16);

refuse_conf($t, 'location', @$_) for (
    [ 'rbgv_auth maybe;', qr/invalid value "maybe" in .*:\d+$/m ],
    [ 'rbgv_auth on off;', qr/number of arguments in "rbgv_auth"/ ],
    map({ [ "rbgv_auth_environment $_;",
            qr/environment "\Q@{[ (split)[-1] ]}\E" in "rbgv_auth_environm/ ] }
        'Prod', 'a-b', '1a', 'e' x 17, 'prod any_', 'dev *'),
    [ 'rbgv_auth_environment;', qr/arguments in "rbgv_auth_environment"/ ],
    map({ [ "rbgv_auth_realm '$_';",
            qr/invalid realm "\Q$_\E" in "rbgv_auth_realm"/ ] }
        'a"b', "a\x01b", "a\x7fb"),
    [ 'rbgv_auth_headers all;', qr/invalid value "all"/ ],
    [ 'rbgv_auth_log_level debug;', qr/invalid value "debug"/ ],
    map({ [ "rbgv_auth_unavailable $_;",
            qr/invalid value "$_" in "rbgv_auth_unavailable": it must be/ ] }
        'local', 'stale', 'stale=', 'stale=0', 'stale=1x', 'stale=-1'),
    [ 'rbgv_auth_limit_unavailable stale;', qr/invalid value "stale"/ ],
    [ 'rbgv_auth_hide_key yes;', qr/"yes" in "rbgv_auth_hide_key"/ ],
    [ 'rbgv_auth_opaque_keys 1;', qr/"1" in "rbgv_auth_opaque_keys"/ ],
    map({ [ "$_ 0;", qr/"$_" must be more than 0/ ],
          [ "$_ 1x;", qr/"$_" directive invalid value/ ] }
        'rbgv_auth_redis_timeout', 'rbgv_auth_redis_connect_timeout'),
);

refuse_conf($t, 'http', "rbgv_auth_prefix '$_';",
    qr/invalid prefix "\Q$_\E" in "rbgv_auth_prefix"/)
    for '', 'p' x 33, 'a{b', 'a*', 'a b', "a\x01";

refuse_conf($t, 'http', @$_) for (
    [ 'rbgv_auth_zone much;', qr/invalid size "much" in "rbgv_auth_zone"/ ],
    [ 'rbgv_auth_zone 4k;', qr/"4k" in "rbgv_auth_zone" is too small/ ],
    [ 'rbgv_auth_zone off; rbgv_auth_zone off;',
      qr/"rbgv_auth_zone" directive is duplicate/ ],
    map({ [ "rbgv_auth_lease $_;",
            qr/invalid value "$_" in "rbgv_auth_lease": it must be/ ] }
        '0', 'on', '1000000000'),
    [ 'rbgv_auth_lease off; rbgv_auth_lease off;',
      qr/"rbgv_auth_lease" directive is duplicate/ ],
);

# each directive, with a good value

my %good = (
    rbgv_auth => 'on', rbgv_auth_cost => 1, rbgv_auth_environment => 'prod',
    rbgv_auth_headers => 'off', rbgv_auth_hide_key => 'on',
    rbgv_auth_log_level => 'warn', rbgv_auth_opaque_keys => 'on',
    rbgv_auth_realm => 'api',
    rbgv_auth_redis => 'unix://u@/s', rbgv_auth_redis_connect_timeout => '1s',
    rbgv_auth_redis_password_file => '%%DIR%%/password',
    rbgv_auth_redis_timeout => '1s', rbgv_auth_unavailable => 'stale=1m',
    rbgv_auth_limit_unavailable => 'local',
);
my %good_http = (
    rbgv_auth_pepper_file => '%%DIR%%/pepper', rbgv_auth_prefix => 'p:',
);

refuse_conf($t, 'location', "$_ $good{$_};" x 2, qr/"$_" directive is dupl/)
    for sort keys %good;

for my $name (sort keys %good_http) {
    refuse_conf($t, 'http', "$name $good_http{$name};" x 2,
        qr/"$name" directive is duplicate/);
    refuse_conf($t, $_, "$name $good_http{$name};",
        qr/"$name" directive is not allowed here/) for 'server', 'location';
}

my $all = join "\n", map({ "$_ $good{$_};" } sort keys %good),
    'rbgv_auth_limit a 1r/1s;', 'rbgv_auth_limit a 2r/2m environment=e;';

accept_conf($t, 'http', join("\n", $all, map { "$_ $good_http{$_};" }
                                             sort keys %good_http),
    'all in http');
accept_conf($t, $_, $all, "all in $_") for 'server', 'location';

accept_conf($t, 'location', "limit_except GET { rbgv_auth $_; }")
    for 'on', 'off', 'dry_run';
refuse_conf($t, 'location', "limit_except GET { $_ $good{$_}; }",
    qr/"$_" directive is not allowed here/)
    for grep { $_ ne 'rbgv_auth' } sort keys %good;

accept_conf($t, 'location', "$_;") for (
    map({ "rbgv_auth_environment $_" } 'any', 'e' . 'e2' x 7, 'dev test prod'),
    map({ "rbgv_auth_headers $_" } qw(off ietf legacy both)),
    map({ "rbgv_auth_unavailable $_" } qw(deny stale=1 stale=500ms stale=1d)),
    map({ "rbgv_auth_limit_unavailable $_" } qw(local allow deny)),
    map({ "rbgv_auth_log_level $_" } qw(info notice warn error)),
    'rbgv_auth_realm ""', "rbgv_auth_realm 'my, é api'", 'rbgv_auth off',
);
accept_conf($t, 'http', 'rbgv_auth_prefix a.B_c-9:' . 'p' x 23 . ';');

$t->done;
