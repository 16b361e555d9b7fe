#!/usr/bin/perl

# Copyright (C) The ngx_http_rbgv_auth authors

# Tests for the documentation: it has what the code has, and nothing else; its
# links lead somewhere; the configuration of README.md is a good one.

use strict;
use warnings;

use File::Basename qw(dirname);
use File::Slurper qw(read_binary);
use Test::More;

use Test::Rbgv;

my $t = Test::Rbgv->new;
my $root = $t->root;

my $module     = read_binary("$root/ngx_http_rbgv_auth_module.c");
my $variables  = read_binary("$root/src/ngx_http_rbgv_auth_variables.c");
my $metrics    = read_binary("$root/src/ngx_http_rbgv_auth_metrics.c");
my $directives = read_binary("$root/docs/directives.md");
my $readme     = read_binary("$root/README.md");
my $rbgvctl    = read_binary("$root/docs/rbgvctl.md");

my ($table) = $module =~ /^static ngx_command_t .*? = \{(.*?)^\};/ms;
my ($vars)  = $variables =~ /^static ngx_http_variable_t .*? = \{(.*?)^\};/ms;

my @directives = sort $table =~ /ngx_string\("(\w+)"\)/g;
my @variables  = sort $vars =~ /ngx_string\("(\w+)"\)/g;
my @metrics    = sort $metrics =~ /"# TYPE (\w+) /g;
my @series     = map { my $name = $_; map { "${name}_$_" } qw(bucket sum count) }
                 $metrics =~ /"# TYPE (\w+) histogram/g;
my @commands   = sort map { read_binary($_)
                            =~ /rbgvctl_command_t\s+\w+\s*=\s*\{\s*"(\w+)"/g }
                      glob("$root/src/rbgvctl*.c");

cmp_ok(scalar @directives, '>', 10, 'directives are found');
cmp_ok(scalar @variables, '>', 5, 'variables are found');
cmp_ok(scalar @metrics, '>', 1, 'metrics are found');
cmp_ok(scalar @commands, '>', 5, 'commands are found');


# directives: a section each, in its form; a row in README.md

is_deeply([ sort $directives =~ /^## (rbgv_\w+)$/mg ], \@directives,
    'directives');

is_deeply([ sort $readme =~ m{^\| \[(\w+)\]\(docs/directives\.md#\1\) }mg ],
    \@directives, 'directives in README.md');

for my $name (@directives) {
    my ($section) = $directives =~ /^## $name\n(.*?)(?=^#)/ms;

    like($section // '',
        qr{^\n\*\*Syntax:\*\*\ $name(?:\ [^;]+)?;
           .*?\n\n\*\*Default:\*\*\ (?:—|$name\ [^;\n]+;)
           \n\n\*\*Context:\*\*\ [a-z_]+(?:,\ [a-z_]+)*
           \n\nThis\ directive\ appeared\ in\ version\ \d+\.\d+\.\d+\.\n}sx,
        "form of $name");
}


# variables: a section each; metrics: a row each

is_deeply([ sort $directives =~ /^## \$(\w+)$/mg ], \@variables, 'variables');

is_deeply([ sort $directives =~ /^\| `(rbgv_\w+)(?:\{[a-z,=]*\})?` \| /mg ],
    \@metrics, 'metrics');


# nothing is named that is not there

my %known = map { $_ => 1 } @directives, @variables, @metrics, @series;

for my $file (grep { -f } glob("$root/*.md $root/CHANGES $root/docs/*"
                               . " $root/docs/*/*"))
{
    my ($name) = $file =~ m{^\Q$root\E/(.*)};
    my %named = map { $_ => 1 } read_binary($file) =~ /\b(rbgv_auth_\w*[a-z])\b/g;

    is_deeply([ sort grep { !$known{$_} } keys %named ], [],
        "unknown names in $name");
}


# rbgvctl: a row and a section each

my @rows = map { /\[`(\w+)/g } $rbgvctl =~ /^\| (\[`.*?) \|/mg;
my @sections = map { split /, / } $rbgvctl =~ /^## ([a-z, ]+)$/mg;

is_deeply([ sort @rows ], \@commands, 'commands');
is_deeply([ sort @sections ], \@commands, 'sections of commands');


# links to files that are there, and to sections of them

for my $file (glob("$root/*.md $root/docs/*.md $root/docs/*/*.md")) {
    my ($name) = $file =~ m{^\Q$root\E/(.*)};

    for my $link (read_binary($file) =~ /\]\(([^)\s]+)\)/g) {
        next if $link =~ /^https?:/;

        my ($path, $anchor) = $link =~ /^([^#]*)#?(.*)$/;
        my $target = $path eq '' ? $file : dirname($file) . "/$path";

        ok(-e $target
           && ($anchor eq '' || grep { $_ eq $anchor } anchors($target)),
            "$name: $link");
    }
}


# each alert: what to do, in a section that is there, and a row of its own

my $rules = read_binary("$root/docs/prometheus-rules.yml");
my $operations = read_binary("$root/docs/operations.md");
my @alerts = sort $rules =~ /- alert: (\w+)$/mg;

cmp_ok(scalar @alerts, '>', 5, 'alerts are found');
is_deeply([ sort $operations =~ /^\| `(RbgvAuth\w+)` \|/mg ], \@alerts,
    'alerts in operations.md');

my @runbooks = $rules =~ m{^ +runbook: docs/operations\.md#(\S+)$}mg;

is(scalar @runbooks, scalar @alerts, 'all have a link');
is_deeply([ grep { my $link = $_;
                   !grep { $_ eq $link } anchors("$root/docs/operations.md") }
            @runbooks ], [], 'which leads somewhere');


# the configuration to copy

my ($conf) = $readme =~ /^```nginx\n(.*?)^```/ms;

$t->write_file(pepper => 'p' x 16);

$conf =~ s/^load_module .*$/%%TEST_GLOBALS%%/m;
$conf =~ s/^http \{$/http {\n%%TEST_GLOBALS_HTTP%%/m;
$conf =~ s/listen 8080/listen 127.0.0.1:%%PORT_0%%/;
$conf =~ s{/etc/nginx/rbgv\.pepper}{%%DIR%%/pepper};

like($t->check_conf($conf), qr/test is successful/,
    'configuration of README.md');

$t->done;


# of headings, as GitHub makes them
sub anchors {
    my ($path) = @_;

    my $text = read_binary($path) =~ s/^```.*?^```//gmsr;

    return map { s/[^\w\- ]//gr =~ tr/ /-/r } map { lc }
           $text =~ /^#+ +(.*?) *$/mg;
}
