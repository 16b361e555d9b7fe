
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * The key in a request: found, checked, digested, and hidden from what runs
 * after the access phase.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_rbgv_auth.h"


static ngx_uint_t ngx_http_rbgv_auth_is_key_header(ngx_table_elt_t *h);
static void ngx_http_rbgv_auth_trim(ngx_str_t *value);
static ngx_int_t ngx_http_rbgv_auth_hide_key(ngx_http_request_t *r);
static ngx_int_t ngx_http_rbgv_auth_remove_header(ngx_http_request_t *r,
    ngx_list_part_t *previous, ngx_list_part_t *part, ngx_uint_t i);


ngx_int_t
ngx_http_rbgv_auth_take_key(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx)
{
    ngx_str_t                        key;
    ngx_uint_t                       i, n;
    rbgv_key_t                       parsed;
    ngx_list_part_t                 *part;
    ngx_table_elt_t                 *header;
    unsigned char                    digest[RBGV_DIGEST_LEN];
    ngx_http_rbgv_auth_main_conf_t  *amcf;

    n = 0;
    ngx_str_null(&key);

    part = &r->headers_in.headers.part;
    header = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            header = part->elts;
            i = 0;
        }

        if (ngx_http_rbgv_auth_is_key_header(&header[i])) {
            key = header[i].value;
            n++;
        }
    }

    if (n && ctx->conf->hide_key && ngx_http_rbgv_auth_hide_key(r) != NGX_OK) {
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_UNAVAILABLE,
                                   "no memory");
        return NGX_DECLINED;
    }

    ngx_http_rbgv_auth_trim(&key);

    if (n < 2 && key.len == 0) {
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_MISSING,
                                   "no key in the request");
        return NGX_DECLINED;
    }

    if (n > 1) {
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_INVALID,
                                   "more than one key header");
        return NGX_DECLINED;
    }

    switch (rbgv_key_parse((const char *) key.data, key.len, &parsed)) {

    case RBGV_KEY_OK:
        break;

    case RBGV_KEY_CHECKSUM:
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_INVALID,
                                   "wrong checksum");
        return NGX_DECLINED;

    default:
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_INVALID,
                                   "malformed key");
        return NGX_DECLINED;
    }

    ngx_memcpy(ctx->id, parsed.id, RBGV_ID_LEN);
    ctx->identified = 1;

    amcf = ngx_http_get_module_main_conf(r, ngx_http_rbgv_auth_module);

    if (rbgv_digest_key(amcf->worker->digester, (const char *) key.data,
                        key.len, digest)
        == -1)
    {
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_UNAVAILABLE,
                                   "OpenSSL failed");
        return NGX_DECLINED;
    }

    rbgv_digest_hex(digest, ctx->digest);

    return NGX_OK;
}


/*
 * With "underscores_in_headers on" X_Api_Key counts too: a backend may see
 * both as the same name, so a pair of them is ambiguous.
 */

static ngx_uint_t
ngx_http_rbgv_auth_is_key_header(ngx_table_elt_t *h)
{
    u_char  *p;

    if (h->key.len != sizeof("x-api-key") - 1) {
        return 0;
    }

    p = h->lowcase_key;

    return p[0] == 'x' && (p[1] == '-' || p[1] == '_')
           && p[2] == 'a' && p[3] == 'p' && p[4] == 'i'
           && (p[5] == '-' || p[5] == '_')
           && p[6] == 'k' && p[7] == 'e' && p[8] == 'y';
}


/* optional white space, RFC 9110, section 5.6.3 */

static void
ngx_http_rbgv_auth_trim(ngx_str_t *value)
{
    while (value->len
           && (value->data[0] == ' ' || value->data[0] == '\t'))
    {
        value->data++;
        value->len--;
    }

    while (value->len
           && (value->data[value->len - 1] == ' '
               || value->data[value->len - 1] == '\t'))
    {
        value->len--;
    }
}


/*
 * The access handler is not reached if "satisfy any" is satisfied before, and
 * an internal redirect may have come from where the key is not hidden.
 */

ngx_int_t
ngx_http_rbgv_auth_hide_handler(ngx_http_request_t *r)
{
    ngx_http_rbgv_auth_loc_conf_t  *alcf;

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_rbgv_auth_module);

    /* a subrequest shares its parent's list of headers */

    if (alcf->enable == NGX_HTTP_RBGV_AUTH_OFF || !alcf->hide_key
        || r != r->main)
    {
        return NGX_DECLINED;
    }

    if (ngx_http_rbgv_auth_hide_key(r) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_rbgv_auth_hide_key(ngx_http_request_t *r)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part, *previous;
    ngx_table_elt_t  *header;

again:

    previous = NULL;

    for (part = &r->headers_in.headers.part; part; part = part->next) {

        header = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (!ngx_http_rbgv_auth_is_key_header(&header[i])) {
                continue;
            }

            if (ngx_http_rbgv_auth_remove_header(r, previous, part, i)
                != NGX_OK)
            {
                return NGX_ERROR;
            }

            goto again;
        }

        previous = part;
    }

    return NGX_OK;
}


/*
 * No element is moved, since r->headers_in points at some of them: the part
 * is split around the one that goes.  No part but the only one may be empty,
 * since whoever walks the list looks at the first element of each.
 */

static ngx_int_t
ngx_http_rbgv_auth_remove_header(ngx_http_request_t *r,
    ngx_list_part_t *previous, ngx_list_part_t *part, ngx_uint_t i)
{
    ngx_list_t       *list;
    ngx_list_part_t  *tail;
    ngx_table_elt_t  *header;

    list = &r->headers_in.headers;
    header = part->elts;

    if (i + 1 < part->nelts && i > 0) {

        tail = ngx_palloc(r->pool, sizeof(ngx_list_part_t));
        if (tail == NULL) {
            return NGX_ERROR;
        }

        tail->elts = &header[i + 1];
        tail->nelts = part->nelts - i - 1;
        tail->next = part->next;

        part->nelts = i;
        part->next = tail;

        if (list->last == part) {
            list->last = tail;
        }

    } else if (part->nelts > 1) {

        if (i == 0) {
            part->elts = &header[1];
        }

        part->nelts--;

    } else if (part->next) {

        if (list->last == part->next) {
            list->last = part;
        }

        *part = *part->next;

    } else if (previous) {
        previous->next = NULL;
        list->last = previous;

    } else {
        part->nelts = 0;
        return NGX_OK;
    }

    /* the last part is full now: the next push makes a new one */
    list->nalloc = list->last->nelts;

    return NGX_OK;
}
