
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: a connection to a server.
 */


#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "rbgvctl.h"


#define RBGVCTL_PAUSE  50              /* milliseconds */


static int rbgvctl_server_dial(rbgvctl_t *ctl, rbgvctl_server_t *server);
static int rbgvctl_server_login(rbgvctl_t *ctl, rbgvctl_server_t *server);
static int rbgvctl_server_locked(rbgvctl_t *ctl, rbgvctl_server_t *server);
static int rbgvctl_server_prompt(rbgvctl_t *ctl, rbgvctl_server_t *server);
static int rbgvctl_server_auth(rbgvctl_t *ctl, rbgvctl_server_t *server);
static int rbgvctl_server_do(rbgvctl_t *ctl, rbgvctl_server_t *server,
    const char *fmt, ...);
static redisReply *rbgvctl_server_vcall(rbgvctl_t *ctl,
    rbgvctl_server_t *server, const char *fmt, va_list ap);
static void rbgvctl_server_write(rbgvctl_server_t *server,
    const char *command, size_t len);
static redisReply *rbgvctl_server_receive(rbgvctl_server_t *server);
static int rbgvctl_server_lost(rbgvctl_t *ctl, rbgvctl_server_t *server);
static int64_t rbgvctl_milliseconds(void);


/* by the first word of an error reply; the last entry is for all others */

static const struct {
    const char  *code;
    const char  *advice;
} rbgvctl_server_errors[] = {
    { "NOAUTH", "give --password-file, or a login in RBGV_REDIS" },
    { "NOPERM", "use the admin login that \"rbgvctl init\" makes, and "
      "repeat \"init\" after an upgrade" },
    { "LOADING", "it is reading its data, try again" },
    { "BUSY", "a script keeps it busy, try again" },
    { "READONLY", "it is a replica, give the address of its master" },
    { "MASTERDOWN", "it is a replica, give the address of its master" },
    { "MOVED", "it is a node of a cluster, give its address as "
      "redis+cluster://" },
    { "ASK", "it is a node of a cluster, give its address as "
      "redis+cluster://" },
    { "CLUSTERDOWN", "a master of the cluster is down, try again" },
    { "TRYAGAIN", "the cluster moves the key to another node, try again" },
    { "OOM", "raise its maxmemory" },
    { "DENIED", "it wants a login from other hosts" },
    { "", "see its log" }
};


/* for a unix socket the name is empty */

rbgvctl_server_t *
rbgvctl_server_get(rbgvctl_t *ctl, const char *name, size_t len,
    unsigned port, int sentinel)
{
    char              *host;
    rbgvctl_server_t  *server, **last;

    for (last = &ctl->servers; *last != NULL; last = &(*last)->next) {
        server = *last;

        if (server->host.port == port && strlen(server->host.name) == len
            && memcmp(server->host.name, name, len) == 0)
        {
            return server;
        }
    }

    server = calloc(1, sizeof(rbgvctl_server_t));

    if (server == NULL || len >= sizeof(server->host.name)) {
        free(server);
        (void) rbgvctl_fault(ctl, RBGVCTL_STORE, "there is no room for the "
                             "address of a server");
        return NULL;
    }

    host = server->host.name;

    memcpy(host, name, len);
    server->host.port = port;
    server->sentinel = sentinel;

    (void) snprintf(server->address, sizeof(server->address),
                    len == 0 ? "unix:%s" : strchr(host, ':') ? "[%s]:%u"
                                                             : "%s:%u",
                    len == 0 ? ctl->uri.path : host, port);

    (void) snprintf(server->name, sizeof(server->name), "the %s at %s",
                    sentinel ? "Sentinel" : "store", server->address);

    *last = server;

    return server;
}


int
rbgvctl_server_open(rbgvctl_t *ctl, rbgvctl_server_t *server)
{
    int  rc;

    if (server->redis != NULL) {
        return RBGVCTL_OK;
    }

    rc = rbgvctl_server_dial(ctl, server);

    if (rc == RBGVCTL_OK && !server->sentinel) {
        rc = rbgvctl_server_login(ctl, server);
    }

    if (rc != RBGVCTL_OK) {
        rbgvctl_server_close(server);
        server->down = 1;
    }

    return rc;
}


/* requests that wait for it are lost */

void
rbgvctl_server_close(rbgvctl_server_t *server)
{
    rbgvctl_request_t  *request;

    rbgvctl_tls_close(server);

    if (server->redis != NULL) {
        redisFree(server->redis);
        server->redis = NULL;
    }

    while (server->requests != NULL) {
        request = server->requests;
        server->requests = request->behind;

        request->lost = 1;

        if (request->asking) {
            rbgvctl_request_free(request);
        }
    }
}


static int
rbgvctl_server_dial(rbgvctl_t *ctl, rbgvctl_server_t *server)
{
    struct timeval  tv;

    tv.tv_sec = ctl->seconds;
    tv.tv_usec = 0;

    if (server->host.name[0] == '\0') {
        server->redis = redisConnectUnixWithTimeout(ctl->uri.path, tv);

    } else {
        server->redis = redisConnectWithTimeout(server->host.name,
                                                server->host.port, tv);
    }

    if (server->redis == NULL) {
        return rbgvctl_fault(ctl, RBGVCTL_STORE, "out of memory");
    }

    if (server->redis->err != 0) {
        return rbgvctl_fault(ctl, RBGVCTL_STORE, "cannot connect to %s: %s; "
                             "check --redis (RBGV_REDIS), and that it runs",
                             server->name, server->redis->errstr);
    }

    if (redisSetTimeout(server->redis, tv) != REDIS_OK) {
        return rbgvctl_server_lost(ctl, server);
    }

    return ctl->uri.tls ? rbgvctl_tls_start(ctl, server) : RBGVCTL_OK;
}


static int
rbgvctl_server_login(rbgvctl_t *ctl, rbgvctl_server_t *server)
{
    int  rc;

    if (ctl->uri.password[0] == '\0'
        && (ctl->uri.user[0] != '\0' || rbgvctl_server_locked(ctl, server)))
    {
        rc = rbgvctl_server_prompt(ctl, server);
        if (rc != RBGVCTL_OK) {
            return rc;
        }
    }

    if (ctl->uri.password[0] != '\0') {
        rc = rbgvctl_server_auth(ctl, server);
        if (rc != RBGVCTL_OK) {
            return rc;
        }
    }

    rc = rbgvctl_server_do(ctl, server, "CLIENT SETNAME rbgvctl");

    if (rc != RBGVCTL_OK || ctl->uri.db == 0) {
        return rc;
    }

    return rbgvctl_server_do(ctl, server, "SELECT %u", ctl->uri.db);
}


/* 1 if it wants a password; other errors come back with the next command */

static int
rbgvctl_server_locked(rbgvctl_t *ctl, rbgvctl_server_t *server)
{
    int          locked;
    redisReply  *reply;

    reply = rbgvctl_server_call(ctl, server, "PING");
    if (reply == NULL) {
        return 0;
    }

    locked = rbgvctl_reply_error(reply, "NOAUTH");

    freeReplyObject(reply);

    return locked;
}


static int
rbgvctl_server_prompt(rbgvctl_t *ctl, rbgvctl_server_t *server)
{
    char  prompt[512];

    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) {
        return rbgvctl_fault(ctl, RBGVCTL_STORE, "%s needs a password; give "
                             "--password-file, or a login in RBGV_REDIS",
                             server->name);
    }

    (void) snprintf(prompt, sizeof(prompt), "Password of %s%s%s: ",
                    ctl->uri.user, ctl->uri.user[0] ? " for " : "",
                    server->name);

    if (EVP_read_pw_string(ctl->uri.password, sizeof(ctl->uri.password),
                           prompt, 0)
        != 0
        || ctl->uri.password[0] == '\0')
    {
        return rbgvctl_fault(ctl, RBGVCTL_STORE, "no password for %s",
                             server->name);
    }

    return RBGVCTL_OK;
}


static int
rbgvctl_server_auth(rbgvctl_t *ctl, rbgvctl_server_t *server)
{
    int          rc;
    redisReply  *reply;

    if (ctl->uri.user[0] != '\0') {
        reply = rbgvctl_server_call(ctl, server, "AUTH %s %s", ctl->uri.user,
                                    ctl->uri.password);

    } else {
        reply = rbgvctl_server_call(ctl, server, "AUTH %s",
                                    ctl->uri.password);
    }

    if (reply == NULL) {
        return RBGVCTL_STORE;
    }

    rc = RBGVCTL_OK;

    /* its text may quote the arguments, and with them the password */

    if (reply->type != REDIS_REPLY_STATUS) {
        rc = rbgvctl_fault(ctl, RBGVCTL_STORE, "%s refused the login of "
                           "%s%s; check the user and the password",
                           server->name,
                           ctl->uri.user[0] ? "user " : "the default user",
                           ctl->uri.user);
    }

    freeReplyObject(reply);

    return rc;
}


/* a command whose answer is OK */

static int
rbgvctl_server_do(rbgvctl_t *ctl, rbgvctl_server_t *server, const char *fmt,
    ...)
{
    int          rc;
    va_list      ap;
    redisReply  *reply;

    va_start(ap, fmt);
    reply = rbgvctl_server_vcall(ctl, server, fmt, ap);
    va_end(ap);

    if (reply == NULL) {
        return RBGVCTL_STORE;
    }

    rc = reply->type == REDIS_REPLY_STATUS
         ? RBGVCTL_OK : rbgvctl_server_refused(ctl, server, reply);

    freeReplyObject(reply);

    return rc;
}


redisReply *
rbgvctl_server_call(rbgvctl_t *ctl, rbgvctl_server_t *server,
    const char *fmt, ...)
{
    va_list      ap;
    redisReply  *reply;

    va_start(ap, fmt);
    reply = rbgvctl_server_vcall(ctl, server, fmt, ap);
    va_end(ap);

    return reply;
}


static redisReply *
rbgvctl_server_vcall(rbgvctl_t *ctl, rbgvctl_server_t *server,
    const char *fmt, va_list ap)
{
    int          len;
    char        *command;
    redisReply  *reply;

    while (server->requests != NULL) {
        rbgvctl_server_read(ctl, server);
    }

    if (server->redis == NULL) {
        return NULL;
    }

    len = redisvFormatCommand(&command, fmt, ap);

    if (len < 0) {
        (void) rbgvctl_fault(ctl, RBGVCTL_STORE, "out of memory");
        return NULL;
    }

    rbgvctl_server_write(server, command, len);

    redisFreeCommand(command);

    reply = rbgvctl_server_receive(server);

    if (reply == NULL) {
        (void) rbgvctl_server_lost(ctl, server);
    }

    return reply;
}


void
rbgvctl_server_send(rbgvctl_server_t *server, rbgvctl_request_t *request)
{
    request->server = server;
    request->behind = NULL;

    if (server->redis == NULL) {
        request->lost = 1;
        return;
    }

    if (server->requests == NULL) {
        server->requests = request;

    } else {
        server->last->behind = request;
    }

    server->last = request;

    rbgvctl_server_write(server, request->command, request->len);
}


/* a failure stays in the context, and comes back with the reply */

static void
rbgvctl_server_write(rbgvctl_server_t *server, const char *command,
    size_t len)
{
    if (server->tls != NULL) {
        rbgvctl_tls_send(server, command, len);

    } else {
        (void) redisAppendFormattedCommand(server->redis, command, len);
    }
}


void
rbgvctl_server_flush(rbgvctl_server_t *server)
{
    int  done;

    if (server->requests == NULL) {
        return;
    }

    if (server->tls != NULL) {
        rbgvctl_tls_flush(server);
        return;
    }

    do {
        if (redisBufferWrite(server->redis, &done) != REDIS_OK) {
            return;
        }
    } while (!done);
}


void
rbgvctl_server_read(rbgvctl_t *ctl, rbgvctl_server_t *server)
{
    redisReply         *reply;
    rbgvctl_request_t  *request;

    reply = rbgvctl_server_receive(server);

    if (reply == NULL) {
        (void) rbgvctl_server_lost(ctl, server);
        return;
    }

    request = server->requests;
    server->requests = request->behind;

    request->reply = reply;

    if (request->asking) {
        rbgvctl_request_free(request);
    }
}


static redisReply *
rbgvctl_server_receive(rbgvctl_server_t *server)
{
    int    rc;
    void  *reply;

    rc = server->tls != NULL ? rbgvctl_tls_reply(server, &reply)
                             : redisGetReply(server->redis, &reply);

    return rc == REDIS_OK ? reply : NULL;
}


void
rbgvctl_request_free(rbgvctl_request_t *request)
{
    redisFreeCommand(request->command);
    freeReplyObject(request->reply);
    free(request);
}


int
rbgvctl_server_refused(rbgvctl_t *ctl, const rbgvctl_server_t *server,
    const redisReply *reply)
{
    size_t       i;
    const char  *code;

    if (reply->type != REDIS_REPLY_ERROR) {
        return rbgvctl_fault(ctl, RBGVCTL_STORE, "%s gave an answer of the "
                             "wrong type; check that it is Redis",
                             server->name);
    }

    for (i = 0; /* void */ ; i++) {
        code = rbgvctl_server_errors[i].code;

        if (code[0] == '\0' || rbgvctl_reply_error(reply, code)) {
            break;
        }
    }

    return rbgvctl_fault(ctl, RBGVCTL_STORE, "%s says \"%.160s\"; %s",
                         server->name, reply->str,
                         rbgvctl_server_errors[i].advice);
}


int
rbgvctl_reply_error(const redisReply *reply, const char *code)
{
    size_t  len;

    len = strlen(code);

    return reply->type == REDIS_REPLY_ERROR
           && strncmp(reply->str, code, len) == 0
           && (reply->str[len] == ' ' || reply->str[len] == '\0');
}


static int
rbgvctl_server_lost(rbgvctl_t *ctl, rbgvctl_server_t *server)
{
    /* hiredis leaves the error of a timeout in errno only */

    if (server->redis->err == REDIS_ERR_IO
        && (errno == EAGAIN || errno == EWOULDBLOCK))
    {
        (void) rbgvctl_fault(ctl, RBGVCTL_STORE, "%s did not answer within "
                             "%d seconds; try again, or give a longer "
                             "--timeout", server->name, (int) ctl->seconds);

    } else {
        (void) rbgvctl_fault(ctl, RBGVCTL_STORE, "lost %s: %s; try again",
                             server->name,
                             server->redis->err ? server->redis->errstr
                                                : "out of memory");
    }

    rbgvctl_server_close(server);
    server->down = 1;

    return RBGVCTL_STORE;
}


int
rbgvctl_fault(rbgvctl_t *ctl, int status, const char *fmt, ...)
{
    va_list  ap;

    va_start(ap, fmt);
    (void) vsnprintf(ctl->fault, sizeof(ctl->fault), fmt, ap);
    va_end(ap);

    return status;
}


int64_t
rbgvctl_deadline(const rbgvctl_t *ctl)
{
    return rbgvctl_milliseconds() + ctl->seconds * 1000;
}


int
rbgvctl_pause(int64_t deadline)
{
    struct timespec  left;

    if (rbgvctl_milliseconds() >= deadline) {
        return 0;
    }

    left.tv_sec = 0;
    left.tv_nsec = RBGVCTL_PAUSE * 1000000;

    (void) nanosleep(&left, NULL);

    return 1;
}


static int64_t
rbgvctl_milliseconds(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return ts.tv_sec * INT64_C(1000) + ts.tv_nsec / 1000000;
}
