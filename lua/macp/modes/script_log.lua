-- What scripts say with macp.log: lines of the debug log, with mode, revision and session. A revision may write so many
-- lines per second; what is beyond is counted. Replay says nothing: its lines are dropped.

local log = require("host.log")
local sys = require("host.sys")

local LINES_PER_SECOND = 20
local SECOND_MS = 1000
local MAX_LINE_BYTES = 1024
local RULES = { "^mode%.lua$", "^lib/" }

local ScriptLog = {}
ScriptLog.__index = ScriptLog

local M = { LINES_PER_SECOND = LINES_PER_SECOND }

local function is_rule(name)
  for _, pattern in ipairs(RULES) do
    if name:find(pattern) then return true end
  end
  return false
end

---@param files table<string, string> of a revision
---@param mono_ms fun(): number|nil
---@return table|nil nil for a mode that never logs: it pays nothing
function M.new(files, mono_ms)
  for name, text in pairs(files) do
    if is_rule(name) and text:find("%.log%f[^%w_]") then
      return setmetatable({
        mono_ms = mono_ms or sys.mono_ms, since = -SECOND_MS, written = 0, suppressed = 0,
      }, ScriptLog)
    end
  end
  return nil
end

local function take(rev)
  local ok, lines = rev.iso:call("log", nil)
  return ok and lines or nil
end

-- A new second: tells how many lines the last one lost.
local function next_second(self, rev, now)
  if now - self.since < SECOND_MS then return end
  if self.suppressed > 0 then
    log.debug("mode.log_suppressed", { mode = rev.id, revision = rev.hash, lines = self.suppressed })
  end
  self.since, self.written, self.suppressed = now, 0, 0
end

---Writes what the last call logged.
---@param rev table
---@param key string session
function ScriptLog:show(rev, key)
  if not log.enabled("debug") then return end
  local lines = take(rev)
  if lines == nil then return end
  next_second(self, rev, self.mono_ms())
  for _, line in ipairs(lines) do
    if self.written < LINES_PER_SECOND then
      self.written = self.written + 1
      log.debug("mode.log", {
        mode = rev.id, revision = rev.hash, session_id = key, message = line:sub(1, MAX_LINE_BYTES),
      })
    else
      self.suppressed = self.suppressed + 1
    end
  end
end

---Forgets what a replay logged.
function ScriptLog.drop(_, rev)
  if log.enabled("debug") then take(rev) end
end

return M
