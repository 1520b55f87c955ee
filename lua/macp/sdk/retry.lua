-- Sends an envelope again until it is accepted, refused for good, or the attempts are used up. The message id stays the
-- same, so an answer that got lost shows as a duplicate, which is success.

local task = require("host.task")

local sdk_errors = require("macp.sdk.errors")
local validation = require("macp.sdk.validation")

local NEVER = {
  UNAUTHENTICATED = true, PERMISSION_DENIED = true, UNIMPLEMENTED = true, INVALID_ARGUMENT = true, CANCELLED = true,
}
local OPTIONS = validation.options({ "max_retries", "backoff_base_ms", "backoff_max_ms", "jitter" })
local RETRYABLE_ACKS = { RATE_LIMITED = true, INTERNAL_ERROR = true }

local M = {}

---How often and how soon to try again.
---@param opts { max_retries: integer|nil, backoff_base_ms: number|nil, backoff_max_ms: number|nil, jitter: number|nil }|nil
---@return table policy 3 retries after 100, 200 and 400 ms unless told otherwise
function M.policy(opts)
  opts = opts or {}
  validation.known_options(opts, OPTIONS)
  return {
    max_retries = opts.max_retries or 3,
    backoff_base_ms = opts.backoff_base_ms or 100,
    backoff_max_ms = opts.backoff_max_ms or 2000,
    jitter = opts.jitter or 0,
  }
end

local function is_retryable(err)
  if sdk_errors.is(err, "MacpTransportError") then return not NEVER[err.code] end
  return sdk_errors.is(err, "MacpAckError") and RETRYABLE_ACKS[err.failure.code] == true
end

local function delay(policy, attempt)
  local ms = math.min(policy.backoff_base_ms * 2 ^ attempt, policy.backoff_max_ms)
  return ms * (1 - policy.jitter * math.random())
end

---Calls send() until it returns. (yields) Raises MacpRetryError with the last error as cause, or a final error at once.
---@param policy table of M.policy, or its options
---@param send function
function M.run(policy, send)
  policy = M.policy(policy)
  local last
  for attempt = 0, policy.max_retries do
    local ok, result = pcall(send)
    if ok then return result end
    if not is_retryable(result) then error(result, 0) end
    last = result
    if attempt < policy.max_retries then task.sleep(delay(policy, attempt)) end
  end
  sdk_errors.raise("MacpRetryError",
    "retries exhausted after " .. policy.max_retries + 1 .. " attempts: " .. last.message,
    { code = last.code, cause = last })
end

return M
