package Test::Rbgv::Key;

# Keys made by hand: well formed, and unknown to any store.

use strict;
use warnings;

use Compress::Zlib qw(crc32);
use Exporter qw(import);

our @EXPORT_OK = qw(make_key sign_key);

my @base62 = (0 .. 9, 'A' .. 'Z', 'a' .. 'z');


# make_key(environment => E, id => I, secret => S)
sub make_key {
    my (%arg) = @_;

    return sign_key(join '_', 'rbgv', $arg{environment} // 'prod',
                    $arg{id} // 'A' x 12, $arg{secret} // 'a' x 32);
}


# the text with its checksum behind it
sub sign_key {
    my ($text) = @_;

    my $crc    = crc32($text);
    my $digits = '';

    for (1 .. 6) {
        $digits = $base62[$crc % 62] . $digits;
        $crc    = int($crc / 62);
    }

    return "${text}_$digits";
}


1;
