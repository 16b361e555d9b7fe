
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_event_connect.h>

#include <hiredis/hiredis.h>

#include "ngx_rbgv_redis.h"
#include "ngx_rbgv_redis_ssl.h"


#define NGX_RBGV_REDIS_BACKOFF_MIN   50      /* milliseconds */
#define NGX_RBGV_REDIS_BACKOFF_MAX   1000
#define NGX_RBGV_REDIS_QUIET         10000   /* between lines of failures */
#define NGX_RBGV_REDIS_READ_SIZE     16384
#define NGX_RBGV_REDIS_KEEP_BUFFER   65536   /* bytes kept when drained */
#define NGX_RBGV_REDIS_MAX_STEPS     8       /* commands of a preamble */

/* "$", a length, CR LF */
#define NGX_RBGV_REDIS_LENGTH_LEN    (1 + NGX_SIZE_T_LEN + 2)


/* a command that waits for its reply */

typedef struct {
    ngx_queue_t                 queue;       /* pending or free */
    ngx_rbgv_redis_handler_pt   handler;
    void                       *data;
    ngx_msec_t                  deadline;
    int64_t                     queued;      /* microseconds; 0: not timed */
} ngx_rbgv_redis_op_t;


struct ngx_rbgv_redis_s {
    ngx_rbgv_redis_conf_t      *conf;
    ngx_pool_t                 *pool;
    char                       *action;

    ngx_uint_t                  ident;       /* where a timer's data has fd */

    ngx_log_t                   log;
    ngx_uint_t                  log_level;   /* when it is not muted */
    ngx_msec_t                  told;        /* when it was muted last */

    ngx_peer_connection_t       peer;
    ngx_addr_t                 *addrs;
    ngx_uint_t                  naddrs;
    ngx_uint_t                  addr;        /* the one to try next */
    ngx_uint_t                  generation;  /* bumped when one is closed */

#if (NGX_SSL)
    ngx_ssl_session_t          *session;     /* to be resumed */
#endif

    redisReader                *reader;
    ngx_pool_t                 *replies;     /* reset after each reply */
    size_t                      size;        /* of the reply, in there */
    char                       *error;       /* why it was not taken */

    ngx_queue_t                 pending;     /* in the order of replies */
    ngx_queue_t                 free;
    ngx_uint_t                  npending;

    u_char                     *start;       /* output, malloced */
    u_char                     *pos;
    u_char                     *last;
    u_char                     *end;

    /* the preamble: its replies come before those of any command */

    char                       *steps[NGX_RBGV_REDIS_MAX_STEPS];
    ngx_uint_t                  nsteps;
    ngx_uint_t                  step;        /* replies consumed */
    size_t                      preamble;    /* bytes of it not sent yet */

    ngx_event_t                 expiry;      /* of what is pending */

    /* the breaker */

    ngx_event_t                 probe;
    ngx_msec_t                  backoff;
    ngx_msec_t                  since;       /* it is broken */

    unsigned                    locating:1;  /* no address is known */
    unsigned                    established:1;       /* but for TLS */
    unsigned                    connected:1;
    unsigned                    loading:1;   /* scripts, once more */
    unsigned                    quitting:1;  /* "quit" was called */
    unsigned                    wanted:1;    /* a command was declined */
    unsigned                    broken:1;    /* no commands are taken */
    unsigned                    refused:1;   /* the last login was */

    ngx_rbgv_redis_events_t     events;
    void                       *data;        /* of the events */

    void                      (*locate)(void *data);
    void                       *locate_data;
};


static ngx_uint_t ngx_rbgv_redis_find_addr(ngx_rbgv_redis_t *redis,
    struct sockaddr *sockaddr, socklen_t socklen);
static void ngx_rbgv_redis_follow(ngx_rbgv_redis_t *redis);
static void ngx_rbgv_redis_probe(ngx_event_t *ev);
static ngx_int_t ngx_rbgv_redis_connect(ngx_rbgv_redis_t *redis);
static ngx_int_t ngx_rbgv_redis_dial(ngx_rbgv_redis_t *redis);
static ngx_int_t ngx_rbgv_redis_connect_addr(ngx_rbgv_redis_t *redis);
static ngx_int_t ngx_rbgv_redis_preamble(ngx_rbgv_redis_t *redis);
static ngx_int_t ngx_rbgv_redis_step(ngx_rbgv_redis_t *redis, char *name,
    ngx_uint_t argc, ngx_str_t *args);
static void ngx_rbgv_redis_preamble_handler(void *data,
    ngx_rbgv_redis_reply_t *reply);
static ngx_uint_t ngx_rbgv_redis_is_master(ngx_rbgv_redis_reply_t *reply);
static void ngx_rbgv_redis_fail_replica(ngx_rbgv_redis_t *redis);
static void ngx_rbgv_redis_load_handler(void *data,
    ngx_rbgv_redis_reply_t *reply);
static ngx_int_t ngx_rbgv_redis_enqueue(ngx_rbgv_redis_t *redis,
    ngx_msec_t deadline, ngx_rbgv_redis_handler_pt handler, void *data,
    ngx_uint_t argc, const char **argv, const size_t *argvlen);
static int64_t ngx_rbgv_redis_time(void);
static u_char *ngx_rbgv_redis_write_length(u_char *p, u_char type, size_t n);
static ngx_int_t ngx_rbgv_redis_reserve(ngx_rbgv_redis_t *redis, size_t len);
static void ngx_rbgv_redis_write_handler(ngx_event_t *wev);
static ngx_int_t ngx_rbgv_redis_establish(ngx_rbgv_redis_t *redis);
static ngx_int_t ngx_rbgv_redis_test_connect(ngx_connection_t *c);
#if (NGX_SSL)
static ngx_int_t ngx_rbgv_redis_handshake(ngx_rbgv_redis_t *redis);
static void ngx_rbgv_redis_save_session(ngx_connection_t *c);
static void ngx_rbgv_redis_drop_session(ngx_rbgv_redis_t *redis);
static void ngx_rbgv_redis_read_alert(ngx_connection_t *c);
#endif
static void ngx_rbgv_redis_send(ngx_rbgv_redis_t *redis);
static void ngx_rbgv_redis_read_handler(ngx_event_t *rev);
static ngx_int_t ngx_rbgv_redis_process(ngx_rbgv_redis_t *redis);
static ngx_uint_t ngx_rbgv_redis_is_replica(ngx_rbgv_redis_reply_t *reply);
static ngx_uint_t ngx_rbgv_redis_is_message(ngx_rbgv_redis_reply_t *reply);
static void ngx_rbgv_redis_arm(ngx_rbgv_redis_t *redis, ngx_msec_t deadline);
static void ngx_rbgv_redis_expire(ngx_event_t *ev);
static void ngx_rbgv_redis_drop_commands(ngx_rbgv_redis_t *redis);
static void ngx_rbgv_redis_close(ngx_rbgv_redis_t *redis);
static void ngx_rbgv_redis_close_connection(ngx_connection_t *c);
static void ngx_rbgv_redis_finish(ngx_rbgv_redis_t *redis,
    ngx_queue_t *queue);
static void ngx_rbgv_redis_break(ngx_rbgv_redis_t *redis,
    ngx_rbgv_redis_failure_e failure);
static void ngx_rbgv_redis_mend(ngx_rbgv_redis_t *redis);
static u_char *ngx_rbgv_redis_log_error(ngx_log_t *log, u_char *buf,
    size_t len);

static void *ngx_rbgv_redis_reply_alloc(ngx_rbgv_redis_t *redis, size_t size);
static ngx_rbgv_redis_reply_t *ngx_rbgv_redis_reply(const redisReadTask *task,
    ngx_rbgv_redis_type_e type);
static void *ngx_rbgv_redis_reply_string(const redisReadTask *task, char *str,
    size_t len);
static void *ngx_rbgv_redis_reply_integer(const redisReadTask *task,
    long long value);
static void *ngx_rbgv_redis_reply_nil(const redisReadTask *task);
static void ngx_rbgv_redis_reply_free(void *reply);


#if (HIREDIS_MAJOR >= 1)
typedef size_t  ngx_rbgv_redis_elements_t;
#else
typedef int     ngx_rbgv_redis_elements_t;
#endif

static void *ngx_rbgv_redis_reply_array(const redisReadTask *task,
    ngx_rbgv_redis_elements_t n);


#if (HIREDIS_MAJOR >= 1)

static void *ngx_rbgv_redis_reply_double(const redisReadTask *task,
    double value, char *str, size_t len);
static void *ngx_rbgv_redis_reply_bool(const redisReadTask *task, int value);

#endif


static redisReplyObjectFunctions  ngx_rbgv_redis_reply_functions = {
    .createString = ngx_rbgv_redis_reply_string,
    .createArray = ngx_rbgv_redis_reply_array,
    .createInteger = ngx_rbgv_redis_reply_integer,
#if (HIREDIS_MAJOR >= 1)
    .createDouble = ngx_rbgv_redis_reply_double,
    .createBool = ngx_rbgv_redis_reply_bool,
#endif
    .createNil = ngx_rbgv_redis_reply_nil,
    .freeObject = ngx_rbgv_redis_reply_free
};


ngx_rbgv_redis_t *
ngx_rbgv_redis_create(ngx_rbgv_redis_conf_t *conf, ngx_log_t *log)
{
    ngx_pool_t        *pool;
    ngx_rbgv_redis_t  *redis;

    pool = ngx_create_pool(4096, log);
    if (pool == NULL) {
        return NULL;
    }

    redis = ngx_pcalloc(pool, sizeof(ngx_rbgv_redis_t));
    if (redis == NULL) {
        goto failed;
    }

    redis->conf = conf;
    redis->pool = pool;

    redis->replies = ngx_create_pool(4096, log);
    if (redis->replies == NULL) {
        goto failed;
    }

    redis->log = *log;
    redis->log.handler = ngx_rbgv_redis_log_error;
    redis->log.data = redis;
    redis->log_level = log->log_level;
    redis->action = "connecting to";
    redis->ident = (ngx_uint_t) -1;

    redis->probe.handler = ngx_rbgv_redis_probe;
    redis->probe.data = redis;
    redis->probe.log = log;
    redis->probe.cancelable = 1;

    redis->expiry.handler = ngx_rbgv_redis_expire;
    redis->expiry.data = redis;
    redis->expiry.log = log;

    redis->addrs = conf->addrs;
    redis->naddrs = conf->naddrs;

    ngx_queue_init(&redis->pending);
    ngx_queue_init(&redis->free);

    return redis;

failed:

    ngx_destroy_pool(pool);

    return NULL;
}


void
ngx_rbgv_redis_watch(ngx_rbgv_redis_t *redis,
    const ngx_rbgv_redis_events_t *events, void *data)
{
    redis->events = *events;
    redis->data = data;
}


void
ngx_rbgv_redis_locate(ngx_rbgv_redis_t *redis, void (*locate)(void *data),
    void *data)
{
    redis->locate = locate;
    redis->locate_data = data;
}


ngx_uint_t
ngx_rbgv_redis_move(ngx_rbgv_redis_t *redis, ngx_addr_t *addrs,
    ngx_uint_t naddrs)
{
    ngx_uint_t  n;

    for (n = 0; n < naddrs; n++) {
        if (ngx_rbgv_redis_find_addr(redis, addrs[n].sockaddr,
                                     addrs[n].socklen)
            == redis->naddrs)
        {
            break;
        }
    }

    if (n == naddrs && n == redis->naddrs) {
        return 0;
    }

    redis->addrs = addrs;
    redis->naddrs = naddrs;

    ngx_rbgv_redis_follow(redis);

    return 1;
}


static ngx_uint_t
ngx_rbgv_redis_find_addr(ngx_rbgv_redis_t *redis, struct sockaddr *sockaddr,
    socklen_t socklen)
{
    ngx_uint_t  i;

    for (i = 0; i < redis->naddrs; i++) {
        if (ngx_cmp_sockaddr(redis->addrs[i].sockaddr,
                             redis->addrs[i].socklen, sockaddr, socklen, 1)
            == NGX_OK)
        {
            break;
        }
    }

    return i;
}


/* the addresses are new; those before them are in memory still */

static void
ngx_rbgv_redis_follow(ngx_rbgv_redis_t *redis)
{
    ngx_uint_t              n;
    ngx_peer_connection_t  *peer;

    peer = &redis->peer;

    if (peer->connection) {
        n = ngx_rbgv_redis_find_addr(redis, peer->sockaddr, peer->socklen);

        if (n < redis->naddrs) {
            redis->addr = n;
            peer->sockaddr = redis->addrs[n].sockaddr;
            peer->name = &redis->addrs[n].name;
            return;
        }

        ngx_log_error(NGX_LOG_NOTICE, &redis->log, 0,
                      "the server moved from %V to %V",
                      peer->name, &redis->addrs[0].name);
    }

    redis->addr = 0;

    if (redis->locating) {
        redis->locating = 0;
        (void) ngx_rbgv_redis_dial(redis);
        return;
    }

    if (peer->connection) {
        ngx_rbgv_redis_close(redis);
        (void) ngx_rbgv_redis_open(redis);
    }

    if (redis->broken) {
        redis->backoff = 0;
        ngx_add_timer(&redis->probe, 1);
    }
}


ngx_int_t
ngx_rbgv_redis_open(ngx_rbgv_redis_t *redis)
{
    if (redis->broken) {
        return NGX_DECLINED;
    }

    if (redis->peer.connection || redis->locating) {
        return NGX_OK;
    }

    return ngx_rbgv_redis_connect(redis);
}


ngx_uint_t
ngx_rbgv_redis_refused(ngx_rbgv_redis_t *redis)
{
    return redis->refused;
}


ngx_addr_t *
ngx_rbgv_redis_addr(ngx_rbgv_redis_t *redis)
{
    return &redis->addrs[redis->addr];
}


void
ngx_rbgv_redis_drop(ngx_rbgv_redis_t *redis)
{
    ngx_memzero(&redis->events, sizeof(ngx_rbgv_redis_events_t));

    /* handlers of what is pending get no more */
    redis->broken = 1;

    redis->locate = NULL;

    ngx_rbgv_redis_close(redis);

    if (redis->probe.timer_set) {
        ngx_del_timer(&redis->probe);
    }
}


void
ngx_rbgv_redis_destroy(ngx_rbgv_redis_t *redis)
{
    ngx_rbgv_redis_drop(redis);

#if (NGX_SSL)
    ngx_rbgv_redis_drop_session(redis);
#endif

    if (redis->start) {
        ngx_free(redis->start);
    }

    ngx_destroy_pool(redis->replies);
    ngx_destroy_pool(redis->pool);
}


ngx_int_t
ngx_rbgv_redis_command(ngx_rbgv_redis_t *redis, ngx_msec_t deadline,
    ngx_rbgv_redis_handler_pt handler, void *data, ngx_uint_t argc,
    const char **argv, const size_t *argvlen)
{
    if (redis->npending >= redis->conf->max_pending) {
        ngx_log_error(NGX_LOG_WARN, &redis->log, 0,
                      "%ui commands are pending already", redis->npending);
        return NGX_DECLINED;
    }

    if (ngx_rbgv_redis_open(redis) != NGX_OK) {

        /* a worker that quits connects again only if it is for something */

        redis->wanted = 1;

        if (redis->peer.connection == NULL && !redis->probe.timer_set) {
            ngx_add_timer(&redis->probe, redis->backoff);
        }

        return NGX_DECLINED;
    }

    if (ngx_rbgv_redis_enqueue(redis, deadline, handler, data, argc, argv,
                               argvlen)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    ngx_rbgv_redis_arm(redis, deadline);

    /* what one turn of the event loop queues is sent at its end, at once */

    if (redis->connected) {
        ngx_post_event(redis->peer.connection->write, &ngx_posted_events);
    }

    return NGX_OK;
}


ngx_int_t
ngx_rbgv_redis_load_scripts(ngx_rbgv_redis_t *redis, ngx_msec_t deadline)
{
    size_t       argvlen[3];
    const char  *argv[3];
    ngx_str_t   *script;
    ngx_uint_t   i;

    if (redis->loading) {
        return NGX_OK;
    }

    argv[0] = "SCRIPT";
    argvlen[0] = 6;
    argv[1] = "LOAD";
    argvlen[1] = 4;

    for (i = 0; i < redis->conf->nscripts; i++) {
        script = &redis->conf->scripts[i];

        argv[2] = (const char *) script->data;
        argvlen[2] = script->len;

        if (ngx_rbgv_redis_command(redis, deadline,
                                   ngx_rbgv_redis_load_handler, redis, 3,
                                   argv, argvlen)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        redis->loading = 1;
    }

    return NGX_OK;
}


ngx_uint_t
ngx_rbgv_redis_is_error(ngx_rbgv_redis_reply_t *reply, const char *code)
{
    size_t  len;

    len = ngx_strlen(code);

    return reply->type == NGX_RBGV_REDIS_ERROR
           && reply->str.len >= len
           && ngx_strncmp(reply->str.data, code, len) == 0
           && (reply->str.len == len || reply->str.data[len] == ' ');
}


/* errors of a state that passes: it is not the login that is wrong */

ngx_uint_t
ngx_rbgv_redis_is_transient(ngx_rbgv_redis_reply_t *reply)
{
    const char  **code;

    static const char  *codes[] = {
        "LOADING", "BUSY", "MASTERDOWN", "READONLY", "OOM", "MISCONF",
        "NOREPLICAS", "TRYAGAIN", "CLUSTERDOWN", NULL
    };

    for (code = codes; *code; code++) {
        if (ngx_rbgv_redis_is_error(reply, *code)) {
            return 1;
        }
    }

    return 0;
}


/*
 * While the breaker is open, this alone connects.  A login that is answered
 * closes the breaker.
 */

static void
ngx_rbgv_redis_probe(ngx_event_t *ev)
{
    ngx_rbgv_redis_t *redis = ev->data;

    if (redis->peer.connection || redis->locating
        || (ngx_exiting && !redis->wanted))
    {
        return;
    }

    redis->wanted = 0;

    if (ngx_current_msec - redis->told < NGX_RBGV_REDIS_QUIET) {
        redis->log.log_level = ngx_min(redis->log_level, NGX_LOG_ALERT);

    } else {
        redis->log.log_level = redis->log_level;
        redis->told = ngx_current_msec;
    }

    (void) ngx_rbgv_redis_connect(redis);
}


static ngx_int_t
ngx_rbgv_redis_connect(ngx_rbgv_redis_t *redis)
{
    redis->action = "connecting to";

    redis->reader = redisReaderCreateWithFunctions(
                                             &ngx_rbgv_redis_reply_functions);

    if (redis->reader == NULL || ngx_rbgv_redis_preamble(redis) != NGX_OK) {
        ngx_rbgv_redis_break(redis, NGX_RBGV_REDIS_NO_CONNECTION);
        ngx_rbgv_redis_close(redis);
        return NGX_DECLINED;
    }

    redis->reader->privdata = redis;
    redis->quitting = 0;

    /* what is left of a reply that did not come to its end */
    ngx_reset_pool(redis->replies);
    redis->size = 0;
    redis->error = NULL;

#ifdef REDIS_READER_MAX_ARRAY_ELEMENTS
    redis->reader->maxelements = redis->conf->max_elements;
#endif

    if (redis->naddrs == 0 && redis->locate) {
        redis->action = "looking for";
        redis->locating = 1;

        redis->locate(redis->locate_data);

        return NGX_OK;
    }

    return ngx_rbgv_redis_dial(redis);
}


static ngx_int_t
ngx_rbgv_redis_dial(ngx_rbgv_redis_t *redis)
{
    ngx_uint_t  n;

    for (n = 0; n < redis->naddrs; n++) {

        if (ngx_rbgv_redis_connect_addr(redis) == NGX_OK) {
            return NGX_OK;
        }

        redis->addr = (redis->addr + 1) % redis->naddrs;
    }

    ngx_rbgv_redis_break(redis, NGX_RBGV_REDIS_NO_CONNECTION);
    ngx_rbgv_redis_close(redis);

    return NGX_DECLINED;
}


static ngx_int_t
ngx_rbgv_redis_connect_addr(ngx_rbgv_redis_t *redis)
{
    ngx_int_t          rc;
    ngx_addr_t        *addr;
    ngx_connection_t  *c;

    addr = &redis->addrs[redis->addr];

    ngx_memzero(&redis->peer, sizeof(ngx_peer_connection_t));

    redis->action = "connecting to";

    redis->peer.sockaddr = addr->sockaddr;
    redis->peer.socklen = addr->socklen;
    redis->peer.name = &addr->name;
    redis->peer.get = ngx_event_get_peer;
    redis->peer.log = &redis->log;
    redis->peer.log_error = NGX_ERROR_ERR;
    redis->peer.so_keepalive = (addr->sockaddr->sa_family != AF_UNIX);

    redis->log.connection = 0;

    rc = ngx_event_connect_peer(&redis->peer);

    c = redis->peer.connection;

    ngx_log_debug2(NGX_LOG_DEBUG_EVENT, &redis->log, 0,
                   "rbgv redis connect to \"%V\": %i", &addr->name, rc);

    if (c == NULL) {
        return NGX_ERROR;
    }

    if (rc != NGX_OK && rc != NGX_AGAIN) {
        ngx_rbgv_redis_close_connection(c);
        redis->peer.connection = NULL;
        return NGX_ERROR;
    }

    redis->log.connection = c->number;

    c->data = redis;
    c->read->handler = ngx_rbgv_redis_read_handler;
    c->write->handler = ngx_rbgv_redis_write_handler;

    /* closed by ngx_close_idle_connections() when the worker quits */
    c->idle = 1;

    ngx_add_timer(c->write, redis->conf->connect_timeout);

    if (rc == NGX_OK) {
        ngx_post_event(c->write, &ngx_posted_events);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_rbgv_redis_preamble(ngx_rbgv_redis_t *redis)
{
    u_char                  db[NGX_INT_T_LEN];
    ngx_str_t               args[3];
    ngx_uint_t              i, n;
    ngx_rbgv_redis_conf_t  *conf;

    conf = redis->conf;

    redis->nsteps = 0;
    redis->step = 0;
    redis->loading = 0;

    if (conf->password.len) {
        n = 0;

        if (conf->user.len) {
            args[n++] = conf->user;
        }

        args[n++] = conf->password;

        if (ngx_rbgv_redis_step(redis, "AUTH", n, args) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    if (conf->master
        && ngx_rbgv_redis_step(redis, "ROLE", 0, NULL) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (conf->db) {
        args[0].data = db;
        args[0].len = ngx_sprintf(db, "%ui", conf->db) - db;

        if (ngx_rbgv_redis_step(redis, "SELECT", 1, args) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    ngx_str_set(&args[0], "SETNAME");
    ngx_str_set(&args[1], "ngx_rbgv_auth");

    if (ngx_rbgv_redis_step(redis, "CLIENT", 2, args) != NGX_OK) {
        return NGX_ERROR;
    }

    for (i = 0; i < conf->nscripts; i++) {
        ngx_str_set(&args[0], "LOAD");
        args[1] = conf->scripts[i];

        if (ngx_rbgv_redis_step(redis, "SCRIPT", 2, args) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    redis->preamble = redis->last - redis->pos;

    ngx_rbgv_redis_arm(redis, ngx_current_msec + conf->connect_timeout);

    return NGX_OK;
}


static ngx_int_t
ngx_rbgv_redis_step(ngx_rbgv_redis_t *redis, char *name, ngx_uint_t argc,
    ngx_str_t *args)
{
    size_t       argvlen[4];
    const char  *argv[4];
    ngx_uint_t   i;

    argv[0] = name;
    argvlen[0] = ngx_strlen(name);

    for (i = 0; i < argc; i++) {
        argv[i + 1] = (const char *) args[i].data;
        argvlen[i + 1] = args[i].len;
    }

    redis->steps[redis->nsteps++] = name;

    return ngx_rbgv_redis_enqueue(redis,
                             ngx_current_msec + redis->conf->connect_timeout,
                             ngx_rbgv_redis_preamble_handler, redis,
                             argc + 1, argv, argvlen);
}


static void
ngx_rbgv_redis_preamble_handler(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_rbgv_redis_t *redis = data;

    char  *name;

    if (reply == NULL) {
        return;
    }

    name = redis->steps[redis->step++];

    if (reply->type == NGX_RBGV_REDIS_ERROR) {
        ngx_log_error(NGX_LOG_CRIT, &redis->log, 0,
                      "\"%s\" was refused: \"%V\"", name, &reply->str);

        redis->refused = !ngx_rbgv_redis_is_transient(reply);

        ngx_rbgv_redis_fail(redis, NGX_RBGV_REDIS_NO_LOGIN);
        return;
    }

    if (ngx_strcmp(name, "ROLE") == 0 && !ngx_rbgv_redis_is_master(reply)) {
        ngx_rbgv_redis_fail_replica(redis);
        return;
    }

    if (redis->step == redis->nsteps) {
        redis->action = "talking to";

        /* commands that were held back until it was known to be a master */

        if (redis->pos < redis->last) {
            ngx_post_event(redis->peer.connection->write,
                           &ngx_posted_events);
        }

        ngx_rbgv_redis_mend(redis);

        if (redis->events.ready) {
            redis->events.ready(redis->data);
        }
    }
}


/* "master", offset, replicas */

static ngx_uint_t
ngx_rbgv_redis_is_master(ngx_rbgv_redis_reply_t *reply)
{
    return reply->type == NGX_RBGV_REDIS_ARRAY
           && reply->nelts > 0
           && reply->elts[0]->type == NGX_RBGV_REDIS_STRING
           && reply->elts[0]->str.len == 6
           && ngx_strncmp(reply->elts[0]->str.data, "master", 6) == 0;
}


static void
ngx_rbgv_redis_fail_replica(ngx_rbgv_redis_t *redis)
{
    ngx_log_error(NGX_LOG_ERR, &redis->log, 0,
                  "%V is a replica, not the master", redis->peer.name);

    ngx_rbgv_redis_fail(redis, NGX_RBGV_REDIS_NO_LOGIN);
}


static void
ngx_rbgv_redis_load_handler(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_rbgv_redis_t *redis = data;

    redis->loading = 0;

    if (reply && reply->type == NGX_RBGV_REDIS_ERROR) {
        ngx_log_error(NGX_LOG_CRIT, &redis->log, 0,
                      "\"SCRIPT\" was refused: \"%V\"", &reply->str);
    }
}


static ngx_int_t
ngx_rbgv_redis_enqueue(ngx_rbgv_redis_t *redis, ngx_msec_t deadline,
    ngx_rbgv_redis_handler_pt handler, void *data, ngx_uint_t argc,
    const char **argv, const size_t *argvlen)
{
    u_char               *p;
    size_t                size;
    ngx_uint_t            i;
    ngx_queue_t          *q;
    ngx_rbgv_redis_op_t  *op;

    size = NGX_RBGV_REDIS_LENGTH_LEN;

    for (i = 0; i < argc; i++) {
        size += NGX_RBGV_REDIS_LENGTH_LEN + argvlen[i] + 2;
    }

    if (ngx_rbgv_redis_reserve(redis, size) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_queue_empty(&redis->free)) {
        op = ngx_palloc(redis->pool, sizeof(ngx_rbgv_redis_op_t));
        if (op == NULL) {
            return NGX_ERROR;
        }

    } else {
        q = ngx_queue_head(&redis->free);
        ngx_queue_remove(q);
        op = ngx_queue_data(q, ngx_rbgv_redis_op_t, queue);
    }

    p = ngx_rbgv_redis_write_length(redis->last, '*', argc);

    for (i = 0; i < argc; i++) {
        p = ngx_rbgv_redis_write_length(p, '$', argvlen[i]);
        p = ngx_cpymem(p, argv[i], argvlen[i]);
        *p++ = CR;
        *p++ = LF;
    }

    redis->last = p;

    op->handler = handler;
    op->data = data;
    op->deadline = deadline;
    op->queued = (handler == ngx_rbgv_redis_preamble_handler)
                     ? 0 : ngx_rbgv_redis_time();

    ngx_queue_insert_tail(&redis->pending, &op->queue);
    redis->npending++;

    return NGX_OK;
}


static int64_t
ngx_rbgv_redis_time(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}


/*
 * RESP2, "Sending commands to a Redis server": an array of bulk strings.
 * redisFormatCommandArgv() calls sprintf() for each length, which was half of
 * what a decision by Redis cost the worker.
 */

static u_char *
ngx_rbgv_redis_write_length(u_char *p, u_char type, size_t n)
{
    u_char  *digit, digits[NGX_SIZE_T_LEN];

    digit = digits + NGX_SIZE_T_LEN;

    do {
        *--digit = (u_char) (n % 10 + '0');
        n /= 10;
    } while (n);

    *p++ = type;
    p = ngx_cpymem(p, digit, digits + NGX_SIZE_T_LEN - digit);
    *p++ = CR;
    *p++ = LF;

    return p;
}


static ngx_int_t
ngx_rbgv_redis_reserve(ngx_rbgv_redis_t *redis, size_t len)
{
    size_t   size, used;
    u_char  *p;

    if (redis->pos == redis->last) {
        redis->pos = redis->start;
        redis->last = redis->start;
    }

    if ((size_t) (redis->end - redis->last) >= len) {
        return NGX_OK;
    }

    used = redis->last - redis->pos;
    size = ngx_max(2 * used + len, NGX_RBGV_REDIS_READ_SIZE);

    p = ngx_alloc(size, &redis->log);
    if (p == NULL) {
        return NGX_ERROR;
    }

    if (used) {
        ngx_memcpy(p, redis->pos, used);
    }

    if (redis->start) {
        ngx_free(redis->start);
    }

    redis->start = p;
    redis->pos = p;
    redis->last = p + used;
    redis->end = p + size;

    return NGX_OK;
}


static void
ngx_rbgv_redis_write_handler(ngx_event_t *wev)
{
    ngx_connection_t  *c;
    ngx_rbgv_redis_t  *redis;

    c = wev->data;
    redis = c->data;

    if (wev->timedout) {
        ngx_log_error(NGX_LOG_ERR, &redis->log, NGX_ETIMEDOUT,
                      redis->established
                          ? "handshake timed out, the server may have no TLS"
                          : "connection timed out");
        ngx_rbgv_redis_fail(redis, NGX_RBGV_REDIS_NO_CONNECTION);
        return;
    }

    if (redis->connected || ngx_rbgv_redis_establish(redis) == NGX_OK) {
        ngx_rbgv_redis_send(redis);
    }
}


/* NGX_ERROR: the connection is gone */

static ngx_int_t
ngx_rbgv_redis_establish(ngx_rbgv_redis_t *redis)
{
    ngx_int_t          rc;
    ngx_connection_t  *c;

    c = redis->peer.connection;
    rc = NGX_OK;

    if (!redis->established) {
        rc = ngx_rbgv_redis_test_connect(c);
        redis->established = (rc == NGX_OK);

        if (rc == NGX_OK && redis->peer.sockaddr->sa_family != AF_UNIX) {
            (void) ngx_tcp_nodelay(c);
        }
    }

#if (NGX_SSL)

    if (rc == NGX_OK && redis->conf->ssl) {
        rc = ngx_rbgv_redis_handshake(redis);
    }

#endif

    if (rc == NGX_OK) {
        if (c->write->timer_set) {
            ngx_del_timer(c->write);
        }

        redis->connected = 1;
        redis->action = "logging in to";

    } else if (rc == NGX_ERROR) {
        ngx_rbgv_redis_fail(redis, NGX_RBGV_REDIS_NO_CONNECTION);
    }

    return rc;
}


static ngx_int_t
ngx_rbgv_redis_test_connect(ngx_connection_t *c)
{
    int        err;
    socklen_t  len;

    err = 0;
    len = sizeof(int);

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, (void *) &err, &len) == -1) {
        err = ngx_socket_errno;
    }

    if (err) {
        (void) ngx_connection_error(c, err, "connect() failed");
        return NGX_ERROR;
    }

    return NGX_OK;
}


#if (NGX_SSL)

static ngx_int_t
ngx_rbgv_redis_handshake(ngx_rbgv_redis_t *redis)
{
    ngx_int_t              rc;
    ngx_connection_t      *c;
    ngx_rbgv_redis_ssl_t  *conf;

    c = redis->peer.connection;
    conf = redis->conf->ssl;

    if (c->ssl == NULL) {
        redis->action = "SSL handshaking to";

        c->pool = ngx_create_pool(512, &redis->log);

        if (c->pool == NULL
            || ngx_rbgv_redis_ssl_init(conf, c, redis->session) != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (conf->session_reuse) {
            c->ssl->save_session = ngx_rbgv_redis_save_session;
        }
    }

    rc = ngx_ssl_handshake(c);

    /* those that ngx_ssl_handshake() sets know nothing of deadlines */

    c->read->handler = ngx_rbgv_redis_read_handler;
    c->write->handler = ngx_rbgv_redis_write_handler;

    if (rc == NGX_OK) {
        rc = ngx_rbgv_redis_ssl_verify(conf, c);

        ngx_log_debug2(NGX_LOG_DEBUG_EVENT, &redis->log, 0,
                       "rbgv redis SSL verify: %i, reused: %d",
                       rc, SSL_session_reused(c->ssl->connection));
    }

    if (rc == NGX_OK) {

        /* what came with the last of the handshake is in OpenSSL's buffer */

        ngx_post_event(c->read, &ngx_posted_events);

    } else if (rc == NGX_ERROR) {
        ngx_rbgv_redis_drop_session(redis);
    }

    return rc;
}


static void
ngx_rbgv_redis_save_session(ngx_connection_t *c)
{
    ngx_rbgv_redis_t   *redis;
    ngx_ssl_session_t  *session;

    redis = c->data;

    session = ngx_ssl_get_session(c);

    if (session) {
        ngx_rbgv_redis_drop_session(redis);
        redis->session = session;
    }
}


static void
ngx_rbgv_redis_drop_session(ngx_rbgv_redis_t *redis)
{
    if (redis->session) {
        ngx_ssl_free_session(redis->session);
        redis->session = NULL;
    }
}


/* a server that has closed the connection may have said why; it is logged */

static void
ngx_rbgv_redis_read_alert(ngx_connection_t *c)
{
    u_char  byte;

    if (c->ssl) {
        (void) c->recv(c, &byte, 1);
    }
}

#endif


static void
ngx_rbgv_redis_send(ngx_rbgv_redis_t *redis)
{
    size_t             size;
    ssize_t            n;
    ngx_connection_t  *c;

    c = redis->peer.connection;

    for ( ;; ) {

        /* commands are for a master only, if it is asked */

        size = (redis->conf->master && redis->step < redis->nsteps)
                   ? redis->preamble
                   : (size_t) (redis->last - redis->pos);

        if (size == 0) {
            break;
        }

        n = c->send(c, redis->pos, size);

        if (n == NGX_AGAIN) {
            break;
        }

        if (n == NGX_ERROR || n == 0) {
#if (NGX_SSL)
            ngx_rbgv_redis_read_alert(c);
#endif
            ngx_rbgv_redis_fail(redis, NGX_RBGV_REDIS_LOST);
            return;
        }

        redis->pos += n;
        redis->preamble -= ngx_min(redis->preamble, (size_t) n);
    }

    if (redis->pos == redis->last
        && redis->end - redis->start > NGX_RBGV_REDIS_KEEP_BUFFER)
    {
        ngx_free(redis->start);

        redis->start = NULL;
        redis->pos = NULL;
        redis->last = NULL;
        redis->end = NULL;
    }

    if (ngx_handle_write_event(c->write, 0) != NGX_OK) {
        ngx_rbgv_redis_fail(redis, NGX_RBGV_REDIS_LOST);
    }
}


static void
ngx_rbgv_redis_read_handler(ngx_event_t *rev)
{
    u_char             buf[NGX_RBGV_REDIS_READ_SIZE];
    ssize_t            n;
    ngx_connection_t  *c;
    ngx_rbgv_redis_t  *redis;

    c = rev->data;
    redis = c->data;

    if (c->close && !redis->quitting) {
        redis->quitting = 1;

        if (redis->events.quit && redis->connected) {
            redis->events.quit(redis->data);

            if (redis->peer.connection != c) {
                return;
            }
        }
    }

    /* the error is set by worker_shutdown_timeout */

    if (c->close && (c->error || ngx_queue_empty(&redis->pending))) {
        ngx_rbgv_redis_close(redis);
        return;
    }

    if (!redis->connected) {

        if (redis->established) {
            ngx_rbgv_redis_write_handler(c->write);
            return;
        }

        /* a failed connect() is reported by the write event as well */

        if (ngx_handle_read_event(rev, 0) != NGX_OK) {
            ngx_rbgv_redis_fail(redis, NGX_RBGV_REDIS_LOST);
        }

        return;
    }

    for ( ;; ) {

        n = c->recv(c, buf, sizeof(buf));

        if (n == NGX_AGAIN) {
            break;
        }

        if (n == 0 && ngx_queue_empty(&redis->pending)) {
            ngx_log_error(NGX_LOG_INFO, &redis->log, 0,
                          "idle connection was closed");
            ngx_rbgv_redis_close(redis);
            return;
        }

        if (n == 0) {
            ngx_log_error(NGX_LOG_ERR, &redis->log, 0,
                          "connection was closed, %ui commands unanswered",
                          redis->npending);
        }

        if (n == 0 || n == NGX_ERROR) {
            ngx_rbgv_redis_fail(redis, NGX_RBGV_REDIS_LOST);
            return;
        }

        if (redisReaderFeed(redis->reader, (const char *) buf, n)
            != REDIS_OK)
        {
            ngx_log_error(NGX_LOG_ERR, &redis->log, 0,
                          "invalid reply: \"%s\"", redis->reader->errstr);
            ngx_rbgv_redis_fail(redis, NGX_RBGV_REDIS_BAD_REPLY);
            return;
        }

        if (ngx_rbgv_redis_process(redis) != NGX_OK) {
            return;
        }
    }

    if (ngx_exiting && ngx_queue_empty(&redis->pending)) {
        ngx_rbgv_redis_close(redis);
        return;
    }

    if (ngx_handle_read_event(rev, 0) != NGX_OK) {
        ngx_rbgv_redis_fail(redis, NGX_RBGV_REDIS_LOST);
    }
}


/* NGX_DONE: the connection of the caller is gone */

static ngx_int_t
ngx_rbgv_redis_process(ngx_rbgv_redis_t *redis)
{
    void                       *data, *reply;
    ngx_uint_t                  generation, replica;
    ngx_queue_t                *q;
    redisReader                *reader;
    ngx_rbgv_redis_op_t        *op;
    ngx_rbgv_redis_handler_pt   handler;

    generation = redis->generation;
    reader = redis->reader;

    for ( ;; ) {

        if (redisReaderGetReply(reader, &reply) != REDIS_OK) {
            ngx_log_error(NGX_LOG_ERR, &redis->log, 0, "invalid reply: \"%s\"",
                          redis->error ? redis->error : reader->errstr);
            break;
        }

        if (reply == NULL) {

            if (reader->len - reader->pos > redis->conf->max_reply) {
                ngx_log_error(NGX_LOG_ERR, &redis->log, 0,
                              "reply is longer than %uz bytes",
                              redis->conf->max_reply);
                break;
            }

            return NGX_OK;
        }

        if (redis->events.message && ngx_rbgv_redis_is_message(reply)) {
            redis->events.message(redis->data, reply);
            ngx_reset_pool(redis->replies);
            redis->size = 0;
            continue;
        }

        if (ngx_queue_empty(&redis->pending)) {
            ngx_log_error(NGX_LOG_ERR, &redis->log, 0, "unsolicited reply");
            break;
        }

        q = ngx_queue_head(&redis->pending);
        ngx_queue_remove(q);
        redis->npending--;

        op = ngx_queue_data(q, ngx_rbgv_redis_op_t, queue);
        handler = op->handler;
        data = op->data;

        ngx_queue_insert_head(&redis->free, &op->queue);

        replica = ngx_rbgv_redis_is_replica(reply);

        if (redis->step == redis->nsteps && !replica) {
            redis->backoff = 0;
        }

        if (op->queued && redis->events.done) {
            redis->events.done(redis->data,
                               ngx_rbgv_redis_time() - op->queued);
        }

        handler(data, reply);

        ngx_reset_pool(redis->replies);
        redis->size = 0;

        if (redis->generation != generation) {
            return NGX_DONE;
        }

        if (replica) {
            ngx_rbgv_redis_fail_replica(redis);
            return NGX_DONE;
        }
    }

    ngx_rbgv_redis_fail(redis, NGX_RBGV_REDIS_BAD_REPLY);

    return NGX_DONE;
}


/* what a master never answers: it became a replica, or always was one */

static ngx_uint_t
ngx_rbgv_redis_is_replica(ngx_rbgv_redis_reply_t *reply)
{
    return ngx_rbgv_redis_is_error(reply, "READONLY")
           || ngx_rbgv_redis_is_error(reply, "MASTERDOWN");
}


/* "message", channel, payload */

static ngx_uint_t
ngx_rbgv_redis_is_message(ngx_rbgv_redis_reply_t *reply)
{
    return reply->type == NGX_RBGV_REDIS_ARRAY
           && reply->nelts == 3
           && reply->elts[0]->type == NGX_RBGV_REDIS_STRING
           && reply->elts[0]->str.len == 7
           && ngx_strncmp(reply->elts[0]->str.data, "message", 7) == 0;
}


/*
 * The timer never runs out later than the earliest deadline; it may run out
 * earlier, so that it is not moved for every command.
 */

static void
ngx_rbgv_redis_arm(ngx_rbgv_redis_t *redis, ngx_msec_t deadline)
{
    ngx_event_t     *ev;
    ngx_msec_int_t   timer;

    ev = &redis->expiry;

    if (ev->timer_set) {
        if ((ngx_msec_int_t) (ev->timer.key - deadline) <= 0) {
            return;
        }

        /* ngx_add_timer() does not move a timer by less than 300ms */
        ngx_del_timer(ev);
    }

    timer = (ngx_msec_int_t) (deadline - ngx_current_msec);

    ngx_add_timer(ev, (ngx_msec_t) ngx_max(timer, 1));
}


static void
ngx_rbgv_redis_expire(ngx_event_t *ev)
{
    ngx_rbgv_redis_t *redis = ev->data;

    ngx_msec_t            earliest;
    ngx_queue_t          *q;
    ngx_rbgv_redis_op_t  *op;

    if (ngx_queue_empty(&redis->pending)) {
        return;
    }

    q = ngx_queue_head(&redis->pending);
    op = ngx_queue_data(q, ngx_rbgv_redis_op_t, queue);
    earliest = op->deadline;

    for (q = ngx_queue_next(q);
         q != ngx_queue_sentinel(&redis->pending);
         q = ngx_queue_next(q))
    {
        op = ngx_queue_data(q, ngx_rbgv_redis_op_t, queue);

        if ((ngx_msec_int_t) (op->deadline - earliest) < 0) {
            earliest = op->deadline;
        }
    }

    if ((ngx_msec_int_t) (earliest - ngx_current_msec) > 0) {
        ngx_rbgv_redis_arm(redis, earliest);
        return;
    }

    ngx_log_error(NGX_LOG_ERR, &redis->log, NGX_ETIMEDOUT,
                  "no reply in time, %ui commands unanswered",
                  redis->npending - (redis->nsteps - redis->step));

    if (redis->connected || redis->locating) {
        ngx_rbgv_redis_fail(redis, redis->connected
                                       ? NGX_RBGV_REDIS_NO_REPLY
                                       : NGX_RBGV_REDIS_NO_CONNECTION);
        return;
    }

    /* commands do not wait for a connection that may still be made */

    if (!redis->broken) {
        ngx_rbgv_redis_break(redis, NGX_RBGV_REDIS_NO_REPLY);
    }

    ngx_rbgv_redis_arm(redis,
                       ngx_current_msec + redis->conf->connect_timeout);

    ngx_rbgv_redis_drop_commands(redis);
}


static void
ngx_rbgv_redis_drop_commands(ngx_rbgv_redis_t *redis)
{
    ngx_uint_t    i;
    ngx_queue_t  *q, queue;

    q = ngx_queue_head(&redis->pending);

    for (i = 0; i < redis->nsteps; i++) {
        q = ngx_queue_next(q);
    }

    if (q == ngx_queue_sentinel(&redis->pending)) {
        return;
    }

    ngx_queue_init(&queue);
    ngx_queue_split(&redis->pending, q, &queue);

    redis->npending = redis->nsteps;
    redis->last = redis->pos + redis->preamble;

    ngx_rbgv_redis_finish(redis, &queue);
}


void
ngx_rbgv_redis_fail(ngx_rbgv_redis_t *redis, ngx_rbgv_redis_failure_e failure)
{
    if (redis->peer.connection == NULL && !redis->locating) {
        return;
    }

    if (redis->naddrs && (!redis->connected || redis->conf->several)) {
        redis->addr = (redis->addr + 1) % redis->naddrs;
    }

    ngx_rbgv_redis_break(redis, failure);
    ngx_rbgv_redis_close(redis);
}


void
ngx_rbgv_redis_leave(ngx_rbgv_redis_t *redis)
{
    redis->addr = (redis->addr + 1) % redis->naddrs;

    ngx_rbgv_redis_close(redis);
}


/* everything is detached before a handler runs, since it may queue commands */

static void
ngx_rbgv_redis_close(ngx_rbgv_redis_t *redis)
{
    ngx_queue_t  queue;

    ngx_queue_init(&queue);

    if (!ngx_queue_empty(&redis->pending)) {
        ngx_queue_add(&queue, &redis->pending);
        ngx_queue_init(&redis->pending);
    }

    if (redis->peer.connection) {
        ngx_rbgv_redis_close_connection(redis->peer.connection);
        redis->peer.connection = NULL;
    }

    if (redis->reader) {
        redisReaderFree(redis->reader);
        redis->reader = NULL;
    }

    if (redis->expiry.timer_set) {
        ngx_del_timer(&redis->expiry);
    }

    redis->npending = 0;
    redis->pos = redis->start;
    redis->last = redis->start;

    redis->locating = 0;
    redis->established = 0;
    redis->connected = 0;
    redis->loading = 0;

    redis->generation++;

    if (redis->events.lost) {
        redis->events.lost(redis->data);
    }

    ngx_rbgv_redis_finish(redis, &queue);
}


static void
ngx_rbgv_redis_close_connection(ngx_connection_t *c)
{
    ngx_pool_t  *pool;

#if (NGX_SSL)

    if (c->ssl) {
        c->ssl->no_wait_shutdown = 1;
        c->ssl->no_send_shutdown = 1;

        (void) ngx_ssl_shutdown(c);
    }

#endif

    pool = c->pool;

    ngx_close_connection(c);

    if (pool) {
        ngx_destroy_pool(pool);
    }
}


static void
ngx_rbgv_redis_finish(ngx_rbgv_redis_t *redis, ngx_queue_t *queue)
{
    void                       *data;
    ngx_queue_t                *q;
    ngx_rbgv_redis_op_t        *op;
    ngx_rbgv_redis_handler_pt   handler;

    while (!ngx_queue_empty(queue)) {
        q = ngx_queue_head(queue);
        ngx_queue_remove(q);

        op = ngx_queue_data(q, ngx_rbgv_redis_op_t, queue);
        handler = op->handler;
        data = op->data;

        ngx_queue_insert_head(&redis->free, &op->queue);

        if (op->queued && redis->events.done) {
            redis->events.done(redis->data, -1);
        }

        handler(data, NULL);
    }
}


/*
 * A connection that was good is made again soon; others less and less often.
 * One that answers logins but no commands is not good.
 */

static void
ngx_rbgv_redis_break(ngx_rbgv_redis_t *redis,
    ngx_rbgv_redis_failure_e failure)
{
    if (!redis->broken) {
        ngx_log_error(NGX_LOG_WARN, &redis->log, 0, "breaker opened");

        redis->broken = 1;
        redis->since = ngx_current_msec;
        redis->told = ngx_current_msec;

        if (failure == NGX_RBGV_REDIS_NO_LOGIN) {
            redis->backoff = NGX_RBGV_REDIS_BACKOFF_MAX;

        } else if (failure != NGX_RBGV_REDIS_NO_REPLY) {
            redis->backoff = 0;
        }
    }

    redis->backoff = redis->backoff ? ngx_min(redis->backoff * 2,
                                              NGX_RBGV_REDIS_BACKOFF_MAX)
                                    : NGX_RBGV_REDIS_BACKOFF_MIN;

    ngx_add_timer(&redis->probe, redis->backoff / 2
                                 + ngx_random() % (redis->backoff / 2 + 1));

    if (redis->events.failed) {
        redis->events.failed(redis->data, failure);
    }

    if (redis->locate) {
        redis->locate(redis->locate_data);
    }
}


static void
ngx_rbgv_redis_mend(ngx_rbgv_redis_t *redis)
{
    redis->refused = 0;
    redis->log.log_level = redis->log_level;

    if (redis->broken) {
        ngx_log_error(NGX_LOG_NOTICE, &redis->log, 0,
                      "breaker closed after %M ms",
                      ngx_current_msec - redis->since);

        redis->broken = 0;
    }

    if (redis->probe.timer_set) {
        ngx_del_timer(&redis->probe);
    }
}


static u_char *
ngx_rbgv_redis_log_error(ngx_log_t *log, u_char *buf, size_t len)
{
    ngx_rbgv_redis_t  *redis = log->data;

    return ngx_snprintf(buf, len, " while %s %s \"%V\"", redis->action,
                        redis->conf->role, &redis->conf->name);
}


/* replies are built in redis->replies; the caps make the reader fail */

static void *
ngx_rbgv_redis_reply_alloc(ngx_rbgv_redis_t *redis, size_t size)
{
    if (size > redis->conf->max_reply - redis->size) {
        redis->error = "it is too large";
        return NULL;
    }

    redis->size += size;

    return ngx_pcalloc(redis->replies, size);
}


static ngx_rbgv_redis_reply_t *
ngx_rbgv_redis_reply(const redisReadTask *task, ngx_rbgv_redis_type_e type)
{
    ngx_rbgv_redis_t        *redis = task->privdata;
    ngx_rbgv_redis_reply_t  *reply, *parent;

    reply = ngx_rbgv_redis_reply_alloc(redis, sizeof(ngx_rbgv_redis_reply_t));
    if (reply == NULL) {
        return NULL;
    }

    reply->type = type;

    if (task->parent) {
        parent = task->parent->obj;
        parent->elts[task->idx] = reply;
    }

    return reply;
}


static void *
ngx_rbgv_redis_reply_string(const redisReadTask *task, char *str, size_t len)
{
    ngx_rbgv_redis_t        *redis = task->privdata;
    ngx_rbgv_redis_type_e    type;
    ngx_rbgv_redis_reply_t  *reply;

    switch (task->type) {

    case REDIS_REPLY_ERROR:
        type = NGX_RBGV_REDIS_ERROR;
        break;

    case REDIS_REPLY_STATUS:
        type = NGX_RBGV_REDIS_STATUS;
        break;

    case REDIS_REPLY_STRING:
        type = NGX_RBGV_REDIS_STRING;
        break;

    default:
        return NULL;
    }

    reply = ngx_rbgv_redis_reply(task, type);
    if (reply == NULL) {
        return NULL;
    }

    reply->str.len = len;
    reply->str.data = ngx_rbgv_redis_reply_alloc(redis, len ? len : 1);
    if (reply->str.data == NULL) {
        return NULL;
    }

    ngx_memcpy(reply->str.data, str, len);

    return reply;
}


static void *
ngx_rbgv_redis_reply_array(const redisReadTask *task,
    ngx_rbgv_redis_elements_t n)
{
    ngx_rbgv_redis_t        *redis = task->privdata;
    ngx_rbgv_redis_reply_t  *reply;

    if (task->type != REDIS_REPLY_ARRAY) {
        return NULL;
    }

    /* hiredis 0.14 has a signed count: a negative one is too large as well */

    if ((ngx_uint_t) n > redis->conf->max_elements) {
        redis->error = "it has too many elements";
        return NULL;
    }

    reply = ngx_rbgv_redis_reply(task, NGX_RBGV_REDIS_ARRAY);
    if (reply == NULL) {
        return NULL;
    }

    reply->nelts = n;
    reply->elts = ngx_rbgv_redis_reply_alloc(redis,
                              (n ? n : 1) * sizeof(ngx_rbgv_redis_reply_t *));
    if (reply->elts == NULL) {
        return NULL;
    }

    return reply;
}


static void *
ngx_rbgv_redis_reply_integer(const redisReadTask *task, long long value)
{
    ngx_rbgv_redis_reply_t  *reply;

    reply = ngx_rbgv_redis_reply(task, NGX_RBGV_REDIS_INTEGER);

    if (reply) {
        reply->integer = value;
    }

    return reply;
}


static void *
ngx_rbgv_redis_reply_nil(const redisReadTask *task)
{
    return ngx_rbgv_redis_reply(task, NGX_RBGV_REDIS_NIL);
}


#if (HIREDIS_MAJOR >= 1)

/* RESP3 types: the connection speaks RESP2, so they make the reader fail */

static void *
ngx_rbgv_redis_reply_double(const redisReadTask *task, double value,
    char *str, size_t len)
{
    return NULL;
}


static void *
ngx_rbgv_redis_reply_bool(const redisReadTask *task, int value)
{
    return NULL;
}

#endif


static void
ngx_rbgv_redis_reply_free(void *reply)
{
    /* its pool is reset as a whole */
    (void) reply;
}
