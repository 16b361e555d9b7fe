
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Operations on keys, as steps: each one takes the replies to the commands of
 * the one before, and asks for more or ends the operation.
 */


#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "rbgv_admin.h"


static int rbgv_admin_time(rbgv_admin_t *op, const redisReply *reply);
static void rbgv_admin_environment_names(rbgv_admin_t *op,
    redisReply **replies);
static void rbgv_admin_environment_fields(rbgv_admin_t *op,
    redisReply **replies);
static void rbgv_admin_then(rbgv_admin_t *op);

static void rbgv_admin_audited(rbgv_admin_t *op, redisReply **replies);

static void rbgv_status_change(rbgv_admin_t *op, redisReply **replies);
static void rbgv_status_done(rbgv_admin_t *op, redisReply **replies);

static void rbgv_delete_key(rbgv_admin_t *op, redisReply **replies);
static void rbgv_delete_index(rbgv_admin_t *op, redisReply **replies);
static void rbgv_delete_done(rbgv_admin_t *op, redisReply **replies);

static void rbgv_set_change(rbgv_admin_t *op, redisReply **replies);
static void rbgv_set_done(rbgv_admin_t *op, redisReply **replies);

static json_t *rbgv_admin_json_status(rbgv_admin_t *op, const char *status);
static void rbgv_admin_describe_numbers(const rbgv_admin_t *op,
    char text[RBGV_ADMIN_TEXT]);
static void rbgv_admin_describe_rotation(const rbgv_admin_t *op,
    char text[RBGV_ADMIN_TEXT]);


/* KEYS: the hash of a key; ARGV: its status -> 1, or 0 if there is none */

static const char  rbgv_status_script[] =
    "if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end "
    "redis.call('HSET', KEYS[1], '" RBGV_FIELD_STATUS "', ARGV[1]) "
    "return 1";


void
rbgv_admin_feed(rbgv_admin_t *op, redisReply **replies)
{
    rbgv_admin_next_pt  next;

    next = op->next;

    op->next = NULL;
    op->changing = 0;

    rbgv_admin_clear(op);

    next(op, replies);
}


void
rbgv_admin_free(rbgv_admin_t *op)
{
    rbgv_admin_clear(op);
    rbgv_environments_free(&op->environments);

    json_decref(op->json);
    free(op->commands);
    free(op->ids);

    OPENSSL_cleanse(op->key, sizeof(op->key));
}


void
rbgv_admin_clear(rbgv_admin_t *op)
{
    size_t  i, k;

    for (i = 0; i < op->ncommands; i++) {
        for (k = 0; k < op->commands[i].argc; k++) {
            free(op->commands[i].argv[k]);
        }
    }

    op->ncommands = 0;
}


void
rbgv_admin_command(rbgv_admin_t *op, const char *name)
{
    rbgv_command_t  *commands;

    commands = realloc(op->commands,
                       (op->ncommands + 1) * sizeof(rbgv_command_t));
    if (commands == NULL) {
        rbgv_admin_fail(op, RBGV_ADMIN_MEMORY);
        return;
    }

    op->commands = commands;
    op->commands[op->ncommands++].argc = 0;

    rbgv_admin_arg(op, "%s", name);
}


void
rbgv_admin_arg(rbgv_admin_t *op, const char *fmt, ...)
{
    int              len;
    char            *arg;
    va_list          ap;
    rbgv_command_t  *command;

    if (op->state != RBGV_ADMIN_OK) {
        return;
    }

    va_start(ap, fmt);
    len = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);

    command = &op->commands[op->ncommands - 1];

    arg = (len < 0 || command->argc == RBGV_ADMIN_ARGS) ? NULL
                                                        : malloc(len + 1);
    if (arg == NULL) {
        rbgv_admin_fail(op, RBGV_ADMIN_MEMORY);
        return;
    }

    va_start(ap, fmt);
    (void) vsnprintf(arg, len + 1, fmt, ap);
    va_end(ap);

    command->argv[command->argc++] = arg;
}


void
rbgv_admin_hash(rbgv_admin_t *op, const char *kind, const char *id)
{
    rbgv_admin_arg(op, "%s%s" RBGV_TAG, op->prefix, kind, id);
}


/* a step that fails may have set what is next, and more commands */

void
rbgv_admin_fail(rbgv_admin_t *op, rbgv_admin_state_e state)
{
    op->state = state;
    op->next = NULL;

    rbgv_admin_clear(op);
}


/* -1: it is not that of TIME */

static int
rbgv_admin_time(rbgv_admin_t *op, const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2) {
        return -1;
    }

    op->now = rbgv_reply_number(reply->element[0]);

    return op->now > 0 ? 0 : -1;
}


void
rbgv_admin_environments(rbgv_admin_t *op, rbgv_admin_next_pt then)
{
    op->then = then;
    op->next = rbgv_admin_environment_names;

    rbgv_admin_command(op, "SMEMBERS");
    rbgv_admin_arg(op, "%s" RBGV_ENVIRONMENTS, op->prefix);
    rbgv_admin_command(op, "TIME");
}


static void
rbgv_admin_environment_names(rbgv_admin_t *op, redisReply **replies)
{
    size_t             i;
    const redisReply  *names;

    names = replies[0];

    if (rbgv_admin_time(op, replies[1]) == -1
        || names->type != REDIS_REPLY_ARRAY || !rbgv_reply_strings(names))
    {
        rbgv_admin_fail(op, RBGV_ADMIN_FOREIGN);
        return;
    }

    if (rbgv_environments_names(&op->environments, names) == -1) {
        rbgv_admin_fail(op, RBGV_ADMIN_MEMORY);
        return;
    }

    /* none are there, or none that rbgvctl has written: nothing to read */

    if (names->elements == 0 || op->environments.nelts == 0) {
        rbgv_admin_then(op);
        return;
    }

    op->next = rbgv_admin_environment_fields;

    for (i = 0; i < op->environments.nelts; i++) {
        rbgv_admin_command(op, "HGETALL");
        rbgv_admin_arg(op, "%s" RBGV_ENVIRONMENT "%s", op->prefix,
                       op->environments.elts[i].name);
    }
}


static void
rbgv_admin_environment_fields(rbgv_admin_t *op, redisReply **replies)
{
    size_t               i;
    const char          *err;
    redisReply         **limit;
    rbgv_environment_t  *environment;

    for (i = 0; i < op->environments.nelts; i++) {
        environment = &op->environments.elts[i];

        if (replies[i]->type != REDIS_REPLY_ARRAY
            || !rbgv_reply_strings(replies[i]))
        {
            continue;
        }

        err = rbgv_environment_fields(environment, replies[i], &limit);

        if (err != NULL) {
            (void) snprintf(op->text, sizeof(op->text), "the limit "
                            "\"%.80s=%.120s\" of environment \"%s\" in the "
                            "store is not valid: %s", limit[0]->str
                            + sizeof(RBGV_FIELD_LIMIT) - 1, limit[1]->str,
                            environment->name, err);
            strcpy(op->key_environment, environment->name);

            rbgv_admin_fail(op, RBGV_ADMIN_BAD_ENVIRONMENT);
            return;
        }
    }

    rbgv_admin_then(op);
}


static void
rbgv_admin_then(rbgv_admin_t *op)
{
    if (op->then != NULL) {
        op->then(op, NULL);
    }
}


void
rbgv_admin_look(rbgv_admin_t *op, rbgv_admin_next_pt next)
{
    op->next = next;

    rbgv_admin_command(op, "HMGET");
    rbgv_admin_hash(op, RBGV_KEY, op->id);
    rbgv_admin_arg(op, RBGV_FIELD_NAME);
    rbgv_admin_arg(op, RBGV_FIELD_ENVIRONMENT);
    rbgv_admin_command(op, "TIME");
}


/* 0 if the operation has failed; a key that is not there has neither */

int
rbgv_admin_seen(rbgv_admin_t *op, redisReply **replies)
{
    const redisReply  *fields, *name, *environment;

    fields = replies[0];

    if (rbgv_admin_time(op, replies[1]) == -1
        || fields->type != REDIS_REPLY_ARRAY || fields->elements != 2)
    {
        rbgv_admin_fail(op, RBGV_ADMIN_FOREIGN);
        return 0;
    }

    name = fields->element[0];
    environment = fields->element[1];

    if (name->type == REDIS_REPLY_STRING) {
        (void) snprintf(op->key_name, sizeof(op->key_name), "%s", name->str);
    }

    if (environment->type != REDIS_REPLY_STRING) {
        return 1;
    }

    if (!rbgv_environment_valid(environment->str, environment->len)) {
        (void) snprintf(op->text, sizeof(op->text), "%.64s",
                        environment->str);
        return 1;
    }

    strcpy(op->key_environment, environment->str);

    return 1;
}


void
rbgv_admin_changed(rbgv_admin_t *op, const char *action, json_t *json)
{
    if (json == NULL) {
        rbgv_admin_fail(op, RBGV_ADMIN_MEMORY);
        return;
    }

    op->json = json;
    op->action = action;
    op->auditing = 1;
    op->next = rbgv_admin_audited;

    rbgv_admin_audit_command(op, action);
}


static void
rbgv_admin_audited(rbgv_admin_t *op, redisReply **replies)
{
    (void) replies;

    op->auditing = 0;
}


void
rbgv_admin_status(rbgv_admin_t *op)
{
    rbgv_admin_look(op, rbgv_status_change);
}


static void
rbgv_status_change(rbgv_admin_t *op, redisReply **replies)
{
    if (!rbgv_admin_seen(op, replies)) {
        return;
    }

    op->next = rbgv_status_done;
    op->changing = 1;

    rbgv_admin_command(op, "EVAL");
    rbgv_admin_arg(op, "%s", rbgv_status_script);
    rbgv_admin_arg(op, "1");
    rbgv_admin_hash(op, RBGV_KEY, op->id);
    rbgv_admin_arg(op, "%s", op->status);
}


static void
rbgv_status_done(rbgv_admin_t *op, redisReply **replies)
{
    if (replies[0]->type != REDIS_REPLY_INTEGER) {
        rbgv_admin_fail(op, RBGV_ADMIN_FOREIGN);
        return;
    }

    if (replies[0]->integer == 0) {
        rbgv_admin_fail(op, RBGV_ADMIN_NO_KEY);
        return;
    }

    rbgv_admin_changed(op, strcmp(op->status, RBGV_ACTIVE) == 0 ? "enable"
                                                                : "disable",
                       rbgv_admin_json_status(op, op->status));
}


void
rbgv_admin_delete(rbgv_admin_t *op)
{
    rbgv_admin_look(op, rbgv_delete_key);
}


/* the credential goes first, the index last: a rest can be deleted again */

static void
rbgv_delete_key(rbgv_admin_t *op, redisReply **replies)
{
    static const char *const  kinds[] = { RBGV_KEY, RBGV_USE, RBGV_EVENTS };

    size_t  i;

    if (!rbgv_admin_seen(op, replies)) {
        return;
    }

    if (op->name != NULL && strcmp(op->name, op->key_name) != 0) {
        rbgv_admin_fail(op, op->key_name[0] ? RBGV_ADMIN_OTHER_NAME
                                            : RBGV_ADMIN_NO_KEY);
        return;
    }

    op->next = rbgv_delete_index;
    op->changing = 1;

    for (i = 0; i < 3; i++) {
        rbgv_admin_command(op, "DEL");
        rbgv_admin_hash(op, kinds[i], op->id);
    }
}


static void
rbgv_delete_index(rbgv_admin_t *op, redisReply **replies)
{
    size_t  i;

    for (i = 0; i < 3; i++) {
        if (replies[i]->type != REDIS_REPLY_INTEGER) {
            rbgv_admin_fail(op, RBGV_ADMIN_FOREIGN);
            return;
        }

        op->numbers[0] += replies[i]->integer;
    }

    op->next = rbgv_delete_done;
    op->changing = 1;

    rbgv_admin_command(op, "ZREM");
    rbgv_admin_arg(op, "%s" RBGV_KEYS, op->prefix);
    rbgv_admin_arg(op, "%s", op->id);
}


static void
rbgv_delete_done(rbgv_admin_t *op, redisReply **replies)
{
    if (replies[0]->type != REDIS_REPLY_INTEGER) {
        rbgv_admin_fail(op, RBGV_ADMIN_FOREIGN);
        return;
    }

    if (op->numbers[0] + replies[0]->integer == 0) {
        rbgv_admin_fail(op, RBGV_ADMIN_NO_KEY);
        return;
    }

    rbgv_admin_changed(op, "delete", rbgv_admin_json_status(op, "deleted"));
}


void
rbgv_admin_set(rbgv_admin_t *op)
{
    rbgv_admin_look(op, rbgv_set_change);
}


static void
rbgv_set_change(rbgv_admin_t *op, redisReply **replies)
{
    char            hash[RBGV_HASH_SIZE], use[RBGV_HASH_SIZE];
    char            expires[RBGV_TIME_SIZE];
    const char     *fault;
    rbgv_change_t   change;

    if (!rbgv_admin_seen(op, replies)) {
        return;
    }

    fault = (op->name != NULL && !op->force)
            ? rbgv_name_fault(rbgv_name_check(op->name, op->key_environment))
            : NULL;

    if (fault != NULL) {
        (void) snprintf(op->text, sizeof(op->text), "%s", fault);
        rbgv_admin_fail(op, RBGV_ADMIN_NAME);
        return;
    }

    memset(&change, 0, sizeof(rbgv_change_t));

    rbgv_hash_name(op->prefix, RBGV_KEY, op->id, hash);
    rbgv_hash_name(op->prefix, RBGV_USE, op->id, use);

    change.hash = hash;
    change.use = use;
    change.credits = op->credits;

    rbgv_change_field(&change, RBGV_FIELD_NAME, op->name);
    rbgv_change_field(&change, RBGV_FIELD_OWNER, op->owner);
    rbgv_change_field(&change, RBGV_FIELD_NOTE, op->note);

    if (op->expires != NULL) {
        expires[0] = '\0';

        if (strcmp(op->expires, "never") != 0) {
            (void) snprintf(expires, sizeof(expires), "%" PRId64, op->now
                            + rbgv_duration_parse(op->expires,
                                                  strlen(op->expires)));
        }

        rbgv_change_field(&change, RBGV_FIELD_EXPIRES, expires);
    }

    rbgv_change_limits(&change, &op->limits);

    op->next = rbgv_set_done;
    op->changing = 1;

    rbgv_change_command(op, &change);
}


static void
rbgv_set_done(rbgv_admin_t *op, redisReply **replies)
{
    redisReply  **numbers;

    if (!rbgv_reply_integers(replies[0], 3)) {
        rbgv_admin_fail(op, RBGV_ADMIN_FOREIGN);
        return;
    }

    numbers = replies[0]->element;

    op->numbers[0] = numbers[1]->integer;
    op->numbers[1] = numbers[2]->integer;

    switch (numbers[0]->integer) {

    case RBGV_CHANGE_DONE:
        rbgv_admin_changed(op, "set", rbgv_admin_json_status(op, "changed"));
        break;

    case RBGV_CHANGE_NO_KEY:
        rbgv_admin_fail(op, RBGV_ADMIN_NO_KEY);
        break;

    case RBGV_CHANGE_SPENT:
        rbgv_admin_fail(op, RBGV_ADMIN_SPENT);
        break;

    case RBGV_CHANGE_CREDITS:
        rbgv_admin_fail(op, RBGV_ADMIN_CREDITS);
        break;

    default: /* RBGV_CHANGE_LIMITS */
        rbgv_admin_fail(op, RBGV_ADMIN_LIMITS);
    }
}


static json_t *
rbgv_admin_json_status(rbgv_admin_t *op, const char *status)
{
    return json_pack("{s:s, s:s}",
                     "key_fingerprint", op->id,
                     "status", status);
}


void
rbgv_admin_describe(const rbgv_admin_t *op, char text[RBGV_ADMIN_TEXT])
{
    switch (op->state) {

    case RBGV_ADMIN_OK:
        text[0] = '\0';
        break;

    case RBGV_ADMIN_NO_KEY:
        (void) snprintf(text, RBGV_ADMIN_TEXT, "there is no key %s", op->id);
        break;

    case RBGV_ADMIN_NO_ENVIRONMENT:
        (void) snprintf(text, RBGV_ADMIN_TEXT, "there is no environment "
                        "\"%s\"", op->environment);
        break;

    case RBGV_ADMIN_BAD_ENVIRONMENT:
        (void) snprintf(text, RBGV_ADMIN_TEXT, "%s", op->text);
        break;

    case RBGV_ADMIN_BAD_KEY:
        (void) snprintf(text, RBGV_ADMIN_TEXT, "key %s has the environment "
                        "\"%.64s\" in the store, which is not valid", op->id,
                        op->text);
        break;

    case RBGV_ADMIN_EXISTS:
        (void) snprintf(text, RBGV_ADMIN_TEXT, "there is a key %s already",
                        op->new_id);
        break;

    case RBGV_ADMIN_NAME:
        (void) snprintf(text, RBGV_ADMIN_TEXT, "name \"%s\" %.200s", op->name,
                        op->text);
        break;

    case RBGV_ADMIN_OTHER_NAME:
        (void) snprintf(text, RBGV_ADMIN_TEXT, "the name of key %s is not "
                        "\"%s\"", op->id, op->name);
        break;

    case RBGV_ADMIN_ROTATION:
        rbgv_admin_describe_rotation(op, text);
        break;

    case RBGV_ADMIN_CRYPTO:
        strcpy(text, "OpenSSL could not make a key");
        break;

    case RBGV_ADMIN_MEMORY:
        strcpy(text, "out of memory");
        break;

    case RBGV_ADMIN_FOREIGN:
        strcpy(text, "the store gave an answer of the wrong form");
        break;

    default:
        rbgv_admin_describe_numbers(op, text);
    }
}


static void
rbgv_admin_describe_numbers(const rbgv_admin_t *op,
    char text[RBGV_ADMIN_TEXT])
{
    char  time[RBGV_TIME_SIZE];

    switch (op->state) {

    case RBGV_ADMIN_SPENT:
        (void) snprintf(text, RBGV_ADMIN_TEXT, "key %s has spent %" PRId64
                        " of %" PRId64 " credits: it cannot have fewer than "
                        "it has spent", op->id, op->numbers[1],
                        op->numbers[0]);
        break;

    case RBGV_ADMIN_CREDITS:
        (void) snprintf(text, RBGV_ADMIN_TEXT, "key %s has %" PRId64
                        " credits already, and may have %" PRId64 " at most",
                        op->id, op->numbers[0], RBGV_CREDITS_MAX);
        break;

    case RBGV_ADMIN_LIMITS:
        (void) snprintf(text, RBGV_ADMIN_TEXT, "key %s would have %" PRId64
                        " limits, and may have %d", op->id, op->numbers[0],
                        RBGV_LIMITS_MAX);
        break;

    case RBGV_ADMIN_ROTATING:
        rbgv_time(op->numbers[0], RBGV_RFC3339, time);
        (void) snprintf(text, RBGV_ADMIN_TEXT, "a rotation of key %s is under "
                        "way since %s", op->id, time);
        break;

    default: /* RBGV_ADMIN_SECRETS */
        (void) snprintf(text, RBGV_ADMIN_TEXT, "key %s has %" PRId64
                        " secrets, and may have %d", op->id, op->numbers[0],
                        RBGV_SECRETS_MAX);
    }
}


static void
rbgv_admin_describe_rotation(const rbgv_admin_t *op,
    char text[RBGV_ADMIN_TEXT])
{
    char         began[RBGV_TIME_SIZE], last[RBGV_TIME_SIZE];
    char         until[RBGV_TIME_SIZE];
    const char  *which;

    rbgv_time(op->rotation.began, RBGV_RFC3339, began);
    rbgv_time(op->rotation.last, RBGV_RFC3339, last);
    rbgv_time(op->rotation.until, RBGV_RFC3339, until);

    which = op->cancel ? "new" : "old";

    switch (op->rotation.state) {

    case RBGV_ROTATION_ALONE:
        (void) snprintf(text, RBGV_ADMIN_TEXT, "key %s would be left without "
                        "a secret", op->id);
        break;

    case RBGV_ROTATION_WATCH:
        if (op->rotation.last >= op->rotation.began) {
            (void) snprintf(text, RBGV_ADMIN_TEXT, "the %s secret of key %s "
                            "was used at %s; try again when nobody has used "
                            "it until %s", which, op->id, last, until);
            break;
        }

        (void) snprintf(text, RBGV_ADMIN_TEXT, "the rotation of key %s began "
                        "at %s; try again when nobody has used the %s secret "
                        "until %s", op->id, began, which, until);
        break;

    default: /* RBGV_ROTATION_NONE */
        (void) snprintf(text, RBGV_ADMIN_TEXT, "no rotation of key %s is "
                        "under way, the last one was finished: %s", op->id,
                        began);
    }
}
