-- The projection of a run as it was at any sequence number: the nearest state that is remembered or stored, and the
-- events after it folded. No question costs a fold of the whole run again; the answer is that of a fold of everything.

local task = require("host.task")

local aside = require("macp.plane.aside")
local history = require("macp.plane.history")
local past_states = require("macp.plane.past_states")
local projection = require("macp.plane.projection.state")
local session_clock = require("macp.plane.session_clock")
local snapshot = require("macp.plane.snapshot")

local projections_store = require("macp.store.projections")

---@class macp.plane.PastReader
local PastReader = {}
PastReader.__index = PastReader

local M = {}

---@param deps { db: table, registry: table|nil, redactor: macp.plane.Redactor|false|nil, past_bytes: integer }
function M.new(deps)
  return setmetatable({ db = deps.db, registry = deps.registry, redactor = deps.redactor,
    states = past_states.new(deps.past_bytes) }, PastReader)
end

-- Who reads the run: { session, rev, past }. (yields)
local function reading(self, tenant, run_id)
  local session, rev = aside.mode_of(self, tenant, run_id)
  if session == nil then return nil, rev end
  if not session then rev = nil end
  local name = rev and rev.hash .. "\0" .. (rev.presentation or "") or ""
  return { tenant = tenant, run_id = run_id, session = session, rev = rev,
    past = self.states:of(tenant .. "/" .. run_id, name) }
end

-- true when no stored state can be much nearer to seq than the remembered one.
local function is_near(list, found, seq) return found ~= nil and seq - found.seq <= list.step * 2 end

-- The nearer one of a remembered and a stored state.
local function nearer(found, row) return row and (found == nil or row.seq > found.seq) and row or found end

-- The nearest states, remembered or stored: host, mode; false, nil for none. (yields)
local function bases(self, place, seq)
  local past, db, version = place.past, self.db, projection.STORED_VERSION
  local host, mode = past:nearest("host", seq), past:nearest("mode", seq)
  if seq == history.END then
    local row, err = projections_store.find(db, place.tenant, place.run_id)
    if row == nil then return nil, nil, err end
    if row and row.schema_version ~= version then row = false end
    host, mode = nearer(host, row), nearer(mode, row and row.mode_state and row)
    return host or false, mode
  end
  if not is_near(past.host, host, seq) then
    local row, err = projections_store.nearest(db, place.tenant, place.run_id, seq, version)
    if row == nil then return nil, nil, err end
    host = nearer(host, row)
  end
  if place.rev and not is_near(past.mode, mode, seq) then
    local row, err = projections_store.nearest_mode(db, place.tenant, place.run_id, mode and mode.seq or 0, seq,
      version)
    if row == nil then return nil, nil, err end
    mode = row or mode
  end
  return host or false, mode
end

-- Host part: the state at seq, folded from its base. (yields)
local function fold_host(self, place, base, seq)
  local past, state = place.past, nil
  if base then state = projection.load(place.run_id, base.document, base.internal) end
  if state == nil then base, state = { seq = 0 }, projection.new(place.run_id) end
  local function on_event(at)
    if not past:wants("host", at) then return end
    local document, internal = projection.render(state), projection.internal(state)
    past:add("host", { seq = at, document = document, internal = internal }, #document + #internal)
  end
  local done, err = history.fold(self.db, place.tenant, place.run_id, base.seq, seq, state, nil, on_event)
  if done == nil then return nil, err end
  return state
end

-- What stands in the internal part of a stored state and in a remembered one: the clock of the session at its number.
local function clock_of(base)
  if base.clock then return base.clock end
  local clock = projection.clock_of(base.internal)
  return clock and session_clock.copy(clock)
end

-- Mode part: its view at seq, nil without one. (yields)
local function mode_view(self, place, base, seq)
  local past, rev = place.past, place.rev
  if rev == nil then return false end
  if base then
    local clock = clock_of(base)
    base = clock and { seq = base.seq, mode_state = base.mode_state, clock = clock } or nil
  end
  place.start = past.start
  local folded = base and base.seq or 0
  place.on_step = function(at, clock)
    local pays = past:earn(at - folded)
    folded = at
    if not (pays and past:wants("mode", at)) then return end
    local bytes = rev:encode(place.key)
    if bytes then
      past:spend(#bytes)
      past:add("mode", { seq = at, mode_state = bytes, clock = session_clock.copy(clock) }, #bytes)
    end
    task.sleep(0) -- encoding takes its time: others come first
  end
  return aside.with(self, place, base, seq, function(_, key, result)
    past.start = result.start or past.start
    return result.clock and aside.view(self, rev, key, result.clock) or false
  end)
end

---The projection as it was at a sequence number. (yields)
---@param seq integer|nil nil: everything stored
---@return string|nil json
---@return integer|table|nil seq of the last event in it, or the error
function PastReader:state_at(tenant, run_id, seq)
  seq = seq or history.END
  local place, err = reading(self, tenant, run_id)
  if place == nil then return nil, err end
  local host, mode, base_err = bases(self, place, seq)
  if host == nil then return nil, base_err end
  local state, fold_err = fold_host(self, place, host, seq)
  if state == nil then return nil, fold_err end
  local view, view_err = mode_view(self, place, mode, seq)
  if view == nil then return nil, view_err end
  return snapshot.join(projection.render(state), view or nil), state.latest_seq
end

return M
