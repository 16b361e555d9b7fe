-- The peer: what is commonly written with Lua.  A pool of kept connections,
-- and one script that looks the key up and counts a fixed window.  The key is
-- not even hashed.

local redis = require 'nginx.redis'

local script = [[
    local status = redis.call('HGET', KEYS[1], 'status')
    if status ~= 'active' then
        return -1
    end

    local calls = redis.call('INCR', KEYS[2])
    if calls == 1 then
        redis.call('EXPIRE', KEYS[2], ARGV[1])
    end

    return calls
]]

local socket, quota, window, sha

local M = {}


function M.setup(path, limit, seconds)
    socket, quota, window = 'unix:' .. path, limit, seconds
end


function M.check()
    local key = ngx.var.http_x_api_key
    if not key then
        return ngx.exit(401)
    end

    local store = redis:new()
    store:set_timeout(1000)

    local ok, err = store:connect(socket)
    if not ok then
        ngx.log(ngx.CRIT, 'connect: ', err)
        return ngx.exit(503)
    end

    if not sha then
        sha = store:script('load', script)
    end

    local now = ngx.time()
    local calls
    calls, err = store:evalsha(sha, 2, 'peer:key:' .. key,
                               'peer:use:' .. key .. ':' .. now - now % window,
                               window)
    if not calls then
        ngx.log(ngx.CRIT, 'evalsha: ', err)
        return ngx.exit(503)
    end

    store:set_keepalive(60000, 256)

    if calls < 0 then
        return ngx.exit(401)
    end

    if calls > quota then
        return ngx.exit(429)
    end
end


return M
