package Test::Rbgv::Sentinel;

# A master, its replicas, and the Sentinels that watch them, of the test's own.
# All are Test::Rbgv::Redis.

use strict;
use warnings;

use Test::Rbgv::Process qw(wait_for);
use Test::Rbgv::Redis;


# new(dir => PREFIX, port => CODE, replicas => N, sentinels => N, timeout =>
# MS, config => [LINE, ...]); CODE gets a name and returns a free port for it;
# "timeout" is that of a master who is down, "config" is of servers
sub new {
    my ($class, %arg) = @_;

    my (@servers, @sentinels);

    my $port = $arg{port}->('server 0');
    my $time = $arg{timeout} // 1000;

    for my $n (0 .. $arg{replicas} // 2) {
        push @servers, Test::Rbgv::Redis->new(
            dir    => "$arg{dir}-$n",
            port   => $arg{port}->("server $n"),
            config => [
                'repl-diskless-sync-delay 0',
                $n ? "replicaof 127.0.0.1 $port" : (),
                @{ $arg{config} // [] },
            ],
        );
    }

    for my $n (1 .. $arg{sentinels} // 3) {
        push @sentinels, Test::Rbgv::Redis->new(
            dir     => "$arg{dir}-sentinel-$n",
            port    => $arg{port}->("sentinel $n"),
            options => ['--sentinel'],
            config  => [
                "sentinel monitor rbgv 127.0.0.1 $port 2",
                "sentinel down-after-milliseconds rbgv $time",
                'sentinel failover-timeout rbgv ' . 3 * $time,
            ],
        );
    }

    return bless {
        dir       => $arg{dir},
        servers   => \@servers,
        sentinels => \@sentinels,
    }, $class;
}


sub start {
    my ($self) = @_;

    $_->start for $self->servers, $self->sentinels;

    # a master that comes back is made a replica after 8 s otherwise
    $_->command('SENTINEL', 'DEBUG', 'info-period', 500,
                'publish-period', 500) for $self->sentinels;

    $self->wait_ok;

    return $self;
}


sub stop   { $_->stop for $_[0]->sentinels, $_[0]->servers }
sub kill   { $_->kill for $_[0]->sentinels, $_[0]->servers }
sub freeze { $_->freeze for $_[0]->sentinels, $_[0]->servers }
sub thaw   { $_->thaw for $_[0]->servers, $_[0]->sentinels }


# the one that was made master first
sub servers   { @{ $_[0]{servers} } }
sub sentinels { @{ $_[0]{sentinels} } }


# the master, as the first Sentinel that is up sees it
sub master {
    my ($self) = @_;

    my ($sentinel) = grep { $_->up } $self->sentinels;

    return $self->_master($sentinel);
}


sub _master {
    my ($self, $sentinel) = @_;

    my $address = $sentinel->command('SENTINEL', 'GET-MASTER-ADDR-BY-NAME',
                                     'rbgv');
    my ($server) = grep { $_->port == $address->[1] } $self->servers;

    return $server;
}


# those that are up
sub replicas {
    my ($self) = @_;

    my $master = $self->master;

    return grep { $_ != $master && $_->up } $self->servers;
}


sub router {
    my ($self) = @_;

    my $master = $self->master;

    return sub { $master };
}


# of the master
sub socket { $_[0]->master->socket }


sub uri {
    my ($self, $user) = @_;

    return 'redis+sentinel://' . (defined $user ? "$user\@" : '')
        . join(',', map { '127.0.0.1:' . $_->port } $self->sentinels)
        . '/rbgv';
}


sub password_file {
    my ($self, $user) = @_;

    return "$self->{dir}.$user.password";
}


# by the master
sub command {
    my ($self, @command) = @_;

    return $self->master->command(@command);
}


# on each server that is up
sub every {
    my ($self, @command) = @_;

    $_->command(@command) for grep { $_->up } $self->servers;
}


sub calls {
    my ($self, $command) = @_;

    my $sum = 0;
    $sum += $_->calls($command) for grep { $_->up } $self->servers;

    return $sum;
}


# makes a replica the master, and waits for it; returns it
sub failover {
    my ($self) = @_;

    my $master = $self->master;
    my ($sentinel) = grep { $_->up } $self->sentinels;

    # there is none that is good enough until Sentinel has asked all of them
    $self->_await(sub {
        $sentinel->command('SENTINEL', 'FAILOVER', 'rbgv');
    }, 'a good replica');

    return $self->wait_failover($master);
}


# until all Sentinels that are up know another master, who knows that he is
# one; returns it
sub wait_failover {
    my ($self, $old) = @_;

    return $self->_await(sub {
        my %masters = map { $_ => $_ }
                      map { $self->_master($_) } grep { $_->up }
                      $self->sentinels;
        my ($master) = values %masters;

        return keys %masters == 1 && $master != $old && $master->up
            && $master->command('ROLE')->[0] eq 'master' && $master;
    }, 'another master');
}


# until the Sentinels know each other and all servers, and replicas follow
sub wait_ok {
    my ($self) = @_;

    my $others   = $self->sentinels - 1;
    my $replicas = $self->servers - 1;

    $self->_await(sub {
        my $master = $self->master;

        for my $sentinel (grep { $_->up } $self->sentinels) {
            my %state = @{ $sentinel->command('SENTINEL', 'MASTER', 'rbgv') };

            return 0 unless $state{'num-other-sentinels'} == $others
                            && $state{'num-slaves'} == $replicas
                            && $state{flags} eq 'master';
        }

        for my $replica ($self->replicas) {
            my $info = $replica->command('INFO', 'replication');

            return 0 unless $info->{role} eq 'slave'
                            && $info->{master_port} == $master->port
                            && $info->{master_link_status} eq 'up';
        }

        return 1;
    }, 'Sentinel to be well');
}


# a server closes its connections when its role changes
sub _await {
    my ($self, $condition, $what) = @_;

    return wait_for(sub { eval { $condition->() } }, $what, 60);
}


1;
