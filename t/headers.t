#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for rbgv_auth_headers: RateLimit-Policy and RateLimit, the legacy
# trio, and Retry-After.

use strict;
use warnings;

use Test::More;
use Test::Rbgv;

my $t = Test::Rbgv->new;

$t->start_redis;

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth on;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        location / { empty_gif; }
        location /tight { rbgv_auth_limit tight 1r/1h; empty_gif; }
        location /one { rbgv_auth_limit one 60r/1m; empty_gif; }
        location /many {
            rbgv_auth_limit minute    60r/1m;
            rbgv_auth_limit Per.hour  50r/1h;
            rbgv_auth_limit a-day_2   1000r/2d;
            empty_gif;
        }
        location /long {
            rbgv_auth_headers ietf;
            rbgv_auth_cost 0;
            rbgv_auth_limit nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn0 2147483647r/366d;
            rbgv_auth_limit nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn1 2147483647r/366d;
            rbgv_auth_limit nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn2 2147483647r/366d;
            rbgv_auth_limit nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn3 2147483647r/366d;
            rbgv_auth_limit nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn4 2147483647r/366d;
            rbgv_auth_limit nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn5 2147483647r/366d;
            rbgv_auth_limit nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn6 2147483647r/366d;
            rbgv_auth_limit nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn7 2147483647r/366d;
            empty_gif;
        }
        location /headers/ {
            rbgv_auth_limit headers 60r/1m;
            location /headers/off    { rbgv_auth_headers off; empty_gif; }
            location /headers/ietf   { rbgv_auth_headers ietf; empty_gif; }
            location /headers/legacy { rbgv_auth_headers legacy; empty_gif; }
            location /headers/both   { rbgv_auth_headers both; empty_gif; }
        }
    }
}
EOC

my @ietf   = qw(ratelimit-policy ratelimit);
my @legacy = map { "x-ratelimit-$_" } qw(limit remaining reset);
my $good   = $t->create_key->{key};

my $one = $t->get('/one', key => $good);

is(fields($one, 'ratelimit-policy'), '"one";q=60;w=60', 'one policy');
like(fields($one, 'ratelimit'), qr/^"one";r=59;t=[1-4]$/, 'its limit');

my $many = $t->get('/many', key => $good);

is(fields($many, 'ratelimit-policy'),
    '"minute";q=60;w=60, "Per.hour";q=50;w=3600, "a-day_2";q=1000;w=172800',
    'three policies');
like(fields($many, 'ratelimit'),
    qr/^"minute";r=59;t=\d+, "Per.hour";r=49;t=\d+, "a-day_2";r=999;t=\d+$/,
    'their limits');

my ($reset) = fields($many, 'ratelimit') =~ /"Per.hour";r=49;t=(\d+)/;

is(fields($many, @legacy), "50 49 $reset", 'legacy form: the least left');
is(fields($t->get('/', key => $good), @ietf, @legacy), '', 'no policy');

for (
    [ off    => [] ],
    [ ietf   => [@ietf] ],
    [ legacy => [@legacy] ],
    [ both   => [@ietf, @legacy] ],
) {
    my ($form, $names) = @$_;
    my $headers = $t->get("/headers/$form", key => $good)->{headers};

    is_deeply([ grep { exists $headers->{$_} } @ietf, @legacy ], $names,
        "rbgv_auth_headers $form");
}

my $names = 'n' x 31;
my @long  = map { qq("$names$_";q=2147483647;w=31622400) } 0 .. 7;

is(fields($t->get('/long', key => $good), 'ratelimit-policy'),
    join(', ', @long), 'as long as it can be');

# a full window

is($t->get('/tight', key => $good)->{status}, 200, 'in the quota');

my $limited = $t->get('/tight', key => $good);
my ($after) = fields($limited, 'retry-after');

is($limited->{status}, 429, 'over the quota');
ok($after =~ /^\d+$/ && $after >= 3600 && $after <= 3886, 'time is told')
    or diag($after);
is(fields($limited, @legacy), "1 0 $after", 'legacy form of a full window');
like(fields($limited, 'ratelimit'), qr/^"tight";r=0;t=\d+$/, 'nothing left');

$t->done;


# the values of header fields, those that are there
sub fields {
    my ($response, @names) = @_;

    return join ' ', map { @{ $response->{headers}{$_} // [] } } @names;
}
