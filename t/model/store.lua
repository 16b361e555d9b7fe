-- What src/rbgv_count.lua needs of Redis: a hash, a clock that the caller
-- sets, and struct.  t/model.t compares it with a real server.

local format, floor = string.format, math.floor

local store = {}
local hash

local function text(value)
    return type(value) == 'number' and format('%.17g', value) or value
end


local commands = {
    TIME = function()
        local second = floor(store.time / 1000000)

        return { format('%.0f', second),
                 format('%.0f', store.time - second * 1000000) }
    end,

    HGET = function(_, field) return hash[field] or false end,

    HMGET = function(_, ...)
        local values = {}

        for i = 1, select('#', ...) do
            values[i] = hash[select(i, ...)] or false
        end

        return values
    end,

    HGETALL = function()
        local all = {}

        for field, value in pairs(hash) do
            all[#all + 1] = field
            all[#all + 1] = value
        end

        return all
    end,

    HSET = function(_, ...)
        for i = 1, select('#', ...), 2 do
            hash[text((select(i, ...)))] = text((select(i + 1, ...)))
        end
    end,

    HINCRBY = function(_, field, n)
        local sum = tonumber(hash[field] or 0) + n

        hash[field] = format('%.0f', sum)
        return sum
    end,

    HDEL = function(_, ...)
        for i = 1, select('#', ...) do
            hash[select(i, ...)] = nil
        end
    end,

    EXPIRE = function() return 1 end,
}


-- sizes of "<I8I4I4" and the like
local function sizes(layout)
    local list = {}

    for size in layout:gmatch('I(%d)') do
        list[#list + 1] = tonumber(size)
    end

    return list
end


local function pack(layout, ...)
    local bytes = {}

    for i, size in ipairs(sizes(layout)) do
        local n = select(i, ...)

        assert(n >= 0 and n == floor(n) and n < 256 ^ size, 'out of range')

        for _ = 1, size do
            bytes[#bytes + 1] = string.char(n % 256)
            n = floor(n / 256)
        end
    end

    return table.concat(bytes)
end


local function unpack_at(layout, bytes, at)
    local values = {}

    at = at or 1

    for _, size in ipairs(sizes(layout)) do
        local n = 0

        for i = at + size - 1, at, -1 do
            n = n * 256 + bytes:byte(i)
        end

        values[#values + 1] = n
        at = at + size
    end

    values[#values + 1] = at
    return unpack(values)
end


-- as the integers that the script takes
function store.integers(list)
    return pack(('I8'):rep(#list), unpack(list))
end


-- Returns run(argv) -> the reply, as integers, on the key of store.clear(), by
-- the clock of store.time, in microseconds.
function store.load(path)
    local run = assert(loadfile(path))

    local environment = setmetatable({
        struct = { pack = pack, unpack = unpack_at },
        redis  = { call = function(name, ...) return commands[name](...) end },
    }, { __index = _G })

    setfenv(run, environment)

    return function(argv)
        environment.KEYS = { store.key }
        environment.ARGV = argv

        local reply = run()

        for i, n in ipairs(reply) do
            reply[i] = n >= 0 and floor(n) or -floor(-n)
        end

        return reply
    end
end


-- another key, whose hash is empty; returns it
function store.clear(key)
    store.key, hash = key, {}
    return hash
end


return store
