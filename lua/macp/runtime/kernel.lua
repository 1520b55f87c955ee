-- The acceptance pipeline. One envelope is judged from start to end without yielding, which is what makes acceptance
-- within a session serial; being durable is somebody else's wait. The order of checks decides which error a client
-- sees; it is the one of the protocol's public runtime.

local log = require("host.log")

local codes = require("macp.protocol.codes")
local lifecycle = require("macp.protocol.lifecycle")
local records = require("macp.runtime.records")
local session_record = require("macp.runtime.session")

local MODE_FAILED = codes.MODE_FAILED
local OPEN, RESOLVED, EXPIRED = lifecycle.OPEN, lifecycle.RESOLVED, lifecycle.EXPIRED

local MAX_SYNTHETIC = 16
local SYNTHETIC_FLAG = 1
local MAX_HASHED = 2000 -- envelopes; the state of a longer session is not hashed when it ends: others would wait

local Kernel = {}
Kernel.__index = Kernel

local M = {}

---@class macp.runtime.Verdict what became of an envelope; one table, reused: read it before the next call
---@field session table|nil
---@field lsn integer 0 when nothing was written
---@field state integer
---@field accepted_at integer
---@field duplicate boolean

---@class macp.runtime.Details why a policy refuses
---@field reasons string[]
---@field items { rule: string, text: string }[]|nil the same, by rule

---@param opts { sessions: table, log: table, modes: table, policies: table, metrics: table, checkpoints: table,
---  events: table, now_ms: fun(): integer }
function M.new(opts)
  return setmetatable({
    sessions = opts.sessions,
    log = opts.log,
    modes = opts.modes,
    policies = opts.policies,
    metrics = opts.metrics,
    checkpoints = opts.checkpoints,
    events = opts.events,
    now_ms = opts.now_ms,
    verdict = { lsn = 0, state = 0, accepted_at = 0, duplicate = false },
  }, Kernel)
end

local function refuse(code, reason, name) return nil, code, codes.text(code, reason, name) end

-- Acceptance time: wall clock that never runs backwards within a session.
local function acceptance_time(kernel, session)
  local now = kernel.now_ms()
  return now > session.last_at and now or session.last_at
end

local function accepted(kernel, session, at, duplicate)
  local verdict = kernel.verdict
  verdict.session, verdict.lsn, verdict.state = session, session.lsn, session.state
  verdict.accepted_at, verdict.duplicate = at, duplicate
  return verdict
end

-- Ends a session in memory: its mode state is not needed any more.
local function release(kernel, session)
  if session.rev then
    session.rev:drop(session.id)
    kernel.modes:unpin(session.rev)
    session.rev = nil
  end
  kernel.sessions:settle(session)
end

-- Books an envelope as accepted. When its append fails, the session is rebuilt and this is forgotten.
local function remember(session, message_id, at)
  session.ids[message_id] = at
  session.ordinals = session.ordinals + 1
  session.since_checkpoint = session.since_checkpoint + 1
  session.last_at = at
end

-- Something was applied in memory and could not be recorded, or failed half-way.
local function spoil(kernel, session)
  if not session.stale then
    session.stale = true
    log.warn("session.rebuild", { session_id = session.id })
  end
  kernel.sessions:settle(session)
end

---Writes TtlExpired and ends the session.
---@return true|nil, string? code, string? reason
local function expire(kernel, session, now)
  local before = session.state
  session_record.finish(session, EXPIRED, now)
  local event = kernel.events:lifecycle(session, lifecycle.EVENT.EXPIRED, now)
  local lsn, err = kernel.log:append(session, records.internal(session, "TtlExpired", now, EXPIRED), event)
  if lsn == nil then
    session.state, session.ended_at = before, nil
    return refuse("INTERNAL_ERROR", err.message)
  end
  session_record.skip(session, session.index)
  session.last_at = now
  kernel.metrics:transition("expired", session)
  release(kernel, session)
  return true
end

local function quarantine(kernel, session, reason, err)
  session.quarantined = reason
  session.due = nil
  log.error("session.quarantined", {
    session_id = session.id, mode = session.mode, revision = session.revision, reason = reason,
    detail = err and err.message,
  })
  kernel.sessions:settle(session)
end

-- Judges and records one message a timer of the mode has emitted.
local function submit_synthetic(kernel, session, message)
  local at = session_record.wall_of(session, message.at)
  if at < session.last_at then at = session.last_at end
  local status, due, resolution = session.rev:submit(session.id, message.type, message.sender, message.payload,
    session_record.time_at(session, at), SYNTHETIC_FLAG)
  if status == nil then
    local rejection = due
    quarantine(kernel, session, "a timer of the mode emitted a message that its own rules refuse", rejection)
    return refuse("INTERNAL_ERROR", rejection.message, MODE_FAILED)
  end
  return M.record(kernel, session, {
    macp_version = "1.0", mode = session.mode, message_type = message.type, message_id = message.message_id,
    session_id = session.id, sender = message.sender, timestamp_unix_ms = at, payload = message.payload,
  }, at, due, status == "resolved" and (resolution or message.payload) or nil, nil)
end

-- Emits the timers due at or before a wall time.
local function fire_timers(kernel, session, until_ms)
  for _ = 1, MAX_SYNTHETIC do
    local due = session.due
    if due == nil or session.state ~= OPEN or session_record.wall_of(session, due) > until_ms then return true end
    local message, err = session.rev:fire(session.id, session_record.time_at(session, until_ms))
    if message == nil then
      if err == nil then
        session.due = nil
        return true
      end
      quarantine(kernel, session, "a timer of the mode failed", err)
      return refuse("INTERNAL_ERROR", err.message, MODE_FAILED)
    end
    local ok, code, reason = submit_synthetic(kernel, session, message)
    if not ok then return nil, code, reason end
  end
  quarantine(kernel, session, "a timer of the mode re-arms itself in the past")
  return refuse("INTERNAL_ERROR", "a timer of the mode re-arms itself in the past", MODE_FAILED)
end

---Lets time act on a session: due timers first, then the deadline or the suspension cap.
---@return true|nil, string? code, string? reason
function Kernel:observe(session, now)
  if session.due and session.state == OPEN and not session.quarantined then
    local until_ms = now < session.expires_at and now or session.expires_at
    local ok, code, reason = fire_timers(self, session, until_ms)
    if not ok then return nil, code, reason end
  end
  if session_record.is_overdue(session, now) then return expire(self, session, now) end
  return true
end

-- What a record says beyond its frame, when the envelope ends the session or comes from a timer.
local function resolve(kernel, session, at, resolution, payload)
  session_record.finish(session, RESOLVED, at)
  local marks = { received_at_ms = at, state = RESOLVED }
  if resolution ~= payload then marks.resolution = resolution end
  if session.ordinals <= MAX_HASHED then marks.mode_state_hash = session.rev:state_hash(session.id) end
  return marks, kernel.events:lifecycle(session, lifecycle.EVENT.RESOLVED, at)
end

---Records an envelope whose transition the mode has already applied.
---@param sender string|nil whose activity it is; nil for synthetic messages
---@param frame string|nil what records.frame would give for the envelope as it came, when that is at hand
---@return true|nil, string? code, string? reason
function M.record(kernel, session, envelope, at, due, resolution, sender, frame)
  if envelope.timestamp_unix_ms == 0 then envelope.timestamp_unix_ms, frame = at, nil end
  frame = frame or records.frame(envelope)
  remember(session, envelope.message_id, at)
  if sender then session_record.count(session, sender, at) end
  local marks, event
  if resolution then marks, event = resolve(kernel, session, at, resolution, envelope.payload) end
  if sender == nil then
    marks = marks or { received_at_ms = at }
    marks.synthetic = true
  end
  local tail = marks and records.marked_tail(marks) or records.incoming_tail(at)
  local lsn, err = kernel.log:append_framed(session, frame, tail, event)
  if lsn == nil then
    spoil(kernel, session)
    return refuse("INTERNAL_ERROR", err.message)
  end
  if resolution then
    kernel.metrics:transition("resolved", session)
    release(kernel, session)
  elseif due ~= session.due then
    session.due = due
    kernel.sessions:settle(session)
  end
  return true
end

-- The answer to a message id that is already in the history, or nil when the caller may not know.
local function duplicate_of(kernel, session, identity, accepted_at)
  if session_record.may_read(session, identity) or session.counts[identity.sender] then
    return accepted(kernel, session, accepted_at, true)
  end
  return refuse("FORBIDDEN", "the sender may not read this session")
end

local function rejected_by_mode(kernel, session, rejection)
  if rejection.author_error then
    kernel.metrics:faulty(session)
    log.error("mode.failed", {
      session_id = session.id, mode = session.mode, revision = session.revision, file = rejection.file,
      line = rejection.line, message = rejection.message,
    })
    spoil(kernel, session)
  end
  return nil, rejection.code, codes.text(rejection.code, rejection.message or rejection.rule or "refused",
    rejection.author_error and MODE_FAILED or nil), rejection.details
end

---Judges a message of a session (every type except SessionStart, Signal and Progress). Does not yield.
---@param session table in step with the journal
---@param identity macp.auth.Identity
---@param envelope table sender already set to the identity's; kept by nobody
---@param frame string|nil what records.frame would give for the envelope, when that is at hand
---@return macp.runtime.Verdict|nil, string? code, string? reason, macp.runtime.Details? details
function Kernel:message(session, identity, envelope, frame)
  local known = session.ids[envelope.message_id]
  if known then return duplicate_of(self, session, identity, known) end
  if envelope.mode ~= session.mode then return refuse("INVALID_ENVELOPE", "the session's mode is " .. session.mode) end
  local at = acceptance_time(self, session)
  local ok, code, reason = self:observe(session, at)
  if not ok then return nil, code, reason end
  if session.state ~= OPEN then
    return refuse("SESSION_NOT_OPEN", lifecycle.NAMES[session.state], session.state == EXPIRED and "TtlExpired" or nil)
  end
  if session.quarantined then return refuse("MODE_NOT_SUPPORTED", session.quarantined) end
  local rev = session.rev
  if rev:is_reserved_id(envelope.message_id) then
    return refuse("INVALID_ENVELOPE", "the message id is reserved for timers of the mode")
  end
  local status, due, resolution = rev:submit(
    session.id, envelope.message_type, identity.sender, envelope.payload, session_record.time_at(session, at), 0)
  if status == nil then return rejected_by_mode(self, session, due) end
  ok, code, reason = M.record(
    self, session, envelope, at, due, status == "resolved" and (resolution or envelope.payload) or nil, identity.sender,
    frame)
  if not ok then return nil, code, reason end
  self.metrics:accepted(session)
  self.checkpoints:consider(session)
  return accepted(self, session, at, false)
end

M.refuse = refuse
M.release = release
M.accepted = accepted
M.acceptance_time = acceptance_time

return M
