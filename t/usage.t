#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for rbgv:use:{id}: calls and refusals of a day, uses of each secret,
# and when the key was last used.

use strict;
use warnings;

use Test::More;
use Test::Rbgv;
use Test::Rbgv::Key qw(digest make_key);
use Test::Rbgv::Usage qw(charged);

my $t = Test::Rbgv->new;

$t->start_redis;

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth on;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        location / { empty_gif; }
        location /two { rbgv_auth_limit two 2r/1h; empty_gif; }
        location /three { rbgv_auth_cost 3; rbgv_auth_limit three 4r/1h;
                          rbgv_auth_limit ten 10r/1d; empty_gif; }
        location /test { rbgv_auth_environment test; empty_gif; }
    }
}
EOC

my $pepper = $t->read_file('pepper') =~ s/\n.*//rs;
my $key    = $t->create_key;
my $began  = time;

# name, what is charged, calls: URI and status
for (
    [ 'without a policy', 'calls:1', [ '/', 200 ] ],
    [ 'within a policy', 'calls:2 two:2', ([ '/two', 200 ]) x 2 ],
    [ 'above it', 'limited:3', ([ '/two', 429 ]) x 3 ],
    [ 'a higher cost', 'calls:1 ten:3 three:3', [ '/three', 200 ] ],
    [ 'one of two windows full', 'limited:1', [ '/three', 429 ] ],
    [ 'wrong environment', '', [ '/test', 401 ] ],
) {
    my ($name, $charges, @calls) = @$_;

    my $charged = charged($t, $key->{id}, $charges, sub {
        is($t->get($_->[0], key => $key->{key})->{status}, $_->[1],
            "$name: $_->[1]") for @calls;
    });

    is($charged, $charges, "$name: charges");
}

my %use = $t->redis(HGETALL => "rbgv:use:{$key->{id}}");

ok($use{last} >= $began && $use{last} <= time, 'last used') or diag $use{last};

my %kinds = map { s/\d+/N/r => 1 } grep { !/^[hsw]:/ } keys %use;

is_deeply([ sort keys %kinds ], [ 'd:N', 'last', 'r:N:limited' ],
    'fields of this day');
is_deeply([ grep { /^s:/ } keys %use ], [ secret($key->{key}) ],
    'field of the secret');
is($use{ secret($key->{key}) }, 4, 'uses of the secret');
cmp_ok($t->redis(TTL => "rbgv:use:{$key->{id}}"), '>', 92 * 86400, 'it ends');

# what is refused with 401 leaves no trace

my $victim = $t->create_key;
my $forged = make_key(id => $victim->{id});

is($t->get('/two', key => $forged)->{status}, 401, 'forged key') for 1 .. 3;
is($t->redis(EXISTS => "rbgv:use:{$victim->{id}}"), 0,
    'input 33: a forged key: nothing is counted');

$t->rbgvctl('disable', $victim->{id});

is($t->get('/two', key => $victim->{key})->{status}, 401, 'disabled key');
is($t->redis(EXISTS => "rbgv:use:{$victim->{id}}"), 0,
    'input 33: a disabled key: nothing is counted');

is_deeply([ sort $t->redis(KEYS => '*') ],
    [ sort qw(rbgv:keys rbgv:meta rbgv:audit rbgv:environments),
           (map { "rbgv:environment:$_" } qw(prod staging dev)),
           "rbgv:use:{$key->{id}}",
           map { "rbgv:key:{$_->{id}}" } $key, $victim ],
    'nothing else is in Redis');

$t->done;


# the field that counts the uses of a key's secret
sub secret {
    my ($text) = @_;

    return 's:' . substr digest($text, $pepper), 0, 16;
}
