-- token_bucket.lua: check one bucket, and commit to it, under a token bucket.
--
-- KEYS[k]    the bucket: time µs (7 bytes), level × window (8 bytes), its birth µs (7): when it was last empty or
--            repaired; then as state.lua says. Absent when idle.
-- ARGV[a]    cost: units this request takes (integer > 0); less than 0 to take them under a block, too, which stays
-- ARGV[a+1]  limit: units that drain in one window (integer > 0)
-- ARGV[a+2]  window: µs (integer > 0)
-- ARGV[a+3]  burst: units allowed at one instant (integer > 0); limit × window and burst × window are at most 2^53
--
-- Given      COMMIT, RESERVE, repaired, entered, now and open, which stand before this file in the script; redis; a; and
--            verb and ends, as in sliding_window.lua.
-- Returns    check, block or settle, as in sliding_window.lua; and how many arguments there are. A mark is the birth, and
--            the time of the charge.
-- Cost       O(1): one GET to check, one SET to commit.
local a, verb, ends = ...
local cost, limit, window, burst =
  tonumber(ARGV[a]), tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
local forced = cost < 0
if forced then cost = -cost end
local SIZE = 22
-- 2^53: whole numbers up to it are exact
local EXACT = 9007199254740992
-- When a level has drained, µs from now. For whole numbers up to 2^53, a quotient that is not whole is never rounded to
-- one that is.
local function empty_after(at, level)
  return level > 0 and at - now + math.ceil(level / limit) or 0
end

if verb == 'block' then
  return function(key)
    return open('state').block(key, SIZE, ends, function(bucket)
      local at, level = struct.unpack('>I7I8', bucket)
      -- Its last charge may have been under a lower limit than this one: it is kept for the rest of its TTL, or until it
      -- is empty at a limit of 1.
      local left = math.min(redis.call('PTTL', key) * 1000, at - now + level)
      return math.max(empty_after(at, level), at - now + window, left)
    end)
  end, 4
end

-- Writes a bucket, and the mark of a block that has `left` µs to come. Returns when the bucket is empty, µs from now.
-- It is kept for a window at least: if the limit is lowered, it empties more slowly than expected now.
local function write(key, at, level, birth, mark, left)
  local empty = empty_after(at, level)
  local left_at_least = math.max(empty, at - now + window, left)
  redis.call('SET', key, struct.pack('>I7I8I7', at, level, birth) .. mark, 'PX', math.ceil(left_at_least / 1000) + 1)
  if RESERVE then entered = string.format('%.0f %.0f', birth, at) end
  return empty
end

if verb == 'settle' then
  return function(key, mark, actual)
    local bucket, blocked, block = open('state').read(redis.pcall('GET', key), SIZE)
    if not blocked then return nil, block end
    if not bucket then return 0 end
    local at, level, birth = struct.unpack('>I7I8I7', bucket)
    local born, poured_at = string.match(mark, '^(%d+) (%d+)$')
    if birth ~= tonumber(born) or at - now > window then return 0 end
    local passed = now - at
    if passed > 0 then
      at, level = now, math.max(level - limit * passed, 0)
    end
    if level == 0 and passed >= window then return 0 end -- it may have expired
    local more = (actual - cost) * window
    if more > 0 then
      local most = math.floor(EXACT / window) * window
      level = math.max(level, math.min(level + more, most))
    else
      -- What has drained meanwhile is not given back again.
      level = math.max(level - math.max(-more - limit * (at - poured_at), 0), 0)
    end
    write(key, at, level, birth, block, blocked - now)
    return 1
  end, 4
end

return function(key, at_once)
  local bucket, blocked, mark = redis.pcall('GET', key), 0, ''
  if bucket and #bucket ~= SIZE then
    bucket, blocked, mark = open('state').read(bucket, SIZE)
    if not blocked then return nil, mark end
    if blocked <= now then mark = '' end
  end
  local at, level, birth = now, 0, now
  if bucket then
    local poured
    at, poured, birth = struct.unpack('>I7I8I7', bucket)
    level = poured
    if at - now > window then -- only a step of the clock can have put it there
      at, birth = now, now
      if COMMIT then
        write(key, at, level, birth, mark, blocked - now)
        repaired = repaired + 1
      end
    elseif at < now then
      at, level = now, math.max(level - limit * (now - at), 0) -- a product past 2^53 is above any level
    end
    if COMMIT and poured > limit * window then
      -- It needs longer than a window to empty. Its last charge may have been under a higher limit, with a shorter TTL.
      redis.call('PEXPIRE', key, math.ceil(empty_after(at, level) / 1000) + 1, 'GT')
    end
  end
  if level == 0 then birth = now end -- all that was marked has drained
  local room, wait = burst * window - level, 0
  local excess = level - (burst - cost) * window
  if cost > burst then
    wait = -1
  elseif excess > 0 then
    -- Rounded up: a microsecond early, the same request would be denied again.
    wait = empty_after(at, excess)
  end
  local remaining = room > 0 and (room - room % window) / window or 0
  if blocked > now and not forced then return open('state').under(blocked - now, remaining, wait, empty_after(at, level)) end
  if wait ~= 0 or not COMMIT then return remaining, wait, empty_after(at, level) end
  if at_once then return remaining - cost, 0, write(key, at, level + cost * window, birth, mark, blocked - now) end
  return remaining, 0, empty_after(at, level), function()
    return remaining - cost, write(key, at, level + cost * window, birth, mark, blocked - now)
  end
end, 4
