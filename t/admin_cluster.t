#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for "rbgv_auth_admin" on a cluster of three masters, and behind
# Sentinel: the life of a key, pages of all keys, the audit stream.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use JSON::PP;
use Test::More;

use Test::Rbgv;
use Test::Rbgv::Fleet qw(fleet_id make_fleet);

my $keys  = 240;
my $token = 'a-token-of-ops';

my $t = Test::Rbgv->new;

$t->write_file('tokens', sha256_hex($token) . " ops\n");

my %stores = (
    main     => $t->start_cluster,
    sentinel => $t->start_sentinel(name => 'sentinel', replicas => 1),
);

my @servers = map {
    my ($n, $name) = @$_;
    my $uri      = $stores{$name}->uri('rbgv-admin');
    my $password = $stores{$name}->password_file('rbgv-admin');

    <<"EOC";
    server {
        listen 127.0.0.1:%%PORT_$n%%;
        %%REDIS_$name%%
        rbgv_auth on;
        rbgv_auth_redis_timeout 5s;

        location / {
            empty_gif;
        }

        location /v1/admin/ {
            rbgv_auth_admin;
            rbgv_auth_admin_token_file %%DIR%%/tokens;
            rbgv_auth_redis $uri;
            rbgv_auth_redis_password_file $password;
        }
    }
EOC
} [ 0, 'main' ], [ 1, 'sentinel' ];

$t->write_conf(<<"EOC");
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    rbgv_auth_lease off;
    rbgv_auth_pepper_file %%DIR%%/pepper;
@servers
}
EOC

$t->start_nginx;

my $port;


# a cluster

{
    $port = 0;

    my $cluster = $stores{main};
    my (%masters, @actions);

    while (keys %masters < 3 && @actions < 100) {
        my $key    = created();
        my $master = $cluster->master("{$key->{key_fingerprint}}")->port;

        push @actions, $masters{$master}++
            ? dropped($key) : life($key, "a key of master $master");
    }

    is(keys %masters, 3, 'keys at all masters');
    is_deeply(audit(), [ reverse @actions ], 'audit');

    make_fleet($t, $keys, sub { return { created => 1_600_000_000 } });

    my @ids = map { fleet_id($_) } 0 .. $keys - 1;
    my %of;

    $of{ $cluster->master("{$_}")->port }++ for @ids;

    is(keys %of, 3, 'many keys at all masters');
    is_deeply(listed(50), \@ids, 'pages of all masters');
    is_deeply(listed(500), \@ids, 'one page');
}


# Sentinel

{
    $port = 1;

    my $sentinel = $stores{sentinel};
    my @actions  = life(created(), 'behind Sentinel');

    is_deeply(audit(), [ reverse @actions ], 'audit');

    my @ids = sort map { created()->{key_fingerprint} } 1 .. 5;

    is_deeply(listed(2), \@ids, 'pages');

    my ($replica) = $sentinel->replicas;
    my $changes   = @{ audit() };

    wait_for(sub { $replica->command('XLEN', 'rbgv:audit') == $changes },
        'the replica to have all');

    $sentinel->failover;
    $sentinel->wait_ok;

    my $status;

    wait_for(sub {
        ($status) = admin(POST => 'keys/disable',
                          { key_fingerprint => $ids[0] });
        return $status == 200;
    }, 'the other master', 60);

    is($sentinel->command('HGET', "rbgv:key:{$ids[0]}", 'status'), 'disabled',
        'a change by the other master');
    is_deeply(listed(2), \@ids, 'its pages');
    is(audit()->[0], "disable $ids[0]", 'its audit');
}

$t->done;


sub created {
    my ($status, $key) = admin(POST => 'keys', {
        client_id => 'api-gateway-prod', environment => 'prod',
        owner => 'team', credits => 100_000,
    });

    $status == 201 or die "create: $status " . encode_json($key) . "\n";

    return $key;
}


# returns what is in the audit stream then
sub dropped {
    my ($key) = @_;

    my $id = $key->{key_fingerprint};

    admin(POST => 'keys/delete', { key_fingerprint => $id });

    return ("create $id", "delete $id");
}


# likewise
sub life {
    my ($key, $name) = @_;

    my $id = $key->{key_fingerprint};

    subtest $name => sub {
        is(answer($key->{api_key}), 200, 'the new key is good');

        my ($status, $item) = admin(GET => "keys/$id");

        is("$status $item->{client_id} $item->{credits}",
            '200 api-gateway-prod 100000', 'detail');

        my $rotated = done('keys/rotate', $id);
        my $new = $rotated->{api_key};

        is(answer($_), 200, 'both secrets are good')
            for $key->{api_key}, $new;
        is(done('keys/rotate', $id, action => 'finish',
                force => JSON::PP::true)->{secrets_ended}, 1, 'finish');
        ok(wait_for(sub { answer($key->{api_key}) == 401 }), 'the old ends');

        is(done('keys/set', $id, note => 'x')->{status}, 'changed', 'set');
        is(done('keys/disable', $id)->{status}, 'disabled', 'disable');
        ok(wait_for(sub { answer($new) == 401 }), 'refused');
        is(done('keys/enable', $id)->{status}, 'active', 'enable');
        ok(wait_for(sub { answer($new) == 200 }), 'good again');

        is(done('keys/delete', $id)->{status}, 'deleted', 'delete');
        ok(wait_for(sub { answer($new) == 401 }), 'gone');
        is((admin(GET => "keys/$id"))[0], 404, 'no detail');
    };

    return map { "$_ $id" }
           qw(create rotate finish set disable enable delete);
}


# the answer to a change of the key
sub done {
    my ($path, $id, %fields) = @_;

    my ($status, $body) = admin(POST => $path,
                                { key_fingerprint => $id, %fields });

    is($status, 200, $path);

    return $body;
}


# ids by all pages of so many
sub listed {
    my ($limit) = @_;

    my ($cursor, @ids);

    do {
        my ($status, $page) = admin(GET => "keys?limit=$limit"
            . (defined $cursor ? "&cursor=$cursor" : ''));

        $status == 200 or die "keys: $status " . encode_json($page) . "\n";

        push @ids, map { $_->{key_fingerprint} } @{ $page->{items} };
        $cursor = $page->{cursor};
    } while (defined $cursor && @ids <= $keys);

    return [ sort @ids ];
}


# what was done to which key, the last first
sub audit {
    my ($status, $audit) = admin(GET => 'audit?limit=1000');

    $status == 200 or die "audit: $status\n";

    return [ map { "$_->{action} $_->{key_fingerprint}" }
             @{ $audit->{items} } ];
}


sub admin {
    my ($method, $path, $body) = @_;

    my $response = $t->request($method, "/v1/admin/$path", port => $port,
        headers => [ "X-Admin-Token: $token",
                     $body ? 'Content-Type: application/json' : () ],
        $body ? (body => encode_json($body)) : ());

    return ($response->{status}, decode_json($response->{body}));
}


sub answer {
    my ($key) = @_;

    return $t->get('/x', key => $key, port => $port)->{status};
}
