package Test::Rbgv::Script;

# src/rbgv_count.lua, run on one key, by the clock of Redis or by a faked one.

use strict;
use warnings;

use File::Slurper qw(read_binary);
use Redis;


# new(a Test::Rbgv with a Redis)
sub new {
    my ($class, $t) = @_;

    my $source = read_binary($t->root . '/src/rbgv_count.lua');

    # the clock comes as KEYS[2] and KEYS[3]
    (my $faked = $source) =~ s/call\('TIME'\)/{ KEYS[2], KEYS[3] }/
        or die 'the script does not ask for the time';

    my $redis = Redis->new(sock => $t->redis_server->socket);

    return bless {
        redis => $redis,
        real  => $redis->script_load($source),
        faked => $redis->script_load($faked),
        id    => '000000000000',
    }, $class;
}


# the slices of a key begin so many microseconds earlier
sub shift_of {
    my ($id, $seconds) = @_;

    my ($a, $b) = unpack 'x10 C2', $id;

    return int($seconds * 63493 / 1024) * (($a * 64 + $b) % 1024);
}


# of the key from now on
sub id { @_ > 1 ? $_[0]{id} = $_[1] : $_[0]{id} }
sub earlier { return shift_of($_[0]{id}, $_[1]) }
sub key { "use:{$_[0]{id}}" }


sub redis { $_[0]{redis} }


# grant(MICROSECONDS or none for the clock of Redis, [ windows ], need => N,
# want => N, cost => N, lead => MICROSECONDS, used => { secret => N }, more =>
# { name => N }); a window is [ name, quota, seconds ].  Returns the reply, or gives it to the
# handler when the caller waits for all replies.
sub grant {
    my ($self, $now, $windows, %arg) = @_;

    my $need = $arg{need} // 0;
    my $used = $arg{used} // { '0123456789abcdef' => 0 };
    my $more = { %{ $arg{more} // {} } };
    my @unused = map { delete $more->{$_} // 0 } qw(unused granted);

    my @secrets = sort keys %$used;
    my @integers = ($need, $arg{want} // $need, $arg{cost} // 1, $arg{lead} // 0, @unused,
                    scalar @secrets, @$used{@secrets},
                    map { $_->[1], $_->[2] } @$windows);

    return $self->run(
        $now, pack('Q<*', @integers),
        (map { "s:$_" } @secrets),
        (map { "w:$_->[0]:$_->[2]" } @$windows),
        %$more ? join(' ', map { "$_=$more->{$_}" } sort keys %$more) : (),
        $arg{handler} ? $arg{handler} : ());
}


# with these arguments, and a handler or none
sub run {
    my ($self, $now, @argv) = @_;

    my @time = defined $now ? (int $now / 1e6, $now % 1e6) : ();

    return $self->{redis}->evalsha(
        $self->{ @time ? 'faked' : 'real' }, 1 + @time, $self->key, @time,
        @argv);
}


# one call: 1 or 0; when to try again; and what is left and for how long, for
# each window
sub count {
    my ($self, $now, $cost, $windows, $more, $handler) = @_;

    my $short = sub { [ @{ $_[0] }[0, 1], @{ $_[0] }[4 .. $#{ $_[0] }] ] };

    my $reply = $self->grant($now, $windows, need => 1, cost => $cost,
                             more => $more,
                             handler => $handler
                                 && sub { $handler->($short->($_[0])) });

    return $handler ? $reply : $short->($reply);
}


# how many of N calls are admitted
sub admitted {
    my ($self, $n, $now, $windows) = @_;

    return scalar grep { $self->count($now, 1, $windows)->[0] } 1 .. $n;
}


sub fields { return { $_[0]{redis}->hgetall($_[0]->key) } }
sub forget { $_[0]{redis}->del($_[0]->key) }


1;
