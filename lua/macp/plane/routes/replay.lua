-- Routes of replay.

local errors = require("macp.core.errors")
local sse = require("macp.http.sse")
local event_filter = require("macp.plane.event_filter")
local replay_module = require("macp.plane.replay")
local schemas = require("macp.plane.routes.schemas")
local shape = require("macp.plane.routes.shape")

local check = errors.check

local PROPERTIES = {
  mode = { type = "string", enum = { "instant", "timed", "step" }, default = "timed" },
  speed = { type = "number", minimum = 0.1, default = 1 },
  fromSeq = { type = "integer", minimum = 1 }, toSeq = { type = "integer", minimum = 1 },
}

local DESCRIPTOR = shape.object("ReplayDescriptor", { runId = shape.UUID, mode = PROPERTIES.mode,
  speed = PROPERTIES.speed, streamUrl = shape.TEXT, stateUrl = shape.TEXT },
  { fromSeq = PROPERTIES.fromSeq, toSeq = PROPERTIES.toSeq })

local STREAM = { type = schemas.EVENT_TYPES }
for name, schema in pairs(PROPERTIES) do STREAM[name] = schema end

local HEARTBEAT_MS = 15000

local M = {}

---@param plane { runs: table, replay: macp.plane.Replay, past: macp.plane.PastReader }
function M.routes(plane)
  local runs = plane.runs

  local function describe(ctx, body)
    check(runs:require(ctx.tenant, ctx.params.id))
    return 200, replay_module.describe(ctx.params.id, body)
  end

  local function stream(ctx)
    check(runs:require(ctx.tenant, ctx.params.id))
    local events = sse.open(ctx, { heartbeat_ms = HEARTBEAT_MS })
    if events == nil then return 200 end
    local ok, err = plane.replay:play(ctx.tenant, ctx.params.id, events, ctx.query,
      event_filter.of(ctx.query.type))
    if not ok and errors.is_typed(err) then events:send(sse.frame("error", nil, tostring(err.message))) end
    events:close()
    return 200
  end

  local function state(ctx)
    return 200, (check(plane.past:state_at(ctx.tenant, ctx.params.id, ctx.query.seq)))
  end

  return {
    { method = "POST", path = "/runs/:id/replay", scope = "runs:read", tag = "replay", summary = "Describe a replay",
      body = { title = "ReplayRequest", type = "object", additionalProperties = false, properties = PROPERTIES },
      returns = { [200] = DESCRIPTOR }, handler = describe },
    { method = "GET", path = "/runs/:id/replay/stream", scope = "runs:read", raw = true, tag = "replay",
      query = { type = "object", properties = STREAM }, returns = { [200] = schemas.EventStream },
      summary = "The events of a run again",
      description = "mode=timed keeps their rhythm (divided by speed), instant and step send them at once. type leaves "
        .. "out other events.",
      handler = stream },
    { method = "GET", path = "/runs/:id/replay/state", scope = "runs:read", tag = "replay",
      query = { type = "object", properties = { seq = schemas.SEQ } }, returns = { [200] = schemas.Projection },
      summary = "The projection as it was at a sequence number", handler = state },
  }
end

return M
