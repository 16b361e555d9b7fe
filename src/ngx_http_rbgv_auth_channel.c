
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * The invalidation channel of a worker to a store: to each server of it a
 * line, a connection that tracks the prefix of the keys and is redirected to
 * itself, so that losing it is seen as the end of it.  RESP2, see "Client-side
 * caching in Redis".
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_rbgv_auth.h"
#include "rbgv_schema.h"


#define NGX_HTTP_RBGV_AUTH_PING      250     /* milliseconds */
#define NGX_HTTP_RBGV_AUTH_TRACKING  "__redis__:invalidate"


struct ngx_http_rbgv_auth_channel_s {
    ngx_http_rbgv_auth_store_t   *store;
    ngx_http_rbgv_auth_zone_t    *zone;
    ngx_str_t                    *prefix;

    ngx_uint_t                    ident;     /* where a timer's data has fd */

    ngx_queue_t                   lines;
    ngx_event_t                   timer;

    /* of a store whose servers may change, ngx_http_rbgv_auth_now() */
    ngx_msec_t                    asked;     /* if they have */
    ngx_msec_t                    confirmed; /* they had not; 0: they have */

    unsigned                      follows:1;
    unsigned                      proven:1;  /* something was, once */
};


typedef struct {
    ngx_queue_t                   queue;
    ngx_http_rbgv_auth_channel_t *channel;
    ngx_pool_t                   *pool;
    ngx_rbgv_redis_conf_t        *server;    /* of the store */
    ngx_rbgv_redis_conf_t         conf;
    ngx_rbgv_redis_t             *redis;

    ngx_msec_t                    since;     /* when it began to listen */
    ngx_msec_t                    asked;     /* the PING under way; 0: none */
    ngx_msec_t                    proven;    /* nothing is untold until then */

    unsigned                      listening:1;
} ngx_http_rbgv_auth_line_t;


static void ngx_http_rbgv_auth_channel_asked(void *data);
static void ngx_http_rbgv_auth_channel_confirmed(void *data);
static void ngx_http_rbgv_auth_channel_changed(void *data);
static void ngx_http_rbgv_auth_channel_prove(
    ngx_http_rbgv_auth_channel_t *channel);
static ngx_int_t ngx_http_rbgv_auth_channel_set_lines(
    ngx_http_rbgv_auth_channel_t *channel);
static ngx_uint_t ngx_http_rbgv_auth_channel_has(
    ngx_http_rbgv_auth_channel_t *channel, ngx_rbgv_redis_conf_t *server);
static ngx_uint_t ngx_http_rbgv_auth_channel_wants(
    ngx_http_rbgv_auth_channel_t *channel, ngx_rbgv_redis_conf_t *server);
static void ngx_http_rbgv_auth_channel_tick(ngx_event_t *ev);

static ngx_int_t ngx_http_rbgv_auth_line_create(
    ngx_http_rbgv_auth_channel_t *channel, ngx_rbgv_redis_conf_t *server);
static void ngx_http_rbgv_auth_line_destroy(ngx_http_rbgv_auth_line_t *line);
static void ngx_http_rbgv_auth_line_tick(ngx_http_rbgv_auth_line_t *line);
static void ngx_http_rbgv_auth_line_ready(void *data);
static void ngx_http_rbgv_auth_line_id(void *data,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_line_tracking(void *data,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_line_subscribed(void *data,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_line_ping(ngx_http_rbgv_auth_line_t *line);
static void ngx_http_rbgv_auth_line_pong(void *data,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_line_message(void *data,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_line_invalidate(
    ngx_http_rbgv_auth_line_t *line, ngx_str_t *name);
static void ngx_http_rbgv_auth_line_lost(void *data);
static void ngx_http_rbgv_auth_line_quit(void *data);
static void ngx_http_rbgv_auth_line_failed(void *data,
    ngx_rbgv_redis_failure_e failure);
static void ngx_http_rbgv_auth_line_command(ngx_http_rbgv_auth_line_t *line,
    ngx_rbgv_redis_handler_pt handler, ngx_uint_t argc, const char **argv);
static ngx_uint_t ngx_http_rbgv_auth_line_refused(
    ngx_http_rbgv_auth_line_t *line, ngx_rbgv_redis_reply_t *reply,
    const char *command);


static const ngx_rbgv_store_events_t  ngx_http_rbgv_auth_channel_events = {
    ngx_http_rbgv_auth_channel_asked,
    ngx_http_rbgv_auth_channel_confirmed,
    ngx_http_rbgv_auth_channel_changed
};


static const ngx_rbgv_redis_events_t  ngx_http_rbgv_auth_line_events = {
    ngx_http_rbgv_auth_line_ready,
    ngx_http_rbgv_auth_line_lost,
    ngx_http_rbgv_auth_line_message,
    ngx_http_rbgv_auth_line_quit,
    ngx_http_rbgv_auth_line_failed,
    NULL
};


ngx_http_rbgv_auth_channel_t *
ngx_http_rbgv_auth_channel_create(ngx_cycle_t *cycle,
    ngx_http_rbgv_auth_main_conf_t *amcf, ngx_http_rbgv_auth_store_t *store)
{
    ngx_http_rbgv_auth_channel_t  *channel;

    channel = ngx_pcalloc(cycle->pool, sizeof(ngx_http_rbgv_auth_channel_t));
    if (channel == NULL) {
        return NULL;
    }

    channel->store = store;
    channel->zone = amcf->zone;
    channel->prefix = &amcf->prefix;
    channel->ident = (ngx_uint_t) -1;

    ngx_queue_init(&channel->lines);

    channel->timer.handler = ngx_http_rbgv_auth_channel_tick;
    channel->timer.data = channel;
    channel->timer.log = cycle->log;
    channel->timer.cancelable = 1;

    channel->follows = ngx_rbgv_store_follow(store->redis,
                                          &ngx_http_rbgv_auth_channel_events,
                                          channel);

    if (ngx_http_rbgv_auth_channel_set_lines(channel) != NGX_OK) {
        return NULL;
    }

    /* others listen now: it takes over where they end */

    if (ngx_http_rbgv_auth_zone_trusted(channel->zone, store->index)) {
        ngx_http_rbgv_auth_channel_use(channel);
    }

    return channel;
}


void
ngx_http_rbgv_auth_channel_use(ngx_http_rbgv_auth_channel_t *channel)
{
    if (!channel->timer.timer_set) {
        ngx_http_rbgv_auth_channel_tick(&channel->timer);
    }
}


void
ngx_http_rbgv_auth_channel_destroy(ngx_http_rbgv_auth_channel_t *channel)
{
    ngx_queue_t  *q;

    if (channel->timer.timer_set) {
        ngx_del_timer(&channel->timer);
    }

    while (!ngx_queue_empty(&channel->lines)) {
        q = ngx_queue_head(&channel->lines);
        ngx_http_rbgv_auth_line_destroy(
                     ngx_queue_data(q, ngx_http_rbgv_auth_line_t, queue));
    }
}


static void
ngx_http_rbgv_auth_channel_asked(void *data)
{
    ngx_http_rbgv_auth_channel_t *channel = data;

    channel->asked = ngx_http_rbgv_auth_now();
}


static void
ngx_http_rbgv_auth_channel_confirmed(void *data)
{
    ngx_http_rbgv_auth_channel_t *channel = data;

    channel->confirmed = channel->asked;

    ngx_http_rbgv_auth_channel_prove(channel);
}


/* what a new server has changed before there was a line to it is not known */

static void
ngx_http_rbgv_auth_channel_changed(void *data)
{
    ngx_http_rbgv_auth_channel_t *channel = data;

    channel->confirmed = 0;

    /* a new worker learns of them for the first time */

    if (channel->proven) {
        ngx_http_rbgv_auth_zone_restart(channel->zone, channel->store->index);
        channel->store->verified = 0;
    }

    if (ngx_http_rbgv_auth_channel_set_lines(channel) == NGX_OK
        && channel->timer.timer_set)
    {
        ngx_del_timer(&channel->timer);
        ngx_http_rbgv_auth_channel_tick(&channel->timer);
    }
}


/* what all lines have told, while the servers were these */

static void
ngx_http_rbgv_auth_channel_prove(ngx_http_rbgv_auth_channel_t *channel)
{
    ngx_msec_t                  since, until;
    ngx_queue_t                *q;
    ngx_http_rbgv_auth_line_t  *line;

    until = channel->follows ? channel->confirmed : ngx_http_rbgv_auth_now();
    since = 0;

    if (until == 0 || ngx_queue_empty(&channel->lines)) {
        return;
    }

    for (q = ngx_queue_head(&channel->lines);
         q != ngx_queue_sentinel(&channel->lines);
         q = ngx_queue_next(q))
    {
        line = ngx_queue_data(q, ngx_http_rbgv_auth_line_t, queue);

        if (line->proven == 0) {
            return;
        }

        if (since == 0 || (ngx_msec_int_t) (line->since - since) > 0) {
            since = line->since;
        }

        if ((ngx_msec_int_t) (line->proven - until) < 0) {
            until = line->proven;
        }
    }

    if ((ngx_msec_int_t) (until - since) < 0) {
        return;
    }

    channel->proven = 1;

    ngx_http_rbgv_auth_zone_proven(channel->zone, channel->store->index,
                                   since, until);
}


/* one for each server of the store; NGX_ERROR: there is not one for each */

static ngx_int_t
ngx_http_rbgv_auth_channel_set_lines(ngx_http_rbgv_auth_channel_t *channel)
{
    ngx_uint_t                  n;
    ngx_queue_t                *q, *next;
    ngx_rbgv_redis_conf_t      *server;
    ngx_http_rbgv_auth_line_t  *line;

    for (q = ngx_queue_head(&channel->lines);
         q != ngx_queue_sentinel(&channel->lines);
         q = next)
    {
        next = ngx_queue_next(q);
        line = ngx_queue_data(q, ngx_http_rbgv_auth_line_t, queue);

        if (!ngx_http_rbgv_auth_channel_wants(channel, line->server)) {
            ngx_http_rbgv_auth_line_destroy(line);
        }
    }

    for (n = 0; /* void */ ; n++) {
        server = ngx_rbgv_store_server(channel->store->redis, n);

        if (server == NULL) {
            return NGX_OK;
        }

        if (!ngx_http_rbgv_auth_channel_has(channel, server)
            && ngx_http_rbgv_auth_line_create(channel, server) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }
}


static ngx_uint_t
ngx_http_rbgv_auth_channel_has(ngx_http_rbgv_auth_channel_t *channel,
    ngx_rbgv_redis_conf_t *server)
{
    ngx_queue_t                *q;
    ngx_http_rbgv_auth_line_t  *line;

    for (q = ngx_queue_head(&channel->lines);
         q != ngx_queue_sentinel(&channel->lines);
         q = ngx_queue_next(q))
    {
        line = ngx_queue_data(q, ngx_http_rbgv_auth_line_t, queue);

        if (line->server == server) {
            return 1;
        }
    }

    return 0;
}


static ngx_uint_t
ngx_http_rbgv_auth_channel_wants(ngx_http_rbgv_auth_channel_t *channel,
    ngx_rbgv_redis_conf_t *server)
{
    ngx_uint_t              n;
    ngx_rbgv_redis_conf_t  *wanted;

    n = 0;

    do {
        wanted = ngx_rbgv_store_server(channel->store->redis, n++);
    } while (wanted && wanted != server);

    return wanted != NULL;
}


static void
ngx_http_rbgv_auth_channel_tick(ngx_event_t *ev)
{
    ngx_http_rbgv_auth_channel_t *channel = ev->data;

    ngx_queue_t  *q;

    if (ngx_exiting) {
        return;
    }

    /* a server may be known only then */

    if (channel->follows) {
        (void) ngx_rbgv_store_open(channel->store->redis);
    }

    for (q = ngx_queue_head(&channel->lines);
         q != ngx_queue_sentinel(&channel->lines);
         q = ngx_queue_next(q))
    {
        ngx_http_rbgv_auth_line_tick(
                     ngx_queue_data(q, ngx_http_rbgv_auth_line_t, queue));
    }

    ngx_add_timer(ev, NGX_HTTP_RBGV_AUTH_PING);
}


static ngx_int_t
ngx_http_rbgv_auth_line_create(ngx_http_rbgv_auth_channel_t *channel,
    ngx_rbgv_redis_conf_t *server)
{
    ngx_pool_t                 *pool;
    ngx_http_rbgv_auth_line_t  *line;

    pool = ngx_create_pool(1024, ngx_cycle->log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    line = ngx_pcalloc(pool, sizeof(ngx_http_rbgv_auth_line_t));
    if (line == NULL) {
        ngx_destroy_pool(pool);
        return NGX_ERROR;
    }

    line->channel = channel;
    line->pool = pool;
    line->server = server;
    line->conf = *server;

    /* a message lists all keys that one turn of Redis has changed */

    line->conf.role = "channel of redis";
    line->conf.nscripts = 0;
    line->conf.max_elements = 65536;
    line->conf.max_reply *= 16;

    line->redis = ngx_rbgv_redis_create(&line->conf, ngx_cycle->log);
    if (line->redis == NULL) {
        ngx_destroy_pool(pool);
        return NGX_ERROR;
    }

    ngx_rbgv_redis_watch(line->redis, &ngx_http_rbgv_auth_line_events, line);

    ngx_queue_insert_tail(&channel->lines, &line->queue);

    return NGX_OK;
}


static void
ngx_http_rbgv_auth_line_destroy(ngx_http_rbgv_auth_line_t *line)
{
    ngx_queue_remove(&line->queue);
    ngx_rbgv_redis_destroy(line->redis);
    ngx_destroy_pool(line->pool);
}


static void
ngx_http_rbgv_auth_line_tick(ngx_http_rbgv_auth_line_t *line)
{
    if (!line->listening) {
        (void) ngx_rbgv_redis_open(line->redis);

    } else if (line->asked == 0) {
        ngx_http_rbgv_auth_line_ping(line);
    }
}


static void
ngx_http_rbgv_auth_line_ready(void *data)
{
    const char  *argv[] = { "CLIENT", "ID" };

    ngx_http_rbgv_auth_line_command(data, ngx_http_rbgv_auth_line_id, 2,
                                    argv);
}


static void
ngx_http_rbgv_auth_line_id(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_http_rbgv_auth_line_t *line = data;

    u_char       id[NGX_INT64_LEN + 1],
                 prefix[RBGV_PREFIX_MAX + sizeof(RBGV_KEY)];
    const char  *tracking[] = { "CLIENT", "TRACKING", "ON", "REDIRECT",
                                (const char *) id, "BCAST", "PREFIX",
                                (const char *) prefix };
    const char  *subscribe[] = { "SUBSCRIBE", NGX_HTTP_RBGV_AUTH_TRACKING };

    if (ngx_http_rbgv_auth_line_refused(line, reply, "CLIENT ID")) {
        return;
    }

    (void) ngx_sprintf(id, "%L%Z", reply->integer);
    (void) ngx_sprintf(prefix, "%V%s%Z", line->channel->prefix, RBGV_KEY);

    ngx_http_rbgv_auth_line_command(line, ngx_http_rbgv_auth_line_tracking, 8,
                                    tracking);
    ngx_http_rbgv_auth_line_command(line, ngx_http_rbgv_auth_line_subscribed,
                                    2, subscribe);
}


static void
ngx_http_rbgv_auth_line_tracking(void *data, ngx_rbgv_redis_reply_t *reply)
{
    (void) ngx_http_rbgv_auth_line_refused(data, reply, "CLIENT TRACKING");
}


static void
ngx_http_rbgv_auth_line_subscribed(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_http_rbgv_auth_line_t *line = data;

    if (ngx_http_rbgv_auth_line_refused(line, reply, "SUBSCRIBE")) {
        return;
    }

    line->listening = 1;
    line->since = ngx_http_rbgv_auth_now();
    line->proven = 0;

    ngx_http_rbgv_auth_line_ping(line);
}


static void
ngx_http_rbgv_auth_line_ping(ngx_http_rbgv_auth_line_t *line)
{
    const char  *argv[] = { "PING" };

    line->asked = ngx_http_rbgv_auth_now();

    ngx_http_rbgv_auth_line_command(line, ngx_http_rbgv_auth_line_pong, 1,
                                    argv);
}


/* replies are in order: what changed before the PING has been told */

static void
ngx_http_rbgv_auth_line_pong(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_http_rbgv_auth_line_t *line = data;

    if (ngx_http_rbgv_auth_line_refused(line, reply, "PING")) {
        return;
    }

    line->proven = line->asked;
    line->asked = 0;

    ngx_http_rbgv_auth_channel_prove(line->channel);
}


/* the payload is a list of keys, or nil: everything, as after FLUSHALL */

static void
ngx_http_rbgv_auth_line_message(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_http_rbgv_auth_line_t *line = data;

    ngx_uint_t                   i;
    ngx_rbgv_redis_reply_t      *keys;
    ngx_http_rbgv_auth_store_t  *store;

    keys = reply->elts[2];
    store = line->channel->store;

    if (keys->type != NGX_RBGV_REDIS_ARRAY) {
        ngx_http_rbgv_auth_zone_flush(line->channel->zone, store->index);
        store->verified = 0;
        return;
    }

    for (i = 0; i < keys->nelts; i++) {
        if (keys->elts[i]->type == NGX_RBGV_REDIS_STRING) {
            ngx_http_rbgv_auth_line_invalidate(line, &keys->elts[i]->str);
        }
    }
}


/* <prefix>key:{<id>} */

static void
ngx_http_rbgv_auth_line_invalidate(ngx_http_rbgv_auth_line_t *line,
    ngx_str_t *name)
{
    size_t                      skip;
    ngx_http_rbgv_auth_place_t  place;

    skip = line->channel->prefix->len + sizeof(RBGV_KEY "{") - 1;

    if (name->len != skip + RBGV_ID_LEN + 1) {
        return;
    }

    place.store = line->channel->store->index;
    ngx_memcpy(place.id, name->data + skip, RBGV_ID_LEN);

    ngx_http_rbgv_auth_zone_invalidate(line->channel->zone, &place);
}


static void
ngx_http_rbgv_auth_line_lost(void *data)
{
    ngx_http_rbgv_auth_line_t *line = data;

    line->listening = 0;
    line->asked = 0;
    line->channel->store->verified = 0;
}


/*
 * A last PING proves what was told until the next workers listen, so that
 * they may go on with the zone as it is.
 */

static void
ngx_http_rbgv_auth_line_quit(void *data)
{
    ngx_http_rbgv_auth_line_t *line = data;

    if (line->listening) {
        ngx_http_rbgv_auth_line_ping(line);
    }
}


static void
ngx_http_rbgv_auth_line_failed(void *data, ngx_rbgv_redis_failure_e failure)
{
    ngx_http_rbgv_auth_line_t *line = data;

    ngx_http_rbgv_auth_tally_error(line->channel->store, (ngx_uint_t) failure);
}


static void
ngx_http_rbgv_auth_line_command(ngx_http_rbgv_auth_line_t *line,
    ngx_rbgv_redis_handler_pt handler, ngx_uint_t argc, const char **argv)
{
    size_t      argvlen[8];
    ngx_uint_t  i;

    for (i = 0; i < argc; i++) {
        argvlen[i] = ngx_strlen(argv[i]);
    }

    if (ngx_rbgv_redis_command(line->redis,
                               ngx_current_msec + NGX_HTTP_RBGV_AUTH_TRUST,
                               handler, line, argc, argv, argvlen)
        != NGX_OK)
    {
        ngx_rbgv_redis_fail(line->redis, NGX_RBGV_REDIS_LOST);
    }
}


static ngx_uint_t
ngx_http_rbgv_auth_line_refused(ngx_http_rbgv_auth_line_t *line,
    ngx_rbgv_redis_reply_t *reply, const char *command)
{
    if (reply == NULL) {
        return 1;
    }

    if (reply->type != NGX_RBGV_REDIS_ERROR) {
        return 0;
    }

    if (!ngx_http_rbgv_auth_told(line->channel->store, command, &reply->str)) {
        ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, 0,
                      "rbgv_auth: redis \"%V\" refused \"%s\": \"%V\", keys "
                      "are not kept and every request asks redis",
                      &line->conf.name, command, &reply->str);
    }

    ngx_rbgv_redis_fail(line->redis, NGX_RBGV_REDIS_NO_LOGIN);

    return 1;
}
