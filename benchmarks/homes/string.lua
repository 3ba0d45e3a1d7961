-- string.lua: the log as one string.
--
-- KEYS[k]       the log: a header and its entries, oldest first; absent when idle.
--               header  gone (5 bytes): entries at the front that have left and are still there, base (5): the total of
--                       what has left, oldest µs (7): the stamp of the first entry that has not
--               entry   stamp µs (7), total (5): all units ever allowed, this entry's included, modulo 2^40.
-- ARGV[3k - 2]  limit: units per window (integer > 0)
-- ARGV[3k - 1]  window: µs (integer > 0)
-- ARGV[3k]      cost: units this request takes (integer > 0)
--
-- Returns  for each key {allowed 0|1, remaining, retry_after µs (-1: never), reset_after µs}
-- Cost     up to WHOLE bytes: one GETRANGE to look; APPEND to charge, or SET where the oldest entry has left. Above:
--          two GETRANGE to look; APPEND to charge, and where the oldest has left GETRANGE and SETRANGE more, and once
--          in n charges, when half of the string has left, it is written anew: O(n). PEXPIRE once in an eighth of the
--          window. A dearer request that is denied searches: O(log n) calls of GETRANGE.
-- Clock    now_us(), written before this file; once for the batch.
local WRAP, ENTRY, SIZE = 1099511627776, '>I7I5', 12
local HEADER, HEAD = '>I5I5I7', 17
local WHOLE = 512
local call, pack, unpack = redis.call, struct.pack, struct.unpack
local floor, ceil, min, max = math.floor, math.ceil, math.min, math.max

-- head: the first bytes of the log, read already.
local function entry(key, head, n)
  local from = HEAD + SIZE * n
  if from + SIZE <= #head then return unpack(ENTRY, head, from + 1) end
  return unpack(ENTRY, call('GETRANGE', key, from, from + SIZE - 1))
end

-- The total of an entry and the stamp of the next: base and oldest, once it has left. One read for both.
local function step_over(key, head, n)
  local from = HEAD + SIZE * n + 7
  if from + 12 <= #head then return unpack('>I5I7', head, from + 1) end
  return unpack('>I5I7', call('GETRANGE', key, from, from + 11))
end

-- The first entry after low for which past(stamp, total) holds; it must hold at high. Gallops: it is near low.
local function seek(key, head, low, high, past)
  local step = 1
  while low + step < high and not past(entry(key, head, low + step)) do
    low, step = low + step, 2 * step
  end
  high = min(low + step, high)
  while high - low > 1 do
    local middle = floor((low + high) / 2)
    if past(entry(key, head, middle)) then high = middle else low = middle end
  end
  return high
end

local function newest_of(key, head, whole)
  if whole then return unpack(ENTRY, head, #head - SIZE + 1) end
  return unpack(ENTRY, call('GETRANGE', key, -SIZE, -1))
end

local function last_of(key, head, whole)
  return ((whole and #head or call('STRLEN', key)) - HEAD) / SIZE - 1
end

local function decide(key, now, limit, window, cost)
  local cutoff = now - window
  local head = call('GETRANGE', key, 0, WHOLE) -- a byte more than a whole one has
  local whole = #head <= WHOLE
  local newest, total, gone, base, oldest = 0, 0, 0, 0, nil
  local left = false -- whether entries have left since the header was written
  if #head > 0 then
    newest, total = newest_of(key, head, whole)
    if newest <= cutoff then
      base = total
    else
      gone, base, oldest = unpack(HEADER, head)
      if oldest <= cutoff then
        base, oldest = step_over(key, head, gone)
        gone, left = gone + 1, true
        if oldest <= cutoff then -- as a rule no more than one has left
          gone = seek(key, head, gone, last_of(key, head, whole), function(stamp) return stamp > cutoff end)
          base, oldest = step_over(key, head, gone - 1)
        end
      end
    end
  end

  local used = (total - base) % WRAP
  if used + cost <= limit then
    -- Never below the newest: the log stays sorted when the clock steps back.
    local stamp, eighth = max(now, newest), ceil(window / 8)
    local written = pack(ENTRY, stamp, (total + cost) % WRAP)
    -- The TTL is an eighth too long, so that it need not be set anew at each charge.
    local ttl = ceil((stamp + window + eighth - now) / 1000) + 1
    if not oldest then
      call('SET', key, pack(HEADER, 0, base, stamp) .. written, 'PX', ttl)
    elseif whole and left then
      local kept = string.sub(head, HEAD + SIZE * gone + 1)
      call('SET', key, pack(HEADER, 0, base, oldest) .. kept .. written, 'PX', ttl)
    else
      local bytes = call('APPEND', key, written)
      if 2 * SIZE * gone > bytes then
        local kept = call('GETRANGE', key, HEAD + SIZE * gone, -1)
        call('SET', key, pack(HEADER, 0, base, oldest) .. kept, 'PX', ttl)
      else
        if left then call('SETRANGE', key, 0, pack(HEADER, gone, base, oldest)) end
        if floor(stamp / eighth) ~= floor(newest / eighth) then call('PEXPIRE', key, ttl) end
      end
    end
    return 1, limit - used - cost, 0, stamp + window - now
  end

  local remaining, reset = max(limit - used, 0), max(newest + window - now, 0)
  if cost > limit then return 0, remaining, -1, reset end
  local need = used + cost - limit -- units that would have to leave first
  if need > 1 then
    -- No entry is of less than one unit, so what is sought is less than need entries away.
    local high = min(gone + need - 1, last_of(key, head, whole))
    local function enough(_, upto) return (upto - base) % WRAP >= need end
    oldest = entry(key, head, seek(key, head, gone - 1, high, enough))
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
