# From the return of "rbgvctl disable" to the last request that a host let
# pass, under load: with the invalidation channel healthy, hanging, and cut.
# And from the creation of a key, just refused as unknown, until it is good.
#
# RBGV_LONG=1: 200 trials, and the bound of 1 s holds as it is; otherwise a
# busy machine may take 1 s more.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(time);

use Test::Rbgv;
use Test::Rbgv::Load;
use Test::Rbgv::Proxy;

my $long   = $ENV{RBGV_LONG};
my $bound  = $long ? 1 : 2;
my %trials = (healthy => $long ? 200 : 20, hung => $long ? 50 : 4,
              cut => $long ? 50 : 4);

my $t = Test::Rbgv->new;

$t->start_redis(acl => 0);

my $proxy = Test::Rbgv::Proxy->new(listen => $t->dir . '/proxy.sock',
                                   to => $t->redis_server->socket);

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
worker_processes 2;
error_log error.log notice;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    access_log off;
    %%REDIS%%
    rbgv_auth on;
    rbgv_auth_log_level info;
    rbgv_auth_lease auto;
    keepalive_requests 10000000;
    add_header X-Source $rbgv_auth_source always;

    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth_redis unix:%%DIR%%/proxy.sock;
        rbgv_auth_limit default 1000000r/1m;
        location / { empty_gif; }
    }
}
EOC

my $key    = $t->create_key;
my $record = "rbgv:key:{$key->{id}}";
my %record = $t->redis(HGETALL => $record);


sub ask { $t->get('/', key => $key->{key}) }


sub start_load {
    return Test::Rbgv::Load->new(
        ports       => [ $t->port(0) ],
        connections => 16,
        pauses      => 0.005,
        request     => Test::Rbgv::request_text('GET', '/',
                                                key => $key->{key}),
    )->start($t->dir . '/answers');
}


# One change after the other: the times when commands had returned, and for
# each the time by which the next one came.
sub trials {
    my ($how, $change) = @_;

    my $stop = start_load();
    my @changed;

    for my $trial (1 .. $trials{$how}) {
        # the proxy is left alone, and the zone is trusted
        $proxy->rule;
        $t->redis(HSET => $record, %record);
        wait_for(sub {
            my $r = ask();
            $r->{status} == 200 && $r->{headers}{'x-source'}[0] eq 'lease';
        }, 'a lease');

        $change->{prepare}->() if $change->{prepare};

        $proxy->rule(channel => 1, hold => 1)  if $how eq 'hung';
        $proxy->rule(channel => 1, close => 1) if $how eq 'cut';

        my $returned = $change->{run}->();
        wait_for(sub { ask()->{status} == $change->{status} }, 'the change');

        # and it stays so
        my $until = time + ($how eq 'healthy' ? 0.1 : 1.2);
        my %other;
        while (time < $until) {
            my $status = ask()->{status};
            $other{$status}++ if $status == $change->{before};
        }
        is_deeply(\%other, {}, "$how, $change->{name}: stays so")
            if $trial == 1 || %other;

        push @changed, [ $returned, time ];
    }

    my $answered = $stop->();
    $proxy->rule;

    my @lags = map { [] } @changed;
    my ($answers, $i) = (0, 0);

    for (@$answered) {
        my (undef, $status, $sent, $came) = @$_;
        $answers++;

        # the answers are in their order
        $i++ while $i < $#changed && $sent > $changed[$i][1];
        # what comes later may be of the next trial
        next if $sent < $changed[$i][0] || $came > $changed[$i][1];

        # 503 is nobody's old right
        push @{ $lags[$i] }, $status == $change->{before}
            ? $came - $changed[$i][0] : 0;
    }

    cmp_ok(scalar(grep { @$_ < 20 } @lags), '<', @lags / 2,
           "$how, $change->{name}: under load in most trials");

    my @max = sort { $a <=> $b }
              map { (sort { $b <=> $a } @$_)[0] // 0 } @lags;

    diag(sprintf '%-8s %-8s %3d trials, %6d answers: '
                 . 'p50 %.1f ms, p99 %.1f ms, max %.1f ms',
         $how, $change->{name}, scalar @max, $answers,
         map { 1000 * $max[ int($_ * $#max + 0.5) ] } 0.5, 0.99, 1);

    return $max[-1];
}


my %disable = (
    name   => 'disable',
    before => 200,
    status => 401,
    run    => sub {
        my ($exit, undef, $err) = $t->rbgvctl('disable', $key->{id});
        my $returned = time;
        die "rbgvctl disable: $err" if $exit;
        return $returned;
    },
);

# the key is one that is known to be unknown
my %create = (
    name    => 'create',
    before  => 401,
    status  => 200,
    prepare => sub {
        $t->redis(DEL => $record);
        wait_for(sub {
            my $r = ask();
            $r->{status} == 401 && $r->{headers}{'x-source'}[0] eq 'zone';
        }, 'a negative entry');
    },
    run     => sub {
        $t->redis(HSET => $record, %record);
        return time;
    },
);

my %fault = (healthy => '', cut => 'fault 24: ', hung => 'fault 25: ');

for my $how (qw(healthy hung cut)) {
    for my $change (\%disable, \%create) {
        my $max = trials($how, $change);
        my $row = $fault{$how} || ($change == \%create ? 'input 14: ' : '');

        cmp_ok($max, '<=', $bound,
               "$row$how: $change->{name} within $bound s");
    }
}

$t->done;
