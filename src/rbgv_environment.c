
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Environments: what new keys of them get, and how often they are rotated.
 */


#include <stdlib.h>
#include <string.h>

#include "rbgv_admin.h"


static void rbgv_environments_assume(rbgv_environments_t *environments);
static int rbgv_environments_compare(const void *one, const void *two);


const rbgv_environment_first_t
    rbgv_environments_first[RBGV_ENVIRONMENTS_FIRST] =
{
    { "dev", 0, "60r/1m" },
    { "prod", 90 * RBGV_DAY, NULL },
    { "staging", 180 * RBGV_DAY, NULL }
};


int
rbgv_environments_names(rbgv_environments_t *environments,
    const redisReply *names)
{
    size_t               i, n;
    rbgv_environment_t  *environment;

    n = names->elements ? names->elements : RBGV_ENVIRONMENTS_FIRST;

    environments->nelts = 0;
    environments->elts = calloc(n, sizeof(rbgv_environment_t));

    if (environments->elts == NULL) {
        return -1;
    }

    if (names->elements == 0) {
        rbgv_environments_assume(environments);
        return 0;
    }

    for (i = 0; i < names->elements; i++) {
        environment = &environments->elts[environments->nelts];

        /* others were not written by rbgvctl */

        if (rbgv_environment_valid(names->element[i]->str,
                                   names->element[i]->len))
        {
            strcpy(environment->name, names->element[i]->str);
            environments->nelts++;
        }
    }

    qsort(environments->elts, environments->nelts,
          sizeof(rbgv_environment_t), rbgv_environments_compare);

    return 0;
}


/* the store is of a time before environments were in it */

static void
rbgv_environments_assume(rbgv_environments_t *environments)
{
    size_t               i;
    const char          *quota;
    rbgv_environment_t  *environment;

    environments->nelts = RBGV_ENVIRONMENTS_FIRST;

    for (i = 0; i < environments->nelts; i++) {
        environment = &environments->elts[i];
        quota = rbgv_environments_first[i].quota;

        strcpy(environment->name, rbgv_environments_first[i].name);
        environment->rotation = rbgv_environments_first[i].rotation;

        if (quota != NULL) {
            (void) rbgv_limits_add(&environment->limits, "default",
                                   sizeof("default") - 1, quota);
        }
    }
}


static int
rbgv_environments_compare(const void *one, const void *two)
{
    const rbgv_environment_t  *first = one;
    const rbgv_environment_t  *second = two;

    return strcmp(first->name, second->name);
}


const char *
rbgv_environment_fields(rbgv_environment_t *environment,
    const redisReply *fields, redisReply ***limit)
{
    size_t       i, len;
    const char  *field, *value, *err;

    len = sizeof(RBGV_FIELD_LIMIT) - 1;

    for (i = 0; i + 1 < fields->elements; i += 2) {
        field = fields->element[i]->str;
        value = fields->element[i + 1]->str;

        if (strcmp(field, RBGV_FIELD_ROTATION) == 0) {
            environment->rotation = strtoll(value, NULL, 10);
        }

        if (strncmp(field, RBGV_FIELD_LIMIT, len) != 0) {
            continue;
        }

        err = value[0] ? rbgv_limits_add(&environment->limits, field + len,
                                         strlen(field + len), value)
                       : "it is empty";

        if (err != NULL) {
            *limit = &fields->element[i];
            return err;
        }
    }

    return NULL;
}


const rbgv_environment_t *
rbgv_environment_find(const rbgv_environments_t *environments,
    const char *name)
{
    size_t  i;

    for (i = 0; i < environments->nelts; i++) {
        if (strcmp(environments->elts[i].name, name) == 0) {
            return &environments->elts[i];
        }
    }

    return NULL;
}


void
rbgv_environments_free(rbgv_environments_t *environments)
{
    free(environments->elts);
}


json_t *
rbgv_json_rotation_window(const rbgv_environment_t *environment)
{
    return environment->rotation ? json_integer(environment->rotation)
                                 : json_null();
}


int64_t
rbgv_rotation_due(const rbgv_environment_t *environment, int64_t newest)
{
    if (environment == NULL || environment->rotation == 0 || newest == 0) {
        return 0;
    }

    return newest + environment->rotation;
}
