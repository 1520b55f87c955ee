-- What gzip's own program makes of compressed bytes.

local child = require("host.child")
local fs = require("host.fs")

---(yields)
---@param bytes string
---@return string text
return function(bytes)
  local dir = assert(fs.temp_dir("macp-gunzip"))
  assert(fs.write(dir .. "/text.gz", bytes, { sync = false }))
  local proc = assert(child.spawn({ file = "/bin/gzip", args = { "-d", dir .. "/text.gz" } }))
  local status = proc:wait()
  proc:close()
  local text = fs.read(dir .. "/text")
  fs.remove_tree(dir)
  if status.code ~= 0 or text == nil then error("these " .. #bytes .. " bytes are not gzip", 2) end
  return text
end
