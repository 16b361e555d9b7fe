# Shared by the scripts in scripts/; sourced, not run.
# shellcheck shell=bash

# shellcheck disable=SC2034
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
self=scripts/$(basename "$0")
# shellcheck disable=SC2034
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ngx_http_rbgv_auth

say() { printf '%s: %s\n' "$self" "$*" >&2; }
die() { say "$*"; exit 1; }


# Debian packages of this list that are not installed, one a line
missing_packages() {
    local package state

    for package; do
        state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) \
            || true
        [ "$state" = installed ] || echo "$package"
    done
}


need_packages() {
    local log missing

    command -v dpkg-query >/dev/null \
        || die "not a Debian system; these packages are needed: $*"

    mapfile -t missing < <(missing_packages "$@")
    [ ${#missing[@]} -gt 0 ] || return 0

    [ "$EUID" -eq 0 ] \
        || die "missing packages; as root: apt-get install ${missing[*]}"

    say "installing ${missing[*]}"
    log=$(mktemp)

    if ! install_packages "${missing[@]}" >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        rm -f "$log"
        die "cannot install: ${missing[*]}"
    fi

    rm -f "$log"
}


# With policy-rc.d saying 101, packages do not start their services.
install_packages() (
    policy=/usr/sbin/policy-rc.d

    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi

    export DEBIAN_FRONTEND=noninteractive

    apt-get update </dev/null \
        && apt-get install -y --no-install-recommends \
               -o DPkg::Lock::Timeout=300 "$@" </dev/null
)
