-- Sends the bodies of a file, one a line, in turn; tells what came of it in one line of JSON.
local requests, number = {}, 0

function init(args)
  for line in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, { ["Content-Type"] = "application/json" }, line)
  end
end

function request()
  number = number % #requests + 1
  return requests[number]
end

function done(summary, latency, _)
  local errors = summary.errors
  print(string.format(
    '{"num": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "num_refused": %d, "num_broken": %d}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout
  ))
end
