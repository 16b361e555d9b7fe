
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Tokens of administrators: their file, the check of a request, and how often
 * a wrong one may be tried.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_rbgv_auth_admin.h"


#define NGX_HTTP_RBGV_AUTH_ADMIN_FILE     65536      /* bytes, at most */
#define NGX_HTTP_RBGV_AUTH_ADMIN_LABEL    64         /* likewise */

#define NGX_HTTP_RBGV_AUTH_ADMIN_SLOTS    256
#define NGX_HTTP_RBGV_AUTH_ADMIN_GUESSES  10         /* of an address */
#define NGX_HTTP_RBGV_AUTH_ADMIN_PERIOD   60         /* seconds */


/* a network of an address, for which wrong tokens are counted */

typedef struct {
    u_char                         data[8];
    size_t                         len;
} ngx_http_rbgv_auth_admin_net_t;


typedef struct {
    ngx_http_rbgv_auth_admin_net_t net;
    ngx_uint_t                     failures;
    time_t                         since;
} ngx_http_rbgv_auth_admin_guess_t;


typedef struct {
    u_char                         digest[RBGV_DIGEST_LEN];
    ngx_str_t                      label;      /* terminated */
} ngx_http_rbgv_auth_admin_token_t;


static ngx_int_t ngx_http_rbgv_auth_admin_read_file(ngx_conf_t *cf,
    ngx_str_t *name, ngx_str_t *text);
static char *ngx_http_rbgv_auth_admin_read_line(ngx_conf_t *cf,
    ngx_http_rbgv_auth_loc_conf_t *conf, u_char *p, u_char *last);
static char *ngx_http_rbgv_auth_admin_read_label(ngx_conf_t *cf,
    ngx_http_rbgv_auth_loc_conf_t *conf,
    ngx_http_rbgv_auth_admin_token_t *token, u_char *p, u_char *last);
static ngx_http_rbgv_auth_admin_token_t *ngx_http_rbgv_auth_admin_find_token(
    ngx_http_rbgv_auth_admin_t *admin, ngx_str_t *text);
static ngx_http_rbgv_auth_admin_guess_t *ngx_http_rbgv_auth_admin_guess(
    ngx_http_request_t *r);
static void ngx_http_rbgv_auth_admin_net(ngx_http_request_t *r,
    ngx_http_rbgv_auth_admin_net_t *net);


/*
 * Of this worker.  Of two networks in one place, the one that was there last
 * counts: nobody is shut out by what another one has tried.
 */

static ngx_http_rbgv_auth_admin_guess_t
    ngx_http_rbgv_auth_admin_guesses[NGX_HTTP_RBGV_AUTH_ADMIN_SLOTS];


/* a digest in hex a line, with a label or without; "#" begins a comment */

char *
ngx_http_rbgv_auth_read_admin_tokens(ngx_conf_t *cf,
    ngx_http_rbgv_auth_loc_conf_t *conf)
{
    char        *err;
    u_char      *p, *end, *last;
    ngx_str_t    text;
    ngx_uint_t   line;

    if (conf->admin_token_file.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"rbgv_auth_admin\" needs "
                           "\"rbgv_auth_admin_token_file\"");
        return NGX_CONF_ERROR;
    }

    conf->admin_tokens = ngx_array_create(cf->pool, 2,
                                    sizeof(ngx_http_rbgv_auth_admin_token_t));
    if (conf->admin_tokens == NULL
        || ngx_http_rbgv_auth_admin_read_file(cf, &conf->admin_token_file,
                                              &text)
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    end = text.data + text.len;

    for (p = text.data, line = 1; p < end; p = last + 1, line++) {
        last = ngx_strlchr(p, end, '\n');
        last = last ? last : end;

        err = ngx_http_rbgv_auth_admin_read_line(cf, conf, p, last);

        if (err) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "line %ui of the file \"%V\" of "
                               "\"rbgv_auth_admin_token_file\" %s", line,
                               &conf->admin_token_file, err);
            return NGX_CONF_ERROR;
        }
    }

    if (conf->admin_tokens->nelts == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "there is no token in the file \"%V\" of "
                           "\"rbgv_auth_admin_token_file\"",
                           &conf->admin_token_file);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_admin_read_file(ngx_conf_t *cf, ngx_str_t *name,
    ngx_str_t *text)
{
    ssize_t   n;
    ngx_fd_t  fd;

    if (ngx_conf_full_name(cf->cycle, name, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    text->data = ngx_pnalloc(cf->temp_pool, NGX_HTTP_RBGV_AUTH_ADMIN_FILE);
    if (text->data == NULL) {
        return NGX_ERROR;
    }

    fd = ngx_open_file(name->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    n = (fd == NGX_INVALID_FILE) ? -1
        : ngx_read_fd(fd, text->data, NGX_HTTP_RBGV_AUTH_ADMIN_FILE);

    if (n == -1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "cannot read the file \"%V\" of "
                           "\"rbgv_auth_admin_token_file\"", name);
    }

    if (fd != NGX_INVALID_FILE) {
        (void) ngx_close_file(fd);
    }

    if (n == NGX_HTTP_RBGV_AUTH_ADMIN_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the file \"%V\" of \"rbgv_auth_admin_token_file\" "
                           "is too long", name);
        return NGX_ERROR;
    }

    text->len = n;

    return n == -1 ? NGX_ERROR : NGX_OK;
}


/* NULL, or what is wrong, which does not quote the line: it may be a token */

static char *
ngx_http_rbgv_auth_admin_read_line(ngx_conf_t *cf,
    ngx_http_rbgv_auth_loc_conf_t *conf, u_char *p, u_char *last)
{
    ngx_int_t                          n;
    ngx_uint_t                         i;
    ngx_http_rbgv_auth_admin_token_t  *token;

    while (last > p && last[-1] <= ' ') {
        last--;
    }

    while (p < last && *p <= ' ') {
        p++;
    }

    if (p == last || *p == '#') {
        return NULL;
    }

    token = ngx_array_push(conf->admin_tokens);
    if (token == NULL) {
        return "needs more memory than there is";
    }

    for (i = 0; i < RBGV_DIGEST_LEN; i++, p += 2) {
        n = (last - p >= 2) ? ngx_hextoi(p, 2) : NGX_ERROR;

        if (n == NGX_ERROR) {
            return "does not begin with the SHA-256 of a token in hex";
        }

        token->digest[i] = (u_char) n;
    }

    if (p < last && *p > ' ') {
        return "does not begin with the SHA-256 of a token in hex";
    }

    return ngx_http_rbgv_auth_admin_read_label(cf, conf, token, p, last);
}


static char *
ngx_http_rbgv_auth_admin_read_label(ngx_conf_t *cf,
    ngx_http_rbgv_auth_loc_conf_t *conf,
    ngx_http_rbgv_auth_admin_token_t *token, u_char *p, u_char *last)
{
    u_char  *c;

    while (p < last && *p <= ' ') {
        p++;
    }

    for (c = p; c < last; c++) {
        if (*c <= ' ' || *c >= 0x7f || *c == '"' || *c == '\\') {
            return "has a label that is not one word of ASCII";
        }
    }

    if (last - p > NGX_HTTP_RBGV_AUTH_ADMIN_LABEL) {
        return "has a label of more than 64 characters";
    }

    token->label.data = ngx_pnalloc(cf->pool, NGX_HTTP_RBGV_AUTH_ADMIN_LABEL
                                              + 1);
    if (token->label.data == NULL) {
        return "needs more memory than there is";
    }

    c = (p < last) ? ngx_cpymem(token->label.data, p, last - p)
                   : ngx_sprintf(token->label.data, "token-%ui",
                                 conf->admin_tokens->nelts);
    *c = '\0';

    token->label.len = c - token->label.data;

    return NULL;
}


ngx_int_t
ngx_http_rbgv_auth_admin_check_token(ngx_http_rbgv_auth_admin_t *admin)
{
    time_t                             left;
    ngx_str_t                         *text;
    ngx_uint_t                         n;
    ngx_http_request_t                *r;
    ngx_http_rbgv_auth_admin_guess_t  *guess;
    ngx_http_rbgv_auth_admin_token_t  *token;

    r = admin->request;
    n = 0;

    text = ngx_http_rbgv_auth_admin_header(r, "X-Admin-Token", &n);

    if (text == NULL && r->args.len
        && ngx_strlcasestrn(r->args.data, r->args.data + r->args.len,
                            (u_char *) "token", sizeof("token") - 2))
    {
        return ngx_http_rbgv_auth_admin_refuse(admin, NGX_HTTP_BAD_REQUEST,
                              "invalid_request", "A token goes into "
                              "X-Admin-Token, and not into the query string");
    }

    if (text == NULL || text->len == 0) {
        return ngx_http_rbgv_auth_admin_refuse(admin, NGX_HTTP_UNAUTHORIZED,
                                               "missing_admin_token",
                                               "X-Admin-Token header missing");
    }

    guess = ngx_http_rbgv_auth_admin_guess(r);
    left = guess->since + NGX_HTTP_RBGV_AUTH_ADMIN_PERIOD - ngx_time();

    if (guess->failures >= NGX_HTTP_RBGV_AUTH_ADMIN_GUESSES) {
        admin->after = ngx_max(left, 1);

        return ngx_http_rbgv_auth_admin_refuse(admin,
                                               NGX_HTTP_TOO_MANY_REQUESTS,
                                               "rate_limited",
                                               "Too many wrong tokens");
    }

    token = (n == 1) ? ngx_http_rbgv_auth_admin_find_token(admin, text)
                     : NULL;

    if (token == NULL) {
        guess->failures++;

        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "rbgv_auth: admin: %s",
                      n == 1 ? "wrong token" : "more than one token");

        return ngx_http_rbgv_auth_admin_refuse(admin, NGX_HTTP_UNAUTHORIZED,
                                               "invalid_admin_token",
                                               "Token not recognized");
    }

    admin->op.by = (char *) token->label.data;

    return NGX_OK;
}


/* all are looked at, in a time that does not tell which one it was */

static ngx_http_rbgv_auth_admin_token_t *
ngx_http_rbgv_auth_admin_find_token(ngx_http_rbgv_auth_admin_t *admin,
    ngx_str_t *text)
{
    u_char                             digest[RBGV_DIGEST_LEN];
    ngx_uint_t                         i;
    ngx_http_rbgv_auth_loc_conf_t     *alcf;
    ngx_http_rbgv_auth_admin_token_t  *tokens, *found;

    alcf = ngx_http_get_module_loc_conf(admin->request,
                                        ngx_http_rbgv_auth_module);

    if (rbgv_digest_plain(admin->op.digester, (const char *) text->data,
                          text->len, digest)
        == -1)
    {
        return NULL;
    }

    tokens = alcf->admin_tokens->elts;
    found = NULL;

    for (i = 0; i < alcf->admin_tokens->nelts; i++) {
        if (rbgv_equal(tokens[i].digest, digest, RBGV_DIGEST_LEN)) {
            found = &tokens[i];
        }
    }

    return found;
}


static ngx_http_rbgv_auth_admin_guess_t *
ngx_http_rbgv_auth_admin_guess(ngx_http_request_t *r)
{
    time_t                             now;
    ngx_http_rbgv_auth_admin_net_t     net;
    ngx_http_rbgv_auth_admin_guess_t  *guess;

    now = ngx_time();

    ngx_http_rbgv_auth_admin_net(r, &net);

    guess = &ngx_http_rbgv_auth_admin_guesses[
                                   ngx_crc32_short(net.data, sizeof(net.data))
                                   % NGX_HTTP_RBGV_AUTH_ADMIN_SLOTS];

    if (ngx_memcmp(&guess->net, &net, sizeof(net)) != 0
        || now - guess->since >= NGX_HTTP_RBGV_AUTH_ADMIN_PERIOD)
    {
        guess->net = net;
        guess->failures = 0;
        guess->since = now;
    }

    return guess;
}


/* of IPv6 half of the address; a host may have all of the rest */

static void
ngx_http_rbgv_auth_admin_net(ngx_http_request_t *r,
    ngx_http_rbgv_auth_admin_net_t *net)
{
    struct sockaddr      *sa;
    struct sockaddr_in   *sin;
#if (NGX_HAVE_INET6)
    struct sockaddr_in6  *sin6;
#endif

    ngx_memzero(net, sizeof(ngx_http_rbgv_auth_admin_net_t));

    sa = r->connection->sockaddr;

    switch (sa->sa_family) {

    case AF_INET:
        sin = (struct sockaddr_in *) sa;
        net->len = 4;
        ngx_memcpy(net->data, &sin->sin_addr, 4);
        break;

#if (NGX_HAVE_INET6)
    case AF_INET6:
        sin6 = (struct sockaddr_in6 *) sa;

        if (IN6_IS_ADDR_V4MAPPED(&sin6->sin6_addr)) {
            net->len = 4;
            ngx_memcpy(net->data, &sin6->sin6_addr.s6_addr[12], 4);
            break;
        }

        net->len = 8;
        ngx_memcpy(net->data, &sin6->sin6_addr, 8);
        break;
#endif

    default:
        break;
    }
}
