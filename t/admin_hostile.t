#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for "rbgv_auth_admin": what it refuses, and what it stays with a store
# that does not do its part.

use strict;
use warnings;
use utf8;

use Digest::SHA qw(sha256_hex);
use JSON::PP;
use Test::More;

use Test::Rbgv;

my $t = Test::Rbgv->new;
my $redis = $t->start_redis;

my $uri = $redis->uri('rbgv-admin');
my $password = $redis->password_file('rbgv-admin');
my $gateway = $redis->uri('rbgv-gateway');
my $gateway_password = $redis->password_file('rbgv-gateway');

my $token = 'a-token-of-ops';

$t->write_file('tokens', sha256_hex($token) . " ops\n");

my $conf = <<"EOC";
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    server {
        listen 127.0.0.1:%%PORT_0%%;
        set_real_ip_from 127.0.0.1;
        real_ip_header X-Client;
        rbgv_auth on;

        location / {
            empty_gif;
        }

        location /v1/admin/ {
            rbgv_auth_admin;
            rbgv_auth_admin_token_file %%DIR%%/tokens;
            rbgv_auth_redis $uri;
            rbgv_auth_redis_password_file $password;
            rbgv_auth_redis_timeout 5s;
        }

        # with a login that may not change keys
        location /poor/ {
            rbgv_auth_admin;
            rbgv_auth_admin_token_file %%DIR%%/tokens;
            rbgv_auth_redis $gateway;
            rbgv_auth_redis_password_file $gateway_password;
            rbgv_auth_redis_timeout 5s;
        }
    }
}
EOC

$t->write_conf($conf);


# the configuration

like(check('rbgv_auth_admin_token_file %%DIR%%/tokens;', ''),
    qr/"rbgv_auth_admin" needs "rbgv_auth_admin_token_file"/,
    'no token file');
like(check('%%DIR%%/tokens', '%%DIR%%/none'),
    qr/cannot read the file ".*none" of "rbgv_auth_admin_token_file"/,
    'no such file');
like(check('rbgv_auth_admin;', 'rbgv_auth_admin; rbgv_auth on;'),
    qr/"rbgv_auth" is not "off" in a location with "rbgv_auth_admin"/,
    'both');
like(check('rbgv_auth_admin;', 'rbgv_auth_admin; rbgv_auth_admin;'),
    qr/"rbgv_auth_admin" directive is duplicate/, 'twice');
like(check('location /v1/admin/', 'location = /v1/admin/'),
    qr/needs a location that is given by a prefix/, 'exact location');
like(check('location /v1/admin/', 'location ~ /v1/admin/'),
    qr/needs a location that is given by a prefix/, 'regex location');

my %faults = (
    "# nobody\n\n"                      => 'there is no token in the file',
    "geheim\n"                          => 'line 1 .*SHA-256 of a token',
    "# x\n" . sha256_hex('') . "0\n"    => 'line 2 .*SHA-256 of a token',
    sha256_hex('') . " two words\n"     => 'label that is not one word',
    sha256_hex('') . " \"\n"            => 'label that is not one word',
    sha256_hex('') . ' ' . 'x' x 65     => 'label of more than 64',
    '#' x 65536                         => 'is too long',
);

for my $text (sort keys %faults) {
    $t->write_file('bad', $text);

    my $errors = check('%%DIR%%/tokens', '%%DIR%%/bad');

    like($errors, qr/$faults{$text}/, $faults{$text});
    unlike($errors, qr/geheim/, 'and it is not quoted');
}


$t->start_nginx;

# a token

refuses(401, 'missing_admin_token', 'no token', 'GET', 'config',
    headers => []);
refuses(401, 'missing_admin_token', 'empty token', 'GET', 'config',
    headers => ['X-Admin-Token: ']);
refuses(400, 'invalid_request', 'token in query string', 'GET',
    "config?X-Admin-Token=$token", headers => []);
refuses(400, 'invalid_request', 'token in both', 'GET',
    "config?token=$token");
refuses(401, 'invalid_admin_token', 'two tokens', 'GET', 'config',
    headers => [ "X-Admin-Token: $token", "X-Admin-Token: $token" ]);
refuses(401, 'invalid_admin_token', 'its digest', 'GET', 'config',
    headers => [ 'X-Admin-Token: ' . sha256_hex($token) ]);

my $r = refuses(401, 'missing_admin_token', 'HEAD without', 'HEAD', 'config',
    headers => []);
is($r->{headers}{'cache-control'}[0], 'no-store', 'not stored');


# places, methods, arguments

refuses(404, 'not_found', 'nothing there', 'GET', '');
refuses(404, 'not_found', 'no such thing', 'GET', 'keys/disable/x');
refuses(404, 'not_found', 'no id', 'GET', 'keys/short');
refuses(405, 'method_not_allowed', 'POST', 'POST', 'config', body => '{}');
$r = refuses(405, 'method_not_allowed', 'PUT', 'PUT', 'keys', body => '{}');
is($r->{headers}{allow}[0], 'GET, HEAD, POST', 'Allow');
$r = refuses(405, 'method_not_allowed', 'GET', 'GET', 'keys/disable');
is($r->{headers}{allow}[0], 'POST', 'Allow of a change');
refuses(405, 'method_not_allowed', 'DELETE', 'DELETE', 'keys/123456789012');

refuses(400, 'invalid_request', "arguments $_", 'GET', $_)
    for 'config?x=1', 'keys?limit=0', 'keys?limit=501', 'keys?limit=-1',
        'keys?limit=', 'keys?limit=9999999999999999999', 'keys?cursor=x',
        'keys?cursor=1', 'keys?cursor=1:', 'keys?cursor=-inf:0',
        'keys?cursor=1:1%0d%0aFLUSHALL', 'keys?cursor=1:9999999999',
        'audit?limit=1001', 'audit?cursor=1:1';


# what pages of other sites can send

refuses(403, 'cross_site_request', "Sec-Fetch-Site: $_", 'POST', 'keys',
    body => '{}', headers => [ json_headers(), "Sec-Fetch-Site: $_" ])
    for qw(cross-site same-site x);
refuses(400, 'invalid_request', "Sec-Fetch-Site: $_", 'POST', 'keys',
    body => '{}', headers => [ json_headers(), "Sec-Fetch-Site: $_" ])
    for qw(same-origin none);

for my $type ('text/plain', 'application/x-www-form-urlencoded',
              'application/jsonx', '')
{
    refuses(415, 'unsupported_media_type', "type \"$type\"", 'POST', 'keys',
        body => '{}', headers => [ "X-Admin-Token: $token",
                                   $type ? "Content-Type: $type" : () ]);
}

refuses(400, 'invalid_request', 'type with charset', 'POST', 'keys',
    body => '{}', headers => [ "X-Admin-Token: $token",
                               'Content-Type: Application/JSON; charset=x' ]);


# bodies

my %bodies = (
    'empty'          => '',
    'not JSON'       => '{"client_id":',
    'behind it'      => '{} {}',
    'an array'       => '[]',
    'a string'       => '"x"',
    'twice'          => '{"client_id":"a-prod","client_id":"b-prod"}',
    'deep'           => '[' x 60000,
    'deep objects'   => '{"client_id":' x 5000,
    'NUL'            => '{"client_id":"a\\u0000-prod","environment":"prod"}',
    'NUL itself'     => "{\"client_id\":\"a\0-prod\",\"environment\":\"prod\"}",
    'invalid UTF-8'  => "{\"client_id\":\"a\xff\",\"environment\":\"prod\"}",
    'lone surrogate' => '{"client_id":"\\ud800","environment":"prod"}',
    'huge number'    => '{"credits":1e999}',
);

refuses(400, 'invalid_request', $_, 'POST', 'keys', body => $bodies{$_})
    for sort keys %bodies;

my %good = (client_id => 'service-prod', environment => 'prod');

my @fields = (
    [ 'no name', client_id => undef, qr/^"client_id" is missing$/ ],
    [ 'no environment', environment => undef, qr/^"environment" is missing$/ ],
    [ 'unknown', nonsense => 1, qr/^There is no field "nonsense" here$/ ],
    [ 'of another', key_fingerprint => 'x' x 12, qr/"key_fingerprint" here$/ ],
    [ 'name: number', client_id => 1, qr/^"client_id" is not a string$/ ],
    [ 'name: form', client_id => '../x', qr/^"client_id" is not 2 to 63 / ],
    [ 'environment: form', environment => 'a:b', qr/^"environment" is not / ],
    [ 'environment: none', environment => 'zz', qr/no environment "zz"$/ ],
    [ 'owner: object', owner => {}, qr/^"owner" is not a string$/ ],
    [ 'owner: long', owner => 'x' x 129, qr/^"owner" is longer than 128 / ],
    [ 'owner: control', owner => "a\nb", qr/^"owner" has a control / ],
    [ 'note: C1', note => "a\x{9b}b", qr/^"note" has a control / ],
    [ 'note: long', note => 'x' x 1025, qr/^"note" is longer than 1024 / ],
    [ 'credits: string', credits => '5', qr/^"credits" is not a number/ ],
    [ 'credits: less', credits => -1, qr/^"credits" is not a number/ ],
    [ 'credits: real', credits => 1.5, qr/^"credits" is not a number/ ],
    [ 'credits: many', credits => 9007199254740992, qr/^"credits" is not / ],
    [ 'expires: number', expires => 5, qr/^"expires" is not a string$/ ],
    [ 'expires: form', expires => '90 days', qr/^"expires" is not a time/ ],
    [ 'expires: 0', expires => '0', qr/^"expires" is not a time/ ],
    [ 'expires: never', expires => 'never', qr/^"expires" is not a time/ ],
    [ 'limits: array', limits => [], qr/^"limits" is not an object/ ],
    [ 'limit: number', limits => { a => 1 }, qr/^The limit "a" is not a / ],
    [ 'limit: form', limits => { a => '1' }, qr/^The limit "a": it is / ],
    [ 'limit: none', limits => { a => 'none' }, qr/^The limit "a": it is / ],
    [ 'limit: name', limits => { 'a b' => '1r/1s' }, qr/^The limit "a b": / ],
    [ 'limits: many', limits => { map { ("p$_" => '1r/1s') } 1 .. 9 },
      qr/there are 8 limits already/ ],
    [ 'force: string', force => 'yes', qr/^"force" is not true or false$/ ],
);

for my $field (@fields) {
    my ($name, $key, $value, $message) = @$field;
    my $body = encode_json({ %good, $key => $value });

    $r = refuses(400, 'invalid_request', $name, 'POST', 'keys',
        body => $body);
    like(decode_json($r->{body})->{error}{message}, $message,
        "message of $name");
}

my @rotations = (
    {}, { key_fingerprint => 'rbgv_prod_x' }, { key_fingerprint => 5 },
    { key_fingerprint => "x" x 12, action => 'stop' },
    { key_fingerprint => "x" x 12, action => 'finish', grace => '1h' },
    { key_fingerprint => "x" x 12, grace => '-1h' },
    { key_fingerprint => "x" x 12, client_id => 'x-prod' },
);

for my $body (map { encode_json($_) } @rotations) {
    refuses(400, 'invalid_request', "rotate $body", 'POST', 'keys/rotate',
        body => $body);
}

refuses(400, 'invalid_request', 'nothing to set', 'POST', 'keys/set',
    body => '{"key_fingerprint":"xxxxxxxxxxxx"}');
refuses(409, 'conflict', 'generic name', 'POST', 'keys',
    body => '{"client_id":"test-key","environment":"prod"}');
refuses(409, 'conflict', 'name of another environment', 'POST', 'keys',
    body => '{"client_id":"service-dev","environment":"prod"}');

is(admin('POST', 'keys', body => encode_json({ %good, client_id => 'test-key',
    force => JSON::PP::true, owner => undef }))->{status}, 201, 'forced');


# size

my $note = 'x' x 1000;
my $padded = encode_json({ %good, note => $note });

is(admin('POST', 'keys', body => $padded . ' ' x (65536 - length $padded))
    ->{status}, 201, '64 KB');
refuses(413, 'request_too_large', 'one more', 'POST', 'keys',
    body => $padded . ' ' x (65537 - length $padded));

my $chunked = sub {
    my ($text) = @_;

    my $c = $t->connect;
    $c->send(join "\r\n", 'POST /v1/admin/keys HTTP/1.1', 'Host: localhost',
        json_headers(), 'Transfer-Encoding: chunked', 'Connection: close',
        '', map({ sprintf("%x\r\n%s", length, $_) } $text =~ /.{1,9000}/gs),
        "0\r\n\r\n");

    return $c->response(method => 'POST');
};

is($chunked->($padded)->{status}, 201, 'chunked');
is($chunked->($padded . ' ' x 65536)->{status}, 413, 'too many chunks');


# the connection stays in sync

my $c = $t->connect;

$c->send(text('POST', 'keys', body => 'x' x 3000) . text('POST', 'nothing',
    body => '{}') . text('GET', 'config'));

is(join(' ', map { $c->response->{status} } 1 .. 3), '400 404 200',
    'pipelined');


# what is stored is text, and comes out as it was

my $evil = '</script><img src=x onerror=alert(1)> ${jndi} %s {{7*7}} "\\ é ✓';

my $created = decode_json(admin('POST', 'keys',
    body => encode_json({ %good, owner => $evil, note => "\"$evil'" }))
    ->{body});

my $shown = admin('GET', "keys/$created->{key_fingerprint}");

is(decode_json($shown->{body})->{owner}, $evil, 'owner as it was');
is(decode_json($shown->{body})->{note}, "\"$evil'", 'note as it was');
is($shown->{headers}{'content-type'}[0], 'application/json', 'as JSON');
is($shown->{headers}{'x-content-type-options'}[0], 'nosniff',
    'and nothing else');

$t->redis(HSET => 'rbgv:key:{abcdefghijkl}', name => "\xff\x01bad",
    status => 'active', environment => 'prod', created => 'x',
    'secret:x' => 'y');
is(admin('GET', 'keys/abcdefghijkl')->{status}, 200, 'a foreign record');


# clients that do not wait

for my $text (text('GET', 'keys'),
    text('POST', 'keys', body => encode_json({ %good })),
    substr(text('POST', 'keys', body => encode_json({ %good })), 0, -5))
{
    for (1 .. 5) {
        $t->connect->send($text);
    }
}

is(admin('GET', 'config')->{status}, 200, 'after those that left');

$t->redis_freeze;
$c = $t->connect;
$c->send(text('POST', 'keys/disable',
    body => encode_json({ key_fingerprint => $created->{key_fingerprint} })));
ok(wait_for(sub { waiting() }), 'one waits for the store');
undef $c;
$t->redis_thaw;

ok(wait_for(sub { admin('GET', 'config')->{status} == 200 }),
    'fault 28: after one that left in the middle');


# a login that may not, a store that is not there

is(decode_json(poor('POST', 'keys/disable', body => encode_json({
    key_fingerprint => $created->{key_fingerprint} }))->{body})->{error}{code},
    'store_unavailable', 'login without permission');

my $schema = $t->redis(HGET => 'rbgv:meta', 'schema');

$t->redis(HSET => 'rbgv:meta', schema => 999);
refuses(503, 'store_unavailable', 'foreign store', 'POST', 'keys',
    body => encode_json({ %good }));
$t->redis(HSET => 'rbgv:meta', schema => $schema);

my $keys = $t->redis(ZCARD => 'rbgv:keys');

$t->allow_alert(qr/connect\(\) to unix:\S+ failed \(2:/);
$t->redis_kill;
ok(wait_for(sub { admin('GET', 'config')->{status} == 503 }), 'no store');
$r = refuses(503, 'store_unavailable', 'no store to change', 'POST', 'keys',
    body => encode_json({ %good }));
like($r->{headers}{'retry-after'}[0], qr/^[1-5]$/, 'Retry-After');


# guesses of others: of a network of IPv6, and of one IPv4 address, also where
# it comes to a socket of IPv6

for (
    [ '2001:db8::1', '2001:db8::2', '2001:db8:0:1::1' ],
    [ '::ffff:192.0.2.1', '192.0.2.1', '::ffff:192.0.2.2' ],
) {
    my ($guesser, $same, $other) = @$_;

    refused_code('X-Admin-Token: guess', "X-Client: $guesser") for 1 .. 12;

    is(refused_code('X-Admin-Token: guess', "X-Client: $same"),
        '429 rate_limited', "$guesser shuts out $same");
    is(refused_code('X-Admin-Token: guess', "X-Client: $other"),
        '401 invalid_admin_token', "$guesser does not shut out $other");
}


# guesses, last: they shut out this address

my %codes;

$codes{ refused_code('X-Admin-Token: guess') }++ for 1 .. 12;

cmp_ok($codes{'401 invalid_admin_token'}, '<=', 10, 'guesses');
cmp_ok($codes{'429 rate_limited'}, '>=', 2, 'and no more of them');

$r = refuses(429, 'rate_limited', 'a good token too', 'GET', 'config');
like($r->{headers}{'retry-after'}[0], qr/^\d+$/, 'when to come back');

unlike($t->read_log('error.log'), qr/\Q$token\E|guess/,
    'no token in the log');

$t->allow_alert(qr/refused "EVAL"/);
$t->done;


sub json_headers {
    return ("X-Admin-Token: $token", 'Content-Type: application/json');
}


sub admin {
    my ($method, $path, %arg) = @_;

    $arg{headers} //= [ json_headers() ];

    return $t->request($method, "/v1/admin/$path", %arg);
}


sub poor {
    my ($method, $path, %arg) = @_;

    return $t->request($method, "/poor/$path", %arg,
                       headers => [ json_headers() ]);
}


sub text {
    my ($method, $path, %arg) = @_;

    return Test::Rbgv::request_text($method, "/v1/admin/$path", %arg,
                                    headers => [ json_headers() ]);
}


sub refuses {
    my ($status, $code, $name, $method, $path, %arg) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $response = admin($method, $path, %arg);

    if ($method eq 'HEAD') {
        is($response->{status}, $status, $name);
        return $response;
    }

    my $error = eval { decode_json($response->{body})->{error} } // {};
    my $id = delete $error->{request_id} // '';
    my $message = delete $error->{message} // '';

    is_deeply([ $response->{status}, $error,
                scalar($id =~ /^[0-9a-f]{32}$/), $message ne '' ],
              [ $status, { code => $code }, 1, 1 ], $name)
        or diag(explain($response));

    return $response;
}


sub refused_code {
    my (@headers) = @_;

    my $response = admin('GET', 'config', headers => \@headers);

    return "$response->{status} "
           . decode_json($response->{body})->{error}{code};
}


# whether a request is being handled beside the one that asks
sub waiting {
    my $port = sprintf ':%04X', $t->port(0);

    open my $file, '<', '/proc/net/tcp' or die $!;
    return scalar grep { /^\s*\d+: \S+$port \S+ 01 / } <$file>;
}


sub check {
    my ($from, $to) = @_;

    my $bad = $conf;
    $bad =~ s/\Q$from\E/$to/;

    my @result = $t->check_conf($bad);

    return join '', map { $_ // '' } @result;
}
