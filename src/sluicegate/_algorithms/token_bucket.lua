-- token_bucket.lua: check one bucket, and commit to it, under a token bucket.
--
-- KEYS[k]    the bucket: time µs (7 bytes), level × window (8 bytes); then as state.lua says. Absent when idle.
-- ARGV[a]    cost: units this request takes (integer > 0)
-- ARGV[a+1]  limit: units that drain in one window (integer > 0)
-- ARGV[a+2]  window: µs (integer > 0)
-- ARGV[a+3]  burst: units allowed at one instant (integer > 0); limit × window and burst × window are at most 2^53
--
-- Given      COMMIT, repaired, now and open, which stand before this file in the script; redis; a; and for a block,
--            ends: the end of the block.
-- Returns    check, to decide.lua, or block, to block.lua, as in sliding_window.lua; and how many arguments there are.
-- Cost       O(1): one GET to check, one SET to commit.
local a, ends = ...
local cost, limit, window, burst =
  tonumber(ARGV[a]), tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
local SIZE = 15
-- When a level has drained, µs from now. For whole numbers up to 2^53, a quotient that is not whole is never rounded to
-- one that is.
local function empty_after(at, level)
  return at - now + math.ceil(level / limit)
end

if ends then
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
local function write(key, at, level, mark, left)
  local empty = empty_after(at, level)
  local left_at_least = math.max(empty, at - now + window, left)
  redis.call('SET', key, struct.pack('>I7I8', at, level) .. mark, 'PX', math.ceil(left_at_least / 1000) + 1)
  return empty
end

return function(key, at_once)
  local bucket, blocked, mark = redis.pcall('GET', key), 0, ''
  if bucket and #bucket ~= SIZE then
    bucket, blocked, mark = open('state').read(bucket, SIZE)
    if not blocked then return nil, mark end
  end
  local at, level = now, 0
  if bucket then
    local poured
    at, poured = struct.unpack('>I7I8', bucket)
    level = poured
    if at - now > window then -- only a step of the clock can have put it there
      at = now
      if COMMIT then
        write(key, at, level, mark, blocked - now)
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
  local room, wait = burst * window - level, 0
  local excess = level - (burst - cost) * window
  if cost > burst then
    wait = -1
  elseif excess > 0 then
    -- Rounded up: a microsecond early, the same request would be denied again.
    wait = empty_after(at, excess)
  end
  local remaining = room > 0 and (room - room % window) / window or 0
  if blocked > now then return open('state').under(blocked - now, remaining, wait, empty_after(at, level)) end
  if wait ~= 0 or not COMMIT then return remaining, wait, empty_after(at, level) end
  if at_once then return remaining - cost, 0, write(key, at, level + cost * window, '', 0) end
  return remaining, 0, empty_after(at, level), function()
    return remaining - cost, write(key, at, level + cost * window, '', 0)
  end
end, 4
