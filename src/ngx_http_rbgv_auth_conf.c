
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_rbgv_auth.h"
#include "ngx_rbgv_name.h"
#include "ngx_rbgv_sentinel.h"
#include "rbgv_count_lua.h"
#include "rbgv_schema.h"
#include "rbgv_uri.h"


#define NGX_HTTP_RBGV_AUTH_MAX_PENDING  8192
#define NGX_HTTP_RBGV_AUTH_MAX_REPLY    (1024 * 1024)      /* bytes */
#define NGX_HTTP_RBGV_AUTH_MAX_FIELDS   1024
#define NGX_HTTP_RBGV_AUTH_ZONE_SIZE    (16 * 1024 * 1024)
#define NGX_HTTP_RBGV_AUTH_ZONE_MIN     (256 * 1024)
#define NGX_HTTP_RBGV_AUTH_MAX_LEASE    65536
#define NGX_HTTP_RBGV_AUTH_JOB_TTL      86400              /* seconds */


static char *ngx_http_rbgv_auth_read_peppers(ngx_conf_t *cf,
    ngx_http_rbgv_auth_main_conf_t *amcf);
static ngx_int_t ngx_http_rbgv_auth_read_pepper(ngx_conf_t *cf,
    ngx_str_t *file, ngx_str_t *pepper);
static char *ngx_http_rbgv_auth_set_challenge(ngx_conf_t *cf,
    ngx_http_rbgv_auth_loc_conf_t *conf);
static ngx_int_t ngx_http_rbgv_auth_add_limits(ngx_conf_t *cf,
    ngx_http_rbgv_auth_loc_conf_t *conf);
static void ngx_http_rbgv_auth_set_set(ngx_http_rbgv_auth_loc_conf_t *conf);
static char *ngx_http_rbgv_auth_add_store(ngx_conf_t *cf,
    ngx_http_rbgv_auth_loc_conf_t *conf);
static void ngx_http_rbgv_auth_add_script(
    ngx_http_rbgv_auth_main_conf_t *amcf,
    ngx_http_rbgv_auth_loc_conf_t *conf, ngx_rbgv_redis_conf_t *redis);
static ngx_rbgv_redis_conf_t *ngx_http_rbgv_auth_store_conf(ngx_conf_t *cf,
    ngx_http_rbgv_auth_loc_conf_t *conf);
static ngx_int_t ngx_http_rbgv_auth_store_addrs(ngx_conf_t *cf,
    rbgv_uri_t *uri, ngx_rbgv_redis_conf_t *redis);
static ngx_int_t ngx_http_rbgv_auth_add_addrs(ngx_conf_t *cf, ngx_str_t *url,
    ngx_rbgv_redis_conf_t *redis);
static ngx_int_t ngx_http_rbgv_auth_last_addrs(ngx_conf_t *cf, ngx_url_t *u,
    ngx_rbgv_redis_conf_t *redis);
static ngx_http_rbgv_auth_main_conf_t *ngx_http_rbgv_auth_last_conf(
    ngx_cycle_t *cycle);
static ngx_rbgv_redis_conf_t *ngx_http_rbgv_auth_named_store(
    ngx_http_rbgv_auth_main_conf_t *amcf, ngx_str_t *name);
static ngx_int_t ngx_http_rbgv_auth_store_sentinel(ngx_conf_t *cf,
    rbgv_uri_t *uri, ngx_rbgv_redis_conf_t *redis);
static ngx_int_t ngx_http_rbgv_auth_store_host(ngx_conf_t *cf,
    rbgv_uri_host_t *host, ngx_rbgv_redis_conf_t *redis);
static ngx_int_t ngx_http_rbgv_auth_store_login(ngx_conf_t *cf,
    ngx_http_rbgv_auth_loc_conf_t *conf, rbgv_uri_t *uri,
    ngx_rbgv_redis_conf_t *redis);
static ngx_int_t ngx_http_rbgv_auth_read_password(ngx_conf_t *cf,
    ngx_str_t *file, ngx_str_t *password);
static ngx_int_t ngx_http_rbgv_auth_copy(ngx_conf_t *cf, ngx_str_t *dst,
    const char *src);
static ngx_uint_t ngx_http_rbgv_auth_same_store(ngx_rbgv_redis_conf_t *a,
    ngx_rbgv_redis_conf_t *b);
static ngx_uint_t ngx_http_rbgv_auth_same_host(ngx_rbgv_name_conf_t *a,
    ngx_rbgv_name_conf_t *b);
static ngx_uint_t ngx_http_rbgv_auth_same(ngx_str_t *a, ngx_str_t *b);
static ngx_http_complex_value_t *ngx_http_rbgv_auth_compile(ngx_conf_t *cf,
    ngx_str_t *value);


void *
ngx_http_rbgv_auth_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_rbgv_auth_main_conf_t  *amcf;

    amcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_rbgv_auth_main_conf_t));
    if (amcf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     amcf->prefix = { 0, NULL };
     *     amcf->pepper_file = { 0, NULL };
     *     amcf->previous_pepper_file = { 0, NULL };
     *     amcf->pepper = { 0, NULL };
     *     amcf->previous_pepper = { 0, NULL };
     *     amcf->has_ssl = 0;
     *     amcf->worker = NULL;
     */

    amcf->zone_size = NGX_CONF_UNSET_SIZE;

    if (ngx_array_init(&amcf->stores, cf->pool, 2,
                       sizeof(ngx_rbgv_redis_conf_t *))
        != NGX_OK
        || ngx_array_init(&amcf->limits, cf->pool, 2, sizeof(ngx_array_t *))
           != NGX_OK)
    {
        return NULL;
    }

    return amcf;
}


char *
ngx_http_rbgv_auth_init_main_conf(ngx_conf_t *cf, void *conf)
{
    ngx_http_rbgv_auth_main_conf_t *amcf = conf;

    size_t     i;
    u_char     c;
    ngx_str_t  name;

    if (amcf->prefix.data == NULL) {
        ngx_str_set(&amcf->prefix, RBGV_PREFIX);
    }

    if (amcf->prefix.len == 0 || amcf->prefix.len > RBGV_PREFIX_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid prefix \"%V\" in \"rbgv_auth_prefix\": "
                           "it must have 1 to %d characters",
                           &amcf->prefix, RBGV_PREFIX_MAX);
        return NGX_CONF_ERROR;
    }

    /* a Cluster hash tag or an ACL pattern would change its meaning */

    for (i = 0; i < amcf->prefix.len; i++) {
        c = amcf->prefix.data[i];

        if ((c < '0' || c > '9') && (c < 'A' || c > 'Z')
            && (c < 'a' || c > 'z') && c != ':' && c != '.' && c != '_'
            && c != '-')
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid prefix \"%V\" in "
                               "\"rbgv_auth_prefix\": only letters, digits "
                               "and \":._-\" are allowed", &amcf->prefix);
            return NGX_CONF_ERROR;
        }
    }

    ngx_conf_init_size_value(amcf->zone_size, NGX_HTTP_RBGV_AUTH_ZONE_SIZE);

    ngx_str_set(&name, "rbgv_auth");

    amcf->zone = ngx_http_rbgv_auth_zone_add(cf, &name,
                                             ngx_max(amcf->zone_size,
                                                NGX_HTTP_RBGV_AUTH_ZONE_MIN),
                                             &ngx_http_rbgv_auth_module);
    if (amcf->zone == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_str_set(&amcf->script, RBGV_COUNT_LUA);

    ngx_str_set(&name, "request_id");

    amcf->request_id = ngx_http_get_variable_index(cf, &name);
    if (amcf->request_id == NGX_ERROR) {
        return NGX_CONF_ERROR;
    }

    return ngx_http_rbgv_auth_read_peppers(cf, amcf);
}


static char *
ngx_http_rbgv_auth_read_peppers(ngx_conf_t *cf,
    ngx_http_rbgv_auth_main_conf_t *amcf)
{
    if (ngx_http_rbgv_auth_read_pepper(cf, &amcf->pepper_file, &amcf->pepper)
        != NGX_OK
        || ngx_http_rbgv_auth_read_pepper(cf, &amcf->previous_pepper_file,
                                          &amcf->previous_pepper)
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (amcf->previous_pepper.data
        && ngx_http_rbgv_auth_same(&amcf->pepper, &amcf->previous_pepper))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the pepper files \"%V\" and \"%V\" of "
                           "\"rbgv_auth_pepper_file\" hold the same pepper",
                           &amcf->pepper_file, &amcf->previous_pepper_file);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_read_pepper(ngx_conf_t *cf, ngx_str_t *file,
    ngx_str_t *pepper)
{
    int          len;
    const char  *err;

    if (file->data == NULL) {
        return NGX_OK;
    }

    if (ngx_conf_full_name(cf->cycle, file, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    pepper->data = ngx_pnalloc(cf->pool, RBGV_PEPPER_MAX);
    if (pepper->data == NULL) {
        return NGX_ERROR;
    }

    len = rbgv_pepper_read((const char *) file->data, pepper->data, &err);

    if (len == -1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "cannot read the pepper file \"%V\" of "
                           "\"rbgv_auth_pepper_file\": %s", file, err);
        return NGX_ERROR;
    }

    pepper->len = len;

    return NGX_OK;
}


void *
ngx_http_rbgv_auth_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_rbgv_auth_loc_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_rbgv_auth_loc_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     conf->redis = { 0, NULL };
     *     conf->redis_password_file = { 0, NULL };
     *     conf->store = 0;
     *     conf->usage = 0;
     *     conf->realm = { 0, NULL };
     *     conf->challenge = { 0, NULL };
     *     conf->admin = 0;
     *     conf->admin_token_file = { 0, NULL };
     *     conf->admin_tokens = NULL;
     */

    conf->enable = NGX_CONF_UNSET_UINT;
    conf->redis_timeout = NGX_CONF_UNSET_MSEC;
    conf->redis_connect_timeout = NGX_CONF_UNSET_MSEC;
#if (NGX_SSL)
    ngx_http_rbgv_auth_init_ssl(&conf->ssl);
#endif
    conf->environments = NGX_CONF_UNSET_PTR;
    conf->limits = NGX_CONF_UNSET_PTR;
    conf->cost = NGX_CONF_UNSET_PTR;
    conf->credits = NGX_CONF_UNSET_PTR;
    conf->lease = NGX_CONF_UNSET;
    conf->job = NGX_CONF_UNSET_PTR;
    conf->job_record = NGX_CONF_UNSET_PTR;
    conf->job_ttl = NGX_CONF_UNSET;
    conf->events = NGX_CONF_UNSET;
    conf->opaque_keys = NGX_CONF_UNSET;
    conf->hide_key = NGX_CONF_UNSET;
    conf->headers = NGX_CONF_UNSET_UINT;
    conf->log_level = NGX_CONF_UNSET_UINT;
    conf->stale = NGX_CONF_UNSET_MSEC;
    conf->limit_unavailable = NGX_CONF_UNSET_UINT;

    return conf;
}


char *
ngx_http_rbgv_auth_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_rbgv_auth_loc_conf_t *prev = parent;
    ngx_http_rbgv_auth_loc_conf_t *conf = child;

    static ngx_array_t               none;
    ngx_http_rbgv_auth_main_conf_t  *amcf;

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_rbgv_auth_module);

    /* who administers keys need not have one */

    ngx_conf_merge_uint_value(conf->enable,
                              conf->admin ? NGX_HTTP_RBGV_AUTH_OFF
                                          : prev->enable,
                              NGX_HTTP_RBGV_AUTH_OFF);

#if (NGX_SSL)
    if (ngx_http_rbgv_auth_has_ssl(&conf->ssl)) {
        amcf->has_ssl = 1;
    }

    ngx_http_rbgv_auth_merge_ssl(&conf->ssl, &prev->ssl,
                                 conf->redis.data != NULL);
#endif

    /* the password of one store is not shown to another */

    if (conf->redis.data == NULL) {
        ngx_conf_merge_str_value(conf->redis_password_file,
                                 prev->redis_password_file, "");
    }

    ngx_conf_merge_str_value(conf->redis, prev->redis, RBGV_URI_DEFAULT);
    ngx_conf_merge_msec_value(conf->redis_timeout, prev->redis_timeout, 100);
    ngx_conf_merge_msec_value(conf->redis_connect_timeout,
                              prev->redis_connect_timeout, 1000);

    ngx_conf_merge_ptr_value(conf->environments, prev->environments, NULL);
    ngx_conf_merge_ptr_value(conf->limits, prev->limits, &none);
    ngx_conf_merge_ptr_value(conf->cost, prev->cost, NULL);
    ngx_conf_merge_ptr_value(conf->credits, prev->credits, NULL);
    ngx_conf_merge_value(conf->lease, prev->lease,
                         NGX_HTTP_RBGV_AUTH_LEASE_AUTO);

    ngx_conf_merge_ptr_value(conf->job, prev->job, NULL);
    ngx_conf_merge_ptr_value(conf->job_record, prev->job_record, NULL);
    ngx_conf_merge_sec_value(conf->job_ttl, prev->job_ttl,
                             NGX_HTTP_RBGV_AUTH_JOB_TTL);
    ngx_conf_merge_value(conf->events, prev->events, 0);

    ngx_conf_merge_value(conf->opaque_keys, prev->opaque_keys, 0);
    ngx_conf_merge_value(conf->hide_key, prev->hide_key, NGX_CONF_UNSET);
    ngx_conf_merge_uint_value(conf->headers, prev->headers,
                              NGX_HTTP_RBGV_AUTH_HEADERS_IETF
                              |NGX_HTTP_RBGV_AUTH_HEADERS_LEGACY);
    ngx_conf_merge_str_value(conf->realm, prev->realm, "api");
    ngx_conf_merge_uint_value(conf->log_level, prev->log_level,
                              NGX_LOG_NOTICE);

    ngx_conf_merge_msec_value(conf->stale, prev->stale, 0);
    ngx_conf_merge_uint_value(conf->limit_unavailable,
                              prev->limit_unavailable,
                              NGX_HTTP_RBGV_AUTH_LIMIT_LOCAL);

    amcf->records_jobs |= (conf->job_record != NULL);
    amcf->has_events |= conf->events;

    if (conf->usage && conf->enable != NGX_HTTP_RBGV_AUTH_ON) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"rbgv_auth_usage\" shows a key what it has used, "
                           "and needs \"rbgv_auth on\" in its location");
        return NGX_CONF_ERROR;
    }

    ngx_conf_merge_str_value(conf->admin_token_file, prev->admin_token_file,
                             "");

    if (conf->admin) {

        if (conf->enable != NGX_HTTP_RBGV_AUTH_OFF) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"rbgv_auth\" is not \"off\" in a location "
                               "with \"rbgv_auth_admin\"");
            return NGX_CONF_ERROR;
        }

        if (ngx_http_rbgv_auth_read_admin_tokens(cf, conf) != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }

    } else if (conf->enable == NGX_HTTP_RBGV_AUTH_OFF) {
        return NGX_CONF_OK;
    }

    if (conf->redis_timeout == 0 || conf->redis_connect_timeout == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%s\" must be more than 0",
                           conf->redis_timeout
                               ? "rbgv_auth_redis_connect_timeout"
                               : "rbgv_auth_redis_timeout");
        return NGX_CONF_ERROR;
    }

    if (conf->enable != NGX_HTTP_RBGV_AUTH_OFF) {

        if (ngx_http_rbgv_auth_set_challenge(cf, conf) != NGX_CONF_OK
            || ngx_http_rbgv_auth_add_limits(cf, conf) != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }

        ngx_http_rbgv_auth_set_set(conf);
    }

    return ngx_http_rbgv_auth_add_store(cf, conf);
}


/* levels that inherit limits have the same array */

static ngx_int_t
ngx_http_rbgv_auth_add_limits(ngx_conf_t *cf,
    ngx_http_rbgv_auth_loc_conf_t *conf)
{
    ngx_uint_t                       i;
    ngx_array_t                    **limits;
    ngx_http_rbgv_auth_main_conf_t  *amcf;

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_rbgv_auth_module);

    limits = amcf->limits.elts;

    for (i = 0; i < amcf->limits.nelts; i++) {
        if (limits[i] == conf->limits) {
            return NGX_OK;
        }
    }

    limits = ngx_array_push(&amcf->limits);
    if (limits == NULL) {
        return NGX_ERROR;
    }

    *limits = conf->limits;

    return NGX_OK;
}


/* leases of locations with the same limits are the same ones */

static void
ngx_http_rbgv_auth_set_set(ngx_http_rbgv_auth_loc_conf_t *conf)
{
    ngx_uint_t                   i;
    ngx_http_rbgv_auth_limit_t  *limit;

    ngx_crc32_init(conf->set);

    limit = conf->limits->elts;

    for (i = 0; i < conf->limits->nelts; i++) {
        ngx_crc32_update(&conf->set, limit[i].name.data, limit[i].name.len);
        ngx_crc32_update(&conf->set, (u_char *) "=", 1);
        ngx_crc32_update(&conf->set, limit[i].environment.data,
                         limit[i].environment.len);
        ngx_crc32_update(&conf->set, (u_char *) &limit[i].limit,
                         sizeof(rbgv_limit_t));
    }

    /* a dry run spends no credits, so what it has granted is for itself */

    if (conf->credits && conf->enable == NGX_HTTP_RBGV_AUTH_DRY_RUN) {
        ngx_crc32_update(&conf->set, (u_char *) "dry", 3);
    }

    ngx_crc32_final(conf->set);
}


/* the realm is a quoted-string, RFC 9110, section 5.6.4 */

static char *
ngx_http_rbgv_auth_set_challenge(ngx_conf_t *cf,
    ngx_http_rbgv_auth_loc_conf_t *conf)
{
    size_t   i;
    u_char  *p, c;

    for (i = 0; i < conf->realm.len; i++) {
        c = conf->realm.data[i];

        if (c < 0x20 || c == 0x7f || c == '"' || c == '\\') {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid realm \"%V\" in "
                               "\"rbgv_auth_realm\": no quotes, backslashes "
                               "or control characters are allowed",
                               &conf->realm);
            return NGX_CONF_ERROR;
        }
    }

    p = ngx_pnalloc(cf->pool, sizeof("ApiKey realm=\"\"") + conf->realm.len);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    conf->challenge.data = p;
    conf->challenge.len = ngx_sprintf(p, "ApiKey realm=\"%V\"", &conf->realm)
                          - p;

    return NGX_CONF_OK;
}


/* one client a worker for all locations that ask the same store alike */

static char *
ngx_http_rbgv_auth_add_store(ngx_conf_t *cf,
    ngx_http_rbgv_auth_loc_conf_t *conf)
{
    ngx_uint_t                       i;
    ngx_rbgv_redis_conf_t           *redis, **stores;
    ngx_http_rbgv_auth_main_conf_t  *amcf;

    redis = ngx_http_rbgv_auth_store_conf(cf, conf);
    if (redis == NULL) {
        return NGX_CONF_ERROR;
    }

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_rbgv_auth_module);

    stores = amcf->stores.elts;

    for (i = 0; i < amcf->stores.nelts; i++) {
        if (ngx_http_rbgv_auth_same_store(stores[i], redis)) {
            conf->store = i;
            ngx_http_rbgv_auth_add_script(amcf, conf, stores[i]);
            return NGX_CONF_OK;
        }
    }

    conf->store = amcf->stores.nelts;

#if (NGX_SSL)
    if (redis->ssl && ngx_rbgv_redis_ssl_create(cf, redis->ssl) != NGX_OK) {
        return NGX_CONF_ERROR;
    }
#endif

    redis->role = "redis";
    redis->max_pending = NGX_HTTP_RBGV_AUTH_MAX_PENDING;
    redis->max_elements = 2 * NGX_HTTP_RBGV_AUTH_MAX_FIELDS;
    redis->max_reply = NGX_HTTP_RBGV_AUTH_MAX_REPLY;

    stores = ngx_array_push(&amcf->stores);
    if (stores == NULL) {
        return NGX_CONF_ERROR;
    }

    *stores = redis;

    ngx_http_rbgv_auth_add_script(amcf, conf, redis);

    return NGX_CONF_OK;
}


/* the login of administrators is not one that counts */

static void
ngx_http_rbgv_auth_add_script(ngx_http_rbgv_auth_main_conf_t *amcf,
    ngx_http_rbgv_auth_loc_conf_t *conf, ngx_rbgv_redis_conf_t *redis)
{
    if (!conf->admin) {
        redis->scripts = &amcf->script;
        redis->nscripts = 1;
    }
}


static ngx_rbgv_redis_conf_t *
ngx_http_rbgv_auth_store_conf(ngx_conf_t *cf,
    ngx_http_rbgv_auth_loc_conf_t *conf)
{
    rbgv_uri_t              uri;
    ngx_rbgv_redis_conf_t  *redis;

    /* checked by ngx_http_rbgv_auth_set_redis() */

    (void) rbgv_uri_parse((const char *) conf->redis.data, conf->redis.len,
                          &uri);

    redis = ngx_pcalloc(cf->pool, sizeof(ngx_rbgv_redis_conf_t));
    if (redis == NULL) {
        return NULL;
    }

    redis->db = uri.db;
    redis->cluster = (uri.kind == RBGV_URI_CLUSTER);
    redis->timeout = conf->redis_timeout;
    redis->connect_timeout = conf->redis_connect_timeout;

    if (uri.tls) {
#if (NGX_SSL)
        redis->ssl = ngx_http_rbgv_auth_store_ssl(cf, conf,
                                                uri.hosts[0].name);
        if (redis->ssl == NULL) {
            return NULL;
        }
#else
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"rediss://\" in \"rbgv_auth_redis\" needs an "
                           "nginx that is built --with-http_ssl_module, and "
                           "the module built for it");
        return NULL;
#endif
    }

    if (ngx_http_rbgv_auth_store_addrs(cf, &uri, redis) != NGX_OK
        || (uri.kind == RBGV_URI_SENTINEL
            && ngx_http_rbgv_auth_store_sentinel(cf, &uri, redis) != NGX_OK)
        || ngx_http_rbgv_auth_store_login(cf, conf, &uri, redis) != NGX_OK)
    {
        return NULL;
    }

    ngx_explicit_memzero(&uri, sizeof(rbgv_uri_t));

    return redis;
}


/* the name has all hosts, as they are given */

static ngx_int_t
ngx_http_rbgv_auth_store_addrs(ngx_conf_t *cf, rbgv_uri_t *uri,
    ngx_rbgv_redis_conf_t *redis)
{
    u_char            *p;
    size_t             len;
    ngx_str_t          url;
    ngx_uint_t         i;
    rbgv_uri_host_t   *host;

    len = sizeof("unix:/") + ngx_strlen(uri->path) + ngx_strlen(uri->master);

    for (i = 0; i < uri->nhosts; i++) {
        len += ngx_strlen(uri->hosts[i].name) + sizeof("[]:65535,");
    }

    p = ngx_pnalloc(cf->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    redis->name.data = p;

    if (uri->nhosts == 0) {
        p = ngx_sprintf(p, "unix:%s", uri->path);
        redis->name.len = p - redis->name.data;

        return ngx_http_rbgv_auth_add_addrs(cf, &redis->name, redis);
    }

    if (uri->kind == RBGV_URI_SERVER
        && ngx_http_rbgv_auth_store_host(cf, &uri->hosts[0], redis) != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < uri->nhosts; i++) {
        host = &uri->hosts[i];

        if (i) {
            *p++ = ',';
        }

        url.data = p;
        p = ngx_sprintf(p,
                        ngx_strchr(host->name, ':') ? "[%s]:%ui" : "%s:%ui",
                        host->name, (ngx_uint_t) host->port);
        url.len = p - url.data;

        if (ngx_http_rbgv_auth_add_addrs(cf, &url, redis) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    if (uri->kind == RBGV_URI_SENTINEL) {
        p = ngx_sprintf(p, "/%s", uri->master);
    }

    redis->name.len = p - redis->name.data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_add_addrs(ngx_conf_t *cf, ngx_str_t *url,
    ngx_rbgv_redis_conf_t *redis)
{
    ngx_url_t                        u;
    ngx_addr_t                      *addrs;
    ngx_rbgv_redis_conf_t           *known;
    ngx_http_rbgv_auth_main_conf_t  *amcf;

    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_rbgv_auth_module);
    known = redis->host ? ngx_http_rbgv_auth_named_store(amcf, url) : NULL;

    /* name servers that do not answer are waited for once */

    if (known) {
        redis->addrs = known->addrs;
        redis->naddrs = known->naddrs;
        return NGX_OK;
    }

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = *url;

    if (ngx_parse_url(cf->pool, &u) != NGX_OK) {

        /* with a resolver it will be found, or looked for */

        if (redis->host && u.err) {
            return ngx_http_rbgv_auth_last_addrs(cf, &u, redis);
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "%s in \"rbgv_auth_redis\", address \"%V\"",
                           u.err ? u.err : "no memory", url);
        return NGX_ERROR;
    }

    addrs = ngx_palloc(cf->pool,
                       (redis->naddrs + u.naddrs) * sizeof(ngx_addr_t));
    if (addrs == NULL) {
        return NGX_ERROR;
    }

    if (redis->naddrs) {
        ngx_memcpy(addrs, redis->addrs, redis->naddrs * sizeof(ngx_addr_t));
    }

    ngx_memcpy(addrs + redis->naddrs, u.addrs,
               u.naddrs * sizeof(ngx_addr_t));

    redis->addrs = addrs;
    redis->naddrs += u.naddrs;

    return NGX_OK;
}


/* those that the configuration before has, whose pool goes */

static ngx_int_t
ngx_http_rbgv_auth_last_addrs(ngx_conf_t *cf, ngx_url_t *u,
    ngx_rbgv_redis_conf_t *redis)
{
    ngx_uint_t                       i;
    ngx_rbgv_redis_conf_t           *last;
    ngx_http_rbgv_auth_main_conf_t  *amcf;

    amcf = ngx_http_rbgv_auth_last_conf(cf->cycle->old_cycle);
    last = amcf ? ngx_http_rbgv_auth_named_store(amcf, &u->url) : NULL;

    if (last == NULL || last->naddrs == 0) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "%s in \"rbgv_auth_redis\", address \"%V\": "
                           "the store is unavailable until it is "
                           "resolved", u->err, &u->url);
        return NGX_OK;
    }

    ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                       "%s in \"rbgv_auth_redis\", address \"%V\": "
                       "its last addresses stay in use", u->err, &u->url);

    redis->addrs = ngx_palloc(cf->pool, last->naddrs * sizeof(ngx_addr_t));
    if (redis->addrs == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < last->naddrs; i++) {
        if (ngx_rbgv_store_copy_addr(cf->pool, &redis->addrs[i],
                                     &last->addrs[i])
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    redis->naddrs = last->naddrs;

    return NGX_OK;
}


/* NULL: there is none, or it is of another file of the module */

static ngx_http_rbgv_auth_main_conf_t *
ngx_http_rbgv_auth_last_conf(ngx_cycle_t *cycle)
{
    ngx_uint_t  i;

    if (ngx_is_init_cycle(cycle)) {
        return NULL;
    }

    for (i = 0; cycle->modules[i]; i++) {
        if (cycle->modules[i] == &ngx_http_rbgv_auth_module) {
            return ngx_http_cycle_get_module_main_conf(cycle,
                                                   ngx_http_rbgv_auth_module);
        }
    }

    return NULL;
}


/* one server that is followed, by its host and port */

static ngx_rbgv_redis_conf_t *
ngx_http_rbgv_auth_named_store(ngx_http_rbgv_auth_main_conf_t *amcf,
    ngx_str_t *name)
{
    ngx_uint_t               i;
    ngx_rbgv_redis_conf_t  **stores;

    stores = amcf->stores.elts;

    for (i = 0; i < amcf->stores.nelts; i++) {
        if (stores[i]->host
            && ngx_http_rbgv_auth_same(&stores[i]->name, name))
        {
            return stores[i];
        }
    }

    return NULL;
}


/* the addresses are of Sentinels, who have no login of ours */

static ngx_int_t
ngx_http_rbgv_auth_store_sentinel(ngx_conf_t *cf, rbgv_uri_t *uri,
    ngx_rbgv_redis_conf_t *redis)
{
    ngx_rbgv_sentinel_conf_t  *sentinel;

    sentinel = ngx_pcalloc(cf->pool, sizeof(ngx_rbgv_sentinel_conf_t));
    if (sentinel == NULL) {
        return NGX_ERROR;
    }

    sentinel->redis = *redis;
    sentinel->redis.role = "sentinels of redis";
    sentinel->redis.db = 0;
    sentinel->redis.several = 1;
    sentinel->redis.max_pending = NGX_HTTP_RBGV_AUTH_MAX_PENDING;
    sentinel->redis.max_elements = 2 * NGX_HTTP_RBGV_AUTH_MAX_FIELDS;
    sentinel->redis.max_reply = NGX_HTTP_RBGV_AUTH_MAX_REPLY;

    redis->sentinel = sentinel;
    redis->master = 1;
    redis->addrs = NULL;
    redis->naddrs = 0;

    sentinel->master.len = ngx_strlen(uri->master);
    sentinel->master.data = ngx_pnalloc(cf->pool, sentinel->master.len + 1);
    if (sentinel->master.data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(sentinel->master.data, uri->master, sentinel->master.len + 1);

    return NGX_OK;
}


/* a name is resolved again, if there is a resolver */

static ngx_int_t
ngx_http_rbgv_auth_store_host(ngx_conf_t *cf, rbgv_uri_host_t *host,
    ngx_rbgv_redis_conf_t *redis)
{
    ngx_addr_t                 addr;
    ngx_rbgv_name_conf_t      *name;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->resolver == NULL || clcf->resolver->connections.nelts == 0
        || ngx_parse_addr(cf->pool, &addr, (u_char *) host->name,
                          ngx_strlen(host->name))
           == NGX_OK)
    {
        return NGX_OK;
    }

    name = ngx_pcalloc(cf->pool, sizeof(ngx_rbgv_name_conf_t));
    if (name == NULL) {
        return NGX_ERROR;
    }

    name->port = (in_port_t) host->port;
    name->resolver = clcf->resolver;
    name->timeout = clcf->resolver_timeout;

    redis->host = name;

    return ngx_http_rbgv_auth_copy(cf, &name->host, host->name);
}


static ngx_int_t
ngx_http_rbgv_auth_store_login(ngx_conf_t *cf,
    ngx_http_rbgv_auth_loc_conf_t *conf, rbgv_uri_t *uri,
    ngx_rbgv_redis_conf_t *redis)
{
    if (ngx_http_rbgv_auth_copy(cf, &redis->user, uri->user) != NGX_OK
        || ngx_http_rbgv_auth_copy(cf, &redis->password, uri->password)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (conf->redis_password_file.len) {

        if (redis->password.len) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "a password is both in \"rbgv_auth_redis\" "
                               "and in \"rbgv_auth_redis_password_file\"");
            return NGX_ERROR;
        }

        return ngx_http_rbgv_auth_read_password(cf,
                                                &conf->redis_password_file,
                                                &redis->password);
    }

    if (redis->user.len && redis->password.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"rbgv_auth_redis\" names the user \"%V\" and no "
                           "password: set \"rbgv_auth_redis_password_file\"",
                           &redis->user);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_read_password(ngx_conf_t *cf, ngx_str_t *file,
    ngx_str_t *password)
{
    int          len;
    char         line[512];
    ngx_int_t    rc;
    ngx_str_t    name;
    const char  *err;

    name = *file;

    if (ngx_conf_full_name(cf->cycle, &name, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    len = rbgv_line_read((const char *) name.data, line, sizeof(line), &err);

    if (len == 0) {
        err = "its first line is empty";
    }

    if (len < 1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "cannot read the file \"%V\" of "
                           "\"rbgv_auth_redis_password_file\": %s",
                           &name, err);
        return NGX_ERROR;
    }

    rc = ngx_http_rbgv_auth_copy(cf, password, line);

    ngx_explicit_memzero(line, sizeof(line));

    return rc;
}


static ngx_int_t
ngx_http_rbgv_auth_copy(ngx_conf_t *cf, ngx_str_t *dst, const char *src)
{
    dst->len = ngx_strlen(src);

    if (dst->len == 0) {
        return NGX_OK;
    }

    dst->data = ngx_pnalloc(cf->pool, dst->len);
    if (dst->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(dst->data, src, dst->len);

    return NGX_OK;
}


static ngx_uint_t
ngx_http_rbgv_auth_same_store(ngx_rbgv_redis_conf_t *a,
    ngx_rbgv_redis_conf_t *b)
{
    return ngx_http_rbgv_auth_same(&a->name, &b->name)
           && ngx_http_rbgv_auth_same(&a->user, &b->user)
           && ngx_http_rbgv_auth_same(&a->password, &b->password)
           && a->db == b->db
           && a->cluster == b->cluster
           && ngx_http_rbgv_auth_same_host(a->host, b->host)
#if (NGX_SSL)
           && ngx_rbgv_redis_ssl_same(a->ssl, b->ssl)
#endif
           && a->timeout == b->timeout
           && a->connect_timeout == b->connect_timeout;
}


/* the names are the same */

static ngx_uint_t
ngx_http_rbgv_auth_same_host(ngx_rbgv_name_conf_t *a, ngx_rbgv_name_conf_t *b)
{
    if (a == NULL || b == NULL) {
        return a == b;
    }

    return a->resolver == b->resolver && a->timeout == b->timeout;
}


static ngx_uint_t
ngx_http_rbgv_auth_same(ngx_str_t *a, ngx_str_t *b)
{
    return a->len == b->len
           && (a->len == 0 || ngx_memcmp(a->data, b->data, a->len) == 0);
}


char *
ngx_http_rbgv_auth_set_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_rbgv_auth_main_conf_t *amcf = conf;

    ssize_t     size;
    ngx_str_t  *value;

    if (amcf->zone_size != NGX_CONF_UNSET_SIZE) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        amcf->zone_size = 0;
        return NGX_CONF_OK;
    }

    size = ngx_parse_size(&value[1]);

    if (size == NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid size \"%V\" in \"%V\"",
                           &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    if (size < NGX_HTTP_RBGV_AUTH_ZONE_MIN) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "size \"%V\" in \"%V\" is too small: at least %d "
                           "bytes are needed", &value[1], &cmd->name,
                           NGX_HTTP_RBGV_AUTH_ZONE_MIN);
        return NGX_CONF_ERROR;
    }

    amcf->zone_size = size;

    return NGX_CONF_OK;
}


char *
ngx_http_rbgv_auth_set_pepper_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_rbgv_auth_main_conf_t *amcf = conf;

    ngx_str_t  *value;

    if (amcf->pepper_file.data) {
        return "is duplicate";
    }

    value = cf->args->elts;

    amcf->pepper_file = value[1];

    if (cf->args->nelts == 3) {
        amcf->previous_pepper_file = value[2];
    }

    return NGX_CONF_OK;
}


char *
ngx_http_rbgv_auth_set_redis(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_rbgv_auth_loc_conf_t *alcf = conf;

    ngx_str_t   *value;
    rbgv_uri_t   uri;
    const char  *err;

    if (alcf->redis.data) {
        return "is duplicate";
    }

    value = cf->args->elts;

    err = rbgv_uri_parse((const char *) value[1].data, value[1].len, &uri);

    if (err == NULL) {
        alcf->redis = value[1];
        return NGX_CONF_OK;
    }

    /* a password in the address is not for the log */

    if (ngx_strlchr(value[1].data, value[1].data + value[1].len, '@')) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid address in \"%V\", not shown for it may "
                           "hold a password: %s", &cmd->name, err);

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid address \"%V\" in \"%V\": %s",
                           &value[1], &cmd->name, err);
    }

    return NGX_CONF_ERROR;
}


char *
ngx_http_rbgv_auth_set_environment(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_rbgv_auth_loc_conf_t *alcf = conf;

    ngx_str_t   *value, *name;
    ngx_uint_t   i;

    if (alcf->environments != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "any") == 0) {
        alcf->environments = NULL;
        return NGX_CONF_OK;
    }

    alcf->environments = ngx_array_create(cf->pool, cf->args->nelts - 1,
                                          sizeof(ngx_str_t));
    if (alcf->environments == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 1; i < cf->args->nelts; i++) {

        if (!rbgv_environment_valid((const char *) value[i].data,
                                    value[i].len))
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid environment \"%V\" in \"%V\"",
                               &value[i], &cmd->name);
            return NGX_CONF_ERROR;
        }

        name = ngx_array_push(alcf->environments);
        if (name == NULL) {
            return NGX_CONF_ERROR;
        }

        *name = value[i];
    }

    return NGX_CONF_OK;
}


char *
ngx_http_rbgv_auth_set_limit(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_rbgv_auth_loc_conf_t *alcf = conf;

    ngx_str_t                   *value, environment;
    ngx_uint_t                   i;
    const char                  *err;
    rbgv_limit_t                 parsed;
    ngx_http_rbgv_auth_limit_t  *limit;

    value = cf->args->elts;

    if (alcf->limits == NGX_CONF_UNSET_PTR) {
        alcf->limits = ngx_array_create(cf->pool, 2,
                                        sizeof(ngx_http_rbgv_auth_limit_t));
        if (alcf->limits == NULL) {
            return NGX_CONF_ERROR;
        }

        if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
            alcf->limits->nalloc = 0;
            return NGX_CONF_OK;
        }

    } else if (alcf->limits->nalloc == 0) {
        return "is used together with \"off\"";
    }

    if (!rbgv_limit_name_valid((const char *) value[1].data, value[1].len)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid name \"%V\" in \"%V\": it must be "
                           "followed by QUOTAr/WINDOW, and have 1 to 32 "
                           "letters, digits or \"._-\"",
                           &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    if (cf->args->nelts == 2) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no limit follows the name \"%V\" in \"%V\"",
                           &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    err = rbgv_limit_parse((const char *) value[2].data, value[2].len,
                           &parsed);
    if (err) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid limit \"%V\" in \"%V\": %s",
                           &value[2], &cmd->name, err);
        return NGX_CONF_ERROR;
    }

    ngx_str_null(&environment);

    if (cf->args->nelts == 4) {

        if (value[3].len > 12
            && ngx_strncmp(value[3].data, "environment=", 12) == 0)
        {
            environment.data = value[3].data + 12;
            environment.len = value[3].len - 12;
        }

        if (!rbgv_environment_valid((const char *) environment.data,
                                    environment.len))
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\" in \"%V\"",
                               &value[3], &cmd->name);
            return NGX_CONF_ERROR;
        }
    }

    limit = alcf->limits->elts;

    for (i = 0; i < alcf->limits->nelts; i++) {
        if (ngx_http_rbgv_auth_same(&limit[i].name, &value[1])
            && ngx_http_rbgv_auth_same(&limit[i].environment, &environment))
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate name \"%V\" in \"%V\"",
                               &value[1], &cmd->name);
            return NGX_CONF_ERROR;
        }
    }

    if (alcf->limits->nelts == RBGV_LIMITS_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "more than %d limits in \"%V\", at \"%V\"",
                           RBGV_LIMITS_MAX, &cmd->name, &value[1]);
        return NGX_CONF_ERROR;
    }

    limit = ngx_array_push(alcf->limits);
    if (limit == NULL) {
        return NGX_CONF_ERROR;
    }

    limit->name = value[1];
    limit->environment = environment;
    limit->limit = parsed;

    return NGX_CONF_OK;
}


static ngx_http_complex_value_t *
ngx_http_rbgv_auth_compile(ngx_conf_t *cf, ngx_str_t *value)
{
    ngx_http_complex_value_t          *cv;
    ngx_http_compile_complex_value_t   ccv;

    cv = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (cv == NULL) {
        return NULL;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = value;
    ccv.complex_value = cv;

    return ngx_http_compile_complex_value(&ccv) == NGX_OK ? cv : NULL;
}


/* a number or a variable, or the word that turns it off */

char *
ngx_http_rbgv_auth_set_price(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_int_t                   n;
    ngx_str_t                  *value;
    ngx_http_complex_value_t  **price;

    price = (ngx_http_complex_value_t **) (p + cmd->offset);

    if (*price != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cmd->post && ngx_strcmp(value[1].data, cmd->post) == 0) {
        *price = NULL;
        return NGX_CONF_OK;
    }

    *price = ngx_http_rbgv_auth_compile(cf, &value[1]);
    if (*price == NULL) {
        return NGX_CONF_ERROR;
    }

    n = ngx_atoi(value[1].data, value[1].len);

    if ((*price)->lengths == NULL && (n < 0 || n > RBGV_QUOTA_MAX)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid %s \"%V\" in \"%V\"",
                           cmd->post ? "number of credits" : "cost",
                           &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


char *
ngx_http_rbgv_auth_set_lease(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_rbgv_auth_loc_conf_t *alcf = conf;

    ngx_str_t  *value;

    if (alcf->lease != NGX_CONF_UNSET) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        alcf->lease = NGX_HTTP_RBGV_AUTH_LEASE_OFF;
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(value[1].data, "auto") == 0) {
        alcf->lease = NGX_HTTP_RBGV_AUTH_LEASE_AUTO;
        return NGX_CONF_OK;
    }

    alcf->lease = ngx_atoi(value[1].data, value[1].len);

    if (alcf->lease < 1 || alcf->lease > NGX_HTTP_RBGV_AUTH_MAX_LEASE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" in \"%V\": it must be "
                           "\"off\", \"auto\" or a number between 1 and %d",
                           &value[1], &cmd->name,
                           NGX_HTTP_RBGV_AUTH_MAX_LEASE);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


char *
ngx_http_rbgv_auth_set_unavailable(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_rbgv_auth_loc_conf_t *alcf = conf;

    ngx_int_t   stale;
    ngx_str_t  *value, time;

    if (alcf->stale != NGX_CONF_UNSET_MSEC) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "deny") == 0) {
        alcf->stale = 0;
        return NGX_CONF_OK;
    }

    stale = NGX_ERROR;

    if (ngx_strncmp(value[1].data, "stale=", 6) == 0) {
        time.data = value[1].data + 6;
        time.len = value[1].len - 6;

        stale = ngx_parse_time(&time, 0);
    }

    if (stale == NGX_ERROR || stale == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" in \"%V\": it must be "
                           "\"deny\" or \"stale=\" with a time of more than "
                           "0", &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    alcf->stale = stale;

    return NGX_CONF_OK;
}


/* "rbgv_auth_job", and "rbgv_auth_job_record" with a time */

char *
ngx_http_rbgv_auth_set_job(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_rbgv_auth_loc_conf_t *alcf = conf;

    ngx_str_t                  *value;
    ngx_http_complex_value_t  **job;

    job = (ngx_http_complex_value_t **) ((char *) conf + cmd->offset);

    if (*job != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
        *job = NULL;
        return NGX_CONF_OK;
    }

    *job = ngx_http_rbgv_auth_compile(cf, &value[1]);
    if (*job == NULL) {
        return NGX_CONF_ERROR;
    }

    if ((*job)->lengths == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "no variable in the value \"%V\" of \"%V\"",
                           &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    if (cf->args->nelts == 2) {
        return NGX_CONF_OK;
    }

    alcf->job_ttl = ngx_parse_time(&value[2], 1);

    if (alcf->job_ttl == (time_t) NGX_ERROR || alcf->job_ttl == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid time \"%V\" in \"%V\": it must be 1s or "
                           "more", &value[2], &cmd->name);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}
