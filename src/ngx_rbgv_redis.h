
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * A Redis client for one nginx worker: one connection, commands pipelined
 * in the order given, replies matched in that order (RESP2).  It knows
 * nothing of HTTP.
 */


#ifndef _NGX_RBGV_REDIS_H_INCLUDED_
#define _NGX_RBGV_REDIS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


typedef struct ngx_rbgv_redis_s        ngx_rbgv_redis_t;
typedef struct ngx_rbgv_redis_reply_s  ngx_rbgv_redis_reply_t;
typedef struct ngx_rbgv_redis_ssl_s    ngx_rbgv_redis_ssl_t;

typedef struct ngx_rbgv_name_conf_s      ngx_rbgv_name_conf_t;
typedef struct ngx_rbgv_sentinel_conf_s  ngx_rbgv_sentinel_conf_t;


typedef enum {
    NGX_RBGV_REDIS_STRING = 0,
    NGX_RBGV_REDIS_STATUS,
    NGX_RBGV_REDIS_ERROR,
    NGX_RBGV_REDIS_INTEGER,
    NGX_RBGV_REDIS_NIL,
    NGX_RBGV_REDIS_ARRAY
} ngx_rbgv_redis_type_e;


struct ngx_rbgv_redis_reply_s {
    ngx_rbgv_redis_type_e       type;
    int64_t                     integer;
    ngx_str_t                   str;     /* string, status, error */
    ngx_uint_t                  nelts;
    ngx_rbgv_redis_reply_t    **elts;
};


/*
 * Called exactly once for a command, never from inside of
 * ngx_rbgv_redis_command().  The reply is valid during the call; it is NULL
 * if there was none: whether the command was executed is not known then.
 */
typedef void (*ngx_rbgv_redis_handler_pt)(void *data,
    ngx_rbgv_redis_reply_t *reply);


/* why a connection was given up, or not had */

typedef enum {
    NGX_RBGV_REDIS_NO_CONNECTION = 0,
    NGX_RBGV_REDIS_NO_LOGIN,             /* it was refused, or is no master */
    NGX_RBGV_REDIS_NO_REPLY,             /* in time */
    NGX_RBGV_REDIS_LOST,
    NGX_RBGV_REDIS_BAD_REPLY             /* not understood */
} ngx_rbgv_redis_failure_e;


/* what becomes of the connection, for those who want to know */

typedef struct {
    void                      (*ready)(void *data);
    void                      (*lost)(void *data);

    /* a message of Pub/Sub: it answers no command */
    void                      (*message)(void *data,
                                         ngx_rbgv_redis_reply_t *reply);

    /* the worker quits: last commands may be queued */
    void                      (*quit)(void *data);

    /* the breaker is open: until "ready" no command is taken */
    void                      (*failed)(void *data,
                                        ngx_rbgv_redis_failure_e failure);

    /* a command is done, after so many microseconds; -1: without a reply */
    void                      (*done)(void *data, int64_t time);
} ngx_rbgv_redis_events_t;


/* made while the configuration is read, read-only afterwards */

typedef struct {
    ngx_addr_t                 *addrs;
    ngx_uint_t                  naddrs;  /* 0: none is known yet */
    ngx_str_t                   name;    /* for messages: has no login */
    char                       *role;    /* likewise: what it is there for */

    ngx_str_t                   user;
    ngx_str_t                   password;
    ngx_uint_t                  db;
    ngx_uint_t                  cluster;         /* addrs are of its nodes */

    ngx_rbgv_redis_ssl_t       *ssl;             /* NULL: without TLS */

    ngx_msec_t                  timeout;         /* of a command */
    ngx_msec_t                  connect_timeout; /* with the handshake */

    ngx_str_t                  *scripts;         /* loaded on connect */
    ngx_uint_t                  nscripts;

    ngx_uint_t                  max_pending;     /* commands */
    ngx_uint_t                  max_elements;    /* of an array */
    size_t                      max_reply;       /* bytes */

    ngx_uint_t                  master;  /* 1: no other role will do */
    ngx_uint_t                  several; /* 1: an address is a server */

    /* for the store: where other addresses are told, if anywhere */

    ngx_rbgv_name_conf_t       *host;
    ngx_rbgv_sentinel_conf_t   *sentinel;
} ngx_rbgv_redis_conf_t;


/*
 * The client is owned by a worker; it connects when it is first used.  A
 * failure opens its breaker: commands are declined at once, while it connects
 * and logs in anew after 50 ms, and then after up to 1 s, at random moments.
 * The first login that is answered closes the breaker.
 */

ngx_rbgv_redis_t *ngx_rbgv_redis_create(ngx_rbgv_redis_conf_t *conf,
    ngx_log_t *log);

/* events are optional, each of them, and called with the data */
void ngx_rbgv_redis_watch(ngx_rbgv_redis_t *redis,
    const ngx_rbgv_redis_events_t *events, void *data);

/*
 * What is asked, when it is to connect and knows no address, and whenever it
 * could not connect.  The answer, if there is a new one, is
 * ngx_rbgv_redis_move(), and comes later: commands wait for the first one.
 */
void ngx_rbgv_redis_locate(ngx_rbgv_redis_t *redis,
    void (*locate)(void *data), void *data);

/*
 * The server is at these addresses and no others: a connection to another one
 * is dropped at once, and made anew.  They have to stay where they are until
 * the next ones were given.  Returns 0, and takes none of them, if they are
 * those it has.  Not to be called by a handler of this client.
 */
ngx_uint_t ngx_rbgv_redis_move(ngx_rbgv_redis_t *redis, ngx_addr_t *addrs,
    ngx_uint_t naddrs);

/* connects without a command; NGX_DECLINED: not now */
ngx_int_t ngx_rbgv_redis_open(ngx_rbgv_redis_t *redis);

/* 1 if the last login was refused for a reason that does not pass */
ngx_uint_t ngx_rbgv_redis_refused(ngx_rbgv_redis_t *redis);

/*
 * Drops the connection and opens the breaker.  Also for a reply that its
 * command cannot have: replies no longer go to their commands then.
 */
void ngx_rbgv_redis_fail(ngx_rbgv_redis_t *redis,
    ngx_rbgv_redis_failure_e failure);

/* drops the connection; the next one is to the next address */
void ngx_rbgv_redis_leave(ngx_rbgv_redis_t *redis);

/* the address that it has a connection to, or will try next */
ngx_addr_t *ngx_rbgv_redis_addr(ngx_rbgv_redis_t *redis);

/*
 * Both call the handlers of what is pending, without a reply.  What is dropped
 * takes no commands any more; it is to be destroyed on another stack than its
 * own handlers'.
 */
void ngx_rbgv_redis_drop(ngx_rbgv_redis_t *redis);
void ngx_rbgv_redis_destroy(ngx_rbgv_redis_t *redis);

/*
 * Queues a command, to be answered before the deadline, a value of
 * ngx_current_msec.  Arguments are copied.  Returns NGX_DECLINED, and will
 * not call the handler, if there is no connection to be had now or the queue
 * is full.
 */
ngx_int_t ngx_rbgv_redis_command(ngx_rbgv_redis_t *redis,
    ngx_msec_t deadline, ngx_rbgv_redis_handler_pt handler, void *data,
    ngx_uint_t argc, const char **argv, const size_t *argvlen);

/*
 * Loads the scripts again, ahead of what is queued next: for NOSCRIPT, after
 * SCRIPT FLUSH.  One load is under way at a time.
 */
ngx_int_t ngx_rbgv_redis_load_scripts(ngx_rbgv_redis_t *redis,
    ngx_msec_t deadline);

/* 1 if the reply is an error whose first word is the code */
ngx_uint_t ngx_rbgv_redis_is_error(ngx_rbgv_redis_reply_t *reply,
    const char *code);

/* 1 if it is an error for a while, whoever asks, as LOADING or READONLY is */
ngx_uint_t ngx_rbgv_redis_is_transient(ngx_rbgv_redis_reply_t *reply);


#endif /* _NGX_RBGV_REDIS_H_INCLUDED_ */
