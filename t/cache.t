#!/usr/bin/perl

# Tests for proxy_cache in a guarded location: by the line of docs/security.md
# an answer is given to its own key only, and without it to any good one.

use strict;
use warnings;

use File::Slurper qw(read_binary);
use Test::More;
use Test::Rbgv;
use Test::Rbgv::Key qw(make_key);
use Test::Rbgv::Usage qw(charged);

my $t = Test::Rbgv->new;

$t->start_redis;

my ($recipe) = read_binary($t->root . '/docs/security.md')
    =~ /^ *(proxy_cache_key .*;)$/m;

$t->write_conf(<<"EOC")->start_nginx;
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    proxy_cache_path %%DIR%%/cache keys_zone=cache:1m;
    proxy_cache cache;
    proxy_cache_valid 200 1h;
    proxy_set_header X-Key-Id \$rbgv_auth_key_id;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth on;
        rbgv_auth_limit default 90r/1h;
        add_header X-Cache \$upstream_cache_status always;
        location /by-key/ { $recipe proxy_pass http://127.0.0.1:%%PORT_1%%; }
        location /shared/ { proxy_pass http://127.0.0.1:%%PORT_1%%; }
    }
    server {
        listen 127.0.0.1:%%PORT_1%%;
        location / { return 200 "for \$http_x_key_id"; }
    }
}
EOC

my ($one, $two) = map { $t->create_key } 1, 2;

# URI, key, whose answer it is, and where from
for (
    [ '/by-key/x', $one, $one, 'MISS' ], [ '/by-key/x', $one, $one, 'HIT' ],
    [ '/by-key/x', $two, $two, 'MISS' ], [ '/by-key/x', $two, $two, 'HIT' ],
    [ '/by-key/x', $one, $one, 'HIT' ], [ '/by-key/y', $one, $one, 'MISS' ],

    # what the recipe is for
    [ '/shared/x', $one, $one, 'MISS' ], [ '/shared/x', $two, $one, 'HIT' ],
) {
    my ($uri, $key, $whose, $cache) = @$_;

    my $response;
    my $charges = 'calls:1 default:1';
    my $charged = charged($t, $key->{id}, $charges, sub {
        $response = $t->get($uri, key => $key->{key});
    });

    is("$response->{body}, $response->{headers}{'x-cache'}[0]",
        "for $whose->{id}, $cache", "input 36: $uri, $cache");
    is($charged, $charges, "input 36: $uri, $cache: charged");
}

for my $uri ('/by-key/x', '/shared/x') {
    refused($t->get($uri), 401, 'missing_api_key',
        "input 36: $uri without a key");
    refused($t->get($uri, key => make_key(id => $one->{id})), 401,
        'invalid_api_key', "input 36: $uri with a wrong secret");

    is($t->get($uri, key => $one->{key})->{body}, "for $one->{id}",
        "input 36: $uri, no refusal is kept");
}

$t->done;
