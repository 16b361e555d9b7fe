package Test::Rbgv::Nginx;

# An nginx of the test's own, with its prefix in DIR.

use strict;
use warnings;

use Test::Rbgv::Process qw(wait_for);
use Test::Rbgv::Reports qw(valgrind);


# new(dir => DIR, module => FILE, expand => sub { ... }, reports => DIR)
sub new {
    my ($class, %arg) = @_;

    mkdir $arg{dir} or die "$arg{dir}: $!";

    return bless { %arg }, $class;
}


sub dir     { $_[0]{dir} }
sub process { $_[0]{process} }
sub pid     { $_[0]{process}->pid }


# TEST_GLOBALS and TEST_GLOBALS_HTTP are put in here, the rest by the test
sub write_conf {
    my ($self, $template) = @_;

    $self->{single} = $template =~ /^\s*master_process\s+off/m;

    my $level = $ENV{RBGV_TEST_LOG} // 'info';

    my $globals = join "\n",
        qq(load_module "$self->{module}";),
        'daemon off;',
        'pid nginx.pid;',
        "error_log error.log $level;",
        $> == 0 ? 'user root;' : ();

    my $globals_http = join "\n", 'access_log access.log;',
        map { "${_}_temp_path temp_$_;" }
            qw(client_body proxy fastcgi uwsgi scgi);

    # the default is too short for valgrind
    $globals_http .= "\nrbgv_auth_redis_timeout 30s;"
        if $ENV{RBGV_VALGRIND} && $template !~ /^ {0,4}rbgv_auth_redis_timeout/m;

    $template =~ s/%%TEST_GLOBALS%%/$globals/g;
    $template =~ s/%%TEST_GLOBALS_HTTP%%/$globals_http/g;

    open my $conf, '>', "$self->{dir}/nginx.conf" or die "nginx.conf: $!";
    print $conf $self->{expand}->($template);
    close $conf;

    return $self;
}


sub start {
    my ($self) = @_;

    unlink "$self->{dir}/nginx.pid";

    my $process = $self->{process} = Test::Rbgv::Process->new(
        command => [ $self->_command ],
        log     => "$self->{dir}/output.log",
        env     => $self->environment,
    );

    wait_for(sub {
        $process->alive
            or die "nginx did not start:\n" . $self->read_log('output.log');
        -s "$self->{dir}/nginx.pid" && ($self->{single} || $self->workers);
    }, 'nginx');

    return $self;
}


# what "nginx -t" says
sub check {
    my ($self) = @_;

    my $process = Test::Rbgv::Process->new(
        command => [ $self->_command, '-t' ],
        log     => "$self->{dir}/check.log",
        env     => $self->environment,
    );

    $process->wait(30) or die "nginx -t does not end\n";

    return $self->read_log('check.log');
}


# returns when workers with the new configuration run
sub reload {
    my ($self) = @_;

    my %old = map { $_ => 1 } $self->workers;

    $self->{process}->signal('HUP');
    wait_for(sub {
        my @now = $self->workers;
        @now && !grep { $old{$_} } @now;
    }, 'new workers');

    return $self;
}


# Gracefully; false if it had to be killed.
sub stop {
    my ($self) = @_;

    return !$self->{process} || $self->{process}->stop('QUIT');
}


# pids, without those that are shutting down
sub workers {
    my ($self) = @_;

    return grep { $self->_works($_) }
           grep { _parent($_) == $self->pid }
           map { m{^/proc/(\d+)$} } glob '/proc/[0-9]*';
}


sub read_log {
    my ($self, $name) = @_;

    open my $log, '<', "$self->{dir}/$name" or return '';
    local $/;
    return scalar(<$log>) // '';
}


sub _command {
    my ($self) = @_;

    return ($ENV{RBGV_VALGRIND} ? valgrind($self->{reports}) : (),
            $ENV{RBGV_NGINX} // 'nginx',
            '-p', $self->{dir}, '-c', 'nginx.conf', '-e', 'error.log');
}


# AddressSanitizer is loaded first if nginx itself is without it.  nginx
# leaves memory to the end of a process, and both have ngx_modules.
sub environment {
    my ($self) = @_;

    my ($asan) = `ldd '$self->{module}' 2>&1` =~ /=> (\S*libasan\S+)/;

    return {
        ASAN_OPTIONS => "detect_leaks=0:detect_odr_violation=0:"
                        . ($ENV{ASAN_OPTIONS} // ''),
        LD_PRELOAD => join(':', grep { $_ } $asan, $ENV{LD_PRELOAD}),
    };
}


# Its title tells.  The one that valgrind shows does not change.
sub _works {
    my ($self, $pid) = @_;

    return _title($pid) eq 'nginx: worker process' if !$ENV{RBGV_VALGRIND};

    return $self->read_log('error.log')
        !~ /\[notice\] $pid#\d+: gracefully shutting down$/m;
}


sub _parent {
    my ($pid) = @_;

    open my $stat, '<', "/proc/$pid/stat" or return 0;
    my ($parent) = (<$stat> // '') =~ /.*\) \S (\d+)/;
    return $parent // 0;
}


sub _title {
    my ($pid) = @_;

    open my $cmdline, '<', "/proc/$pid/cmdline" or return '';
    local $/;
    my $title = <$cmdline> // '';
    $title =~ s/[\0 ]+$//;
    return $title;
}


1;
