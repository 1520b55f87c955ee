-- From an authenticated envelope to a verdict: what Send and StreamSession have in common around the kernel.

local ambient = require("macp.runtime.ambient")
local envelope_rules = require("macp.protocol.envelope")
local kernel_rules = require("macp.runtime.kernel")
local lifecycle = require("macp.protocol.lifecycle")

local refuse = kernel_rules.refuse

local UNREADABLE = {} -- the id is taken, whatever it was

local Acceptor = {}
Acceptor.__index = Acceptor

local M = {}

---@param opts { kernel: table, starts: table, sessions: table, watches: table, start_limiter: table,
---  message_limiter: table, metrics: table, audit: table, ingress: macp.runtime.Ingress|nil, max_payload_bytes: integer,
---  now_ms: fun(): integer }
function M.new(opts)
  return setmetatable({
    kernel = opts.kernel,
    starts = opts.starts,
    sessions = opts.sessions,
    watches = opts.watches,
    start_limiter = opts.start_limiter,
    message_limiter = opts.message_limiter,
    metrics = opts.metrics,
    audit = opts.audit,
    ingress = opts.ingress,
    max_payload_bytes = opts.max_payload_bytes,
    now_ms = opts.now_ms,
    ambient_verdict = { lsn = 0, state = lifecycle.OPEN, accepted_at = 0, duplicate = false },
  }, Acceptor)
end

---Shape of an envelope. @return true|nil, string? code, string? text
function Acceptor:check_shape(envelope)
  local ok, code, reason = envelope_rules.check_shape(envelope, self.max_payload_bytes)
  if ok then return true end
  return refuse(code, reason)
end

---A sender the client filled in must be the caller; then the runtime's own value takes its place.
function M.claim_sender(identity, envelope)
  local sender = envelope.sender
  if sender ~= "" and sender ~= identity.sender then
    return refuse("UNAUTHENTICATED", "sender is not the authenticated identity")
  end
  envelope.sender = identity.sender
  return true
end

-- What the identity is allowed to do, and how often.
local function admit(self, identity, envelope, is_start)
  if is_start and not identity.can_start then return refuse("FORBIDDEN", "the identity may not start sessions") end
  local allowed = identity.allowed_modes
  if allowed and not allowed[envelope.mode] then
    local is_ambient = envelope_rules.is_ambient(envelope.message_type) and envelope.session_id == ""
    if not is_ambient then return refuse("FORBIDDEN", "the identity may not use this mode") end
  end
  local limiter = is_start and self.start_limiter or self.message_limiter
  if not limiter:take(identity.sender) then
    self.metrics.rate_limited:inc(is_start and "start" or "message", 1)
    return refuse("RATE_LIMITED", string.format("more than %d per minute", limiter.limit))
  end
  return true
end

local function broadcast(self, identity, envelope, session)
  local now = self.now_ms()
  local frame, code, text = ambient.judge(session, identity, envelope, now)
  if frame == nil then return nil, code, text end
  self.watches:signal(frame)
  self.ambient_verdict.accepted_at = now
  return self.ambient_verdict
end

-- A session that exists but cannot be read back right now.
local function unreadable(err) return refuse("INTERNAL_ERROR", err.message) end

-- The session an envelope names, nil when there is none. (yields)
local function session_of(self, envelope, is_start)
  if envelope.session_id == "" then return nil end
  local session, err = self.sessions:find(envelope.session_id)
  if session or not err then return session end
  if is_start then return UNREADABLE end
  return nil, err
end

-- The site's own gate. It may wait: afterwards the session must be looked for again. (yields)
local function pass_ingress(self, identity, envelope, session, is_start)
  if envelope_rules.is_ambient(envelope.message_type) then return true end
  if session == nil and not is_start then return true end -- there is nothing to send into
  return self.ingress:admit(identity, envelope, session)
end

-- (yields)
local function judge(self, identity, envelope, frame)
  local is_start = envelope.message_type == "SessionStart"
  local ok, code, text = admit(self, identity, envelope, is_start)
  if not ok then return nil, code, text end
  local session, err = session_of(self, envelope, is_start)
  if self.ingress and not err then
    local details
    ok, code, text, details = pass_ingress(self, identity, envelope, session, is_start)
    if not ok then return nil, code, text, details end
    session, err = session_of(self, envelope, is_start)
  end
  if err then return unreadable(err) end
  if is_start then return self.starts:judge(session, identity, envelope) end
  if envelope_rules.is_ambient(envelope.message_type) then return broadcast(self, identity, envelope, session) end
  if session == nil then return refuse("SESSION_NOT_FOUND", "no session has this id") end
  if session.ids == nil then -- finished: nothing can change it meanwhile
    ok, err = self.sessions:load_ids(session)
    if not ok then return unreadable(err) end
  end
  return self.kernel:message(session, identity, envelope, frame)
end

---Judges an envelope whose shape and sender are checked. Yields only when the session must be read from the journal.
---@param frame string|nil the envelope's bytes for subscribers, when they are at hand
---@return macp.runtime.Verdict|nil, string? code, string? text, macp.runtime.Details? details
function Acceptor:accept(identity, envelope, frame)
  local verdict, code, text, details = judge(self, identity, envelope, frame)
  if verdict then self.audit:accepted(identity, envelope, verdict)
  else self.audit:refused(identity, envelope, code, text, details) end
  return verdict, code, text, details
end

return M
