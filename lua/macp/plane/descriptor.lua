-- The run descriptor: its schema, the rules a schema cannot say, and its identity for idempotent requests.

local crypto = require("host.crypto")

local errors = require("macp.core.errors")
local ids = require("macp.core.ids")
local json = require("macp.core.json")
local tables = require("macp.core.tables")

local NON_BLANK = { type = "string", minLength = 1, format = "non-blank" }

local M = {}

M.SCHEMA = {
  title = "RunDescriptor", type = "object", required = { "mode", "runtime", "session" }, additionalProperties = false,
  properties = {
    mode = { type = "string", enum = { "live", "sandbox" } },
    runtime = {
      type = "object", required = { "kind" }, additionalProperties = false,
      properties = { kind = NON_BLANK, version = { type = "string", maxLength = 64 } },
    },
    session = {
      type = "object", additionalProperties = false,
      required = { "modeName", "modeVersion", "configurationVersion", "ttlMs", "participants" },
      properties = {
        sessionId = { type = "string" },
        modeName = NON_BLANK, modeVersion = NON_BLANK, configurationVersion = NON_BLANK,
        policyVersion = { type = "string" },
        ttlMs = { type = "integer", exclusiveMinimum = 0, maximum = 86400000 },
        participants = {
          type = "array", minItems = 1, maxItems = 1000, uniqueItems = "id",
          items = {
            type = "object", required = { "id" }, additionalProperties = false, properties = { id = NON_BLANK },
          },
        },
        metadata = {
          type = "object",
          properties = {
            source = { type = "string" }, sourceRef = { type = "string" }, environment = { type = "string" },
            scenarioRef = { type = "string" },
            cancelCallback = {
              type = "object", required = { "url" }, additionalProperties = false,
              properties = {
                url = { type = "string", format = "uri" }, bearer = { type = "string", format = "header-value" },
              },
            },
            cancellationDelegated = { type = "boolean" },
          },
        },
      },
    },
    execution = {
      type = "object", additionalProperties = false,
      properties = {
        idempotencyKey = { type = "string", minLength = 1, maxLength = 255 },
        tags = { type = "array", items = { type = "string" } },
        requester = {
          type = "object", additionalProperties = false,
          properties = {
            actorId = { type = "string" }, actorType = { type = "string", enum = { "user", "service", "system" } },
          },
        },
      },
    },
  },
}

---Whether there is a runtime of the kind that a body names. A typed error or nil.
---@param body table
---@param kinds table<string, boolean> registered runtime kinds
function M.check_kind(body, kinds)
  if kinds[body.runtime.kind] then return nil end
  local known = table.concat(tables.sorted_keys(kinds), ", ")
  return errors.new("VALIDATION_ERROR", nil, json.array({ "runtime.kind must be one of: " .. known }))
end

---Whether the session of a body has an id that a runtime takes. A typed error or nil.
---@param session table
function M.check_session_id(session)
  local session_id = session.sessionId
  if session_id ~= nil and not ids.is_session_id(session_id) then
    return errors.new("INVALID_SESSION_ID", nil,
      "session.sessionId must be a lower-case UUID v4 or v7, or base64url of 22 to 255 characters")
  end
  return nil
end

---What the schema cannot say. A typed error or nil.
---@param body table
---@param kinds table<string, boolean> registered runtime kinds
function M.check(body, kinds) return M.check_kind(body, kinds) or M.check_session_id(body.session) end

---The fingerprint of a request: equal requests have equal ones. The key itself does not count.
---@return string 32 bytes
function M.hash(body)
  local copy = tables.deep_copy(body)
  if copy.execution then
    copy.execution.idempotencyKey = nil
    if next(copy.execution) == nil then copy.execution = nil end
  end
  return crypto.sha256(json.canonical(copy))
end

---Tags of the run: those of the descriptor, and `sandbox` for sandbox runs that do not name it.
function M.tags(body)
  local tags, is_named = json.array({}), false
  for _, tag in ipairs(body.execution and body.execution.tags or {}) do
    tags[#tags + 1], is_named = tag, is_named or tag == "sandbox"
  end
  if body.mode == "sandbox" and not is_named then tags[#tags + 1] = "sandbox" end
  return tags
end

---The descriptor as it is kept with the run: with its session id, without secrets. Shares tables with the body.
function M.kept(body, session_id)
  local copy, session = tables.copy(body), tables.copy(body.session)
  copy.session, session.sessionId = session, session_id
  local callback = session.metadata and session.metadata.cancelCallback
  if callback and callback.bearer then
    session.metadata = tables.copy(session.metadata)
    session.metadata.cancelCallback = tables.assign(tables.copy(callback), { bearer = "[REDACTED]" })
  end
  return copy
end

return M
