#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for environments of rbgvctl, and for what create makes of them.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;
use Test::Rbgv::Ctl;

my $t = Test::Rbgv->new;

$t->start_redis;

my @first = (
    { environment => 'dev', rotation_seconds => undef,
      limits => { default => '60r/1m' } },
    { environment => 'prod', rotation_seconds => 90 * 86400, limits => {} },
    { environment => 'staging', rotation_seconds => 180 * 86400,
      limits => {} },
);


# what init writes

is_deeply([ sort $t->redis(SMEMBERS => 'rbgv:environments') ],
    [qw(dev prod staging)], 'names');
is_deeply({ $t->redis(HGETALL => 'rbgv:environment:dev') },
    { rotation => 0, 'limit:default' => '60r/1m' }, 'dev');
is_deeply({ $t->redis(HGETALL => 'rbgv:environment:prod') },
    { rotation => 7776000 }, 'prod');
is_deeply(ctl_json($t, 'environments'), \@first, 'as json');

ctl_is($t, ['environments'], DONE, <<'END', '', 'as a table');
NAME    ROTATION LIMITS OF NEW KEYS
dev     -        default=60r/1m
prod    90d      -
staging 180d     -
END


# wrong usage

for (
    [ [qw(--set Qa)], qr/--set "Qa" is not a lower case letter/ ],
    [ [qw(--remove 1a)], qr/--remove "1a" is not a lower case letter/ ],
    [ [qw(--set qa --remove qa)], qr/give one of them/ ],
    [ [qw(--rotation 1d)], qr/--rotation needs the environment: give --set/ ],
    [ [qw(--limit a=1r/1s)], qr/--limit needs the environment: give --set/ ],
    [ [qw(--set qa --rotation never)],
      qr/--rotation "never" is not a time, .* or "off"/ ],
    [ [qw(--set qa --rotation 0)], qr/--rotation "0" is not a time/ ],
    [ [qw(--set qa --limit a)], qr/--limit "a": it is not of the form/ ],
    [ [qw(--set qa --limit a=0r/1s)], qr/--limit "a=0r\/1s": its quota/ ],
    [ [qw(--set qa --limit a=1r/1s --limit a=none)],
      qr/--limit "a=none": there is a limit of this policy already/ ],
) {
    my ($args, $err) = @$_;
    ctl_is($t, [ 'environments', @$args ], USAGE, '', $err, "@$args");
}

is_deeply(ctl_json($t, 'environments'), \@first, 'nothing is changed');


# to add, change and remove

my %qa = (environment => 'qa', rotation_seconds => undef, limits => {});

for (
    [ [], {} ],
    [ [qw(--rotation 1d12h)], { rotation_seconds => 129600 } ],
    [ [qw(--limit a=1r/1s --limit b=2r/1d)],
      { limits => { a => '1r/1s', b => '2r/1d' } } ],
    [ [qw(--limit a=3r/1s --limit none=1r/1s)],
      { limits => { a => '3r/1s', b => '2r/1d', none => '1r/1s' } } ],
    [ [qw(--limit a=none --limit b=off --limit c=none --rotation off)],
      { limits => { none => '1r/1s' }, rotation_seconds => undef } ],
) {
    my ($args, $change) = @$_;

    %qa = (%qa, %$change);

    my ($set) = grep { $_->{environment} eq 'qa' }
                @{ ctl_json($t, 'environments', '--set', 'qa', @$args) };

    is_deeply($set, \%qa, "qa: @$args");
}

$t->rbgvctl('environments', '--set', 'qa', '--rotation', '1d12h');
ctl_is($t, ['environments'], DONE, qr/^qa +1d12h +none=1r\/1s$/m, '', 'table');

ctl_is($t, [ 'environments', '--set', 'qa', map { ('--limit', "p$_=1r/1s") }
             1 .. 8 ], REFUSED, '',
    qr/environment "qa" would have 9 limits, and may have 8; drop one/,
    'too many limits');
is_deeply({ $t->redis(HGETALL => 'rbgv:environment:qa') },
    { rotation => 129600, 'limit:none' => '1r/1s' }, 'none of them is set');

ctl_is($t, [ 'environments', '--remove', 'qa' ], DONE, qr/^(?!.*^qa)/ms, '',
    'remove');
is($t->redis(EXISTS => 'rbgv:environment:qa'), 0, 'it is gone');
ctl_is($t, [ 'environments', '--remove', 'qa' ], REFUSED, '',
    qr/there is no environment "qa"; "rbgvctl environments" shows all/,
    'remove again');


# what was changed is not written again

$t->rbgvctl('environments', '--remove', 'staging');
$t->rbgvctl('environments', '--set', 'dev', '--limit', 'default=none',
            '--rotation', '1d');
is(($t->rbgvctl('init', '--acl', 'none'))[0], DONE, 'init again');
is_deeply(ctl_json($t, 'environments'),
    [ { %{ $first[0] }, rotation_seconds => 86400, limits => {} },
      $first[1] ], 'what exists is kept');

$t->rbgvctl('environments', '--remove', 'prod');
ctl_is($t, [ 'environments', '--remove', 'dev' ], REFUSED, '',
    qr/environment "dev" is the last one; add another before/, 'the last one');


# create: in a store with these, and in one of a time before them

for my $store ('new', 'old') {
    $t->redis(DEL => 'rbgv:environments',
              map { "rbgv:environment:$_" } qw(dev prod staging qa));
    $t->rbgvctl('init', '--acl', 'none') if $store eq 'new';

    is_deeply(ctl_json($t, 'environments'), \@first, "$store store");

    ctl_is($t, [qw(create --name billing-qa --environment qa)], REFUSED, '',
        qr/no environment "qa"; .*"rbgvctl environments --set qa" adds it/,
        "$store store: unknown environment");

    is_deeply(limits(qw(--name billing-dev --environment dev)),
        { default => '60r/1m' }, "$store store: limits of dev");
    is_deeply(limits(qw(--name billing-dev --environment dev
                        --limit burst=5r/1s)),
        { burst => '5r/1s' }, "$store store: other limits");
    is_deeply(limits(qw(--name billing-prod --environment prod)), {},
        "$store store: limits of prod");
    is($t->redis(EXISTS => 'rbgv:environments'), $store eq 'new' ? 1 : 0,
        "$store store: create writes no environments");
}

is(@{ ctl_json($t, qw(environments --set qa --limit a=1r/1s)) }, 4,
    'old store: one is added to those that counted');
is_deeply(limits(qw(--name billing-qa --environment qa)), { a => '1r/1s' },
    'limits of the new one');

$t->redis(DEL => 'rbgv:environments');
is(@{ ctl_json($t, qw(environments --remove staging)) }, 2,
    'old store: one of three is removed');


# what others wrote

$t->redis(HSET => 'rbgv:environment:dev', 'limit:default', '60/m');
$t->redis(SADD => 'rbgv:environments', 'No Name');

ctl_is($t, [qw(create --name billing-dev --environment dev)], REFUSED, '',
    qr/limit "default=60\/m" of environment "dev" .* not valid: .*--set dev/,
    'bad limit');
ctl_is($t, [qw(environments --set dev --limit default=1r/1s)], DONE,
    qr/^(?!.*No Name).*^dev +- +default=1r\/1s$/ms, '', 'repaired');


# many at once

my @pids = map {
    my $n = $_;
    my $pid = fork() // die "fork: $!";

    if ($pid == 0) {
        my $failed = 0;
        $failed |= ($t->rbgvctl('environments', '--set', 'qa', '--limit',
                                "p$n=${_}r/1s"))[0] for 1 .. 5;
        POSIX::_exit($failed);
    }

    $pid;
} 1 .. 7;

is(scalar(grep { waitpid($_, 0); $? } @pids), 0, 'all at once');
is_deeply({ $t->redis(HGETALL => 'rbgv:environment:qa') },
    { 'limit:a' => '1r/1s', map { ("limit:p$_" => '5r/1s') } 1 .. 7 },
    'no change is lost');

$t->done;


sub limits {
    return ctl_json($t, 'create', @_)->{limits};
}
