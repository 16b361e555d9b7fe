
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: the command line.
 */


#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rbgvctl.h"


#define RBGVCTL_TIMEOUT      "5s"
#define RBGVCTL_TIMEOUT_MAX  3600      /* seconds */

/* values of getopt_long() for long options, beyond every short one */
#define RBGVCTL_LONG         256
#define RBGVCTL_LONG_MAX     64


static int rbgvctl_main(rbgvctl_t *ctl, int argc, char **argv);
static int rbgvctl_run(rbgvctl_t *ctl, const rbgvctl_command_t *command,
    int argc, char **argv);
static int rbgvctl_parse(rbgvctl_t *ctl, int argc, char **argv,
    const char *shorts, const rbgvctl_option_t *own, void *conf);
static size_t rbgvctl_long_options(struct option *longs, size_t n,
    const rbgvctl_option_t *options);
static int rbgvctl_parse_error(int c, char **argv);
static const rbgvctl_command_t *rbgvctl_find(const char *name);
static int rbgvctl_defaults(rbgvctl_t *ctl);
static const char *rbgvctl_environment(const char *value, const char *name);
static int rbgvctl_version(void);
static int rbgvctl_help(void);
static int rbgvctl_command_help(const rbgvctl_command_t *command);
static void rbgvctl_options_help(const rbgvctl_option_t *options);
static int rbgvctl_standard_streams(void);
static void rbgvctl_vnote(const char *fmt, va_list ap);


const rbgvctl_command_t  *rbgvctl_commands[] = {
    &rbgvctl_init_command,
    &rbgvctl_create_command,
    &rbgvctl_list_command,
    &rbgvctl_show_command,
    &rbgvctl_set_command,
    &rbgvctl_rotate_command,
    &rbgvctl_rotation_command,
    &rbgvctl_usage_command,
    &rbgvctl_review_command,
    &rbgvctl_disable_command,
    &rbgvctl_enable_command,
    &rbgvctl_delete_command,
    &rbgvctl_environments_command,
    &rbgvctl_audit_command,
    &rbgvctl_import_command,
    &rbgvctl_verify_command,
    &rbgvctl_completion_command,
    NULL
};


const rbgvctl_option_t  rbgvctl_options[] = {

    { "redis", "URI",
      rbgvctl_set_string,
      offsetof(rbgvctl_t, address),
      "the store, " RBGV_URI_DEFAULT " if not given" },

    { "password-file", "PATH",
      rbgvctl_set_string,
      offsetof(rbgvctl_t, password_file),
      "its first line is the password of the store" },

    { "pepper-file", "PATH",
      rbgvctl_set_string,
      offsetof(rbgvctl_t, pepper_file),
      "its first line is the pepper of the gateway" },

    { "prefix", "TEXT",
      rbgvctl_set_string,
      offsetof(rbgvctl_t, prefix),
      "of all names in the store, " RBGV_PREFIX " if not given" },

    { "timeout", "TIME",
      rbgvctl_set_string,
      offsetof(rbgvctl_t, timeout),
      "to wait for an answer, " RBGVCTL_TIMEOUT " if not given" },

    { "tls-ca-file", "PATH",
      rbgvctl_set_string,
      offsetof(rbgvctl_t, tls_ca_file),
      "certificates to trust with rediss://, else the system's" },

    { "tls-cert-file", "PATH",
      rbgvctl_set_string,
      offsetof(rbgvctl_t, tls_cert_file),
      "to be shown to the store" },

    { "tls-key-file", "PATH",
      rbgvctl_set_string,
      offsetof(rbgvctl_t, tls_key_file),
      "the private key of that certificate" },

    { "tls-server-name", "NAME",
      rbgvctl_set_string,
      offsetof(rbgvctl_t, tls_server_name),
      "in the store's certificate, if it is not the host" },

    { "tls-insecure", NULL,
      rbgvctl_set_flag,
      offsetof(rbgvctl_t, tls_insecure),
      "do not verify the certificate of the store" },

    { "json", NULL,
      rbgvctl_set_flag,
      offsetof(rbgvctl_t, json),
      "print JSON" },

    { "help", NULL,
      rbgvctl_set_flag,
      offsetof(rbgvctl_t, help),
      "print this text, or that of a command" },

    { "version", NULL,
      rbgvctl_set_flag,
      offsetof(rbgvctl_t, version),
      "print the version" },

    { NULL, NULL, NULL, 0, NULL }
};


int
main(int argc, char **argv)
{
    int        rc;
    rbgvctl_t  ctl;

    if (rbgvctl_standard_streams() == -1) {
        return RBGVCTL_REFUSED;
    }

    /* a lost peer or reader is an error of write() */
    (void) signal(SIGPIPE, SIG_IGN);

    (void) setlocale(LC_CTYPE, "");

    memset(&ctl, 0, sizeof(rbgvctl_t));

    rc = rbgvctl_main(&ctl, argc, argv);

    rbgvctl_store_close(&ctl);

    if (rc == RBGVCTL_OK && rbgvctl_flush() == -1) {
        rc = RBGVCTL_REFUSED;
    }

    return rbgvctl_pager_end(rc);
}


static int
rbgvctl_main(rbgvctl_t *ctl, int argc, char **argv)
{
    int                       n;
    const rbgvctl_command_t  *command;

    n = rbgvctl_parse(ctl, argc, argv, "+:h", NULL, NULL);
    if (n == -1) {
        return RBGVCTL_USAGE;
    }

    if (ctl->version) {
        return rbgvctl_version();
    }

    if (n == argc) {
        if (ctl->help) {
            return rbgvctl_help();
        }

        return rbgvctl_error(RBGVCTL_USAGE,
                             "no command; \"rbgvctl --help\" lists them");
    }

    command = rbgvctl_find(argv[n]);

    if (command == NULL) {
        return rbgvctl_error(RBGVCTL_USAGE, "unknown command \"%s\"; "
                             "\"rbgvctl --help\" lists them",
                             rbgvctl_quotable(argv[n]));
    }

    return rbgvctl_run(ctl, command, argc - n, argv + n);
}


static int
rbgvctl_run(rbgvctl_t *ctl, const rbgvctl_command_t *command, int argc,
    char **argv)
{
    int    n, rc;
    void  *conf;

    conf = calloc(1, command->conf_size + 1);
    if (conf == NULL) {
        return rbgvctl_error(RBGVCTL_REFUSED, "out of memory");
    }

    n = rbgvctl_parse(ctl, argc, argv, ":h", command->options, conf);

    if (n == -1) {
        rc = RBGVCTL_USAGE;

    } else if (ctl->version) {
        rc = rbgvctl_version();

    } else if (ctl->help) {
        rc = rbgvctl_command_help(command);

    } else if (n == argc && command->arg != NULL && command->arg[0] != '[') {
        rc = rbgvctl_error(RBGVCTL_USAGE, "%s needs its %s, as in "
                           "\"rbgvctl %s %s\"", command->name, command->arg,
                           command->name, command->arg);

    } else if (argc - n > (command->arg != NULL)) {
        rc = rbgvctl_error(RBGVCTL_USAGE, "\"%s\" is one argument too many; "
                           "see \"rbgvctl %s --help\"",
                           rbgvctl_quotable(argv[argc - 1]), command->name);

    } else {
        rc = rbgvctl_defaults(ctl);

        if (rc == RBGVCTL_OK) {
            rc = command->handler(ctl, conf, argv[n]);
        }
    }

    free(conf);

    return rc;
}


/* the index of the first argument that is no option, or -1 */

static int
rbgvctl_parse(rbgvctl_t *ctl, int argc, char **argv, const char *shorts,
    const rbgvctl_option_t *own, void *conf)
{
    int                      c;
    size_t                   common, n;
    const char              *err;
    struct option            longs[RBGVCTL_LONG_MAX];
    const rbgvctl_option_t  *option;

    memset(longs, 0, sizeof(longs));

    common = rbgvctl_long_options(longs, 0, rbgvctl_options);
    (void) rbgvctl_long_options(longs, common, own);

    opterr = 0;
    optind = 0;

    for ( ;; ) {
        c = getopt_long(argc, argv, shorts, longs, NULL);

        if (c == -1) {
            return optind;
        }

        if (c == 'h') {
            ctl->help = 1;
            continue;
        }

        if (c < RBGVCTL_LONG) {
            return rbgvctl_parse_error(c, argv);
        }

        n = c - RBGVCTL_LONG;
        option = n < common ? &rbgvctl_options[n] : &own[n - common];

        /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): one of "own" */
        err = option->set(n < common ? ctl : conf, option, optarg);

        if (err != NULL) {
            rbgvctl_note("--%s %s", option->name, err);
            return -1;
        }
    }
}


static size_t
rbgvctl_long_options(struct option *longs, size_t n,
    const rbgvctl_option_t *options)
{
    if (options == NULL) {
        return n;
    }

    for ( /* void */ ; options->name != NULL; options++, n++) {
        longs[n].name = options->name;
        longs[n].has_arg = options->arg ? required_argument : no_argument;
        longs[n].val = RBGVCTL_LONG + n;
    }

    return n;
}


static int
rbgvctl_parse_error(int c, char **argv)
{
    int          len;
    const char  *text;

    text = argv[optind - 1];

    /* what follows "=" may be a password */
    len = strcspn(text, "=");

    if (c == ':') {
        rbgvctl_note("%.*s needs a value", len, text);

    } else if (optopt >= RBGVCTL_LONG) {
        rbgvctl_note("%.*s takes no value", len, text);

    } else if (optopt != 0) {
        rbgvctl_note("unknown option \"-%c\"; see \"rbgvctl --help\"",
                     optopt);

    } else {
        rbgvctl_note("unknown option \"%.*s\"; those of a command follow it, "
                     "see \"rbgvctl COMMAND --help\"", len, text);
    }

    return -1;
}


static const rbgvctl_command_t *
rbgvctl_find(const char *name)
{
    size_t  i;

    for (i = 0; rbgvctl_commands[i] != NULL; i++) {
        if (strcmp(rbgvctl_commands[i]->name, name) == 0) {
            break;
        }
    }

    return rbgvctl_commands[i];
}


static int
rbgvctl_defaults(rbgvctl_t *ctl)
{
    size_t  len;

    ctl->password_file = rbgvctl_environment(ctl->password_file,
                                             "RBGV_PASSWORD_FILE");
    ctl->pepper_file = rbgvctl_environment(ctl->pepper_file,
                                           "RBGV_PEPPER_FILE");
    ctl->tls_ca_file = rbgvctl_environment(ctl->tls_ca_file,
                                           "RBGV_TLS_CA_FILE");
    ctl->tls_cert_file = rbgvctl_environment(ctl->tls_cert_file,
                                             "RBGV_TLS_CERT_FILE");
    ctl->tls_key_file = rbgvctl_environment(ctl->tls_key_file,
                                            "RBGV_TLS_KEY_FILE");
    ctl->tls_server_name = rbgvctl_environment(ctl->tls_server_name,
                                               "RBGV_TLS_SERVER_NAME");

    if (ctl->prefix == NULL) {
        ctl->prefix = RBGV_PREFIX;
    }

    len = strlen(ctl->prefix);

    if (len == 0 || len > RBGV_PREFIX_MAX
        || strspn(ctl->prefix, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                  "abcdefghijklmnopqrstuvwxyz0123456789:._-") != len)
    {
        return rbgvctl_error(RBGVCTL_USAGE, "--prefix \"%s\" is not 1 to %d "
                             "characters of [A-Za-z0-9:._-]", ctl->prefix,
                             RBGV_PREFIX_MAX);
    }

    if (ctl->timeout == NULL) {
        ctl->timeout = RBGVCTL_TIMEOUT;
    }

    ctl->seconds = rbgv_duration_parse(ctl->timeout, strlen(ctl->timeout));

    if (ctl->seconds < 1 || ctl->seconds > RBGVCTL_TIMEOUT_MAX) {
        return rbgvctl_error(RBGVCTL_USAGE, "--timeout \"%s\" is not a time "
                             "between 1s and 1h", ctl->timeout);
    }

    return RBGVCTL_OK;
}


static const char *
rbgvctl_environment(const char *value, const char *name)
{
    if (value == NULL) {
        value = getenv(name);
    }

    return (value != NULL && value[0] != '\0') ? value : NULL;
}


static int
rbgvctl_version(void)
{
    (void) printf("rbgvctl %s\n", RBGV_VERSION);

    return RBGVCTL_OK;
}


static int
rbgvctl_help(void)
{
    size_t  i;

    (void) printf("Usage: rbgvctl [OPTION...] COMMAND [OPTION...]\n\n"
                  "Manages the API keys of nginx with "
                  "ngx_http_rbgv_auth_module.\n\nCommands:\n");

    for (i = 0; rbgvctl_commands[i] != NULL; i++) {
        (void) printf("  %-30s%s\n", rbgvctl_commands[i]->name,
                      rbgvctl_commands[i]->summary);
    }

    (void) printf("\nOptions, before or behind the command:\n");

    rbgvctl_options_help(rbgvctl_options);

    (void) printf("\nEnvironment: RBGV_REDIS, RBGV_PASSWORD_FILE, "
                  "RBGV_PEPPER_FILE,\nRBGV_TLS_CA_FILE, "
                  "RBGV_TLS_CERT_FILE, RBGV_TLS_KEY_FILE,\n"
                  "RBGV_TLS_SERVER_NAME, PAGER, NO_COLOR.\n"
                  "A password is taken from RBGV_REDIS, from a file or from "
                  "a prompt, never\nfrom an argument.\n\n"
                  "Exit status: 0 done; 1 refused, not found, a file "
                  "failed, or a review has\nfound something; 2 wrong usage; "
                  "3 the store cannot be reached or used.\n\n"
                  "Examples:\n"
                  "  rbgvctl --pepper-file /etc/nginx/rbgv.pepper init\n"
                  "  rbgvctl create --help\n"
                  "  rbgvctl list --json\n");

    return RBGVCTL_OK;
}


static int
rbgvctl_command_help(const rbgvctl_command_t *command)
{
    (void) printf("Usage: rbgvctl %s%s%s [OPTION...]\n\n%s.\n",
                  command->name, command->arg ? " " : "",
                  command->arg ? command->arg : "", command->summary);

    if (command->options != NULL) {
        (void) printf("\nOptions:\n");
        rbgvctl_options_help(command->options);
    }

    (void) printf("\nOptions of every command:\n");

    rbgvctl_options_help(rbgvctl_options);

    (void) printf("\n%s", command->help);

    return RBGVCTL_OK;
}


static void
rbgvctl_options_help(const rbgvctl_option_t *options)
{
    int  len;

    for ( /* void */ ; options->name != NULL; options++) {
        len = printf("  --%s%s%s", options->name, options->arg ? " " : "",
                     options->arg ? options->arg : "");

        (void) printf("%*s%s\n", len < 31 ? 32 - len : 1, "", options->help);
    }
}


/*
 * A descriptor that is closed at the start would be the next to be opened:
 * what is meant for standard output would go to the store.
 */

static int
rbgvctl_standard_streams(void)
{
    int  fd;

    for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {

        if (fcntl(fd, F_GETFD) != -1) {
            continue;
        }

        /* the wrong way round, so that its use stays an error */

        if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY)
            != fd)
        {
            return -1;
        }
    }

    return 0;
}


const char *
rbgvctl_set_flag(void *conf, const rbgvctl_option_t *option,
    const char *value)
{
    (void) value;

    *(int *) ((char *) conf + option->offset) = 1;

    return NULL;
}


const char *
rbgvctl_set_string(void *conf, const rbgvctl_option_t *option,
    const char *value)
{
    const char  **p;

    p = (const char **) ((char *) conf + option->offset);

    if (*p != NULL) {
        return "is given twice";
    }

    if (value[0] == '\0') {
        return "needs a value";
    }

    *p = value;

    return NULL;
}


const char *
rbgvctl_set_list(void *conf, const rbgvctl_option_t *option,
    const char *value)
{
    rbgvctl_values_t  *list;

    list = (rbgvctl_values_t *) ((char *) conf + option->offset);

    if (list->nelts == RBGV_LIMITS_MAX) {
        return "is given too often";
    }

    list->elts[list->nelts++] = value;

    return NULL;
}


int
rbgvctl_number(const char *option, const char *value, int64_t min,
    int64_t max, int64_t *n)
{
    char       *end;
    long long   number;

    if (value == NULL) {
        return RBGVCTL_OK;
    }

    errno = 0;
    number = strtoll(value, &end, 10);

    if (value[0] < '0' || value[0] > '9' || *end != '\0' || errno != 0
        || number < min || number > max)
    {
        return rbgvctl_error(RBGVCTL_USAGE, "--%s \"%s\" is not a number "
                             "from %" PRId64 " to %" PRId64, option, value,
                             min, max);
    }

    *n = number;

    return RBGVCTL_OK;
}


void
rbgvctl_note(const char *fmt, ...)
{
    va_list  ap;

    va_start(ap, fmt);
    rbgvctl_vnote(fmt, ap);
    va_end(ap);
}


int
rbgvctl_error(int status, const char *fmt, ...)
{
    va_list  ap;

    va_start(ap, fmt);
    rbgvctl_vnote(fmt, ap);
    va_end(ap);

    return status;
}


static void
rbgvctl_vnote(const char *fmt, va_list ap)
{
    char  text[2048], *p;

    if (vsnprintf(text, sizeof(text), fmt, ap) < 0) {
        return;
    }

    for (p = text; *p != '\0'; p++) {
        if ((unsigned char) *p < ' ' || *p == 0x7f) {
            *p = '?';
        }
    }

    (void) fprintf(stderr, "rbgvctl: %s\n", text);
}


const char *
rbgvctl_quotable(const char *arg)
{
    /* keys of another system may be of any form, but are not short */

    if (strncmp(arg, "rbgv_", 5) == 0 || strlen(arg) > 2 * RBGV_ID_LEN) {
        return "...";
    }

    return arg;
}


int
rbgvctl_flush(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return 0;
    }

    /* somebody has seen enough */

    if (errno == EPIPE && rbgvctl_pager_running()) {
        return -1;
    }

    rbgvctl_note("cannot write to standard output: %s", strerror(errno));

    return -1;
}
