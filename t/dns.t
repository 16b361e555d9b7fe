# Name servers that do not answer while nginx starts and while it is reloaded:
# the last address of the store stays in use, and no request waits for a name.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;
use Test::Rbgv::Dns;
use Test::Rbgv::Load;

# a mount of its own, and the port of name servers
plan skip_all => 'not root, or in a container' if system 'unshare -m true';

my $t = Test::Rbgv->new;

$t->start_redis(tcp => 1, acl => 0);
$t->allow_alert(qr/\[emerg\] \d+#\d+: host not found in "rbgv_auth_redis"/);

my $key  = $t->create_key;
my $port = $t->redis_server->port;

# of the system, for the configuration; and that of "resolver"
my $system = Test::Rbgv::Dns->new(
    file    => $t->dir . '/system',
    address => join('.', 127, map { 1 + int rand 250 } 1 .. 3),
    port    => 53,
);
my $dns = Test::Rbgv::Dns->new(file => $t->dir . '/dns');
my $at  = '127.0.0.1:' . $dns->port;

my $resolv = $t->write_file('resolv.conf', 'nameserver ' . $system->address
                            . "\noptions timeout:1 attempts:1\n");
my $program = $ENV{RBGV_NGINX} // 'nginx';

$ENV{RBGV_NGINX} = $t->write_file('nginx-in-mount', <<"EOS");
#!/bin/sh
[ "\$MOUNTED" ] || MOUNTED=1 exec unshare -m "\$0" "\$@"
mount --bind '$resolv' /etc/resolv.conf && exec $program "\$@"
EOS

chmod 0755, $ENV{RBGV_NGINX} or die $!;


sub conf {
    my ($n, $resolver) = @_;

    return <<"EOC";
%%TEST_GLOBALS%%
worker_processes 1;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    rbgv_auth_pepper_file %%DIR%%/pepper;
    rbgv_auth_redis redis://store.test.invalid:$port;
    rbgv_auth_redis_timeout 9s;
    $resolver
    server {
        listen 127.0.0.1:%%PORT_$n%%;
        rbgv_auth on;
        rbgv_auth_limit default 1000000r/1m;
        location / { empty_gif; }
        location /again { empty_gif; }
        location /open { rbgv_auth off; empty_gif; }
    }
}
EOC
}


sub status { return $t->get('/', port => $_[0], key => $key->{key})->{status} }

sub logged {
    my ($nginx, $line) = @_;

    return scalar(() = $nginx->read_log('error.log') =~ /$line/g);
}

# what all are answered while CODE runs
sub under_load {
    my ($n, $code) = @_;

    my $stop = Test::Rbgv::Load->new(
        ports       => [ $t->port($n) ],
        connections => 2,
        pauses      => 0.01,
        request     => Test::Rbgv::request_text('GET', '/',
                                                key => $key->{key}),
    )->start($t->dir . '/answers');

    $code->();

    my %status;
    $status{ $_->[1] }++ for @{ $stop->() };
    # on connections that were idle when their worker went
    delete $status{retried};

    return join ' ', sort keys %status;
}


# Without "resolver" the new configuration is refused, and the old one stays.

my $plain = $t->nginx('plain');

$system->answer('127.0.0.1');
$plain->write_conf(conf(0, ''))->start;
is(status(0), 200, 'a name that is known');

my @workers = $plain->workers;

$system->silent;
is(under_load(0, sub {
    $plain->process->signal('HUP');
    wait_for(sub { logged($plain, qr/\[emerg\].*host not found/) },
             'the reload to fail');
}), 200, 'fault 27: no resolver, a reload: nobody waits or is refused');

is_deeply([ $plain->workers ], \@workers,
          'fault 27: no resolver, a reload: the old workers stay');

$t->redis('CLIENT', 'KILL', 'TYPE', 'normal');
ok(wait_for(sub { status(0) == 200 }, 'another connection'),
   'fault 27: no resolver: connects again, by the last address');
$plain->stop;


# With one, it starts without an address.

my $nginx = $t->nginx('resolver');

$dns->silent;
$nginx->write_conf(conf(1, "resolver $at ipv6=off; resolver_timeout 1s;"))
    ->start;

refused($t->get('/', port => 1, key => $key->{key}), 503, 'auth_unavailable',
        'fault 27: a start without names');
is($t->get('/open', port => 1)->{status}, 200,
   'fault 27: a start without names: others are served');
is(logged($nginx, qr/\[warn\].*host not found .*: the store is unavailable/),
   1, 'fault 27: a start without names: logged');
wait_for(sub { logged($nginx, qr/"store\.test\.invalid" could not be/) },
         'the log');

$dns->answer('127.0.0.1');
ok(wait_for(sub { status(1) == 200 }, 'a name'),
   'fault 27: a start without names: good when there are some');


# And what was known to the configuration before is used.

$system->answer('127.0.0.1');
$nginx->reload;
is(status(1), 200, 'a name that is known');

$system->silent;
$dns->silent;

for my $time (1, 2) {
    is(under_load(1, sub { $nginx->reload }), 200,
       "fault 27: a reload, $time: nobody waits or is refused");
    is(status(1), 200, "fault 27: a reload, $time: its last address");
    is(logged($nginx, qr/\[warn\].*host not found.*: its last addresses stay/),
       $time, "fault 27: a reload, $time: logged");
}

$t->done;
