
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Keys as pages and one by one, each with its usage.
 */


#include <stdlib.h>
#include <string.h>

#include "rbgv_admin.h"


static void rbgv_config_read(rbgv_admin_t *op, redisReply **replies);

static void rbgv_list_page(rbgv_admin_t *op, redisReply **replies);
static void rbgv_list_ids(rbgv_admin_t *op, redisReply **replies);
static void rbgv_list_ask(rbgv_admin_t *op);
static void rbgv_list_next(rbgv_admin_t *op, redisReply **replies);
static int rbgv_list_key(rbgv_admin_t *op, const char *id,
    redisReply **replies);

static void rbgv_show_ask(rbgv_admin_t *op, redisReply **replies);
static void rbgv_show_read(rbgv_admin_t *op, redisReply **replies);
static json_t *rbgv_show_json(rbgv_admin_t *op, rbgv_watch_t *watch,
    redisReply *counters);

static void rbgv_key_ask(rbgv_admin_t *op, const char *id);
static int rbgv_key_read(rbgv_record_t *key, redisReply **replies);
static void rbgv_key_count(rbgv_record_t *key, const rbgv_usage_t *usage,
    const redisReply *counters);
static json_t *rbgv_key_json(rbgv_admin_t *op, const rbgv_record_t *key,
    const rbgv_usage_t *usage);
static void rbgv_key_json_usage(json_t *object, const rbgv_usage_t *usage);
static void rbgv_key_json_due(rbgv_admin_t *op, json_t *object,
    const rbgv_record_t *key);


void
rbgv_admin_config(rbgv_admin_t *op)
{
    rbgv_admin_environments(op, rbgv_config_read);
}


static void
rbgv_config_read(rbgv_admin_t *op, redisReply **replies)
{
    size_t                     i;
    json_t                    *array;
    const rbgv_environment_t  *environment;

    (void) replies;

    array = json_array();

    for (i = 0; i < op->environments.nelts; i++) {
        environment = &op->environments.elts[i];

        (void) json_array_append_new(array,
                    json_pack("{s:s, s:o, s:o}",
                              "name", environment->name,
                              "rotation_seconds",
                              rbgv_json_rotation_window(environment),
                              "limits",
                              rbgv_limits_json(&environment->limits)));
    }

    op->json = json_pack("{s:s, s:s, s:o, s:o}",
                         "version", RBGV_VERSION,
                         "schema", RBGV_SCHEMA_VERSION,
                         "now", rbgv_json_time(op->now),
                         "environments", array);

    if (op->json == NULL) {
        rbgv_admin_fail(op, RBGV_ADMIN_MEMORY);
    }
}


void
rbgv_admin_list(rbgv_admin_t *op)
{
    rbgv_admin_environments(op, rbgv_list_page);
}


static void
rbgv_list_page(rbgv_admin_t *op, redisReply **replies)
{
    (void) replies;

    op->next = rbgv_list_ids;

    rbgv_cursor_command(op, &op->cursor, op->limit);
}


static void
rbgv_list_ids(rbgv_admin_t *op, redisReply **replies)
{
    size_t       i;
    const char  *ids[RBGV_PAGE_MAX];

    if (replies[0]->type != REDIS_REPLY_ARRAY
        || !rbgv_reply_strings(replies[0]))
    {
        rbgv_admin_fail(op, RBGV_ADMIN_FOREIGN);
        return;
    }

    op->nids = rbgv_cursor_ids(&op->cursor, replies[0], ids, op->limit);
    op->ids = calloc(op->nids + 1, RBGV_ID_LEN + 1);
    op->json = json_array();

    if (op->ids == NULL || op->json == NULL) {
        rbgv_admin_fail(op, RBGV_ADMIN_MEMORY);
        return;
    }

    for (i = 0; i < op->nids; i++) {
        memcpy(op->ids[i], ids[i], RBGV_ID_LEN);
    }

    rbgv_list_ask(op);
}


/* one by one: the store and its client have others to serve in between */

static void
rbgv_list_ask(rbgv_admin_t *op)
{
    if (op->done == op->nids) {
        return;
    }

    op->next = rbgv_list_next;

    rbgv_key_ask(op, op->ids[op->done]);
}


static void
rbgv_list_next(rbgv_admin_t *op, redisReply **replies)
{
    if (rbgv_list_key(op, op->ids[op->done++], replies) == -1) {
        rbgv_admin_fail(op, RBGV_ADMIN_MEMORY);
        return;
    }

    rbgv_list_ask(op);
}


/* an id may be listed before its key is written, or after it has gone */

static int
rbgv_list_key(rbgv_admin_t *op, const char *id, redisReply **replies)
{
    int             rc;
    json_t         *object;
    rbgv_usage_t    usage;
    rbgv_record_t   key;

    memset(&key, 0, sizeof(rbgv_record_t));
    key.id = id;

    rc = rbgv_key_read(&key, replies);

    if (rc == 0 && key.fields != NULL) {
        rbgv_usage_read(&usage, replies[1], op->now);
        rbgv_key_count(&key, &usage, replies[1]);

        object = rbgv_key_json(op, &key, &usage);
        rc = json_array_append_new(op->json, object);
    }

    free(key.secrets);

    return rc;
}


void
rbgv_admin_show(rbgv_admin_t *op)
{
    rbgv_admin_environments(op, rbgv_show_ask);
}


static void
rbgv_show_ask(rbgv_admin_t *op, redisReply **replies)
{
    (void) replies;

    op->next = rbgv_show_read;
    op->how = RBGV_ROTATION_LOOK;

    rbgv_key_ask(op, op->id);
    rbgv_rotation_command(op);
}


static void
rbgv_show_read(rbgv_admin_t *op, redisReply **replies)
{
    rbgv_watch_t  *watch;

    watch = calloc(1, sizeof(rbgv_watch_t));

    if (watch == NULL) {
        rbgv_admin_fail(op, RBGV_ADMIN_MEMORY);
        return;
    }

    watch->key.id = op->id;

    if (rbgv_rotation_read(&watch->rotation, replies[2]) == -1) {
        rbgv_admin_fail(op, RBGV_ADMIN_FOREIGN);

    } else if (rbgv_key_read(&watch->key, replies) == -1) {
        rbgv_admin_fail(op, RBGV_ADMIN_MEMORY);

    } else if (watch->key.fields == NULL) {
        rbgv_admin_fail(op, RBGV_ADMIN_NO_KEY);

    } else {
        op->json = rbgv_show_json(op, watch, replies[1]);

        if (op->json == NULL) {
            rbgv_admin_fail(op, RBGV_ADMIN_MEMORY);
        }
    }

    free(watch->key.secrets);
    free(watch);
}


static json_t *
rbgv_show_json(rbgv_admin_t *op, rbgv_watch_t *watch, redisReply *counters)
{
    json_t        *object, *rotation;
    int64_t        sums[RBGV_OUTCOMES];
    rbgv_usage_t   usage;

    rbgv_usage_read(&usage, counters, op->now);
    rbgv_key_count(&watch->key, &usage, counters);

    object = rbgv_key_json(op, &watch->key, &usage);

    (void) rbgv_usage_sum(&usage, RBGV_PAGE_DAYS, sums);

    rotation = json_null();

    if (watch->rotation.state == RBGV_ROTATION_WATCH
        || watch->rotation.state == RBGV_ROTATION_SAFE)
    {
        rbgv_watch_read(watch, counters);
        rotation = rbgv_json_watch(watch);
    }

    (void) json_object_set_new(object, "requests",
                               json_integer(sums[RBGV_PASSED]));
    (void) json_object_set_new(object, "refused", rbgv_json_refused(sums));
    (void) json_object_set_new(object, "days",
                               rbgv_json_days(&usage, RBGV_PAGE_DAYS,
                                              op->now));
    (void) json_object_set_new(object, "rotation", rotation);

    return object;
}


static void
rbgv_key_ask(rbgv_admin_t *op, const char *id)
{
    rbgv_admin_command(op, "HGETALL");
    rbgv_admin_hash(op, RBGV_KEY, id);

    rbgv_admin_command(op, "HGETALL");
    rbgv_admin_hash(op, RBGV_USE, id);
}


/* its fields stay NULL if there is no such key; -1: out of memory */

static int
rbgv_key_read(rbgv_record_t *key, redisReply **replies)
{
    if (replies[0]->type != REDIS_REPLY_ARRAY || replies[0]->elements == 0
        || replies[1]->type != REDIS_REPLY_ARRAY
        || !rbgv_reply_strings(replies[0]))
    {
        return 0;
    }

    return rbgv_record_set(key, replies[0]);
}


static void
rbgv_key_count(rbgv_record_t *key, const rbgv_usage_t *usage,
    const redisReply *counters)
{
    size_t       i, k, len;
    const char  *name;

    key->last_used = usage->last;
    key->requests_today = usage->days[0][RBGV_PASSED];

    for (i = 0; i < RBGV_DAYS; i++) {
        key->requests_7d += usage->days[i][RBGV_PASSED];
    }

    len = sizeof(RBGV_USE_SECRET) - 1;

    for (i = 0; i + 1 < counters->elements; i += 2) {

        if (counters->element[i]->type != REDIS_REPLY_STRING) {
            continue;
        }

        name = counters->element[i]->str;

        for (k = 0; k < key->nsecrets; k++) {
            if (strncmp(name, RBGV_USE_SECRET, len) == 0
                && strcmp(name + len, key->secrets[k].counter) == 0)
            {
                key->secrets[k].uses =
                    rbgv_reply_number(counters->element[i + 1]);
            }
        }
    }
}


static json_t *
rbgv_key_json(rbgv_admin_t *op, const rbgv_record_t *key,
    const rbgv_usage_t *usage)
{
    json_t   *object, *left;
    int64_t   granted;

    object = rbgv_json_record(key, op->now);

    left = json_null();

    if (rbgv_record_field(key, RBGV_FIELD_CREDITS) != NULL) {
        granted = rbgv_record_number(key, RBGV_FIELD_CREDITS);
        left = json_integer(granted > usage->spent ? granted - usage->spent
                                                   : 0);
    }

    (void) json_object_set_new(object, "credits_spent",
                               json_integer(usage->spent));
    (void) json_object_set_new(object, "credits_left", left);

    rbgv_key_json_usage(object, usage);
    rbgv_key_json_due(op, object, key);

    return object;
}


static void
rbgv_key_json_usage(json_t *object, const rbgv_usage_t *usage)
{
    int       ago;
    json_t   *passed, *refused;
    int64_t   n, sums[RBGV_OUTCOMES], all;

    passed = json_array();
    refused = json_array();

    for (ago = RBGV_PAGE_DAYS - 1; ago >= 0; ago--) {
        n = usage->days[ago][RBGV_PASSED];

        (void) json_array_append_new(passed, json_integer(n));
        (void) json_array_append_new(refused,
                           json_integer(rbgv_usage_day(usage, ago) - n));
    }

    all = rbgv_usage_sum(usage, RBGV_PAGE_DAYS, sums);

    (void) json_object_set_new(object, "requests_30d",
                               json_integer(sums[RBGV_PASSED]));
    (void) json_object_set_new(object, "refused_30d",
                               json_integer(all - sums[RBGV_PASSED]));
    (void) json_object_set_new(object, "requests_days", passed);
    (void) json_object_set_new(object, "refused_days", refused);
}


static void
rbgv_key_json_due(rbgv_admin_t *op, json_t *object, const rbgv_record_t *key)
{
    int64_t                    due, newest;
    const redisReply          *name;
    const rbgv_environment_t  *environment;

    name = rbgv_record_field(key, RBGV_FIELD_ENVIRONMENT);
    environment = name ? rbgv_environment_find(&op->environments, name->str)
                       : NULL;

    newest = rbgv_record_newest(key);
    due = rbgv_rotation_due(environment, newest);

    (void) json_object_set_new(object, "rotation_due_at",
                               rbgv_json_time(due));
    (void) json_object_set_new(object, "rotation_overdue",
                               json_boolean(due != 0 && due < op->now));
}
