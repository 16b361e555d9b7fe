# src/rbgv_count.lua when days pass and when the clock of Redis is set: what
# was admitted is not forgotten, nobody is locked out, and old fields go.

use strict;
use warnings;

use List::Util qw(max);
use Test::More;

use Test::Rbgv;
use Test::Rbgv::Script;

my $t = Test::Rbgv->new;
$t->start_redis(acl => 0, init => 0);

my $script = Test::Rbgv::Script->new($t);

my $start  = 1_700_000_000_000_000;
my $day    = 86_400_000_000;
my $today  = int $start / $day;
my $slice  = 60 * 63493;
my $minute = [ [ 'minute', 5, 60 ] ];


# slices until a call is admitted from then on, one being tried in each
sub wait_of {
    my ($now) = @_;

    for my $n (0 .. 40) {
        return $n if $script->count($now + $n * $slice, 1, $minute)->[0];
    }

    return 'too long';
}


for my $back (1, 5, 16, 17, 100, 16 * 60, 16 * 60 * 24 * 30) {
    my $now = $start - $back * $slice;

    for my $used (2, 5) {
        $script->forget;
        $script->admitted($used, $start, $minute);

        is($script->admitted(6, $now, $minute), 5 - $used,
           "fault 34: set back by $back slices, $used used");

        # until the clock is where it was, or else a window from then on
        is(wait_of($now), 17 + ($back <= 16 ? $back : 0),
           'fault 34: and good again after a window');
    }
}

for my $used (1, 5) {
    $script->forget;
    $script->admitted(5, $start, $minute);
    is($script->admitted($used, $start + $day, $minute), $used,
       'fault 34: set forward by a day');
    is($script->admitted(6, $start, $minute), 5 - $used, 'and back again');
    is(wait_of($start), 17, 'fault 34: and good again after a window');
}


# what is no longer needed goes

$script->forget;
$script->count($start + $_ * $day, 1, [ [ 'x' x 32, 1, 31_622_400 ] ]) for 0, 1;
$script->count($start + 2 * $day, 1, [ [ 'short', 1, 60 ] ]);
is($script->redis->ttl($script->key), 93 * 86400, 'expires');
cmp_ok((max map { length } %{ $script->fields }), '<=', 64, 'fields are short');
is($script->redis->object('encoding', $script->key), 'listpack', 'and packed');

$script->count($start + 93 * $day, 1, $minute);
is_deeply([ sort grep { /^[dr]:/ } keys %{ $script->fields } ],
          [ map({ 'd:' . ($today + $_) } 2, 93),
            'r:' . ($today + 1) . ':limited' ],
          'days are kept for 92 days');
is_deeply([ grep { /short/ } keys %{ $script->fields } ], [],
          'a window that has ended is dropped');
is(scalar(grep { /^[wh]:x/ } keys %{ $script->fields }), 1,
   'one that has not is kept');

$t->done;
