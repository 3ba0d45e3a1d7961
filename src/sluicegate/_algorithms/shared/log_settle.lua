-- log_settle.lua: correct a charge in a log where it stands.
--
-- Layout     the log, as in sliding_window.lua; the mark of a block behind its last page, as in log_block.lua.
--
-- Given      now and open, which stand before this file in the script; redis; cost, window: as in sliding_window.lua.
-- Returns    settle, to sliding_window.lua.
-- Cost       O(n) for the n entries from the charge on: all later totals move. Some 5 µs for each page of 20.
local cost, window = ...
local HEADER, ENTRY, FULL = 20, 12, 20
local WRAP = 1099511627776
-- Units above which nothing is entered.
local MOST = 1000000000000

-- Reads the pages from the last one back to the one that has the entry before `stamp`, which may be the page before its
-- own. Returns them, oldest first, and the index of the first.
local function read(key, tail, stamp)
  local pages, index = {tail}, redis.call('LLEN', key) - 1
  while index > 0 and struct.unpack('>I7', pages[1], HEADER + 1) >= stamp do
    index = index - 1
    table.insert(pages, 1, redis.call('LINDEX', key, index))
  end
  return pages, index
end

-- The entries of a page: stamps and totals in turn.
local function entries(page)
  local count = (#page - HEADER) / ENTRY
  return count, {struct.unpack('>' .. string.rep('I7I5', count), page, HEADER + 1)}
end

return function(key, mark, actual)
  local tail = redis.pcall('LINDEX', key, '-1')
  if not tail then return 0 end
  local page, ends, fault = open('log-block').read(tail)
  if fault then return nil, fault end
  local born, stamp = string.match(mark, '^(%d+) (%d+)$')
  born, stamp = tonumber(born), tonumber(stamp)
  local birth, base, first, gone = struct.unpack('>I7I5I7B', page)
  if #page == HEADER or birth ~= born or stamp <= now - window or stamp < first then return 0 end

  local block = string.sub(tail, #page + 1)
  local pages, index = read(key, page, stamp)
  local stamps, totals, headers = {}, {}, {}
  for p, each in ipairs(pages) do
    headers[p] = string.sub(each, 1, HEADER)
    local count, values = entries(each)
    for e = 1, count do
      stamps[#stamps + 1], totals[#totals + 1] = values[2 * e - 1], values[2 * e]
    end
  end
  local at
  for e = #stamps, 1, -1 do
    if stamps[e] <= stamp then
      at = stamps[e] == stamp and e
      break
    end
  end
  if not at then return 0 end
  local before = stamp > first and totals[at - 1] or base
  local units, more = (totals[at] - before) % WRAP, actual - cost
  if units < cost then return 0 end
  if more > 0 then more = math.max(math.min(more, MOST - (totals[#totals] - base) % WRAP), 0) end
  for e = at, #totals do
    totals[e] = (totals[e] + more) % WRAP
  end
  if units + more == 0 then
    table.remove(stamps, at)
    table.remove(totals, at)
    if stamp == first then
      first = stamps[at]
      if not first then -- nothing is left in the window
        if block == '' then
          redis.call('DEL', key)
        else
          redis.call('LTRIM', key, -1, -1)
          redis.call('LSET', key, '-1', string.sub(page, 1, HEADER) .. block)
        end
        return 1
      end
    end
  end
  local header = struct.pack('>I7I5I7B', birth, base, first, gone) -- of the last page, which alone counts
  local count = math.ceil(#stamps / FULL)
  for p = 1, count do
    local packed, last = {}, math.min(p * FULL, #stamps)
    for e = (p - 1) * FULL + 1, last do
      packed[#packed + 1], packed[#packed + 2] = stamps[e], totals[e]
    end
    local written = struct.pack('>' .. string.rep('I7I5', #packed / 2), unpack(packed))
    if p == count then written = header .. written .. block else written = headers[p] .. written end
    redis.call('LSET', key, index + p - 1, written)
  end
  if count < #pages then redis.call('LTRIM', key, 0, index + count - 1) end
  return 1
end
