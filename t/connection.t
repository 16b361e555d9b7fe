# What follows on a connection: bodies of refused requests, pipelining, HTTP/2,
# HTTP/1.0, and bodies that wait in front of the upstream while Redis is asked.

use strict;
use warnings;

use IO::Select;
use Test::More;

use Test::Rbgv;
use Test::Rbgv::Process qw(memory);
use Test::Rbgv::Usage qw(usage);

my $t = Test::Rbgv->new;

$t->start_redis;

my $key     = $t->create_key;
my $other   = $t->create_key(name => 'other-prod');
my $limited = $t->create_key(name => 'limited-prod',
                             limit => ['default=60r/1h']);
my $deleted = $t->create_key(name => 'deleted-prod');
$t->redis('DEL', "rbgv:key:{$deleted->{id}}");

mkdir $t->dir . "/$_" or die $! for qw(files temp);

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
worker_processes 1;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth_redis_timeout 5s;
    client_max_body_size 16m;

    server {
        listen 127.0.0.1:%%PORT_0%%;
        listen 127.0.0.1:%%PORT_1%% http2;
        rbgv_auth on;
        rbgv_auth_limit default 1000000r/1h;
        add_header X-Key $rbgv_auth_key_id always;

        location / { empty_gif; }
        location /short/ { lingering_time 1s; empty_gif; }

        location /files/ { proxy_pass http://127.0.0.1:%%PORT_2%%; }

        location /unbuffered/ {
            proxy_request_buffering off;
            proxy_http_version 1.1;
            proxy_pass http://127.0.0.1:%%PORT_2%%/files/;
        }
    }

    server {
        listen 127.0.0.1:%%PORT_2%%;
        root %%DIR%%;
        dav_methods PUT;
        client_body_temp_path %%DIR%%/temp;
    }
}
EOC

my $megabyte = join '', map { chr 32 + $_ * $_ % 90 } 1 .. 1 << 20;


sub text {
    my ($method, $uri, $key, @headers) = @_;

    return Test::Rbgv::request_text($method, $uri, headers => \@headers,
                                    $key ? (key => $key->{key}) : ());
}


sub with_length {
    my ($method, $uri, $key) = @_;

    return text($method, $uri, $key, 'Content-Length: ' . length $megabyte)
        . $megabyte;
}


sub chunked {
    my ($method, $uri, $key) = @_;

    return text($method, $uri, $key, 'Transfer-Encoding: chunked')
        . join '', map({ sprintf "%x\r\n%s\r\n", length, $_ }
                       unpack '(a30000)*', $megabyte), "0\r\n\r\n";
}


# 401 comes at once, and after Redis was asked
my %refused = ('no key' => undef, 'an unknown key' => $deleted);

for my $name (sort keys %refused) {
    for my $body (\&with_length, \&chunked) {
        my $c = $t->connect;
        $c->send($body->('POST', '/', $refused{$name}));
        is($c->response->{status}, 401, "input 24: a body with $name");

        $c->send(text('GET', '/', $key));
        is($c->response->{status}, 200, 'and a good one behind it');
    }

    my $c = $t->connect;
    $c->send(text('POST', '/', $refused{$name}, 'Content-Length: 1048576',
                  'Expect: 100-continue'));
    my $response = $c->response;
    $response = $c->response if $response->{status} == 100;
    is($response->{status}, 401,
       "input 24: a body that is not sent yet, with $name");
    $c->send($megabyte . text('GET', '/', $key));
    is($c->response->{status}, 200, 'and a good one behind it');
}


# much of it, and without end

my $large = $t->connect->send(text('POST', '/', undef,
                                   'Content-Length: 10485760'));
is($large->response->{status}, 401, 'input 24: 10 MB, and no key');
$large->send($megabyte) for 1 .. 10;
is($large->send(text('GET', '/', $key))->response->{status}, 200,
   'and a good one behind it');

my ($worker) = $t->nginx->workers;
my $memory   = memory($worker);
my $endless  = $t->connect->send(text('POST', '/short/', undef,
                                      'Transfer-Encoding: chunked'));
my $chunk    = sprintf "%x\r\n%s\r\n", length $megabyte, $megabyte;

is($endless->response->{status}, 401, 'input 24: chunks without end');
ok(wait_for(sub {
    $endless->send($chunk);
    IO::Select->new($endless->socket)->can_read(0);
}, 'the end'), 'input 24: which nginx ends');

SKIP: {
    skip 'a sanitizer keeps memory', 1 if $t->slow;
    cmp_ok(memory($worker) - $memory, '<', 8192, 'input 24: nothing is kept');
}


# pipelined

my @pipeline = ($key, undef, $other, $deleted, $key, $other, undef, $other,
                $deleted, $key);
my $pipe = $t->connect->send(join '', map { text('GET', '/', $_) } @pipeline);
my @expected = map { !$_ ? '401 none'
                     : $_ == $deleted ? "401 $_->{id}" : "200 $_->{id}" }
               @pipeline;

is_deeply([ map { "$_->{status} " . ($_->{headers}{'x-key'}[0] // 'none') }
            map { $pipe->response } @pipeline ],
          \@expected, 'input 25: ten in one write, in order');


# bodies reach the upstream

for my $uri (qw(/files/ /unbuffered/)) {
    for my $body (\&with_length, \&chunked) {
        my $c = $t->connect;
        my $bytes = $body->('PUT', "${uri}body", $key);

        # in pieces, the first of which has a part of the body
        my $head = index($bytes, "\r\n\r\n") + 10;
        $c->send(substr $bytes, 0, $head, '');
        $c->send(substr $bytes, 0, 1000, '');
        $c->send($bytes . text('GET', '/', $other));

        like($c->response->{status}, qr/^20[14]$/, "PUT $uri");
        ok($t->read_file('files/body') eq $megabyte, 'the body is whole');
        is($c->response->{headers}{'x-key'}[0], $other->{id},
           'and a good one behind it');

        unlink $t->dir . '/files/body';
    }
}


# HTTP/2: a hundred streams at once

sub h2load {
    my ($n, $key) = @_;

    open my $pipe, '-|', 'h2load', '-n', $n, '-c', 1, '-m', 100,
        '-H', "X-Api-Key: $key->{key}", 'http://127.0.0.1:' . $t->port(1)
        or die "h2load: $!";
    my $out = join '', <$pipe>;

    my ($good, $bad) = $out =~ /(\d+) 2xx, \d+ 3xx, (\d+) 4xx, 0 5xx/
        or diag $out;
    return [ $good, $bad ];
}

my $before = usage($t, $other->{id})->{calls};
is_deeply(h2load(100, $other), [ 100, 0 ], 'input 28: HTTP/2');
is(usage($t, $other->{id})->{calls} - $before, 100,
   'input 28: charged once each');

is_deeply(h2load(100, $limited), [ 60, 40 ], 'input 28: HTTP/2: limited');
is(usage($t, $limited->{id})->{calls}, 60, 'input 28: charged if let pass');


# HTTP/1.0, and a client that says no more

my %http10 = (200 => $key, 401 => $deleted);

for my $status (sort keys %http10) {
    my $response = $t->http("GET / HTTP/1.0\r\n"
                            . "X-Api-Key: $http10{$status}{key}\r\n\r\n");
    like($response,
         qr{^HTTP/1.1 $status .*\r\nConnection: close\r\n.*\r\n\r\n.}s,
         "input 27: HTTP/1.0: $status");
}

# as wherever nginx waits, in limit_req and proxy_pass too
$t->redis_freeze;
my $half = $t->connect->send(text('GET', '/half', $key));
shutdown $half->socket, 1;
is($half->rest, '', 'half-closed: no answer');
$t->redis_thaw;
wait_for(sub { $t->read_log('access.log') =~ m{"GET /half HTTP/1.1" 499} },
         'the log');
is($t->get('/', key => $key->{key})->{status}, 200, 'and others go on');

$t->done;
