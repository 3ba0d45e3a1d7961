-- log_search.lua: find where the window begins in a log, or the entry whose leaving makes room for a request.
--
-- Layout     the log, as in sliding_window.lua.
--
-- Given      redis.
-- Returns    its functions, to sliding_window.lua.
-- Cost       O(1) reads for a place near the oldest entry, O(log n) for others.
local HEADER, ENTRY = 20, 12
local WRAP = 1099511627776

-- Entry n of a page, from 0: its stamp and its total.
local function entry(page, n)
  return struct.unpack('>I7I5', page, HEADER + ENTRY * n + 1)
end

-- Whether entry n of a page has not left by cutoff, and its total is need or more above base. Along a log this is
-- false, then true; `place_in` and `seek` find the first entry for which it is true, and there must be one.
local function past(page, n, cutoff, base, need)
  local stamp, total = entry(page, n)
  return stamp > cutoff and (total - base) % WRAP >= need
end

local function last_in(page)
  return (#page - HEADER) / ENTRY - 1
end

-- The entry's place in a page. Gallops from `low`, a place known to be before it (-1 for none), as it is near.
local function place_in(page, low, cutoff, base, need)
  local high, last = low + 1, last_in(page)
  while high < last and not past(page, high, cutoff, base, need) do
    low, high = high, math.min(2 * high - low, last)
  end
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    if past(page, middle, cutoff, base, need) then high = middle else low = middle end
  end
  return high
end

-- The index of the entry's page, the page, and its place there, in the log whose last page is given. Gallops, too, from
-- the oldest page, where `low` is known to be before it.
local function seek(key, tail, paged, low, cutoff, base, need)
  local page = paged and redis.call('LINDEX', key, '0') or tail
  if not paged or past(page, last_in(page), cutoff, base, need) then
    return 0, page, place_in(page, low, cutoff, base, need)
  end
  local below, index, last = 0, 0, redis.call('LLEN', key) - 1
  repeat
    below, index = index, math.min(2 * index + 1, last)
    page = index < last and redis.call('LINDEX', key, index) or tail
  until index == last or past(page, last_in(page), cutoff, base, need)
  while index - below > 1 do
    local middle = math.floor((below + index) / 2)
    local candidate = redis.call('LINDEX', key, middle)
    if past(candidate, last_in(candidate), cutoff, base, need) then
      index, page = middle, candidate
    else
      below = middle
    end
  end
  return index, page, place_in(page, -1, cutoff, base, need)
end

-- The rest of a log once all entries up to cutoff have left, `gone` of the oldest page having left before: the new
-- base, the stamp of the oldest entry left, whether its page is not the last one, how many pages are before that, and
-- how many entries before it there.
local function aged(key, tail, paged, gone, cutoff)
  local index, page, place = seek(key, tail, paged, gone, cutoff, 0, 0)
  local left, before = page, place - 1
  if place == 0 then -- the oldest entry has left, so there is a page before
    left = redis.call('LINDEX', key, index - 1)
    before = last_in(left)
  end
  local _, base = entry(left, before)
  local first = entry(page, place)
  return base, first, page ~= tail, index, place
end

-- The stamp of the entry that `seek` finds.
local function stamp(...)
  local _, page, place = seek(...)
  local found = entry(page, place)
  return found
end

return {aged = aged, stamp = stamp}
