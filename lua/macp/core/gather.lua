-- Gathering: what many tasks ask for at the same moment is done at once. What comes while the last lot is on its way goes
-- into the next one, so that a lone request waits for nobody and many share a transaction.

local task = require("host.task")

local Gather = {}
Gather.__index = Gather

local M = {}

---@class macp.Gathered one request
---@field value any what was asked with
---@field settle fun(self, result: any, err: table|nil) the answer

local Item = {}
Item.__index = Item

function Item:settle(result, err) self.done, self.result, self.err = true, result, err end

---@param opts { max: integer, work: fun(items: macp.Gathered[]), closed: fun(): table } of one lot at most; settles every
---  item, may yield; the error of requests that come after the end
---@return macp.Gather
function M.new(opts)
  return setmetatable({ max = opts.max, work_on = opts.work, refuse = opts.closed, queue = {}, filled = task.cond(),
    answered = task.cond(), closed = false }, Gather)
end

---Asks for something and waits until it is done. (yields)
---@return any result, table|nil err what the work settled with; the end of the caller's task
function Gather:ask(value)
  if self.closed then return nil, self.refuse() end
  local item = setmetatable({ value = value, done = false }, Item)
  local queue = self.queue
  queue[#queue + 1] = item
  if #queue == 1 then self.filled:signal() end
  while not item.done do
    local ok, err = self.answered:wait()
    if not ok and not item.done then return nil, err end
  end
  return item.result, item.err
end

-- The next lot, oldest first.
local function take(self)
  local queue = self.queue
  if #queue <= self.max then
    self.queue = {}
    return queue
  end
  local lot, rest = {}, {}
  for i, item in ipairs(queue) do
    local list = i <= self.max and lot or rest
    list[#list + 1] = item
  end
  self.queue = rest
  return lot
end

---Works until the task is cancelled; whoever still waits then is refused. (yields)
function Gather:run()
  while not self.closed do
    if #self.queue == 0 then
      local ok, err = self.filled:wait()
      if not ok then
        self.closed = true
        for _, item in ipairs(self.queue) do item:settle(nil, self.refuse()) end
        self.answered:broadcast()
        return nil, err
      end
    else
      local lot = take(self)
      local ok, err = xpcall(self.work_on, debug.traceback, lot)
      if not ok then -- nobody waits for ever for what failed
        for _, item in ipairs(lot) do
          if not item.done then item:settle(nil, { code = "INTERNAL", message = "the work on it failed" }) end
        end
      end
      self.answered:broadcast()
      if not ok then error(err, 0) end
    end
  end
  return true
end

return M
