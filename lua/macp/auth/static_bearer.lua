-- Static tokens: a JSON list of credentials and what each may do. Only digests are kept, so that comparing never
-- depends on how much of a guess is right.

local crypto = require("host.crypto")

local json = require("macp.core.json")

local M = {}

local function problem(i, text) return string.format("tokens[%d]: %s", i, text) end

local OPTIONAL = {
  can_start_sessions = "boolean", can_manage_mode_registry = "boolean", is_observer = "boolean",
  max_open_sessions = "number", allowed_modes = "table",
}

local function check_entry(i, entry)
  if type(entry) ~= "table" then return problem(i, "must be an object") end
  for _, member in ipairs({ "token", "sender" }) do
    if type(entry[member]) ~= "string" or not entry[member]:find("%S") then
      return problem(i, member .. " must be a non-empty string")
    end
  end
  for member, kind in pairs(OPTIONAL) do
    local value = entry[member]
    if value ~= nil and type(value) ~= kind then
      return problem(i, member .. " must be " .. (kind == "table" and "an array of strings" or "a " .. kind))
    end
  end
  local cap = entry.max_open_sessions
  if cap and (cap < 0 or cap % 1 ~= 0) then return problem(i, "max_open_sessions must be an integer >= 0") end
  for _, mode in ipairs(entry.allowed_modes or {}) do
    if type(mode) ~= "string" then return problem(i, "allowed_modes must be an array of strings") end
  end
  return nil
end

-- An empty list and "*" mean all modes; "" is harmless.
local function mode_set(list)
  local set, count = {}, 0
  for _, mode in ipairs(list or {}) do
    if mode == "*" then return nil end
    set[mode], count = true, count + 1
  end
  return count > 0 and set or nil
end

local function identity_of(entry)
  return {
    sender = entry.sender,
    allowed_modes = mode_set(entry.allowed_modes),
    can_start = entry.can_start_sessions ~= false,
    max_open = entry.max_open_sessions,
    can_manage = entry.can_manage_mode_registry == true,
    observer = entry.is_observer == true,
  }
end

---Reads a token document: an array, or an object with member `tokens`.
---@param text string JSON
---@return table[]|nil entries, string? reason
function M.parse(text)
  local document, err = json.decode(text)
  if document == nil then return nil, err.message end
  local list = document
  if type(document) == "table" and not json.is_array(document) then list = document.tokens end
  if type(list) ~= "table" or not json.is_array(list) then
    return nil, "must be an array of tokens or an object with the member tokens"
  end
  for i, entry in ipairs(list) do
    local reason = check_entry(i, entry)
    if reason then return nil, reason end
  end
  return list
end

---A resolver of the chain over parsed entries. It claims credentials without a dot; the last of equal tokens wins.
---@param entries table[]
function M.new(entries)
  local by_digest = {}
  for _, entry in ipairs(entries) do by_digest[crypto.sha256(entry.token)] = identity_of(entry) end
  return {
    name = "static",
    ---@return macp.auth.Identity|nil identity, string? reason
    resolve = function(_, credential)
      local identity = by_digest[crypto.sha256(credential)]
      if identity == nil then return nil, "unknown token" end
      return identity
    end,
  }
end

return M
