
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Limits and durations: what is taken is in its bounds, and is the same after
 * it was printed.
 */


#include <inttypes.h>

#include "fuzz.h"
#include "rbgv_limit.h"


static void fuzz_limit(const char *text, size_t len);
static void fuzz_duration(const char *text, size_t len);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char  *text;

    text = fuzz_copy(data, size);

    fuzz_limit(text, size);
    fuzz_duration(text, size);

    free(text);

    return 0;
}


static void
fuzz_limit(const char *text, size_t len)
{
    char          printed[64];
    rbgv_limit_t  limit, again;

    if (rbgv_limit_parse(text, len, &limit) != NULL) {
        return;
    }

    fuzz_check(limit.quota >= 1 && limit.quota <= RBGV_QUOTA_MAX,
               "a quota is in its bounds");
    fuzz_check(limit.window >= 1 && limit.window <= RBGV_WINDOW_MAX,
               "a window is in its bounds");

    len = snprintf(printed, sizeof(printed), "%" PRIu32 "r/%" PRIu32,
                   limit.quota, limit.window);

    fuzz_check(rbgv_limit_parse(printed, len, &again) == NULL
               && again.quota == limit.quota
               && again.window == limit.window,
               "a limit that was printed is the same");
}


static void
fuzz_duration(const char *text, size_t len)
{
    char     printed[64];
    int64_t  seconds;

    seconds = rbgv_duration_parse(text, len);

    if (seconds == -1) {
        return;
    }

    fuzz_check(seconds >= 0, "a duration is not negative");

    len = snprintf(printed, sizeof(printed), "%" PRId64 "m%" PRId64 "s",
                   seconds / 60, seconds % 60);

    fuzz_check(rbgv_duration_parse(printed, len) == seconds,
               "a duration that was printed is the same");
}
