-- fixed_window.lua: check one count, and commit to it, under a window between two edges.
--
-- KEYS[k]    the count, as count.lua lays it out
-- ARGV[a]    cost: units this request takes (integer > 0); less than 0 to take them under a block, too, which stays
-- ARGV[a+1]  limit: units per window (integer > 0)
-- ARGV[a+2]  window: µs (integer > 0)
--
-- Given      now and open, which stand before this file in the script; a; and verb and ends, as in sliding_window.lua.
-- Returns    what count.lua does, and how many arguments there are.
local a, verb, ends = ...
local window = tonumber(ARGV[a + 2])
local start = now - math.fmod(now, window)
return open('count', tonumber(ARGV[a]), tonumber(ARGV[a + 1]), start, start + window, start + 2 * window, verb, ends), 3
