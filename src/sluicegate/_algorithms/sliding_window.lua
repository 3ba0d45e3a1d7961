-- sliding_window.lua: check one cumulative log, and commit to it, under an exact sliding window.
--
-- KEYS[k]    the log: a list of pages, oldest first; absent when idle.
--            page   birth µs (7 bytes), base (5), first µs (7), gone (1), then 1 to 20 entries of
--            entry  stamp µs (7), total (5): all units ever allowed, this entry's included, modulo 2^40.
--            Only the last page's header counts: base is the total of all entries that had left at the last charge,
--            first the stamp of the oldest one that had not, gone how many had in its page. Every page but the last is
--            full. If the key is under a block, the last page has a mark behind it: see log_block.lua. That page, and
--            the last one after a block, may have no entry.
-- ARGV[a]    cost: units this request takes (integer > 0); less than 0 to take them under a block, too, which stays
-- ARGV[a+1]  limit: units per window (integer > 0)
-- ARGV[a+2]  window: µs (integer > 0)
-- ARGV[a+3]  grain: µs (integer > 0); stamps are rounded up to a multiple of it, 1 for exact
--
-- Given      COMMIT, RESERVE, entered, now and open, which stand before this file in the script; redis; a; verb: nil,
--            'block' or 'settle'; and for a block, ends: its end.
-- Returns    check, to decide.lua; block, to block.lua; or settle, to settle.lua; and how many arguments there are.
--            check(key, at_once) decides the charge: remaining, retry_after µs (0: allowed, -1: never), reset_after µs;
--            or nil and what is wrong with the key. An allowed charge is committed, if at_once; if not, a function
--            follows that commits it, and returns the new remaining and reset_after.
--            block(key) blocks a key until `ends`, in place of any block before; if that is now, it lifts the block.
--            The count stays. Returns what is wrong with the key, if anything is.
--            settle(key, mark, actual) makes the charge of the cost at a mark one of `actual` units. Returns 1 if it is
--            there, 0 if not; or nil and what is wrong with the key.
--            A mark says where a charge was entered: committing puts it into `entered`, if RESERVE. Here it is the log's
--            birth, and the stamp.
-- Cost       O(1) for a unit cost: one LINDEX to check, one LSET or RPUSH to commit, and one LINDEX more if the oldest
--            entry has left. A request of several units that is denied searches: O(log n) reads.
--
-- Why pages: a string doubles when it grows and is read or cut whole, a list of single entries needs five calls for a
-- charge. See docs/adr/0003. Code that few charges need is in files of its own: a call makes all functions of a file
-- anew.
local a, verb, ends = ...
local cost, limit, window, grain =
  tonumber(ARGV[a]), tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
local forced = cost < 0
if forced then cost = -cost end
if verb == 'block' then
  return function(key)
    return open('log-block').block(key, ends, window)
  end, 4
elseif verb == 'settle' then
  return open('log-settle', cost, window), 4
end

local HEADER, ENTRY, FULL = 20, 12, 20
-- 2^40: the totals' modulus; a limit and a cost are at most 10^11 each
local WRAP = 1099511627776
local stamped, since = math.ceil(now / grain) * grain, now - window
local eighth = math.ceil(window / 8)
local eighth_began = stamped - stamped % eighth
local search -- log_search.lua, once it is needed

-- Commits the cost to a log whose last page is `tail`: behind `header` (nil for the one it has) and its bytes from
-- `kept` on. Then `drop` pages go, all but the last if it is -1. Returns reset_after µs.
local function commit(key, tail, newest, total, header, kept, drop, block)
  if block then redis.call('LSET', key, '-1', tail) end
  -- Never below the newest: the log stays sorted when the clock steps back.
  local stamp = stamped > newest and stamped or newest
  local added = struct.pack('>I7I5', stamp, (total + cost) % WRAP)
  if not tail then
    redis.call('RPUSH', key, header .. added)
  else
    local to = stamp == newest and #tail - ENTRY or #tail -- one entry for all of one stamp
    if to - kept + 1 >= FULL * ENTRY then
      redis.call('RPUSH', key, (header or string.sub(tail, 1, HEADER)) .. added)
    elseif header then
      redis.call('LSET', key, '-1', header .. string.sub(tail, kept, to) .. added)
    else
      redis.call('LSET', key, '-1', (to == #tail and tail or string.sub(tail, 1, to)) .. added)
    end
    if drop ~= 0 then redis.call('LTRIM', key, drop, -1) end
  end
  if newest < eighth_began then
    -- The key must outlive its newest stamp by a window. Its TTL is an eighth of the window too long, so that it is set
    -- when the stamps enter a new eighth, and not at each charge.
    redis.call('PEXPIRE', key, math.ceil((stamped - since + eighth) / 1000) + 1)
  end
  if block then open('log-block').block(key, block, window) end
  if RESERVE then entered = string.format('%.0f %.0f', struct.unpack('>I7', header or tail), stamp) end
  return stamp - since
end

-- `tail` is the last page without its mark, if that has been read; `block` the end of a block under which to commit.
local function check(key, at_once, tail, block)
  tail = tail or redis.pcall('LINDEX', key, '-1')
  local count = tail and (#tail - HEADER) / ENTRY or 0
  if count < 0 or count % 1 ~= 0 then
    local page, over, fault = open('log-block').read(tail)
    if fault then return nil, fault end
    if over > now and forced then return check(key, at_once, page, over) end
    if over > now then return open('state').under(over - now, check(key, false, page)) end
    -- The block has ended, and a commit expects no mark.
    if COMMIT then redis.call('LSET', key, '-1', page) end
    return check(key, at_once, page)
  end
  local base, first, newest, total, gone, paged, drop = 0, nil, 0, 0, 0, false, 0
  local header, kept, cutoff, latest = nil, HEADER + 1, since, nil
  if count > 0 then
    local oldest -- in the last page
    newest, total = struct.unpack('>I7I5', tail, #tail - ENTRY + 1)
    base, first, gone, oldest = struct.unpack('>I5I7BI7', tail, 8)
    if first > newest or oldest > newest or gone >= FULL then return nil, 'ERR not a log of sluicegate' end
    local stepped = newest - now - (grain - 1) -- back, by this much at least: a stamp is less than a grain ahead
    if stepped > window then
      if COMMIT then
        tail, first, oldest, newest = open('log-repair', key, stepped, window)
      else
        cutoff, latest = since + stepped, now + stepped -- as if repaired: the log moved back is the clock moved on
      end
    end
    paged = first < oldest
    if newest <= cutoff then
      base, first, gone, drop = total, nil, 0, paged and -1 or 0
      header, kept = string.sub(tail, 1, 7) .. struct.pack('>I5I7B', base, stamped, 0), #tail + 1
    elseif first <= cutoff then
      search = search or open('log-search')
      base, first, paged, drop, gone = search.aged(key, tail, paged, gone, cutoff)
      header = string.sub(tail, 1, 7) .. struct.pack('>I5I7B', base, first, paged and gone or 0)
      if not paged then kept = kept + ENTRY * gone end
    end
  else
    header = struct.pack('>I7I5I7B', now, 0, stamped, 0)
  end
  local room = limit - (total - base) % WRAP
  local reset = newest > cutoff and (latest or newest) - cutoff or 0
  if cost > room then
    local wait = -1
    if cost <= limit then
      local need = cost - room -- units that have to leave first
      if need > 1 then
        search = search or open('log-search')
        -- From the oldest entry left on: totals before it are below the base, and modulo 2^40 they seem far above it.
        first = search.stamp(key, tail, paged, drop == 0 and gone - 1 or -1, cutoff, base, need)
      end
      wait = (latest and first > latest and latest or first) - cutoff
    end
    return room > 0 and room or 0, wait, reset
  end
  if not COMMIT then return room, 0, reset end
  if at_once then return room - cost, 0, commit(key, tail, newest, total, header, kept, drop, block) end
  return room, 0, reset, function()
    return room - cost, commit(key, tail, newest, total, header, kept, drop, block)
  end
end

return check, 4
