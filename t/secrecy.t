#!/usr/bin/perl

# Tests for where a key never is: answers, logs, Redis and its files, variables,
# and the memory that the workers share.  And that who can write to Redis cannot
# make a key.

use strict;
use warnings;

use Digest::SHA qw(sha256 sha256_hex);
use File::Slurper qw(read_binary);
use IO::Socket::UNIX;
use Test::More;

use Test::Rbgv;
use Test::Rbgv::Key qw(derive_id digest make_key);

my $t = Test::Rbgv->new;
$t->allow_alert(qr/connect\(\) to unix:\S+ failed \(2:/);

$t->start_redis;
$t->start_redis(name => 'away');
$t->redis_server('away')->stop;

my $module = read_binary($t->root . '/src/ngx_http_rbgv_auth_variables.c');
my ($table) = $module =~ /^static ngx_http_variable_t .*? = \{(.*?)^\};/ms;
my @variables = $table =~ /ngx_string\("(\w+)"\)/g;
my $variables = join ' ', map { "\$$_" } @variables;

$t->write_conf(<<"EOC")->start_nginx;
%%TEST_GLOBALS%%
worker_processes 2;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    error_log error.log notice;
    %%REDIS%%
    rbgv_auth_lease auto;
    rbgv_auth_opaque_keys on;
    rbgv_auth_events on;
    log_format all '\$http_x_api_key \$request \$status $variables';
    access_log all.log all;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth on;
        rbgv_auth_limit default 1000r/1h;
        add_header X-All "$variables" always;
        location / { proxy_pass http://127.0.0.1:%%PORT_1%%; }
        location /off { rbgv_auth_lease off; empty_gif; }
        location /tight { rbgv_auth_limit tight 1r/1h; empty_gif; }
        location /test { rbgv_auth_environment test; empty_gif; }
        location /credits { rbgv_auth_credits 5; empty_gif; }
        location /job { rbgv_auth_job \$arg_job; empty_gif; }
        location /away { %%REDIS_away%% empty_gif; }
        location /error { error_page 401 429 /tight; empty_gif; }
        location /usage/ { rbgv_auth_usage; }
        location = /metrics { rbgv_auth off; access_log off;
                              rbgv_auth_metrics; }
    }
    server {
        listen 127.0.0.1:%%PORT_1%%;
        rbgv_auth off;
        location / { return 200 'seen: \$http_x_api_key'; }
    }
}
EOC

my $plain = 'sk-live-4eC39HqLyjWDarjtT1zdp7dcq8ZzKx';

$t->rbgvctl('import', '-', { stdin => "client_id,environment,owner,api_key\n"
                                    . "opaque-prod,prod,tests,$plain\n" });

my %key = (opaque => { key => $plain, id => derive_id($plain) });

$key{$_} = $t->create_key(name => "secret-$_-prod", credits => 9)
    for qw(good disabled deleted);

$t->rbgvctl('disable', $key{disabled}{id});
$t->redis(DEL => "rbgv:key:{$key{deleted}{id}}");

my $good  = $key{good}{key};
my $other = make_key(id => $key{good}{id}, secret => 'wrongsecret' . 'x' x 21);

# texts that must not be found: of each key the start and the end of its secret
my @secrets = (
    map({ substr($_, 0, 12), substr($_, -12) }
        map({ (split /_/, $key{$_}{key})[3] } qw(good disabled deleted)),
        $plain),
    'wrongsecret', 'malformedsecret',
);
my $secret = join '|', map { quotemeta } @secrets;

my $monitor = IO::Socket::UNIX->new(Peer => $t->redis_server->socket)
    or die "redis: $!";

print $monitor "MONITOR\r\n";
$monitor->flush;
readline $monitor;

my @uris = qw(/ /off /tight /test /credits /job?job=a /away /error
              /usage/summary /usage/events /metrics);
my @answers;

for my $uri (@uris) {
    push @answers, $t->get($uri, headers => $_) for
        map({ ["X-Api-Key: $key{$_}{key}"] } sort keys %key),
        ["X-Api-Key: $other"],
        [ ("X-Api-Key: $good") x 2 ],
        ["X-Api-Key: $good, $good"],
        ["X-Api-Key: ${good}x"],
        ["X-Api-Key: malformedsecret\x80"],
        [ "X-Api-Key: $good", "X-Api_Key: $good" ];
}

my %status = map { $_->{status} => 1 } @answers;

is_deeply([ sort keys %status ], [ 200, 401, 402, 404, 429, 503 ],
    'all kinds of answers');
is(join("\n", grep { /$secret/ } map { $_->{text} } @answers), '',
    'input 37: not in an answer, nor in a variable of the module');

# what was counted in a lease is told later
wait_for(sub { $t->redis(XLEN => "rbgv:events:{$key{good}{id}}") >= 2 },
    'events');
$t->redis(ECHO => 'the end of the test');

my $commands = '';

while (defined(my $line = readline $monitor)) {
    last if $line =~ /the end of the test/;
    $commands .= $line;
}

like($commands, qr/"HGETALL" "rbgv:key:\{$key{good}{id}\}"/,
    'what Redis is told');
is(join("\n", grep { /$secret/ } split /\n/, $commands), '',
    'input 37: not in what Redis is told');

# the zone

for my $worker ($t->nginx->workers) {
    my $zone = shared_memory($worker);

    cmp_ok(index($zone, pack 'H*', digest($good, pepper())), '>=', 0,
        'the digest is in the zone');
    is(join(' ', grep { index($zone, $_) >= 0 } @secrets, pepper()), '',
        'input 37: neither a key nor the pepper is in the zone');
}

# who writes to Redis copies the record of a good key, for a key of his own

my $minted = make_key(id => 'minted000000', secret => 'minted' . 'x' x 26);
my $copy   = 'rbgv:key:{minted000000}';
my %record = $t->redis(HGETALL => "rbgv:key:{$key{good}{id}}");
my %field  = map { $_ => $record{$_} } grep { !/^secret:/ } keys %record;

for (
    [ 'SHA-256', sha256_hex($minted), 401 ],
    [ 'SHA-256 twice', sha256_hex(sha256($minted)), 401 ],
    [ 'another pepper', digest($minted, 'p' x 16), 401 ],
    [ 'no pepper', digest($minted, ''), 401 ],
    [ 'the digest of another key', digest($good, pepper()), 401 ],
    [ 'the pepper', digest($minted, pepper()), 200 ],
) {
    my ($name, $digest, $status) = @$_;

    $t->redis(DEL => $copy);
    $t->redis(HSET => $copy, %field, "secret:$digest" => 'active 1 0');

    ok(eval {
        wait_for(sub { $t->get('/', key => $minted)->{status} == $status },
            'the record', 10);
    }, "promise 7: a record by $name, $status");
}

$t->stop;

my @files = grep { -f } glob $t->dir . '/redis-main/{,*/}*';
my $data  = join '', map { read_binary($_) } @files;

like($data, qr/rbgv:key:\{$key{good}{id}\}/, 'the files of Redis');
is(join(' ', grep { index($data, $_) >= 0 } @secrets, pepper()), '',
    'promise 7: neither a key nor the pepper is in the files of Redis');

for my $log (qw(error.log all.log output.log)) {
    is(join("\n", grep { /$secret/ } split /\n/, $t->read_log($log)), '',
        "input 37: not in $log");
}

$t->done;


sub pepper {
    return read_binary($t->pepper_file) =~ s/\s+\z//r;
}


# what a core dump would have of the memory that workers share
sub shared_memory {
    my ($pid) = @_;

    my $memory = '';

    open my $file, '<:raw', "/proc/$pid/mem" or die "memory: $!";

    for (split /\n/, read_binary("/proc/$pid/maps")) {
        my ($from, $to) = m{^(\w+)-(\w+) rw-s .* /dev/zero} or next;

        no warnings 'portable';

        my $end = length($memory) + hex($to) - hex $from;

        sysseek $file, hex $from, 0;

        while (length $memory < $end) {
            sysread $file, $memory, $end - length $memory, length $memory
                or die "memory: $!";
        }
    }

    return $memory;
}
