
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "ngx_rbgv_sentinel.h"


#define NGX_RBGV_SENTINEL_PERIOD   1000      /* milliseconds */
#define NGX_RBGV_SENTINEL_CHANNEL  "+switch-master"


struct ngx_rbgv_sentinel_s {
    ngx_rbgv_sentinel_conf_t   *conf;
    ngx_rbgv_name_handler_pt    handler;
    void                       *data;

    ngx_uint_t                  ident;       /* where a timer's data has fd */

    ngx_log_t                  *log;
    ngx_event_t                 timer;
    ngx_rbgv_redis_t           *redis;

    size_t                      len;         /* of the address told last */
    u_char                      addr[NGX_SOCKADDR_STRLEN];

    unsigned                    ready:1;
    unsigned                    asking:1;
    unsigned                    complained:1;
};


static void ngx_rbgv_sentinel_tick(ngx_event_t *ev);
static void ngx_rbgv_sentinel_ready(void *data);
static void ngx_rbgv_sentinel_lost(void *data);
static void ngx_rbgv_sentinel_question(ngx_rbgv_sentinel_t *sentinel);
static ngx_int_t ngx_rbgv_sentinel_command(ngx_rbgv_sentinel_t *sentinel,
    ngx_rbgv_redis_handler_pt handler, ngx_uint_t argc, const char **argv);
static void ngx_rbgv_sentinel_unsubscribed(void *data,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_rbgv_sentinel_answer(void *data,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_rbgv_sentinel_subscribed(void *data,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_rbgv_sentinel_message(void *data,
    ngx_rbgv_redis_reply_t *reply);
static void ngx_rbgv_sentinel_told(ngx_rbgv_sentinel_t *sentinel,
    ngx_str_t *host, ngx_str_t *port);
static ngx_int_t ngx_rbgv_sentinel_addr(ngx_pool_t *pool, ngx_str_t *host,
    ngx_str_t *port, ngx_addr_t *addr);
static void ngx_rbgv_sentinel_complain(ngx_rbgv_sentinel_t *sentinel,
    const char *what, ngx_str_t *text);


static const ngx_rbgv_redis_events_t  ngx_rbgv_sentinel_events = {
    ngx_rbgv_sentinel_ready,
    ngx_rbgv_sentinel_lost,
    ngx_rbgv_sentinel_message,
    NULL,
    NULL,
    NULL
};


ngx_rbgv_sentinel_t *
ngx_rbgv_sentinel_create(ngx_rbgv_sentinel_conf_t *conf,
    ngx_rbgv_name_handler_pt handler, void *data, ngx_log_t *log)
{
    ngx_rbgv_sentinel_t  *sentinel;

    sentinel = ngx_calloc(sizeof(ngx_rbgv_sentinel_t), log);
    if (sentinel == NULL) {
        return NULL;
    }

    sentinel->conf = conf;
    sentinel->handler = handler;
    sentinel->data = data;
    sentinel->ident = (ngx_uint_t) -1;
    sentinel->log = log;

    sentinel->redis = ngx_rbgv_redis_create(&conf->redis, log);
    if (sentinel->redis == NULL) {
        ngx_free(sentinel);
        return NULL;
    }

    ngx_rbgv_redis_watch(sentinel->redis, &ngx_rbgv_sentinel_events,
                         sentinel);

    sentinel->timer.handler = ngx_rbgv_sentinel_tick;
    sentinel->timer.data = sentinel;
    sentinel->timer.log = log;
    sentinel->timer.cancelable = 1;

    ngx_rbgv_sentinel_ask(sentinel);

    return sentinel;
}


/* never at once: the caller may be in the middle of what has failed */

void
ngx_rbgv_sentinel_ask(ngx_rbgv_sentinel_t *sentinel)
{
    ngx_add_timer(&sentinel->timer, 1);
}


void
ngx_rbgv_sentinel_destroy(ngx_rbgv_sentinel_t *sentinel)
{
    if (sentinel->timer.timer_set) {
        ngx_del_timer(&sentinel->timer);
    }

    ngx_rbgv_redis_destroy(sentinel->redis);
    ngx_free(sentinel);
}


static void
ngx_rbgv_sentinel_tick(ngx_event_t *ev)
{
    ngx_rbgv_sentinel_t *sentinel = ev->data;

    if (ngx_exiting) {
        return;
    }

    ngx_add_timer(ev, NGX_RBGV_SENTINEL_PERIOD);

    if (!sentinel->ready) {
        (void) ngx_rbgv_redis_open(sentinel->redis);

    } else if (!sentinel->asking) {
        ngx_rbgv_sentinel_question(sentinel);
    }
}


static void
ngx_rbgv_sentinel_ready(void *data)
{
    ngx_rbgv_sentinel_t *sentinel = data;

    sentinel->ready = 1;

    ngx_rbgv_sentinel_question(sentinel);
}


static void
ngx_rbgv_sentinel_lost(void *data)
{
    ngx_rbgv_sentinel_t *sentinel = data;

    sentinel->ready = 0;
    sentinel->asking = 0;
}


/*
 * A subscribed connection takes no other commands (RESP2), so it is not
 * subscribed for a moment.  A Sentinel reads the three at once: whatever
 * switches afterwards is told.
 */

static void
ngx_rbgv_sentinel_question(ngx_rbgv_sentinel_t *sentinel)
{
    const char  *subscribe[] = { "SUBSCRIBE", NGX_RBGV_SENTINEL_CHANNEL };
    const char  *unsubscribe[] = { "UNSUBSCRIBE", NGX_RBGV_SENTINEL_CHANNEL };
    const char  *ask[] = { "SENTINEL", "GET-MASTER-ADDR-BY-NAME",
                           (const char *) sentinel->conf->master.data };

    sentinel->asking = 1;

    if (ngx_rbgv_sentinel_command(sentinel, ngx_rbgv_sentinel_unsubscribed,
                                  2, unsubscribe)
        != NGX_OK
        || ngx_rbgv_sentinel_command(sentinel, ngx_rbgv_sentinel_answer,
                                     3, ask)
           != NGX_OK
        || ngx_rbgv_sentinel_command(sentinel, ngx_rbgv_sentinel_subscribed,
                                     2, subscribe)
           != NGX_OK)
    {
        ngx_rbgv_redis_fail(sentinel->redis, NGX_RBGV_REDIS_LOST);
    }
}


static ngx_int_t
ngx_rbgv_sentinel_command(ngx_rbgv_sentinel_t *sentinel,
    ngx_rbgv_redis_handler_pt handler, ngx_uint_t argc, const char **argv)
{
    size_t      argvlen[3];
    ngx_uint_t  i;

    for (i = 0; i < argc; i++) {
        argvlen[i] = ngx_strlen(argv[i]);
    }

    return ngx_rbgv_redis_command(sentinel->redis,
                                  ngx_current_msec + NGX_RBGV_SENTINEL_PERIOD,
                                  handler, sentinel, argc, argv, argvlen);
}


static void
ngx_rbgv_sentinel_unsubscribed(void *data, ngx_rbgv_redis_reply_t *reply)
{
    /* what it may not do, SUBSCRIBE says as well */
    (void) data;
    (void) reply;
}


static void
ngx_rbgv_sentinel_answer(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_rbgv_sentinel_t *sentinel = data;

    if (reply == NULL) {
        return;
    }

    if (reply->type == NGX_RBGV_REDIS_ARRAY
        && reply->nelts == 2
        && reply->elts[0]->type == NGX_RBGV_REDIS_STRING
        && reply->elts[1]->type == NGX_RBGV_REDIS_STRING)
    {
        ngx_rbgv_sentinel_told(sentinel, &reply->elts[0]->str,
                               &reply->elts[1]->str);
        return;
    }

    if (reply->type == NGX_RBGV_REDIS_ERROR) {
        ngx_rbgv_sentinel_complain(sentinel, "does not answer: ",
                                   &reply->str);

    } else {
        ngx_rbgv_sentinel_complain(sentinel, "does not know the master ",
                                   &sentinel->conf->master);
    }

    ngx_rbgv_redis_leave(sentinel->redis);
}


/* without a subscription there is the question of each second */

static void
ngx_rbgv_sentinel_subscribed(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_rbgv_sentinel_t *sentinel = data;

    sentinel->asking = 0;

    if (reply && reply->type == NGX_RBGV_REDIS_ERROR) {
        ngx_rbgv_sentinel_complain(sentinel, "does not tell of switches: ",
                                   &reply->str);
    }
}


/* name, old host, old port, new host, new port */

static void
ngx_rbgv_sentinel_message(void *data, ngx_rbgv_redis_reply_t *reply)
{
    ngx_rbgv_sentinel_t *sentinel = data;

    u_char      *p, *last;
    ngx_str_t   *text, words[5];
    ngx_uint_t   n;

    text = &reply->elts[2]->str;

    if (reply->elts[2]->type != NGX_RBGV_REDIS_STRING) {
        return;
    }

    p = text->data;
    last = text->data + text->len;

    for (n = 0; n < 5 && p < last; n++) {
        words[n].data = p;

        while (p < last && *p != ' ') {
            p++;
        }

        words[n].len = p++ - words[n].data;
    }

    if (n == 5
        && words[0].len == sentinel->conf->master.len
        && ngx_memcmp(words[0].data, sentinel->conf->master.data,
                      words[0].len)
           == 0)
    {
        ngx_rbgv_sentinel_told(sentinel, &words[3], &words[4]);
    }
}


static void
ngx_rbgv_sentinel_told(ngx_rbgv_sentinel_t *sentinel, ngx_str_t *host,
    ngx_str_t *port)
{
    ngx_addr_t   addr;
    ngx_pool_t  *pool;

    pool = ngx_create_pool(512, sentinel->log);
    if (pool == NULL) {
        return;
    }

    if (ngx_rbgv_sentinel_addr(pool, host, port, &addr) != NGX_OK) {
        ngx_rbgv_sentinel_complain(sentinel, "does not give an address but ",
                                   host);
        goto done;
    }

    sentinel->complained = 0;

    if (addr.name.len == sentinel->len
        && ngx_memcmp(addr.name.data, sentinel->addr, sentinel->len) == 0)
    {
        goto done;
    }

    sentinel->len = addr.name.len;
    ngx_memcpy(sentinel->addr, addr.name.data, addr.name.len);

    ngx_log_error(NGX_LOG_NOTICE, sentinel->log, 0,
                  "rbgv_auth: the master \"%V\" is %V",
                  &sentinel->conf->master, &addr.name);

    sentinel->handler(sentinel->data, &addr, 1);

done:

    ngx_destroy_pool(pool);
}


static ngx_int_t
ngx_rbgv_sentinel_addr(ngx_pool_t *pool, ngx_str_t *host, ngx_str_t *port,
    ngx_addr_t *addr)
{
    u_char     *text;
    ngx_int_t   n;

    n = ngx_atoi(port->data, port->len);

    if (n < 1 || n > 65535
        || ngx_parse_addr(pool, addr, host->data, host->len) != NGX_OK)
    {
        return NGX_ERROR;
    }

    text = ngx_pnalloc(pool, NGX_SOCKADDR_STRLEN);
    if (text == NULL) {
        return NGX_ERROR;
    }

    ngx_inet_set_port(addr->sockaddr, (in_port_t) n);

    addr->name.data = text;
    addr->name.len = ngx_sock_ntop(addr->sockaddr, addr->socklen, text,
                                   NGX_SOCKADDR_STRLEN, 1);

    return NGX_OK;
}


/* one line, until an answer is good */

static void
ngx_rbgv_sentinel_complain(ngx_rbgv_sentinel_t *sentinel, const char *what,
    ngx_str_t *text)
{
    if (!sentinel->complained) {
        ngx_log_error(NGX_LOG_CRIT, sentinel->log, 0,
                      "rbgv_auth: sentinel %V %s\"%V\"",
                      &ngx_rbgv_redis_addr(sentinel->redis)->name, what, text);
        sentinel->complained = 1;
    }
}
