-- Whether a caller may go on: what was looked at when a long reply began may have changed since.

local M = {}

---Why the caller may be told no more, or nil.
---@param actor { revoked: boolean|nil, expires_ms: integer|nil }
---@param now_ms integer
---@return string|nil
function M.refusal(actor, now_ms)
  if actor.revoked then return "Invalid authorization token" end
  if actor.expires_ms and now_ms >= actor.expires_ms then return "Expired authorization token" end
  return nil
end

return M
