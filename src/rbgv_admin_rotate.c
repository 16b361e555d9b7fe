
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Rotations: another secret for a key, and the end of the old one.
 */


#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "rbgv_admin.h"


static void rbgv_rotate_begin(rbgv_admin_t *op, redisReply **replies);
static void rbgv_rotate_begun(rbgv_admin_t *op, redisReply **replies);
static json_t *rbgv_rotate_json(const rbgv_admin_t *op, int64_t began);

static void rbgv_rotation_seen(rbgv_admin_t *op, redisReply **replies);
static void rbgv_rotation_done(rbgv_admin_t *op, redisReply **replies);


/*
 * KEYS: the hash of a key; ARGV: field of the new secret, grace or ""
 *
 * Returns 0: no such key; 1, and when the rotation began; 2, and when one
 * began that is under way; 3, and how many secrets there are.
 *
 * A rotation begins later than each secret before it was made: that tells the
 * old ones from the new one.
 */

static const char  rbgv_rotate_begin_script[] =
    "local all = redis.call('HGETALL', KEYS[1]) "
    "local began, n = tonumber(redis.call('TIME')[1]), 0 "

    "if #all == 0 then return { 0, 0 } end "

    "for i = 1, #all, 2 do "
        "if all[i] == 'rotation' then "
            "return { 2, tonumber(all[i + 1]) or 0 } "
        "end "

        "if all[i]:sub(1, 7) == 'secret:' then "
            "local created = all[i + 1]:match('^%a+ (%d+)') or 0 "
            "n, began = n + 1, math.max(began, created + 1) "
        "end "
    "end "

    "if n >= " RBGV_TEXT(RBGV_SECRETS_MAX) " then "
        "return { 3, n } "
    "end "

    "redis.call('HSET', KEYS[1], 'rotation', began, "
               "ARGV[1], 'active ' .. began .. ' 0') "

    "if ARGV[2] ~= '' then "
        "redis.call('HSET', KEYS[1], 'grace', ARGV[2]) "
    "end "

    "return { 1, began }";


/*
 * KEYS: the hash of a key, and that of its counters
 * ARGV: 0 to look, 1 to try, 2 to force; 1 to end the new secret, 0 to end the
 *       old ones; the beginning of the rotation that is meant, or 0 for any
 *
 * Returns the numbers of a rbgv_rotation_t.
 */

static const char  rbgv_rotate_end_script[] =
    "local all, has = redis.call('HGETALL', KEYS[1]), {} "
    "local now = tonumber(redis.call('TIME')[1]) "

    "if #all == 0 then return { 0, 0, 0, 0, now, 0, 0 } end "

    "for i = 1, #all, 2 do has[all[i]] = all[i + 1] end "

    "local began = tonumber(has.rotation) "

    "if not began or ARGV[3] ~= '0' and tonumber(ARGV[3]) ~= began then "
        "return { 2, tonumber(has.rotated) or 0, 0, 0, now, 0, 0 } "
    "end "

    "local gone, counters, last, other, kept = {}, {}, 0, 0, 0 "

    "for field, value in pairs(has) do "
        "if field:sub(1, 7) == 'secret:' then "
            "local created = value:match('^%a+ (%d+)') or 0 "
            "local digest = field:sub(8, 23) "
            "local use = redis.call('HGET', KEYS[2], 't:' .. digest) or 0 "

            "if (tonumber(created) >= began) == (ARGV[2] == '1') then "
                "gone[#gone + 1] = field "
                "counters[#counters + 1] = 's:' .. digest "
                "counters[#counters + 1] = 't:' .. digest "
                "last = math.max(last, tonumber(use) or 0) "
            "else "
                "kept, other = kept + 1, math.max(other, tonumber(use) or 0) "
            "end "
        "end "
    "end "

    "local from = ARGV[2] == '1' and 0 or began "
    "local grace = tonumber(has.grace) or " RBGV_TEXT(RBGV_GRACE) " "
    "local till = math.max(from, last) "

    "if till > 0 then till = till + grace end "

    "local state = now < till and 4 or 5 "

    "if kept == 0 then "
        "state = 3 "

    "elseif ARGV[1] == '2' or ARGV[1] == '1' and state == 5 then "
        "state = 1 "
        "redis.call('HDEL', KEYS[1], 'rotation', 'grace', unpack(gone)) "

        "if ARGV[2] == '0' then "
            "redis.call('HSET', KEYS[1], 'rotated', math.max(now, began)) "
        "end "

        "if #gone > 0 then "
            "redis.call('HDEL', KEYS[2], unpack(counters)) "
        "end "
    "end "

    "return { state, began, last, till, now, #gone, other }";


void
rbgv_admin_rotate(rbgv_admin_t *op)
{
    rbgv_admin_look(op, rbgv_rotate_begin);
}


/* what does not change: the environment, which is a part of the key */

static void
rbgv_rotate_begin(rbgv_admin_t *op, redisReply **replies)
{
    if (!rbgv_admin_seen(op, replies)) {
        return;
    }

    if (op->key_environment[0] == '\0') {
        rbgv_admin_fail(op, op->text[0] ? RBGV_ADMIN_BAD_KEY
                                        : RBGV_ADMIN_NO_KEY);
        return;
    }

    if (rbgv_admin_secret(op, op->key_environment) == -1) {
        rbgv_admin_fail(op, RBGV_ADMIN_CRYPTO);
        return;
    }

    op->next = rbgv_rotate_begun;
    op->changing = 1;

    rbgv_admin_command(op, "EVAL");
    rbgv_admin_arg(op, "%s", rbgv_rotate_begin_script);
    rbgv_admin_arg(op, "1");
    rbgv_admin_hash(op, RBGV_KEY, op->id);
    rbgv_admin_arg(op, "%s", op->secret);

    if (op->grace != NULL) {
        rbgv_admin_arg(op, "%" PRId64,
                       rbgv_duration_parse(op->grace, strlen(op->grace)));

    } else {
        rbgv_admin_arg(op, "%s", "");
    }
}


static void
rbgv_rotate_begun(rbgv_admin_t *op, redisReply **replies)
{
    if (!rbgv_reply_integers(replies[0], 2)) {
        rbgv_admin_fail(op, RBGV_ADMIN_FOREIGN);
        return;
    }

    op->numbers[0] = replies[0]->element[1]->integer;

    switch (replies[0]->element[0]->integer) {

    case 0:
        rbgv_admin_fail(op, RBGV_ADMIN_NO_KEY);
        break;

    case 1:
        op->began = op->numbers[0];
        rbgv_admin_changed(op, "rotate", rbgv_rotate_json(op, op->began));
        break;

    case 2:
        rbgv_admin_fail(op, RBGV_ADMIN_ROTATING);
        break;

    default: /* 3 */
        rbgv_admin_fail(op, RBGV_ADMIN_SECRETS);
    }
}


static json_t *
rbgv_rotate_json(const rbgv_admin_t *op, int64_t began)
{
    return json_pack("{s:s, s:s, s:o, s:s, s:o}",
                     "api_key", op->key,
                     "key_fingerprint", op->id,
                     "client_id",
                     op->key_name[0] ? rbgv_json_text(op->key_name)
                                     : json_null(),
                     "environment", op->key_environment,
                     "rotation_started_at", rbgv_json_time(began));
}


void
rbgv_admin_rotation(rbgv_admin_t *op)
{
    if (op->how != RBGV_ROTATION_LOOK) {
        rbgv_admin_look(op, rbgv_rotation_seen);
        return;
    }

    op->next = rbgv_rotation_done;

    rbgv_rotation_command(op);
}


static void
rbgv_rotation_seen(rbgv_admin_t *op, redisReply **replies)
{
    if (!rbgv_admin_seen(op, replies)) {
        return;
    }

    op->next = rbgv_rotation_done;
    op->changing = 1;

    rbgv_rotation_command(op);
}


void
rbgv_rotation_command(rbgv_admin_t *op)
{
    rbgv_admin_command(op, "EVAL");
    rbgv_admin_arg(op, "%s", rbgv_rotate_end_script);
    rbgv_admin_arg(op, "2");
    rbgv_admin_hash(op, RBGV_KEY, op->id);
    rbgv_admin_hash(op, RBGV_USE, op->id);
    rbgv_admin_arg(op, "%d", op->how);
    rbgv_admin_arg(op, "%d", op->cancel ? 1 : 0);
    rbgv_admin_arg(op, "%" PRId64, op->began);
}


static void
rbgv_rotation_done(rbgv_admin_t *op, redisReply **replies)
{
    const rbgv_rotation_t  *rotation;

    if (rbgv_rotation_read(&op->rotation, replies[0]) == -1) {
        rbgv_admin_fail(op, RBGV_ADMIN_FOREIGN);
        return;
    }

    rotation = &op->rotation;

    if (rotation->state == RBGV_ROTATION_DONE) {
        rbgv_admin_changed(op, op->cancel ? "cancel" : "finish",
                           json_pack("{s:s, s:o, s:I}",
                                     "key_fingerprint", op->id,
                                     "rotated_at",
                                     rbgv_json_time(op->cancel
                                                    ? 0 : rotation->now),
                                     "secrets_ended",
                                     (json_int_t) rotation->count));
        return;
    }

    if (rotation->state == RBGV_ROTATION_NO_KEY) {
        rbgv_admin_fail(op, RBGV_ADMIN_NO_KEY);
        return;
    }

    if (op->how != RBGV_ROTATION_LOOK
        || rotation->state == RBGV_ROTATION_NONE
        || rotation->state == RBGV_ROTATION_ALONE)
    {
        rbgv_admin_fail(op, RBGV_ADMIN_ROTATION);
    }
}


int
rbgv_rotation_read(rbgv_rotation_t *rotation, const redisReply *reply)
{
    redisReply  **numbers;

    if (!rbgv_reply_integers(reply, 7)) {
        return -1;
    }

    numbers = reply->element;

    rotation->state = numbers[0]->integer;
    rotation->began = numbers[1]->integer;
    rotation->last = numbers[2]->integer;
    rotation->until = numbers[3]->integer;
    rotation->now = numbers[4]->integer;
    rotation->count = numbers[5]->integer;
    rotation->other = numbers[6]->integer;

    return 0;
}
