
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Windows that a host counts by itself, while Redis does not.  They slide as
 * those of src/rbgv_count.lua do: in slices of 1/16 of the window, of which
 * the newest and the 16 before it count.  A window has its place in a few
 * entries side by side, and is given up only when all of it has passed: there
 * may be no room for another one, but never more than the quota.
 */


#include <ngx_config.h>
#include <ngx_core.h>

#include "ngx_http_rbgv_auth_zone.h"


#define NGX_HTTP_RBGV_AUTH_LOCAL_WAYS    16U
#define NGX_HTTP_RBGV_AUTH_LOCAL_SLICES  17  /* that count at a time */


struct ngx_http_rbgv_auth_local_s {
    ngx_http_rbgv_auth_place_t    place;
    uint32_t                      name;
    uint32_t                      window;    /* seconds; 0: free */
    uint64_t                      newest;    /* index of a slice */
    uint32_t                      counts[NGX_HTTP_RBGV_AUTH_LOCAL_SLICES];
};


static ngx_http_rbgv_auth_local_t *ngx_http_rbgv_auth_local_find(
    ngx_http_rbgv_auth_local_t *local, ngx_http_rbgv_auth_place_t *place,
    ngx_http_rbgv_auth_quota_t *quota, uint64_t now);
static uint64_t ngx_http_rbgv_auth_local_slice(uint32_t window);
static void ngx_http_rbgv_auth_local_turn(ngx_http_rbgv_auth_local_t *local,
    uint64_t now);
static uint64_t ngx_http_rbgv_auth_local_test(
    ngx_http_rbgv_auth_local_t *local, ngx_http_rbgv_auth_quota_t *quota,
    uint32_t cost, uint64_t now);


size_t
ngx_http_rbgv_auth_local_size(uint32_t n)
{
    return n * sizeof(ngx_http_rbgv_auth_local_t);
}


ngx_int_t
ngx_http_rbgv_auth_local_count(ngx_http_rbgv_auth_local_t *locals, uint32_t n,
    ngx_http_rbgv_auth_place_t *place, uint32_t hash,
    ngx_http_rbgv_auth_count_t *count, uint64_t now)
{
    uint32_t                     k;
    uint64_t                     retry;
    ngx_uint_t                   i;
    ngx_http_rbgv_auth_local_t  *found[RBGV_LIMITS_MAX];
    ngx_http_rbgv_auth_quota_t  *quota;

    count->retry = 0;

    for (i = 0; i < count->nquotas; i++) {
        quota = &count->quotas[i];

        k = (hash ^ (quota->name * 0x9e3779b1)) & (n - 1)
            & ~(NGX_HTTP_RBGV_AUTH_LOCAL_WAYS - 1);

        found[i] = ngx_http_rbgv_auth_local_find(&locals[k], place, quota,
                                                 now);
        if (found[i] == NULL) {
            return NGX_ERROR;
        }

        ngx_http_rbgv_auth_local_turn(found[i], now);

        retry = ngx_http_rbgv_auth_local_test(found[i], quota, count->cost,
                                              now);

        count->retry = ngx_max(count->retry, retry);
    }

    if (count->retry) {
        return NGX_DECLINED;
    }

    for (i = 0; i < count->nquotas && count->cost; i++) {
        k = found[i]->newest % NGX_HTTP_RBGV_AUTH_LOCAL_SLICES;

        found[i]->counts[k] += count->cost;
        count->quotas[i].remaining -= count->cost;
    }

    return NGX_OK;
}


/* its entry, or a new one if there is one free, or one whose time is over */

static ngx_http_rbgv_auth_local_t *
ngx_http_rbgv_auth_local_find(ngx_http_rbgv_auth_local_t *local,
    ngx_http_rbgv_auth_place_t *place, ngx_http_rbgv_auth_quota_t *quota,
    uint64_t now)
{
    ngx_uint_t                   i;
    ngx_http_rbgv_auth_local_t  *room;

    room = NULL;

    for (i = 0; i < NGX_HTTP_RBGV_AUTH_LOCAL_WAYS; i++, local++) {

        if (local->window == 0
            || now / ngx_http_rbgv_auth_local_slice(local->window)
               >= local->newest + NGX_HTTP_RBGV_AUTH_LOCAL_SLICES)
        {
            room = local;
        }

        if (local->window == quota->window
            && local->name == quota->name
            && ngx_memcmp(&local->place, place,
                          sizeof(ngx_http_rbgv_auth_place_t))
               == 0)
        {
            return local;
        }
    }

    if (room == NULL) {
        return NULL;
    }

    ngx_memzero(room, sizeof(ngx_http_rbgv_auth_local_t));

    room->place = *place;
    room->name = quota->name;
    room->window = quota->window;
    room->newest = now / ngx_http_rbgv_auth_local_slice(quota->window);

    return room;
}


/* microseconds */

static uint64_t
ngx_http_rbgv_auth_local_slice(uint32_t window)
{
    return (uint64_t) window * 62500;
}


static void
ngx_http_rbgv_auth_local_turn(ngx_http_rbgv_auth_local_t *local, uint64_t now)
{
    uint64_t    index;
    ngx_uint_t  i;

    /* NOLINTNEXTLINE(clang-analyzer-core.DivideZero): a window is not 0 */
    index = now / ngx_http_rbgv_auth_local_slice(local->window);

    for (i = 0;
         i < NGX_HTTP_RBGV_AUTH_LOCAL_SLICES && local->newest + i < index;
         i++)
    {
        local->counts[(local->newest + 1 + i)
                      % NGX_HTTP_RBGV_AUTH_LOCAL_SLICES] = 0;
    }

    local->newest = index;
}


/* 0 if there is room; or the milliseconds after which there may be */

static uint64_t
ngx_http_rbgv_auth_local_test(ngx_http_rbgv_auth_local_t *local,
    ngx_http_rbgv_auth_quota_t *quota, uint32_t cost, uint64_t now)
{
    uint64_t    sum, slice;
    ngx_uint_t  i;

    sum = 0;
    slice = ngx_http_rbgv_auth_local_slice(local->window);

    for (i = 0; i < NGX_HTTP_RBGV_AUTH_LOCAL_SLICES; i++) {
        sum += local->counts[i];
    }

    quota->remaining = quota->quota > sum ? quota->quota - sum : 0;
    quota->reset = ((local->newest + 1) * slice - now + 999) / 1000;

    if (cost <= quota->remaining) {
        return 0;
    }

    /* slices drop out one by one, the oldest first */

    for (i = 1; i < NGX_HTTP_RBGV_AUTH_LOCAL_SLICES; i++) {
        sum -= local->counts[(local->newest + i)
                             % NGX_HTTP_RBGV_AUTH_LOCAL_SLICES];

        if (sum + cost <= quota->quota) {
            break;
        }
    }

    return ((local->newest + i) * slice - now + 999) / 1000;
}
