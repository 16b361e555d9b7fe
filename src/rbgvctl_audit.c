
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: audit.
 */


#include <libsmartcols/libsmartcols.h>

#include "rbgvctl.h"


#define RBGVCTL_AUDIT_LIMIT  100       /* if not given */


typedef struct {
    const char  *limit;
} rbgvctl_audit_conf_t;


static int rbgvctl_audit_show(rbgvctl_t *ctl, void *data, const char *arg);
static int rbgvctl_audit_print(const rbgvctl_t *ctl, const json_t *items);
static void rbgvctl_audit_row(struct libscols_table *table,
    const json_t *item);


static const char *const  rbgvctl_audit_columns[] = {
    "AT", "ACTION", "ID", "NAME", "BY", "SOURCE", NULL
};


/* as they are in JSON */

static const char *const  rbgvctl_audit_fields[] = {
    "at", "action", "key_fingerprint", "client_id", "by", "source", NULL
};


static const rbgvctl_option_t  rbgvctl_audit_options[] = {

    { "limit", "NUMBER",
      rbgvctl_set_string,
      offsetof(rbgvctl_audit_conf_t, limit),
      "of the newest changes, 100 if not given, up to 1000" },

    { NULL, NULL, NULL, 0, NULL }
};


const rbgvctl_command_t  rbgvctl_audit_command = {
    "audit", NULL,
    "Show who has changed what, the newest change first",
    "Examples:\n"
    "  rbgvctl audit\n"
    "  rbgvctl audit --limit 1000 --json\n",
    rbgvctl_audit_options,
    sizeof(rbgvctl_audit_conf_t),
    rbgvctl_audit_show
};


static int
rbgvctl_audit_show(rbgvctl_t *ctl, void *data, const char *arg)
{
    rbgvctl_audit_conf_t  *conf = data;

    int            rc;
    int64_t        limit;
    json_t        *items;
    rbgv_admin_t   op;

    (void) arg;

    limit = RBGVCTL_AUDIT_LIMIT;

    rc = rbgvctl_number("limit", conf->limit, 1, RBGV_AUDIT_MAX, &limit);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rc = rbgvctl_store_open(ctl);
    if (rc != RBGVCTL_OK) {
        return rc;
    }

    rbgvctl_op_init(ctl, &op, NULL);

    op.limit = limit;

    rbgv_admin_audit(&op);

    rc = rbgvctl_op_run(ctl, &op);

    if (rc == RBGVCTL_OK) {
        items = json_object_get(op.json, "items");

        rc = ctl->json ? rbgvctl_print_json(json_incref(items))
                       : rbgvctl_audit_print(ctl, items);
    }

    rbgv_admin_free(&op);

    return rc;
}


static int
rbgvctl_audit_print(const rbgvctl_t *ctl, const json_t *items)
{
    int                     rc;
    size_t                  i;
    struct libscols_table  *table;

    if (json_array_size(items) == 0) {
        rbgvctl_note("no changes");
        return RBGVCTL_OK;
    }

    table = rbgvctl_table(rbgvctl_audit_columns);
    if (table == NULL) {
        return rbgvctl_error(RBGVCTL_REFUSED, "out of memory");
    }

    for (i = 0; i < json_array_size(items); i++) {
        rbgvctl_audit_row(table, json_array_get(items, i));
    }

    rbgvctl_pager_start(ctl);

    rc = rbgvctl_table_print(table);

    scols_unref_table(table);

    return rc;
}


static void
rbgvctl_audit_row(struct libscols_table *table, const json_t *item)
{
    size_t                 i;
    const char            *text;
    struct libscols_line  *line;

    line = scols_table_new_line(table, NULL);
    if (line == NULL) {
        return;
    }

    for (i = 0; rbgvctl_audit_fields[i] != NULL; i++) {
        text = json_string_value(json_object_get(item,
                                                 rbgvctl_audit_fields[i]));

        (void) scols_line_set_data(line, i, text ? text : "-");
    }
}
