-- log_block.lua: read a log that is under a block, and put a block on a log.
--
-- Layout     the log, as in sliding_window.lua; behind its last page, which may have no entry, the mark: the end of the
--            block, µs (7 bytes).
--
-- Given      now, which stands before this file in the script; redis.
-- Returns    its functions, to sliding_window.lua.
local HEADER, ENTRY, MARK = 20, 12, 7

-- Reads a last page, as LINDEX returned it. Returns the page without its mark, and the end of its block (0 for none);
-- or nil, nil and what is wrong with the key.
local function read(tail)
  if type(tail) == 'table' then return nil, nil, tail.err end
  local rest = (#tail - HEADER) % ENTRY -- a page has no other length
  if #tail < HEADER or (rest ~= 0 and rest ~= MARK) then return nil, nil, 'ERR not a log of sluicegate' end
  if rest == 0 then return tail, 0 end
  local ends = struct.unpack('>I7', string.sub(tail, -MARK))
  return string.sub(tail, 1, -MARK - 1), ends
end

-- Puts a block on a log, as in sliding_window.lua.
local function block(key, ends, window)
  local tail = redis.pcall('LINDEX', key, '-1')
  local page, _, fault = read(tail or struct.pack('>I7I5I7B', now, 0, 0, 0))
  if fault then return fault end
  if #page == HEADER and ends <= now then
    redis.call('DEL', key)
    return
  end
  local written = ends > now and page .. struct.pack('>I7', ends) or page
  if tail then redis.call('LSET', key, '-1', written) else redis.call('RPUSH', key, written) end
  local left = ends - now
  if #page > HEADER then
    local newest = struct.unpack('>I7', page, #page - ENTRY + 1)
    left = math.max(newest + window, ends) - now + math.ceil(window / 8)
  end
  redis.call('PEXPIRE', key, math.ceil(left / 1000) + 1)
end

return {read = read, block = block}
