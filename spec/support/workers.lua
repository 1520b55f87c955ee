-- Much work, some of it at a time: one counter hands it out.

local task = require("host.task")

local M = {}

---fn(i) for every i from 1 to count, in this order. The first failure is raised; nothing more begins then. (yields)
---@param count integer
---@param at_once integer how many at the same time
---@param fn fun(i: integer)
function M.each(count, at_once, fn)
  local last = 0
  local function work()
    while last < count do
      last = last + 1
      fn(last)
    end
    return true
  end
  local ok, err = task.group(function(group)
    for _ = 1, math.min(at_once, count) do group:spawn(work) end
  end)
  if not ok then error(err.message, 2) end
end

return M
