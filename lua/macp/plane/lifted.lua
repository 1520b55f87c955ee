-- What readers of events expect beside the decoded payload: members of it at the top of an event's data, as JSON text
-- that follows the envelope's own members. Nothing here may say something the payload does not.

local json = require("macp.core.json")
local decisions = require("macp.plane.projection.decisions")
local plain = require("macp.plane.plain")
local text = require("macp.plane.text")

local quote, string, number = text.quote, plain.text, plain.number

-- Signals whose content readers look for in `payload`.
local SHOWN_SIGNALS = { ["session.context"] = true, ["llm.call.completed"] = true }

local M = {}

local function member(name, value)
  if value == nil then return "" end
  return '"' .. name .. '":' .. (type(value) == "string" and quote(value) or text.clean(json.encode(value))) .. ","
end

local function list(value)
  return type(value) == "table" and #value > 0 and json.array(value) or nil
end

local function of_decision(fields, state)
  local reason, outcome = string(fields.reason), fields.outcomePositive
  if outcome == nil then outcome = fields.outcome_positive end
  return member("action", string(fields.action))
    .. member("confidence", number(fields.confidence) or decisions.confidence(state))
    .. member("reasons", list(fields.reasons) or reason and json.array({ reason }))
    .. member("commitmentId", string(fields.commitmentId) or string(fields.commitment_id))
    .. (type(outcome) == "boolean" and member("outcomePositive", outcome) or "")
end

local function of_policy(fields)
  local outcome = fields.outcomePositive
  return member("commitmentId", string(fields.commitmentId)) .. member("decision", string(fields.decision))
    .. (type(outcome) == "boolean" and member("outcomePositive", outcome) or "")
    .. member("reasons", list(fields.reasons)) .. member("policyVersion", string(fields.policyVersion))
end

local function of_tool(fields, _, sender)
  return member("name", string(fields.name) or string(fields.tool) or string(fields.toolName))
    .. member("participantId", sender)
    .. member("durationMs", number(fields.durationMs) or number(fields.duration_ms))
end

local function of_progress(fields, _, sender)
  return member("participantId", sender) .. member("percentage", number(fields.percentage))
    .. member("message", type(fields.message) == "string" and fields.message or nil)
end

-- Of each event type: fn(fields of the payload, state before the event, sender).
local RULES = {
  ["decision.finalized"] = of_decision,
  ["policy.resolved"] = of_policy, ["policy.commitment.evaluated"] = of_policy, ["policy.denied"] = of_policy,
  ["tool.called"] = of_tool, ["tool.completed"] = of_tool,
  ["progress.reported"] = of_progress,
  ["llm.call.completed"] = function(_, _, sender) return member("participantId", sender) end,
}

---Members of an event's data as JSON text, each followed by a comma; "" for none.
---@param event_type string
---@param fields table the payload, unwrapped
---@param state table the projection before the event
---@param sender string
function M.members(event_type, fields, state, sender)
  local rule = RULES[event_type]
  return rule and rule(fields, state, sender) or ""
end

---The same of a signal, and what the fold reads of it.
---@param fields table decoded SignalPayload
---@param content table|nil the JSON object in its data
---@return string members
---@return table facts
function M.signal(fields, content)
  local name = string(fields.signalType)
  local severity = string(fields.severity) or content and string(content.severity)
  local out = member("name", name or "Signal") .. member("signalType", name) .. member("severity", severity)
    .. member("confidence", number(fields.confidence))
  if content and SHOWN_SIGNALS[name] then out = out .. member("payload", { signalType = name, data = content }) end
  return out, { severity = severity }
end

---The same of a contribution that no mode has described, and what the fold reads of it.
---@param fields table the payload, unwrapped
---@param message_type string
---@param id string the proposal
---@return string members
---@return table facts
function M.contribution(fields, message_type, id)
  local action, vote, confidence = decisions.contribution(fields, message_type)
  return member("action", action) .. member("vote", vote) .. member("confidence", confidence)
    .. member("proposalId", id), { action = action, vote = vote, confidence = confidence }
end

return M
