-- A finished run with many events, put into the database as it is: nobody has to play it.

local crypto = require("host.crypto")

local RUN = [[
insert into runs (tenant, id, status, mode, runtime_kind, runtime_session_id, last_event_seq, started_at, ended_at)
values ($3, $1::uuid, 'completed', 'live', 'rust', ($1::uuid)::text, $2::bigint, now(), now())]]

local EVENTS = [[
insert into run_events_canonical (tenant, run_id, seq, ts, type, document)
select $4, $1::uuid, i * 2, now(), 'message.received', '{"id":"' || gen_random_uuid() || '","runId":"'
  || ($1::uuid)::text || '","seq":' || i * 2 || ',"ts":"2026-05-06T07:08:09.123Z","type":"message.received",'
  || '"schemaVersion":3,"data":{"messageType":"Evaluation","messageId":"m' || i || '","sender":"ann","payload":"'
  || repeat('x', $3::int) || '"}}'
from generate_series(1, $2::int) i]]

local M = {}

---Puts one there; its events have the numbers 2, 4, 6 and so on. (yields)
---@param db table
---@param count integer events
---@param bytes integer of each event's payload
---@param tenant string|nil
---@return string run_id
function M.insert(db, count, bytes, tenant)
  local id = crypto.uuid4()
  assert(db:query(RUN, { id, count * 2, tenant or "default" }))
  assert(db:query(EVENTS, { id, count, bytes, tenant or "default" }))
  return id
end

return M
