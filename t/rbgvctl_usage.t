#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for "rbgvctl usage": what the gateway has counted, the chart of a key,
# and the busiest keys.

use strict;
use warnings;
use utf8;

use JSON::PP;
use POSIX qw(strftime);
use Test::More;
use Test::Rbgv;
use Test::Rbgv::Fleet qw(fleet_id make_fleet);

use constant DAY => 86400;

my $t    = Test::Rbgv->new;
my $json = JSON::PP->new->utf8;

binmode Test::More->builder->$_, ':utf8'
    for qw(output failure_output todo_output);

$t->start_redis;

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth on;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        location / { rbgv_auth_limit two 2r/1d; empty_gif; }
    }
}
EOC

# what the gateway counts; a refusal of a host may be told a while later

my $key = $t->create_key(name => 'search-prod', owner => 'web',
                         credits => 100);

is_deeply([ @{ usage($key->{id}) }{qw(requests refused last_used_at)} ],
    [ 0, { limited => 0, credits => 0, job => 0 }, undef ], 'not used');

is($t->get('/', key => $key->{key})->{status}, $_, "request: $_")
    for 200, 200, 429, 429;

my $usage = eval {
    wait_for(sub {
        my $usage = usage($key->{id});
        $usage->{refused}{limited} == 2 && $usage;
    }, 'refusals');
} // usage($key->{id});

is($usage->{requests}, 2, 'requests of the gateway');
is_deeply($usage->{refused}, { limited => 2, credits => 0, job => 0 },
    'refusals of the gateway');
like($usage->{last_used_at}, qr/^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$/,
    'last use');
is_deeply([ @$usage{qw(client_id key_fingerprint environment owner credits
                       credits_spent)} ],
    [ 'search-prod', $key->{id}, 'prod', 'web', 100, 0 ], 'key');
is(scalar @{ $usage->{days} }, 14, 'days');

# a past that is written by hand; once more if midnight comes in between

my ($now, $today, %said);

do {
    ($now) = $t->redis('TIME');
    $today = int $now / DAY;
    look();
} while (int(($t->redis('TIME'))[0] / DAY) != $today);

my $days = $json->decode($said{json}[1]);

is_deeply($days, {
    client_id => 'service0-prod', key_fingerprint => fleet_id(0),
    environment => 'prod', owner => 'team0', credits => 50,
    credits_spent => 8, last_used_at => '2026-01-02T03:04:05Z',
    requests => 700, refused => { limited => 100, credits => 2, job => 1 },
    days => [
        map { { date => date($_->[0]), requests => $_->[1],
                refused => { limited => $_->[2], credits => $_->[3],
                             job => $_->[4] } } }
            [ 3, 0, 0, 0, 0 ], [ 2, 200, 0, 0, 0 ], [ 1, 100, 0, 2, 1 ],
            [ 0, 400, 100, 0, 0 ]
    ],
}, 'days as json');

my $head = qr/^DAY            PASSED LIMITED CREDITS JOB\n/m;
my $rows = join '', map { sprintf "%s %6d %7d %7d %3d%s\n", @$_ }
    [ label(3), 0, 0, 0, 0, '' ],
    [ label(2), 200, 0, 0, 0, '  ' . '#' x 15 ],
    [ label(1), 100, 0, 2, 1, '  ' . '#' x 7 . 'CJ' ],
    [ label(0), 400, 100, 0, 0, '  ' . '#' x 30 . 'L' x 7 ],
    [ 'total         ', 700, 100, 2, 1, '' ];

is($said{ascii}[1], <<"EOC", 'chart');
@{[ fleet_id(0) ]} service0-prod, days of UTC

DAY            PASSED LIMITED CREDITS JOB
$rows
# let pass  L limited  C no credits  J no such job
active, last used: 2026-01-02 03:04Z, credits left: 42 of 50
EOC

my $utf8 = text('utf8');

like($utf8, qr/^\Q${\ label(2)}\E .*  █{14}▊$/m, 'eighths');
like($utf8, qr/^\Q${\ label(1)}\E .*  █{7}▒░$/m, 'causes');
like($utf8, qr/^\Q${\ label(0)}\E .*  █{30}▓{7}$/m, 'limited');
unlike($utf8, qr/\e/, 'no colours');

# the busiest

is_deeply($json->decode($said{'all json'}[1]), {
    days => 4, keys => 31, requests => 700 + 2 + sum(1 .. 29),
    refused => { limited => 102, credits => 2, job => 1 },
    top => [
        { client_id => 'service0-prod', key_fingerprint => fleet_id(0),
          environment => 'prod', owner => 'team0', requests => 700,
          refused => { limited => 100, credits => 2, job => 1 } },
        map { { client_id => "service$_-prod",
                key_fingerprint => fleet_id($_), environment => 'prod',
                owner => "team$_", requests => $_,
                refused => { limited => 0, credits => 0, job => 0 } } }
            29, 28
    ],
}, 'busiest as json');

my @table = split /\n/, text('all');

is($table[0], 'ID           NAME           ENV  OWNER  PASSED REFUSED SHARE ',
    'heading');
like($table[1], qr/^F0{11} service0-prod +prod team0 +700 +103 +64\.7% #/,
    'the busiest');
is(scalar(grep { /^F/ } @table), 20, 'top 20');
is($table[-1], '31 keys, 4 days: 1137 requests let pass, 102 limited, '
    . '2 without credits, 1 without their job', 'total');
like(text('none'), qr/^31 keys, 1 days: \d+ requests let pass/m,
    'today only');

# terminals

SKIP: {
    skip('no script', 3) if system('script -V >/dev/null 2>&1');

    my $shown = $said{terminal};

    like($shown, qr/\e\[32m#+\e\[m\e\[33mL+\e\[m\r?\n/, 'colours');
    unlike($said{'no colours'}, qr/\e/, 'NO_COLOR');
    is((sort { $b <=> $a } map { length s/\r//r } split /\n/,
        $said{'no colours'})[0], 70, 'as wide as the terminal');
}

# options

for (
    [ 2, qr/usage needs an ID or --all/ ],
    [ 2, qr/usage needs an ID or --all, and not both/, '--all', 'A' x 12 ],
    [ 2, qr/"foo" is not the id of a key/, 'foo' ],
    [ 2, qr/--top goes with --all only/, 'A' x 12, '--top', 3 ],
    [ 2, qr/--top "0" is not a number from 1 to 1000/, '--all', '--top', 0 ],
    [ 2, qr/--days "94" is not a number from 1 to 93/, '--all',
      '--days', 94 ],
    [ 2, qr/--days "x" is not a number/, '--all', '--days', 'x' ],
    [ 1, qr/there is no key AAAAAAAAAAAA in the store/, 'A' x 12 ],
) {
    my ($expected, $regex, @options) = @$_;
    my ($status, $out, $err) = $t->rbgvctl('usage', @options);

    is("$status$out", $expected, "status of @options");
    like($err, $regex, "error of @options");
}

# many

SKIP: {
    skip('long', 3) unless $ENV{RBGV_LONG};

    make_fleet($t, 100_000, sub {
        return ({}, { map { 'd:' . ($today - $_) => $_[0] } 0 .. 29 });
    });

    my $top = $json->decode(($t->rbgvctl('usage', '--all', '--json',
                                         '--days', 20, '--top', 1000))[1]);

    is($top->{keys}, 100_001, 'all of many');
    is(scalar @{ $top->{top} }, 1000, 'top of many');
    is($top->{top}[999]{key_fingerprint}, fleet_id(99_000), 'last of them');
}

$t->done;


sub look {
    make_fleet($t, 30, sub {
        my ($n) = @_;

        return ({}, { day(0, d => $n) }) if $n != 0;
        return ({ credits => 50 }, {
            last => 1767323045, credits => 8, "w:two:86400" => "\0" x 16,
            day(0, d => 400), day(0, r => 100, ':limited'),
            day(1, d => 100), day(1, r => 2, ':credits'),
            day(1, r => 1, ':job'), day(1, r => 7, ':other'),
            day(2, d => 200), day(4, d => 9000), day(200, d => 9000),
            day(-1, d => 9000),
        });
    });

    my @usage = ('usage', fleet_id(0), '--days', 4);
    my @all   = ('usage', '--all', '--days', 4);

    $said{json}       = [ $t->rbgvctl(@usage, '--json') ];
    $said{ascii}      = [ $t->rbgvctl(@usage, { env => { LC_ALL => 'C' } }) ];
    $said{utf8}       = [ $t->rbgvctl(@usage,
                              { env => { LC_ALL => 'C.UTF-8' } }) ];
    $said{all}        = [ $t->rbgvctl(@all, { env => { LC_ALL => 'C' } }) ];
    $said{'all json'} = [ $t->rbgvctl(@all, '--top', 3, '--json') ];
    $said{none}       = [ $t->rbgvctl('usage', '--all', '--days', 1) ];

    $said{terminal}     = terminal("@usage");
    $said{'no colours'} = terminal("@usage", NO_COLOR => 1);
}


# a counter of so many days ago
sub day {
    my ($ago, $kind, $n, $cause) = @_;

    return ("$kind:" . ($today - $ago) . ($cause // '') => $n);
}


sub usage {
    my ($id) = @_;

    return $json->decode(($t->rbgvctl('usage', $id, '--json'))[1]);
}


# what was said to people
sub text {
    my ($name) = @_;

    utf8::decode(my $text = $said{$name}[1]);
    return $text;
}


# what a terminal of 70 columns shows
sub terminal {
    my ($args, %env) = @_;

    local @ENV{ qw(TERM LC_ALL PAGER), keys %env } =
        ('xterm', 'C', 'cat', values %env);

    my $command = ($ENV{RBGV_BUILD} // 'build') . "/rbgvctl $args --redis "
        . $t->redis_server->uri;

    return `script -qec 'stty cols 70; $command' /dev/null </dev/null`;
}


sub date  { return strftime('%Y-%m-%d', gmtime(($today - $_[0]) * DAY)) }
sub label { return strftime('%Y-%m-%d %a', gmtime(($today - $_[0]) * DAY)) }


sub sum {
    my $sum = 0;
    $sum += $_ for @_;
    return $sum;
}
