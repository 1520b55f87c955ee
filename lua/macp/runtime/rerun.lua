-- A stored session played again under the revision it is bound to, record by record, compared with what was recorded.
-- Recorded values only: no clock, no registry of policies, no configuration.

local history = require("macp.runtime.history")
local records = require("macp.runtime.records")
local session_record = require("macp.runtime.session")
local starts = require("macp.runtime.starts")

local M = {}

---@class macp.runtime.Step
---@field index integer record of the history
---@field ordinal integer|nil of an accepted envelope
---@field what string message type, or what the runtime noted
---@field sender string
---@field at integer wall time of its acceptance
---@field t integer session time
---@field state integer of the session after it
---@field hash string|nil of the mode's state after it; nil once the session has ended without the mode

local function differs(index, text)
  return { code = "DIFFERENT", message = string.format("record %d: %s", index, text) }
end

local function describe(err) return err.message or err.rule or err.code end

-- Applies one record to the mode's state. Returns true, or nil and how it differs.
local function apply(run, record, index)
  local session, rev, id = run.session, run.rev, run.session.id
  if record.kind == records.CHECKPOINT then
    if record.mode_state_hash == "" then return true end
    if rev:state_hash(id) == record.mode_state_hash then return true end
    return nil, differs(index, "the state does not have the hash of the checkpoint, " .. record.mode_state_hash)
  end
  if record.kind ~= records.INCOMING then return true end
  local envelope = record.envelope
  if index == 1 then
    local ok, err = rev:start(id, starts.start_arguments(session, session.payload))
    if not ok then return nil, differs(index, "the mode refuses the start: " .. describe(err)) end
    return true
  end
  local t = session_record.time_at(session, record.received_at_ms)
  local count, err = rev:apply_many(id, { envelope.message_type, envelope.sender, envelope.payload, t,
    record.synthetic and 1 or 0 })
  if count == nil then return nil, differs(index, envelope.message_type .. " fails: " .. describe(err)) end
  if record.mode_state_hash ~= "" and rev:state_hash(id) ~= record.mode_state_hash then
    return nil, differs(index, "the state does not have the recorded hash, " .. record.mode_state_hash)
  end
  return true
end

local function step_of(run, record, index)
  local session, envelope = run.session, record.envelope or record.annotation
  local kinds = { [records.CHECKPOINT] = "(checkpoint)" }
  return {
    index = index, ordinal = record.kind == records.INCOMING and session.ordinals or nil,
    what = envelope and envelope.message_type or kinds[record.kind] or "(note)",
    sender = envelope and envelope.sender or records.RUNTIME_SENDER, at = record.received_at_ms,
    t = session_record.time_at(session, record.received_at_ms), state = session.state,
    synthetic = record.synthetic, envelope = record.envelope,
  }
end

-- (yields)
local function open_mode(run, opts)
  local session = run.session
  local rev, err = opts.modes:pinned(session.revision, session.descriptor)
  if rev == nil then
    return nil, { code = "NO_REVISION", message = string.format("the revision %s of %s is not in the archive: %s",
      session.revision, session.mode, describe(err)) }
  end
  opts.modes:pin(rev)
  run.rev = rev
  rev:drop(session.id)
  return true
end

-- One record: the books, then the mode, then whoever listens. (yields)
local function take(run, opts, record, index)
  local err
  run.session, err = history.add(run.session, opts.id, record)
  if run.session == nil then return nil, err end
  if run.session.is_dropped then return nil, { code = "DROPPED", message = "its envelopes are deleted" } end
  local ok
  if run.rev == nil then
    ok, err = open_mode(run, opts)
    if not ok then return nil, err end
  end
  ok, err = apply(run, record, index)
  if not ok then return nil, err end
  run.steps = index
  if not opts.on_step then return true end
  local step = step_of(run, record, index)
  step.hash = run.rev:state_hash(opts.id)
  opts.on_step(step, run.rev)
  return true
end

---Plays a session. (yields)
---@param opts { journal: table, modes: table, id: string, on_step: fun(step: macp.runtime.Step, rev: table)|nil }
---@return { steps: integer, hash: string, session: table }|nil result
---@return table? err DIFFERENT, NO_REVISION, DROPPED, CORRUPT or NOT_FOUND; its message names the record
function M.play(opts)
  local reason = opts.journal:damaged()[opts.id]
  if reason then return nil, { code = "CORRUPT", message = reason } end
  local run = { steps = 0 }
  local ok, err = history.each(opts.journal, opts.id, function(record, index) return take(run, opts, record, index) end)
  local hash = ok and run.rev:state_hash(opts.id)
  if run.rev then
    run.rev:drop(opts.id)
    opts.modes:unpin(run.rev)
  end
  if not ok then return nil, err, run.steps end
  return { steps = run.steps, hash = hash, session = run.session }
end

return M
