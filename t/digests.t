#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for the digests that a worker remembers: more keys than it has room
# for, of which each has its own answer.

use strict;
use warnings;

use Test::More;
use Test::Rbgv;
use Test::Rbgv::Key qw(make_key);

my $t = Test::Rbgv->new;

$t->start_redis;

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
worker_processes 1;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth_redis_timeout 10s;
    error_log error.log warn;
    keepalive_requests 1000000;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth on;
        location / { empty_gif; }
    }
}
EOC

# a set of ways is full of four: some of these sets get more
my $count = $t->slow ? 20_000 : 80_000;
my @good  = map { $t->create_key(name => "digest$_-prod") } 1 .. 40;
my $c     = $t->connect;
my $n     = 0;
my %answers;

# secrets that none of the good keys has, between all of the good ones
while ($n < $count) {
    my @bad = map { make_key(id => $good[ $_ % @good ]{id},
                             secret => sprintf '%032d', $_) }
              $n + 1 .. $n + 1000;

    ask('new', @bad);
    ask('good', map { $_->{key} } @good);
    ask('seen', @bad);
    $n += @bad;
}

is_deeply(\%answers, { 'new 401' => $n, 'seen 401' => $n,
                       'good 200' => @good * $n / 1000 },
          "$n keys with wrong secrets, and good ones");

$t->done;


sub ask {
    my ($what, @keys) = @_;

    while (my @some = splice @keys, 0, 200) {
        $c->send(join '', map { "GET / HTTP/1.1\r\nHost: h\r\nX-Api-Key: $_"
                                . "\r\n\r\n" } @some);
        $answers{"$what " . $c->response->{status}}++ for @some;
    }
}
