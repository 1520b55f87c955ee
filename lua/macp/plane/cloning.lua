-- Cloning a run: its descriptor again, as a new run with a session of its own.

local errors = require("macp.core.errors")
local json = require("macp.core.json")
local schema = require("macp.core.schema")
local execution_request = require("macp.plane.execution_request")

local runs_store = require("macp.store.runs")

local check_descriptor

local M = {}

---The descriptor of a clone. (yields)
---@param db table
---@param row table of store/runs.lua
---@param changes { tags: string[]|nil, context: table|nil }
---@return table|nil body for Runs:create
---@return macp.Error|nil err VALIDATION_ERROR
function M.descriptor(db, tenant, row, changes)
  if changes.context and next(changes.context) ~= nil then
    return nil, errors.new("VALIDATION_ERROR", nil,
      "context is not supported: a session's context is given by whoever starts the session")
  end
  local metadata = json.decode(row.metadata) or {}
  local body = metadata.executionRequest
  if type(body) ~= "table" or type(body.session) ~= "table" then
    return nil, errors.new("VALIDATION_ERROR", nil, "run " .. row.id .. " has no stored request to clone")
  end
  body.session.sessionId = nil
  body.execution = type(body.execution) == "table" and body.execution or {}
  body.execution.idempotencyKey = nil
  if changes.tags then body.execution.tags = changes.tags end
  if next(body.execution) == nil then body.execution = nil end
  local session_metadata = body.session.metadata
  if type(session_metadata) == "table" and session_metadata.cancelCallback then -- kept without its secret
    local how, err = runs_store.find_cancellation(db, tenant, row.id)
    if how == nil then return nil, err end
    session_metadata.cancelCallback = how and how.cancel_callback and json.decode(how.cancel_callback) or nil
  end
  check_descriptor = check_descriptor or schema.compile(execution_request.LAUNCHED)
  local _, problems = check_descriptor(body)
  if problems then return nil, errors.validation(problems) end
  return body
end

return M
