
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_rbgv_auth.h"


#if (NGX_SSL)


void
ngx_http_rbgv_auth_init_ssl(ngx_rbgv_redis_ssl_t *conf)
{
    /*
     * set by ngx_pcalloc():
     *
     *     conf->trusted_certificate = { 0, NULL };
     *     conf->crl = { 0, NULL };
     *     conf->name = { 0, NULL };
     *     conf->certificate = { 0, NULL };
     *     conf->certificate_key = { 0, NULL };
     *     conf->protocols = 0;
     *     conf->ciphers = { 0, NULL };
     */

    conf->verify = NGX_CONF_UNSET;
    conf->verify_depth = NGX_CONF_UNSET_UINT;
    conf->server_name = NGX_CONF_UNSET;
    conf->passwords = NGX_CONF_UNSET_PTR;
    conf->conf_commands = NGX_CONF_UNSET_PTR;
    conf->session_reuse = NGX_CONF_UNSET;
}


ngx_uint_t
ngx_http_rbgv_auth_has_ssl(ngx_rbgv_redis_ssl_t *conf)
{
    ngx_rbgv_redis_ssl_t  unset;

    ngx_memzero(&unset, sizeof(ngx_rbgv_redis_ssl_t));
    ngx_http_rbgv_auth_init_ssl(&unset);

    return ngx_memcmp(conf, &unset, sizeof(ngx_rbgv_redis_ssl_t)) != 0;
}


/* settings that nothing uses may be meant for a store that has no TLS */

void
ngx_http_rbgv_auth_check_ssl(ngx_conf_t *cf)
{
    ngx_uint_t                        i;
    ngx_rbgv_redis_conf_t           **stores;
    ngx_http_rbgv_auth_loc_conf_t    *alcf;
    ngx_http_rbgv_auth_main_conf_t   *amcf;

    alcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_rbgv_auth_module);
    amcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_rbgv_auth_module);

    if (amcf->stores.nelts == 0
        || (!amcf->has_ssl && !ngx_http_rbgv_auth_has_ssl(&alcf->ssl)))
    {
        return;
    }

    stores = amcf->stores.elts;

    for (i = 0; i < amcf->stores.nelts; i++) {
        if (stores[i]->ssl) {
            return;
        }
    }

    ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                       "\"rbgv_auth_redis_ssl_*\" have no effect: no "
                       "\"rbgv_auth_redis\" in use is \"rediss://\", and what "
                       "is sent to Redis is not encrypted");
}


void
ngx_http_rbgv_auth_merge_ssl(ngx_rbgv_redis_ssl_t *conf,
    ngx_rbgv_redis_ssl_t *prev, ngx_uint_t own)
{
    static ngx_rbgv_redis_ssl_t  none = { .passwords = NGX_CONF_UNSET_PTR };

    ngx_conf_merge_value(conf->verify, prev->verify, 1);
    ngx_conf_merge_uint_value(conf->verify_depth, prev->verify_depth, 1);
    ngx_conf_merge_str_value(conf->trusted_certificate,
                             prev->trusted_certificate, "");
    ngx_conf_merge_str_value(conf->crl, prev->crl, "");
    ngx_conf_merge_value(conf->server_name, prev->server_name, 1);
    ngx_conf_merge_bitmask_value(conf->protocols, prev->protocols,
                                 (NGX_CONF_BITMASK_SET
                                  |NGX_SSL_TLSv1_2|NGX_SSL_TLSv1_3));
    ngx_conf_merge_str_value(conf->ciphers, prev->ciphers, "DEFAULT");
    ngx_conf_merge_ptr_value(conf->conf_commands, prev->conf_commands, NULL);
    ngx_conf_merge_value(conf->session_reuse, prev->session_reuse, 1);

    /* what one store is known by, and told, is not for another */

    if (own) {
        prev = &none;
    }

    ngx_conf_merge_str_value(conf->name, prev->name, "");
    ngx_conf_merge_str_value(conf->certificate, prev->certificate, "");
    ngx_conf_merge_str_value(conf->certificate_key, prev->certificate_key,
                             "");
    ngx_conf_merge_ptr_value(conf->passwords, prev->passwords, NULL);
}


ngx_rbgv_redis_ssl_t *
ngx_http_rbgv_auth_store_ssl(ngx_conf_t *cf,
    ngx_http_rbgv_auth_loc_conf_t *conf, const char *host)
{
    u_char                *p;
    ngx_rbgv_redis_ssl_t  *ssl;

    ssl = ngx_palloc(cf->pool, sizeof(ngx_rbgv_redis_ssl_t));
    if (ssl == NULL) {
        return NULL;
    }

    *ssl = conf->ssl;

    if (ssl->name.len) {
        return ssl;
    }

    ssl->name.len = ngx_strlen(host);

    p = ngx_pnalloc(cf->pool, ssl->name.len + 1);
    if (p == NULL) {
        return NULL;
    }

    (void) ngx_cpystrn(p, (u_char *) host, ssl->name.len + 1);

    ssl->name.data = p;

    return ssl;
}


char *
ngx_http_rbgv_auth_set_ssl_passwords(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_rbgv_auth_loc_conf_t *alcf = conf;

    ngx_str_t  *value;

    if (alcf->ssl.passwords != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    alcf->ssl.passwords = ngx_ssl_read_password_file(cf, &value[1]);

    return alcf->ssl.passwords ? NGX_CONF_OK : NGX_CONF_ERROR;
}


#endif /* NGX_SSL */
