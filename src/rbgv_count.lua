-- Counts calls of an API key: in every window or in none.
--
-- KEYS  1  rbgv:use:{id}, a hash
-- ARGV  1  calls to account: 1, or 0 where they are accounted already
--       2  cost of the calls
--       3  field of the secret in use, "s:<16 hex digits>"
--       and for each window its field, "w:<policy>:<seconds>",
--       and then for each window its quota and its seconds
--
-- Returns integers: 1 if admitted, else 0; milliseconds after which it is
-- worth trying again; and for each window what is left of it, and the
-- milliseconds in which no more of it is returned.
--
-- A window is counted in 16 slices by the clock of Redis.  A call is admitted
-- only if the slice of now, the 16 before it and the cost stay within the
-- quota: no interval of a window's length can hold more than the quota.
--
-- Field w: holds the index of the newest slice, the sum of all 17, and the
-- newest alone.  Field h: holds the 16 before it, newest first; it is read and
-- written only when the slice changes or a window is full.
--
-- No function is defined here: each would be made anew for every call.

local call, pack, unpack_state = redis.call, struct.pack, struct.unpack
local key, calls, cost = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local n = (#ARGV - 3) / 3
local time = call('TIME')
local now = time[1] * 1000000 + time[2]                  -- microseconds
local today = (time[1] - time[1] % 86400) / 86400
local day = 'd:' .. today
local state = call('HMGET', key, day, unpack(ARGV, 3, 3 + n))
local reply, set, retry = { 1, 0 }, {}, 0

for i = 1, n do
    local quota = tonumber(ARGV[2 + n + 2 * i])
    local slice = ARGV[3 + n + 2 * i] * 62500            -- microseconds
    local index = (now - now % slice) / slice
    local at, sum, newest, history = index, 0, 0, nil

    if state[2 + i] then
        at, sum, newest = unpack_state('<I8I4I4', state[2 + i])
    end

    if at - index > 16 then
        -- the clock was set back: all of the window counts as of now, and
        -- that is kept, or a refused call would leave a full window full
        at, newest, history = index, sum, ('\0'):rep(64)
        call('HSET', key, ARGV[3 + i], pack('<I8I4I4', at, sum, newest),
             'h' .. ARGV[3 + i]:sub(2), history)

    elseif at < index then
        history = ''

        if index - at <= 16 then
            history = ('\0'):rep((index - at - 1) * 4) .. pack('<I4', newest)
                      .. (call('HGET', key, 'h' .. ARGV[3 + i]:sub(2)) or '')
        end

        history = (history .. ('\0'):rep(64)):sub(1, 64)
        at, sum, newest = index, 0, 0

        for p = 1, 64, 4 do
            sum = sum + unpack_state('<I4', history, p)
        end
    end

    if sum + cost > quota then
        -- the slices drop out one by one, the oldest first
        local slices = history
                       or call('HGET', key, 'h' .. ARGV[3 + i]:sub(2))
                       or ('\0'):rep(64)
        local excess, turns, p = sum + cost - quota, 1, 61

        while p > 0 do
            excess = excess - unpack_state('<I4', slices, p)
            if excess <= 0 then
                break
            end
            turns, p = turns + 1, p - 4
        end

        retry = math.max(retry, (at + turns) * slice - now)
        reply[1] = 0
    end

    reply[1 + 2 * i] = quota > sum and quota - sum or 0
    reply[2 + 2 * i] = ((at + 1) * slice - now + 999) / 1000

    set[#set + 1] = ARGV[3 + i]
    set[#set + 1] = pack('<I8I4I4', at, sum + cost, newest + cost)

    if history then
        set[#set + 1] = 'h' .. ARGV[3 + i]:sub(2)
        set[#set + 1] = history
    end
end

if reply[1] == 0 then
    reply[2] = (retry + 999) / 1000

    if calls > 0 then
        call('HINCRBY', key, 'r:' .. today .. ':limited', calls)
    end

    return reply
end

for i = 1, n do
    reply[1 + 2 * i] = reply[1 + 2 * i] - cost
end

if calls == 0 then
    if n > 0 then
        call('HSET', key, unpack(set))
    end

    return reply
end

call('HSET', key, day, (state[1] or 0) + calls,
     ARGV[3], (state[2] or 0) + calls, 'last', time[1], unpack(set))

if not state[1] then
    -- the first call of a day drops the days that are no longer kept, and
    -- the windows that ended or whose policy is gone
    local all, old = call('HGETALL', key), {}

    for i = 1, #all, 2 do
        local kind, rest = all[i]:match('^([drw]):(.*)')

        if kind == 'w' then
            local slice = rest:match('%d+$') * 62500

            if (unpack_state('<I8', all[i + 1]) + 17) * slice < now then
                old[#old + 1] = all[i]
                old[#old + 1] = 'h:' .. rest
            end

        elseif kind and tonumber(rest:match('^%d+')) < today - 92 then
            old[#old + 1] = all[i]
        end
    end

    if #old > 0 then
        call('HDEL', key, unpack(old))
    end

    call('EXPIRE', key, 93 * 86400)
end

return reply
