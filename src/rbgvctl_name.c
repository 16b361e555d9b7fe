
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: what a good name of a key is.
 */


#include <string.h>

#include "rbgvctl.h"


#define RBGVCTL_NAME_MIN    2
#define RBGVCTL_NAME_MAX    63


static int rbgvctl_name_stage(const char *word, size_t len);
static int rbgvctl_name_generic(const char *name, size_t len,
    const char *environment);
static int rbgvctl_name_empty_word(const char *word, size_t len);
static int rbgvctl_name_is(const char *word, size_t len, const char *text);


/* words of one row mean the same stage */

static const char  *rbgvctl_name_stages[][5] = {
    { "dev", "devel", "development", "local", NULL },
    { "test", "testing", "qa", NULL },
    { "stage", "staging", "stg", "preprod", NULL },
    { "prod", "production", "prd", "live", NULL }
};


static const char  *rbgvctl_name_words[] = {
    "abc", "api", "apikey", "asdf", "bar", "client", "customer", "default",
    "demo", "example", "foo", "key", "my", "name", "new", "old", "qwerty",
    "sample", "secret", "temp", "tests", "tmp", "token", "user", "xyz", NULL
};


int
rbgvctl_name_valid(const char *name)
{
    size_t  len;

    len = strlen(name);

    return len >= RBGVCTL_NAME_MIN
           && len <= RBGVCTL_NAME_MAX
           && name[0] != '-'
           && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}


rbgvctl_name_e
rbgvctl_name_check(const char *name, const char *environment)
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
        stage = rbgvctl_name_stage(last, strlen(last));

        if (!good && stage != -1
            && rbgvctl_name_stage(environment, strlen(environment)) != -1
            && rbgvctl_name_stage(environment, strlen(environment)) != stage)
        {
            return RBGVCTL_NAME_MISMATCH;
        }
    }

    if (rbgvctl_name_generic(name, len, environment)) {
        return RBGVCTL_NAME_GENERIC;
    }

    return good ? RBGVCTL_NAME_GOOD : RBGVCTL_NAME_SUFFIX;
}


static int
rbgvctl_name_stage(const char *word, size_t len)
{
    size_t  i, n;

    n = sizeof(rbgvctl_name_stages) / sizeof(rbgvctl_name_stages[0]);

    for (i = 0; i < n * 5; i++) {
        if (rbgvctl_name_stages[i / 5][i % 5] != NULL
            && rbgvctl_name_is(word, len, rbgvctl_name_stages[i / 5][i % 5]))
        {
            return i / 5;
        }
    }

    return -1;
}


/* 1 if none of its words says whose key it is */

static int
rbgvctl_name_generic(const char *name, size_t len, const char *environment)
{
    size_t       n;
    const char  *p;

    for (p = name; p <= name + len; p += n + 1) {
        n = strcspn(p, "-");

        if (!rbgvctl_name_empty_word(p, n)
            && !rbgvctl_name_is(p, n, environment))
        {
            return 0;
        }
    }

    return 1;
}


static int
rbgvctl_name_empty_word(const char *word, size_t len)
{
    size_t  i;

    /* "test1" is as good as "test" */

    while (len > 0 && word[len - 1] >= '0' && word[len - 1] <= '9') {
        len--;
    }

    if (len <= 1 || rbgvctl_name_stage(word, len) != -1) {
        return 1;
    }

    for (i = 0; rbgvctl_name_words[i] != NULL; i++) {
        if (rbgvctl_name_is(word, len, rbgvctl_name_words[i])) {
            return 1;
        }
    }

    return 0;
}


static int
rbgvctl_name_is(const char *word, size_t len, const char *text)
{
    return strlen(text) == len && memcmp(word, text, len) == 0;
}
