# Sources of Debian's packages; sourced, not run.
# shellcheck shell=bash disable=SC2154


# debian_source PACKAGE: of the version that is installed, or, if that is not
# offered any more, another of the same upstream; tells the directory
debian_source() {
    local package=$1 version dir lock versions

    version=$(dpkg-query -W -f '${source:Version}' "$package")

    mkdir -p "$cache"
    exec {lock}>"$cache/$package.lock"
    flock "$lock"

    for dir in "$cache/$package-$version" "$cache/$package-${version%-*}"-*; do
        [ ! -d "$dir" ] || { echo "$dir"; return; }
    done

    need_packages dpkg-dev
    mapfile -t versions < <(source_versions "$package" "$version")

    for version in "${versions[@]}"; do
        dir=$cache/$package-$version

        if get_source "$package" "$version" "$dir"; then
            echo "$dir"
            return
        fi
    done

    return 1
}


# source_versions PACKAGE VERSION: this one, and others of its upstream
source_versions() {
    source_apt apt-get update >/dev/null 2>&1 || true
    echo "$2"
    source_apt apt-cache showsrc "$1" 2>/dev/null \
        | sed -n 's/^Version: //p' | sort -ruV \
        | awk -v version="$2" -v upstream="${2%-*}-" \
              '$0 != version && index($0, upstream) == 1'
}


# get_source PACKAGE VERSION DIR
get_source() {
    local new=$3.new

    say "getting the source of $1 $2"
    rm -rf "$new"
    mkdir "$new"

    if (cd "$new" && source_apt apt-get --only-source source "$1=$2") \
        >"$new/log" 2>&1
    then
        mv "$new"/*/ "$3"
        rm -rf "$new"
    else
        grep '^E:' "$new/log" | head -n 1 >&2
        rm -rf "$new"
        return 1
    fi
}


# source_apt COMMAND...: with lists of its own, of the sources of what this
# host has packages from; the host's configuration is not touched
source_apt() {
    local dir=$cache/apt

    mkdir -p "$dir/lists/partial"

    # shellcheck disable=SC2016
    apt-get indextargets --format 'deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' \
            'Created-By: Packages' \
        | grep ' main$' | sort -u >"$dir/sources.list"

    "$1" -o Dir::Etc::SourceList="$dir/sources.list" \
        -o Dir::Etc::SourceParts=- -o Dir::Cache="$dir" \
        -o Dir::State::Lists="$dir/lists" "${@:2}"
}
