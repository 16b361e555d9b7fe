
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Changes of a hash, all at once or not at all.
 */


#include <string.h>

#include "rbgv_admin.h"


/*
 * KEYS: a hash; the counters of the key, if it is one of a key
 * ARGV: 1 if the hash may be new; credits, "", "5", "+5" or "-5"; n, and then
 *       n times field and value; fields to drop
 *
 * Returns what has happened, a rbgv_change_e, and two numbers about it.
 */

static const char  rbgv_change_script[] =
    "local key, first = KEYS[1], 4 + 2 * ARGV[3] "
    "local old, has, limits = redis.call('HGETALL', key), {}, 0 "

    "if #old == 0 and ARGV[1] ~= '1' then return { 0, 0, 0 } end "

    "for i = 1, #old, 2 do has[old[i]] = old[i + 1] end "

    "local granted = tonumber(has.credits) or 0 "

    "for i = 4, first - 1, 2 do has[ARGV[i]] = ARGV[i + 1] end "
    "for i = first, #ARGV do has[ARGV[i]] = nil end "

    "for field in pairs(has) do "
        "if field:sub(1, 6) == 'limit:' then limits = limits + 1 end "
    "end "

    "if limits > " RBGV_TEXT(RBGV_LIMITS_MAX) " then "
        "return { 4, limits, 0 } "
    "end "

    "if ARGV[2] ~= '' then "
        "local sign, credits = ARGV[2]:match('^[+-]'), tonumber(ARGV[2]) "
        "local spent = redis.call('HGET', KEYS[2], 'credits') or 0 "

        "spent = tonumber(spent) or 0 "
        "if sign then credits = granted + credits end "

        "if credits > 9007199254740991 then return { 3, granted, spent } end "

        "if credits < spent and sign ~= '+' or credits < 0 then "
            "return { 2, granted, spent } "
        "end "

        "redis.call('HSET', key, 'credits', ('%.0f'):format(credits)) "
    "end "

    "if first > 4 then "
        "redis.call('HSET', key, unpack(ARGV, 4, first - 1)) "
    "end "

    "if #ARGV >= first then "
        "redis.call('HDEL', key, unpack(ARGV, first)) "
    "end "

    "return { 1, 0, 0 }";


void
rbgv_change_field(rbgv_change_t *change, const char *field,
    const char *value)
{
    if (value == NULL) {
        return;
    }

    if (value[0] == '\0') {
        change->drops[change->ndrops++] = field;
        return;
    }

    change->sets[change->nsets++] = field;
    change->sets[change->nsets++] = value;
}


void
rbgv_change_limits(rbgv_change_t *change,
    const rbgv_limits_t *limits)
{
    size_t  i;

    for (i = 0; i < limits->nelts; i++) {
        rbgv_change_field(change, limits->elts[i].field,
                          limits->elts[i].quota);
    }
}


void
rbgv_change_command(rbgv_admin_t *op, const rbgv_change_t *change)
{
    size_t  i;

    rbgv_admin_command(op, "EVAL");
    rbgv_admin_arg(op, "%s", rbgv_change_script);
    rbgv_admin_arg(op, "%d", change->use ? 2 : 1);
    rbgv_admin_arg(op, "%s", change->hash);

    if (change->use != NULL) {
        rbgv_admin_arg(op, "%s", change->use);
    }

    rbgv_admin_arg(op, "%d", change->use ? 0 : 1);
    rbgv_admin_arg(op, "%s", change->credits ? change->credits : "");
    rbgv_admin_arg(op, "%zu", change->nsets / 2);

    for (i = 0; i < change->nsets; i++) {
        rbgv_admin_arg(op, "%s", change->sets[i]);
    }

    for (i = 0; i < change->ndrops; i++) {
        rbgv_admin_arg(op, "%s", change->drops[i]);
    }
}
