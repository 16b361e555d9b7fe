#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for rbgvctl behind Sentinel: the master is found, verified, and found
# again.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;
use Test::Rbgv::Ctl;
use Test::Rbgv::Key qw(make_key);

my $t     = Test::Rbgv->new;
my $redis = $t->start_sentinel;
my $store = qr/the store at 127\.0\.0\.1/;

is_deeply([ map { join ' ', sort @{ $_->command('ACL', 'USERS') } }
            $redis->servers ],
    [ ('default rbgv-admin rbgv-gateway') x 3 ], 'users of each server');

my $key    = $t->create_key(credits => 10);
my $id     = $key->{id};
my $master = $redis->master;

is(shown(), 10, 'show');
is(($t->rbgvctl('verify', { stdin => $key->{key} }))[0], DONE, 'verify');
is(@{ ctl_json($t, 'list') }, 1, 'list');


# addresses

ctl_is($t, [ '--redis', at(($redis->sentinels)[0], 'other'), 'list' ], STORE,
    '', qr/the Sentinel at 127\.0\.0\.1:\d+ knows no master "other"; check/,
    'another name');
ctl_is($t, [ '--redis', at($master, 'rbgv'), 'list' ], STORE, '',
    qr/the Sentinel at \S+ says "ERR unknown command/, 'not a Sentinel');
ctl_is($t, [ '--redis', 'redis+sentinel://127.0.0.1:' . $t->port(0) . '/rbgv',
             'list' ], STORE, '',
    qr/cannot connect to the Sentinel at 127\.0\.0\.1:@{[ $t->port(0) ]}: /,
    'no Sentinel');

($redis->sentinels)[0]->kill;
is(shown(), 10, 'the first Sentinel is down');
($redis->sentinels)[0]->start;


# another master

$redis->wait_ok;
my $second = $redis->failover;

is($t->redis('HGET', "rbgv:key:{$id}", 'credits'), 10, 'another master');
$t->rbgvctl('set', $id, '--credits', '20');
is($second->command('HGET', "rbgv:key:{$id}", 'credits'), 20, 'is used');

$redis->wait_ok;
$second->kill;
is(shown('--timeout', '60s'), 20, 'it is waited for');

$redis->wait_failover($second);
$second->start;
$redis->wait_ok;


# a master that becomes a replica while rbgvctl is connected

my $old   = $redis->master;
my ($new) = $redis->replicas;
my $log   = $t->dir . '/import.log';

my $pipe = do {
    local $ENV{RBGV_REDIS} = $redis->uri;
    open my $pipe, '|-', "'$t->{build}/rbgvctl' import --format csv - "
        . "--pepper-file '@{[ $t->pepper_file ]}' >'$log' 2>&1" or die $!;
    $pipe;
};

wait_for(sub { $old->command('CLIENT', 'LIST') =~ /name=rbgvctl / },
         'the connection');
$_->command('SENTINEL', 'REMOVE', 'rbgv') for $redis->sentinels;
$new->command('REPLICAOF', 'NO', 'ONE');
$old->command('REPLICAOF', '127.0.0.1', $new->port);
$_->command('SENTINEL', 'MONITOR', 'rbgv', '127.0.0.1', $new->port, 2)
    for $redis->sentinels;

print $pipe "client_id,environment,owner,api_key\n",
    map { "import$_-prod,prod,tests," . make_key(id => sprintf 'G%011d', $_)
          . "\n" } 1 .. 5;
close $pipe;

is($?, 0, 'READONLY: asked again') or diag($t->read_file('import.log'));
is($new->command('ZCARD', 'rbgv:keys'), 6, 'at the new master');


# nobody is left

$_->kill for $redis->servers;
ctl_is($t, [ 'list', '--timeout', '1s' ], STORE, '',
    qr/cannot connect to $store:\d+: .*; check --redis/, 'no server');

$t->done;


sub shown { return ctl_json($t, 'show', $id, @_)->{credits} }


sub at {
    my ($server, $name) = @_;

    return 'redis+sentinel://127.0.0.1:' . $server->port . "/$name";
}
