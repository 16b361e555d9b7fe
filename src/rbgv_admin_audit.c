
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * The audit stream: who has changed what, when, and from where.
 */


#include <stdlib.h>
#include <string.h>

#include "rbgv_admin.h"


static void rbgv_audit_field(rbgv_admin_t *op, const char *field,
    const char *value);
static void rbgv_audit_read(rbgv_admin_t *op, redisReply **replies);
static json_t *rbgv_audit_entry(const redisReply *entry);
static json_t *rbgv_audit_text(const redisReply *fields, const char *name);


void
rbgv_admin_audit_command(rbgv_admin_t *op, const char *action)
{
    rbgv_admin_command(op, "XADD");
    rbgv_admin_arg(op, "%s" RBGV_AUDIT, op->prefix);
    rbgv_admin_arg(op, "MAXLEN");
    rbgv_admin_arg(op, "~");
    rbgv_admin_arg(op, RBGV_AUDIT_KEPT);
    rbgv_admin_arg(op, "*");

    rbgv_audit_field(op, RBGV_AUDIT_ACTION, action);
    rbgv_audit_field(op, RBGV_AUDIT_KEY, op->id);
    rbgv_audit_field(op, RBGV_AUDIT_NAME, op->key_name);
    rbgv_audit_field(op, RBGV_AUDIT_BY, op->by);
    rbgv_audit_field(op, RBGV_AUDIT_SOURCE, op->source);
    rbgv_audit_field(op, RBGV_AUDIT_REQUEST, op->request_id);
}


static void
rbgv_audit_field(rbgv_admin_t *op, const char *field, const char *value)
{
    if (value != NULL && value[0] != '\0') {
        rbgv_admin_arg(op, "%s", field);
        rbgv_admin_arg(op, "%s", value);
    }
}


void
rbgv_admin_audit(rbgv_admin_t *op)
{
    op->next = rbgv_audit_read;

    rbgv_admin_command(op, "XREVRANGE");
    rbgv_admin_arg(op, "%s" RBGV_AUDIT, op->prefix);
    rbgv_admin_arg(op, "+");
    rbgv_admin_arg(op, "-");
    rbgv_admin_arg(op, "COUNT");
    rbgv_admin_arg(op, "%zu", op->limit);
}


static void
rbgv_audit_read(rbgv_admin_t *op, redisReply **replies)
{
    size_t   i;
    json_t  *items;

    if (replies[0]->type != REDIS_REPLY_ARRAY) {
        rbgv_admin_fail(op, RBGV_ADMIN_FOREIGN);
        return;
    }

    items = json_array();

    for (i = 0; i < replies[0]->elements; i++) {
        if (json_array_append_new(items,
                                  rbgv_audit_entry(replies[0]->element[i]))
            == -1)
        {
            json_decref(items);
            rbgv_admin_fail(op, RBGV_ADMIN_FOREIGN);
            return;
        }
    }

    op->json = json_pack("{s:o}", "items", items);

    if (op->json == NULL) {
        rbgv_admin_fail(op, RBGV_ADMIN_MEMORY);
    }
}


/* [ "<milliseconds>-<number>", [ field, value ... ] ] */

static json_t *
rbgv_audit_entry(const redisReply *entry)
{
    const redisReply  *id, *fields;

    if (entry->type != REDIS_REPLY_ARRAY || entry->elements != 2) {
        return NULL;
    }

    id = entry->element[0];
    fields = entry->element[1];

    if (id->type != REDIS_REPLY_STRING || fields->type != REDIS_REPLY_ARRAY
        || !rbgv_reply_strings(fields))
    {
        return NULL;
    }

    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
                     "at", rbgv_json_time(strtoll(id->str, NULL, 10) / 1000),
                     "action", rbgv_audit_text(fields, RBGV_AUDIT_ACTION),
                     "key_fingerprint",
                     rbgv_audit_text(fields, RBGV_AUDIT_KEY),
                     "client_id", rbgv_audit_text(fields, RBGV_AUDIT_NAME),
                     "by", rbgv_audit_text(fields, RBGV_AUDIT_BY),
                     "source", rbgv_audit_text(fields, RBGV_AUDIT_SOURCE),
                     "request_id",
                     rbgv_audit_text(fields, RBGV_AUDIT_REQUEST));
}


static json_t *
rbgv_audit_text(const redisReply *fields, const char *name)
{
    const redisReply  *text;

    text = rbgv_reply_field(fields, name);

    return text ? rbgv_json_text(text->str) : json_null();
}
