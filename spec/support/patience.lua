-- How long to wait for something. The times in specs are what it may take on a machine with nothing else to do; where many
-- processes share few slow processors it takes several times that, and waiting longer costs only where something fails.

local FACTOR = 6
local MOST_MS = 120000

---@param ms number what is ample on an idle machine
---@return number ms to wait at most
return function(ms) return math.max(ms, math.min(FACTOR * ms, MOST_MS)) end
