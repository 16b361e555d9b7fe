#!/usr/bin/perl

# Tests for scripts/build --nginx: another nginx, and what it is told of one
# that would not load the module.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;

my $t = Test::Rbgv->new;
my $dir = $t->dir . '/source';

# a copy, because others use what is built here
system("mkdir '$dir' && cd '@{[ $t->root ]}'"
       . " && tar -c --exclude=./.git --exclude=./build --exclude=node_modules ."
       . " | tar -x -C '$dir'")
    and die "no copy of the source\n";

my ($version) = `nginx -v 2>&1` =~ m{nginx/([\d.]+)};
my $signature = '8,4,8,' . '0' x 34;

like(build('none'), qr/^scripts\/build: no such program: none$/m,
    'no such program');
like(build(nginx('1.2.3', '')),
    qr{is nginx 1\.2\.3, and \S+ is nginx \Q$version\E; give the source of 1},
    'another version');

if ($ENV{RBGV_LONG}) {
    my $out = build(nginx($version, "--with-threads --with-cc-opt='-g -O2'"));

    isnt($?, 0, 'another signature');
    like($out, qr/would not load the module, "is not binary compatible":$/m,
        'why');
    like($out, qr/ nginx +$signature\n.* module +8,4,8,[01]+\n.*--with-compat$/m,
        'both are told');

    $out = build('nginx');
    is($?, 0, 'this nginx') or diag($out);
    ok(-e "$dir/build/ngx_http_rbgv_auth_module.so", 'is built for');
}

$t->done;


sub build {
    my ($nginx) = @_;

    return scalar `'$dir/scripts/build' --nginx '$nginx' 2>&1`;
}


# a program that says what an nginx says, and has its signature
sub nginx {
    my ($version, $arguments) = @_;

    my $path = $t->write_file('other', <<"EOP");
#!/bin/sh
# $signature
echo "nginx version: nginx/$version" >&2
[ "\$1" = -v ] || echo "configure arguments: $arguments" >&2
EOP

    chmod 0755, $path;
    return $path;
}
