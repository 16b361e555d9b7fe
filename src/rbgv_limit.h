
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Limits and durations in text form, for the configuration, for the
 * "limit:<policy>" fields of a key, and for rbgvctl.
 */


#ifndef _RBGV_LIMIT_H_INCLUDED_
#define _RBGV_LIMIT_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>


#define RBGV_QUOTA_MAX        2147483647
#define RBGV_WINDOW_MAX       (366 * 24 * 60 * 60)     /* seconds */
#define RBGV_LIMIT_NAME_MAX   32
#define RBGV_LIMITS_MAX       8                        /* a location */


typedef struct {
    uint32_t       quota;              /* requests, or units of cost */
    uint32_t       window;             /* seconds */
} rbgv_limit_t;


/*
 * "600r/1m" -> { 600, 60 }.  Returns NULL, or what is wrong with the text,
 * as a phrase that does not quote it.
 */
const char *rbgv_limit_parse(const char *text, size_t len,
    rbgv_limit_t *limit);

/* 1 if it is 1 to 32 characters of [A-Za-z0-9._-] */
int rbgv_limit_name_valid(const char *name, size_t len);

/*
 * "90d", "24h", "1h30m", "45" -> seconds; units are s, m, h, d, w, as in
 * nginx.  Returns -1 if the text is not a duration or does not fit.
 */
int64_t rbgv_duration_parse(const char *text, size_t len);


#endif /* _RBGV_LIMIT_H_INCLUDED_ */
