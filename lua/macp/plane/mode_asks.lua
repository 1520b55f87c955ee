-- What the read endpoints of a mode may ask the host: a few reads, with the rights of whoever called the endpoint.

local errors = require("macp.core.errors")
local ids = require("macp.core.ids")
local json = require("macp.core.json")
local schema = require("macp.core.schema")

local events_store = require("macp.store.events")
local metrics_store = require("macp.store.metrics")

local SCOPE = "runs:read"
local MAX_RUNS, MAX_EVENTS = 100, 500

local ID = { id = { type = "string", format = "uuid" } }
local LIST = {
  mode = { type = "string" }, status = { type = "string" }, tags = { type = "string" },
  environment = { type = "string" }, limit = { type = "integer", minimum = 1, maximum = MAX_RUNS, default = 20 },
  offset = { type = "integer", minimum = 0, default = 0 },
}
local EVENTS = {
  id = ID.id, afterSeq = { type = "integer", minimum = 0, default = 0 }, type = { type = "string" },
  limit = { type = "integer", minimum = 1, maximum = MAX_EVENTS, default = 100 },
}

local function arguments(properties, required)
  return schema.compile({ type = "object", required = required, additionalProperties = false, properties = properties })
end

local OPS = {}

OPS["runs.list"] = { check = arguments(LIST), run = function(plane, tenant, args)
  return plane.runs:list(tenant, { modeName = args.mode, status = args.status, tags = args.tags,
    environment = args.environment, limit = args.limit, offset = args.offset, sortBy = "createdAt",
    sortOrder = "desc" })
end }

OPS["runs.get"] = { check = arguments(ID, { "id" }), run = function(plane, tenant, args)
  return plane.runs:get(tenant, args.id)
end }

OPS["runs.view"] = { check = arguments(ID, { "id" }), run = function(plane, tenant, args)
  local text, err = plane.reader:state(tenant, args.id)
  if text == nil then return nil, err end
  local mode = json.decode(text).mode
  local view = mode and json.absent(mode.view)
  if view == nil then return nil, errors.new("NOT_FOUND", nil, "no mode shows run " .. args.id) end
  return view
end }

OPS["events.list"] = { check = arguments(EVENTS, { "id" }), run = function(plane, tenant, args)
  local known, err = plane.runs:require(tenant, args.id)
  if not known then return nil, err end
  local rows
  if args.type then
    rows, err = events_store.typed_range(plane.db, tenant, args.id, args.afterSeq, 2 ^ 53, { args.type }, args.limit)
  else
    rows, err = events_store.after(plane.db, tenant, args.id, args.afterSeq, args.limit)
  end
  if rows == nil then return nil, err end
  local list = json.array({})
  for i, row in ipairs(rows) do list[i] = json.raw(row.document) end
  return { data = list, nextCursor = #rows > 0 and rows[#rows].seq or args.afterSeq }
end }

OPS["metrics.get"] = { check = arguments(ID, { "id" }), run = function(plane, tenant, args)
  local known, err = plane.runs:require(tenant, args.id)
  if not known then return nil, err end
  local live = plane.owner:get(tenant, args.id)
  local row, find_err
  if live then row = live.metrics else row, find_err = metrics_store.find(plane.db, tenant, args.id) end
  if row == nil then return nil, find_err end
  row = row or {}
  return {
    eventCount = row.event_count or 0, messageCount = row.message_count or 0, signalCount = row.signal_count or 0,
    proposalCount = row.proposal_count or 0, toolCallCount = row.tool_call_count or 0,
    decisionCount = row.decision_count or 0, totalTokens = row.total_tokens or 0,
    estimatedCostUsd = tonumber(row.estimated_cost_usd) or 0, sessionState = row.session_state,
  }
end }

local M = { NAMES = { "events.list", "metrics.get", "runs.get", "runs.list", "runs.view" } }

local function refuse(problems)
  local texts = {}
  for i, problem in ipairs(problems) do texts[i] = problem.message end
  return nil, errors.new("VALIDATION_ERROR", nil, table.concat(texts, "; "))
end

---The reads of one request: a script asks `perform(op, args)`. A database that fails is no answer for a script: the
---request fails by it, whatever the script makes of it. (perform yields)
---@param plane macp.plane.Role
---@param ctx macp.Context
---@return fun(op: string, args: table): any, table|nil perform
---@return { failure: table|nil } asked
function M.of(plane, ctx)
  local asked = {}
  return function(name, args)
    local op = OPS[name]
    if op == nil then
      return nil, errors.new("NOT_IMPLEMENTED", nil,
        "unknown operation " .. json.quoted(name, 64) .. ", known are " .. table.concat(M.NAMES, ", "))
    end
    local auth = ctx.app.auth
    if auth and not auth:allows(ctx.actor, SCOPE) then
      return nil, errors.new("FORBIDDEN", nil, "missing scope " .. SCOPE)
    end
    local checked, problems = op.check(args)
    if checked == nil then return refuse(problems) end
    if checked.id and not ids.is_uuid(checked.id) then return refuse({ { message = "id must be a UUID" } }) end
    local value, err = op.run(plane, ctx.tenant, checked)
    if value == nil and not (errors.is_typed(err) and err.http < 500) then asked.failure = err end
    return value, err
  end, asked
end

return M
