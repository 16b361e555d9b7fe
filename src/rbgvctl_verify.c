
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: verify.  The order of the checks is that of the gateway.
 */


#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libsmartcols/libsmartcols.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "rbgvctl.h"


/* what the gateway takes of a record */

#define RBGVCTL_TEXT_MAX     255       /* bytes, of a name, of an owner */
#define RBGVCTL_RECORD_MAX   1024      /* bytes, of all that it keeps */

/* "w:<policy>:<seconds>", and the bytes of its value */
#define RBGVCTL_WINDOW_SIZE  (sizeof("w:") + RBGV_LIMIT_NAME_MAX + 12)
#define RBGVCTL_STATE_SIZE   16

#define RBGVCTL_LINE_SIZE    1024      /* longer ones are no key */


typedef struct {
    const char              *previous;
    rbgvctl_values_t         environments;
    rbgvctl_values_t         limits;
    const char              *cost;
    const char              *credits;
    int                      opaque;
    int                      no_pepper;
} rbgvctl_verify_conf_t;


typedef struct {
    const char              *status;   /* as in $rbgv_auth_status */
    int                      http;     /* 0: whatever the location answers */
    const char              *code;     /* in the answer, or NULL */
} rbgvctl_verdict_t;


typedef struct {
    const char              *policy;
    rbgv_limit_t             limit;
    int64_t                  left;
    int64_t                  reset;    /* microseconds */
    int64_t                  retry;    /* likewise; 0: at once */
} rbgvctl_window_t;


typedef struct {
    rbgvctl_t               *ctl;
    rbgvctl_verify_conf_t   *conf;
    int64_t                  cost;
    int64_t                  price;    /* in credits */

    char                     text[RBGVCTL_LINE_SIZE];
    size_t                   len;

    /* the second one is of the previous pepper */
    char                     fields[2][RBGV_SECRET_SIZE];
    size_t                   nfields;

    char                     id[RBGV_ID_LEN + 1];
    rbgv_record_t            key;
    const rbgv_secret_t     *secret;   /* NULL: there is none for the text */

    rbgv_limits_t            limits;   /* of the location */
    rbgvctl_window_t         windows[RBGV_LIMITS_MAX];
    int64_t                  spent;    /* credits */

    const rbgvctl_verdict_t *verdict;
    const char              *reason;   /* NULL: it would pass */
} rbgvctl_verify_t;


static int rbgvctl_verify(rbgvctl_t *ctl, void *data, const char *arg);
static int rbgvctl_verify_options(rbgvctl_verify_t *v);
static int rbgvctl_verify_number(const char *option, const char *text,
    int64_t *n);
static int rbgvctl_verify_read(rbgvctl_verify_t *v);
static size_t rbgvctl_verify_line(char line[RBGVCTL_LINE_SIZE]);
static int rbgvctl_verify_key(rbgvctl_verify_t *v);
static int rbgvctl_verify_digest(rbgvctl_verify_t *v,
    const char *pepper_file);

static int rbgvctl_verify_record(rbgvctl_verify_t *v);
static const char *rbgvctl_verify_malformed(const rbgv_record_t *key);
static int rbgvctl_verify_field(const char *name, const char *value,
    size_t *len);
static int rbgvctl_verify_is_status(const char *text);
static void rbgvctl_verify_secret(rbgvctl_verify_t *v);
static void rbgvctl_verify_limits(rbgvctl_verify_t *v);

static int rbgvctl_verify_counters(rbgvctl_verify_t *v);
static void rbgvctl_verify_window(rbgvctl_verify_t *v, rbgvctl_window_t *w,
    const redisReply *state, const redisReply *history);
static int64_t rbgvctl_verify_slice(const redisReply *state,
    const redisReply *history, int64_t i);
static int64_t rbgvctl_verify_turns(const int64_t slices[RBGV_SLICES - 1],
    int64_t excess);
static int rbgvctl_verify_packed(const redisReply *value, size_t len);
static int64_t rbgvctl_verify_unpack(const redisReply *value, size_t offset,
    size_t len);

static int rbgvctl_verify_judge(rbgvctl_verify_t *v);
static int rbgvctl_verify_environment(const rbgvctl_verify_t *v);
static int rbgvctl_verify_decided(rbgvctl_verify_t *v,
    const rbgvctl_verdict_t *verdict, const char *reason);

static int rbgvctl_verify_print(rbgvctl_verify_t *v);
static void rbgvctl_verify_rows(rbgvctl_verify_t *v,
    struct libscols_table *table);
static void rbgvctl_verify_row_secret(rbgvctl_verify_t *v,
    struct libscols_table *table);
static void rbgvctl_verify_row_windows(rbgvctl_verify_t *v,
    struct libscols_table *table);
static int64_t rbgvctl_verify_seconds(int64_t microseconds);
static json_t *rbgvctl_verify_json(rbgvctl_verify_t *v);
static json_t *rbgvctl_verify_json_field(rbgvctl_verify_t *v,
    const char *name);
static json_t *rbgvctl_verify_json_expiry(rbgvctl_verify_t *v);
static json_t *rbgvctl_verify_json_windows(rbgvctl_verify_t *v);
static json_t *rbgvctl_verify_json_credits(rbgvctl_verify_t *v,
    int64_t spent);


static const rbgvctl_verdict_t  rbgvctl_passed = { "PASSED", 0, NULL };

static const rbgvctl_verdict_t  rbgvctl_missing =
    { "MISSING", 401, "missing_api_key" };

static const rbgvctl_verdict_t  rbgvctl_invalid =
    { "INVALID", 401, "invalid_api_key" };

static const rbgvctl_verdict_t  rbgvctl_disabled =
    { "DISABLED", 401, "invalid_api_key" };

static const rbgvctl_verdict_t  rbgvctl_expired =
    { "EXPIRED", 401, "invalid_api_key" };

static const rbgvctl_verdict_t  rbgvctl_other_environment =
    { "ENVIRONMENT", 401, "invalid_api_key" };

static const rbgvctl_verdict_t  rbgvctl_limited =
    { "LIMITED", 429, "rate_limited" };

static const rbgvctl_verdict_t  rbgvctl_no_credits =
    { "CREDITS", 402, "insufficient_credits" };

static const rbgvctl_verdict_t  rbgvctl_unavailable =
    { "UNAVAILABLE", 503, "auth_unavailable" };


static const char *const  rbgvctl_verify_columns[] = { "FIELD", "VALUE",
                                                       NULL };


static const rbgvctl_option_t  rbgvctl_verify_option_table[] = {

    { "environment", "NAME",
      rbgvctl_set_list,
      offsetof(rbgvctl_verify_conf_t, environments),
      "that the location takes, any if not given; repeatable" },

    { "limit", "POLICY=LIMIT",
      rbgvctl_set_list,
      offsetof(rbgvctl_verify_conf_t, limits),
      "of the location, those of the key if not given; repeatable" },

    { "cost", "NUMBER",
      rbgvctl_set_string,
      offsetof(rbgvctl_verify_conf_t, cost),
      "of the request, 1 if not given" },

    { "credits", "NUMBER",
      rbgvctl_set_string,
      offsetof(rbgvctl_verify_conf_t, credits),
      "that the request spends, 0 if not given" },

    { "opaque", NULL,
      rbgvctl_set_flag,
      offsetof(rbgvctl_verify_conf_t, opaque),
      "the location takes keys of other systems" },

    { "previous-pepper-file", "PATH",
      rbgvctl_set_string,
      offsetof(rbgvctl_verify_conf_t, previous),
      "the second pepper of the gateway" },

    { "no-pepper", NULL,
      rbgvctl_set_flag,
      offsetof(rbgvctl_verify_conf_t, no_pepper),
      "for a gateway that has no pepper" },

    { NULL, NULL, NULL, 0, NULL }
};


const rbgvctl_command_t  rbgvctl_verify_command = {
    "verify", NULL,
    "Say what the gateway would decide about a key",
    "The key is a line of standard input, asked for on a terminal. Nothing "
    "is charged.\nExit status: 0 if it would pass, 1 if not.\n\n"
    "Examples:\n"
    "  rbgvctl verify\n"
    "  rbgvctl verify --json <key.txt\n"
    "  rbgvctl verify --environment prod --limit default=600r/1m\n",
    rbgvctl_verify_option_table,
    sizeof(rbgvctl_verify_conf_t),
    rbgvctl_verify
};


static int
rbgvctl_verify(rbgvctl_t *ctl, void *data, const char *arg)
{
    int               rc;
    rbgvctl_verify_t  v;

    (void) arg;

    memset(&v, 0, sizeof(rbgvctl_verify_t));

    v.ctl = ctl;
    v.conf = data;

    rc = rbgvctl_verify_options(&v);

    if (rc == RBGVCTL_OK) {
        rc = rbgvctl_verify_read(&v);
    }

    if (rc == RBGVCTL_OK) {
        rc = rbgvctl_verify_key(&v);
    }

    OPENSSL_cleanse(v.text, sizeof(v.text));

    if (rc == RBGVCTL_OK && v.verdict == NULL) {
        rc = rbgvctl_verify_record(&v);
    }

    if (rc == RBGVCTL_OK) {
        rc = rbgvctl_verify_print(&v);
    }

    rbgvctl_keys_free(&v.key, 1);

    return rc;
}


static int
rbgvctl_verify_options(rbgvctl_verify_t *v)
{
    int                     rc;
    size_t                  i;
    rbgvctl_verify_conf_t  *conf;

    conf = v->conf;
    v->cost = 1;

    for (i = 0; i < conf->environments.nelts; i++) {
        rc = rbgvctl_environment_check("environment",
                                       conf->environments.elts[i]);
        if (rc != RBGVCTL_OK) {
            return rc;
        }
    }

    rc = rbgvctl_limits_parse(&conf->limits, 0, &v->limits);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_verify_number("cost", conf->cost, &v->cost);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    return rbgvctl_verify_number("credits", conf->credits, &v->price);
}


static int
rbgvctl_verify_number(const char *option, const char *text, int64_t *n)
{
    const char  *fault;

    if (text == NULL) {
        return RBGVCTL_OK;
    }

    fault = rbgv_credits_fault(text);

    if (fault != NULL) {
        return rbgvctl_error(RBGVCTL_USAGE, "--%s \"%s\" %s", option, text,
                             fault);
    }

    *n = strtoll(text, NULL, 10);

    return RBGVCTL_OK;
}


static int
rbgvctl_verify_read(rbgvctl_verify_t *v)
{
    char    *p;
    size_t   skip;

    p = v->text;

    if (isatty(STDIN_FILENO)) {

        if (EVP_read_pw_string(v->text, sizeof(v->text), "API key: ", 0)
            != 0)
        {
            return rbgvctl_error(RBGVCTL_REFUSED, "no key");
        }

        v->len = strlen(v->text);

    } else {
        v->len = rbgvctl_verify_line(v->text);

        if (ferror(stdin)) {
            return rbgvctl_error(RBGVCTL_REFUSED, "cannot read standard "
                                 "input: %s", strerror(errno));
        }
    }

    /* white space around it is no part of a header's value either */

    while (v->len > 0 && strchr(" \t\r", p[v->len - 1]) != NULL) {
        v->len--;
    }

    for (skip = 0; skip < v->len && strchr(" \t", p[skip]) != NULL; skip++) {
        /* void */
    }

    v->len -= skip;
    memmove(p, p + skip, v->len);

    return RBGVCTL_OK;
}


/* a longer line is cut, and still too long for a key */

static size_t
rbgvctl_verify_line(char line[RBGVCTL_LINE_SIZE])
{
    int     c;
    size_t  len;

    for (len = 0; len < RBGVCTL_LINE_SIZE; len++) {
        c = getchar();

        if (c == EOF || c == '\n') {
            break;
        }

        line[len] = c;
    }

    return len;
}


/* what can be told without the store */

static int
rbgvctl_verify_key(rbgvctl_verify_t *v)
{
    int         rc;
    rbgv_key_t  key;

    if (v->len == 0) {
        return rbgvctl_verify_decided(v, &rbgvctl_missing,
                                      "no key in the request");
    }

    switch (rbgv_key_parse(v->text, v->len, &key)) {

    case RBGV_KEY_OK:
        memcpy(v->id, key.id, RBGV_ID_LEN);
        break;

    case RBGV_KEY_CHECKSUM:
        return rbgvctl_verify_decided(v, &rbgvctl_invalid, "wrong checksum");

    default:
        if (rbgv_opaque_valid(v->text, v->len)) {

            if (v->conf->opaque) {
                break;
            }

            rbgvctl_note("with --opaque it is looked up as a key of another "
                         "system");
        }

        return rbgvctl_verify_decided(v, &rbgvctl_invalid, "malformed key");
    }

    rc = rbgvctl_verify_digest(v, v->ctl->pepper_file);

    if (rc == RBGVCTL_OK && v->conf->previous != NULL) {
        rc = rbgvctl_verify_digest(v, v->conf->previous);
    }

    return rc;
}


static int
rbgvctl_verify_digest(rbgvctl_verify_t *v, const char *pepper_file)
{
    int               rc;
    char             *field;
    rbgvctl_t         ctl;
    unsigned char     sha256[RBGV_DIGEST_LEN], digest[RBGV_DIGEST_LEN];
    rbgv_digester_t  *digester;

    ctl = *v->ctl;
    ctl.pepper_file = pepper_file;

    rc = rbgvctl_digester(&ctl, "verify", v->conf->no_pepper, &digester);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    if (rbgv_digest_plain(digester, v->text, v->len, sha256) == -1
        || rbgv_digest_sha256(digester, sha256, digest) == -1)
    {
        rc = rbgvctl_error(RBGVCTL_REFUSED, "OpenSSL failed");
    }

    rbgv_digester_free(digester);

    if (v->id[0] == '\0') {
        rbgv_id_derive(sha256, v->id);
    }

    field = v->fields[v->nfields++];

    memcpy(field, RBGV_FIELD_SECRET, sizeof(RBGV_FIELD_SECRET) - 1);
    rbgv_digest_hex(digest, field + sizeof(RBGV_FIELD_SECRET) - 1);

    return rc;
}


static int
rbgvctl_verify_record(rbgvctl_verify_t *v)
{
    int          rc;
    const char  *fault;

    rc = rbgvctl_store_open(v->ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    v->key.id = v->id;

    rc = rbgvctl_keys_fetch(v->ctl, &v->key, 1);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    if (v->key.fields == NULL) {
        return rbgvctl_verify_decided(v, &rbgvctl_invalid, "unknown key");
    }

    fault = rbgvctl_verify_malformed(&v->key);

    if (fault != NULL) {
        return rbgvctl_verify_decided(v, &rbgvctl_unavailable, fault);
    }

    rbgvctl_verify_secret(v);

    if (v->secret == NULL) {
        return rbgvctl_verify_decided(v, &rbgvctl_invalid, "wrong secret");
    }

    rbgvctl_verify_limits(v);

    rc = rbgvctl_verify_counters(v);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    return rbgvctl_verify_judge(v);
}


/* as the gateway reads a record: NULL, or what it cannot read */

static const char *
rbgvctl_verify_malformed(const rbgv_record_t *key)
{
    size_t             i, len;
    const char        *name, *value;
    const redisReply  *fields;

    fields = key->fields;
    len = 0;

    if (rbgv_record_field(key, RBGV_FIELD_NAME) == NULL
        || rbgv_record_field(key, RBGV_FIELD_ENVIRONMENT) == NULL
        || rbgv_record_field(key, RBGV_FIELD_STATUS) == NULL)
    {
        return "malformed record: it has no name, environment or status";
    }

    for (i = 0; i + 1 < fields->elements; i += 2) {
        name = fields->element[i]->str;
        value = fields->element[i + 1]->str;

        if (!rbgvctl_verify_field(name, value, &len)) {
            return "malformed record: a field has not the form it has to "
                   "have";
        }
    }

    for (i = 0; i < key->nsecrets; i++) {
        if (!rbgvctl_verify_is_status(key->secrets[i].status)) {
            return "malformed record: a secret has not the form it has to "
                   "have";
        }
    }

    if (key->nsecrets > RBGV_SECRETS_MAX) {
        return "malformed record: it has more than 3 secrets";
    }

    if (len > RBGVCTL_RECORD_MAX) {
        return "malformed record: its name, environment, owner and limits "
               "have more than 1024 bytes";
    }

    return NULL;
}


/* adds what the gateway keeps of it to *len */

static int
rbgvctl_verify_field(const char *name, const char *value, size_t *len)
{
    size_t         n;
    rbgv_limit_t   limit;
    const char    *policy;

    n = strlen(value);

    if (strcmp(name, RBGV_FIELD_NAME) == 0) {
        *len += n;
        return n > 0 && n <= RBGVCTL_TEXT_MAX;
    }

    if (strcmp(name, RBGV_FIELD_OWNER) == 0) {
        *len += n;
        return n <= RBGVCTL_TEXT_MAX;
    }

    if (strcmp(name, RBGV_FIELD_ENVIRONMENT) == 0) {
        *len += n;
        return rbgv_environment_valid(value, n);
    }

    if (strcmp(name, RBGV_FIELD_STATUS) == 0) {
        return rbgvctl_verify_is_status(value);
    }

    if (strcmp(name, RBGV_FIELD_EXPIRES) == 0
        || strcmp(name, RBGV_FIELD_CREDITS) == 0)
    {
        return n > 0 && strspn(value, "0123456789") == n;
    }

    if (strncmp(name, RBGV_FIELD_LIMIT, sizeof(RBGV_FIELD_LIMIT) - 1) == 0) {
        policy = name + sizeof(RBGV_FIELD_LIMIT) - 1;
        *len += 1 + strlen(policy) + sizeof(rbgv_limit_t);

        return rbgv_limit_name_valid(policy, strlen(policy))
               && rbgv_limit_parse(value, n, &limit) == NULL;
    }

    return 1;
}


static int
rbgvctl_verify_is_status(const char *text)
{
    return strcmp(text, RBGV_ACTIVE) == 0 || strcmp(text, RBGV_DISABLED) == 0;
}


static void
rbgvctl_verify_secret(rbgvctl_verify_t *v)
{
    size_t       i, k;
    const char  *digest;

    for (k = 0; k < v->nfields; k++) {

        if (rbgv_record_field(&v->key, v->fields[k]) == NULL) {
            continue;
        }

        digest = v->fields[k] + sizeof(RBGV_FIELD_SECRET) - 1;

        for (i = 0; i < v->key.nsecrets; i++) {
            if (strncmp(v->key.secrets[i].counter, digest,
                        RBGV_DIGEST_USES)
                == 0)
            {
                v->secret = &v->key.secrets[i];
            }
        }
    }
}


/* the limits of the location, or those of the key in their place */

static void
rbgvctl_verify_limits(rbgvctl_verify_t *v)
{
    size_t             i, len;
    const char        *name;
    rbgv_limits_t     *limits;
    const redisReply  *own, *fields;

    limits = &v->limits;
    fields = v->key.fields;
    len = sizeof(RBGV_FIELD_LIMIT) - 1;

    for (i = 0; i < limits->nelts; i++) {
        own = rbgv_record_field(&v->key, limits->elts[i].field);

        if (own != NULL) {
            (void) snprintf(limits->elts[i].quota, RBGV_QUOTA_SIZE, "%s",
                            own->str);
        }
    }

    if (v->conf->limits.nelts != 0) {
        return;
    }

    for (i = 0; i + 1 < fields->elements; i += 2) {
        name = fields->element[i]->str;

        if (strncmp(name, RBGV_FIELD_LIMIT, len) == 0) {
            (void) rbgv_limits_add(limits, name + len, strlen(name + len),
                                   fields->element[i + 1]->str);
        }
    }
}


static int
rbgvctl_verify_counters(rbgvctl_verify_t *v)
{
    int                rc;
    char               names[2 * RBGV_LIMITS_MAX][RBGVCTL_WINDOW_SIZE];
    char               hash[RBGV_HASH_SIZE];
    size_t             i, n;
    redisReply        *reply;
    const char        *args[3 + 2 * RBGV_LIMITS_MAX], *quota;
    rbgvctl_window_t  *w;

    rc = rbgvctl_store_time(v->ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rbgv_hash_name(v->ctl->prefix, RBGV_USE, v->id, hash);

    args[0] = "HMGET";
    args[1] = hash;
    args[2] = RBGV_FIELD_CREDITS;

    for (i = 0; i < v->limits.nelts; i++) {
        w = &v->windows[i];
        quota = v->limits.elts[i].quota;

        (void) rbgv_limit_parse(quota, strlen(quota), &w->limit);

        w->policy = v->limits.elts[i].field + sizeof(RBGV_FIELD_LIMIT) - 1;

        for (n = 2 * i; n < 2 * i + 2; n++) {
            (void) snprintf(names[n], RBGVCTL_WINDOW_SIZE, "%c:%s:%u",
                            n % 2 ? 'h' : 'w', w->policy, w->limit.window);
            args[3 + n] = names[n];
        }
    }

    n = 1 + 2 * v->limits.nelts;

    reply = rbgvctl_store_argv(v->ctl, REDIS_REPLY_ARRAY, 2 + n, args);
    if (reply == NULL) {
        return RBGVCTL_STORE;
    }

    if (reply->elements == n) {
        v->spent = rbgv_reply_number(reply->element[0]);

        for (i = 0; i < v->limits.nelts; i++) {
            rbgvctl_verify_window(v, &v->windows[i],
                                  reply->element[1 + 2 * i],
                                  reply->element[2 + 2 * i]);
        }
    }

    freeReplyObject(reply);

    return RBGVCTL_OK;
}


/* as the counting script sees it */

static void
rbgvctl_verify_window(rbgvctl_verify_t *v, rbgvctl_window_t *w,
    const redisReply *state, const redisReply *history)
{
    int64_t  i, time, now, at, sum, slice, slices[RBGV_SLICES - 1];

    slice = (int64_t) w->limit.window * RBGV_SLICE;
    time = v->ctl->now_us + RBGV_SHIFT(v->id, slice);
    now = time / slice;
    at = now;
    sum = 0;

    memset(slices, 0, sizeof(slices));

    if (rbgvctl_verify_packed(state, RBGVCTL_STATE_SIZE)) {
        at = rbgvctl_verify_unpack(state, 0, 8);
        sum = rbgvctl_verify_unpack(state, 8, 4);
    }

    if (at - now >= RBGV_SLICES) {

        /* the clock was set back: all of it counts as of now */

        at = now;

    } else if (at < now) {

        for (sum = 0, i = 0; i < RBGV_SLICES - 1; i++) {
            slices[i] = rbgvctl_verify_slice(state, history, at - now + i);
            sum += slices[i];
        }

        at = now;

    } else {
        for (i = 0; i < RBGV_SLICES - 1; i++) {
            slices[i] = rbgvctl_verify_slice(state, history, i);
        }
    }

    w->left = sum < w->limit.quota ? w->limit.quota - sum : 0;
    w->reset = (at + 1) * slice - time;

    if (v->cost > 0 && w->left < v->cost) {
        i = rbgvctl_verify_turns(slices, sum + v->cost - w->limit.quota);
        w->retry = (at + i) * slice - time;
    }
}


/* the i-th before the newest, which is -1 */

static int64_t
rbgvctl_verify_slice(const redisReply *state, const redisReply *history,
    int64_t i)
{
    if (i == -1) {
        return rbgvctl_verify_unpack(state, 12, 4);
    }

    if (i < 0 || !rbgvctl_verify_packed(history, 4 * (RBGV_SLICES - 1))) {
        return 0;
    }

    return rbgvctl_verify_unpack(history, 4 * i, 4);
}


/* slices have to drop out one by one, the oldest first */

static int64_t
rbgvctl_verify_turns(const int64_t slices[RBGV_SLICES - 1], int64_t excess)
{
    int64_t  i, turns;

    turns = 1;

    for (i = RBGV_SLICES - 2; i >= 0; i--) {
        excess -= slices[i];

        if (excess <= 0) {
            break;
        }

        turns++;
    }

    return turns;
}


static int
rbgvctl_verify_packed(const redisReply *value, size_t len)
{
    return value->type == REDIS_REPLY_STRING && value->len >= len;
}


/* little-endian */

static int64_t
rbgvctl_verify_unpack(const redisReply *value, size_t offset, size_t len)
{
    uint64_t  n;

    for (n = 0; len > 0; len--) {
        n = n << 8 | (unsigned char) value->str[offset + len - 1];
    }

    return n;
}


static int
rbgvctl_verify_judge(rbgvctl_verify_t *v)
{
    int64_t  left;
    size_t   i;

    if (strcmp(rbgv_record_status(&v->key, v->ctl->now), RBGV_DISABLED) == 0) {
        return rbgvctl_verify_decided(v, &rbgvctl_disabled, "disabled key");
    }

    if (strcmp(v->secret->status, RBGV_DISABLED) == 0) {
        return rbgvctl_verify_decided(v, &rbgvctl_disabled,
                                      "disabled secret");
    }

    if (strcmp(rbgv_record_status(&v->key, v->ctl->now), RBGV_ACTIVE) != 0) {
        return rbgvctl_verify_decided(v, &rbgvctl_expired, "expired key");
    }

    if (v->secret->expires != 0 && v->secret->expires <= v->ctl->now) {
        return rbgvctl_verify_decided(v, &rbgvctl_expired, "expired secret");
    }

    if (!rbgvctl_verify_environment(v)) {
        return rbgvctl_verify_decided(v, &rbgvctl_other_environment,
                                      "key of another environment");
    }

    for (i = 0; i < v->limits.nelts; i++) {
        if (v->windows[i].retry != 0) {
            return rbgvctl_verify_decided(v, &rbgvctl_limited,
                                          "a window is full");
        }
    }

    left = rbgv_record_number(&v->key, RBGV_FIELD_CREDITS) - v->spent;

    if (left < v->price) {
        return rbgvctl_verify_decided(v, &rbgvctl_no_credits,
                                      "not enough credits");
    }

    return rbgvctl_verify_decided(v, &rbgvctl_passed, NULL);
}


static int
rbgvctl_verify_environment(const rbgvctl_verify_t *v)
{
    size_t             i;
    const redisReply  *environment;

    environment = rbgv_record_field(&v->key, RBGV_FIELD_ENVIRONMENT);

    for (i = 0; i < v->conf->environments.nelts; i++) {
        if (strcmp(v->conf->environments.elts[i], environment->str) == 0) {
            return 1;
        }
    }

    return v->conf->environments.nelts == 0;
}


static int
rbgvctl_verify_decided(rbgvctl_verify_t *v, const rbgvctl_verdict_t *verdict,
    const char *reason)
{
    v->verdict = verdict;
    v->reason = reason;

    return RBGVCTL_OK;
}


static int
rbgvctl_verify_print(rbgvctl_verify_t *v)
{
    int                     rc;
    struct libscols_table  *table;

    if (v->ctl->json) {
        rc = rbgvctl_print_json(rbgvctl_verify_json(v));

    } else {
        table = rbgvctl_table(rbgvctl_verify_columns);
        if (table == NULL) {
            return rbgvctl_error(RBGVCTL_REFUSED, "out of memory");
        }

        (void) scols_table_enable_noheadings(table, 1);

        rbgvctl_verify_rows(v, table);

        rc = rbgvctl_table_print(table);

        scols_unref_table(table);
    }

    if (rc != RBGVCTL_OK || rbgvctl_flush() == -1) {
        return RBGVCTL_REFUSED;
    }

    return v->verdict == &rbgvctl_passed ? RBGVCTL_OK : RBGVCTL_REFUSED;
}


static void
rbgvctl_verify_rows(rbgvctl_verify_t *v, struct libscols_table *table)
{
    char  text[160];

    rbgvctl_row(table, "verdict", v->verdict->status);

    if (v->reason != NULL) {
        (void) snprintf(text, sizeof(text), "%d %s", v->verdict->http,
                        v->verdict->code);

        rbgvctl_row(table, "answer", text);
        rbgvctl_row(table, "reason", v->reason);
    }

    if (v->id[0] != '\0') {
        rbgvctl_row(table, "id", v->id);
    }

    if (v->key.fields == NULL) {
        return;
    }

    rbgvctl_row(table, "name", rbgvctl_text(&v->key, RBGV_FIELD_NAME));
    rbgvctl_row(table, "environment",
                rbgvctl_text(&v->key, RBGV_FIELD_ENVIRONMENT));
    rbgvctl_row(table, "owner", rbgvctl_text(&v->key, RBGV_FIELD_OWNER));
    rbgvctl_row(table, "status", rbgv_record_status(&v->key, v->ctl->now));

    if (v->secret != NULL) {
        rbgvctl_verify_row_secret(v, table);
        rbgvctl_verify_row_windows(v, table);
    }
}


static void
rbgvctl_verify_row_secret(rbgvctl_verify_t *v, struct libscols_table *table)
{
    char                  text[160], time[RBGV_TIME_SIZE];
    const rbgv_secret_t  *secret;

    secret = v->secret;

    rbgv_time(secret->expires, RBGV_RFC3339, time);

    (void) snprintf(text, sizeof(text), "%s, %s, expires %s", secret->digest,
                    secret->status, time);

    rbgvctl_row(table, "secret", text);
}


static void
rbgvctl_verify_row_windows(rbgvctl_verify_t *v, struct libscols_table *table)
{
    int                n;
    char               name[80], text[160];
    size_t             i;
    int64_t            granted;
    rbgvctl_window_t  *w;

    for (i = 0; i < v->limits.nelts; i++) {
        w = &v->windows[i];

        (void) snprintf(name, sizeof(name), "limit %s", w->policy);

        n = snprintf(text, sizeof(text), "%s, %" PRId64 " left",
                     v->limits.elts[i].quota, w->left);

        if (w->retry != 0) {
            (void) snprintf(text + n, sizeof(text) - n, ", enough in %"
                            PRId64 " s", rbgvctl_verify_seconds(w->retry));
        }

        rbgvctl_row(table, name, text);
    }

    granted = rbgv_record_number(&v->key, RBGV_FIELD_CREDITS);

    if (rbgv_record_field(&v->key, RBGV_FIELD_CREDITS) != NULL) {
        (void) snprintf(text, sizeof(text), "%" PRId64 " left of %" PRId64,
                        granted - v->spent, granted);

        rbgvctl_row(table, "credits", text);
    }
}


/* rounded up */

static int64_t
rbgvctl_verify_seconds(int64_t microseconds)
{
    return (microseconds + 999999) / 1000000;
}


static json_t *
rbgvctl_verify_json(rbgvctl_verify_t *v)
{
    json_t  *status, *secret;

    status = json_null();
    secret = json_null();

    if (v->key.fields != NULL) {
        status = json_string(rbgv_record_status(&v->key, v->ctl->now));
    }

    if (v->secret != NULL) {
        secret = json_pack("{s:s, s:s, s:o}",
                           "digest", v->secret->digest,
                           "status", v->secret->status,
                           "expires_at",
                           rbgv_json_time(v->secret->expires));
    }

    return json_pack("{s:s, s:o, s:s?, s:s?, s:s?, s:o, s:o, s:o, s:o, s:o, "
                     "s:o, s:o, s:o, s:o}",
                     "verdict", v->verdict->status,
                     "http_status", v->verdict->http
                                    ? json_integer(v->verdict->http)
                                    : json_null(),
                     "code", v->verdict->code,
                     "reason", v->reason,
                     "key_fingerprint", v->id[0] ? v->id : NULL,
                     "client_id", rbgvctl_verify_json_field(v,
                                                         RBGV_FIELD_NAME),
                     "environment",
                     rbgvctl_verify_json_field(v, RBGV_FIELD_ENVIRONMENT),
                     "owner", rbgvctl_verify_json_field(v, RBGV_FIELD_OWNER),
                     "status", status,
                     "expires_at", rbgvctl_verify_json_expiry(v),
                     "secret", secret,
                     "windows", rbgvctl_verify_json_windows(v),
                     "credits", rbgvctl_verify_json_credits(v, 0),
                     "credits_left",
                     rbgvctl_verify_json_credits(v, v->spent));
}


static json_t *
rbgvctl_verify_json_field(rbgvctl_verify_t *v, const char *name)
{
    return v->key.fields ? rbgv_json_field(&v->key, name) : json_null();
}


static json_t *
rbgvctl_verify_json_expiry(rbgvctl_verify_t *v)
{
    if (v->key.fields == NULL) {
        return json_null();
    }

    return rbgv_json_time(rbgv_record_number(&v->key,
                                             RBGV_FIELD_EXPIRES));
}


static json_t *
rbgvctl_verify_json_windows(rbgvctl_verify_t *v)
{
    size_t             i;
    json_t            *windows;
    rbgvctl_window_t  *w;

    windows = json_array();

    for (i = 0; v->secret != NULL && i < v->limits.nelts; i++) {
        w = &v->windows[i];

        (void) json_array_append_new(windows,
                    json_pack("{s:s, s:s, s:I, s:I, s:o}",
                              "policy", w->policy,
                              "limit", v->limits.elts[i].quota,
                              "remaining", (json_int_t) w->left,
                              "reset", (json_int_t)
                                       rbgvctl_verify_seconds(w->reset),
                              "retry_after", w->retry
                              ? json_integer(rbgvctl_verify_seconds(w->retry))
                              : json_null()));
    }

    return windows;
}


static json_t *
rbgvctl_verify_json_credits(rbgvctl_verify_t *v, int64_t spent)
{
    if (v->secret == NULL
        || rbgv_record_field(&v->key, RBGV_FIELD_CREDITS) == NULL)
    {
        return json_null();
    }

    return json_integer(rbgv_record_number(&v->key, RBGV_FIELD_CREDITS)
                        - spent);
}
