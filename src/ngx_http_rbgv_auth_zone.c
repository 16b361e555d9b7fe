
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_rbgv_auth_zone.h"
#include "rbgv_schema.h"


#define NGX_HTTP_RBGV_AUTH_STORES       32
#define NGX_HTTP_RBGV_AUTH_WORKERS      32   /* that count apart */
#define NGX_HTTP_RBGV_AUTH_STORE_IDLE   60000  /* milliseconds */
#define NGX_HTTP_RBGV_AUTH_COUNTERS     256  /* of invalidations, a store */
#define NGX_HTTP_RBGV_AUTH_EPOCHS       8    /* whose end is known */
#define NGX_HTTP_RBGV_AUTH_WAYS         8U   /* slots an id can be in */
#define NGX_HTTP_RBGV_AUTH_READING      50   /* milliseconds others wait */
#define NGX_HTTP_RBGV_AUTH_REFILLING    1000
#define NGX_HTTP_RBGV_AUTH_WATCHING     10000  /* more than between two looks */
#define NGX_HTTP_RBGV_AUTH_UNTOLD       10000  /* told by now, or never */
#define NGX_HTTP_RBGV_AUTH_VICTIMS      16   /* looked at to evict one */
#define NGX_HTTP_RBGV_AUTH_BLOCK_MIN    128  /* permits */
#define NGX_HTTP_RBGV_AUTH_BLOCK_TIME   1000 /* milliseconds it is to last */
#define NGX_HTTP_RBGV_AUTH_MINUTE       60000


typedef struct {
    uint64_t                      set;       /* 0: free */
    uint32_t                      permits;
    uint32_t                      block;     /* permits when last granted */
    uint64_t                      granted;   /* Redis time, microseconds */
    uint64_t                      unused_granted;
    uint32_t                      unused;    /* of before, to be given back */
    uint32_t                      price;     /* in credits */
    uint32_t                      broke;     /* refused for want of credits */
    uint32_t                      nwindows;
    ngx_msec_t                    watched;   /* last; 0: not */
    ngx_msec_t                    since;     /* when last granted */
    ngx_msec_t                    expires;
    ngx_msec_t                    renewal;   /* is due from then on */
    ngx_msec_t                    refused_until;
    ngx_msec_t                    retry_at;
    ngx_msec_t                    refilling; /* since; 0: not */
    uint32_t                      remaining[NGX_HTTP_RBGV_AUTH_WINDOWS];
    uint32_t                      reset[NGX_HTTP_RBGV_AUTH_WINDOWS];
} ngx_http_rbgv_auth_lease_t;


/* nodes are known by their number, from 1; 0 is none */

typedef struct {
    ngx_http_rbgv_auth_place_t    place;
    uint32_t                      next;      /* in the bucket */
    uint32_t                      newer;
    uint32_t                      older;
    uint32_t                      epoch;     /* 0: not valid */
    uint32_t                      limited;
    uint32_t                      broke;
    uint64_t                      refund;    /* credits to be given back */
    uint32_t                      used[NGX_HTTP_RBGV_AUTH_SECRETS];
    uint32_t                      rank;      /* in ranks, from 1; 0: not */
    uint32_t                      rested;    /* before it was touched */
    uint64_t                      minute;    /* of the requests */
    uint64_t                      requests;
    ngx_msec_t                    kept;
    ngx_msec_t                    touched;
    ngx_http_rbgv_auth_record_t   record;
    u_char                        text[NGX_HTTP_RBGV_AUTH_TEXT];
    ngx_http_rbgv_auth_lease_t    leases[NGX_HTTP_RBGV_AUTH_LEASES];
} ngx_http_rbgv_auth_node_t;


/* an id that is unknown to Redis, or is being read */

typedef struct {
    ngx_http_rbgv_auth_place_t    place;
    uint32_t                      epoch;     /* 0: not valid */
    uint32_t                      invalidations;
    ngx_msec_t                    kept;
    ngx_msec_t                    reading;   /* since; 0: not */
} ngx_http_rbgv_auth_slot_t;


typedef struct {
    uint32_t                      tag;
    uint32_t                      epoch;
    ngx_msec_t                    used;      /* when a worker began; 0: free */
    ngx_msec_t                    proven;    /* 0: never */
    uint32_t                      flushed;   /* older epochs: not stale even */
    ngx_msec_t                    ended[NGX_HTTP_RBGV_AUTH_EPOCHS];
    uint32_t                      invalidations[NGX_HTTP_RBGV_AUTH_COUNTERS];
    uint32_t                      broken[NGX_HTTP_RBGV_AUTH_WORKERS];
} ngx_http_rbgv_auth_cover_t;


typedef struct {
    ngx_atomic_t                  counts[NGX_HTTP_RBGV_AUTH_TALLIES];
} ngx_http_rbgv_auth_tally_t;


typedef struct {
    /* set while links change: seen by who gets the lock of a dead worker */
    ngx_uint_t                    changing;

    uint32_t                      nnodes;
    uint32_t                      nbuckets;  /* a power of two */
    uint32_t                      nslots;    /* likewise */
    uint32_t                      nlocals;   /* likewise */

    uint32_t                      used;      /* nodes in use, the first ones */
    uint32_t                      newest;
    uint32_t                      oldest;

    /* since there is a zone */
    uint64_t                      evictions;
    uint64_t                      unkept;    /* nothing could go for them */

    /* the nodes with most requests in this minute, all with at least "floor" */
    uint64_t                      minute;
    uint64_t                      requests;
    uint64_t                      floor;
    uint32_t                      ranks[NGX_HTTP_RBGV_AUTH_BUSIEST];
    ngx_http_rbgv_auth_traffic_t  last;      /* of the minute before */

    /* the last one is of all stores that have no place: it is never proven */
    ngx_http_rbgv_auth_cover_t    covers[NGX_HTTP_RBGV_AUTH_STORES + 1];

    /* who writes into its place of "broken" */
    ngx_pid_t                     pids[NGX_HTTP_RBGV_AUTH_WORKERS];

    /* one for each worker, so that they do not share cache lines */
    ngx_http_rbgv_auth_tally_t    tallies[NGX_HTTP_RBGV_AUTH_WORKERS];
} ngx_http_rbgv_auth_sh_t;


struct ngx_http_rbgv_auth_zone_s {
    ngx_http_rbgv_auth_sh_t      *sh;
    ngx_slab_pool_t              *shpool;
    uint32_t                     *buckets;
    ngx_http_rbgv_auth_slot_t    *slots;
    ngx_http_rbgv_auth_local_t   *locals;
    ngx_http_rbgv_auth_node_t    *nodes;     /* nodes[0] is not used */
    ngx_shm_zone_t               *shm_zone;
};


static ngx_int_t ngx_http_rbgv_auth_zone_init(ngx_shm_zone_t *shm_zone,
    void *data);
static void ngx_http_rbgv_auth_zone_layout(ngx_http_rbgv_auth_zone_t *zone);
static void ngx_http_rbgv_auth_zone_lock(ngx_http_rbgv_auth_zone_t *zone);
static void ngx_http_rbgv_auth_zone_unlock(ngx_http_rbgv_auth_zone_t *zone);
static ngx_msec_t ngx_http_rbgv_auth_zone_age(ngx_msec_t since,
    ngx_msec_t now);
static uint32_t ngx_http_rbgv_auth_zone_hash(
    ngx_http_rbgv_auth_place_t *place);
static ngx_uint_t ngx_http_rbgv_auth_zone_same(ngx_http_rbgv_auth_place_t *a,
    ngx_http_rbgv_auth_place_t *b);
static ngx_msec_t ngx_http_rbgv_auth_zone_known(
    ngx_http_rbgv_auth_node_t *node, ngx_http_rbgv_auth_cover_t *cover);
static void ngx_http_rbgv_auth_zone_compare(
    ngx_http_rbgv_auth_node_t *node, ngx_http_rbgv_auth_record_t *record,
    u_char *text, ngx_msec_t now);
static ngx_http_rbgv_auth_slot_t *ngx_http_rbgv_auth_zone_slot(
    ngx_http_rbgv_auth_zone_t *zone, ngx_http_rbgv_auth_place_t *place,
    uint32_t hash);
static ngx_http_rbgv_auth_slot_t *ngx_http_rbgv_auth_zone_oldest_slot(
    ngx_http_rbgv_auth_zone_t *zone, uint32_t hash);
static ngx_http_rbgv_auth_node_t *ngx_http_rbgv_auth_zone_node(
    ngx_http_rbgv_auth_zone_t *zone, ngx_http_rbgv_auth_place_t *place,
    uint32_t node);
static uint32_t ngx_http_rbgv_auth_zone_search(
    ngx_http_rbgv_auth_zone_t *zone, ngx_http_rbgv_auth_place_t *place,
    uint32_t hash);
static uint32_t ngx_http_rbgv_auth_zone_create(
    ngx_http_rbgv_auth_zone_t *zone, ngx_http_rbgv_auth_place_t *place,
    uint32_t hash, ngx_msec_t now);
static uint32_t ngx_http_rbgv_auth_zone_victim(
    ngx_http_rbgv_auth_zone_t *zone, ngx_msec_t now);
static ngx_uint_t ngx_http_rbgv_auth_zone_untold(
    ngx_http_rbgv_auth_node_t *node);
static void ngx_http_rbgv_auth_zone_unlink(ngx_http_rbgv_auth_zone_t *zone,
    uint32_t n);
static void ngx_http_rbgv_auth_zone_touch(ngx_http_rbgv_auth_zone_t *zone,
    uint32_t n, ngx_msec_t now);
static void ngx_http_rbgv_auth_zone_newest(ngx_http_rbgv_auth_zone_t *zone,
    uint32_t n);
static void ngx_http_rbgv_auth_zone_detach(ngx_http_rbgv_auth_zone_t *zone,
    uint32_t n);
static void ngx_http_rbgv_auth_zone_update(ngx_http_rbgv_auth_node_t *node,
    ngx_http_rbgv_auth_record_t *record, u_char *text);
static ngx_http_rbgv_auth_lease_t *ngx_http_rbgv_auth_zone_lease(
    ngx_http_rbgv_auth_node_t *node, uint64_t set);
static void ngx_http_rbgv_auth_zone_add_permits(
    ngx_http_rbgv_auth_place_t *place, ngx_http_rbgv_auth_lease_t *lease,
    ngx_http_rbgv_auth_grant_t *grant, ngx_msec_t now);
static ngx_uint_t ngx_http_rbgv_auth_zone_same_slice(
    ngx_http_rbgv_auth_place_t *place, ngx_http_rbgv_auth_lease_t *lease,
    ngx_http_rbgv_auth_grant_t *grant);
static ngx_http_rbgv_auth_lease_t *ngx_http_rbgv_auth_zone_room(
    ngx_http_rbgv_auth_node_t *node, ngx_msec_t now);
static void ngx_http_rbgv_auth_zone_take_unused(
    ngx_http_rbgv_auth_lease_t *lease, ngx_http_rbgv_auth_report_e what,
    ngx_msec_t now, ngx_http_rbgv_auth_report_t *report);
static ngx_msec_t ngx_http_rbgv_auth_zone_ends(
    ngx_http_rbgv_auth_lease_t *lease, ngx_msec_t now);
static void ngx_http_rbgv_auth_zone_read_lease(
    ngx_http_rbgv_auth_lease_t *lease, uint32_t cost, ngx_msec_t now,
    ngx_http_rbgv_auth_grant_t *grant);
static void ngx_http_rbgv_auth_zone_see(ngx_http_rbgv_auth_zone_t *zone,
    uint32_t n, uint32_t requests, ngx_msec_t now);
static void ngx_http_rbgv_auth_zone_turn(ngx_http_rbgv_auth_zone_t *zone,
    ngx_msec_t now);
static void ngx_http_rbgv_auth_zone_rank(ngx_http_rbgv_auth_zone_t *zone,
    uint32_t n);
static ngx_http_rbgv_auth_node_t *ngx_http_rbgv_auth_zone_ranked(
    ngx_http_rbgv_auth_zone_t *zone, ngx_uint_t i);
static void ngx_http_rbgv_auth_zone_end_epoch(
    ngx_http_rbgv_auth_cover_t *cover);


ngx_http_rbgv_auth_zone_t *
ngx_http_rbgv_auth_zone_add(ngx_conf_t *cf, ngx_str_t *name, size_t size,
    void *tag)
{
    ngx_http_rbgv_auth_zone_t  *zone;

    zone = ngx_pcalloc(cf->pool, sizeof(ngx_http_rbgv_auth_zone_t));
    if (zone == NULL) {
        return NULL;
    }

    zone->shm_zone = ngx_shared_memory_add(cf, name, size, tag);
    if (zone->shm_zone == NULL) {
        return NULL;
    }

    zone->shm_zone->init = ngx_http_rbgv_auth_zone_init;
    zone->shm_zone->data = zone;

    return zone;
}


static ngx_int_t
ngx_http_rbgv_auth_zone_init(ngx_shm_zone_t *shm_zone, void *data)
{
    ngx_http_rbgv_auth_zone_t *ozone = data;

    size_t                      size, left;
    uint32_t                    n;
    ngx_http_rbgv_auth_zone_t  *zone;

    zone = shm_zone->data;

    zone->shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    if (ozone) {
        zone->sh = ozone->sh;
        ngx_http_rbgv_auth_zone_layout(zone);
        return NGX_OK;
    }

    if (shm_zone->shm.exists) {
        zone->sh = zone->shpool->data;
        ngx_http_rbgv_auth_zone_layout(zone);
        return NGX_OK;
    }

    /*
     * A worker that is killed after it has counted down who waits, and before
     * it has woken it, would leave that one asleep.  Without the semaphore
     * those who wait yield.
     */

#if (NGX_HAVE_ATOMIC_OPS && NGX_HAVE_POSIX_SEM)
    zone->shpool->mutex.semaphore = 0;
#endif

    /* all of the zone is one allocation: nothing is allocated later */

    size = zone->shpool->pfree * ngx_pagesize;

    zone->sh = ngx_slab_alloc(zone->shpool, size);
    if (zone->sh == NULL) {
        return NGX_ERROR;
    }

    zone->shpool->data = zone->sh;

    ngx_memzero(zone->sh, sizeof(ngx_http_rbgv_auth_sh_t));

    left = size - sizeof(ngx_http_rbgv_auth_sh_t) - 64;

    /*
     * A node has about one bucket; 1/32 is for ids that are not known, up to
     * 1/16 for windows that are counted here.
     */

    for (n = 64;
         2 * n * sizeof(ngx_http_rbgv_auth_slot_t) <= left / 32;
         n *= 2)
    {
        /* void */
    }

    zone->sh->nslots = n;

    for (n = 64; ngx_http_rbgv_auth_local_size(2 * n) <= left / 16; n *= 2) {
        /* void */
    }

    zone->sh->nlocals = n;
    left -= zone->sh->nslots * sizeof(ngx_http_rbgv_auth_slot_t)
            + ngx_http_rbgv_auth_local_size(n);

    for (n = 64;
         2 * n * (sizeof(ngx_http_rbgv_auth_node_t) + sizeof(uint32_t)) <= left;
         n *= 2)
    {
        /* void */
    }

    zone->sh->nbuckets = n;
    left -= n * sizeof(uint32_t);

    zone->sh->nnodes = left / sizeof(ngx_http_rbgv_auth_node_t) - 1;

    ngx_http_rbgv_auth_zone_layout(zone);

    ngx_memzero(zone->buckets, zone->sh->nbuckets * sizeof(uint32_t));
    ngx_memzero(zone->slots,
                zone->sh->nslots * sizeof(ngx_http_rbgv_auth_slot_t));
    ngx_memzero(zone->locals,
                ngx_http_rbgv_auth_local_size(zone->sh->nlocals));

    return NGX_OK;
}


static void
ngx_http_rbgv_auth_zone_layout(ngx_http_rbgv_auth_zone_t *zone)
{
    u_char  *p;

    p = (u_char *) zone->sh + sizeof(ngx_http_rbgv_auth_sh_t);
    p = ngx_align_ptr(p, 64);

    zone->slots = (ngx_http_rbgv_auth_slot_t *) p;
    p += zone->sh->nslots * sizeof(ngx_http_rbgv_auth_slot_t);

    zone->locals = (ngx_http_rbgv_auth_local_t *) p;
    p += ngx_http_rbgv_auth_local_size(zone->sh->nlocals);

    zone->nodes = (ngx_http_rbgv_auth_node_t *) p;
    p += (zone->sh->nnodes + 1) * sizeof(ngx_http_rbgv_auth_node_t);

    zone->buckets = (uint32_t *) p;
}


uint32_t
ngx_http_rbgv_auth_zone_store(ngx_http_rbgv_auth_zone_t *zone, uint32_t tag)
{
    uint32_t                     i, place;
    ngx_msec_t                   now;
    ngx_http_rbgv_auth_cover_t  *cover;

    now = ngx_http_rbgv_auth_now();
    place = NGX_HTTP_RBGV_AUTH_STORES;

    ngx_http_rbgv_auth_zone_lock(zone);

    for (i = 0; i < NGX_HTTP_RBGV_AUTH_STORES; i++) {
        cover = &zone->sh->covers[i];

        if (cover->used && cover->tag == tag) {
            cover->used = now;
            place = i;
            goto done;
        }

        if (place == NGX_HTTP_RBGV_AUTH_STORES
            && (cover->used == 0
                || ngx_http_rbgv_auth_zone_age(ngx_max(cover->used,
                                                       cover->proven), now)
                   > NGX_HTTP_RBGV_AUTH_STORE_IDLE))
        {
            place = i;
        }
    }

    if (place < NGX_HTTP_RBGV_AUTH_STORES) {
        cover = &zone->sh->covers[place];

        cover->epoch++;
        cover->flushed = cover->epoch;
        cover->proven = 0;
        cover->tag = tag;
        cover->used = now;
    }

done:

    ngx_http_rbgv_auth_zone_unlock(zone);

    return place;
}


ngx_uint_t
ngx_http_rbgv_auth_zone_has(uint32_t store)
{
    return store < NGX_HTTP_RBGV_AUTH_STORES;
}


ngx_msec_t
ngx_http_rbgv_auth_now(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (ngx_msec_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}


/*
 * Links are written under "changing", so that they can be half-written only
 * while it is set; all else is valid after any write.  The master unlocks
 * the zone of a worker that died, and who is next starts with an empty one.
 */

static void
ngx_http_rbgv_auth_zone_lock(ngx_http_rbgv_auth_zone_t *zone)
{
    ngx_uint_t                i;
    ngx_http_rbgv_auth_sh_t  *sh;

    ngx_shmtx_lock(&zone->shpool->mutex);

    sh = zone->sh;

    if (!sh->changing) {
        return;
    }

    ngx_memzero(zone->buckets, sh->nbuckets * sizeof(uint32_t));

    sh->used = 0;
    sh->newest = 0;
    sh->oldest = 0;

    for (i = 0; i < NGX_HTTP_RBGV_AUTH_STORES; i++) {
        sh->covers[i].epoch++;
    }

    ngx_memory_barrier();

    sh->changing = 0;
}


static void
ngx_http_rbgv_auth_zone_unlock(ngx_http_rbgv_auth_zone_t *zone)
{
    ngx_shmtx_unlock(&zone->shpool->mutex);
}


/* another worker may have looked at the clock a moment after this one */

static ngx_msec_t
ngx_http_rbgv_auth_zone_age(ngx_msec_t since, ngx_msec_t now)
{
    return (ngx_msec_int_t) (now - since) > 0 ? now - since : 0;
}


/* ids are random: any bits of them will do; whoever makes them is trusted */

static uint32_t
ngx_http_rbgv_auth_zone_hash(ngx_http_rbgv_auth_place_t *place)
{
    uint32_t  a, b, c;

    ngx_memcpy(&a, place->id, 4);
    ngx_memcpy(&b, place->id + 4, 4);
    ngx_memcpy(&c, place->id + 8, 4);

    a = (a ^ place->store) * 0x9e3779b1;
    a = (a ^ (a >> 15) ^ b) * 0x85ebca77;
    a = (a ^ (a >> 13) ^ c) * 0xc2b2ae3d;

    return a ^ (a >> 16);
}


static ngx_uint_t
ngx_http_rbgv_auth_zone_same(ngx_http_rbgv_auth_place_t *a,
    ngx_http_rbgv_auth_place_t *b)
{
    return ngx_memcmp(a, b, sizeof(ngx_http_rbgv_auth_place_t)) == 0;
}


ngx_int_t
ngx_http_rbgv_auth_zone_find(ngx_http_rbgv_auth_zone_t *zone,
    ngx_msec_t now, ngx_http_rbgv_auth_place_t *place,
    ngx_http_rbgv_auth_record_t *record,
    u_char text[NGX_HTTP_RBGV_AUTH_TEXT], uint32_t *node,
    ngx_http_rbgv_auth_ticket_t *ticket)
{
    uint32_t                     n, hash;
    ngx_int_t                    rc;
    ngx_http_rbgv_auth_node_t   *found;
    ngx_http_rbgv_auth_slot_t   *slot;
    ngx_http_rbgv_auth_cover_t  *cover;

    hash = ngx_http_rbgv_auth_zone_hash(place);
    cover = &zone->sh->covers[place->store];

    *node = 0;

    /* reads without trust have no ticket: no epoch is 0 */
    ngx_memzero(ticket, sizeof(ngx_http_rbgv_auth_ticket_t));

    ngx_http_rbgv_auth_zone_lock(zone);

    if (cover->proven == 0
        || ngx_http_rbgv_auth_zone_age(cover->proven, now)
           > NGX_HTTP_RBGV_AUTH_TRUST)
    {
        rc = NGX_ABORT;
        goto done;
    }

    ticket->epoch = cover->epoch;
    ticket->invalidations =
                 cover->invalidations[hash % NGX_HTTP_RBGV_AUTH_COUNTERS];

    n = ngx_http_rbgv_auth_zone_search(zone, place, hash);

    if (n) {
        found = &zone->nodes[n];

        /* what a request reads of it, until a permit is taken */

        ngx_http_rbgv_auth_prefetch(found,
                                    offsetof(ngx_http_rbgv_auth_node_t, leases)
                                    + sizeof(ngx_http_rbgv_auth_lease_t));

        if (found->epoch == cover->epoch
            && ngx_http_rbgv_auth_zone_age(found->kept, now)
               < NGX_HTTP_RBGV_AUTH_MAX_AGE)
        {
            ngx_http_rbgv_auth_zone_touch(zone, n, now);

            *record = found->record;
            ngx_memcpy(text, found->text, record->text_len);
            *node = n;

            rc = NGX_OK;
            goto done;
        }
    }

    slot = ngx_http_rbgv_auth_zone_slot(zone, place, hash);

    if (slot) {

        if (slot->epoch == cover->epoch
            && ngx_http_rbgv_auth_zone_age(slot->kept, now)
               < NGX_HTTP_RBGV_AUTH_NEGATIVE)
        {
            rc = NGX_DECLINED;
            goto done;
        }

        if (slot->reading
            && ngx_http_rbgv_auth_zone_age(slot->reading, now)
               < NGX_HTTP_RBGV_AUTH_READING)
        {
            rc = NGX_BUSY;
            goto done;
        }

    } else {
        slot = ngx_http_rbgv_auth_zone_oldest_slot(zone, hash);
    }

    slot->epoch = 0;
    slot->place = *place;
    slot->kept = now;
    slot->reading = now;

    rc = NGX_AGAIN;

done:

    ngx_http_rbgv_auth_zone_unlock(zone);

    return rc;
}


uint32_t
ngx_http_rbgv_auth_zone_keep(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place, ngx_http_rbgv_auth_record_t *record,
    u_char *text, ngx_http_rbgv_auth_ticket_t *ticket)
{
    uint32_t                     n, hash;
    ngx_msec_t                   now;
    ngx_http_rbgv_auth_node_t   *node;
    ngx_http_rbgv_auth_slot_t   *slot;
    ngx_http_rbgv_auth_cover_t  *cover;

    now = ngx_http_rbgv_auth_now();
    hash = ngx_http_rbgv_auth_zone_hash(place);
    cover = &zone->sh->covers[place->store];

    ngx_http_rbgv_auth_zone_lock(zone);

    slot = ngx_http_rbgv_auth_zone_slot(zone, place, hash);

    if (slot) {
        slot->reading = 0;
    }

    n = ngx_http_rbgv_auth_zone_search(zone, place, hash);

    if (n) {
        ngx_http_rbgv_auth_zone_compare(&zone->nodes[n], record, text, now);
    }

    /* what was read before an invalidation is not stored after it */

    if (cover->epoch != ticket->epoch
        || cover->invalidations[hash % NGX_HTTP_RBGV_AUTH_COUNTERS]
           != ticket->invalidations)
    {
        n = 0;
        goto done;
    }

    if (record == NULL) {
        n = 0;

        if (slot) {
            slot->kept = now;
            slot->epoch = ticket->epoch;
        }

        goto done;
    }

    if (record->text_len > NGX_HTTP_RBGV_AUTH_TEXT) {
        n = 0;
        goto done;
    }

    if (n == 0) {
        n = ngx_http_rbgv_auth_zone_create(zone, place, hash, now);
    }

    if (n == 0) {
        goto done;
    }

    node = &zone->nodes[n];

    ngx_http_rbgv_auth_zone_update(node, record, text);

    node->kept = now;
    node->epoch = ticket->epoch;

done:

    ngx_http_rbgv_auth_zone_unlock(zone);

    return n;
}


/* whatever becomes of a read, it tells whether what was known is still true */

static void
ngx_http_rbgv_auth_zone_compare(ngx_http_rbgv_auth_node_t *node,
    ngx_http_rbgv_auth_record_t *record, u_char *text, ngx_msec_t now)
{
    if (record
        && ngx_memcmp(record, &node->record,
                      sizeof(ngx_http_rbgv_auth_record_t))
           == 0
        && ngx_memcmp(text, node->text, record->text_len) == 0)
    {
        node->kept = now;
        return;
    }

    node->epoch = 0;
}


ngx_int_t
ngx_http_rbgv_auth_zone_stale(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place, ngx_msec_t age,
    ngx_http_rbgv_auth_record_t *record,
    u_char text[NGX_HTTP_RBGV_AUTH_TEXT], uint32_t *node)
{
    uint32_t                     n;
    ngx_int_t                    rc;
    ngx_msec_t                   now;
    ngx_http_rbgv_auth_node_t   *found;
    ngx_http_rbgv_auth_cover_t  *cover;

    now = ngx_http_rbgv_auth_now();
    cover = &zone->sh->covers[place->store];
    rc = NGX_DECLINED;

    ngx_http_rbgv_auth_zone_lock(zone);

    n = ngx_http_rbgv_auth_zone_search(zone, place,
                                       ngx_http_rbgv_auth_zone_hash(place));
    if (n == 0) {
        goto done;
    }

    found = &zone->nodes[n];

    if (found->epoch == 0
        || (int32_t) (found->epoch - cover->flushed) < 0
        || ngx_http_rbgv_auth_zone_age(
                           ngx_http_rbgv_auth_zone_known(found, cover), now)
           >= age)
    {
        goto done;
    }

    ngx_http_rbgv_auth_zone_touch(zone, n, now);

    *record = found->record;
    ngx_memcpy(text, found->text, record->text_len);
    *node = n;

    rc = NGX_OK;

done:

    ngx_http_rbgv_auth_zone_unlock(zone);

    return rc;
}


/* when the record was true: when it was read, or all changes were told */

static ngx_msec_t
ngx_http_rbgv_auth_zone_known(ngx_http_rbgv_auth_node_t *node,
    ngx_http_rbgv_auth_cover_t *cover)
{
    ngx_msec_t  proven;

    if (node->epoch == cover->epoch) {
        proven = cover->proven;

    } else if (cover->epoch - node->epoch < NGX_HTTP_RBGV_AUTH_EPOCHS) {
        proven = cover->ended[node->epoch % NGX_HTTP_RBGV_AUTH_EPOCHS];

    } else {
        return node->kept;
    }

    return (ngx_msec_int_t) (proven - node->kept) > 0 ? proven : node->kept;
}


void
ngx_http_rbgv_auth_zone_unread(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place)
{
    uint32_t                    hash;
    ngx_http_rbgv_auth_slot_t  *slot;

    hash = ngx_http_rbgv_auth_zone_hash(place);

    ngx_http_rbgv_auth_zone_lock(zone);

    slot = ngx_http_rbgv_auth_zone_slot(zone, place, hash);

    if (slot) {
        slot->reading = 0;
    }

    ngx_http_rbgv_auth_zone_unlock(zone);
}


/* an id has its place in a few slots side by side */

static ngx_http_rbgv_auth_slot_t *
ngx_http_rbgv_auth_zone_slot(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place, uint32_t hash)
{
    ngx_uint_t                  i;
    ngx_http_rbgv_auth_slot_t  *slot;

    slot = &zone->slots[hash & (zone->sh->nslots - 1)
                        & ~(NGX_HTTP_RBGV_AUTH_WAYS - 1)];

    for (i = 0; i < NGX_HTTP_RBGV_AUTH_WAYS; i++) {
        if (ngx_http_rbgv_auth_zone_same(&slot[i].place, place)) {
            return &slot[i];
        }
    }

    return NULL;
}


static ngx_http_rbgv_auth_slot_t *
ngx_http_rbgv_auth_zone_oldest_slot(ngx_http_rbgv_auth_zone_t *zone,
    uint32_t hash)
{
    ngx_uint_t                  i;
    ngx_http_rbgv_auth_slot_t  *slot, *oldest;

    slot = &zone->slots[hash & (zone->sh->nslots - 1)
                        & ~(NGX_HTTP_RBGV_AUTH_WAYS - 1)];
    oldest = slot;

    for (i = 1; i < NGX_HTTP_RBGV_AUTH_WAYS; i++) {
        if ((ngx_msec_int_t) (slot[i].kept - oldest->kept) < 0) {
            oldest = &slot[i];
        }
    }

    return oldest;
}


/* the node a number was given for, if it is the same one still */

static ngx_http_rbgv_auth_node_t *
ngx_http_rbgv_auth_zone_node(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place, uint32_t node)
{
    if (node == 0 || node > zone->sh->used
        || !ngx_http_rbgv_auth_zone_same(&zone->nodes[node].place, place))
    {
        return NULL;
    }

    return &zone->nodes[node];
}


static uint32_t
ngx_http_rbgv_auth_zone_search(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place, uint32_t hash)
{
    uint32_t  n;

    for (n = zone->buckets[hash & (zone->sh->nbuckets - 1)];
         n;
         n = zone->nodes[n].next)
    {
        if (ngx_http_rbgv_auth_zone_same(&zone->nodes[n].place, place)) {
            return n;
        }
    }

    return 0;
}


static uint32_t
ngx_http_rbgv_auth_zone_create(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place, uint32_t hash, ngx_msec_t now)
{
    uint32_t                    n, *bucket;
    ngx_http_rbgv_auth_sh_t    *sh;
    ngx_http_rbgv_auth_node_t  *node;

    sh = zone->sh;
    n = 0;

    if (sh->used == sh->nnodes) {
        n = ngx_http_rbgv_auth_zone_victim(zone, now);

        if (n == 0) {
            sh->unkept++;
            return 0;
        }

        sh->evictions++;
    }

    sh->changing = 1;
    ngx_memory_barrier();

    if (n) {
        ngx_http_rbgv_auth_zone_unlink(zone, n);

    } else {
        n = ++sh->used;
    }

    node = &zone->nodes[n];

    ngx_memzero(node, sizeof(ngx_http_rbgv_auth_node_t));

    bucket = &zone->buckets[hash & (sh->nbuckets - 1)];

    node->place = *place;
    node->touched = now;
    node->next = *bucket;
    *bucket = n;

    ngx_http_rbgv_auth_zone_newest(zone, n);

    ngx_memory_barrier();
    sh->changing = 0;

    return n;
}


/*
 * One of the oldest that has nothing to tell: uses and permits of the others
 * would be lost.  0: none, so that a key is asked of Redis for now.
 */

static uint32_t
ngx_http_rbgv_auth_zone_victim(ngx_http_rbgv_auth_zone_t *zone,
    ngx_msec_t now)
{
    uint32_t                    n;
    ngx_uint_t                  i;
    ngx_http_rbgv_auth_node_t  *node;

    n = zone->sh->oldest;

    for (i = 0; n && i < NGX_HTTP_RBGV_AUTH_VICTIMS; i++) {
        node = &zone->nodes[n];

        if (!ngx_http_rbgv_auth_zone_untold(node)
            || ngx_http_rbgv_auth_zone_age(node->touched, now)
               > NGX_HTTP_RBGV_AUTH_UNTOLD)
        {
            return n;
        }

        n = node->newer;
    }

    return 0;
}


static ngx_uint_t
ngx_http_rbgv_auth_zone_untold(ngx_http_rbgv_auth_node_t *node)
{
    uint32_t    any;
    ngx_uint_t  i;

    any = (node->limited || node->broke || node->refund);

    for (i = 0; i < NGX_HTTP_RBGV_AUTH_SECRETS; i++) {
        any |= node->used[i];
    }

    for (i = 0; i < NGX_HTTP_RBGV_AUTH_LEASES; i++) {
        any |= node->leases[i].permits;
    }

    return any != 0;
}


static void
ngx_http_rbgv_auth_zone_unlink(ngx_http_rbgv_auth_zone_t *zone, uint32_t n)
{
    uint32_t  *link, hash;

    hash = ngx_http_rbgv_auth_zone_hash(&zone->nodes[n].place);

    link = &zone->buckets[hash & (zone->sh->nbuckets - 1)];

    while (*link != n) {
        link = &zone->nodes[*link].next;
    }

    *link = zone->nodes[n].next;

    ngx_http_rbgv_auth_zone_detach(zone, n);
}


/* once a second is often enough for the order of eviction */

static void
ngx_http_rbgv_auth_zone_touch(ngx_http_rbgv_auth_zone_t *zone, uint32_t n,
    ngx_msec_t now)
{
    ngx_msec_t                  age;
    ngx_http_rbgv_auth_node_t  *node;

    node = &zone->nodes[n];
    age = ngx_http_rbgv_auth_zone_age(node->touched, now);

    if (age < 1000) {
        return;
    }

    node->touched = now;
    node->rested = (age >= NGX_HTTP_RBGV_AUTH_IDLE);

    if (zone->sh->newest == n) {
        return;
    }

    zone->sh->changing = 1;
    ngx_memory_barrier();

    ngx_http_rbgv_auth_zone_detach(zone, n);
    ngx_http_rbgv_auth_zone_newest(zone, n);

    ngx_memory_barrier();
    zone->sh->changing = 0;
}


static void
ngx_http_rbgv_auth_zone_newest(ngx_http_rbgv_auth_zone_t *zone, uint32_t n)
{
    ngx_http_rbgv_auth_sh_t  *sh;

    sh = zone->sh;

    zone->nodes[n].newer = 0;
    zone->nodes[n].older = sh->newest;

    if (sh->newest) {
        zone->nodes[sh->newest].newer = n;

    } else {
        sh->oldest = n;
    }

    sh->newest = n;
}


static void
ngx_http_rbgv_auth_zone_detach(ngx_http_rbgv_auth_zone_t *zone, uint32_t n)
{
    ngx_http_rbgv_auth_sh_t    *sh;
    ngx_http_rbgv_auth_node_t  *node;

    sh = zone->sh;
    node = &zone->nodes[n];

    if (node->newer) {
        zone->nodes[node->newer].older = node->older;

    } else {
        sh->newest = node->older;
    }

    if (node->older) {
        zone->nodes[node->older].newer = node->newer;

    } else {
        sh->oldest = node->newer;
    }
}


/*
 * Uses that are not told yet stay with their secret.  A change of limits ends
 * the leases: their permits stay counted, their credits are given back.  A
 * change of credits ends refusals for want of them.
 */

static void
ngx_http_rbgv_auth_zone_update(ngx_http_rbgv_auth_node_t *node,
    ngx_http_rbgv_auth_record_t *record, u_char *text)
{
    uint32_t                      used[NGX_HTTP_RBGV_AUTH_SECRETS];
    ngx_uint_t                    i, k;
    ngx_http_rbgv_auth_lease_t   *lease;
    ngx_http_rbgv_auth_record_t  *old;

    old = &node->record;

    ngx_memzero(used, sizeof(used));

    for (i = 0; i < record->nsecrets; i++) {
        for (k = 0; k < old->nsecrets; k++) {
            if (ngx_memcmp(record->digest[i], old->digest[k],
                           RBGV_DIGEST_LEN)
                == 0)
            {
                used[i] = node->used[k];
            }
        }
    }

    ngx_memcpy(node->used, used, sizeof(used));

    if (record->text_len != old->text_len
        || ngx_memcmp(text, node->text, record->text_len) != 0)
    {
        for (i = 0; i < NGX_HTTP_RBGV_AUTH_LEASES; i++) {
            lease = &node->leases[i];
            node->refund += (uint64_t) lease->price
                            * (lease->permits + lease->unused);
        }

        ngx_memzero(node->leases, sizeof(node->leases));
    }

    for (i = 0; record->credits != old->credits
                && i < NGX_HTTP_RBGV_AUTH_LEASES; i++)
    {
        if (node->leases[i].broke) {
            node->leases[i].refused_until = 0;
        }
    }

    *old = *record;
    ngx_memcpy(node->text, text, record->text_len);
}


static ngx_http_rbgv_auth_lease_t *
ngx_http_rbgv_auth_zone_lease(ngx_http_rbgv_auth_node_t *node, uint64_t set)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_RBGV_AUTH_LEASES; i++) {
        if (node->leases[i].set == set) {
            return &node->leases[i];
        }
    }

    return NULL;
}


ngx_int_t
ngx_http_rbgv_auth_zone_take(ngx_http_rbgv_auth_zone_t *zone,
    ngx_msec_t now, ngx_http_rbgv_auth_place_t *place, uint32_t node,
    uint64_t set, ngx_uint_t secret, uint32_t cost,
    ngx_http_rbgv_auth_grant_t *grant, ngx_uint_t *refill)
{
    ngx_int_t                    rc;
    ngx_http_rbgv_auth_node_t   *found;
    ngx_http_rbgv_auth_lease_t  *lease;

    rc = NGX_AGAIN;
    *refill = 0;

    ngx_http_rbgv_auth_zone_lock(zone);

    found = ngx_http_rbgv_auth_zone_node(zone, place, node);
    lease = found ? ngx_http_rbgv_auth_zone_lease(found, set) : NULL;

    if (lease == NULL) {
        goto done;
    }

    if ((ngx_msec_int_t) (lease->expires - now) > 0 && lease->permits) {

        lease->permits--;
        found->used[secret]++;

        if ((lease->permits <= lease->block / 2
             || (ngx_msec_int_t) (lease->renewal - now) <= 0)
            && (lease->refilling == 0
                || ngx_http_rbgv_auth_zone_age(lease->refilling, now)
                   > NGX_HTTP_RBGV_AUTH_REFILLING))
        {
            lease->refilling = now;
            *refill = 1;

            grant->rate = (uint64_t) (lease->block - lease->permits) * 1000
                        / (ngx_http_rbgv_auth_zone_age(lease->since, now) + 1);
        }

        rc = NGX_OK;

    } else if ((ngx_msec_int_t) (lease->refused_until - now) > 0
               && (ngx_msec_int_t) (lease->refused_until - lease->since) > 0)
    {
        /* what was not refused may have been granted since "now" was read */

        if (lease->broke) {
            found->broke++;

        } else {
            found->limited++;
        }

        rc = NGX_DECLINED;

    } else {
        goto done;
    }

    ngx_http_rbgv_auth_zone_read_lease(lease, cost, now, grant);
    ngx_http_rbgv_auth_zone_see(zone, node, 1, now);

done:

    ngx_http_rbgv_auth_zone_unlock(zone);

    return rc;
}


/* permits at hand are deducted already, and are left to this host */

static void
ngx_http_rbgv_auth_zone_read_lease(ngx_http_rbgv_auth_lease_t *lease,
    uint32_t cost, ngx_msec_t now, ngx_http_rbgv_auth_grant_t *grant)
{
    ngx_uint_t  i;
    ngx_msec_t  passed;

    passed = ngx_http_rbgv_auth_zone_age(lease->since, now);

    grant->refused_until = lease->refused_until;
    grant->retry_at = lease->retry_at;
    grant->broke = lease->broke;
    grant->nwindows = lease->nwindows;

    for (i = 0; i < lease->nwindows; i++) {
        grant->remaining[i] = lease->remaining[i] + lease->permits * cost;
        grant->reset[i] = lease->reset[i] > passed ? lease->reset[i] - passed
                                                   : 1;
    }
}


ngx_int_t
ngx_http_rbgv_auth_zone_grant(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place, uint32_t node, uint64_t set,
    ngx_http_rbgv_auth_grant_t *grant)
{
    ngx_int_t                    rc;
    ngx_uint_t                   i;
    ngx_msec_t                   now;
    ngx_http_rbgv_auth_node_t   *found;
    ngx_http_rbgv_auth_lease_t  *lease;

    now = ngx_http_rbgv_auth_now();
    rc = NGX_DECLINED;

    ngx_http_rbgv_auth_zone_lock(zone);

    found = ngx_http_rbgv_auth_zone_node(zone, place, node);

    if (found == NULL) {
        goto done;
    }

    lease = ngx_http_rbgv_auth_zone_lease(found, set);

    if (lease == NULL) {

        lease = ngx_http_rbgv_auth_zone_room(found, now);

        if (lease == NULL) {
            goto done;
        }

        ngx_memzero(lease, sizeof(ngx_http_rbgv_auth_lease_t));
        lease->set = set;
    }

    rc = NGX_OK;

    if (grant->permits) {
        ngx_http_rbgv_auth_zone_add_permits(place, lease, grant, now);

    } else {
        lease->renewal = lease->expires;
    }

    lease->block = lease->permits;
    lease->price = grant->price;
    lease->refused_until = grant->refused_until;
    lease->retry_at = grant->retry_at;
    lease->broke = grant->broke;
    lease->refilling = 0;
    lease->since = now;
    lease->nwindows = grant->nwindows;

    for (i = 0; i < grant->nwindows; i++) {
        lease->remaining[i] = grant->remaining[i];
        lease->reset[i] = grant->reset[i];
    }

    /* a watcher that has not looked for long is gone */

    if (lease->watched == 0
        || ngx_http_rbgv_auth_zone_age(lease->watched, now)
           > NGX_HTTP_RBGV_AUTH_WATCHING)
    {
        lease->watched = now;
        rc = NGX_AGAIN;
    }

done:

    ngx_http_rbgv_auth_zone_unlock(zone);

    return rc;
}


/*
 * Permits of the slice of those at hand are good for as long as they are.
 * Those of another slice take their place, and what is left of them is given
 * back with the next report, or at once if there is such a remainder already.
 */

static void
ngx_http_rbgv_auth_zone_add_permits(ngx_http_rbgv_auth_place_t *place,
    ngx_http_rbgv_auth_lease_t *lease, ngx_http_rbgv_auth_grant_t *grant,
    ngx_msec_t now)
{
    if (lease->permits
        && ((ngx_msec_int_t) (lease->expires - now) <= 0
            || !ngx_http_rbgv_auth_zone_same_slice(place, lease, grant)))
    {
        grant->unused = lease->unused;
        grant->unused_granted = lease->unused_granted;

        lease->unused = lease->permits;
        lease->unused_granted = lease->granted;
        lease->permits = 0;
    }

    lease->permits += grant->permits;
    lease->granted = grant->granted;
    lease->expires = grant->expires;
    lease->renewal = grant->renewal;
}


static ngx_uint_t
ngx_http_rbgv_auth_zone_same_slice(ngx_http_rbgv_auth_place_t *place,
    ngx_http_rbgv_auth_lease_t *lease, ngx_http_rbgv_auth_grant_t *grant)
{
    uint64_t    slice, shift;
    ngx_uint_t  i;

    for (i = 0; i < grant->nwindows; i++) {
        slice = (uint64_t) grant->seconds[i] * RBGV_SLICE;
        shift = RBGV_SHIFT(place->id, slice);

        if ((lease->granted + shift) / slice
            != (grant->granted + shift) / slice)
        {
            return 0;
        }
    }

    return 1;
}


uint32_t
ngx_http_rbgv_auth_zone_want(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place, uint32_t node, uint64_t set,
    uint32_t block, ngx_uint_t all)
{
    uint32_t                     held;
    uint64_t                     want;
    ngx_msec_t                   now;
    ngx_http_rbgv_auth_node_t   *found;
    ngx_http_rbgv_auth_lease_t  *lease;

    now = ngx_http_rbgv_auth_now();
    want = 0;

    ngx_http_rbgv_auth_zone_lock(zone);

    found = ngx_http_rbgv_auth_zone_node(zone, place, node);

    if (found == NULL) {
        goto done;
    }

    lease = ngx_http_rbgv_auth_zone_lease(found, set);

    if (found->rested) {

        /* perhaps its only request: a lease would have to be ended, too */

        found->rested = 0;

        if (lease == NULL || lease->permits == 0
            || (ngx_msec_int_t) (lease->expires - now) <= 0)
        {
            goto done;
        }
    }

    if (lease == NULL && ngx_http_rbgv_auth_zone_room(found, now) == NULL) {
        goto done;
    }

    held = 0;
    want = all ? block : NGX_HTTP_RBGV_AUTH_BLOCK_MIN;

    if (lease && !all && lease->block > lease->permits) {
        want = (uint64_t) (lease->block - lease->permits)
               * NGX_HTTP_RBGV_AUTH_BLOCK_TIME
               / (ngx_http_rbgv_auth_zone_age(lease->since, now) + 1);

        want = ngx_max(want, NGX_HTTP_RBGV_AUTH_BLOCK_MIN);
    }

    if (lease && (ngx_msec_int_t) (lease->renewal - now) > 0) {
        held = lease->permits;
    }

    block = (block > held) ? block - held : 0;
    want = ngx_min(want, block);

done:

    ngx_http_rbgv_auth_zone_unlock(zone);

    return (uint32_t) want;
}


/* the place of a lease that has ended, with nothing to give back */

static ngx_http_rbgv_auth_lease_t *
ngx_http_rbgv_auth_zone_room(ngx_http_rbgv_auth_node_t *node, ngx_msec_t now)
{
    ngx_uint_t                   i;
    ngx_http_rbgv_auth_lease_t  *lease;

    for (i = 0; i < NGX_HTTP_RBGV_AUTH_LEASES; i++) {
        lease = &node->leases[i];

        if (lease->set == 0
            || (lease->permits == 0 && lease->unused == 0
                && ngx_http_rbgv_auth_zone_ends(lease, now) == 0))
        {
            return lease;
        }
    }

    return NULL;
}


ngx_uint_t
ngx_http_rbgv_auth_zone_report(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place, uint32_t node, uint64_t set,
    ngx_http_rbgv_auth_report_e what, ngx_http_rbgv_auth_report_t *report)
{
    ngx_uint_t                   i, any;
    ngx_msec_t                   now, idle;
    ngx_http_rbgv_auth_node_t   *found;
    ngx_http_rbgv_auth_lease_t  *lease;

    now = ngx_http_rbgv_auth_now();
    any = 0;

    ngx_memzero(report, sizeof(ngx_http_rbgv_auth_report_t));

    ngx_http_rbgv_auth_zone_lock(zone);

    found = ngx_http_rbgv_auth_zone_node(zone, place, node);

    if (found == NULL) {
        goto done;
    }

    lease = ngx_http_rbgv_auth_zone_lease(found, set);

    if (lease) {
        report->ends = ngx_http_rbgv_auth_zone_ends(lease, now);

        if (what == NGX_HTTP_RBGV_AUTH_REPORT_ENDED && report->ends) {

            idle = found->touched + NGX_HTTP_RBGV_AUTH_IDLE;

            if ((ngx_msec_int_t) (idle - now) > 0) {
                lease->watched = now;

                if ((ngx_msec_int_t) (idle - report->ends) < 0) {
                    report->ends = idle;
                }

                goto done;
            }

            what = NGX_HTTP_RBGV_AUTH_REPORT_ALL;
        }

        ngx_http_rbgv_auth_zone_take_unused(lease, what, now, report);

        if (what != NGX_HTTP_RBGV_AUTH_REPORT_COUNTS) {
            report->ends = 0;
            lease->watched = 0;
        }
    }

    report->nsecrets = found->record.nsecrets;
    report->limited = found->limited;
    report->broke = found->broke;
    report->refund = found->refund;
    any = (report->unused || report->limited || report->broke
           || report->refund);

    for (i = 0; i < report->nsecrets; i++) {
        ngx_memcpy(report->digest[i], found->record.digest[i], 8);

        report->used[i] = found->used[i];
        any |= (report->used[i] != 0);

        found->used[i] = 0;
    }

    found->limited = 0;
    found->broke = 0;
    found->refund = 0;

done:

    ngx_http_rbgv_auth_zone_unlock(zone);

    return any;
}


/* one remainder at a time: another one is left for the report that follows */

static void
ngx_http_rbgv_auth_zone_take_unused(ngx_http_rbgv_auth_lease_t *lease,
    ngx_http_rbgv_auth_report_e what, ngx_msec_t now,
    ngx_http_rbgv_auth_report_t *report)
{
    if (lease->unused) {
        report->unused = lease->unused;
        report->granted = lease->unused_granted;
        lease->unused = 0;
        return;
    }

    if (what == NGX_HTTP_RBGV_AUTH_REPORT_ALL
        || (ngx_msec_int_t) (lease->expires - now) <= 0)
    {
        report->unused = lease->permits;
        report->granted = lease->granted;
        lease->permits = 0;
    }
}


void
ngx_http_rbgv_auth_zone_retract(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place, uint32_t node, uint64_t set,
    ngx_http_rbgv_auth_report_t *report)
{
    ngx_uint_t                   i, k;
    ngx_http_rbgv_auth_node_t   *found;
    ngx_http_rbgv_auth_lease_t  *lease;

    ngx_http_rbgv_auth_zone_lock(zone);

    found = ngx_http_rbgv_auth_zone_node(zone, place, node);

    if (found == NULL) {
        goto done;
    }

    lease = ngx_http_rbgv_auth_zone_lease(found, set);

    if (lease && lease->unused == 0) {
        lease->unused = report->unused;
        lease->unused_granted = report->granted;
    }

    found->limited += report->limited;
    found->broke += report->broke;
    found->refund += report->refund;

    for (i = 0; i < report->nsecrets; i++) {
        for (k = 0; k < found->record.nsecrets; k++) {
            if (ngx_memcmp(report->digest[i], found->record.digest[k], 8)
                == 0)
            {
                found->used[k] += report->used[i];
            }
        }
    }

done:

    ngx_http_rbgv_auth_zone_unlock(zone);
}


/* 0 if it is over: nothing is taken from it, and nothing refused by it */

static ngx_msec_t
ngx_http_rbgv_auth_zone_ends(ngx_http_rbgv_auth_lease_t *lease,
    ngx_msec_t now)
{
    ngx_msec_t  ends;

    ends = lease->expires;

    if ((ngx_msec_int_t) (lease->refused_until - ends) > 0) {
        ends = lease->refused_until;
    }

    return (ngx_msec_int_t) (ends - now) > 0 ? ends : 0;
}


ngx_int_t
ngx_http_rbgv_auth_zone_count(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place, uint32_t node, ngx_uint_t secret,
    ngx_http_rbgv_auth_count_t *count)
{
    uint32_t                    hash;
    ngx_int_t                   rc;
    struct timespec             ts;
    ngx_http_rbgv_auth_node_t  *found;

    hash = ngx_http_rbgv_auth_zone_hash(place);

    ngx_http_rbgv_auth_zone_lock(zone);

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    rc = ngx_http_rbgv_auth_local_count(zone->locals, zone->sh->nlocals,
                                        place, hash, count,
                                        (uint64_t) ts.tv_sec * 1000000
                                        + ts.tv_nsec / 1000);

    found = ngx_http_rbgv_auth_zone_node(zone, place, node);

    /* told to Redis when the key is counted there again */

    if (found && rc == NGX_OK) {
        found->used[secret]++;

    } else if (found && rc == NGX_DECLINED) {
        found->limited++;
    }

    if (found) {
        ngx_http_rbgv_auth_zone_see(zone, node, 1,
                                    (ngx_msec_t) ts.tv_sec * 1000
                                    + ts.tv_nsec / 1000000);
    }

    ngx_http_rbgv_auth_zone_unlock(zone);

    return rc;
}


void
ngx_http_rbgv_auth_zone_seen(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place, uint32_t node, uint32_t requests)
{
    ngx_msec_t  now;

    now = ngx_http_rbgv_auth_now();

    ngx_http_rbgv_auth_zone_lock(zone);

    if (ngx_http_rbgv_auth_zone_node(zone, place, node) == NULL) {
        node = 0;
    }

    ngx_http_rbgv_auth_zone_see(zone, node, requests, now);

    ngx_http_rbgv_auth_zone_unlock(zone);
}


/* n 0: of a key that is not kept */

static void
ngx_http_rbgv_auth_zone_see(ngx_http_rbgv_auth_zone_t *zone, uint32_t n,
    uint32_t requests, ngx_msec_t now)
{
    ngx_http_rbgv_auth_sh_t    *sh;
    ngx_http_rbgv_auth_node_t  *node;

    sh = zone->sh;

    if (now / NGX_HTTP_RBGV_AUTH_MINUTE > sh->minute) {
        ngx_http_rbgv_auth_zone_turn(zone, now);
    }

    sh->requests += requests;

    if (n == 0) {
        return;
    }

    node = &zone->nodes[n];

    if (node->minute != sh->minute) {
        node->minute = sh->minute;
        node->requests = 0;
        node->rank = 0;
    }

    node->requests += requests;

    if (node->rank == 0 && node->requests > sh->floor) {
        ngx_http_rbgv_auth_zone_rank(zone, n);
    }
}


static void
ngx_http_rbgv_auth_zone_turn(ngx_http_rbgv_auth_zone_t *zone, ngx_msec_t now)
{
    ngx_uint_t                     i;
    ngx_http_rbgv_auth_sh_t       *sh;
    ngx_http_rbgv_auth_node_t     *node;
    ngx_http_rbgv_auth_traffic_t  *last;

    sh = zone->sh;
    last = &sh->last;

    last->requests = 0;
    last->nkeys = 0;

    if (sh->minute + 1 == now / NGX_HTTP_RBGV_AUTH_MINUTE) {
        last->requests = sh->requests;

        for (i = 0; i < NGX_HTTP_RBGV_AUTH_BUSIEST; i++) {
            node = ngx_http_rbgv_auth_zone_ranked(zone, i);

            if (node) {
                last->keys[last->nkeys].place = node->place;
                last->keys[last->nkeys].requests = node->requests;
                last->nkeys++;
            }
        }
    }

    sh->minute = now / NGX_HTTP_RBGV_AUTH_MINUTE;
    sh->requests = 0;
    sh->floor = 0;
    ngx_memzero(sh->ranks, sizeof(sh->ranks));
}


/*
 * In the place of the one with fewest requests, if those are less.  "floor" is
 * what was found to be the fewest, so that a list is looked through again only
 * for a node that has more.
 */

static void
ngx_http_rbgv_auth_zone_rank(ngx_http_rbgv_auth_zone_t *zone, uint32_t n)
{
    uint64_t                    requests;
    ngx_uint_t                  i, least;
    ngx_http_rbgv_auth_sh_t    *sh;
    ngx_http_rbgv_auth_node_t  *node;

    sh = zone->sh;
    sh->floor = (uint64_t) -1;
    least = 0;

    for (i = 0; i < NGX_HTTP_RBGV_AUTH_BUSIEST; i++) {
        node = ngx_http_rbgv_auth_zone_ranked(zone, i);
        requests = node ? node->requests : 0;

        if (requests < sh->floor) {
            sh->floor = requests;
            least = i;
        }
    }

    if (zone->nodes[n].requests <= sh->floor) {
        return;
    }

    node = ngx_http_rbgv_auth_zone_ranked(zone, least);

    if (node) {
        node->rank = 0;
    }

    sh->ranks[least] = n;
    zone->nodes[n].rank = least + 1;
}


/* NULL: the place is free, or its node is of another key by now */

static ngx_http_rbgv_auth_node_t *
ngx_http_rbgv_auth_zone_ranked(ngx_http_rbgv_auth_zone_t *zone, ngx_uint_t i)
{
    uint32_t                    n;
    ngx_http_rbgv_auth_node_t  *node;

    n = zone->sh->ranks[i];

    if (n == 0 || n > zone->sh->used) {
        return NULL;
    }

    node = &zone->nodes[n];

    return (node->rank == i + 1 && node->minute == zone->sh->minute) ? node
                                                                     : NULL;
}


void
ngx_http_rbgv_auth_zone_traffic(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_traffic_t *traffic)
{
    ngx_msec_t  now;

    now = ngx_http_rbgv_auth_now();

    ngx_http_rbgv_auth_zone_lock(zone);

    if (now / NGX_HTTP_RBGV_AUTH_MINUTE > zone->sh->minute) {
        ngx_http_rbgv_auth_zone_turn(zone, now);
    }

    *traffic = zone->sh->last;

    ngx_http_rbgv_auth_zone_unlock(zone);
}


void
ngx_http_rbgv_auth_zone_tally(ngx_http_rbgv_auth_zone_t *zone,
    ngx_uint_t kind)
{
    ngx_http_rbgv_auth_zone_tally_by(zone, kind, 1);
}


void
ngx_http_rbgv_auth_zone_tally_by(ngx_http_rbgv_auth_zone_t *zone,
    ngx_uint_t kind, ngx_uint_t n)
{
    ngx_http_rbgv_auth_tally_t  *tally;

    tally = &zone->sh->tallies[ngx_worker % NGX_HTTP_RBGV_AUTH_WORKERS];

    (void) ngx_atomic_fetch_add(&tally->counts[kind], n);
}


uint64_t
ngx_http_rbgv_auth_zone_tallied(ngx_http_rbgv_auth_zone_t *zone,
    ngx_uint_t kind)
{
    uint64_t    sum;
    ngx_uint_t  i;

    sum = 0;

    for (i = 0; i < NGX_HTTP_RBGV_AUTH_WORKERS; i++) {
        sum += zone->sh->tallies[i].counts[kind];
    }

    return sum;
}


void
ngx_http_rbgv_auth_zone_broken(ngx_http_rbgv_auth_zone_t *zone,
    uint32_t store, ngx_uint_t n, ngx_uint_t begins)
{
    ngx_uint_t  worker;

    worker = ngx_worker % NGX_HTTP_RBGV_AUTH_WORKERS;

    if (begins) {
        zone->sh->pids[worker] = ngx_pid;
    }

    /* after a reload, the place is that of the new worker */

    if (zone->sh->pids[worker] == ngx_pid) {
        zone->sh->covers[store].broken[worker] = n;
    }
}


ngx_uint_t
ngx_http_rbgv_auth_zone_breakers(ngx_http_rbgv_auth_zone_t *zone,
    uint32_t store)
{
    ngx_uint_t  i, n;

    n = 0;

    for (i = 0; i < NGX_HTTP_RBGV_AUTH_WORKERS; i++) {
        n += zone->sh->covers[store].broken[i];
    }

    return n;
}


void
ngx_http_rbgv_auth_zone_size(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_size_t *size)
{
    size->used = zone->sh->used;
    size->capacity = zone->sh->nnodes;
    size->evictions = zone->sh->evictions;
    size->unkept = zone->sh->unkept;
}


void
ngx_http_rbgv_auth_zone_invalidate(ngx_http_rbgv_auth_zone_t *zone,
    ngx_http_rbgv_auth_place_t *place)
{
    uint32_t                     n, hash;
    ngx_http_rbgv_auth_slot_t   *slot;
    ngx_http_rbgv_auth_cover_t  *cover;

    hash = ngx_http_rbgv_auth_zone_hash(place);
    cover = &zone->sh->covers[place->store];

    ngx_http_rbgv_auth_zone_lock(zone);

    cover->invalidations[hash % NGX_HTTP_RBGV_AUTH_COUNTERS]++;

    n = ngx_http_rbgv_auth_zone_search(zone, place, hash);

    if (n) {
        zone->nodes[n].epoch = 0;
    }

    slot = ngx_http_rbgv_auth_zone_slot(zone, place, hash);

    if (slot) {
        slot->epoch = 0;
        slot->reading = 0;
    }

    ngx_http_rbgv_auth_zone_unlock(zone);
}


/* epochs start at 1, and 0 is never one */

void
ngx_http_rbgv_auth_zone_flush(ngx_http_rbgv_auth_zone_t *zone, uint32_t store)
{
    ngx_http_rbgv_auth_zone_lock(zone);

    if (++zone->sh->covers[store].epoch == 0) {
        zone->sh->covers[store].epoch = 1;
    }

    zone->sh->covers[store].flushed = zone->sh->covers[store].epoch;

    ngx_http_rbgv_auth_zone_unlock(zone);
}


void
ngx_http_rbgv_auth_zone_restart(ngx_http_rbgv_auth_zone_t *zone,
    uint32_t store)
{
    ngx_http_rbgv_auth_zone_lock(zone);

    ngx_http_rbgv_auth_zone_end_epoch(&zone->sh->covers[store]);

    zone->sh->covers[store].proven = 0;

    ngx_http_rbgv_auth_zone_unlock(zone);
}


static void
ngx_http_rbgv_auth_zone_end_epoch(ngx_http_rbgv_auth_cover_t *cover)
{
    cover->ended[cover->epoch % NGX_HTTP_RBGV_AUTH_EPOCHS] = cover->proven;

    if (++cover->epoch == 0) {
        cover->epoch = 1;
    }
}


/*
 * What one channel proves adds to what others have proven if it has listened
 * since before that ended.  If not, nobody may have listened in between: when
 * nobody is trusted any more, the zone starts over with this channel.
 */

void
ngx_http_rbgv_auth_zone_proven(ngx_http_rbgv_auth_zone_t *zone,
    uint32_t store, ngx_msec_t since, ngx_msec_t until)
{
    ngx_msec_t                   now;
    ngx_http_rbgv_auth_cover_t  *cover;

    now = ngx_http_rbgv_auth_now();
    cover = &zone->sh->covers[store];

    ngx_http_rbgv_auth_zone_lock(zone);

    if (cover->proven && (ngx_msec_int_t) (since - cover->proven) <= 0) {

        if ((ngx_msec_int_t) (until - cover->proven) > 0) {
            cover->proven = until;
        }

    } else if (cover->proven == 0
               || ngx_http_rbgv_auth_zone_age(cover->proven, now)
                  > NGX_HTTP_RBGV_AUTH_TRUST)
    {
        ngx_http_rbgv_auth_zone_end_epoch(cover);

        cover->proven = until;
    }

    ngx_http_rbgv_auth_zone_unlock(zone);
}


ngx_uint_t
ngx_http_rbgv_auth_zone_trusted(ngx_http_rbgv_auth_zone_t *zone,
    uint32_t store)
{
    ngx_msec_t  proven;

    proven = zone->sh->covers[store].proven;

    return proven
           && ngx_http_rbgv_auth_zone_age(proven, ngx_http_rbgv_auth_now())
              <= NGX_HTTP_RBGV_AUTH_TRUST;
}


ngx_msec_int_t
ngx_http_rbgv_auth_zone_lag(ngx_http_rbgv_auth_zone_t *zone, uint32_t store)
{
    ngx_msec_t  proven;

    proven = zone->sh->covers[store].proven;

    if (proven == 0) {
        return -1;
    }

    return ngx_http_rbgv_auth_zone_age(proven, ngx_http_rbgv_auth_now());
}


uint32_t
ngx_http_rbgv_auth_zone_epoch(ngx_http_rbgv_auth_zone_t *zone, uint32_t store)
{
    return zone->sh->covers[store].epoch;
}
