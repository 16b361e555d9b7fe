
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * What administrators do with keys.  No nginx in here, and no input or output:
 * the module and rbgvctl compile the same files.
 */


#ifndef _RBGV_ADMIN_H_INCLUDED_
#define _RBGV_ADMIN_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>

#include <hiredis/hiredis.h>
#include <jansson.h>

#include "rbgv_key.h"
#include "rbgv_limit.h"
#include "rbgv_schema.h"


#define RBGV_VERSION          "0.1.0"

/* behind RBGV_KEY or RBGV_USE in a format: the id */
#define RBGV_TAG              "{%s}"
#define RBGV_HASH_SIZE                                                        \
    (RBGV_PREFIX_MAX + sizeof(RBGV_KEY) + RBGV_ID_LEN + 2)

#define RBGV_HOUR             (60 * 60)
#define RBGV_DAY              (24 * RBGV_HOUR)
#define RBGV_DAYS             7        /* of "requests_7d" */
#define RBGV_DIGEST_SHOWN     12       /* hex digits */
#define RBGV_DIGEST_USES      16       /* hex digits, in names of counters */

#define RBGV_SECRETS_MAX      3
#define RBGV_GRACE            86400    /* seconds, of a rotation */

#define RBGV_NAME_MIN         2        /* bytes, likewise below */
#define RBGV_NAME_MAX         63
#define RBGV_OWNER_MAX        128
#define RBGV_NOTE_MAX         1024

/* what Lua's and JavaScript's numbers hold exactly */
#define RBGV_CREDITS_MAX      INT64_C(9007199254740991)

/* room for "secret:<digest>" */
#define RBGV_SECRET_SIZE      (sizeof(RBGV_FIELD_SECRET) + RBGV_DIGEST_HEX)

/* room for "limit:<policy>", and for the longest limit */
#define RBGV_LIMIT_SIZE       (sizeof(RBGV_FIELD_LIMIT) + RBGV_LIMIT_NAME_MAX)
#define RBGV_QUOTA_SIZE       96

#define RBGV_EXPIRED          "expired"

/* room for the longest time in text form */
#define RBGV_TIME_SIZE        32

#define RBGV_RFC3339          "%Y-%m-%dT%H:%M:%SZ"
#define RBGV_DATE             "%Y-%m-%d"

/* of usage that is kept, behind today */
#define RBGV_DAYS_KEPT        92

/* for which the gateway keeps uses by the hour */
#define RBGV_HOURS_MAX        (8 * 24)

/* of a page of keys, and of usage that is shown with it */
#define RBGV_PAGE_MAX         500
#define RBGV_PAGE_DAYS        30

/* entries of the audit stream, about; and of those that are read */
#define RBGV_AUDIT_KEPT       "10000"
#define RBGV_AUDIT_MAX        1000


/* a number as text, for a script */
#define RBGV_TEXT(n)          RBGV_TEXT_OF(n)
#define RBGV_TEXT_OF(n)       #n


typedef enum {
    RBGV_NAME_GOOD = 0,
    RBGV_NAME_SUFFIX,                  /* does not end in the environment */
    RBGV_NAME_GENERIC,                 /* says nothing about its user */
    RBGV_NAME_MISMATCH                 /* ends in another environment */
} rbgv_name_e;


typedef struct {
    char                 field[RBGV_LIMIT_SIZE];
    char                 quota[RBGV_QUOTA_SIZE];     /* empty: none */
} rbgv_limit_field_t;


typedef struct {
    size_t               nelts;
    rbgv_limit_field_t   elts[RBGV_LIMITS_MAX];
} rbgv_limits_t;


typedef struct {
    char                 name[RBGV_ENVIRONMENT_MAX + 1];
    int64_t              rotation;     /* seconds; 0: no window */
    rbgv_limits_t        limits;       /* of new keys */
} rbgv_environment_t;


typedef struct {
    size_t               nelts;
    rbgv_environment_t  *elts;
} rbgv_environments_t;


/* of a store that has none */

typedef struct {
    const char          *name;
    int64_t              rotation;     /* seconds */
    const char          *quota;        /* of the policy "default", or NULL */
} rbgv_environment_first_t;


/* name, owner, note, expires, and limits */
#define RBGV_CHANGE_FIELDS    (4 + RBGV_LIMITS_MAX)


/* strings are not owned */

typedef struct {
    const char          *hash;         /* its name in the store */
    const char          *use;          /* of the counters of a key */
    const char          *credits;      /* "5", "+5", "-5", or NULL */
    size_t               nsets;
    const char          *sets[2 * RBGV_CHANGE_FIELDS];
    size_t               ndrops;
    const char          *drops[RBGV_CHANGE_FIELDS];
} rbgv_change_t;


typedef enum {
    RBGV_CHANGE_NO_KEY = 0,
    RBGV_CHANGE_DONE,
    RBGV_CHANGE_SPENT,                 /* credits granted, spent */
    RBGV_CHANGE_CREDITS,               /* too many; those granted, spent */
    RBGV_CHANGE_LIMITS                 /* too many; how many */
} rbgv_change_e;


typedef struct {
    char                 digest[RBGV_DIGEST_SHOWN + 1];
    char                 counter[RBGV_DIGEST_USES + 1];
    char                 status[16];
    int64_t              created;
    int64_t              expires;      /* 0: never */
    int64_t              uses;
} rbgv_secret_t;


/* a key as it is in the store */

typedef struct {
    const char          *id;           /* not owned */
    redisReply          *fields;       /* HGETALL; NULL: no such key */
    rbgv_secret_t       *secrets;
    size_t               nsecrets;
    int64_t              last_used;    /* 0: never */
    int64_t              requests_today;
    int64_t              requests_7d;
} rbgv_record_t;


typedef enum {
    RBGV_ROTATION_NO_KEY = 0,
    RBGV_ROTATION_DONE,
    RBGV_ROTATION_NONE,                /* is under way; began: the last end */
    RBGV_ROTATION_ALONE,               /* no other secret would be left */
    RBGV_ROTATION_WATCH,               /* too early */
    RBGV_ROTATION_SAFE                 /* could be done */
} rbgv_rotation_e;


typedef enum {
    RBGV_ROTATION_LOOK = 0,
    RBGV_ROTATION_TRY,                 /* if it is safe */
    RBGV_ROTATION_FORCE
} rbgv_rotation_how_e;


/* seconds since the epoch, 0: never */

typedef struct {
    rbgv_rotation_e      state;
    int64_t              began;
    int64_t              last;         /* use of those that are to end */
    int64_t              until;        /* then it is safe */
    int64_t              now;
    int64_t              count;        /* of those that are to end */
    int64_t              other;        /* last use of those that stay */
} rbgv_rotation_t;


/* of requests on a day */

typedef enum {
    RBGV_PASSED = 0,
    RBGV_LIMITED,                      /* refused, by cause */
    RBGV_CREDITS,
    RBGV_JOB_REFUSED,
    RBGV_OUTCOMES
} rbgv_outcome_e;


typedef struct {
    int64_t              days[RBGV_DAYS_KEPT + 1][RBGV_OUTCOMES];
                                       /* by days ago, the first is today */
    int64_t              last;         /* 0: never */
    int64_t              spent;        /* credits */
} rbgv_usage_t;


/* a rotation by the hour; secrets are in the order in which they were made */

typedef struct {
    rbgv_record_t        key;
    rbgv_rotation_t      rotation;
    size_t               nsecrets;
    int64_t              last[RBGV_SECRETS_MAX];
    int64_t              first;        /* hour since the epoch */
    size_t               nhours;
    int64_t              uses[RBGV_HOURS_MAX][RBGV_SECRETS_MAX];
} rbgv_watch_t;


/* the next page starts at a score, behind the ids of it that were seen */

typedef struct {
    char                 score[32];
    size_t               seen;
    size_t               count;        /* ids of the last page */
} rbgv_cursor_t;


/* rbgv_name.c */

/* 1 if it is [a-z0-9][a-z0-9-]{1,62} */
int rbgv_name_valid(const char *name);
rbgv_name_e rbgv_name_check(const char *name, const char *environment);

/* NULL, or why such a name is refused if nobody insists on it */
const char *rbgv_name_fault(rbgv_name_e verdict);


/* rbgv_fault.c: NULL, or what is wrong, which does not quote the value */

const char *rbgv_owner_fault(const char *text);
const char *rbgv_note_fault(const char *text);
const char *rbgv_credits_fault(const char *text);
const char *rbgv_expires_fault(const char *text);


/* rbgv_limits.c */

/* NULL, or what is wrong, as a phrase */
const char *rbgv_limits_add(rbgv_limits_t *limits, const char *policy,
    size_t len, const char *quota);
json_t *rbgv_limits_json(const rbgv_limits_t *limits);

/* 1 if it is "none" or "off" */
int rbgv_none(const char *text);


/* rbgv_record.c */

/* parses the secrets; -1: out of memory */
int rbgv_record_set(rbgv_record_t *key, redisReply *fields);

/* the value of a field, NULL if there is none */
const redisReply *rbgv_record_field(const rbgv_record_t *key,
    const char *name);
int64_t rbgv_record_number(const rbgv_record_t *key, const char *name);

/* RBGV_EXPIRED if it is active and past its time */
const char *rbgv_record_status(const rbgv_record_t *key, int64_t now);

/* when its newest secret was made; 0: not known */
int64_t rbgv_record_newest(const rbgv_record_t *key);

/* 1 if all elements are strings; the second one: n integers */
int rbgv_reply_strings(const redisReply *reply);
int rbgv_reply_integers(const redisReply *reply, size_t n);

/* of names and values: the value, NULL if there is none */
const redisReply *rbgv_reply_field(const redisReply *reply,
    const char *name);

/* 0 if it is none */
int64_t rbgv_reply_number(const redisReply *reply);

int rbgv_is_limit(const redisReply *name);

json_t *rbgv_json_record(const rbgv_record_t *key, int64_t now);
json_t *rbgv_json_field(const rbgv_record_t *key, const char *name);
json_t *rbgv_json_text(const char *text);
json_t *rbgv_json_textn(const char *text, size_t len);

/* null for 0 */
json_t *rbgv_json_time(int64_t t);

void rbgv_time(int64_t t, const char *format, char text[RBGV_TIME_SIZE]);

/* kind: RBGV_KEY or RBGV_USE */
void rbgv_hash_name(const char *prefix, const char *kind, const char *id,
    char name[RBGV_HASH_SIZE]);


/* rbgv_usage.c: of the counters of a key, as HGETALL gives them */

void rbgv_usage_read(rbgv_usage_t *usage, const redisReply *counters,
    int64_t now);

/* all requests of a day, let pass or not */
int64_t rbgv_usage_day(const rbgv_usage_t *usage, size_t ago);

/* of the last days, by outcome; and their sum */
int64_t rbgv_usage_sum(const rbgv_usage_t *usage, int64_t ndays,
    int64_t sums[RBGV_OUTCOMES]);

/* {"limited":,"credits":,"job":} */
json_t *rbgv_json_refused(const int64_t *sums);
json_t *rbgv_json_days(const rbgv_usage_t *usage, int64_t ndays, int64_t now);


/* rbgv_watch.c */

/* the key and the rotation are set */
void rbgv_watch_read(rbgv_watch_t *watch, const redisReply *counters);
int rbgv_watch_is_old(const rbgv_watch_t *watch, size_t i);

/* uses of all old secrets, or of all others */
int64_t rbgv_watch_hour(const rbgv_watch_t *watch, size_t hour, int old);

json_t *rbgv_json_watch(const rbgv_watch_t *watch);


/* rbgv_environment.c */

#define RBGV_ENVIRONMENTS_FIRST  3

extern const rbgv_environment_first_t
    rbgv_environments_first[RBGV_ENVIRONMENTS_FIRST];

/* of SMEMBERS; -1: out of memory */
int rbgv_environments_names(rbgv_environments_t *environments,
    const redisReply *names);

/* of HGETALL; NULL, or what is wrong, and the field and value it is about */
const char *rbgv_environment_fields(rbgv_environment_t *environment,
    const redisReply *fields, redisReply ***limit);

/* NULL if there is none */
const rbgv_environment_t *rbgv_environment_find(
    const rbgv_environments_t *environments, const char *name);
void rbgv_environments_free(rbgv_environments_t *environments);
json_t *rbgv_json_rotation_window(const rbgv_environment_t *environment);

/* of a key whose newest secret was made then; 0: not known, or no window */
int64_t rbgv_rotation_due(const rbgv_environment_t *environment,
    int64_t newest);


/* rbgv_admin.c */

#define RBGV_ADMIN_ARGS       56       /* of a command, at most */
#define RBGV_ADMIN_TEXT       512


typedef struct rbgv_admin_s  rbgv_admin_t;

/* as many replies as there were commands, none of them an error */
typedef void (*rbgv_admin_next_pt)(rbgv_admin_t *op, redisReply **replies);


typedef enum {
    RBGV_ADMIN_OK = 0,
    RBGV_ADMIN_NO_KEY,
    RBGV_ADMIN_NO_ENVIRONMENT,
    RBGV_ADMIN_BAD_ENVIRONMENT,        /* in the store; text tells */
    RBGV_ADMIN_BAD_KEY,                /* likewise: its environment */
    RBGV_ADMIN_EXISTS,
    RBGV_ADMIN_NAME,                   /* would need force; text tells why */
    RBGV_ADMIN_OTHER_NAME,             /* than the one of the key */
    RBGV_ADMIN_SPENT,                  /* numbers: credits granted, spent */
    RBGV_ADMIN_CREDITS,                /* too many; likewise */
    RBGV_ADMIN_LIMITS,                 /* too many; how many */
    RBGV_ADMIN_ROTATING,               /* since when */
    RBGV_ADMIN_SECRETS,                /* too many; how many */
    RBGV_ADMIN_ROTATION,               /* in the state of the rotation */
    RBGV_ADMIN_CRYPTO,                 /* OpenSSL could not make a key */
    RBGV_ADMIN_MEMORY,
    RBGV_ADMIN_FOREIGN                 /* a reply of the wrong form */
} rbgv_admin_state_e;


typedef struct {
    size_t               argc;
    char                *argv[RBGV_ADMIN_ARGS];
} rbgv_command_t;


/*
 * An operation: while there is something next, the commands are to be sent and
 * their replies given to rbgv_admin_feed().  It is zeroed before; the strings
 * of the first part are not owned, and stay until the end.
 */

struct rbgv_admin_s {
    const char          *prefix;
    rbgv_digester_t     *digester;     /* of new secrets; not owned */

    const char          *by;           /* who does it, and from where */
    const char          *source;
    const char          *request_id;   /* NULL: none */

    const char          *id;
    const char          *name;
    const char          *environment;
    const char          *owner;
    const char          *note;
    const char          *expires;
    const char          *credits;
    const char          *grace;
    rbgv_limits_t        limits;
    int                  force;
    const char          *status;       /* that the key is to have */
    rbgv_rotation_how_e  how;          /* of a rotation that is to end */
    int                  cancel;       /* likewise: the new secret goes */
    int64_t              began;        /* the rotation that is meant; 0: any */
    size_t               limit;        /* of a page */
    rbgv_cursor_t        cursor;

    rbgv_admin_next_pt   next;         /* NULL: done */
    rbgv_admin_next_pt   then;         /* after the environments */
    rbgv_command_t      *commands;
    size_t               ncommands;

    /* what is asked for now: a change, which a lost reply leaves unknown */
    int                  changing;
    int                  auditing;     /* the change is done */

    rbgv_admin_state_e   state;
    int64_t              numbers[2];
    char                 text[RBGV_ADMIN_TEXT];
    json_t              *json;         /* the answer */

    int64_t              now;          /* by the clock of the store */
    rbgv_environments_t  environments;
    rbgv_rotation_t      rotation;
    const char          *action;       /* NULL: nothing was changed */
    char                 key[RBGV_KEY_MAX + 1];      /* the new one */
    char                 new_id[RBGV_ID_LEN + 1];
    char                 secret[RBGV_SECRET_SIZE];
    int64_t              expiry;       /* of a new key; 0: never */

    /* of the key that is changed, if it has them */
    char                 key_name[RBGV_NAME_MAX + 1];
    char                 key_environment[RBGV_ENVIRONMENT_MAX + 1];

    char               (*ids)[RBGV_ID_LEN + 1];      /* of a page */
    size_t               nids;
    size_t               done;         /* of them */
};


void rbgv_admin_feed(rbgv_admin_t *op, redisReply **replies);
void rbgv_admin_free(rbgv_admin_t *op);

/* frees the commands */
void rbgv_admin_clear(rbgv_admin_t *op);

/* a command, and its arguments by printf()'s format */
void rbgv_admin_command(rbgv_admin_t *op, const char *name);
void rbgv_admin_arg(rbgv_admin_t *op, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void rbgv_admin_hash(rbgv_admin_t *op, const char *kind, const char *id);

/* ends the operation */
void rbgv_admin_fail(rbgv_admin_t *op, rbgv_admin_state_e state);

/* asks for the time, and for name and environment of the key */
void rbgv_admin_look(rbgv_admin_t *op, rbgv_admin_next_pt next);
int rbgv_admin_seen(rbgv_admin_t *op, redisReply **replies);

/* the change is done; the answer is taken over */
void rbgv_admin_changed(rbgv_admin_t *op, const char *action, json_t *json);

/* what an operation failed for, without what to do about it */
void rbgv_admin_describe(const rbgv_admin_t *op, char text[RBGV_ADMIN_TEXT]);

/* asks for environments and time, and then goes on; NULL: no further */
void rbgv_admin_environments(rbgv_admin_t *op, rbgv_admin_next_pt then);

/* operations; their values were looked at before */
void rbgv_admin_status(rbgv_admin_t *op);
void rbgv_admin_delete(rbgv_admin_t *op);
void rbgv_admin_set(rbgv_admin_t *op);


/* rbgv_admin_create.c */

void rbgv_admin_create(rbgv_admin_t *op);

/* for op->id, or for a new one: sets op->key, op->secret; -1: no OpenSSL */
int rbgv_admin_secret(rbgv_admin_t *op, const char *environment);


/* rbgv_admin_rotate.c */

void rbgv_admin_rotate(rbgv_admin_t *op);

/* ends the old secrets, or the new ones; or only sets op->rotation */
void rbgv_admin_rotation(rbgv_admin_t *op);

void rbgv_rotation_command(rbgv_admin_t *op);

/* -1: the reply is not one to that command */
int rbgv_rotation_read(rbgv_rotation_t *rotation, const redisReply *reply);


/* rbgv_admin_list.c */

void rbgv_admin_config(rbgv_admin_t *op);
void rbgv_admin_list(rbgv_admin_t *op);
void rbgv_admin_show(rbgv_admin_t *op);


/* rbgv_admin_audit.c */

void rbgv_admin_audit_command(rbgv_admin_t *op, const char *action);

/* the newest entries, op->limit of them */
void rbgv_admin_audit(rbgv_admin_t *op);


/* rbgv_cursor.c */

/* pages go by score; ids come out that are well formed, and how many */
void rbgv_cursor_start(rbgv_cursor_t *cursor);
void rbgv_cursor_command(rbgv_admin_t *op, const rbgv_cursor_t *cursor,
    size_t limit);
size_t rbgv_cursor_ids(rbgv_cursor_t *cursor, const redisReply *page,
    const char **ids, size_t limit);

#define RBGV_CURSOR_SIZE      64

/* for the next page; -1 if the text is not one */
void rbgv_cursor_text(const rbgv_cursor_t *cursor,
    char text[RBGV_CURSOR_SIZE]);
int rbgv_cursor_parse(rbgv_cursor_t *cursor, const char *text);


/* rbgv_change.c */

/* value NULL: the field stays, empty: it goes */
void rbgv_change_field(rbgv_change_t *change, const char *field,
    const char *value);
void rbgv_change_limits(rbgv_change_t *change, const rbgv_limits_t *limits);

/* gets what has happened, a rbgv_change_e, and two numbers about it */
void rbgv_change_command(rbgv_admin_t *op, const rbgv_change_t *change);


#endif /* _RBGV_ADMIN_H_INCLUDED_ */
