#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for HTTP/3, where nginx and curl have it: as on any other connection.

use strict;
use warnings;

use JSON::PP;
use Test::More;

use Test::Rbgv;
use Test::Rbgv::Certificates;
use Test::Rbgv::Key qw(make_key);
use Test::Rbgv::Process;
use Test::Rbgv::Proxy;
use Test::Rbgv::Usage qw(usage);

my $nginx = $ENV{RBGV_NGINX} // 'nginx';

plan skip_all => 'this nginx has no HTTP/3'
    if `$nginx -V 2>&1` !~ /http_v3_module/;
plan skip_all => 'this curl has no HTTP/3' if `curl --version` !~ /\bHTTP3\b/;

my $t = Test::Rbgv->new;

$t->start_redis(acl => 0);

my $proxy = Test::Rbgv::Proxy->new(listen => $t->dir . '/proxy.sock',
                                   to => $t->redis_server->socket);

Test::Rbgv::Certificates->new($t->dir . '/ca')->issue('api', 'IP:127.0.0.2');

# the UDP port of 127.0.0.1 is taken by the reservation
$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
worker_processes 1;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth_redis_timeout 30s;
    keepalive_timeout 5s;
    ssl_certificate %%DIR%%/ca/api.pem;
    ssl_certificate_key %%DIR%%/ca/api.key;
    server {
        listen 127.0.0.2:%%PORT_0%% quic;
        rbgv_auth on;
        rbgv_auth_redis unix:%%DIR%%/proxy.sock;
        location / { empty_gif; }
        location /limit { rbgv_auth_limit default 5r/1h; empty_gif; }
    }
}
EOC

my $key = $t->create_key;
my ($worker) = $t->nginx->workers;


sub command {
    my ($uri, @headers) = @_;

    return ('curl', '-s', '--http3-only', '--cacert', $t->dir . '/ca/ca.pem',
            map({ ('-H', $_) } @headers),
            'https://127.0.0.2:' . $t->port(0) . $uri);
}


# version, status, and of a refusal its code
sub ask {
    my ($uri, @headers) = @_;

    open my $pipe, '-|', command($uri, @headers), '-w',
        '\n%{http_version} %{http_code}' or die "curl: $!";

    my $out = join '', <$pipe>;
    my ($body, $how) = $out =~ /\A(.*)\n(.*)\z/s;
    my $code = eval { decode_json($body)->{error}{code} };

    return join ' ', $how, $code // ();
}


my $line = "X-Api-Key: $key->{key}";

is(ask('/', $line), '3 200', 'input 30: a good key');
is(ask('/'), '3 401 missing_api_key', 'input 30: no key');
is(ask('/', $line, $line), '3 401 invalid_api_key', 'input 30: two keys');
is(ask('/', 'X-Api-Key: ' . make_key(id => $key->{id})),
    '3 401 invalid_api_key', 'input 30: a wrong secret');

is_deeply([ map { ask('/limit', $line) } 1 .. 6 ],
    [ ('3 200') x 5, '3 429 rate_limited' ], 'input 30: a quota');
is(usage($t, $key->{id})->{calls}, 6, 'input 30: charged once each');

# clients that go while Redis is asked: half of them without a word, so that
# nginx waits for them for keepalive_timeout

$proxy->rule(on => 'EVALSHA', hold => 1);

my @curls = map {
    Test::Rbgv::Process->new(
        command => [ command('/', $line), $_ % 2 ? ('--max-time', 1) : () ],
        log     => $t->dir . '/curl.log',
    );
} 1 .. 10;

wait_for(sub { $proxy->stats->{held} }, 'the first reply');
$_ % 2 ? $curls[$_]->kill : $curls[$_]->wait(30) for 0 .. $#curls;
is(scalar(grep { ($_->status // 0) == 28 << 8 } @curls), 5,
    'input 30: they wait for Redis');

$proxy->rule;

is(ask('/', $line), '3 200', 'input 30: others go on');
is(($t->nginx->workers)[0], $worker, 'still the same worker');

$t->done;
