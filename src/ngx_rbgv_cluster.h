
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * A client of a Redis Cluster for one nginx worker: a Redis client for each
 * master, the map of slots, and what becomes of commands whose slot has moved.
 * It is used through the store.
 */


#ifndef _NGX_RBGV_CLUSTER_H_INCLUDED_
#define _NGX_RBGV_CLUSTER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_rbgv_redis.h"
#include "ngx_rbgv_store.h"


typedef struct ngx_rbgv_cluster_s  ngx_rbgv_cluster_t;


/*
 * The addresses of the configuration are those of any nodes.  Until the map
 * is there commands wait for it.  While it is in use all masters are asked
 * each 250 ms if they agree on it.
 */

ngx_rbgv_cluster_t *ngx_rbgv_cluster_create(ngx_rbgv_redis_conf_t *conf,
    ngx_log_t *log);
void ngx_rbgv_cluster_destroy(ngx_rbgv_cluster_t *cluster);

void ngx_rbgv_cluster_watch(ngx_rbgv_cluster_t *cluster,
    const ngx_rbgv_redis_events_t *events, void *data);
void ngx_rbgv_cluster_follow(ngx_rbgv_cluster_t *cluster,
    const ngx_rbgv_store_events_t *events, void *data);

ngx_int_t ngx_rbgv_cluster_open(ngx_rbgv_cluster_t *cluster);
ngx_uint_t ngx_rbgv_cluster_refused(ngx_rbgv_cluster_t *cluster);

/* 1 if all masters have agreed when they were asked last */
ngx_uint_t ngx_rbgv_cluster_steady(ngx_rbgv_cluster_t *cluster);

/* of a master, NULL if there are not so many; as long as it is a master */
ngx_rbgv_redis_conf_t *ngx_rbgv_cluster_server(ngx_rbgv_cluster_t *cluster,
    ngx_uint_t n);

/* arguments are copied once more, for another server */
ngx_int_t ngx_rbgv_cluster_command(ngx_rbgv_cluster_t *cluster,
    ngx_uint_t key, ngx_msec_t deadline, ngx_rbgv_redis_handler_pt handler,
    void *data, ngx_uint_t argc, const char **argv, const size_t *argvlen);

/* the master whose reply is being handled; NULL: none is */
ngx_rbgv_redis_t *ngx_rbgv_cluster_current(ngx_rbgv_cluster_t *cluster);
ngx_str_t *ngx_rbgv_cluster_name(ngx_rbgv_cluster_t *cluster);


#endif /* _NGX_RBGV_CLUSTER_H_INCLUDED_ */
