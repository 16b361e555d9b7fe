#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for rbgv_auth_job_record: whoever sees the id of a new job finds the
# job, on any host; but for that the answer is as it would be.  With RBGV_LONG
# set, 10,000 jobs are asked for at once.

use strict;
use warnings;

use IO::Select;
use Test::More;

use Test::Rbgv;
use Test::Rbgv::Backend;
use Test::Rbgv::Conf;
use Test::Rbgv::Proxy;

my $t = Test::Rbgv->new;

$t->start_redis(tcp => 1);

my %key   = map { $_ => $t->create_key(name => "jobs-$_-prod") } qw(a b);
my $proxy = Test::Rbgv::Proxy->new(listen => $t->dir . '/proxy.sock',
                                   to => $t->redis_server->socket);

my $through = $t->expand('%%REDIS%%')
    =~ s{/redis-main/redis\.sock}{/proxy.sock}r;
my $by_tcp  = $t->expand('%%REDIS%%')
    =~ s{rbgv_auth_redis \S+;}{'rbgv_auth_redis redis://rbgv-gateway@'
                               . '127.0.0.1:' . $t->redis_server->port . ';'}er;

my $backend = Test::Rbgv::Backend->new(port => $t->port('b'),
                                       answer => \&answer);

my $rules = join "\n", map {
    my ($name, $rule) = @$_;
    map { my $record = $_ eq 'job'
            ? 'rbgv_auth_job_record $upstream_http_x_job_id 1h;' : '';
          "location /$_/$name/ { $record $rule }" } qw(job plain);
} (
    [ buffered   => 'proxy_pass http://backend/;' ],
    [ unbuffered => 'proxy_buffering off; proxy_pass http://backend/;' ],
    [ small      => 'proxy_buffers 2 4k; proxy_busy_buffers_size 4k;
                     proxy_max_temp_file_size 0; proxy_buffer_size 4k;
                     proxy_pass http://backend/;' ],
    [ gzip       => 'gzip on; gzip_types *; gzip_min_length 1;
                     proxy_pass http://backend/;' ],
    [ page       => 'proxy_intercept_errors on; error_page 500 /open/page;
                     proxy_pass http://backend/;' ],
    [ ssi        => 'ssi on; ssi_types *; proxy_pass http://backend/;' ],
    [ cache      => 'proxy_cache one; proxy_cache_valid any 1m;
                     proxy_cache_key $request_uri; proxy_force_ranges on;
                     proxy_pass http://backend/;' ],
    [ accel      => 'proxy_set_header X-To $arg_to;
                     proxy_pass http://backend/;' ],
    [ static     => 'alias %%DIR%%/;' ],
);

$t->write_file(page => 'a page');

for my $host (0, 1) {
    my $redis = $host ? $by_tcp : $through;

    $t->nginx("host$host")->write_conf(<<"EOC")->start;
%%TEST_GLOBALS%%
worker_processes @{[ $host + 1 ]};
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    $redis
    rbgv_auth_redis_timeout 30s;
    keepalive_requests 1000000;
    proxy_cache_path %%DIR%%/cache$host keys_zone=one:1m;
    proxy_http_version 1.1;
    proxy_set_header Connection \$http_connection;
    proxy_set_header Upgrade \$http_upgrade;
    upstream backend { server 127.0.0.1:%%PORT_b%%; }
    rbgv_auth on;
    server {
        listen 127.0.0.1:%%PORT_$host%%;
        listen 127.0.0.1:%%PORT_h2$host%% http2;

        $rules
        location /day/ { rbgv_auth_job_record \$upstream_http_x_job_id;
                         proxy_pass http://backend/; }
        location /arg/ { rbgv_auth_job_record \$arg_id; alias %%DIR%%/;
            location /arg/off/ { rbgv_auth_job_record off; alias %%DIR%%/; }
        }
        location ~ ^/jobs/(?<job>.*)\$ { rbgv_auth_job \$job; empty_gif; }
        location /files/ { alias %%DIR%%/; }
        location /open/ { rbgv_auth off; alias %%DIR%%/; }
        location /next/ { proxy_pass http://backend/; }
        location /ping { rbgv_auth off; empty_gif; }
        location /lost { rbgv_auth_job_record \$arg_id;
                         rbgv_auth_limit none 1r/1h; rbgv_auth_cost 2;
                         empty_gif; }
        location /metrics { rbgv_auth off; rbgv_auth_metrics; }
    }
}
EOC
}

my $n = 0;

sub text {
    my ($method, $uri, %arg) = @_;

    return Test::Rbgv::request_text($method, $uri, key => $key{a}{key}, %arg);
}

sub ask {
    my ($method, $uri, %arg) = @_;

    return $t->request($method, $uri, key => $key{a}{key}, %arg);
}

sub owner {
    my ($id) = @_;

    return $t->redis(GET => "rbgv:job:$id") // 'nobody';
}

sub metric {
    my ($result) = @_;

    my ($value) = $t->get('/metrics')->{body}
        =~ /^rbgv_auth_job_records_total\{result="$result"\} (\d+)$/m;

    return $value;
}


# what is recorded

is(ask('POST', '/job/buffered/length?id=first')->{headers}{'x-job-id'}[0],
    'first', 'the answer has the id');
is(owner('first'), $key{a}{id}, 'the record is the id of the key');
cmp_ok(abs($t->redis(TTL => 'rbgv:job:first') - 3600), '<', 60, 'its time');
ask('POST', '/day/length?id=day');
cmp_ok(abs($t->redis(TTL => 'rbgv:job:day') - 86400), '<', 60, 'a day');

is(ask('GET', '/jobs/first', port => 1)->{status}, 200, 'found by its key');
is(ask('GET', '/jobs/first', port => 1, key => $key{b}{key})->{status}, 404,
    'and by no other');
is(metric('stored'), 2, 'stored');

is(ask('POST', '/job/buffered/length')->{status}, 200, 'no job');
is(ask('GET', '/arg/page?id=any')->{body}, 'a page', 'any variable');
is(owner('any'), $key{a}{id}, 'recorded');
is(ask('GET', '/arg/off/page?id=none')->{body}, 'a page', 'off');
is(ask('GET', '/lost?id=none')->{status}, 429, 'refused');
is(ask('GET', '/arg/page?id=none', key => 'foo')->{status}, 401, 'refused');
is(owner('none'), 'nobody', 'not recorded');
is(metric('stored'), 3, 'stored');

is(ask('GET', "/arg/page?id=$_")->{body}, 'a page', 'invalid id: ' . length)
    for 'a,b', 'j' x 129;
is(metric('lost'), 2, 'invalid ids are lost');

$t->redis(SET => 'rbgv:job:taken', $key{b}{id}, EX => 100);
is(ask('GET', '/arg/page?id=taken')->{body}, 'a page', 'job of another key');
is(owner('taken'), $key{b}{id}, 'is not taken from it');
is(metric('conflict'), 1, 'conflict');

$t->redis(SET => 'rbgv:job:mine', $key{a}{id}, EX => 100);
is(ask('GET', '/arg/page?id=mine')->{body}, 'a page', 'the backend did it');
is(metric('stored'), 4, 'stored');
is(metric('conflict'), 1, 'no conflict');
cmp_ok($t->redis(TTL => 'rbgv:job:mine'), '<=', 100, 'its time is kept');


# the same answers as without

sub same {
    my ($method, $rule, $uri, %arg) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my @got;

    for my $kind (qw(plain job)) {
        my $c = $t->connect(%arg);
        my $id = 'same-' . ++$n;

        $uri =~ s/id=[^&]*/id=$id/;
        $c->send(text($method, "/$kind/$rule/$uri", %arg, close => 1));

        # a part of what is held cannot be had
        my $got = $c->rest =~ s/\b(?:same-\d+|Date: .*)\b/X/gr
                           =~ s/^Accept-Ranges: bytes\r\n//mr;

        push @got, $got;
        is(owner($id), $kind eq 'job' ? $key{a}{id} : 'nobody',
            "$method $kind $rule $uri: recorded") unless $arg{other};
    }

    is($got[1], $got[0], "$method $rule $uri: the same answer");
    cmp_ok(length $got[0], '>', 100, 'it has an answer') unless $arg{short};
}

for my $rule (qw(buffered unbuffered small gzip cache)) {
    same('GET', $rule, "$_?id=")
        for qw(length chunked close large created empty);
    same('POST', $rule, 'length?id=', body => 'x' x 100_000);
    same('HEAD', $rule, 'length?id=');
    same('GET', $rule, 'none?id=');
    same('GET', $rule, 'error?id=');
    same('GET', $rule, 'cut?id=');
}

same('GET', 'gzip', 'large?id=', headers => [ 'Accept-Encoding: gzip' ]);
same('HEAD', 'gzip', 'large?id=', headers => [ 'Accept-Encoding: gzip' ]);
same('GET', 'buffered', 'unchanged?id=');
same('GET', 'page', 'error?id=');
same('GET', 'ssi', 'include?id=');
same('GET', 'accel', 'accel?to=/open/page&id=');
same('GET', 'accel', 'accel?to=/files/page&id=');
same('GET', 'accel', 'accel?to=/next/length&id=', other => 1);

is(ask('GET', '/job/cache/large?id=range',
       headers => [ 'Range: bytes=1-2' ])->{status}, 200, 'no ranges');

my $c = $t->connect;

$c->send(join '', map { text('POST', "/job/$_?id=line-" . ++$n,
                             body => 'foo') }
         qw(buffered/length unbuffered/chunked small/large gzip/empty
            buffered/none));
is_deeply([ map { $c->response->{status} } 1 .. 5 ],
    [ 200, 200, 200, 200, 204 ], 'a connection stays in order');

my $upgraded = $t->connect->send(text('GET', '/job/buffered/upgrade?id=up',
    headers => [ 'Connection: upgrade', 'Upgrade: foo' ]));
is($upgraded->response->{status}, 101, 'another protocol');
is($upgraded->send("foo\n")->rest, "got foo\n", 'is spoken');
is(owner('up'), $key{a}{id}, 'recorded');

for my $uri (qw(buffered/large unbuffered/chunked buffered/none)) {
    my $url = 'http://127.0.0.1:' . $t->port('h20') . "/job/$uri?id=h2-" . ++$n;

    my $got = `curl -s --http2-prior-knowledge -o /dev/null '$url' \\
        -H 'X-Api-Key: $key{a}{key}' -w '%{http_code} %{size_download}'`;

    is($got, { 'buffered/large' => '200 300000', 'buffered/none' => '204 0',
               'unbuffered/chunked' => '200 10' }->{$uri}, "HTTP/2 $uri");
    is(owner("h2-$n"), $key{a}{id}, 'recorded');
}


# nothing is sent before Redis has it

sub silent {
    my ($connection) = @_;

    # the worker has been elsewhere since
    $t->get('/ping', key => $key{b}{key}) for 1 .. 3;
    return !IO::Select->new($connection->socket)->can_read(0);
}

# what comes until it matches
sub read_until {
    my ($connection, $regex) = @_;

    my $got = '';

    while ($got !~ $regex) {
        IO::Select->new($connection->socket)->can_read(10) or last;
        sysread $connection->socket, $got, 65536, length $got or last;
    }

    return $got;
}

for my $uri (qw(buffered/length buffered/large buffered/stall
                unbuffered/length unbuffered/large unbuffered/stall
                small/large small/stall static/page
                buffered/none buffered/cut))
{
    my $id   = 'held-' . ++$n;
    my $base = $uri eq 'static/page' ? '/arg/page' : "/job/$uri";

    $proxy->rule(on => 'SET', hold => 1);
    my $c = $t->connect->send(text('GET', "$base?id=$id", close => 1));
    wait_for(sub { $proxy->stats->{held} >= 1 }, 'the record');
    ok(silent($c), "silent: $uri");

    $proxy->rule;

    # the backend sends no more until it is told to
    my $got = read_until($c, $uri =~ /stall/ ? qr/first/ : qr/\r\n\r\n/);
    like($got, qr/^HTTP\S+ 20[04] /, "then the header: $uri");
    $t->write_file("go-$id", '') if $uri =~ /stall/;
    $got .= $c->rest;

    my $all = $uri =~ /large/ ? qr/\r\n\r\n(?:x{50000}){6}$/
            : $uri =~ /stall/ ? qr/first.*second\r\n0\r\n\r\n$/s
            : $uri =~ /none/  ? qr/\r\n\r\n$/
            : $uri =~ /page/  ? qr/\r\n\r\na page$/
            :                   qr/\r\n\r\nsome text$/;
    like($got, $all, "all of it: $uri");
}


# Redis reads before it writes: the answer is not there before both are done

for my $i (1 .. 5) {
    $t->redis(CLIENT => 'PAUSE', 100, 'WRITE');
    ask('POST', "/job/buffered/length?id=pause-$i");
    is(ask('GET', "/jobs/pause-$i", port => 1)->{status}, 200,
        'writes are paused');
}


# clients that go

my @gone = map {
    $t->connect->send(text('GET', "/job/$_?wait=all&id=gone-" . ++$n))
} map { ("buffered/$_", "unbuffered/$_") } (qw(length large stall none)) x 3;

# a reply that is held holds what comes behind it
wait_for(sub { @gone == (() = glob $t->dir . '/at-gone-*') }, 'the backend');
$proxy->rule(on => 'SET', hold => 1);
$t->write_file('go-all', '');
wait_for(sub { $proxy->stats->{held} == @gone }, 'records');

$_ % 2 ? $gone[$_]->abort : $gone[$_]->close for 0 .. $#gone;
wait_for(sub {
    @gone <= scalar(() = $t->nginx('host0')->read_log('access.log')
                         =~ /gone-\d+ HTTP\S+" 499 /g);
}, 'requests to be freed');

$proxy->rule;
wait_for(sub { owner("gone-$n") eq $key{a}{id} }, 'the record');
is(scalar(grep { owner('gone-' . ($n - $_)) eq $key{a}{id} } 0 .. $#gone),
    @gone, 'fault 28: their jobs are recorded');
is(ask('GET', '/ping')->{status}, 200, 'the worker goes on');


# at once, on the other host

my @host = (0, 1);
my $jobs = $ENV{RBGV_LONG} ? 10_000 : 200;
my @make = map { $t->connect(port => $_) } @host;
my @poll = map { $t->connect(port => $_) } @host;
my %status;

for my $i (1 .. $jobs) {
    my $host = $i % 2;

    $make[$host]->send(text('POST', "/job/buffered/length?id=poll-$i"));
    my ($id) = @{ $make[$host]->response->{headers}{'x-job-id'} };
    $poll[!$host]->send(text('GET', "/jobs/$id"));
    $status{ $poll[!$host]->response->{status} }++;
}

is_deeply(\%status, { 200 => $jobs }, "$jobs jobs are found at once")
    or diag explain \%status;


# what the operator sees

like($t->nginx('host0')->read_log('error.log'), qr/\[error\] .*rbgv_auth: $_/,
    "log: $_")
    for 'job "taken" of key "\w{12}" is recorded for another key',
        'invalid id of a new job "a,b", it is not recorded';


# the configuration

refuse_conf($t, 'location', @$_) for
    [ 'rbgv_auth_job_record foo;', qr/no variable in the value "foo"/ ],
    [ 'rbgv_auth_job_record $arg_a 0;', qr/invalid time "0"/ ],
    [ 'rbgv_auth_job_record $arg_a foo;', qr/invalid time "foo"/ ],
    [ 'rbgv_auth_job_record $arg_a; rbgv_auth_job_record $arg_a;',
      qr/is duplicate/ ];

$_->close for @make, @poll;
$t->done;


# the backend: it answers as the path says; the job is that of the argument
sub answer {
    my ($client, $head) = @_;

    my ($path, $args) = $head =~ m{^\w+ /(\w+)(?:\?(\S*))? } or return;
    my ($id) = ($args // '') =~ /\bid=([^&]*)/;

    my $text = $path eq 'large'   ? 'x' x 300_000
             : $path eq 'include' ? 'a<!--#include virtual="/open/page" -->b'
             :                      'some text';

    my ($status, $rest) = (200, sprintf "Content-Length: %d\r\n\r\n%s",
                                        length $text, $text);

    my $chunked = join "\r\n", 'Transfer-Encoding: chunked', '', '5', 'first',
                               '';

    ($status, $rest) = @{ {
        chunked   => [ 200, "${chunked}5\r\n-last\r\n0\r\n\r\n" ],
        close     => [ 200, "\r\n$text" ],
        created   => [ 201, $rest ],
        empty     => [ 200, "Content-Length: 0\r\n\r\n" ],
        none      => [ 204, "\r\n" ],
        unchanged => [ 304, "ETag: \"foo\"\r\n\r\n" ],
        error     => [ 500, $rest ],
        cut       => [ 200, "Content-Length: 1000\r\n\r\n$text" ],
        upgrade   => [ 101, "Upgrade: foo\r\n\r\n" ],
        stall     => [ 200, $chunked ],
        accel     => [ 200, 'X-Accel-Redirect: '
                            . ($head =~ /^X-To: (\S+)/m ? $1 : '')
                            . "\r\n$rest" ],
    }->{$path} // [ $status, $rest ] };

    $rest =~ s/\r\n\r\n\K.*//s if $head =~ /^HEAD/;

    my $connection = $status == 101 ? 'upgrade' : 'close';
    my $job = defined $id && $id ne '' ? "X-Job-Id: $id\r\n" : '';

    if (($args // '') =~ /\bwait=(\w+)/) {
        $t->write_file("at-$id", '');
        wait_for(sub { -e $t->dir . "/go-$1" }, 'go');
    }

    print $client "HTTP/1.1 $status Fine\r\nConnection: $connection\r\n",
        "Content-Type: text/plain\r\n$job$rest";
    $client->flush;

    if ($path eq 'stall') {
        wait_for(sub { -e $t->dir . "/go-$id"
                       || IO::Select->new($client)->can_read(0) }, 'go');
        print $client "6\r\nsecond\r\n0\r\n\r\n";
    }

    print $client 'got ', scalar readline $client if $path eq 'upgrade';
}
