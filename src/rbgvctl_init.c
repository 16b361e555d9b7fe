
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: init.
 */


#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "rbgvctl.h"


#define RBGVCTL_USER_MAX      64
#define RBGVCTL_PASSWORD_MAX  512

#define RBGVCTL_RULES_SIZE    1024
#define RBGVCTL_ACL_SIZE      (RBGVCTL_RULES_SIZE + 256)
#define RBGVCTL_ACL_WORDS     64


/* a login by password needs its hash only: "#" and SHA-256 in hex */

#define RBGVCTL_ACL_GATEWAY                                                   \
    "resetkeys %%R~%s" RBGV_KEY "* %%R~%s" RBGV_META " ~%s" RBGV_USE "* "     \
    "~%s" RBGV_JOB "* ~%s" RBGV_EVENTS "* "                                   \
    "resetchannels &__redis__:invalidate -@all +auth +ping +select +role "    \
    "+client|setname +client|id +client|tracking +subscribe "                 \
    "+cluster|slots +cluster|info +asking +script|load "                      \
    "+evalsha +hgetall +hget +hmget +hset +hincrby +hdel +expire +time "    \
    "+get +set +xadd +xrevrange"

/* what the commands of rbgvctl use, and what its scripts call */

#define RBGVCTL_ACL_ADMIN                                                     \
    "resetkeys ~%s* resetchannels -@all +auth +ping +select "                 \
    "+client|setname +role +cluster|slots +cluster|info +asking "             \
    "+time +eval +exists +hget +hgetall +hmget +hset "                        \
    "+hsetnx +hdel +del +sadd +smembers +srem +zadd +zrange +zrem "           \
    "+xadd +xrevrange"


typedef struct {
    const char  *acl;
    const char  *gateway_user;
    const char  *admin_user;
    const char  *gateway_password_file;
    const char  *admin_password_file;
} rbgvctl_init_conf_t;


typedef struct {
    const char  *name;
    const char  *password_file;        /* NULL: the hash is a placeholder */
    char         hash[RBGV_DIGEST_HEX + 1];
    char         rules[RBGVCTL_RULES_SIZE];
} rbgvctl_user_t;


static int rbgvctl_init(rbgvctl_t *ctl, void *data, const char *arg);
static int rbgvctl_init_check(rbgvctl_init_conf_t *conf);
static int rbgvctl_init_check_user(const char *option, const char *name);
static int rbgvctl_init_schema(rbgvctl_t *ctl);
static int rbgvctl_init_write(rbgvctl_t *ctl);
static int rbgvctl_init_pepper(rbgvctl_t *ctl);
static int rbgvctl_init_file(const char *path, const char *what);

static void rbgvctl_init_users(rbgvctl_t *ctl,
    const rbgvctl_init_conf_t *conf, rbgvctl_user_t users[2]);
static int rbgvctl_init_password(rbgvctl_user_t *user);
static int rbgvctl_init_install(rbgvctl_t *ctl, void *data);
static int rbgvctl_init_install_user(rbgvctl_t *ctl,
    const rbgvctl_user_t *user);
static int rbgvctl_init_save(rbgvctl_t *ctl);
static int rbgvctl_init_print(rbgvctl_t *ctl, const rbgvctl_init_conf_t *conf,
    const rbgvctl_user_t users[2]);
static void rbgvctl_init_acl(const rbgvctl_user_t *user,
    char text[RBGVCTL_ACL_SIZE]);


static const rbgvctl_option_t  rbgvctl_init_options[] = {

    { "acl", "print|install|none",
      rbgvctl_set_string,
      offsetof(rbgvctl_init_conf_t, acl),
      "the two users of the store, print if not given" },

    { "gateway-user", "NAME",
      rbgvctl_set_string,
      offsetof(rbgvctl_init_conf_t, gateway_user),
      "rbgv-gateway if not given" },

    { "gateway-password-file", "PATH",
      rbgvctl_set_string,
      offsetof(rbgvctl_init_conf_t, gateway_password_file),
      "created if there is none" },

    { "admin-user", "NAME",
      rbgvctl_set_string,
      offsetof(rbgvctl_init_conf_t, admin_user),
      "rbgv-admin if not given" },

    { "admin-password-file", "PATH",
      rbgvctl_set_string,
      offsetof(rbgvctl_init_conf_t, admin_password_file),
      "created if there is none" },

    { NULL, NULL, NULL, 0, NULL }
};


const rbgvctl_command_t  rbgvctl_init_command = {
    "init", NULL,
    "Set up a store, its users and the pepper",
    "Safe to repeat: what exists is kept. The file of --pepper-file is "
    "created if\nthere is none, as are those of the passwords; the store gets "
    "only their hashes,\nand nothing of the pepper.\n\n"
    "Examples:\n"
    "  rbgvctl --pepper-file /etc/nginx/rbgv.pepper init --acl none\n"
    "  rbgvctl --pepper-file /etc/nginx/rbgv.pepper init \\\n"
    "      --gateway-password-file /etc/nginx/rbgv.password \\\n"
    "      --admin-password-file /root/rbgv-admin.password --acl install\n",
    rbgvctl_init_options,
    sizeof(rbgvctl_init_conf_t),
    rbgvctl_init
};


static int
rbgvctl_init(rbgvctl_t *ctl, void *data, const char *arg)
{
    rbgvctl_init_conf_t  *conf = data;

    int             i, rc;
    rbgvctl_user_t  users[2];

    (void) arg;

    rc = rbgvctl_init_check(conf);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_store_connect(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    /* nothing is made for a store that is somebody else's */

    rc = rbgvctl_init_schema(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_init_pepper(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rbgvctl_init_users(ctl, conf, users);

    for (i = 0; i < 2; i++) {
        rc = rbgvctl_init_password(&users[i]);
        if (rc != RBGVCTL_OK) {
            return rc;
        }
    }

    rc = rbgvctl_init_write(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_environments_seed(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    if (strcmp(conf->acl, "install") == 0) {
        rc = rbgvctl_store_each(ctl, rbgvctl_init_install, users);
        if (rc != RBGVCTL_OK) {
            return rc;
        }
    }

    return rbgvctl_init_print(ctl, conf, users);
}


static int
rbgvctl_init_check(rbgvctl_init_conf_t *conf)
{
    int  rc;

    if (conf->acl == NULL) {
        conf->acl = "print";
    }

    if (conf->gateway_user == NULL) {
        conf->gateway_user = "rbgv-gateway";
    }

    if (conf->admin_user == NULL) {
        conf->admin_user = "rbgv-admin";
    }

    if (strcmp(conf->acl, "print") != 0
        && strcmp(conf->acl, "install") != 0
        && strcmp(conf->acl, "none") != 0)
    {
        return rbgvctl_error(RBGVCTL_USAGE, "--acl \"%s\" is none of print, "
                             "install, none", conf->acl);
    }

    if (strcmp(conf->acl, "install") == 0
        && (conf->gateway_password_file == NULL
            || conf->admin_password_file == NULL))
    {
        return rbgvctl_error(RBGVCTL_USAGE, "--acl install needs --%s-"
                             "password-file; the file is created if there is "
                             "none", conf->gateway_password_file ? "admin"
                                                                 : "gateway");
    }

    rc = rbgvctl_init_check_user("gateway-user", conf->gateway_user);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    if (strcmp(conf->gateway_user, conf->admin_user) == 0) {
        return rbgvctl_error(RBGVCTL_USAGE, "--gateway-user and --admin-user "
                             "are both \"%s\"; the gateway must not be an "
                             "admin", conf->admin_user);
    }

    return rbgvctl_init_check_user("admin-user", conf->admin_user);
}


static int
rbgvctl_init_check_user(const char *option, const char *name)
{
    size_t  len;

    len = strlen(name);

    if (len > RBGVCTL_USER_MAX
        || strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                  "0123456789._-") != len)
    {
        return rbgvctl_error(RBGVCTL_USAGE, "--%s \"%s\" is not 1 to %d "
                             "characters of [A-Za-z0-9._-]", option, name,
                             RBGVCTL_USER_MAX);
    }

    return RBGVCTL_OK;
}


static int
rbgvctl_init_schema(rbgvctl_t *ctl)
{
    int          rc;
    redisReply  *reply;

    reply = rbgvctl_store_command(ctl, 0, "HGET %s" RBGV_META " "
                                  RBGV_META_SCHEMA, ctl->prefix);
    if (reply == NULL) {
        return RBGVCTL_STORE;
    }

    rc = RBGVCTL_OK;

    if (reply->type == REDIS_REPLY_STRING
        && strcmp(reply->str, RBGV_SCHEMA_VERSION) != 0)
    {
        rc = rbgvctl_error(RBGVCTL_REFUSED, "the store at %s has schema "
                           "\"%.32s\" already, not \"" RBGV_SCHEMA_VERSION
                           "\"; use another --prefix or another store",
                           ctl->server, reply->str);
    }

    freeReplyObject(reply);

    return rc;
}


static int
rbgvctl_init_write(rbgvctl_t *ctl)
{
    int      rc;
    int64_t  n;

    rc = rbgvctl_store_time(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_store_integer(ctl, &n, "HSETNX %s" RBGV_META " "
                               RBGV_FIELD_CREATED " %lld", ctl->prefix,
                               (long long) ctl->now);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_store_integer(ctl, &n, "HSETNX %s" RBGV_META " "
                               RBGV_META_SCHEMA " " RBGV_SCHEMA_VERSION,
                               ctl->prefix);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    /* another init may have been faster, of another version */

    return n ? RBGVCTL_OK : rbgvctl_init_schema(ctl);
}


static int
rbgvctl_init_pepper(rbgvctl_t *ctl)
{
    int             rc;
    const char     *err;
    unsigned char   pepper[RBGV_PEPPER_MAX];

    if (ctl->pepper_file == NULL) {
        return RBGVCTL_OK;
    }

    rc = rbgvctl_init_file(ctl->pepper_file, "pepper");
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    if (rbgv_pepper_read(ctl->pepper_file, pepper, &err) == -1) {
        return rbgvctl_error(RBGVCTL_REFUSED, "cannot use the pepper file "
                             "\"%s\": %s", ctl->pepper_file, err);
    }

    OPENSSL_cleanse(pepper, sizeof(pepper));

    return RBGVCTL_OK;
}


static int
rbgvctl_init_file(const char *path, const char *what)
{
    if (access(path, F_OK) == 0) {
        return RBGVCTL_OK;
    }

    if (rbgv_pepper_create(path) == 0) {
        rbgvctl_note("created the %s file \"%s\"", what, path);
        return RBGVCTL_OK;
    }

    if (errno == EEXIST) {
        return RBGVCTL_OK;
    }

    return rbgvctl_error(RBGVCTL_REFUSED, "cannot create the %s file \"%s\": "
                         "%s", what, path, strerror(errno));
}


static void
rbgvctl_init_users(rbgvctl_t *ctl, const rbgvctl_init_conf_t *conf,
    rbgvctl_user_t users[2])
{
    memset(users, 0, 2 * sizeof(rbgvctl_user_t));

    users[0].name = conf->gateway_user;
    users[0].password_file = conf->gateway_password_file;

    (void) snprintf(users[0].rules, RBGVCTL_RULES_SIZE, RBGVCTL_ACL_GATEWAY,
                    ctl->prefix, ctl->prefix, ctl->prefix, ctl->prefix,
                    ctl->prefix);

    users[1].name = conf->admin_user;
    users[1].password_file = conf->admin_password_file;

    (void) snprintf(users[1].rules, RBGVCTL_RULES_SIZE, RBGVCTL_ACL_ADMIN,
                    ctl->prefix);
}


static int
rbgvctl_init_password(rbgvctl_user_t *user)
{
    int               rc, len;
    char              password[RBGVCTL_PASSWORD_MAX];
    const char       *err;
    unsigned char     digest[RBGV_DIGEST_LEN];
    rbgv_digester_t  *digester;

    if (user->password_file == NULL) {
        strcpy(user->hash, "<sha256-of-the-password>");
        return RBGVCTL_OK;
    }

    rc = rbgvctl_init_file(user->password_file, "password");
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    len = rbgv_line_read(user->password_file, password, sizeof(password),
                         &err);

    if (len < 1) {
        return rbgvctl_error(RBGVCTL_REFUSED, "cannot use the password file "
                             "\"%s\": %s", user->password_file,
                             len ? err : "its first line is empty");
    }

    digester = rbgv_digester_create(NULL, 0);

    if (digester == NULL
        || rbgv_digest_key(digester, password, len, digest) == -1)
    {
        rc = rbgvctl_error(RBGVCTL_REFUSED, "OpenSSL has no SHA-256");

    } else {
        rbgv_digest_hex(digest, user->hash);
    }

    rbgv_digester_free(digester);
    OPENSSL_cleanse(password, sizeof(password));

    return rc;
}


/* users are not replicated: each server has its own */

static int
rbgvctl_init_install(rbgvctl_t *ctl, void *data)
{
    rbgvctl_user_t  *users = data;

    int  i, rc;

    for (i = 0; i < 2; i++) {
        rc = rbgvctl_init_install_user(ctl, &users[i]);
        if (rc != RBGVCTL_OK) {
            return rc;
        }
    }

    return rbgvctl_init_save(ctl);
}


static int
rbgvctl_init_install_user(rbgvctl_t *ctl, const rbgvctl_user_t *user)
{
    int          n;
    char         text[RBGVCTL_ACL_SIZE], *p, *rest;
    redisReply  *reply;
    const char  *args[RBGVCTL_ACL_WORDS];

    rbgvctl_init_acl(user, text);

    args[0] = "ACL";
    args[1] = "SETUSER";
    n = 2;

    p = strtok_r(text + sizeof("user"), " ", &rest);

    while (p != NULL && n < RBGVCTL_ACL_WORDS) {
        args[n++] = p;
        p = strtok_r(NULL, " ", &rest);
    }

    reply = rbgvctl_store_argv(ctl, REDIS_REPLY_STATUS, n, args);
    if (reply == NULL) {
        return RBGVCTL_STORE;
    }

    freeReplyObject(reply);

    return RBGVCTL_OK;
}


static int
rbgvctl_init_save(rbgvctl_t *ctl)
{
    int          rc;
    redisReply  *reply;

    reply = rbgvctl_store_call(ctl, "ACL SAVE");

    /* an error other than the one of a server without an ACL file */

    if (reply == NULL
        || (reply->type == REDIS_REPLY_ERROR
            && strstr(reply->str, "not configured to use an ACL file")
               == NULL))
    {
        rc = rbgvctl_store_failed(ctl, reply);

    } else {
        rc = RBGVCTL_OK;

        if (reply->type == REDIS_REPLY_ERROR) {
            rbgvctl_note("%s has no ACL file: the users are gone after its "
                         "restart unless the lines printed here are in its "
                         "redis.conf", ctl->from->name);
        }
    }

    freeReplyObject(reply);

    return rc;
}


static int
rbgvctl_init_print(rbgvctl_t *ctl, const rbgvctl_init_conf_t *conf,
    const rbgvctl_user_t users[2])
{
    int      i;
    char     text[RBGVCTL_ACL_SIZE];
    json_t  *acl;

    acl = json_array();

    for (i = 0; i < 2 && strcmp(conf->acl, "none") != 0; i++) {
        rbgvctl_init_acl(&users[i], text);
        (void) json_array_append_new(acl, json_string(text));

        if (!ctl->json) {
            (void) printf("%s\n", text);
        }
    }

    if (ctl->json) {
        return rbgvctl_print_json(json_pack("{s:s, s:s?, s:o}",
                                            "schema", RBGV_SCHEMA_VERSION,
                                            "pepper_file", ctl->pepper_file,
                                            "acl", acl));
    }

    json_decref(acl);

    rbgvctl_note("the store at %s is ready", ctl->server);

    return RBGVCTL_OK;
}


/* a line of users.acl */

static void
rbgvctl_init_acl(const rbgvctl_user_t *user, char text[RBGVCTL_ACL_SIZE])
{
    (void) snprintf(text, RBGVCTL_ACL_SIZE, "user %s reset on #%s %s",
                    user->name, user->hash, user->rules);
}
