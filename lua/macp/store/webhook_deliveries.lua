-- Table webhook_deliveries as people see it: the log of a webhook, and what shall be delivered again.

local pg = require("host.pg")

local db_door = require("macp.store.db")

local COLUMNS = [[id, webhook_id, event, run_id, seq, status, attempts, next_attempt_at, last_attempt_at,
  response_status, error_message, claimed_by, created_at, delivered_at]]

-- webhook_deliveries_pkey
local FIND = "select " .. COLUMNS .. [[, body, attempt_log from webhook_deliveries
where tenant = $1 and webhook_id = $2 and id = $3]]

local AGAIN = [[status = 'pending', attempts = 0, next_attempt_at = $3, delivered_at = null, claimed_by = null]]

-- webhook_deliveries_pkey
local REDELIVER = "update webhook_deliveries set " .. AGAIN .. [[
 where tenant = $1 and webhook_id = $2 and id = $4
  and (status <> 'pending' or claimed_by is null or next_attempt_at < $3)
returning ]] .. COLUMNS

-- No row when the webhook was deleted meanwhile.
local INSERT_TEST = [[
with hook as (select id from webhooks where tenant = $1 and id = $3 for key share)
insert into webhook_deliveries (tenant, id, webhook_id, event, body, status, attempts, next_attempt_at, last_attempt_at,
  response_status, error_message, delivered_at, attempt_log)
select $1, $2, hook.id, $4, $5, $6, 1, $7, $7, $8, $9, $10, jsonb_build_array($11::jsonb) from hook]]

-- As text, so that a plan for all parameters finds the partial index.
local BY_STATUS = { pending = "status = 'pending'", delivered = "status = 'delivered'", failed = "status = 'failed'" }

local M = {}

---One page of a webhook's deliveries, newest first: webhook_deliveries_log_idx or webhook_deliveries_status_idx. (yields)
---@param query { status: string|nil, before_seq: integer|nil, limit: integer, offset: integer }
function M.page(db, tenant, webhook_id, query)
  local filter = db_door.filter(tenant)
  filter:add("webhook_id = ?", webhook_id)
  if query.status then filter:only(assert(BY_STATUS[query.status])) end
  if query.before_seq then filter:add("seq < ?", query.before_seq) end
  local limit, offset = filter:param(query.limit), filter:param(query.offset)
  local text = "select " .. COLUMNS .. " from webhook_deliveries where tenant = $1" .. filter:text()
    .. " order by seq desc limit " .. limit .. " offset " .. offset
  return db_door.rows(db, text, unpack(filter.params, 1, filter.params.n))
end

---(yields) with body and attempt_log; false when there is none
function M.find(db, tenant, webhook_id, id) return db_door.one(db, FIND, tenant, webhook_id, id) end

---Makes one delivery due again from its first attempt; false when there is none or it is being attempted. (yields)
function M.redeliver(db, tenant, webhook_id, id, now_ms)
  return db_door.one(db, REDELIVER, tenant, webhook_id, pg.ts(now_ms), id)
end

---Makes many due again and tells how many: the named ones, or failed ones, oldest first. (yields)
---@param which { ids: string[]|nil, event: string|nil, after_ms: integer|nil, before_ms: integer|nil, limit: integer }
function M.redeliver_many(db, tenant, webhook_id, now_ms, which)
  local filter = db_door.filter(tenant)
  filter:param(webhook_id)
  filter:param(pg.ts(now_ms))
  if which.ids then
    filter:add("id = any(?::uuid[])", pg.array(which.ids))
    filter:only("(status <> 'pending' or claimed_by is null or next_attempt_at < $3)")
  else
    filter:only(BY_STATUS.failed) -- webhook_deliveries_status_idx
  end
  if which.event then filter:add("event = ?", which.event) end
  if which.after_ms then filter:add("created_at > ?", pg.ts(which.after_ms)) end
  if which.before_ms then filter:add("created_at < ?", pg.ts(which.before_ms)) end
  local limit = filter:param(which.limit)
  local text = "update webhook_deliveries set " .. AGAIN .. " where tenant = $1 and id in (select id from "
    .. "webhook_deliveries where tenant = $1 and webhook_id = $2" .. filter:text() .. " order by seq limit " .. limit
    .. " for update skip locked)"
  return db_door.exec(db, text, unpack(filter.params, 1, filter.params.n))
end

---The record of a test, which was attempted already. (yields)
---@param test { id: string, webhook_id: string, event: string, body: string, status: string, at_ms: integer,
---  response_status: integer|nil, error: string|nil, entry: string (JSON) }
function M.insert_test(db, tenant, test)
  local at = pg.ts(test.at_ms)
  return db_door.exec(db, INSERT_TEST, tenant, test.id, test.webhook_id, test.event, pg.bytea(test.body), test.status,
    at, test.response_status, test.error, test.status == "delivered" and at or nil, test.entry)
end

return M
