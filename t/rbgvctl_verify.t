# Tests for "rbgvctl verify": it says of a key what the gateway then decides,
# and leaves no trace in the store.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use JSON::PP;
use Test::More;
use Time::HiRes qw(time);

use Test::Rbgv;
use Test::Rbgv::Key qw(make_key sign_key);

my $t = Test::Rbgv->new;

$t->start_redis;

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth_zone off;
    rbgv_auth_redis_timeout 10s;
    rbgv_auth on;
    add_header X-Status $rbgv_auth_status always;

    server {
        listen 127.0.0.1:%%PORT_0%%;
        location / { empty_gif; }
        location /two { rbgv_auth_environment staging dev; empty_gif; }
        location /limit {
            rbgv_auth_limit default 5r/1d;
            rbgv_auth_limit other 100r/1h;
            empty_gif;
        }
        location /cost {
            rbgv_auth_limit default 5r/1d;
            rbgv_auth_cost 4;
            empty_gif;
        }
        location /slices { rbgv_auth_limit other 200r/1h; empty_gif; }
        location /credits { rbgv_auth_credits 3; empty_gif; }
        location /opaque { rbgv_auth_opaque_keys on; empty_gif; }
    }
}
EOC

my %options = (
    '/'        => [],
    '/two'     => [ qw(--environment staging --environment dev) ],
    '/limit'   => [ qw(--limit default=5r/1d --limit other=100r/1h) ],
    '/cost'    => [ qw(--limit default=5r/1d --cost 4) ],
    '/credits' => [ qw(--credits 3) ],
    '/opaque'  => [ '--opaque' ],
);

my @said;


sub verify {
    my ($key, @options) = @_;

    my ($exit, $out, $err) = $t->rbgvctl('--json', 'verify', @options,
                                         { stdin => "$key\n" });
    push @said, $out, $err;

    my $json = eval { decode_json($out) } or diag("$exit: $out$err");

    return ($json // {}, $exit);
}


sub dump_store {
    return { map { $_ => $t->redis('DUMP', $_) } $t->redis('KEYS', '*') };
}


# what verify says is what the gateway then does
sub same {
    my ($uri, $key, $verdict, $reason, $name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $before = dump_store();
    my ($json, $exit) = verify($key, @{ $options{$uri} });

    is_deeply(dump_store(), $before, "$name: no trace");

    my $response = $t->get($uri, key => $key);
    my $body = eval { decode_json($response->{body}) };
    my $passed = $verdict eq 'PASSED';

    is_deeply([ @$json{qw(verdict reason http_status code)}, $exit ],
        [ $verdict, $reason,
          $passed ? (undef, undef, 0)
                  : ($response->{status}, $body->{error}{code}, 1) ],
        "$name: verify");
    is($response->{headers}{'x-status'}[0], $verdict, "$name: gateway");

    return ($json, $response);
}


my %good = %{ $t->create_key(owner => 'platform', credits => 7) };
my $good = $good{key};
my $hash = "rbgv:key:{$good{id}}";
my ($secret) = grep { /^secret:/ } $t->redis('HKEYS', $hash);
my $value = $t->redis('HGET', $hash, $secret);


# set(FIELD => VALUE, ...), with undef to remove; and back, if code is given
sub set {
    my ($code, %field) = @_;

    my %old = map { $_ => scalar $t->redis('HGET', $hash, $_) } keys %field;

    for my $set (\%field, $code ? \%old : ()) {
        for (keys %$set) {
            defined $set->{$_} ? $t->redis('HSET', $hash, $_, $set->{$_})
                               : $t->redis('HDEL', $hash, $_);
        }

        $code->() if $set == \%field && $code;
    }
}


# the key

my ($json) = same('/', $good, 'PASSED', undef, 'good key');

is_deeply($json, {
    verdict => 'PASSED', reason => undef, http_status => undef,
    code => undef, key_fingerprint => $good{id},
    client_id => 'api-gateway-prod', environment => 'prod',
    owner => 'platform', status => 'active', expires_at => undef,
    secret => { digest => substr($secret, 7, 12), status => 'active',
                expires_at => undef },
    windows => [], credits => 7, credits_left => 7,
}, 'all of it');

same('/', " \t$good \t", 'PASSED', undef, 'white space around it');
same('/', '', 'MISSING', 'no key in the request', 'no key');
same('/', 'geheim', 'INVALID', 'malformed key', 'malformed key');
same('/', 'x' x 3000, 'INVALID', 'malformed key', 'long key');
same('/', substr($good, 0, -1) . '~', 'INVALID', 'wrong checksum',
    'wrong checksum');

($json) = same('/', make_key(id => 'B' x 12), 'INVALID', 'unknown key',
    'unknown key');
is_deeply([ @$json{qw(key_fingerprint client_id secret windows)} ],
    [ 'B' x 12, undef, undef, [] ], 'nothing is known of it');

($json) = same('/', make_key(id => $good{id}), 'INVALID', 'wrong secret',
    'wrong secret');
is_deeply([ @$json{qw(client_id secret)} ], [ 'api-gateway-prod', undef ],
    'whose id it has');


# the record

my $now = $t->redis('TIME')->[0];
my ($past, $future) = ($now - 10, $now + 100_000);
my (undef, $created) = split / /, $value;

for ([ { status => 'disabled' }, 'DISABLED', 'disabled key' ],
     [ { $secret => "disabled $created 0" }, 'DISABLED', 'disabled secret' ],
     [ { expires => $past }, 'EXPIRED', 'expired key' ],
     [ { $secret => "active $created $past" }, 'EXPIRED', 'expired secret' ],
     [ { status => 'disabled', expires => $past }, 'DISABLED',
       'disabled key' ],
     [ { expires => $future, $secret => "active $created $future" },
       'PASSED', undef ],
     [ { owner => undef, note => undef, what => 'ever' }, 'PASSED', undef ],
     [ { 'secret:' . 'X' x 64 => 'nothing' }, 'PASSED', undef ])
{
    my ($fields, $verdict, $reason) = @$_;

    set(sub { same('/', $good, $verdict, $reason,
                   join ', ', map { s/^(secret:.{4}).*/$1/r } keys %$fields) },
        map { $_ => $fields->{$_} } keys %$fields);
}

for ({ status => 'on' }, { status => undef }, { name => undef },
     { name => '' }, { name => 'x' x 256 }, { owner => 'x' x 256 },
     { environment => undef }, { environment => 'Prod' },
     { expires => 'soon' }, { expires => '' }, { credits => '-1' },
     { 'limit:default' => '5' }, { 'limit:a b' => '5r/1s' },
     { $secret => 'active' }, { $secret => 'on 1 0' },
     { $secret => "active $created soon" },
     { map { 'secret:' . $_ x 64 => $value } 1 .. 3 },
     { map { 'limit:' . $_ x 32 => '5r/1s' } 'a' .. 'z' })
{
    my %fields = %$_;

    set(sub {
            my ($json, $exit) = verify($good);
            is("$json->{verdict} $exit", 'UNAVAILABLE 1', 'malformed record');
            like($json->{reason}, qr/^malformed record: /, $json->{reason});
            is($t->get('/', key => $good)->{headers}{'x-status'}[0],
                'UNAVAILABLE', 'which the gateway cannot read');
        }, %fields);
}

my $dev = $t->create_key(name => 'search-dev', environment => 'dev');

same('/two', $good, 'ENVIRONMENT', 'key of another environment',
    'other environment');
same('/two', $dev->{key}, 'PASSED', undef, 'one of two environments');


# windows

for my $left (reverse 1 .. 5) {
    my ($json, $response) = same('/limit', $good, 'PASSED', undef, "$left");

    is_deeply([ map { "$_->{policy} $_->{limit} $_->{remaining}" }
                    @{ $json->{windows} } ],
        [ "default 5r/1d $left", 'other 100r/1h ' . (95 + $left) ],
        "$left requests left");
}

my $before = time;
my ($full, $refused) = same('/limit', $good, 'LIMITED', 'a window is full',
    'full window');
my $late = time - $before + 1;

my ($mine, $theirs) = ($full->{windows}[0]{retry_after},
                       $refused->{headers}{'retry-after'}[0]);

cmp_ok($mine, '>=', $theirs, 'when there is room again');
cmp_ok($mine, '<=', $theirs + $late, 'within the time of the request');

is($full->{windows}[1]{retry_after}, undef, 'the other one is not full');

my $cost = $t->create_key(name => 'cost-prod');

same('/cost', $cost->{key}, 'PASSED', undef, 'cost of 4 of 5');
same('/cost', $cost->{key}, 'LIMITED', 'a window is full', 'cost of 4 of 1');

my $own = $t->create_key(name => 'own-prod', limit => ['default=2r/1d']);

($json) = same('/limit', $own->{key}, 'PASSED', undef, 'limit of the key');
is_deeply([ map { $_->{limit} } @{ $json->{windows} } ],
    [ '2r/1d', '100r/1h' ], 'goes before that of the location');

($json) = verify($own->{key});
is_deeply([ map { "$_->{policy} $_->{limit} $_->{remaining}" }
                @{ $json->{windows} } ],
    [ 'default 2r/1d 1' ], 'limits of the key if none are given');


# windows whose newest slice is not that of now

my $id = $own->{id};
my @shift = (0, 1, 2, 7, 15, 16, 17, 40, -1, -16, -17, -40);

for my $ago (@shift) {
    my @slices = 1 .. 17;

    # unless the slice ended meanwhile
    for (1 .. 5) {
        my $index = slice();

        $t->redis('DEL', "rbgv:use:{$id}");
        $t->redis('HSET', "rbgv:use:{$id}", 'w:other:3600',
            pack('Q<L<L<', $index - $ago, 153, $slices[0]));
        $t->redis('HSET', "rbgv:use:{$id}", 'h:other:3600',
            pack('L<16', @slices[1 .. 16]));

        ($json)  = verify($own->{key}, qw(--limit other=200r/1h));
        ($mine, my $reset) = @{ $json->{windows}[0] }{qw(remaining reset)};

        ($theirs, my $time) = $t->get('/slices', key => $own->{key})
            ->{headers}{ratelimit}[0] =~ /r=(\d+);t=(\d+)/;

        next if slice() != $index;

        cmp_ok($time, '<=', $reset, "slice ends in $reset s");
        last;
    }

    is($mine, $theirs + 1, "newest slice $ago before now");
}


# credits

for my $left (7, 4) {
    ($json) = same('/credits', $good, 'PASSED', undef, "$left credits");
    is("$json->{credits_left} of $json->{credits}", "$left of 7", 'credits');
}

same('/credits', $good, 'CREDITS', 'not enough credits', 'too few credits');
same('/credits', $dev->{key}, 'CREDITS', 'not enough credits', 'no credits');


# another pepper, none

my $other = $t->write_file('other', 'o' x 16);

($json) = verify($good, '--pepper-file', $other);
is($json->{reason}, 'wrong secret', 'other pepper');

($json) = verify($good, '--pepper-file', $other, '--previous-pepper-file',
    $t->pepper_file);
is($json->{verdict}, 'PASSED', 'previous pepper');

($json) = verify($good, '--no-pepper');
is($json->{reason}, 'wrong secret', 'no pepper');


# keys of other systems

my $opaque = 'sk_live_0123456789abcdef';

is(($t->rbgvctl('import', '-', { stdin =>
    "client_id,environment,api_key\nmail-prod,prod,$opaque\n" }))[0], 0,
    'import');

same('/', $opaque, 'INVALID', 'malformed key', 'opaque key');
like($said[-1], qr/with --opaque it is looked up/, 'and what to do');

($json) = same('/opaque', $opaque, 'PASSED', undef, 'where it may');
is($json->{client_id}, 'mail-prod', 'whose it is');

same('/opaque', "$opaque.", 'INVALID', 'unknown key', 'unknown opaque key');
same('/opaque', 'rbgv_' . 'x' x 20, 'INVALID', 'malformed key', 'no key');
same('/opaque', $good, 'PASSED', undef, 'a key of our form');


# for people

my ($exit, $out, $err) = $t->rbgvctl('verify', @{ $options{'/limit'} },
                                     { stdin => "$good\r\n" });
push @said, $out, $err;

is("$exit$err", 1, 'status in words');
like($out, qr/^verdict\ +LIMITED\nanswer\ +429\ rate_limited\n
              reason\ +a\ window\ is\ full\nid\ +$good{id}\n.*
              ^limit\ default\ 5r\/1d,\ 0\ left,\ enough\ in\ \d+\ s\n.*
              ^credits\ +1\ left\ of\ 7$/msx, 'in words');

$t->redis('HSET', $hash, 'owner', "\e[31m");
($exit, $out) = $t->rbgvctl('verify', { stdin => $good });
unlike($out, qr/[^\n -~]/, 'no escape reaches a terminal');


# options

for ([ [ '--environment', 'Prod' ], qr/--environment "Prod" is not/ ],
     [ [ '--limit', 'default' ], qr/--limit "default": it is not/ ],
     [ [ '--cost', 'x' ], qr/--cost "x" is not a number/ ],
     [ [ '--credits', '-1' ], qr/--credits "-1" is not a number/ ],
     [ [ { env => { RBGV_PEPPER_FILE => '' } } ],
       qr/verify needs --pepper-file/ ],
     [ [ $good ], qr/"\.\.\." is one argument too many/ ])
{
    my ($args, $reason) = @$_;
    my $opt = ref $args->[-1] ? pop @$args : {};

    ($exit, $out, $err) = $t->rbgvctl('verify', @$args,
                                      { stdin => $good, %$opt });
    push @said, $out, $err;

    is("$exit$out", 2, "status: $reason");
    like($err, $reason, "reason: $reason");
}


# a terminal does not show the key

SKIP: {
    skip 'no script', 2 if system('script -V >/dev/null 2>&1');

    my $redis = $t->redis_server;

    local @ENV{qw(RBGV_REDIS RBGV_PASSWORD_FILE RBGV_PEPPER_FILE)}
        = ($redis->uri('rbgv-admin'), $redis->password_file('rbgv-admin'),
           $t->pepper_file);

    my $input = $t->write_file('input', "$good\n");
    my $shown = `script -qec '$t->{build}/rbgvctl verify' /dev/null <$input`;

    like($shown, qr/API key: .*verdict +PASSED/s, 'prompt');
    push @said, $shown =~ s/.*API key: //sr;
}

is(scalar(grep { index($_, (split /_/, $good)[3]) >= 0
                 || index($_, $opaque) >= 0 } @said), 0,
    'no key in what rbgvctl says');

$t->done;


sub slice {
    my $time = $t->redis('TIME');

    return int(($time->[0] * 1_000_000 + $time->[1]) / (3600 * 63_493));
}
