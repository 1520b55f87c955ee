-- Finished sessions that somebody has asked for, kept for the next who asks: a bounded number, and bounded together
-- in the message ids they hold.

local lru = require("macp.core.lru")

local MAX_SESSIONS = 256
local MAX_IDS = 262144

local Cold = {}
Cold.__index = Cold

local M = {}

---@param max_ids? integer
function M.new(max_ids)
  local cold = setmetatable({ ids = 0, weights = {}, max_ids = max_ids or MAX_IDS }, Cold)
  cold.entries = lru.new(MAX_SESSIONS, function(id) cold:forget(id) end)
  return cold
end

-- Takes a session that is gone out of the sum.
function Cold:forget(id)
  self.ids = self.ids - (self.weights[id] or 0)
  self.weights[id] = nil
end

function Cold:get(id) return self.entries:get(id) end

function Cold:remove(id)
  if self.entries:remove(id) then self:forget(id) end
end

---Takes what a session holds into the sum, and gives up others while that is too much.
function Cold:weigh(session)
  if self.entries:get(session.id) ~= session then return end
  self:forget(session.id)
  local weight = session.ids and session.ordinals or 0
  self.weights[session.id], self.ids = weight, self.ids + weight
  while self.ids > self.max_ids and self.entries.size > 1 do
    local oldest = self.entries.ends.newer
    self:remove(oldest.key)
  end
end

---Keeps a session.
function Cold:add(session)
  self.entries:set(session.id, session)
  self:weigh(session)
end

return M
