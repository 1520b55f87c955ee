-- Routes that pass questions on to the runtime.

local errors = require("macp.core.errors")
local json = require("macp.core.json")
local health = require("macp.plane.health")

local check = errors.check

local M = {}

local function mode_json(mode)
  return {
    mode = mode.mode, modeVersion = mode.mode_version, title = mode.title, description = mode.description,
    determinismClass = mode.determinism_class, participantModel = mode.participant_model,
    messageTypes = json.array(mode.message_types or {}),
    terminalMessageTypes = json.array(mode.terminal_message_types or {}),
    schemaUris = json.object(mode.schema_uris or {}),
  }
end

---@param plane { client: macp.plane.RuntimeClient, health: macp.plane.Health }
function M.routes(plane)
  local function manifest()
    return 200, health.manifest_json(check(plane.client:get_manifest()))
  end

  local function modes()
    local list = json.array({})
    for i, mode in ipairs(check(plane.client:list_modes())) do list[i] = mode_json(mode) end
    return 200, list
  end

  local function runtime_health()
    return 200, plane.health:probe_runtime()
  end

  local object = { type = "object" }
  return {
    { method = "GET", path = "/runtime/manifest", scope = "runtime:read", returns = { [200] = object }, tag = "runtime",
      summary = "The runtime's manifest", handler = manifest },
    { method = "GET", path = "/runtime/modes", scope = "runtime:read", tag = "runtime",
      returns = { [200] = { type = "array", items = object } }, summary = "Coordination modes of the runtime",
      handler = modes },
    { method = "GET", path = "/runtime/health", scope = "runtime:read", returns = { [200] = object }, tag = "runtime",
      summary = "Is the runtime there?", handler = runtime_health },
  }
end

return M
