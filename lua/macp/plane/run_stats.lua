-- Statistics of one run for the dashboard: who said how much, and how many signals and decisions fell into which minute.
-- Folded from canonical events and stored with the run's counters; what is done per event does not depend on how many
-- there were.

local amounts = require("macp.plane.amounts")
local text = require("macp.plane.text")

local activity_store = require("macp.store.activity")
local participants_store = require("macp.store.participant_stats")

local MINUTE_MS = 60000
local NAME_MAX = 1024 -- bytes; longer names fit into no index and are not counted
local VALUE_MAX = amounts.MAX
local PEOPLE_MAX = 4096 -- per run; who comes later is not counted

local M = {}

---@class macp.plane.RunStats
---@field people table<string, table> counters by participant
---@field changed table<string, table> those that are not stored yet
---@field minutes table<integer, table> what is not stored yet, by the start of the minute
---@field replaces boolean|nil folded from the first event: takes the place of all that is stored

---@return macp.plane.RunStats
function M.new()
  return { people = {}, count = 0, changed = {}, minutes = {} }
end

---The statistics that stored rows describe.
---@param rows table[] of store/participant_stats.lua
function M.restore(rows)
  local stats = M.new()
  for _, row in ipairs(rows) do
    local id = row.participant_id
    row.participant_id, row.last_ms, row.last_at = nil, row.last_at, nil
    stats.people[id] = row
    stats.count = stats.count + 1
  end
  return stats
end

-- The counters of whoever sent an event, nil when nobody did.
local function sender_of(stats, event, ms)
  local sender = event.data.sender
  if type(sender) ~= "string" or sender == "" or #sender > NAME_MAX then return nil end
  sender = text.storable(sender)
  local person = stats.people[sender]
  if person == nil then
    if stats.count >= PEOPLE_MAX then return nil end
    person = { messages = 0, signals = 0, confidence_sum = 0, confidence_n = 0, prompt_tokens = 0,
      completion_tokens = 0, latency_ms_sum = 0, latency_n = 0, last_ms = ms }
    stats.people[sender], stats.count = person, stats.count + 1
  end
  stats.changed[sender] = person
  if ms > person.last_ms then person.last_ms = ms end
  return person
end

local function minute_of(stats, event, ms)
  local minute = ms - ms % MINUTE_MS
  local counted = stats.minutes[minute]
  if counted == nil then
    counted = { first_seq = event.seq, seq = event.seq, signals = 0, decisions = 0, positives = 0, negatives = 0 }
    stats.minutes[minute] = counted
  end
  counted.seq = event.seq
  return counted
end

local function number(value)
  if type(value) == "number" and value == value and math.abs(value) <= VALUE_MAX then return value end
  return nil
end

local function payload_of(event)
  local payload = event.data.decodedPayload
  return type(payload) == "table" and payload or {}
end

local function add_confidence(person, event)
  local confidence = number(payload_of(event).confidence)
  if confidence == nil then return end
  person.confidence_sum, person.confidence_n = person.confidence_sum + confidence, person.confidence_n + 1
end

local count = amounts.count

local function on_message(stats, event, ms)
  local person = sender_of(stats, event, ms)
  if person then person.messages = person.messages + 1 end
end

local function on_signal(stats, event, ms)
  local minute, person = minute_of(stats, event, ms), sender_of(stats, event, ms)
  minute.signals = minute.signals + 1
  if person == nil then return end
  person.signals = person.signals + 1
  add_confidence(person, event)
end

local function on_proposal(stats, event, ms)
  if event.data.messageType ~= "Evaluation" then return end
  local person = sender_of(stats, event, ms)
  if person then add_confidence(person, event) end
end

local function on_decision(stats, event, ms, state)
  local minute, current = minute_of(stats, event, ms), state.decision.current
  local outcome = current and current.outcomePositive
  minute.decisions = minute.decisions + 1
  if outcome == true then minute.positives = minute.positives + 1 end
  if outcome == false then minute.negatives = minute.negatives + 1 end
end

local function on_call(stats, event, ms)
  local person, payload = sender_of(stats, event, ms), payload_of(event)
  if person == nil then return end
  person.prompt_tokens = person.prompt_tokens + count(payload.promptTokens)
  person.completion_tokens = person.completion_tokens + count(payload.completionTokens)
  local latency = number(payload.latencyMs)
  if latency and latency >= 0 then
    person.latency_ms_sum, person.latency_n = person.latency_ms_sum + latency, person.latency_n + 1
  end
end

local RULES = {
  ["message.received"] = on_message, ["signal.emitted"] = on_signal, ["decision.finalized"] = on_decision,
  ["proposal.created"] = on_proposal, ["proposal.updated"] = on_proposal, ["llm.call.completed"] = on_call,
}

---Applies one event.
---@param stats macp.plane.RunStats
---@param event table as the projection's fold takes it
---@param ms integer the event's time
---@param state table the projection, with the event folded into it
function M.apply(stats, event, ms, state)
  local rule = RULES[event.type]
  if rule then rule(stats, event, ms, state) end
end

---Adds what changed since the last time to a batch that holds the run's last event.
---@param batch macp.plane.Batch or another unit of work
---@param run { tenant: string, id: string, seq: integer, metrics: table } a macp.plane.Run, or what is known of one
function M.store(batch, run)
  local stats = run.metrics.stats
  if stats.replaces then
    participants_store.add_delete(batch, run.tenant, run.id)
    activity_store.add_delete(batch, run.tenant, run.id)
    stats.replaces = nil
  end
  for id, person in pairs(stats.changed) do
    participants_store.add_upsert(batch, run.tenant, run.id, id, run.seq, person)
  end
  for minute_ms, counted in pairs(stats.minutes) do
    activity_store.add(batch, run.tenant, run.id, minute_ms, counted)
  end
  stats.changed, stats.minutes = {}, {}
end

return M
