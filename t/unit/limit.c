
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Tests for limits and durations in text form.
 */


#include "rbgv_limit.h"
#include "tap.h"


typedef struct {
    const char     *text;
    const char     *err;               /* part of it; NULL: none */
    uint32_t        quota;
    uint32_t        window;
} limit_test_t;


typedef struct {
    const char     *text;
    int64_t         seconds;
} duration_test_t;


static const limit_test_t  limits[] = {
    { "600r/1m", NULL, 600, 60 },
    { "1r/1s", NULL, 1, 1 },
    { "1r/1", NULL, 1, 1 },
    { "007r/007s", NULL, 7, 7 },
    { "2147483647r/366d", NULL, 2147483647, 31622400 },
    { "5r/52w", NULL, 5, 31449600 },
    { "5r/1h30m", NULL, 5, 5400 },

    { "", "form", 0, 0 },
    { "r", "form", 0, 0 },
    { "5", "form", 0, 0 },
    { "5r", "form", 0, 0 },
    { "5r/", "form", 0, 0 },
    { "/1m", "form", 0, 0 },
    { "r/1m", "form", 0, 0 },
    { "5/1m", "form", 0, 0 },
    { "5r1m", "form", 0, 0 },
    { "5q/1m", "form", 0, 0 },
    { "5R/1m", "form", 0, 0 },
    { " 5r/1m", "form", 0, 0 },
    { "-5r/1m", "form", 0, 0 },
    { "+5r/1m", "form", 0, 0 },
    { "1.5r/1m", "form", 0, 0 },
    { "0x5r/1m", "form", 0, 0 },
    { "NaNr/1m", "form", 0, 0 },
    { "9999999999999r/1m", "form", 0, 0 },
    { "18446744073709551617r/1m", "form", 0, 0 },

    { "0r/1m", "quota", 0, 0 },
    { "2147483648r/1m", "quota", 0, 0 },
    { "4294967297r/1m", "quota", 0, 0 },
    { "999999999999r/1m", "quota", 0, 0 },

    { "5r/0", "between 1s and 366d", 0, 0 },
    { "5r/0s", "between 1s and 366d", 0, 0 },
    { "5r/367d", "between 1s and 366d", 0, 0 },
    { "5r/366d1s", "between 1s and 366d", 0, 0 },
    { "5r/4294967297", "not a time", 0, 0 },
    { "5r/1x", "not a time", 0, 0 },
    { "5r/1m ", "not a time", 0, 0 },
    { "5r//1m", "not a time", 0, 0 },
    { "5r/1ms", "not a time", 0, 0 },
    { "5r/m", "not a time", 0, 0 },
    { "5r/-1m", "not a time", 0, 0 }
};


static const duration_test_t  durations[] = {
    { "0", 0 },
    { "45", 45 },
    { "45s", 45 },
    { "1m", 60 },
    { "24h", 86400 },
    { "90d", 7776000 },
    { "2w", 1209600 },
    { "1w1d1h1m1s", 694861 },
    { "1h30", 3630 },
    { "1d0s", 86400 },
    { "36600d", 3162240000 },

    { "", -1 },
    { "s", -1 },
    { "d1", -1 },
    { "-1", -1 },
    { "1M", -1 },
    { "1y", -1 },
    { "1ms", -1 },
    { "1 d", -1 },
    { "1d ", -1 },
    { "1d1d", -1 },
    { "1m1h", -1 },
    { "1s1", -1 },
    { "36600d1s", -1 },
    { "36601d", -1 },
    { "3162240001", -1 },
    { "999999999999", -1 },
    { "999999999999w", -1 },
    { "9999999999999", -1 },
    { "99999999999999999999", -1 }
};


int
main(void)
{
    char          *text, name[40];
    size_t         i, len;
    int64_t        seconds;
    const char    *err;
    rbgv_limit_t   limit;

    for (i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        len = strlen(limits[i].text);
        text = tap_copy(limits[i].text, len);

        memset(&limit, 0, sizeof(limit));
        err = rbgv_limit_parse(text, len, &limit);

        ok((limits[i].err == NULL) == (err == NULL)
           && (err == NULL || strstr(err, limits[i].err) != NULL),
           "limit \"%s\": %s", limits[i].text, err ? err : "good");

        ok(limit.quota == limits[i].quota && limit.window == limits[i].window,
           "limit \"%s\": %u in %u s", limits[i].text, limit.quota,
           limit.window);

        free(text);
    }

    for (i = 0; i < sizeof(durations) / sizeof(durations[0]); i++) {
        len = strlen(durations[i].text);
        text = tap_copy(durations[i].text, len);
        seconds = rbgv_duration_parse(text, len);

        ok(seconds == durations[i].seconds, "duration \"%s\": %lld",
           durations[i].text, (long long) seconds);

        free(text);
    }

    memset(name, 'n', sizeof(name));

    for (i = 0; i < 256; i++) {
        name[1] = i;

        if (rbgv_limit_name_valid(name, 3)
            != (i && strchr("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                            "abcdefghijklmnopqrstuvwxyz._-", i) != NULL))
        {
            break;
        }
    }

    ok(i == 256, "characters of a name, up to %zu", i);

    name[1] = 'n';

    ok(!rbgv_limit_name_valid(name, 0), "empty name");
    ok(rbgv_limit_name_valid(name, 1), "name of 1 character");
    ok(rbgv_limit_name_valid(name, 32), "name of 32 characters");
    ok(!rbgv_limit_name_valid(name, 33), "name of 33 characters");

    return done();
}
