-- Routes that tell about one run: metrics, trace, messages, artifacts.

local errors = require("macp.core.errors")
local json = require("macp.core.json")
local artifacts = require("macp.plane.artifacts")
local run_facts = require("macp.plane.run_facts")
local schemas = require("macp.plane.routes.schemas")
local shape = require("macp.plane.routes.shape")

local check = errors.check

local MESSAGES_QUERY = {
  type = "object",
  properties = {
    afterSeq = { type = "integer", minimum = 0, default = 0 },
    limit = { type = "integer", minimum = 1, maximum = 5000, default = 1000 },
  },
}

local ARTIFACT_BODY = {
  title = "ArtifactRequest", type = "object", required = { "kind", "label" }, additionalProperties = false,
  properties = {
    kind = schemas.ARTIFACT_KIND, label = { type = "string", minLength = 1, maxLength = 255 },
    uri = { type = "string" }, inline = { type = "object" },
  },
}

local EMPTY_BODY = { title = "EmptyRequest", type = "object", additionalProperties = false, properties = {} }

local REBUILT = shape.object("ProjectionRebuilt",
  { rebuilt = shape.FLAG, latestSeq = schemas.SEQ, projection = schemas.Projection })

local M = {}

---@param plane { runs: macp.plane.Runs, reader: macp.plane.Reader, db: table,
---  rebuild: macp.plane.Rebuilder }
function M.routes(plane)
  local runs = plane.runs

  local function metrics(ctx)
    check(runs:require(ctx.tenant, ctx.params.id))
    return 200, check(run_facts.metrics(runs, ctx.tenant, ctx.params.id))
  end

  local function trace(ctx)
    local row = check(runs:find(ctx.tenant, ctx.params.id))
    return 200, check(run_facts.trace(plane.reader, ctx.tenant, row))
  end

  local function messages(ctx)
    local row = check(runs:find(ctx.tenant, ctx.params.id))
    return 200, check(run_facts.messages(plane.db, ctx.tenant, row, ctx.query.afterSeq, ctx.query.limit))
  end

  local function rebuild(ctx)
    local done = check(plane.rebuild:run(ctx.tenant, ctx.params.id))
    return 200, { rebuilt = true, latestSeq = done.seq, projection = json.raw(done.text) }
  end

  local function list_artifacts(ctx)
    check(runs:require(ctx.tenant, ctx.params.id))
    return 200, check(artifacts.list(plane, ctx.tenant, ctx.params.id))
  end

  local function create_artifact(ctx, body)
    check(runs:require(ctx.tenant, ctx.params.id))
    return 201, check(artifacts.create(runs, ctx.tenant, ctx.params.id, {
      kind = body.kind, label = body.label, uri = json.absent(body.uri), inline = json.absent(body.inline),
    }))
  end

  return {
    { method = "GET", path = "/runs/:id/metrics", scope = "runs:read", returns = { [200] = schemas.Metrics },
      tag = "runs", summary = "Counters of a run", handler = metrics },
    { method = "GET", path = "/runs/:id/traces", scope = "runs:read", returns = { [200] = schemas.Trace },
      tag = "runs", summary = "The trace of a run", handler = trace },
    { method = "GET", path = "/runs/:id/messages", scope = "runs:read", query = MESSAGES_QUERY,
      returns = { [200] = { type = "array", items = schemas.Message } }, tag = "runs",
      summary = "Messages that were observed in a run",
      description = "Accepted envelopes and refused ones, oldest first; the seq of the last one is the next afterSeq.",
      handler = messages },
    { method = "POST", path = "/runs/:id/projection/rebuild", scope = "runs:write", body = EMPTY_BODY,
      audit = "projection.rebuilt", refuses = { 409 }, returns = { [200] = REBUILT }, tag = "runs",
      summary = "Fold the projection and the counters of a run again",
      description = "From its first event. 409 while that is done already, or another process observes the run.",
      handler = rebuild },
    { method = "GET", path = "/runs/:id/artifacts", scope = "runs:read", tag = "artifacts",
      returns = { [200] = { type = "array", items = schemas.Artifact } }, summary = "Artifacts of a run",
      description = "Oldest first, the first 1000.", handler = list_artifacts },
    { method = "POST", path = "/runs/:id/artifacts", scope = "runs:write", body = ARTIFACT_BODY,
      audit = "artifact.created", refuses = { 409 }, returns = { [201] = schemas.Artifact }, tag = "artifacts",
      summary = "Attach an artifact to a run", description = "The run gets an event artifact.created.",
      handler = create_artifact },
  }
end

return M
