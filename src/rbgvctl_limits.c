
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: limits as arguments.
 */


#include <stdio.h>
#include <string.h>

#include "rbgvctl.h"


static const char *rbgvctl_limits_value(rbgv_limits_t *limits,
    const char *text, int none);


int
rbgvctl_limits_parse(const rbgvctl_values_t *values, int none,
    rbgv_limits_t *limits)
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
rbgvctl_limits_value(rbgv_limits_t *limits, const char *text, int none)
{
    size_t       len;
    const char  *quota;

    len = strcspn(text, "=");

    if (text[len] == '\0' || text[len + 1] == '\0') {
        return "it is not of the form POLICY=LIMIT, as in "
               "\"default=600r/1m\"";
    }

    quota = text + len + 1;

    if (none && rbgv_none(quota)) {
        quota = "";
    }

    return rbgv_limits_add(limits, text, len, quota);
}
