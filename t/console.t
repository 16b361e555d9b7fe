#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for the page of console/, in Chromium: the life of a key, injection,
# keyboard, screen reader, themes, narrow screens, ten thousand keys.

use strict;
use warnings;

use JSON::PP;
use Test::More;

use Test::Rbgv;
use Test::Rbgv::Console qw(missing_tools run_script start_console);
use Test::Rbgv::Fleet qw(fleet_id make_fleet);

use constant DAY => 86400;
use constant MANY => 10_000;

my $t = Test::Rbgv->new;

if (my $missing = missing_tools($t)) {
    plan skip_all => $missing;
}

$t->start_redis;

my $now   = ($t->redis('TIME'))[0];
my $today = int $now / DAY;
my $note  = '"><script>alert(1)</script><img src=x onerror=alert(2)>';

# fields of the key, and of its counters
my @keys = (
    [ { name => 'billing-prod' }, used() ],
    [ { name => "<img src=x onerror=alert(1)>'-prod", note => $note },
      used() ],
    [ { name => 'spiky-prod' }, used("d:@{[ $today - 1 ]}" => 4000) ],
    [ { name => 'refused-prod' },
      used("r:@{[ $today - 1 ]}:limited" => 3000) ],
    [ { name => 'weekly-prod' },
      used(map { ('d:' . ($today - $_) => $_ % 7 == 1 ? 10_000 : 3) }
           0 .. 29) ],
    [ { name => 'overdue-prod', created => $now - 91 * DAY }, used() ],
    [ { name => 'idle-prod' }, used(last => $now - 20 * DAY) ],
    [ { name => 'rotated-prod', rotation => $now - 2 * DAY,
        secret('a') => 'active ' . ($now - 30 * DAY) . ' 0',
        secret('b') => 'active ' . ($now - 2 * DAY) . ' 0' }, used() ],
);

make_fleet($t, scalar @keys, sub { @{ $keys[ $_[0] ] } });
start_console($t);

my %setup = (
    rotated  => fleet_id($#keys),
    evil     => $keys[1][0]{name},
    note     => $note,
    overdue  => 'overdue-prod',
    inactive => 'idle-prod',
    many     => MANY,
);

browse('life.mjs');

# the page looks as far back as this
my (undef, $review) = $t->rbgvctl('review', '--json', '--days', 1,
                                  '--only', 'traffic_spike');

$setup{spiking} = join ',', sort map { $_->{client_id} }
                                 @{ decode_json($review) };
is($setup{spiking}, 'refused-prod,spiky-prod', 'spikes of rbgvctl review');

browse('page.mjs');

make_fleet($t, MANY, sub {
    return { name => "bulk-$_[0]-prod" },
           used(map { ('d:' . ($today - $_) => $_[0] % 97 + $_) } 0 .. 9);
});

browse('many.mjs');

unlike($t->read_log('access.log'), qr/rbgv_prod_|test-token/,
    'no secret in the log');

$t->done;


# what a script finds is a test here
sub browse {
    my ($script) = @_;

    my $status = run_script($t, $script, \%setup, sub {
        my ($line) = @_;

        if (my ($not, $name) = $line =~ /^(not )?ok (.*)/) {
            ok(!$not, $name);

        } else {
            diag($line =~ s/^# //r);
        }
    });

    is($status, 0, "$script ran");
}


sub used {
    return { last => $now, (map { ('d:' . ($today - $_) => 1000) } 1 .. 29),
             @_ };
}


sub secret { return 'secret:' . $_[0] x 64 }
