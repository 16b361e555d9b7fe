
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * "rbgv_auth_usage": what a key has used, and its last calls, for whoever has
 * the key.  The access phase has looked at it; here Redis is asked once more,
 * and the content handler runs again with the reply.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_rbgv_auth.h"
#include "rbgv_admin.h"


#define NGX_HTTP_RBGV_AUTH_USAGE_DAYS    90

/* HMGET, name; two; and those of the days */

#define NGX_HTTP_RBGV_AUTH_USAGE_ARGS                                         \
    (4 + NGX_HTTP_RBGV_AUTH_USAGE_DAYS * RBGV_OUTCOMES)

#define NGX_HTTP_RBGV_AUTH_USAGE_FIELD_LEN                                    \
    (sizeof("r::limited") - 1 + NGX_TIME_T_LEN)


struct ngx_http_rbgv_auth_usage_s {
    ngx_uint_t                     n;          /* days or events */
    time_t                         first;      /* of the days */
    ngx_chain_t                    body;       /* no buffer: no reply */
    unsigned                       answered:1;
};


/* what may be asked for */

typedef struct {
    ngx_str_t                      name;
    ngx_str_t                      arg;
    ngx_uint_t                     n;          /* without the argument */
    ngx_int_t                      max;
    ngx_http_rbgv_auth_outcome_t   invalid;
    const char                    *command;

    ngx_int_t                    (*ask)(ngx_http_rbgv_auth_job_t *job,
                                        ngx_http_rbgv_auth_ctx_t *ctx);
    ngx_uint_t                   (*check)(ngx_rbgv_redis_reply_t *reply,
                                          ngx_uint_t n);
    json_t                      *(*write)(ngx_http_rbgv_auth_ctx_t *ctx,
                                          ngx_rbgv_redis_reply_t *reply);
} ngx_http_rbgv_auth_question_t;


static ngx_int_t ngx_http_rbgv_auth_usage_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_rbgv_auth_usage_method(ngx_http_request_t *r);
static ngx_int_t ngx_http_rbgv_auth_usage_no_key(ngx_http_request_t *r);
static ngx_http_rbgv_auth_question_t *ngx_http_rbgv_auth_usage_question(
    ngx_http_request_t *r);
static ngx_int_t ngx_http_rbgv_auth_usage_number(ngx_http_request_t *r,
    ngx_http_rbgv_auth_question_t *question);
static ngx_int_t ngx_http_rbgv_auth_usage_ask(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx, ngx_http_rbgv_auth_question_t *question,
    ngx_int_t n);
static void ngx_http_rbgv_auth_usage_reply(
    ngx_http_rbgv_auth_question_t *question, ngx_http_rbgv_auth_job_t *job,
    ngx_rbgv_redis_reply_t *reply);
static ngx_buf_t *ngx_http_rbgv_auth_usage_body(ngx_pool_t *pool,
    json_t *json);

static ngx_int_t ngx_http_rbgv_auth_usage_ask_summary(
    ngx_http_rbgv_auth_job_t *job, ngx_http_rbgv_auth_ctx_t *ctx);
static void ngx_http_rbgv_auth_usage_summary_handler(void *data,
    ngx_rbgv_redis_reply_t *reply);
static ngx_uint_t ngx_http_rbgv_auth_usage_is_summary(
    ngx_rbgv_redis_reply_t *reply, ngx_uint_t n);
static json_t *ngx_http_rbgv_auth_usage_summary(
    ngx_http_rbgv_auth_ctx_t *ctx, ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_usage_read(rbgv_usage_t *usage,
    ngx_rbgv_redis_reply_t *reply, ngx_uint_t n);
static int64_t ngx_http_rbgv_auth_usage_count(ngx_rbgv_redis_reply_t *reply);

static ngx_int_t ngx_http_rbgv_auth_usage_ask_events(
    ngx_http_rbgv_auth_job_t *job, ngx_http_rbgv_auth_ctx_t *ctx);
static void ngx_http_rbgv_auth_usage_events_handler(void *data,
    ngx_rbgv_redis_reply_t *reply);
static ngx_uint_t ngx_http_rbgv_auth_usage_is_events(
    ngx_rbgv_redis_reply_t *reply, ngx_uint_t n);
static json_t *ngx_http_rbgv_auth_usage_events(
    ngx_http_rbgv_auth_ctx_t *ctx, ngx_rbgv_redis_reply_t *reply);
static json_t *ngx_http_rbgv_auth_usage_event(
    ngx_rbgv_redis_reply_t *fields);
static json_t *ngx_http_rbgv_auth_usage_at(ngx_rbgv_redis_reply_t *fields);
static json_t *ngx_http_rbgv_auth_usage_text(ngx_rbgv_redis_reply_t *fields,
    const char *name);
static ngx_str_t ngx_http_rbgv_auth_usage_field(
    ngx_rbgv_redis_reply_t *fields, const char *name);
static json_t *ngx_http_rbgv_auth_usage_string(ngx_str_t *text);


static ngx_http_rbgv_auth_question_t  ngx_http_rbgv_auth_questions[] = {

    { ngx_string("summary"), ngx_string("days"), 30,
      NGX_HTTP_RBGV_AUTH_USAGE_DAYS,
      { ngx_null_string, NGX_HTTP_BAD_REQUEST,
        ngx_string("invalid_request"),
        ngx_string("days must be a number from 1 to 90") },
      "HMGET",
      ngx_http_rbgv_auth_usage_ask_summary,
      ngx_http_rbgv_auth_usage_is_summary,
      ngx_http_rbgv_auth_usage_summary },

    { ngx_string("events"), ngx_string("limit"), 20, 100,
      { ngx_null_string, NGX_HTTP_BAD_REQUEST,
        ngx_string("invalid_request"),
        ngx_string("limit must be a number from 1 to 100") },
      "XREVRANGE",
      ngx_http_rbgv_auth_usage_ask_events,
      ngx_http_rbgv_auth_usage_is_events,
      ngx_http_rbgv_auth_usage_events },

    { ngx_null_string, ngx_null_string, 0, 0,
      { ngx_null_string, 0, ngx_null_string, ngx_null_string },
      NULL, NULL, NULL, NULL }
};


static ngx_http_rbgv_auth_outcome_t  ngx_http_rbgv_auth_usage_not_found = {
    ngx_null_string, NGX_HTTP_NOT_FOUND, ngx_string("not_found"),
    ngx_string("There are summary and events here, and nothing else")
};


static ngx_http_rbgv_auth_outcome_t  ngx_http_rbgv_auth_usage_not_allowed = {
    ngx_null_string, NGX_HTTP_NOT_ALLOWED, ngx_string("method_not_allowed"),
    ngx_string("Only GET and HEAD are allowed here")
};


/* of a day in Redis, by outcome */

static const char  *ngx_http_rbgv_auth_usage_fields[RBGV_OUTCOMES] = {
    "d:%T", "r:%T:limited", "r:%T:credits", "r:%T:job"
};


char *
ngx_http_rbgv_auth_set_usage(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_rbgv_auth_loc_conf_t *alcf = conf;

    alcf->usage = 1;

    return ngx_http_rbgv_auth_set_handler(cf, cmd,
                                          ngx_http_rbgv_auth_usage_handler);
}


static ngx_int_t
ngx_http_rbgv_auth_usage_handler(ngx_http_request_t *r)
{
    ngx_int_t                       rc, n;
    ngx_http_rbgv_auth_ctx_t       *ctx;
    ngx_http_rbgv_auth_question_t  *question;

    ctx = (r == r->main) ? ngx_http_rbgv_auth_get_ctx(r) : NULL;

    if (ctx && ctx->usage && ctx->usage->answered) {
        ctx->usage->answered = 0;

        return ctx->usage->body.buf
                   ? ngx_http_rbgv_auth_send_json(r, NGX_HTTP_OK,
                                                  &ctx->usage->body)
                   : ngx_http_rbgv_auth_send_error(r,
                         &ngx_http_rbgv_auth_outcomes[
                                            NGX_HTTP_RBGV_AUTH_UNAVAILABLE]);
    }

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return ngx_http_rbgv_auth_usage_method(r);
    }

    /* "satisfy any" lets pass without a key, and a subrequest has none */

    if (ctx == NULL || !ngx_http_rbgv_auth_good(ctx)) {
        return ngx_http_rbgv_auth_usage_no_key(r);
    }

    question = ngx_http_rbgv_auth_usage_question(r);

    if (question == NULL) {
        return ngx_http_rbgv_auth_send_error(r,
                                        &ngx_http_rbgv_auth_usage_not_found);
    }

    n = ngx_http_rbgv_auth_usage_number(r, question);

    if (n == NGX_ERROR) {
        return ngx_http_rbgv_auth_send_error(r, &question->invalid);
    }

    return ngx_http_rbgv_auth_usage_ask(r, ctx, question, n);
}


static ngx_int_t
ngx_http_rbgv_auth_usage_method(ngx_http_request_t *r)
{
    if (ngx_http_rbgv_auth_add_header(r, "Allow", (u_char *) "GET, HEAD",
                                      sizeof("GET, HEAD") - 1)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_rbgv_auth_send_error(r,
                                      &ngx_http_rbgv_auth_usage_not_allowed);
}


static ngx_int_t
ngx_http_rbgv_auth_usage_no_key(ngx_http_request_t *r)
{
    ngx_http_rbgv_auth_loc_conf_t  *alcf;

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_rbgv_auth_module);

    if (ngx_http_rbgv_auth_add_header(r, "WWW-Authenticate",
                                      alcf->challenge.data,
                                      alcf->challenge.len)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_rbgv_auth_send_error(r,
                  &ngx_http_rbgv_auth_outcomes[NGX_HTTP_RBGV_AUTH_MISSING]);
}


static ngx_http_rbgv_auth_question_t *
ngx_http_rbgv_auth_usage_question(ngx_http_request_t *r)
{
    ngx_str_t                       path;
    ngx_http_rbgv_auth_question_t  *question;

    ngx_http_rbgv_auth_path(r, &path);

    for (question = ngx_http_rbgv_auth_questions;
         question->name.len;
         question++)
    {
        if (question->name.len == path.len
            && ngx_memcmp(question->name.data, path.data, path.len) == 0)
        {
            return question;
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_rbgv_auth_usage_number(ngx_http_request_t *r,
    ngx_http_rbgv_auth_question_t *question)
{
    ngx_int_t  n;
    ngx_str_t  value;

    if (ngx_http_arg(r, question->arg.data, question->arg.len, &value)
        != NGX_OK)
    {
        return question->n;
    }

    n = ngx_atoi(value.data, value.len);

    return (n < 1 || n > question->max) ? NGX_ERROR : n;
}


static ngx_int_t
ngx_http_rbgv_auth_usage_ask(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx, ngx_http_rbgv_auth_question_t *question,
    ngx_int_t n)
{
    ngx_http_rbgv_auth_job_t  *job;

    ctx->usage = ngx_pcalloc(r->pool, sizeof(ngx_http_rbgv_auth_usage_t));

    if (ctx->usage == NULL || ngx_http_rbgv_auth_tie(ctx) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->usage->n = n;
    ctx->usage->first = ngx_time() / RBGV_DAY - n + 1;

    job = ngx_http_rbgv_auth_alloc_job(ctx->store);
    if (job == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (question->ask(job, ctx) != NGX_OK) {
        ngx_http_rbgv_auth_free_job(job);

        return ngx_http_rbgv_auth_send_error(r,
              &ngx_http_rbgv_auth_outcomes[NGX_HTTP_RBGV_AUTH_UNAVAILABLE]);
    }

    if (ngx_http_rbgv_auth_park(r, ctx) != NGX_AGAIN) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    job->ctx = ctx;
    ctx->job = job;
    ctx->asked = ngx_current_msec;

    r->main->count++;

    return NGX_DONE;
}


static void
ngx_http_rbgv_auth_usage_reply(ngx_http_rbgv_auth_question_t *question,
    ngx_http_rbgv_auth_job_t *job, ngx_rbgv_redis_reply_t *reply)
{
    ngx_http_rbgv_auth_ctx_t  *ctx;

    ctx = job->ctx;

    if (reply && (reply->type != NGX_RBGV_REDIS_ARRAY
                  || (ctx && !question->check(reply, ctx->usage->n))))
    {
        ngx_http_rbgv_auth_bad_reply(job->store, reply, question->command);
        reply = NULL;
    }

    ngx_http_rbgv_auth_free_job(job);

    if (ctx == NULL) {
        return;
    }

    ctx->job = NULL;

    ngx_http_set_log_request(ctx->request->connection->log, ctx->request);

    ctx->waited += ngx_current_msec - ctx->asked;

    if (reply) {
        ctx->usage->body.buf = ngx_http_rbgv_auth_usage_body(
                                                ctx->request->pool,
                                                question->write(ctx, reply));
    }

    ctx->usage->answered = 1;

    ngx_http_rbgv_auth_unpark(ctx);
}


static ngx_buf_t *
ngx_http_rbgv_auth_usage_body(ngx_pool_t *pool, json_t *json)
{
    size_t      size;
    ngx_buf_t  *b;

    size = json_dumpb(json, NULL, 0, JSON_COMPACT);

    b = size ? ngx_create_temp_buf(pool, size) : NULL;

    if (b) {
        b->last += json_dumpb(json, (char *) b->last, size, JSON_COMPACT);
    }

    json_decref(json);

    /* it may be out of memory the second time */

    return b && b->last == b->end ? b : NULL;
}


/* days by the clock of this host, and of UTC */

static ngx_int_t
ngx_http_rbgv_auth_usage_ask_summary(ngx_http_rbgv_auth_job_t *job,
    ngx_http_rbgv_auth_ctx_t *ctx)
{
    u_char       name[NGX_HTTP_RBGV_AUTH_NAME_LEN];
    u_char       text[NGX_HTTP_RBGV_AUTH_USAGE_ARGS
                      * NGX_HTTP_RBGV_AUTH_USAGE_FIELD_LEN], *p;
    size_t       argvlen[NGX_HTTP_RBGV_AUTH_USAGE_ARGS];
    time_t       day;
    const char  *argv[NGX_HTTP_RBGV_AUTH_USAGE_ARGS];
    ngx_uint_t   argc, i;

    argv[0] = "HMGET";
    argvlen[0] = 5;
    argv[1] = (const char *) name;
    argvlen[1] = ngx_http_rbgv_auth_name(job->store, &ctx->place, RBGV_USE,
                                         name);
    argv[2] = "last";
    argvlen[2] = 4;
    argv[3] = "credits";
    argvlen[3] = 7;
    argc = 4;

    p = text;

    for (day = ctx->usage->first;
         day < ctx->usage->first + (time_t) ctx->usage->n;
         day++)
    {
        for (i = 0; i < RBGV_OUTCOMES; i++) {
            argv[argc] = (const char *) p;
            p = ngx_sprintf(p, ngx_http_rbgv_auth_usage_fields[i], day);
            argvlen[argc] = p - (u_char *) argv[argc];
            argc++;
        }
    }

    return ngx_rbgv_store_command(job->store->redis, 1,
                              ngx_current_msec + ctx->conf->redis_timeout,
                              ngx_http_rbgv_auth_usage_summary_handler, job,
                              argc, argv, argvlen);
}


static void
ngx_http_rbgv_auth_usage_summary_handler(void *data,
    ngx_rbgv_redis_reply_t *reply)
{
    ngx_http_rbgv_auth_usage_reply(&ngx_http_rbgv_auth_questions[0], data,
                                   reply);
}


static ngx_uint_t
ngx_http_rbgv_auth_usage_is_summary(ngx_rbgv_redis_reply_t *reply, ngx_uint_t n)
{
    ngx_uint_t  i;

    if (reply->nelts != 2 + n * RBGV_OUTCOMES) {
        return 0;
    }

    for (i = 0; i < reply->nelts; i++) {
        if (reply->elts[i]->type != NGX_RBGV_REDIS_STRING
            && reply->elts[i]->type != NGX_RBGV_REDIS_NIL)
        {
            return 0;
        }
    }

    return 1;
}


static json_t *
ngx_http_rbgv_auth_usage_summary(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_rbgv_redis_reply_t *reply)
{
    time_t        now;
    int64_t       sums[RBGV_OUTCOMES];
    ngx_uint_t    n;
    rbgv_usage_t  usage;

    n = ctx->usage->n;
    now = (ctx->usage->first + n - 1) * RBGV_DAY;

    ngx_http_rbgv_auth_usage_read(&usage, reply, n);
    (void) rbgv_usage_sum(&usage, n, sums);

    return json_pack("{s:o, s:s%, s:o, s:o, s:o, s:I, s:o, s:I, s:o}",
                     "client_id",
                     ngx_http_rbgv_auth_usage_string(&ctx->name),
                     "key_fingerprint", ctx->place.id, (size_t) RBGV_ID_LEN,
                     "environment",
                     ngx_http_rbgv_auth_usage_string(&ctx->environment),
                     "last_used_at", rbgv_json_time(usage.last),
                     "credits", ctx->prepaid ? json_integer(ctx->balance)
                                             : json_null(),
                     "credits_spent", (json_int_t) usage.spent,
                     "days", rbgv_json_days(&usage, n, now),
                     "requests", (json_int_t) sums[RBGV_PASSED],
                     "refused", rbgv_json_refused(sums));
}


static void
ngx_http_rbgv_auth_usage_read(rbgv_usage_t *usage,
    ngx_rbgv_redis_reply_t *reply, ngx_uint_t n)
{
    ngx_uint_t                day, i;
    ngx_rbgv_redis_reply_t  **elt;

    ngx_memzero(usage, sizeof(rbgv_usage_t));

    elt = reply->elts;

    usage->last = ngx_http_rbgv_auth_usage_count(*elt++);
    usage->spent = ngx_http_rbgv_auth_usage_count(*elt++);

    for (day = 0; day < n; day++) {
        for (i = 0; i < RBGV_OUTCOMES; i++) {
            usage->days[n - 1 - day][i] =
                                     ngx_http_rbgv_auth_usage_count(*elt++);
        }
    }
}


/* nil, or what is no number: none */

static int64_t
ngx_http_rbgv_auth_usage_count(ngx_rbgv_redis_reply_t *reply)
{
    off_t  n;

    if (reply->type != NGX_RBGV_REDIS_STRING) {
        return 0;
    }

    n = ngx_atoof(reply->str.data, reply->str.len);

    return n == NGX_ERROR ? 0 : n;
}


static ngx_int_t
ngx_http_rbgv_auth_usage_ask_events(ngx_http_rbgv_auth_job_t *job,
    ngx_http_rbgv_auth_ctx_t *ctx)
{
    u_char       name[NGX_HTTP_RBGV_AUTH_NAME_LEN], count[NGX_INT_T_LEN];
    size_t       argvlen[6];
    const char  *argv[6];

    argv[0] = "XREVRANGE";
    argvlen[0] = 9;
    argv[1] = (const char *) name;
    argvlen[1] = ngx_http_rbgv_auth_name(job->store, &ctx->place, RBGV_EVENTS,
                                         name);
    argv[2] = "+";
    argvlen[2] = 1;
    argv[3] = "-";
    argvlen[3] = 1;
    argv[4] = "COUNT";
    argvlen[4] = 5;
    argv[5] = (const char *) count;
    argvlen[5] = ngx_sprintf(count, "%ui", ctx->usage->n) - count;

    return ngx_rbgv_store_command(job->store->redis, 1,
                              ngx_current_msec + ctx->conf->redis_timeout,
                              ngx_http_rbgv_auth_usage_events_handler, job, 6,
                              argv, argvlen);
}


static void
ngx_http_rbgv_auth_usage_events_handler(void *data,
    ngx_rbgv_redis_reply_t *reply)
{
    ngx_http_rbgv_auth_usage_reply(&ngx_http_rbgv_auth_questions[1], data,
                                   reply);
}


/* of each entry, its id, and an array of fields and values in turn */

static ngx_uint_t
ngx_http_rbgv_auth_usage_is_events(ngx_rbgv_redis_reply_t *reply,
    ngx_uint_t n)
{
    ngx_uint_t               i, k;
    ngx_rbgv_redis_reply_t  *fields;

    if (reply->nelts > n) {
        return 0;
    }

    for (i = 0; i < reply->nelts; i++) {

        if (reply->elts[i]->type != NGX_RBGV_REDIS_ARRAY
            || reply->elts[i]->nelts != 2
            || reply->elts[i]->elts[1]->type != NGX_RBGV_REDIS_ARRAY)
        {
            return 0;
        }

        fields = reply->elts[i]->elts[1];

        for (k = 0; k < fields->nelts; k++) {
            if (fields->elts[k]->type != NGX_RBGV_REDIS_STRING) {
                return 0;
            }
        }
    }

    return 1;
}


static json_t *
ngx_http_rbgv_auth_usage_events(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_rbgv_redis_reply_t *reply)
{
    json_t      *items;
    ngx_uint_t   i;

    items = json_array();

    for (i = 0; i < reply->nelts; i++) {
        if (json_array_append_new(items,
                       ngx_http_rbgv_auth_usage_event(reply->elts[i]->elts[1]))
            != 0)
        {
            json_decref(items);
            return NULL;
        }
    }

    return json_pack("{s:o}", "items", items);
}


static json_t *
ngx_http_rbgv_auth_usage_event(ngx_rbgv_redis_reply_t *fields)
{
    ngx_int_t  n;
    ngx_str_t  value;

    value = ngx_http_rbgv_auth_usage_field(fields, "status");
    n = ngx_atoi(value.data, value.len);

    return json_pack("{s:o, s:I, s:o, s:o, s:o, s:o}",
                     "at", ngx_http_rbgv_auth_usage_at(fields),
                     "status", (json_int_t) (n == NGX_ERROR ? 0 : n),
                     "method",
                     ngx_http_rbgv_auth_usage_text(fields, "method"),
                     "path", ngx_http_rbgv_auth_usage_text(fields, "path"),
                     "request_id",
                     ngx_http_rbgv_auth_usage_text(fields, "request_id"),
                     "job_id",
                     ngx_http_rbgv_auth_usage_text(fields, "job_id"));
}


/* in milliseconds; without a time, null */

static json_t *
ngx_http_rbgv_auth_usage_at(ngx_rbgv_redis_reply_t *fields)
{
    char       text[RBGV_TIME_SIZE];
    ngx_int_t  msec;
    ngx_str_t  value;

    value = ngx_http_rbgv_auth_usage_field(fields, "time");
    msec = ngx_atofp(value.data, value.len, 3);

    if (msec <= 0) {
        return json_null();
    }

    rbgv_time(msec / 1000, "%Y-%m-%dT%H:%M:%S", text);

    return json_sprintf("%s.%03dZ", text, (int) (msec % 1000));
}


static json_t *
ngx_http_rbgv_auth_usage_text(ngx_rbgv_redis_reply_t *fields,
    const char *name)
{
    ngx_str_t  value;

    value = ngx_http_rbgv_auth_usage_field(fields, name);

    return ngx_http_rbgv_auth_usage_string(&value);
}


static ngx_str_t
ngx_http_rbgv_auth_usage_field(ngx_rbgv_redis_reply_t *fields,
    const char *name)
{
    ngx_str_t   none = ngx_null_string;
    ngx_uint_t  i;

    for (i = 0; i + 1 < fields->nelts; i += 2) {
        if (fields->elts[i]->str.len == ngx_strlen(name)
            && ngx_memcmp(fields->elts[i]->str.data, name, ngx_strlen(name))
               == 0)
        {
            return fields->elts[i + 1]->str;
        }
    }

    return none;
}


static json_t *
ngx_http_rbgv_auth_usage_string(ngx_str_t *text)
{
    return text->len ? rbgv_json_textn((char *) text->data, text->len)
                     : json_null();
}
