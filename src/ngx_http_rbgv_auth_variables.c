
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_rbgv_auth.h"


static ngx_int_t ngx_http_rbgv_auth_status_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_rbgv_auth_key_id_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_rbgv_auth_record_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_rbgv_auth_source_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_rbgv_auth_remaining_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_rbgv_auth_time_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_rbgv_auth_set_variable(ngx_http_variable_value_t *v,
    u_char *data, size_t len);


static ngx_http_variable_t  ngx_http_rbgv_auth_vars[] = {

    { ngx_string("rbgv_auth_status"), NULL,
      ngx_http_rbgv_auth_status_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("rbgv_auth_key_id"), NULL,
      ngx_http_rbgv_auth_key_id_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("rbgv_auth_key_name"), NULL,
      ngx_http_rbgv_auth_record_variable,
      offsetof(ngx_http_rbgv_auth_ctx_t, name),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("rbgv_auth_key_environment"), NULL,
      ngx_http_rbgv_auth_record_variable,
      offsetof(ngx_http_rbgv_auth_ctx_t, environment),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("rbgv_auth_key_owner"), NULL,
      ngx_http_rbgv_auth_record_variable,
      offsetof(ngx_http_rbgv_auth_ctx_t, owner),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("rbgv_auth_source"), NULL,
      ngx_http_rbgv_auth_source_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("rbgv_auth_limit_remaining"), NULL,
      ngx_http_rbgv_auth_remaining_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("rbgv_auth_time"), NULL,
      ngx_http_rbgv_auth_time_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


ngx_int_t
ngx_http_rbgv_auth_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_rbgv_auth_vars; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_status_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                    *p;
    ngx_str_t                 *name;
    ngx_http_rbgv_auth_ctx_t  *ctx;

    ctx = ngx_http_rbgv_auth_get_ctx(r);

    if (ctx == NULL || ctx->status == NGX_HTTP_RBGV_AUTH_UNDECIDED) {
        v->not_found = 1;
        return NGX_OK;
    }

    name = &ngx_http_rbgv_auth_outcomes[ctx->status].name;

    if (!ngx_http_rbgv_auth_spared(ctx)) {
        return ngx_http_rbgv_auth_set_variable(v, name->data, name->len);
    }

    p = ngx_pnalloc(r->pool, name->len + sizeof("_DRY_RUN") - 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_rbgv_auth_set_variable(v, p,
                                   ngx_sprintf(p, "%V_DRY_RUN", name) - p);
}


static ngx_int_t
ngx_http_rbgv_auth_key_id_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_rbgv_auth_ctx_t  *ctx;

    ctx = ngx_http_rbgv_auth_get_ctx(r);

    if (ctx == NULL || !ctx->identified) {
        v->not_found = 1;
        return NGX_OK;
    }

    return ngx_http_rbgv_auth_set_variable(v, ctx->place.id, RBGV_ID_LEN);
}


/* known only to a request that has shown a secret of the key */

static ngx_int_t
ngx_http_rbgv_auth_record_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                 *value;
    ngx_http_rbgv_auth_ctx_t  *ctx;

    ctx = ngx_http_rbgv_auth_get_ctx(r);

    if (ctx == NULL || !ctx->recorded) {
        v->not_found = 1;
        return NGX_OK;
    }

    value = (ngx_str_t *) ((u_char *) ctx + data);

    return ngx_http_rbgv_auth_set_variable(v, value->data, value->len);
}


static ngx_int_t
ngx_http_rbgv_auth_source_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                 *source;
    ngx_http_rbgv_auth_ctx_t  *ctx;

    ctx = ngx_http_rbgv_auth_get_ctx(r);

    if (ctx == NULL || ctx->source == NGX_HTTP_RBGV_AUTH_NOWHERE) {
        v->not_found = 1;
        return NGX_OK;
    }

    source = &ngx_http_rbgv_auth_sources[ctx->source];

    return ngx_http_rbgv_auth_set_variable(v, source->data, source->len);
}


static ngx_int_t
ngx_http_rbgv_auth_remaining_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                       *p;
    ngx_http_rbgv_auth_ctx_t     *ctx;
    ngx_http_rbgv_auth_window_t  *w;

    ctx = ngx_http_rbgv_auth_get_ctx(r);
    w = ctx ? ngx_http_rbgv_auth_tightest(ctx) : NULL;

    if (w == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, NGX_INT32_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_rbgv_auth_set_variable(v, p,
                               ngx_sprintf(p, "%uD", w->remaining) - p);
}


static ngx_int_t
ngx_http_rbgv_auth_time_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                    *p;
    ngx_http_rbgv_auth_ctx_t  *ctx;

    ctx = ngx_http_rbgv_auth_get_ctx(r);

    if (ctx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, NGX_TIME_T_LEN + 4);
    if (p == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_rbgv_auth_set_variable(v, p,
                               ngx_sprintf(p, "%T.%03M",
                                           (time_t) ctx->waited / 1000,
                                           ctx->waited % 1000) - p);
}


static ngx_int_t
ngx_http_rbgv_auth_set_variable(ngx_http_variable_value_t *v, u_char *data,
    size_t len)
{
    v->data = data;
    v->len = len;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    return NGX_OK;
}
