# Replies of which a byte is another one: nobody is let pass who is not good,
# or taken for another, and a worker goes on.  Only TLS sees all of them: without
# it, a good key may be refused, and a number or a time be another one.
#
# RBGV_LONG=1: each of the eight bits, and not only the lowest.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;
use Test::Rbgv::Key qw(make_key);
use Test::Rbgv::Proxy;

my @masks = map { 1 << $_ } 0 .. ($ENV{RBGV_LONG} ? 7 : 0);

my $t = Test::Rbgv->new;
# whatever the changed byte makes of a reply
$t->allow_alert(qr/rbgv_auth: (?:redis|the store) "/);

$t->start_redis(acl => 0);

my %key = map { $_ => $t->create_key(name => "$_-prod") } qw(good disabled);
$t->rbgvctl('disable', $key{disabled}{id});

$key{unknown} = { key => make_key() };
$key{wrong}   = { key => make_key(id => $key{good}{id}) };

my $proxy = Test::Rbgv::Proxy->new(listen => $t->dir . '/proxy.sock',
                                   to => $t->redis_server->socket);

# a lane is a store of its own, with a connection and a back-off of its own
my $lanes = 24;
my $lane_conf = '';

for my $n (1 .. $lanes) {
    symlink $t->dir . '/proxy.sock', $t->dir . "/lane$n.sock" or die $!;
    $lane_conf .= "location = /lane$n { empty_gif; "
        . "rbgv_auth_redis unix:%%DIR%%/lane$n.sock; }\n";
}

$t->write_conf(<<"EOC")->start_nginx;
%%TEST_GLOBALS%%
worker_processes 1;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    rbgv_auth_zone off;
    rbgv_auth_redis_timeout 200ms;
    rbgv_auth_pepper_file %%DIR%%/pepper;

    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth on;
        rbgv_auth_limit default 1000000r/1m;
        rbgv_auth_limit_unavailable deny;
        add_header X-Key \$rbgv_auth_key_id always;
        $lane_conf
    }
}
EOC

my ($worker) = $t->nginx->workers;
my $lane = 0;


# The answers to somebody, one of them while byte N of the reply to a command
# is another one; none if the reply is not that long.
sub answers {
    my ($name, $command, $n, $mask) = @_;

    my $uri    = '/lane' . (1 + $lane++ % $lanes);
    my $before = $proxy->rule(on => $command, corrupt => $n, mask => $mask);
    my ($now, %seen);

    # until nginx does not back off
    wait_for(sub {
        my $r  = $t->get($uri, key => $key{$name}{key});
        my $id = $r->{headers}{'x-key'}[0] // 'nobody';

        $seen{ $r->{status} == 200 && $id ne $key{$name}{id}
               ? "200 as $id" : $r->{status} }++;

        $now = $proxy->stats;
        return $now->{treated} > $before->{treated};
    }, "byte $n for $command");

    return $now->{corrupted} > $before->{corrupted} ? keys %seen : ();
}


# who, what is asked for him, and which answers are no promise broken
my @cases = (
    [ 'good',     'HGETALL', qr/^(?:200|401|503)$/ ],
    [ 'good',     'EVALSHA', qr/^(?:200|429|503)$/ ],
    [ 'disabled', 'HGETALL', qr/^(?:401|503)$/ ],
    [ 'wrong',    'HGETALL', qr/^(?:401|503)$/ ],
    [ 'unknown',  'HGETALL', qr/^(?:401|503)$/ ],
    [ 'unknown',  'HGET',    qr/^(?:401|503)$/ ],
);

for my $case (@cases) {
    my ($name, $command, $allowed) = @$case;
    my ($bytes, %seen) = (0);

    for my $mask (@masks) {
        for (my $n = 0; my @answers = answers($name, $command, $n, $mask);
             $n++)
        {
            $seen{$_}++ for @answers;
            $bytes++;
        }
    }

    is_deeply([ grep { !/$allowed/ } keys %seen ], [],
        "fault 8: $bytes bytes of $command, a key that is $name");
    note join ', ', map { "$_: $seen{$_}" } sort keys %seen;
}

$proxy->rule;
is(($t->nginx->workers)[0], $worker, 'fault 8: still the same worker');

$t->done;
