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
$t->write_file(ssi => '<!--# include virtual="/guarded" -->');

# what others may say, and what this module may: parts of locations

my %others = (
    allow         => 'allow all;',
    deny          => 'deny all;',
    basic         => 'auth_basic b;',
    'request-200' => 'auth_request /answer/200;',
    'request-401' => 'auth_request /answer/401;',
    'request-403' => 'auth_request /answer/403;',
    'request-500' => 'auth_request /answer/500;',
);
my %ours = (
    key     => '',
    limited => 'rbgv_auth_limit none 1r/1h; rbgv_auth_cost 2;',
    down    => 'rbgv_auth_redis redis://127.0.0.1:1;',
);

my $any = join "\n", map {
    my $other = $_;
    map { "location /any/$other-$_ { alias %%DIR%%/page; $others{$other} "
        . "$ours{$_} }" } sort keys %ours;
} sort keys %others;

$t->write_conf(<<"EOC")->start_nginx;
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
            $any
            location /any/basic { alias %%DIR%%/page; auth_basic b; }
            location /any/both { alias %%DIR%%/page; auth_basic b; deny all; }
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
        location /includes { alias %%DIR%%/ssi; ssi on; ssi_types *; }
        location /open-includes { rbgv_auth off;
                                  alias %%DIR%%/ssi; ssi on; ssi_types *; }
        location /sliced { slice 2; proxy_set_header Range \$slice_range;
                           rbgv_auth_limit sub 90r/1h;
                           proxy_pass http://127.0.0.1:%%PORT_1%%/page; }
    }
    server {
        listen 127.0.0.1:%%PORT_1%%;
        rbgv_auth off;
        location /page { }
        location ~ 200 { return 200 'a page'; }
        location ~ 401 { add_header WWW-Authenticate Other always;
                         return 401; }
        location ~ 403 { return 403; }
        location ~ 500 { return 500; }
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
    [ '/any/basic', undef, '', 401, 'missing_api_key', 'Basic ApiKey', '' ],
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
    [ '/includes', $good, '', 200, 'a page', '', 'calls:1' ],
    [ '/includes', undef, '', 401, 'missing_api_key', 'ApiKey', '' ],
    [ '/open-includes', undef, '', 200, 'a page', '', '' ],
    [ '/sliced', $good, '', 200, 'a page', '', 'calls:1 sub:1' ],
    [ '/sliced', undef, '', 401, 'missing_api_key', 'ApiKey', '' ],
) {
    my ($uri, $value, $header, @expected) = @$_;

    answers(($uri =~ m{^/a(?:ny|ll)/} ? 'input 23: ' : 'input 22: ')
            . "GET $uri" . (defined $value ? ' key:'
                            . ($value eq $good ? 'good' : 'forged') : '')
            . ($header eq $basic ? ' user' : $header ? ' stranger' : ''),
        GET => $uri, { key => $value, headers => [ $header || () ] },
        @expected);
}

# any: who lets in is not asked again, who does not leaves it to the next; what
# is neither 401 nor 403 ends it

my @let_in = ([ 200, 'a page', '', '' ]) x 5;
my @next   = (
    [ 200, 'a page', '', 'calls:1' ],
    [ 401, 'missing_api_key', 'ApiKey', '' ],
    [ 401, 'invalid_api_key', 'ApiKey', '' ],
    [ 429, 'rate_limited', '', 'limited:1' ],
    [ 503, 'auth_unavailable', '', '' ],
);
my @error  = ([ 500, qr/<html>/, '', '' ]) x 5;

# what another module says, a header, and what comes of it with ours
for (
    [ 'allow', '', @let_in ],
    [ 'deny', '', @next ],
    [ 'basic', $basic, @let_in ],
    [ 'basic', $wrong, map { challenged('Basic', $_) } @next ],
    [ 'request-200', '', @let_in ],
    [ 'request-401', '', map { challenged('Other', $_) } @next ],
    [ 'request-403', '', @next ],
    [ 'request-500', '', @error ],
) {
    my ($other, $header, @expected) = @$_;

    for (
        [ 'key', 'good', $good ], [ 'key', 'none', undef ],
        [ 'key', 'forged', $forged ], [ 'limited', 'good', $good ],
        [ 'down', 'good', $good ],
    ) {
        my ($kind, $name, $value) = @$_;

        answers("input 23: any, $other, $kind, $name",
            GET => "/any/$other-$kind",
            { key => $value, headers => [ $header || () ] },
            @{ shift @expected });
    }
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


# with the challenge of another module, which nginx drops if ours lets in
sub challenged {
    my ($scheme, $expected) = @_;

    my ($status, $body, $challenge, $charges) = @$expected;

    $challenge = join ' ', $scheme, $challenge || () if $status != 200;

    return [ $status, $body, $challenge, $charges ];
}


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
