-- What docs/redis.md promises ("Windows", "Credits", "Leases"), of lists of all
-- that was granted and all that was let pass.  It knows nothing of slices but
-- how long quota may be away.
--
-- A grant is { at, set, cost, calls, told, lead }, where told[i] are those of
-- its calls that were given back to window i.  A pass is { at, set, cost, price,
-- part, quota }: quota[i] is that of window i then, and parts are the times
-- between jumps of the clock of Redis to a later time.

local max, min = math.max, math.min

local SLICE = 63493        -- microseconds, of a window of a second
local LEAD  = 4            -- slices, at most

local oracle = {}


local function holds(list, i)
    for _, w in ipairs(list) do
        if w == i then
            return true
        end
    end
end


-- it may have changed in an interval
local function quota_of(passes, i, first, last)
    local quota = 0

    for k = first, #passes do
        if passes[k].at > last.at or passes[k].part > last.part then
            break
        end

        quota = max(quota, passes[k].quota[i])
    end

    return quota
end


-- No interval of the window's length has more than the quota.  Returns what is
-- wrong, or nil; and whether one has all of it.
function oracle.window(game, i, drift)
    local seconds = game.windows[i].seconds
    local length = seconds * 1000000 * (1 - drift)
    local all, first, sum, full = {}, 1, 0, false
    local least = game.windows[i].quota

    for _, pass in ipairs(game.passes) do
        if holds(game.sets[pass.set].windows, i) and pass.cost > 0 then
            all[#all + 1] = pass
            least = min(least, pass.quota[i])
        end
    end

    for _, last in ipairs(all) do
        sum = sum + last.cost

        while all[first].at < last.at - length
              or all[first].part < last.part
        do
            sum = sum - all[first].cost
            first = first + 1
        end

        local quota = sum >= least and quota_of(all, i, first, last) or sum + 1

        if sum > quota then
            return ('%d in %d s from %.0f to %.0f, quota %d'):format(
                sum, seconds, all[first].at, last.at, quota)
        end

        full = full or sum == quota
    end

    return nil, full
end


-- A window was full: what has been granted in the time in which quota may be
-- away, and not been given back, leaves no room.  From lead to lead, what was
-- granted before stays away.
local function is_full(game, i, calls, cost)
    local slice = game.windows[i].seconds * SLICE
    local away = (game.leads and 17 + LEAD or 17) * slice
    local chain, sum = game.time, 0

    for k = #game.grants, 1, -1 do
        local grant = game.grants[k]

        if holds(game.sets[grant.set].windows, i) then

            if grant.lead > 0 and grant.at >= chain - (LEAD + 2) * slice then
                chain = grant.at
            end

            if grant.at >= chain - away then
                sum = sum + (grant.calls - grant.told[i]) * grant.cost
            end
        end
    end

    return sum + (calls + 1) * cost > game.quota[i]
end


-- "granted" calls were granted, and no more; "spent" are credits
function oracle.refusal(game, set, granted, spent)
    if set.price > 0
       and spent + (granted + 1) * set.price > game.balance
    then
        return
    end

    for _, i in ipairs(set.windows) do
        if is_full(game, i, granted, set.cost) then
            return
        end
    end

    return ('refused at %.0f with room left'):format(game.time)
end


-- a name that ends with a colon is that of all fields that begin so
function oracle.accounts(hash, accounts)
    for name, n in pairs(accounts) do
        local sum = 0

        for field, value in pairs(hash) do
            if field == name
               or (name:match(':$') and field:sub(1, #name) == name)
            then
                sum = sum + value
            end
        end

        if sum ~= n then
            return ('%s is %.0f, not %.0f'):format(name, sum, n)
        end
    end
end


return oracle
