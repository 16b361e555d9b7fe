
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * New keys.
 */


#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "rbgv_admin.h"


static void rbgv_create_key(rbgv_admin_t *op, redisReply **replies);
static void rbgv_create_store(rbgv_admin_t *op, redisReply **replies);
static void rbgv_create_field(rbgv_admin_t *op, const char *field,
    const char *value);
static void rbgv_create_done(rbgv_admin_t *op, redisReply **replies);
static json_t *rbgv_create_json(const rbgv_admin_t *op);


/* KEYS: the hash of a key; ARGV: field, value ... -> 1, or 0 if it exists */

static const char  rbgv_create_script[] =
    "if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end "
    "redis.call('HSET', KEYS[1], unpack(ARGV)) "
    "return 1";


void
rbgv_admin_create(rbgv_admin_t *op)
{
    rbgv_admin_environments(op, rbgv_create_key);
}


/*
 * Limits of the environment are copied: the key keeps them.  The index first:
 * a key that works is always in the list.
 */

static void
rbgv_create_key(rbgv_admin_t *op, redisReply **replies)
{
    rbgv_key_t                 parsed;
    const rbgv_environment_t  *environment;

    (void) replies;

    environment = rbgv_environment_find(&op->environments, op->environment);

    if (environment == NULL) {
        rbgv_admin_fail(op, RBGV_ADMIN_NO_ENVIRONMENT);
        return;
    }

    if (op->limits.nelts == 0) {
        op->limits = environment->limits;
    }

    if (rbgv_admin_secret(op, op->environment) == -1) {
        rbgv_admin_fail(op, RBGV_ADMIN_CRYPTO);
        return;
    }

    (void) rbgv_key_parse(op->key, strlen(op->key), &parsed);
    memcpy(op->new_id, parsed.id, RBGV_ID_LEN);
    op->new_id[RBGV_ID_LEN] = '\0';

    op->id = op->new_id;

    if (op->expires != NULL) {
        op->expiry = op->now + rbgv_duration_parse(op->expires,
                                                   strlen(op->expires));
    }

    op->next = rbgv_create_store;

    rbgv_admin_command(op, "ZADD");
    rbgv_admin_arg(op, "%s" RBGV_KEYS, op->prefix);
    rbgv_admin_arg(op, "NX");
    rbgv_admin_arg(op, "%" PRId64, op->now);
    rbgv_admin_arg(op, "%s", op->id);
}


int
rbgv_admin_secret(rbgv_admin_t *op, const char *environment)
{
    unsigned char  digest[RBGV_DIGEST_LEN];

    if (rbgv_key_generate(environment, op->id, op->key) == -1
        || rbgv_digest_key(op->digester, op->key, strlen(op->key), digest)
           == -1)
    {
        return -1;
    }

    memset(op->secret, 0, RBGV_SECRET_SIZE);
    strcpy(op->secret, RBGV_FIELD_SECRET);
    rbgv_digest_hex(digest, op->secret + sizeof(RBGV_FIELD_SECRET) - 1);

    return 0;
}


static void
rbgv_create_store(rbgv_admin_t *op, redisReply **replies)
{
    size_t  i;

    if (replies[0]->type != REDIS_REPLY_INTEGER) {
        rbgv_admin_fail(op, RBGV_ADMIN_FOREIGN);
        return;
    }

    op->next = rbgv_create_done;
    op->changing = 1;

    rbgv_admin_command(op, "EVAL");
    rbgv_admin_arg(op, "%s", rbgv_create_script);
    rbgv_admin_arg(op, "1");
    rbgv_admin_hash(op, RBGV_KEY, op->id);

    rbgv_create_field(op, RBGV_FIELD_NAME, op->name);
    rbgv_create_field(op, RBGV_FIELD_ENVIRONMENT, op->environment);
    rbgv_create_field(op, RBGV_FIELD_OWNER, op->owner);
    rbgv_create_field(op, RBGV_FIELD_NOTE, op->note);
    rbgv_create_field(op, RBGV_FIELD_STATUS, RBGV_ACTIVE);
    rbgv_create_field(op, RBGV_FIELD_CREDITS, op->credits);

    rbgv_admin_arg(op, RBGV_FIELD_CREATED);
    rbgv_admin_arg(op, "%" PRId64, op->now);

    if (op->expiry != 0) {
        rbgv_admin_arg(op, RBGV_FIELD_EXPIRES);
        rbgv_admin_arg(op, "%" PRId64, op->expiry);
    }

    rbgv_admin_arg(op, "%s", op->secret);
    rbgv_admin_arg(op, RBGV_ACTIVE " %" PRId64 " 0", op->now);

    for (i = 0; i < op->limits.nelts; i++) {
        rbgv_create_field(op, op->limits.elts[i].field,
                          op->limits.elts[i].quota);
    }
}


static void
rbgv_create_field(rbgv_admin_t *op, const char *field, const char *value)
{
    if (value != NULL) {
        rbgv_admin_arg(op, "%s", field);
        rbgv_admin_arg(op, "%s", value);
    }
}


static void
rbgv_create_done(rbgv_admin_t *op, redisReply **replies)
{
    if (replies[0]->type != REDIS_REPLY_INTEGER) {
        rbgv_admin_fail(op, RBGV_ADMIN_FOREIGN);
        return;
    }

    if (replies[0]->integer == 0) {
        rbgv_admin_fail(op, RBGV_ADMIN_EXISTS);
        return;
    }

    (void) snprintf(op->key_name, sizeof(op->key_name), "%s", op->name);

    rbgv_admin_changed(op, "create", rbgv_create_json(op));
}


static json_t *
rbgv_create_json(const rbgv_admin_t *op)
{
    json_t  *credits;

    credits = op->credits ? json_integer(strtoll(op->credits, NULL, 10))
                          : json_null();

    return json_pack("{s:s, s:s, s:s, s:s, s:s?, s:s?, s:s, s:o, s:o, s:o, "
                     "s:o}",
                     "api_key", op->key,
                     "key_fingerprint", op->id,
                     "client_id", op->name,
                     "environment", op->environment,
                     "owner", op->owner,
                     "note", op->note,
                     "status", RBGV_ACTIVE,
                     "created_at", rbgv_json_time(op->now),
                     "expires_at", rbgv_json_time(op->expiry),
                     "credits", credits,
                     "limits", rbgv_limits_json(&op->limits));
}
