# What rbgvctl never writes: malformed records, foreign types, records beyond
# all bounds.  503 with a line in the log for this key, and for no other.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;

my $t = Test::Rbgv->new;
$t->allow_alert(qr/refused "HGETALL": "WRONGTYPE /,
                qr/refused "EVALSHA": "(?:WRONGTYPE|ERR) /);

$t->start_redis;
my $key   = $t->create_key(limit => ['default=5r/1m']);
my $other = $t->create_key;
my $name  = "rbgv:key:{$key->{id}}";

my %record = $t->redis('HGETALL', $name);
my ($secret) = grep { /^secret:/ } keys %record;

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
worker_processes 1;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth_redis_timeout 1s;

    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth on;
        rbgv_auth_limit default 1000000r/1m;
        rbgv_auth_limit_unavailable deny;
        location / { empty_gif; }
    }
}
EOC

my ($worker) = $t->nginx->workers;


sub status { return $t->get('/', key => ($_[0] // $key)->{key})->{status} }


# fields with another value, or undef for none; and what they lead to
sub decided {
    my ($name_of_test, $fields, $status) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my %changed = (%record, %$fields);

    $t->redis('DEL', $name, "rbgv:use:{$key->{id}}");
    $t->redis('HSET', $name, map { $_ => $changed{$_} }
                             grep { defined $changed{$_} } keys %changed);

    my $logged = length $t->read_log('error.log');

    is(status(), $status, "input 35: $name_of_test");

    return if $status != 503;

    my $log = substr $t->read_log('error.log'), $logged;
    like($log, qr/\[(?:error|crit)\].*(?:malformed|invalid reply)/,
         "$name_of_test: logged");
    wait_for(sub { status($other) == 200 }, 'another key');
}


decided('as it was', {}, 200);

decided("no $_", { $_ => undef }, 503) for qw(status name environment);
decided("empty $_", { $_ => '' }, 503) for qw(status name environment);
decided("no $_", { $_ => undef }, 200) for qw(owner created);

decided("status \"$_\"", { status => $_ }, 503)
    for 'Active', 'activ', 'active ', "active\0", 'yes', '1';
decided('status "disabled"', { status => 'disabled' }, 401);

decided("environment \"$_\"", { environment => $_ }, 503)
    for 'Prod', '1prod', "prod\n", 'p' x 17, '"';

decided("limit \"$_\"", { 'limit:default' => $_ }, 503)
    for '', '0r/1m', '-1r/1m', '1r/0s', '5r', '5/1m', '5r/1x', 'NaN', '1e3r/1m',
        '9223372036854775808r/1m', '2147483648r/1m', '5r/367d', ' 5r/1m',
        "5r/1m\0";
decided('the longest window', { 'limit:default' => '1r/366d' }, 200);
my $after = $t->get('/', key => $key->{key})->{headers}{'retry-after'}[0];
cmp_ok($after, '>=', 366 * 86400, 'the longest window: when to try again');
cmp_ok($after, '<=', 366 * 86400 * 17 / 15.75, 'and not longer');

decided('limit of no policy', { 'limit:none' => '5r/1m' }, 200);
decided('bad limit of no policy', { 'limit:none' => '5r' }, 503);

decided("expires \"$_\"", { expires => $_ }, 503)
    for '', '-1', '1e9', 'never', '9223372036854775808', ' 1';
decided('expires "1"', { expires => 1 }, 401);

decided("credits \"$_\"", { credits => $_ }, 503)
    for '', '-1', '1e9', 'NaN', '9223372036854775808', ' 1';

decided("secret \"$_\"", { $secret => $_ }, 503)
    for '', 'active', 'active ', 'active 1', 'active 1 ', 'active 1 x',
        'active 1 -1', 'active  0', 'active x 0', 'active 1 0 0', 'Active 1 0',
        'activ 1 0', 'x', '1 0';
decided('secret that has expired', { $secret => 'active 1 1' }, 401);
decided('secret that is disabled', { $secret => 'disabled 1 0' }, 401);
decided('no secret', { $secret => undef }, 401);
decided('secrets that are none', { map { $_ => 'active 1 0' }
    'secret:', 'secret:x', "$secret-", 'secret:' . 'g' x 64 }, 200);
decided('secret in capitals', { $secret => undef,
    'secret:' . uc substr($secret, 7) => 'active 1 0' }, 401);

decided('500 fields', { map { ("field$_" => '') } 1 .. 500 }, 200);
decided('1500 fields', { map { ("field$_" => '') } 1 .. 1500 }, 503);
decided('a note of 500 kB', { note => 'x' x 500_000 }, 200);
decided('a note of 1 MiB', { note => 'x' x 1_048_576 }, 503);
decided('a note of anything', { note => join '', map { chr } 0 .. 255 }, 200);


# foreign types, and a counter that the script cannot read

my %foreign = (
    key => [ [ 'SET', $name, 'x' ], [ 'SADD', $name, 'x' ] ],
    use => [ [ 'SET', "rbgv:use:{$key->{id}}", 'x' ],
             [ 'HSET', "rbgv:use:{$key->{id}}", 'w:default:60', 'x' ],
             [ 'HSET', "rbgv:use:{$key->{id}}",
               'd:' . int(time / 86400), 'x' ] ],
);

for my $kind (sort keys %foreign) {
    for my $command (@{ $foreign{$kind} }) {
        decided('good again', {}, 200);
        $t->redis('DEL', $command->[1]);
        $t->redis(@$command);

        my $logged = length $t->read_log('error.log');
        my %status;

        # a line that was logged less than a second ago is not repeated
        wait_for(sub {
            $status{ status() }++;
            substr($t->read_log('error.log'), $logged)
                =~ /\[crit\].*refused "(?:HGETALL|EVALSHA)"/;
        }, 'the log');
        is_deeply([ keys %status ], [ 503 ],
                  "input 35: foreign $kind: @$command[0, 2]");
        is(status($other), 200, 'another key');
    }
}

is(($t->nginx->workers)[0], $worker, 'input 35: still the same worker');

$t->done;
