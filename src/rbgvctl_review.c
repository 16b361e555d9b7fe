
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: review.
 */


#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rbgvctl.h"


#define RBGVCTL_INACTIVE         (7 * RBGV_DAY)     /* if not given */
#define RBGVCTL_UNFINISHED       (7 * RBGV_DAY)
#define RBGVCTL_EXPIRY           (14 * RBGV_DAY)

/* by default, spikes of today and of so many days before */
#define RBGVCTL_SPIKE_DAYS       7
#define RBGVCTL_SPIKE_DAYS_MAX   28

/* of the days that a day is compared with */
#define RBGVCTL_BASE_MIN         7
#define RBGVCTL_BASE_MAX         28

/* what makes a spike: all of these */
#define RBGVCTL_SPIKE_SCORE      4     /* deviations from the median */
#define RBGVCTL_SPIKE_TIMES      3     /* the median */
#define RBGVCTL_SPIKE_HIGH       2     /* times the highest, but for a tenth */
#define RBGVCTL_SPIKE_EXCESS     100   /* requests above the median */

/* makes a standard deviation of a median absolute deviation */
#define RBGVCTL_MAD_SCALE        1.4826

#define RBGVCTL_FINDINGS         10    /* a key; as many as there are checks */

#define RBGVCTL_AGE_SIZE         32
#define RBGVCTL_DETAIL_SIZE      200


typedef struct {
    const char              *inactive;
    const char              *environment;
    const char              *days;
    rbgvctl_values_t         only;
} rbgvctl_review_conf_t;


typedef enum {
    RBGVCTL_HIGH = 0,
    RBGVCTL_MEDIUM,
    RBGVCTL_LOW,
    RBGVCTL_SEVERITIES
} rbgvctl_severity_e;


typedef struct rbgvctl_review_s  rbgvctl_review_t;
typedef struct rbgvctl_check_s   rbgvctl_check_t;


typedef struct {
    const rbgvctl_check_t   *check;
    int64_t                  at;       /* the moment it is about, 0: none */
    int64_t                  number;   /* requests, or credits left */
    int64_t                  usual;    /* or credits granted */
    double                   score;
    char                     detail[RBGVCTL_DETAIL_SIZE];
} rbgvctl_finding_t;


struct rbgvctl_check_s {
    const char              *name;
    const char              *label;
    rbgvctl_severity_e       severity;
    int                      live;     /* not of keys that are expired */

    /* 1 if there is something to tell about the key of the review */
    int                    (*handler)(const rbgvctl_review_t *review,
                                      rbgvctl_finding_t *finding);

    /* NULL, or adds what only this finding has */
    void                   (*json)(json_t *object,
                                   const rbgvctl_finding_t *finding);
};


struct rbgvctl_review_s {
    rbgvctl_t               *ctl;
    rbgvctl_review_conf_t   *conf;
    int64_t                  inactive;
    int64_t                  ndays;

    rbgv_environments_t      environments;

    /* the key under review */
    const rbgv_record_t     *key;
    rbgv_usage_t             usage;
    rbgvctl_finding_t        findings[RBGVCTL_FINDINGS];
    size_t                   nfindings;

    int64_t                  nkeys;
    int64_t                  nfound;   /* keys */
    int64_t                  counts[RBGVCTL_SEVERITIES];
};


static int rbgvctl_review(rbgvctl_t *ctl, void *data, const char *arg);
static int rbgvctl_review_options(rbgvctl_review_t *review);
static int rbgvctl_review_end(rbgvctl_review_t *review);
static int rbgvctl_review_keys(rbgvctl_t *ctl, void *data,
    rbgv_record_t *keys, size_t n);
static int rbgvctl_review_wanted(rbgvctl_review_t *review,
    const rbgv_record_t *key);
static int rbgvctl_review_key(rbgvctl_review_t *review);
static void rbgvctl_review_look(rbgvctl_review_t *review);
static int rbgvctl_review_only(const rbgvctl_review_conf_t *conf,
    const rbgvctl_check_t *check);

static void rbgvctl_review_print(const rbgvctl_review_t *review);
static int rbgvctl_review_json(const rbgvctl_review_t *review);
static json_t *rbgvctl_json_finding(const rbgvctl_finding_t *finding);
static void rbgvctl_json_spike(json_t *object,
    const rbgvctl_finding_t *finding);
static void rbgvctl_json_credits(json_t *object,
    const rbgvctl_finding_t *finding);

static int rbgvctl_check_spike(const rbgvctl_review_t *review,
    rbgvctl_finding_t *finding);
static int rbgvctl_spike(const rbgvctl_review_t *review, size_t ago,
    rbgvctl_finding_t *finding);
static size_t rbgvctl_spike_base(const rbgv_usage_t *usage, size_t ago,
    int64_t *base);
static double rbgvctl_median(int64_t *numbers, size_t n);
static int rbgvctl_compare(const void *one, const void *two);
static int rbgvctl_check_rotation(const rbgvctl_review_t *review,
    rbgvctl_finding_t *finding);
static int rbgvctl_check_unfinished(const rbgvctl_review_t *review,
    rbgvctl_finding_t *finding);
static size_t rbgvctl_usable(const rbgvctl_review_t *review);
static int rbgvctl_check_expires(const rbgvctl_review_t *review,
    rbgvctl_finding_t *finding);
static int rbgvctl_check_expired(const rbgvctl_review_t *review,
    rbgvctl_finding_t *finding);
static int rbgvctl_check_credits(const rbgvctl_review_t *review,
    rbgvctl_finding_t *finding);
static int rbgvctl_check_never(const rbgvctl_review_t *review,
    rbgvctl_finding_t *finding);
static int rbgvctl_check_inactive(const rbgvctl_review_t *review,
    rbgvctl_finding_t *finding);
static int rbgvctl_check_owner(const rbgvctl_review_t *review,
    rbgvctl_finding_t *finding);
static int rbgvctl_check_name(const rbgvctl_review_t *review,
    rbgvctl_finding_t *finding);
static const char *rbgvctl_age(int64_t seconds, char text[RBGVCTL_AGE_SIZE]);


static const rbgvctl_check_t  rbgvctl_checks[RBGVCTL_FINDINGS + 1] = {

    { "traffic_spike", "traffic spike", RBGVCTL_HIGH, 0,
      rbgvctl_check_spike, rbgvctl_json_spike },

    { "rotation_overdue", "rotation overdue", RBGVCTL_HIGH, 1,
      rbgvctl_check_rotation, NULL },

    { "expires_soon", "expires soon", RBGVCTL_HIGH, 1,
      rbgvctl_check_expires, NULL },

    { "credits_low", "credits low", RBGVCTL_HIGH, 1,
      rbgvctl_check_credits, rbgvctl_json_credits },

    { "rotation_unfinished", "rotation unfinished", RBGVCTL_MEDIUM, 1,
      rbgvctl_check_unfinished, NULL },

    { "no_owner", "no owner", RBGVCTL_MEDIUM, 0,
      rbgvctl_check_owner, NULL },

    { "never_used", "never used", RBGVCTL_MEDIUM, 1,
      rbgvctl_check_never, NULL },

    { "inactive", "inactive", RBGVCTL_MEDIUM, 1,
      rbgvctl_check_inactive, NULL },

    { "expired", "expired", RBGVCTL_LOW, 0,
      rbgvctl_check_expired, NULL },

    { "bad_name", "bad name", RBGVCTL_LOW, 0,
      rbgvctl_check_name, NULL },

    { NULL, NULL, 0, 0, NULL, NULL }
};


static const struct {
    const char  *name;
    const char  *color;
} rbgvctl_severities[RBGVCTL_SEVERITIES] = {
    { "high", RBGVCTL_RED },
    { "medium", RBGVCTL_YELLOW },
    { "low", "" }
};


static const rbgvctl_option_t  rbgvctl_review_options_list[] = {

    { "inactive", "TIME",
      rbgvctl_set_string,
      offsetof(rbgvctl_review_conf_t, inactive),
      "without a request, 7d if not given" },

    { "environment", "NAME",
      rbgvctl_set_string,
      offsetof(rbgvctl_review_conf_t, environment),
      "only the keys of this environment" },

    { "days", "NUMBER",
      rbgvctl_set_string,
      offsetof(rbgvctl_review_conf_t, days),
      "before today to look for spikes on, 7 if not given" },

    { "only", "FINDING",
      rbgvctl_set_list,
      offsetof(rbgvctl_review_conf_t, only),
      "such as traffic_spike; may be given several times" },

    { NULL, NULL, NULL, 0, NULL }
};


const rbgvctl_command_t  rbgvctl_review_command = {
    "review", NULL,
    "Look for keys that need attention",
    "Exit status: 0 nothing was found, 1 something was.\n\n"
    "Examples:\n"
    "  rbgvctl review\n"
    "  rbgvctl review --inactive 30d --environment prod --json\n"
    "  rbgvctl review --only traffic_spike --days 1\n",
    rbgvctl_review_options_list,
    sizeof(rbgvctl_review_conf_t),
    rbgvctl_review
};


static int
rbgvctl_review(rbgvctl_t *ctl, void *data, const char *arg)
{
    int               rc;
    rbgvctl_review_t  review;

    (void) arg;

    memset(&review, 0, sizeof(rbgvctl_review_t));

    review.ctl = ctl;
    review.conf = data;

    rc = rbgvctl_review_options(&review);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_store_open(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_environments_fetch(ctl, &review.environments);

    if (rc == RBGVCTL_OK) {
        rc = rbgvctl_walk(ctl, rbgvctl_review_keys, &review);
    }

    rbgv_environments_free(&review.environments);

    return rc == RBGVCTL_OK ? rbgvctl_review_end(&review) : rc;
}


static int
rbgvctl_review_options(rbgvctl_review_t *review)
{
    size_t                  i;
    const char             *inactive;
    const rbgvctl_check_t  *check;

    if (review->conf->environment != NULL
        && rbgvctl_environment_check("environment", review->conf->environment)
           != RBGVCTL_OK)
    {
        return RBGVCTL_USAGE;
    }

    inactive = review->conf->inactive;
    review->inactive = RBGVCTL_INACTIVE;

    if (inactive != NULL) {
        review->inactive = rbgv_duration_parse(inactive, strlen(inactive));

        if (review->inactive <= 0) {
            return rbgvctl_error(RBGVCTL_USAGE, "--inactive \"%s\" is not a "
                                 "time, as in \"7d\" or \"12h\"", inactive);
        }
    }

    for (i = 0; i < review->conf->only.nelts; i++) {

        for (check = rbgvctl_checks; check->name != NULL; check++) {
            if (strcmp(check->name, review->conf->only.elts[i]) == 0) {
                break;
            }
        }

        if (check->name == NULL) {
            return rbgvctl_error(RBGVCTL_USAGE, "--only \"%s\" is no finding; "
                                 "they are named as in --json",
                                 review->conf->only.elts[i]);
        }
    }

    review->ndays = RBGVCTL_SPIKE_DAYS;

    return rbgvctl_number("days", review->conf->days, 0,
                          RBGVCTL_SPIKE_DAYS_MAX, &review->ndays);
}


/* nothing is said about nothing, but to somebody who waits for it */

static int
rbgvctl_review_end(rbgvctl_review_t *review)
{
    if (review->ctl->json) {
        (void) fputs(review->nfound ? "\n]\n" : "[]\n", stdout);

    } else if (review->nfound != 0) {
        (void) printf("%" PRId64 " of %" PRId64 " keys: %" PRId64 " high, "
                      "%" PRId64 " medium, %" PRId64 " low\n",
                      review->nfound, review->nkeys,
                      review->counts[RBGVCTL_HIGH],
                      review->counts[RBGVCTL_MEDIUM],
                      review->counts[RBGVCTL_LOW]);

    } else if (rbgvctl_terminal()) {
        (void) printf("nothing found in %" PRId64 " keys\n", review->nkeys);
    }

    if (rbgvctl_flush() == -1) {
        return RBGVCTL_REFUSED;
    }

    return review->nfound ? RBGVCTL_FOUND : RBGVCTL_OK;
}


static int
rbgvctl_review_keys(rbgvctl_t *ctl, void *data, rbgv_record_t *keys, size_t n)
{
    rbgvctl_review_t  *review = data;

    int                   rc;
    size_t                i, m;
    const rbgv_record_t  *wanted[RBGVCTL_BATCH];

    for (i = 0, m = 0; i < n; i++) {
        if (rbgvctl_review_wanted(review, &keys[i])) {
            wanted[m++] = &keys[i];
        }
    }

    for (i = 0; i < m; i++) {
        rbgvctl_usage_ask(ctl, wanted[i]->id);
    }

    for (i = 0; i < m; i++) {
        rc = rbgvctl_usage_reply(ctl, &review->usage);

        if (rc == RBGVCTL_OK) {
            review->key = wanted[i];
            rc = rbgvctl_review_key(review);
        }

        if (rc != RBGVCTL_OK) {
            return rc;
        }
    }

    return rbgvctl_flush() == 0 ? RBGVCTL_OK : RBGVCTL_REFUSED;
}


/* a disabled key can do no harm, and needs nothing */

static int
rbgvctl_review_wanted(rbgvctl_review_t *review, const rbgv_record_t *key)
{
    const redisReply  *environment;

    if (review->conf->environment != NULL) {
        environment = rbgv_record_field(key, RBGV_FIELD_ENVIRONMENT);

        if (environment == NULL
            || strcmp(environment->str, review->conf->environment) != 0)
        {
            return 0;
        }
    }

    return strcmp(rbgv_record_status(key, review->ctl->now), RBGV_DISABLED)
           != 0;
}


static int
rbgvctl_review_key(rbgvctl_review_t *review)
{
    size_t  i;

    rbgvctl_review_look(review);

    review->nkeys++;

    if (review->nfindings == 0) {
        return RBGVCTL_OK;
    }

    review->nfound++;

    for (i = 0; i < review->nfindings; i++) {
        review->counts[review->findings[i].check->severity]++;
    }

    if (review->ctl->json) {
        return rbgvctl_review_json(review);
    }

    rbgvctl_pager_start(review->ctl);
    rbgvctl_review_print(review);

    return RBGVCTL_OK;
}


static void
rbgvctl_review_look(rbgvctl_review_t *review)
{
    int                     expired;
    rbgvctl_finding_t      *finding;
    const rbgvctl_check_t  *check;

    expired = strcmp(rbgv_record_status(review->key, review->ctl->now),
                     RBGV_EXPIRED)
              == 0;

    review->nfindings = 0;

    for (check = rbgvctl_checks; check->name != NULL; check++) {

        if ((check->live && expired)
            || !rbgvctl_review_only(review->conf, check))
        {
            continue;
        }

        finding = &review->findings[review->nfindings];

        memset(finding, 0, sizeof(rbgvctl_finding_t));
        finding->check = check;

        review->nfindings += check->handler(review, finding);
    }
}


static int
rbgvctl_review_only(const rbgvctl_review_conf_t *conf,
    const rbgvctl_check_t *check)
{
    size_t  i;

    for (i = 0; i < conf->only.nelts; i++) {
        if (strcmp(conf->only.elts[i], check->name) == 0) {
            return 1;
        }
    }

    return conf->only.nelts == 0;
}


static void
rbgvctl_review_print(const rbgvctl_review_t *review)
{
    int                       colors;
    size_t                    i;
    const rbgvctl_check_t    *check;
    const rbgvctl_finding_t  *finding;

    colors = rbgvctl_colors();

    (void) printf("%s%s%s  ", colors ? RBGVCTL_BOLD : "", review->key->id,
                  colors ? RBGVCTL_COLOR_OFF : "");
    rbgvctl_print_text(rbgvctl_text(review->key, RBGV_FIELD_NAME));
    (void) fputs("  ", stdout);
    rbgvctl_print_text(rbgvctl_text(review->key, RBGV_FIELD_ENVIRONMENT));
    (void) fputs("  ", stdout);
    rbgvctl_print_text(rbgvctl_text(review->key, RBGV_FIELD_OWNER));
    (void) putchar('\n');

    for (i = 0; i < review->nfindings; i++) {
        finding = &review->findings[i];
        check = finding->check;

        (void) printf("  %s%-6s%s  %-19s  ",
                      colors ? rbgvctl_severities[check->severity].color : "",
                      rbgvctl_severities[check->severity].name,
                      colors ? RBGVCTL_COLOR_OFF : "", check->label);
        rbgvctl_print_text(finding->detail);
        (void) putchar('\n');
    }

    (void) putchar('\n');
}


static int
rbgvctl_review_json(const rbgvctl_review_t *review)
{
    int      rc;
    size_t   i;
    json_t  *findings, *object;

    findings = json_array();

    for (i = 0; i < review->nfindings; i++) {
        (void) json_array_append_new(findings,
                               rbgvctl_json_finding(&review->findings[i]));
    }

    object = json_pack("{s:o, s:s, s:o, s:o, s:s, s:o}",
                       "client_id",
                       rbgv_json_field(review->key, RBGV_FIELD_NAME),
                       "key_fingerprint", review->key->id,
                       "environment",
                       rbgv_json_field(review->key,
                                       RBGV_FIELD_ENVIRONMENT),
                       "owner",
                       rbgv_json_field(review->key, RBGV_FIELD_OWNER),
                       "status",
                       rbgv_record_status(review->key, review->ctl->now),
                       "findings", findings);

    (void) fputs(review->nfound > 1 ? ",\n" : "[\n", stdout);

    rc = object ? json_dumpf(object, stdout, 0) : -1;

    json_decref(object);

    if (rc == -1) {
        return rbgvctl_error(RBGVCTL_REFUSED, "cannot print key %s",
                             review->key->id);
    }

    return RBGVCTL_OK;
}


static json_t *
rbgvctl_json_finding(const rbgvctl_finding_t *finding)
{
    json_t                 *object;
    const rbgvctl_check_t  *check;

    check = finding->check;

    object = json_pack("{s:s, s:s, s:o, s:o}",
                       "finding", check->name,
                       "severity", rbgvctl_severities[check->severity].name,
                       "at", rbgv_json_time(finding->at),
                       "detail", rbgv_json_text(finding->detail));

    if (check->json != NULL && object != NULL) {
        check->json(object, finding);
    }

    return object;
}


static void
rbgvctl_json_spike(json_t *object, const rbgvctl_finding_t *finding)
{
    (void) json_object_set_new(object, "requests",
                               json_integer(finding->number));
    (void) json_object_set_new(object, "usual",
                               json_integer(finding->usual));
    (void) json_object_set_new(object, "score", json_integer(finding->score));
}


static void
rbgvctl_json_credits(json_t *object, const rbgvctl_finding_t *finding)
{
    (void) json_object_set_new(object, "credits_left",
                               json_integer(finding->number));
    (void) json_object_set_new(object, "credits",
                               json_integer(finding->usual));
}


/* the most unusual of the days */

static int
rbgvctl_check_spike(const rbgvctl_review_t *review,
    rbgvctl_finding_t *finding)
{
    int64_t            ago;
    rbgvctl_finding_t  day;

    for (ago = 0; ago <= review->ndays; ago++) {
        day = *finding;

        if (rbgvctl_spike(review, ago, &day) && day.score > finding->score) {
            *finding = day;
        }
    }

    return finding->score > 0;
}


/* docs/rbgvctl.md tells why */

static int
rbgvctl_spike(const rbgvctl_review_t *review, size_t ago,
    rbgvctl_finding_t *finding)
{
    char     date[RBGV_TIME_SIZE], until[RBGV_TIME_SIZE];
    size_t   i, n;
    double   deviation, expected, high, median, part;
    int64_t  base[RBGVCTL_BASE_MAX], now;

    n = rbgvctl_spike_base(&review->usage, ago, base);

    if (n < RBGVCTL_BASE_MIN) {
        return 0;
    }

    now = review->ctl->now;
    part = ago ? 1 : (double) (now % RBGV_DAY) / RBGV_DAY;

    median = rbgvctl_median(base, n);
    high = base[n - 1 - n / 10];

    for (i = 0; i < n; i++) {
        base[i] = fabs(base[i] - median);
    }

    deviation = part * RBGVCTL_MAD_SCALE * rbgvctl_median(base, n);
    expected = part * median;

    finding->number = rbgv_usage_day(&review->usage, ago);
    finding->usual = median;
    finding->score = (finding->number - expected)
                     / sqrt(deviation * deviation + fmax(expected, 1));
    finding->at = now - now % RBGV_DAY - ago * RBGV_DAY;

    rbgv_time(finding->at, RBGV_DATE, date);
    rbgv_time(now, " by %H:%MZ", until);

    (void) snprintf(finding->detail, sizeof(finding->detail),
                    "%" PRId64 " requests on %s%s, %" PRId64 " on a usual "
                    "day", finding->number, date, ago ? "" : until,
                    finding->usual);

    return finding->score >= RBGVCTL_SPIKE_SCORE
           && finding->number >= expected * RBGVCTL_SPIKE_TIMES
           && finding->number >= expected + RBGVCTL_SPIKE_EXCESS
           && finding->number > high * RBGVCTL_SPIKE_HIGH;
}


/*
 * The days before, but for the first one of the key, which is no whole day.
 * Returns how many they are.
 */

static size_t
rbgvctl_spike_base(const rbgv_usage_t *usage, size_t ago, int64_t *base)
{
    size_t  first, n;

    for (first = RBGV_DAYS_KEPT; first > ago; first--) {
        if (rbgv_usage_day(usage, first) != 0) {
            break;
        }
    }

    for (n = 0; n < RBGVCTL_BASE_MAX && ago + n + 1 < first; n++) {
        base[n] = rbgv_usage_day(usage, ago + n + 1);
    }

    return n;
}


/* sorts the numbers */

static double
rbgvctl_median(int64_t *numbers, size_t n)
{
    qsort(numbers, n, sizeof(int64_t), rbgvctl_compare);

    return (numbers[(n - 1) / 2] + numbers[n / 2]) / 2.0;
}


static int
rbgvctl_compare(const void *one, const void *two)
{
    const int64_t  *a = one;
    const int64_t  *b = two;

    return (*a > *b) - (*a < *b);
}


static int
rbgvctl_check_rotation(const rbgvctl_review_t *review,
    rbgvctl_finding_t *finding)
{
    char     age[RBGVCTL_AGE_SIZE], window[RBGVCTL_AGE_SIZE];
    int64_t  due, newest;

    const rbgv_environment_t  *environment;

    environment = rbgv_environment_find(&review->environments,
                                        rbgvctl_text(review->key,
                                                     RBGV_FIELD_ENVIRONMENT));
    newest = rbgv_record_newest(review->key);
    due = rbgv_rotation_due(environment, newest);

    if (due == 0 || due >= review->ctl->now) {
        return 0;
    }

    finding->at = due;

    (void) snprintf(finding->detail, sizeof(finding->detail), "the newest "
                    "secret is %s old, %s has a window of %s",
                    rbgvctl_age(review->ctl->now - newest, age),
                    environment->name,
                    rbgvctl_age(environment->rotation, window));

    return 1;
}


static int
rbgvctl_check_unfinished(const rbgvctl_review_t *review,
    rbgvctl_finding_t *finding)
{
    char     age[RBGVCTL_AGE_SIZE];
    size_t   usable;
    int64_t  began;

    usable = rbgvctl_usable(review);
    began = rbgv_record_number(review->key, RBGV_FIELD_ROTATION);

    if (began == 0 && usable > 1) {
        began = rbgv_record_newest(review->key);
    }

    if (began == 0 || review->ctl->now - began <= RBGVCTL_UNFINISHED) {
        return 0;
    }

    finding->at = began;

    (void) snprintf(finding->detail, sizeof(finding->detail), "began %s ago, "
                    "secrets that are good: %zu",
                    rbgvctl_age(review->ctl->now - began, age), usable);

    return 1;
}


/* secrets that are good */

static size_t
rbgvctl_usable(const rbgvctl_review_t *review)
{
    size_t                i, n;
    const rbgv_secret_t  *secret;

    n = 0;

    for (i = 0; i < review->key->nsecrets; i++) {
        secret = &review->key->secrets[i];

        n += strcmp(secret->status, RBGV_ACTIVE) == 0
             && (secret->expires == 0 || secret->expires > review->ctl->now);
        }

    return n;
}


static int
rbgvctl_check_expires(const rbgvctl_review_t *review,
    rbgvctl_finding_t *finding)
{
    char     age[RBGVCTL_AGE_SIZE];
    int64_t  expires;

    expires = rbgv_record_number(review->key, RBGV_FIELD_EXPIRES);

    if (expires == 0 || expires - review->ctl->now > RBGVCTL_EXPIRY) {
        return 0;
    }

    finding->at = expires;

    (void) snprintf(finding->detail, sizeof(finding->detail), "in %s",
                    rbgvctl_age(expires - review->ctl->now, age));

    return 1;
}


static int
rbgvctl_check_expired(const rbgvctl_review_t *review,
    rbgvctl_finding_t *finding)
{
    char     age[RBGVCTL_AGE_SIZE];
    int64_t  expires;

    expires = rbgv_record_number(review->key, RBGV_FIELD_EXPIRES);

    if (expires == 0 || expires > review->ctl->now) {
        return 0;
    }

    finding->at = expires;

    (void) snprintf(finding->detail, sizeof(finding->detail), "%s ago",
                    rbgvctl_age(review->ctl->now - expires, age));

    return 1;
}


static int
rbgvctl_check_credits(const rbgvctl_review_t *review,
    rbgvctl_finding_t *finding)
{
    int64_t  granted, left;

    if (rbgv_record_field(review->key, RBGV_FIELD_CREDITS) == NULL) {
        return 0;
    }

    granted = rbgv_record_number(review->key, RBGV_FIELD_CREDITS);
    left = granted - review->usage.spent;

    if (left > 0 && left >= granted / 10.0) {
        return 0;
    }

    finding->number = left;
    finding->usual = granted;

    (void) snprintf(finding->detail, sizeof(finding->detail), "%" PRId64
                    " of %" PRId64 " left", left, granted);

    return 1;
}


static int
rbgvctl_check_never(const rbgvctl_review_t *review,
    rbgvctl_finding_t *finding)
{
    char     age[RBGVCTL_AGE_SIZE];
    int64_t  seconds;

    finding->at = rbgv_record_number(review->key, RBGV_FIELD_CREATED);
    seconds = review->ctl->now - finding->at;

    if (review->usage.last != 0 || seconds <= review->inactive
        || seconds > RBGV_DAYS_KEPT * RBGV_DAY)
    {
        return 0;
    }

    (void) snprintf(finding->detail, sizeof(finding->detail),
                    "created %s ago", rbgvctl_age(seconds, age));

    return 1;
}


/* counters are gone when they have not been used for as long as they last */

static int
rbgvctl_check_inactive(const rbgvctl_review_t *review,
    rbgvctl_finding_t *finding)
{
    char     age[RBGVCTL_AGE_SIZE];
    int64_t  now;

    now = review->ctl->now;
    finding->at = review->usage.last;

    if (finding->at != 0) {
        (void) snprintf(finding->detail, sizeof(finding->detail),
                        "last used %s ago", rbgvctl_age(now - finding->at,
                                                        age));

        return now - finding->at > review->inactive;
    }

    (void) snprintf(finding->detail, sizeof(finding->detail),
                    "not used in %d days, or never", RBGV_DAYS_KEPT);

    return now - rbgv_record_number(review->key, RBGV_FIELD_CREATED)
           > RBGV_DAYS_KEPT * RBGV_DAY;
}


static int
rbgvctl_check_owner(const rbgvctl_review_t *review,
    rbgvctl_finding_t *finding)
{
    const redisReply  *owner;

    owner = rbgv_record_field(review->key, RBGV_FIELD_OWNER);

    strcpy(finding->detail, "nobody to ask");

    return owner == NULL || owner->len == 0;
}


static int
rbgvctl_check_name(const rbgvctl_review_t *review,
    rbgvctl_finding_t *finding)
{
    const char  *environment, *name;

    name = rbgvctl_text(review->key, RBGV_FIELD_NAME);
    environment = rbgvctl_text(review->key, RBGV_FIELD_ENVIRONMENT);

    if (!rbgv_name_valid(name)) {
        strcpy(finding->detail, "not 2 to 63 characters of [a-z0-9-]");
        return 1;
    }

    switch (rbgv_name_check(name, environment)) {

    case RBGV_NAME_SUFFIX:
        (void) snprintf(finding->detail, sizeof(finding->detail),
                        "does not end in \"-%s\"", environment);
        return 1;

    case RBGV_NAME_GENERIC:
        strcpy(finding->detail, "does not say whose key it is");
        return 1;

    case RBGV_NAME_MISMATCH:
        strcpy(finding->detail, "is of another environment");
        return 1;

    default:
        return 0;
    }
}


static const char *
rbgvctl_age(int64_t seconds, char text[RBGVCTL_AGE_SIZE])
{
    int64_t      n;
    const char  *unit;

    n = seconds / RBGV_DAY;
    unit = "day";

    if (n == 0) {
        n = seconds / 3600;
        unit = "hour";
    }

    (void) snprintf(text, RBGVCTL_AGE_SIZE, "%" PRId64 " %s%s", n, unit,
                    n == 1 ? "" : "s");

    return text;
}
