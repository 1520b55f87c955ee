-- The runtime as a process of its own (spec.support.system) on a Redis of its own.

local redis = require("spec.support.redis")
local system = require("spec.support.system")

local M = {}

--- How long a runtime that died holds its store.
M.LEASE_MS = 1000

--- What makes a runtime use this Redis, and `more` variables.
function M.environment(server, more)
  local env = {
    MACP_STORAGE_BACKEND = "redis", MACP_REDIS_URL = server.url, MACP_REDIS_LEASE_MS = tostring(M.LEASE_MS),
    MACP_CHECKPOINT_INTERVAL = "16",
  }
  for name, value in pairs(more or {}) do env[name] = value end
  return env
end

--- Runs fn(world, server) with a runtime on a Redis of its own. (yields)
function M.with(fn, more)
  local server = redis.start()
  local ok, err = pcall(system.with, { database = false, role = "runtime", env = M.environment(server, more) },
    function(world) fn(world, server) end)
  server:stop()
  if not ok then error(err, 0) end
end

return M
