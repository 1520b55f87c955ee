-- A runtime that answers what a spec tells it to, over real gRPC: for what no healthy runtime would say. Without orders it
-- knows no session, and its streams stay open and silent.

local rpc = require("host.rpc")
local task = require("host.task")

local messages = require("macp.protocol.messages")

local Odd = {}
Odd.__index = Odd

local M = {}

local DECISION = "macp.mode.decision.v1"

local METHODS = { "Initialize", "GetManifest", "ListModes", "ListExtModes", "ListRoots", "GetSession", "ListSessions",
  "GetPolicy", "ListPolicies", "RegisterPolicy", "UnregisterPolicy", "CancelSession", "SuspendSession",
  "ResumeSession", "WatchSessions", "WatchSignals", "StreamSession", "Send" }

---Bytes of a message of the protocol.
function M.encode(name, fields) return assert(messages.codec(name):encode(fields)) end

---A SessionMetadata of a decision that ann and bob hold.
function M.metadata(session_id, changes)
  local metadata = { session_id = session_id, mode = DECISION, state = "SESSION_STATE_OPEN",
    started_at_unix_ms = 1790000000000, expires_at_unix_ms = 4102444800000, mode_version = "1.0.0",
    configuration_version = "config.default", policy_version = "policy.default", participants = { "ann", "bob" },
    initiator = "boss" }
  for name, value in pairs(changes or {}) do metadata[name] = value end
  return metadata
end

---An envelope of a session; `n` names it.
function M.envelope(session_id, n, changes)
  local envelope = { macp_version = "1.0", mode = DECISION, message_type = "Evaluation", message_id = "m" .. n,
    session_id = session_id, sender = "ann", timestamp_unix_ms = 1790000000000 + n,
    payload = M.encode("macp.modes.decision.v1.EvaluationPayload", { proposal_id = "p", recommendation = "APPROVE",
      confidence = 0.5, reason = "r" .. n }) }
  for name, value in pairs(changes or {}) do envelope[name] = value end
  return envelope
end

---The SessionStart of a session.
function M.start_envelope(session_id, changes)
  local envelope = M.envelope(session_id, 0, { message_type = "SessionStart", sender = "boss",
    payload = M.encode("macp.v1.SessionStartPayload", { intent = "odd", participants = { "ann", "bob" },
      mode_version = "1.0.0", configuration_version = "config.default", ttl_ms = 3600000 }) })
  for name, value in pairs(changes or {}) do envelope[name] = value end
  return envelope
end

local ANSWERS = {
  Initialize = function(call)
    call:reply(M.encode("macp.v1.InitializeResponse", { selected_protocol_version = "1.0",
      supported_modes = { DECISION } }))
  end,
  GetSession = function(call) call:fail(rpc.status.NOT_FOUND, "no session has this id") end,
  ListSessions = function(call) call:reply(M.encode("macp.v1.ListSessionsResponse", {})) end,
  GetManifest = function(call)
    call:reply(M.encode("macp.v1.GetManifestResponse", { manifest = { agent_id = "odd" } }))
  end,
}

local function handle(self, call)
  local name = call.method:match("([^/]+)$")
  self.calls[name] = (self.calls[name] or 0) + 1
  local answer = self.answers[name] or ANSWERS[name]
  if answer then return answer(call, self.calls[name]) end
  if messages.rpc(name).kind == "unary" then
    return call:fail(rpc.status.UNIMPLEMENTED, name .. " is not implemented")
  end
  call:wait_closed()
end

---Starts one. (yields)
---@param answers table<string, fun(call: table, count: integer)>|nil by method; may be changed at any time
---@param address string|nil to come back where another one was
function M.start(answers, address)
  local self = setmetatable({ answers = answers or {}, calls = {} }, Odd)
  local methods = {}
  for _, name in ipairs(METHODS) do methods[messages.rpc(name).path] = messages.rpc(name).kind end
  self.server = assert(rpc.listen({ methods = methods, address = address }))
  self.address = "127.0.0.1:" .. self.server:port()
  self.server:serve(function(call) handle(self, call) end)
  return self
end

---GetSession knows this one session.
function Odd:know(metadata)
  self.answers.GetSession = function(call)
    local request = call:decode(messages.codec("macp.v1.GetSessionRequest"))
    if request.session_id ~= metadata.session_id then
      return call:fail(rpc.status.NOT_FOUND, "no session has this id")
    end
    call:reply(M.encode("macp.v1.GetSessionResponse", { metadata = metadata }))
  end
end

---Every stream of a session gets these frames (bytes of StreamSessionResponse), then stays open. Nothing is counted:
---after a subscription all of them come again, as `after` says.
---@param frames fun(after: integer, session_id: string): string[]
function Odd:stream(frames)
  self.answers.StreamSession = function(call)
    local request = M.decode_subscribe(call:read())
    if request == nil then return end
    for _, frame in ipairs(frames(tonumber(request.after_sequence) or 0, request.subscribe_session_id)) do
      if not call:write(frame) then return end
    end
    call:wait_closed()
  end
end

function M.decode_subscribe(bytes)
  return bytes and messages.codec("macp.v1.StreamSessionRequest"):decode(bytes)
end

---One frame of a session's stream.
function M.frame(envelope) return M.encode("macp.v1.StreamSessionResponse", { envelope = envelope }) end

---WatchSessions tells these events, then stays open; every(n) seconds is up to the spec.
---@param events fun(count: integer): table[] macp.v1.SessionLifecycleEvent
function Odd:watch(events)
  self.answers.WatchSessions = function(call, count)
    for _, event in ipairs(events(count)) do
      if not call:write(M.encode("macp.v1.WatchSessionsResponse", { event = event })) then return end
    end
    call:wait_closed()
  end
end

---(yields)
function Odd:close()
  self.server:close()
  task.sleep(0)
end

return M
