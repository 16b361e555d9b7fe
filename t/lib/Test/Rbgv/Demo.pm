package Test::Rbgv::Demo;

# scripts/run, and what it leaves.

use strict;
use warnings;

use Exporter qw(import);
use JSON::PP;

use Test::Rbgv;

our @EXPORT_OK = qw(demo demo_running demo_try);


# demo(OPTIONS) -> exit status, what it said
sub demo {
    my ($options) = @_;

    my $output = `'@{[ Test::Rbgv->root ]}/scripts/run' $options 2>&1`;
    return ($? >> 8, $output);
}


# the status that a line shows, and the code of the error if it is one
sub demo_try {
    my ($line) = @_;

    my ($head, $body) = split /\r\n\r\n/, `{ $line\n} 2>/dev/null`, 2;
    my ($status) = $head =~ m{^HTTP/1.1 (\d+)};

    return ($status + 0, decode_json($body)->{error}{code});
}


# zombies do not count
sub demo_running {
    my ($pid) = @_;

    open my $stat, '<', "/proc/$pid/stat" or return 0;
    return <$stat> !~ /\) Z /;
}


1;
