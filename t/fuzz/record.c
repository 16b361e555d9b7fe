
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * A record of a key, as HGETALL gives it: the module takes it or refuses it,
 * and what it takes is understood by rbgvctl likewise.  The input has a name
 * or a value a line.
 */


#include "../../src/ngx_http_rbgv_auth_lookup.c"

#include "fuzz.h"
#include "rbgv_admin.h"


#define FUZZ_FIELDS  128               /* names and values */


static size_t fuzz_fields(const uint8_t *data, size_t size,
    ngx_rbgv_redis_reply_t *fields);
static ngx_uint_t fuzz_is_twice(ngx_rbgv_redis_reply_t *fields, size_t n);
static void fuzz_text_is_whole(ngx_http_rbgv_auth_record_t *record,
    u_char *text);
static void fuzz_rbgvctl(ngx_rbgv_redis_reply_t *fields, size_t n,
    ngx_http_rbgv_auth_record_t *record);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    u_char                       *text;
    size_t                        i, n;
    ngx_int_t                     rc;
    ngx_rbgv_redis_reply_t        reply, fields[FUZZ_FIELDS],
                                  taken[FUZZ_FIELDS], *elts[FUZZ_FIELDS];
    ngx_http_rbgv_auth_record_t   record;

    n = fuzz_fields(data, size, fields);

    /* the module moves the ends of what it has read */

    for (i = 0; i < n; i++) {
        taken[i] = fields[i];
        elts[i] = &taken[i];
    }

    memset(&reply, 0, sizeof(reply));
    reply.type = NGX_RBGV_REDIS_ARRAY;
    reply.nelts = n;
    reply.elts = elts;

    text = malloc(NGX_HTTP_RBGV_AUTH_TEXT_MAX);
    fuzz_check(text != NULL, "memory");

    rc = ngx_http_rbgv_auth_is_record(&reply)
         ? ngx_http_rbgv_auth_read_record(&reply, &record, text) : NGX_ERROR;

    if (rc == NGX_OK) {
        fuzz_text_is_whole(&record, text);
    }

    if (!fuzz_is_twice(fields, n)) {
        fuzz_rbgvctl(fields, n & ~1, rc == NGX_OK ? &record : NULL);
    }

    for (i = 0; i < n; i++) {
        free(fields[i].str.data);
    }

    free(text);

    return 0;
}


static size_t
fuzz_fields(const uint8_t *data, size_t size, ngx_rbgv_redis_reply_t *fields)
{
    size_t          n;
    const uint8_t  *end, *last;

    last = data + size;

    for (n = 0; data < last && n < FUZZ_FIELDS; n++) {
        end = memchr(data, '\n', last - data);

        if (end == NULL) {
            end = last;
        }

        memset(&fields[n], 0, sizeof(ngx_rbgv_redis_reply_t));
        fields[n].type = NGX_RBGV_REDIS_STRING;
        fields[n].str.len = end - data;
        fields[n].str.data = fuzz_copy(data, end - data);

        data = end < last ? end + 1 : last;
    }

    return n;
}


/* Redis gives no field twice */

static ngx_uint_t
fuzz_is_twice(ngx_rbgv_redis_reply_t *fields, size_t n)
{
    size_t  i, j;

    for (i = 0; i < n; i += 2) {
        for (j = 0; j < i; j += 2) {
            if (fields[i].str.len == fields[j].str.len
                && memcmp(fields[i].str.data, fields[j].str.data,
                          fields[i].str.len)
                   == 0)
            {
                return 1;
            }
        }
    }

    return 0;
}


static void
fuzz_text_is_whole(ngx_http_rbgv_auth_record_t *record, u_char *text)
{
    u_char        *p, *last;
    size_t         len;
    ngx_uint_t     i;
    rbgv_limit_t   limit;

    fuzz_check(record->nsecrets <= NGX_HTTP_RBGV_AUTH_SECRETS,
               "a key has 3 secrets at most");
    fuzz_check(record->expires >= 0 && record->credits >= -1,
               "numbers are not negative");
    fuzz_check(record->text_len <= NGX_HTTP_RBGV_AUTH_TEXT_MAX,
               "texts have 1024 bytes at most");

    p = text + record->name_len;

    fuzz_check(rbgv_environment_valid((char *) p, record->environment_len),
               "the environment is one");

    p += record->environment_len + record->owner_len;
    last = text + record->text_len;

    for (i = 0; i < record->nlimits; i++) {
        fuzz_check(p < last, "a limit is there");

        len = *p++;

        fuzz_check((size_t) (last - p) >= len + sizeof(rbgv_limit_t)
                   && rbgv_limit_name_valid((char *) p, len),
                   "a limit has a name");

        memcpy(&limit, p + len, sizeof(rbgv_limit_t));
        p += len + sizeof(rbgv_limit_t);

        fuzz_check(limit.quota >= 1 && limit.quota <= RBGV_QUOTA_MAX
                   && limit.window >= 1 && limit.window <= RBGV_WINDOW_MAX,
                   "a limit is in its bounds");
    }

    fuzz_check(p == last, "there is nothing behind the limits");
}


/* record NULL: the module has refused it */

static void
fuzz_rbgvctl(ngx_rbgv_redis_reply_t *fields, size_t n,
    ngx_http_rbgv_auth_record_t *record)
{
    size_t          i;
    json_t         *json;
    redisReply      reply, replies[FUZZ_FIELDS], *elements[FUZZ_FIELDS];
    rbgv_record_t   key;

    memset(&reply, 0, sizeof(reply));
    memset(replies, 0, sizeof(replies));
    memset(&key, 0, sizeof(key));

    for (i = 0; i < n; i++) {
        replies[i].type = REDIS_REPLY_STRING;
        replies[i].len = fields[i].str.len;
        replies[i].str = fuzz_text(fields[i].str.data, fields[i].str.len);
        elements[i] = &replies[i];
    }

    reply.type = REDIS_REPLY_ARRAY;
    reply.elements = n;
    reply.element = elements;

    key.id = "000000000000";

    fuzz_check(rbgv_record_set(&key, &reply) == 0, "memory");

    for (i = 0; record && i < record->nsecrets; i++) {
        fuzz_check(strcmp(key.secrets[i].status,
                          record->secret_disabled[i] ? RBGV_DISABLED
                                                     : RBGV_ACTIVE)
                   == 0
                   && key.secrets[i].expires == record->secret_expires[i],
                   "secrets are those of the module");
    }

    fuzz_check(record == NULL || key.nsecrets == record->nsecrets,
               "there are as many secrets");
    fuzz_check(record == NULL
               || rbgv_record_number(&key, RBGV_FIELD_EXPIRES)
                  == record->expires,
               "the key ends when the module says");

    json = rbgv_json_record(&key, 1700000000);

    fuzz_check(json != NULL, "a record has a form in JSON");
    json_decref(json);

    for (i = 0; i < n; i++) {
        free(replies[i].str);
    }

    free(key.secrets);
}
