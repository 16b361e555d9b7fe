package Test::Rbgv::Proxy;

# A proxy between nginx and Redis that does to replies what a test says.  It
# knows the replies one by one, and which command each one answers.
#
#     my $proxy = Test::Rbgv::Proxy->new(listen => PORT or PATH,
#                                        to => PATH of Redis);
#
#     $proxy->rule(on => 'HGETALL', with => "+OK\r\n");
#
# A rule replaces the one before, and holds for open connections too:
#
#     on      => NAME     of the command, in upper case; else all
#     channel => 1        only what comes on connections with a SUBSCRIBE
#     times   => N        so many replies, and then no more
#     with    => BYTES    instead of the reply
#     before  => BYTES    ahead of it
#     after   => BYTES    behind it
#     endless => BYTES    behind it, again and again
#     corrupt => N        its byte N is another one
#     mask    => N        by these bits; else the lowest
#     swap    => N        N such replies in reverse order
#     hold    => 1        until the next rule that has no hold, with all that
#                         come behind it on the connection
#     delay   => SECONDS
#     pieces  => N        sent N bytes at a time
#     close   => 1        close the connections it is about, at once
#     cut     => N        close after N bytes of a connection's replies
#     reset   => N        the same with a reset, on TCP
#     dark    => 1        until a rule without it: nothing is read, and by TCP
#                         nobody gets a connection or is told that there is none

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use JSON::PP;
use POSIX ();
use Socket qw(SOL_SOCKET SO_LINGER SOMAXCONN);
use Time::HiRes qw(time);

my %owner;


sub new {
    my ($class, %arg) = @_;

    my $listen = $arg{listen} =~ m{^/}
        ? IO::Socket::UNIX->new(Local => $arg{listen}, Listen => SOMAXCONN)
        : IO::Socket::INET->new(LocalAddr => '127.0.0.1',
                                LocalPort => $arg{listen},
                                ReuseAddr => 1, Listen => SOMAXCONN);
    $listen or die "cannot listen on $arg{listen}: $!\n";

    my ($here, $there) = IO::Socket::UNIX->socketpair(AF_UNIX, SOCK_STREAM, 0)
        or die "socketpair: $!\n";
    my $pid = fork() // die "fork: $!";

    if ($pid == 0) {
        close $here;
        $SIG{$_} = 'DEFAULT' for qw(INT TERM);
        $SIG{PIPE} = 'IGNORE';
        eval { _run($listen, $there, $arg{to}) };
        warn "proxy: $@";
        POSIX::_exit(1);
    }

    close $there;
    $owner{$pid} = $$;

    return bless { pid => $pid, control => $here }, $class;
}


# What happened so far: { connections, replies, messages, bytes, treated,
# corrupted, cut, held }.  The new rule is in force on return.
sub rule {
    my ($self, %rule) = @_;

    return $self->_ask({ rule => \%rule });
}


sub stats { $_[0]->_ask({}) }


sub _ask {
    my ($self, $question) = @_;

    syswrite $self->{control}, encode_json($question) . "\n";
    my $answer = readline $self->{control} // die "the proxy has ended\n";

    return decode_json($answer);
}


# It ends with the test in any case: its control socket is closed then.
sub DESTROY {
    my ($self) = @_;

    return if ($owner{ $self->{pid} } // 0) != $$;

    local $?;
    kill 'TERM', $self->{pid};
    waitpid $self->{pid}, 0;
}


# In the process of the proxy

my ($select, $rule, %stats, %session);

# dark: whoever takes the room that there is to wait for a connection
my ($dark, @waiting);


sub _run {
    my ($listen, $control, $to) = @_;

    $select = IO::Select->new($listen, $control);
    $rule   = {};
    %stats  = map { $_ => 0 } qw(connections replies messages bytes
                             treated corrupted cut held);

    while (1) {
        for my $socket ($select->can_read(_next_time())) {
            if    ($socket == $control) { _control($control, $listen) }
            elsif ($dark)               { next }
            elsif ($socket == $listen)  { _accept($listen, $to) }
            else                        { _read($socket) }
        }

        _flush($_) for _sessions();
    }
}


sub _sessions {
    my %seen;
    return grep { !$seen{$_}++ } values %session;
}


sub _next_time {
    my $wait;

    for my $s (_sessions()) {
        next unless @{ $s->{out} };
        my $left = $s->{out}[0]{at} - time;
        $left = 0 if $left < 0;
        $wait = $left if !defined $wait || $left < $wait;
    }

    return $wait;
}


sub _accept {
    my ($listen, $to) = @_;

    my $client = $listen->accept // return;
    $stats{connections}++;

    my $redis = IO::Socket::UNIX->new(Peer => $to)
        // return close $client;

    $client->blocking(0);

    my $s = { client => $client, redis => $redis, commands => [], out => [],
              held => [], swap => [], sent => 0, from => { client => '',
                                                           redis => '' } };
    $session{$_} = $s for $client, $redis;
    $select->add($client, $redis);
}


sub _control {
    my ($control, $listen) = @_;

    my $line = readline($control) // POSIX::_exit(0);
    my $question = decode_json($line);

    if ($question->{rule}) {
        $rule = $question->{rule};
        _dark($listen) if !$rule->{dark} != !$dark;

        for my $s (_sessions()) {
            _close($s) if $rule->{close} && _about($s);
            next if $s->{closed};

            my @held = $rule->{hold} ? () : splice @{ $s->{held} };
            _queue($s, $_) for @held;
        }
    }

    $stats{held} = 0;
    $stats{held} += @{ $_->{held} } for _sessions();

    syswrite $control, encode_json(\%stats) . "\n";
}


sub _read {
    my ($socket) = @_;

    my $s = $session{$socket} // return;
    my $side = $socket == $s->{client} ? 'client' : 'redis';

    sysread($socket, $s->{from}{$side}, 65536, length $s->{from}{$side})
        or return _close($s);

    if ($side eq 'client') {
        while (defined(my $command = _message(\$s->{from}{client}))) {
            my ($name) = $command =~ /^\*\d+\r\n\$\d+\r\n(\w+)/;
            push @{ $s->{commands} }, uc $name;
            $s->{channel} ||= uc $name eq 'SUBSCRIBE';
            return _close($s) if $rule->{close} && _about($s);
            syswrite $s->{redis}, $command;
        }
        return;
    }

    while (defined(my $reply = _message(\$s->{from}{redis}))) {
        $stats{replies}++;
        $stats{bytes} += length $reply;
        # a message of Pub/Sub answers no command
        my $message = $reply =~ /^\*3\r\n\$7\r\nmessage\r\n/;
        $stats{messages}++ if $message;

        _treat($s, $reply, $message ? 'MESSAGE' : shift @{ $s->{commands} });
    }
}


sub _dark {
    my ($listen) = @_;

    my @sockets = ($listen, map { $_->{client}, $_->{redis} } _sessions());

    $dark = $rule->{dark};
    close $_ for splice @waiting;

    if (!$dark) {
        listen $listen, SOMAXCONN;
        $select->add(@sockets);
        return;
    }

    $select->remove(@sockets);
    return if !$listen->isa('IO::Socket::INET');

    # one has room, and the others are not answered
    listen $listen, 0;
    @waiting = map {
        IO::Socket::INET->new(PeerAddr => $listen->sockhost, Blocking => 0,
                              PeerPort => $listen->sockport)
    } 1 .. 8;
}


# true if the rule may be about a connection
sub _about {
    my ($s) = @_;

    return $s->{channel} || !$rule->{channel};
}


# takes one RESP2 message
sub _message {
    my ($buffer) = @_;

    my ($pos, $left) = (0, 1);

    while ($left > 0) {
        my $end = index $$buffer, "\r\n", $pos;
        return if $end < 0;

        my $type = substr $$buffer, $pos, 1;
        my $n    = substr $$buffer, $pos + 1, $end - $pos - 1;

        $pos = $end + 2;
        $pos += $n + 2 if $type eq '$' && $n >= 0;
        $left += $n if $type eq '*' && $n > 0;
        $left--;
    }

    return if length $$buffer < $pos;
    return substr $$buffer, 0, $pos, '';
}


sub _treat {
    my ($s, $reply, $command) = @_;

    if (!_about($s)
        || (defined $rule->{on} && ($command // '') ne $rule->{on})
        || (defined $rule->{times} && $rule->{times} <= 0))
    {
        return _queue($s, $reply);
    }

    $stats{treated}++;
    $rule->{times}-- if defined $rule->{times};

    if ($rule->{swap}) {
        unshift @{ $s->{swap} }, $reply;
        return if @{ $s->{swap} } < $rule->{swap};
        $reply = join '', splice @{ $s->{swap} };
    }

    $reply = $rule->{with} // $reply;

    if (defined $rule->{corrupt} && $rule->{corrupt} < length $reply) {
        substr($reply, $rule->{corrupt}, 1) ^= chr($rule->{mask} // 1);
        $stats{corrupted}++;
    }

    _queue($s, ($rule->{before} // '') . $reply . ($rule->{after} // ''),
           $rule->{hold});

    $s->{endless} = $rule->{endless};
}


sub _queue {
    my ($s, $bytes, $hold) = @_;

    if ($hold || @{ $s->{held} }) {
        push @{ $s->{held} }, $bytes;
        return;
    }

    my $at = time + ($rule->{delay} // 0);
    my $n  = $rule->{pieces} || length $bytes;

    while (length $bytes) {
        push @{ $s->{out} }, { at => $at, bytes => substr $bytes, 0, $n, '' };
        # so that each one is read alone
        $at += 0.0005 if $rule->{pieces};
    }
}


sub _flush {
    my ($s) = @_;

    my $limit = $rule->{cut} // $rule->{reset};

    while (!$s->{closed}) {
        if (!@{ $s->{out} }) {
            return unless defined $s->{endless};
            push @{ $s->{out} }, { at => time, bytes => $s->{endless} };
        }

        my $out = $s->{out}[0];
        last if $out->{at} > time;

        my $n = length $out->{bytes};
        $n = $limit - $s->{sent} if defined $limit && $n > $limit - $s->{sent};

        my $sent = $n > 0 ? syswrite $s->{client}, $out->{bytes}, $n : 0;

        if (!defined $sent) {
            return _close($s) unless $!{EAGAIN};
            $out->{at} = time + 0.001;
            return;
        }

        $s->{sent} += $sent;
        substr $out->{bytes}, 0, $sent, '';
        shift @{ $s->{out} } if $out->{bytes} eq '';

        if (defined $limit && $s->{sent} >= $limit) {
            setsockopt $s->{client}, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0
                if defined $rule->{reset};
            $stats{cut}++;
            return _close($s);
        }
    }
}


sub _close {
    my ($s) = @_;

    $s->{closed} = 1;

    for my $socket ($s->{client}, $s->{redis}) {
        $select->remove($socket);
        delete $session{$socket};
        close $socket;
    }
}


1;
