#!/usr/bin/perl

# scripts/run --cluster: six nodes, the same demo, and nothing is left.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;
use Test::Rbgv::Demo qw(demo demo_running demo_try);

my $t = Test::Rbgv->new;

$ENV{PORT}    = $t->port(0);
$ENV{RUN_DIR} = $t->dir . '/run';

END { demo('--stop') }


my ($exit, $out) = demo('--cluster --detach');
is($exit, 0, 'started') or diag($out);

my @curl   = $out =~ /^ +(curl .*)$/mg;
my $target = readlink $ENV{RUN_DIR};
my @pids   = map { $t->read_file("run/$_.process") =~ /^(\d+) / }
             'nginx', map { "redis-$_" } 0 .. 5;

is_deeply([ map { [ demo_try($_) ] } @curl ],
    [ [ 401, 'missing_api_key' ], [ 401, 'invalid_api_key' ],
      [ 200, undef ], [ 200, undef ] ], 'what it tells to try');

my @said = map { scalar `redis-cli -p $_ ping` }
            map { $t->read_file("run/redis-$_/redis.conf") =~ /^port (\d+)$/m }
            0 .. 5;

is_deeply([ grep { !/^NOAUTH/ } @said ], [], 'nobody gets in without a login');

($exit, $out) = demo('--detach');
is($exit, 1, 'not started twice');
like($out, qr/already running/, 'says so');

($exit) = demo('--stop');
is($exit, 0, 'stopped');
ok(!-e $target && !-l $ENV{RUN_DIR}, 'no files');
is_deeply([ grep { demo_running($_) } @pids ], [], 'no processes');

is((demo('--cluster --stop'))[0], 2, 'there is nothing else to stop');

$t->done;
