
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: environments.
 */


#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <libsmartcols/libsmartcols.h>

#include "rbgvctl.h"


/* all the limits of an environment, in one line */
#define RBGVCTL_LIMITS_SIZE                                                   \
    (RBGV_LIMITS_MAX * (RBGV_LIMIT_SIZE + RBGV_QUOTA_SIZE))

#define RBGVCTL_ENVIRONMENT_NAME                                              \
    (RBGV_PREFIX_MAX + sizeof(RBGV_ENVIRONMENT) + RBGV_ENVIRONMENT_MAX)


typedef struct {
    const char        *set;
    const char        *remove;
    const char        *rotation;
    rbgvctl_values_t   limits;
} rbgvctl_environments_conf_t;


static int rbgvctl_environments(rbgvctl_t *ctl, void *data, const char *arg);
static int rbgvctl_environments_check(
    const rbgvctl_environments_conf_t *conf);
static int rbgvctl_environments_set(rbgvctl_t *ctl,
    const rbgvctl_environments_conf_t *conf, const rbgv_limits_t *limits);
static int rbgvctl_environments_remove(rbgvctl_t *ctl, const char *name);
static int rbgvctl_environments_list(rbgvctl_t *ctl);

static int rbgvctl_environments_json(
    const rbgv_environments_t *environments);
static int rbgvctl_environments_print(
    const rbgv_environments_t *environments);
static void rbgvctl_environment_limits(const rbgv_limits_t *limits,
    char text[RBGVCTL_LIMITS_SIZE]);


/* KEYS: the set; ARGV: names -> names added, 0 if there are others */

static const char  rbgvctl_environments_seed_script[] =
    "if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end "
    "return redis.call('SADD', KEYS[1], unpack(ARGV))";


/* KEYS: the set; ARGV: a name -> 1; 0 if there is none, 2 if it is the last */

static const char  rbgvctl_environments_remove_script[] =
    "local all = redis.call('SMEMBERS', KEYS[1]) "
    "if #all == 1 and all[1] == ARGV[1] then return 2 end "
    "return redis.call('SREM', KEYS[1], ARGV[1])";


static const char *const  rbgvctl_environments_columns[] = {
    "NAME", "ROTATION", "LIMITS OF NEW KEYS", NULL
};


static const rbgvctl_option_t  rbgvctl_environments_options[] = {

    { "set", "NAME",
      rbgvctl_set_string,
      offsetof(rbgvctl_environments_conf_t, set),
      "changes this environment, or adds it" },

    { "rotation", "TIME|off",
      rbgvctl_set_string,
      offsetof(rbgvctl_environments_conf_t, rotation),
      "with --set: keys are to be rotated so often" },

    { "limit", "POLICY=LIMIT|none",
      rbgvctl_set_list,
      offsetof(rbgvctl_environments_conf_t, limits),
      "with --set: of new keys; repeatable" },

    { "remove", "NAME",
      rbgvctl_set_string,
      offsetof(rbgvctl_environments_conf_t, remove),
      "removes this environment; keys of it stay" },

    { NULL, NULL, NULL, 0, NULL }
};


const rbgvctl_command_t  rbgvctl_environments_command = {
    "environments", NULL,
    "Show, add, change and remove environments",
    "Examples:\n"
    "  rbgvctl environments\n"
    "  rbgvctl environments --set qa --rotation 30d --limit default=60r/1m\n"
    "  rbgvctl environments --set qa --rotation off --limit default=none\n"
    "  rbgvctl environments --remove qa\n",
    rbgvctl_environments_options,
    sizeof(rbgvctl_environments_conf_t),
    rbgvctl_environments
};


static int
rbgvctl_environments(rbgvctl_t *ctl, void *data, const char *arg)
{
    rbgvctl_environments_conf_t  *conf = data;

    int            rc;
    rbgv_limits_t  limits;

    (void) arg;

    memset(&limits, 0, sizeof(rbgv_limits_t));

    rc = rbgvctl_environments_check(conf);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_limits_parse(&conf->limits, 1, &limits);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_store_open(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    if (conf->set != NULL) {
        rc = rbgvctl_environments_set(ctl, conf, &limits);

    } else if (conf->remove != NULL) {
        rc = rbgvctl_environments_remove(ctl, conf->remove);
    }

    return rc == RBGVCTL_OK ? rbgvctl_environments_list(ctl) : rc;
}


static int
rbgvctl_environments_check(const rbgvctl_environments_conf_t *conf)
{
    if (conf->set != NULL && conf->remove != NULL) {
        return rbgvctl_error(RBGVCTL_USAGE, "--set and --remove are two "
                             "things; give one of them");
    }

    if (conf->set == NULL
        && (conf->rotation != NULL || conf->limits.nelts != 0))
    {
        return rbgvctl_error(RBGVCTL_USAGE, "--%s needs the environment: give "
                             "--set NAME", conf->rotation ? "rotation"
                                                          : "limit");
    }

    if (conf->rotation != NULL && !rbgv_none(conf->rotation)
        && rbgv_duration_parse(conf->rotation, strlen(conf->rotation)) < 1)
    {
        return rbgvctl_error(RBGVCTL_USAGE, "--rotation \"%s\" is not a time, "
                             "as in \"90d\", or \"off\"", conf->rotation);
    }

    if (conf->set != NULL) {
        return rbgvctl_environment_check("set", conf->set);
    }

    return conf->remove ? rbgvctl_environment_check("remove", conf->remove)
                        : RBGVCTL_OK;
}


int
rbgvctl_environment_check(const char *option, const char *name)
{
    if (rbgv_environment_valid(name, strlen(name))) {
        return RBGVCTL_OK;
    }

    return rbgvctl_error(RBGVCTL_USAGE, "--%s \"%s\" is not a lower case "
                         "letter and up to %d letters and digits", option,
                         name, RBGV_ENVIRONMENT_MAX - 1);
}


static int
rbgvctl_environments_set(rbgvctl_t *ctl,
    const rbgvctl_environments_conf_t *conf, const rbgv_limits_t *limits)
{
    int             rc;
    char            hash[RBGVCTL_ENVIRONMENT_NAME], rotation[32];
    int64_t         n;
    redisReply     *reply;
    rbgv_admin_t    op;
    rbgv_change_e   what;
    rbgv_change_t   change;

    rc = rbgvctl_environments_seed(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    memset(&change, 0, sizeof(rbgv_change_t));

    (void) snprintf(hash, sizeof(hash), "%s" RBGV_ENVIRONMENT "%s",
                    ctl->prefix, conf->set);
    change.hash = hash;

    if (conf->rotation != NULL) {
        n = rbgv_none(conf->rotation) ? 0
            : rbgv_duration_parse(conf->rotation, strlen(conf->rotation));

        (void) snprintf(rotation, sizeof(rotation), "%" PRId64, n);
        rbgv_change_field(&change, RBGV_FIELD_ROTATION, rotation);
    }

    rbgv_change_limits(&change, limits);

    rbgvctl_op_init(ctl, &op, NULL);
    rbgv_change_command(&op, &change);

    reply = rbgvctl_op_reply(ctl, &op, REDIS_REPLY_ARRAY);
    if (reply == NULL) {
        return RBGVCTL_STORE;
    }

    what = RBGV_CHANGE_DONE;
    n = 0;

    if (rbgv_reply_integers(reply, 3)) {
        what = reply->element[0]->integer;
        n = reply->element[1]->integer;
    }

    freeReplyObject(reply);

    if (what == RBGV_CHANGE_LIMITS) {
        return rbgvctl_error(RBGVCTL_REFUSED, "environment \"%s\" would have "
                             "%" PRId64 " limits, and may have %d; drop one, "
                             "as in \"--limit default=none\"", conf->set,
                             n, RBGV_LIMITS_MAX);
    }

    rc = rbgvctl_store_integer(ctl, &n, "SADD %s" RBGV_ENVIRONMENTS " %s",
                                 ctl->prefix, conf->set);

    if (rc == RBGVCTL_OK) {
        rbgvctl_audit(ctl, "environment", conf->set);
    }

    return rc;
}


/* the name goes first: the rest counts for nothing without it */

static int
rbgvctl_environments_remove(rbgvctl_t *ctl, const char *name)
{
    int      rc;
    int64_t  n;

    rc = rbgvctl_environments_seed(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_store_integer(ctl, &n, "EVAL %s 1 %s" RBGV_ENVIRONMENTS
                               " %s", rbgvctl_environments_remove_script,
                               ctl->prefix, name);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    if (n == 0) {
        return rbgvctl_error(RBGVCTL_REFUSED, "there is no environment "
                             "\"%s\"; \"rbgvctl environments\" shows all",
                             name);
    }

    if (n == 2) {
        return rbgvctl_error(RBGVCTL_REFUSED, "environment \"%s\" is the last "
                             "one; add another before", name);
    }

    rc = rbgvctl_store_integer(ctl, &n, "DEL %s" RBGV_ENVIRONMENT "%s",
                                 ctl->prefix, name);

    if (rc == RBGVCTL_OK) {
        rbgvctl_audit(ctl, "environment", name);
    }

    return rc;
}


static int
rbgvctl_environments_list(rbgvctl_t *ctl)
{
    int                  rc;
    rbgv_environments_t  environments;

    rc = rbgvctl_environments_fetch(ctl, &environments);

    if (rc == RBGVCTL_OK) {
        rc = ctl->json ? rbgvctl_environments_json(&environments)
                       : rbgvctl_environments_print(&environments);
    }

    rbgv_environments_free(&environments);

    return rc;
}


/* the set is written last, and only once: what was removed does not return */

int
rbgvctl_environments_seed(rbgvctl_t *ctl)
{
    int          rc;
    size_t       i, commands;
    int64_t      n;
    redisReply  *reply;

    rc = rbgvctl_store_integer(ctl, &n, "EXISTS %s" RBGV_ENVIRONMENTS,
                               ctl->prefix);

    if (rc != RBGVCTL_OK || n == 1) {
        return rc;
    }

    commands = 0;

    for (i = 0; i < RBGV_ENVIRONMENTS_FIRST; i++) {
        rbgvctl_store_append(ctl, "HSETNX %s" RBGV_ENVIRONMENT "%s "
                             RBGV_FIELD_ROTATION " %lld", ctl->prefix,
                             rbgv_environments_first[i].name,
                             (long long)
                             rbgv_environments_first[i].rotation);
        commands++;

        if (rbgv_environments_first[i].quota != NULL) {
            rbgvctl_store_append(ctl, "HSETNX %s" RBGV_ENVIRONMENT "%s "
                                 RBGV_FIELD_LIMIT "default %s", ctl->prefix,
                                 rbgv_environments_first[i].name,
                                 rbgv_environments_first[i].quota);
            commands++;
        }
    }

    for (i = 0; i < commands; i++) {
        reply = rbgvctl_store_reply(ctl, REDIS_REPLY_INTEGER);
        if (reply == NULL) {
            return RBGVCTL_STORE;
        }

        freeReplyObject(reply);
    }

    return rbgvctl_store_integer(ctl, &n, "EVAL %s 1 %s" RBGV_ENVIRONMENTS
                                 " dev prod staging",
                                 rbgvctl_environments_seed_script,
                                 ctl->prefix);
}


int
rbgvctl_environments_fetch(rbgvctl_t *ctl,
    rbgv_environments_t *environments)
{
    int           rc;
    rbgv_admin_t  op;

    rbgvctl_op_init(ctl, &op, NULL);
    rbgv_admin_environments(&op, NULL);

    rc = rbgvctl_op_run(ctl, &op);

    *environments = op.environments;
    memset(&op.environments, 0, sizeof(rbgv_environments_t));

    rbgv_admin_free(&op);

    return rc;
}


static int
rbgvctl_environments_json(const rbgv_environments_t *environments)
{
    size_t                     i;
    json_t                    *array;
    const rbgv_environment_t  *environment;

    array = json_array();

    for (i = 0; i < environments->nelts; i++) {
        environment = &environments->elts[i];

        (void) json_array_append_new(array,
                    json_pack("{s:s, s:o, s:o}",
                              "environment", environment->name,
                              "rotation_seconds",
                              rbgv_json_rotation_window(environment),
                              "limits",
                              rbgv_limits_json(&environment->limits)));
    }

    return rbgvctl_print_json(array);
}


static int
rbgvctl_environments_print(const rbgv_environments_t *environments)
{
    int                        rc;
    char                       rotation[RBGV_TIME_SIZE];
    char                       limits[RBGVCTL_LIMITS_SIZE];
    size_t                     i;
    struct libscols_line      *line;
    struct libscols_table     *table;
    const rbgv_environment_t  *environment;

    table = rbgvctl_table(rbgvctl_environments_columns);
    if (table == NULL) {
        return rbgvctl_error(RBGVCTL_REFUSED, "out of memory");
    }

    for (i = 0; i < environments->nelts; i++) {
        environment = &environments->elts[i];
        line = scols_table_new_line(table, NULL);

        if (line != NULL) {
            rbgvctl_duration(environment->rotation, rotation);
            rbgvctl_environment_limits(&environment->limits, limits);

            (void) scols_line_set_data(line, 0, environment->name);
            (void) scols_line_set_data(line, 1, rotation);
            (void) scols_line_set_data(line, 2, limits);
        }
    }

    rc = rbgvctl_table_print(table);

    scols_unref_table(table);

    return rc;
}


static void
rbgvctl_environment_limits(const rbgv_limits_t *limits,
    char text[RBGVCTL_LIMITS_SIZE])
{
    size_t  i, len;

    strcpy(text, "-");

    for (i = 0, len = 0; i < limits->nelts; i++) {
        len += snprintf(text + len, RBGVCTL_LIMITS_SIZE - len, "%s%s=%s",
                        i ? " " : "", limits->elts[i].field
                                      + sizeof(RBGV_FIELD_LIMIT) - 1,
                        limits->elts[i].quota);
    }
}
