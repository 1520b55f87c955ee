-- Replies under an Idempotency-Key, kept in the database: a request that is repeated is not done again, on whichever
-- process it arrives. Only what was done is kept; a request that failed may be repeated with its key.

local crypto = require("host.crypto")
local log = require("host.log")
local task = require("host.task")

local errors = require("macp.core.errors")

local replies_store = require("macp.store.idempotency_replies")

local CLAIM_MS = 300000     -- after that a request whose process died counts as not done
local MAX_BYTES = 1048576   -- of a reply; a larger one is not kept
local EVERY_MS, BATCH = 60000, 1000

---@class macp.plane.Replies
local Replies = {}
Replies.__index = Replies

local M = {}

---@param deps { db: table, keep_ms: integer }
function M.new(deps) return setmetatable(deps, Replies) end

local function refused(found)
  if not found.is_same then
    return errors.new("CONFLICT", nil, "the Idempotency-Key was used for a different request")
  end
  return errors.new("CONFLICT", nil, "the request with this Idempotency-Key is not answered yet")
end

---Begins a request. (yields)
---@param fingerprint string 32 bytes; equal requests have equal ones
---@return string|nil claim to be given to `answer` or `release`; false: it was answered before
---@return table|nil the reply of then: { status, body }; or the error
function Replies:begin(tenant, key, fingerprint)
  local claim = crypto.uuid4()
  for _ = 1, 2 do -- what is there may be given up between the two statements
    local taken, err = replies_store.claim(self.db, tenant, key, fingerprint, claim, CLAIM_MS)
    if taken == nil then return nil, err end
    if taken then return claim end
    local found, find_err = replies_store.find(self.db, tenant, key, fingerprint)
    if found == nil then return nil, find_err end
    if found and found.is_same and found.status then return false, { status = found.status, body = found.body } end
    if found then return nil, refused(found) end
  end
  return nil, errors.new("CONFLICT", nil, "the request with this Idempotency-Key is not answered yet")
end

---Keeps the reply of what was done. A failure is logged: it is done, whatever becomes of the key. (yields)
function Replies:answer(tenant, key, claim, status, body)
  local ok, err
  if #body > MAX_BYTES then ok, err = replies_store.release(self.db, tenant, key, claim)
  else ok, err = replies_store.answer(self.db, tenant, key, claim, status, body, self.keep_ms) end
  if ok == nil then log.error("idempotency.not_kept", { error = err.message }) end
end

---Nothing was done: the key is free again. (yields)
function Replies:release(tenant, key, claim)
  local ok, err = replies_store.release(self.db, tenant, key, claim)
  if ok == nil then log.warn("idempotency.not_released", { error = err.message }) end
end

---Deletes what has been kept long enough, every minute. (yields)
function Replies:work(child)
  while not child:stopping() do
    local count, err
    repeat
      count, err = replies_store.expire(self.db, BATCH)
      if count == nil then return nil, err end
    until count < BATCH
    local slept, sleep_err = task.sleep(EVERY_MS)
    if not slept then return nil, sleep_err end
  end
  return true
end

return M
