#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for other ways to be let in or kept out: satisfy, auth_basic,
# auth_request, auth_delay, limit_except, and subrequests.

use strict;
use warnings;

use MIME::Base64 qw(encode_base64);
use Test::More;
use Test::Rbgv;
use Test::Rbgv::Key qw(make_key);
use Test::Rbgv::Usage qw(charged);
use Time::HiRes qw(time);

my $t = Test::Rbgv->new;

$t->start_redis;
$t->write_file(users => "user:{PLAIN}word\n");
$t->write_file(page => 'a page');

$t->write_conf(<<'EOC')->start_nginx;
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    root %%DIR%%;
    auth_basic_user_file %%DIR%%/users;
    rbgv_auth on;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        location /any { satisfy any;
            location /any/allow { alias %%DIR%%/page; allow all; }
            location /any/deny { alias %%DIR%%/page; deny all; }
            location /any/basic { alias %%DIR%%/page; auth_basic b; }
            location /any/both { alias %%DIR%%/page; auth_basic b; deny all; }
            location /any/limited { alias %%DIR%%/page; deny all;
                                    rbgv_auth_limit none 1r/1h;
                                    rbgv_auth_cost 2; }
            location /any/down { alias %%DIR%%/page; deny all;
                                 rbgv_auth_redis redis://127.0.0.1:1; }
            location /any/limited-allow { alias %%DIR%%/page; allow all;
                                          rbgv_auth_limit none 1r/1h;
                                          rbgv_auth_cost 2; }
        }
        location /all { satisfy all;
            location /all/allow { alias %%DIR%%/page; allow all; }
            location /all/deny { alias %%DIR%%/page; deny all; }
            location /all/basic { alias %%DIR%%/page; auth_basic b; }
            location /all/request-200 { alias %%DIR%%/page;
                                        auth_request /answer/200; }
            location /all/request-401 { alias %%DIR%%/page;
                                        auth_request /answer/401; }
            location /all/request-403 { alias %%DIR%%/page;
                                        auth_request /answer/403; }
        }
        location /answer/ { internal; rbgv_auth off;
                            proxy_pass http://127.0.0.1:%%PORT_1%%; }

        location /delay { auth_delay 300ms; alias %%DIR%%/page; }
        location /methods { limit_except GET { rbgv_auth off; }
                            proxy_pass http://127.0.0.1:%%PORT_1%%/200; }
        location /open-methods { rbgv_auth off;
                                 limit_except GET { rbgv_auth on; }
                                 proxy_pass http://127.0.0.1:%%PORT_1%%/200; }

        location /guarded { rbgv_auth_limit sub 90r/1h; alias %%DIR%%/page; }
        location /adds { alias %%DIR%%/page;
                         addition_types *; add_after_body /guarded; }
        location /open-adds { rbgv_auth off; alias %%DIR%%/page;
                              addition_types *; add_after_body /guarded; }
        location /mirrors { alias %%DIR%%/page; mirror /guarded; }
        location /asks { alias %%DIR%%/page; auth_request /guarded; }
    }
    server {
        listen 127.0.0.1:%%PORT_1%%;
        rbgv_auth off;
        location ~ 200 { return 200 'a page'; }
        location ~ 401 { add_header WWW-Authenticate Other always;
                         return 401; }
        location ~ 403 { return 403; }
    }
}
EOC

my $key    = $t->create_key;
my $good   = $key->{key};
my $forged = make_key(id => $key->{id});
my $basic  = 'Authorization: Basic ' . encode_base64('user:word', '');
my $wrong  = 'Authorization: Basic ' . encode_base64('user:sword', '');

# URI, key, another header, status, body or code, challenges, charges
for (
    [ '/any/allow', undef, '', 200, 'a page', '', '' ],
    [ '/any/allow', $good, '', 200, 'a page', '', '' ],
    [ '/any/allow', $forged, '', 200, 'a page', '', '' ],
    [ '/any/limited-allow', $good, '', 200, 'a page', '', '' ],
    [ '/any/deny', undef, '', 401, 'missing_api_key', 'ApiKey', '' ],
    [ '/any/deny', $forged, '', 401, 'invalid_api_key', 'ApiKey', '' ],
    [ '/any/deny', $good, '', 200, 'a page', '', 'calls:1' ],
    [ '/any/limited', $good, '', 429, 'rate_limited', '', 'limited:1' ],
    [ '/any/down', $good, '', 503, 'auth_unavailable', '', '' ],
    [ '/any/basic', undef, '', 401, 'missing_api_key', 'Basic ApiKey', '' ],
    [ '/any/basic', $forged, $wrong, 401, 'invalid_api_key', 'Basic ApiKey',
      '' ],
    [ '/any/basic', $good, '', 200, 'a page', '', 'calls:1' ],
    [ '/any/basic', $good, $wrong, 200, 'a page', '', 'calls:1' ],
    [ '/any/basic', undef, $basic, 200, 'a page', '', '' ],
    [ '/any/basic', $forged, $basic, 200, 'a page', '', '' ],
    [ '/any/both', undef, '', 401, 'missing_api_key', 'Basic ApiKey', '' ],
    [ '/any/both', $good, '', 200, 'a page', '', 'calls:1' ],

    [ '/all/allow', undef, '', 401, 'missing_api_key', 'ApiKey', '' ],
    [ '/all/allow', $good, '', 200, 'a page', '', 'calls:1' ],
    [ '/all/deny', undef, '', 403, qr/403 Forbidden/, '', '' ],
    [ '/all/deny', $good, '', 403, qr/403 Forbidden/, '', '' ],
    [ '/all/basic', $good, '', 401, qr/<html>/, 'Basic', '' ],
    [ '/all/basic', $good, $basic, 200, 'a page', '', 'calls:1' ],
    [ '/all/basic', undef, $basic, 401, 'missing_api_key', 'ApiKey', '' ],
    [ '/all/request-200', $good, '', 200, 'a page', '', 'calls:1' ],
    [ '/all/request-200', undef, '', 401, 'missing_api_key', 'ApiKey', '' ],
    [ '/all/request-401', $good, '', 401, qr/<html>/, 'Other', '' ],
    [ '/all/request-403', $good, '', 403, qr/<html>/, '', '' ],

    # a subrequest is not looked at: the main request decides
    [ '/adds', $good, '', 200, 'a pagea page', '', 'calls:1' ],
    [ '/adds', undef, '', 401, 'missing_api_key', 'ApiKey', '' ],
    [ '/open-adds', undef, '', 200, 'a pagea page', '', '' ],
    [ '/mirrors', $good, '', 200, 'a page', '', 'calls:1' ],
    [ '/mirrors', undef, '', 401, 'missing_api_key', 'ApiKey', '' ],
    [ '/asks', $good, '', 200, 'a page', '', 'calls:1' ],
    [ '/asks', $forged, '', 401, 'invalid_api_key', 'ApiKey', '' ],
) {
    my ($uri, $value, $header, @expected) = @$_;

    answers("GET $uri" . (defined $value ? ' key:'
                          . ($value eq $good ? 'good' : 'forged') : '')
            . ($header eq $basic ? ' user' : $header ? ' stranger' : ''),
        GET => $uri, { key => $value, headers => [ $header || () ] },
        @expected);
}

answers("$_->[0] $_->[1]", @$_) for (
    [ GET => '/methods', {}, 401, 'missing_api_key', 'ApiKey', '' ],
    [ GET => '/methods', { key => $good }, 200, 'a page', '', 'calls:1' ],
    [ POST => '/methods', { body => 'x' }, 200, 'a page', '', '' ],
    [ GET => '/open-methods', {}, 200, 'a page', '', '' ],
    [ POST => '/open-methods', { body => 'x' }, 401, 'missing_api_key',
      'ApiKey', '' ],
    [ POST => '/open-methods', { body => 'x', key => $good }, 200, 'a page',
      '', 'calls:1' ],
);

my $began = time;

refused($t->get('/delay', key => $forged), 401, 'invalid_api_key', 'delayed');
cmp_ok(time - $began, '>=', 0.29, 'for as long as told');
is($t->get('/delay', key => $good)->{status}, 200, 'good key with a delay');

$t->done;


# the answer, its challenges, and what is charged
sub answers {
    my ($name, $method, $uri, $arg, $status, $body, $challenges, $charges)
        = @_;

    my $response;
    my $charged = charged($t, $key->{id}, $charges, sub {
        $response = $t->request($method, $uri, %$arg);
    });

    if ($body =~ /^[a-z]+_/) {
        refused($response, $status, $body, "$name: answer");

    } else {
        like("$response->{status} $response->{body}", ref $body
             ? qr/^$status .*$body/s : qr/^$status \Q$body\E$/,
             "$name: answer");
    }

    is(join(' ', map { /^(\w+)/ } @{ $response->{headers}{'www-authenticate'}
                                     // [] }),
        $challenges, "$name: challenges");

    is($charged, $charges, "$name: charges");
}
