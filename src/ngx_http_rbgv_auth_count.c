
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Counting: by a permit of a lease, or by a charge.  A charge asks Redis once
 * for all requests of two event loop turns that are counted alike, and for
 * permits beyond them if a lease is allowed.  See src/rbgv_count.lua.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_rbgv_auth.h"
#include "rbgv_count_lua.h"
#include "rbgv_schema.h"


#define NGX_HTTP_RBGV_AUTH_LEASE_TIME   15000    /* ms at most, by phase */
#define NGX_HTTP_RBGV_AUTH_LEAD         3        /* slices of each window */
#define NGX_HTTP_RBGV_AUTH_DELAY        10       /* of a charge, milliseconds */
#define NGX_HTTP_RBGV_AUTH_RETRY_TIME   1000     /* refused locally, at most */
#define NGX_HTTP_RBGV_AUTH_EARLY        1000     /* renewed so much before */
#define NGX_HTTP_RBGV_AUTH_WATCH_TIME   100      /* between two looks */
#define NGX_HTTP_RBGV_AUTH_WATCH_GRACE  1000     /* the next charge may tell */
#define NGX_HTTP_RBGV_AUTH_SHARE        128      /* of a quota, in one block */
#define NGX_HTTP_RBGV_AUTH_OWN_SHARE    8        /* likewise, if configured */

#define NGX_HTTP_RBGV_AUTH_FIELD_LEN                                          \
    (sizeof("w::") + RBGV_LIMIT_NAME_MAX + NGX_INT32_LEN)

/* EVALSHA, hash, 1, name; integers; one a secret and a window; what is rare */

#define NGX_HTTP_RBGV_AUTH_NAME_ARG      3
#define NGX_HTTP_RBGV_AUTH_INTEGERS_ARG  4

#define NGX_HTTP_RBGV_AUTH_MAX_ARGS                                           \
    (4 + 1 + NGX_HTTP_RBGV_AUTH_SECRETS + RBGV_LIMITS_MAX + 1)

#define NGX_HTTP_RBGV_AUTH_INTEGERS_LEN                                       \
    (8 * (7 + NGX_HTTP_RBGV_AUTH_SECRETS + 2 * RBGV_LIMITS_MAX))

/* of what is rare: nine names with their numbers */

#define NGX_HTTP_RBGV_AUTH_MORE_LEN                                           \
    (9 * (sizeof("limited= ") - 1 + NGX_INT64_LEN))


/* what is counted alike */

typedef struct {
    ngx_http_rbgv_auth_store_t    *store;
    ngx_http_rbgv_auth_place_t     place;
    uint32_t                       node;
    uint64_t                       set;        /* of windows, with the cost */
    uint64_t                       balance;    /* credits granted in all */
    uint32_t                       cost;
    uint32_t                       price;      /* in credits */
    ngx_uint_t                     nwindows;
    ngx_http_rbgv_auth_window_t    windows[RBGV_LIMITS_MAX];

    unsigned                       hours:1;    /* more than one secret */
    unsigned                       spare:1;    /* credits: a dry run */
} ngx_http_rbgv_auth_subject_t;


typedef struct {
    ngx_queue_t                    queue;      /* in charges, or free */
    ngx_queue_t                    unsent;
    ngx_queue_t                    waiters;
    ngx_http_rbgv_auth_subject_t   subject;
    ngx_uint_t                     secret;     /* index in the record */
    u_char                         digest[8];  /* its first bytes */
    ngx_msec_t                     deadline;
    ngx_msec_t                     sent;       /* ngx_http_rbgv_auth_now() */
    uint32_t                       need;       /* waiters when it was sent */
    uint32_t                       want;
    uint32_t                       block;      /* most permits of a lease */
    uint64_t                       lead;       /* microseconds */
    ngx_http_rbgv_auth_report_t    report;

    unsigned                       fixed:1;    /* a block of that size */
    unsigned                       account:1;  /* calls, not just windows */
    unsigned                       pending:1;  /* not sent yet */
    unsigned                       healed:1;   /* NOSCRIPT, once */
} ngx_http_rbgv_auth_charge_t;


typedef struct {
    ngx_queue_t                    queue;
    ngx_msec_t                     due;
    ngx_http_rbgv_auth_subject_t   subject;
} ngx_http_rbgv_auth_watch_t;


typedef struct {
    const char                    *argv[NGX_HTTP_RBGV_AUTH_MAX_ARGS];
    size_t                         argvlen[NGX_HTTP_RBGV_AUTH_MAX_ARGS];
    ngx_uint_t                     argc;

    /* what the arguments are written into */
    u_char                         integers[NGX_HTTP_RBGV_AUTH_INTEGERS_LEN];
    u_char                        *last;
    u_char                         text[NGX_HTTP_RBGV_AUTH_MAX_ARGS
                                        * NGX_HTTP_RBGV_AUTH_FIELD_LEN
                                        + NGX_HTTP_RBGV_AUTH_MORE_LEN];
} ngx_http_rbgv_auth_args_t;


static void ngx_http_rbgv_auth_select_windows(ngx_http_rbgv_auth_ctx_t *ctx);
static rbgv_limit_t ngx_http_rbgv_auth_own_limit(
    ngx_http_rbgv_auth_ctx_t *ctx, ngx_http_rbgv_auth_limit_t *limit);
static ngx_int_t ngx_http_rbgv_auth_price(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_complex_value_t *cv, uint32_t *price);
static uint64_t ngx_http_rbgv_auth_set(ngx_http_rbgv_auth_ctx_t *ctx);
static ngx_int_t ngx_http_rbgv_auth_take(ngx_http_rbgv_auth_ctx_t *ctx,
    uint64_t set);
static void ngx_http_rbgv_auth_send_next(ngx_http_rbgv_auth_ctx_t *ctx);
static void ngx_http_rbgv_auth_send_soon(ngx_http_rbgv_auth_charge_t *charge);
static uint64_t ngx_http_rbgv_auth_lead(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_grant_t *grant);
static void ngx_http_rbgv_auth_counted(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_uint_t granted);
static void ngx_http_rbgv_auth_taken(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_grant_t *grant);
static uint32_t ngx_http_rbgv_auth_block(ngx_http_rbgv_auth_ctx_t *ctx);
static ngx_http_rbgv_auth_charge_t *ngx_http_rbgv_auth_find_charge(
    ngx_http_rbgv_auth_ctx_t *ctx, uint64_t set, ngx_uint_t sent);
static ngx_http_rbgv_auth_charge_t *ngx_http_rbgv_auth_start_charge(
    ngx_http_rbgv_auth_ctx_t *ctx, uint64_t set, uint32_t block);
static void ngx_http_rbgv_auth_set_subject(
    ngx_http_rbgv_auth_subject_t *subject, ngx_http_rbgv_auth_ctx_t *ctx,
    uint64_t set);
static void ngx_http_rbgv_auth_end_charge(
    ngx_http_rbgv_auth_charge_t *charge, ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_send_handler(ngx_event_t *ev);
static ngx_int_t ngx_http_rbgv_auth_prepare_charge(
    ngx_http_rbgv_auth_charge_t *charge);
static ngx_int_t ngx_http_rbgv_auth_send_charge(
    ngx_http_rbgv_auth_charge_t *charge);
static void ngx_http_rbgv_auth_charge_handler(void *data,
    ngx_rbgv_redis_reply_t *reply);
static ngx_int_t ngx_http_rbgv_auth_heal_charge(
    ngx_http_rbgv_auth_charge_t *charge);
static ngx_uint_t ngx_http_rbgv_auth_is_grant(
    ngx_http_rbgv_auth_charge_t *charge, ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_charged(ngx_http_rbgv_auth_charge_t *charge,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_keep_grant(ngx_http_rbgv_auth_charge_t *charge,
    ngx_rbgv_redis_reply_t *reply, uint32_t surplus);
static void ngx_http_rbgv_auth_read_grant(
    ngx_http_rbgv_auth_charge_t *charge, ngx_rbgv_redis_reply_t *reply,
    ngx_http_rbgv_auth_grant_t *grant);
static void ngx_http_rbgv_auth_give_back(
    ngx_http_rbgv_auth_subject_t *subject, uint32_t unused, uint64_t granted);
static void ngx_http_rbgv_auth_watch(ngx_http_rbgv_auth_subject_t *subject,
    ngx_msec_t due);
static void ngx_http_rbgv_auth_watch_handler(ngx_event_t *ev);
static void ngx_http_rbgv_auth_look(ngx_http_rbgv_auth_watch_t *watch,
    ngx_http_rbgv_auth_report_e what);
static ngx_int_t ngx_http_rbgv_auth_send_report(
    ngx_http_rbgv_auth_subject_t *subject,
    ngx_http_rbgv_auth_report_t *report);
static void ngx_http_rbgv_auth_retract(ngx_http_rbgv_auth_subject_t *subject,
    ngx_http_rbgv_auth_report_t *report);
static void ngx_http_rbgv_auth_report_handler(void *data,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_quit(void *data);
static void ngx_http_rbgv_auth_arg_script(ngx_http_rbgv_auth_args_t *args,
    ngx_http_rbgv_auth_subject_t *subject);
static void ngx_http_rbgv_auth_arg_secret(ngx_http_rbgv_auth_args_t *args,
    u_char *digest, uint32_t used);
static void ngx_http_rbgv_auth_arg_windows(ngx_http_rbgv_auth_args_t *args,
    ngx_http_rbgv_auth_subject_t *subject);
static void ngx_http_rbgv_auth_arg_more(ngx_http_rbgv_auth_args_t *args,
    ngx_http_rbgv_auth_subject_t *subject,
    ngx_http_rbgv_auth_report_t *report, const char *first);
static void ngx_http_rbgv_auth_arg_integer(ngx_http_rbgv_auth_args_t *args,
    uint64_t n);
static void ngx_http_rbgv_auth_arg(ngx_http_rbgv_auth_args_t *args,
    const void *data, size_t len);


static const ngx_rbgv_redis_events_t  ngx_http_rbgv_auth_count_events = {
    ngx_http_rbgv_auth_ready,
    NULL,
    NULL,
    ngx_http_rbgv_auth_quit,
    ngx_http_rbgv_auth_failed,
    ngx_http_rbgv_auth_tally_command
};


void
ngx_http_rbgv_auth_count_init(ngx_http_rbgv_auth_worker_t *worker)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_RBGV_AUTH_BUCKETS; i++) {
        ngx_queue_init(&worker->charges[i]);
    }

    ngx_queue_init(&worker->unsent);
    ngx_queue_init(&worker->free_charges);
    ngx_queue_init(&worker->watches);
    ngx_queue_init(&worker->free_watches);

    worker->send_event.handler = ngx_http_rbgv_auth_send_handler;
    worker->send_event.data = worker;
    worker->send_event.log = ngx_cycle->log;

    worker->watch_event.handler = ngx_http_rbgv_auth_watch_handler;
    worker->watch_event.data = worker;
    worker->watch_event.log = ngx_cycle->log;
    worker->watch_event.cancelable = 1;

    for (i = 0; i < worker->nstores; i++) {
        ngx_rbgv_store_watch(worker->stores[i].redis,
                             &ngx_http_rbgv_auth_count_events,
                             &worker->stores[i]);
    }
}


void
ngx_http_rbgv_auth_count_done(ngx_http_rbgv_auth_worker_t *worker)
{
    if (worker->send_event.timer_set) {
        ngx_del_timer(&worker->send_event);
    }

    if (worker->watch_event.timer_set) {
        ngx_del_timer(&worker->watch_event);
    }
}


void
ngx_http_rbgv_auth_count(ngx_http_rbgv_auth_ctx_t *ctx)
{
    uint32_t                      block;
    uint64_t                      set;
    ngx_http_rbgv_auth_charge_t  *charge;

    ngx_http_rbgv_auth_select_windows(ctx);

    ctx->cost = 1;
    ctx->price = 0;

    if (ctx->conf->cost
        && ngx_http_rbgv_auth_price(ctx, ctx->conf->cost, &ctx->cost)
           != NGX_OK)
    {
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_UNAVAILABLE,
                                   "invalid cost");
        return;
    }

    if (ctx->conf->credits
        && ngx_http_rbgv_auth_price(ctx, ctx->conf->credits, &ctx->price)
           != NGX_OK)
    {
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_UNAVAILABLE,
                                   "invalid number of credits");
        return;
    }

    set = ngx_http_rbgv_auth_set(ctx);

    /* a worker that quits has told of its leases already */

    if (ctx->node && !ctx->accounted && !ngx_exiting
        && ngx_http_rbgv_auth_take(ctx, set) == NGX_OK)
    {
        return;
    }

    if (ctx->stale) {
        ngx_http_rbgv_auth_uncounted(ctx, NULL);
        return;
    }

    block = ngx_http_rbgv_auth_block(ctx);

    charge = ngx_http_rbgv_auth_find_charge(ctx, set, block > 0);

    if (charge == NULL) {
        charge = ngx_http_rbgv_auth_start_charge(ctx, set, block);
    }

    if (charge && charge->pending) {
        ngx_http_rbgv_auth_send_next(ctx);
    }

    if (charge == NULL
        || ngx_http_rbgv_auth_wait(ctx, &charge->waiters) != NGX_OK)
    {
        ngx_http_rbgv_auth_uncounted(ctx, NULL);
    }
}


/*
 * The limits of the location as they hold for this key: one of its
 * environment goes before the general one of the same name.
 */

static void
ngx_http_rbgv_auth_select_windows(ngx_http_rbgv_auth_ctx_t *ctx)
{
    ngx_uint_t                    i, k;
    ngx_http_rbgv_auth_limit_t   *limit;
    ngx_http_rbgv_auth_window_t  *w;

    ctx->nwindows = 0;
    ctx->counted = 0;
    limit = ctx->conf->limits->elts;

    for (i = 0; i < ctx->conf->limits->nelts; i++) {

        if (limit[i].environment.len
            && (limit[i].environment.len != ctx->environment.len
                || ngx_memcmp(limit[i].environment.data,
                              ctx->environment.data, ctx->environment.len)
                   != 0))
        {
            continue;
        }

        for (k = 0; k < ctx->nwindows; k++) {
            if (ctx->windows[k].name.len == limit[i].name.len
                && ngx_memcmp(ctx->windows[k].name.data, limit[i].name.data,
                              limit[i].name.len)
                   == 0)
            {
                break;
            }
        }

        w = &ctx->windows[k];

        if (k == ctx->nwindows) {
            ctx->nwindows++;

        } else if (limit[i].environment.len == 0) {
            continue;
        }

        w->name = limit[i].name;
        w->limit = ngx_http_rbgv_auth_own_limit(ctx, &limit[i]);
    }
}


static rbgv_limit_t
ngx_http_rbgv_auth_own_limit(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_limit_t *limit)
{
    u_char        *p;
    size_t         len;
    ngx_uint_t     i;
    rbgv_limit_t   own;

    p = ctx->limits;

    for (i = 0; i < ctx->nlimits; i++) {
        len = *p++;

        if (len == limit->name.len
            && ngx_memcmp(p, limit->name.data, len) == 0)
        {
            ngx_memcpy(&own, p + len, sizeof(rbgv_limit_t));
            return own;
        }

        p += len + sizeof(rbgv_limit_t);
    }

    return limit->limit;
}


static ngx_int_t
ngx_http_rbgv_auth_price(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_complex_value_t *cv, uint32_t *price)
{
    ngx_int_t  n;
    ngx_str_t  value;

    if (ngx_http_complex_value(ctx->request, cv, &value) != NGX_OK) {
        return NGX_ERROR;
    }

    n = ngx_atoi(value.data, value.len);

    if (n < 0 || n > RBGV_QUOTA_MAX) {
        ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0,
                      "rbgv_auth: invalid %s \"%V\"",
                      cv == ctx->conf->cost ? "cost" : "number of credits",
                      &value);
        return NGX_ERROR;
    }

    *price = n;

    return NGX_OK;
}


/*
 * Tells sets of windows from one another, and one cost and price from another
 * for certain: 31 bits each, times an odd number.  0 is no set.
 */

static uint64_t
ngx_http_rbgv_auth_set(ngx_http_rbgv_auth_ctx_t *ctx)
{
    uint64_t  set;

    set = ctx->cost | (uint64_t) ctx->price << 31;
    set = set * 0x9e3779b97f4a7c15 ^ ctx->conf->set;

    return set ? set : 1;
}


/* by a permit, or refused by what Redis said before: no round trip */

static ngx_int_t
ngx_http_rbgv_auth_take(ngx_http_rbgv_auth_ctx_t *ctx, uint64_t set)
{
    ngx_int_t                     rc;
    ngx_uint_t                    refill;
    ngx_http_rbgv_auth_grant_t    grant;
    ngx_http_rbgv_auth_charge_t  *charge;

    if (ctx->now == 0) {
        ctx->now = ngx_http_rbgv_auth_now();
    }

    rc = ngx_http_rbgv_auth_zone_take(ctx->store->worker->conf->zone,
                                      ctx->now, &ctx->place, ctx->node, set,
                                      ctx->secret, ctx->cost, &grant,
                                      &refill);
    if (rc == NGX_AGAIN) {
        return NGX_DECLINED;
    }

    if (refill) {
        charge = ngx_http_rbgv_auth_start_charge(ctx, set,
                                               ngx_http_rbgv_auth_block(ctx));
        if (charge) {
            charge->lead = ngx_http_rbgv_auth_lead(ctx, &grant);
            ngx_http_rbgv_auth_send_soon(charge);
        }
    }

    ngx_http_rbgv_auth_taken(ctx, &grant);

    if (rc == NGX_OK) {
        ctx->source = NGX_HTTP_RBGV_AUTH_LEASE;
        ngx_http_rbgv_auth_counted(ctx, 1);
        return NGX_OK;
    }

    ctx->retry = grant.broke
                 ? 0
                 : ngx_max((ngx_msec_int_t) (grant.retry_at - ctx->now), 1);
    ctx->source = NGX_HTTP_RBGV_AUTH_ZONE;

    ngx_http_rbgv_auth_counted(ctx, 0);

    return NGX_OK;
}


/*
 * At the end of the next turn of the event loop, which takes what is there and
 * does not wait: the more requests a call is of, the less they cost Redis.  Or
 * of this turn, beside the GET of a job.
 */

static void
ngx_http_rbgv_auth_send_next(ngx_http_rbgv_auth_ctx_t *ctx)
{
    ngx_event_t  *ev;

    ev = &ctx->store->worker->send_event;

    if (ctx->conf->job) {
        ngx_post_event(ev, &ngx_posted_events);
        return;
    }

    ngx_post_event(ev, &ngx_posted_next_events);

    /* a worker that quits stays while there are timers */

    if (!ev->timer_set) {
        ngx_add_timer(ev, NGX_HTTP_RBGV_AUTH_DELAY);
    }
}


/*
 * Nobody waits for it yet: it goes with the next charges, or with those of some
 * milliseconds.  That is a sixth of the time in which a lease is renewed.
 */

static void
ngx_http_rbgv_auth_send_soon(ngx_http_rbgv_auth_charge_t *charge)
{
    ngx_uint_t                     i;
    ngx_msec_t                     delay;
    ngx_http_rbgv_auth_subject_t  *subject;

    subject = &charge->subject;
    delay = NGX_HTTP_RBGV_AUTH_DELAY;

    for (i = 0; i < subject->nwindows; i++) {
        delay = ngx_min(delay, subject->windows[i].limit.window * 2);
    }

    ngx_add_timer(&subject->store->worker->send_event, delay);
}


/*
 * The lease of a key that is far from its quotas is to last longer: what it
 * takes of them is returned later, which nobody misses.
 */

static uint64_t
ngx_http_rbgv_auth_lead(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_grant_t *grant)
{
    uint64_t       lead;
    ngx_uint_t     i;
    rbgv_limit_t  *limit;

    lead = NGX_HTTP_RBGV_AUTH_LEASE_TIME * 1000;

    for (i = 0; i < ctx->nwindows; i++) {
        limit = &ctx->windows[i].limit;

        if (grant->remaining[i] < limit->quota - limit->quota / 4
            || (uint64_t) grant->rate * ctx->cost * limit->window
               > limit->quota / 8)
        {
            return 0;
        }

        lead = ngx_min(lead, (uint64_t) limit->window * RBGV_SLICE
                             * NGX_HTTP_RBGV_AUTH_LEAD);
    }

    return lead;
}


/* Redis has said so, now or before; retry is 0 if only credits are missing */

static void
ngx_http_rbgv_auth_counted(ngx_http_rbgv_auth_ctx_t *ctx, ngx_uint_t granted)
{
    if (granted) {
        ctx->charged = (ctx->nwindows > 0 || ctx->price > 0);
        ngx_http_rbgv_auth_granted(ctx);

    } else if (ctx->retry) {
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_LIMITED,
                                   "a window is full");

    } else {
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_CREDITS,
                                   "not enough credits");
    }
}


static void
ngx_http_rbgv_auth_taken(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_grant_t *grant)
{
    ngx_uint_t  i;

    ctx->accounted = 1;
    ctx->counted = 1;

    for (i = 0; i < ctx->nwindows; i++) {
        ctx->windows[i].remaining = grant->remaining[i];
        ctx->windows[i].reset = grant->reset[i];
    }
}


/*
 * The most permits that a lease of this request may have at once; 0: none.
 * A host that dies takes no more than that with it.
 */

static uint32_t
ngx_http_rbgv_auth_block(ngx_http_rbgv_auth_ctx_t *ctx)
{
    uint32_t    block, share;
    ngx_uint_t  i;

    if (ctx->conf->lease == NGX_HTTP_RBGV_AUTH_LEASE_OFF
        || ctx->node == 0 || ctx->accounted || ngx_exiting
        || ctx->nwindows > NGX_HTTP_RBGV_AUTH_WINDOWS
        || (ctx->price && ctx->conf->enable == NGX_HTTP_RBGV_AUTH_DRY_RUN))
    {
        return 0;
    }

    if (ctx->conf->lease == NGX_HTTP_RBGV_AUTH_LEASE_AUTO) {
        block = 65536;
        share = NGX_HTTP_RBGV_AUTH_SHARE;

    } else {
        block = ctx->conf->lease;
        share = NGX_HTTP_RBGV_AUTH_OWN_SHARE;
    }

    for (i = 0; i < ctx->nwindows && ctx->cost; i++) {
        block = ngx_min(block,
                        ctx->windows[i].limit.quota / ctx->cost / share);
    }

    return block > 1 ? block : 0;
}


/* one that is sent is joined only if it may bring more than was needed */

static ngx_http_rbgv_auth_charge_t *
ngx_http_rbgv_auth_find_charge(ngx_http_rbgv_auth_ctx_t *ctx, uint64_t set,
    ngx_uint_t sent)
{
    ngx_queue_t                  *q, *bucket;
    ngx_http_rbgv_auth_charge_t  *charge;

    bucket = &ctx->store->worker->charges[ctx->place.id[0]
                                          % NGX_HTTP_RBGV_AUTH_BUCKETS];

    for (q = ngx_queue_head(bucket);
         q != ngx_queue_sentinel(bucket);
         q = ngx_queue_next(q))
    {
        charge = ngx_queue_data(q, ngx_http_rbgv_auth_charge_t, queue);

        if ((charge->pending || (sent && charge->want > charge->need))
            && charge->subject.store == ctx->store
            && charge->subject.set == set
            && charge->secret == ctx->secret
            && charge->account == !ctx->accounted
            && ngx_memcmp(charge->digest, ctx->digest, 8) == 0
            && ngx_memcmp(charge->subject.place.id, ctx->place.id,
                          RBGV_ID_LEN)
               == 0)
        {
            return charge;
        }
    }

    return NULL;
}


static ngx_http_rbgv_auth_charge_t *
ngx_http_rbgv_auth_start_charge(ngx_http_rbgv_auth_ctx_t *ctx, uint64_t set,
    uint32_t block)
{
    ngx_queue_t                   *q;
    ngx_http_rbgv_auth_charge_t   *charge;
    ngx_http_rbgv_auth_worker_t   *worker;

    worker = ctx->store->worker;

    if (ngx_queue_empty(&worker->free_charges)) {
        charge = ngx_palloc(worker->pool, sizeof(ngx_http_rbgv_auth_charge_t));
        if (charge == NULL) {
            return NULL;
        }

    } else {
        q = ngx_queue_head(&worker->free_charges);
        ngx_queue_remove(q);
        charge = ngx_queue_data(q, ngx_http_rbgv_auth_charge_t, queue);
    }

    ngx_queue_init(&charge->waiters);

    charge->secret = ctx->secret;
    ngx_memcpy(charge->digest, ctx->digest, 8);
    charge->deadline = ctx->deadline;
    charge->block = block;
    charge->lead = 0;
    charge->fixed = (ctx->conf->lease != NGX_HTTP_RBGV_AUTH_LEASE_AUTO);
    charge->account = !ctx->accounted;
    charge->pending = 1;
    charge->healed = 0;

    ngx_http_rbgv_auth_set_subject(&charge->subject, ctx, set);

    ngx_queue_insert_tail(&worker->charges[ctx->place.id[0]
                                           % NGX_HTTP_RBGV_AUTH_BUCKETS],
                          &charge->queue);

    ngx_queue_insert_tail(&worker->unsent, &charge->unsent);

    return charge;
}


static void
ngx_http_rbgv_auth_set_subject(ngx_http_rbgv_auth_subject_t *subject,
    ngx_http_rbgv_auth_ctx_t *ctx, uint64_t set)
{
    subject->store = ctx->store;
    subject->place = ctx->place;
    subject->node = ctx->node;
    subject->set = set;
    subject->balance = ctx->balance;
    subject->cost = ctx->cost;
    subject->price = ctx->price;
    subject->hours = (ctx->nsecrets > 1);
    subject->spare = (ctx->conf->enable == NGX_HTTP_RBGV_AUTH_DRY_RUN);
    subject->nwindows = ctx->nwindows;

    ngx_memcpy(subject->windows, ctx->windows,
               ctx->nwindows * sizeof(ngx_http_rbgv_auth_window_t));
}


/* who waits still gets no answer; the charge is out of its bucket already */

static void
ngx_http_rbgv_auth_end_charge(ngx_http_rbgv_auth_charge_t *charge,
    ngx_rbgv_redis_reply_t *reply)
{
    ngx_queue_t  *q;

    while (!ngx_queue_empty(&charge->waiters)) {
        q = ngx_queue_head(&charge->waiters);
        ngx_http_rbgv_auth_uncounted(ngx_http_rbgv_auth_woken(q), reply);
    }

    ngx_queue_insert_head(&charge->subject.store->worker->free_charges,
                          &charge->queue);
}


static void
ngx_http_rbgv_auth_send_handler(ngx_event_t *ev)
{
    ngx_http_rbgv_auth_worker_t *worker = ev->data;

    ngx_int_t                     rc;
    ngx_queue_t                  *q;
    ngx_http_rbgv_auth_charge_t  *charge;

    if (ev->timer_set) {
        ngx_del_timer(ev);
    }

    while (!ngx_queue_empty(&worker->unsent)) {
        q = ngx_queue_head(&worker->unsent);
        ngx_queue_remove(q);

        charge = ngx_queue_data(q, ngx_http_rbgv_auth_charge_t, unsent);

        rc = ngx_http_rbgv_auth_prepare_charge(charge);

        if (rc == NGX_OK) {
            rc = ngx_http_rbgv_auth_send_charge(charge);

            if (rc != NGX_OK) {
                ngx_http_rbgv_auth_retract(&charge->subject, &charge->report);
            }
        }

        if (rc != NGX_OK) {
            ngx_queue_remove(&charge->queue);
            ngx_http_rbgv_auth_end_charge(charge, NULL);
        }
    }
}


static ngx_int_t
ngx_http_rbgv_auth_prepare_charge(ngx_http_rbgv_auth_charge_t *charge)
{
    ngx_queue_t                   *q;
    ngx_http_rbgv_auth_zone_t     *zone;
    ngx_http_rbgv_auth_subject_t  *subject;

    subject = &charge->subject;
    zone = subject->store->worker->conf->zone;

    charge->pending = 0;

    /* what there is to tell waits in the zone until it can be told */

    if (ngx_rbgv_store_open(subject->store->redis) != NGX_OK) {
        return NGX_DECLINED;
    }

    charge->need = 0;

    for (q = ngx_queue_head(&charge->waiters);
         q != ngx_queue_sentinel(&charge->waiters);
         q = ngx_queue_next(q))
    {
        charge->need++;
    }

    charge->want = charge->need;

    if (charge->block) {
        charge->want += ngx_http_rbgv_auth_zone_want(zone, &subject->place,
                                                     subject->node,
                                                     subject->set,
                                                     charge->block,
                                                     charge->fixed);
    }

    (void) ngx_http_rbgv_auth_zone_report(zone, &subject->place, subject->node,
                                          subject->set,
                                          NGX_HTTP_RBGV_AUTH_REPORT_COUNTS,
                                          &charge->report);

    return NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_send_charge(ngx_http_rbgv_auth_charge_t *charge)
{
    ngx_uint_t                     i, others;
    ngx_http_rbgv_auth_args_t      args;
    ngx_http_rbgv_auth_report_t   *report;

    report = &charge->report;
    others = 0;

    for (i = 0; i < report->nsecrets; i++) {
        others += (report->used[i] && i != charge->secret);
    }

    ngx_http_rbgv_auth_arg_script(&args, &charge->subject);

    ngx_http_rbgv_auth_arg_integer(&args, charge->need);
    ngx_http_rbgv_auth_arg_integer(&args, charge->want);
    ngx_http_rbgv_auth_arg_integer(&args, charge->subject.cost);
    ngx_http_rbgv_auth_arg_integer(&args, charge->lead);
    ngx_http_rbgv_auth_arg_integer(&args, report->unused);
    ngx_http_rbgv_auth_arg_integer(&args, report->granted);
    ngx_http_rbgv_auth_arg_integer(&args, 1 + others);

    ngx_http_rbgv_auth_arg_secret(&args, charge->digest,
                                  charge->secret < report->nsecrets
                                      ? report->used[charge->secret] : 0);

    for (i = 0; i < report->nsecrets; i++) {
        if (report->used[i] && i != charge->secret) {
            ngx_http_rbgv_auth_arg_secret(&args, report->digest[i],
                                          report->used[i]);
        }
    }

    ngx_http_rbgv_auth_arg_windows(&args, &charge->subject);
    ngx_http_rbgv_auth_arg_more(&args, &charge->subject, report,
                                charge->account ? "" : "again=1 ");

    charge->sent = ngx_http_rbgv_auth_now();

    return ngx_rbgv_store_command(charge->subject.store->redis,
                                  NGX_HTTP_RBGV_AUTH_NAME_ARG,
                                  charge->deadline,
                                  ngx_http_rbgv_auth_charge_handler, charge,
                                  args.argc, args.argv, args.argvlen);
}


static void
ngx_http_rbgv_auth_charge_handler(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_http_rbgv_auth_charge_t *charge = data;

    if (reply && ngx_rbgv_redis_is_error(reply, "NOSCRIPT")
        && ngx_http_rbgv_auth_heal_charge(charge) == NGX_OK)
    {
        return;
    }

    /* whoever goes on to wait does not wait for this one */
    ngx_queue_remove(&charge->queue);

    if (reply == NULL || !ngx_http_rbgv_auth_is_grant(charge, reply)) {
        /* the script was not executed: the next charge tells */

        if (reply && reply->type == NGX_RBGV_REDIS_ERROR) {
            ngx_http_rbgv_auth_retract(&charge->subject, &charge->report);
        }

        ngx_http_rbgv_auth_bad_reply(charge->subject.store, reply, "EVALSHA");
        ngx_http_rbgv_auth_end_charge(charge, reply);
        return;
    }

    ngx_http_rbgv_auth_answered(charge->subject.store);
    ngx_http_rbgv_auth_charged(charge, reply);
    ngx_http_rbgv_auth_end_charge(charge, NULL);
}


/* the script cache is volatile: nothing was executed, so ask again, once */

static ngx_int_t
ngx_http_rbgv_auth_heal_charge(ngx_http_rbgv_auth_charge_t *charge)
{
    if (charge->healed) {
        return NGX_DECLINED;
    }

    charge->healed = 1;

    if (ngx_rbgv_store_load_scripts(charge->subject.store->redis,
                                    charge->deadline)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_rbgv_auth_send_charge(charge);
}


static ngx_uint_t
ngx_http_rbgv_auth_is_grant(ngx_http_rbgv_auth_charge_t *charge,
    ngx_rbgv_redis_reply_t *reply)
{
    int64_t                        granted;
    ngx_uint_t                     i;
    ngx_http_rbgv_auth_subject_t  *subject;

    subject = &charge->subject;

    if (reply->type != NGX_RBGV_REDIS_ARRAY
        || reply->nelts != 4 + 2 * subject->nwindows + (subject->price > 0))
    {
        return 0;
    }

    for (i = 0; i < reply->nelts; i++) {
        if (reply->elts[i]->type != NGX_RBGV_REDIS_INTEGER
            || reply->elts[i]->integer < 0)
        {
            return 0;
        }
    }

    granted = reply->elts[0]->integer;

    if (granted > charge->want) {
        return 0;
    }

    /* a refusal says when to try again, unless it is for credits */

    return granted >= charge->need || reply->elts[1]->integer
           || subject->price;
}


/* those who have waited since it was sent, in their order; and then the rest */

static void
ngx_http_rbgv_auth_charged(ngx_http_rbgv_auth_charge_t *charge,
    ngx_rbgv_redis_reply_t *reply)
{
    uint32_t                       n, granted, passed;
    ngx_uint_t                     i;
    ngx_queue_t                   *q;
    ngx_http_rbgv_auth_ctx_t      *ctx;
    ngx_http_rbgv_auth_subject_t  *subject;

    granted = reply->elts[0]->integer;
    passed = ngx_min(granted, charge->need);

    ngx_http_rbgv_auth_keep_grant(charge, reply, granted - passed);

    if (charge->need && charge->account) {
        subject = &charge->subject;

        ngx_http_rbgv_auth_zone_seen(subject->store->worker->conf->zone,
                                     &subject->place, subject->node,
                                     charge->need);
    }

    for (n = 0; n < charge->need; n++) {

        if (ngx_queue_empty(&charge->waiters)) {
            return;
        }

        q = ngx_queue_head(&charge->waiters);
        ctx = ngx_http_rbgv_auth_woken(q);

        ctx->source = NGX_HTTP_RBGV_AUTH_REDIS;
        ctx->accounted = 1;
        ctx->counted = 1;

        for (i = 0; i < ctx->nwindows; i++) {
            ctx->windows[i].remaining = reply->elts[4 + 2 * i]->integer;
            ctx->windows[i].reset = reply->elts[5 + 2 * i]->integer;

            if (n < granted) {
                ctx->windows[i].remaining += (granted - n - 1) * ctx->cost;
            }
        }

        ctx->retry = reply->elts[1]->integer;

        ngx_http_rbgv_auth_counted(ctx, n < granted);
    }

    while (!ngx_queue_empty(&charge->waiters)) {
        q = ngx_queue_head(&charge->waiters);
        ngx_http_rbgv_auth_count(ngx_http_rbgv_auth_woken(q));
    }
}


/*
 * How long permits are good is reckoned from when they were asked for, so
 * that it is never too long.
 */

static void
ngx_http_rbgv_auth_keep_grant(ngx_http_rbgv_auth_charge_t *charge,
    ngx_rbgv_redis_reply_t *reply, uint32_t surplus)
{
    ngx_int_t                      rc;
    ngx_http_rbgv_auth_grant_t     grant;
    ngx_http_rbgv_auth_subject_t  *subject;

    subject = &charge->subject;

    if (subject->node == 0
        || subject->nwindows > NGX_HTTP_RBGV_AUTH_WINDOWS
        || (charge->block == 0 && reply->elts[0]->integer >= charge->need))
    {
        return;
    }

    ngx_http_rbgv_auth_read_grant(charge, reply, &grant);

    grant.permits = surplus;

    rc = ngx_exiting ? NGX_DECLINED
             : ngx_http_rbgv_auth_zone_grant(
                                       subject->store->worker->conf->zone,
                                       &subject->place, subject->node,
                                       subject->set, &grant);

    if (rc == NGX_AGAIN) {
        ngx_http_rbgv_auth_watch(subject, surplus ? grant.expires
                                                  : grant.refused_until);
    }

    if (rc == NGX_DECLINED) {
        ngx_http_rbgv_auth_give_back(subject, surplus, grant.granted);
    }

    ngx_http_rbgv_auth_give_back(subject, grant.unused, grant.unused_granted);
}


static void
ngx_http_rbgv_auth_read_grant(ngx_http_rbgv_auth_charge_t *charge,
    ngx_rbgv_redis_reply_t *reply, ngx_http_rbgv_auth_grant_t *grant)
{
    ngx_uint_t                     i;
    ngx_msec_t                     now, early;
    ngx_http_rbgv_auth_subject_t  *subject;

    subject = &charge->subject;

    now = ngx_http_rbgv_auth_now();
    early = NGX_HTTP_RBGV_AUTH_EARLY;

    grant->granted = reply->elts[3]->integer;
    grant->expires = charge->sent
                     + ngx_min(reply->elts[2]->integer,
                               NGX_HTTP_RBGV_AUTH_LEASE_TIME
                               - RBGV_PHASE(subject->place.id) * 4);
    grant->retry_at = now + reply->elts[1]->integer;
    grant->refused_until = now;
    grant->price = subject->price;
    grant->broke = 0;
    grant->nwindows = subject->nwindows;

    for (i = 0; i < subject->nwindows; i++) {
        grant->seconds[i] = subject->windows[i].limit.window;
        grant->remaining[i] = reply->elts[4 + 2 * i]->integer;
        grant->reset[i] = reply->elts[5 + 2 * i]->integer;

        early = ngx_min(early, grant->seconds[i]
                               * (RBGV_SLICE / 1000 * 3 / 16));
    }

    grant->renewal = grant->expires - early;

    if (reply->elts[1]->integer) {
        grant->refused_until += ngx_min(reply->elts[1]->integer,
                                        NGX_HTTP_RBGV_AUTH_RETRY_TIME);

    } else if (reply->elts[0]->integer < charge->need) {
        grant->broke = 1;
        grant->refused_until += NGX_HTTP_RBGV_AUTH_RETRY_TIME;
    }

    grant->unused = 0;
    grant->unused_granted = 0;
}


static void
ngx_http_rbgv_auth_give_back(ngx_http_rbgv_auth_subject_t *subject,
    uint32_t unused, uint64_t granted)
{
    ngx_http_rbgv_auth_report_t  report;

    if (unused == 0) {
        return;
    }

    ngx_memzero(&report, sizeof(ngx_http_rbgv_auth_report_t));

    report.unused = unused;
    report.granted = granted;

    (void) ngx_http_rbgv_auth_send_report(subject, &report);
}


/* it was granted, and has no such job: it costs no credits */

void
ngx_http_rbgv_auth_uncharge(ngx_http_rbgv_auth_ctx_t *ctx)
{
    ngx_http_rbgv_auth_report_t   report;
    ngx_http_rbgv_auth_subject_t  subject;

    ngx_http_rbgv_auth_set_subject(&subject, ctx, 0);

    ngx_memzero(&report, sizeof(ngx_http_rbgv_auth_report_t));

    report.jobs = 1;
    report.refund = ctx->charged ? ctx->price : 0;

    ngx_http_rbgv_auth_send_report(&subject, &report);
}


static void
ngx_http_rbgv_auth_watch(ngx_http_rbgv_auth_subject_t *subject,
    ngx_msec_t due)
{
    ngx_queue_t                  *q;
    ngx_http_rbgv_auth_watch_t   *watch;
    ngx_http_rbgv_auth_worker_t  *worker;

    worker = subject->store->worker;

    if (ngx_queue_empty(&worker->free_watches)) {
        watch = ngx_palloc(worker->pool, sizeof(ngx_http_rbgv_auth_watch_t));
        if (watch == NULL) {
            return;
        }

    } else {
        q = ngx_queue_head(&worker->free_watches);
        ngx_queue_remove(q);
        watch = ngx_queue_data(q, ngx_http_rbgv_auth_watch_t, queue);
    }

    watch->subject = *subject;
    watch->due = ngx_min(due, ngx_http_rbgv_auth_now()
                              + NGX_HTTP_RBGV_AUTH_IDLE)
                 + NGX_HTTP_RBGV_AUTH_WATCH_GRACE;

    ngx_queue_insert_tail(&worker->watches, &watch->queue);

    if (!worker->watch_event.timer_set) {
        ngx_add_timer(&worker->watch_event, NGX_HTTP_RBGV_AUTH_WATCH_TIME);
    }
}


static void
ngx_http_rbgv_auth_watch_handler(ngx_event_t *ev)
{
    ngx_http_rbgv_auth_worker_t *worker = ev->data;

    ngx_msec_t                   now;
    ngx_queue_t                 *q, *next;
    ngx_http_rbgv_auth_watch_t  *watch;

    now = ngx_http_rbgv_auth_now();

    for (q = ngx_queue_head(&worker->watches);
         q != ngx_queue_sentinel(&worker->watches);
         q = next)
    {
        next = ngx_queue_next(q);

        watch = ngx_queue_data(q, ngx_http_rbgv_auth_watch_t, queue);

        if ((ngx_msec_int_t) (watch->due - now) <= 0) {
            ngx_http_rbgv_auth_look(watch, NGX_HTTP_RBGV_AUTH_REPORT_ENDED);
        }
    }

    if (!ngx_queue_empty(&worker->watches)) {
        ngx_add_timer(ev, NGX_HTTP_RBGV_AUTH_WATCH_TIME);
    }
}


static void
ngx_http_rbgv_auth_look(ngx_http_rbgv_auth_watch_t *watch,
    ngx_http_rbgv_auth_report_e what)
{
    ngx_http_rbgv_auth_report_t    report;
    ngx_http_rbgv_auth_worker_t   *worker;
    ngx_http_rbgv_auth_subject_t  *subject;

    subject = &watch->subject;
    worker = subject->store->worker;

    while (ngx_http_rbgv_auth_zone_report(worker->conf->zone,
                                          &subject->place, subject->node,
                                          subject->set, what, &report))
    {
        if (ngx_http_rbgv_auth_send_report(subject, &report) != NGX_OK) {
            watch->due = ngx_http_rbgv_auth_now()
                         + NGX_HTTP_RBGV_AUTH_WATCH_GRACE;
            return;
        }
    }

    if (report.ends) {
        watch->due = report.ends + NGX_HTTP_RBGV_AUTH_WATCH_GRACE;
        return;
    }

    ngx_queue_remove(&watch->queue);
    ngx_queue_insert_head(&worker->free_watches, &watch->queue);
}


/* a report that gets lost is not repeated: it may have been executed */

static ngx_int_t
ngx_http_rbgv_auth_send_report(ngx_http_rbgv_auth_subject_t *subject,
    ngx_http_rbgv_auth_report_t *report)
{
    ngx_uint_t                 i;
    ngx_http_rbgv_auth_args_t  args;

    ngx_http_rbgv_auth_arg_script(&args, subject);

    ngx_http_rbgv_auth_arg_integer(&args, 0);
    ngx_http_rbgv_auth_arg_integer(&args, 0);
    ngx_http_rbgv_auth_arg_integer(&args, subject->cost);
    ngx_http_rbgv_auth_arg_integer(&args, 0);
    ngx_http_rbgv_auth_arg_integer(&args, report->unused);
    ngx_http_rbgv_auth_arg_integer(&args, report->granted);
    ngx_http_rbgv_auth_arg_integer(&args, report->nsecrets);

    for (i = 0; i < report->nsecrets; i++) {
        ngx_http_rbgv_auth_arg_secret(&args, report->digest[i],
                                      report->used[i]);
    }

    ngx_http_rbgv_auth_arg_windows(&args, subject);
    ngx_http_rbgv_auth_arg_more(&args, subject, report, "");

    if (ngx_rbgv_store_command(subject->store->redis,
                           NGX_HTTP_RBGV_AUTH_NAME_ARG,
                           ngx_current_msec + subject->store->conf->timeout,
                           ngx_http_rbgv_auth_report_handler, subject->store,
                           args.argc, args.argv, args.argvlen)
        != NGX_OK)
    {
        ngx_http_rbgv_auth_retract(subject, report);
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static void
ngx_http_rbgv_auth_retract(ngx_http_rbgv_auth_subject_t *subject,
    ngx_http_rbgv_auth_report_t *report)
{
    ngx_http_rbgv_auth_zone_retract(subject->store->worker->conf->zone,
                                    &subject->place, subject->node,
                                    subject->set, report);
}


static void
ngx_http_rbgv_auth_report_handler(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_http_rbgv_auth_store_t *store = data;

    if (reply && reply->type != NGX_RBGV_REDIS_ARRAY) {
        ngx_http_rbgv_auth_bad_reply(store, reply, "EVALSHA");
    }
}


/* the worker quits: what this worker watches over is told and given back */

static void
ngx_http_rbgv_auth_quit(void *data)
{
    ngx_http_rbgv_auth_store_t *store = data;

    ngx_queue_t                 *q, *next;
    ngx_http_rbgv_auth_watch_t  *watch;

    for (q = ngx_queue_head(&store->worker->watches);
         q != ngx_queue_sentinel(&store->worker->watches);
         q = next)
    {
        next = ngx_queue_next(q);

        watch = ngx_queue_data(q, ngx_http_rbgv_auth_watch_t, queue);

        if (watch->subject.store == store) {
            ngx_http_rbgv_auth_look(watch, NGX_HTTP_RBGV_AUTH_REPORT_ALL);
        }
    }
}


static void
ngx_http_rbgv_auth_arg_script(ngx_http_rbgv_auth_args_t *args,
    ngx_http_rbgv_auth_subject_t *subject)
{
    size_t  len;

    args->argc = 0;
    args->last = args->text;

    ngx_http_rbgv_auth_arg(args, "EVALSHA", 7);
    ngx_http_rbgv_auth_arg(args, RBGV_COUNT_SHA1, sizeof(RBGV_COUNT_SHA1) - 1);
    ngx_http_rbgv_auth_arg(args, "1", 1);

    len = ngx_http_rbgv_auth_name(subject->store, &subject->place, RBGV_USE,
                                  args->last);

    ngx_http_rbgv_auth_arg(args, args->last, len);
    args->last += len;

    ngx_http_rbgv_auth_arg(args, args->integers, 0);
}


static void
ngx_http_rbgv_auth_arg_secret(ngx_http_rbgv_auth_args_t *args,
    u_char *digest, uint32_t used)
{
    u_char  *p;

    ngx_http_rbgv_auth_arg_integer(args, used);

    p = args->last;

    args->last = ngx_cpymem(p, RBGV_USE_SECRET, sizeof(RBGV_USE_SECRET) - 1);
    args->last = ngx_hex_dump(args->last, digest, 8);

    ngx_http_rbgv_auth_arg(args, p, args->last - p);
}


static void
ngx_http_rbgv_auth_arg_windows(ngx_http_rbgv_auth_args_t *args,
    ngx_http_rbgv_auth_subject_t *subject)
{
    u_char                       *p;
    ngx_uint_t                    i;
    ngx_http_rbgv_auth_window_t  *w;

    for (i = 0; i < subject->nwindows; i++) {
        w = &subject->windows[i];

        ngx_http_rbgv_auth_arg_integer(args, w->limit.quota);
        ngx_http_rbgv_auth_arg_integer(args, w->limit.window);

        p = args->last;

        args->last = ngx_sprintf(p, "w:%V:%uD", &w->name, w->limit.window);

        ngx_http_rbgv_auth_arg(args, p, args->last - p);
    }
}


static void
ngx_http_rbgv_auth_arg_more(ngx_http_rbgv_auth_args_t *args,
    ngx_http_rbgv_auth_subject_t *subject,
    ngx_http_rbgv_auth_report_t *report, const char *first)
{
    u_char  *p;

    p = args->last;

    args->last = ngx_cpymem(p, first, ngx_strlen(first));

    if (report->limited) {
        args->last = ngx_sprintf(args->last, "limited=%uD ", report->limited);
    }

    if (report->broke) {
        args->last = ngx_sprintf(args->last, "credits=%uD ", report->broke);
    }

    if (report->jobs) {
        args->last = ngx_sprintf(args->last, "job=%uD ", report->jobs);
    }

    if (report->refund) {
        args->last = ngx_sprintf(args->last, "refund=%uL ", report->refund);
    }

    if (subject->price) {
        args->last = ngx_sprintf(args->last, "price=%uD balance=%uL ",
                                 subject->price, subject->balance);

        if (subject->spare) {
            args->last = ngx_cpymem(args->last, "spare=1 ", 8);
        }
    }

    /* a watch may be older than the second secret */

    if (report->nsecrets > 1 || (report->nsecrets == 0 && subject->hours)) {
        args->last = ngx_cpymem(args->last, "hours=1", 7);
    }

    if (args->last != p) {
        ngx_http_rbgv_auth_arg(args, p, args->last - p);
    }
}


static void
ngx_http_rbgv_auth_arg_integer(ngx_http_rbgv_auth_args_t *args, uint64_t n)
{
    u_char      *p;
    ngx_uint_t   i;

    p = args->integers + args->argvlen[NGX_HTTP_RBGV_AUTH_INTEGERS_ARG];

    for (i = 0; i < 8; i++) {
        p[i] = (u_char) (n >> 8 * i);
    }

    args->argvlen[NGX_HTTP_RBGV_AUTH_INTEGERS_ARG] += 8;
}


static void
ngx_http_rbgv_auth_arg(ngx_http_rbgv_auth_args_t *args, const void *data,
    size_t len)
{
    args->argv[args->argc] = data;
    args->argvlen[args->argc] = len;
    args->argc++;
}
