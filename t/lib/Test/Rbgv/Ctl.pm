package Test::Rbgv::Ctl;

# What rbgvctl answers.

use strict;
use warnings;

use Exporter qw(import);
use JSON::PP;
use Test::More;

our @EXPORT = qw(DONE REFUSED USAGE STORE ctl_is ctl_json);

use constant { DONE => 0, REFUSED => 1, USAGE => 2, STORE => 3 };


# ctl_is(TEST, [ARGUMENT...], STATUS, OUTPUT, ERRORS, NAME); the two are strings
# or patterns
sub ctl_is {
    my ($t, $args, $status, $out, $err, $name) = @_;
    my @got = $t->rbgvctl(@$args);

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    return ok($got[0] == $status
              && (ref $out ? $got[1] =~ $out : $got[1] eq $out)
              && (ref $err ? $got[2] =~ $err : $got[2] eq $err), $name)
        || diag("exit $got[0]\n$got[1]\n$got[2]");
}


# ctl_json(TEST, ARGUMENT...) -> what it printed with --json
sub ctl_json {
    my ($t, @args) = @_;
    my ($exit, $out, $err) = $t->rbgvctl('--json', @args);

    die "rbgvctl @args: $err" if $exit;

    return decode_json($out);
}


1;
