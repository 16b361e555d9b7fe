#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for rotate and rotation of rbgvctl: what they print, store and refuse,
# and a rotation under load in which no request fails.

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256_hex sha256);
use POSIX qw(strftime);
use Test::More;

use Test::Rbgv;
use Test::Rbgv::Ctl;
use Test::Rbgv::Load;

use constant { HOUR => 3600, DAY => 86400 };

my $t = Test::Rbgv->new;

$t->start_redis;

my $made   = $t->create_key;
my $id     = $made->{id};
my $record = "rbgv:key:{$id}";
my $use    = "rbgv:use:{$id}";
my $pepper = $t->read_file('pepper') =~ s/\n.*//rs;
my $old    = digest($made->{key});


# wrong usage, and keys that are not there or not in rotation

for (
    [ [qw(--grace 0)], qr/--grace "0" is not a time, as in "24h"/ ],
    [ [qw(--finish --cancel)], qr/give one of them/ ],
    [ [qw(--finish --grace 1h)], qr/--grace is for the beginning/ ],
    [ [qw(--force)], qr/--force is for --finish and --cancel/ ],
) {
    my ($args, $err) = @$_;
    ctl_is($t, [ 'rotate', $id, @$args ], USAGE, '', $err, "@$args");
}

ctl_is($t, [ 'rotate', $id, { env => { RBGV_PEPPER_FILE => '' } } ], USAGE,
    '', qr/rotate needs --pepper-file .*--no-pepper/, 'no pepper');

for ([qw(rotate)], [qw(rotation)], [qw(rotate --finish)],
     [qw(rotate --cancel)])
{
    my ($command, @args) = @$_;

    ctl_is($t, [ $command, 'foo', @args ], USAGE, '',
        qr/"foo" is not the id of a key/, "@$_ of bad id");
    ctl_is($t, [ $command, 'A' x 12, @args ], REFUSED, '',
        qr/there is no key AAAAAAAAAAAA/, "@$_ of unknown key");
    ctl_is($t, [ $command, $id, @args ], REFUSED, '',
        qr/no rotation of key $id .*finished: never; "rbgvctl rotate $id" beg/,
        "@$_ of a key that is not in rotation")
        unless "@$_" eq 'rotate';
}


# begin

my %before = $t->redis(HGETALL => $record);
my ($exit, $out, $err) = $t->rbgvctl('rotate', $id);
my ($key) = $out =~ /^API key: (\S+)\n/;
my $new = digest($key);

is("$exit$err", DONE, 'rotate');
like($out, qr/^API\ key:\ rbgv_prod_${id}_\w{32}_\w{6}\n
    Id:\ +$id\n
    Name:\ +api-gateway-prod\n\n
    The\ key\ is\ shown\ this\ once\ .*
    until\ "rbgvctl\ rotate\ $id\ --finish"/sx, 'what is printed');

my %rotating = $t->redis(HGETALL => $record);
my $began    = $rotating{rotation};

cmp_ok($began, '>', $before{created}, 'it began later than the key was made');
cmp_ok($began - $before{created}, '<', HOUR, 'and not much');
is_deeply(\%rotating, { %before, rotation => $began,
                        "secret:$new" => "active $began 0" },
    'the new secret is beside the old one');
is(ctl_json($t, 'show', $id)->{rotation_started_at}, rfc3339($began),
    'show tells of it');

ctl_is($t, [ 'rotate', $id ], REFUSED, '',
    qr/of key $id is under way since @{[ rfc3339($began) ]}; .*--cancel/,
    'rotate again');
is_deeply({ $t->redis(HGETALL => $record) }, \%rotating, 'nothing is changed');


# watch: the clock is moved by the fields

my $now  = ($t->redis('TIME'))[0];
my $hour = $now - $now % HOUR;

# name; ago: its beginning, the last use of old and new; grace; verdict, safe at
for (
    [ 'no use', 1 * DAY - HOUR, undef, undef, undef, watch => HOUR ],
    [ 'no use, a long grace', 1 * DAY + HOUR, undef, undef, 2 * DAY,
      watch => 1 * DAY - HOUR ],
    [ 'a use before it', 2 * HOUR, 3 * HOUR, 60, undef,
      watch => 22 * HOUR ],
    [ 'a use within 24 h', 3 * DAY, 23 * HOUR, 60, undef, used => HOUR ],
    [ 'a use within the grace', 3 * DAY, HOUR, 60, 2 * HOUR, used => HOUR ],
    [ 'a use after it', 3 * DAY, 3 * HOUR, 60, 2 * HOUR, safe => -HOUR ],
    [ 'no use for long', 3 * DAY, 25 * HOUR, 60, undef, safe => -HOUR ],
    [ 'no use at all', 3 * DAY, undef, undef, undef, safe => -2 * DAY ],
) {
    my ($name, $began, $old_ago, $new_ago, $grace, $verdict, $safe) = @$_;

    in_rotation($began, $old_ago, $new_ago, $grace);

    my $got = ctl_json($t, 'rotation', $id);

    is($got->{verdict}, $verdict, "$name: $verdict");
    is($got->{safe_at}, rfc3339($now + $safe), "$name: when");
    is($got->{old_last_used_at}, $old_ago && rfc3339($now - $old_ago),
        "$name: last use");

    next if $verdict eq 'safe';

    my $why = $verdict eq 'used' ? "the old secret of key $id was used at"
                                 : "the rotation of key $id began at";

    ctl_is($t, [ 'rotate', $id, '--finish' ], REFUSED, '',
        qr/$why \S+; .* until @{[ rfc3339($now + $safe) ]}, or give --force/,
        "$name: finish");
    is($t->redis(HEXISTS => $record, "secret:$old"), 1,
        "$name: the old secret is kept");
}


# uses by the hour

in_rotation(2 * HOUR, HOUR, 60);

my $began_hour = ($now - 2 * HOUR) / HOUR;
my @hours = map { int($began_hour) + $_ } 0 .. 2;

$t->redis(HSET => $use, map { ("u:$hours[$_->[0]]:" . substr($_->[1], 0, 16),
                               $_->[2]) }
          [ 0, $old, 900 ], [ 1, $old, 1 ], [ 1, $new, 800 ],
          [ 2, $new, 1000 ]);
$t->redis(HSET => $use, 'u:' . ($hours[0] - 1) . ':' . substr($old, 0, 16), 5,
          'u:x', 1, "u:$hours[0]:" . 'f' x 16, 7,
          's:' . substr($old, 0, 16), 906, 's:' . substr($new, 0, 16), 1800);

my $got = ctl_json($t, 'rotation', $id);

# the hour may end while this test runs
splice @{ $got->{hours} }, 3;

is_deeply($got, {
    key_fingerprint => $id, client_id => 'api-gateway-prod',
    rotation_started_at => rfc3339($now - 2 * HOUR), verdict => 'used',
    safe_at => rfc3339($now + 23 * HOUR),
    old_last_used_at => rfc3339($now - HOUR),
    secrets => [
        { digest => substr($old, 0, 12), old => JSON::PP::true,
          created_at => rfc3339($now - 2 * HOUR - 1),
          last_used_at => rfc3339($now - HOUR), uses => 906 },
        { digest => substr($new, 0, 12), old => JSON::PP::false,
          created_at => rfc3339($now - 2 * HOUR),
          last_used_at => rfc3339($now - 60), uses => 1800 },
    ],
    hours => [ map { { hour => rfc3339($hours[ $_->[0] ] * HOUR),
                       old_uses => $_->[1], new_uses => $_->[2] } }
               [ 0, 900, 0 ], [ 1, 1, 800 ], [ 2, 0, 1000 ] ],
}, 'uses as json');

my @minute = map { strftime('%Y-%m-%d %H:%MZ', gmtime $_ * HOUR) } @hours;

ctl_is($t, [ 'rotation', $id ], DONE, qr/^HOUR\ +
    OLD\ @{[ substr $old, 0, 12 ]}\ NEW\ @{[ substr $new, 0, 12 ]}\n
    \Q$minute[0]\E\ +900\ +0\n
    \Q$minute[1]\E\ +1\ +800\n
    \Q$minute[2]\E\ +0\ +1000\n
    .*\n
    The\ old\ secret\ was\ used\ last\ at\ @{[ rfc3339($now - HOUR) ]}\.\n
    The\ new\ secret\ was\ used\ last\ at\ @{[ rfc3339($now - 60) ]}\.\n
    The\ old\ one\ is\ still\ in\ use\ \(uses\ [^)]*:\ \d+\)\.\n
    Watch\ until\ @{[ rfc3339($now + 23 * HOUR) ]}\.\n\z/sx, '',
    'uses as a table');

SKIP: {
    skip 'no script', 2 if system('script -V >/dev/null 2>&1');

    my $bars = terminal('C.UTF-8', 'rotation', $id);

    like($bars, qr/ +1 +800 \xe2\x96\x88(?:\xe2\x96\x91){24}\s/,
        'bars of a terminal');
    like(terminal('C', 'rotation', $id), qr/ +900 +0 #{28}\s/,
        'bars without UTF-8');
}

in_rotation(300 * HOUR, undef, undef);
is(@{ ctl_json($t, 'rotation', $id)->{hours} }, 8 * 24, 'of 8 days at most');

ctl_is($t, [ 'rotation', $id ], DONE,
    qr/The\ old\ secret\ was\ not\ used\ since\ the\ rotation\ began\ at\ .*
       The\ new\ secret\ was\ not\ used\ yet\.\n
       It\ is\ safe\ to\ finish:\ "rbgvctl\ rotate\ $id\ --finish"\.\n
       But\ ask\ first/sx, '', 'nobody uses the key');


# finish

in_rotation(3 * DAY, 25 * HOUR, 60, DAY);
$t->redis(HSET => $use, map { ('s:' . substr($_, 0, 16), 9) } $old, $new);

ctl_is($t, [ 'rotate', $id, '--finish' ], DONE,
    "$id is rotated: 1 old secret ended\n", '', 'finish');

my %rotated = $t->redis(HGETALL => $record);
my $ended   = delete $rotated{rotated};

cmp_ok(abs($ended - $now), '<', HOUR, 'when');

delete $before{"secret:$old"};
is_deeply(\%rotated,
    { %before, "secret:$new" => 'active ' . ($now - 3 * DAY) . ' 0' },
    'the new secret is left');

my %counters = $t->redis(HGETALL => $use);

is_deeply([ grep { /^[st]:/ } sort keys %counters ],
    [ map { "$_:" . substr $new, 0, 16 } qw(s t) ],
    'counters of the old one are gone');
is(ctl_json($t, 'show', $id)->{rotated_at}, rfc3339($ended), 'show tells');
ctl_is($t, [ 'rotate', $id, '--finish' ], REFUSED, '',
    qr/no rotation of key $id .*finished: @{[ rfc3339($ended) ]};/,
    'finish again');


# cancel

my $next = ctl_json($t, qw(rotate --grace 1h), $id);

is_deeply([ sort keys %$next ], [ qw(api_key client_id environment
    key_fingerprint rotation_started_at) ], 'rotate as json');
is($t->redis(HGET => $record, 'grace'), HOUR, 'grace');

$t->redis(HSET => $use, 't:' . substr(digest($next->{api_key}), 0, 16),
          ($t->redis('TIME'))[0]);
ctl_is($t, [ 'rotate', $id, '--cancel' ], REFUSED, '',
    qr/the new secret of key $id was used at \S+; .*--force/,
    'cancel of a secret in use');
is_deeply(ctl_json($t, 'rotate', $id, '--cancel', '--force'),
    { key_fingerprint => $id, rotated_at => undef, secrets_ended => 1 },
    'cancel with force, as json');
is_deeply({ $t->redis(HGETALL => $record) },
    { %rotated, rotated => $ended }, 'all is as before');

my @keys = ($made->{key}, $key, $next->{api_key});

push @keys, ctl_json($t, 'rotate', $id)->{api_key};
ctl_is($t, [ 'rotate', $id, '--cancel' ], DONE,
    "$id is as before: 1 new secret ended\n", '',
    'cancel of a secret that nobody has used');

# a secret that nobody has seen does not stay

($exit, $out, $err) = shell('rotate', $id, '>/dev/full');

is($exit, REFUSED, 'rotate to a full disk');
like($err, qr/cannot write .*\n.*could not be shown and was removed again/,
    'what is said');
is_deeply({ $t->redis(HGETALL => $record) },
    { %rotated, rotated => $ended }, 'all is as before');


# more than one old secret, and no new one

$t->redis(HSET => $record, 'secret:' . 'a' x 64, 'active 1700000000 0');
push @keys, ctl_json($t, 'rotate', $id)->{api_key};
is(@{ ctl_json($t, 'rotation', $id)->{secrets} }, 3, 'two old secrets');
is_deeply(ctl_json($t, 'rotate', $id, '--finish', '--force')->{secrets_ended},
    2, 'both are ended');

$t->redis(HSET => $record, map { ("secret:$_", 'active 1700000000 0') }
          'a' x 64, 'b' x 64);
ctl_is($t, [ 'rotate', $id ], REFUSED, '',
    qr/key $id has 3 secrets, and may have 3; create another key/,
    'too many secrets');
$t->redis(HDEL => $record, map { "secret:$_" } 'a' x 64, 'b' x 64);

my $last = ctl_json($t, 'rotate', $id)->{api_key};
$t->redis(HDEL => $record, 'secret:' . digest($last));
ctl_is($t, [ 'rotate', $id, '--finish', '--force' ], REFUSED, '',
    qr/key $id would be left without a secret; "rbgvctl disable $id"/,
    'finish without a new secret');
$t->redis(HDEL => $record, 'rotation');

my $stored = join "\n", map { $t->redis(HGETALL => $_) } $record, $use;
my $shown  = join '', map { $t->rbgvctl(@$_, $id) }
             [qw(show)], [qw(rotation)], [qw(show --json)];

is(scalar(grep { index($stored . $shown, (split /_/)[3]) >= 0 } @keys, $last),
    0, 'no secret is stored, or shown again');


# under load

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
worker_processes 2;
error_log error.log notice;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    access_log off;
    %%REDIS%%
    rbgv_auth on;
    rbgv_auth_lease auto;
    rbgv_auth_redis_timeout 10s;
    rbgv_auth_redis_connect_timeout 10s;
    keepalive_requests 10000000;

    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth_limit default 10000000r/1m;
        location / { empty_gif; }
    }
}
EOC

my $client = $t->create_key;
my $first  = start_load($client->{key});
my $second = ctl_json($t, 'rotate', $client->{id}, '--wait')->{api_key};

is($t->get('/', key => $second)->{status}, 200, 'the new secret is good');

my $both = start_load($second);

# uses are told when a lease ends
my $watch;

wait_for(sub {
    $watch = ctl_json($t, 'rotation', $client->{id});
    return 2 == grep { $_->{uses} > 100 && $_->{last_used_at} }
                     @{ $watch->{secrets} };
}, 'uses of both secrets');

is($watch->{verdict}, 'used', 'the old secret is in use');

for my $field (qw(old_uses new_uses)) {
    my $sum = 0;

    $sum += $_->{$field} for @{ $watch->{hours} };
    cmp_ok($sum, '>', 0, "$field by the hour");
}

ctl_is($t, [ 'rotate', $client->{id}, '--finish' ], REFUSED, '',
    qr/the old secret of key $client->{id} was used at /, 'finish is refused');
is_deeply($first->(), { 200 => 1 }, 'the old secret never failed');
is(($t->rbgvctl('rotate', $client->{id}, '--finish', '--force',
                '--wait'))[0], DONE, 'finish');
refused($t->get('/', key => $client->{key}), 401, 'invalid_api_key',
    'the old secret');
is($t->get('/', key => $second)->{status}, 200, 'the new secret is good');
is_deeply($both->(), { 200 => 1 }, 'the new secret never failed');

$t->done;


sub digest {
    my ($text) = @_;

    return hmac_sha256_hex(sha256($text), $pepper);
}


sub rfc3339 {
    my ($time) = @_;

    return strftime('%Y-%m-%dT%H:%M:%SZ', gmtime $time);
}


# in_rotation(SECONDS ago, last use of the old secret, of the new one, GRACE);
# undef: never, or none
sub in_rotation {
    my ($began, $old_ago, $new_ago, $grace) = @_;

    $began = $now - $began;

    $t->redis(HSET => $record, rotation => $began,
              "secret:$old" => 'active ' . ($began - 1) . ' 0',
              "secret:$new" => "active $began 0",
              defined $grace ? (grace => $grace) : ());
    $t->redis(HDEL => $record, 'grace') unless defined $grace;

    $t->redis(DEL => $use);
    $t->redis(HSET => $use, 't:' . substr($old, 0, 16), $now - $old_ago)
        if defined $old_ago;
    $t->redis(HSET => $use, 't:' . substr($new, 0, 16), $now - $new_ago)
        if defined $new_ago;
}


# of a command with a redirection
sub shell {
    my ($command, $id, $redirection) = @_;

    my ($script) = "exec '$t->{build}/rbgvctl' $command $id $redirection "
        . "2>'" . $t->dir . "/shell.err'";

    local %ENV = (%ENV, environment());

    system 'sh', '-c', $script;
    return ($? >> 8, '', $t->read_file('shell.err'));
}


sub terminal {
    my ($locale, @args) = @_;

    local %ENV = (%ENV, environment(), LC_ALL => $locale, NO_COLOR => 1);

    return scalar `script -qec "'$t->{build}/rbgvctl' @args" /dev/null </dev/null`;
}


sub environment {
    my $redis = $t->redis_server;

    return (RBGV_REDIS         => $redis->uri('rbgv-admin'),
            RBGV_PASSWORD_FILE => $redis->password_file('rbgv-admin'),
            RBGV_PEPPER_FILE   => $t->pepper_file);
}


# Requests in a process of their own, until the result is called, which returns
# the statuses that there were.
sub start_load {
    my ($key) = @_;

    my $name = 'load-' . substr digest($key), 0, 16;
    my $stop = $t->dir . "/$name.stop";
    my $pid  = fork() // die "fork: $!";

    if ($pid == 0) {
        $SIG{$_} = 'DEFAULT' for qw(INT TERM);

        my $count = eval {
            Test::Rbgv::Load->new(
                ports       => [ $t->port(0) ],
                connections => 8,
                pauses      => 0.002,
                request     => Test::Rbgv::request_text('GET', '/',
                                                        key => $key),
            )->run(sub { !-e $stop });
        } // { $@ => 1 };

        $t->write_file($name, join "\n", grep { $count->{$_} } keys %$count);
        POSIX::_exit(0);
    }

    return sub {
        $t->write_file("$name.stop", '');
        waitpid $pid, 0;
        return { map { $_ => 1 } split /\n/, $t->read_file($name) };
    };
}
