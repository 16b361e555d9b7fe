#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for rbgvctl on a cluster with nodes that are down or frozen.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;
use Test::Rbgv::Ctl;

my $t       = Test::Rbgv->new;
my $cluster = $t->start_cluster(replicas => 1);
my $store   = qr/the store at 127\.0\.0\.1/;
my $id      = $t->create_key(credits => 10)->{id};

my $master = $cluster->master("{$id}");

$master->kill;
is(ctl_json($t, 'show', $id, '--timeout', '60s')->{credits}, 10,
    'a master is replaced');
$cluster->wait_failover($master);

my $second = $cluster->master("{$id}");

$cluster->every(qw(CONFIG SET cluster-require-full-coverage no));
$second->kill;
ctl_is($t, [ 'show', $id, '--timeout', '1s' ], STORE, '',
    qr/(?:lost|cannot connect to) $store:${\$second->port}: /, 'nobody left');

$second->start;
$master->start;
$cluster->wait_ok;
is(ctl_json($t, 'show', $id)->{credits}, 10, 'back');

$cluster->every(qw(CONFIG SET cluster-require-full-coverage yes));
$_->freeze for my @frozen = ($cluster->nodes)[0, 3];
wait_for(sub {
    !grep { $_->command('CLUSTER', 'INFO') =~ /^cluster_state:ok/ }
     grep { $_->up } $cluster->nodes
}, 'the cluster to stop');
ctl_is($t, [ 'list', '--timeout', '1s' ], STORE, '',
    qr/$store:\d+ says "CLUSTERDOWN .*; a master of the cluster is down/,
    'frozen, and no other keys, if so configured');
$_->thaw for @frozen;
$cluster->wait_ok;

$t->start_redis(name => 'one', tcp => 1, acl => 0);
ctl_is($t, [ '--redis', 'redis+cluster://127.0.0.1:'
             . $t->redis_server('one')->port, 'list' ], STORE, '',
    qr/is no node of a cluster; give its address as redis:/, 'no cluster');

my $node    = $cluster->master("{$id}");
my ($first) = $cluster->replicas($node);

$first->kill;
is((run(map { $_->port } $first, $node))[0], DONE,
    'a node of the address is down');
like((run($first->port))[2],
     qr/cannot connect to $store:@{[ $first->port ]}: .*; check --redis/,
     'all of them');

$t->done;


# with the nodes at these ports in the address
sub run {
    my $nodes = join ',', map { "127.0.0.1:$_" } @_;

    return $t->rbgvctl('list', {
        env => { RBGV_REDIS => "redis+cluster://rbgv-admin\@$nodes" },
    });
}
