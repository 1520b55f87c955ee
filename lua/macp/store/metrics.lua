-- Table run_metrics: counters of one run.

local pg = require("host.pg")

local db_door = require("macp.store.db")

local UPSERT = [[
insert into run_metrics (tenant, run_id, event_count, message_count, signal_count, proposal_count, tool_call_count,
  decision_count, stream_reconnect_count, prompt_tokens, completion_tokens, total_tokens, estimated_cost_usd,
  first_event_at, last_event_at, duration_ms, session_state, updated_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
on conflict (tenant, run_id) do update set event_count = excluded.event_count, message_count = excluded.message_count,
  signal_count = excluded.signal_count, proposal_count = excluded.proposal_count,
  tool_call_count = excluded.tool_call_count, decision_count = excluded.decision_count,
  stream_reconnect_count = excluded.stream_reconnect_count, prompt_tokens = excluded.prompt_tokens,
  completion_tokens = excluded.completion_tokens, total_tokens = excluded.total_tokens,
  estimated_cost_usd = excluded.estimated_cost_usd, first_event_at = excluded.first_event_at,
  last_event_at = excluded.last_event_at, duration_ms = excluded.duration_ms,
  session_state = excluded.session_state, updated_at = excluded.updated_at
where run_metrics.event_count <= excluded.event_count]]

-- run_metrics_pkey
local FIND = [[
select event_count, message_count, signal_count, proposal_count, tool_call_count, decision_count,
  stream_reconnect_count, prompt_tokens, completion_tokens, total_tokens, estimated_cost_usd,
  first_event_at, last_event_at, session_state
from run_metrics where tenant = $1 and run_id = $2]]

local ADD_EVENTS = "update run_metrics set event_count = event_count + $3 where tenant = $1 and run_id = $2"

local M = {}

local function ts(ms) return ms and pg.ts(ms) end

---Adds the counters to a unit of work.
---@param m table of plane/run_metrics.lua
---@param duration_ms integer|nil
function M.add_upsert(unit, tenant, run_id, m, duration_ms, at_ms)
  unit:add(UPSERT, tenant, run_id, m.event_count, m.message_count, m.signal_count, m.proposal_count,
    m.tool_call_count, m.decision_count, m.stream_reconnect_count, m.prompt_tokens, m.completion_tokens,
    m.total_tokens, m.estimated_cost_usd, ts(m.first_event_ms), ts(m.last_event_ms), duration_ms, m.session_state,
    pg.ts(at_ms))
end

---Adds events that only count as such to a unit of work; the duration of the run stays what it is.
function M.add_events(unit, tenant, run_id, count) unit:add(ADD_EVENTS, tenant, run_id, count) end

---Writes the counters whatever is stored, inside a transaction that holds the run. (yields)
function M.replace(tx, tenant, run_id, m, duration_ms, at_ms)
  local done, err = db_door.exec(tx, "delete from run_metrics where tenant = $1 and run_id = $2", tenant, run_id)
  if done == nil then return nil, err end
  local unit = { add = function(_, text, ...) done, err = db_door.exec(tx, text, ...) end }
  M.add_upsert(unit, tenant, run_id, m, duration_ms, at_ms)
  return done, err
end

---The counters as plane/run_metrics.lua keeps them, false when there are none. (yields)
function M.find(db, tenant, run_id)
  local row, err = db_door.one(db, FIND, tenant, run_id)
  if not row then return row, err end
  row.first_event_ms, row.last_event_ms = row.first_event_at, row.last_event_at
  row.first_event_at, row.last_event_at = nil, nil
  return row
end

return M
