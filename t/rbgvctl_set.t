#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for set of rbgvctl, for --wait, and for commands that change one key
# at the same time.

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256_hex sha256);
use Test::More;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

use Test::Rbgv;
use Test::Rbgv::Ctl;

my $t = Test::Rbgv->new;

$t->start_redis;

my $id  = $t->create_key(owner => 'platform')->{id};
my $key = "rbgv:key:{$id}";
my $max = 9007199254740991;


# wrong usage

for (
    [ [], qr/set needs something to set; see "rbgvctl set --help"/ ],
    [ [qw(--wait)], qr/set needs something to set/ ],
    [ [qw(--limit default)], qr/--limit "default": it is not of the form/ ],
    [ [qw(--limit default=)], qr/--limit "default=": it is not of the form/ ],
    [ [qw(--limit default=1r)], qr/--limit "default=1r": it is not of the/ ],
    [ [qw(--credits +)], qr/--credits "" is not a number/ ],
    [ [qw(--credits +-1)], qr/--credits "-1" is not a number/ ],
    [ [qw(--credits 1.5)], qr/--credits "1.5" is not a number/ ],
    [ [ '--credits', $max + 1 ], qr/--credits "\d+" is not a number/ ],
    [ [qw(--expires now)], qr/--expires "now" is not a time/ ],
    [ [ '--owner', 'x' x 129 ], qr/--owner is longer than 128 bytes/ ],
    [ [ '--note', "a\nb" ], qr/--note has a control character/ ],
    [ [ '--note', '', '--note', '' ], qr/--note is given twice/ ],
    [ [qw(--name Billing)], qr/--name "Billing" is not 2 to 63/ ],
) {
    my ($args, $err) = @$_;
    ctl_is($t, [ 'set', $id, @$args ], USAGE, '', $err,
        @$args ? "@$args" =~ s/\n/ /r : 'nothing');
}

ctl_is($t, [qw(set foo --note x)], USAGE, '', qr/"foo" is not the id/, 'bad id');
ctl_is($t, [ 'set', 'A' x 12, '--note', 'x' ], REFUSED, '',
    qr/there is no key AAAAAAAAAAAA/, 'unknown key');
ctl_is($t, [ 'set', 'A' x 12, '--name', 'billing-prod' ], REFUSED, '',
    qr/there is no key AAAAAAAAAAAA/, 'name of an unknown key');
is($t->redis(EXISTS => 'rbgv:key:{' . 'A' x 12 . '}'), 0, 'no key is made');

for (
    [ 'test1', qr/name "test1" does not say whose key it is.*--force/ ],
    [ 'billing-dev', qr/name "billing-dev" is of another environment/ ],
) {
    my ($name, $err) = @$_;
    ctl_is($t, [ 'set', $id, '--name', $name ], REFUSED, '', $err,
        "name $name");
}


# one field after the other

my %key = $t->redis(HGETALL => $key);

for (
    [ [qw(--owner payments)], { owner => 'payments' } ],
    [ [ '--owner', '' ], { owner => undef } ],
    [ [ '--note', 'a b' ], { note => 'a b' } ],
    [ [ '--note', '' ], { note => undef } ],
    [ [qw(--name billing-prod)], { name => 'billing-prod' } ],
    [ [qw(--name test1 --force)], { name => 'test1' } ],
    [ [qw(--limit default=600r/1m)], { 'limit:default' => '600r/1m' } ],
    [ [qw(--limit default=1r/1s --limit burst=2r/1s)],
      { 'limit:default' => '1r/1s', 'limit:burst' => '2r/1s' } ],
    [ [qw(--limit default=none)], { 'limit:default' => undef } ],
    [ [qw(--limit burst=off --limit none=none)], { 'limit:burst' => undef } ],
    [ [qw(--credits +5)], { credits => 5 } ],
    [ [qw(--credits +1000000000000000)], { credits => 1000000000000005 } ],
    [ [qw(--credits -1000000000000000)], { credits => 5 } ],
    [ [qw(--credits 7)], { credits => 7 } ],
    [ [qw(--credits -7)], { credits => 0 } ],
    [ [ '--credits', $max ], { credits => $max } ],
    [ [qw(--credits 100 --note top --owner payments --limit a=1r/1s)],
      { credits => 100, note => 'top', owner => 'payments',
        'limit:a' => '1r/1s' } ],
) {
    my ($args, $change) = @$_;

    %key = (%key, %$change);
    delete @key{ grep { !defined $key{$_} } keys %key };

    is(($t->rbgvctl('set', $id, @$args))[0], DONE, "set @$args");
    is_deeply({ $t->redis(HGETALL => $key) }, \%key, "fields: @$args");
}

my $set = ctl_json($t, 'set', $id, '--expires', '90d');
my $now = ($t->redis('TIME'))[0];

cmp_ok(abs($t->redis(HGET => $key, 'expires') - $now - 90 * 86400), '<', 3600,
    'expires');
is_deeply($set, ctl_json($t, 'show', $id), 'what show prints');
ctl_is($t, [ 'set', $id, '--expires', 'never' ], DONE,
    qr/^expires +never\n/m, '', 'expires never');
is($t->redis(HEXISTS => $key, 'expires'), 0, 'no expiry');


# what is refused changes nothing

$t->redis(HSET => "rbgv:use:{$id}", credits => 40);

for (
    [ [qw(--credits -61 --note no)], qr/key $id has spent 40 of 100 credits:/ ],
    [ [qw(--credits 39 --note no)], qr/"--credits 40" leaves it none/ ],
    [ [ '--credits', "+$max", '--note', 'no' ],
      qr/has 100 credits already, and may have $max at most/ ],
    [ [ '--note', 'no', '--credits', '+1',
        map { ('--limit', "p$_=1r/1s") } 1 .. 8 ],
      qr/key $id would have 9 limits, and may have 8; drop one/ ],
) {
    my ($args, $err) = @$_;
    my %before = $t->redis(HGETALL => $key);

    ctl_is($t, [ 'set', $id, @$args ], REFUSED, '', $err, "refused: @$args");
    is_deeply({ $t->redis(HGETALL => $key) }, \%before, 'all is as before');
}

is(ctl_json($t, 'set', $id, '--credits', '-60')->{credits}, 40,
    'what is left is taken');

# a record where more is spent than was granted can be topped up

$t->redis(HSET => "rbgv:use:{$id}", credits => 50);
is(ctl_json($t, 'set', $id, '--credits', '+5')->{credits}, 45, 'top-up');


# --wait

my $other = $t->create_key->{id};

for (
    [ 'set', $id, '--note', 'wait' ],
    [ 'disable', $id ],
    [ 'enable', $id ],
    [ 'delete', $other, '--yes' ],
) {
    my $start = clock_gettime(CLOCK_MONOTONIC);

    is(($t->rbgvctl(@$_, '--wait'))[0], DONE, "$_->[0] --wait");
    cmp_ok(clock_gettime(CLOCK_MONOTONIC) - $start, '>=', 1,
        "$_->[0] --wait: the bound");
}


# 1000 commands at one key, 8 at a time

my $made = $t->create_key(credits => 1000);
my $race = "rbgv:key:{$made->{id}}";
my $each = 125;

my @results = map { $_->() } map { start($_) } 1 .. 8;

is(scalar(map { @$_ } @results), 8 * $each, 'commands');

my (%done, %last, @unexpected, @secrets);

for my $n (0 .. $#results) {
    for (@{ $results[$n] }) {
        my ($kind, $value, $exit, $out) = @$_;

        if ($exit == REFUSED && $kind =~ /^(?:rotate|finish|cancel)$/
            && $out =~ /rotation of key \S+ is under way/)
        {
            next;
        }

        push @unexpected, "$kind: $exit $out" if $exit != DONE;

        $done{$kind} += $kind eq 'credits' ? $value : 1;
        $last{$kind}[$n] = $value;
        push @secrets, $out =~ /^API key: (\S+)/m if $kind eq 'rotate';
    }
}

is_deeply(\@unexpected, [], 'errors');

my %raced = $t->redis(HGETALL => $race);
my %count = map { $_ => $done{$_} // 0 } qw(rotate finish cancel);

is($raced{credits}, 1000 + $done{credits}, 'credits');
is_deeply({ map { s/limit://r => $raced{$_} } grep { /^limit:/ } keys %raced },
    { map { ("p$_" => $last{limit}[ $_ - 1 ] . 'r/1s') } 1 .. 8 }, 'limits');
ok((grep { $_ eq $raced{note} } @{ $last{note} }), 'note');
ok((grep { $_ eq $raced{status} } @{ $last{status} }), 'status');

note join ', ', map { "$_ $count{$_}" } sort keys %count;

cmp_ok($count{rotate}, '>', 0, 'rotations');
is($count{rotate} - $count{finish} - $count{cancel},
    exists $raced{rotation} ? 1 : 0, 'one rotation at a time');

my @digests = map { /^secret:(.*)/s } keys %raced;
my $pepper  = $t->read_file('pepper') =~ s/\n.*//rs;
my %printed = map { hmac_sha256_hex(sha256($_), $pepper) => 1 } $made->{key},
              @secrets;

is(@digests, exists $raced{rotation} ? 2 : 1, 'secrets');
is_deeply([ grep { !$printed{$_} } @digests ], [], 'all of them were printed');

$t->done;


# A shell that changes the key again and again.  The result waits for it, and
# returns kind, value, exit status and output of each command.
sub start {
    my ($n) = @_;

    srand $n;

    my @commands = map { [ command($n, $_) ] } 1 .. $each;

    my $script = join '', map {
        my ($kind, $value, @args) = @$_;
        "out=\$(\"\$0\" @args 2>&1)\nprintf '%s\\n%s\\0' \$? \"\$out\"\n";
    } @commands;

    my $redis = $t->redis_server;
    my $pid   = fork() // die "fork: $!";

    if ($pid == 0) {
        $ENV{RBGV_REDIS}         = $redis->uri('rbgv-admin');
        $ENV{RBGV_PASSWORD_FILE} = $redis->password_file('rbgv-admin');
        $ENV{RBGV_PEPPER_FILE}   = $t->pepper_file;

        open STDOUT, '>', $t->dir . "/race-$n" or POSIX::_exit(1);
        exec 'sh', '-c', $script, "$t->{build}/rbgvctl" or POSIX::_exit(127);
    }

    return sub {
        waitpid $pid, 0;

        my @answers = split /\0/, $t->read_file("race-$n");

        return [ map {
            [ @{ $commands[$_] }[0, 1], split /\n/, $answers[$_], 2 ]
        } 0 .. $#answers ];
    };
}


sub command {
    my ($n, $turn) = @_;
    my $id = $made->{id};

    # each kind at least once
    my $kind = $turn <= 4 ? $turn : 1 + int rand 7;

    return ('note', "$n-$turn", 'set', $id, '--note', "$n-$turn")
        if $kind == 1;
    return ('limit', $turn, 'set', $id, '--limit', "p$n=${turn}r/1s")
        if $kind == 2;

    if ($kind == 3) {
        my $command = (qw(disable enable))[ rand 2 ];
        return ('status', $command eq 'enable' ? 'active' : 'disabled',
                $command, $id);
    }

    return ('rotate', '', 'rotate', $id) if $kind == 5 && rand 2 < 1;

    if ($kind == 5) {
        my $end = (qw(finish cancel))[ rand 2 ];
        return ($end, '', 'rotate', $id, "--$end", '--force');
    }

    my $credits = 1 + int rand 3;
    $credits = -$credits if rand 3 < 1;
    return ('credits', $credits, 'set', $id, '--credits',
            $credits > 0 ? "+$credits" : $credits);
}
