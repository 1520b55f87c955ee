-- A connection to a runtime: the RPCs as functions that wait and return plain tables, or raise an error of sdk.errors.

local log = require("host.log")
local rpc = require("host.rpc")
local sys = require("host.sys")

local acks = require("macp.sdk.acks")
local builder = require("macp.sdk.envelope_builder")
local messages = require("macp.protocol.messages")
local retry = require("macp.sdk.retry")
local sdk_errors = require("macp.sdk.errors")
local session = require("macp.sdk.session")
local stream = require("macp.sdk.stream")
local validation = require("macp.sdk.validation")

local MAX_PAGES = 100000
local OPTIONS = validation.options({
  "target", "address", "secure", "allow_insecure", "auth", "root_certificates", "default_timeout_ms", "client_name",
  "client_version", "retry", "max_message_bytes", "client_certificate", "client_key", "server_name_override",
  "headers",
})
local SIGNAL_OPTIONS = validation.options({
  "signal_type", "data", "confidence", "correlation_session_id", "sender", "auth", "timeout_ms", "retry",
})
local PROGRESS_OPTIONS = validation.options({
  "progress_token", "progress", "total", "message", "target_message_id", "session_id", "mode", "sender", "auth",
  "timeout_ms", "retry",
})
local NEEDS_CREDENTIAL = { WatchSessions = true, WatchSignals = true }

local Client = {}
Client.__index = Client

local M = {}

local function tls_of(opts)
  local secure = opts.secure
  if secure == nil then secure = not opts.allow_insecure end
  if secure then
    return {
      roots_pem = opts.root_certificates, cert_pem = opts.client_certificate, key_pem = opts.client_key,
      server_name = opts.server_name_override,
    }
  end
  if not opts.allow_insecure then
    sdk_errors.raise("MacpSdkError", "a plaintext connection needs allow_insecure = true; use TLS in production")
  end
  log.debug("sdk.plaintext", { target = opts.target or opts.address })
  return nil
end

---A client. Construction does no I/O; the connection is made at the first call.
---@param opts { target: string, allow_insecure: boolean|nil, secure: boolean|nil, auth: table|nil,
---  root_certificates: string|nil, client_certificate: string|nil, client_key: string|nil,
---  server_name_override: string|nil, default_timeout_ms: integer|nil, retry: table|nil,
---  max_message_bytes: integer|nil, client_name: string|nil, client_version: string|nil,
---  headers: (fun(): table<string, string>|nil)|nil }
---  default_timeout_ms: of unary calls, 30000 unless given; streams and watches end by a timeout of their own only.
---  retry: a macp.retry_policy for every envelope sent. headers: what every call says besides the credential, e.g. where
---  it belongs in a trace
---@param find_mode fun(id: string): table|nil the revision of a mode, for client:session
function M.new(opts, find_mode)
  validation.known_options(opts, OPTIONS)
  local target = opts.target or opts.address
  validation.required("target", target)
  validation.timeout("default_timeout_ms", opts.default_timeout_ms)
  local channel, err = rpc.channel({ target = target, tls = tls_of(opts), max_message_bytes = opts.max_message_bytes })
  if not channel then sdk_errors.raise("MacpSdkError", err.message) end
  return setmetatable({
    channel = channel, find_mode = find_mode, auth = opts.auth, default_timeout_ms = opts.default_timeout_ms,
    retry = opts.retry and retry.policy(opts.retry) or nil,
    headers = opts.headers, name = opts.client_name or "macp-sdk-lua", version = opts.client_version or sys.version,
  }, Client)
end

local function credential(self, opts, is_required)
  local auth = opts and opts.auth or self.auth
  if is_required and not auth then
    sdk_errors.raise("MacpSdkError", "this call needs a credential: pass auth to the client or the call")
  end
  return auth
end

-- The metadata of a call.
local function metadata_of(self, auth)
  local metadata, more = auth and auth:metadata() or nil, self.headers and self.headers()
  if not more then return metadata end
  local all = {}
  for _, source in ipairs({ metadata or {}, more }) do
    for name, value in pairs(source) do all[name] = value end
  end
  return all
end

local function call_options(self, opts, is_required)
  local auth = credential(self, opts, is_required)
  validation.timeout("timeout_ms", opts and opts.timeout_ms)
  return {
    metadata = metadata_of(self, auth), timeout_ms = opts and opts.timeout_ms or self.default_timeout_ms,
  }
end

local function decode(type_name, bytes)
  local value, err = messages.codec(type_name):decode(bytes)
  if not value then
    sdk_errors.raise("MacpTransportError", type_name .. " does not decode: " .. err.message, { code = "INTERNAL" })
  end
  return value
end

-- One unary RPC by its short name; nil and the host's error when the call failed. (yields)
local function call(self, method, request, opts, is_required)
  local route = messages.rpc(method)
  local bytes, err = self.channel:unary(route.path, builder.encode(route.request, request),
    call_options(self, opts, is_required))
  if not bytes then return nil, err end
  return decode(route.response, bytes)
end

local function unary(self, method, request, opts, is_required)
  local reply, err = call(self, method, request, opts, is_required)
  if not reply then error(acks.transport_error(err), 0) end
  return reply
end

-- Retries, if wanted; a refusal comes back as the ack when that is wanted. (yields)
local function send_with_policy(policy, attempt, is_raised)
  local ok, result = pcall(retry.run, policy, attempt)
  if ok then return result end
  local refusal = result.cause or result
  if is_raised == false and sdk_errors.is(refusal, "MacpAckError") and refusal.ack then return refusal.ack end
  error(result, 0)
end

---Sends an envelope and returns the Ack. (yields) Raises MacpAckError unless raise_on_nack is false.
---@param envelope table see macp.sdk.envelope_builder
---@param opts { auth: table|nil, timeout_ms: integer|nil, raise_on_nack: boolean|nil, retry: table|nil }|nil
---@return table ack session_state is a short name: OPEN, RESOLVED, ...
function Client:send(envelope, opts)
  local auth = credential(self, opts, true)
  if envelope.sender ~= "" then auth:resolve_sender(envelope.sender) end
  local policy, is_raised = opts and opts.retry or self.retry, opts and opts.raise_on_nack
  local function attempt()
    local reply, err = call(self, "Send", { envelope = envelope }, opts, true)
    if not reply then error(acks.send_error(err, envelope), 0) end
    return acks.check(reply.ack, envelope, policy ~= nil or is_raised)
  end
  if policy then return send_with_policy(policy, attempt, is_raised) end
  return attempt()
end

---Agrees on the protocol version. Optional: nothing else needs it. (yields)
function Client:initialize(opts)
  local reply = unary(self, "Initialize", {
    supported_protocol_versions = { "1.0" },
    client_info = {
      name = self.name, title = self.name, version = self.version, description = "MACP agent SDK for Lua",
    },
  }, opts)
  if reply.selected_protocol_version ~= "1.0" then
    sdk_errors.raise("MacpSdkError", "the runtime speaks protocol " .. reply.selected_protocol_version,
      { code = "UNSUPPORTED_PROTOCOL_VERSION" })
  end
  self.server = reply
  return reply
end

---What the runtime says about itself, about modes, about one session. (yields)
function Client:get_manifest(agent_id, opts)
  return unary(self, "GetManifest", { agent_id = agent_id or "" }, opts)
end
function Client:list_modes(opts) return unary(self, "ListModes", {}, opts) end
function Client:list_ext_modes(opts) return unary(self, "ListExtModes", {}, opts) end
function Client:list_roots(opts) return unary(self, "ListRoots", {}, opts) end
function Client:get_session(session_id, opts)
  local reply = unary(self, "GetSession", { session_id = session_id }, opts, true)
  reply.metadata.state = acks.short_state(reply.metadata.state)
  return reply
end

local function ends_by_commitment(descriptor)
  for _, name in ipairs(descriptor.terminal_message_types or {}) do
    if name == "Commitment" then return true end
  end
  return false
end

---Registers a mode that is nothing but its descriptor. (yields)
---@param descriptor table macp.v1.ModeDescriptor
---@return { ok: boolean, error: string }
function Client:register_ext_mode(descriptor, opts)
  if not ends_by_commitment(descriptor) then
    sdk_errors.raise("MacpSessionError", "terminal_message_types must have Commitment: nothing else ends a session")
  end
  return unary(self, "RegisterExtMode", { mode_descriptor = descriptor }, opts, true)
end

---Takes a registered mode back. (yields)
---@return { ok: boolean, error: string }
function Client:unregister_ext_mode(mode, opts)
  return unary(self, "UnregisterExtMode", { mode = mode }, opts, true)
end

---Moves a mode to the standards track, under a new name if one is given. (yields)
---@return { ok: boolean, error: string, mode: string }
function Client:promote_mode(mode, promoted_mode_name, opts)
  return unary(self, "PromoteMode", { mode = mode, promoted_mode_name = promoted_mode_name or "" }, opts, true)
end

-- Cancel, suspend and resume share their shape.
local function control(self, method, session_id, opts)
  opts = opts or {}
  local reply = unary(self, method, { session_id = session_id, reason = opts.reason or "" }, opts, true)
  return acks.check(reply.ack, nil, opts.raise_on_nack)
end

---Cancels, suspends, resumes a session. (yields)
---@param opts { reason: string|nil, auth: table|nil, timeout_ms: integer|nil, raise_on_nack: boolean|nil }|nil
---@return table ack
function Client:cancel_session(session_id, opts) return control(self, "CancelSession", session_id, opts) end
function Client:suspend_session(session_id, opts) return control(self, "SuspendSession", session_id, opts) end
function Client:resume_session(session_id, opts) return control(self, "ResumeSession", session_id, opts) end

---All sessions, page by page. (yields)
function Client:list_sessions(opts)
  local sessions, token, seen = {}, "", {}
  for _ = 1, MAX_PAGES do
    local request = { page_size = opts and opts.page_size or 0, page_token = token }
    local page = unary(self, "ListSessions", request, opts, true)
    for _, found in ipairs(page.sessions) do
      found.state = acks.short_state(found.state)
      sessions[#sessions + 1] = found
    end
    token = page.next_page_token
    if token == "" then return sessions end
    if seen[token] then sdk_errors.raise("MacpSdkError", "the runtime repeats a page token") end
    seen[token] = true
  end
  sdk_errors.raise("MacpSdkError", "more than " .. MAX_PAGES .. " pages of sessions")
end

local function send_ambient(self, message_type, payload, opts)
  local auth = credential(self, opts, true)
  return self:send(builder.envelope({
    mode = opts.mode, message_type = message_type, session_id = opts.session_id, payload = payload,
    sender = auth:resolve_sender(opts.sender or ""),
  }), { auth = auth, timeout_ms = opts.timeout_ms, retry = opts.retry })
end

---Broadcasts a Signal, which belongs to no session's history. (yields)
---@param opts { signal_type: string, data: string|nil, confidence: number|nil, correlation_session_id: string|nil,
---  sender: string|nil, auth: table|nil, timeout_ms: integer|nil, retry: table|nil }
---@return table ack
function Client:send_signal(opts)
  validation.known_options(opts, SIGNAL_OPTIONS)
  validation.signal(opts)
  return send_ambient(self, "Signal", builder.signal(opts),
    { auth = opts.auth, sender = opts.sender, timeout_ms = opts.timeout_ms, retry = opts.retry })
end

---Reports Progress, ambient or (with session_id and mode) of a session. (yields)
---@param opts { progress_token: string, progress: number, total: number, message: string|nil, target_message_id: string|nil,
---  session_id: string|nil, mode: string|nil, sender: string|nil, auth: table|nil, timeout_ms: integer|nil, retry: table|nil }
---@return table ack
function Client:send_progress(opts)
  validation.known_options(opts, PROGRESS_OPTIONS)
  validation.progress(opts)
  return send_ambient(self, "Progress", builder.progress(opts), opts)
end

---Opens a StreamSession call. (yields on its operations)
---@param opts { auth: table|nil, timeout_ms: integer|nil }|nil the default timeout does not end streams
function Client:open_stream(opts)
  local route = messages.rpc("StreamSession")
  local auth = credential(self, opts, true)
  validation.timeout("timeout_ms", opts and opts.timeout_ms)
  local stream_call, err = self.channel:stream(route.path,
    { metadata = metadata_of(self, auth), timeout_ms = opts and opts.timeout_ms })
  if not stream_call then error(acks.transport_error(err), 0) end
  return stream.new(stream_call)
end

---Opens a watch by its RPC's name: a function that returns the next decoded response, nil at the end, and a function that
---ends the watch. (the first one yields)
---@param opts { auth: table|nil, timeout_ms: integer|nil }|nil the default timeout does not end watches
function Client:open_watch(method, opts)
  local route = messages.rpc(method)
  local options = call_options(self, opts, NEEDS_CREDENTIAL[method])
  options.timeout_ms = opts and opts.timeout_ms or 0 -- 0: none
  local watch_call, err = self.channel:server_stream(route.path, builder.encode(route.request, {}), options)
  if not watch_call then error(acks.transport_error(err), 0) end
  local function next_item()
    local bytes, failure = watch_call:read()
    if bytes then return decode(route.response, bytes) end
    if failure then error(acks.transport_error(failure), 0) end
    return nil
  end
  return next_item, function() watch_call:cancel() end
end

---A helper for one session of a mode; see macp.sdk.session for its options and methods. (yields at first use)
function Client:session(mode_id, opts)
  local rev = self.find_mode(mode_id)
  if not rev then
    sdk_errors.raise("MacpSessionError", "no folder for mode '" .. tostring(mode_id)
      .. "': `macp run --modes DIR SCRIPT` names the folder it is in")
  end
  return session.new(self, rev, opts)
end

---Closes the connection.
function Client:close() self.channel:close() end

return M
