-- For wrk: sends the keys of a file in turn, if one is named, each connection
-- with pauses of so many milliseconds on average, and ends with one line of
-- figures.
--
-- wrk -s wrk.lua URL [-- KEYS_FILE [PAUSE]]

local requests, last = {}, 0

function init(args)
    if not args[1] then
        return
    end

    for key in io.lines(args[1]) do
        requests[#requests + 1] = wrk.format(nil, nil, { ['X-Api-Key'] = key })
    end

    -- short runs are not always about the same keys
    math.randomseed(os.time())
    last = math.random(0, #requests - 1)

    -- where there is none of that name, wrk repeats one request, faster
    request = function()
        last = last % #requests + 1
        return requests[last]
    end

    local pause = tonumber(args[2])

    if pause then
        delay = function()
            return math.random(0, 2 * pause)
        end
    end
end


function done(summary, latency)
    local errors = summary.errors

    io.write(string.format(
        'figures requests=%d microseconds=%d p50=%d p99=%d max=%d '
        .. 'refused=%d lost=%d\n',
        summary.requests, summary.duration, latency:percentile(50),
        latency:percentile(99), latency.max, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout))
end
