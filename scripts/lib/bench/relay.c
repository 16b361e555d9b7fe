
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * A server that is farther away: passes on what comes on one unix socket to
 * another and back, each way after so many microseconds.
 *
 *     relay LISTEN TO MICROSECONDS
 */


#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>


#define RELAY_SOCKETS  65536
#define RELAY_BYTES    65536


typedef struct relay_piece_s  relay_piece_t;

struct relay_piece_s {
    relay_piece_t  *next;
    uint64_t        due;                         /* nanoseconds */
    size_t          len;                         /* 0: the sender has ended */
    int             to;
    char            bytes[];
};


static void relay_loop(int server, const char *to);
static void relay_watch(int fd);
static void relay_accept(int server, const char *to);
static int relay_connect(const char *path);
static int relay_listen(const char *path);
static void relay_address(struct sockaddr_un *sa, const char *path);
static void relay_read(int fd);
static void relay_pass_due(void);
static void relay_pass(relay_piece_t *piece);
static void relay_wake(uint64_t due);
static uint64_t relay_now(void);
static void relay_fail(const char *what);


static int              relay_poll;
static int              relay_timer;
static uint64_t         relay_delay;
static relay_piece_t   *relay_first;             /* all wait for as long */
static relay_piece_t  **relay_last = &relay_first;
static int              relay_peer[RELAY_SOCKETS];
static char             relay_ended[RELAY_SOCKETS];


int
main(int argc, char **argv)
{
    int  server;

    if (argc != 4) {
        fprintf(stderr, "usage: relay LISTEN TO MICROSECONDS\n");
        return 2;
    }

    signal(SIGPIPE, SIG_IGN);

    relay_delay = strtoull(argv[3], NULL, 10) * 1000;
    relay_poll = epoll_create1(0);
    relay_timer = timerfd_create(CLOCK_MONOTONIC, 0);

    if (relay_poll == -1 || relay_timer == -1) {
        relay_fail("epoll");
    }

    server = relay_listen(argv[1]);

    relay_watch(server);
    relay_watch(relay_timer);
    relay_loop(server, argv[2]);

    return 0;
}


static void
relay_loop(int server, const char *to)
{
    int                 i, n, fd;
    uint64_t            times;
    struct epoll_event  events[512];

    for ( ;; ) {
        n = epoll_wait(relay_poll, events, 512, -1);

        for (i = 0; i < n; i++) {
            fd = events[i].data.fd;

            if (fd == server) {
                relay_accept(server, to);

            } else if (fd == relay_timer) {
                (void) !read(fd, &times, sizeof(times));

            } else {
                relay_read(fd);
            }
        }

        relay_pass_due();
    }
}


static void
relay_watch(int fd)
{
    struct epoll_event  event;

    memset(&event, 0, sizeof(event));

    event.events = EPOLLIN;
    event.data.fd = fd;

    if (epoll_ctl(relay_poll, EPOLL_CTL_ADD, fd, &event) == -1) {
        relay_fail("epoll_ctl");
    }
}


static void
relay_accept(int server, const char *to)
{
    int  client, peer;

    client = accept(server, NULL, NULL);
    peer = relay_connect(to);

    if (client == -1 || client >= RELAY_SOCKETS || peer >= RELAY_SOCKETS) {
        relay_fail("accept");
    }

    relay_peer[client] = peer;
    relay_peer[peer] = client;
    relay_ended[client] = relay_ended[peer] = 0;

    relay_watch(client);
    relay_watch(peer);
}


static int
relay_connect(const char *path)
{
    int                 fd;
    struct sockaddr_un  sa;

    relay_address(&sa, path);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);

    if (fd == -1 || connect(fd, (struct sockaddr *) &sa, sizeof(sa)) == -1) {
        relay_fail(path);
    }

    return fd;
}


static int
relay_listen(const char *path)
{
    int                 fd;
    struct sockaddr_un  sa;

    relay_address(&sa, path);
    umask(0);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);

    if (fd == -1
        || bind(fd, (struct sockaddr *) &sa, sizeof(sa)) == -1
        || listen(fd, SOMAXCONN) == -1)
    {
        relay_fail(path);
    }

    return fd;
}


static void
relay_address(struct sockaddr_un *sa, const char *path)
{
    memset(sa, 0, sizeof(*sa));

    sa->sun_family = AF_UNIX;
    snprintf(sa->sun_path, sizeof(sa->sun_path), "%s", path);
}


static void
relay_read(int fd)
{
    ssize_t         n;
    relay_piece_t  *piece;

    static char     buffer[RELAY_BYTES];

    n = read(fd, buffer, sizeof(buffer));

    if (n <= 0) {
        n = 0;
        (void) epoll_ctl(relay_poll, EPOLL_CTL_DEL, fd, NULL);
    }

    piece = malloc(sizeof(*piece) + n);
    if (piece == NULL) {
        relay_fail("malloc");
    }

    piece->next = NULL;
    piece->due = relay_now() + relay_delay;
    piece->len = n;
    piece->to = relay_peer[fd];
    memcpy(piece->bytes, buffer, n);

    *relay_last = piece;
    relay_last = &piece->next;
}


static void
relay_pass_due(void)
{
    uint64_t        now;
    relay_piece_t  *piece;

    now = relay_now();

    while (relay_first && relay_first->due <= now) {
        piece = relay_first;
        relay_first = piece->next;

        if (relay_first == NULL) {
            relay_last = &relay_first;
        }

        relay_pass(piece);
        free(piece);
    }

    if (relay_first) {
        relay_wake(relay_first->due);
    }
}


static void
relay_pass(relay_piece_t *piece)
{
    int      peer;
    size_t   sent;
    ssize_t  n;

    for (sent = 0; sent < piece->len; sent += n) {
        n = write(piece->to, piece->bytes + sent, piece->len - sent);
        if (n <= 0) {
            return;
        }
    }

    if (piece->len) {
        return;
    }

    peer = relay_peer[piece->to];
    relay_ended[peer] = 1;

    (void) shutdown(piece->to, SHUT_WR);

    if (relay_ended[piece->to]) {
        (void) close(piece->to);
        (void) close(peer);
    }
}


static void
relay_wake(uint64_t due)
{
    struct itimerspec  when;

    memset(&when, 0, sizeof(when));

    when.it_value.tv_sec = due / 1000000000;
    when.it_value.tv_nsec = due % 1000000000;

    (void) timerfd_settime(relay_timer, TFD_TIMER_ABSTIME, &when, NULL);
}


static uint64_t
relay_now(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}


static void
relay_fail(const char *what)
{
    perror(what);
    exit(1);
}
