-- Grants calls of an API key, in every window and by its credits or not at
-- all, and accounts them.
--
-- KEYS  1  rbgv:use:{id}, a hash
-- ARGV  1  integers of 8 bytes, least significant first
--            need: calls that wait for the answer
--            want: calls to grant if there is plenty, at least need
--            cost of a call
--            lead: microseconds, of at most 4 slices of each window
--            unused: granted calls to be given back, or 0,
--            given: and the time as of which they were counted
--            secrets: how many
--            uses to account of each secret; the calls that wait are of the
--              first
--            quota and seconds of each window
--       then the field of each secret, "s:<16 hex digits>",
--       and of each window, "w:<policy>:<seconds>";
--       and what is rarely needed, as "name=number" with spaces between:
--            again    1: the calls that wait are accounted already
--            limited  calls that were refused elsewhere: a window was full,
--            credits    there were not enough credits,
--            job        or no such job
--            price    credits that a call costs
--            balance  credits granted to the key in all, spent or not
--            spare    1: credits are looked at, and not spent
--            refund   credits to be given back
--            hours    1: uses of secrets are also accounted by the hour
--
-- Returns integers: calls granted; milliseconds after which it is worth
-- trying again if that is less than need, 0 if only credits are missing;
-- milliseconds in which what is granted has to be used; the time as of which
-- it is counted, in microseconds of Redis; for each window what is left of
-- it, and milliseconds in which no more is returned; and if a call has a
-- price, the credits that are left.
--
-- A window is counted in slices by the clock of Redis.  Calls are granted
-- only if the slice of now, the 16 before it and their cost stay within the
-- quota.  What is granted may be used until a quarter of the next slice has
-- passed.  A slice is 1/15.75 of the window, so that no interval of its
-- length has uses of more than 17 slices: never more than the quota.
--
-- With a lead, calls are counted as of a later time, and may be used for as
-- much longer.  What leaves the newest 17 slices for that reason only, and not
-- by the time of now, is moved into the oldest of them.  All of this counts
-- too much rather than too little.
--
-- Two characters of the id shift the slices of a key by up to one, so that
-- leases of different keys do not end at the same moment.
--
-- Field w: holds the index of the newest slice, the sum of all 17, and the
-- newest alone.  Field h: holds the 16 before it, newest first; it is read and
-- written only when the slice changes, or is looked into.
--
-- No function is defined here: each would be made anew for every call.

local call, pack, peek = redis.call, struct.pack, struct.unpack
local min, max = math.min, math.max
local key, argv, integers = KEYS[1], ARGV, ARGV[1]
local need, want, cost, lead, unused, given, secrets, uses_at =
    peek('<I8I8I8I8I8I8I8', integers)
local limits_at = uses_at + 8 * secrets
local n = (#integers + 1 - limits_at) / 16   -- windows
local more, text = {}, argv[2 + secrets + n]
local time = call('TIME')
local second = tonumber(time[1])
local now = second * 1000000 + time[2]       -- microseconds
local today = (second - second % 86400) / 86400
local a, b = key:byte(-3, -2)
local phase = (a * 64 + b) % 1024
local fields = { ('d:%d'):format(today), unpack(argv, 2, 1 + secrets + n) }

if text then
    for name, value in text:gmatch('(%a+)=(%d+)') do
        more[name] = tonumber(value)
    end
end

local price = more.price or 0

if price > 0 or more.refund then
    fields[#fields + 1] = 'credits'
end

local state = call('HMGET', key, unpack(fields))
local reply = { 0, 0, 3600000, now + lead, nil, nil }
local set, windows = { nil, nil, nil, nil, nil, nil, nil, nil }, { nil }
local granted, retry, keep = want, 0, unused > 0
local ends = math.huge                       -- of the first slice that ends

for i = 1, n do
    local field = fields[1 + secrets + i]
    local quota, seconds = peek('<I8I8', integers, limits_at + 16 * i - 16)
    local slice = seconds * 63493            -- microseconds
    local shift = (slice - slice % 1024) / 1024 * phase
    local moved = now + shift
    local index = (moved - moved % slice) / slice
    local target = (moved + lead - (moved + lead) % slice) / slice
    local at, sum, newest, history = target, 0, 0, nil

    if state[1 + secrets + i] then
        at, sum, newest = peek('<I8I4I4', state[1 + secrets + i])
    end

    if unused > 0 then
        local past = given + shift

        past = at - (past - past % slice) / slice

        if past == 0 then
            local back = min(unused * cost, newest, sum)
            sum, newest = sum - back, newest - back

        elseif past > 0 and past <= 16 then
            history = call('HGET', key, 'h' .. field:sub(2))
                      or ('\0'):rep(64)

            local p = past * 4 - 3
            local old = peek('<I4', history, p)
            local back = min(unused * cost, old, sum)

            history = history:sub(1, p - 1) .. pack('<I4', old - back)
                      .. history:sub(p + 4)
            sum = sum - back
        end
    end

    if at - index > 16 then
        -- the clock was set back: all of the window counts as of now, and
        -- that is kept, or a refused call would leave a full window full
        at, newest, history, keep = index, sum, ('\0'):rep(64), true

    elseif index - at > 16 then
        at, sum, newest, history = target, 0, 0, ('\0'):rep(64)

    elseif at < target then
        local turns, oldest, held = target - at, at - index + 16, 0
        local past = history or call('HGET', key, 'h' .. field:sub(2))
                     or ('\0'):rep(64)

        for i = max(17 - turns, 1), 16 do
            local calls = peek('<I4', past, 4 * i - 3)

            if i > oldest then
                sum = sum - calls
            else
                held = held + calls
            end
        end

        if turns > 16 then
            held, history = held + newest, ('\0'):rep(64)
        else
            history = ('\0'):rep(4 * turns - 4) .. pack('<I4', newest)
                      .. past:sub(1, 64 - 4 * turns)
        end

        if held > 0 then
            history = history:sub(1, 60)
                      .. pack('<I4', peek('<I4', history, 61) + held)
        end

        -- no less than nothing, whatever the fields hold
        at, sum, newest = target, max(sum, 0), 0
    end

    local left = quota > sum and quota - sum or 0

    if cost > 0 then
        local calls = (left - left % cost) / cost
        local some = (calls - calls % 8) / 8

        -- the block shrinks as the window fills up
        granted = min(granted, calls, some > need and some or need)

        if calls < need or calls == 0 then
            -- the slices drop out one by one, the oldest first
            local slices = history or call('HGET', key, 'h' .. field:sub(2))
                           or ('\0'):rep(64)
            local excess, turns, p = (calls + 1) * cost - left, 1, 61

            if sum > quota then
                excess = excess + sum - quota
            end

            while p > 0 do
                excess = excess - peek('<I4', slices, p)
                if excess <= 0 then
                    break
                end
                turns, p = turns + 1, p - 4
            end

            retry = max(retry, (at + turns) * slice - moved)
        end
    end

    local rest = (at + 1) * slice - moved

    reply[3] = min(reply[3], (rest + slice / 4) / 1000)
    reply[4] = max(reply[4], at * slice - shift)
    ends = min(ends, (at + 1) * slice - shift)
    reply[3 + 2 * i] = left
    reply[4 + 2 * i] = (rest + 999) / 1000

    windows[i] = { field, at, sum, newest, history }
end

if reply[4] >= ends then
    -- one window is ahead of another: what is given back has no time that is
    -- of both slices
    granted = min(granted, need)
end

local spent = 0

if price > 0 or more.refund then
    -- 0 is first: also what is no number is none then
    spent = max(0, (tonumber(state[#fields]) or 0) - (more.refund or 0)
                       - unused * price)
end

if price > 0 then
    local left = max((more.balance or 0) - spent, 0)
    local calls = (left - left % price) / price
    local some = (calls - calls % 128) / 128

    -- so that the last ones are not held by a host that does not need them
    granted = min(granted, calls, some > need and some or need)
    reply[5 + 2 * n] = left - granted * price

    if not more.spare then
        spent = spent + granted * price
    end
end

reply[1] = granted
reply[2] = (retry + 999) / 1000

local taken = granted * cost

if taken > 0 or keep then
    for i = 1, n do
        local w = windows[i]

        reply[3 + 2 * i] = reply[3 + 2 * i] - taken

        set[#set + 1] = w[1]
        set[#set + 1] = pack('<I8I4I4', w[2], w[3] + taken, w[4] + taken)

        if w[5] then
            set[#set + 1] = 'h' .. w[1]:sub(2)
            set[#set + 1] = w[5]
        end
    end
end

if more.refund or (price > 0 and (granted > 0 or unused > 0)) then
    set[#set + 1] = 'credits'
    set[#set + 1] = spent
end

local used = 0

for i = 1, secrets do
    local uses = peek('<I8', integers, uses_at + 8 * i - 8)

    if i == 1 and not more.again then
        local passed = min(granted, need)
        local cause = retry > 0 and 'limited' or 'credits'

        uses = uses + passed

        if passed < need then
            more[cause] = (more[cause] or 0) + need - passed
        end
    end

    if uses > 0 then
        used = used + uses
        set[#set + 1] = fields[1 + i]
        set[#set + 1] = ('%d'):format((state[1 + i] or 0) + uses)

        if more.hours then
            local secret = fields[1 + i]:sub(3)
            local hour = (second - second % 3600) / 3600

            set[#set + 1] = 't:' .. secret
            set[#set + 1] = time[1]
            call('HINCRBY', key, 'u:' .. hour .. ':' .. secret, uses)
        end
    end
end

if used > 0 then
    set[#set + 1] = fields[1]
    set[#set + 1] = ('%d'):format((state[1] or 0) + used)
    set[#set + 1] = 'last'
    set[#set + 1] = time[1]
end

local fresh = used > 0 and not state[1]      -- of this day

if next(more) then
    for _, cause in ipairs({ 'limited', 'credits', 'job' }) do
        local refused = more[cause] or 0

        if refused > 0
           and call('HINCRBY', key, 'r:' .. today .. ':' .. cause, refused)
               == refused
        then
            fresh = true
        end
    end
end

if #set > 0 then
    call('HSET', key, unpack(set))
end

if fresh then
    -- the first call of a day drops the days and hours that are no longer
    -- kept, and the windows that ended or whose policy is gone
    local all, old = call('HGETALL', key), {}

    for i = 1, #all, 2 do
        local kind, rest = all[i]:match('^([druw]):(.*)')
        local at = kind and tonumber(rest:match('^%d+'))

        if kind == 'w' then
            local slice = rest:match('%d+$') * 63493

            -- up to a slice late, for want of its phase
            if (peek('<I8', all[i + 1]) + 17) * slice < now then
                old[#old + 1] = all[i]
                old[#old + 1] = 'h:' .. rest
            end

        elseif kind == 'u' then
            if at < (today - 8) * 24 then
                old[#old + 1] = all[i]
            end

        elseif kind and at < today - 92 then
            old[#old + 1] = all[i]
        end
    end

    if #old > 0 then
        call('HDEL', key, unpack(old))
    end

    call('EXPIRE', key, 93 * 86400)
end

return reply
