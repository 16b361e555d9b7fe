package Test::Rbgv::Conf;

# Configurations that "nginx -t" refuses or accepts, by what is in one place
# of them.

use strict;
use warnings;

use Exporter qw(import);
use Test::More;

our @EXPORT = qw(accept_conf refuse_conf);


# refuse_conf(TEST, LEVEL, DIRECTIVES, REGEX): at the level of http, server or
# location; the message matches and does not show the password "geheim"
sub refuse_conf {
    my ($t, $level, $directives, $regex) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    my $said = _check($t, $level, $directives);

    $said = 'a password is shown' if $said =~ /geheim/;

    like($said, qr/^nginx: \[emerg\] .*$regex/m, "refused: $directives");
}


sub accept_conf {
    my ($t, $level, $directives, $name) = @_;

    local $Test::Builder::Level = $Test::Builder::Level + 1;

    like(_check($t, $level, $directives), qr/test is successful/,
        $name // "accepted: $directives");
}


# "rbgv_auth on" is left to a location that says it itself
sub _check {
    my ($t, $level, $directives) = @_;

    my %at = (http => '', server => '', location => '',
              $level => $directives);
    my $on = $directives =~ /^rbgv_auth / ? '' : 'rbgv_auth on;';

    return $t->check_conf(<<"EOC");
%%TEST_GLOBALS%%
events {}
http {
    %%TEST_GLOBALS_HTTP%%
    $at{http}
    server {
        listen 127.0.0.1:%%PORT_0%%;
        $at{server}
        location / {
            $on
            $at{location}
        }
    }
}
EOC
}


1;
