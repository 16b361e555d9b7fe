# With leases a cluster is asked as rarely as one Redis, and a host decides as
# many requests with either.
#
# RBGV_LONG=1: by wrk, in turns; otherwise requests are not counted by time.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;
use Test::Rbgv::Fleet qw(good_fleet);

my $rounds = 21;

my $t       = Test::Rbgv->new;
my $cluster = $t->start_cluster;
my @keys    = good_fleet($t, 3);

$t->start_redis(name => 'one');

for (@keys) {
    my $record = "rbgv:key:{$_->{id}}";
    $t->redis_server('one')->command('HSET', $record,
                                     $cluster->command('HGETALL', $record));
}

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
worker_processes 1;
error_log error.log notice;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    access_log off;
    %%REDIS%%
    rbgv_auth on;
    rbgv_auth_lease auto;
    rbgv_auth_limit p 1000000000r/1m;
    keepalive_requests 10000000;
    add_header X-Source $rbgv_auth_source always;

    server {
        listen 127.0.0.1:%%PORT_0%%;
        location /cluster { empty_gif; }
        location /one { %%REDIS_one%% empty_gif; }
    }
}
EOC

for my $store (qw(cluster one)) {
    my %source;

    for my $key (@keys) {
        wait_for(sub {
            my $r = $t->get("/$store", key => $key->{key});
            $r->{status} == 200 && $r->{headers}{'x-source'}[0] eq 'lease';
        }, 'a lease');

        for (1 .. 100) {
            my $r = $t->get("/$store", key => $key->{key});
            $source{ $r->{headers}{'x-source'}[0] }++;
        }
    }

    cmp_ok($source{lease}, '>=', 0.95 * 100 * @keys, "$store: by leases");
}


sub rate {
    my ($store) = @_;

    my $port = $t->port(0);
    my $out  = `wrk -t 1 -c 16 -d 1 -H 'X-Api-Key: $keys[0]{key}' \\
                    http://127.0.0.1:$port/$store`;

    die "wrk: $out\n" if $out =~ /Non-2xx/;
    return $out =~ m{Requests/sec:\s*([\d.]+)} ? $1 : die "wrk: $out\n";
}


if ($ENV{RBGV_LONG}) {
    my @ratios = sort { $a <=> $b } map { rate('cluster') / rate('one') }
                                        1 .. $rounds;
    my $median = $ratios[$rounds / 2];

    diag(sprintf '%d rounds: %.3f of one redis, from %.3f to %.3f', $rounds,
         $median, @ratios[0, -1]);
    cmp_ok($median, '>=', 0.95, 'as many as with one redis');
}

$t->done;
