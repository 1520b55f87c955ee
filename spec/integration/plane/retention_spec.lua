-- Retention and what it leaves: what is old goes, in short steps, done by one process; what was deleted stays away.

local crypto = require("host.crypto")
local fetch = require("host.fetch")
local sys = require("host.sys")
local task = require("host.task")

local json = require("macp.core.json")
local metrics = require("macp.telemetry.metrics")
local time = require("macp.core.time")
local plane_metrics = require("macp.plane.metrics")
local retention = require("macp.plane.retention")

local deletions_store = require("macp.store.deletions")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")
local program = require("spec.support.program")

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

-- n runs that ended so many days ago, each with so many events, half of them raw. Returns their ids.
local function insert_runs(rig, n, days, fields)
  fields = fields or {}
  local events = fields.events or 4
  local rows = rig:rows([[insert into runs (tenant, id, status, mode, runtime_kind, runtime_session_id, last_event_seq,
      tags, started_at, ended_at, idempotency_key)
    select $5, gen_random_uuid(), $3, 'live', 'rust', gen_random_uuid()::text, $4, $6::jsonb, now(),
      case when $3 in ('completed', 'failed', 'cancelled') then now() - $2::int * interval '1 day' end, $7
    from generate_series(1, $1::int) returning id, runtime_session_id]],
    n, days, fields.status or "completed", events, fields.tenant or "default", fields.tags or "[]", fields.key)
  for _, name in ipairs({ "canonical", "raw" }) do
    rig:rows(([[insert into run_events_%s (tenant, run_id, seq, ts, %s)
      select r.tenant, r.id, i * 2 - %d, now(), %s from runs r cross join generate_series(1, $1::int) i
      where r.last_event_seq = $1 * 2 and not exists (select from run_events_%s e where e.tenant = r.tenant
        and e.run_id = r.id)]]):format(name, name == "raw" and "kind" or "type, document", name == "raw" and 1 or 0,
      name == "raw" and "'stream-envelope'" or "'message.received', '{}'", name), events / 2)
  end
  return rows
end

local function count(rig, from, ...) return rig:rows("select count(*)::int as n from " .. from, ...)[1].n end

local function keeper(rig, changes)
  local opts = { db = rig.db, url = rig.url, enabled = true, ttl_days = 30, interval_hours = 24, batch_size = 500 }
  for name, value in pairs(changes or {}) do opts[name] = value end
  return retention.new(opts)
end

-- Its own passes, which take the lock for a moment, do not come between those of the specs.
local function quiet(plane)
  plane.retention.pass = function() return false end
  return plane
end

describe("retention", function()
  local rig

  setup(function()
    rig = plane_rig.start({ env = { RUN_RECOVERY_ENABLED = "false" } })
    quiet(rig.plane)
  end)
  teardown(function() rig:destroy() end)
  before_each(function()
    rig:rows("delete from runs")
    for _, name in ipairs({ "run_events_raw", "run_events_canonical", "deleted_runs", "audit_log", "webhooks" }) do
      rig:rows("delete from " .. name)
    end
  end)

  it("deletes runs that ended long ago with all that belongs to them, of every tenant", function()
    insert_runs(rig, 3, 31)
    insert_runs(rig, 2, 40, { status = "failed", tenant = "other" })
    insert_runs(rig, 2, 29)
    insert_runs(rig, 1, 90, { tags = '["x","retain"]' })
    insert_runs(rig, 1, 90, { status = "running" })
    local counts = assert(keeper(rig):pass())
    assert.same({ 5, 20 }, { counts.runs, counts.events })
    assert.same({ 4, 5 }, { count(rig, "runs"), count(rig, "deleted_runs where is_purged") })
    assert.same({ 8, 8 }, { count(rig, "run_events_raw"), count(rig, "run_events_canonical") })
    assert.same({ 0, 0 }, { count(rig, "run_events_raw e where not exists (select from runs r where r.id = e.run_id)"),
      count(rig, "runs where ended_at < now() - interval '30 days' and not tags ? 'retain'") })
  end)

  it("deletes old audit entries and deliveries, but none that is still to be delivered", function()
    rig:rows([[insert into audit_log (tenant, id, actor, actor_type, action, resource, created_at)
      select 'default', gen_random_uuid(), 'a', 'api-key', 'x.y', 'x', now() - i * interval '1 day'
      from generate_series(1, 40) i]])
    rig:rows([[insert into webhooks (tenant, id, url, secret) values ('default', $1, 'http://x/', 's')]],
      crypto.uuid4())
    rig:rows([[insert into webhook_deliveries (tenant, id, webhook_id, event, body, status, created_at)
      select 'default', gen_random_uuid(), w.id, 'run.started', 'x',
        (array['pending', 'delivered', 'failed'])[1 + i % 3], now() - interval '31 days'
      from webhooks w cross join generate_series(1, 30) i]])
    local counts = assert(keeper(rig, { batch_size = 4 }):pass())
    assert.same({ 11, 20 }, { counts.audit, counts.deliveries })
    assert.same({ 29, 10 }, { count(rig, "audit_log"), count(rig, "webhook_deliveries where status = 'pending'") })
    assert.equal(10, count(rig, "webhook_deliveries"))
  end)

  it("works in small transactions with pauses, and counts", function()
    insert_runs(rig, 7, 31)
    local registry = metrics.new()
    local began = sys.mono_ms()
    local counts = assert(keeper(rig, { batch_size = 2, metrics = plane_metrics.new(registry).retention }):pass())
    assert.equal(7, counts.runs)
    assert.is_true(sys.mono_ms() - began >= 4 * 50)
    -- Rows of one batch have one time: that of their transaction.
    assert.equal(4, count(rig, "(select distinct deleted_at from deleted_runs) t"))
    local text = registry:render()
    assert.truthy(text:find('macp_retention_deleted_total{kind="runs"} 7', 1, true), text)
    assert.truthy(text:find('macp_retention_deleted_total{kind="events"} 28', 1, true))
  end)

  it("takes a run of many events away at once and clears them away in pieces", function()
    local run = insert_runs(rig, 1, 31, { events = deletions_store.AT_ONCE + 12000 })[1]
    insert_runs(rig, 1, 31)
    local events = count(rig, "run_events_canonical")
    local status, page = rig:get("/events?exactTotal=true&limit=1")
    assert.same({ 200, events }, { status, page.total })
    rig.plane.retention.wake = function() end -- this one shall do it
    assert.equal(204, (rig:request("DELETE", "/runs/" .. run.id)))
    assert.equal(404, (rig:get("/runs/" .. run.id)))
    assert.equal(events, count(rig, "run_events_canonical")) -- they are there, but nobody sees them
    assert.equal(2, select(2, rig:get("/events?exactTotal=true&limit=1")).total)
    rig.plane.retention.wake = nil
    rig.plane.retention:wake()
    eventually(function() return count(rig, "run_events_raw") + count(rig, "run_events_canonical") == 4 end, 60000,
      "cleared away")
    eventually(function() return count(rig, "deleted_runs where is_purged") == 1 end, 10000, "noted")
  end)

  it("P24: is done by one process, and a second one leaves it alone", function()
    insert_runs(rig, 20, 31)
    local results = {}
    local tasks = {}
    for i = 1, 2 do
      tasks[i] = task.spawn(function() results[i] = keeper(rig, { batch_size = 2 }):pass() end)
    end
    for _, running in ipairs(tasks) do running:join() end
    local done = results[1] or results[2]
    assert.is_true(results[1] == false or results[2] == false)
    assert.same({ 20, 0 }, { done.runs, count(rig, "runs") })
    assert.is_table(keeper(rig):pass()) -- the lock went with its connection
  end)

  it("P24: stops when the connection that holds its lock is lost, with whole runs either there or gone", function()
    insert_runs(rig, 40, 31)
    local result, err
    local running = task.spawn(function() result, err = keeper(rig, { batch_size = 2 }):pass() end)
    eventually(function() return count(rig, "runs") < 36 end, 20000, "some are gone")
    rig:rows("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'macp retention' "
      .. "and datname = current_database()")
    running:join()
    assert.is_nil(result)
    assert.is_table(err)
    local left = count(rig, "runs")
    assert.is_true(left > 0 and left < 36)
    assert.same({ left * 2, left * 2 }, { count(rig, "run_events_raw"), count(rig, "run_events_canonical") })
    assert.equal(left, assert(keeper(rig):pass()).runs)
    assert.same({ 0, 40 }, { count(rig, "run_events_raw"), count(rig, "deleted_runs") })
  end)

  it("goes on where a process that was killed left off", function()
    insert_runs(rig, 60, 31)
    insert_runs(rig, 1, 31, { events = deletions_store.AT_ONCE + 2000 })
    local script = os.tmpname()
    local file = assert(io.open(script, "w"))
    file:write(([[
local pg, url = require("host.pg"), %q
local db = assert(pg.open({ conninfo = url, size = 1 }))
assert(require("macp.plane.retention").new({ db = db, url = url, enabled = true, ttl_days = 30, interval_hours = 24,
  batch_size = 1 }):pass())
]]):format(rig.url))
    file:close()
    local child = program.start({ args = { "run", script } })
    eventually(function() return count(rig, "runs") < 58 end, 30000, "some are gone")
    child:kill()
    child:wait(10000)
    os.remove(script)
    local left = count(rig, "runs")
    assert.is_true(left > 0 and left < 58, left)
    assert.equal(left, assert(keeper(rig):pass()).runs)
    assert.same({ 0, 0, 61 }, { count(rig, "run_events_raw"), count(rig, "run_events_canonical"),
      count(rig, "deleted_runs where is_purged") })
  end)

  it("keeps runs as long as their status says, whatever else is between them", function()
    for _, status in ipairs({ "completed", "failed", "cancelled" }) do
      for _, days in ipairs({ 5, 20, 50 }) do insert_runs(rig, 3, days, { status = status }) end
    end
    insert_runs(rig, 5, 60, { tags = '["retain"]' })
    local subject = keeper(rig, { ttl_days = 40, run_days = { failed = 10, cancelled = 3 }, batch_size = 2 })
    local due = assert(subject:forecast())
    assert.same({ completed = 3, failed = 6, cancelled = 9 }, due.runs)
    assert.same({ 72, true }, { due.events, due.is_exact })
    assert.equal(18, assert(subject:pass()).runs)
    local left = {}
    for _, row in ipairs(rig:rows([[select status, round(extract(epoch from now() - ended_at) / 86400)::int as days,
      count(*)::int as n from runs group by 1, 2 order by 1, 2]])) do
      left[#left + 1] = row.status .. " " .. row.days .. " " .. row.n
    end
    assert.same({ "completed 5 3", "completed 20 3", "completed 60 5", "failed 5 3" }, left)
  end)

  it("tells what it would delete, and deletes nothing by telling", function()
    local plane = quiet(rig:start_plane({ DATA_RETENTION_TTL_DAYS = "30", DATA_RETENTION_FAILED_DAYS = "7" }))
    insert_runs(rig, 2, 31)
    insert_runs(rig, 3, 8, { status = "failed", tenant = "other" })
    insert_runs(rig, 4, 8)
    rig:rows([[insert into audit_log (tenant, id, actor, actor_type, action, resource, created_at)
      values ('default', gen_random_uuid(), 'a', 'api-key', 'x.y', 'x', now() - interval '31 days')]])
    local reply = assert(fetch.request({ url = plane.url .. "/admin/retention" }))
    local told = json.decode(tostring(reply.body))
    plane:close()
    local oldest = told.wouldDelete.oldestRunEndedAt
    told.wouldDelete.oldestRunEndedAt = nil
    assert.equal(31, math.floor((sys.now_ms() - time.parse_iso(oldest)) / 86400000 + 0.5))
    assert.same({ enabled = false, days = 30, runDays = { completed = 30, failed = 7, cancelled = 30 },
      lastPass = json.null, wouldDelete = { runs = { completed = 2, failed = 3, cancelled = 0 }, events = 20,
        auditEntries = 1, deliveries = 0, isExact = true } }, told)
    assert.equal(9, count(rig, "runs"))
  end)

  it("leaves everything alone unless it is wanted", function()
    insert_runs(rig, 2, 400)
    local counts = assert(keeper(rig, { enabled = false }):pass())
    assert.same({ 0, 2 }, { counts.runs, count(rig, "runs") })
  end)

  it("finds what is old by indexes", function()
    insert_runs(rig, 3000, 31, { events = 0 })
    rig:rows("update runs set ended_at = ended_at - random() * interval '10 days'")
    rig:rows("analyze runs")
    local function plan(text)
      local lines = {}
      assert(rig.db:tx(function(tx)
        assert(tx:query("set local enable_seqscan = off"))
        for i, row in ipairs(assert(tx:query("explain " .. text)).rows) do lines[i] = row["QUERY PLAN"] end
        return true
      end))
      return table.concat(lines, "\n")
    end
    for name, text in pairs({
      runs_ended_at_status_idx = "select id from runs where tenant = 'default' and ended_at < now() "
        .. "order by ended_at, id limit 5",
      webhook_deliveries_created_at_idx = "select id from webhook_deliveries where tenant = 'default' and "
        .. "created_at < now() and status <> 'pending' order by created_at limit 5",
      audit_log_created_at_idx = "select id from audit_log where tenant = 'default' and created_at < now() "
        .. "order by created_at limit 5",
      deleted_runs_seen_at_idx = "select id from deleted_runs where tenant = 'default' and seen_at < now() "
        .. "and is_purged order by seen_at limit 5",
    }) do
      assert.truthy(plan(text):find(name, 1, true), plan(text))
    end
  end)
end)

describe("a deleted run", function()
  local rig

  setup(function()
    rig = plane_rig.start()
    quiet(rig.plane)
  end)
  teardown(function() rig:destroy() end)

  -- A discovered run that has ended.
  local function discovered()
    local session_id = crypto.uuid4()
    rig:play(session_id)
    rig:await(session_id, "completed", 20000)
    return session_id
  end

  local function restart()
    rig.plane:close()
    rig.plane = quiet(rig:start_plane())
  end

  -- Everything the runtime has to tell has been told: a session that is opened now is known.
  local function settle()
    local session_id = crypto.uuid4()
    rig:open_session(session_id)
    eventually(function() return rig:get("/runs/" .. session_id) == 200 end, 20000, "a new session")
  end

  it("does not come back when the runtime tells about its session again", function()
    local run_id, other = discovered(), discovered()
    assert.equal(204, (rig:request("DELETE", "/runs/" .. run_id)))
    restart()
    settle()
    local status, problem = rig:get("/runs/" .. run_id)
    assert.same({ 404, "RUN_NOT_FOUND" }, { status, problem.errorCode })
    for _, path in ipairs({ "/state", "/events", "/metrics", "/export", "/stream", "/replay/state" }) do
      assert.equal(404, (rig:get("/runs/" .. run_id .. path)), path)
    end
    assert.equal(200, (rig:get("/runs/" .. other)))
    assert.equal(0, count(rig, "runs where id = $1", run_id))
    assert.equal(0, count(rig, "run_events_canonical where run_id = $1", run_id))
  end)

  it("does not come back by a deletion that is committed while its session is told about", function()
    local session_id = discovered()
    local runs_store = require("macp.store.runs")
    local row = { tenant = "default", id = session_id, mode = "live", runtime_kind = "rust", tags = "[]",
      metadata = "{}", runtime_session_id = session_id, created_ms = sys.now_ms() }
    local inserted
    local adding
    assert(rig.db:tx(function(tx)
      assert(deletions_store.delete(tx, "default", { session_id }))
      adding = task.spawn(function() inserted = runs_store.insert_found(rig.plane.db, row) end)
      eventually(function() -- it waits for this transaction, having seen no deleted run
        return count(rig, "pg_stat_activity where wait_event_type = 'Lock' and query like 'insert into runs%'") > 0
      end, 20000, "a wait")
      return true
    end))
    adding:join()
    assert.is_false(inserted)
    assert.equal(0, count(rig, "runs where id = $1", session_id))
  end)

  it("does not come back by a repeated request with its idempotency key", function()
    local key, body = crypto.uuid4(), plane_rig.descriptor(crypto.uuid4())
    body.execution = { idempotencyKey = key }
    local run_id = select(2, rig:post("/runs", body)).runId
    rig:play(body.session.sessionId)
    rig:await(run_id, "completed", 20000)
    assert.equal(200, (rig:post("/runs", body)))
    assert.equal(204, (rig:request("DELETE", "/runs/" .. run_id)))
    local status, problem = rig:post("/runs", body)
    assert.same({ 409, "CONFLICT", "the run of this idempotency key was deleted", run_id },
      { status, problem.errorCode, problem.message, problem.metadata.runId })
    assert.equal(0, count(rig, "runs where runtime_session_id = $1", body.session.sessionId))
  end)

  it("does not come back by a deletion that is committed while its key is used again", function()
    local key, body = crypto.uuid4(), plane_rig.descriptor(crypto.uuid4())
    body.execution = { idempotencyKey = key }
    local run_id = select(2, rig:post("/runs", body)).runId
    rig:play(body.session.sessionId)
    rig:await(run_id, "completed", 20000)
    local status, problem, repeating
    assert(rig.db:tx(function(tx)
      assert(deletions_store.delete(tx, "default", { run_id }))
      repeating = task.spawn(function() status, problem = rig:post("/runs", body) end)
      eventually(function()
        return count(rig, "pg_stat_activity where wait_event_type = 'Lock' and query like '%insert into runs%'") > 0
      end, 20000, "a wait")
      return true
    end))
    repeating:join()
    assert.same({ 409, "CONFLICT", "the run of this idempotency key was deleted", run_id },
      { status, problem.errorCode, problem.message, problem.metadata.runId })
    assert.equal(0, count(rig, "runs where idempotency_key = $1", key))
  end)

  it("makes way for a run of the same session that is asked for", function()
    local session_id = discovered()
    assert.equal(204, (rig:request("DELETE", "/runs/" .. session_id)))
    local status, accepted = rig:post("/runs", plane_rig.descriptor(session_id))
    assert.equal(202, status)
    assert.are_not.equal(session_id, accepted.runId)
    rig:await(accepted.runId, "completed", 20000)
    restart()
    settle()
    assert.equal(200, (rig:get("/runs/" .. accepted.runId)))
    assert.equal(404, (rig:get("/runs/" .. session_id)))
  end)

  it("is forgotten once the runtime no longer tells about its session", function()
    local kept, gone = discovered(), crypto.uuid4()
    assert.equal(204, (rig:request("DELETE", "/runs/" .. kept)))
    rig:rows([[insert into deleted_runs (tenant, id, runtime_session_id, is_purged)
      values ('default', gen_random_uuid(), $1, true)]], gone)
    rig:rows("update deleted_runs set seen_at = now() - interval '31 days'")
    local silent = { each_session = function() return nil, { code = "RUNTIME_UNAVAILABLE", message = "away" } end }
    assert.equal(0, assert(keeper(rig, { client = silent }):pass()).tombstones)
    local counts = assert(keeper(rig, { client = rig.plane.client }):pass())
    assert.is_true(counts.tombstones >= 1)
    assert.same({ 1, 0 }, { count(rig, "deleted_runs where runtime_session_id = $1", kept),
      count(rig, "deleted_runs where runtime_session_id = $1", gone) })
  end)
end)
