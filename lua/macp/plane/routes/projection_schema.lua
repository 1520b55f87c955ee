-- The schema of a run's projection: what plane/projection/state.lua renders, and the mode's view beside it.

local shape = require("macp.plane.routes.shape")

local object, list = shape.object, shape.list
local TEXT, TEXTS, FLAG = shape.TEXT, shape.TEXTS, shape.FLAG
local NUMBER, COUNT, DATE = shape.NUMBER, shape.COUNT, shape.DATE

local RUN = object("ProjectedRun", { runId = TEXT, status = TEXT }, {
  runtimeSessionId = TEXT, startedAt = TEXT, endedAt = TEXT, traceId = TEXT, modeName = TEXT, contextId = TEXT,
  extensionKeys = TEXTS,
})

local PARTICIPANT = object("ProjectedParticipant", { participantId = TEXT, status = { type = "string",
  enum = { "idle", "waiting", "active", "completed", "failed", "skipped" } } },
  { role = TEXT, latestActivityAt = DATE, latestSummary = TEXT })

local GRAPH = object("ProjectedGraph", {
  nodes = list(object(nil, { id = TEXT, kind = TEXT, status = TEXT })),
  edges = list(object(nil, { from = TEXT, to = TEXT, kind = TEXT, ts = DATE })),
})

local CONTRIBUTION = object("Contribution", { participantId = TEXT, messageType = TEXT, ts = DATE }, {
  action = TEXT, vote = { type = "string", enum = { "allow", "deny" } }, confidence = NUMBER, reasons = TEXTS,
})

local SUPERSEDES = shape.ANY_OBJECT

local DECISION = object("ProjectedDecision", {}, {
  current = object(nil, { action = TEXT, finalized = FLAG }, {
    confidence = NUMBER, reasons = TEXTS, proposalId = TEXT, outcomePositive = FLAG, prompt = TEXT, resolvedAt = DATE,
    resolvedBy = TEXT, supersedes = SUPERSEDES, proposals = list(CONTRIBUTION),
  }),
})

local SIGNAL = object("ProjectedSignal", { id = TEXT, name = TEXT, ts = DATE }, {
  severity = TEXT, sourceParticipantId = TEXT, confidence = NUMBER, payload = shape.ANY_OBJECT, acknowledgedAt = DATE,
  acknowledgedBy = TEXT,
})

local PROGRESS = object("ProgressEntry", { participantId = TEXT, message = TEXT, ts = DATE }, { percentage = NUMBER })

local TIMELINE = object("Timeline", {
  latestSeq = COUNT, totalEvents = COUNT,
  recent = list(object(nil, { id = shape.UUID, seq = COUNT, ts = DATE, type = TEXT },
    { subject = object(nil, { kind = TEXT, id = TEXT }) })),
})

local TALLY = object("VoteTally", { commitmentId = TEXT, allow = COUNT, deny = COUNT, quorum = shape.ANY_OBJECT },
  { threshold = NUMBER })

local POLICY = object("ProjectedPolicy", {
  policyVersion = TEXT,
  commitmentEvaluations = list(object(nil, { commitmentId = TEXT, decision = TEXT, reasons = TEXTS, ts = DATE })),
}, {
  policyDescription = TEXT, resolvedAt = DATE, outcomePositive = FLAG, voteTally = list(TALLY),
  quorumStatus = { type = "string", enum = { "pending", "reached", "failed" } },
  expectedCommitments = { type = "array" },
})

local CALL = object("ModelCall", { participantId = TEXT, promptTokens = NUMBER, completionTokens = NUMBER,
  totalTokens = NUMBER, ts = DATE }, { model = TEXT, latencyMs = NUMBER, messageId = TEXT, artifactId = TEXT,
  estimatedCostUsd = NUMBER })

local TOTALS = object("ModelTotals", { callCount = COUNT, promptTokens = NUMBER, completionTokens = NUMBER,
  totalTokens = NUMBER, estimatedCostUsd = NUMBER })

return object("RunStateProjection", {
  run = RUN, participants = list(PARTICIPANT), graph = GRAPH, decision = DECISION,
  signals = object(nil, { signals = list(SIGNAL) }), progress = object(nil, { entries = list(PROGRESS) }),
  timeline = TIMELINE,
  trace = object("ProjectedTrace", { spanCount = COUNT, linkedArtifacts = TEXTS },
    { traceId = TEXT, lastSpanId = TEXT }),
  outboundMessages = object("OutboundCounts", { total = COUNT, queued = COUNT, accepted = COUNT, rejected = COUNT }),
  policy = POLICY, llm = object("ModelUsage", { calls = list(CALL), totals = TOTALS }),
}, {
  mode = { type = "object", description = "What the mode's reducer shows, and the revision that it is." },
})
