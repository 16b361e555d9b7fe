# Limits that a host counts by itself: exact over its workers, in all windows
# or none, by the rules of the location, and told to Redis afterwards.

use strict;
use warnings;

use List::Util qw(max);
use Test::More;
use Time::HiRes qw(time);

use Test::Rbgv;
use Test::Rbgv::Load;
use Test::Rbgv::Usage qw(usage);

my $t = Test::Rbgv->new;
$t->allow_alert(qr/refused "EVALSHA": "OOM /);

$t->start_redis;

for my $n (0, 1) {
    my $zone = $n ? 'off' : '16m';

    $t->nginx("host$n")->write_conf(<<"EOC")->start;
%%TEST_GLOBALS%%
worker_processes 4;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth_zone $zone;
    rbgv_auth_redis_timeout 5s;
    rbgv_auth_log_level info;
    keepalive_requests 1000000;
    add_header X-Source \$rbgv_auth_source always;
    add_header X-Worker \$pid always;

    server {
        listen 127.0.0.1:%%PORT_$n%% reuseport;
        rbgv_auth on;

        location / { empty_gif; }
        location /hundred { rbgv_auth_limit hundred 100r/1h; empty_gif; }
        location /short { rbgv_auth_limit short 40r/2s; empty_gif; }
        location /two {
            rbgv_auth_limit wide 30r/1h;
            rbgv_auth_limit tight 10r/1h;
            empty_gif;
        }
        location /two/wide { rbgv_auth_limit wide 30r/1h; empty_gif; }
        location /cost {
            rbgv_auth_limit cost 10r/1h;
            rbgv_auth_cost \$arg_n;
            empty_gif;
        }
        location /own { rbgv_auth_limit own 5r/1h; empty_gif; }
        location /allow {
            rbgv_auth_limit hundred 100r/1h;
            rbgv_auth_limit_unavailable allow;
            empty_gif;
        }
        location /deny {
            rbgv_auth_limit hundred 100r/1h;
            rbgv_auth_limit_unavailable deny;
            empty_gif;
        }
        location /credits { rbgv_auth_credits 1; empty_gif; }
        location /credits/allow {
            rbgv_auth_credits 1;
            rbgv_auth_limit_unavailable allow;
            empty_gif;
        }
        location /year { rbgv_auth_limit year 1r/366d; empty_gif; }
        location = /metrics { rbgv_auth off; rbgv_auth_metrics; }
    }
}
EOC
}


my (%passed, %limited);

sub ask {
    my ($uri, $key, $port) = @_;

    my $r = $t->get($uri, key => $key->{key}, port => $port);

    $passed{ $key->{id} }++ if $r->{status} == 200;
    $limited{ $key->{id} }++ if $r->{status} == 429;

    return "$r->{status} " . ($r->{headers}{'x-source'}[0] // '');
}


# many at once; statuses, workers, times of who passed
sub many {
    my ($uri, $key, $condition, %arg) = @_;
    my (%worker, @times);

    my $count = Test::Rbgv::Load->new(
        ports       => [ $t->port(0) ],
        connections => 32,
        request     => Test::Rbgv::request_text('GET', $uri,
                                                key => $key->{key}),
        %arg,
        seen        => sub {
            my (undef, $status, $sent, $came, $text) = @_;
            $worker{$1}++ if $text =~ /^X-Worker: (\d+)/m;
            push @times, [ $sent, $came ] if $status eq '200';
        },
    )->run($condition);

    $passed{ $key->{id} }  += $count->{200} // 0;
    $limited{ $key->{id} } += $count->{429} // 0;

    return ($count, scalar keys %worker, @times);
}


# how many of n pass
sub passes {
    my ($uri, $key, $n) = @_;
    my ($count) = many($uri, $key, so_many($n));
    return $count->{200};
}


sub so_many { my ($n) = @_; return sub { $n-- > 0 } }


my %key = map { $_ => $t->create_key(limit => ['own=3r/1h']) }
          qw(a b c d e);

# Redis answers reads, and counts nothing
for my $key (values %key) {
    wait_for(sub { ask('/', $key) eq '200 redis' && ask('/', $key, 1) }, 'key');
}

$t->redis('CONFIG', 'SET', 'maxmemory', 1);


# the same quota for all workers

my ($count, $workers, @times) = many('/hundred', $key{a}, so_many(1000));
cmp_ok($workers, '>', 1, 'by several workers');
is($count->{200}, 100, 'fault 18: 100 of 1000 pass');
is($count->{429}, 900, 'fault 18: and no other is an error');

my $r = $t->get('/hundred', key => $key{a}{key});
$limited{ $key{a}{id} }++;
refused($r, 429, 'rate_limited', 'refused by this host');
is($r->{headers}{'x-source'}[0], 'local', 'where it was decided');
is($r->{headers}{'ratelimit-policy'}[0], '"hundred";q=100;w=3600',
   'RateLimit-Policy');
like($r->{headers}{ratelimit}[0], qr/^"hundred";r=0;t=\d+$/, 'RateLimit');
is($r->{headers}{'x-ratelimit-remaining'}[0], 0, 'X-RateLimit-Remaining');

# a window, and up to a slice more
my $after = $r->{headers}{'retry-after'}[0];
ok($after > 3500 && $after <= 3826, "Retry-After: $after");

is(ask('/hundred', $key{b}), '200 local', 'another key has its own');
is(ask('/', $key{a}), '200 local', 'as has no limit');
is(ask('/deny', $key{b}), '503 zone', 'deny');
is(ask('/allow', $key{a}), '200 local', 'allow');
$passed{ $key{a}{id} }++;
is($t->get('/allow', key => $key{a}{key})->{headers}{ratelimit}, undef,
   'with nothing to tell of limits');


# all windows or none

is(passes('/two', $key{b}, 50), 10, 'the tight one of two windows');
is(passes('/two/wide', $key{b}, 50), 20,
   'the wide one was charged 10');


# cost, credits, limits of the key, long windows

is(join(' ', map { ask("/cost?n=$_", $key{b}) =~ /^(\d+)/ } 4, 4, 4, 2, 1, 0),
   '200 200 429 200 429 200', 'cost');
is(ask('/cost?n=x', $key{b}), '503 zone', 'no cost');
is(ask('/credits', $key{b}), '503 zone', 'credits are not spent here');
is(ask('/credits/allow', $key{b}), '200 local', 'nor if all may pass');
is(passes('/own', $key{b}, 20), 3, 'a limit of the key');
is(join(' ', map { ask('/year', $key{b}) } 1, 2), '200 local 429 local',
   'a window of a year');
cmp_ok($t->get('/year', key => $key{b}{key})->{headers}{'retry-after'}[0], '>',
       366 * 86400 - 60, 'and until it has room');


# without a zone there is room all the same

is(join(' ', map { ask('/own', $key{c}, 1) } 1 .. 4),
   '200 local 200 local 200 local 429 local', 'without a zone');


# no interval has more than the quota

my $end = time + 7;
($count, $workers, @times) = many('/short', $key{d}, sub { time < $end },
                                  pause => 0.02);

my @sent = sort { $a <=> $b } map { $_->[0] } @times;
my @came = sort { $a <=> $b } map { $_->[1] } @times;
my ($most, $ended) = (0, 0);

for my $before (0 .. $#sent) {
    $ended++ while $ended < @came && $came[$ended] <= $sent[$before] + 2;
    $most = max $most, $ended - $before;
}

cmp_ok($most, '<=', 40, "$count->{200} in 7 s, at most $most in 2 s");
cmp_ok($count->{200}, '>', 40, 'and it is given back');
is_deeply([ sort keys %$count ], [ 200, 429, 'failed', 'retried' ],
          'nothing else');
is($count->{failed} + $count->{retried}, 0, 'all are answered');


# no more windows than there is room for: 64 of 96

my $rooms = join "\n", map {
    my $n = $_;
    "location = /$n { empty_gif;"
    . join(' ', map { "rbgv_auth_limit w$n$_ 1r/1h;" } 1 .. 8) . ' }'
} 'a' .. 'l';

$t->nginx('small')->write_conf(<<"EOC")->start;
%%TEST_GLOBALS%%
worker_processes 2;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth_zone 256k;
    rbgv_auth_redis_timeout 5s;
    add_header X-Source \$rbgv_auth_source always;

    server {
        listen 127.0.0.1:%%PORT_small%%;
        rbgv_auth on;
        $rooms
    }
}
EOC

my @rooms  = map { ask("/$_", $key{e}, 'small') } 'a' .. 'l';
my $passed = grep { $_ eq '200 local' } @rooms;

ok($passed > 0 && $passed <= 8, "$passed of 12 requests find room");
is(grep(/^503/, @rooms), 12 - $passed, 'and all others are refused');
is_deeply([ map { ask("/$_", $key{e}, 'small') =~ /^(\d+)/ } 'a' .. 'l' ],
          [ map { $_ eq '200 local' ? 429 : 503 } @rooms ],
          'and no window is forgotten');
like($t->nginx('small')->read_log('error.log'),
     qr/UNAVAILABLE, key: "$key{e}{id}", reason: no room to count on this host/,
     'the reason');


# told when it counts again

$t->redis('CONFIG', 'SET', 'maxmemory', 0);

for my $name (qw(a d)) {
    wait_for(sub { ask('/', $key{$name}) eq '200 redis' }, 'Redis');

    my $id = $key{$name}{id};
    my $usage;

    # what a worker tells may be under way
    wait_for(sub {
        $usage = usage($t, $id);
        $usage->{limited} == $limited{$id};
    }, 'all of it');

    is($usage->{calls}, $passed{$id}, 'uses are told');
    is($usage->{limited}, $limited{$id}, 'and refusals');
}

# metrics

my $metrics = $t->get('/metrics')->{body};
like($metrics, qr/^rbgv_auth_degraded_requests_total\{mode="allow"\} 3$/m,
     'fault 18: metric of allow');
like($metrics, qr/^rbgv_auth_redis_errors_total\{kind="error"\} [1-9]/m,
     'fault 18: metric of errors');
like($metrics, qr/^rbgv_auth_requests_total\{outcome="LIMITED",source="local"\} [1-9]/m,
     'metric of sources');

$t->done;
