-- Proposals, votes and the decision of a run.

local json = require("macp.core.json")
local plain = require("macp.plane.plain")
local ring = require("macp.plane.projection.ring")

local text, number = plain.text, plain.number

local ALLOW = { APPROVE = true, ACCEPT = true, ALLOW = true, YES = true }
local DENY = { REJECT = true, DENY = true, BLOCK = true, NO = true }
local ALLOW_TYPES = { Accept = true, Approve = true, TaskAccept = true, HandoffAccept = true }
local DENY_TYPES = { Reject = true, TaskReject = true, HandoffDecline = true }
-- A message of these types without a vote takes an earlier vote of its sender back.
local BALLOT_TYPES = { Vote = true, Abstain = true }
local POSITIVE = { approve = true, approved = true, accept = true, accepted = true, selected = true, completed = true }
local NEGATIVE = { reject = true, rejected = true, decline = true, declined = true, failed = true }
local DECISION_MODE = "macp.mode.decision.v1"

local M = { PROPOSAL_CAP = 50, TALLY_CAP = 500 }

local EMPTY = {}

local function vote_of(data, payload, message_type)
  if data.action ~= nil then return data.vote end -- the mode's normalizer has spoken
  local word = text(payload.vote) or text(payload.recommendation)
  word = word and word:upper()
  if ALLOW[word] or (word == nil and ALLOW_TYPES[message_type]) then return "allow" end
  if DENY[word] or (word == nil and DENY_TYPES[message_type]) then return "deny" end
  return nil
end

-- One reason as text, several (or none) as a list.
local function reasons_of(payload)
  local reason, rationale, summary = text(payload.reason), text(payload.rationale), text(payload.summary)
  if reason and not rationale and not summary and type(payload.reasons) ~= "table" then return reason end
  local reasons = json.array({})
  for _, value in ipairs({ reason or false, rationale or false, summary or false }) do
    if value then reasons[#reasons + 1] = value end
  end
  if type(payload.reasons) == "table" then
    for _, value in ipairs(payload.reasons) do
      if text(value) then reasons[#reasons + 1] = value end
    end
  end
  return reasons
end

local function action_of(data, payload, message_type)
  return text(data.action) or text(payload.vote) or text(payload.recommendation) or text(payload.action)
    or text(payload.option) or text(payload.revisedAction) or message_type or "contribution"
end

local function confidence_of(data, payload, message_type)
  local confidence = number(data.confidence) or number(payload.confidence)
  if confidence == nil and message_type == "Vote" then return 1.0 end
  return confidence
end

-- Who must vote: the participants with the role `voter`, else everybody but an initiator that was not declared.
local function required_voters(state)
  if state.required_of == #state.participants then return state.required end
  local voters, others = 0, 0
  for _, person in ipairs(state.participants) do
    if person.role == "voter" then
      voters = voters + 1
    elseif person.participantId ~= state.initiator or state.declared[person.participantId] then
      others = others + 1
    end
  end
  state.required, state.required_of = voters > 0 and voters or others, #state.participants
  return state.required
end

-- The votes cast on one proposal: by ballot, and by evaluation.
local function ballots_of(state, proposal_id)
  local ballots = state.ballots[proposal_id]
  if ballots == nil then
    ballots = { votes = {}, evaluations = {}, allow = 0, deny = 0, eval_allow = 0, eval_deny = 0 }
    state.ballots[proposal_id] = ballots
    local evicted = state.ballot_order:push(proposal_id)
    if evicted then state.ballots[evicted] = nil end
  end
  return ballots
end

local FIELDS = {
  votes = { allow = "allow", deny = "deny" }, evaluations = { allow = "eval_allow", deny = "eval_deny" },
}

-- Replaces what `sender` said before; keeps the counts of the proposal and of the run.
local function cast(state, ballots, kind, sender, vote)
  local before = ballots[kind][sender]
  if before == vote then return end
  ballots[kind][sender] = vote
  local fields = FIELDS[kind]
  if before then
    ballots[fields[before]] = ballots[fields[before]] - 1
    state.said[before] = state.said[before] - 1
  end
  if vote then
    ballots[fields[vote]] = ballots[fields[vote]] + 1
    state.said[vote] = state.said[vote] + 1
  end
end

local function tally(state, proposal_id, ballots)
  local entry = ballots.entry
  if entry == nil then
    entry = { commitmentId = proposal_id, quorum = {} }
    ballots.entry = entry
  end
  if next(ballots.votes) ~= nil then
    entry.allow, entry.deny = ballots.allow, ballots.deny
  else
    entry.allow, entry.deny = ballots.eval_allow, ballots.eval_deny
  end
  entry.quorum.required = required_voters(state)
  entry.quorum.cast = entry.allow + entry.deny
  entry.threshold = ballots.required_approvals or math.ceil(entry.quorum.required / 2)
  if state.policy.quorumStatus == nil then state.policy.quorumStatus = "pending" end
end

local function count_vote(state, proposal_id, message_type, sender, vote)
  if vote == nil and not (BALLOT_TYPES[message_type] and state.ballots[proposal_id]) then return end
  local ballots = ballots_of(state, proposal_id)
  cast(state, ballots, message_type == "Evaluation" and "evaluations" or "votes", sender, vote)
  tally(state, proposal_id, ballots)
end

local function ratio(state)
  local said = state.said.allow + state.said.deny
  return said > 0 and state.said.allow / said or nil
end

local function payload_of(data) return plain.payload(data) or EMPTY end

---What a message says about a proposal when only its type and payload are known.
---@param payload table its fields
---@return string action
---@return "allow"|"deny"|nil vote
---@return number|nil confidence
function M.contribution(payload, message_type)
  return action_of(EMPTY, payload, message_type), vote_of(EMPTY, payload, message_type),
    confidence_of(EMPTY, payload, message_type)
end

---Share of those in favour among all who took a side so far, nil when nobody did.
function M.confidence(state) return ratio(state) end

---proposal.created and proposal.updated
function M.proposal(state, event)
  local data = event.data
  local payload = payload_of(data)
  local message_type, sender = text(data.messageType), data.sender or ""
  local vote = vote_of(data, payload, message_type)
  local proposal_id = text(payload.proposalId) or text(payload.requestId) or event.subject_id or ""
  if message_type == "ApprovalRequest" and number(payload.requiredApprovals) then
    ballots_of(state, proposal_id).required_approvals = payload.requiredApprovals
  end
  state.proposals:push(sender, action_of(data, payload, message_type), confidence_of(data, payload, message_type),
    reasons_of(payload), event.ts, vote, message_type)
  local current = state.decision.current
  if current == nil then
    current = {}
    state.decision.current = current
  end
  if proposal_id ~= "" then count_vote(state, proposal_id, message_type, sender, vote) end
  if current.finalized then return end
  current.action = proposal_id ~= "" and proposal_id or event.subject_id or "proposal"
  current.confidence = ratio(state) or number(payload.confidence) or number(data.confidence) or current.confidence
  current.reasons = { text(payload.reason) or text(payload.summary) or text(payload.rationale) or event.type }
  current.finalized = false
  current.proposalId = proposal_id
end

local function outcome_of(state, payload, action)
  local outcome = payload.outcomePositive
  if outcome == nil then outcome = payload.outcome_positive end
  if type(outcome) == "boolean" then return outcome end
  local word = action:match("([^%.]+)$")
  word = word and word:lower()
  if POSITIVE[word] then return true end
  if NEGATIVE[word] then return false end
  if state.run.modeName == DECISION_MODE then return false end
  return json.null
end

local function supersedes_of(payload)
  local supersedes = payload.supersedes
  if type(supersedes) ~= "table" then return nil end
  local session = supersedes.sessionId or supersedes.session_id or ""
  local hash = supersedes.commitmentHash or supersedes.commitment_hash or ""
  if session == "" and hash == "" then return nil end
  return { sessionId = session, commitmentHash = hash }
end

---decision.finalized
function M.finalize(state, event)
  local data = event.data
  local payload = payload_of(data)
  local previous = state.decision.current or {}
  local action = text(payload.action) or "resolved"
  local outcome = outcome_of(state, payload, action)
  state.decision.current = {
    action = action, confidence = number(payload.confidence) or ratio(state) or previous.confidence,
    reasons = { text(payload.reason) or "Commitment observed" }, finalized = true, outcomePositive = outcome,
    proposalId = text(payload.commitmentId) or previous.proposalId or "", prompt = previous.prompt,
    resolvedAt = event.ts, resolvedBy = data.sender, supersedes = supersedes_of(payload),
  }
  state.run.status = "completed"
  local policy = state.policy
  policy.outcomePositive = outcome
  policy.resolvedAt = policy.resolvedAt or event.ts
  if policy.quorumStatus == nil or policy.quorumStatus == "pending" then
    policy.quorumStatus = outcome == false and "failed" or "reached"
  end
end

---The vote tally in the order in which proposals got their first vote.
function M.vote_tally(state)
  local out = {}
  for _, proposal_id in ipairs(state.ballot_order:items()) do
    local ballots = state.ballots[proposal_id]
    if ballots and ballots.entry then out[#out + 1] = ballots.entry end
  end
  return out
end

---What the fold must remember of the votes, as plain data (the totals stand for evicted proposals too).
function M.dump(state)
  local list = json.array({})
  for _, proposal_id in ipairs(state.ballot_order:items()) do
    local ballots = state.ballots[proposal_id]
    list[#list + 1] = {
      id = proposal_id, votes = json.object(ballots.votes), evaluations = json.object(ballots.evaluations),
      requiredApprovals = ballots.required_approvals, entry = ballots.entry,
    }
  end
  return { said = { allow = state.said.allow, deny = state.said.deny }, proposals = list }
end

---Restores what dump gave.
function M.load(state, stored)
  state.ballot_order = ring.new(M.TALLY_CAP)
  for _, item in ipairs(stored.proposals) do
    local ballots = ballots_of(state, item.id)
    for _, kind in ipairs({ "votes", "evaluations" }) do
      for sender, vote in pairs(item[kind] or {}) do cast(state, ballots, kind, sender, vote) end
    end
    ballots.required_approvals, ballots.entry = item.requiredApprovals, item.entry
  end
  state.said.allow, state.said.deny = stored.said.allow, stored.said.deny
end

return M
