-- Routes that other control planes had: writing into a session is the business of its agents, through an SDK.

local errors = require("macp.core.errors")

local M = {}

local function removed(name)
  local path = "POST /runs/:id/" .. name
  local message = path .. " was removed: the control plane observes sessions and sends nothing into them. Agents send "
    .. "their own messages to the runtime with an SDK (macp-sdk); see the onboarding guide, examples/README.md."
  return {
    method = "POST", path = "/runs/:id/" .. name, scope = "runs:write", tag = "removed",
    returns = { [410] = { ["$ref"] = "#/components/schemas/Error" } }, summary = "Removed: agents send with an SDK",
    handler = function() error(errors.new("ENDPOINT_REMOVED", nil, message), 0) end,
  }
end

---The routes; see http/app.lua.
function M.routes()
  return { removed("messages"), removed("signal"), removed("context") }
end

return M
