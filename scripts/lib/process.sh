# Processes that outlive the script that started them; sourced, not run.
# shellcheck shell=bash
#
# A record is a file with a pid and the clock tick its process began in: a
# pid that was given to another process since is not mistaken for it.

# nothing for a process that is gone or a zombie
began() {
    sed 's/.*) //' "/proc/$1/stat" 2>/dev/null \
        | awk '$1 != "Z" { print $20 }'
}


# start RECORD LOG COMMAND...: in a session of its own, which Ctrl-C on the
# terminal does not reach
start() {
    local record=$1 log=$2
    shift 2

    [ -e /proc/self/stat ] || die "/proc is not mounted"

    setsid "$@" </dev/null >>"$log" 2>&1 &
    echo "$! $(began $!)" >"$record"
}


# running RECORD
running() {
    local pid tick

    [ -e "$1" ] || return
    read -r pid tick <"$1"
    [ -n "$tick" ] && [ "$(began "$pid")" = "$tick" ]
}


# await SECONDS COMMAND...: until the command succeeds
await() {
    local deadline=$((SECONDS + $1))
    shift

    until "$@"; do
        [ $SECONDS -lt $deadline ] || return 1
        sleep 0.05
    done
}


# stop RECORD
stop() {
    local pid

    running "$1" || return 0

    read -r pid _ <"$1"
    kill "$pid" || return 0

    await 10 not running "$1" || kill -KILL -- "-$pid"
}


not() { ! "$@"; }
