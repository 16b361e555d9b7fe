#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for what a refused client gets: status, header fields and body.

use strict;
use warnings;

use JSON::PP;
use List::Util qw(max min);
use Test::More;
use Test::Rbgv;
use Test::Rbgv::Key qw(make_key);
use Time::HiRes qw(time);

my $t = Test::Rbgv->new;
$t->allow_alert(qr/connect\(\) to unix:\S+\/none failed \(2:/);

$t->start_redis;
$t->write_file(password => "secret\n");

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
        location /id { add_header X-Id $request_id always; empty_gif; }
        location /realm { rbgv_auth_realm "my, api"; empty_gif; }
        location /test { rbgv_auth_environment dev test; empty_gif; }
        location /prod { rbgv_auth_environment any; empty_gif; }
        location /down { rbgv_auth_redis unix:%%DIR%%/none; empty_gif;
                         rbgv_auth_redis_password_file %%DIR%%/password; }
        location /tight { rbgv_auth_limit tight 1r/1h; empty_gif; }
        location /one { rbgv_auth_limit one 60r/1m; empty_gif; }
        location /cors {
            if ($request_method = OPTIONS) { return 204; }
            proxy_pass http://127.0.0.1:%%PORT_1%%;
        }
    }
    server {
        listen 127.0.0.1:%%PORT_1%%;
        rbgv_auth off;
        location / { return 200 $request_method; }
    }
}
EOC

my %key = map { $_ => $t->create_key(name => "$_-wire-prod") }
    qw(good disabled deleted revoked expired tight);

$t->rbgvctl('disable', $key{disabled}{id});
$t->redis(DEL => "rbgv:key:{$key{deleted}{id}}");
$t->redis(HSET => "rbgv:key:{$key{revoked}{id}}",
          map { $_ => 'disabled 1 0' } grep { /^secret:/ }
          $t->redis(HKEYS => "rbgv:key:{$key{revoked}{id}}"));
$t->redis(HSET => "rbgv:key:{$key{expired}{id}}", expires => int(time) - 1);

# 401

my @limits = (qw(ratelimit-policy ratelimit),
              map { "x-ratelimit-$_" } qw(limit remaining reset));
my $good   = $key{good}{key};

is($t->get('/', key => $good)->{status}, 200, 'good key');
is($t->get('/prod', key => $good)->{status}, 200, 'any environment');

my $missing = $t->get('/one');

refused($missing, 401, 'missing_api_key', 'no key');
is(fields($missing, @limits), '', 'no limits told to a stranger');
is(fields($missing, 'retry-after'), '', 'no time told to a stranger');
is(fields($missing, 'www-authenticate'), 'ApiKey realm="api"',
    'promise 14: challenge');
is(fields($t->get('/realm', key => 'foo'), 'www-authenticate'),
    'ApiKey realm="my, api"', 'promise 14: challenge with a realm');

my $malformed = $t->get('/one', key => 'foo');

refused($malformed, 401, 'invalid_api_key', 'malformed key');

for (
    [ 'wrong checksum', '/one', substr($good, 0, -6) . 'aaaaaa' ],
    [ 'unknown key', '/one', make_key(id => 'unknown00000') ],
    [ 'wrong secret', '/one', make_key(id => $key{good}{id}) ],
    [ 'disabled key', '/one', $key{disabled}{key} ],
    [ 'deleted key', '/one', $key{deleted}{key} ],
    [ 'revoked secret', '/one', $key{revoked}{key} ],
    [ 'expired key', '/one', $key{expired}{key} ],
    [ 'wrong environment', '/test', $good ],
) {
    my ($name, $uri, $value) = @$_;

    is(neutral($t->get($uri, key => $value)), neutral($malformed),
        "input 15: $name is refused as a malformed key is");
}

my $id = $t->get('/id');

is(decode_json($id->{body})->{error}{request_id}, fields($id, 'x-id'),
    'request_id is $request_id');

# 503

my $down = $t->get('/down', key => $good);

refused($down, 503, 'auth_unavailable', 'no store');
like(fields($down, 'retry-after'), qr/^[1-5]$/,
    'promise 14: 503, retry after some seconds');
is(fields($down, 'www-authenticate', @limits), '', 'no more on 503');

# 429

is($t->get('/tight', key => $key{tight}{key})->{status}, 200, 'in the quota');

my $limited = $t->get('/tight', key => $key{tight}{key});

refused($limited, 429, 'rate_limited', 'over the quota');
like(fields($limited, 'retry-after'), qr/^\d+$/,
    'promise 14: 429, retry after some seconds');
is(fields($limited, 'www-authenticate'), '', 'no challenge on 429');

# which of them it was cannot be told by the time either, once the zone has it

my %known = (
    'unknown key'  => make_key(id => 'unknown00000'),
    'wrong secret' => make_key(id => $key{good}{id}),
    map { ("$_ key" => $key{$_}{key}) } qw(disabled deleted expired revoked),
);
my %connection = map { $_ => $t->connect } keys %known;
my %took;

for my $round (1 .. 200) {
    for my $name (keys %known) {
        my $began = time;
        $connection{$name}->send(request_text($known{$name}))->response;
        push @{ $took{$name} }, time - $began if $round > 20;
    }
}

for my $name (sort keys %took) {
    my @sorted = sort { $a <=> $b } @{ $took{$name} };

    $took{$name} = [ map { 1e6 * $sorted[ $_ * $#sorted ] } 0.1, 0.5, 0.9 ];
    note sprintf "%-12s p10 %.0f us, p50 %.0f us, p90 %.0f us", $name,
        @{ $took{$name} };
}

cmp_ok(max(map { $_->[0] } values %took), '<=',
       min(map { $_->[2] } values %took), 'input 15: the times overlap');

# methods

for (
    [ 'without a key', 'missing_api_key' ],
    [ 'with a malformed one', 'invalid_api_key', key => 'foo' ],
) {
    my ($name, $code, @key) = @$_;

    refused($t->request($_, '/cors', @key), 401, $code, "input 26: $_ $name")
        for qw(POST DELETE PATCH PROPFIND FOO);
    refused($t->request(OPTIONS => '/one', @key), 401, $code,
        "input 26: OPTIONS $name");
    is($t->request(TRACE => '/one', @key)->{status}, 405,
        "input 26: TRACE $name, which nginx refuses");
}

is($t->request($_, '/cors', key => $good)->{body}, $_,
    "input 26: $_ with a key")
    for qw(GET POST DELETE PATCH PROPFIND FOO);
is($t->request(OPTIONS => '/cors')->{status}, 204,
    'input 26: OPTIONS where "return" answers it');

# HEAD and HTTP/1.0

for (
    [ '/one' ], [ '/one', 'foo' ], [ '/tight', $key{tight}{key} ],
) {
    my ($uri, $value) = @$_;
    my %arg  = defined $value ? (key => $value) : ();
    my $get  = $t->request('GET', $uri, %arg);
    my $head = $t->request('HEAD', $uri, %arg);

    is(neutral($head), neutral($get) =~ s/(?<=\r\n\r\n).*//rs,
        "input 26: HEAD: $get->{status} without its body");
}

like($t->http("GET /one HTTP/1.0\r\n\r\n"),
    qr/^HTTP\S+ 401 .*^Connection: close\r\n.*\r\n\r\n\{"error":\{.*\}\}$/ms,
    'input 27: HTTP/1.0');
like($t->http("GET /one HTTP/1.0\r\nX-Api-Key: $good\r\n\r\n"),
    qr/^HTTP\S+ 200 /, 'input 27: HTTP/1.0 with a key');

# a request of HTTP/0.9 has no header, and its answer has none either
like($t->http("GET /one\r\n"), qr/^\{"error":\{"code":"missing_api_key".*\}\}$/,
    'input 27: HTTP/0.9');

$t->done;


sub request_text {
    my ($value) = @_;

    return Test::Rbgv::request_text('GET', '/one', key => $value);
}


# the values of header fields, those that are there
sub fields {
    my ($response, @names) = @_;

    return join ' ', map { @{ $response->{headers}{$_} // [] } } @names;
}


# the bytes of a response without what differs from one to the next
sub neutral {
    my ($response) = @_;

    return $response->{text}
        =~ s/^Date: .*\r\n//mr
        =~ s/(?<="request_id":")[0-9a-f]{32}(?=")//r
        =~ s/^(Retry-After|RateLimit|X-RateLimit-Reset): .*\r\n/$1\r\n/gmr;
}
