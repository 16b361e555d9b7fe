
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Pages of the index.  They go by score, not by rank: a key deleted meanwhile
 * moves the ranks of all behind it, and one of them would be skipped.
 */


#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rbgv_admin.h"


#define RBGV_CURSOR_DIGITS  20


void
rbgv_cursor_start(rbgv_cursor_t *cursor)
{
    strcpy(cursor->score, "-inf");
    cursor->seen = 0;
    cursor->count = 0;
}


void
rbgv_cursor_command(rbgv_admin_t *op, const rbgv_cursor_t *cursor,
    size_t limit)
{
    rbgv_admin_command(op, "ZRANGE");
    rbgv_admin_arg(op, "%s" RBGV_KEYS, op->prefix);
    rbgv_admin_arg(op, "%s", cursor->score);
    rbgv_admin_arg(op, "+inf");
    rbgv_admin_arg(op, "BYSCORE");
    rbgv_admin_arg(op, "LIMIT");
    rbgv_admin_arg(op, "%zu", cursor->seen);
    rbgv_admin_arg(op, "%zu", limit);
    rbgv_admin_arg(op, "WITHSCORES");
}


size_t
rbgv_cursor_ids(rbgv_cursor_t *cursor, const redisReply *page,
    const char **ids, size_t limit)
{
    size_t             i, n;
    const redisReply  *id, *score;

    n = 0;
    cursor->count = page->elements / 2;

    for (i = 0; i < cursor->count && i < limit; i++) {
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


void
rbgv_cursor_text(const rbgv_cursor_t *cursor, char text[RBGV_CURSOR_SIZE])
{
    (void) snprintf(text, RBGV_CURSOR_SIZE, "%s:%zu", cursor->score,
                    cursor->seen);
}


int
rbgv_cursor_parse(rbgv_cursor_t *cursor, const char *text)
{
    size_t  len, digits;

    len = strspn(text, "0123456789.");

    if (len == 0 || len > RBGV_CURSOR_DIGITS || text[len] != ':') {
        return -1;
    }

    digits = strspn(text + len + 1, "0123456789");

    if (digits == 0 || digits > 9 || text[len + 1 + digits] != '\0') {
        return -1;
    }

    (void) snprintf(cursor->score, sizeof(cursor->score), "%.*s", (int) len,
                    text);
    cursor->seen = strtoul(text + len + 1, NULL, 10);
    cursor->count = 0;

    return 0;
}
