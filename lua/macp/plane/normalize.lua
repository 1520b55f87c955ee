-- Normalization: what the runtime sent becomes canonical events of a run. The mode's revision reads its own messages;
-- core messages, signals, progress, tools, policies and language model calls are read here. Nothing yields.

local log = require("host.log")

local json = require("macp.core.json")
local lifted = require("macp.plane.lifted")
local payloads = require("macp.plane.payloads")
local plain = require("macp.plane.plain")
local run_module = require("macp.plane.run")
local session_start = require("macp.plane.session_start")
local text = require("macp.plane.text")
local usage = require("macp.plane.usage")

local quote, quote_name, clean = text.quote, text.quote_name, text.clean
local source_of, number, string_of = run_module.source, plain.number, plain.text

local RUNTIME = "runtime"
local EMPTY = {}
local RUNTIME_NAME = "rust-runtime"
local DEFAULT_POLICY = "policy.default"

-- message type -> event type, subject kind, payload fields that hold the subject's id
local DERIVED = {
  Commitment = { "decision.finalized", "decision", { "commitmentId", "commitment_id", "decisionId", "decision_id" } },
  Signal = { "signal.emitted", "signal", {} },
  SignalAck = { "signal.acknowledged", "signal", { "signalId", "signal_id" } },
  SignalAcknowledged = { "signal.acknowledged", "signal", { "signalId", "signal_id" } },
  PolicyResolved = { "policy.resolved", "policy", { "policyId", "policyVersion" } },
  PolicyCommitmentEvaluated = { "policy.commitment.evaluated", "policy", { "commitmentId" } },
  PolicyDenied = { "policy.denied", "policy", { "commitmentId", "policyId" } },
}
-- Types of the standard modes say the same in a mode that nobody reads here.
local PROPOSAL_FIELDS = { "proposalId", "proposal_id", "requestId", "request_id", "taskId", "task_id", "handoffId",
  "handoff_id" }
for event_type, message_types in pairs({
  ["proposal.created"] = { "Proposal", "CounterProposal", "TaskRequest", "HandoffOffer", "ApprovalRequest" },
  ["proposal.updated"] = { "Evaluation", "Objection", "Vote", "Accept", "Reject", "Withdraw", "TaskAccept",
    "TaskReject", "TaskUpdate", "TaskComplete", "TaskFail", "HandoffContext", "HandoffAccept", "HandoffDecline",
    "Approve", "Abstain", "Contribute" },
}) do
  for _, message_type in ipairs(message_types) do
    DERIVED[message_type] = { event_type, "proposal", PROPOSAL_FIELDS }
  end
end
local TOOL_FIELDS = { "toolCallId", "tool_call_id", "requestId", "request_id" }
local TOOLS = {
  toolcall = { "tool.called", "tool", TOOL_FIELDS }, toolrequest = { "tool.called", "tool", TOOL_FIELDS },
  toolresult = { "tool.completed", "tool", TOOL_FIELDS }, toolcompleted = { "tool.completed", "tool", TOOL_FIELDS },
  tooloutput = { "tool.completed", "tool", TOOL_FIELDS },
}

-- message type of the runtime's own records -> session state, field that names who did it
local RECORDS = {
  SessionCancel = { "SESSION_STATE_CANCELLED", "cancelledBy" },
  SessionSuspend = { "SESSION_STATE_SUSPENDED", "suspendedBy" },
  SessionResume = { "SESSION_STATE_OPEN", "resumedBy" },
}

local M = { RUNTIME_NAME = RUNTIME_NAME }

local function derived_of(message_type)
  local known = DERIVED[message_type]
  if known then return known end
  if message_type:sub(1, 4):lower() == "tool" then return TOOLS[message_type:lower()] end
  return nil
end

-- The payload as fields live: inside `json` when it was read generically.
local function fields_of(payload)
  if payload.encoding == "json" and type(payload.json) == "table" then return payload.json end
  return payload
end

-- Readings of one envelope; reused, read during the call only.
local received_data = { messageType = nil, messageId = nil, sender = nil, payload = nil }

-- A payload as it can be stored, and its text; nothing for nothing.
local function storable(payload)
  if payload == nil then return nil, nil end
  local payload_json, told = text.told(payload)
  return told, payload_json
end

local function encode(value) return (text.told(value)) end

-- Starts the mode's state machine with the first envelope of a session.
local function start_mode(run, env)
  local ok, err = run.rev:start(run.rev_key, session_start.of(run.session, env))
  if ok == nil then
    log.warn("mode.start_failed", { run_id = run.id, mode = run.mode_name, error = err and err.message })
    run.rev = nil
  else
    run.rev_started = true
  end
end

-- What a mode made of an envelope, without what must not be seen.
local function redact_events(redactor, payload_json, events)
  for _, made in ipairs(events) do
    if made.data then made.data = redactor:json(made.data) end
    if made.label then made.label = redactor:text(made.label) end
  end
  return redactor:json(payload_json)
end

-- The mode's reading of an envelope: payload text, derived events. nil: nobody read it.
local function observe(run, env, t, wall_ms)
  local rev, message_id = run.rev, env.message_id
  local payload_json, events, why_not = rev:observe(run.rev_key, env.message_type, env.sender, env.payload, t,
    message_id, text.iso(wall_ms), rev:is_reserved_id(message_id) and 1 or 0)
  local metrics = why_not and run.writer.owner.metrics
  if metrics then metrics.lua_error(run.mode_name) end
  if why_not and not run.degraded then
    run.degraded = true
    log.warn("mode.degraded", { run_id = run.id, mode = run.mode_name, error = why_not })
  end
  if payload_json == nil then return nil end
  if run.redactor then payload_json = redact_events(run.redactor, payload_json, events) end
  return clean(payload_json), events
end

local function clamp(value) return math.max(0, math.min(100, value)) end

local derived_data = {}

-- Emits one derived event. `extras` is JSON text of further members (each followed by a comma), `facts` what the fold
-- reads of them, as fields.
local function emit_derived(run, ms, env, base, event_type, kind, id, payload_json, payload, extras, facts)
  local data = derived_data
  for key in pairs(data) do data[key] = nil end
  if facts then
    for key, value in pairs(facts) do data[key] = value end
  end
  data.messageType, data.messageId, data.sender = env.message_type, env.message_id, env.sender
  data.decodedPayload = payload
  local members = lifted.members(event_type, payload and fields_of(payload) or EMPTY, run.state, env.sender)
  run:emit(ms, event_type, kind, id, source_of(RUNTIME, RUNTIME_NAME, env.message_type),
    base .. "," .. (extras or "") .. members .. '"decodedPayload":' .. payload_json .. "}", data)
end

local function emit_usage(run, ms, env, base, found)
  local payload_json = encode(found)
  emit_derived(run, ms, env, base, "llm.call.completed", "message", env.message_id, payload_json, found)
end

-- The member of an event's data that names what its payload was decoded as, "" when nobody knows the type.
local function type_member(run, env)
  local name = payloads.type_name(run.rev, env.message_type)
  return name and '"payloadTypeName":"' .. name .. '",' or ""
end

-- What a script says: it may have cut a text within a character.
local function words(said) return said and text.printable(said) end

-- The events that the mode's normalizer made of an envelope.
local function emit_mode_events(run, ms, env, base, events, payload_json)
  local payload, named = nil, type_member(run, env)
  for i = 1, #events do
    local made = events[i]
    local kind, id, label = words(made.kind), words(made.id) or env.message_id, words(made.label)
    local shown_json, shown = payload_json
    if made.data then
      shown_json = clean(made.data)
      shown = json.decode(shown_json)
    else
      payload = payload or json.decode(payload_json)
      shown = payload
    end
    local extras, facts = named, { action = label, vote = made.vote, confidence = number(made.confidence) }
    if label then extras = extras .. '"action":' .. quote(label) .. "," end
    if made.vote then extras = extras .. '"vote":' .. quote(made.vote) .. "," end
    if facts.confidence then extras = extras .. '"confidence":' .. json.encode(facts.confidence) .. "," end
    if kind == "proposal" and made.id then extras = extras .. '"proposalId":' .. quote(id) .. "," end
    emit_derived(run, ms, env, base, made.type, kind, id, shown_json, shown, extras, facts)
  end
end

local function subject_id(fields, payload, fallback)
  for _, field in ipairs(fields) do
    local value = payload[field]
    if type(value) == "string" and value ~= "" then return value end
  end
  return fallback
end

local function emit_signal(run, ms, env, base, payload, data)
  local extras, facts = lifted.signal(payload, data)
  if data then payload.dataJson = data end
  emit_derived(run, ms, env, base, "signal.emitted", "signal", env.message_id, encode(payload), payload,
    type_member(run, env) .. extras, facts)
end

-- Percentages are told as 0..100 whatever the sender counts in.
local function progress_of(env, payload)
  local progress, total = number(payload.progress), number(payload.total)
  local percentage
  if progress and total and total > 0 then percentage = clamp(progress / total * 100)
  elseif progress then percentage = clamp(progress <= 1 and progress * 100 or progress) end
  if env.message_type == "TaskComplete" then return { percentage = 100, message = "completed" } end
  if env.message_type == "TaskFail" then return { message = string_of(payload.reason) or "failed" } end
  if env.message_type == "TaskUpdate" then
    if not progress then return nil end
    return { percentage = percentage, message = payload.message ~= "" and payload.message or payload.status or "" }
  end
  return { percentage = percentage, message = payload.message, progressToken = payload.progressToken,
    total = payload.total }
end

local TASK_PROGRESS = { TaskUpdate = true, TaskComplete = true, TaskFail = true }

local function emit_progress(run, ms, env, base, payload, kind, id)
  local told = progress_of(env, payload)
  if told then
    emit_derived(run, ms, env, base, "progress.reported", kind, id, encode(told), told)
  end
end

local function emit_record(run, ms, env, payload)
  local record = RECORDS[env.message_type]
  local data = { sessionId = run.session_id, state = record[1], reason = payload.reason, by = payload[record[2]] }
  run:emit(ms, "session.state.changed", "session", run.session_id,
    source_of(RUNTIME, RUNTIME_NAME, env.message_type), encode(data), data)
end

-- Events of a type that is read here, not by the mode.
local function emit_host_events(run, ms, env, base, payload, payload_json)
  local message_type = env.message_type
  local fields = payload and fields_of(payload) or {}
  if message_type == "Signal" then
    local data = storable(usage.signal_data(fields))
    local found = usage.find(fields, data, run.prices)
    if found then emit_usage(run, ms, env, base, found) end
    emit_signal(run, ms, env, base, fields, data)
    return
  end
  if payload_json and usage.is_likely(payload_json) then
    local found = usage.find(fields, nil, run.prices)
    if found then emit_usage(run, ms, env, base, found) end
  end
  if message_type == "Progress" then
    emit_progress(run, ms, env, base, fields, "participant", env.sender)
  elseif RECORDS[message_type] then
    emit_record(run, ms, env, fields)
  else
    local derived = derived_of(message_type)
    if derived then
      local id = subject_id(derived[3], fields, derived[2] == "policy" and "" or env.message_id)
      local extras, facts
      if derived[2] == "proposal" then extras, facts = lifted.contribution(fields, message_type, id) end
      emit_derived(run, ms, env, base, derived[1], derived[2], id, payload_json or "{}", payload,
        type_member(run, env) .. (extras or ""), facts)
      if TASK_PROGRESS[message_type] then emit_progress(run, ms, env, base, fields, "message", env.message_id) end
    elseif fields.policyDenied == true then
      local id = subject_id({ "commitmentId", "policyId" }, fields, "")
      emit_derived(run, ms, env, base, "policy.denied", "policy", id, payload_json, payload)
    end
  end
end

local function emit_seen(run, ms, sender)
  local data = { participantId = sender }
  run:emit(ms, "participant.seen", "participant", sender, source_of(RUNTIME, RUNTIME_NAME),
    '{"participantId":' .. quote_name(sender) .. "}", data)
end

-- message.received: every envelope has one.
local function emit_received(run, ms, env, base, payload_json, start_payload)
  local data = received_data
  data.messageType, data.messageId, data.sender = env.message_type, env.message_id, env.sender
  data.payload = start_payload
  run:emit(ms, "message.received", "message", env.message_id,
    source_of(RUNTIME, RUNTIME_NAME, env.message_type), base .. ',"payload":' .. payload_json .. "}", data)
end

-- The policy that a session named at its start, as the runtime told it. Without one the rules of the mode apply.
local function emit_policy(run, ms)
  local named, policy = run.session.policy_version, run.session.policy
  if policy == nil or policy.policy_id ~= named or named == DEFAULT_POLICY then return end
  local payload_json = encode({ policyId = named, policyVersion = named, schemaVersion = policy.schema_version,
    description = policy.description, rules = policy.rules })
  if run.redactor then payload_json = run.redactor:json(payload_json) end
  run:emit(ms, "policy.resolved", "policy", named, source_of("macp-control-plane", "run-manager"),
    '{"modeName":' .. run.mode_json .. ',"sessionId":' .. run.session_json .. ',"policyVersion":' .. quote(named)
      .. ',"decodedPayload":' .. payload_json .. "}", { decodedPayload = json.decode(payload_json) })
end

local function is_for_mode(run, message_type)
  if run.rev == nil or not run.rev_started then return false end
  return message_type == "Commitment" or session_start.message_types(run.rev)[message_type] == true
end

---Turns one envelope into the events of a run; its raw row is already numbered.
---@param run macp.plane.Run
---@param env table decoded envelope (snake_case, payload as bytes)
---@param ms integer when it was received
---@param t integer|nil session time; nil for ambient messages
---@param wall_ms integer|nil the same as wall time
function M.envelope(run, env, ms, t, wall_ms)
  env.message_id = text.storable(env.message_id)
  local message_type, sender = text.storable(env.message_type), text.storable(env.sender)
  env.message_type, env.sender = message_type, sender
  local is_start = message_type == "SessionStart"
  if is_start and t and run.rev and not run.rev_started then start_mode(run, env) end
  if sender ~= "" and run.state.people[sender] == nil then emit_seen(run, ms, sender) end
  local base = '{"modeName":' .. run.mode_json .. ',"messageType":' .. quote_name(message_type) .. ',"messageId":'
    .. quote(env.message_id) .. ',"sessionId":' .. run.session_json .. ',"sender":' .. quote_name(sender)
  local is_own = t ~= nil and is_for_mode(run, message_type)
  if is_own then
    local payload_json, events = observe(run, env, t, wall_ms)
    if payload_json then
      emit_received(run, ms, env, base, payload_json)
      if usage.is_likely(payload_json) then
        local found = usage.find(json.decode(payload_json), nil, run.prices)
        if found then emit_usage(run, ms, env, base, found) end
      end
      emit_mode_events(run, ms, env, base, events, payload_json)
      if TASK_PROGRESS[message_type] then
        emit_progress(run, ms, env, base, json.decode(payload_json), "message", env.message_id)
      end
      return
    end
  end
  local payload = payloads.decode(message_type, env.payload)
  if is_own then payload = payloads.unwrapped(payload) end
  if payload and run.redactor then payload = run.redactor:value(payload) end
  local payload_json
  payload, payload_json = storable(payload)
  emit_received(run, ms, env, base, payload_json or '{"payloadBase64":""}', is_start and payload or nil)
  if is_start and t then emit_policy(run, ms) end
  emit_host_events(run, ms, env, base, payload, payload_json)
end

---An error frame of the stream.
---@param failure table decoded MACPError
function M.inline_error(run, failure, ms)
  if run.redactor then failure.message = run.redactor:text(failure.message) end
  local data = { errorCode = failure.code, errorMessage = failure.message, sessionId = failure.session_id,
    messageId = failure.message_id }
  local source = source_of(RUNTIME, RUNTIME_NAME, "stream-inline-error")
  run:emit(ms, "message.send_failed", "message", failure.message_id, source, encode(data), data)
  if failure.code == "POLICY_DENIED" then
    local reasons = { failure.message }
    data = { errorCode = failure.code, errorMessage = failure.message, decision = "deny", reasons = reasons,
      decodedPayload = { decision = "deny", reasons = reasons } }
    run:emit(ms, "policy.denied", "policy", failure.message_id, source, encode(data), data)
  end
end

---The stream of the session opened, was lost, or came back.
---@param status "opened"|"reconnecting"|"gap"
---@param detail string|nil
function M.stream_status(run, status, detail, ms)
  run:receive_document(ms, "stream-status", '{"kind":"stream-status","receivedAt":"' .. text.iso(ms)
    .. '","streamStatus":' .. encode({ status = status, detail = detail }) .. "}")
  local data = { sessionId = run.session_id, status = status, detail = detail }
  run:emit(ms, "session.stream.opened", "session", run.session_id,
    source_of(RUNTIME, RUNTIME_NAME, "stream-status"), encode(data), data)
end

return M
