#!/usr/bin/perl

# scripts/run, and the lines that it tells a newcomer to try.

use strict;
use warnings;

use JSON::PP;
use Test::More;

use Test::Rbgv;
use Test::Rbgv::Demo qw(demo demo_running demo_try);

my $t = Test::Rbgv->new;

$ENV{PORT}         = $t->port(0);
$ENV{CONSOLE_PORT} = $t->port(1);
$ENV{RUN_DIR}      = $t->dir . '/run';

END { demo('--stop') }


my ($exit, $out) = demo('--detach');
is($exit, 0, 'started') or diag($out);

my ($key)  = $out =~ /^API key: (rbgv_prod_\w+)$/m;
my @curl   = $out =~ /^ +(curl .*)$/mg;
my @pids   = map { $t->read_file("run/$_.process") =~ /^(\d+) / }
             qw(nginx redis);
my $target = readlink $ENV{RUN_DIR};

ok($key, 'has a key');
is(@curl, 4, 'has four lines to try');

# the status, and the error's code if it is one

my @tries = map { [ demo_try($_) ] } @curl;

is_deeply($tries[0], [ 401, 'missing_api_key' ], 'no key');
is_deeply($tries[1], [ 401, 'invalid_api_key' ], 'wrong key');
is_deeply($tries[2], [ 200, undef ], 'good key');
is_deeply($tries[3], [ 200, undef ], 'legacy route without a key');

my ($id) = $key =~ /^rbgv_prod_([^_]+)_/;
my $body = decode_json($t->get('/v1/hello', key => $key)->{body});

is($body->{key}, $id, 'the backend is told whose request it is');

# the log does not have the key

my @log = map { decode_json($_) }
          split /\n/, $t->read_file('run/nginx/access.log');

is_deeply([ map { $_->{auth}{status} } @log[0 .. 3] ],
          [ 'MISSING', 'INVALID', 'PASSED', '' ], 'log');
unlike($t->read_file('run/nginx/access.log'), qr/\Q$key\E/, 'no key in it');

# the console

my ($url)   = $out =~ m{^  (http://\S+/admin/)$}m;
my ($token) = $out =~ /^  token: (\w+)$/m;

is($url, "http://127.0.0.1:$ENV{CONSOLE_PORT}/admin/", 'address of the page');
is($t->get('/admin/', port => 1)->{status}, 200, 'the page');
is($t->get('/admin/js/main.js', port => 1)->{headers}{'content-type'}[0],
   'text/javascript', 'its script');
is($t->get('/v1/admin/keys', port => 1)->{status}, 401, 'no token');

my $keys = $t->get('/v1/admin/keys', port => 1,
                   headers => ["X-Admin-Token: $token"]);

is(decode_json($keys->{body})->{items}[0]{key_fingerprint}, $id,
   'the API has the key');

# once more

($exit, $out) = demo('--detach');
is($exit, 1, 'not started twice');
like($out, qr/already running/, 'says so');

{
    local $ENV{RUN_DIR} = $t->dir . '/other';

    ($exit, $out) = demo('--detach');
    is($exit, 1, 'port in use');
    like($out, qr/port $ENV{PORT} is in use/, 'names the port');
}

# nothing is left

($exit) = demo('--stop');
is($exit, 0, 'stopped');

ok(!-l $ENV{RUN_DIR}, 'no link');
ok(!-e $target, 'no files');
is_deeply([ grep { demo_running($_) } @pids ], [], 'no processes');

$t->done;
