-- decide.lua: decide a batch of requests, each a set of charges taken all or not at all.
--
-- KEYS[k]  one key for each charge, in the order of the charges; at most one charge of a request on a key
-- ARGV[a]  for each request: the number of its charges (integer > 0); then for each charge: its algorithm, and the
--          arguments that algorithm's file lists
--
-- Returns  {mended, answer, answer, ...}, one answer for each request: for each of its charges {allowed 0|1,
--          remaining, retry_after µs (-1: never), reset_after µs}, one after the other; or a string, the error of the
--          key that made this one request fail. mended counts the logs whose clock step was mended (G8).
-- Clock    clock.lua, once for the batch.
--
-- Written into the script before this file: CHARGING (false: look, and change nothing), now_us and algorithms.
-- All of a request is read before any of it is written: a script that fails is not rolled back.
local now = now_us()
local answers = {0}
local a, k = 1, 1

while ARGV[a] do
  local charges = tonumber(ARGV[a])
  local logs, answer, fault, all = {}, nil, nil, true
  a = a + 1
  for c = 1, charges do
    local algorithm = algorithms[ARGV[a]]
    local log, allowed, remaining, retry_after, reset_after = algorithm.look(KEYS[k], now, a + 1)
    if log then
      if log.mended then answers[1] = answers[1] + 1 end
      logs[c] = log
      all = all and allowed
      if answer then
        local n = 4 * c
        answer[n - 3], answer[n - 2], answer[n - 1], answer[n] = allowed and 1 or 0, remaining, retry_after, reset_after
      else
        answer = {allowed and 1 or 0, remaining, retry_after, reset_after}
      end
    else
      fault = allowed
    end
    a, k = a + 1 + algorithm.argc, k + 1
  end
  if all and CHARGING and not fault then
    for c = 1, charges do
      answer[4 * c - 2], answer[4 * c] = logs[c]:charge(now)
    end
  end
  answers[#answers + 1] = fault or answer
end

return answers
