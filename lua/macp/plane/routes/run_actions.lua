-- Routes that do something to one run: suspend, resume, clone, archive, delete.

local errors = require("macp.core.errors")
local json = require("macp.core.json")
local cloning = require("macp.plane.cloning")
local idempotency_key = require("macp.plane.idempotency_key")
local pausing = require("macp.plane.pausing")
local runs_module = require("macp.plane.runs")
local runtime_client = require("macp.plane.runtime_client")
local schemas = require("macp.plane.routes.schemas")
local shelving = require("macp.plane.shelving")

local check = errors.check

local REASON_BODY = {
  title = "ReasonRequest", type = "object", additionalProperties = false,
  properties = { reason = { type = "string", description = "Told to the runtime." } },
}

local CLONE_BODY = {
  title = "CloneRequest", type = "object", additionalProperties = false,
  properties = {
    tags = { type = "array", items = { type = "string" }, description = "Replace the tags of the original." },
    context = { type = "object", description = "Must be empty: a session's context comes with its start." },
  },
}

local EMPTY_BODY = { title = "EmptyRequest", type = "object", additionalProperties = false, properties = {} }

local M = {}

---@param plane { runs: macp.plane.Runs, db: table, audit: macp.plane.Audit, retention: macp.plane.Retention }
function M.routes(plane)
  local runs = plane.runs

  local function pause(what)
    return function(ctx, body)
      local row = check(runs:find(ctx.tenant, ctx.params.id))
      row = check(pausing.change(runs, ctx.tenant, row, what, json.absent(body.reason)))
      if not row then error(runs_module.not_found(ctx.params.id), 0) end
      return 200, runs:record(ctx.tenant, row)
    end
  end

  local function clone(ctx, body)
    local row = check(runs:find(ctx.tenant, ctx.params.id))
    local wanted = check(cloning.descriptor(plane.db, ctx.tenant, row, body))
    return idempotency_key.create(plane, ctx, wanted)
  end

  local function shelve(action, change)
    return function(ctx)
      local row = plane.audit:within(ctx, action, function(tx) return change(tx, ctx.tenant, ctx.params.id) end)
      return 200, runs:record(ctx.tenant, row)
    end
  end

  local function delete(ctx)
    local done = plane.audit:within(ctx, "run.deleted", function(tx)
      return shelving.delete(tx, ctx.tenant, ctx.params.id)
    end)
    if done.is_pending then plane.retention:wake() end
    return 204
  end

  local run = { [200] = schemas.Run }
  return {
    { method = "POST", path = "/runs/:id/suspend", scope = "runs:write", body = REASON_BODY, audit = "run.suspended",
      returns = run, tag = "runs", refuses = runtime_client.REFUSALS, summary = "Suspend a running run",
      description = "Asks the runtime to suspend the session; what it refuses is passed on. 409 "
        .. "`INVALID_STATE_TRANSITION`: the runtime agreed, but the run has ended meanwhile.",
      handler = pause("suspend") },
    { method = "POST", path = "/runs/:id/resume", scope = "runs:write", body = REASON_BODY, audit = "run.resumed",
      returns = run, tag = "runs", refuses = runtime_client.REFUSALS, summary = "Resume a suspended run",
      description = "Asks the runtime to resume the session; what it refuses is passed on. 409 "
        .. "`INVALID_STATE_TRANSITION`: the runtime agreed, but the run has ended meanwhile.",
      handler = pause("resume") },
    { method = "POST", path = "/runs/:id/clone", scope = "runs:write", body = CLONE_BODY, audit = "run.cloned",
      keyed = false, headers = idempotency_key.HEADERS, refuses = { 409 },
      returns = { [202] = schemas.Accepted, [200] = schemas.Accepted }, tag = "runs",
      summary = "Create a run like another one",
      description = "Takes the stored request, without its session id and idempotency key.", handler = clone },
    { method = "POST", path = "/runs/:id/archive", scope = "runs:write", body = EMPTY_BODY, audit = "run.archived",
      returns = run, tag = "runs", summary = "Archive a run",
      description = "Lists leave it out from now on; it gets the tag `archived`.",
      handler = shelve("run.archived", shelving.archive) },
    { method = "POST", path = "/runs/:id/unarchive", scope = "runs:write", body = EMPTY_BODY,
      audit = "run.unarchived", returns = run, tag = "runs", summary = "Take a run back from the archive",
      handler = shelve("run.unarchived", shelving.unarchive) },
    { method = "DELETE", path = "/runs/:id", scope = "runs:write", audit = "run.deleted",
      returns = { [204] = { type = "null" } }, tag = "runs", summary = "Delete a run that has ended",
      description = "With its events, projection, metrics and artifacts. Its audit entries stay. It does not "
        .. "come back when the runtime tells about its session again.", handler = delete },
  }
end

return M
