-- Session states and lifecycle events: numbers as on the wire, names, and which states are final.

local M = {}

M.UNSPECIFIED, M.OPEN, M.RESOLVED, M.EXPIRED, M.SUSPENDED, M.CANCELLED = 0, 1, 2, 3, 4, 5

M.NAMES = {
  [0] = "SESSION_STATE_UNSPECIFIED",
  "SESSION_STATE_OPEN", "SESSION_STATE_RESOLVED", "SESSION_STATE_EXPIRED",
  "SESSION_STATE_SUSPENDED", "SESSION_STATE_CANCELLED",
}

M.NUMBERS = {}
for number, name in pairs(M.NAMES) do M.NUMBERS[name] = number end

M.EVENT = { CREATED = 1, RESOLVED = 2, EXPIRED = 3, SUSPENDED = 4, RESUMED = 5, CANCELLED = 6 }

-- The event that announces a change into a state.
M.EVENT_OF_STATE = {
  [M.RESOLVED] = M.EVENT.RESOLVED, [M.EXPIRED] = M.EVENT.EXPIRED,
  [M.SUSPENDED] = M.EVENT.SUSPENDED, [M.CANCELLED] = M.EVENT.CANCELLED,
}

---Nothing leaves a terminal state.
---@param state integer|string number or wire name
function M.is_terminal(state)
  if type(state) == "string" then state = M.NUMBERS[state] end
  return state == M.RESOLVED or state == M.EXPIRED or state == M.CANCELLED
end

return M
