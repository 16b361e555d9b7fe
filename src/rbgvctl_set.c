
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: set.
 */


#include <stdio.h>
#include <string.h>

#include "rbgvctl.h"


typedef struct {
    const char        *name;
    const char        *owner;
    const char        *note;
    const char        *expires;
    const char        *credits;
    rbgvctl_values_t   limits;
    int                force;
    int                wait;
} rbgvctl_set_conf_t;


static int rbgvctl_set(rbgvctl_t *ctl, void *data, const char *arg);
static const char *rbgvctl_set_text(void *data,
    const rbgvctl_option_t *option, const char *value);
static int rbgvctl_set_check(const rbgvctl_set_conf_t *conf);
static int rbgvctl_set_key(rbgvctl_t *ctl, rbgv_admin_t *op);
static int rbgvctl_set_name(rbgvctl_t *ctl, const rbgvctl_set_conf_t *conf,
    const char *id);


static const rbgvctl_option_t  rbgvctl_set_options[] = {

    { "limit", "POLICY=LIMIT|none",
      rbgvctl_set_list,
      offsetof(rbgvctl_set_conf_t, limits),
      "adds, replaces or drops a limit of the key; repeatable" },

    { "credits", "NUMBER",
      rbgvctl_set_string,
      offsetof(rbgvctl_set_conf_t, credits),
      "granted in all; +NUMBER grants more, -NUMBER takes back" },

    { "expires", "TIME|never",
      rbgvctl_set_string,
      offsetof(rbgvctl_set_conf_t, expires),
      "from now, as in 90d" },

    { "owner", "TEXT",
      rbgvctl_set_text,
      offsetof(rbgvctl_set_conf_t, owner),
      "who answers for the key; \"\" for nobody" },

    { "note", "TEXT",
      rbgvctl_set_text,
      offsetof(rbgvctl_set_conf_t, note),
      "anything else; \"\" for nothing" },

    { "name", "NAME",
      rbgvctl_set_string,
      offsetof(rbgvctl_set_conf_t, name),
      "service and environment, as in api-gateway-prod" },

    { "force", NULL,
      rbgvctl_set_flag,
      offsetof(rbgvctl_set_conf_t, force),
      "accept a generic or misleading name" },

    { "wait", NULL,
      rbgvctl_set_flag,
      offsetof(rbgvctl_set_conf_t, wait),
      "return when it is in force on every host" },

    { NULL, NULL, NULL, 0, NULL }
};


const rbgvctl_command_t  rbgvctl_set_command = {
    "set", "ID",
    "Change limits, credits and other fields of a key",
    "All of it is changed at once, or nothing.\n\n"
    "Examples:\n"
    "  rbgvctl set V1StGXR8aBc4 --limit default=1200r/1m --limit burst=none\n"
    "  rbgvctl set V1StGXR8aBc4 --credits +1000\n"
    "  rbgvctl set V1StGXR8aBc4 --owner payments --expires never\n",
    rbgvctl_set_options,
    sizeof(rbgvctl_set_conf_t),
    rbgvctl_set
};


static int
rbgvctl_set(rbgvctl_t *ctl, void *data, const char *arg)
{
    rbgvctl_set_conf_t  *conf = data;

    int           rc;
    rbgv_admin_t  op;

    rbgvctl_op_init(ctl, &op, arg);

    op.name = conf->name;
    op.owner = conf->owner;
    op.note = conf->note;
    op.expires = conf->expires;
    op.credits = conf->credits;

    /* the name is looked at here, for people are told more */
    op.force = 1;

    rc = rbgvctl_id_check(arg);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_set_check(conf);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_limits_parse(&conf->limits, 1, &op.limits);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_store_open(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    if (conf->name != NULL) {
        rc = rbgvctl_set_name(ctl, conf, arg);
        if (rc != RBGVCTL_OK) {
            return rc;
        }
    }

    rc = rbgvctl_set_key(ctl, &op);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    if (conf->wait) {
        rbgvctl_store_settle();
    }

    return rbgvctl_show_key(ctl, arg);
}


static const char *
rbgvctl_set_text(void *data, const rbgvctl_option_t *option,
    const char *value)
{
    const char  **p;

    if (value[0] != '\0') {
        return rbgvctl_set_string(data, option, value);
    }

    p = (const char **) ((char *) data + option->offset);

    if (*p != NULL) {
        return "is given twice";
    }

    *p = value;

    return NULL;
}


static int
rbgvctl_set_check(const rbgvctl_set_conf_t *conf)
{
    const char  *fault, *credits;

    if (conf->name == NULL && conf->owner == NULL && conf->note == NULL
        && conf->expires == NULL && conf->credits == NULL
        && conf->limits.nelts == 0)
    {
        return rbgvctl_error(RBGVCTL_USAGE, "set needs something to set; see "
                             "\"rbgvctl set --help\"");
    }

    if (conf->name != NULL && !rbgv_name_valid(conf->name)) {
        return rbgvctl_name_accept(conf->name, "", 0);
    }

    fault = conf->owner ? rbgv_owner_fault(conf->owner) : NULL;
    if (fault != NULL) {
        return rbgvctl_error(RBGVCTL_USAGE, "--owner %s", fault);
    }

    fault = conf->note ? rbgv_note_fault(conf->note) : NULL;
    if (fault != NULL) {
        return rbgvctl_error(RBGVCTL_USAGE, "--note %s", fault);
    }

    if (conf->expires != NULL && strcmp(conf->expires, "never") != 0) {
        fault = rbgv_expires_fault(conf->expires);
    }

    if (fault != NULL) {
        return rbgvctl_error(RBGVCTL_USAGE, "--expires \"%s\" %s",
                             conf->expires, fault);
    }

    credits = conf->credits;

    if (credits != NULL && (credits[0] == '+' || credits[0] == '-')) {
        credits++;
    }

    fault = credits ? rbgv_credits_fault(credits) : NULL;
    if (fault != NULL) {
        return rbgvctl_error(RBGVCTL_USAGE, "--credits \"%s\" %s", credits,
                             fault);
    }

    return RBGVCTL_OK;
}


/* the environment of a key does not change */

static int
rbgvctl_set_name(rbgvctl_t *ctl, const rbgvctl_set_conf_t *conf,
    const char *id)
{
    int          rc;
    redisReply  *environment;

    environment = rbgvctl_store_command(ctl, 0, "HGET %s" RBGV_KEY
                                        RBGV_TAG " "
                                        RBGV_FIELD_ENVIRONMENT, ctl->prefix,
                                        id);
    if (environment == NULL) {
        return RBGVCTL_STORE;
    }

    rc = (environment->type == REDIS_REPLY_STRING)
         ? rbgvctl_name_accept(conf->name, environment->str, conf->force)
         : rbgvctl_not_found(ctl, id);

    freeReplyObject(environment);

    return rc;
}


static int
rbgvctl_set_key(rbgvctl_t *ctl, rbgv_admin_t *op)
{
    int  rc;

    rbgv_admin_set(op);

    rc = rbgvctl_op_run(ctl, op);

    if (rc != RBGVCTL_OK && op->changing) {
        rc = rbgvctl_error(rc, "key %s may have been changed; see \"rbgvctl "
                           "show %s\" before you try again", op->id, op->id);
    }

    rbgv_admin_free(op);

        return rc;
    }
