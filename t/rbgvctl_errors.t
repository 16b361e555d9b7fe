# What each command of rbgvctl does with a store that cannot be used, and
# "init" with a disk that is full: a clear message, an exit status, and
# nothing that is half-written.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;
use Test::Rbgv::Key qw(make_key);

my $t = Test::Rbgv->new;
my $redis = $t->start_redis;

my $rbgvctl = "$t->{build}/rbgvctl";
my $key     = $t->create_key;
my $pepper  = $t->read_file('pepper');

# what stands for an argument, and what else a command needs
my %argument = (
    ID   => $key->{id},
    FILE => $t->write_file('keys.csv',
                "client_id,api_key\nsearch-prod," . make_key() . "\n"),
    NAME => 'prod',
);

my %more = (
    create => [ '--name', 'search-prod', '--environment', 'prod' ],
    delete => [ '--yes' ],
    set    => [ '--note', 'x' ],
);

my @digesters;                         # need the pepper

my %local = map { $_ => 1 } qw(completion);

my ($exit, $help) = $t->rbgvctl('--help');
my ($list) = $help =~ /^Commands:\n(.*?)\n\n/ms;
my @commands = grep { !$local{$_} } $list =~ /^  (\w+)/mg;

cmp_ok(scalar @commands, '>', 9, 'commands');

my %command = map { $_ => [ $_, argument($_), @{ $more{$_} // [] } ] }
              @commands;


cmp_ok(scalar @digesters, '>', 2, 'commands that need the pepper');


sub argument {
    my ($name) = @_;

    my (undef, $help) = $t->rbgvctl($name, '--help');
    my ($word) = $help =~ /^Usage: rbgvctl \w+ \[?(\w+)\]? \[OPTION/;

    push @digesters, $name if $help =~ /--no-pepper/;

    like($help, qr/^Examples:\n(?:  .+\n)*  rbgvctl .*$name/m,
        "help of $name has an example");

    return $word ? $argument{$word} // die "$name $word\n" : ();
}


sub everything {
    return { map { $_ => $t->redis('DUMP', $_) } $t->redis('KEYS', '*') };
}


# of all commands, or of those named; env replaces the admin's login
sub all_fail {
    my ($what, $status, $reason, $env, @only) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $before = everything();

    for my $name (@only ? @only : @commands) {
        my ($exit, $out, $err) = $t->rbgvctl(@{ $command{$name} },
            { stdin => "$key->{key}\n", env => $env });

        is("$exit$out", $status, "$what: status of $name");
        like($err, qr/\Arbgvctl: .*$reason.*\n\z/, "$what: reason of $name");
    }

    is_deeply(everything(), $before, "$what: nothing is written");
}


# the store

my $no_pepper = "$t->{dir}/no-pepper";

all_fail('no store', 3, qr/cannot connect .*: No such file .*; check --redis/,
    { RBGV_REDIS => "unix:$t->{dir}/none" });

all_fail('no server', 3, qr/cannot connect .*127\.0\.0\.1:\d+: .*refused/,
    { RBGV_REDIS => 'redis://127.0.0.1:' . $t->port('nobody') }, 'list');

my $wrong = $t->write_file('wrong', "hunter2\n");

all_fail('wrong password', 3, qr/refused the login of user rbgv-admin; check/,
    { RBGV_PASSWORD_FILE => $wrong });

all_fail('unknown user', 3, qr/refused the login of user nobody; check/,
    { RBGV_REDIS => $redis->uri('nobody') }, 'list');

my @user = ('ACL', 'SETUSER', 'guest', 'on', '>hunter2', '-@all', '+auth',
            '+ping', '+select', '+client|setname', '+time');

$t->redis(@user, '~*');

my %guest = (RBGV_REDIS => $redis->uri('guest'), RBGV_PASSWORD_FILE => $wrong);

all_fail('no command', 3, qr/says "NOPERM .*; use the admin login/, \%guest);

$t->redis(@user, '+@all', '-@dangerous', 'resetkeys', '~other:*');

all_fail('no key', 3, qr/says "NOPERM .*; use the admin login/, \%guest);

my @rest = grep { $_ ne 'init' } @commands;

$t->redis('HSET', 'rbgv:meta', 'schema', 2);

all_fail('foreign schema', 3, qr/has schema "2", this rbgvctl knows "1"/, {},
    @rest);
all_fail('foreign schema', 1, qr/has schema "2" already, not "1"/,
    { RBGV_PEPPER_FILE => $no_pepper }, 'init');
ok(!-e $no_pepper, 'no pepper for it');

my @meta = $t->redis('HGETALL', 'rbgv:meta');

$t->redis('DEL', 'rbgv:meta');

all_fail('empty store', 3, qr/there is no "rbgv:meta" .*; run "rbgvctl init"/,
    {}, @rest);

$t->redis('HSET', 'rbgv:meta', @meta, schema => 1);


# what only some of them need

all_fail('no pepper file', 1, qr/pepper file ".*no-pepper": No such file/,
    { RBGV_PEPPER_FILE => $no_pepper }, @digesters);
all_fail('no pepper', 2, qr/needs --pepper-file .* or --no-pepper/,
    { RBGV_PEPPER_FILE => '' }, @digesters);


# The disk is full: no file may grow.  Like a disk, but for the word; this
# works for everybody.

my $dir = "$t->{dir}/full";

mkdir $dir or die "$dir: $!";

$t->redis('FLUSHDB');

my ($status, $out, @left) = full("ulimit -f 0; trap '' XFSZ", $dir);

is($status, 1, 'status of a pepper that cannot grow');
like($out, qr{^rbgvctl: cannot create the pepper file "$dir/pepper": }m,
    'reason of it');
is("@left", '', 'no file is left');
is($t->redis('DBSIZE'), 0, 'nothing is written to the store');

SKIP: {
    my $mount = "mount -t tmpfs -o size=4k tmpfs $dir";

    skip 'tmpfs cannot be mounted here', 4
        if system("unshare -rm sh -c '$mount' >$t->{dir}/mount.log 2>&1");

    ($status, $out, @left)
        = full("$mount && head -c 4096 /dev/zero >$dir/filler", $dir,
               qw(unshare -rm));

    is($status, 1, 'status of a full disk');
    like($out, qr/pepper file "\S+": No space left on device/,
        'reason of a full disk');
    is("@left", 'filler', 'no other file is left');
    is($t->redis('DBSIZE'), 0, 'nothing is written to the store');
}

# "init" in a shell in which something was done before: its status, what it
# says, and what is in the directory then
sub full {
    my ($before, $dir, @prefix) = @_;

    local $ENV{RBGV_REDIS}         = $redis->uri('rbgv-admin');
    local $ENV{RBGV_PASSWORD_FILE} = $redis->password_file('rbgv-admin');

    my $shell = "$before; $rbgvctl init --pepper-file $dir/pepper --acl none"
                . ' 2>&1; echo "status $?"; ls -A ' . $dir;

    open my $pipe, '-|', @prefix, 'sh', '-c', $shell or die "sh: $!";

    my $said = do { local $/; <$pipe> };
    my ($out, $status, $left) = $said =~ /\A(.*)^status (\d+)\n(.*)\z/ms;

    return ($status, $out, split /\n/, $left // '');
}

$t->done;
