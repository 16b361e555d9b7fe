# Replies in pieces, late, cut after each byte, or reset: what is said to the
# end is understood, and nothing else is.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;
use Test::Rbgv::Proxy;

my $t = Test::Rbgv->new;

$t->start_redis(acl => 0);

my %key = map { $_ => $t->create_key(name => "$_-prod") } qw(alice bob);

my $proxy = Test::Rbgv::Proxy->new(listen => $t->dir . '/proxy.sock',
                                   to => $t->redis_server->socket);
my $tcp   = Test::Rbgv::Proxy->new(listen => $t->port('tcp'),
                                   to => $t->redis_server->socket);

# a lane is a store of its own, with a connection and a back-off of its own
my $lanes = 16;
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
    rbgv_auth_redis unix:%%DIR%%/proxy.sock;
    rbgv_auth_redis_timeout 300ms;
    rbgv_auth_pepper_file %%DIR%%/pepper;

    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth on;
        rbgv_auth_limit default 1000000r/1m;
        rbgv_auth_limit_unavailable deny;
        add_header X-Key \$rbgv_auth_key_id always;

        location / { empty_gif; }
        location = /tcp {
            rbgv_auth_redis redis://127.0.0.1:%%PORT_tcp%%;
            empty_gif;
        }
        $lane_conf
    }
}
EOC

my ($worker) = $t->nginx->workers;


sub status {
    my ($uri) = @_;

    return $t->get($uri // '/', key => $key{alice}{key})->{status};
}


# both at once, so that their commands are under way together
sub both {
    my @names = qw(alice bob);

    my %connection = map {
        $_ => $t->connect->send(Test::Rbgv::request_text('GET', '/',
                                    key => $key{$_}{key}, close => 1))
    } @names;

    return map { { %{ $connection{$_}->response }, id => $key{$_}{id} } }
           @names;
}


sub descriptors { return scalar(my @all = glob "/proc/$worker/fd/*") }


sub recovers {
    my ($uri) = @_;

    $proxy->rule;
    wait_for(sub { status($uri) == 200 }, 'recovery');
    return 1;
}


# right, if slow

for (
    [ 'fault 6: replies by one byte',    pieces => 1 ],
    [ 'fault 6: replies by seven bytes', pieces => 7 ],
    [ 'fault 4: late replies',           delay => 0.05 ],
) {
    my ($name, @rule) = @$_;
    $proxy->rule(@rule);

    my @got = map { both() } 1 .. 5;

    is_deeply([ map { "$_->{status} $_->{headers}{'x-key'}[0]" } @got ],
              [ map { ("200 $key{alice}{id}", "200 $key{bob}{id}") } 1 .. 5 ],
              $name);
}


# a whole conversation, cut after each byte

recovers();

my $before = $proxy->stats->{bytes};
is(status('/lane1'), 200, 'a conversation');
my $whole = $proxy->stats->{bytes} - $before;
my ($n, %outcome) = 0;

# a number in it may be shorter or longer the next time
for ($n = 0; !$outcome{200} && $n <= $whole + 12; $n++) {
    my $uri = '/lane' . (2 + $n % ($lanes - 1));
    my $cut = $proxy->rule(cut => $n)->{cut};

    # until nginx does not back off
    wait_for(sub {
        # the proxy may tell a moment later than nginx
        return 1 if $proxy->stats->{cut} > $cut;
        $outcome{ status($uri) }++;
        return $proxy->stats->{cut} > $cut;
    }, "a cut after $n bytes");
}

is_deeply([ sort keys %outcome ], [ 200, 503 ],
          'fault 5: cut: unavailable or good')
    or diag explain \%outcome;
# on a busy machine the replies to the login, 52 bytes, may have come before
cmp_ok($n, '>', $whole - 64, "fault 5: good with all of $whole bytes only");
ok(recovers(), 'fault 5: cut: works again');
cmp_ok(descriptors(), '<', $lanes + 50, "fault 5: $n connections are closed");

$tcp->rule(reset => 30);
is(status('/tcp'), 503, 'fault 5: reset within the login');
$tcp->rule;
wait_for(sub { status('/tcp') == 200 }, 'recovery');
$tcp->rule(reset => 1);
is(status('/tcp'), 503, 'fault 5: reset within a reply');

is(($t->nginx->workers)[0], $worker, 'fault 5: still the same worker');

$t->done;
