
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * A rotation by the hour: who still uses the old secret.
 */


#include <stdlib.h>
#include <string.h>

#include "rbgv_admin.h"


static int rbgv_watch_compare(const void *one, const void *two);
static void rbgv_watch_span(rbgv_watch_t *watch);
static void rbgv_watch_use(rbgv_watch_t *watch, const char *field,
    const redisReply *value);
static size_t rbgv_watch_find(const rbgv_watch_t *watch, const char *digest);
static const char *rbgv_rotation_verdict(const rbgv_rotation_t *rotation);
static json_t *rbgv_json_watch_secrets(const rbgv_watch_t *watch);
static json_t *rbgv_json_watch_hours(const rbgv_watch_t *watch);


void
rbgv_watch_read(rbgv_watch_t *watch, const redisReply *counters)
{
    size_t  i;

    if (watch->key.nsecrets > 1) {
        qsort(watch->key.secrets, watch->key.nsecrets, sizeof(rbgv_secret_t),
              rbgv_watch_compare);
    }

    watch->nsecrets = watch->key.nsecrets;

    if (watch->nsecrets > RBGV_SECRETS_MAX) {
        watch->nsecrets = RBGV_SECRETS_MAX;
    }

    rbgv_watch_span(watch);

    if (!rbgv_reply_strings(counters)) {
        return;
    }

    for (i = 0; i + 1 < counters->elements; i += 2) {
        rbgv_watch_use(watch, counters->element[i]->str,
                       counters->element[i + 1]);
    }
}


static int
rbgv_watch_compare(const void *one, const void *two)
{
    const rbgv_secret_t  *first = one;
    const rbgv_secret_t  *second = two;

    return (first->created > second->created)
           - (first->created < second->created);
}


/* from the hour in which it began to this one */

static void
rbgv_watch_span(rbgv_watch_t *watch)
{
    int64_t  first, last;

    first = watch->rotation.began / RBGV_HOUR;
    last = watch->rotation.now / RBGV_HOUR;

    if (last < first) {
        last = first;
    }

    if (last - first >= RBGV_HOURS_MAX) {
        first = last - RBGV_HOURS_MAX + 1;
    }

    watch->first = first;
    watch->nhours = last - first + 1;
}


static void
rbgv_watch_use(rbgv_watch_t *watch, const char *field,
    const redisReply *value)
{
    char     *digest;
    size_t    i;
    int64_t   hour;

    if (strncmp(field, RBGV_USE_LAST, sizeof(RBGV_USE_LAST) - 1) == 0) {
        i = rbgv_watch_find(watch, field + sizeof(RBGV_USE_LAST) - 1);

        if (i < watch->nsecrets) {
            watch->last[i] = rbgv_reply_number(value);
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

    i = rbgv_watch_find(watch, digest + 1);

    if (i < watch->nsecrets) {
        watch->uses[hour][i] = rbgv_reply_number(value);
    }
}


/* nsecrets if it is none of them */

static size_t
rbgv_watch_find(const rbgv_watch_t *watch, const char *digest)
{
    size_t  i;

    for (i = 0; i < watch->nsecrets; i++) {
        if (strcmp(watch->key.secrets[i].counter, digest) == 0) {
            break;
        }
    }

    return i;
}


int
rbgv_watch_is_old(const rbgv_watch_t *watch, size_t i)
{
    return watch->key.secrets[i].created < watch->rotation.began;
}


int64_t
rbgv_watch_hour(const rbgv_watch_t *watch, size_t hour, int old)
{
    size_t   i;
    int64_t  sum;

    sum = 0;

    for (i = 0; i < watch->nsecrets; i++) {
        if (rbgv_watch_is_old(watch, i) == old) {
            sum += watch->uses[hour][i];
        }
    }

    return sum;
}


json_t *
rbgv_json_watch(const rbgv_watch_t *watch)
{
    const redisReply       *name;
    const rbgv_rotation_t  *rotation;

    rotation = &watch->rotation;
    name = rbgv_record_field(&watch->key, RBGV_FIELD_NAME);

    return json_pack(
        "{s:s, s:s?, s:o, s:s, s:o, s:o, s:o, s:o}",
        "key_fingerprint", watch->key.id,
        "client_id", name ? name->str : NULL,
        "rotation_started_at", rbgv_json_time(rotation->began),
        "verdict", rbgv_rotation_verdict(rotation),
        "safe_at", rbgv_json_time(rotation->until),
        "old_last_used_at", rbgv_json_time(rotation->last),
        "secrets", rbgv_json_watch_secrets(watch),
        "hours", rbgv_json_watch_hours(watch));
}


static const char *
rbgv_rotation_verdict(const rbgv_rotation_t *rotation)
{
    if (rotation->state == RBGV_ROTATION_SAFE) {
        return "safe";
    }

    return rotation->last >= rotation->began ? "used" : "watch";
}


static json_t *
rbgv_json_watch_secrets(const rbgv_watch_t *watch)
{
    size_t                i;
    json_t               *secrets;
    const rbgv_secret_t  *secret;

    secrets = json_array();

    for (i = 0; i < watch->nsecrets; i++) {
        secret = &watch->key.secrets[i];

        (void) json_array_append_new(secrets,
                    json_pack("{s:s, s:b, s:o, s:o, s:I}",
                              "digest", secret->digest,
                              "old", rbgv_watch_is_old(watch, i),
                              "created_at",
                              rbgv_json_time(secret->created),
                              "last_used_at",
                              rbgv_json_time(watch->last[i]),
                              "uses", (json_int_t) secret->uses));
    }

    return secrets;
}


static json_t *
rbgv_json_watch_hours(const rbgv_watch_t *watch)
{
    size_t   i;
    json_t  *hours;

    hours = json_array();

    for (i = 0; i < watch->nhours; i++) {
        (void) json_array_append_new(hours,
                    json_pack("{s:o, s:I, s:I}",
                              "hour",
                              rbgv_json_time((watch->first + i)
                                             * RBGV_HOUR),
                              "old_uses", (json_int_t)
                              rbgv_watch_hour(watch, i, 1),
                              "new_uses", (json_int_t)
                              rbgv_watch_hour(watch, i, 0)));
    }

    return hours;
}
