
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: changes of a hash, all at once or not at all.
 */


#include <stdio.h>
#include <string.h>

#include "rbgvctl.h"


/* EVAL, script, 2, two names, what to change */
#define RBGVCTL_CHANGE_ARGS                                                   \
    (9 + 3 * RBGVCTL_CHANGE_FIELDS)


/*
 * KEYS: a hash; the counters of the key, if it is one of a key
 * ARGV: 1 if the hash may be new; credits, "", "5", "+5" or "-5"; n, and then
 *       n times field and value; fields to drop
 *
 * Returns what has happened, a rbgvctl_change_e, and two numbers about it.
 */

static const char  rbgvctl_change_script[] =
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

    "if limits > " RBGVCTL_TEXT(RBGV_LIMITS_MAX) " then "
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
rbgvctl_change_field(rbgvctl_change_t *change, const char *field,
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
rbgvctl_change_limits(rbgvctl_change_t *change,
    const rbgvctl_limits_t *limits)
{
    size_t  i;

    for (i = 0; i < limits->nelts; i++) {
        rbgvctl_change_field(change, limits->elts[i].field,
                             limits->elts[i].quota);
    }
}


int
rbgvctl_change(rbgvctl_t *ctl, const rbgvctl_change_t *change,
    rbgvctl_change_e *what, int64_t numbers[2])
{
    char         count[32];
    size_t       n;
    redisReply  *reply;
    const char  *args[RBGVCTL_CHANGE_ARGS];

    (void) snprintf(count, sizeof(count), "%zu", change->nsets / 2);

    n = 0;

    args[n++] = "EVAL";
    args[n++] = rbgvctl_change_script;
    args[n++] = change->use ? "2" : "1";
    args[n++] = change->hash;

    if (change->use != NULL) {
        args[n++] = change->use;
    }

    args[n++] = change->use ? "0" : "1";
    args[n++] = change->credits ? change->credits : "";
    args[n++] = count;

    memcpy(&args[n], change->sets, change->nsets * sizeof(char *));
    n += change->nsets;

    memcpy(&args[n], change->drops, change->ndrops * sizeof(char *));
    n += change->ndrops;

    reply = rbgvctl_store_integers(ctl, 3, n, args);
    if (reply == NULL) {
        return RBGVCTL_STORE;
    }

    *what = reply->element[0]->integer;
    numbers[0] = reply->element[1]->integer;
    numbers[1] = reply->element[2]->integer;

    freeReplyObject(reply);

    return RBGVCTL_OK;
}
