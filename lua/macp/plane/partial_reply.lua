-- What a receiver says to a call from here: its status is the answer, and what follows is read only so far. A reply that
-- never ends costs neither memory nor more than the time that the call may take.

local task = require("host.task")

local MAX_READ = 65536 -- bytes; what is longer is cut off with its connection

local M = {}

-- (yields)
local function read_some(reply, keep)
  local pieces, size = {}, 0
  while size < MAX_READ do
    local piece = reply:read()
    if piece == nil then break end
    piece = tostring(piece)
    if size < keep then pieces[#pieces + 1] = piece end
    size = size + #piece
  end
  return table.concat(pieces):sub(1, keep)
end

---Reads a reply of host.fetch to its end, to the limit of 64 KiB, or for so long, and closes it. (yields)
---@param reply table of fetch.open
---@param timeout_ms number
---@param keep integer bytes of its beginning that are wanted
---@return string|nil beginning nil when its time was over
function M.take(reply, timeout_ms, keep)
  local beginning = task.with_deadline(math.max(1, timeout_ms), read_some, reply, keep)
  reply:close()
  return beginning
end

return M
