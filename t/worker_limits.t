# What a worker has only so many of: connections, and commands that wait for
# Redis.  Beyond them 503 at once, and good again when there is room.

use strict;
use warnings;

use IO::Select;
use Test::More;

use Test::Rbgv;
use Test::Rbgv::Http2;
use Test::Rbgv::Key qw(make_key);
use Test::Rbgv::Proxy;

use constant PENDING => 8192;

my $t = Test::Rbgv->new;

$t->start_redis(acl => 0);
$t->allow_alert(qr/worker_connections are not enough/);

my $key   = $t->create_key;
my $proxy = Test::Rbgv::Proxy->new(listen => $t->dir . '/proxy.sock',
                                   to => $t->redis_server->socket);


sub conf {
    my ($port, $connections) = @_;

    return <<"EOC";
%%TEST_GLOBALS%%
worker_processes 1;
worker_rlimit_nofile 1024;
events { worker_connections $connections; }
http {
    %%TEST_GLOBALS_HTTP%%
    rbgv_auth_pepper_file %%DIR%%/pepper;
    rbgv_auth_redis unix:%%DIR%%/proxy.sock;
    rbgv_auth_zone off;
    rbgv_auth_redis_timeout 60s;
    rbgv_auth_log_level info;
    keepalive_requests 1000000;
    keepalive_timeout 300s;
    http2_max_concurrent_streams 20000;

    server {
        listen 127.0.0.1:%%PORT_$port%%;
        listen 127.0.0.1:%%PORT_h2$port%% http2;
        rbgv_auth on;
        location / { empty_gif; }
        location /open { rbgv_auth off; empty_gif; }
    }
}
EOC
}


sub recovers {
    my ($port, $name) = @_;

    ok(wait_for(sub {
        my $r = eval { $t->get('/', port => $port, key => $key->{key}) };
        $r && $r->{status} == 200;
    }, 'recovery'), $name);
}


# Connections: clients take all of them, with requests that are not whole yet.

$t->write_conf(conf(0, 32))->start_nginx;

my ($worker) = $t->nginx->workers;

sub open_files { return scalar(() = glob "/proc/$worker/fd/*") }

my $files = open_files();
my $text  = Test::Rbgv::request_text('GET', '/', key => $key->{key});
my $end   = substr $text, -2, 2, '';

# those that it has not closed
sub still_open {
    return grep { !IO::Select->new($_->socket)->can_read(0) } @_;
}

for my $round (1 .. 3) {
    my ($refused, @client) = (0);

    # one after the other, until twice there is no room
    while ($refused < 2) {
        my $n = @client;

        push @client, $t->connect->send($text);
        wait_for(sub { still_open(@client) < @client
                       || open_files() == $files + @client }, 'a connection');
        @client  = still_open(@client);
        $refused = @client > $n ? 0 : $refused + 1;
    }

    refused($client[0]->send($end)->response, 503, 'auth_unavailable',
            'fault 32: no connection is left for Redis');

    $_->close for @client;
    recovers(0, 'fault 32: good again when there are some');

    # so that it needs another one
    $proxy->rule(close => 1);
    wait_for(sub { open_files() <= $files }, 'all to be closed');
    $proxy->rule;
}

like($t->read_log('error.log'), qr/worker_connections are not enough/,
     'fault 32: nginx says so');
is(($t->nginx->workers)[0], $worker, 'fault 32: the same worker');
$t->stop;


# Commands: each of those keys is another one.

my $many = $t->nginx('many');

$many->write_conf(conf(1, 1024))->start;
($worker) = $many->workers;
recovers(1, 'a connection to Redis');

$proxy->rule(on => 'HGETALL', hold => 1);

my $h2 = Test::Rbgv::Http2->new(port => $t->port('h21'), timeout => 60);
my @id = map { sprintf '%012d', $_ } 1 .. PENDING + 200;
my @stream;

push @stream, $h2->ask(map { [ '/', make_key(id => $_) ] } splice @id, 0, 100)
    while @id;

# those beyond are answered while the others wait
my %beyond;
$beyond{ $h2->status($_) }++ for @stream[PENDING .. $#stream];

is_deeply(\%beyond, { 503 => 200 }, 'fault 37: beyond 8192 at once 503');
ok(wait_for(sub { $proxy->stats->{held} == PENDING }, 'replies'),
   'fault 37: 8192 wait');
refused($t->get('/', port => 1, key => $key->{key}), 503, 'auth_unavailable',
        'fault 37: and one more is refused');
is($t->get('/open', port => 1)->{status}, 200, 'fault 37: others are served');
like($many->read_log('error.log'), qr/8192 commands are pending already/,
     'fault 37: logged');

$proxy->rule;

my %within;
$within{ $h2->status($_) }++ for @stream[0 .. PENDING - 1];
is_deeply(\%within, { 401 => PENDING }, 'fault 37: those within are answered');
recovers(1, 'fault 37: good again');
is(($many->workers)[0], $worker, 'fault 37: the same worker');

$h2->close;
$t->done;
