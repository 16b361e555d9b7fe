
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Bodies of administrators: what is taken has values that an operation may
 * have, and what is refused has a message.  The first byte is the route, and
 * the second one the size of the buffers.
 */


#include "../../src/ngx_http_rbgv_auth_admin_body.c"

#include "fuzz.h"


#define FUZZ_BUFFERS  64


static void fuzz_buffers(uint8_t *data, size_t size, size_t each,
    ngx_chain_t *chain, ngx_buf_t *bufs);
static void fuzz_values(ngx_http_rbgv_auth_admin_t *admin);


/* as in ngx_http_rbgv_auth_admin.c: to create, to set, to rotate, to delete */

static const ngx_http_rbgv_auth_admin_route_t  fuzz_routes[] = {

    { .fields = NGX_HTTP_RBGV_AUTH_ADMIN_NAME
                |NGX_HTTP_RBGV_AUTH_ADMIN_ENVIRONMENT
                |NGX_HTTP_RBGV_AUTH_ADMIN_OWNER
                |NGX_HTTP_RBGV_AUTH_ADMIN_NOTE
                |NGX_HTTP_RBGV_AUTH_ADMIN_LIMITS
                |NGX_HTTP_RBGV_AUTH_ADMIN_CREDITS
                |NGX_HTTP_RBGV_AUTH_ADMIN_EXPIRES
                |NGX_HTTP_RBGV_AUTH_ADMIN_FORCE,
      .required = NGX_HTTP_RBGV_AUTH_ADMIN_NAME
                  |NGX_HTTP_RBGV_AUTH_ADMIN_ENVIRONMENT,
      .start = rbgv_admin_create },

    { .fields = NGX_HTTP_RBGV_AUTH_ADMIN_KEY
                |NGX_HTTP_RBGV_AUTH_ADMIN_NAME
                |NGX_HTTP_RBGV_AUTH_ADMIN_OWNER
                |NGX_HTTP_RBGV_AUTH_ADMIN_NOTE
                |NGX_HTTP_RBGV_AUTH_ADMIN_LIMITS
                |NGX_HTTP_RBGV_AUTH_ADMIN_CREDITS
                |NGX_HTTP_RBGV_AUTH_ADMIN_EXPIRES
                |NGX_HTTP_RBGV_AUTH_ADMIN_FORCE,
      .required = NGX_HTTP_RBGV_AUTH_ADMIN_KEY,
      .start = rbgv_admin_set },

    { .fields = NGX_HTTP_RBGV_AUTH_ADMIN_KEY
                |NGX_HTTP_RBGV_AUTH_ADMIN_ACTION
                |NGX_HTTP_RBGV_AUTH_ADMIN_GRACE
                |NGX_HTTP_RBGV_AUTH_ADMIN_FORCE,
      .required = NGX_HTTP_RBGV_AUTH_ADMIN_KEY },

    { .fields = NGX_HTTP_RBGV_AUTH_ADMIN_KEY
                |NGX_HTTP_RBGV_AUTH_ADMIN_NAME,
      .required = NGX_HTTP_RBGV_AUTH_ADMIN_KEY,
      .start = rbgv_admin_delete }
};


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t                     *copy;
    ngx_int_t                    rc;
    ngx_buf_t                    bufs[FUZZ_BUFFERS];
    ngx_chain_t                  chain[FUZZ_BUFFERS];
    ngx_http_request_t           r;
    ngx_http_request_body_t      body;
    ngx_http_rbgv_auth_admin_t   admin;

    if (size < 2) {
        return 0;
    }

    memset(&r, 0, sizeof(r));
    memset(&body, 0, sizeof(body));
    memset(&admin, 0, sizeof(admin));

    copy = fuzz_copy(data + 2, size - 2);
    fuzz_buffers(copy, size - 2, data[1], chain, bufs);

    body.bufs = chain;
    r.request_body = &body;

    admin.request = &r;
    admin.route = &fuzz_routes[data[0] % (sizeof(fuzz_routes)
                                          / sizeof(fuzz_routes[0]))];
    admin.pool = ngx_create_pool(1024, NULL);

    rc = ngx_http_rbgv_auth_admin_read_body(&admin);

    free(copy);
    ngx_destroy_pool(admin.pool);

    if (rc == NGX_OK) {
        fuzz_values(&admin);

    } else {
        fuzz_check(rc == NGX_DECLINED && admin.status >= 400
                   && admin.code != NULL && admin.message[0] != '\0',
                   "what is refused has an answer");
    }

    json_decref(admin.body);

    return 0;
}


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


static void
fuzz_buffers(uint8_t *data, size_t size, size_t each, ngx_chain_t *chain,
    ngx_buf_t *bufs)
{
    size_t  i;

    if (each == 0 || size / each >= FUZZ_BUFFERS) {
        each = size;
    }

    memset(bufs, 0, FUZZ_BUFFERS * sizeof(ngx_buf_t));

    for (i = 0; /* void */ ; i++) {
        bufs[i].memory = 1;
        bufs[i].pos = data;
        bufs[i].last = data + ngx_min(size, each);

        data = bufs[i].last;
        size -= bufs[i].last - bufs[i].pos;

        chain[i].buf = &bufs[i];
        chain[i].next = NULL;

        if (size == 0) {
            return;
        }

        chain[i].next = &chain[i + 1];
    }
}


/* strings are those of the body */

static void
fuzz_values(ngx_http_rbgv_auth_admin_t *admin)
{
    size_t         i;
    rbgv_admin_t  *op;
    rbgv_limit_t   limit;

    op = &admin->op;

    fuzz_check(op->id != NULL || op->environment != NULL,
               "what is required is there");
    fuzz_check(op->id == NULL || rbgv_id_valid(op->id, strlen(op->id)),
               "an id is one");
    fuzz_check(op->environment == NULL
               || rbgv_environment_valid(op->environment,
                                         strlen(op->environment)),
               "an environment is one");
    fuzz_check(op->name == NULL
               || admin->route->start == rbgv_admin_delete
               || rbgv_name_valid(op->name),
               "a name is one");
    fuzz_check(op->owner == NULL || rbgv_owner_fault(op->owner) == NULL,
               "an owner is one");
    fuzz_check(op->note == NULL || rbgv_note_fault(op->note) == NULL,
               "a note is one");
    fuzz_check(op->grace == NULL || rbgv_expires_fault(op->grace) == NULL,
               "a grace is a time");

    for (i = 0; i < op->limits.nelts; i++) {
        fuzz_check(op->limits.elts[i].quota[0] == '\0'
                   || rbgv_limit_parse(op->limits.elts[i].quota,
                                       strlen(op->limits.elts[i].quota),
                                       &limit)
                      == NULL,
                   "a limit is one");
    }
}
