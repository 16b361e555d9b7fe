
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * "rbgv_auth_job_record": an answer that carries the id of a new job waits
 * until Redis has the record of it, so that whoever sees the id finds the job,
 * on any host.  As in ngx_http_image_filter_module, the header is passed on
 * from the body filter.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_rbgv_auth.h"


/* in r->buffered; the bit is used by no filter of nginx there */

#define NGX_HTTP_RBGV_AUTH_BUFFERED  0x08


static ngx_int_t ngx_http_rbgv_auth_job_header_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_rbgv_auth_take_new_job(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx);
static ngx_int_t ngx_http_rbgv_auth_hold(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx);
static ngx_int_t ngx_http_rbgv_auth_job_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static ngx_int_t ngx_http_rbgv_auth_release(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx);
static void ngx_http_rbgv_auth_discard(ngx_chain_t *in);
static void ngx_http_rbgv_auth_release_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_rbgv_auth_job_filter_init(ngx_conf_t *cf);


static ngx_http_module_t  ngx_http_rbgv_auth_job_filter_module_ctx = {
    NULL,                                  /* preconfiguration */
    ngx_http_rbgv_auth_job_filter_init,    /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    NULL,                                  /* create location configuration */
    NULL                                   /* merge location configuration */
};


ngx_module_t  ngx_http_rbgv_auth_job_filter_module = {
    NGX_MODULE_V1,
    &ngx_http_rbgv_auth_job_filter_module_ctx, /* module context */
    NULL,                                  /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    NULL,                                  /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


static ngx_int_t
ngx_http_rbgv_auth_job_header_filter(ngx_http_request_t *r)
{
    ngx_int_t                  rc;
    ngx_http_rbgv_auth_ctx_t  *ctx;

    if (r != r->main) {
        return ngx_http_next_header_filter(r);
    }

    ctx = ngx_http_rbgv_auth_get_ctx(r);

    if (ctx == NULL || ctx->recorder == NULL || ctx->answered
        || !ngx_http_rbgv_auth_good(ctx)
        || (ctx->status != NGX_HTTP_RBGV_AUTH_PASSED
            && !ngx_http_rbgv_auth_spared(ctx)))
    {
        return ngx_http_next_header_filter(r);
    }

    /* a filter may refuse an answer, and make another one */

    ctx->answered = 1;

    rc = ngx_http_rbgv_auth_take_new_job(r, ctx);

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc == NGX_DECLINED
        || ngx_http_rbgv_auth_record_job(ctx, ngx_current_msec
                                              + ctx->recorder->redis_timeout)
           != NGX_AGAIN)
    {
        return ngx_http_next_header_filter(r);
    }

    return ngx_http_rbgv_auth_hold(r, ctx);
}


/* NGX_DECLINED: the answer has no id of a job */

static ngx_int_t
ngx_http_rbgv_auth_take_new_job(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx)
{
    ngx_str_t  id;

    if (ngx_http_complex_value(r, ctx->recorder->job_record, &id) != NGX_OK) {
        return NGX_ERROR;
    }

    if (id.len == 0) {
        return NGX_DECLINED;
    }

    if (!ngx_http_rbgv_auth_job_valid(&id)) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "rbgv_auth: invalid id of a new job \"%V\", "
                      "it is not recorded", &id);

        ngx_http_rbgv_auth_zone_tally(ctx->store->worker->conf->zone,
                                      NGX_HTTP_RBGV_AUTH_KIND_JOB_RECORDS
                                      + NGX_HTTP_RBGV_AUTH_JOB_LOST);
        return NGX_DECLINED;
    }

    ctx->job_id.data = ngx_pstrdup(r->pool, &id);
    if (ctx->job_id.data == NULL) {
        return NGX_ERROR;
    }

    ctx->job_id.len = id.len;

    return NGX_OK;
}


/*
 * What makes the answer goes on as if the header were sent.  A part of the
 * body cannot be chosen by a header filter that runs later.
 */

static ngx_int_t
ngx_http_rbgv_auth_hold(ngx_http_request_t *r, ngx_http_rbgv_auth_ctx_t *ctx)
{
    if (r->headers_out.status == NGX_HTTP_SWITCHING_PROTOCOLS) {

        /* what follows it does not come through filters */

        ngx_http_rbgv_auth_leave_job_record(ctx);

        return ngx_http_next_header_filter(r);
    }

    ctx->holding = 1;

    r->buffered |= NGX_HTTP_RBGV_AUTH_BUFFERED;
    r->allow_ranges = 0;
    r->header_sent = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_job_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_http_rbgv_auth_ctx_t  *ctx;

    ctx = (r == r->main) ? ngx_http_rbgv_auth_get_ctx(r) : NULL;

    if (ctx == NULL || !(ctx->holding || ctx->bodiless)) {
        return ngx_http_next_body_filter(r, in);
    }

    if (ctx->bodiless) {
        ngx_http_rbgv_auth_discard(in);
        return ngx_http_next_body_filter(r, NULL);
    }

    if (ngx_chain_add_copy(r->pool, &ctx->held, in) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ctx->job_record) {
        return NGX_AGAIN;
    }

    return ngx_http_rbgv_auth_release(r, ctx);
}


/* only now is it known if there is to be a body, as there is not for HEAD */

static ngx_int_t
ngx_http_rbgv_auth_release(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx)
{
    ngx_int_t  rc;

    ctx->holding = 0;

    r->buffered &= ~NGX_HTTP_RBGV_AUTH_BUFFERED;
    r->header_sent = 0;

    rc = ngx_http_next_header_filter(r);

    if (rc > NGX_OK) {
        return ngx_http_filter_finalize_request(r,
                                               &ngx_http_rbgv_auth_module, rc);
    }

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (r->header_only) {
        ctx->bodiless = 1;
        ngx_http_rbgv_auth_discard(ctx->held);
        return rc;
    }

    return ngx_http_next_body_filter(r, ctx->held);
}


static void
ngx_http_rbgv_auth_discard(ngx_chain_t *in)
{
    for ( /* void */ ; in; in = in->next) {
        in->buf->pos = in->buf->last;
        in->buf->file_pos = in->buf->file_last;
    }
}


/*
 * Called by the Redis client: the request runs from a posted event.  The
 * handler that it has then may have nothing to send, and not look here.
 */

void
ngx_http_rbgv_auth_job_recorded(ngx_http_rbgv_auth_ctx_t *ctx)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    ctx->write_event_handler = r->write_event_handler;
    r->write_event_handler = ngx_http_rbgv_auth_release_handler;

    ngx_post_event(r->connection->write, &ngx_posted_events);
}


static void
ngx_http_rbgv_auth_release_handler(ngx_http_request_t *r)
{
    ngx_http_rbgv_auth_ctx_t  *ctx;

    ctx = ngx_http_rbgv_auth_get_ctx(r);

    r->write_event_handler = ctx->write_event_handler;

    if (ngx_http_output_filter(r, NULL) == NGX_ERROR) {
        ngx_http_finalize_request(r, NGX_ERROR);
        return;
    }

    r->write_event_handler(r);
}


static ngx_int_t
ngx_http_rbgv_auth_job_filter_init(ngx_conf_t *cf)
{
    ngx_http_rbgv_auth_main_conf_t  *amcf;

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_rbgv_auth_module);

    if (!amcf->records_jobs) {
        return NGX_OK;
    }

    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_rbgv_auth_job_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_rbgv_auth_job_body_filter;

    return NGX_OK;
}
