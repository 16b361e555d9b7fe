
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

#define NGX_HTTP_RBGV_AUTH_METRICS     64


/* writes the value of a store; NULL: it has none */

typedef u_char *(*ngx_http_rbgv_auth_gauge_pt)(u_char *p,
    ngx_http_rbgv_auth_zone_t *zone, uint32_t store);


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
static u_char *ngx_http_rbgv_auth_write_times(ngx_http_rbgv_auth_zone_t *zone,
    u_char *p);
static u_char *ngx_http_rbgv_auth_write_stores(
    ngx_http_rbgv_auth_main_conf_t *amcf, u_char *p, const char *name,
    ngx_http_rbgv_auth_gauge_pt gauge);
static ngx_http_rbgv_auth_store_t *ngx_http_rbgv_auth_find_store(
    ngx_http_rbgv_auth_main_conf_t *amcf, uint32_t index);
static u_char *ngx_http_rbgv_auth_write_labels(u_char *p,
    ngx_http_rbgv_auth_store_t *store);
static u_char *ngx_http_rbgv_auth_write_up(u_char *p,
    ngx_http_rbgv_auth_zone_t *zone, uint32_t store);
static u_char *ngx_http_rbgv_auth_write_breakers(u_char *p,
    ngx_http_rbgv_auth_zone_t *zone, uint32_t store);
static u_char *ngx_http_rbgv_auth_write_lag(u_char *p,
    ngx_http_rbgv_auth_zone_t *zone, uint32_t store);
static u_char *ngx_http_rbgv_auth_write_jobs(ngx_http_rbgv_auth_zone_t *zone,
    u_char *p);
static u_char *ngx_http_rbgv_auth_write_events(
    ngx_http_rbgv_auth_zone_t *zone, u_char *p);
static u_char *ngx_http_rbgv_auth_write_zone(ngx_http_rbgv_auth_zone_t *zone,
    u_char *p);
static u_char *ngx_http_rbgv_auth_write_keys(
    ngx_http_rbgv_auth_main_conf_t *amcf, u_char *p);


/* the ends of buckets, in microseconds, and in seconds as they are told */

static const struct {
    int64_t      end;
    const char  *le;
} ngx_http_rbgv_auth_times[NGX_HTTP_RBGV_AUTH_TIMES] = {
    { 100, "0.0001" },
    { 250, "0.00025" },
    { 500, "0.0005" },
    { 1000, "0.001" },
    { 2500, "0.0025" },
    { 5000, "0.005" },
    { 10000, "0.01" },
    { 25000, "0.025" },
    { 50000, "0.05" },
    { 100000, "0.1" },
    { 250000, "0.25" },
    { 1000000, "1" },
    { INT64_MAX, "+Inf" }
};


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
    b->last = ngx_http_rbgv_auth_write_times(amcf->zone, b->last);
    b->last = ngx_http_rbgv_auth_write_jobs(amcf->zone, b->last);
    b->last = ngx_http_rbgv_auth_write_events(amcf->zone, b->last);
    b->last = ngx_http_rbgv_auth_write_zone(amcf->zone, b->last);
    b->last = ngx_http_rbgv_auth_write_keys(amcf, b->last);

    ngx_str_set(&r->headers_out.content_type, "text/plain; version=0.0.4");
    r->headers_out.content_type_len = sizeof("text/plain") - 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_rbgv_auth_send(r, NGX_HTTP_OK, &out);
}


static size_t
ngx_http_rbgv_auth_metrics_size(ngx_http_rbgv_auth_main_conf_t *amcf)
{
    size_t                   len, longest;
    ngx_str_t               *name;
    ngx_uint_t               i;
    ngx_rbgv_redis_conf_t  **stores;

    stores = amcf->stores.elts;
    longest = 0;

    for (i = 0; i < amcf->stores.nelts; i++) {
        name = &stores[i]->name;
        len = name->len + ngx_escape_json(NULL, name->data, name->len);
        longest = ngx_max(longest, len);
    }

    /* three lines for a store, and one for each of the keys */

    return (NGX_HTTP_RBGV_AUTH_KINDS + NGX_HTTP_RBGV_AUTH_METRICS)
           * NGX_HTTP_RBGV_AUTH_METRIC_LEN
           + (3 * amcf->stores.nelts + NGX_HTTP_RBGV_AUTH_BUSIEST)
             * (NGX_HTTP_RBGV_AUTH_METRIC_LEN + longest);
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

    p = ngx_http_rbgv_auth_write_stores(amcf, p, "redis_up",
                                        ngx_http_rbgv_auth_write_up);

    p = ngx_sprintf(p, "# HELP rbgv_auth_redis_breakers_open Workers that "
                    "wait for Redis to come back.\n"
                    "# TYPE rbgv_auth_redis_breakers_open gauge\n");

    p = ngx_http_rbgv_auth_write_stores(amcf, p, "redis_breakers_open",
                                        ngx_http_rbgv_auth_write_breakers);

    p = ngx_sprintf(p, "# HELP rbgv_auth_revocation_lag_seconds Time since "
                    "Redis was known to have told all changes of keys.\n"
                    "# TYPE rbgv_auth_revocation_lag_seconds gauge\n");

    return ngx_http_rbgv_auth_write_stores(amcf, p, "revocation_lag_seconds",
                                           ngx_http_rbgv_auth_write_lag);
}


/* a line for each store; those that differ in their login only are one */

static u_char *
ngx_http_rbgv_auth_write_stores(ngx_http_rbgv_auth_main_conf_t *amcf,
    u_char *p, const char *name, ngx_http_rbgv_auth_gauge_pt gauge)
{
    u_char                      *value, text[NGX_HTTP_RBGV_AUTH_METRIC_LEN];
    ngx_uint_t                   i;
    ngx_http_rbgv_auth_store_t  *store;

    for (i = 0; i < amcf->stores.nelts; i++) {
        store = &amcf->worker->stores[i];

        if (ngx_http_rbgv_auth_find_store(amcf, store->index) != store) {
            continue;
        }

        value = gauge(text, amcf->zone, store->index);

        if (value) {
            p = ngx_sprintf(p, "rbgv_auth_%s{", name);
            p = ngx_http_rbgv_auth_write_labels(p, store);
            p = ngx_sprintf(p, "} %*s\n", (size_t) (value - text), text);
        }
    }

    return p;
}


/* the first one of that index in the zone */

static ngx_http_rbgv_auth_store_t *
ngx_http_rbgv_auth_find_store(ngx_http_rbgv_auth_main_conf_t *amcf,
    uint32_t index)
{
    ngx_uint_t  i;

    for (i = 0; i < amcf->stores.nelts; i++) {
        if (amcf->worker->stores[i].index == index) {
            return &amcf->worker->stores[i];
        }
    }

    return NULL;
}


static u_char *
ngx_http_rbgv_auth_write_labels(u_char *p, ngx_http_rbgv_auth_store_t *store)
{
    p = ngx_sprintf(p, "store=\"");
    p = (u_char *) ngx_escape_json(p, store->conf->name.data,
                                   store->conf->name.len);

    return ngx_sprintf(p, "\",db=\"%ui\"", store->conf->db);
}


static u_char *
ngx_http_rbgv_auth_write_up(u_char *p, ngx_http_rbgv_auth_zone_t *zone,
    uint32_t store)
{
    return ngx_sprintf(p, "%d",
                       ngx_http_rbgv_auth_zone_breakers(zone, store) == 0);
}


static u_char *
ngx_http_rbgv_auth_write_breakers(u_char *p, ngx_http_rbgv_auth_zone_t *zone,
    uint32_t store)
{
    return ngx_sprintf(p, "%ui",
                       ngx_http_rbgv_auth_zone_breakers(zone, store));
}


static u_char *
ngx_http_rbgv_auth_write_lag(u_char *p, ngx_http_rbgv_auth_zone_t *zone,
    uint32_t store)
{
    ngx_msec_int_t  lag;

    lag = ngx_http_rbgv_auth_zone_lag(zone, store);

    return lag < 0 ? NULL : ngx_sprintf(p, "%T.%03M", (time_t) (lag / 1000),
                                        (ngx_msec_t) lag % 1000);
}


void
ngx_http_rbgv_auth_tally_command(void *data, int64_t time)
{
    ngx_http_rbgv_auth_store_t *store = data;

    ngx_uint_t                  i;
    ngx_http_rbgv_auth_zone_t  *zone;

    zone = store->worker->conf->zone;

    if (time < 0) {
        ngx_http_rbgv_auth_zone_tally(zone,
                                      NGX_HTTP_RBGV_AUTH_KIND_UNANSWERED);
        return;
    }

    for (i = 0; time > ngx_http_rbgv_auth_times[i].end; i++) { /* void */ }

    ngx_http_rbgv_auth_zone_tally(zone, NGX_HTTP_RBGV_AUTH_KIND_TIMES + i);
    ngx_http_rbgv_auth_zone_tally_by(zone, NGX_HTTP_RBGV_AUTH_KIND_TIME, time);
}


static u_char *
ngx_http_rbgv_auth_write_times(ngx_http_rbgv_auth_zone_t *zone, u_char *p)
{
    uint64_t    n, sum;
    ngx_uint_t  i;

    /* of what is counted meanwhile, the sum is to have no more than a bucket */

    sum = ngx_http_rbgv_auth_zone_tallied(zone, NGX_HTTP_RBGV_AUTH_KIND_TIME);
    n = 0;

    p = ngx_sprintf(p, "# HELP rbgv_auth_redis_duration_seconds Time from a "
                    "command to its reply.\n"
                    "# TYPE rbgv_auth_redis_duration_seconds histogram\n");

    for (i = 0; i < NGX_HTTP_RBGV_AUTH_TIMES; i++) {
        n += ngx_http_rbgv_auth_zone_tallied(zone,
                                         NGX_HTTP_RBGV_AUTH_KIND_TIMES + i);

        p = ngx_sprintf(p, "rbgv_auth_redis_duration_seconds_bucket"
                        "{le=\"%s\"} %uL\n", ngx_http_rbgv_auth_times[i].le,
                        n);
    }

    p = ngx_sprintf(p, "rbgv_auth_redis_duration_seconds_sum %uL.%06uL\n"
                    "rbgv_auth_redis_duration_seconds_count %uL\n",
                    sum / 1000000, sum % 1000000, n);

    return ngx_sprintf(p, "# HELP rbgv_auth_redis_commands_total Commands, "
                       "with a reply or without.\n"
                       "# TYPE rbgv_auth_redis_commands_total counter\n"
                       "rbgv_auth_redis_commands_total %uL\n",
                       n + ngx_http_rbgv_auth_zone_tallied(zone,
                                        NGX_HTTP_RBGV_AUTH_KIND_UNANSWERED));
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
    ngx_http_rbgv_auth_size_t  size;

    ngx_http_rbgv_auth_zone_size(zone, &size);

    p = ngx_sprintf(p, "# HELP rbgv_auth_zone_keys Records in the zone.\n"
                    "# TYPE rbgv_auth_zone_keys gauge\n"
                    "rbgv_auth_zone_keys %ui\n"
                    "# HELP rbgv_auth_zone_capacity Records that fit in.\n"
                    "# TYPE rbgv_auth_zone_capacity gauge\n"
                    "rbgv_auth_zone_capacity %ui\n",
                    size.used, size.capacity);

    return ngx_sprintf(p, "# HELP rbgv_auth_zone_evictions_total Records "
                       "that made room for others.\n"
                       "# TYPE rbgv_auth_zone_evictions_total counter\n"
                       "rbgv_auth_zone_evictions_total %uL\n"
                       "# HELP rbgv_auth_zone_full_total Records that found "
                       "no room.\n"
                       "# TYPE rbgv_auth_zone_full_total counter\n"
                       "rbgv_auth_zone_full_total %uL\n",
                       size.evictions, size.unkept);
}


static u_char *
ngx_http_rbgv_auth_write_keys(ngx_http_rbgv_auth_main_conf_t *amcf, u_char *p)
{
    uint64_t                       others;
    ngx_uint_t                     i;
    ngx_http_rbgv_auth_busy_t     *key;
    ngx_http_rbgv_auth_store_t    *store;
    ngx_http_rbgv_auth_traffic_t   traffic;

    ngx_http_rbgv_auth_zone_traffic(amcf->zone, &traffic);

    others = traffic.requests;

    p = ngx_sprintf(p, "# HELP rbgv_auth_key_requests Requests of the busiest "
                    "keys in the last whole minute.\n"
                    "# TYPE rbgv_auth_key_requests gauge\n");

    for (i = 0; i < traffic.nkeys; i++) {
        key = &traffic.keys[i];
        store = ngx_http_rbgv_auth_find_store(amcf, key->place.store);

        /* a store of before a reload */

        if (store == NULL) {
            continue;
        }

        p = ngx_sprintf(p, "rbgv_auth_key_requests{key=\"%*s\",",
                        (size_t) RBGV_ID_LEN, key->place.id);
        p = ngx_http_rbgv_auth_write_labels(p, store);
        p = ngx_sprintf(p, "} %uL\n", key->requests);

        others -= key->requests;
    }

    return ngx_sprintf(p, "rbgv_auth_key_requests{key=\"other\"} %uL\n",
                       others);
}
