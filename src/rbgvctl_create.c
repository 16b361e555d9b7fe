
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: create.
 */


#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "rbgvctl.h"


#define RBGVCTL_NUMBER_SIZE  24

/* EVAL, script, 1, key; then pairs: 9 fields and the limits */
#define RBGVCTL_ARGS_MAX     (4 + 2 * (9 + RBGV_LIMITS_MAX))


typedef struct {
    const char        *name;
    const char        *environment;
    const char        *owner;
    const char        *note;
    const char        *expires;
    const char        *credits;
    rbgvctl_values_t   limits;
    int                no_pepper;
    int                force;
} rbgvctl_create_conf_t;


/* a key on its way from its parts to the store */

typedef struct {
    char              text[RBGV_KEY_MAX + 1];
    char              id[RBGV_ID_LEN + 1];
    char              hash[RBGVCTL_HASH_SIZE];
    char              created[RBGVCTL_NUMBER_SIZE];
    char              expires[RBGVCTL_NUMBER_SIZE];
    int64_t           expiry;          /* seconds since the epoch, or 0 */
    char              secret[RBGVCTL_SECRET_SIZE];
    char              state[sizeof(RBGV_ACTIVE) + 2 * RBGVCTL_NUMBER_SIZE];
    rbgvctl_limits_t  limits;
} rbgvctl_new_key_t;


static int rbgvctl_create(rbgvctl_t *ctl, void *data, const char *arg);
static int rbgvctl_create_with(rbgvctl_t *ctl,
    const rbgvctl_create_conf_t *conf, rbgvctl_new_key_t *key,
    rbgv_digester_t *digester);

static int rbgvctl_create_check(const rbgvctl_create_conf_t *conf);
static int rbgvctl_create_environment(rbgvctl_t *ctl,
    const rbgvctl_create_conf_t *conf, rbgvctl_new_key_t *key);

static int rbgvctl_create_key(rbgvctl_t *ctl,
    const rbgvctl_create_conf_t *conf, rbgvctl_new_key_t *key,
    rbgv_digester_t *digester);
static int rbgvctl_create_store(rbgvctl_t *ctl,
    const rbgvctl_create_conf_t *conf, rbgvctl_new_key_t *key);
static size_t rbgvctl_create_args(const rbgvctl_create_conf_t *conf,
    const rbgvctl_new_key_t *key, const char *args[RBGVCTL_ARGS_MAX]);
static size_t rbgvctl_create_arg(const char **args, size_t n,
    const char *field, const char *value);
static int rbgvctl_create_undo(rbgvctl_t *ctl, const rbgvctl_new_key_t *key);

static int rbgvctl_create_print(rbgvctl_t *ctl,
    const rbgvctl_create_conf_t *conf, const rbgvctl_new_key_t *key);
static json_t *rbgvctl_create_json(rbgvctl_t *ctl,
    const rbgvctl_create_conf_t *conf, const rbgvctl_new_key_t *key);


/* KEYS: the hash of a key; ARGV: field, value ... -> 1, or 0 if it exists */

static const char  rbgvctl_create_script[] =
    "if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end "
    "redis.call('HSET', KEYS[1], unpack(ARGV)) "
    "return 1";


static const rbgvctl_option_t  rbgvctl_create_options[] = {

    { "name", "NAME",
      rbgvctl_set_string,
      offsetof(rbgvctl_create_conf_t, name),
      "service and environment, as in api-gateway-prod" },

    { "environment", "NAME",
      rbgvctl_set_string,
      offsetof(rbgvctl_create_conf_t, environment),
      "prod, dev, ...; part of the key" },

    { "owner", "TEXT",
      rbgvctl_set_string,
      offsetof(rbgvctl_create_conf_t, owner),
      "who answers for the key" },

    { "note", "TEXT",
      rbgvctl_set_string,
      offsetof(rbgvctl_create_conf_t, note),
      "anything else" },

    { "limit", "POLICY=LIMIT",
      rbgvctl_set_list,
      offsetof(rbgvctl_create_conf_t, limits),
      "replaces the limit of that policy; repeatable" },

    { "expires", "TIME",
      rbgvctl_set_string,
      offsetof(rbgvctl_create_conf_t, expires),
      "from now, as in 90d; never if not given" },

    { "credits", "NUMBER",
      rbgvctl_set_string,
      offsetof(rbgvctl_create_conf_t, credits),
      "granted to the key" },

    { "no-pepper", NULL,
      rbgvctl_set_flag,
      offsetof(rbgvctl_create_conf_t, no_pepper),
      "for a gateway that has no pepper" },

    { "force", NULL,
      rbgvctl_set_flag,
      offsetof(rbgvctl_create_conf_t, force),
      "accept a generic or misleading name" },

    { NULL, NULL, NULL, 0, NULL }
};


const rbgvctl_command_t  rbgvctl_create_command = {
    "create", NULL,
    "Create a key and print it once",
    "Examples:\n"
    "  rbgvctl create --name api-gateway-prod --environment prod\n"
    "  rbgvctl create --name billing-dev --environment dev \\\n"
    "      --owner payments --limit default=600r/1m --limit burst=20r/1s \\\n"
    "      --expires 90d\n",
    rbgvctl_create_options,
    sizeof(rbgvctl_create_conf_t),
    rbgvctl_create
};


static int
rbgvctl_create(rbgvctl_t *ctl, void *data, const char *arg)
{
    rbgvctl_create_conf_t  *conf = data;

    int                 rc;
    rbgv_digester_t    *digester;
    rbgvctl_new_key_t   key;

    (void) arg;

    memset(&key, 0, sizeof(rbgvctl_new_key_t));

    rc = rbgvctl_create_check(conf);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_limits_parse(&conf->limits, 0, &key.limits);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_digester(ctl, "create", conf->no_pepper, &digester);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_create_with(ctl, conf, &key, digester);

    rbgv_digester_free(digester);
    OPENSSL_cleanse(&key, sizeof(rbgvctl_new_key_t));

    return rc;
}


static int
rbgvctl_create_with(rbgvctl_t *ctl, const rbgvctl_create_conf_t *conf,
    rbgvctl_new_key_t *key, rbgv_digester_t *digester)
{
    int  rc;

    rc = rbgvctl_store_open(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_create_environment(ctl, conf, key);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_create_key(ctl, conf, key, digester);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_create_store(ctl, conf, key);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_create_print(ctl, conf, key);

    if (rc != RBGVCTL_OK || rbgvctl_flush() == -1) {
        return rbgvctl_create_undo(ctl, key);
    }

    return RBGVCTL_OK;
}


static int
rbgvctl_create_check(const rbgvctl_create_conf_t *conf)
{
    int          rc;
    const char  *fault;

    if (conf->name == NULL || conf->environment == NULL) {
        return rbgvctl_error(RBGVCTL_USAGE, "create needs --%s; see "
                             "\"rbgvctl create --help\"",
                             conf->name ? "environment" : "name");
    }

    rc = rbgvctl_environment_check("environment", conf->environment);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    fault = conf->owner ? rbgvctl_owner_fault(conf->owner) : NULL;
    if (fault != NULL) {
        return rbgvctl_error(RBGVCTL_USAGE, "--owner %s", fault);
    }

    fault = conf->note ? rbgvctl_note_fault(conf->note) : NULL;
    if (fault != NULL) {
        return rbgvctl_error(RBGVCTL_USAGE, "--note %s", fault);
    }

    fault = conf->expires ? rbgvctl_expires_fault(conf->expires) : NULL;
    if (fault != NULL) {
        return rbgvctl_error(RBGVCTL_USAGE, "--expires \"%s\" %s",
                             conf->expires, fault);
    }

    fault = conf->credits ? rbgvctl_credits_fault(conf->credits) : NULL;
    if (fault != NULL) {
        return rbgvctl_error(RBGVCTL_USAGE, "--credits \"%s\" %s",
                             conf->credits, fault);
    }

    return rbgvctl_name_accept(conf->name, conf->environment, conf->force);
}


int
rbgvctl_name_accept(const char *name, const char *environment, int force)
{
    const char      *fault;
    rbgvctl_name_e   verdict;

    if (!rbgvctl_name_valid(name)) {
        return rbgvctl_error(RBGVCTL_USAGE, "--name \"%s\" is not 2 to 63 "
                             "characters of [a-z0-9-], the first no \"-\"",
                             rbgvctl_quotable(name));
    }

    verdict = rbgvctl_name_check(name, environment);

    if (verdict == RBGVCTL_NAME_GOOD) {
        return RBGVCTL_OK;
    }

    if (verdict == RBGVCTL_NAME_SUFFIX) {
        rbgvctl_note("name \"%s\" does not end in \"-%s\", its environment",
                     name, environment);
        return RBGVCTL_OK;
    }

    fault = (verdict == RBGVCTL_NAME_GENERIC) ? "does not say whose key it is"
                                              : "is of another environment";

    if (force) {
        rbgvctl_note("name \"%s\" %s", name, fault);
        return RBGVCTL_OK;
    }

    return rbgvctl_error(RBGVCTL_REFUSED, "name \"%s\" %s; name service and "
                         "environment, as in \"api-gateway-%s\", or give "
                         "--force", name, fault, environment);
}


int
rbgvctl_digester(rbgvctl_t *ctl, const char *command, int no_pepper,
    rbgv_digester_t **digester)
{
    int             len;
    const char     *err;
    unsigned char   pepper[RBGV_PEPPER_MAX];

    if (no_pepper) {
        *digester = rbgv_digester_create(NULL, 0);

    } else if (ctl->pepper_file == NULL) {
        return rbgvctl_error(RBGVCTL_USAGE, "%s needs --pepper-file "
                             "(RBGV_PEPPER_FILE), the one of the gateway, or "
                             "--no-pepper if the gateway has none", command);

    } else {
        len = rbgv_pepper_read(ctl->pepper_file, pepper, &err);

        if (len == -1) {
            return rbgvctl_error(RBGVCTL_REFUSED, "cannot use the pepper file "
                                 "\"%s\": %s; \"rbgvctl init\" creates one",
                                 ctl->pepper_file, err);
        }

        *digester = rbgv_digester_create(pepper, len);

        OPENSSL_cleanse(pepper, sizeof(pepper));
    }

    if (*digester == NULL) {
        return rbgvctl_error(RBGVCTL_REFUSED, "OpenSSL has no SHA-256");
    }

    return RBGVCTL_OK;
}


/* limits of the environment are copied: the key keeps them */

static int
rbgvctl_create_environment(rbgvctl_t *ctl, const rbgvctl_create_conf_t *conf,
    rbgvctl_new_key_t *key)
{
    int                            rc;
    rbgvctl_environments_t         environments;
    const rbgvctl_environment_t   *environment;

    rc = rbgvctl_environments_fetch(ctl, &environments);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    environment = rbgvctl_environment_find(&environments, conf->environment);

    if (environment == NULL) {
        rc = rbgvctl_error(RBGVCTL_REFUSED, "there is no environment \"%s\"; "
                           "\"rbgvctl environments\" shows all, \"rbgvctl "
                           "environments --set %s\" adds it",
                           conf->environment, conf->environment);

    } else if (conf->limits.nelts == 0) {
        key->limits = environment->limits;
    }

    rbgvctl_environments_free(&environments);

    return rc;
}


static int
rbgvctl_create_key(rbgvctl_t *ctl, const rbgvctl_create_conf_t *conf,
    rbgvctl_new_key_t *key, rbgv_digester_t *digester)
{
    int         rc;
    rbgv_key_t  parsed;

    rc = rbgvctl_store_time(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_secret_create(digester, conf->environment, NULL, key->text,
                               key->secret);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    (void) rbgv_key_parse(key->text, strlen(key->text), &parsed);
    memcpy(key->id, parsed.id, RBGV_ID_LEN);

    if (conf->expires != NULL) {
        key->expiry = ctl->now + rbgv_duration_parse(conf->expires,
                                                     strlen(conf->expires));
    }

    rbgvctl_hash_name(ctl, RBGV_KEY, key->id, key->hash);

    (void) snprintf(key->created, sizeof(key->created), "%" PRId64,
                    ctl->now);
    (void) snprintf(key->expires, sizeof(key->expires), "%" PRId64,
                    key->expiry);
    (void) snprintf(key->state, sizeof(key->state), RBGV_ACTIVE " %s 0",
                    key->created);

    return RBGVCTL_OK;
}


int
rbgvctl_secret_create(rbgv_digester_t *digester, const char *environment,
    const char *id, char text[RBGV_KEY_MAX + 1],
    char field[RBGVCTL_SECRET_SIZE])
{
    unsigned char  digest[RBGV_DIGEST_LEN];

    if (rbgv_key_generate(environment, id, text) == -1
        || rbgv_digest_key(digester, text, strlen(text), digest) == -1)
    {
        return rbgvctl_error(RBGVCTL_REFUSED, "OpenSSL could not make a key");
    }

    memset(field, 0, RBGVCTL_SECRET_SIZE);
    strcpy(field, RBGV_FIELD_SECRET);
    rbgv_digest_hex(digest, field + sizeof(RBGV_FIELD_SECRET) - 1);

    return RBGVCTL_OK;
}


/* the index first: a key that works is always in the list */

static int
rbgvctl_create_store(rbgvctl_t *ctl, const rbgvctl_create_conf_t *conf,
    rbgvctl_new_key_t *key)
{
    int          rc;
    size_t       n;
    int64_t      added;
    redisReply  *reply;
    const char  *args[RBGVCTL_ARGS_MAX];

    rc = rbgvctl_store_integer(ctl, &added, "ZADD %s" RBGV_KEYS " NX %s %s",
                               ctl->prefix, key->created, key->id);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    n = rbgvctl_create_args(conf, key, args);

    reply = rbgvctl_store_argv(ctl, REDIS_REPLY_INTEGER, n, args);

    if (reply == NULL) {
        return rbgvctl_error(RBGVCTL_STORE, "key %s may have been stored, but "
                             "nobody has it; \"rbgvctl delete %s\", and "
                             "create another", key->id, key->id);
    }

    if (reply->integer == 0) {
        rc = rbgvctl_error(RBGVCTL_REFUSED, "there is a key %s already; try "
                           "again", key->id);
    }

    freeReplyObject(reply);

    return rc;
}


static size_t
rbgvctl_create_args(const rbgvctl_create_conf_t *conf,
    const rbgvctl_new_key_t *key, const char *args[RBGVCTL_ARGS_MAX])
{
    size_t  i, n;

    n = rbgvctl_create_arg(args, 0, "EVAL", rbgvctl_create_script);
    n = rbgvctl_create_arg(args, n, "1", key->hash);

    n = rbgvctl_create_arg(args, n, RBGV_FIELD_NAME, conf->name);
    n = rbgvctl_create_arg(args, n, RBGV_FIELD_ENVIRONMENT,
                           conf->environment);
    n = rbgvctl_create_arg(args, n, RBGV_FIELD_OWNER, conf->owner);
    n = rbgvctl_create_arg(args, n, RBGV_FIELD_NOTE, conf->note);
    n = rbgvctl_create_arg(args, n, RBGV_FIELD_STATUS, RBGV_ACTIVE);
    n = rbgvctl_create_arg(args, n, RBGV_FIELD_CREATED, key->created);
    n = rbgvctl_create_arg(args, n, RBGV_FIELD_EXPIRES,
                           conf->expires ? key->expires : NULL);
    n = rbgvctl_create_arg(args, n, RBGV_FIELD_CREDITS, conf->credits);
    n = rbgvctl_create_arg(args, n, key->secret, key->state);

    for (i = 0; i < key->limits.nelts; i++) {
        n = rbgvctl_create_arg(args, n, key->limits.elts[i].field,
                               key->limits.elts[i].quota);
    }

    return n;
}


static size_t
rbgvctl_create_arg(const char **args, size_t n, const char *field,
    const char *value)
{
    if (value == NULL) {
        return n;
    }

    args[n] = field;
    args[n + 1] = value;

    return n + 2;
}


/* nobody has seen the key: it must not stay */

static int
rbgvctl_create_undo(rbgvctl_t *ctl, const rbgvctl_new_key_t *key)
{
    int64_t  n;

    if (rbgvctl_store_integer(ctl, &n, "DEL %s", key->hash) != RBGVCTL_OK
        || rbgvctl_store_integer(ctl, &n, "ZREM %s" RBGV_KEYS " %s",
                                 ctl->prefix, key->id)
           != RBGVCTL_OK)
    {
        return rbgvctl_error(RBGVCTL_REFUSED, "nobody has key %s, and it could "
                             "not be removed; \"rbgvctl delete %s\"",
                             key->id, key->id);
    }

    return rbgvctl_error(RBGVCTL_REFUSED, "key %s could not be shown and was "
                         "removed again; create another", key->id);
}


static int
rbgvctl_create_print(rbgvctl_t *ctl, const rbgvctl_create_conf_t *conf,
    const rbgvctl_new_key_t *key)
{
    if (ctl->json) {
        return rbgvctl_print_json(rbgvctl_create_json(ctl, conf, key));
    }

    (void) printf("API key: %s\nId:      %s\nName:    %s\n\n"
                  "The key is shown this once and is stored nowhere: hand it "
                  "over now.\n", key->text, key->id, conf->name);

    return RBGVCTL_OK;
}


static json_t *
rbgvctl_create_json(rbgvctl_t *ctl, const rbgvctl_create_conf_t *conf,
    const rbgvctl_new_key_t *key)
{
    json_t  *credits;

    credits = conf->credits ? json_integer(strtoll(conf->credits, NULL, 10))
                            : json_null();

    return json_pack("{s:s, s:s, s:s, s:s, s:s?, s:s?, s:s, s:o, s:o, s:o, "
                     "s:o}",
                     "api_key", key->text,
                     "key_fingerprint", key->id,
                     "client_id", conf->name,
                     "environment", conf->environment,
                     "owner", conf->owner,
                     "note", conf->note,
                     "status", RBGV_ACTIVE,
                     "created_at", rbgvctl_json_time(ctl->now),
                     "expires_at", rbgvctl_json_time(key->expiry),
                     "credits", credits,
                     "limits", rbgvctl_limits_json(&key->limits));
}
