#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for the key in the request: what is taken for one, and that whatever
# has not the form of a key is refused without a word to Redis.

use strict;
use warnings;

use Test::More;
use Test::Rbgv;
use Test::Rbgv::Key qw(make_key sign_key);
use Test::Rbgv::Usage qw(asked);

my $t = Test::Rbgv->new;

$t->start_redis;

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth on;
    log_format seen '$http_x_api_key $request_uri $status';
    access_log seen.log seen;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        location / { empty_gif; }
    }
    server {
        listen 127.0.0.1:%%PORT_1%%;
        underscores_in_headers on;
        location / { empty_gif; }
    }
}
EOC

my $key  = $t->create_key->{key};
my $core = join '_', 'B' x 12, 'b' x 32;

# the connection to Redis is made
is($t->get('/', key => $key)->{status}, 200, 'good key');

# name, code, header lines, and what else differs from a GET of / on port 0
my @refused = (
    [ 'input 1: no header', 'missing', [] ],
    [ 'input 1: empty', 'missing', ['X-Api-Key:'] ],
    [ 'input 1: spaces', 'missing', ['X-Api-Key:    '] ],
    [ 'input 1: tabs and spaces', 'missing', ["X-Api-Key: \t \t"] ],
    [ 'input 16: in the query', 'missing', [],
      uri => "/?x-api-key=$key&api_key=$key" ],
    [ 'input 16: in a cookie', 'missing', ["Cookie: X-Api-Key=$key"] ],
    [ 'input 16: in Authorization', 'missing', ["Authorization: Bearer $key"] ],
    [ 'input 4: underscores, dropped by nginx', 'missing',
      ["X_Api_Key: $key"] ],

    [ 'input 2: two identical', 'invalid', [ ("X-Api-Key: $key") x 2 ] ],
    [ 'input 2: two different', 'invalid',
      [ "X-Api-Key: $key", 'X-Api-Key: foo' ] ],
    [ 'input 2: good one last', 'invalid',
      [ 'X-Api-Key: foo', "X-Api-Key: $key" ] ],
    [ 'input 2: good one and an empty one', 'invalid',
      [ "X-Api-Key: $key", 'X-Api-Key:' ] ],
    [ 'input 2: two empty ones', 'invalid', [ ('X-Api-Key:') x 2 ] ],
    [ 'input 2: a hundred', 'invalid', [ ("X-Api-Key: $key") x 100 ] ],
    [ 'input 3: two cases', 'invalid',
      [ "x-api-key: $key", "X-API-KEY: $key" ] ],
    [ 'input 4: good one and its twin', 'invalid',
      [ "X-Api-Key: $key", "X_Api_Key: $key" ], port => 1 ],
    [ 'input 4: twin before the good one', 'invalid',
      [ 'X_Api-Key: foo', "X-Api-Key: $key" ], port => 1 ],

    map { [ $_->[0], 'invalid', ["X-Api-Key: $_->[1]"] ] } (
        [ 'input 5: list', "$key, $key" ],
        [ 'input 5: list with a foreign one', "$key,foo" ],
        [ 'inner space', $key =~ s/_/ /r ],
        [ 'quoted', qq("$key") ],
        [ 'upper case', uc $key ],
        [ 'other prefix', sign_key("rbgw_prod_$core") ],
        [ 'other separator', sign_key("rbgv-prod-$core") ],
        [ 'environment in capitals', sign_key("rbgv_Prod_$core") ],
        [ 'environment with a digit first', sign_key("rbgv_1prod_$core") ],
        [ 'sign in the id', sign_key("rbgv_prod_" . $core =~ s/B/+/r) ],
        [ 'sign in the secret', sign_key("rbgv_prod_" . $core =~ s/b/-/r) ],
        [ 'input 9: one character less', substr $key, 0, -1 ],
        [ 'input 9: one character more', "${key}0" ],
        [ 'input 9: one character', 'x' ],
        [ 'input 9: 58 characters, in form', sign_key("rbgv__$core") ],
        [ 'input 9: 75 characters, in form',
          sign_key('rbgv_' . 'e' x 17 . "_$core") ],
        [ 'input 9: all that a header may have', 'x' x 8178 ],
        [ 'input 11: wrong checksum',
          $key =~ s/.$//r . ($key =~ /0$/ ? 1 : 0) ],
        [ 'input 10: format string', '%n%s%V%*s' ],
        [ 'input 10: end of JSON', '"},"x":{"y":"\\' ],
        [ 'input 10: commands', 'foo\r\n*1\r\n$8\r\nFLUSHALL\r\n' ],
        [ 'input 10: encoded line end', 'foo%0d%0aX-Api-Key:%20bar' ],
        [ 'input 10: hash tag', '{foo}' ],
        [ 'input 10: shell', '$(reboot)`reboot`' ],
        [ 'input 7: overlong UTF-8', "foo\xc0\xaf" ],
        [ 'input 7: zero-width space', $key . "\xe2\x80\x8b" ],
        map { [ sprintf('input 7: byte 0x%02x', $_), $key =~ s/_/chr/er ] }
            1 .. 9, 11, 12, 14 .. 31, 127 .. 255
    ),
);

for (@refused) {
    my ($name, $code, $headers, %arg) = @$_;
    my $before = asked($t);
    my $response = $t->get($arg{uri} // '/', %arg, headers => $headers);

    refused($response, 401, "${code}_api_key", $name);
    is(asked($t) - $before, 0, "$name: nothing is asked of Redis");
}

# name, header lines
my @accepted = (
    [ 'input 3: lower case', ["x-api-key: $key"] ],
    [ 'input 3: upper case', ["X-API-KEY: $key"] ],
    [ 'input 6: tabs and spaces around', ["X-Api-Key: \t $key \t "] ],
    [ 'input 6: no space at all', ["X-Api-Key:$key"] ],
    [ 'other names beside it', [ 'X-Api-Keys: foo', "X-Api-Key: $key",
                                 'X-Api-Ke: foo', 'X-Api.Key: foo' ] ],
    [ 'input 4: underscores, dropped by nginx',
      [ "X-Api-Key: $key", 'X_Api_Key: foo' ] ],
    [ 'input 4: the only one is a twin', ["X_Api_Key: $key"], port => 1 ],
);

for (@accepted) {
    my ($name, $headers, %arg) = @$_;

    is($t->get('/', %arg, headers => $headers)->{status}, 200, $name);
}

# the shortest and the longest form are looked up

for my $environment ('e', 'e' x 16) {
    my $before = asked($t);
    my $value  = make_key(environment => $environment,
                          id => sprintf 'length%06d', length $environment);

    refused($t->get('/', key => $value), 401, 'invalid_api_key',
        'input 9: ' . length($value) . ' characters');
    cmp_ok(asked($t) - $before, '>', 0,
        'input 9: ' . length($value) . ' characters: asked');
}

# nginx itself refuses these

for (
    [ 'input 8: NUL', "X-Api-Key: foo\0bar" ],
    [ 'input 8: NUL behind the key', "X-Api-Key: $key\0" ],
    [ 'input 8: NUL in the name', "X-Api\0-Key: $key" ],
    [ 'input 8: bare CR', "X-Api-Key: foo\rbar" ],
    [ 'input 8: bare CR behind the key', "X-Api-Key: $key\rX-Foo: bar" ],
    [ 'input 8: folded line', "X-Api-Key:\r\n $key" ],
    [ 'input 8: folded line behind the key', "X-Api-Key: $key\r\n\tfoo" ],
    [ 'input 8: space before the colon', "X-Api-Key : $key" ],
    [ 'input 9: more than a header may have', 'X-Api-Key: ' . 'x' x 8192 ],
    [ 'input 9: 9000 bytes', 'X-Api-Key: ' . 'x' x 9000 ],
) {
    my ($name, $line) = @$_;

    is($t->get('/', headers => [$line])->{status}, 400, $name);
}

$t->stop;

my @seen = split /\n/, $t->read_log('seen.log');

cmp_ok(scalar(@seen), '>', @refused + @accepted, 'all requests are logged');
# what nginx itself refuses has not come to the module
is(join("\n", grep { !/ 400$/ && (m{^\S*$key} || m{^[^/]*foo}) } @seen), '',
    'input 37: no key in the access log');

$t->done;
