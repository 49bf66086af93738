-- The requests that wrk sends, made once and then sent in turn. The environment says which:
-- BENCH_PATH ({} becomes a number of five digits), BENCH_PATHS, BENCH_KEYS, BENCH_TENANT.

local requests = {}
local turn = 0
local STRIDE = 7919

function init(arguments)
  local path = os.getenv("BENCH_PATH")
  local paths = tonumber(os.getenv("BENCH_PATHS"))
  local keys = tonumber(os.getenv("BENCH_KEYS"))
  local tenant = os.getenv("BENCH_TENANT")
  for index = 0, math.max(paths, keys, 1) - 1 do
    local headers = { Host = "bench.local" }
    if keys > 0 then
      headers["x-api-key"] = string.format("key-%06d", index * STRIDE % keys)
    end
    if tenant then
      headers["x-tenant"] = tenant
    end
    local number = string.format("%05d", index * STRIDE % math.max(paths, 1))
    requests[#requests + 1] = wrk.format("GET", (path:gsub("{}", number)), headers)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency, each)
  local broken = summary.errors
  io.write(string.format(
    'RESULT {"done":%d,"seconds":%.4f,"bytes":%d,"errors":%d,"not_2xx":%d}\n',
    summary.requests,
    summary.duration / 1e6,
    summary.bytes,
    broken.connect + broken.read + broken.write + broken.timeout,
    broken.status
  ))
end
