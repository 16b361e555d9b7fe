
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: a walk over all keys, in bounded memory.
 */


#include <string.h>

#include "rbgvctl.h"


#define RBGVCTL_PAGE  1000


static int rbgvctl_walk_page(rbgvctl_t *ctl, rbgv_cursor_t *cursor,
    rbgvctl_walk_pt handler, void *data);
static int rbgvctl_walk_batch(rbgvctl_t *ctl, const char *const *ids,
    size_t n, rbgvctl_walk_pt handler, void *data);


int
rbgvctl_walk(rbgvctl_t *ctl, rbgvctl_walk_pt handler, void *data)
{
    int            rc;
    rbgv_cursor_t  cursor;

    rc = rbgvctl_store_time(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rbgv_cursor_start(&cursor);

    do {
        rc = rbgvctl_walk_page(ctl, &cursor, handler, data);
    } while (rc == RBGVCTL_OK && cursor.count == RBGVCTL_PAGE);

    return rc;
}


static int
rbgvctl_walk_page(rbgvctl_t *ctl, rbgv_cursor_t *cursor,
    rbgvctl_walk_pt handler, void *data)
{
    int            rc;
    size_t         n;
    redisReply    *page;
    const char    *ids[RBGVCTL_PAGE];
    rbgv_admin_t   op;

    rbgvctl_op_init(ctl, &op, NULL);
    rbgv_cursor_command(&op, cursor, RBGVCTL_PAGE);

    page = rbgvctl_op_reply(ctl, &op, REDIS_REPLY_ARRAY);

    if (page == NULL) {
        return RBGVCTL_STORE;
    }

    if (!rbgv_reply_strings(page)) {
        rc = rbgvctl_error(RBGVCTL_STORE, "the index in the store at %s is "
                           "not of this schema", ctl->server);

    } else {
        n = rbgv_cursor_ids(cursor, page, ids, RBGVCTL_PAGE);
        rc = rbgvctl_walk_ids(ctl, ids, n, handler, data);
    }

    freeReplyObject(page);

    return rc;
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
    rbgv_record_t  keys[RBGVCTL_BATCH];

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
