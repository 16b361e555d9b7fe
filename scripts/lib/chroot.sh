# Debian releases in directories of their own; sourced, not run.
# shellcheck shell=bash disable=SC2154
#
# A command in one of them has mounts and processes of its own, which end
# with it or with this shell, however that ends.  Nothing else is touched.


debian_suite() {
    case $1 in
        12)       echo bookworm ;;
        13)       echo trixie ;;
        testing)  echo testing ;;
        *)        die "no Debian $1 here: 12, 13, testing" ;;
    esac
}


# where this host has its packages from: mirror PATTERN, of a name of a suite
mirror() {
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' \
            'Created-By: Packages' \
        | awk -v pattern="$1" '$2 == "main" && $1 ~ pattern { uri = $3 }
                               END { print uri }'
}


# apt_sources RELEASE: for apt, by the mirrors of this host
apt_sources() {
    local suite security

    suite=$(debian_suite "$1")
    security=$(mirror '-security$')

    echo "deb $(mirror '^[^-]*$') $suite main"

    if [ "$1" != testing ] && [ -n "$security" ]; then
        echo "deb $security $suite-security main"
    fi
}


# bare_debian RELEASE: as debootstrap makes it; tells the directory
bare_debian() {
    local dir=$cache/debian-$1 suite log lock

    suite=$(debian_suite "$1")
    [ "$EUID" -eq 0 ] || die "a chroot is for root to make"
    need_packages debootstrap util-linux

    mkdir -p "$cache"
    exec {lock}>"$dir.lock"
    flock "$lock"

    if [ ! -d "$dir" ]; then
        log=$dir.log
        say "making $dir"
        rm -rf --one-file-system "$dir.new"

        unshare --mount debootstrap --variant=minbase "$suite" "$dir.new" \
                "$(mirror '^[^-]*$')" >"$log" 2>&1 \
            || { tail -n 5 "$log" >&2; die "debootstrap failed: $log"; }

        apt_sources "$1" >"$dir.new/etc/apt/sources.list"
        apt-config dump --format '%F "%v";%n' Acquire \
            | grep -v '^Acquire::IndexTargets' \
            >"$dir.new/etc/apt/apt.conf.d/99host"
        printf '%s\tlocalhost\n' 127.0.0.1 ::1 >"$dir.new/etc/hosts"
        mv "$dir.new" "$dir"
    fi

    exec {lock}>&-
    echo "$dir"
}


# copy_debian RELEASE NAME: the bare one, for one purpose; tells the directory
copy_debian() {
    local bare dir

    bare=$(bare_debian "$1")
    dir=$bare-$2

    if [ ! -d "$dir" ]; then
        rm -rf --one-file-system "$dir.new"
        cp -a "$bare" "$dir.new"
        mv "$dir.new" "$dir"
    fi

    echo "$dir"
}


# in_chroot DIR COMMAND...: with this repository, read-only, in /src, and a
# build/ of the chroot's own; with what the environment says to tests.  With
# NETWORK=none there is loopback only, and all of its ports are free.
in_chroot() {
    local options=(--mount --pid --fork --kill-child)

    if [ "${NETWORK-}" = none ]; then
        need_packages iproute2
        options+=(--net)
    fi

    mkdir -p "$root/build"

    setpriv --pdeathsig KILL unshare "${options[@]}" \
        "$root/scripts/lib/enter" "$root" "$@" <&0 &

    wait $!
}
