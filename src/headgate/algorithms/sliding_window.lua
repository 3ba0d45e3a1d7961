-- sliding_window.lua: look at one cumulative log, and charge it, under an exact sliding window.
--
-- KEYS[k]    the log: a list of pages, oldest first; absent when idle.
--            page   birth µs (7 bytes), base (5), first µs (7), then 1 to 20 entries of
--            entry  stamp µs (7), total (5): all units ever allowed, this entry's included, modulo 2^40.
--            Only the last page's header counts: base is the total of what has been cut away, first the stamp of the
--            oldest entry that has not. Every page but the last is full.
-- ARGV[a]    cost: units this request takes (integer > 0)
-- ARGV[a+1]  limit: units per window (integer > 0)
-- ARGV[a+2]  window: µs (integer > 0)
-- ARGV[a+3]  grain: µs (integer > 0); stamps are rounded up to a multiple of it, 1 for exact
--
-- Returns    {look, argc}, to decide.lua.
-- Cost       O(1) for a unit cost: one LINDEX to look, one LSET or RPUSH to charge, and one LINDEX more where the
--            oldest entry has left. A dearer request that is denied searches: O(log n) reads.
--
-- Why pages: a string doubles when it grows and is read or cut whole, a list of single entries needs five calls for
-- a charge. See docs/adr/0003.
local HEADER, ENTRY, FULL = 19, 12, 20
local WRAP = 1099511627776 -- 2^40: the totals' modulus; a limit and a cost are at most 10^11 each
local call, pack, unpack_, ceil, floor, max = redis.call, struct.pack, struct.unpack, math.ceil, math.floor, math.max

-- Entry n of a page, from 0: its stamp and its total.
local function entry(page, n)
  return unpack_('>I7I5', page, HEADER + ENTRY * n + 1)
end

local function entries(page)
  return (#page - HEADER) / ENTRY
end

-- The place in a page of the first entry that has not left by cutoff and whose total is need or more above base.
-- There must be one.
local function place_in(page, cutoff, base, need)
  local from, to = 0, entries(page) - 1
  while from < to do
    local middle = floor((from + to) / 2)
    local stamp, total = entry(page, middle)
    if stamp > cutoff and (total - base) % WRAP >= need then to = middle else from = middle + 1 end
  end
  return from
end

-- The same in the whole log, whose last page is given: the index of the entry's page, the page, and its place there.
-- Gallops from the oldest page, as what is sought is near it.
local function seek(key, tail, paged, cutoff, base, need)
  if not paged then return 0, tail, place_in(tail, cutoff, base, need) end
  local function reaches(page)
    local stamp, total = entry(page, entries(page) - 1)
    return stamp > cutoff and (total - base) % WRAP >= need
  end
  local low, high, page = -1, 0, call('LINDEX', key, 0)
  if not reaches(page) then
    local last = call('LLEN', key) - 1
    repeat
      low, high = high, math.min(2 * high + 1, last)
      page = high < last and call('LINDEX', key, high) or tail
    until high == last or reaches(page)
    while high - low > 1 do
      local middle = floor((low + high) / 2)
      local candidate = call('LINDEX', key, middle)
      if reaches(candidate) then high, page = middle, candidate else low = middle end
    end
  end
  return high, page, place_in(page, cutoff, base, need)
end

-- What is left once all up to cutoff has gone: the new base, the stamp of the oldest entry left, whether that lies
-- before the last page, how many pages are gone, and how many entries of the last one.
local function aged(key, tail, paged, cutoff)
  local index, page, place = seek(key, tail, paged, cutoff, 0, 0)
  local gone, before = page, place - 1
  if place == 0 then -- the oldest entry is gone, so there is a page before
    gone = call('LINDEX', key, index - 1)
    before = entries(gone) - 1
  end
  local _, base = entry(gone, before)
  local first = entry(page, place)
  if page == tail then return base, first, false, index, place end
  return base, first, true, index, 0
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
  for index, page in ipairs(call('LRANGE', key, 0, -1)) do
    local birth, base, first = unpack_('>I7I5I7', page)
    local moved = {pack('>I7I5I7', birth, base, max(first - ahead, 0))}
    for n = 0, entries(page) - 1 do
      local stamp, total = entry(page, n)
      moved[n + 2] = pack('>I7I5', max(stamp - ahead, 0), total)
    end
    last = table.concat(moved)
    call('LSET', key, index - 1, last)
  end
  expire(key, 0, window)
  mended = mended + 1
  return last
end

-- Enters a cost that was looked at at the same time; `first` is nil when nothing is left. Returns reset_after µs.
local function charge(now, key, cost, window, grain, tail, birth, base, first, newest, total, paged, drop, cut)
  -- Never below the newest: the log stays sorted when the clock steps back.
  local stamp = max(ceil(now / grain) * grain, newest)
  local written = pack('>I7I5I7', birth, base, first or stamp)
  local added = pack('>I7I5', stamp, (total + cost) % WRAP)
  if not tail then
    call('RPUSH', key, written .. added)
  elseif not first then
    if paged then call('LTRIM', key, -1, -1) end
    call('LSET', key, -1, written .. added)
  else
    local from, to = HEADER + ENTRY * cut + 1, #tail
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
  local birth, base, first, newest, total, paged, drop, cut = now, 0, nil, 0, 0, false, 0, 0
  local used, reset, cutoff = 0, 0, now - window
  if tail then
    if type(tail) == 'table' then return nil, tail.err end
    local count = entries(tail)
    if count < 1 or count % 1 ~= 0 then return nil, 'ERR not a log of headgate' end
    newest, total = entry(tail, count - 1)
    if newest > now + window then
      if CHARGING then
        tail = mend(key, newest - now, window)
        newest = now
      else
        cutoff = newest - window -- as if mended: the log moved back is the clock moved on
      end
    end
    local oldest -- in the last page
    birth, base, first, oldest = unpack_('>I7I5I7I7', tail)
    paged = first < oldest
    if newest <= cutoff then
      base, first = total, nil
    elseif first <= cutoff then
      base, first, paged, drop, cut = aged(key, tail, paged, cutoff)
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
      local _, page, place = seek(key, tail, paged, cutoff, base, need)
      leaving = entry(page, place)
    end
    return 0, remaining, leaving - cutoff, reset
  end
  if not CHARGING then return 1, remaining, 0, reset end
  if alone then
    return 1, remaining - cost, 0,
      charge(now, key, cost, window, tonumber(grain), tail, birth, base, first, newest, total, paged, drop, cut)
  end
  return 1, remaining, 0, reset, function()
    return remaining - cost,
      charge(now, key, cost, window, tonumber(grain), tail, birth, base, first, newest, total, paged, drop, cut)
  end
end

return {look = look, argc = 4}
