-- decide.lua: decide a batch of requests, each a set of charges taken all or not at all.
--
-- KEYS[k]    one key for each charge, in the order of the requests and of their charges; at most one charge of a
--            request on a key
-- ARGV[a]    for each run of requests that ask the same, if on other keys: how many they are (integer > 0)
-- ARGV[a+1]  how many charges each of them has (integer > 0); then for each of these charges: its algorithm, and the
--            arguments that algorithm's file lists
--
-- Returns    {repaired, ...}, flat, as a nested reply costs as much as a decision: how many logs' clock step was repaired
--            (G8), then for each request and each of its charges remaining, retry_after µs (0: allowed, -1: never),
--            reset_after µs; or for a whole request one string, what is wrong with the key that made it alone fail:
--            an error, or "CLOCK_MISMATCH now": an algorithm was told of a time that is not the clock's.
-- Clock      clock.lua, once for the batch.
--
-- Written into the script before this file: CHARGING (false: look, and change nothing), repaired, now and open. The
-- algorithms heed them; each file is opened once for a run, and reads its arguments then.
-- All of a set is read before any of it is charged: a script that fails is not rolled back. (Mending, which changes no
-- verdict, is done while reading.) So its last charge is taken when it is looked at, if all before it are allowed.
local answers, n = {0}, 1
local a, k = 1, 1

while ARGV[a] do
  local requests, charges = tonumber(ARGV[a]), tonumber(ARGV[a + 1])
  local looks, last = {}, charges - 1
  a = a + 2
  for c = 1, charges do
    local argc
    looks[c], argc = open(ARGV[a], a + 1)
    a = a + 1 + argc
  end
  for _ = 1, requests do
    local first, allowed, enters, fault = n, 0, nil, nil
    for c = 1, charges do
      local remaining, retry_after, reset_after, enter = looks[c](KEYS[k], allowed == last)
      k = k + 1
      if remaining then
        answers[n + 1], answers[n + 2], answers[n + 3] = remaining, retry_after, reset_after
        n = n + 3
        if retry_after == 0 then allowed = allowed + 1 end
        if enter then
          enters = enters or {}
          enters[c] = enter
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
    elseif enters and allowed == charges then
      for c = 1, last do
        answers[first + 3 * c - 2], answers[first + 3 * c] = enters[c]()
      end
    end
  end
end

answers[1] = repaired
return answers
