# Random histories of many keys at a time, on two hosts: keys and secrets are
# disabled, rotated, deleted and come back, while channels hang, connections
# are cut, replies are late and workers die.  Each answer is judged by an
# oracle that knows when Redis was told what: nobody passes who had no right
# to for longer than the bound, and nobody is refused as unknown who had.
#
# RBGV_LONG=N: N seconds, and the bound of 1 s holds as it is; otherwise a
# busy machine may take 1 s more.  RBGV_SEED=N: the same changes.

use strict;
use warnings;

use List::Util qw(max);
use Test::More;
use Time::HiRes qw(sleep time);

use Test::Rbgv;
use Test::Rbgv::Key qw(digest make_key);
use Test::Rbgv::Load;
use Test::Rbgv::Proxy;

my $seconds = $ENV{RBGV_LONG} || 7;
my $bound   = $ENV{RBGV_LONG} ? 1 : 2;
my $seed    = $ENV{RBGV_SEED} // time % 1e6;
my @hosts   = qw(a b);

srand $seed;
diag("RBGV_SEED=$seed");

my $t = Test::Rbgv->new;

$t->start_redis(acl => 0);
$t->allow_alert(qr/exited on signal 9/);
$t->create_key;        # makes the pepper

my $pepper = $t->read_file('pepper') =~ s/\n.*//rs;
my %proxy  = map { $_ => start_host($_) } @hosts;


sub start_host {
    my ($host) = @_;

    my $proxy = Test::Rbgv::Proxy->new(listen => $t->dir . "/$host.sock",
                                       to => $t->redis_server->socket);

    $t->nginx($host)->write_conf(<<"EOC")->start;
%%TEST_GLOBALS%%
worker_processes 2;
error_log error.log warn;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    access_log off;
    %%REDIS%%
    rbgv_auth on;
    rbgv_auth_lease auto;
    keepalive_requests 10000000;

    server {
        listen 127.0.0.1:%%PORT_$host%%;
        rbgv_auth_redis unix:%%DIR%%/$host.sock;
        rbgv_auth_limit default 1000000r/1m;
        location / { empty_gif; }
    }
}
EOC

    return $proxy;
}


# Keys with two secrets each.  A line of time has what holds since when: since
# the command was sent at the earliest, since it had returned at the latest.

my (@keys, @secrets);

for my $n (1 .. 20) {
    my %key = (name => sprintf('rbgv:key:{%012d}', $n), there => 1,
               active => 1, secrets => []);

    for my $letter (qw(a b)) {
        my $text   = make_key(id => sprintf('%012d', $n), secret => $letter x 32);
        my %secret = (text => $text, field => 'secret:' . digest($text, $pepper),
                      there => 1, active => 1, times => [ [ 0, 0, 1 ] ]);

        push @{ $key{secrets} }, \%secret;
        push @secrets, \%secret;
    }

    push @keys, \%key;
    $t->redis(HSET => $key{name}, record(\%key));
}


sub record {
    my ($key) = @_;

    return name => 'model-keys-prod', environment => 'prod', created => 1,
        status => $key->{active} ? 'active' : 'disabled',
        map { $_->{field} => state_of($_) }
        grep { $_->{there} } @{ $key->{secrets} };
}


sub state_of { ($_[0]{active} ? 'active' : 'disabled') . ' 1 0' }


# one command that changes a key
sub change {
    my ($key) = @_;

    my $secret = $key->{secrets}[ rand 2 ];
    my $what   = rand;
    my @command;

    if (!$key->{there}) {
        $key->{there} = 1;
        @command = (HSET => $key->{name}, record($key));

    } elsif ($what < 0.15) {
        $key->{there} = 0;
        @command = (DEL => $key->{name});

    } elsif ($what < 0.5) {
        $key->{active} = !$key->{active};
        @command = (HSET => $key->{name}, record($key));

    } elsif ($what < 0.75 && $secret->{there}) {
        $secret->{there} = 0;
        @command = (HDEL => $key->{name}, $secret->{field});

    } else {
        $secret->{active} = !$secret->{there} || !$secret->{active};
        $secret->{there}  = 1;
        @command = (HSET => $key->{name}, $secret->{field}, state_of($secret));
    }

    my $sent = time;
    $t->redis(@command);
    my $returned = time;

    for (@{ $key->{secrets} }) {
        my $good = $key->{there} && $key->{active} && $_->{there}
                   && $_->{active} ? 1 : 0;

        push @{ $_->{times} }, [ $sent, $returned, $good ]
            if $good != $_->{times}[-1][2];
    }
}


# what Redis, and the way to it, may do to a host
sub trouble {
    my ($host) = @_;

    my @rules = (
        ({}) x 5,
        { channel => 1, hold => 1 },
        { channel => 1, close => 1 },
        { on => 'HGETALL', delay => 0.05 },
        { on => 'HGETALL', hold => 1 },
        { delay => 0.02 },
        { hold => 1 },
        { close => 1 },
    );

    $proxy{$host}->rule(%{ $rules[ rand @rules ] });

    return if rand() > 0.1;

    my @workers = $t->nginx($host)->workers;
    kill 'KILL', $workers[ rand @workers ];
}


# the oracle: was it so at any time from then to then?
sub was {
    my ($secret, $good, $from, $to) = @_;

    my $times = $secret->{times};

    for my $i (0 .. $#$times) {
        next if $times->[$i][2] != $good;
        return 1 if $times->[$i][0] <= $to
                    && ($i == $#$times || $times->[ $i + 1 ][1] >= $from);
    }

    return 0;
}


# since when it has had no right
sub lag {
    my ($secret, $sent, $came) = @_;

    return 0 if was($secret, 1, $sent, $came);

    my ($last) = grep { $_->[1] <= $sent } reverse @{ $secret->{times} };
    return $sent - $last->[1];
}


my $stop = Test::Rbgv::Load->new(
    ports       => [ map { $t->port($_) } @hosts ],
    connections => 2 * @secrets,
    pauses      => 0.05,
    gone        => 1,
    request     => [ map { Test::Rbgv::request_text('GET', '/',
                                                    key => $_->{text}) }
                     @secrets ],
)->start($t->dir . '/answers');

my $end = time + $seconds;
my ($changes, $next) = (0, time + 0.5);

while (time < $end) {
    change($keys[ rand @keys ]);
    $changes++;

    if (time > $next) {
        trouble($hosts[ rand @hosts ]);
        $next = time + rand 1;
    }

    sleep rand 0.04;
}

$proxy{$_}->rule for @hosts;

my $answers = $stop->();
my (%count, @passed, @refused);
my ($good, $lag) = (0, 0);

for (@$answers) {
    my ($n, $status, $sent, $came) = @$_;
    my $secret = $secrets[$n];

    $count{$status}++;
    $good++ if !was($secret, 0, $sent - $bound, $came);
    $lag = max $lag, lag($secret, $sent, $came) if $status eq '200';

    my $name = sprintf '%s at %.3f, %.3f s', @{$secret}{text}, $sent - $end,
        $came - $sent;

    push @passed, $name
        if $status eq '200' && !was($secret, 1, $sent - $bound, $came);
    push @refused, $name
        if $status eq '401' && !was($secret, 0, $sent - $bound, $came);
}

diag(sprintf '%d changes of %d keys, %s; longest after a revocation %.3f s',
     $changes, scalar @keys,
     join(', ', map { "$count{$_} $_" } sort keys %count), $lag);

is_deeply(\@passed, [], "nobody passes $bound s after a revocation");
is_deeply(\@refused, [], 'nobody is refused who has had a right for so long');
is_deeply([ grep { !/^(?:200|401|503|gone|retried)$/ } keys %count ], [],
          'no other answers');
cmp_ok($count{200} // 0, '>', 0.4 * $good, 'most of those who may do pass');
cmp_ok($count{401} // 0, '>', @$answers / 20, 'and many are refused');

$t->done;
