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
local call, pack, unpack = redis.call, struct.pack, struct.unpack

local function entry(page, n)
  return unpack('>I7I5', page, HEADER + ENTRY * n + 1)
end

local function entries(page)
  return (#page - HEADER) / ENTRY
end

-- The first entry for which past(stamp, total) holds; it must be false, then true, along the log, and true at the end.
-- Returns its page's index, the page, and its place there. Gallops from the oldest page: what is sought is near it.
local function seek(log, past)
  local low, high, page = -1, 0, log.page
  if log.paged then
    local last = call('LLEN', log.key) - 1
    local function at(index)
      if index == last then return log.page end
      return call('LINDEX', log.key, index)
    end
    local function reaches(index)
      if index == last then return true end
      local candidate = at(index)
      return past(entry(candidate, entries(candidate) - 1))
    end
    while not reaches(high) do
      low, high = high, math.min(2 * high + 1, last)
    end
    while high - low > 1 do
      local middle = math.floor((low + high) / 2)
      if reaches(middle) then high = middle else low = middle end
    end
    page = at(high)
  end
  local from, to = 0, entries(page) - 1
  while from < to do
    local middle = math.floor((from + to) / 2)
    if past(entry(page, middle)) then to = middle else from = middle + 1 end
  end
  return high, page, from
end

-- Take away what has left the window: sets base and first (nil when all has left), the pages to drop, and how many
-- entries to cut from the last page when the oldest that is left lies there.
local function age(log, cutoff)
  if log.newest <= cutoff then
    log.base, log.first = log.total, nil
  else
    local index, page, place = seek(log, function(stamp) return stamp > cutoff end)
    local gone, before = page, place - 1
    if place == 0 then -- the first entry is gone, so there is a page before
      gone = call('LINDEX', log.key, index - 1)
      before = entries(gone) - 1
    end
    log.first = entry(page, place)
    log.base = select(2, entry(gone, before))
    log.drop = index
    if page == log.page then
      log.paged, log.cut = false, place
    end
  end
end

-- The key must outlive its newest stamp, `ahead` µs from now, by a window. It is told so when the stamps enter a new
-- eighth of the window, an eighth too long, and not at each charge.
local function expire(log, ahead)
  call('PEXPIRE', log.key, math.ceil((ahead + log.window + log.eighth) / 1000) + 1)
end

-- A stamp more than a window ahead can only come from a clock that was stepped: move the log back, so that its newest
-- entry is now. Rare, so it may cost O(n).
local function mend(log, now)
  local ahead = log.newest - now
  for index, page in ipairs(call('LRANGE', log.key, 0, -1)) do
    local birth, base, first = unpack('>I7I5I7', page)
    local moved = {pack('>I7I5I7', birth, base, math.max(first - ahead, 0))}
    for n = 0, entries(page) - 1 do
      local stamp, total = entry(page, n)
      moved[n + 2] = pack('>I7I5', math.max(stamp - ahead, 0), total)
    end
    log.page = table.concat(moved)
    call('LSET', log.key, index - 1, log.page)
  end
  log.first, log.newest = log.first - ahead, now
  expire(log, 0)
end

-- Charges a log that was looked at in this script. Returns remaining and reset_after µs.
local function charge(log, now)
  local window, page = log.window, log.page
  -- Never below the newest: the log stays sorted when the clock steps back.
  local stamp = math.max(math.ceil(now / log.grain) * log.grain, log.newest)
  local written = pack('>I7I5', stamp, (log.total + log.cost) % WRAP)
  local header = pack('>I7I5I7', log.birth, log.base, log.first or stamp)
  if not page then
    call('RPUSH', log.key, header .. written)
  elseif not log.first then -- all of it has left
    if log.paged then call('LTRIM', log.key, -1, -1) end
    call('LSET', log.key, -1, header .. written)
  else
    local from, to = HEADER + ENTRY * log.cut + 1, #page
    if stamp == log.newest then to = to - ENTRY end -- one entry for all of one stamp
    if to - from + 1 < FULL * ENTRY then
      call('LSET', log.key, -1, header .. string.sub(page, from, to) .. written)
    else
      call('RPUSH', log.key, header .. written)
    end
    if log.drop > 0 then call('LTRIM', log.key, log.drop, -1) end
  end
  if not page or math.floor(stamp / log.eighth) ~= math.floor(log.newest / log.eighth) then
    expire(log, stamp - now)
  end
  return log.remaining - log.cost, stamp + window - now
end

-- Returns the log's state and the verdict on the charge, or nil and what is wrong with the key.
local function look(key, now, a)
  local cost, limit, window, grain = tonumber(ARGV[a]), tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), ARGV[a + 3]
  local page = redis.pcall('LINDEX', key, -1)
  local birth, base, first, oldest, newest, total = now, 0, nil, 0, 0, 0 -- oldest: in this page
  if page then
    if type(page) == 'table' then return nil, page.err end
    if #page < HEADER + ENTRY or (#page - HEADER) % ENTRY ~= 0 then return nil, 'ERR not a log of headgate' end
    birth, base, first, oldest = unpack('>I7I5I7I7', page)
    newest, total = entry(page, entries(page) - 1)
  end
  -- All fields at once: a table that grows field by field costs as much as the calls.
  local log = {
    key = key, cost = cost, window = window, eighth = math.ceil(window / 8), grain = tonumber(grain), charge = charge,
    page = page, birth = birth, base = base, first = first, newest = newest, total = total,
    paged = first and first < oldest, drop = 0, cut = 0, mended = false, remaining = limit,
  }
  local reset = 0
  if page then
    if newest > now + window then
      log.mended = true
      if CHARGING then mend(log, now) else now = newest end
    end
    if log.first <= now - window then age(log, now - window) end
    log.remaining = math.max(limit - (total - log.base) % WRAP, 0)
    reset = math.max(log.newest + window - now, 0)
  end
  local need = (total - log.base) % WRAP + cost - limit -- units that would have to leave first
  if need <= 0 then return log, true, log.remaining, 0, reset end
  if cost > limit then return log, false, log.remaining, -1, reset end
  local leaving = log.first
  if need > 1 then
    local cutoff = now - window
    local _, holder, place = seek(log, function(stamp, upto)
      return stamp > cutoff and (upto - log.base) % WRAP >= need
    end)
    leaving = entry(holder, place)
  end
  return log, false, log.remaining, leaving + window - now, reset
end

return {look = look, argc = 4}
