-- load.lua: request one path as many users in turn. Print a summary as JSON on the last line.
--
-- Arguments  path, number of users; after `--` on the command line of wrk
-- Prints     requests, seconds; p50 and p99 in seconds; refused: responses with a status of 400 or more;
--            broken: connections that failed, or were too slow

local wanted, turn = {}, 0

function init(arguments)
  for n = 1, tonumber(arguments[2]) do
    wanted[n] = wrk.format("GET", arguments[1], { ["X-User"] = "user-" .. n })
  end
end

function request()
  turn = turn % #wanted + 1
  return wanted[turn]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "refused": %d, "broken": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout
  ))
end
