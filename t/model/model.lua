-- Random histories of one API key, played by src/rbgv_count.lua and by hosts
-- that use what it grants, and judged by oracle.lua.
--
--     lua5.1 model.lua SCRIPT SEED HISTORIES KIND [calls | first]
--
-- KIND tells what clocks do: steady, drift (of hosts), back or forward (that of
-- Redis).  It ends at the first history that is wrong, which is shown with the
-- steps that it needs; "first" does not show it, "calls" prints all calls.

local directory = arg[0]:gsub('[^/]*$', '')

local store   = dofile(directory .. 'store.lua')
local history = dofile(directory .. 'history.lua')
local oracle  = dofile(directory .. 'oracle.lua')

local floor, min = math.floor, math.min

local script, seed, histories, kind, mode = unpack(arg)
local run = store.load(script)

local SLICE   = 63493        -- microseconds, of a window of a second
local LEAD    = 4            -- slices, at most
local DRIFT   = kind == 'drift' and 0.0005 or 0
local LEASE   = 15000000     -- microseconds, at most
local SECRETS = { '0123456789abcdef', 'fedcba9876543210', '00000000ffffffff' }

local total = { calls = 0, passed = 0, refused = 0, full = 0 }


-- A game is a history that is played: "time" goes on in microseconds, the clock
-- of Redis is ahead of it by "offset".

local function new_game(made)
    local game = {
        made = made, time = 0, offset = 0, part = 1, hosts = {},
        windows = made.windows, sets = made.sets, leads = made.leads,
        quota = {}, balance = made.balance, grants = {}, passes = {},
        accounts = { ['d:'] = 0, ['r:'] = 0, credits = 0 },
        hash = store.clear('rbgv:use:{' .. made.id .. '}'),
    }

    for i, window in ipairs(made.windows) do
        game.quota[i] = window.quota
    end

    for i = 1, made.hosts do
        game.hosts[i] = { unused = {}, slow = (i % 2 * 2 - 1) * DRIFT }
    end

    for _, secret in ipairs(SECRETS) do
        game.accounts['s:' .. secret] = 0
    end

    return game
end


local function slice_of(game, i, at)
    local a, b = game.made.id:byte(-2, -1)
    local slice = game.windows[i].seconds * SLICE
    local shift = floor(slice / 1024) * ((a * 64 + b) % 1024)

    return floor((at + shift) / slice), slice, shift
end


-- Permits of the same slices are given back together, as counted last.
local function are_alike(game, set, a, b)
    for _, i in ipairs(set.windows) do
        if slice_of(game, i, a) ~= slice_of(game, i, b) then
            return false
        end
    end

    return true
end


-- a time of before the clock was set back is, much later, another one
local function may_give_back(game, set, back)
    for _, i in ipairs(set.windows) do
        if kind == 'back' and game.time - back[1].grant.at
                              > game.windows[i].seconds * 1000000
        then
            return false
        end
    end

    return true
end


-- What has left the newest slices is moved, and no longer given back.
local function give_back(game, set, back)
    for _, some in ipairs(back) do
        for _, i in ipairs(set.windows) do
            local slice = game.windows[i].seconds * SLICE
            local told = some.grant.told

            if game.time - some.grant.at < (16 - LEAD) * slice then
                told[i] = told[i] + some.n
            end
        end
    end
end


local function arguments(game, ask)
    local set, more = ask.set, {}
    local integers = { ask.need, ask.want, set.cost, ask.lead,
                       ask.back and ask.back.n or 0,
                       ask.back and ask.back.as_of or 0, #ask.used }
    local argv = { '' }

    if ask.limited > 0 then
        more[#more + 1] = 'limited=' .. ask.limited
    end

    if set.price > 0 then
        more[#more + 1] = ('price=%d balance=%d'):format(set.price,
                                                         game.balance)
    end

    if #ask.used > 1 then
        more[#more + 1] = 'hours=1'
    end

    for i, n in ipairs(ask.used) do
        integers[#integers + 1] = n
        argv[#argv + 1] = 's:' .. SECRETS[i]
    end

    for _, i in ipairs(set.windows) do
        local window = game.windows[i]
        integers[#integers + 1] = game.quota[i]
        integers[#integers + 1] = window.seconds
        argv[#argv + 1] = 'w:' .. window.name .. ':' .. window.seconds
    end

    argv[1] = store.integers(integers)

    if #more > 0 then
        argv[#argv + 1] = table.concat(more, ' ')
    end

    return argv
end


local function print_call(game, argv, reply)
    local integers = {}
    local hex = argv[1]:gsub('.', function(byte)
        return ('%02x'):format(byte:byte())
    end)

    for i, n in ipairs(reply) do
        integers[i] = ('%.0f'):format(n)
    end

    print(('call\t%s\t%.0f\t%s\t%s\t%s'):format(
        game.made.id, store.time, hex, table.concat(argv, '\t', 2),
        table.concat(integers, ' ')))
end


-- what is told, and those that waited
local function account(game, ask, granted)
    local accounts = game.accounts

    for i, n in ipairs(ask.used) do
        local name = 's:' .. SECRETS[i]
        local uses = n + (i == 1 and min(granted, ask.need) or 0)

        accounts[name] = accounts[name] + uses
        accounts['d:'] = accounts['d:'] + uses
    end

    accounts['r:'] = accounts['r:'] + ask.limited
                     + (granted < ask.need and ask.need - granted or 0)
    accounts.credits = accounts.credits
                       + (granted - (ask.back and ask.back.n or 0))
                         * ask.set.price
end


local function call(game, ask)
    local argv = arguments(game, ask)

    store.time = game.made.start + game.time + game.offset
    total.calls = total.calls + 1

    local reply = run(argv)

    if mode == 'calls' then
        print_call(game, argv, reply)
    end

    account(game, ask, reply[1])

    if ask.back then
        give_back(game, ask.set, ask.back)
    end

    return reply
end


local function random_ask(game, step, host, random)
    local set = game.sets[step.set]
    local ask = { set = set, used = {}, lead = 0, need = 0, want = 0 }

    if step.what == 'ask' then
        ask.need = random(5) == 0 and 1 + random(4) or random(8) > 0 and 1 or 0
        ask.want = ask.need + (game.made.leases and random(24) or 0)
    end

    ask.limited = random(10) == 0 and random(3) or 0

    for i = 1, 1 + random(3) do
        ask.used[i] = random(2) * random(5)
    end

    if game.leads and random(3) > 0 then
        ask.lead = LEASE

        for _, i in ipairs(set.windows) do
            ask.lead = min(ask.lead, game.windows[i].seconds * SLICE
                                     * (random(2) == 0 and LEAD or 3))
        end
    end

    local unused = host.unused[step.set] or {}

    host.unused[step.set] = unused

    if step.back and unused[1] then
        local back = table.remove(unused, 1)
        ask.back = may_give_back(game, set, back) and back or nil
    end

    return ask
end


-- Those who wait pass; permits are used until they end, or given back.
local function use(game, step, host, ask, reply, random)
    local set, granted = ask.set, reply[1]
    local grant = game.grants[#game.grants]
    local left = granted > ask.need and random(2) == 0
                 and random(granted - ask.need + 1) or 0
    local late = random(2) == 0
    local quota = { unpack(game.quota) }
    local unused = host.unused[step.set]

    for i = 1, granted - left do
        local pass = { at = game.time, set = step.set, cost = set.cost,
                       price = set.price, part = game.part, quota = quota,
                       host = step.host }

        if i > ask.need then
            pass.at = game.time + min(reply[3] * 1000, LEASE)
                                  * (1 + host.slow) * (late and 1 or random())
        end

        game.passes[#game.passes + 1] = pass
    end

    if left > 0 then
        local last = unused[#unused]

        if not (last and are_alike(game, set, last.as_of, reply[4])) then
            last = { n = 0 }
            unused[#unused + 1] = last
        end

        last.n, last.as_of = last.n + left, reply[4]
        last[#last + 1] = { grant = grant, n = left }
    end
end


-- Returns what is wrong, or nil; and whether there is no more to be had.
local function ask_once(game, step, host, random)
    local ask = random_ask(game, step, host, random)
    local lost = random(30)

    if lost == 0 then        -- the call
        return
    end

    local spent = game.accounts.credits
    local reply = call(game, ask)
    local granted = reply[1]

    if granted > ask.want or granted < 0 then
        return ('%d granted of %d'):format(granted, ask.want)
    end

    if granted < ask.need then
        total.refused = total.refused + 1

        if kind == 'steady' or kind == 'drift' then
            local wrong = oracle.refusal(game, ask.set, granted, spent)

            if wrong then
                return wrong
            end
        end
    end

    local grant = { at = game.time, set = step.set, cost = ask.set.cost,
                    calls = granted, told = {}, lead = ask.lead }

    for _, i in ipairs(ask.set.windows) do
        grant.told[i] = 0
    end

    game.grants[#game.grants + 1] = grant

    if lost > 1 then        -- the reply was not
        use(game, step, host, ask, reply, random)
    end

    return nil, granted < ask.need or granted == 0
end


local steps = {}

function steps.ask(game, step, host, random)
    for _ = 1, step.times or 1 do
        local wrong, none = ask_once(game, step, host, random)

        if wrong or none then
            return wrong
        end
    end
end

steps.report = steps.ask


function steps.crash(game, step, host)
    local kept = {}

    for _, pass in ipairs(game.passes) do
        if pass.host ~= step.host or pass.at <= game.time then
            kept[#kept + 1] = pass
        end
    end

    game.passes = kept
    host.unused = {}
end


-- Permits that were granted before count as if they were used at once, unless
-- the clock is set back by less than a window.
function steps.clock(game, step)
    local used = step.by > 0

    game.offset = game.offset + step.by

    for _, window in ipairs(game.windows) do
        used = used or game.offset < window.seconds * -1000000
    end

    if used then
        for _, pass in ipairs(game.passes) do
            pass.at = min(pass.at, game.time)
        end
    end

    if step.by > 0 then
        game.part = game.part + 1
    end
end


function steps.limit(game, step)
    game.quota[step.window] = step.quota
end


function steps.balance(game, step)
    game.balance = game.balance + step.seed % 20
end


local function pass_time(game, step)
    game.time = game.time + step.pause

    if step.edge then
        local clock = game.made.start + game.offset
        local n, slice, shift = slice_of(game, step.edge, clock + game.time)
        local edge = (n + step.turns) * slice - shift + step.near - clock

        game.time = math.max(game.time, edge)
    end
end


-- what is wrong with it, or nil
local function judge(game)
    local price = 0

    table.sort(game.passes, function(a, b)
        if a.part ~= b.part then
            return a.part < b.part
        end

        return a.at < b.at
    end)

    for i = 1, #game.windows do
        local wrong, full = oracle.window(game, i, DRIFT)

        if wrong then
            return wrong
        end

        total.full = total.full + (full and 1 or 0)
    end

    for _, pass in ipairs(game.passes) do
        price = price + pass.price
    end

    if price > game.balance then
        return ('%d of %d credits'):format(price, game.balance)
    end

    return oracle.accounts(game.hash, game.accounts)
end


local function play(made)
    local game = new_game(made)

    for _, step in ipairs(made.steps) do
        pass_time(game, step)

        -- a script that fails is wrong too
        local _, wrong = pcall(steps[step.what], game, step,
                               game.hosts[step.host],
                               history.generator(step.seed * 31 + 7))
        if wrong then
            return wrong
        end
    end

    total.passed = total.passed + #game.passes

    return judge(game)
end


-- without "size" steps from "first"; what they waited is left
local function without(all, first, size)
    local less, pause = {}, 0

    for i, step in ipairs(all) do
        if i >= first and i < first + size then
            pause = pause + step.pause

        else
            local copy = setmetatable({ pause = step.pause + pause },
                                      { __index = step })
            less[#less + 1], pause = copy, 0
        end
    end

    return less
end


local function minimise(made)
    local size = #made.steps

    while size >= 1 do
        local first, before = 1, #made.steps

        while first <= #made.steps do
            local all = made.steps

            made.steps = without(all, first, size)

            if not play(made) then
                made.steps, first = all, first + size
            end
        end

        if #made.steps == before then
            size = floor(size / 2)
        end
    end
end


local function show(made)
    minimise(made)

    for _, window in ipairs(made.windows) do
        print(('window %s: %d in %d s'):format(window.name, window.quota,
                                               window.seconds))
    end

    for i, step in ipairs(made.steps) do
        print(('%d: after %.0f us, host %d, set %d, %s %s'):format(
            i, step.pause, step.host, step.set, step.what,
            step.by or step.quota or ''))
    end

    mode = 'calls'
    print('wrong: ' .. play(made))
end


for n = 1, tonumber(histories) do
    local made = history.random(tonumber(seed), n, kind)
    local wrong = play(made)

    if wrong then
        print(('wrong\t%s\t%d\t%s'):format(kind, n, wrong))

        if mode ~= 'first' then
            show(made)
        end

        break
    end
end

print(('total\t%d calls, %d passed, %d refused, %d windows full'):format(
    total.calls, total.passed, total.refused, total.full))
