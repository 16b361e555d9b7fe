
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * What is asked of Redis for a request, and what its replies mean.  The
 * schema is described in docs/redis.md.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_rbgv_auth.h"
#include "rbgv_count_lua.h"
#include "rbgv_schema.h"


#define NGX_HTTP_RBGV_AUTH_NAME_LEN                                           \
    (RBGV_PREFIX_MAX + sizeof(RBGV_KEY "{}") + RBGV_ID_LEN)

#define NGX_HTTP_RBGV_AUTH_FIELD_LEN                                          \
    (sizeof("w::") + RBGV_LIMIT_NAME_MAX + NGX_INT32_LEN)

#define NGX_HTTP_RBGV_AUTH_SECRET_LEN  (sizeof("s:") - 1 + 16)

/* EVALSHA, its four fixed arguments, calls, cost, secret; three a window */

#define NGX_HTTP_RBGV_AUTH_MAX_ARGS    (7 + 3 * RBGV_LIMITS_MAX)


typedef struct {
    const char     *argv[NGX_HTTP_RBGV_AUTH_MAX_ARGS];
    size_t          argvlen[NGX_HTTP_RBGV_AUTH_MAX_ARGS];
    ngx_uint_t      argc;
} ngx_http_rbgv_auth_args_t;


/* the fields of a record that a decision needs, pointing into the reply */

typedef struct {
    ngx_str_t       status;
    ngx_str_t       expires;
    ngx_str_t       name;
    ngx_str_t       environment;
    ngx_str_t       owner;
    ngx_str_t       secret;            /* the value of the one that matches */
} ngx_http_rbgv_auth_record_t;


static ngx_int_t ngx_http_rbgv_auth_ask(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_rbgv_redis_handler_pt handler, ngx_http_rbgv_auth_args_t *args);
static void ngx_http_rbgv_auth_detach(void *data);
static ngx_http_rbgv_auth_ctx_t *ngx_http_rbgv_auth_answered(void *data);
static void ngx_http_rbgv_auth_unavailable(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_rbgv_redis_reply_t *reply, const char *command);

static void ngx_http_rbgv_auth_lookup_handler(void *data,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_malformed(ngx_http_rbgv_auth_ctx_t *ctx);
static void ngx_http_rbgv_auth_ask_meta(ngx_http_rbgv_auth_ctx_t *ctx);
static void ngx_http_rbgv_auth_meta_handler(void *data,
    ngx_rbgv_redis_reply_t *reply);
static ngx_int_t ngx_http_rbgv_auth_read_record(
    ngx_http_rbgv_auth_ctx_t *ctx, ngx_rbgv_redis_reply_t *reply,
    ngx_http_rbgv_auth_record_t *record);
static ngx_int_t ngx_http_rbgv_auth_read_limit(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_str_t *name, ngx_str_t *value);
static void ngx_http_rbgv_auth_read_secret(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_record_t *record, u_char *digest, ngx_str_t *value);
static ngx_int_t ngx_http_rbgv_auth_keep_record(
    ngx_http_rbgv_auth_ctx_t *ctx, ngx_http_rbgv_auth_record_t *record);
static ngx_int_t ngx_http_rbgv_auth_judge_record(
    ngx_http_rbgv_auth_ctx_t *ctx, ngx_http_rbgv_auth_record_t *record);
static ngx_int_t ngx_http_rbgv_auth_read_status(u_char *data, size_t len);
static ngx_int_t ngx_http_rbgv_auth_judge_secret(
    ngx_http_rbgv_auth_ctx_t *ctx, ngx_str_t *secret);

static void ngx_http_rbgv_auth_select_windows(ngx_http_rbgv_auth_ctx_t *ctx);
static rbgv_limit_t ngx_http_rbgv_auth_own_limit(
    ngx_http_rbgv_auth_ctx_t *ctx, ngx_http_rbgv_auth_limit_t *limit);
static ngx_int_t ngx_http_rbgv_auth_cost(ngx_http_rbgv_auth_ctx_t *ctx);
static void ngx_http_rbgv_auth_count_handler(void *data,
    ngx_rbgv_redis_reply_t *reply);
static ngx_int_t ngx_http_rbgv_auth_recount(ngx_http_rbgv_auth_ctx_t *ctx);

static void ngx_http_rbgv_auth_arg(ngx_http_rbgv_auth_args_t *args,
    const void *data, size_t len);
static u_char *ngx_http_rbgv_auth_arg_number(ngx_http_rbgv_auth_args_t *args,
    u_char *p, ngx_uint_t n);
static u_char *ngx_http_rbgv_auth_arg_name(ngx_http_rbgv_auth_args_t *args,
    ngx_http_rbgv_auth_ctx_t *ctx, u_char *p, char *kind);


void
ngx_http_rbgv_auth_lookup(ngx_http_rbgv_auth_ctx_t *ctx)
{
    u_char                     name[NGX_HTTP_RBGV_AUTH_NAME_LEN];
    ngx_http_rbgv_auth_args_t  args;

    ctx->deadline = ngx_current_msec + ctx->conf->redis_timeout;

    args.argc = 0;

    ngx_http_rbgv_auth_arg(&args, "HGETALL", 7);
    (void) ngx_http_rbgv_auth_arg_name(&args, ctx, name, RBGV_KEY);

    if (ngx_http_rbgv_auth_ask(ctx, ngx_http_rbgv_auth_lookup_handler, &args)
        != NGX_OK)
    {
        ngx_http_rbgv_auth_unavailable(ctx, NULL, "HGETALL");
    }
}


static ngx_int_t
ngx_http_rbgv_auth_ask(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_rbgv_redis_handler_pt handler, ngx_http_rbgv_auth_args_t *args)
{
    ngx_http_request_t              *r;
    ngx_http_rbgv_auth_main_conf_t  *amcf;

    r = ctx->request;

    if (ctx->cleanup == NULL) {

        /* run by ngx_http_terminate_request() too, before the pool goes */

        ctx->cleanup = ngx_http_cleanup_add(r, 0);
        if (ctx->cleanup == NULL) {
            return NGX_ERROR;
        }

        ctx->cleanup->handler = ngx_http_rbgv_auth_detach;
        ctx->cleanup->data = ctx;
    }

    amcf = ngx_http_get_module_main_conf(r, ngx_http_rbgv_auth_module);

    ctx->asked = ngx_current_msec;

    ctx->op = ngx_rbgv_redis_command(amcf->worker->stores[ctx->conf->store],
                                     ctx->deadline, handler, ctx, args->argc,
                                     args->argv, args->argvlen);

    return ctx->op ? NGX_OK : NGX_DECLINED;
}


static void
ngx_http_rbgv_auth_detach(void *data)
{
    ngx_http_rbgv_auth_ctx_t *ctx = data;

    if (ctx->op) {
        ngx_rbgv_redis_cancel(ctx->op);
        ctx->op = NULL;
    }
}


/* what each reply handler begins with */

static ngx_http_rbgv_auth_ctx_t *
ngx_http_rbgv_auth_answered(void *data)
{
    ngx_http_rbgv_auth_ctx_t *ctx = data;

    ngx_http_request_t  *r;

    r = ctx->request;

    ngx_http_set_log_request(r->connection->log, r);

    ctx->op = NULL;
    ctx->waited += ngx_current_msec - ctx->asked;

    return ctx;
}


static void
ngx_http_rbgv_auth_unavailable(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_rbgv_redis_reply_t *reply, const char *command)
{
    const char                      *reason;
    ngx_http_rbgv_auth_main_conf_t  *amcf;

    if (reply == NULL) {
        reason = "no answer from redis";

    } else if (reply->type == NGX_RBGV_REDIS_ERROR) {
        ngx_log_error(NGX_LOG_CRIT, ctx->request->connection->log, 0,
                      "rbgv_auth: redis refused \"%s\": \"%V\"",
                      command, &reply->str);
        reason = "an error from redis";

    } else {
        ngx_log_error(NGX_LOG_CRIT, ctx->request->connection->log, 0,
                      "rbgv_auth: redis answered \"%s\" with a reply of "
                      "another form", command);
        reason = "an unexpected reply from redis";

        /* it is another command's, and so would be those that follow */

        amcf = ngx_http_get_module_main_conf(ctx->request,
                                             ngx_http_rbgv_auth_module);

        ngx_rbgv_redis_distrust(amcf->worker->stores[ctx->conf->store]);
    }

    ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_UNAVAILABLE, reason);
}


static void
ngx_http_rbgv_auth_lookup_handler(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_uint_t                    i;
    ngx_http_rbgv_auth_ctx_t     *ctx;
    ngx_http_rbgv_auth_record_t   record;

    ctx = ngx_http_rbgv_auth_answered(data);

    if (reply == NULL || reply->type != NGX_RBGV_REDIS_ARRAY
        || reply->nelts % 2)
    {
        ngx_http_rbgv_auth_unavailable(ctx, reply, "HGETALL");
        return;
    }

    for (i = 0; i < reply->nelts; i++) {
        if (reply->elts[i]->type != NGX_RBGV_REDIS_STRING) {
            ngx_http_rbgv_auth_unavailable(ctx, reply, "HGETALL");
            return;
        }
    }

    if (reply->nelts == 0) {
        ngx_http_rbgv_auth_ask_meta(ctx);
        return;
    }

    if (ngx_http_rbgv_auth_read_record(ctx, reply, &record) != NGX_OK
        || ngx_http_rbgv_auth_keep_record(ctx, &record) != NGX_OK)
    {
        ngx_http_rbgv_auth_malformed(ctx);
        return;
    }

    if (ngx_http_rbgv_auth_judge_record(ctx, &record) == NGX_OK) {
        ngx_http_rbgv_auth_judge(ctx);
    }
}


static void
ngx_http_rbgv_auth_malformed(ngx_http_rbgv_auth_ctx_t *ctx)
{
    ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0,
                  "rbgv_auth: the record of key \"%*s\" is malformed",
                  (size_t) RBGV_ID_LEN, ctx->id);

    ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_UNAVAILABLE,
                               "malformed record");
}


/* an empty or foreign store knows no key: it must not be reported as 401 */

static void
ngx_http_rbgv_auth_ask_meta(ngx_http_rbgv_auth_ctx_t *ctx)
{
    u_char                           name[NGX_HTTP_RBGV_AUTH_NAME_LEN], *last;
    ngx_http_rbgv_auth_args_t        args;
    ngx_http_rbgv_auth_main_conf_t  *amcf;

    amcf = ngx_http_get_module_main_conf(ctx->request,
                                         ngx_http_rbgv_auth_module);

    last = ngx_sprintf(name, "%V%s", &amcf->prefix, RBGV_META);

    args.argc = 0;

    ngx_http_rbgv_auth_arg(&args, "HGET", 4);
    ngx_http_rbgv_auth_arg(&args, name, last - name);
    ngx_http_rbgv_auth_arg(&args, RBGV_META_SCHEMA,
                           sizeof(RBGV_META_SCHEMA) - 1);

    if (ngx_http_rbgv_auth_ask(ctx, ngx_http_rbgv_auth_meta_handler, &args)
        != NGX_OK)
    {
        ngx_http_rbgv_auth_unavailable(ctx, NULL, "HGET");
    }
}


static void
ngx_http_rbgv_auth_meta_handler(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_http_rbgv_auth_ctx_t  *ctx;

    ctx = ngx_http_rbgv_auth_answered(data);

    if (reply == NULL || (reply->type != NGX_RBGV_REDIS_STRING
                          && reply->type != NGX_RBGV_REDIS_NIL))
    {
        ngx_http_rbgv_auth_unavailable(ctx, reply, "HGET");
        return;
    }

    if (reply->type == NGX_RBGV_REDIS_STRING
        && reply->str.len == sizeof(RBGV_SCHEMA_VERSION) - 1
        && ngx_strncmp(reply->str.data, RBGV_SCHEMA_VERSION, reply->str.len)
           == 0)
    {
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_INVALID,
                                   "unknown key");
        return;
    }

    ngx_log_error(NGX_LOG_CRIT, ctx->request->connection->log, 0,
                  "rbgv_auth: the store is empty or foreign, "
                  "see \"rbgvctl init\"");

    ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_UNAVAILABLE,
                               "empty or foreign store");
}


static ngx_int_t
ngx_http_rbgv_auth_read_record(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_rbgv_redis_reply_t *reply, ngx_http_rbgv_auth_record_t *record)
{
    ngx_str_t   *field, *value, name;
    ngx_uint_t   i, k;

    static struct {
        ngx_str_t   name;
        size_t      offset;
    }  fields[] = {
        { ngx_string(RBGV_FIELD_STATUS),
          offsetof(ngx_http_rbgv_auth_record_t, status) },
        { ngx_string(RBGV_FIELD_EXPIRES),
          offsetof(ngx_http_rbgv_auth_record_t, expires) },
        { ngx_string(RBGV_FIELD_NAME),
          offsetof(ngx_http_rbgv_auth_record_t, name) },
        { ngx_string(RBGV_FIELD_ENVIRONMENT),
          offsetof(ngx_http_rbgv_auth_record_t, environment) },
        { ngx_string(RBGV_FIELD_OWNER),
          offsetof(ngx_http_rbgv_auth_record_t, owner) }
    };

    ngx_memzero(record, sizeof(ngx_http_rbgv_auth_record_t));

    for (i = 0; i < reply->nelts; i += 2) {
        field = &reply->elts[i]->str;
        value = &reply->elts[i + 1]->str;

        for (k = 0; k < sizeof(fields) / sizeof(fields[0]); k++) {
            if (field->len == fields[k].name.len
                && ngx_memcmp(field->data, fields[k].name.data, field->len)
                   == 0)
            {
                *(ngx_str_t *) ((u_char *) record + fields[k].offset) = *value;
                break;
            }
        }

        if (field->len == sizeof(RBGV_FIELD_SECRET) - 1 + RBGV_DIGEST_HEX
            && ngx_strncmp(field->data, RBGV_FIELD_SECRET,
                           sizeof(RBGV_FIELD_SECRET) - 1)
               == 0)
        {
            ngx_http_rbgv_auth_read_secret(ctx, record,
                       field->data + sizeof(RBGV_FIELD_SECRET) - 1, value);
        }

        if (field->len > sizeof(RBGV_FIELD_LIMIT) - 1
            && ngx_strncmp(field->data, RBGV_FIELD_LIMIT,
                           sizeof(RBGV_FIELD_LIMIT) - 1)
               == 0)
        {
            name.data = field->data + sizeof(RBGV_FIELD_LIMIT) - 1;
            name.len = field->len - (sizeof(RBGV_FIELD_LIMIT) - 1);

            if (ngx_http_rbgv_auth_read_limit(ctx, &name, value) != NGX_OK) {
                return NGX_ERROR;
            }
        }
    }

    return NGX_OK;
}


static void
ngx_http_rbgv_auth_read_secret(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_record_t *record, u_char *digest, ngx_str_t *value)
{
    if (rbgv_digest_hex_equal((const char *) digest, ctx->digest)) {
        record->secret = *value;
    }
}


static ngx_int_t
ngx_http_rbgv_auth_read_limit(ngx_http_rbgv_auth_ctx_t *ctx, ngx_str_t *name,
    ngx_str_t *value)
{
    ngx_http_rbgv_auth_limit_t  *limit;

    if (ctx->limits == NULL) {
        ctx->limits = ngx_array_create(ctx->request->pool, 2,
                                       sizeof(ngx_http_rbgv_auth_limit_t));
        if (ctx->limits == NULL) {
            return NGX_ERROR;
        }
    }

    limit = ngx_array_push(ctx->limits);
    if (limit == NULL) {
        return NGX_ERROR;
    }

    ngx_str_null(&limit->environment);

    limit->name.len = name->len;
    limit->name.data = ngx_pstrdup(ctx->request->pool, name);

    if (limit->name.data == NULL
        || rbgv_limit_parse((const char *) value->data, value->len,
                            &limit->limit)
           != NULL)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* the reply goes: what is needed later is copied */

static ngx_int_t
ngx_http_rbgv_auth_keep_record(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_record_t *record)
{
    u_char  *p;

    if (record->name.len == 0 || record->status.len == 0
        || !rbgv_environment_valid((const char *) record->environment.data,
                                   record->environment.len))
    {
        return NGX_ERROR;
    }

    p = ngx_pnalloc(ctx->request->pool, record->name.len
                    + record->environment.len + record->owner.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ctx->name.data = p;
    ctx->name.len = record->name.len;
    p = ngx_cpymem(p, record->name.data, record->name.len);

    ctx->environment.data = p;
    ctx->environment.len = record->environment.len;
    p = ngx_cpymem(p, record->environment.data, record->environment.len);

    ctx->owner.data = p;
    ctx->owner.len = record->owner.len;
    ngx_memcpy(p, record->owner.data, record->owner.len);

    return NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_judge_record(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_record_t *record)
{
    time_t  expires;

    /* whoever has no secret of this key learns nothing about it */

    if (record->secret.data == NULL) {
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_INVALID,
                                   "wrong secret");
        return NGX_DECLINED;
    }

    ctx->recorded = 1;

    switch (ngx_http_rbgv_auth_read_status(record->status.data,
                                           record->status.len))
    {
    case NGX_OK:
        break;

    case NGX_DECLINED:
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_DISABLED,
                                   "disabled key");
        return NGX_DECLINED;

    default:
        ngx_http_rbgv_auth_malformed(ctx);
        return NGX_DECLINED;
    }

    if (record->expires.data) {
        expires = ngx_atotm(record->expires.data, record->expires.len);

        if (expires == NGX_ERROR) {
            ngx_http_rbgv_auth_malformed(ctx);
            return NGX_DECLINED;
        }

        if (expires && expires <= ngx_time()) {
            ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_EXPIRED,
                                       "expired key");
            return NGX_DECLINED;
        }
    }

    return ngx_http_rbgv_auth_judge_secret(ctx, &record->secret);
}


/* NGX_OK if active, NGX_DECLINED if disabled */

static ngx_int_t
ngx_http_rbgv_auth_read_status(u_char *data, size_t len)
{
    if (len == sizeof(RBGV_ACTIVE) - 1
        && ngx_memcmp(data, RBGV_ACTIVE, len) == 0)
    {
        return NGX_OK;
    }

    if (len == sizeof(RBGV_DISABLED) - 1
        && ngx_memcmp(data, RBGV_DISABLED, len) == 0)
    {
        return NGX_DECLINED;
    }

    return NGX_ERROR;
}


/* "<status> <created> <expires or 0>" */

static ngx_int_t
ngx_http_rbgv_auth_judge_secret(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_str_t *secret)
{
    u_char     *p, *created, *last;
    time_t      expires;
    ngx_int_t   status;

    last = secret->data + secret->len;

    created = ngx_strlchr(secret->data, last, ' ');
    p = created ? ngx_strlchr(created + 1, last, ' ') : NULL;

    if (p == NULL) {
        ngx_http_rbgv_auth_malformed(ctx);
        return NGX_DECLINED;
    }

    status = ngx_http_rbgv_auth_read_status(secret->data,
                                            created - secret->data);
    expires = ngx_atotm(p + 1, last - p - 1);

    if (status == NGX_ERROR || expires == NGX_ERROR
        || ngx_atotm(created + 1, p - created - 1) == NGX_ERROR)
    {
        ngx_http_rbgv_auth_malformed(ctx);
        return NGX_DECLINED;
    }

    if (status == NGX_DECLINED) {
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_DISABLED,
                                   "disabled secret");
        return NGX_DECLINED;
    }

    if (expires && expires <= ngx_time()) {
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_EXPIRED,
                                   "expired secret");
        return NGX_DECLINED;
    }

    return NGX_OK;
}


void
ngx_http_rbgv_auth_count(ngx_http_rbgv_auth_ctx_t *ctx)
{
    u_char                        name[NGX_HTTP_RBGV_AUTH_NAME_LEN],
                                  secret[NGX_HTTP_RBGV_AUTH_SECRET_LEN],
                                  number[NGX_INT32_LEN], *p, *field;
    u_char                        text[RBGV_LIMITS_MAX]
                                      [NGX_HTTP_RBGV_AUTH_FIELD_LEN],
                                  numbers[RBGV_LIMITS_MAX * 2 * NGX_INT32_LEN];
    ngx_uint_t                    i;
    ngx_http_rbgv_auth_args_t     args;
    ngx_http_rbgv_auth_window_t  *w;

    ngx_http_rbgv_auth_select_windows(ctx);

    if (ngx_http_rbgv_auth_cost(ctx) != NGX_OK) {
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_UNAVAILABLE,
                                   "invalid cost");
        return;
    }

    args.argc = 0;

    ngx_http_rbgv_auth_arg(&args, "EVALSHA", 7);
    ngx_http_rbgv_auth_arg(&args, RBGV_COUNT_SHA1,
                           sizeof(RBGV_COUNT_SHA1) - 1);
    ngx_http_rbgv_auth_arg(&args, "1", 1);
    (void) ngx_http_rbgv_auth_arg_name(&args, ctx, name, RBGV_USE);
    ngx_http_rbgv_auth_arg(&args, ctx->accounted ? "0" : "1", 1);
    (void) ngx_http_rbgv_auth_arg_number(&args, number, ctx->cost);

    p = ngx_cpymem(secret, "s:", 2);
    ngx_memcpy(p, ctx->digest, NGX_HTTP_RBGV_AUTH_SECRET_LEN - 2);
    ngx_http_rbgv_auth_arg(&args, secret, NGX_HTTP_RBGV_AUTH_SECRET_LEN);

    for (i = 0; i < ctx->nwindows; i++) {
        w = &ctx->windows[i];
        field = text[i];

        p = ngx_sprintf(field, "w:%V:%uD", &w->name, w->limit.window);
        ngx_http_rbgv_auth_arg(&args, field, p - field);
    }

    p = numbers;

    for (i = 0; i < ctx->nwindows; i++) {
        w = &ctx->windows[i];

        p = ngx_http_rbgv_auth_arg_number(&args, p, w->limit.quota);
        p = ngx_http_rbgv_auth_arg_number(&args, p, w->limit.window);
    }

    if (ngx_http_rbgv_auth_ask(ctx, ngx_http_rbgv_auth_count_handler, &args)
        != NGX_OK)
    {
        ngx_http_rbgv_auth_unavailable(ctx, NULL, "EVALSHA");
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
    ngx_uint_t                   i;
    ngx_http_rbgv_auth_limit_t  *own;

    if (ctx->limits) {
        own = ctx->limits->elts;

        for (i = 0; i < ctx->limits->nelts; i++) {
            if (own[i].name.len == limit->name.len
                && ngx_memcmp(own[i].name.data, limit->name.data,
                              limit->name.len)
                   == 0)
            {
                return own[i].limit;
            }
        }
    }

    return limit->limit;
}


static ngx_int_t
ngx_http_rbgv_auth_cost(ngx_http_rbgv_auth_ctx_t *ctx)
{
    ngx_int_t  n;
    ngx_str_t  value;

    ctx->cost = 1;

    if (ctx->conf->cost == NULL) {
        return NGX_OK;
    }

    if (ngx_http_complex_value(ctx->request, ctx->conf->cost, &value)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    n = ngx_atoi(value.data, value.len);

    if (n < 0 || n > RBGV_QUOTA_MAX) {
        ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0,
                      "rbgv_auth: invalid cost \"%V\"", &value);
        return NGX_ERROR;
    }

    ctx->cost = n;

    return NGX_OK;
}


static void
ngx_http_rbgv_auth_count_handler(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_uint_t                 i;
    ngx_http_rbgv_auth_ctx_t  *ctx;

    ctx = ngx_http_rbgv_auth_answered(data);

    if (reply && ngx_rbgv_redis_is_error(reply, "NOSCRIPT")
        && ngx_http_rbgv_auth_recount(ctx) == NGX_OK)
    {
        return;
    }

    if (reply == NULL || reply->type != NGX_RBGV_REDIS_ARRAY
        || reply->nelts != 2 + 2 * ctx->nwindows)
    {
        ngx_http_rbgv_auth_unavailable(ctx, reply, "EVALSHA");
        return;
    }

    for (i = 0; i < reply->nelts; i++) {
        if (reply->elts[i]->type != NGX_RBGV_REDIS_INTEGER
            || reply->elts[i]->integer < 0 || reply->elts[0]->integer > 1)
        {
            ngx_http_rbgv_auth_unavailable(ctx, reply, "EVALSHA");
            return;
        }
    }

    for (i = 0; i < ctx->nwindows; i++) {
        ctx->windows[i].remaining = reply->elts[2 + 2 * i]->integer;
        ctx->windows[i].reset = reply->elts[3 + 2 * i]->integer;
    }

    ctx->accounted = 1;

    if (reply->elts[0]->integer == 1) {
        ctx->charged = (ctx->nwindows > 0);
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_PASSED, NULL);
        return;
    }

    ctx->retry = reply->elts[1]->integer;

    ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_LIMITED,
                               "a window is full");
}


/* the script cache is volatile: nothing was executed, so ask again, once */

static ngx_int_t
ngx_http_rbgv_auth_recount(ngx_http_rbgv_auth_ctx_t *ctx)
{
    ngx_http_rbgv_auth_main_conf_t  *amcf;

    if (ctx->healed) {
        return NGX_DECLINED;
    }

    ctx->healed = 1;

    amcf = ngx_http_get_module_main_conf(ctx->request,
                                         ngx_http_rbgv_auth_module);

    if (ngx_rbgv_redis_load_scripts(amcf->worker->stores[ctx->conf->store],
                                    ctx->deadline)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_rbgv_auth_count(ctx);

    return NGX_OK;
}


static void
ngx_http_rbgv_auth_arg(ngx_http_rbgv_auth_args_t *args, const void *data,
    size_t len)
{
    args->argv[args->argc] = data;
    args->argvlen[args->argc] = len;
    args->argc++;
}


static u_char *
ngx_http_rbgv_auth_arg_number(ngx_http_rbgv_auth_args_t *args, u_char *p,
    ngx_uint_t n)
{
    u_char  *last;

    last = ngx_sprintf(p, "%ui", n);

    ngx_http_rbgv_auth_arg(args, p, last - p);

    return last;
}


/* <prefix><kind>{<id>} */

static u_char *
ngx_http_rbgv_auth_arg_name(ngx_http_rbgv_auth_args_t *args,
    ngx_http_rbgv_auth_ctx_t *ctx, u_char *p, char *kind)
{
    u_char                          *last;
    ngx_http_rbgv_auth_main_conf_t  *amcf;

    amcf = ngx_http_get_module_main_conf(ctx->request,
                                         ngx_http_rbgv_auth_module);

    last = ngx_cpymem(p, amcf->prefix.data, amcf->prefix.len);
    last = ngx_cpymem(last, kind, ngx_strlen(kind));
    *last++ = '{';
    last = ngx_cpymem(last, ctx->id, RBGV_ID_LEN);
    *last++ = '}';

    ngx_http_rbgv_auth_arg(args, p, last - p);

    return last;
}
