-- block.lua: let counters deny every request for a while.
--
-- KEYS[k]  one key for each counter
-- ARGV[1]  span: µs from now until the end of the block (integer >= 0); 0 lifts it
-- ARGV[a]  for each counter: its algorithm, and the arguments that the algorithm's file lists
--
-- Returns  {fault, ...}: for each counter '', or what is wrong with its key; that key was left as it was.
-- Clock    clock.lua, once.
--
-- Written into the script before this file: now and open.
local ends = now + tonumber(ARGV[1])
local faults, a = {}, 2
for k = 1, #KEYS do
  local block, argc = open(ARGV[a], a + 1, 'block', ends)
  faults[k] = block(KEYS[k]) or ''
  a = a + 1 + argc
end
return faults
