-- Webhooks: deliveries from a full outbox to a local receiver, and what the outbox costs the ingest when there is a
-- delivery for about every tenth event (two webhooks, sessions of five envelopes).

local http = require("host.http")
local pg = require("host.pg")
local sys = require("host.sys")
local task = require("host.task")

local ingest = require("spec.bench.lib.ingest")
local stack = require("spec.bench.lib.stack")

local HOOKS, PER_HOOK = 4, 5000
local SESSIONS, ENVELOPES = 1000, 5
local GIVE_UP_MS = 60000

local ADD_HOOKS = [[
insert into webhooks (tenant, id, url, secret)
select 'default', gen_random_uuid(), $1, 'sixteen letters!' from generate_series(1, $2::int)]]

local FILL = [[
insert into webhook_deliveries (tenant, id, webhook_id, event, lane, body)
select 'default', gen_random_uuid(), w.id, 'run.completed', gen_random_uuid(),
  convert_to('{"event":"run.completed","status":"completed","data":"' || repeat('x', 200) || '"}', 'UTF8')
from webhooks w, generate_series(1, $1::int)]]

local DONE = "select coalesce(sum(delivered_count), 0)::int as n from webhooks"

local function receiver()
  local server = assert(http.listen({ host = "127.0.0.1", port = 0 }))
  server:serve(function(_, res) res:send(204, {}) end)
  return server, "http://127.0.0.1:" .. server:port() .. "/hook"
end

-- An outbox that was filled while nobody delivered, emptied by one plane. (yields)
local function drain(report)
  local st = stack.new({ database = true })
  local server, url = receiver()
  local db = assert(pg.open({ conninfo = st.database_url, size = 1 }))
  assert(db:query(ADD_HOOKS, { n = 2, url, HOOKS }))
  assert(db:query(FILL, { n = 1, PER_HOOK }))
  local total, done = HOOKS * PER_HOOK, 0
  local plane = st:serve("plane,runtime")
  local first = assert(db:query(DONE)).rows[1].n
  local began, cpu = sys.mono_ms(), stack.cpu_ms(plane.proc:pid())
  while done < total do
    if sys.mono_ms() - began > GIVE_UP_MS then error(done .. " of " .. total .. " deliveries after a minute") end
    task.sleep(20)
    done = assert(db:query(DONE)).rows[1].n
  end
  local seconds = (sys.mono_ms() - began) / 1000
  local each_us = (stack.cpu_ms(plane.proc:pid()) - cpu) * 1000 / (total - first)
  report:at_least("deliveries to a local receiver", (total - first) / seconds, 2000, "/s", "commit")
  report:note("  CPU of the plane per delivery: %.0f us", each_us)
  plane:kill()
  plane:wait(30000)
  db:close()
  server:close()
  st:close()
end

-- Envelopes per second into a plane with so many webhooks. (yields)
local function observe(hooks, delivers)
  local st, runtime = ingest.prepare(SESSIONS, ENVELOPES)
  local server, url = receiver()
  local db = assert(pg.open({ conninfo = st.database_url, size = 1 }))
  if hooks > 0 then assert(db:query(ADD_HOOKS, { n = 2, url, hooks })) end
  local result = ingest.observe(st, SESSIONS * ENVELOPES, { env = { WEBHOOK_DELIVERY_ENABLED = tostring(delivers) } })
  local counted = assert(db:query([[select (select count(*) from webhook_deliveries) as rows,
    (select count(*) from run_events_canonical) as events]])).rows[1]
  db:close()
  ingest.finish(st, runtime, result)
  server:close()
  return SESSIONS * ENVELOPES / result.seconds, counted
end

return {
  name = "webhooks",
  about = "deliveries of webhooks, and ingest while they are written (" .. SESSIONS .. " x " .. ENVELOPES .. ")",
  run = function(report)
    drain(report)
    local without = observe(0, false)
    local written, counted = observe(2, false)
    local delivered = observe(2, true)
    report:note("  envelopes without webhooks: %.0f/s; %d deliveries for %d events", without, counted.rows,
      counted.events)
    report:at_least("envelopes while deliveries are written, of without", written / without, 0.9, "x")
    report:at_least("envelopes while they are delivered too, of without", delivered / without, 0.75, "x")
  end,
}
