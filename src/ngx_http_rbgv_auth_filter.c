
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * The answer: header fields of limited locations, and the JSON body that
 * takes the place of nginx's own error page.  A refusal leaves the access
 * phase as a status code, so "error_page", "satisfy" and "auth_delay" see
 * what they see from nginx's own modules.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_rbgv_auth.h"


/* "name";q=2147483647;w=31622400 */

#define NGX_HTTP_RBGV_AUTH_ITEM_LEN                                           \
    (sizeof("\"\";q=;w=, ") - 1 + RBGV_LIMIT_NAME_MAX + 2 * NGX_INT32_LEN)


static ngx_int_t ngx_http_rbgv_auth_header_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_rbgv_auth_add_refusal(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx);
static void ngx_http_rbgv_auth_clear_cache_control(ngx_http_request_t *r);
static ngx_int_t ngx_http_rbgv_auth_add_ietf(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx);
static ngx_int_t ngx_http_rbgv_auth_add_legacy(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx);
static ngx_int_t ngx_http_rbgv_auth_substitute(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx);
static ngx_int_t ngx_http_rbgv_auth_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static ngx_uint_t ngx_http_rbgv_auth_seconds(uint64_t msec);
static ngx_int_t ngx_http_rbgv_auth_filter_init(ngx_conf_t *cf);


static ngx_http_module_t  ngx_http_rbgv_auth_filter_module_ctx = {
    NULL,                                  /* preconfiguration */
    ngx_http_rbgv_auth_filter_init,        /* postconfiguration */

    NULL,                                  /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    NULL,                                  /* create location configuration */
    NULL                                   /* merge location configuration */
};


ngx_module_t  ngx_http_rbgv_auth_filter_module = {
    NGX_MODULE_V1,
    &ngx_http_rbgv_auth_filter_module_ctx, /* module context */
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
ngx_http_rbgv_auth_header_filter(ngx_http_request_t *r)
{
    ngx_uint_t                 status;
    ngx_http_rbgv_auth_ctx_t  *ctx;

    if (r != r->main) {
        return ngx_http_next_header_filter(r);
    }

    ctx = ngx_http_rbgv_auth_get_ctx(r);

    if (ctx == NULL || ctx->status == NGX_HTTP_RBGV_AUTH_UNDECIDED
        || ctx->conf->enable == NGX_HTTP_RBGV_AUTH_DRY_RUN)
    {
        return ngx_http_next_header_filter(r);
    }

    status = ngx_http_rbgv_auth_outcomes[ctx->status].status;

    /* error_page or "satisfy any" may have made something else of it */

    if (status && r->headers_out.status == status) {

        if (ngx_http_rbgv_auth_add_refusal(r, ctx) != NGX_OK) {
            return NGX_ERROR;
        }

        /* a page of error_page is made without the context of the module */

        if (r->err_status == status
            && ngx_http_get_module_ctx(r, ngx_http_rbgv_auth_module) == ctx
            && ngx_http_rbgv_auth_substitute(r, ctx) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (ctx->nwindows && ctx->counted
        && (ctx->status == NGX_HTTP_RBGV_AUTH_PASSED
            || ctx->status == NGX_HTTP_RBGV_AUTH_LIMITED
            || ctx->status == NGX_HTTP_RBGV_AUTH_CREDITS
            || ctx->status == NGX_HTTP_RBGV_AUTH_JOB))
    {
        if ((ctx->conf->headers & NGX_HTTP_RBGV_AUTH_HEADERS_IETF)
            && ngx_http_rbgv_auth_add_ietf(r, ctx) != NGX_OK)
        {
            return NGX_ERROR;
        }

        if ((ctx->conf->headers & NGX_HTTP_RBGV_AUTH_HEADERS_LEGACY)
            && ngx_http_rbgv_auth_add_legacy(r, ctx) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return ngx_http_next_header_filter(r);
}


/* RFC 9110, section 10.2.3, and RFC 6585, section 4 */

static ngx_int_t
ngx_http_rbgv_auth_add_refusal(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx)
{
    ngx_http_rbgv_auth_clear_cache_control(r);

    if (ngx_http_rbgv_auth_add_header(r, "Cache-Control", (u_char *) "no-store",
                                      sizeof("no-store") - 1)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    switch (ctx->status) {

    case NGX_HTTP_RBGV_AUTH_LIMITED:
        return ngx_http_rbgv_auth_add_number(r, "Retry-After",
                                     ngx_http_rbgv_auth_seconds(ctx->retry));

    case NGX_HTTP_RBGV_AUTH_UNAVAILABLE:
        return ngx_http_rbgv_auth_add_retry(r);

    default:
        return NGX_OK;
    }
}


/* spread, so that clients do not come back at the same instant */

ngx_int_t
ngx_http_rbgv_auth_add_retry(ngx_http_request_t *r)
{
    return ngx_http_rbgv_auth_add_number(r, "Retry-After",
                                         1 + ngx_random() % 5);
}


/* a backend may have sent one with X-Accel-Redirect, or with a page */

static void
ngx_http_rbgv_auth_clear_cache_control(ngx_http_request_t *r)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    part = &r->headers_out.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].key.len == sizeof("Cache-Control") - 1
            && ngx_strncasecmp(h[i].key.data, (u_char *) "Cache-Control",
                               sizeof("Cache-Control") - 1)
               == 0)
        {
            h[i].hash = 0;
        }
    }
}


/*
 * draft-ietf-httpapi-ratelimit-headers: lists of String items; "t" is in
 * how many seconds more of the quota may be there, "w" the window in seconds.
 */

static ngx_int_t
ngx_http_rbgv_auth_add_ietf(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx)
{
    u_char                       *policy, *limit, *p, *l;
    ngx_uint_t                    i;
    ngx_http_rbgv_auth_window_t  *w;

    policy = ngx_pnalloc(r->pool,
                         2 * ctx->nwindows * NGX_HTTP_RBGV_AUTH_ITEM_LEN);
    if (policy == NULL) {
        return NGX_ERROR;
    }

    limit = policy + ctx->nwindows * NGX_HTTP_RBGV_AUTH_ITEM_LEN;

    p = policy;
    l = limit;

    for (i = 0; i < ctx->nwindows; i++) {
        w = &ctx->windows[i];

        p = ngx_sprintf(p, "%s\"%V\";q=%uD;w=%uD", i ? ", " : "", &w->name,
                        w->limit.quota, w->limit.window);

        l = ngx_sprintf(l, "%s\"%V\";r=%uD;t=%ui", i ? ", " : "", &w->name,
                        w->remaining, ngx_http_rbgv_auth_seconds(w->reset));
    }

    if (ngx_http_rbgv_auth_add_header(r, "RateLimit-Policy", policy,
                                      p - policy)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_rbgv_auth_add_header(r, "RateLimit", limit, l - limit);
}


static ngx_int_t
ngx_http_rbgv_auth_add_legacy(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx)
{
    uint64_t                      reset;
    ngx_http_rbgv_auth_window_t  *w;

    w = ngx_http_rbgv_auth_tightest(ctx);

    reset = (ctx->status == NGX_HTTP_RBGV_AUTH_LIMITED) ? ctx->retry
                                                        : w->reset;

    if (ngx_http_rbgv_auth_add_number(r, "X-RateLimit-Limit", w->limit.quota)
        != NGX_OK
        || ngx_http_rbgv_auth_add_number(r, "X-RateLimit-Remaining",
                                         w->remaining)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_rbgv_auth_add_number(r, "X-RateLimit-Reset",
                                         ngx_http_rbgv_auth_seconds(reset));
}


ngx_http_rbgv_auth_window_t *
ngx_http_rbgv_auth_tightest(ngx_http_rbgv_auth_ctx_t *ctx)
{
    ngx_uint_t                    i;
    ngx_http_rbgv_auth_window_t  *w;

    if (ctx->nwindows == 0 || !ctx->counted) {
        return NULL;
    }

    w = &ctx->windows[0];

    for (i = 1; i < ctx->nwindows; i++) {
        if (ctx->windows[i].remaining < w->remaining) {
            w = &ctx->windows[i];
        }
    }

    return w;
}


ngx_int_t
ngx_http_rbgv_auth_add_number(ngx_http_request_t *r, char *key, ngx_uint_t n)
{
    u_char  *p;

    p = ngx_pnalloc(r->pool, NGX_INT_T_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_rbgv_auth_add_header(r, key, p,
                                         ngx_sprintf(p, "%ui", n) - p);
}


ngx_int_t
ngx_http_rbgv_auth_add_header(ngx_http_request_t *r, char *key, u_char *data,
    size_t len)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
    h->key.data = (u_char *) key;
    h->key.len = ngx_strlen(key);
    h->value.data = data;
    h->value.len = len;

#if (nginx_version >= 1023000)
    h->next = NULL;
#endif

    return NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_substitute(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx)
{
    if (ngx_http_rbgv_auth_error_body(r,
                                   &ngx_http_rbgv_auth_outcomes[ctx->status],
                                   &ctx->body)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_str_set(&r->headers_out.content_type, "application/json");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;
    r->headers_out.content_length_n = ctx->body.len;

    return NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_buf_t                 *b;
    ngx_chain_t                out;
    ngx_http_rbgv_auth_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_rbgv_auth_module);

    if (ctx == NULL || ctx->body.len == 0 || in == NULL || r != r->main) {
        return ngx_http_next_body_filter(r, in);
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->pos = ctx->body.data;
    b->last = b->pos + ctx->body.len;
    b->memory = 1;
    b->last_buf = 1;
    b->last_in_chain = 1;

    ctx->body.len = 0;

    out.buf = b;
    out.next = NULL;

    return ngx_http_next_body_filter(r, &out);
}


/* rounded up, at least 1: waiting that long is enough */

static ngx_uint_t
ngx_http_rbgv_auth_seconds(uint64_t msec)
{
    return msec ? (msec - 1) / 1000 + 1 : 1;
}


static ngx_int_t
ngx_http_rbgv_auth_filter_init(ngx_conf_t *cf)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_rbgv_auth_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_rbgv_auth_body_filter;

    return NGX_OK;
}
