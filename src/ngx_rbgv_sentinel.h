
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * What the Sentinels say about where a master is, in a worker.  It knows
 * nothing of HTTP.
 */


#ifndef _NGX_RBGV_SENTINEL_H_INCLUDED_
#define _NGX_RBGV_SENTINEL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_rbgv_name.h"
#include "ngx_rbgv_redis.h"


typedef struct ngx_rbgv_sentinel_s  ngx_rbgv_sentinel_t;


struct ngx_rbgv_sentinel_conf_s {
    ngx_str_t                   master;
    ngx_rbgv_redis_conf_t       redis;       /* of all Sentinels together */
};


/*
 * Asks one Sentinel, as long as it answers, when it begins, each second, and
 * whenever that Sentinel tells of a switch.  The handler is called when the
 * master is another one than the last time.
 */
ngx_rbgv_sentinel_t *ngx_rbgv_sentinel_create(
    ngx_rbgv_sentinel_conf_t *conf, ngx_rbgv_name_handler_pt handler,
    void *data, ngx_log_t *log);

/* asks now: the master could not be reached */
void ngx_rbgv_sentinel_ask(ngx_rbgv_sentinel_t *sentinel);

void ngx_rbgv_sentinel_destroy(ngx_rbgv_sentinel_t *sentinel);


#endif /* _NGX_RBGV_SENTINEL_H_INCLUDED_ */
