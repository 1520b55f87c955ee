-- Running roles: what they share, their start in order, the signals, and the ordered end.

local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local checks = require("macp.config.checks")
local console = require("macp.core.console")
local errors = require("macp.core.errors")
local housekeeping = require("macp.core.housekeeping")
local messages = require("macp.protocol.messages")
local metrics = require("macp.telemetry.metrics")
local policy_files = require("macp.cmd.shared.policy_files")
local process_metrics = require("macp.telemetry.process")
local script_limits = require("macp.modes.limits")
local tracing = require("macp.telemetry.tracing")

local DRAIN_MS = 10000
local OPEN_FILES = 10240 -- 10 000 clients, and what a process needs besides
local TRACES_MS = 2000 -- for the last spans
local BAD_CONFIG = 2 -- exit code
local SIGNALLED = 128 -- exit code of the second signal: 128 + its number
local NUMBERS = { INT = 2, TERM = 15 }

-- The plane observes the runtime: it starts after it and ends before it.
local ORDER = { "runtime", "plane" }

local M = { ORDER = ORDER }

---What every role gets: { config, log, metrics, tracer, spans, clock, modes, collect, version, here }. modes(opts) makes a mode
---registry with the given archive; collect() collects the garbage of all of them; spans sends what the
---tracer records, if it is on; here[name] is a role of this process that was started before.
---@param cfg table
---@param opts { mode_dirs: string[]|nil }|nil
function M.services(cfg, opts)
  local registry = metrics.new()
  process_metrics.register(registry)
  local registries, limits = {}, script_limits.from_settings(cfg.script)
  local function modes(given)
    local made = require("macp.modes.registry").new({
      dirs = opts and opts.mode_dirs or {}, archive = given and given.archive, metrics = registry,
      limits = limits, is_quiet = #registries > 0,
      strict_supersedes = cfg.runtime.strict_supersedes, lenient_outcomes = cfg.runtime.lenient_outcomes,
    })
    registries[#registries + 1] = made
    return made
  end
  local function collect()
    for _, made in ipairs(registries) do made:collect() end
  end
  local tracer, spans = tracing.open(cfg.otel, { metrics = registry, pool = messages.pool })
  return {
    config = cfg, log = log, metrics = registry, tracer = tracer, spans = spans,
    version = sys.version, modes = modes, collect = collect, here = {},
    clock = { now_ms = sys.now_ms, mono_ms = sys.mono_ms },
  }
end

---Splits "plane,runtime" and puts the roles into the order of their start.
---@param text string
---@return string[]|nil
---@return string|nil problem
function M.parse(text)
  local wanted = {}
  for name in text:gmatch("[^,%s]+") do
    local known = false
    for _, role in ipairs(ORDER) do known = known or role == name end
    if not known then return nil, "unknown role `" .. name .. "`; the roles are plane and runtime" end
    wanted[name] = true
  end
  local list = {}
  for _, role in ipairs(ORDER) do
    if wanted[role] then list[#list + 1] = role end
  end
  if #list == 0 then return nil, "no role given" end
  return list
end

---@class macp.Roles running roles of this process
---@field by_name table<string, table>
local Roles = {}
Roles.__index = Roles

---Starts roles in order; when one fails those before it are closed again. (yields)
---@param names string[]
---@param cfg table
---@param services table
---@return macp.Roles|nil
---@return table|nil err
function M.start(names, cfg, services)
  local self = setmetatable({ list = {}, by_name = {} }, Roles)
  for _, name in ipairs(names) do
    local role, err = require("macp." .. name).start(cfg, services)
    if role == nil then
      self:close()
      return nil, errors.wrap(err, name)
    end
    self.list[#self.list + 1] = { name = name, role = role }
    self.by_name[name], services.here[name] = role, role
  end
  return self
end

-- Calls a method of a role; what goes wrong is logged, the others go on. (yields)
local function attempt(entry, step, fn, ...)
  local ok, value, err = pcall(fn, ...)
  if not ok then err = value elseif value ~= nil or err == nil then return end
  log.error("role.step_failed", {
    role = entry.name, step = step, error = type(err) == "table" and (err.message or err.code) or err,
  })
end

---Lets roles finish what they do, the last started first, all within ms. (yields)
function Roles:drain(ms)
  local deadline = sys.mono_ms() + ms
  for i = #self.list, 1, -1 do
    local entry = self.list[i]
    local left = math.max(1, math.floor(deadline - sys.mono_ms()))
    attempt(entry, "drain", task.with_deadline, left, entry.role.drain, entry.role, left)
  end
end

---Closes everything. (yields)
function Roles:close()
  for i = #self.list, 1, -1 do
    local entry = self.list[i]
    attempt(entry, "close", entry.role.close, entry.role)
  end
  self.list, self.by_name = {}, {}
end

---Asks every role that can to read its files again.
function Roles:reload()
  for _, entry in ipairs(self.list) do
    if entry.role.reload then attempt(entry, "reload", entry.role.reload, entry.role) end
  end
  log.info("roles.reloaded", {})
end

---Settings that forbid a start, told on standard error. true when there is none.
function M.check(cfg, names)
  local problems, warnings = checks.run(cfg, names)
  for _, warning in ipairs(warnings) do log.warn("config.warning", { message = warning }) end
  if #problems == 0 then return true end
  local style = console.error_style()
  console.warn(style.red("macp: ") .. "not started, the configuration is not fit for " .. cfg.app.environment .. ":")
  for _, problem in ipairs(problems) do console.warn("  " .. problem) end
  if cfg.app.environment ~= "development" then
    console.warn("Set MACP_ENV=development if this is a machine to try things on.")
  end
  return false
end

-- The problems of a start that was refused for its configuration, one per line; nil when something else went wrong.
local function config_problems(err)
  local cause = err.cause or err
  if cause.code ~= "VALIDATION_ERROR" then return nil end
  return type(cause.message) == "table" and cause.message or { cause.message }
end

-- A start that failed: the exit code, or nil, err.
local function explain_failure(err)
  local problems = config_problems(err)
  if problems == nil then return nil, err end
  local style = console.error_style()
  console.warn(style.red("macp: ") .. "not started, the configuration has problems:")
  for _, problem in ipairs(problems) do console.warn("  " .. problem) end
  console.warn("Run `macp config` for all settings, their values and sources.")
  return BAD_CONFIG
end

-- TERM and INT end the wait of `stop`; a second one ends the process at once.
local function watch_signals(stop, running)
  local function on_end(name)
    return function()
      if stop.requested then
        log.warn("process.killed", { signal = name })
        sys.abort(SIGNALLED + NUMBERS[name])
      end
      stop.requested = true
      log.info("process.stopping", { signal = name })
      stop.changed:broadcast()
    end
  end
  sys.on_signal("TERM", on_end("TERM"))
  sys.on_signal("INT", on_end("INT"))
  sys.on_signal("HUP", function()
    if running.roles then running.roles:reload() end
  end)
end

local function has_runtime(names)
  for _, name in ipairs(names) do
    if name == "runtime" then return true end
  end
  return false
end

-- Every client is an open file. The limit is raised as far as it goes; too low a one is told before clients are refused.
local function check_open_files()
  local limit = sys.raise_open_files()
  if limit and limit < OPEN_FILES then
    log.warn("process.few_open_files", { limit = limit, wanted = OPEN_FILES, message = string.format(
      "this process may open %d files, one for each client: raise the hard limit to %d (ulimit -Hn, LimitNOFILE=)",
      limit, OPEN_FILES) })
  end
end

---The whole life of a serving process: check, start, wait for a signal, drain, close. (yields)
---@param names string[]
---@param cfg table
---@param opts { mode_dirs: string[]|nil, on_ready: fun(roles: macp.Roles, stop: fun())|nil,
---  on_stop: function|nil }|nil on_ready runs in a task of its own and may call stop(); on_stop runs after the roles
---  are closed
---@return integer|nil exit code; 2 when the configuration was refused, told on standard error
---@return table|nil err
function M.serve(names, cfg, opts)
  opts = opts or {}
  if has_runtime(names) then
    local code, problem = policy_files.dry_run(cfg, opts.mode_dirs)
    if code ~= false then return code, problem end
  end
  if not M.check(cfg, names) then return BAD_CONFIG end
  local began = sys.mono_ms()
  local stop, running = { requested = false, changed = task.cond() }, {}
  watch_signals(stop, running)
  local services = M.services(cfg, opts)
  check_open_files()
  local roles, err = M.start(names, cfg, services)
  if roles == nil then return explain_failure(err) end
  running.roles = roles
  if services.spans then services.spans:start() end
  local keeper = housekeeping.start(services.collect)
  M.announce(roles, sys.mono_ms() - began)
  local ready
  if opts.on_ready then
    ready = task.spawn(opts.on_ready, roles, function()
      stop.requested = true
      stop.changed:broadcast()
    end)
  end
  while not stop.requested do stop.changed:wait() end
  if ready then ready:cancel() end
  keeper:stop()
  running.roles = nil
  roles:drain(DRAIN_MS)
  roles:close()
  if services.spans then services.spans:close(TRACES_MS) end
  if opts.on_stop then opts.on_stop() end
  log.info("process.stopped", {})
  return 0
end

---Tells where the roles listen: one log line, and one line for people on a terminal.
function M.announce(roles, start_ms)
  local fields = { start_ms = math.floor(start_ms + 0.5), pid = sys.pid() }
  local places = {}
  for _, entry in ipairs(roles.list) do
    local address = entry.role.url or entry.role.address
    if address then
      fields[entry.name] = address
      places[#places + 1] = entry.name .. " " .. address
    end
  end
  log.info("process.ready", fields)
  local style = console.style()
  console.print(style.green("ready") .. "  " .. table.concat(places, "  "))
end

return M
