-- A run that was announced and waits for its session: what is kept of it until its session is there or somebody looks at it.
-- There may be very many; the run itself, with its projection and counters, is made of this when it is wanted.

local lifecycle = require("macp.plane.lifecycle")
local run_module = require("macp.plane.run")
local run_trace = require("macp.plane.run_trace")
local text = require("macp.plane.text")

---@class macp.plane.Announced
---@field became macp.plane.Run|nil what was made of it
---@field gone string|nil why this process no longer owns it
local Announced = {}
Announced.__index = Announced

local M = {}

-- In place of a run: makes the documents of its events, and nothing else.
local Draft = {}
Draft.__index = Draft

function Draft:emit(ms, event_type, subject_kind, subject_id, source, data_json)
  local seq = #self + 1
  self[seq] = run_module.document(self, seq, text.iso(ms), event_type, subject_kind, subject_id, source, data_json)
end

---@param row { tenant: string, id: string, session_id: string, kind: string, trace_id: string|nil,
---  context: macp.TraceContext|nil, created_ms: integer, mode_name: string, runtime_version: string|nil }
---@return macp.plane.Announced
---@return string[] documents of its events, to be stored with its row
function M.new(row)
  local self = setmetatable({
    tenant = row.tenant, id = row.id, session_id = row.session_id, kind = row.kind, status = "starting",
    trace_id = row.trace_id, context = row.context, span = run_trace.recorded(row.context),
    created_ms = row.created_ms, mode_name = row.mode_name, runtime_version = row.runtime_version,
  }, Announced)
  local head, middle, trace, flat_trace = run_module.heading(row.id, row.trace_id, self.span)
  local draft = setmetatable({ id = row.id, kind = row.kind, session_id = row.session_id, trace_id = row.trace_id,
    head = head, middle = middle, trace = trace, flat_trace = flat_trace }, Draft)
  lifecycle.announced(draft, row.created_ms, self)
  self.seq = #draft
  return self, draft
end

-- In place of a run's writer, for events that are stored already.
local stored = { owner = {} }
function stored:open_for() return self end
function stored.add() end
function stored.note_event() end

---The run, as its stored events leave it.
---@param writer table of plane/writer.lua
---@return macp.plane.Run
function Announced:run(writer)
  local run = run_module.new(self, writer)
  run.writer = stored
  lifecycle.announced(run, self.created_ms, self)
  run.writer = writer
  run.committed_seq, run.event_seq = run.seq, run.seq
  self.became = run
  return run
end

---An announced run has not ended: its end would have been told to the run it became.
function Announced.has_ended() return false end

return M
