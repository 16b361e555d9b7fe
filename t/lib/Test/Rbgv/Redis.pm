package Test::Rbgv::Redis;

# A redis-server of the test's own.

use strict;
use warnings;

use Redis;

use Test::Rbgv::Process qw(wait_for);


# new(dir => DIR, port => PORT or 0, config => [LINE, ...], options =>
# [OPTION, ...]); keeps its data over stop and start
sub new {
    my ($class, %arg) = @_;

    my $dir  = $arg{dir};
    my $self = bless {
        dir     => $dir,
        port    => $arg{port},
        options => $arg{options} // [],
    }, $class;

    mkdir $dir or die "$dir: $!";
    open my $acl, '>', "$dir/users.acl" or die "$dir/users.acl: $!";

    my @lines = (
        "bind 127.0.0.1",
        "port $arg{port}",
        "unixsocket $dir/redis.sock",
        "dir $dir",
        "logfile redis.log",
        "aclfile $dir/users.acl",
        'save ""',
        "appendonly yes",
        "appendfsync no",
        "enable-debug-command yes",
        "shutdown-timeout 0",
        @{ $arg{config} // [] },
    );

    open my $conf, '>', "$dir/redis.conf" or die "$dir/redis.conf: $!";
    print $conf map { "$_\n" } @lines;
    close $conf;

    return $self;
}


sub start {
    my ($self) = @_;

    my $process = $self->{process} = Test::Rbgv::Process->new(
        command => [ $ENV{RBGV_REDIS_SERVER} // 'redis-server',
                     "$self->{dir}/redis.conf", @{ $self->{options} } ],
        log     => "$self->{dir}/output.log",
    );
    $self->{frozen} = 0;

    wait_for(sub {
        $process->alive or die "redis-server ended, see $self->{dir}\n";
        delete $self->{client};
        eval { $self->command('PING') };
    }, 'redis-server');

    return $self;
}


sub process { $_[0]{process} }


sub freeze {
    my ($self) = @_;

    $self->{frozen} = 1;
    $self->{process}->freeze;
}


sub thaw {
    my ($self) = @_;

    $self->{frozen} = 0;
    $self->{process}->thaw;
}


# true if it can answer
sub up { !$_[0]{frozen} && $_[0]{process}->alive }


sub stop {
    my ($self) = @_;

    delete $self->{client};
    $self->{process}->stop;
}


sub kill {
    my ($self) = @_;

    delete $self->{client};
    $self->{process}->kill;
}


sub socket { "$_[0]{dir}/redis.sock" }
sub port   { $_[0]{port} }


# unix:/path, or unix://USER@/path
sub uri {
    my ($self, $user) = @_;

    return 'unix:' . (defined $user ? "//$user\@" : '') . $self->socket;
}


# the files that hold the passwords of rbgv-gateway and rbgv-admin
sub password_file {
    my ($self, $user) = @_;

    return "$self->{dir}/$user.password";
}


# As the default user, who may do everything.  Dies of an error reply.  A
# server that changes its role closes its connections.
sub command {
    my ($self, $name, @args) = @_;

    my $client = $self->{client} //= Redis->new(
        sock         => $self->socket,
        cnx_timeout  => 5,
        read_timeout => 10,
        reconnect    => 1,
    );

    my $method = lc $name;
    return $client->$method(@args);
}


# how often it was given a command, such as "hget" or "client|tracking"
sub calls {
    my ($self, $command) = @_;

    my $stats = $self->command('INFO', 'commandstats')->{"cmdstat_$command"};

    return ($stats // '') =~ /^calls=(\d+)/ ? $1 : 0;
}


# CODE that finds the server of a name
sub router {
    my ($self) = @_;

    return sub { $self };
}


1;
