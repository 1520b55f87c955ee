-- A runtime in the test program and agents of the SDK that talk to it over gRPC.

local macp = require("macp.sdk")

local runtime_client = require("spec.support.runtime_client")

local Rig = {}
Rig.__index = Rig

local M = { DECISION = "macp.mode.decision.v1", AUCTION = "ext.auction.v1" }

---Starts a runtime. opts as for spec.support.runtime_client. (yields)
function M.start(opts)
  local rig = setmetatable({ runtime = assert(runtime_client.start(opts)), clients = {} }, Rig)
  rig.address = rig.runtime.role.address
  return rig
end

---A client of an agent, closed with the rig. opts go to macp.client.
function Rig:client(name, opts)
  local all = { target = self.address, allow_insecure = true, auth = name and macp.auth.for_dev_agent(name) }
  for key, value in pairs(opts or {}) do all[key] = value end
  local client = macp.client(all)
  self.clients[#self.clients + 1] = client
  return client
end

---Ends everything. (yields)
function Rig:close()
  for _, client in ipairs(self.clients) do client:close() end
  self.runtime:destroy()
end

---Expects fn(...) to raise an SDK error of that name; returns it. (yields)
function M.raised(name, fn, ...)
  local ok, err = pcall(fn, ...)
  if ok then error("nothing was raised; expected " .. name, 2) end
  if not macp.errors.is(err, name) then error("raised " .. tostring(err) .. ", expected " .. name, 2) end
  return err
end

---What SessionStart of most specs says.
function M.start_fields(changes)
  local start = { intent = "choose", participants = { "lead", "ana", "ben" }, ttl_ms = 60000 }
  for key, value in pairs(changes or {}) do start[key] = value end
  return start
end

return M
