# What a request costs Redis without the zone: one HGETALL and one EVALSHA at
# most, on one connection a worker, and requests that come together share them.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;
use Test::Rbgv::Load;

my $requests = $ENV{RBGV_LONG} ? 100_000 : 5_000;
my $t = Test::Rbgv->new;

$t->start_redis;
my $key = $t->create_key;

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
worker_processes 2;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    rbgv_auth_zone off;
    %%REDIS%%
    keepalive_requests 1000000;
    rbgv_auth_redis_timeout 5s;

    server {
        listen 127.0.0.1:%%PORT_0%% reuseport;
        rbgv_auth on;
        rbgv_auth_limit minute 100000000r/1m;
        rbgv_auth_limit day 100000000r/1d;
        location / { empty_gif; }
    }
}
EOC


sub calls {
    my $info = $t->redis('INFO', 'commandstats');

    my %calls;

    for my $name (keys %$info) {
        ($calls{ $name =~ s/^cmdstat_//r }) = $info->{$name} =~ /calls=(\d+)/;
    }

    return \%calls;
}


sub connections {
    return scalar grep { /name=ngx_rbgv_auth / }
           split /\n/, $t->redis('CLIENT', 'LIST');
}


my $load = Test::Rbgv::Load->new(
    ports       => [ $t->port(0) ],
    connections => 32,
    request     => Test::Rbgv::request_text('GET', '/', key => $key->{key}),
);

wait_for(sub { my $n = 64; $load->run(sub { $n-- > 0 }); connections() == 2 }, 'both workers');

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

my ($reads, $counts) = delete @used{qw(hgetall evalsha)};

note "$n requests, $reads HGETALL, $counts EVALSHA";
cmp_ok($_, '<=', $n, 'at most one a request') for $reads, $counts;
cmp_ok($_, '>', 0, 'asked') for $reads, $counts;

is_deeply(\%used, { # within the script, and this test's own
                    time => $counts, hmget => $counts, hset => $counts,
                    info => 2 },
          'no other command');

is(connections(), 2, 'a connection a worker');
is($end->{total_connections_received}, $stats->{total_connections_received},
   'which is kept');

$t->done;
