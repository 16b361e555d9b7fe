
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * "rbgv_auth_job": whose the job is that a request asks for.  One GET goes to
 * Redis beside the count, for whatever stands in place of an id: a malformed
 * one, an unknown one and that of another key's job are not told apart by what
 * is asked, nor by the answer.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_rbgv_auth.h"
#include "rbgv_schema.h"


static ngx_int_t ngx_http_rbgv_auth_take_job(ngx_http_rbgv_auth_ctx_t *ctx);
static ngx_int_t ngx_http_rbgv_auth_send_job(ngx_http_rbgv_auth_job_t *job,
    ngx_http_rbgv_auth_ctx_t *ctx);
static void ngx_http_rbgv_auth_job_handler(void *data,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_judge_job(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_job_failed(ngx_http_rbgv_auth_ctx_t *ctx,
    const char *reason);


void
ngx_http_rbgv_auth_job_init(ngx_http_rbgv_auth_worker_t *worker)
{
    ngx_queue_init(&worker->free_jobs);
}


void
ngx_http_rbgv_auth_find_job(ngx_http_rbgv_auth_ctx_t *ctx)
{
    ngx_http_rbgv_auth_job_t  *job;

    if (ngx_http_rbgv_auth_take_job(ctx) != NGX_OK
        || ngx_http_rbgv_auth_tie(ctx) != NGX_OK)
    {
        ngx_http_rbgv_auth_job_failed(ctx, "no memory");
        return;
    }

    job = ngx_http_rbgv_auth_alloc_job(ctx->store);
    if (job == NULL) {
        ngx_http_rbgv_auth_job_failed(ctx, "no memory");
        return;
    }

    if (ngx_http_rbgv_auth_send_job(job, ctx) != NGX_OK) {
        ngx_http_rbgv_auth_free_job(job);
        ngx_http_rbgv_auth_job_failed(ctx, ngx_http_rbgv_auth_failure(NULL));
        return;
    }

    job->ctx = ctx;
    ctx->job = job;
}


/* job_id stays empty if the id is malformed */

static ngx_int_t
ngx_http_rbgv_auth_take_job(ngx_http_rbgv_auth_ctx_t *ctx)
{
    ngx_str_t  id;

    ngx_str_null(&ctx->job_id);

    if (ngx_http_complex_value(ctx->request, ctx->conf->job, &id) != NGX_OK) {
        return NGX_ERROR;
    }

    if (!ngx_http_rbgv_auth_job_valid(&id)) {
        return NGX_OK;
    }

    ctx->job_id.data = ngx_pstrdup(ctx->request->pool, &id);
    if (ctx->job_id.data == NULL) {
        return NGX_ERROR;
    }

    ctx->job_id.len = id.len;

    return NGX_OK;
}


ngx_uint_t
ngx_http_rbgv_auth_job_valid(ngx_str_t *id)
{
    size_t  i;
    u_char  c;

    if (id->len == 0 || id->len > NGX_HTTP_RBGV_AUTH_JOB_LEN) {
        return 0;
    }

    for (i = 0; i < id->len; i++) {
        c = id->data[i];

        if ((c < '0' || c > '9') && (c < 'A' || c > 'Z')
            && (c < 'a' || c > 'z') && c != '.' && c != '_' && c != '-')
        {
            return 0;
        }
    }

    return 1;
}


ngx_http_rbgv_auth_job_t *
ngx_http_rbgv_auth_alloc_job(ngx_http_rbgv_auth_store_t *store)
{
    ngx_queue_t                  *q;
    ngx_http_rbgv_auth_job_t     *job;
    ngx_http_rbgv_auth_worker_t  *worker;

    worker = store->worker;

    if (ngx_queue_empty(&worker->free_jobs)) {
        job = ngx_palloc(worker->pool, sizeof(ngx_http_rbgv_auth_job_t));
        if (job == NULL) {
            return NULL;
        }

    } else {
        q = ngx_queue_head(&worker->free_jobs);
        ngx_queue_remove(q);
        job = ngx_queue_data(q, ngx_http_rbgv_auth_job_t, queue);
    }

    job->ctx = NULL;
    job->store = store;

    return job;
}


void
ngx_http_rbgv_auth_free_job(ngx_http_rbgv_auth_job_t *job)
{
    ngx_queue_insert_head(&job->store->worker->free_jobs, &job->queue);
}


/* for a malformed id, the name of none: what it holds is not looked at */

static ngx_int_t
ngx_http_rbgv_auth_send_job(ngx_http_rbgv_auth_job_t *job,
    ngx_http_rbgv_auth_ctx_t *ctx)
{
    u_char       name[NGX_HTTP_RBGV_AUTH_JOB_NAME_LEN];
    size_t       argvlen[2];
    const char  *argv[2];

    argv[0] = "GET";
    argvlen[0] = 3;
    argv[1] = (const char *) name;
    argvlen[1] = ngx_http_rbgv_auth_job_name(job->store, &ctx->job_id, name);

    return ngx_rbgv_store_command(job->store->redis, 1, ctx->deadline,
                                  ngx_http_rbgv_auth_job_handler, job, 2,
                                  argv, argvlen);
}


size_t
ngx_http_rbgv_auth_job_name(ngx_http_rbgv_auth_store_t *store, ngx_str_t *id,
    u_char *p)
{
    return ngx_sprintf(p, "%V%s%V", &store->worker->conf->prefix, RBGV_JOB, id)
           - p;
}


static void
ngx_http_rbgv_auth_job_handler(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_http_rbgv_auth_job_t *job = data;

    ngx_http_rbgv_auth_ctx_t  *ctx;

    if (reply && reply->type != NGX_RBGV_REDIS_STRING
        && reply->type != NGX_RBGV_REDIS_NIL)
    {
        ngx_http_rbgv_auth_bad_reply(job->store, reply, "GET");
    }

    ctx = job->ctx;

    ngx_http_rbgv_auth_free_job(job);

    if (ctx == NULL) {
        return;
    }

    ctx->job = NULL;

    ngx_http_set_log_request(ctx->request->connection->log, ctx->request);

    if (ctx->granted) {
        ctx->waited += ngx_current_msec - ctx->asked;
    }

    ngx_http_rbgv_auth_judge_job(ctx, reply);
}


static void
ngx_http_rbgv_auth_judge_job(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_rbgv_redis_reply_t *reply)
{
    if (reply == NULL || (reply->type != NGX_RBGV_REDIS_STRING
                          && reply->type != NGX_RBGV_REDIS_NIL))
    {
        ngx_http_rbgv_auth_job_failed(ctx, ngx_http_rbgv_auth_failure(reply));
        return;
    }

    if (ctx->source == NGX_HTTP_RBGV_AUTH_ZONE
        || ctx->source == NGX_HTTP_RBGV_AUTH_LEASE)
    {
        ctx->source = NGX_HTTP_RBGV_AUTH_REDIS;
    }

    ctx->job_state = NGX_HTTP_RBGV_AUTH_JOB_REFUSED;

    if (ctx->job_id.len == 0) {
        ctx->job_reason = "malformed job id";

    } else if (reply->type == NGX_RBGV_REDIS_NIL) {
        ctx->job_reason = "unknown job";

    } else if (reply->str.len != RBGV_ID_LEN
               || ngx_memcmp(reply->str.data, ctx->place.id, RBGV_ID_LEN) != 0)
    {
        ctx->job_reason = "job of another key";

    } else {
        ctx->job_state = NGX_HTTP_RBGV_AUTH_JOB_OWN;
    }

    if (ctx->granted) {
        ngx_http_rbgv_auth_granted(ctx);
    }
}


static void
ngx_http_rbgv_auth_job_failed(ngx_http_rbgv_auth_ctx_t *ctx,
    const char *reason)
{
    ctx->job_state = NGX_HTTP_RBGV_AUTH_JOB_FAILED;
    ctx->job_reason = reason;

    if (ctx->granted) {
        ngx_http_rbgv_auth_granted(ctx);
    }
}


/* the request is decided, or gone: the reply is nobody's */

void
ngx_http_rbgv_auth_leave_job(ngx_http_rbgv_auth_ctx_t *ctx)
{
    if (ctx->job) {
        ctx->job->ctx = NULL;
        ctx->job = NULL;
    }
}
