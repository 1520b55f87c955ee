-- Table webhook_deliveries as a queue of all tenants: claimed by one process at a time, finished many at once.
-- A claim is `claimed_by`, and ends by itself at `next_attempt_at`: what a killed process held is due again then.

local pg = require("host.pg")

local db_door = require("macp.store.db")

-- The backlog grows and shrinks faster than statistics follow, and all partial indexes look alike without them. So the
-- conditions leave one choice each: `status = 'pending'` is webhook_deliveries_due_idx, `not in` is
-- webhook_deliveries_lane_idx, and a row that is known by its key says it so that no partial index fits.

-- Due rows of every active webhook, as many as it has room for: webhook_deliveries_due_idx. A row behind another one of
-- its lane waits for that (webhook_deliveries_lane_idx): its time is put off, so that it is not looked at again and
-- again, until FINISH calls it. Whoever holds a row's lock is working on it: skipped.
local CLAIM = [[
with picked as (
  select d.tenant, d.id from webhooks w
  left join unnest($2::uuid[], $3::int[]) as held (webhook_id, room) on held.webhook_id = w.id
  cross join lateral (
    select p.tenant, p.id, p.next_attempt_at from webhook_deliveries p
    where p.webhook_id = w.id and p.status = 'pending' and p.next_attempt_at <= $1::timestamptz
    order by p.next_attempt_at limit coalesce(held.room, $4::int)) d
  where w.active
  order by d.next_attempt_at limit $5::int
), locked as (
  select found.* from picked cross join lateral (
    select d.tenant, d.id, d.webhook_id, d.lane, d.seq from webhook_deliveries d
    where d.tenant = picked.tenant and d.id = picked.id and d.status || '' = 'pending'
      and d.next_attempt_at <= $1 limit 1 for update of d skip locked) found
), judged as materialized (
  select l.tenant, l.id, (select p.next_attempt_at from webhook_deliveries p
    where p.webhook_id = l.webhook_id and p.lane = l.lane and p.status not in ('delivered', 'failed')
      and p.seq < l.seq
    order by p.seq limit 1) as behind
  from locked l
), changed as (
  update webhook_deliveries d set
    next_attempt_at = case when j.behind is null then $6::timestamptz
      else greatest(j.behind, $1 + interval '50 milliseconds') end,
    claimed_by = case when j.behind is null then $7::text end
  from judged j where d.tenant = j.tenant and d.id = j.id
  returning d.tenant, d.id, d.webhook_id, d.event, d.seq, d.attempts, j.behind is not null as waits, d.run_id,
    case when j.behind is null then d.body end as body
)
select c.tenant, c.id, c.webhook_id, c.event, c.attempts, c.waits, c.body, w.url, w.secret, w.ordered, c.run_id,
  (select r.trace_context from runs r where r.tenant = c.tenant and r.id = c.run_id) as trace_context,
  case when w.previous_expires_at > $1 then w.previous_secret end as previous_secret
from changed c join webhooks w on w.tenant = c.tenant and w.id = c.webhook_id
order by c.seq]]

-- A result counts while the claim is ours; a success counts always. What waited for a finished row is due, before all
-- that came later.
local FINISH = [[
with told as (
  select * from unnest($3::text[], $4::uuid[], $5::text[], $6::float8[], $7::int[], $8::text[], $9::text[])
    as t (tenant, id, status, next_ms, response_status, error_message, entry)
), done as (
  update webhook_deliveries d set status = t.status, attempts = d.attempts + 1, last_attempt_at = $1::timestamptz,
    next_attempt_at = to_timestamp(t.next_ms / 1000), claimed_by = null, response_status = t.response_status,
    error_message = t.error_message, delivered_at = case when t.status = 'delivered' then $1 end,
    attempt_log = case when jsonb_array_length(d.attempt_log) < $10::int then d.attempt_log else d.attempt_log - 0 end
      || t.entry::jsonb
  from told t
  where d.tenant = t.tenant and d.id = t.id and d.status || '' = 'pending'
    and (t.status = 'delivered' or d.claimed_by = $2::text)
  returning d.tenant, d.webhook_id, d.lane, d.seq, d.status
), counted as (
  update webhooks w set delivered_count = w.delivered_count + n.delivered, failed_count = w.failed_count + n.failed,
    last_delivered_at = case when n.delivered > 0 then $1 else w.last_delivered_at end
  from (select tenant, webhook_id, count(*) filter (where status = 'delivered') as delivered,
    count(*) filter (where status = 'failed') as failed from done where status <> 'pending' group by 1, 2) n
  where w.tenant = n.tenant and w.id = n.webhook_id
)
update webhook_deliveries d set next_attempt_at = least(d.next_attempt_at, d.created_at)
from done join lateral (
  select p.tenant, p.id from webhook_deliveries p
  where p.webhook_id = done.webhook_id and p.lane = done.lane and p.status not in ('delivered', 'failed')
    and p.seq > done.seq
  order by p.seq limit 1) following on true
where done.status <> 'pending' and d.tenant = following.tenant and d.id = following.id
  and d.status || '' = 'pending' and d.claimed_by is null and d.attempts = 0]]

local DISABLE = [[
update webhooks set active = false, disabled_reason = $3, updated_at = now() where tenant = $1 and id = $2 and active]]

local RELEASE = [[
update webhook_deliveries d set claimed_by = null, next_attempt_at = $1
from unnest($3::text[], $4::uuid[]) as t (tenant, id)
where d.tenant = t.tenant and d.id = t.id and d.status || '' = 'pending' and d.claimed_by = $2]]

local KEPT_ATTEMPTS = 16

local M = {}

-- A list of rows as one array per field; nil fields become NULL.
local function columns(rows, names)
  local out = {}
  for i, name in ipairs(names) do
    local list = { n = #rows }
    for k, row in ipairs(rows) do list[k] = row[name] end
    out[i] = pg.array(list)
  end
  return out
end

local function finish_op(owner, now_ms, results)
  local c = columns(results, { "tenant", "id", "status", "next_ms", "response_status", "error", "entry" })
  return { FINISH, { n = 10, pg.ts(now_ms), owner, c[1], c[2], c[3], c[4], c[5], c[6], c[7], KEPT_ATTEMPTS } }
end

---Stores results and claims more, in one transaction. (yields)
---@param owner string of this process
---@param now_ms integer
---@param results { tenant: string, id: string, webhook_id: string, status: "delivered"|"failed"|"pending",
---  next_ms: integer, response_status: integer|nil, error: string|nil, entry: string (JSON), gone: string|nil }[]
---@param claim { limit: integer, room: integer, held: { webhook_id: string, room: integer }[], until_ms: integer }|nil
--- room: of webhooks that are not in `held`; `gone` tells why the webhook is switched off
---@return table[]|nil rows claimed rows, in order; those with `waits` are not claimed, they stand behind another one
---@return table|nil err
function M.exchange(db, owner, now_ms, results, claim)
  local ops = {}
  if #results > 0 then ops[1] = finish_op(owner, now_ms, results) end
  for _, result in ipairs(results) do
    if result.gone then
      ops[#ops + 1] = { DISABLE, { n = 3, result.tenant, result.webhook_id, result.gone } }
    end
  end
  if claim then
    local held = columns(claim.held, { "webhook_id", "room" })
    ops[#ops + 1] = { CLAIM, { n = 7, pg.ts(now_ms), held[1], held[2], claim.room, claim.limit,
      pg.ts(claim.until_ms), owner } }
  end
  if #ops == 0 then return {} end
  local replies, err = db:batch(ops)
  if replies == nil then return db_door.fail(err) end
  return claim and replies[#replies].rows or {}
end

---Gives claimed rows back: they are due at once. (yields)
---@param rows { tenant: string, id: string }[]
function M.release(db, owner, now_ms, rows)
  if #rows == 0 then return 0 end
  local c = columns(rows, { "tenant", "id" })
  return db_door.exec(db, RELEASE, pg.ts(now_ms), owner, c[1], c[2])
end

return M
