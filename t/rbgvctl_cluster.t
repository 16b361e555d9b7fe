#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for rbgvctl on a cluster: the life of a key, all keys of all masters,
# and slots that move meanwhile.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;
use Test::Rbgv::Cluster qw(key_slot);
use Test::Rbgv::Ctl;
use Test::Rbgv::Fleet qw(fleet_id make_fleet);
use Test::Rbgv::Key qw(make_key);
use Test::Rbgv::Process;

my $keys = $ENV{RBGV_LONG} ? 10_000 : 2_000;

my $t       = Test::Rbgv->new;
my $cluster = $t->start_cluster(replicas => 1);


# init

is_deeply([ map { join ' ', sort @{ $_->command('ACL', 'USERS') } }
            $cluster->nodes ],
    [ ('default rbgv-admin rbgv-gateway') x 6 ], 'users of each node');
ctl_is($t, [ '--redis', $cluster->uri, 'init', '--acl', 'none' ], DONE, '',
    qr/is ready\n\z/, 'again');

my ($node) = $cluster->nodes;
ctl_is($t, [ '--redis', 'redis://127.0.0.1:' . $node->port, 'show',
             'A' x 12 ], STORE, '',
    qr/MOVED .* it is a node of a cluster, give .* redis\+cluster:/,
    'as if it were one server') if $cluster->master('rbgv:meta') != $node;


# the life of a key

my %masters;

for my $n (1 .. 100) {
    my $key = $t->create_key(name => "service$n-prod", credits => 10,
                             limit => ['default=5r/1m']);
    my $port = $cluster->master("{$key->{id}}")->port;

    life($key) unless $masters{$port}++;
    last if keys %masters == 3;
}

is(keys %masters, 3, 'keys at all masters');

is(@{ ctl_json($t, qw(environments --set eu --rotation 30d)) }, 4,
    'environments: one more');
is(@{ ctl_json($t, qw(environments --remove eu)) }, 3, 'one less');


# all keys

my $today = int time / 86400;
make_fleet($t, $keys, sub {
    ($_[0] == 7 ? { owner => undef } : {}, { last => time, "d:$today" => 3 })
});

is_deeply(listed(), [ sort map { fleet_id($_) } 0 .. $keys - 1 ],
    "list: $keys keys of all masters");
is(ctl_json($t, qw(usage --all --top 3))->{requests}, 3 * $keys,
    'usage of all');
ctl_is($t, ['review'], REFUSED, qr/@{[ fleet_id(7) ]}.*owner/s, qr/^/,
    'review');

is(import_rows(500)->{imported}, 500, 'import');
is(import_rows(600)->{existing}, 500, 'import again');


# slots that move

my $id   = $t->create_key(name => 'moving-prod', credits => 10)->{id};
my $slot = key_slot($id);
my ($to) = grep { $_ != $cluster->master("{$id}") } $cluster->masters;
my $from = $cluster->open_slot($slot, $to);

# a node that is to tell its name, and has none, says "?"
$cluster->every('CONFIG', 'SET', 'cluster-preferred-endpoint-type',
                'hostname');

is(ctl_json($t, 'show', $id)->{client_id}, 'moving-prod', 'not moved yet');
$cluster->move_keys($slot, $from, $to);
is(ctl_json($t, 'show', $id)->{client_id}, 'moving-prod', 'ASK');
$t->redis('HSET', "rbgv:use:{$id}", 'credits', 1);
$t->rbgvctl('set', $id, '--credits', '7');
is(ctl_json($t, 'show', $id)->{credits}, 7, 'a change with ASK');
$cluster->close_slot($slot, $from, $to);
is(ctl_json($t, 'show', $id)->{client_id}, 'moving-prod', 'moved');

$cluster->open_slot($slot, $from);

# one of both names; other keys may share the slot
$to->command('MIGRATE', '127.0.0.1', $from->port, '', 0, 5000, 'KEYS',
             "rbgv:use:{$id}");

my $set = Test::Rbgv::Process->new(
    command => [ "$t->{build}/rbgvctl", 'set', $id, '--credits', '+2',
                 '--timeout', '60s' ],
    log     => $t->dir . '/set.log',
    env     => { RBGV_REDIS => $cluster->uri },
);

wait_for(sub { errors('TRYAGAIN') }, 'a script of which one name has moved');
$cluster->move_keys($slot, $to, $from);
$cluster->close_slot($slot, $to, $from);

ok($set->wait && $set->status == 0, 'TRYAGAIN until both have');
is(ctl_json($t, 'show', $id)->{credits}, 9, 'done once');

my $mover = mover();
my $moved = errors('MOVED');

for my $n (1 .. 3) {
    is(@{ listed() }, $keys, 'list while slots move');
    is(import_rows(600 + 200 * $n)->{imported}, 200,
        'import while slots move');
}

wait_for(sub { listed(); errors('MOVED') > $moved }, 'MOVED');
is(mover_stop($mover), 0, 'slots have moved');
is_deeply(listed(), [ sort map { fleet_id($_) } 0 .. $keys - 1 ],
    'all are there');

$t->done;


sub life {
    my ($key) = @_;

    my $id = $key->{id};

    is(ctl_json($t, 'show', $id)->{credits}, 10, "show $id");
    is(verify($key->{key}), DONE, 'verify');

    $t->rbgvctl('set', $id, '--credits', '+5', '--owner', 'web');
    is(ctl_json($t, 'show', $id)->{credits}, 15, 'set');

    $t->rbgvctl('disable', $id);
    is(verify($key->{key}), REFUSED, 'disable');
    $t->rbgvctl('enable', $id);

    my $new = ctl_json($t, 'rotate', $id)->{api_key};
    is(verify($_), DONE, 'rotate') for $key->{key}, $new;
    $t->rbgvctl('rotate', $id, '--finish', '--force');
    is(verify($key->{key}), REFUSED, 'the rotation is finished');
    is(verify($new), DONE, 'the new secret stays');

    is(ctl_json($t, 'usage', $id)->{key_fingerprint}, $id, 'usage');

    $t->rbgvctl('delete', $id, '--yes');
    ctl_is($t, [ 'show', $id ], REFUSED, '', qr/no key/, 'delete');
}


sub verify { return ($t->rbgvctl('verify', { stdin => $_[0] }))[0] }


# keys of make_fleet
sub listed {
    my ($exit, $out, $err) = $t->rbgvctl('--json', 'list');

    die "list: $err" if $exit;

    return [ sort $out =~ /"key_fingerprint": "(F0\d+)"/g ];
}


sub import_rows {
    my ($n) = @_;

    my $file = $t->write_file('rows.csv', join '',
        "client_id,environment,owner,api_key\n",
        map { "import$_-prod,prod,tests,"
              . make_key(id => sprintf 'G%011d', $_) . "\n" } 1 .. $n);

    return ctl_json($t, 'import', $file);
}


sub errors {
    my ($code) = @_;

    my $sum = 0;

    for ($cluster->nodes) {
        my $stats = $_->command('INFO', 'errorstats')->{"errorstat_$code"};
        $sum += $1 if ($stats // '') =~ /count=(\d+)/;
    }

    return $sum;
}


# a process that moves slots until it is told to stop
sub mover {
    my $pid = fork() // die "fork: $!";

    return $pid if $pid;

    delete $_->{client} for $cluster->nodes;

    my ($stop, $n) = (0, 0);
    local $SIG{TERM} = sub { $stop = 1 };

    eval {
        while (!$stop || $n < 20) {
            my $name = $n % 2 ? '{' . fleet_id($n % $keys) . '}' : 'rbgv:keys';
            my $slot = key_slot($name);
            my $from = $cluster->owners->[$slot];
            my @to   = grep { $_ != $from } $cluster->masters;

            $cluster->move_slot($slot, $to[ $n++ % 2 ]);
        }
    };

    warn $@ if $@;
    POSIX::_exit($@ ? 1 : 0);
}


sub mover_stop {
    my ($pid) = @_;

    kill 'TERM', $pid;
    waitpid $pid, 0;

    return $?;
}
