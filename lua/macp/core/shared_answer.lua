-- Answers that are kept for a moment: who asks the same question meanwhile gets them, and while one is being made
-- everybody who asks for it waits for that one.

local sys = require("host.sys")
local task = require("host.task")

local lru = require("macp.core.lru")

local QUESTIONS_MAX = 256

---@class macp.SharedAnswer
local SharedAnswer = {}
SharedAnswer.__index = SharedAnswer

local M = {}

---@param keep_ms integer 0: nothing is kept and nobody waits for others
---@param renewal { until_ms: integer, start: fun(work: function) }|nil an answer older than keep_ms is still given until
--- it is until_ms old, while start(work) runs work, which makes the next one (it yields), in a task of its own
function M.new(keep_ms, renewal)
  return setmetatable({ keep_ms = keep_ms, renewal = renewal, kept = lru.new(QUESTIONS_MAX) }, SharedAnswer)
end

-- Has the next answer made while the old one is still given; when that fails, the next who asks tries again.
local function renew(self, key, entry, ask)
  entry.renewing = true
  self.renewal.start(function()
    local value = ask()
    entry.renewing = false
    if value ~= nil then self.kept:set(key, { done = task.cond(), value = value, at_ms = sys.mono_ms() }) end
    return true
  end)
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

---The answer to a question if there is one already, which may be as old as the renewal allows; else it is being made
---from now on, and nil. Only with a renewal.
---@param key string
---@param ask fun(): any, table may yield
---@return any|nil value
function SharedAnswer:peek(key, ask)
  local entry = self.kept:get(key)
  if entry and entry.at_ms == nil then return nil end -- it is being made
  local age_ms = entry and sys.mono_ms() - entry.at_ms
  if entry == nil or entry.value == nil or age_ms >= self.renewal.until_ms then
    self.renewal.start(function()
      local value, err = self:get(key, ask)
      if value == nil then return nil, err end
      return true
    end)
    return nil
  end
  if age_ms >= self.keep_ms and not entry.renewing then renew(self, key, entry, ask) end
  return entry.value
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
    local age_ms = entry and entry.at_ms and sys.mono_ms() - entry.at_ms or 0
    local is_old = age_ms >= self.keep_ms
    if is_old and self.renewal and age_ms < self.renewal.until_ms then
      if not entry.renewing then renew(self, key, entry, ask) end
      return entry.value
    end
    if entry == nil or is_old then return make(self, key, ask) end
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
