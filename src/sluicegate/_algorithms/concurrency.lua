-- concurrency.lua: check one set of leases, and lend from it, under a limit of permits that are held at once.
--
-- KEYS[k]    the leases: a sorted set with a member for each, `mark:permits`, by when it ends, µs since 1970; the member
--            `used` at minus the permits of all of them; and if the key is under a block, the member `block` at minus
--            its end. Absent when idle.
-- ARGV[a]    cost: permits this request takes (integer > 0)
-- ARGV[a+1]  limit: permits that may be held at once (integer > 0)
-- ARGV[a+2]  ttl: µs for which they are lent (integer > 0); part of the key's name
--
-- Given      COMMIT, repaired, entered, holder, numbered, now and open, which stand before this file in the
--            script; redis; a; and verb and ends, as in sliding_window.lua.
-- Returns    check, block or settle, as in sliding_window.lua; and how many arguments there are. A mark is `holder`, and
--            a number. Settling at 0 releases a lease, at its cost renews it.
-- Cost       O(log n) of n leases, and of each that has ended since; a wait for m permits O(m).
--
-- A lease ends no sooner than the newest one, so that leases are in the order in which they were made or renewed.
local a, verb, ends = ...
local cost, limit, ttl = tonumber(ARGV[a]), tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])

-- When the last lease ends; now, if none is left. And whether the key exists.
local function newest(key)
  local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
  return math.max(tonumber(last[2] or 0), now), last[1] ~= nil
end

if verb == 'block' then
  return function(key)
    local marked = redis.pcall('ZSCORE', key, 'block')
    if type(marked) == 'table' then return marked.err end
    if not marked and not redis.call('ZSCORE', key, 'used') and redis.call('EXISTS', key) == 1 then
      return 'ERR not a state of sluicegate'
    end
    if ends > now then
      redis.call('ZADD', key, string.format('%.0f', -ends), 'block')
    else
      redis.call('ZREM', key, 'block')
    end
    if redis.call('EXISTS', key) == 1 then
      redis.call('PEXPIRE', key, math.ceil((math.max(newest(key), ends) - now) / 1000) + 1)
    end
  end, 3
end

-- Moves leases that a clock step left too far ahead to where a new one would end (G8).
local function repair(key)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, string.format('(%.0f', now + ttl), '+inf')) do
    redis.call('ZADD', key, string.format('%.0f', now + ttl), member)
  end
  local block = -tonumber(redis.call('ZSCORE', key, 'block') or 0)
  redis.call('PEXPIRE', key, math.ceil(math.max(ttl, block - now) / 1000) + 1)
  repaired = repaired + 1
  return now + ttl
end

if verb == 'settle' then
  return function(key, mark, actual)
    local member = mark .. ':' .. ARGV[a]
    local over = redis.pcall('ZSCORE', key, member)
    if type(over) == 'table' then return nil, over.err end
    if not over or tonumber(over) <= now then return 0 end
    if actual == 0 then
      redis.call('ZREM', key, member)
      local used = redis.call('ZINCRBY', key, ARGV[a], 'used')
      if tonumber(used) >= 0 and not redis.call('ZSCORE', key, 'block') then redis.call('DEL', key) end
      return 1
    end
    local last = newest(key)
    if last - now > 2 * ttl then last = repair(key) end
    last = math.max(now + ttl, last)
    redis.call('ZADD', key, string.format('%.0f', last), member)
    -- GT: a block may have to last longer.
    redis.call('PEXPIRE', key, math.ceil((last - now) / 1000) + 1, 'GT')
    return 1
  end, 3
end

local function permits(member)
  return tonumber(string.match(member, ':(%d+)$'))
end

return function(key, at_once)
  local used = redis.pcall('ZSCORE', key, 'used')
  if type(used) == 'table' then return nil, used.err end
  local block, last, exists = redis.call('ZSCORE', key, 'block'), newest(key)
  if exists and not used and not block then return nil, 'ERR not a state of sluicegate' end
  used, block = -tonumber(used or 0), -tonumber(block or 0)
  local ended = redis.call('ZRANGEBYSCORE', key, '(0', string.format('%.0f', now))
  for _, member in ipairs(ended) do
    used = used - permits(member)
  end
  if COMMIT and #ended > 0 then
    redis.call('ZREMRANGEBYSCORE', key, '(0', string.format('%.0f', now))
    redis.call('ZADD', key, string.format('%.0f', -used), 'used')
  end
  local latest = last - now > 2 * ttl and now + ttl or last -- as if repaired
  if COMMIT and latest ~= last then repair(key) end
  local room, wait, reset = limit - used, 0, latest - now
  if cost > limit then
    wait = -1
  elseif cost > room then
    local need = cost - room
    local lent = redis.call('ZRANGEBYSCORE', key, string.format('(%.0f', now), '+inf', 'WITHSCORES', 'LIMIT', 0, need)
    for m = 1, #lent, 2 do
      need = need - permits(lent[m])
      if need <= 0 then
        wait = math.min(tonumber(lent[m + 1]), latest) - now
        break
      end
    end
  end
  if room < 0 then room = 0 end
  if block > now then return open('state').under(block - now, room, wait, reset) end
  if wait ~= 0 or not COMMIT then return room, wait, reset end

  local function commit()
    local over = math.max(now + ttl, latest)
    numbered = numbered + 1
    entered = holder .. '.' .. numbered
    if block > 0 then redis.call('ZREM', key, 'block') end
    redis.call(
      'ZADD',
      key,
      string.format('%.0f', over),
      entered .. ':' .. string.format('%.0f', cost),
      string.format('%.0f', -(used + cost)),
      'used'
    )
    redis.call('PEXPIRE', key, math.ceil((over - now) / 1000) + 1)
    return over - now
  end
  if at_once then return room - cost, 0, commit() end
  return room, 0, reset, function()
    return room - cost, commit()
  end
end, 3
