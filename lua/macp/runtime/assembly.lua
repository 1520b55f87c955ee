-- The parts of the runtime that judge, record and tell, wired to each other.

local sys = require("host.sys")

local acceptor = require("macp.runtime.acceptor")
local audit = require("macp.runtime.audit")
local checkpoints = require("macp.runtime.checkpoints")
local clock = require("macp.runtime.clock")
local endings = require("macp.runtime.endings")
local kernel = require("macp.runtime.kernel")
local limits = require("macp.runtime.limits")
local log = require("macp.runtime.log")
local ownership = require("macp.runtime.ownership")
local providers = require("macp.runtime.providers")
local recovery = require("macp.runtime.recovery")
local sessions = require("macp.runtime.sessions")
local starts = require("macp.runtime.starts")
local streams = require("macp.runtime.streams")
local watches = require("macp.runtime.watches")

local M = {}

-- What holds and records sessions.
local function build_records(role, cfg, hooks)
  role.log = log.new(role.journal, hooks)
  role.loader = recovery.new({
    journal = role.journal, modes = role.modes, policies = role.policies, strict = cfg.strict_recovery,
    metrics = role.metrics,
  })
  role.endings = endings.new({
    log = role.log, journal = role.journal, mode = cfg.compact_terminal,
    load_ids = function(session) return role.sessions:load_ids(session) end,
    on_deleted = function(id) role.sessions:deleted(id) end,
  })
  role.sessions = sessions.new({
    loader = role.loader, journal = role.journal, retention_ms = cfg.session_retention_secs * 1000,
    on_ended = function(session) role.endings:note(session) end,
    -- Records of before the trouble may still be on their way to the disk.
    before_rebuild = function(session) role.log:wait(session.lsn) end,
  })
  role.checkpoints = checkpoints.new({
    journal = role.journal, interval = cfg.checkpoint_interval,
    hold = function(session, fn) return role.sessions:hold(session, fn) end,
  })
end

-- How much callers may do in a minute.
local function build_limiters(cfg)
  local failures = cfg.auth_failure_limit_per_minute
  return {
    starts = limits.new(cfg.session_start_limit_per_minute, sys.mono_ms),
    messages = limits.new(cfg.message_limit_per_minute, sys.mono_ms),
    failures = limits.new(failures > 0 and failures or math.huge, sys.mono_ms),
  }
end

-- What judges messages, and what happens by itself as time passes.
local function build_judgement(role, cfg)
  local now_ms, limiters = sys.now_ms, build_limiters(cfg)
  role.failure_limiter = limiters.failures
  role.watches = watches.new({
    sessions = role.sessions, log = role.log, metrics = role.metrics, now_ms = now_ms,
    visible_only = cfg.list_sessions_scope == "visible", policies = role.policies,
  })
  role.kernel = kernel.new({
    sessions = role.sessions, log = role.log, modes = role.modes, policies = role.policies, metrics = role.metrics,
    checkpoints = role.checkpoints, events = role.watches, now_ms = now_ms,
  })
  role.acceptor = acceptor.new({
    kernel = role.kernel, starts = starts.new({ kernel = role.kernel, max_clock_skew_ms = cfg.max_clock_skew_ms }),
    sessions = role.sessions, watches = role.watches, start_limiter = limiters.starts,
    message_limiter = limiters.messages, metrics = role.metrics, max_payload_bytes = cfg.max_payload_bytes,
    audit = audit.new(sys.mono_ms), ingress = role.ingress, now_ms = now_ms,
  })
  role.streams = streams.new({
    acceptor = role.acceptor, sessions = role.sessions, log = role.log, journal = role.journal,
    metrics = role.metrics, ends_denied = cfg.stream_end_after_subscribe_denial, ingress = role.ingress,
  })
  role.clock = clock.new({
    sessions = role.sessions, kernel = role.kernel, journal = role.journal, endings = role.endings,
    limiters = { limiters.starts, limiters.messages, limiters.failures }, now_ms = now_ms,
    disk_retention_ms = cfg.session_disk_retention_secs * 1000,
  })
  role.providers = role.extensions and providers.new(role.extensions, role.journal)
end

-- Who hears of what the log has made durable, and of a store that belongs to another process now.
local function connect(role, hooks)
  role.ownership = ownership.new({ journal = role.journal, on_lost = function(reason)
    role.health.serving = false
    role.health.changed:broadcast()
    role.streams:close(reason)
    role.watches:close(reason)
  end })
  function hooks.publish(session, frame) role.streams:publish(session, frame) end
  function hooks.flushed(records) role.metrics:flushed(records, role.journal) end
  function hooks.event(event)
    role.watches:event(event)
    if role.providers then role.providers:event(event) end
  end
  function hooks.stale(session)
    if role.ownership:refusal(session.id) == nil then role.streams:lost(session) end
  end
end

---Makes the parts of a role whose storage, modes, policies and metrics are there. Does not yield.
---@param role table the role; its parts become its fields
---@param cfg table the section `runtime` of the settings
function M.build(role, cfg)
  local hooks = {}
  build_records(role, cfg, hooks)
  build_judgement(role, cfg)
  connect(role, hooks)
end

return M
