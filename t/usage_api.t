#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for rbgv_auth_usage: what a key has used and its last calls, as rbgvctl
# shows them, and to nobody else.

use strict;
use warnings;
use utf8;

use JSON::PP;
use POSIX qw(strftime);
use Test::More;

use Test::Rbgv;
use Test::Rbgv::Key qw(make_key);
use Test::Rbgv::Proxy;

use constant DAY => 86400;

my $t    = Test::Rbgv->new;
$t->allow_alert(qr/refused "HMGET": "ERR foo"/,
                qr/refused "XREVRANGE": "NOPERM /,
                qr/answered "[A-Z]+" with a reply of another form/);
my $json = JSON::PP->new->utf8;

$t->start_redis;

my %key = map { $_ => $t->create_key(name => "usage-$_-prod") } qw(a b c);
my $prepaid = $t->create_key(name => 'usage-credits-prod', credits => 10);

my $proxy = Test::Rbgv::Proxy->new(listen => $t->dir . '/proxy.sock',
                                   to => $t->redis_server->socket);

my $through = $t->expand('%%REDIS%%')
    =~ s{/redis-main/redis\.sock}{/proxy.sock}r
    =~ s{rbgv_auth_(?:pepper_file|lease) .*}{}gr;

$t->write_conf(<<"EOC")->start_nginx;
%%TEST_GLOBALS%%
worker_processes 1;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth_redis_timeout 10s;
    rbgv_auth on;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        add_header X-Request-Id \$request_id always;
        location / { rbgv_auth_events on; empty_gif; }
        location /two { rbgv_auth_limit two 2r/1d; empty_gif; }
        location /job { rbgv_auth_job \$arg_id; rbgv_auth_events on;
                        empty_gif; }
        location /paid { rbgv_auth_credits 4; empty_gif; }
        location /usage/ { rbgv_auth_usage; }
        location /any/ { satisfy any; allow all; rbgv_auth_usage; }
        location /limited/ { rbgv_auth_limit none 1r/1d; rbgv_auth_cost 2;
                             rbgv_auth_usage; }
        location /proxy/ { $through rbgv_auth_redis_timeout 30s;
                           rbgv_auth_usage; }
        location /short/ { $through rbgv_auth_redis_timeout 300ms;
                           rbgv_auth_usage; }
        location /metrics { rbgv_auth off; rbgv_auth_metrics; }
    }
}
EOC


sub ask {
    my ($uri, $key, %arg) = @_;

    return $t->request($arg{method} // 'GET', $uri,
                       key => $key && $key->{key}, %arg);
}

sub answer {
    my ($uri, $key) = @_;

    my $response = ask($uri, $key);

    is($response->{status}, 200, "$uri: status") or diag explain $response;
    return $json->decode($response->{body});
}

sub rbgvctl_usage {
    my ($key, $days) = @_;

    my ($exit, $out, $err) = $t->rbgvctl('--json', 'usage', $key->{id},
                                         '--days', $days);
    die "rbgvctl usage: $out$err" if $exit;
    return $json->decode($out);
}

# what is an error: its status and code, and its message
sub wrong {
    my ($response) = @_;

    my $error = $json->decode($response->{body})->{error};

    like($error->{request_id}, qr/^[0-9a-f]{32}$/, 'id of the request');
    is_deeply([ @{ $response->{headers} }{qw(content-type cache-control)} ],
        [ ['application/json'], ['no-store'] ], 'fields of the header');

    return "$response->{status} $error->{code}: $error->{message}";
}


# the summary: as rbgvctl says, but for the owner; on both sides of midnight
# the same

my $past = int(time / DAY) - 5;

$t->redis(HSET => "rbgv:use:{$key{a}{id}}", "d:$past", 7,
          "r:$past:limited", 3, "r:$past:credits", 2, "r:$past:job", 1,
          'd:' . ($past - 30), 11, 'd:' . ($past - 89), 13, 'd:0', 17,
          credits => 'foo');

is(ask('/', $key{a})->{status}, 200, 'a call');
is(ask('/two', $key{a})->{status}, $_, "a call: $_") for 200, 200, 429;
is(ask('/job?id=foo', $key{a})->{status}, 404, 'a call: 404');
wait_for(sub { rbgvctl_usage($key{a}, 9)->{refused}{job} == 2 }, 'refusals');

for my $days (1, 9, 30, 90) {
    my ($here, $there);

    for (1 .. 3) {
        $here  = answer("/usage/summary?days=$days", $key{a});
        $there = rbgvctl_usage($key{a}, $days);
        last if $here->{days}[-1]{date} eq $there->{days}[-1]{date};
    }

    delete $there->{owner};
    is_deeply($here, $there, "$days days") or diag explain $here;
}

my $summary = answer('/usage/summary', $key{a});

is(scalar @{ $summary->{days} }, 30, 'days if none are given');
is_deeply($summary->{refused}, { limited => 4, credits => 2, job => 2 },
    'refusals');
like($summary->{last_used_at}, qr/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$/,
    'last use');

is_deeply([ @{ answer('/usage/summary', $key{b}) }
            {qw(credits credits_spent requests)} ], [ undef, 0, 1 ],
    'a new key: this call alone');

is(ask('/paid', $prepaid)->{status}, $_, "credits: $_") for 200, 200, 402;
wait_for(sub { rbgvctl_usage($prepaid, 9)->{refused}{credits} }, 'refusals');
is_deeply([ @{ answer('/usage/summary', $prepaid) }
            {qw(credits credits_spent requests)} ], [ 10, 8, 3 ], 'credits');

# rbgvctl makes no such names

for ([ 'é"\\€', "\xc3\xa9\"\\\xe2\x82\xac" ],
     [ 'a??b???c????d', "a\xff\xc3b\xed\xa0\x80c\xf8\x90\x80\x80d" ],
     [ "𐀀\x{10ffff}?", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\xc3" ])
{
    my ($name, $bytes) = @$_;
    my $got = '';

    $t->redis(HSET => "rbgv:key:{$key{b}{id}}", name => $bytes);

    eval {
        wait_for(sub {
            $got = $json->decode(
                ask('/usage/summary', $key{b})->{body})->{client_id};
            $got eq $name;
        }, 'the name');
    };

    is($got, $name, 'a name that somebody has written');
}


# events

my $began = time;
my @id = map { ask($_, $key{c})->{headers}{'x-request-id'}[0] }
    '/x/%41"?secret=1', '/job?id=foo', "/\xff\xc3\xa9/y";

my $events;

wait_for(sub { $events = answer('/usage/events', $key{c});
               @{ $events->{items} } == 3 }, 'events');

my @at = map { delete $_->{at} } @{ $events->{items} };

is_deeply($events, { items => [
    { method => 'GET', path => '/?é/y', status => 200,
      request_id => $id[2], job_id => undef },
    { method => 'GET', path => '/job', status => 404,
      request_id => $id[1], job_id => 'foo' },
    { method => 'GET', path => '/x/%41"', status => 200,
      request_id => $id[0], job_id => undef },
] }, 'events') or diag explain $events;

my $iso = sub { strftime('%Y-%m-%dT%H:%M:%S', gmtime $_[0]) };
ok(!(grep { !/^20\d\d(-\d\d){2}T(\d\d:){2}\d\d\.\d{3}Z$/
            || $_ lt $iso->($began - 1) || $_ gt $iso->(time + 1) } @at),
    'times') or diag explain \@at;

is(scalar @{ answer('/usage/events?limit=2', $key{c})->{items} }, 2, 'limit');
is_deeply(answer('/usage/events', $key{b}), { items => [] }, 'none');

$t->redis(DEL => "rbgv:events:{$key{c}{id}}");
$t->redis(XADD => "rbgv:events:{$key{c}{id}}", '*', foo => 'bar',
          time => 'x', status => 'y', path => 'z' x 1000) for 1 .. 150;

$events = answer('/usage/events?limit=100', $key{c});
is(scalar @{ $events->{items} }, 100, 'most of all');
is_deeply($events->{items}[0],
    { at => undef, method => undef, path => 'z' x 1000, status => 0,
      request_id => undef, job_id => undef }, 'one that somebody has written');


# arguments, paths, methods

is(wrong(ask("/usage/summary?days=$_", $key{a})),
    '400 invalid_request: days must be a number from 1 to 90', "days=$_")
    for '', 0, 91, -1, '1.5', '1e1', '%31', 'foo', '9' x 30;
is(wrong(ask("/usage/events?limit=$_", $key{a})),
    '400 invalid_request: limit must be a number from 1 to 100', "limit=$_")
    for '', 0, 101;

is(wrong(ask("/usage/$_", $key{a})),
    '404 not_found: There are summary and events here, and nothing else',
    "path: $_") for '', 'foo', 'summary/', 'summary/x', 'eventss', 'x/summary';

for my $method (qw(POST DELETE PUT)) {
    my $response = ask('/usage/summary', $key{a}, method => $method,
                       body => 'x' x 5000);

    is(wrong($response),
        '405 method_not_allowed: Only GET and HEAD are allowed here', $method);
    is_deeply($response->{headers}{allow}, ['GET, HEAD'], 'Allow');
}

my $head = ask('/usage/summary', $key{a}, method => 'HEAD');

is($head->{status}, 200, 'HEAD');
is($head->{body}, '', 'without a body');
cmp_ok($head->{headers}{'content-length'}[0], '>', 1000, 'and with its length');


# nobody without a key

refused(ask('/usage/summary'), 401, 'missing_api_key', 'no key');
refused(ask('/usage/summary', { key => make_key(id => $key{a}{id}) }),
    401, 'invalid_api_key', 'a forged key');

for ([ 'none' ], [ 'forged', { key => make_key(id => $key{a}{id}) } ]) {
    my $response = ask('/any/summary', $_->[1]);

    is(wrong($response), '401 missing_api_key: X-Api-Key header missing',
        "satisfy any: $_->[0]");
    is_deeply($response->{headers}{'www-authenticate'},
        ['ApiKey realm="api"'], 'WWW-Authenticate');
}

refused(ask('/limited/summary', $key{a}), 429, 'rate_limited', 'a full window');


# several on one connection, with a body that is not read here

my $c = $t->connect;

$c->send(join '', map { Test::Rbgv::request_text(
    'GET', "/usage/summary?days=$_", key => $key{a}{key},
    body => 'x' x 1000) } 1 .. 3);

is(scalar @{ $json->decode($c->response->{body})->{days} }, $_,
    "pipelined, $_") for 1 .. 3;


# who goes away; the reply is not that of the next one

is(ask('/proxy/summary', $key{$_})->{status}, 200, 'through the proxy')
    for qw(a b);

for my $gone (1 .. 5) {
    $proxy->rule(on => 'HMGET', hold => 1);

    my ($first, $second) = map { Test::Rbgv::request_text(
        'GET', '/proxy/summary', key => $key{$_}{key}) } qw(a b);

    my $client = $t->connect->send($first);
    wait_for(sub { $proxy->stats->{held} }, 'a reply');
    my $other = $t->connect->send($second);
    $gone % 2 ? $client->abort : $client->close;
    wait_for(sub {
        $gone == (() = $t->read_log('access.log') =~ /" 499 /g);
    }, 'the request to be freed');
    $proxy->rule;

    is($json->decode($other->response->{body})->{key_fingerprint},
        $key{b}{id}, 'its own answer');
}


# Redis does not answer, or not so

$proxy->rule(on => 'HMGET', hold => 1);
refused(ask('/short/summary', $key{a}), 503, 'auth_unavailable', 'no answer');
like(ask('/short/summary', $key{a})->{headers}{'retry-after'}[0],
    qr/^[1-5]$/, 'Retry-After');
$proxy->rule;

for my $reply ("*1\r\n\$1\r\n1\r\n", ":1\r\n", "-ERR foo\r\n", "*0\r\n",
               "*-1\r\n")
{
    wait_for(sub { ask('/proxy/summary', $key{a})->{status} == 200 },
        'recovery');
    $proxy->rule(on => 'HMGET', with => $reply, times => 1);
    refused(ask('/proxy/summary', $key{a}), 503, 'auth_unavailable',
        'another reply');
    $proxy->rule;
}

for my $reply ("*1\r\n\$1\r\n1\r\n", "*1\r\n*2\r\n\$1\r\n1\r\n:1\r\n",
               "*1\r\n*2\r\n\$1\r\n1\r\n*2\r\n\$1\r\n1\r\n:1\r\n",
               '*101' . "\r\n*2\r\n\$1\r\n1\r\n*0" x 101 . "\r\n")
{
    wait_for(sub { ask('/proxy/events', $key{a})->{status} == 200 },
        'recovery');
    $proxy->rule(on => 'XREVRANGE', with => $reply, times => 1);
    refused(ask('/proxy/events', $key{a}), 503, 'auth_unavailable',
        'another reply');
    $proxy->rule;
}

$t->redis(ACL => 'SETUSER', 'rbgv-gateway', '-xrevrange');
refused(ask('/usage/events', $key{a}), 503, 'auth_unavailable',
    'a login that may not');
like($t->read_log('error.log'),
    qr/\[crit\] .*redis "\S+" refused "XREVRANGE": "NOPERM/, 'it is told');
is(ask('/usage/summary', $key{a})->{status}, 200, 'the rest goes on');


# configurations

sub check {
    my ($location) = @_;

    return $t->check_conf(<<"EOC");
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    server { listen 127.0.0.1:%%PORT_0%%; $location }
}
EOC
}

like(check("location /x/ { rbgv_auth $_; rbgv_auth_usage; }"),
    qr/"rbgv_auth_usage" .* needs "rbgv_auth on"/, "rbgv_auth $_")
    for qw(off dry_run);
like(check("rbgv_auth on; location $_ { rbgv_auth_usage; }"),
    qr/"rbgv_auth_usage" needs a location that is given by a prefix/,
    "location $_") for '= /x/summary', '~ /x/', '@x';
like(check('rbgv_auth on; location ^~ /x/ { rbgv_auth_usage; }'),
    qr/test is successful/, 'location ^~');

$t->done;
