package Test::Rbgv::Certificates;

# An authority of the test's own, and certificates of it.

use strict;
use warnings;

use POSIX qw(strftime);

my @ec = qw(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes);


# new(DIR): the certificate of the authority is DIR/ca.pem
sub new {
    my ($class, $dir) = @_;

    my $self = bless { dir => $dir }, $class;

    mkdir $dir or die "$dir: $!";
    $self->_write('index.txt', '');
    $self->_write('ca.conf', <<"EOC");
[ca]
default_ca       = this

[this]
database         = $dir/index.txt
new_certs_dir    = $dir
rand_serial      = yes
unique_subject   = no
default_md       = sha256
default_days     = 2
default_crl_days = 2
policy           = policy
copy_extensions  = copy

[policy]
commonName       = supplied
EOC

    _openssl('req', '-x509', @ec, '-subj', '/CN=authority', '-days', 2,
             '-keyout', "$dir/ca.key", '-out', "$dir/ca.pem");

    return $self;
}


sub authority { "$_[0]{dir}/ca.pem" }


# NAME.pem and NAME.key: issue(NAME, 'DNS:a,IP:127.0.0.1', begin => TIME,
# end => TIME), of which the last two are seconds since the epoch
sub issue {
    my ($self, $name, $names, %time) = @_;

    my $dir = $self->{dir};

    _openssl('req', @ec, '-subj', "/CN=$name",
             '-addext', "subjectAltName=$names",
             '-keyout', "$dir/$name.key", '-out', "$dir/$name.csr");
    $self->_ca('-in', "$dir/$name.csr", '-out', "$dir/$name.pem", '-notext',
               '-startdate', _time($time{begin} // time - 86400),
               '-enddate', _time($time{end} // time + 86400));

    return ("$dir/$name.pem", "$dir/$name.key");
}


# a list of what is revoked, with the certificates in it
sub revoke {
    my ($self, @certificates) = @_;

    $self->_ca('-revoke', $_) for @certificates;
    $self->_ca('-gencrl', '-out', "$self->{dir}/crl.pem");

    return "$self->{dir}/crl.pem";
}


sub _ca {
    my ($self, @args) = @_;

    _openssl('ca', '-batch', '-config', "$self->{dir}/ca.conf",
             '-cert', "$self->{dir}/ca.pem",
             '-keyfile', "$self->{dir}/ca.key", @args);
}


sub _time { strftime('%Y%m%d%H%M%SZ', gmtime $_[0]) }


sub _write {
    my ($self, $name, $text) = @_;

    open my $file, '>', "$self->{dir}/$name" or die "$name: $!";
    print $file $text;
    close $file or die "$name: $!";
}


sub _openssl {
    my (@args) = @_;

    open my $pipe, '-|', 'sh', '-c', 'exec openssl "$@" 2>&1', 'sh', @args
        or die "openssl: $!";
    my $said = join '', <$pipe>;
    close $pipe or die "openssl @args: $said\n";
}


1;
