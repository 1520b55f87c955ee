-- What the process that serves the runtime may do to its sessions without being an agent of them: its operator owns both.

local codes = require("macp.protocol.codes")
local control = require("macp.runtime.control")
local errors = require("macp.core.errors")
local lifecycle = require("macp.protocol.lifecycle")

local M = {}

---Ends a session for good; one that has ended already is left as it is. (yields)
---@param role { sessions: table, kernel: table, log: table }
---@param session_id string
---@param by string who is named in the session's history
---@param reason string|nil
---@return boolean|nil done false: there is no such session
---@return macp.Error|nil err
function M.cancel(role, session_id, by, reason)
  local session, err = role.sessions:find(session_id)
  if session == nil then
    if err then return nil, errors.wrap(err, "read the session") end
    return false
  end
  if lifecycle.is_terminal(session.state) then return true end
  local verdict, code, text = control.cancel(role.kernel, session, { sender = by }, reason or "")
  if verdict == nil then return nil, errors.new("CONFLICT", { runtimeCode = code }, codes.text(code, text)) end
  local stored, store_err = role.log:wait(verdict.lsn)
  if not stored then return nil, errors.wrap(store_err, "store the end of the session") end
  return true
end

return M
