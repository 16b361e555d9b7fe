#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for rbgv_auth_hide_key: upstreams see every header but the key, in
# order, wherever the key was.

use strict;
use warnings;

use IO::Select;
use IO::Socket::UNIX;
use Test::More;
use Test::Rbgv;

my $t = Test::Rbgv->new;

$t->start_redis;

$t->write_conf(<<'EOC');
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth on;
    underscores_in_headers on;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        location / { proxy_pass http://unix:%%DIR%%/backend; }
        location /off { rbgv_auth_hide_key off;
                        proxy_pass http://unix:%%DIR%%/backend; }
        location /open { rbgv_auth off;
                         proxy_pass http://unix:%%DIR%%/backend; }
        location /any { satisfy any; allow all;
                        proxy_pass http://unix:%%DIR%%/backend; }
        location /refused { error_page 401 = @refused; empty_gif; }
        location @refused { rbgv_auth off;
                            proxy_pass http://unix:%%DIR%%/backend; }
        location /moved { rbgv_auth_hide_key off;
                          try_files /none /; }
        location /named { proxy_set_header X-Key-Id $rbgv_auth_key_id;
                          proxy_pass http://unix:%%DIR%%/backend; }
        location /open-named { rbgv_auth off;
                               proxy_set_header X-Key-Id $rbgv_auth_key_id;
                               proxy_pass http://unix:%%DIR%%/backend; }
        location /mirror { satisfy any; allow all; mirror /copy; empty_gif; }
        location /copy { internal;
                         proxy_pass http://unix:%%DIR%%/backend; }
        location /fastcgi { fastcgi_pass unix:%%DIR%%/backend; }
        location /uwsgi { uwsgi_pass unix:%%DIR%%/backend; }
        location /scgi { scgi_pass unix:%%DIR%%/backend; }
    }
    server {
        listen 127.0.0.1:%%PORT_1%%;
        underscores_in_headers off;
        location / { proxy_set_header X-Key-Id $rbgv_auth_key_id;
                     proxy_pass http://unix:%%DIR%%/backend; }
    }
}
EOC

my $backend = IO::Socket::UNIX->new(Local => $t->dir . '/backend', Listen => 5)
    or die "backend: $!";

$t->start_nginx;

my ($key, $id) = @{ $t->create_key }{qw(key id)};
my $line = "X-Api-Key: $key";

# name, position of the key, other headers; the list of headers has its
# first 20, Host among them, in one part, and more parts behind
my @hidden = (
    [ 'the only header', 0, 0 ],
    [ 'first of a few', 0, 3 ],
    [ 'in the middle of a few', 2, 4 ],
    [ 'last of a few', 3, 3 ],
    [ 'last of a full part', 18, 18 ],
    [ 'last of a full part, one more', 18, 19 ],
    [ 'first of the next part', 19, 19 ],
    [ 'first of the next part, one more', 19, 20 ],
    [ 'first of many', 0, 60 ],
    [ 'in the middle of the second part', 25, 60 ],
    [ 'last of the second part', 38, 60 ],
    [ 'first of the third part', 39, 60 ],
    [ 'last of many', 60, 60 ],
);

for (@hidden) {
    my ($name, $position, $n) = @$_;
    my @headers = map { "X-H-$_: v$_" } 1 .. $n;
    my @sent    = @headers;

    splice @sent, $position, 0, $line;

    my $seen = seen(request('/', @sent));

    unlike($seen, qr/api.key|$key/i, "input 37: hidden: $name");
    is(join("\n", $seen =~ /^(X-H-.*?)\r$/mg), join("\n", @headers),
        "$name: the others are in order");
}

like(seen("GET / HTTP/1.0\r\n$line\r\n\r\n"),
    qr{^GET / HTTP/1\.[01]\r\n(?!.*$key)}s, 'HTTP/1.0 without any other header');

unlike(seen(request($_->[1], @{ $_->[2] })), qr/api.key|$key/i,
    "input 37: hidden: $_->[0]") for (
    [ 'twin', '/', ["X_Api_Key: $key"] ],
    [ 'refused twins, in an error page', '/refused', [ $line, $line ] ],
    [ 'refused hundred', '/refused', [ ($line) x 100 ] ],
    [ 'refused key, in an error page', '/refused', ["$line$key"] ],
    [ 'satisfied by another module', '/any', [$line] ],
    [ 'twins, satisfied by another module', '/any', [ $line, $line ] ],
    [ 'from a location where it is not hidden', '/moved', [$line] ],
    [ 'mirror', '/mirror', [$line] ],
    [ 'fastcgi', '/fastcgi', [ $line, 'X-H-1: v1' ] ],
    [ 'uwsgi', '/uwsgi', [ $line, 'X-H-1: v1' ] ],
    [ 'scgi', '/scgi', [ $line, 'X-H-1: v1' ] ],
);

like(seen(request($_, $line)), qr/^X-Api-Key: $key\r$/m, "not hidden: $_")
    for '/off', '/open';

# whose request it is, whatever the client says

my @claims = ('X-Key-Id: victim', 'x-key-id: victim', 'X-KEY-ID:');

is(ids(seen(request('/named', @$_))), $id, "input 34: @$_[1 .. $#$_]") for
    map({ [ $line, $_ ] } @claims), [ $line, @claims ], [ $line ];
is(ids(seen(request('/open-named', @claims))), '',
    'input 34: open, nothing is said');
is(ids(seen(request('/', $line, 'X_Key_Id: victim'), port => 1)), $id,
    'input 34: underscores, dropped by nginx');

$t->done;


# all headers that a backend may take for the id
sub ids {
    my ($seen) = @_;

    return join ' ', $seen =~ /^X[-_]Key[-_]Id: *(.*?)\r$/mgi;
}


sub request {
    my ($uri, @headers) = @_;

    return join "\r\n", "GET $uri HTTP/1.1", 'Host: localhost', @headers,
                        'Connection: close', '', '';
}


# what the backend gets of a request: all that comes before it is silent
sub seen {
    my ($request, %arg) = @_;

    my $client = $t->connect(%arg)->send($request);

    IO::Select->new($backend)->can_read(10)
        or die 'the backend is not asked: ' . $client->rest;

    my $peer = $backend->accept;
    my $seen = '';

    wait_for(sub {
        sysread $peer, $seen, 65536, length $seen;
        $seen =~ /\r\n\r\n|v1/;
    }, 'a request');

    print $peer "HTTP/1.0 204 No Content\r\n\r\n";
    close $peer;
    $client->rest;

    return $seen;
}
