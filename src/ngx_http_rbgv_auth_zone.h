
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * What the workers of a host share: records of keys as Redis has them, ids
 * that Redis does not know, permits that Redis has deducted already.  It
 * knows nothing of HTTP, nor of the Redis client.
 *
 * Times are milliseconds of CLOCK_MONOTONIC, as ngx_current_msec is, but read
 * at the moment: ngx_http_rbgv_auth_now().
 */


#ifndef _NGX_HTTP_RBGV_AUTH_ZONE_H_INCLUDED_
#define _NGX_HTTP_RBGV_AUTH_ZONE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "rbgv_key.h"
#include "rbgv_limit.h"


#define NGX_HTTP_RBGV_AUTH_SECRETS   3       /* of a record that is kept */
#define NGX_HTTP_RBGV_AUTH_LEASES    2       /* of a record */
#define NGX_HTTP_RBGV_AUTH_WINDOWS   4       /* of a lease */
#define NGX_HTTP_RBGV_AUTH_TEXT      184     /* bytes, of one in the zone */
#define NGX_HTTP_RBGV_AUTH_TEXT_MAX  1024    /* bytes, of any */

#define NGX_HTTP_RBGV_AUTH_BUSIEST   20      /* keys that are told */
#define NGX_HTTP_RBGV_AUTH_TALLIES   192     /* kinds of what is counted */

#define NGX_HTTP_RBGV_AUTH_TRUST     900     /* milliseconds */
#define NGX_HTTP_RBGV_AUTH_MAX_AGE   300000
#define NGX_HTTP_RBGV_AUTH_NEGATIVE  10000
#define NGX_HTTP_RBGV_AUTH_IDLE      5000    /* after that a lease is ended */


/*
 * A key as Redis has it, in a fixed size.  Its text stands beside it: name,
 * environment, owner, and limits, each its length, its name, rbgv_limit_t.
 */

typedef struct {
    int64_t          expires;                /* seconds; 0: never */
    int64_t          credits;                /* granted in all; -1: none */
    int64_t          secret_expires[NGX_HTTP_RBGV_AUTH_SECRETS];
    u_char           digest[NGX_HTTP_RBGV_AUTH_SECRETS][RBGV_DIGEST_LEN];
    u_char           secret_disabled[NGX_HTTP_RBGV_AUTH_SECRETS];
    u_char           nsecrets;
    u_char           disabled;
    u_char           nlimits;
    u_char           name_len;
    u_char           environment_len;
    u_char           owner_len;
    uint16_t         text_len;
} ngx_http_rbgv_auth_record_t;


/* where a key is: an id in a store */

typedef struct {
    uint32_t         store;                  /* index in the zone */
    u_char           id[RBGV_ID_LEN];
} ngx_http_rbgv_auth_place_t;


/* taken before a read is sent, shown when its reply is to be stored */

typedef struct {
    uint32_t         epoch;
    uint32_t         invalidations;
} ngx_http_rbgv_auth_ticket_t;


typedef struct {
    uint32_t         permits;
    uint32_t         rate;                   /* uses a second, lately */
    uint64_t         granted;                /* Redis time, microseconds */
    ngx_msec_t       expires;
    ngx_msec_t       renewal;                /* from then on, before that */
    ngx_msec_t       refused_until;          /* without asking again */
    ngx_msec_t       retry_at;               /* what the client is told */
    uint32_t         price;                  /* in credits */
    uint32_t         broke;                  /* not enough credits */
    uint32_t         nwindows;
    uint32_t         seconds[NGX_HTTP_RBGV_AUTH_WINDOWS];
    uint32_t         remaining[NGX_HTTP_RBGV_AUTH_WINDOWS];
    uint32_t         reset[NGX_HTTP_RBGV_AUTH_WINDOWS];   /* milliseconds */

    /* what an earlier grant has left that is to be given back */

    uint32_t         unused;
    uint64_t         unused_granted;
} ngx_http_rbgv_auth_grant_t;


/* what there is to tell Redis of a key */

typedef enum {
    NGX_HTTP_RBGV_AUTH_REPORT_COUNTS = 0,    /* and permits that expired */
    NGX_HTTP_RBGV_AUTH_REPORT_ENDED,         /* if it has ended, or is idle */
    NGX_HTTP_RBGV_AUTH_REPORT_ALL            /* permits as well */
} ngx_http_rbgv_auth_report_e;


typedef struct {
    uint32_t         unused;                 /* permits to give back */
    uint64_t         granted;
    uint32_t         limited;
    uint32_t         broke;
    uint32_t         jobs;                   /* refused for no such job */
    uint64_t         refund;                 /* credits to give back */
    uint32_t         used[NGX_HTTP_RBGV_AUTH_SECRETS];
    u_char           digest[NGX_HTTP_RBGV_AUTH_SECRETS][8];
    uint32_t         nsecrets;
    ngx_msec_t       ends;                   /* the lease; 0: has ended */
} ngx_http_rbgv_auth_report_t;


/* what is counted on this host for want of Redis, and what came of it */

typedef struct {
    uint32_t         name;                   /* of the window, as a number */
    uint32_t         quota;
    uint32_t         window;                 /* seconds */
    uint32_t         remaining;
    uint32_t         reset;                  /* milliseconds */
} ngx_http_rbgv_auth_quota_t;


typedef struct {
    uint32_t                    cost;
    uint64_t                    retry;       /* milliseconds */
    ngx_uint_t                  nquotas;
    ngx_http_rbgv_auth_quota_t  quotas[RBGV_LIMITS_MAX];
} ngx_http_rbgv_auth_count_t;


/* records in the zone, and how many it has room for */

typedef struct {
    ngx_uint_t       used;
    ngx_uint_t       capacity;
    uint64_t         evictions;
    uint64_t         unkept;                 /* no other one could go */
} ngx_http_rbgv_auth_size_t;


/* requests of good keys in a minute */

typedef struct {
    ngx_http_rbgv_auth_place_t  place;
    uint64_t                    requests;
} ngx_http_rbgv_auth_busy_t;


typedef struct {
    uint64_t                    requests;    /* of all keys */
    ngx_uint_t                  nkeys;
    ngx_http_rbgv_auth_busy_t   keys[NGX_HTTP_RBGV_AUTH_BUSIEST];
} ngx_http_rbgv_auth_traffic_t;


typedef struct ngx_http_rbgv_auth_zone_s   ngx_http_rbgv_auth_zone_t;
typedef struct ngx_http_rbgv_auth_local_s  ngx_http_rbgv_auth_local_t;


ngx_http_rbgv_auth_zone_t *ngx_http_rbgv_auth_zone_add(ngx_conf_t *cf,
    ngx_str_t *name, size_t size, void *tag);

/*
 * The index of a store in the zone, by what tells it from others; the same
 * over a reload.  Of one that has no place, zone_has() is 0: nothing of it is
 * ever kept.
 */
uint32_t ngx_http_rbgv_auth_zone_store(ngx_http_rbgv_auth_zone_t *zone,
    uint32_t tag);
ngx_uint_t ngx_http_rbgv_auth_zone_has(uint32_t store);

ngx_msec_t ngx_http_rbgv_auth_now(void);

/* for lines of memory that are read soon, one after the other */

static ngx_inline void
ngx_http_rbgv_auth_prefetch(void *p, size_t size)
{
#if (__GNUC__)
    size_t  n;

    for (n = 0; n < size; n += 64) {
        __builtin_prefetch((u_char *) p + n);
    }
#endif
}


/*
 * NGX_OK: the record is copied, *node is where it is.  NGX_DECLINED: Redis
 * does not know the id.  NGX_AGAIN: it is to be read, with this ticket.
 * NGX_BUSY: another worker is reading it.  NGX_ABORT: the zone can not be
 * trusted now, and nothing is to be stored.
 */
ngx_int_t ngx_http_rbgv_auth_zone_find(ngx_http_rbgv_auth_zone_t *zone,
    ngx_msec_t now, ngx_http_rbgv_auth_place_t *place,
    ngx_http_rbgv_auth_record_t *record,
    u_char text[NGX_HTTP_RBGV_AUTH_TEXT], uint32_t *node,
    ngx_http_rbgv_auth_ticket_t *ticket);

/*
 * record NULL: Redis does not know the id.  Returns the node; or 0 if the
 * record was not kept, since its text is too long, or the ticket too old or
 * none.  What differs from it is not kept any longer either.
 */
uint32_t ngx_http_rbgv_auth_zone_keep(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place, ngx_http_rbgv_auth_record_t *record,
    u_char *text, ngx_http_rbgv_auth_ticket_t *ticket);

/*
 * The record as it was last known, if it was known to be true less than so
 * many milliseconds ago and nothing else was heard of it.  NGX_OK, or
 * NGX_DECLINED.
 */
ngx_int_t ngx_http_rbgv_auth_zone_stale(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place, ngx_msec_t age,
    ngx_http_rbgv_auth_record_t *record,
    u_char text[NGX_HTTP_RBGV_AUTH_TEXT], uint32_t *node);

/* a read that was announced by NGX_AGAIN has failed */
void ngx_http_rbgv_auth_zone_unread(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place);


/*
 * Takes a permit of the lease of a set of windows.  NGX_OK: taken, *refill is
 * 1 if this caller is to get more.  NGX_DECLINED: refused until
 * grant->refused_until.  NGX_AGAIN: Redis is to be asked.
 */
ngx_int_t ngx_http_rbgv_auth_zone_take(ngx_http_rbgv_auth_zone_t *zone,
    ngx_msec_t now, ngx_http_rbgv_auth_place_t *place, uint32_t node,
    uint64_t set, ngx_uint_t secret, uint32_t cost,
    ngx_http_rbgv_auth_grant_t *grant, ngx_uint_t *refill);

/*
 * Adds what Redis has granted beyond what was waited for.  NGX_AGAIN: added,
 * and the caller is to watch the lease, to tell of it when it has expired.
 * NGX_DECLINED: there is no room for it, it is to be given back.
 */
ngx_int_t ngx_http_rbgv_auth_zone_grant(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place, uint32_t node, uint64_t set,
    ngx_http_rbgv_auth_grant_t *grant);

/*
 * How many permits to ask for so that the lease has no more than a block of
 * them: all that is missing, or what suffices at the rate they went last.
 * 0 if there is no room for another lease.
 */
uint32_t ngx_http_rbgv_auth_zone_want(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place, uint32_t node, uint64_t set,
    uint32_t block, ngx_uint_t all);

/* takes out what is to be told; returns 1 if there is anything */
ngx_uint_t ngx_http_rbgv_auth_zone_report(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place, uint32_t node, uint64_t set,
    ngx_http_rbgv_auth_report_e what, ngx_http_rbgv_auth_report_t *report);


/* what was taken out could not be told */
void ngx_http_rbgv_auth_zone_retract(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place, uint32_t node, uint64_t set,
    ngx_http_rbgv_auth_report_t *report);

/*
 * Counts a request on this host, in all windows or in none.  NGX_OK: it may
 * pass.  NGX_DECLINED: a window is full, count->retry says how long.
 * NGX_ERROR: there is no room for another window.
 */
ngx_int_t ngx_http_rbgv_auth_zone_count(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place, uint32_t node, ngx_uint_t secret,
    ngx_http_rbgv_auth_count_t *count);

/*
 * The windows of a host, n of them, in shared memory that is zeroed once; to
 * be called under a lock.  The time is in microseconds, and never runs back.
 */
ngx_int_t ngx_http_rbgv_auth_local_count(ngx_http_rbgv_auth_local_t *locals,
    uint32_t n, ngx_http_rbgv_auth_place_t *place, uint32_t hash,
    ngx_http_rbgv_auth_count_t *count, uint64_t now);
size_t ngx_http_rbgv_auth_local_size(uint32_t n);


/*
 * Requests of a key that Redis has counted; those that were counted here are
 * known.  And the busiest keys of the last whole minute, in no order.
 */
void ngx_http_rbgv_auth_zone_seen(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place, uint32_t node, uint32_t requests);
void ngx_http_rbgv_auth_zone_traffic(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_traffic_t *traffic);


/* counters of all workers together; a kind is less than _TALLIES */

void ngx_http_rbgv_auth_zone_tally(ngx_http_rbgv_auth_zone_t *zone,
    ngx_uint_t kind);
void ngx_http_rbgv_auth_zone_tally_by(ngx_http_rbgv_auth_zone_t *zone,
    ngx_uint_t kind, ngx_uint_t n);
uint64_t ngx_http_rbgv_auth_zone_tallied(ngx_http_rbgv_auth_zone_t *zone,
    ngx_uint_t kind);

/*
 * How many breakers of a worker's clients of a store are open; and of all
 * workers.  A worker says none when it begins.
 */
void ngx_http_rbgv_auth_zone_broken(ngx_http_rbgv_auth_zone_t *zone,
    uint32_t store, ngx_uint_t n, ngx_uint_t begins);
ngx_uint_t ngx_http_rbgv_auth_zone_breakers(ngx_http_rbgv_auth_zone_t *zone,
    uint32_t store);

void ngx_http_rbgv_auth_zone_size(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_size_t *size);


/* the invalidation channels */

void ngx_http_rbgv_auth_zone_invalidate(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place);
void ngx_http_rbgv_auth_zone_flush(ngx_http_rbgv_auth_zone_t *zone,
    uint32_t store);

/* other servers: what they told is no proof any more, and may be stale */
void ngx_http_rbgv_auth_zone_restart(ngx_http_rbgv_auth_zone_t *zone,
    uint32_t store);

/*
 * A channel that listens since a moment has proven to have told everything
 * that happened until another one.
 */
void ngx_http_rbgv_auth_zone_proven(ngx_http_rbgv_auth_zone_t *zone,
    uint32_t store, ngx_msec_t since, ngx_msec_t until);

uint32_t ngx_http_rbgv_auth_zone_epoch(ngx_http_rbgv_auth_zone_t *zone,
    uint32_t store);
ngx_uint_t ngx_http_rbgv_auth_zone_trusted(ngx_http_rbgv_auth_zone_t *zone,
    uint32_t store);

/* milliseconds since all changes were known to be told; -1: never */
ngx_msec_int_t ngx_http_rbgv_auth_zone_lag(ngx_http_rbgv_auth_zone_t *zone,
    uint32_t store);


#endif /* _NGX_HTTP_RBGV_AUTH_ZONE_H_INCLUDED_ */
