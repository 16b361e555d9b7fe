# A store by its name: another address of it is followed, and a name server
# that is away, or knows nothing, changes nothing and keeps nobody waiting.

use strict;
use warnings;

use JSON::PP qw(decode_json);
use Test::More;
use Time::HiRes qw(time);

use Test::Rbgv;
use Test::Rbgv::Conf;
use Test::Rbgv::Dns;
use Test::Rbgv::Load;
use Test::Rbgv::Redis;

my $t     = Test::Rbgv->new;
my $first = $t->start_redis(tcp => 1, acl => 0);
my $port  = $first->port;

my $second = Test::Rbgv::Redis->new(
    dir    => $t->dir . '/second',
    port   => $port,
    config => ['bind 127.0.0.2'],
)->start;

my $dns = Test::Rbgv::Dns->new(file => $t->dir . '/dns');
my $at  = '127.0.0.1:' . $dns->port;

sub ctl {
    my ($redis, @args) = @_;

    my ($exit, $out, $err) = $t->rbgvctl('--redis', $redis->uri, @args);
    die "rbgvctl @args: $out$err" if $exit;
    return $out;
}

sub create {
    my $json = decode_json(ctl($_[0], qw(--json create --name api-gateway-prod
                                         --environment prod --owner tests)));
    return $json->{api_key};
}

ctl($second, 'init');

# each server knows one
my $here  = create($first);
my $there = create($second);

my $conf = <<"EOC";
%%TEST_GLOBALS%%
worker_processes 1;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    rbgv_auth_pepper_file %%DIR%%/pepper;
    rbgv_auth_redis redis://store.test.invalid:$port;
    # resolver
    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth on;
        rbgv_auth_limit default 1000000r/1m;
        location / { empty_gif; }
        location /open { rbgv_auth off; empty_gif; }
    }
}
EOC

sub status { return $t->get('/', key => $_[0])->{status} }

sub follows {
    my ($name, $good, $bad) = @_;

    ok(wait_for(sub { status($good) == 200 && status($bad) == 401 },
                'the server'), $name);
}

sub logged { return $t->read_log('error.log') =~ $_[0] }


# without a resolver, as ever

like($t->check_conf($conf),
     qr/\[emerg\] host not found in "rbgv_auth_redis", address "store\.test/,
     'fault 27: no resolver: no address, no start');


# with one, it is unavailable at first

(my $resolver = $conf)
    =~ s/# resolver/resolver $at ipv6=off;
                     resolver_timeout 1s;/;

$t->write_conf($resolver)->start_nginx;

is(status($here), 503, 'no such name');
wait_for(sub { logged(qr/"store\.test\.invalid" could not be resolved: Host/) },
         'the log');
is($t->get('/open')->{status}, 200, 'others are served');

$dns->answer('127.0.0.1');
follows('an address', $here, $there);
ok(logged(qr/"store\.test\.invalid" is resolved again/), 'and logged');


# another address, under load

my ($moved, $until);
my $count = Test::Rbgv::Load->new(
    ports       => [ $t->port(0) ],
    connections => 4,
    pauses      => 0.005,
    request     => Test::Rbgv::request_text('GET', '/', key => $there),
    seen        => sub { $moved = time if $_[1] eq '200' },
)->run(sub {
    $dns->answer('127.0.0.2') if !$until;
    $until //= time + 20;
    return !$moved && time < $until;
});

is($count->{failed}, 0, 'fault 27: it moves: all are answered');
follows('it has moved', $there, $here);
ok(logged(qr/moved from 127\.0\.0\.1:$port to 127\.0\.0\.2:$port/),
   'it has moved: logged');


# no answers, and none that helps

for my $mode (qw(silent nobody)) {
    my $lines = () = $t->read_log('error.log') =~ /could not be resolved/g;

    $dns->$mode;
    wait_for(sub {
        my $now = () = $t->read_log('error.log') =~ /could not be resolved/g;
        $now > $lines;
    }, 'the log');
    follows("fault 27: $mode: its last address stays", $there, $here);

    # the one that it has is made anew
    $second->command('CLIENT', 'KILL', 'TYPE', 'normal');
    follows("fault 27: $mode: connects again", $there, $here);

    $dns->answer('127.0.0.2');
    wait_for(sub {
        ($t->read_log('error.log') =~ /(.*(?:could not be|is) resolved.*)\n?\z/s
            ? $1 : '') =~ /is resolved again(?!.*could not be)/s;
    }, 'an answer');
}

$second->stop;
$t->done;
