
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * What an administrator wants: arguments and bodies, checked, as values of an
 * operation.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_rbgv_auth_admin.h"


#define NGX_HTTP_RBGV_AUTH_ADMIN_ITEMS  100      /* of a page, if not given */


/* NGX_DECLINED: the answer is set */

typedef ngx_int_t (*ngx_http_rbgv_auth_admin_field_pt)(
    ngx_http_rbgv_auth_admin_t *admin, const char *name, json_t *value);


typedef struct {
    const char                         *name;
    ngx_uint_t                          field;
    ngx_http_rbgv_auth_admin_field_pt   set;
} ngx_http_rbgv_auth_admin_field_t;


static ngx_int_t ngx_http_rbgv_auth_admin_read_arg(
    ngx_http_rbgv_auth_admin_t *admin, ngx_str_t *arg);
static ngx_int_t ngx_http_rbgv_auth_admin_collect(
    ngx_http_rbgv_auth_admin_t *admin, ngx_str_t *text);
static ngx_int_t ngx_http_rbgv_auth_admin_collect_buf(ngx_buf_t *b,
    u_char *p);
static ngx_int_t ngx_http_rbgv_auth_admin_parse(
    ngx_http_rbgv_auth_admin_t *admin, ngx_str_t *text);
static ngx_int_t ngx_http_rbgv_auth_admin_read_fields(
    ngx_http_rbgv_auth_admin_t *admin);
static ngx_int_t ngx_http_rbgv_auth_admin_check_fields(
    ngx_http_rbgv_auth_admin_t *admin, ngx_uint_t fields);

static ngx_int_t ngx_http_rbgv_auth_admin_set_key(
    ngx_http_rbgv_auth_admin_t *admin, const char *name, json_t *value);
static ngx_int_t ngx_http_rbgv_auth_admin_set_name(
    ngx_http_rbgv_auth_admin_t *admin, const char *name, json_t *value);
static ngx_int_t ngx_http_rbgv_auth_admin_set_environment(
    ngx_http_rbgv_auth_admin_t *admin, const char *name, json_t *value);
static ngx_int_t ngx_http_rbgv_auth_admin_set_owner(
    ngx_http_rbgv_auth_admin_t *admin, const char *name, json_t *value);
static ngx_int_t ngx_http_rbgv_auth_admin_set_note(
    ngx_http_rbgv_auth_admin_t *admin, const char *name, json_t *value);
static ngx_int_t ngx_http_rbgv_auth_admin_set_text(
    ngx_http_rbgv_auth_admin_t *admin, const char *name, json_t *value,
    const char **field, const char *(*find_fault)(const char *text));
static ngx_int_t ngx_http_rbgv_auth_admin_set_limits(
    ngx_http_rbgv_auth_admin_t *admin, const char *name, json_t *value);
static ngx_int_t ngx_http_rbgv_auth_admin_set_credits(
    ngx_http_rbgv_auth_admin_t *admin, const char *name, json_t *value);
static ngx_int_t ngx_http_rbgv_auth_admin_set_expires(
    ngx_http_rbgv_auth_admin_t *admin, const char *name, json_t *value);
static ngx_int_t ngx_http_rbgv_auth_admin_set_force(
    ngx_http_rbgv_auth_admin_t *admin, const char *name, json_t *value);
static ngx_int_t ngx_http_rbgv_auth_admin_set_action(
    ngx_http_rbgv_auth_admin_t *admin, const char *name, json_t *value);
static ngx_int_t ngx_http_rbgv_auth_admin_set_grace(
    ngx_http_rbgv_auth_admin_t *admin, const char *name, json_t *value);

static const char *ngx_http_rbgv_auth_admin_string(
    ngx_http_rbgv_auth_admin_t *admin, const char *name, json_t *value);
static ngx_int_t ngx_http_rbgv_auth_admin_invalid(
    ngx_http_rbgv_auth_admin_t *admin, const char *name, const char *fault);
static ngx_uint_t ngx_http_rbgv_auth_admin_is_set(
    ngx_http_rbgv_auth_admin_t *admin);


static const ngx_http_rbgv_auth_admin_field_t
    ngx_http_rbgv_auth_admin_fields[] =
{
    { "key_fingerprint", NGX_HTTP_RBGV_AUTH_ADMIN_KEY,
      ngx_http_rbgv_auth_admin_set_key },
    { "client_id", NGX_HTTP_RBGV_AUTH_ADMIN_NAME,
      ngx_http_rbgv_auth_admin_set_name },
    { "environment", NGX_HTTP_RBGV_AUTH_ADMIN_ENVIRONMENT,
      ngx_http_rbgv_auth_admin_set_environment },
    { "owner", NGX_HTTP_RBGV_AUTH_ADMIN_OWNER,
      ngx_http_rbgv_auth_admin_set_owner },
    { "note", NGX_HTTP_RBGV_AUTH_ADMIN_NOTE,
      ngx_http_rbgv_auth_admin_set_note },
    { "limits", NGX_HTTP_RBGV_AUTH_ADMIN_LIMITS,
      ngx_http_rbgv_auth_admin_set_limits },
    { "credits", NGX_HTTP_RBGV_AUTH_ADMIN_CREDITS,
      ngx_http_rbgv_auth_admin_set_credits },
    { "expires", NGX_HTTP_RBGV_AUTH_ADMIN_EXPIRES,
      ngx_http_rbgv_auth_admin_set_expires },
    { "force", NGX_HTTP_RBGV_AUTH_ADMIN_FORCE,
      ngx_http_rbgv_auth_admin_set_force },
    { "action", NGX_HTTP_RBGV_AUTH_ADMIN_ACTION,
      ngx_http_rbgv_auth_admin_set_action },
    { "grace", NGX_HTTP_RBGV_AUTH_ADMIN_GRACE,
      ngx_http_rbgv_auth_admin_set_grace },
    { NULL, 0, NULL }
};


/* one that is not known is refused, and not quoted: it may be a token */

ngx_int_t
ngx_http_rbgv_auth_admin_read_args(ngx_http_rbgv_auth_admin_t *admin)
{
    u_char     *p, *end;
    ngx_str_t   args, arg;

    args = admin->request->args;

    admin->op.limit = NGX_HTTP_RBGV_AUTH_ADMIN_ITEMS;
    rbgv_cursor_start(&admin->op.cursor);

    while (args.len) {
        end = args.data + args.len;
        p = ngx_strlchr(args.data, end, '&');

        arg.data = args.data;
        arg.len = (p ? p : end) - args.data;

        if (arg.len
            && ngx_http_rbgv_auth_admin_read_arg(admin, &arg) != NGX_OK)
        {
            return NGX_DECLINED;
        }

        args.data = p ? p + 1 : end;
        args.len = end - args.data;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_admin_read_arg(ngx_http_rbgv_auth_admin_t *admin,
    ngx_str_t *arg)
{
    char       *text;
    u_char     *dst, *src;
    ngx_int_t   n;

    if ((admin->route->args & NGX_HTTP_RBGV_AUTH_ADMIN_LIMIT)
        && arg->len > 6 && ngx_strncmp(arg->data, "limit=", 6) == 0)
    {
        n = ngx_atoi(arg->data + 6, arg->len - 6);

        if (n < 1 || n > (ngx_int_t) admin->route->limit) {
            return ngx_http_rbgv_auth_admin_refuse(admin,
                                   NGX_HTTP_BAD_REQUEST, "invalid_request",
                                   "\"limit\" is not a number from 1 to %d",
                                   (int) admin->route->limit);
        }

        admin->op.limit = n;

        return NGX_OK;
    }

    if ((admin->route->args & NGX_HTTP_RBGV_AUTH_ADMIN_CURSOR)
        && arg->len >= 7 && ngx_strncmp(arg->data, "cursor=", 7) == 0)
    {
        if (arg->len == 7) {
            return NGX_OK;
        }

        text = ngx_http_rbgv_auth_admin_text(admin->pool, arg->data + 7,
                                             arg->len - 7);

        if (text) {
            dst = src = (u_char *) text;
            ngx_unescape_uri(&dst, &src, arg->len - 7, 0);
            *dst = '\0';
        }

        return (text && rbgv_cursor_parse(&admin->op.cursor, text) == 0)
               ? NGX_OK
               : ngx_http_rbgv_auth_admin_invalid(admin, "cursor",
                                     "is not one that another page has given");
    }

    return ngx_http_rbgv_auth_admin_refuse(admin, NGX_HTTP_BAD_REQUEST,
                       "invalid_request", "There is an unknown argument in "
                       "the query string; a token goes into X-Admin-Token");
}


ngx_int_t
ngx_http_rbgv_auth_admin_read_body(ngx_http_rbgv_auth_admin_t *admin)
{
    ngx_str_t  text;

    ngx_str_null(&text);

    if (ngx_http_rbgv_auth_admin_collect(admin, &text) != NGX_OK
        || ngx_http_rbgv_auth_admin_parse(admin, &text) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    return ngx_http_rbgv_auth_admin_read_fields(admin);
}


static ngx_int_t
ngx_http_rbgv_auth_admin_collect(ngx_http_rbgv_auth_admin_t *admin,
    ngx_str_t *text)
{
    off_t         size;
    u_char       *p;
    ngx_chain_t  *cl;

    size = 0;

    for (cl = admin->request->request_body->bufs; cl; cl = cl->next) {
        size += ngx_buf_size(cl->buf);
    }

    if (size > NGX_HTTP_RBGV_AUTH_ADMIN_BODY) {
        return ngx_http_rbgv_auth_admin_refuse(admin,
                              NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                              "request_too_large",
                              "The body is longer than %d bytes",
                              NGX_HTTP_RBGV_AUTH_ADMIN_BODY);
    }

    text->len = size;
    text->data = ngx_pnalloc(admin->pool, size + 1);
    p = text->data;

    for (cl = admin->request->request_body->bufs; cl && p; cl = cl->next) {
        if (ngx_http_rbgv_auth_admin_collect_buf(cl->buf, p) != NGX_OK) {
            p = NULL;
            break;
        }

        p += ngx_buf_size(cl->buf);
    }

    if (p == NULL) {
        return ngx_http_rbgv_auth_admin_refuse(admin,
                              NGX_HTTP_INTERNAL_SERVER_ERROR,
                              "internal_error", "The body cannot be read");
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_admin_collect_buf(ngx_buf_t *b, u_char *p)
{
    size_t  size;

    size = ngx_buf_size(b);

    if (size == 0) {
        return NGX_OK;
    }

    if (!b->in_file || ngx_buf_in_memory(b)) {
        ngx_memcpy(p, b->pos, size);
        return NGX_OK;
    }

    return ngx_read_file(b->file, p, size, b->file_pos) == (ssize_t) size
           ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_rbgv_auth_admin_parse(ngx_http_rbgv_auth_admin_t *admin,
    ngx_str_t *text)
{
    json_error_t  err;

    admin->body = json_loadb((const char *) text->data, text->len,
                             JSON_REJECT_DUPLICATES, &err);

    if (admin->body == NULL) {
        return ngx_http_rbgv_auth_admin_refuse(admin, NGX_HTTP_BAD_REQUEST,
                              "invalid_request", "The body is not JSON, or "
                              "has a field twice, in line %d, column %d",
                              err.line, err.column);
    }

    if (!json_is_object(admin->body)) {
        return ngx_http_rbgv_auth_admin_refuse(admin, NGX_HTTP_BAD_REQUEST,
                              "invalid_request", "The body is not an object");
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_admin_read_fields(ngx_http_rbgv_auth_admin_t *admin)
{
    json_t                                  *value;
    ngx_uint_t                               fields;
    const char                              *name;
    const ngx_http_rbgv_auth_admin_field_t  *field;

    fields = 0;

    json_object_foreach(admin->body, name, value) {

        field = ngx_http_rbgv_auth_admin_fields;

        while (field->name && ngx_strcmp(field->name, name) != 0) {
            field++;
        }

        if (!(field->field & admin->route->fields)) {
            return ngx_http_rbgv_auth_admin_refuse(admin,
                                     NGX_HTTP_BAD_REQUEST, "invalid_request",
                                     "There is no field \"%.64s\" here", name);
        }

        if (json_is_null(value)) {
            continue;
        }

        if (field->set(admin, name, value) != NGX_OK) {
            return NGX_DECLINED;
        }

        fields |= field->field;
    }

    return ngx_http_rbgv_auth_admin_check_fields(admin, fields);
}


static ngx_int_t
ngx_http_rbgv_auth_admin_check_fields(ngx_http_rbgv_auth_admin_t *admin,
    ngx_uint_t fields)
{
    const char                              *fault;
    rbgv_admin_t                            *op;
    const ngx_http_rbgv_auth_admin_field_t  *field;

    op = &admin->op;

    for (field = ngx_http_rbgv_auth_admin_fields; field->name; field++) {
        if (field->field & admin->route->required & ~fields) {
            return ngx_http_rbgv_auth_admin_invalid(admin, field->name,
                                                    "is missing");
        }
    }

    if (op->how == RBGV_ROTATION_TRY && op->force) {
        op->how = RBGV_ROTATION_FORCE;
    }

    if (op->how != RBGV_ROTATION_LOOK && op->grace) {
        return ngx_http_rbgv_auth_admin_invalid(admin, "grace",
                                 "is for the beginning of a rotation");
    }

    if (ngx_http_rbgv_auth_admin_is_set(admin)
        && fields == NGX_HTTP_RBGV_AUTH_ADMIN_KEY)
    {
        return ngx_http_rbgv_auth_admin_refuse(admin, NGX_HTTP_BAD_REQUEST,
                                               "invalid_request",
                                               "There is nothing to set");
    }

    if (op->environment == NULL || op->force) {
        return NGX_OK;
    }

    fault = rbgv_name_fault(rbgv_name_check(op->name, op->environment));

    return fault ? ngx_http_rbgv_auth_admin_refuse(admin, NGX_HTTP_CONFLICT,
                                      "conflict", "\"client_id\" \"%s\" %s; "
                                      "give another one, or \"force\"",
                                      op->name, fault)
                 : NGX_OK;
}


/* what is no id may be a key, and is not quoted */

static ngx_int_t
ngx_http_rbgv_auth_admin_set_key(ngx_http_rbgv_auth_admin_t *admin,
    const char *name, json_t *value)
{
    admin->op.id = ngx_http_rbgv_auth_admin_string(admin, name, value);

    if (admin->op.id == NULL) {
        return NGX_DECLINED;
    }

    return rbgv_id_valid(admin->op.id, json_string_length(value))
           ? NGX_OK
           : ngx_http_rbgv_auth_admin_invalid(admin, name,
                              "is not the id of a key: those have 12 letters "
                              "and digits");
}


static ngx_int_t
ngx_http_rbgv_auth_admin_set_name(ngx_http_rbgv_auth_admin_t *admin,
    const char *name, json_t *value)
{
    admin->op.name = ngx_http_rbgv_auth_admin_string(admin, name, value);

    if (admin->op.name == NULL) {
        return NGX_DECLINED;
    }

    /* that of a key to be deleted may have been written by another program */

    if (!(admin->route->fields & NGX_HTTP_RBGV_AUTH_ADMIN_OWNER)
        || rbgv_name_valid(admin->op.name))
    {
        return NGX_OK;
    }

    return ngx_http_rbgv_auth_admin_invalid(admin, name,
                              "is not 2 to 63 characters of [a-z0-9-], the "
                              "first no \"-\"");
}


static ngx_int_t
ngx_http_rbgv_auth_admin_set_environment(ngx_http_rbgv_auth_admin_t *admin,
    const char *name, json_t *value)
{
    admin->op.environment = ngx_http_rbgv_auth_admin_string(admin, name,
                                                            value);
    if (admin->op.environment == NULL) {
        return NGX_DECLINED;
    }

    return rbgv_environment_valid(admin->op.environment,
                                  json_string_length(value))
           ? NGX_OK
           : ngx_http_rbgv_auth_admin_invalid(admin, name,
                              "is not a lower case letter and up to 15 "
                              "letters and digits");
}


static ngx_int_t
ngx_http_rbgv_auth_admin_set_owner(ngx_http_rbgv_auth_admin_t *admin,
    const char *name, json_t *value)
{
    return ngx_http_rbgv_auth_admin_set_text(admin, name, value,
                                             &admin->op.owner,
                                             rbgv_owner_fault);
}


static ngx_int_t
ngx_http_rbgv_auth_admin_set_note(ngx_http_rbgv_auth_admin_t *admin,
    const char *name, json_t *value)
{
    return ngx_http_rbgv_auth_admin_set_text(admin, name, value,
                                             &admin->op.note, rbgv_note_fault);
}


static ngx_int_t
ngx_http_rbgv_auth_admin_set_text(ngx_http_rbgv_auth_admin_t *admin,
    const char *name, json_t *value, const char **field,
    const char *(*find_fault)(const char *text))
{
    const char  *text, *fault;

    text = ngx_http_rbgv_auth_admin_string(admin, name, value);

    if (text == NULL) {
        return NGX_DECLINED;
    }

    if (text[0] || ngx_http_rbgv_auth_admin_is_set(admin)) {
        *field = text;
    }

    fault = find_fault(text);

    return fault ? ngx_http_rbgv_auth_admin_invalid(admin, name, fault)
                 : NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_admin_set_limits(ngx_http_rbgv_auth_admin_t *admin,
    const char *name, json_t *value)
{
    json_t      *quota;
    const char  *err, *policy, *text;

    if (!json_is_object(value)) {
        return ngx_http_rbgv_auth_admin_invalid(admin, name,
                                 "is not an object, as in "
                                 "{\"default\":\"600r/1m\"}");
    }

    json_object_foreach(value, policy, quota) {

        text = json_string_value(quota);

        if (text == NULL || text[0] == '\0') {
            return ngx_http_rbgv_auth_admin_refuse(admin,
                              NGX_HTTP_BAD_REQUEST, "invalid_request",
                              "The limit \"%.64s\" is not a string, as in "
                              "\"600r/1m\"", policy);
        }

        if (ngx_http_rbgv_auth_admin_is_set(admin) && rbgv_none(text)) {
            text = "";
        }

        err = rbgv_limits_add(&admin->op.limits, policy, ngx_strlen(policy),
                              text);

        if (err) {
            return ngx_http_rbgv_auth_admin_refuse(admin,
                              NGX_HTTP_BAD_REQUEST, "invalid_request",
                              "The limit \"%.64s\": %s", policy, err);
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_admin_set_credits(ngx_http_rbgv_auth_admin_t *admin,
    const char *name, json_t *value)
{
    const char  *text, *fault;

    if (json_is_integer(value)) {
        *ngx_sprintf((u_char *) admin->credits, "%L",
                     (int64_t) json_integer_value(value)) = '\0';

        /* "-5" takes back, and -5 is no number of credits */

        text = admin->credits;
        admin->op.credits = text;

    } else if (ngx_http_rbgv_auth_admin_is_set(admin)) {
        text = ngx_http_rbgv_auth_admin_string(admin, name, value);

        if (text == NULL) {
            return NGX_DECLINED;
        }

        admin->op.credits = text;

        if (text[0] == '+' || text[0] == '-') {
            text++;
        }

    } else {
        text = "";
    }

    fault = rbgv_credits_fault(text);

    return fault ? ngx_http_rbgv_auth_admin_invalid(admin, name, fault)
                 : NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_admin_set_expires(ngx_http_rbgv_auth_admin_t *admin,
    const char *name, json_t *value)
{
    const char  *text, *fault;

    text = ngx_http_rbgv_auth_admin_string(admin, name, value);

    if (text == NULL) {
        return NGX_DECLINED;
    }

    admin->op.expires = text;

    if (ngx_http_rbgv_auth_admin_is_set(admin)
        && ngx_strcmp(text, "never") == 0)
    {
        return NGX_OK;
    }

    fault = rbgv_expires_fault(text);

    return fault ? ngx_http_rbgv_auth_admin_invalid(admin, name, fault)
                 : NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_admin_set_force(ngx_http_rbgv_auth_admin_t *admin,
    const char *name, json_t *value)
{
    if (!json_is_boolean(value)) {
        return ngx_http_rbgv_auth_admin_invalid(admin, name,
                                                "is not true or false");
    }

    admin->op.force = json_is_true(value);

    return NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_admin_set_action(ngx_http_rbgv_auth_admin_t *admin,
    const char *name, json_t *value)
{
    const char  *text;

    text = ngx_http_rbgv_auth_admin_string(admin, name, value);

    if (text == NULL) {
        return NGX_DECLINED;
    }

    if (ngx_strcmp(text, "start") == 0) {
        return NGX_OK;
    }

    admin->op.how = RBGV_ROTATION_TRY;
    admin->op.cancel = ngx_strcmp(text, "cancel") == 0;

    if (admin->op.cancel || ngx_strcmp(text, "finish") == 0) {
        return NGX_OK;
    }

    return ngx_http_rbgv_auth_admin_invalid(admin, name,
                                       "is none of start, finish and cancel");
}


static ngx_int_t
ngx_http_rbgv_auth_admin_set_grace(ngx_http_rbgv_auth_admin_t *admin,
    const char *name, json_t *value)
{
    const char  *fault;

    admin->op.grace = ngx_http_rbgv_auth_admin_string(admin, name, value);

    if (admin->op.grace == NULL) {
        return NGX_DECLINED;
    }

    fault = rbgv_expires_fault(admin->op.grace);

    return fault ? ngx_http_rbgv_auth_admin_invalid(admin, name, fault)
                 : NGX_OK;
}


/* NULL: it is none, and the answer is set */

static const char *
ngx_http_rbgv_auth_admin_string(ngx_http_rbgv_auth_admin_t *admin,
    const char *name, json_t *value)
{
    if (!json_is_string(value)) {
        (void) ngx_http_rbgv_auth_admin_invalid(admin, name,
                                                "is not a string");
    }

    return json_string_value(value);
}


static ngx_int_t
ngx_http_rbgv_auth_admin_invalid(ngx_http_rbgv_auth_admin_t *admin,
    const char *name, const char *fault)
{
    return ngx_http_rbgv_auth_admin_refuse(admin, NGX_HTTP_BAD_REQUEST,
                                           "invalid_request", "\"%s\" %s",
                                           name, fault);
}


/* a body that changes fields of a key */

static ngx_uint_t
ngx_http_rbgv_auth_admin_is_set(ngx_http_rbgv_auth_admin_t *admin)
{
    return admin->route->start == rbgv_admin_set;
}


char *
ngx_http_rbgv_auth_admin_text(ngx_pool_t *pool, u_char *data, size_t len)
{
    char  *text;

    text = ngx_pnalloc(pool, len + 1);

    if (text) {
        *ngx_cpymem(text, data, len) = '\0';
    }

    return text;
}
