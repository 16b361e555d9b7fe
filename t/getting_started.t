#!/usr/bin/perl

# docs/getting-started.md, word for word, in bare Debian 12 and 13; then the
# packages are gone without a trace.

use strict;
use warnings;

use File::Slurper qw(read_binary);
use Test::More;

use Test::Rbgv;

plan skip_all => 'RBGV_LONG is not set' unless $ENV{RBGV_LONG};
plan skip_all => 'for root'             unless $> == 0;

my $t = Test::Rbgv->new;
my $root = $t->root;

# sections, each with its blocks: commands, and what they print
my %blocks;
my @sections;

for my $section (split /^## /m, read_binary("$root/docs/getting-started.md")) {
    my ($name) = $section =~ /^(.*)$/m;

    while ($section =~ /^```(sh)?\n(.*?)^```$/msg) {
        push @sections, $name unless $blocks{$name};

        if ($1) {
            push @{ $blocks{$name} }, { commands => $2 };
        } else {
            $blocks{$name}[-1]{prints} = $2;
        }
    }
}

is($sections[0], 'Install', 'first section');
is($sections[-1], 'Remove it', 'last section');

try_in($_) for qw(12 13);

$t->done;


sub try_in {
    my ($release) = @_;

    my $dir = chroots('
        rm -rf --one-file-system "$cache/debian-$1-getting-started"
        copy_debian "$1" getting-started', $release);
    chomp $dir;
    like($dir, qr{/debian-$release-getting-started$}, "Debian $release")
        or return;

    # The network is needed to install, and must not be there for servers,
    # whose ports are in use on the host.  They are not started until then.

    my $policy = "$dir/usr/sbin/policy-rc.d";

    write_script($policy, "#!/bin/sh\nexit 101\n");
    run($release, $dir, '', 'Install');
    unlink $policy;

    run($release, $dir, 'none', @sections[1 .. $#sections]);

    system 'rm', '-rf', '--one-file-system', $dir;
}


# Each block is followed by a line with its number: after it has failed there
# is none.
sub run {
    my ($release, $dir, $network, @names) = @_;

    my @run = map { @{ $blocks{$_} } } @names;
    my $script = "set -e\ncd /src\nexec 2>&1\n";

    for my $n (0 .. $#run) {
        $script .= $run[$n]{commands};

        # without systemd, "service" returns before Redis listens
        $script .= "until redis-cli ping; do sleep 0.1; done >/dev/null\n"
            if $run[$n]{commands} =~ /^service redis-server restart$/m;

        $script .= "printf '\\n== $n\\n'\n";
    }

    $script .= "find / -xdev '(' -path /build -o -path /src ')' -prune"
               . " -o -name '*rbgv*' -print\n";

    write_script("$dir/root/commands", $script);

    local $ENV{NETWORK} = $network;
    my $out = chroots('in_chroot "$1" bash /root/commands', $dir);

    my $rest = $out;

    for my $n (0 .. $#run) {
        my ($first) = $run[$n]{commands} =~ /^(.*)/;

        ok($rest =~ s/\A(.*?)\n== $n\n//s, "Debian $release: $first")
            or return diag($out);

        my $printed = $1 =~ s/\r$//mgr;

        like($printed, qr/^\Q$_\E$/m, $_)
            for split /\n/, $run[$n]{prints} // '';
    }

    return if $names[-1] ne $sections[-1];

    is_deeply([ sort split /\n/, $rest ],
        [ qw(/etc/nginx/rbgv-gateway.password /etc/nginx/rbgv.pepper
             /root/rbgv-admin.password) ],
        "Debian $release: what is left");
}


# what a function of scripts/lib/chroot.sh prints
sub chroots {
    my ($command, @args) = @_;

    open my $pipe, '-|', 'bash', '-c', "cd '$root'
        . scripts/lib/common.sh
        . scripts/lib/chroot.sh
        $command", 'scripts/test', @args or die "bash: $!";

    local $/;
    return scalar(<$pipe>) // '';
}


sub write_script {
    my ($path, $text) = @_;

    open my $file, '>', $path or die "$path: $!";
    print $file $text;
    close $file or die "$path: $!";
    chmod 0755, $path;
}
