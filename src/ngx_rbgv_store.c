
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_rbgv_cluster.h"
#include "ngx_rbgv_name.h"
#include "ngx_rbgv_sentinel.h"
#include "ngx_rbgv_store.h"


/* one server, where it is told to be at last */

typedef struct {
    ngx_pool_t                 *pool;
    ngx_rbgv_redis_conf_t       conf;
} ngx_rbgv_store_server_t;


/* one server, or a cluster */

struct ngx_rbgv_store_s {
    ngx_rbgv_redis_conf_t      *conf;
    ngx_rbgv_redis_t           *redis;
    ngx_rbgv_cluster_t         *cluster;

    /* who tells of the one server, if it is not always in one place */

    ngx_rbgv_name_t            *name;
    ngx_rbgv_sentinel_t        *sentinel;
    ngx_rbgv_store_server_t    *server;      /* NULL: nobody did yet */

    ngx_rbgv_store_events_t     events;
    void                       *data;        /* of the events */
};


static ngx_int_t ngx_rbgv_store_find(ngx_rbgv_store_t *store,
    ngx_log_t *log);
static void ngx_rbgv_store_locate(void *data);
static void ngx_rbgv_store_move(void *data, ngx_addr_t *addrs,
    ngx_uint_t naddrs);
static ngx_rbgv_store_server_t *ngx_rbgv_store_create_server(
    ngx_rbgv_store_t *store, ngx_addr_t *addrs, ngx_uint_t naddrs);


ngx_rbgv_store_t *
ngx_rbgv_store_create(ngx_rbgv_redis_conf_t *conf, ngx_log_t *log)
{
    ngx_rbgv_store_t  *store;

    store = ngx_calloc(sizeof(ngx_rbgv_store_t), log);
    if (store == NULL) {
        return NULL;
    }

    store->conf = conf;

    if (conf->cluster) {
        store->cluster = ngx_rbgv_cluster_create(conf, log);

    } else {
        store->redis = ngx_rbgv_redis_create(conf, log);
    }

    if (store->redis == NULL && store->cluster == NULL) {
        ngx_free(store);
        return NULL;
    }

    if (ngx_rbgv_store_find(store, log) != NGX_OK) {
        ngx_rbgv_store_destroy(store);
        return NULL;
    }

    return store;
}


static ngx_int_t
ngx_rbgv_store_find(ngx_rbgv_store_t *store, ngx_log_t *log)
{
    ngx_rbgv_redis_conf_t  *conf;

    conf = store->conf;

    if (conf->sentinel) {
        store->sentinel = ngx_rbgv_sentinel_create(conf->sentinel,
                                            ngx_rbgv_store_move, store, log);
        if (store->sentinel == NULL) {
            return NGX_ERROR;
        }

    } else if (conf->host) {
        store->name = ngx_rbgv_name_create(conf->host, ngx_rbgv_store_move,
                                           store, log);
        if (store->name == NULL) {
            return NGX_ERROR;
        }

    } else {
        return NGX_OK;
    }

    ngx_rbgv_redis_locate(store->redis, ngx_rbgv_store_locate, store);

    return NGX_OK;
}


static void
ngx_rbgv_store_locate(void *data)
{
    ngx_rbgv_store_t *store = data;

    if (store->sentinel) {
        ngx_rbgv_sentinel_ask(store->sentinel);

    } else {
        ngx_rbgv_name_resolve(store->name);
    }
}


static void
ngx_rbgv_store_move(void *data, ngx_addr_t *addrs, ngx_uint_t naddrs)
{
    ngx_rbgv_store_t *store = data;

    ngx_rbgv_store_server_t  *server, *old;

    server = ngx_rbgv_store_create_server(store, addrs, naddrs);
    if (server == NULL) {
        return;
    }

    if (!ngx_rbgv_redis_move(store->redis, server->conf.addrs, naddrs)) {
        ngx_destroy_pool(server->pool);
        return;
    }

    old = store->server;
    store->server = server;

    if (store->events.changed) {
        store->events.changed(store->data);
    }

    if (old) {
        ngx_destroy_pool(old->pool);
    }
}


static ngx_rbgv_store_server_t *
ngx_rbgv_store_create_server(ngx_rbgv_store_t *store, ngx_addr_t *addrs,
    ngx_uint_t naddrs)
{
    ngx_uint_t                i;
    ngx_pool_t               *pool;
    ngx_rbgv_store_server_t  *server;

    pool = ngx_create_pool(1024, ngx_cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    server = ngx_palloc(pool, sizeof(ngx_rbgv_store_server_t));
    if (server == NULL) {
        goto failed;
    }

    server->pool = pool;
    server->conf = *store->conf;
    server->conf.naddrs = naddrs;

    server->conf.addrs = ngx_palloc(pool, naddrs * sizeof(ngx_addr_t));
    if (server->conf.addrs == NULL) {
        goto failed;
    }

    for (i = 0; i < naddrs; i++) {
        if (ngx_rbgv_store_copy_addr(pool, &server->conf.addrs[i], &addrs[i])
            != NGX_OK)
        {
            goto failed;
        }
    }

    return server;

failed:

    ngx_destroy_pool(pool);

    return NULL;
}


ngx_int_t
ngx_rbgv_store_copy_addr(ngx_pool_t *pool, ngx_addr_t *dst, ngx_addr_t *src)
{
    *dst = *src;

    dst->sockaddr = ngx_palloc(pool, src->socklen);
    dst->name.data = ngx_pstrdup(pool, &src->name);

    if (dst->sockaddr == NULL || dst->name.data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(dst->sockaddr, src->sockaddr, src->socklen);

    return NGX_OK;
}


void
ngx_rbgv_store_watch(ngx_rbgv_store_t *store,
    const ngx_rbgv_redis_events_t *events, void *data)
{
    if (store->redis) {
        ngx_rbgv_redis_watch(store->redis, events, data);
        return;
    }

    ngx_rbgv_cluster_watch(store->cluster, events, data);
}


ngx_uint_t
ngx_rbgv_store_follow(ngx_rbgv_store_t *store,
    const ngx_rbgv_store_events_t *events, void *data)
{
    if (store->redis) {
        store->events = *events;
        store->data = data;
        return 0;
    }

    ngx_rbgv_cluster_follow(store->cluster, events, data);

    return 1;
}


ngx_rbgv_redis_conf_t *
ngx_rbgv_store_server(ngx_rbgv_store_t *store, ngx_uint_t n)
{
    if (store->cluster) {
        return ngx_rbgv_cluster_server(store->cluster, n);
    }

    if (n) {
        return NULL;
    }

    if (store->server) {
        return &store->server->conf;
    }

    return store->conf->naddrs ? store->conf : NULL;
}


ngx_uint_t
ngx_rbgv_store_steady(ngx_rbgv_store_t *store)
{
    return store->redis || ngx_rbgv_cluster_steady(store->cluster);
}


ngx_uint_t
ngx_rbgv_store_is_transient(ngx_rbgv_store_t *store,
    ngx_rbgv_redis_reply_t *reply)
{
    return ngx_rbgv_redis_is_transient(reply)
           || (store->cluster && (ngx_rbgv_redis_is_error(reply, "MOVED")
                                  || ngx_rbgv_redis_is_error(reply, "ASK")));
}


ngx_int_t
ngx_rbgv_store_open(ngx_rbgv_store_t *store)
{
    return store->redis ? ngx_rbgv_redis_open(store->redis)
                        : ngx_rbgv_cluster_open(store->cluster);
}


ngx_uint_t
ngx_rbgv_store_refused(ngx_rbgv_store_t *store)
{
    return store->redis ? ngx_rbgv_redis_refused(store->redis)
                        : ngx_rbgv_cluster_refused(store->cluster);
}


ngx_int_t
ngx_rbgv_store_command(ngx_rbgv_store_t *store, ngx_uint_t key,
    ngx_msec_t deadline, ngx_rbgv_redis_handler_pt handler, void *data,
    ngx_uint_t argc, const char **argv, const size_t *argvlen)
{
    if (store->redis) {
        return ngx_rbgv_redis_command(store->redis, deadline, handler, data,
                                      argc, argv, argvlen);
    }

    return ngx_rbgv_cluster_command(store->cluster, key, deadline, handler,
                                    data, argc, argv, argvlen);
}


ngx_str_t *
ngx_rbgv_store_name(ngx_rbgv_store_t *store)
{
    return store->redis ? &store->conf->name
                        : ngx_rbgv_cluster_name(store->cluster);
}


ngx_int_t
ngx_rbgv_store_load_scripts(ngx_rbgv_store_t *store, ngx_msec_t deadline)
{
    ngx_rbgv_redis_t  *redis;

    redis = store->redis ? store->redis
                         : ngx_rbgv_cluster_current(store->cluster);

    return redis ? ngx_rbgv_redis_load_scripts(redis, deadline)
                 : NGX_DECLINED;
}


void
ngx_rbgv_store_fail(ngx_rbgv_store_t *store, ngx_rbgv_redis_failure_e failure)
{
    ngx_rbgv_redis_t  *redis;

    redis = store->redis ? store->redis
                         : ngx_rbgv_cluster_current(store->cluster);

    if (redis) {
        ngx_rbgv_redis_fail(redis, failure);
    }
}


void
ngx_rbgv_store_destroy(ngx_rbgv_store_t *store)
{
    if (store->sentinel) {
        ngx_rbgv_sentinel_destroy(store->sentinel);
    }

    if (store->name) {
        ngx_rbgv_name_destroy(store->name);
    }

    if (store->redis) {
        ngx_rbgv_redis_destroy(store->redis);

    } else {
        ngx_rbgv_cluster_destroy(store->cluster);
    }

    if (store->server) {
        ngx_destroy_pool(store->server->pool);
    }

    ngx_free(store);
}
