-- Replay: the stored events of a run again, at once or in their own rhythm.

local json = require("macp.core.json")
local task = require("host.task")

local hub = require("macp.plane.hub")
local history = require("macp.plane.history")

local events_store = require("macp.store.events")

local PIECE_BYTES = 524288 -- what is read at once is kept while the client is slow

---@class macp.plane.Replay
local Replay = {}
Replay.__index = Replay

local M = {}

---@param deps { db: table, max_delay_ms: integer, batch_size: integer }
function M.new(deps)
  return setmetatable(deps, Replay)
end

---The descriptor of a replay.
---@param opts { mode: string, speed: number, fromSeq: integer|nil, toSeq: integer|nil }
function M.describe(run_id, opts)
  local range = ""
  if opts.fromSeq then range = range .. string.format("&fromSeq=%d", opts.fromSeq) end
  if opts.toSeq then range = range .. string.format("&toSeq=%d", opts.toSeq) end
  local speed = json.encode(opts.speed):gsub("+", "") -- that of an exponent would be a space in a URL
  local base = "/runs/" .. run_id .. "/replay"
  return {
    runId = run_id, mode = opts.mode, speed = opts.speed, fromSeq = opts.fromSeq, toSeq = opts.toSeq,
    streamUrl = base .. "/stream?mode=" .. opts.mode .. "&speed=" .. speed .. range,
    stateUrl = base .. "/state",
  }
end

-- Waits as long as lay between two events, at most the configured time. (yields)
local function pause(self, speed, previous_ms, ms)
  if previous_ms == nil then return true end
  local delay = math.min(math.max(0, math.floor((ms - previous_ms) / speed + 0.5)), self.max_delay_ms)
  if delay == 0 then return true end
  return task.sleep(delay)
end

-- Sends rows one by one in their rhythm. Returns the time of the last. (yields)
local function send_timed(self, stream, rows, speed, previous_ms)
  for _, row in ipairs(rows) do
    local ok, err = pause(self, speed, previous_ms, row.ts)
    if ok then ok, err = stream:send(hub.frame("canonical_event", row.seq, row.document)) end
    if not ok then return nil, err end
    previous_ms = row.ts
  end
  return previous_ms or 0
end

-- Sends rows as one piece. (yields)
local function send_at_once(stream, rows)
  local frames = {}
  for i, row in ipairs(rows) do frames[i] = hub.frame("canonical_event", row.seq, row.document) end
  return stream:send(table.concat(frames))
end

---Sends the events to a stream until the last one, or until the client leaves. (yields)
---@param stream macp.EventStream
---@param opts { mode: string, speed: number, fromSeq: integer|nil, toSeq: integer|nil }
---@param filter macp.plane.EventFilter|nil
function Replay:play(tenant, run_id, stream, opts, filter)
  local from, to, previous_ms = (opts.fromSeq or 1) - 1, opts.toSeq or history.END, nil
  while from < to do
    local rows, err = events_store.piece(self.db, tenant, run_id, from, to, filter and filter.list, self.batch_size,
      PIECE_BYTES)
    if rows == nil then return nil, err end
    if #rows == 0 then break end
    if opts.mode == "timed" then
      previous_ms, err = send_timed(self, stream, rows, opts.speed, previous_ms)
      if previous_ms == nil then return nil, err end
    else
      local ok, send_err = send_at_once(stream, rows)
      if not ok then return nil, send_err end
    end
    from = rows[#rows].seq
  end
  return true
end

return M
