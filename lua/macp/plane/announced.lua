-- A run that was announced and waits for its session: what is kept of it until its session is there or somebody looks at it.
-- There may be very many; the run itself, with its projection and counters, is made of this when it is wanted. It is queued
-- until its launch begins, and starting from then on.

local lifecycle = require("macp.plane.lifecycle")
local run_module = require("macp.plane.run")
local run_trace = require("macp.plane.run_trace")
local text = require("macp.plane.text")

local events_store = require("macp.store.events")

---@class macp.plane.Announced
---@field seq integer last number given
---@field committed_seq integer last number that is stored
---@field event_seq integer the same: it has no other rows
---@field started_ms integer|nil when its launch began
---@field status "queued"|"starting"
---@field became macp.plane.Run|nil what was made of it
---@field gone string|nil why this process no longer owns it
local Announced = {
  seq = 1, committed_seq = 1, event_seq = 1, -- of each of them when it is stored: not kept per run
  checkpoint_seq = math.huge, -- no projection of it is to be stored
}
Announced.__index = Announced

local M = {}

-- In place of a run: makes the document of its first event, and nothing else.
local Draft = {}
Draft.__index = Draft

function Draft:emit(ms, event_type, subject_kind, subject_id, source, data_json)
  self.document = run_module.document(self, 1, text.iso(ms), event_type, subject_kind, subject_id, source, data_json)
end

-- What of a run makes the texts of its events.
local function headed(waiting, class)
  local head, middle, trace, flat_trace = run_module.heading(waiting.id, waiting.trace_id, waiting.span)
  return setmetatable({ id = waiting.id, kind = waiting.kind, session_id = waiting.session_id,
    trace_id = waiting.trace_id, head = head, middle = middle, trace = trace, flat_trace = flat_trace }, class)
end

---@param row { tenant: string, id: string, session_id: string, kind: string, trace_id: string|nil,
---  context: macp.TraceContext|nil, created_ms: integer, mode_name: string, runtime_version: string|nil }
---@return macp.plane.Announced
---@return string document of its first event, to be stored with its row
function M.new(row)
  local self = setmetatable({
    tenant = row.tenant, id = row.id, session_id = row.session_id, kind = row.kind, status = "queued",
    trace_id = row.trace_id, context = row.context, span = run_trace.recorded(row.context),
    created_ms = row.created_ms, mode_name = row.mode_name, runtime_version = row.runtime_version,
  }, Announced)
  local draft = headed(self, Draft)
  lifecycle.created(draft, self, row.created_ms)
  return self, draft.document
end

-- In place of a run's writer, for events that are stored already.
local stored = { owner = {} }
function stored:open_for() return self end
function stored.add() end
function stored.note_event() end

---The run, as its events leave it. What of them is not stored yet is the run's from now on.
---@param writer table of plane/writer.lua
---@return macp.plane.Run
function Announced:run(writer)
  local run = run_module.new(self, writer)
  run.writer = stored
  lifecycle.created(run, self, self.created_ms)
  if self.started_ms then lifecycle.tell_started(run, self.started_ms, self.mode_name) end
  run.writer = writer
  run.committed_seq, run.event_seq = self.committed_seq, self.event_seq
  self.became = run
  if self.committed_seq < self.seq then writer:rename(self, run) end
  return run
end

-- As Run:emit does it, of what nothing is folded.
function Announced:emit(ms, event_type, subject_kind, subject_id, source, data_json)
  local seq = self.seq + 1
  local told = run_module.document(headed(self), seq, text.iso(ms), event_type, subject_kind, subject_id, source,
    data_json)
  local batch = self.writer:open_for(self)
  events_store.add_canonical(batch, self.tenant, self.id, seq, ms, event_type, told)
  batch:note_event(self, seq, told, event_type)
  self.seq = seq
end

---Its launch begins: it is starting, which is stored with what the writer stores next.
---@param writer table of plane/writer.lua
function Announced:start(writer)
  self.writer = writer
  local started, err = lifecycle.starting(self, self.mode_name)
  self.writer = nil
  return started, err
end

---An announced run has not ended: its end would have been told to the run it became.
function Announced.has_ended() return false end

return M
