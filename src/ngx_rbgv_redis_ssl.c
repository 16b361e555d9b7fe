
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_rbgv_redis_ssl.h"


#if (NGX_SSL)


static ngx_int_t ngx_rbgv_redis_ssl_certificate(ngx_conf_t *cf,
    ngx_rbgv_redis_ssl_t *conf);
static ngx_int_t ngx_rbgv_redis_ssl_trust(ngx_conf_t *cf,
    ngx_rbgv_redis_ssl_t *conf);
static ngx_uint_t ngx_rbgv_redis_ssl_is_addr(ngx_str_t *name);
static ngx_uint_t ngx_rbgv_redis_ssl_same_str(ngx_str_t *a, ngx_str_t *b);


ngx_int_t
ngx_rbgv_redis_ssl_create(ngx_conf_t *cf, ngx_rbgv_redis_ssl_t *conf)
{
    ngx_ssl_t           *ssl;
    ngx_pool_cleanup_t  *cln;

    ssl = &conf->ssl;
    ssl->log = cf->log;

    if (ngx_ssl_create(ssl, conf->protocols, NULL) != NGX_OK) {
        return NGX_ERROR;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        ngx_ssl_cleanup_ctx(ssl);
        return NGX_ERROR;
    }

    cln->handler = ngx_ssl_cleanup_ctx;
    cln->data = ssl;

    /* the output buffer may grow between two attempts to send */
    SSL_CTX_set_mode(ssl->ctx, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);

    SSL_CTX_set_options(ssl->ctx, SSL_OP_NO_RENEGOTIATION);

    if (ngx_ssl_ciphers(cf, ssl, &conf->ciphers, 0) != NGX_OK
        || ngx_rbgv_redis_ssl_certificate(cf, conf) != NGX_OK
        || ngx_rbgv_redis_ssl_trust(cf, conf) != NGX_OK
        || ngx_ssl_client_session_cache(cf, ssl, conf->session_reuse)
           != NGX_OK
        || ngx_ssl_conf_commands(cf, ssl, conf->conf_commands) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* names of files are made full in copies: settings are compared as given */

static ngx_int_t
ngx_rbgv_redis_ssl_certificate(ngx_conf_t *cf, ngx_rbgv_redis_ssl_t *conf)
{
    ngx_str_t  cert, key;

    cert = conf->certificate;
    key = conf->certificate_key;

    if (cert.len == 0) {
        return NGX_OK;
    }

    if (key.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no \"rbgv_auth_redis_ssl_certificate_key\" is "
                           "defined for certificate \"%V\"", &cert);
        return NGX_ERROR;
    }

    return ngx_ssl_certificate(cf, &conf->ssl, &cert, &key, conf->passwords);
}


static ngx_int_t
ngx_rbgv_redis_ssl_trust(ngx_conf_t *cf, ngx_rbgv_redis_ssl_t *conf)
{
    SSL_CTX            *ctx;
    ngx_str_t           cert, crl;
    X509_VERIFY_PARAM  *param;

    if (!conf->verify) {
        return NGX_OK;
    }

    ctx = conf->ssl.ctx;
    cert = conf->trusted_certificate;
    crl = conf->crl;

    if (ngx_ssl_trusted_certificate(cf, &conf->ssl, &cert,
                                    conf->verify_depth)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (cert.len == 0 && SSL_CTX_set_default_verify_paths(ctx) == 0) {
        ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0,
                      "SSL_CTX_set_default_verify_paths() failed");
        return NGX_ERROR;
    }

    if (ngx_ssl_crl(cf, &conf->ssl, &crl) != NGX_OK) {
        return NGX_ERROR;
    }

    /* the name is a part of SSL_get_verify_result() then */

    param = SSL_CTX_get0_param(ctx);

    if (ngx_rbgv_redis_ssl_is_addr(&conf->name)
        ? X509_VERIFY_PARAM_set1_ip_asc(param, (char *) conf->name.data) == 0
        : X509_VERIFY_PARAM_set1_host(param, (char *) conf->name.data,
                                      conf->name.len)
          == 0)
    {
        ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0,
                      "invalid name \"%V\" of the server of "
                      "\"rbgv_auth_redis\"", &conf->name);
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_uint_t
ngx_rbgv_redis_ssl_same(ngx_rbgv_redis_ssl_t *a, ngx_rbgv_redis_ssl_t *b)
{
    if (a == NULL || b == NULL) {
        return a == b;
    }

    return a->verify == b->verify
           && a->verify_depth == b->verify_depth
           && ngx_rbgv_redis_ssl_same_str(&a->trusted_certificate,
                                          &b->trusted_certificate)
           && ngx_rbgv_redis_ssl_same_str(&a->crl, &b->crl)
           && ngx_rbgv_redis_ssl_same_str(&a->name, &b->name)
           && a->server_name == b->server_name
           && ngx_rbgv_redis_ssl_same_str(&a->certificate, &b->certificate)
           && ngx_rbgv_redis_ssl_same_str(&a->certificate_key,
                                          &b->certificate_key)
           && a->passwords == b->passwords
           && a->protocols == b->protocols
           && ngx_rbgv_redis_ssl_same_str(&a->ciphers, &b->ciphers)
           && a->conf_commands == b->conf_commands
           && a->session_reuse == b->session_reuse;
}


ngx_int_t
ngx_rbgv_redis_ssl_init(ngx_rbgv_redis_ssl_t *conf, ngx_connection_t *c,
    ngx_ssl_session_t *session)
{
    if (ngx_ssl_create_connection(&conf->ssl, c, NGX_SSL_CLIENT) != NGX_OK) {
        return NGX_ERROR;
    }

    /* addresses are not permitted, RFC 6066, section 3 */

    if (conf->server_name
        && !ngx_rbgv_redis_ssl_is_addr(&conf->name)
        && SSL_set_tlsext_host_name(c->ssl->connection,
                                    (char *) conf->name.data)
           == 0)
    {
        ngx_ssl_error(NGX_LOG_ERR, c->log, 0,
                      "SSL_set_tlsext_host_name(\"%V\") failed", &conf->name);
        return NGX_ERROR;
    }

    return ngx_ssl_set_session(c, session);
}


ngx_int_t
ngx_rbgv_redis_ssl_verify(ngx_rbgv_redis_ssl_t *conf, ngx_connection_t *c)
{
    long  rc;

    if (!conf->verify) {
        return NGX_OK;
    }

    if (SSL_get0_peer_certificate(c->ssl->connection) == NULL) {
        ngx_log_error(NGX_LOG_ERR, c->log, 0, "the server has no certificate");
        return NGX_ERROR;
    }

    rc = SSL_get_verify_result(c->ssl->connection);

    if (rc != X509_V_OK) {
        ngx_log_error(NGX_LOG_ERR, c->log, 0,
                      "certificate for \"%V\" was refused: \"%s\"",
                      &conf->name, X509_verify_cert_error_string(rc));
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_rbgv_redis_ssl_is_addr(ngx_str_t *name)
{
#if (NGX_HAVE_INET6)
    u_char  addr[16];

    if (ngx_inet6_addr(name->data, name->len, addr) == NGX_OK) {
        return 1;
    }
#endif

    return ngx_inet_addr(name->data, name->len) != INADDR_NONE;
}


static ngx_uint_t
ngx_rbgv_redis_ssl_same_str(ngx_str_t *a, ngx_str_t *b)
{
    return a->len == b->len && ngx_memcmp(a->data, b->data, a->len) == 0;
}


#endif /* NGX_SSL */
