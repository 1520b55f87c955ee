-- Tables run_events_raw and run_events_canonical: what was received, and the history made of it.

local pg = require("host.pg")

local db_door = require("macp.store.db")

local INSERT_RAW = [[
insert into run_events_raw (tenant, run_id, seq, ts, kind, ordinal, frame, payload)
values ($1, $2, $3, $4, $5, $6, $7, $8)]]

local INSERT_CANONICAL = [[
insert into run_events_canonical (tenant, run_id, seq, ts, type, document) values ($1, $2, $3, $4, $5, $6)]]

-- run_events_canonical_pkey
local AFTER = [[
select seq, type, document from run_events_canonical
where tenant = $1 and run_id = $2 and seq > $3 order by seq limit $4]]

-- run_events_canonical_pkey, once for each run
local AFTER_MANY = [[
select wanted.run_id, event.seq, event.type, event.document
from unnest($2::uuid[], $3::bigint[]) as wanted (run_id, after_seq)
cross join lateral (
  select seq, type, document, sum(octet_length(document)) over (order by seq) as bytes from run_events_canonical
  where tenant = $1 and run_id = wanted.run_id and seq > wanted.after_seq order by seq limit $4) as event
where event.bytes - octet_length(event.document) < $5
order by wanted.run_id, event.seq]]

-- What waits for a reader: bounded in bytes, too, but never empty because of that. run_events_canonical_pkey
local PIECE = [[
select seq, ts, type, document from (
  select seq, ts, type, document, sum(octet_length(document)) over (order by seq) as bytes from run_events_canonical
  where tenant = $1 and run_id = $2 and seq > $3 and seq <= $4 and ($5::text[] is null or type = any($5))
  order by seq limit $6) as event
where bytes - octet_length(document) < $7 order by seq]]

-- run_events_canonical_pkey
local TYPED_RANGE = [[
select seq, ts, document from run_events_canonical
where tenant = $1 and run_id = $2 and seq > $3 and seq <= $4 and type = any($5) order by seq limit $6]]

-- What a mode is replayed from: accepted envelopes, and events of some types between them, in the order of their numbers;
-- bounded in bytes, too. run_events_raw_pkey, run_events_canonical_pkey
local REPLAYED = [[
select seq, ts, frame, type, document from (
  select *, sum(size) over (order by seq rows unbounded preceding) - size as before from (
    (select seq, ts, frame, null as type, null as document, octet_length(frame) as size from run_events_raw
     where tenant = $1 and run_id = $2 and seq > $3 and seq <= $4
       and kind = 'stream-envelope' and ordinal is not null and frame is not null order by seq limit $6)
    union all
    (select seq, ts, null, type, document, octet_length(document) from run_events_canonical
     where tenant = $1 and run_id = $2 and seq > $3 and seq <= $4 and type = any($5) order by seq limit $6)
    order by seq limit $6) as event) as sized
where before < $7 order by seq]]

-- The last number given and the last position received: backward steps in the primary keys. Not max(seq): of a table
-- whose statistics are young the planner believes that reading all rows of a run is as cheap.
local TAIL = [[
select
  greatest(
    (select seq from run_events_raw where tenant = $1 and run_id = $2 order by seq desc limit 1),
    (select seq from run_events_canonical where tenant = $1 and run_id = $2 order by seq desc limit 1), 0) as seq,
  coalesce((select ordinal from run_events_raw
            where tenant = $1 and run_id = $2 and ordinal is not null order by seq desc limit 1), 0) as ordinal]]

-- run_events_canonical_pkey, backwards
local LAST = [[
select coalesce((select seq from run_events_canonical where tenant = $1 and run_id = $2
                 order by seq desc limit 1), 0) as seq]]

-- run_events_canonical_pkey, backwards: so many steps, however long the history
local BEFORE_NEWEST = [[
select coalesce((select seq from run_events_canonical where tenant = $1 and run_id = $2
                 order by seq desc offset $3 limit 1), 0) as seq]]

-- run_events_canonical_pkey
local DOCUMENTS = [[
select event.run_id, event.seq, event.document
from unnest($2::uuid[], $3::bigint[]) as wanted (run_id, seq)
join run_events_canonical event on event.tenant = $1 and event.run_id = wanted.run_id and event.seq = wanted.seq]]

local HAS = "select document from run_events_canonical where tenant = $1 and run_id = $2 and seq = $3"
local HAS_RAW = "select kind from run_events_raw where tenant = $1 and run_id = $2 and seq = $3"

local M = {}

-- All events of a batch carry the same few times.
local cached_ms, cached_ts
local function ts(ms)
  if ms ~= cached_ms then cached_ms, cached_ts = ms, pg.ts(ms) end
  return cached_ts
end

---Adds a received frame (bytes) to a unit of work.
function M.add_raw_frame(unit, tenant, run_id, seq, ms, kind, ordinal, frame)
  unit:add(INSERT_RAW, tenant, run_id, seq, ts(ms), kind, ordinal, pg.bytea(frame), nil)
end

---Adds a received document (JSON text) to a unit of work.
function M.add_raw_document(unit, tenant, run_id, seq, ms, kind, payload)
  unit:add(INSERT_RAW, tenant, run_id, seq, ts(ms), kind, nil, nil, payload)
end

---Adds a canonical event to a unit of work.
function M.add_canonical(unit, tenant, run_id, seq, ms, event_type, document)
  unit:add(INSERT_CANONICAL, tenant, run_id, seq, ts(ms), event_type, document)
end

---Events with a higher number, ascending: { seq, type, document }. (yields)
function M.after(db, tenant, run_id, seq, limit) return db_door.rows(db, AFTER, tenant, run_id, seq, limit) end

---Events of several runs with higher numbers, run by run, ascending: { run_id, seq, type, document }. (yields)
---@param run_ids string[]
---@param seqs integer[] one for each run
---@param limit integer of events per run
---@param bytes integer of documents per run, after which no other one begins
function M.after_many(db, tenant, run_ids, seqs, limit, bytes)
  return db_door.rows(db, AFTER_MANY, tenant, pg.array(run_ids), pg.array(seqs), limit, bytes)
end

---The next events with seq in (from, to]: { seq, ts, type, document }; none only at the end. (yields)
---@param types string[]|nil only of these types
---@param limit integer of events
---@param bytes integer of documents, after which no other one begins
function M.piece(db, tenant, run_id, from, to, types, limit, bytes)
  return db_door.rows(db, PIECE, tenant, run_id, from, to, types and pg.array(types), limit, bytes)
end

---Events of some types with seq in (from, to], ascending: { seq, ts, document }. (yields)
---@param types string[]
function M.typed_range(db, tenant, run_id, from, to, types, limit)
  return db_door.rows(db, TYPED_RANGE, tenant, run_id, from, to, pg.array(types), limit)
end

---Accepted envelopes { seq, ts, frame } and events of some types { seq, ts, type, document } with seq in (from, to],
---ascending. (yields)
---@param types string[]
---@param limit integer of rows
---@param bytes integer of frames and documents, after which no other one begins
function M.replayed(db, tenant, run_id, from, to, types, limit, bytes)
  return db_door.rows(db, REPLAYED, tenant, run_id, from, to, pg.array(types), limit, bytes)
end

---{ seq, ordinal }: where the stored history of a run ends. (yields)
function M.tail(db, tenant, run_id) return db_door.one(db, TAIL, tenant, run_id) end

---{ seq }: the number of the last event of a run, 0 without any. (yields)
function M.last_seq(db, tenant, run_id) return db_door.one(db, LAST, tenant, run_id) end

---{ seq }: the number after which the newest `count` events of a run come, 0 when there are no more. (yields)
function M.before_newest(db, tenant, run_id, count)
  return db_door.one(db, BEFORE_NEWEST, tenant, run_id, count)
end

---The document stored under a number, false when there is none. (yields)
function M.document_at(db, tenant, run_id, seq) return db_door.one(db, HAS, tenant, run_id, seq) end

---The kind of the raw row stored under a number, false when there is none. (yields)
function M.raw_at(db, tenant, run_id, seq) return db_door.one(db, HAS_RAW, tenant, run_id, seq) end

-- A page of events with their sizes, in an order that `columns` hold; documents only until there are so many bytes.
---@param columns string what of each event is told besides size and document
---@param page string a query of these columns and `document`, ordered and limited
---@param order string
---@param bytes string name of the parameter ($n) that holds the limit
function M.sized(columns, page, order, bytes)
  local measured = "select " .. columns .. ", document, octet_length(document) as size from (" .. page .. ") page"
  return "select " .. columns .. ", size, case when before < " .. bytes .. " then document end as document from ("
    .. "select " .. columns .. ", document, size, sum(size) over (" .. order .. " rows unbounded preceding) - size"
    .. " as before from (" .. measured .. ") measured) sized " .. order
end

---The documents of events, in any order: { run_id, seq, document }; none of those that are gone. (yields)
---@param events { run_id: string, seq: integer }[]
function M.documents(db, tenant, events)
  local run_ids, seqs = {}, {}
  for i, event in ipairs(events) do run_ids[i], seqs[i] = event.run_id, event.seq end
  return db_door.rows(db, DOCUMENTS, tenant, pg.array(run_ids), pg.array(seqs))
end

---A filtered page of one run's events: rows { seq, size, document }, and the total. Documents are left out behind the
---first bytes. (yields)
---@param query { after_seq: integer, after_ms: integer|nil, before_ms: integer|nil, types: string[]|nil,
---  limit: integer, bytes: integer }
function M.page(db, tenant, run_id, query)
  local filter = db_door.filter(tenant)
  filter:add("run_id = ?", run_id)
  filter:add("seq > ?", query.after_seq)
  if query.after_ms then filter:add("ts >= ?", pg.ts(query.after_ms)) end
  if query.before_ms then filter:add("ts < ?", pg.ts(query.before_ms)) end
  if query.types then filter:add("type = any(?)", pg.array(query.types)) end
  local where = filter:text()
  local count_params = { n = filter.params.n, unpack(filter.params, 1, filter.params.n) }
  local page = "select ts, seq, document from run_events_canonical where tenant = $1" .. where
    .. " order by ts, seq limit " .. filter:param(query.limit)
  local results, err = db:batch({
    { M.sized("ts, seq", page, "order by ts, seq", filter:param(query.bytes)), filter.params },
    { "select count(*) as total from run_events_canonical where tenant = $1" .. where, count_params },
  })
  if results == nil then return db_door.fail(err) end
  return { rows = results[1].rows, total = results[2].rows[1].total }
end

return M
