-- SessionStart: the one envelope that makes a session. The order of checks decides which error a client sees; it is the
-- one of the protocol's public runtime.

local log = require("host.log")

local codes = require("macp.protocol.codes")
local envelope_rules = require("macp.protocol.envelope")
local kernel_rules = require("macp.runtime.kernel")
local lifecycle = require("macp.protocol.lifecycle")
local messages = require("macp.protocol.messages")
local participant_rules = require("macp.protocol.participants")
local records = require("macp.runtime.records")
local session_record = require("macp.runtime.session")
local white_space = require("macp.protocol.white_space")

local refuse, is_blank = kernel_rules.refuse, white_space.is_blank

local MAX_TTL_MS = 86400000
local MAX_TIME_MS = 9007199254740991 -- the largest exact integer
local DEFAULT_MAX_SUSPEND_MS = 7 * 86400000

local Starts = {}
Starts.__index = Starts

local M = { DEFAULT_MAX_SUSPEND_MS = DEFAULT_MAX_SUSPEND_MS }

---@param opts { kernel: table, max_clock_skew_ms: integer }
function M.new(opts)
  return setmetatable({
    kernel = opts.kernel,
    max_clock_skew_ms = opts.max_clock_skew_ms,
    payload_codec = messages.codec("macp.v1.SessionStartPayload"),
  }, Starts)
end

local function check_strict(payload, needs_participants)
  if is_blank(payload.mode_version) then
    return refuse("INVALID_ENVELOPE", "mode_version is blank", "InvalidPayload")
  end
  if is_blank(payload.configuration_version) then
    return refuse("INVALID_ENVELOPE", "configuration_version is blank", "InvalidPayload")
  end
  local ok, reason = participant_rules.check(payload.participants)
  if not ok then return refuse("INVALID_ENVELOPE", reason, "InvalidPayload") end
  if needs_participants and #payload.participants == 0 then
    return refuse("INVALID_ENVELOPE", "participants is empty", "InvalidPayload")
  end
  return true
end

local function check_ttl(payload)
  local ttl = payload.ttl_ms
  if type(ttl) ~= "number" or ttl < 1 or ttl > MAX_TTL_MS then
    return refuse("INVALID_ENVELOPE", "ttl_ms must be between 1 and 86400000", "InvalidTtl")
  end
  if tonumber(payload.max_suspend_ms) < 0 then
    return refuse("INVALID_ENVELOPE", "max_suspend_ms must not be negative", "InvalidPayload")
  end
  return true
end

-- The cap on suspensions. What is beyond exact integers, which codecs give as text, has no end either way.
local function suspension_cap(payload)
  local cap = tonumber(payload.max_suspend_ms)
  return cap > 0 and math.min(cap, MAX_TIME_MS) or DEFAULT_MAX_SUSPEND_MS
end

-- The revision a start asks for: the mode's current one, of the named version.
local function choose_revision(modes, envelope, payload)
  local version = payload.mode_version
  local rev = modes:get(envelope.mode, version ~= "" and version or nil)
  if rev == nil then
    return refuse("INVALID_ENVELOPE", string.format("mode_version %q is not registered", version))
  end
  return rev
end

-- Steps 1 to 7. Returns the decoded payload and the revision.
local function check_request(starts, envelope)
  local modes = starts.kernel.modes
  if not envelope_rules.is_session_id(envelope.session_id) then
    return refuse("INVALID_SESSION_ID", "use a lower-case UUID v4 or v7, or at least 22 characters of [A-Za-z0-9_-]")
  end
  local current = modes:get(envelope.mode)
  if current == nil then
    return refuse("MODE_NOT_SUPPORTED", string.format("mode %q is not registered", envelope.mode))
  end
  if envelope.payload == "" then return refuse("INVALID_ENVELOPE", "the payload is empty", "InvalidPayload") end
  local payload, err = starts.payload_codec:decode(envelope.payload)
  if payload == nil then return refuse("INVALID_ENVELOPE", err.message, "InvalidPayload") end
  local ok, code, reason = true, nil, nil
  local is_strict, needs_participants = modes:is_strict(envelope.mode)
  if is_strict then ok, code, reason = check_strict(payload, needs_participants) end
  if not ok then return nil, code, reason end
  local rev
  rev, code, reason = choose_revision(modes, envelope, payload)
  if rev == nil then return nil, code, reason end
  ok, code, reason = check_ttl(payload)
  if not ok then return nil, code, reason end
  return payload, rev
end

-- The deadline counts from the client's clock when that is credible.
local function deadline_of(starts, envelope, ttl_ms, now)
  local base, max_skew = tonumber(envelope.timestamp_unix_ms), starts.max_clock_skew_ms
  if base <= 0 then return now + ttl_ms end
  if max_skew > 0 and math.abs(base - now) > max_skew then
    log.warn("session.clock_skew", { session_id = envelope.session_id, skew_ms = base - now })
    return now + ttl_ms
  end
  return math.min(base + ttl_ms, MAX_TIME_MS)
end

local function repeated(kernel, existing, identity, envelope)
  if existing.initiator == identity.sender and existing.start_id == envelope.message_id then
    local now = kernel_rules.acceptance_time(kernel, existing)
    local ok, code, reason = kernel:observe(existing, now)
    if not ok then return nil, code, reason end
    return kernel_rules.accepted(kernel, existing, existing.started_at, true)
  end
  return refuse("SESSION_ALREADY_EXISTS", "the session id is taken")
end

---Arguments of a revision's start hook, live and on replay.
function M.start_arguments(session, payload)
  local policy = session.policy
  return {
    initiator = session.initiator,
    participants = payload.participants,
    payload = payload,
    policy = {
      policy_id = policy.policy_id, mode = policy.mode, rules = policy.rules, schema_version = policy.schema_version,
      problem = policy.problem,
    },
    mode_version = session.mode_version,
    configuration_version = session.configuration_version,
    policy_version = policy.policy_id,
    ttl_ms = session.ttl_ms,
    t = 0,
  }
end

local function run_start_hook(rev, session, payload)
  local ok, due = rev:start(session.id, M.start_arguments(session, payload))
  if ok then
    session.due = due
    return true
  end
  local rejection = due
  rev:drop(session.id)
  local name
  if rejection.author_error then
    name = codes.MODE_FAILED
    log.error("mode.failed", {
      session_id = session.id, mode = session.mode, revision = rev.hash, file = rejection.file,
      line = rejection.line, message = rejection.message,
    })
  end
  local _, code, text = refuse(rejection.code, rejection.message or rejection.rule or "refused", name)
  return nil, code, text
end

local function record_start(kernel, session, envelope, bindings)
  local at = session.started_at
  if envelope.timestamp_unix_ms == 0 then envelope.timestamp_unix_ms = at end
  local frame = records.frame(envelope)
  local tail = records.marked_tail({ received_at_ms = at, state = lifecycle.OPEN, bindings = bindings })
  session.ids[envelope.message_id] = at
  session.ordinals = 1
  local event = kernel.events:lifecycle(session, lifecycle.EVENT.CREATED, at)
  return kernel.log:append_framed(session, frame, tail, event)
end

---Judges a SessionStart. Does not yield.
---@param existing table|nil the session that has this id already; an empty table when it cannot be read
---@param identity macp.auth.Identity
---@param envelope table sender already set
---@return macp.runtime.Verdict|nil, string? code, string? reason, macp.runtime.Details? details
function Starts:judge(existing, identity, envelope)
  local kernel = self.kernel
  local payload, rev, reason = check_request(self, envelope)
  if payload == nil then return nil, rev, reason end
  if rev:is_reserved_id(envelope.message_id) then
    return refuse("INVALID_ENVELOPE", "the message id is reserved for timers of the mode")
  end
  if existing then return repeated(kernel, existing, identity, envelope) end
  local policy, code
  policy, code, reason = kernel.policies:resolve(payload.policy_version, envelope.mode)
  if policy == nil then return refuse(code, reason) end
  local now = kernel.now_ms()
  local bindings = records.bindings(rev, policy, deadline_of(self, envelope, payload.ttl_ms, now),
    suspension_cap(payload))
  local session = session_record.new({
    id = envelope.session_id, mode = envelope.mode, initiator = identity.sender, payload = payload,
    bindings = bindings, policy = policy, started_at = now,
  })
  session.start_id = envelope.message_id
  local ok
  ok, code, reason = run_start_hook(rev, session, payload)
  if not ok then return nil, code, reason end
  if identity.max_open and (kernel.sessions.open_by[identity.sender] or 0) >= identity.max_open then
    rev:drop(session.id)
    return refuse("RATE_LIMITED", string.format("%d sessions are open already", identity.max_open))
  end
  session.rev = rev
  kernel.modes:pin(rev)
  local lsn, err = record_start(kernel, session, envelope, bindings)
  if lsn == nil then
    session.gone = true
    kernel_rules.release(kernel, session)
    return refuse("INTERNAL_ERROR", err.message)
  end
  kernel.sessions:add(session)
  kernel.metrics:transition("started", session)
  return kernel_rules.accepted(kernel, session, now, false)
end

return M
