-- Schemas that several routes share, by the names under which the OpenAPI document lists them.

local shape = require("macp.plane.routes.shape")

local object, list, nullable = shape.object, shape.list, shape.nullable
local TEXT, TEXTS, FLAG, COUNT, UUID, DATE = shape.TEXT, shape.TEXTS, shape.FLAG, shape.COUNT, shape.UUID, shape.DATE

local M = {}

M.STATUS = { type = "string", enum = { "queued", "starting", "binding_session", "running", "suspended", "completed",
  "failed", "cancelled" } }

M.SEQ = COUNT
M.EVENT_TYPES = { type = "string", description = "Types of the events that are wanted, comma separated." }

local SOURCE = object(nil, { kind = TEXT }, { ref = TEXT })

M.Run = object("Run", {
  id = UUID, status = M.STATUS, mode = TEXT, runtimeKind = TEXT, runtimeVersion = nullable(TEXT),
  runtimeSessionId = nullable(TEXT), traceId = nullable(TEXT), idempotencyKey = nullable(TEXT), lastEventSeq = M.SEQ,
  sourceKind = nullable(TEXT), sourceRef = nullable(TEXT), tags = TEXTS, metadata = shape.ANY_OBJECT,
  errorCode = nullable(TEXT), errorMessage = nullable(TEXT), createdAt = DATE, startedAt = nullable(DATE),
  endedAt = nullable(DATE), updatedAt = nullable(DATE), archivedAt = nullable(DATE),
}, { source = SOURCE })

M.Accepted = object("RunAccepted", { runId = UUID, sessionId = TEXT, status = M.STATUS, traceId = TEXT })

-- What an event may lack; the flat members repeat the nested ones, for readers of rows.
local EVENT_OPTIONAL = {
  subject = object(nil, { kind = TEXT, id = TEXT }), subjectKind = TEXT, subjectId = TEXT,
  trace = object(nil, {}, { traceId = TEXT, spanId = TEXT, parentSpanId = TEXT }), traceId = TEXT, spanId = TEXT,
  parentSpanId = TEXT, sourceKind = TEXT, sourceName = TEXT, rawType = TEXT,
}

M.Event = object("CanonicalEvent", {
  id = UUID, runId = UUID, seq = M.SEQ, ts = DATE, type = TEXT, schemaVersion = COUNT,
  source = object(nil, { kind = TEXT, name = TEXT }, { rawType = TEXT }), data = shape.ANY_OBJECT,
}, EVENT_OPTIONAL)

M.Projection = require("macp.plane.routes.projection_schema")

M.ARTIFACT_KIND = { type = "string", enum = { "trace", "json", "report", "log", "bundle" } }

M.Artifact = object("Artifact", { runId = UUID, kind = M.ARTIFACT_KIND, label = TEXT, id = UUID, createdAt = DATE },
  { uri = TEXT, inline = shape.ANY_OBJECT })

M.Metrics = object("MetricsSummary", {
  runId = UUID, eventCount = COUNT, messageCount = COUNT, signalCount = COUNT, proposalCount = COUNT,
  toolCallCount = COUNT, decisionCount = COUNT, streamReconnectCount = COUNT, promptTokens = shape.NUMBER,
  completionTokens = shape.NUMBER, totalTokens = shape.NUMBER, estimatedCostUsd = shape.NUMBER,
}, { firstEventAt = DATE, lastEventAt = DATE, durationMs = COUNT, sessionState = TEXT })

M.Trace = object("RunTrace", { spanCount = COUNT, linkedArtifacts = TEXTS, runStatus = M.STATUS },
  { traceId = TEXT, lastSpanId = TEXT, scenarioRef = TEXT })

M.Message = object("ObservedMessage", {
  id = UUID, runId = UUID, runtimeSessionId = nullable(TEXT), seq = M.SEQ, messageId = nullable(TEXT),
  messageType = nullable(TEXT), category = { type = "string", enum = { "observed" } }, sender = nullable(TEXT),
  recipients = TEXTS, status = { type = "string", enum = { "accepted", "rejected" } },
  payloadDescriptor = shape.ANY_OBJECT, ack = { type = "null" }, errorMessage = nullable(TEXT), createdAt = DATE,
  acceptedAt = nullable(DATE), updatedAt = DATE,
})

M.Session = object("RuntimeSession", {
  runId = UUID, runtimeKind = TEXT, runtimeSessionId = TEXT, modeName = TEXT,
  modeVersion = nullable(TEXT), modeRevision = nullable(TEXT), configurationVersion = nullable(TEXT),
  policyVersion = nullable(TEXT), initiatorParticipantId = nullable(TEXT),
  sessionState = nullable(TEXT), startedAt = nullable(DATE), expiresAt = nullable(DATE), lastSeenAt = nullable(DATE),
  lastStreamCursor = M.SEQ, runtimeCursor = COUNT, streamConnectedAt = nullable(DATE),
  streamDisconnectedAt = nullable(DATE), capabilities = shape.ANY_OBJECT, metadata = shape.ANY_OBJECT, createdAt = DATE,
  updatedAt = DATE,
})

local OR_NULL = function(schema) return { anyOf = { schema, { type = "null" } } } end

M.RawEvent = object("RawEvent", { id = UUID, runId = UUID, seq = M.SEQ, ts = DATE, kind = TEXT,
  ordinal = nullable({ type = "integer" }), sourceName = TEXT, payload = shape.ANY_OBJECT })

M.Bundle = object("ExportBundle", {
  run = M.Run, session = OR_NULL(M.Session), projection = M.Projection, metrics = OR_NULL(M.Metrics),
  artifacts = list(M.Artifact), canonicalEvents = list(M.Event), rawEvents = list(M.RawEvent), exportedAt = DATE,
})

-- Lines of an export: a header, then events with their own type as eventType.
local function line(title, type_name, members, optional)
  members.type = { type = "string", enum = { type_name } }
  return object(title, members, optional)
end

local EVENT_LINE = { eventType = TEXT }
for name, schema in pairs(M.Event.properties) do
  if EVENT_OPTIONAL[name] == nil then EVENT_LINE[name] = schema end
end
local RAW_LINE = {}
for name, schema in pairs(M.RawEvent.properties) do RAW_LINE[name] = schema end

M.ExportLine = { title = "ExportLine", oneOf = {
  line("ExportHeader", "header", { run = M.Run, session = OR_NULL(M.Session), projection = M.Projection,
    metrics = OR_NULL(M.Metrics), artifacts = list(M.Artifact), exportedAt = DATE }),
  line("CanonicalEventLine", "canonical_event", EVENT_LINE, EVENT_OPTIONAL),
  line("RawEventLine", "raw_event", RAW_LINE),
} }

---What an export says instead of a bundle that it cannot make.
M.NotExported = object("NotExported", { runId = UUID, ok = FLAG, error = TEXT, errorCode = TEXT })

local COMPARED = object("ComparedRun", { runId = UUID, status = M.STATUS }, { modeName = TEXT, durationMs = COUNT })

M.Comparison = object("RunComparison", {
  left = COMPARED, right = COMPARED, statusMatch = FLAG,
  participantsDiff = object(nil, { added = TEXTS, removed = TEXTS, common = TEXTS }),
  signalsDiff = object(nil, { added = TEXTS, removed = TEXTS }),
}, { durationDeltaMs = { type = "integer" }, confidenceDelta = shape.NUMBER })

M.RunList = object("RunList", { data = list(M.Run), total = COUNT, limit = COUNT, offset = COUNT },
  { totalIsEstimate = FLAG })

M.Verdict = object("DescriptorVerdict", {
  valid = FLAG, errors = TEXTS, warnings = TEXTS,
  runtime = object(nil, { reachable = FLAG, supportedModes = TEXTS }, { capabilities = shape.ANY_OBJECT }),
})

M.EventPage = object("EventPage", { data = list(M.Event), total = COUNT, limit = COUNT },
  { nextCursor = COUNT, nextPageToken = TEXT })

---A list, or with filters a page.
M.EventsOfRun = { title = "EventsOfRun", anyOf = { list(M.Event), M.EventPage } }

local BREAKER = { type = "string", enum = { "CLOSED", "OPEN", "HALF_OPEN" } }

M.Breaker = object("BreakerState", { status = TEXT, state = BREAKER })

M.BreakerHistory = object("BreakerHistory", {
  state = BREAKER, history = list(object(nil, { state = BREAKER, enteredAt = DATE }, { reason = TEXT })),
})

M.Manifest = object("RuntimeManifest", { agentId = TEXT, title = TEXT, description = TEXT, supportedModes = TEXTS,
  metadata = { type = "object", additionalProperties = TEXT } })

M.RuntimeHealth = object("RuntimeHealth", { ok = FLAG, runtimeKind = TEXT, detail = TEXT }, { manifest = M.Manifest })

local WELL = { type = "string", enum = { "ok", "unhealthy" } }

M.Readiness = object("Readiness", { ok = FLAG, database = WELL, runtime = M.RuntimeHealth, streamConsumer = WELL,
  circuitBreaker = BREAKER }, { streamHub = { type = "string", enum = { "ok", "degraded" } } })

M.EventStream = { type = "string", description = "text/event-stream" }

return M
