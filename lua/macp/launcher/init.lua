-- Launcher: opens sessions and sends their first messages for whoever asks the control plane to. It is an agent of its
-- own: it speaks through the SDK with credentials of its own, and the plane's observer knows nothing of it.

local auth = require("macp.sdk.auth")
local plan = require("macp.launcher.plan")
local sdk = require("macp.sdk")
local sdk_errors = require("macp.sdk.errors")

local BACKOFF = { backoff_base_ms = 250, backoff_max_ms = 5000, jitter = 0.2 }

-- Statuses of calls as codes of the control plane; what a runtime refuses by name keeps the code it was refused with.
local CODES = {
  UNAVAILABLE = "RUNTIME_UNAVAILABLE", DEADLINE_EXCEEDED = "RUNTIME_TIMEOUT", PERMISSION_DENIED = "FORBIDDEN",
  RESOURCE_EXHAUSTED = "RATE_LIMITED", UNIMPLEMENTED = "NOT_IMPLEMENTED", INVALID_ARGUMENT = "VALIDATION_ERROR",
  OUT_OF_RANGE = "VALIDATION_ERROR", FAILED_PRECONDITION = "CONFLICT", ABORTED = "CONFLICT",
  INTERNAL = "INTERNAL_ERROR", UNKNOWN = "INTERNAL_ERROR", DATA_LOSS = "INTERNAL_ERROR",
}

---@class macp.Launcher
local Launcher = {}
Launcher.__index = Launcher

local M = {}

---@param opts { address: string, tls: boolean, bearer_token: string|nil, dev_agent_id: string, timeout_ms: integer,
---  max_retries: integer, version: string, headers: function|nil } headers: of every call. Without a token every sender names itself, as development allows
function M.new(opts)
  local retry = { max_retries = opts.max_retries }
  for name, value in pairs(BACKOFF) do retry[name] = value end
  local token = opts.bearer_token ~= "" and opts.bearer_token or nil
  return setmetatable({
    own = token and auth.for_bearer(token) or nil, fallback = opts.dev_agent_id,
    client = sdk.client({ target = opts.address, secure = opts.tls or nil, allow_insecure = not opts.tls,
      default_timeout_ms = opts.timeout_ms, client_name = "macp-launcher", client_version = opts.version,
      retry = retry, headers = opts.headers }),
  }, Launcher)
end

---What opening the session of a request takes.
---@param body table a checked request
---@param run_id string
---@param session_id string
---@return table|nil plan
---@return string[]|nil problems by path
function Launcher:plan(body, run_id, session_id)
  return plan.make(body, { run_id = run_id, session_id = session_id, fallback = self.fallback })
end

-- What went wrong as { code, message }; a bug is raised again.
local function reason_of(err)
  if not sdk_errors.is(err, "MacpSdkError") then error(err, 0) end
  local failure = err.failure or (err.cause and err.cause.failure)
  local message = failure and failure.message or err.message
  local code = failure and failure.code or err.code
  return { code = CODES[code] or code or "INTERNAL_ERROR", message = message }
end

---Sends one item of a plan, again when that may help. (yields)
---@return table|nil ack
---@return { code: string, message: string }|nil reason code CANCELLED when the task is being ended
function Launcher:send(item)
  local credential = self.own
  if credential == nil then
    credential = auth.for_dev_agent(item.sender)
    item.envelope.sender = item.sender
  end
  local ok, result = pcall(self.client.send, self.client, item.envelope, { auth = credential })
  if ok then return result end
  return nil, reason_of(result)
end

---Closes the connection.
function Launcher:close() self.client:close() end

return M
