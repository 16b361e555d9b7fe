#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for rbgvctl with TLS: it works as without, and says what is wrong with
# a server that cannot show that it is the right one.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;
use Test::Rbgv::Certificates;
use Test::Rbgv::Ctl;
use Test::Rbgv::Relay;

my $t = Test::Rbgv->new;
my $dir = $t->dir;

my $ca      = Test::Rbgv::Certificates->new("$dir/ca");
my @good    = $ca->issue('redis', 'DNS:redis.example,IP:127.0.0.1');
my @expired = $ca->issue('expired', 'IP:127.0.0.1', end => time - 60);
my @client  = $ca->issue('client', 'DNS:client.example');

my $port = $t->port('tls');

$t->start_redis(tcp => 1, config => [
    "tls-port $port",
    "tls-cert-file $good[0]",
    "tls-key-file $good[1]",
    'tls-ca-cert-file ' . $ca->authority,
    'tls-auth-clients no',
]);

my %relay = map { my $name = $_->[0]; $name => Test::Rbgv::Relay->new(
    listen => $t->port($name), file => "$dir/$name", @$_[1 .. $#$_]) } (
    [ 'pieces', to => $port, pieces => 7 ],
    [ 'silent' ],
    [ 'answer', answer => "-ERR unknown command\r\n" ],
);

my @password = ('--password-file',
                $t->redis_server->password_file('rbgv-admin'));
my @ca = ('--tls-ca-file', $ca->authority);


sub store {
    my ($port) = @_;

    return ('--redis', "rediss://rbgv-admin\@127.0.0.1:$port", @password);
}

sub logins {
    my $calls = $t->redis('INFO', 'commandstats')->{cmdstat_auth} // '';

    return $calls =~ /calls=(\d+)/ ? $1 : 0;
}


# what is good

my ($exit, $out, $err) = $t->rbgvctl(store($port), @ca, '--json', 'create',
    '--name', 'api-gateway-prod', '--environment', 'prod');
is($exit, DONE, 'create') or diag $err;
my ($id) = $out =~ /"key_fingerprint": *"(\w+)"/;

ctl_is($t, [ store($port), @ca, 'list' ], DONE, qr/\bapi-gateway-prod\b/, '',
       'list');
ctl_is($t, [ store($port), @ca, '--tls-server-name', 'redis.example', 'show',
             $id ], DONE, qr/\bapi-gateway-prod\b/, '', 'by another name');
ctl_is($t, [ store($port), '--tls-insecure', 'list' ], DONE,
       qr/\bapi-gateway-prod\b/, '', 'not verified');
ctl_is($t, [ store($t->port('pieces')), @ca, 'list' ], DONE,
       qr/\bapi-gateway-prod\b/, '', 'by seven bytes');

is(($t->rbgvctl(store($port), 'list',
                { env => { RBGV_TLS_CA_FILE => $ca->authority } }))[0], DONE,
   'RBGV_TLS_CA_FILE');
is(($t->rbgvctl(store($port), 'list',
                { env => { SSL_CERT_FILE => $ca->authority } }))[0], DONE,
   'the authorities of the system');

# more than one record of TLS, in replies and in commands
my $name = "rbgv:key:{$id}";
$t->redis(HSET => $name, map { ("junk:$_" => 'x' x 1000) } 1 .. 200);
ctl_is($t, [ store($port), @ca, 'show', $id ], DONE,
       qr/\bapi-gateway-prod\b/, '', 'a reply of 200 kB');
$t->redis(HDEL => $name, map { "junk:$_" } 1 .. 200);

my %record = $t->redis(HGETALL => $name);
for my $n (1000 .. 1499) {
    $t->redis(HSET => "rbgv:key:{AAAAAAAA$n}", %record, name => "name$n-prod");
    $t->redis(ZADD => 'rbgv:keys', $n, "AAAAAAAA$n");
}
($exit, $out, $err) = $t->rbgvctl(store($port), @ca, 'list');
is($exit, DONE, 'many keys') or diag $err;
is(scalar(() = $out =~ /\bname1\d\d\d-prod\b/g), 500, 'all of them');


# what is not

my $certificate = qr/the certificate of the store at 127\.0\.0\.1:$port/;

sub refuses {
    my ($args, $pattern, $why) = @_;

    my $logins = logins();

    ctl_is($t, [ @$args, 'list' ], STORE, '', qr/^rbgvctl: $pattern/, $why);
    is(logins(), $logins, "$why: no login");
}

refuses([ store($port) ],
        qr/$certificate for \S+ was refused: (?:self-signed|unable)/,
        'unknown authority');
refuses([ store($port), @ca, '--tls-server-name', 'other.example' ],
        qr/$certificate for "other\.example" was refused: hostname mismatch/,
        'wrong name');
refuses([ store($t->redis_server->port), @ca, '--timeout', '1s' ],
        qr/the store at \S+ did not shake hands within 1 seconds/,
        'Redis without TLS');
refuses([ store($t->port('silent')), @ca, '--timeout', '1s' ],
        qr/the store at \S+ did not shake hands within 1 seconds/, 'silent');
refuses([ store($t->port('answer')), @ca ],
        qr/no TLS with the store at \S+: wrong version number/, 'not TLS');

my $said = join '', map { $_->{client} } map { @{ $relay{$_}->said } }
                    qw(silent answer);
like($said, qr/^\x16\x03/, 'TLS was tried');
unlike($said, qr/AUTH|rbgv/, 'and nothing else was said');

$t->redis('CONFIG', 'SET', 'tls-cert-file', $expired[0],
          'tls-key-file', $expired[1]);
refuses([ store($port), @ca ],
        qr/$certificate for \S+ was refused: certificate has expired/,
        'expired');
$t->redis('CONFIG', 'SET', 'tls-cert-file', $good[0],
          'tls-key-file', $good[1]);

$t->redis('CONFIG', 'SET', 'tls-auth-clients', 'yes');
refuses([ store($port), @ca ], qr/lost the store .*certificate required/,
        'no certificate to show');

my @show = ('--tls-cert-file', $client[0], '--tls-key-file', $client[1]);

is(($t->rbgvctl(store($port), @ca, @show, 'list'))[0], DONE,
   'a certificate to show');
is(($t->rbgvctl(store($port), @ca, 'list', { env => {
        RBGV_TLS_CERT_FILE => $client[0], RBGV_TLS_KEY_FILE => $client[1],
        RBGV_TLS_SERVER_NAME => 'redis.example' } }))[0], DONE,
   'from the environment');

# files
ctl_is($t, [ store($port), @ca, @show[0, 1], 'list' ], USAGE, '',
       qr/--tls-cert-file and --tls-key-file are given together/, 'no key');
ctl_is($t, [ store($port), '--tls-ca-file', "$dir/none", 'list' ], REFUSED,
       '', qr{cannot use the certificates in "$dir/none": No such file},
       'no such authorities');
ctl_is($t, [ store($port), @ca, '--tls-cert-file', "$dir/none", @show[2, 3],
             'list' ], REFUSED, '',
       qr{cannot use the certificate "$dir/none": No such file},
       'no such certificate');
ctl_is($t, [ store($port), @ca, @show[0, 1], '--tls-key-file', $good[1],
             'list' ], REFUSED, '',
       qr{cannot use the private key "\Q$good[1]\E": .*mismatch},
       'the key of another one');

$t->done;
