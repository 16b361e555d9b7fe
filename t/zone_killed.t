# A worker that is killed while it has the lock of the zone or gives it back,
# wherever it is in what it changes: the others go on, with what is true, and no
# key gets more than its quota.
#
# RBGV_LONG=1: 100 times.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;
use Test::Rbgv::Load;
use Test::Rbgv::Process;

my $wanted = $ENV{RBGV_LONG} ? 100 : 5;
my $quota  = $ENV{RBGV_LONG} ? 20_000 : 4_000;

plan skip_all => 'not root, who may trace any process' if $> != 0;

my $t = Test::Rbgv->new;

$t->start_redis;
$t->allow_alert(qr/exited on signal 9|was locked by/);

my $nginx = $t->nginx;

$nginx->write_conf(<<"EOC")->start;
%%TEST_GLOBALS%%
worker_processes 2;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth_lease auto;
    rbgv_auth_redis_timeout 9s;
    rbgv_auth_log_level info;
    keepalive_requests 20;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth on;
        rbgv_auth_limit default ${quota}r/1d;
        location / { empty_gif; }
    }
}
EOC

my ($good, $bad, $few, @others) = map { $t->create_key } 1 .. 40;

$t->rbgvctl('disable', $bad->{id});


sub status {
    my ($key) = @_;

    my $response = eval { $t->get('/', key => $key->{key}) };
    return $response ? $response->{status} : 'none';
}

sub load {
    my ($name, $connections, @keys) = @_;

    return Test::Rbgv::Load->new(
        ports       => [ $t->port(0) ],
        connections => $connections,
        pauses      => 0.01,
        rotate      => 1,
        request     => [ map { Test::Rbgv::request_text('GET', '/',
                                                        key => $_->{key}) }
                         @keys ],
    )->start($t->dir . "/answers-$name");
}


# Kills a worker that has taken the lock for the n-th time, so many
# instructions later.
sub kill_locked {
    my ($pid, $n, $instructions) = @_;

    my $log = $t->dir . '/gdb.log';
    my $gdb = Test::Rbgv::Process->new(
        command => [ qw(gdb -q -nx -batch -p), $pid, map { ('-ex', $_) }
                     'break ngx_shmtx_lock', "ignore 1 $n", 'continue',
                     'delete', 'finish', "stepi $instructions", 'kill' ],
        env     => { DEBUGINFOD_URLS => '' },
        log     => $log,
    );

    # records change, so that there is something to do
    wait_for(sub {
        $t->redis(HSET => "rbgv:key:{$others[rand @others]{id}}", note => rand);
        !$gdb->alive;
    }, 'gdb', 60);

    eval { wait_for(sub { !kill 0, $pid }, 'its end') }
        or die 'gdb: ' . $t->read_file('gdb.log') . "\n";
}


sub with_lock {
    return scalar(() = $t->read_log('error.log') =~ /was locked by/g);
}


my %stop = (few => load('few', 4, $few), others => load('others', 4, @others));
my ($trials, %wrong) = (0);

wait_for(sub { status($good) eq '200' && status($bad) eq '401' }, 'a start');

# not all have it still, so many instructions later
until (with_lock() >= $wanted || $trials == 8 * $wanted) {
    my @workers = $nginx->workers;

    kill_locked($workers[rand @workers], int rand 20, 1 + int rand 150);
    $trials++;

    for ([ $good, 200 ], [ $bad, 401 ]) {
        my ($key, $expected) = @$_;
        my $is = status($key);
        $wrong{"$is for $expected"}++ if $is !~ /^(?:$expected|none)$/;
    }

    wait_for(sub { (() = $nginx->workers) == 2 }, 'another worker');
}

cmp_ok(with_lock(), '>=', $wanted,
       "fault 30: $trials were killed, so many with the lock");
is_deeply(\%wrong, {}, 'fault 30: the others decide as before');


# what was answered, and what is left of the quota

my %answers = map { $_ => $stop{$_}->() } keys %stop;
my %status;

$status{ $_->[1] }++ for map { @$_ } values %answers;
note join ', ', map { "$_: $status{$_}" } sort keys %status;
is_deeply([ grep { !/^(?:200|429|failed|retried)$/ } sort keys %status ], [],
          'fault 30: all are answered whose worker was not killed');
cmp_ok(($status{failed} // 0) + ($status{retried} // 0), '<=', 8 * $trials,
       'fault 30: no more are lost than were in one');

wait_for(sub { status($good) eq '200' }, 'an answer') for 1 .. 20;
is(status($bad), '401', 'fault 30: a disabled key is still refused');

my $passed = grep { $_->[1] eq '200' } @{ $answers{few} };
my $asked  = 0;
my $rest   = Test::Rbgv::Load->new(
    ports       => [ $t->port(0) ],
    connections => 8,
    request     => Test::Rbgv::request_text('GET', '/', key => $few->{key}),
)->run(sub { $asked++ < 1.5 * $quota });

$passed += $rest->{200};
cmp_ok($passed, '<=', $quota, "fault 30: $passed of a quota of $quota");
cmp_ok($passed, '>', 0.5 * $quota, 'fault 30: and most of it');

$t->done;
