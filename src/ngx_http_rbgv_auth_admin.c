
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * "rbgv_auth_admin": keys by HTTP.  A request becomes an operation of
 * src/rbgv_admin.h, whose commands are sent here and whose replies are
 * collected until it has all of them.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_rbgv_auth_admin.h"


#define NGX_HTTP_RBGV_AUTH_ADMIN_POOL     4096
#define NGX_HTTP_RBGV_AUTH_ADMIN_PAUSE    1          /* milliseconds */


static ngx_int_t ngx_http_rbgv_auth_admin_handler(ngx_http_request_t *r);
static ngx_http_rbgv_auth_admin_t *ngx_http_rbgv_auth_admin_create(
    ngx_http_request_t *r);
static ngx_http_rbgv_auth_admin_t *ngx_http_rbgv_auth_admin_get(
    ngx_http_request_t *r);
static ngx_int_t ngx_http_rbgv_auth_admin_route(
    ngx_http_rbgv_auth_admin_t *admin);
static ngx_int_t ngx_http_rbgv_auth_admin_no_route(
    ngx_http_rbgv_auth_admin_t *admin, ngx_uint_t methods);
static ngx_int_t ngx_http_rbgv_auth_admin_check_post(
    ngx_http_rbgv_auth_admin_t *admin);
static void ngx_http_rbgv_auth_admin_body_handler(ngx_http_request_t *r);

static void ngx_http_rbgv_auth_admin_start(
    ngx_http_rbgv_auth_admin_t *admin);
static void ngx_http_rbgv_auth_admin_send_commands(
    ngx_http_rbgv_auth_admin_t *admin);
static ngx_uint_t ngx_http_rbgv_auth_admin_key(rbgv_command_t *command);
static void ngx_http_rbgv_auth_admin_reply_handler(void *data,
    ngx_rbgv_redis_reply_t *reply);
static redisReply *ngx_http_rbgv_auth_admin_copy(
    ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_admin_step(ngx_http_rbgv_auth_admin_t *admin);
static void ngx_http_rbgv_auth_admin_pause_handler(ngx_event_t *ev);
static void ngx_http_rbgv_auth_admin_verify(
    ngx_http_rbgv_auth_admin_t *admin);
static void ngx_http_rbgv_auth_admin_lost(ngx_http_rbgv_auth_admin_t *admin);
static void ngx_http_rbgv_auth_admin_log(ngx_http_rbgv_auth_admin_t *admin);
static ngx_log_t *ngx_http_rbgv_auth_admin_logger(
    ngx_http_rbgv_auth_admin_t *admin);

static void ngx_http_rbgv_auth_admin_done(ngx_http_rbgv_auth_admin_t *admin);
static void ngx_http_rbgv_auth_admin_finish(ngx_http_request_t *r);
static void ngx_http_rbgv_auth_admin_gone(void *data);
static void ngx_http_rbgv_auth_admin_free_replies(
    ngx_http_rbgv_auth_admin_t *admin);
static void ngx_http_rbgv_auth_admin_destroy(
    ngx_http_rbgv_auth_admin_t *admin);

static void ngx_http_rbgv_auth_admin_rotate(rbgv_admin_t *op);
static void ngx_http_rbgv_auth_admin_disable(rbgv_admin_t *op);
static void ngx_http_rbgv_auth_admin_enable(rbgv_admin_t *op);


static const ngx_http_rbgv_auth_admin_route_t
    ngx_http_rbgv_auth_admin_routes[] =
{
    { ngx_string("config"), NGX_HTTP_GET, 0, 0, 0, 0, NGX_HTTP_OK,
      rbgv_admin_config },

    { ngx_string("keys"), NGX_HTTP_GET,
      NGX_HTTP_RBGV_AUTH_ADMIN_LIMIT|NGX_HTTP_RBGV_AUTH_ADMIN_CURSOR,
      RBGV_PAGE_MAX, 0, 0, NGX_HTTP_OK,
      rbgv_admin_list },

    { ngx_string("audit"), NGX_HTTP_GET,
      NGX_HTTP_RBGV_AUTH_ADMIN_LIMIT, RBGV_AUDIT_MAX, 0, 0, NGX_HTTP_OK,
      rbgv_admin_audit },

    { ngx_string("keys"), NGX_HTTP_POST, 0, 0,
      NGX_HTTP_RBGV_AUTH_ADMIN_NAME
      |NGX_HTTP_RBGV_AUTH_ADMIN_ENVIRONMENT
      |NGX_HTTP_RBGV_AUTH_ADMIN_OWNER
      |NGX_HTTP_RBGV_AUTH_ADMIN_NOTE
      |NGX_HTTP_RBGV_AUTH_ADMIN_LIMITS
      |NGX_HTTP_RBGV_AUTH_ADMIN_CREDITS
      |NGX_HTTP_RBGV_AUTH_ADMIN_EXPIRES
      |NGX_HTTP_RBGV_AUTH_ADMIN_FORCE,
      NGX_HTTP_RBGV_AUTH_ADMIN_NAME|NGX_HTTP_RBGV_AUTH_ADMIN_ENVIRONMENT,
      NGX_HTTP_CREATED,
      rbgv_admin_create },

    { ngx_string("keys/rotate"), NGX_HTTP_POST, 0, 0,
      NGX_HTTP_RBGV_AUTH_ADMIN_KEY
      |NGX_HTTP_RBGV_AUTH_ADMIN_ACTION
      |NGX_HTTP_RBGV_AUTH_ADMIN_GRACE
      |NGX_HTTP_RBGV_AUTH_ADMIN_FORCE,
      NGX_HTTP_RBGV_AUTH_ADMIN_KEY, NGX_HTTP_OK,
      ngx_http_rbgv_auth_admin_rotate },

    { ngx_string("keys/disable"), NGX_HTTP_POST, 0, 0,
      NGX_HTTP_RBGV_AUTH_ADMIN_KEY, NGX_HTTP_RBGV_AUTH_ADMIN_KEY, NGX_HTTP_OK,
      ngx_http_rbgv_auth_admin_disable },

    { ngx_string("keys/enable"), NGX_HTTP_POST, 0, 0,
      NGX_HTTP_RBGV_AUTH_ADMIN_KEY, NGX_HTTP_RBGV_AUTH_ADMIN_KEY, NGX_HTTP_OK,
      ngx_http_rbgv_auth_admin_enable },

    { ngx_string("keys/delete"), NGX_HTTP_POST, 0, 0,
      NGX_HTTP_RBGV_AUTH_ADMIN_KEY|NGX_HTTP_RBGV_AUTH_ADMIN_NAME,
      NGX_HTTP_RBGV_AUTH_ADMIN_KEY, NGX_HTTP_OK,
      rbgv_admin_delete },

    { ngx_string("keys/set"), NGX_HTTP_POST, 0, 0,
      NGX_HTTP_RBGV_AUTH_ADMIN_KEY
      |NGX_HTTP_RBGV_AUTH_ADMIN_NAME
      |NGX_HTTP_RBGV_AUTH_ADMIN_OWNER
      |NGX_HTTP_RBGV_AUTH_ADMIN_NOTE
      |NGX_HTTP_RBGV_AUTH_ADMIN_LIMITS
      |NGX_HTTP_RBGV_AUTH_ADMIN_CREDITS
      |NGX_HTTP_RBGV_AUTH_ADMIN_EXPIRES
      |NGX_HTTP_RBGV_AUTH_ADMIN_FORCE,
      NGX_HTTP_RBGV_AUTH_ADMIN_KEY, NGX_HTTP_OK,
      rbgv_admin_set },

    { ngx_null_string, 0, 0, 0, 0, 0, 0, NULL }
};


/* "keys/" and an id */

static const ngx_http_rbgv_auth_admin_route_t
    ngx_http_rbgv_auth_admin_key_route =
{
    ngx_string("keys/"), NGX_HTTP_GET, 0, 0, 0, 0, NGX_HTTP_OK,
    rbgv_admin_show
};


char *
ngx_http_rbgv_auth_set_admin(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_rbgv_auth_loc_conf_t *alcf = conf;

    if (alcf->admin) {
        return "is duplicate";
    }

    alcf->admin = 1;

    return ngx_http_rbgv_auth_set_handler(cf, cmd,
                                          ngx_http_rbgv_auth_admin_handler);
}


static ngx_int_t
ngx_http_rbgv_auth_admin_handler(ngx_http_request_t *r)
{
    ngx_int_t                    rc;
    ngx_http_rbgv_auth_admin_t  *admin;

    if (r != r->main) {
        return NGX_HTTP_FORBIDDEN;
    }

    admin = ngx_http_rbgv_auth_admin_create(r);
    if (admin == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_rbgv_auth_admin_check_token(admin) != NGX_OK
        || ngx_http_rbgv_auth_admin_route(admin) != NGX_OK
        || ngx_http_rbgv_auth_admin_read_args(admin) != NGX_OK
        || (r->method == NGX_HTTP_POST
            && ngx_http_rbgv_auth_admin_check_post(admin) != NGX_OK))
    {
        rc = ngx_http_discard_request_body(r);

        return rc == NGX_OK ? ngx_http_rbgv_auth_admin_send(admin) : rc;
    }

    if (r->method == NGX_HTTP_POST) {
        rc = ngx_http_read_client_request_body(r,
                                       ngx_http_rbgv_auth_admin_body_handler);

        return rc >= NGX_HTTP_SPECIAL_RESPONSE ? rc : NGX_DONE;
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    r->main->count++;

    ngx_http_rbgv_auth_admin_start(admin);

    return NGX_DONE;
}


static ngx_http_rbgv_auth_admin_t *
ngx_http_rbgv_auth_admin_create(ngx_http_request_t *r)
{
    ngx_pool_t                      *pool;
    ngx_http_cleanup_t              *cln;
    ngx_http_variable_value_t       *id;
    ngx_http_rbgv_auth_admin_t      *admin;
    ngx_http_rbgv_auth_loc_conf_t   *alcf;
    ngx_http_rbgv_auth_main_conf_t  *amcf;

    alcf = ngx_http_get_module_loc_conf(r, ngx_http_rbgv_auth_module);
    amcf = ngx_http_get_module_main_conf(r, ngx_http_rbgv_auth_module);

    id = ngx_http_get_indexed_variable(r, amcf->request_id);
    cln = ngx_http_cleanup_add(r, 0);

    if (id == NULL || cln == NULL) {
        return NULL;
    }

    pool = ngx_create_pool(NGX_HTTP_RBGV_AUTH_ADMIN_POOL, ngx_cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    admin = ngx_pcalloc(pool, sizeof(ngx_http_rbgv_auth_admin_t));
    if (admin == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    admin->request = r;
    admin->pool = pool;
    admin->store = &amcf->worker->stores[alcf->store];

    admin->op.prefix = ngx_http_rbgv_auth_admin_text(pool,
                                                     amcf->prefix.data,
                                                     amcf->prefix.len);
    admin->op.request_id = ngx_http_rbgv_auth_admin_text(pool, id->data,
                                                         id->len);
    admin->op.digester = amcf->worker->digester;
    admin->op.source = "api";

    admin->pause.handler = ngx_http_rbgv_auth_admin_pause_handler;
    admin->pause.data = admin;
    admin->pause.log = ngx_cycle->log;

    cln->handler = ngx_http_rbgv_auth_admin_gone;
    cln->data = admin;

    if (admin->op.prefix == NULL || admin->op.request_id == NULL) {
        return NULL;
    }

    return admin;
}


/* the context of the module is one of requests with an API key */

static ngx_http_rbgv_auth_admin_t *
ngx_http_rbgv_auth_admin_get(ngx_http_request_t *r)
{
    ngx_http_cleanup_t  *cln;

    for (cln = r->cleanup; cln; cln = cln->next) {
        if (cln->handler == ngx_http_rbgv_auth_admin_gone) {
            return cln->data;
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_rbgv_auth_admin_route(ngx_http_rbgv_auth_admin_t *admin)
{
    ngx_str_t                                path;
    ngx_uint_t                               method, methods;
    ngx_http_request_t                      *r;
    const ngx_http_rbgv_auth_admin_route_t  *route;

    r = admin->request;

    ngx_http_rbgv_auth_path(r, &path);

    if (path.len && path.data[0] == '/') {
        path.data++;
        path.len--;
    }

    method = (r->method == NGX_HTTP_HEAD) ? NGX_HTTP_GET : r->method;
    methods = 0;

    for (route = ngx_http_rbgv_auth_admin_routes; route->start; route++) {

        if (route->path.len != path.len
            || ngx_memcmp(route->path.data, path.data, path.len) != 0)
        {
            continue;
        }

        if (route->method == method) {
            admin->route = route;
            return NGX_OK;
        }

        methods |= route->method;
    }

    route = &ngx_http_rbgv_auth_admin_key_route;

    if (methods == 0 && path.len == route->path.len + RBGV_ID_LEN
        && ngx_memcmp(path.data, route->path.data, route->path.len) == 0
        && rbgv_id_valid((const char *) path.data + route->path.len,
                         RBGV_ID_LEN))
    {
        methods = route->method;

        admin->route = route;
        admin->op.id = ngx_http_rbgv_auth_admin_text(admin->pool,
                                              path.data + route->path.len,
                                              RBGV_ID_LEN);

        if (method == NGX_HTTP_GET && admin->op.id) {
            return NGX_OK;
        }
    }

    return ngx_http_rbgv_auth_admin_no_route(admin, methods);
}


/* methods: those that there are in this place */

static ngx_int_t
ngx_http_rbgv_auth_admin_no_route(ngx_http_rbgv_auth_admin_t *admin,
    ngx_uint_t methods)
{
    if (methods == 0) {
        return ngx_http_rbgv_auth_admin_refuse(admin, NGX_HTTP_NOT_FOUND,
                                               "not_found",
                                               "There is nothing here");
    }

    admin->allow = (methods == NGX_HTTP_POST) ? "POST"
                   : (methods == NGX_HTTP_GET) ? "GET, HEAD"
                   : "GET, HEAD, POST";

    return ngx_http_rbgv_auth_admin_refuse(admin, NGX_HTTP_NOT_ALLOWED,
                                           "method_not_allowed",
                                           "Method not allowed, there is %s",
                                           admin->allow);
}


/* what a form of another site may send is none of it */

static ngx_int_t
ngx_http_rbgv_auth_admin_check_post(ngx_http_rbgv_auth_admin_t *admin)
{
    u_char              *p;
    size_t               len;
    ngx_str_t           *type, *site;
    ngx_http_request_t  *r;

    r = admin->request;

    site = ngx_http_rbgv_auth_admin_header(r, "Sec-Fetch-Site", NULL);

    if (site
        && !(site->len == 11
             && ngx_strncmp(site->data, "same-origin", 11) == 0)
        && !(site->len == 4 && ngx_strncmp(site->data, "none", 4) == 0))
    {
        return ngx_http_rbgv_auth_admin_refuse(admin, NGX_HTTP_FORBIDDEN,
                              "cross_site_request",
                              "A page of another site has sent the request");
    }

    type = r->headers_in.content_type ? &r->headers_in.content_type->value
                                      : NULL;
    len = 0;

    if (type) {
        p = ngx_strlchr(type->data, type->data + type->len, ';');
        len = p ? (size_t) (p - type->data) : type->len;

        while (len && type->data[len - 1] == ' ') {
            len--;
        }
    }

    if (len != sizeof("application/json") - 1
        || ngx_strncasecmp(type->data, (u_char *) "application/json", len)
           != 0)
    {
        return ngx_http_rbgv_auth_admin_refuse(admin,
                              NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                              "unsupported_media_type",
                              "Content-Type is not application/json");
    }

    if (r->headers_in.content_length_n > NGX_HTTP_RBGV_AUTH_ADMIN_BODY) {
        return ngx_http_rbgv_auth_admin_refuse(admin,
                              NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                              "request_too_large",
                              "The body is longer than %d bytes",
                              NGX_HTTP_RBGV_AUTH_ADMIN_BODY);
    }

    return NGX_OK;
}


ngx_str_t *
ngx_http_rbgv_auth_admin_header(ngx_http_request_t *r, const char *name,
    ngx_uint_t *n)
{
    size_t            len;
    ngx_str_t        *value;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    len = ngx_strlen(name);
    value = NULL;

    part = &r->headers_in.headers.part;
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

        if (h[i].key.len != len
            || ngx_strncasecmp(h[i].key.data, (u_char *) name, len) != 0)
        {
            continue;
        }

        if (n) {
            (*n)++;
        }

        if (value == NULL) {
            value = &h[i].value;
        }
    }

    return value;
}


static void
ngx_http_rbgv_auth_admin_body_handler(ngx_http_request_t *r)
{
    ngx_http_rbgv_auth_admin_t  *admin;

    admin = ngx_http_rbgv_auth_admin_get(r);

    if (ngx_http_rbgv_auth_admin_read_body(admin) != NGX_OK) {
        ngx_http_finalize_request(r, ngx_http_rbgv_auth_admin_send(admin));
        return;
    }

    ngx_http_rbgv_auth_admin_start(admin);
}


static void
ngx_http_rbgv_auth_admin_start(ngx_http_rbgv_auth_admin_t *admin)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = admin->request;
    c = r->connection;

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    if (c->read->ready) {
        ngx_post_event(c->read, &ngx_posted_events);

    } else if (ngx_handle_read_event(c->read, 0) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    /* first of all: a foreign store has no keys to show or to change */

    rbgv_admin_command(&admin->op, "HGET");
    rbgv_admin_arg(&admin->op, "%s" RBGV_META, admin->op.prefix);
    rbgv_admin_arg(&admin->op, RBGV_META_SCHEMA);

    ngx_http_rbgv_auth_admin_send_commands(admin);
}


static void
ngx_http_rbgv_auth_admin_send_commands(ngx_http_rbgv_auth_admin_t *admin)
{
    size_t           argvlen[RBGV_ADMIN_ARGS];
    ngx_uint_t       i, k, n;
    ngx_msec_t       deadline;
    rbgv_command_t  *command;

    n = admin->op.ncommands;

    if (n > admin->nalloc) {
        admin->nalloc = n;
        admin->replies = ngx_palloc(admin->pool, n * sizeof(redisReply *));
        admin->waits = ngx_palloc(admin->pool, n
                                  * sizeof(ngx_http_rbgv_auth_admin_wait_t));
    }

    admin->nsent = 0;
    admin->nreplies = 0;

    if (n == 0 || admin->replies == NULL || admin->waits == NULL) {
        admin->failed = 1;
        ngx_http_rbgv_auth_admin_lost(admin);
        return;
    }

    ngx_memzero(admin->replies, n * sizeof(redisReply *));

    deadline = ngx_current_msec + admin->store->conf->timeout;

    for (i = 0; i < n; i++) {
        command = &admin->op.commands[i];

        for (k = 0; k < command->argc; k++) {
            argvlen[k] = ngx_strlen(command->argv[k]);
        }

        admin->waits[i].admin = admin;
        admin->waits[i].n = i;

        if (ngx_rbgv_store_command(admin->store->redis,
                                   ngx_http_rbgv_auth_admin_key(command),
                                   deadline,
                                   ngx_http_rbgv_auth_admin_reply_handler,
                                   &admin->waits[i], command->argc,
                                   (const char **) command->argv, argvlen)
            != NGX_OK)
        {
            admin->failed = 1;
            break;
        }

        admin->nsent++;
    }

    if (admin->nsent == 0) {
        ngx_http_rbgv_auth_admin_lost(admin);
    }
}


/* which argument is a name in the store; what has none goes anywhere */

static ngx_uint_t
ngx_http_rbgv_auth_admin_key(rbgv_command_t *command)
{
    if (command->argc == 1) {
        return 0;
    }

    return ngx_strcmp(command->argv[0], "EVAL") == 0 ? 3 : 1;
}


static void
ngx_http_rbgv_auth_admin_reply_handler(void *data,
    ngx_rbgv_redis_reply_t *reply)
{
    ngx_http_rbgv_auth_admin_wait_t *wait = data;

    redisReply                  *copy;
    ngx_http_rbgv_auth_admin_t  *admin;

    admin = wait->admin;
    copy = NULL;

    if (reply == NULL || reply->type == NGX_RBGV_REDIS_ERROR) {
        ngx_http_rbgv_auth_bad_reply(admin->store, reply,
                               admin->op.commands[wait->n].argv[0]);

    } else if (!admin->failed) {
        copy = ngx_http_rbgv_auth_admin_copy(reply);
    }

    if (copy == NULL) {
        admin->failed = 1;
    }

    admin->replies[wait->n] = copy;

    if (++admin->nreplies < admin->nsent) {
        return;
    }

    if (admin->failed) {
        ngx_http_rbgv_auth_admin_lost(admin);
        return;
    }

    ngx_http_rbgv_auth_admin_step(admin);
}


/* by malloc(), as freeReplyObject() wants it */

static redisReply *
ngx_http_rbgv_auth_admin_copy(ngx_rbgv_redis_reply_t *reply)
{
    redisReply  *copy;

    static const int  types[] = {
        REDIS_REPLY_STRING, REDIS_REPLY_STATUS, REDIS_REPLY_ERROR,
        REDIS_REPLY_INTEGER, REDIS_REPLY_NIL, REDIS_REPLY_ARRAY
    };

    copy = calloc(1, sizeof(redisReply));
    if (copy == NULL) {
        return NULL;
    }

    copy->type = types[reply->type];
    copy->integer = reply->integer;

    if (reply->type == NGX_RBGV_REDIS_ARRAY) {
        copy->element = calloc(reply->nelts + 1, sizeof(redisReply *));

        while (copy->element && copy->elements < reply->nelts) {
            copy->element[copy->elements] =
                 ngx_http_rbgv_auth_admin_copy(reply->elts[copy->elements]);

            if (copy->element[copy->elements++] == NULL) {
                freeReplyObject(copy);
                return NULL;
            }
        }

    } else if (reply->type != NGX_RBGV_REDIS_INTEGER) {
        copy->len = reply->str.len;
        copy->str = calloc(1, reply->str.len + 1);

        if (copy->str && reply->str.len) {
            ngx_memcpy(copy->str, reply->str.data, reply->str.len);
        }
    }

    if ((copy->type == REDIS_REPLY_ARRAY && copy->element == NULL)
        || (copy->type == REDIS_REPLY_STRING && copy->str == NULL))
    {
        freeReplyObject(copy);
        return NULL;
    }

    return copy;
}


/* all replies are there */

static void
ngx_http_rbgv_auth_admin_step(ngx_http_rbgv_auth_admin_t *admin)
{
    if (!admin->verified) {
        ngx_http_rbgv_auth_admin_verify(admin);

    } else {
        rbgv_admin_feed(&admin->op, admin->replies);
    }

    ngx_http_rbgv_auth_admin_free_replies(admin);

    if (admin->code) {
        ngx_http_rbgv_auth_admin_done(admin);
        return;
    }

    if (admin->op.auditing) {
        ngx_http_rbgv_auth_admin_log(admin);
    }

    /* a change goes on to its end whether somebody waits for it or not */

    if (admin->request == NULL && admin->route->method == NGX_HTTP_GET) {
        ngx_http_rbgv_auth_admin_destroy(admin);
        return;
    }

    if (admin->op.next && admin->op.done) {
        ngx_add_timer(&admin->pause, NGX_HTTP_RBGV_AUTH_ADMIN_PAUSE);
        return;
    }

    if (admin->op.next) {
        ngx_http_rbgv_auth_admin_send_commands(admin);
        return;
    }

    ngx_http_rbgv_auth_admin_done(admin);
}


/* of a page: requests of clients go first, before its items are written too */

static void
ngx_http_rbgv_auth_admin_pause_handler(ngx_event_t *ev)
{
    ngx_http_rbgv_auth_admin_t  *admin;

    admin = ev->data;

    ngx_http_rbgv_auth_admin_write_items(admin);

    if (admin->op.next) {
        ngx_http_rbgv_auth_admin_send_commands(admin);

    } else {
        ngx_http_rbgv_auth_admin_done(admin);
    }
}


static void
ngx_http_rbgv_auth_admin_verify(ngx_http_rbgv_auth_admin_t *admin)
{
    redisReply  *schema;

    schema = admin->replies[0];

    if (schema->type != REDIS_REPLY_STRING
        || ngx_strcmp(schema->str, RBGV_SCHEMA_VERSION) != 0)
    {
        ngx_http_rbgv_auth_admin_refuse(admin, NGX_HTTP_SERVICE_UNAVAILABLE,
                            "store_unavailable", "The store has no keys of "
                            "this schema; \"rbgvctl init\" makes it one");
        return;
    }

    admin->verified = 1;

    rbgv_admin_clear(&admin->op);
    admin->route->start(&admin->op);
}


/* a reply is missing; those that have come are of no use without it */

static void
ngx_http_rbgv_auth_admin_lost(ngx_http_rbgv_auth_admin_t *admin)
{
    ngx_http_rbgv_auth_admin_free_replies(admin);

    admin->failed = 0;

    if (admin->op.auditing) {
        ngx_log_error(NGX_LOG_ERR, ngx_http_rbgv_auth_admin_logger(admin), 0,
                      "rbgv_auth: admin: the change of key \"%s\" is not in "
                      "the audit stream", admin->op.id);

        admin->op.auditing = 0;
        admin->op.next = NULL;

        ngx_http_rbgv_auth_admin_done(admin);
        return;
    }

    ngx_http_rbgv_auth_admin_refuse(admin, NGX_HTTP_SERVICE_UNAVAILABLE,
                        "store_unavailable", admin->op.changing
                        ? "The store did not answer, and may have made the "
                          "change; look before you try again"
                        : "The store did not answer");

    ngx_http_rbgv_auth_admin_done(admin);
}


/* none of it was chosen by a client */

static void
ngx_http_rbgv_auth_admin_log(ngx_http_rbgv_auth_admin_t *admin)
{
    ngx_log_error(NGX_LOG_NOTICE, ngx_http_rbgv_auth_admin_logger(admin), 0,
                  "rbgv_auth: admin: %s, key: \"%s\", by: \"%s\", "
                  "request_id: \"%s\"", admin->op.action, admin->op.id,
                  admin->op.by, admin->op.request_id);
}


/* the request may have gone */

static ngx_log_t *
ngx_http_rbgv_auth_admin_logger(ngx_http_rbgv_auth_admin_t *admin)
{
    return admin->request ? admin->request->connection->log : ngx_cycle->log;
}


static void
ngx_http_rbgv_auth_admin_done(ngx_http_rbgv_auth_admin_t *admin)
{
    ngx_http_request_t  *r;

    r = admin->request;

    if (r == NULL) {
        ngx_http_rbgv_auth_admin_destroy(admin);
        return;
    }

    admin->ready = 1;

    /* answered by its own event, and not on the stack of the Redis client */

    r->read_event_handler = ngx_http_block_reading;
    r->write_event_handler = ngx_http_rbgv_auth_admin_finish;

    ngx_post_event(r->connection->write, &ngx_posted_events);
}


static void
ngx_http_rbgv_auth_admin_finish(ngx_http_request_t *r)
{
    ngx_http_rbgv_auth_admin_t  *admin;

    admin = ngx_http_rbgv_auth_admin_get(r);

    if (admin->code == NULL) {
        ngx_http_rbgv_auth_admin_result(admin);
    }

    ngx_http_finalize_request(r, ngx_http_rbgv_auth_admin_send(admin));
}


/* the request goes away, answered or not */

static void
ngx_http_rbgv_auth_admin_gone(void *data)
{
    ngx_http_rbgv_auth_admin_t *admin = data;

    admin->request = NULL;

    if (admin->nreplies == admin->nsent) {
        ngx_http_rbgv_auth_admin_destroy(admin);
    }
}


static void
ngx_http_rbgv_auth_admin_free_replies(ngx_http_rbgv_auth_admin_t *admin)
{
    ngx_uint_t  i;

    for (i = 0; i < admin->nsent; i++) {
        if (admin->replies[i]) {
            freeReplyObject(admin->replies[i]);
            admin->replies[i] = NULL;
        }
    }
}


static void
ngx_http_rbgv_auth_admin_destroy(ngx_http_rbgv_auth_admin_t *admin)
{
    if (admin->pause.timer_set) {
        ngx_del_timer(&admin->pause);
    }

    rbgv_admin_free(&admin->op);
    json_decref(admin->body);
    ngx_destroy_pool(admin->pool);
}


static void
ngx_http_rbgv_auth_admin_rotate(rbgv_admin_t *op)
{
    if (op->how == RBGV_ROTATION_LOOK) {
        rbgv_admin_rotate(op);

    } else {
        rbgv_admin_rotation(op);
    }
}


static void
ngx_http_rbgv_auth_admin_disable(rbgv_admin_t *op)
{
    op->status = RBGV_DISABLED;

    rbgv_admin_status(op);
}


static void
ngx_http_rbgv_auth_admin_enable(rbgv_admin_t *op)
{
    op->status = RBGV_ACTIVE;

    rbgv_admin_status(op);
}
