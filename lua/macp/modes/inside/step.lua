-- Step: the pure part of the kernel. Judges one message against one session (sender, payload, needs, commitment),
-- applies it, and asks the timers. Calls the mode at most for needs, apply, when, evaluate, result, due and emit.

local native = native
local commitment = require("macp.modes.inside.commitment")
local state = require("macp.modes.inside.state")
local policy = require("macp.modes.inside.policy")

local SYNTHETIC, DRY = 1, 2
local MAX_EMISSIONS = 16
local WEIGH_AGAIN = 8
local INVALID, FORBIDDEN, DENIED = "INVALID_ENVELOPE", "FORBIDDEN", "POLICY_DENIED"

local M = { sessions = {} }

local sessions = M.sessions
local program         -- what install() built
local phase, subject  -- what runs now, for reports of author errors
local dirty           -- session whose state an unfinished apply may have changed

---Takes the compiled mode: types, outcomes, timers, state, policy, options.
function M.install(built)
  program = built
end

---Names the session whose state an unfinished apply may have changed; nil when none.
function M.mark(key)
  dirty = key
end

---Names what runs next, for reports.
function M.enter(what, detail)
  phase, subject = what, detail
end

---What ran when the last call failed: phase, subject ("messages.Open.apply"), key of the session whose state is broken.
function M.failed()
  local key = dirty
  if dirty then sessions[dirty].broken = true end
  dirty = nil
  return phase, subject, key
end

local function next_due(session)
  local timers = program.timers
  local best
  for i = 1, #timers do
    local timer = timers[i]
    phase, subject = "due", timer.due_subject
    local due = timer.due(session.s, session.c)
    if due then
      if type(due) ~= "number" or due ~= due then error("due must return a session time in ms or nil", 0) end
      if best == nil or due < best then best = due end
    end
  end
  if session.touched then session:verify() end
  return best
end

local function reject(code, reason, rule)
  return nil, code, reason, rule
end

local function check_sender(session, spec, sender, synthetic)
  local from = spec.from
  if synthetic then return from.runtime end
  return (from.participant and session.is_member[sender])
    or (from.initiator and sender == session.initiator)
    or (from.committer and session:may_commit(sender)) or from.anyone or false
end

local function sender_reason(session, spec)
  local from, who = spec.from, {}
  if from.participant then who[#who + 1] = "a participant" end
  if from.initiator then who[#who + 1] = "the initiator" end
  if from.committer then
    who[#who + 1] = session.rules.authority == "designated_role" and "a designated sender"
      or session.rules.authority == "any_participant" and "the initiator or a participant" or "the initiator"
  end
  return spec.type .. " may only be sent by " .. table.concat(who, " or ")
end

-- What a mode says about a refusal is text: the print of a table would be an address.
local function text_of(value, what)
  local kind = type(value)
  if kind ~= "string" and kind ~= "number" then error(what .. " must be a string, not a " .. kind, 0) end
  return tostring(value)
end

-- Runs the named predicates; returns nil or code, reason, rule.
function M.check_needs(session, spec, p, sender)
  local needs, s, c = spec.needs, session.s, session.c
  phase = "needs"
  for i = 1, #needs do
    local need = needs[i]
    subject = need.rule
    local ok, detail = need.test(s, p, sender, c)
    if not ok then
      local reason = need.text
      if detail ~= nil then reason = reason .. ": " .. text_of(detail, "the detail of a refusal") end
      return need.code, reason, need.rule
    end
  end
  return nil
end

local function outcome_ready(session, outcome)
  if outcome.when == nil then return true end
  phase, subject = "when", outcome.subject
  return outcome.when(session.s, session.c) and true or false
end

-- Outcomes without a polarity fit both; under lenient outcomes (the reading of older runtimes) every outcome does.
local function fits(outcome, positive)
  return outcome.positive == nil or outcome.positive == positive or program.lenient_outcomes
end

---Whether a Commitment of this polarity would find a ready outcome.
function M.is_ready(session, positive)
  for _, outcome in ipairs(program.outcomes) do
    if fits(outcome, positive) and outcome_ready(session, outcome) then return true end
  end
  return false
end

local function check_outcome(session, p)
  local ready, actions = false, {}
  for _, outcome in ipairs(program.outcomes) do
    if fits(outcome, p.outcome_positive) and outcome_ready(session, outcome) then
      ready = true
      actions[#actions + 1] = outcome.action
      if outcome.action == p.action then return nil end
    end
  end
  local polarity = p.outcome_positive and "positive" or "negative"
  if not ready then return "no " .. polarity .. " outcome is ready", "outcomes." .. polarity end
  if program.strict_actions then
    return string.format("the action must be %s, not '%s'", table.concat(actions, " or "), p.action), "outcomes.action"
  end
  return nil
end

-- "voting.threshold: text" carries its rule when that is a rule of this mode.
local function as_item(text)
  local rule, rest = text:match("^([%w_%.]+): (.*)$")
  if rule and program.rule_ids[rule] then return { rule = rule, text = rest } end
  return { rule = "policy", text = text }
end

local function details_of(reasons)
  local items = native.array({})
  for i, text in ipairs(reasons) do items[i] = as_item(text) end
  return native.json_encode({ reasons = native.array(reasons), items = items }, true)
end

-- A message that a policy denies says so in the form of a denied commitment.
local function denial(rule, reason)
  return native.json_encode({ reasons = native.array({ reason }), items = native.array({ { rule = rule,
    text = reason } }) }, true)
end

---Policy evaluation for one polarity: denied (bool), reasons. A policy that is lost, or of a schema version that this
---program does not know, binds nothing that could be enforced, so it denies.
function M.evaluate(session, positive, action, sender)
  local denials, notes, version = {}, {}, session.fields.schema_version
  if session.policy_problem then return true, { session.policy_problem } end
  if version < 1 or version > policy.MAX_VERSION then
    return true, { string.format("schema version %s is not supported (1 to %d are)", tostring(version),
      policy.MAX_VERSION) }
  end
  if program.evaluate then
    phase, subject = "evaluate", "policy.evaluate"
    local function collect(list)
      return function(format, ...)
        format = text_of(format, "a reason")
        list[#list + 1] = select("#", ...) > 0 and string.format(format, ...) or format
      end
    end
    program.evaluate(session.s, { positive = positive, action = action, by = sender, deny = collect(denials),
      allow = collect(notes) }, session.c)
    if session.touched then session:verify() end
  end
  if #denials > 0 then return true, denials end
  if #notes == 0 then notes[1] = "constraints satisfied" end
  return false, notes
end

local function judge_commitment(session, spec, p, sender)
  local field, reason = commitment.check(p, session, program.strict_supersedes)
  if field then return reject(INVALID, "field '" .. field .. "' " .. reason, "commitment." .. field) end
  local code, why, rule = M.check_needs(session, spec, p, sender)
  if code then return nil, code, why, rule, code == DENIED and denial(rule, why) or nil end
  why, rule = check_outcome(session, p)
  if why then return reject(INVALID, why, rule) end
  local denied, reasons = M.evaluate(session, p.outcome_positive, p.action, sender)
  if denied then
    return nil, DENIED, table.concat(reasons, "; "), as_item(reasons[1]).rule, details_of(reasons)
  end
  return reasons
end

local function unknown_type(name)
  local spec = program.types[name]
  if spec then return name .. " is only sent by the runtime" end
  return "the mode has no message type '" .. name .. "' (it has " .. program.type_list .. ")"
end

local function apply_message(session, spec, p, sender)
  if spec.apply then
    phase, subject, dirty = "apply", spec.apply_subject, session.key
    spec.apply(session.s, p, sender, session.c)
    if session.touched then session:verify() end
  end
end

-- Only when nothing of the mode can fail any more: a message that is refused after all leaves no trace.
local function count_message(session, payload)
  session.seq = session.seq + 1
  session.bytes = session.bytes + #payload
  session.messages = session.messages + 1
end

-- The plain result that a mode stores next to the resolution, as JSON.
local function result_of(session)
  if not program.result then return nil end
  phase, subject = "result", "result"
  local text, problem = native.json_encode(program.result(session.s, session.c), true)
  if text == nil then error("result: " .. tostring(problem), 0) end
  return text
end

-- The payloads accepted so far bound what a state can hold. A mode may keep less: its state is weighed when the bound is
-- reached, and again only after a good part of it has come in since.
local function is_full(session, size)
  local limit = program.max_state_bytes
  if session.bytes + size <= limit then return false end
  if session.bytes - (session.weighed or 0) < limit / WEIGH_AGAIN then return true end
  local weight = state.weight(session.s)
  if weight == nil or weight >= session.bytes then
    session.weighed = session.bytes
    return true
  end
  session.bytes, session.weighed = weight, weight
  return weight + size > limit
end

---Judges and applies one message; with flags 2 it only judges.
---@return string|nil "accepted" | "resolved" | nil
---   accepted: next due; resolved: nil, resolution bytes, result JSON, policy details JSON
---   refused: code, message, rule, details JSON
function M.submit(key, name, sender, payload, t, flags)
  local session = sessions[key]
  phase, subject, dirty = "submit", name, nil
  if session == nil or session.broken then
    return nil, "INTERNAL_ERROR", "the state of this session is not loaded", "kernel.state"
  end
  local spec, synthetic = program.types[name], flags == SYNTHETIC
  if spec == nil or (spec.runtime_only and not synthetic) then
    return nil, INVALID, unknown_type(name), "messages.type"
  end
  if not check_sender(session, spec, sender, synthetic) then
    return reject(FORBIDDEN, sender_reason(session, spec), spec.from_rule)
  end
  if not spec.is_commitment and is_full(session, #payload) then
    return reject(INVALID, "session state limit", "kernel.state_limit")
  end
  phase, subject = "payload", spec.payload_rule
  local p, problem = spec.decode(payload)
  if p == nil then return reject(INVALID, name .. ": " .. tostring(problem), spec.payload_rule) end
  local fields = session.fields
  fields.t, fields.seq, fields.synthetic = t, session.seq + 1, synthetic
  if spec.normalise then spec.normalise(p) end
  if spec.check then
    local field, reason = spec.check(p, session.s)
    if field then return reject(INVALID, "field '" .. field .. "' " .. reason, spec.payload_rule .. "." .. field) end
  end
  local reasons
  if spec.is_commitment then
    local code, message, rule, details
    reasons, code, message, rule, details = judge_commitment(session, spec, p, sender)
    if reasons == nil then return nil, code, message, rule, details end
  else
    local code, reason, rule = M.check_needs(session, spec, p, sender)
    if code then return nil, code, reason, rule, code == DENIED and denial(rule, reason) or nil end
  end
  if session.touched then session:verify() end
  if flags == DRY then return "accepted" end
  apply_message(session, spec, p, sender)
  if spec.is_commitment then
    local result = result_of(session)
    count_message(session, payload)
    dirty = nil
    return "resolved", nil, payload, result, details_of(reasons)
  end
  local due = next_due(session)
  count_message(session, payload)
  if not synthetic then session.emissions = 0 end
  dirty = nil
  return "accepted", due
end

---Transition only: replay and observation. Returns true, next due; or nil, reason for what cannot be applied.
function M.apply(key, name, sender, payload, t, flags, without_due)
  local session = sessions[key]
  phase, subject, dirty = "apply", name, nil
  if session == nil then return nil, "the state of this session is not loaded" end
  local spec = program.types[name]
  if spec == nil then return nil, unknown_type(name) end
  local p, problem = spec.decode(payload)
  if p == nil then return nil, name .. ": " .. tostring(problem) end
  local fields = session.fields
  fields.t, fields.seq, fields.synthetic = t, session.seq + 1, flags == SYNTHETIC
  if spec.normalise then spec.normalise(p) end
  apply_message(session, spec, p, sender)
  local due
  if not without_due and not spec.is_commitment then due = next_due(session) end
  count_message(session, payload)
  dirty = nil
  return true, due, p
end

---The earliest timer due at or before t: type, sender, message id, payload bytes, deadline; nil when there is none.
function M.fire(key, t)
  local session = sessions[key]
  if session == nil or session.broken then return nil end
  local chosen, chosen_due
  for _, timer in ipairs(program.timers) do
    phase, subject = "due", timer.due_subject
    session.fields.t = t
    local due = timer.due(session.s, session.c)
    if due and due <= t and (chosen_due == nil or due < chosen_due) then chosen, chosen_due = timer, due end
  end
  if chosen == nil then return nil end
  session.emissions = (session.emissions or 0) + 1
  if session.emissions > MAX_EMISSIONS then
    phase, subject = "due", chosen.due_subject
    error(string.format("the timer '%s' fired more than %d times in a row", chosen.name, MAX_EMISSIONS), 0)
  end
  phase, subject = "emit", chosen.emit_subject
  session.fields.t = chosen_due
  local message = chosen.emit(session.s, session.c)
  if type(message) ~= "table" then error("emit must return { type =, sender =, payload =, key = }", 0) end
  local spec = program.types[message.type]
  if spec == nil or not spec.from.runtime then
    error("emit names the type '" .. tostring(message.type) .. "', which has no 'runtime' in its from", 0)
  end
  if type(message.sender) ~= "string" or message.key == nil then error("emit must name a sender and a key", 0) end
  local bytes, problem = spec.encode(message.payload or {})
  if bytes == nil then error("payload of " .. message.type .. ": " .. tostring(problem), 0) end
  return message.type, message.sender, chosen.prefix .. ":" .. tostring(message.key), bytes, chosen_due
end

---Next due of a session without a message.
function M.due(key)
  local session = sessions[key]
  return session and next_due(session)
end

return M
