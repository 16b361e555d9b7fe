#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for rbgv_auth_metrics, and for what is made of it in docs/: alerts, and
# the dashboard.

use strict;
use warnings;

use File::Slurper qw(read_binary);
use JSON::PP;
use Test::More;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

use Test::Rbgv;
use Test::Rbgv::Fleet qw(fleet_id make_fleet);
use Test::Rbgv::Key qw(make_key);

my $t = Test::Rbgv->new;
my $root = $t->root;

# Redis itself goes by its own clock
$t->start_redis;

my %key  = map { $_ => $t->create_key(name => "metrics-$_-prod") } qw(a b c);
my @few  = map { $t->create_key(name => "metrics$_-prod") } 1 .. 22;


# A clock that jumps by a minute for each byte in a file.

my $jumps = $t->write_file(jumps => '');

$t->write_file('clock.c' => <<"EOC");
#define _GNU_SOURCE
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *ts)
{
    struct stat st;
    int rc = syscall(SYS_clock_gettime, id, ts);
    if (id != CLOCK_REALTIME && stat("$jumps", &st) == 0)
        ts->tv_sec += st.st_size * 60;
    return rc;
}
EOC

my $clock = $t->dir . '/clock.so';

system('gcc', '-shared', '-fPIC', '-o', $clock, $t->dir . '/clock.c') == 0
    or die 'gcc fails';

sub jump {
    open my $file, '>>', $jumps or die "$jumps: $!";
    print $file 'x';
}

sub minute { return int(clock_gettime(CLOCK_MONOTONIC) / 60) + -s $jumps }


$t->write_conf(<<'EOC');
%%TEST_GLOBALS%%
worker_processes 2;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth_zone 256k;
    rbgv_auth_lease auto;
    rbgv_auth_redis_timeout 5s;
    rbgv_auth_log_level info;
    keepalive_requests 1000000;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth on;
        location / { empty_gif; }
        location /off { rbgv_auth_lease off; empty_gif; }
        location /two { rbgv_auth_limit two 2r/1h; empty_gif; }
        location /short { rbgv_auth_redis_timeout 100ms; empty_gif; }
        location /metrics { rbgv_auth off; rbgv_auth_metrics; }
    }
}
EOC

{
    local $ENV{LD_PRELOAD} = $clock;
    $t->start_nginx;
}


# "name{labels}" -> value
sub metrics {
    my $body = $t->get('/metrics')->{body};

    return { $body =~ /^([a-z]\S*|[a-z_]+\{.*\}) (\S+)$/mg };
}

# what promtool says of the metrics as they are now
sub lint {
    my $file = $t->write_file(metrics => $t->get('/metrics')->{body});

    return `promtool check metrics <$file 2>&1` . ($? ? "exit: $?" : '');
}

# names of which there are series now
sub names { return map { s/\{.*//r => 1 } keys %{ metrics() } }

sub total {
    my ($metrics, $regex) = @_;

    my $sum = 0;
    $sum += $metrics->{$_} for grep { $_ =~ $regex } keys %$metrics;
    return $sum;
}

sub ask {
    my ($uri, $key, $n) = @_;

    my $c = $t->connect;

    $c->send(Test::Rbgv::request_text('GET', $uri, key => $key) x $n);
    $c->response for 1 .. $n;
    $c->close;
}


# the form

is(lint(), '', 'check metrics: before any request');

my $response = $t->get('/metrics');

is_deeply($response->{headers}{'content-type'}, ['text/plain; version=0.0.4'],
    'content type');
is($t->request('HEAD', '/metrics')->{status}, 200, 'HEAD');
is($t->request('POST', '/metrics')->{status}, 405, 'POST');
is_deeply([ grep { /lag/ } keys %{ metrics() } ], [],
    'no lag of a store that nobody listens to');


# commands, and how long they take

ask('/off', $key{a}{key}, 20);

my $metrics = metrics();
my @buckets = map { $metrics->{"rbgv_auth_redis_duration_seconds_bucket{le=\"$_\"}"} }
    qw(0.0001 0.00025 0.0005 0.001 0.0025 0.005 0.01 0.025 0.05 0.1 0.25 1
       +Inf);
my $count = $metrics->{rbgv_auth_redis_duration_seconds_count};

is_deeply([ sort { $a <=> $b } @buckets ], \@buckets, 'buckets add up');
is($buckets[-1], $count, 'the last one has all');
cmp_ok($count, '>=', 2, 'a record was read, and requests were counted');
is($metrics->{rbgv_auth_redis_commands_total}, $count, 'all had a reply');
cmp_ok($metrics->{rbgv_auth_redis_duration_seconds_sum}, '>', 0, 'the sum');
cmp_ok($metrics->{rbgv_auth_redis_duration_seconds_sum}, '<=', 5 * $count,
    'is below the deadlines');


# the busiest keys: those with one request each are more than there is room for

sub keys_of {
    my ($metrics) = @_;

    return map { /^rbgv_auth_key_requests\{key="(\w+)"/
                 ? ($1 => $metrics->{$_}) : () } keys %$metrics;
}

sub trusted { return 1 == grep { /lag/ && $metrics->{$_} < 0.9 }
                              keys %{ $metrics = metrics() } }

my (%keys, $attempts);
my %want = ($key{a}{id} => 30, $key{b}{id} => 12, $key{c}{id} => 5,
            other => 5, few => 17);

# once more if the minute ends in between, or a machine that is too slow has the
# zone trusted no longer

do {
    jump();
    wait_for(\&trusted, 'trust');

    my $minute = minute();

    ask('/', $key{a}{key}, 30);
    ask('/off', $key{b}{key}, 12);
    ask('/two', $key{c}{key}, 5);
    ask('/', $_->{key}, 1) for @few;
    ask('/', make_key(id => $key{a}{id}), 10);
    ask('/', 'foo', 10);

    if ($minute == minute()) {
        jump();
        %keys = keys_of(metrics());
        $keys{few} = grep { delete $keys{ $_->{id} } } @few;
    }
} until join(' ', map { "$_=" . ($keys{$_} // '') } sort keys %want)
        eq join(' ', map { "$_=$want{$_}" } sort keys %want)
     || ++$attempts == 20;

is_deeply(\%keys, \%want, 'requests by key') or diag explain \%keys;

jump();
is_deeply({ keys_of(metrics()) }, { other => 0 }, 'a minute without any');


# the zone

my $size = metrics()->{rbgv_auth_zone_capacity};

cmp_ok($size, '>', 100, 'room');
is(metrics()->{rbgv_auth_zone_evictions_total}, 0, 'not used up');

make_fleet($t, 2 * $size, sub { });
wait_for(\&trusted, 'trust');
ask('/', make_key(id => fleet_id($_)), 1) for 0 .. 2 * $size - 1;

$metrics = metrics();

is($metrics->{rbgv_auth_zone_keys}, $size, 'it is full');
cmp_ok($metrics->{rbgv_auth_zone_evictions_total}, '>', 0, 'evictions');
cmp_ok($metrics->{rbgv_auth_zone_evictions_total}, '<=',
    2 * $size + keys(%key) + @few, 'no more than keys');
is($metrics->{rbgv_auth_zone_full_total}, 0, 'there was room for all');
is(lint(), '', 'check metrics: after requests');


# Redis is frozen: the lag grows, commands stay without a reply

$t->redis_freeze;

wait_for(sub { ask('/short', $key{a}{key}, 1);
               $metrics = metrics();
               total($metrics, qr/_lag_/) > 1
               && total($metrics, qr/_redis_up/) == 0 }, 'the outage');

cmp_ok($metrics->{rbgv_auth_redis_commands_total}, '>',
    $metrics->{rbgv_auth_redis_duration_seconds_count}, 'no reply');
cmp_ok(total($metrics, qr/kind="timeout"/), '>', 0, 'as an error');
cmp_ok(total($metrics, qr/UNAVAILABLE/), '>', 0, 'and as an outcome');
is(lint(), '', 'check metrics: in an outage');

my %names = names();

$t->redis_thaw;
wait_for(sub { ask('/short', $key{a}{key}, 1);
               $metrics = metrics();
               total($metrics, qr/_lag_/) < 0.9
               && total($metrics, qr/_redis_up/) == 1 }, 'recovery');
ok(1, 'recovery');


# alerts

like(`promtool check rules $root/docs/prometheus-rules.yml 2>&1`,
    qr/SUCCESS: \d+ rules found/, 'check rules');
like(`promtool test rules $root/t/prometheus-rules.yml 2>&1`,
    qr/^\s+SUCCESS$/m, 'test rules');


# the dashboard: each panel is in its place, asks something, and of what is
# there

my $dashboard = decode_json(read_binary("$root/docs/grafana-dashboard.json"));
my @panels = @{ $dashboard->{panels} };
my @graphs = grep { $_->{type} ne 'row' } @panels;
my %ids    = map { $_->{id} => 1 } @panels;
my %places = map { join(' ', @{ $_->{gridPos} }{qw(x y)}) => 1 } @panels;

is(scalar keys %ids, @panels, 'panels have their own ids');
is(scalar keys %places, @panels, 'and their own places');
is_deeply([ map { $_->{title} } grep { $_->{type} eq 'row' } @panels ],
    [ 'Traffic by outcome', 'Where decisions come from', 'Redis', 'Zone',
      'Keys', 'Without Redis, and losses' ], 'rows');
is_deeply([ grep { $_->{gridPos}{x} + $_->{gridPos}{w} > 24 } @panels ], [],
    'none is too wide');

my @exprs = map { $_->{expr} } map { @{ $_->{targets} } } @graphs;

cmp_ok(scalar @exprs, '>=', @graphs, 'all ask something');

my $asked = $t->write_file('exprs.yml' => encode_json({ groups => [ {
    name => 'dashboard', rules => [ map { {
        record => 'x',
        expr   => s/\$__rate_interval/5m/gr =~ s/\$instance/.*/gr,
        labels => { n => "$_" },
    } } @exprs ] } ] }));

like(`promtool check rules $asked 2>&1`, qr/SUCCESS: @{[ scalar @exprs ]} /,
    'as Prometheus takes it');

for my $file (qw(prometheus-rules.yml grafana-dashboard.json)) {
    my %used = map { $_ => 1 } read_binary("$root/docs/$file")
        =~ /\b(rbgv_auth_\w+)(?=[{\[]| (?:==|>|<))/g;

    cmp_ok(scalar keys %used, '>', 5, "$file: metrics are found");
    is_deeply([ grep { !$names{$_} } sort keys %used ], [],
        "$file: all are there");
}

is_deeply([ grep { my $name = $_; !grep { /\b$name\b/ } @exprs }
            sort keys %names ], [], 'all are in the dashboard');

$t->done;
