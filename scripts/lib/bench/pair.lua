-- For wrk: asks for two paths in turn, each for a tenth of a second, and ends
-- with the number of requests in each of these slots.  Whatever else slows the
-- machine down for longer slows both down alike.
--
-- wrk -s pair.lua URL -- PATH PATH KEYS_FILE

local ffi = require('ffi')

ffi.cdef[[
    typedef struct { long sec; long nsec; } rbgv_time_t;
    int clock_gettime(int clock, rbgv_time_t *t);
]]

local time, monotonic = ffi.new('rbgv_time_t'), 1
local texts, last, at = { {}, {} }, 0, 0

slots = {}

local function slot()
    ffi.C.clock_gettime(monotonic, time)
    return tonumber(time.sec * 10 + time.nsec / 100000000)
end


function setup(thread)
    only = thread
end


function init(args)
    for i = 1, 2 do
        for key in io.lines(args[3]) do
            table.insert(texts[i],
                         wrk.format('GET', args[i], { ['X-Api-Key'] = key }))
        end
    end
end


function request()
    local now = slot()

    if now ~= at then
        at = now
        slots[#slots + 1] = now % 2
        slots[#slots + 1] = 0
    end

    slots[#slots] = slots[#slots] + 1
    last = last % #texts[1] + 1

    return texts[1 + now % 2][last]
end


function done(summary)
    print('slots ' .. table.concat(only:get('slots'), ' '))
    print('refused ' .. summary.errors.status)
end
