-- Route of the audit log.

local errors = require("macp.core.errors")
local json = require("macp.core.json")
local time = require("macp.core.time")
local shape = require("macp.plane.routes.shape")

local audit_store = require("macp.store.audit")

local check = errors.check

local QUERY = {
  type = "object",
  properties = {
    actor = { type = "string" }, action = { type = "string" }, resource = { type = "string" },
    resourceId = { type = "string" },
    createdAfter = { type = "string", format = "date-time" }, createdBefore = { type = "string", format = "date-time" },
    limit = { type = "integer", minimum = 1, maximum = 200, default = 50 },
    offset = { type = "integer", minimum = 0, default = 0 },
  },
}

local ENTRY = shape.object("AuditEntry", {
  id = shape.UUID, actor = shape.TEXT, actorType = shape.TEXT, action = shape.TEXT, resource = shape.TEXT,
  resourceId = shape.nullable(shape.TEXT), details = shape.ANY_OBJECT, requestId = shape.nullable(shape.TEXT),
  createdAt = shape.DATE,
})

local RESULT = shape.object("AuditPage",
  { data = shape.list(ENTRY), total = shape.COUNT, limit = shape.COUNT, offset = shape.COUNT })

local M = {}

local function entry(row)
  return {
    id = row.id, actor = row.actor, actorType = row.actor_type, action = row.action, resource = row.resource,
    resourceId = row.resource_id or json.null, details = json.raw(row.details), requestId = row.request_id or json.null,
    createdAt = time.iso(row.created_at),
  }
end

---@param plane { db: table }
function M.routes(plane)
  local function list(ctx)
    local query = ctx.query
    local page = check(audit_store.list(plane.db, ctx.tenant, {
      actor = query.actor, action = query.action, resource = query.resource, resource_id = query.resourceId,
      after_ms = query.createdAfter and time.parse_iso(query.createdAfter),
      before_ms = query.createdBefore and time.parse_iso(query.createdBefore),
      limit = query.limit, offset = query.offset,
    }))
    local data = json.array({})
    for i, row in ipairs(page.rows) do data[i] = entry(row) end
    return 200, { data = data, total = page.total, limit = query.limit, offset = query.offset }
  end

  return {
    { method = "GET", path = "/audit", scope = "audit:read", query = QUERY, returns = { [200] = RESULT },
      tag = "audit", summary = "Who changed what", description = "Newest first.", handler = list },
  }
end

return M
