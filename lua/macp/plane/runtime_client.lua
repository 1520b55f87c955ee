-- The runtime's calls as Lua functions: deadline, credentials, circuit breaker and typed errors in one place. The
-- control plane observes. What it may ask a runtime to change is listed here, and sending envelopes is not in the list.

local rpc = require("host.rpc")
local sys = require("host.sys")

local breaker = require("macp.core.breaker")
local errors = require("macp.core.errors")
local json = require("macp.core.json")
local messages = require("macp.protocol.messages")
local tables = require("macp.core.tables")
local trace_context = require("macp.telemetry.trace_context")
local tracer_module = require("macp.telemetry.tracer")

local GRPC = errors.grpc
local DETAILS = "macp-error-details-bin" -- trailer of runtimes that refuse by status and not in the acknowledgement
local KEEPALIVE_MS = 30000
-- Runtimes allow about 128 streams per connection and the library queues further ones silently.
local STREAMS_PER_CHANNEL = 100
local LIST_PAGE, LIST_MAX_PAGES = 500, 20000

-- All that this client calls: there is deliberately no way to Send, and a stream of it carries one subscription.
local CALLS = tables.set({
  "Initialize", "GetManifest", "ListModes", "ListExtModes", "ListRoots", "GetSession", "ListSessions", "GetPolicy",
  "ListPolicies", "RegisterPolicy", "UnregisterPolicy", "CancelSession", "SuspendSession", "ResumeSession",
})
local WATCHES = tables.set({ "WatchSessions", "WatchSignals" })

-- Failures that say something about the runtime's health; others are answers.
local COUNTED = {
  [GRPC.UNAVAILABLE] = true, [GRPC.DEADLINE_EXCEEDED] = true, [GRPC.INTERNAL] = true, [GRPC.UNKNOWN] = true,
  [GRPC.RESOURCE_EXHAUSTED] = true,
}

---@class macp.plane.RuntimeClient
local Client = {}
Client.__index = Client

local M = {
  -- HTTP statuses of what a call to the runtime may fail with, beside those that every route has.
  REFUSALS = { 401, 403, 404, 409, 429, 501, 503, 504 },
}

---@param opts { address: string, tls: boolean, kind: string, timeout_ms: integer, credentials: function,
---  breaker_threshold: integer, breaker_reset_ms: integer, metrics: table|nil, version: string,
---  tracer: macp.Tracer|nil }
---@return macp.plane.RuntimeClient|nil
---@return table|nil err
function M.new(opts)
  local metrics = opts.metrics
  local target = { target = opts.address, tls = opts.tls or nil, keepalive_ms = KEEPALIVE_MS, own_connection = true }
  local channel, err = rpc.channel(target)
  if channel == nil then return nil, err end
  return setmetatable({
    address = opts.address, kind = opts.kind, timeout_ms = opts.timeout_ms, credentials = opts.credentials,
    version = opts.version, metrics = metrics, channel = channel, target = target, carriers = {},
    tracer = opts.tracer or tracer_module.new(),
    breaker = breaker.new({
      threshold = opts.breaker_threshold, reset_ms = opts.breaker_reset_ms,
      counts = function(failure) return COUNTED[failure.status] == true end,
      on_change = function(state) if metrics then metrics.breaker_state(state) end end,
      on_result = metrics and metrics.breaker_result,
    }),
  }, Client)
end

-- The reasons that a denial carries as JSON.
local function reasons_of(details)
  local value = details and details ~= "" and json.decode(details)
  return type(value) == "table" and type(value.reasons) == "table" and value.reasons or nil
end

-- The typed error of a failed call; transport trouble without a status counts as unavailable.
local function typed(err)
  if errors.is_typed(err) or err.code == "CANCELLED" then return err end
  local made = errors.from_grpc(err.status or GRPC.UNAVAILABLE, err.message)
  made.status = err.status or GRPC.UNAVAILABLE
  local details = err.trailing and err.trailing[DETAILS]
  if type(details) == "table" then details = details[1] end -- a repeated trailer
  made.metadata.reasons = reasons_of(details)
  return made
end

-- A reply that is not what the protocol says: no other try makes it readable.
local function unreadable(method, why)
  local err = errors.new("INTERNAL_ERROR", nil, string.format("the runtime's answer to %s is not readable: %s", method,
    tostring(why.message or why)))
  err.status = GRPC.INTERNAL
  return err
end

-- The span of a call, and the metadata that hands its context (or the task's) to the runtime. (may yield for the first
-- token)
local function trace_call(self, rpc_info, method)
  local current = tracer_module.current()
  local span = self.tracer:child(rpc_info.path:sub(2), current, { ["rpc.system"] = "grpc",
    ["rpc.service"] = messages.SERVICE, ["rpc.method"] = method, ["server.address"] = self.address },
    tracer_module.CLIENT)
  return span, trace_context.inject(self.credentials(), span or current)
end

local function end_span(span, err)
  if span == nil then return end
  span.attributes["rpc.grpc.status_code"] = err and (err.status or GRPC.UNAVAILABLE) or 0
  if err then span:set_status(tracer_module.ERROR, err.message) end
  span:finish()
end

-- One unary call. (yields)
local function call(self, method, request, opts)
  local rpc_info = messages.rpc(method)
  local bytes, encode_err = messages.codec(rpc_info.request):encode(request)
  if bytes == nil then return nil, errors.wrap(encode_err, method) end
  local span, metadata = trace_call(self, rpc_info, method)
  local began = sys.mono_ms()
  local reply, err = self.channel:unary(rpc_info.path, bytes, {
    metadata = metadata, timeout_ms = opts and opts.timeout_ms or self.timeout_ms,
  })
  if self.metrics then
    self.metrics.grpc_duration:observe(method, reply and "ok" or "error", (sys.mono_ms() - began) / 1000)
  end
  end_span(span, reply == nil and err or nil)
  if reply == nil then return nil, err end
  local decoded, decode_err = messages.codec(rpc_info.response):decode(reply)
  if decoded == nil then return nil, unreadable(method, decode_err) end
  return decoded
end

---One unary call through the circuit breaker. (yields) Raises for a method that an observer does not call.
---@param method string
---@param opts { timeout_ms: integer|nil }|nil
---@return table|nil reply
---@return macp.Error|nil err with `status` (gRPC) when the runtime answered
function Client:call(method, request, opts)
  if not CALLS[method] then error("the control plane does not call " .. tostring(method), 2) end
  local reply, err = self.breaker:call(call, self, method, request, opts)
  if reply == nil then return nil, typed(err) end
  return reply
end

local CAPABILITIES = {
  sessions = { stream = true }, cancellation = { cancel_session = true }, progress = { progress = true },
  manifest = { get_manifest = true }, mode_registry = { list_modes = true, list_changed = false },
  roots = { list_roots = true, list_changed = false },
  policy_registry = { register_policy = true, list_policies = true, list_changed = false },
}

-- Capabilities as JSON names them.
local function shown_capabilities(told)
  local bytes = told and messages.codec("macp.v1.Capabilities"):encode(told)
  return bytes and messages.codec("macp.v1.Capabilities", { names = "json", bytes = "base64" }):decode(bytes)
end

---What the runtime is; `capabilities` with names as in JSON. (yields)
function Client:initialize()
  local hello, err = self:call("Initialize", {
    supported_protocol_versions = { "1.0" }, capabilities = CAPABILITIES,
    client_info = { name = "macp-control-plane", title = "macp-control-plane", version = self.version },
  })
  if hello == nil then return nil, err end
  hello.capabilities = shown_capabilities(hello.capabilities)
  return hello
end

---SessionMetadata of a session. (yields)
---@return table|nil metadata
---@return macp.Error|nil err
function Client:get_session(session_id)
  local reply, err = self:call("GetSession", { session_id = session_id })
  if reply == nil then return nil, err end
  local metadata = reply.metadata or {}
  if metadata.session_id ~= session_id then
    return nil, errors.new("INTERNAL_ERROR", nil, string.format("the runtime was asked for session %s and told of %s",
      session_id, metadata.session_id and "session " .. metadata.session_id or "none"))
  end
  return metadata
end

local ACK_ERRORS = { FORBIDDEN = "FORBIDDEN", POLICY_DENIED = "POLICY_DENIED", SESSION_NOT_FOUND = "NOT_FOUND",
  SESSION_NOT_OPEN = "CONFLICT", UNAUTHENTICATED = "UNAUTHENTICATED", RATE_LIMITED = "RATE_LIMITED" }

-- Asks the runtime for a change of a session; a refusal in the acknowledgement becomes a typed error. (yields)
local function control(self, method, session_id, reason)
  local reply, err = self:call(method, { session_id = session_id, reason = reason })
  if reply == nil then return nil, err end
  local ack = reply.ack or {}
  if ack.ok then return ack end
  local refusal = ack.error or {}
  return nil, errors.new(ACK_ERRORS[refusal.code] or "INTERNAL_ERROR",
    { runtimeCode = refusal.code, reasons = reasons_of(refusal.details) }, refusal.message)
end

---Asks the runtime to cancel a session. (yields)
---@return table|nil ack
---@return macp.Error|nil err
function Client:cancel_session(session_id, reason) return control(self, "CancelSession", session_id, reason) end

---Asks the runtime to suspend a session. (yields)
---@return table|nil ack
---@return macp.Error|nil err
function Client:suspend_session(session_id, reason) return control(self, "SuspendSession", session_id, reason) end

---Asks the runtime to resume a suspended session. (yields)
---@return table|nil ack
---@return macp.Error|nil err
function Client:resume_session(session_id, reason) return control(self, "ResumeSession", session_id, reason) end

---(yields)
function Client:get_manifest(opts)
  local reply, err = self:call("GetManifest", { agent_id = "" }, opts)
  if reply == nil then return nil, err end
  return reply.manifest or {}
end

---Descriptors of all modes: the standard ones, then extensions. (yields)
function Client:list_modes()
  local standard, err = self:call("ListModes", {})
  if standard == nil then return nil, err end
  local modes = {}
  for _, mode in ipairs(standard.modes or {}) do modes[#modes + 1] = mode end
  local extensions, ext_err = self:call("ListExtModes", {})
  if extensions == nil then
    if ext_err.status == GRPC.UNIMPLEMENTED then return modes end
    return nil, ext_err
  end
  for _, mode in ipairs(extensions.modes or {}) do modes[#modes + 1] = mode end
  return modes
end

---All sessions the runtime knows; one call per page, fn(metadata) for each. (yields)
---@param fn fun(metadata: table): boolean|nil, table|nil may yield; nil, err ends it
---@return true|nil
---@return table|nil err of the call, of fn, or INTERNAL_ERROR when the list does not come to an end
function Client:each_session(fn)
  local token, pages = "", 0
  repeat
    local page, err = self:call("ListSessions", { page_size = LIST_PAGE, page_token = token })
    if page == nil then return nil, err end
    for _, metadata in ipairs(page.sessions or {}) do
      local ok, fn_err = fn(metadata)
      if ok == nil then return nil, fn_err end
    end
    local next_token = page.next_page_token or ""
    pages = pages + 1
    if next_token ~= "" and (next_token == token or pages >= LIST_MAX_PAGES) then
      return nil, errors.new("INTERNAL_ERROR", nil, string.format("ListSessions does not end: page %d %s", pages,
        next_token == token and "names itself as the next one" or "is not the last one"))
    end
    token = next_token
  until token == ""
  return true
end

---The descriptor of a policy with its rules decoded. (yields)
---@return { policy_id: string, mode: string, rules: table, schema_version: integer }|nil
---@return macp.Error|nil err
function Client:get_policy(policy_id)
  local reply, err = self:call("GetPolicy", { policy_id = policy_id })
  if reply == nil then return nil, err end
  local found = reply.policy_descriptor or reply.policy or reply.descriptor or {}
  local rules = json.decode(found.rules ~= "" and found.rules or "{}")
  return { policy_id = policy_id, mode = found.mode or "*", rules = type(rules) == "table" and rules or {},
    schema_version = found.schema_version or 1, description = found.description ~= "" and found.description or nil }
end

-- A channel with room for one more stream; observations do not share the connection of the calls.
local function take_carrier(self)
  for _, carrier in ipairs(self.carriers) do
    if carrier.streams < STREAMS_PER_CHANNEL then
      carrier.streams = carrier.streams + 1
      return carrier
    end
  end
  local channel, err = rpc.channel(self.target)
  if channel == nil then return nil, err end
  local carrier = { channel = channel, streams = 1 }
  self.carriers[#self.carriers + 1] = carrier
  return carrier
end

---The stream of an observation and its place on a connection.
---@class macp.plane.Subscription
local Subscription = {}
Subscription.__index = Subscription

---What has arrived, at least one message. (yields)
function Subscription:read_many(max) return self.stream:read_many(max) end

---Initial metadata: the runtime has taken the call. (yields)
function Subscription:headers() return self.stream:headers() end

---Ends it; may be called again.
function Subscription:cancel()
  if self.ended then return end
  self.ended = true
  self.carrier.streams = self.carrier.streams - 1
  self.stream:cancel()
end

---Opens the observation of a session: everything after its first `after_sequence` accepted envelopes. The write side
---stays open: closing it would end the stream. (yields)
---@return macp.plane.Subscription|nil
---@return macp.Error|nil err
function Client:subscribe(session_id, after_sequence)
  local carrier, carrier_err = take_carrier(self)
  if carrier == nil then return nil, typed(carrier_err) end
  local stream, err = carrier.channel:stream(messages.rpc("StreamSession").path, {
    metadata = trace_context.inject(self.credentials(), tracer_module.current()) })
  if stream == nil then
    carrier.streams = carrier.streams - 1
    return nil, typed(err)
  end
  local subscription = setmetatable({ stream = stream, carrier = carrier, ended = false }, Subscription)
  local frame = messages.codec("macp.v1.StreamSessionRequest"):encode({
    subscribe_session_id = session_id, after_sequence = after_sequence,
  })
  local ok, write_err = stream:write(frame)
  if not ok then
    subscription:cancel()
    return nil, typed(write_err)
  end
  return subscription
end

---Opens a server stream without arguments (WatchSessions, WatchSignals). (yields)
function Client:watch(method)
  if not WATCHES[method] then error("the control plane does not watch " .. tostring(method), 2) end
  local info = messages.rpc(method)
  local request = messages.codec(info.request):encode({})
  local stream, err = self.channel:server_stream(info.path, request, { metadata = self.credentials() })
  if stream == nil then return nil, typed(err) end
  return stream
end

function Client:close()
  for _, carrier in ipairs(self.carriers) do carrier.channel:close() end
  self.channel:close()
end

return M
