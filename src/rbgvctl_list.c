
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: list.
 */


#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rbgvctl.h"


typedef struct {
    const char             *environment;
    const char             *owner;
    const char             *status;
    const char             *name;      /* a pattern of the shell */
    const char             *sort;
    int                     reverse;
} rbgvctl_list_conf_t;


typedef struct {
    char                    id[RBGV_ID_LEN + 1];
    char                   *text;      /* NULL: goes by number */
    int64_t                 number;
    size_t                  seq;
} rbgvctl_rank_t;


typedef struct rbgvctl_list_s  rbgvctl_list_t;


typedef struct {
    const char             *name;

    /* sets text or number; -1 if there is no memory */
    int                   (*rank)(rbgvctl_rank_t *rank,
                                  const rbgv_record_t *key);
    int                     counters;  /* whether it reads them */
} rbgvctl_sort_t;


struct rbgvctl_list_s {
    rbgvctl_list_conf_t    *conf;
    const rbgvctl_sort_t   *sort;
    rbgvctl_output_t       *out;

    rbgvctl_rank_t         *ranks;
    size_t                  nranks;
    size_t                  nalloc;
};


static int rbgvctl_list(rbgvctl_t *ctl, void *data, const char *arg);
static int rbgvctl_list_check(rbgvctl_list_t *list);
static int rbgvctl_list_output(rbgvctl_t *ctl, void *data,
    rbgv_record_t *keys, size_t n);
static int rbgvctl_list_matches(rbgvctl_t *ctl,
    const rbgvctl_list_conf_t *conf, const rbgv_record_t *key);
static int rbgvctl_list_is(const rbgv_record_t *key, const char *field,
    const char *value);

static int rbgvctl_list_sorted(rbgvctl_t *ctl, rbgvctl_list_t *list);
static int rbgvctl_list_collect(rbgvctl_t *ctl, void *data,
    rbgv_record_t *keys, size_t n);
static rbgvctl_rank_t *rbgvctl_list_rank(rbgvctl_list_t *list);
static int rbgvctl_list_ranked(rbgvctl_t *ctl, rbgvctl_list_t *list);
static int rbgvctl_rank_compare(const void *one, const void *two);
static int rbgvctl_rank_name(rbgvctl_rank_t *rank, const rbgv_record_t *key);
static int rbgvctl_rank_owner(rbgvctl_rank_t *rank,
    const rbgv_record_t *key);
static int rbgvctl_rank_text(rbgvctl_rank_t *rank, const rbgv_record_t *key,
    const char *field);
static int rbgvctl_rank_created(rbgvctl_rank_t *rank,
    const rbgv_record_t *key);
static int rbgvctl_rank_last_used(rbgvctl_rank_t *rank,
    const rbgv_record_t *key);
static int rbgvctl_rank_requests(rbgvctl_rank_t *rank,
    const rbgv_record_t *key);


/* the first one is the order of the index */

static const rbgvctl_sort_t  rbgvctl_sorts[] = {
    { "created", rbgvctl_rank_created, 0 },
    { "name", rbgvctl_rank_name, 0 },
    { "owner", rbgvctl_rank_owner, 0 },
    { "last-used", rbgvctl_rank_last_used, 1 },
    { "requests", rbgvctl_rank_requests, 1 },
    { NULL, NULL, 0 }
};


static const rbgvctl_option_t  rbgvctl_list_options[] = {

    { "environment", "NAME",
      rbgvctl_set_string,
      offsetof(rbgvctl_list_conf_t, environment),
      "only the keys of this environment" },

    { "owner", "TEXT",
      rbgvctl_set_string,
      offsetof(rbgvctl_list_conf_t, owner),
      "only the keys of this owner" },

    { "status", "STATUS",
      rbgvctl_set_string,
      offsetof(rbgvctl_list_conf_t, status),
      "active, disabled or expired" },

    { "name", "PATTERN",
      rbgvctl_set_string,
      offsetof(rbgvctl_list_conf_t, name),
      "only names like this, as in \"billing-*\"" },

    { "sort", "ORDER",
      rbgvctl_set_string,
      offsetof(rbgvctl_list_conf_t, sort),
      "created, name, owner, last-used or requests" },

    { "reverse", NULL,
      rbgvctl_set_flag,
      offsetof(rbgvctl_list_conf_t, reverse),
      "the last one first" },

    { NULL, NULL, NULL, 0, NULL }
};


const rbgvctl_command_t  rbgvctl_list_command = {
    "list", NULL,
    "List all keys",
    "Examples:\n"
    "  rbgvctl list\n"
    "  rbgvctl list --environment prod --json\n"
    "  rbgvctl list --name 'billing-*' --sort last-used\n",
    rbgvctl_list_options,
    sizeof(rbgvctl_list_conf_t),
    rbgvctl_list
};


static int
rbgvctl_list(rbgvctl_t *ctl, void *data, const char *arg)
{
    int             rc;
    rbgvctl_list_t  list;

    (void) arg;

    memset(&list, 0, sizeof(rbgvctl_list_t));
    list.conf = data;

    rc = rbgvctl_list_check(&list);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_store_open(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rbgvctl_pager_start(ctl);

    list.out = rbgvctl_output_create(ctl);
    if (list.out == NULL) {
        return rbgvctl_error(RBGVCTL_REFUSED, "out of memory");
    }

    if (list.sort == rbgvctl_sorts && !list.conf->reverse) {
        rc = rbgvctl_walk(ctl, rbgvctl_list_output, &list);

    } else {
        rc = rbgvctl_list_sorted(ctl, &list);
    }

    if (rc == RBGVCTL_OK) {
        rc = rbgvctl_output_end(list.out);
    }

    rbgvctl_output_free(list.out);

    return rc;
}


static int
rbgvctl_list_check(rbgvctl_list_t *list)
{
    rbgvctl_list_conf_t  *conf = list->conf;

    if (conf->environment != NULL
        && rbgvctl_environment_check("environment", conf->environment)
           != RBGVCTL_OK)
    {
        return RBGVCTL_USAGE;
    }

    if (conf->status != NULL
        && strcmp(conf->status, RBGV_ACTIVE) != 0
        && strcmp(conf->status, RBGV_DISABLED) != 0
        && strcmp(conf->status, RBGV_EXPIRED) != 0)
    {
        return rbgvctl_error(RBGVCTL_USAGE, "--status \"%s\" is none of "
                             "active, disabled and expired", conf->status);
    }

    list->sort = rbgvctl_sorts;

    if (conf->sort == NULL) {
        return RBGVCTL_OK;
    }

    while (list->sort->name != NULL
           && strcmp(list->sort->name, conf->sort) != 0)
    {
        list->sort++;
    }

    if (list->sort->name == NULL) {
        return rbgvctl_error(RBGVCTL_USAGE, "--sort \"%s\" is none of "
                             "created, name, owner, last-used and requests",
                             conf->sort);
    }

    return RBGVCTL_OK;
}


static int
rbgvctl_list_output(rbgvctl_t *ctl, void *data, rbgv_record_t *keys, size_t n)
{
    rbgvctl_list_t  *list = data;

    int            rc;
    size_t         i, m;
    rbgv_record_t  matching[RBGVCTL_BATCH];

    for (i = 0, m = 0; i < n; i++) {
        if (rbgvctl_list_matches(ctl, list->conf, &keys[i])) {
            matching[m++] = keys[i];
        }
    }

    rc = rbgvctl_keys_counters(ctl, matching, m);

    for (i = 0; rc == RBGVCTL_OK && i < m; i++) {
        rc = rbgvctl_output_key(list->out, &matching[i]);
    }

    return rc;
}


static int
rbgvctl_list_matches(rbgvctl_t *ctl, const rbgvctl_list_conf_t *conf,
    const rbgv_record_t *key)
{
    const redisReply  *name;

    if (!rbgvctl_list_is(key, RBGV_FIELD_ENVIRONMENT, conf->environment)
        || !rbgvctl_list_is(key, RBGV_FIELD_OWNER, conf->owner))
    {
        return 0;
    }

    if (conf->status != NULL
        && strcmp(rbgv_record_status(key, ctl->now), conf->status) != 0)
    {
        return 0;
    }

    if (conf->name == NULL) {
        return 1;
    }

    name = rbgv_record_field(key, RBGV_FIELD_NAME);

    return name != NULL && fnmatch(conf->name, name->str, 0) == 0;
}


/* whatever the field is if no value is wanted */

static int
rbgvctl_list_is(const rbgv_record_t *key, const char *field,
    const char *value)
{
    const redisReply  *text;

    if (value == NULL) {
        return 1;
    }

    text = rbgv_record_field(key, field);

    return text != NULL && strcmp(text->str, value) == 0;
}


/* what is kept of all keys is what they are sorted by, and their ids */

static int
rbgvctl_list_sorted(rbgvctl_t *ctl, rbgvctl_list_t *list)
{
    int     rc;
    size_t  i;

    rc = rbgvctl_walk(ctl, rbgvctl_list_collect, list);

    if (rc == RBGVCTL_OK && list->nranks != 0) {
        qsort(list->ranks, list->nranks, sizeof(rbgvctl_rank_t),
              rbgvctl_rank_compare);

        rc = rbgvctl_list_ranked(ctl, list);
    }

    for (i = 0; i < list->nranks; i++) {
        free(list->ranks[i].text);
    }

    free(list->ranks);

    return rc;
}


static int
rbgvctl_list_collect(rbgvctl_t *ctl, void *data, rbgv_record_t *keys,
    size_t n)
{
    rbgvctl_list_t  *list = data;

    int              rc;
    size_t           i;
    rbgvctl_rank_t  *rank;

    if (list->sort->counters) {
        rc = rbgvctl_keys_counters(ctl, keys, n);
        if (rc != RBGVCTL_OK) {
            return rc;
        }
    }

    for (i = 0; i < n; i++) {
        if (!rbgvctl_list_matches(ctl, list->conf, &keys[i])) {
            continue;
        }

        rank = rbgvctl_list_rank(list);

        if (rank == NULL || list->sort->rank(rank, &keys[i]) == -1) {
            return rbgvctl_error(RBGVCTL_REFUSED, "out of memory");
        }

        strcpy(rank->id, keys[i].id);
    }

    return RBGVCTL_OK;
}


static rbgvctl_rank_t *
rbgvctl_list_rank(rbgvctl_list_t *list)
{
    size_t           n;
    rbgvctl_rank_t  *rank;

    if (list->nranks == list->nalloc) {
        n = list->nalloc ? 2 * list->nalloc : 1024;

        rank = realloc(list->ranks, n * sizeof(rbgvctl_rank_t));
        if (rank == NULL) {
            return NULL;
        }

        list->ranks = rank;
        list->nalloc = n;
    }

    rank = &list->ranks[list->nranks];

    memset(rank, 0, sizeof(rbgvctl_rank_t));
    rank->seq = list->nranks++;

    return rank;
}


static int
rbgvctl_list_ranked(rbgvctl_t *ctl, rbgvctl_list_t *list)
{
    int          rc;
    size_t       i, n;
    const char  *ids[RBGVCTL_BATCH];

    rc = RBGVCTL_OK;

    for (i = 0; rc == RBGVCTL_OK && i < list->nranks; i += n) {

        for (n = 0; n < RBGVCTL_BATCH && i + n < list->nranks; n++) {
            ids[n] = list->conf->reverse
                     ? list->ranks[list->nranks - 1 - i - n].id
                     : list->ranks[i + n].id;
        }

        rc = rbgvctl_walk_ids(ctl, ids, n, rbgvctl_list_output, list);
    }

    return rc;
}


static int
rbgvctl_rank_compare(const void *one, const void *two)
{
    const rbgvctl_rank_t  *a = one;
    const rbgvctl_rank_t  *b = two;

    int  rc;

    rc = a->text ? strcmp(a->text, b->text)
                 : (a->number > b->number) - (a->number < b->number);

    return rc ? rc : (a->seq > b->seq) - (a->seq < b->seq);
}


static int
rbgvctl_rank_name(rbgvctl_rank_t *rank, const rbgv_record_t *key)
{
    return rbgvctl_rank_text(rank, key, RBGV_FIELD_NAME);
}


static int
rbgvctl_rank_owner(rbgvctl_rank_t *rank, const rbgv_record_t *key)
{
    return rbgvctl_rank_text(rank, key, RBGV_FIELD_OWNER);
}


static int
rbgvctl_rank_text(rbgvctl_rank_t *rank, const rbgv_record_t *key,
    const char *field)
{
    const redisReply  *value;

    value = rbgv_record_field(key, field);

    rank->text = strdup(value ? value->str : "");

    return rank->text ? 0 : -1;
}


static int
rbgvctl_rank_created(rbgvctl_rank_t *rank, const rbgv_record_t *key)
{
    rank->number = rbgv_record_number(key, RBGV_FIELD_CREATED);

    return 0;
}


static int
rbgvctl_rank_last_used(rbgvctl_rank_t *rank, const rbgv_record_t *key)
{
    rank->number = key->last_used;

    return 0;
}


static int
rbgvctl_rank_requests(rbgvctl_rank_t *rank, const rbgv_record_t *key)
{
    rank->number = key->requests_7d;

    return 0;
}
