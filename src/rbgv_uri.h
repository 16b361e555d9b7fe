
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Addresses of a store, for the configuration and for rbgvctl:
 *
 *     redis://[user[:password]@]host[:port][/db]
 *     rediss://[user[:password]@]host[:port][/db]      with TLS
 *     unix:/path[?db=N]
 *     unix://[user[:password]@]/path[?db=N]
 *
 * User and password are percent-decoded (RFC 3986, section 2.1).  A host may
 * be an IPv6 address in brackets.
 */


#ifndef _RBGV_URI_H_INCLUDED_
#define _RBGV_URI_H_INCLUDED_


#include <stddef.h>


#define RBGV_URI_DEFAULT   "redis://127.0.0.1:6379/0"
#define RBGV_URI_PORT      6379


/* strings are zero-terminated, and empty where the address has none */

typedef struct {
    char           path[108];          /* of a unix socket, else empty */
    char           host[256];          /* without brackets */
    unsigned       port;
    unsigned       tls;                /* 1: wanted */
    unsigned       db;
    char           user[128];
    char           password[512];
} rbgv_uri_t;


/*
 * Returns NULL, or what is wrong with the text, as a phrase that does not
 * quote it: it may hold a password.
 */
const char *rbgv_uri_parse(const char *text, size_t len, rbgv_uri_t *uri);


#endif /* _RBGV_URI_H_INCLUDED_ */
