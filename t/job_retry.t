#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for new jobs that Redis does not take: the client has its answer, and
# the record is sent again until it is stored or given up.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);

use Test::Rbgv;
use Test::Rbgv::Backend;
use Test::Rbgv::Proxy;

my $t = Test::Rbgv->new;
$t->allow_alert(qr/connect\(\) to unix:\S+ failed \(2:/,
                qr/refused "SET": "NOPERM /,
                qr/answered "[A-Z]+" with a reply of another form/);

$t->start_redis;

my $key   = $t->create_key;
my $id    = $key->{id};
my $proxy = Test::Rbgv::Proxy->new(listen => $t->dir . '/proxy.sock',
                                   to => $t->redis_server->socket);

my $through = $t->expand('%%REDIS%%')
    =~ s{/redis-main/redis\.sock}{/proxy.sock}r;

# answers once it is told to, so that Redis can change meanwhile
my $backend = Test::Rbgv::Backend->new(port => $t->port('b'), answer => sub {
    my ($client, $head) = @_;

    my ($job) = $head =~ m{^\w+ /(\w+)};

    $t->write_file("at-$job", '');
    wait_for(sub { -e $t->dir . "/go-$job" }, 'go');
    print $client "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n",
        "Connection: close\r\nX-Job-Id: $job\r\n\r\nOK";
});

$t->write_conf(<<"EOC")->start_nginx;
%%TEST_GLOBALS%%
worker_processes 1;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    $through
    rbgv_auth on;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth_redis_timeout 10s;
        location / {
            rbgv_auth_job_record \$upstream_http_x_job_id;
            proxy_pass http://127.0.0.1:%%PORT_b%%;
        }
        location /hangs {
            rbgv_auth_redis_timeout 1s;
            rbgv_auth_job_record \$upstream_http_x_job_id;
            proxy_pass http://127.0.0.1:%%PORT_b%%;
        }
        location /short {
            rbgv_auth_job_record \$upstream_http_x_job_id 1s;
            proxy_pass http://127.0.0.1:%%PORT_b%%;
        }
        location /ping { empty_gif; }
        location /metrics { rbgv_auth off; rbgv_auth_metrics; }
    }
}
EOC


sub ping { return $t->get('/ping', key => $key->{key})->{status} }

sub works { return wait_for(sub { ping() == 200 }, 'recovery') }

sub owner { return $t->redis(GET => "rbgv:job:$_[0]") // 'nobody' }

sub metrics {
    my $text = $t->get('/metrics')->{body};

    return join ' ', $text =~ /^rbgv_auth_job_records_total\S+ (\d+)$/mg;
}

sub logged {
    my ($regex) = @_;

    return wait_for(sub { $t->read_log('error.log') =~ $regex }, $regex);
}

# "job" of the key is "what", in a line of that level
sub told {
    my ($level, $job, $what) = @_;

    return logged(
        qr/\[$level\] .*rbgv_auth: job "$job" of key "$id" is $what$/m);
}


# a request whose job is made while CODE is in force; its answer
sub make {
    my ($job, $code) = @_;

    works();
    my $c = $t->connect->send(Test::Rbgv::request_text('POST', "/$job",
                                  key => $key->{key}, close => 1));

    wait_for(sub { -e $t->dir . "/at-$job" }, 'the backend');
    $code->();
    $t->write_file("go-$job", '');

    return $c->response;
}


# Redis is away

my $answer = make('away', sub { $t->redis_stop });
is($answer->{status}, 201, 'Redis is away: the client has its answer');
is($answer->{body}, 'OK', 'and all of it');
told('error', 'away', 'not recorded yet');
is(metrics(), '0 1 0 0', 'it is tried again');

$t->redis_start;
ok(told('notice', 'away', 'recorded now'),
    'Redis is back');
is(owner('away'), $id, 'recorded');
is(metrics(), '1 1 0 0', 'stored');


# it hangs: the answer waits for the deadline, and no longer

my $began = time;
$answer = make('hangs', sub { $proxy->rule(on => 'SET', hold => 1) });
is($answer->{status}, 201, 'Redis hangs: the client has its answer');
cmp_ok(time - $began, '>', 0.9, 'after the deadline');
told('error', 'hangs', 'not recorded yet');
$proxy->rule;
ok(told('notice', 'hangs', 'recorded now'),
    'what was stored then is not another\'s now');
is(owner('hangs'), $id, 'recorded');


# it refuses

$answer = make('refused', sub {
    $t->redis(ACL => 'SETUSER', 'rbgv-gateway', '-set');
});
is($answer->{status}, 201, 'Redis refuses: the client has its answer');
logged(qr/\[crit\] .*redis "\S+" refused "SET": "NOPERM /);
told('error', 'refused', 'not recorded yet');
$t->redis(ACL => 'SETUSER', 'rbgv-gateway', '+set');
ok(told('notice', 'refused', 'recorded now'), 'recorded later');


# it answers something else

$answer = make('foreign', sub {
    $proxy->rule(on => 'SET', with => ":1\r\n", times => 1);
});
is($answer->{status}, 201, 'another reply: the client has its answer');
ok(told('notice', 'foreign', 'recorded now'), 'recorded later');
is(metrics(), '4 4 0 0', 'all are stored');


# somebody else takes the id meanwhile

$answer = make('taken', sub {
    $t->redis(ACL => 'SETUSER', 'rbgv-gateway', '-set');
});
$t->redis(SET => 'rbgv:job:taken', 'X' x 12);
$t->redis(ACL => 'SETUSER', 'rbgv-gateway', '+set');
ok(told('error', 'taken', 'recorded for another key'),
    'taken meanwhile');
is(owner('taken'), 'X' x 12, 'it stays where it is');
is(metrics(), '4 5 0 1', 'a conflict');


# the time of the record is over

$answer = make('short', sub {
    $t->redis(ACL => 'SETUSER', 'rbgv-gateway', '-set');
});
ok(told('error', 'short', 'not recorded, and is given up'),
    'given up');
is(metrics(), '4 6 1 1', 'lost');
$t->redis(ACL => 'SETUSER', 'rbgv-gateway', '+set');


# a worker that quits stays for it

make('reload', sub { $proxy->rule(on => 'SET', close => 1) });
told('error', 'reload', 'not recorded yet');
$t->reload;
$proxy->rule;
ok(told('notice', 'reload', 'recorded now'), 'by an old worker');
is(owner('reload'), $id, 'recorded');

make('stop', sub { $proxy->rule(on => 'SET', close => 1) });
told('error', 'stop', 'not recorded yet');
$t->nginx->process->stop('TERM');
like($t->read_log('error.log'),
    qr/job "stop" of key "$id" is not recorded, and is given up/,
    'lost with the worker');

$t->done;
