
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Replies of Redis: the same bytes in any parts are the same replies, and no
 * more memory is taken than the configuration allows.
 */


#include "../../src/ngx_rbgv_redis.c"

#include "fuzz.h"


#define FUZZ_ELEMENTS  64
#define FUZZ_REPLY     4096            /* bytes */
#define FUZZ_DEPTH     16


/* what has come, as text */

typedef struct {
    ngx_rbgv_redis_t      *redis;
    char                  *text;
    size_t                 len;
    size_t                 size;
} fuzz_replies_t;


static void fuzz_read(const uint8_t *data, size_t size, uint32_t parts,
    fuzz_replies_t *replies);
static size_t fuzz_part(uint32_t *parts, size_t left);
static void fuzz_message(void *data, ngx_rbgv_redis_reply_t *reply);
static void fuzz_handler(void *data, ngx_rbgv_redis_reply_t *reply);
static void fuzz_wait(fuzz_replies_t *replies);
static void fuzz_write(fuzz_replies_t *replies, ngx_rbgv_redis_reply_t *reply,
    unsigned depth);
static int fuzz_same(const fuzz_replies_t *one, const fuzz_replies_t *two);
static void fuzz_add(fuzz_replies_t *replies, const void *data, size_t size);


static ngx_rbgv_redis_conf_t  fuzz_conf = {
    .max_pending = 1,
    .max_elements = FUZZ_ELEMENTS,
    .max_reply = FUZZ_REPLY
};

static const ngx_rbgv_redis_events_t  fuzz_events = {
    .message = fuzz_message
};


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t          i;
    uint32_t        parts;
    fuzz_replies_t  whole, bytes, some;

    for (i = 0, parts = 1; i < size; i++) {
        parts = parts * 31 + data[i];
    }

    fuzz_read(data, size, 0, &whole);
    fuzz_read(data, size, 1, &bytes);
    fuzz_read(data, size, parts | 2, &some);

    fuzz_check(fuzz_same(&whole, &bytes),
               "replies that come by the byte are the same");
    fuzz_check(fuzz_same(&whole, &some),
               "replies that come in parts are the same");

    free(whole.text);
    free(bytes.text);
    free(some.text);

    return 0;
}


/* parts: 0 all at once, 1 by the byte, else of random sizes */

static void
fuzz_read(const uint8_t *data, size_t size, uint32_t parts,
    fuzz_replies_t *replies)
{
    char              *part;
    size_t             n;
    ngx_int_t          rc;
    ngx_log_t          log;
    ngx_rbgv_redis_t  *redis;

    memset(&log, 0, sizeof(log));
    memset(replies, 0, sizeof(fuzz_replies_t));

    redis = ngx_rbgv_redis_create(&fuzz_conf, &log);
    redis->reader = redisReaderCreateWithFunctions(
                                             &ngx_rbgv_redis_reply_functions);
    redis->reader->privdata = redis;

#ifdef REDIS_READER_MAX_ARRAY_ELEMENTS
    redis->reader->maxelements = redis->conf->max_elements;
#endif

    ngx_rbgv_redis_watch(redis, &fuzz_events, replies);

    replies->redis = redis;
    fuzz_wait(replies);

    for (rc = NGX_OK; size && rc == NGX_OK; data += n, size -= n) {
        n = parts ? fuzz_part(&parts, size)
                  : ngx_min(size, NGX_RBGV_REDIS_READ_SIZE);

        part = fuzz_copy(data, n);
        rc = redisReaderFeed(redis->reader, part, n) == REDIS_OK
             ? ngx_rbgv_redis_process(redis) : NGX_ERROR;
        free(part);

        fuzz_check(redis->size <= FUZZ_REPLY, "a reply is no larger");
        fuzz_check(rc != NGX_OK
                   || redis->reader->len - redis->reader->pos <= FUZZ_REPLY,
                   "no more is kept of what has come");
    }

    redisReaderFree(redis->reader);
    redis->reader = NULL;

    ngx_destroy_pool(redis->replies);
    ngx_destroy_pool(redis->pool);
}


static size_t
fuzz_part(uint32_t *parts, size_t left)
{
    size_t  n;

    if (*parts == 1) {
        return 1;
    }

    *parts = *parts * 1664525 + 1013904223;
    n = 1 + (*parts >> 24) % 32;

    *parts |= 2;

    return ngx_min(n, left);
}


static void
fuzz_message(void *data, ngx_rbgv_redis_reply_t *reply)
{
    fuzz_replies_t *replies = data;

    fuzz_add(replies, "message", 7);
    fuzz_write(replies, reply, 0);
}


static void
fuzz_handler(void *data, ngx_rbgv_redis_reply_t *reply)
{
    fuzz_replies_t *replies = data;

    fuzz_write(replies, reply, 0);
    fuzz_wait(replies);
}


/* a command is always pending */

static void
fuzz_wait(fuzz_replies_t *replies)
{
    ngx_queue_t          *q;
    ngx_rbgv_redis_t     *redis;
    ngx_rbgv_redis_op_t  *op;

    redis = replies->redis;

    if (ngx_queue_empty(&redis->free)) {
        op = ngx_pcalloc(redis->pool, sizeof(ngx_rbgv_redis_op_t));

    } else {
        q = ngx_queue_head(&redis->free);
        ngx_queue_remove(q);
        op = ngx_queue_data(q, ngx_rbgv_redis_op_t, queue);
    }

    op->handler = fuzz_handler;
    op->data = replies;

    ngx_queue_insert_tail(&redis->pending, &op->queue);
    redis->npending++;
}


static void
fuzz_write(fuzz_replies_t *replies, ngx_rbgv_redis_reply_t *reply,
    unsigned depth)
{
    ngx_uint_t  i;

    fuzz_check(reply != NULL && depth < FUZZ_DEPTH, "a reply is whole");

    fuzz_add(replies, &reply->type, sizeof(reply->type));
    fuzz_add(replies, &reply->integer, sizeof(reply->integer));
    fuzz_add(replies, &reply->nelts, sizeof(reply->nelts));
    fuzz_add(replies, &reply->str.len, sizeof(reply->str.len));

    if (reply->str.len) {
        fuzz_add(replies, reply->str.data, reply->str.len);
    }

    for (i = 0; i < reply->nelts; i++) {
        fuzz_write(replies, reply->elts[i], depth + 1);
    }
}


static void
fuzz_add(fuzz_replies_t *replies, const void *data, size_t size)
{
    if (replies->size - replies->len < size) {
        replies->size = (replies->size + size) * 2;
        replies->text = realloc(replies->text, replies->size);
        fuzz_check(replies->text != NULL, "memory");
    }

    memcpy(replies->text + replies->len, data, size);
    replies->len += size;
}


static int
fuzz_same(const fuzz_replies_t *one, const fuzz_replies_t *two)
{
    return one->len == two->len
           && (one->len == 0 || memcmp(one->text, two->text, one->len) == 0);
}
