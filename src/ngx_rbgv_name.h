
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * The name of a host, resolved again and again by nginx's resolver, in a
 * worker.  It knows nothing of HTTP.
 */


#ifndef _NGX_RBGV_NAME_H_INCLUDED_
#define _NGX_RBGV_NAME_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_rbgv_redis.h"


typedef struct ngx_rbgv_name_s  ngx_rbgv_name_t;


struct ngx_rbgv_name_conf_s {
    ngx_str_t                   host;
    in_port_t                   port;
    ngx_resolver_t             *resolver;
    ngx_msec_t                  timeout;
};


/* one address at least; they are the caller's during the call only */
typedef void (*ngx_rbgv_name_handler_pt)(void *data, ngx_addr_t *addrs,
    ngx_uint_t naddrs);


/*
 * Resolves the name at once, and whenever an answer has become too old.  The
 * handler is called with each answer; none is none.
 */
ngx_rbgv_name_t *ngx_rbgv_name_create(ngx_rbgv_name_conf_t *conf,
    ngx_rbgv_name_handler_pt handler, void *data, ngx_log_t *log);

/* resolves it now: nothing was found at the addresses that it had */
void ngx_rbgv_name_resolve(ngx_rbgv_name_t *name);

void ngx_rbgv_name_destroy(ngx_rbgv_name_t *name);


#endif /* _NGX_RBGV_NAME_H_INCLUDED_ */
