#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for rbgv_auth_job: a key finds its own jobs; those of others, unknown
# ones and malformed ids are the same to it, and to Redis.  With RBGV_LONG set,
# 100,000 jobs of 100 keys.

use strict;
use warnings;

use List::Util qw(max min);
use Test::More;
use Time::HiRes qw(time);

use Test::Rbgv;
use Test::Rbgv::Conf;
use Test::Rbgv::Proxy;
use Test::Rbgv::Usage qw(charged);

my $t = Test::Rbgv->new;
$t->allow_alert(qr/refused "GET": "WRONGTYPE /,
                qr/answered "[A-Z]+" with a reply of another form/);

$t->start_redis;

my %key   = map { $_ => $t->create_key(name => "job-$_-prod") } qw(a b);
my $proxy = Test::Rbgv::Proxy->new(listen => $t->dir . '/proxy.sock',
                                   to => $t->redis_server->socket);
my $lease = 'rbgv_auth_lease auto;';

# a store of its own, through the proxy
my $through = $t->expand('%%REDIS%%')
    =~ s{/redis-main/redis\.sock}{/proxy.sock}r
    =~ s{rbgv_auth_(?:pepper_file|lease) .*}{}gr;

$t->write_file(page => 'a page');

$t->write_conf(<<"EOC")->start_nginx;
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth_lease off;
    rbgv_auth_redis_timeout 10s;
    log_format vars '\$request_uri \$rbgv_auth_status \$rbgv_auth_source';
    access_log vars.log vars;
    keepalive_requests 1000000;
    root %%DIR%%;
    rbgv_auth on;
    server {
        listen 127.0.0.1:%%PORT_0%%;

        location ~ ^/jobs/(?<job>.*)\$ { rbgv_auth_job \$job; empty_gif; }

        location /arg { rbgv_auth_job \$arg_job; empty_gif;
            location /arg/nested { empty_gif; }
            location /arg/off { rbgv_auth_job off; empty_gif; }
            location /arg/if { if (\$arg_if) { add_header X-If 1; }
                               empty_gif; }
        }
        location /lease { $lease rbgv_auth_limit wide 1000000r/1h;
                          rbgv_auth_job \$arg_job; empty_gif; }
        location /limit { rbgv_auth_limit one 3r/1h;
                          rbgv_auth_job \$arg_job; empty_gif; }
        location /credits { rbgv_auth_credits 3; rbgv_auth_job \$arg_job;
                            empty_gif; }
        location /lease-limit { $lease rbgv_auth_limit two 2r/1h;
                                rbgv_auth_job \$arg_job; empty_gif; }

        location /to/one { try_files /none /arg?job=\$arg_job; }
        location /to/off { rbgv_auth_job \$arg_job; try_files /none /page; }
        location /error/open { rbgv_auth_job \$arg_job;
                               error_page 404 /open/page; empty_gif; }
        location /error/guarded { rbgv_auth_job \$arg_job;
                                  error_page 404 =200 /page; empty_gif; }
        location /error/named { rbgv_auth_job \$arg_job;
                                error_page 404 = \@named; empty_gif; }
        location /any { satisfy any; deny all; rbgv_auth_job \$arg_job;
                        empty_gif; }
        location \@named { try_files /page =404; }
        location /page { }
        location /open/ { rbgv_auth off; alias %%DIR%%/; }
        location /down { rbgv_auth_redis redis://127.0.0.1:1;
                         rbgv_auth_job \$arg_job; empty_gif; }
        location /proxy { $through rbgv_auth_redis_timeout 30s;
                          rbgv_auth_job \$arg_job; empty_gif; }
        location /slow { $through rbgv_auth_redis_timeout 200ms; $lease
                         rbgv_auth_limit slow 1000000r/1h;
                         rbgv_auth_job \$arg_job; empty_gif; }
    }
}
EOC


# an id that is not a job of key a, of each kind
my %id = (
    foreign   => 'job-of-b',
    unknown   => 'job-of-c',
    malformed => 'job,of-b',
);

$t->redis(SET => 'rbgv:job:job-of-a', $key{a}{id}, EX => 3600);
$t->redis(SET => "rbgv:job:$id{foreign}", $key{b}{id}, EX => 3600);

# what must never be looked at
$t->redis(SET => "rbgv:job:$id{malformed}", $key{a}{id}, EX => 3600);
$t->redis(SET => 'rbgv:job:', $key{a}{id}, EX => 3600);


sub ask {
    my ($uri, %arg) = @_;

    return $t->request($arg{method} // 'GET', $uri, key => $key{a}{key}, %arg);
}


# all bytes of an answer, but for what differs from request to request
sub bytes {
    my ($response) = @_;

    return $response->{text} =~ s/"request_id":"[0-9a-f]{32}"/ID/r
                             =~ s/^Date: .*\r$/DATE/mr
                             =~ s/^(RateLimit: .*|X-RateLimit-R.*)\r$/LEFT/gmr;
}


# the answers

is(ask('/jobs/job-of-a')->{status}, 200, 'own job');
is(ask('/jobs/job-of-b', key => $key{b}{key})->{status}, 200,
    'own job of the other key');

refused(ask("/jobs/$id{$_}"), 404, 'job_not_found', $_) for sort keys %id;

for my $location (qw(/arg /lease /limit)) {
    my %bytes = map { bytes(ask("$location?job=$id{$_}")) => 1 } keys %id;
    is(keys %bytes, 1, "the same bytes, $location") or diag explain \%bytes;
}

my %head = map { bytes(ask("/arg?job=$id{$_}", method => 'HEAD')) => 1 }
           keys %id;
is(keys %head, 1, 'the same bytes, HEAD');
like((keys %head)[0], qr/^HTTP\S+ 404 .*\r\n\r\n$/s, 'HEAD has no body');

my @valid     = ('a', '-', '.', '..', '_', '0', 'a.B-9_z', 'j' x 128);
my @malformed = ('', 'j' x 129, 'j' x 4000, 'a b', 'a+b', 'a:b', 'a/b', '{a}',
                 "a\r\n*1\r\n", '%n', '$(a)',
                 '*', 'a,b', 'a"b', "\xc3\xa4", 'a%2Db', 'rbgv:job:a');

for my $id (@valid) {
    $t->redis(SET => "rbgv:job:$id", $key{a}{id});
    is(ask("/arg?job=$id")->{status}, 200, 'valid: ' . substr $id, 0, 20);
}

for my $id (@malformed) {
    $t->redis(SET => "rbgv:job:$id", $key{a}{id});
    my $uri = $id =~ s/([ "%\r\n])/sprintf '%%%02X', ord $1/ger;
    is(ask("/arg?job=$uri")->{status}, 404,
        'input 10: malformed: ' . substr $uri, 0, 20);
}

$t->redis(SET => 'rbgv:job:whose', $_)
    and is(ask('/arg?job=whose')->{status}, 404, "not the id: $_")
    for substr($key{a}{id}, 1), "$key{a}{id} ", '', lc($key{a}{id}) . uc 'x';

refused(ask('/arg?job=job-of-a', key => undef), 401, 'missing_api_key',
    'no key');
refused(ask('/arg?job=job-of-a', key => 'foo'), 401, 'invalid_api_key',
    'malformed key');


# what is asked of Redis

sub calls {
    my ($command) = @_;

    my $stats = $t->redis(INFO => 'commandstats')->{"cmdstat_$command"} // '';

    return $stats =~ /^calls=(\d+)/ ? $1 : 0;
}

# What is told of a refusal is told after it; what there is to tell of a lease
# may come in between, and then it is tried again.
sub work {
    my ($uri, $expected) = @_;

    my $work;

    for (1 .. 20) {
        $t->redis(CONFIG => 'RESETSTAT');
        ask($uri);

        eval {
            wait_for(sub {
                $work = join ' ', map { "$_:" . calls($_) }
                                  grep { calls($_) } qw(evalsha get hgetall);
                $work eq $expected;
            }, $expected, 0.5);
        };

        last if $work eq $expected;
    }

    return $work;
}

# so that the keys are in the zone, and a lease is there
ask('/lease?job=job-of-a') for 1 .. 50;

for my $kind (sort(keys %id), 'own') {
    my $id = $id{$kind} // 'job-of-a';

    my ($count, $permit) = $id{$kind} ? ('evalsha:2 get:1', 'evalsha:1 get:1')
                                      : ('evalsha:1 get:1', 'get:1');

    is(work("/arg?job=$id", $count), $count, "commands: $kind");
    is(work("/lease?job=$id", $permit), $permit,
        "commands with a lease: $kind");
}

for my $kind (sort(keys %id), 'own') {
    ask('/proxy?job=foo');
    $proxy->rule(on => 'GET', hold => 1);

    my $c = $t->connect->send(Test::Rbgv::request_text('GET',
        '/proxy?job=' . ($id{$kind} // 'job-of-a'), key => $key{a}{key}));

    is(eval { wait_for(sub { $proxy->stats->{held} == 2 }, 'both', 15) }, 1,
        "no round trip more: $kind");
    $proxy->rule;
    is($c->response->{status}, $id{$kind} ? 404 : 200, "and then: $kind");
}


# the quota

my $c = charged($t, $key{b}{id}, 'calls:3 job:3 limited:2 one:3', sub {
    my @got = map { ask("/limit?job=$_", key => $key{b}{key}) }
              ('job-of-a', 'foo', 'a,b', 'job-of-a', 'job-of-b');

    is_deeply([ map { $_->{status} } @got ], [ 404, 404, 404, 429, 429 ],
        '404 is counted, 429 goes before it');
    is_deeply([ map { $_->{headers}{'x-ratelimit-remaining'}[0] } @got ],
        [ 2, 1, 0, 0, 0 ], 'what is left is told');
});
is($c, 'calls:3 job:3 limited:2 one:3', 'charges');

is_deeply([ map { ask("/lease-limit?job=$_", key => $key{b}{key})->{status} }
            ('foo', 'job-of-b', 'foo', 'job-of-b') ],
    [ 404, 200, 429, 429 ], '429 without asking Redis');

my $rich = $t->create_key(name => 'job-rich-prod', credits => 7);

$t->redis(SET => 'rbgv:job:rich', $rich->{id});

for ([ 'foo', 404, 0 ], [ 'rich', 200, 3 ], [ 'a,b', 404, 3 ],
     [ 'job-of-b', 404, 3 ], [ 'rich', 200, 6 ], [ 'foo', 402, 6 ],
     [ 'rich', 402, 6 ])
{
    my ($id, $status, $spent) = @$_;

    is(ask("/credits?job=$id", key => $rich->{key})->{status}, $status,
        "credits: $id");

    # they are given back after the answer
    my $got = sub { $t->redis(HGET => "rbgv:use:{$rich->{id}}", 'credits')
                    // 0 };
    eval { wait_for(sub { $got->() == $spent }, 'credits', 5) };
    is($got->(), $spent, "credits that are spent: $id");
}



# locations

is(ask('/arg/nested?job=job-of-b')->{status}, 404, 'nested location');
is(ask('/arg/if?if=1&job=job-of-b')->{status}, 404, 'if in a location');
is(ask('/arg/off?job=job-of-b')->{status}, 200, 'off');
is(ask('/to/one?job=job-of-b')->{status}, 404, 'redirect to it');
is(ask('/to/one?job=job-of-a')->{status}, 200, 'redirect to it, own');
is(ask('/to/off?job=job-of-b')->{status}, 404, 'no redirect from it');
is(ask('/to/off?job=job-of-a')->{status}, 200, 'redirect from it, own');
is(ask('/error/open?job=foo')->{body}, 'a page', 'error_page');
refused(ask('/error/guarded?job=foo'), 404, 'job_not_found',
    'error_page that is guarded');
refused(ask('/error/named?job=foo'), 404, 'job_not_found',
    'named error_page that is guarded');
refused(ask('/any?job=foo'), 404, 'job_not_found', 'satisfy any');
is(ask('/any?job=job-of-a')->{status}, 200, 'satisfy any, own');

is(charged($t, $key{a}{id}, 'calls:1', sub { ask('/to/one?job=job-of-a') }),
    'calls:1', 'a redirect is charged once');


# a body that nobody reads, and what comes behind it

my $connection = $t->connect;

$connection->send(join '', map {
    Test::Rbgv::request_text('POST', "/arg?job=$_", key => $key{a}{key},
                             body => 'x' x 1000)
} qw(job-of-a foo job-of-b));
$connection->send(Test::Rbgv::request_text('GET', '/arg?job=job-of-a',
                                           key => $key{a}{key}));

is_deeply([ map { $connection->response->{status} } 1 .. 4 ],
    [ 405, 404, 404, 200 ], 'a connection stays in order');


# no answer

refused(ask('/down?job=job-of-a'), 503, 'auth_unavailable', 'no store');

$t->redis(HSET => 'rbgv:job:hash', a => 1);
refused(ask('/arg?job=hash'), 503, 'auth_unavailable', 'not a string');
refused(ask('/lease?job=hash'), 503, 'auth_unavailable',
    'not a string, with a lease');

ask('/slow?job=job-of-a') for 1 .. 50;
$proxy->rule(on => 'GET', hold => 1);
refused(ask('/slow?job=job-of-a'), 503, 'auth_unavailable', 'no reply');
$proxy->rule;
wait_for(sub { ask('/slow?job=job-of-a')->{status} == 200 }, 'recovery');

$proxy->rule(on => 'GET', with => ":1\r\n", times => 1);
wait_for(sub { ask('/proxy?job=job-of-a')->{status} == 503 }, 'integer');
wait_for(sub { ask('/proxy?job=job-of-a')->{status} == 200 }, 'recovery');


# clients that go

$t->redis(CONFIG => 'RESETSTAT');
$proxy->rule(on => 'GET', hold => 1);

my @gone = map {
    $t->connect->send(Test::Rbgv::request_text('GET', '/proxy?job=job-of-a',
                                               key => $key{a}{key}))
} 1 .. 20;

wait_for(sub { calls('get') == @gone }, 'replies');
$_->abort for @gone[0 .. 9];
wait_for(sub {
    10 == scalar(() = $t->read_log('vars.log') =~ m{^/proxy\S+ - \w+$}gm);
}, 'aborts');
$proxy->rule;
is_deeply([ map { $_->response->{status} } @gone[10 .. 19] ], [ (200) x 10 ],
    'those that stay are answered');


# what the operator sees

my $log = $t->read_log('error.log');

like($log, qr/\[notice\] .*rbgv_auth: JOB, key: "$key{a}{id}", reason: $_, /,
    "log: $_")
    for 'malformed job id', 'unknown job', 'job of another key';
like($log, qr/\[notice\] .*UNAVAILABLE, key: "$key{a}{id}", reason: $_, /,
    "log: $_")
    for 'an error from redis', 'no answer from redis';
like($log, qr/\[crit\] .*redis "\S+" $_/, "log: $_")
    for 'refused "GET": "WRONGTYPE',
        'answered "GET" with a reply of another form';

like($t->read_log('vars.log'), $_, "variables: $_")
    for qr{^/arg\?job=job-of-b JOB redis$}m,
        qr{^/lease\?job=job-of-b JOB redis$}m,
        qr{^/lease-limit\?job=job-of-b LIMITED zone$}m,
        qr{^/arg\?job=job-of-a PASSED redis$}m;


# the configuration

refuse_conf($t, 'location', @$_) for
    [ 'rbgv_auth_job foo;', qr/no variable in the value "foo"/ ],
    [ 'rbgv_auth_job $arg_a; rbgv_auth_job $arg_b;', qr/is duplicate/ ],
    [ 'rbgv_auth_job $foo;', qr/unknown "foo" variable/ ];
refuse_conf($t, 'server', 'rbgv_auth_job $arg_a;', qr/is not allowed here/);


crowd() if $ENV{RBGV_LONG};

$t->done;


# 100 keys with 1000 jobs each; each probe is by a key that does not have it

sub crowd {
    my @keys = map { $t->create_key(name => "crowd-$_-prod") } 1 .. 100;

    for my $n (0 .. 99_999) {
        $t->redis(SET => "rbgv:job:crowd-$n", $keys[$n % 100]{id});
    }

    my %make = (
        foreign   => sub { 'crowd-' . int rand 100_000 },
        unknown   => sub { 'crowd-' . (100_000 + int rand 900_000) },
        malformed => sub { 'crowd,' . int rand 100_000 },
    );
    my @kinds = sort keys %make;
    my (%time, %bytes, %status);

    my $client = $t->connect;

    for my $probe (1 .. 60_000) {
        my $kind = $kinds[rand @kinds];
        my $id   = $make{$kind}->();
        my $n    = int rand 100;
        $n = ($n + 1) % 100 if $id =~ /(\d+)$/ && $1 % 100 == $n;

        my $sent = time;
        $client->send(Test::Rbgv::request_text('GET', "/jobs/$id",
                                               key => $keys[$n]{key}));
        my $response = $client->response;

        push @{ $time{$kind} }, time - $sent;
        $status{$kind}{ $response->{status} }++;
        $bytes{ bytes($response) }++;
    }

    is_deeply([ map { keys %{ $status{$_} } } @kinds ], [ (404) x 3 ],
        'no probe finds a job') or diag explain \%status;
    is(keys %bytes, 1, 'all answers have the same bytes');

    my (@low, @high);

    for my $kind (@kinds) {
        my @sorted = sort { $a <=> $b } @{ $time{$kind} };
        my %at = map { $_ => 1000 * $sorted[ $#sorted * $_ / 100 ] }
                 10, 50, 90, 99;

        diag sprintf '%-9s %6d probes, ms: p10 %.3f p50 %.3f p90 %.3f '
            . 'p99 %.3f', $kind, scalar @sorted, @at{10, 50, 90, 99};

        push @low,  $at{10};
        push @high, $at{90};
    }

    cmp_ok(max(@low), '<', min(@high), 'times overlap');

    my $own = grep { $client->send(Test::Rbgv::request_text('GET',
                         "/jobs/crowd-$_", key => $keys[$_ % 100]{key}));
                     $client->response->{status} == 200 } 0 .. 999;
    is($own, 1000, 'each key finds its own');
}
