-- The projection of a run as it was at any sequence number: the nearest state that is remembered or stored, and the
-- events after it folded. No question costs a fold of the whole run again; the answer is that of a fold of everything.
-- What a question has to ask the database is asked together; what is worth remembering is encoded when it is answered.

local task = require("host.task")

local aside = require("macp.plane.aside")
local history = require("macp.plane.history")
local past_states = require("macp.plane.past_states")
local projection = require("macp.plane.projection.state")
local session_clock = require("macp.plane.session_clock")
local snapshot = require("macp.plane.snapshot")

local past_store = require("macp.store.past")
local projections_store = require("macp.store.projections")

local SLICED = 1572864 -- a state of a mode that was larger than this is encoded in slices, which takes longer in all

---@class macp.plane.PastReader
local PastReader = {}
PastReader.__index = PastReader

local M = {}

---@param deps { db: table, registry: table|nil, redactor: macp.plane.Redactor|false|nil, past_bytes: integer,
---  aside: fun(work: function), runs: macp.plane.Runs } aside runs what nobody waits for
function M.new(deps)
  return setmetatable({ db = deps.db, registry = deps.registry, redactor = deps.redactor, aside = deps.aside,
    runs = deps.runs, states = past_states.new(deps.past_bytes) }, PastReader)
end

-- Who reads the run, and how far it goes: { session, rev, past, tail }. Everything up to the tail is stored, so whatever
-- is read up to there is complete. (yields)
local function reading(self, tenant, run_id)
  local row, err = past_store.place(self.db, tenant, run_id)
  if row == nil then return nil, err end
  if not row then
    local known, require_err = self.runs:require(tenant, run_id)
    if not known then return nil, require_err end
    row = { tail = 0 } -- announced, and not stored yet
  end
  local session, rev
  if row.runtime_session_id then session, rev = aside.mode_in(self, row) end
  local name = rev and rev.hash .. "\0" .. (rev.presentation or "") or ""
  return { tenant = tenant, run_id = run_id, session = session, rev = rev, tail = row.tail,
    past = self.states:of(tenant .. "/" .. run_id, name) }
end

-- true when no stored state can be much nearer to seq than the remembered one.
local function is_near(list, found, seq) return found ~= nil and seq - found.seq <= list.step * 2 end

-- The nearer one of a remembered and a stored state.
local function nearer(found, row, seq)
  return row and row.seq <= seq and (found == nil or row.seq > found.seq) and row or found
end

-- The clock of the session at a stored state, nil when that cannot be read.
local function clock_of(row)
  local clock = projection.clock_of(row.internal)
  return clock and session_clock.copy(clock)
end

-- The nearest host part, remembered or stored; false without one. (yields)
local function host_base(self, place, seq, latest)
  local past = place.past
  local found = nearer(past:nearest("host", seq), latest, seq)
  if is_near(past.host, found, seq) then return found end
  local row, err = projections_store.nearest(self.db, place.tenant, place.run_id, seq, projection.STORED_VERSION)
  if row == nil then return nil, err end
  if nearer(found, row, seq) ~= row then return found or false end
  past:keep("host", { seq = row.seq, document = row.document, internal = row.internal }, #row.document + #row.internal)
  return row
end

-- The nearest state of the mode in the same way. (yields)
local function mode_base(self, place, seq, latest)
  local past = place.past
  local found = past:nearest("mode", seq)
  if nearer(found, latest, seq) == latest and latest and latest.mode_state then
    local clock = clock_of(latest)
    if clock then return { seq = latest.seq, mode_state = latest.mode_state, clock = clock } end
  end
  if is_near(past.mode, found, seq) then return found end
  local row, err = projections_store.nearest_mode(self.db, place.tenant, place.run_id, found and found.seq or 0, seq,
    projection.STORED_VERSION)
  if row == nil then return nil, err end
  local clock = row and clock_of(row)
  if not clock then return found or false end
  local base = { seq = row.seq, mode_state = row.mode_state, clock = clock }
  past:keep("mode", base, #row.mode_state)
  return base
end

-- The state that is stored as the latest one, for questions about the end; false for others. (yields)
local function latest_of(self, place, seq)
  if seq < place.tail then return false end
  local row, err = projections_store.find(self.db, place.tenant, place.run_id)
  if row and row.schema_version ~= projection.STORED_VERSION then return false end
  return row, err
end

-- Host part: its document at seq. (yields)
local function host_document(self, place, seq, latest)
  local past, state = place.past, nil
  local base, base_err = host_base(self, place, seq, latest)
  if base == nil then return nil, base_err end
  if base then state = projection.load(place.run_id, base.document, base.internal) end
  if state == nil then base, state = { seq = 0 }, projection.new(place.run_id) end
  local function on_event(at)
    if not past:wants("host", at) then return end
    local document, internal = projection.render(state), projection.internal(state)
    past:add("host", { seq = at, document = document, internal = internal }, #document + #internal)
  end
  local done, err = history.fold(self.db, place.tenant, place.run_id, base.seq, seq, state, nil, on_event)
  if done == nil then return nil, err end
  return projection.render(state), state.latest_seq
end

-- The bytes of a mode's session, nil when there are none. A large one is encoded in slices. (yields)
local function encode(rev, key, is_large)
  if rev.iso == nil then return nil end -- closed meanwhile
  if not is_large then return (rev:encode(key)) end
  local pieces, is_last = {}, false
  if not rev:encode_begin(key) then return nil end
  while not is_last do
    if not task.sleep(0) or rev.iso == nil then return nil end
    pieces[#pieces + 1], is_last = rev:encode_step(key)
    if type(is_last) == "table" then return nil end
  end
  return table.concat(pieces)
end

-- Remembers the session that a question has brought to seq, once the question is answered. true when it will.
local function remember(self, place, seq, key, result, release)
  local past, rev = place.past, place.rev
  if self.is_encoding or not self.aside or not past:wants("mode", seq) then return false end
  self.is_encoding = true
  self.aside(function()
    task.sleep(0) -- the answer goes first
    local bytes = encode(rev, key, past.mode_bytes > SLICED)
    release()
    self.is_encoding = false
    if bytes == nil then return end
    past:spend(#bytes)
    past:add("mode", { seq = seq, mode_state = bytes, clock = session_clock.copy(result.clock) }, #bytes)
  end)
  return true
end

-- Mode part: its view at seq, false without one. (yields)
local function mode_view(self, place, seq, latest)
  local past, rev = place.past, place.rev
  if rev == nil then return false end
  local base, err = mode_base(self, place, seq, latest)
  if base == nil then return nil, err end
  place.start = past.start
  local pays = past:earn(seq - (base and base.seq or 0))
  place.keep = pays and function(key, result, release)
    return remember(self, place, seq, key, result, release)
  end or nil
  return aside.with(self, place, base or nil, seq, function(_, key, result)
    past.start = result.start or past.start
    return result.clock and aside.view(self, rev, key, result.clock) or false
  end)
end

---The projection as it was at a sequence number. (yields)
---@param seq integer|nil nil: everything stored
---@return string|nil json
---@return integer|table|nil seq of the last event in it, or the error
function PastReader:state_at(tenant, run_id, seq)
  local place, err = reading(self, tenant, run_id)
  if place == nil then return nil, err end
  seq = math.min(seq or history.END, place.tail)
  local latest, latest_err = latest_of(self, place, seq)
  if latest == nil then return nil, latest_err end
  local document, last_seq, view
  local done, fail = task.group(function(group)
    group:spawn(function()
      document, last_seq = host_document(self, place, seq, latest)
      return document, last_seq
    end)
    group:spawn(function()
      local view_err
      view, view_err = mode_view(self, place, seq, latest)
      return view, view_err
    end)
  end)
  if not done then return nil, fail end
  return snapshot.join(document, view or nil), last_seq
end

return M
