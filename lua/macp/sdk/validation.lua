-- Checks on the agent's side, before anything travels; all raise MacpSessionError naming the argument.

local suggest = require("macp.core.suggest")
local tables = require("macp.core.tables")

local envelope = require("macp.protocol.envelope")
local sdk_errors = require("macp.sdk.errors")

local MAX_PARTICIPANTS = 1000
local MAX_TTL_MS = 86400000

local M = {}

local function refuse(fmt, ...) sdk_errors.raise("MacpSessionError", fmt:format(...)) end

local function is_whole(value) return type(value) == "number" and value == math.floor(value) end

---The argument must be a string with something to read in it.
function M.required(name, value)
  if type(value) ~= "string" or not value:find("%S") then refuse("%s must be a non-blank string", name) end
end

---A session id that a runtime accepts.
function M.session_id(id)
  if type(id) ~= "string" or not envelope.is_session_id(id) then
    refuse("session_id must be a lower-case UUID of version 4 or 7, or at least 22 characters of base64url")
  end
end

---The set of names for known_options.
function M.options(names)
  local set = {}
  for _, name in ipairs(names) do set[name] = true end
  return set
end

---An option table may only have these keys: a misspelt option must not be ignored.
---@param opts table|nil
---@param allowed table<string, boolean>
function M.known_options(opts, allowed)
  for key in pairs(opts or {}) do
    if not allowed[key] then
      local hint = type(key) == "string" and suggest.hint(key, tables.sorted_keys(allowed)) or ""
      sdk_errors.raise("MacpSdkError", "unknown option '" .. tostring(key) .. "'" .. hint)
    end
  end
end

---A timeout is a number of milliseconds above zero, or absent.
function M.timeout(name, value)
  if value ~= nil and not (type(value) == "number" and value > 0) then
    sdk_errors.raise("MacpSdkError", name .. " must be a number of milliseconds above 0")
  end
end

---What SessionStart needs, whatever the mode.
function M.session_start(start)
  M.required("intent", start.intent)
  M.required("mode_version", start.mode_version)
  M.required("configuration_version", start.configuration_version)
  local list, seen = start.participants, {}
  if type(list) ~= "table" or #list > MAX_PARTICIPANTS then
    refuse("participants must be at most %d names", MAX_PARTICIPANTS)
  end
  for i, name in ipairs(list) do
    M.required("participants[" .. i .. "]", name)
    if seen[name] then refuse("participants[%d] repeats '%s'", i, name) end
    seen[name] = true
  end
  if not is_whole(start.ttl_ms) or start.ttl_ms < 1 or start.ttl_ms > MAX_TTL_MS then
    refuse("ttl_ms must be a whole number from 1 to %d", MAX_TTL_MS)
  end
  local max_suspend_ms = start.max_suspend_ms or 0
  if not is_whole(max_suspend_ms) or max_suspend_ms < 0 then
    refuse("max_suspend_ms must be a whole number, 0 or more")
  end
end

local function finite(name, value)
  if type(value) ~= "number" or value ~= value or math.abs(value) == math.huge then
    refuse("%s must be a finite number", name)
  end
end

---A Signal says what it is, and its confidence is a number that compares.
function M.signal(signal)
  M.required("signal_type", signal.signal_type)
  finite("confidence", signal.confidence or 0)
end

---Progress names what progresses and how far; of a session it needs the session's mode, too.
function M.progress(progress)
  M.required("progress_token", progress.progress_token)
  finite("progress", progress.progress)
  finite("total", progress.total)
  if ((progress.session_id or "") == "") ~= ((progress.mode or "") == "") then
    refuse("session_id and mode go together")
  end
end

return M
