
/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * rbgvctl: completion.  The script is made of the tables that the command
 * line is parsed by.
 */


#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "rbgvctl.h"


static int rbgvctl_completion(rbgvctl_t *ctl, void *data, const char *arg);
static void rbgvctl_completion_commands(const char *separator);
static void rbgvctl_completion_values(const char *command,
    const rbgvctl_option_t *options);
static void rbgvctl_completion_names(const char *command,
    const rbgvctl_option_t *options);
static void rbgvctl_completion_choice(const char *arg);


static const char  rbgvctl_completion_begin[] =
    "# bash completion of rbgvctl\n"
    "\n"
    "_rbgvctl_words() {\n"
    "    mapfile -t COMPREPLY < <(compgen -W \"$1\" -- \"$2\")\n"
    "}\n"
    "\n"
    "_rbgvctl_files() {\n"
    "    compopt -o filenames 2>/dev/null\n"
    "    mapfile -t COMPREPLY < <(compgen -f -- \"$1\")\n"
    "}\n"
    "\n"
    "_rbgvctl() {\n"
    "    local cur=${COMP_WORDS[COMP_CWORD]} "
    "prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
    "    local command='' options='' i\n"
    "\n"
    "    COMPREPLY=()\n"
    "\n"
    "    # \"--name=value\" are three words\n"
    "    if [ \"$cur\" = '=' ]; then\n"
    "        cur=''\n"
    "    elif [ \"$prev\" = '=' ]; then\n"
    "        prev=${COMP_WORDS[COMP_CWORD - 2]}\n"
    "    fi\n"
    "\n"
    "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
    "        case ${COMP_WORDS[i]} in\n"
    "            ";

static const char  rbgvctl_completion_found[] =
    ")\n"
    "                command=${COMP_WORDS[i]}\n"
    "                break ;;\n"
    "        esac\n"
    "    done\n"
    "\n"
    "    case $command,$prev in\n";

static const char  rbgvctl_completion_options[] =
    "    esac\n"
    "\n"
    "    case $command in\n";

static const char  rbgvctl_completion_arguments[] =
    "    esac\n"
    "\n"
    "    case $command,$cur in\n"
    "        *,-*) _rbgvctl_words \"$options\" \"$cur\" ;;\n"
    "        ,*) _rbgvctl_words '";

static const char  rbgvctl_completion_end[] =
    "    esac\n"
    "}\n"
    "\n"
    "complete -F _rbgvctl rbgvctl\n";


const rbgvctl_command_t  rbgvctl_completion_command = {
    "completion", "bash",
    "Print a script that completes command lines",
    "Examples:\n"
    "  source <(rbgvctl completion bash)\n"
    "  rbgvctl completion bash \\\n"
    "      >/usr/share/bash-completion/completions/rbgvctl\n",
    NULL,
    0,
    rbgvctl_completion
};


static int
rbgvctl_completion(rbgvctl_t *ctl, void *data, const char *arg)
{
    size_t                    i;
    const rbgvctl_command_t  *command;

    (void) ctl;
    (void) data;

    if (strcmp(arg, "bash") != 0) {
        return rbgvctl_error(RBGVCTL_USAGE, "there is completion for bash "
                             "only, as in \"rbgvctl completion bash\"");
    }

    (void) fputs(rbgvctl_completion_begin, stdout);
    rbgvctl_completion_commands("|");

    (void) fputs(rbgvctl_completion_found, stdout);
    rbgvctl_completion_values("*", rbgvctl_options);

    for (i = 0; rbgvctl_commands[i] != NULL; i++) {
        command = rbgvctl_commands[i];
        rbgvctl_completion_values(command->name, command->options);
    }

    (void) fputs(rbgvctl_completion_options, stdout);

    for (i = 0; rbgvctl_commands[i] != NULL; i++) {
        command = rbgvctl_commands[i];
        rbgvctl_completion_names(command->name, command->options);
    }

    rbgvctl_completion_names("''", NULL);

    (void) fputs(rbgvctl_completion_arguments, stdout);
    rbgvctl_completion_commands(" ");
    (void) printf("' \"$cur\" ;;\n");

    for (i = 0; rbgvctl_commands[i] != NULL; i++) {
        command = rbgvctl_commands[i];

        if (command->arg != NULL) {
            (void) printf("        %s,*) ", command->name);
            rbgvctl_completion_choice(command->arg);
        }
    }

    (void) fputs(rbgvctl_completion_end, stdout);

    return RBGVCTL_OK;
}


static void
rbgvctl_completion_commands(const char *separator)
{
    size_t  i;

    for (i = 0; rbgvctl_commands[i] != NULL; i++) {
        (void) printf("%s%s", i ? separator : "", rbgvctl_commands[i]->name);
    }
}


static void
rbgvctl_completion_values(const char *command,
    const rbgvctl_option_t *options)
{
    for ( /* void */ ; options && options->name; options++) {
        if (options->arg != NULL) {
            (void) printf("        %s,--%s) ", command, options->name);
            rbgvctl_completion_choice(options->arg);
        }
    }
}


static void
rbgvctl_completion_names(const char *command,
    const rbgvctl_option_t *options)
{
    const rbgvctl_option_t  *common;

    (void) printf("        %s) options='", command);

    for ( /* void */ ; options && options->name; options++) {
        (void) printf("--%s ", options->name);
    }

    for (common = rbgvctl_options; common->name; common++) {
        (void) printf("%s--%s", common == rbgvctl_options ? "" : " ",
                      common->name);
    }

    (void) printf("' ;;\n");
}


/* "FILE", "PATH"; "csv|jsonl", "bash": as they are; else nothing is known */

static void
rbgvctl_completion_choice(const char *arg)
{
    if (strcmp(arg, "FILE") == 0 || strcmp(arg, "PATH") == 0) {
        (void) printf("_rbgvctl_files \"$cur\"; return ;;\n");
        return;
    }

    if (!islower((unsigned char) *arg)) {
        (void) printf("return ;;\n");
        return;
    }

    (void) printf("_rbgvctl_words '");

    for ( /* void */ ; *arg != '\0'; arg++) {
        (void) putchar(*arg == '|' ? ' ' : *arg);
    }

    (void) printf("' \"$cur\"; return ;;\n");
}
