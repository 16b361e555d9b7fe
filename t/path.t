#!/usr/bin/perl

# Tests for the forms of a path: in which location nginx puts each of them, and
# whether a key is needed there, if the server is guarded and what is open is
# exempt, and if only /v1/ is guarded.

use strict;
use warnings;

use Test::More;
use Test::Rbgv;

my $t = Test::Rbgv->new;

$t->start_redis;

my $locations = <<'EOC';
location /            { %s add_header X-In rest always; empty_gif; }
location /v1/         { %s add_header X-In v1 always; empty_gif; }
location /v1/public/  { rbgv_auth off; add_header X-In public always;
                        empty_gif; }
location = /v1/status { rbgv_auth off; add_header X-In status always;
                        empty_gif; }
location /api/        { rbgv_auth off; add_header X-In api always; empty_gif; }
EOC

my $server = sprintf $locations, '', '';
my $prefix = sprintf $locations, 'rbgv_auth off;', '';

$t->write_conf(<<"EOC")->start_nginx;
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth on;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        $server
    }
    server {
        listen 127.0.0.1:%%PORT_1%%;
        $prefix
    }
}
EOC

my $key = $t->create_key->{key};

# a path as it is sent, where it comes to, and the status without a key: with a
# guarded server, and with a guarded /v1/
my %in = (
    v1     => [ 401, 401 ],
    rest   => [ 401, 200 ],
    public => [ 200, 200 ],
    status => [ 200, 200 ],
    api    => [ 200, 200 ],
    ''     => [ 400, 400 ],
);

my @paths = (
    # other forms of /v1/x
    map({ [ "input 17: $_", $_, 'v1' ] }
        '/v1/x', '/v1/', '/v1/x?/api/', '/v1/x#/../api/', '//v1//x',
        '/./v1/./x', '/api/../v1/x', '/api/x/../../v1/x', '/api/..//v1/x',
        '/%76%31/x', '/%2e/v1/x', '/api/%2e%2e/v1/x', '/api/.%2E/v1/x',
        '/v1%2fx', '/%2fv1/x', '/api/..%2fv1/x', '/v1/public/..%2fx',
        '/v1/public/../x', '/v1/public%2f..%2fx', '/v1/public', '/v1/Public/',
        '/v1/public;/x', '/v1/%70ublic%3b/x', '/v1/public%20/x',
        'http://localhost/v1/x', 'http://localhost//api/../v1/x',
        'HTTP://LOCALHOST/v1/x', '/v1/x%01%2fapi/',
        '/v1/..%252fapi/x', '/v1/..;/api/x', "/v1/\xc0\xae\xc0\xae/api/x",
        '/v1/..\\api\\x', '/v1/..%5capi%5cx'),

    # these are /api/ by all rules, and what is behind is asked for that
    map({ [ "input 17: $_", $_, 'api' ] }
        '/v1/../api/x', '/v1/..%2fapi/x', '/v1/%2e%2e/api/x', '//api//x',
        '/api/v1/x', 'http://localhost/api/x', '/api/?/v1/', '/api/x;/../y'),

    # these an upstream may take for something that is guarded
    map({ [ "input 18: $_", $_, 'public' ] }
        '/v1/public/..%252fx', '/v1/public/..;/x', '/v1/public/..%5cx',
        '/v1/public/..\\x', '/v1/public/%252e%252e/x', '/v1/public/...//x'),
    map({ [ "input 18: $_", $_, 'api' ] }
        '/api/..%252fv1/x', '/api/..;/v1/x', '/api/..\\v1\\x'),

    # an exact match has no room for that
    map({ [ "input 18: $_", $_, 'status' ] }
        '/v1/status', '/v1/status?x', '/v1/./status', '/v1/%73tatus',
        '/v1/x/../status'),
    map({ [ "input 18: $_", $_, 'v1' ] }
        '/v1/status/', '/v1/status/..;/x', '/v1/status;', '/v1/status;/x',
        '/v1/status%2f', '/v1/status%252f..%252fx', '/v1/status/..%2fx',
        '/v1/Status', '/v1/status%20', '/v1/status%3f', '/v1/status\\x'),

    # not below /v1/, and an upstream may take them for it
    map({ [ "input 19: $_", $_, 'rest' ] }
        '/v1', '/V1/x', '/v1;/x', '/v1;x/y', '/v1\\x', '/v1%5cx', '/v1%3b/x',
        '/v1%20/x', '/%2576%2531/x', '/v1%252fx', '/x;/../v1;/x', '/v1./x',
        '/\\v1/x', '/;/v1/x', '/.;/v1/x', "/v1\xc0\xafx", '/API/x', '/api;/x',
        '/api'),

    # nginx does not take these
    map({ [ "input 17: $_", $_, '' ] }
        '/..', '/../v1/x', '/v1/../../api/x', '/%2e%2e/v1/x', '/v1/%',
        '/v1/%zz', '/v1/%00', 'v1/x', '*', "/v1/\x01x"),
);

for (@paths) {
    my ($name, $path, $in) = @$_;

    $name =~ s/[^ -~]/sprintf '\x%02x', ord $&/ge;

    for my $port (0, 1) {
        my $without = get($port, $path);
        my $status  = $in{$in}[$port];

        is_deeply([ $without->{status}, $without->{headers}{'x-in'}[0] // '' ],
            [ $status, $in ], "$name, port $port");

        is(get($port, $path, $key)->{status}, $in ? 200 : 400,
            "$name, port $port: with a key");
    }
}

$t->done;


sub get {
    my ($port, $path, $value) = @_;

    return $t->connect(port => $port)->send(
        Test::Rbgv::request_text('GET', $path, close => 1,
                                 defined $value ? (key => $value) : ())
    )->response;
}
