# Tests for "rbgvctl import": what it stores, what it refuses, that it can be
# interrupted and repeated, and that it reads a file as a stream.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use JSON::PP;
use POSIX qw(mkfifo);
use Test::More;
use Time::HiRes qw(sleep time);

use Test::Rbgv;
use Test::Rbgv::Key qw(derive_id digest make_key);
use Test::Rbgv::Process;

my $t = Test::Rbgv->new;
my $redis = $t->start_redis;

chomp(my $pepper = $t->read_file('pepper'));

my @said;                              # of rbgvctl, in all runs


sub import_ok {
    my ($expected, $name, @args) = @_;

    my ($exit, $out, $err) = run('--json', @args);
    my $got = eval { decode_json($out) } // {};

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    is_deeply([ $exit, @$got{qw(imported existing refused)} ], $expected,
              $name) or diag($out, $err);

    return $got->{refusals};
}


sub run {
    my (@args) = @_;

    my @got = $t->rbgvctl('import', @args);
    push @said, @got[1, 2];

    return @got;
}


# as run() does, but does not wait
sub background {
    my (@args) = @_;

    return Test::Rbgv::Process->new(
        command => [ "$t->{build}/rbgvctl", 'import', @args ],
        log     => "$t->{dir}/background.log",
        env     => { RBGV_REDIS         => $redis->uri('rbgv-admin'),
                     RBGV_PASSWORD_FILE =>
                         $redis->password_file('rbgv-admin'),
                     RBGV_PEPPER_FILE   => $t->pepper_file });
}


sub csv {
    my (@rows) = @_;

    return $t->write_file('keys.csv', join '', map { "$_\n" } @rows);
}


sub stored {
    my ($id) = @_;

    return { $t->redis('HGETALL', "rbgv:key:{$id}") };
}


sub everything {
    return { map { $_ => $t->redis('DUMP', $_) } $t->redis('KEYS', '*') };
}


# what is stored

my $own    = make_key(id => 'ownOWN012345');
my $opaque = 'sk_live_0123456789abcdef';
my $unseen = 'a-key-that-only-its-owner-has';
my $other  = sha256_hex($unseen);

my @rows = (
    'client_id,environment,owner,note,api_key,sha256,limits,credits,'
        . 'expires_at',
    "api-gateway-prod,prod,platform,,$own,,,,",
    "search-prod,,,,\"" . make_key(id => 'ownOWN678901') . '",,,,',
    "billing-dev,dev,\"pay, ments\",\"a \"\"note\"\"\",$opaque,,"
        . 'default=600r/1m burst=20r/1s,5,2099-12-31T23:59:59Z',
    "export-staging,staging,,h\xc3\xa9,,\U$other\E,default=1r/1d,0,2100-01-01",
);

csv(@rows);

my $before = everything();

import_ok([ 0, 4, 0, 0 ], 'dry run', "$t->{dir}/keys.csv", '--dry-run');
is_deeply(everything(), $before, 'writes nothing');

import_ok([ 0, 4, 0, 0 ], 'import', "$t->{dir}/keys.csv");

my $now = time;

sub is_stored {
    my ($id, $key, $expected, $name) = @_;

    my $got     = stored($id);
    my $created = $got->{created} // 0;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    is_deeply($got, { status => 'active', created => $created, %$expected,
                      'secret:' . digest($key, $pepper)
                          => "active $created 0" }, $name);
    is($t->redis('ZSCORE', 'rbgv:keys', $id), $created, "$name: index");
    cmp_ok(abs($now - $created), '<', 600, "$name: created now");
}


is_stored('ownOWN012345', $own,
    { name => 'api-gateway-prod', environment => 'prod',
      owner => 'platform' }, 'key of our form');

is(stored('ownOWN678901')->{environment}, 'prod',
    'environment of the key itself');

is_stored(derive_id($opaque), $opaque,
    { name => 'billing-dev', environment => 'dev', owner => 'pay, ments',
      note => 'a "note"', 'limit:default' => '600r/1m',
      'limit:burst' => '20r/1s', credits => 5, expires => 4102444799 },
    'opaque key');

is_stored(derive_id($unseen), $unseen,
    { name => 'export-staging', environment => 'staging',
      note => "h\xc3\xa9", 'limit:default' => '1r/1d', credits => 0,
      expires => 4102444800 }, 'SHA-256');


# the gateway

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth_redis_timeout 10s;
    rbgv_auth on;

    server {
        listen 127.0.0.1:%%PORT_0%%;
        location / { empty_gif; }
        location /opaque { rbgv_auth_opaque_keys on; empty_gif; }
    }
}
EOC

is($t->get('/', key => $own)->{status}, 200, 'key of our form passes');
is($t->get('/opaque', key => $_)->{status}, 200, "$_ passes")
    for $own, $opaque, $unseen;
refused($t->get('/', key => $opaque), 401, 'invalid_api_key',
    'an opaque key only where it may');


# again: what is there stays, also if it has changed

$t->rbgvctl('disable', 'ownOWN012345');
$before = everything();

import_ok([ 0, 0, 4, 0 ], 'again', "$t->{dir}/keys.csv");
import_ok([ 0, 0, 4, 0 ], 'dry run of it', "$t->{dir}/keys.csv",
    '--dry-run');

my @changed = (
    [ "api-gateway2-prod,prod,platform,,$own,,,,", 'name' ],
    [ "api-gateway-prod,prod,,,$own,,,,", 'more than the row has' ],
    [ "api-gateway-prod,prod,platform,x,$own,,,,", 'note' ],
    [ "api-gateway-prod,prod,platform,,$own,,a=1r/1s,,", 'limit:a' ],
    [ "api-gateway-prod,prod,platform,,$own,,,1,", 'credits' ],
    [ "api-gateway-prod,prod,platform,,$own,,,,2100-01-01", 'expires' ],
    [ "api-gateway-prod,prod,platform,,"
      . make_key(id => 'ownOWN012345', secret => 'b' x 32) . ',,,,',
      'another secret' ],
);

csv($rows[0], map { $_->[0] } @changed);

for my $dry ([], ['--dry-run']) {
    my $refusals = import_ok([ 1, 0, 0, scalar @changed ],
        "other values @$dry", "$t->{dir}/keys.csv", @$dry);

    for my $i (0 .. $#changed) {
        like($refusals->[$i]{reason}, qr/\Q$changed[$i][1]\E$/,
            "reason: $changed[$i][1]");
        is($refusals->[$i]{line}, 2 + $i, 'its line');
    }
}

is_deeply(everything(), $before, 'nothing is changed');


# limits of the environment are for rows that have none, when they are new

csv('client_id,environment,api_key,limits',
    "one-dev,dev,opaque-key-of-one,", "two-dev,dev,opaque-key-of-two,a=2r/1s");

for ([ 2, 0, '3r/1m' ], [ 0, 2, '4r/1m' ]) {
    my ($imported, $existing, $limit) = @$_;

    is(($t->rbgvctl(qw(environments --set dev --limit), "b=$limit",
                    qw(--limit default=none)))[0], 0, 'environment');
    import_ok([ 0, $imported, $existing, 0 ], "limits when it is $limit",
        "$t->{dir}/keys.csv");

    my ($one, $two) = map { stored(derive_id("opaque-key-of-$_")) } qw(one two);

    is_deeply([ map { my $key = $_; map { "$_ $key->{$_}" }
                      sort grep { /^limit/ } keys %$key } $one, $two ],
        [ 'limit:b 3r/1m', 'limit:a 2r/1s' ], 'limits');
}


# rows that are refused, each with its line; the others are imported

my $n = 0;

sub row {
    my (%value) = @_;

    %value = (client_id => 'service-dev', environment => 'dev',
              api_key => sprintf('opaque-key-%09d', ++$n), %value);

    return join ',', map { $value{$_} // '' }
                     qw(client_id environment owner note api_key sha256
                        limits credits expires_at);
}

my $damaged = make_key(id => 'B' x 12) =~ s/aaa_/aab_/r;

my @bad = (
    [ row(client_id => ''), qr/^has no client_id/ ],
    [ row(client_id => 'A'), qr/^client_id is not 2 to 63/ ],
    [ row(client_id => 'test1'), qr/^client_id does not say.*--force/ ],
    [ row(client_id => 'service-prod'), qr/^client_id is of another/ ],
    [ row(environment => ''), qr/^has no environment/ ],
    [ row(environment => 'De v'), qr/^environment is none of those/ ],
    [ row(environment => 'qa'), qr/^environment is none of those/ ],
    [ row(environment => 'dev', api_key => make_key(id => 'C' x 12)),
      qr/^environment is not the one in api_key/ ],
    [ row(owner => 'x' x 129), qr/^owner is longer than 128 bytes/ ],
    [ row(owner => "a\x{1b}b"), qr/^owner has a control character/ ],
    [ row(note => "\xff"), qr/^note is not UTF-8/ ],
    [ row(api_key => ''), qr/^has no api_key and no sha256/ ],
    [ row(sha256 => $other), qr/^has an api_key and a sha256/ ],
    [ row(api_key => '', sha256 => substr $other, 1), qr/^sha256 is not 64/ ],
    [ row(api_key => '', sha256 => 'x' x 64), qr/^sha256 is not 64/ ],
    [ row(api_key => 'x' x 15), qr/^api_key is neither/ ],
    [ row(api_key => 'x' x 257), qr/^api_key is neither/ ],
    [ row(api_key => "sixteen \xc3\xa9 letters"), qr/^api_key is neither/ ],
    [ row(api_key => 'rbgv_' . 'x' x 20), qr/^api_key is neither/ ],
    [ row(api_key => $damaged), qr/^api_key has a wrong checksum/ ],
    [ row(limits => 'default'), qr/^has a limit .* POLICY=LIMIT/ ],
    [ row(limits => 'a=1r/1s a=2r/1s'), qr/^has a limit .* already/ ],
    [ row(limits => join ' ', map { "p$_=1r/1s" } 1 .. 9),
      qr/^has a limit .* 8 limits already/ ],
    [ row(limits => 'a=' . '0' x 300), qr/^has a limit .* too long/ ],
    [ row(credits => '-1'), qr/^credits is not a number/ ],
    [ row(credits => '9007199254740992'), qr/^credits is not a number/ ],
    [ row(expires_at => '90d'), qr/^expires_at is not a time/ ],
    [ row(expires_at => '2027-02-29'), qr/^expires_at is not a time/ ],
    [ row(expires_at => '2027-01-01T00:00:00+01:00'), qr/^expires_at is/ ],
    [ row() . ',', qr/^has 10 columns, the header line has 9/ ],
    [ 'service-dev,dev', qr/^has 2 columns/ ],
    [ row(note => 'a "quote'), qr/^is not CSV: a quote is out of place/ ],
    [ row(note => "\0"), qr/^has a zero byte/ ],
    [ row(note => "\"two\nlines\""), qr/^note has a control character/ ],
);

# empty lines and carriage returns do no harm
my $text = "\xef\xbb\xbf$rows[0]\r\n\r\n";
my $line = 3;
my @lines;

for (@bad) {
    push @lines, $line;
    $text .= "$_->[0]\n";
    $line += 1 + ($_->[0] =~ tr/\n//);
}

$t->write_file('bad.csv', $text . row() . "\r\n\n  \n" . row());

for my $dry ([ '--dry-run' ], []) {
    my $refusals = import_ok([ 1, 2, 0, scalar @bad ], "bad rows @$dry",
        "$t->{dir}/bad.csv", @$dry);

    is_deeply([ map { $_->{line} } @$refusals ], \@lines, 'their lines');

    for my $i (0 .. $#bad) {
        like($refusals->[$i]{reason}, $bad[$i][1], "reason: $bad[$i][1]");
    }
}

my ($exit, $out, $err) = run("$t->{dir}/bad.csv");

is("$exit $out", "1 imported: 0, there already: 2, refused: "
    . @bad . "\n", 'in words');
is(($err =~ s/^rbgvctl: line \d+: .+\n//mgr) . (() = $err =~ /\n/g),
    scalar @bad, 'a line on standard error for each');

csv($rows[0], row(client_id => 'test1'), row(client_id => 'service-prod'));
import_ok([ 0, 2, 0, 0 ], 'names with --force', "$t->{dir}/keys.csv",
    '--force');


# a key that is twice in the file

my @twice = (row(), row(), row());

csv($rows[0], @twice, $twice[0], $twice[1] =~ s/service/search/r);

for my $dry ([ '--dry-run' ], []) {
    my $refusals = import_ok([ 1, 3, 1, 1 ], "key twice @$dry",
        "$t->{dir}/keys.csv", @$dry);

    is($refusals->[0]{line}, 6, 'the one with other values is refused');
}


# JSON lines

my $json = JSON::PP->new->canonical;
my @objects = (
    { client_id => 'mail-dev', environment => 'dev', owner => undef,
      note => "h\x{e9}", api_key => 'opaque-key-of-mail',
      limits => { default => '600r/1m', burst => '20r/1s' }, credits => 7,
      expires_at => '2100-01-01' },
    { client_id => 'mail2-dev', environment => 'dev',
      sha256 => sha256_hex('mail2'), limits => 'default=1r/1s',
      credits => '8' },
);

my @wrong = (
    [ '{"client_id": "mail-dev"', qr/^is not a JSON object/ ],
    [ '["mail-dev"]', qr/^is not a JSON object/ ],
    [ '{"client_id": "a", "client_id": "b"}', qr/^is not a JSON object/ ],
    [ '{"clientid": "mail-dev"}', qr/^has a member that is unknown/ ],
    [ '{"client_id": 5}', qr/^has a client_id of the wrong type/ ],
    [ '{"limits": {"default": 5}}', qr/^has a limits of the wrong type/ ],
    [ '{"note": "a\u0000b"}', qr/^is not a JSON object/ ],
    [ '{"note": "' . 'x' x 70_000 . '"}', qr/^is too long/ ],
);

$t->write_file('keys.jsonl', join "\n",
    $json->ascii->encode($objects[0]), '', (map { $_->[0] } @wrong),
    $json->encode($objects[1]));

my $refusals = import_ok([ 1, 2, 0, scalar @wrong ], 'JSON lines',
    "$t->{dir}/keys.jsonl");

for my $i (0 .. $#wrong) {
    like($refusals->[$i]{reason}, $wrong[$i][1], "reason: $wrong[$i][1]");
    is($refusals->[$i]{line}, 3 + $i, 'its line');
}

my $mail = stored(derive_id('opaque-key-of-mail'));

is_deeply([ @$mail{qw(name note credits expires limit:default limit:burst)} ],
    [ 'mail-dev', "h\xc3\xa9", 7, 4102444800, '600r/1m', '20r/1s' ],
    'values of JSON');
ok(!exists $mail->{owner}, 'null is no value');
is(stored(derive_id('mail2'))->{credits}, 8, 'credits as text');


# formats, standard input

my $object = $json->encode($objects[1]) . "\n";
my $table  = "sha256,environment,client_id,limits,credits\n"
             . sha256_hex('mail2') . ",dev,mail2-dev,default=1r/1s,8\n";

for ([ $object, 'JSON' ], [ $table, 'CSV' ]) {
    my ($input, $format) = @$_;

    import_ok([ 0, 0, 1, 0 ], "$format from standard input", '-',
        { stdin => $input });
    import_ok([ 0, 0, 1, 0 ], "$format without a telling name",
        $t->write_file('keys', $input));
}

import_ok([ 0, 0, 1, 0 ], '--format', $t->write_file('keys.txt', " $object"),
    '--format', 'jsonl');


# files that cannot be used

for ([ [ "$t->{dir}/none" ], 1, qr/cannot open ".*none": No such file/ ],
     [ [ $t->dir ], 1, qr/cannot read .*: Is a directory/ ],
     [ [ '/dev/null' ], 1, qr/is empty: it has no header line/ ],
     [ [ '-', { stdin => "client_id,api-key\n" } ], 1,
       qr/column 2 of the header line is unknown/ ],
     [ [ '-', { stdin => "$opaque,x\n" } ], 1,
       qr/column 1 of the header line is unknown/ ],
     [ [ '-', { stdin => "owner,owner\n" } ], 1,
       qr/column 2 of the header line is there twice/ ],
     [ [ '-', { stdin => "client_id,\"api_key\n" } ], 1,
       qr/header line is not CSV: a quote is not closed/ ],
     [ [ '-', { stdin => "$rows[0]\n" . row(note => '"') . "\n"
                         . (row() . "\n") x 2000 } ], 1,
       qr/row of line 2 has more than 65536 bytes; a quote may be missing/ ],
     [ [ '-', '--format', 'xml' ], 2, qr/--format "xml" is none of/ ],
     [ [ '-', { env => { RBGV_PEPPER_FILE => '' } } ], 2,
       qr/import needs --pepper-file/ ],
     [ [], 2, qr/import needs its FILE/ ])
{
    my ($args, $status, $reason) = @$_;
    my ($exit, undef, $err) = run(@$args);

    is($exit, $status, "status: $reason");
    like($err, $reason, "reason: $reason");
}


# interrupted and repeated: every row is whole, none is there twice

my $rows = 3000;

my $file = $t->write_file('many.csv', "$rows[0]\n" . join '',
    map { row(client_id => "many$_-dev", owner => 'many',
              limits => 'default=600r/1m') . "\n" } 1 .. $rows);

my $had = $t->redis('ZCARD', 'rbgv:keys');

for my $part (1 .. 4) {
    my $process = background($file);

    wait_for(sub { $t->redis('ZCARD', 'rbgv:keys')
                   >= $had + $part * $rows / 6
                   || !$process->alive }, 'a part of the rows');

    $process->kill if $process->alive;
}

($exit, $out) = run('--json', $file);
my $rest = decode_json($out);

is($exit, 0, 'the rest');
is($rest->{imported} + $rest->{existing}, $rows, 'all rows');
cmp_ok($rest->{existing}, '>=', $rows / 6, 'those of before are there');
is($t->redis('ZCARD', 'rbgv:keys'), $had + $rows, 'each is there once');

my @many = grep { ($_->{owner} // '') eq 'many' }
           map { stored($_) } $t->redis('ZRANGE', 'rbgv:keys', 0, -1);

is(@many, $rows, 'all are there');
is(scalar(grep { keys %$_ != 7 } @many), 0, 'and whole');


# several at once

$t->redis('FLUSHDB');
$t->rbgvctl('init', '--acl', 'none');

my @processes = map { background($file) } 1 .. 3;

is(scalar(grep { $_->wait(120) && $_->status == 0 } @processes), 3,
    'three at once');

my $sum = 0;
$sum += $_ for $t->read_file('background.log') =~ /^imported: (\d+)/mg;

is($sum, $rows, 'each row was imported by one of them');
is($t->redis('ZCARD', 'rbgv:keys'), $rows, 'each key is there once');


# A stream: memory does not grow with the file.  The last rows are still to
# come when it is measured.

my $many = $ENV{RBGV_LONG} ? 100_000 : 6_000;
my $fifo = "$t->{dir}/fifo.csv";

mkfifo($fifo, 0600) or die "$fifo: $!";

$t->redis('FLUSHDB');
$t->rbgvctl('init', '--acl', 'none');

my $process = background($fifo);

$SIG{ALRM} = sub { die "nobody reads $fifo\n" };
alarm 600;

open my $pipe, '>', $fifo or die "$fifo: $!";
$pipe->autoflush;

print $pipe "$rows[0]\n";

my $start  = time;
my $first  = feed(1000);
my $memory = feed($many - 1000);

note sprintf '%d rows in %.1f s, %d kB', $many, time - $start, $memory;

close $pipe;
alarm 0;

ok($process->wait(60), 'end of the stream');
is($process->status, 0, 'all of it is imported');

SKIP: {
    skip 'a sanitizer keeps memory', 2 if $t->slow;

    cmp_ok($memory, '<', 100_000, 'memory');
    cmp_ok($memory - $first, '<', 4_000, 'which does not grow');
}


# the peak of its memory in kB when the rows are in the store
sub feed {
    my ($n) = @_;

    my $keys = $n + $t->redis('ZCARD', 'rbgv:keys');

    print $pipe map { row() . "\n" } 1 .. $n;
    wait_for(sub { $t->redis('ZCARD', 'rbgv:keys') == $keys }, "$n rows",
             300);

    open my $status, '<', '/proc/' . $process->pid . '/status'
        or die "status: $!";

    return (grep { defined } map { /^VmHWM:\s+(\d+)/ } <$status>)[0];
}


# a terminal shows how far it is, and nothing of it stays

SKIP: {
    skip 'no script', 3 if system('script -V >/dev/null 2>&1');

    local @ENV{qw(RBGV_REDIS RBGV_PASSWORD_FILE RBGV_PEPPER_FILE)}
        = ($redis->uri('rbgv-admin'), $redis->password_file('rbgv-admin'),
           $t->pepper_file);

    my $command = "$t->{build}/rbgvctl import $file";
    my $shown = `script -qec '$command' /dev/null </dev/null`;
    my ($bar, $end) = $shown =~ /\A(.*)\r *\r([^\r]*)\r\n\z/s;

    like($bar, qr/^\r\d+ rows \[#*\.*\] +\d+%/, 'bar');
    unlike($bar, qr/\n/, 'in one line');
    is($end, "imported: $rows, there already: 0, refused: 0", 'summary');
}


# a store that takes no more

$before = everything();
$t->redis('CONFIG', 'SET', 'maxmemory', 1);

csv($rows[0], row(), row());
($exit, $out, $err) = run("$t->{dir}/keys.csv");

$t->redis('CONFIG', 'SET', 'maxmemory', 0);

is("$exit$out", 3, 'status of a full store');
like($err, qr/says "OOM .*; raise its maxmemory\nrbgvctl: 0 keys are .*again/,
    'reason of a full store');
is_deeply(everything(), $before, 'nothing is written');
import_ok([ 0, 2, 0, 0 ], 'again with room', "$t->{dir}/keys.csv");


# nothing of a key is said

my $keys = qr/opaque-key|\Q$opaque\E|rbgv_(?:prod|dev)|a{31}|$other/;

is(scalar(grep { $_ =~ $keys } @said), 0, 'no key in what rbgvctl says');

$t->done;
