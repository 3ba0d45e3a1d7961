-- entries.lua: the log as a list, one entry an element.
--
-- KEYS[k]       the log: a list of entries, oldest first; absent when idle.
--               entry  stamp µs (7 bytes), total (5): all units ever allowed, this entry's included, modulo 2^40.
--               Element 0 is the base: its total is what has been cut away, its stamp counts for nothing.
-- ARGV[3k - 2]  limit: units per window (integer > 0)
-- ARGV[3k - 1]  window: µs (integer > 0)
-- ARGV[3k]      cost: units this request takes (integer > 0)
--
-- Returns  for each key {allowed 0|1, remaining, retry_after µs (-1: never), reset_after µs}
-- Cost     LINDEX and LRANGE to look, RPUSH to charge; LTRIM where the oldest entry has left, and PEXPIRE once in an
--          eighth of the window. A dearer request that is denied searches: O(log n) calls of LINDEX, and each walks
--          over the list's nodes and into one of them.
-- Clock    now_us(), written before this file; once for the batch.
local WRAP, ENTRY = 1099511627776, '>I7I5'
local call, pack, unpack = redis.call, struct.pack, struct.unpack
local floor, ceil, min, max = math.floor, math.ceil, math.min, math.max

local function entry(key, index)
  return unpack(ENTRY, call('LINDEX', key, index))
end

-- The first index above low for which past(stamp, total) holds; it must hold at high. Gallops: it is near low.
local function seek(key, low, high, past)
  local step = 1
  while low + step < high and not past(entry(key, low + step)) do
    low, step = low + step, 2 * step
  end
  high = min(low + step, high)
  while high - low > 1 do
    local middle = floor((low + high) / 2)
    if past(entry(key, middle)) then high = middle else low = middle end
  end
  return high
end

local function decide(key, now, limit, window, cost)
  local cutoff = now - window
  local last = call('LINDEX', key, -1)
  local newest, total, base, oldest, left, _ = 0, 0, 0, nil, nil, nil
  local gone = 0 -- entries that have left since the last cut; -2: all of them
  if last then
    newest, total = unpack(ENTRY, last)
    if newest <= cutoff then
      base, gone = total, -2
    else
      local front = call('LRANGE', key, 0, 2) -- the base, the oldest, and the one after it
      _, base = unpack(ENTRY, front[1])
      oldest, left = unpack(ENTRY, front[2]) -- left: the base, should it have left
      if oldest <= cutoff then
        gone, base, oldest = 1, left, unpack('>I7', front[3]) -- as a rule no more than one has left
        if oldest <= cutoff then
          gone = seek(key, 2, call('LLEN', key) - 1, function(stamp) return stamp > cutoff end) - 1
          _, base = entry(key, gone)
          oldest = entry(key, gone + 1)
        end
      end
    end
  end

  local used = (total - base) % WRAP
  if used + cost <= limit then
    -- Never below the newest: the log stays sorted when the clock steps back.
    local stamp, eighth = max(now, newest), ceil(window / 8)
    local written = pack(ENTRY, stamp, (total + cost) % WRAP)
    if last then
      call('RPUSH', key, written)
      if gone ~= 0 then call('LTRIM', key, gone, -1) end
    else
      call('RPUSH', key, pack(ENTRY, now, 0), written)
    end
    -- The TTL is an eighth too long, so that it need not be set anew at each charge.
    if floor(stamp / eighth) ~= floor(newest / eighth) then
      call('PEXPIRE', key, ceil((stamp + window + eighth - now) / 1000) + 1)
    end
    return 1, limit - used - cost, 0, stamp + window - now
  end

  local remaining, reset = max(limit - used, 0), max(newest + window - now, 0)
  if cost > limit then return 0, remaining, -1, reset end
  local need = used + cost - limit -- units that would have to leave first
  if need > 1 then
    -- No entry is of less than one unit, so what is sought is at most need entries away.
    local high = min(gone + need, call('LLEN', key) - 1)
    oldest = entry(key, seek(key, gone, high, function(_, upto) return (upto - base) % WRAP >= need end))
  end
  return 0, remaining, oldest + window - now, reset
end

local now = now_us()
local answers = {}
for k = 1, #KEYS do
  answers[4 * k - 3], answers[4 * k - 2], answers[4 * k - 1], answers[4 * k] =
    decide(KEYS[k], now, tonumber(ARGV[3 * k - 2]), tonumber(ARGV[3 * k - 1]), tonumber(ARGV[3 * k]))
end
return answers
