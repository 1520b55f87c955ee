-- A session as an agent sees it, for any mode: its messages become methods, its rules a local copy of the state.
-- Everything specific comes from the mode's folder; nothing here knows a mode by name.
--
-- The local copy holds what this object saw: the messages it sent and had accepted, or, from `follow` on, the accepted
-- history as the runtime tells it, from the first message. Only the second is complete when others send, too.

local suggest = require("macp.core.suggest")

local builder = require("macp.sdk.envelope_builder")
local messages = require("macp.protocol.messages")
local replica = require("macp.sdk.replica")
local sdk_errors = require("macp.sdk.errors")
local validation = require("macp.sdk.validation")

local OPTIONS = validation.options({
  "session_id", "mode_version", "configuration_version", "policy_version", "policy", "auth",
})
local SEND_OPTIONS = validation.options({ "auth", "sender", "message_id", "timeout_ms", "raise_on_nack", "retry" })
local CONTROL_OPTIONS = validation.options({ "auth", "reason", "timeout_ms", "raise_on_nack" })
local FOLLOW_OPTIONS = validation.options({ "auth", "after_sequence", "timeout_ms" })
local START_FIELDS = validation.options({
  "intent", "participants", "ttl_ms", "max_suspend_ms", "context_id", "extensions", "roots",
})
local COMMIT_FIELDS = validation.options({
  "action", "authority_scope", "reason", "commitment_id", "outcome_positive", "supersedes",
})

local Session = {}

local M = {}

-- "TaskComplete" -> "task_complete"
local function method_name(message_type)
  return (message_type:gsub("(%l)(%u)", "%1_%2"):gsub("(%u)(%u%l)", "%1_%2"):lower())
end

-- Methods of the helper itself win over a message type of the same name, which session:send still reaches.
local function index(session, key)
  local own = Session[key]
  if own ~= nil then return own end
  local message_type = rawget(session, "method_types")[key]
  if message_type == nil then return nil end
  local function send(self, payload, opts) return self:send(message_type, payload, opts) end
  rawset(session, key, send)
  return send
end

local META = { __index = index }

---A helper for one session of a mode. Besides the methods below it has one for each message type of the mode, named
---like the type: session:task_complete(fields, opts) sends TaskComplete.
---@param client table macp.sdk.client
---@param rev table the mode's revision (macp.modes.registry)
---@param opts { session_id: string|nil, mode_version: string|nil, configuration_version: string|nil, policy_version: string|nil, policy: table|nil, auth: table|nil }|nil
---  policy: { rules =, schema_version = } of the policy the session is bound to, for the local copy only (see
---  macp.sdk.replica)
function M.new(client, rev, opts)
  opts = opts or {}
  validation.known_options(opts, OPTIONS)
  if opts.session_id then validation.session_id(opts.session_id) end
  local method_types = {}
  for _, message_type in ipairs(rev.descriptor.message_types) do
    method_types[method_name(message_type)] = message_type
  end
  local session_id = opts.session_id or builder.new_id()
  return setmetatable({
    client = client, rev = rev, mode = rev.id, auth = opts.auth, session_id = session_id,
    mode_version = opts.mode_version or rev.version,
    configuration_version = opts.configuration_version or builder.DEFAULT_CONFIGURATION_VERSION,
    policy_version = opts.policy_version or builder.DEFAULT_POLICY_VERSION,
    method_types = method_types, replica = replica.new(rev, session_id, opts.policy), followers = 0,
  }, META)
end

local function credential(self, opts)
  local auth = opts and opts.auth or self.auth or self.client.auth
  if not auth then
    sdk_errors.raise("MacpSdkError", "this call needs a credential: pass auth to the session or the call")
  end
  return auth
end

-- Sends one envelope of this session; what was accepted also advances the local copy, unless a follower does that, who
-- knows the order. (yields)
local function deliver(self, message_type, payload, opts)
  opts = opts or {}
  validation.known_options(opts, SEND_OPTIONS)
  local auth = credential(self, opts)
  local envelope = builder.envelope({
    mode = self.mode, message_type = message_type, session_id = self.session_id, payload = payload,
    sender = auth:resolve_sender(opts.sender or ""), message_id = opts.message_id,
  })
  local ack = self.client:send(envelope, {
    auth = auth, timeout_ms = opts.timeout_ms, raise_on_nack = opts.raise_on_nack, retry = opts.retry,
  })
  -- A bearer token does not tell whose it is: then only the runtime's echo names the sender.
  if ack.ok and self.followers == 0 and envelope.sender ~= "" then self:observe(envelope) end
  return ack
end

---Starts the session. (yields)
---@param start { intent: string, participants: string[], ttl_ms: integer, max_suspend_ms: integer|nil, context_id: string|nil, extensions: table|nil, roots: table|nil }
---@param opts { auth: table|nil, sender: string|nil, message_id: string|nil, timeout_ms: integer|nil, raise_on_nack: boolean|nil, retry: table|nil }|nil
---@return table ack
function Session:start(start, opts)
  validation.known_options(start, START_FIELDS)
  local full = {}
  for key, value in pairs(start) do full[key] = value end
  full.mode_version, full.configuration_version = self.mode_version, self.configuration_version
  full.policy_version = self.policy_version
  validation.session_start(full)
  return deliver(self, "SessionStart", builder.session_start(full), opts)
end

local function encode_payload(self, message_type, payload)
  if type(payload) == "string" then return payload end
  local codec = self.rev:codec(message_type)
  if not codec then
    sdk_errors.raise("MacpSessionError", string.format("%s has no message %s%s", self.mode, message_type,
      suggest.hint(message_type, self.rev.descriptor.message_types)))
  end
  local bytes, err = codec:encode(payload or {})
  if not bytes then sdk_errors.raise("MacpSessionError", message_type .. ": " .. err.message) end
  return bytes
end

---Sends a message of the mode by its type. (yields) Raises MacpSessionError for a field that does not fit, MacpAckError
---when the runtime refuses.
---@param payload table|string fields by name, or encoded bytes
---@param opts table|nil as for start
---@return table ack
function Session:send(message_type, payload, opts)
  if type(payload) == "table" then
    if message_type == "SessionStart" then return self:start(payload, opts) end
    if message_type == "Commitment" then return self:commit(payload, opts) end
  end
  return deliver(self, message_type, encode_payload(self, message_type, payload), opts)
end

---Commits the outcome, echoing the versions the session is bound to. (yields)
---@param commitment { action: string, authority_scope: string, reason: string, outcome_positive: boolean|nil, commitment_id: string|nil, supersedes: table|nil }
---@param opts table|nil as for start
---@return table ack
function Session:commit(commitment, opts)
  validation.known_options(commitment, COMMIT_FIELDS)
  for _, name in ipairs({ "action", "authority_scope", "reason" }) do validation.required(name, commitment[name]) end
  local full = {
    mode_version = self.mode_version, configuration_version = self.configuration_version,
    policy_version = self.policy_version,
  }
  for key, value in pairs(commitment) do full[key] = value end
  return deliver(self, "Commitment", builder.commitment(full), opts)
end

---Metadata of the session at the runtime. (yields)
function Session:metadata(opts)
  return self.client:get_session(self.session_id, { auth = credential(self, opts) }).metadata
end

local function control(method)
  return function(self, opts)
    validation.known_options(opts, CONTROL_OPTIONS)
    opts = opts or {}
    return self.client[method](self.client, self.session_id, {
      auth = credential(self, opts), reason = opts.reason, timeout_ms = opts.timeout_ms,
      raise_on_nack = opts.raise_on_nack,
    })
  end
end

---Cancels the session: fun(self, { reason, auth, timeout_ms, raise_on_nack }|nil): ack. (yields)
Session.cancel = control("cancel_session")
---Stops the session's clock; messages are refused until it is resumed. (yields)
Session.suspend = control("suspend_session")
---Lets the session go on. (yields)
Session.resume = control("resume_session")

---A stream that is subscribed to this session's history after an ordinal, then live. (yields)
---@param opts { after_sequence: integer|nil, auth: table|nil, timeout_ms: integer|nil }|nil
function Session:open_stream(opts)
  validation.known_options(opts, FOLLOW_OPTIONS)
  local stream = self.client:open_stream({ auth = credential(self, opts), timeout_ms = opts and opts.timeout_ms })
  stream:subscribe(self.session_id, opts and opts.after_sequence or 0)
  return stream
end

-- A session is bound to the versions of its start, whoever started it.
local function bind(self, start)
  for _, name in ipairs({ "mode_version", "configuration_version", "policy_version" }) do
    if start[name] ~= "" then self[name] = start[name] end
  end
  self.participants, self.initiator, self.intent = start.participants, self.replica.initiator, start.intent
end

---Feeds an accepted envelope into the local copy; the same message twice changes nothing, nor does another session's.
function Session:observe(envelope)
  if envelope.session_id ~= self.session_id or envelope.mode ~= self.mode then return end
  local is_new = self.replica:observe(envelope)
  if is_new and envelope.message_type == "SessionStart" and self.replica.start then bind(self, self.replica.start) end
  self.commitment = self.replica.commitment
end

---Payload of an observed envelope as a table; nil when its type is unknown or the bytes do not fit.
function Session:decode(envelope)
  local core = messages.core_payload(envelope.message_type)
  local codec = core and messages.codec(core) or self.rev:codec(envelope.message_type)
  return codec and codec:decode(envelope.payload) or nil
end

---The session as its mode shows it, from the local copy: what the control plane serves under projection.mode.view.
---nil before the first message; the second result says why the copy is not exact, if it is not.
---@return table|nil view
---@return string|nil problem
function Session:view() return self.replica:view(), self.replica.problem end

---Envelopes the local copy was made of, in order.
function Session:history() return self.replica.transcript end

local function read_all(self, stream, fn)
  for envelope in stream:envelopes() do
    self:observe(envelope)
    local goes_on = fn(envelope, self:decode(envelope))
    if goes_on == false or envelope.message_type == "Commitment" then return end
  end
end

---Follows the session on a stream of its own: calls fn(envelope, payload) for each accepted envelope, oldest first, until
---the session is committed, fn returns false, or the stream ends. (yields) While fn runs, view() is the state right after
---its envelope. Raises MacpSessionError when the runtime refuses the subscription, MacpTimeoutError after timeout_ms: a
---session that is cancelled or expires says nothing on its stream.
---@param fn fun(envelope: table, payload: table|nil): boolean|nil
---@param opts { after_sequence: integer|nil, auth: table|nil, timeout_ms: integer|nil }|nil
function Session:follow(fn, opts)
  local stream = self:open_stream(opts)
  stream:on_inline_error(function(failure)
    sdk_errors.raise("MacpSessionError", failure.code .. ": " .. failure.message,
      { code = failure.code, failure = failure })
  end)
  local is_complete = ((opts and opts.after_sequence) or 0) == 0
  if is_complete and self.followers == 0 then self.replica:reset() end -- told again, in the right order
  self.followers = self.followers + 1
  local ok, err = pcall(read_all, self, stream, fn)
  self.followers = self.followers - 1
  stream:cancel()
  if not ok then error(err, 0) end
end

---Forgets the local copy.
function Session:close() self.replica:reset() end

return M
