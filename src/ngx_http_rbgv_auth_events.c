
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * "rbgv_auth_events": the last calls of a key, as a stream in Redis.  They are
 * written when the answer has been sent, and nobody waits for the reply.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_rbgv_auth.h"
#include "rbgv_schema.h"


#define NGX_HTTP_RBGV_AUTH_EVENT_KEPT    "100"   /* of a key */
#define NGX_HTTP_RBGV_AUTH_EVENT_PATH    256     /* bytes, at most */
#define NGX_HTTP_RBGV_AUTH_EVENT_METHOD  32      /* likewise */
#define NGX_HTTP_RBGV_AUTH_EVENT_ARGS    18

/* under way: the rest of the queue is for those who wait for replies */

#define NGX_HTTP_RBGV_AUTH_EVENTS_MAX    1024


typedef struct {
    const char                    *argv[NGX_HTTP_RBGV_AUTH_EVENT_ARGS];
    size_t                         argvlen[NGX_HTTP_RBGV_AUTH_EVENT_ARGS];
    ngx_uint_t                     argc;
} ngx_http_rbgv_auth_event_t;


static ngx_int_t ngx_http_rbgv_auth_send_event(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx);
static void ngx_http_rbgv_auth_event_reply(void *data,
    ngx_rbgv_redis_reply_t *reply);
static ngx_uint_t ngx_http_rbgv_auth_event_status(ngx_http_request_t *r);
static size_t ngx_http_rbgv_auth_event_path(ngx_http_request_t *r);
static void ngx_http_rbgv_auth_event_field(ngx_http_rbgv_auth_event_t *event,
    const char *name, const void *value, size_t len);
static void ngx_http_rbgv_auth_event_arg(ngx_http_rbgv_auth_event_t *event,
    const void *data, size_t len);
static void ngx_http_rbgv_auth_tally_event(
    ngx_http_rbgv_auth_worker_t *worker,
    ngx_http_rbgv_auth_event_result_e result);


ngx_int_t
ngx_http_rbgv_auth_event_handler(ngx_http_request_t *r)
{
    ngx_http_rbgv_auth_ctx_t     *ctx;
    ngx_http_rbgv_auth_worker_t  *worker;

    ctx = (r == r->main) ? ngx_http_rbgv_auth_get_ctx(r) : NULL;

    if (ctx == NULL || !ctx->conf->events || !ngx_http_rbgv_auth_good(ctx)) {
        return NGX_OK;
    }

    worker = ctx->store->worker;

    if (worker->nevents == NGX_HTTP_RBGV_AUTH_EVENTS_MAX
        || ngx_http_rbgv_auth_send_event(r, ctx) != NGX_OK)
    {
        ngx_http_rbgv_auth_tally_event(worker,
                                       NGX_HTTP_RBGV_AUTH_EVENT_LOST);
        return NGX_OK;
    }

    worker->nevents++;

    return NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_send_event(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx)
{
    u_char                           name[NGX_HTTP_RBGV_AUTH_NAME_LEN];
    u_char                           time[NGX_TIME_T_LEN + 4];
    u_char                           status[NGX_INT_T_LEN];
    ngx_http_variable_value_t       *id;
    ngx_http_rbgv_auth_event_t       event;
    ngx_http_rbgv_auth_main_conf_t  *amcf;

    amcf = ctx->store->worker->conf;

    id = ngx_http_get_indexed_variable(r, amcf->request_id);
    if (id == NULL) {
        return NGX_ERROR;
    }

    event.argc = 0;

    ngx_http_rbgv_auth_event_arg(&event, "XADD", 4);
    ngx_http_rbgv_auth_event_arg(&event, name,
                      ngx_http_rbgv_auth_name(ctx->store, &ctx->place,
                                              RBGV_EVENTS, name));
    ngx_http_rbgv_auth_event_field(&event, "MAXLEN", "=", 1);
    ngx_http_rbgv_auth_event_field(&event, NGX_HTTP_RBGV_AUTH_EVENT_KEPT,
                                   "*", 1);

    ngx_http_rbgv_auth_event_field(&event, "time", time,
                      ngx_sprintf(time, "%T.%03M", r->start_sec,
                                  r->start_msec) - time);
    ngx_http_rbgv_auth_event_field(&event, "method", r->method_name.data,
                      ngx_min(r->method_name.len,
                              NGX_HTTP_RBGV_AUTH_EVENT_METHOD));
    ngx_http_rbgv_auth_event_field(&event, "path", r->unparsed_uri.data,
                                   ngx_http_rbgv_auth_event_path(r));
    ngx_http_rbgv_auth_event_field(&event, "status", status,
                      ngx_sprintf(status, "%03ui",
                                  ngx_http_rbgv_auth_event_status(r))
                      - status);
    ngx_http_rbgv_auth_event_field(&event, "request_id", id->data, id->len);

    if (ctx->job_id.len) {
        ngx_http_rbgv_auth_event_field(&event, "job_id", ctx->job_id.data,
                                       ctx->job_id.len);
    }

    return ngx_rbgv_store_command(ctx->store->redis, 1,
                           ngx_current_msec + ctx->store->conf->timeout,
                           ngx_http_rbgv_auth_event_reply, ctx->store,
                           event.argc, event.argv, event.argvlen);
}


static void
ngx_http_rbgv_auth_event_reply(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_http_rbgv_auth_store_t *store = data;

    store->worker->nevents--;

    if (reply && reply->type == NGX_RBGV_REDIS_STRING) {
        ngx_http_rbgv_auth_tally_event(store->worker,
                                       NGX_HTTP_RBGV_AUTH_EVENT_WRITTEN);
        return;
    }

    ngx_http_rbgv_auth_tally_event(store->worker,
                                   NGX_HTTP_RBGV_AUTH_EVENT_LOST);

    ngx_http_rbgv_auth_bad_reply(store, reply, "XADD");
}


/* as in an access log */

static ngx_uint_t
ngx_http_rbgv_auth_event_status(ngx_http_request_t *r)
{
    if (r->err_status) {
        return r->err_status;
    }

    if (r->headers_out.status) {
        return r->headers_out.status;
    }

    return (r->http_version == NGX_HTTP_VERSION_9) ? 9 : 0;
}


/* as the client sent it; arguments may be secrets */

static size_t
ngx_http_rbgv_auth_event_path(ngx_http_request_t *r)
{
    u_char  *p, *last;
    size_t   len;

    last = r->unparsed_uri.data + r->unparsed_uri.len;

    p = ngx_strlchr(r->unparsed_uri.data, last, '?');

    len = (p ? p : last) - r->unparsed_uri.data;

    return ngx_min(len, NGX_HTTP_RBGV_AUTH_EVENT_PATH);
}


static void
ngx_http_rbgv_auth_event_field(ngx_http_rbgv_auth_event_t *event,
    const char *name, const void *value, size_t len)
{
    ngx_http_rbgv_auth_event_arg(event, name, ngx_strlen(name));
    ngx_http_rbgv_auth_event_arg(event, value, len);
}


static void
ngx_http_rbgv_auth_event_arg(ngx_http_rbgv_auth_event_t *event,
    const void *data, size_t len)
{
    event->argv[event->argc] = data;
    event->argvlen[event->argc] = len;
    event->argc++;
}


static void
ngx_http_rbgv_auth_tally_event(ngx_http_rbgv_auth_worker_t *worker,
    ngx_http_rbgv_auth_event_result_e result)
{
    ngx_http_rbgv_auth_zone_tally(worker->conf->zone,
                                  NGX_HTTP_RBGV_AUTH_KIND_EVENTS + result);
}
