-- announce.lua: announce an instance of the fleet, and report which are alive.
--
-- KEYS[1]  the members: a sorted set, each live instance by the time of its last announcement, µs since 1970; and the
--          mark, which never expires while the key lives: a random text by which the loss of all data is noticed.
-- ARGV[1]  the instance: its random name
-- ARGV[2]  life: µs for which an announcement holds (integer > 0)
-- ARGV[3]  a random text, the mark if there is none
-- ARGV[4]  keep: seconds for which the key outlives its last announcement (integer > 0)
-- ARGV[5]  the most names to return (integer >= 0)
--
-- Returns  {mark, replication id ('' if the server does not say), live instances, name, ...}
-- Clock    clock.lua, once.
--
-- Written into the script before this file: now.
local key, life = KEYS[1], tonumber(ARGV[2])
-- First of all: a user who may not call it must not leave a key without a TTL.
redis.call('EXPIRE', key, ARGV[4])
-- Also those that are ahead: a clock that was stepped back has left them there.
redis.call('ZREMRANGEBYSCORE', key, '-inf', now - life)
redis.call('ZREMRANGEBYSCORE', key, now + life, '(+inf')
local mark = redis.call('ZRANGEBYSCORE', key, '+inf', '+inf')[1]
if not mark then
  mark = ARGV[3]
  redis.call('ZADD', key, '+inf', mark)
end
redis.call('ZADD', key, now, ARGV[1])
redis.call('EXPIRE', key, ARGV[4])
local info = redis.pcall('INFO', 'replication')
local replication = type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or ''
local answer = {mark, replication, redis.call('ZCARD', key) - 1}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', '(+inf', 'LIMIT', 0, ARGV[5])) do
  answer[#answer + 1] = name
end
return answer
