-- calendar_window.lua: check one count, and commit to it, under a window of the calendar.
--
-- KEYS[k]    the count, as count.lua lays it out
-- ARGV[a]    cost: units this request takes (integer > 0); less than 0 to take them under a block, too, which stays
-- ARGV[a+1]  limit: units per window (integer > 0)
-- ARGV[a+2]  start of the window before the one that the sender takes for the current one, µs since 1970 (integer)
-- ARGV[a+3]  start of that window
-- ARGV[a+4]  its end
-- ARGV[a+5]  end of the window after it
--
-- Given      now and open, which stand before this file in the script; a; and verb and ends, as in sliding_window.lua.
-- Returns    what count.lua does, and how many arguments there are.
-- Clock      the server's picks the window. If it is in none of the three, or a count needs the window after them, the
--            fault "CLOCK_MISMATCH now" makes the sender send the right ones. So a sender whose clock is wrong needs
--            one call more, and its clock decides nothing.
local a, verb, ends = ...
local start, over, after = tonumber(ARGV[a + 3]), tonumber(ARGV[a + 4]), tonumber(ARGV[a + 5])
if now < start then
  start, over, after = tonumber(ARGV[a + 2]), start, over
elseif now >= over then
  start, over, after = over, after, nil
end
if not verb and (now < start or now >= over) then
  return function()
    return nil, string.format('CLOCK_MISMATCH %.0f', now)
  end, 6
end
return open('count', tonumber(ARGV[a]), tonumber(ARGV[a + 1]), start, over, after, verb, ends), 6
