
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: rotation.
 */


#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libsmartcols/libsmartcols.h>

#include "rbgvctl.h"


#define RBGVCTL_HOUR        (60 * 60)

/* for which the gateway keeps uses by the hour */
#define RBGVCTL_HOURS_MAX   (8 * 24)

#define RBGVCTL_BAR_WIDTH   32
#define RBGVCTL_BAR_SIZE    (RBGVCTL_BAR_WIDTH * sizeof("\u2588"))


/* secrets are in the order in which they were made */

typedef struct {
    rbgvctl_key_t        key;
    rbgvctl_rotation_t   rotation;
    size_t               nsecrets;
    int64_t              last[RBGVCTL_SECRETS_MAX];
    int64_t              first;        /* hour since the epoch */
    size_t               nhours;
    int64_t              uses[RBGVCTL_HOURS_MAX][RBGVCTL_SECRETS_MAX];
} rbgvctl_watch_t;


static int rbgvctl_rotation_show(rbgvctl_t *ctl, void *data,
    const char *arg);
static int rbgvctl_rotation_read(rbgvctl_t *ctl, rbgvctl_watch_t *watch);
static int rbgvctl_rotation_compare(const void *one, const void *two);
static void rbgvctl_rotation_span(rbgvctl_watch_t *watch);
static int rbgvctl_rotation_uses(rbgvctl_t *ctl, rbgvctl_watch_t *watch);
static void rbgvctl_rotation_use(rbgvctl_watch_t *watch, const char *field,
    const redisReply *value);
static size_t rbgvctl_rotation_find(const rbgvctl_watch_t *watch,
    const char *digest);
static int rbgvctl_rotation_is_old(const rbgvctl_watch_t *watch, size_t i);
static int64_t rbgvctl_rotation_hour(const rbgvctl_watch_t *watch,
    size_t hour, int old);
static const char *rbgvctl_rotation_verdict(
    const rbgvctl_rotation_t *rotation);

static int rbgvctl_rotation_json(const rbgvctl_watch_t *watch);
static json_t *rbgvctl_rotation_json_secrets(const rbgvctl_watch_t *watch);
static json_t *rbgvctl_rotation_json_hours(const rbgvctl_watch_t *watch);
static int rbgvctl_rotation_print(const rbgvctl_watch_t *watch);
static struct libscols_table *rbgvctl_rotation_table(
    const rbgvctl_watch_t *watch, int bars);
static void rbgvctl_rotation_row(const rbgvctl_watch_t *watch,
    struct libscols_table *table, size_t hour, int64_t most);
static void rbgvctl_rotation_bar(int64_t old, int64_t fresh, int64_t most,
    char text[RBGVCTL_BAR_SIZE]);
static void rbgvctl_rotation_words(const rbgvctl_watch_t *watch);
static void rbgvctl_rotation_not_yet(const rbgvctl_watch_t *watch,
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
    int              rc;
    rbgvctl_watch_t  watch;

    (void) data;

    rc = rbgvctl_id_check(arg);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_store_open(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    memset(&watch, 0, sizeof(rbgvctl_watch_t));
    watch.key.id = arg;

    rc = rbgvctl_rotation_read(ctl, &watch);

    if (rc == RBGVCTL_OK) {
        rc = ctl->json ? rbgvctl_rotation_json(&watch)
                       : rbgvctl_rotation_print(&watch);
    }

    rbgvctl_keys_free(&watch.key, 1);

    return rc;
}


static int
rbgvctl_rotation_read(rbgvctl_t *ctl, rbgvctl_watch_t *watch)
{
    int  rc;

    rc = rbgvctl_rotation(ctl, watch->key.id, RBGVCTL_ROTATION_LOOK, 0,
                          &watch->rotation);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    if (watch->rotation.state != RBGVCTL_ROTATION_WATCH
        && watch->rotation.state != RBGVCTL_ROTATION_SAFE)
    {
        return rbgvctl_rotation_refused(ctl, watch->key.id,
                                        &watch->rotation);
    }

    rc = rbgvctl_keys_fetch(ctl, &watch->key, 1);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    if (watch->key.fields == NULL) {
        return rbgvctl_not_found(ctl, watch->key.id);
    }

    qsort(watch->key.secrets, watch->key.nsecrets, sizeof(rbgvctl_secret_t),
          rbgvctl_rotation_compare);

    watch->nsecrets = watch->key.nsecrets;

    if (watch->nsecrets > RBGVCTL_SECRETS_MAX) {
        watch->nsecrets = RBGVCTL_SECRETS_MAX;
    }

    rbgvctl_rotation_span(watch);

    return rbgvctl_rotation_uses(ctl, watch);
}


static int
rbgvctl_rotation_compare(const void *one, const void *two)
{
    const rbgvctl_secret_t  *first = one;
    const rbgvctl_secret_t  *second = two;

    return (first->created > second->created)
           - (first->created < second->created);
}


/* from the hour in which it began to this one */

static void
rbgvctl_rotation_span(rbgvctl_watch_t *watch)
{
    int64_t  first, last;

    first = watch->rotation.began / RBGVCTL_HOUR;
    last = watch->rotation.now / RBGVCTL_HOUR;

    if (last < first) {
        last = first;
    }

    if (last - first >= RBGVCTL_HOURS_MAX) {
        first = last - RBGVCTL_HOURS_MAX + 1;
    }

    watch->first = first;
    watch->nhours = last - first + 1;
}


static int
rbgvctl_rotation_uses(rbgvctl_t *ctl, rbgvctl_watch_t *watch)
{
    size_t       i;
    redisReply  *use;

    use = rbgvctl_store_command(ctl, REDIS_REPLY_ARRAY, "HGETALL %s" RBGV_USE
                                RBGVCTL_TAG, ctl->prefix, watch->key.id);
    if (use == NULL) {
        return RBGVCTL_STORE;
    }

    if (rbgvctl_reply_strings(use)) {
        for (i = 0; i + 1 < use->elements; i += 2) {
            rbgvctl_rotation_use(watch, use->element[i]->str,
                                 use->element[i + 1]);
        }
    }

    freeReplyObject(use);

    return RBGVCTL_OK;
}


static void
rbgvctl_rotation_use(rbgvctl_watch_t *watch, const char *field,
    const redisReply *value)
{
    char     *digest;
    size_t    i;
    int64_t   hour;

    if (strncmp(field, RBGV_USE_LAST, sizeof(RBGV_USE_LAST) - 1) == 0) {
        i = rbgvctl_rotation_find(watch, field + sizeof(RBGV_USE_LAST) - 1);

        if (i < watch->nsecrets) {
            watch->last[i] = rbgvctl_reply_number(value);
        }

        return;
    }

    if (strncmp(field, RBGV_USE_HOUR, sizeof(RBGV_USE_HOUR) - 1) != 0) {
        return;
    }

    hour = strtoll(field + sizeof(RBGV_USE_HOUR) - 1, &digest, 10)
           - watch->first;

    if (hour < 0 || hour >= (int64_t) watch->nhours || *digest != ':') {
        return;
    }

    i = rbgvctl_rotation_find(watch, digest + 1);

    if (i < watch->nsecrets) {
        watch->uses[hour][i] = rbgvctl_reply_number(value);
    }
}


/* nsecrets if it is none of them */

static size_t
rbgvctl_rotation_find(const rbgvctl_watch_t *watch, const char *digest)
{
    size_t  i;

    for (i = 0; i < watch->nsecrets; i++) {
        if (strcmp(watch->key.secrets[i].counter, digest) == 0) {
            break;
        }
    }

    return i;
}


static int
rbgvctl_rotation_is_old(const rbgvctl_watch_t *watch, size_t i)
{
    return watch->key.secrets[i].created < watch->rotation.began;
}


/* uses of all old secrets, or of all others */

static int64_t
rbgvctl_rotation_hour(const rbgvctl_watch_t *watch, size_t hour, int old)
{
    size_t   i;
    int64_t  sum;

    sum = 0;

    for (i = 0; i < watch->nsecrets; i++) {
        if (rbgvctl_rotation_is_old(watch, i) == old) {
            sum += watch->uses[hour][i];
        }
    }

    return sum;
}


static const char *
rbgvctl_rotation_verdict(const rbgvctl_rotation_t *rotation)
{
    if (rotation->state == RBGVCTL_ROTATION_SAFE) {
        return "safe";
    }

    return rotation->last >= rotation->began ? "used" : "watch";
}


static int
rbgvctl_rotation_json(const rbgvctl_watch_t *watch)
{
    const redisReply          *name;
    const rbgvctl_rotation_t  *rotation;

    rotation = &watch->rotation;
    name = rbgvctl_key_field(&watch->key, RBGV_FIELD_NAME);

    return rbgvctl_print_json(json_pack(
        "{s:s, s:s?, s:o, s:s, s:o, s:o, s:o, s:o}",
        "key_fingerprint", watch->key.id,
        "client_id", name ? name->str : NULL,
        "rotation_started_at", rbgvctl_json_time(rotation->began),
        "verdict", rbgvctl_rotation_verdict(rotation),
        "safe_at", rbgvctl_json_time(rotation->until),
        "old_last_used_at", rbgvctl_json_time(rotation->last),
        "secrets", rbgvctl_rotation_json_secrets(watch),
        "hours", rbgvctl_rotation_json_hours(watch)));
}


static json_t *
rbgvctl_rotation_json_secrets(const rbgvctl_watch_t *watch)
{
    size_t                   i;
    json_t                  *secrets;
    const rbgvctl_secret_t  *secret;

    secrets = json_array();

    for (i = 0; i < watch->nsecrets; i++) {
        secret = &watch->key.secrets[i];

        (void) json_array_append_new(secrets,
                    json_pack("{s:s, s:b, s:o, s:o, s:I}",
                              "digest", secret->digest,
                              "old", rbgvctl_rotation_is_old(watch, i),
                              "created_at",
                              rbgvctl_json_time(secret->created),
                              "last_used_at",
                              rbgvctl_json_time(watch->last[i]),
                              "uses", (json_int_t) secret->uses));
    }

    return secrets;
}


static json_t *
rbgvctl_rotation_json_hours(const rbgvctl_watch_t *watch)
{
    size_t   i;
    json_t  *hours;

    hours = json_array();

    for (i = 0; i < watch->nhours; i++) {
        (void) json_array_append_new(hours,
                    json_pack("{s:o, s:I, s:I}",
                              "hour",
                              rbgvctl_json_time((watch->first + i)
                                                * RBGVCTL_HOUR),
                              "old_uses", (json_int_t)
                              rbgvctl_rotation_hour(watch, i, 1),
                              "new_uses", (json_int_t)
                              rbgvctl_rotation_hour(watch, i, 0)));
    }

    return hours;
}


static int
rbgvctl_rotation_print(const rbgvctl_watch_t *watch)
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
        n = rbgvctl_rotation_hour(watch, i, 1)
            + rbgvctl_rotation_hour(watch, i, 0);

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
rbgvctl_rotation_table(const rbgvctl_watch_t *watch, int bars)
{
    char                    names[RBGVCTL_SECRETS_MAX][32];
    size_t                  i, n;
    const char             *columns[RBGVCTL_SECRETS_MAX + 3];
    struct libscols_table  *table;

    n = 0;
    columns[n++] = "HOUR";

    for (i = 0; i < watch->nsecrets; i++) {
        (void) snprintf(names[i], sizeof(names[i]), "%s %s",
                        rbgvctl_rotation_is_old(watch, i) ? "OLD" : "NEW",
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
rbgvctl_rotation_row(const rbgvctl_watch_t *watch,
    struct libscols_table *table, size_t hour, int64_t most)
{
    char                   text[RBGVCTL_TIME_SIZE], bar[RBGVCTL_BAR_SIZE];
    size_t                 i;
    struct libscols_line  *line;

    line = scols_table_new_line(table, NULL);
    if (line == NULL) {
        return;
    }

    rbgvctl_time((watch->first + hour) * RBGVCTL_HOUR, RBGVCTL_MINUTE, text);
    (void) scols_line_set_data(line, 0, text);

    for (i = 0; i < watch->nsecrets; i++) {
        (void) snprintf(text, sizeof(text), "%" PRId64, watch->uses[hour][i]);
        (void) scols_line_set_data(line, i + 1, text);
    }

    if (most > 0) {
        rbgvctl_rotation_bar(rbgvctl_rotation_hour(watch, hour, 1),
                             rbgvctl_rotation_hour(watch, hour, 0), most,
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
rbgvctl_rotation_words(const rbgvctl_watch_t *watch)
{
    char                       began[RBGVCTL_TIME_SIZE];
    char                       last[RBGVCTL_TIME_SIZE];
    char                       other[RBGVCTL_TIME_SIZE];
    char                       until[RBGVCTL_TIME_SIZE];
    const rbgvctl_rotation_t  *rotation;

    rotation = &watch->rotation;

    rbgvctl_time(rotation->began, RBGVCTL_RFC3339, began);
    rbgvctl_time(rotation->last, RBGVCTL_RFC3339, last);
    rbgvctl_time(rotation->other, RBGVCTL_RFC3339, other);
    rbgvctl_time(rotation->until, RBGVCTL_RFC3339, until);

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

    if (rotation->state == RBGVCTL_ROTATION_WATCH) {
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
rbgvctl_rotation_not_yet(const rbgvctl_watch_t *watch, const char *until)
{
    int64_t  uses;

    if (watch->rotation.last >= watch->rotation.began) {
        uses = rbgvctl_rotation_hour(watch, watch->nhours - 1, 1);

        if (watch->nhours > 1) {
            uses += rbgvctl_rotation_hour(watch, watch->nhours - 2, 1);
        }

        (void) printf("The old one is still in use (uses in this hour and the "
                      "one before: %" PRId64 ").\n", uses);
    }

    (void) printf("Watch until %s.\n", until);
}
