package Test::Rbgv;

=head1 NAME

Test::Rbgv - Redis, nginx with the module, and a client, for one test file

=head1 SYNOPSIS

    use Test::More;
    use Test::Rbgv;

    my $t = Test::Rbgv->new;

    $t->start_redis;
    my $key = $t->create_key(name => 'api-gateway-prod',
                             limit => ['default=3r/1m']);

    $t->write_conf(<<'EOC');
    %%TEST_GLOBALS%%
    events {}
    http {
        %%TEST_GLOBALS_HTTP%%
        %%REDIS%%
        server {
            listen 127.0.0.1:%%PORT_0%%;
            rbgv_auth on;
            location / { empty_gif; }
        }
    }
    EOC

    $t->start_nginx;

    refused($t->get('/'), 401, 'missing_api_key', 'no key');
    is($t->get('/', key => $key->{key})->{status}, 200, 'good key');

    $t->done;

=head1 TEMPLATES

    %%TEST_GLOBALS%%       the module, pid, logs
    %%TEST_GLOBALS_HTTP%%  access log, temporary files
    %%REDIS%%              store, login and pepper; and "rbgv_auth_lease off"
                           if there is no other
    %%REDIS_name%%         store and login of start_redis(name => 'name'),
                           start_cluster or start_sentinel
    %%PORT_n%%             a free port, the same one for the whole file
    %%DIR%%                the directory of the test, removed afterwards

=head1 ENVIRONMENT

    RBGV_BUILD         where module and rbgvctl are (build)
    RBGV_NGINX         program to run (nginx)
    RBGV_REDIS_SERVER  program to run (redis-server)
    RBGV_TEST_LOG      level of error.log (info)
    RBGV_TEST_LEAVE    if set, the directory stays
    RBGV_VALGRIND      if set, nginx is run by valgrind

=cut

use strict;
use warnings;

use Carp qw(croak);
use Cwd qw(abs_path);
use Exporter qw(import);
use File::Basename qw(dirname);
use File::Slurper qw(read_binary write_binary);
use File::Temp;
use IO::Socket::INET;
use JSON::PP;
use Net::EmptyPort qw(empty_port);
use POSIX ();
use Scalar::Util qw(weaken);
use Test::More;

use Test::Rbgv::Cluster;
use Test::Rbgv::Connection;
use Test::Rbgv::Nginx;
use Test::Rbgv::Process qw(wait_for);
use Test::Rbgv::Redis;
use Test::Rbgv::Reports qw(keep_reports reports);
use Test::Rbgv::Sentinel;

our @EXPORT = qw(refused wait_for);

my $root = abs_path(dirname(__FILE__) . '/../../..');

# kept until the processes are stopped, because its directory goes with it
my $test;

# what an official SDK shows its user
our %message = (
    missing_api_key      => 'X-Api-Key header missing',
    invalid_api_key      => 'Key not recognized',
    insufficient_credits => 'Not enough credits to process this request',
    job_not_found        => 'Job not found',
    rate_limited         => 'Rate limit exceeded',
    auth_unavailable     => 'Authentication is temporarily unavailable',
);


sub new {
    my ($class) = @_;

    my $dir = File::Temp->newdir('/tmp/rbgv-test-XXXXXX',
                                 CLEANUP => !$ENV{RBGV_TEST_LEAVE});

    diag("files in $dir") if $ENV{RBGV_TEST_LEAVE};
    keep_reports($dir);

    # so that what runs at the end of a program runs
    $SIG{INT} = $SIG{TERM} = sub { exit 1 };

    my $self = bless {
        owner   => $$,
        dir     => $dir,
        build   => $ENV{RBGV_BUILD} // "$root/build",
        allowed => [],
        nginx   => {},
        ports   => {},
        redis   => {},
        frozen  => {},
    }, $class;

    return $test = $self;
}


sub dir  { "$_[0]{dir}" }
sub root { $root }

# if this build is slow and takes memory: by sanitizers or valgrind
sub slow { $_[0]{build} =~ m{/(?:sanitize|valgrind)$} }


sub port {
    my ($self, $n) = @_;

    return ($self->{ports}{$n} //= _reserve_port())->{port};
}


# The UDP port of the same number tells other tests that it is taken.
sub _reserve_port {
    while (1) {
        my $port = empty_port({ host => '127.0.0.1',
                                port => 10000 + int rand 20000 });
        my $lock = IO::Socket::INET->new(
            Proto     => 'udp',
            LocalAddr => '127.0.0.1',
            LocalPort => $port,
        ) or next;

        return { port => $port, lock => $lock };
    }
}


sub write_file {
    my ($self, $name, $content) = @_;

    write_binary("$self->{dir}/$name", $content);

    return "$self->{dir}/$name";
}


sub read_file {
    my ($self, $name) = @_;

    return scalar read_binary("$self->{dir}/$name");
}


# Redis

# start_redis(name => NAME, tcp => 1, acl => 0, init => 0, config => [LINE])
sub start_redis {
    my ($self, %arg) = @_;

    my $name = $arg{name} // 'main';

    return $self->_start_store($name, Test::Rbgv::Redis->new(
        dir    => "$self->{dir}/redis-$name",
        port   => $arg{tcp} ? $self->port("redis $name") : 0,
        config => $arg{config},
    ), %arg);
}


# start_cluster(name => NAME, acl => 0, init => 0, ...), see
# Test::Rbgv::Cluster
sub start_cluster {
    my ($self, %arg) = @_;

    return $self->_start_servers('Cluster', %arg);
}


# start_sentinel(name => NAME, acl => 0, init => 0, ...), see
# Test::Rbgv::Sentinel
sub start_sentinel {
    my ($self, %arg) = @_;

    return $self->_start_servers('Sentinel', %arg);
}


sub _start_servers {
    my ($self, $kind, %arg) = @_;

    my $name = $arg{name} // 'main';

    return $self->_start_store($name, "Test::Rbgv::$kind"->new(
        %arg,
        dir  => "$self->{dir}/redis-$name",
        port => sub { $self->port("redis $name $_[0]") },
    ), %arg);
}


sub _start_store {
    my ($self, $name, $redis, %arg) = @_;

    $self->{redis}{$name} = $redis;
    $redis->{acl} = $arg{acl} // 1;
    $redis->start;
    $self->_init_store($redis) if $arg{init} // 1;

    return $redis;
}


sub _init_store {
    my ($self, $redis) = @_;

    my ($exit, $out, $err) = $self->rbgvctl(
        '--redis', $redis->uri, 'init',
        $redis->{acl} ? ('--acl', 'install',
                         '--gateway-password-file',
                         $redis->password_file('rbgv-gateway'),
                         '--admin-password-file',
                         $redis->password_file('rbgv-admin')) : ());

    croak "rbgvctl init: $out$err" if $exit;
}


sub redis_server {
    my ($self, $name) = @_;

    return $self->{redis}{ $name // 'main' }
        // croak 'no such redis-server';
}


# redis(COMMAND, ARGUMENT...), see Test::Rbgv::Redis
sub redis {
    my ($self, @command) = @_;

    return $self->redis_server->command(@command);
}


sub redis_start  { my ($self, $name) = @_; $self->redis_server($name)->start }
sub redis_stop   { my ($self, $name) = @_; $self->redis_server($name)->stop }
sub redis_kill   { my ($self, $name) = @_; $self->redis_server($name)->kill }
sub redis_freeze { my ($self, $name) = @_; $self->redis_server($name)->freeze }
sub redis_thaw   { my ($self, $name) = @_; $self->redis_server($name)->thaw }


sub pepper_file { "$_[0]{dir}/pepper" }


# rbgvctl

# rbgvctl(ARGUMENT...[, { stdin => TEXT, env => {...} }]) -> exit status,
# output, errors; with the admin login of the main store
sub rbgvctl {
    my ($self, @args) = @_;

    my $opt   = ref $args[-1] ? pop @args : {};
    my $redis = $self->{redis}{main};
    my %env   = (RBGV_PEPPER_FILE => $self->pepper_file);

    if ($redis && !grep { $_ eq '--redis' } @args) {
        $env{RBGV_REDIS} = $redis->uri($redis->{acl} ? 'rbgv-admin' : undef);
        $env{RBGV_PASSWORD_FILE} = $redis->password_file('rbgv-admin')
            if $redis->{acl};
    }

    my $in  = File::Temp->new(DIR => $self->dir);
    my $out = File::Temp->new(DIR => $self->dir);
    my $err = File::Temp->new(DIR => $self->dir);

    print $in $opt->{stdin} // '';
    close $in;

    local %ENV = (%ENV, %env, %{ $opt->{env} // {} });

    my $pid = fork() // croak "fork: $!";

    if ($pid == 0) {
        open STDIN,  '<',  "$in" or die $!;
        open STDOUT, '>&', $out  or die $!;
        open STDERR, '>&', $err  or die $!;
        exec { "$self->{build}/rbgvctl" } 'rbgvctl', @args
            or POSIX::_exit(127);
    }

    waitpid $pid, 0;
    my $exit = $? & 127 ? 128 + ($? & 127) : $? >> 8;

    return ($exit, map { seek $_, 0, 0; local $/; scalar(<$_>) // '' }
                       $out, $err);
}


# create_key(name => N, environment => E, limit => [...], owner => O, ...)
# -> { key, id }
sub create_key {
    my ($self, %arg) = @_;

    my %option = (
        name        => 'api-gateway-prod',
        environment => 'prod',
        owner       => 'tests',
        %arg,
    );

    my @options;
    for my $name (sort keys %option) {
        my $value = $option{$name};
        push @options, "--$name", $_ for ref $value ? @$value : $value;
    }

    my ($exit, $out, $err) = $self->rbgvctl('--json', 'create', @options);
    croak "rbgvctl create: $out$err" if $exit;

    my $json = decode_json($out);
    return { key => $json->{api_key}, id => $json->{key_fingerprint} };
}


# nginx

# the one of that name; the functions below are about "main"
sub nginx {
    my ($self, $name) = @_;

    $name //= 'main';

    return $self->{nginx}{$name} //= $self->_new_nginx("nginx-$name");
}


sub _new_nginx {
    my ($self, $dir) = @_;

    weaken($self);

    return Test::Rbgv::Nginx->new(
        dir     => "$self->{dir}/$dir",
        module  => "$self->{build}/ngx_http_rbgv_auth_module.so",
        expand  => sub { $self->expand(@_) },
        reports => $self->dir,
    );
}


sub write_conf {
    my ($self, $template) = @_;

    $self->nginx->write_conf($template);
    return $self;
}


sub start_nginx { $_[0]->nginx->start }
sub reload      { $_[0]->nginx->reload }
sub stop        { $_[0]->nginx->stop }
sub read_log    { $_[0]->nginx->read_log($_[1]) }


# what "nginx -t" says about a configuration
sub check_conf {
    my ($self, $template) = @_;

    my $dir = 'check-' . ++$self->{checks};

    return $self->_new_nginx($dir)->write_conf($template)->check;
}


sub expand {
    my ($self, $text) = @_;

    my $lease = $text =~ /rbgv_auth_lease/ ? '' : "rbgv_auth_lease off;\n";

    $text =~ s/%%REDIS%%/$self->_redis_conf('main') . $self->_pepper_conf
                         . $lease/gex;
    $text =~ s/%%REDIS_(\w+)%%/$self->_redis_conf($1)/ge;
    $text =~ s/%%PORT_(\w+)%%/$self->port($1)/ge;
    $text =~ s/%%DIR%%/$self->{dir}/g;

    return $text;
}


# an empty password file, because that of an outer level is inherited
sub _redis_conf {
    my ($self, $name) = @_;

    my $redis = $self->redis_server($name);
    my $user  = $redis->{acl} ? 'rbgv-gateway' : undef;

    return sprintf "rbgv_auth_redis %s;\n"
        . "rbgv_auth_redis_password_file \"%s\";\n",
        $redis->uri($user), $user ? $redis->password_file($user) : '';
}


sub _pepper_conf {
    my ($self) = @_;

    return -e $self->pepper_file
        ? 'rbgv_auth_pepper_file ' . $self->pepper_file . ";\n" : '';
}


# HTTP; "port" is the n of %%PORT_n%%, 0 if not given

# connect(port => N, timeout => SECONDS), see Test::Rbgv::Connection
sub connect {
    my ($self, %arg) = @_;

    return Test::Rbgv::Connection->new(%arg,
                                       port => $self->port($arg{port} // 0));
}


# sends bytes, returns all that comes until the connection is closed
sub http {
    my ($self, $bytes, %arg) = @_;

    return $self->connect(%arg)->send($bytes)->rest;
}


# request(METHOD, URI, key => KEY, headers => [LINE, ...], body => TEXT,
# port => N) -> a response, see Test::Rbgv::Connection
sub request {
    my ($self, $method, $uri, %arg) = @_;

    my $connection = $self->connect(%arg);
    $connection->send(request_text($method, $uri, %arg, close => 1));

    return $connection->response(method => $method)
        // croak "no response to $method $uri";
}


sub get {
    my ($self, $uri, %arg) = @_;

    return $self->request('GET', $uri, %arg);
}


# the same as text
sub http_get {
    my ($self, $uri, %arg) = @_;

    return $self->get($uri, %arg)->{text};
}


sub request_text {
    my ($method, $uri, %arg) = @_;

    my $body = $arg{body} // '';

    return join "\r\n",
        "$method $uri HTTP/1.1",
        'Host: localhost',
        defined $arg{key} ? "X-Api-Key: $arg{key}" : (),
        defined $arg{body} ? 'Content-Length: ' . length $body : (),
        $arg{close} ? 'Connection: close' : (),
        @{ $arg{headers} // [] },
        '', $body;
}


# One assertion: a response is the refusal of that status and code, in the
# shape that the SDKs parse.
sub refused {
    my ($response, $status, $code, $name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $error = eval { decode_json($response->{body})->{error} } // {};
    my $id    = $error->{request_id} // '';

    my %got = (
        status => $response->{status},
        type   => $response->{headers}{'content-type'},
        cache  => $response->{headers}{'cache-control'},
        error  => { %$error, request_id => scalar($id =~ /^[0-9a-f]{32}$/) },
    );

    my %expected = (
        status => $status,
        type   => ['application/json'],
        cache  => ['no-store'],
        error  => { code => $code, message => $message{$code},
                    request_id => 1 },
    );

    is_deeply(\%got, \%expected, $name) or diag(explain($response));
}


# Processes

# any process by its pid; thawed at the end at the latest
sub freeze {
    my ($self, $pid) = @_;

    $self->{frozen}{$pid} = 1;
    kill 'STOP', $pid;
}


sub thaw {
    my ($self, $pid) = @_;

    delete $self->{frozen}{$pid};
    kill 'CONT', $pid;
}


# The end

# of an error log: lines with [crit], [alert] or [emerg] that the test is about
sub allow_alert {
    my ($self, @regexes) = @_;

    push @{ $self->{allowed} }, @regexes;
}


# errors that Redis refuses a command with, of a connection that is being made
# or of one that is; as "LOADING"
sub allow_refused {
    my ($self, @codes) = @_;

    my $codes = join '|', @codes;
    $self->allow_alert(qr/refused(?: "[A-Z]+")?: "(?:$codes) /);
}


# Every test calls it last.
sub done {
    my ($self) = @_;

    $self->thaw($_) for keys %{ $self->{frozen} };

    my (@alerts, @reports);

    for my $name (sort keys %{ $self->{nginx} }) {
        my $nginx = $self->{nginx}{$name};

        push @alerts, "nginx $name had to be killed" unless $nginx->stop;

        for (split /\n/, $nginx->read_log('error.log')) {
            push @alerts, $_
                if /\[(?:crit|alert|emerg)\]/ && !$self->_allowed($_);

            # of a worker, which has no environment
            push @reports, $_ if /runtime error:/;
        }
    }

    is(join("\n", @alerts), '', 'no alerts');
    is(join("\n", @reports, reports($self->dir)), '',
       'no reports of sanitizers');

    done_testing;
    $self->{done} = 1;
}


sub _allowed {
    my ($self, $line) = @_;

    return grep { $line =~ $_ } @{ $self->{allowed} };
}


# What a test that failed or died leaves in the logs.
END {
    if ($test && $$ == $test->{owner}
        && !($test->{done} && Test::More->builder->is_passing))
    {
        $test->_show_logs;
    }
}


sub _show_logs {
    my ($self) = @_;

    for my $nginx (values %{ $self->{nginx} }) {
        my @lines = grep { /\[(?:warn|error|crit|alert|emerg)\]/ }
                    split /\n/, $nginx->read_log('error.log');

        diag($_) for @lines > 20 ? @lines[-20 .. -1] : @lines;
    }
}


1;
