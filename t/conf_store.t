#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for the configuration of the store and the pepper: what is wrong stops
# "nginx -t" with a message that names it, and never shows a password.

use strict;
use warnings;

use Test::More;
use Test::Rbgv;
use Test::Rbgv::Conf;

my $t = Test::Rbgv->new;
my $dir = $t->dir;

$t->write_file(password => "geheim\nthe rest\n");
$t->write_file(crlf => "geheim\r\n");
$t->write_file(empty => "\n");
$t->write_file(long => 'x' x 513);
$t->write_file(pepper => 'p' x 16);
$t->write_file(other => 'q' x 16);
$t->write_file(short => 'p' x 15);

# in a location; the URI of the store, what is said
my @uris = (
    [ 'http://h', 'scheme is none of' ],
    [ 'redis:/h', 'scheme is none of' ],
    [ '127.0.0.1:6379', 'scheme is none of' ],
    [ 'redis://', 'no host' ],
    [ 'redis://:6379', 'no host' ],
    [ 'redis://h:0', 'port is not a number between 1 and 65535' ],
    [ 'redis://h:65536', 'port is not' ],
    [ 'redis://h:', 'port is not' ],
    [ 'rediss://', 'no host' ],
    [ 'rediss://h:x', 'port is not' ],
    [ 'redis://h:x', 'port is not' ],
    [ 'redis://[::1', 'no closing bracket' ],
    [ 'redis://[::1]x', 'followed by something else than a port' ],
    [ 'redis://h/x', 'database is not a number' ],
    [ 'redis://h/-1', 'database is not a number' ],
    [ 'redis://h/65536', 'database is not a number' ],
    [ 'unix:', 'path of its socket is not absolute' ],
    [ 'unix:s', 'path of its socket is not absolute' ],
    [ 'unix:/' . 's' x 107, 'path of its socket is too long' ],
    [ 'unix:/s?db=x', 'database is not a number' ],
    [ 'unix:/s?dv=1', 'only argument is "?db="' ],
);

refuse_conf($t, 'location', "rbgv_auth_redis $_->[0];",
    qr/invalid address "\Q$_->[0]\E" in "rbgv_auth_redis": .*\Q$_->[1]\E/)
    for @uris;

# with a password, which must not be shown
my $redis = '"rbgv_auth_redis"';
my $file  = 'rbgv_auth_redis_password_file';

refuse_conf($t, 'location', @$_) for (
    map({ [ "rbgv_auth_redis $_;", qr/invalid address in $redis, not shown/ ] }
        'http://u:geheim@h', 'redis://u:geheim@h:x', 'redis://u:geheim@',
        'rediss://u:geheim@h:x',
        'redis://u:geheim@h/x', 'redis://u:%zzgeheim@h',
        'unix://u:geheim@s', 'redis://u:gehe/im@h:1'),
    [ 'rbgv_auth_redis redis://:geheim@h rbgv;', qr/number of arg.* $redis/ ],
    [ 'rbgv_auth_redis redis://:geheim@127.0.0.1;' x 2, qr/$redis .*duplic/ ],
    [ 'rbgv_auth_redis redis://u@127.0.0.1;',
      qr/$redis names the user "u" and no password: set "$file"/ ],
    [ 'rbgv_auth_redis unix://u@/s;', qr/the user "u" and no password/ ],
    [ "rbgv_auth_redis unix://u:geheim\@/s; $file password;",
      qr/a password is both in $redis and in "$file"/ ],
    [ "$file %%DIR%%/none;",
      qr{cannot read .*"$dir/none" of "$file": No such file} ],
    [ "$file %%DIR%%;",
      qr/cannot read the file "$dir" of "$file": Is a directory/ ],
    map({ [ "$file %%DIR%%/$_;",
            qr{"$dir/$_" of "$file": its first line is (?:empty|too long)} ] }
        'empty', 'long'),
);

# TLS
my $tls = 'rbgv_auth_redis rediss://127.0.0.1; rbgv_auth_redis_ssl';

refuse_conf($t, 'location', "${tls}_$_->[0];", $_->[1]) for (
    [ 'certificate a.pem', qr/no\ "rbgv_auth_redis_ssl_certificate_key"\ is
                              \ defined\ for\ certificate\ "a\.pem"/x ],
    [ 'certificate %%DIR%%/none; rbgv_auth_redis_ssl_certificate_key k.pem',
      qr{certificate "$dir/none": .*No such file} ],
    [ 'trusted_certificate %%DIR%%/none', qr{"$dir/none"} ],
    [ 'crl %%DIR%%/none', qr{"$dir/none"} ],
    [ 'password_file %%DIR%%/none', qr{"$dir/none" failed .*No such file} ],
    [ 'password_file %%DIR%%/password; '
      . 'rbgv_auth_redis_ssl_password_file password',
      qr/"rbgv_auth_redis_ssl_password_file" directive is duplicate/ ],
    [ 'protocols TLSv9', qr/invalid value "TLSv9"/ ],
    [ 'ciphers NONE', qr/SSL_CTX_set_cipher_list\("NONE"\) failed/ ],
    [ 'conf_command None off', qr/SSL_CONF_cmd\("None", "off"\) failed/ ],
    [ 'verify maybe', qr/invalid value "maybe"/ ],
);

# the pepper
refuse_conf($t, 'http', "rbgv_auth_pepper_file $_->[0];", $_->[1]) for (
    [ '%%DIR%%/none',
      qr{pepper file "$dir/none" of "rbgv_auth_pepper_file": No such file} ],
    [ '%%DIR%%', qr/pepper file "$dir" .*directory/ ],
    [ '%%DIR%%/short', qr{/short" .*shorter than 16} ],
    [ '%%DIR%%/long', qr{/long" .*longer than 512} ],
    [ '%%DIR%%/pepper %%DIR%%/none', qr{pepper file "$dir/none" of .*No such} ],
    [ '%%DIR%%/none %%DIR%%/pepper', qr{pepper file "$dir/none" of .*No such} ],
    [ '%%DIR%%/pepper %%DIR%%/short', qr{/short" .*shorter than 16} ],
    [ '%%DIR%%/pepper %%DIR%%/pepper',
      qr{files "$dir/pepper" and "$dir/pepper" .*hold the same pepper} ],
    [ '%%DIR%%/pepper %%DIR%%/other %%DIR%%/other', qr/number of arguments/ ],
);

accept_conf($t, 'http', "rbgv_auth_pepper_file $_;")
    for '%%DIR%%/pepper', '%%DIR%%/pepper %%DIR%%/other';
accept_conf($t, 'location', "rbgv_auth_redis $_;") for (
    'redis://127.0.0.1', 'redis://127.0.0.1:1/', 'redis://127.0.0.1/65535',
    'redis://[::1]', 'redis://[::1]:65535/3',
    # a bare system may have no /etc/hosts
    (gethostbyname 'localhost' ? 'redis://localhost' : ()),
    'redis://u:geheim@127.0.0.1', 'redis://:gehe%2Fim%40@[::1]:1/1',
    'rediss://127.0.0.1', 'rediss://[::1]:1/2', 'rediss://:geheim@[::1]',
    'unix:/s', 'unix:/s?db=2', 'unix:///s', 'unix://u:geheim@/s?db=0',
    'unix:/' . 's' x 106,
    "unix://u\@/s?db=2; $file %%DIR%%/password",
    "redis://u\@[::1]/2; $file %%DIR%%/crlf",
);


# settings of TLS that nothing uses: a warning, on whatever level they are

my %level = map { $_ => '' } qw(http server location);

sub said {
    my (%line) = (%level, @_);

    return $t->check_conf(<<"EOC");
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    $line{http}
    server {
        listen 127.0.0.1:%%PORT_0%%;
        $line{server}
        location /on { rbgv_auth on; $line{location} }
        location /off { rbgv_auth_redis rediss://127.0.0.1; }
    }
}
EOC
}

my $unused = qr/\[warn\] .*"rbgv_auth_redis_ssl_\*" have no effect/;

for my $level (sort keys %level) {
    my $verify = 'rbgv_auth_redis_ssl_verify off;';

    like(said($level => $verify), $unused, "$level: a warning");
    like(said($level => $verify), qr/test is successful/, 'and no error');
    unlike(said($level => $verify,
                $level eq 'location' ? 'server' : 'location',
                'rbgv_auth_redis rediss://127.0.0.1;'),
        $unused, "$level: none if there is TLS");
}

unlike(said(), $unused, 'none without settings');

$t->done;
