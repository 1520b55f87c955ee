-- What an identity may do: the members that static tokens and the macp_scopes claim share, checked and made into an
-- identity. An empty list of modes and "*" mean all modes; "" is harmless.

local json = require("macp.core.json")

local MAX_SENDER_BYTES = 1024 -- as every text of an envelope

---@class macp.auth.Identity
---@field sender string
---@field allowed_modes table<string, boolean>|nil nil: all modes
---@field can_start boolean
---@field max_open integer|nil nil: no limit
---@field can_manage boolean
---@field observer boolean
---@field expires_at_ms number|nil when the credential is over, leeway included; nil: never

local M = {}

local MEMBERS = {
  { "can_start_sessions", "boolean", "a boolean" }, { "can_manage_mode_registry", "boolean", "a boolean" },
  { "is_observer", "boolean", "a boolean" }, { "max_open_sessions", "number", "an integer >= 0" },
  { "allowed_modes", "table", "an array of strings" },
}

---What is wrong with the members of a decoded JSON object, or nil. Unknown members are ignored.
---@param members table
---@return string|nil
function M.problem(members)
  for _, member in ipairs(MEMBERS) do
    local value = members[member[1]]
    if value ~= nil and type(value) ~= member[2] then return member[1] .. " must be " .. member[3] end
  end
  local cap = members.max_open_sessions
  if cap and (cap < 0 or cap % 1 ~= 0) then return "max_open_sessions must be an integer >= 0" end
  local modes = members.allowed_modes
  if modes and not json.is_array(modes) then return "allowed_modes must be an array of strings" end
  for _, mode in ipairs(modes or {}) do
    if type(mode) ~= "string" then return "allowed_modes must be an array of strings" end
  end
  return nil
end

---What is wrong with a sender, or nil.
function M.sender_problem(sender)
  if type(sender) ~= "string" or not sender:find("%S") then return "must be a non-empty string" end
  if #sender > MAX_SENDER_BYTES then return "must have at most " .. MAX_SENDER_BYTES .. " bytes" end
  if sender:find("%z") then return "must not hold a NUL" end
  return nil
end

local function mode_set(list)
  local set, count = {}, 0
  for _, mode in ipairs(list or {}) do
    if mode == "*" then return nil end
    set[mode], count = true, count + 1
  end
  return count > 0 and set or nil
end

---The identity of a sender with members that have no problem.
---@param sender string
---@param members table
---@return macp.auth.Identity
function M.identity(sender, members)
  return {
    sender = sender,
    allowed_modes = mode_set(members.allowed_modes),
    can_start = members.can_start_sessions ~= false,
    max_open = members.max_open_sessions,
    can_manage = members.can_manage_mode_registry == true,
    observer = members.is_observer == true,
  }
end

return M
