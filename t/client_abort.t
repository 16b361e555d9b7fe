# Clients that go away while Redis is asked: their requests are freed, the late
# replies are nobody's, no connection is left.

use strict;
use warnings;

use IO::Select;
use Test::More;

use Test::Rbgv;
use Test::Rbgv::Proxy;

my $t = Test::Rbgv->new;

$t->start_redis(acl => 0);

# requests of one key share what is asked: each has a key of its own
my @key   = map { $t->create_key(name => "abort$_-prod") } 0 .. 99;
my $proxy = Test::Rbgv::Proxy->new(listen => $t->dir . '/proxy.sock',
                                   to => $t->redis_server->socket);

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
worker_processes 1;
events { worker_connections 1024; }
http {
    %%TEST_GLOBALS_HTTP%%
    rbgv_auth_zone off;
    rbgv_auth_redis unix:%%DIR%%/proxy.sock;
    rbgv_auth_pepper_file %%DIR%%/pepper;
    rbgv_auth_redis_timeout 30s;

    server {
        listen 127.0.0.1:%%PORT_0%%;
        listen 127.0.0.1:%%PORT_1%% http2;
        rbgv_auth on;
        rbgv_auth_limit default 1000000r/1m;
        add_header X-Key $rbgv_auth_key_id always;
        location / { empty_gif; }
        location /short/ { rbgv_auth_redis_timeout 300ms; empty_gif; }
    }
}
EOC

my ($worker) = $t->nginx->workers;


# the open connections of the worker
sub open_files { return scalar(() = glob "/proc/$worker/fd/*") }


sub send_as {
    my ($n, $uri) = @_;

    return $t->connect->send(Test::Rbgv::request_text('GET', $uri // '/',
                                                      key => $key[$n]{key}));
}


# what the key of the answer is
sub key_of {
    my ($response) = @_;

    return $response->{status} . ' '
        . ($response->{headers}{'x-key'}[0] // 'none');
}


sub aborted {
    return scalar(() = $t->read_log('access.log') =~ /" 499 /g);
}


# both connections to Redis are made, those of clients are closed
for my $uri ('/', '/short/') {
    like($t->http(Test::Rbgv::request_text('GET', $uri, close => 1,
                                           key => $key[0]{key})),
         qr/^HTTP\S+ 200 .*X-Key: $key[0]{id}/s, "before, $uri");
}

my $files = open_files();


# in each round some go and some stay, while Redis is asked for a record or
# for a count

my $rounds = 10;
my (%wrong, $gone);

for my $round (1 .. $rounds) {
    for my $command (qw(HGETALL EVALSHA)) {
        $proxy->rule(on => $command, hold => 1);

        my @client = map { send_as($_) } 0 .. 59;

        # all are asked for
        wait_for(sub { $proxy->stats->{held} == @client }, 'replies');

        for my $n (0 .. $#client) {
            next if $n % 6 == 5;
            $n % 2 ? $client[$n]->abort : $client[$n]->close;
            $gone++;
        }

        wait_for(sub { aborted() == $gone }, 'requests to be freed');

        $proxy->rule;

        for my $n (grep { $_ % 6 == 5 } 0 .. $#client) {
            my $got = key_of($client[$n]->response);
            $wrong{$got}++ if $got ne "200 $key[$n]{id}";
            $client[$n]->close;
        }
    }
}

is($gone, 50 * 2 * $rounds, 'requests were aborted');
is_deeply(\%wrong, {}, 'those that stayed got their own replies');


# a stream of HTTP/2 that is reset, and one that is not

sub frame {
    my ($type, $flags, $stream, $payload) = @_;

    return substr(pack('N', length $payload), 1)
        . pack('CCN', $type, $flags, $stream) . $payload;
}

# GET / with nothing indexed but what is in the static table
sub headers {
    my ($stream) = @_;

    return frame(1, 5, $stream, "\x82\x86\x84"
        . pack 'C C/a C C/a C/a', 1, 'localhost', 0, 'x-api-key',
               $key[$stream / 2]{key});
}

$proxy->rule(on => 'HGETALL', hold => 1);

my @streams = map { 2 * $_ + 1 } 0 .. 99;
my $h2      = $t->connect(port => 1);

$h2->send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" . frame(4, 0, 0, '')
          . join '', map { headers($_) } @streams);
wait_for(sub { $proxy->stats->{held} == @streams }, 'streams');

my @reset = grep { $_ % 10 != 1 } @streams;
$h2->send(join '', map { frame(3, 0, $_, pack 'N', 8) } @reset);
$gone += @reset;
wait_for(sub { aborted() == $gone }, 'streams to be freed');

$proxy->rule;

my ($answers, %status) = '';

while (keys %status < @streams - @reset) {
    IO::Select->new($h2->socket)->can_read(10) or last;
    sysread $h2->socket, $answers, 65536, length $answers or last;

    while (length $answers >= 9) {
        my ($h, $l, $type, undef, $stream) = unpack 'CnCCN', $answers;
        my $length = 9 + ($h << 16) + $l;
        last if length $answers < $length;

        # of HEADERS, the status comes first
        my $frame = substr $answers, 0, $length, '';
        $status{$stream} = substr($frame, 9) =~ /^(?:\x20|\x3f..)?\x88/s
            ? 200 : 'other' if $type == 1;
    }
}

$h2->close;

is_deeply(\%status, { map { $_ => 200 } grep { $_ % 10 == 1 } @streams },
          'streams that stayed are answered');


# the deadline of those that have gone

$proxy->rule(on => 'HGETALL', hold => 1);

my @client = map { send_as($_, '/short/') } 0 .. 19;
wait_for(sub { $proxy->stats->{held} == @client }, 'replies');
$_->abort for @client;

wait_for(sub {
    $t->read_log('error.log') =~ /no reply in time, 20 commands unanswered/;
}, 'the deadline');
is(aborted(), $gone + 20, 'freed before');
$proxy->rule;
wait_for(sub { send_as(1, '/short/')->response->{status} == 200 },
         'recovery');


# nothing is left

is(key_of(send_as(1)->response), "200 $key[1]{id}", 'works again');
wait_for(sub { open_files() <= $files }, 'connections to be closed');
is(($t->nginx->workers)[0], $worker, 'still the same worker');
is($proxy->stats->{connections}, 3, 'one connection was closed');

$t->done;
