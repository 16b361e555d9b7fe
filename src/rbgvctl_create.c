
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: create.
 */


#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>

#include "rbgvctl.h"


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


static int rbgvctl_create(rbgvctl_t *ctl, void *data, const char *arg);
static int rbgvctl_create_check(const rbgvctl_create_conf_t *conf);
static int rbgvctl_create_with(rbgvctl_t *ctl, rbgv_admin_t *op);
static int rbgvctl_create_undo(rbgvctl_t *ctl, const char *id);
static int rbgvctl_create_print(rbgvctl_t *ctl, const rbgv_admin_t *op);


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

    int           rc;
    rbgv_admin_t  op;

    (void) arg;

    rc = rbgvctl_create_check(conf);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rbgvctl_op_init(ctl, &op, NULL);

    op.name = conf->name;
    op.environment = conf->environment;
    op.owner = conf->owner;
    op.note = conf->note;
    op.expires = conf->expires;
    op.credits = conf->credits;

    rc = rbgvctl_limits_parse(&conf->limits, 0, &op.limits);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_digester(ctl, "create", conf->no_pepper, &op.digester);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_create_with(ctl, &op);

    rbgv_digester_free(op.digester);
    rbgv_admin_free(&op);

    return rc;
}


static int
rbgvctl_create_with(rbgvctl_t *ctl, rbgv_admin_t *op)
{
    int  rc;

    rc = rbgvctl_store_open(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rbgv_admin_create(op);

    rc = rbgvctl_op_run(ctl, op);

    if (rc != RBGVCTL_OK && op->changing) {
        return rbgvctl_error(RBGVCTL_STORE, "key %s may have been stored, but "
                             "nobody has it; \"rbgvctl delete %s\", and "
                             "create another", op->id, op->id);
    }

    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_create_print(ctl, op);

    if (rc != RBGVCTL_OK || rbgvctl_flush() == -1) {
        return rbgvctl_create_undo(ctl, op->id);
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

    fault = conf->owner ? rbgv_owner_fault(conf->owner) : NULL;
    if (fault != NULL) {
        return rbgvctl_error(RBGVCTL_USAGE, "--owner %s", fault);
    }

    fault = conf->note ? rbgv_note_fault(conf->note) : NULL;
    if (fault != NULL) {
        return rbgvctl_error(RBGVCTL_USAGE, "--note %s", fault);
    }

    fault = conf->expires ? rbgv_expires_fault(conf->expires) : NULL;
    if (fault != NULL) {
        return rbgvctl_error(RBGVCTL_USAGE, "--expires \"%s\" %s",
                             conf->expires, fault);
    }

    fault = conf->credits ? rbgv_credits_fault(conf->credits) : NULL;
    if (fault != NULL) {
        return rbgvctl_error(RBGVCTL_USAGE, "--credits \"%s\" %s",
                             conf->credits, fault);
    }

    return rbgvctl_name_accept(conf->name, conf->environment, conf->force);
}


int
rbgvctl_name_accept(const char *name, const char *environment, int force)
{
    const char   *fault;
    rbgv_name_e   verdict;

    if (!rbgv_name_valid(name)) {
        return rbgvctl_error(RBGVCTL_USAGE, "--name \"%s\" is not 2 to 63 "
                             "characters of [a-z0-9-], the first no \"-\"",
                             rbgvctl_quotable(name));
    }

    verdict = rbgv_name_check(name, environment);

    if (verdict == RBGV_NAME_GOOD) {
        return RBGVCTL_OK;
    }

    if (verdict == RBGV_NAME_SUFFIX) {
        rbgvctl_note("name \"%s\" does not end in \"-%s\", its environment",
                     name, environment);
        return RBGVCTL_OK;
    }

    fault = rbgv_name_fault(verdict);

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


/* nobody has seen the key: it must not stay */

static int
rbgvctl_create_undo(rbgvctl_t *ctl, const char *id)
{
    int           rc;
    rbgv_admin_t  op;

    rbgvctl_op_init(ctl, &op, id);
    rbgv_admin_delete(&op);

    rc = rbgvctl_op_run(ctl, &op);

    rbgv_admin_free(&op);

    if (rc != RBGVCTL_OK) {
        return rbgvctl_error(RBGVCTL_REFUSED, "nobody has key %s, and it "
                             "could not be removed; \"rbgvctl delete %s\"", id,
                             id);
    }

    return rbgvctl_error(RBGVCTL_REFUSED, "key %s could not be shown and was "
                         "removed again; create another", id);
}


static int
rbgvctl_create_print(rbgvctl_t *ctl, const rbgv_admin_t *op)
{
    if (ctl->json) {
        return rbgvctl_print_json(json_incref(op->json));
    }

    (void) printf("API key: %s\nId:      %s\nName:    %s\n\n"
                  "The key is shown this once and is stored nowhere: hand it "
                  "over now.\n", op->key, op->id, op->name);

    return RBGVCTL_OK;
}
