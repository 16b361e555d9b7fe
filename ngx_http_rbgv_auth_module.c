
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * One request, from the access phase to the verdict:
 *
 *     ngx_http_rbgv_auth_handler()     this file
 *     ngx_http_rbgv_auth_take_key()    src/ngx_http_rbgv_auth_key.c
 *     ngx_http_rbgv_auth_lookup()      src/ngx_http_rbgv_auth_lookup.c
 *     ngx_http_rbgv_auth_judge()       this file
 *     ngx_http_rbgv_auth_count()       src/ngx_http_rbgv_auth_count.c
 *     ngx_http_rbgv_auth_find_job()    src/ngx_http_rbgv_auth_job.c
 *     ngx_http_rbgv_auth_granted()     this file
 *     ngx_http_rbgv_auth_decided()     this file
 *     ngx_http_rbgv_auth_verdict()     this file
 *
 * and then src/ngx_http_rbgv_auth_filter.c for the answer, which waits in
 * src/ngx_http_rbgv_auth_job_filter.c until a new job is recorded.  Where
 * Redis does not answer, src/ngx_http_rbgv_auth_outage.c decides how to go on.
 *
 * Lookup and count find what they want in the zone that the workers share,
 * src/ngx_http_rbgv_auth_zone.c, or ask Redis: HGETALL for the record of the
 * key, one EVALSHA of src/rbgv_count.lua for the windows, with a GET beside it
 * for a job.  What the zone holds is kept true by
 * src/ngx_http_rbgv_auth_channel.c.  Below all of them is the Redis client,
 * src/ngx_rbgv_redis.c, which knows nothing of HTTP.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_rbgv_auth.h"


static ngx_int_t ngx_http_rbgv_auth_handler(ngx_http_request_t *r);
static ngx_http_rbgv_auth_ctx_t *ngx_http_rbgv_auth_create_ctx(
    ngx_http_request_t *r);
static void ngx_http_rbgv_auth_set_conf(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_loc_conf_t *alcf);
static void ngx_http_rbgv_auth_ctx_cleanup(void *data);
static ngx_int_t ngx_http_rbgv_auth_repeat(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx, ngx_http_rbgv_auth_loc_conf_t *alcf);
static void ngx_http_rbgv_auth_review(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_loc_conf_t *alcf);
static ngx_int_t ngx_http_rbgv_auth_verdict(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx);
static ngx_int_t ngx_http_rbgv_auth_challenge(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx);
static void ngx_http_rbgv_auth_gone(void *data);
static void ngx_http_rbgv_auth_leave(ngx_http_rbgv_auth_ctx_t *ctx);
static ngx_int_t ngx_http_rbgv_auth_init_process(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_rbgv_auth_init_digesters(ngx_cycle_t *cycle,
    ngx_http_rbgv_auth_worker_t *worker);
static ngx_int_t ngx_http_rbgv_auth_init_store(ngx_cycle_t *cycle,
    ngx_http_rbgv_auth_worker_t *worker, ngx_rbgv_redis_conf_t *conf,
    ngx_http_rbgv_auth_store_t *store);
static void ngx_http_rbgv_auth_exit_process(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_rbgv_auth_init(ngx_conf_t *cf);


ngx_http_rbgv_auth_outcome_t  ngx_http_rbgv_auth_outcomes[] = {

    { ngx_null_string, 0, ngx_null_string, ngx_null_string },

    { ngx_string("PASSED"), 0, ngx_null_string, ngx_null_string },

    { ngx_string("MISSING"), NGX_HTTP_UNAUTHORIZED,
      ngx_string("missing_api_key"),
      ngx_string("X-Api-Key header missing") },

    { ngx_string("INVALID"), NGX_HTTP_UNAUTHORIZED,
      ngx_string("invalid_api_key"),
      ngx_string("Key not recognized") },

    { ngx_string("DISABLED"), NGX_HTTP_UNAUTHORIZED,
      ngx_string("invalid_api_key"),
      ngx_string("Key not recognized") },

    { ngx_string("EXPIRED"), NGX_HTTP_UNAUTHORIZED,
      ngx_string("invalid_api_key"),
      ngx_string("Key not recognized") },

    { ngx_string("ENVIRONMENT"), NGX_HTTP_UNAUTHORIZED,
      ngx_string("invalid_api_key"),
      ngx_string("Key not recognized") },

    { ngx_string("LIMITED"), NGX_HTTP_TOO_MANY_REQUESTS,
      ngx_string("rate_limited"),
      ngx_string("Rate limit exceeded") },

    { ngx_string("CREDITS"), NGX_HTTP_RBGV_AUTH_PAYMENT_REQUIRED,
      ngx_string("insufficient_credits"),
      ngx_string("Not enough credits to process this request") },

    { ngx_string("JOB"), NGX_HTTP_NOT_FOUND,
      ngx_string("job_not_found"),
      ngx_string("Job not found") },

    { ngx_string("UNAVAILABLE"), NGX_HTTP_SERVICE_UNAVAILABLE,
      ngx_string("auth_unavailable"),
      ngx_string("Authentication is temporarily unavailable") }
};


/* $rbgv_auth_source; the order is that of ngx_http_rbgv_auth_source_e */

ngx_str_t  ngx_http_rbgv_auth_sources[] = {
    ngx_null_string,
    ngx_string("redis"),
    ngx_string("zone"),
    ngx_string("lease"),
    ngx_string("stale"),
    ngx_string("local")
};


static ngx_conf_enum_t  ngx_http_rbgv_auth_enable[] = {
    { ngx_string("off"), NGX_HTTP_RBGV_AUTH_OFF },
    { ngx_string("on"), NGX_HTTP_RBGV_AUTH_ON },
    { ngx_string("dry_run"), NGX_HTTP_RBGV_AUTH_DRY_RUN },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_rbgv_auth_headers[] = {
    { ngx_string("off"), 0 },
    { ngx_string("ietf"), NGX_HTTP_RBGV_AUTH_HEADERS_IETF },
    { ngx_string("legacy"), NGX_HTTP_RBGV_AUTH_HEADERS_LEGACY },
    { ngx_string("both"), NGX_HTTP_RBGV_AUTH_HEADERS_IETF
                          |NGX_HTTP_RBGV_AUTH_HEADERS_LEGACY },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_rbgv_auth_log_levels[] = {
    { ngx_string("info"), NGX_LOG_INFO },
    { ngx_string("notice"), NGX_LOG_NOTICE },
    { ngx_string("warn"), NGX_LOG_WARN },
    { ngx_string("error"), NGX_LOG_ERR },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_rbgv_auth_limit_unavailable[] = {
    { ngx_string("local"), NGX_HTTP_RBGV_AUTH_LIMIT_LOCAL },
    { ngx_string("allow"), NGX_HTTP_RBGV_AUTH_LIMIT_ALLOW },
    { ngx_string("deny"), NGX_HTTP_RBGV_AUTH_LIMIT_DENY },
    { ngx_null_string, 0 }
};


#if (NGX_SSL)

static ngx_conf_bitmask_t  ngx_http_rbgv_auth_ssl_protocols[] = {
    { ngx_string("TLSv1"), NGX_SSL_TLSv1 },
    { ngx_string("TLSv1.1"), NGX_SSL_TLSv1_1 },
    { ngx_string("TLSv1.2"), NGX_SSL_TLSv1_2 },
    { ngx_string("TLSv1.3"), NGX_SSL_TLSv1_3 },
    { ngx_null_string, 0 }
};

#endif


#define NGX_HTTP_RBGV_AUTH_CONF                                               \
    (NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF)


static ngx_command_t  ngx_http_rbgv_auth_commands[] = {

    { ngx_string("rbgv_auth"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_HTTP_LMT_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, enable),
      &ngx_http_rbgv_auth_enable },

    { ngx_string("rbgv_auth_redis"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_TAKE1,
      ngx_http_rbgv_auth_set_redis,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("rbgv_auth_redis_password_file"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, redis_password_file),
      NULL },

    { ngx_string("rbgv_auth_redis_timeout"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, redis_timeout),
      NULL },

    { ngx_string("rbgv_auth_redis_connect_timeout"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, redis_connect_timeout),
      NULL },

#if (NGX_SSL)

    { ngx_string("rbgv_auth_redis_ssl_verify"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, ssl.verify),
      NULL },

    { ngx_string("rbgv_auth_redis_ssl_verify_depth"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, ssl.verify_depth),
      NULL },

    { ngx_string("rbgv_auth_redis_ssl_trusted_certificate"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, ssl.trusted_certificate),
      NULL },

    { ngx_string("rbgv_auth_redis_ssl_crl"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, ssl.crl),
      NULL },

    { ngx_string("rbgv_auth_redis_ssl_name"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, ssl.name),
      NULL },

    { ngx_string("rbgv_auth_redis_ssl_server_name"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, ssl.server_name),
      NULL },

    { ngx_string("rbgv_auth_redis_ssl_certificate"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, ssl.certificate),
      NULL },

    { ngx_string("rbgv_auth_redis_ssl_certificate_key"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, ssl.certificate_key),
      NULL },

    { ngx_string("rbgv_auth_redis_ssl_password_file"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_TAKE1,
      ngx_http_rbgv_auth_set_ssl_passwords,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("rbgv_auth_redis_ssl_protocols"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_1MORE,
      ngx_conf_set_bitmask_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, ssl.protocols),
      &ngx_http_rbgv_auth_ssl_protocols },

    { ngx_string("rbgv_auth_redis_ssl_ciphers"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, ssl.ciphers),
      NULL },

    { ngx_string("rbgv_auth_redis_ssl_conf_command"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_TAKE2,
      ngx_conf_set_keyval_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, ssl.conf_commands),
      NULL },

    { ngx_string("rbgv_auth_redis_ssl_session_reuse"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, ssl.session_reuse),
      NULL },

#endif

    { ngx_string("rbgv_auth_prefix"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_main_conf_t, prefix),
      NULL },

    { ngx_string("rbgv_auth_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_rbgv_auth_set_zone,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("rbgv_auth_pepper_file"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE12,
      ngx_http_rbgv_auth_set_pepper_file,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("rbgv_auth_opaque_keys"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, opaque_keys),
      NULL },

    { ngx_string("rbgv_auth_environment"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_1MORE,
      ngx_http_rbgv_auth_set_environment,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("rbgv_auth_limit"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_TAKE123,
      ngx_http_rbgv_auth_set_limit,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("rbgv_auth_cost"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_TAKE1,
      ngx_http_rbgv_auth_set_price,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, cost),
      NULL },

    { ngx_string("rbgv_auth_credits"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_TAKE1,
      ngx_http_rbgv_auth_set_price,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, credits),
      "off" },

    { ngx_string("rbgv_auth_lease"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_TAKE1,
      ngx_http_rbgv_auth_set_lease,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("rbgv_auth_unavailable"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_TAKE1,
      ngx_http_rbgv_auth_set_unavailable,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("rbgv_auth_limit_unavailable"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, limit_unavailable),
      &ngx_http_rbgv_auth_limit_unavailable },

    { ngx_string("rbgv_auth_job"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_rbgv_auth_set_job,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, job),
      NULL },

    { ngx_string("rbgv_auth_job_record"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_rbgv_auth_set_job,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, job_record),
      NULL },

    { ngx_string("rbgv_auth_events"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, events),
      NULL },

    { ngx_string("rbgv_auth_hide_key"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, hide_key),
      NULL },

    { ngx_string("rbgv_auth_headers"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, headers),
      &ngx_http_rbgv_auth_headers },

    { ngx_string("rbgv_auth_realm"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, realm),
      NULL },

    { ngx_string("rbgv_auth_log_level"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_enum_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, log_level),
      &ngx_http_rbgv_auth_log_levels },

    { ngx_string("rbgv_auth_admin"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_rbgv_auth_set_admin,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("rbgv_auth_admin_token_file"),
      NGX_HTTP_RBGV_AUTH_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_str_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_rbgv_auth_loc_conf_t, admin_token_file),
      NULL },

    { ngx_string("rbgv_auth_usage"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_rbgv_auth_set_usage,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("rbgv_auth_metrics"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_rbgv_auth_set_metrics,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_rbgv_auth_module_ctx = {
    ngx_http_rbgv_auth_add_variables,      /* preconfiguration */
    ngx_http_rbgv_auth_init,               /* postconfiguration */

    ngx_http_rbgv_auth_create_main_conf,   /* create main configuration */
    ngx_http_rbgv_auth_init_main_conf,     /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_rbgv_auth_create_loc_conf,    /* create location configuration */
    ngx_http_rbgv_auth_merge_loc_conf      /* merge location configuration */
};


ngx_module_t  ngx_http_rbgv_auth_module = {
    NGX_MODULE_V1,
    &ngx_http_rbgv_auth_module_ctx,        /* module context */
    ngx_http_rbgv_auth_commands,           /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_http_rbgv_auth_init_process,       /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_rbgv_auth_exit_process,       /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_int_t
ngx_http_rbgv_auth_handler(ngx_http_request_t *r)
{
    ngx_http_rbgv_auth_ctx_t       *ctx;
    ngx_http_rbgv_auth_loc_conf_t  *alcf;

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_rbgv_auth_module);

    if (alcf->enable == NGX_HTTP_RBGV_AUTH_OFF) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_rbgv_auth_get_ctx(r);

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "rbgv auth handler, status: %ui",
                   ctx ? (ngx_uint_t) ctx->status : 0);

    if (ctx) {
        return ngx_http_rbgv_auth_repeat(r, ctx, alcf);
    }

    ctx = ngx_http_rbgv_auth_create_ctx(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_rbgv_auth_set_conf(ctx, alcf);

    if (ngx_http_rbgv_auth_take_key(r, ctx) == NGX_OK) {
        ngx_http_rbgv_auth_lookup(ctx);
    }

    if (ctx->status == NGX_HTTP_RBGV_AUTH_UNDECIDED) {
        return ngx_http_rbgv_auth_park(r, ctx);
    }

    return ngx_http_rbgv_auth_verdict(r, ctx);
}


static ngx_http_rbgv_auth_ctx_t *
ngx_http_rbgv_auth_create_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t        *cln;
    ngx_http_rbgv_auth_ctx_t  *ctx;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_rbgv_auth_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    cln->handler = ngx_http_rbgv_auth_ctx_cleanup;

    ctx = cln->data;
    ngx_memzero(ctx, offsetof(ngx_http_rbgv_auth_ctx_t, sha256));
    ctx->request = r;

    ngx_http_set_ctx(r, ctx, ngx_http_rbgv_auth_module);

    return ctx;
}


static void
ngx_http_rbgv_auth_set_conf(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_loc_conf_t *alcf)
{
    ngx_http_rbgv_auth_main_conf_t  *amcf;

    amcf = ngx_http_get_module_main_conf(ctx->request,
                                         ngx_http_rbgv_auth_module);

    ctx->conf = alcf;
    ctx->store = &amcf->worker->stores[alcf->store];
    ctx->place.store = ctx->store->index;
    ctx->now = 0;
    ctx->deadline = ngx_current_msec + alcf->redis_timeout;

    /* what a request makes in one place is answered in another one */

    if (alcf->job_record) {
        ctx->recorder = alcf;
    }
}


ngx_http_rbgv_auth_ctx_t *
ngx_http_rbgv_auth_get_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t        *cln;
    ngx_http_rbgv_auth_ctx_t  *ctx;

    r = r->main;

    ctx = ngx_http_get_module_ctx(r, ngx_http_rbgv_auth_module);

    if (ctx || !(r->internal || r->filter_finalize)) {
        return ctx;
    }

    /* an internal redirect has cleared r->ctx */

    for (cln = r->pool->cleanup; cln; cln = cln->next) {
        if (cln->handler == ngx_http_rbgv_auth_ctx_cleanup) {
            return cln->data;
        }
    }

    return NULL;
}


static void
ngx_http_rbgv_auth_ctx_cleanup(void *data)
{
    /* marks the context in the list of cleanups */
}


/*
 * The access phase is run again: by a reply that has come, or after an
 * internal redirect.  One request is charged once.
 */

static ngx_int_t
ngx_http_rbgv_auth_repeat(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx, ngx_http_rbgv_auth_loc_conf_t *alcf)
{
    ngx_uint_t  refused;

    if (ctx->status == NGX_HTTP_RBGV_AUTH_UNDECIDED) {
        return NGX_AGAIN;
    }

    if (ngx_http_get_module_ctx(r, ngx_http_rbgv_auth_module) == ctx) {
        return ngx_http_rbgv_auth_verdict(r, ctx);
    }

    refused = ctx->status != NGX_HTTP_RBGV_AUTH_PASSED
              && !ngx_http_rbgv_auth_spared(ctx);

    if (refused && alcf->enable == NGX_HTTP_RBGV_AUTH_DRY_RUN) {
        return NGX_DECLINED;
    }

    if (refused && (ctx->status == NGX_HTTP_RBGV_AUTH_LIMITED
                    || ctx->status == NGX_HTTP_RBGV_AUTH_CREDITS))
    {
        /* the key is good, and error_page has a page of its own to show */

        return NGX_OK;
    }

    ngx_http_set_ctx(r, ctx, ngx_http_rbgv_auth_module);

    if (refused || ctx->conf == alcf) {
        return ngx_http_rbgv_auth_verdict(r, ctx);
    }

    ngx_http_rbgv_auth_review(ctx, alcf);

    if (ctx->status == NGX_HTTP_RBGV_AUTH_UNDECIDED) {
        return ngx_http_rbgv_auth_park(r, ctx);
    }

    return ngx_http_rbgv_auth_verdict(r, ctx);
}


/* the request was let pass in one place, and comes to another one */

static void
ngx_http_rbgv_auth_review(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_loc_conf_t *alcf)
{
    ngx_uint_t                   store;
    ngx_http_rbgv_auth_status_e  status;

    store = ctx->conf->store;
    status = ctx->status;

    if (ctx->conf->enable == NGX_HTTP_RBGV_AUTH_DRY_RUN) {

        /* what is not enforced stands for nothing that is */

        ctx->charged = 0;
    }

    ngx_http_rbgv_auth_set_conf(ctx, alcf);

    if (!ctx->identified) {

        /* spared, without a key that could be looked up */

        ngx_http_rbgv_auth_decided(ctx, status, ctx->reason);
        return;
    }

    ctx->status = NGX_HTTP_RBGV_AUTH_UNDECIDED;

    if (alcf->store != store || ctx->stale
        || status != NGX_HTTP_RBGV_AUTH_PASSED)
    {
        /*
         * What one store says of a key is not true of another, nor is a stale
         * record good everywhere.
         */

        ctx->recorded = 0;

        ngx_http_rbgv_auth_lookup(ctx);

    } else {
        ngx_http_rbgv_auth_judge(ctx);
    }
}


ngx_int_t
ngx_http_rbgv_auth_park(ngx_http_request_t *r, ngx_http_rbgv_auth_ctx_t *ctx)
{
    ngx_connection_t  *c;

    c = r->connection;

    if (c->read->ready) {
        ngx_post_event(c->read, &ngx_posted_events);

    } else if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    ctx->parked = 1;

    return NGX_AGAIN;
}


/* the handlers do not run on the stack of the Redis client */

void
ngx_http_rbgv_auth_unpark(ngx_http_rbgv_auth_ctx_t *ctx)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    ctx->parked = 0;

    r->read_event_handler = ngx_http_block_reading;
    r->write_event_handler = ngx_http_core_run_phases;

    ngx_post_event(r->connection->write, &ngx_posted_events);
}


/* the record is read: may this key in this location, and how often? */

void
ngx_http_rbgv_auth_judge(ngx_http_rbgv_auth_ctx_t *ctx)
{
    ngx_str_t   *environment;
    ngx_uint_t   i;

    if (ctx->opaque && !ctx->conf->opaque_keys) {
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_INVALID,
                                   "malformed key");
        return;
    }

    if (ctx->conf->environments) {

        environment = ctx->conf->environments->elts;

        for (i = 0; i < ctx->conf->environments->nelts; i++) {
            if (environment[i].len == ctx->environment.len
                && ngx_memcmp(environment[i].data, ctx->environment.data,
                              environment[i].len)
                   == 0)
            {
                break;
            }
        }

        if (i == ctx->conf->environments->nelts) {
            ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_ENVIRONMENT,
                                       "key of another environment");
            return;
        }
    }

    ctx->granted = 0;
    ctx->job_state = ctx->conf->job ? NGX_HTTP_RBGV_AUTH_JOB_SOUGHT
                                    : NGX_HTTP_RBGV_AUTH_JOB_NONE;

    if (ctx->charged
        || (ctx->accounted && ctx->conf->limits->nelts == 0
            && ctx->conf->credits == NULL))
    {
        ngx_http_rbgv_auth_granted(ctx);

    } else {
        ngx_http_rbgv_auth_count(ctx);
    }

    /* what the count asks for is sent at the end of this turn, with it */

    if (ctx->status == NGX_HTTP_RBGV_AUTH_UNDECIDED && ctx->conf->job) {
        ngx_http_rbgv_auth_find_job(ctx);
    }
}


/* a count that refuses goes before what is known of the job */

void
ngx_http_rbgv_auth_granted(ngx_http_rbgv_auth_ctx_t *ctx)
{
    ctx->granted = 1;

    switch (ctx->job_state) {

    case NGX_HTTP_RBGV_AUTH_JOB_SOUGHT:
        ctx->asked = ngx_current_msec;
        break;

    case NGX_HTTP_RBGV_AUTH_JOB_REFUSED:
        ngx_http_rbgv_auth_uncharge(ctx);
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_JOB,
                                   ctx->job_reason);
        break;

    case NGX_HTTP_RBGV_AUTH_JOB_FAILED:
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_UNAVAILABLE,
                                   ctx->job_reason);
        break;

    default: /* NGX_HTTP_RBGV_AUTH_JOB_NONE, NGX_HTTP_RBGV_AUTH_JOB_OWN */
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_PASSED, NULL);
    }
}


void
ngx_http_rbgv_auth_decided(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_status_e status, const char *reason)
{
    ngx_str_t                      id;
    ngx_uint_t                     spared;
    ngx_http_request_t            *r;
    ngx_http_rbgv_auth_outcome_t  *outcome;

    r = ctx->request;

    if (ctx->stale) {
        ngx_http_rbgv_auth_decided_stale(ctx, &status, &reason);
    }

    ctx->status = status;
    ctx->reason = reason;

    spared = ngx_http_rbgv_auth_spared(ctx);

    ngx_http_rbgv_auth_leave_job(ctx);

    ngx_http_rbgv_auth_zone_tally(ctx->store->worker->conf->zone,
                                  ngx_http_rbgv_auth_kind(status, ctx->source,
                                                          spared));

    outcome = &ngx_http_rbgv_auth_outcomes[status];

    if (outcome->status) {
        id.len = ctx->identified ? RBGV_ID_LEN : 0;
        id.data = ctx->place.id;

        ngx_log_error(ctx->conf->log_level, r->connection->log, 0,
                      "rbgv_auth: %V%s, key: \"%V\", reason: %s",
                      &outcome->name, spared ? ", dry run" : "", &id, reason);
    }

    if (ctx->parked) {
        ngx_http_rbgv_auth_unpark(ctx);
    }
}


ngx_uint_t
ngx_http_rbgv_auth_spared(ngx_http_rbgv_auth_ctx_t *ctx)
{
    return ctx->conf->enable == NGX_HTTP_RBGV_AUTH_DRY_RUN
           && ngx_http_rbgv_auth_outcomes[ctx->status].status != 0;
}


ngx_int_t
ngx_http_rbgv_auth_wait(ngx_http_rbgv_auth_ctx_t *ctx, ngx_queue_t *waiters)
{
    if (ngx_http_rbgv_auth_tie(ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_queue_insert_tail(waiters, &ctx->queue);

    ctx->queued = 1;
    ctx->asked = ngx_current_msec;

    return NGX_OK;
}


ngx_int_t
ngx_http_rbgv_auth_tie(ngx_http_rbgv_auth_ctx_t *ctx)
{
    if (ctx->cleanup) {
        return NGX_OK;
    }

    /* run by ngx_http_terminate_request() too, before the pool goes */

    ctx->cleanup = ngx_http_cleanup_add(ctx->request, 0);
    if (ctx->cleanup == NULL) {
        return NGX_ERROR;
    }

    ctx->cleanup->handler = ngx_http_rbgv_auth_gone;
    ctx->cleanup->data = ctx;

    return NGX_OK;
}


static void
ngx_http_rbgv_auth_gone(void *data)
{
    ngx_http_rbgv_auth_ctx_t *ctx = data;

    ngx_http_rbgv_auth_leave(ctx);
    ngx_http_rbgv_auth_leave_job(ctx);
    ngx_http_rbgv_auth_leave_job_record(ctx);
}


static void
ngx_http_rbgv_auth_leave(ngx_http_rbgv_auth_ctx_t *ctx)
{
    if (ctx->queued) {
        ngx_queue_remove(&ctx->queue);
        ctx->queued = 0;
    }
}


ngx_http_rbgv_auth_ctx_t *
ngx_http_rbgv_auth_woken(ngx_queue_t *q)
{
    ngx_http_request_t        *r;
    ngx_http_rbgv_auth_ctx_t  *ctx;

    ctx = ngx_queue_data(q, ngx_http_rbgv_auth_ctx_t, queue);

    ngx_http_rbgv_auth_leave(ctx);

    ctx->now = 0;
    ctx->waited += ngx_current_msec - ctx->asked;

    r = ctx->request;

    ngx_http_set_log_request(r->connection->log, r);

    return ctx;
}


ngx_uint_t
ngx_http_rbgv_auth_good(ngx_http_rbgv_auth_ctx_t *ctx)
{
    return ctx->status == NGX_HTTP_RBGV_AUTH_PASSED
           || ctx->status == NGX_HTTP_RBGV_AUTH_LIMITED
           || ctx->status == NGX_HTTP_RBGV_AUTH_CREDITS
           || ctx->status == NGX_HTTP_RBGV_AUTH_JOB;
}


static ngx_int_t
ngx_http_rbgv_auth_verdict(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx)
{
    ngx_uint_t  status;

    if (ctx->conf->enable == NGX_HTTP_RBGV_AUTH_DRY_RUN) {

        /* whatever else there is decides as if this module were not there */

        return NGX_DECLINED;
    }

    status = ngx_http_rbgv_auth_outcomes[ctx->status].status;

    if (status == 0) {
        return NGX_OK;
    }

    if (status == NGX_HTTP_UNAUTHORIZED
        && ngx_http_rbgv_auth_challenge(r, ctx) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return status;
}


/* RFC 9110, section 11.6.1; nginx drops it if "satisfy any" lets pass */

static ngx_int_t
ngx_http_rbgv_auth_challenge(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx)
{
    ngx_table_elt_t  *h;

    if (ctx->challenge && ctx->challenge->hash) {
        return NGX_OK;
    }

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
    ngx_str_set(&h->key, "WWW-Authenticate");
    h->value = ctx->conf->challenge;

#if (nginx_version >= 1023000)
    h->next = r->headers_out.www_authenticate;
#endif

    r->headers_out.www_authenticate = h;
    ctx->challenge = h;

    return NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_init_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                        i;
    ngx_rbgv_redis_conf_t           **conf;
    ngx_http_rbgv_auth_worker_t      *worker;
    ngx_http_rbgv_auth_main_conf_t   *amcf;

    amcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_rbgv_auth_module);

    if (amcf == NULL || amcf->stores.nelts == 0
        || (ngx_process != NGX_PROCESS_WORKER
            && ngx_process != NGX_PROCESS_SINGLE))
    {
        return NGX_OK;
    }

    worker = ngx_pcalloc(cycle->pool, sizeof(ngx_http_rbgv_auth_worker_t));
    if (worker == NULL) {
        return NGX_ERROR;
    }

    worker->conf = amcf;
    worker->pool = cycle->pool;
    worker->ident = (ngx_uint_t) -1;

    if (ngx_http_rbgv_auth_init_digesters(cycle, worker) != NGX_OK) {
        return NGX_ERROR;
    }

    worker->keys = ngx_http_rbgv_auth_keys_create(cycle);
    if (worker->keys == NULL) {
        return NGX_ERROR;
    }

    worker->stores = ngx_pcalloc(cycle->pool, amcf->stores.nelts
                                       * sizeof(ngx_http_rbgv_auth_store_t));
    if (worker->stores == NULL) {
        return NGX_ERROR;
    }

    conf = amcf->stores.elts;

    for (i = 0; i < amcf->stores.nelts; i++) {
        if (ngx_http_rbgv_auth_init_store(cycle, worker, conf[i],
                                          &worker->stores[i])
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        worker->nstores++;
    }

    ngx_http_rbgv_auth_lookup_init(worker);
    ngx_http_rbgv_auth_count_init(worker);
    ngx_http_rbgv_auth_outage_init(worker);
    ngx_http_rbgv_auth_job_init(worker);
    ngx_http_rbgv_auth_job_record_init(worker);

    amcf->worker = worker;

    return NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_init_digesters(ngx_cycle_t *cycle,
    ngx_http_rbgv_auth_worker_t *worker)
{
    ngx_http_rbgv_auth_main_conf_t  *amcf;

    amcf = worker->conf;

    worker->digester = rbgv_digester_create(amcf->pepper.data,
                                            amcf->pepper.len);

    if (amcf->previous_pepper.data) {
        worker->previous = rbgv_digester_create(amcf->previous_pepper.data,
                                                amcf->previous_pepper.len);
    }

    if (worker->digester == NULL
        || (amcf->previous_pepper.data && worker->previous == NULL))
    {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "OpenSSL has no SHA-256 or HMAC to offer");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_init_store(ngx_cycle_t *cycle,
    ngx_http_rbgv_auth_worker_t *worker, ngx_rbgv_redis_conf_t *conf,
    ngx_http_rbgv_auth_store_t *store)
{
    uint32_t  tag;

    store->conf = conf;
    store->worker = worker;

    /* the same store is the same one by whatever login */

    ngx_crc32_init(tag);
    ngx_crc32_update(&tag, conf->name.data, conf->name.len);
    ngx_crc32_update(&tag, (u_char *) &conf->db, sizeof(ngx_uint_t));
    ngx_crc32_update(&tag, worker->conf->prefix.data,
                     worker->conf->prefix.len);
    ngx_crc32_final(tag);

    store->index = ngx_http_rbgv_auth_zone_store(worker->conf->zone, tag);

    store->redis = ngx_rbgv_store_create(conf, cycle->log);
    if (store->redis == NULL) {
        return NGX_ERROR;
    }

    if (worker->conf->zone_size == 0) {
        return NGX_OK;
    }

    if (!ngx_http_rbgv_auth_zone_has(store->index)) {
        ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                      "\"rbgv_auth_zone\" has no place for the store \"%V\": "
                      "every request asks it", &conf->name);
        return NGX_OK;
    }

    store->channel = ngx_http_rbgv_auth_channel_create(cycle, worker->conf,
                                                       store);

    return store->channel ? NGX_OK : NGX_ERROR;
}


static void
ngx_http_rbgv_auth_exit_process(ngx_cycle_t *cycle)
{
    ngx_uint_t                       i;
    ngx_http_rbgv_auth_worker_t     *worker;
    ngx_http_rbgv_auth_main_conf_t  *amcf;

    amcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_rbgv_auth_module);

    if (amcf == NULL || amcf->worker == NULL) {
        return;
    }

    worker = amcf->worker;

    for (i = 0; i < worker->nstores; i++) {
        if (worker->stores[i].channel) {
            ngx_http_rbgv_auth_channel_destroy(worker->stores[i].channel);
        }

        ngx_rbgv_store_destroy(worker->stores[i].redis);
    }

    ngx_http_rbgv_auth_count_done(worker);
    ngx_http_rbgv_auth_outage_done(worker);
    ngx_http_rbgv_auth_job_record_done(worker);
    ngx_http_rbgv_auth_keys_destroy(worker->keys);
    rbgv_digester_free(worker->digester);
    rbgv_digester_free(worker->previous);

    amcf->worker = NULL;
}


static ngx_int_t
ngx_http_rbgv_auth_init(ngx_conf_t *cf)
{
    ngx_http_handler_pt             *h;
    ngx_http_core_main_conf_t       *cmcf;
    ngx_http_rbgv_auth_main_conf_t  *amcf;

#if (NGX_SSL)
    ngx_http_rbgv_auth_check_ssl(cf);
#endif

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_ACCESS_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_rbgv_auth_handler;

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_PRECONTENT_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_rbgv_auth_hide_handler;

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_rbgv_auth_module);

    if (!amcf->has_events) {
        return NGX_OK;
    }

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_LOG_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_rbgv_auth_event_handler;

    return NGX_OK;
}
