
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: usage.
 */


#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libsmartcols/libsmartcols.h>

#include "rbgvctl.h"


#define RBGVCTL_USAGE_DAYS   14        /* if not given, likewise below */
#define RBGVCTL_TOP          20
#define RBGVCTL_TOP_MAX      1000

/* of a day and its weekday */
#define RBGVCTL_DAY_LABEL    "%Y-%m-%d %a"

#define RBGVCTL_BAR_MIN      10        /* columns */
#define RBGVCTL_BAR_MAX      60
#define RBGVCTL_BAR_TOP      20

/* bytes of a bar: a character of UTF-8 a column, colours on and off */
#define RBGVCTL_BAR_SIZE     (RBGVCTL_BAR_MAX * 3 + RBGV_OUTCOMES * 16)


typedef struct {
    const char        *days;
    const char        *top;
    int                all;
} rbgvctl_usage_conf_t;


typedef struct {
    char               id[RBGV_ID_LEN + 1];
    int64_t            sums[RBGV_OUTCOMES];
    int64_t            total;
} rbgvctl_busy_t;


typedef struct {
    int64_t            ndays;
    int64_t            ntop;           /* at most */
    int                found;

    rbgvctl_busy_t    *busy;           /* the busiest first */
    size_t             nbusy;
    size_t             next;           /* to be printed */
    int64_t            nkeys;
    int64_t            sums[RBGV_OUTCOMES];

    union {
        json_t                 *json;
        struct libscols_table  *table;
    } out;
} rbgvctl_report_t;


static int rbgvctl_usage(rbgvctl_t *ctl, void *data, const char *arg);
static int rbgvctl_usage_options(const rbgvctl_usage_conf_t *conf,
    const char *arg, rbgvctl_report_t *report);

static int rbgvctl_usage_one(rbgvctl_t *ctl, const char *id,
    rbgvctl_report_t *report);
static int rbgvctl_usage_key(rbgvctl_t *ctl, void *data, rbgv_record_t *keys,
    size_t n);
static json_t *rbgvctl_usage_json(const rbgvctl_t *ctl,
    const rbgvctl_report_t *report, const rbgv_record_t *key,
    const rbgv_usage_t *usage);
static void rbgvctl_usage_chart(const rbgvctl_t *ctl,
    const rbgvctl_report_t *report, const rbgv_record_t *key,
    const rbgv_usage_t *usage);
static void rbgvctl_usage_widths(const rbgvctl_report_t *report,
    int *widths);
static void rbgvctl_usage_row(const char *label, const int64_t *counts,
    const int *widths, const char *bar);
static void rbgvctl_usage_legend(const rbgvctl_t *ctl,
    const rbgv_record_t *key, const rbgv_usage_t *usage);

static int rbgvctl_usage_all(rbgvctl_t *ctl, rbgvctl_report_t *report);
static int rbgvctl_usage_count(rbgvctl_t *ctl, void *data,
    rbgv_record_t *keys, size_t n);
static void rbgvctl_usage_rank(rbgvctl_report_t *report,
    const rbgvctl_busy_t *busy);
static int rbgvctl_usage_top(rbgvctl_t *ctl, rbgvctl_report_t *report,
    rbgvctl_walk_pt handler);
static int rbgvctl_usage_top_json(rbgvctl_t *ctl, rbgvctl_report_t *report);
static int rbgvctl_usage_json_row(rbgvctl_t *ctl, void *data,
    rbgv_record_t *keys, size_t n);
static int rbgvctl_usage_top_table(rbgvctl_t *ctl, rbgvctl_report_t *report);
static int rbgvctl_usage_table_row(rbgvctl_t *ctl, void *data,
    rbgv_record_t *keys, size_t n);
static const rbgvctl_busy_t *rbgvctl_usage_next(rbgvctl_report_t *report,
    const char *id);

static void rbgvctl_bar(char *text, const int64_t *counts, int64_t max,
    int width, int colors);
static char *rbgvctl_bar_part(char *text, int outcome, int64_t eighths,
    int colors);


/* how an outcome is called, and how its part of a bar looks */

static const struct {
    const char  *heading;
    const char  *text;
    const char  *utf8;
    const char  *ascii;
    const char  *color;
} rbgvctl_outcomes[RBGV_OUTCOMES] = {
    { "PASSED", "let pass", "\u2588", "#", RBGVCTL_GREEN },
    { "LIMITED", "limited", "\u2593", "L", RBGVCTL_YELLOW },
    { "CREDITS", "no credits", "\u2592", "C", RBGVCTL_MAGENTA },
    { "JOB", "no such job", "\u2591", "J", RBGVCTL_RED }
};


/* by eighths of a column */

static const char  *rbgvctl_eighths[] = {
    "", "\u258f", "\u258e", "\u258d", "\u258c", "\u258b", "\u258a", "\u2589"
};


enum {
    RBGVCTL_COLUMN_ID = 0,
    RBGVCTL_COLUMN_NAME,
    RBGVCTL_COLUMN_ENVIRONMENT,
    RBGVCTL_COLUMN_OWNER,
    RBGVCTL_COLUMN_PASSED,
    RBGVCTL_COLUMN_REFUSED,
    RBGVCTL_COLUMN_SHARE,
    RBGVCTL_COLUMN_BAR
};


static const char *const  rbgvctl_top_columns[] = {
    "ID", "NAME", "ENV", "OWNER", "PASSED", "REFUSED", "SHARE", "", NULL
};


static const rbgvctl_option_t  rbgvctl_usage_options_list[] = {

    { "days", "NUMBER",
      rbgvctl_set_string,
      offsetof(rbgvctl_usage_conf_t, days),
      "with today, 14 if not given, up to 93" },

    { "all", NULL,
      rbgvctl_set_flag,
      offsetof(rbgvctl_usage_conf_t, all),
      "the busiest of all keys" },

    { "top", "NUMBER",
      rbgvctl_set_string,
      offsetof(rbgvctl_usage_conf_t, top),
      "of them, 20 if not given, up to 1000" },

    { NULL, NULL, NULL, 0, NULL }
};


const rbgvctl_command_t  rbgvctl_usage_command = {
    "usage", "[ID]",
    "Show the requests of a key by day, or the busiest keys",
    "Examples:\n"
    "  rbgvctl usage V1StGXR8aBc4\n"
    "  rbgvctl usage V1StGXR8aBc4 --days 90 --json\n"
    "  rbgvctl usage --all --top 20 --days 7\n",
    rbgvctl_usage_options_list,
    sizeof(rbgvctl_usage_conf_t),
    rbgvctl_usage
};


static int
rbgvctl_usage(rbgvctl_t *ctl, void *data, const char *arg)
{
    int               rc;
    rbgvctl_report_t  report;

    memset(&report, 0, sizeof(rbgvctl_report_t));

    rc = rbgvctl_usage_options(data, arg, &report);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_store_open(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    return arg ? rbgvctl_usage_one(ctl, arg, &report)
               : rbgvctl_usage_all(ctl, &report);
}


static int
rbgvctl_usage_options(const rbgvctl_usage_conf_t *conf, const char *arg,
    rbgvctl_report_t *report)
{
    int  rc;

    if (arg != NULL) {
        rc = rbgvctl_id_check(arg);
        if (rc != RBGVCTL_OK) {
            return rc;
        }
    }

    if ((arg != NULL) == conf->all) {
        return rbgvctl_error(RBGVCTL_USAGE, "usage needs an ID or --all, and "
                             "not both; \"rbgvctl list\" shows the ids");
    }

    if (conf->top != NULL && !conf->all) {
        return rbgvctl_error(RBGVCTL_USAGE, "--top goes with --all only");
    }

    report->ndays = RBGVCTL_USAGE_DAYS;
    report->ntop = RBGVCTL_TOP;

    rc = rbgvctl_number("days", conf->days, 1, RBGV_DAYS_KEPT + 1,
                        &report->ndays);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    return rbgvctl_number("top", conf->top, 1, RBGVCTL_TOP_MAX,
                          &report->ntop);
}


void
rbgvctl_usage_ask(rbgvctl_t *ctl, const char *id)
{
    rbgvctl_store_append(ctl, "HGETALL %s" RBGV_USE RBGV_TAG, ctl->prefix,
                         id);
}


int
rbgvctl_usage_reply(rbgvctl_t *ctl, rbgv_usage_t *usage)
{
    redisReply  *reply;

    reply = rbgvctl_store_reply(ctl, REDIS_REPLY_ARRAY);
    if (reply == NULL) {
        return RBGVCTL_STORE;
    }

    rbgv_usage_read(usage, reply, ctl->now);

    freeReplyObject(reply);

    return RBGVCTL_OK;
}


static int
rbgvctl_usage_one(rbgvctl_t *ctl, const char *id, rbgvctl_report_t *report)
{
    int  rc;

    rc = rbgvctl_store_time(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_walk_ids(ctl, &id, 1, rbgvctl_usage_key, report);

    if (rc == RBGVCTL_OK && !report->found) {
        return rbgvctl_not_found(ctl, id);
    }

    return rc;
}


static int
rbgvctl_usage_key(rbgvctl_t *ctl, void *data, rbgv_record_t *keys, size_t n)
{
    rbgvctl_report_t  *report = data;

    int           rc;
    rbgv_usage_t  usage;

    if (n == 0) {
        return RBGVCTL_OK;
    }

    report->found = 1;

    rbgvctl_usage_ask(ctl, keys[0].id);

    rc = rbgvctl_usage_reply(ctl, &usage);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    (void) rbgv_usage_sum(&usage, report->ndays, report->sums);

    if (ctl->json) {
        return rbgvctl_print_json(rbgvctl_usage_json(ctl, report, &keys[0],
                                                     &usage));
    }

    rbgvctl_pager_start(ctl);
    rbgvctl_usage_chart(ctl, report, &keys[0], &usage);

    return RBGVCTL_OK;
}


static json_t *
rbgvctl_usage_json(const rbgvctl_t *ctl, const rbgvctl_report_t *report,
    const rbgv_record_t *key, const rbgv_usage_t *usage)
{
    json_t  *credits;

    credits = json_null();

    if (rbgv_record_field(key, RBGV_FIELD_CREDITS) != NULL) {
        credits = json_integer(rbgv_record_number(key, RBGV_FIELD_CREDITS));
    }

    return json_pack("{s:o, s:s, s:o, s:o, s:o, s:o, s:I, s:I, s:o, s:o}",
                     "client_id", rbgv_json_field(key, RBGV_FIELD_NAME),
                     "key_fingerprint", key->id,
                     "environment",
                     rbgv_json_field(key, RBGV_FIELD_ENVIRONMENT),
                     "owner", rbgv_json_field(key, RBGV_FIELD_OWNER),
                     "last_used_at", rbgv_json_time(usage->last),
                     "credits", credits,
                     "credits_spent", (json_int_t) usage->spent,
                     "requests", (json_int_t) report->sums[RBGV_PASSED],
                     "refused", rbgv_json_refused(report->sums),
                     "days", rbgv_json_days(usage, report->ndays, ctl->now));
}


static void
rbgvctl_usage_chart(const rbgvctl_t *ctl, const rbgvctl_report_t *report,
    const rbgv_record_t *key, const rbgv_usage_t *usage)
{
    int      i, widths[RBGV_OUTCOMES], width;
    char     bar[RBGVCTL_BAR_SIZE], label[RBGV_TIME_SIZE];
    int64_t  ago, max;

    (void) printf("%s ", key->id);
    rbgvctl_print_text(rbgvctl_text(key, RBGV_FIELD_NAME));
    (void) printf(", days of UTC\n\n");

    rbgvctl_usage_widths(report, widths);

    (void) printf("%-14s", "DAY");
    width = rbgvctl_width() - 14 - 2;

    for (i = 0; i < RBGV_OUTCOMES; i++) {
        (void) printf(" %*s", widths[i], rbgvctl_outcomes[i].heading);
        width -= widths[i] + 1;
    }

    (void) putchar('\n');

    width = width < RBGVCTL_BAR_MIN ? RBGVCTL_BAR_MIN : width;
    width = width > RBGVCTL_BAR_MAX ? RBGVCTL_BAR_MAX : width;

    for (ago = 0, max = 0; ago < report->ndays; ago++) {
        if (rbgv_usage_day(usage, ago) > max) {
            max = rbgv_usage_day(usage, ago);
        }
    }

    for (ago = report->ndays - 1; ago >= 0; ago--) {
        rbgv_time(ctl->now - ago * RBGV_DAY, RBGVCTL_DAY_LABEL, label);
        rbgvctl_bar(bar, usage->days[ago], max, width, rbgvctl_colors());
        rbgvctl_usage_row(label, usage->days[ago], widths, bar);
    }

    rbgvctl_usage_row("total", report->sums, widths, "");
    rbgvctl_usage_legend(ctl, key, usage);
}


static void
rbgvctl_usage_widths(const rbgvctl_report_t *report, int *widths)
{
    int  digits, i;

    for (i = 0; i < RBGV_OUTCOMES; i++) {
        widths[i] = strlen(rbgvctl_outcomes[i].heading);
        digits = snprintf(NULL, 0, "%" PRId64, report->sums[i]);

        if (digits > widths[i]) {
            widths[i] = digits;
        }
    }
}


static void
rbgvctl_usage_row(const char *label, const int64_t *counts,
    const int *widths, const char *bar)
{
    int  i;

    (void) printf("%-14s", label);

    for (i = 0; i < RBGV_OUTCOMES; i++) {
        (void) printf(" %*" PRId64, widths[i], counts[i]);
    }

    (void) printf("%s%s\n", bar[0] ? "  " : "", bar);
}


static void
rbgvctl_usage_legend(const rbgvctl_t *ctl, const rbgv_record_t *key,
    const rbgv_usage_t *usage)
{
    int      i;
    char     bar[RBGVCTL_BAR_SIZE], last[RBGV_TIME_SIZE];
    int64_t  granted;

    (void) putchar('\n');

    for (i = 0; i < RBGV_OUTCOMES; i++) {
        (void) rbgvctl_bar_part(bar, i, 8, rbgvctl_colors());
        (void) printf("%s%s %s", i ? "  " : "", bar,
                      rbgvctl_outcomes[i].text);
    }

    rbgv_time(usage->last, RBGVCTL_MINUTE, last);
    (void) printf("\n%s, last used: %s", rbgv_record_status(key, ctl->now),
                  last);

    if (rbgv_record_field(key, RBGV_FIELD_CREDITS) != NULL) {
        granted = rbgv_record_number(key, RBGV_FIELD_CREDITS);

        (void) printf(", credits left: %" PRId64 " of %" PRId64,
                      granted - usage->spent, granted);
    }

    (void) putchar('\n');
}


static int
rbgvctl_usage_all(rbgvctl_t *ctl, rbgvctl_report_t *report)
{
    int  rc;

    report->busy = calloc(report->ntop + 1, sizeof(rbgvctl_busy_t));
    if (report->busy == NULL) {
        return rbgvctl_error(RBGVCTL_REFUSED, "out of memory");
    }

    rc = rbgvctl_walk(ctl, rbgvctl_usage_count, report);

    if (rc == RBGVCTL_OK) {
        rc = ctl->json ? rbgvctl_usage_top_json(ctl, report)
                       : rbgvctl_usage_top_table(ctl, report);
    }

    free(report->busy);

    return rc;
}


static int
rbgvctl_usage_count(rbgvctl_t *ctl, void *data, rbgv_record_t *keys, size_t n)
{
    rbgvctl_report_t  *report = data;

    int             j, rc;
    size_t          i;
    rbgv_usage_t    usage;
    rbgvctl_busy_t  busy;

    for (i = 0; i < n; i++) {
        rbgvctl_usage_ask(ctl, keys[i].id);
    }

    for (i = 0; i < n; i++) {
        rc = rbgvctl_usage_reply(ctl, &usage);
        if (rc != RBGVCTL_OK) {
            return rc;
        }

        strcpy(busy.id, keys[i].id);
        busy.total = rbgv_usage_sum(&usage, report->ndays, busy.sums);

        report->nkeys++;

        for (j = 0; j < RBGV_OUTCOMES; j++) {
            report->sums[j] += busy.sums[j];
        }

        if (busy.total != 0) {
            rbgvctl_usage_rank(report, &busy);
        }
    }

    return RBGVCTL_OK;
}


/* there is room for one more than is kept */

static void
rbgvctl_usage_rank(rbgvctl_report_t *report, const rbgvctl_busy_t *busy)
{
    size_t  i;

    for (i = report->nbusy; i > 0; i--) {
        if (report->busy[i - 1].total >= busy->total) {
            break;
        }

        report->busy[i] = report->busy[i - 1];
    }

    report->busy[i] = *busy;

    if (report->nbusy < (size_t) report->ntop) {
        report->nbusy++;
    }
}


static int
rbgvctl_usage_top(rbgvctl_t *ctl, rbgvctl_report_t *report,
    rbgvctl_walk_pt handler)
{
    size_t       i;
    const char  *ids[RBGVCTL_TOP_MAX];

    for (i = 0; i < report->nbusy; i++) {
        ids[i] = report->busy[i].id;
    }

    return rbgvctl_walk_ids(ctl, ids, report->nbusy, handler, report);
}


static int
rbgvctl_usage_top_json(rbgvctl_t *ctl, rbgvctl_report_t *report)
{
    int  rc;

    report->out.json = json_array();

    rc = rbgvctl_usage_top(ctl, report, rbgvctl_usage_json_row);

    if (rc != RBGVCTL_OK) {
        json_decref(report->out.json);
        return rc;
    }

    return rbgvctl_print_json(json_pack("{s:I, s:I, s:I, s:o, s:o}",
                      "days", (json_int_t) report->ndays,
                      "keys", (json_int_t) report->nkeys,
                      "requests", (json_int_t) report->sums[RBGV_PASSED],
                      "refused", rbgv_json_refused(report->sums),
                      "top", report->out.json));
}


static int
rbgvctl_usage_json_row(rbgvctl_t *ctl, void *data, rbgv_record_t *keys,
    size_t n)
{
    rbgvctl_report_t  *report = data;

    size_t                 i;
    const rbgvctl_busy_t  *busy;

    (void) ctl;

    for (i = 0; i < n; i++) {
        busy = rbgvctl_usage_next(report, keys[i].id);

        (void) json_array_append_new(report->out.json,
                    json_pack("{s:o, s:s, s:o, s:o, s:I, s:o}",
                              "client_id",
                              rbgv_json_field(&keys[i], RBGV_FIELD_NAME),
                              "key_fingerprint", keys[i].id,
                              "environment",
                              rbgv_json_field(&keys[i],
                                              RBGV_FIELD_ENVIRONMENT),
                              "owner",
                              rbgv_json_field(&keys[i], RBGV_FIELD_OWNER),
                              "requests",
                              (json_int_t) busy->sums[RBGV_PASSED],
                              "refused",
                              rbgv_json_refused(busy->sums)));
    }

    return RBGVCTL_OK;
}


static int
rbgvctl_usage_top_table(rbgvctl_t *ctl, rbgvctl_report_t *report)
{
    int                      i, rc;
    struct libscols_table   *table;
    struct libscols_column  *column;

    table = rbgvctl_table(rbgvctl_top_columns);
    if (table == NULL) {
        return rbgvctl_error(RBGVCTL_REFUSED, "out of memory");
    }

    for (i = RBGVCTL_COLUMN_NAME; i < RBGVCTL_COLUMN_BAR; i++) {
        column = scols_table_get_column(table, i);

        (void) scols_column_set_flags(column, i < RBGVCTL_COLUMN_PASSED
                                              ? SCOLS_FL_TRUNC
                                              : SCOLS_FL_RIGHT);
    }

    report->out.table = table;

    rc = rbgvctl_usage_top(ctl, report, rbgvctl_usage_table_row);

    if (rc == RBGVCTL_OK) {
        rbgvctl_pager_start(ctl);

        if (report->nbusy != 0) {
            rc = rbgvctl_table_print(table);
            (void) putchar('\n');
        }

        (void) printf("%" PRId64 " keys, %" PRId64 " days: %" PRId64
                      " requests let pass, %" PRId64 " limited, %" PRId64
                      " without credits, %" PRId64 " without their job\n",
                      report->nkeys, report->ndays,
                      report->sums[RBGV_PASSED],
                      report->sums[RBGV_LIMITED],
                      report->sums[RBGV_CREDITS],
                      report->sums[RBGV_JOB_REFUSED]);
    }

    scols_unref_table(table);

    return rc;
}


static int
rbgvctl_usage_table_row(rbgvctl_t *ctl, void *data, rbgv_record_t *keys,
    size_t n)
{
    rbgvctl_report_t  *report = data;

    int                    rc;
    char                   bar[RBGVCTL_BAR_SIZE], passed[32], refused[32];
    char                   share[32];
    size_t                 i;
    int64_t                all;
    struct libscols_line  *line;
    const rbgvctl_busy_t  *busy;

    (void) ctl;

    all = report->sums[RBGV_PASSED] + report->sums[RBGV_LIMITED]
          + report->sums[RBGV_CREDITS] + report->sums[RBGV_JOB_REFUSED];

    for (i = 0; i < n; i++) {
        busy = rbgvctl_usage_next(report, keys[i].id);

        (void) snprintf(passed, sizeof(passed), "%" PRId64,
                        busy->sums[RBGV_PASSED]);
        (void) snprintf(refused, sizeof(refused), "%" PRId64,
                        busy->total - busy->sums[RBGV_PASSED]);
        (void) snprintf(share, sizeof(share), "%.1f%%",
                        100.0 * busy->total / all);

        rbgvctl_bar(bar, busy->sums, report->busy[0].total, RBGVCTL_BAR_TOP,
                    0);

        line = scols_table_new_line(report->out.table, NULL);
        if (line == NULL) {
            return rbgvctl_error(RBGVCTL_REFUSED, "out of memory");
        }

        rc = scols_line_set_data(line, RBGVCTL_COLUMN_ID, keys[i].id);
        rc |= scols_line_set_data(line, RBGVCTL_COLUMN_NAME,
                                  rbgvctl_text(&keys[i], RBGV_FIELD_NAME));
        rc |= scols_line_set_data(line, RBGVCTL_COLUMN_ENVIRONMENT,
                                  rbgvctl_text(&keys[i],
                                               RBGV_FIELD_ENVIRONMENT));
        rc |= scols_line_set_data(line, RBGVCTL_COLUMN_OWNER,
                                  rbgvctl_text(&keys[i], RBGV_FIELD_OWNER));
        rc |= scols_line_set_data(line, RBGVCTL_COLUMN_PASSED, passed);
        rc |= scols_line_set_data(line, RBGVCTL_COLUMN_REFUSED, refused);
        rc |= scols_line_set_data(line, RBGVCTL_COLUMN_SHARE, share);
        rc |= scols_line_set_data(line, RBGVCTL_COLUMN_BAR, bar);

        if (rc != 0) {
            return rbgvctl_error(RBGVCTL_REFUSED, "cannot print key %s",
                                 keys[i].id);
        }
    }

    return RBGVCTL_OK;
}


/* keys that were deleted meanwhile are passed over */

static const rbgvctl_busy_t *
rbgvctl_usage_next(rbgvctl_report_t *report, const char *id)
{
    while (strcmp(report->busy[report->next].id, id) != 0) {
        report->next++;
    }

    return &report->busy[report->next];
}


/*
 * A part of the bar that is not nothing has a column at least, or an eighth
 * of one if nothing follows it and there are characters for that.
 */

static void
rbgvctl_bar(char *text, const int64_t *counts, int64_t max, int width,
    int colors)
{
    int      fine, i, last, parts;
    int64_t  end, seen, sum;

    text[0] = '\0';

    for (i = 0, parts = 0, last = 0; i < RBGV_OUTCOMES; i++) {
        if (counts[i] > 0) {
            parts++;
            last = i;
        }
    }

    fine = last == RBGV_PASSED && rbgvctl_utf8();

    for (i = 0, seen = 0, sum = 0; i <= last && parts != 0; i++) {
        if (counts[i] <= 0) {
            continue;
        }

        parts--;
        sum += counts[i];
        end = llround(8.0 * width * sum / max);

        if (!fine) {
            end = (end + 4) / 8 * 8;
        }

        end = end > seen ? end : seen + (fine ? 1 : 8);
        end = end < 8 * (width - parts) ? end : 8 * (width - parts);

        text = rbgvctl_bar_part(text, i, end - seen, colors);
        seen = end;
    }
}


/* the end of the text */

static char *
rbgvctl_bar_part(char *text, int outcome, int64_t eighths, int colors)
{
    int          utf8;
    const char  *block;

    utf8 = rbgvctl_utf8();
    block = utf8 ? rbgvctl_outcomes[outcome].utf8
                 : rbgvctl_outcomes[outcome].ascii;

    if (colors) {
        text = stpcpy(text, rbgvctl_outcomes[outcome].color);
    }

    for ( /* void */ ; eighths >= 8; eighths -= 8) {
        text = stpcpy(text, block);
    }

    if (utf8) {
        text = stpcpy(text, rbgvctl_eighths[eighths]);
    }

    if (colors) {
        text = stpcpy(text, RBGVCTL_COLOR_OFF);
    }

    return text;
}
