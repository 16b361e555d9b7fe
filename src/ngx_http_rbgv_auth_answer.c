
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Answers that are made here: bodies of errors, and all that the module's own
 * locations have to say.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_rbgv_auth.h"


#define NGX_HTTP_RBGV_AUTH_ERROR                                              \
    "{\"error\":{\"code\":\"%V\",\"message\":\"%V\",\"request_id\":\"%v\"}}"


char *
ngx_http_rbgv_auth_set_handler(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_http_handler_pt handler)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->named || clcf->exact_match
#if (NGX_PCRE)
        || clcf->regex
#endif
       )
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" needs a location that is given by a prefix, "
                           "such as \"location /v1/\"", &cmd->name);
        return NGX_CONF_ERROR;
    }

    clcf->handler = handler;

    return NGX_CONF_OK;
}


/* "rewrite ... break" may have left less than the name */

void
ngx_http_rbgv_auth_path(ngx_http_request_t *r, ngx_str_t *path)
{
    size_t                     len;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    len = ngx_min(clcf->name.len, r->uri.len);

    path->data = r->uri.data + len;
    path->len = r->uri.len - len;
}


/* codes and messages have nothing in them that JSON would escape */

ngx_int_t
ngx_http_rbgv_auth_error_body(ngx_http_request_t *r,
    ngx_http_rbgv_auth_outcome_t *outcome, ngx_str_t *body)
{
    size_t                           len;
    ngx_http_variable_value_t       *id;
    ngx_http_rbgv_auth_main_conf_t  *amcf;

    amcf = ngx_http_get_module_main_conf(r, ngx_http_rbgv_auth_module);

    id = ngx_http_get_indexed_variable(r, amcf->request_id);
    if (id == NULL) {
        return NGX_ERROR;
    }

    len = sizeof(NGX_HTTP_RBGV_AUTH_ERROR) + outcome->code.len
          + outcome->message.len + id->len;

    body->data = ngx_pnalloc(r->pool, len);
    if (body->data == NULL) {
        return NGX_ERROR;
    }

    body->len = ngx_sprintf(body->data, NGX_HTTP_RBGV_AUTH_ERROR,
                            &outcome->code, &outcome->message, id)
                - body->data;

    return NGX_OK;
}


ngx_int_t
ngx_http_rbgv_auth_send_error(ngx_http_request_t *r,
    ngx_http_rbgv_auth_outcome_t *outcome)
{
    ngx_buf_t    *b;
    ngx_str_t     body;
    ngx_chain_t   out;

    if (ngx_http_rbgv_auth_error_body(r, outcome, &body) != NGX_OK
        || (outcome->status == NGX_HTTP_SERVICE_UNAVAILABLE
            && ngx_http_rbgv_auth_add_retry(r) != NGX_OK))
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->pos = body.data;
    b->last = body.data + body.len;
    b->memory = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_rbgv_auth_send_json(r, outcome->status, &out);
}


ngx_int_t
ngx_http_rbgv_auth_send_json(ngx_http_request_t *r, ngx_uint_t status,
    ngx_chain_t *out)
{
    if (ngx_http_rbgv_auth_add_header(r, "Cache-Control", (u_char *) "no-store",
                                      sizeof("no-store") - 1)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_str_set(&r->headers_out.content_type, "application/json");
    r->headers_out.content_type_len = r->headers_out.content_type.len;

    return ngx_http_rbgv_auth_send(r, status, out);
}


ngx_int_t
ngx_http_rbgv_auth_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_chain_t *out)
{
    off_t         length;
    ngx_int_t     rc;
    ngx_chain_t  *cl;

    length = ngx_buf_size(out->buf);

    for (cl = out; cl->next; cl = cl->next) {
        length += ngx_buf_size(cl->next->buf);
    }

    cl->buf->last_buf = (r == r->main) ? 1 : 0;
    cl->buf->last_in_chain = 1;

    r->headers_out.status = status;
    r->headers_out.content_length_n = length;
    r->headers_out.content_type_lowcase = NULL;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    return ngx_http_output_filter(r, out);
}
