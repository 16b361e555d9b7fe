# What scripts/bench starts, in $dir; sourced, not run.
# shellcheck shell=bash disable=SC2154

fail() {
    local log

    for log in "$dir"/*.log "$dir"/*/error.log; do
        [ ! -s "$log" ] || tail -n 5 "$log" >&2
    done

    die "$@"
}


start_redis() {
    mkdir "$dir/redis"
    touch "$dir/redis/users.acl"

    cat >"$dir/redis/redis.conf" <<END
unixsocket $dir/redis.sock
unixsocketperm 777
port 0

dir $dir/redis
aclfile $dir/redis/users.acl
save ""
appendonly no
END

    start "$dir/redis.process" "$dir/redis.log" \
        redis-server "$dir/redis/redis.conf"

    await 10 redis_answers || fail "redis-server did not start"

    "$dir/rbgvctl" --redis "unix:$dir/redis.sock" --pepper-file "$dir/pepper" \
        init --acl install --gateway-password-file "$dir/gateway.password" \
        --admin-password-file "$dir/admin.password" >"$dir/init.log" 2>&1 \
        || fail "rbgvctl init failed"
}


redis_answers() {
    redis-cli -s "$dir/redis.sock" ping >/dev/null 2>&1
}


# Each nginx has the first CPU to itself; Redis and wrk share the last one, so
# that no scheduler decides who is measured beside whom.  For root they go
# before all else that the machine does.
pin() {
    local list name pids=()

    list=$(taskset -cp $$)
    list=${list##* }

    export BENCH_CPU=${list##*[-,]}

    for name; do
        pids+=("$(worker "$name")")
        taskset -cp "${list%%[-,]*}" "${pids[-1]}" >/dev/null
    done

    for name in redis relay; do
        [ -e "$dir/$name.process" ] || continue

        pids+=("$(pid "$name")")
        taskset -acp "$BENCH_CPU" "${pids[-1]}" >/dev/null
    done

    [ "$EUID" != 0 ] || renice -n -20 "${pids[@]}" >/dev/null
}


# make_keys NAME COUNT STATUS: into the file NAME; prints commands for Redis
make_keys() {
    perl "$root/scripts/lib/bench/keys.pl" "$2" "$3" "$dir/pepper" "$dir/$1"
}


load_keys() {
    local log=$dir/load.log

    make_keys "$@" | redis-cli -s "$dir/redis.sock" --pipe >"$log" 2>&1 || true
    grep -q "errors: 0," "$log" || fail "cannot load keys"
}


# the first of a few ports in a row that nobody listens on
free_ports() {
    local base i

    for ((base = 18080; base < 30000; base += 10)); do
        for i in {0..9}; do
            ! (: <"/dev/tcp/127.0.0.1/$((base + i))") 2>/dev/null \
                || continue 2
        done

        echo $base
        return
    done

    die "no free port"
}


# start_nginx NAME PORT: with the locations of standard input.  NAME says what
# is loaded: plain nothing, lua Lua, else the module; what follows after "_" is
# ignored.  COMMAND goes before nginx, ZONE is the size of the zone, REDIS the
# socket.
start_nginx() {
    local name=$1 port=$2 locations

    locations=$(cat)

    mkdir -p "$dir/nginx-$name/temp"
    write_nginx_conf >"$dir/nginx-$name/nginx.conf"

    export BENCH_HOLD=$dir/$name.hold

    # shellcheck disable=SC2086
    start "$dir/$name.process" "$dir/$name.log" ${COMMAND-} \
        nginx -p "$dir/nginx-$name" -c nginx.conf -e error.log

    await 30 nginx_listens || fail "nginx did not start: $name"
}


nginx_listens() {
    running "$dir/$name.process" || return
    (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null
}


write_nginx_conf() {
    local kind modules=/usr/lib/nginx/modules redis=${REDIS-$dir/redis.sock}

    case ${name%%_*} in
        lua)    echo "load_module $modules/ndk_http_module.so;"
                echo "load_module $modules/ngx_http_lua_module.so;" ;;
        plain)  ;;
        *)      echo "load_module $dir/ngx_http_rbgv_auth_module.so;" ;;
    esac

    cat <<END
daemon off;
master_process ${MASTER-on};
worker_processes 1;
worker_rlimit_nofile 4096;
pid nginx.pid;
error_log error.log crit;

events { worker_connections 4096; }

http {
    access_log off;
    keepalive_requests 1000000000;
    keepalive_time 1d;
    keepalive_timeout 1d;
END

    for kind in client_body proxy fastcgi uwsgi scgi; do
        echo "    ${kind}_temp_path temp/$kind;"
    done

    case ${name%%_*} in
        lua)    lua_conf ;;
        plain)  plain_conf ;;
        *)      module_conf ;;
    esac

    cat <<END

    server {
        listen 127.0.0.1:$port;
$locations
    }
}
END
}


module_conf() {
    cat <<END
    rbgv_auth_redis unix://rbgv-gateway@$redis;
    rbgv_auth_redis_password_file $dir/gateway.password;
    rbgv_auth_pepper_file $dir/pepper;
    rbgv_auth_headers off;
    rbgv_auth_zone ${ZONE-16m};
END
}


plain_conf() {
    cat <<END
    limit_req_zone \$http_x_api_key zone=keys:${ZONE-16m} rate=1000000r/s;
END
}


# What auth_request asks is the same code in the same worker.
lua_conf() {
    local path="$root/scripts/lib/bench/?.lua;/usr/share/lua/5.1/?.lua;;"

    cat <<END
    lua_package_path "$path";
    init_by_lua_block {
        require('peer').setup('$redis', 1000000000, 60)
    }

    upstream service {
        server unix:$dir/$name.sock;
        keepalive 256;
        keepalive_requests 1000000000;
    }

    server {
        listen unix:$dir/$name.sock;

        location / {
            content_by_lua_block { require('peer').check() ngx.exit(204) }
        }
    }
END
}


# start_relay MICROSECONDS: to Redis on far.sock; each way takes so long
start_relay() {
    gcc -O2 -o "$dir/relay" "$root/scripts/lib/bench/relay.c"

    start "$dir/relay.process" "$dir/relay.log" \
        "$dir/relay" "$dir/far.sock" "$dir/redis.sock" "$1"

    await 10 test -S "$dir/far.sock" || fail "the relay did not start"
}


# the process that was started as NAME
pid() {
    cut -d ' ' -f 1 "$dir/$1.process"
}


# the worker of an nginx
worker() {
    pgrep -P "$(pid "$1")"
}
