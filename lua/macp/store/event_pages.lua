-- Whole histories for exports: pages of a run's events by keyset, each bounded in rows and bytes. The database joins the
-- documents of a page, so that a page costs this process one text however many events it has.

local db_door = require("macp.store.db")

local BYTES = 131072 -- a page ends before it grows beyond this, but always holds one event
local MAX_ROWS = 1000

-- $5 rows and $6 bytes at most, $7 before and $8 between the events; `line` is what an event becomes. The text is made
-- whole here: joining it once more would cost this process a copy of every page. run_events_canonical_pkey
local function page_query(line)
  return [[
select count(*)::int as count, max(seq) as seq, $7 || string_agg(line, $8 order by seq) as text from (
  select seq, line, sum(octet_length(line)) over (order by seq rows unbounded preceding) - octet_length(line) as before
  from (
    select seq, ]] .. line .. [[ as line from run_events_canonical
    where tenant = $1 and run_id = $2 and seq > $3 and seq <= $4 order by seq limit $5) page) sized
where before < $6]]
end

-- A document begins with id, runId, seq and ts, in which no "type" can occur, then its type.
local LINE = [['{"type":"canonical_event",' || substr(document, 2, strpos(document, '"type":') - 2)
  || '"eventType":' || substr(document, strpos(document, '"type":') + 7)]]

local DOCUMENTS, LINES = page_query("document"), page_query(LINE)

-- run_events_raw_pkey
local RAW = [[
select seq, ts, kind, ordinal, frame, payload from (
  select *, sum(size) over (order by seq rows unbounded preceding) - size as before from (
    select seq, ts, kind, ordinal, frame, payload,
      coalesce(octet_length(frame), 0) + coalesce(octet_length(payload::text), 0) as size
    from run_events_raw where tenant = $1 and run_id = $2 and seq > $3 and seq <= $4 order by seq limit $5) page) sized
where before < $6 order by seq]]

local M = { FIRST_ROWS = 100 }

---How many rows to ask for after a page of `count` events in so many bytes: what is read beyond a page is wasted.
function M.rows_after(count, bytes)
  return math.max(1, math.min(MAX_ROWS, math.floor(BYTES * count / math.max(1, bytes))))
end

---The next page of canonical events with seq in (from, to]: { count, seq (of the last), text }. (yields)
---@param as_lines boolean lines of JSON with the type as eventType, else documents with commas between
---@param before string put before the text
---@param most integer events at most
function M.canonical(db, tenant, run_id, from, to, as_lines, before, most)
  return db_door.one(db, as_lines and LINES or DOCUMENTS, tenant, run_id, from, to, most, BYTES,
    before, as_lines and "\n" or ",")
end

---The next page of raw rows with seq in (from, to]: { seq, ts, kind, ordinal, frame, payload (JSON text) }. (yields)
function M.raw(db, tenant, run_id, from, to, most)
  return db_door.rows(db, RAW, tenant, run_id, from, to, most, BYTES)
end

return M
