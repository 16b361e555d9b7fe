# Samples of soak.pl, drawn: terminal, plot, samples are set by scripts/soak.

if (terminal eq 'svg') {
    set terminal svg size 1000,1100 font 'sans,13' background 'white'
} else {
    set terminal pngcairo size 1000,1100 font 'sans,11'
}

set output plot
set datafile separator "\t"
set multiplot layout 5,1
set grid
set key outside right
set xrange [0:*]
set yrange [0:*]
set lmargin 10
set rmargin 22

set ylabel 'PSS, MB'
plot samples using ($1/60):($4/1024) with lines lw 2 title 'reloaded', \
     samples using ($1/60):($8/1024) with lines lw 2 title 'steady'

set ylabel 'open files'
plot samples using ($1/60):5 with lines lw 2 title 'reloaded', \
     samples using ($1/60):9 with lines lw 2 title 'steady'

set ylabel 'keys in the zone'
plot samples using ($1/60):6 with lines lw 2 title 'reloaded', \
     samples using ($1/60):10 with lines lw 2 title 'steady'

set ylabel 'Redis, MB'
plot samples using ($1/60):($11/1024) with lines lw 2 title 'memory', \
     samples using ($1/60):($12/10) with lines lw 2 title 'connections / 10'

set ylabel 'requests / s'
set xlabel 'minutes'
plot samples using ($1/60):2 with lines lw 2 title 'requests'

unset multiplot
