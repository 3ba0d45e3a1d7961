-- count.lua: check one count, and commit to it, under a window from one instant to another. For the algorithms whose
-- windows have edges.
--
-- Layout     the count: start of its window µs (7 bytes), its end (7), units (5), its birth µs (7): when it was made or
--            repaired; then as state.lua says. Absent when idle.
--
-- Given      COMMIT, RESERVE, repaired, entered, now and open, which stand before this file in the script; redis; cost
--            and limit, as in fixed_window.lua; from and over: the start and the end of the current window, µs since
--            1970; after: the end of the next one, or nil if the sender did not send it; and verb and ends, as in
--            sliding_window.lua.
-- Returns    check, block or settle, as in sliding_window.lua. If `after` is needed and missing, the fault is
--            "CLOCK_MISMATCH now". A mark is the birth.
-- Cost       O(1): one GET to check, one SET to commit.
local cost, limit, from, over, after, verb, ends = ...
local forced = cost < 0
if forced then cost = -cost end
local SIZE = 26
-- Units above which nothing is entered.
local MOST = 1000000000000

if verb == 'block' then
  return function(key)
    return open('state').block(key, SIZE, ends, function(count)
      local _, last = struct.unpack('>I7I7', count)
      return last - now
    end)
  end
end

-- Writes a count, and the mark of a block that has `left` µs to come. Returns when the count is over, µs from now.
local function write(key, start, finish, used, birth, mark, left)
  local reset = finish - now
  local count = struct.pack('>I7I7I5I7', start, finish, used, birth) .. mark
  if RESERVE then entered = string.format('%.0f', birth) end
  redis.call('SET', key, count, 'PX', math.ceil(math.max(reset, left) / 1000) + 1)
  return reset
end

if verb == 'settle' then
  return function(key, mark, actual)
    local count, blocked, block = open('state').read(redis.pcall('GET', key), SIZE)
    if not blocked then return nil, block end
    if not count then return 0 end
    local start, finish, used, birth = struct.unpack('>I7I7I5I7', count)
    if birth ~= tonumber(mark) or now >= finish then return 0 end
    local more = actual - cost
    local settled = more < 0 and math.max(used + more, 0) or math.max(used, math.min(used + more, MOST))
    write(key, start, finish, settled, birth, block, blocked - now)
    return 1
  end
end

return function(key, at_once)
  local count, blocked, mark = redis.pcall('GET', key), 0, ''
  if count and #count ~= SIZE then
    count, blocked, mark = open('state').read(count, SIZE)
    if not blocked then return nil, mark end
    if blocked <= now then mark = '' end
  end
  local start, finish, used, birth = from, over, 0, now
  if count then
    local begun, ended, units, born = struct.unpack('>I7I7I5I7', count)
    if begun > over then -- only a step of the clock can have put it there
      -- It moves into the next window. The current one may be about to end, and the one before the count's may have
      -- been as full.
      if not after then return nil, string.format('CLOCK_MISMATCH %.0f', now) end
      start, finish, used = over, after, units
      if COMMIT then
        write(key, start, finish, used, birth, mark, blocked - now)
        repaired = repaired + 1
      end
    elseif now < ended then -- its own edges: the clock may have stepped back behind them
      start, finish, used, birth = begun, ended, units, born
    end
  end
  local room, wait, reset = limit - used, 0, used > 0 and finish - now or 0
  if cost > limit then
    wait = -1
  elseif cost > room then
    wait = finish - now
  end
  if room < 0 then room = 0 end
  if blocked > now and not forced then return open('state').under(blocked - now, room, wait, reset) end
  if wait ~= 0 or not COMMIT then return room, wait, reset end
  if at_once then return room - cost, 0, write(key, start, finish, used + cost, birth, mark, blocked - now) end
  return room, 0, reset, function()
    return room - cost, write(key, start, finish, used + cost, birth, mark, blocked - now)
  end
end
