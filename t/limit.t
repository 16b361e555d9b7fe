#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for rbgv_auth_limit and rbgv_auth_cost: which limits hold for a key in
# a location, and what a call costs.

use strict;
use warnings;

use Test::More;
use Test::Rbgv;
use Test::Rbgv::Key qw(make_key);
use Time::HiRes qw(sleep);

my $t = Test::Rbgv->new;

$t->start_redis;
$t->rbgvctl('environments', '--set', 'test');

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth on;
    rbgv_auth_limit http 90r/1h;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth_limit server 80r/1h;
        rbgv_auth_limit also 80r/2h;
        location / { empty_gif; }
        location /own { rbgv_auth_limit own 70r/1h; empty_gif;
            location /own/off { rbgv_auth_limit off; empty_gif; } }
        location /three { rbgv_auth_limit three 3r/1h; empty_gif; }
        location /also-three { rbgv_auth_limit three 3r/1h; empty_gif; }
        location /more-of-three { rbgv_auth_limit three 4r/1h; empty_gif; }
        location /other-three { rbgv_auth_limit three 3r/2h; empty_gif; }
        location /wide-narrow { rbgv_auth_limit wide 9r/1h;
                                rbgv_auth_limit narrow 2r/1h; empty_gif; }
        location /narrow-wide { rbgv_auth_limit narrow 2r/1h;
                                rbgv_auth_limit wide 9r/1h; empty_gif; }
        location /environment {
            rbgv_auth_limit first 5r/1h environment=test;
            rbgv_auth_limit first 9r/1h;
            rbgv_auth_limit last 9r/1h;
            rbgv_auth_limit last 5r/1h environment=test;
            rbgv_auth_limit only 7r/1h environment=test;
            empty_gif;
        }
        location /cost/ { rbgv_auth_limit cost 9r/1h;
            location /cost/0 { rbgv_auth_cost 0; empty_gif; }
            location /cost/3 { rbgv_auth_cost 3; empty_gif; }
            location /cost/9 { rbgv_auth_cost 9; empty_gif; }
            location /cost/10 { rbgv_auth_cost 10; empty_gif; }
            location /cost/arg { rbgv_auth_cost $arg_n; empty_gif; }
            location /cost/text { rbgv_auth_cost 1$arg_n; empty_gif; }
        }
        location /short { rbgv_auth_limit short 2r/2s; empty_gif; }
    }
    server {
        listen 127.0.0.1:%%PORT_1%%;
        location / { empty_gif; }
    }
}
EOC

# calls with a new key: name, its options, and for each URI what is answered
my @sequences = (
    [ 'a quota', [], map({ [ '/three', 200, "three:$_" ] } 2, 1, 0),
      ([ '/three', 429, 'three:0' ]) x 2 ],

    [ 'all windows or none', [],
      [ '/wide-narrow', 200, 'wide:8 narrow:1' ],
      [ '/wide-narrow', 200, 'wide:7 narrow:0' ],
      ([ '/wide-narrow', 429, 'wide:7 narrow:0' ]) x 2,
      ([ '/narrow-wide', 429, 'narrow:0 wide:7' ]) x 2 ],

    [ 'a name and a window are one counter in all locations', [],
      [ '/three', 200, 'three:2' ], [ '/also-three', 200, 'three:1' ],
      [ '/more-of-three', 200, 'three:1' ], [ '/three', 429, 'three:0' ],
      [ '/more-of-three', 200, 'three:0' ],
      [ '/other-three', 200, 'three:2' ] ],

    [ 'inheritance', [],
      [ '/', 200, 'server:79 also:79' ], [ '/own', 200, 'own:69' ],
      [ '/own/off', 200, '' ], [ '/', 200, 'server:78 also:78' ] ],

    [ 'a key without limits of its environment', [],
      [ '/environment', 200, 'first:8 last:8' ] ],
    [ 'a key of the environment', [ environment => 'test' ],
      [ '/environment', 200, 'first:4 last:4 only:6' ] ],
    [ 'own limits go before those of the environment',
      [ environment => 'test', limit => [qw(last=2r/1h other=1r/1h)] ],
      [ '/environment', 200, 'first:4 last:1 only:6' ] ],
    [ 'an own limit', [ limit => ['three=1r/1h'] ],
      [ '/three', 200, 'three:0' ], [ '/also-three', 429, 'three:0' ],
      [ '/own', 200, 'own:69' ] ],
    [ 'an own window', [ limit => ['three=2r/1d'] ],
      [ '/three', 200, 'three:1' ], [ '/other-three', 200, 'three:0' ],
      [ '/three', 429, 'three:0' ] ],

    [ 'cost', [],
      [ '/cost/0', 200, 'cost:9' ], [ '/cost/3', 200, 'cost:6' ],
      [ '/cost/arg?n=2', 200, 'cost:4' ], [ '/cost/9', 429, 'cost:4' ],
      [ '/cost/3', 200, 'cost:1' ], [ '/cost/3', 429, 'cost:1' ],
      [ '/cost/arg?n=1', 200, 'cost:0' ], [ '/cost/0', 200, 'cost:0' ],
      [ '/cost/arg?n=00', 200, 'cost:0' ], [ '/cost/arg?n=1', 429, 'cost:0' ],
      [ '/cost/text?n=0', 429, 'cost:0' ] ],
    [ 'all at once', [],
      [ '/cost/10', 429, 'cost:9' ], [ '/cost/9', 200, 'cost:0' ] ],
    [ 'invalid cost', [],
      map({ [ "/cost/arg?n=$_", 503, '' ] }
          '', 'one', '-1', '1.5', '+1', '0x1', '%31', '2147483648', '9' x 30),
      [ '/cost/text?n=x', 503, '' ], [ '/cost/3', 200, 'cost:6' ] ],
);

for (@sequences) {
    my ($name, $option, @calls) = @$_;
    my $key = new_key(@$option)->{key};
    my $n = 0;

    for (@calls) {
        my ($uri, $status, $remaining) = @$_;
        my $response = $t->get($uri, key => $key);

        is(answer($response), "$status $remaining",
            $name . ', call ' . ++$n . ": $uri");
    }
}

like($t->read_log('error.log'), qr/\[error\] .*invalid cost "$_"/,
    "logged: invalid cost \"$_\"") for '', 'one', '2147483648', '1x';

is(answer($t->get('/', key => new_key()->{key}, port => 1)), '200 http:89',
    'inherited from http');

# keys do not share; a stranger with an id of a key costs it nothing

my ($one, $other) = map { new_key() } 1, 2;
my $forged = make_key(id => $one->{id});

is(answer($t->get('/three', key => $one->{key})), '200 three:2', 'one key');
is(answer($t->get('/three', key => $other->{key})), '200 three:2', 'another');
is(answer($t->get('/three', key => $forged)), '401 ', 'forged') for 1 .. 4;
is(answer($t->get('/three', key => $one->{key})), '200 three:1',
    'input 33: unharmed');

# waiting for as long as told is enough

my $key = new_key()->{key};
my $response;

for my $n (1 .. 3) {
    wait_for(sub {
        $response = $t->get('/short', key => $key);
        $response->{status} == 429;
    }, 'a full window');

    my $after = $response->{headers}{'retry-after'}[0];

    like($after, qr/^[123]$/, "time $n is told");
    sleep($after);
    is($t->get('/short', key => $key)->{status}, 200, "time $n is true");
}

$t->done;


sub new_key {
    my %option = (environment => 'prod', @_);

    return $t->create_key(name => "limits-$option{environment}", %option);
}


# the status, and what is left of each window
sub answer {
    my ($response) = @_;

    my $limit = $response->{headers}{ratelimit}[0] // '';

    return join ' ', "$response->{status} " . join ' ',
        map { s/^"(.*)";r=(\d+);t=\d+$/$1:$2/r } split /, /, $limit;
}
