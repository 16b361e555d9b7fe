# What drives a browser on the console; sourced, not run.
# shellcheck shell=bash disable=SC2154

# Chromium, node and the modules of t/console, or a remark of what is missing:
# t/console.t skips itself then.
console_tools() {
    local modules=$root/t/console/node_modules
    local lock=$root/t/console/package-lock.json

    # in a chroot the repository cannot be written to
    [ -w "$root/t/console" ] || [ -e "$modules" ] || return 0

    [ -x /usr/bin/chromium ] || (need_packages chromium) || return 0
    command -v npm >/dev/null || (need_packages nodejs npm) || return 0

    [ "$modules/.package-lock.json" -nt "$lock" ] \
        || timeout 120 npm ci --prefix "$root/t/console" --ignore-scripts \
               --no-audit --no-fund --silent \
        || say "npm cannot install the modules of t/console"
}
