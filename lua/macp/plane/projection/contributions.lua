-- What participants said about proposals: the newest `cap` contributions. They are kept as flat values, not as a
-- table each: a process holds them for every live run.

local json = require("macp.core.json")

local WIDTH = 7 -- values of one contribution; false stands for nothing

---@class macp.plane.Contributions
---@field cap integer
---@field total integer contributions ever added
local Contributions = {}
Contributions.__index = Contributions

local M = {}

---@param cap integer
---@param items table[]|nil as of items(), oldest first
---@return macp.plane.Contributions
function M.new(cap, items)
  local self = setmetatable({ cap = cap, total = 0 }, Contributions)
  for _, item in ipairs(items or {}) do
    self:push(item.participantId, item.action, item.confidence, item.reasons, item.ts, item.vote, item.messageType)
  end
  return self
end

---Adds a contribution; the oldest one falls out when there is no room.
---@param reasons string|string[] one reason, or a JSON array of them
function Contributions:push(participant_id, action, confidence, reasons, ts, vote, message_type)
  local at = self.total % self.cap * WIDTH
  self.total = self.total + 1
  self[at + 1], self[at + 2], self[at + 3], self[at + 4] = participant_id, action, confidence or false, reasons
  self[at + 5], self[at + 6], self[at + 7] = ts, vote or false, message_type or false
end

---The contributions as the document shows them, oldest first.
---@return table[]
function Contributions:items()
  local total, cap = self.total, self.cap
  local out, count = {}, math.min(total, cap)
  for i = 1, count do
    local at = (total - count + i - 1) % cap * WIDTH
    local reasons = self[at + 4]
    out[i] = {
      participantId = self[at + 1], action = self[at + 2], confidence = self[at + 3] or nil,
      reasons = type(reasons) == "string" and json.array({ reasons }) or reasons, ts = self[at + 5],
      vote = self[at + 6] or nil, messageType = self[at + 7] or nil,
    }
  end
  return out
end

return M
