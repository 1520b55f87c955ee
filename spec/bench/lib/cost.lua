-- What one call of something small costs the processor.

local sys = require("host.sys")

local ROUNDS = 7

---Microseconds of the processor per call, best of several rounds.
---@param count integer calls of a round
---@param fn fun()
---@return number
return function(count, fn)
  local best = math.huge
  for _ = 1, ROUNDS do
    local began = sys.cpu_ms()
    for _ = 1, count do fn() end
    best = math.min(best, (sys.cpu_ms() - began) * 1000 / count)
  end
  return best
end
