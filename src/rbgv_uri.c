
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 */


#include <arpa/inet.h>
#include <string.h>

#include "rbgv_uri.h"


typedef struct {
    const char        *text;
    rbgv_uri_kind_e    kind;
    unsigned           tls;
    unsigned           port;           /* where a host has none */
} rbgv_uri_scheme_t;


static const char *rbgv_uri_tcp(const char *p, const char *last,
    unsigned port, rbgv_uri_t *uri);
static const char *rbgv_uri_hosts(const char *p, const char *last,
    unsigned port, rbgv_uri_t *uri);
static const char *rbgv_uri_host(const char *p, const char *last,
    rbgv_uri_host_t *host);
static const char *rbgv_uri_master(const char **start, const char *last,
    rbgv_uri_t *uri);
static const char *rbgv_uri_unix(const char *p, const char *last,
    rbgv_uri_t *uri);
static const char *rbgv_uri_login(const char **start, const char *last,
    rbgv_uri_t *uri);
static const char *rbgv_uri_db(const char *p, const char *last,
    rbgv_uri_t *uri);
static const char *rbgv_uri_find(const char *p, const char *last, int c);
static int rbgv_uri_number(const char *p, const char *last, unsigned max,
    unsigned *n);
static int rbgv_uri_decode(const char *p, const char *last, char *out,
    size_t size);
static int rbgv_uri_hex(int c);
static int rbgv_uri_copy(const char *p, const char *last, char *out,
    size_t size);


static const rbgv_uri_scheme_t  rbgv_uri_schemes[] = {
    { "redis://", RBGV_URI_SERVER, 0, 6379 },
    { "rediss://", RBGV_URI_SERVER, 1, 6379 },
    { "redis+sentinel://", RBGV_URI_SENTINEL, 0, 26379 },
    { "rediss+sentinel://", RBGV_URI_SENTINEL, 1, 26379 },
    { "redis+cluster://", RBGV_URI_CLUSTER, 0, 6379 },
    { "rediss+cluster://", RBGV_URI_CLUSTER, 1, 6379 },
    { NULL, RBGV_URI_SERVER, 0, 0 }
};


const char *
rbgv_uri_parse(const char *text, size_t len, rbgv_uri_t *uri)
{
    size_t                    n;
    const char               *last;
    const rbgv_uri_scheme_t  *scheme;

    memset(uri, 0, sizeof(rbgv_uri_t));

    last = text + len;

    if (memchr(text, '\0', len) != NULL) {
        return "it has a zero byte";
    }

    for (scheme = rbgv_uri_schemes; scheme->text != NULL; scheme++) {
        n = strlen(scheme->text);

        if (len >= n && memcmp(text, scheme->text, n) == 0) {
            uri->kind = scheme->kind;
            uri->tls = scheme->tls;

            return rbgv_uri_tcp(text + n, last, scheme->port, uri);
        }
    }

    if (len >= 5 && memcmp(text, "unix:", 5) == 0) {
        return rbgv_uri_unix(text + 5, last, uri);
    }

    return "its scheme is none of \"redis://\", \"redis+sentinel://\", "
           "\"redis+cluster://\", the same with \"rediss\", and \"unix:\"";
}


static const char *
rbgv_uri_tcp(const char *p, const char *last, unsigned port, rbgv_uri_t *uri)
{
    const char  *err, *end, *slash;

    err = rbgv_uri_login(&p, last, uri);
    if (err != NULL) {
        return err;
    }

    end = rbgv_uri_find(p, last, '/');
    slash = end;

    if (uri->kind == RBGV_URI_SENTINEL) {
        err = rbgv_uri_master(&slash, last, uri);
        if (err != NULL) {
            return err;
        }
    }

    if (slash < last) {
        err = rbgv_uri_db(slash + 1, last, uri);
        if (err != NULL) {
            return err;
        }
    }

    if (uri->kind == RBGV_URI_CLUSTER && uri->db != 0) {
        return "a cluster has no database but 0";
    }

    return rbgv_uri_hosts(p, end, port, uri);
}


static const char *
rbgv_uri_hosts(const char *p, const char *last, unsigned port,
    rbgv_uri_t *uri)
{
    const char       *err, *comma;
    rbgv_uri_host_t  *host;

    for ( ;; ) {
        comma = (uri->kind == RBGV_URI_SERVER) ? last
                                               : rbgv_uri_find(p, last, ',');

        if (uri->nhosts == RBGV_URI_HOSTS) {
            return "it has more than 16 hosts";
        }

        host = &uri->hosts[uri->nhosts++];
        host->port = port;

        err = rbgv_uri_host(p, comma, host);
        if (err != NULL) {
            return err;
        }

        if (comma == last) {
            return NULL;
        }

        p = comma + 1;
    }
}


static const char *
rbgv_uri_host(const char *p, const char *last, rbgv_uri_host_t *host)
{
    unsigned          ipv6;
    const char       *colon, *end;
    struct in6_addr   addr;

    ipv6 = p < last && *p == '[';

    if (ipv6) {
        p++;

        end = rbgv_uri_find(p, last, ']');
        if (end == last) {
            return "its IPv6 address has no closing bracket";
        }

        colon = end + 1;

        if (colon < last && *colon != ':') {
            return "its host is followed by something else than a port";
        }

    } else {
        colon = rbgv_uri_find(p, last, ':');
        end = colon;
    }

    if (p == end) {
        return "it has no host, or an empty one";
    }

    if (rbgv_uri_copy(p, end, host->name, sizeof(host->name)) == -1) {
        return "its host is too long";
    }

    if (ipv6 && inet_pton(AF_INET6, host->name, &addr) != 1) {
        return "its host in brackets is not an IPv6 address";
    }

    if (colon < last
        && (rbgv_uri_number(colon + 1, last, 65535, &host->port) == -1
            || host->port == 0))
    {
        return "its port is not a number between 1 and 65535";
    }

    return NULL;
}


/* Sentinel allows no other characters in the name */

static const char *
rbgv_uri_master(const char **start, const char *last, rbgv_uri_t *uri)
{
    size_t       len;
    const char  *p, *end;

    p = *start;

    if (p < last) {
        p++;
    }

    end = rbgv_uri_find(p, last, '/');

    if (p == end) {
        return "it has no name of a master behind its Sentinels";
    }

    if (rbgv_uri_copy(p, end, uri->master, sizeof(uri->master)) == -1) {
        return "the name of its master is too long";
    }

    len = strspn(uri->master, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                              "abcdefghijklmnopqrstuvwxyz0123456789._-");

    if (uri->master[len] != '\0') {
        return "the name of its master has other characters than letters, "
               "digits, \".\", \"_\" and \"-\"";
    }

    *start = end;

    return NULL;
}


static const char *
rbgv_uri_unix(const char *p, const char *last, rbgv_uri_t *uri)
{
    const char  *err, *query;

    if (last - p >= 2 && p[0] == '/' && p[1] == '/') {
        p += 2;

        err = rbgv_uri_login(&p, last, uri);
        if (err != NULL) {
            return err;
        }
    }

    query = rbgv_uri_find(p, last, '?');

    if (query < last) {
        if (last - query < 4 || memcmp(query, "?db=", 4) != 0) {
            return "its only argument is \"?db=\"";
        }

        err = rbgv_uri_db(query + 4, last, uri);
        if (err != NULL) {
            return err;
        }

        last = query;
    }

    if (p == last || *p != '/') {
        return "the path of its socket is not absolute";
    }

    if (rbgv_uri_copy(p, last, uri->path, sizeof(uri->path)) == -1) {
        return "the path of its socket is too long";
    }

    return NULL;
}


static const char *
rbgv_uri_login(const char **start, const char *last, rbgv_uri_t *uri)
{
    const char  *p, *at, *colon;

    p = *start;

    /* a "/" or an "@" inside a login is percent-encoded */

    for (at = p; at < last && *at != '@' && *at != '/'; at++) {
        /* void */
    }

    if (at == last || *at != '@') {
        return NULL;
    }

    *start = at + 1;

    colon = rbgv_uri_find(p, at, ':');

    if (rbgv_uri_decode(p, colon, uri->user, sizeof(uri->user)) == -1) {
        return "its user is too long or badly percent-encoded";
    }

    if (colon < at
        && rbgv_uri_decode(colon + 1, at, uri->password,
                           sizeof(uri->password))
           == -1)
    {
        return "its password is too long or badly percent-encoded";
    }

    return NULL;
}


static const char *
rbgv_uri_db(const char *p, const char *last, rbgv_uri_t *uri)
{
    if (p < last && rbgv_uri_number(p, last, 65535, &uri->db) == -1) {
        return "its database is not a number";
    }

    return NULL;
}


static const char *
rbgv_uri_find(const char *p, const char *last, int c)
{
    while (p < last && *p != c) {
        p++;
    }

    return p;
}


static int
rbgv_uri_number(const char *p, const char *last, unsigned max, unsigned *n)
{
    *n = 0;

    if (p == last) {
        return -1;
    }

    for ( /* void */ ; p < last; p++) {
        if (*p < '0' || *p > '9') {
            return -1;
        }

        *n = *n * 10 + (*p - '0');

        if (*n > max) {
            return -1;
        }
    }

    return 0;
}


static int
rbgv_uri_decode(const char *p, const char *last, char *out, size_t size)
{
    int     hi, lo;
    size_t  n;

    for (n = 0; p < last; n++) {

        if (n + 1 == size) {
            return -1;
        }

        if (*p != '%') {
            out[n] = *p++;
            continue;
        }

        if (last - p < 3) {
            return -1;
        }

        hi = rbgv_uri_hex(p[1]);
        lo = rbgv_uri_hex(p[2]);

        if (hi == -1 || lo == -1 || hi + lo == 0) {
            return -1;
        }

        out[n] = hi * 16 + lo;
        p += 3;
    }

    out[n] = '\0';

    return 0;
}


static int
rbgv_uri_hex(int c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }

    c |= 0x20;

    return (c >= 'a' && c <= 'f') ? c - 'a' + 10 : -1;
}


static int
rbgv_uri_copy(const char *p, const char *last, char *out, size_t size)
{
    if ((size_t) (last - p) >= size) {
        return -1;
    }

    memcpy(out, p, last - p);
    out[last - p] = '\0';

    return 0;
}
