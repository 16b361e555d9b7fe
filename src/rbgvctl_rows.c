
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: the rows of a file, CSV (RFC 4180) or JSON lines.  What is in it
 * may be a key, and is never quoted.
 */


#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include <csv.h>
#include <openssl/crypto.h>

#include "rbgvctl.h"


#define RBGVCTL_ROW_SIZE    65536      /* bytes, of a row in the file */

/* a header line with more has one that is unknown or there twice */
#define RBGVCTL_FIELDS_MAX  (RBGVCTL_ROW_COLUMNS + 1)


struct rbgvctl_rows_s {
    FILE               *file;
    const char         *path;
    const char         *format;        /* NULL: the first byte tells */

    size_t              line;          /* that was read last, from 1 */
    size_t              len;
    char                buf[RBGVCTL_ROW_SIZE];
    int                 cut;           /* the line goes on */
    int64_t             bytes;         /* read */
    int64_t             size;          /* of the file; 0: not known */

    struct csv_parser   csv;
    int                 begun;         /* a row is */
    int                 ended;
    size_t              begin;         /* its line */
    size_t              raw;           /* its bytes in the file */
    size_t              nfields;
    size_t              ncolumns;      /* of the header line; 0: not read */
    size_t              columns[RBGVCTL_FIELDS_MAX];
    const char         *fields[RBGVCTL_FIELDS_MAX];

    json_t             *object;        /* values of a row point into it */

    /* fields with a zero behind each, or limits of an object */
    size_t              used;
    char                text[RBGVCTL_ROW_SIZE + 2];
    char                number[32];
    char                fault[80];
};


static const char *rbgvctl_rows_format(const char *path);
static void rbgvctl_rows_detect(rbgvctl_rows_t *rows);
static int rbgvctl_rows_line(rbgvctl_rows_t *rows);
static int rbgvctl_rows_blank(const rbgvctl_rows_t *rows);
static int rbgvctl_rows_column(const char *name);

static int rbgvctl_csv_next(rbgvctl_rows_t *rows, rbgvctl_row_t *row);
static int rbgvctl_csv_feed(rbgvctl_rows_t *rows, rbgvctl_row_t *row);
static int rbgvctl_csv_finish(rbgvctl_rows_t *rows, rbgvctl_row_t *row);
static int rbgvctl_csv_row(rbgvctl_rows_t *rows, rbgvctl_row_t *row);
static int rbgvctl_csv_header(rbgvctl_rows_t *rows);
static int rbgvctl_csv_error(rbgvctl_rows_t *rows, rbgvctl_row_t *row,
    const char *fault);
static void rbgvctl_csv_begin(rbgvctl_rows_t *rows);
static void rbgvctl_csv_init(rbgvctl_rows_t *rows);
static void rbgvctl_csv_field(void *s, size_t len, void *data);
static void rbgvctl_csv_end(int c, void *data);
static int rbgvctl_csv_is_space(unsigned char c);
static int rbgvctl_csv_is_term(unsigned char c);

static int rbgvctl_jsonl_next(rbgvctl_rows_t *rows, rbgvctl_row_t *row);
static const char *rbgvctl_jsonl_row(rbgvctl_rows_t *rows,
    rbgvctl_row_t *row);
static const char *rbgvctl_jsonl_text(rbgvctl_rows_t *rows, int column,
    json_t *value);
static const char *rbgvctl_jsonl_limits(rbgvctl_rows_t *rows,
    json_t *limits);


/* the order is that of rbgvctl_row_column_e */

const char  *rbgvctl_row_columns[] = {
    "client_id",
    "environment",
    "owner",
    "note",
    "api_key",
    "sha256",
    "limits",
    "credits",
    "expires_at"
};


rbgvctl_rows_t *
rbgvctl_rows_open(const char *path, const char *format)
{
    struct stat      st;
    rbgvctl_rows_t  *rows;

    rows = calloc(1, sizeof(rbgvctl_rows_t));
    if (rows == NULL) {
        (void) rbgvctl_error(RBGVCTL_REFUSED, "out of memory");
        return NULL;
    }

    rows->format = format ? format : rbgvctl_rows_format(path);
    rows->file = stdin;
    rows->path = "standard input";

    if (strcmp(path, "-") != 0) {
        rows->file = fopen(path, "re");
        rows->path = path;
    }

    if (rows->file == NULL) {
        (void) rbgvctl_error(RBGVCTL_REFUSED, "cannot open \"%s\": %s", path,
                             strerror(errno));
        free(rows);
        return NULL;
    }

    if (fstat(fileno(rows->file), &st) == 0 && S_ISREG(st.st_mode)) {
        rows->size = st.st_size;
    }

    rbgvctl_csv_init(rows);

    return rows;
}


void
rbgvctl_rows_close(rbgvctl_rows_t *rows)
{
    if (rows->file != stdin) {
        (void) fclose(rows->file);
    }

    json_decref(rows->object);
    csv_free(&rows->csv);

    OPENSSL_cleanse(rows, sizeof(rbgvctl_rows_t));
    free(rows);
}


int64_t
rbgvctl_rows_bytes(const rbgvctl_rows_t *rows, int64_t *size)
{
    *size = rows->size;

    return rows->bytes;
}


int
rbgvctl_rows_next(rbgvctl_rows_t *rows, rbgvctl_row_t *row)
{
    int  rc;

    if (rows->format == NULL) {
        rbgvctl_rows_detect(rows);
    }

    memset(row, 0, sizeof(rbgvctl_row_t));

    rc = strcmp(rows->format, "csv") == 0 ? rbgvctl_csv_next(rows, row)
                                          : rbgvctl_jsonl_next(rows, row);

    if (rc != 1 && ferror(rows->file)) {
        return rbgvctl_error(-1, "cannot read %s: %s", rows->path,
                             strerror(errno));
    }

    return rc;
}


/* by the name of a file, NULL if it does not tell */

static const char *
rbgvctl_rows_format(const char *path)
{
    const char  *dot;

    dot = strrchr(path, '.');

    if (dot == NULL) {
        return NULL;
    }

    if (strcasecmp(dot, ".csv") == 0) {
        return "csv";
    }

    if (strcasecmp(dot, ".jsonl") == 0 || strcasecmp(dot, ".ndjson") == 0) {
        return "jsonl";
    }

    return NULL;
}


static void
rbgvctl_rows_detect(rbgvctl_rows_t *rows)
{
    int  c;

    c = getc(rows->file);

    rows->format = (c == '{') ? "jsonl" : "csv";

    (void) ungetc(c, rows->file);
}


/* 1 with a line, or as much of it as there is room for; 0 at the end */

static int
rbgvctl_rows_line(rbgvctl_rows_t *rows)
{
    int    c;
    char  *p;

    p = rows->buf;
    c = EOF;

    while (p < rows->buf + RBGVCTL_ROW_SIZE) {
        c = getc_unlocked(rows->file);

        if (c == EOF) {
            break;
        }

        *p++ = c;

        if (c == '\n') {
            break;
        }
    }

    rows->len = p - rows->buf;
    rows->bytes += rows->len;

    if (!rows->cut) {
        rows->line++;
    }

    rows->cut = (c != '\n' && c != EOF);

    /* a byte order mark */

    if (rows->line == 1 && rows->len >= 3
        && memcmp(rows->buf, "\xef\xbb\xbf", 3) == 0)
    {
        memset(rows->buf, ' ', 3);
    }

    return rows->len != 0;
}


static int
rbgvctl_rows_blank(const rbgvctl_rows_t *rows)
{
    size_t  i;

    for (i = 0; i < rows->len; i++) {
        if (strchr(" \t\r\n", rows->buf[i]) == NULL || rows->buf[i] == '\0') {
            return 0;
        }
    }

    return 1;
}


/* -1 if there is none of this name */

static int
rbgvctl_rows_column(const char *name)
{
    int  i;

    for (i = 0; i < RBGVCTL_ROW_COLUMNS; i++) {
        if (strcmp(rbgvctl_row_columns[i], name) == 0) {
            return i;
        }
    }

    return -1;
}


/* a row of CSV may have several lines: those in quotes */

static int
rbgvctl_csv_next(rbgvctl_rows_t *rows, rbgvctl_row_t *row)
{
    int  rc;

    while (rbgvctl_rows_line(rows)) {

        if (!rows->begun) {

            if (rbgvctl_rows_blank(rows)) {
                continue;
            }

            rbgvctl_csv_begin(rows);
        }

        rc = rbgvctl_csv_feed(rows, row);

        if (rc != 0) {
            return rc;
        }
    }

    if (rows->begun) {
        return rbgvctl_csv_finish(rows, row);
    }

    if (rows->ncolumns == 0 && !ferror(rows->file)) {
        return rbgvctl_error(-1, "%s is empty: it has no header line",
                             rows->path);
    }

    return 0;
}


/* 0 if the row goes on, or if this was the header line */

static int
rbgvctl_csv_feed(rbgvctl_rows_t *rows, rbgvctl_row_t *row)
{
    rows->raw += rows->len;

    if (rows->raw > RBGVCTL_ROW_SIZE || rows->cut) {
        return rbgvctl_error(-1, "%s: the row of line %zu has more than %d "
                             "bytes; a quote may be missing", rows->path,
                             rows->begin, RBGVCTL_ROW_SIZE);
    }

    if (csv_parse(&rows->csv, rows->buf, rows->len, rbgvctl_csv_field,
                  rbgvctl_csv_end, rows)
        != rows->len)
    {
        return rbgvctl_csv_error(rows, row,
                                 "is not CSV: a quote is out of place");
    }

    return rows->ended ? rbgvctl_csv_row(rows, row) : 0;
}


/* the last line, if it does not end in a newline */

static int
rbgvctl_csv_finish(rbgvctl_rows_t *rows, rbgvctl_row_t *row)
{
    if (csv_fini(&rows->csv, rbgvctl_csv_field, rbgvctl_csv_end, rows) != 0) {
        return rbgvctl_csv_error(rows, row,
                                 "is not CSV: a quote is not closed");
    }

    return rbgvctl_csv_row(rows, row);
}


static int
rbgvctl_csv_row(rbgvctl_rows_t *rows, rbgvctl_row_t *row)
{
    size_t       i;
    const char  *value;

    rows->begun = 0;

    if (rows->ncolumns == 0) {
        return rbgvctl_csv_header(rows);
    }

    row->line = rows->begin;

    if (rows->fault[0] != '\0') {
        row->fault = rows->fault;

    } else if (rows->nfields != rows->ncolumns) {
        (void) snprintf(rows->fault, sizeof(rows->fault), "has %zu columns, "
                        "the header line has %zu", rows->nfields,
                        rows->ncolumns);
        row->fault = rows->fault;

    } else {
        for (i = 0; i < rows->ncolumns; i++) {
            value = rows->fields[i];
            row->values[rows->columns[i]] = value[0] ? value : NULL;
        }
    }

    return 1;
}


static int
rbgvctl_csv_header(rbgvctl_rows_t *rows)
{
    int     column;
    size_t  i, k;

    for (i = 0; i < rows->nfields; i++) {
        column = rbgvctl_rows_column(rows->fields[i]);

        for (k = 0; k < i && (int) rows->columns[k] != column; k++) {
            /* void */
        }

        if (column == -1 || k < i) {
            return rbgvctl_error(-1, "%s: column %zu of the header line is "
                                 "%s; \"rbgvctl import --help\" lists them",
                                 rows->path, i + 1,
                                 column == -1 ? "unknown" : "there twice");
        }

        rows->columns[i] = column;
    }

    rows->ncolumns = rows->nfields;

    return 0;
}


/* what follows on the line is skipped */

static int
rbgvctl_csv_error(rbgvctl_rows_t *rows, rbgvctl_row_t *row, const char *fault)
{
    if (csv_error(&rows->csv) != CSV_EPARSE) {
        return rbgvctl_error(-1, "out of memory");
    }

    if (rows->ncolumns == 0) {
        return rbgvctl_error(-1, "%s: the header line %s", rows->path, fault);
    }

    row->line = rows->begin;
    row->fault = fault;

    rows->begun = 0;

    csv_free(&rows->csv);
    rbgvctl_csv_init(rows);

    return 1;
}


static void
rbgvctl_csv_init(rbgvctl_rows_t *rows)
{
    (void) csv_init(&rows->csv, CSV_STRICT|CSV_STRICT_FINI);

    /* a line that is fed ends one row at most */

    csv_set_space_func(&rows->csv, rbgvctl_csv_is_space);
    csv_set_term_func(&rows->csv, rbgvctl_csv_is_term);
}


static void
rbgvctl_csv_begin(rbgvctl_rows_t *rows)
{
    rows->begun = 1;
    rows->ended = 0;
    rows->begin = rows->line;
    rows->raw = 0;
    rows->nfields = 0;
    rows->used = 0;
    rows->fault[0] = '\0';
}


static void
rbgvctl_csv_field(void *s, size_t len, void *data)
{
    rbgvctl_rows_t  *rows = data;

    char  *p;

    p = rows->text + rows->used;

    memcpy(p, s, len);
    p[len] = '\0';

    rows->used += len + 1;

    if (strlen(p) != len) {
        strcpy(rows->fault, "has a zero byte");
    }

    if (rows->nfields < RBGVCTL_FIELDS_MAX) {
        rows->fields[rows->nfields] = p;
    }

    rows->nfields++;
}


static void
rbgvctl_csv_end(int c, void *data)
{
    rbgvctl_rows_t  *rows = data;

    (void) c;

    rows->ended = 1;
}


/* libcsv takes a carriage return for the end of a row, too */

static int
rbgvctl_csv_is_space(unsigned char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}


static int
rbgvctl_csv_is_term(unsigned char c)
{
    return c == '\n';
}


static int
rbgvctl_jsonl_next(rbgvctl_rows_t *rows, rbgvctl_row_t *row)
{
    int  cut;

    do {
        if (!rbgvctl_rows_line(rows)) {
            return 0;
        }
    } while (rbgvctl_rows_blank(rows));

    row->line = rows->line;
    cut = rows->cut;

    while (rows->cut && rbgvctl_rows_line(rows)) {
        /* void */
    }

    row->fault = cut ? "is too long" : rbgvctl_jsonl_row(rows, row);

    return 1;
}


static const char *
rbgvctl_jsonl_row(rbgvctl_rows_t *rows, rbgvctl_row_t *row)
{
    int            column;
    json_t        *value;
    const char    *name, *text;
    json_error_t   error;

    json_decref(rows->object);

    /* what the error says may quote the line */

    rows->object = json_loadb(rows->buf, rows->len, JSON_REJECT_DUPLICATES,
                              &error);

    if (!json_is_object(rows->object)) {
        return "is not a JSON object";
    }

    json_object_foreach(rows->object, name, value) {

        column = rbgvctl_rows_column(name);

        if (column == -1) {
            return "has a member that is unknown";
        }

        if (json_is_null(value)) {
            continue;
        }

        text = rbgvctl_jsonl_text(rows, column, value);

        if (text == NULL) {
            (void) snprintf(rows->fault, sizeof(rows->fault),
                            "has a %s of the wrong type", name);
            return rows->fault;
        }

        row->values[column] = text[0] ? text : NULL;
    }

    return NULL;
}


/* as it is in CSV; NULL if it is of a type that the column has not */

static const char *
rbgvctl_jsonl_text(rbgvctl_rows_t *rows, int column, json_t *value)
{
    if (column == RBGVCTL_ROW_LIMITS && json_is_object(value)) {
        return rbgvctl_jsonl_limits(rows, value);
    }

    if (column == RBGVCTL_ROW_CREDITS && json_is_integer(value)) {
        (void) snprintf(rows->number, sizeof(rows->number),
                        "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return rows->number;
    }

    return json_string_value(value);
}


static const char *
rbgvctl_jsonl_limits(rbgvctl_rows_t *rows, json_t *limits)
{
    char        *p, *last;
    json_t      *value;
    const char  *policy;

    p = rows->text;
    last = rows->text + sizeof(rows->text);

    *p = '\0';

    json_object_foreach(limits, policy, value) {

        if (!json_is_string(value)) {
            return NULL;
        }

        /* there is room: in JSON a limit has more characters around it */

        p += snprintf(p, last - p, "%s=%s ", policy,
                      json_string_value(value));
    }

    return rows->text;
}
