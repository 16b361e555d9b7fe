#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for rbgv_auth_events: the last 100 calls of a key, written when they
# are answered, and nobody waits for it.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);

use Test::Rbgv;
use Test::Rbgv::Key qw(make_key);
use Test::Rbgv::Proxy;

my $t = Test::Rbgv->new;
$t->allow_alert(qr/refused "XADD": "NOPERM /,
                qr/answered "[A-Z]+" with a reply of another form/);

$t->start_redis;

my %key   = map { $_ => $t->create_key(name => "events-$_-prod") } qw(a b c);
my $proxy = Test::Rbgv::Proxy->new(listen => $t->dir . '/proxy.sock',
                                   to => $t->redis_server->socket);

my $through = $t->expand('%%REDIS%%')
    =~ s{/redis-main/redis\.sock}{/proxy.sock}r
    =~ s{rbgv_auth_(?:pepper_file|lease) .*}{}gr;

$t->write_file(page => 'a page');

$t->write_conf(<<"EOC")->start_nginx;
%%TEST_GLOBALS%%
worker_processes 1;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    keepalive_requests 1000000;
    rbgv_auth_redis_timeout 10s;
    large_client_header_buffers 4 16k;
    root %%DIR%%;
    rbgv_auth on;
    rbgv_auth_events on;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        add_header X-Request-Id \$request_id always;
        location / { empty_gif; }
        location /off { rbgv_auth_events off; empty_gif; }
        location /open { rbgv_auth off; empty_gif; }
        location /full { rbgv_auth_limit none 1r/1h; rbgv_auth_cost 2;
                         empty_gif; }
        location /job { rbgv_auth_job \$arg_id; empty_gif; }
        location /new { rbgv_auth_job_record \$arg_id; empty_gif; }
        location /test { rbgv_auth_environment test; empty_gif; }
        location /moved { try_files /none /open/page; }
        location /page { error_page 404 /open/page;
                         rbgv_auth_job \$arg_id; empty_gif; }
        location /proxy { $through rbgv_auth_redis_timeout 30s;
                          empty_gif; }
        location /cut { $through rbgv_auth_redis_timeout 31s; empty_gif; }
        location /down { rbgv_auth_redis redis://127.0.0.1:1; empty_gif; }
        location /metrics { rbgv_auth off; rbgv_auth_metrics; }
    }
}
EOC


sub ask {
    my ($uri, %arg) = @_;

    return $t->request($arg{method} // 'GET', $uri, key => $key{a}{key}, %arg);
}

# the events of a key, oldest first, each a hash
sub events {
    my ($name) = @_;

    return map { { @{ $_->[1] } } }
           $t->redis(XRANGE => "rbgv:events:{$key{$name}{id}}", '-', '+');
}

# so many as there are, or as are waited for
sub await {
    my ($name, $n) = @_;

    eval { wait_for(sub { events($name) >= $n }, 'events') };
    return events($name);
}

sub metric {
    my ($result) = @_;

    my ($value) = $t->get('/metrics')->{body}
        =~ /^rbgv_auth_events_total\{result="$result"\} (\d+)$/m;

    return $value;
}


# each field

my $began = time;
my @id = map { $_->{headers}{'x-request-id'}[0] } (
    ask('/v1/images?secret=geheim'),
    ask('/full'),
    ask('/job?id=unknown'),
    ask('/job?id=a,b'),
    ask('/new?id=fresh'),
    ask('/job?id=fresh'),
    ask('/', method => 'POST', body => 'foo'),
    ask('/', method => 'M' x 40),
    ask('/' . 'x' x 300),
    ask('/%41%0a%22/./../z%3f?y'),
    ask('/moved?x'),
    ask('/page?id=foo'),
    ask('/"},"x":{"$(id)`id`%25n%25s{a}*1\\'),
);

my @want = map { { method => $_->[0], path => $_->[1], status => $_->[2],
                   request_id => shift @id,
                   $_->[3] ? (job_id => $_->[3]) : () } } (
    [ 'GET', '/v1/images', 200 ],
    [ 'GET', '/full', 429 ],
    [ 'GET', '/job', 404, 'unknown' ],
    [ 'GET', '/job', 404 ],
    [ 'GET', '/new', 200, 'fresh' ],
    [ 'GET', '/job', 200, 'fresh' ],
    [ 'POST', '/', 405 ],
    [ 'M' x 32, '/', 405 ],
    [ 'GET', '/' . 'x' x 255, 200 ],
    [ 'GET', '/%41%0a%22/./../z%3f', 200 ],
    [ 'GET', '/moved', 200 ],
    [ 'GET', '/page', 404, 'foo' ],
    [ 'GET', '/"},"x":{"$(id)`id`%25n%25s{a}*1\\', 200 ],
);

my @got  = await('a', scalar @want);
my @time = map { delete $_->{time} } @got;

is_deeply(\@got, \@want, 'input 10: events') or diag explain \@got;
is(scalar(grep { /^\d+\.\d{3}$/ && $_ > $began - 1 && $_ < time + 1 } @time),
    @want, 'times');
wait_for(sub { metric('written') == @want }, 'the count');
is(metric('lost'), 0, 'none is lost');


# those that are none

ask($_) for qw(/off /open/page /down /metrics);
ask('/', key => $_)
    for 'foo', make_key(), make_key(id => $key{a}{id}), undef;
ask('/test');
$t->rbgvctl('disable', $key{b}{id});
wait_for(sub { ask('/', key => $key{b}{key})->{status} == 401 }, 'disabled');
ask('/last');

@got = await('a', @want + 1);
is($got[-1]{path}, '/last', 'the last one');
is(@got, @want + 1, 'no event of what has no good key');
is_deeply([ grep { !/\{$key{a}{id}\}/ } $t->redis(KEYS => 'rbgv:events:*') ],
    [], 'nor of another one');


# 100 are kept, exactly

my $c = $t->connect;

for (1 .. 250) {
    $c->send(Test::Rbgv::request_text('GET', "/$_", key => $key{c}{key}));
    $c->response;
}

wait_for(sub { metric('written') == @want + 1 + 250 }, 'all of them');
is_deeply([ map { $_->{path} } events('c') ], [ map { "/$_" } 151 .. 250 ],
    'the last 100');
is($t->redis(XLEN => "rbgv:events:{$key{c}{id}}"), 100, 'no more');


# nobody waits

my $written = metric('written');

is(ask('/proxy')->{status}, 200, 'before');
wait_for(sub { metric('written') > $written }, 'its event');
$proxy->rule(on => 'XADD', hold => 1);
is(ask('/proxy')->{status}, 200, 'not for the reply');
wait_for(sub { $proxy->stats->{held} >= 1 }, 'an event');
$proxy->rule;


# losses

my $lost = metric('lost');

$t->redis(ACL => 'SETUSER', 'rbgv-gateway', '-xadd');
is(ask('/')->{status}, 200, 'not allowed');
wait_for(sub { metric('lost') > $lost }, 'refused');
like($t->read_log('error.log'),
    qr/\[crit\] .*redis "\S+" refused "XADD": "NOPERM/, 'it is told');
$t->redis(ACL => 'SETUSER', 'rbgv-gateway', '+xadd');

is(ask('/cut')->{status}, 200, 'before');
$lost = metric('lost');
$proxy->rule(on => 'XADD', with => ":1\r\n", times => 1);
is(ask('/cut')->{status}, 200, 'another reply');
wait_for(sub { metric('lost') > $lost }, 'lost');
wait_for(sub { ask('/cut')->{status} == 200 }, 'recovery');
ok(1, 'the worker goes on');

$t->done;
