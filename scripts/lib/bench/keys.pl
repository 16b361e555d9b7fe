#!/usr/bin/env perl

# Makes API keys and the Redis commands that store them, as "rbgvctl create"
# would: docs/redis.md.  Faster, for a great many.
#
# keys.pl COUNT STATUS PEPPER_FILE KEYS_FILE: one key a line is appended to
# KEYS_FILE, and input for "redis-cli --pipe" goes to standard output.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);

use lib dirname(abs_path(__FILE__)) . '/../../../t/lib';
use Test::Rbgv::Key qw(digest sign_key);

@ARGV == 4 or die "usage: keys.pl COUNT STATUS PEPPER_FILE KEYS_FILE\n";

my ($count, $status, $pepper_file, $keys_file) = @ARGV;

my @base62 = (0 .. 9, 'A' .. 'Z', 'a' .. 'z');
my $now    = time;

open my $pepper_fh, '<', $pepper_file or die "$pepper_file: $!\n";
chomp(my $pepper = <$pepper_fh>);

open my $keys, '>>', $keys_file or die "$keys_file: $!\n";

for my $i (1 .. $count) {
    my $id      = random(12);
    my $key     = sign_key("rbgv_prod_${id}_" . random(32));
    my $digest  = digest($key, $pepper);
    my $created = $now - $i;

    print $keys "$key\n";

    print command('HSET', "rbgv:key:{$id}",
                  name             => "bench-client$i-prod",
                  environment      => 'prod',
                  owner            => 'bench',
                  status           => $status,
                  created          => $created,
                  "secret:$digest" => "active $created 0");
    print command('ZADD', 'rbgv:keys', $created, $id);
}

close $keys or die "$keys_file: $!\n";


# good enough for keys that live as long as a measurement
sub random {
    return join '', map { $base62[rand 62] } 1 .. $_[0];
}


sub command {
    return '*' . @_ . "\r\n"
           . join '', map { '$' . length . "\r\n$_\r\n" } @_;
}
