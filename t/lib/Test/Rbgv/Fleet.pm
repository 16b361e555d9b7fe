package Test::Rbgv::Fleet;

# Keys by the thousand, written into Redis as "rbgvctl create" and the gateway
# would, by one pipelined connection a server: docs/redis.md.

use strict;
use warnings;

use Carp qw(croak);
use Exporter qw(import);
use IO::Socket::UNIX;

use Test::Rbgv::Key qw(digest make_key);

our @EXPORT_OK = qw(fleet_id good_fleet make_fleet);


# make_fleet(TEST, COUNT, CODE): CODE gets a number from 0 on, and returns the
# fields of the key that are not as below, and those of its counters; fields
# that are undefined are left out
sub make_fleet {
    my ($t, $count, $code) = @_;

    my $now    = time;
    my $router = $t->redis_server->router;
    my %sockets;

    for (my $i = 0; $i < $count; $i += 500) {
        my %commands;

        for my $n ($i .. ($i + 500 < $count ? $i + 500 : $count) - 1) {
            my ($fields, $use) = $code->($n);

            for (_commands($n, $now, $fields // {}, $use // {})) {
                push @{ $commands{ $router->($_->[1])->socket } },
                    _command(@$_);
            }
        }

        while (my ($path, $commands) = each %commands) {
            my $socket = $sockets{$path} //= IO::Socket::UNIX->new($path)
                // croak "cannot connect to redis: $!";

            print $socket @$commands;
            $socket->flush;
            _replies($socket, scalar @$commands);
        }
    }
}


# keys that are good, as { key, id }
sub good_fleet {
    my ($t, $count) = @_;

    my @keys = map {
        { id => fleet_id($_), key => make_key(id => fleet_id($_)) }
    } 0 .. $count - 1;

    open my $file, '<', $t->pepper_file or croak $t->pepper_file . ": $!";
    chomp(my $pepper = <$file>);

    make_fleet($t, $count, sub {
        return { 'secret:' . digest($keys[ $_[0] ]{key}, $pepper)
                     => 'active 1 0' };
    });

    return @keys;
}


# the id of a number
sub fleet_id { return sprintf 'F%011d', $_[0] }


sub _commands {
    my ($n, $now, $fields, $use) = @_;

    my $id      = fleet_id($n);
    my $created = $fields->{created} // $now;
    my %key     = (
        name        => "service$n-prod",
        environment => 'prod',
        owner       => 'team' . $n % 100,
        status      => 'active',
        created     => $created,
        %$fields,
    );

    $key{ sprintf 'secret:%064x', $n } = "active $created 0"
        unless grep { /^secret:/ } keys %key;

    return (
        [ 'HSET', "rbgv:key:{$id}",
          map { ($_, $key{$_}) } grep { defined $key{$_} } keys %key ],
        [ 'ZADD', 'rbgv:keys', $created, $id ],
        %$use ? [ 'HSET', "rbgv:use:{$id}", %$use ] : (),
    );
}


sub _command {
    return join '', '*' . @_ . "\r\n",
        map { '$' . length . "\r\n$_\r\n" } @_;
}


sub _replies {
    my ($socket, $n) = @_;

    while ($n-- > 0) {
        my $line = <$socket> // croak 'redis closed the connection';
        croak "redis: $line" if $line =~ /^-/;
    }
}


1;
