package Test::Rbgv::Console;

# A gateway with the server of docs/console.conf, and programs for node that drive
# a browser on it.

use strict;
use warnings;

use Carp qw(croak);
use Digest::SHA qw(sha256_hex);
use Exporter qw(import);
use File::Slurper qw(read_binary);
use JSON::PP;

our @EXPORT_OK = qw(missing_tools run_script start_console);

my $token = 'rbgv-console-test-token';


# what keeps a browser from being driven, or nothing
sub missing_tools {
    my ($t) = @_;

    my $modules = $t->root . '/t/console/node_modules';

    return 'no /usr/bin/chromium' unless -x '/usr/bin/chromium';
    return 'no node' if system('command -v node >/dev/null');
    return 'no playwright-core, which npm installs'
        unless -d "$modules/playwright-core";
    return;
}


# docs/console.conf on a port and with paths of the test; and an API that takes
# keys
sub start_console {
    my ($t) = @_;

    my $server = read_binary($t->root . '/docs/console.conf');

    my $redis    = $t->redis_server;
    my $uri      = $redis->uri('rbgv-admin');
    my $password = $redis->password_file('rbgv-admin');
    my $tokens   = $t->write_file('admin.tokens', sha256_hex($token) . " alice\n");
    my $console  = $t->root . '/console/';

    $server =~ s/listen [^;]+;/listen 127.0.0.1:%%PORT_0%%;/;
    $server =~ s{unix://rbgv-admin\@/[^;]+}{$uri};
    $server =~ s{/etc/nginx/rbgv-admin\.password}{$password};
    $server =~ s{/etc/nginx/rbgv-admin\.tokens}{$tokens};
    $server =~ s{alias +[^;]+;}{alias $console;};

    $t->write_conf(<<"EOC");
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    %%REDIS%%
    $server
    server {
        listen 127.0.0.1:%%PORT_api%%;
        location /v1/ {
            rbgv_auth on;
            rbgv_auth_limit default 600r/1m;
            empty_gif;
        }
    }
}
EOC

    $t->start_nginx;
}


# run_script(TEST, NAME, SETUP, CODE): CODE gets each line that t/console/NAME
# prints; returns its exit status
sub run_script {
    my ($t, $name, $setup, $code) = @_;

    local $ENV{RBGV_CONSOLE} = JSON::PP->new->ascii->encode({
        origin => 'http://127.0.0.1:' . $t->port(0),
        api    => 'http://127.0.0.1:' . $t->port('api'),
        token  => $token,
        %$setup,
    });

    open my $out, '-|', 'node', $t->root . "/t/console/$name"
        or croak "node: $!";

    while (my $line = <$out>) {
        chomp $line;
        $code->($line);
    }

    close $out;
    return $?;
}


1;
