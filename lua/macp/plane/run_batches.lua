-- One operation on many runs: a few at a time, each with a result of its own.

local task = require("host.task")

local errors = require("macp.core.errors")
local json = require("macp.core.json")

local PARALLEL = 4

local M = {}

-- pcall that keeps what was raised as it is.
local function attempt(fn, run_id)
  local ok, err = pcall(fn, run_id)
  if ok then return nil end
  if errors.is_typed(err) and err.http ~= 500 then return err end
  return errors.new("INTERNAL_ERROR", nil, "Internal server error")
end

---Runs fn(run_id), which raises what fails, for every id. (yields)
---@param run_ids string[]
---@param done string the status of a result without failure
---@param fn fun(run_id: string) may yield
---@return table[] results in the order of the ids: { runId, ok, status, error?, errorCode? }
function M.each(run_ids, done, fn)
  local results, at = json.array({}), 0
  local function work()
    while at < #run_ids do
      at = at + 1
      local mine = at
      local run_id = run_ids[mine]
      local err = attempt(fn, run_id)
      results[mine] = {
        runId = run_id, ok = err == nil, status = err and "failed" or done,
        error = err and (type(err.message) == "table" and table.concat(err.message, "; ") or err.message) or nil,
        errorCode = err and err.code or nil,
      }
    end
    return true
  end
  local tasks = {}
  for i = 1, math.min(PARALLEL, #run_ids) do tasks[i] = task.spawn(work) end
  local failure
  for _, running in ipairs(tasks) do
    local ok, err = running:join()
    if not ok then failure = failure or err end
  end
  if failure then
    for _, running in ipairs(tasks) do running:cancel() end
    error(failure, 0)
  end
  return results
end

return M
