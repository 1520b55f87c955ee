-- Normalization: envelopes in, canonical events out.

local crypto = require("host.crypto")

local json = require("macp.core.json")
local messages = require("macp.protocol.messages")

local batches = require("macp.plane.batch")
local normalize = require("macp.plane.normalize")
local prices = require("macp.plane.prices")
local run_module = require("macp.plane.run")

local RUN = "7d444840-9dc0-4dc5-9a3e-3f0a30d7a1c4"
local SESSION = "4f0f5c0e-6c1c-4c55-9a67-2f6d1f0b9a11"
local NOW = 1770112800000

-- A run without a mode, whose events can be looked at.
local function new_run(rev)
  local writer = { open = batches.new(), owner = { prices = prices.none() } }
  writer.owner.prices:use(assert(prices.parse('{"date":"2026-01-31","currency":"USD","perTokens":1000000,"models":{'
    .. '"gpt-4o":{"prompt":2.5,"completion":10}}}')))
  function writer:open_for(run)
    self.open:own(run)
    return self.open
  end
  local run = run_module.new({ tenant = "default", id = RUN, session_id = SESSION, kind = "rust", status = "running",
    trace_id = ("ab"):rep(16), created_ms = NOW }, writer)
  run:bind({ mode_name = "macp.mode.decision.v1", participants = { "ann" }, initiator = "lead" }, rev)
  run.rev_started = rev ~= nil
  return run
end

local function envelope(message_type, payload, fields)
  local env = { macp_version = "1.0", mode = "macp.mode.decision.v1", message_type = message_type, message_id = "m-1",
    session_id = SESSION, sender = "ann", timestamp_unix_ms = NOW, payload = payload or "" }
  for key, value in pairs(fields or {}) do env[key] = value end
  return env
end

local function core(message_type, fields)
  return (assert(messages.codec(messages.core_payload(message_type)):encode(fields)))
end

-- The events that an envelope becomes, decoded.
local function events_of(env, rev, t)
  local run = new_run(rev)
  normalize.envelope(run, env, NOW, t or 0, NOW)
  local out = {}
  for i, document in ipairs(run.writer.open.by_run[run].documents) do out[i] = assert(json.decode(document)) end
  return out, run
end

local function types(events)
  local out = {}
  for i, event in ipairs(events) do out[i] = event.type end
  return out
end

local function find(events, event_type)
  for _, event in ipairs(events) do
    if event.type == event_type then return event end
  end
  return nil
end

describe("an event", function()
  it("has the nested shape, ascending numbers and the same id whenever it is told", function()
    local events = events_of(envelope("SessionStart", core("SessionStart", { participants = { "ann", "bob" } })))
    assert.same({ "participant.seen", "message.received" }, types(events))
    local seen = events[1]
    assert.same({ runId = RUN, seq = 1, ts = "2026-02-03T10:00:00.000Z", schemaVersion = 3,
      subject = { kind = "participant", id = "ann" }, source = { kind = "runtime", name = "rust-runtime" },
      trace = { traceId = ("ab"):rep(16) }, data = { participantId = "ann" } },
      { runId = seen.runId, seq = seen.seq, ts = seen.ts, schemaVersion = seen.schemaVersion, subject = seen.subject,
        source = seen.source, trace = seen.trace, data = seen.data })
    assert.equal(36, #seen.id)
    assert.equal(seen.id, events_of(envelope("SessionStart"))[1].id)
    assert.equal(2, events[2].seq)
    assert.not_equal(seen.id, events[2].id)
  end)

  it("tells a participant once", function()
    local _, run = events_of(envelope("SessionStart"))
    normalize.envelope(run, envelope("Other", "", { message_id = "m-2" }), NOW, NOW)
    local seen = 0
    for _, document in ipairs(run.writer.open.by_run[run].documents) do
      if json.decode(document).type == "participant.seen" then seen = seen + 1 end
    end
    assert.equal(1, seen)
  end)
end)

describe("payloads", function()
  it("of core types are decoded with lowerCamelCase names, only what was sent", function()
    local event = find(events_of(envelope("SessionStart",
      core("SessionStart", { intent = "ship", participants = { "ann" }, ttl_ms = 60000 }))), "message.received")
    assert.same({ intent = "ship", participants = { "ann" }, ttlMs = 60000 }, event.data.payload)
  end)

  it("of unknown types are shown as JSON, as text, or as text with the bytes", function()
    local shown = find(events_of(envelope("Mystery", '{"a":[]}')), "message.received").data.payload
    assert.equal("json", shown.encoding)
    assert.equal("[]", json.encode(shown.json.a))
    shown = find(events_of(envelope("Mystery", "\255\254")), "message.received").data.payload
    assert.same({ text = "\239\191\189\239\191\189", encoding = "text", payloadBase64 = "//4=" }, shown)
    shown = find(events_of(envelope("Mystery", "")), "message.received").data.payload
    assert.same({ payloadBase64 = "" }, shown)
    assert.same({}, find(events_of(envelope("ToolCall", "")), "tool.called").data.decodedPayload)
  end)

  it("that start with a brace are taken as the JSON of a core type", function()
    local event = find(events_of(envelope("Commitment", '{"commitmentId":"C","action":"go"}')), "decision.finalized")
    assert.same({ kind = "decision", id = "C" }, event.subject)
    assert.equal("go", event.data.decodedPayload.action)
  end)

  it("never carry U+0000 into stored text", function()
    local events, run = events_of(envelope("SessionStart", core("SessionStart", { intent = "a\0b\\u0000c" })))
    assert.equal("a\239\191\189b\\u0000c", find(events, "message.received").data.payload.intent)
    for _, document in ipairs(run.writer.open.by_run[run].documents) do
      assert.is_nil(document:gsub("\\\\", ""):find("\\u0000", 1, true))
    end
  end)
end)

describe("ambient messages", function()
  it("become signals, their data decoded beside the base64", function()
    local data = '{"level":3}'
    local event = find(events_of(envelope("Signal",
      core("Signal", { signal_type = "budget.low", data = data, confidence = 0.5 }))), "signal.emitted")
    assert.same({ kind = "signal", id = "m-1" }, event.subject)
    assert.equal("budget.low", event.data.name)
    assert.same({ signalType = "budget.low", data = crypto.base64_encode(data), confidence = 0.5,
      dataJson = { level = 3 } }, event.data.decodedPayload)
  end)

  it("tell progress once, as a percentage", function()
    for _, case in ipairs({
      { { progress = 0.25, total = 1 }, 25 }, { { progress = 30, total = 40 }, 75 }, { { progress = 9, total = 3 },
        100 },
      { { progress = 0.5 }, 50 }, { { progress = 80 }, 80 },
    }) do
      local events = events_of(envelope("Progress", core("Progress", case[1])))
      local told = {}
      for _, event in ipairs(events) do
        if event.type == "progress.reported" then told[#told + 1] = event end
      end
      assert.equal(1, #told)
      assert.same({ kind = "participant", id = "ann" }, told[1].subject)
      assert.equal(case[2], told[1].data.decodedPayload.percentage)
    end
  end)

  it("that tell a failed task without a reason say so", function()
    for _, payload in ipairs({ '{"reason":""}', '{"reason":7}', "{}" }) do
      assert.equal("failed", find(events_of(envelope("TaskFail", payload)), "progress.reported").data.message)
    end
  end)

  it("count language model calls with their cost, counts inside and outside of tokenUsage merged", function()
    local data = '{"model":"gpt-4o-2024-08-06","latencyMs":12,'
      .. '"tokenUsage":{"promptTokens":1000,"completion_tokens":500}}'
    local events, run = events_of(envelope("Signal",
      core("Signal", { signal_type = "llm.call.completed", data = data })))
    assert.same({ "participant.seen", "message.received", "llm.call.completed", "signal.emitted" }, types(events))
    local told = find(events, "llm.call.completed").data.decodedPayload
    assert.same({ 1000, 500, 1500, 12 },
      { told.promptTokens, told.completionTokens, told.totalTokens, told.latencyMs })
    assert.near(0.0075, told.estimatedCostUsd, 1e-9)
    assert.equal("2026-01-31", told.priceListDate)
    assert.near(0.0075, run.metrics.estimated_cost_usd, 1e-9)
    assert.equal(1500, run.metrics.total_tokens)
    assert.equal(1, run.state.llm.callCount)
  end)

  -- What one LLM signal is told as, and the run's sums.
  local function told_of(data)
    local events, run = events_of(envelope("Signal", core("Signal",
      { signal_type = "llm.call.completed", data = data })))
    local event = find(events, "llm.call.completed")
    return event and event.data.decodedPayload, run
  end

  it("P36: price no model that is not on the list, and believe what the agent paid", function()
    local unknown, run = told_of('{"model":"other-1","tokenUsage":{"promptTokens":100,"completionTokens":50}}')
    assert.is_nil(unknown.estimatedCostUsd)
    assert.is_nil(unknown.priceListDate)
    assert.same({ 150, 0 }, { run.metrics.total_tokens, run.metrics.estimated_cost_usd })
    local paid
    paid, run = told_of('{"model":"gpt-4o","promptTokens":100,"completionTokens":50,"estimatedCostUsd":0.5}')
    assert.same({ 0.5, 0.5, 0.5 },
      { paid.estimatedCostUsd, run.metrics.estimated_cost_usd, run.state.llm.estimatedCostUsd })
    assert.is_nil(paid.priceListDate)
    local listed = told_of('{"model":"gpt-4o","promptTokens":100,"completionTokens":50,"estimatedCostUsd":-1}')
    assert.near(0.00075, listed.estimatedCostUsd, 1e-12)
  end)

  it("take no nonsense for numbers", function()
    local told, run = told_of('{"model":"m","promptTokens":-3,"completionTokens":"7","latencyMs":"soon"}')
    assert.same({ 0, 0, 0 }, { told.promptTokens, told.completionTokens, told.totalTokens })
    assert.is_nil(told.latencyMs)
    assert.equal(0, run.metrics.total_tokens)
    assert.is_nil((told_of('{"note":"no usage in it"}')))
    for _, case in ipairs({
      { '"promptTokens":1e300,"completionTokens":5', 0, 5 }, { '"promptTokens":10.9', 10, 0 },
      { '"promptTokens":0.5,"completionTokens":1000000000', 0, 1000000000 },
      { '"promptTokens":1000000001', 0, 0 }, { '"promptTokens":-1e308,"completionTokens":"9"', 0, 0 },
      { '"prompt_tokens":7,"completion_tokens":8,"latency_ms":1e300,"estimatedCostUsd":1e300', 7, 8 },
      { '"promptTokens":[1],"completionTokens":{"a":1},"latencyMs":true,"estimatedCostUsd":"1"', 0, 0 },
    }) do
      told, run = told_of('{"model":"m",' .. case[1] .. "}")
      assert.same({ case[2], case[3], case[2] + case[3] },
        { told.promptTokens, told.completionTokens, told.totalTokens }, case[1])
      assert.same({ case[2], case[3], 0, told.totalTokens, 0 }, { run.metrics.prompt_tokens,
        run.metrics.completion_tokens, run.metrics.estimated_cost_usd, run.state.llm.totalTokens,
        run.state.llm.estimatedCostUsd })
      assert.is_nil(told.latencyMs)
      assert.is_nil(told.estimatedCostUsd)
    end
  end)

  it("count usage that a payload tells at its top, once", function()
    local events, run = events_of(envelope("Vote", '{"promptTokens":7,"completion_tokens":3,"estimatedCostUsd":0.5}'))
    assert.same({ "participant.seen", "message.received", "proposal.updated" }, types(events))
    assert.same({ 7, 3, 10, 0.5 }, { run.metrics.prompt_tokens, run.metrics.completion_tokens,
      run.metrics.total_tokens, run.metrics.estimated_cost_usd })
    events, run = events_of(envelope("Vote", '{"promptTokens":7,"tokenUsage":{"promptTokens":5,"model":"m"}}'))
    assert.is_not_nil(find(events, "llm.call.completed"))
    assert.equal(5, run.metrics.total_tokens)
  end)

  it("find usage inside payloads of types that nobody knows", function()
    local events, run = events_of(envelope("Note", '{"metadata":{"tokenUsage":{"promptTokens":7,"model":"gpt-4o"}}}'))
    assert.same({ "participant.seen", "message.received", "llm.call.completed" }, types(events))
    assert.equal(7, run.metrics.prompt_tokens)
  end)
end)

describe("message types that mean the same in every mode", function()
  for _, case in ipairs({
    { "SignalAck", '{"signalId":"s9"}', "signal.acknowledged", "signal", "s9" },
    { "PolicyResolved", '{"policyId":"p1"}', "policy.resolved", "policy", "p1" },
    { "PolicyCommitmentEvaluated", '{"commitmentId":"c1","decision":"deny"}', "policy.commitment.evaluated",
      "policy", "c1" },
    { "PolicyDenied", "{}", "policy.denied", "policy", "" },
    { "ToolRequest", '{"toolCallId":"t1"}', "tool.called", "tool", "t1" },
    { "TOOLOUTPUT", "{}", "tool.completed", "tool", "m-1" },
  }) do
    it(case[1] .. " becomes one " .. case[3], function()
      local found = {}
      for _, event in ipairs(events_of(envelope(case[1], case[2]))) do
        if event.type == case[3] then found[#found + 1] = event end
      end
      assert.equal(1, #found)
      assert.same({ kind = case[4], id = case[5] }, found[1].subject)
    end)
  end

  it("turns the runtime's own records into states of the session", function()
    local event = find(events_of(envelope("SessionCancel", core("SessionCancel", { reason = "late",
      cancelled_by = "lead" }))),
      "session.state.changed")
    assert.same({ sessionId = SESSION, state = "SESSION_STATE_CANCELLED", reason = "late", by = "lead" }, event.data)
  end)
end)

describe("a mode's revision", function()
  local function revision(answer)
    return {
      describe = function() return { messages = { Bid = {} } } end,
      is_reserved_id = function() return false end,
      observe = function(_, ...) return answer(...) end,
    }
  end

  it("reads its own messages and names contribution, vote and subject", function()
    local rev = revision(function(key, message_type, sender, payload, t, message_id, time)
      assert.same({ RUN, "Bid", "ann", "bytes", 0, "m-1", "2026-02-03T10:00:00.000Z" },
        { key, message_type, sender, payload, t, message_id, time })
      return '{"amount":5}', { { type = "proposal.updated", kind = "proposal", id = "L", label = "bids 5",
        vote = "allow",
        confidence = 0.5 } }
    end)
    local events, run = events_of(envelope("Bid", "bytes"), rev)
    assert.same({ amount = 5 }, find(events, "message.received").data.payload)
    local derived = find(events, "proposal.updated")
    assert.same({ kind = "proposal", id = "L" }, derived.subject)
    assert.same({ "bids 5", "allow", 0.5, "L", { amount = 5 } }, { derived.data.action, derived.data.vote,
      derived.data.confidence, derived.data.proposalId, derived.data.decodedPayload })
    assert.equal("bids 5", run.state.proposals:items()[1].action)
  end)

  it("that cannot read a message leaves it to the general reading", function()
    local rev = revision(function() return nil, {}, "apply failed" end)
    local events, run = events_of(envelope("Bid", "raw"), rev)
    assert.same({ text = "raw", encoding = "text", payloadBase64 = "cmF3" }, find(events,
      "message.received").data.payload)
    assert.is_true(run.degraded)
  end)

  it("that is written as a JSON object is that object", function()
    local rev = revision(function() return nil, {}, "no protobuf" end)
    rev.describe = function() return { messages = { Vote = {}, Bid = {} } } end
    local events = events_of(envelope("Vote", '{"proposalId":"p1","vote":"APPROVE","encoding":"x"}'), rev)
    local payload = { proposalId = "p1", vote = "APPROVE", encoding = "x" }
    assert.same(payload, find(events, "message.received").data.payload)
    local derived = find(events, "proposal.updated")
    assert.same({ { kind = "proposal", id = "p1" }, "allow", payload },
      { derived.subject, derived.data.vote, derived.data.decodedPayload })
    events = events_of(envelope("Bid", "[1]"), rev)
    assert.same({ json = { 1 }, encoding = "json" }, find(events, "message.received").data.payload)
  end)
end)

describe("stream frames", function()
  it("make an inline denial a failed send and a denied policy", function()
    local run = new_run()
    normalize.inline_error(run, { code = "POLICY_DENIED", message = "no quorum", session_id = SESSION,
      message_id = "x" }, NOW)
    local documents = run.writer.open.by_run[run].documents
    assert.equal("message.send_failed", json.decode(documents[1]).type)
    assert.same({ decision = "deny", reasons = { "no quorum" } }, json.decode(documents[2]).data.decodedPayload)
    assert.equal(1, run.state.outbound.rejected)
  end)

  it("tell the state of the stream with a number of its own for what was received", function()
    local run = new_run()
    normalize.stream_status(run, "reconnecting", "gone", NOW)
    local entry = run.writer.open.by_run[run]
    assert.equal(2, entry.seqs[1])
    assert.same({ sessionId = SESSION, status = "reconnecting", detail = "gone" }, json.decode(entry.documents[1]).data)
    assert.equal(1, run.metrics.stream_reconnect_count)
  end)
end)

describe("a run", function()
  it("knows the last 1024 message ids", function()
    local run = new_run()
    for i = 1, 1024 do assert.is_false(run:is_duplicate("id" .. i)) end
    assert.is_true(run:is_duplicate("id1"))
    for i = 1025, 3000 do assert.is_false(run:is_duplicate("id" .. i)) end
    assert.is_true(run:is_duplicate("id2500"))
  end)

  it("takes the sender's time, but never backwards nor from the future", function()
    local run = new_run()
    run.session.started_ms = 1000
    for _, case in ipairs({ { 500, 5000, 1000 }, { 2000, 5000, 2000 }, { 1500, 5000, 2000 }, { 9000, 5000, 5000 },
        { 0, 6000, 6000 } }) do
      assert.same({ case[3] - 1000, case[3] }, { run:session_time(case[1], case[2]) })
    end
  end)
end)
