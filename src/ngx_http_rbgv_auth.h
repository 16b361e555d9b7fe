
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 */


#ifndef _NGX_HTTP_RBGV_AUTH_H_INCLUDED_
#define _NGX_HTTP_RBGV_AUTH_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "ngx_rbgv_redis.h"
#include "ngx_rbgv_redis_ssl.h"
#include "ngx_rbgv_store.h"
#include "ngx_http_rbgv_auth_zone.h"
#include "rbgv_key.h"
#include "rbgv_limit.h"


#define NGX_HTTP_RBGV_AUTH_OFF             0
#define NGX_HTTP_RBGV_AUTH_ON              1
#define NGX_HTTP_RBGV_AUTH_DRY_RUN         2

#define NGX_HTTP_RBGV_AUTH_HEADERS_IETF    0x0001
#define NGX_HTTP_RBGV_AUTH_HEADERS_LEGACY  0x0002

#define NGX_HTTP_RBGV_AUTH_LIMIT_LOCAL     0
#define NGX_HTTP_RBGV_AUTH_LIMIT_ALLOW     1
#define NGX_HTTP_RBGV_AUTH_LIMIT_DENY      2

#define NGX_HTTP_RBGV_AUTH_LEASE_OFF       0
#define NGX_HTTP_RBGV_AUTH_LEASE_AUTO      (-2)

#define NGX_HTTP_RBGV_AUTH_PAYMENT_REQUIRED  402  /* RFC 9110, 15.5.3 */

#define NGX_HTTP_RBGV_AUTH_BUCKETS         256  /* of what is under way */


/* a decision; the order is that of ngx_http_rbgv_auth_outcomes[] */

typedef enum {
    NGX_HTTP_RBGV_AUTH_UNDECIDED = 0,
    NGX_HTTP_RBGV_AUTH_PASSED,
    NGX_HTTP_RBGV_AUTH_MISSING,
    NGX_HTTP_RBGV_AUTH_INVALID,
    NGX_HTTP_RBGV_AUTH_DISABLED,
    NGX_HTTP_RBGV_AUTH_EXPIRED,
    NGX_HTTP_RBGV_AUTH_ENVIRONMENT,
    NGX_HTTP_RBGV_AUTH_LIMITED,
    NGX_HTTP_RBGV_AUTH_CREDITS,
    NGX_HTTP_RBGV_AUTH_JOB,
    NGX_HTTP_RBGV_AUTH_UNAVAILABLE
} ngx_http_rbgv_auth_status_e;

#define NGX_HTTP_RBGV_AUTH_STATUSES        (NGX_HTTP_RBGV_AUTH_UNAVAILABLE + 1)


/* where a decision came from */

typedef enum {
    NGX_HTTP_RBGV_AUTH_NOWHERE = 0,            /* the request itself */
    NGX_HTTP_RBGV_AUTH_REDIS,
    NGX_HTTP_RBGV_AUTH_ZONE,
    NGX_HTTP_RBGV_AUTH_LEASE,
    NGX_HTTP_RBGV_AUTH_STALE,
    NGX_HTTP_RBGV_AUTH_LOCAL
} ngx_http_rbgv_auth_source_e;

#define NGX_HTTP_RBGV_AUTH_SOURCES         (NGX_HTTP_RBGV_AUTH_LOCAL + 1)


/* how it was made without Redis */

typedef enum {
    NGX_HTTP_RBGV_AUTH_MODE_STALE = 0,
    NGX_HTTP_RBGV_AUTH_MODE_LOCAL,
    NGX_HTTP_RBGV_AUTH_MODE_ALLOW
} ngx_http_rbgv_auth_mode_e;

#define NGX_HTTP_RBGV_AUTH_MODES           (NGX_HTTP_RBGV_AUTH_MODE_ALLOW + 1)

/* what went wrong with Redis: ngx_rbgv_redis_failure_e, and error replies */

#define NGX_HTTP_RBGV_AUTH_ERROR_REPLY     (NGX_RBGV_REDIS_BAD_REPLY + 1)
#define NGX_HTTP_RBGV_AUTH_ERRORS          (NGX_HTTP_RBGV_AUTH_ERROR_REPLY + 1)


/* what is known of the job that a request asks for */

typedef enum {
    NGX_HTTP_RBGV_AUTH_JOB_NONE = 0,           /* it asks for none */
    NGX_HTTP_RBGV_AUTH_JOB_SOUGHT,
    NGX_HTTP_RBGV_AUTH_JOB_OWN,
    NGX_HTTP_RBGV_AUTH_JOB_REFUSED,
    NGX_HTTP_RBGV_AUTH_JOB_FAILED
} ngx_http_rbgv_auth_job_state_e;


/* what became of the record of a new job */

typedef enum {
    NGX_HTTP_RBGV_AUTH_JOB_STORED = 0,
    NGX_HTTP_RBGV_AUTH_JOB_RETRIED,
    NGX_HTTP_RBGV_AUTH_JOB_LOST,
    NGX_HTTP_RBGV_AUTH_JOB_CONFLICT
} ngx_http_rbgv_auth_job_result_e;

#define NGX_HTTP_RBGV_AUTH_JOB_RESULTS     (NGX_HTTP_RBGV_AUTH_JOB_CONFLICT + 1)


/* what became of an event */

typedef enum {
    NGX_HTTP_RBGV_AUTH_EVENT_WRITTEN = 0,
    NGX_HTTP_RBGV_AUTH_EVENT_LOST
} ngx_http_rbgv_auth_event_result_e;

#define NGX_HTTP_RBGV_AUTH_EVENT_RESULTS   (NGX_HTTP_RBGV_AUTH_EVENT_LOST + 1)


/* buckets of how long a command takes, the last one without an end */

#define NGX_HTTP_RBGV_AUTH_TIMES           13


/* of the zone's counters: one for each decision, enforced or not */
#define ngx_http_rbgv_auth_kind(status, source, dry_run)                      \
    (((dry_run) * NGX_HTTP_RBGV_AUTH_SOURCES + (source))                      \
     * NGX_HTTP_RBGV_AUTH_STATUSES + (status))

/* one for keys that were found by the previous pepper */
#define NGX_HTTP_RBGV_AUTH_PREVIOUS_PEPPER                                    \
    ngx_http_rbgv_auth_kind(0, 0, 2)

/* one for each mode, error, and result */
#define NGX_HTTP_RBGV_AUTH_KIND_MODES                                         \
    (NGX_HTTP_RBGV_AUTH_PREVIOUS_PEPPER + 1)

#define NGX_HTTP_RBGV_AUTH_KIND_ERRORS                                        \
    (NGX_HTTP_RBGV_AUTH_KIND_MODES + NGX_HTTP_RBGV_AUTH_MODES)

#define NGX_HTTP_RBGV_AUTH_KIND_JOB_RECORDS                                   \
    (NGX_HTTP_RBGV_AUTH_KIND_ERRORS + NGX_HTTP_RBGV_AUTH_ERRORS)

#define NGX_HTTP_RBGV_AUTH_KIND_EVENTS                                        \
    (NGX_HTTP_RBGV_AUTH_KIND_JOB_RECORDS + NGX_HTTP_RBGV_AUTH_JOB_RESULTS)

/* of commands: one for each bucket of time, those without a reply, the sum */
#define NGX_HTTP_RBGV_AUTH_KIND_TIMES                                         \
    (NGX_HTTP_RBGV_AUTH_KIND_EVENTS + NGX_HTTP_RBGV_AUTH_EVENT_RESULTS)

#define NGX_HTTP_RBGV_AUTH_KIND_UNANSWERED                                    \
    (NGX_HTTP_RBGV_AUTH_KIND_TIMES + NGX_HTTP_RBGV_AUTH_TIMES)

#define NGX_HTTP_RBGV_AUTH_KIND_TIME                                          \
    (NGX_HTTP_RBGV_AUTH_KIND_UNANSWERED + 1)

#define NGX_HTTP_RBGV_AUTH_KINDS                                              \
    (NGX_HTTP_RBGV_AUTH_KIND_TIME + 1)

_Static_assert(NGX_HTTP_RBGV_AUTH_KINDS <= NGX_HTTP_RBGV_AUTH_TALLIES,
               "the zone has too few counters");


typedef struct {
    ngx_str_t                      name;       /* $rbgv_auth_status */
    ngx_uint_t                     status;     /* HTTP; 0: let pass */
    ngx_str_t                      code;
    ngx_str_t                      message;
} ngx_http_rbgv_auth_outcome_t;


/* "rbgv_auth_limit" */

typedef struct {
    ngx_str_t                      name;
    ngx_str_t                      environment;        /* empty: any */
    rbgv_limit_t                   limit;
} ngx_http_rbgv_auth_limit_t;


/* a limit as it holds for one key in one location */

typedef struct {
    ngx_str_t                      name;       /* of the configuration */
    rbgv_limit_t                   limit;
    uint32_t                       remaining;
    uint32_t                       reset;              /* milliseconds */
} ngx_http_rbgv_auth_window_t;


typedef struct ngx_http_rbgv_auth_worker_s   ngx_http_rbgv_auth_worker_t;
typedef struct ngx_http_rbgv_auth_channel_s  ngx_http_rbgv_auth_channel_t;
typedef struct ngx_http_rbgv_auth_keys_s     ngx_http_rbgv_auth_keys_t;
typedef struct ngx_http_rbgv_auth_seen_s     ngx_http_rbgv_auth_seen_t;
typedef struct ngx_http_rbgv_auth_job_s      ngx_http_rbgv_auth_job_t;
typedef struct ngx_http_rbgv_auth_usage_s    ngx_http_rbgv_auth_usage_t;
typedef struct ngx_http_rbgv_auth_job_record_s
                                             ngx_http_rbgv_auth_job_record_t;


/* read-only once the configuration is read, but for the worker */

typedef struct {
    ngx_str_t                      prefix;
    ngx_str_t                      pepper_file;
    ngx_str_t                      previous_pepper_file;
    ngx_str_t                      pepper;             /* NULL: none */
    ngx_str_t                      previous_pepper;    /* likewise */
    ngx_str_t                      script;
    ngx_int_t                      request_id;         /* variable's index */
    size_t                         zone_size;  /* 0: off */
    ngx_uint_t                     has_ssl;    /* a level below http has */
    ngx_uint_t                     records_jobs;       /* a location does */
    ngx_uint_t                     has_events; /* a location has */
    ngx_http_rbgv_auth_zone_t     *zone;

    /* array of ngx_rbgv_redis_conf_t *: one for each different store */
    ngx_array_t                    stores;

    /* array of ngx_array_t *: the different "limits" of locations */
    ngx_array_t                    limits;

    ngx_http_rbgv_auth_worker_t   *worker;     /* set when a worker starts */
} ngx_http_rbgv_auth_main_conf_t;


typedef struct {
    ngx_uint_t                     enable;

    ngx_str_t                      redis;
    ngx_str_t                      redis_password_file;
    ngx_msec_t                     redis_timeout;
    ngx_msec_t                     redis_connect_timeout;
#if (NGX_SSL)
    ngx_rbgv_redis_ssl_t           ssl;        /* settings, no context */
#endif
    ngx_uint_t                     store;      /* index in stores */

    ngx_array_t                   *environments;       /* of ngx_str_t */
    ngx_array_t                   *limits;
    uint32_t                       set;        /* tells limits from others */
    ngx_http_complex_value_t      *cost;
    ngx_http_complex_value_t      *credits;    /* NULL: off */
    ngx_int_t                      lease;      /* permits, off or auto */

    ngx_http_complex_value_t      *job;
    ngx_http_complex_value_t      *job_record;
    time_t                         job_ttl;    /* of a record, seconds */
    ngx_flag_t                     events;
    ngx_uint_t                     usage;      /* not inherited */

    ngx_flag_t                     opaque_keys;
    ngx_flag_t                     hide_key;   /* unset: not in a dry run */
    ngx_uint_t                     headers;
    ngx_str_t                      realm;
    ngx_str_t                      challenge;  /* of WWW-Authenticate */
    ngx_uint_t                     log_level;

    ngx_msec_t                     stale;      /* 0: deny */
    ngx_uint_t                     limit_unavailable;

    ngx_uint_t                     admin;      /* is served here */
    ngx_str_t                      admin_token_file;
    ngx_array_t                   *admin_tokens;
} ngx_http_rbgv_auth_loc_conf_t;


/* a store as a worker sees it */

typedef struct {
    ngx_rbgv_redis_conf_t         *conf;
    ngx_rbgv_store_t              *redis;
    ngx_http_rbgv_auth_channel_t  *channel;
    ngx_http_rbgv_auth_worker_t   *worker;
    uint32_t                       index;      /* in the zone */

    /* ngx_current_msec when rbgv:meta was seen to be there; 0: not yet */
    ngx_msec_t                     verified;
    uint32_t                       epoch;      /* of the zone then */

    /* decisions without it since it answered, and when they were told of */
    ngx_uint_t                     degraded;
    ngx_msec_t                     degraded_told;

    /* the last error reply that was logged */
    uint32_t                       line;
    ngx_msec_t                     line_told;

    unsigned                       restored:1;
    unsigned                       broken:1;   /* redis takes no commands */
} ngx_http_rbgv_auth_store_t;


/* what a worker owns and requests share */

struct ngx_http_rbgv_auth_worker_s {
    ngx_http_rbgv_auth_main_conf_t  *conf;
    ngx_pool_t                      *pool;     /* of the cycle */
    rbgv_digester_t                 *digester;
    rbgv_digester_t                 *previous; /* NULL: one pepper */
    ngx_http_rbgv_auth_keys_t       *keys;

    ngx_uint_t                       ident;    /* where a timer's data has fd */

    ngx_http_rbgv_auth_store_t      *stores;   /* by index in main conf */
    ngx_uint_t                       nstores;

    /* reads of records, by place; the ones free again */
    ngx_queue_t                      lookups[NGX_HTTP_RBGV_AUTH_BUCKETS];
    ngx_queue_t                      free_lookups;

    /* requests that wait for what another worker reads */
    ngx_queue_t                      busy;
    ngx_event_t                      busy_event;

    /* charges, by place; those to be sent at the end of the next turn */
    ngx_queue_t                      charges[NGX_HTTP_RBGV_AUTH_BUCKETS];
    ngx_queue_t                      unsent;
    ngx_queue_t                      free_charges;
    ngx_event_t                      send_event;

    /* leases to be told of when they have expired */
    ngx_queue_t                      watches;
    ngx_queue_t                      free_watches;
    ngx_event_t                      watch_event;

    ngx_queue_t                      free_jobs;

    /* records of jobs: those to be sent again, and the ones free again */
    ngx_queue_t                      job_records;
    ngx_uint_t                       njob_records;
    ngx_queue_t                      free_job_records;
    ngx_event_t                      job_event;

    ngx_uint_t                       nevents;  /* under way */
};


/*
 * The context of a main request.  It lives in the request's pool, in the
 * data of a pool cleanup: by its handler it is found again after an internal
 * redirect has cleared r->ctx.
 */

typedef struct {
    ngx_http_request_t            *request;
    ngx_http_rbgv_auth_loc_conf_t *conf;       /* the one that decides */
    ngx_http_rbgv_auth_store_t    *store;

    ngx_http_rbgv_auth_status_e    status;
    ngx_http_rbgv_auth_source_e    source;
    const char                    *reason;     /* of a refusal */

    /* of the key that was presented; the key itself is not kept */

    ngx_http_rbgv_auth_place_t     place;
    ngx_http_rbgv_auth_seen_t     *seen;       /* NULL: not in the cache */

    /* of its record */

    ngx_str_t                      name;
    ngx_str_t                      environment;
    ngx_str_t                      owner;
    u_char                        *limits;     /* as in the record's text */
    ngx_uint_t                     nlimits;
    ngx_uint_t                     nsecrets;
    ngx_uint_t                     secret;     /* index in the record */
    uint64_t                       balance;    /* credits granted in all */
    uint32_t                       node;       /* of the zone; 0: none */

    ngx_uint_t                     nwindows;
    uint32_t                       cost;
    uint32_t                       price;      /* in credits */
    uint64_t                       retry;      /* milliseconds */

    /* in the waiters of a lookup or a charge, both owned by the worker */

    ngx_queue_t                    queue;
    ngx_msec_t                     now;        /* 0: to be asked for anew */
    ngx_msec_t                     asked;      /* since when it waits */
    ngx_msec_t                     deadline;   /* of all that is waited for */
    ngx_msec_t                     waited;
    ngx_http_cleanup_t            *cleanup;    /* takes it out of the queue */

    /* of the job that is asked for, or that was made */

    ngx_str_t                      job_id;     /* empty: none, or malformed */
    ngx_http_rbgv_auth_job_state_e job_state;
    const char                    *job_reason; /* refused or failed */
    ngx_http_rbgv_auth_job_t      *job;        /* waits for a reply */
    ngx_http_rbgv_auth_loc_conf_t *recorder;   /* has "job_record" */
    ngx_http_rbgv_auth_job_record_t
                                  *job_record; /* the answer waits for it */
    ngx_http_rbgv_auth_usage_t    *usage;      /* asked for, or answered */
    ngx_chain_t                   *held;       /* of the answer's body */
    ngx_http_event_handler_pt      write_event_handler;        /* likewise */

    ngx_table_elt_t               *challenge;  /* if it is in the header */
    ngx_str_t                      body;       /* of a refusal */

    unsigned                       identified:1;       /* id is known */
    unsigned                       opaque:1;   /* of another system */
    unsigned                       recorded:1; /* has shown a secret */
    unsigned                       prepaid:1;  /* credits were granted */
    unsigned                       stale:1;    /* the record */
    unsigned                       accounted:1;
    unsigned                       charged:1;  /* in windows or credits */
    unsigned                       counted:1;  /* windows are filled in */
    unsigned                       granted:1;  /* by the count */
    unsigned                       queued:1;
    unsigned                       parked:1;   /* the request waits */
    unsigned                       hidden:1;   /* the key, by this pass */
    unsigned                       answered:1; /* a header was looked at */
    unsigned                       holding:1;  /* the header and the body */
    unsigned                       bodiless:1; /* it has no body */

    /* from here on not zeroed; the digests if the key is identified */

    u_char                         sha256[RBGV_DIGEST_LEN];
    u_char                         current[RBGV_DIGEST_LEN];
    u_char                         digest[RBGV_DIGEST_LEN];    /* if recorded */
    ngx_http_rbgv_auth_window_t    windows[RBGV_LIMITS_MAX];
} ngx_http_rbgv_auth_ctx_t;


/* NULL if the request was never looked at */
ngx_http_rbgv_auth_ctx_t *ngx_http_rbgv_auth_get_ctx(ngx_http_request_t *r);

/* the record is there: goes on to count if the key may pass in this place */
void ngx_http_rbgv_auth_judge(ngx_http_rbgv_auth_ctx_t *ctx);

/* the count lets it pass: goes on to what is known of the job, if any */
void ngx_http_rbgv_auth_granted(ngx_http_rbgv_auth_ctx_t *ctx);

/* ends the decision, and wakes the request if it was parked */
void ngx_http_rbgv_auth_decided(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_status_e status, const char *reason);

/*
 * The handlers of the phase run again when the request is woken, and not
 * before.  NGX_AGAIN: it waits.
 */
ngx_int_t ngx_http_rbgv_auth_park(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx);
void ngx_http_rbgv_auth_unpark(ngx_http_rbgv_auth_ctx_t *ctx);

/* 1 if the decision is a refusal that is not enforced */
ngx_uint_t ngx_http_rbgv_auth_spared(ngx_http_rbgv_auth_ctx_t *ctx);

/*
 * Puts the request among the waiters; it is taken out by _woken(), or when
 * the request goes away.
 */
ngx_int_t ngx_http_rbgv_auth_wait(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_queue_t *waiters);
ngx_http_rbgv_auth_ctx_t *ngx_http_rbgv_auth_woken(ngx_queue_t *q);

/*
 * Sees to it that the request, when it goes away, is taken out of all that it
 * waits for.
 */
ngx_int_t ngx_http_rbgv_auth_tie(ngx_http_rbgv_auth_ctx_t *ctx);

/* 1 if the request has a secret of a key that is in use */
ngx_uint_t ngx_http_rbgv_auth_good(ngx_http_rbgv_auth_ctx_t *ctx);


/*
 * The key in the request: NGX_OK, or NGX_DECLINED with the decision made.
 * Sets the id and the current digest of the context.
 */
ngx_int_t ngx_http_rbgv_auth_take_key(ngx_http_request_t *r,
    ngx_http_rbgv_auth_ctx_t *ctx);

/* its digest by the previous pepper; NGX_DECLINED: there is no such pepper */
ngx_int_t ngx_http_rbgv_auth_previous_digest(ngx_http_rbgv_auth_ctx_t *ctx,
    u_char digest[RBGV_DIGEST_LEN]);

/* of the precontent phase: hides the key if the access phase did not */
ngx_int_t ngx_http_rbgv_auth_hide_handler(ngx_http_request_t *r);

/* keys seen lately, so that they are digested once; zeroed when destroyed */
ngx_http_rbgv_auth_keys_t *ngx_http_rbgv_auth_keys_create(ngx_cycle_t *cycle);
void ngx_http_rbgv_auth_keys_destroy(ngx_http_rbgv_auth_keys_t *keys);


/*
 * Both lead to a decision in the end, or at once.  To be called with the conf
 * and the store of the context set.
 */
void ngx_http_rbgv_auth_lookup(ngx_http_rbgv_auth_ctx_t *ctx);
void ngx_http_rbgv_auth_count(ngx_http_rbgv_auth_ctx_t *ctx);

/* tells Redis that what was granted is refused for its job */
void ngx_http_rbgv_auth_uncharge(ngx_http_rbgv_auth_ctx_t *ctx);

/* the record is there, and the text may be gone afterwards */
void ngx_http_rbgv_auth_judge_record(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_record_t *record, u_char *text);

/*
 * Redis could not be asked for the record, or did not count: the policies of
 * the location decide.  reply NULL: there was none.
 */
void ngx_http_rbgv_auth_unread(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_rbgv_redis_reply_t *reply);
void ngx_http_rbgv_auth_uncounted(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_rbgv_redis_reply_t *reply);

/* what a stale record may decide */
void ngx_http_rbgv_auth_decided_stale(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_http_rbgv_auth_status_e *status, const char **reason);

/* the store has counted a request */
void ngx_http_rbgv_auth_answered(ngx_http_rbgv_auth_store_t *store);

/* 1 if this was logged a moment ago */
ngx_uint_t ngx_http_rbgv_auth_told(ngx_http_rbgv_auth_store_t *store,
    const char *command, ngx_str_t *text);

/* of the Redis client, with a store */
void ngx_http_rbgv_auth_failed(void *data, ngx_rbgv_redis_failure_e failure);
void ngx_http_rbgv_auth_ready(void *data);
void ngx_http_rbgv_auth_tally_command(void *data, int64_t time);

void ngx_http_rbgv_auth_tally_error(ngx_http_rbgv_auth_store_t *store,
    ngx_uint_t kind);

void ngx_http_rbgv_auth_outage_init(ngx_http_rbgv_auth_worker_t *worker);
void ngx_http_rbgv_auth_outage_done(ngx_http_rbgv_auth_worker_t *worker);
void ngx_http_rbgv_auth_lookup_init(ngx_http_rbgv_auth_worker_t *worker);
void ngx_http_rbgv_auth_count_init(ngx_http_rbgv_auth_worker_t *worker);
void ngx_http_rbgv_auth_count_done(ngx_http_rbgv_auth_worker_t *worker);

/* the store gave no reply to a command, or one it cannot have */
void ngx_http_rbgv_auth_unavailable(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_rbgv_redis_reply_t *reply);
const char *ngx_http_rbgv_auth_failure(ngx_rbgv_redis_reply_t *reply);
void ngx_http_rbgv_auth_bad_reply(ngx_http_rbgv_auth_store_t *store,
    ngx_rbgv_redis_reply_t *reply, const char *command);

/* writes <prefix><kind>{<id>}, of NGX_HTTP_RBGV_AUTH_NAME_LEN at most */
size_t ngx_http_rbgv_auth_name(ngx_http_rbgv_auth_store_t *store,
    ngx_http_rbgv_auth_place_t *place, const char *kind, u_char *p);

#define NGX_HTTP_RBGV_AUTH_NAME_LEN  64


/*
 * A read for one request, whose reply is nobody's once the request has left;
 * job->ctx and ctx->job are set when it is sent.
 */

struct ngx_http_rbgv_auth_job_s {
    ngx_queue_t                    queue;      /* if it is free */
    ngx_http_rbgv_auth_ctx_t      *ctx;        /* NULL: has left */
    ngx_http_rbgv_auth_store_t    *store;
};

ngx_http_rbgv_auth_job_t *ngx_http_rbgv_auth_alloc_job(
    ngx_http_rbgv_auth_store_t *store);
void ngx_http_rbgv_auth_free_job(ngx_http_rbgv_auth_job_t *job);

/*
 * Asks whose the job is, beside the count; ngx_http_rbgv_auth_granted() is
 * called with the reply if the count was there before it.
 */
void ngx_http_rbgv_auth_find_job(ngx_http_rbgv_auth_ctx_t *ctx);
void ngx_http_rbgv_auth_leave_job(ngx_http_rbgv_auth_ctx_t *ctx);
void ngx_http_rbgv_auth_job_init(ngx_http_rbgv_auth_worker_t *worker);

ngx_uint_t ngx_http_rbgv_auth_job_valid(ngx_str_t *id);

/* writes <prefix>job:<id>, of NGX_HTTP_RBGV_AUTH_JOB_NAME_LEN at most */
size_t ngx_http_rbgv_auth_job_name(ngx_http_rbgv_auth_store_t *store,
    ngx_str_t *id, u_char *p);

#define NGX_HTTP_RBGV_AUTH_JOB_LEN       128
#define NGX_HTTP_RBGV_AUTH_JOB_NAME_LEN  168


/*
 * Stores that the job is of the key, now or later.  NGX_AGAIN: the first try
 * is under way, and ngx_http_rbgv_auth_job_recorded() will be called at its
 * end, by the deadline, unless the request has left.
 */
ngx_int_t ngx_http_rbgv_auth_record_job(ngx_http_rbgv_auth_ctx_t *ctx,
    ngx_msec_t deadline);
void ngx_http_rbgv_auth_job_recorded(ngx_http_rbgv_auth_ctx_t *ctx);
void ngx_http_rbgv_auth_leave_job_record(ngx_http_rbgv_auth_ctx_t *ctx);

void ngx_http_rbgv_auth_job_record_init(ngx_http_rbgv_auth_worker_t *worker);
void ngx_http_rbgv_auth_job_record_done(ngx_http_rbgv_auth_worker_t *worker);


/* of the log phase */
ngx_int_t ngx_http_rbgv_auth_event_handler(ngx_http_request_t *r);


/* the handler of a directive's location, which has to be a prefix */
char *ngx_http_rbgv_auth_set_handler(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_http_handler_pt handler);

/* what is behind the name of the location */
void ngx_http_rbgv_auth_path(ngx_http_request_t *r, ngx_str_t *path);

/* the body of an error, in its one shape */
ngx_int_t ngx_http_rbgv_auth_error_body(ngx_http_request_t *r,
    ngx_http_rbgv_auth_outcome_t *outcome, ngx_str_t *body);

/* of a content handler: what they return is for it to return */
ngx_int_t ngx_http_rbgv_auth_send_error(ngx_http_request_t *r,
    ngx_http_rbgv_auth_outcome_t *outcome);
ngx_int_t ngx_http_rbgv_auth_send_json(ngx_http_request_t *r,
    ngx_uint_t status, ngx_chain_t *out);

/* the content type is set */
ngx_int_t ngx_http_rbgv_auth_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_chain_t *out);

/* the value is not copied */
ngx_int_t ngx_http_rbgv_auth_add_header(ngx_http_request_t *r, char *key,
    u_char *data, size_t len);
ngx_int_t ngx_http_rbgv_auth_add_number(ngx_http_request_t *r, char *key,
    ngx_uint_t n);

/* Retry-After of 503 */
ngx_int_t ngx_http_rbgv_auth_add_retry(ngx_http_request_t *r);


ngx_http_rbgv_auth_channel_t *ngx_http_rbgv_auth_channel_create(
    ngx_cycle_t *cycle, ngx_http_rbgv_auth_main_conf_t *amcf,
    ngx_http_rbgv_auth_store_t *store);
void ngx_http_rbgv_auth_channel_destroy(ngx_http_rbgv_auth_channel_t *channel);

/* the store is in use: makes it listen if it does not yet */
void ngx_http_rbgv_auth_channel_use(ngx_http_rbgv_auth_channel_t *channel);


/* the window with least left; NULL if nothing was counted */
ngx_http_rbgv_auth_window_t *ngx_http_rbgv_auth_tightest(
    ngx_http_rbgv_auth_ctx_t *ctx);

ngx_int_t ngx_http_rbgv_auth_add_variables(ngx_conf_t *cf);

void *ngx_http_rbgv_auth_create_main_conf(ngx_conf_t *cf);
char *ngx_http_rbgv_auth_init_main_conf(ngx_conf_t *cf, void *conf);
void *ngx_http_rbgv_auth_create_loc_conf(ngx_conf_t *cf);
char *ngx_http_rbgv_auth_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);

#if (NGX_SSL)

void ngx_http_rbgv_auth_init_ssl(ngx_rbgv_redis_ssl_t *conf);

/* 1 if a directive of the level has set any of it */
ngx_uint_t ngx_http_rbgv_auth_has_ssl(ngx_rbgv_redis_ssl_t *conf);

/* of postconfiguration */
void ngx_http_rbgv_auth_check_ssl(ngx_conf_t *cf);

/* own: the store is not the one of the level above */
void ngx_http_rbgv_auth_merge_ssl(ngx_rbgv_redis_ssl_t *conf,
    ngx_rbgv_redis_ssl_t *prev, ngx_uint_t own);

/* the settings of a store on the host, without a context */
ngx_rbgv_redis_ssl_t *ngx_http_rbgv_auth_store_ssl(ngx_conf_t *cf,
    ngx_http_rbgv_auth_loc_conf_t *conf, const char *host);

char *ngx_http_rbgv_auth_set_ssl_passwords(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

#endif

/* of a location with "rbgv_auth_admin" */
char *ngx_http_rbgv_auth_read_admin_tokens(ngx_conf_t *cf,
    ngx_http_rbgv_auth_loc_conf_t *conf);

char *ngx_http_rbgv_auth_set_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_rbgv_auth_set_pepper_file(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_rbgv_auth_set_redis(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_rbgv_auth_set_environment(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_rbgv_auth_set_limit(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_rbgv_auth_set_price(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_rbgv_auth_set_usage(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_rbgv_auth_set_metrics(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_rbgv_auth_set_admin(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_rbgv_auth_set_lease(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_rbgv_auth_set_job(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_rbgv_auth_set_unavailable(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


extern ngx_module_t  ngx_http_rbgv_auth_module;
extern ngx_module_t  ngx_http_rbgv_auth_filter_module;
extern ngx_module_t  ngx_http_rbgv_auth_job_filter_module;

extern ngx_http_rbgv_auth_outcome_t  ngx_http_rbgv_auth_outcomes[];
extern ngx_str_t  ngx_http_rbgv_auth_sources[];
extern ngx_str_t  ngx_http_rbgv_auth_modes[];


#endif /* _NGX_HTTP_RBGV_AUTH_H_INCLUDED_ */
