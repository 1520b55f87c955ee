-- Questions about sessions that are due soon: after an envelope that may have closed one, after a long silence, and when
-- what was told about one contradicts what is known. One question at a time; a watch usually tells earlier.

local sys = require("host.sys")
local task = require("host.task")

local errors = require("macp.core.errors")
local binding = require("macp.plane.binding")
local ending = require("macp.plane.ending")
local standing = require("macp.plane.standing")

local ASK_AFTER_MS = { 50, 250, 1000 }

---@class macp.plane.Questions
local Questions = {}
Questions.__index = Questions

local M = {}

---@param client table runtime client
---@return macp.plane.Questions
function M.new(client)
  return setmetatable({ client = client, queue = {}, filled = task.cond() }, Questions)
end

local function push(self, run, attempt)
  local item = { run = run, attempt = attempt, due = sys.mono_ms() + ASK_AFTER_MS[attempt] }
  local queue = self.queue
  local at = #queue + 1
  while at > 1 and queue[at - 1].due > item.due do at = at - 1 end
  table.insert(queue, at, item)
  if at == 1 then self.filled:signal() end
end

---Asks soon what the session of a run has come to, and again a moment later while it goes on.
---@param run macp.plane.Run
function Questions:expect(run)
  if run.asking then
    run.ask_again = true
  else
    run.asking = true
    push(self, run, 1)
  end
end

-- The next question about the run, if one is due.
local function go_on(self, item)
  local run = item.run
  local attempt = item.attempt + 1
  if run.ask_again then attempt = 1 end
  run.ask_again = nil
  if ASK_AFTER_MS[attempt] and not run.gone and not run:has_ended() then push(self, run, attempt)
  else run.asking = nil end
end

-- Asks once. (yields)
local function ask(self, item)
  local run = item.run
  if run.gone or run:has_ended() or ending.check(run) then return true end
  if run.ending == nil then
    local asked = standing.moment()
    local metadata, err = self.client:get_session(run.session_id)
    if metadata then
      if not standing.hear(run, binding.told(metadata, { asked = asked })) then run.ask_again = true end
    elseif errors.is(err, "CANCELLED") then
      return nil, err
    end
  end
  go_on(self, item)
  return true
end

---Asks the questions when they are due. (yields)
function Questions:work()
  while true do
    local item = self.queue[1]
    local left = item and item.due - sys.mono_ms()
    if item == nil or left > 0 then
      local _, err = self.filled:wait(item and math.max(1, left) or nil)
      if err and err.code == "CANCELLED" then return nil, err end
    else
      table.remove(self.queue, 1)
      local ok, err = ask(self, item)
      if not ok then return nil, err end
    end
  end
end

return M
