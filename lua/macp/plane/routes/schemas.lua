-- Schemas that several routes share, by the names under which the OpenAPI document lists them.

local M = {}

M.STATUS = { type = "string", enum = { "queued", "starting", "binding_session", "running", "suspended", "completed",
  "failed", "cancelled" } }

M.SEQ = { type = "integer", minimum = 0 }

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

M.EventStream = { type = "string", description = "text/event-stream" }

return M
