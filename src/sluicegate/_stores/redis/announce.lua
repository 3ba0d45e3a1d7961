-- announce.lua: announce an instance of the fleet, and report which are alive.
--
-- Given    now, which stands before this file in the script; redis; key, of the members: a sorted set with each live
--          instance by the time of its last announcement, µs since 1970, and the mark: a random text at +inf, by which
--          the loss of all data is noticed; name: that of the instance, random; life: µs for which an announcement
--          holds; fresh: a random text, the mark if there is none; keep: seconds for which the key outlives its last
--          announcement; most: how many names to return at most.
-- Returns  {mark, id of the server's run ('' if it does not say), how many instances are alive, name, ...}
-- Cost     O(log n + m) for m names; INFO takes a few tens of µs.
local key, name, life, fresh, keep, most = ...
-- First of all: what a user may not call must not leave a key without a TTL, nor give somebody else's key one.
redis.call('ZCARD', key)
redis.call('EXPIRE', key, keep)
-- Also those that are ahead: a clock that was stepped back has left them there.
redis.call('ZREMRANGEBYSCORE', key, '-inf', now - life)
redis.call('ZREMRANGEBYSCORE', key, now + life, '(+inf')
local mark = redis.call('ZRANGEBYSCORE', key, '+inf', '+inf')[1]
if not mark then
  mark = fresh
  redis.call('ZADD', key, '+inf', mark)
end
redis.call('ZADD', key, now, name)
redis.call('EXPIRE', key, keep)
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
local answer = {mark, run, redis.call('ZCARD', key) - 1}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', '(+inf', 'LIMIT', 0, most)) do
  answer[#answer + 1] = member
end
return answer
