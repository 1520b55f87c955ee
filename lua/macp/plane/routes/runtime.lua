-- Routes that pass questions on to the runtime.

local errors = require("macp.core.errors")
local json = require("macp.core.json")
local health = require("macp.plane.health")
local policies = require("macp.plane.policies")
local schemas = require("macp.plane.routes.schemas")
local shape = require("macp.plane.routes.shape")
local runtime_client = require("macp.plane.runtime_client")

local check = errors.check

local NON_BLANK = { type = "string", minLength = 1, format = "non-blank" }

local POLICY_BODY = {
  title = "PolicyRegistration", type = "object", additionalProperties = false,
  required = { "policyId", "mode", "description", "rules" },
  properties = {
    policyId = NON_BLANK, mode = { type = "string", description = "A mode, or * for every mode." },
    description = { type = "string" }, rules = { type = "object", description = "The rules as the mode defines them." },
    schemaVersion = { type = "integer", minimum = 1, maximum = 4294967295, default = 1 },
  },
}

local POLICY = {
  title = "Policy", type = "object",
  required = { "policyId", "mode", "description", "rules", "schemaVersion", "registeredAtUnixMs" },
  properties = {
    policyId = { type = "string" }, mode = { type = "string" }, description = { type = "string" },
    rules = { type = { "object", "string" }, description = "Text where it is no JSON." },
    schemaVersion = { type = "integer" },
    registeredAtUnixMs = { type = "integer", description = "0 for policies that are built in." },
  },
}

local POLICY_CHANGE = {
  title = "PolicyChange", type = "object", required = { "ok" },
  properties = { ok = { type = "boolean" }, error = { type = "string", description = "Why not." } },
}

local ROOT = {
  title = "Root", type = "object", required = { "uri", "name" },
  properties = { uri = { type = "string" }, name = { type = "string" } },
}

local TEXT, TEXTS = shape.TEXT, shape.TEXTS

local MODE = shape.object("RuntimeMode", { mode = TEXT, modeVersion = TEXT, title = TEXT, description = TEXT,
  determinismClass = TEXT, participantModel = TEXT, messageTypes = TEXTS, terminalMessageTypes = TEXTS,
  schemaUris = { type = "object", additionalProperties = TEXT } })

local POLICY_PARAMS = { type = "object", properties = { policyId = NON_BLANK } }
local MODE_QUERY = { type = "object", properties = { mode = { type = "string" } } }

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

  local function roots()
    local list = json.array({})
    for i, root in ipairs(check(plane.client:call("ListRoots", {})).roots or {}) do
      list[i] = { uri = root.uri, name = root.name }
    end
    return 200, list
  end

  local function runtime_health()
    return 200, plane.health:probe_runtime()
  end

  local function list_policies(ctx)
    return 200, check(policies.list(plane.client, ctx.query.mode))
  end

  local function get_policy(ctx)
    return 200, check(policies.get(plane.client, ctx.params.policyId))
  end

  -- A change that the runtime did not make is nothing to audit.
  local function changed(ctx, policy_id, reply)
    ctx.resource_id, ctx.audited = policy_id, not reply.ok or nil
    return 200, reply
  end

  local function register_policy(ctx, body)
    local problem = policies.check(body)
    if problem then error(problem, 0) end
    return changed(ctx, body.policyId, check(policies.register(plane.client, body)))
  end

  local function unregister_policy(ctx)
    return changed(ctx, ctx.params.policyId, check(policies.unregister(plane.client, ctx.params.policyId)))
  end

  local refuses = runtime_client.REFUSALS
  return {
    { method = "GET", path = "/runtime/manifest", scope = "runtime:read", returns = { [200] = schemas.Manifest },
      refuses = refuses, tag = "runtime", summary = "The runtime's manifest", handler = manifest },
    { method = "GET", path = "/runtime/modes", scope = "runtime:read", tag = "runtime", refuses = refuses,
      returns = { [200] = shape.list(MODE) }, summary = "Coordination modes of the runtime",
      handler = modes },
    { method = "GET", path = "/runtime/health", scope = "runtime:read", returns = { [200] = schemas.RuntimeHealth },
      tag = "runtime", summary = "Is the runtime there?", handler = runtime_health },
    { method = "GET", path = "/runtime/roots", scope = "runtime:read", tag = "runtime", refuses = refuses,
      returns = { [200] = { type = "array", items = ROOT } }, summary = "Roots of the runtime", handler = roots },
    { method = "GET", path = "/runtime/policies", scope = "runtime:read", tag = "runtime", query = MODE_QUERY,
      refuses = refuses,
      returns = { [200] = { type = "array", items = POLICY } }, summary = "Policies of the runtime",
      description = "All of them, or those of one mode together with those for every mode.", handler = list_policies },
    { method = "POST", path = "/runtime/policies", scope = "runtime:write", tag = "runtime", body = POLICY_BODY,
      refuses = refuses,
      audit = "policy.registered", returns = { [200] = POLICY_CHANGE }, summary = "Register a policy",
      description = "The runtime judges the rules. 400 says what is wrong with them, 409 that the id is taken.",
      handler = register_policy },
    { method = "GET", path = "/runtime/policies/*policyId", scope = "runtime:read", tag = "runtime",
      params = POLICY_PARAMS, refuses = refuses, returns = { [200] = POLICY }, summary = "One policy of the runtime",
      handler = get_policy },
    { method = "DELETE", path = "/runtime/policies/*policyId", scope = "runtime:write", tag = "runtime",
      params = POLICY_PARAMS, refuses = refuses, audit = "policy.unregistered", returns = { [200] = POLICY_CHANGE },
      summary = "Unregister a policy", description = "Sessions that are bound to it keep it.",
      handler = unregister_policy },
  }
end

return M
