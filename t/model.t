# src/rbgv_count.lua in random histories: several hosts with clocks of their
# own, leases, several windows and limits at once, costs, credits, secrets,
# hosts that die and messages that get lost.  t/model/model.lua plays them on a
# hash in memory and judges them.  That hash is compared with a real server, and
# scripts that are broken on purpose are found to be.
#
# RBGV_LONG=N: N histories of each kind; RBGV_SEED=N: the same as before.

use strict;
use warnings;

use File::Slurper qw(read_binary);
use Test::More;

use Test::Rbgv;
use Test::Rbgv::Script;

my $t = Test::Rbgv->new;
$t->start_redis(acl => 0, init => 0);

my $long = $ENV{RBGV_LONG};
my $seed = $ENV{RBGV_SEED} // time;
my $path = $t->root . '/src/rbgv_count.lua';

my $script = Test::Rbgv::Script->new($t);

diag("RBGV_SEED=$seed");


# lines of fields: the first is "wrong", "total", or what else is printed
sub play {
    my ($path, @args) = @_;

    open my $out, '-|', 'lua5.1', $t->root . '/t/model/model.lua', $path,
        @args or die "lua5.1: $!";
    my @lines = map { chomp; $_ } <$out>;
    close $out or die "model.lua: status $?\n";

    return @lines;
}


# the promises

for my $kind (
    [ 'steady',  'clocks that agree' ],
    [ 'drift',   'hosts with clocks that are slow or fast' ],
    [ 'back',    'the clock of Redis is set back' ],
    [ 'forward', 'the clock of Redis is set forward' ],
) {
    my $n      = $long || 100;
    my @lines  = play($path, $seed, $n, $kind->[0]);
    my ($done) = pop(@lines) =~ /^total\t(.*)/;
    my ($passed, $full) = $done =~ /, (\d+) passed, .*, (\d+) windows full/;

    is(join("\n", @lines), '', "$n histories: $kind->[1]");
    cmp_ok($passed, '>', 10 * $n, 'requests pass');
    cmp_ok($full, '>', $n / 10, 'and windows become full');
    diag("$kind->[0], $n histories: $done");
}


# the hash in memory is as good as a real one

my (%calls, $replies);

for my $kind (qw(steady back forward)) {
    for (play($path, $seed, $long ? 200 : 20, $kind, 'calls')) {
        my ($what, $id, @rest) = split /\t/, $_, -1;
        push @{ $calls{"$kind $id"} }, \@rest if $what eq 'call';
    }
}

my @unlike = grep { !alike($_) } sort keys %calls;

is_deeply(\@unlike, [], 'replies are those of a real server');
cmp_ok($replies, '>', 1000, 'which are many');


sub alike {
    my ($name) = @_;

    my ($id) = $name =~ /(\S+)$/;
    my (@expected, @got);

    $script->id($id);
    $script->forget;

    for my $call (@{ $calls{$name} }) {
        my ($now, $integers, @argv) = @$call;

        push @expected, pop @argv;
        $script->run($now, pack('H*', $integers), @argv, sub { push @got, $_[0] });
    }

    $script->redis->wait_all_responses;
    $replies += @got;

    return "@expected" eq join ' ', map { @$_ } @got;
}


# what is wrong is found

my $source = read_binary($path);

for (
    [ 'a window that is a slice too short', 'steady',
      'i > oldest', 'i >= oldest' ],
    [ 'slices that are too short', 'steady', '* 63493  ', '* 62500  ' ],
    [ 'permits that are good for too long', 'steady',
      'rest + slice / 4', 'rest + slice' ],
    [ 'a lead that is not counted', 'steady',
      'max(reply[4], at * slice - shift)', 'now' ],
    [ 'a lead that moves nothing', 'steady', 'held > 0', 'false' ],
    [ 'a cost that counts once', 'steady', 'granted * cost', 'granted' ],
    [ 'more given back than there is', 'steady',
      'sum = sum - back', 'sum = max(sum - back - 1, 0)' ],
    [ 'credits that are not spent', 'steady',
      '(granted > 0 or unused > 0)', 'unused > 0' ],
    [ 'uses that are not counted', 'steady', '+ passed', '' ],
    [ 'quota that does not come back', 'steady',
      'sum = sum - calls', 'sum = sum - 0' ],
    [ 'nobody is let pass', 'steady', 'local granted, retry, keep = want',
      'local granted, retry, keep = 0' ],
    [ 'a clock that is set back, and forgets', 'back',
      'at, newest, history, keep = index, sum,',
      'at, sum, newest, history, keep = index, 0, 0,' ],
) {
    my ($name, $kind, $from, $to) = @$_;

    (my $broken = $source) =~ s/\Q$from\E/$to/
        or die "nothing to break: $from\n";

    # a seed that finds all of them soon
    my @lines = play($t->write_file('broken.lua', $broken), 1, 1000, $kind,
                     'first');

    like($lines[0], qr/^wrong\t/, "found: $name");
    note($lines[0]);
}

$t->done;
