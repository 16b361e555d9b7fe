# Behind Sentinel: the master is found by any of them, a switch is followed at
# once, under load, and nothing is decided by a master that was replaced.  While
# no Sentinel is there, the last master stays.
#
# RBGV_LONG=1: five times each, and what it takes is told.

use strict;
use warnings;

use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(time);

use Test::Rbgv;
use Test::Rbgv::Load;

my $rounds = $ENV{RBGV_LONG} ? 5 : 1;

my $t     = Test::Rbgv->new;
$t->allow_alert(qr/does not know the master "nobody"/);
$t->allow_refused(qw(LOADING MASTERDOWN READONLY));
my $store = $t->start_sentinel;
my $users = $store->password_file('rbgv-gateway');

# any will do: the first one is not there
my ($gone) = $store->sentinels;
$gone->kill;

(my $nobody = $store->uri('rbgv-gateway')) =~ s{/rbgv$}{/nobody};

$t->write_conf(<<"EOC")->start_nginx;
%%TEST_GLOBALS%%
worker_processes 2;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    access_log off;
    %%REDIS%%
    keepalive_requests 10000000;

    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth on;
        rbgv_auth_limit default 1000000r/1m;

        location / { empty_gif; }
        location /exact { rbgv_auth_lease off; empty_gif; }
        location /nobody {
            rbgv_auth_redis $nobody;
            rbgv_auth_redis_password_file $users;
            empty_gif;
        }
    }
}
EOC

my $logged = 0;


# what was logged since the last call
sub logged {
    my $log = substr $t->read_log('error.log'), $logged;
    $logged += length $log;
    return $log;
}

sub disable {
    my ($id) = @_;

    my ($exit, $out, $err) = $t->rbgvctl('disable', $id);
    die "rbgvctl disable: $out$err" if $exit;
}

sub status { return $t->get($_[1] // '/', key => $_[0]{key})->{status} }

# the gateway's connections to a server
sub connections {
    my ($server) = @_;

    return scalar grep { / name=ngx_rbgv_auth / }
                  split /\n/, $server->command('CLIENT', 'LIST');
}

# asks until the condition is true, and for a while after it; returns the
# statuses, and the longest time without a 200 there was
sub under_load {
    my ($key, $path, $condition) = @_;

    my ($start, $longest, $until) = (time, 0);
    my $last = $start;

    my $count = Test::Rbgv::Load->new(
        ports       => [ $t->port(0) ],
        connections => 8,
        pause       => 0.01,
        request     => Test::Rbgv::request_text('GET', $path,
                                                key => $key->{key}),
        seen        => sub {
            my ($n, $status, $sent, $received) = @_;

            return if $status ne '200';
            $longest = $received - $last if $received - $last > $longest;
            $last    = $received;
        },
    )->run(sub {
        $until //= time + 0.5 if $condition->();
        return time - $start < 60 && (!defined $until || time < $until);
    });

    return ($count, $longest);
}


# the beginning

my $key = $t->create_key;

is(status($key), 200, 'the master is found');
my ($master) = grep { $_ == $store->master } $store->servers;
like($t->read_log('error.log'),
     qr/the master "rbgv" is 127\.0\.0\.1:${\ $master->port }$/m,
     'and logged');

is(status($key, '/nobody'), 503, 'no such master');
wait_for(sub {
    $t->read_log('error.log')
        =~ /\[crit\].*sentinel 127\S+ does not know the master "nobody"/;
}, 'the log');
pass('no such master: logged');

my $role = $master->calls('role');
cmp_ok($role, '>', 0, 'the role is asked for');


# a switch that is wanted: every key is read anew

my $other = $t->create_key;
is(status($other), 200, 'another key');

my $new;
my ($count, $longest) = under_load($key, '/', sub {
    return $new //= $store->failover;
});
is($count->{failed}, 0, 'failover: all are answered');
is(join(' ', grep { /^\d+$/ && !/^(?:200|503)$/ } keys %$count), '',
   'failover: no wrong answer');
isnt($new, $master, 'failover: another master');
ok(wait_for(sub { status($key, '/exact') == 200 }, 'recovery'),
   'fault 14: failover: good again');

# that the master is another one is told before the switch has come to its end
ok(wait_for(sub { connections($master) == 0 }, 'the end of connections'),
   'fault 14: failover: no connection to the old master');
like($t->read_log('error.log'),
     qr/moved from \S+:${\ $master->port } to \S+:${\ $new->port }/,
     'failover: logged');

disable($other->{id});
ok(wait_for(sub { status($other) == 401 }, 'the change'),
   'failover: changes are seen');


# Takes the master away by the method, under load, until another one decides.
sub take_away {
    my ($name, $method) = @_;

    $store->wait_ok;
    $master = $store->master;
    logged();

    my $start = time;
    my ($taken, $switched, $recovered);

    ($count, $longest) = under_load($key, '/exact', sub {
        $master->$method if !$taken++;
        $switched //= time if logged() =~ /the master "rbgv" is/;
        $recovered //= time if $switched && status($key, '/exact') == 200;
        return $recovered;
    });

    is($count->{failed}, 0, "$name: all are answered");
    is(join(' ', grep { /^\d+$/ && !/^(?:200|503)$/ } keys %$count), '',
       "$name: no wrong answer");
    ok($recovered, "$name: good again") or return;

    diag(sprintf '%s: no 200 for %.2f s; told after %.2f s, then %.3f s',
         $name, $longest, $switched - $start, $recovered - $switched)
        if $ENV{RBGV_LONG};
}


for my $round (1 .. $rounds) {
    take_away('fault 15: killed', 'kill');
    $master->start;
    $store->wait_ok;

    my $victim = $t->create_key;
    is(status($victim), 200, 'frozen: a key');

    take_away('fault 16: frozen', 'freeze');
    $store->wait_failover($master);
    disable($victim->{id});
    wait_for(sub { status($victim) == 401 }, 'the change');

    # it believes to be the master, and the key to be good
    $master->thaw;

    my %seen;
    wait_for(sub {
        $seen{ status($victim, $_) }++ for '/', '/exact';
        eval { $master->command('ROLE')->[0] eq 'slave' };
    }, 'the old master to know it');

    is_deeply([ keys %seen ], [ 401 ], 'fault 16: thawed: decides nothing');
    is(connections($master), 0, 'fault 16: thawed: nobody asks it');
}


# all Sentinels are away

$master = $store->master;
$_->kill for grep { $_->up } $store->sentinels;

my $sentinel = ($store->sentinels)[1];
my $instead  = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 128,
                                     LocalPort => $sentinel->port,
                                     ReuseAddr => 1, Blocking => 0) or die $!;
my ($since, $attempts, %seen) = (time, 0);

wait_for(sub {
    $seen{ status($key, '/exact') }++;
    $attempts++ while $instead->accept;
    return $attempts >= 2 && time >= $since + 2;
}, 'attempts');

is_deeply([ keys %seen ], [ 200 ], 'fault 17: the master stays in use');
# those of two workers
cmp_ok($attempts, '<=', 2 * (6 + 2 * (time - $since)),
       "fault 17: Sentinels are tried now and then, $attempts times");

%seen = ();
$master->command('CLIENT', 'KILL', 'TYPE', 'normal');
wait_for(sub {
    my $status = status($key, '/exact');
    $seen{$status}++;
    return $status == 200 && connections($master);
}, 'recovery');
is_deeply([ grep { !/^(?:200|503)$/ } keys %seen ], [],
          'fault 17: it is connected to again');

close $instead;
$sentinel->start;
ok(wait_for(sub { connections($sentinel) == 2 }, 'workers'),
   'fault 17: a Sentinel is asked again');

$t->done;
