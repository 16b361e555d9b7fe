#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for rbgv_auth_opaque_keys: what is taken for a key of another system,
# and that it is a key like any other.

use strict;
use warnings;

use Test::More;
use Test::Rbgv;
use Test::Rbgv::Key qw(derive_id digest make_key sign_key);
use Test::Rbgv::Usage qw(asked charged);

my $t = Test::Rbgv->new;

$t->start_redis;

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    rbgv_auth_redis_timeout 10s;
    %%REDIS%%
    rbgv_auth on;
    rbgv_auth_opaque_keys on;
    add_header X-Auth "$rbgv_auth_status,$rbgv_auth_key_id,$rbgv_auth_source"
               always;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        location / { empty_gif; }
        location /off { rbgv_auth_opaque_keys off; empty_gif; }
        location /to-off { try_files /none /off; }
        location /test { rbgv_auth_environment test; empty_gif; }
        location /limit { rbgv_auth_limit two 2r/1h; empty_gif; }
        location /seen { proxy_pass http://127.0.0.1:%%PORT_1%%; }
    }
    server {
        listen 127.0.0.1:%%PORT_1%%;
        rbgv_auth off;
        location / { return 200 'seen: $http_x_api_key'; }
    }
}
EOC

my ($pepper) = $t->read_file('pepper') =~ /^(\S+)/;
my $plain    = 'sk-live-4eC39HqLyjWDarjtT1zdp7dc';
my $visible  = join '', map { chr } 0x21 .. 0x7e;

# as they are accepted
my @texts = (
    [ 'an opaque key', $plain ],
    [ 'input 9: 16 characters', 'k' x 16 ],
    [ '74 characters', 'k' x 74 ],
    [ '75 characters', 'k' x 75 ],
    [ 'input 9: 256 characters', 'k' x 256 ],
    [ 'all that is visible', $visible ],
    [ 'a UUID', '3f2504e0-4f89-11d3-9a0c-0305e82c3301' ],
    [ 'a prefix in capitals', 'RBGV_' . $plain ],
    [ 'another separator', 'rbgv-prod-' . $plain ],
    [ 'a key of ours within', 'x' . make_key() ],
);

for (@texts) {
    my ($name, $text) = @$_;
    my $id = derive_id($text);

    is(answer('/', $text), "401 INVALID $id", "$name: not known");
    store($text);

    # as soon as the zone hears of it
    wait_for(sub { answer('/', $text) ne "401 INVALID $id" }, $name);
    is(answer('/', $text), "200 PASSED $id", "$name: known");
    is(answer('/', $text =~ s/.$/$& eq '~' ? '}' : '~'/er) =~ s/ \w+$//r,
        '401 INVALID', "$name: another end");
    is(answer('/off', $text), '401 INVALID ', "$name: not taken");
    is(answer('/', $text), "200 PASSED $id", "$name: taken still");
}

# what is none is refused without Redis, and as all others

my $core = join '_', 'B' x 12, 'b' x 32;

for (
    [ 'input 9: 15 characters', 'k' x 15 ],
    [ 'input 9: 257 characters', 'k' x 257 ],
    [ 'a space', 'sk live 4eC39HqLyjWDarjtT1zdp7dc' ],
    [ 'input 7: a tab', "sk\tlive-4eC39HqLyjWDarjtT1zdp7dc" ],
    [ 'input 7: DEL', "$plain\x7f" ],
    [ 'input 7: Latin-1', "$plain\xe9" ],
    [ 'input 7: UTF-8', "$plain\xc3\xa9" ],
    [ 'a key of ours, wrong checksum',
      make_key() =~ s/(.)$/$1 eq '0' ? 1 : 0/er ],
    [ 'a key of ours, cut', substr make_key(), 0, -1 ],
    [ 'a key of ours, too long', make_key() . '0' ],
    [ 'a key of ours, bad environment', sign_key("rbgv_Prod_$core") ],
    [ 'the prefix of ours', 'rbgv_' . $plain ],
) {
    my ($name, $text) = @$_;
    my $before = asked($t);
    my $response = $t->get('/', key => $text);

    refused($response, 401, 'invalid_api_key', "$name: refused");
    is($response->{headers}{'x-auth'}[0], 'INVALID,,', "$name: no key");
    is(asked($t) - $before, 0, "$name: nothing is asked of Redis");
}

refused($t->get('/', headers => [ ("X-Api-Key: $plain") x 2 ]), 401,
    'invalid_api_key', 'twice');

# an unknown one is remembered, while the zone is trusted

my $unknown = 'unknown-' . $plain;

ok(eval {
    wait_for(sub {
        my $before = asked($t);
        answer('/', $unknown) for 1 .. 5;
        asked($t) == $before;
    }, 'the zone');
}, 'unknown: nothing is asked of Redis');
is(answer('/', $unknown), '401 INVALID ' . derive_id($unknown), 'unknown');

# a key like any other

my $id = derive_id($plain);

is(charged($t, $id, 'calls:1', sub { answer('/', $plain) }), 'calls:1',
    'accounted');
is(answer('/test', $plain), "401 ENVIRONMENT $id", 'environment');
is(join(' ', map { (split / /, answer('/limit', $plain))[0] } 1 .. 3),
    '200 200 429', 'limited');
is($t->get('/seen', key => $plain)->{body}, 'seen: ', 'hidden');
is(answer('/to-off', $plain), "401 INVALID $id", 'redirected to where not');

my $ours = $t->create_key;
is(answer('/', $ours->{key}), "200 PASSED $ours->{id}", 'a key of ours');
is(answer('/off', $ours->{key}), "200 PASSED $ours->{id}",
    'a key of ours, where only those are taken');

$t->rbgvctl('disable', $id);
wait_for(sub { answer('/', $plain) eq "401 DISABLED $id" }, 'disabled');
is(answer('/', $plain), "401 DISABLED $id", 'disabled');

$t->stop;

like($t->read_log('error.log'), qr/INVALID, key: "$id", reason: malformed/,
    'log of the redirect');
is(join("\n", grep { index($t->read_log('error.log'), $_->[1]) >= 0
                     || index($t->read_log('access.log'), $_->[1]) >= 0 }
                   @texts), '', 'no key in a log');

$t->done;


# puts an opaque key into the store
sub store {
    my ($text) = @_;

    $t->redis(HSET => 'rbgv:key:{' . derive_id($text) . '}',
              name => 'opaque-prod', environment => 'prod', status => 'active',
              created => time, 'secret:' . digest($text, $pepper)
                               => 'active ' . time . ' 0');
}


# HTTP status, $rbgv_auth_status, $rbgv_auth_key_id
sub answer {
    my ($uri, $text) = @_;

    my $response = $t->get($uri, key => $text);
    my ($status, $id) = split /,/, $response->{headers}{'x-auth'}[0], -1;

    return "$response->{status} $status $id";
}
