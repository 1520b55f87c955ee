-- What must agree about a session whatever happened: the runtime's history, the plane's copy of it, and the
-- projections.

local json = require("macp.core.json")
local fold = require("macp.plane.projection.fold")
local projection = require("macp.plane.projection.state")

local eventually = require("spec.support.eventually")

local M = {}

local NUMBERS = [[
select count(*) as n, coalesce(max(seq), 0) as last, count(distinct seq) as different from (
  select seq from run_events_raw where tenant = 'default' and run_id = $1
  union all select seq from run_events_canonical where tenant = 'default' and run_id = $1) as numbers]]

local RECEIVED = [[
select string_agg(document::json->'data'->>'messageId', ' ' order by seq) as ids from run_events_canonical
where tenant = 'default' and run_id = $1 and type = 'message.received' and seq > $2]]

local ORDINALS = [[
select count(*) as n, coalesce(max(ordinal), 0) as last, coalesce(bool_and(ordinal = rank), true) as in_order from (
  select ordinal, row_number() over (order by seq) as rank from run_events_raw
  where tenant = 'default' and run_id = $1 and kind = 'stream-envelope') as ordered]]

local function stored_ordinal(world, run_id)
  return world:rows([[select coalesce(max(ordinal), 0) as n from run_events_raw
    where tenant = 'default' and run_id = $1]], run_id)[1].n
end

---Waits until the plane has stored `length` envelopes of a run. (yields)
---@param world table of spec/support/system.lua, with a plane
function M.await(world, run_id, length, timeout_ms)
  eventually(function()
    local ok, found = pcall(stored_ordinal, world, run_id)
    return ok and found >= length, ok and found .. " of " .. length or found
  end, timeout_ms or 20000, "the plane's copy of " .. run_id)
end

---Checks that the stored history of a run is the runtime's, each message once and in order, and that its numbers have
---no gap. (yields)
---@param ids string[] message ids of the runtime's history
function M.stored(world, run_id, ids)
  local numbers = world:rows(NUMBERS, run_id)[1]
  assert(numbers.n == numbers.last and numbers.n == numbers.different, run_id .. ": " .. json.encode(numbers))
  local ordinals = world:rows(ORDINALS, run_id)[1]
  assert(ordinals.n == #ids and ordinals.last == #ids and ordinals.in_order,
    run_id .. ": " .. json.encode(ordinals) .. " of " .. #ids)
  local received = world:rows(RECEIVED, run_id, 0)[1].ids
  assert(received == table.concat(ids, " "), run_id .. ": messages differ from the runtime's")
end

---Canonical text of what the host knows of a projection, without the part of its mode.
---@param state table what GET /runs/ID/state answers
function M.host_part(state)
  local copy = {}
  for key, value in pairs(state) do
    if key ~= "mode" then copy[key] = value end
  end
  return json.canonical(copy)
end

---The same text, from the events alone.
---@param events table[] as GET /runs/ID/events lists them, ascending
function M.fold(run_id, events)
  local fresh = projection.new(run_id)
  for i, event in ipairs(events) do
    assert(i == 1 or event.seq > events[i - 1].seq, "events out of order")
    fold.apply(fresh, fold.from_stored(event))
  end
  return projection.render(fresh, { sorted = true })
end

---Checks that GET /state is what the events add up to, folded here and by the plane, and that the events ascend.
---(yields)
function M.projection(world, run_id)
  local path = "/runs/" .. run_id
  local status, state = world:get(path .. "/state")
  assert(status == 200, "state: " .. tostring(status))
  local folded = M.fold(run_id, world:events(run_id))
  assert(folded == M.host_part(state), run_id .. ": the projection is not the fold of its events")
  local replayed, again = world:get(path .. "/replay/state")
  assert(replayed == 200, "replay/state: " .. tostring(replayed))
  assert(json.canonical(state) == json.canonical(again), run_id .. ": state and replay/state differ")
end

return M
