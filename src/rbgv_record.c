
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * A key as it is in the store, and as JSON.
 */


#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "rbgv_admin.h"


#define RBGV_LIMIT_LEN  (sizeof(RBGV_FIELD_LIMIT) - 1)


static void rbgv_record_secret(rbgv_secret_t *secret, const redisReply *name,
    const redisReply *value);
static int rbgv_is_secret(const redisReply *name);
static int rbgv_reply_is(const redisReply *reply, const char *text);
static json_t *rbgv_json_limits(const rbgv_record_t *key);
static json_t *rbgv_json_secrets(const rbgv_record_t *key);
static size_t rbgv_utf8_len(const unsigned char *p, size_t left);


int
rbgv_record_set(rbgv_record_t *key, redisReply *fields)
{
    size_t  i, n;

    key->fields = fields;
    n = 0;

    for (i = 0; i + 1 < fields->elements; i += 2) {
        n += rbgv_is_secret(fields->element[i]);
    }

    key->secrets = calloc(n + 1, sizeof(rbgv_secret_t));
    if (key->secrets == NULL) {
        return -1;
    }

    for (i = 0; i + 1 < fields->elements; i += 2) {
        if (rbgv_is_secret(fields->element[i])) {
            rbgv_record_secret(&key->secrets[key->nsecrets++],
                               fields->element[i], fields->element[i + 1]);
        }
    }

    return 0;
}


static void
rbgv_record_secret(rbgv_secret_t *secret, const redisReply *name,
    const redisReply *value)
{
    const char  *digest;

    digest = name->str + sizeof(RBGV_FIELD_SECRET) - 1;

    memcpy(secret->digest, digest, RBGV_DIGEST_SHOWN);
    memcpy(secret->counter, digest, RBGV_DIGEST_USES);

    if (sscanf(value->str, "%15s %" SCNd64 " %" SCNd64, secret->status,
               &secret->created, &secret->expires)
        != 3)
    {
        strcpy(secret->status, "malformed");
    }
}


static int
rbgv_is_secret(const redisReply *name)
{
    return name->len == sizeof(RBGV_FIELD_SECRET) - 1 + RBGV_DIGEST_HEX
           && strncmp(name->str, RBGV_FIELD_SECRET,
                      sizeof(RBGV_FIELD_SECRET) - 1)
              == 0
           && strspn(name->str + sizeof(RBGV_FIELD_SECRET) - 1,
                     "0123456789abcdef")
              == RBGV_DIGEST_HEX;
}


const redisReply *
rbgv_record_field(const rbgv_record_t *key, const char *name)
{
    return rbgv_reply_field(key->fields, name);
}


int64_t
rbgv_record_number(const rbgv_record_t *key, const char *name)
{
    const redisReply  *value;

    value = rbgv_record_field(key, name);

    return value ? rbgv_reply_number(value) : 0;
}


const char *
rbgv_record_status(const rbgv_record_t *key, int64_t now)
{
    int64_t            expires;
    const redisReply  *status;

    status = rbgv_record_field(key, RBGV_FIELD_STATUS);
    expires = rbgv_record_number(key, RBGV_FIELD_EXPIRES);

    if (status == NULL || !rbgv_reply_is(status, RBGV_ACTIVE)) {
        return RBGV_DISABLED;
    }

    return (expires != 0 && expires <= now) ? RBGV_EXPIRED : RBGV_ACTIVE;
}


int64_t
rbgv_record_newest(const rbgv_record_t *key)
{
    size_t   i;
    int64_t  newest;

    newest = 0;

    for (i = 0; i < key->nsecrets; i++) {
        if (key->secrets[i].created > newest) {
            newest = key->secrets[i].created;
        }
    }

    return newest;
}


int
rbgv_reply_strings(const redisReply *reply)
{
    size_t  i;

    for (i = 0; i < reply->elements; i++) {
        if (reply->element[i]->type != REDIS_REPLY_STRING) {
            return 0;
        }
    }

    return 1;
}


int
rbgv_reply_integers(const redisReply *reply, size_t n)
{
    size_t  i;

    if (reply->type != REDIS_REPLY_ARRAY) {
        return 0;
    }

    for (i = 0; i < reply->elements; i++) {
        if (reply->element[i]->type != REDIS_REPLY_INTEGER) {
            return 0;
        }
    }

    return i == n;
}


const redisReply *
rbgv_reply_field(const redisReply *reply, const char *name)
{
    size_t       i;
    redisReply  *field;

    for (i = 0; i + 1 < reply->elements; i += 2) {
        field = reply->element[i];

        if (rbgv_reply_is(field, name)) {
            return reply->element[i + 1];
        }
    }

    return NULL;
}


/* a zero byte does not end what Redis gives */

static int
rbgv_reply_is(const redisReply *reply, const char *text)
{
    return reply->type == REDIS_REPLY_STRING && reply->len == strlen(text)
           && memcmp(reply->str, text, reply->len) == 0;
}


int64_t
rbgv_reply_number(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING ? strtoll(reply->str, NULL, 10)
                                             : 0;
}


int
rbgv_is_limit(const redisReply *name)
{
    return strncmp(name->str, RBGV_FIELD_LIMIT, RBGV_LIMIT_LEN) == 0;
}


json_t *
rbgv_json_record(const rbgv_record_t *key, int64_t now)
{
    json_t  *credits;

    credits = json_null();

    if (rbgv_record_field(key, RBGV_FIELD_CREDITS) != NULL) {
        credits = json_integer(rbgv_record_number(key, RBGV_FIELD_CREDITS));
    }

    return json_pack(
        "{s:o, s:s, s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:I, "
        "s:o, s:o, s:o}",
        "client_id", rbgv_json_field(key, RBGV_FIELD_NAME),
        "key_fingerprint", key->id,
        "environment", rbgv_json_field(key, RBGV_FIELD_ENVIRONMENT),
        "owner", rbgv_json_field(key, RBGV_FIELD_OWNER),
        "note", rbgv_json_field(key, RBGV_FIELD_NOTE),
        "status", rbgv_record_status(key, now),
        "created_at",
        rbgv_json_time(rbgv_record_number(key, RBGV_FIELD_CREATED)),
        "expires_at",
        rbgv_json_time(rbgv_record_number(key, RBGV_FIELD_EXPIRES)),
        "rotation_started_at",
        rbgv_json_time(rbgv_record_number(key, RBGV_FIELD_ROTATION)),
        "rotated_at",
        rbgv_json_time(rbgv_record_number(key, RBGV_FIELD_ROTATED)),
        "last_used_at", rbgv_json_time(key->last_used),
        "requests_today", (json_int_t) key->requests_today,
        "requests_7d", (json_int_t) key->requests_7d,
        "credits", credits,
        "limits", rbgv_json_limits(key),
        "secrets", rbgv_json_secrets(key));
}


static json_t *
rbgv_json_limits(const rbgv_record_t *key)
{
    size_t             i;
    json_t            *limits, *text;
    const redisReply  *field, *value;

    limits = json_object();

    for (i = 0; i + 1 < key->fields->elements; i += 2) {
        field = key->fields->element[i];
        value = key->fields->element[i + 1];

        if (rbgv_is_limit(field)) {
            /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): a pair */
            text = rbgv_json_text(value->str);
            (void) json_object_set_new(limits, field->str + RBGV_LIMIT_LEN,
                                       text);
        }
    }

    return limits;
}


static json_t *
rbgv_json_secrets(const rbgv_record_t *key)
{
    size_t          i;
    json_t         *secrets;
    rbgv_secret_t  *secret;

    secrets = json_array();

    for (i = 0; i < key->nsecrets; i++) {
        secret = &key->secrets[i];

        (void) json_array_append_new(secrets,
                    json_pack("{s:o, s:o, s:o, s:o, s:I}",
                              "digest", rbgv_json_text(secret->digest),
                              "status", rbgv_json_text(secret->status),
                              "created_at",
                              rbgv_json_time(secret->created),
                              "expires_at",
                              rbgv_json_time(secret->expires),
                              "uses", (json_int_t) secret->uses));
    }

    return secrets;
}


json_t *
rbgv_json_field(const rbgv_record_t *key, const char *name)
{
    const redisReply  *value;

    value = rbgv_record_field(key, name);

    return value ? rbgv_json_text(value->str) : json_null();
}


json_t *
rbgv_json_text(const char *text)
{
    return rbgv_json_textn(text, strlen(text));
}


/* what is not UTF-8 was not written by us, and comes out as "?" */

json_t *
rbgv_json_textn(const char *text, size_t len)
{
    char    *copy;
    size_t   i, n;
    json_t  *string;

    string = json_stringn(text, len);
    if (string != NULL) {
        return string;
    }

    copy = malloc(len + 1);
    if (copy == NULL) {
        return NULL;
    }

    memcpy(copy, text, len);

    for (i = 0; i < len; i += n) {
        n = rbgv_utf8_len((unsigned char *) copy + i, len - i);

        if (n == 0) {
            copy[i] = '?';
            n = 1;
        }
    }

    string = json_stringn(copy, len);

    free(copy);

    return string;
}


/* of a character, RFC 3629; 0: it is none */

static size_t
rbgv_utf8_len(const unsigned char *p, size_t left)
{
    size_t    len, i;
    uint32_t  u;

    if (*p < 0x80) {
        return 1;
    }

    len = (*p < 0xe0) ? 2 : (*p < 0xf0) ? 3 : 4;

    if (*p < 0xc2 || *p > 0xf4 || left < len) {
        return 0;
    }

    u = *p & (0x7f >> len);

    for (i = 1; i < len; i++) {

        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }

        u = (u << 6) | (p[i] & 0x3f);
    }

    if (len == 3 && (u < 0x800 || (u >= 0xd800 && u <= 0xdfff))) {
        return 0;
    }

    return (len == 4 && (u < 0x10000 || u > 0x10ffff)) ? 0 : len;
}


json_t *
rbgv_json_time(int64_t t)
{
    char  text[RBGV_TIME_SIZE];

    if (t == 0) {
        return json_null();
    }

    rbgv_time(t, RBGV_RFC3339, text);

    return json_string(text);
}


void
rbgv_time(int64_t t, const char *format, char text[RBGV_TIME_SIZE])
{
    time_t     sec;
    struct tm  tm;

    sec = t;

    if (t == 0) {
        strcpy(text, "never");

    } else if (gmtime_r(&sec, &tm) == NULL
               || strftime(text, RBGV_TIME_SIZE, format, &tm) == 0)
    {
        strcpy(text, "?");
    }
}


void
rbgv_hash_name(const char *prefix, const char *kind, const char *id,
    char name[RBGV_HASH_SIZE])
{
    (void) snprintf(name, RBGV_HASH_SIZE, "%s%s" RBGV_TAG, prefix, kind, id);
}
