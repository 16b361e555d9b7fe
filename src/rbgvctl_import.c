
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: import.
 */


#define _GNU_SOURCE                    /* strptime(), tdestroy() */

#include <inttypes.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "rbgvctl.h"


#define RBGVCTL_IMPORT_BATCH  500      /* rows on their way to the store */
#define RBGVCTL_BAR           30       /* characters */
#define RBGVCTL_BAR_PERIOD    100      /* milliseconds */

#define RBGVCTL_NUMBER_SIZE   24
#define RBGVCTL_NAME_SIZE     64

/* EVAL, script, 1, key; then pairs: 9 fields and the limits */
#define RBGVCTL_ARGS_MAX      (4 + 2 * (9 + RBGV_LIMITS_MAX))


typedef struct {
    const char         *format;
    int                 no_pepper;
    int                 dry_run;
    int                 force;
} rbgvctl_import_conf_t;


/* a row that may be stored; empty strings are not */

typedef struct {
    size_t              line;
    char                id[RBGV_ID_LEN + 1];
    char                secret[RBGV_SECRET_SIZE];
    char                name[RBGVCTL_NAME_SIZE];
    char                environment[RBGV_ENVIRONMENT_MAX + 1];
    char                owner[RBGV_OWNER_MAX + 1];
    char                note[RBGV_NOTE_MAX + 1];
    char                credits[RBGVCTL_NUMBER_SIZE];
    char                expires[RBGVCTL_NUMBER_SIZE];
    rbgv_limits_t       limits;

    /* those of the environment, NULL if the row has limits */
    const rbgv_limits_t *inherited;
} rbgvctl_import_key_t;


/* a key of the file, so that a dry run finds it a second time */

typedef struct {
    char                id[RBGV_ID_LEN];
    size_t              line;
    uint64_t            sum;           /* of all that is to be stored */
} rbgvctl_import_seen_t;


typedef struct {
    rbgvctl_t              *ctl;
    rbgvctl_import_conf_t  *conf;
    rbgv_digester_t        *digester;
    rbgvctl_rows_t         *rows;
    rbgv_environments_t     environments;

    size_t                  imported;
    size_t                  existing;
    size_t                  refused;
    json_t                 *refusals;  /* NULL: no JSON is wanted */
    char                    reason[160];

    void                   *seen;      /* a tree, of a dry run */

    int64_t                 drawn;     /* when; 0: no bar is shown */

    size_t                  nkeys;
    rbgvctl_import_key_t    keys[RBGVCTL_IMPORT_BATCH];
} rbgvctl_import_t;


static int rbgvctl_import(rbgvctl_t *ctl, void *data, const char *arg);
static int rbgvctl_import_open(rbgvctl_import_t *im, const char *path);
static int rbgvctl_import_rows(rbgvctl_import_t *im);
static void rbgvctl_import_close(rbgvctl_import_t *im);

static const char *rbgvctl_import_take(rbgvctl_import_t *im,
    const rbgvctl_row_t *row, rbgvctl_import_key_t *key);
static const char *rbgvctl_import_secret(rbgvctl_import_t *im,
    const rbgvctl_row_t *row, rbgvctl_import_key_t *key);
static const char *rbgvctl_import_own(const char *text, size_t len,
    const rbgvctl_row_t *row, rbgvctl_import_key_t *key);
static const char *rbgvctl_import_hex(const char *text,
    unsigned char sha256[RBGV_DIGEST_LEN]);
static const char *rbgvctl_import_environment(rbgvctl_import_t *im,
    const rbgvctl_row_t *row, rbgvctl_import_key_t *key);
static const char *rbgvctl_import_name(rbgvctl_import_t *im,
    const char *name, rbgvctl_import_key_t *key);
static const char *rbgvctl_import_texts(rbgvctl_import_t *im,
    const rbgvctl_row_t *row, rbgvctl_import_key_t *key);
static const char *rbgvctl_import_limits(rbgvctl_import_t *im,
    const char *text, rbgvctl_import_key_t *key);
static const char *rbgvctl_import_expiry(const char *text,
    rbgvctl_import_key_t *key);
static const char *rbgvctl_import_fault(rbgvctl_import_t *im,
    rbgvctl_row_column_e column, const char *fault);

static int rbgvctl_import_flush(rbgvctl_import_t *im);
static int rbgvctl_import_index(rbgvctl_import_t *im);
static void rbgvctl_import_send(rbgvctl_import_t *im,
    const rbgvctl_import_key_t *key);
static size_t rbgvctl_import_args(const rbgvctl_import_key_t *key,
    const char **args);
static size_t rbgvctl_import_limit_args(const rbgv_limits_t *limits,
    const char **args, size_t n);
static size_t rbgvctl_import_arg(const char **args, size_t n,
    const char *field, const char *value);
static int rbgvctl_import_receive(rbgvctl_import_t *im,
    const rbgvctl_import_key_t *key);
static const char *rbgvctl_import_compare(rbgvctl_import_t *im,
    const rbgvctl_import_key_t *key, redisReply *fields);
static int rbgvctl_import_is_arg(const rbgvctl_import_key_t *key,
    const char *field);
static const char *rbgvctl_import_again(rbgvctl_import_t *im,
    const rbgvctl_import_key_t *key);
static int rbgvctl_import_order(const void *one, const void *two);
static uint64_t rbgvctl_import_sum(const rbgvctl_import_key_t *key);

static void rbgvctl_import_refuse(rbgvctl_import_t *im, size_t line,
    const char *reason);
static void rbgvctl_import_draw(rbgvctl_import_t *im);
static void rbgvctl_import_clear(rbgvctl_import_t *im);
static int rbgvctl_import_print(rbgvctl_import_t *im);


/*
 * KEYS: the hash of a key; ARGV: field, value ...
 * Returns what there was: a key that is there stays as it is.
 */

static const char  rbgvctl_import_script[] =
    "local old = redis.call('HGETALL', KEYS[1]) "
    "if #old == 0 then redis.call('HSET', KEYS[1], unpack(ARGV)) end "
    "return old";


static const rbgvctl_option_t  rbgvctl_import_options[] = {

    { "format", "csv|jsonl",
      rbgvctl_set_string,
      offsetof(rbgvctl_import_conf_t, format),
      "if the name of the file does not tell" },

    { "dry-run", NULL,
      rbgvctl_set_flag,
      offsetof(rbgvctl_import_conf_t, dry_run),
      "check the rows, write nothing" },

    { "no-pepper", NULL,
      rbgvctl_set_flag,
      offsetof(rbgvctl_import_conf_t, no_pepper),
      "for a gateway that has no pepper" },

    { "force", NULL,
      rbgvctl_set_flag,
      offsetof(rbgvctl_import_conf_t, force),
      "accept generic or misleading names" },

    { NULL, NULL, NULL, 0, NULL }
};


const rbgvctl_command_t  rbgvctl_import_command = {
    "import", "FILE",
    "Import keys of another system",
    "FILE is CSV with a header line, or JSON lines; \"-\" is standard "
    "input. Columns:\n"
    "  client_id                     name of the key\n"
    "  environment                   prod, dev, ...\n"
    "  api_key                       the key, or\n"
    "  sha256                        its SHA-256 in hex\n"
    "  owner, note                   may be empty, as may all that follow\n"
    "  limits                        default=600r/1m burst=20r/1s\n"
    "  credits                       a number\n"
    "  expires_at                    2026-12-31T23:59:59Z or 2026-12-31\n\n"
    "A row is imported whole or not at all. What is there already is left "
    "alone: run\nit again to go on after an interruption.\n\n"
    "Examples:\n"
    "  rbgvctl import --dry-run keys.csv\n"
    "  rbgvctl import keys.csv\n"
    "  zcat keys.jsonl.gz | rbgvctl import --format jsonl -\n",
    rbgvctl_import_options,
    sizeof(rbgvctl_import_conf_t),
    rbgvctl_import
};


static int
rbgvctl_import(rbgvctl_t *ctl, void *data, const char *arg)
{
    rbgvctl_import_conf_t  *conf = data;

    int                rc;
    rbgvctl_import_t  *im;

    if (conf->format != NULL
        && strcmp(conf->format, "csv") != 0
        && strcmp(conf->format, "jsonl") != 0)
    {
        return rbgvctl_error(RBGVCTL_USAGE, "--format \"%s\" is none of csv, "
                             "jsonl", conf->format);
    }

    im = calloc(1, sizeof(rbgvctl_import_t));
    if (im == NULL) {
        return rbgvctl_error(RBGVCTL_REFUSED, "out of memory");
    }

    im->ctl = ctl;
    im->conf = conf;

    rc = rbgvctl_import_open(im, arg);

    if (rc == RBGVCTL_OK) {
        rc = rbgvctl_import_rows(im);
    }

    rbgvctl_import_close(im);

    return rc;
}


static int
rbgvctl_import_open(rbgvctl_import_t *im, const char *path)
{
    int  rc;

    rc = rbgvctl_digester(im->ctl, "import", im->conf->no_pepper,
                          &im->digester);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    im->rows = rbgvctl_rows_open(path, im->conf->format);
    if (im->rows == NULL) {
        return RBGVCTL_REFUSED;
    }

    if (im->ctl->json) {
        im->refusals = json_array();
    }

    rc = rbgvctl_store_open(im->ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    return rbgvctl_environments_fetch(im->ctl, &im->environments);
}


static void
rbgvctl_import_close(rbgvctl_import_t *im)
{
    if (im->rows != NULL) {
        rbgvctl_rows_close(im->rows);
    }

    rbgv_environments_free(&im->environments);
    rbgv_digester_free(im->digester);
    json_decref(im->refusals);
    tdestroy(im->seen, free);
    free(im);
}


static int
rbgvctl_import_rows(rbgvctl_import_t *im)
{
    int             rc, next;
    const char     *fault;
    rbgvctl_row_t   row;

    rc = RBGVCTL_OK;

    while (rc == RBGVCTL_OK
           && (next = rbgvctl_rows_next(im->rows, &row)) == 1)
    {
        fault = row.fault;

        if (fault == NULL) {
            fault = rbgvctl_import_take(im, &row, &im->keys[im->nkeys]);
        }

        if (fault != NULL) {
            rbgvctl_import_refuse(im, row.line, fault);

        } else if (++im->nkeys == RBGVCTL_IMPORT_BATCH) {
            rc = rbgvctl_import_flush(im);
        }
    }

    if (rc == RBGVCTL_OK) {
        rc = rbgvctl_import_flush(im);
    }

    rbgvctl_import_clear(im);

    if (im->imported != 0 && !im->conf->dry_run) {
        rbgvctl_audit(im->ctl, "import", "");
    }

    if (rc != RBGVCTL_OK) {
        rbgvctl_note("%zu keys are imported, others may be; run it again to "
                     "go on", im->imported);
        return rc;
    }

    rc = rbgvctl_import_print(im);

    return (next == -1 || im->refused) ? RBGVCTL_REFUSED : rc;
}


/* NULL, or why the row is refused: what is in it is not quoted */

static const char *
rbgvctl_import_take(rbgvctl_import_t *im, const rbgvctl_row_t *row,
    rbgvctl_import_key_t *key)
{
    const char  *fault;

    memset(key, 0, sizeof(rbgvctl_import_key_t));

    key->line = row->line;

    fault = rbgvctl_import_secret(im, row, key);

    if (fault == NULL) {
        fault = rbgvctl_import_environment(im, row, key);
    }

    if (fault == NULL) {
        fault = rbgvctl_import_texts(im, row, key);
    }

    if (fault == NULL) {
        fault = rbgvctl_import_limits(im, row->values[RBGVCTL_ROW_LIMITS],
                                      key);
    }

    if (fault == NULL) {
        fault = rbgvctl_import_expiry(row->values[RBGVCTL_ROW_EXPIRES_AT],
                                      key);
    }

    return fault;
}


static const char *
rbgvctl_import_secret(rbgvctl_import_t *im, const rbgvctl_row_t *row,
    rbgvctl_import_key_t *key)
{
    size_t          len;
    const char     *text, *hex, *fault;
    unsigned char   sha256[RBGV_DIGEST_LEN], digest[RBGV_DIGEST_LEN];

    text = row->values[RBGVCTL_ROW_API_KEY];
    hex = row->values[RBGVCTL_ROW_SHA256];

    if ((text == NULL) == (hex == NULL)) {
        return text ? "has an api_key and a sha256, of which one is needed"
                    : "has no api_key and no sha256";
    }

    if (hex != NULL) {
        fault = rbgvctl_import_hex(hex, sha256);

    } else {
        len = strlen(text);

        if (rbgv_digest_plain(im->digester, text, len, sha256) == -1) {
            return "OpenSSL failed";
        }

        fault = rbgvctl_import_own(text, len, row, key);
    }

    if (fault != NULL) {
        return fault;
    }

    if (rbgv_digest_sha256(im->digester, sha256, digest) == -1) {
        return "OpenSSL failed";
    }

    if (key->id[0] == '\0') {
        rbgv_id_derive(sha256, key->id);
    }

    memcpy(key->secret, RBGV_FIELD_SECRET, sizeof(RBGV_FIELD_SECRET) - 1);
    rbgv_digest_hex(digest, key->secret + sizeof(RBGV_FIELD_SECRET) - 1);

    return NULL;
}


/* sets the id and the environment of a key that has them */

static const char *
rbgvctl_import_own(const char *text, size_t len, const rbgvctl_row_t *row,
    rbgvctl_import_key_t *key)
{
    rbgv_key_t   own;
    const char  *environment;

    switch (rbgv_key_parse(text, len, &own)) {

    case RBGV_KEY_OK:
        break;

    case RBGV_KEY_CHECKSUM:
        return "api_key has a wrong checksum: a part of it is lost or changed";

    default:
        return rbgv_opaque_valid(text, len)
               ? NULL
               : "api_key is neither a key of this module nor 16 to 256 "
                 "visible ASCII characters that do not begin with rbgv_";
    }

    environment = row->values[RBGVCTL_ROW_ENVIRONMENT];

    memcpy(key->id, own.id, RBGV_ID_LEN);
    memcpy(key->environment, own.environment, own.environment_len);

    if (environment != NULL && strcmp(environment, key->environment) != 0) {
        return "environment is not the one in api_key";
    }

    return NULL;
}


static const char *
rbgvctl_import_hex(const char *text, unsigned char sha256[RBGV_DIGEST_LEN])
{
    size_t  len;

    /* ":" would be taken for a separator */

    if (strlen(text) != RBGV_DIGEST_HEX
        || strspn(text, "0123456789abcdefABCDEF") != RBGV_DIGEST_HEX
        || OPENSSL_hexstr2buf_ex(sha256, RBGV_DIGEST_LEN, &len, text, '\0')
           != 1)
    {
        return "sha256 is not 64 hex digits";
    }

    return NULL;
}


static const char *
rbgvctl_import_environment(rbgvctl_import_t *im, const rbgvctl_row_t *row,
    rbgvctl_import_key_t *key)
{
    const char                *name;
    const rbgv_environment_t  *environment;

    name = row->values[RBGVCTL_ROW_ENVIRONMENT];

    if (name == NULL) {
        name = key->environment;
    }

    if (name[0] == '\0') {
        return "has no environment";
    }

    environment = rbgv_environment_find(&im->environments, name);

    if (environment == NULL) {
        return "environment is none of those that \"rbgvctl environments\" "
               "shows";
    }

    strcpy(key->environment, environment->name);

    if (row->values[RBGVCTL_ROW_LIMITS] == NULL) {
        key->inherited = &environment->limits;
    }

    return rbgvctl_import_name(im, row->values[RBGVCTL_ROW_CLIENT_ID], key);
}


static const char *
rbgvctl_import_name(rbgvctl_import_t *im, const char *name,
    rbgvctl_import_key_t *key)
{
    rbgv_name_e  verdict;

    if (name == NULL) {
        return "has no client_id";
    }

    if (!rbgv_name_valid(name)) {
        return "client_id is not 2 to 63 characters of [a-z0-9-], the first "
               "no \"-\"";
    }

    strcpy(key->name, name);

    verdict = rbgv_name_check(key->name, key->environment);

    if (im->conf->force
        || verdict == RBGV_NAME_GOOD
        || verdict == RBGV_NAME_SUFFIX)
    {
        return NULL;
    }

    return verdict == RBGV_NAME_GENERIC
           ? "client_id does not say whose key it is; --force accepts it"
           : "client_id is of another environment; --force accepts it";
}


static const char *
rbgvctl_import_texts(rbgvctl_import_t *im, const rbgvctl_row_t *row,
    rbgvctl_import_key_t *key)
{
    const char  *owner, *note, *credits, *fault;

    owner = row->values[RBGVCTL_ROW_OWNER];
    note = row->values[RBGVCTL_ROW_NOTE];
    credits = row->values[RBGVCTL_ROW_CREDITS];

    fault = owner ? rbgv_owner_fault(owner) : NULL;
    if (fault != NULL) {
        return rbgvctl_import_fault(im, RBGVCTL_ROW_OWNER, fault);
    }

    fault = note ? rbgv_note_fault(note) : NULL;
    if (fault != NULL) {
        return rbgvctl_import_fault(im, RBGVCTL_ROW_NOTE, fault);
    }

    fault = credits ? rbgv_credits_fault(credits) : NULL;
    if (fault != NULL) {
        return rbgvctl_import_fault(im, RBGVCTL_ROW_CREDITS, fault);
    }

    strcpy(key->owner, owner ? owner : "");
    strcpy(key->note, note ? note : "");
    strcpy(key->credits, credits ? credits : "");

    return NULL;
}


/* "default=600r/1m burst=20r/1s" */

static const char *
rbgvctl_import_limits(rbgvctl_import_t *im, const char *text,
    rbgvctl_import_key_t *key)
{
    char         limit[RBGV_LIMIT_SIZE + RBGV_QUOTA_SIZE];
    size_t       len, name;
    const char  *fault;

    if (text == NULL) {
        return NULL;
    }

    for ( ;; ) {
        text += strspn(text, " ");
        len = strcspn(text, " ");

        if (len == 0) {
            return NULL;
        }

        name = strcspn(text, "= ");

        if (name + 1 >= len) {
            fault = "it is not of the form POLICY=LIMIT";

        } else if (len >= sizeof(limit)) {
            fault = "it is too long";

        } else {
            memcpy(limit, text, len);
            limit[len] = '\0';

            fault = rbgv_limits_add(&key->limits, limit, name,
                                    limit + name + 1);
        }

        if (fault != NULL) {
            (void) snprintf(im->reason, sizeof(im->reason), "has a limit "
                            "that is not valid: %s", fault);
            return im->reason;
        }

        text += len;
    }
}


/* in UTC; a date is its first second */

static const char *
rbgvctl_import_expiry(const char *text, rbgvctl_import_key_t *key)
{
    char         again[RBGV_TIME_SIZE];
    time_t       t;
    struct tm    tm;
    const char  *format;

    if (text == NULL) {
        return NULL;
    }

    memset(&tm, 0, sizeof(struct tm));

    format = strchr(text, 'T') ? RBGV_RFC3339 : RBGV_DATE;

    if (strptime(text, format, &tm) == NULL
        || (t = timegm(&tm)) <= 0
        || strftime(again, sizeof(again), format, &tm) == 0
        || strcmp(again, text) != 0)
    {
        return "expires_at is not a time in UTC, as in 2026-12-31T23:59:59Z "
               "or 2026-12-31";
    }

    (void) snprintf(key->expires, sizeof(key->expires), "%" PRId64,
                    (int64_t) t);

    return NULL;
}


static const char *
rbgvctl_import_fault(rbgvctl_import_t *im, rbgvctl_row_column_e column,
    const char *fault)
{
    (void) snprintf(im->reason, sizeof(im->reason), "%s %s",
                    rbgvctl_row_columns[column], fault);

    return im->reason;
}


static int
rbgvctl_import_flush(rbgvctl_import_t *im)
{
    int     rc;
    size_t  i;

    if (im->nkeys == 0) {
        return RBGVCTL_OK;
    }

    rc = rbgvctl_store_time(im->ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    if (!im->conf->dry_run) {
        rc = rbgvctl_import_index(im);
        if (rc != RBGVCTL_OK) {
            return rc;
        }
    }

    for (i = 0; i < im->nkeys; i++) {
        rbgvctl_import_send(im, &im->keys[i]);
    }

    for (i = 0; i < im->nkeys; i++) {
        rc = rbgvctl_import_receive(im, &im->keys[i]);
        if (rc != RBGVCTL_OK) {
            return rc;
        }
    }

    im->nkeys = 0;

    rbgvctl_import_draw(im);

    return RBGVCTL_OK;
}


/*
 * The index first: a key that works is always in the list.  It is not sent
 * together with the keys, which may be on other nodes of a cluster.
 */

static int
rbgvctl_import_index(rbgvctl_import_t *im)
{
    size_t       i;
    redisReply  *reply;

    for (i = 0; i < im->nkeys; i++) {
        rbgvctl_store_append(im->ctl, "ZADD %s" RBGV_KEYS " NX %lld %s",
                             im->ctl->prefix, (long long) im->ctl->now,
                             im->keys[i].id);
    }

    for (i = 0; i < im->nkeys; i++) {
        reply = rbgvctl_store_reply(im->ctl, REDIS_REPLY_INTEGER);
        if (reply == NULL) {
            return RBGVCTL_STORE;
        }

        freeReplyObject(reply);
    }

    return RBGVCTL_OK;
}


static void
rbgvctl_import_send(rbgvctl_import_t *im, const rbgvctl_import_key_t *key)
{
    char         hash[RBGV_HASH_SIZE];
    char         created[RBGVCTL_NUMBER_SIZE];
    char         state[sizeof(RBGV_ACTIVE) + 2 * RBGVCTL_NUMBER_SIZE];
    size_t       n;
    const char  *args[RBGVCTL_ARGS_MAX];

    rbgv_hash_name(im->ctl->prefix, RBGV_KEY, key->id, hash);

    if (im->conf->dry_run) {
        rbgvctl_store_append(im->ctl, "HGETALL %s", hash);
        return;
    }

    (void) snprintf(created, sizeof(created), "%" PRId64, im->ctl->now);
    (void) snprintf(state, sizeof(state), RBGV_ACTIVE " %s 0", created);

    n = rbgvctl_import_arg(args, 0, "EVAL", rbgvctl_import_script);
    n = rbgvctl_import_arg(args, n, "1", hash);
    n = rbgvctl_import_arg(args, n, RBGV_FIELD_STATUS, RBGV_ACTIVE);
    n = rbgvctl_import_arg(args, n, RBGV_FIELD_CREATED, created);
    n = rbgvctl_import_arg(args, n, key->secret, state);
    n += rbgvctl_import_args(key, &args[n]);

    if (key->inherited != NULL) {
        n = rbgvctl_import_limit_args(key->inherited, args, n);
    }

    rbgvctl_store_append_argv(im->ctl, n, args);
}


/* what comes from the file, without the secret */

static size_t
rbgvctl_import_args(const rbgvctl_import_key_t *key, const char **args)
{
    size_t  n;

    n = rbgvctl_import_arg(args, 0, RBGV_FIELD_NAME, key->name);
    n = rbgvctl_import_arg(args, n, RBGV_FIELD_ENVIRONMENT,
                           key->environment);
    n = rbgvctl_import_arg(args, n, RBGV_FIELD_OWNER, key->owner);
    n = rbgvctl_import_arg(args, n, RBGV_FIELD_NOTE, key->note);
    n = rbgvctl_import_arg(args, n, RBGV_FIELD_CREDITS, key->credits);
    n = rbgvctl_import_arg(args, n, RBGV_FIELD_EXPIRES, key->expires);

    return rbgvctl_import_limit_args(&key->limits, args, n);
}


static size_t
rbgvctl_import_limit_args(const rbgv_limits_t *limits, const char **args,
    size_t n)
{
    size_t  i;

    for (i = 0; i < limits->nelts; i++) {
        n = rbgvctl_import_arg(args, n, limits->elts[i].field,
                               limits->elts[i].quota);
    }

    return n;
}


static size_t
rbgvctl_import_arg(const char **args, size_t n, const char *field,
    const char *value)
{
    if (value[0] == '\0') {
        return n;
    }

    args[n] = field;
    args[n + 1] = value;

    return n + 2;
}


static int
rbgvctl_import_receive(rbgvctl_import_t *im, const rbgvctl_import_key_t *key)
{
    redisReply  *reply;
    const char  *fault;

    reply = rbgvctl_store_reply(im->ctl, REDIS_REPLY_ARRAY);
    if (reply == NULL) {
        return RBGVCTL_STORE;
    }

    fault = NULL;

    if (reply->elements != 0) {
        fault = rbgvctl_import_compare(im, key, reply);
        im->existing += (fault == NULL);

    } else if (im->conf->dry_run) {
        fault = rbgvctl_import_again(im, key);

    } else {
        im->imported++;
    }

    freeReplyObject(reply);

    if (fault != NULL) {
        rbgvctl_import_refuse(im, key->line, fault);
    }

    return RBGVCTL_OK;
}


/* NULL if the key that is there has all that this one has, and no more */

static const char *
rbgvctl_import_compare(rbgvctl_import_t *im, const rbgvctl_import_key_t *key,
    redisReply *fields)
{
    size_t             i, n;
    const char        *args[RBGVCTL_ARGS_MAX];
    rbgv_record_t      stored;
    const redisReply  *value;

    memset(&stored, 0, sizeof(rbgv_record_t));
    stored.fields = fields;

    if (rbgv_record_field(&stored, key->secret) == NULL) {
        return "its id is that of a key with another secret";
    }

    n = rbgvctl_import_args(key, args);

    for (i = 0; i < n; i += 2) {
        value = rbgv_record_field(&stored, args[i]);

        if (value == NULL || strcmp(value->str, args[i + 1]) != 0) {
            (void) snprintf(im->reason, sizeof(im->reason), "its key is "
                            "there already, with another %s", args[i]);
            return im->reason;
        }
    }

    for (i = 0; i + 1 < fields->elements; i += 2) {
        n -= 2 * rbgvctl_import_is_arg(key, fields->element[i]->str);
    }

    return n ? "its key is there already, with more than the row has" : NULL;
}


/* 1 if it would come from the row; limits of an environment do not */

static int
rbgvctl_import_is_arg(const rbgvctl_import_key_t *key, const char *field)
{
    size_t  i;

    static const char  *fields[] = {
        RBGV_FIELD_NAME, RBGV_FIELD_ENVIRONMENT, RBGV_FIELD_OWNER,
        RBGV_FIELD_NOTE, RBGV_FIELD_CREDITS, RBGV_FIELD_EXPIRES, NULL
    };

    for (i = 0; fields[i] != NULL; i++) {
        if (strcmp(fields[i], field) == 0) {
            return 1;
        }
    }

    return key->inherited == NULL
           && strncmp(field, RBGV_FIELD_LIMIT, sizeof(RBGV_FIELD_LIMIT) - 1)
              == 0;
}


/* a key that is not in the store may be in the file a second time */

static const char *
rbgvctl_import_again(rbgvctl_import_t *im, const rbgvctl_import_key_t *key)
{
    rbgvctl_import_seen_t  *seen, **node;

    seen = malloc(sizeof(rbgvctl_import_seen_t));
    if (seen == NULL) {
        return "there is no memory for it";
    }

    memcpy(seen->id, key->id, RBGV_ID_LEN);
    seen->line = key->line;
    seen->sum = rbgvctl_import_sum(key);

    node = tsearch(seen, &im->seen, rbgvctl_import_order);

    if (node != NULL && *node == seen) {
        im->imported++;
        return NULL;
    }

    if (node == NULL) {
        free(seen);
        return "there is no memory for it";
    }

    if ((*node)->sum == seen->sum) {
        im->existing++;
        free(seen);
        return NULL;
    }

    free(seen);

    (void) snprintf(im->reason, sizeof(im->reason), "its key is that of line "
                    "%zu, with other values", (*node)->line);

    return im->reason;
}


static int
rbgvctl_import_order(const void *one, const void *two)
{
    const rbgvctl_import_seen_t  *a = one;
    const rbgvctl_import_seen_t  *b = two;

    return memcmp(a->id, b->id, RBGV_ID_LEN);
}


/* FNV-1a, the zeros included */

static uint64_t
rbgvctl_import_sum(const rbgvctl_import_key_t *key)
{
    size_t       i, n;
    uint64_t     sum;
    const char  *p, *args[RBGVCTL_ARGS_MAX];

    n = rbgvctl_import_arg(args, 0, key->secret, RBGV_ACTIVE);
    n += rbgvctl_import_args(key, &args[n]);

    sum = UINT64_C(0xcbf29ce484222325);

    for (i = 0; i < n; i++) {
        p = args[i];

        do {
            sum = (sum ^ (unsigned char) *p) * UINT64_C(0x100000001b3);
        } while (*p++ != '\0');
    }

    return sum;
}


static void
rbgvctl_import_refuse(rbgvctl_import_t *im, size_t line, const char *reason)
{
    im->refused++;

    rbgvctl_import_clear(im);
    rbgvctl_note("line %zu: %s", line, reason);

    if (im->refusals != NULL) {
        (void) json_array_append_new(im->refusals,
                                     json_pack("{s:I, s:s}",
                                               "line", (json_int_t) line,
                                               "reason", reason));
    }
}


static void
rbgvctl_import_draw(rbgvctl_import_t *im)
{
    int              full;
    char             bar[RBGVCTL_BAR + 1];
    int64_t          now, bytes, size;
    struct timespec  ts;

    if (!isatty(STDERR_FILENO)) {
        return;
    }

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);
    now = ts.tv_sec * INT64_C(1000) + ts.tv_nsec / 1000000 + 1;

    if (im->drawn != 0 && now - im->drawn < RBGVCTL_BAR_PERIOD) {
        return;
    }

    bytes = rbgvctl_rows_bytes(im->rows, &size);

    (void) fprintf(stderr, "\r%zu rows",
                   im->imported + im->existing + im->refused);

    if (size >= bytes) {
        full = RBGVCTL_BAR * bytes / size;

        memset(bar, '#', full);
        memset(bar + full, '.', RBGVCTL_BAR - full);
        bar[RBGVCTL_BAR] = '\0';

        (void) fprintf(stderr, " [%s] %3d%%", bar, (int) (100 * bytes / size));
    }

    im->drawn = now;
}


static void
rbgvctl_import_clear(rbgvctl_import_t *im)
{
    if (im->drawn != 0) {
        (void) fprintf(stderr, "\r%*s\r", RBGVCTL_BAR + 40, "");
        im->drawn = 0;
    }
}


static int
rbgvctl_import_print(rbgvctl_import_t *im)
{
    if (im->refusals != NULL) {
        return rbgvctl_print_json(
                   json_pack("{s:b, s:I, s:I, s:I, s:O}",
                             "dry_run", im->conf->dry_run,
                             "imported", (json_int_t) im->imported,
                             "existing", (json_int_t) im->existing,
                             "refused", (json_int_t) im->refused,
                             "refusals", im->refusals));
    }

    (void) printf("%s: %zu, there already: %zu, refused: %zu\n",
                  im->conf->dry_run ? "would be imported" : "imported",
                  im->imported, im->existing, im->refused);

    return RBGVCTL_OK;
}
