
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_rbgv_store.h"


struct ngx_rbgv_store_s {
    ngx_rbgv_redis_conf_t      *conf;
    ngx_rbgv_redis_t           *redis;
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

    store->redis = ngx_rbgv_redis_create(conf, log);
    if (store->redis == NULL) {
        ngx_free(store);
        return NULL;
    }

    return store;
}


void
ngx_rbgv_store_watch(ngx_rbgv_store_t *store,
    const ngx_rbgv_redis_events_t *events, void *data)
{
    ngx_rbgv_redis_watch(store->redis, events, data);
}


ngx_int_t
ngx_rbgv_store_open(ngx_rbgv_store_t *store)
{
    return ngx_rbgv_redis_open(store->redis);
}


ngx_uint_t
ngx_rbgv_store_refused(ngx_rbgv_store_t *store)
{
    return ngx_rbgv_redis_refused(store->redis);
}


ngx_int_t
ngx_rbgv_store_command(ngx_rbgv_store_t *store, ngx_uint_t key,
    ngx_msec_t deadline, ngx_rbgv_redis_handler_pt handler, void *data,
    ngx_uint_t argc, const char **argv, const size_t *argvlen)
{
    return ngx_rbgv_redis_command(store->redis, deadline, handler, data, argc,
                                  argv, argvlen);
}


ngx_str_t *
ngx_rbgv_store_name(ngx_rbgv_store_t *store)
{
    return &store->conf->name;
}


ngx_int_t
ngx_rbgv_store_load_scripts(ngx_rbgv_store_t *store, ngx_msec_t deadline)
{
    return ngx_rbgv_redis_load_scripts(store->redis, deadline);
}


void
ngx_rbgv_store_fail(ngx_rbgv_store_t *store, ngx_rbgv_redis_failure_e failure)
{
    ngx_rbgv_redis_fail(store->redis, failure);
}


void
ngx_rbgv_store_destroy(ngx_rbgv_store_t *store)
{
    ngx_rbgv_redis_destroy(store->redis);
    ngx_free(store);
}
