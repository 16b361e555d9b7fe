
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * The record of a key: from the zone, or read from Redis once for all who
 * want it, and judged.  The schema is described in docs/redis.md.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_rbgv_auth.h"
#include "rbgv_schema.h"


#define NGX_HTTP_RBGV_AUTH_BUSY      2       /* milliseconds */
#define NGX_HTTP_RBGV_AUTH_VERIFIED  1000    /* milliseconds */


/* a read under way: of a record, and of rbgv:meta if there is none */

typedef struct {
    ngx_queue_t                    queue;
    ngx_queue_t                    waiters;
    ngx_http_rbgv_auth_store_t    *store;
    ngx_http_rbgv_auth_place_t     place;
    ngx_http_rbgv_auth_ticket_t    ticket;
    ngx_msec_t                     deadline;
    ngx_uint_t                     keep;       /* the zone is trusted */
    ngx_uint_t                     gone;       /* there is no record */
} ngx_http_rbgv_auth_lookup_t;


static ngx_http_rbgv_auth_lookup_t *ngx_http_rbgv_auth_find_lookup(
    ngx_http_rbgv_auth_ctx_t *ctx, ngx_http_rbgv_auth_ticket_t *ticket);
static ngx_http_rbgv_auth_lookup_t *ngx_http_rbgv_auth_start_lookup(
    ngx_http_rbgv_auth_ctx_t *ctx, ngx_http_rbgv_auth_ticket_t *ticket,
    ngx_uint_t keep);
static void ngx_http_rbgv_auth_end_lookup(ngx_http_rbgv_auth_lookup_t *lookup,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_wait_busy(ngx_http_rbgv_auth_ctx_t *ctx);
static void ngx_http_rbgv_auth_busy_handler(ngx_event_t *ev);
static ngx_int_t ngx_http_rbgv_auth_send_lookup(
    ngx_http_rbgv_auth_lookup_t *lookup);
static void ngx_http_rbgv_auth_lookup_handler(void *data,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_unknown(ngx_http_rbgv_auth_lookup_t *lookup);
static void ngx_http_rbgv_auth_refuse_all(ngx_http_rbgv_auth_lookup_t *lookup,
    ngx_http_rbgv_auth_status_e status, const char *reason);
static ngx_int_t ngx_http_rbgv_auth_send_meta(
    ngx_http_rbgv_auth_lookup_t *lookup);
static void ngx_http_rbgv_auth_meta_handler(void *data,
    ngx_rbgv_redis_reply_t *reply);
static ngx_int_t ngx_http_rbgv_auth_match(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_record_t *record);
static ngx_int_t ngx_http_rbgv_auth_match_digest(
    ngx_http_rbgv_auth_ctx_t *ctx, ngx_http_rbgv_auth_record_t *record,
    u_char *digest);
static ngx_int_t ngx_http_rbgv_auth_take_text(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_record_t *record, u_char *text);
static ngx_uint_t ngx_http_rbgv_auth_is_record(ngx_rbgv_redis_reply_t *reply);
static ngx_int_t ngx_http_rbgv_auth_read_record(ngx_rbgv_redis_reply_t *reply,
    ngx_http_rbgv_auth_record_t *record, u_char *text);
static ngx_int_t ngx_http_rbgv_auth_read_secret(
    ngx_http_rbgv_auth_record_t *record, u_char *hex, ngx_str_t *value);
static ngx_int_t ngx_http_rbgv_auth_read_limit(
    ngx_http_rbgv_auth_record_t *record, u_char *text, ngx_str_t *name,
    ngx_str_t *value);
static ngx_int_t ngx_http_rbgv_auth_add_text(
    ngx_http_rbgv_auth_record_t *record, u_char *text, const void *data,
    size_t len);
static ngx_uint_t ngx_http_rbgv_auth_is(ngx_str_t *value, const char *text);


void
ngx_http_rbgv_auth_lookup_init(ngx_http_rbgv_auth_worker_t *worker)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_RBGV_AUTH_BUCKETS; i++) {
        ngx_queue_init(&worker->lookups[i]);
    }

    ngx_queue_init(&worker->free_lookups);
    ngx_queue_init(&worker->busy);

    worker->busy_event.handler = ngx_http_rbgv_auth_busy_handler;
    worker->busy_event.data = worker;
    worker->busy_event.log = ngx_cycle->log;
}


void
ngx_http_rbgv_auth_lookup(ngx_http_rbgv_auth_ctx_t *ctx)
{
    u_char                        text[NGX_HTTP_RBGV_AUTH_TEXT];
    ngx_int_t                     rc;
    ngx_http_rbgv_auth_record_t   record;
    ngx_http_rbgv_auth_ticket_t   ticket;
    ngx_http_rbgv_auth_lookup_t  *lookup;

    ctx->stale = 0;

    if (ctx->store->channel) {
        ngx_http_rbgv_auth_channel_use(ctx->store->channel);
    }

    ctx->now = ngx_http_rbgv_auth_now();

    rc = ngx_http_rbgv_auth_zone_find(ctx->store->worker->conf->zone, ctx->now,
                                      &ctx->place, &record, text, &ctx->node,
                                      &ticket);

    switch (rc) {

    case NGX_OK:
        ctx->source = NGX_HTTP_RBGV_AUTH_ZONE;
        ngx_http_rbgv_auth_judge_record(ctx, &record, text);
        return;

    case NGX_DECLINED:
        ctx->source = NGX_HTTP_RBGV_AUTH_ZONE;
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_INVALID,
                                   "unknown key");
        return;

    default:
        break;
    }

    lookup = ngx_http_rbgv_auth_find_lookup(ctx, &ticket);

    if (lookup == NULL && rc == NGX_BUSY) {
        ngx_http_rbgv_auth_wait_busy(ctx);
        return;
    }

    if (lookup == NULL) {
        lookup = ngx_http_rbgv_auth_start_lookup(ctx, &ticket,
                                                 rc == NGX_AGAIN);
    }

    if (lookup == NULL
        || ngx_http_rbgv_auth_wait(ctx, &lookup->waiters) != NGX_OK)
    {
        ngx_http_rbgv_auth_unread(ctx, NULL);
    }
}


/* a read that was sent before an invalidation is not joined after it */

static ngx_http_rbgv_auth_lookup_t *
ngx_http_rbgv_auth_find_lookup(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_ticket_t *ticket)
{
    ngx_queue_t                  *q, *bucket;
    ngx_http_rbgv_auth_lookup_t  *lookup;

    bucket = &ctx->store->worker->lookups[ctx->place.id[0]
                                          % NGX_HTTP_RBGV_AUTH_BUCKETS];

    for (q = ngx_queue_head(bucket);
         q != ngx_queue_sentinel(bucket);
         q = ngx_queue_next(q))
    {
        lookup = ngx_queue_data(q, ngx_http_rbgv_auth_lookup_t, queue);

        if (lookup->store == ctx->store
            && lookup->ticket.epoch == ticket->epoch
            && lookup->ticket.invalidations == ticket->invalidations
            && ngx_memcmp(lookup->place.id, ctx->place.id, RBGV_ID_LEN) == 0)
        {
            return lookup;
        }
    }

    return NULL;
}


static ngx_http_rbgv_auth_lookup_t *
ngx_http_rbgv_auth_start_lookup(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_ticket_t *ticket, ngx_uint_t keep)
{
    ngx_queue_t                  *q;
    ngx_http_rbgv_auth_lookup_t  *lookup;
    ngx_http_rbgv_auth_worker_t  *worker;

    worker = ctx->store->worker;

    if (ngx_queue_empty(&worker->free_lookups)) {
        lookup = ngx_palloc(worker->pool, sizeof(ngx_http_rbgv_auth_lookup_t));
        if (lookup == NULL) {
            return NULL;
        }

    } else {
        q = ngx_queue_head(&worker->free_lookups);
        ngx_queue_remove(q);
        lookup = ngx_queue_data(q, ngx_http_rbgv_auth_lookup_t, queue);
    }

    ngx_queue_init(&lookup->waiters);

    lookup->store = ctx->store;
    lookup->place = ctx->place;
    lookup->deadline = ctx->deadline;
    lookup->keep = keep;
    lookup->gone = 0;
    lookup->ticket = *ticket;

    if (ngx_http_rbgv_auth_send_lookup(lookup) != NGX_OK) {
        ngx_queue_insert_head(&worker->free_lookups, &lookup->queue);

        if (keep) {
            ngx_http_rbgv_auth_zone_unread(worker->conf->zone, &ctx->place);
        }

        return NULL;
    }

    ngx_queue_insert_tail(&worker->lookups[lookup->place.id[0]
                                           % NGX_HTTP_RBGV_AUTH_BUCKETS],
                          &lookup->queue);

    return lookup;
}


/* all waiters have been taken out, but for those that get no reply */

static void
ngx_http_rbgv_auth_end_lookup(ngx_http_rbgv_auth_lookup_t *lookup,
    ngx_rbgv_redis_reply_t *reply)
{
    ngx_queue_t                  *q;
    ngx_http_rbgv_auth_ctx_t     *ctx;
    ngx_http_rbgv_auth_worker_t  *worker;

    worker = lookup->store->worker;

    ngx_queue_remove(&lookup->queue);

    while (!ngx_queue_empty(&lookup->waiters)) {
        q = ngx_queue_head(&lookup->waiters);
        ctx = ngx_http_rbgv_auth_woken(q);

        if (lookup->gone) {
            ngx_http_rbgv_auth_unavailable(ctx, reply);

        } else {
            ngx_http_rbgv_auth_unread(ctx, reply);
        }
    }

    ngx_queue_insert_head(&worker->free_lookups, &lookup->queue);
}


/* workers have no way to call each other: look again in a moment */

static void
ngx_http_rbgv_auth_wait_busy(ngx_http_rbgv_auth_ctx_t *ctx)
{
    ngx_http_rbgv_auth_worker_t  *worker;

    worker = ctx->store->worker;

    if (ngx_http_rbgv_auth_wait(ctx, &worker->busy) != NGX_OK) {
        ngx_http_rbgv_auth_unread(ctx, NULL);
        return;
    }

    if (!worker->busy_event.timer_set) {
        ngx_add_timer(&worker->busy_event, NGX_HTTP_RBGV_AUTH_BUSY);
    }
}


static void
ngx_http_rbgv_auth_busy_handler(ngx_event_t *ev)
{
    ngx_http_rbgv_auth_worker_t *worker = ev->data;

    ngx_queue_t               *q, queue;
    ngx_http_rbgv_auth_ctx_t  *ctx;

    if (ngx_queue_empty(&worker->busy)) {
        return;
    }

    ngx_queue_init(&queue);
    ngx_queue_add(&queue, &worker->busy);
    ngx_queue_init(&worker->busy);

    while (!ngx_queue_empty(&queue)) {
        q = ngx_queue_head(&queue);
        ctx = ngx_http_rbgv_auth_woken(q);

        if ((ngx_msec_int_t) (ctx->deadline - ngx_current_msec) <= 0) {
            ngx_http_rbgv_auth_unread(ctx, NULL);
            continue;
        }

        ngx_http_rbgv_auth_lookup(ctx);
    }
}


static ngx_int_t
ngx_http_rbgv_auth_send_lookup(ngx_http_rbgv_auth_lookup_t *lookup)
{
    u_char       name[NGX_HTTP_RBGV_AUTH_NAME_LEN];
    size_t       argvlen[2];
    const char  *argv[2];

    argv[0] = "HGETALL";
    argvlen[0] = 7;
    argv[1] = (const char *) name;
    argvlen[1] = ngx_http_rbgv_auth_name(lookup->store, &lookup->place,
                                         RBGV_KEY, name);

    return ngx_rbgv_store_command(lookup->store->redis, 1, lookup->deadline,
                                  ngx_http_rbgv_auth_lookup_handler, lookup,
                                  2, argv, argvlen);
}


static void
ngx_http_rbgv_auth_lookup_handler(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_http_rbgv_auth_lookup_t *lookup = data;

    u_char                        text[NGX_HTTP_RBGV_AUTH_TEXT_MAX];
    uint32_t                      node;
    ngx_queue_t                  *q;
    ngx_http_rbgv_auth_ctx_t     *ctx;
    ngx_http_rbgv_auth_zone_t    *zone;
    ngx_http_rbgv_auth_record_t   record;

    zone = lookup->store->worker->conf->zone;

    /* whoever comes now has to read anew */
    ngx_queue_remove(&lookup->queue);
    ngx_queue_init(&lookup->queue);

    if (reply == NULL || !ngx_http_rbgv_auth_is_record(reply)) {

        if (lookup->keep) {
            ngx_http_rbgv_auth_zone_unread(zone, &lookup->place);
        }

        ngx_http_rbgv_auth_bad_reply(lookup->store, reply, "HGETALL");
        ngx_http_rbgv_auth_end_lookup(lookup, reply);
        return;
    }

    /* it may be from a server that has been replaced: no epoch is 0 */

    if (!ngx_rbgv_store_steady(lookup->store->redis)) {
        lookup->ticket.epoch = 0;
    }

    if (reply->nelts == 0) {
        ngx_http_rbgv_auth_unknown(lookup);
        return;
    }

    if (ngx_http_rbgv_auth_read_record(reply, &record, text) != NGX_OK) {

        ngx_http_rbgv_auth_zone_invalidate(zone, &lookup->place);

        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "rbgv_auth: the record of key \"%*s\" is malformed",
                      (size_t) RBGV_ID_LEN, lookup->place.id);

        ngx_http_rbgv_auth_refuse_all(lookup, NGX_HTTP_RBGV_AUTH_UNAVAILABLE,
                                      "malformed record");
        return;
    }

    node = ngx_http_rbgv_auth_zone_keep(zone, &lookup->place, &record, text,
                                        &lookup->ticket);

    while (!ngx_queue_empty(&lookup->waiters)) {
        q = ngx_queue_head(&lookup->waiters);

        ctx = ngx_http_rbgv_auth_woken(q);

        ctx->source = NGX_HTTP_RBGV_AUTH_REDIS;
        ctx->node = node;

        ngx_http_rbgv_auth_judge_record(ctx, &record, text);
    }

    ngx_http_rbgv_auth_end_lookup(lookup, NULL);
}


/* an empty or foreign store knows no key: it must not be reported as 401 */

static void
ngx_http_rbgv_auth_unknown(ngx_http_rbgv_auth_lookup_t *lookup)
{
    ngx_http_rbgv_auth_store_t  *store;

    store = lookup->store;
    lookup->gone = 1;

    if (store->verified == 0
        || ngx_current_msec - store->verified > NGX_HTTP_RBGV_AUTH_VERIFIED
        || store->epoch != lookup->ticket.epoch
        || store->epoch != ngx_http_rbgv_auth_zone_epoch(
                                store->worker->conf->zone, store->index)
        || !ngx_http_rbgv_auth_zone_trusted(store->worker->conf->zone,
                                            store->index))
    {
        /* of an empty store nothing is kept: nobody is to wait for it */

        if (lookup->keep) {
            ngx_http_rbgv_auth_zone_unread(store->worker->conf->zone,
                                           &lookup->place);
        }

        if (ngx_http_rbgv_auth_send_meta(lookup) != NGX_OK) {
            ngx_http_rbgv_auth_end_lookup(lookup, NULL);
        }

        return;
    }

    (void) ngx_http_rbgv_auth_zone_keep(store->worker->conf->zone,
                                        &lookup->place, NULL, NULL,
                                        &lookup->ticket);

    ngx_http_rbgv_auth_refuse_all(lookup, NGX_HTTP_RBGV_AUTH_INVALID,
                                  "unknown key");
}


static void
ngx_http_rbgv_auth_refuse_all(ngx_http_rbgv_auth_lookup_t *lookup,
    ngx_http_rbgv_auth_status_e status, const char *reason)
{
    ngx_queue_t               *q;
    ngx_http_rbgv_auth_ctx_t  *ctx;

    while (!ngx_queue_empty(&lookup->waiters)) {
        q = ngx_queue_head(&lookup->waiters);

        ctx = ngx_http_rbgv_auth_woken(q);

        ctx->source = NGX_HTTP_RBGV_AUTH_REDIS;

        ngx_http_rbgv_auth_decided(ctx, status, reason);
    }

    ngx_http_rbgv_auth_end_lookup(lookup, NULL);
}


static ngx_int_t
ngx_http_rbgv_auth_send_meta(ngx_http_rbgv_auth_lookup_t *lookup)
{
    u_char       name[NGX_HTTP_RBGV_AUTH_NAME_LEN], *last;
    size_t       argvlen[3];
    const char  *argv[3];

    last = ngx_sprintf(name, "%V%s", &lookup->store->worker->conf->prefix,
                       RBGV_META);

    argv[0] = "HGET";
    argvlen[0] = 4;
    argv[1] = (const char *) name;
    argvlen[1] = last - name;
    argv[2] = RBGV_META_SCHEMA;
    argvlen[2] = sizeof(RBGV_META_SCHEMA) - 1;

    return ngx_rbgv_store_command(lookup->store->redis, 1, lookup->deadline,
                                  ngx_http_rbgv_auth_meta_handler, lookup,
                                  3, argv, argvlen);
}


static void
ngx_http_rbgv_auth_meta_handler(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_http_rbgv_auth_lookup_t *lookup = data;

    if (reply == NULL || (reply->type != NGX_RBGV_REDIS_STRING
                          && reply->type != NGX_RBGV_REDIS_NIL))
    {
        ngx_http_rbgv_auth_bad_reply(lookup->store, reply, "HGET");
        ngx_http_rbgv_auth_end_lookup(lookup, reply);
        return;
    }

    if (reply->type == NGX_RBGV_REDIS_STRING
        && ngx_http_rbgv_auth_is(&reply->str, RBGV_SCHEMA_VERSION))
    {
        lookup->store->verified = ngx_current_msec ? ngx_current_msec : 1;
        lookup->store->epoch = lookup->ticket.epoch;

        (void) ngx_http_rbgv_auth_zone_keep(lookup->store->worker->conf->zone,
                                            &lookup->place, NULL, NULL,
                                            &lookup->ticket);

        ngx_http_rbgv_auth_refuse_all(lookup, NGX_HTTP_RBGV_AUTH_INVALID,
                                      "unknown key");
        return;
    }

    if (!ngx_http_rbgv_auth_told(lookup->store, RBGV_META,
                                 &lookup->store->conf->name))
    {
        ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, 0,
                      "rbgv_auth: the store \"%V\" is empty or foreign, "
                      "see \"rbgvctl init\"", &lookup->store->conf->name);
    }

    ngx_http_rbgv_auth_refuse_all(lookup, NGX_HTTP_RBGV_AUTH_UNAVAILABLE,
                                  "empty or foreign store");
}


/* whoever has no secret of this key learns nothing about it */

void
ngx_http_rbgv_auth_judge_record(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_record_t *record, u_char *text)
{
    int64_t     expires;
    ngx_int_t   rc;

    rc = ngx_http_rbgv_auth_match(ctx, record);

    if (rc == NGX_DECLINED) {
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_INVALID,
                                   "wrong secret");
        return;
    }

    if (rc != NGX_OK) {
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_UNAVAILABLE,
                                   "OpenSSL failed");
        return;
    }

    if (ngx_http_rbgv_auth_take_text(ctx, record, text) != NGX_OK) {
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_UNAVAILABLE,
                                   "no memory");
        return;
    }

    ctx->recorded = 1;
    ctx->nsecrets = record->nsecrets;
    ctx->balance = ngx_max(record->credits, 0);
    ctx->prepaid = (record->credits >= 0);

    if (record->disabled || record->secret_disabled[ctx->secret]) {
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_DISABLED,
                                   record->disabled ? "disabled key"
                                                    : "disabled secret");
        return;
    }

    if (record->expires && record->expires <= (int64_t) ngx_time()) {
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_EXPIRED,
                                   "expired key");
        return;
    }

    expires = record->secret_expires[ctx->secret];

    if (expires && expires <= (int64_t) ngx_time()) {
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_EXPIRED,
                                   "expired secret");
        return;
    }

    ngx_http_rbgv_auth_judge(ctx);
}


/* NGX_DECLINED: the key is none of the secrets, by whatever pepper */

static ngx_int_t
ngx_http_rbgv_auth_match(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_record_t *record)
{
    u_char     previous[RBGV_DIGEST_LEN];
    ngx_int_t  rc;

    if (ngx_http_rbgv_auth_match_digest(ctx, record, ctx->current) == NGX_OK) {
        return NGX_OK;
    }

    rc = ngx_http_rbgv_auth_previous_digest(ctx, previous);

    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_rbgv_auth_match_digest(ctx, record, previous) != NGX_OK) {
        return NGX_DECLINED;
    }

    ngx_http_rbgv_auth_zone_tally(ctx->store->worker->conf->zone,
                                  NGX_HTTP_RBGV_AUTH_PREVIOUS_PEPPER);

    return NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_match_digest(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_record_t *record, u_char *digest)
{
    ngx_uint_t  i, found;

    found = record->nsecrets;

    for (i = 0; i < record->nsecrets; i++) {
        if (rbgv_equal(record->digest[i], digest, RBGV_DIGEST_LEN)) {
            found = i;
        }
    }

    if (found == record->nsecrets) {
        return NGX_DECLINED;
    }

    ctx->secret = found;
    ngx_memcpy(ctx->digest, digest, RBGV_DIGEST_LEN);

    return NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_take_text(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_record_t *record, u_char *text)
{
    u_char  *p;

    p = ngx_pnalloc(ctx->request->pool, record->text_len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(p, text, record->text_len);

    ctx->name.data = p;
    ctx->name.len = record->name_len;
    p += record->name_len;

    ctx->environment.data = p;
    ctx->environment.len = record->environment_len;
    p += record->environment_len;

    ctx->owner.data = p;
    ctx->owner.len = record->owner_len;
    p += record->owner_len;

    ctx->limits = p;
    ctx->nlimits = record->nlimits;

    return NGX_OK;
}


static ngx_uint_t
ngx_http_rbgv_auth_is_record(ngx_rbgv_redis_reply_t *reply)
{
    ngx_uint_t  i;

    if (reply->type != NGX_RBGV_REDIS_ARRAY || reply->nelts % 2) {
        return 0;
    }

    for (i = 0; i < reply->nelts; i++) {
        if (reply->elts[i]->type != NGX_RBGV_REDIS_STRING) {
            return 0;
        }
    }

    return 1;
}


static ngx_int_t
ngx_http_rbgv_auth_read_record(ngx_rbgv_redis_reply_t *reply,
    ngx_http_rbgv_auth_record_t *record, u_char *text)
{
    ngx_str_t   *field, *value, name, environment, owner, status, rest;
    ngx_uint_t   i;

    ngx_str_null(&name);
    ngx_str_null(&environment);
    ngx_str_set(&owner, "");
    ngx_str_null(&status);

    ngx_memzero(record, sizeof(ngx_http_rbgv_auth_record_t));
    record->credits = -1;

    for (i = 0; i < reply->nelts; i += 2) {
        field = &reply->elts[i]->str;
        value = &reply->elts[i + 1]->str;

        if (ngx_http_rbgv_auth_is(field, RBGV_FIELD_NAME)) {
            name = *value;

        } else if (ngx_http_rbgv_auth_is(field, RBGV_FIELD_ENVIRONMENT)) {
            environment = *value;

        } else if (ngx_http_rbgv_auth_is(field, RBGV_FIELD_OWNER)) {
            owner = *value;

        } else if (ngx_http_rbgv_auth_is(field, RBGV_FIELD_STATUS)) {
            status = *value;

        } else if (ngx_http_rbgv_auth_is(field, RBGV_FIELD_EXPIRES)) {
            record->expires = ngx_atotm(value->data, value->len);

            if (record->expires == NGX_ERROR) {
                return NGX_ERROR;
            }

        } else if (ngx_http_rbgv_auth_is(field, RBGV_FIELD_CREDITS)) {
            record->credits = ngx_atotm(value->data, value->len);

            if (record->credits == NGX_ERROR) {
                return NGX_ERROR;
            }

        } else if (field->len == sizeof(RBGV_FIELD_SECRET) - 1
                                 + RBGV_DIGEST_HEX
                   && ngx_strncmp(field->data, RBGV_FIELD_SECRET,
                                  sizeof(RBGV_FIELD_SECRET) - 1)
                      == 0)
        {
            if (ngx_http_rbgv_auth_read_secret(record, field->data
                                     + sizeof(RBGV_FIELD_SECRET) - 1, value)
                != NGX_OK)
            {
                return NGX_ERROR;
            }
        }
    }

    if (name.len == 0 || name.len > 255 || owner.len > 255
        || !rbgv_environment_valid((const char *) environment.data,
                                   environment.len))
    {
        return NGX_ERROR;
    }

    if (ngx_http_rbgv_auth_is(&status, RBGV_DISABLED)) {
        record->disabled = 1;

    } else if (!ngx_http_rbgv_auth_is(&status, RBGV_ACTIVE)) {
        return NGX_ERROR;
    }

    record->name_len = name.len;
    record->environment_len = environment.len;
    record->owner_len = owner.len;

    if (ngx_http_rbgv_auth_add_text(record, text, name.data, name.len)
        != NGX_OK
        || ngx_http_rbgv_auth_add_text(record, text, environment.data,
                                       environment.len)
           != NGX_OK
        || ngx_http_rbgv_auth_add_text(record, text, owner.data, owner.len)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < reply->nelts; i += 2) {
        field = &reply->elts[i]->str;

        if (field->len > sizeof(RBGV_FIELD_LIMIT) - 1
            && ngx_strncmp(field->data, RBGV_FIELD_LIMIT,
                           sizeof(RBGV_FIELD_LIMIT) - 1)
               == 0)
        {
            rest.data = field->data + sizeof(RBGV_FIELD_LIMIT) - 1;
            rest.len = field->len - (sizeof(RBGV_FIELD_LIMIT) - 1);

            if (ngx_http_rbgv_auth_read_limit(record, text, &rest,
                                              &reply->elts[i + 1]->str)
                != NGX_OK)
            {
                return NGX_ERROR;
            }
        }
    }

    return NGX_OK;
}


/*
 * "<status> <created> <expires or 0>".  A field whose digest is not one in
 * lower case is nobody's.
 */

static ngx_int_t
ngx_http_rbgv_auth_read_secret(ngx_http_rbgv_auth_record_t *record,
    u_char *hex, ngx_str_t *value)
{
    u_char      *p, *last, digest[RBGV_DIGEST_LEN];
    ngx_int_t    n;
    ngx_str_t    status;
    ngx_uint_t   i, k;

    for (i = 0; i < RBGV_DIGEST_LEN; i++) {
        n = ngx_hextoi(hex + 2 * i, 2);

        if (n == NGX_ERROR || (hex[2 * i] >= 'A' && hex[2 * i] <= 'F')
            || (hex[2 * i + 1] >= 'A' && hex[2 * i + 1] <= 'F'))
        {
            return NGX_OK;
        }

        digest[i] = (u_char) n;
    }

    k = record->nsecrets++;

    if (k == NGX_HTTP_RBGV_AUTH_SECRETS) {
        return NGX_ERROR;
    }

    ngx_memcpy(record->digest[k], digest, RBGV_DIGEST_LEN);

    last = value->data + value->len;

    p = ngx_strlchr(value->data, last, ' ');
    if (p == NULL) {
        return NGX_ERROR;
    }

    status.data = value->data;
    status.len = p++ - value->data;

    if (ngx_http_rbgv_auth_is(&status, RBGV_DISABLED)) {
        record->secret_disabled[k] = 1;

    } else if (!ngx_http_rbgv_auth_is(&status, RBGV_ACTIVE)) {
        return NGX_ERROR;
    }

    value->len = last - p;
    value->data = p;

    p = ngx_strlchr(value->data, last, ' ');

    if (p == NULL
        || ngx_atotm(value->data, p - value->data) == NGX_ERROR)
    {
        return NGX_ERROR;
    }

    record->secret_expires[k] = ngx_atotm(p + 1, last - p - 1);

    return record->secret_expires[k] == NGX_ERROR ? NGX_ERROR : NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_read_limit(ngx_http_rbgv_auth_record_t *record,
    u_char *text, ngx_str_t *name, ngx_str_t *value)
{
    u_char        len;
    rbgv_limit_t  limit;

    if (!rbgv_limit_name_valid((const char *) name->data, name->len)
        || rbgv_limit_parse((const char *) value->data, value->len, &limit)
           != NULL)
    {
        return NGX_ERROR;
    }

    len = name->len;
    record->nlimits++;

    if (ngx_http_rbgv_auth_add_text(record, text, &len, 1) != NGX_OK
        || ngx_http_rbgv_auth_add_text(record, text, name->data, name->len)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_rbgv_auth_add_text(record, text, &limit,
                                       sizeof(rbgv_limit_t));
}


static ngx_int_t
ngx_http_rbgv_auth_add_text(ngx_http_rbgv_auth_record_t *record,
    u_char *text, const void *data, size_t len)
{
    if (record->text_len + len > NGX_HTTP_RBGV_AUTH_TEXT_MAX) {
        return NGX_ERROR;
    }

    if (len) {
        ngx_memcpy(text + record->text_len, data, len);
        record->text_len += len;
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_rbgv_auth_is(ngx_str_t *value, const char *text)
{
    size_t  len;

    len = ngx_strlen(text);

    return value->len == len && ngx_memcmp(value->data, text, len) == 0;
}


void
ngx_http_rbgv_auth_unavailable(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_rbgv_redis_reply_t *reply)
{
    ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_UNAVAILABLE,
                               ngx_http_rbgv_auth_failure(reply));
}


const char *
ngx_http_rbgv_auth_failure(ngx_rbgv_redis_reply_t *reply)
{
    if (reply == NULL) {
        return "no answer from redis";
    }

    if (reply->type == NGX_RBGV_REDIS_ERROR) {
        return "an error from redis";
    }

    return "an unexpected reply from redis";
}


void
ngx_http_rbgv_auth_bad_reply(ngx_http_rbgv_auth_store_t *store,
    ngx_rbgv_redis_reply_t *reply, const char *command)
{
    if (reply == NULL) {
        return;
    }

    if (reply->type == NGX_RBGV_REDIS_ERROR) {
        ngx_http_rbgv_auth_tally_error(store, NGX_HTTP_RBGV_AUTH_ERROR_REPLY);

        if (ngx_http_rbgv_auth_told(store, command, &reply->str)) {
            return;
        }

        ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, 0,
                      "rbgv_auth: redis \"%V\" refused \"%s\": \"%V\"",
                      ngx_rbgv_store_name(store->redis), command,
                      &reply->str);
        return;
    }

    ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, 0,
                  "rbgv_auth: redis \"%V\" answered \"%s\" with a reply of "
                  "another form", ngx_rbgv_store_name(store->redis), command);

    /* it is another command's, and so would be those that follow */

    ngx_rbgv_store_fail(store->redis, NGX_RBGV_REDIS_BAD_REPLY);
}


size_t
ngx_http_rbgv_auth_name(ngx_http_rbgv_auth_store_t *store,
    ngx_http_rbgv_auth_place_t *place, const char *kind, u_char *p)
{
    u_char     *last;
    ngx_str_t  *prefix;

    prefix = &store->worker->conf->prefix;

    last = ngx_cpymem(p, prefix->data, prefix->len);
    last = ngx_cpymem(last, kind, ngx_strlen(kind));
    *last++ = '{';
    last = ngx_cpymem(last, place->id, RBGV_ID_LEN);
    *last++ = '}';

    return last - p;
}
