# Records that are used while Redis is away: those that were good when it was
# heard last, for the time that the location says, and no other; and none if
# it is the login that is wrong.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;
use Test::Rbgv::Key qw(make_key);
use Test::Rbgv::Proxy;

my $t = Test::Rbgv->new;
$t->allow_alert(qr/connect\(\) to unix:\S+ failed \(2:/,
                qr/"AUTH" was refused: "WRONGPASS /,
                qr/is empty or foreign/);
$t->allow_refused(qw(LOADING NOPERM));

$t->start_redis;

my $proxy = Test::Rbgv::Proxy->new(listen => $t->dir . '/proxy.sock',
                                   to => $t->redis_server->socket);

sub conf {
    my ($port, $redis) = @_;

    return <<"EOC";
%%TEST_GLOBALS%%
worker_processes 2;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth_redis_timeout 2s;
    rbgv_auth_unavailable stale=1h;
    rbgv_auth_limit default 1000000r/1m;
    add_header X-Source \$rbgv_auth_source always;
    add_header X-Status \$rbgv_auth_status always;

    server {
        listen 127.0.0.1:%%PORT_$port%%;
        $redis
        rbgv_auth on;
        location / { empty_gif; }
        location /deny { rbgv_auth_unavailable deny; empty_gif; }
        location /short { rbgv_auth_unavailable stale=3s; empty_gif; }
        location /allow { rbgv_auth_limit_unavailable allow; empty_gif; }
        location /dev { rbgv_auth_environment dev; empty_gif; }
        location /to-deny/ { try_files /none /deny; }
        location = /metrics { rbgv_auth off; rbgv_auth_metrics; }
    }
}
EOC
}

my $nginx = $t->nginx;
$nginx->write_conf(conf(0, ''))->start;


sub ask {
    my ($key, $uri, $port) = @_;

    my $r = $t->get($uri // '/', key => $key->{key}, port => $port);
    return join ' ', map { $_ // '' } $r->{status},
                                      $r->{headers}{'x-source'}[0];
}

sub reads {
    my ($n) = ($t->redis('INFO', 'commandstats')->{cmdstat_hgetall} // '')
        =~ /^calls=(\d+)/;
    return $n // 0;
}

# its record is in the zone, and what was said of it before has been heard
sub kept {
    my ($key, $port) = @_;

    wait_for(sub {
        my $before = reads();
        ask($key, '/', $port) eq '200 redis' && reads() == $before;
    }, 'a record');
}

# no answer of the zone is trusted any more
sub away {
    my ($key, $port) = @_;

    wait_for(sub { ask($key, '/deny', $port) =~ /^503/ }, 'the end of trust');
}

sub back {
    my ($key, $port) = @_;

    wait_for(sub { ask($key, '/deny', $port) eq '200 redis' }, 'Redis')
        for 1 .. 20;
}

# of a worker that may have a breaker which is open yet
sub answer {
    my ($key) = @_;

    my $is;
    wait_for(sub { ($is = ask($key)) !~ /^503/ }, 'Redis');
    return $is;
}


my %key = map { $_ => $t->create_key(name => "$_-prod") }
          qw(good disabled deleted told expires);
kept($_) for values %key;

$t->rbgvctl('disable', $key{disabled}{id});
wait_for(sub { ask($key{disabled}) =~ /^401/ }, 'it');
$t->rbgvctl('delete', $key{deleted}{id}, '--yes');
wait_for(sub { ask($key{deleted}) =~ /^401/ }, 'it');

# the second change is told after the first one, on all channels
$t->rbgvctl('disable', $key{told}{id});
$t->rbgvctl('enable', $key{disabled}{id});
wait_for(sub { ask($key{disabled}) =~ /^200/ }, 'it');
$t->rbgvctl('disable', $key{disabled}{id});
wait_for(sub { ask($key{disabled}) =~ /^401/ }, 'it');

my $expires = time + 5;
$t->redis(HSET => "rbgv:key:{$key{expires}{id}}", expires => $expires);
kept($key{expires});

$t->redis_stop;
away($key{good});

is(ask($key{good}), '200 stale', 'a good key');
is(ask($key{good}, '/allow'), '200 stale', 'with whatever limit');
like(ask($key{good}, '/deny'), qr/^503/, 'not where it is denied');
like(ask($key{good}, '/to-deny/'), qr/^503/, 'nor where it is sent to');
my $is = ask($key{expires});
ok($is eq '200 stale' || time >= $expires, "one that expires: $is");
like(ask($key{$_}), qr/^503/, "one that was $_") for qw(disabled deleted told);
like(ask({ key => make_key(id => $key{good}{id}) }), qr/^503/,
     'a wrong secret');
like(ask({ key => make_key(id => 'unknown00000') }), qr/^503/, 'unknown');
like(ask($key{good}, '/dev'), qr/^503/, 'of another environment');

my $r = $t->get('/', key => $key{disabled}{key});
refused($r, 503, 'auth_unavailable', 'never 401');
is($r->{headers}{'x-status'}[0], 'UNAVAILABLE', 'as the log says');

$nginx->reload;
is(ask($key{good}), '200 stale', 'reload: still there');

wait_for(sub { ask($key{good}, '/short') =~ /^503/ }, 'the end of its time');
is(ask($key{good}), '200 stale', 'where the time is longer');
wait_for(sub { ask($key{expires}) =~ /^503/ }, 'expiry');
pass('a key expires by its own time');

$t->redis_start;
back($key{good});
like(answer($key{disabled}), qr/^401/, 'back: a disabled key');
like(answer($key{told}), qr/^401/, 'and the other one');


# a change that the channel has not told, but a read

$t->nginx('proxy')->write_conf(
    conf(1, 'rbgv_auth_redis unix://rbgv-gateway@%%DIR%%/proxy.sock;'
         . 'rbgv_auth_redis_password_file '
         . $t->redis_server->password_file('rbgv-gateway') . ';')
)->start;

my @mine = map { $t->create_key } 1 .. 4;
kept($_, 1) for @mine;

$proxy->rule(channel => 1, hold => 1);
$t->rbgvctl('disable', $mine[1]{id});
$t->rbgvctl('delete', $mine[2]{id}, '--yes');
$t->redis(HSET => "rbgv:key:{$mine[3]{id}}", owner => 'another');

wait_for(sub { ask($mine[1], '/', 1) =~ /^401 redis/ }, 'a read');
wait_for(sub { ask($mine[2], '/', 1) =~ /^401 redis/ }, 'a read');
is(ask($mine[$_], '/', 1), '200 redis', 'without the channel') for 0, 3;

$t->redis_stop;
away($mine[0], 1);
is(ask($mine[0], '/', 1), '200 stale', 'what was read is as it was');
like(ask($mine[$_], '/', 1), qr/^503/, 'what was read has changed') for 1 .. 3;
$proxy->rule;
$t->redis_start;
back($mine[0], 1);


# the login

sub gateway { $t->redis('ACL', 'SETUSER', 'rbgv-gateway', @_) }

# of all workers
sub logged {
    my ($line) = @_;

    my $log = $nginx->read_log('error.log');
    return !grep { $log !~ /\[crit\] $_#.*$line/ } $nginx->workers;
}

sub refused_all {
    my ($name, @keys) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my %seen;
    $seen{ ask($_, '/allow') =~ s/ .*//r }++ for (@keys) x 20;
    is(join(' ', sort keys %seen), 503, $name);
}

kept($key{good});
gateway('-evalsha');
wait_for(sub { ask($key{good}, '/allow'); logged('"EVALSHA".*NOPERM') },
         'the log', 30);
refused_all('fault 21: it may not count', $key{good});
gateway('+evalsha');
back($key{good});

gateway('-hgetall');
my $fresh = $t->create_key;
wait_for(sub { ask($fresh, '/allow'); logged('"HGETALL".*NOPERM') }, 'the log');
refused_all('fault 21: it may not read', $fresh);
gateway('+hgetall');
back($key{good});

my ($user) = grep { /^user rbgv-gateway / } $t->redis('ACL', 'LIST');
my (undef, undef, @rules) = split / /, $user;

gateway('resetpass', '>another');
$t->redis('CLIENT', 'KILL', 'USER', 'rbgv-gateway');
wait_for(sub { ask($key{good}); logged('"AUTH" was refused: "WRONGPASS') },
         'the log');
away($key{good});
refused_all('fault 21: it may not log in', $key{good});
like($t->get('/metrics')->{body},
     qr/^rbgv_auth_redis_errors_total\{kind="login"\} [1-9]/m, 'a metric');

# so it was heard last
$t->redis_stop;
refused_all('fault 21: and then nobody is there', $key{good});
$t->redis_start;
gateway('reset', @rules);
back($key{good});


# FLUSHALL is told: all that was known is not true any more; unless nobody
# listens at this moment

my %meta   = $t->redis(HGETALL => 'rbgv:meta');
my $record = "rbgv:key:{$key{good}{id}}";
my %record = $t->redis(HGETALL => $record);
my $passed = 1;

for (my $trial = 1; $passed && $trial <= 5; $trial++) {
    kept($key{good});
    $t->redis('FLUSHALL');
    wait_for(sub { ask($key{good}) =~ /^503/ }, 'the message');
    $t->redis_stop;
    away($key{good});
    $passed = ask($key{good}) =~ /^200/;
    $t->redis_start;
    $t->redis(HSET => 'rbgv:meta', %meta);
    $t->redis(HSET => $record, %record);
    back($key{good});
}

ok(!$passed, 'fault 36: flushed: no record is used');

$t->done;
