-- The worker that delivers webhooks, on a real database and with real receivers: order, bounds, retries over hours of an
-- injected clock, several workers at once, receivers that hang, redirect, or are gone.

local crypto = require("host.crypto")
local pg = require("host.pg")
local sys = require("host.sys")
local task = require("host.task")

local json = require("macp.core.json")
local metrics = require("macp.telemetry.metrics")
local plane_metrics = require("macp.plane.metrics")
local retry = require("macp.plane.webhooks.retry")
local worker_module = require("macp.plane.webhooks.worker")
local webhooks_store = require("macp.store.webhooks")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")
local receiver = require("spec.support.receiver")

local rig, target, stop_database
local workers, clock_ms

local function hook(changes)
  local id = crypto.uuid4()
  local row = { url = target.url, ordered = false }
  for key, value in pairs(changes or {}) do row[key] = value end
  rig:rows("insert into webhooks (tenant, id, url, secret, ordered) values ($1, $2, $3, 'sixteen letters!', $4)",
    row.tenant or "default", id, row.url, row.ordered)
  return id
end

-- What the ingest does for an event. (yields)
local function announce(run_id, event, n, tenant)
  local unit = rig.db:unit()
  webhooks_store.add_deliveries(unit, tenant or "default", run_id, event,
    json.encode({ event = event, runId = run_id, n = n }), clock_ms)
  assert(unit:commit())
end

local function start_worker(opts)
  local all = { db = rig.db, name = crypto.uuid4(), timeout_ms = 1000, concurrency = 4, total = 64,
    allow_private = true, allow_hosts = {}, now_ms = function() return clock_ms end,
    metrics = plane_metrics.new(metrics.new()).webhooks }
  for key, value in pairs(opts or {}) do all[key] = value end
  local worker = worker_module.new(all)
  worker.task = task.spawn(worker.work, worker)
  workers[#workers + 1] = worker
  return worker
end

local function advance(ms)
  clock_ms = clock_ms + ms
  for _, worker in ipairs(workers) do worker:wake() end
end

local function count(status)
  return rig:rows("select count(*) as n from webhook_deliveries where status = $1", status)[1].n
end

local function await_count(status, n, timeout_ms)
  eventually(function()
    local found = count(status)
    if found == n then return true end
    return nil, found
  end, timeout_ms or 10000, n .. " " .. status)
end

setup(function()
  stop_database = plane_rig.share_database()
  rig = plane_rig.start({ env = { WEBHOOK_DELIVERY_ENABLED = "false" } })
  rig.db:close()
  rig.db = assert(pg.open({ conninfo = rig.url, size = 4 }))
end)

teardown(function()
  rig:destroy()
  stop_database()
end)

before_each(function()
  workers, clock_ms = {}, sys.now_ms()
  target = receiver.start()
end)

after_each(function()
  for _, worker in ipairs(workers) do
    worker:drain(2000)
    worker.task:join()
  end
  rig:rows("delete from webhooks")
  rig:rows("delete from webhook_deliveries")
  target:close()
end)

describe("the webhook worker", function()
  it("P32: keeps the events of a run in order, whatever fails meanwhile", function()
    hook()
    local runs = {}
    for i = 1, 5 do runs[i] = crypto.uuid4() end
    target.answer = function(request) return math.random() < 0.3 and 503 or 200, {}, request.value.n .. "" end
    for n = 1, 6 do
      for _, run_id in ipairs(runs) do announce(run_id, "run.started", n) end
    end
    start_worker()
    eventually(function()
      advance(4400000)
      task.sleep(20)
      return count("delivered") == 30
    end, 20000, "all delivered")
    local last, seen = {}, {}
    for _, request in ipairs(target.requests) do
      local run_id, n = request.value.runId, request.value.n
      assert.is_true(n == (last[run_id] or 0) or n == (last[run_id] or 0) + 1, "out of order")
      last[run_id], seen[request.headers["x-macp-delivery"]] = n, true
    end
    local distinct = 0
    for _ in pairs(seen) do distinct = distinct + 1 end
    assert.equal(30, distinct)
  end)

  it("delivers one after the other to a webhook that asks for it", function()
    hook({ ordered = true })
    target.answer = function()
      task.sleep(5)
      return 200
    end
    for n = 1, 20 do announce(crypto.uuid4(), "run.completed", n) end
    start_worker()
    start_worker()
    await_count("delivered", 20)
    for n = 1, 20 do assert.equal(n, target.requests[n].value.n) end
    assert.equal(1, target.most)
  end)

  it("P32: attempts at most so many at once per webhook", function()
    hook()
    target.answer = function()
      task.sleep(20)
      return 204
    end
    for n = 1, 40 do announce(crypto.uuid4(), "run.completed", n) end
    start_worker()
    await_count("delivered", 40)
    assert.equal(4, target.most)
    assert.equal(40, #target.requests)
  end)

  it("P32: attempts at most so many at once in total, over all webhooks", function()
    target.answer = function()
      task.sleep(20)
      return 204
    end
    for _ = 1, 5 do hook() end
    for n = 1, 8 do announce(crypto.uuid4(), "run.completed", n) end
    start_worker({ total = 6 })
    await_count("delivered", 40)
    assert.equal(6, target.most)
  end)

  it("shares the rows with other workers: each is delivered once", function()
    hook()
    for n = 1, 200 do announce(crypto.uuid4(), "run.completed", n) end
    for _ = 1, 3 do start_worker() end
    await_count("delivered", 200)
    assert.equal(200, #target.requests)
    local rows = rig:rows("select max(attempts) as most, count(claimed_by) as claims from webhook_deliveries")
    assert.same({ 1, 0 }, { rows[1].most, rows[1].claims })
    assert.equal(200, rig:rows("select delivered_count as n from webhooks")[1].n)
  end)

  it("serves every tenant, each with its own webhooks", function()
    hook()
    hook({ tenant = "other" })
    announce(crypto.uuid4(), "run.completed", 1)
    announce(crypto.uuid4(), "run.completed", 2, "other")
    start_worker()
    await_count("delivered", 2)
    assert.equal(2, #target.requests)
  end)

  it("P32: tries again for hours on its schedule, then gives up and says why", function()
    local id = hook()
    target.answer = function(_, n) return 500, {}, "broken " .. n end
    announce(crypto.uuid4(), "run.failed", 1)
    start_worker()
    for n = 1, retry.ATTEMPTS do
      target:await(n)
      eventually(function() return rig:rows("select attempts from webhook_deliveries")[1].attempts == n end)
      local row = rig:rows("select status, next_attempt_at from webhook_deliveries")[1]
      local delay = retry.DELAYS_MS[n]
      if delay then
        assert.equal("pending", row.status)
        local wait = row.next_attempt_at - clock_ms
        assert.is_true(wait >= delay * 0.8 - 1 and wait <= delay * 1.2 + 1, n .. ": " .. wait)
        advance(math.floor(wait) - 2)
        task.sleep(30)
        assert.equal(n, #target.requests) -- not before its time
        advance(3)
      else
        assert.equal("failed", row.status)
      end
    end
    assert.equal(7, #target.requests)
    local row = rig:rows("select response_status, error_message, attempt_log::text as log from webhook_deliveries")[1]
    assert.same({ 500, "webhook returned 500" }, { row.response_status, row.error_message })
    local log = json.decode(row.log)
    assert.same({ 7, "broken 1", "broken 7" }, { #log, log[1].response, log[7].response })
    assert.equal(1, rig:rows("select failed_count as n from webhooks where id = $1", id)[1].n)
  end)

  it("waits as long as the receiver asks for", function()
    hook()
    target.answer = function(_, n) return n == 1 and 429 or 200, { ["retry-after"] = "90" } end
    announce(crypto.uuid4(), "run.completed", 1)
    start_worker()
    eventually(function() return rig:rows("select attempts from webhook_deliveries")[1].attempts == 1 end)
    local row = rig:rows("select next_attempt_at from webhook_deliveries")[1]
    assert.is_true(math.abs(row.next_attempt_at - clock_ms - 90000) < 2)
    advance(90001)
    await_count("delivered", 1)
  end)

  it("switches a webhook off whose receiver is gone", function()
    local id = hook()
    target.answer = function() return 410 end
    announce(crypto.uuid4(), "run.completed", 1)
    start_worker()
    await_count("failed", 1)
    local row = rig:rows("select active, disabled_reason from webhooks where id = $1", id)[1]
    assert.same({ false, "the receiver answered 410" }, { row.active, row.disabled_reason })
    announce(crypto.uuid4(), "run.completed", 2)
    assert.equal(0, count("pending"))
  end)

  it("P31: follows no redirect", function()
    hook()
    local private = receiver.start()
    target.answer = function() return 302, { location = private.url } end
    announce(crypto.uuid4(), "run.completed", 1)
    start_worker()
    target:await(1)
    eventually(function()
      return rig:rows("select error_message as e from webhook_deliveries")[1].e == "webhook returned 302"
    end)
    assert.equal(0, #private.requests)
    private:close()
  end)

  it("P31: does not connect to a name that leads to a closed address", function()
    hook({ url = "http://localhost:" .. target.port .. "/" })
    announce(crypto.uuid4(), "run.completed", 1)
    start_worker({ allow_private = false })
    eventually(function()
      local row = rig:rows("select error_message as e from webhook_deliveries")[1]
      return row.e and row.e:find("is not public", 1, true)
    end)
    assert.equal(0, #target.requests)
    start_worker({ allow_private = false, allow_hosts = { "localhost" } })
    workers[1]:drain(100)
    advance(1500)
    await_count("delivered", 1)
  end)

  it("lets receivers that hang or refuse disturb nobody else", function()
    local hanging = receiver.start(function(_, _, res)
      while not res:closed() do task.sleep(20) end
    end)
    hook({ url = hanging.url })
    hook({ url = "http://127.0.0.1:1/" })
    hook()
    for n = 1, 100 do announce(crypto.uuid4(), "run.completed", n) end
    start_worker({ timeout_ms = 2000 })
    await_count("delivered", 100, 5000)
    assert.is_true(hanging.most <= 8, hanging.most) -- four at a time, and some that have not seen their end yet
    eventually(function()
      return rig:rows("select count(*) as n from webhook_deliveries where error_message ilike '%timed out%' or "
        .. "error_message ilike '%in time%'")[1].n >= 1
    end)
    hanging:close()
  end)

  it("takes the status of a reply whose body never ends", function()
    hook()
    target.answer = function(_, _, res)
      res:start(200, { ["content-type"] = "text/plain" })
      while not res:closed() do
        if not res:write(("x"):rep(65536)) then break end
      end
    end
    announce(crypto.uuid4(), "run.completed", 1)
    start_worker()
    await_count("delivered", 1)
    local log = json.decode(rig:rows("select attempt_log::text as log from webhook_deliveries")[1].log)
    assert.equal(512, #log[1].response)
  end)

  it("P32: delivers what a killed process had claimed, once its claim ends", function()
    local id = hook()
    rig:rows([[insert into webhook_deliveries (tenant, id, webhook_id, event, body, claimed_by, next_attempt_at)
      values ('default', gen_random_uuid(), $1, 'run.failed', '{"n":1}', 'dead', $2)]], id, pg.ts(clock_ms + 25000))
    start_worker()
    task.sleep(100)
    assert.equal(0, #target.requests)
    advance(25001)
    await_count("delivered", 1)
  end)

  it("gives back what it has not attempted when it ends", function()
    hook()
    local release = false
    target.answer = function()
      while not release do task.sleep(5) end
      return 200
    end
    for n = 1, 10 do announce(crypto.uuid4(), "run.completed", n) end
    local worker = start_worker()
    target:await(4)
    release = true
    worker:drain(2000)
    local row = rig:rows([[select count(claimed_by) as claims, count(*) filter (where status = 'delivered') as done
      from webhook_deliveries]])[1]
    assert.equal(0, row.claims)
    assert.is_true(row.done >= 4)
    release = true
    start_worker()
    await_count("delivered", 10)
    assert.equal(10, #target.requests)
  end)

  it("P8: goes on when what came of a delivery cannot be noted, and delivers that again", function()
    hook()
    rig:rows("create sequence notes")
    rig:rows([[create function refuse_note() returns trigger language plpgsql as $f$
      begin
        if nextval('notes') <= 2 then raise exception using errcode = '53300', message = 'too many connections'; end if;
        return new;
      end $f$]])
    rig:rows([[create trigger refuse_note before update on webhook_deliveries for each row
      when (new.status = 'delivered') execute function refuse_note()]])
    local worker = start_worker()
    announce(crypto.uuid4(), "run.completed", 1)
    worker:wake()
    await_count("delivered", 1, 20000)
    assert.is_true(rig:rows("select last_value as n from notes")[1].n > 2) -- it was refused twice before
    assert.is_true(worker.is_working)
    announce(crypto.uuid4(), "run.completed", 2)
    worker:wake()
    await_count("delivered", 2)
    rig:rows("drop trigger refuse_note on webhook_deliveries")
    rig:rows("drop function refuse_note")
    rig:rows("drop sequence notes")
  end)

  it("P8: goes on when the database was away", function()
    hook()
    start_worker()
    task.sleep(30)
    rig:rows("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
      .. "and pid <> pg_backend_pid()")
    eventually(function() return (pcall(announce, crypto.uuid4(), "run.completed", 1)) end)
    advance(0)
    await_count("delivered", 1)
  end)
end)
