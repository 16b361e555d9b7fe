#!/usr/bin/env perl

# plot.pl FILE DIRECTORY: draws what "scripts/bench --json" has written.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use JSON::PP;

use lib dirname(abs_path(__FILE__));
use Bench qw(slurp);

@ARGV == 2 or die "usage: plot.pl FILE DIRECTORY\n";

my ($file, $directory) = @ARGV;

my $text  = slurp($file);
my $table = eval { decode_json($text) };
ref $table eq 'HASH' && $table->{rows}
    or die "$file is not what scripts/bench --json writes\n";

my @rows = @{ $table->{rows} };
my ($many) = map { $_->{setting} =~ /^([\d,]+ keys)/ } @rows;

# groups of columns: the text, and the scene
my @groups = (
    [ 'one key\n64 connections', 'one' ],
    [ '1 connection',            'single' ],
    [ '256 connections',         'crowd' ],
    [ 'Redis\n1 ms away',        'far' ],
    [ $many,                     'many' ],
);

my @variants = (
    [ open    => 'no auth',                '#c8c8c8' ],
    [ lease   => 'this module, leases',    '#1f5fa8' ],
    [ exact   => 'this module, exact',     '#7fb2e5' ],
    [ lua     => 'Lua, lua-nginx-redis',   '#e0902f' ],
    [ request => 'auth_request',          '#b3502a' ],
    [ limit   => 'limit_req',             '#6f8f6f' ],
);


sub main {
    open my $gnuplot, '|-', 'gnuplot' or die "gnuplot: $!\n";

    print $gnuplot style(),
        grouped('ratio', 'requests a second, to those without auth',
                'set yrange [0:1.2]', @variants[1 .. $#variants]),
        grouped('p99', 'p99, us', 'set logscale y; set yrange [10:*]',
                @variants),
        stacked();

    close $gnuplot or die "gnuplot failed\n";
}


sub style {
    return <<'END_OF_STYLE';
set terminal svg size 860,400 dynamic noenhanced font 'sans-serif,13' \
    background '#ffffff'
set style data histogram
set style fill solid border linecolor '#555555'
set bmargin 3.5
set boxwidth 0.9
set border 3
set tics nomirror
set grid ytics linetype 1 linecolor '#dddddd'
set key outside top center horizontal
set datafile missing '?'
END_OF_STYLE
}


# one figure of each variant, in all settings, with the least and the most
sub grouped {
    my ($figure, $label, $axis, @shown) = @_;

    my $data = '';

    for my $group (@groups) {
        my ($text, $scene) = @$group;

        $data .= join(' ', qq("$text"),
                      map { @{ figure($scene, $_->[0], $figure) } } @shown)
                 . "\n";
    }

    my @columns = map {
        my $n = 2 + 3 * $_;
        "\$$figure using $n:@{[ $n + 1 ]}:@{[ $n + 2 ]}"
        . ($_ ? '' : ':xtic(1)')
        . qq( title "$shown[$_][1]" linecolor "$shown[$_][2]");
    } 0 .. $#shown;

    return picture($figure, $label, $data, $axis,
                   'set style histogram errorbars gap 1.5 linewidth 1',
                   @columns);
}


# of the first scene, and of what is refused
sub stacked {
    my $data = join '', map {
        my $refused = $_->{scene} eq 'refused' ? 'refused: ' : '';
        qq("$refused$_->{text}" $_->{nginx_us}[0] $_->{redis_us}[0]\n)
    } grep { $_->{scene} eq 'one'
             || $_->{scene} eq 'refused' && $_->{name} ne 'open' } @rows;

    return picture('cpu', 'us of CPU a request', $data,
                   'unset logscale y; set yrange [0:*]; set bmargin 8;'
                   . ' set rmargin 12; set xtics rotate by -25',
                   'set style histogram rowstacked',
                   '$cpu using 2:xtic(1) title "nginx" linecolor "#1f5fa8"',
                   '$cpu using 3 title "Redis" linecolor "#c0392b"');
}


sub figure {
    my ($scene, $name, $figure) = @_;

    my ($row) = grep { $_->{scene} eq $scene && $_->{name} eq $name } @rows;

    return $row ? $row->{$figure} : [ ('?') x 3 ];
}


sub picture {
    my ($name, $label, $data, $axis, $histogram, @columns) = @_;

    return "\$$name << END_OF_DATA\n${data}END_OF_DATA\n"
           . "set output '$directory/performance-$name.svg'\n"
           . "set ylabel '$label'\n$axis\n$histogram\n"
           . 'plot ' . join(', ', @columns) . "\n";
}


main();
