-- Putting runs away: archiving them, taking them back, deleting them.

local errors = require("macp.core.errors")
local runs = require("macp.plane.runs")

local deletions_store = require("macp.store.deletions")
local runs_store = require("macp.store.runs")

local M = {}

local function found(run_id, row, err)
  if row == nil then return nil, err end
  if not row then return nil, runs.not_found(run_id) end
  return row
end

---Marks a run in any status as archived; again changes nothing. The row. (yields)
function M.archive(tx, tenant, run_id) return found(run_id, runs_store.archive(tx, tenant, run_id)) end

---Takes the mark away. The row. (yields)
function M.unarchive(tx, tenant, run_id) return found(run_id, runs_store.unarchive(tx, tenant, run_id)) end

---Deletes a run that has ended, with everything that belongs to it. (yields)
---@param tx table a transaction
---@return { is_pending: boolean }|nil is_pending: its events are hidden, and still to be cleared away
---@return macp.Error|nil err RUN_NOT_FOUND, VALIDATION_ERROR while it goes on
function M.delete(tx, tenant, run_id)
  local row, err = found(run_id, runs_store.lock(tx, tenant, run_id))
  if row == nil then return nil, err end
  if not row.ended_at then
    return nil, errors.new("VALIDATION_ERROR", { status = row.status },
      "only terminal runs (completed, failed, cancelled) can be deleted")
  end
  return deletions_store.delete(tx, tenant, { run_id })
end

return M
