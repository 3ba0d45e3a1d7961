-- sliding_window.lua: look at one cumulative log, and charge it, under an exact sliding window.
--
-- KEYS[k]    the log: a list of pages, oldest first; absent when idle.
--            page   birth µs (7 bytes), base (5), first µs (7), gone (1), then 1 to 20 entries of
--            entry  stamp µs (7), total (5): all units ever allowed, this entry's included, modulo 2^40.
--            Only the last page's header counts: base is the total of all that had left at the last charge, first the
--            stamp of the oldest entry that had not, gone how many had in its page. Every page but the last is full.
-- ARGV[a]    cost: units this request takes (integer > 0)
-- ARGV[a+1]  limit: units per window (integer > 0)
-- ARGV[a+2]  window: µs (integer > 0)
-- ARGV[a+3]  grain: µs (integer > 0); stamps are rounded up to a multiple of it, 1 for exact
--
-- Given      CHARGING and mended, which stand before this file in the script; redis.
-- Returns    {look, argc}, to decide.lua.
-- Cost       O(1) for a unit cost: one LINDEX to look, one LSET or RPUSH to charge, and one LINDEX more where the
--            oldest entry has left. A dearer request that is denied searches: O(log n) reads.
--
-- Why pages: a string doubles when it grows and is read or cut whole, a list of single entries needs five calls for
-- a charge. See docs/adr/0003.
local HEADER, ENTRY, FULL = 20, 12, 20
local WRAP = 1099511627776 -- 2^40: the totals' modulus; a limit and a cost are at most 10^11 each
local call, pack, unpack = redis.call, struct.pack, struct.unpack
local ceil, floor, max, min = math.ceil, math.floor, math.max, math.min

-- Entry n of a page, from 0: its stamp and its total.
local function entry(page, n)
  return unpack('>I7I5', page, HEADER + ENTRY * n + 1)
end

local function entries(page)
  return (#page - HEADER) / ENTRY
end

-- Whether entry n of a page has not left by cutoff, and its total is need or more above base. Along a log this is
-- false, then true; `place_in` and `seek` find the first for which it is, and there must be one.
local function past(page, n, cutoff, base, need)
  local stamp, total = entry(page, n)
  return stamp > cutoff and (total - base) % WRAP >= need
end

-- Its place in a page. Gallops from `low`, a place known to be before it (-1 for none): it is near.
local function place_in(page, low, cutoff, base, need)
  local high, last = low + 1, entries(page) - 1
  while high < last and not past(page, high, cutoff, base, need) do
    low, high = high, min(2 * high - low, last)
  end
  while high - low > 1 do
    local middle = floor((low + high) / 2)
    if past(page, middle, cutoff, base, need) then high = middle else low = middle end
  end
  return high
end

-- The index of its page, the page, and its place there, in the log whose last page is given. Gallops, too, from the
-- oldest page, where `low` is known to be before it.
local function seek(key, tail, paged, low, cutoff, base, need)
  local page = paged and call('LINDEX', key, 0) or tail
  if not paged or past(page, entries(page) - 1, cutoff, base, need) then
    return 0, page, place_in(page, low, cutoff, base, need)
  end
  local below, index, last = 0, 0, call('LLEN', key) - 1
  repeat
    below, index = index, min(2 * index + 1, last)
    page = index < last and call('LINDEX', key, index) or tail
  until index == last or past(page, entries(page) - 1, cutoff, base, need)
  while index - below > 1 do
    local middle = floor((below + index) / 2)
    local candidate = call('LINDEX', key, middle)
    if past(candidate, entries(candidate) - 1, cutoff, base, need) then
      index, page = middle, candidate
    else
      below = middle
    end
  end
  return index, page, place_in(page, -1, cutoff, base, need)
end

-- What is left once all up to cutoff has gone, `gone` entries of the oldest page having gone before: the new base, the
-- stamp of the oldest entry left, whether its page is not the last one, how many pages are before that, and how many
-- entries before it there.
local function aged(key, tail, paged, gone, cutoff)
  local index, page, place = seek(key, tail, paged, gone, cutoff, 0, 0)
  local left, before = page, place - 1
  if place == 0 then -- the oldest entry has left, so there is a page before
    left = call('LINDEX', key, index - 1)
    before = entries(left) - 1
  end
  local _, base = entry(left, before)
  local first = entry(page, place)
  return base, first, page ~= tail, index, place
end

-- The key must outlive its newest stamp, `ahead` µs from now, by a window. It is told so when the stamps enter a new
-- eighth of the window, an eighth too long, and not at each charge.
local function expire(key, ahead, window)
  call('PEXPIRE', key, ceil((ahead + window + ceil(window / 8)) / 1000) + 1)
end

-- A stamp more than a window ahead can only come from a clock that was stepped: move the log back, so that its newest
-- entry is now. Rare, so it may cost O(n). Returns the last page.
local function mend(key, ahead, window)
  local last
  local pages = call('LRANGE', key, 0, -1)
  call('DEL', key)
  for _, page in ipairs(pages) do
    local birth, base, first, gone = unpack('>I7I5I7B', page)
    local moved = {pack('>I7I5I7B', birth, base, max(first - ahead, 0), gone)}
    for n = 0, entries(page) - 1 do
      local stamp, total = entry(page, n)
      moved[n + 2] = pack('>I7I5', max(stamp - ahead, 0), total)
    end
    last = table.concat(moved)
    call('RPUSH', key, last)
  end
  expire(key, 0, window)
  mended = mended + 1
  return last
end

-- Enters a cost that was looked at at the same time; `first` is nil when nothing is left. Returns reset_after µs.
local function charge(now, key, cost, window, grain, tail, birth, base, first, newest, total, paged, drop, gone)
  -- Never below the newest: the log stays sorted when the clock steps back.
  local stamp = max(ceil(now / grain) * grain, newest)
  local written = pack('>I7I5I7B', birth, base, first or stamp, paged and gone or 0)
  local added = pack('>I7I5', stamp, (total + cost) % WRAP)
  if not tail then
    call('RPUSH', key, written .. added)
  elseif not first then
    if paged then call('LTRIM', key, -1, -1) end
    call('LSET', key, -1, written .. added)
  else
    local from, to = HEADER + 1, #tail
    if not paged then from = from + ENTRY * gone end
    if stamp == newest then to = to - ENTRY end -- one entry for all of one stamp
    if to - from + 1 < FULL * ENTRY then
      call('LSET', key, -1, written .. string.sub(tail, from, to) .. added)
    else
      call('RPUSH', key, written .. added)
    end
    if drop > 0 then call('LTRIM', key, drop, -1) end
  end
  local eighth = ceil(window / 8)
  if not tail or floor(stamp / eighth) ~= floor(newest / eighth) then expire(key, stamp - now, window) end
  return stamp + window - now
end

-- Judges the charge whose arguments begin at ARGV[a]. Returns allowed 0|1, remaining, retry_after µs (-1: never),
-- reset_after µs; or nil and what is wrong with the key. Alone in its request, what is allowed is charged at once; in a
-- set a function follows that charges it, and returns the new remaining and reset_after.
local function look(key, now, a, alone)
  local cost, limit, window, grain = tonumber(ARGV[a]), tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), ARGV[a + 3]
  local tail = redis.pcall('LINDEX', key, -1)
  local birth, base, first, newest, total, paged, drop, gone = now, 0, nil, 0, 0, false, 0, 0
  local used, reset, cutoff = 0, 0, now - window
  if tail then
    if type(tail) == 'table' then return nil, tail.err end
    local count = entries(tail)
    if count < 1 or count % 1 ~= 0 then return nil, 'ERR not a log of headgate' end
    newest, total = entry(tail, count - 1)
    local oldest -- in the last page
    birth, base, first, gone, oldest = unpack('>I7I5I7BI7', tail)
    if first > newest or oldest > newest or gone >= FULL then return nil, 'ERR not a log of headgate' end
    if newest > now + window then
      if CHARGING then
        local ahead = newest - now
        tail = mend(key, ahead, window)
        first, oldest, newest = max(first - ahead, 0), max(oldest - ahead, 0), now
      else
        cutoff = newest - window -- as if mended: the log moved back is the clock moved on
      end
    end
    paged = first < oldest
    if newest <= cutoff then
      base, first, gone = total, nil, 0
    elseif first <= cutoff then
      base, first, paged, drop, gone = aged(key, tail, paged, gone, cutoff)
    end
    used = (total - base) % WRAP
    reset = max(newest - cutoff, 0)
  end
  local remaining = max(limit - used, 0)
  local need = used + cost - limit -- units that would have to leave first
  if need > 0 then
    if cost > limit then return 0, remaining, -1, reset end
    local leaving = first
    if need > 1 then
      -- From the oldest entry left on: before it totals lie below the base, and would seem to be far above it.
      local _, page, place = seek(key, tail, paged, drop == 0 and gone - 1 or -1, cutoff, base, need)
      leaving = entry(page, place)
    end
    return 0, remaining, leaving - cutoff, reset
  end
  if not CHARGING then return 1, remaining, 0, reset end
  if alone then
    return 1, remaining - cost, 0,
      charge(now, key, cost, window, tonumber(grain), tail, birth, base, first, newest, total, paged, drop, gone)
  end
  return 1, remaining, 0, reset, function()
    return remaining - cost,
      charge(now, key, cost, window, tonumber(grain), tail, birth, base, first, newest, total, paged, drop, gone)
  end
end

return {look = look, argc = 4}
