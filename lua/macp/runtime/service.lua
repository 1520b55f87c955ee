-- The gRPC face of the runtime: which handler serves which method, how calls are dispatched, and the RPCs that change
-- sessions. Reads are in reads.lua, what is asked before any session in discovery.lua.

local rpc = require("host.rpc")
local sys = require("host.sys")

local host_log = require("host.log")

local acceptor_rules = require("macp.runtime.acceptor")
local codes = require("macp.protocol.codes")
local control = require("macp.runtime.control")
local discovery = require("macp.runtime.discovery")
local messages = require("macp.protocol.messages")
local mode_rpcs = require("macp.runtime.mode_rpcs")
local policy_calls = require("macp.runtime.policies.calls")
local reads = require("macp.runtime.reads")

local STATUS = rpc.status

local Service = {}
Service.__index = Service

local M = {}

local function fail(call, status, message) call:fail(STATUS[status], message) end

local IDENTITY_STATUS = { UNAUTHENTICATED = "UNAUTHENTICATED", RATE_LIMITED = "RESOURCE_EXHAUSTED" }

---The caller's identity; without one the call is answered.
local function authenticated(self, call)
  local identity, reason, code = self.identities:identify(call)
  if identity == nil then fail(call, IDENTITY_STATUS[code], codes.text(code, reason)) end
  return identity
end

local function undecodable(call, err) fail(call, "INTERNAL", "the request does not decode: " .. err.message) end

local function decoded(call, codec)
  local request, err = call:decode(codec)
  if request == nil then undecodable(call, err) end
  return request
end

-- Acks are encoded once per message: one table for all positive ones.
local POSITIVE = { ack = { ok = true } }

local function reply_positive(call, codec, envelope, state, accepted_at, duplicate)
  local ack = POSITIVE.ack
  ack.message_id, ack.session_id = envelope.message_id, envelope.session_id
  ack.session_state, ack.accepted_at_unix_ms, ack.duplicate = state, accepted_at, duplicate
  call:reply_with(codec, POSITIVE)
end

local function negative(message_id, session_id, now, code, text, details)
  return {
    ack = {
      ok = false, message_id = message_id, session_id = session_id, accepted_at_unix_ms = now,
      error = {
        code = code, message = text, session_id = session_id, message_id = message_id,
        details = codes.details(details),
      },
    },
  }
end

local function reply_negative(self, call, envelope, code, text, details, is_anonymous)
  self.metrics:rejected(envelope, is_anonymous)
  if host_log.enabled("debug") then
    host_log.debug("message.refused", { session_id = envelope.session_id, code = code, reason = text })
  end
  local answer = negative(envelope.message_id, envelope.session_id, self.now_ms(), code, text, details)
  call:reply_with(self.send_response, answer)
end

-- The record that an answer waited for was not stored; true when the call is answered.
local function answered_lost(self, call, session_id)
  local reason = self.ownership:refusal(session_id)
  if reason then fail(call, "UNAVAILABLE", reason) end
  return reason ~= nil
end

-- Send, from the envelope to a verdict; or nil, code, text, details and whether the caller is unknown. frame: the
-- request's bytes when they are the envelope's canonical ones, which is what subscribers get. (yields)
local function judge(self, call, envelope, frame)
  local identity, reason, refusal = self.identities:identify(call)
  if identity == nil then return nil, refusal, codes.text(refusal, reason), nil, true end
  local acceptor = self.acceptor
  local ok, code, text = acceptor:check_shape(envelope)
  if not ok then return nil, code, text end
  if envelope.sender == "" then frame = nil end
  ok, code, text = acceptor_rules.claim_sender(identity, envelope)
  if not ok then return nil, code, text end
  return acceptor:accept(identity, envelope, frame)
end

local function send(self, call)
  local began = sys.mono_ms()
  -- A SendRequest and the frame of its envelope are the same bytes: both have the envelope in field 1.
  local request, exact = call:decode_exact(self.send_request)
  if request == nil then return undecodable(call, exact) end
  local envelope = request.envelope
  if envelope == nil then return fail(call, "INVALID_ARGUMENT", "envelope is absent") end
  local verdict, code, text, details, is_anonymous = self.judge(self, call, envelope, exact)
  if verdict == nil then return reply_negative(self, call, envelope, code, text, details, is_anonymous) end
  local state, accepted_at, duplicate = verdict.state, verdict.accepted_at, verdict.duplicate
  local ok, err = self.log:wait(verdict.lsn)
  if ok then
    self.durable_ms:observe(sys.mono_ms() - began)
    return reply_positive(call, self.send_response, envelope, state, accepted_at, duplicate)
  end
  if err.code ~= "CANCELLED" and not answered_lost(self, call, envelope.session_id) then
    reply_negative(self, call, envelope, "INTERNAL_ERROR", codes.text("INTERNAL_ERROR", err.message))
  end
end

-- Cancel, suspend and resume differ in the transition only. (yields)
local function control_session(self, call, name, transition)
  local identity = authenticated(self, call)
  if identity == nil then return end
  local request = decoded(call, self.control_requests[name])
  if request == nil then return end
  local session, err = self.sessions:find(request.session_id)
  if session == nil then
    if err then return fail(call, "INTERNAL", err.message) end
    return fail(call, "NOT_FOUND", "no session has this id")
  end
  if not control.has_authority(session, identity) then
    return fail(call, "PERMISSION_DENIED", "FORBIDDEN: only the initiator and whom the policy names may do this")
  end
  local verdict, code, text = transition(self.kernel, session, identity, request.reason)
  local codec = self.control_responses[name]
  local lsn = verdict and verdict.lsn or session.lsn
  local state, at = verdict and verdict.state, verdict and verdict.accepted_at
  local ok
  ok, err = self.log:wait(lsn)
  if not ok then
    if err.code == "CANCELLED" or answered_lost(self, call, session.id) then return end
    code, text, state = "INTERNAL_ERROR", codes.text("INTERNAL_ERROR", err.message), nil
  end
  if state == nil then
    return call:reply_with(codec, negative("", request.session_id, self.now_ms(), code, text))
  end
  call:reply_with(codec, {
    ack = { ok = true, session_id = request.session_id, accepted_at_unix_ms = at, session_state = state },
  })
end

-- A handler that gets the caller's identity; without one the call is answered.
local function authenticated_call(fn)
  return function(self, call)
    local identity = authenticated(self, call)
    if identity then fn(self, call, identity) end
  end
end

-- The caller's identity for a call that stays open: it lasts as long as the credential is good.
local function admitted(self, call, scope)
  local identity = authenticated(self, call)
  if identity then self.tenures:enter(call, identity, scope) end
  return identity
end

local HANDLERS = {
  Send = send,
  CancelSession = function(self, call) control_session(self, call, "CancelSession", control.cancel) end,
  SuspendSession = function(self, call) control_session(self, call, "SuspendSession", control.suspend) end,
  ResumeSession = function(self, call) control_session(self, call, "ResumeSession", control.resume) end,
  StreamSession = function(self, call, scope)
    local identity = admitted(self, call, scope)
    if identity then self.streams:serve(call, identity, scope) end
  end,
  WatchSessions = function(self, call, scope)
    local identity = admitted(self, call, scope)
    if identity then self.watches:serve_sessions(call, identity, scope) end
  end,
  WatchSignals = function(self, call, scope)
    local identity = admitted(self, call, scope)
    if identity then self.watches:serve_signals(call, identity, scope) end
  end,
  WatchModeRegistry = function(self, call, scope) self.watches:serve_modes(call, nil, scope) end,
  GetSession = authenticated_call(reads.get_session),
  ListSessions = authenticated_call(reads.list_sessions),
  RegisterPolicy = authenticated_call(policy_calls.register),
  UnregisterPolicy = authenticated_call(policy_calls.unregister),
  GetPolicy = authenticated_call(policy_calls.get),
  ListPolicies = authenticated_call(policy_calls.list),
  -- A runtime without any credentials configured shows its policies to anybody, as it does everything else.
  WatchPolicies = function(self, call, scope)
    local is_open = self.watch_policies_open or self.identities:is_open()
    if is_open or admitted(self, call, scope) then self.watches:serve_policies(call, nil, scope) end
  end,
  RegisterExtMode = mode_rpcs.register,
  UnregisterExtMode = mode_rpcs.unregister,
  PromoteMode = mode_rpcs.promote,
  ListRoots = mode_rpcs.list_roots,
  WatchRoots = function(self, call, scope) self.watches:serve_roots(call, nil, scope) end,
  Initialize = discovery.initialize,
  GetManifest = discovery.get_manifest,
  ListModes = discovery.list_modes,
  ListExtModes = discovery.list_ext_modes,
}

local function codec(name) return messages.codec("macp.v1." .. name, { enums = "number" }) end

---@param parts table { identities, ownership, tenures, acceptor, ingress (or nil), kernel, sessions, log, streams, watches, modes,
---  policies, health, metrics, gate, reflection (or nil), now_ms, page = { default, max }, visible_only,
---  watch_policies_open }
function M.new(parts)
  local service = setmetatable({ judge = judge }, Service) -- which may be wrapped
  for name, part in pairs(parts) do service[name] = part end
  service.durable_ms = parts.metrics.durable_ms:labels()
  service.send_request, service.send_response = codec("SendRequest"), codec("SendResponse")
  service.control_requests, service.control_responses, service.offers = {}, {}, {}
  for _, name in ipairs({ "CancelSession", "SuspendSession", "ResumeSession" }) do
    service.control_requests[name] = codec(name .. "Request")
    service.control_responses[name] = codec(name .. "Response")
  end
  service.by_path, service.is_unary = {}, {}
  for name, handler in pairs(HANDLERS) do
    service.offers[name] = true
    service.by_path[messages.rpc(name).path] = handler
  end
  if service.policies.read_only then service.offers.RegisterPolicy = false end
  for path, handler in pairs(discovery.HEALTH) do service.by_path[path] = handler end
  for path, kind in pairs(M.methods()) do service.is_unary[path] = kind == "unary" end
  for path, handler in pairs(service.reflection and service.reflection:handlers() or {}) do
    service.by_path[path] = handler
  end
  return service
end

---Paths and kinds for host.rpc, without reflection.
function M.methods()
  local methods = {}
  for name in pairs(HANDLERS) do methods[messages.rpc(name).path] = messages.rpc(name).kind end
  for path, kind in pairs(discovery.HEALTH_KINDS) do methods[path] = kind end
  return methods
end

---Serves one call. A unary one takes one of the places of its connection meanwhile. (yields)
function Service:handle(call)
  if not self.is_unary[call.method] then return self:dispatch(call) end
  local peer = call:peer()
  if not self.gate:enter(peer) then return end
  self:dispatch(call)
  self.gate:leave(peer)
end

---Runs the handler of a call. The only place of the role that catches errors. (yields)
function Service:dispatch(call)
  local refusal = self.ownership:refusal()
  if refusal and not discovery.HEALTH[call.method] then return fail(call, "UNAVAILABLE", refusal) end
  local scope = {}
  local ok, err = xpcall(self.by_path[call.method], debug.traceback, self, call, scope)
  if scope.on_close then scope.on_close() end
  self.tenures:leave(scope)
  if ok then return end
  host_log.error("rpc.failed", { method = call.method, error = tostring(err) })
  call:fail(STATUS.INTERNAL, "internal error")
end

return M
