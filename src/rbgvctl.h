
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: what its commands share.
 */


#ifndef _RBGVCTL_H_INCLUDED_
#define _RBGVCTL_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>

#include <hiredis/hiredis.h>
#include <jansson.h>

#include "rbgv_admin.h"
#include "rbgv_uri.h"


#define RBGVCTL_RED           "\033[31m"
#define RBGVCTL_GREEN         "\033[32m"
#define RBGVCTL_YELLOW        "\033[33m"
#define RBGVCTL_MAGENTA       "\033[35m"
#define RBGVCTL_BOLD          "\033[1m"
#define RBGVCTL_COLOR_OFF     "\033[m"

#define RBGVCTL_MINUTE        "%Y-%m-%d %H:%MZ"

/* keys that are asked for at once: Redis has others to serve in between */
#define RBGVCTL_BATCH         100


/* exit status */

enum {
    RBGVCTL_OK = 0,
    RBGVCTL_REFUSED,                   /* or not found, or a file failed */
    RBGVCTL_USAGE,
    RBGVCTL_STORE,                     /* cannot be reached or used */
    RBGVCTL_FOUND = RBGVCTL_REFUSED    /* by a review */
};


typedef struct rbgvctl_option_s   rbgvctl_option_t;
typedef struct rbgvctl_request_s  rbgvctl_request_t;
typedef struct rbgvctl_server_s   rbgvctl_server_t;
typedef struct rbgvctl_tls_s      rbgvctl_tls_t;


struct rbgvctl_option_s {
    const char          *name;
    const char          *arg;          /* NULL: a flag */

    /* NULL, or what is wrong, as a phrase that does not quote the value */
    const char        *(*set)(void *conf, const rbgvctl_option_t *option,
                              const char *value);

    size_t               offset;       /* in conf */
    const char          *help;
};


typedef struct {
    size_t               nelts;
    const char          *elts[RBGV_LIMITS_MAX];
} rbgvctl_values_t;


/* a command and its reply */

struct rbgvctl_request_s {
    char                *command;
    size_t               len;
    unsigned             slot;         /* of a cluster */
    unsigned             tries;        /* that were to no avail */
    unsigned             asking;       /* 1: nobody takes its reply */
    unsigned             lost;         /* 1: there will be no reply */
    redisReply          *reply;        /* NULL: not there yet */
    rbgvctl_server_t    *server;       /* NULL: it could not be sent */
    rbgvctl_request_t   *next;         /* in the order of their replies */
    rbgvctl_request_t   *behind;       /* on the same connection */
};


struct rbgvctl_server_s {
    rbgv_uri_host_t      host;         /* its name is empty: a unix socket */
    char                 address[300]; /* of it, for messages */
    char                 name[320];    /* "the store at <address>" */
    unsigned             sentinel;     /* 1: it gets no login */
    unsigned             member;       /* 1: of the store, as of now */
    unsigned             down;         /* 1: not to be tried for a while */
    redisContext        *redis;        /* NULL: not connected */
    rbgvctl_tls_t       *tls;          /* NULL: the connection has none */
    rbgvctl_request_t   *requests;     /* that wait for it, oldest first */
    rbgvctl_request_t   *last;
    rbgvctl_server_t    *next;
};


/* options in common, and the servers they lead to */

typedef struct {
    const char          *address;      /* NULL: the environment's */
    const char          *password_file;
    const char          *pepper_file;
    const char          *prefix;
    const char          *timeout;
    const char          *tls_ca_file;
    const char          *tls_cert_file;
    const char          *tls_key_file;
    const char          *tls_server_name;
    int                  tls_insecure;
    int                  json;
    int                  help;
    int                  version;

    rbgv_uri_t           uri;
    int64_t              seconds;      /* the timeout */
    const char          *server;       /* the address, without its login */
    rbgvctl_server_t    *servers;      /* all that were heard of */
    rbgvctl_server_t    *master;       /* NULL: of a cluster */
    rbgvctl_server_t   **slots;        /* their masters; NULL: no cluster */
    unsigned             slot;         /* of the last command */
    rbgvctl_server_t    *only;         /* gets all commands, if not NULL */
    rbgvctl_server_t    *from;         /* who sent the last reply */
    rbgvctl_request_t   *requests;     /* whose replies nobody has taken */
    rbgvctl_request_t   *last;
    unsigned             broken;       /* 1: a request was not made */
    char                 fault[512];   /* why there is no reply */
    int64_t              now;          /* by the clock of the store */
    int64_t              now_us;       /* the same, in microseconds */
} rbgvctl_t;


typedef struct {
    const char              *name;
    const char              *arg;      /* NULL: takes none; "[ARG]": may
                                          take one */
    const char              *summary;
    const char              *help;     /* examples; may be several lines */
    const rbgvctl_option_t  *options;  /* ends with a NULL name, or NULL */
    size_t                   conf_size;

    /* conf: zeroed, then set by the options; arg: NULL if there is none */
    int                    (*handler)(rbgvctl_t *ctl, void *conf,
                                      const char *arg);
} rbgvctl_command_t;


typedef struct rbgvctl_output_s  rbgvctl_output_t;
typedef struct rbgvctl_rows_s    rbgvctl_rows_t;

struct libscols_table;

typedef int (*rbgvctl_each_pt)(rbgvctl_t *ctl, void *data);

/* gets keys that have their fields only; anything but RBGVCTL_OK ends it */
typedef int (*rbgvctl_walk_pt)(rbgvctl_t *ctl, void *data,
    rbgv_record_t *keys, size_t n);


/* rbgvctl.c */

/* all commands, up to a NULL; the options that each of them has */
extern const rbgvctl_command_t  *rbgvctl_commands[];
extern const rbgvctl_option_t  rbgvctl_options[];

const char *rbgvctl_set_flag(void *conf, const rbgvctl_option_t *option,
    const char *value);
const char *rbgvctl_set_string(void *conf, const rbgvctl_option_t *option,
    const char *value);
const char *rbgvctl_set_list(void *conf, const rbgvctl_option_t *option,
    const char *value);

/* keeps what *n is if there is no value; also reports */
int rbgvctl_number(const char *option, const char *value, int64_t min,
    int64_t max, int64_t *n);

/* one line on standard error; control characters do not reach it */
void rbgvctl_note(const char *fmt, ...)
    __attribute__((format(printf, 1, 2)));

/* the same, and returns status */
int rbgvctl_error(int status, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* the argument, or a stand-in if it may be an API key */
const char *rbgvctl_quotable(const char *arg);

/* -1 if standard output did not take everything, which is reported */
int rbgvctl_flush(void);


/* rbgvctl_store.c */

/* connects and logs in; the second one also wants a store of this schema */
int rbgvctl_store_connect(rbgvctl_t *ctl);
int rbgvctl_store_open(rbgvctl_t *ctl);
void rbgvctl_store_close(rbgvctl_t *ctl);

/*
 * Formats are those of redisCommand().  A reply is NULL if there is none, if
 * it is an error, or if its type is another than the one wanted (0: any);
 * this has been reported then.  On a cluster the first argument, or the one
 * behind the number of keys of an EVAL, is a name in the store; a command
 * without arguments goes where the one before it went.
 */
redisReply *rbgvctl_store_command(rbgvctl_t *ctl, int type, const char *fmt,
    ...);
redisReply *rbgvctl_store_argv(rbgvctl_t *ctl, int type, int argc,
    const char **argv);
int rbgvctl_store_integer(rbgvctl_t *ctl, int64_t *n, const char *fmt, ...);

/* the reply as it is; NULL: none, which has not been reported */
redisReply *rbgvctl_store_call(rbgvctl_t *ctl, const char *fmt, ...);

/*
 * Pipelining: as many replies as commands, in their order.  A cluster does
 * commands with different names in any order.
 */
void rbgvctl_store_append(rbgvctl_t *ctl, const char *fmt, ...);
void rbgvctl_store_append_argv(rbgvctl_t *ctl, int argc, const char **argv);
redisReply *rbgvctl_store_reply(rbgvctl_t *ctl, int type);

/* for each server of the store, replicas too: commands go to it alone */
int rbgvctl_store_each(rbgvctl_t *ctl, rbgvctl_each_pt handler, void *data);

/* sets ctl->now and ctl->now_us */
int rbgvctl_store_time(rbgvctl_t *ctl);

/* returns when what the store has answered is in force on every host */
void rbgvctl_store_settle(void);

/* reports an error reply, or NULL, and returns RBGVCTL_STORE */
int rbgvctl_store_failed(rbgvctl_t *ctl, const redisReply *reply);


/* rbgvctl_server.c */

/* the one at an address, which is added to those that are known */
rbgvctl_server_t *rbgvctl_server_get(rbgvctl_t *ctl, const char *name,
    size_t len, unsigned port, int sentinel);

/* connects and logs in, if need be; not RBGVCTL_OK: see ctl->fault */
int rbgvctl_server_open(rbgvctl_t *ctl, rbgvctl_server_t *server);
void rbgvctl_server_close(rbgvctl_server_t *server);

/* a failure to send comes back with the reply */
void rbgvctl_server_send(rbgvctl_server_t *server,
    rbgvctl_request_t *request);
void rbgvctl_server_flush(rbgvctl_server_t *server);

/* the reply to the oldest request; or all of them are lost: see ctl->fault */
void rbgvctl_server_read(rbgvctl_t *ctl, rbgvctl_server_t *server);

/*
 * When all requests have been answered.  NULL, also if the connection was lost
 * before: see ctl->fault.
 */
redisReply *rbgvctl_server_call(rbgvctl_t *ctl, rbgvctl_server_t *server,
    const char *fmt, ...);

void rbgvctl_request_free(rbgvctl_request_t *request);

/* 1 if it is an error whose first word is the code */
int rbgvctl_reply_error(const redisReply *reply, const char *code);

/* what a reply says that is not the one wanted; see ctl->fault */
int rbgvctl_server_refused(rbgvctl_t *ctl, const rbgvctl_server_t *server,
    const redisReply *reply);

/* sets ctl->fault, and returns status */
int rbgvctl_fault(rbgvctl_t *ctl, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* until when to try again; waits a little, or returns 0 if that has passed */
int64_t rbgvctl_deadline(const rbgvctl_t *ctl);
int rbgvctl_pause(int64_t deadline);


/* rbgvctl_sentinel.c */

/* sets ctl->master to a server that says it is one; see ctl->fault */
int rbgvctl_sentinel_find(rbgvctl_t *ctl);

/* the replicas of the master are members as well, as it is */
int rbgvctl_sentinel_replicas(rbgvctl_t *ctl);


/* rbgvctl_cluster.c */

int rbgvctl_cluster_open(rbgvctl_t *ctl);

/* all nodes are members, those that are down as well */
int rbgvctl_cluster_members(rbgvctl_t *ctl);

/* to the master of its slot, or to nobody yet */
void rbgvctl_cluster_send(rbgvctl_t *ctl, rbgvctl_request_t *request);

/* 1 if it was sent again; 0: its reply is the last word, or see ctl->fault */
int rbgvctl_cluster_again(rbgvctl_t *ctl, rbgvctl_request_t *request,
    int64_t deadline);


/* rbgvctl_tls.c */

/* on the connection that hiredis has made; the server is verified then */
int rbgvctl_tls_start(rbgvctl_t *ctl, rbgvctl_server_t *server);
void rbgvctl_tls_close(rbgvctl_server_t *server);

/* as functions of hiredis: errors are in server->redis */
void rbgvctl_tls_send(rbgvctl_server_t *server, const char *command,
    size_t len);
void rbgvctl_tls_flush(rbgvctl_server_t *server);
int rbgvctl_tls_reply(rbgvctl_server_t *server, void **reply);


/* rbgvctl_keys.c */

extern const rbgvctl_command_t  rbgvctl_show_command;
extern const rbgvctl_command_t  rbgvctl_disable_command;
extern const rbgvctl_command_t  rbgvctl_enable_command;
extern const rbgvctl_command_t  rbgvctl_delete_command;

/* also reports */
int rbgvctl_id_check(const char *id);
int rbgvctl_not_found(rbgvctl_t *ctl, const char *id);
int rbgvctl_show_key(rbgvctl_t *ctl, const char *id);

/*
 * The fields, secrets and counters of keys whose id is set; the first two, and
 * the last, alone.  Keys are freed also after an error.
 */
int rbgvctl_keys_fetch(rbgvctl_t *ctl, rbgv_record_t *keys, size_t n);
int rbgvctl_keys_fields(rbgvctl_t *ctl, rbgv_record_t *keys, size_t n);
int rbgvctl_keys_counters(rbgvctl_t *ctl, rbgv_record_t *keys, size_t n);
void rbgvctl_keys_free(rbgv_record_t *keys, size_t n);


/* rbgvctl_walk.c */

/* all keys, oldest first, up to RBGVCTL_BATCH at a time; sets ctl->now */
int rbgvctl_walk(rbgvctl_t *ctl, rbgvctl_walk_pt handler, void *data);
int rbgvctl_walk_ids(rbgvctl_t *ctl, const char *const *ids, size_t n,
    rbgvctl_walk_pt handler, void *data);


/* rbgvctl_list.c */

extern const rbgvctl_command_t  rbgvctl_list_command;


/* rbgvctl_audit.c */

extern const rbgvctl_command_t  rbgvctl_audit_command;


/* rbgvctl_review.c */

extern const rbgvctl_command_t  rbgvctl_review_command;


/* rbgvctl_usage.c */

extern const rbgvctl_command_t  rbgvctl_usage_command;

/* asks for the counters of a key; the reply makes its usage */
void rbgvctl_usage_ask(rbgvctl_t *ctl, const char *id);
int rbgvctl_usage_reply(rbgvctl_t *ctl, rbgv_usage_t *usage);


/* rbgvctl_pager.c */

/* what is printed goes through a pager from now on, if to a terminal */
void rbgvctl_pager_start(const rbgvctl_t *ctl);

/* waits for it; the exit status, which is 0 if not all was looked at */
int rbgvctl_pager_end(int status);
int rbgvctl_pager_running(void);

/* whether there is a terminal, behind a pager or not; its columns */
int rbgvctl_terminal(void);
int rbgvctl_colors(void);
size_t rbgvctl_width(void);

int rbgvctl_utf8(void);


/* rbgvctl_create.c */

extern const rbgvctl_command_t  rbgvctl_create_command;

/* also reports */
int rbgvctl_name_accept(const char *name, const char *environment,
    int force);

/* likewise; command is the one to name */
int rbgvctl_digester(rbgvctl_t *ctl, const char *command, int no_pepper,
    rbgv_digester_t **digester);


/* rbgvctl_environments.c */

extern const rbgvctl_command_t  rbgvctl_environments_command;

/* also reports */
int rbgvctl_environment_check(const char *option, const char *name);

/* writes those of a new store, if there are none at all */
int rbgvctl_environments_seed(rbgvctl_t *ctl);

/* to be freed in any case */
int rbgvctl_environments_fetch(rbgvctl_t *ctl,
    rbgv_environments_t *environments);


/* rbgvctl_limits.c */

/* of --limit; also reports; none: "POLICY=none" gives an empty quota */
int rbgvctl_limits_parse(const rbgvctl_values_t *values, int none,
    rbgv_limits_t *limits);


/* rbgvctl_op.c */

/* to be freed by rbgv_admin_free(); id: NULL if it is not of a key */
void rbgvctl_op_init(rbgvctl_t *ctl, rbgv_admin_t *op, const char *id);

/* runs it to its end; also reports */
int rbgvctl_op_run(rbgvctl_t *ctl, rbgv_admin_t *op);

/* sends its first command alone, and frees it */
redisReply *rbgvctl_op_reply(rbgvctl_t *ctl, rbgv_admin_t *op, int type);

/* of a change that is no operation on a key */
void rbgvctl_audit(rbgvctl_t *ctl, const char *action, const char *name);


/* rbgvctl_set.c */

extern const rbgvctl_command_t  rbgvctl_set_command;


/* rbgvctl_rotate.c */

extern const rbgvctl_command_t  rbgvctl_rotate_command;


/* rbgvctl_rotation.c */

extern const rbgvctl_command_t  rbgvctl_rotation_command;


/* rbgvctl_init.c */

extern const rbgvctl_command_t  rbgvctl_init_command;


/* rbgvctl_import.c */

extern const rbgvctl_command_t  rbgvctl_import_command;


/* rbgvctl_print.c */

/* of a table for people, or of a JSON array; NULL if there is no memory */
rbgvctl_output_t *rbgvctl_output_create(rbgvctl_t *ctl);
int rbgvctl_output_key(rbgvctl_output_t *out, const rbgv_record_t *key);
int rbgvctl_output_end(rbgvctl_output_t *out);
void rbgvctl_output_free(rbgvctl_output_t *out);

int rbgvctl_print_key(rbgvctl_t *ctl, const rbgv_record_t *key);

/* headings end with NULL; NULL if there is no memory */
struct libscols_table *rbgvctl_table(const char *const *columns);
int rbgvctl_table_print(struct libscols_table *table);
void rbgvctl_row(struct libscols_table *table, const char *name,
    const char *value);

/* the value of a field, "-" if there is none */
const char *rbgvctl_text(const rbgv_record_t *key, const char *name);

/* control characters do not come out */
void rbgvctl_print_text(const char *text);

/* takes over the object, NULL if there was no memory for it */
int rbgvctl_print_json(json_t *object);

/* "90d", "-" for 0 */
void rbgvctl_duration(int64_t seconds, char text[RBGV_TIME_SIZE]);


/* rbgvctl_verify.c */

extern const rbgvctl_command_t  rbgvctl_verify_command;


/* rbgvctl_completion.c */

extern const rbgvctl_command_t  rbgvctl_completion_command;


/* rbgvctl_rows.c */

typedef enum {
    RBGVCTL_ROW_CLIENT_ID = 0,
    RBGVCTL_ROW_ENVIRONMENT,
    RBGVCTL_ROW_OWNER,
    RBGVCTL_ROW_NOTE,
    RBGVCTL_ROW_API_KEY,
    RBGVCTL_ROW_SHA256,
    RBGVCTL_ROW_LIMITS,
    RBGVCTL_ROW_CREDITS,
    RBGVCTL_ROW_EXPIRES_AT,
    RBGVCTL_ROW_COLUMNS
} rbgvctl_row_column_e;


typedef struct {
    size_t               line;         /* where it begins, from 1 */
    const char          *fault;        /* NULL, or why it has no values */
    const char          *values[RBGVCTL_ROW_COLUMNS];  /* NULL: none */
} rbgvctl_row_t;


extern const char  *rbgvctl_row_columns[];

/* format: csv, jsonl, or NULL; "-" is standard input; NULL: reported */
rbgvctl_rows_t *rbgvctl_rows_open(const char *path, const char *format);
void rbgvctl_rows_close(rbgvctl_rows_t *rows);

/*
 * 1 with a row, whose strings stay until the next call; 0 at the end; -1 if
 * the rest cannot be read, which is reported.
 */
int rbgvctl_rows_next(rbgvctl_rows_t *rows, rbgvctl_row_t *row);

/* what was read, and the size of the file, 0 if it is not known */
int64_t rbgvctl_rows_bytes(const rbgvctl_rows_t *rows, int64_t *size);


#endif /* _RBGVCTL_H_INCLUDED_ */
