-- Deleting runs, and the table deleted_runs: which runs were, so that they do not come back. A run of many events leaves
-- at once, but its events go in pieces: nothing reads them meanwhile.

local pg = require("host.pg")

local db_door = require("macp.store.db")

local AT_ONCE = 20000 -- numbers of a run up to which its events go with it: at most that many rows
local PIECE = 10000 -- numbers per statement otherwise
local FIRST = { ended_at = "-infinity", id = "00000000-0000-0000-0000-000000000000" }

-- $3, $5, $6: only what completed, failed, was cancelled before, and is not to be retained; $3 null: whatever has ended.
-- The children go with the run.
local DELETE = [[
with gone as (
  delete from runs where tenant = $1 and id = any($2::uuid[]) and status in ('completed', 'failed', 'cancelled')
    and ended_at is not null and ($3::timestamptz is null or not tags ? 'retain'
      and ended_at < case status when 'completed' then $3 when 'failed' then $5::timestamptz else $6::timestamptz end)
  returning id, runtime_session_id, idempotency_key, last_event_seq <= $4::bigint as is_small
), buried as (
  insert into deleted_runs (tenant, id, runtime_session_id, idempotency_key, is_purged)
  select $1, id, runtime_session_id, idempotency_key, is_small from gone
  on conflict (tenant, id) do update set runtime_session_id = excluded.runtime_session_id,
    idempotency_key = excluded.idempotency_key, is_purged = excluded.is_purged, deleted_at = now(), seen_at = now()
)
select id, is_small from gone]]

-- run_events_canonical_pkey, run_events_raw_pkey
local DELETE_EVENTS = "delete from run_events_canonical where tenant = $1 and run_id = any($2::uuid[])"
local DELETE_RAW = "delete from run_events_raw where tenant = $1 and run_id = any($2::uuid[])"

-- The next runs that ended, oldest first: $7 are looked at, and those to be deleted have about $8 rows of events. $2, $3,
-- $4: what completed, failed, was cancelled before is to be deleted; $5, $6: end and id of the last one that was looked at.
-- runs_ended_at_status_idx
local EXPIRED = [[
select id, ended_at::text as ended_at, is_due from (
  select id, ended_at, is_due, sum(rows) over (order by ended_at, id) - rows as before from (
    select id, ended_at, is_due, case when is_due then last_event_seq else 0 end as rows from (
      select id, ended_at, last_event_seq, not tags ? 'retain' and ended_at < case status when 'completed' then $2
        when 'failed' then $3 when 'cancelled' then $4::timestamptz end as is_due
      from runs
      where tenant = $1 and ended_at is not null and ended_at < greatest($2::timestamptz, $3::timestamptz, $4)
        and ended_at >= $5::timestamptz and (ended_at, id) > ($5::timestamptz, $6::uuid)
      order by ended_at, id limit $7) looked_at) judged) counted
where before < $8 order by counted.ended_at, id]]

-- deleted_runs_unpurged_idx
local UNPURGED = "select id from deleted_runs where tenant = $1 and not is_purged order by id limit 1"
local LOWEST = [[
select least((select min(seq) from run_events_canonical where tenant = $1 and run_id = $2),
  (select min(seq) from run_events_raw where tenant = $1 and run_id = $2)) as seq]]
local DELETE_EVENTS_TO = "delete from run_events_canonical where tenant = $1 and run_id = $2 and seq <= $3"
local DELETE_RAW_TO = "delete from run_events_raw where tenant = $1 and run_id = $2 and seq <= $3"
local PURGED = "update deleted_runs set is_purged = true where tenant = $1 and id = $2"

-- A session has one run, whosever it is: deleted_runs_session_idx. Noted once a day.
local OF_SESSION = [[
select seen_at < now() - interval '1 day' as is_old from deleted_runs where runtime_session_id = $1]]
local SEE_MANY = "update deleted_runs set seen_at = now() where runtime_session_id = any($1)"

-- deleted_runs_key_idx
local OF_KEY = "select id from deleted_runs where tenant = $1 and idempotency_key = $2"

-- deleted_runs_seen_at_idx
local FORGET = [[
delete from deleted_runs where tenant = $1 and id in (
  select id from deleted_runs where tenant = $1 and seen_at < $2 and is_purged order by seen_at limit $3)]]
local CAN_FORGET = "select 1 from deleted_runs where tenant = $1 and seen_at < $2 and is_purged limit 1"

local M = { AT_ONCE = AT_ONCE }

---A condition on run_events_canonical that leaves out what is still to be deleted. $1 is the tenant.
M.NOT_GOING = "run_id not in (select id from deleted_runs where tenant = $1 and not is_purged)"

---Deletes those of the runs that have ended, with what belongs to them. (yields)
---@param tx table a transaction
---@param ids string[]
---@param before macp.store.Cutoffs|nil only runs that ended before and are not tagged `retain`
---@return { deleted: integer, is_pending: boolean, events: integer }|nil is_pending: some of their events are to be purged
function M.delete(tx, tenant, ids, before)
  before = before or {}
  local rows, err = db_door.rows(tx, DELETE, tenant, pg.array(ids), before.completed and pg.ts(before.completed),
    AT_ONCE, before.failed and pg.ts(before.failed), before.cancelled and pg.ts(before.cancelled))
  if rows == nil then return nil, err end
  local small = {}
  for _, row in ipairs(rows) do
    if row.is_small then small[#small + 1] = row.id end
  end
  local events = 0
  for _, text in ipairs(#small > 0 and { DELETE_EVENTS, DELETE_RAW } or {}) do
    local count, delete_err = db_door.exec(tx, text, tenant, pg.array(small))
    if count == nil then return nil, delete_err end
    events = events + count
  end
  return { deleted = #rows, is_pending = #small < #rows, events = events }
end

---@class macp.store.Cutoffs times in milliseconds before which a run must have ended
---@field completed integer
---@field failed integer
---@field cancelled integer

---The next runs that ended, oldest first: rows { id, ended_at (exact text), is_due }; no row: that was the last. What is
---not due is among them, so that a call never reads more than `limit` runs. (yields)
---@param after { ended_at: string, id: string }|nil the last row of the call before
---@param before macp.store.Cutoffs
function M.expired(db, tenant, after, before, limit)
  after = after or FIRST
  return db_door.rows(db, EXPIRED, tenant, pg.ts(before.completed), pg.ts(before.failed), pg.ts(before.cancelled),
    after.ended_at, after.id, limit, AT_ONCE)
end

---A deleted run whose events are still there: { id }, false when there is none. (yields)
function M.unpurged(db, tenant) return db_door.one(db, UNPURGED, tenant) end

---Deletes the next events of a deleted run. (yields)
---@return integer|false|nil how many; false: there were none left
function M.purge(tx, tenant, run_id)
  local lowest, err = db_door.one(tx, LOWEST, tenant, run_id)
  if lowest == nil then return nil, err end
  if lowest.seq == nil then
    local done, done_err = db_door.exec(tx, PURGED, tenant, run_id)
    if done == nil then return nil, done_err end
    return false
  end
  local events = 0
  for _, text in ipairs({ DELETE_EVENTS_TO, DELETE_RAW_TO }) do
    local count, delete_err = db_door.exec(tx, text, tenant, run_id, lowest.seq + PIECE - 1)
    if count == nil then return nil, delete_err end
    events = events + count
  end
  return events
end

---Was the run of this session deleted? Takes note that the runtime still tells about it. (yields)
---@return boolean|nil
function M.see(db, session_id)
  local row, err = db_door.one(db, OF_SESSION, session_id)
  if row and row.is_old then
    local noted
    noted, err = M.see_many(db, { session_id })
    if noted == nil then row = nil end
  end
  if row == nil then return nil, err end
  return row ~= false
end

---Takes note that the runtime still has these sessions. (yields)
function M.see_many(db, session_ids) return db_door.exec(db, SEE_MANY, pg.array(session_ids)) end

---The deleted run that was created with an idempotency key: { id }, false when there is none. (yields)
function M.of_key(db, tenant, key) return db_door.one(db, OF_KEY, tenant, key) end

---Is there a deleted run that nobody has told about since? (yields)
function M.can_forget(db, tenant, before_ms)
  local row, err = db_door.one(db, CAN_FORGET, tenant, pg.ts(before_ms))
  if row == nil then return nil, err end
  return row ~= false
end

---Forgets deleted runs that nobody has told about since. (yields)
---@return integer|nil count
function M.forget(db, tenant, before_ms, limit) return db_door.exec(db, FORGET, tenant, pg.ts(before_ms), limit) end

return M
