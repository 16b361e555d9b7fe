#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for TLS to Redis: what is good works as without, in pieces of any size;
# a server that cannot show that it is the right one gets no command, and the
# log says why.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);

use Test::Rbgv;
use Test::Rbgv::Certificates;
use Test::Rbgv::Relay;

my $t = Test::Rbgv->new;
$t->allow_alert(qr/SSL_read\(\) failed .*certificate required/);
my $dir = $t->dir;

my $ca    = Test::Rbgv::Certificates->new("$dir/ca");
my $other = Test::Rbgv::Certificates->new("$dir/other");

my @good    = $ca->issue('redis', 'DNS:redis.example,IP:127.0.0.1');
my @expired = $ca->issue('expired', 'IP:127.0.0.1', end => time - 60);
my @client  = $ca->issue('client', 'DNS:client.example');
my @revoked = $ca->issue('revoked', 'IP:127.0.0.1');
my $crl     = $ca->revoke($revoked[0]);

my $port = $t->port('tls');

$t->start_redis(tcp => 1, config => [
    "tls-port $port",
    "tls-cert-file $good[0]",
    "tls-key-file $good[1]",
    'tls-ca-cert-file ' . $ca->authority,
    'tls-auth-clients no',
]);

my $redis = $t->redis_server;
my $plain = $redis->port;
my $key   = $t->create_key;
my $large = $t->create_key(name => 'large-prod');

$t->redis(HSET => "rbgv:key:{$large->{id}}",
          map { ("junk:$_" => 'x' x 1000) } 1 .. 200);

my %relay = map { my $name = $_->[0]; $name => Test::Rbgv::Relay->new(
    listen => $t->port($name), file => "$dir/$name", @$_[1 .. $#$_]) } (
    [ 'session', to => $port ],
    [ 'unsaved', to => $port ],
    [ 'pieces', to => $port, pieces => 7 ],
    [ 'records', to => $port, pieces => 1000 ],
    [ 'cut', to => $port, cut => 64 ],
    [ 'silent' ],
    [ 'answer', answer => "-ERR unknown command\r\n" ],
    [ 'nameless', answer => "-ERR unknown command\r\n" ],
);

# a location is a store of its own; name => [ port, directives ]
my $trust = 'rbgv_auth_redis_ssl_trusted_certificate ' . $ca->authority . ';';
my $show  = "rbgv_auth_redis_ssl_certificate $client[0];\n"
    . "rbgv_auth_redis_ssl_certificate_key $client[1];";

my %location = (
    good     => [ $port, $trust ],
    same     => [ $port, $trust ],
    named    => [ $port, "$trust rbgv_auth_redis_ssl_name redis.example;" ],
    old      => [ $port, "$trust
                  rbgv_auth_redis_ssl_protocols TLSv1.2;
                  rbgv_auth_redis_ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256;"
                ],
    suite    => [ $port, "$trust rbgv_auth_redis_ssl_conf_command
                  Ciphersuites TLS_AES_128_GCM_SHA256;" ],
    off      => [ $port, 'rbgv_auth_redis_ssl_verify off;' ],
    pieces   => [ $t->port('pieces'), $trust ],
    records  => [ $t->port('records'), $trust ],
    session  => [ $t->port('session'), $trust ],
    unsaved  => [ $t->port('unsaved'),
                  "$trust rbgv_auth_redis_ssl_session_reuse off;" ],

    wrong    => [ $port, "$trust rbgv_auth_redis_ssl_name other.example;" ],
    unknown  => [ $port, 'rbgv_auth_redis_ssl_trusted_certificate '
                  . $other->authority . ';' ],
    system   => [ $port, '' ],
    expired  => [ $port, "$trust rbgv_auth_redis_connect_timeout 21s;" ],
    revoked  => [ $port, "$trust rbgv_auth_redis_ssl_crl $crl;" ],
    plain    => [ $plain, "$trust rbgv_auth_redis_connect_timeout 300ms;" ],
    answer   => [ $t->port('answer'),
                  "$trust rbgv_auth_redis_ssl_name redis.example;" ],
    nameless => [ $t->port('nameless'), "$trust
                  rbgv_auth_redis_ssl_name redis.example;
                  rbgv_auth_redis_ssl_server_name off;" ],
    silent   => [ $t->port('silent'),
                  "$trust rbgv_auth_redis_connect_timeout 300ms;" ],
    closed   => [ $port, "$trust rbgv_auth_redis_connect_timeout 22s;" ],
    shown    => [ $port, "$trust $show" ],

    # each has a connection and a back-off of its own
    map { ("cut$_" => [ $t->port('cut'),
                        "$trust rbgv_auth_redis_connect_timeout 3${_}s;" ]) }
        1 .. 8,
);


# with the login of the gateway
sub store {
    my ($port) = @_;

    return "rbgv_auth_redis rediss://rbgv-gateway\@127.0.0.1:$port;\n"
        . 'rbgv_auth_redis_password_file '
        . $redis->password_file('rbgv-gateway') . ";\n";
}


sub conf {
    my ($http, $locations) = @_;

    return <<"EOC";
%%TEST_GLOBALS%%
worker_processes 1;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    rbgv_auth_pepper_file %%DIR%%/pepper;
    rbgv_auth_redis_timeout 20s;
    rbgv_auth_redis_connect_timeout 20s;
    add_header X-Source \$rbgv_auth_source always;
    $http
    server {
        rbgv_auth on;
        rbgv_auth_limit default 1000000r/1m;
        $locations
    }
}
EOC
}


my $locations = join "\n", map {
    "location = /$_ { empty_gif; " . store($location{$_}[0])
    . "$location{$_}[1] }"
} sort keys %location;

my $nginx = $t->nginx('locations');

$nginx->write_conf(conf('rbgv_auth_zone off;',
                        "listen 127.0.0.1:%%PORT_0%%; $locations"))->start;

sub ask {
    my ($name, $with) = @_;

    return $t->get("/$name", key => ($with // $key)->{key});
}

# logins that the server has seen
sub logins {
    my $calls = $t->redis('INFO', 'commandstats')->{cmdstat_auth} // '';

    return $calls =~ /calls=(\d+)/ ? $1 : 0;
}

sub show_certificate {
    my ($certificate, $key) = @_;

    $t->redis('CONFIG', 'SET', 'tls-cert-file', $certificate,
              'tls-key-file', $key);
}


# what is good

is(ask($_)->{status}, 200, "good: $_") for qw(good named old suite off);

my $before = logins();
is(ask('same')->{status}, 200, 'good: same');
is(logins(), $before, 'the same settings are the same store');

is(ask($_, $large)->{status}, 200, "a reply of 200 kB: $_")
    for qw(good old records);
is(ask('pieces')->{status}, 200, 'fault 6: by seven bytes');

my %seen;
ok(wait_for(sub {
    my @status = map { ask("cut$_")->{status} } 1 .. 8;
    $seen{$_}++ for @status;
    return !grep { $_ != 200 } @status;
}, 'the end of it'), 'fault 5: cut, each time later: good at last');
is_deeply([ sort keys %seen ], [ 200, 503 ], 'fault 5: cut: or unavailable');

# one that is cut behind the last reply logs in again, at any time
delete $relay{cut};

my @tls = grep { /user=rbgv-gateway/ } split /\n/, $t->redis('CLIENT', 'LIST');
is(scalar(grep { !/ laddr=127\.0\.0\.1:$port / } @tls), 0,
   'all connections are to the port of TLS');


# what is not: 503, a line, no login

my $logged = 0;

sub logged {
    my $log = substr $nginx->read_log('error.log'), $logged;
    $logged += length $log;
    return $log;
}

sub refuses {
    my ($name, $pattern, $why) = @_;

    logged();
    my $logins = logins();

    refused(ask($name), 503, 'auth_unavailable', "fault 22: $why");
    like(logged(), qr/$pattern while SSL handshaking to redis "127/,
         "fault 22: $why: logged");
    is(logins(), $logins, "fault 22: $why: no login");
}

my $refused = qr/certificate for "127\.0\.0\.1" was refused/;
my $chain   = qr/(?:self-signed certificate|unable to (?:get|verify))/;

refuses('wrong', qr/certificate\ for\ "other\.example"
                    \ was\ refused:\ "hostname\ mismatch"/x, 'wrong name');
refuses('unknown', qr/$refused: "$chain.*"/, 'unknown authority');
refuses('system', qr/$refused: "$chain.*"/, 'not of the system');
# the expired one comes last: a location that tries again has no login by it
show_certificate(@revoked);
refuses('revoked', qr/$refused: "certificate revoked"/, 'revoked');
show_certificate(@expired);
refuses('expired', qr/$refused: "certificate has expired"/, 'expired');
show_certificate(@good);

ok(wait_for(sub { ask($_)->{status} == 200 }, 'recovery'),
   "a good one again: $_") for qw(expired revoked);

# nothing but the first message of the handshake comes out
for my $name (qw(answer nameless)) {
    refuses($name, qr/SSL_do_handshake\(\) failed .*wrong version number.*/,
            "not TLS, $name");

    my $said = join '', map { $_->{client} } @{ $relay{$name}->said };
    like($said, qr/^\x16\x03/, 'TLS was tried');
    unlike($said, qr/AUTH|rbgv|HGETALL/, 'fault 22: no command is sent');
    is($said =~ /redis\.example/ ? 1 : 0, $name eq 'answer' ? 1 : 0,
       'server name');
}

# what Redis does when it is spoken to by TLS, or frozen
for my $name (qw(plain silent)) {
    my $start = time;
    refuses($name, qr/handshake timed out, the server may have no TLS .*/,
            "no answer, $name");
    cmp_ok(time - $start, '>=', 0.3, 'after the connect timeout');
    cmp_ok(time - $start, '<', 20, 'and no later');
}


# certificates of clients

$t->redis('CONFIG', 'SET', 'tls-auth-clients', 'yes');
logged();
my $logins = logins();
refused(ask('closed'), 503, 'auth_unavailable', 'no certificate to show');
like(logged(), qr/alert certificate required.* while logging in to redis/,
     'and logged');
is(logins(), $logins, 'no login');
is(ask('shown')->{status}, 200, 'a certificate to show');

# one that is not of the store of the location
$t->nginx('inherited')->write_conf(conf(
    'rbgv_auth_zone off;' . store($port) . "$show $trust",
    "listen 127.0.0.1:%%PORT_1%%;
     location = /good { empty_gif; }
     location = /own { empty_gif; " . store($port) . '}'))->start;

is($t->get('/good', port => 1, key => $key->{key})->{status}, 200,
   'a certificate is inherited');
is($t->get('/own', port => 1, key => $key->{key})->{status}, 503,
   'but not by a store of its own');
$t->redis('CONFIG', 'SET', 'tls-auth-clients', 'no');


# sessions: the extension "pre_shared_key" is 41, RFC 8446, section 4.2

# 1 if both sides have it in their first messages
sub resumed {
    my ($said) = @_;

    return 2 == grep { has_extension($said->{$_}, 41) } qw(client server);
}

sub has_extension {
    my ($message, $type) = @_;

    # the record, the message, version, random, and a session id
    my (undef, $kind, $rest) = unpack 'a5 C x3 x2 x32 a*', $message;
    my $extensions;

    if ($kind == 1) {
        (undef, undef, undef, $extensions) = unpack 'C/a n/a C/a n/a', $rest;
    } else {
        (undef, $extensions) = unpack 'C/a x3 n/a', $rest;
    }

    my %has = unpack '(n n/a)*', $extensions;

    return exists $has{$type};
}

for my $name (qw(session unsaved)) {
    my $before = 0;

    for my $time (1, 2) {
        wait_for(sub { ask($name)->{status} == 200 }, $name);
        my $said = $relay{$name}->said;
        cmp_ok(scalar @$said, '>', $before, "$name: connection $time");
        $before = @$said;

        is(resumed($said->[-1]), $name eq 'session' && $time == 2 ? 1 : '',
           "$name: resumed or not");

        $t->redis('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    }
}


# zone, leases and invalidations; with the authorities of the system

{
    local $ENV{SSL_CERT_FILE} = $ca->authority;

    $t->write_conf(conf(store($port) . 'rbgv_auth_lease auto;',
        'listen 127.0.0.1:%%PORT_2%%; location / { empty_gif; }'));
    $t->start_nginx;
}

sub source {
    my $response = $t->get('/', port => 2, key => $key->{key});

    return "$response->{status} $response->{headers}{'x-source'}[0]";
}

ok(wait_for(sub { source() eq '200 lease' }, 'a lease'), 'zone and lease');

@tls = grep { / sub=1 / && / user=rbgv-gateway / }
    split /\n/, $t->redis('CLIENT', 'LIST');
like($tls[0], qr/ laddr=127\.0\.0\.1:$port /, 'the channel has TLS too');

is(($t->rbgvctl('disable', $key->{id}))[0], 0, 'disable');
ok(wait_for(sub { source() =~ /^401/ }, 'the invalidation'), 'invalidation');
is(($t->rbgvctl('enable', $key->{id}))[0], 0, 'enable');
ok(wait_for(sub { source() =~ /^200/ }, 'the invalidation'), 'again');

$t->reload;
ok(wait_for(sub { source() eq '200 lease' }, 'a lease'), 'reload');
unlike($t->read_log('error.log'), qr/\[(?:emerg|alert|crit)\]/,
       'nothing is logged');

$t->done;
