-- Other processes of this machine: their signals and their children.

local child = require("host.child")
local fs = require("host.fs")

local M = {}

---Sends a signal ("STOP", "KILL", ...) to one process id. (yields)
function M.signal(name, pid)
  local proc = assert(child.spawn({ file = "/bin/kill", args = { "-" .. name, tostring(pid) }, stderr = "null" }))
  proc:wait()
  proc:close()
end

---Processes whose parent is pid. (yields)
---@return integer[]
function M.children_of(pid)
  local found = {}
  for _, entry in ipairs(assert(fs.list("/proc"))) do
    local stat = entry.name:find("^%d+$") and fs.read("/proc/" .. entry.name .. "/stat")
    local parent = stat and stat:match("%) %S (%d+)")
    if tonumber(parent) == pid then found[#found + 1] = tonumber(entry.name) end
  end
  return found
end

---Stops a process and its children where they are: connections stay, nothing answers. (yields)
function M.freeze(pid)
  M.signal("STOP", pid) -- first: nobody is forked any more
  for _, each in ipairs(M.children_of(pid)) do M.signal("STOP", each) end
end

---Lets all of them go on. (yields)
function M.thaw(pid)
  for _, each in ipairs(M.children_of(pid)) do M.signal("CONT", each) end
  M.signal("CONT", pid)
end

return M
