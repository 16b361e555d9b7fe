
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: rotate.
 */


#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>

#include "rbgvctl.h"


typedef struct {
    const char  *grace;
    int          finish;
    int          cancel;
    int          force;
    int          no_pepper;
    int          wait;
} rbgvctl_rotate_conf_t;


typedef struct {
    const char  *id;
    char         name[64];
    char         environment[RBGV_ENVIRONMENT_MAX + 1];
    char         text[RBGV_KEY_MAX + 1];
    char         secret[RBGVCTL_SECRET_SIZE];
    int64_t      began;                /* seconds since the epoch */
} rbgvctl_rotate_key_t;


static int rbgvctl_rotate(rbgvctl_t *ctl, void *data, const char *arg);
static int rbgvctl_rotate_check(const rbgvctl_rotate_conf_t *conf);

static int rbgvctl_rotate_begin(rbgvctl_t *ctl,
    const rbgvctl_rotate_conf_t *conf, const char *id);
static int rbgvctl_rotate_with(rbgvctl_t *ctl,
    const rbgvctl_rotate_conf_t *conf, rbgvctl_rotate_key_t *key,
    rbgv_digester_t *digester);
static int rbgvctl_rotate_key(rbgvctl_t *ctl, rbgvctl_rotate_key_t *key);
static int rbgvctl_rotate_store(rbgvctl_t *ctl,
    const rbgvctl_rotate_conf_t *conf, rbgvctl_rotate_key_t *key);
static int rbgvctl_rotate_refused(rbgvctl_t *ctl, const char *id,
    int64_t state, int64_t number);
static int rbgvctl_rotate_print(rbgvctl_t *ctl,
    const rbgvctl_rotate_key_t *key);
static int rbgvctl_rotate_undo(rbgvctl_t *ctl,
    const rbgvctl_rotate_key_t *key);

static int rbgvctl_rotate_end(rbgvctl_t *ctl,
    const rbgvctl_rotate_conf_t *conf, const char *id);
static int rbgvctl_rotate_early(const rbgvctl_rotate_conf_t *conf,
    const char *id, const rbgvctl_rotation_t *rotation);
static int rbgvctl_rotate_ended(rbgvctl_t *ctl, int cancel, const char *id,
    const rbgvctl_rotation_t *rotation);


/*
 * KEYS: the hash of a key; ARGV: field of the new secret, grace or ""
 *
 * Returns 0: no such key; 1, and when the rotation began; 2, and when one
 * began that is under way; 3, and how many secrets there are.
 *
 * A rotation begins later than each secret before it was made: that tells the
 * old ones from the new one.
 */

static const char  rbgvctl_rotate_begin_script[] =
    "local all = redis.call('HGETALL', KEYS[1]) "
    "local began, n = tonumber(redis.call('TIME')[1]), 0 "

    "if #all == 0 then return { 0, 0 } end "

    "for i = 1, #all, 2 do "
        "if all[i] == 'rotation' then "
            "return { 2, tonumber(all[i + 1]) or 0 } "
        "end "

        "if all[i]:sub(1, 7) == 'secret:' then "
            "local created = all[i + 1]:match('^%a+ (%d+)') or 0 "
            "n, began = n + 1, math.max(began, created + 1) "
        "end "
    "end "

    "if n >= " RBGVCTL_TEXT(RBGVCTL_SECRETS_MAX) " then "
        "return { 3, n } "
    "end "

    "redis.call('HSET', KEYS[1], 'rotation', began, "
               "ARGV[1], 'active ' .. began .. ' 0') "

    "if ARGV[2] ~= '' then "
        "redis.call('HSET', KEYS[1], 'grace', ARGV[2]) "
    "end "

    "return { 1, began }";


/*
 * KEYS: the hash of a key, and that of its counters
 * ARGV: 0 to look, 1 to try, 2 to force; 1 to end the new secret, 0 to end the
 *       old ones; the beginning of the rotation that is meant, or 0 for any
 *
 * Returns the numbers of a rbgvctl_rotation_t.
 */

static const char  rbgvctl_rotate_end_script[] =
    "local all, has = redis.call('HGETALL', KEYS[1]), {} "
    "local now = tonumber(redis.call('TIME')[1]) "

    "if #all == 0 then return { 0, 0, 0, 0, now, 0, 0 } end "

    "for i = 1, #all, 2 do has[all[i]] = all[i + 1] end "

    "local began = tonumber(has.rotation) "

    "if not began or ARGV[3] ~= '0' and tonumber(ARGV[3]) ~= began then "
        "return { 2, tonumber(has.rotated) or 0, 0, 0, now, 0, 0 } "
    "end "

    "local gone, counters, last, other, kept = {}, {}, 0, 0, 0 "

    "for field, value in pairs(has) do "
        "if field:sub(1, 7) == 'secret:' then "
            "local created = value:match('^%a+ (%d+)') or 0 "
            "local digest = field:sub(8, 23) "
            "local use = redis.call('HGET', KEYS[2], 't:' .. digest) or 0 "

            "if (tonumber(created) >= began) == (ARGV[2] == '1') then "
                "gone[#gone + 1] = field "
                "counters[#counters + 1] = 's:' .. digest "
                "counters[#counters + 1] = 't:' .. digest "
                "last = math.max(last, tonumber(use) or 0) "
            "else "
                "kept, other = kept + 1, math.max(other, tonumber(use) or 0) "
            "end "
        "end "
    "end "

    "local from = ARGV[2] == '1' and 0 or began "
    "local grace = tonumber(has.grace) or " RBGVCTL_TEXT(RBGVCTL_GRACE) " "
    "local till = math.max(from, last) "

    "if till > 0 then till = till + grace end "

    "local state = now < till and 4 or 5 "

    "if kept == 0 then "
        "state = 3 "

    "elseif ARGV[1] == '2' or ARGV[1] == '1' and state == 5 then "
        "state = 1 "
        "redis.call('HDEL', KEYS[1], 'rotation', 'grace', unpack(gone)) "

        "if ARGV[2] == '0' then "
            "redis.call('HSET', KEYS[1], 'rotated', math.max(now, began)) "
        "end "

        "if #gone > 0 then "
            "redis.call('HDEL', KEYS[2], unpack(counters)) "
        "end "
    "end "

    "return { state, began, last, till, now, #gone, other }";


static const rbgvctl_option_t  rbgvctl_rotate_options[] = {

    { "grace", "TIME",
      rbgvctl_set_string,
      offsetof(rbgvctl_rotate_conf_t, grace),
      "for which nobody has to use the old secret, 24h" },

    { "finish", NULL,
      rbgvctl_set_flag,
      offsetof(rbgvctl_rotate_conf_t, finish),
      "end the old secret" },

    { "cancel", NULL,
      rbgvctl_set_flag,
      offsetof(rbgvctl_rotate_conf_t, cancel),
      "end the new secret instead" },

    { "force", NULL,
      rbgvctl_set_flag,
      offsetof(rbgvctl_rotate_conf_t, force),
      "even if somebody still uses it" },

    { "no-pepper", NULL,
      rbgvctl_set_flag,
      offsetof(rbgvctl_rotate_conf_t, no_pepper),
      "for a gateway that has no pepper" },

    { "wait", NULL,
      rbgvctl_set_flag,
      offsetof(rbgvctl_rotate_conf_t, wait),
      "return when it is in force on every host" },

    { NULL, NULL, NULL, 0, NULL }
};


const rbgvctl_command_t  rbgvctl_rotate_command = {
    "rotate", "ID",
    "Give a key another secret, or end the old one",
    "Prints the new key once.  Both are good until --finish, which is refused "
    "while\nthe old one is in use: \"rbgvctl rotation ID\" tells.\n\n"
    "Examples:\n"
    "  rbgvctl rotate V1StGXR8aBc4\n"
    "  rbgvctl rotate V1StGXR8aBc4 --grace 72h\n"
    "  rbgvctl rotation V1StGXR8aBc4\n"
    "  rbgvctl rotate V1StGXR8aBc4 --finish\n",
    rbgvctl_rotate_options,
    sizeof(rbgvctl_rotate_conf_t),
    rbgvctl_rotate
};


static int
rbgvctl_rotate(rbgvctl_t *ctl, void *data, const char *arg)
{
    rbgvctl_rotate_conf_t  *conf = data;

    int  rc;

    rc = rbgvctl_id_check(arg);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_rotate_check(conf);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    return (conf->finish || conf->cancel)
           ? rbgvctl_rotate_end(ctl, conf, arg)
           : rbgvctl_rotate_begin(ctl, conf, arg);
}


static int
rbgvctl_rotate_check(const rbgvctl_rotate_conf_t *conf)
{
    if (conf->finish && conf->cancel) {
        return rbgvctl_error(RBGVCTL_USAGE, "--finish ends the old secret and "
                             "--cancel the new one; give one of them");
    }

    if (conf->force && !conf->finish && !conf->cancel) {
        return rbgvctl_error(RBGVCTL_USAGE, "--force is for --finish and "
                             "--cancel");
    }

    if (conf->grace != NULL && (conf->finish || conf->cancel)) {
        return rbgvctl_error(RBGVCTL_USAGE, "--grace is for the beginning of "
                             "a rotation; --force does not wait for its end");
    }

    if (conf->grace != NULL
        && rbgv_duration_parse(conf->grace, strlen(conf->grace)) < 1)
    {
        return rbgvctl_error(RBGVCTL_USAGE, "--grace \"%s\" is not a time, as "
                             "in \"24h\"", conf->grace);
    }

    return RBGVCTL_OK;
}


static int
rbgvctl_rotate_begin(rbgvctl_t *ctl, const rbgvctl_rotate_conf_t *conf,
    const char *id)
{
    int                    rc;
    rbgv_digester_t       *digester;
    rbgvctl_rotate_key_t   key;

    rc = rbgvctl_digester(ctl, "rotate", conf->no_pepper, &digester);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    memset(&key, 0, sizeof(rbgvctl_rotate_key_t));
    key.id = id;

    rc = rbgvctl_rotate_with(ctl, conf, &key, digester);

    rbgv_digester_free(digester);
    OPENSSL_cleanse(&key, sizeof(rbgvctl_rotate_key_t));

    if (rc == RBGVCTL_OK && conf->wait) {
        rbgvctl_store_settle();
    }

    return rc;
}


static int
rbgvctl_rotate_with(rbgvctl_t *ctl, const rbgvctl_rotate_conf_t *conf,
    rbgvctl_rotate_key_t *key, rbgv_digester_t *digester)
{
    int  rc;

    rc = rbgvctl_store_open(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_rotate_key(ctl, key);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_secret_create(digester, key->environment, key->id, key->text,
                               key->secret);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_rotate_store(ctl, conf, key);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_rotate_print(ctl, key);

    if (rc != RBGVCTL_OK || rbgvctl_flush() == -1) {
        return rbgvctl_rotate_undo(ctl, key);
    }

    return RBGVCTL_OK;
}


/* what does not change: the environment, which is a part of the key */

static int
rbgvctl_rotate_key(rbgvctl_t *ctl, rbgvctl_rotate_key_t *key)
{
    int                rc;
    redisReply        *reply;
    const redisReply  *name, *environment;

    reply = rbgvctl_store_command(ctl, REDIS_REPLY_ARRAY, "HMGET %s" RBGV_KEY
                                  RBGVCTL_TAG " " RBGV_FIELD_NAME " "
                                  RBGV_FIELD_ENVIRONMENT, ctl->prefix,
                                  key->id);
    if (reply == NULL) {
        return RBGVCTL_STORE;
    }

    name = reply->elements == 2 ? reply->element[0] : reply;
    environment = reply->elements == 2 ? reply->element[1] : reply;

    if (environment->type != REDIS_REPLY_STRING) {
        rc = rbgvctl_not_found(ctl, key->id);

    } else if (!rbgv_environment_valid(environment->str, environment->len)) {
        rc = rbgvctl_error(RBGVCTL_REFUSED, "key %s has the environment "
                           "\"%.64s\" in the store, which is not valid",
                           key->id, environment->str);

    } else {
        rc = RBGVCTL_OK;
        strcpy(key->environment, environment->str);
        (void) snprintf(key->name, sizeof(key->name), "%s",
                        name->type == REDIS_REPLY_STRING ? name->str : "-");
    }

    freeReplyObject(reply);

    return rc;
}


static int
rbgvctl_rotate_store(rbgvctl_t *ctl, const rbgvctl_rotate_conf_t *conf,
    rbgvctl_rotate_key_t *key)
{
    char         hash[RBGVCTL_HASH_SIZE], grace[32];
    int64_t      state, number;
    redisReply  *reply;
    const char  *args[6];

    grace[0] = '\0';

    if (conf->grace != NULL) {
        (void) snprintf(grace, sizeof(grace), "%" PRId64,
                        rbgv_duration_parse(conf->grace,
                                            strlen(conf->grace)));
    }

    rbgvctl_hash_name(ctl, RBGV_KEY, key->id, hash);

    args[0] = "EVAL";
    args[1] = rbgvctl_rotate_begin_script;
    args[2] = "1";
    args[3] = hash;
    args[4] = key->secret;
    args[5] = grace;

    reply = rbgvctl_store_integers(ctl, 2, 6, args);

    if (reply == NULL) {
        return rbgvctl_error(RBGVCTL_STORE, "key %s may have a new secret, but "
                             "nobody has it; if \"rbgvctl rotation %s\" shows "
                             "one, \"rbgvctl rotate %s --cancel\"", key->id,
                             key->id, key->id);
    }

    state = reply->element[0]->integer;
    number = reply->element[1]->integer;

    freeReplyObject(reply);

    if (state != 1) {
        return rbgvctl_rotate_refused(ctl, key->id, state, number);
    }

    key->began = number;

    return RBGVCTL_OK;
}


static int
rbgvctl_rotate_refused(rbgvctl_t *ctl, const char *id, int64_t state,
    int64_t number)
{
    char  began[RBGVCTL_TIME_SIZE];

    if (state == 0) {
        return rbgvctl_not_found(ctl, id);
    }

    if (state == 2) {
        rbgvctl_time(number, RBGVCTL_RFC3339, began);

        return rbgvctl_error(RBGVCTL_REFUSED, "a rotation of key %s is under "
                             "way since %s; see \"rbgvctl rotation %s\", then "
                             "\"rbgvctl rotate %s --finish\", or \"--cancel\" "
                             "if nobody has the new secret", id, began, id,
                             id);
    }

    return rbgvctl_error(RBGVCTL_REFUSED, "key %s has %" PRId64 " secrets, "
                         "and may have %d; create another key", id, number,
                         RBGVCTL_SECRETS_MAX);
}


static int
rbgvctl_rotate_print(rbgvctl_t *ctl, const rbgvctl_rotate_key_t *key)
{
    if (ctl->json) {
        return rbgvctl_print_json(json_pack("{s:s, s:s, s:s, s:s, s:o}",
                                      "api_key", key->text,
                                      "key_fingerprint", key->id,
                                      "client_id", key->name,
                                      "environment", key->environment,
                                      "rotation_started_at",
                                      rbgvctl_json_time(key->began)));
    }

    (void) printf("API key: %s\nId:      %s\nName:    %s\n\n"
                  "The key is shown this once and is stored nowhere: hand it "
                  "over now.\nThe old one is good until \"rbgvctl rotate %s "
                  "--finish\";\n\"rbgvctl rotation %s\" tells whether anybody "
                  "uses it.\n", key->text, key->id, key->name, key->id,
                  key->id);

    return RBGVCTL_OK;
}


/* nobody has seen the secret: it must not stay */

static int
rbgvctl_rotate_undo(rbgvctl_t *ctl, const rbgvctl_rotate_key_t *key)
{
    rbgvctl_rotation_t  rotation;

    rotation.began = key->began;

    if (rbgvctl_rotation(ctl, key->id, RBGVCTL_ROTATION_FORCE, 1, &rotation)
        != RBGVCTL_OK)
    {
        return rbgvctl_error(RBGVCTL_REFUSED, "nobody has the new secret of "
                             "key %s, and it could not be removed; \"rbgvctl "
                             "rotate %s --cancel\"", key->id, key->id);
    }

    return rbgvctl_error(RBGVCTL_REFUSED, "the new secret of key %s could not "
                         "be shown and was removed again; rotate it again",
                         key->id);
}


static int
rbgvctl_rotate_end(rbgvctl_t *ctl, const rbgvctl_rotate_conf_t *conf,
    const char *id)
{
    int                     rc;
    rbgvctl_rotation_t      rotation;
    rbgvctl_rotation_how_e  how;

    rc = rbgvctl_store_open(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    how = conf->force ? RBGVCTL_ROTATION_FORCE : RBGVCTL_ROTATION_TRY;
    rotation.began = 0;

    rc = rbgvctl_rotation(ctl, id, how, conf->cancel, &rotation);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    if (rotation.state == RBGVCTL_ROTATION_WATCH) {
        return rbgvctl_rotate_early(conf, id, &rotation);
    }

    if (rotation.state != RBGVCTL_ROTATION_DONE) {
        return rbgvctl_rotation_refused(ctl, id, &rotation);
    }

    if (conf->wait) {
        rbgvctl_store_settle();
    }

    return rbgvctl_rotate_ended(ctl, conf->cancel, id, &rotation);
}


static int
rbgvctl_rotate_early(const rbgvctl_rotate_conf_t *conf, const char *id,
    const rbgvctl_rotation_t *rotation)
{
    char         began[RBGVCTL_TIME_SIZE], last[RBGVCTL_TIME_SIZE];
    char         until[RBGVCTL_TIME_SIZE];
    const char  *which;

    rbgvctl_time(rotation->began, RBGVCTL_RFC3339, began);
    rbgvctl_time(rotation->last, RBGVCTL_RFC3339, last);
    rbgvctl_time(rotation->until, RBGVCTL_RFC3339, until);

    which = conf->cancel ? "new" : "old";

    if (rotation->last >= rotation->began) {
        return rbgvctl_error(RBGVCTL_REFUSED, "the %s secret of key %s was "
                             "used at %s; try again when nobody has used it "
                             "until %s, or give --force", which, id, last,
                             until);
    }

    return rbgvctl_error(RBGVCTL_REFUSED, "the rotation of key %s began at "
                         "%s; try again when nobody has used the %s secret "
                         "until %s, or give --force", id, began, which,
                         until);
}


static int
rbgvctl_rotate_ended(rbgvctl_t *ctl, int cancel, const char *id,
    const rbgvctl_rotation_t *rotation)
{
    if (ctl->json) {
        return rbgvctl_print_json(json_pack("{s:s, s:o, s:I}",
                                      "key_fingerprint", id,
                                      "rotated_at",
                                      rbgvctl_json_time(cancel ? 0
                                                        : rotation->now),
                                      "secrets_ended",
                                      (json_int_t) rotation->count));
    }

    (void) printf("%s is %s: %" PRId64 " %s secret%s ended\n", id,
                  cancel ? "as before" : "rotated", rotation->count,
                  cancel ? "new" : "old", rotation->count == 1 ? "" : "s");

    return RBGVCTL_OK;
}


int
rbgvctl_rotation(rbgvctl_t *ctl, const char *id, rbgvctl_rotation_how_e how,
    int cancel, rbgvctl_rotation_t *rotation)
{
    char         hash[RBGVCTL_HASH_SIZE], use[RBGVCTL_HASH_SIZE];
    char         began[32], number[2];
    redisReply  *reply;
    const char  *args[8];

    rbgvctl_hash_name(ctl, RBGV_KEY, id, hash);
    rbgvctl_hash_name(ctl, RBGV_USE, id, use);

    (void) snprintf(began, sizeof(began), "%" PRId64, rotation->began);

    number[0] = '0' + how;
    number[1] = '\0';

    args[0] = "EVAL";
    args[1] = rbgvctl_rotate_end_script;
    args[2] = "2";
    args[3] = hash;
    args[4] = use;
    args[5] = number;
    args[6] = cancel ? "1" : "0";
    args[7] = began;

    reply = rbgvctl_store_integers(ctl, 7, 8, args);
    if (reply == NULL) {
        return RBGVCTL_STORE;
    }

    rotation->state = reply->element[0]->integer;
    rotation->began = reply->element[1]->integer;
    rotation->last = reply->element[2]->integer;
    rotation->until = reply->element[3]->integer;
    rotation->now = reply->element[4]->integer;
    rotation->count = reply->element[5]->integer;
    rotation->other = reply->element[6]->integer;

    freeReplyObject(reply);

    return RBGVCTL_OK;
}


int
rbgvctl_rotation_refused(rbgvctl_t *ctl, const char *id,
    const rbgvctl_rotation_t *rotation)
{
    char  rotated[RBGVCTL_TIME_SIZE];

    if (rotation->state == RBGVCTL_ROTATION_NO_KEY) {
        return rbgvctl_not_found(ctl, id);
    }

    if (rotation->state == RBGVCTL_ROTATION_ALONE) {
        return rbgvctl_error(RBGVCTL_REFUSED, "key %s would be left without a "
                             "secret; \"rbgvctl disable %s\" refuses it", id,
                             id);
    }

    rbgvctl_time(rotation->began, RBGVCTL_RFC3339, rotated);

    return rbgvctl_error(RBGVCTL_REFUSED, "no rotation of key %s is under "
                         "way, the last one was finished: %s; \"rbgvctl "
                         "rotate %s\" begins one", id, rotated, id);
}
