
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Tests for the addresses of a store.
 */


#include "rbgv_uri.h"
#include "tap.h"


typedef struct {
    const char     *text;
    const char     *path;
    const char     *host;
    unsigned        port;
    unsigned        tls;
    unsigned        db;
    const char     *user;
    const char     *password;
} good_test_t;


typedef struct {
    const char         *text;
    rbgv_uri_kind_e     kind;
    const char         *hosts;         /* each with a space behind it */
    const char         *master;
    unsigned            tls;
    unsigned            db;
} many_test_t;


typedef struct {
    const char     *text;
    const char     *err;               /* part of it */
} bad_test_t;


static const good_test_t  good[] = {
    { RBGV_URI_DEFAULT, "", "127.0.0.1", 6379, 0, 0, "", "" },
    { "redis://h", "", "h", 6379, 0, 0, "", "" },
    { "redis://h/", "", "h", 6379, 0, 0, "", "" },
    { "redis://h:1", "", "h", 1, 0, 0, "", "" },
    { "redis://h:65535/65535", "", "h", 65535, 0, 65535, "", "" },
    { "redis://[::1]", "", "::1", 6379, 0, 0, "", "" },
    { "redis://[fe80::1]:7/3", "", "fe80::1", 7, 0, 3, "", "" },
    { "redis://u@h", "", "h", 6379, 0, 0, "u", "" },
    { "redis://u:geheim@h:7", "", "h", 7, 0, 0, "u", "geheim" },
    { "redis://:geheim@[::1]:7/1", "", "::1", 7, 0, 1, "", "geheim" },
    { "redis://u:ge:heim@h", "", "h", 6379, 0, 0, "u", "ge:heim" },
    { "redis://u:@h", "", "h", 6379, 0, 0, "u", "" },
    { "redis://@h", "", "h", 6379, 0, 0, "", "" },
    { "redis://%75%3a:%40%2F%2f%25%ff%01@h", "", "h", 6379, 0, 0, "u:",
      "@//%\xff\x01" },
    { "rediss://h", "", "h", 6379, 1, 0, "", "" },
    { "rediss://h:1/2", "", "h", 1, 1, 2, "", "" },
    { "rediss://[::1]", "", "::1", 6379, 1, 0, "", "" },
    { "rediss://u:geheim@h:7/3", "", "h", 7, 1, 3, "u", "geheim" },
    { "unix:/s", "/s", "", 0, 0, 0, "", "" },
    { "unix:/a/b@c:d", "/a/b@c:d", "", 0, 0, 0, "", "" },
    { "unix:/s?db=", "/s", "", 0, 0, 0, "", "" },
    { "unix:/s?db=12", "/s", "", 0, 0, 12, "", "" },
    { "unix:///s", "/s", "", 0, 0, 0, "", "" },
    { "unix:////s", "//s", "", 0, 0, 0, "", "" },
    { "unix://u@/s?db=2", "/s", "", 0, 0, 2, "u", "" },
    { "unix://u:geh%3feim@/s", "/s", "", 0, 0, 0, "u", "geh?eim" },
    { "unix:///s@t", "/s@t", "", 0, 0, 0, "", "" }
};


static const many_test_t  many[] = {
    { "redis+sentinel://h/m", RBGV_URI_SENTINEL, "h:26379 ", "m", 0, 0 },
    { "redis+sentinel://h/m/", RBGV_URI_SENTINEL, "h:26379 ", "m", 0, 0 },
    { "redis+sentinel://u:geheim@a,b:1,[::1],[::2]:2/My.1_-m/3",
      RBGV_URI_SENTINEL, "a:26379 b:1 ::1:26379 ::2:2 ", "My.1_-m", 0, 3 },
    { "rediss+sentinel://h/m", RBGV_URI_SENTINEL, "h:26379 ", "m", 1, 0 },
    { "redis+cluster://h", RBGV_URI_CLUSTER, "h:6379 ", "", 0, 0 },
    { "redis+cluster://h/", RBGV_URI_CLUSTER, "h:6379 ", "", 0, 0 },
    { "redis+cluster://u:geheim@a:1,b,[::1]:2/0", RBGV_URI_CLUSTER,
      "a:1 b:6379 ::1:2 ", "", 0, 0 },
    { "rediss+cluster://h,i", RBGV_URI_CLUSTER, "h:6379 i:6379 ", "", 1, 0 },
    { "redis+cluster://a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p:7", RBGV_URI_CLUSTER,
      "a:6379 b:6379 c:6379 d:6379 e:6379 f:6379 g:6379 h:6379 "
      "i:6379 j:6379 k:6379 l:6379 m:6379 n:6379 o:6379 p:7 ", "", 0, 0 }
};


static const bad_test_t  bad[] = {
    { "", "scheme" },
    { "redis", "scheme" },
    { "redis:/", "scheme" },
    { "rediss:/h", "scheme" },
    { "redisss://h", "scheme" },
    { "REDIS://h", "scheme" },
    { "http://u:geheim@h", "scheme" },
    { "/s", "scheme" },
    { "h:6379", "scheme" },
    { "redis://", "no host" },
    { "rediss://", "no host" },
    { "redis:///1", "no host" },
    { "redis://:1", "no host" },
    { "redis://[]", "no host" },
    { "redis://::1", "no host" },
    { "redis://u:geheim@", "no host" },
    { "redis+sentinel:///m", "no host" },
    { "redis+sentinel://u:geheim@/m", "no host" },
    { "redis+sentinel://a,/m", "no host" },
    { "redis+sentinel://,a/m", "no host" },
    { "redis+cluster://", "no host" },
    { "redis+cluster://a,,b", "no host" },
    { "redis+cluster://a,", "no host" },
    { "redis+cluster://a,:1", "no host" },
    { "redis+cluster://a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q", "16 hosts" },
    { "redis+cluster://a,b:x,c", "port" },
    { "redis+cluster://a:1:2", "port" },
    { "redis+cluster://[::1,b", "no closing bracket" },
    { "redis+cluster://h/1", "database but 0" },
    { "redis+cluster://h/x", "not a number" },
    { "redis+sentinel://u:geheim@h", "no name of a master" },
    { "redis+sentinel://h/", "no name of a master" },
    { "redis+sentinel://h//1", "no name of a master" },
    { "redis+sentinel://h/m%41", "other characters" },
    { "redis+sentinel://h/m n", "other characters" },
    { "redis+sentinel://h/m/x", "database" },
    { "redis+sentinel://h/m/1/2", "database" },
    { "redis+unix://h", "scheme" },
    { "redis://[::1", "no closing bracket" },
    { "redis://[::1/0", "no closing bracket" },
    { "redis://[[00]", "not an IPv6 address" },
    { "redis://[localhost]", "not an IPv6 address" },
    { "redis://[127.0.0.1]", "not an IPv6 address" },
    { "redis://[::1]1", "something else than a port" },
    { "redis://[::1]]", "something else than a port" },
    { "redis://h:", "port" },
    { "redis://[::1]:", "port" },
    { "redis://h:0", "port" },
    { "rediss://h:0", "port" },
    { "redis://h:65536", "port" },
    { "redis://h:4294967297", "port" },
    { "redis://h:-1", "port" },
    { "redis://h:1x", "port" },
    { "redis://h: 1", "port" },
    { "redis://u:gehe/im@h", "database" },
    { "redis://h/x", "database" },
    { "redis://h/-1", "database" },
    { "redis://h/1/2", "database" },
    { "redis://h/65536", "database" },
    { "redis://h/4294967296", "database" },
    { "redis://h/99999999999999999999", "database" },
    { "redis://%u@h", "user" },
    { "redis://u%@h", "user" },
    { "redis://u%4@h", "user" },
    { "redis://u%00@h", "user" },
    { "redis://u%zz@h", "user" },
    { "redis://u%4g@h", "user" },
    { "redis://u:geheim%@h", "password" },
    { "redis://u:geheim%0@h", "password" },
    { "redis://u:geheim%00@h", "password" },
    { "redis://u:geheim%:0@h", "password" },
    { "unix:", "not absolute" },
    { "unix:s", "not absolute" },
    { "unix:?db=1", "not absolute" },
    { "unix://", "not absolute" },
    { "unix://u@", "not absolute" },
    { "unix://u:geheim@s", "not absolute" },
    { "unix://s/t", "not absolute" },
    { "unix:/s?", "argument" },
    { "unix:/s?db", "argument" },
    { "unix:/s?database=1", "argument" },
    { "unix:/s?db=x", "database" },
    { "unix:/s?db=1&db=2", "database" }
};


/* texts around a run of a character, and the longest run that is accepted */

static const struct {
    const char     *before;
    const char     *after;
    size_t          max;
    const char     *err;
} lengths[] = {
    { "unix:/", "", 106, "path" },
    { "unix://u:p@/", "?db=1", 106, "path" },
    { "redis://", ":1/1", 255, "host" },
    { "redis+cluster://h,", ":1", 255, "host" },
    { "redis+sentinel://h/", "/1", 127, "name of its master" },
    { "redis://", "@h", 127, "user" },
    { "redis://u:", "@h", 511, "password" }
};


static const char *
parse(const char *text, size_t len, rbgv_uri_t *uri)
{
    char        *copy;
    const char  *err;

    copy = tap_copy(text, len);
    err = rbgv_uri_parse(copy, len, uri);
    free(copy);

    return err;
}


static const char *
join_hosts(const rbgv_uri_t *uri)
{
    unsigned     i;
    size_t       len;
    static char  text[1024];

    text[0] = '\0';

    for (i = 0, len = 0; i < uri->nhosts; i++) {
        len += snprintf(text + len, sizeof(text) - len, "%s:%u ",
                        uri->hosts[i].name, uri->hosts[i].port);
    }

    return text;
}


int
main(void)
{
    char         text[1024];
    size_t       i, len, n;
    rbgv_uri_t   uri;
    const char  *err;

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        err = parse(good[i].text, strlen(good[i].text), &uri);

        ok(err == NULL
           && uri.kind == RBGV_URI_SERVER
           && uri.nhosts == (good[i].host[0] != '\0')
           && uri.master[0] == '\0'
           && strcmp(uri.path, good[i].path) == 0
           && strcmp(uri.hosts[0].name, good[i].host) == 0
           && uri.hosts[0].port == good[i].port
           && uri.tls == good[i].tls
           && uri.db == good[i].db
           && strcmp(uri.user, good[i].user) == 0
           && strcmp(uri.password, good[i].password) == 0,
           "good: %s", good[i].text);
    }

    for (i = 0; i < sizeof(many) / sizeof(many[0]); i++) {
        err = parse(many[i].text, strlen(many[i].text), &uri);

        ok(err == NULL
           && uri.kind == many[i].kind
           && strcmp(join_hosts(&uri), many[i].hosts) == 0
           && strcmp(uri.master, many[i].master) == 0
           && uri.tls == many[i].tls
           && uri.db == many[i].db,
           "good: %s", many[i].text);
    }

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        err = parse(bad[i].text, strlen(bad[i].text), &uri);

        ok(err != NULL && strstr(err, bad[i].err) != NULL
           && strstr(err, "geheim") == NULL,
           "bad: %s: %s", bad[i].text, err ? err : "taken for good");
    }

    ok(parse("redis://h\0", 10, &uri) != NULL, "zero byte at the end");
    ok(parse("unix:/a\0b", 9, &uri) != NULL, "zero byte inside");

    for (i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {

        for (n = lengths[i].max; n <= lengths[i].max + 1; n++) {
            len = sprintf(text, "%s%*s%s", lengths[i].before, (int) n, "",
                          lengths[i].after);
            memset(text + strlen(lengths[i].before), 'x', n);

            err = parse(text, len, &uri);

            ok(n == lengths[i].max
               ? err == NULL
               : err != NULL && strstr(err, lengths[i].err) != NULL,
               "%zu characters between \"%s\" and \"%s\"", n,
               lengths[i].before, lengths[i].after);
        }
    }

    /* encoded, a character takes three, and counts as one */

    len = sprintf(text, "redis://u:");

    for (n = 0; n < 300; n++) {
        len += sprintf(text + len, "%%41");
    }

    len += sprintf(text + len, "@h");

    ok(parse(text, len, &uri) == NULL && strlen(uri.password) == 300,
       "300 encoded characters");

    return done();
}
