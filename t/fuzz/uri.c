
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Addresses of a store: what is taken is the same after it was printed, and
 * the phrase that refuses one quotes nothing of it.
 */


#include "fuzz.h"
#include "rbgv_uri.h"


#define FUZZ_TEXT  16384


static size_t fuzz_print(const rbgv_uri_t *uri, char *text);
static char *fuzz_print_hosts(const rbgv_uri_t *uri, char *p);
static char *fuzz_encode(const char *text, char *p);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char         *text, printed[FUZZ_TEXT];
    size_t        len;
    rbgv_uri_t    uri, again;

    text = fuzz_copy(data, size);

    if (rbgv_uri_parse(text, size, &uri) == NULL) {
        len = fuzz_print(&uri, printed);

        fuzz_check(rbgv_uri_parse(printed, len, &again) == NULL,
                   "an address that was printed is one");
        fuzz_check(memcmp(&uri, &again, sizeof(rbgv_uri_t)) == 0,
                   "an address that was printed is the same");
    }

    free(text);

    return 0;
}


static size_t
fuzz_print(const rbgv_uri_t *uri, char *text)
{
    char  *p;

    static const char  *kinds[] = { "", "+sentinel", "+cluster" };

    p = text;

    p += uri->nhosts ? sprintf(p, "redis%s%s://", uri->tls ? "s" : "",
                               kinds[uri->kind])
                     : sprintf(p, "unix://");

    p = fuzz_encode(uri->user, p);
    *p++ = ':';
    p = fuzz_encode(uri->password, p);
    *p++ = '@';

    if (uri->nhosts == 0) {
        return p - text + sprintf(p, "%s?db=%u", uri->path, uri->db);
    }

    p = fuzz_print_hosts(uri, p);

    if (uri->master[0]) {
        p += sprintf(p, "/%s", uri->master);
    }

    return p - text + sprintf(p, "/%u", uri->db);
}


static char *
fuzz_print_hosts(const rbgv_uri_t *uri, char *p)
{
    size_t                  i;
    const rbgv_uri_host_t  *host;

    for (i = 0; i < uri->nhosts; i++) {
        host = &uri->hosts[i];

        p += sprintf(p, strchr(host->name, ':') ? "%s[%s]:%u" : "%s%s:%u",
                     i ? "," : "", host->name, host->port);
    }

    return p;
}


static char *
fuzz_encode(const char *text, char *p)
{
    for ( /* void */ ; *text; text++) {
        p += sprintf(p, "%%%02x", (unsigned char) *text);
    }

    return p;
}
