
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 */


#ifndef _NGX_HTTP_RBGV_AUTH_H_INCLUDED_
#define _NGX_HTTP_RBGV_AUTH_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_rbgv_redis.h"
#include "rbgv_key.h"
#include "rbgv_limit.h"


#define NGX_HTTP_RBGV_AUTH_OFF             0
#define NGX_HTTP_RBGV_AUTH_ON              1

#define NGX_HTTP_RBGV_AUTH_HEADERS_IETF    0x0001
#define NGX_HTTP_RBGV_AUTH_HEADERS_LEGACY  0x0002


/* a decision; the order is that of ngx_http_rbgv_auth_outcomes[] */

typedef enum {
    NGX_HTTP_RBGV_AUTH_UNDECIDED = 0,
    NGX_HTTP_RBGV_AUTH_PASSED,
    NGX_HTTP_RBGV_AUTH_MISSING,
    NGX_HTTP_RBGV_AUTH_INVALID,
    NGX_HTTP_RBGV_AUTH_DISABLED,
    NGX_HTTP_RBGV_AUTH_EXPIRED,
    NGX_HTTP_RBGV_AUTH_ENVIRONMENT,
    NGX_HTTP_RBGV_AUTH_LIMITED,
    NGX_HTTP_RBGV_AUTH_UNAVAILABLE
} ngx_http_rbgv_auth_status_e;


typedef struct {
    ngx_str_t                      name;       /* $rbgv_auth_status */
    ngx_uint_t                     status;     /* HTTP; 0: let pass */
    ngx_str_t                      code;
    ngx_str_t                      message;
} ngx_http_rbgv_auth_outcome_t;


/* "rbgv_auth_limit" */

typedef struct {
    ngx_str_t                      name;
    ngx_str_t                      environment;        /* empty: any */
    rbgv_limit_t                   limit;
} ngx_http_rbgv_auth_limit_t;


/* a limit as it holds for one key in one location */

typedef struct {
    ngx_str_t                      name;
    rbgv_limit_t                   limit;
    uint32_t                       remaining;
    uint32_t                       reset;              /* milliseconds */
} ngx_http_rbgv_auth_window_t;


/* read-only once the configuration is read, but for the worker */

typedef struct ngx_http_rbgv_auth_worker_s  ngx_http_rbgv_auth_worker_t;

typedef struct {
    ngx_str_t                      prefix;
    ngx_str_t                      pepper_file;
    ngx_str_t                      pepper;             /* NULL: none */
    ngx_str_t                      script;
    ngx_int_t                      request_id;         /* variable's index */

    /* array of ngx_rbgv_redis_conf_t *: one for each different store */
    ngx_array_t                    stores;

    ngx_http_rbgv_auth_worker_t   *worker;     /* set when a worker starts */
} ngx_http_rbgv_auth_main_conf_t;


typedef struct {
    ngx_uint_t                     enable;

    ngx_str_t                      redis;
    ngx_str_t                      redis_password_file;
    ngx_msec_t                     redis_timeout;
    ngx_msec_t                     redis_connect_timeout;
    ngx_uint_t                     store;      /* index in stores */

    ngx_array_t                   *environments;       /* of ngx_str_t */
    ngx_array_t                   *limits;
    ngx_http_complex_value_t      *cost;

    ngx_flag_t                     hide_key;
    ngx_uint_t                     headers;
    ngx_str_t                      realm;
    ngx_str_t                      challenge;  /* of WWW-Authenticate */
    ngx_uint_t                     log_level;
} ngx_http_rbgv_auth_loc_conf_t;


/* what a worker owns and requests share */

struct ngx_http_rbgv_auth_worker_s {
    rbgv_digester_t               *digester;
    ngx_rbgv_redis_t             **stores;     /* by index in main conf */
    ngx_uint_t                     nstores;
};


/*
 * The context of a main request.  It lives in the request's pool, in the
 * data of a pool cleanup: by its handler it is found again after an internal
 * redirect has cleared r->ctx.
 */

typedef struct {
    ngx_http_request_t            *request;
    ngx_http_rbgv_auth_loc_conf_t *conf;       /* the one that decides */

    ngx_http_rbgv_auth_status_e    status;
    const char                    *reason;     /* for the log */

    /* of the key that was presented; the key itself is not kept */

    char                           id[RBGV_ID_LEN];
    char                           digest[RBGV_DIGEST_HEX];

    /* of the record in Redis */

    ngx_str_t                      name;
    ngx_str_t                      environment;
    ngx_str_t                      owner;
    ngx_array_t                   *limits;     /* own ones of this key */

    ngx_http_rbgv_auth_window_t    windows[RBGV_LIMITS_MAX];
    ngx_uint_t                     nwindows;
    uint32_t                       cost;
    uint64_t                       retry;      /* milliseconds */

    ngx_rbgv_redis_op_t           *op;         /* owned by the store */
    ngx_msec_t                     asked;      /* when it was sent */
    ngx_msec_t                     deadline;   /* of all that is asked */
    ngx_msec_t                     waited;
    ngx_http_cleanup_t            *cleanup;    /* detaches the op */

    ngx_table_elt_t               *challenge;  /* if it is in the header */
    ngx_str_t                      body;       /* of a refusal */

    unsigned                       identified:1;       /* id is known */
    unsigned                       recorded:1; /* the record is read */
    unsigned                       accounted:1;
    unsigned                       charged:1;  /* in some window */
    unsigned                       healed:1;   /* NOSCRIPT, once */
    unsigned                       parked:1;   /* the request waits */
} ngx_http_rbgv_auth_ctx_t;


/* NULL if the request was never looked at */
ngx_http_rbgv_auth_ctx_t *ngx_http_rbgv_auth_get_ctx(ngx_http_request_t *r);

/* the decision goes on with what was read; goes on to count if it is good */
void ngx_http_rbgv_auth_judge(ngx_http_rbgv_auth_ctx_t *ctx);

/* ends the decision, and wakes the request if it was parked */
void ngx_http_rbgv_auth_decided(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_status_e status, const char *reason);


/*
 * The key in the request: NGX_OK, or NGX_DECLINED with the decision made.
 * Sets the id and the digest of the context.
 */
ngx_int_t ngx_http_rbgv_auth_take_key(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx);

/* of the precontent phase: hides the key if the access phase did not */
ngx_int_t ngx_http_rbgv_auth_hide_handler(ngx_http_request_t *r);


/*
 * The store: each asks, and leads to a decision in the end, at once if there
 * is nobody to be asked.  To be called with the conf of the context set.
 */
void ngx_http_rbgv_auth_lookup(ngx_http_rbgv_auth_ctx_t *ctx);
void ngx_http_rbgv_auth_count(ngx_http_rbgv_auth_ctx_t *ctx);


/* the window with least left; NULL if nothing was counted */
ngx_http_rbgv_auth_window_t *ngx_http_rbgv_auth_tightest(
    ngx_http_rbgv_auth_ctx_t *ctx);

ngx_int_t ngx_http_rbgv_auth_add_variables(ngx_conf_t *cf);

void *ngx_http_rbgv_auth_create_main_conf(ngx_conf_t *cf);
char *ngx_http_rbgv_auth_init_main_conf(ngx_conf_t *cf, void *conf);
void *ngx_http_rbgv_auth_create_loc_conf(ngx_conf_t *cf);
char *ngx_http_rbgv_auth_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);

char *ngx_http_rbgv_auth_set_redis(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_rbgv_auth_set_environment(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_rbgv_auth_set_limit(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_rbgv_auth_set_cost(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


extern ngx_module_t  ngx_http_rbgv_auth_module;
extern ngx_module_t  ngx_http_rbgv_auth_filter_module;

extern ngx_http_rbgv_auth_outcome_t  ngx_http_rbgv_auth_outcomes[];


#endif /* _NGX_HTTP_RBGV_AUTH_H_INCLUDED_ */
