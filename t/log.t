#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for what the operator sees: variables and log lines of every outcome,
# and no key in either.

use strict;
use warnings;

use Test::More;
use Test::Rbgv;
use Test::Rbgv::Key qw(make_key);

my $t = Test::Rbgv->new;
$t->allow_alert(qr/refused "HGETALL": "WRONGTYPE /);

$t->start_redis;

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    rbgv_auth_zone off;
    %%REDIS%%
    rbgv_auth on;
    log_format vars '$request_uri $rbgv_auth_status $rbgv_auth_key_id '
                    '$rbgv_auth_key_name $rbgv_auth_key_environment '
                    '$rbgv_auth_key_owner $rbgv_auth_source '
                    '$rbgv_auth_limit_remaining $rbgv_auth_time';
    access_log vars.log vars;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        location / { empty_gif; }
        location /off { rbgv_auth off; empty_gif; }
        location /limit { rbgv_auth_limit wide 9r/1h;
                          rbgv_auth_limit tight 5r/1h; empty_gif; }
        location /full { rbgv_auth_limit full 1r/1h; rbgv_auth_cost 2;
                         empty_gif; }
        location /test { rbgv_auth_environment test; empty_gif; }
        location /cost { rbgv_auth_cost $arg_cost; empty_gif; }
        location /down { rbgv_auth_redis redis://127.0.0.1:1; empty_gif; }
        location /moved { rbgv_auth_limit moved 9r/1h; try_files /none /off; }
        location /error { error_page 401 /off; empty_gif; }
        location /info { rbgv_auth_log_level info; empty_gif; }
        location /warn { rbgv_auth_log_level warn; empty_gif; }
        location /error-level { rbgv_auth_log_level error; empty_gif; }
    }
}
EOC

my %id;
my %key = map { $_ => new_key($_) } qw(good disabled expired ended);

$t->rbgvctl('disable', $id{disabled});
change('expired', expires => time - 1);
change('ended', secret('ended') => 'active 1 ' . (time - 1));

# t/record.t has more of these
$key{broken} = new_key('broken');
$t->redis(HDEL => "rbgv:key:{$id{broken}}", 'name');
$key{string} = new_key('string');
$t->redis(DEL => "rbgv:key:{$id{string}}");
$t->redis(SET => "rbgv:key:{$id{string}}", 'foo');

# the forms of the last six variables
my $time  = '\d+\.\d{3}';
my $known = 'log-N-prod prod o:N redis';
my $none  = '- - - -';
my $asked = '- - - redis';

# URI, key, the variables, and of the log line: level, reason
my @requests = (
    [ '/off', 'good', "- - $none - -" ],
    [ '/', 'good', "PASSED ID $known - $time" ],
    [ '/limit', 'good', "PASSED ID $known 4 $time" ],
    [ '/', undef, "MISSING - $none - 0.000",
      'notice', 'no key in the request' ],
    [ '/', \'foo', "INVALID - $none - 0.000", 'notice', 'malformed key' ],
    [ '/', \($key{good} =~ s/.$/+/r), "INVALID - $none - 0.000",
      'notice', 'wrong checksum' ],
    [ '/', \"$key{good}\r\nX-Api-Key: foo", "INVALID - $none - 0.000",
      'notice', 'more than one key header' ],
    [ '/', \make_key(id => 'unknown00000'),
      "INVALID unknown00000 $asked - $time", 'notice', 'unknown key' ],
    [ '/', \make_key(id => $id{good}), "INVALID $id{good} $asked - $time",
      'notice', 'wrong secret' ],
    [ '/', \make_key(id => $id{disabled}),
      "INVALID $id{disabled} $asked - $time", 'notice', 'wrong secret' ],
    [ '/', 'disabled', "DISABLED ID $known - $time",
      'notice', 'disabled key' ],
    [ '/', 'expired', "EXPIRED ID $known - $time", 'notice', 'expired key' ],
    [ '/', 'ended', "EXPIRED ID $known - $time", 'notice', 'expired secret' ],
    [ '/test', 'good', "ENVIRONMENT ID $known - $time",
      'notice', 'key of another environment' ],
    [ '/full', 'good', "LIMITED ID $known 1 $time",
      'notice', 'a window is full' ],
    [ '/cost', 'good', "UNAVAILABLE ID $known - $time",
      'notice', 'invalid cost' ],
    [ '/down', 'good', "UNAVAILABLE ID $none - $time",
      'notice', 'no answer from redis' ],
    [ '/', 'string', "UNAVAILABLE ID $none - $time",
      'notice', 'an error from redis' ],
    [ '/', 'broken', "UNAVAILABLE ID $asked - $time",
      'notice', 'malformed record' ],
    [ '/moved', 'good', "PASSED ID $known 8 $time" ],
    [ '/error', 'disabled', "DISABLED ID $known - $time",
      'notice', 'disabled key' ],
    map({ [ "/$_->[0]", \'foo', "INVALID - $none - 0.000",
            $_->[1], 'malformed key' ] }
        [ 'info', 'info' ], [ 'warn', 'warn' ], [ 'error-level', 'error' ]),
);

for my $n (0 .. $#requests) {
    my ($uri, $name) = @{ $requests[$n] };

    $t->get("$uri?n=$n", !defined $name ? ()
                         : (key => ref $name ? $$name : $key{$name}));
}

$t->stop;

my @vars  = split /\n/, $t->read_log('vars.log');
my @lines = grep { /rbgv_auth: [A-Z]+,/ } split /\n/,
                 $t->read_log('error.log');

for my $n (0 .. $#requests) {
    my ($uri, $name, $vars, $level, $reason) = @{ $requests[$n] };
    my $request = "$uri?n=$n";
    my ($status, $id) = split / /, $vars;

    if ($name && !ref $name) {
        $vars =~ s/\bID\b/$id{$name}/;
        $vars =~ s/\bN\b/$name/g;
        $id = $id{$name};
    }

    my ($got) = map { /^\Q$request\E (.*)/ } @vars;
    like($got, qr/^$vars$/, "variables: $uri " . ($reason // 'passed'));

    my @got = map { s/^\S+ \S+ (\[\w+\]) \S+ \*\d+ (.*?), client: .*/$1 $2/r }
              grep { /"GET \Q$request\E / } @lines;

    $id = '' if $id eq '-';

    is_deeply(\@got, $reason ? [ "[$level] rbgv_auth: $status, key: \"$id\", "
                                 . "reason: $reason" ] : [],
        "one log line: $uri " . ($reason // 'passed'));
}

like($t->read_log('error.log'), $_, "cause: $_") for
    qr/\[crit\] .*rbgv_auth: redis "\S+" refused "HGETALL": "WRONGTYPE /,
    qr/\[error\] .*rbgv_auth: the record of key "$id{broken}" is malformed/;

# everything of a key but its id
my $secrets = join '|', map { substr((split /_/)[3], 0, 8) } values %key;

for my $log (qw(access.log vars.log error.log)) {
    is(join("\n", grep { /$secrets|foo|aaaaaaaa/ } split /\n/,
                       $t->read_log($log)), '', "input 37: no key in $log");
}

$t->done;


sub new_key {
    my ($name) = @_;

    my $key = $t->create_key(name => "log-$name-prod", owner => "o:$name");

    $id{$name} = $key->{id};

    return $key->{key};
}


sub change {
    my ($name, @fields) = @_;

    $t->redis(HSET => "rbgv:key:{$id{$name}}", @fields);
}


# the field of the only secret
sub secret {
    my ($name) = @_;

    return grep { /^secret:/ } $t->redis(HKEYS => "rbgv:key:{$id{$name}}");
}
