-- Notices over the database: each commit of events notifies the processes that listen. Nothing is sent while no other
-- process holds a lease, because commits that notify wait for each other on the server. A process that starts greets
-- the others, so that they begin at once.

local log = require("host.log")

local notices = require("macp.plane.notices")

local stream_notices = require("macp.store.stream_notices")

local HELLO = "hello "

---@class macp.plane.Announce.Notify
local Notify = {}
Notify.__index = Notify

local M = {}

---@param deps { db: table, name: string, lease: macp.plane.Lease, hub: macp.plane.Hub, follower: macp.plane.Follower }
function M.new(deps)
  return setmetatable({ db = deps.db, name = deps.name, lease = deps.lease, hub = deps.hub, follower = deps.follower,
    is_well = false }, Notify)
end

---Adds the notices of a batch to the unit of work that stores it.
---@return true|nil
---@return table|nil err
function Notify:add(unit, batch)
  if self.lease.others == 0 then return true end
  for _, text in ipairs(notices.of(batch.runs)) do
    local ok, err = stream_notices.add(unit, text)
    if not ok then return nil, err end
  end
  return true
end

---The batch is stored; its notices went with the commit.
function Notify.stored(_) end

-- (yields)
local function receive(self, sub)
  local greeted, err = stream_notices.send(self.db, HELLO .. self.name)
  if greeted == nil then return nil, err end
  self.is_well = true
  self.follower:rely_on_notices()
  while true do
    local notice
    notice, err = sub:next()
    if notice == nil then return nil, err end
    if notice.reset then
      log.info("stream.notices_reset")
      self.follower:look_at_all()
    elseif notice.payload:sub(1, #HELLO) == HELLO then
      if notice.payload ~= HELLO .. self.name then self.lease:expect_others() end
    else
      notices.each(notice.payload, function(run_id, seq) self.hub:notice(run_id, seq) end)
    end
  end
end

---Listens until that fails. (yields)
---@return nil
---@return table err
function Notify:work()
  local sub, err = stream_notices.listen(self.db)
  if sub == nil then return nil, err end
  local _, receive_err = receive(self, sub)
  sub:close()
  self.is_well = false
  self.follower:without_notices()
  return nil, receive_err
end

return M
