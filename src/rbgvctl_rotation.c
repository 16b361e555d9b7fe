
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: rotation.
 */


#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <libsmartcols/libsmartcols.h>

#include "rbgvctl.h"


#define RBGVCTL_BAR_WIDTH   32
#define RBGVCTL_BAR_SIZE    (RBGVCTL_BAR_WIDTH * sizeof("\u2588"))


static int rbgvctl_rotation_show(rbgvctl_t *ctl, void *data,
    const char *arg);
static int rbgvctl_rotation_look(rbgvctl_t *ctl, rbgv_watch_t *watch);
static int rbgvctl_rotation_read(rbgvctl_t *ctl, rbgv_watch_t *watch);

static int rbgvctl_rotation_print(const rbgv_watch_t *watch);
static struct libscols_table *rbgvctl_rotation_table(
    const rbgv_watch_t *watch, int bars);
static void rbgvctl_rotation_row(const rbgv_watch_t *watch,
    struct libscols_table *table, size_t hour, int64_t most);
static void rbgvctl_rotation_bar(int64_t old, int64_t fresh, int64_t most,
    char text[RBGVCTL_BAR_SIZE]);
static void rbgvctl_rotation_words(const rbgv_watch_t *watch);
static void rbgvctl_rotation_not_yet(const rbgv_watch_t *watch,
    const char *until);


const rbgvctl_command_t  rbgvctl_rotation_command = {
    "rotation", "ID",
    "Tell whether the old secret of a key is still in use",
    "Examples:\n"
    "  rbgvctl rotation V1StGXR8aBc4\n"
    "  rbgvctl rotation V1StGXR8aBc4 --json\n",
    NULL,
    0,
    rbgvctl_rotation_show
};


static int
rbgvctl_rotation_show(rbgvctl_t *ctl, void *data, const char *arg)
{
    int           rc;
    rbgv_watch_t  watch;

    (void) data;

    rc = rbgvctl_id_check(arg);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_store_open(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    memset(&watch, 0, sizeof(rbgv_watch_t));
    watch.key.id = arg;

    rc = rbgvctl_rotation_read(ctl, &watch);

    if (rc == RBGVCTL_OK) {
        rc = ctl->json ? rbgvctl_print_json(rbgv_json_watch(&watch))
                       : rbgvctl_rotation_print(&watch);
    }

    rbgvctl_keys_free(&watch.key, 1);

    return rc;
}


static int
rbgvctl_rotation_look(rbgvctl_t *ctl, rbgv_watch_t *watch)
{
    int           rc;
    rbgv_admin_t  op;

    rbgvctl_op_init(ctl, &op, watch->key.id);
    rbgv_admin_rotation(&op);

    rc = rbgvctl_op_run(ctl, &op);

    watch->rotation = op.rotation;

    rbgv_admin_free(&op);

    return rc;
}


static int
rbgvctl_rotation_read(rbgvctl_t *ctl, rbgv_watch_t *watch)
{
    int          rc;
    redisReply  *counters;

    rc = rbgvctl_rotation_look(ctl, watch);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_keys_fetch(ctl, &watch->key, 1);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    if (watch->key.fields == NULL) {
        return rbgvctl_not_found(ctl, watch->key.id);
    }

    counters = rbgvctl_store_command(ctl, REDIS_REPLY_ARRAY, "HGETALL %s"
                                     RBGV_USE RBGV_TAG, ctl->prefix,
                                     watch->key.id);
    if (counters == NULL) {
        return RBGVCTL_STORE;
    }

    rbgv_watch_read(watch, counters);

    freeReplyObject(counters);

    return RBGVCTL_OK;
}


static int
rbgvctl_rotation_print(const rbgv_watch_t *watch)
{
    int                     rc, bars;
    size_t                  i;
    int64_t                 n, most;
    struct libscols_table  *table;

    bars = rbgvctl_terminal();

    table = rbgvctl_rotation_table(watch, bars);
    if (table == NULL) {
        return rbgvctl_error(RBGVCTL_REFUSED, "out of memory");
    }

    most = 1;

    for (i = 0; i < watch->nhours; i++) {
        n = rbgv_watch_hour(watch, i, 1)
            + rbgv_watch_hour(watch, i, 0);

        most = n > most ? n : most;
    }

    for (i = 0; i < watch->nhours; i++) {
        rbgvctl_rotation_row(watch, table, i, bars ? most : 0);
    }

    rc = rbgvctl_table_print(table);

    scols_unref_table(table);

    if (rc == RBGVCTL_OK) {
        rbgvctl_rotation_words(watch);
    }

    return rc;
}


static struct libscols_table *
rbgvctl_rotation_table(const rbgv_watch_t *watch, int bars)
{
    char                    names[RBGV_SECRETS_MAX][32];
    size_t                  i, n;
    const char             *columns[RBGV_SECRETS_MAX + 3];
    struct libscols_table  *table;

    n = 0;
    columns[n++] = "HOUR";

    for (i = 0; i < watch->nsecrets; i++) {
        (void) snprintf(names[i], sizeof(names[i]), "%s %s",
                        rbgv_watch_is_old(watch, i) ? "OLD" : "NEW",
                        watch->key.secrets[i].digest);
        columns[n++] = names[i];
    }

    if (bars) {
        columns[n++] = rbgvctl_utf8() ? "\u2588 OLD  \u2591 NEW"
                                      : "# OLD  . NEW";
    }

    columns[n] = NULL;

    table = rbgvctl_table(columns);

    for (i = 0; table != NULL && i < watch->nsecrets; i++) {
        (void) scols_column_set_flags(scols_table_get_column(table, i + 1),
                                      SCOLS_FL_RIGHT);
    }

    return table;
}


/* most: uses for which a bar is of full width; 0: no bars */

static void
rbgvctl_rotation_row(const rbgv_watch_t *watch,
    struct libscols_table *table, size_t hour, int64_t most)
{
    char                   text[RBGV_TIME_SIZE], bar[RBGVCTL_BAR_SIZE];
    size_t                 i;
    struct libscols_line  *line;

    line = scols_table_new_line(table, NULL);
    if (line == NULL) {
        return;
    }

    rbgv_time((watch->first + hour) * RBGV_HOUR, RBGVCTL_MINUTE, text);
    (void) scols_line_set_data(line, 0, text);

    for (i = 0; i < watch->nsecrets; i++) {
        (void) snprintf(text, sizeof(text), "%" PRId64, watch->uses[hour][i]);
        (void) scols_line_set_data(line, i + 1, text);
    }

    if (most > 0) {
        rbgvctl_rotation_bar(rbgv_watch_hour(watch, hour, 1),
                             rbgv_watch_hour(watch, hour, 0), most,
                             bar);
        (void) scols_line_set_data(line, i + 1, bar);
    }
}


/* one use of the old secret is seen among any number of others */

static void
rbgvctl_rotation_bar(int64_t old, int64_t fresh, int64_t most,
    char text[RBGVCTL_BAR_SIZE])
{
    int          i, solid, all;
    const char  *mark;

    solid = (double) old * RBGVCTL_BAR_WIDTH / most;
    all = (double) (old + fresh) * RBGVCTL_BAR_WIDTH / most;

    if (old > 0 && solid == 0) {
        solid = 1;
    }

    text[0] = '\0';

    for (i = 0; i < solid || i < all; i++) {
        if (rbgvctl_utf8()) {
            mark = i < solid ? "\u2588" : "\u2591";

        } else {
            mark = i < solid ? "#" : ".";
        }

        strcat(text, mark);
    }
}


static void
rbgvctl_rotation_words(const rbgv_watch_t *watch)
{
    char                    began[RBGV_TIME_SIZE];
    char                    last[RBGV_TIME_SIZE];
    char                    other[RBGV_TIME_SIZE];
    char                    until[RBGV_TIME_SIZE];
    const rbgv_rotation_t  *rotation;

    rotation = &watch->rotation;

    rbgv_time(rotation->began, RBGV_RFC3339, began);
    rbgv_time(rotation->last, RBGV_RFC3339, last);
    rbgv_time(rotation->other, RBGV_RFC3339, other);
    rbgv_time(rotation->until, RBGV_RFC3339, until);

    if (rotation->last < rotation->began) {
        (void) printf("\nThe old secret was not used since the rotation began "
                      "at %s.\n", began);

    } else {
        (void) printf("\nThe old secret was used last at %s.\n", last);
    }

    if (rotation->other == 0) {
        (void) printf("The new secret was not used yet.\n");

    } else {
        (void) printf("The new secret was used last at %s.\n", other);
    }

    if (rotation->state == RBGV_ROTATION_WATCH) {
        rbgvctl_rotation_not_yet(watch, until);
        return;
    }

    (void) printf("It is safe to finish: \"rbgvctl rotate %s --finish\".\n",
                  watch->key.id);

    if (rotation->other == 0) {
        (void) printf("But ask first whether the new one has arrived.\n");
    }
}


static void
rbgvctl_rotation_not_yet(const rbgv_watch_t *watch, const char *until)
{
    int64_t  uses;

    if (watch->rotation.last >= watch->rotation.began) {
        uses = rbgv_watch_hour(watch, watch->nhours - 1, 1);

        if (watch->nhours > 1) {
            uses += rbgv_watch_hour(watch, watch->nhours - 2, 1);
        }

        (void) printf("The old one is still in use (uses in this hour and the "
                      "one before: %" PRId64 ").\n", uses);
    }

    (void) printf("Watch until %s.\n", until);
}
