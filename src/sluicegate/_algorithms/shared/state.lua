-- state.lua: read and block a state that is one short string. For keys under a block, and values that are not a state.
--
-- Layout     the state, of the algorithm's own fixed size, or nothing; then, if the key is under a block, the mark: the
--            end of the block, µs (7 bytes).
--
-- Given      now, which stands before this file in the script; redis.
-- Returns    its functions, to the algorithms.
local MARK = 7

-- Reads a value, as GET returned it, whose state has `size` bytes. Returns the state (nil for none), the end of its
-- block (0 for none), and the mark as it is stored; or nil, nil and what is wrong with the key.
local function read(value, size)
  if not value then return nil, 0, '' end
  if type(value) == 'table' then return nil, nil, value.err end
  if #value == size then return value, 0, '' end
  local mark = string.sub(value, -MARK)
  if #value == size + MARK then return string.sub(value, 1, size), struct.unpack('>I7', mark), mark end
  if #value == MARK then return nil, struct.unpack('>I7', mark), mark end
  return nil, nil, 'ERR not a state of sluicegate'
end

-- Turns a verdict into that of a key whose block has `left` µs to come: denied until both allow it. A fault stays.
local function under(left, remaining, retry_after, reset_after)
  if not remaining then return nil, retry_after end
  if retry_after >= 0 then retry_after = math.max(retry_after, left) end
  return 0, retry_after, math.max(reset_after, left)
end

-- Puts a block on a key, as in sliding_window.lua. `idle` returns how long a state is needed, µs from now.
local function block(key, size, ends, idle)
  local state, before, fault = read(redis.pcall('GET', key), size)
  if not before then return fault end
  if state or ends > now then
    local left = math.max(state and idle(state) or 0, ends - now)
    local mark = ends > now and struct.pack('>I7', ends) or ''
    redis.call('SET', key, (state or '') .. mark, 'PX', math.ceil(left / 1000) + 1)
  else
    redis.call('DEL', key)
  end
end

return {read = read, under = under, block = block}
