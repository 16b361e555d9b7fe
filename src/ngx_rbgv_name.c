
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_rbgv_name.h"


#define NGX_RBGV_NAME_RETRY  1000            /* milliseconds */


struct ngx_rbgv_name_s {
    ngx_rbgv_name_conf_t       *conf;
    ngx_rbgv_name_handler_pt    handler;
    void                       *data;

    ngx_uint_t                  ident;       /* where a timer's data has fd */

    ngx_log_t                  *log;
    ngx_event_t                 timer;
    ngx_resolver_ctx_t         *ctx;         /* of what is under way */

    unsigned                    failed:1;    /* and the log says so */
};


static void ngx_rbgv_name_tick(ngx_event_t *ev);
static void ngx_rbgv_name_answer(ngx_resolver_ctx_t *ctx);
static void ngx_rbgv_name_failed(ngx_rbgv_name_t *name, const char *why);
static ngx_int_t ngx_rbgv_name_tell(ngx_rbgv_name_t *name,
    ngx_resolver_ctx_t *ctx);
static ngx_int_t ngx_rbgv_name_addr(ngx_pool_t *pool, ngx_addr_t *dst,
    ngx_resolver_addr_t *src, in_port_t port);


ngx_rbgv_name_t *
ngx_rbgv_name_create(ngx_rbgv_name_conf_t *conf,
    ngx_rbgv_name_handler_pt handler, void *data, ngx_log_t *log)
{
    ngx_rbgv_name_t  *name;

    name = ngx_calloc(sizeof(ngx_rbgv_name_t), log);
    if (name == NULL) {
        return NULL;
    }

    name->conf = conf;
    name->handler = handler;
    name->data = data;
    name->ident = (ngx_uint_t) -1;
    name->log = log;

    name->timer.handler = ngx_rbgv_name_tick;
    name->timer.data = name;
    name->timer.log = log;
    name->timer.cancelable = 1;

    ngx_rbgv_name_resolve(name);

    return name;
}


/* never at once: the caller may be in the middle of what has failed */

void
ngx_rbgv_name_resolve(ngx_rbgv_name_t *name)
{
    if (name->ctx == NULL) {
        ngx_add_timer(&name->timer, 1);
    }
}


void
ngx_rbgv_name_destroy(ngx_rbgv_name_t *name)
{
    if (name->timer.timer_set) {
        ngx_del_timer(&name->timer);
    }

    if (name->ctx) {
        ngx_resolve_name_done(name->ctx);
    }

    ngx_free(name);
}


static void
ngx_rbgv_name_tick(ngx_event_t *ev)
{
    ngx_rbgv_name_t *name = ev->data;

    ngx_resolver_ctx_t  *ctx;

    if (name->ctx || ngx_exiting) {
        return;
    }

    ctx = ngx_resolve_start(name->conf->resolver, NULL);

    if (ctx == NULL || ctx == NGX_NO_RESOLVER) {
        ngx_rbgv_name_failed(name, "no memory");
        return;
    }

    ctx->name = name->conf->host;
    ctx->handler = ngx_rbgv_name_answer;
    ctx->data = name;
    ctx->timeout = name->conf->timeout;
    ctx->cancelable = 1;

    name->ctx = ctx;

    /* the handler may have been called when this returns */

    if (ngx_resolve_name(ctx) != NGX_OK) {
        name->ctx = NULL;
        ngx_rbgv_name_failed(name, "the resolver failed");
    }
}


static void
ngx_rbgv_name_answer(ngx_resolver_ctx_t *ctx)
{
    time_t            now;
    ngx_msec_t        delay;
    ngx_rbgv_name_t  *name;

    name = ctx->data;

    if (ctx->state) {
        ngx_rbgv_name_failed(name, ngx_resolver_strerror(ctx->state));

    } else if (ngx_rbgv_name_tell(name, ctx) != NGX_OK) {
        ngx_rbgv_name_failed(name, "no memory");

    } else {
        if (name->failed) {
            ngx_log_error(NGX_LOG_NOTICE, name->log, 0,
                          "rbgv_auth: \"%V\" is resolved again",
                          &name->conf->host);
            name->failed = 0;
        }

        now = ngx_time();
        delay = (ctx->valid > now) ? (ngx_msec_t) (ctx->valid - now) * 1000
                                   : NGX_RBGV_NAME_RETRY;

        ngx_add_timer(&name->timer, delay);
    }

    name->ctx = NULL;

    ngx_resolve_name_done(ctx);
}


static void
ngx_rbgv_name_failed(ngx_rbgv_name_t *name, const char *why)
{
    if (!name->failed) {
        ngx_log_error(NGX_LOG_ERR, name->log, 0,
                      "rbgv_auth: \"%V\" could not be resolved: %s, its last "
                      "addresses stay in use", &name->conf->host, why);
        name->failed = 1;
    }

    ngx_add_timer(&name->timer, NGX_RBGV_NAME_RETRY);
}


static ngx_int_t
ngx_rbgv_name_tell(ngx_rbgv_name_t *name, ngx_resolver_ctx_t *ctx)
{
    ngx_int_t    rc;
    ngx_uint_t   i;
    ngx_addr_t  *addrs;
    ngx_pool_t  *pool;

    pool = ngx_create_pool(1024, name->log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    addrs = ngx_palloc(pool, ctx->naddrs * sizeof(ngx_addr_t));
    rc = addrs ? NGX_OK : NGX_ERROR;

    for (i = 0; rc == NGX_OK && i < ctx->naddrs; i++) {
        rc = ngx_rbgv_name_addr(pool, &addrs[i], &ctx->addrs[i],
                                name->conf->port);
    }

    if (rc == NGX_OK) {
        name->handler(name->data, addrs, ctx->naddrs);
    }

    ngx_destroy_pool(pool);

    return rc;
}


static ngx_int_t
ngx_rbgv_name_addr(ngx_pool_t *pool, ngx_addr_t *dst,
    ngx_resolver_addr_t *src, in_port_t port)
{
    dst->socklen = src->socklen;
    dst->sockaddr = ngx_palloc(pool, src->socklen);
    dst->name.data = ngx_pnalloc(pool, NGX_SOCKADDR_STRLEN);

    if (dst->sockaddr == NULL || dst->name.data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(dst->sockaddr, src->sockaddr, src->socklen);
    ngx_inet_set_port(dst->sockaddr, port);

    dst->name.len = ngx_sock_ntop(dst->sockaddr, dst->socklen,
                                  dst->name.data, NGX_SOCKADDR_STRLEN, 1);

    return NGX_OK;
}
