#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for internal redirects: the right answer, charged once.

use strict;
use warnings;

use Test::More;
use Test::Rbgv;
use Test::Rbgv::Key qw(make_key);
use Test::Rbgv::Usage qw(charged usage);

my $t = Test::Rbgv->new;

$t->start_redis;
$t->start_redis(name => 'two');
$t->write_file(page => 'a page');
mkdir $t->dir . '/dir' or die $!;
$t->write_file('dir/index.html' => 'an index');

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    limit_req_zone $uri zone=slow:1m rate=2r/s;
    root %%DIR%%;
    rbgv_auth on;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth_limit one 90r/1h;

        location = /page { }
        location /other/ { rbgv_auth_limit two 90r/1h; alias %%DIR%%/; }
        location /open/ { rbgv_auth off; alias %%DIR%%/; }
        location /free/ { rbgv_auth_limit off; alias %%DIR%%/; }
        location /test/ { rbgv_auth_environment test; alias %%DIR%%/; }
        location /slow/ { limit_req zone=slow burst=9;
                          rbgv_auth_redis_timeout 300ms;
                          rbgv_auth_limit two 90r/1h; alias %%DIR%%/; }
        location /store/ { %%REDIS_two%% alias %%DIR%%/; }
        location @open { rbgv_auth off; return 202 'named'; }
        location @page { try_files /page =404; }
        location @other { rbgv_auth_limit two 90r/1h;
                          try_files /page =404; }
        location @proxy { rewrite ^ /page break;
                          proxy_pass http://127.0.0.1:%%PORT_1%%; }

        location /error/ { rbgv_auth_limit none 1r/1h; rbgv_auth_cost 2;
            location /error/open { error_page 401 429 /open/page; }
            location /error/200 { error_page 401 429 =200 /open/page; }
            location /error/named { error_page 401 429 @open; }
            location /error/as-named { error_page 401 429 = @open; }
            location /error/guarded { error_page 401 429 /page; }
            location /error/guarded-200 { error_page 401 429 =200 /page; }
            location /error/proxy { error_page 401 429 @proxy; }
            location /error/away { error_page 401 429 http://localhost/; }
        }
        location /down/ { rbgv_auth_redis redis://127.0.0.1:1;
            location /down/open { error_page 503 /open/page; }
            location /down/guarded { error_page 503 /page; }
        }

        location /try/ {
            location /try/page { try_files /none /page; }
            location /try/other { try_files /none /other/page; }
            location /try/test { try_files /none /test/page; }
            location /try/store { try_files /none /store/page; }
            location /try/open { try_files /none /open/page; }
            location /try/named { try_files /none @page; }
            location /try/other-named { try_files /none @other; }
        }
        location /free-to/ { rbgv_auth_limit off;
            location /free-to/one { try_files /none /page; }
            location /free-to/slow { rbgv_auth_redis_timeout 300ms;
                                     try_files /none /slow/page; }
            location /free-to/store { try_files /none /store/page; }
            location /free-to/free { try_files /none /free/page; }
        }
        location /open-to/ { rbgv_auth off;
            location /open-to/page { try_files /none /page; }
        }
        location /dir/ { index none index.html; }
        location = /dir/index.html { rbgv_auth_limit two 90r/1h; }
        location /rewrite { rewrite ^ /other/page last; }

        location /accel/ { proxy_pass http://127.0.0.1:%%PORT_1%%; }
        location /open-accel/ { rbgv_auth off;
                                proxy_pass http://127.0.0.1:%%PORT_1%%; }
    }
    server {
        listen 127.0.0.1:%%PORT_1%%;
        rbgv_auth off;
        location / { }
        location ~ accel(/.*) { add_header X-Accel-Redirect $1;
                                add_header Cache-Control public;
                                return 200; }
    }
}
EOC

my $key  = $t->create_key;
my $good = $key->{key};

# name, URI, status, body or code, charges; with the key, without, with others
my @with_key = (
    [ 'a file', '/page', 200, 'a page', 'calls:1 one:1' ],

    map({ [ 'input 20: limited', "/error/$_->[0]", @$_[1, 2], 'limited:1' ] }
        [ 'open', 429, 'a page' ], [ '200', 200, 'a page' ],
        [ 'named', 429, 'named' ], [ 'as-named', 202, 'named' ],
        [ 'guarded', 429, 'a page' ], [ 'guarded-200', 200, 'a page' ],
        [ 'proxy', 429, 'a page' ], [ 'away', 302, qr/302 Found/ ]),

    [ 'input 20: no store', '/down/open', 503, 'a page', '' ],
    [ 'input 20: no store', '/down/guarded', 503, 'auth_unavailable', '' ],

    [ 'input 21: try_files', '/try/page', 200, 'a page', 'calls:1 one:1' ],
    [ 'input 21: try_files', '/try/other', 200, 'a page', 'calls:1 one:1' ],
    [ 'input 21: try_files', '/try/test', 401, 'invalid_api_key',
      'calls:1 one:1' ],
    [ 'input 21: try_files', '/try/open', 200, 'a page', 'calls:1 one:1' ],
    [ 'input 21: try_files', '/try/named', 200, 'a page', 'calls:1 one:1' ],
    [ 'input 21: try_files', '/try/other-named', 200, 'a page',
      'calls:1 one:1' ],
    [ 'no limit to one', '/free-to/one', 200, 'a page', 'calls:1 one:1' ],
    [ 'no limit to none', '/free-to/free', 200, 'a page', 'calls:1' ],
    [ 'open to guarded', '/open-to/page', 200, 'a page', 'calls:1 one:1' ],
    [ 'input 21: index', '/dir/', 200, 'an index', 'calls:1 one:1' ],
    [ 'input 21: rewrite', '/rewrite', 200, 'a page', 'calls:1 two:1' ],
    [ 'another store', '/try/store', 401, 'invalid_api_key',
      'calls:1 one:1' ],
    [ 'slow', '/free-to/slow', 200, 'a page', 'calls:1 two:1' ],

    [ 'input 21: accel to guarded', '/accel/page', 200, 'a page',
      'calls:1 one:1' ],
    [ 'input 21: accel to other', '/accel/other/page', 200, 'a page',
      'calls:1 one:1' ],
    [ 'input 21: accel to test', '/accel/test/page', 401, 'invalid_api_key',
      'calls:1 one:1' ],
    [ 'input 21: open accel to guarded', '/open-accel/page', 200, 'a page',
      'calls:1 one:1' ],
    [ 'input 21: open accel to open', '/open-accel/open/page', 200, 'a page',
      '' ],
);

answers(@$_, key => $good) for @with_key;

# a key that both stores have is charged in the first

my $two = $t->redis_server('two');

$two->command(HSET => "rbgv:key:{$key->{id}}",
              $t->redis(HGETALL => "rbgv:key:{$key->{id}}"));

answers('both stores', '/try/store', 200, 'a page', 'calls:1 one:1',
    key => $good);
is($two->command(EXISTS => "rbgv:use:{$key->{id}}"), 0, 'not in the second');
answers('both stores', '/free-to/store', 200, 'a page', 'calls:1',
    key => $good);
is((unpack 'Q<L<', $two->command(HGET => "rbgv:use:{$key->{id}}",
                                 'w:one:3600'))[1], 1, 'there in the second');

# Redis has as much time in the second location as in the first: the request
# comes there after 500 ms, and has to wait for 50 more

my $calls = usage($t, $key->{id})->{calls};
my $slow  = $t->connect->send("GET /free-to/slow HTTP/1.1\r\nHost: h\r\n"
                               . "X-Api-Key: $good\r\n\r\n");

wait_for(sub { usage($t, $key->{id})->{calls} > $calls }, 'the first call');
$t->redis(CLIENT => 'PAUSE', 550, 'WRITE');
is($slow->response->{status}, 200, 'slow redirect and slow Redis');

my @without_key = (
    [ 'open', 401, 'a page' ], [ '200', 200, 'a page' ],
    [ 'named', 401, 'named' ], [ 'as-named', 202, 'named' ],
    [ 'guarded', 401 ], [ 'guarded-200', 401 ],
    [ 'proxy', 401 ], [ 'away', 302, qr/302 Found/ ],
);

for (
    [ 'no key', 'missing_api_key' ],
    [ 'malformed key', 'invalid_api_key', key => 'foo' ],
    [ 'unknown key', 'invalid_api_key', key => make_key() ],
    [ 'wrong secret', 'invalid_api_key', key => make_key(id => $key->{id}) ],
) {
    my ($name, $code, @key) = @$_;

    answers("input 20: $name", "/error/$_->[0]", $_->[1], $_->[2] // $code,
            '', @key)
        for @without_key;

    answers("input 21: $name", $_, 401, $code, '', @key)
        for '/open-accel/page', '/open-to/page', '/accel/page', '/try/page',
            '/free-to/slow', '/rewrite';
}

$t->done;


# the answer, what it must not have twice, and what is charged
sub answers {
    my ($name, $uri, $status, $body, $charges, %arg) = @_;

    my $response;
    my $charged = charged($t, $key->{id}, $charges, sub {
        $response = $t->get($uri, %arg);
    });
    my $headers  = $response->{headers};

    $name .= ": $uri";

    if ($body =~ /^[a-z]+_/) {
        refused($response, $status, $body, "$name: answer");

    } else {
        like("$response->{status} $response->{body}", ref $body
             ? qr/^$status .*$body/s : qr/^$status \Q$body\E$/,
             "$name: answer");
    }

    my %once = (401 => 'www-authenticate', 429 => 'retry-after',
                503 => 'retry-after');

    is(scalar(@{ $headers->{ $once{$status} } // [] }), 1,
        "$name: one $once{$status}") if $once{$status};

    is($charged, $charges, "$name: charges");
}
