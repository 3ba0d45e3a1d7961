-- settle.lua: make charges what they turned out to be, release leases, and renew them.
--
-- KEYS[k]    one key for each charge
-- ARGV[a]    for each charge: its algorithm, and the arguments that the algorithm's file lists, with the cost that was
--            charged; then its mark, as decide.lua returned it; then the units that it is to be (integer >= 0)
--
-- Returns    {found, ...}: for each charge 1 if it was there, 0 if not, as it has left its window, was forgotten or lost;
--            or what is wrong with its key. That key was left as it was.
-- Clock      clock.lua, once.
--
-- Written into the script before this file: now and open, and what the algorithms use.
local found, a = {}, 1
for k = 1, #KEYS do
  local settle, argc = open(ARGV[a], a + 1, 'settle')
  local is_there, fault = settle(KEYS[k], ARGV[a + argc + 1], tonumber(ARGV[a + argc + 2]))
  found[k] = is_there or fault
  a = a + argc + 3
end
return found
