-- Routes that hand out whole runs: export, and two runs compared.

local errors = require("macp.core.errors")
local download = require("macp.http.download")
local comparing = require("macp.plane.comparing")
local schemas = require("macp.plane.routes.schemas")

local check = errors.check

local LINES, DOCUMENT = "application/x-ndjson", "application/json; charset=utf-8"

local EXPORT_QUERY = {
  type = "object",
  properties = {
    includeCanonical = { type = "boolean", default = true }, includeRaw = { type = "boolean", default = false },
    eventLimit = { type = "integer", minimum = 1, maximum = 50000, default = 10000 },
    format = { type = "string", enum = { "json", "jsonl" } },
  },
}

local COMPARE_BODY = {
  title = "CompareRequest", type = "object", required = { "leftRunId", "rightRunId" }, additionalProperties = false,
  properties = {
    leftRunId = { type = "string", format = "strict-uuid" }, rightRunId = { type = "string", format = "strict-uuid" },
  },
}

local M = {}

-- Lines are sent to those who say that they read them; others get the document whatever the format asked for.
local function wants_lines(ctx)
  return ctx.query.format ~= "json" and (ctx.headers.accept or ""):find(LINES, 1, true) ~= nil
end

---@param plane { exports: macp.plane.Exports }
function M.routes(plane)
  local exports = plane.exports

  local function send(ctx, head, as_lines, opts)
    local write, finish = download.open(ctx, as_lines and LINES or DOCUMENT)
    local ok, err
    if as_lines then ok, err = exports:write_lines(ctx.tenant, head, write, opts)
    else ok, err = exports:write_document(ctx.tenant, head, write, opts) end
    if not ok and not download.is_gone(err) then error(err, 0) end
    if ok then finish() end
    return 200
  end

  local function export(ctx)
    local query = ctx.query
    local head = check(exports:head(ctx.tenant, ctx.params.id))
    return send(ctx, head, wants_lines(ctx),
      { canonical = query.includeCanonical, raw = query.includeRaw, most = query.eventLimit })
  end

  local function stream(ctx)
    local head = check(exports:head(ctx.tenant, ctx.params.id))
    return send(ctx, head, true, { canonical = true, raw = ctx.query.includeRaw })
  end

  local function compare(ctx, body)
    return 200, check(comparing.compare(exports, ctx.tenant, body.leftRunId, body.rightRunId))
  end

  return {
    { method = "GET", path = "/runs/:id/export", scope = "runs:read", query = EXPORT_QUERY, raw = true,
      returns = { [200] = { content = { ["application/json"] = schemas.Bundle, [LINES] = schemas.ExportLine } } },
      tag = "exports",
      summary = "Everything about a run",
      description = "One JSON document. With `Accept: application/x-ndjson` (and no format=json) lines of JSON: a "
        .. "header, then one line per event with its type as eventType. eventLimit counts for canonical and raw "
        .. "events each.", handler = export },
    { method = "GET", path = "/runs/:id/export/stream", scope = "runs:read", raw = true,
      query = { type = "object", properties = { includeRaw = { type = "boolean", default = false } } },
      returns = { [200] = { content = { [LINES] = schemas.ExportLine } } }, tag = "exports",
      summary = "Everything about a run, as lines of JSON",
      description = "All events, however many, as fast as the client reads.", handler = stream },
    { method = "POST", path = "/runs/compare", scope = "runs:read", body = COMPARE_BODY, tag = "exports",
      refuses = { 404 },
      returns = { [200] = schemas.Comparison }, summary = "Compare two runs", handler = compare },
  }
end

return M
