-- The plane role: the control plane. Its life: start, serving requests, draining, the end. What it consists of is in
-- assembly.lua. Everything it needs from outside comes in as configuration and services.

local crypto = require("host.crypto")
local http = require("host.http")
local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local chain = require("macp.auth.chain")
local errors = require("macp.core.errors")
local supervisor = require("macp.core.supervisor")
local tenants = require("macp.core.tenants")
local app_module = require("macp.http.app")
local assembly = require("macp.plane.assembly")
local background = require("macp.plane.background")
local metrics = require("macp.plane.metrics")
local tracer = require("macp.telemetry.tracer")

local TENANT = tenants.FIRST -- of what all tenants share
local ROUTES = {
  "runs", "run_actions", "run_facts", "removed", "exports", "run_batches",
  "events", "event_search", "replay",
  "runtime", "modes", "health", "admin", "audit",
  "dashboard", "webhooks",
}
local FLUSH_MS = 3000 -- how long the writers may take for what they hold; a database that is away stores nothing
local RELEASE_MS = 1000
local WEBHOOK_DRAIN_MS = 5000 -- for attempts in flight at the end

---@class macp.plane.Role
local Role = {}
Role.__index = Role

local M = {}

-- (yields)
local function listen(role, cfg, services)
  local app = app_module.new({
    title = "MACP control plane", version = services.version, config = cfg, metrics = services.metrics,
    auth = chain.new({ role.keys.resolver }), tracer = role.tracer, replies = role.replies,
    audit = function(ctx, action) return role.audit:record(ctx, action) end,
  })
  role.registry:on_change(function(rev, how)
    if how == "rolled back" then return end -- somebody asked for that, and the request has its entry
    role.audit:note(TENANT, "mode.reloaded", rev.id, { revision = rev.hash, how = how })
  end)
  for _, name in ipairs(ROUTES) do app:mount(require("macp.plane.routes." .. name).routes(role)) end
  if cfg.docs_enabled then
    role.registry:on_change(app:mount_docs(function() return require("macp.plane.routes.modes").documented(role) end))
  end
  local server, err = http.listen({ host = cfg.host, port = cfg.port })
  if server == nil then
    return nil, errors.wrap(err, string.format("listen on %s:%d", cfg.host, cfg.port))
  end
  role.app, role.server = app, server
  server:serve(app:handler(), app:on_error())
  role.port = server:port()
  role.url = "http://" .. (cfg.host == "0.0.0.0" and "127.0.0.1" or cfg.host) .. ":" .. role.port
  return true
end

---Starts the role. (yields)
---@param config table cfg of all roles
---@param services { metrics: macp.Metrics, modes: function, version: string, tracer: macp.Tracer|nil }
---@return macp.plane.Role|nil
---@return table|nil err
function M.start(config, services)
  local cfg = config.plane
  local role = setmetatable({
    name = "macp-" .. crypto.uuid4(), tenant = TENANT, supervisor = supervisor.new("plane"),
    metrics = metrics.new(services.metrics), registry_metrics = services.metrics,
    tracer = services.tracer or tracer.new(),
  }, Role)
  local function start()
    local ok, err = assembly.build(role, cfg, services)
    if not ok then return nil, err end
    role.health:seed()
    services.metrics:on_render(function() role.metrics.depth:set(role.writers:depth()) end)
    ok, err = listen(role, cfg, services)
    if not ok then return nil, err end
    background.start(role, cfg)
    return true
  end
  local ok, err = start()
  if not ok then
    role:close()
    return nil, err
  end
  log.info("plane.started", { url = role.url, runtime = cfg.runtime_address, owner = role.name })
  return role
end

---What the role does: { runs, sse, queue, tasks }.
function Role:status()
  return {
    runs = self.owner.count, sse = self.hub.count, queue = self.writers:depth(), tasks = self.supervisor:status(),
  }
end

---Reads mode folders again; with bad ones the old stay. (yields)
function Role:reload()
  self.registry:rescan()
end

---Stops taking work, tells the streams, and stores what is in flight. (yields)
---@param ms number
function Role:drain(ms)
  if self.drained then return true end
  self.drained = true
  local deadline = sys.mono_ms() + ms
  self.health.draining = true
  self.server:stop_listening()
  self.hub:close()
  self.app:shutdown_streams()
  self.server:drain(math.max(100, math.floor((deadline - sys.mono_ms()) / 2)))
  if self.discovery then
    self.discovery:stop()
    self.signals:stop()
  end
  if self.webhook_worker then
    self.webhook_worker:drain(math.max(1, math.min(WEBHOOK_DRAIN_MS, deadline - sys.mono_ms() - FLUSH_MS)))
  end
  local ok, err = self.supervisor:drain(math.max(RELEASE_MS, math.min(FLUSH_MS, deadline - sys.mono_ms())))
  if not ok then log.warn("plane.drain_incomplete", { error = err.message }) end
  return ok, err
end

---Ends everything. (yields)
function Role:close()
  if self.closed then return end
  self.closed = true
  if self.server then
    self:drain(FLUSH_MS)
    self.server:close()
  else
    self.supervisor:drain(FLUSH_MS)
  end
  if self.client then self.client:close() end
  if self.minter then self.minter:close() end
  if self.opens_sessions then self.opens_sessions:close() end
  if self.registry then self.registry:close() end
  if self.prices then self.prices:close() end
  if self.keys then self.keys:close() end
  if self.lease then task.with_deadline(RELEASE_MS, self.lease.release, self.lease) end
  if self.db then self.db:close() end
end

return M
