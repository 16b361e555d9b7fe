
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * The little of nginx that the files of the targets come to.  Each allocation
 * is one of malloc(), so that AddressSanitizer sees its ends.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


static void *ngx_pool_add(ngx_pool_t *pool, void *p);
static ngx_int_t ngx_number(u_char *line, size_t n, ngx_int_t base);


volatile ngx_msec_t    ngx_current_msec;
volatile ngx_time_t   *ngx_cached_time;
volatile ngx_cycle_t  *ngx_cycle;

ngx_queue_t            ngx_posted_events;
ngx_rbtree_t           ngx_event_timer_rbtree;
ngx_uint_t             ngx_exiting;


ngx_pool_t *
ngx_create_pool(size_t size, ngx_log_t *log)
{
    ngx_pool_t  *pool;

    pool = calloc(1, sizeof(ngx_pool_t));

    if (pool) {
        pool->log = log;
    }

    return pool;
}


void
ngx_destroy_pool(ngx_pool_t *pool)
{
    ngx_reset_pool(pool);
    free(pool);
}


void
ngx_reset_pool(ngx_pool_t *pool)
{
    ngx_pool_large_t  *large;

    while (pool->large) {
        large = pool->large;
        pool->large = large->next;

        free(large->alloc);
        free(large);
    }
}


void *
ngx_palloc(ngx_pool_t *pool, size_t size)
{
    return ngx_pool_add(pool, malloc(size));
}


void *
ngx_pnalloc(ngx_pool_t *pool, size_t size)
{
    return ngx_pool_add(pool, malloc(size));
}


void *
ngx_pcalloc(ngx_pool_t *pool, size_t size)
{
    return ngx_pool_add(pool, calloc(1, size));
}


static void *
ngx_pool_add(ngx_pool_t *pool, void *p)
{
    ngx_pool_large_t  *large;

    large = malloc(sizeof(ngx_pool_large_t));

    if (p == NULL || large == NULL) {
        abort();
    }

    large->alloc = p;
    large->next = pool->large;
    pool->large = large;

    return p;
}


ngx_int_t
ngx_hextoi(u_char *line, size_t n)
{
    return ngx_number(line, n, 16);
}


time_t
ngx_atotm(u_char *line, size_t n)
{
    return ngx_number(line, n, 10);
}


static ngx_int_t
ngx_number(u_char *line, size_t n, ngx_int_t base)
{
    u_char     c, *last;
    ngx_int_t  value, digit;

    last = line + n;

    for (value = 0; line < last; line++) {
        c = *line | 0x20;

        digit = (*line >= '0' && *line <= '9') ? *line - '0'
                : (c >= 'a' && c <= 'f') ? c - 'a' + 10
                : base;

        if (digit >= base
            || value > (NGX_MAX_INT_T_VALUE - digit) / base)
        {
            return NGX_ERROR;
        }

        value = value * base + digit;
    }

    return n ? value : NGX_ERROR;
}


/* integers alone are printed by those who look at what was printed */

u_char * ngx_cdecl
ngx_sprintf(u_char *buf, const char *fmt, ...)
{
    va_list  args;

    if (ngx_strcmp(fmt, "%L") != 0) {
        abort();
    }

    va_start(args, fmt);
    buf += sprintf((char *) buf, "%lld", (long long) va_arg(args, int64_t));
    va_end(args);

    return buf;
}


void
ngx_log_error_core(ngx_uint_t level, ngx_log_t *log, ngx_err_t err,
    const char *fmt, ...)
{
    /* void */
}
