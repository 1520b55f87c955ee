-- Table idempotency_replies: replies kept for requests that are repeated with their key.

local pg = require("host.pg")

local db_door = require("macp.store.db")

-- idempotency_replies_pkey. What has expired is taken over.
local CLAIM = [[
insert into idempotency_replies (tenant, key, fingerprint, claim, expires_at)
values ($1, $2, $3, $4, now() + $5 * interval '1 millisecond')
on conflict (tenant, key) do update set fingerprint = excluded.fingerprint, claim = excluded.claim, status = null,
  body = null, created_at = now(), expires_at = excluded.expires_at
where idempotency_replies.expires_at <= now()]]

local FIND = [[
select fingerprint = $3 as is_same, status, body from idempotency_replies where tenant = $1 and key = $2]]

local ANSWER = [[
update idempotency_replies set status = $4, body = $5, expires_at = now() + $6 * interval '1 millisecond'
where tenant = $1 and key = $2 and claim = $3]]

local RELEASE = "delete from idempotency_replies where tenant = $1 and key = $2 and claim = $3 and status is null"

-- Of all tenants: idempotency_replies_expires_at_idx.
local EXPIRE = [[
delete from idempotency_replies where (tenant, key) in (
  select tenant, key from idempotency_replies where expires_at <= now() order by expires_at limit $1
  for update skip locked)]]

local M = {}

---Takes a key that nobody has. (yields)
---@return boolean|nil taken
---@return table|nil err
function M.claim(db, tenant, key, fingerprint, claim, ms)
  local count, err = db_door.exec(db, CLAIM, tenant, key, pg.bytea(fingerprint), claim, ms)
  if count == nil then return nil, err end
  return count == 1
end

---What is kept under a key: { is_same, status, body }, or false. (yields)
function M.find(db, tenant, key, fingerprint)
  return db_door.one(db, FIND, tenant, key, pg.bytea(fingerprint))
end

---Keeps the reply of a claim. (yields)
function M.answer(db, tenant, key, claim, status, body, ms)
  return db_door.exec(db, ANSWER, tenant, key, claim, status, body, ms)
end

---Gives a claim up. (yields)
function M.release(db, tenant, key, claim) return db_door.exec(db, RELEASE, tenant, key, claim) end

---Deletes up to `limit` rows whose time is over; how many. (yields)
function M.expire(db, limit) return db_door.exec(db, EXPIRE, limit) end

return M
