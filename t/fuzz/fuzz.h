
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * What the targets of scripts/fuzz share.
 */


#ifndef _RBGV_FUZZ_H_INCLUDED_
#define _RBGV_FUZZ_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


static inline void
fuzz_check(int good, const char *promise)
{
    if (!good) {
        fprintf(stderr, "broken: %s\n", promise);
        abort();
    }
}


/* with nothing behind it: reading on is found by AddressSanitizer */

static inline void *
fuzz_copy(const void *data, size_t size)
{
    void  *copy;

    copy = malloc(size ? size : 1);
    fuzz_check(copy != NULL, "memory");

    memcpy(copy, data, size);

    return copy;
}


/* likewise, and terminated */

static inline char *
fuzz_text(const void *data, size_t size)
{
    char  *text;

    text = malloc(size + 1);
    fuzz_check(text != NULL, "memory");

    memcpy(text, data, size);
    text[size] = '\0';

    return text;
}


#endif /* _RBGV_FUZZ_H_INCLUDED_ */
