
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Limits of keys and environments.
 */


#include <stdio.h>
#include <string.h>

#include "rbgv_admin.h"


const char *
rbgv_limits_add(rbgv_limits_t *limits, const char *policy, size_t len,
    const char *quota)
{
    size_t               i;
    const char          *err;
    rbgv_limit_t         parsed;
    rbgv_limit_field_t  *limit;

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

    if (snprintf(limit->quota, RBGV_QUOTA_SIZE, "%s", quota)
        >= RBGV_QUOTA_SIZE)
    {
        return "it is too long";
    }

    (void) snprintf(limit->field, RBGV_LIMIT_SIZE, RBGV_FIELD_LIMIT
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
rbgv_limits_json(const rbgv_limits_t *limits)
{
    size_t                     i;
    json_t                    *object;
    const rbgv_limit_field_t  *limit;

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
rbgv_none(const char *text)
{
    return strcmp(text, "none") == 0 || strcmp(text, "off") == 0;
}
