-- System calls of a program, by strace, where it is installed and allowed.

local fs = require("host.fs")

local MAX_BYTES = 64 * 1024 * 1024

local M = {}

---Whether processes can be traced here. Blocks for a moment: for the load of a spec.
function M.available() return os.execute("strace -o /dev/null true >/dev/null 2>&1") == 0 end

---What stands before a command of a shell so that its calls are written to a file. The command stays the direct child.
---A process has one tracer, and LeakSanitizer is one: it is off in what is traced.
---@param path string of the file
---@param names string[] of system calls
function M.prefix(path, names)
  return string.format(
    "env ASAN_OPTIONS=\"$ASAN_OPTIONS:detect_leaks=0\" strace -D -f -qq -y -e trace=%s -o '%s'",
    table.concat(names, ","), path)
end

---The finished calls so far, in order: { name =, text = } with text "name(arguments) = result". Calls that were
---interrupted by others are put together. (yields)
function M.read(path)
  local calls, begun = {}, {}
  for line in (fs.read(path, MAX_BYTES) or ""):gmatch("[^\n]+") do
    local thread, text = line:match("^(%d+)%s+(.*)$")
    local head = text and text:match("^(.-) <unfinished %.%.%.>$")
    local tail = text and text:match("^<%.%.%. [%w_]+ resumed>(.*)$")
    if head then
      begun[thread] = head
    elseif text then
      if tail then text = (begun[thread] or "") .. tail end
      local name = text:match("^([%w_]+)%(")
      if name then calls[#calls + 1] = { name = name, text = text } end
    end
  end
  return calls
end

return M
