package Test::Rbgv::Usage;

# What a key has been charged, as Redis holds it, and what Redis was asked.

use strict;
use warnings;

use Exporter qw(import);

use Test::Rbgv::Process qw(wait_for);

our @EXPORT_OK = qw(asked charged usage);


# usage(TEST, ID[, SERVER]) -> { calls, limited, job, and the sum of each
# policy's windows }; over all days, since a test may run at midnight
sub usage {
    my ($t, $id, $server) = @_;

    $server //= $t->redis_server;

    my %field = $server->command(HGETALL => "rbgv:use:{$id}");
    my %sum;

    for (keys %field) {
        $sum{calls}   += $field{$_} if /^d:/;
        $sum{$1}    += $field{$_} if /^r:.*:(limited|job)$/;
        $sum{$1} += (unpack 'Q<L<', $field{$_})[1] if /^w:(.*):/;
    }

    return \%sum;
}


# charged(TEST, ID, CHARGES, CODE) -> what CODE was charged, as in
# "calls:1 default:3".  What was refused without asking Redis is told a while
# later, so that CHARGES is waited for.
sub charged {
    my ($t, $id, $charges, $code) = @_;

    my $before = usage($t, $id);
    $code->();

    my $charged = sub {
        my $after = usage($t, $id);
        my %diff = map { $_ => $after->{$_} - ($before->{$_} // 0) }
            keys %$after;

        return join ' ',
            map { "$_:$diff{$_}" } grep { $diff{$_} } sort keys %diff;
    };

    eval { wait_for(sub { $charged->() eq $charges }, 'charges', 5) };

    return $charged->();
}


# commands about keys that Redis has run
sub asked {
    my ($t) = @_;

    my $stats = $t->redis(INFO => 'commandstats');
    my $n = 0;

    for (grep { /^cmdstat_(?:h|eval)/ } keys %$stats) {
        $n += $1 if $stats->{$_} =~ /calls=(\d+)/;
    }

    return $n;
}


1;
