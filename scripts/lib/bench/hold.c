
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Linked into a copy of the module by scripts/bench --zone, with
 * -Wl,--wrap=ngx_shmtx_lock,--wrap=ngx_shmtx_unlock: for how long the mutex of
 * the zone is held.  The figures are in a file that all workers map.
 */


#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>


/* as zone.pl unpacks it; counts[i]: held for less than 2^i nanoseconds */

typedef struct {
    uint64_t  count;
    uint64_t  total;                             /* nanoseconds */
    uint64_t  max;
    uint64_t  counts[40];
} hold_t;


void __real_ngx_shmtx_lock(void *mutex);
void __real_ngx_shmtx_unlock(void *mutex);


static hold_t    *hold;
static uint64_t   since;


static uint64_t
hold_now(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}


__attribute__((constructor))
static void
hold_init(void)
{
    int          fd;
    void        *p;
    const char  *path;

    path = getenv("BENCH_HOLD");
    if (path == NULL) {
        abort();
    }

    fd = open(path, O_RDWR|O_CREAT, 0600);

    if (fd == -1 || ftruncate(fd, sizeof(hold_t)) == -1) {
        abort();
    }

    p = mmap(NULL, sizeof(hold_t), PROT_READ|PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        abort();
    }

    (void) close(fd);

    hold = p;
}


void
__wrap_ngx_shmtx_lock(void *mutex)
{
    __real_ngx_shmtx_lock(mutex);
    since = hold_now();
}


void
__wrap_ngx_shmtx_unlock(void *mutex)
{
    int       i;
    uint64_t  held;

    /* the owner of the mutex is the only one who writes */

    held = hold_now() - since;

    hold->count++;
    hold->total += held;

    if (held > hold->max) {
        hold->max = held;
    }

    for (i = 0; i < 39 && held >> i; i++) {
        /* void */
    }

    hold->counts[i]++;

    __real_ngx_shmtx_unlock(mutex);
}
