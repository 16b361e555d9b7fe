
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Assertions of a unit test, in the Test Anything Protocol.
 */


#ifndef _RBGV_TAP_H_INCLUDED_
#define _RBGV_TAP_H_INCLUDED_


#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


static int  tap_run, tap_failed;


__attribute__((format(printf, 2, 3)))
static void
ok(int passed, const char *name, ...)
{
    va_list  args;

    tap_run++;
    tap_failed += !passed;

    printf("%sok %d - ", passed ? "" : "not ", tap_run);

    va_start(args, name);
    vprintf(name, args);
    va_end(args);

    putchar('\n');
}


/* a copy with nothing behind it: reading on is found by AddressSanitizer */

static inline char *
tap_copy(const char *text, size_t len)
{
    char  *copy;

    copy = malloc(len ? len : 1);
    if (copy == NULL) {
        abort();
    }

    memcpy(copy, text, len);

    return copy;
}


static int
done(void)
{
    printf("1..%d\n", tap_run);

    return tap_failed != 0;
}


#endif /* _RBGV_TAP_H_INCLUDED_ */
