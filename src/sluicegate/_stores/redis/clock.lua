-- clock.lua: read the server's clock, which decides: so callers whose clocks differ still agree (G8).
--
-- Returns  µs since 1970 (integer). Read once a script: it moves on within one on Redis 7.0.
local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
