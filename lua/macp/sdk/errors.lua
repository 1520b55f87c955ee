-- Errors of the agent SDK: raised as tables, told apart by name along a chain of parents.

local PARENTS = {
  MacpSdkError = false,
  MacpAckError = "MacpSdkError",
  MacpTransportError = "MacpSdkError",
  MacpTimeoutError = "MacpTransportError",
  MacpRetryError = "MacpTransportError",
  MacpSessionError = "MacpSdkError",
  MacpIdentityMismatchError = "MacpSdkError",
}

local Error = {}
Error.__index = Error
function Error.__tostring(err) return err.name .. ": " .. err.message end

local M = {}

---Makes an error of the SDK without raising it.
---@param name string a name of the chain above
---@param message string
---@param fields table|nil further fields, e.g. code, failure, cause
function M.new(name, message, fields)
  assert(PARENTS[name] ~= nil, name)
  local err = { name = name, message = message }
  for key, value in pairs(fields or {}) do err[key] = value end
  return setmetatable(err, Error)
end

---Raises an error of the SDK.
function M.raise(name, message, fields) error(M.new(name, message, fields), 0) end

---Whether err is of that name or below it.
function M.is(err, name)
  if getmetatable(err) ~= Error then return false end
  local at = err.name
  while at do
    if at == name then return true end
    at = PARENTS[at]
  end
  return false
end

return M
