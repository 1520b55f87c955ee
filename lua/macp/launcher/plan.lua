-- What a request to open a session comes to: the envelopes to send and who sends each. Message ids follow from the run,
-- so that sending again after a restart repeats messages instead of making new ones.

local crypto = require("host.crypto")

local builder = require("macp.sdk.envelope_builder")
local payload = require("macp.launcher.payload")

local CONTEXT = "context" -- extension of SessionStart that carries the request's context

local M = {}

-- Who a participant is on the wire.
local function identity_of(participant)
  return participant.transportIdentity or participant.id
end

local function initiator_of(body)
  local first, requester = body.kickoff and body.kickoff[1], body.execution and body.execution.requester
  return body.session.initiatorParticipantId or first and first.from or requester and requester.actorId
    or identity_of(body.session.participants[1])
end

-- The identity under which a message of `name` is sent.
local function sender_of(body, name, fallback)
  for _, participant in ipairs(body.session.participants) do
    if participant.id == name then return identity_of(participant) end
  end
  local requester = body.execution and body.execution.requester
  return requester and requester.actorId or name or fallback
end

local function envelope(body, run_id, session_id, message_type, part, bytes)
  return builder.envelope({ mode = body.session.modeName, message_type = message_type, session_id = session_id,
    message_id = crypto.uuid5(run_id, part), payload = bytes })
end

local function start_of(body, run_id, session_id, context)
  local session, participants = body.session, {}
  for i, participant in ipairs(session.participants) do participants[i] = identity_of(participant) end
  local roots = {}
  for i, root in ipairs(session.roots or {}) do roots[i] = { uri = root.uri, name = root.name or "" } end
  local bytes = builder.session_start({
    intent = session.metadata and session.metadata.intent or "", participants = participants, roots = roots,
    mode_version = session.modeVersion, configuration_version = session.configurationVersion,
    policy_version = session.policyVersion or "", ttl_ms = session.ttlMs,
    extensions = context ~= "" and { [CONTEXT] = context } or {},
  })
  return envelope(body, run_id, session_id, "SessionStart", "start", bytes)
end

---@param body table a checked request
---@param opts { run_id: string, session_id: string, fallback: string } fallback: sender when nothing names one
---@return { start: table, kickoffs: table[] }|nil items { envelope, sender, from, to, kind, message_type }
---@return string[]|nil problems with the payloads, by path
function M.make(body, opts)
  local problems = {}
  local function bytes_of(path, given, plain)
    local bytes, problem = payload.bytes(given, plain)
    if bytes == nil then problems[#problems + 1] = path .. "." .. problem end
    return bytes or ""
  end
  local context = bytes_of("session.contextEnvelope", body.session.contextEnvelope, body.session.context)
  local plan = { kickoffs = {}, start = { message_type = "SessionStart",
    sender = sender_of(body, initiator_of(body), opts.fallback),
    envelope = start_of(body, opts.run_id, opts.session_id, context) } }
  for i, item in ipairs(body.kickoff or {}) do
    local bytes = bytes_of("kickoff." .. i - 1 .. ".payloadEnvelope", item.payloadEnvelope, item.payload)
    plan.kickoffs[i] = {
      from = item.from, to = item.to, kind = item.kind, message_type = item.messageType,
      sender = sender_of(body, item.from, opts.fallback),
      envelope = envelope(body, opts.run_id, opts.session_id, item.messageType, "kickoff." .. i, bytes),
    }
  end
  if #problems > 0 then return nil, problems end
  return plan
end

return M
