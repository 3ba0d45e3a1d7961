-- decide.lua: decide a batch of requests, each a set of charges that are all committed, or none.
--
-- KEYS[k]    one key for each charge, in the order of the requests and of their charges; at most one charge of a
--            request on a key. Then, if the sender announces itself, that of the fleet's members.
-- ARGV[1]    if RESERVE: the holder of the leases that are made, a text that no other call has
-- ARGV[2]    if RESERVE: for each request 1 if it waits in line behind the one before it, 0 if not
-- ARGV[a]    from 1 on, or 3: for each run of requests with the same policies and costs: how many requests (integer > 0)
-- ARGV[a+1]  how many charges each of them has (integer > 0); then for each of these charges: its algorithm, and the
--            arguments that the algorithm's file lists
-- ARGV[a]    after all runs, if the sender announces itself: "announce", and the arguments of announce.lua from `name`
--            on
--
-- Returns    {repaired, ...}, flat, as a nested reply costs as much as a decision: how many states were repaired after
--            a clock step (G8), then for each request and each of its charges remaining, retry_after µs (0: allowed,
--            -1: never), reset_after µs; or for a whole request one string, as it alone failed: what is wrong with a
--            key, or "CLOCK_MISMATCH now": an argument was made for a time that is not the clock's. Last, if the
--            sender announces itself: what announce.lua returns, or what was wrong with that.
--            If RESERVE, a fourth value for each charge: its mark, which settle.lua takes, if the request was allowed. And
--            for a request that waits behind one that was not, the string "BEHIND": it was not looked at.
-- Clock      clock.lua, once for the batch.
--
-- Written into the script before this file: COMMIT (false: check, and change nothing), RESERVE (whether what is entered
-- can be settled), repaired, entered, holder, numbered, now and open. The algorithms use them. Each file is opened once for a run, and reads its arguments then.
-- All charges of a request are checked before any is committed, as a script that fails is not rolled back. (A repair
-- changes no verdict, so it is done while checking.) The last charge is committed as it is checked, if all before it
-- are allowed.
local answers, n = {0}, 1
local a, k, r, denied = 1, 1, 0, false
local width = RESERVE and 4 or 3 -- of the answer to a charge
if RESERVE then
  holder, a = ARGV[1], 3
end

while ARGV[a] and ARGV[a] ~= 'announce' do
  local requests, charges = tonumber(ARGV[a]), tonumber(ARGV[a + 1])
  local checks, last = {}, charges - 1
  a = a + 2
  for c = 1, charges do
    local argc
    checks[c], argc = open(ARGV[a], a + 1)
    a = a + 1 + argc
  end
  for _ = 1, requests do
    local first, allowed, commits, fault, behind = n, 0, nil, nil, false
    if RESERVE then
      r = r + 1
      behind = denied and string.byte(ARGV[2], r) == 49
    end
    if behind then
      n, k = n + 1, k + charges
      answers[n] = 'BEHIND'
    end
    for c = 1, behind and 0 or charges do
      local remaining, retry_after, reset_after, commit = checks[c](KEYS[k], allowed == last)
      k = k + 1
      if remaining then
        answers[n + 1], answers[n + 2], answers[n + 3] = remaining, retry_after, reset_after
        if RESERVE then answers[n + 4] = entered end
        n = n + width
        if retry_after == 0 then allowed = allowed + 1 end
        if commit then
          commits = commits or {}
          commits[c] = commit
        end
      else
        fault = retry_after
      end
    end
    if fault then
      while n > first do
        answers[n], n = nil, n - 1
      end
      n = n + 1
      answers[n] = fault
    elseif commits and allowed == charges then
      for c = 1, last do
        local at = first + width * (c - 1)
        answers[at + 1], answers[at + 3] = commits[c]()
        if RESERVE then answers[at + 4] = entered end
      end
    end
    denied = fault or allowed < charges
  end
end

if ARGV[a] then
  -- The decisions stand whatever becomes of it.
  local is_done, members = pcall(open, 'announce', KEYS[k], unpack(ARGV, a + 1))
  answers[n + 1] = is_done and members or (type(members) == 'table' and members.err or tostring(members))
end
answers[1] = repaired
return answers
