
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_rbgv_cluster.h"
#include "ngx_rbgv_store.h"


/* one server, or a cluster */

struct ngx_rbgv_store_s {
    ngx_rbgv_redis_conf_t      *conf;
    ngx_rbgv_redis_t           *redis;
    ngx_rbgv_cluster_t         *cluster;
};


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

    return store;
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
        return 0;
    }

    ngx_rbgv_cluster_follow(store->cluster, events, data);

    return 1;
}


ngx_rbgv_redis_conf_t *
ngx_rbgv_store_server(ngx_rbgv_store_t *store, ngx_uint_t n)
{
    if (store->redis) {
        return n ? NULL : store->conf;
    }

    return ngx_rbgv_cluster_server(store->cluster, n);
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
    if (store->redis) {
        ngx_rbgv_redis_destroy(store->redis);

    } else {
        ngx_rbgv_cluster_destroy(store->cluster);
    }

    ngx_free(store);
}
