
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * A round asks all masters for the state of the cluster, and one of them for
 * the map as well.  A failover needs the votes of most masters, and whoever
 * votes knows of a later epoch from then on: so if all answer with the epoch
 * of the map, no failover had happened when they were asked.  A master that
 * hung and was replaced meanwhile has an earlier epoch, and is not believed.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_rbgv_cluster.h"
#include "rbgv_slot.h"


#define NGX_RBGV_CLUSTER_ROUND       250     /* milliseconds, to the next */
#define NGX_RBGV_CLUSTER_SOON        20      /* likewise, if it is needed */
#define NGX_RBGV_CLUSTER_TIMEOUT     900     /* milliseconds, of a round */
#define NGX_RBGV_CLUSTER_HOPS        5       /* of a command */
#define NGX_RBGV_CLUSTER_DELAY       10      /* milliseconds, doubled */
#define NGX_RBGV_CLUSTER_MISSED      4       /* maps without a master */
#define NGX_RBGV_CLUSTER_QUIET       10000   /* milliseconds, of the log */
#define NGX_RBGV_CLUSTER_ERROR       128     /* bytes of an error reply */
#define NGX_RBGV_CLUSTER_ELEMENTS    65536   /* of an array: ranges of slots */
#define NGX_RBGV_CLUSTER_REPLY       (16 * 1024 * 1024)          /* bytes */

#define NGX_RBGV_CLUSTER_HOST_LEN    255

/* "[", an address, "]:", a port */
#define NGX_RBGV_CLUSTER_NAME_LEN    (NGX_RBGV_CLUSTER_HOST_LEN + 9)


/* a server; its client has the node's configuration */

typedef struct {
    ngx_queue_t                 queue;       /* of masters, or of the left */
    ngx_rbgv_cluster_t         *cluster;
    ngx_pool_t                 *pool;
    ngx_rbgv_redis_conf_t       conf;
    ngx_rbgv_redis_t           *redis;

    uint64_t                    epoch;       /* of the cluster, as it says */
    ngx_uint_t                  missed;      /* maps without it, in a row */

    unsigned                    answered:1;  /* in this round */
    unsigned                    failing:1;   /* the cluster, as it says */
    unsigned                    named:1;     /* by the map */
    unsigned                    broken:1;    /* its breaker is open */
    unsigned                    suspect:1;   /* was it replaced meanwhile? */
} ngx_rbgv_cluster_node_t;


/* a command, with what it takes to send it again */

typedef struct {
    ngx_queue_t                 queue;       /* delayed or free */
    ngx_rbgv_cluster_t         *cluster;
    ngx_rbgv_cluster_node_t    *node;        /* that was asked last */
    ngx_rbgv_redis_handler_pt   handler;
    void                       *data;
    ngx_msec_t                  deadline;
    ngx_msec_t                  due;
    ngx_uint_t                  slot;
    ngx_uint_t                  hops;

    ngx_uint_t                  argc;
    const char                **argv;        /* in the buffer */
    size_t                     *argvlen;     /* likewise */
    u_char                     *buffer;      /* malloced */
    size_t                      size;

    size_t                      error_len;
    u_char                      error[NGX_RBGV_CLUSTER_ERROR];
} ngx_rbgv_cluster_op_t;


/* a line of the map */

typedef struct {
    ngx_uint_t                  first;
    ngx_uint_t                  last;
    ngx_str_t                   name;        /* of the master */
} ngx_rbgv_cluster_range_t;


struct ngx_rbgv_cluster_s {
    ngx_rbgv_redis_conf_t      *conf;
    ngx_pool_t                 *pool;
    ngx_log_t                  *log;

    ngx_rbgv_cluster_node_t    *seed;        /* any node: of all addresses */
    ngx_rbgv_cluster_node_t    *current;
    ngx_queue_t                 masters;
    ngx_queue_t                 left;        /* to be destroyed */
    ngx_event_t                 sweep;

    ngx_rbgv_cluster_node_t    *slots[RBGV_SLOTS];
    uint64_t                    epoch;       /* of the map */

    ngx_queue_t                 delayed;     /* commands, in no order */
    ngx_queue_t                 free;
    ngx_uint_t                  ndelayed;
    ngx_event_t                 retry;

    /* the round */

    ngx_event_t                 timer;
    ngx_msec_t                  begun;
    ngx_msec_t                  told;        /* of what is wrong */
    ngx_uint_t                  waiting;     /* replies */
    ngx_rbgv_cluster_node_t    *source;      /* of the map */
    ngx_pool_t                 *map_pool;
    ngx_array_t                *map;         /* NULL: it was not understood */

    unsigned                    again:1;     /* another one is needed */
    unsigned                    mapped:1;
    unsigned                    steady:1;
    unsigned                    changed:1;   /* other masters */
    unsigned                    failing:1;
    unsigned                    broken:1;    /* as it was told */
    unsigned                    refused:1;   /* "CLUSTER", to the login */
    unsigned                    quitting:1;

    ngx_rbgv_redis_events_t     events;
    void                       *data;
    ngx_rbgv_store_events_t     store_events;
    void                       *store_data;
};


static ngx_rbgv_cluster_node_t *ngx_rbgv_cluster_create_node(
    ngx_rbgv_cluster_t *cluster);
static ngx_int_t ngx_rbgv_cluster_start_node(ngx_rbgv_cluster_node_t *node);
static void ngx_rbgv_cluster_destroy_node(ngx_rbgv_cluster_node_t *node);
static ngx_rbgv_cluster_node_t *ngx_rbgv_cluster_master(
    ngx_rbgv_cluster_t *cluster, ngx_str_t *name);
static ngx_rbgv_cluster_node_t *ngx_rbgv_cluster_join(
    ngx_rbgv_cluster_t *cluster, ngx_str_t *name);
static void ngx_rbgv_cluster_leave(ngx_rbgv_cluster_node_t *node);
static void ngx_rbgv_cluster_sweep(ngx_event_t *ev);
static void ngx_rbgv_cluster_ready(void *data);
static void ngx_rbgv_cluster_failed(void *data,
    ngx_rbgv_redis_failure_e failure);
static void ngx_rbgv_cluster_quit(void *data);
static void ngx_rbgv_cluster_done(void *data, int64_t time);

static ngx_rbgv_cluster_op_t *ngx_rbgv_cluster_op(ngx_rbgv_cluster_t *cluster,
    ngx_uint_t argc, const char **argv, const size_t *argvlen);
static ngx_int_t ngx_rbgv_cluster_send(ngx_rbgv_cluster_op_t *op,
    ngx_rbgv_cluster_node_t *node);
static void ngx_rbgv_cluster_handler(void *data,
    ngx_rbgv_redis_reply_t *reply);
static ngx_int_t ngx_rbgv_cluster_redirect(ngx_rbgv_cluster_op_t *op,
    ngx_rbgv_redis_reply_t *reply, ngx_uint_t ask);
static ngx_int_t ngx_rbgv_cluster_asking(ngx_rbgv_cluster_op_t *op,
    ngx_rbgv_cluster_node_t *node);
static void ngx_rbgv_cluster_asking_handler(void *data,
    ngx_rbgv_redis_reply_t *reply);
static ngx_rbgv_cluster_node_t *ngx_rbgv_cluster_target(
    ngx_rbgv_cluster_op_t *op, ngx_rbgv_redis_reply_t *reply);
static ngx_uint_t ngx_rbgv_cluster_passes(ngx_rbgv_cluster_t *cluster,
    ngx_rbgv_redis_reply_t *reply);
static ngx_int_t ngx_rbgv_cluster_delay(ngx_rbgv_cluster_op_t *op,
    ngx_msec_t delay);
static void ngx_rbgv_cluster_retry(ngx_event_t *ev);
static void ngx_rbgv_cluster_retry_op(ngx_rbgv_cluster_op_t *op);
static void ngx_rbgv_cluster_retry_all(ngx_rbgv_cluster_t *cluster);
static void ngx_rbgv_cluster_finish(ngx_rbgv_cluster_op_t *op,
    ngx_rbgv_redis_reply_t *reply);

static void ngx_rbgv_cluster_soon(ngx_rbgv_cluster_t *cluster);
static void ngx_rbgv_cluster_round(ngx_event_t *ev);
static void ngx_rbgv_cluster_begin_round(ngx_rbgv_cluster_t *cluster);
static void ngx_rbgv_cluster_ask(ngx_rbgv_cluster_node_t *node);
static ngx_int_t ngx_rbgv_cluster_ask_for(ngx_rbgv_cluster_node_t *node,
    const char *what, ngx_rbgv_redis_handler_pt handler);
static void ngx_rbgv_cluster_info_handler(void *data,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_rbgv_cluster_slots_handler(void *data,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_rbgv_cluster_refusal(ngx_rbgv_cluster_node_t *node,
    ngx_rbgv_redis_reply_t *reply, const char *command);
static ngx_uint_t ngx_rbgv_cluster_told(ngx_rbgv_cluster_t *cluster);
static ngx_int_t ngx_rbgv_cluster_read_range(ngx_rbgv_cluster_node_t *node,
    ngx_rbgv_redis_reply_t *reply, ngx_rbgv_cluster_range_t *range);
static ngx_rbgv_redis_reply_t *ngx_rbgv_cluster_host(
    ngx_rbgv_redis_reply_t *reply);
static ngx_int_t ngx_rbgv_cluster_set_name(ngx_rbgv_cluster_node_t *node,
    ngx_str_t *host, ngx_uint_t port, ngx_str_t *name);
static void ngx_rbgv_cluster_answered(ngx_rbgv_cluster_t *cluster);
static void ngx_rbgv_cluster_end_round(ngx_rbgv_cluster_t *cluster);
static uint64_t ngx_rbgv_cluster_latest(ngx_rbgv_cluster_t *cluster);
static ngx_uint_t ngx_rbgv_cluster_agreed(ngx_rbgv_cluster_t *cluster,
    uint64_t epoch);
static ngx_int_t ngx_rbgv_cluster_apply(ngx_rbgv_cluster_t *cluster);
static void ngx_rbgv_cluster_tell_state(ngx_rbgv_cluster_t *cluster);


static const ngx_rbgv_redis_events_t  ngx_rbgv_cluster_node_events = {
    ngx_rbgv_cluster_ready,
    NULL,
    NULL,
    ngx_rbgv_cluster_quit,
    ngx_rbgv_cluster_failed,
    ngx_rbgv_cluster_done
};


ngx_rbgv_cluster_t *
ngx_rbgv_cluster_create(ngx_rbgv_redis_conf_t *conf, ngx_log_t *log)
{
    ngx_pool_t          *pool;
    ngx_rbgv_cluster_t  *cluster;

    pool = ngx_create_pool(4096, log);
    if (pool == NULL) {
        return NULL;
    }

    cluster = ngx_pcalloc(pool, sizeof(ngx_rbgv_cluster_t));
    if (cluster == NULL) {
        goto failed;
    }

    cluster->conf = conf;
    cluster->pool = pool;
    cluster->log = log;

    ngx_queue_init(&cluster->masters);
    ngx_queue_init(&cluster->left);
    ngx_queue_init(&cluster->delayed);
    ngx_queue_init(&cluster->free);

    cluster->sweep.handler = ngx_rbgv_cluster_sweep;
    cluster->sweep.data = cluster;
    cluster->sweep.log = log;

    cluster->retry.handler = ngx_rbgv_cluster_retry;
    cluster->retry.data = cluster;
    cluster->retry.log = log;

    cluster->timer.handler = ngx_rbgv_cluster_round;
    cluster->timer.data = cluster;
    cluster->timer.log = log;
    cluster->timer.cancelable = 1;

    cluster->seed = ngx_rbgv_cluster_create_node(cluster);
    if (cluster->seed == NULL) {
        goto failed;
    }

    cluster->seed->conf.nscripts = 0;

    if (ngx_rbgv_cluster_start_node(cluster->seed) != NGX_OK) {
        ngx_destroy_pool(cluster->seed->pool);
        goto failed;
    }

    return cluster;

failed:

    ngx_destroy_pool(pool);

    return NULL;
}


void
ngx_rbgv_cluster_destroy(ngx_rbgv_cluster_t *cluster)
{
    ngx_queue_t            *q;
    ngx_rbgv_cluster_op_t  *op;

    /* handlers of what is pending get no more, and no round ends */

    cluster->mapped = 0;
    cluster->seed->broken = 1;
    cluster->waiting++;

    ngx_memzero(&cluster->events, sizeof(ngx_rbgv_redis_events_t));
    ngx_memzero(&cluster->store_events, sizeof(ngx_rbgv_store_events_t));

    while (!ngx_queue_empty(&cluster->delayed)) {
        q = ngx_queue_head(&cluster->delayed);
        op = ngx_queue_data(q, ngx_rbgv_cluster_op_t, queue);
        ngx_queue_remove(q);
        ngx_rbgv_cluster_finish(op, NULL);
    }

    if (!ngx_queue_empty(&cluster->masters)) {
        ngx_queue_add(&cluster->left, &cluster->masters);
        ngx_queue_init(&cluster->masters);
    }

    ngx_rbgv_cluster_sweep(&cluster->sweep);
    ngx_rbgv_cluster_destroy_node(cluster->seed);

    while (!ngx_queue_empty(&cluster->free)) {
        q = ngx_queue_head(&cluster->free);
        op = ngx_queue_data(q, ngx_rbgv_cluster_op_t, queue);
        ngx_queue_remove(q);

        if (op->buffer) {
            /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): another "op" */
            ngx_free(op->buffer);
        }
    }

    if (cluster->timer.timer_set) {
        ngx_del_timer(&cluster->timer);
    }

    if (cluster->retry.timer_set) {
        ngx_del_timer(&cluster->retry);
    }

    if (cluster->sweep.posted) {
        ngx_delete_posted_event(&cluster->sweep);
    }

    if (cluster->map_pool) {
        ngx_destroy_pool(cluster->map_pool);
    }

    ngx_destroy_pool(cluster->pool);
}


void
ngx_rbgv_cluster_watch(ngx_rbgv_cluster_t *cluster,
    const ngx_rbgv_redis_events_t *events, void *data)
{
    cluster->events = *events;
    cluster->data = data;
}


void
ngx_rbgv_cluster_follow(ngx_rbgv_cluster_t *cluster,
    const ngx_rbgv_store_events_t *events, void *data)
{
    cluster->store_events = *events;
    cluster->store_data = data;
}


ngx_int_t
ngx_rbgv_cluster_open(ngx_rbgv_cluster_t *cluster)
{
    if (!cluster->mapped && cluster->seed->broken) {
        return NGX_DECLINED;
    }

    if (!cluster->timer.timer_set && cluster->waiting == 0) {
        ngx_rbgv_cluster_round(&cluster->timer);
    }

    return NGX_OK;
}


ngx_uint_t
ngx_rbgv_cluster_refused(ngx_rbgv_cluster_t *cluster)
{
    ngx_queue_t              *q;
    ngx_rbgv_cluster_node_t  *node;

    for (q = ngx_queue_head(&cluster->masters);
         q != ngx_queue_sentinel(&cluster->masters);
         q = ngx_queue_next(q))
    {
        node = ngx_queue_data(q, ngx_rbgv_cluster_node_t, queue);

        if (ngx_rbgv_redis_refused(node->redis)) {
            return 1;
        }
    }

    return cluster->refused
           || (!cluster->mapped
               && ngx_rbgv_redis_refused(cluster->seed->redis));
}


ngx_uint_t
ngx_rbgv_cluster_steady(ngx_rbgv_cluster_t *cluster)
{
    return cluster->steady;
}


ngx_rbgv_redis_conf_t *
ngx_rbgv_cluster_server(ngx_rbgv_cluster_t *cluster, ngx_uint_t n)
{
    ngx_queue_t              *q;
    ngx_rbgv_cluster_node_t  *node;

    for (q = ngx_queue_head(&cluster->masters);
         q != ngx_queue_sentinel(&cluster->masters);
         q = ngx_queue_next(q))
    {
        if (n-- == 0) {
            node = ngx_queue_data(q, ngx_rbgv_cluster_node_t, queue);
            return &node->conf;
        }
    }

    return NULL;
}


ngx_rbgv_redis_t *
ngx_rbgv_cluster_current(ngx_rbgv_cluster_t *cluster)
{
    return cluster->current ? cluster->current->redis : NULL;
}


ngx_str_t *
ngx_rbgv_cluster_name(ngx_rbgv_cluster_t *cluster)
{
    return cluster->current ? &cluster->current->conf.name
                            : &cluster->conf->name;
}


static ngx_rbgv_cluster_node_t *
ngx_rbgv_cluster_create_node(ngx_rbgv_cluster_t *cluster)
{
    ngx_pool_t               *pool;
    ngx_rbgv_cluster_node_t  *node;

    pool = ngx_create_pool(1024, cluster->log);
    if (pool == NULL) {
        return NULL;
    }

    node = ngx_pcalloc(pool, sizeof(ngx_rbgv_cluster_node_t));
    if (node == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    node->cluster = cluster;
    node->pool = pool;
    node->conf = *cluster->conf;

    /* the map may be larger than any record */

    node->conf.max_elements = NGX_RBGV_CLUSTER_ELEMENTS;
    node->conf.max_reply = NGX_RBGV_CLUSTER_REPLY;

    return node;
}


static ngx_int_t
ngx_rbgv_cluster_start_node(ngx_rbgv_cluster_node_t *node)
{
    node->redis = ngx_rbgv_redis_create(&node->conf, node->cluster->log);
    if (node->redis == NULL) {
        return NGX_ERROR;
    }

    ngx_rbgv_redis_watch(node->redis, &ngx_rbgv_cluster_node_events, node);

    return NGX_OK;
}


static void
ngx_rbgv_cluster_destroy_node(ngx_rbgv_cluster_node_t *node)
{
    ngx_rbgv_redis_destroy(node->redis);
    ngx_destroy_pool(node->pool);
}


static ngx_rbgv_cluster_node_t *
ngx_rbgv_cluster_master(ngx_rbgv_cluster_t *cluster, ngx_str_t *name)
{
    ngx_queue_t              *q;
    ngx_rbgv_cluster_node_t  *node;

    for (q = ngx_queue_head(&cluster->masters);
         q != ngx_queue_sentinel(&cluster->masters);
         q = ngx_queue_next(q))
    {
        node = ngx_queue_data(q, ngx_rbgv_cluster_node_t, queue);

        if (node->conf.name.len == name->len
            && ngx_memcmp(node->conf.name.data, name->data, name->len) == 0)
        {
            return node;
        }
    }

    return ngx_rbgv_cluster_join(cluster, name);
}


static ngx_rbgv_cluster_node_t *
ngx_rbgv_cluster_join(ngx_rbgv_cluster_t *cluster, ngx_str_t *name)
{
    ngx_addr_t               *addr;
    ngx_rbgv_cluster_node_t  *node;

    node = ngx_rbgv_cluster_create_node(cluster);
    if (node == NULL) {
        return NULL;
    }

    addr = ngx_palloc(node->pool, sizeof(ngx_addr_t));
    node->conf.name.data = ngx_pstrdup(node->pool, name);

    if (addr == NULL || node->conf.name.data == NULL) {
        goto failed;
    }

    node->conf.name.len = name->len;

    if (ngx_parse_addr_port(node->pool, addr, node->conf.name.data, name->len)
        != NGX_OK)
    {
        if (!ngx_rbgv_cluster_told(cluster)) {
            ngx_log_error(NGX_LOG_ERR, cluster->log, 0,
                          "redis \"%V\" has a master \"%V\", and that is "
                          "not an address with a port",
                          &cluster->conf->name, name);
        }

        goto failed;
    }

    addr->name = node->conf.name;

    node->conf.addrs = addr;
    node->conf.naddrs = 1;

    if (ngx_rbgv_cluster_start_node(node) != NGX_OK) {
        goto failed;
    }

    ngx_queue_insert_tail(&cluster->masters, &node->queue);

    cluster->changed = 1;
    cluster->steady = 0;

    ngx_log_error(NGX_LOG_NOTICE, cluster->log, 0,
                  "redis \"%V\" is a master now", name);

    if (cluster->store_events.changed) {
        cluster->store_events.changed(cluster->store_data);
    }

    return node;

failed:

    ngx_destroy_pool(node->pool);

    return NULL;
}


/* commands under way get no reply: it may have been replaced already */

static void
ngx_rbgv_cluster_leave(ngx_rbgv_cluster_node_t *node)
{
    ngx_uint_t           i;
    ngx_rbgv_cluster_t  *cluster;

    cluster = node->cluster;

    for (i = 0; i < RBGV_SLOTS; i++) {
        if (cluster->slots[i] == node) {
            cluster->slots[i] = NULL;
        }
    }

    ngx_queue_remove(&node->queue);
    ngx_queue_insert_tail(&cluster->left, &node->queue);

    cluster->changed = 1;
    cluster->steady = 0;

    ngx_log_error(NGX_LOG_NOTICE, cluster->log, 0,
                  "redis \"%V\" is no master any more",
                  &node->conf.name);

    if (cluster->store_events.changed) {
        cluster->store_events.changed(cluster->store_data);
    }

    ngx_rbgv_redis_drop(node->redis);

    ngx_post_event(&cluster->sweep, &ngx_posted_events);
}


/* not on the stack of any client */

static void
ngx_rbgv_cluster_sweep(ngx_event_t *ev)
{
    ngx_rbgv_cluster_t *cluster = ev->data;

    ngx_queue_t              *q;
    ngx_rbgv_cluster_node_t  *node;

    while (!ngx_queue_empty(&cluster->left)) {
        q = ngx_queue_head(&cluster->left);
        node = ngx_queue_data(q, ngx_rbgv_cluster_node_t, queue);
        ngx_queue_remove(q);
        ngx_rbgv_cluster_destroy_node(node);
    }
}


/* one that was away is asked to agree on the map before it is used again */

static void
ngx_rbgv_cluster_ready(void *data)
{
    ngx_rbgv_cluster_node_t *node = data;

    node->broken = 0;

    if (node->suspect) {
        ngx_rbgv_cluster_soon(node->cluster);
    }
}


static void
ngx_rbgv_cluster_failed(void *data, ngx_rbgv_redis_failure_e failure)
{
    ngx_rbgv_cluster_node_t *node = data;

    ngx_rbgv_cluster_t  *cluster;

    cluster = node->cluster;

    node->broken = 1;
    node->suspect = 1;

    cluster->broken = 1;
    cluster->steady = 0;

    if (cluster->events.failed) {
        cluster->events.failed(cluster->data, failure);
    }

    if (node == cluster->seed) {
        ngx_rbgv_cluster_retry_all(cluster);

    } else {
        ngx_rbgv_cluster_soon(cluster);
    }
}


static void
ngx_rbgv_cluster_quit(void *data)
{
    ngx_rbgv_cluster_node_t *node = data;

    ngx_rbgv_cluster_t  *cluster;

    cluster = node->cluster;

    if (cluster->events.quit) {
        cluster->events.quit(cluster->data);
    }

    /* what this worker knows is proven until the next ones do */

    if (!cluster->quitting) {
        cluster->quitting = 1;
        ngx_rbgv_cluster_begin_round(cluster);
    }
}


static void
ngx_rbgv_cluster_done(void *data, int64_t time)
{
    ngx_rbgv_cluster_node_t *node = data;

    if (node->cluster->events.done) {
        node->cluster->events.done(node->cluster->data, time);
    }
}


ngx_int_t
ngx_rbgv_cluster_command(ngx_rbgv_cluster_t *cluster, ngx_uint_t key,
    ngx_msec_t deadline, ngx_rbgv_redis_handler_pt handler, void *data,
    ngx_uint_t argc, const char **argv, const size_t *argvlen)
{
    ngx_int_t               rc;
    ngx_rbgv_cluster_op_t  *op;

    if (ngx_rbgv_cluster_open(cluster) != NGX_OK) {
        return NGX_DECLINED;
    }

    op = ngx_rbgv_cluster_op(cluster, argc, argv, argvlen);
    if (op == NULL) {
        return NGX_DECLINED;
    }

    op->handler = handler;
    op->data = data;
    op->deadline = deadline;
    op->slot = rbgv_slot(argv[key], argvlen[key]);

    rc = cluster->mapped
             ? ngx_rbgv_cluster_send(op, cluster->slots[op->slot])
             : ngx_rbgv_cluster_delay(op, deadline - ngx_current_msec);

    if (rc != NGX_OK) {
        ngx_queue_insert_head(&cluster->free, &op->queue);
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static ngx_rbgv_cluster_op_t *
ngx_rbgv_cluster_op(ngx_rbgv_cluster_t *cluster, ngx_uint_t argc,
    const char **argv, const size_t *argvlen)
{
    u_char                 *p;
    size_t                  size;
    ngx_uint_t              i;
    ngx_rbgv_cluster_op_t  *op;

    if (ngx_queue_empty(&cluster->free)) {
        op = ngx_pcalloc(cluster->pool, sizeof(ngx_rbgv_cluster_op_t));
        if (op == NULL) {
            return NULL;
        }

        op->cluster = cluster;

        ngx_queue_insert_head(&cluster->free, &op->queue);
    }

    op = ngx_queue_data(ngx_queue_head(&cluster->free), ngx_rbgv_cluster_op_t,
                        queue);

    size = argc * (sizeof(char *) + sizeof(size_t));

    for (i = 0; i < argc; i++) {
        size += argvlen[i];
    }

    if (op->size < size) {
        p = ngx_alloc(size, cluster->log);
        if (p == NULL) {
            return NULL;
        }

        if (op->buffer) {
            ngx_free(op->buffer);
        }

        op->buffer = p;
        op->size = size;
    }

    op->argc = argc;
    op->argv = (const char **) op->buffer;
    op->argvlen = (size_t *) (op->argv + argc);

    p = (u_char *) (op->argvlen + argc);

    for (i = 0; i < argc; i++) {
        op->argv[i] = (const char *) p;
        op->argvlen[i] = argvlen[i];
        p = ngx_cpymem(p, argv[i], argvlen[i]);
    }

    op->node = NULL;
    op->hops = 0;
    op->error_len = 0;

    ngx_queue_remove(&op->queue);

    return op;
}


static ngx_int_t
ngx_rbgv_cluster_send(ngx_rbgv_cluster_op_t *op,
    ngx_rbgv_cluster_node_t *node)
{
    if (node == NULL || node->suspect) {
        return NGX_DECLINED;
    }

    op->node = node;

    return ngx_rbgv_redis_command(node->redis, op->deadline,
                                  ngx_rbgv_cluster_handler, op, op->argc,
                                  op->argv, op->argvlen);
}


/* what an error shows not to be executed is sent again, and nothing else */

static void
ngx_rbgv_cluster_handler(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_rbgv_cluster_op_t *op = data;

    ngx_int_t            rc;
    ngx_rbgv_cluster_t  *cluster;

    cluster = op->cluster;
    rc = NGX_DECLINED;

    if (reply && reply->type == NGX_RBGV_REDIS_ERROR
        && op->hops < NGX_RBGV_CLUSTER_HOPS)
    {
        op->hops++;
        op->error_len = ngx_min(reply->str.len, NGX_RBGV_CLUSTER_ERROR);
        ngx_memcpy(op->error, reply->str.data, op->error_len);

        if (ngx_rbgv_redis_is_error(reply, "MOVED")) {
            rc = ngx_rbgv_cluster_redirect(op, reply, 0);
            ngx_rbgv_cluster_soon(cluster);

        } else if (ngx_rbgv_redis_is_error(reply, "ASK")) {
            rc = ngx_rbgv_cluster_redirect(op, reply, 1);

        } else if (ngx_rbgv_cluster_passes(cluster, reply)) {
            rc = ngx_rbgv_cluster_delay(op, NGX_RBGV_CLUSTER_DELAY
                                            << (op->hops - 1));
            ngx_rbgv_cluster_soon(cluster);
        }
    }

    if (rc != NGX_OK) {
        ngx_rbgv_cluster_finish(op, reply);
    }
}


/* "MOVED", or "ASK", slot, address and port */

static ngx_int_t
ngx_rbgv_cluster_redirect(ngx_rbgv_cluster_op_t *op,
    ngx_rbgv_redis_reply_t *reply, ngx_uint_t ask)
{
    ngx_rbgv_cluster_node_t  *node;

    node = ngx_rbgv_cluster_target(op, reply);

    if (node == NULL) {
        return ngx_rbgv_cluster_delay(op, NGX_RBGV_CLUSTER_DELAY
                                          << (op->hops - 1));
    }

    if (ask) {
        return ngx_rbgv_cluster_asking(op, node);
    }

    op->cluster->slots[op->slot] = node;

    return ngx_rbgv_cluster_send(op, node);
}


static ngx_int_t
ngx_rbgv_cluster_asking(ngx_rbgv_cluster_op_t *op,
    ngx_rbgv_cluster_node_t *node)
{
    size_t       argvlen[] = { 6 };
    const char  *argv[] = { "ASKING" };

    if (node->suspect
        || ngx_rbgv_redis_command(node->redis, op->deadline,
                                  ngx_rbgv_cluster_asking_handler,
                                  op->cluster, 1, argv, argvlen)
           != NGX_OK)
    {
        return NGX_DECLINED;
    }

    return ngx_rbgv_cluster_send(op, node);
}


static void
ngx_rbgv_cluster_asking_handler(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_rbgv_cluster_t *cluster = data;

    if (reply && reply->type == NGX_RBGV_REDIS_ERROR
        && !ngx_rbgv_cluster_told(cluster))
    {
        ngx_log_error(NGX_LOG_CRIT, cluster->log, 0,
                      "redis \"%V\" refused \"ASKING\": \"%V\"",
                      &cluster->conf->name, &reply->str);
    }
}


/* NULL: it is told of soon */

static ngx_rbgv_cluster_node_t *
ngx_rbgv_cluster_target(ngx_rbgv_cluster_op_t *op,
    ngx_rbgv_redis_reply_t *reply)
{
    u_char     *p, *last, *colon, name[NGX_RBGV_CLUSTER_NAME_LEN];
    ngx_int_t   port;
    ngx_str_t   host, full;

    last = reply->str.data + reply->str.len;
    p = reply->str.data;
    p = ngx_strlchr(p, last, ' ');
    p = p ? ngx_strlchr(p + 1, last, ' ') : NULL;

    if (p == NULL || p + 1 == last) {
        return NULL;
    }

    host.data = p + 1;
    colon = last - 1;

    while (colon > host.data && *colon != ':') {
        colon--;
    }

    host.len = colon - host.data;
    port = ngx_atoi(colon + 1, last - colon - 1);
    full.data = name;

    if (port < 1
        || ngx_rbgv_cluster_set_name(op->node, &host, port, &full) != NGX_OK)
    {
        return NULL;
    }

    return ngx_rbgv_cluster_master(op->cluster, &full);
}


/* while the cluster is known to fail nobody waits for it */

static ngx_uint_t
ngx_rbgv_cluster_passes(ngx_rbgv_cluster_t *cluster,
    ngx_rbgv_redis_reply_t *reply)
{
    if (ngx_rbgv_redis_is_error(reply, "CLUSTERDOWN")) {
        return !cluster->failing;
    }

    return ngx_rbgv_redis_is_error(reply, "TRYAGAIN")
           || ngx_rbgv_redis_is_error(reply, "LOADING");
}


static ngx_int_t
ngx_rbgv_cluster_delay(ngx_rbgv_cluster_op_t *op, ngx_msec_t delay)
{
    ngx_rbgv_cluster_t  *cluster;

    cluster = op->cluster;

    op->due = ngx_current_msec + delay;

    if ((ngx_msec_int_t) (op->deadline - op->due) < 0
        || cluster->ndelayed >= cluster->conf->max_pending)
    {
        return NGX_DECLINED;
    }

    ngx_queue_insert_tail(&cluster->delayed, &op->queue);
    cluster->ndelayed++;

    if (!cluster->retry.timer_set
        || (ngx_msec_int_t) (cluster->retry.timer.key - op->due) > 0)
    {
        if (cluster->retry.timer_set) {
            ngx_del_timer(&cluster->retry);
        }

        ngx_add_timer(&cluster->retry, ngx_max(delay, 1));
    }

    return NGX_OK;
}


static void
ngx_rbgv_cluster_retry(ngx_event_t *ev)
{
    ngx_rbgv_cluster_t *cluster = ev->data;

    ngx_msec_int_t          wait;
    ngx_queue_t            *q, *next, queue;
    ngx_rbgv_cluster_op_t  *op;

    ngx_queue_init(&queue);
    wait = -1;

    for (q = ngx_queue_head(&cluster->delayed);
         q != ngx_queue_sentinel(&cluster->delayed);
         q = next)
    {
        next = ngx_queue_next(q);
        op = ngx_queue_data(q, ngx_rbgv_cluster_op_t, queue);

        if ((ngx_msec_int_t) (op->due - ngx_current_msec) <= 0) {
            ngx_queue_remove(q);
            ngx_queue_insert_tail(&queue, q);
            cluster->ndelayed--;

        } else if (wait < 0
                   || (ngx_msec_int_t) (op->due - ngx_current_msec) < wait)
        {
            wait = (ngx_msec_int_t) (op->due - ngx_current_msec);
        }
    }

    if (wait > 0) {
        ngx_add_timer(ev, (ngx_msec_t) wait);
    }

    while (!ngx_queue_empty(&queue)) {
        q = ngx_queue_head(&queue);
        ngx_queue_remove(q);
        ngx_rbgv_cluster_retry_op(ngx_queue_data(q, ngx_rbgv_cluster_op_t,
                                                 queue));
    }
}


static void
ngx_rbgv_cluster_retry_op(ngx_rbgv_cluster_op_t *op)
{
    ngx_rbgv_redis_reply_t  reply;

    if (op->cluster->mapped
        && (ngx_msec_int_t) (op->deadline - ngx_current_msec) > 0
        && ngx_rbgv_cluster_send(op, op->cluster->slots[op->slot]) == NGX_OK)
    {
        return;
    }

    /* it may be gone */
    op->node = NULL;

    if (op->error_len == 0) {
        ngx_rbgv_cluster_finish(op, NULL);
        return;
    }

    /* it was not executed: that is not the same as no reply */

    ngx_memzero(&reply, sizeof(ngx_rbgv_redis_reply_t));

    reply.type = NGX_RBGV_REDIS_ERROR;
    reply.str.len = op->error_len;
    reply.str.data = op->error;

    ngx_rbgv_cluster_finish(op, &reply);
}


/* those that wait for the map, which is there now; or is not to be had */

static void
ngx_rbgv_cluster_retry_all(ngx_rbgv_cluster_t *cluster)
{
    ngx_queue_t            *q;
    ngx_rbgv_cluster_op_t  *op;

    if (ngx_queue_empty(&cluster->delayed)) {
        return;
    }

    for (q = ngx_queue_head(&cluster->delayed);
         q != ngx_queue_sentinel(&cluster->delayed);
         q = ngx_queue_next(q))
    {
        op = ngx_queue_data(q, ngx_rbgv_cluster_op_t, queue);

        if (op->hops == 0) {
            op->due = ngx_current_msec;
        }
    }

    if (cluster->retry.timer_set) {
        ngx_del_timer(&cluster->retry);
    }

    ngx_add_timer(&cluster->retry, 1);
}


static void
ngx_rbgv_cluster_finish(ngx_rbgv_cluster_op_t *op,
    ngx_rbgv_redis_reply_t *reply)
{
    ngx_rbgv_cluster_t       *cluster;
    ngx_rbgv_cluster_node_t  *current;

    cluster = op->cluster;

    current = cluster->current;
    cluster->current = op->node;

    op->handler(op->data, reply);

    cluster->current = current;

    ngx_queue_insert_head(&cluster->free, &op->queue);
}


static void
ngx_rbgv_cluster_soon(ngx_rbgv_cluster_t *cluster)
{
    ngx_msec_t  passed;

    if (cluster->waiting) {
        cluster->again = 1;
        return;
    }

    passed = ngx_current_msec - cluster->begun;

    if (cluster->timer.timer_set) {
        ngx_del_timer(&cluster->timer);
    }

    ngx_add_timer(&cluster->timer, passed < NGX_RBGV_CLUSTER_SOON
                                       ? NGX_RBGV_CLUSTER_SOON - passed : 1);
}


static void
ngx_rbgv_cluster_round(ngx_event_t *ev)
{
    if (!ngx_exiting) {
        ngx_rbgv_cluster_begin_round(ev->data);
    }
}


static void
ngx_rbgv_cluster_begin_round(ngx_rbgv_cluster_t *cluster)
{
    ngx_queue_t              *q, *last;
    ngx_rbgv_cluster_node_t  *node;

    if (cluster->waiting) {
        return;
    }

    cluster->begun = ngx_current_msec;
    cluster->again = 0;
    cluster->changed = 0;
    cluster->source = NULL;
    cluster->map = NULL;

    /* the replies of this round are not to end it before all are asked */
    cluster->waiting = 1;

    if (cluster->store_events.asked) {
        cluster->store_events.asked(cluster->store_data);
    }

    /* another source each time */

    if (!ngx_queue_empty(&cluster->masters)) {
        last = ngx_queue_last(&cluster->masters);
        ngx_queue_remove(last);
        ngx_queue_insert_head(&cluster->masters, last);
    }

    for (q = ngx_queue_head(&cluster->masters);
         q != ngx_queue_sentinel(&cluster->masters);
         q = ngx_queue_next(q))
    {
        node = ngx_queue_data(q, ngx_rbgv_cluster_node_t, queue);
        ngx_rbgv_cluster_ask(node);
    }

    if (cluster->source == NULL) {
        ngx_rbgv_cluster_ask(cluster->seed);
        cluster->source = cluster->seed;
    }

    cluster->waiting--;

    if (cluster->waiting == 0 && !cluster->timer.timer_set) {
        ngx_add_timer(&cluster->timer, NGX_RBGV_CLUSTER_ROUND);
    }
}


static void
ngx_rbgv_cluster_ask(ngx_rbgv_cluster_node_t *node)
{
    ngx_rbgv_cluster_t  *cluster;

    cluster = node->cluster;

    node->answered = 0;

    if (ngx_rbgv_cluster_ask_for(node, "INFO", ngx_rbgv_cluster_info_handler)
        != NGX_OK)
    {
        return;
    }

    if (cluster->source == NULL
        && ngx_rbgv_cluster_ask_for(node, "SLOTS",
                                    ngx_rbgv_cluster_slots_handler)
           == NGX_OK)
    {
        cluster->source = node;
    }
}


static ngx_int_t
ngx_rbgv_cluster_ask_for(ngx_rbgv_cluster_node_t *node, const char *what,
    ngx_rbgv_redis_handler_pt handler)
{
    size_t       argvlen[] = { 7, ngx_strlen(what) };
    const char  *argv[] = { "CLUSTER", what };

    if (ngx_rbgv_redis_command(node->redis,
                               ngx_current_msec + NGX_RBGV_CLUSTER_TIMEOUT,
                               handler, node, 2, argv, argvlen)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    node->cluster->waiting++;

    return NGX_OK;
}


static void
ngx_rbgv_cluster_info_handler(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_rbgv_cluster_node_t *node = data;

    u_char  *p, *last;

    static u_char  state[] = "cluster_state:ok";
    static u_char  epoch[] = "cluster_current_epoch:";

    if (reply && reply->type == NGX_RBGV_REDIS_STRING) {
        last = reply->str.data + reply->str.len;

        node->failing = (ngx_strlcasestrn(reply->str.data, last, state,
                                          sizeof(state) - 2)
                         == NULL);

        p = ngx_strlcasestrn(reply->str.data, last, epoch, sizeof(epoch) - 2);

        if (p) {
            node->answered = 1;
            node->epoch = 0;

            for (p += sizeof(epoch) - 1;
                 p < last && *p >= '0' && *p <= '9';
                 p++)
            {
                node->epoch = node->epoch * 10 + (*p - '0');
            }
        }

    } else {
        ngx_rbgv_cluster_refusal(node, reply, "CLUSTER INFO");
    }

    ngx_rbgv_cluster_answered(node->cluster);
}


static void
ngx_rbgv_cluster_slots_handler(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_rbgv_cluster_node_t *node = data;

    ngx_uint_t                 i;
    ngx_array_t               *map;
    ngx_rbgv_cluster_t        *cluster;
    ngx_rbgv_cluster_range_t  *range;

    cluster = node->cluster;

    if (reply == NULL || reply->type != NGX_RBGV_REDIS_ARRAY) {
        ngx_rbgv_cluster_refusal(node, reply, "CLUSTER SLOTS");
        goto done;
    }

    cluster->map_pool = ngx_create_pool(4096, cluster->log);
    if (cluster->map_pool == NULL) {
        goto done;
    }

    map = ngx_array_create(cluster->map_pool, reply->nelts + 1,
                           sizeof(ngx_rbgv_cluster_range_t));
    if (map == NULL) {
        goto done;
    }

    for (i = 0; i < reply->nelts; i++) {
        range = ngx_array_push(map);

        if (range == NULL
            || ngx_rbgv_cluster_read_range(node, reply->elts[i], range)
               != NGX_OK)
        {
            goto done;
        }
    }

    cluster->map = map;

done:

    ngx_rbgv_cluster_answered(cluster);
}


static void
ngx_rbgv_cluster_refusal(ngx_rbgv_cluster_node_t *node,
    ngx_rbgv_redis_reply_t *reply, const char *command)
{
    if (reply == NULL || reply->type != NGX_RBGV_REDIS_ERROR) {
        return;
    }

    node->cluster->refused = !ngx_rbgv_redis_is_transient(reply);

    if (!ngx_rbgv_cluster_told(node->cluster)) {
        ngx_log_error(NGX_LOG_CRIT, node->cluster->log, 0,
                      "redis \"%V\" refused \"%s\": \"%V\"",
                      &node->conf.name, command, &reply->str);
    }
}


/* 1 if something like it was logged a moment ago */

static ngx_uint_t
ngx_rbgv_cluster_told(ngx_rbgv_cluster_t *cluster)
{
    if (cluster->told
        && ngx_current_msec - cluster->told < NGX_RBGV_CLUSTER_QUIET)
    {
        return 1;
    }

    cluster->told = ngx_current_msec;

    return 0;
}


/* first slot, last slot, master: host, port, id; and its replicas */

static ngx_int_t
ngx_rbgv_cluster_read_range(ngx_rbgv_cluster_node_t *node,
    ngx_rbgv_redis_reply_t *reply, ngx_rbgv_cluster_range_t *range)
{
    ngx_rbgv_redis_reply_t  *master, *host;

    if (reply->type != NGX_RBGV_REDIS_ARRAY
        || reply->nelts < 3
        || reply->elts[0]->type != NGX_RBGV_REDIS_INTEGER
        || reply->elts[1]->type != NGX_RBGV_REDIS_INTEGER
        || reply->elts[0]->integer < 0
        || reply->elts[1]->integer < reply->elts[0]->integer
        || reply->elts[1]->integer >= RBGV_SLOTS)
    {
        return NGX_ERROR;
    }

    master = reply->elts[2];

    if (master->type != NGX_RBGV_REDIS_ARRAY
        || master->nelts < 2
        || master->elts[1]->type != NGX_RBGV_REDIS_INTEGER)
    {
        return NGX_ERROR;
    }

    host = ngx_rbgv_cluster_host(master);

    range->first = reply->elts[0]->integer;
    range->last = reply->elts[1]->integer;
    range->name.data = ngx_pnalloc(node->cluster->map_pool,
                                   NGX_RBGV_CLUSTER_NAME_LEN);

    if (range->name.data == NULL) {
        return NGX_ERROR;
    }

    return ngx_rbgv_cluster_set_name(node, &host->str,
                                     master->elts[1]->integer, &range->name);
}


/*
 * A cluster that prefers names of hosts tells the address too: "ip" in what
 * follows the id.
 */

static ngx_rbgv_redis_reply_t *
ngx_rbgv_cluster_host(ngx_rbgv_redis_reply_t *master)
{
    ngx_uint_t               i;
    ngx_rbgv_redis_reply_t  *more;

    if (master->nelts < 4
        || master->elts[3]->type != NGX_RBGV_REDIS_ARRAY)
    {
        return master->elts[0];
    }

    more = master->elts[3];

    for (i = 0; i + 1 < more->nelts; i += 2) {
        if (more->elts[i]->str.len == 2
            && ngx_strncmp(more->elts[i]->str.data, "ip", 2) == 0
            && more->elts[i + 1]->str.len)
        {
            return more->elts[i + 1];
        }
    }

    return master->elts[0];
}


/* without a host it is that of the node which says so */

static ngx_int_t
ngx_rbgv_cluster_set_name(ngx_rbgv_cluster_node_t *node, ngx_str_t *host,
    ngx_uint_t port, ngx_str_t *name)
{
    u_char       text[NGX_SOCKADDR_STRLEN];
    ngx_str_t    own;
    ngx_addr_t  *addr;

    if (host->len == 0 || (host->len == 1 && host->data[0] == '?')) {
        addr = ngx_rbgv_redis_addr(node->redis);

        own.data = text;
        own.len = ngx_sock_ntop(addr->sockaddr, addr->socklen, text,
                                NGX_SOCKADDR_STRLEN, 0);
        host = &own;
    }

    if (host->len > NGX_RBGV_CLUSTER_HOST_LEN || port > 65535) {
        return NGX_ERROR;
    }

    name->len = ngx_sprintf(name->data,
                            ngx_strlchr(host->data, host->data + host->len,
                                        ':')
                                ? "[%V]:%ui" : "%V:%ui",
                            host, port)
                - name->data;

    return NGX_OK;
}


static void
ngx_rbgv_cluster_answered(ngx_rbgv_cluster_t *cluster)
{
    if (--cluster->waiting == 0) {
        ngx_rbgv_cluster_end_round(cluster);
    }
}


static void
ngx_rbgv_cluster_end_round(ngx_rbgv_cluster_t *cluster)
{
    uint64_t    epoch;
    ngx_uint_t  agreed;

    /* the next one does not begin before the end */
    cluster->waiting = 1;

    epoch = ngx_rbgv_cluster_latest(cluster);

    /* what somebody says who has not heard of a failover is not believed */

    agreed = cluster->source->answered
             && cluster->source->epoch == epoch
             && !cluster->source->failing
             && ngx_rbgv_cluster_apply(cluster) == NGX_OK
             && ngx_rbgv_cluster_agreed(cluster, epoch);

    cluster->steady = agreed && !cluster->changed;

    ngx_rbgv_cluster_tell_state(cluster);

    if (cluster->map_pool) {
        ngx_destroy_pool(cluster->map_pool);
        cluster->map_pool = NULL;
    }

    ngx_rbgv_cluster_retry_all(cluster);

    cluster->waiting = 0;

    if (cluster->changed || cluster->again) {
        ngx_rbgv_cluster_soon(cluster);

    } else if (!cluster->timer.timer_set) {
        ngx_add_timer(&cluster->timer, NGX_RBGV_CLUSTER_ROUND);
    }

    if (cluster->steady && cluster->store_events.confirmed) {
        cluster->store_events.confirmed(cluster->store_data);
    }

    if (cluster->steady && cluster->broken) {
        cluster->broken = 0;

        if (cluster->events.ready) {
            cluster->events.ready(cluster->data);
        }
    }
}


/* the latest epoch that was heard of in this round */

static uint64_t
ngx_rbgv_cluster_latest(ngx_rbgv_cluster_t *cluster)
{
    uint64_t                  epoch;
    ngx_queue_t              *q;
    ngx_rbgv_cluster_node_t  *node;

    epoch = cluster->source->answered ? cluster->source->epoch : 0;

    for (q = ngx_queue_head(&cluster->masters);
         q != ngx_queue_sentinel(&cluster->masters);
         q = ngx_queue_next(q))
    {
        node = ngx_queue_data(q, ngx_rbgv_cluster_node_t, queue);

        if (node->answered && node->epoch > epoch) {
            epoch = node->epoch;
        }
    }

    return epoch;
}


/* 1: all masters have; those that were away are believed again if most have */

static ngx_uint_t
ngx_rbgv_cluster_agreed(ngx_rbgv_cluster_t *cluster, uint64_t epoch)
{
    ngx_uint_t                all, agreed;
    ngx_queue_t              *q;
    ngx_rbgv_cluster_node_t  *node;

    all = 0;
    agreed = 0;

    for (q = ngx_queue_head(&cluster->masters);
         q != ngx_queue_sentinel(&cluster->masters);
         q = ngx_queue_next(q))
    {
        node = ngx_queue_data(q, ngx_rbgv_cluster_node_t, queue);

        node->answered &= (node->epoch == epoch && !node->failing
                           && !node->broken);

        all++;
        agreed += node->answered;
    }

    for (q = ngx_queue_head(&cluster->masters);
         q != ngx_queue_sentinel(&cluster->masters) && 2 * agreed > all;
         q = ngx_queue_next(q))
    {
        node = ngx_queue_data(q, ngx_rbgv_cluster_node_t, queue);

        if (node->answered) {
            node->suspect = 0;
        }
    }

    return agreed == all;
}


/* NGX_ERROR: there is no map, or a master that nothing can be sent to */

static ngx_int_t
ngx_rbgv_cluster_apply(ngx_rbgv_cluster_t *cluster)
{
    ngx_int_t                  rc;
    ngx_uint_t                 i, slot, later;
    ngx_queue_t               *q, *next;
    ngx_rbgv_cluster_node_t   *node;
    ngx_rbgv_cluster_range_t  *range;

    if (cluster->map == NULL || cluster->map->nelts == 0) {
        return NGX_ERROR;
    }

    rc = NGX_OK;
    later = (cluster->source->epoch > cluster->epoch);
    cluster->epoch = cluster->source->epoch;

    ngx_memzero(cluster->slots, sizeof(cluster->slots));

    range = cluster->map->elts;

    for (i = 0; i < cluster->map->nelts; i++) {
        node = ngx_rbgv_cluster_master(cluster, &range[i].name);

        if (node == NULL) {
            rc = NGX_ERROR;
            continue;
        }

        node->named = 1;

        for (slot = range[i].first; slot <= range[i].last; slot++) {
            cluster->slots[slot] = node;
        }
    }

    /* who did not hear yet that slots have moved does not know a new master */

    for (q = ngx_queue_head(&cluster->masters);
         q != ngx_queue_sentinel(&cluster->masters);
         q = next)
    {
        next = ngx_queue_next(q);
        node = ngx_queue_data(q, ngx_rbgv_cluster_node_t, queue);

        node->missed = node->named ? 0 : node->missed + 1;

        if (node->missed >= NGX_RBGV_CLUSTER_MISSED
            || (node->missed && later))
        {
            ngx_rbgv_cluster_leave(node);
        }

        node->named = 0;
    }

    cluster->mapped = 1;
    cluster->refused = 0;

    return rc;
}


static void
ngx_rbgv_cluster_tell_state(ngx_rbgv_cluster_t *cluster)
{
    ngx_rbgv_cluster_node_t  *source;

    source = cluster->source;

    if (!source->answered || source->failing == cluster->failing) {
        return;
    }

    cluster->failing = source->failing;

    if (cluster->failing) {
        ngx_log_error(NGX_LOG_ERR, cluster->log, 0,
                      "redis \"%V\" says that the cluster is down",
                      &source->conf.name);

    } else {
        ngx_log_error(NGX_LOG_NOTICE, cluster->log, 0,
                      "redis \"%V\" says that the cluster is up "
                      "again", &source->conf.name);
    }
}
