
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 */


/*
 * Sets the wall clock of a program: to the real one and as many seconds as
 * the file RBGV_CLOCK has, a number of 8 bytes that may change at any time.
 */


#define _GNU_SOURCE

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>


static volatile int64_t  *offset;


__attribute__((constructor))
static void
map_offset(void)
{
    int    fd;
    void  *p;

    fd = open(getenv("RBGV_CLOCK"), O_RDONLY);
    p = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);

    if (p == MAP_FAILED) {
        abort();
    }

    close(fd);
    offset = p;
}


int
clock_gettime(clockid_t clock, struct timespec *ts)
{
    int  rc;

    rc = syscall(SYS_clock_gettime, clock, ts);

    if (offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
    {
        ts->tv_sec += *offset;
    }

    return rc;
}


int
gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
    struct timespec  ts;

    (void) tz;

    clock_gettime(CLOCK_REALTIME, &ts);

    tv->tv_sec = ts.tv_sec;
    tv->tv_usec = ts.tv_nsec / 1000;

    return 0;
}


time_t
time(time_t *t)
{
    struct timespec  ts;

    clock_gettime(CLOCK_REALTIME, &ts);

    if (t) {
        *t = ts.tv_sec;
    }

    return ts.tv_sec;
}
