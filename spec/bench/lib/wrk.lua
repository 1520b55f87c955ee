-- Requests per second by wrk.

local child = require("host.child")

local M = {}

---@param opts { connections: integer, seconds: integer, threads: integer|nil, script: string|nil } script: a file of wrk's
---@return { rate: number, errors: integer, output: string } (yields)
function M.run(url, opts)
  local args = {
    "-t", tostring(opts.threads or 1), "-c", tostring(opts.connections), "-d", opts.seconds .. "s", "--latency",
  }
  if opts.script then
    args[#args + 1] = "-s"
    args[#args + 1] = opts.script
  end
  args[#args + 1] = url
  local proc = assert(child.spawn({ file = "wrk", args = args, stdout = "pipe", stderr = "inherit" }))
  local lines = {}
  for line in function() return proc:read_line("stdout") end do lines[#lines + 1] = line end
  proc:wait()
  proc:close()
  local output = table.concat(lines, "\n")
  local rate = tonumber(output:match("Requests/sec:%s*([%d.]+)"))
  if not rate then error("wrk: " .. output) end
  local bad = tonumber(output:match("Non%-2xx or 3xx responses: (%d+)")) or 0
  local sockets = output:match("Socket errors: (.*)")
  for count in (sockets or ""):gmatch("%d+") do bad = bad + tonumber(count) end
  return { rate = rate, errors = bad, output = output }
end

return M
