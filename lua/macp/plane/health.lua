-- Health: probed in the background, answered from memory. No probe waits longer than two seconds.

local task = require("host.task")
local sys = require("host.sys")

local breaker = require("macp.core.breaker")
local json = require("macp.core.json")

local PROBE_MS = 2000
local DEADLINE_MS = 2000
local LOST_MS = 60000

---@class macp.plane.Health
local Health = {}
Health.__index = Health

local M = {}

---@param deps { db: table, client: table, owner: table, kind: string, announce: table|nil }
function M.new(deps)
  deps.database, deps.healthz, deps.draining = false, nil, false
  deps.runtime = { ok = false, runtimeKind = deps.kind, detail = "not probed yet" }
  return setmetatable(deps, Health)
end

-- (yields)
local function probe_database(self)
  local result = task.with_deadline(DEADLINE_MS, self.db.query, self.db, "select 1 as one")
  return result ~= nil
end

local function manifest_json(manifest)
  return {
    agentId = manifest.agent_id or "", title = manifest.title or "", description = manifest.description or "",
    supportedModes = json.array(manifest.supported_modes or {}), metadata = json.object(manifest.metadata or {}),
  }
end

M.manifest_json = manifest_json

---Asks the runtime for its manifest. (yields)
---@return table the body of GET /runtime/health
function Health:probe_runtime()
  local manifest, err = self.client:get_manifest({ timeout_ms = DEADLINE_MS })
  if manifest == nil then
    return { ok = false, runtimeKind = self.kind, detail = tostring(err.message) }
  end
  return { ok = true, runtimeKind = self.kind, manifest = manifest_json(manifest),
    detail = "connected to " .. self.client.address }
end

local function set_database(self, ok)
  if self.database == ok and self.healthz then return end
  self.database = ok
  self.healthz = json.encode({ ok = ok, service = "macp-control-plane" })
end

---The database has just answered.
function Health:seed()
  set_database(self, true)
end

---One look at everything. (yields)
function Health:probe()
  set_database(self, probe_database(self))
  self.runtime = self:probe_runtime()
end

---Looks every two seconds. (yields)
function Health:work(child)
  while not child:stopping() do
    self:probe()
    local slept, err = task.sleep(PROBE_MS)
    if not slept then return nil, err end
  end
  return true
end

-- More than half of the session streams have been gone for a minute.
local function streams_ok(self)
  local now, lost = sys.mono_ms(), 0
  for _, run in pairs(self.owner.runs) do
    if run.stream_lost_ms and now - run.stream_lost_ms > LOST_MS then lost = lost + 1 end
  end
  return lost * 2 <= self.owner.count
end

---@return boolean ok
---@return table body of GET /readyz
function Health:ready()
  local state = self.client.breaker:state()
  local streams = streams_ok(self)
  local ok = self.database and self.runtime.ok and streams and state ~= breaker.OPEN and not self.draining
  return ok, {
    ok = ok, database = self.database and "ok" or "unhealthy", runtime = self.runtime,
    streamConsumer = streams and "ok" or "unhealthy", circuitBreaker = state, draining = self.draining or nil,
    streamHub = self.announce and (self.announce.is_well and "ok" or "degraded") or nil,
  }
end

return M
