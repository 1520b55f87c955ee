-- The real program as a child process: started with an environment of its own, watched, killed, restarted.

local child = require("host.child")
local fetch = require("host.fetch")
local sys = require("host.sys")
local task = require("host.task")

local patience = require("spec.support.patience")

local Program = {}
Program.__index = Program

local KEPT_LINES = 200

local M = {}

local function follow(self, stream)
  return task.spawn(function()
    for line in function() return self.proc:read_line(stream) end do
      self.lines[#self.lines + 1] = line
      if #self.lines > self.keep then table.remove(self.lines, 1) end
    end
  end)
end

---Starts `macp ARGS` with extra environment variables. env values of false remove a variable. (yields)
---@param opts { args: string[], env: table|nil, cwd: string|nil, keep: integer|nil } keep: lines of output, the last 200
function M.start(opts)
  local env = sys.environ()
  for name, value in pairs(opts.env or {}) do env[name] = value or nil end
  local proc, err = child.spawn({
    file = sys.executable(), args = opts.args, env = env, cwd = opts.cwd, own_session = true,
    stdout = "pipe", stderr = "pipe",
  })
  if not proc then error(err.message, 2) end
  local self = setmetatable({ proc = proc, lines = {}, keep = opts.keep or KEPT_LINES }, Program)
  self.readers = { follow(self, "stdout"), follow(self, "stderr") }
  self.waiter = task.spawn(function()
    self.status = proc:wait()
    return self.status
  end)
  return self
end

---What the program has printed last.
function Program:output() return table.concat(self.lines, "\n") end

---Waits until a line matches a Lua pattern, as patience() has it; returns its captures. (yields)
function Program:wait_line(pattern, timeout_ms)
  local deadline = sys.mono_ms() + patience(timeout_ms or 15000)
  local at = 1
  while sys.mono_ms() < deadline do
    while at <= #self.lines do
      local found = { self.lines[at]:match(pattern) }
      if found[1] then return unpack(found) end
      at = at + 1
    end
    if self.status then error("the program ended:\n" .. self:output(), 2) end
    task.sleep(5)
  end
  error("no line like " .. pattern .. ":\n" .. self:output(), 2)
end

---Waits until GET url answers 200. (yields)
function Program:wait_ready(url, timeout_ms)
  local deadline = sys.mono_ms() + patience(timeout_ms or 15000)
  while sys.mono_ms() < deadline do
    local reply = fetch.request({ url = url, timeout_ms = 1000 })
    if reply and reply.status == 200 then return true end
    if self.status then error("the program ended:\n" .. self:output(), 2) end
    task.sleep(10)
  end
  error("no 200 from " .. url .. ":\n" .. self:output(), 2)
end

---Sends a signal, by default TERM.
function Program:kill(signal) return self.proc:kill(signal or "TERM") end

---Waits for the end: { code=, signal= }; kills it and fails after a multiple of timeout_ms, see patience. (yields)
function Program:wait(timeout_ms)
  local status = task.with_deadline(patience(timeout_ms or 15000), function() return self.waiter:join() end)
  if not self.status then
    self.proc:kill("KILL")
    self.waiter:join()
    self:release()
    error("the program did not end by itself:\n" .. self:output(), 2)
  end
  self:release()
  return self.status or status
end

---Kills it at once, as a power cut would. (yields)
function Program:crash()
  if not self.status then
    self.proc:kill("KILL")
    self.waiter:join()
  end
  self:release()
end

---Gives up the pipes and readers. (yields)
function Program:release()
  for _, reader in ipairs(self.readers) do reader:join() end
  self.proc:close()
end

return M
