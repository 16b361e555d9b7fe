
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: the connection to the store.
 */


#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "rbgvctl.h"


/* seconds for which a host may trust what it has read */
#define RBGVCTL_TRUST  1


static int rbgvctl_store_address(rbgvctl_t *ctl);
static int rbgvctl_store_password(rbgvctl_t *ctl);
static int rbgvctl_store_dial(rbgvctl_t *ctl);
static int rbgvctl_store_login(rbgvctl_t *ctl);
static int rbgvctl_store_locked(rbgvctl_t *ctl);
static int rbgvctl_store_prompt(rbgvctl_t *ctl);
static int rbgvctl_store_auth(rbgvctl_t *ctl);
static redisReply *rbgvctl_store_vcall(rbgvctl_t *ctl, const char *fmt,
    va_list ap);
static void rbgvctl_store_send(rbgvctl_t *ctl, char *command, long long len);
static redisReply *rbgvctl_store_receive(rbgvctl_t *ctl);
static redisReply *rbgvctl_store_check(rbgvctl_t *ctl, redisReply *reply,
    int type);
static int rbgvctl_store_lost(rbgvctl_t *ctl);


/* by the first word of an error reply; the last entry is for all others */

static const struct {
    const char  *code;
    const char  *advice;
} rbgvctl_store_errors[] = {
    { "NOAUTH", "give --password-file, or a login in RBGV_REDIS" },
    { "NOPERM", "use the admin login that \"rbgvctl init\" makes, and "
      "repeat \"init\" after an upgrade" },
    { "LOADING", "it is reading its data, try again" },
    { "BUSY", "a script keeps it busy, try again" },
    { "READONLY", "it is a replica, give the address of its master" },
    { "MASTERDOWN", "it is a replica, give the address of its master" },
    { "MOVED", "it is a node of a cluster, which rbgvctl cannot follow" },
    { "OOM", "raise its maxmemory" },
    { "DENIED", "it wants a login from other hosts" },
    { "", "see its log" }
};


int
rbgvctl_store_open(rbgvctl_t *ctl)
{
    int          rc;
    redisReply  *reply;

    rc = rbgvctl_store_connect(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    reply = rbgvctl_store_command(ctl, 0, "HGET %s" RBGV_META " "
                                  RBGV_META_SCHEMA, ctl->prefix);
    if (reply == NULL) {
        return RBGVCTL_STORE;
    }

    if (reply->type != REDIS_REPLY_STRING) {
        rc = rbgvctl_error(RBGVCTL_STORE, "there is no \"%s" RBGV_META "\" "
                           "in the store at %s; run \"rbgvctl init\", or "
                           "check --redis and --prefix", ctl->prefix,
                           ctl->server);

    } else if (strcmp(reply->str, RBGV_SCHEMA_VERSION) != 0) {
        rc = rbgvctl_error(RBGVCTL_STORE, "the store at %s has schema "
                           "\"%.32s\", this rbgvctl knows \""
                           RBGV_SCHEMA_VERSION "\"; use the rbgvctl of its "
                           "version", ctl->server, reply->str);
    }

    freeReplyObject(reply);

    return rc;
}


int
rbgvctl_store_connect(rbgvctl_t *ctl)
{
    int  rc;

    rc = rbgvctl_store_address(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_store_password(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_store_dial(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    return rbgvctl_store_login(ctl);
}


void
rbgvctl_store_close(rbgvctl_t *ctl)
{
    rbgvctl_tls_close(ctl);

    if (ctl->redis != NULL) {
        redisFree(ctl->redis);
        ctl->redis = NULL;
    }

    OPENSSL_cleanse(&ctl->uri, sizeof(rbgv_uri_t));
}


static int
rbgvctl_store_address(rbgvctl_t *ctl)
{
    const char  *err, *text;

    text = ctl->address;

    if (text == NULL) {
        text = getenv("RBGV_REDIS");
    }

    if (text == NULL || text[0] == '\0') {
        text = RBGV_URI_DEFAULT;
    }

    err = rbgv_uri_parse(text, strlen(text), &ctl->uri);

    if (err != NULL) {
        return rbgvctl_error(RBGVCTL_USAGE, "the address in %s is not valid: "
                             "%s", ctl->address ? "--redis" : "RBGV_REDIS",
                             err);
    }

    if (ctl->uri.kind != RBGV_URI_SERVER) {
        return rbgvctl_error(RBGVCTL_USAGE, "Sentinel and Cluster are not "
                             "supported: give the address of the master");
    }

    if (ctl->address != NULL && ctl->uri.password[0] != '\0') {
        return rbgvctl_error(RBGVCTL_USAGE, "there is a password in --redis, "
                             "where every user of this host can read it; "
                             "put the address in RBGV_REDIS, or the password "
                             "in a file for --password-file");
    }

    if (ctl->uri.path[0] != '\0') {
        (void) snprintf(ctl->server, sizeof(ctl->server), "unix:%s",
                        ctl->uri.path);

    } else {
        (void) snprintf(ctl->server, sizeof(ctl->server),
                        strchr(ctl->uri.hosts[0].name, ':') ? "[%s]:%u"
                                                            : "%s:%u",
                        ctl->uri.hosts[0].name, ctl->uri.hosts[0].port);
    }

    return RBGVCTL_OK;
}


static int
rbgvctl_store_password(rbgvctl_t *ctl)
{
    int          len;
    const char  *err;

    if (ctl->password_file == NULL) {
        return RBGVCTL_OK;
    }

    len = rbgv_line_read(ctl->password_file, ctl->uri.password,
                         sizeof(ctl->uri.password), &err);

    if (len == 0) {
        err = "its first line is empty";
        len = -1;
    }

    if (len == -1) {
        return rbgvctl_error(RBGVCTL_REFUSED, "cannot use the password file "
                             "\"%s\": %s", ctl->password_file, err);
    }

    return RBGVCTL_OK;
}


static int
rbgvctl_store_dial(rbgvctl_t *ctl)
{
    struct timeval  tv;

    tv.tv_sec = ctl->seconds;
    tv.tv_usec = 0;

    if (ctl->uri.path[0] != '\0') {
        ctl->redis = redisConnectUnixWithTimeout(ctl->uri.path, tv);

    } else {
        ctl->redis = redisConnectWithTimeout(ctl->uri.hosts[0].name,
                                             ctl->uri.hosts[0].port, tv);
    }

    if (ctl->redis == NULL) {
        return rbgvctl_error(RBGVCTL_STORE, "out of memory");
    }

    if (ctl->redis->err != 0) {
        return rbgvctl_error(RBGVCTL_STORE, "cannot connect to the store at "
                             "%s: %s; check --redis (RBGV_REDIS), and that "
                             "it runs", ctl->server, ctl->redis->errstr);
    }

    if (redisSetTimeout(ctl->redis, tv) != REDIS_OK) {
        return rbgvctl_store_lost(ctl);
    }

    return ctl->uri.tls ? rbgvctl_tls_start(ctl) : RBGVCTL_OK;
}


static int
rbgvctl_store_login(rbgvctl_t *ctl)
{
    int          rc;
    redisReply  *reply;

    if (ctl->uri.password[0] == '\0'
        && (ctl->uri.user[0] != '\0' || rbgvctl_store_locked(ctl)))
    {
        rc = rbgvctl_store_prompt(ctl);
        if (rc != RBGVCTL_OK) {
            return rc;
        }
    }

    if (ctl->uri.password[0] != '\0') {
        rc = rbgvctl_store_auth(ctl);
        if (rc != RBGVCTL_OK) {
            return rc;
        }
    }

    reply = rbgvctl_store_command(ctl, REDIS_REPLY_STATUS,
                                  "CLIENT SETNAME rbgvctl");
    if (reply == NULL) {
        return RBGVCTL_STORE;
    }

    freeReplyObject(reply);

    if (ctl->uri.db == 0) {
        return RBGVCTL_OK;
    }

    reply = rbgvctl_store_command(ctl, REDIS_REPLY_STATUS, "SELECT %u",
                                  ctl->uri.db);
    if (reply == NULL) {
        return RBGVCTL_STORE;
    }

    freeReplyObject(reply);

    return RBGVCTL_OK;
}


/* 1 if it wants a password; other errors come back with the next command */

static int
rbgvctl_store_locked(rbgvctl_t *ctl)
{
    int          locked;
    redisReply  *reply;

    reply = rbgvctl_store_call(ctl, "PING");
    if (reply == NULL) {
        return 0;
    }

    locked = reply->type == REDIS_REPLY_ERROR
             && strncmp(reply->str, "NOAUTH", 6) == 0;

    freeReplyObject(reply);

    return locked;
}


static int
rbgvctl_store_prompt(rbgvctl_t *ctl)
{
    char  prompt[512];

    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) {
        return rbgvctl_error(RBGVCTL_STORE, "the store at %s needs a "
                             "password; give --password-file, or a login in "
                             "RBGV_REDIS", ctl->server);
    }

    (void) snprintf(prompt, sizeof(prompt), "Password of %s%sthe store at "
                    "%s: ", ctl->uri.user, ctl->uri.user[0] ? " for " : "",
                    ctl->server);

    if (EVP_read_pw_string(ctl->uri.password, sizeof(ctl->uri.password),
                           prompt, 0)
        != 0
        || ctl->uri.password[0] == '\0')
    {
        return rbgvctl_error(RBGVCTL_STORE, "no password for the store at %s",
                             ctl->server);
    }

    return RBGVCTL_OK;
}


static int
rbgvctl_store_auth(rbgvctl_t *ctl)
{
    int          rc;
    redisReply  *reply;

    if (ctl->uri.user[0] != '\0') {
        reply = rbgvctl_store_call(ctl, "AUTH %s %s", ctl->uri.user,
                                   ctl->uri.password);

    } else {
        reply = rbgvctl_store_call(ctl, "AUTH %s", ctl->uri.password);
    }

    if (reply == NULL) {
        return rbgvctl_store_lost(ctl);
    }

    rc = RBGVCTL_OK;

    /* its text may quote the arguments, and with them the password */

    if (reply->type != REDIS_REPLY_STATUS) {
        rc = rbgvctl_error(RBGVCTL_STORE, "the store at %s refused the login "
                           "of %s%s; check the user and the password",
                           ctl->server,
                           ctl->uri.user[0] ? "user " : "the default user",
                           ctl->uri.user);
    }

    freeReplyObject(reply);

    return rc;
}


redisReply *
rbgvctl_store_call(rbgvctl_t *ctl, const char *fmt, ...)
{
    va_list      ap;
    redisReply  *reply;

    va_start(ap, fmt);
    reply = rbgvctl_store_vcall(ctl, fmt, ap);
    va_end(ap);

    return reply;
}


redisReply *
rbgvctl_store_command(rbgvctl_t *ctl, int type, const char *fmt, ...)
{
    va_list      ap;
    redisReply  *reply;

    va_start(ap, fmt);
    reply = rbgvctl_store_vcall(ctl, fmt, ap);
    va_end(ap);

    return rbgvctl_store_check(ctl, reply, type);
}


redisReply *
rbgvctl_store_argv(rbgvctl_t *ctl, int type, int argc, const char **argv)
{
    rbgvctl_store_append_argv(ctl, argc, argv);

    return rbgvctl_store_reply(ctl, type);
}


int
rbgvctl_store_integer(rbgvctl_t *ctl, int64_t *n, const char *fmt, ...)
{
    va_list      ap;
    redisReply  *reply;

    va_start(ap, fmt);
    reply = rbgvctl_store_vcall(ctl, fmt, ap);
    va_end(ap);

    reply = rbgvctl_store_check(ctl, reply, REDIS_REPLY_INTEGER);
    if (reply == NULL) {
        return RBGVCTL_STORE;
    }

    *n = reply->integer;

    freeReplyObject(reply);

    return RBGVCTL_OK;
}


redisReply *
rbgvctl_store_integers(rbgvctl_t *ctl, size_t n, int argc, const char **argv)
{
    size_t       i;
    redisReply  *reply;

    reply = rbgvctl_store_argv(ctl, REDIS_REPLY_ARRAY, argc, argv);
    if (reply == NULL) {
        return NULL;
    }

    for (i = 0; i < reply->elements; i++) {
        if (reply->element[i]->type != REDIS_REPLY_INTEGER) {
            break;
        }
    }

    if (i == n) {
        return reply;
    }

    rbgvctl_note("the store at %s gave an answer of the wrong form; check "
                 "that it is Redis", ctl->server);

    freeReplyObject(reply);

    return NULL;
}


void
rbgvctl_store_append(rbgvctl_t *ctl, const char *fmt, ...)
{
    int       len;
    char     *command;
    va_list   ap;

    va_start(ap, fmt);
    len = redisvFormatCommand(&command, fmt, ap);
    va_end(ap);

    rbgvctl_store_send(ctl, command, len);
}


void
rbgvctl_store_append_argv(rbgvctl_t *ctl, int argc, const char **argv)
{
    long long   len;
    char       *command;

    len = redisFormatCommandArgv(&command, argc, argv, NULL);

    rbgvctl_store_send(ctl, command, len);
}


redisReply *
rbgvctl_store_reply(rbgvctl_t *ctl, int type)
{
    return rbgvctl_store_check(ctl, rbgvctl_store_receive(ctl), type);
}


int
rbgvctl_store_time(rbgvctl_t *ctl)
{
    redisReply  *reply;

    reply = rbgvctl_store_command(ctl, REDIS_REPLY_ARRAY, "TIME");
    if (reply == NULL) {
        return RBGVCTL_STORE;
    }

    ctl->now = 0;

    if (reply->elements == 2
        && reply->element[0]->type == REDIS_REPLY_STRING
        && reply->element[1]->type == REDIS_REPLY_STRING)
    {
        ctl->now = strtoll(reply->element[0]->str, NULL, 10);
        ctl->now_us = ctl->now * 1000000
                      + strtoll(reply->element[1]->str, NULL, 10);
    }

    freeReplyObject(reply);

    if (ctl->now <= 0) {
        return rbgvctl_error(RBGVCTL_STORE, "the store at %s has no clock",
                             ctl->server);
    }

    return RBGVCTL_OK;
}


void
rbgvctl_store_settle(void)
{
    struct timespec  left;

    left.tv_sec = RBGVCTL_TRUST;
    left.tv_nsec = 0;

    while (nanosleep(&left, &left) == -1 && errno == EINTR) { /* void */ }
}


static redisReply *
rbgvctl_store_vcall(rbgvctl_t *ctl, const char *fmt, va_list ap)
{
    int    len;
    char  *command;

    len = redisvFormatCommand(&command, fmt, ap);

    rbgvctl_store_send(ctl, command, len);

    return rbgvctl_store_receive(ctl);
}


/* a failure stays in the context, and comes back with the reply */

static void
rbgvctl_store_send(rbgvctl_t *ctl, char *command, long long len)
{
    if (len < 0) {
        ctl->redis->err = REDIS_ERR_OOM;
        (void) snprintf(ctl->redis->errstr, sizeof(ctl->redis->errstr),
                        "out of memory");
        return;
    }

    if (ctl->tls != NULL) {
        rbgvctl_tls_send(ctl, command, len);

    } else {
        (void) redisAppendFormattedCommand(ctl->redis, command, len);
    }

    redisFreeCommand(command);
}


static redisReply *
rbgvctl_store_receive(rbgvctl_t *ctl)
{
    int    rc;
    void  *reply;

    rc = ctl->tls != NULL ? rbgvctl_tls_reply(ctl, &reply)
                          : redisGetReply(ctl->redis, &reply);

    return rc == REDIS_OK ? reply : NULL;
}


static redisReply *
rbgvctl_store_check(rbgvctl_t *ctl, redisReply *reply, int type)
{
    if (reply == NULL || reply->type == REDIS_REPLY_ERROR) {
        (void) rbgvctl_store_failed(ctl, reply);

    } else if (type != 0 && reply->type != type) {
        rbgvctl_note("the store at %s gave an answer of the wrong type; "
                     "check that it is Redis", ctl->server);

    } else {
        return reply;
    }

    freeReplyObject(reply);

    return NULL;
}


int
rbgvctl_store_failed(rbgvctl_t *ctl, const redisReply *reply)
{
    size_t       i, len;
    const char  *code;

    if (reply == NULL) {
        return rbgvctl_store_lost(ctl);
    }

    len = strcspn(reply->str, " ");

    for (i = 0; /* void */ ; i++) {
        code = rbgvctl_store_errors[i].code;

        if (code[0] == '\0'
            || (strlen(code) == len && memcmp(code, reply->str, len) == 0))
        {
            break;
        }
    }

    return rbgvctl_error(RBGVCTL_STORE, "the store at %s says \"%.160s\"; %s",
                         ctl->server, reply->str,
                         rbgvctl_store_errors[i].advice);
}


static int
rbgvctl_store_lost(rbgvctl_t *ctl)
{
    const char  *err;

    /* hiredis leaves the error of a timeout in errno only */

    if (ctl->redis->err == REDIS_ERR_IO
        && (errno == EAGAIN || errno == EWOULDBLOCK))
    {
        return rbgvctl_error(RBGVCTL_STORE, "the store at %s did not answer "
                             "within %d seconds; try again, or give a longer "
                             "--timeout", ctl->server, (int) ctl->seconds);
    }

    err = ctl->redis->err ? ctl->redis->errstr : "out of memory";

    return rbgvctl_error(RBGVCTL_STORE, "lost the store at %s: %s; try again",
                         ctl->server, err);
}
