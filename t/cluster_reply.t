# Replies of a cluster that it gives now and then, and those that lead nowhere:
# what says to ask again is asked again, elsewhere or a moment later, and no
# more often than makes sense.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;
use Test::Rbgv::Proxy;

my $t  = Test::Rbgv->new;
my $to = $t->port('proxy');
$t->allow_alert(qr/refused "[A-Z]+": /);

# a cluster of one, which says that it is where the proxy is
my $redis = $t->start_redis(tcp => 1, acl => 0, init => 0, config => [
    'cluster-enabled yes',
    'cluster-announce-ip 127.0.0.1',
    "cluster-announce-port $to",
    'cluster-port ' . $t->port('bus'),
]);

$redis->command('CLUSTER', 'ADDSLOTSRANGE', 0, 16383);
wait_for(sub { $redis->command('CLUSTER', 'INFO') =~ /cluster_state:ok/ },
         'the cluster');
$t->rbgvctl('init');

my $key   = $t->create_key;
my $proxy = Test::Rbgv::Proxy->new(listen => $to, to => $redis->socket);

$t->write_conf(<<"EOC")->start_nginx;
%%TEST_GLOBALS%%
worker_processes 1;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    rbgv_auth_pepper_file %%DIR%%/pepper;
    rbgv_auth_redis redis+cluster://127.0.0.1:$to;
    rbgv_auth_zone off;
    rbgv_auth_limit default 1000000r/1m;
    rbgv_auth_limit_unavailable deny;
    rbgv_auth_redis_timeout 5s;

    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth on;
        location / { empty_gif; }
        location /short { rbgv_auth_redis_timeout 300ms; empty_gif; }
    }
}
EOC


sub ask {
    my ($uri) = @_;

    return $t->get($uri // '/', key => $key->{key});
}

sub calls { return $redis->calls($_[0]) }


ok(wait_for(sub { ask()->{status} == 200 }, 'the cluster'), 'good');


# name, the reply of a redirection to where it comes from
my %again = (
    MOVED       => "-MOVED 7 127.0.0.1:$to\r\n",
    ASK         => "-ASK 7 127.0.0.1:$to\r\n",
    'ASK of the same host' => "-ASK 7 :$to\r\n",
    TRYAGAIN    => "-TRYAGAIN Multiple keys request during rehashing of slot"
                   . "\r\n",
    CLUSTERDOWN => "-CLUSTERDOWN Hash slot not served\r\n",
    LOADING     => "-LOADING Redis is loading the dataset in memory\r\n",
);

# and those that lead nowhere
my %nowhere = (
    'MOVED to nobody'     => "-MOVED 7 127.0.0.1:" . $t->port('nobody')
                             . "\r\n",
    'ASK for nobody'      => "-ASK 7 127.0.0.1:" . $t->port('nobody') . "\r\n",
    'MOVED without where' => "-MOVED\r\n",
    'MOVED to no port'    => "-MOVED 7 127.0.0.1\r\n",
    'MOVED too far'       => "-MOVED 7 127.0.0.1:65536\r\n",
    'ASK without where'   => "-ASK 7 \r\n",
    'a long MOVED'        => '-MOVED 7 ' . 'x' x 1000 . ":1\r\n",
    CROSSSLOT             => "-CROSSSLOT Keys in request don't hash to the "
                             . "same slot\r\n",
);

for my $command (qw(HGETALL EVALSHA)) {
    for my $name (sort keys %again) {
        my $asked = calls(lc $command);

        $proxy->rule(on => $command, with => $again{$name}, times => 1);
        is(ask()->{status}, 200, "fault 23: $name, $command: asked again");
        is(calls(lc $command) - $asked, 2, "fault 23: $name, $command: once");

        # it says so for ever
        $proxy->rule(on => $command, with => $again{$name});
        my $treated = $proxy->stats->{treated};
        refused(ask('/short'), 503, 'auth_unavailable',
                "fault 23: $name, $command: not for ever");
        cmp_ok($proxy->stats->{treated} - $treated, '<=', 50,
               "fault 23: $name, $command: not too often");

        $proxy->rule;
        ok(wait_for(sub { ask()->{status} == 200 }, 'recovery'),
           "fault 23: $name, $command: mended");
    }

    for my $name (sort keys %nowhere) {
        $proxy->rule(on => $command, with => $nowhere{$name});
        refused(ask('/short'), 503, 'auth_unavailable',
                "fault 23: $name, $command");
        $proxy->rule;
        ok(wait_for(sub { ask()->{status} == 200 }, 'recovery'),
           "fault 23: $name, $command: mended");
    }
}

$t->done;
