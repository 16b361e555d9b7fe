
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: limits of keys and environments.
 */


#include <stdio.h>
#include <string.h>

#include "rbgvctl.h"


static const char *rbgvctl_limits_value(rbgvctl_limits_t *limits,
    const char *text, int none);


int
rbgvctl_limits_parse(const rbgvctl_values_t *values, int none,
    rbgvctl_limits_t *limits)
{
    size_t       i;
    const char  *err;

    for (i = 0; i < values->nelts; i++) {
        err = rbgvctl_limits_value(limits, values->elts[i], none);

        if (err != NULL) {
            return rbgvctl_error(RBGVCTL_USAGE, "--limit \"%s\": %s",
                                 values->elts[i], err);
        }
    }

    return RBGVCTL_OK;
}


static const char *
rbgvctl_limits_value(rbgvctl_limits_t *limits, const char *text, int none)
{
    size_t       len;
    const char  *quota;

    len = strcspn(text, "=");

    if (text[len] == '\0' || text[len + 1] == '\0') {
        return "it is not of the form POLICY=LIMIT, as in "
               "\"default=600r/1m\"";
    }

    quota = text + len + 1;

    if (none && rbgvctl_none(quota)) {
        quota = "";
    }

    return rbgvctl_limits_add(limits, text, len, quota);
}


const char *
rbgvctl_limits_add(rbgvctl_limits_t *limits, const char *policy, size_t len,
    const char *quota)
{
    size_t            i;
    const char       *err;
    rbgv_limit_t      parsed;
    rbgvctl_limit_t  *limit;

    if (!rbgv_limit_name_valid(policy, len)) {
        return "it is not of the form POLICY=LIMIT, as in "
               "\"default=600r/1m\"";
    }

    err = rbgv_limit_parse(quota, strlen(quota), &parsed);

    if (err != NULL && quota[0] != '\0') {
        return err;
    }

    if (limits->nelts == RBGV_LIMITS_MAX) {
        return "there are 8 limits already";
    }

    limit = &limits->elts[limits->nelts];

    if (snprintf(limit->quota, RBGVCTL_QUOTA_SIZE, "%s", quota)
        >= RBGVCTL_QUOTA_SIZE)
    {
        return "it is too long";
    }

    (void) snprintf(limit->field, RBGVCTL_LIMIT_SIZE, RBGV_FIELD_LIMIT
                    "%.*s", (int) len, policy);

    for (i = 0; i < limits->nelts; i++) {
        if (strcmp(limits->elts[i].field, limit->field) == 0) {
            return "there is a limit of this policy already";
        }
    }

    limits->nelts++;

    return NULL;
}


json_t *
rbgvctl_limits_json(const rbgvctl_limits_t *limits)
{
    size_t                  i;
    json_t                 *object;
    const rbgvctl_limit_t  *limit;

    object = json_object();

    for (i = 0; i < limits->nelts; i++) {
        limit = &limits->elts[i];

        (void) json_object_set_new(object, limit->field
                                           + sizeof(RBGV_FIELD_LIMIT) - 1,
                                   json_string(limit->quota));
    }

    return object;
}


int
rbgvctl_none(const char *text)
{
    return strcmp(text, "none") == 0 || strcmp(text, "off") == 0;
}
