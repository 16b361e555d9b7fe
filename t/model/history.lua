-- Random histories of one key: its windows, the limits of locations, hosts, and
-- what happens, step by step.

local floor = math.floor

local SLICE = 63493        -- microseconds, of a window of a second

local history = {}


-- numbers that are the same everywhere

function history.generator(state)
    state = state % 2147483646 + 1

    return function(n)
        state = state * 16807 % 2147483647
        local fraction = (state - 1) / 2147483646

        return n and floor(fraction * n) or fraction
    end
end


-- what may happen

local function random_window(random, i)
    return {
        name    = 'p' .. i,
        quota   = random(6) == 0 and 100 + random(2000) or 1 + random(40),
        seconds = ({ 1, 2, 5, 10, 60, 600, 3600 })[1 + random(7)],
    }
end


-- limits that hold together, as those of a location
local function random_set(random, windows)
    local set = { windows = {}, price = 0,
                  cost = random(3) > 0 and 1 or random(5) }

    for i = 1, #windows do
        if random(2) == 0 then
            set.windows[#set.windows + 1] = i
        end
    end

    if #set.windows == 0 then
        set.windows[1] = 1 + random(#windows)
    end

    return set
end


local function random_step(random, kind, made, scale)
    local step = {
        pause = floor(scale * random() * (random(12) == 0 and 20 or 1)),
        host  = 1 + random(made.hosts),
        set   = 1 + random(#made.sets),
        seed  = random(1000000),
        what  = 'ask',
    }
    local what = random(100)

    -- at the edge of a slice, as many as there are
    if made.sharp then
        step.edge = 1 + random(#made.windows)
        step.turns = random(3) == 0 and 14 + random(5) or random(4)
        step.near = random(3) - 1
        step.times = random(3) > 0 and 40 or 1 + random(3)
    end

    step.back = random(made.sharp and 4 or 2) == 0

    if what < 4 then
        step.what = 'crash'

    elseif what < 14 then
        step.what = 'report'

    elseif what < 16 then
        step.what, step.window = 'limit', 1 + random(#made.windows)
        step.quota = 1 + random(30)

    elseif what < 18 then
        step.what = 'balance'

    elseif what < 22 and kind == 'back' then
        step.what = 'clock'
        step.by = -floor(scale * (random(3) == 0 and 100 or 5) * random())

    elseif what < 22 and kind == 'forward' then
        step.what = 'clock'
        step.by = floor(scale * (random(2) == 0 and 100 or 3) * random())
    end

    return step
end


function history.random(seed, n, kind)
    local random = history.generator(seed * 7919 + n * 104729)

    for _ = 1, 3 do
        random()
    end

    local made = { windows = {}, sets = {}, steps = {}, id = '' }

    for _ = 1, 12 do
        local at = 1 + random(62)
        made.id = made.id
                     .. ('0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ'
                         .. 'abcdefghijklmnopqrstuvwxyz'):sub(at, at)
    end

    made.sharp = random(2) == 0

    for i = 1, 1 + random(made.sharp and 2 or 3) do
        made.windows[i] = random_window(random, i)
    end

    for i = 1, 1 + random(3) do
        made.sets[i] = random_set(random, made.windows)
    end

    -- limits of one location are some of those of another
    if made.sharp and #made.windows > 1 then
        made.sets[1].windows = { 1 }
        made.sets[2] = random_set(random, made.windows)
        made.sets[2].windows = { 1, 2 }
    end

    made.hosts = 1 + random(4)
    made.leads = random(2) == 1
    made.leases = random(4) > 0
    made.credits = random(5) == 0

    if made.credits then
        for _, set in ipairs(made.sets) do
            set.price = random(4)
        end
    end

    made.balance = 50 + random(3000)

    -- some begin shortly before midnight
    made.start = random(2) == 0 and 1700000000000000 + random(1000000000)
                    or 19700 * 86400000000 - random(100000000)

    local least = made.windows[1 + random(#made.windows)].seconds
    local scale = least * SLICE * (made.sharp and 0.3 or 3) * random() + 1

    for i = 1, made.sharp and 12 or 40 + random(40) do
        made.steps[i] = random_step(random, kind, made, scale)
    end

    return made
end


return history
