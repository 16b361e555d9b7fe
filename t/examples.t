#!/usr/bin/perl

# Tests for the configurations of docs/examples/, and for the examples of
# docs/directives.md: nginx takes each of them.

use strict;
use warnings;

use CPAN::Meta::YAML;
use File::Basename qw(basename);
use File::Slurper qw(read_binary);
use Test::More;

use Test::Rbgv;
use Test::Rbgv::Certificates;

my $t = Test::Rbgv->new;
my $examples = $t->root . '/docs/examples';

$t->write_file(pepper   => 'p' x 16);
$t->write_file('pepper.old' => 'o' x 16);
$t->write_file(password => 'password');
$t->write_file(tokens   => 'a' x 64 . "\n");

my $ca = Test::Rbgv::Certificates->new($t->dir . '/ca');
$ca->issue('api', 'DNS:api.example');

my %file = (
    '/etc/nginx/rbgv.pepper'           => '%%DIR%%/pepper',
    '/etc/nginx/rbgv-gateway.password' => '%%DIR%%/password',
    '/etc/nginx/api.pem'               => '%%DIR%%/ca/api.pem',
    '/etc/nginx/api.key'               => '%%DIR%%/ca/api.key',
    '/etc/nginx/rbgv.pepper.old'       => '%%DIR%%/pepper.old',
    '/etc/nginx/gateway.password'      => '%%DIR%%/password',
    '/etc/nginx/rbgv-admin.password'   => '%%DIR%%/password',
    '/etc/nginx/rbgv-admin.tokens'     => '%%DIR%%/tokens',
    '/etc/nginx/redis-ca.pem'          => '%%DIR%%/ca/ca.pem',
    '/etc/rbgv/pepper'                 => '%%DIR%%/pepper',
    '/etc/rbgv/password'               => '%%DIR%%/password',
    '/etc/rbgv/ca.pem'                 => '%%DIR%%/ca/ca.pem',
);

my @conf = glob("$examples/*.conf");
cmp_ok(scalar @conf, '>=', 4, 'examples are found');

for my $path (@conf) {
    conf_is_good(read_binary($path), basename($path));
}


# the sidecar

my $name = 'kubernetes.yaml';
my %object = map { $_->{kind} => $_ }
             @{ CPAN::Meta::YAML->read_string(read_binary("$examples/$name")) };

is_deeply([ sort keys %object ], [qw(ConfigMap Deployment Service)],
    "objects of $name");

my $conf = $object{ConfigMap}{data}{'nginx.conf'};
my $pod  = $object{Deployment}{spec}{template}{spec};
my ($gateway) = grep { $_->{name} eq 'gateway' } @{ $pod->{containers} };

conf_is_good($conf, "nginx.conf of $name");

for my $port (@{ $gateway->{ports} }) {
    like($conf, qr/^ *listen $port->{containerPort};$/m,
        "port $port->{name} of $name");
}

is($pod->{volumes}[0]{configMap}{name}, $object{ConfigMap}{metadata}{name},
    "$name has its nginx.conf");
is_deeply($object{Service}{spec}{selector},
    $object{Deployment}{spec}{template}{metadata}{labels},
    "$name has its service");
is($pod->{volumes}[1]{secret}{defaultMode}, oct 400, 'root reads the secret');


# of each directive, where it may be

my @sections = read_binary($t->root . '/docs/directives.md')
    =~ /^## (rbgv_auth\w*\n.*?)(?=^## )/msg;

for my $section (@sections) {
    my ($directive) = $section =~ /^(\w+)/;
    my ($contexts)  = $section =~ /^\*\*Context:\*\* (.*)/m;
    my @examples    = $section =~ /^```nginx\n(.*?)^```$/msg;

    ok((grep { /\b$directive\b/ || $directive eq 'rbgv_auth_hide_key' }
        @examples), "an example of $directive");

    for my $example (@examples) {
        my @is = grep { takes(within($example, $_)) }
                 'server', $contexts =~ /\b(?:http|location)\b/g;
        ok(scalar @is, "nginx takes the example of $directive")
            or diag($example, said_of(within($example, 'server')));
    }
}


# every example is listed

my $list = read_binary("$examples/README.md");
my @listed = $list =~ /^\| \[(\S+)\]\(\1\) \|/mg;

is_deeply([ sort @listed ],
    [ sort map { basename($_) } @conf, $name ], 'list of examples');

$t->done;


sub conf_is_good {
    my ($conf, $name) = @_;

    like(said_of($conf), qr/test is successful/, $name);
}


sub takes { said_of($_[0]) =~ /test is successful/ }


# an example in the block that it is for
sub within {
    my ($example, $context) = @_;

    $example =~ s/^/    /mg;
    $example = "location /example/ { $example }" if $context eq 'location';
    $example = "server { listen 8080; $example }" if $context ne 'http';

    return <<"EOC";
load_module the module;
events {}
http {
    upstream backend { server 127.0.0.1:1; }
    map \$uri \$removal_price { default 1; }
    $example
}
EOC
}


# by nginx, of a configuration with the files of this machine
sub said_of {
    my ($conf) = @_;

    $conf =~ s/^load_module .*$/%%TEST_GLOBALS%%/m;
    $conf =~ s/^http \{$/http {\n%%TEST_GLOBALS_HTTP%%/m;
    $conf =~ s/\blisten (?:127\.0\.0\.1:)?(\d+)/listen 127.0.0.1:%%PORT_$1%%/g;
    $conf =~ s{(/etc/[^\s;]+)}{$file{$1} // $1}ge;
    $conf =~ s{/var/log/nginx/}{}g;

    # a name of the cluster, which nginx would look up
    $conf =~ s/\@redis\.gateway\.svc/\@127.0.0.1/;

    # a name that nginx would look up
    $conf =~ s/\@redis\.example/\@127.0.0.1/;

    return $t->check_conf($conf);
}
