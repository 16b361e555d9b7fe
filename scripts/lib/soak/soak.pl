# Mixed traffic for MINUTES, and what is used meanwhile: soak.pl MINUTES
# SAMPLES [JSON].  Run by scripts/soak.

use strict;
use warnings;

use JSON::PP;
use List::Util qw(max sum0);
use Socket qw(SOL_SOCKET SO_LINGER);
use POSIX ();
use Time::HiRes qw(sleep time);

use Test::Rbgv;
use Test::Rbgv::Key qw(make_key);
use Test::Rbgv::Load;

my ($minutes, $samples_file, $json_file) = @ARGV;

$| = 1;

my $interval = 10;       # seconds between samples
my $reload   = 60;
my $restart  = 180;      # Redis is killed,
my $down     = 2;        # and away for so long
my $settle   = 8;        # after that it is known to be back
my $old_time = 30;       # for workers that shut down

my @hosts = qw(reloaded steady);

# what is shown of each host, and how much it may grow in the second half: by
# a share or by so much, whatever is more; and by so much for each new key, which
# two workers remember.
my %bound = (
    rss   => [ 0.03, 1024, 1 ],   # of both workers, kB
    pss   => [ 0.03, 1024, 1 ],
    files => [ 0.10, 12 ],
    keys  => [ 0.02, 8 ],         # in the zone
    redis => [ 0.10, 512 ],       # memory of Redis, kB
    connections => [ 0.10, 4 ],   # to Redis
);

# of each kind of request, beside 503 while Redis is away
my %expected = (
    valid   => [200],
    exact   => [200],
    over    => [ 200, 429 ],
    credits => [ 200, 402 ],
    changed => [ 200, 401 ],
    none    => [401],
    bad     => [401],
    secret  => [401],
    unknown => [401],
    open    => [200],
    http2   => [200],
    rbgvctl => ['done'],
);

my @columns = ((map { my $host = $_; map { "$host $_" } qw(rss pss files keys) }
                @hosts), 'redis', 'connections');

my $t = Test::Rbgv->new;
my ($start, $reloaded, $reloads) = (0, 9e9, 0);
my (@children, @away, %seen, @unexpected, @problems);


sub main {
    my @requests = start_servers();

    $start = time;
    printf "%s min; Redis is killed every %s s, \"reloaded\" reloaded every "
           . "%s s\n\n", $minutes, $restart, $reload;

    in_background('http1', sub { http1(@requests) });
    in_background('abort', sub { aborting(@requests) });
    in_background('http2', sub { http2() });
    in_background('change', sub { change() });

    my @samples = watch();

    end_children();
    look_at_logs();
    judge(@samples);

    # the test library shows logs otherwise
    $t->{done} = 1;
    exit(@problems > 0);
}


# Returns [ kind, request ] for each.
sub start_servers {
    $t->start_redis;

    for my $host (@hosts) {
        $t->nginx($host)->write_conf(<<"EOC");
%%TEST_GLOBALS%%
worker_processes 2;
error_log error.log warn;
worker_shutdown_timeout 10s;
events { worker_connections 1024; }
http {
    %%TEST_GLOBALS_HTTP%%
    access_log off;
    %%REDIS%%
    rbgv_auth_lease auto;
    rbgv_auth_zone 256k;
    rbgv_auth_redis_timeout 1s;
    keepalive_requests 200;

    server {
        listen 127.0.0.1:%%PORT_$host%%;
        listen 127.0.0.1:%%PORT_2$host%% http2;
        rbgv_auth on;
        rbgv_auth_limit default 1000000r/1m;

        location / { empty_gif; }
        location /exact { rbgv_auth_lease off; empty_gif; }
        location /over { rbgv_auth_limit over 60r/1m; empty_gif; }
        location /credits { rbgv_auth_credits 1; empty_gif; }
        location /open { rbgv_auth off; empty_gif; }
        location /metrics { rbgv_auth off; rbgv_auth_metrics; }
    }
}
EOC
        $t->nginx($host)->start;
    }

    my @requests;
    my $add = sub {
        my ($kind, $uri, $key) = @_;
        push @requests, [ $kind, Test::Rbgv::request_text('GET', $uri,
                                                          key => $key) ];
    };

    for my $n (1 .. 40) {
        my $key = $t->create_key(name => "soak$n-prod")->{key};

        $add->(valid => "/$n", $key) for 1 .. 3;
        $add->(exact => "/exact/$n", $key);
        $add->(unknown => '/', make_key(id => sprintf('%012d', $n + 1000 * $_)))
            for 1 .. 4;
        $add->(bad => '/', "not-a-key-$n");
        $add->(none => '/', undef);
        $add->(open => '/open', undef);
        # its id is known
        $add->(secret => '/', make_key(id => (split /_/, $key)[2]));
    }

    my $over = $t->create_key(name => 'soak-over-prod')->{key};
    my $credits = $t->create_key(name => 'soak-credits-prod', credits => 500);

    $add->(over => '/over', $over) for 1 .. 60;
    $add->(credits => '/credits', $credits->{key}) for 1 .. 20;

    return map { $requests[ $_ * 11 % @requests ] } 0 .. $#requests;
}


# Traffic, each kind in a process of its own that ends when it is told to; how
# many answers of which status there were is in a file.

my %count;

sub in_background {
    my ($name, $code) = @_;

    my $pid = fork() // die "fork: $!\n";

    if ($pid) {
        push @children, $pid;
        return;
    }

    @children = ();
    $SIG{TERM} = $SIG{INT} = 'DEFAULT';
    $SIG{ALRM} = sub { write_count($name); alarm 1 };
    alarm 1;

    until (eval { $code->(); 1 }) {
        count('failed', 'process', $@);
        sleep 1;
    }

    POSIX::_exit(0);
}


sub end_children {
    while (my $pid = shift @children) {
        kill 'TERM', $pid;
        waitpid $pid, 0;
    }
}


# @children is empty in a child
END { end_children() }


sub count {
    my ($kind, $status, $text) = @_;

    my $key = "$kind $status";

    $count{answers}{$key}++;

    return if $status =~ /^(?:gone|retried)$/;

    # by the second, and for the parent to judge
    my $second = int time;

    push @{ $count{odd}{$second} }, $key . (defined $text ? " $text" : '')
        if !grep { $_ eq $status } @{ $expected{$kind} // [] };
}


sub write_count {
    my ($name) = @_;

    my $file = $t->dir . "/count-$name";

    open my $out, '>', "$file.new" or die "$file: $!";
    print $out encode_json(\%count);
    close $out;
    rename "$file.new", $file;

    # what is old has been read
    my $old = time - 60;
    delete @{ $count{odd} }{ grep { $_ < $old } keys %{ $count{odd} } };
}


sub read_counts {
    my %sum;

    for my $name (qw(http1 abort http2 change)) {
        open my $in, '<', $t->dir . "/count-$name" or next;
        my $count = decode_json(do { local $/; <$in> });

        $sum{answers}{$_} += $count->{answers}{$_}
            for keys %{ $count->{answers} // {} };
        $sum{odd}{"$name $_"} = $count->{odd}{$_}
            for keys %{ $count->{odd} // {} };
    }

    return \%sum;
}


sub http1 {
    my (@requests) = @_;

    Test::Rbgv::Load->new(
        ports       => [ map { $t->port($_) } @hosts ],
        connections => 30,
        request     => [ map { $_->[1] } @requests ],
        rotate      => 1,
        pauses      => 0.1,
        gone        => 1,
        seen        => sub { count($requests[ $_[0] ][0], $_[1]) },
    )->run(sub { 1 });
}


# half of a request, or all of it, and not the whole answer
sub aborting {
    my (@requests) = @_;

    while (1) {
        my $text = $requests[ rand @requests ][1];
        my $socket = IO::Socket::INET->new(
            PeerAddr => '127.0.0.1', PeerPort => $t->port($hosts[ rand 2 ]));

        if ($socket) {
            local $SIG{PIPE} = 'IGNORE';

            syswrite $socket, rand() < 0.3
                ? substr($text, 0, int rand length $text) : $text;
            sleep rand 0.004;
            setsockopt $socket, SOL_SOCKET, SO_LINGER,
                pack 'ii', 1, 0 if rand() < 0.5;
            close $socket;
            $count{answers}{'aborted -'}++;
        }

        sleep 0.04;
    }
}


sub http2 {
    my $key = $t->create_key(name => 'soak-http2-prod')->{key};
    my $n = 0;

    while (1) {
        my $port = $t->port('2' . $hosts[ $n++ % 2 ]);
        my $out = `h2load -n 400 -c 4 -m 4 --rps 20 -H 'X-Api-Key: $key' http://127.0.0.1:$port/h2 2>&1`;
        my %status;

        @status{qw(200 300 400 500)} = $out =~
            /^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx/m
            or die "h2load: $out\n";

        $status{503} = delete $status{500};

        for my $status (keys %status) {
            count('http2', $status) for 1 .. $status{$status};
        }

        # those that a reload or h2load's end took with it
        my ($gone) = $out =~ /, (\d+) errored/;
        $count{answers}{'http2 gone'} += $gone if $gone;
    }
}


# Keys that are disabled, enabled and rotated, one after the other.
sub change {
    my @keys = map { $t->create_key(name => "soak-changed$_-prod") } 1 .. 8;

    while (1) {
        my $key = $keys[0];
        push @keys, shift @keys;

        control('disable', $key->{id}, '--wait');
        ask($key->{key}, 401);
        control('enable', $key->{id}, '--wait');
        ask($key->{key}, 200);

        my $old = $key->{key};
        my $new = control('--json', 'rotate', $key->{id}, '--wait');

        if (!defined $new) {
            # it may be under way, and nobody has the new key
            control('rotate', $key->{id}, '--cancel', '--force');
            next;
        }

        $key->{key} = decode_json($new)->{api_key};
        ask($_, 200) for $old, $key->{key};

        control('rotate', $key->{id}, '--finish', '--force', '--wait');
        ask($old, 401);
        ask($key->{key}, 200);
    }
}


# each host, which may also have no answer for a while
sub ask {
    my ($key, $status) = @_;

    for my $host (@hosts) {
        my $got = eval {
            $t->get('/changed', port => $host, key => $key)->{status}
        } // 'gone';

        count($got eq $status || $got !~ /^(?:200|401)$/
              ? 'changed' : 'wrongly', $got);
    }
}


# once Redis is back; returns what it prints, or undef
sub control {
    for (1 .. 10) {
        my ($exit, $out, $err) = $t->rbgvctl(@_);

        count('rbgvctl', $exit ? 503 : 'done', $err);
        return $out unless $exit;
        sleep 1;
    }

    return;
}


# The servers: reloads, restarts, samples.

sub watch {
    my $end = $start + 60 * $minutes;
    my %next = (sample => $interval / 2, reload => $reload,
                restart => $restart / 2);
    my ($back, @samples);

    open my $out, '>', $samples_file or die "$samples_file: $!\n";
    $out->autoflush;

    while (time < $end) {
        my $now = time - $start;

        if (defined $back && $now >= $back) {
            $t->redis_start;
            $away[-1][1] = time + $settle;
            $back = undef;

        } elsif ($now >= $next{restart} && $now < 60 * $minutes - 20) {
            push @away, [ time - 1, 9e9 ];
            $t->redis_kill;
            $back = $now + $down;
            $next{restart} += $restart;
        }

        if ($now >= $next{reload}) {
            $t->nginx('reloaded')->process->signal('HUP');
            $reloaded = time;
            $reloads++;
            $next{reload} += $reload;
        }

        if ($now >= $next{sample}) {
            my $sample = sample(@samples ? $samples[-1] : ());

            show($sample, @samples % 20 == 0);
            print $out join("\t", map { $sample->{$_} // 'nan' }
                                  'time', 'rate', @columns), "\n";
            push @samples, $sample;
            $next{sample} += $interval;
        }

        sleep 0.2;
    }

    return @samples;
}


sub sample {
    my ($before) = @_;

    my $counts = read_counts();
    my %sample = (time => time - $start, answers => $counts->{answers});

    $sample{all} = sum0(values %{ $counts->{answers} });
    $sample{rate} = ($sample{all} - ($before->{all} // 0))
                    / ($sample{time} - ($before->{time} // 0));

    for my $host (@hosts) {
        my $nginx   = $t->nginx($host);
        my @workers = $nginx->workers;

        $sample{"$host rss"} = sum0(map { memory($_, 'Rss') } @workers);
        $sample{"$host pss"} = sum0(map { memory($_, 'Pss') } @workers);
        $sample{"$host files"}
            = sum0(map { scalar(() = glob "/proc/$_/fd/*") } @workers);
        $sample{"$host keys"} = keys_in_zone($host);
        $sample{"$host old"} = children($nginx->pid) - @workers;

        push @problems, "$host has old workers $old_time s after a reload"
            if $sample{"$host old"} > 0 && time > $reloaded + $old_time;
    }

    if (!@away || $away[-1][1] < 9e9) {
        $sample{redis} = int $t->redis('INFO')->{used_memory} / 1024;
        $sample{connections}
            = () = $t->redis('CLIENT', 'LIST') =~ /user=rbgv-gateway/g;
    }

    find_unexpected($counts->{odd});
    $sample{unexpected} = @unexpected;

    return \%sample;
}


# kB
sub memory {
    my ($pid, $what) = @_;

    return read_text("/proc/$pid/smaps_rollup") =~ /^$what:\s+(\d+)/m ? $1 : 0;
}


sub children {
    my ($pid) = @_;

    return scalar(() = read_text("/proc/$pid/task/$pid/children") =~ /\d+/g);
}


sub keys_in_zone {
    my ($host) = @_;

    return $t->get('/metrics', port => $host)->{body}
               =~ /^rbgv_auth_zone_keys (\d+)$/m ? $1 : 0;
}


sub read_text {
    my ($path) = @_;

    open my $in, '<', $path or return '';
    local $/;
    return scalar(<$in>) // '';
}


# what was answered, second by second, and should not have been
sub find_unexpected {
    my ($odd) = @_;

    for my $second (keys %$odd) {
        my ($at) = $second =~ /(\d+)$/;
        my $away = grep { $at >= $_->[0] && $at <= $_->[1] } @away;

        # it may not be whole yet
        next if $at > time - 5 || $seen{$second}++;

        for my $answer (@{ $odd->{$second} }) {
            next if $away && $answer =~ /^(?!wrongly)\w+ 503\b/;

            push @unexpected, sprintf '%d s: %s', $at - $start, $answer;
            print "$unexpected[-1]\n" if @unexpected < 50;
        }
    }
}


sub show {
    my ($sample, $head) = @_;

    if ($head) {
        print ' ' x 14, map({ sprintf '| %-33s', $_ } @hosts),
            "| Redis\n";
        printf "%6s %6s %s%s%s\n", 'time', 'req/s',
            '| RSS kB  PSS kB files   keys  old ' x @hosts,
            '|    kB conns', ' unexpected';
    }

    printf "%3d:%02d %6.0f ", $sample->{time} / 60, $sample->{time} % 60,
        $sample->{rate};

    for my $host (@hosts) {
        printf '| %6d  %6d %5d %6d %4d ',
            @$sample{ map { "$host $_" } qw(rss pss files keys old) };
    }

    printf "| %5s %5s %10d\n", $sample->{redis} // '-',
        $sample->{connections} // '-', $sample->{unexpected};
}


# The end.

sub look_at_logs {
    for my $host (@hosts) {
        push @problems, "$host did not end" unless $t->nginx($host)->stop;
        push @problems, "$host: $_"
            for grep { /\[(?:emerg|alert|crit)\]|Sanitizer/ && !/"LOADING / }
                split /\n/, $t->nginx($host)->read_log('error.log');
    }
}


# by how much it grows in the second half, by a straight line through it
sub growth {
    my (@points) = @_;

    my $n = @points;
    my ($x, $y) = map { my $i = $_; sum0(map { $_->[$i] } @points) / $n } 0, 1;
    my $slope = sum0(map { ($_->[0] - $x) * ($_->[1] - $y) } @points)
                / (sum0(map { ($_->[0] - $x) ** 2 } @points) || 1);

    return ($slope * ($points[-1][0] - $points[0][0]), $y);
}


sub judge {
    my (@samples) = @_;

    my %flat;
    my @half = @samples[ @samples / 2 .. $#samples ];

    # one command of four makes a key
    my $keys = ($half[-1]{answers}{'rbgvctl done'}
                - $half[0]{answers}{'rbgvctl done'}) / 4;

    printf "\n%-22s %10s %10s %10s\n", 'second half', 'mean', 'growth',
        'at most';

    for my $column (@columns) {
        my @points = map { [ $_->{time}, $_->{$column} ] }
                     grep { defined $_->{$column} } @half;
        my ($growth, $mean) = growth(@points);
        my ($what) = $column =~ /(\w+)$/;
        my $most = max($bound{$what}[0] * $mean, $bound{$what}[1])
                   + $keys * ($bound{$what}[2] // 0);

        $flat{$column} = { mean => $mean, growth => $growth, most => $most };
        printf "%-22s %10.0f %+10.1f %10.0f%s\n", $column, $mean, $growth,
            $most, $growth > $most ? '  grows' : '';
        push @problems, "$column grows" if $growth > $most;
    }

    my $answers = $samples[-1]{answers};

    print "\nanswers\n";
    printf "  %-22s %9d\n", $_, $answers->{$_} for sort keys %$answers;

    push @problems, map { "unexpected: $_" } @unexpected;
    print "\n", map { "$_\n" } @problems > 20 ? @problems[0 .. 19] : @problems;
    printf "%d problems, %d reloads, %d kills of Redis\n", scalar @problems,
        $reloads, scalar @away;

    return unless defined $json_file;

    open my $out, '>', $json_file or die "$json_file: $!\n";
    print $out JSON::PP->new->pretty->canonical->encode({
        minutes => $minutes, samples => \@samples, flat => \%flat,
        answers => $answers, problems => \@problems, kills => scalar @away,
    });
    close $out or die "$json_file: $!\n";
}


main();
