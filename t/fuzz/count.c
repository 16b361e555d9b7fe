
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * src/rbgv_count.lua in a Redis of its own: whatever a hash holds, and however
 * a key is used, the reply has the form that the module takes, and grants no
 * more than was asked for; and from an empty hash, no more than the quota.
 *
 * The input is numbers, least significant byte first: those of the key, its
 * fields if they are not empty, and then those of each call.
 */


#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

#include "fuzz.h"
#include "rbgv_count_lua.h"
#include "rbgv_limit.h"
#include "rbgv_schema.h"


#define FUZZ_SOCKET   "redis.sock"
#define FUZZ_KEY      "rbgv:use:{0123456789Ab}"
#define FUZZ_SECRET   "0123456789abcdef"
#define FUZZ_START    INT64_C(1700000000000000)          /* microseconds */
#define FUZZ_WINDOWS  2
#define FUZZ_CALLS    12
#define FUZZ_ARGS     48
#define FUZZ_ARG      128              /* bytes */

/* of a key */

#define FUZZ_TWO      0x01             /* windows */
#define FUZZ_PRICE    0x02
#define FUZZ_FIELDS   0x04             /* the hash is not empty */

/* of a call */

#define FUZZ_AGAIN    0x01
#define FUZZ_SPARE    0x02
#define FUZZ_REFUND   0x04
#define FUZZ_HOURS    0x08
#define FUZZ_LIMITED  0x10
#define FUZZ_BACK     0x20             /* the clock was set back */
#define FUZZ_UNUSED   0x40             /* permits are given back */
#define FUZZ_LONG     0x80             /* after the last call */


typedef struct {
    const uint8_t   *p;
    const uint8_t   *last;
} fuzz_input_t;


typedef struct {
    unsigned         flags;
    unsigned         nwindows;
    rbgv_limit_t     windows[FUZZ_WINDOWS];
    unsigned         price;
    unsigned         balance;
} fuzz_key_t;


typedef struct {
    unsigned         flags;
    int64_t          time;
    unsigned         need;
    unsigned         want;
    unsigned         cost;
    int64_t          lead;
    unsigned         unused;
    int64_t          given;
    int64_t          granted;          /* as was answered */
} fuzz_call_t;


typedef struct {
    int              argc;
    const char      *argv[FUZZ_ARGS];
    size_t           argvlen[FUZZ_ARGS];
    char             text[FUZZ_ARGS][FUZZ_ARG];
} fuzz_args_t;


int LLVMFuzzerInitialize(int *argc, char ***argv);

static void fuzz_stop(void);
static void fuzz_load(void);
static void fuzz_read_key(fuzz_input_t *input, fuzz_key_t *key);
static void fuzz_set_fields(fuzz_input_t *input, const fuzz_key_t *key);
static void fuzz_set_field(fuzz_input_t *input, const char *name,
    size_t max);
static void fuzz_read_call(fuzz_input_t *input, const fuzz_key_t *key,
    fuzz_call_t *call, int64_t now);
static void fuzz_send_call(const fuzz_key_t *key, const fuzz_call_t *call);
static void fuzz_integers(fuzz_args_t *args, const fuzz_key_t *key,
    const fuzz_call_t *call);
static void fuzz_arg(fuzz_args_t *args, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static void fuzz_check_call(const fuzz_key_t *key, fuzz_call_t *call);
static void fuzz_check_error(const fuzz_key_t *key, const char *error);
static void fuzz_check_quota(const fuzz_key_t *key, const fuzz_call_t *calls,
    unsigned n);
static int64_t fuzz_number(fuzz_input_t *input, unsigned bytes);
static redisReply *fuzz_reply(void);
static void fuzz_drop_reply(void);
static void fuzz_feature(unsigned kind, int64_t n);


/* libFuzzer keeps what has new ones, since it can't look into the script */

__attribute__((section("__libfuzzer_extra_counters")))
static uint8_t  fuzz_features[16 * 64];

static const uint32_t  fuzz_seconds[] = { 1, 2, 60, 3600, 86400, 31622400 };

static pid_t          fuzz_server;
static redisContext  *fuzz_redis;
static char           fuzz_script[64];           /* its SHA-1 */


int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
    int  i;

    fuzz_server = fork();

    if (fuzz_server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execlp("redis-server", "redis-server", "--port", "0", "--save", "",
               "--unixsocket", FUZZ_SOCKET, "--logfile", "redis.log", NULL);
        _exit(1);
    }

    atexit(fuzz_stop);

    for (i = 0; i < 3000; i++) {
        fuzz_redis = redisConnectUnix(FUZZ_SOCKET);

        if (fuzz_redis && fuzz_redis->err == 0) {
            fuzz_load();
            return 0;
        }

        redisFree(fuzz_redis);
        usleep(10000);
    }

    fuzz_check(0, "redis-server starts");

    return 1;
}


static void
fuzz_stop(void)
{
    kill(fuzz_server, SIGKILL);
    waitpid(fuzz_server, NULL, 0);
}


/* the clock comes as KEYS[2] and KEYS[3] */

static void
fuzz_load(void)
{
    char        *script, *p;
    redisReply  *reply;

    static const char  clock[] = "call('TIME')";
    static const char  ours[] = "{KEYS[2],KEYS[3]}";

    p = strstr(RBGV_COUNT_LUA, clock);
    fuzz_check(p != NULL, "the script asks for the time");

    script = malloc(sizeof(RBGV_COUNT_LUA) + sizeof(ours));
    fuzz_check(script != NULL, "memory");

    (void) sprintf(script, "%.*s%s%s", (int) (p - RBGV_COUNT_LUA),
                   RBGV_COUNT_LUA, ours, p + sizeof(clock) - 1);

    reply = redisCommand(fuzz_redis, "SCRIPT LOAD %s", script);
    fuzz_check(reply && reply->type == REDIS_REPLY_STRING,
               "the script is loaded");

    (void) snprintf(fuzz_script, sizeof(fuzz_script), "%s", reply->str);

    freeReplyObject(reply);
    free(script);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int64_t       now;
    unsigned      i, n;
    fuzz_key_t    key;
    fuzz_call_t   calls[FUZZ_CALLS];
    fuzz_input_t  input;

    input.p = data;
    input.last = data + size;

    memset(fuzz_features, 0, sizeof(fuzz_features));

    redisAppendCommand(fuzz_redis, "DEL %s", FUZZ_KEY);
    fuzz_drop_reply();

    fuzz_read_key(&input, &key);

    if (key.flags & FUZZ_FIELDS) {
        fuzz_set_fields(&input, &key);
    }

    now = FUZZ_START;

    for (n = 0; n < FUZZ_CALLS && input.p < input.last; n++) {
        fuzz_read_call(&input, &key, &calls[n], now);
        fuzz_send_call(&key, &calls[n]);

        now = calls[n].time;
    }

    for (i = 0; i < n; i++) {
        fuzz_check_call(&key, &calls[i]);
    }

    if (!(key.flags & FUZZ_FIELDS)) {
        fuzz_check_quota(&key, calls, n);
    }

    return 0;
}


static void
fuzz_read_key(fuzz_input_t *input, fuzz_key_t *key)
{
    unsigned  i;

    key->flags = fuzz_number(input, 1);
    key->nwindows = (key->flags & FUZZ_TWO) ? 2 : 1;

    for (i = 0; i < key->nwindows; i++) {
        key->windows[i].window = fuzz_seconds[fuzz_number(input, 1) % 6];
        key->windows[i].quota = 1 + fuzz_number(input, 4) % RBGV_QUOTA_MAX;
    }

    key->price = (key->flags & FUZZ_PRICE) ? 1 + fuzz_number(input, 1) : 0;
    key->balance = key->price ? fuzz_number(input, 4) : 0;
}


static void
fuzz_set_fields(fuzz_input_t *input, const fuzz_key_t *key)
{
    char      name[32];
    unsigned  i;

    for (i = 0; i < key->nwindows; i++) {
        (void) sprintf(name, "w:p%u:%u", i, key->windows[i].window);
        fuzz_set_field(input, name, 16);

        name[0] = 'h';
        fuzz_set_field(input, name, 64);
    }

    fuzz_set_field(input, "credits", 16);
    fuzz_set_field(input, "s:" FUZZ_SECRET, 16);
}


/* a length, a little more than the longest at most, and the value */

static void
fuzz_set_field(fuzz_input_t *input, const char *name, size_t max)
{
    size_t  len;

    len = fuzz_number(input, 1) % (max + 8);

    if (len > (size_t) (input->last - input->p)) {
        len = input->last - input->p;
    }

    if (len) {
        redisAppendCommand(fuzz_redis, "HSET %s %s %b", FUZZ_KEY, name,
                           input->p, len);
        fuzz_drop_reply();
    }

    input->p += len;
}


static void
fuzz_read_call(fuzz_input_t *input, const fuzz_key_t *key, fuzz_call_t *call,
    int64_t now)
{
    int64_t   after, slice;
    unsigned  i;

    slice = INT64_MAX;

    for (i = 0; i < key->nwindows; i++) {
        if (key->windows[i].window * (int64_t) RBGV_SLICE < slice) {
            slice = key->windows[i].window * (int64_t) RBGV_SLICE;
        }
    }

    call->flags = fuzz_number(input, 1);

    after = fuzz_number(input, 2);
    after = (call->flags & FUZZ_LONG) ? after * slice / 1024 : after * 64;

    call->time = (call->flags & FUZZ_BACK) ? now - after : now + after;
    call->need = fuzz_number(input, 1);
    call->want = call->need + fuzz_number(input, 1);
    call->cost = fuzz_number(input, 1);
    call->lead = fuzz_number(input, 1) * slice / 64;
    call->unused = 0;
    call->given = 0;

    if (call->flags & FUZZ_UNUSED) {
        call->unused = 1 + fuzz_number(input, 1);
        call->given = call->time - fuzz_number(input, 2) * slice / 1024;
    }
}


static void
fuzz_send_call(const fuzz_key_t *key, const fuzz_call_t *call)
{
    unsigned     i;
    fuzz_args_t  args;

    args.argc = 0;

    fuzz_arg(&args, "EVALSHA");
    fuzz_arg(&args, "%s", fuzz_script);
    fuzz_arg(&args, "3");
    fuzz_arg(&args, "%s", FUZZ_KEY);
    fuzz_arg(&args, "%lld", (long long) call->time / 1000000);
    fuzz_arg(&args, "%lld", (long long) call->time % 1000000);

    fuzz_integers(&args, key, call);
    fuzz_arg(&args, "s:" FUZZ_SECRET);

    for (i = 0; i < key->nwindows; i++) {
        fuzz_arg(&args, "w:p%u:%u", i, key->windows[i].window);
    }

    fuzz_arg(&args, "%s%s%s%s%sprice=%u balance=%u",
             (call->flags & FUZZ_AGAIN) ? "again=1 " : "",
             (call->flags & FUZZ_SPARE) ? "spare=1 " : "",
             (call->flags & FUZZ_REFUND) ? "refund=3 " : "",
             (call->flags & FUZZ_HOURS) ? "hours=1 " : "",
             (call->flags & FUZZ_LIMITED) ? "limited=2 " : "",
             key->price, key->balance);

    redisAppendCommandArgv(fuzz_redis, args.argc, args.argv, args.argvlen);
}


static void
fuzz_integers(fuzz_args_t *args, const fuzz_key_t *key,
    const fuzz_call_t *call)
{
    size_t    len;
    unsigned  i;
    uint64_t  integers[8 + 2 * FUZZ_WINDOWS];

    integers[0] = call->need;
    integers[1] = call->want;
    integers[2] = call->cost;
    integers[3] = call->lead;
    integers[4] = call->unused;
    integers[5] = call->given;
    integers[6] = 1;
    integers[7] = 0;

    for (i = 0; i < key->nwindows; i++) {
        integers[8 + 2 * i] = key->windows[i].quota;
        integers[9 + 2 * i] = key->windows[i].window;
    }

    len = (8 + 2 * key->nwindows) * sizeof(uint64_t);

    for (i = 0; i < len; i++) {
        args->text[args->argc][i] = (char) (integers[i / 8] >> i % 8 * 8);
    }

    args->argv[args->argc] = args->text[args->argc];
    args->argvlen[args->argc++] = len;
}


static void
fuzz_arg(fuzz_args_t *args, const char *fmt, ...)
{
    int      len;
    va_list  ap;

    fuzz_check(args->argc < FUZZ_ARGS, "there is room for the arguments");

    va_start(ap, fmt);
    len = vsnprintf(args->text[args->argc], FUZZ_ARG, fmt, ap);
    va_end(ap);

    fuzz_check(len >= 0 && len < FUZZ_ARG, "an argument has room");

    args->argv[args->argc] = args->text[args->argc];
    args->argvlen[args->argc++] = len;
}


/* what ngx_http_rbgv_auth_charge_handler() takes */

static void
fuzz_check_call(const fuzz_key_t *key, fuzz_call_t *call)
{
    size_t       i;
    int64_t      n;
    redisReply  *reply;

    call->granted = 0;

    reply = fuzz_reply();

    if (reply->type == REDIS_REPLY_ERROR) {
        fuzz_check_error(key, reply->str);
        freeReplyObject(reply);
        return;
    }

    fuzz_check(reply->type == REDIS_REPLY_ARRAY
               && reply->elements == 4 + 2 * key->nwindows + (key->price > 0),
               "the reply has as many elements as are wanted");

    for (i = 0; i < reply->elements; i++) {
        n = reply->element[i]->integer;

        fuzz_check(reply->element[i]->type == REDIS_REPLY_INTEGER && n >= 0,
                   "a reply has no negative numbers");
        fuzz_feature(i, n);
    }

    call->granted = reply->element[0]->integer;

    fuzz_check(call->granted <= call->want, "no more is granted than asked");

    for (i = 0; i < key->nwindows; i++) {
        fuzz_check(call->granted * call->cost <= key->windows[i].quota,
                   "no more is granted than the quota");
        fuzz_check(reply->element[4 + 2 * i]->integer
                   <= key->windows[i].quota,
                   "no more is left than the quota");
    }

    freeReplyObject(reply);
}


/* docs/redis.md: a field that cannot be read */

static void
fuzz_check_error(const fuzz_key_t *key, const char *error)
{
    fuzz_check((key->flags & FUZZ_FIELDS)
               && (strstr(error, "data string too short") != NULL
                   || strstr(error, "perform arithmetic") != NULL),
               error);
}


/* without a lead and without permits that are given back */

static void
fuzz_check_quota(const fuzz_key_t *key, const fuzz_call_t *calls, unsigned n)
{
    int64_t   length, sum;
    unsigned  i, j, k;

    for (i = 0; i < n; i++) {
        if ((calls[i].flags & (FUZZ_BACK|FUZZ_UNUSED)) || calls[i].lead) {
            return;
        }
    }

    for (k = 0; k < key->nwindows; k++) {
        length = key->windows[k].window * INT64_C(1000000);

        for (i = 0; i < n; i++) {
            sum = 0;

            for (j = i; j < n && calls[j].time - calls[i].time <= length; j++)
            {
                sum += calls[j].granted * calls[j].cost;
            }

            fuzz_check(sum <= key->windows[k].quota,
                       "no interval has more than the quota");
        }
    }
}


/* 0 behind the end */

static int64_t
fuzz_number(fuzz_input_t *input, unsigned bytes)
{
    int64_t   n;
    unsigned  i;

    for (i = 0, n = 0; i < bytes && input->p < input->last; i++) {
        n |= (int64_t) *input->p++ << 8 * i;
    }

    return n;
}


static redisReply *
fuzz_reply(void)
{
    void  *reply;

    if (redisGetReply(fuzz_redis, &reply) != REDIS_OK) {
        fuzz_check(0, "redis-server stays");
    }

    return reply;
}


static void
fuzz_drop_reply(void)
{
    freeReplyObject(fuzz_reply());
}


/* the kind of a number and how large it is, by powers of 2 */

static void
fuzz_feature(unsigned kind, int64_t n)
{
    unsigned  bits;

    for (bits = 0; n; bits++) {
        n >>= 1;
    }

    fuzz_features[kind % 16 * 64 + bits % 64] = 1;
}
