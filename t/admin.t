#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for "rbgv_auth_admin": every request and its answer, and the life of a
# key.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use JSON::PP;
use Test::More;

use Test::Rbgv;

my $TIME = qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/;
my $ID = qr/^[0-9A-Za-z]{12}$/;

my $t = Test::Rbgv->new;
my $redis = $t->start_redis;

my $uri = $redis->uri('rbgv-admin');
my $password = $redis->password_file('rbgv-admin');

my $token = 'a-token-of-ops';

$t->write_file('tokens', "# who may\n\n" . sha256_hex('other') . "\n  "
               . sha256_hex($token) . " ops\n");

$t->write_conf(<<"EOC");
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth on;

        location / {
            rbgv_auth_limit default 600r/1m;
            rbgv_auth_limit burst 20r/1s environment=dev;
            empty_gif;
        }

        location /v1/admin/ {
            rbgv_auth_admin;
            rbgv_auth_admin_token_file %%DIR%%/tokens;
            rbgv_auth_redis $uri;
            rbgv_auth_redis_password_file $password;
            rbgv_auth_redis_timeout 5s;
        }
    }
}
EOC

$t->start_nginx;


# config

my ($status, $config) = admin(GET => 'config');

is($status, 200, 'config');
like(delete $config->{now}, $TIME, 'time');
like(delete $config->{zone}{capacity}, qr/^\d+$/, 'capacity');
is_deeply($config, {
    version      => '0.1.0',
    schema       => '1',
    environments => [
        { name => 'dev', rotation_seconds => undef,
          limits => { default => '60r/1m' } },
        { name => 'prod', rotation_seconds => 90 * 86400, limits => {} },
        { name => 'staging', rotation_seconds => 180 * 86400, limits => {} },
    ],
    limits       => [
        { name => 'default', quota => 600, window_seconds => 60,
          environment => undef },
        { name => 'burst', quota => 20, window_seconds => 1,
          environment => 'dev' },
    ],
    pepper       => JSON::PP::true,
    store        => { name => $config->{store}{name}, db => 0,
                      up => JSON::PP::true },
    zone         => { keys => 0 },
}, 'what it has');

my $r = request(GET => 'config');
my %headers = map { $_ => $r->{headers}{$_} } qw(cache-control content-type
    x-content-type-options content-security-policy referrer-policy);

is_deeply(\%headers, {
    'cache-control'           => ['no-store'],
    'content-type'            => ['application/json'],
    'x-content-type-options'  => ['nosniff'],
    'content-security-policy' =>
        ["default-src 'none'; frame-ancestors 'none'"],
    'referrer-policy'         => ['no-referrer'],
}, 'header');

$r = request(HEAD => 'config');
is($r->{status} . ($r->{body} // ''), '200', 'HEAD');


# no keys

is_deeply([ admin(GET => 'keys') ], [ 200, { items => [], cursor => undef } ],
    'no keys');


# the life of a key

($status, my $created) = admin(POST => 'keys', {
    client_id => 'api-gateway-prod', environment => 'prod', owner => 'team',
    note => 'for all', limits => { default => '100r/1m' }, credits => 1000,
    expires => '90d',
});

is($status, 201, 'create');
like(my $key = delete $created->{api_key}, qr/^rbgv_prod_\w+$/, 'key');
like(my $id = delete $created->{key_fingerprint}, $ID, 'id');
like(delete $created->{created_at}, $TIME, 'created');
like(delete $created->{expires_at}, $TIME, 'expires');
is_deeply($created, {
    client_id => 'api-gateway-prod', environment => 'prod', owner => 'team',
    note => 'for all', status => 'active', credits => 1000,
    limits => { default => '100r/1m' },
}, 'what was created');

is($t->get('/x', key => $key)->{status}, 200, 'the new key is good');

my $item;

ok(wait_for(sub {
    ($status, my $list) = admin(GET => 'keys');
    $item = $list->{items}[0];
    return $item->{requests_today};
}), 'its use is seen');

my $secret = delete $item->{secrets};
my %times;

$times{$_} = delete $item->{$_} for qw(created_at expires_at last_used_at
    rotation_due_at);

is(scalar(grep { /$TIME/ } values %times), 4, 'times');
is_deeply($item, {
    client_id => 'api-gateway-prod', key_fingerprint => $id,
    environment => 'prod', owner => 'team', note => 'for all',
    status => 'active', rotation_started_at => undef, rotated_at => undef,
    rotation_overdue => JSON::PP::false, requests_today => 1,
    requests_7d => 1, requests_30d => 1, refused_30d => 0,
    requests_days => [ (0) x 29, 1 ], refused_days => [ (0) x 30 ],
    credits => 1000, credits_spent => 0, credits_left => 1000,
    limits => { default => '100r/1m' },
}, 'item of the list');
is(scalar(@$secret), 1, 'one secret');
like($secret->[0]{digest}, qr/^[0-9a-f]{12}$/, 'part of its digest');
is($secret->[0]{uses}, 1, 'its uses');

my ($exit, $shown) = $t->rbgvctl('--json', 'show', $id);
my $ctl = decode_json($shown);
my %list = (%$item, %times, secrets => $secret);

is_deeply({ map { $_ => $list{$_} } keys %$ctl }, $ctl,
    'the same as in rbgvctl');

($status, my $detail) = admin(GET => "keys/$id");
is($status, 200, 'detail');

my $days = delete $detail->{days};

is_deeply({ map { $_ => delete $detail->{$_} }
            qw(requests refused rotation) },
    { requests => 1, refused => { limited => 0, credits => 0, job => 0 },
      rotation => undef }, 'of 30 days');
is(scalar(@$days), 30, 'days');
is_deeply($days->[29], { date => substr($ctl->{last_used_at}, 0, 10),
    requests => 1, refused => { limited => 0, credits => 0, job => 0 } },
    'today is last');
is_deeply($detail, \%list, 'the rest is as in the list');

($status, my $rotated) = admin(POST => 'keys/rotate',
    { key_fingerprint => $id, grace => '1h' });

is($status, 200, 'rotate');
like(my $new = delete $rotated->{api_key}, qr/^rbgv_prod_\w+$/, 'new key');
like(delete $rotated->{rotation_started_at}, $TIME, 'when it began');
is_deeply($rotated, { key_fingerprint => $id,
    client_id => 'api-gateway-prod', environment => 'prod' }, 'of the same');

is(answer($new), 200, 'the new secret is good');
is(answer($key), 200, 'the old one too');

refuses(409, 'conflict', qr/^A rotation of key $id is under way since /,
    'a second rotation', POST => 'keys/rotate', { key_fingerprint => $id });

($status, $detail) = admin(GET => "keys/$id");
my $rotation = $detail->{rotation};

like($rotation->{rotation_started_at}, $TIME, 'rotation');
like($rotation->{safe_at}, $TIME, 'when it is safe');
is_deeply([ map { $_->{old} } @{ $rotation->{secrets} } ],
    [ JSON::PP::true, JSON::PP::false ], 'old and new secret');
is_deeply([ sort keys %{ $rotation->{hours}[0] } ],
    [ qw(hour new_uses old_uses) ], 'uses by the hour');
like($rotation->{verdict}, qr/^(?:used|watch)$/, 'verdict');

refuses(409, 'conflict', qr/; try again when .* until \d/, 'too early', POST =>
    'keys/rotate', { key_fingerprint => $id, action => 'finish' });

($status, my $finished) = admin(POST => 'keys/rotate',
    { key_fingerprint => $id, action => 'finish',
      force => JSON::PP::true });

is($status, 200, 'finish');
like(delete $finished->{rotated_at}, $TIME, 'when');
is_deeply($finished, { key_fingerprint => $id, secrets_ended => 1 },
    'the old secret is ended');
ok(wait_for(sub { answer($key) == 401 }), 'the old key is refused');
is(answer($new), 200, 'the new one is not');

refuses(409, 'conflict', qr/^No rotation of key/, 'nothing to cancel', POST =>
    'keys/rotate', { key_fingerprint => $id, action => 'cancel' });

is_deeply([ admin(POST => 'keys/disable', { key_fingerprint => $id }) ],
    [ 200, { key_fingerprint => $id, status => 'disabled' } ], 'disable');
ok(wait_for(sub { answer($new) == 401 }), 'refused');

is_deeply([ admin(POST => 'keys/enable', { key_fingerprint => $id }) ],
    [ 200, { key_fingerprint => $id, status => 'active' } ], 'enable');
ok(wait_for(sub { answer($new) == 200 }), 'good again');

is_deeply([ admin(POST => 'keys/set', { key_fingerprint => $id,
    owner => '', note => 'x', credits => '+5', expires => 'never',
    limits => { default => 'none', burst => '5r/1s' },
    client_id => 'api-edge-prod' }) ],
    [ 200, { key_fingerprint => $id, status => 'changed' } ], 'set');

($status, $detail) = admin(GET => "keys/$id");
is_deeply({ map { $_ => $detail->{$_} } qw(client_id owner note credits
    expires_at limits) },
    { client_id => 'api-edge-prod', owner => undef, note => 'x',
      credits => 1005, expires_at => undef, limits => { burst => '5r/1s' } },
    'what was set');

refuses(409, 'conflict', qr/^The name of key $id is not "x-prod"$/,
    'another name', POST => 'keys/delete',
    { key_fingerprint => $id, client_id => 'x-prod' });

is_deeply([ admin(POST => 'keys/delete', { key_fingerprint => $id,
    client_id => 'api-edge-prod' }) ],
    [ 200, { key_fingerprint => $id, status => 'deleted' } ], 'delete');
ok(wait_for(sub { answer($new) == 401 }), 'deleted');

for my $what (qw(delete disable enable rotate set)) {
    refuses(404, 'not_found', qr/^There is no key $id$/, "$what of nothing",
        POST => "keys/$what", { key_fingerprint => $id,
                                $what eq 'set' ? (note => 'x') : () });
}

refuses(404, 'not_found', qr/^There is no key $id$/, 'detail of nothing',
    GET => "keys/$id");


# the audit stream, here and in rbgvctl

($status, my $audit) = admin(GET => 'audit');

is($status, 200, 'audit');
is_deeply([ map { $_->{action} } @{ $audit->{items} } ],
    [ qw(delete set enable disable finish rotate create) ], 'changes');

my $entry = $audit->{items}[0];

like(delete $entry->{at}, $TIME, 'when');
like(delete $entry->{request_id}, qr/^[0-9a-f]{32}$/, 'request');
is_deeply($entry, { action => 'delete', key_fingerprint => $id,
    client_id => 'api-edge-prod', by => 'ops', source => 'api' }, 'entry');

is(scalar @{ (admin(GET => 'audit?limit=2'))[1]{items} }, 2, 'limit');

my $log = $t->read_log('error.log');

like($log, qr/\[notice\] .*rbgv_auth: admin: delete, key: "$id", by: "ops", /,
    'log');
unlike($log . encode_json($t->redis(XRANGE => 'rbgv:audit', '-', '+')),
    qr/\Q$key\E|\Q$new\E|\Q$token\E/, 'no secret in log and stream');


# pages

my @ids = map { $t->create_key(name => "page$_-prod")->{id} } 1 .. 5;
my (@seen, $cursor, $pages);

do {
    ($status, my $page) = admin(GET => 'keys?limit=2'
        . (defined $cursor ? "&cursor=$cursor" : ''));
    push @seen, map { $_->{key_fingerprint} } @{ $page->{items} };
    $cursor = $page->{cursor};
} while (defined $cursor && ++$pages < 9);

is_deeply([ sort @seen ], [ sort @ids ], 'pages');

($status, my $page) = admin(GET => 'keys?limit=500');
is(scalar @{ $page->{items} }, 5, 'one page');
is($page->{cursor}, undef, 'no other');

is((admin(GET => 'audit?limit=1'))[1]{items}[0]{source}, 'rbgvctl',
    'audit of rbgvctl');

$t->done;


sub request {
    my ($method, $path, $body, %arg) = @_;

    return $t->request($method, "/v1/admin/$path",
        headers => [ "X-Admin-Token: $token",
                     $body ? 'Content-Type: application/json' : () ],
        $body ? (body => encode_json($body)) : (), %arg);
}


sub admin {
    my $response = request(@_);

    return ($response->{status}, decode_json($response->{body}));
}


sub refuses {
    my ($status, $code, $message, $name, @request) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my ($got, $body) = admin(@request);
    my $error = $body->{error};

    is("$got $error->{code}", "$status $code", $name);
    like($error->{message}, $message, "message of $name");
}


sub answer {
    my ($key) = @_;

    return $t->get('/x', key => $key)->{status};
}

