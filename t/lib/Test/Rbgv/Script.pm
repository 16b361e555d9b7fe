package Test::Rbgv::Script;

# src/rbgv_count.lua, run on one key, by the clock of Redis or by a faked one.

use strict;
use warnings;

use Redis;


# new(a Test::Rbgv with a Redis)
sub new {
    my ($class, $t) = @_;

    open my $file, '<', $t->root . '/src/rbgv_count.lua' or die $!;
    my $source = do { local $/; <$file> };

    # the clock comes as KEYS[2] and KEYS[3]
    (my $faked = $source) =~ s/call\('TIME'\)/{ KEYS[2], KEYS[3] }/
        or die 'the script does not ask for the time';

    my $redis = Redis->new(sock => $t->redis_server->socket);

    return bless {
        redis => $redis,
        real  => $redis->script_load($source),
        faked => $redis->script_load($faked),
    }, $class;
}


sub redis { $_[0]{redis} }


# Microseconds, or none for the clock of Redis; cost; [ name, quota, seconds ]
# for each window; and calls, 1 if not given.  Returns the reply, or gives it
# to a handler when the caller waits for all replies.
sub count {
    my ($self, $now, $cost, $windows, $calls, $handler) = @_;

    my @time = defined $now ? (int $now / 1e6, $now % 1e6) : ();

    return $self->{redis}->evalsha(
        $self->{ @time ? 'faked' : 'real' }, 1 + @time, 'use', @time,
        $calls // 1, $cost, 's:0123456789abcdef',
        (map { "w:$_->[0]:$_->[2]" } @$windows),
        (map { $_->[1], $_->[2] } @$windows),
        $handler ? $handler : ());
}


# how many of N calls are admitted
sub admitted {
    my ($self, $n, $now, $windows) = @_;

    return scalar grep { $self->count($now, 1, $windows)->[0] } 1 .. $n;
}


sub fields { return { $_[0]{redis}->hgetall('use') } }
sub forget { $_[0]{redis}->del('use') }


1;
