-- Arrivals: people look at a run the moment they have started its session, often before the runtime has told about it.
-- A question for an unknown run is held for a moment before the answer is that there is none.

local sys = require("host.sys")
local task = require("host.task")

local errors = require("macp.core.errors")

local POLL_MS = 250 -- another process may make the run
local MAX_HELD = 256 -- more questions at once are answered without waiting

---@class macp.plane.Arrivals
local Arrivals = {}
Arrivals.__index = Arrivals

local M = { MAX_HELD = MAX_HELD }

---@param opts { owner: table, grace_ms: integer } 0: nothing is held
---@return macp.plane.Arrivals
function M.new(opts)
  local self = setmetatable({ owner = opts.owner, grace_ms = opts.grace_ms, held = 0, arrived = task.cond() }, Arrivals)
  opts.owner.on_added = function()
    if self.held > 0 then self.arrived:broadcast() end
  end
  return self
end

-- Waits until the run may be there, at most until the deadline. (yields)
local function wait(self, tenant, run_id, deadline)
  local poll_at = math.min(deadline, sys.mono_ms() + POLL_MS)
  while not self.owner:stored_seq(tenant, run_id) do
    local left = poll_at - sys.mono_ms()
    if left <= 0 then return true end
    local ok, err = self.arrived:wait(math.ceil(left))
    if not ok and err.code ~= "TIMEOUT" then return nil, err end
  end
  return true
end

---What `ask` returns, asked again while the run is not found and the time is not over. (yields)
---@param tenant string a run of another tenant is as unknown as none
---@param run_id string
---@param ask fun(): any, macp.Error|nil fails with RUN_NOT_FOUND while there is no such run
function Arrivals:hold(tenant, run_id, ask)
  local found, err = ask()
  if found ~= nil or not errors.is(err, "RUN_NOT_FOUND") then return found, err end
  if self.grace_ms == 0 or self.held >= MAX_HELD then return nil, err end
  local deadline = sys.mono_ms() + self.grace_ms
  self.held = self.held + 1
  while found == nil and errors.is(err, "RUN_NOT_FOUND") and sys.mono_ms() < deadline do
    local ok, wait_err = wait(self, tenant, run_id, deadline)
    if not ok then
      found, err = nil, wait_err
    else
      found, err = ask()
    end
  end
  self.held = self.held - 1
  return found, err
end

return M
