# A master is made a replica under way: what it answers is not taken, its
# connection is dropped, and all is good again once it is a master.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;

my $t = Test::Rbgv->new;
$t->allow_alert(qr/refused "EVALSHA": "READONLY /,
                qr/refused "HGETALL": "MASTERDOWN /);

$t->start_redis;
my $key = $t->create_key->{key};

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
worker_processes 1;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    rbgv_auth_zone off;
    %%REDIS%%
    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth on;
        rbgv_auth_limit default 1000000r/1m;
        rbgv_auth_limit_unavailable deny;
        rbgv_auth_redis_timeout 2s;
        location / { empty_gif; }
    }
}
EOC


sub status { return $t->get('/', key => $key)->{status} }

# the ids of the gateway's connections
sub connections {
    return map { /^id=(\d+) .* name=ngx_rbgv_auth / ? $1 : () }
           split /\n/, $t->redis('CLIENT', 'LIST');
}

sub dropped {
    my ($name, $id) = @_;

    ok(wait_for(sub { !grep { $_ == $id } connections() }, 'the end of it'),
       "$name: the connection is dropped");
}


is(status(), 200, 'a master');
my ($id) = connections();
ok($id, 'its connection');

$t->redis('REPLICAOF', '127.0.0.1', $t->port('nobody'));
is(status(), 503, 'fault 14: a replica');
dropped('fault 14: a replica', $id);
like($t->read_log('error.log'),
     qr/"READONLY .*is a replica, not the master while talking/s,
     'fault 14: logged');

# each connection ends with the first such answer
wait_for(sub { status(); ($id) = connections() }, 'another connection');
wait_for(sub { status(); !grep { $_ == $id } connections() }, 'its end');
is(status(), 503, 'fault 14: a replica still');

$t->redis('CONFIG', 'SET', 'replica-serve-stale-data', 'no');
wait_for(sub {
    status();
    $t->read_log('error.log') =~ /"MASTERDOWN .*is a replica/s;
}, 'MASTERDOWN');
is(status(), 503, 'fault 14: a replica without its master');

$t->redis('REPLICAOF', 'NO', 'ONE');

my %status;
wait_for(sub {
    my $status = status();
    $status{$status}++;
    $status == 200;
}, 'recovery');
is_deeply([ grep { !/^(?:200|503)$/ } keys %status ], [],
          'fault 14: a master again');

$t->done;
