#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for what waits for Redis and for no request: events, and records of
# jobs.  A worker has so many of them and no more.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;
use Test::Rbgv::Proxy;

my $t = Test::Rbgv->new;
$t->allow_alert(qr/refused "SET": "NOPERM /);

$t->start_redis;

my $key   = $t->create_key;
my $proxy = Test::Rbgv::Proxy->new(listen => $t->dir . '/proxy.sock',
                                   to => $t->redis_server->socket);

my $through = $t->expand('%%REDIS%%')
    =~ s{/redis-main/redis\.sock}{/proxy.sock}r
    =~ s{rbgv_auth_(?:pepper_file|lease) .*}{}gr;

$t->write_conf(<<"EOC")->start_nginx;
%%TEST_GLOBALS%%
worker_processes 1;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    keepalive_requests 1000000;
    rbgv_auth_lease 65536;
    rbgv_auth_redis_timeout 30s;
    rbgv_auth on;
    add_header X-Source \$rbgv_auth_source always;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        location /event { $through rbgv_auth_events on; empty_gif; }
        location /job { rbgv_auth_job_record \$arg_id; empty_gif; }
        location /metrics { rbgv_auth off; rbgv_auth_metrics; }
    }
}
EOC


sub metric {
    my ($name) = @_;

    my ($n) = $t->get('/metrics')->{body} =~ /^\Q$name\E (\d+)$/m;
    return $n;
}

sub events { return metric("rbgv_auth_events_total{result=\"$_[0]\"}") }
sub jobs   { return metric("rbgv_auth_job_records_total{result=\"$_[0]\"}") }

# how many of them are answered with 200
sub ask {
    my ($timeout, @uris) = @_;

    my ($c, $n) = ($t->connect(timeout => $timeout), 0);

    $c->send(join '', map { Test::Rbgv::request_text(
        'GET', $_, key => $key->{key}) } @uris);

    for (@uris) {
        my $response = eval { $c->response } or last;
        $n += $response->{status} == 200;
    }

    $c->close;
    return $n;
}


# events; again if the lease ended meanwhile, since a new one waits for them

my ($n, $lost, $written, $tries) = (0) x 4;

until ($n == 1100 || ++$tries > 5) {
    $proxy->rule;
    wait_for(sub { $t->get('/event', key => $key->{key})
                     ->{headers}{'x-source'}[0] eq 'lease' }, 'a lease');
    wait_for(sub { my $now = events('written');
                   my $same = $now == $written;
                   $written = $now;
                   $same }, 'those that wait');

    $lost = events('lost');
    $proxy->rule(on => 'XADD', hold => 1);
    $n = ask(5, ('/event') x 1100);
}

is($n, 1100, 'all have their answers');
is(events('lost') - $lost, 1100 - 1024, 'fault 37: those beyond 1024 are lost');

$proxy->rule;
wait_for(sub { events('written') >= $written + 1024 }, 'the others');
is(events('written'), $written + 1024, 'the others are written');
is(ask(30, '/event'), 1, 'one more');
wait_for(sub { events('written') == $written + 1025 }, 'its event');


# records of jobs, which are not given up for an hour

is(ask(30, '/job?id=first'), 1, 'a job');
is(jobs('stored'), 1, 'is recorded');

$t->redis(ACL => 'SETUSER', 'rbgv-gateway', '-set');
is(ask(30, map { "/job?id=job$_" } 1 .. 4200), 4200,
    'all have their answers');
is(jobs('lost'), 4200 - 4096, 'fault 37: those beyond 4096 are lost');

$t->redis(ACL => 'SETUSER', 'rbgv-gateway', '+set');
wait_for(sub { jobs('stored') == 4097 }, 'the others');
is(jobs('lost'), 4200 - 4096, 'the others are stored');
is(scalar(my @names = $t->redis(KEYS => 'rbgv:job:*')), 4097, 'in Redis');

$t->done;
