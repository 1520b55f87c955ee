-- The Idempotency-Key header of requests that create runs (others: http/steps/keyed.lua): the same as
-- execution.idempotencyKey in the body. The key is stored with the run it made, in the same statement: the run is the
-- stored reply, and a key never outlives it.

local errors = require("macp.core.errors")
local keyed = require("macp.http.steps.keyed")

local MAX_CHARACTERS = 255

local M = {}

---The header for the OpenAPI document.
M.HEADERS = {
  type = "object",
  properties = {
    ["Idempotency-Key"] = { type = "string", minLength = 1, maxLength = MAX_CHARACTERS,
      description = "The same key and request give the first answer again, another request with it 409." },
  },
}

-- Puts the key of the header into a run descriptor. Raises VALIDATION_ERROR when it cannot be one, or the body names
-- another one.
local function apply(headers, body)
  local key = keyed.key_of(headers)
  if key == nil then return end
  body.execution = body.execution or {}
  local named = body.execution.idempotencyKey
  if named ~= nil and named ~= key then
    error(errors.new("VALIDATION_ERROR", nil, "Idempotency-Key and execution.idempotencyKey must be equal"), 0)
  end
  body.execution.idempotencyKey = key
end

---Creates the run that a request asks for, unless it was created before; its audit entry, of the route's action, is
---stored with it. Raises what fails. (yields)
---@param plane { runs: macp.plane.Runs, audit: macp.plane.Audit }
---@param ctx macp.Context
---@param body table run descriptor, changed in place
---@return integer status
---@return table value
---@return table|nil headers
function M.create(plane, ctx, body)
  apply(ctx.headers, body)
  local accepted, replayed = plane.runs:create(ctx.tenant, body, function(run_id)
    return plane.audit:entry(ctx, ctx.route.audit, run_id)
  end)
  if accepted == nil then error(replayed, 0) end
  ctx.resource_id, ctx.audited = accepted.runId, true
  if not replayed then return 202, accepted end
  return 200, accepted, { ["idempotent-replayed"] = "true" }
end

return M
