# What a request costs Redis: one HGETALL and one EVALSHA, on one connection a
# worker, and no write of its own for each command when many are under way.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;
use Test::Rbgv::Load;

my $requests = $ENV{RBGV_LONG} ? 100_000 : 5_000;
my $t = Test::Rbgv->new;

$t->start_redis;
my $key = $t->create_key;

sub conf {
    my ($port, $workers) = @_;

    return <<"EOC";
%%TEST_GLOBALS%%
worker_processes $workers;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    keepalive_requests 1000000;
    rbgv_auth_redis_timeout 5s;

    server {
        listen 127.0.0.1:%%PORT_$port%% reuseport;
        rbgv_auth on;
        rbgv_auth_limit minute 100000000r/1m;
        rbgv_auth_limit day 100000000r/1d;
        location / { empty_gif; }
    }
}
EOC
}


$t->write_conf(conf(0, 2))->start_nginx;


sub calls {
    my $info = $t->redis('INFO', 'commandstats');

    my %calls;

    for my $name (keys %$info) {
        ($calls{ $name =~ s/^cmdstat_//r }) = $info->{$name} =~ /calls=(\d+)/;
    }

    return \%calls;
}


sub reads { return $t->redis('INFO', 'stats')->{total_reads_processed} }


sub connections {
    return scalar grep { /name=ngx_rbgv_auth / }
           split /\n/, $t->redis('CLIENT', 'LIST');
}


my $request = Test::Rbgv::request_text('GET', '/', key => $key->{key});

my $load = Test::Rbgv::Load->new(
    ports       => [ $t->port(0) ],
    connections => 32,
    request     => $request,
);

wait_for(sub {
    my $n = 64;
    $load->run(sub { $n-- > 0 });
    connections() == 2;
}, 'both workers');

my ($calls, $stats, $start) = (calls(), $t->redis('INFO', 'stats'), time);
my $left = $requests;
my $count = $load->run(sub { $left-- > 0 });
my $seconds = time - $start + 1;

my ($now, $end) = (calls(), $t->redis('INFO', 'stats'));
my %used = map { $_ => $now->{$_} - ($calls->{$_} // 0) } keys %$now;

my $n = $count->{200};
is($n, $requests, 'all were let pass');

# the history of a window is read when its slice has changed
cmp_ok(delete $used{hget} // 0, '<=', 2 + $seconds / 3.75,
       'HGET for a new slice only');

delete @used{ grep { !$used{$_} } keys %used };
is_deeply(\%used, { hgetall => $n, evalsha => $n,
                    # within the script, and this test's own
                    time => $n, hmget => $n, hset => $n, info => 2 },
          'commands');

is(connections(), 2, 'a connection a worker');
is($end->{total_connections_received}, $stats->{total_connections_received},
   'which is kept');

note "$n requests, ",
    $end->{total_reads_processed} - $stats->{total_reads_processed}, ' reads';


# what one turn of the event loop asks is sent at once

$t->nginx('one')->write_conf(conf(1, 1))->start;

my @client = map { $t->connect(port => 1) } 1 .. 20;

# the connections are made
is(join(' ', map { $_->send($request)->response->{status} } @client),
   join(' ', (200) x 20), 'twenty clients');

my ($worker) = $t->nginx('one')->workers;
my $before   = reads();

$t->freeze($worker);
wait_for(sub {
    open my $stat, '<', "/proc/$worker/stat" or die $!;
    readline($stat) =~ /\) T /;
}, 'the worker to stop');

$_->send($request) for @client;
$t->thaw($worker);
$_->response for @client;

# one of them is this test's own
is(reads() - $before, 3, 'twenty records are read at once, and counted so');

$t->done;
