#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for "rbgvctl review" and "rbgvctl list": what is found and what is not,
# for people and for programs.  With RBGV_LONG, 100,000 keys in bounded memory.

use strict;
use warnings;

use JSON::PP;
use POSIX qw(strftime);
use Test::More;
use Test::Rbgv;
use Test::Rbgv::Fleet qw(fleet_id make_fleet);
use Time::HiRes qw(time);

use constant DAY => 86400;

my $t = Test::Rbgv->new;

$t->start_redis;

my $json = JSON::PP->new->utf8;
my ($now, $today, @keys, %said);

# once more if midnight comes in between, because it moves all days
do {
    ($now) = $t->redis('TIME');
    $today = int $now / DAY;
    look();
} while (int(($t->redis('TIME'))[0] / DAY) != $today);


sub look {

# name of the test, fields of the key, fields of its counters, findings
@keys = (
    [ 'nothing', {}, used() ],
    [ 'new and not used', { created => $now - 6 * DAY }, {} ],
    [ 'never used', { created => $now - 8 * DAY }, {}, 'never_used' ],
    [ 'counters ended', { created => $now - 120 * DAY, environment => 'qa',
                          name => 'service-qa' }, {}, 'inactive' ],
    [ 'inactive', {}, used(last => $now - 8 * DAY), 'inactive' ],
    [ 'used of late', {}, used(last => $now - 6 * DAY) ],

    [ 'rotation overdue', { created => $now - 91 * DAY }, used(),
        'rotation_overdue' ],
    [ 'rotation not yet due', { created => $now - 89 * DAY }, used() ],
    [ 'rotated', { created => $now - 200 * DAY,
                   secret('a') => 'active ' . ($now - DAY) . ' 0' }, used() ],
    [ 'rotation of staging', { created => $now - 181 * DAY,
          environment => 'staging', name => 'service-staging' }, used(),
        'rotation_overdue' ],
    [ 'no rotation of dev', { created => $now - 1000 * DAY,
          environment => 'dev', name => 'service-dev' }, used() ],
    [ 'window of an environment', { created => $now - 11 * DAY,
          environment => 'short', name => 'service-short' }, used(),
        'rotation_overdue' ],
    [ 'environment without a window', { created => $now - 1000 * DAY,
          environment => 'none', name => 'service-none' }, used() ],

    [ 'rotation for long', { rotation => $now - 8 * DAY }, used(),
        'rotation_unfinished' ],
    [ 'rotation begun', { rotation => $now - 6 * DAY }, used() ],
    [ 'two secrets for long', { map { secret($_) => 'active '
          . ($now - 8 * DAY) . ' 0' } qw(a b) }, used(),
        'rotation_unfinished' ],
    [ 'old secret ended', { secret('a') => 'active ' . ($now - 8 * DAY)
          . ' 0', secret('b') => 'active ' . ($now - 30 * DAY) . ' '
          . ($now - DAY) }, used() ],

    [ 'expires soon', { expires => $now + 13 * DAY }, used(),
        'expires_soon' ],
    [ 'expires later', { expires => $now + 15 * DAY }, used() ],
    [ 'expired', { expires => $now - DAY, created => $now - 200 * DAY,
                   credits => 1 }, { credits => 1 }, 'expired' ],

    [ 'no owner', { owner => undef }, used(), 'no_owner' ],
    [ 'name without environment', { name => 'service' }, used(),
        'bad_name' ],
    [ 'generic name', { name => 'test1' }, used(), 'bad_name' ],
    [ 'name of another environment', { name => 'billing-dev' }, used(),
        'bad_name' ],
    [ 'malformed name', { name => "A\e[31m\xff" }, used(), 'bad_name' ],

    [ 'credits low', { credits => 100 }, used(credits => 91),
        'credits_low' ],
    [ 'credits left', { credits => 100 }, used(credits => 90) ],
    [ 'no credits', { credits => 0 }, used(), 'credits_low' ],

    [ 'disabled', { status => 'disabled', owner => undef, name => 'test1' },
        {} ],
    [ 'two at once', { owner => undef, name => 'test1' }, used(),
        'no_owner bad_name' ],

    # yesterday, which is a whole day
    [ 'spike', {}, used(days(1 => 4000, map { $_ => 1000 } 2 .. 40)),
        'traffic_spike' ],
    [ 'below 3 times', {},
        used(days(1 => 2900, map { $_ => 1000 } 2 .. 40)) ],
    [ 'refused requests', {},
        used(days(map { $_ => 1000 } 1 .. 40),
             'r:' . ($today - 1) . ':limited' => 3000), 'traffic_spike' ],
    [ 'small numbers', {},
        used(days(1 => 90, map { $_ => 2 } 2 .. 40)) ],
    [ 'few days', {},
        used(days(1 => 90_000, map { $_ => 10 } 2 .. 8)) ],
    [ 'enough days', {},
        used(days(1 => 90_000, map { $_ => 10 } 2 .. 9)), 'traffic_spike' ],
    [ 'first use', { created => $now - 30 * DAY },
        used(days(1 => 90_000)) ],
    [ 'after a pause', {}, used(days(1 => 500, 60 => 9000, 59 => 9000)),
        'traffic_spike' ],
    [ 'one spike before', {},
        used(days(12 => 50_000, 1 => 50_000,
                  map { $_ => 1000 } 2 .. 11, 13 .. 40)), 'traffic_spike' ],
    [ 'weekly job', {},
        used(days(map { $_ => $_ % 7 == 1 ? 10_000 : 3 } 1 .. 60)) ],
    [ 'no work at weekends', {},
        used(days(map { $_ => $_ % 7 < 2 ? 0 : 1000 } 1 .. 60)) ],
    [ 'wild days', {},
        used(days(map { $_ => ($_ * 7919) % 5000 } 1 .. 60)) ],
    [ 'eight days ago', {},
        used(days(8 => 50_000, map { $_ => 1000 } 1 .. 7, 9 .. 60)) ],

    # today, at whatever time the test runs
    [ 'spike of today', {},
        used(days(0 => 5000, map { $_ => 1000 } 1 .. 40)),
        'traffic_spike' ],
    [ 'all of a day early', {},
        used(days(0 => 1400, map { $_ => 1000 } 1 .. 40)) ],
);

make_fleet($t, scalar @keys, sub { @{ $keys[ $_[0] ] }[1, 2] });

$t->rbgvctl('environments', '--set', 'short', '--rotation', '10d');
$t->rbgvctl('environments', '--set', 'none', '--rotation', 'off');

for my $options (
    '',
    '--environment short',
    '--only expired --only no_owner',
    '--only inactive --inactive 9d',
    '--only traffic_spike --days 0',
    '--only traffic_spike --days 8',
) {
    $said{$options} = [ $t->rbgvctl('review', '--json', split / /, $options) ];
}

$said{people} = [ $t->rbgvctl('review', { env => { LC_ALL => 'C.UTF-8' } }) ];

}

my ($status, $out, $err) = @{ $said{''} };

is("$status$err", 1, 'exit status of findings');

my %found = map { $_->{key_fingerprint} => $_ } @{ $json->decode($out) };
my $all = 0;

for my $i (0 .. $#keys) {
    my ($name, undef, undef, $expected) = @{ $keys[$i] };
    my @findings = @{ ($found{ fleet_id($i) } // {})->{findings} // [] };

    is(join(' ', map { $_->{finding} } @findings), $expected // '',
        $name) or diag(explain(\@findings));

    $all += @findings;
}

is_deeply([ map { delete $_->{detail}; $_ } @{ of('spike')->{findings} } ],
    [ { finding => 'traffic_spike', severity => 'high', requests => 4000,
        usual => 1000, score => 94, at => midnight($today - 1) } ],
    'fields of a spike');

is_deeply(of('credits low'), {
    client_id => 'service' . number('credits low') . '-prod',
    key_fingerprint => fleet_id(number('credits low')),
    environment => 'prod', owner => 'team' . number('credits low'),
    status => 'active', findings => [ { finding => 'credits_low',
        severity => 'high', at => undef, detail => '9 of 100 left',
        credits_left => 9, credits => 100 } ] }, 'fields of a key');

like(of('inactive')->{findings}[0]{detail}, qr/^last used 8 days ago$/,
    'detail');
like(of('malformed name')->{client_id}, qr/^A\e\[31m\?$/, 'name in json');

# for people

($status, $out, $err) = @{ $said{people} };

is("$status$err", 1, 'exit status');
like($out, qr/^\Q@{[ fleet_id(number('two at once')) ]}\E  test1  prod  -
  medium  no owner             nobody to ask
  low     bad name             does not say whose key it is

/m, 'key with findings');
like($out, qr/^@{[ scalar keys %found ]} of @{[ @keys - 1 ]} keys: /m,
    'total');
is(scalar(() = $out =~ /^  (?:high|medium|low) /mg), $all, 'findings');
unlike($out, qr/[^\n -~]/, 'no escape');

# options

is_deeply([ findings('--environment short') ], [ 'rotation_overdue' ],
    'environment');
is_deeply([ findings('--only expired --only no_owner') ],
    [ qw(expired no_owner no_owner) ], 'only some');
is_deeply([ findings('--only inactive --inactive 9d') ], [ 'inactive' ],
    'longer inactive');
is_deeply([ findings('--only traffic_spike --days 0') ],
    [ 'traffic_spike' ], 'spikes of today only');
is(findings('--only traffic_spike --days 8'),
    findings('') + grep({ $_->[0] eq 'eight days ago' } @keys)
    - grep({ $_ ne 'traffic_spike' } findings('')), 'more days');

is_deeply([ $t->rbgvctl('review', '--environment', 'other') ], [ 0, '', '' ],
    'nothing found');
is_deeply([ $t->rbgvctl('review', '--environment', 'other', '--json') ],
    [ 0, "[]\n", '' ], 'nothing found as json');

for (
    [ qr/--inactive "soon" is not a time/, '--inactive', 'soon' ],
    [ qr/--inactive "0" is not a time/, '--inactive', '0' ],
    [ qr/--environment "X" is not/, '--environment', 'X' ],
    [ qr/--days "29" is not a number from 0 to 28/, '--days', '29' ],
    [ qr/--only "foo" is no finding/, '--only', 'foo' ],
) {
    my ($regex, @options) = @$_;

    ($status, $out, $err) = $t->rbgvctl('review', @options);
    is("$status$out", 2, "status of @options");
    like($err, $regex, "error of @options");
}

# list: which keys, and in which order

my $prod = grep { ($_->[1]{environment} // 'prod') eq 'prod' } @keys;

is(scalar(list('--environment', 'prod')), $prod, 'list of an environment');
is(scalar(list('--owner', 'team7')), 1, 'list of an owner');
is(scalar(list('--status', 'disabled')), 1, 'list of disabled keys');
is(scalar(list('--status', 'expired')), 1, 'list of expired keys');
is(scalar(list('--status', 'active')), @keys - 2, 'list of active keys');
is(scalar(list('--name', 'service-*')), 5, 'list of names');
is(scalar(list('--name', 'service-*', '--environment', 'dev')), 1,
    'list of both');
is(scalar(list('--name', 'service')), 1, 'list of a name');

for (
    [ 'created', sub { $_[0]{created_at} } ],
    [ 'name', sub { $_[0]{client_id} } ],
    [ 'owner', sub { $_[0]{owner} // '' } ],
    [ 'last-used', sub { $_[0]{last_used_at} // '' } ],
    [ 'requests', sub { sprintf '%12d', $_[0]{requests_7d} } ],
) {
    my ($order, $value) = @$_;
    my @names = ('--name', '[a-z]*');

    my @got = list('--sort', $order, @names);
    is_deeply([ map { $value->($_) } @got ],
        [ sort map { $value->($_) } @got ], "sorted by $order");

    is_deeply([ list('--sort', $order, '--reverse', @names) ],
        [ reverse @got ], "reversed by $order");
}

is_deeply([ map { $_->{key_fingerprint} } list('--sort', 'created') ],
    [ map { $_->{key_fingerprint} } list() ], 'order of the index');

for (
    [ qr/--sort "foo" is none of/, '--sort', 'foo' ],
    [ qr/--status "foo" is none of/, '--status', 'foo' ],
) {
    my ($regex, @options) = @$_;

    ($status, $out, $err) = $t->rbgvctl('list', @options);
    is("$status$out", 2, "status of @options");
    like($err, $regex, "error of @options");
}

# more rows than are printed at once: they are aligned, under one heading

my $many = $ENV{RBGV_LONG} ? 100_000 : 2500;

$t->redis('FLUSHDB');
$t->redis(HSET => 'rbgv:meta', schema => 1);

make_fleet($t, $many, sub {
    my ($n) = @_;

    return ({ created => $now - 40 * DAY - $n % 60,
              name => ('x' x ($n % 20)) . "service$n-prod",
              $n % 500 ? () : (owner => undef) },
            { last => $now, days(0 => $n % 7 ? 1 : 30_000,
                                 map { $_ => 900 + $n % 200 } 1 .. 30) });
});

($status, $out, $err) = $t->rbgvctl('list');

my @rows = split /\n/, $out;

is("$status$err", 0, 'list of many');
is(scalar @rows, $many + 1, 'rows');
is(scalar(grep { /^ID / } @rows), 1, 'one heading');
is(keys %{{ map { substr($_, 0, 12) => 1 } @rows }}, $many + 1,
    'every key once');

my %ends = map { (length($_), 1) } @rows[-500 .. -1];
is(keys %ends, 1, 'rows are aligned');

my @sorted = map { substr $_, 0, 12 } (split /\n/,
    ($t->rbgvctl('list', '--sort', 'created'))[1])[1 .. $many];
is_deeply(\@sorted, [ map { substr $_, 0, 12 } @rows[1 .. $many] ],
    'order of many');

# spikes depend on the time of day: those of today are 30 usual days
($status, $out, $err) = $t->rbgvctl('review', '--json');

is("$status$err", 1, 'review of many');

my %count;
$count{ $_->{finding} }++ for map { @{ $_->{findings} } }
                              @{ $json->decode($out) };

is_deeply(\%count, { no_owner => int(($many + 499) / 500),
                     traffic_spike => int(($many + 6) / 7) },
    'findings of many');

# a pager, and a reader who has seen enough

SKIP: {
    skip('no script', 5) if system('script -V >/dev/null 2>&1');

    like(terminal('list', PAGER => 'head -n 1'), qr/\AID +NAME[^\n]*\n\z/,
        'pager');
    like(terminal('list', PAGER => 'head -n 1', TERM => 'dumb'),
        qr/\n.*\n/, 'no pager on a dumb terminal');
    like(terminal('review --environment other', PAGER => 'false'),
        qr/\Anothing found in 0 keys\r?\n\z/, 'nothing found on a terminal');
    like(terminal('review --only no_owner', PAGER => 'head -n 2'),
        qr/\A\e\[1mF\d{11}\e\[m .*\r?\n  \e\[33mmedium\e\[m  no owner/,
        'colours in a pager');
    unlike(terminal('review --only no_owner', PAGER => 'cat',
                    NO_COLOR => 1), qr/\e/, 'no colours');
}

# the memory of all that a process maps; AddressSanitizer maps a lot more

SKIP: {
    skip('long', 4) unless $ENV{RBGV_LONG};
    skip('with AddressSanitizer', 4) if $t->slow;

    my $spikes = int(($many + 6) / 7);

    for ([ 'list', $many + 1 ], [ 'list --sort name', $many + 1 ],
         [ 'list --json', $many + 2 ],
         [ 'review --only traffic_spike', 3 * $spikes + 1 ])
    {
        my ($args, $lines) = @$_;

        my $start   = time;
        my $command = command($args);
        my @out     = `ulimit -v 100000; $command`;

        is(scalar @out, $lines, "$args within 100 MB");
        note(sprintf '%s: %.1f s', $args, time - $start);
    }
}

$t->done;


# fields of counters of a key that was used just now
sub used { return { last => $now, @_ } }


# days(AGO => REQUESTS, ...) -> fields of counters
sub days {
    my (%days) = @_;

    return map { 'd:' . ($today - $_) => $days{$_} } keys %days;
}


# name of the field of a secret
sub secret { return 'secret:' . $_[0] x 64 }


sub midnight {
    my ($day) = @_;

    return strftime('%Y-%m-%dT%H:%M:%SZ', gmtime $day * DAY);
}


# of the key of that test
sub number {
    my ($name) = @_;

    return (grep { $keys[$_][0] eq $name } 0 .. $#keys)[0];
}


sub of { return $found{ fleet_id(number($_[0])) } }


# in the review with these options, sorted; how many in a scalar context
sub findings {
    my ($options) = @_;

    my @findings = sort map { $_->{finding} } map { @{ $_->{findings} } }
                   @{ $json->decode($said{$options}[1]) };

    return @findings;
}


sub list {
    my (@options) = @_;

    my ($status, $out, $err) = $t->rbgvctl('list', '--json', @options);
    my @list = @{ $json->decode($out) };

    return @list;
}


# rbgvctl as a command of the shell
sub command {
    my ($args) = @_;

    return ($ENV{RBGV_BUILD} // 'build') . "/rbgvctl $args --redis "
        . $t->redis_server->uri;
}


# what a terminal shows
sub terminal {
    my ($args, %env) = @_;

    local @ENV{ 'TERM', 'LC_ALL', keys %env } =
        ('xterm', 'C.UTF-8', values %env);

    return `script -qec '@{[ command($args) ]}' /dev/null </dev/null`;
}
