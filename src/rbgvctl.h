
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

#include "rbgv_key.h"
#include "rbgv_limit.h"
#include "rbgv_schema.h"
#include "rbgv_uri.h"


#define RBGVCTL_VERSION       "0.1.0"

/* behind RBGV_KEY or RBGV_USE in a format: the id */
#define RBGVCTL_TAG           "{%s}"

#define RBGVCTL_DAYS          7        /* of usage in "list" and "show" */
#define RBGVCTL_DIGEST_SHOWN  12       /* hex digits */
#define RBGVCTL_DIGEST_USES   16       /* hex digits, in names of counters */

/* room for the longest time in text form */
#define RBGVCTL_TIME_SIZE     32


/* exit status */

enum {
    RBGVCTL_OK = 0,
    RBGVCTL_REFUSED,                   /* or not found, or a file failed */
    RBGVCTL_USAGE,
    RBGVCTL_STORE                      /* cannot be reached or used */
};


typedef struct rbgvctl_option_s  rbgvctl_option_t;


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


/* options in common, and the connection they lead to */

typedef struct {
    const char          *address;      /* NULL: the environment's */
    const char          *password_file;
    const char          *pepper_file;
    const char          *prefix;
    const char          *timeout;
    int                  json;
    int                  help;
    int                  version;

    rbgv_uri_t           uri;
    int64_t              seconds;      /* the timeout */
    char                 server[300];  /* the address, without its login */
    redisContext        *redis;
    int64_t              now;          /* by the clock of the store */
} rbgvctl_t;


typedef struct {
    const char              *name;
    const char              *arg;      /* NULL: takes none */
    const char              *summary;
    const char              *help;     /* examples; may be several lines */
    const rbgvctl_option_t  *options;  /* ends with a NULL name, or NULL */
    size_t                   conf_size;

    /* conf: zeroed, then set by the options; arg: NULL if it takes none */
    int                    (*handler)(rbgvctl_t *ctl, void *conf,
                                      const char *arg);
} rbgvctl_command_t;


typedef struct {
    char                 digest[RBGVCTL_DIGEST_SHOWN + 1];
    char                 counter[RBGVCTL_DIGEST_USES + 1];
    char                 status[16];
    int64_t              created;
    int64_t              expires;      /* 0: never */
    int64_t              uses;
} rbgvctl_secret_t;


typedef struct {
    const char          *id;           /* not owned */
    redisReply          *fields;       /* HGETALL; NULL: no such key */
    rbgvctl_secret_t    *secrets;
    size_t               nsecrets;
    int64_t              last_used;    /* 0: never */
    int64_t              requests_today;
    int64_t              requests_7d;
} rbgvctl_key_t;


typedef struct rbgvctl_output_s  rbgvctl_output_t;


/* rbgvctl.c */

const char *rbgvctl_set_flag(void *conf, const rbgvctl_option_t *option,
    const char *value);
const char *rbgvctl_set_string(void *conf, const rbgvctl_option_t *option,
    const char *value);
const char *rbgvctl_set_list(void *conf, const rbgvctl_option_t *option,
    const char *value);

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
 * this has been reported then.
 */
redisReply *rbgvctl_store_command(rbgvctl_t *ctl, int type, const char *fmt,
    ...);
redisReply *rbgvctl_store_argv(rbgvctl_t *ctl, int type, int argc,
    const char **argv);
int rbgvctl_store_integer(rbgvctl_t *ctl, int64_t *n, const char *fmt, ...);

/* pipelining: as many replies as commands */
void rbgvctl_store_append(rbgvctl_t *ctl, const char *fmt, ...);
redisReply *rbgvctl_store_reply(rbgvctl_t *ctl, int type);

/* sets ctl->now */
int rbgvctl_store_time(rbgvctl_t *ctl);

/* reports an error reply, or NULL, and returns RBGVCTL_STORE */
int rbgvctl_store_failed(rbgvctl_t *ctl, const redisReply *reply);


/* rbgvctl_keys.c */

extern const rbgvctl_command_t  rbgvctl_list_command;
extern const rbgvctl_command_t  rbgvctl_show_command;
extern const rbgvctl_command_t  rbgvctl_disable_command;
extern const rbgvctl_command_t  rbgvctl_enable_command;
extern const rbgvctl_command_t  rbgvctl_delete_command;

/* also reports */
int rbgvctl_id_check(const char *id);
int rbgvctl_environment_check(const char *name);

/* the value of a field, NULL if there is none */
const redisReply *rbgvctl_key_field(const rbgvctl_key_t *key,
    const char *name);
int64_t rbgvctl_key_number(const rbgvctl_key_t *key, const char *name);

/* "expired" if it is active and past its time */
const char *rbgvctl_key_status(const rbgvctl_t *ctl,
    const rbgvctl_key_t *key);


/* rbgvctl_create.c */

extern const rbgvctl_command_t  rbgvctl_create_command;


/* rbgvctl_init.c */

extern const rbgvctl_command_t  rbgvctl_init_command;


/* rbgvctl_name.c */

typedef enum {
    RBGVCTL_NAME_GOOD = 0,
    RBGVCTL_NAME_SUFFIX,               /* does not end in the environment */
    RBGVCTL_NAME_GENERIC,              /* says nothing about its user */
    RBGVCTL_NAME_MISMATCH              /* ends in another environment */
} rbgvctl_name_e;

/* 1 if it is [a-z0-9][a-z0-9-]{1,62} */
int rbgvctl_name_valid(const char *name);
rbgvctl_name_e rbgvctl_name_check(const char *name, const char *environment);


/* rbgvctl_print.c */

/* of a table for people, or of a JSON array; NULL if there is no memory */
rbgvctl_output_t *rbgvctl_output_create(rbgvctl_t *ctl);
int rbgvctl_output_key(rbgvctl_output_t *out, const rbgvctl_key_t *key);
int rbgvctl_output_end(rbgvctl_output_t *out);
void rbgvctl_output_free(rbgvctl_output_t *out);

int rbgvctl_print_key(rbgvctl_t *ctl, const rbgvctl_key_t *key);

/* takes over the object, NULL if there was no memory for it */
int rbgvctl_print_json(json_t *object);

/* null for 0 */
json_t *rbgvctl_json_time(int64_t t);

void rbgvctl_time(int64_t t, const char *format,
    char text[RBGVCTL_TIME_SIZE]);


#endif /* _RBGVCTL_H_INCLUDED_ */
