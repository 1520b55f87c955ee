local run_stats = require("macp.plane.run_stats")

local T0 = 1767225600000 -- a full minute

local function event(seq, type, data)
  return { seq = seq, type = type, data = data }
end

local NO_DECISION = { decision = {} }

local function applied(events, state)
  local stats = run_stats.new()
  for _, one in ipairs(events) do run_stats.apply(stats, one[1], one[2], state or NO_DECISION) end
  return stats
end

local function stored(stats, seq)
  local rows = {}
  local batch = { add = function(_, text, ...) rows[#rows + 1] = { text:match("into (%S+)"), ... } end }
  run_stats.store(batch, { tenant = "t", id = "r", seq = seq, metrics = { stats = stats } })
  return rows
end

describe("statistics of a run", function()
  it("count messages and signals of their sender", function()
    local stats = applied({
      { event(1, "message.received", { sender = "ann" }), T0 },
      { event(2, "message.received", { sender = "ann" }), T0 + 1 },
      { event(3, "signal.emitted", { sender = "ann", decodedPayload = { confidence = 0.5 } }), T0 + 2 },
      { event(4, "message.received", { sender = "bob" }), T0 + 3 },
      { event(5, "participant.seen", { participantId = "cy" }), T0 + 4 },
    })
    assert.same({ 2, 1, T0 + 2 }, { stats.people.ann.messages, stats.people.ann.signals, stats.people.ann.last_ms })
    assert.equal(1, stats.people.bob.messages)
    assert.is_nil(stats.people.cy)
  end)

  it("average the confidence of signals and evaluations, of nothing else", function()
    local stats = applied({
      { event(1, "signal.emitted", { sender = "ann", decodedPayload = { confidence = 0.5 } }), T0 },
      { event(2, "proposal.updated", { sender = "ann", messageType = "Evaluation",
        decodedPayload = { confidence = 1 } }), T0 },
      { event(3, "proposal.updated", { sender = "ann", messageType = "Vote",
        decodedPayload = { confidence = 0.1 } }), T0 },
      { event(4, "signal.emitted", { sender = "ann", decodedPayload = {} }), T0 },
      { event(5, "signal.emitted", { sender = "ann", decodedPayload = { confidence = 0 / 0 } }), T0 },
      { event(6, "signal.emitted", { sender = "ann", decodedPayload = { confidence = "high" } }), T0 },
    })
    assert.same({ 1.5, 2 }, { stats.people.ann.confidence_sum, stats.people.ann.confidence_n })
  end)

  it("add up what language model calls tell, as far as it is a measurement", function()
    local stats = applied({
      { event(1, "llm.call.completed", { sender = "ann",
        decodedPayload = { promptTokens = 10, completionTokens = 5, latencyMs = 100 } }), T0 },
      { event(2, "llm.call.completed", { sender = "ann",
        decodedPayload = { promptTokens = 1e300, completionTokens = -1, latencyMs = "soon" } }), T0 },
    })
    local ann = stats.people.ann
    assert.same({ 10, 5, 100, 1 }, { ann.prompt_tokens, ann.completion_tokens, ann.latency_ms_sum, ann.latency_n })
  end)

  it("count signals and outcomes in the minute in which they happen", function()
    local stats = applied({
      { event(1, "signal.emitted", { sender = "ann" }), T0 + 59999 },
      { event(2, "signal.emitted", { sender = "ann" }), T0 + 60000 },
    })
    run_stats.apply(stats, event(3, "decision.finalized", {}), T0 + 60001,
      { decision = { current = { outcomePositive = true } } })
    run_stats.apply(stats, event(4, "decision.finalized", {}), T0 + 60002,
      { decision = { current = { outcomePositive = false } } })
    run_stats.apply(stats, event(5, "decision.finalized", {}), T0 + 60003, { decision = { current = {} } })
    assert.same({
      [T0] = { first_seq = 1, seq = 1, signals = 1, decisions = 0, positives = 0, negatives = 0 },
      [T0 + 60000] = { first_seq = 2, seq = 5, signals = 1, decisions = 3, positives = 1, negatives = 1 },
    }, stats.minutes)
  end)

  it("store what changed since the last time only", function()
    local stats = applied({
      { event(1, "message.received", { sender = "ann" }), T0 },
      { event(2, "message.received", { sender = "bob" }), T0 },
    })
    assert.equal(2, #stored(stats, 2))
    assert.equal(0, #stored(stats, 2))
    run_stats.apply(stats, event(3, "message.received", { sender = "bob" }), T0, NO_DECISION)
    local rows = stored(stats, 3)
    assert.equal(1, #rows)
    assert.same({ "run_participant_stats", "t", "r", "bob", 3, 2 }, { unpack(rows[1], 1, 6) })
  end)

  it("continue from stored rows", function()
    local stats = run_stats.restore({ { participant_id = "ann", messages = 7, signals = 1, confidence_sum = 0.5,
      confidence_n = 1, prompt_tokens = 0, completion_tokens = 0, latency_ms_sum = 0, latency_n = 0, last_at = T0 } })
    assert.equal(0, #stored(stats, 9))
    run_stats.apply(stats, event(10, "message.received", { sender = "ann" }), T0 + 5, NO_DECISION)
    assert.same({ 8, T0 + 5 }, { stats.people.ann.messages, stats.people.ann.last_ms })
  end)

  it("P48: neither a name without end nor a NUL in it gets into a row", function()
    local stats = applied({
      { event(1, "message.received", { sender = ("x"):rep(1025) }), T0 },
      { event(2, "message.received", { sender = "a\0b" }), T0 },
    })
    local rows = stored(stats, 2)
    assert.equal(1, #rows)
    assert.equal("a\239\191\189b", rows[1][4])
  end)

  it("keep a bounded number of people", function()
    local stats = run_stats.new()
    for i = 1, 5000 do
      run_stats.apply(stats, event(i, "message.received", { sender = "agent-" .. i }), T0, NO_DECISION)
    end
    assert.equal(4096, stats.count)
    assert.equal(4096, #stored(stats, 5000))
  end)
end)
