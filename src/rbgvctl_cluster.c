
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: which node of a cluster gets a command.
 */


#include <stdlib.h>
#include <string.h>

#include "rbgvctl.h"
#include "rbgv_slot.h"


/* redirections that are followed at once */
#define RBGVCTL_HOPS  5


static int rbgvctl_cluster_load(rbgvctl_t *ctl);
static int rbgvctl_cluster_ask(rbgvctl_t *ctl, rbgvctl_server_t *server);
static void rbgvctl_cluster_map(rbgvctl_t *ctl,
    const rbgvctl_server_t *server, const redisReply *reply);
static void rbgvctl_cluster_range(rbgvctl_t *ctl,
    const rbgvctl_server_t *server, const redisReply *range);
static rbgvctl_server_t *rbgvctl_cluster_node(rbgvctl_t *ctl,
    const rbgvctl_server_t *server, const redisReply *node);
static rbgvctl_server_t *rbgvctl_cluster_server(rbgvctl_t *ctl,
    const rbgvctl_server_t *server, const redisReply *host,
    const redisReply *port);
static rbgvctl_server_t *rbgvctl_cluster_named(rbgvctl_t *ctl,
    const rbgvctl_server_t *server, const char *name, size_t len,
    unsigned port);
static void rbgvctl_cluster_shard(rbgvctl_t *ctl,
    const rbgvctl_server_t *server, const redisReply *shard);

static unsigned rbgvctl_cluster_slot(rbgvctl_t *ctl, const char *command);
static const char *rbgvctl_cluster_argument(const char *p, size_t *len);
static void rbgvctl_cluster_route(rbgvctl_t *ctl,
    rbgvctl_request_t *request);
static void rbgvctl_cluster_moved(rbgvctl_t *ctl,
    rbgvctl_request_t *request, const redisReply *reply);
static void rbgvctl_cluster_asking(rbgvctl_t *ctl,
    rbgvctl_request_t *request, const redisReply *reply);
static rbgvctl_server_t *rbgvctl_cluster_target(rbgvctl_t *ctl,
    const rbgvctl_server_t *server, const redisReply *reply);


int
rbgvctl_cluster_open(rbgvctl_t *ctl)
{
    unsigned                i;
    rbgvctl_server_t       *server;
    const rbgv_uri_host_t  *host;

    ctl->slots = calloc(RBGV_SLOTS, sizeof(rbgvctl_server_t *));
    if (ctl->slots == NULL) {
        return rbgvctl_fault(ctl, RBGVCTL_STORE, "out of memory");
    }

    for (i = 0; i < ctl->uri.nhosts; i++) {
        host = &ctl->uri.hosts[i];
        server = rbgvctl_server_get(ctl, host->name, strlen(host->name),
                                    host->port, 0);
        if (server == NULL) {
            return RBGVCTL_STORE;
        }
    }

    ctl->server = ctl->servers->address;

    return rbgvctl_cluster_load(ctl);
}


/* those that answer are asked before those that did not, or were not asked */

static int
rbgvctl_cluster_load(rbgvctl_t *ctl)
{
    int                rc, connected;
    rbgvctl_server_t  *server;

    for (connected = 1; connected >= 0; connected--) {

        for (server = ctl->servers; server != NULL; server = server->next) {

            if ((server->redis != NULL) != connected) {
                continue;
            }

            rc = rbgvctl_cluster_ask(ctl, server);

            if (rc != RBGVCTL_STORE) {
                return rc;
            }
        }
    }

    return RBGVCTL_STORE;
}


static int
rbgvctl_cluster_ask(rbgvctl_t *ctl, rbgvctl_server_t *server)
{
    int          rc;
    redisReply  *reply;

    rc = rbgvctl_server_open(ctl, server);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    reply = rbgvctl_server_call(ctl, server, "CLUSTER SLOTS");
    if (reply == NULL) {
        return RBGVCTL_STORE;
    }

    if (reply->type == REDIS_REPLY_ARRAY) {
        rbgvctl_cluster_map(ctl, server, reply);

    } else if (reply->type == REDIS_REPLY_ERROR
               && strstr(reply->str, "cluster support disabled") != NULL)
    {
        rc = rbgvctl_fault(ctl, RBGVCTL_STORE, "%s is no node of a cluster; "
                           "give its address as redis://", server->name);

    } else {
        rc = rbgvctl_server_refused(ctl, server, reply);
    }

    freeReplyObject(reply);

    return rc;
}


static void
rbgvctl_cluster_map(rbgvctl_t *ctl, const rbgvctl_server_t *server,
    const redisReply *reply)
{
    size_t             i;
    rbgvctl_server_t  *node;

    memset(ctl->slots, 0, RBGV_SLOTS * sizeof(rbgvctl_server_t *));

    for (node = ctl->servers; node != NULL; node = node->next) {
        node->down = 0;
    }

    for (i = 0; i < reply->elements; i++) {
        rbgvctl_cluster_range(ctl, server, reply->element[i]);
    }
}


/* first and last slot, the master, its replicas, which may answer as well */

static void
rbgvctl_cluster_range(rbgvctl_t *ctl, const rbgvctl_server_t *server,
    const redisReply *range)
{
    size_t             i;
    long long          slot, last;
    rbgvctl_server_t  *node;

    if (range->type != REDIS_REPLY_ARRAY || range->elements < 3
        || range->element[0]->type != REDIS_REPLY_INTEGER
        || range->element[1]->type != REDIS_REPLY_INTEGER)
    {
        return;
    }

    slot = range->element[0]->integer;
    last = range->element[1]->integer;

    if (slot < 0 || last >= RBGV_SLOTS) {
        return;
    }

    for (i = 2; i < range->elements; i++) {
        node = rbgvctl_cluster_node(ctl, server, range->element[i]);

        while (i == 2 && slot <= last) {
            ctl->slots[slot++] = node;
        }
    }
}


static rbgvctl_server_t *
rbgvctl_cluster_node(rbgvctl_t *ctl, const rbgvctl_server_t *server,
    const redisReply *node)
{
    if (node->type != REDIS_REPLY_ARRAY || node->elements < 2) {
        return NULL;
    }

    return rbgvctl_cluster_server(ctl, server, node->element[0],
                                  node->element[1]);
}


static rbgvctl_server_t *
rbgvctl_cluster_server(rbgvctl_t *ctl, const rbgvctl_server_t *server,
    const redisReply *host, const redisReply *port)
{
    if (port->type != REDIS_REPLY_INTEGER) {
        return NULL;
    }

    return rbgvctl_cluster_named(ctl, server, host->str,
                                 host->type == REDIS_REPLY_STRING ? host->len
                                                                  : 0,
                                 port->integer);
}


/* a node that does not know how it is reached is at the address in use */

static rbgvctl_server_t *
rbgvctl_cluster_named(rbgvctl_t *ctl, const rbgvctl_server_t *server,
    const char *name, size_t len, unsigned port)
{
    if (len == 0 || (len == 1 && name[0] == '?')) {
        name = server->host.name;
        len = strlen(name);
    }

    return rbgvctl_server_get(ctl, name, len, port, 0);
}


/* CLUSTER SLOTS does not have replicas that have just been added */

int
rbgvctl_cluster_members(rbgvctl_t *ctl)
{
    size_t             i;
    redisReply        *reply;
    rbgvctl_server_t  *server;

    /* one that has answered before */

    for (server = ctl->servers; server->redis == NULL; server = server->next)
    {
        if (server->next == NULL) {
            return RBGVCTL_STORE;
        }
    }

    reply = rbgvctl_server_call(ctl, server, "CLUSTER SHARDS");
    if (reply == NULL) {
        return RBGVCTL_STORE;
    }

    if (reply->type != REDIS_REPLY_ARRAY) {
        (void) rbgvctl_server_refused(ctl, server, reply);
        freeReplyObject(reply);
        return RBGVCTL_STORE;
    }

    for (i = 0; i < reply->elements; i++) {
        rbgvctl_cluster_shard(ctl, server, reply->element[i]);
    }

    freeReplyObject(reply);

    return RBGVCTL_OK;
}


static void
rbgvctl_cluster_shard(rbgvctl_t *ctl, const rbgvctl_server_t *server,
    const redisReply *shard)
{
    size_t             i;
    rbgvctl_server_t  *member;
    const redisReply  *nodes, *host, *port;

    nodes = rbgv_reply_field(shard, "nodes");

    for (i = 0; nodes != NULL && i < nodes->elements; i++) {
        host = rbgv_reply_field(nodes->element[i], "endpoint");
        port = rbgv_reply_field(nodes->element[i],
                                ctl->uri.tls ? "tls-port" : "port");

        if (host == NULL || port == NULL) {
            continue;
        }

        member = rbgvctl_cluster_server(ctl, server, host, port);

        if (member != NULL) {
            member->member = 1;
        }
    }
}


void
rbgvctl_cluster_send(rbgvctl_t *ctl, rbgvctl_request_t *request)
{
    request->slot = rbgvctl_cluster_slot(ctl, request->command);

    rbgvctl_cluster_route(ctl, request);
}


/* a command without arguments goes where the one before it went */

static unsigned
rbgvctl_cluster_slot(rbgvctl_t *ctl, const char *command)
{
    size_t       len;
    unsigned     i, n, key;
    const char  *p;

    n = strtoul(command + 1, NULL, 10);
    p = command;
    len = 0;

    for (key = 0, i = 0; i <= key; i++) {
        p = rbgvctl_cluster_argument(p + len, &len);

        if (i == 0 && n > 1) {
            key = len == 4 && memcmp(p, "EVAL", 4) == 0 ? 3 : 1;
        }
    }

    if (n > 1) {
        ctl->slot = rbgv_slot(p, len);
    }

    return ctl->slot;
}


/* "$4\r\nEVAL\r\n", behind the end of the one before */

static const char *
rbgvctl_cluster_argument(const char *p, size_t *len)
{
    char  *end;

    p = strchr(p, '$');
    *len = strtoul(p + 1, &end, 10);

    return end + 2;
}


static void
rbgvctl_cluster_route(rbgvctl_t *ctl, rbgvctl_request_t *request)
{
    rbgvctl_server_t  *server;

    request->server = NULL;

    server = ctl->slots[request->slot];

    if (server == NULL) {
        (void) rbgvctl_fault(ctl, RBGVCTL_STORE, "no node of the cluster at "
                             "%s has slot %u; see \"redis-cli --cluster "
                             "check\"", ctl->server, request->slot);
        return;
    }

    if (!server->down && rbgvctl_server_open(ctl, server) == RBGVCTL_OK) {
        rbgvctl_server_send(server, request);
    }
}


int
rbgvctl_cluster_again(rbgvctl_t *ctl, rbgvctl_request_t *request,
    int64_t deadline)
{
    int          moved, ask, wait;
    redisReply  *reply;

    reply = request->reply;

    if (request->lost) {
        return 0;
    }

    moved = reply != NULL && rbgvctl_reply_error(reply, "MOVED");
    ask = reply != NULL && rbgvctl_reply_error(reply, "ASK");
    wait = reply == NULL || rbgvctl_reply_error(reply, "TRYAGAIN")
           || rbgvctl_reply_error(reply, "CLUSTERDOWN");

    if (!moved && !ask && !wait) {
        return 0;
    }

    if ((wait || request->tries++ >= RBGVCTL_HOPS)
        && !rbgvctl_pause(deadline))
    {
        return 0;
    }

    request->reply = NULL;

    if (ask) {
        rbgvctl_cluster_asking(ctl, request, reply);

    } else {
        if (moved) {
            rbgvctl_cluster_moved(ctl, request, reply);

        } else {
            (void) rbgvctl_cluster_load(ctl);
        }

        rbgvctl_cluster_route(ctl, request);
    }

    freeReplyObject(reply);

    return 1;
}


/* the node that is named knows of its slots, others may not know it yet */

static void
rbgvctl_cluster_moved(rbgvctl_t *ctl, rbgvctl_request_t *request,
    const redisReply *reply)
{
    rbgvctl_server_t  *server;

    server = rbgvctl_cluster_target(ctl, request->server, reply);

    if (server == NULL || server == ctl->slots[request->slot]) {
        return;
    }

    (void) rbgvctl_cluster_ask(ctl, server);

    ctl->slots[request->slot] = server;
}


static void
rbgvctl_cluster_asking(rbgvctl_t *ctl, rbgvctl_request_t *request,
    const redisReply *reply)
{
    int                 len;
    rbgvctl_server_t   *server;
    rbgvctl_request_t  *asking;

    server = rbgvctl_cluster_target(ctl, request->server, reply);
    request->server = NULL;

    if (server == NULL || rbgvctl_server_open(ctl, server) != RBGVCTL_OK) {
        return;
    }

    asking = calloc(1, sizeof(rbgvctl_request_t));
    len = asking ? redisFormatCommand(&asking->command, "ASKING") : -1;

    if (len < 0) {
        free(asking);
        (void) rbgvctl_fault(ctl, RBGVCTL_STORE, "out of memory");
        return;
    }

    asking->len = len;
    asking->asking = 1;

    rbgvctl_server_send(server, asking);
    rbgvctl_server_send(server, request);
}


/* "MOVED 3999 host:port" */

static rbgvctl_server_t *
rbgvctl_cluster_target(rbgvctl_t *ctl, const rbgvctl_server_t *server,
    const redisReply *reply)
{
    const char  *host, *colon;

    host = strrchr(reply->str, ' ');
    colon = host ? strrchr(host, ':') : NULL;

    if (colon == NULL) {
        (void) rbgvctl_server_refused(ctl, server, reply);
        return NULL;
    }

    host++;

    return rbgvctl_cluster_named(ctl, server, host, colon - host,
                                 atoi(colon + 1));
}
