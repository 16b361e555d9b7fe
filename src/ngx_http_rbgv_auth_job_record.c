
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Records of new jobs on their way to Redis.  A record belongs to the worker
 * and outlives the request that made the job: what cannot be stored at once is
 * sent again.  SET with NX and GET is safe to repeat, and takes no job from
 * the key that has it.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_rbgv_auth.h"
#include "rbgv_schema.h"


#define NGX_HTTP_RBGV_AUTH_JOB_RETRIES   4096    /* records, at most */
#define NGX_HTTP_RBGV_AUTH_JOB_BATCH     64      /* sent again at once */
#define NGX_HTTP_RBGV_AUTH_JOB_TICK      100     /* milliseconds */
#define NGX_HTTP_RBGV_AUTH_JOB_MIN       200     /* between two tries */
#define NGX_HTTP_RBGV_AUTH_JOB_MAX       10000   /* likewise */
#define NGX_HTTP_RBGV_AUTH_JOB_TIME      3600000 /* of all tries */
#define NGX_HTTP_RBGV_AUTH_JOB_QUIT      10000   /* of a worker that quits */


struct ngx_http_rbgv_auth_job_record_s {
    ngx_queue_t                    queue;      /* to be sent again, or free */
    ngx_http_rbgv_auth_ctx_t      *ctx;        /* NULL: nobody waits */
    ngx_http_rbgv_auth_store_t    *store;
    ngx_http_rbgv_auth_place_t     place;      /* of the key */
    ngx_str_t                      id;
    u_char                         text[NGX_HTTP_RBGV_AUTH_JOB_LEN];
    time_t                         ttl;        /* seconds */
    ngx_msec_t                     pause;      /* 0: is not tried again */
    ngx_msec_t                     due;
    ngx_msec_t                     ends;
};


static ngx_http_rbgv_auth_job_record_t *ngx_http_rbgv_auth_alloc_job_record(
    ngx_http_rbgv_auth_worker_t *worker);
static ngx_int_t ngx_http_rbgv_auth_send_job_record(
    ngx_http_rbgv_auth_job_record_t *record, ngx_msec_t deadline);
static void ngx_http_rbgv_auth_job_record_handler(void *data,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_judge_job_record(
    ngx_http_rbgv_auth_job_record_t *record, ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_retry_job_record(
    ngx_http_rbgv_auth_job_record_t *record);
static void ngx_http_rbgv_auth_job_event_handler(ngx_event_t *ev);
static void ngx_http_rbgv_auth_end_job_record(
    ngx_http_rbgv_auth_job_record_t *record,
    ngx_http_rbgv_auth_job_result_e result);
static void ngx_http_rbgv_auth_tally_job_record(
    ngx_http_rbgv_auth_worker_t *worker,
    ngx_http_rbgv_auth_job_result_e result);
static void ngx_http_rbgv_auth_log_job_record(ngx_uint_t level,
    ngx_http_rbgv_auth_job_record_t *record, const char *what);


void
ngx_http_rbgv_auth_job_record_init(ngx_http_rbgv_auth_worker_t *worker)
{
    ngx_queue_init(&worker->job_records);
    ngx_queue_init(&worker->free_job_records);

    /* not cancelable: a worker that quits stays a while for what is left */

    worker->job_event.handler = ngx_http_rbgv_auth_job_event_handler;
    worker->job_event.data = worker;
    worker->job_event.log = ngx_cycle->log;
}


/* after the clients of Redis have gone, and with them what was under way */

void
ngx_http_rbgv_auth_job_record_done(ngx_http_rbgv_auth_worker_t *worker)
{
    ngx_queue_t                      *q;
    ngx_http_rbgv_auth_job_record_t  *record;

    while (!ngx_queue_empty(&worker->job_records)) {
        q = ngx_queue_head(&worker->job_records);
        ngx_queue_remove(q);

        record = ngx_queue_data(q, ngx_http_rbgv_auth_job_record_t, queue);

        ngx_http_rbgv_auth_end_job_record(record, NGX_HTTP_RBGV_AUTH_JOB_LOST);
    }

    if (worker->job_event.timer_set) {
        ngx_del_timer(&worker->job_event);
    }
}


ngx_int_t
ngx_http_rbgv_auth_record_job(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_msec_t deadline)
{
    ngx_http_rbgv_auth_job_record_t  *record;

    record = (ngx_http_rbgv_auth_tie(ctx) == NGX_OK)
                 ? ngx_http_rbgv_auth_alloc_job_record(ctx->store->worker)
                 : NULL;

    if (record == NULL) {
        ngx_http_rbgv_auth_tally_job_record(ctx->store->worker,
                                            NGX_HTTP_RBGV_AUTH_JOB_LOST);
        return NGX_ERROR;
    }

    record->ctx = NULL;
    record->store = ctx->store;
    record->place = ctx->place;
    record->ttl = ctx->recorder->job_ttl;
    record->pause = 0;
    record->ends = ngx_current_msec
                   + ngx_min((ngx_msec_t) record->ttl * 1000,
                             NGX_HTTP_RBGV_AUTH_JOB_TIME);

    record->id.len = ctx->job_id.len;
    record->id.data = record->text;
    ngx_memcpy(record->text, ctx->job_id.data, ctx->job_id.len);

    if (ngx_http_rbgv_auth_send_job_record(record, deadline) != NGX_OK) {
        ngx_http_rbgv_auth_retry_job_record(record);
        return NGX_DECLINED;
    }

    record->ctx = ctx;
    ctx->job_record = record;

    return NGX_AGAIN;
}


static ngx_http_rbgv_auth_job_record_t *
ngx_http_rbgv_auth_alloc_job_record(ngx_http_rbgv_auth_worker_t *worker)
{
    ngx_queue_t  *q;

    if (ngx_queue_empty(&worker->free_job_records)) {
        return ngx_palloc(worker->pool,
                          sizeof(ngx_http_rbgv_auth_job_record_t));
    }

    q = ngx_queue_head(&worker->free_job_records);
    ngx_queue_remove(q);

    return ngx_queue_data(q, ngx_http_rbgv_auth_job_record_t, queue);
}


/* NX with GET: Redis 7.0; the reply is what was there, or nil if nothing was */

static ngx_int_t
ngx_http_rbgv_auth_send_job_record(ngx_http_rbgv_auth_job_record_t *record,
    ngx_msec_t deadline)
{
    u_char       name[NGX_HTTP_RBGV_AUTH_JOB_NAME_LEN], ttl[NGX_TIME_T_LEN];
    size_t       argvlen[7];
    const char  *argv[7];

    argv[0] = "SET";
    argvlen[0] = 3;
    argv[1] = (const char *) name;
    argvlen[1] = ngx_http_rbgv_auth_job_name(record->store, &record->id, name);
    argv[2] = (const char *) record->place.id;
    argvlen[2] = RBGV_ID_LEN;
    argv[3] = "NX";
    argvlen[3] = 2;
    argv[4] = "GET";
    argvlen[4] = 3;
    argv[5] = "EX";
    argvlen[5] = 2;
    argv[6] = (const char *) ttl;
    argvlen[6] = ngx_sprintf(ttl, "%T", record->ttl) - ttl;

    return ngx_rbgv_store_command(record->store->redis, 1, deadline,
                                  ngx_http_rbgv_auth_job_record_handler,
                                  record, 7, argv, argvlen);
}


static void
ngx_http_rbgv_auth_job_record_handler(void *data,
    ngx_rbgv_redis_reply_t *reply)
{
    ngx_http_rbgv_auth_job_record_t *record = data;

    ngx_http_rbgv_auth_ctx_t  *ctx;

    ctx = record->ctx;

    ngx_http_rbgv_auth_judge_job_record(record, reply);

    if (ctx) {
        ctx->job_record = NULL;
        ngx_http_rbgv_auth_job_recorded(ctx);
    }
}


static void
ngx_http_rbgv_auth_judge_job_record(ngx_http_rbgv_auth_job_record_t *record,
    ngx_rbgv_redis_reply_t *reply)
{
    record->ctx = NULL;

    if (reply == NULL || (reply->type != NGX_RBGV_REDIS_NIL
                          && reply->type != NGX_RBGV_REDIS_STRING))
    {
        ngx_http_rbgv_auth_bad_reply(record->store, reply, "SET");
        ngx_http_rbgv_auth_retry_job_record(record);
        return;
    }

    /* a try without a reply may have stored it, or the backend has */

    if (reply->type == NGX_RBGV_REDIS_STRING
        && (reply->str.len != RBGV_ID_LEN
            || ngx_memcmp(reply->str.data, record->place.id, RBGV_ID_LEN)
               != 0))
    {
        ngx_http_rbgv_auth_end_job_record(record,
                                          NGX_HTTP_RBGV_AUTH_JOB_CONFLICT);
        return;
    }

    ngx_http_rbgv_auth_end_job_record(record, NGX_HTTP_RBGV_AUTH_JOB_STORED);
}


static void
ngx_http_rbgv_auth_retry_job_record(ngx_http_rbgv_auth_job_record_t *record)
{
    ngx_http_rbgv_auth_worker_t  *worker;

    worker = record->store->worker;

    if (record->pause == 0) {

        if (worker->njob_records == NGX_HTTP_RBGV_AUTH_JOB_RETRIES) {
            ngx_http_rbgv_auth_end_job_record(record,
                                              NGX_HTTP_RBGV_AUTH_JOB_LOST);
            return;
        }

        worker->njob_records++;

        ngx_http_rbgv_auth_tally_job_record(worker,
                                            NGX_HTTP_RBGV_AUTH_JOB_RETRIED);
        ngx_http_rbgv_auth_log_job_record(NGX_LOG_ERR, record,
                                          "is not recorded yet");

        record->pause = NGX_HTTP_RBGV_AUTH_JOB_MIN;

    } else {
        record->pause = ngx_min(2 * record->pause, NGX_HTTP_RBGV_AUTH_JOB_MAX);
    }

    record->due = ngx_current_msec + record->pause / 2
                  + ngx_random() % (record->pause / 2);

    ngx_queue_insert_tail(&worker->job_records, &record->queue);

    if (!worker->job_event.timer_set) {
        ngx_add_timer(&worker->job_event, NGX_HTTP_RBGV_AUTH_JOB_TICK);
    }
}


static void
ngx_http_rbgv_auth_job_event_handler(ngx_event_t *ev)
{
    ngx_http_rbgv_auth_worker_t *worker = ev->data;

    ngx_uint_t                        n;
    ngx_msec_t                        now;
    ngx_queue_t                      *q, *next;
    ngx_http_rbgv_auth_job_record_t  *record;

    n = 0;
    now = ngx_current_msec;

    for (q = ngx_queue_head(&worker->job_records);
         q != ngx_queue_sentinel(&worker->job_records)
         && n < NGX_HTTP_RBGV_AUTH_JOB_BATCH;
         q = next)
    {
        next = ngx_queue_next(q);

        record = ngx_queue_data(q, ngx_http_rbgv_auth_job_record_t, queue);

        if (ngx_exiting
            && (ngx_msec_int_t) (record->ends - now)
               > NGX_HTTP_RBGV_AUTH_JOB_QUIT)
        {
            record->ends = now + NGX_HTTP_RBGV_AUTH_JOB_QUIT;
        }

        if ((ngx_msec_int_t) (record->ends - now) <= 0) {
            ngx_queue_remove(q);
            ngx_http_rbgv_auth_end_job_record(record,
                                              NGX_HTTP_RBGV_AUTH_JOB_LOST);
            continue;
        }

        if ((ngx_msec_int_t) (record->due - now) > 0) {
            continue;
        }

        n++;

        ngx_queue_remove(q);

        if (ngx_http_rbgv_auth_send_job_record(record,
                                            now + record->store->conf->timeout)
            != NGX_OK)
        {
            ngx_http_rbgv_auth_retry_job_record(record);
        }
    }

    if (!ngx_queue_empty(&worker->job_records) && !ev->timer_set) {
        ngx_add_timer(ev, NGX_HTTP_RBGV_AUTH_JOB_TICK);
    }
}


static void
ngx_http_rbgv_auth_end_job_record(ngx_http_rbgv_auth_job_record_t *record,
    ngx_http_rbgv_auth_job_result_e result)
{
    ngx_http_rbgv_auth_worker_t  *worker;

    worker = record->store->worker;

    ngx_http_rbgv_auth_tally_job_record(worker, result);

    if (result == NGX_HTTP_RBGV_AUTH_JOB_LOST) {
        ngx_http_rbgv_auth_log_job_record(NGX_LOG_ERR, record,
                                          "is not recorded, and is given up");

    } else if (result == NGX_HTTP_RBGV_AUTH_JOB_CONFLICT) {
        ngx_http_rbgv_auth_log_job_record(NGX_LOG_ERR, record,
                                          "is recorded for another key");

    } else if (record->pause) {
        ngx_http_rbgv_auth_log_job_record(NGX_LOG_NOTICE, record,
                                          "is recorded now");
    }

    if (record->pause) {
        worker->njob_records--;
    }

    ngx_queue_insert_head(&worker->free_job_records, &record->queue);
}


static void
ngx_http_rbgv_auth_tally_job_record(ngx_http_rbgv_auth_worker_t *worker,
    ngx_http_rbgv_auth_job_result_e result)
{
    ngx_http_rbgv_auth_zone_tally(worker->conf->zone,
                                  NGX_HTTP_RBGV_AUTH_KIND_JOB_RECORDS + result);
}


static void
ngx_http_rbgv_auth_log_job_record(ngx_uint_t level,
    ngx_http_rbgv_auth_job_record_t *record, const char *what)
{
    ngx_log_error(level, ngx_cycle->log, 0,
                  "rbgv_auth: job \"%V\" of key \"%*s\" %s", &record->id,
                  (size_t) RBGV_ID_LEN, record->place.id, what);
}


/* the answer no longer waits; the record goes on */

void
ngx_http_rbgv_auth_leave_job_record(ngx_http_rbgv_auth_ctx_t *ctx)
{
    if (ctx->job_record) {
        ctx->job_record->ctx = NULL;
        ctx->job_record = NULL;
    }
}
