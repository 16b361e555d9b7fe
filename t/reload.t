# Reload under load, quit with a command under way, a worker that is killed, and
# a single process (which nginx itself cannot reload).

use strict;
use warnings;

use List::Util qw(sum0);
use Test::More;

use Test::Rbgv;
use Test::Rbgv::Load;
use Test::Rbgv::Proxy;
use Test::Rbgv::Usage qw(usage);

my $t = Test::Rbgv->new;

$t->start_redis(acl => 0);
my $key   = $t->create_key;
my $proxy = Test::Rbgv::Proxy->new(listen => $t->dir . '/proxy.sock',
                                   to => $t->redis_server->socket);


sub conf {
    my ($port, $globals) = @_;

    return <<"EOC";
%%TEST_GLOBALS%%
$globals
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth_redis_timeout 10s;
    keepalive_requests 1000000;

    server {
        listen 127.0.0.1:%%PORT_$port%%;
        rbgv_auth on;
        rbgv_auth_limit default 1000000r/1m;
        location / { empty_gif; }
        location /held { rbgv_auth_redis unix:%%DIR%%/proxy.sock; empty_gif; }
    }
}
EOC
}

$t->write_conf(conf(0, 'worker_processes 2;'))->start_nginx;


sub status {
    my ($port) = @_;

    return $t->get('/', key => $key->{key}, port => $port // 0)->{status};
}


# those that are shutting down as well
sub children {
    my ($nginx) = @_;

    my $pid = $nginx->pid;

    open my $file, '<', "/proc/$pid/task/$pid/children" or return;
    return split ' ', scalar(<$file>) // '';
}


sub only_new {
    my ($name, $nginx, @old) = @_;

    my %old = map { $_ => 1 } @old;

    ok(wait_for(sub { !grep { $old{$_} } children($nginx) },
                'old workers to end', 9), $name);
}


# a request whose count Redis does not answer for now
sub held {
    my ($port) = @_;

    $proxy->rule(on => 'EVALSHA', hold => 1);

    my $c = $t->connect(port => $port // 0)
        ->send(Test::Rbgv::request_text('GET', '/held', key => $key->{key}));
    wait_for(sub { $proxy->stats->{held} == 1 }, 'a command under way');

    return $c;
}


# under load

my $nginx = $t->nginx;
my @old   = children($nginx);
my $n     = 12_000;

my $count = Test::Rbgv::Load->new(
    ports       => [ $t->port(0) ],
    connections => 16,
    request     => Test::Rbgv::request_text('GET', '/', key => $key->{key}),
)->run(sub {
    $nginx->process->signal('HUP') if $n % 2000 == 0;
    return $n-- > 0;
});

note "$count->{retried} retried";
is($count->{failed}, 0, 'fault 29: reload under load: no request failed');
is($count->{200}, sum0(values %$count) - $count->{retried},
   'and all were good');
is(usage($t, $key->{id})->{calls}, $count->{200}, 'and charged once');

wait_for(sub { (() = children($nginx)) == 2 }, 'old workers to end');
only_new('no old workers', $nginx, @old);


# a worker with nothing but a count that is not sent yet stays for it

$n = 9000;

my $short = Test::Rbgv::Load->new(
    ports       => [ $t->port(0) ],
    connections => 16,
    request     => Test::Rbgv::request_text('GET', '/', key => $key->{key},
                                            close => 1),
)->run(sub {
    $nginx->process->signal('HUP') if $n % 300 == 0;
    return $n-- > 0;
});

is_deeply($short, { 200 => 9000, failed => 0, retried => 0 },
          'fault 29: reload under load of short connections');
wait_for(sub { (() = children($nginx)) == 2 }, 'old workers to end');


# with an idle connection to Redis, and with a command under way

is(status(), 200, 'a connection to Redis');
@old = children($nginx);
$t->reload;
only_new('fault 29: old workers end with an idle connection', $nginx, @old);

my $held = held();
@old = children($nginx);
$t->reload;
is(status(), 200, 'new workers serve');
cmp_ok(scalar(() = children($nginx)), '>=', 3, 'an old worker waits for Redis');
$proxy->rule;
is($held->response->{status}, 200, 'its request is answered');
only_new('and then it ends', $nginx, @old);

my $hasty = $t->nginx('hasty');
$hasty->write_conf(conf(1, "worker_processes 1;\nworker_shutdown_timeout 1s;"))
    ->start;
$held = held(1);
@old = children($hasty);
$hasty->reload;
ok($held->closed, 'the request is dropped by worker_shutdown_timeout');
only_new('and the worker ends', $hasty, @old);
$proxy->rule;

$held = held(1);
$hasty->process->signal('QUIT');
wait_for(sub { !$hasty->workers }, 'the worker to quit');
$proxy->rule;
is($held->response->{status}, 200, 'quit: answered before');
ok($hasty->process->wait(9), 'and then it ends');


# a worker is killed

$t->allow_alert(qr/exited on signal 9/);
status() for 1 .. 10;
@old = $nginx->workers;
kill 'KILL', $old[0];
is_deeply([ map { status() } 1 .. 20 ], [ (200) x 20 ],
          'fault 30: a worker is killed: others go on');
wait_for(sub { (() = $nginx->workers) == 2 }, 'a new worker');
ok(wait_for(sub { status() == 200 }, 'an answer'), 'and a new one');


# a single process

my $single = $t->nginx('single');
$single->write_conf(conf(2, 'master_process off;'))->start;
is(status(2), 200, 'master_process off');
ok($single->stop, 'and it stops');

$t->done;
