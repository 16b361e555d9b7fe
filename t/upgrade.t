# Another nginx takes over while it serves (USR2), is backed out, and takes over
# again: both guard, no request fails, and each is counted once.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;
use Test::Rbgv::Load;
use Test::Rbgv::Process;
use Test::Rbgv::Usage qw(usage);

my $t = Test::Rbgv->new;

$t->start_redis;

my $key = $t->create_key;
my $few = $t->create_key(name => 'few-prod');
my $bad = $t->create_key(name => 'bad-prod');

my $nginx = $t->nginx;
my $dir   = $nginx->dir;

$nginx->write_conf(<<'EOC');
%%TEST_GLOBALS%%
worker_processes 2;
# the new one has only these
env LD_PRELOAD;
env ASAN_OPTIONS;
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    rbgv_auth_lease auto;
    rbgv_auth_redis_timeout 9s;
    keepalive_requests 100;
    add_header X-Worker $pid always;
    add_header X-Source $rbgv_auth_source always;
    server {
        listen 127.0.0.1:%%PORT_0%%;
        rbgv_auth on;
        location / { rbgv_auth_limit default 1000000r/1m; empty_gif; }
        location /few { rbgv_auth_limit few 40r/1d; empty_gif; }
    }
}
EOC

# a master in the foreground takes no USR2
my $conf = $t->read_file('nginx-main/nginx.conf') =~ s/daemon off/daemon on/r;
$t->write_file('nginx-main/nginx.conf', $conf);


sub pid_in {
    my ($name) = @_;

    # it may be renamed meanwhile
    my $text = eval { $t->read_file("nginx-main/$name") } || 0;
    return $text + 0;
}

sub children {
    my ($pid) = @_;

    open my $file, '<', "/proc/$pid/task/$pid/children" or return;
    return split ' ', scalar(<$file>) // '';
}

sub workers {
    my ($master) = @_;

    return grep {
        open my $file, '<', "/proc/$_/cmdline";
        $file && (<$file> // '') =~ /^nginx: worker process/;
    } children($master);
}

# also if nobody has waited for it
sub ended {
    my ($pid) = @_;

    open my $file, '<', "/proc/$pid/stat" or return 1;
    return (<$file> // ') Z') =~ /.*\) Z/;
}

END {
    if ($nginx && $$ == $t->{owner}) {
        local $?;
        kill 'TERM', grep { $_ } map { pid_in($_) }
            qw(nginx.pid nginx.pid.oldbin);
    }
}

sub ask {
    my ($uri, $of) = @_;

    return $t->get($uri, key => $of->{key});
}

# all of them answer, and none with another status
sub guarded_by {
    my ($name, @workers) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my (%left, %seen) = map { $_ => 1 } @workers;

    wait_for(sub {
        for ([ $key, 200 ], [ $bad, 401 ]) {
            my ($of, $status) = @$_;
            my $r = ask('/', $of);

            $seen{"$r->{status} for $status"}++ if $r->{status} != $status;
            $left{ $r->{headers}{'x-worker'}[0] } .= $status;
        }
        !grep { $left{$_} !~ /200/ || $left{$_} !~ /401/ } @workers;
    }, 'all workers');

    is_deeply(\%seen, {}, "fault 38: $name: all of them guard");
}


# the first one

# it will be started again by this path
my $program = qx(sh -c 'command -v @{[ $ENV{RBGV_NGINX} // 'nginx' ]}')
    =~ s/\n//r;

Test::Rbgv::Process->new(
    command => [ $program, '-p', $dir, qw(-c nginx.conf -e error.log) ],
    env     => $nginx->environment,
    log     => "$dir/output.log",
)->wait(30) or die "nginx does not start\n";
wait_for(sub { pid_in('nginx.pid') && workers(pid_in('nginx.pid')) == 2 },
         'nginx');

my $old = pid_in('nginx.pid');

$t->rbgvctl('disable', $bad->{id});
wait_for(sub { ask('/', $key)->{headers}{'x-source'}[0] eq 'lease' },
         'a lease');

my $stop = Test::Rbgv::Load->new(
    ports       => [ $t->port(0) ],
    connections => 8,
    pauses      => 0.01,
    request     => Test::Rbgv::request_text('GET', '/few',
                                            key => $few->{key}),
)->start($t->dir . '/answers');


# starts another one, and returns it
sub upgrade {
    kill 'USR2', $old;
    wait_for(sub {
        my $new = pid_in('nginx.pid');
        $new && $new != $old && pid_in('nginx.pid.oldbin') == $old
            && workers($new) == 2;
    }, 'the new one');

    return pid_in('nginx.pid');
}

my $new = upgrade();

guarded_by('both', workers($old), workers($new));

# a key that both know
$t->rbgvctl('enable', $bad->{id});
wait_for(sub { ask('/', $bad)->{status} == 200 }, 'the change') for 1 .. 20;
$t->rbgvctl('disable', $bad->{id});
wait_for(sub { ask('/', $bad)->{status} == 401 }, 'the change') for 1 .. 5;
wait_for(sub { !grep { ask('/', $bad)->{status} != 401 } 1 .. 20 },
         'the change');
guarded_by('both, after a change', workers($old), workers($new));


# back out: the old one has let its workers go, and starts others

my @first = workers($old);

kill 'WINCH', $old;
wait_for(sub { !grep { !ended($_) } @first }, 'the old workers to go');
guarded_by('the new one', workers($new));

kill 'HUP', $old;
wait_for(sub { workers($old) == 2 }, 'others');
kill 'QUIT', $new;
wait_for(sub { ended($new) && pid_in('nginx.pid') == $old }, 'the new to end');
guarded_by('backed out', workers($old));


# and once more, to stay

$new = upgrade();
kill 'QUIT', $old;
wait_for(sub { ended($old) }, 'the old one to end');
guarded_by('the new one alone', workers($new));


# what the clients saw

my %status;
$status{ $_->[1] }++ for @{ $stop->() };
note join ', ', map { "$_: $status{$_}" } sort keys %status;

is($status{failed} // 0, 0, 'fault 38: no request failed');
is_deeply([ sort grep { $_ ne 'retried' } keys %status ], [ 200, 429 ],
          'fault 38: no other answers');
is($status{200}, 40, 'fault 38: a quota for both');
ok(eval { wait_for(sub { usage($t, $few->{id})->{calls} == 40 }, 'usage') },
   'fault 38: counted once');

kill 'QUIT', $new;
wait_for(sub { ended($new) }, 'nginx to end');
$t->done;
