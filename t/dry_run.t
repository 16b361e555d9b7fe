#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for rbgv_auth dry_run: what is recorded, who decides instead, what an
# upstream sees, redirects, and a store that is away.  t/decision.t has what a
# client gets.

use strict;
use warnings;

use MIME::Base64 qw(encode_base64);
use Test::More;
use Test::Rbgv;
use Test::Rbgv::Key qw(make_key);
use Test::Rbgv::Usage qw(charged);

my $t = Test::Rbgv->new;

$t->start_redis;
$t->write_file(users => "user:{PLAIN}word\n");
$t->write_file(page => 'a page');

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    rbgv_auth_zone off;
    rbgv_auth_redis_timeout 10s;
    %%REDIS%%
    root %%DIR%%;
    auth_basic_user_file %%DIR%%/users;
    rbgv_auth dry_run;
    log_format vars '$request_uri $rbgv_auth_status $rbgv_auth_key_id '
                    '$rbgv_auth_key_name $rbgv_auth_source '
                    '$rbgv_auth_limit_remaining';
    access_log vars.log vars;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        location /plain { alias %%DIR%%/page; }
        location /limit { rbgv_auth_limit wide 9r/1h; alias %%DIR%%/page; }
        location /full { rbgv_auth_limit full 1r/1h; rbgv_auth_cost 2;
                         alias %%DIR%%/page; }
        location /paid { rbgv_auth_credits 3; alias %%DIR%%/page; }
        location /poor { rbgv_auth_credits 6; alias %%DIR%%/page; }
        location /warn { rbgv_auth_log_level warn; alias %%DIR%%/page; }
        location /down { rbgv_auth_redis redis://127.0.0.1:1;
                         alias %%DIR%%/page; }
        location /frozen { rbgv_auth_redis_timeout 100ms;
                           alias %%DIR%%/page; }

        location /any { satisfy any;
            location /any/allow { alias %%DIR%%/page; allow all; }
            location /any/deny { alias %%DIR%%/page; deny all; }
            location /any/basic { alias %%DIR%%/page; auth_basic b; }
            location /any/none { alias %%DIR%%/page; }
        }
        location /all { satisfy all;
            location /all/deny { alias %%DIR%%/page; deny all; }
            location /all/basic { alias %%DIR%%/page; auth_basic b; }
        }

        location /to-on { try_files /none /on/page; }
        location /full-to-on { rbgv_auth_limit full 1r/1h; rbgv_auth_cost 2;
                               try_files /none /on/page; }
        location /limit-to-on { rbgv_auth_limit wide 9r/1h;
                                rbgv_auth_credits 1;
                                try_files /none /on/paid/page; }
        location /down-to-on { rbgv_auth_redis redis://127.0.0.1:1;
                               try_files /none /on/page; }
        location /on/ { rbgv_auth on; rbgv_auth_limit on 90r/1h;
                        alias %%DIR%%/;
            location /on/paid/ { rbgv_auth_credits 2; alias %%DIR%%/; }
            location /on/error { error_page 401 /dry-page; }
            location /on/to-dry { try_files /none /dry-page; }
        }
        location /dry-page { alias %%DIR%%/page; }

        location /seen { proxy_pass http://127.0.0.1:%%PORT_1%%; }
        location /hide { rbgv_auth_hide_key on;
            location /hide/inner { proxy_pass http://127.0.0.1:%%PORT_1%%; }
        }
    }
    server {
        listen 127.0.0.1:%%PORT_1%%;
        rbgv_auth off;
        access_log off;
        location / { return 200 'seen: $http_x_api_key'; }
    }
    server {
        listen 127.0.0.1:%%PORT_2%%;
        rbgv_auth off;
        access_log off;
        location / { rbgv_auth_metrics; }
    }
}
EOC

my $key    = $t->create_key(name => 'dry-run-prod', credits => 5);
my $good   = $key->{key};
my $id     = $key->{id};
my $forged = make_key(id => $id);
my $basic  = 'Authorization: Basic ' . encode_base64('user:word', '');

# URI, key, what is charged; the variables; and the reason in the log
my @recorded = (
    [ '/plain', $good, 'calls:1', "PASSED $id dry-run-prod redis -" ],
    [ '/plain', undef, '', 'MISSING_DRY_RUN - - - -',
      'no key in the request' ],
    [ '/plain', 'foo', '', 'INVALID_DRY_RUN - - - -', 'malformed key' ],
    [ '/plain', $forged, '', "INVALID_DRY_RUN $id - redis -",
      'wrong secret' ],
    [ '/limit', $good, 'calls:1 wide:1',
      "PASSED $id dry-run-prod redis 8" ],
    [ '/full', $good, 'limited:1',
      "LIMITED_DRY_RUN $id dry-run-prod redis 1", 'a window is full' ],
    [ '/paid', $good, 'calls:1', "PASSED $id dry-run-prod redis -" ],
    [ '/poor', $good, '', "CREDITS_DRY_RUN $id dry-run-prod redis -",
      'not enough credits' ],
    [ '/warn', 'foo', '', 'INVALID_DRY_RUN - - - -', 'malformed key' ],
    [ '/down', $good, '', "UNAVAILABLE_DRY_RUN $id - - -",
      'no answer from redis' ],
);

for my $n (0 .. $#recorded) {
    my ($uri, $value, $charges, $vars) = @{ $recorded[$n] };
    my ($status) = $vars =~ /^(\S+)/;

    is(charged($t, $id, $charges, sub {
        answers("$uri: $status", "$uri?n=$n", 200, 'a page',
                defined $value ? (key => $value) : ());
    }), $charges, "$uri: $status: charges");
}

# who decides: URI, header, status, with or without a good key
for my $value (undef, $good) {
    my @key = defined $value ? (key => $value) : ();

    for (
        [ '/any/allow', '', 200, 'a page' ],
        [ '/any/deny', '', 403, qr/<html>/ ],
        [ '/any/basic', '', 401, qr/<html>/ ],
        [ '/any/basic', $basic, 200, 'a page' ],
        [ '/any/none', '', 200, 'a page' ],
        [ '/all/deny', '', 403, qr/<html>/ ],
        [ '/all/basic', '', 401, qr/<html>/ ],
        [ '/all/basic', $basic, 200, 'a page' ],
    ) {
        my ($uri, $header, $status, $body) = @$_;

        answers("$uri: " . ($value ? 'a key' : 'no key')
                . ($header ? ', user' : ''), $uri, $status, $body, @key,
                headers => [ $header || () ]);
    }
}

# what an upstream sees

answers('upstream', '/seen', 200, "seen: $good", key => $good);
answers('upstream, junk', '/seen', 200, 'seen: foo', key => 'foo');
answers('upstream, hidden', '/hide/inner', 200, 'seen: ', key => $good);

# redirects: what was spared is judged where it is enforced

for (
    [ '/to-on', $good, 200, 'calls:1 on:1', 'a good key' ],
    [ '/to-on', undef, 'missing_api_key', '', 'no key' ],
    [ '/to-on', 'foo', 'invalid_api_key', '', 'a malformed key' ],
    [ '/to-on', $forged, 'invalid_api_key', '', 'a forged key' ],
    [ '/full-to-on', $good, 200, 'limited:1 on:1', 'a good key' ],
    [ '/limit-to-on', $good, 200, 'calls:1 on:1 wide:1', 'a good key' ],
    [ '/down-to-on', $good, 200, 'calls:1 on:1', 'a good key' ],
    [ '/on/error', 'foo', 401, '', 'a malformed key' ],
    [ '/on/to-dry', $good, 200, 'calls:1 on:1', 'a good key' ],
    [ '/on/to-dry', 'foo', 'invalid_api_key', '', 'a malformed key' ],
) {
    my ($uri, $value, $answer, $charges, $name) = @$_;
    my $response;

    is(charged($t, $id, $charges, sub {
        $response = $t->get($uri, defined $value ? (key => $value) : ());
    }), $charges, "$uri: $name is charged");

    $answer =~ /_/
        ? refused($response, 401, $answer, "$uri: $name")
        : is("$response->{status} $response->{body}", "$answer a page",
             "$uri: $name");
}

is($t->redis(HGET => "rbgv:use:{$id}", 'credits'), 2,
    'credits are spent where it is enforced');

# metrics

my $metrics = $t->get('/', port => 2)->{body};

like($metrics, qr/^rbgv_auth_requests_total\{outcome="$_"\} \d+$/m, "$_")
    for 'LIMITED_DRY_RUN",source="redis', 'MISSING_DRY_RUN",source="request',
        'UNAVAILABLE_DRY_RUN",source="request', 'MISSING",source="request';
unlike($metrics, qr/PASSED_DRY_RUN/, 'who passes passes');

# a store that does not answer

$t->redis_freeze;
answers('frozen store', '/frozen', 200, 'a page', key => $good);
$t->redis_thaw;

$t->stop;

# the records

my @vars  = split /\n/, $t->read_log('vars.log');
my @lines = split /\n/, $t->read_log('error.log');

for my $n (0 .. $#recorded) {
    my ($uri, $value, $charges, $vars, $reason) = @{ $recorded[$n] };
    my $level = $uri eq '/warn' ? 'warn' : 'notice';
    my ($status, $shown) = $vars =~ /^([A-Z]+)\S* (\S+)/;

    $shown = '' if $shown eq '-';

    my ($got) = map { /^\Q$uri?n=$n\E (.*)/ } @vars;
    is($got, $vars, "$uri: $status: variables");

    my @got = map { s/^\S+ \S+ (\[\w+\]) \S+ \*\d+ (.*?), client: .*/$1 $2/r }
              grep { /rbgv_auth: [A-Z]+,.*"GET \Q$uri?n=$n\E / } @lines;

    is_deeply(\@got, $reason ? [ "[$level] rbgv_auth: $status, dry run, "
                                 . "key: \"$shown\", reason: $reason" ] : [],
        "$uri: $status: log");
}

is(join("\n", grep { !/dry run/ && /rbgv_auth: [A-Z]+,.* GET "\/(?:any|all)/ }
                   @lines), '', 'nothing else is said to be refused');
like(join("\n", @vars), qr{^/frozen UNAVAILABLE_DRY_RUN }m,
    'status of a frozen store');

$t->done;


# the answer, without a header field of this module
sub answers {
    my ($name, $uri, $status, $body, @arg) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $response = $t->get($uri, @arg);

    like("$response->{status} $response->{body}", ref $body
         ? qr/^$status .*$body/s : qr/^$status \Q$body\E$/, $name);

    unlike($response->{text}, qr/^(?:.*ratelimit.*|retry-after|cache-control
                                    |www-authenticate:\ ApiKey)/mix,
        "$name: no trace");
}
