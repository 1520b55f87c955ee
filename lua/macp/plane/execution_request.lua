-- Requests that ask for a session to be opened: the run descriptor and what it says besides when a launcher serves it.
-- Without one the same fields are refused, with the name of the setting.

local json = require("macp.core.json")
local tables = require("macp.core.tables")
local descriptor = require("macp.plane.descriptor")

local TEXT = { type = "string" }
local NON_BLANK = { type = "string", minLength = 1, format = "non-blank" }
local NOT_SERVED = "this control plane only observes sessions; with LAUNCHER_ENABLED=true it opens them"
local REFUSED = { ["not"] = {}, description = NOT_SERVED }

local ENVELOPE = {
  title = "PayloadEnvelope", type = "object", required = { "encoding" }, additionalProperties = false,
  properties = {
    encoding = { type = "string", enum = { "json", "text", "base64", "proto" } }, mediaType = TEXT,
    json = { description = "Any value; sent as JSON text." }, text = TEXT, base64 = TEXT,
    proto = {
      type = "object", required = { "typeName", "value" }, additionalProperties = false,
      properties = { typeName = NON_BLANK, value = { type = "object" } },
    },
  },
}

local KICKOFF = {
  type = "array", maxItems = 1000,
  description = "Messages that the launcher sends right after the start, in their order.",
  items = {
    title = "KickoffMessage", type = "object", required = { "from", "to", "kind", "messageType" },
    additionalProperties = false,
    properties = {
      from = NON_BLANK, to = { type = "array", minItems = 1, items = NON_BLANK },
      kind = { type = "string", enum = { "request", "broadcast", "proposal", "context" } },
      messageType = NON_BLANK, payload = { type = "object" }, payloadEnvelope = ENVELOPE,
      metadata = { type = "object" },
    },
  },
}

local SESSION = {
  initiatorParticipantId = NON_BLANK, context = { type = "object" }, contextEnvelope = ENVELOPE,
  roots = {
    type = "array", items = { type = "object", required = { "uri" }, additionalProperties = false,
      properties = { uri = NON_BLANK, name = TEXT } },
  },
}

local PARTICIPANT = { role = TEXT, transportIdentity = NON_BLANK, metadata = { type = "object" } }

local M = { NOT_SERVED = NOT_SERVED }

-- The descriptor's schema with further properties, each as `shape` makes it.
local function extended(shape)
  local out = tables.deep_copy(descriptor.SCHEMA)
  local session = out.properties.session.properties
  local participant = session.participants.items.properties
  out.properties.kickoff = shape(KICKOFF)
  for name, property in pairs(SESSION) do session[name] = shape(property) end
  for name, property in pairs(PARTICIPANT) do participant[name] = shape(property) end
  return out
end

---The schema where no launcher serves: every field of a launch is refused by name.
M.OBSERVED = extended(function() return REFUSED end)

---The schema where a launcher serves.
M.LAUNCHED = extended(function(property) return property end)
M.LAUNCHED.title = "ExecutionRequest"
M.LAUNCHED.properties.mode = { type = "string", enum = { "live", "sandbox", "replay" } }

-- What of a request its verdict may tell to be missing, instead of an error.
local TOLD = { session = true, modeName = true, participants = true }

local function without(names)
  local out = {}
  for _, name in ipairs(names) do
    if not TOLD[name] then out[#out + 1] = name end
  end
  return out
end

---The schema of a request that is only checked: that its session, its mode or its participants are missing is for the
---verdict to say (M.missing).
---@param schema table M.OBSERVED or M.LAUNCHED
function M.checked(schema)
  local out = tables.deep_copy(schema)
  out.title = nil
  out.required = without(out.required)
  out.properties.session.required = without(out.properties.session.required)
  return out
end

---What a checked request lacks, as messages.
---@param body table
---@return string[]
function M.missing(body)
  local session = json.absent(body.session)
  if session == nil then return { "session must be an object" } end
  local out = {}
  if json.absent(session.modeName) == nil then out[1] = "session.modeName must be a string" end
  if json.absent(session.participants) == nil then out[#out + 1] = "session.participants must be an array" end
  return out
end

---Whether a request asks for its session to be opened.
---@param body table
function M.is_launch(body)
  if body.kickoff ~= nil then return true end
  for name in pairs(SESSION) do
    if body.session[name] ~= nil then return true end
  end
  for _, participant in ipairs(body.session.participants) do
    for name in pairs(PARTICIPANT) do
      if participant[name] ~= nil then return true end
    end
  end
  return false
end

return M
