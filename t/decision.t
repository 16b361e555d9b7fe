#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for the whole decision: every status, enforced and in a dry run, with
# satisfy all and any, for GET, HEAD and POST, byte by byte, on connections that
# are kept.

use strict;
use warnings;

use Test::More;
use Test::Rbgv;

my $t = Test::Rbgv->new;

$t->start_redis;

# the other access module of "any" keeps everybody out
my %satisfy = (all => 'satisfy all;', any => 'satisfy any; deny all;');
my @servers = map { my $mode = $_; map { [ $mode, $_ ] } qw(all any) }
              qw(on dry_run);

my $servers = '';

for my $n (0 .. $#servers) {
    my ($mode, $satisfy) = @{ $servers[$n] };

    $servers .= <<"EOC";
    server {
        listen 127.0.0.1:%%PORT_$n%%;
        rbgv_auth $mode;
        $satisfy{$satisfy}
        include %%DIR%%/locations;
    }
EOC
}

$t->write_file(locations => $t->expand(<<'EOC'));
location / { proxy_pass http://127.0.0.1:%%PORT_backend%%; }
location /limit { rbgv_auth_limit free 9r/1h; rbgv_auth_cost 0;
                  proxy_pass http://127.0.0.1:%%PORT_backend%%; }
location /full { rbgv_auth_limit full 1r/1h; rbgv_auth_cost 2;
                 proxy_pass http://127.0.0.1:%%PORT_backend%%; }
location /paid { rbgv_auth_limit free 9r/1h; rbgv_auth_cost 0;
                 rbgv_auth_credits 2;
                 proxy_pass http://127.0.0.1:%%PORT_backend%%; }
location /job { rbgv_auth_limit free 9r/1h; rbgv_auth_cost 0;
                rbgv_auth_job $request_method;
                proxy_pass http://127.0.0.1:%%PORT_backend%%; }
location /test { rbgv_auth_environment test;
                 proxy_pass http://127.0.0.1:%%PORT_backend%%; }
location /down { rbgv_auth_redis redis://127.0.0.1:1;
                 proxy_pass http://127.0.0.1:%%PORT_backend%%; }
EOC

$t->write_conf(<<"EOC")->start_nginx;
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    rbgv_auth_redis_timeout 10s;
    %%REDIS%%
    server_tokens off;
    map \$http_x_api_key \$seen { '' 'no key'; default 'a key'; }
    log_format decision '\$request_uri \$rbgv_auth_status';
    access_log decision.log decision;
$servers
    server {
        listen 127.0.0.1:%%PORT_backend%%;
        access_log off;
        location / {
            return 200 "\$request_method, \$seen, \$http_content_length bytes";
        }
    }
}
EOC

my %key = map { $_ => $t->create_key(name => "$_-decision-prod") }
    qw(good disabled expired);

$t->rbgvctl('disable', $key{disabled}{id});
$t->redis(HSET => "rbgv:key:{$key{expired}{id}}", expires => time - 1);

# status, URI, key; and where it is enforced: HTTP status, code, and the limit
# that is told of: its name, quota, window, and what is left
my @table = (
    [ 'PASSED',      '/',      'good',     200 ],
    [ 'PASSED',      '/limit', 'good',     200, undef, 'free', 9, 3600, 9 ],
    [ 'MISSING',     '/',      undef,      401, 'missing_api_key' ],
    [ 'INVALID',     '/limit', \'foo',     401, 'invalid_api_key' ],
    [ 'DISABLED',    '/limit', 'disabled', 401, 'invalid_api_key' ],
    [ 'EXPIRED',     '/limit', 'expired',  401, 'invalid_api_key' ],
    [ 'ENVIRONMENT', '/test',  'good',     401, 'invalid_api_key' ],
    [ 'LIMITED',     '/full',  'good',     429, 'rate_limited',
      'full', 1, 3600, 1 ],
    [ 'CREDITS',     '/paid',  'good',     402, 'insufficient_credits',
      'free', 9, 3600, 9 ],
    [ 'JOB',         '/job',   'good',     404, 'job_not_found',
      'free', 9, 3600, 9 ],
    [ 'UNAVAILABLE', '/down',  'good',     503, 'auth_unavailable' ],
);

my %reason = (
    200 => 'OK',
    401 => 'Unauthorized',
    402 => 'Payment Required',
    403 => 'Forbidden',
    404 => 'Not Found',
    429 => 'Too Many Requests',
    503 => 'Service Temporarily Unavailable',
);

# header fields of a refusal, in their order; N is what differs
my %fields = (
    401 => [ 'WWW-Authenticate: ApiKey realm="api"',
             'Cache-Control: no-store' ],
    402 => [ 'Cache-Control: no-store' ],
    404 => [ 'Cache-Control: no-store' ],
    429 => [ 'Cache-Control: no-store', 'Retry-After: N' ],
    503 => [ 'Cache-Control: no-store', 'Retry-After: N' ],
);

my %body = (GET => undef, HEAD => undef, POST => 'some bytes');
my @logged;

for my $port (0 .. $#servers) {
    my ($mode, $satisfy) = @{ $servers[$port] };
    my $connection = $t->connect(port => $port);

    for my $row (@table) {
        my ($status, $uri, $key, $http) = @$row;
        my $value = !defined $key ? undef : ref $key ? $$key : $key{$key}{key};

        for my $method (sort keys %body) {
            my $n = @logged;

            $connection->send(Test::Rbgv::request_text($method, "$uri?$n",
                key => $value, body => $body{$method}));

            is(masked($connection->response(method => $method)->{text}),
                expected($row, $mode, $satisfy, $method),
                "$mode, $satisfy: $status, $method $uri");

            push @logged, "$uri?$n $status"
                . ($mode eq 'dry_run' && $http != 200 ? '_DRY_RUN' : '');
        }
    }
}

$t->stop;

is($t->read_log('decision.log'), join('', map { "$_\n" } @logged),
    '$rbgv_auth_status of all');

$t->done;


# the bytes that a client gets
sub expected {
    my ($row, $mode, $satisfy, $method) = @_;
    my ($status, $uri, $key, $http, $code, @limit) = @$row;

    my $length = length($body{$method} // '') || '';

    return answer($method, $http, 'application/json',
        '{"error":{"code":"' . $code . '","message":"'
        . $Test::Rbgv::message{$code} . '","request_id":"' . 'x' x 32 . '"}}',
        @{ $fields{$http} }, limits(@limit)) if $mode eq 'on' && $code;

    return answer($method, 403, 'text/html', page('403 Forbidden'))
        if $mode eq 'dry_run' && $satisfy eq 'any';

    return answer($method, 200, 'text/plain', join(', ', $method,
        $mode eq 'on' || !defined $key ? 'no key' : 'a key', "$length bytes"),
        $mode eq 'on' ? limits(@limit) : ());
}


sub answer {
    my ($method, $status, $type, $body, @fields) = @_;

    return join "\r\n",
        "HTTP/1.1 $status $reason{$status}",
        'Server: nginx',
        'Date: N',
        "Content-Type: $type",
        'Content-Length: ' . length $body,
        'Connection: keep-alive',
        @fields,
        '', $method eq 'HEAD' ? '' : $body;
}


sub limits {
    my ($name, $quota, $window, $left) = @_;

    return () unless defined $name;

    return (qq(RateLimit-Policy: "$name";q=$quota;w=$window),
            qq(RateLimit: "$name";r=$left;t=N),
            "X-RateLimit-Limit: $quota",
            "X-RateLimit-Remaining: $left",
            'X-RateLimit-Reset: N');
}


# nginx's own
sub page {
    my ($title) = @_;

    return join "\r\n", '<html>', "<head><title>$title</title></head>",
        '<body>', "<center><h1>$title</h1></center>",
        '<hr><center>nginx</center>', '</body>', '</html>', '';
}


# without what differs from one answer to the next
sub masked {
    my ($text) = @_;

    return $text
        =~ s/^(Date|Retry-After|X-RateLimit-Reset): [^\r\n]+/$1: N/gmr
        =~ s/^(RateLimit: .*;t=)\d+/$1N/mr
        =~ s/(?<="request_id":")[0-9a-f]{32}(?=")/'x' x 32/er;
}
