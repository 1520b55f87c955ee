-- The projection of one run: its empty form, its JSON document, and how it is stored and brought back.
-- The document is what clients see (schema version 3); `internal` is what the fold must remember beyond it.

local json = require("macp.core.json")

local contributions = require("macp.plane.projection.contributions")
local decisions = require("macp.plane.projection.decisions")
local people = require("macp.plane.projection.people")
local ring = require("macp.plane.projection.ring")
local event_id = require("macp.plane.event_id")
local session_clock = require("macp.plane.session_clock")

local SCHEMA_VERSION = 3 -- of the document, as clients know it
local FOLD_REVISION = 3 -- of the rules and of `internal`: raise it whenever the same events fold to something else

-- What stored states carry: one with another number is folded again before it is used.
local M = { STORED_VERSION = SCHEMA_VERSION * 100 + FOLD_REVISION }

local CAPS = { recent = 50, signals = 200, progress = 100, evaluations = 50, calls = 100 }

---@param run_id string
function M.new(run_id)
  return {
    run_id = run_id,
    run = { runId = run_id, status = "queued" },
    participants = json.array({}), people = {},
    nodes = json.array({}), node_by_id = {}, edges = ring.new(people.EDGE_CAP), edge_index = {},
    decision = {}, proposals = contributions.new(decisions.PROPOSAL_CAP),
    ballots = {}, ballot_order = ring.new(decisions.TALLY_CAP), said = { allow = 0, deny = 0 },
    signals = ring.new(CAPS.signals), signal_by_id = {},
    progress = ring.new(CAPS.progress),
    latest_seq = 0, total_events = 0, recent = {},
    trace = { spanCount = 0 }, artifacts = json.array({}), artifact_set = {},
    outbound = { total = 0, queued = 0, accepted = 0, rejected = 0 },
    policy = { policyVersion = "" }, evaluations = ring.new(CAPS.evaluations),
    calls = ring.new(CAPS.calls),
    llm = { callCount = 0, promptTokens = 0, completionTokens = 0, totalTokens = 0, estimatedCostUsd = 0 },
    declared = {}, initiator = nil,
    clock = session_clock.new(),
  }
end

-- The newest events are kept as five flat values each: no table per event.
local RECENT_FIELDS = 5

---Notes an event in timeline.recent.
function M.note(state, event)
  state.latest_seq = math.max(state.latest_seq, event.seq)
  local at = state.total_events % CAPS.recent * RECENT_FIELDS
  state.total_events = state.total_events + 1
  local recent = state.recent
  recent[at + 1], recent[at + 2], recent[at + 3] = event.seq, event.ts, event.type
  recent[at + 4], recent[at + 5] = event.subject_kind or false, event.subject_id or false
end

local function recent_items(state)
  local out = json.array({})
  local count = math.min(state.total_events, CAPS.recent)
  for i = state.total_events - count, state.total_events - 1 do
    local at = i % CAPS.recent * RECENT_FIELDS
    local recent = state.recent
    local subject
    if recent[at + 4] then subject = { kind = recent[at + 4], id = recent[at + 5] or "" } end
    out[#out + 1] = {
      id = event_id.of(state.run_id, recent[at + 1]), seq = recent[at + 1], ts = recent[at + 2],
      type = recent[at + 3], subject = subject,
    }
  end
  return out
end

local function decision_of(state)
  local current = state.decision.current
  if current == nil then return json.object({}) end
  local out = {}
  for key, value in pairs(current) do out[key] = value end
  if state.proposals.total > 0 then out.proposals = state.proposals:items() end
  return { current = out }
end

local function policy_of(state)
  local out = {}
  for key, value in pairs(state.policy) do out[key] = value end
  out.commitmentEvaluations = json.array(state.evaluations:items())
  local tally = decisions.vote_tally(state)
  if #tally > 0 then out.voteTally = tally end
  return out
end

---The document as a table ready to be encoded (it shares tables with the state: encode at once).
function M.document(state)
  local trace = state.trace
  return {
    run = state.run, participants = state.participants,
    graph = { nodes = state.nodes, edges = json.array(state.edges:items()) },
    decision = decision_of(state),
    signals = { signals = json.array(state.signals:items()) },
    progress = { entries = json.array(state.progress:items()) },
    timeline = { latestSeq = state.latest_seq, totalEvents = state.total_events, recent = recent_items(state) },
    trace = { traceId = trace.traceId, spanCount = trace.spanCount, lastSpanId = trace.lastSpanId,
      linkedArtifacts = state.artifacts },
    outboundMessages = state.outbound,
    policy = policy_of(state),
    llm = { calls = json.array(state.calls:items()), totals = state.llm },
  }
end

---The document as JSON text.
---@param state table
---@param opts { sorted: boolean }|nil
function M.render(state, opts)
  return json.encode(M.document(state), opts)
end

---What the fold must remember beyond the document, as JSON text.
function M.internal(state)
  return json.encode({
    declared = json.object(state.declared), initiator = state.initiator, ballots = decisions.dump(state),
    clock = state.clock,
  })
end

---The session's clock in what M.internal gave, nil when that cannot be read.
---@param internal_text string
function M.clock_of(internal_text)
  local internal = json.decode(internal_text)
  return internal and internal.clock
end

local function by_key(list, key)
  local out = {}
  for _, item in ipairs(list) do out[item[key]] = item end
  return out
end

local function load_recent(state, recent)
  state.recent = {}
  local first = state.total_events - #recent
  for i, item in ipairs(recent) do
    local at = (first + i - 1) % CAPS.recent * RECENT_FIELDS
    local subject = item.subject or {}
    state.recent[at + 1], state.recent[at + 2], state.recent[at + 3] = item.seq, item.ts, item.type
    state.recent[at + 4], state.recent[at + 5] = subject.kind or false, subject.id or false
  end
end

local function load_decision(state, decision)
  local current = decision.current
  if current == nil then return end
  state.proposals = contributions.new(decisions.PROPOSAL_CAP, current.proposals)
  current.proposals = nil
  state.decision.current = current
end

local function load_policy(state, policy)
  state.evaluations = ring.new(CAPS.evaluations, policy.commitmentEvaluations)
  policy.commitmentEvaluations, policy.voteTally = nil, nil
  state.policy = policy
end

---Brings a stored projection back.
---@param run_id string
---@param document_text string
---@param internal_text string
---@return table|nil state
---@return table|nil err
function M.load(run_id, document_text, internal_text)
  local document, err = json.decode(document_text)
  if document == nil then return nil, err end
  local internal
  internal, err = json.decode(internal_text)
  if internal == nil then return nil, err end
  local state = M.new(run_id)
  state.run = document.run
  state.participants, state.people = document.participants, by_key(document.participants, "participantId")
  state.nodes, state.node_by_id = document.graph.nodes, by_key(document.graph.nodes, "id")
  people.load_edges(state, document.graph.edges)
  load_decision(state, document.decision)
  state.signals = ring.new(CAPS.signals, document.signals.signals)
  state.signal_by_id = by_key(document.signals.signals, "id")
  state.progress = ring.new(CAPS.progress, document.progress.entries)
  state.latest_seq, state.total_events = document.timeline.latestSeq, document.timeline.totalEvents
  load_recent(state, document.timeline.recent)
  state.artifacts = document.trace.linkedArtifacts
  for _, id in ipairs(state.artifacts) do state.artifact_set[id] = true end
  document.trace.linkedArtifacts = nil
  state.trace = document.trace
  state.outbound = document.outboundMessages
  load_policy(state, document.policy)
  state.calls, state.llm = ring.new(CAPS.calls, document.llm.calls), document.llm.totals
  state.declared, state.initiator, state.clock = internal.declared, internal.initiator, internal.clock
  decisions.load(state, internal.ballots)
  return state
end

return M
