#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Made-up keys, imported, with the counters of a month; and the pictures of
# them in docs/.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use JSON::PP;
use Test::More;

use Test::Rbgv;
use Test::Rbgv::Console qw(missing_tools run_script start_console);

use constant DAY => 86400;

my @SERVICES = qw(checkout billing search mobile-ios mobile-android reports
                  partner-acme webhooks studio batch-export ingest thumbnails
                  partner-globex previews);
my @OWNERS = qw(payments payments platform mobile mobile data partners
                platform studio data platform studio partners studio);

my $t = Test::Rbgv->new;

if (my $missing = missing_tools($t)) {
    BAIL_OUT($missing);
}

srand 5;

$t->start_redis;

my $now   = ($t->redis('TIME'))[0];
my $today = int $now / DAY;
my @keys  = map { made_up($_) } 0 .. 41;

import_keys();

my (undef, $list) = $t->rbgvctl('list', '--json');
my %id = map { $_->{client_id} => $_->{key_fingerprint} }
             @{ decode_json($list) };

remember($_, $id{ $_->{name} }) for @keys;
rotate('mobile-ios-prod');
$t->rbgvctl('set', $id{'mobile-ios-prod'}, '--note', 'version 4 and later',
            '--limit', 'default=2400r/1m');
start_console($t);

my $status = run_script($t, 'screenshots.mjs', {
    docs => $t->root . '/docs', id => $id{'mobile-ios-prod'},
}, sub { diag(@_) });

is($status, 0, 'pictures');
$t->done;


# a key with a life: how much it is used, and since when
sub made_up {
    my ($n) = @_;

    my $service     = $SERVICES[ $n % @SERVICES ];
    my $environment = (qw(prod staging dev))[ $n / @SERVICES ];
    my $level       = exp(4 + rand 5) / (1 + 3 * ($environment ne 'prod'));
    my $age         = $environment eq 'dev' ? 20 + rand 300 : 42 + rand 46;

    my %key = (
        name        => "$service-$environment",
        environment => $environment,
        owner       => $n % 13 == 12 ? '' : $OWNERS[ $n % @SERVICES ],
        note        => $n % 4 ? '' : 'OPS-' . (2100 + 7 * $n),
        limits      => $environment eq 'dev' ? '' : (
            'default=600r/1m', 'default=1200r/1m burst=40r/1s')[ $n % 3 == 0 ],
        credits     => $n % 5 == 1 ? 250_000 : '',
        age         => int $age * DAY,
        limited     => $n % 6 == 2 || $n == 3 ? 0.06 : 0,
        last        => int rand 7200,
        level       => $level,
    );

    $key{age} = 118 * DAY if $n == 5 || $n == 8;
    $key{quiet} = 16 if $n == 9 || $n == 30;
    $key{level} = 0 if $n == 26 || $n == 33;
    $key{spike} = 20 if $n == 6;
    $key{spent} = 0.97 if $n == 1;

    return \%key;
}


sub import_keys {
    my @columns = qw(name environment sha256 owner note limits credits);
    my $csv = join ',', 'client_id', @columns[1 .. $#columns];

    for my $key (@keys) {
        local $key->{sha256} = sha256_hex("made up $key->{name}");
        $csv .= "\n" . join ',', @{$key}{@columns};
    }

    my ($exit, $out, $err) = $t->rbgvctl('import', '--format', 'csv', '-',
                                         { stdin => "$csv\n" });
    die "rbgvctl import: $out$err" if $exit;
}


# what would be in the store had the key been used
sub remember {
    my ($key, $id) = @_;

    my $created = $now - $key->{age};
    my %record  = $t->redis('HGETALL', "rbgv:key:{$id}");
    my ($secret) = grep { /^secret:/ } keys %record;
    my %use;

    for my $ago ($key->{quiet} // 0 .. 40) {
        last if $ago * DAY > $key->{age} || !$key->{level};

        my $weekend = ($today - $ago + 4) % 7 % 6 == 0;
        my $n = $key->{level} * (0.8 + rand 0.4) * ($weekend ? 0.4 : 1)
                * (1 + 0.012 * (40 - $ago));

        $n *= $key->{spike} // 1 if $ago == 1;
        $n *= $now % DAY / DAY if $ago == 0;

        $use{ 'd:' . ($today - $ago) } = int $n;
        $use{ 'r:' . ($today - $ago) . ':limited' } =
            int $n * $key->{limited} * rand 2 if $key->{limited};
        $use{ 'r:' . ($today - $ago) . ':job' } = int $n * 0.02
            if $key->{limited};
    }

    if (%use) {
        $use{last} = $now - $key->{last} - ($key->{quiet} // 0) * DAY;
        $use{credits} = int $key->{credits} * ($key->{spent} // rand 0.8)
            if $key->{credits};
        $t->redis('HSET', "rbgv:use:{$id}", %use);
    }

    $t->redis('HSET', "rbgv:key:{$id}", created => $created,
              $secret => "active $created 0");
    $t->redis('ZADD', 'rbgv:keys', $created, $id);
}


# a rotation that began a day and a half ago
sub rotate {
    my ($name) = @_;

    my $id     = $id{$name};
    my $began  = $now - 36 * 3600;
    my %record = $t->redis('HGETALL', "rbgv:key:{$id}");
    my ($old)  = map { substr $_, 7, 16 } grep { /^secret:/ } keys %record;
    my $fresh  = sha256_hex('another secret');
    my $new    = substr $fresh, 0, 16;
    my (%use, %uses);

    for my $hour (0 .. 35) {
        my $at = int(($began + 3600 * $hour) / 3600);
        my ($left, $came) = ($hour < 15 ? 1 - $hour / 15 : 0,
                             $hour > 3 ? $hour / 18 : 0);

        $came = 1 if $came > 1;
        $uses{$old} += $use{"u:$at:$old"} = int $left * (120 + rand 30);
        $uses{$new} += $use{"u:$at:$new"} = int $came * (120 + rand 30);
    }

    $t->redis('HSET', "rbgv:use:{$id}", %use, "t:$old" => $began + 15 * 3600,
              "t:$new" => $now - 20, "s:$old" => 80_000 + $uses{$old},
              "s:$new" => $uses{$new}, last => $now - 20);
    $t->redis('HSET', "rbgv:key:{$id}", rotation => $began,
              "secret:$fresh" => "active $began 0");
}
