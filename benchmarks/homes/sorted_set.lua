-- sorted_set.lua: the textbook, one member of a sorted set a unit.
--
-- KEYS[k]       the log: a sorted set, a unit's score is its µs; absent when idle.
--               member  µs (7 bytes), a number (5) that no other unit of that µs has
-- ARGV[3k - 2]  limit: units per window (integer > 0)
-- ARGV[3k - 1]  window: µs (integer > 0)
-- ARGV[3k]      cost: units this request takes (integer > 0)
--
-- Returns  for each key {allowed 0|1, remaining, retry_after µs (-1: never), reset_after µs}
-- Cost     ZREMRANGEBYSCORE and ZCARD to look; ZADD, of cost members, and PEXPIRE to charge: O(cost × log n). A denial
--          reads two members more, that of the wait and the newest: O(log n).
-- Clock    now_us(), written before this file; once for the batch.
local AT_ONCE = 1000 -- members in one ZADD: Lua's stack holds some thousand values
local call, pack, ceil, min, max = redis.call, struct.pack, math.ceil, math.min, math.max

local function score(key, rank)
  return tonumber(call('ZRANGE', key, rank, rank, 'WITHSCORES')[2])
end

local function add(key, now, used, cost)
  for from = 1, cost, AT_ONCE do
    local members = {}
    for n = from, min(from + AT_ONCE - 1, cost) do
      members[#members + 1] = now
      members[#members + 1] = pack('>I7I5', now, used + n)
    end
    call('ZADD', key, unpack(members))
  end
end

local function decide(key, now, limit, window, cost)
  call('ZREMRANGEBYSCORE', key, '-inf', now - window)
  local used = call('ZCARD', key)
  if used + cost <= limit then
    if cost == 1 then call('ZADD', key, now, pack('>I7I5', now, used + 1)) else add(key, now, used, cost) end
    call('PEXPIRE', key, ceil(window / 1000) + 1)
    return 1, limit - used - cost, 0, window
  end
  local remaining = max(limit - used, 0)
  local reset = used > 0 and score(key, -1) + window - now or 0
  if cost > limit then return 0, remaining, -1, reset end
  return 0, remaining, score(key, used + cost - limit - 1) + window - now, reset
end

local now = now_us()
local answers = {}
for k = 1, #KEYS do
  answers[4 * k - 3], answers[4 * k - 2], answers[4 * k - 1], answers[4 * k] =
    decide(KEYS[k], now, tonumber(ARGV[3 * k - 2]), tonumber(ARGV[3 * k - 1]), tonumber(ARGV[3 * k]))
end
return answers
