
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * What a good name of a key is.
 */


#include <string.h>

#include "rbgv_admin.h"


static int rbgv_name_stage(const char *word, size_t len);
static int rbgv_name_generic(const char *name, size_t len,
    const char *environment);
static int rbgv_name_empty_word(const char *word, size_t len);
static int rbgv_name_is(const char *word, size_t len, const char *text);


/* words of one row mean the same stage */

static const char  *rbgv_name_stages[][5] = {
    { "dev", "devel", "development", "local", NULL },
    { "test", "testing", "qa", NULL },
    { "stage", "staging", "stg", "preprod", NULL },
    { "prod", "production", "prd", "live", NULL }
};


static const char  *rbgv_name_words[] = {
    "abc", "api", "apikey", "asdf", "bar", "client", "customer", "default",
    "demo", "example", "foo", "key", "my", "name", "new", "old", "qwerty",
    "sample", "secret", "temp", "tests", "tmp", "token", "user", "xyz", NULL
};


int
rbgv_name_valid(const char *name)
{
    size_t  len;

    len = strlen(name);

    return len >= RBGV_NAME_MIN
           && len <= RBGV_NAME_MAX
           && name[0] != '-'
           && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}


rbgv_name_e
rbgv_name_check(const char *name, const char *environment)
{
    int          good, stage;
    size_t       len;
    const char  *last;

    len = strlen(name);
    last = strrchr(name, '-');
    good = 0;

    if (last != NULL) {
        last++;
        good = strcmp(last, environment) == 0;
        stage = rbgv_name_stage(last, strlen(last));

        if (!good && stage != -1
            && rbgv_name_stage(environment, strlen(environment)) != -1
            && rbgv_name_stage(environment, strlen(environment)) != stage)
        {
            return RBGV_NAME_MISMATCH;
        }
    }

    if (rbgv_name_generic(name, len, environment)) {
        return RBGV_NAME_GENERIC;
    }

    return good ? RBGV_NAME_GOOD : RBGV_NAME_SUFFIX;
}


const char *
rbgv_name_fault(rbgv_name_e verdict)
{
    switch (verdict) {

    case RBGV_NAME_GENERIC:
        return "does not say whose key it is";

    case RBGV_NAME_MISMATCH:
        return "is of another environment";

    default: /* RBGV_NAME_GOOD, RBGV_NAME_SUFFIX */
        return NULL;
    }
}


static int
rbgv_name_stage(const char *word, size_t len)
{
    size_t  i, n;

    n = sizeof(rbgv_name_stages) / sizeof(rbgv_name_stages[0]);

    for (i = 0; i < n * 5; i++) {
        if (rbgv_name_stages[i / 5][i % 5] != NULL
            && rbgv_name_is(word, len, rbgv_name_stages[i / 5][i % 5]))
        {
            return i / 5;
        }
    }

    return -1;
}


/* 1 if none of its words says whose key it is */

static int
rbgv_name_generic(const char *name, size_t len, const char *environment)
{
    size_t       n;
    const char  *p;

    for (p = name; p <= name + len; p += n + 1) {
        n = strcspn(p, "-");

        if (!rbgv_name_empty_word(p, n)
            && !rbgv_name_is(p, n, environment))
        {
            return 0;
        }
    }

    return 1;
}


static int
rbgv_name_empty_word(const char *word, size_t len)
{
    size_t  i;

    /* "test1" is as good as "test" */

    while (len > 0 && word[len - 1] >= '0' && word[len - 1] <= '9') {
        len--;
    }

    if (len <= 1 || rbgv_name_stage(word, len) != -1) {
        return 1;
    }

    for (i = 0; rbgv_name_words[i] != NULL; i++) {
        if (rbgv_name_is(word, len, rbgv_name_words[i])) {
            return 1;
        }
    }

    return 0;
}


static int
rbgv_name_is(const char *word, size_t len, const char *text)
{
    return strlen(text) == len && memcmp(word, text, len) == 0;
}
