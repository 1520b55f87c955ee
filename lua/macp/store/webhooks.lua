-- Tables webhooks and webhook_deliveries. A delivery is written in the transaction of the event it announces, so
-- whether a subscription exists is decided there too.

local pg = require("host.pg")

local ENQUEUE = [[
insert into webhook_deliveries (tenant, id, webhook_id, event, run_id, body, next_attempt_at, created_at)
select $1, gen_random_uuid(), w.id, $2::text, $3, $4, $5, $5 from webhooks w
where w.tenant = $1 and w.active and (w.events = '[]'::jsonb or w.events ? $2::text or w.events ? '*')]]

local M = {}

---Adds one pending delivery per matching subscription to a unit of work.
---@param body string the exact bytes to be posted
function M.add_deliveries(unit, tenant, run_id, event, body, at_ms)
  unit:add(ENQUEUE, tenant, event, run_id, pg.bytea(body), pg.ts(at_ms))
end

return M
