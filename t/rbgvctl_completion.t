# "rbgvctl completion bash": what bash then offers, and that it is what the
# help has.  And the manual page, which has all commands.

use strict;
use warnings;

use Test::More;

use Test::Rbgv;

my $t = Test::Rbgv->new;

my ($exit, $script, $err) = $t->rbgvctl('completion', 'bash');

is("$exit$err", 0, 'script');

$t->write_file('completion', $script);
$t->write_file('pepper.txt', '');
$t->write_file('keys.csv', '');


# what is offered for the last word
sub offers {
    my (@words) = @_;

    my @command = ('bash', '-c', 'cd "$0"; . ./completion; COMP_WORDS=("$@");'
        . ' COMP_CWORD=$(($# - 1)); _rbgvctl; printf "%s\n" "${COMPREPLY[@]}"',
        $t->dir, 'rbgvctl', @words);

    open my $pipe, '-|', @command or die "bash: $!";

    my @completed = sort grep { $_ ne '' } map { chomp; $_ } <$pipe>;

    return @completed;
}


# names of options in the first or second part of a help
sub options {
    my ($help, $part) = @_;

    my ($section) = $help =~ /^$part:\n(.*?)\n\n/ms or return;

    return $section =~ /^  (--[\w-]+)/mg;
}


my (undef, $help) = $t->rbgvctl('--help');
my ($list) = $help =~ /^Commands:\n(.*?)\n\n/ms;
my @commands = sort $list =~ /^  (\w+)/mg;
my @listed = options($help, 'Options, before or behind the command');

cmp_ok(scalar @commands, '>=', 10, 'commands are found');
cmp_ok(scalar @listed, '>=', 8, 'options are found');

is_deeply([ offers('') ], \@commands, 'commands');
is_deeply([ offers('--') ], [ sort @listed ], 'options before a command');
is_deeply([ offers('--json', '') ], \@commands, 'commands behind an option');

for my $command (@commands) {
    my (undef, $help) = $t->rbgvctl($command, '--help');

    my @own = options($help, 'Options');

    is_deeply([ options($help, 'Options of every command') ], \@listed,
        "help of $command");
    is_deeply([ offers($command, '--') ], [ sort @own, @listed ],
        "options of $command");
}

is_deeply([ offers('--pep') ], [ '--pepper-file' ], 'begin of an option');
is_deeply([ offers('imp') ], [ 'import' ], 'begin of a command');
is_deeply([ offers('--redis', '') ], [], 'a value that nobody knows');
is_deeply([ offers('--pepper-file', 'pep') ], [ 'pepper.txt' ], 'a file');
is_deeply([ offers('--pepper-file', '=', 'pep') ], [ 'pepper.txt' ],
    'a file behind =');
is_deeply([ offers('init', '--acl', '') ], [ qw(install none print) ],
    'words of an option');
is_deeply([ offers('init', '--acl', '=') ], [ qw(install none print) ],
    'words behind =');
is_deeply([ offers('import', 'k') ], [ 'keys.csv' ], 'a file to import');
is_deeply([ offers('--json', 'import', '--dry-run', 'k') ], [ 'keys.csv' ],
    'a file behind options');
is_deeply([ offers('show', '') ], [], 'an id');
is_deeply([ offers('completion', '') ], [ 'bash' ], 'a shell');

($exit, undef, $err) = $t->rbgvctl('completion', 'zsh');
is($exit, 2, 'other shell');
like($err, qr/completion for bash only/, 'reason');


# the manual

my $manual = $t->root . '/build/rbgvctl.1';

ok(-s $manual, 'manual');
is(`mandoc -T lint -W warning $manual 2>&1`, '', 'no complaints of mandoc');

my $page = `mandoc -T ascii $manual` =~ s/.\x08//gr;

like($page, qr/^NAME\n +rbgvctl - manages API keys in Redis\n/m, 'name');
like($page, qr/^SYNOPSIS\n +rbgvctl \[OPTION\.\.\.\] COMMAND/m, 'synopsis');

for my $command (@commands) {
    like($page, qr/^(?:[A-Z]+,\ )*\U$command\E(?:,\ [A-Z]+)*\n
                   (?:\ +rbgvctl\ .*\n)*\ +rbgvctl\ $command/mx,
        "section of $command");
}

$t->done;
