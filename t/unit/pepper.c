
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Tests for files of one line, the pepper's above all.
 */


#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rbgv_key.h"
#include "tap.h"


#define P16  "0123456789abcdef"


typedef struct {
    const char     *content;
    const char     *line;              /* NULL: refused */
} line_test_t;


/* read into a buffer of 24 bytes */

static const line_test_t  lines[] = {
    { P16, P16 },
    { P16 "\n", P16 },
    { P16 "\r\n", P16 },
    { P16 "\n\n", P16 },
    { P16 "\nsecond line", P16 },
    { " \t" P16 " \t\r\n", P16 },
    { "in side\n", "in side" },
    { "", "" },
    { "\n", "" },
    { " \t \r\n" P16, "" },
    { "\n" P16, "" },
    { P16 "1234567", P16 "1234567" },
    { P16 "1234567\n", P16 "1234567" },
    { P16 "12345678", NULL },
    { P16 "12345678\n", NULL },
    { "                        " P16, NULL }
};


static char  file[] = "/tmp/rbgv-unit-XXXXXX/file";
static char  dir[sizeof(file)];


static void
put(const char *content, size_t len)
{
    int  fd;

    fd = open(file, O_WRONLY|O_CREAT|O_TRUNC, 0600);

    if (fd == -1 || write(fd, content, len) != (ssize_t) len
        || close(fd) == -1)
    {
        abort();
    }
}


static void
test_line(void)
{
    int          len, i;
    char        *line;
    const char  *err;

    for (i = 0; i < (int) (sizeof(lines) / sizeof(lines[0])); i++) {
        put(lines[i].content, strlen(lines[i].content));

        line = malloc(24);
        memset(line, 'x', 24);
        err = NULL;

        len = rbgv_line_read(file, line, 24, &err);

        ok(lines[i].line
           ? len == (int) strlen(lines[i].line)
             && strcmp(line, lines[i].line) == 0
           : len == -1 && strcmp(err, "its first line is too long") == 0,
           "line %d: %d", i, len);

        if (len == -1) {
            ok(memchr(line, '0', 24) == NULL && memchr(line, '1', 24) == NULL,
               "line %d: nothing is left in memory", i);
        }

        free(line);
    }
}


/* a line that comes in two parts, unless this process is late */

static void
test_pipe(void)
{
    int          fd, len;
    char         line[64];
    pid_t        pid;
    const char  *err;

    (void) unlink(file);

    if (mkfifo(file, 0600) == -1) {
        abort();
    }

    pid = fork();

    if (pid == 0) {
        fd = open(file, O_WRONLY);
        (void) !write(fd, P16, 8);
        usleep(20000);
        (void) !write(fd, P16 "\n", 17);
        _exit(0);
    }

    len = rbgv_line_read(file, line, sizeof(line), &err);

    ok(len == 24 && strcmp(line, "01234567" P16) == 0, "a pipe");

    (void) waitpid(pid, NULL, 0);
    (void) unlink(file);
}


static void
test_pepper(void)
{
    int             i;
    char            content[700];
    const char     *err;
    unsigned char   pepper[RBGV_PEPPER_MAX];

    static const struct {
        int          len;
        const char  *err;
    } lengths[] = {
        { 0, "shorter than 16" },
        { 15, "shorter than 16" },
        { 16, NULL },
        { 512, NULL },
        { 513, "longer than 512" },
        { 639, "longer than 512" },
        { 640, "too long" },
        { 700, "too long" }
    };

    memset(content, 'p', sizeof(content));

    for (i = 0; i < (int) (sizeof(lengths) / sizeof(lengths[0])); i++) {
        put(content, lengths[i].len);
        err = NULL;

        ok(lengths[i].err
           ? rbgv_pepper_read(file, pepper, &err) == -1
             && strstr(err, lengths[i].err) != NULL
           : rbgv_pepper_read(file, pepper, &err) == lengths[i].len
             && memcmp(pepper, content, lengths[i].len) == 0,
           "pepper of %d characters: %s", lengths[i].len, err ? err : "good");
    }

    ok(rbgv_pepper_read("/tmp/rbgv-unit-none", pepper, &err) == -1
       && strcmp(err, strerror(ENOENT)) == 0, "no file");
    ok(rbgv_pepper_read(dir, pepper, &err) == -1
       && strcmp(err, strerror(EISDIR)) == 0, "a directory");
}


static void
test_create(void)
{
    int             i;
    mode_t          mask;
    const char     *err;
    struct stat     st;
    unsigned char   first[RBGV_PEPPER_MAX], second[RBGV_PEPPER_MAX];

    (void) unlink(file);
    mask = umask(0);

    ok(rbgv_pepper_create(file) == 0, "a new pepper");

    (void) umask(mask);

    ok(stat(file, &st) == 0 && st.st_size == 65
       && (st.st_mode & 07777) == 0600, "whole, and for its owner only");

    ok(rbgv_pepper_read(file, first, &err) == 64, "can be read");

    for (i = 0; i < 64 && strchr("0123456789abcdef", first[i]); i++) {
        /* void */
    }

    ok(i == 64, "in hex, up to %d", i);

    ok(rbgv_pepper_create(file) == -1 && errno == EEXIST
       && rbgv_pepper_read(file, second, &err) == 64
       && memcmp(first, second, 64) == 0, "never replaced");

    (void) unlink(file);

    ok(rbgv_pepper_create(file) == 0
       && rbgv_pepper_read(file, second, &err) == 64
       && memcmp(first, second, 64) != 0, "not the same again");

    (void) unlink(file);

    ok(rmdir(dir) == 0, "nothing else is left behind");

    ok(rbgv_pepper_create(file) == -1 && errno == ENOENT, "no directory");
}


int
main(void)
{
    memcpy(dir, file, sizeof("/tmp/rbgv-unit-XXXXXX") - 1);

    if (mkdtemp(dir) == NULL) {
        return 1;
    }

    memcpy(file, dir, strlen(dir));

    test_line();
    test_pipe();
    test_pepper();
    test_create();

    return done();
}
