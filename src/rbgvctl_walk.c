
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: a walk over all keys, in bounded memory.
 */


#include <stdio.h>
#include <string.h>

#include "rbgvctl.h"


#define RBGVCTL_PAGE  1000


/* the next page starts at a score, behind the ids of it that were seen */

typedef struct {
    char            score[32];
    size_t          seen;
    size_t          count;             /* ids of the last page */
} rbgvctl_cursor_t;


static int rbgvctl_walk_page(rbgvctl_t *ctl, rbgvctl_cursor_t *cursor,
    rbgvctl_walk_pt handler, void *data);
static size_t rbgvctl_walk_page_ids(rbgvctl_cursor_t *cursor,
    const redisReply *page, const char **ids);
static int rbgvctl_walk_batch(rbgvctl_t *ctl, const char *const *ids,
    size_t n, rbgvctl_walk_pt handler, void *data);


int
rbgvctl_walk(rbgvctl_t *ctl, rbgvctl_walk_pt handler, void *data)
{
    int               rc;
    rbgvctl_cursor_t  cursor;

    rc = rbgvctl_store_time(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    strcpy(cursor.score, "-inf");
    cursor.seen = 0;

    do {
        rc = rbgvctl_walk_page(ctl, &cursor, handler, data);
    } while (rc == RBGVCTL_OK && cursor.count == RBGVCTL_PAGE);

    return rc;
}


/*
 * Pages go by score, not by rank: a key deleted meanwhile moves the ranks of
 * all behind it, and one of them would be skipped.
 */

static int
rbgvctl_walk_page(rbgvctl_t *ctl, rbgvctl_cursor_t *cursor,
    rbgvctl_walk_pt handler, void *data)
{
    int          rc;
    size_t       n;
    redisReply  *page;
    const char  *ids[RBGVCTL_PAGE];

    page = rbgvctl_store_command(ctl, REDIS_REPLY_ARRAY, "ZRANGE %s"
                                 RBGV_KEYS " %s +inf BYSCORE LIMIT %u %d "
                                 "WITHSCORES", ctl->prefix, cursor->score,
                                 (unsigned) cursor->seen, RBGVCTL_PAGE);
    if (page == NULL) {
        return RBGVCTL_STORE;
    }

    if (!rbgvctl_reply_strings(page)) {
        rc = rbgvctl_error(RBGVCTL_STORE, "the index in the store at %s is "
                           "not of this schema", ctl->server);

    } else {
        n = rbgvctl_walk_page_ids(cursor, page, ids);
        rc = rbgvctl_walk_ids(ctl, ids, n, handler, data);
    }

    freeReplyObject(page);

    return rc;
}


static size_t
rbgvctl_walk_page_ids(rbgvctl_cursor_t *cursor, const redisReply *page,
    const char **ids)
{
    size_t             i, n;
    const redisReply  *id, *score;

    n = 0;
    cursor->count = page->elements / 2;

    for (i = 0; i < cursor->count && i < RBGVCTL_PAGE; i++) {
        id = page->element[2 * i];
        score = page->element[2 * i + 1];

        if (strcmp(cursor->score, score->str) != 0) {
            (void) snprintf(cursor->score, sizeof(cursor->score), "%s",
                            score->str);
            cursor->seen = 0;
        }

        cursor->seen++;

        if (rbgv_id_valid(id->str, id->len)) {
            ids[n++] = id->str;
        }
    }

    return n;
}


int
rbgvctl_walk_ids(rbgvctl_t *ctl, const char *const *ids, size_t n,
    rbgvctl_walk_pt handler, void *data)
{
    int     rc;
    size_t  i, size;

    rc = RBGVCTL_OK;

    for (i = 0; rc == RBGVCTL_OK && i < n; i += size) {
        size = n - i < RBGVCTL_BATCH ? n - i : RBGVCTL_BATCH;

        rc = rbgvctl_walk_batch(ctl, ids + i, size, handler, data);
    }

    return rc;
}


static int
rbgvctl_walk_batch(rbgvctl_t *ctl, const char *const *ids, size_t n,
    rbgvctl_walk_pt handler, void *data)
{
    int            rc;
    size_t         i, found;
    rbgvctl_key_t  keys[RBGVCTL_BATCH];

    memset(keys, 0, sizeof(keys));

    for (i = 0; i < n; i++) {
        keys[i].id = ids[i];
    }

    rc = rbgvctl_keys_fields(ctl, keys, n);

    /* an id may be listed before its key is written */

    for (i = 0, found = 0; i < n; i++) {
        if (keys[i].fields != NULL) {
            keys[found++] = keys[i];
        }
    }

    if (rc == RBGVCTL_OK) {
        rc = handler(ctl, data, keys, found);
    }

    rbgvctl_keys_free(keys, found);

    return rc;
}
