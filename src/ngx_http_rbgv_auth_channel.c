
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * The invalidation channel of a worker to a store: a connection that tracks
 * the prefix of the keys and is redirected to itself, so that losing it is
 * seen as the end of it.  RESP2, see "Client-side caching in Redis".
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

    ngx_rbgv_redis_t             *redis;
    ngx_event_t                   timer;
    ngx_msec_t                    since;     /* when it began to listen */
    ngx_msec_t                    asked;     /* the PING under way; 0: none */

    unsigned                      listening:1;
};


static void ngx_http_rbgv_auth_channel_tick(ngx_event_t *ev);
static void ngx_http_rbgv_auth_channel_ready(void *data);
static void ngx_http_rbgv_auth_channel_id(void *data,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_channel_tracking(void *data,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_channel_subscribed(void *data,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_channel_ping(
    ngx_http_rbgv_auth_channel_t *channel);
static void ngx_http_rbgv_auth_channel_pong(void *data,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_channel_message(void *data,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_http_rbgv_auth_channel_invalidate(
    ngx_http_rbgv_auth_channel_t *channel, ngx_str_t *name);
static void ngx_http_rbgv_auth_channel_lost(void *data);
static void ngx_http_rbgv_auth_channel_quit(void *data);
static void ngx_http_rbgv_auth_channel_failed(void *data,
    ngx_rbgv_redis_failure_e failure);
static void ngx_http_rbgv_auth_channel_command(
    ngx_http_rbgv_auth_channel_t *channel, ngx_rbgv_redis_handler_pt handler,
    ngx_uint_t argc, const char **argv);
static ngx_uint_t ngx_http_rbgv_auth_channel_refused(
    ngx_http_rbgv_auth_channel_t *channel, ngx_rbgv_redis_reply_t *reply,
    const char *command);


static const ngx_rbgv_redis_events_t  ngx_http_rbgv_auth_channel_events = {
    ngx_http_rbgv_auth_channel_ready,
    ngx_http_rbgv_auth_channel_lost,
    ngx_http_rbgv_auth_channel_message,
    ngx_http_rbgv_auth_channel_quit,
    ngx_http_rbgv_auth_channel_failed
};


ngx_http_rbgv_auth_channel_t *
ngx_http_rbgv_auth_channel_create(ngx_cycle_t *cycle,
    ngx_http_rbgv_auth_main_conf_t *amcf, ngx_http_rbgv_auth_store_t *store)
{
    ngx_rbgv_redis_conf_t         *conf;
    ngx_http_rbgv_auth_channel_t  *channel;

    channel = ngx_pcalloc(cycle->pool, sizeof(ngx_http_rbgv_auth_channel_t));
    if (channel == NULL) {
        return NULL;
    }

    channel->store = store;
    channel->zone = amcf->zone;
    channel->prefix = &amcf->prefix;
    channel->ident = (ngx_uint_t) -1;

    conf = ngx_palloc(cycle->pool, sizeof(ngx_rbgv_redis_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    *conf = *store->conf;

    /* a message lists all keys that one turn of Redis has changed */

    conf->role = "channel of redis";
    conf->nscripts = 0;
    conf->max_elements = 65536;
    conf->max_reply *= 16;

    channel->redis = ngx_rbgv_redis_create(conf, cycle->log);
    if (channel->redis == NULL) {
        return NULL;
    }

    ngx_rbgv_redis_watch(channel->redis, &ngx_http_rbgv_auth_channel_events,
                         channel);

    channel->timer.handler = ngx_http_rbgv_auth_channel_tick;
    channel->timer.data = channel;
    channel->timer.log = cycle->log;
    channel->timer.cancelable = 1;

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
    if (channel->timer.timer_set) {
        ngx_del_timer(&channel->timer);
    }

    ngx_rbgv_redis_destroy(channel->redis);
}


static void
ngx_http_rbgv_auth_channel_tick(ngx_event_t *ev)
{
    ngx_http_rbgv_auth_channel_t *channel = ev->data;

    if (ngx_exiting) {
        return;
    }

    if (!channel->listening) {
        (void) ngx_rbgv_redis_open(channel->redis);

    } else if (channel->asked == 0) {
        ngx_http_rbgv_auth_channel_ping(channel);
    }

    ngx_add_timer(ev, NGX_HTTP_RBGV_AUTH_PING);
}


static void
ngx_http_rbgv_auth_channel_ready(void *data)
{
    const char  *argv[] = { "CLIENT", "ID" };

    ngx_http_rbgv_auth_channel_command(data, ngx_http_rbgv_auth_channel_id,
                                       2, argv);
}


static void
ngx_http_rbgv_auth_channel_id(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_http_rbgv_auth_channel_t *channel = data;

    u_char       id[NGX_INT64_LEN + 1],
                 prefix[RBGV_PREFIX_MAX + sizeof(RBGV_KEY)];
    const char  *tracking[] = { "CLIENT", "TRACKING", "ON", "REDIRECT",
                                (const char *) id, "BCAST", "PREFIX",
                                (const char *) prefix };
    const char  *subscribe[] = { "SUBSCRIBE", NGX_HTTP_RBGV_AUTH_TRACKING };

    if (ngx_http_rbgv_auth_channel_refused(channel, reply, "CLIENT ID")) {
        return;
    }

    (void) ngx_sprintf(id, "%L%Z", reply->integer);
    (void) ngx_sprintf(prefix, "%V%s%Z", channel->prefix, RBGV_KEY);

    ngx_http_rbgv_auth_channel_command(channel,
                                       ngx_http_rbgv_auth_channel_tracking,
                                       8, tracking);
    ngx_http_rbgv_auth_channel_command(channel,
                                       ngx_http_rbgv_auth_channel_subscribed,
                                       2, subscribe);
}


static void
ngx_http_rbgv_auth_channel_tracking(void *data, ngx_rbgv_redis_reply_t *reply)
{
    (void) ngx_http_rbgv_auth_channel_refused(data, reply, "CLIENT TRACKING");
}


static void
ngx_http_rbgv_auth_channel_subscribed(void *data,
    ngx_rbgv_redis_reply_t *reply)
{
    ngx_http_rbgv_auth_channel_t *channel = data;

    if (ngx_http_rbgv_auth_channel_refused(channel, reply, "SUBSCRIBE")) {
        return;
    }

    channel->listening = 1;
    channel->since = ngx_http_rbgv_auth_now();

    ngx_http_rbgv_auth_channel_ping(channel);
}


static void
ngx_http_rbgv_auth_channel_ping(ngx_http_rbgv_auth_channel_t *channel)
{
    const char  *argv[] = { "PING" };

    channel->asked = ngx_http_rbgv_auth_now();

    ngx_http_rbgv_auth_channel_command(channel,
                                       ngx_http_rbgv_auth_channel_pong,
                                       1, argv);
}


/* replies are in order: what changed before the PING has been told */

static void
ngx_http_rbgv_auth_channel_pong(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_http_rbgv_auth_channel_t *channel = data;

    if (ngx_http_rbgv_auth_channel_refused(channel, reply, "PING")) {
        return;
    }

    ngx_http_rbgv_auth_zone_proven(channel->zone, channel->store->index,
                                   channel->since, channel->asked);
    channel->asked = 0;
}


/* the payload is a list of keys, or nil: everything, as after FLUSHALL */

static void
ngx_http_rbgv_auth_channel_message(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_http_rbgv_auth_channel_t *channel = data;

    ngx_uint_t               i;
    ngx_rbgv_redis_reply_t  *keys;

    keys = reply->elts[2];

    if (keys->type != NGX_RBGV_REDIS_ARRAY) {
        ngx_http_rbgv_auth_zone_flush(channel->zone, channel->store->index);
        channel->store->verified = 0;
        return;
    }

    for (i = 0; i < keys->nelts; i++) {
        if (keys->elts[i]->type == NGX_RBGV_REDIS_STRING) {
            ngx_http_rbgv_auth_channel_invalidate(channel,
                                                  &keys->elts[i]->str);
        }
    }
}


/* <prefix>key:{<id>} */

static void
ngx_http_rbgv_auth_channel_invalidate(ngx_http_rbgv_auth_channel_t *channel,
    ngx_str_t *name)
{
    size_t                      skip;
    ngx_http_rbgv_auth_place_t  place;

    skip = channel->prefix->len + sizeof(RBGV_KEY "{") - 1;

    if (name->len != skip + RBGV_ID_LEN + 1) {
        return;
    }

    place.store = channel->store->index;
    ngx_memcpy(place.id, name->data + skip, RBGV_ID_LEN);

    ngx_http_rbgv_auth_zone_invalidate(channel->zone, &place);
}


static void
ngx_http_rbgv_auth_channel_lost(void *data)
{
    ngx_http_rbgv_auth_channel_t *channel = data;

    channel->listening = 0;
    channel->asked = 0;
    channel->store->verified = 0;
}


/*
 * A last PING proves what was told until the next workers listen, so that
 * they may go on with the zone as it is.
 */

static void
ngx_http_rbgv_auth_channel_quit(void *data)
{
    ngx_http_rbgv_auth_channel_t *channel = data;

    if (channel->listening) {
        ngx_http_rbgv_auth_channel_ping(channel);
    }
}


static void
ngx_http_rbgv_auth_channel_failed(void *data,
    ngx_rbgv_redis_failure_e failure)
{
    ngx_http_rbgv_auth_channel_t *channel = data;

    ngx_http_rbgv_auth_tally_error(channel->store, (ngx_uint_t) failure);
}


static void
ngx_http_rbgv_auth_channel_command(ngx_http_rbgv_auth_channel_t *channel,
    ngx_rbgv_redis_handler_pt handler, ngx_uint_t argc, const char **argv)
{
    size_t      argvlen[8];
    ngx_uint_t  i;

    for (i = 0; i < argc; i++) {
        argvlen[i] = ngx_strlen(argv[i]);
    }

    if (ngx_rbgv_redis_command(channel->redis,
                               ngx_current_msec + NGX_HTTP_RBGV_AUTH_TRUST,
                               handler, channel, argc, argv, argvlen)
        != NGX_OK)
    {
        ngx_rbgv_redis_fail(channel->redis, NGX_RBGV_REDIS_LOST);
    }
}


static ngx_uint_t
ngx_http_rbgv_auth_channel_refused(ngx_http_rbgv_auth_channel_t *channel,
    ngx_rbgv_redis_reply_t *reply, const char *command)
{
    if (reply == NULL) {
        return 1;
    }

    if (reply->type != NGX_RBGV_REDIS_ERROR) {
        return 0;
    }

    if (!ngx_http_rbgv_auth_told(channel->store, command, &reply->str)) {
        ngx_log_error(NGX_LOG_CRIT, ngx_cycle->log, 0,
                      "rbgv_auth: redis \"%V\" refused \"%s\": \"%V\", keys "
                      "are not kept and every request asks redis",
                      &channel->store->conf->name, command, &reply->str);
    }

    ngx_rbgv_redis_fail(channel->redis, NGX_RBGV_REDIS_NO_LOGIN);

    return 1;
}
