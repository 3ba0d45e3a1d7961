-- log_repair.lua: move a log back whose newest entry is more than a window ahead, so that it is now (G8).
--
-- Layout     the log, as in sliding_window.lua; the mark behind its last page, as in log_block.lua.
--
-- Given      repaired and now, which stand before this file in the script; redis; key; stepped: µs that the clock
--            was stepped back, at least; window, µs.
-- Returns    to sliding_window.lua the last page without its mark; the stamps of the oldest entry that had not left, of
--            the first in that page, and of the newest.
-- Cost       O(n), and rare: such a stamp can only come from a clock that was stepped.
local key, stepped, window = ...
local HEADER, ENTRY, MARK = 20, 12, 7
local tail, ends, first = nil, 0, 0
local pages = redis.call('LRANGE', key, 0, -1)
redis.call('DEL', key)
local function moved_back(stamp)
  return math.max(math.min(stamp - stepped, now), 0)
end
for _, page in ipairs(pages) do
  local _, base, oldest, gone = struct.unpack('>I7I5I7B', page)
  local mark = (#page - HEADER) % ENTRY == MARK and string.sub(page, -MARK) or ''
  first = moved_back(oldest)
  local moved = {struct.pack('>I7I5I7B', now, base, first, gone)} -- born anew: no mark fits any more
  for at = HEADER + 1, #page - #mark, ENTRY do
    local stamp, total = struct.unpack('>I7I5', page, at)
    moved[#moved + 1] = struct.pack('>I7I5', moved_back(stamp), total)
  end
  tail = table.concat(moved)
  if mark ~= '' then ends = struct.unpack('>I7', mark) end
  redis.call('RPUSH', key, tail .. mark)
end
redis.call('PEXPIRE', key, math.ceil((math.max(ends - now, window) + math.ceil(window / 8)) / 1000) + 1)
repaired = repaired + 1
local oldest = struct.unpack('>I7', tail, HEADER + 1)
return tail, first, oldest, now
