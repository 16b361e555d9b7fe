
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Answers to administrators.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_rbgv_auth_admin.h"


#define NGX_HTTP_RBGV_AUTH_ADMIN_BUFFER  16384


typedef struct {
    rbgv_admin_state_e             state;
    ngx_uint_t                     status;
    const char                    *code;
} ngx_http_rbgv_auth_admin_state_t;


static void ngx_http_rbgv_auth_admin_failed(
    ngx_http_rbgv_auth_admin_t *admin);
static void ngx_http_rbgv_auth_admin_add_config(
    ngx_http_rbgv_auth_admin_t *admin);
static json_t *ngx_http_rbgv_auth_admin_limits(
    ngx_http_rbgv_auth_main_conf_t *amcf);
static json_t *ngx_http_rbgv_auth_admin_limit(
    ngx_http_rbgv_auth_limit_t *limit);
static ngx_uint_t ngx_http_rbgv_auth_admin_has(json_t *array, json_t *item);
static void ngx_http_rbgv_auth_admin_write_end(
    ngx_http_rbgv_auth_admin_t *admin);

static ngx_int_t ngx_http_rbgv_auth_admin_write_error(
    ngx_http_rbgv_auth_admin_t *admin);
static ngx_int_t ngx_http_rbgv_auth_admin_add_headers(
    ngx_http_rbgv_auth_admin_t *admin);

static ngx_int_t ngx_http_rbgv_auth_admin_write_json(
    ngx_http_rbgv_auth_admin_t *admin, json_t *json);
static int ngx_http_rbgv_auth_admin_write(const char *data, size_t len,
    void *conf);
static ngx_buf_t *ngx_http_rbgv_auth_admin_buffer(
    ngx_http_rbgv_auth_admin_t *admin);


static const ngx_http_rbgv_auth_admin_state_t
    ngx_http_rbgv_auth_admin_states[] =
{
    { RBGV_ADMIN_NO_KEY, NGX_HTTP_NOT_FOUND, "not_found" },
    { RBGV_ADMIN_NO_ENVIRONMENT, NGX_HTTP_BAD_REQUEST, "invalid_request" },
    { RBGV_ADMIN_CRYPTO, NGX_HTTP_INTERNAL_SERVER_ERROR, "internal_error" },
    { RBGV_ADMIN_MEMORY, NGX_HTTP_INTERNAL_SERVER_ERROR, "internal_error" },
    { RBGV_ADMIN_FOREIGN, NGX_HTTP_SERVICE_UNAVAILABLE,
      "store_unavailable" },

    /* any other */
    { RBGV_ADMIN_OK, NGX_HTTP_CONFLICT, "conflict" }
};


/* on every answer, with what all answers in JSON have */

static const struct {
    char       *key;
    ngx_str_t   value;
} ngx_http_rbgv_auth_admin_headers[] = {
    { "X-Content-Type-Options", ngx_string("nosniff") },
    { "Content-Security-Policy",
      ngx_string("default-src 'none'; frame-ancestors 'none'") },
    { "Referrer-Policy", ngx_string("no-referrer") },
    { NULL, ngx_null_string }
};


ngx_int_t
ngx_http_rbgv_auth_admin_refuse(ngx_http_rbgv_auth_admin_t *admin,
    ngx_uint_t status, const char *code, const char *fmt, ...)
{
    va_list  ap;

    admin->status = status;
    admin->code = code;

    va_start(ap, fmt);
    (void) vsnprintf(admin->message, sizeof(admin->message), fmt, ap);
    va_end(ap);

    return NGX_DECLINED;
}


void
ngx_http_rbgv_auth_admin_result(ngx_http_rbgv_auth_admin_t *admin)
{
    if (admin->op.ids) {
        ngx_http_rbgv_auth_admin_write_items(admin);
    }

    if (admin->op.state != RBGV_ADMIN_OK) {
        ngx_http_rbgv_auth_admin_failed(admin);
        return;
    }

    admin->status = admin->route->status;

    if (admin->op.ids) {
        ngx_http_rbgv_auth_admin_write_end(admin);
        return;
    }

    if (admin->route->start == rbgv_admin_config) {
        ngx_http_rbgv_auth_admin_add_config(admin);
    }

    if (ngx_http_rbgv_auth_admin_write_json(admin, admin->op.json)
        != NGX_OK)
    {
        admin->op.state = RBGV_ADMIN_MEMORY;
        ngx_http_rbgv_auth_admin_failed(admin);
    }
}


static void
ngx_http_rbgv_auth_admin_failed(ngx_http_rbgv_auth_admin_t *admin)
{
    char                                     text[RBGV_ADMIN_TEXT];
    const ngx_http_rbgv_auth_admin_state_t  *state;

    state = ngx_http_rbgv_auth_admin_states;

    while (state->state != RBGV_ADMIN_OK
           && state->state != admin->op.state)
    {
        state++;
    }

    rbgv_admin_describe(&admin->op, text);

    if (state->status >= NGX_HTTP_INTERNAL_SERVER_ERROR) {
        ngx_log_error(NGX_LOG_ERR, admin->request->connection->log, 0,
                      "rbgv_auth: admin: %s", text);
    }

    ngx_http_rbgv_auth_admin_refuse(admin, state->status, state->code,
                                    "%c%s", ngx_toupper(text[0]), text + 1);
}


/* what this host knows */

static void
ngx_http_rbgv_auth_admin_add_config(ngx_http_rbgv_auth_admin_t *admin)
{
    json_t                          *json;
    ngx_str_t                       *name;
    ngx_http_rbgv_auth_size_t        size;
    ngx_http_rbgv_auth_main_conf_t  *amcf;

    amcf = admin->store->worker->conf;
    json = admin->op.json;
    name = &admin->store->conf->name;

    ngx_http_rbgv_auth_zone_size(amcf->zone, &size);

    (void) json_object_set_new(json, "limits",
                               ngx_http_rbgv_auth_admin_limits(amcf));
    (void) json_object_set_new(json, "pepper",
                               json_boolean(amcf->pepper.data != NULL));
    (void) json_object_set_new(json, "store",
                   json_pack("{s:s%, s:I, s:b}",
                             "name", (char *) name->data, name->len,
                             "db", (json_int_t) admin->store->conf->db,
                             "up", 1));
    (void) json_object_set_new(json, "zone",
                   json_pack("{s:I, s:I}",
                             "keys", (json_int_t) size.used,
                             "capacity", (json_int_t) size.capacity));
}


static json_t *
ngx_http_rbgv_auth_admin_limits(ngx_http_rbgv_auth_main_conf_t *amcf)
{
    json_t                       *array, *item;
    ngx_uint_t                    i, k;
    ngx_array_t                 **limits;
    ngx_http_rbgv_auth_limit_t   *limit;

    array = json_array();
    limits = amcf->limits.elts;

    for (i = 0; i < amcf->limits.nelts; i++) {
        limit = limits[i]->elts;

        for (k = 0; k < limits[i]->nelts; k++) {
            item = ngx_http_rbgv_auth_admin_limit(&limit[k]);

            if (ngx_http_rbgv_auth_admin_has(array, item)) {
                json_decref(item);

            } else {
                (void) json_array_append_new(array, item);
            }
        }
    }

    return array;
}


static json_t *
ngx_http_rbgv_auth_admin_limit(ngx_http_rbgv_auth_limit_t *limit)
{
    ngx_str_t  *environment;

    environment = &limit->environment;

    return json_pack("{s:s%, s:I, s:I, s:o}",
                     "name", (char *) limit->name.data, limit->name.len,
                     "quota", (json_int_t) limit->limit.quota,
                     "window_seconds", (json_int_t) limit->limit.window,
                     "environment", environment->len
                         ? json_stringn((char *) environment->data,
                                        environment->len)
                         : json_null());
}


static ngx_uint_t
ngx_http_rbgv_auth_admin_has(json_t *array, json_t *item)
{
    size_t   i;
    json_t  *other;

    json_array_foreach(array, i, other) {
        if (json_equal(other, item)) {
            return 1;
        }
    }

    return 0;
}


void
ngx_http_rbgv_auth_admin_write_items(ngx_http_rbgv_auth_admin_t *admin)
{
    size_t       i;
    json_t      *item;
    ngx_int_t    rc;
    const char  *before;

    json_array_foreach(admin->op.json, i, item) {
        before = admin->listed ? "," : "{\"items\":[";

        rc = ngx_http_rbgv_auth_admin_write(before, ngx_strlen(before),
                                            admin);

        if (rc != 0
            || ngx_http_rbgv_auth_admin_write_json(admin, item) != NGX_OK)
        {
            admin->op.state = RBGV_ADMIN_MEMORY;
            admin->op.next = NULL;
            break;
        }

        admin->listed = 1;
    }

    (void) json_array_clear(admin->op.json);
}


static void
ngx_http_rbgv_auth_admin_write_end(ngx_http_rbgv_auth_admin_t *admin)
{
    int   n;
    char  text[RBGV_CURSOR_SIZE + 64], cursor[RBGV_CURSOR_SIZE];

    n = snprintf(text, sizeof(text), "%s]", admin->listed ? ""
                                                          : "{\"items\":[");

    if (admin->op.cursor.count == admin->op.limit) {
        rbgv_cursor_text(&admin->op.cursor, cursor);
        n += snprintf(text + n, sizeof(text) - n, ",\"cursor\":\"%s\"}",
                      cursor);

    } else {
        n += snprintf(text + n, sizeof(text) - n, ",\"cursor\":null}");
    }

    if (ngx_http_rbgv_auth_admin_write(text, n, admin) != 0) {
        admin->op.state = RBGV_ADMIN_MEMORY;
        ngx_http_rbgv_auth_admin_failed(admin);
    }
}


ngx_int_t
ngx_http_rbgv_auth_admin_send(ngx_http_rbgv_auth_admin_t *admin)
{
    if (admin->code
        && ngx_http_rbgv_auth_admin_write_error(admin) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_rbgv_auth_admin_add_headers(admin) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_rbgv_auth_send_json(admin->request, admin->status,
                                        admin->out);
}


/* what was written before it is given up */

static ngx_int_t
ngx_http_rbgv_auth_admin_write_error(ngx_http_rbgv_auth_admin_t *admin)
{
    json_t     *json;
    ngx_int_t   rc;

    admin->out = NULL;
    admin->last = NULL;

    json = json_pack("{s:{s:s, s:o, s:s}}", "error",
                     "code", admin->code,
                     "message", rbgv_json_text(admin->message),
                     "request_id", admin->op.request_id);

    rc = ngx_http_rbgv_auth_admin_write_json(admin, json);

    json_decref(json);

    return rc;
}


static ngx_int_t
ngx_http_rbgv_auth_admin_add_headers(ngx_http_rbgv_auth_admin_t *admin)
{
    ngx_uint_t           i;
    ngx_http_request_t  *r;

    r = admin->request;

    for (i = 0; ngx_http_rbgv_auth_admin_headers[i].key; i++) {
        if (ngx_http_rbgv_auth_add_header(r,
                               ngx_http_rbgv_auth_admin_headers[i].key,
                               ngx_http_rbgv_auth_admin_headers[i].value.data,
                               ngx_http_rbgv_auth_admin_headers[i].value.len)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (admin->status == NGX_HTTP_UNAUTHORIZED
        && ngx_http_rbgv_auth_add_header(r, "WWW-Authenticate",
                                    (u_char *) "AdminToken realm=\"admin\"",
                                    sizeof("AdminToken realm=\"admin\"") - 1)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (admin->allow
        && ngx_http_rbgv_auth_add_header(r, "Allow", (u_char *) admin->allow,
                                         ngx_strlen(admin->allow))
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (admin->status == NGX_HTTP_SERVICE_UNAVAILABLE) {
        return ngx_http_rbgv_auth_add_retry(r);
    }

    return admin->after
           ? ngx_http_rbgv_auth_add_number(r, "Retry-After", admin->after)
           : NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_admin_write_json(ngx_http_rbgv_auth_admin_t *admin,
    json_t *json)
{
    return json_dump_callback(json, ngx_http_rbgv_auth_admin_write, admin,
                              JSON_COMPACT)
           == 0 ? NGX_OK : NGX_ERROR;
}


static int
ngx_http_rbgv_auth_admin_write(const char *data, size_t len, void *conf)
{
    ngx_http_rbgv_auth_admin_t *admin = conf;

    size_t      n;
    ngx_buf_t  *b;

    while (len) {
        b = ngx_http_rbgv_auth_admin_buffer(admin);
        if (b == NULL) {
            return -1;
        }

        n = ngx_min(len, (size_t) (b->end - b->last));

        b->last = ngx_cpymem(b->last, data, n);

        data += n;
        len -= n;
    }

    return 0;
}


/* one that is not full */

static ngx_buf_t *
ngx_http_rbgv_auth_admin_buffer(ngx_http_rbgv_auth_admin_t *admin)
{
    ngx_chain_t  *cl;

    if (admin->last && admin->last->buf->last < admin->last->buf->end) {
        return admin->last->buf;
    }

    cl = ngx_alloc_chain_link(admin->request->pool);
    if (cl == NULL) {
        return NULL;
    }

    cl->next = NULL;
    cl->buf = ngx_create_temp_buf(admin->request->pool,
                                  NGX_HTTP_RBGV_AUTH_ADMIN_BUFFER);
    if (cl->buf == NULL) {
        return NULL;
    }

    if (admin->last) {
        admin->last->next = cl;

    } else {
        admin->out = cl;
    }

    admin->last = cl;

    return cl->buf;
}
