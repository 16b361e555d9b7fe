
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * TLS for the Redis client, by nginx's own functions.  The whole file is
 * about an nginx that has them.
 */


#ifndef _NGX_RBGV_REDIS_SSL_H_INCLUDED_
#define _NGX_RBGV_REDIS_SSL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_rbgv_redis.h"


#if (NGX_SSL)


/* settings, named as those of proxy_ssl_*; and the context made of them */

struct ngx_rbgv_redis_ssl_s {
    ngx_flag_t                  verify;
    ngx_uint_t                  verify_depth;
    ngx_str_t                   trusted_certificate; /* empty: the system's */
    ngx_str_t                   crl;
    ngx_str_t                   name;            /* zero-terminated */
    ngx_flag_t                  server_name;
    ngx_str_t                   certificate;
    ngx_str_t                   certificate_key;
    ngx_array_t                *passwords;
    ngx_uint_t                  protocols;
    ngx_str_t                   ciphers;
    ngx_array_t                *conf_commands;
    ngx_flag_t                  session_reuse;

    ngx_ssl_t                   ssl;
};


/* the context goes with the pool of the configuration */
ngx_int_t ngx_rbgv_redis_ssl_create(ngx_conf_t *cf,
    ngx_rbgv_redis_ssl_t *conf);

/* 1 if contexts would be the same; either may be NULL */
ngx_uint_t ngx_rbgv_redis_ssl_same(ngx_rbgv_redis_ssl_t *a,
    ngx_rbgv_redis_ssl_t *b);

/* before the handshake; the connection has a pool */
ngx_int_t ngx_rbgv_redis_ssl_init(ngx_rbgv_redis_ssl_t *conf,
    ngx_connection_t *c, ngx_ssl_session_t *session);

/* after it: says what is wrong with the other side */
ngx_int_t ngx_rbgv_redis_ssl_verify(ngx_rbgv_redis_ssl_t *conf,
    ngx_connection_t *c);


#endif /* NGX_SSL */


#endif /* _NGX_RBGV_REDIS_SSL_H_INCLUDED_ */
