# Replies that no Redis would send, one too many, or too late: never let pass,
# never given to another request, never the end of a worker.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;
use Test::Rbgv::Process qw(memory);
use Test::Rbgv::Proxy;

my $t = Test::Rbgv->new;
$t->allow_alert(qr/refused(?: "[A-Z]+")?: "(?:ERR no)?"/,
                qr/answered "[A-Z]+" with a reply of another form/,
                qr/is empty or foreign/);

$t->start_redis(acl => 0);

my %key = map { $_ => $t->create_key(name => "$_-prod") } qw(alice bob eve);
$t->redis('DEL', "rbgv:key:{$key{eve}{id}}");

my $proxy = Test::Rbgv::Proxy->new(listen => $t->dir . '/proxy.sock',
                                   to => $t->redis_server->socket);

$t->write_conf(<<'EOC')->start_nginx;
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
        add_header X-Key $rbgv_auth_key_id always;

        location / { empty_gif; }
    }
}
EOC

my ($worker) = $t->nginx->workers;


sub status {
    my ($uri, $name) = @_;

    return $t->get($uri // '/', key => $key{ $name // 'alice' }{key})
        ->{status};
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


sub recovers {
    $proxy->rule;
    wait_for(sub { status() == 200 }, 'recovery');
    return 1;
}


# instead of the reply, or around it

my %bad = (
    'another form'      => "+OK\r\n",
    'integer'           => ":1\r\n",
    'nil'               => "\$-1\r\n",
    'nil array'         => "*-1\r\n",
    'error'             => "-ERR no\r\n",
    'empty error'       => "-\r\n",
    'strings'           => "*4\r\n" . "\$1\r\n1\r\n" x 4,
    'too many grants'   => "*6\r\n:7\r\n" . ":0\r\n" x 5,
    'negative integers' => "*6\r\n:1\r\n" . ":-5\r\n" x 5,
    'refusal for nought' => "*6\r\n" . ":0\r\n" x 6,
    'short array'       => "*1\r\n:1\r\n",
    'odd array'         => "*3\r\n" . "+status\r\n" x 3,
    'arrays'            => "*2\r\n*0\r\n*0\r\n",
    'no number'         => ":\r\n",
    'huge number'       => ":99999999999999999999\r\n",
    'HTTP'              => "HTTP/1.1 200 OK\r\n\r\n",
    'nothing'           => "\r\n",
    'zeroes'            => "\0" x 100,
    'no line end'       => '+' . 'x' x 100,
    'huge array'        => "*2147483647\r\n",
    'huger array'       => "*9223372036854775807\r\n",
    'long array'        => "*1025\r\n" . ":1\r\n" x 1025,
    'negative array'    => "*-2\r\n",
    'huge bulk'         => "\$2147483647\r\n",
    'huger bulk'        => "\$9223372036854775807\r\n",
    'negative bulk'     => "\$-2\r\n",
    'longer bulk'       => "\$2\r\nhello\r\n",
    'deep nesting'      => "*1\r\n" x 1000,
    'double'            => ",1.5\r\n",
    'boolean'           => "#t\r\n",
    'null'              => "_\r\n",
    'big number'        => "(12345678901234567890\r\n",
    'map'               => "%1\r\n+a\r\n+b\r\n",
    'set'               => "~1\r\n+a\r\n",
    'push'              => ">2\r\n+a\r\n+b\r\n",
    'attribute'         => "|1\r\n+a\r\n+b\r\n+c\r\n",
    'verbatim string'   => "=5\r\ntxt:a\r\n",
);

my %got;

for my $name (sort keys %bad) {
    for my $on (qw(HGETALL EVALSHA HGET)) {
        recovers();
        $proxy->rule(on => $on, with => $bad{$name});
        # an unknown key leads to the question whose store it is
        $got{"$name for $on"} = status('/', $on eq 'HGET' ? 'eve' : 'alice');
    }
}

is_deeply(\%got, { map { $_ => 503 } keys %got }, 'fault 8: bad replies');
ok(recovers(), 'fault 8: bad replies: works again');
is(status('/', 'eve'), 401, 'and so for an unknown key');


# one reply too many: both are under way, and none gets what is the other's

%got = ();

for my $where (qw(before after)) {
    for my $on (qw(HGETALL EVALSHA)) {
        for my $extra ("+OK\r\n", ":1\r\n", "*6\r\n:1\r\n" . ":0\r\n" x 5) {
            recovers();
            $proxy->rule(on => $on, times => 1, $where => $extra);
            $got{_verdict($_)}++ for both(), both();
        }
    }
}

is_deeply([ grep { !/^(?:200 own|503 .*)$/ } keys %got ], [],
          'fault 7: nobody is refused, or taken for another');
like($t->read_log('error.log'),
     qr/unsolicited reply while talking to redis/, 'fault 7: logged');

$proxy->rule(on => 'HGETALL', swap => 2);
unlike(_verdict($_), qr/^200 (?!own)/, 'fault 7: swapped records') for both();
ok(recovers(), 'fault 7: works again');

my $connections = $proxy->rule(on => 'HGETALL', hold => 1)->{connections};
is($_->{status}, 503, 'fault 9: no reply in time') for both();
recovers();
is(_verdict($_), '200 own', 'fault 9: late replies are nobody\'s') for both();
cmp_ok($proxy->stats->{connections}, '>', $connections,
       'fault 9: nothing more is read where they would come');


# without an end

my $memory = memory($worker);
my $string = 'x' x 65536;

my %endless = (
    'bulk'     => [ "\$2147483647\r\n", $string ],
    'line'     => [ '+', $string ],
    'nesting'  => [ '*1024', "\r\n*1024" ],
    'integers' => [ '*1024', "\r\n:1" x 1000 ],
    'arrays'   => [ '*1024', "\r\n*1000" . "\r\n:1" x 1000 ],
    'strings'  => [ '*1024', "\r\n\$65536\r\n$string" ],
);

for my $name (sort keys %endless) {
    my ($with, $endless) = @{ $endless{$name} };

    recovers();
    $proxy->rule(on => 'HGETALL', times => 1, with => $with,
                 endless => $endless);
    is(status(), 503, "fault 8: endless $name");
}

ok(recovers(), 'fault 8: endless replies: works again');

SKIP: {
    skip 'a sanitizer keeps what is freed', 1 if $t->slow;
    cmp_ok(memory($worker) - $memory, '<', 8192,
           'fault 8: memory stays bounded, in kB');
}

is(($t->nginx->workers)[0], $worker, 'fault 8: still the same worker');

$t->done;


sub _verdict {
    my ($response) = @_;

    my $id = $response->{headers}{'x-key'}[0] // 'no';
    return "$response->{status} " . ($id eq $response->{id} ? 'own' : $id);
}
