-- Webhooks as people manage them: registrations, secrets, the log, delivering again, a test. Secrets come in and never
-- go out.

local crypto = require("host.crypto")
local sys = require("host.sys")

local errors = require("macp.core.errors")
local json = require("macp.core.json")
local time = require("macp.core.time")
local outbound = require("macp.plane.outbound")
local attempt = require("macp.plane.webhooks.attempt")

local deliveries_store = require("macp.store.webhook_deliveries")
local webhooks_store = require("macp.store.webhooks")

local MAX_WEBHOOKS = 1000 -- of a tenant: each is looked at for every event that webhooks may hear of
local MAX_TESTS = 8
local TEST_EVENT = "webhook.test"
local MASK = "********"
local MAX_OFFSET = 10000

local null = json.null

---@class macp.plane.Webhooks
local Webhooks = {}
Webhooks.__index = Webhooks

local M = {
  EVENTS = { "run.started", "run.suspended", "run.resumed", "run.completed", "run.failed", "run.cancelled", "*" },
  MAX_OFFSET = MAX_OFFSET,
}

---@param deps { db: table, worker: macp.plane.WebhookWorker|nil, attempt: table, overlap_ms: integer }
--- attempt: options of webhooks/attempt.lua
function M.new(deps)
  deps.tests = 0
  return setmetatable(deps, Webhooks)
end

local function iso(ms) return ms and time.iso(ms) or null end

local function shown(row)
  return {
    id = row.id, url = row.url, events = json.raw(row.events), secret = MASK, ordered = row.ordered,
    active = row.active, disabledReason = row.disabled_reason or null,
    previousSecretExpiresAt = row.previous_expires_at and row.previous_expires_at > time.now_ms()
      and time.iso(row.previous_expires_at) or null,
    deliveryStats = { total = row.delivered_count + row.failed_count, succeeded = row.delivered_count,
      failed = row.failed_count, lastDeliveredAt = row.last_delivered_at and time.iso(row.last_delivered_at) or nil },
    createdAt = iso(row.created_at), updatedAt = iso(row.updated_at),
  }
end

local function delivery_shown(row)
  return {
    id = row.id, webhookId = row.webhook_id, event = row.event, runId = row.run_id or null, status = row.status,
    attempts = row.attempts, nextAttemptAt = row.status == "pending" and time.iso(row.next_attempt_at) or null,
    lastAttemptAt = iso(row.last_attempt_at), responseStatus = row.response_status or null,
    errorMessage = row.error_message or null, createdAt = iso(row.created_at), deliveredAt = iso(row.delivered_at),
  }
end

local function unknown(id) return errors.new("NOT_FOUND", nil, "webhook " .. id .. " not found") end

local function unknown_delivery(id) return errors.new("NOT_FOUND", nil, "delivery " .. id .. " not found") end

---(yields)
---@param db table the pool, or the transaction of the audit entry; so below
---@param body { url: string, events: string[]|nil, secret: string, ordered: boolean }
function Webhooks:create(db, tenant, body)
  local refusal = outbound.refusal("url", body.url, self.attempt)
  if refusal then return nil, refusal end
  local row, err = webhooks_store.insert(db, tenant, { id = crypto.uuid7(), url = body.url,
    events = json.encode(json.array(body.events or {})), secret = body.secret, ordered = body.ordered }, MAX_WEBHOOKS)
  if row == nil then return nil, err end
  if not row then
    return nil, errors.new("CONFLICT", { limit = MAX_WEBHOOKS }, "there are " .. MAX_WEBHOOKS .. " webhooks already")
  end
  return shown(row)
end

---(yields)
function Webhooks:list(tenant)
  local rows, err = webhooks_store.list(self.db, tenant)
  if rows == nil then return nil, err end
  local out = json.array({})
  for i, row in ipairs(rows) do out[i] = shown(row) end
  return out
end

-- (yields)
local function find(db, tenant, id)
  local row, err = webhooks_store.find(db, tenant, id)
  if row == nil then return nil, err end
  if not row then return nil, unknown(id) end
  return row
end

---(yields)
function Webhooks:get(tenant, id)
  local row, err = find(self.db, tenant, id)
  return row and shown(row), err
end

---Changes what the body gives; another secret leaves the one before valid for a while. (yields)
function Webhooks:update(db, tenant, id, body)
  local refusal = body.url and outbound.refusal("url", body.url, self.attempt)
  if refusal then return nil, refusal end
  if body.secretOverlapSeconds and not body.secret then
    return nil, errors.validation({ { path = "secretOverlapSeconds",
      message = "secretOverlapSeconds needs a secret" } })
  end
  local overlap_ms = body.secretOverlapSeconds and body.secretOverlapSeconds * 1000 or self.overlap_ms
  local row, err = webhooks_store.update(db, tenant, id, {
    url = body.url, events = body.events and json.encode(json.array(body.events)), ordered = body.ordered,
    active = body.active, secret = body.secret,
    overlap_until_ms = body.secret and overlap_ms > 0 and sys.now_ms() + overlap_ms or nil,
  })
  if row == nil then return nil, err end
  if not row then return nil, unknown(id) end
  return shown(row)
end

---Before a webhook is deleted: it is switched off and loses its deliveries, however many, in small steps. (yields)
function Webhooks:empty(tenant, id)
  local done, err = webhooks_store.empty(self.db, tenant, id)
  if done == nil then return nil, err end
  if not done then return nil, unknown(id) end
  return true
end

---Deletes a webhook with what is left of its deliveries. (yields)
function Webhooks.delete(_, db, tenant, id)
  local count, err = webhooks_store.delete(db, tenant, id)
  if count == nil then return nil, err end
  if count == 0 then return nil, unknown(id) end
  return true
end

---Lets a worker of this process look for due deliveries at once.
function Webhooks:wake()
  if self.worker then self.worker:wake() end
end

---One page of the log. (yields)
---@param query { status: string|nil, limit: integer, offset: integer, cursor: integer|nil }
function Webhooks:deliveries(tenant, id, query)
  local row, err = find(self.db, tenant, id)
  if row == nil then return nil, err end
  local rows
  rows, err = deliveries_store.page(self.db, tenant, id,
    { status = query.status, before_seq = query.cursor, limit = query.limit, offset = query.offset })
  if rows == nil then return nil, err end
  local out = json.array({})
  for i, delivery in ipairs(rows) do out[i] = delivery_shown(delivery) end
  return { data = out, limit = query.limit, offset = query.offset,
    nextCursor = #rows == query.limit and rows[#rows].seq or null }
end

---One delivery with its payload and its attempts. (yields)
function Webhooks:delivery(tenant, id, delivery_id)
  local row, err = deliveries_store.find(self.db, tenant, id, delivery_id)
  if row == nil then return nil, err end
  if not row then return nil, unknown_delivery(delivery_id) end
  local out = delivery_shown(row)
  out.payload, out.attemptLog = json.raw(tostring(row.body)), json.raw(row.attempt_log)
  return out
end

-- (yields)
local function require_active(db, tenant, id)
  local row, err = find(db, tenant, id)
  if row == nil then return nil, err end
  if row.active then return true end
  return nil, errors.new("CONFLICT", nil, "webhook " .. id .. " is not active: nothing is delivered to it")
end

---Makes one delivery due again; its id and its bytes stay. (yields)
function Webhooks.redeliver(_, db, tenant, id, delivery_id)
  local ok, err = require_active(db, tenant, id)
  if not ok then return nil, err end
  local row
  row, err = deliveries_store.redeliver(db, tenant, id, delivery_id, sys.now_ms())
  if row == nil then return nil, err end
  if not row then
    row, err = deliveries_store.find(db, tenant, id, delivery_id)
    if row == nil then return nil, err end
    if not row then return nil, unknown_delivery(delivery_id) end
    return nil, errors.new("CONFLICT", nil, "delivery " .. delivery_id .. " is being attempted")
  end
  return delivery_shown(row)
end

---Makes many due again: { redelivered }. (yields)
---@param body { deliveryIds: string[]|nil, event: string|nil, createdAfter: string|nil, createdBefore: string|nil,
---  limit: integer }
function Webhooks.redeliver_many(_, db, tenant, id, body)
  local ok, err = require_active(db, tenant, id)
  if not ok then return nil, err end
  local count
  count, err = deliveries_store.redeliver_many(db, tenant, id, sys.now_ms(), {
    ids = body.deliveryIds, event = body.event, after_ms = body.createdAfter and time.parse_iso(body.createdAfter),
    before_ms = body.createdBefore and time.parse_iso(body.createdBefore), limit = body.limit,
  })
  if count == nil then return nil, err end
  return { redelivered = count }
end

---Posts an event of no run now and tells what the receiver says; kept in the log, never repeated. (yields)
function Webhooks:test(tenant, id)
  local target, err = webhooks_store.target(self.db, tenant, id, sys.now_ms())
  if target == nil then return nil, err end
  if not target then return nil, unknown(id) end
  if self.tests >= MAX_TESTS then
    return nil, errors.new("RATE_LIMITED", nil, "too many webhooks are being tested at the moment")
  end
  local test_id = crypto.uuid7()
  local delivery = { id = test_id, event = TEST_EVENT, url = target.url, secret = target.secret,
    previous_secret = target.previous_secret,
    body = json.encode({ event = TEST_EVENT, webhookId = id, timestamp = time.iso_now() }) }
  self.tests = self.tests + 1
  local ok, outcome, post_err = pcall(attempt.post, self.attempt, delivery)
  self.tests = self.tests - 1
  if not ok then error(outcome, 0) end
  if outcome == nil then return nil, post_err end
  local stored
  stored, err = deliveries_store.insert_test(self.db, tenant, { id = test_id, webhook_id = id, event = TEST_EVENT,
    body = delivery.body, status = outcome.ok and "delivered" or "failed", at_ms = outcome.at_ms,
    response_status = outcome.status, error = outcome.error, entry = attempt.entry(outcome) })
  if stored == nil then return nil, err end
  if stored == 0 then return nil, unknown(id) end -- deleted while it was tested
  return { ok = outcome.ok, deliveryId = test_id, responseStatus = outcome.status or null,
    error = outcome.error or null, durationMs = math.floor(outcome.ms), response = outcome.snippet or null }
end

return M
