
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 */


/*
 * Lets an allocation of a program fail: the one after as many others as the
 * file RBGV_MALLOC has, a number of 8 bytes that counts down; at 0 none fails.
 */


#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>


extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);


static int64_t  *left;


__attribute__((constructor))
static void
map_left(void)
{
    int    fd;
    void  *p;

    fd = open(getenv("RBGV_MALLOC"), O_RDWR);
    p = mmap(NULL, sizeof(int64_t), PROT_READ|PROT_WRITE, MAP_SHARED, fd, 0);

    if (p == MAP_FAILED) {
        abort();
    }

    close(fd);
    left = p;
}


static int
fails(void)
{
    if (left == NULL || *left == 0 || --*left) {
        return 0;
    }

    errno = ENOMEM;

    return 1;
}


void *
malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}


void *
calloc(size_t n, size_t size)
{
    return fails() ? NULL : __libc_calloc(n, size);
}


void *
realloc(void *p, size_t size)
{
    return fails() ? NULL : __libc_realloc(p, size);
}


int
posix_memalign(void **p, size_t alignment, size_t size)
{
    *p = fails() ? NULL : __libc_memalign(alignment, size);

    return *p ? 0 : ENOMEM;
}
