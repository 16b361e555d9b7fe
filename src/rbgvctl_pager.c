
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: the terminal, and the pager in front of it.
 */


#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rbgvctl.h"


#define RBGVCTL_PAGER_DEFAULT  "less"
#define RBGVCTL_WIDTH          80      /* where there is no terminal */


static const char *rbgvctl_pager_command(void);
static int rbgvctl_pager_spawn(const char *command, int fd, pid_t *pid);


extern char  **environ;


/* of the pager that reads standard output, 0: none */

static pid_t   rbgvctl_pager_pid;
static size_t  rbgvctl_pager_width;


/*
 * Errors of it are not: without a pager, output goes to the terminal as it
 * is.
 */

void
rbgvctl_pager_start(const rbgvctl_t *ctl)
{
    int          fds[2];
    size_t       width;
    const char  *command;

    if (rbgvctl_pager_running() || ctl->json || !isatty(STDOUT_FILENO)) {
        return;
    }

    command = rbgvctl_pager_command();

    if (command == NULL || pipe(fds) == -1) {
        return;
    }

    (void) fcntl(fds[0], F_SETFD, FD_CLOEXEC);
    (void) fcntl(fds[1], F_SETFD, FD_CLOEXEC);

    width = rbgvctl_width();

    if (rbgvctl_pager_spawn(command, fds[0], &rbgvctl_pager_pid) != 0) {
        rbgvctl_pager_pid = 0;

    } else {
        rbgvctl_pager_width = width;

        (void) dup2(fds[1], STDOUT_FILENO);

        /* what is typed is meant for the pager */
        (void) signal(SIGINT, SIG_IGN);
        (void) signal(SIGQUIT, SIG_IGN);
    }

    (void) close(fds[0]);
    (void) close(fds[1]);
}


int
rbgvctl_pager_end(int status)
{
    int  unread;

    if (rbgvctl_pager_pid == 0) {
        return status;
    }

    unread = ferror(stdout);

    (void) fclose(stdout);

    while (waitpid(rbgvctl_pager_pid, NULL, 0) == -1 && errno == EINTR) {
        /* void */
    }

    return unread ? RBGVCTL_OK : status;
}


static const char *
rbgvctl_pager_command(void)
{
    const char  *pager, *term;

    term = getenv("TERM");

    if (term == NULL || strcmp(term, "dumb") == 0) {
        return NULL;
    }

    pager = getenv("PAGER");

    if (pager == NULL) {
        return RBGVCTL_PAGER_DEFAULT;
    }

    if (pager[0] == '\0' || strcmp(pager, "cat") == 0) {
        return NULL;
    }

    return pager;
}


static int
rbgvctl_pager_spawn(const char *command, int fd, pid_t *pid)
{
    int                          rc;
    char                        *argv[4];
    sigset_t                     signals;
    posix_spawnattr_t            attr;
    posix_spawn_file_actions_t   actions;

    /* not less than one screen, colours, and the screen stays */
    (void) setenv("LESS", "FRX", 0);
    (void) setenv("LV", "-c", 0);

    argv[0] = (char *) command;
    argv[1] = NULL;

    /* the shell would say that it is not there */

    if (strcmp(command, RBGVCTL_PAGER_DEFAULT) != 0) {
        argv[0] = "sh";
        argv[1] = "-c";
        argv[2] = (char *) command;
        argv[3] = NULL;
    }

    (void) sigemptyset(&signals);
    (void) sigaddset(&signals, SIGPIPE);

    if (posix_spawnattr_init(&attr) != 0) {
        return -1;
    }

    if (posix_spawn_file_actions_init(&actions) != 0) {
        (void) posix_spawnattr_destroy(&attr);
        return -1;
    }

    (void) posix_spawnattr_setsigdefault(&attr, &signals);
    (void) posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);

    rc = posix_spawn_file_actions_adddup2(&actions, fd, STDIN_FILENO);

    if (rc == 0) {
        rc = posix_spawnp(pid, argv[0], &actions, &attr, argv, environ);
    }

    (void) posix_spawn_file_actions_destroy(&actions);
    (void) posix_spawnattr_destroy(&attr);

    return rc;
}


int
rbgvctl_pager_running(void)
{
    return rbgvctl_pager_pid != 0;
}


int
rbgvctl_terminal(void)
{
    return rbgvctl_pager_running() || isatty(STDOUT_FILENO);
}


int
rbgvctl_colors(void)
{
    const char  *plain;

    plain = getenv("NO_COLOR");

    return rbgvctl_terminal() && (plain == NULL || plain[0] == '\0');
}


size_t
rbgvctl_width(void)
{
    struct winsize  size;

    if (rbgvctl_pager_running()) {
        return rbgvctl_pager_width;
    }

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == -1 || size.ws_col == 0) {
        return RBGVCTL_WIDTH;
    }

    return size.ws_col;
}


int
rbgvctl_utf8(void)
{
    return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}
