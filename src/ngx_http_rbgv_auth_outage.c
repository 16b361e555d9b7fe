
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * What is decided when Redis does not answer: "rbgv_auth_unavailable" and
 * "rbgv_auth_limit_unavailable".  Neither holds for an error that says that
 * the login, or what it may do, is wrong: that is 503.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_rbgv_auth.h"


#define NGX_HTTP_RBGV_AUTH_DEGRADED_TIME  10000  /* between two lines */
#define NGX_HTTP_RBGV_AUTH_REPEAT_TIME    1000   /* of the same line */


static ngx_uint_t ngx_http_rbgv_auth_is_outage(
    ngx_http_rbgv_auth_store_t *store, ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_count_here(ngx_http_rbgv_auth_ctx_t *ctx);
static void ngx_http_rbgv_auth_set_count(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_count_t *count);
static void ngx_http_rbgv_auth_let_pass(ngx_http_rbgv_auth_ctx_t *ctx);
static void ngx_http_rbgv_auth_degraded(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_mode_e mode);
static void ngx_http_rbgv_auth_set_broken(ngx_http_rbgv_auth_store_t *store,
    ngx_uint_t broken);


/* by "mode" of rbgv_auth_degraded_requests_total */

ngx_str_t  ngx_http_rbgv_auth_modes[] = {
    ngx_string("stale"),
    ngx_string("local"),
    ngx_string("allow")
};


void
ngx_http_rbgv_auth_outage_init(ngx_http_rbgv_auth_worker_t *worker)
{
    ngx_uint_t  i;

    for (i = 0; i < worker->nstores; i++) {
        ngx_http_rbgv_auth_zone_broken(worker->conf->zone,
                                       worker->stores[i].index, 0, 1);
    }
}


void
ngx_http_rbgv_auth_outage_done(ngx_http_rbgv_auth_worker_t *worker)
{
    ngx_uint_t  i;

    for (i = 0; i < worker->nstores; i++) {
        ngx_http_rbgv_auth_set_broken(&worker->stores[i], 0);
    }
}


void
ngx_http_rbgv_auth_unread(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_rbgv_redis_reply_t *reply)
{
    u_char                       text[NGX_HTTP_RBGV_AUTH_TEXT];
    ngx_http_rbgv_auth_record_t  record;

    if (ctx->conf->stale == 0
        || !ngx_http_rbgv_auth_is_outage(ctx->store, reply)
        || ngx_http_rbgv_auth_zone_stale(ctx->store->worker->conf->zone,
                                         &ctx->place, ctx->conf->stale,
                                         &record, text, &ctx->node)
           != NGX_OK)
    {
        ngx_http_rbgv_auth_unavailable(ctx, reply);
        return;
    }

    ctx->stale = 1;

    ngx_http_rbgv_auth_judge_record(ctx, &record, text);
}


static ngx_uint_t
ngx_http_rbgv_auth_is_outage(ngx_http_rbgv_auth_store_t *store,
    ngx_rbgv_redis_reply_t *reply)
{
    if (reply == NULL) {
        return !ngx_rbgv_store_refused(store->redis);
    }

    return ngx_rbgv_store_is_transient(store->redis, reply);
}


/* a stale record lets pass; that a key is bad is for Redis to say */

void
ngx_http_rbgv_auth_decided_stale(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_status_e *status, const char **reason)
{
    switch (*status) {

    case NGX_HTTP_RBGV_AUTH_INVALID:
    case NGX_HTTP_RBGV_AUTH_DISABLED:
    case NGX_HTTP_RBGV_AUTH_EXPIRED:
    case NGX_HTTP_RBGV_AUTH_ENVIRONMENT:
        *status = NGX_HTTP_RBGV_AUTH_UNAVAILABLE;
        *reason = "no answer from redis";
        return;

    case NGX_HTTP_RBGV_AUTH_UNAVAILABLE:
        return;

    default:
        ctx->source = NGX_HTTP_RBGV_AUTH_STALE;
        ngx_http_rbgv_auth_degraded(ctx, NGX_HTTP_RBGV_AUTH_MODE_STALE);
    }
}


void
ngx_http_rbgv_auth_uncounted(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_rbgv_redis_reply_t *reply)
{
    ngx_uint_t  policy;

    policy = ctx->conf->limit_unavailable;

    /* what is left of the credits is known to Redis alone */

    if (policy == NGX_HTTP_RBGV_AUTH_LIMIT_DENY
        || (policy == NGX_HTTP_RBGV_AUTH_LIMIT_LOCAL && ctx->price)
        || !ngx_http_rbgv_auth_is_outage(ctx->store, reply))
    {
        ngx_http_rbgv_auth_unavailable(ctx, reply);

    } else if (policy == NGX_HTTP_RBGV_AUTH_LIMIT_ALLOW) {
        ngx_http_rbgv_auth_let_pass(ctx);

    } else {
        ngx_http_rbgv_auth_count_here(ctx);
    }
}


static void
ngx_http_rbgv_auth_count_here(ngx_http_rbgv_auth_ctx_t *ctx)
{
    ngx_int_t                   rc;
    ngx_uint_t                  i;
    ngx_http_rbgv_auth_count_t  count;

    ngx_http_rbgv_auth_set_count(ctx, &count);

    rc = ngx_http_rbgv_auth_zone_count(ctx->store->worker->conf->zone,
                                       &ctx->place,
                                       ctx->accounted ? 0 : ctx->node,
                                       ctx->secret, &count);
    if (rc == NGX_ERROR) {
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_UNAVAILABLE,
                                   "no room to count on this host");
        return;
    }

    ctx->source = NGX_HTTP_RBGV_AUTH_LOCAL;
    ctx->accounted = 1;
    ctx->counted = 1;

    for (i = 0; i < ctx->nwindows; i++) {
        ctx->windows[i].remaining = count.quotas[i].remaining;
        ctx->windows[i].reset = count.quotas[i].reset;
    }

    ngx_http_rbgv_auth_degraded(ctx, NGX_HTTP_RBGV_AUTH_MODE_LOCAL);

    if (rc == NGX_OK) {
        ctx->charged = (ctx->nwindows > 0);
        ngx_http_rbgv_auth_granted(ctx);
        return;
    }

    ctx->retry = count.retry;

    ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_LIMITED,
                               "a window is full");
}


/* windows of the same name and length are one, as they are in Redis */

static void
ngx_http_rbgv_auth_set_count(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_count_t *count)
{
    ngx_uint_t                    i;
    ngx_http_rbgv_auth_quota_t   *quota;
    ngx_http_rbgv_auth_window_t  *w;

    count->cost = ctx->cost;
    count->nquotas = ctx->nwindows;

    for (i = 0; i < ctx->nwindows; i++) {
        w = &ctx->windows[i];
        quota = &count->quotas[i];

        quota->name = ngx_crc32_short(w->name.data, w->name.len);
        quota->quota = w->limit.quota;
        quota->window = w->limit.window;
    }
}


static void
ngx_http_rbgv_auth_let_pass(ngx_http_rbgv_auth_ctx_t *ctx)
{
    ngx_http_rbgv_auth_count_t  count;

    /* in no window, but in the usage of the key */

    count.nquotas = 0;

    (void) ngx_http_rbgv_auth_zone_count(ctx->store->worker->conf->zone,
                                         &ctx->place,
                                         ctx->accounted ? 0 : ctx->node,
                                         ctx->secret, &count);

    ctx->source = NGX_HTTP_RBGV_AUTH_LOCAL;
    ctx->accounted = 1;

    ngx_http_rbgv_auth_degraded(ctx, NGX_HTTP_RBGV_AUTH_MODE_ALLOW);

    ngx_http_rbgv_auth_granted(ctx);
}


static void
ngx_http_rbgv_auth_degraded(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_mode_e mode)
{
    ngx_http_rbgv_auth_store_t  *store;

    store = ctx->store;

    ngx_http_rbgv_auth_zone_tally(store->worker->conf->zone,
                                  NGX_HTTP_RBGV_AUTH_KIND_MODES + mode);
    store->degraded++;

    if (store->degraded_told
        && ngx_current_msec - store->degraded_told
           < NGX_HTTP_RBGV_AUTH_DEGRADED_TIME)
    {
        return;
    }

    store->degraded_told = ngx_current_msec;
    store->restored = 0;

    ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                  "rbgv_auth: decisions without redis \"%V\": %ui so far, "
                  "the last one \"%V\"", &store->conf->name, store->degraded,
                  &ngx_http_rbgv_auth_modes[mode]);
}


void
ngx_http_rbgv_auth_answered(ngx_http_rbgv_auth_store_t *store)
{
    if (store->degraded == 0 || store->restored) {
        return;
    }

    ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                  "rbgv_auth: decisions by redis \"%V\" again, %ui were "
                  "without it", &store->conf->name, store->degraded);

    store->degraded = 0;
    store->restored = 1;
}


/* the same line is not repeated for each request */

ngx_uint_t
ngx_http_rbgv_auth_told(ngx_http_rbgv_auth_store_t *store,
    const char *command, ngx_str_t *text)
{
    u_char    *last;
    uint32_t   line;

    /* of an error reply, the first word tells what it is */

    last = ngx_strlchr(text->data, text->data + text->len, ' ');

    ngx_crc32_init(line);
    ngx_crc32_update(&line, (u_char *) command, ngx_strlen(command));
    ngx_crc32_update(&line, text->data, last ? (size_t) (last - text->data)
                                             : text->len);
    ngx_crc32_final(line);

    if (store->line == line
        && ngx_current_msec - store->line_told
           < NGX_HTTP_RBGV_AUTH_REPEAT_TIME)
    {
        return 1;
    }

    store->line = line;
    store->line_told = ngx_current_msec;

    return 0;
}


void
ngx_http_rbgv_auth_failed(void *data, ngx_rbgv_redis_failure_e failure)
{
    ngx_http_rbgv_auth_store_t *store = data;

    ngx_http_rbgv_auth_tally_error(store, (ngx_uint_t) failure);
    ngx_http_rbgv_auth_set_broken(store, 1);
}


void
ngx_http_rbgv_auth_ready(void *data)
{
    ngx_http_rbgv_auth_set_broken(data, 0);
}


void
ngx_http_rbgv_auth_tally_error(ngx_http_rbgv_auth_store_t *store,
    ngx_uint_t kind)
{
    ngx_http_rbgv_auth_zone_tally(store->worker->conf->zone,
                                  NGX_HTTP_RBGV_AUTH_KIND_ERRORS + kind);
}


/* clients that differ in login or timeouts may be of one store */

static void
ngx_http_rbgv_auth_set_broken(ngx_http_rbgv_auth_store_t *store,
    ngx_uint_t broken)
{
    ngx_uint_t                    i, n;
    ngx_http_rbgv_auth_worker_t  *worker;

    worker = store->worker;
    store->broken = broken;
    n = 0;

    for (i = 0; i < worker->nstores; i++) {
        n += (worker->stores[i].index == store->index
              && worker->stores[i].broken);
    }

    ngx_http_rbgv_auth_zone_broken(worker->conf->zone, store->index, n, 0);
}
