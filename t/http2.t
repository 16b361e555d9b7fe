#!/usr/bin/perl

# Tests for HTTP/2: many streams of one key, streams that are reset at any time,
# and headers that HTTP/2 does not allow.

use strict;
use warnings;

use List::Util qw(shuffle);
use Test::More;

use Test::Rbgv;
use Test::Rbgv::Http2;
use Test::Rbgv::Process qw(memory);
use Test::Rbgv::Usage qw(usage);

my $t = Test::Rbgv->new;

$t->start_redis;

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
worker_processes 1;
events { worker_connections 1024; }
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth_lease off;
    rbgv_auth_redis_timeout 30s;
    rbgv_auth_log_level info;
    keepalive_requests 1000000;
    log_format status '$uri $status';
    access_log status.log status;
    server {
        listen 127.0.0.1:%%PORT_0%% http2;
        rbgv_auth on;
        rbgv_auth_limit wide 1000000r/1h;
        location / { empty_gif; }
        location /lease { rbgv_auth_lease auto; empty_gif; }
        location /rapid { empty_gif; }
        location /limit { rbgv_auth_limit tight 60r/1h; empty_gif; }
    }
}
EOC

my ($worker) = $t->nginx->workers;


sub connect_h2 { return Test::Rbgv::Http2->new(port => $t->port(0)) }


sub open_files { return scalar(() = glob "/proc/$worker/fd/*") }


# how many requests have ended, by status
sub ended {
    my ($uri) = @_;

    my %count;
    $count{$_}++ for $t->read_log('status.log') =~ /^\Q$uri\E (\d+)$/mg;

    return \%count;
}


sub status_of {
    my ($h2, $stream) = @_;

    return eval { $h2->status($stream) } // 'closed';
}


is(status_of(map { $_, $_->ask([ '/', $t->create_key->{key} ]) } connect_h2()),
    200, 'a good key');

wait_for(sub { ended('/')->{200} }, 'its line in the log');

my $files = open_files();


# resets at random times

my $rounds = $ENV{RBGV_LONG} ? 100 : 10;

for my $uri (qw(/ /lease)) {
    my $before = ended($uri)->{200} // 0;
    my $key = $t->create_key;
    my (%answered, $sent);

    for my $round (1 .. $rounds) {
        my $h2   = connect_h2();
        my @step = shuffle((map { [ 'ask', $_ ] } 1 .. 100),
                           (map { [ 'reset' ] } 1 .. 50));
        my @open;

        for (@step) {
            if ($_->[0] eq 'ask') {
                push @open, $h2->ask([ $uri, $key->{key} ]);
                $sent++;

            } elsif (@open) {
                $h2->reset(splice @open, rand @open, 1);
            }
        }

        $answered{ status_of($h2, $_) }++ for @open;
        $h2->close;
    }

    my $ended;
    wait_for(sub {
        $ended = ended($uri);
        ($ended->{200} // 0) + ($ended->{499} // 0) == $sent + $before;
    }, 'the log');

    my $calls;
    wait_for(sub {
        my $now = usage($t, $key->{id})->{calls} // 0;
        my $stable = defined $calls && $calls == $now;
        $calls = $now;
        $stable && $calls >= $ended->{200} - $before;
    }, 'usage');

    is_deeply([ keys %answered ], [200], "input 28: $uri, all that stay pass");
    cmp_ok($calls, '<=', $sent, "input 28: $uri, charged once at most");
    note "$uri: $sent streams, $answered{200} of them stay, $calls charged";
}

# a quota is exact, whoever goes

my $key = $t->create_key;
my %got;

for (1 .. 3) {
    my $h2     = connect_h2();
    my @stream = $h2->ask(([ '/limit', $key->{key} ]) x 100);
    my @gone   = (shuffle @stream)[0 .. 29];
    my %gone   = map { $_ => 1 } @gone;

    $h2->reset(@gone);
    $got{ status_of($h2, $_) }++ for grep { !$gone{$_} } @stream;
    $h2->close;
}

is_deeply([ sort keys %got ], [ 200, 429 ], 'input 28: let pass, and refused');
cmp_ok($got{200}, '<=', 60, 'input 28: no more than the quota');
cmp_ok(usage($t, $key->{id})->{tight}, '==', 60, 'input 28: all of it charged');

# rapid reset: nginx closes a connection that does only that

my $memory = memory($worker);
my $many   = $ENV{RBGV_LONG} ? 100_000 : 5000;
my $other  = $t->create_key;
my $h2     = connect_h2();
my ($reset, $connections) = (0, 1);

while ($reset < $many) {
    $h2->reset($h2->ask([ '/rapid', $other->{key} ])) for 1 .. 50;
    $reset += 50;

    next if $reset % 500;

    $h2->close;
    $h2 = connect_h2();
    $connections++;
}

$h2->close;

wait_for(sub { open_files() <= $files }, 'connections to be closed');

cmp_ok(usage($t, $other->{id})->{calls} // 0, '<=', $reset,
    'input 28: rapid reset, charged once at most');

SKIP: {
    skip 'a sanitizer keeps memory', 1 if $t->slow;
    cmp_ok(memory($worker) - $memory, '<', 32768,
        'input 28: rapid reset, memory is bounded');
}

is(status_of(map { $_, $_->ask([ '/', $other->{key} ]) } connect_h2()), 200,
    'input 28: rapid reset, others go on');


# blocks of headers, behind those of a good request, or instead of them

my $good   = $t->create_key->{key};
my $get    = "\x82";
my $http   = "\x86";
my $root   = "\x84";
my $host   = header(':authority', 'localhost');
my $method = $get . $http . $root . $host;
my $named  = header('x-api-key', $good);

for (
    [ 'a name in capitals', $method . header('X-Api-Key', $good) ],
    [ 'a name in capitals beside it',
      $method . $named . header('X-API-KEY', $good) ],
    [ 'two keys', $method . $named . $named ],
    [ 'a key and an empty one', $method . $named . header('x-api-key', '') ],
    [ 'a pseudo-header that is not one',
      $method . header(':x-api-key', $good) ],
    [ 'the same beside the key',
      $method . $named . header(':x-api-key', $good) ],
    [ 'two paths', $method . header(':path', '/') . $named ],
    [ 'two methods', $method . $get . $named ],
    [ 'two schemes', $method . $http . $named ],
    [ 'no path', $get . $http . $host . $named ],
    [ 'no method', $http . $root . $host . $named ],
    [ 'no scheme', $get . $root . $host . $named ],
    [ 'an empty path', $get . $http . $host . header(':path', '') . $named ],
    [ 'a line end in the value',
      $method . header('x-api-key', "$good\r\nx: y") ],
    [ 'a bare line end', $method . header('x-api-key', "$good\n") ],
    [ 'NUL in the value', $method . header('x-api-key', "$good\0") ],
    [ 'a colon in the name', $method . header('x-api-key:', $good) ],
    [ 'a space in the name', $method . header('x-api-key ', $good) ],
    [ 'a line end in the name',
      $method . header("x-a: b\r\nx-api-key", $good) ],
    [ 'an index that is not there', $method . $named . "\xff\xff\xff\xff\x7f" ],
    [ 'a length beyond the block',
      $method . "\0\x09x-api-key\x7f\xff\xff\x03" ],
) {
    my ($name, $block) = @$_;

    my $c   = connect_h2();
    my $got = status_of($c, $c->ask_block($block));

    like($got, qr/^(?:400|401|reset|closed)$/, "input 29: $name");
    $c->close;
}

is(status_of(map { $_, $_->ask_block($method . $named) } connect_h2()), 200,
    'input 29: the block without them');

is(($t->nginx->workers)[0], $worker, 'still the same worker');

$t->done;


# as a literal that is not indexed
sub header {
    my ($name, $value) = @_;

    return pack 'C C/a C/a', 0, $name, $value;
}
