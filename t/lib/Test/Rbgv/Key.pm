package Test::Rbgv::Key;

# Keys made by hand: well formed, and unknown to any store.  And what is kept
# of any key: its id and its digest.

use strict;
use warnings;

use Compress::Zlib qw(crc32);
use Digest::SHA qw(hmac_sha256_hex sha256 sha256_hex);
use Exporter qw(import);
use Math::BigInt;

our @EXPORT_OK = qw(derive_id digest make_key sign_key);

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


# the id of a key of another system
sub derive_id {
    my ($text) = @_;

    my $n  = Math::BigInt->from_hex(substr sha256_hex($text), 0, 18);
    my $id = '';

    for (1 .. 12) {
        my ($quotient, $digit) = $n->copy->bdiv(62);

        $id = $base62[$digit] . $id;
        $n  = $quotient;
    }

    return $id;
}


# digest(KEY, PEPPER), in hex
sub digest {
    my ($text, $pepper) = @_;

    return hmac_sha256_hex(sha256($text), $pepper);
}


1;
