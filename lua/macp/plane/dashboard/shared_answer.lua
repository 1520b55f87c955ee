-- Answers that are kept for a moment: who asks the same question meanwhile gets them, and while one is being made
-- everybody who asks for it waits for that one.

local sys = require("host.sys")
local task = require("host.task")

local lru = require("macp.core.lru")

local QUESTIONS_MAX = 256

---@class macp.plane.SharedAnswer
local SharedAnswer = {}
SharedAnswer.__index = SharedAnswer

local M = {}

---@param keep_ms integer 0: nothing is kept and nobody waits for others
function M.new(keep_ms)
  return setmetatable({ keep_ms = keep_ms, kept = lru.new(QUESTIONS_MAX) }, SharedAnswer)
end

-- Makes the answer and lets those who wait have it. (yields)
local function make(self, key, ask)
  local entry = { done = task.cond() }
  self.kept:set(key, entry)
  local ok, value, err = pcall(ask)
  if not ok then value, err = nil, value end
  entry.value, entry.err, entry.at_ms = value, err, sys.mono_ms()
  if value == nil and self.kept:get(key) == entry then self.kept:remove(key) end
  entry.done:broadcast()
  if not ok then error(err, 0) end
  return value, err
end

---The answer to a question. (yields)
---@param key string the question
---@param ask fun(): any, table makes the answer: a value, or nil and an error (may yield)
---@return any value
---@return table|nil err
function SharedAnswer:get(key, ask)
  if self.keep_ms == 0 then return ask() end
  while true do
    local entry = self.kept:get(key)
    if entry == nil or (entry.at_ms and sys.mono_ms() - entry.at_ms >= self.keep_ms) then
      return make(self, key, ask)
    end
    if entry.at_ms == nil then
      local ok, err = entry.done:wait()
      if not ok then return nil, err end
    end
    if entry.value ~= nil then return entry.value end
    -- Whoever made it may just have gone away; any other failure is everybody's.
    if type(entry.err) ~= "table" or entry.err.code ~= "CANCELLED" then return nil, entry.err end
  end
end

return M
