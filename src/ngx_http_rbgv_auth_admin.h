
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * "rbgv_auth_admin": what its files share.
 */


#ifndef _NGX_HTTP_RBGV_AUTH_ADMIN_H_INCLUDED_
#define _NGX_HTTP_RBGV_AUTH_ADMIN_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_rbgv_auth.h"
#include "rbgv_admin.h"


#define NGX_HTTP_RBGV_AUTH_ADMIN_BODY     65536      /* bytes, at most */

/* fields of a body */

#define NGX_HTTP_RBGV_AUTH_ADMIN_KEY          0x0001
#define NGX_HTTP_RBGV_AUTH_ADMIN_NAME         0x0002
#define NGX_HTTP_RBGV_AUTH_ADMIN_ENVIRONMENT  0x0004
#define NGX_HTTP_RBGV_AUTH_ADMIN_OWNER        0x0008
#define NGX_HTTP_RBGV_AUTH_ADMIN_NOTE         0x0010
#define NGX_HTTP_RBGV_AUTH_ADMIN_LIMITS       0x0020
#define NGX_HTTP_RBGV_AUTH_ADMIN_CREDITS      0x0040
#define NGX_HTTP_RBGV_AUTH_ADMIN_EXPIRES      0x0080
#define NGX_HTTP_RBGV_AUTH_ADMIN_FORCE        0x0100
#define NGX_HTTP_RBGV_AUTH_ADMIN_ACTION       0x0200
#define NGX_HTTP_RBGV_AUTH_ADMIN_GRACE        0x0400

/* arguments in the query string */

#define NGX_HTTP_RBGV_AUTH_ADMIN_LIMIT        0x0001
#define NGX_HTTP_RBGV_AUTH_ADMIN_CURSOR       0x0002


typedef struct ngx_http_rbgv_auth_admin_s  ngx_http_rbgv_auth_admin_t;


typedef struct {
    ngx_str_t                      path;       /* behind the location's */
    ngx_uint_t                     method;
    ngx_uint_t                     args;       /* that it may have */
    ngx_uint_t                     limit;      /* of items, at most */
    ngx_uint_t                     fields;     /* of the body */
    ngx_uint_t                     required;   /* likewise */
    ngx_uint_t                     status;     /* of the answer */

    void                         (*start)(rbgv_admin_t *op);
} ngx_http_rbgv_auth_admin_route_t;


/* a command is answered after one that was sent later, by another server */

typedef struct {
    ngx_http_rbgv_auth_admin_t    *admin;
    ngx_uint_t                     n;          /* of the command */
} ngx_http_rbgv_auth_admin_wait_t;


/*
 * A request and its operation.  It has a pool of its own, and stays until the
 * last reply has come, also if the request goes away before.
 */

struct ngx_http_rbgv_auth_admin_s {
    ngx_http_request_t            *request;    /* NULL: has gone */
    ngx_http_rbgv_auth_store_t    *store;
    const ngx_http_rbgv_auth_admin_route_t
                                  *route;
    ngx_pool_t                    *pool;

    rbgv_admin_t                   op;
    json_t                        *body;
    char                           credits[NGX_INT64_LEN + 1];

    redisReply                   **replies;    /* to the commands sent */
    ngx_http_rbgv_auth_admin_wait_t
                                  *waits;      /* for them, in any order */
    ngx_uint_t                     nreplies;   /* that have come */
    ngx_uint_t                     nsent;
    ngx_uint_t                     nalloc;

    ngx_event_t                    pause;      /* between parts of a page */

    ngx_uint_t                     status;     /* of the answer */
    const char                    *code;       /* of an error, or NULL */
    char                           message[RBGV_ADMIN_TEXT];
    ngx_uint_t                     after;      /* Retry-After, seconds, or 0 */
    const char                    *allow;      /* methods, or NULL */

    /* of the answer, in the pool of the request */
    ngx_chain_t                   *out;
    ngx_chain_t                   *last;

    unsigned                       verified:1; /* the store has our schema */
    unsigned                       failed:1;   /* a command */
    unsigned                       listed:1;   /* items have been written */
    unsigned                       ready:1;    /* to be answered */
};


/* ngx_http_rbgv_auth_admin.c */

/* the first one, and how many there are; NULL: none */
ngx_str_t *ngx_http_rbgv_auth_admin_header(ngx_http_request_t *r,
    const char *name, ngx_uint_t *n);


/* ngx_http_rbgv_auth_admin_token.c */

/* NGX_DECLINED: the answer is set */
ngx_int_t ngx_http_rbgv_auth_admin_check_token(
    ngx_http_rbgv_auth_admin_t *admin);


/* ngx_http_rbgv_auth_admin_body.c: NGX_DECLINED: the answer is set */

ngx_int_t ngx_http_rbgv_auth_admin_read_args(
    ngx_http_rbgv_auth_admin_t *admin);
ngx_int_t ngx_http_rbgv_auth_admin_read_body(
    ngx_http_rbgv_auth_admin_t *admin);

/* a terminated copy */
char *ngx_http_rbgv_auth_admin_text(ngx_pool_t *pool, u_char *data,
    size_t len);


/* ngx_http_rbgv_auth_admin_answer.c */

/* sets an error to be answered; and returns NGX_DECLINED */
ngx_int_t ngx_http_rbgv_auth_admin_refuse(ngx_http_rbgv_auth_admin_t *admin,
    ngx_uint_t status, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* what the operation has ended in */
void ngx_http_rbgv_auth_admin_result(ngx_http_rbgv_auth_admin_t *admin);

/* the items of a list so far, so that they are not written all at once */
void ngx_http_rbgv_auth_admin_write_items(ngx_http_rbgv_auth_admin_t *admin);

ngx_int_t ngx_http_rbgv_auth_admin_send(ngx_http_rbgv_auth_admin_t *admin);


#endif /* _NGX_HTTP_RBGV_AUTH_ADMIN_H_INCLUDED_ */
