-- Schemas that several routes share, by the names under which the OpenAPI document lists them.

local M = {}

M.STATUS = { type = "string", enum = { "queued", "starting", "binding_session", "running", "suspended", "completed",
  "failed", "cancelled" } }

M.SEQ = { type = "integer", minimum = 0 }
M.EVENT_TYPES = { type = "string", description = "Types of the events that are wanted, comma separated." }

M.Run = {
  title = "Run", type = "object",
  properties = {
    id = { type = "string", format = "uuid" }, status = M.STATUS, mode = { type = "string" },
    runtimeKind = { type = "string" }, runtimeSessionId = { type = { "string", "null" } },
    lastEventSeq = M.SEQ, tags = { type = "array", items = { type = "string" } }, metadata = { type = "object" },
    createdAt = { type = "string", format = "date-time" }, endedAt = { type = { "string", "null" } },
  },
}

M.Accepted = {
  title = "RunAccepted", type = "object",
  properties = {
    runId = { type = "string", format = "uuid" }, sessionId = { type = "string" }, status = M.STATUS,
    traceId = { type = "string" },
  },
}

M.Event = {
  title = "CanonicalEvent", type = "object",
  properties = {
    id = { type = "string", format = "uuid" }, runId = { type = "string", format = "uuid" }, seq = M.SEQ,
    ts = { type = "string", format = "date-time" }, type = { type = "string" }, schemaVersion = { type = "integer" },
    subject = { type = "object" }, source = { type = "object" }, trace = { type = "object" },
    data = { type = "object" },
  },
}

M.Projection = {
  title = "RunStateProjection", type = "object",
  properties = {
    run = { type = "object" }, participants = { type = "array", items = { type = "object" } },
    graph = { type = "object" }, decision = { type = "object" }, signals = { type = "object" },
    progress = { type = "object" }, timeline = { type = "object" }, trace = { type = "object" },
    outboundMessages = { type = "object" }, policy = { type = "object" }, llm = { type = "object" },
    mode = { type = "object", description = "What the mode's reducer shows, and the revision that it is." },
  },
}

M.ARTIFACT_KIND = { type = "string", enum = { "trace", "json", "report", "log", "bundle" } }

M.Artifact = {
  title = "Artifact", type = "object",
  properties = {
    runId = { type = "string", format = "uuid" }, kind = M.ARTIFACT_KIND, label = { type = "string" },
    uri = { type = "string" }, inline = { type = "object" }, id = { type = "string", format = "uuid" },
    createdAt = { type = "string", format = "date-time" },
  },
}

local COUNT = { type = "integer", minimum = 0 }

M.Metrics = {
  title = "MetricsSummary", type = "object",
  properties = {
    runId = { type = "string", format = "uuid" }, eventCount = COUNT, messageCount = COUNT, signalCount = COUNT,
    proposalCount = COUNT, toolCallCount = COUNT, decisionCount = COUNT, streamReconnectCount = COUNT,
    promptTokens = COUNT, completionTokens = COUNT, totalTokens = COUNT, estimatedCostUsd = { type = "number" },
    firstEventAt = { type = "string", format = "date-time" }, lastEventAt = { type = "string", format = "date-time" },
    durationMs = COUNT, sessionState = { type = "string" },
  },
}

M.Trace = {
  title = "RunTrace", type = "object",
  properties = {
    traceId = { type = "string" }, spanCount = COUNT, lastSpanId = { type = "string" },
    linkedArtifacts = { type = "array", items = { type = "string" } }, runStatus = M.STATUS,
    scenarioRef = { type = "string" },
  },
}

local TEXT_OR_NULL = { type = { "string", "null" } }

M.Message = {
  title = "ObservedMessage", type = "object",
  properties = {
    id = { type = "string", format = "uuid" }, runId = { type = "string", format = "uuid" },
    runtimeSessionId = TEXT_OR_NULL, seq = M.SEQ, messageId = TEXT_OR_NULL, messageType = TEXT_OR_NULL,
    category = { type = "string", enum = { "observed" } }, sender = TEXT_OR_NULL,
    recipients = { type = "array", items = { type = "string" } },
    status = { type = "string", enum = { "accepted", "rejected" } }, payloadDescriptor = { type = "object" },
    ack = { type = "null" }, errorMessage = TEXT_OR_NULL, createdAt = { type = "string", format = "date-time" },
    acceptedAt = TEXT_OR_NULL, updatedAt = { type = "string", format = "date-time" },
  },
}

M.Bundle = {
  title = "ExportBundle", type = "object",
  properties = {
    run = M.Run, session = { type = { "object", "null" } }, projection = M.Projection,
    metrics = { type = { "object", "null" } }, artifacts = { type = "array", items = M.Artifact },
    canonicalEvents = { type = "array", items = M.Event }, rawEvents = { type = "array", items = { type = "object" } },
    exportedAt = { type = "string", format = "date-time" },
  },
}

local NAMES = { type = "array", items = { type = "string" } }
local COMPARED = {
  type = "object",
  properties = {
    runId = { type = "string", format = "uuid" }, status = M.STATUS, modeName = { type = "string" }, durationMs = COUNT,
  },
}

M.Comparison = {
  title = "RunComparison", type = "object",
  properties = {
    left = COMPARED, right = COMPARED, statusMatch = { type = "boolean" }, durationDeltaMs = { type = "integer" },
    confidenceDelta = { type = "number" },
    participantsDiff = { type = "object", properties = { added = NAMES, removed = NAMES, common = NAMES } },
    signalsDiff = { type = "object", properties = { added = NAMES, removed = NAMES } },
  },
}

M.EventStream = { type = "string", description = "text/event-stream" }

return M
