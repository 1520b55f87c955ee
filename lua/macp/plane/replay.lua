-- Replay: the stored events of a run again, at once or in their own rhythm.

local json = require("macp.core.json")
local task = require("host.task")

local hub = require("macp.plane.hub")
local history = require("macp.plane.history")

---@class macp.plane.Replay
local Replay = {}
Replay.__index = Replay

local M = {}

---@param deps { db: table, max_delay_ms: integer }
function M.new(deps)
  return setmetatable(deps, Replay)
end

---The descriptor of a replay.
---@param opts { mode: string, speed: number, fromSeq: integer|nil, toSeq: integer|nil }
function M.describe(run_id, opts)
  local range = ""
  if opts.fromSeq then range = range .. "&fromSeq=" .. opts.fromSeq end
  if opts.toSeq then range = range .. "&toSeq=" .. opts.toSeq end
  local base = "/runs/" .. run_id .. "/replay"
  return {
    runId = run_id, mode = opts.mode, speed = opts.speed, fromSeq = opts.fromSeq, toSeq = opts.toSeq,
    streamUrl = base .. "/stream?mode=" .. opts.mode .. "&speed=" .. json.encode(opts.speed) .. range,
    stateUrl = base .. "/state",
  }
end

-- Waits as long as lay between two events, at most the configured time. (yields)
local function pause(self, opts, previous_ms, ms)
  if opts.mode ~= "timed" or previous_ms == nil then return true end
  local delay = math.min(math.max(0, math.floor((ms - previous_ms) / opts.speed + 0.5)), self.max_delay_ms)
  if delay == 0 then return true end
  return task.sleep(delay)
end

---Sends the events to a stream until the last one, or until the client leaves. (yields)
---@param stream macp.EventStream
---@param opts { mode: string, speed: number, fromSeq: integer|nil, toSeq: integer|nil }
function Replay:play(tenant, run_id, stream, opts)
  local previous_ms
  return history.each_document(self.db, tenant, run_id, (opts.fromSeq or 1) - 1, opts.toSeq or history.END,
    function(document, seq, ms)
      local ok, err = pause(self, opts, previous_ms, ms)
      if not ok then return nil, err end
      previous_ms = ms
      return stream:send(hub.frame("canonical_event", seq, document))
    end)
end

return M
