
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * "rbgv_auth_metrics": counters of all workers, in the text format of
 * Prometheus, version 0.0.4.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_http_rbgv_auth.h"


/* a line with its numbers and the longest names */

#define NGX_HTTP_RBGV_AUTH_METRIC_LEN  128

/* of which there are so many, beside those of the zone's counters */

#define NGX_HTTP_RBGV_AUTH_METRICS     36


static ngx_int_t ngx_http_rbgv_auth_metrics_handler(ngx_http_request_t *r);
static size_t ngx_http_rbgv_auth_metrics_size(
    ngx_http_rbgv_auth_main_conf_t *amcf);
static u_char *ngx_http_rbgv_auth_write_requests(
    ngx_http_rbgv_auth_zone_t *zone, u_char *p);
static u_char *ngx_http_rbgv_auth_write_request(
    ngx_http_rbgv_auth_zone_t *zone, u_char *p, ngx_uint_t status,
    ngx_uint_t source, ngx_uint_t dry_run);
static u_char *ngx_http_rbgv_auth_write_peppers(
    ngx_http_rbgv_auth_zone_t *zone, u_char *p);
static u_char *ngx_http_rbgv_auth_write_redis(
    ngx_http_rbgv_auth_main_conf_t *amcf, u_char *p);
static u_char *ngx_http_rbgv_auth_write_breakers(
    ngx_http_rbgv_auth_main_conf_t *amcf, u_char *p, const char *name,
    ngx_uint_t up);
static u_char *ngx_http_rbgv_auth_write_jobs(ngx_http_rbgv_auth_zone_t *zone,
    u_char *p);
static u_char *ngx_http_rbgv_auth_write_events(
    ngx_http_rbgv_auth_zone_t *zone, u_char *p);
static u_char *ngx_http_rbgv_auth_write_zone(ngx_http_rbgv_auth_zone_t *zone,
    u_char *p);


char *
ngx_http_rbgv_auth_set_metrics(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_rbgv_auth_metrics_handler;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_rbgv_auth_metrics_handler(ngx_http_request_t *r)
{
    ngx_int_t                        rc;
    ngx_buf_t                       *b;
    ngx_chain_t                      out;
    ngx_http_rbgv_auth_main_conf_t  *amcf;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return NGX_HTTP_NOT_ALLOWED;
    }

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    amcf = ngx_http_get_module_main_conf(r, ngx_http_rbgv_auth_module);

    b = ngx_create_temp_buf(r->pool, ngx_http_rbgv_auth_metrics_size(amcf));
    if (b == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b->last = ngx_http_rbgv_auth_write_requests(amcf->zone, b->last);
    b->last = ngx_http_rbgv_auth_write_peppers(amcf->zone, b->last);
    b->last = ngx_http_rbgv_auth_write_redis(amcf, b->last);
    b->last = ngx_http_rbgv_auth_write_jobs(amcf->zone, b->last);
    b->last = ngx_http_rbgv_auth_write_events(amcf->zone, b->last);
    b->last = ngx_http_rbgv_auth_write_zone(amcf->zone, b->last);

    b->last_buf = (r == r->main) ? 1 : 0;
    b->last_in_chain = 1;

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = b->last - b->pos;

    ngx_str_set(&r->headers_out.content_type, "text/plain; version=0.0.4");
    r->headers_out.content_type_len = sizeof("text/plain") - 1;
    r->headers_out.content_type_lowcase = NULL;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


static size_t
ngx_http_rbgv_auth_metrics_size(ngx_http_rbgv_auth_main_conf_t *amcf)
{
    size_t                   size;
    ngx_str_t               *name;
    ngx_uint_t               i;
    ngx_rbgv_redis_conf_t  **stores;

    size = (NGX_HTTP_RBGV_AUTH_KINDS + NGX_HTTP_RBGV_AUTH_METRICS)
           * NGX_HTTP_RBGV_AUTH_METRIC_LEN;

    stores = amcf->stores.elts;

    for (i = 0; i < amcf->stores.nelts; i++) {
        name = &stores[i]->name;

        size += 2 * (NGX_HTTP_RBGV_AUTH_METRIC_LEN + name->len
                     + ngx_escape_json(NULL, name->data, name->len));
    }

    return size;
}


static u_char *
ngx_http_rbgv_auth_write_requests(ngx_http_rbgv_auth_zone_t *zone, u_char *p)
{
    ngx_uint_t  dry_run, status, source;

    p = ngx_sprintf(p, "# HELP rbgv_auth_requests_total Decisions, by outcome "
                    "and by what they came from.\n"
                    "# TYPE rbgv_auth_requests_total counter\n");

    for (dry_run = 0; dry_run < 2; dry_run++) {
        for (status = NGX_HTTP_RBGV_AUTH_PASSED;
             status < NGX_HTTP_RBGV_AUTH_STATUSES;
             status++)
        {
            for (source = 0; source < NGX_HTTP_RBGV_AUTH_SOURCES; source++) {
                p = ngx_http_rbgv_auth_write_request(zone, p, status, source,
                                                     dry_run);
            }
        }
    }

    return p;
}


static u_char *
ngx_http_rbgv_auth_write_request(ngx_http_rbgv_auth_zone_t *zone, u_char *p,
    ngx_uint_t status, ngx_uint_t source, ngx_uint_t dry_run)
{
    uint64_t    n;
    ngx_str_t  *name, request = ngx_string("request");

    n = ngx_http_rbgv_auth_zone_tallied(zone,
                           ngx_http_rbgv_auth_kind(status, source, dry_run));
    if (n == 0) {
        return p;
    }

    name = source ? &ngx_http_rbgv_auth_sources[source] : &request;

    return ngx_sprintf(p, "rbgv_auth_requests_total{outcome=\"%V%s\","
                       "source=\"%V\"} %uL\n",
                       &ngx_http_rbgv_auth_outcomes[status].name,
                       dry_run ? "_DRY_RUN" : "", name, n);
}


static u_char *
ngx_http_rbgv_auth_write_peppers(ngx_http_rbgv_auth_zone_t *zone, u_char *p)
{
    uint64_t  n;

    n = ngx_http_rbgv_auth_zone_tallied(zone,
                                        NGX_HTTP_RBGV_AUTH_PREVIOUS_PEPPER);

    return ngx_sprintf(p, "# HELP rbgv_auth_pepper_requests_total Requests "
                       "whose key was found by that pepper.\n"
                       "# TYPE rbgv_auth_pepper_requests_total counter\n"
                       "rbgv_auth_pepper_requests_total"
                       "{pepper=\"previous\"} %uL\n", n);
}


static u_char *
ngx_http_rbgv_auth_write_redis(ngx_http_rbgv_auth_main_conf_t *amcf,
    u_char *p)
{
    ngx_uint_t  i;

    static const char  *errors[] = {
        "connect", "login", "timeout", "lost", "reply", "error"
    };

    p = ngx_sprintf(p, "# HELP rbgv_auth_degraded_requests_total Decisions "
                    "made without Redis, by how.\n"
                    "# TYPE rbgv_auth_degraded_requests_total counter\n");

    for (i = 0; i < NGX_HTTP_RBGV_AUTH_MODES; i++) {
        p = ngx_sprintf(p, "rbgv_auth_degraded_requests_total{mode=\"%V\"} "
                        "%uL\n", &ngx_http_rbgv_auth_modes[i],
                        ngx_http_rbgv_auth_zone_tallied(amcf->zone,
                                      NGX_HTTP_RBGV_AUTH_KIND_MODES + i));
    }

    p = ngx_sprintf(p, "# HELP rbgv_auth_redis_errors_total What went wrong "
                    "with Redis.\n"
                    "# TYPE rbgv_auth_redis_errors_total counter\n");

    for (i = 0; i < NGX_HTTP_RBGV_AUTH_ERRORS; i++) {
        p = ngx_sprintf(p, "rbgv_auth_redis_errors_total{kind=\"%s\"} %uL\n",
                        errors[i],
                        ngx_http_rbgv_auth_zone_tallied(amcf->zone,
                                     NGX_HTTP_RBGV_AUTH_KIND_ERRORS + i));
    }

    p = ngx_sprintf(p, "# HELP rbgv_auth_redis_up 1 if no breaker is open.\n"
                    "# TYPE rbgv_auth_redis_up gauge\n");

    p = ngx_http_rbgv_auth_write_breakers(amcf, p, "up", 1);

    p = ngx_sprintf(p, "# HELP rbgv_auth_redis_breakers_open Workers that "
                    "wait for Redis to come back.\n"
                    "# TYPE rbgv_auth_redis_breakers_open gauge\n");

    return ngx_http_rbgv_auth_write_breakers(amcf, p, "breakers_open", 0);
}


/* a line for each store; those that differ in their login only are one */

static u_char *
ngx_http_rbgv_auth_write_breakers(ngx_http_rbgv_auth_main_conf_t *amcf,
    u_char *p, const char *name, ngx_uint_t up)
{
    ngx_uint_t                   i, k, n;
    ngx_http_rbgv_auth_store_t  *stores;

    for (i = 0; i < amcf->stores.nelts; i++) {
        stores = amcf->worker->stores;

        for (k = 0; stores[k].index != stores[i].index; k++) {
            /* void */
        }

        if (k < i) {
            continue;
        }

        n = ngx_http_rbgv_auth_zone_breakers(amcf->zone, stores[i].index);

        p = ngx_sprintf(p, "rbgv_auth_redis_%s{store=\"", name);
        p = (u_char *) ngx_escape_json(p, stores[i].conf->name.data,
                                       stores[i].conf->name.len);
        p = ngx_sprintf(p, "\",db=\"%ui\"} %ui\n", stores[i].conf->db,
                        up ? (n == 0) : n);
    }

    return p;
}


static u_char *
ngx_http_rbgv_auth_write_jobs(ngx_http_rbgv_auth_zone_t *zone, u_char *p)
{
    uint64_t    n;
    ngx_uint_t  i;

    /* in the order of ngx_http_rbgv_auth_job_result_e */
    static const char  *results[] = { "stored", "retried", "lost",
                                      "conflict" };

    p = ngx_sprintf(p, "# HELP rbgv_auth_job_records_total Records of new "
                    "jobs, by what became of them.\n"
                    "# TYPE rbgv_auth_job_records_total counter\n");

    for (i = 0; i < NGX_HTTP_RBGV_AUTH_JOB_RESULTS; i++) {
        n = ngx_http_rbgv_auth_zone_tallied(zone,
                                    NGX_HTTP_RBGV_AUTH_KIND_JOB_RECORDS + i);

        p = ngx_sprintf(p, "rbgv_auth_job_records_total{result=\"%s\"} "
                        "%uL\n", results[i], n);
    }

    return p;
}


static u_char *
ngx_http_rbgv_auth_write_events(ngx_http_rbgv_auth_zone_t *zone, u_char *p)
{
    uint64_t  written, lost;

    written = ngx_http_rbgv_auth_zone_tallied(zone,
                                          NGX_HTTP_RBGV_AUTH_KIND_EVENTS
                                          + NGX_HTTP_RBGV_AUTH_EVENT_WRITTEN);
    lost = ngx_http_rbgv_auth_zone_tallied(zone,
                                           NGX_HTTP_RBGV_AUTH_KIND_EVENTS
                                           + NGX_HTTP_RBGV_AUTH_EVENT_LOST);

    return ngx_sprintf(p, "# HELP rbgv_auth_events_total Events, by what "
                       "became of them.\n"
                       "# TYPE rbgv_auth_events_total counter\n"
                       "rbgv_auth_events_total{result=\"written\"} %uL\n"
                       "rbgv_auth_events_total{result=\"lost\"} %uL\n",
                       written, lost);
}


static u_char *
ngx_http_rbgv_auth_write_zone(ngx_http_rbgv_auth_zone_t *zone, u_char *p)
{
    ngx_uint_t  used, capacity;

    ngx_http_rbgv_auth_zone_size(zone, &used, &capacity);

    return ngx_sprintf(p, "# HELP rbgv_auth_zone_keys Records in the zone.\n"
                       "# TYPE rbgv_auth_zone_keys gauge\n"
                       "rbgv_auth_zone_keys %ui\n"
                       "# HELP rbgv_auth_zone_capacity Records that fit in.\n"
                       "# TYPE rbgv_auth_zone_capacity gauge\n"
                       "rbgv_auth_zone_capacity %ui\n", used, capacity);
}
