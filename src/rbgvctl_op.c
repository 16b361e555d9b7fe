
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: operations, one after the other over the connection to the store.
 */


#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rbgvctl.h"


#define RBGVCTL_UNAUDITED                                                     \
    "the change is done, and is not in the audit stream"


static int rbgvctl_op_step(rbgvctl_t *ctl, rbgv_admin_t *op,
    redisReply **replies);
static int rbgvctl_op_failed(rbgvctl_t *ctl, const rbgv_admin_t *op);
static int rbgvctl_op_rotation_failed(const rbgv_admin_t *op,
    const char *text);


void
rbgvctl_op_init(rbgvctl_t *ctl, rbgv_admin_t *op, const char *id)
{
    struct passwd  *user;

    memset(op, 0, sizeof(rbgv_admin_t));

    op->prefix = ctl->prefix;
    op->id = id;
    op->source = "rbgvctl";

    /* who has logged in, and not whom "sudo" has made of him */

    op->by = getlogin();

    if (op->by == NULL) {
        user = getpwuid(getuid());
        op->by = user ? user->pw_name : NULL;
    }
}


int
rbgvctl_op_run(rbgvctl_t *ctl, rbgv_admin_t *op)
{
    int           rc;
    redisReply  **replies;

    rc = RBGVCTL_OK;

    while (rc == RBGVCTL_OK && op->next != NULL) {
        replies = calloc(op->ncommands, sizeof(redisReply *));

        rc = replies ? rbgvctl_op_step(ctl, op, replies)
                     : rbgvctl_error(RBGVCTL_REFUSED, "out of memory");

        free(replies);
    }

    if (rc != RBGVCTL_OK) {
        return rc;
    }

    if (op->now != 0) {
        ctl->now = op->now;
    }

    return op->state == RBGV_ADMIN_OK ? RBGVCTL_OK
                                      : rbgvctl_op_failed(ctl, op);
}


redisReply *
rbgvctl_op_reply(rbgvctl_t *ctl, rbgv_admin_t *op, int type)
{
    redisReply  *reply;

    reply = rbgvctl_store_argv(ctl, type, op->commands[0].argc,
                               (const char **) op->commands[0].argv);
    rbgv_admin_free(op);

    return reply;
}


void
rbgvctl_audit(rbgvctl_t *ctl, const char *action, const char *name)
{
    redisReply    *reply;
    rbgv_admin_t   op;

    rbgvctl_op_init(ctl, &op, NULL);

    (void) snprintf(op.key_name, sizeof(op.key_name), "%s", name);
    rbgv_admin_audit_command(&op, action);

    reply = rbgvctl_op_reply(ctl, &op, 0);

    if (reply == NULL) {
        rbgvctl_note(RBGVCTL_UNAUDITED);
        return;
    }

    freeReplyObject(reply);
}


/* a change that is done stays done if the audit stream does not take it */

static int
rbgvctl_op_step(rbgvctl_t *ctl, rbgv_admin_t *op, redisReply **replies)
{
    int     failed;
    size_t  i, n;

    n = op->ncommands;

    for (i = 0; i < n; i++) {
        rbgvctl_store_append_argv(ctl, op->commands[i].argc,
                                  (const char **) op->commands[i].argv);
    }

    for (i = 0, failed = 0; i < n && !failed; i++) {
        replies[i] = rbgvctl_store_reply(ctl, 0);
        failed = replies[i] == NULL;
    }

    if (failed && op->auditing) {
        rbgvctl_note(RBGVCTL_UNAUDITED);
        failed = 0;
    }

    if (!failed) {
        rbgv_admin_feed(op, replies);
    }

    for (i = 0; i < n; i++) {
        if (replies[i] != NULL) {
            freeReplyObject(replies[i]);
        }
    }

    return failed ? RBGVCTL_STORE : RBGVCTL_OK;
}


static int
rbgvctl_op_failed(rbgvctl_t *ctl, const rbgv_admin_t *op)
{
    char  text[RBGV_ADMIN_TEXT];

    rbgv_admin_describe(op, text);

    switch (op->state) {

    case RBGV_ADMIN_NO_KEY:
        return rbgvctl_not_found(ctl, op->id);

    case RBGV_ADMIN_NO_ENVIRONMENT:
        return rbgvctl_error(RBGVCTL_REFUSED, "%s; \"rbgvctl environments\" "
                             "shows all, \"rbgvctl environments --set %s\" "
                             "adds it", text, op->environment);

    case RBGV_ADMIN_BAD_ENVIRONMENT:
        return rbgvctl_error(RBGVCTL_REFUSED, "%s; \"rbgvctl environments "
                             "--set %s --limit POLICY=LIMIT\" replaces it",
                             text, op->key_environment);

    case RBGV_ADMIN_EXISTS:
        return rbgvctl_error(RBGVCTL_REFUSED, "%s; try again", text);

    case RBGV_ADMIN_SPENT:
        return rbgvctl_error(RBGVCTL_REFUSED, "%s; \"--credits %" PRId64
                             "\" leaves it none", text, op->numbers[1]);

    case RBGV_ADMIN_LIMITS:
        return rbgvctl_error(RBGVCTL_REFUSED, "%s; drop one, as in "
                             "\"--limit default=none\"", text);

    case RBGV_ADMIN_ROTATING:
        return rbgvctl_error(RBGVCTL_REFUSED, "%s; see \"rbgvctl rotation "
                             "%s\", then \"rbgvctl rotate %s --finish\", or "
                             "\"--cancel\" if nobody has the new secret",
                             text, op->id, op->id);

    case RBGV_ADMIN_SECRETS:
        return rbgvctl_error(RBGVCTL_REFUSED, "%s; create another key", text);

    case RBGV_ADMIN_ROTATION:
        return rbgvctl_op_rotation_failed(op, text);

    case RBGV_ADMIN_FOREIGN:
        return rbgvctl_error(RBGVCTL_STORE, "the store at %s gave an answer "
                             "of the wrong form; check that it is Redis",
                             ctl->server);

    default:
        return rbgvctl_error(RBGVCTL_REFUSED, "%s", text);
    }
}


static int
rbgvctl_op_rotation_failed(const rbgv_admin_t *op, const char *text)
{
    switch (op->rotation.state) {

    case RBGV_ROTATION_ALONE:
        return rbgvctl_error(RBGVCTL_REFUSED, "%s; \"rbgvctl disable %s\" "
                             "refuses it", text, op->id);

    case RBGV_ROTATION_NONE:
        return rbgvctl_error(RBGVCTL_REFUSED, "%s; \"rbgvctl rotate %s\" "
                             "begins one", text, op->id);

    default: /* RBGV_ROTATION_WATCH, RBGV_ROTATION_SAFE */
        return rbgvctl_error(RBGVCTL_REFUSED, "%s, or give --force", text);
    }
}
