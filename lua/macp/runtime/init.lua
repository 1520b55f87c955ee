-- The runtime role: the authority of coordination sessions over gRPC. Opens the journal, brings back what is in it,
-- then listens. Everything it needs from outside comes in as configuration and services.

local host_log = require("host.log")
local rpc = require("host.rpc")
local sys = require("host.sys")
local task = require("host.task")

local assembly = require("macp.runtime.assembly")
local errors = require("macp.core.errors")
local format = require("macp.runtime.format")
local gate = require("macp.runtime.gate")
local identity = require("macp.runtime.identity")
local left_behind = require("macp.runtime.left_behind")
local metrics = require("macp.runtime.metrics")
local metrics_listener = require("macp.runtime.metrics_listener")
local operator = require("macp.runtime.operator")
local policies = require("macp.runtime.policies.setup")
local preflight = require("macp.runtime.preflight")
local reference = require("macp.runtime.reference")
local reflection = require("macp.runtime.reflection")
local service = require("macp.runtime.service")
local settings = require("macp.runtime.settings")
local spans = require("macp.runtime.spans")
local startup = require("macp.runtime.startup")
local storage = require("macp.runtime.storage")
local tenures = require("macp.runtime.tenures")
local tls = require("macp.runtime.tls")

local KEEPALIVE_MS = 30000
local NOTICE_MS = 10

local Role = {}
Role.__index = Role

local M = {}

local function failed(what, err)
  return nil, errors.new("INTERNAL_ERROR", string.format("%s: %s", what, err.message or tostring(err)))
end

-- A refusal of the configuration: its message is the list of problems.
local function invalid(problems)
  local list = {}
  for i, problem in ipairs(problems) do list[i] = { message = problem } end
  return errors.validation(list)
end

-- Journal and archive. (yields)
local function open_storage(role, cfg)
  local opened, err = storage.open(cfg)
  if opened == nil then return nil, err end
  role.storage, role.journal, role.archive = opened, opened.journal, opened.archive
  for key, reason in pairs(role.journal:damaged()) do
    host_log.error("session.damaged", { session_id = key, reason = reason })
  end
  return true
end

-- Modes come before policies (which modes check) and before recovery (which pins their revisions). (yields)
local function open_modes(role, cfg, services)
  local taken, reason = left_behind.import(cfg, role.storage, sys.now_ms())
  if not taken then return nil, reason end
  role.modes = services.modes({ archive = role.archive })
  local ok, load_err = role.modes:load_all()
  if not ok then return failed("load the modes", load_err) end
  -- What came over the wire is kept beside the sessions that depend on it.
  local opened, err = role.modes.registered:open(role.storage.registered)
  if not opened then return failed("load the registered modes", err) end
  role.policies, err = policies.open(cfg, role.modes, sys.now_ms, role.storage.policies)
  if role.policies == nil then return nil, err end
  return true
end

-- Sessions of macp-runtime, when its data directory is ours now. (yields)
local function import_reference(role, cfg)
  if cfg.memory_only then return true end
  return reference.import({
    dir = cfg.data_dir, journal = role.journal, modes = role.modes, policies = role.policies, metrics = role.metrics,
  })
end

-- Sessions back into memory. (yields)
local function recover(role, cfg)
  local began, retention_ms = sys.mono_ms(), cfg.session_retention_secs * 1000
  local ok, reason = format.ensure(role.journal)
  if not ok then return failed("the store in " .. role.storage.where, reason) end
  ok, reason = import_reference(role, cfg)
  if not ok then return failed("MACP_DATA_DIR " .. cfg.data_dir, reason) end
  local parts = { loader = role.loader, endings = role.endings, journal = role.journal, strict = cfg.strict_recovery }
  local result, err = startup.recover(parts, {
    on_session = function(session) role.sessions:add(session) end,
    on_finished = function(id, entry) role.sessions:add_stub(id, entry.started_at, entry.ended_at) end,
    is_recent = function(at) return at + retention_ms > sys.now_ms() end,
  })
  if result == nil then return failed("recovery", err) end
  role.metrics.recovered:inc("ok", result.recovered)
  role.metrics.recovered:inc("skipped", result.skipped)
  host_log.info("recovery.done", {
    in_memory = role.sessions.count, loaded = result.recovered, finished = result.finished, skipped = result.skipped,
    ms = math.floor(sys.mono_ms() - began),
  })
  return true
end

-- (yields)
local function listen(role, cfg)
  local methods = service.methods()
  for path, kind in pairs(role.reflection and role.reflection:kinds() or {}) do methods[path] = kind end
  local server, err = rpc.listen({
    address = cfg.bind_addr, tls = role.tls or nil,
    max_message_bytes = cfg.max_payload_bytes + storage.FRAME_SLACK_BYTES,
    max_concurrent_streams = cfg.max_concurrent_streams, keepalive_ms = KEEPALIVE_MS,
    unary_timeout_ms = cfg.request_timeout_secs * 1000, methods = methods,
  })
  if server == nil then return failed("MACP_BIND_ADDR " .. cfg.bind_addr, err) end
  role.server = server
  if role.tls then role.certificates = tls.follow(cfg, server, role.tls) end
  server:serve(function(call) role.service:handle(call) end)
  return true
end

local function start_tasks(role, cfg)
  role.tasks = {
    task.spawn(function() role.log:run() end),
    task.spawn(function() role.clock:run() end),
    task.spawn(function() role.tenures:run() end),
    task.spawn(function() role.checkpoints:run() end),
    task.spawn(function() role.endings:run() end),
  }
  if role.providers then role.providers:start() end
  if role.ingress then role.ingress:follow() end
  role.credentials:on_change(function() role.tenures:recheck() end)
  role.credentials:follow()
  role.cleaner = task.every(cfg.cleanup_interval_secs * 1000, function() role.clock:clean_up() end)
  role.modes:on_change(function(rev)
    role.policies:mode_changed(rev)
    role.watches:modes_changed()
  end)
  role.modes:watch()
  role.policies:watch()
end

-- Everything between a checked configuration and an open port. (yields)
local function bring_up(role, cfg, services)
  local ok, err = open_storage(role, cfg)
  if ok then ok, err = open_modes(role, cfg, services) end
  if not ok then return nil, err end
  role.metrics = metrics.new(services.metrics, function(mode) return role.modes:get(mode) ~= nil end)
  assembly.build(role, cfg)
  services.metrics:on_render(function()
    if not role.closed then role.metrics:sample(role.sessions, role.journal) end
  end)
  role.identities = identity.new(role.credentials.chain, {
    failures = role.metrics.auth_failures, failure_limiter = role.failure_limiter,
    use_certificates = role.credentials.uses_certificates,
  })
  role.tenures = tenures.new({ identities = role.identities })
  role.reflection = cfg.reflection and reflection.new(service.methods(), role.modes) or nil
  role.service = service.new({
    identities = role.identities, ownership = role.ownership, tenures = role.tenures,
    acceptor = role.acceptor, ingress = role.ingress, kernel = role.kernel, sessions = role.sessions, log = role.log,
    streams = role.streams,
    watches = role.watches, modes = role.modes, policies = role.policies, metrics = role.metrics,
    health = role.health, reflection = role.reflection,
    gate = gate.new(cfg.concurrency_limit_per_connection), now_ms = sys.now_ms,
    visible_only = cfg.list_sessions_scope == "visible", watch_policies_open = cfg.watch_policies_open,
    page = { default = cfg.list_sessions_default_page_size, max = cfg.list_sessions_max_page_size },
  })
  spans.attach(role.service, services.tracer)
  ok, err = recover(role, cfg)
  if ok then
    start_tasks(role, cfg)
    ok, err = listen(role, cfg)
  end
  if ok and cfg.metrics_addr ~= nil then
    role.metrics_server, err = metrics_listener.start(cfg.metrics_addr, services.metrics)
    ok = role.metrics_server ~= nil
  end
  if not ok then return nil, err end
  return true
end

---Starts the role: storage, modes, policies, recovery, then the listener. Whatever fails ends it again. (yields)
---@param config table settings; the section `runtime` is read
---@param services { metrics: table, modes: fun(opts: { archive: table }): table } registry of metrics; maker of the
---  mode registry
---@return table|nil role, table? err
function M.start(config, services)
  local cfg = config.runtime
  local found, problems = preflight.run(cfg)
  if found == nil then return nil, invalid(problems) end
  for _, warning in ipairs(found.warnings) do host_log.warn("config.warning", { message = warning }) end
  settings.announce(cfg, found.tls ~= false)
  local role = setmetatable({
    config = cfg, credentials = found.credentials, tls = found.tls, ingress = found.ingress,
    extensions = found.providers,
    drain_ms = cfg.shutdown_drain_secs * 1000,
    health = { serving = true, ended = false, changed = task.cond() },
  }, Role)
  local ok, err = bring_up(role, cfg, services)
  if not ok then
    role:close()
    return nil, err
  end
  role.address = cfg.bind_addr:gsub(":%d+$", ":" .. role.server:port())
  host_log.info("runtime.started", {
    address = role.address, version = sys.version, auth = role.credentials:name(), epoch = role.ownership:epoch(),
  })
  return role
end

---Ends streams, lets calls finish. Afterwards nobody is connected. (yields)
---@param ms integer|nil longest wait, besides the configured one
function Role:drain(ms)
  if self.draining then return end
  self.draining = true
  local health = self.health
  health.serving = false
  health.changed:broadcast()
  if self.streams then self.streams:close() end
  if self.watches then self.watches:close() end
  if self.reflection then self.reflection:close() end
  health.ended = true
  health.changed:broadcast()
  task.sleep(NOTICE_MS) -- watchers learn what happens before the transport ends them
  if self.server then self.server:drain(math.min(ms or self.drain_ms, self.drain_ms)) end
end

---Stops the role and closes everything it opened. (yields)
function Role:close()
  self:drain()
  if self.server then self.server:close() end
  if self.metrics_server then self.metrics_server:close() end
  if self.certificates then self.certificates:stop() end
  if self.cleaner then self.cleaner:stop() end
  if self.clock then self.clock:stop() end
  if self.tenures then self.tenures:stop() end
  if self.providers then self.providers:stop() end
  if self.ingress then self.ingress:close() end
  self.credentials:close()
  if self.checkpoints then self.checkpoints:close() end
  if self.endings then self.endings:close() end
  if self.log then self.log:close() end
  for _, running in ipairs(self.tasks or {}) do running:join() end
  if self.policies then self.policies:close() end
  if self.modes then self.modes:close() end
  self.closed = true
  if self.storage then self.storage:close() end
  host_log.info("runtime.stopped", {})
end

---Reads mode folders, policy files, certificates, static tokens, keys and the site's own files again; with bad ones the
---old stay. (yields)
function Role:reload()
  self.modes:rescan()
  self.policies:rescan()
  if self.certificates then self.certificates:reload() end
  self.credentials:reload()
  if self.ingress then self.ingress:reload() end
  if self.providers then self.providers:reload() end
end

---Cancels a session in the name of this process: see runtime/operator.lua. (yields)
---@param session_id string
---@param by string
---@param reason string|nil
---@return boolean|nil done false: there is no such session
---@return macp.Error|nil err
function Role:cancel_session(session_id, by, reason) return operator.cancel(self, session_id, by, reason) end

---Facts for status pages.
function Role:status()
  local quarantined = 0
  for _, session in pairs(self.sessions.by_id) do
    if session.quarantined then quarantined = quarantined + 1 end
  end
  return {
    address = self.address, serving = self.health.serving, sessions = self.sessions.count,
    sessions_open = self.sessions.open, quarantined = quarantined, modes = self.modes:status(),
    journal = self.journal:stats(), backlog = self.log:backlog(),
  }
end

return M
