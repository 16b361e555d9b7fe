
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: show, disable, enable, delete, and reading keys.
 */


#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rbgvctl.h"


typedef struct {
    int             wait;
} rbgvctl_status_conf_t;


typedef struct {
    int             yes;
    int             wait;
} rbgvctl_delete_conf_t;


static int rbgvctl_show(rbgvctl_t *ctl, void *data, const char *arg);

static int rbgvctl_disable(rbgvctl_t *ctl, void *data, const char *arg);
static int rbgvctl_enable(rbgvctl_t *ctl, void *data, const char *arg);
static int rbgvctl_set_status(rbgvctl_t *ctl,
    const rbgvctl_status_conf_t *conf, const char *id, const char *status);

static int rbgvctl_changed(rbgvctl_t *ctl, rbgv_admin_t *op,
    const char *status, int wait);

static int rbgvctl_delete(rbgvctl_t *ctl, void *data, const char *arg);
static int rbgvctl_delete_confirm(rbgvctl_t *ctl, const char *id);

static void rbgvctl_keys_ask(rbgvctl_t *ctl, const rbgv_record_t *key);
static int rbgvctl_keys_usage(rbgvctl_t *ctl, rbgv_record_t *key);


static const rbgvctl_option_t  rbgvctl_status_options[] = {

    { "wait", NULL,
      rbgvctl_set_flag,
      offsetof(rbgvctl_status_conf_t, wait),
      "return when it is in force on every host" },

    { NULL, NULL, NULL, 0, NULL }
};


static const rbgvctl_option_t  rbgvctl_delete_options[] = {

    { "yes", NULL,
      rbgvctl_set_flag,
      offsetof(rbgvctl_delete_conf_t, yes),
      "do not ask" },

    { "wait", NULL,
      rbgvctl_set_flag,
      offsetof(rbgvctl_delete_conf_t, wait),
      "return when it is in force on every host" },

    { NULL, NULL, NULL, 0, NULL }
};


const rbgvctl_command_t  rbgvctl_show_command = {
    "show", "ID",
    "Show all about one key",
    "Examples:\n"
    "  rbgvctl show V1StGXR8aBc4\n"
    "  rbgvctl show V1StGXR8aBc4 --json\n",
    NULL,
    0,
    rbgvctl_show
};


const rbgvctl_command_t  rbgvctl_disable_command = {
    "disable", "ID",
    "Refuse a key until it is enabled again",
    "Examples:\n"
    "  rbgvctl disable V1StGXR8aBc4\n"
    "  rbgvctl disable V1StGXR8aBc4 --wait\n",
    rbgvctl_status_options,
    sizeof(rbgvctl_status_conf_t),
    rbgvctl_disable
};


const rbgvctl_command_t  rbgvctl_enable_command = {
    "enable", "ID",
    "Accept a disabled key again",
    "Examples:\n"
    "  rbgvctl enable V1StGXR8aBc4\n"
    "  rbgvctl enable V1StGXR8aBc4 --wait\n",
    rbgvctl_status_options,
    sizeof(rbgvctl_status_conf_t),
    rbgvctl_enable
};


const rbgvctl_command_t  rbgvctl_delete_command = {
    "delete", "ID",
    "Delete a key and its counters for good",
    "Asks for the name of the key, which takes a terminal; \"disable\" can "
    "be undone.\n\n"
    "Examples:\n"
    "  rbgvctl delete V1StGXR8aBc4\n"
    "  rbgvctl delete V1StGXR8aBc4 --yes\n",
    rbgvctl_delete_options,
    sizeof(rbgvctl_delete_conf_t),
    rbgvctl_delete
};


static int
rbgvctl_show(rbgvctl_t *ctl, void *data, const char *arg)
{
    int  rc;

    (void) data;

    rc = rbgvctl_id_check(arg);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_store_open(ctl);

    return rc == RBGVCTL_OK ? rbgvctl_show_key(ctl, arg) : rc;
}


int
rbgvctl_show_key(rbgvctl_t *ctl, const char *id)
{
    int            rc;
    rbgv_record_t  key;

    memset(&key, 0, sizeof(rbgv_record_t));
    key.id = id;

    rc = rbgvctl_keys_fetch(ctl, &key, 1);

    if (rc == RBGVCTL_OK) {
        rc = key.fields ? rbgvctl_print_key(ctl, &key)
                        : rbgvctl_not_found(ctl, id);
    }

    rbgvctl_keys_free(&key, 1);

    return rc;
}


static int
rbgvctl_disable(rbgvctl_t *ctl, void *data, const char *arg)
{
    return rbgvctl_set_status(ctl, data, arg, RBGV_DISABLED);
}


static int
rbgvctl_enable(rbgvctl_t *ctl, void *data, const char *arg)
{
    return rbgvctl_set_status(ctl, data, arg, RBGV_ACTIVE);
}


static int
rbgvctl_set_status(rbgvctl_t *ctl, const rbgvctl_status_conf_t *conf,
    const char *id, const char *status)
{
    int           rc;
    rbgv_admin_t  op;

    rc = rbgvctl_id_check(id);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_store_open(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rbgvctl_op_init(ctl, &op, id);
    op.status = status;

    rbgv_admin_status(&op);

    return rbgvctl_changed(ctl, &op, status, conf->wait);
    }


static int
rbgvctl_changed(rbgvctl_t *ctl, rbgv_admin_t *op, const char *status,
    int wait)
{
    int  rc;

    rc = rbgvctl_op_run(ctl, op);

    if (rc == RBGVCTL_OK && wait) {
        rbgvctl_store_settle();
    }

    if (rc == RBGVCTL_OK && ctl->json) {
        rc = rbgvctl_print_json(json_incref(op->json));

    } else if (rc == RBGVCTL_OK) {
        (void) printf("%s is %s\n", op->id, status);
    }

    rbgv_admin_free(op);

    return rc;
}


static int
rbgvctl_delete(rbgvctl_t *ctl, void *data, const char *arg)
{
    rbgvctl_delete_conf_t  *conf = data;

    int           rc;
    rbgv_admin_t  op;

    rc = rbgvctl_id_check(arg);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    if (!conf->yes && !isatty(STDIN_FILENO)) {
        return rbgvctl_error(RBGVCTL_USAGE, "there is no terminal to ask "
                             "whether to delete key %s; give --yes", arg);
    }

    rc = rbgvctl_store_open(ctl);

    if (rc == RBGVCTL_OK && !conf->yes) {
        rc = rbgvctl_delete_confirm(ctl, arg);
    }

    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rbgvctl_op_init(ctl, &op, arg);
    rbgv_admin_delete(&op);

    return rbgvctl_changed(ctl, &op, "deleted", conf->wait);
}


static int
rbgvctl_delete_confirm(rbgvctl_t *ctl, const char *id)
{
    int          rc;
    char         line[128];
    redisReply  *name;

    name = rbgvctl_store_command(ctl, 0, "HGET %s" RBGV_KEY RBGV_TAG
                                 " " RBGV_FIELD_NAME, ctl->prefix, id);
    if (name == NULL) {
        return RBGVCTL_STORE;
    }

    if (name->type != REDIS_REPLY_STRING) {
        freeReplyObject(name);
        return rbgvctl_not_found(ctl, id);
    }

    rbgvctl_note("key %s and its counters will be gone; type its name, "
                 "\"%.64s\", to delete it:", id, name->str);

    if (fgets(line, sizeof(line), stdin) == NULL) {
        line[0] = '\0';
    }

    line[strcspn(line, "\n")] = '\0';

    rc = RBGVCTL_OK;

    if (line[0] == '\0' || strcmp(line, name->str) != 0) {
        rc = rbgvctl_error(RBGVCTL_REFUSED, "key %s is not deleted: this is "
                           "not its name", id);
    }

    freeReplyObject(name);

    return rc;
}


int
rbgvctl_not_found(rbgvctl_t *ctl, const char *id)
{
    return rbgvctl_error(RBGVCTL_REFUSED, "there is no key %s in the store "
                         "at %s; \"rbgvctl list\" shows all", id,
                         ctl->server);
}


int
rbgvctl_id_check(const char *id)
{
    if (rbgv_id_valid(id, strlen(id))) {
        return RBGVCTL_OK;
    }

    return rbgvctl_error(RBGVCTL_USAGE, "\"%s\" is not the id of a key: those "
                         "have %d letters and digits, \"rbgvctl list\" shows "
                         "them", rbgvctl_quotable(id), RBGV_ID_LEN);
}


int
rbgvctl_keys_fetch(rbgvctl_t *ctl, rbgv_record_t *keys, size_t n)
{
    int  rc;

    rc = rbgvctl_store_time(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_keys_fields(ctl, keys, n);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    return rbgvctl_keys_counters(ctl, keys, n);
}


int
rbgvctl_keys_counters(rbgvctl_t *ctl, rbgv_record_t *keys, size_t n)
{
    int     rc;
    size_t  i;

    for (i = 0; i < n; i++) {
        rbgvctl_keys_ask(ctl, &keys[i]);
    }

    for (i = 0; i < n; i++) {
        rc = rbgvctl_keys_usage(ctl, &keys[i]);
        if (rc != RBGVCTL_OK) {
            return rc;
        }
    }

    return RBGVCTL_OK;
}


int
rbgvctl_keys_fields(rbgvctl_t *ctl, rbgv_record_t *keys, size_t n)
{
    size_t       i;
    redisReply  *reply;

    for (i = 0; i < n; i++) {
        rbgvctl_store_append(ctl, "HGETALL %s" RBGV_KEY RBGV_TAG,
                             ctl->prefix, keys[i].id);
    }

    for (i = 0; i < n; i++) {
        reply = rbgvctl_store_reply(ctl, REDIS_REPLY_ARRAY);
        if (reply == NULL) {
            return RBGVCTL_STORE;
        }

        if (reply->elements == 0 || !rbgv_reply_strings(reply)) {
            freeReplyObject(reply);
            continue;
        }

        if (rbgv_record_set(&keys[i], reply) == -1) {
            return rbgvctl_error(RBGVCTL_REFUSED, "out of memory");
        }
    }

    return RBGVCTL_OK;
}


static void
rbgvctl_keys_ask(rbgvctl_t *ctl, const rbgv_record_t *key)
{
    size_t     i;
    long long  day;

    day = ctl->now / RBGV_DAY;

    rbgvctl_store_append(ctl, "HMGET %s" RBGV_USE RBGV_TAG " last d:%lld "
                         "d:%lld d:%lld d:%lld d:%lld d:%lld d:%lld",
                         ctl->prefix, key->id, day, day - 1, day - 2, day - 3,
                         day - 4, day - 5, day - 6);

    for (i = 0; i < key->nsecrets; i++) {
        rbgvctl_store_append(ctl, "HGET %s" RBGV_USE RBGV_TAG " "
                             RBGV_USE_SECRET "%s", ctl->prefix, key->id,
                             key->secrets[i].counter);
    }
}


static int
rbgvctl_keys_usage(rbgvctl_t *ctl, rbgv_record_t *key)
{
    size_t       i;
    redisReply  *reply;

    reply = rbgvctl_store_reply(ctl, REDIS_REPLY_ARRAY);
    if (reply == NULL) {
        return RBGVCTL_STORE;
    }

    if (reply->elements == 1 + RBGV_DAYS) {
        key->last_used = rbgv_reply_number(reply->element[0]);
        key->requests_today = rbgv_reply_number(reply->element[1]);

        for (i = 1; i <= RBGV_DAYS; i++) {
            key->requests_7d += rbgv_reply_number(reply->element[i]);
        }
    }

    freeReplyObject(reply);

    for (i = 0; i < key->nsecrets; i++) {
        reply = rbgvctl_store_reply(ctl, 0);
        if (reply == NULL) {
            return RBGVCTL_STORE;
        }

        key->secrets[i].uses = rbgv_reply_number(reply);

        freeReplyObject(reply);
    }

    return RBGVCTL_OK;
}


void
rbgvctl_keys_free(rbgv_record_t *keys, size_t n)
{
    size_t  i;

    for (i = 0; i < n; i++) {
        if (keys[i].fields != NULL) {
            freeReplyObject(keys[i].fields);
        }

        free(keys[i].secrets);
    }
}
