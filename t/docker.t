#!/usr/bin/perl

# docker/Dockerfile, on an image that stands in for nginx's own: Debian with
# nginx, its version in the environment, and its source on this host.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;

plan skip_all => 'RBGV_LONG is not set' unless $ENV{RBGV_LONG};
plan skip_all => 'for root'             unless $> == 0;

my $t    = Test::Rbgv->new;
my $root = $t->root;
my $dir  = $t->dir;

my ($bare, $source) = split /\n/, bash('
    need_packages buildah nginx
    bare_debian 12
    debian_source nginx');

my ($version) = ($source // '') =~ m{/nginx-([0-9.]+)} or BAIL_OUT('no source');

mkdir "$dir/download" or die "$dir/download: $!";
system('tar', '-C', $source, '--transform', "s,^\\.,nginx-$version,", '-czf',
       "$dir/download/nginx-$version.tar.gz", '.') == 0 or die 'tar failed';

$t->write_conf(<<"EOC")->start_nginx;
%%TEST_GLOBALS%%
events {}
http {
    access_log off;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        location / { root $dir/download; }
    }
}
EOC

$t->write_file('nginx.docker', <<"EOF");
FROM scratch
COPY . /
RUN apt-get update && apt-get install -y --no-install-recommends nginx \\
    && mkdir -p /usr/lib/nginx/modules
ENV NGINX_VERSION=$version
EOF

build('stand-in', '-f', "$dir/nginx.docker", '-t', 'nginx:stand-in', $bare);

build('docker/Dockerfile', '-f', "$root/docker/Dockerfile", '-t', 'guarded',
      '--build-arg', 'NGINX=stand-in', '--build-arg',
      'SOURCE=http://127.0.0.1:' . $t->port(0), $root);

# by its last step, nginx has loaded the module

my ($container) = buildah('from', 'guarded') =~ /(\S+)\n\z/;

is(buildah('run', '--isolation', 'chroot', $container, '--', 'sh', '-c',
           'ls /usr/lib/nginx/modules; command -v gcc || echo no gcc'),
   "ngx_http_rbgv_auth_module.so\nno gcc\n",
   'the image has the module, and nothing that it was made with');

$t->done;


sub build {
    my ($what, @args) = @_;

    my $out = buildah('bud', '--isolation', 'chroot', '--network', 'host',
                      @args);

    is($?, 0, "$what builds") or do {
        diag((split /^/, $out)[-20 .. -1]);
        done_testing();
        exit 1;
    };
}


# what it prints; its images are in the directory of the test
sub buildah {
    my ($command, @args) = @_;

    return bash('buildah --storage-driver vfs --root "$1/images" --runroot '
                . '"$1/run" "${@:2}" </dev/null 2>&1', $dir, $command, @args);
}


sub bash {
    my ($commands, @args) = @_;

    open my $pipe, '-|', 'bash', '-euo', 'pipefail', '-c', "cd '$root'
        . scripts/lib/common.sh
        . scripts/lib/chroot.sh
        . scripts/lib/source.sh
        $commands", 'scripts/test', @args or die "bash: $!";

    my $out = do { local $/; <$pipe> } // '';
    close $pipe;

    return $out;
}
