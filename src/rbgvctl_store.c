
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: the store, which may be of several servers.
 */


#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/crypto.h>

#include "rbgvctl.h"


/* seconds for which a host may trust what it has read */
#define RBGVCTL_TRUST  1


static int rbgvctl_store_address(rbgvctl_t *ctl);
static int rbgvctl_store_password(rbgvctl_t *ctl);
static int rbgvctl_store_server(rbgvctl_t *ctl);
static redisReply *rbgvctl_store_vcall(rbgvctl_t *ctl, const char *fmt,
    va_list ap);
static void rbgvctl_store_send(rbgvctl_t *ctl, char *command, long long len);
static void rbgvctl_store_route(rbgvctl_t *ctl, rbgvctl_request_t *request);
static redisReply *rbgvctl_store_receive(rbgvctl_t *ctl);
static void rbgvctl_store_await(rbgvctl_t *ctl, rbgvctl_request_t *request);
static int rbgvctl_store_again(rbgvctl_t *ctl, rbgvctl_request_t *request,
    int64_t deadline);
static int rbgvctl_store_members(rbgvctl_t *ctl);
static redisReply *rbgvctl_store_check(rbgvctl_t *ctl, redisReply *reply,
    int type);

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

    switch (ctl->uri.kind) {

    case RBGV_URI_CLUSTER:
        rc = rbgvctl_cluster_open(ctl);
        break;

    case RBGV_URI_SENTINEL:
        rc = rbgvctl_sentinel_find(ctl);
        break;

    default:
        rc = rbgvctl_store_server(ctl);
    }

    return rc == RBGVCTL_OK ? rc : rbgvctl_error(rc, "%s", ctl->fault);
}


void
rbgvctl_store_close(rbgvctl_t *ctl)
{
    rbgvctl_server_t   *server;
    rbgvctl_request_t  *request;

    while (ctl->servers != NULL) {
        server = ctl->servers;
        ctl->servers = server->next;

        rbgvctl_server_close(server);
        free(server);
    }

    while (ctl->requests != NULL) {
        request = ctl->requests;
        ctl->requests = request->next;

        rbgvctl_request_free(request);
    }

    free(ctl->slots);

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

    if (ctl->address != NULL && ctl->uri.password[0] != '\0') {
        return rbgvctl_error(RBGVCTL_USAGE, "there is a password in --redis, "
                             "where every user of this host can read it; "
                             "put the address in RBGV_REDIS, or the password "
                             "in a file for --password-file");
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
rbgvctl_store_server(rbgvctl_t *ctl)
{
    const rbgv_uri_host_t  *host;

    host = &ctl->uri.hosts[0];

    ctl->master = rbgvctl_server_get(ctl, host->name, strlen(host->name),
                                     host->port, 0);
    if (ctl->master == NULL) {
        return RBGVCTL_STORE;
    }

    ctl->server = ctl->master->address;

    return rbgvctl_server_open(ctl, ctl->master);
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
        return rbgvctl_error(RBGVCTL_STORE, "%s has no clock",
                             ctl->from->name);
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


static void
rbgvctl_store_send(rbgvctl_t *ctl, char *command, long long len)
{
    rbgvctl_request_t  *request;

    request = len < 0 ? NULL : calloc(1, sizeof(rbgvctl_request_t));

    if (request == NULL) {
        ctl->broken = 1;
        return;
    }

    request->command = command;
    request->len = len;

    if (ctl->requests == NULL) {
        ctl->requests = request;

    } else {
        ctl->last->next = request;
    }

    ctl->last = request;

    rbgvctl_store_route(ctl, request);
}


static void
rbgvctl_store_route(rbgvctl_t *ctl, rbgvctl_request_t *request)
{
    if (ctl->only != NULL) {
        rbgvctl_server_send(ctl->only, request);

    } else if (ctl->slots != NULL) {
        rbgvctl_cluster_send(ctl, request);

    } else {
        rbgvctl_server_send(ctl->master, request);
    }
}


static redisReply *
rbgvctl_store_receive(rbgvctl_t *ctl)
{
    int64_t             deadline;
    redisReply         *reply;
    rbgvctl_request_t  *request;

    /* without one of the requests, replies would be those of others */

    if (ctl->broken) {
        (void) rbgvctl_fault(ctl, RBGVCTL_STORE, "out of memory");
        return NULL;
    }

    request = ctl->requests;
    deadline = rbgvctl_deadline(ctl);

    do {
        rbgvctl_store_await(ctl, request);
    } while (rbgvctl_store_again(ctl, request, deadline));

    reply = request->reply;

    request->reply = NULL;
    ctl->from = request->server;
    ctl->requests = request->next;

    rbgvctl_request_free(request);

    return reply;
}


static void
rbgvctl_store_await(rbgvctl_t *ctl, rbgvctl_request_t *request)
{
    rbgvctl_server_t  *server;

    /* the others work meanwhile */

    for (server = ctl->servers; server != NULL; server = server->next) {
        rbgvctl_server_flush(server);
    }

    while (request->server != NULL && request->reply == NULL
           && !request->lost)
    {
        rbgvctl_server_read(ctl, request->server);
    }
}


/* 1 if it was sent again */

static int
rbgvctl_store_again(rbgvctl_t *ctl, rbgvctl_request_t *request,
    int64_t deadline)
{
    if (ctl->only != NULL) {
        return 0;
    }

    if (ctl->slots != NULL) {
        return rbgvctl_cluster_again(ctl, request, deadline);
    }

    if (ctl->uri.kind != RBGV_URI_SENTINEL || request->lost
        || request->tries++ != 0
        || !rbgvctl_reply_error(request->reply, "READONLY"))
    {
        return 0;
    }

    freeReplyObject(request->reply);
    request->reply = NULL;

    /* the first of those that were sent to the old master finds the new one */

    if (request->server == ctl->master
        && rbgvctl_sentinel_find(ctl) != RBGVCTL_OK)
    {
        return 0;
    }

    rbgvctl_server_send(ctl->master, request);

    return 1;
}


static redisReply *
rbgvctl_store_check(rbgvctl_t *ctl, redisReply *reply, int type)
{
    if (reply != NULL && reply->type != REDIS_REPLY_ERROR
        && (type == 0 || reply->type == type))
    {
        return reply;
    }

    (void) rbgvctl_store_failed(ctl, reply);

    freeReplyObject(reply);

    return NULL;
}


int
rbgvctl_store_failed(rbgvctl_t *ctl, const redisReply *reply)
{
    if (reply != NULL) {
        (void) rbgvctl_server_refused(ctl, ctl->from, reply);
    }

    return rbgvctl_error(RBGVCTL_STORE, "%s", ctl->fault);
}


int
rbgvctl_store_each(rbgvctl_t *ctl, rbgvctl_each_pt handler, void *data)
{
    int                rc, failed;
    rbgvctl_server_t  *server;

    rc = rbgvctl_store_members(ctl);
    if (rc != RBGVCTL_OK) {
        return rbgvctl_error(rc, "%s", ctl->fault);
    }

    failed = RBGVCTL_OK;

    for (server = ctl->servers; server != NULL; server = server->next) {
        if (!server->member) {
            continue;
        }

        rc = rbgvctl_server_open(ctl, server);

        if (rc != RBGVCTL_OK) {
            (void) rbgvctl_error(rc, "%s", ctl->fault);

        } else {
            ctl->only = server;
            rc = handler(ctl, data);
            ctl->only = NULL;
        }

        if (rc != RBGVCTL_OK) {
            failed = rc;
        }
    }

    return failed;
}


static int
rbgvctl_store_members(rbgvctl_t *ctl)
{
    switch (ctl->uri.kind) {

    case RBGV_URI_CLUSTER:
        return rbgvctl_cluster_members(ctl);

    case RBGV_URI_SENTINEL:
        return rbgvctl_sentinel_replicas(ctl);

    default:
        ctl->master->member = 1;
        return RBGVCTL_OK;
    }
}
