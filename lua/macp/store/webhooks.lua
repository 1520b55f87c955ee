-- Table webhooks: who wants to be told. A delivery is written in the transaction of the event it announces, so whether a
-- subscription exists is decided there too. Secrets leave this table only through store/webhook_queue.lua and M.target.

local pg = require("host.pg")

local db_door = require("macp.store.db")

local COLUMNS = [[id, url, events, ordered, active, disabled_reason, previous_expires_at, delivered_count, failed_count,
  last_delivered_at, created_at, updated_at]]

-- Few rows per tenant (see INSERT): webhooks_pkey narrows to the tenant, the rest is looked at.
local ENQUEUE = [[
insert into webhook_deliveries (tenant, id, webhook_id, event, run_id, lane, body, next_attempt_at, created_at)
select $1, gen_random_uuid(), w.id, $2::text, $3::uuid, case when w.ordered then w.id else $3 end, $4, $5, $5
from webhooks w
where w.tenant = $1 and w.active and (w.events = '[]'::jsonb or w.events ? $2::text or w.events ? '*')]]

local INSERT = [[
insert into webhooks (tenant, id, url, events, secret, ordered)
select $1, $2, $3, $4::jsonb, $5, $6 where (select count(*) from webhooks where tenant = $1) < $7
returning ]] .. COLUMNS

-- webhooks_pkey
local LIST = "select " .. COLUMNS .. " from webhooks where tenant = $1 order by created_at, id"
local FIND = "select " .. COLUMNS .. " from webhooks where tenant = $1 and id = $2"

-- Another secret makes the one before sign as well until $8; the same one again changes nothing about secrets.
local UPDATE = [[
update webhooks set url = coalesce($3, url), events = coalesce($4::jsonb, events), ordered = coalesce($5, ordered),
  active = coalesce($6, active), disabled_reason = case when $6 then null else disabled_reason end,
  previous_secret = case when $7::text is null or $7 = secret then previous_secret
    when $8::timestamptz is null then null else secret end,
  previous_expires_at = case when $7::text is null or $7 = secret then previous_expires_at else $8 end,
  secret = coalesce($7, secret), updated_at = now()
where tenant = $1 and id = $2
returning ]] .. COLUMNS

local TARGET = [[
select url, secret, case when previous_expires_at > $3 then previous_secret end as previous_secret
from webhooks where tenant = $1 and id = $2]]

local DEACTIVATE = "update webhooks set active = false where tenant = $1 and id = $2 returning id"
-- webhook_deliveries_log_idx
local DELETE_DELIVERIES = [[
delete from webhook_deliveries where tenant = $1 and id in
  (select id from webhook_deliveries where webhook_id = $2 and tenant = $1 limit $3)]]
local DELETE = "delete from webhooks where tenant = $1 and id = $2"
local DELETE_CHUNK = 5000

local M = {}

---Adds one pending delivery per matching subscription to a unit of work.
---@param body string the exact bytes to be posted
function M.add_deliveries(unit, tenant, run_id, event, body, at_ms)
  unit:add(ENQUEUE, tenant, event, run_id, pg.bytea(body), pg.ts(at_ms))
end

---The new row; false when the tenant has `max` already. (yields)
---@param hook { id: string, url: string, events: string (JSON), secret: string, ordered: boolean }
function M.insert(db, tenant, hook, max)
  return db_door.one(db, INSERT, tenant, hook.id, hook.url, hook.events, hook.secret, hook.ordered, max)
end

---(yields)
function M.list(db, tenant) return db_door.rows(db, LIST, tenant) end

---(yields) the row, false when there is none
function M.find(db, tenant, id) return db_door.one(db, FIND, tenant, id) end

---Changes what is given; the changed row, false when there is none. (yields)
---@param change { url: string|nil, events: string|nil (JSON), ordered: boolean|nil, active: boolean|nil,
---  secret: string|nil, overlap_until_ms: integer|nil }
--- overlap_until_ms: until when the secret before signs too; nil: it ends at once
function M.update(db, tenant, id, change)
  return db_door.one(db, UPDATE, tenant, id, change.url, change.events, change.ordered, change.active, change.secret,
    change.overlap_until_ms and pg.ts(change.overlap_until_ms))
end

---Where to post and what to sign with: { url, secret, previous_secret }, false when there is none. (yields)
function M.target(db, tenant, id, now_ms) return db_door.one(db, TARGET, tenant, id, pg.ts(now_ms)) end

---Switches a webhook off and deletes its deliveries, in steps; false when there is none. (yields)
function M.empty(db, tenant, id)
  local row, err = db_door.one(db, DEACTIVATE, tenant, id) -- nothing is added while they go
  if not row then return row, err end
  repeat
    local count
    count, err = db_door.exec(db, DELETE_DELIVERIES, tenant, id, DELETE_CHUNK)
    if count == nil then return nil, err end
  until count < DELETE_CHUNK
  return true
end

---Deletes a webhook; how many there were. What is left of its deliveries goes with it. (yields)
function M.delete(db, tenant, id) return db_door.exec(db, DELETE, tenant, id) end

return M
