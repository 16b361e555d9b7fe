#!/usr/bin/perl

# Tests for the configurations of docs/examples/: nginx takes each of them.

use strict;
use warnings;

use CPAN::Meta::YAML;
use File::Basename qw(basename);
use Test::More;

use Test::Rbgv;
use Test::Rbgv::Certificates;

my $t = Test::Rbgv->new;
my $examples = $t->root . '/docs/examples';

$t->write_file(pepper   => 'p' x 16);
$t->write_file(password => 'password');

my $ca = Test::Rbgv::Certificates->new($t->dir . '/ca');
$ca->issue('api', 'DNS:api.example');

my %file = (
    '/etc/nginx/rbgv.pepper'           => '%%DIR%%/pepper',
    '/etc/nginx/rbgv-gateway.password' => '%%DIR%%/password',
    '/etc/nginx/api.pem'               => '%%DIR%%/ca/api.pem',
    '/etc/nginx/api.key'               => '%%DIR%%/ca/api.key',
    '/etc/rbgv/pepper'                 => '%%DIR%%/pepper',
    '/etc/rbgv/password'               => '%%DIR%%/password',
    '/etc/rbgv/ca.pem'                 => '%%DIR%%/ca/ca.pem',
);

my @conf = glob("$examples/*.conf");
cmp_ok(scalar @conf, '>=', 4, 'examples are found');

for my $path (@conf) {
    conf_is_good(content($path), basename($path));
}


# the sidecar

my $name = 'kubernetes.yaml';
my %object = map { $_->{kind} => $_ }
             @{ CPAN::Meta::YAML->read_string(content("$examples/$name")) };

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


# every example is listed

my $list = content("$examples/README.md");
my @listed = $list =~ /^\| \[(\S+)\]\(\1\) \|/mg;

is_deeply([ sort @listed ],
    [ sort map { basename($_) } @conf, $name ], 'list of examples');

$t->done;


sub conf_is_good {
    my ($conf, $name) = @_;

    $conf =~ s/^load_module .*$/%%TEST_GLOBALS%%/m;
    $conf =~ s/^http \{$/http {\n%%TEST_GLOBALS_HTTP%%/m;
    $conf =~ s/\blisten (?:127\.0\.0\.1:)?(\d+)/listen 127.0.0.1:%%PORT_$1%%/g;
    $conf =~ s{(/etc/[^\s;]+)}{$file{$1} // $1}ge;
    $conf =~ s{/var/log/nginx/}{}g;

    # a name of the cluster, which nginx would look up
    $conf =~ s/\@redis\.gateway\.svc/\@127.0.0.1/;

    like($t->check_conf($conf), qr/test is successful/, $name);
}


sub content {
    my ($path) = @_;

    open my $file, '<', $path or die "$path: $!";
    local $/;
    return scalar <$file>;
}
