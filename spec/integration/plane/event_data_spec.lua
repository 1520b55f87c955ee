-- Members of events that readers of the data model rely on, whatever mode a message is of: contributions in the words of
-- their payloads, the payload's type, and the kinds of what was received.

local crypto = require("host.crypto")

local decisions = require("macp.plane.projection.decisions")
local mode_registry = require("macp.modes.registry")

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")

local TOKENS = [=[[{"token":"boss","sender":"boss","can_manage_mode_registry":true},{"token":"ann","sender":"ann"},
  {"token":"plane","sender":"plane","is_observer":true}]]=]

local REGISTERED = { mode = "ext.chat.v1", mode_version = "1.0.0", message_types = { "SessionStart", "Ping", "Vote",
  "Commitment" }, terminal_message_types = { "Commitment" } }

-- Messages of each mode: { sender, type, fields }, or bytes where nobody has a codec; the session ends with a commitment.
local SESSIONS = {
  ["macp.mode.decision.v1"] = {
    { "ann", "Proposal", { proposal_id = "p1", option = "ship" } },
    { "ann", "Evaluation", { proposal_id = "p1", recommendation = "block", confidence = 0.5 } },
    { "ann", "Objection", { proposal_id = "p1", reason = "late", severity = "high" } },
    { "ann", "Vote", { proposal_id = "p1", vote = "approve" } },
  },
  ["macp.mode.proposal.v1"] = {
    { "ann", "Proposal", { proposal_id = "p1", title = "one" } },
    { "boss", "CounterProposal", { proposal_id = "p2", supersedes_proposal_id = "p1", title = "two" } },
    { "ann", "Accept", { proposal_id = "p2" } }, { "boss", "Accept", { proposal_id = "p2" } },
  },
  ["macp.mode.task.v1"] = {
    { "boss", "TaskRequest", { task_id = "t1", title = "do it" } }, { "ann", "TaskAccept", { task_id = "t1" } },
    { "ann", "TaskUpdate", { task_id = "t1", status = "working", progress = 0.5 } },
    { "ann", "TaskComplete", { task_id = "t1", summary = "done" } },
  },
  ["macp.mode.handoff.v1"] = {
    { "boss", "HandoffOffer", { handoff_id = "h1", target_participant = "ann" } },
    { "ann", "HandoffAccept", { handoff_id = "h1" } },
  },
  ["macp.mode.quorum.v1"] = {
    { "boss", "ApprovalRequest", { request_id = "q1", action = "deploy", required_approvals = 1 } },
    { "ann", "Approve", { request_id = "q1" } },
  },
  ["ext.multi_round.v1"] = {
    { "ann", "Contribute", { value = "blue" } }, { "boss", "Contribute", { value = "blue" } },
  },
  ["ext.chat.v1"] = {
    { "ann", "Ping", "" }, { "ann", "Vote", '{"proposalId":"p1","vote":"APPROVE"}' },
  },
}

describe("the data of events", function()
  local rig, registry
  local events = {} -- by mode

  local function send(token, mode, id, message_type, payload)
    rig:send(token, id, message_type, payload, nil, mode)
  end

  local function play(mode, steps, policy)
    local id = crypto.uuid4()
    send("boss", mode, id, "SessionStart", client.payload("macp.v1.SessionStartPayload", { intent = "pick",
      participants = { "ann", "boss" }, ttl_ms = 600000, mode_version = "1.0.0",
      configuration_version = "config.default", policy_version = policy }))
    for _, step in ipairs(steps) do
      local payload = step[3]
      if type(payload) == "table" then payload = assert(registry:get(mode):codec(step[2]):encode(payload)) end
      send(step[1], mode, id, step[2], payload)
    end
    return id
  end

  local function commit(mode, id)
    send("boss", mode, id, "Commitment", client.payload("macp.v1.CommitmentPayload", { commitment_id = "c1",
      action = "all.completed", authority_scope = "team", reason = "agreed", outcome_positive = true,
      mode_version = "1.0.0", configuration_version = "config.default" }))
  end

  setup(function()
    registry = mode_registry.new({ dirs = {}, depth = "off" })
    assert(registry:load_all())
    rig = plane_rig.start({ runtime_env = { MACP_AUTH_TOKENS_JSON = TOKENS } })
    assert.is_true(assert(rig.runtime:call("boss", "RegisterExtMode", { mode_descriptor = REGISTERED })).ok)
    local ids = {}
    for mode, steps in pairs(SESSIONS) do
      ids[mode] = play(mode, steps)
      commit(mode, ids[mode])
    end
    for mode, id in pairs(ids) do
      rig:await(id, "completed", 10000)
      events[mode] = rig:events(id)
    end
  end)

  teardown(function()
    if rig then rig:destroy() end
    registry:close()
  end)

  it("says of a contribution what its payload says, else the message's type", function()
    local actions = {}
    for mode, list in pairs(events) do
      for _, event in ipairs(list) do
        local data = event.data
        if event.type:find("^proposal%.") then
          local action, vote, confidence = decisions.contribution(data.decodedPayload.json or data.decodedPayload,
            data.messageType)
          assert.same({ action, vote or false, confidence or false },
            { data.action, data.vote or false, data.confidence or false }, mode)
          actions[mode .. " " .. data.messageType] = data.action
        end
      end
    end
    assert.same({
      ["macp.mode.decision.v1 Proposal"] = "ship", ["macp.mode.decision.v1 Evaluation"] = "BLOCK",
      ["macp.mode.decision.v1 Objection"] = "Objection", ["macp.mode.decision.v1 Vote"] = "APPROVE",
      ["macp.mode.proposal.v1 Proposal"] = "Proposal", ["macp.mode.proposal.v1 CounterProposal"] = "CounterProposal",
      ["macp.mode.proposal.v1 Accept"] = "Accept", ["macp.mode.task.v1 TaskRequest"] = "TaskRequest",
      ["macp.mode.task.v1 TaskAccept"] = "TaskAccept", ["macp.mode.task.v1 TaskUpdate"] = "TaskUpdate",
      ["macp.mode.task.v1 TaskComplete"] = "TaskComplete", ["macp.mode.handoff.v1 HandoffOffer"] = "HandoffOffer",
      ["macp.mode.handoff.v1 HandoffAccept"] = "HandoffAccept", ["macp.mode.quorum.v1 ApprovalRequest"] = "deploy",
      ["macp.mode.quorum.v1 Approve"] = "Approve", ["ext.multi_round.v1 Contribute"] = "Contribute",
      ["ext.chat.v1 Vote"] = "APPROVE",
    }, actions)
  end)

  it("names the type that a payload was decoded as, where there is one", function()
    local names = {}
    for mode, list in pairs(events) do
      for _, event in ipairs(list) do
        local data = event.data
        if data.decodedPayload then
          names[mode .. " " .. event.type .. " " .. data.messageType] = data.payloadTypeName or "none"
        end
      end
    end
    local told = {}
    for i, key in ipairs({ "macp.mode.decision.v1 proposal.updated Vote",
      "macp.mode.task.v1 proposal.created TaskRequest", "macp.mode.task.v1 progress.reported TaskUpdate",
      "ext.multi_round.v1 proposal.updated Contribute", "macp.mode.quorum.v1 decision.finalized Commitment",
      "ext.chat.v1 decision.finalized Commitment", "ext.chat.v1 proposal.updated Vote" }) do
      told[i] = names[key]
    end
    assert.same({ "macp.modes.decision.v1.VotePayload", "macp.modes.task.v1.TaskRequestPayload", "none",
      "macp.modes.multi_round.v1.ContributePayload", "macp.v1.CommitmentPayload", "macp.v1.CommitmentPayload", "none" },
      told)
  end)

  it("has a payload also where nothing was sent", function()
    for _, event in ipairs(events["ext.chat.v1"]) do
      if event.type == "message.received" and event.data.messageType == "Ping" then
        assert.same({ payloadBase64 = "" }, event.data.payload)
        return
      end
    end
    error("no Ping")
  end)

  it("tells which policy a session is bound to, and its rules", function()
    local mode = "macp.mode.decision.v1"
    local id = play(mode, {}, "policy.std.majority")
    rig:await(id, "running")
    local resolved = {}
    eventually(function()
      resolved = {}
      for _, event in ipairs(rig:events(id)) do
        if event.type == "policy.resolved" then resolved[#resolved + 1] = event end
      end
      return #resolved > 0
    end, 5000, "the policy")
    local _, known = rig:get("/runtime/policies/policy.std.majority")
    local event = resolved[1]
    assert.same({ 1, { kind = "policy", id = "policy.std.majority" }, "macp-control-plane", "policy.std.majority" },
      { #resolved, event.subject, event.source.kind, event.data.policyVersion })
    assert.same({ policyId = "policy.std.majority", policyVersion = "policy.std.majority",
      schemaVersion = known.schemaVersion, description = known.description, rules = known.rules },
      event.data.decodedPayload)
    local _, state = rig:get("/runs/" .. id .. "/state")
    assert.same({ "policy.std.majority", known.description, event.ts },
      { state.policy.policyVersion, state.policy.policyDescription, state.policy.resolvedAt })
    for _, list in pairs(events) do -- of sessions that named none
      for _, other in ipairs(list) do assert.not_equal("policy.resolved", other.type) end
    end
  end)

  it("comes from envelopes, whichever stream they came by", function()
    local mode = "macp.mode.decision.v1"
    local id = play(mode, {})
    rig:await(id, "running")
    send("ann", "", "", "Signal", client.payload("macp.v1.SignalPayload", { signal_type = "note",
      correlation_session_id = id, data = "x" }))
    eventually(function()
      local _, state = rig:get("/runs/" .. id .. "/state")
      return #state.signals.signals == 1
    end, 5000, "the signal")
    local signal
    for _, event in ipairs(rig:events(id)) do
      if event.type == "signal.emitted" then signal = event end
    end
    assert.equal("macp.v1.SignalPayload", signal.data.payloadTypeName)
    local _, bundle = rig:get("/runs/" .. id .. "/export?includeRaw=true")
    local kinds = {}
    for _, raw in ipairs(bundle.rawEvents) do
      assert.equal(raw.kind, raw.payload.kind)
      local message_type = raw.payload.envelope and raw.payload.envelope.messageType or ""
      kinds[#kinds + 1] = raw.kind .. " " .. message_type
    end
    table.sort(kinds)
    assert.same({ "stream-envelope SessionStart", "stream-envelope Signal", "stream-status " }, kinds)
  end)
end)
