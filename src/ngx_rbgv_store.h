
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * The store as a worker sees it: commands go to the server that has their
 * key.  It knows nothing of HTTP.
 */


#ifndef _NGX_RBGV_STORE_H_INCLUDED_
#define _NGX_RBGV_STORE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_rbgv_redis.h"


typedef struct ngx_rbgv_store_s  ngx_rbgv_store_t;


/* of a store whose servers may change */

typedef struct {
    /* they are asked now if it is still they */
    void                      (*asked)(void *data);

    /* it was, when they were asked last */
    void                      (*confirmed)(void *data);

    /* it is others */
    void                      (*changed)(void *data);
} ngx_rbgv_store_events_t;


ngx_rbgv_store_t *ngx_rbgv_store_create(ngx_rbgv_redis_conf_t *conf,
    ngx_log_t *log);

/* as of the Redis client */
void ngx_rbgv_store_watch(ngx_rbgv_store_t *store,
    const ngx_rbgv_redis_events_t *events, void *data);

/* returns 0, and only tells of changes, if there is one server at a time */
ngx_uint_t ngx_rbgv_store_follow(ngx_rbgv_store_t *store,
    const ngx_rbgv_store_events_t *events, void *data);

/* of those that have keys; NULL: there are not so many */
ngx_rbgv_redis_conf_t *ngx_rbgv_store_server(ngx_rbgv_store_t *store,
    ngx_uint_t n);

/* 0: other servers may have the keys, and what is read now is not to be kept */
ngx_uint_t ngx_rbgv_store_steady(ngx_rbgv_store_t *store);

/* as ngx_rbgv_redis_is_transient(), also of what a cluster says */
ngx_uint_t ngx_rbgv_store_is_transient(ngx_rbgv_store_t *store,
    ngx_rbgv_redis_reply_t *reply);

/* connects without a command; NGX_DECLINED: not now */
ngx_int_t ngx_rbgv_store_open(ngx_rbgv_store_t *store);

/* 1 if a login was refused for a reason that does not pass */
ngx_uint_t ngx_rbgv_store_refused(ngx_rbgv_store_t *store);

/* as ngx_rbgv_redis_command(); argv[key] is the key of the command */
ngx_int_t ngx_rbgv_store_command(ngx_rbgv_store_t *store, ngx_uint_t key,
    ngx_msec_t deadline, ngx_rbgv_redis_handler_pt handler, void *data,
    ngx_uint_t argc, const char **argv, const size_t *argvlen);


/*
 * For the handler of a command, about the server whose reply it has: its
 * name; to load its scripts again; and to drop its connection, for a reply
 * that the command cannot have.
 */

ngx_str_t *ngx_rbgv_store_name(ngx_rbgv_store_t *store);
ngx_int_t ngx_rbgv_store_load_scripts(ngx_rbgv_store_t *store,
    ngx_msec_t deadline);
void ngx_rbgv_store_fail(ngx_rbgv_store_t *store,
    ngx_rbgv_redis_failure_e failure);

/* into memory of that pool */
ngx_int_t ngx_rbgv_store_copy_addr(ngx_pool_t *pool, ngx_addr_t *dst,
    ngx_addr_t *src);

/* calls the handlers of what is pending, without a reply */
void ngx_rbgv_store_destroy(ngx_rbgv_store_t *store);


#endif /* _NGX_RBGV_STORE_H_INCLUDED_ */
