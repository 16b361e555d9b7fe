# src/rbgv_count.lua against an oracle that keeps a list of all admissions:
# verdicts, what is left, and when to try again.

use strict;
use warnings;

use List::Util qw(max sum0);
use Test::More;
use Time::HiRes qw(sleep);

use Test::Rbgv;
use Test::Rbgv::Script;

my $t = Test::Rbgv->new;
$t->start_redis(acl => 0, init => 0);

my $script = Test::Rbgv::Script->new($t);
my $redis  = $script->redis;
my $seed  = $ENV{RBGV_SEED} // time;
my $start = 1_700_000_000_000_000;

srand $seed;
note "RBGV_SEED=$seed";


sub slice { int(($_[0] + $script->earlier($_[1])) / ($_[1] * 63493)) }


# The documented rule: what was admitted in the slice of now and in the 16
# before it, plus the cost, stay within the quota.  "admitted" is a list of
# [ time, cost ].
sub left {
    my ($admitted, $now, $window) = @_;

    my $oldest = slice($now, $window->[2]) - 16;

    my $sum    = 0;

    for (reverse @$admitted) {
        last if slice($_->[0], $window->[2]) < $oldest;
        $sum += $_->[1];
    }

    return $window->[1] - $sum;
}


# and what is promised to customers: no more than the quota in any interval
sub most {
    my ($admitted, $length) = @_;

    my ($first, $sum, $most) = (0, 0, 0);

    for my $last (@$admitted) {
        $sum += $last->[1];
        $sum -= $admitted->[ $first++ ][1]
            while $admitted->[$first][0] < $last->[0] - $length;
        $most = max $most, $sum;
    }

    return $most;
}


# when a window without slices would admit it
sub soonest {
    my ($admitted, $now, $cost, $window) = @_;

    my $length = $window->[2] * 1e6;
    my @recent = grep { $_->[0] >= $now - $length } @$admitted;
    my $excess = $cost + sum0(map { $_->[1] } @recent) - $window->[1];
    my $soonest = $now;

    while ($excess > 0) {
        my $oldest = shift @recent;
        $soonest = $oldest->[0] + $length + 1;
        $excess -= $oldest->[1];
    }

    return $soonest;
}


# one history: [ time, cost ] steps; returns what went wrong, or nothing
sub check {
    my ($windows, @steps) = @_;

    my (@reply, @admitted);

    $script->forget;
    $script->count(@$_, $windows, undef, sub { push @reply, $_[0] }) for @steps;
    $redis->wait_all_responses;

    for my $step (@steps) {
        my ($now, $cost) = @$step;
        my ($verdict, $retry, @rest) = @{ shift @reply };

        my @left = map { left(\@admitted, $now, $_) } @$windows;
        my $good = !grep { $_ < $cost } @left;

        return "verdict $verdict at $now" if $verdict != ($good ? 1 : 0);

        if ($good) {
            push @admitted, $step;
            $_ -= $cost for @left;
        }

        for my $window (@$windows) {
            my ($left, $reset) = splice @rest, 0, 2;
            my $slice = $window->[2] * 63493;
            my $end   = $slice * (1 + slice($now, $window->[2]))
                        - $script->earlier($window->[2]);

            return "$left left at $now" if $left != shift @left;
            return "reset $reset at $now"
                if $reset != int(($end - $now + 999) / 1000);
        }

        return "retry $retry at $now" unless $good
            ? $retry == 0 : retry_is_true($retry, $windows, \@admitted, $step);
    }

    for my $window (@$windows) {
        my $most = most(\@admitted, $window->[2] * 1e6);
        return "$most in a window of @$window" if $most > $window->[1];
    }

    return ();
}


sub retry_is_true {
    my ($retry, $windows, $admitted, $step) = @_;

    my ($now, $cost) = @$step;
    my $then = $now + $retry * 1000;

    for my $window (@$windows) {
        # never, so anything is true
        return 1 if $cost > $window->[1];
        return 0 if left($admitted, $then, $window) < $cost;
    }

    # and no later than it must be by more than what 17 slices are longer
    return grep {
        $then <= soonest($admitted, $now, $cost, $_)
                 + $_->[2] * (17 * 63493 - 1e6) + 1000;
    } @$windows;
}


sub random_history {
    my ($n) = @_;

    $script->id(join '', map { ('0' .. '9', 'a' .. 'z')[rand 36] } 1 .. 12);

    my @windows = map { [ "p$_", 1 + int rand 12, (1, 2, 5, 60)[rand 4] ] }
                  1 .. 1 + int rand 3;

    # steps of the length of a slice of one of them, more or less
    my $scale = $windows[ rand @windows ][2] * 63493 * 3 * rand;
    my $now   = $start + int rand 1e9;

    return \@windows, map {
        $now += int(rand() < 0.1 ? 20 * rand $scale : rand $scale);
        [ $now, rand() < 0.7 ? 1 : int rand 6 ];
    } 1 .. $n;
}


my $histories = $ENV{RBGV_LONG} ? 5000 : 500;
my @wrong     = map { check(random_history(60)) } 1 .. $histories;
is_deeply(\@wrong, [], "$histories random histories");

my $edge = [ [ 'edge', 2, 1 ] ];
my $slice_end = 63493 * (1 + slice($start, 1)) - $script->earlier(1) - 1;
is_deeply([ check($edge, map { [ $_, 1 ] } $slice_end, $slice_end,
                  $slice_end + 16 * 63493, $slice_end + 16 * 63493 + 1) ],
          [], 'the last microsecond of a slice');


# all or none

my $both = [ [ 'a', 5, 60 ], [ 'b', 2, 3600 ] ];
my $day  = int $start / 86400e6;

$script->forget;
is($script->admitted(4, $start, $both), 2, 'the smaller one decides');
is($script->count($start, 1, [ $both->[0] ])->[2], 2,
   'the other was not charged');
is($script->fields->{"d:$day"}, 3, 'calls of the day');
is($script->fields->{"r:$day:limited"}, 2, 'refused ones');
is($script->count($start, 1, $both, { again => 1 })->[0], 0, 'accounted already: refused');
is($script->count($start, 0, $both, { again => 1 })->[0], 1, 'free of charge');
is($script->fields->{"d:$day"}, 3, 'accounted once');


# Permits that are used at any time while they are good, of leases with a lead
# and without one.  Some are given back: the rest of a block that is not used.
sub leased {
    my ($windows, @steps) = @_;

    my (@used, $told);

    $script->forget;

    for my $step (@steps) {
        my ($now) = @$step;
        my ($least) = sort { $a <=> $b } map { $_->[2] } @$windows;
        my ($granted, undef, $valid, $as_of)
            = @{ $script->grant($now, $windows, need => 1 + int rand 4,
                                lead => int(rand 2) * $least * 63493 * 3,
                                more => $told) };

        my $unused = int rand(1 + $granted);
        $told = { unused => $unused, granted => $as_of };

        push @used, map { [ $now + $valid * 1000 * (rand() < 0.5 || rand), 1 ] }
                    $unused + 1 .. $granted;
    }

    @used = sort { $a->[0] <=> $b->[0] } @used;

    for my $window (@$windows) {
        my $most = most(\@used, $window->[2] * 1e6);
        return "$most in a window of @$window" if $most > $window->[1];
    }

    return ();
}

$histories = $ENV{RBGV_LONG} ? 5000 : 300;
@wrong     = map { leased(random_history(60)) } 1 .. $histories;
is_deeply(\@wrong, [], "$histories random histories of leases");


# permits and credits that are given back, secrets by the hour

my $minute = [ [ 'minute', 100, 60 ] ];
my $secret = '0123456789abcdef';
my $hour   = int $start / 3600e6;
my $slice  = 60 * 63493;

$script->forget;
is($script->grant($start, $minute, need => 1, want => 9)->[0], 9, 'a block');
is($script->grant($start, $minute, need => 0,
                  more => { unused => 4, granted => $start })->[4], 95,
   'some of it given back');
is($script->grant($start + 3 * $slice, $minute, need => 1,
                  more => { unused => 99, granted => $start })->[4], 99,
   'to its slice, and never more than it has');

$script->forget;
my $lease = $script->grant($start, $minute, want => 9, lead => 3 * $slice);
is($lease->[3], $start + 3 * $slice, 'a lead: counted as of later');
cmp_ok($lease->[2], '>', 3 * $slice / 1000, 'and good for longer');
is($script->grant($start, $minute, need => 1,
                  more => { unused => 9, granted => $lease->[3] })->[4], 99,
   'given back to that slice');
is($script->grant($start + 18 * $slice, $minute)->[4], 99,
   'what is counted then stays longer');
is($script->grant($start + 20 * $slice, $minute)->[4], 100,
   'and not for ever');

# of two windows one is ahead, so a block would have no time that is of a
# slice of both: what is given back would be taken from another slice

my $two = [ [ 'minute', 1000, 60 ], [ 'second', 96, 1 ] ];

$script->forget;
my $ahead = $slice * slice($script->grant($start, [ $two->[0] ], need => 1,
                                          lead => 3 * $slice)->[3], 60)
            - $script->earlier(60);
my $before = $ahead - 200_000;
my $block  = $script->grant($before, $two, want => 9);
my $most   = $script->admitted(96, $ahead, $two);
$script->grant($ahead, $two, more => { unused => $block->[0],
                                       granted => $block->[3] });
$most += $script->admitted(
    96, 63493 * (17 + slice($before, 1)) - $script->earlier(1), $two);
is($most, 96, 'no more than the quota when a block was given back');
is($script->grant($ahead + 2 * $slice, $two, want => 9)->[0], 9,
   'a block when neither is ahead');

$script->forget;
is_deeply([ @{ $script->grant($start, $minute, need => 2, want => 99,
                              more => { price => 3, balance => 3900 })
             }[0, 6] ], [ 10, 3870 ], 'a block has 1/128 of the credits');
is($script->fields->{credits}, 30, 'spent');
$script->grant($start, $minute,
               more => { price => 3, unused => 8, granted => $start });
is($script->fields->{credits}, 6, 'given back with permits');
$script->grant($start, $minute, more => { refund => 4 });
is($script->fields->{credits}, 2, 'given back alone');
is_deeply([ @{ $script->grant($start, $minute, need => 1,
                              more => { price => 3, balance => 4 })
             }[0, 1, 6] ], [ 0, 0, 2 ], 'not enough');
is($script->fields->{"r:$day:credits"}, 1, 'accounted as such');
is($script->grant($start, $minute, need => 1,
                  more => { price => 2, balance => 4, spare => 1 })->[0], 1,
   'enough');
is($script->fields->{credits}, 2, 'and spared');

$script->forget;
$script->grant($start, $minute, need => 1, used => { $secret => 4 },
               more => { hours => 1 });
$script->grant($start, $minute, used => { $secret => 2 },
               more => { hours => 1 });
is_deeply([ @{ $script->fields }{ "u:$hour:$secret", "t:$secret",
                                  "s:$secret" } ],
          [ 7, int $start / 1e6, 7 ], 'uses of a secret by the hour');
$script->grant($start + 9 * 86400e6, $minute, need => 1);
ok(!exists $script->fields->{"u:$hour:$secret"}, 'kept for 8 days');


# Fields that the script did not write: no more is left than there is, and no
# number is negative, for which the module would close the connection.

sub damaged {
    my ($fields, $now, %arg) = @_;

    $script->forget;
    $redis->hset($script->key, %$fields);
    my $reply = $script->grant($now, $minute, need => 200, %arg);

    return [ $reply->[0] + $reply->[4], grep { $_ < 0 } @$reply ];
}

my $index = slice($start, 60);

is_deeply(damaged({ 'w:minute:60' => pack('Q<L<L<', $index, 1, 90) }, $start,
                  more => { unused => 50, granted => $start }),
          [ 100 ], 'a sum below the newest slice');
is_deeply(damaged({ 'w:minute:60' => pack('Q<L<L<', $index, 9, 9),
                    'h:minute:60' => pack('L<16', 1 .. 16) },
                  $start + 9 * $slice),
          [ 100 ], 'a sum below the oldest slices');
is_deeply(damaged({ 'w:minute:60' => pack('Q<L<L<', $index + 3, 9, 9),
                    'h:minute:60' => pack('L<16', 90, 90, (0) x 14) },
                  $start, more => { unused => 90, granted => $start + 2 * $slice }),
          [ 100 ], 'a sum below a slice that is given back to');
is_deeply(damaged({ credits => $_ }, $start,
                  more => { price => 1, balance => 500 }),
          [ 100 ], "credits \"$_\"") for qw(nan -nan inf -inf x);


# by the clock of Redis

for my $window ([ 'one', 7, 1 ], [ 'two', 50, 2 ]) {
    $script->forget;

    my ($end, @admitted, $refused);
    my $clock = sub { my @time = $redis->time; $time[0] * 1e6 + $time[1] };

    do {
        my $before = $clock->();
        my $reply  = $script->count(undef, 1, [$window]);
        $end = $clock->();

        if ($reply->[0]) {
            push @admitted, [ $before, 1, $end ];
        } else {
            $refused = $end + $reply->[1] * 1000;
        }
    } until $end > $admitted[0][0] + 2.5 * 1e6 * $window->[2];

    my $quota = $window->[1];
    my @over  = grep {
        $admitted[ $_ + $quota ][2] - $admitted[$_][0] <= $window->[2] * 1e6
    } 0 .. $#admitted - $quota;

    is_deeply(\@over, [], "no $window->[2] s with more than $quota");
    cmp_ok(scalar @admitted, '>=', 2 * $quota, 'and not much less');

    sleep max 0, ($refused - $clock->()) / 1e6;
    is($script->count(undef, 1, [$window])->[0], 1, 'good again as was told');
}

$t->done;
