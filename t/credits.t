# Prepaid credits: spent with the windows or not at all, never below zero on
# any number of hosts, given back when a lease ends.

use strict;
use warnings;

use List::Util qw(sum0);
use Test::More;
use Time::HiRes qw(time);

use Test::Rbgv;
use Test::Rbgv::Load;
use Test::Rbgv::Process;

my $t = Test::Rbgv->new;

$t->start_redis;

for my $host (0, 1) {
    $t->nginx("host$host")->write_conf(<<"EOC")->start;
%%TEST_GLOBALS%%
worker_processes 4;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth on;
    rbgv_auth_redis_timeout 5s;
    rbgv_auth_lease auto;
    keepalive_requests 1000000;
    add_header X-Source \$rbgv_auth_source always;
    add_header X-Pid \$pid always;

    server {
        listen 127.0.0.1:%%PORT_$host%%;

        location / { rbgv_auth_credits \$arg_price; empty_gif; }
        location /two { rbgv_auth_credits 2; empty_gif; }
        location /full { rbgv_auth_credits 2; rbgv_auth_limit full 1r/1h;
                         empty_gif; }
        location /limits { rbgv_auth_credits 1;
                           rbgv_auth_limit limits 100000r/1h; empty_gif; }
        location /off { rbgv_auth_credits off; empty_gif; }
        location /dry { rbgv_auth dry_run; rbgv_auth_credits 2; empty_gif; }
        location /moved { try_files /none /two; }
    }
}
EOC
}


# a key with so many credits, or with none ever granted
sub key {
    my ($credits) = @_;

    return $t->create_key(defined $credits ? (credits => $credits) : ());
}


sub field {
    my ($key, $field) = @_;

    return $t->redis(HGET => "rbgv:use:{$key->{id}}", $field) // 0;
}

sub spent { field($_[0], 'credits') }

sub get { $t->get($_[1], key => $_[0]{key}) }

sub is_spent {
    my ($key, $credits, $name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    ok(eval { wait_for(sub { spent($key) == $credits }, 'credits') }, $name)
        or diag(spent($key));
}


my $none = key();

refused(get($none, '/two'), 402, 'insufficient_credits', 'none was granted');
is(get($none, '/?price=0')->{status}, 200, 'what is free needs none');
is(get($none, '/off')->{status}, 200, 'off');
refused(get($none, '/?price=x'), 503, 'auth_unavailable', 'no number');
is(spent($none), 0, 'nothing was spent');

my $five = key(5);

is(join(' ', map { get($five, '/two')->{status} } 1 .. 4), '200 200 402 402',
   'five credits for calls of two');
is(spent($five), 4, 'the balance is untouched');
is(get($five, '/?price=1')->{status}, 200, 'one for a call of one');

my $day = int time / 86400;

ok(wait_for(sub { field($five, "r:$day:credits")
                  + field($five, 'r:' . ($day + 1) . ':credits') == 2 },
            'the report'), 'refusals are accounted');

$t->redis(HINCRBY => "rbgv:key:{$five->{id}}", 'credits', 4);
ok(wait_for(sub { get($five, '/two')->{status} == 200 }, 'the top-up'),
   'granted more');
is_spent($five, 7, 'spent of it');

my $full = key(100);

is(get($full, '/full')->{status}, 200, 'in the window');
is(get($full, '/full')->{status}, 429, 'a full window');
is(spent($full), 2, 'spends nothing');

my $poor = key(1);

is(get($poor, '/full')->{status}, 402, 'not enough credits');
is((get($poor, '/full')->{headers}{'ratelimit'} // [''])->[0] =~ /r=(\d+)/
   && $1, 1, 'charge no window');

my $dry = key(2);

is(join(' ', map { get($dry, '/dry')->{status} } 1 .. 9), '200 ' x 8 . '200',
   'a dry run');
is(get($dry, '/two')->{status}, 200, 'spends nothing');
is_spent($dry, 2, 'but where it is enforced');

is(get(my $moved = key(3), '/moved')->{status}, 200, 'redirected');
is(spent($moved), 2, 'spent once');


# leases

my $rich = key(1_000_000);
my %source;

for (1 .. 300) {
    my $r = get($rich, '/?price=3');
    $source{ $r->{headers}{'x-source'}[0] }++;
}

cmp_ok($source{lease} // 0, '>', 200, 'most by a lease');
cmp_ok(spent($rich), '>=', 900, 'spent before');
is_spent($rich, 900, 'and the rest is given back');

my $limits = key(1_000_000);

get($limits, '/limits') for 1 .. 10;
cmp_ok(spent($limits), '>', 10, 'a lease has more');
$t->redis(HSET => "rbgv:key:{$limits->{id}}", 'limit:limits', '9r/1h');
ok(wait_for(sub { get($limits, '/limits')->{status} == 429 }, 'the limit'),
   'its limit is another');
is_spent($limits, 10, 'and the lease has given back its credits');


# a worker that is held up while another asks Redis, who refuses nothing

SKIP: {
    skip 'not root, who may trace any process', 2 if $> != 0;
    skip 'a program within valgrind', 2 if $ENV{RBGV_VALGRIND};

    my $dir  = $t->dir;
    my $last = key(100);
    my $ask  = sub {
        my $response = $_[0]->send(Test::Rbgv::request_text('GET', '/two',
            key => $last->{key}))->response;

        return ($response->{status}, $response->{headers}{'x-pid'}[0]);
    };

    my $held = $t->connect;
    my (undef, $pid) = $ask->($held);
    my $free = wait_for(sub {
        my $c = $t->connect;
        ($ask->($c))[1] != $pid && $c;
    }, 'another worker');

    my $gdb = Test::Rbgv::Process->new(
        command => [ qw(gdb -q -nx -batch -p), $pid, map { ('-ex', $_) }
                     'break ngx_http_rbgv_auth_zone_take',
                     "shell touch '$dir/traced'", 'continue',
                     "shell touch '$dir/held'",
                     "shell until [ -e '$dir/go' ]; do sleep 0.1; done",
                     'detach' ],
        env     => { DEBUGINFOD_URLS => '' },
        log     => "$dir/gdb.log",
    );

    wait_for(sub { -e "$dir/traced" }, 'gdb', 60);
    $held->send(Test::Rbgv::request_text('GET', '/two', key => $last->{key}));
    wait_for(sub { -e "$dir/held" }, 'a worker that is held up', 60);

    is(join(' ', map { ($ask->($free))[0] } 1 .. 4), '200 200 200 200',
       'another worker goes on');
    $t->write_file('go', '');
    is($held->response->{status}, 200, 'and the one that was held up');
    $gdb->wait(60);
}


# 8 workers of 2 hosts, calls of 1 to 7

my $credits  = 10_000;
my $shared   = key($credits);
my $admitted = 0;
my $end      = time + 60;

my $count = Test::Rbgv::Load->new(
    ports       => [ $t->port(0), $t->port(1) ],
    connections => 56,
    pause       => 0.02,
    request     => [ map {
        Test::Rbgv::request_text('GET', "/?price=$_", key => $shared->{key})
    } 1 .. 7 ],
    seen        => sub { $admitted += 1 + $_[0] if $_[1] eq '200' },
)->run(sub { $admitted <= $credits - 7 && time < $end });

note "$admitted of $credits credits: ",
    join ', ', map { "$_: $count->{$_}" } sort keys %$count;

cmp_ok($admitted, '<=', $credits, 'no more than there were');
cmp_ok($admitted, '>', $credits - 7, 'and less is left than a call costs');
is_spent($shared, $admitted, 'spent is what was admitted');
is(join(' ', grep { !/^(?:200|402)$/ && $count->{$_} } sort keys %$count), '',
   'nothing but 200 and 402');

$t->done;
