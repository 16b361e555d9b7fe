#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for a pepper that is rotated out: keys of both are good while both are
# set, each secret is accounted as itself, and the metric tells of the old one.

use strict;
use warnings;

use Test::More;
use Test::Rbgv;
use Test::Rbgv::Key qw(derive_id digest make_key);

my $t = Test::Rbgv->new;

$t->start_redis;

my $old = $t->pepper_file;
my $new = $t->dir . '/pepper.new';

# as docs/operations.md has it
is(($t->rbgvctl('--pepper-file', $new, 'init'))[0], 0, 'a new pepper');

my %pepper = map { $_->[0] => $t->read_file($_->[1]) =~ s/\n.*//rs }
             [ old => 'pepper' ], [ new => 'pepper.new' ];

isnt($pepper{new}, $pepper{old}, 'is another one');

my $key    = $t->create_key(name => 'old-pepper-prod');
my $second = make_key(id => $key->{id});
my $opaque = 'sk-live-4eC39HqLyjWDarjtT1zdp7dc';
my $long   = 'k' x 256;

# a key that was rotated after the pepper: its second secret has the new one
$t->redis(HSET => "rbgv:key:{$key->{id}}",
          'secret:' . digest($second, $pepper{new}) => 'active 1 0');

store($_->[0], $_->[1]) for [ $opaque, 'old' ], [ $long, 'old' ];

my ($exit, $out) = $t->rbgvctl('--pepper-file', $new, '--json', 'create',
    '--name', 'new-pepper-prod', '--environment', 'prod', '--owner', 'tests');
my ($made) = $out =~ /"api_key":\s*"(\w+)"/ or die "rbgvctl: $out";

# name, key, its pepper
my @keys = (
    [ 'an old key', $key->{key}, 'old' ],
    [ 'a new key', $made, 'new' ],
    [ 'the new secret of an old key', $second, 'new' ],
    [ 'an old opaque key', $opaque, 'old' ],
    [ 'an old long key', $long, 'old' ],
);

# that are good with neither
my @forged = (
    [ 'a forged secret', make_key(id => $key->{id}, secret => 'f' x 32) ],
    [ 'an unknown key', make_key() ],
);

for (
    [ 'the old pepper', $old, [ 'old' ] ],
    [ 'both, the new one first', "$new $old", [ 'old', 'new' ] ],
    [ 'both, the old one first', "$old $new", [ 'old', 'new' ] ],
    [ 'the new pepper', $new, [ 'new' ] ],
) {
    my ($name, $files, $good) = @$_;
    my ($current) = $files eq $old || $files =~ /^\Q$old\E / ? 'old' : 'new';

    start($files);

    my ($before, $found) = (previous(), 0);

    for my $round (1, 2) {
        for (@keys) {
            my ($of, $text, $pepper) = @$_;
            my $passes = grep { $_ eq $pepper } @$good;
            my $used   = uses($text, $pepper);

            $found += $passes && $pepper ne $current;

            is(status($text), $passes ? '200 PASSED' : '401 INVALID',
                "$name: $of, $round");
            is(uses($text, $pepper) - $used, $passes ? 1 : 0,
                "$name: $of, $round: uses");
        }

        is(status($_->[1]), '401 INVALID', "$name: $_->[0], $round")
            for @forged;
    }

    is(previous() - $before, $found, "$name: the metric");
    $t->stop;
}

# The old digest of a key goes into its place in the cache only while the key
# is there: a forged one that has come into it in the meantime is not taken for
# the first.

start("$new $old");

my $twin = twin($key->{key}, $key->{id});

is(status($made), '200 PASSED', 'Redis is connected');
$t->redis_freeze;

my @clients = (ask_frozen($key->{key}, 1), ask_frozen($twin, 2));

$t->redis_thaw;

is($clients[0]->response->{status}, 200, 'an old key that lost its place');
is($clients[1]->response->{status}, 401, 'a forged key that has it');
is(status($twin), '401 INVALID', 'the forged key once more');
is(status($key->{key}), '200 PASSED', 'the old key once more');

$t->done;


sub start {
    my ($files) = @_;

    my $conf = <<'EOC';
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS_main%%
    rbgv_auth_pepper_file FILES;
    rbgv_auth_lease off;
    rbgv_auth_zone off;
    rbgv_auth_redis_timeout 10s;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        location / {
            rbgv_auth on;
            rbgv_auth_opaque_keys on;
            add_header X-Status $rbgv_auth_status always;
            empty_gif;
        }
        location = /metrics { rbgv_auth_metrics; }
        location = /requests { stub_status; }
    }
}
EOC

    $t->write_conf($conf =~ s/FILES/$files/r)->start_nginx;
}


# puts an opaque key into the store
sub store {
    my ($text, $pepper) = @_;

    $t->redis(HSET => 'rbgv:key:{' . derive_id($text) . '}',
              name => 'opaque-prod', environment => 'prod', status => 'active',
              created => 1,
              'secret:' . digest($text, $pepper{$pepper}) => 'active 1 0');
}


sub status {
    my ($text) = @_;

    my $response = $t->get('/', key => $text);

    return "$response->{status} $response->{headers}{'x-status'}[0]";
}


# of a secret with the digest of that pepper
sub uses {
    my ($text, $pepper) = @_;

    my $id = $text =~ /^rbgv_/ ? (split /_/, $text)[2] : derive_id($text);

    return $t->redis(HGET => "rbgv:use:{$id}", 's:'
                     . substr digest($text, $pepper{$pepper}), 0, 16) // 0;
}


# the metric
sub previous {
    my ($n) = $t->get('/metrics')->{body} =~
        /^rbgv_auth_pepper_requests_total\{pepper="previous"\} (\d+)$/m;

    return $n;
}


# sends a request that has to wait for Redis, and returns when N of them do
sub ask_frozen {
    my ($text, $n) = @_;

    my $client = $t->connect->send(
        Test::Rbgv::request_text('GET', '/', key => $text));

    wait_for(sub { writing() > $n }, 'a request that waits');

    return $client;
}


# requests under way, this one as well
sub writing {
    return ($t->get('/requests')->{body} =~ /Writing: (\d+)/)[0];
}


# a forged secret of the key that has the same place in the cache
sub twin {
    my ($text, $id) = @_;

    my $place = place($text);

    for (my $n = 0; ; $n++) {
        my $twin = make_key(id => $id, secret => sprintf '%032d', $n);

        return $twin if place($twin) == $place;
    }
}


# as src/ngx_http_rbgv_auth_key.c has it
sub place {
    my ($text) = @_;

    my ($first, $second) = unpack 'V2', substr $text, -8;
    my $hash = $first * 0x9e3779b1 & 0xffffffff
               ^ ($second * 0x85ebca77 & 0xffffffff);

    return ($hash >> 16) % 65536;
}
