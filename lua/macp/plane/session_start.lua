-- How a mode revision is started for an observed session, live and again when its state is rebuilt.

local messages = require("macp.protocol.messages")

local M = {}

local codec

---The arguments with which a revision starts a session.
---@param session table what the runtime said about the session
---@param env table SessionStart envelope
function M.of(session, env)
  codec = codec or messages.codec("macp.v1.SessionStartPayload")
  local payload = codec:decode(env.payload) or {}
  local participants = session.participants
  if #participants == 0 then participants = payload.participants or participants end
  return {
    initiator = env.sender, participants = participants, payload = payload, policy = session.policy,
    mode_version = session.mode_version, configuration_version = session.configuration_version,
    policy_version = session.policy_version, ttl_ms = payload.ttl_ms, t = 0, accepted = true,
  }
end

local types_of = setmetatable({}, { __mode = "k" })

---The message types that a revision declares, as a set.
function M.message_types(rev)
  local types = types_of[rev]
  if types == nil then
    types = {}
    for message_type in pairs(rev:describe().messages) do types[message_type] = true end
    types_of[rev] = types
  end
  return types
end

return M
