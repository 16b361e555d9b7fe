
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 */


#include <string.h>

#include "rbgv_limit.h"


#define RBGV_DURATION_MAX  (INT64_C(100) * 366 * 24 * 60 * 60)


static int64_t rbgv_number_parse(const char **p, const char *last);


const char *
rbgv_limit_parse(const char *text, size_t len, rbgv_limit_t *limit)
{
    int64_t      quota, window;
    const char  *p, *last;

    p = text;
    last = text + len;

    quota = rbgv_number_parse(&p, last);

    if (quota == -1 || last - p < 3 || p[0] != 'r' || p[1] != '/') {
        return "it is not of the form QUOTAr/WINDOW, as in \"600r/1m\"";
    }

    if (quota < 1 || quota > RBGV_QUOTA_MAX) {
        return "its quota is not between 1 and 2147483647";
    }

    p += 2;

    window = rbgv_duration_parse(p, last - p);

    if (window == -1) {
        return "its window is not a time, as in \"1s\", \"1m\" or \"1d\"";
    }

    if (window < 1 || window > RBGV_WINDOW_MAX) {
        return "its window is not between 1s and 366d";
    }

    limit->quota = quota;
    limit->window = window;

    return NULL;
}


int
rbgv_limit_name_valid(const char *name, size_t len)
{
    size_t  i;

    if (len == 0 || len > RBGV_LIMIT_NAME_MAX) {
        return 0;
    }

    for (i = 0; i < len; i++) {
        if ((name[i] < '0' || name[i] > '9')
            && (name[i] < 'A' || name[i] > 'Z')
            && (name[i] < 'a' || name[i] > 'z')
            && name[i] != '.' && name[i] != '_' && name[i] != '-')
        {
            return 0;
        }
    }

    return 1;
}


int64_t
rbgv_duration_parse(const char *text, size_t len)
{
    int64_t      n, total, scale, previous;
    const char  *p, *last;

    p = text;
    last = text + len;
    total = 0;
    previous = RBGV_DURATION_MAX;

    do {
        n = rbgv_number_parse(&p, last);
        if (n == -1) {
            return -1;
        }

        switch (p == last ? 's' : *p++) {

        case 's':
            scale = 1;
            break;

        case 'm':
            scale = 60;
            break;

        case 'h':
            scale = 60 * 60;
            break;

        case 'd':
            scale = 24 * 60 * 60;
            break;

        case 'w':
            scale = 7 * 24 * 60 * 60;
            break;

        default:
            return -1;
        }

        if (scale >= previous || n > (RBGV_DURATION_MAX - total) / scale) {
            return -1;
        }

        previous = scale;
        total += n * scale;

    } while (p < last);

    return total;
}


static int64_t
rbgv_number_parse(const char **p, const char *last)
{
    int64_t      n;
    const char  *start;

    start = *p;

    for (n = 0; *p < last && **p >= '0' && **p <= '9'; (*p)++) {
        if (*p - start >= 12) {
            return -1;
        }

        n = n * 10 + (**p - '0');
    }

    return *p == start ? -1 : n;
}
