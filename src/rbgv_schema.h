
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Names in Redis.  docs/redis.md describes the types and values.
 */


#ifndef _RBGV_SCHEMA_H_INCLUDED_
#define _RBGV_SCHEMA_H_INCLUDED_


#define RBGV_SCHEMA_VERSION    "1"

#define RBGV_PREFIX            "rbgv:"
#define RBGV_PREFIX_MAX        32

/* behind the prefix; "{", id, "}" follow the first three: one Cluster slot */

#define RBGV_KEY               "key:"
#define RBGV_USE               "use:"
#define RBGV_EVENTS            "events:"
#define RBGV_JOB               "job:"          /* + id of the job */
#define RBGV_KEYS              "keys"
#define RBGV_META              "meta"
#define RBGV_ENVIRONMENTS      "environments"
#define RBGV_ENVIRONMENT       "environment:"  /* + name */
#define RBGV_AUDIT             "audit"

/* fields of rbgv:meta */

#define RBGV_META_SCHEMA       "schema"

/* fields of rbgv:key:{id} */

#define RBGV_FIELD_NAME         "name"
#define RBGV_FIELD_ENVIRONMENT  "environment"
#define RBGV_FIELD_OWNER        "owner"
#define RBGV_FIELD_NOTE         "note"
#define RBGV_FIELD_STATUS       "status"
#define RBGV_FIELD_CREATED      "created"      /* seconds since the epoch */
#define RBGV_FIELD_EXPIRES      "expires"      /* likewise; none: never */
#define RBGV_FIELD_CREDITS      "credits"
#define RBGV_FIELD_LIMIT        "limit:"       /* + policy -> "600r/1m" */
#define RBGV_FIELD_SECRET       "secret:"      /* + digest in hex */
#define RBGV_FIELD_ROTATION     "rotation"     /* when it began, or none */
#define RBGV_FIELD_GRACE        "grace"        /* seconds, of a rotation */
#define RBGV_FIELD_ROTATED      "rotated"      /* when the last one ended */

/*
 * fields of rbgv:use:{id} that rbgvctl reads; a secret goes by 16 hex digits
 */

#define RBGV_USE_SECRET         "s:"           /* uses */
#define RBGV_USE_HOUR           "u:"           /* + hour, ":": uses */
#define RBGV_USE_LAST           "t:"           /* the second of the last */

/* fields of entries of rbgv:audit */

#define RBGV_AUDIT_ACTION       "action"
#define RBGV_AUDIT_KEY          "key"          /* id */
#define RBGV_AUDIT_NAME         "name"         /* of the key */
#define RBGV_AUDIT_BY           "by"
#define RBGV_AUDIT_SOURCE       "source"       /* "api" or "rbgvctl" */
#define RBGV_AUDIT_REQUEST      "request_id"

/*
 * A slice of a window, in microseconds for each second of it: 1/15.75, rounded
 * up.  What is granted in one may be used in the first quarter of the next:
 * no interval of a window's length has uses of more than 17.
 */

#define RBGV_SLICE             63493
#define RBGV_SLICES            17

/* the slices of a key begin so much earlier, by its phase of 0 to 1023 */

#define RBGV_PHASE(id)                                                        \
    (((id)[RBGV_ID_LEN - 2] * 64 + (id)[RBGV_ID_LEN - 1]) % 1024)
#define RBGV_SHIFT(id, slice)  ((slice) / 1024 * RBGV_PHASE(id))

/* a secret's value: "<status> <created> <expires or 0>" */

#define RBGV_ACTIVE            "active"
#define RBGV_DISABLED          "disabled"


#endif /* _RBGV_SCHEMA_H_INCLUDED_ */
