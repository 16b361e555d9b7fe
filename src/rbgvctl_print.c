
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: tables for people, JSON for programs.
 */


#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wchar.h>
#include <wctype.h>

#include <libsmartcols/libsmartcols.h>

#include "rbgvctl.h"


#define RBGV_LIMIT_LEN   (sizeof(RBGV_FIELD_LIMIT) - 1)


/* rows that are printed at once */
#define RBGVCTL_ROWS        1000

#define RBGVCTL_COLUMNS     8


struct rbgvctl_output_s {
    rbgvctl_t              *ctl;
    struct libscols_table  *table;     /* NULL: JSON, or no row */
    size_t                  nkeys;
    size_t                  widths[RBGVCTL_COLUMNS];
};


static struct libscols_table *rbgvctl_output_table(rbgvctl_output_t *out);
static int rbgvctl_output_rows(rbgvctl_output_t *out);
static int rbgvctl_table_key(rbgvctl_output_t *out,
    const rbgv_record_t *key);
static void rbgvctl_row_number(struct libscols_table *table,
    const char *name, int64_t n);
static void rbgvctl_rows(struct libscols_table *table, rbgvctl_t *ctl,
    const rbgv_record_t *key);
static void rbgvctl_rows_limits(struct libscols_table *table,
    const rbgv_record_t *key);
static void rbgvctl_rows_secrets(struct libscols_table *table,
    const rbgv_record_t *key);
static const char *rbgvctl_color(const char *status);


enum {
    RBGVCTL_COLUMN_ID = 0,
    RBGVCTL_COLUMN_NAME,
    RBGVCTL_COLUMN_ENVIRONMENT,
    RBGVCTL_COLUMN_OWNER,
    RBGVCTL_COLUMN_STATUS,
    RBGVCTL_COLUMN_CREATED,
    RBGVCTL_COLUMN_LAST_USED,
    RBGVCTL_COLUMN_TODAY
};


static const char *const  rbgvctl_list_columns[RBGVCTL_COLUMNS + 1] = {
    "ID", "NAME", "ENV", "OWNER", "STATUS", "CREATED", "LAST USED", "TODAY",
    NULL
};


static const char *const  rbgvctl_show_columns[] = {
    "FIELD", "VALUE", NULL
};


static const struct {
    char     name;
    int64_t  seconds;
} rbgvctl_units[] = {
    { 'd', RBGV_DAY }, { 'h', 60 * 60 }, { 'm', 60 }, { 's', 1 }
};


rbgvctl_output_t *
rbgvctl_output_create(rbgvctl_t *ctl)
{
    rbgvctl_output_t  *out;

    out = calloc(1, sizeof(rbgvctl_output_t));
    if (out == NULL) {
        return NULL;
    }

    out->ctl = ctl;

    return out;
}


int
rbgvctl_output_key(rbgvctl_output_t *out, const rbgv_record_t *key)
{
    int      rc;
    json_t  *object;

    if (!out->ctl->json) {
        rc = rbgvctl_table_key(out, key);

    } else {
        object = rbgv_json_record(key, out->ctl->now);

        (void) fputs(out->nkeys ? ",\n" : "[\n", stdout);

        rc = object ? json_dumpf(object, stdout, 0) : -1;

        json_decref(object);
    }

    out->nkeys++;

    if (rc != 0) {
        return rbgvctl_error(RBGVCTL_REFUSED, "cannot print key %s", key->id);
    }

    if (out->table != NULL && out->nkeys % RBGVCTL_ROWS == 0) {
        return rbgvctl_output_rows(out);
    }

    return RBGVCTL_OK;
}


int
rbgvctl_output_end(rbgvctl_output_t *out)
{
    if (out->ctl->json) {
        (void) fputs(out->nkeys ? "\n]\n" : "[]\n", stdout);
        return RBGVCTL_OK;
    }

    if (out->nkeys == 0) {
        rbgvctl_note("no keys");
    }

    return out->table ? rbgvctl_output_rows(out) : RBGVCTL_OK;
}


void
rbgvctl_output_free(rbgvctl_output_t *out)
{
    scols_unref_table(out->table);
    free(out);
}


/*
 * A table of all keys would not fit into memory.  A column is as wide as in
 * the rows before at least; the heading is in the first rows only.
 */

static struct libscols_table *
rbgvctl_output_table(rbgvctl_output_t *out)
{
    size_t                   i;
    const char              *columns[RBGVCTL_COLUMNS + 1];
    struct libscols_table   *table;
    struct libscols_column  *column;

    memcpy(columns, rbgvctl_list_columns, sizeof(columns));

    for (i = 0; i < RBGVCTL_COLUMNS && out->nkeys != 0; i++) {
        columns[i] = "";
    }

    table = rbgvctl_table(columns);
    if (table == NULL) {
        return NULL;
    }

    (void) scols_table_enable_noheadings(table, out->nkeys != 0);

    for (i = 0; i < RBGVCTL_COLUMNS; i++) {
        column = scols_table_get_column(table, i);

        (void) scols_column_set_whint(column, out->widths[i]);

        if (i == RBGVCTL_COLUMN_NAME || i == RBGVCTL_COLUMN_OWNER) {
            (void) scols_column_set_flags(column, SCOLS_FL_TRUNC);

        } else if (i == RBGVCTL_COLUMN_TODAY) {
            (void) scols_column_set_flags(column, SCOLS_FL_RIGHT);
        }
    }

    return table;
}


static int
rbgvctl_output_rows(rbgvctl_output_t *out)
{
    int     rc;
    size_t  i;

    rc = rbgvctl_table_print(out->table);

    for (i = 0; i < RBGVCTL_COLUMNS; i++) {
        out->widths[i] =
            scols_column_get_width(scols_table_get_column(out->table, i));
    }

    scols_unref_table(out->table);
    out->table = NULL;

    if (rc == RBGVCTL_OK && rbgvctl_flush() == -1) {
        rc = RBGVCTL_REFUSED;
    }

    return rc;
}


int
rbgvctl_print_key(rbgvctl_t *ctl, const rbgv_record_t *key)
{
    int                     rc;
    struct libscols_table  *table;

    if (ctl->json) {
        return rbgvctl_print_json(rbgv_json_record(key, ctl->now));
    }

    table = rbgvctl_table(rbgvctl_show_columns);
    if (table == NULL) {
        return rbgvctl_error(RBGVCTL_REFUSED, "out of memory");
    }

    (void) scols_table_enable_noheadings(table, 1);

    rbgvctl_rows(table, ctl, key);
    rbgvctl_rows_limits(table, key);
    rbgvctl_rows_secrets(table, key);

    rc = rbgvctl_table_print(table);

    scols_unref_table(table);

    return rc;
}


struct libscols_table *
rbgvctl_table(const char *const *columns)
{
    struct libscols_table  *table;

    table = scols_new_table();
    if (table == NULL) {
        return NULL;
    }

    (void) scols_table_enable_colors(table, rbgvctl_colors());

    if (rbgvctl_terminal()) {
        (void) scols_table_set_termforce(table, SCOLS_TERMFORCE_ALWAYS);
        (void) scols_table_set_termwidth(table, rbgvctl_width());
    }

    for ( /* void */ ; *columns != NULL; columns++) {
        if (scols_table_new_column(table, *columns, 0, 0) == NULL) {
            scols_unref_table(table);
            return NULL;
        }
    }

    return table;
}


int
rbgvctl_table_print(struct libscols_table *table)
{
    if (scols_print_table(table) != 0) {
        return rbgvctl_error(RBGVCTL_REFUSED, "cannot print the table");
    }

    return RBGVCTL_OK;
}


static int
rbgvctl_table_key(rbgvctl_output_t *out, const rbgv_record_t *key)
{
    int                    rc;
    char                   created[RBGV_TIME_SIZE];
    char                   last[RBGV_TIME_SIZE], today[32];
    const char            *status;
    struct libscols_line  *line;

    if (out->table == NULL) {
        out->table = rbgvctl_output_table(out);

        if (out->table == NULL) {
            return -1;
        }
    }

    line = scols_table_new_line(out->table, NULL);
    if (line == NULL) {
        return -1;
    }

    status = rbgv_record_status(key, out->ctl->now);

    rbgv_time(rbgv_record_number(key, RBGV_FIELD_CREATED), RBGV_DATE,
              created);
    rbgv_time(key->last_used, RBGVCTL_MINUTE, last);

    (void) snprintf(today, sizeof(today), "%" PRId64, key->requests_today);

    rc = scols_line_set_data(line, RBGVCTL_COLUMN_ID, key->id);
    rc |= scols_line_set_data(line, RBGVCTL_COLUMN_NAME,
                              rbgvctl_text(key, RBGV_FIELD_NAME));
    rc |= scols_line_set_data(line, RBGVCTL_COLUMN_ENVIRONMENT,
                              rbgvctl_text(key, RBGV_FIELD_ENVIRONMENT));
    rc |= scols_line_set_data(line, RBGVCTL_COLUMN_OWNER,
                              rbgvctl_text(key, RBGV_FIELD_OWNER));
    rc |= scols_line_set_data(line, RBGVCTL_COLUMN_STATUS, status);
    rc |= scols_line_set_data(line, RBGVCTL_COLUMN_CREATED, created);
    rc |= scols_line_set_data(line, RBGVCTL_COLUMN_LAST_USED, last);
    rc |= scols_line_set_data(line, RBGVCTL_COLUMN_TODAY, today);
    rc |= scols_line_set_color(line, rbgvctl_color(status));

    return rc;
}


static void
rbgvctl_rows(struct libscols_table *table, rbgvctl_t *ctl,
    const rbgv_record_t *key)
{
    int64_t  rotation;
    char     text[RBGV_TIME_SIZE];

    rbgvctl_row(table, "id", key->id);
    rbgvctl_row(table, "name", rbgvctl_text(key, RBGV_FIELD_NAME));
    rbgvctl_row(table, "environment",
                rbgvctl_text(key, RBGV_FIELD_ENVIRONMENT));
    rbgvctl_row(table, "owner", rbgvctl_text(key, RBGV_FIELD_OWNER));
    rbgvctl_row(table, "note", rbgvctl_text(key, RBGV_FIELD_NOTE));
    rbgvctl_row(table, "status", rbgv_record_status(key, ctl->now));

    rbgv_time(rbgv_record_number(key, RBGV_FIELD_CREATED),
              RBGV_RFC3339, text);
    rbgvctl_row(table, "created", text);

    rbgv_time(rbgv_record_number(key, RBGV_FIELD_EXPIRES),
              RBGV_RFC3339, text);
    rbgvctl_row(table, "expires", text);

    rbgv_time(rbgv_record_number(key, RBGV_FIELD_ROTATED),
              RBGV_RFC3339, text);
    rbgvctl_row(table, "rotated", text);

    rotation = rbgv_record_number(key, RBGV_FIELD_ROTATION);

    if (rotation != 0) {
        rbgv_time(rotation, RBGV_RFC3339, text);
        rbgvctl_row(table, "rotation began", text);
    }

    rbgvctl_row(table, "credits", rbgvctl_text(key, RBGV_FIELD_CREDITS));

    rbgv_time(key->last_used, RBGV_RFC3339, text);
    rbgvctl_row(table, "last used", text);

    rbgvctl_row_number(table, "requests today", key->requests_today);
    rbgvctl_row_number(table, "requests in 7 days", key->requests_7d);
}


static void
rbgvctl_rows_limits(struct libscols_table *table, const rbgv_record_t *key)
{
    size_t             i;
    char               name[80];
    const redisReply  *field;

    for (i = 0; i + 1 < key->fields->elements; i += 2) {
        field = key->fields->element[i];

        if (rbgv_is_limit(field)) {
            (void) snprintf(name, sizeof(name), "limit %s",
                            field->str + RBGV_LIMIT_LEN);
            rbgvctl_row(table, name, key->fields->element[i + 1]->str);
        }
    }
}


static void
rbgvctl_rows_secrets(struct libscols_table *table, const rbgv_record_t *key)
{
    size_t          i;
    char            name[80], value[160];
    char            created[RBGV_TIME_SIZE];
    char            expires[RBGV_TIME_SIZE];
    rbgv_secret_t  *secret;

    for (i = 0; i < key->nsecrets; i++) {
        secret = &key->secrets[i];

        rbgv_time(secret->created, RBGV_RFC3339, created);
        rbgv_time(secret->expires, RBGV_RFC3339, expires);

        (void) snprintf(name, sizeof(name), "secret %s", secret->digest);
        (void) snprintf(value, sizeof(value), "%s, created %s, expires %s, "
                        "%" PRId64 " uses", secret->status, created, expires,
                        secret->uses);

        rbgvctl_row(table, name, value);
    }
}


static void
rbgvctl_row_number(struct libscols_table *table, const char *name, int64_t n)
{
    char  text[32];

    (void) snprintf(text, sizeof(text), "%" PRId64, n);

    rbgvctl_row(table, name, text);
}


void
rbgvctl_row(struct libscols_table *table, const char *name, const char *value)
{
    struct libscols_line  *line;

    line = scols_table_new_line(table, NULL);

    if (line != NULL) {
        (void) scols_line_set_data(line, 0, name);
        (void) scols_line_set_data(line, 1, value);
    }
}


static const char *
rbgvctl_color(const char *status)
{
    if (strcmp(status, RBGV_ACTIVE) == 0) {
        return NULL;
    }

    return strcmp(status, RBGV_DISABLED) == 0 ? "red" : "yellow";
}


const char *
rbgvctl_text(const rbgv_record_t *key, const char *name)
{
    const redisReply  *value;

    value = rbgv_record_field(key, name);

    return value ? value->str : "-";
}


void
rbgvctl_duration(int64_t seconds, char text[RBGV_TIME_SIZE])
{
    size_t  i, len;

    strcpy(text, "-");

    for (i = 0, len = 0; seconds > 0 && i < 4; i++) {
        if (seconds >= rbgvctl_units[i].seconds) {
            len += snprintf(text + len, RBGV_TIME_SIZE - len, "%" PRId64
                            "%c", seconds / rbgvctl_units[i].seconds,
                            rbgvctl_units[i].name);
            seconds %= rbgvctl_units[i].seconds;
        }
    }
}


void
rbgvctl_print_text(const char *text)
{
    size_t     len, n;
    wchar_t    wc;
    mbstate_t  state;

    memset(&state, 0, sizeof(mbstate_t));

    for (len = strlen(text); len != 0; text += n, len -= n) {
        n = mbrtowc(&wc, text, len, &state);

        if (n > len) {
            memset(&state, 0, sizeof(mbstate_t));
            n = 1;

        } else if (iswprint(wc)) {
            (void) fwrite(text, n, 1, stdout);
            continue;
        }

        (void) putchar('?');
    }
}


int
rbgvctl_print_json(json_t *object)
{
    int  rc;

    if (object == NULL) {
        return rbgvctl_error(RBGVCTL_REFUSED, "out of memory");
    }

    rc = json_dumpf(object, stdout, JSON_INDENT(2));

    json_decref(object);

    (void) putchar('\n');

    return rc == 0 ? RBGVCTL_OK : RBGVCTL_REFUSED;
}
