
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: the master that Sentinels know.
 */


#include <string.h>

#include "rbgvctl.h"


static int rbgvctl_sentinel_ask(rbgvctl_t *ctl,
    const rbgv_uri_host_t *host, int *known);
static rbgvctl_server_t *rbgvctl_sentinel_open(rbgvctl_t *ctl,
    const rbgv_uri_host_t *host);
static rbgvctl_server_t *rbgvctl_sentinel_master(rbgvctl_t *ctl,
    rbgvctl_server_t *sentinel);
static int rbgvctl_sentinel_verify(rbgvctl_t *ctl,
    rbgvctl_server_t *server);
static void rbgvctl_sentinel_replica(rbgvctl_t *ctl,
    const redisReply *reply);


/* while a master is replaced, Sentinels tell the old one */

int
rbgvctl_sentinel_find(rbgvctl_t *ctl)
{
    int       rc, known;
    int64_t   deadline;
    unsigned  i;

    deadline = rbgvctl_deadline(ctl);

    do {
        known = 0;

        for (i = 0; i < ctl->uri.nhosts; i++) {
            rc = rbgvctl_sentinel_ask(ctl, &ctl->uri.hosts[i], &known);

            if (rc != RBGVCTL_STORE) {
                return rc;
            }
        }
    } while (known && rbgvctl_pause(deadline));

    return RBGVCTL_STORE;
}


static int
rbgvctl_sentinel_ask(rbgvctl_t *ctl, const rbgv_uri_host_t *host, int *known)
{
    int                rc;
    rbgvctl_server_t  *sentinel, *server;

    sentinel = rbgvctl_sentinel_open(ctl, host);
    if (sentinel == NULL) {
        return RBGVCTL_STORE;
    }

    server = rbgvctl_sentinel_master(ctl, sentinel);

    rbgvctl_server_close(sentinel);

    if (server == NULL) {
        return RBGVCTL_STORE;
    }

    *known = 1;

    rc = rbgvctl_server_open(ctl, server);

    if (rc == RBGVCTL_OK) {
        rc = rbgvctl_sentinel_verify(ctl, server);
    }

    if (rc == RBGVCTL_OK) {
        ctl->master = server;
        ctl->server = server->address;
    }

    return rc;
}


static rbgvctl_server_t *
rbgvctl_sentinel_open(rbgvctl_t *ctl, const rbgv_uri_host_t *host)
{
    rbgvctl_server_t  *sentinel;

    sentinel = rbgvctl_server_get(ctl, host->name, strlen(host->name),
                                  host->port, 1);

    if (sentinel == NULL
        || rbgvctl_server_open(ctl, sentinel) != RBGVCTL_OK)
    {
        return NULL;
    }

    return sentinel;
}


static rbgvctl_server_t *
rbgvctl_sentinel_master(rbgvctl_t *ctl, rbgvctl_server_t *sentinel)
{
    redisReply        *reply, *host;
    rbgvctl_server_t  *server;

    reply = rbgvctl_server_call(ctl, sentinel,
                                "SENTINEL GET-MASTER-ADDR-BY-NAME %s",
                                ctl->uri.master);
    if (reply == NULL) {
        return NULL;
    }

    server = NULL;

    if (reply->type == REDIS_REPLY_NIL) {
        (void) rbgvctl_fault(ctl, RBGVCTL_STORE, "%s knows no master "
                             "\"%s\"; check --redis (RBGV_REDIS)",
                             sentinel->name, ctl->uri.master);

    } else if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2
               || !rbgv_reply_strings(reply))
    {
        (void) rbgvctl_server_refused(ctl, sentinel, reply);

    } else {
        host = reply->element[0];
        server = rbgvctl_server_get(ctl, host->str, host->len,
                                    rbgv_reply_number(reply->element[1]),
                                    0);
    }

    freeReplyObject(reply);

    return server;
}


static int
rbgvctl_sentinel_verify(rbgvctl_t *ctl, rbgvctl_server_t *server)
{
    int          rc;
    redisReply  *reply;

    reply = rbgvctl_server_call(ctl, server, "ROLE");
    if (reply == NULL) {
        return RBGVCTL_STORE;
    }

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0
        || reply->element[0]->type != REDIS_REPLY_STRING)
    {
        rc = rbgvctl_server_refused(ctl, server, reply);

    } else if (strcmp(reply->element[0]->str, "master") != 0) {
        rc = rbgvctl_fault(ctl, RBGVCTL_STORE, "%s is the master \"%s\" by "
                           "what Sentinels say, and is a replica; try again",
                           server->name, ctl->uri.master);

    } else {
        rc = RBGVCTL_OK;
    }

    freeReplyObject(reply);

    return rc;
}


int
rbgvctl_sentinel_replicas(rbgvctl_t *ctl)
{
    size_t             i, n;
    unsigned           host;
    redisReply        *reply;
    rbgvctl_server_t  *sentinel;

    ctl->master->member = 1;
    reply = NULL;

    for (host = 0; host < ctl->uri.nhosts && reply == NULL; host++) {
        sentinel = rbgvctl_sentinel_open(ctl, &ctl->uri.hosts[host]);

        if (sentinel != NULL) {
            reply = rbgvctl_server_call(ctl, sentinel, "SENTINEL REPLICAS %s",
                                        ctl->uri.master);
            rbgvctl_server_close(sentinel);
        }
    }

    if (reply == NULL) {
        return RBGVCTL_STORE;
    }

    n = reply->type == REDIS_REPLY_ARRAY ? reply->elements : 0;

    for (i = 0; i < n; i++) {
        rbgvctl_sentinel_replica(ctl, reply->element[i]);
    }

    freeReplyObject(reply);

    return RBGVCTL_OK;
}


static void
rbgvctl_sentinel_replica(rbgvctl_t *ctl, const redisReply *reply)
{
    const redisReply  *ip, *port;
    rbgvctl_server_t  *server;

    ip = rbgv_reply_field(reply, "ip");
    port = rbgv_reply_field(reply, "port");

    if (ip == NULL || ip->type != REDIS_REPLY_STRING || port == NULL) {
        return;
    }

    server = rbgvctl_server_get(ctl, ip->str, ip->len,
                                rbgv_reply_number(port), 0);

    if (server != NULL) {
        server->member = 1;
    }
}
