
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: rotate.
 */


#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "rbgvctl.h"


typedef struct {
    const char  *grace;
    int          finish;
    int          cancel;
    int          force;
    int          no_pepper;
    int          wait;
} rbgvctl_rotate_conf_t;


static int rbgvctl_rotate(rbgvctl_t *ctl, void *data, const char *arg);
static int rbgvctl_rotate_check(const rbgvctl_rotate_conf_t *conf);

static int rbgvctl_rotate_begin(rbgvctl_t *ctl,
    const rbgvctl_rotate_conf_t *conf, const char *id);
static int rbgvctl_rotate_with(rbgvctl_t *ctl, rbgv_admin_t *op);
static int rbgvctl_rotate_print(rbgvctl_t *ctl, const rbgv_admin_t *op);
static int rbgvctl_rotate_undo(rbgvctl_t *ctl, const rbgv_admin_t *begun);

static int rbgvctl_rotate_end(rbgvctl_t *ctl,
    const rbgvctl_rotate_conf_t *conf, const char *id);
static int rbgvctl_rotate_ended(rbgvctl_t *ctl, const rbgv_admin_t *op);


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
    int           rc;
    rbgv_admin_t  op;

    rbgvctl_op_init(ctl, &op, id);

    op.grace = conf->grace;

    rc = rbgvctl_digester(ctl, "rotate", conf->no_pepper, &op.digester);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_rotate_with(ctl, &op);

    rbgv_digester_free(op.digester);
    rbgv_admin_free(&op);

    if (rc == RBGVCTL_OK && conf->wait) {
        rbgvctl_store_settle();
    }

    return rc;
}


static int
rbgvctl_rotate_with(rbgvctl_t *ctl, rbgv_admin_t *op)
{
    int  rc;

    rc = rbgvctl_store_open(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rbgv_admin_rotate(op);

    rc = rbgvctl_op_run(ctl, op);

    if (rc != RBGVCTL_OK && op->changing) {
        return rbgvctl_error(RBGVCTL_STORE, "key %s may have a new secret, "
                             "but nobody has it; if \"rbgvctl rotation %s\" "
                             "shows one, \"rbgvctl rotate %s --cancel\"",
                             op->id, op->id, op->id);
    }

    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_rotate_print(ctl, op);

    if (rc != RBGVCTL_OK || rbgvctl_flush() == -1) {
        return rbgvctl_rotate_undo(ctl, op);
    }

    return RBGVCTL_OK;
}


static int
rbgvctl_rotate_print(rbgvctl_t *ctl, const rbgv_admin_t *op)
{
    if (ctl->json) {
        return rbgvctl_print_json(json_incref(op->json));
    }

    (void) printf("API key: %s\nId:      %s\nName:    %s\n\n"
                  "The key is shown this once and is stored nowhere: hand it "
                  "over now.\nThe old one is good until \"rbgvctl rotate %s "
                  "--finish\";\n\"rbgvctl rotation %s\" tells whether anybody "
                  "uses it.\n", op->key, op->id,
                  op->key_name[0] ? op->key_name : "-", op->id, op->id);

    return RBGVCTL_OK;
}


/* nobody has seen the secret: it must not stay */

static int
rbgvctl_rotate_undo(rbgvctl_t *ctl, const rbgv_admin_t *begun)
{
    int           rc;
    rbgv_admin_t  op;

    rbgvctl_op_init(ctl, &op, begun->id);

    op.began = begun->began;
    op.cancel = 1;
    op.how = RBGV_ROTATION_FORCE;

    rbgv_admin_rotation(&op);

    rc = rbgvctl_op_run(ctl, &op);

    rbgv_admin_free(&op);

    if (rc != RBGVCTL_OK) {
        return rbgvctl_error(RBGVCTL_REFUSED, "nobody has the new secret of "
                             "key %s, and it could not be removed; \"rbgvctl "
                             "rotate %s --cancel\"", begun->id, begun->id);
    }

    return rbgvctl_error(RBGVCTL_REFUSED, "the new secret of key %s could not "
                         "be shown and was removed again; rotate it again",
                         begun->id);
}


static int
rbgvctl_rotate_end(rbgvctl_t *ctl, const rbgvctl_rotate_conf_t *conf,
    const char *id)
{
    int           rc;
    rbgv_admin_t  op;

    rc = rbgvctl_store_open(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rbgvctl_op_init(ctl, &op, id);

    op.cancel = conf->cancel;
    op.how = conf->force ? RBGV_ROTATION_FORCE : RBGV_ROTATION_TRY;

    rbgv_admin_rotation(&op);

    rc = rbgvctl_op_run(ctl, &op);

    if (rc == RBGVCTL_OK && conf->wait) {
        rbgvctl_store_settle();
    }

    if (rc == RBGVCTL_OK) {
        rc = rbgvctl_rotate_ended(ctl, &op);
    }

    rbgv_admin_free(&op);

    return rc;
}


static int
rbgvctl_rotate_ended(rbgvctl_t *ctl, const rbgv_admin_t *op)
{
    int64_t  n;

    if (ctl->json) {
        return rbgvctl_print_json(json_incref(op->json));
    }

    n = op->rotation.count;

    (void) printf("%s is %s: %" PRId64 " %s secret%s ended\n", op->id,
                  op->cancel ? "as before" : "rotated", n,
                  op->cancel ? "new" : "old", n == 1 ? "" : "s");

    return RBGVCTL_OK;
}
