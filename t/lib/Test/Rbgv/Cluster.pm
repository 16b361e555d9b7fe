package Test::Rbgv::Cluster;

# A Redis Cluster of the test's own: masters that share the slots, each with
# replicas.  Its nodes are Test::Rbgv::Redis.

use strict;
use warnings;

use Carp qw(croak);
use Exporter qw(import);

use Test::Rbgv::Process qw(wait_for);
use Test::Rbgv::Redis;

our @EXPORT_OK = qw(key_slot);

use constant SLOTS => 16384;


# new(dir => PREFIX, port => CODE, masters => N, replicas => N, timeout => MS,
# config => [LINE, ...]); CODE gets a name and returns a free port for it;
# "replicas" are those of each master
sub new {
    my ($class, %arg) = @_;

    my $masters = $arg{masters}  // 3;
    my $count   = $masters * (1 + ($arg{replicas} // 0));
    my @nodes;

    for my $n (0 .. $count - 1) {
        my $bus = $arg{port}->("bus $n");

        push @nodes, Test::Rbgv::Redis->new(
            dir    => "$arg{dir}-$n",
            port   => $arg{port}->("node $n"),
            config => [
                'cluster-enabled yes',
                'cluster-announce-ip 127.0.0.1',
                "cluster-port $bus",
                'cluster-node-timeout ' . ($arg{timeout} // 1000),
                'cluster-replica-validity-factor 0',
                'cluster-allow-replica-migration no',
                'repl-diskless-sync-delay 0',
                @{ $arg{config} // [] },
            ],
        );

        $nodes[-1]{bus} = $bus;
    }

    return bless {
        dir     => $arg{dir},
        nodes   => \@nodes,
        masters => $masters,
    }, $class;
}


# the first time, makes the cluster of its nodes
sub start {
    my ($self) = @_;

    $_->start for $self->nodes;
    $self->_create unless $self->{created}++;
    $self->wait_ok;

    return $self;
}


sub stop   { $_->stop for $_[0]->nodes }
sub kill   { $_->kill for $_[0]->nodes }
sub freeze { $_->freeze for $_[0]->nodes }
sub thaw   { $_->thaw for $_[0]->nodes }


# all, those that were made masters first; a replica of the first master is
# the one behind the last master
sub nodes { @{ $_[0]{nodes} } }


# those that have slots now
sub masters {
    my ($self) = @_;

    my %seen;
    return grep { $_ && !$seen{$_}++ } @{ $self->owners };
}


# the replicas of a node that are up
sub replicas {
    my ($self, $master) = @_;

    my $id = $self->id($master);

    return grep { $_->up && ($self->_view($_)->{$self->id($_)}{of} eq $id) }
           $self->nodes;
}


# the master of a name
sub master {
    my ($self, $name) = @_;

    return $self->owners->[key_slot($name)]
        // croak "nobody has the slot of $name";
}


# CODE that finds the master of a name, as of now
sub router {
    my ($self) = @_;

    my $owners = $self->owners;

    return sub { $owners->[key_slot($_[0])] };
}


# the master of each slot, as the first node that is up sees it
sub owners {
    my ($self) = @_;

    my ($node) = grep { $_->up } $self->nodes;
    my %by_port = map { $_->port => $_ } $self->nodes;
    my @owners;

    for my $range (@{ $node->command('CLUSTER', 'SLOTS') }) {
        my ($first, $last, $master) = @$range;
        @owners[$first .. $last] = ($by_port{ $master->[1] })
                                x ($last - $first + 1);
    }

    return \@owners;
}


sub uri {
    my ($self, $user) = @_;

    return 'redis+cluster://' . (defined $user ? "$user\@" : '')
        . join ',', map { '127.0.0.1:' . $_->port } $self->nodes;
}


sub password_file {
    my ($self, $user) = @_;

    return "$self->{dir}.$user.password";
}


sub id {
    my ($self, $node) = @_;

    return $node->{id} //= $node->command('CLUSTER', 'MYID');
}


# As the default user, by the master of the first name among the arguments.
# Dies of an error reply, other than those that say to ask again.
sub command {
    my ($self, $name, @args) = @_;

    my $key    = $name =~ /^eval/i ? $args[2] : $args[0];
    my $result = [];

    croak "$name has no key: which node?"
        if $name =~ /^(?:acl|client|config|flushall|info|ping|script|time)$/i;

    wait_for(sub {
        $result = [ eval { $self->_command($self->master($key), $name,
                                           @args) } ];

        return 1 unless $@;
        return 0 if $@ =~ /MOVED|TRYAGAIN|CLUSTERDOWN/;
        die $@;
    }, "the cluster to do $name $key");

    return wantarray ? @$result : $result->[-1];
}


sub _command {
    my ($self, $node, $name, @args) = @_;

    my @result = eval { $node->command($name, @args) };
    return @result unless $@;

    my ($port) = $@ =~ /ASK \d+ \S+:(\d+)/ or die $@;
    my ($to)   = grep { $_->port == $port } $self->nodes;

    $to->command('ASKING');
    return $to->command($name, @args);
}


# on each node that is up
sub every {
    my ($self, @command) = @_;

    $_->command(@command) for grep { $_->up } $self->nodes;
}


# by all nodes that are up
sub calls {
    my ($self, $command) = @_;

    my $sum = 0;
    $sum += $_->calls($command) for grep { $_->up } $self->nodes;

    return $sum;
}


# Moves a slot to another master, as "redis-cli --cluster reshard" does; CODE
# is called when the first half of its keys has moved.
sub move_slot {
    my ($self, $slot, $to, $code) = @_;

    my $from = $self->open_slot($slot, $to);
    my $half = $from->command('CLUSTER', 'COUNTKEYSINSLOT', $slot) / 2;

    $self->move_keys($slot, $from, $to, $half);
    $code->() if $code;
    $self->move_keys($slot, $from, $to);

    $self->close_slot($slot, $from, $to);
}


# what "move_slot" does one after another; returns the node that has the slot
sub open_slot {
    my ($self, $slot, $to) = @_;

    my $from = $self->owners->[$slot];

    $to->command('CLUSTER', 'SETSLOT', $slot, 'IMPORTING', $self->id($from));
    $from->command('CLUSTER', 'SETSLOT', $slot, 'MIGRATING', $self->id($to));

    return $from;
}


# all, if there is no number of them
sub move_keys {
    my ($self, $slot, $from, $to, $max) = @_;

    my $left = $max;

    while (!defined $max || $left >= 1) {
        my $batch = !defined $max || $left > 100 ? 100 : int $left;
        my @names = $from->command('CLUSTER', 'GETKEYSINSLOT', $slot, $batch);

        last unless @names;

        $from->command('MIGRATE', '127.0.0.1', $to->port, '', 0, 5000,
                       'KEYS', @names);
        $left -= @names if defined $max;
    }
}


# the new owner first: nobody else may give it away
sub close_slot {
    my ($self, $slot, $from, $to) = @_;

    my @others = grep { $_ != $from && $_ != $to } $self->masters;

    $_->command('CLUSTER', 'SETSLOT', $slot, 'NODE', $self->id($to))
        for $to, $from, @others;
}


# makes a replica of the node its master, and waits for it; returns it
sub failover {
    my ($self, $master) = @_;

    my ($replica) = $self->replicas($master)
        or croak 'it has no replica';

    $replica->command('CLUSTER', 'FAILOVER');
    $self->wait_failover($master);

    return $replica;
}


# until nobody who is up thinks that the node is a master
sub wait_failover {
    my ($self, $master) = @_;

    $self->wait_ok(sub { $_[0]{ $self->id($master) }{role} ne 'master'
                         || $_[0]{ $self->id($master) }{slots} == 0 });
}


# until each node that is up says that all is well, with all slots at masters
# that are up; and, if there is CODE, it agrees to what each of them sees
sub wait_ok {
    my ($self, $code) = @_;

    my @nodes = grep { $_->up } $self->nodes;
    my %up    = map { $self->id($_) => 1 } @nodes;

    wait_for(sub {
        for my $node (@nodes) {
            my $view  = eval { $self->_view($node) } // return 0;
            my $slots = 0;

            for my $id (keys %$view) {
                return 0 if $view->{$id}{flags} =~ /handshake|fail\?/;
                next unless $view->{$id}{role} eq 'master' && $up{$id};
                $slots += $view->{$id}{slots};
            }

            return 0 unless keys %$view == $self->nodes
                            && $slots == SLOTS
                            && eval { $self->_state($node) }
                            && (!$code || $code->($view));
        }

        return 1;
    }, 'the cluster to be well', 60);
}


sub _state {
    my ($self, $node) = @_;

    return 0
        if $node->command('CLUSTER', 'INFO') !~ /^cluster_state:ok\r?$/m;

    my $info = $node->command('INFO', 'replication');

    return $info->{role} eq 'master' || $info->{master_link_status} eq 'up';
}


# id -> { role, flags, of, slots } as the node sees it
sub _view {
    my ($self, $node) = @_;

    my %view;

    for (split /\n/, $node->command('CLUSTER', 'NODES')) {
        my ($id, undef, $flags, $of, @rest) = split;
        my $slots = 0;

        for (@rest[4 .. $#rest]) {
            $slots += ($2 // $1) - $1 + 1 if /^(\d+)(?:-(\d+))?$/;
        }

        $view{$id} = {
            role  => $flags =~ /master/ ? 'master' : 'replica',
            flags => $flags,
            of    => $of,
            slots => $slots,
        };
    }

    return \%view;
}


sub _create {
    my ($self) = @_;

    my @nodes   = $self->nodes;
    my @masters = @nodes[0 .. $self->{masters} - 1];

    for my $n (0 .. $#masters) {
        my ($first, $last) = map { int(SLOTS * $_ / @masters) } $n, $n + 1;

        $masters[$n]->command('CLUSTER', 'SET-CONFIG-EPOCH', $n + 1);
        $masters[$n]->command('CLUSTER', 'ADDSLOTSRANGE', $first, $last - 1);
    }

    $_->command('CLUSTER', 'MEET', '127.0.0.1', $nodes[0]->port,
                $nodes[0]{bus}) for @nodes[1 .. $#nodes];

    wait_for(sub {
        !grep {
            my $view = $self->_view($_);
            keys %$view != @nodes
                || grep { $_->{flags} =~ /handshake/ } values %$view
        } @nodes
    }, 'the nodes to meet', 60);

    for my $n (@masters .. $#nodes) {
        $nodes[$n]->command('CLUSTER', 'REPLICATE',
                            $self->id($masters[$n % @masters]));
    }
}


# the slot of a name
sub key_slot {
    my ($name) = @_;

    my $crc = 0;

    for (unpack 'C*', $name =~ /^[^{]*\{([^}]+)\}/ ? $1 : $name) {
        $crc ^= $_ << 8;

        for (1 .. 8) {
            $crc = ($crc << 1 ^ ($crc & 0x8000 ? 0x1021 : 0)) & 0xffff;
        }
    }

    return $crc % SLOTS;
}


1;
