-- Descriptors of modes that are registered over the wire: what they must say, and how one becomes the file from which
-- a template makes its handler. A descriptor is a table with the fields of macp.v1.ModeDescriptor.

local TERMINAL = "Commitment"
local RESERVED_PREFIX = "macp.mode."

local MAX_NAME_BYTES = 1024 -- what an envelope can carry
local MAX_TEXT_BYTES = 8192
local MAX_TYPES = 64
local MAX_URIS = 32

local TEXTS = { "mode", "mode_version", "title", "description", "determinism_class", "participant_model" }
local LISTS = { "message_types", "terminal_message_types" }

local M = { RESERVED_PREFIX = RESERVED_PREFIX }

local function is_blank(text) return text == nil or not text:find("%S") end

---Whether a mode id belongs to the protocol.
function M.is_reserved(id) return id:sub(1, #RESERVED_PREFIX) == RESERVED_PREFIX end

---Why a text cannot name a mode; nil when it can.
function M.name_problem(what, name)
  if #name > MAX_NAME_BYTES then return string.format("%s is longer than %d bytes", what, MAX_NAME_BYTES) end
  if name:find("%c") or name:find("^%s") or name:find("%s$") then
    return what .. " must not have control characters or white space around it"
  end
  return nil
end

local function contains(list, wanted)
  for _, item in ipairs(list) do
    if item == wanted then return true end
  end
  return false
end

-- What the protocol demands of an extension mode. The first that does not hold is the one that is told.
local function rule_problem(descriptor)
  local mode, types, terminal = descriptor.mode, descriptor.message_types or {}, descriptor.terminal_message_types or {}
  if is_blank(mode) then return "mode is empty: the descriptor must name it" end
  if M.is_reserved(mode) then
    return string.format("mode '%s' is in the namespace %s*, which is reserved for standard modes", mode,
      RESERVED_PREFIX)
  end
  if #types == 0 then return "message_types is empty: the mode has no message types" end
  if is_blank(descriptor.mode_version) then return "mode_version is missing" end
  if #terminal == 0 then return "terminal_message_types is empty: a session of this mode could not end" end
  for _, name in ipairs(terminal) do
    if name ~= TERMINAL then
      return string.format("terminal message type '%s': only %s resolves a session", name, TERMINAL)
    end
  end
  if not contains(types, TERMINAL) then
    return string.format("terminal message type '%s' is not in message_types", TERMINAL)
  end
  return nil
end

-- What keeps a descriptor small and its names usable in envelopes.
local function bound_problem(descriptor)
  for _, field in ipairs({ "mode", "mode_version" }) do
    local reason = M.name_problem(field, descriptor[field])
    if reason then return reason end
  end
  for _, field in ipairs(TEXTS) do
    if #(descriptor[field] or "") > MAX_TEXT_BYTES then
      return string.format("%s is longer than %d bytes", field, MAX_TEXT_BYTES)
    end
  end
  if #descriptor.message_types > MAX_TYPES then
    return string.format("message_types has more than %d entries", MAX_TYPES)
  end
  for i, name in ipairs(descriptor.message_types) do
    local what = string.format("message_types[%d]", i)
    if is_blank(name) then return what .. " is empty" end
    local reason = M.name_problem(what, name)
    if reason then return reason end
  end
  local count = 0
  for key, uri in pairs(descriptor.schema_uris or {}) do
    count = count + 1
    if #key > MAX_NAME_BYTES or #uri > MAX_TEXT_BYTES then return "schema_uris has an entry that is too long" end
  end
  if count > MAX_URIS then return string.format("schema_uris has more than %d entries", MAX_URIS) end
  return nil
end

local function type_problem(descriptor)
  if type(descriptor) ~= "table" then return "must be an object" end
  for _, field in ipairs(TEXTS) do
    local value = descriptor[field]
    if value ~= nil and type(value) ~= "string" then return field .. " must be a string" end
  end
  for _, field in ipairs(LISTS) do
    local value = descriptor[field]
    if value ~= nil and type(value) ~= "table" then return field .. " must be an array of strings" end
    for key, item in pairs(value or {}) do
      if type(key) ~= "number" or type(item) ~= "string" then return field .. " must be an array of strings" end
    end
  end
  local uris = descriptor.schema_uris
  if uris ~= nil and type(uris) ~= "table" then return "schema_uris must map names to URIs" end
  for key, value in pairs(uris or {}) do
    if type(key) ~= "string" or type(value) ~= "string" then return "schema_uris must map names to URIs" end
  end
  return nil
end

---Why a descriptor cannot be registered, as one sentence; nil when it can.
---@param descriptor table
---@return string|nil
function M.problem(descriptor)
  return type_problem(descriptor) or rule_problem(descriptor) or bound_problem(descriptor)
end

local function copy_list(list)
  local out = {}
  for i, item in ipairs(list or {}) do out[i] = item end
  return out
end

---A copy with every field present.
---@param descriptor table one without problem()
function M.complete(descriptor)
  local out = { schema_uris = {} }
  for _, field in ipairs(TEXTS) do out[field] = descriptor[field] or "" end
  for _, field in ipairs(LISTS) do out[field] = copy_list(descriptor[field]) end
  for key, uri in pairs(descriptor.schema_uris or {}) do out.schema_uris[key] = uri end
  return out
end

---A copy under another mode id.
function M.renamed(descriptor, id)
  local out = M.complete(descriptor)
  out.mode = id
  return out
end

-- A Lua literal that reads the same whatever bytes the text has.
local function quoted(text)
  return '"' .. text:gsub('[%c"\\\127-\255]', function(c) return string.format("\\%03d", c:byte()) end) .. '"'
end

local function list_source(list)
  local out = {}
  for i, item in ipairs(list) do out[i] = quoted(item) end
  return "{ " .. table.concat(out, ", ") .. " }"
end

local function map_source(map)
  local keys, out = {}, {}
  for key in pairs(map) do keys[#keys + 1] = key end
  table.sort(keys)
  for i, key in ipairs(keys) do out[i] = string.format("[%s] = %s", quoted(key), quoted(map[key])) end
  return "{ " .. table.concat(out, ", ") .. " }"
end

---The text of lib/descriptor.lua: equal descriptors have equal texts.
---@param descriptor table a complete one
---@return string
function M.source(descriptor)
  local lines = { "-- The descriptor of a registered mode.", "return {" }
  for _, field in ipairs(TEXTS) do lines[#lines + 1] = string.format("  %s = %s,", field, quoted(descriptor[field])) end
  for _, field in ipairs(LISTS) do
    lines[#lines + 1] = string.format("  %s = %s,", field, list_source(descriptor[field]))
  end
  lines[#lines + 1] = string.format("  schema_uris = %s,", map_source(descriptor.schema_uris))
  lines[#lines + 1] = "}"
  return table.concat(lines, "\n") .. "\n"
end

return M
