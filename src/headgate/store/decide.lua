-- decide.lua: decide a batch of requests, each a set of charges taken all or not at all.
--
-- KEYS[k]  one key for each charge, in the order of the charges; at most one charge of a request on a key
-- ARGV[a]  for each request: the number of its charges (integer > 0); then for each charge: its algorithm, and the
--          arguments that algorithm's file lists
--
-- Returns  {mended, ...}, flat, as a nested reply costs as much as a decision: how many logs' clock step was mended
--          (G8), then for each request and each of its charges allowed 0|1, remaining, retry_after µs (-1: never),
--          reset_after µs; or for a whole request one string, the error of the key that made it alone fail.
-- Clock    clock.lua, once for the batch.
--
-- Written into the script before this file: CHARGING (false: look, and change nothing; the algorithms heed it), mended,
-- now_us and algorithms.
-- All of a set is read before any of it is charged: a script that fails is not rolled back. (Mending, which changes no
-- verdict, is done while reading.)
local now = now_us()
local answers, n = {0}, 1
local a, k = 1, 1

while ARGV[a] do
  local charges = tonumber(ARGV[a])
  local alone, first, allowed_ones, enters, fault = charges == 1, n, 0, nil, nil
  a = a + 1
  for c = 1, charges do
    local algorithm = algorithms[ARGV[a]]
    local allowed, remaining, retry_after, reset_after, enter = algorithm.look(KEYS[k], now, a + 1, alone)
    a, k = a + 1 + algorithm.argc, k + 1
    if allowed then
      answers[n + 1], answers[n + 2], answers[n + 3], answers[n + 4] = allowed, remaining, retry_after, reset_after
      n = n + 4
      allowed_ones = allowed_ones + allowed
      if enter then
        enters = enters or {}
        enters[c] = enter
      end
    else
      fault = remaining
    end
  end
  if fault then
    while n > first do
      answers[n], n = nil, n - 1
    end
    n = n + 1
    answers[n] = fault
  elseif enters and allowed_ones == charges then -- one alone was charged when it was looked at
    for c = 1, charges do
      answers[first + 4 * c - 2], answers[first + 4 * c] = enters[c]()
    end
  end
end

answers[1] = mended
return answers
