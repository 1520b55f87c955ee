-- The standing of a session: open or suspended, as the runtime orders it and not as it arrives. Acknowledgements and
-- lifecycle events carry the time of the change. Everything else (GetSession, ListSessions, what a watch tells first)
-- was true at some point between the question and its answer. What cannot be placed after what is known is not
-- believed: the caller has to ask.

local time = require("macp.core.time")
local protocol = require("macp.protocol.lifecycle")
local ending = require("macp.plane.ending")
local lifecycle = require("macp.plane.lifecycle")

local OPEN, SUSPENDED = "SESSION_STATE_OPEN", "SESSION_STATE_SUSPENDED"
local ENTER = { [OPEN] = lifecycle.running, [SUSPENDED] = lifecycle.suspended }
local OF_STATUS = { running = OPEN, suspended = SUSPENDED }

local M = {}

local moments = 0

---A point in the order of this process: taken before something is asked, it tells what was known by then.
---@return integer
function M.moment()
  moments = moments + 1
  return moments
end

---@class macp.plane.Told what the runtime says about a session
---@field state integer|string number or wire name
---@field at_ms integer|nil runtime's time of the change
---@field asked integer|nil moment before the question that this answers
---@field accepted integer|nil envelopes accepted by then; for terminal states
---@field started_ms integer|nil when the session was started
---@field expires_ms integer|nil deadline of the session

-- Whether what is told was the case after what is known.
local function is_newer(known, told)
  if told.at_ms and (known.at_ms == nil or told.at_ms > known.at_ms) then return true end
  if told.at_ms and told.at_ms < known.at_ms then return false end
  return told.asked ~= nil and told.asked > known.moment
end

-- Brings the run to what is believed.
local function bring(run)
  local enter = ENTER[run.standing.state]
  if enter and OF_STATUS[run.status] then enter(run) end
end

---The run was loaded: what was asked before says nothing about it.
---@param run macp.plane.Run
function M.restored(run)
  local state = OF_STATUS[run.status]
  if state then run.standing = { state = state, moment = M.moment() } end
end

-- A runtime that lost its data may serve another session under the same id: nothing of that belongs to the run.
local function is_other_session(session, told)
  return session and session.started_ms and told.started_ms and session.started_ms ~= told.started_ms
end

---Takes note of what is told about the session of a run. A run whose session the runtime has replaced fails.
---@param run macp.plane.Run
---@param told macp.plane.Told
---@return boolean certain false: it contradicts what is known and cannot be placed; ask the runtime again
function M.hear(run, told)
  local state = type(told.state) == "number" and protocol.NAMES[told.state] or told.state
  if run.gone or run:has_ended() then return true end
  local session = run.session
  if is_other_session(session, told) then
    ending.fail(run, "STREAM_EXHAUSTED", string.format(
      "the runtime has another session under this id: it was started at %s, the one of this run at %s",
      time.iso(told.started_ms), time.iso(session.started_ms)))
    return true
  end
  if session and told.expires_ms then session.expires_ms = math.max(session.expires_ms or 0, told.expires_ms) end
  if protocol.is_terminal(state) then
    if session then ending.announce(run, state, told.accepted or 0)
    else run.standing = { state = state, at_ms = told.at_ms, moment = M.moment() } end
    return true
  end
  if ENTER[state] == nil then return true end
  local known = run.standing
  local certain = known == nil or known.state == state or is_newer(known, told)
  if certain then
    local at_ms = known and known.at_ms
    if told.at_ms and (at_ms == nil or told.at_ms > at_ms) then at_ms = told.at_ms end
    run.standing = { state = state, at_ms = at_ms, moment = M.moment() }
  end
  if session then bring(run) end
  return certain
end

return M
