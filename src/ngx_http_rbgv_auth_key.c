
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


#define NGX_HTTP_RBGV_AUTH_KEYS       65536
#define NGX_HTTP_RBGV_AUTH_KEYS_WAYS  4      /* a key may be in */
#define NGX_HTTP_RBGV_AUTH_KEYS_TAG   0x7fff


/* digests of keys seen lately; longer ones are digested each time */

struct ngx_http_rbgv_auth_seen_s {
    u_char           len;                    /* 0: free */
    u_char           opaque;
    u_char           has_previous;
    u_char           id[RBGV_ID_LEN];
    u_char           sha256[RBGV_DIGEST_LEN];
    u_char           current[RBGV_DIGEST_LEN];
    u_char           text[RBGV_KEY_MAX];
    u_char           previous[RBGV_DIGEST_LEN];
};


/*
 * Those in use stand side by side.  A hash of the text tells a set of ways, in
 * which there are numbers of them, from 1, each above a tag; 0 is none.
 */

struct ngx_http_rbgv_auth_keys_s {
    uint32_t                   used;
    uint32_t                   ways[NGX_HTTP_RBGV_AUTH_KEYS];
    ngx_http_rbgv_auth_seen_t  seen[NGX_HTTP_RBGV_AUTH_KEYS];
};


static ngx_uint_t ngx_http_rbgv_auth_find_key(ngx_http_request_t *r,
    ngx_str_t *key);
static ngx_int_t ngx_http_rbgv_auth_read_key(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_worker_t *worker, ngx_str_t *key);
static ngx_int_t ngx_http_rbgv_auth_recall_key(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_str_t *key);
static ngx_int_t ngx_http_rbgv_auth_digest_key(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_worker_t *worker, ngx_str_t *key, const char *id);
static ngx_http_rbgv_auth_seen_t *ngx_http_rbgv_auth_seen(
    ngx_http_rbgv_auth_keys_t *keys, ngx_str_t *key, ngx_uint_t add);
static ngx_uint_t ngx_http_rbgv_auth_is_key_header(ngx_table_elt_t *h);
static void ngx_http_rbgv_auth_trim(ngx_str_t *value);
static ngx_uint_t ngx_http_rbgv_auth_hides(
    ngx_http_rbgv_auth_loc_conf_t *alcf);
static ngx_int_t ngx_http_rbgv_auth_hide_key(ngx_http_request_t *r,
    ngx_uint_t n);
static ngx_int_t ngx_http_rbgv_auth_remove_header(ngx_http_request_t *r,
    ngx_list_part_t *previous, ngx_list_part_t *part, ngx_uint_t i);


ngx_int_t
ngx_http_rbgv_auth_take_key(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx)
{
    ngx_str_t                        key;
    ngx_uint_t                       n;
    ngx_http_rbgv_auth_main_conf_t  *amcf;

    n = ngx_http_rbgv_auth_find_key(r, &key);

    if (n && ngx_http_rbgv_auth_hides(ctx->conf)) {

        if (ngx_http_rbgv_auth_hide_key(r, n) != NGX_OK) {
            ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_UNAVAILABLE,
                                       "no memory");
            return NGX_DECLINED;
        }

        ctx->hidden = 1;
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

    amcf = ngx_http_get_module_main_conf(r, ngx_http_rbgv_auth_module);

    return ngx_http_rbgv_auth_read_key(ctx, amcf->worker, &key);
}


/* the number of headers that may hold a key; *key is of the last one */

static ngx_uint_t
ngx_http_rbgv_auth_find_key(ngx_http_request_t *r, ngx_str_t *key)
{
    ngx_uint_t        i, n;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *header;

    n = 0;
    ngx_str_null(key);

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
            *key = header[i].value;
            n++;
        }
    }

    return n;
}


static ngx_int_t
ngx_http_rbgv_auth_read_key(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_worker_t *worker, ngx_str_t *key)
{
    rbgv_key_t  parsed;

    ctx->seen = ngx_http_rbgv_auth_seen(worker->keys, key, 0);

    if (ngx_http_rbgv_auth_recall_key(ctx, key) == NGX_OK) {
        return NGX_OK;
    }

    switch (rbgv_key_parse((const char *) key->data, key->len, &parsed)) {

    case RBGV_KEY_OK:
        return ngx_http_rbgv_auth_digest_key(ctx, worker, key, parsed.id);

    case RBGV_KEY_CHECKSUM:
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_INVALID,
                                   "wrong checksum");
        return NGX_DECLINED;

    default:
        break;
    }

    if (ctx->conf->opaque_keys
        && rbgv_opaque_valid((const char *) key->data, key->len))
    {
        return ngx_http_rbgv_auth_digest_key(ctx, worker, key, NULL);
    }

    ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_INVALID,
                               "malformed key");
    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_rbgv_auth_recall_key(ngx_http_rbgv_auth_ctx_t *ctx, ngx_str_t *key)
{
    ngx_http_rbgv_auth_seen_t  *seen;

    seen = ctx->seen;

    if (seen == NULL || seen->len != key->len
        || !rbgv_equal(seen->text, key->data, key->len)
        || (seen->opaque && !ctx->conf->opaque_keys))
    {
        return NGX_DECLINED;
    }

    ngx_memcpy(ctx->place.id, seen->id, RBGV_ID_LEN);
    ngx_memcpy(ctx->sha256, seen->sha256, RBGV_DIGEST_LEN);
    ngx_memcpy(ctx->current, seen->current, RBGV_DIGEST_LEN);

    ctx->opaque = seen->opaque;
    ctx->identified = 1;

    return NGX_OK;
}


/* id NULL: it has none in its text */

static ngx_int_t
ngx_http_rbgv_auth_digest_key(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_worker_t *worker, ngx_str_t *key, const char *id)
{
    ngx_http_rbgv_auth_seen_t  *seen;

    if (rbgv_digest_plain(worker->digester, (const char *) key->data,
                          key->len, ctx->sha256)
        == -1
        || rbgv_digest_sha256(worker->digester, ctx->sha256, ctx->current)
           == -1)
    {
        ngx_http_rbgv_auth_decided(ctx, NGX_HTTP_RBGV_AUTH_UNAVAILABLE,
                                   "OpenSSL failed");
        return NGX_DECLINED;
    }

    if (id) {
        ngx_memcpy(ctx->place.id, id, RBGV_ID_LEN);

    } else {
        rbgv_id_derive(ctx->sha256, (char *) ctx->place.id);
        ctx->opaque = 1;
    }

    ctx->identified = 1;

    seen = ngx_http_rbgv_auth_seen(worker->keys, key, 1);
    ctx->seen = seen;

    if (seen == NULL) {
        return NGX_OK;
    }

    seen->len = key->len;
    seen->opaque = ctx->opaque;
    seen->has_previous = 0;

    ngx_memcpy(seen->text, key->data, key->len);
    ngx_memcpy(seen->id, ctx->place.id, RBGV_ID_LEN);
    ngx_memcpy(seen->sha256, ctx->sha256, RBGV_DIGEST_LEN);
    ngx_memcpy(seen->current, ctx->current, RBGV_DIGEST_LEN);

    return NGX_OK;
}


ngx_int_t
ngx_http_rbgv_auth_previous_digest(ngx_http_rbgv_auth_ctx_t *ctx,
    u_char digest[RBGV_DIGEST_LEN])
{
    rbgv_digester_t            *digester;
    ngx_http_rbgv_auth_seen_t  *seen;

    digester = ctx->store->worker->previous;

    if (digester == NULL) {
        return NGX_DECLINED;
    }

    seen = ctx->seen;

    if (seen && !rbgv_equal(seen->sha256, ctx->sha256, RBGV_DIGEST_LEN)) {

        /* another key has come into its place */
        seen = NULL;
    }

    if (seen && seen->has_previous) {
        ngx_memcpy(digest, seen->previous, RBGV_DIGEST_LEN);
        return NGX_OK;
    }

    if (rbgv_digest_sha256(digester, ctx->sha256, digest) == -1) {
        return NGX_ERROR;
    }

    if (seen) {
        ngx_memcpy(seen->previous, digest, RBGV_DIGEST_LEN);
        seen->has_previous = 1;
    }

    return NGX_OK;
}


/*
 * Where the key is if it was seen, or is to be.  NULL if there is none, or the
 * key is shorter than any, or longer than what is kept.
 */

static ngx_http_rbgv_auth_seen_t *
ngx_http_rbgv_auth_seen(ngx_http_rbgv_auth_keys_t *keys, ngx_str_t *key,
    ngx_uint_t add)
{
    uint32_t                    a, b, tag, *way, *end;
    ngx_http_rbgv_auth_seen_t  *seen;

    if (key->len < RBGV_OPAQUE_MIN || key->len > RBGV_KEY_MAX) {
        return NULL;
    }

    /* a stranger knows ids, but not how keys end */

    ngx_memcpy(&a, key->data + key->len - 8, 4);
    ngx_memcpy(&b, key->data + key->len - 4, 4);

    a = (a * 0x9e3779b1) ^ (b * 0x85ebca77);
    a = (a ^ (a >> 15)) * 0xc2b2ae3d;

    tag = a & NGX_HTTP_RBGV_AUTH_KEYS_TAG;
    way = &keys->ways[a >> 18 << 2];

    for (end = way + NGX_HTTP_RBGV_AUTH_KEYS_WAYS; way < end; way++) {

        if (*way == 0) {

            if (!add) {
                return NULL;
            }

            *way = ++keys->used * (NGX_HTTP_RBGV_AUTH_KEYS_TAG + 1) + tag;
        }

        if ((*way & NGX_HTTP_RBGV_AUTH_KEYS_TAG) == tag) {
            goto found;
        }
    }

    if (!add) {
        return NULL;
    }

    /* the set is full: one of them goes */

    way -= 1 + (a >> 16) % NGX_HTTP_RBGV_AUTH_KEYS_WAYS;
    *way = (*way & ~NGX_HTTP_RBGV_AUTH_KEYS_TAG) + tag;

found:

    seen = &keys->seen[*way / (NGX_HTTP_RBGV_AUTH_KEYS_TAG + 1) - 1];

    ngx_http_rbgv_auth_prefetch(seen, offsetof(ngx_http_rbgv_auth_seen_t,
                                               previous));

    return seen;
}


/* unlike ngx_calloc(), calloc() leaves alone what is never used */

ngx_http_rbgv_auth_keys_t *
ngx_http_rbgv_auth_keys_create(ngx_cycle_t *cycle)
{
    ngx_http_rbgv_auth_keys_t  *keys;

    keys = calloc(1, sizeof(ngx_http_rbgv_auth_keys_t));

    if (keys == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                      "calloc(%uz) failed", sizeof(ngx_http_rbgv_auth_keys_t));
    }

    return keys;
}


void
ngx_http_rbgv_auth_keys_destroy(ngx_http_rbgv_auth_keys_t *keys)
{
    ngx_uint_t  i;

    for (i = 0; i < keys->used; i++) {
        ngx_explicit_memzero(&keys->seen[i],
                             sizeof(ngx_http_rbgv_auth_seen_t));
    }

    ngx_free(keys);
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
    ngx_str_t                       key;
    ngx_uint_t                      n;
    ngx_http_rbgv_auth_ctx_t       *ctx;
    ngx_http_rbgv_auth_loc_conf_t  *alcf;

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_rbgv_auth_module);
    ctx = ngx_http_get_module_ctx(r, ngx_http_rbgv_auth_module);

    if (ctx && ctx->hidden) {
        return NGX_DECLINED;
    }

    /* a subrequest shares its parent's list of headers */

    if (!ngx_http_rbgv_auth_hides(alcf) || r != r->main) {
        return NGX_DECLINED;
    }

    n = ngx_http_rbgv_auth_find_key(r, &key);

    if (n && ngx_http_rbgv_auth_hide_key(r, n) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_DECLINED;
}


/* what an upstream sees is not changed by a dry run, unless it is said so */

static ngx_uint_t
ngx_http_rbgv_auth_hides(ngx_http_rbgv_auth_loc_conf_t *alcf)
{
    switch (alcf->enable) {

    case NGX_HTTP_RBGV_AUTH_OFF:
        return 0;

    case NGX_HTTP_RBGV_AUTH_DRY_RUN:
        return alcf->hide_key == 1;

    default:
        return alcf->hide_key != 0;
    }
}


/* n of them are there */

static ngx_int_t
ngx_http_rbgv_auth_hide_key(ngx_http_request_t *r, ngx_uint_t n)
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

            if (--n == 0) {
                return NGX_OK;
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
