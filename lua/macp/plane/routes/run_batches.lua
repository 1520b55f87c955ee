-- Routes that do something to many runs at once.

local errors = require("macp.core.errors")
local json = require("macp.core.json")
local download = require("macp.http.download")
local run_batches = require("macp.plane.run_batches")
local schemas = require("macp.plane.routes.schemas")
local shape = require("macp.plane.routes.shape")
local shelving = require("macp.plane.shelving")

local check = errors.check

local EXPORT_EVENTS = 10000 -- of each run in a batch
local LINES, DOCUMENT = "application/x-ndjson", "application/json; charset=utf-8"

local BODY = {
  title = "BatchRequest", type = "object", required = { "runIds" }, additionalProperties = false,
  properties = {
    runIds = { type = "array", minItems = 1, maxItems = 100, uniqueItems = true,
      items = { type = "string", format = "uuid" } },
  },
}

local RESULTS = shape.object("BatchResults", {
  results = shape.list(shape.object("BatchResult", {
    runId = shape.UUID, ok = shape.FLAG,
    status = { type = "string", enum = { "cancelled", "archived", "deleted", "failed" } },
  }, { error = shape.TEXT, errorCode = shape.TEXT })),
})

local EXPORTED = { title = "ExportedRun", anyOf = { schemas.Bundle, schemas.NotExported } }

local M = {}

---@param plane { runs: macp.plane.Runs, audit: macp.plane.Audit, exports: macp.plane.Exports }
function M.routes(plane)
  -- The entry of one item of a batch.
  local function item_of(ctx, run_id)
    return setmetatable({ resource_id = run_id }, { __index = ctx })
  end

  local function batch(done, fn)
    return function(ctx, body)
      local results = run_batches.each(body.runIds, done, function(run_id) fn(item_of(ctx, run_id), run_id) end)
      ctx.audited = true -- each item wrote its own entry
      return 200, { results = results }
    end
  end

  local function cancel(ctx, run_id)
    local run, had_ended = plane.runs:cancel(ctx.tenant, run_id, {})
    check(run, had_ended)
    if not had_ended then check(plane.audit:record(ctx, "run.cancelled")) end
  end

  local function archive(ctx, run_id)
    plane.audit:within(ctx, "run.archived", function(tx) return shelving.archive(tx, ctx.tenant, run_id) end)
  end

  local function delete(ctx, run_id)
    local done = plane.audit:within(ctx, "run.deleted", function(tx) return shelving.delete(tx, ctx.tenant, run_id) end)
    if done.is_pending then plane.retention:wake() end
  end

  -- One bundle, or why there is none. (yields)
  local function write_item(ctx, run_id, write)
    local head, err = plane.exports:head(ctx.tenant, run_id)
    if head == nil then
      if not errors.is_typed(err) or err.http == 500 then error(err, 0) end
      return write(json.encode({ runId = run_id, ok = false, error = err.message, errorCode = err.code }))
    end
    return plane.exports:write_document(ctx.tenant, head, write,
      { canonical = true, raw = false, most = EXPORT_EVENTS })
  end

  local function export(ctx, body)
    local as_lines = (ctx.headers.accept or ""):find(LINES, 1, true) ~= nil
    local write, finish = download.open(ctx, as_lines and LINES or DOCUMENT)
    local ok, err = true, nil
    if not as_lines then ok, err = write("[") end
    for i, run_id in ipairs(body.runIds) do
      if ok and i > 1 and not as_lines then ok, err = write(",") end
      if ok then ok, err = write_item(ctx, run_id, write) end
      if ok and as_lines then ok, err = write("\n") end
    end
    if ok and not as_lines then ok, err = write("]") end
    if not ok and not download.is_gone(err) then error(err, 0) end
    if ok then finish() end
    return 200
  end

  return {
    { method = "POST", path = "/runs/batch/cancel", scope = "runs:write", body = BODY, audit = "run.cancelled",
      returns = { [200] = RESULTS }, tag = "batch", summary = "Cancel runs",
      description = "Up to 100, four at a time, each by its own rules.", handler = batch("cancelled", cancel) },
    { method = "POST", path = "/runs/batch/archive", scope = "runs:write", body = BODY, audit = "run.archived",
      returns = { [200] = RESULTS }, tag = "batch", summary = "Archive runs", handler = batch("archived", archive) },
    { method = "POST", path = "/runs/batch/delete", scope = "runs:write", body = BODY, audit = "run.deleted",
      returns = { [200] = RESULTS }, tag = "batch", summary = "Delete runs that have ended",
      handler = batch("deleted", delete) },
    { method = "POST", path = "/runs/batch/export", scope = "runs:read", body = BODY, raw = true,
      returns = { [200] = { content = { ["application/json"] = shape.list(EXPORTED), [LINES] = EXPORTED } } },
      tag = "batch",
      summary = "Export runs",
      description = "One bundle each, with up to 10 000 canonical events; { runId, ok: false, error, errorCode } for "
        .. "one that cannot be exported. A line each with `Accept: application/x-ndjson`.", handler = export },
  }
end

return M
