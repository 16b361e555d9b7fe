#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for rbgvctl: every command, its exit status and its errors, against
# a Redis of its own.

use warnings;
use strict;
use utf8;

use Digest::SHA qw/ hmac_sha256_hex sha256 sha256_hex /;
use File::Slurper qw/ read_binary /;
use File::Temp qw/ tempdir /;
use IO::Select;
use IO::Socket::UNIX;
use JSON::PP;
use POSIX qw/ :sys_wait_h /;
use Test::More;
use Time::HiRes qw/ sleep time /;

use Test::Rbgv::Reports qw/ keep_reports reports /;

use constant { DONE => 0, REFUSED => 1, USAGE => 2, STORE => 3 };

my $rbgvctl = ($ENV{RBGV_BUILD} || 'build') . '/rbgvctl';
my $server = $ENV{RBGV_REDIS_SERVER} // 'redis-server';
my $dir = tempdir(CLEANUP => 1);
my $socket = "$dir/redis.sock";
my $json = JSON::PP->new()->utf8();
my ($parent, @pids) = $$;

die "no $rbgvctl, scripts/build makes it\n" unless -x $rbgvctl;
plan(skip_all => "no $server") if system("$server -v >/dev/null");

keep_reports($dir);
delete @ENV{grep { /^RBGV_/ } keys %ENV};
$ENV{LC_ALL} = 'C.UTF-8';

write_file('users.acl', '');

my $redis = run_redis($socket, '--aclfile', "$dir/users.acl");

my $uri = "unix:$socket";
my $pepper = "$dir/pepper";

###############################################################################

# help and usage

ctl_is([ '--version' ], DONE, qr/^rbgvctl 0\.1\.0$/, '', 'version');
ctl_is([ 'list', '--version' ], DONE, qr/^rbgvctl 0\.1\.0$/, '',
    'version behind command');
ctl_is([ '--help' ], DONE, qr/^Commands:.*^  create .*^Examples:/ms, '',
    'help');

foreach my $command (qw/ init create list show usage review set rotate
    rotation disable enable delete environments /)
{
    ctl_is([ $command, '--help' ], DONE,
        qr/^Usage: rbgvctl $command.*^Examples:\n  rbgvctl/ms, '',
        "help of $command");
}

ctl_is([], USAGE, '', qr/no command; "rbgvctl --help"/, 'no command');
ctl_is([ 'foo' ], USAGE, '', qr/unknown command "foo"/, 'unknown command');
ctl_is([ '--foo=bar', 'list' ], USAGE, '', qr/unknown option "--foo";/,
    'unknown option');
ctl_is([ 'list', '-x' ], USAGE, '', qr/unknown option "-x"/,
    'unknown short option');
ctl_is([ 'list', '--redis' ], USAGE, '', qr/--redis needs a value/,
    'no value');
ctl_is([ 'list', '--json=1' ], USAGE, '', qr/--json takes no value/,
    'value of a flag');
ctl_is([ 'list', '--prefix=a', '--prefix=b' ], USAGE, '',
    qr/--prefix is given twice/, 'option twice');
ctl_is([ 'list', 'foo' ], USAGE, '', qr/"foo" is one argument too many/,
    'argument too many');
ctl_is([ 'show' ], USAGE, '', qr/show needs its ID/, 'no argument');
ctl_is([ 'list', '--prefix', 'a*' ], USAGE, '', qr/--prefix "a\*" is not/,
    'bad prefix');
ctl_is([ 'list', '--timeout', '0' ], USAGE, '', qr/--timeout "0" is not/,
    'bad timeout');

# addresses, and a store that is not there

ctl_is([ '--redis', 'redis://:geheim@127.0.0.1', 'list' ], USAGE, '',
    qr/^(?!.*geheim).*password in --redis/, 'password in argument');
ctl_is([ '--redis', 'http://u:geheim@h', 'list' ], USAGE, '',
    qr/^(?!.*geheim).*--redis is not valid: its scheme/, 'bad address');
ctl_is([ { RBGV_REDIS => 'redis://:geheim@' }, 'list' ], USAGE, '',
    qr/^(?!.*geheim).*RBGV_REDIS is not valid: it has no host/,
    'bad address in environment');
ctl_is([ '--redis', "unix:$dir/none", 'list' ], STORE, '',
    qr/cannot connect to the store at \S+none: No such file/, 'no store');
ctl_is([ '--redis', $uri, 'list' ], STORE, '',
    qr/no "rbgv:meta" .* run "rbgvctl init"/, 'empty store');

# init

ctl_is([ '--redis', $uri, 'init', '--acl', 'foo' ], USAGE, '',
    qr/--acl "foo" is none of/, 'unknown acl');
ctl_is([ '--redis', $uri, 'init', '--acl', 'install' ], USAGE, '',
    qr/needs --gateway-password-file/, 'install without password file');
ctl_is([ '--redis', $uri, 'init', '--admin-user', 'rbgv-gateway' ], USAGE,
    '', qr/are both "rbgv-gateway"/, 'same users');
ctl_is([ '--redis', $uri, 'init', '--gateway-user', 'a b' ], USAGE, '',
    qr/--gateway-user "a b" is not/, 'bad user');
ctl_is([ '--redis', $uri, 'init', '--pepper-file', "$dir/none/pepper" ],
    REFUSED, '', qr/cannot create the pepper file .*No such file/,
    'no directory for pepper');
is($redis->('EXISTS', 'rbgv:meta'), 0, 'nothing written');

$redis->('HSET', 'other:meta', 'schema', '7');

ctl_is([ '--redis', $uri, '--prefix', 'other:', 'init', '--pepper-file',
    $pepper ], REFUSED, '', qr/has schema "7" already/, 'other schema');
ok(!-e $pepper, 'no pepper for another schema');
ctl_is([ '--redis', $uri, '--prefix', 'other:', 'list' ], STORE, '',
    qr/has schema "7", this rbgvctl knows "1"/, 'list of other schema');

$redis->('DEL', 'other:meta');

ctl_is([ '--redis', $uri, '--pepper-file', $pepper, 'init' ], DONE,
    qr/^user rbgv-gateway reset on #<sha256-of-the-password> .*
user rbgv-admin reset on #<sha256-of-the-password> .*\n\z/,
    qr/created the pepper file/, 'init');
is((stat($pepper))[2] & oct 7777, oct 600, 'mode of pepper');
like(read_file($pepper), qr/^[0-9a-f]{64}\n$/, 'pepper');
is($redis->('HGET', 'rbgv:meta', 'schema'), 1, 'schema');
like($redis->('HGET', 'rbgv:meta', 'created'), qr/^\d+$/, 'schema created');

my $before = read_file($pepper);
my @meta = @{$redis->('HGETALL', 'rbgv:meta')};

ctl_is([ '--redis', $uri, '--pepper-file', $pepper, 'init', '--acl',
    'none' ], DONE, '', qr/is ready/, 'init again');
is(read_file($pepper), $before, 'pepper kept');
is_deeply($redis->('HGETALL', 'rbgv:meta'), \@meta, 'schema kept');

write_file('short', "abc\n");

ctl_is([ '--redis', $uri, '--pepper-file', "$dir/short", 'init' ], REFUSED,
    '', qr/pepper file .*shorter than 16/, 'short pepper');

my @install = ('--redis', $uri, 'init', '--acl', 'install',
    '--gateway-password-file', "$dir/gateway",
    '--admin-password-file', "$dir/admin");

my @installed = ctl(@install);
is($installed[0], DONE, 'install');

my %password = map { $_ => read_file("$dir/$_") =~ s/\n//r }
    qw/ gateway admin /;

is((stat("$dir/gateway"))[2] & oct 7777, oct 600, 'mode of password');
like($installed[1], qr/^user rbgv-gateway reset on #@{[
    sha256_hex($password{gateway})]} resetkeys %R~rbgv:key:\* /,
    'hash of password');
unlike($installed[1] . $installed[2], qr/$password{gateway}/,
    'no password printed');
like(read_file('users.acl'), qr/^user rbgv-gateway on /m, 'acl saved');

is_deeply([ ctl(@install) ], [ DONE, $installed[1],
    "rbgvctl: the store at $uri is ready\n" ], 'install again');

ctl_json([ @install, '--json' ], { schema => '1', pepper_file => undef,
    acl => [ split(/\n/, $installed[1]) ] }, 'install as json');

# the printed lines are an ACL file

write_file('printed.acl', $installed[1]);

my $printed = run_redis("$dir/printed.sock", '--aclfile',
    "$dir/printed.acl");

is($printed->('AUTH', 'rbgv-gateway', $password{gateway}), 'OK',
    'printed lines');

ctl_is([ '--redis', "unix:$dir/printed.sock", 'init', '--json' ], DONE,
    qr/"schema"/, '', 'init of another store');

my $plain = run_redis("$dir/plain.sock");

ctl_is([ '--redis', "unix:$dir/plain.sock", @install[2 .. $#install] ],
    DONE, qr/^user/, qr/has no ACL file: .* redis\.conf/,
    'install without acl file');

###############################################################################

# from here on rbgvctl has its admin login only

$ENV{RBGV_REDIS} = "unix://rbgv-admin:$password{admin}\@$socket";
$ENV{RBGV_PEPPER_FILE} = $pepper;

ctl_is([ 'list' ], DONE, '', qr/^rbgvctl: no keys$/, 'empty list');
ctl_is([ 'list', '--json' ], DONE, "[]\n", '', 'empty list as json');

# create

my @create = ('create', '--name', 'billing-dev', '--environment', 'dev');

ctl_is([ 'create', '--name', 'billing-dev' ], USAGE, '',
    qr/create needs --environment/, 'no environment');
ctl_is([ 'create', '--environment', 'dev' ], USAGE, '',
    qr/create needs --name/, 'no name');
ctl_is([ 'create', '--name', 'billing-dev', '--environment', 'Dev' ], USAGE,
    '', qr/--environment "Dev" is not/, 'bad environment');
ctl_is([ @create, '--limit', 'default' ], USAGE, '',
    qr/--limit "default": it is not of the form POLICY=LIMIT/, 'no limit');
ctl_is([ @create, '--limit', 'a b=1r/1s' ], USAGE, '',
    qr/--limit "a b=1r\/1s": it is not of the form/, 'bad policy');
ctl_is([ @create, '--limit', 'default=0r/1s' ], USAGE, '',
    qr/--limit "default=0r\/1s": its quota/, 'bad limit');
ctl_is([ @create, '--limit', 'a=1r/1s', '--limit', 'a=2r/1s' ], USAGE, '',
    qr/--limit "a=2r\/1s": there is a limit/, 'policy twice');
ctl_is([ @create, map { ('--limit', "p$_=1r/1s") } 1 .. 9 ], USAGE, '',
    qr/--limit is given too often/, 'too many limits');
ctl_is([ @create, '--expires', 'soon' ], USAGE, '',
    qr/--expires "soon" is not a time/, 'bad expiry');
ctl_is([ @create, '--expires', '0' ], USAGE, '',
    qr/--expires "0" is not a time/, 'expiry now');
ctl_is([ @create, '--credits', '-1' ], USAGE, '',
    qr/--credits "-1" is not a number/, 'bad credits');
ctl_is([ @create, '--credits', '9007199254740992' ], USAGE, '',
    qr/--credits "9007199254740992" is not/, 'credits too large');
ctl_is([ @create, '--owner', "a\nb" ], USAGE, '',
    qr/--owner has a control character/, 'newline in owner');
ctl_is([ @create, '--note', "a\xc2\x9bb" ], USAGE, '',
    qr/--note has a control character/, 'control character in note');
ctl_is([ @create, '--note', "a\xff" ], USAGE, '', qr/--note is not UTF-8/,
    'note not utf-8');
ctl_is([ @create, '--owner', 'x' x 129 ], USAGE, '',
    qr/--owner is longer than 128 bytes/, 'long owner');
ctl_is([ { RBGV_PEPPER_FILE => '' }, @create ], USAGE, '',
    qr/create needs --pepper-file .*--no-pepper/, 'no pepper');
ctl_is([ @create, '--pepper-file', "$dir/none" ], REFUSED, '',
    qr/pepper file .*none": No such file/, 'no pepper file');
ctl_is([ @create, '--pepper-file', "$dir/short" ], REFUSED, '',
    qr/^(?!.*abc).*shorter than 16/, 'bad pepper file');

foreach my $name (qw/ a -a A-dev a_dev /, 'x' x 64) {
    ctl_is([ 'create', "--name=$name", '--environment', 'dev' ], USAGE, '',
        qr/--name "\S+" is not 2 to 63/, "bad name $name");
}

foreach my $name (qw/ test1 key-new dev test-dev my-api-key-2-dev /) {
    ctl_is([ 'create', '--name', $name, '--environment', 'dev' ], REFUSED,
        '', qr/name "$name" does not say whose key it is.*--force/,
        "generic name $name");
}

foreach my $name (qw/ billing-dev billing-staging /) {
    ctl_is([ 'create', '--name', $name, '--environment', 'prod' ], REFUSED,
        '', qr/name "$name" is of another environment/,
        "name $name for prod");
}

is($redis->('EXISTS', 'rbgv:keys'), 0, 'nothing created');

my @keys;

my ($status, $out, $err) = ctl(@create, '--owner', 'payments', '--note',
    "h\xc3\xa9", '--limit', 'default=600r/1m', '--limit', 'burst=20r/1s',
    '--expires', '90d', '--credits', '5');

is("$status$err", DONE, 'create');
like($out, qr/^API key: (rbgv_dev_(\w{12})_\w{32}_\w{6})
Id:      \2
Name:    billing-dev

.* once /, 'created key');

my ($key, $id) = $out =~ /^API key: (rbgv_dev_(\w{12})_\S+)/;
my %hash = @{$redis->('HGETALL', "rbgv:key:{$id}")};
my $now = $redis->('TIME')->[0];
my $created = $hash{created};
my $digest = hmac_sha256_hex(sha256($key), read_file($pepper) =~ s/\n//r);

push @keys, $key;

cmp_ok(abs($now - $created), '<', 60, 'created');
is_deeply(\%hash, { name => 'billing-dev', environment => 'dev',
    owner => 'payments', note => "h\xc3\xa9", status => 'active',
    created => $created, expires => $created + 90 * 86400,
    credits => 5, 'limit:default' => '600r/1m',
    'limit:burst' => '20r/1s', "secret:$digest" => "active $created 0" },
    'hash of key');
is($redis->('ZSCORE', 'rbgv:keys', $id), $created, 'index');

($status, $out, $err) = ctl('create', '--name', 'search', '--environment',
    'prod', '--no-pepper', '--json');
my $made = $json->decode($out);

push @keys, $made->{api_key};

is($status, DONE, 'create without pepper');
like($err, qr/^rbgvctl: name "search" does not end in "-prod".*\n$/,
    'warning about name');
is($redis->('HGET', "rbgv:key:{$made->{key_fingerprint}}",
    'secret:' . sha256_hex($made->{api_key}))
    =~ s/ \d+ / T /r, 'active T 0', 'digest without pepper');

($status, $out, $err) = ctl('create', '--name', 'test1', '--environment',
    'prod', '--force', '--json', '--owner', 'qa', '--expires', '1h',
    '--limit', 'default=1r/1s');
my $forced = $json->decode($out);

push @keys, $forced->{api_key};

like($err, qr/name "test1" does not say/, 'warning with force');
like(delete $forced->{api_key}, qr/^rbgv_prod_$forced->{key_fingerprint}_/,
    'key as json');

my $forced_id = $forced->{key_fingerprint};

is_deeply($forced, { key_fingerprint => $forced_id, client_id => 'test1',
    environment => 'prod', owner => 'qa', note => undef,
    status => 'active', created_at => rfc3339($redis->('HGET',
    "rbgv:key:{$forced_id}", 'created')),
    expires_at => rfc3339($redis->('HGET', "rbgv:key:{$forced_id}",
    'expires')), credits => undef, limits => { default => '1r/1s' } },
    'created key as json');

# a key that nobody has seen does not stay

foreach my $where ('>/dev/full', '>&-') {
    ($status, $out, $err) = ctl({ stdout => $where }, @create);

    is($status, REFUSED, "create $where");
    like($err, qr/cannot write .*\n.*removed again; create another$/,
        "reason $where");
}

is($redis->('ZCARD', 'rbgv:keys'), 3, 'no key without output');
is(scalar @{$redis->('KEYS', 'rbgv:key:*')}, 3, 'no hash without output');

# list and show

my $day = int($now / 86400);

$redis->('HSET', "rbgv:use:{$id}", 'last', $now, "d:$day", 7,
    'd:' . ($day - 6), 5, 'd:' . ($day - 7), 3,
    's:' . substr($digest, 0, 16), 12, 'w:default', "\0\xff");
$redis->('HSET', "rbgv:key:{$forced_id}", 'expires', $now - 1);

my $full = { key_fingerprint => $id, client_id => 'billing-dev',
    environment => 'dev', owner => 'payments', note => 'hé',
    status => 'active', created_at => rfc3339($created),
    expires_at => rfc3339($created + 90 * 86400),
    rotation_started_at => undef, rotated_at => undef,
    last_used_at => rfc3339($now), requests_today => 7,
    requests_7d => 12, credits => 5,
    limits => { default => '600r/1m', burst => '20r/1s' },
    secrets => [ { digest => substr($digest, 0, 12), status => 'active',
    created_at => rfc3339($created), expires_at => undef, uses => 12 } ] };

ctl_json([ 'show', $id, '--json' ], $full, 'show as json');
ctl_json([ 'list', '--json', '--environment', 'dev' ], [ $full ],
    'list of environment as json');

($status, $out) = ctl('list', '--json');
my @list = @{$json->decode($out)};

is(@list, 3, 'list as json');
is_deeply([ sort map { "$_->{client_id} $_->{status}" } @list ],
    [ 'billing-dev active', 'search active', 'test1 expired' ],
    'status of keys');

my $minute = substr(rfc3339($now), 0, 16) =~ s/T/ /r . 'Z';

ctl_is([ 'show', $id ], DONE, qr/^id\ +$id\nname\ +billing-dev\n
    environment\ +dev\n.*^note\ +hé\nstatus\ +active\n.*
    ^requests\ today\ +7\n.*^limit\ default\ +600r\/1m\n.*
    ^secret\ @{[ substr($digest, 0, 12) ]}\ +active,\ .*\ 12\ uses/msx, '',
    'show');
ctl_is([ 'list' ], DONE, qr/\A ID\ +NAME\ +ENV\ +OWNER\ +STATUS\ .*\n
    (?=(?s:.*)^$id\ billing-dev\ dev\ +payments\ active\ +\S+\ \Q$minute\E
    \ +7$)/mx, '', 'list');
ctl_is([ 'list', '--environment', 'none' ], DONE, '', qr/no keys/,
    'list of no environment');
ctl_is([ 'list', '--environment', 'N' ], USAGE, '',
    qr/--environment "N" is not/, 'list of bad environment');

foreach my $command (qw/ show disable enable delete /) {
    ctl_is([ $command, 'foo', '--redis', "unix:$dir/none" ], USAGE, '',
        qr/"foo" is not the id of a key/, "$command of bad id");
    ctl_is([ $command, $key ], USAGE, '', qr/^(?!.*rbgv_).*is not the id/,
        "$command of a whole key");
    ctl_is([ $command, 'A' x 12, $command eq 'delete' ? '--yes' : () ],
        REFUSED, '', qr/there is no key AAAAAAAAAAAA in the store/,
        "$command of unknown key");
}

is($redis->('EXISTS', 'rbgv:key:{AAAAAAAAAAAA}'), 0, 'no key made');

# what others wrote does not reach a terminal or break JSON

$redis->('HSET', "rbgv:key:{$forced_id}", 'owner', "\e[31m\xff", 'note',
    "a\nb");

($status, $out) = ctl('list');
unlike($out, qr/[^\n -~é]/, 'no escape in list');

($status, $out) = ctl('show', $forced_id, '--json');
is($json->decode($out)->{owner}, "\e[31m?", 'json of bad owner');

# disable and enable

ctl_is([ 'disable', $id ], DONE, "$id is disabled\n", '', 'disable');
is($redis->('HGET', "rbgv:key:{$id}", 'status'), 'disabled', 'disabled');
ctl_is([ 'disable', $id ], DONE, qr/disabled/, '', 'disable again');
ctl_json([ 'enable', $id, '--json' ], { key_fingerprint => $id,
    status => 'active' }, 'enable as json');
is($redis->('HGET', "rbgv:key:{$id}", 'status'), 'active', 'enabled');

# terminals

SKIP: {
    skip 'no script', 7 if system('script -V >/dev/null 2>&1');

    ctl('disable', $id);
    like(terminal('', 'list'), qr/\e\[31m$id/, 'colours');
    like(terminal('', 'list', { NO_COLOR => 1 }), qr/^$id/m, 'no colours');
    ctl('enable', $id);

    like(terminal("foo\n", 'delete', $made->{key_fingerprint}),
        qr/type its name, "search".*is not deleted/s, 'not deleted');
    is($redis->('EXISTS', "rbgv:key:{$made->{key_fingerprint}}"), 1,
        'key kept');
    like(terminal("search\n", 'delete', $made->{key_fingerprint}),
        qr/is deleted/, 'delete with name');
    is($redis->('EXISTS', "rbgv:key:{$made->{key_fingerprint}}"), 0,
        'key deleted');

    like(terminal("$password{admin}\n", 'list',
        { RBGV_REDIS => "unix://rbgv-admin\@$socket" }),
        qr/Password of rbgv-admin for the store .*\bbilli/s,
        'prompt');
}

# delete

ctl_is([ 'delete', $forced_id ], USAGE, '', qr/no terminal .* give --yes/,
    'delete without terminal');

$redis->('HSET', "rbgv:use:{$forced_id}", 'last', $now);
$redis->('XADD', "rbgv:events:{$forced_id}", '*', 'status', 200);

ctl_json([ 'delete', $forced_id, '--yes', '--json' ],
    { key_fingerprint => $forced_id, status => 'deleted' },
    'delete as json');
is($redis->('EXISTS', map { "rbgv:$_:{$forced_id}" } qw/ key use events /), 0,
    'deleted');
is($redis->('ZSCORE', 'rbgv:keys', $forced_id), undef,
    'deleted from index');

$redis->('ZADD', 'rbgv:keys', 1, 'B' x 12, 1, 'no id');

ctl_is([ 'list' ], DONE, qr/^(?!BBB)(?!.*no id)/, '', 'rest in index');
ctl_is([ 'delete', 'B' x 12, '--yes' ], DONE, qr/is deleted/, '',
    'delete of rest');

###############################################################################

# the login of the gateway

my $gateway = client($socket);
my $use = "rbgv:use:{$id}";

is($gateway->('AUTH', 'rbgv-gateway', $password{gateway}), 'OK', 'gateway');
is($gateway->('CLIENT', 'SETNAME', 'gateway'), 'OK', 'gateway name');
is({ @{$gateway->('HGETALL', "rbgv:key:{$id}")} }->{name}, 'billing-dev',
    'gateway reads key');
is($gateway->('HGET', 'rbgv:meta', 'schema'), 1, 'gateway reads schema');

my $sha = $gateway->('SCRIPT', 'LOAD',
    'redis.call("HINCRBY", KEYS[1], ARGV[1], 1)'
    . ' redis.call("HDEL", KEYS[1], "x") redis.call("EXPIRE", KEYS[1], 9)'
    . ' redis.call("TIME")'
    . ' return redis.call("HGET", KEYS[1], ARGV[1])');

is($gateway->('EVALSHA', $sha, 1, $use, 'd:1'), 1, 'gateway counts');
like($gateway->('CLIENT', 'TRACKING', 'on', 'REDIRECT',
    $gateway->('CLIENT', 'ID'), 'BCAST', 'PREFIX', 'rbgv:key:'), qr/OK/,
    'gateway tracks');

is($gateway->('SET', 'rbgv:job:foo', $id, 'NX', 'GET', 'EX', 100), undef,
    'gateway records a job');
is($gateway->('GET', 'rbgv:job:foo'), $id, 'and reads it');
like($gateway->('XADD', "rbgv:events:{$id}", 'MAXLEN', '=', 100, '*', 'a', 1),
    qr/^\d+-0$/, 'gateway writes events');
is_deeply($gateway->('XREVRANGE', "rbgv:events:{$id}", '+', '-', 'COUNT',
    1)->[0][1], [ 'a', 1 ], 'and reads them');

foreach my $command (
    [ 'XRANGE', "rbgv:events:{$id}", '-', '+' ],
    [ 'DEL', "rbgv:events:{$id}" ],
    [ 'SET', "rbgv:key:{$id}", 'foo' ],
    [ 'SET', 'rbgv:meta', 'foo' ],
    [ 'XADD', "rbgv:key:{$id}", '*', 'status', 'active' ],
    [ 'DEL', 'rbgv:job:foo' ],
    [ 'SET', 'other', 'foo' ],
    [ 'EVALSHA', $sha, 1, "rbgv:key:{$id}", 'credits' ],
    [ 'HSET', "rbgv:key:{$id}", 'status', 'active' ],
    [ 'HSET', 'rbgv:meta', 'schema', 2 ],
    [ 'DEL', $use ],
    [ 'ZRANGE', 'rbgv:keys', 0, -1 ],
    [ 'HGETALL', 'other' ],
    [ 'EVAL', 'return 1', 0 ],
    [ 'KEYS', '*' ],
    [ 'FLUSHALL' ],
    [ 'CONFIG', 'GET', '*' ],
    [ 'ACL', 'LIST' ],
    [ 'SUBSCRIBE', 'foo' ],
    [ 'PUBLISH', '__redis__:invalidate', 'x' ])
{
    like($gateway->(@$command), qr/^ERROR NOPERM/,
        "gateway may not @$command[0, 1 .. ($#$command > 0)]");
}

like($gateway->('SUBSCRIBE', '__redis__:invalidate')->[0], qr/subscribe/,
    'gateway subscribes');

# the login of rbgvctl

my $admin = client($socket);

is($admin->('AUTH', 'rbgv-admin', $password{admin}), 'OK', 'admin');

foreach my $command ([ 'HGETALL', 'other' ], [ 'ACL', 'LIST' ],
    [ 'CONFIG', 'GET', '*' ], [ 'FLUSHALL' ], [ 'SCAN', 0 ],
    [ 'SUBSCRIBE', 'foo' ])
{
    like($admin->(@$command), qr/^ERROR NOPERM/,
        "admin may not @$command[0, 1 .. ($#$command > 0)]");
}

ctl_is([ 'init', '--acl', 'none' ], DONE, '', qr/is ready/, 'init as admin');
ctl_is([ @install[2 .. $#install] ], STORE, '', qr/NOPERM .* admin login/,
    'install as admin');
ctl_is([ { RBGV_REDIS =>
    "unix://rbgv-gateway:$password{gateway}\@$socket" }, 'list' ], STORE,
    '', qr/NOPERM/, 'list as gateway');

# passwords

write_file('wrong', "geheim\n");
write_file('empty', "\n");

my @admin = ({ RBGV_REDIS => '' }, '--redis', "unix://rbgv-admin\@$socket");

ctl_is([ @admin, 'list', '--password-file', "$dir/admin" ], DONE,
    qr/billing-dev/, '', 'password file');
ctl_is([ @admin, 'list', '--password-file', "$dir/wrong" ], STORE, '',
    qr/^(?!.*geheim).*refused the login of user rbgv-admin/,
    'wrong password');
ctl_is([ @admin, 'list', '--password-file', "$dir/empty" ], REFUSED, '',
    qr/password file .*first line is empty/, 'empty password file');
ctl_is([ @admin, 'list', '--password-file', "$dir/none" ], REFUSED, '',
    qr/password file .*No such file/, 'no password file');
ctl_is([ @admin, 'list' ], STORE, '', qr/needs a password; give --passw/,
    'no password');

$plain->('CONFIG', 'SET', 'requirepass', 'hunter2');
write_file('default', "  hunter2\t\r\nsecond\n");

ctl_is([ '--redis', "unix:$dir/plain.sock", 'list' ], STORE, '',
    qr/needs a password/, 'store with password');
ctl_is([ { RBGV_PASSWORD_FILE => "$dir/default" }, '--redis',
    "unix:$dir/plain.sock", 'list' ], DONE, '', qr/no keys/,
    'password file in environment');
ctl_is([ { RBGV_REDIS => "unix://:hunter2\@$dir/plain.sock?db=1" },
    'list' ], STORE, '', qr/no "rbgv:meta"/, 'database');

###############################################################################

# stores that do not do their part

ctl_is([ { RBGV_REDIS => 'unix://:geheim@' . fake("-ERR unknown command"
    . " 'AUTH', with args beginning with: 'geheim'\r\n") }, 'list' ],
    STORE, '', qr/^(?!.*geheim).*refused the login/, 'password in error');
ctl_is([ { RBGV_REDIS => 'unix:' . fake("-LOADING Redis is loading\r\n") },
    'list' ], STORE, '', qr/"LOADING .*try again/, 'loading');
ctl_is([ { RBGV_REDIS => 'unix:' . fake("-READONLY foo\e[31m\r\n") },
    'list' ], STORE, '', qr/"READONLY foo\?\[31m"; it is a replica/,
    'replica');
ctl_is([ { RBGV_REDIS => 'unix:' . fake("HTTP/1.1 400 Bad\r\n") }, 'list' ],
    STORE, '', qr/lost the store .*Protocol error/, 'not redis');
ctl_is([ { RBGV_REDIS => 'unix:' . fake(":1\r\n") }, 'list' ], STORE, '',
    qr/wrong type/, 'wrong type');
ctl_is([ { RBGV_REDIS => 'unix:' . fake('') }, 'list' ], STORE, '',
    qr/lost the store .*closed/, 'closed');
($status, $out, $err) = ctl({ RBGV_REDIS => 'unix:' . fake("+PONG\r\n",
    "+OK\r\n", "\$1\r\n1\r\n", "*0\r\n*2\r\n\$1\r\n1\r\n\$1\r\n1\r\n",
    ":1\r\n", '') }, @create);

is("$status$out", STORE, 'lost while creating');
like($err, qr/lost the store .*\n.*key (\w{12}) may.* delete \1"/,
    'key to delete');

kill STOP => $pids[1];
my $start = time();

ctl_is([ '--redis', "unix:$dir/printed.sock", '--timeout', '1s', 'list' ],
    STORE, '', qr/did not answer within 1 seconds/, 'frozen store');
cmp_ok(time() - $start, '<', 5, 'time of frozen store');
kill CONT => $pids[1];

###############################################################################

# nothing of a key reaches Redis but its digest

my $monitor = client($socket);
is($monitor->('MONITOR'), 'OK', 'monitor');

push @keys, $json->decode((ctl(@create, '--json'))[1])->{api_key};

my $sent = '';
$sent .= $monitor->() while $sent !~ /secret:/;

my @secrets = map { (split(/_/))[3] } @keys;
my $stored = join("\n", map {
    my $type = $redis->('TYPE', $_);
    my @read = $type eq 'hash' ? ('HGETALL', $_)
        : $type eq 'set' ? ('SMEMBERS', $_)
        : $type eq 'zset' ? ('ZRANGE', $_, 0, -1)
        : $type eq 'stream' ? ('XRANGE', $_, '-', '+') : ('MGET', $_);
    ($_, $redis->('DUMP', $_), $json->encode($redis->(@read)));
} @{$redis->('KEYS', '*')});

like($stored, qr/secret:[0-9a-f]{64}/, 'digests stored');

is(scalar(grep { index($stored . $sent, $_) >= 0 } @secrets, @password{qw/
    gateway admin /}, read_file($pepper) =~ s/\n//r), 0, 'no secret stored');

# many at once

$redis->('DEL', 'rbgv:keys');

my @new = parallel(map { [ 'create', '--name', "service$_-prod",
    '--environment', 'prod', '--json' ] } 1 .. 50);
my %ids = map { $json->decode($_->[1])->{key_fingerprint} => 1 } @new;

is(scalar(grep { $_->[0] != DONE } @new), 0, 'parallel creates');
is(keys %ids, 50, 'parallel keys');
is_deeply([ sort map { $_->{key_fingerprint} }
    @{$json->decode((ctl('list', '--json'))[1])} ], [ sort keys %ids ],
    'parallel keys listed');

my @ids = keys %ids;

my @switched = parallel(map { [ $_ % 2 ? 'disable' : 'enable', $ids[$_] ] }
    0 .. 49);

is(scalar(grep { $_->[0] != DONE } @switched), 0, 'parallel switches');
is_deeply([ map { $redis->('HGET', "rbgv:key:{$_}", 'status') } @ids ],
    [ map { $_ % 2 ? 'disabled' : 'active' } 0 .. 49 ],
    'parallel states');

my @deleted = parallel(map { $_ == 25 ? [ 'delete', $ids[0], '--yes' ]
    : [ $_ % 2 ? 'disable' : 'enable', $ids[0] ] } 0 .. 49);

is($deleted[25][0], DONE, 'delete among switches');
is($redis->('EXISTS', "rbgv:key:{$ids[0]}"), 0, 'no key comes back');
is(scalar(grep { $_->[0] != DONE && $_->[2] !~ /there is no key/ } @deleted),
    0, 'switches of deleted key');

# pages, with many keys of one second

$redis->('EVAL', q{
    for i = 1, 2500 do
        local id = string.format('%012d', i)
        redis.call('ZADD', KEYS[1], math.floor(i / 1200), id)
        redis.call('HSET', 'rbgv:key:{' .. id .. '}', 'name', 'n' .. i)
    end }, 1, 'rbgv:keys');

@list = @{$json->decode((ctl('list', '--json'))[1])};

is(@list, 2549, 'pages');
is(keys %{{ map { $_->{key_fingerprint} => 1 } @list }}, 2549,
    'no key twice');

is(reports($dir), '', 'no reports of sanitizers');

done_testing();

###############################################################################

# status, standard output and standard error of rbgvctl

sub ctl {
    return @{(parallel([ @_ ]))[0]};
}


# the same of several at once; a command may start with a hash of variables
# for its environment, where stdout is a redirection

sub parallel {
    my (@commands) = @_;
    my (@pids, @results);

    foreach my $n (0 .. $#commands) {
        my @args = @{$commands[$n]};
        my %env = ref $args[0] ? %{shift @args} : ();
        my $stdout = delete $env{stdout} || ">$dir/out.$n";

        my $pid = fork() // die "cannot fork: $!";

        if ($pid == 0) {
            @ENV{keys %env} = values %env;
            exec('sh', '-c', "exec \"\$0\" \"\$@\" </dev/null $stdout "
                . "2>$dir/err.$n", $rbgvctl, @args)
                or POSIX::_exit(127);
        }

        push @pids, $pid;
    }

    foreach my $n (0 .. $#pids) {
        waitpid($pids[$n], 0);
        push @results, [ $? & 127 ? "signal $?" : $? >> 8,
            map { -e $_ ? read_file($_) : '' }
            "$dir/out.$n", "$dir/err.$n" ];
        unlink "$dir/out.$n", "$dir/err.$n";
    }

    return @results;
}


# an error is one line

sub ctl_is {
    my ($args, $status, $out, $err, $name) = @_;
    my @got = ctl(@$args);

    utf8::decode($got[1]);

    my $line = $status == DONE || $got[2] =~ /^rbgvctl: [^\n]+\n\z/;

    my $ok = $got[0] eq $status && $line
        && (ref $out ? $got[1] =~ $out : $got[1] eq $out)
        && (ref $err ? $got[2] =~ $err : $got[2] eq $err);

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    ok($ok, $name) or diag("status $got[0]\n$got[1]\n$got[2]");
}


sub ctl_json {
    my ($args, $expected, $name) = @_;
    my ($status, $out, $err) = ctl(@$args);

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    is_deeply([ $status, eval { $json->decode($out) } ], [ DONE, $expected ],
        $name) or diag($err);
}


# what a terminal shows

sub terminal {
    my ($input, @args) = @_;
    my %env = ref $args[-1] ? %{pop @args} : ();

    local @ENV{keys %env} = values %env;

    write_file('input', $input);

    return `script -qec '"$rbgvctl" @args' /dev/null <$dir/input`;
}


sub rfc3339 {
    my ($time) = @_;
    return POSIX::strftime('%Y-%m-%dT%H:%M:%SZ', gmtime($time));
}


sub write_file {
    my ($name, $content) = @_;
    open(my $fh, '>', "$dir/$name") or die "cannot create $name: $!";
    print $fh $content;
    close($fh) or die "cannot write $name: $!";
}


sub read_file {
    my ($path) = @_;
    return scalar read_binary($path =~ m!^/! ? $path : "$dir/$path");
}


sub run_redis {
    my ($path, @args) = @_;
    my $pid = fork() // die "cannot fork: $!";

    if ($pid == 0) {
        open(STDOUT, '>>', "$dir/redis.log");
        exec($server, '--port', 0, '--unixsocket', $path, '--dir',
            $dir, '--save', '', '--appendonly', 'no', @args)
            or POSIX::_exit(127);
    }

    push @pids, $pid;

    my $deadline = time() + 30;

    until (IO::Socket::UNIX->new($path)) {
        die "redis-server failed:\n" . read_file('redis.log')
            if waitpid($pid, WNOHANG) || time() > $deadline;
        sleep 0.01;
    }

    return client($path);
}


# sends a command and returns its reply, an error as "ERROR ...", a nil as
# undef; without a command only the next reply

sub client {
    my ($path) = @_;
    my $s = IO::Socket::UNIX->new($path) or die "cannot connect: $!";

    return sub {
        if (@_) {
            print $s '*' . @_ . "\r\n"
                . join('', map { '$' . length . "\r\n$_\r\n" } @_);
            $s->flush();
        }

        return read_reply($s);
    };
}


sub read_reply {
    my ($s) = @_;
    my ($type, $value) = (<$s> // die 'lost redis') =~ /^(.)(.*)\r\n/;

    return "ERROR $value" if $type eq '-';
    return $value unless $type =~ /[\$*]/;
    my $string;

    return $string if $value < 0;
    return [ map { read_reply($s) } 1 .. $value ] if $type eq '*';

    read($s, $string, $value + 2) == $value + 2 or die 'lost redis';

    return substr($string, 0, -2);
}


# a socket where each command gets the next reply, the last one again and
# again; if that is empty, the connection is closed

sub fake {
    my (@replies) = @_;
    my $path = "$dir/fake." . @pids;
    my $listen = IO::Socket::UNIX->new(Local => $path, Listen => 5)
        or die "cannot listen: $!";
    my $pid = fork() // die "cannot fork: $!";

    if ($pid == 0) {
        while (my $s = $listen->accept()) {
            while (sysread($s, my $command, 65536)) {
                my $reply = @replies > 1 ? shift @replies : $replies[0];
                last if $reply eq '';
                syswrite($s, $reply);
            }
        }

        POSIX::_exit(0);
    }

    push @pids, $pid;

    return $path;
}


END {
    if ($$ == $parent) {
        local $?;
        kill CONT => @pids if @pids;
        kill TERM => @pids if @pids;
        waitpid($_, 0) for @pids;
    }
}
