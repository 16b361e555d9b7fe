
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Addresses of a store, for the configuration and for rbgvctl:
 *
 *     redis://[user[:password]@]host[:port][/db]
 *     rediss://[user[:password]@]host[:port][/db]      with TLS
 *     unix:/path[?db=N]
 *     unix://[user[:password]@]/path[?db=N]
 *     redis+sentinel://[user[:password]@]host[:port][,...]/master[/db]
 *     redis+cluster://[user[:password]@]host[:port][,...]
 *     rediss+sentinel://..., rediss+cluster://...      with TLS
 *
 * User and password are percent-decoded (RFC 3986, section 2.1).  A host may
 * be an IPv6 address in brackets.  The hosts of a "+sentinel" are Sentinels,
 * those of a "+cluster" any nodes of it; the login is that of the servers.
 */


#ifndef _RBGV_URI_H_INCLUDED_
#define _RBGV_URI_H_INCLUDED_


#include <stddef.h>


#define RBGV_URI_DEFAULT   "redis://127.0.0.1:6379/0"
#define RBGV_URI_HOSTS     16


typedef enum {
    RBGV_URI_SERVER = 0,
    RBGV_URI_SENTINEL,
    RBGV_URI_CLUSTER
} rbgv_uri_kind_e;


/* strings are zero-terminated, and empty where the address has none */

typedef struct {
    char               name[256];      /* without brackets */
    unsigned           port;
} rbgv_uri_host_t;


typedef struct {
    rbgv_uri_kind_e    kind;
    char               path[108];      /* of a unix socket, else empty */
    rbgv_uri_host_t    hosts[RBGV_URI_HOSTS];
    unsigned           nhosts;         /* 1 for a server, 0 with a path */
    char               master[128];    /* its name among the Sentinels */
    unsigned           tls;            /* 1: wanted */
    unsigned           db;
    char               user[128];
    char               password[512];
} rbgv_uri_t;


/*
 * Returns NULL, or what is wrong with the text, as a phrase that does not
 * quote it: it may hold a password.
 */
const char *rbgv_uri_parse(const char *text, size_t len, rbgv_uri_t *uri);


#endif /* _RBGV_URI_H_INCLUDED_ */
