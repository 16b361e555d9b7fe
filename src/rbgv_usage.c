
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Requests of a key by day.
 */


#include <stdlib.h>
#include <string.h>

#include "rbgv_admin.h"


static int rbgv_usage_outcome(const char *field);


/* in names of counters, behind "d:<day>" and "r:<day>" */

static const char *const  rbgv_usage_outcomes[RBGV_OUTCOMES] = {
    "", ":limited", ":credits", ":job"
};


void
rbgv_usage_read(rbgv_usage_t *usage, const redisReply *counters, int64_t now)
{
    int                outcome;
    char              *end;
    size_t             i;
    int64_t            ago;
    const char        *name;
    const redisReply  *value;

    memset(usage, 0, sizeof(rbgv_usage_t));

    for (i = 0; i + 1 < counters->elements; i += 2) {

        if (counters->element[i]->type != REDIS_REPLY_STRING) {
            continue;
        }

        name = counters->element[i]->str;
        value = counters->element[i + 1];

        if (strcmp(name, "last") == 0) {
            usage->last = rbgv_reply_number(value);

        } else if (strcmp(name, "credits") == 0) {
            usage->spent = rbgv_reply_number(value);

        } else if (strncmp(name, "d:", 2) == 0
                   || strncmp(name, "r:", 2) == 0)
        {
            ago = now / RBGV_DAY - strtoll(name + 2, &end, 10);
            outcome = rbgv_usage_outcome(end);

            if (ago >= 0 && ago <= RBGV_DAYS_KEPT && outcome != -1) {
                usage->days[ago][outcome] = rbgv_reply_number(value);
            }
        }
    }
}


static int
rbgv_usage_outcome(const char *field)
{
    int  i;

    for (i = 0; i < RBGV_OUTCOMES; i++) {
        if (strcmp(field, rbgv_usage_outcomes[i]) == 0) {
            return i;
        }
    }

    return -1;
}


int64_t
rbgv_usage_day(const rbgv_usage_t *usage, size_t ago)
{
    size_t   i;
    int64_t  n;

    n = 0;

    for (i = 0; i < RBGV_OUTCOMES; i++) {
        n += usage->days[ago][i];
    }

    return n;
}


int64_t
rbgv_usage_sum(const rbgv_usage_t *usage, int64_t ndays,
    int64_t sums[RBGV_OUTCOMES])
{
    int      i;
    int64_t  ago, total;

    memset(sums, 0, RBGV_OUTCOMES * sizeof(int64_t));
    total = 0;

    for (ago = 0; ago < ndays; ago++) {
        for (i = 0; i < RBGV_OUTCOMES; i++) {
            sums[i] += usage->days[ago][i];
            total += usage->days[ago][i];
        }
    }

    return total;
}


json_t *
rbgv_json_refused(const int64_t *sums)
{
    return json_pack("{s:I, s:I, s:I}",
                     "limited", (json_int_t) sums[RBGV_LIMITED],
                     "credits", (json_int_t) sums[RBGV_CREDITS],
                     "job", (json_int_t) sums[RBGV_JOB_REFUSED]);
}


json_t *
rbgv_json_days(const rbgv_usage_t *usage, int64_t ndays, int64_t now)
{
    char      date[RBGV_TIME_SIZE];
    json_t   *days;
    int64_t   ago;

    days = json_array();

    for (ago = ndays - 1; ago >= 0; ago--) {
        rbgv_time(now - ago * RBGV_DAY, RBGV_DATE, date);

        if (json_array_append_new(days,
                    json_pack("{s:s, s:I, s:o}", "date", date,
                              "requests",
                              (json_int_t) usage->days[ago][RBGV_PASSED],
                              "refused",
                              rbgv_json_refused(usage->days[ago])))
            != 0)
        {
            json_decref(days);
            return NULL;
        }
    }

    return days;
}
