
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: TLS under the connection to the store.  hiredis connects, formats
 * commands and reads replies; it speaks no TLS itself before 1.0.
 */


#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "rbgvctl.h"


struct rbgvctl_tls_s {
    SSL_CTX             *ctx;
    SSL                 *ssl;
    BIO                 *bio;          /* over ssl */
    BIO                 *out;          /* a buffer for commands, over bio */
};


static int rbgvctl_tls_context(rbgvctl_t *ctl, rbgvctl_server_t *server);
static int rbgvctl_tls_trust(rbgvctl_t *ctl, rbgvctl_server_t *server);
static int rbgvctl_tls_certificate(rbgvctl_t *ctl, rbgvctl_server_t *server);
static int rbgvctl_tls_connection(rbgvctl_t *ctl, rbgvctl_server_t *server);
static int rbgvctl_tls_name(SSL *ssl, const char *name);
static int rbgvctl_tls_handshake(rbgvctl_t *ctl, rbgvctl_server_t *server,
    const char *name);
static int rbgvctl_tls_lost(rbgvctl_server_t *server, const char *text);
static const char *rbgvctl_tls_reason(void);


int
rbgvctl_tls_start(rbgvctl_t *ctl, rbgvctl_server_t *server)
{
    int  rc;

    server->tls = calloc(1, sizeof(rbgvctl_tls_t));
    if (server->tls == NULL) {
        return rbgvctl_fault(ctl, RBGVCTL_REFUSED, "out of memory");
    }

    rc = rbgvctl_tls_context(ctl, server);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    return rbgvctl_tls_connection(ctl, server);
}


void
rbgvctl_tls_close(rbgvctl_server_t *server)
{
    if (server->tls == NULL) {
        return;
    }

    BIO_free(server->tls->out);
    BIO_free_all(server->tls->bio);
    SSL_free(server->tls->ssl);
    SSL_CTX_free(server->tls->ctx);

    free(server->tls);
    server->tls = NULL;
}


static int
rbgvctl_tls_context(rbgvctl_t *ctl, rbgvctl_server_t *server)
{
    int       rc;
    SSL_CTX  *ctx;

    ctx = SSL_CTX_new(TLS_client_method());
    if (ctx == NULL) {
        return rbgvctl_fault(ctl, RBGVCTL_REFUSED, "OpenSSL fails: %s",
                             rbgvctl_tls_reason());
    }

    server->tls->ctx = ctx;

    (void) SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    (void) SSL_CTX_set_options(ctx, SSL_OP_IGNORE_UNEXPECTED_EOF);

    rc = rbgvctl_tls_trust(ctl, server);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    return rbgvctl_tls_certificate(ctl, server);
}


static int
rbgvctl_tls_trust(rbgvctl_t *ctl, rbgvctl_server_t *server)
{
    SSL_CTX  *ctx;

    ctx = server->tls->ctx;

    if (ctl->tls_insecure) {
        return RBGVCTL_OK;
    }

    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);

    if (ctl->tls_ca_file == NULL) {
        (void) SSL_CTX_set_default_verify_paths(ctx);
        return RBGVCTL_OK;
    }

    if (SSL_CTX_load_verify_locations(ctx, ctl->tls_ca_file, NULL) != 1) {
        return rbgvctl_fault(ctl, RBGVCTL_REFUSED, "cannot use the "
                             "certificates in \"%s\": %s", ctl->tls_ca_file,
                             rbgvctl_tls_reason());
    }

    return RBGVCTL_OK;
}


static int
rbgvctl_tls_certificate(rbgvctl_t *ctl, rbgvctl_server_t *server)
{
    if ((ctl->tls_cert_file == NULL) != (ctl->tls_key_file == NULL)) {
        return rbgvctl_fault(ctl, RBGVCTL_USAGE, "--tls-cert-file and "
                             "--tls-key-file are given together or not at "
                             "all");
    }

    if (ctl->tls_cert_file == NULL) {
        return RBGVCTL_OK;
    }

    if (SSL_CTX_use_certificate_chain_file(server->tls->ctx, ctl->tls_cert_file)
        != 1)
    {
        return rbgvctl_fault(ctl, RBGVCTL_REFUSED, "cannot use the certificate "
                             "\"%s\": %s", ctl->tls_cert_file,
                             rbgvctl_tls_reason());
    }

    /* fails as well if it is the key of another certificate */

    if (SSL_CTX_use_PrivateKey_file(server->tls->ctx, ctl->tls_key_file,
                                    SSL_FILETYPE_PEM)
        != 1)
    {
        return rbgvctl_fault(ctl, RBGVCTL_REFUSED, "cannot use the private key "
                             "\"%s\": %s", ctl->tls_key_file,
                             rbgvctl_tls_reason());
    }

    return RBGVCTL_OK;
}


static int
rbgvctl_tls_connection(rbgvctl_t *ctl, rbgvctl_server_t *server)
{
    const char     *name;
    rbgvctl_tls_t  *tls;

    tls = server->tls;
    name = ctl->tls_server_name ? ctl->tls_server_name
                                : ctl->uri.hosts[0].name;

    tls->ssl = SSL_new(tls->ctx);
    tls->bio = BIO_new(BIO_f_ssl());
    tls->out = BIO_new(BIO_f_buffer());

    if (tls->ssl == NULL || tls->bio == NULL || tls->out == NULL
        || SSL_set_fd(tls->ssl, server->redis->fd) != 1
        || rbgvctl_tls_name(tls->ssl, name) != 1)
    {
        return rbgvctl_fault(ctl, RBGVCTL_REFUSED, "cannot begin TLS for "
                             "\"%s\": %s", name, rbgvctl_tls_reason());
    }

    (void) BIO_set_ssl(tls->bio, tls->ssl, BIO_NOCLOSE);
    (void) BIO_push(tls->out, tls->bio);

    return rbgvctl_tls_handshake(ctl, server, name);
}


/* the one to be verified; told to the server unless it is an address */

static int
rbgvctl_tls_name(SSL *ssl, const char *name)
{
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1) {
        return 1;
    }

    return SSL_set1_host(ssl, name) == 1
           && SSL_set_tlsext_host_name(ssl, name) == 1;
}


static int
rbgvctl_tls_handshake(rbgvctl_t *ctl, rbgvctl_server_t *server,
    const char *name)
{
    int   n, err;
    long  verify;

    ERR_clear_error();
    errno = 0;

    n = SSL_connect(server->tls->ssl);
    if (n == 1) {
        return RBGVCTL_OK;
    }

    err = SSL_get_error(server->tls->ssl, n);

    /* SO_RCVTIMEO and SO_SNDTIMEO are set */

    if (err == SSL_ERROR_WANT_READ || err == SSL_ERROR_WANT_WRITE) {
        return rbgvctl_fault(ctl, RBGVCTL_STORE, "%s did not shake "
                             "hands within %d seconds; check that its port is "
                             "one for TLS", server->name, (int) ctl->seconds);
    }

    verify = SSL_get_verify_result(server->tls->ssl);

    if (!ctl->tls_insecure && verify != X509_V_OK) {
        return rbgvctl_fault(ctl, RBGVCTL_STORE, "the certificate of %s "
                             "for \"%s\" was refused: %s; check "
                             "--tls-ca-file, and the host in --redis or "
                             "--tls-server-name", server->name, name,
                             X509_verify_cert_error_string(verify));
    }

    return rbgvctl_fault(ctl, RBGVCTL_STORE, "no TLS with %s: %s; "
                         "check that its port is one for TLS", server->name,
                         rbgvctl_tls_reason());
}


void
rbgvctl_tls_send(rbgvctl_server_t *server, const char *command,
    size_t len)
{
    if (server->redis->err == 0
        && BIO_write(server->tls->out, command, len) != (int) len)
    {
        (void) rbgvctl_tls_lost(server, rbgvctl_tls_reason());
    }
}


void
rbgvctl_tls_flush(rbgvctl_server_t *server)
{
    (void) BIO_flush(server->tls->out);
}


int
rbgvctl_tls_reply(rbgvctl_server_t *server, void **reply)
{
    int           n;
    char          buf[16384];
    redisReader  *reader;

    reader = server->redis->reader;

    while (server->redis->err == 0) {

        if (redisReaderGetReply(reader, reply) != REDIS_OK) {
            return rbgvctl_tls_lost(server, reader->errstr);
        }

        if (*reply != NULL) {
            return REDIS_OK;
        }

        /* a server that has closed the connection may have said why */

        (void) BIO_flush(server->tls->out);

        ERR_clear_error();
        errno = 0;

        n = BIO_read(server->tls->bio, buf, sizeof(buf));

        if (n <= 0) {
            return rbgvctl_tls_lost(server, rbgvctl_tls_reason());
        }

        if (redisReaderFeed(reader, buf, n) != REDIS_OK) {
            return rbgvctl_tls_lost(server, reader->errstr);
        }
    }

    return REDIS_ERR;
}


/* leaves the error where hiredis leaves its own */

static int
rbgvctl_tls_lost(rbgvctl_server_t *server, const char *text)
{
    redisContext  *redis;

    redis = server->redis;

    if (BIO_should_retry(server->tls->bio)) {
        redis->err = REDIS_ERR_IO;
        errno = EAGAIN;

    } else {
        redis->err = REDIS_ERR_OTHER;
    }

    (void) snprintf(redis->errstr, sizeof(redis->errstr), "%s", text);

    return REDIS_ERR;
}


static const char *
rbgvctl_tls_reason(void)
{
    const char     *text;
    unsigned long   err;

    err = ERR_peek_error();

    if (err == 0) {
        return errno ? strerror(errno) : "the connection was closed";
    }

    text = ERR_SYSTEM_ERROR(err) ? strerror(ERR_GET_REASON(err))
                                 : ERR_reason_error_string(err);

    return text ? text : "unknown error";
}
