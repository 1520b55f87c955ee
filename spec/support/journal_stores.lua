-- Every durable store of this build, Redis with a server of its own, for specs that start programs on each of them.

local fs = require("host.fs")

local redis = require("spec.support.redis")
local stores = require("spec.support.stores")

local M = {}

local function guarded(fn, env, release)
  local ok, err = xpcall(fn, function(problem)
    return type(problem) == "string" and debug.traceback(problem, 2) or problem
  end, env)
  release()
  if not ok then error(err, 0) end
end

---Calls visit(name, with) for each store; with(fn) calls fn(env) with settings of a new, empty store, which is removed
---afterwards. `with` yields, visit does not.
function M.each(visit)
  for _, store in ipairs(stores.here()) do
    visit(store.name, function(fn)
      local dir = assert(fs.temp_dir("macp-store"))
      local env = { MACP_DATA_DIR = dir }
      for name, value in pairs(store.env) do env[name] = value end
      guarded(fn, env, function() fs.remove_tree(dir) end)
    end)
  end
  if not redis.is_built() then return end
  visit("redis", function(fn)
    local dir, server = assert(fs.temp_dir("macp-store")), redis.start()
    local env = { MACP_DATA_DIR = dir, MACP_STORAGE_BACKEND = "redis", MACP_REDIS_URL = server.url,
      MACP_REDIS_LEASE_MS = "1000" }
    guarded(fn, env, function()
      server:stop()
      fs.remove_tree(dir)
    end)
  end)
end

return M
