# Leases: permits that Redis has deducted before they are spent, and what Redis
# knows of it when the traffic has stopped.

use strict;
use warnings;

use List::Util qw(sum0);
use Test::More;

use Test::Rbgv;
use Test::Rbgv::Key qw(digest make_key);
use Test::Rbgv::Load;
use Test::Rbgv::Usage qw(usage);

my $t = Test::Rbgv->new;

$t->start_redis;

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
worker_processes 2;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth on;
    rbgv_auth_lease auto;
    rbgv_auth_redis_timeout 5s;
    keepalive_requests 1000000;
    add_header X-Source $rbgv_auth_source always;

    server {
        listen 127.0.0.1:%%PORT_0%%;

        location / { empty_gif; }
        location /auto { rbgv_auth_limit auto 64000r/1h; empty_gif; }
        location /own { rbgv_auth_limit own 64000r/1h; rbgv_auth_lease 3;
                        empty_gif; }
        location /off { rbgv_auth_limit off 64000r/1h; rbgv_auth_lease off;
                        empty_gif; }
        location /small { rbgv_auth_limit small 100r/1h; empty_gif; }
        location /full { rbgv_auth_limit full 640r/1h; empty_gif; }
        location /cost { rbgv_auth_limit auto 64000r/1h;
                         rbgv_auth_cost $arg_cost; empty_gif; }
        location /two { rbgv_auth_limit auto 64000r/1h;
                        rbgv_auth_limit day 90000r/1d; empty_gif; }
        location /a { rbgv_auth_limit a 64000r/1h; empty_gif; }
        location /b { rbgv_auth_limit b 64000r/1h; empty_gif; }
        location /c { rbgv_auth_limit c 64000r/1h; empty_gif; }
    }
}
EOC

my $pepper = $t->read_file('pepper') =~ s/\n.*//rs;


# Requests one after the other on one connection: the source of each decision
# and what is said to remain.
sub ask {
    my ($key, @uris) = @_;

    my $c = $t->connect;

    return map {
        my $r = $c->send(Test::Rbgv::request_text('GET', $_, key => $key->{key}))
            ->response;
        { status => $r->{status}, source => $r->{headers}{'x-source'}[0],
          left => $r->{headers}{'x-ratelimit-remaining'}[0] };
    } @uris;
}


# What Redis has charged in the end: for each policy, and calls.  All keys are
# waited for together, since a lease takes its time to end.
my @charges;

sub charges_are {
    my ($key, $expected, $name) = @_;

    push @charges, [ $key, $expected, $name ];
}

sub charges {
    my ($key) = @_;

    my $usage = usage($t, $key->{id});
    return { map { $_ => $usage->{$_} } grep { $usage->{$_} } keys %$usage };
}


my $warm = $t->create_key;

wait_for(sub { (ask($warm, '/auto'))[0]{source} eq 'lease' }, 'the channel');


# which requests are decided by a lease

for (
    [ '/auto',  40, 38, 'auto' ],
    [ '/own',   40, 20, 'a number of permits' ],
    [ '/',      40, 38, 'without a policy' ],
    [ '/two',   40, 38, 'two windows' ],
    [ '/off',   40,  0, 'off' ],
    [ '/small', 40,  0, 'a small quota' ],
) {
    my ($uri, $n, $min, $name) = @$_;

    my $key   = $t->create_key;
    my @r     = ask($key, ($uri) x $n);
    my $lease = grep { $_->{source} eq 'lease' } @r;

    is_deeply([ grep { $_->{status} != 200 } @r ], [], "$name: all pass");
    ok($min ? $lease >= $min : $lease == 0, "$name: by a lease or not")
        or diag "$lease by a lease";

    if ($uri ne '/') {
        my $first = $r[0]{left};
        is_deeply([ map { $_->{left} } @r ],
                  [ map { $first - $_ } 0 .. $n - 1 ],
                  "$name: remaining goes down by one each");
    }

    my @windows = $uri eq '/two' ? qw(auto day) : $uri =~ m{/(.+)};

    charges_are($key, { map { $_ => $n } 'calls', @windows }, $name);
}


# full windows, and overrides

my $key = $t->create_key;
my @r   = ask($key, ('/full') x 800);
is(scalar(grep { $_->{status} == 200 } @r), 640, 'all of the quota');
is(scalar(grep { $_->{status} == 429 } @r), 160, 'and no more');
ok((grep { $_->{source} eq 'zone' } @r) > 100, 'refused without Redis')
    or diag scalar grep { $_->{source} eq 'zone' } @r;
charges_are($key, { calls => 640, full => 640, limited => 160 },
            'a full window');

$key = $t->create_key(limit => ['full=1280r/1h']);
@r = ask($key, ('/full') x 1300);
is(scalar(grep { $_->{status} == 200 } @r), 1280, "the key's own limit");
charges_are($key, { calls => 1280, full => 1280, limited => 20 },
            'its own limit');


# costs, locations and secrets; three sets of windows are more than a key has
# leases for, and permits that are thrown away would be missing

$key = $t->create_key;
@r = ask($key, map { ("/cost?cost=1", "/cost?cost=3") } 1 .. 50);
ok((grep { $_->{source} eq 'lease' } @r) >= 90, 'two costs: leases');
charges_are($key, { calls => 100, auto => 200 }, 'two costs');

$key = $t->create_key;
@r = ask($key, map { "/cost?cost=$_" } map { (1, 2, 3, 5, 8) } 1 .. 40);
charges_are($key, { calls => 200, auto => 760 }, 'variable costs');

$key = $t->create_key;
@r = ask($key, ('/a', '/b') x 40);
ok((grep { $_->{source} eq 'lease' } @r) >= 70, 'two locations: leases');
charges_are($key, { calls => 80, a => 40, b => 40 }, 'two locations');

$key = $t->create_key;
ask($key, ('/a', '/b', '/c') x 40);
charges_are($key, { calls => 120, a => 40, b => 40, c => 40 },
            'three locations');

$key = $t->create_key;
ask($key, ('/auto') x 5);
my $second = make_key(id => $key->{id});
$t->redis(HSET => "rbgv:key:{$key->{id}}", 'secret:' . digest($second, $pepper),
          $t->redis(HGET => "rbgv:key:{$key->{id}}",
                    'secret:' . digest($key->{key}, $pepper)));
wait_for(sub { (ask({ key => $second }, '/auto'))[0]{status} == 200 },
         'the second secret');
my %uses = ($key->{key} => 30, $second => 45);

ask($key, ('/auto') x 25);
ask({ key => $second }, ('/auto') x 44);
charges_are($key, { calls => 75, auto => 75 }, 'two secrets');

my $rotated = $key;


# many at once, in both workers

$key = $t->create_key;
my $n     = 5000;
my @uris  = ('/auto', '/off');
my %seen;
my $count = Test::Rbgv::Load->new(
    ports       => [ $t->port(0) ],
    connections => 16,
    request     => [ map { Test::Rbgv::request_text('GET', $_,
                                                    key => $key->{key}) }
                     @uris ],
    seen        => sub { $seen{ $uris[ $_[0] ] }++ },
)->run(sub { $n-- > 0 });

is($count->{200}, $seen{'/auto'} + $seen{'/off'}, 'many at once: all pass');
charges_are($key, { calls => $count->{200}, auto => $seen{'/auto'},
                    off => $seen{'/off'} }, 'many at once');


# what has been charged

eval { wait_for(sub {
    !grep {
        my ($key, $expected) = @$_;
        my $usage = charges($key);
        grep { ($usage->{$_} // 0) != $expected->{$_} } keys %$expected;
    } @charges;
}, 'charges', 12) };

for (@charges) {
    my ($key, $expected, $name) = @$_;

    is_deeply(charges($key), $expected,
              "$name: charged exactly, the rest is given back");
}

my %use = $t->redis(HGETALL => "rbgv:use:{$rotated->{id}}");

for (sort keys %uses) {
    is($use{ 's:' . substr digest($_, $pepper), 0, 16 }, $uses{$_},
        'uses of a secret');
}

my $hours = substr digest($second, $pepper), 0, 16;
is(sum0(map { $use{$_} } grep { /^u:\d+:$hours$/ } keys %use), 45,
   'by the hour, though the lease is older than the secret');


# a key that comes back may do so only once: a lease begins with the next

is(join(' ', map { $_->{source} } ask($rotated, ('/auto') x 3)),
   'redis redis lease', 'after a rest: one request alone, then a lease');


# nothing is lost by a graceful quit

$key = $t->create_key;
ask($key, ('/auto') x 50, ('/own') x 20);
cmp_ok(usage($t, $key->{id})->{auto}, '>', 50, 'permits at hand are deducted');

ok($t->stop, 'quit');
is_deeply(charges($key), { calls => 70, auto => 50, own => 20 },
          'quit: uses are told, permits are given back');

$t->done;
