-- Who owns a session. Asked here and nowhere else: today one process has all sessions of a store, guarded by the
-- store's lock and a fencing token (the epoch of its opening). A process whose store was taken over by another one
-- finds out with its next flush, refuses everything from then on and says so.

local host_log = require("host.log")

local Ownership = {}
Ownership.__index = Ownership

local M = {}

---@param opts { journal: table, on_lost: fun(reason: string) } host.journal; called once, when the store is lost
function M.new(opts)
  return setmetatable({ journal = opts.journal, on_lost = opts.on_lost, reason = nil }, Ownership)
end

---Why this process does not serve a session (nil: any session); nil while it does. Cheap: for every request.
---@param _session_id? string
---@return string|nil reason
function Ownership:refusal(_session_id)
  if self.reason then return self.reason end
  local ok, err = self.journal:owned()
  if ok then return nil end
  self.reason = "this runtime does not own its sessions any more: " .. err.message
  host_log.error("ownership.lost", { epoch = self.journal:epoch(), reason = err.message })
  self.on_lost(self.reason)
  return self.reason
end

---The fencing token under which this process owns what it owns.
---@return integer
function Ownership:epoch() return self.journal:epoch() end

return M
