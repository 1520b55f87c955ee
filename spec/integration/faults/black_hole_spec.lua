-- A network that swallows everything between the plane and PostgreSQL: no packet is answered or refused, so that nobody
-- tells that the other side is gone. Everything is answered in time, and nothing is lost or there twice afterwards.

local crypto = require("host.crypto")
local pg = require("host.pg")
local sys = require("host.sys")
local task = require("host.task")

local eventually = require("spec.support.eventually")
local far_postgres = require("spec.support.far_postgres")
local patience = require("spec.support.patience")
local plane_rig = require("spec.support.plane_rig")

local LIMITS = { DB_STATEMENT_TIMEOUT = "1000", DB_SILENCE_TIMEOUT = "500", DB_POOL_CONNECTION_TIMEOUT = "1000" }
local IN_TIME_MS = 15000 -- ten times what the limits allow

local test = far_postgres.why_not() == nil and it or pending

describe("a network to PostgreSQL that swallows everything", function()
  local far, rig

  local function start()
    far = far_postgres.start()
    sys.setenv("TEST_DATABASE_URL", far:conninfo("postgres"))
  end

  local function stop()
    if rig then rig:destroy() end
    rig = nil
    if far then far:stop() end
    far = nil
  end

  local given
  before_each(function() given = sys.env("TEST_DATABASE_URL") end)
  after_each(function()
    if far then pcall(far.mend, far) end
    stop()
    sys.setenv("TEST_DATABASE_URL", given)
  end)

  local function in_time(began, what)
    assert.is_true(sys.mono_ms() - began < patience(IN_TIME_MS), what .. ": " .. sys.mono_ms() - began .. " ms")
  end

  test("is told by every answer in time, and everything is stored once when it carries again", function()
    start()
    rig = plane_rig.start({ env = LIMITS })
    local id, key = crypto.uuid4(), crypto.uuid4()
    rig:open_session(id)
    rig:await(id, "running", 10000)
    rig:propose(id, "p1")
    far:cut()
    for i = 1, 40 do rig:evaluate(id, i % 2 == 0 and "ann" or "bob", "p1") end
    local body = plane_rig.descriptor(crypto.uuid4(), { execution = { idempotencyKey = key } })
    for _, call in ipairs({ { "GET", "/runs" }, { "GET", "/runs/" .. id .. "/events" }, { "POST", "/runs", body } }) do
      local began = sys.mono_ms()
      local status, problem, headers = rig:request(call[1], call[2], call[3])
      in_time(began, call[1] .. " " .. call[2])
      assert.same({ 503, "SERVICE_UNAVAILABLE", "2" }, { status, problem.errorCode, headers["retry-after"] })
    end
    eventually(function()
      local status, ready = rig:get("/readyz")
      return status == 503 and ready.database == "unhealthy"
    end, 20000, "readyz 503")
    assert.same({ 200, false }, { rig:get("/healthz"), select(2, rig:get("/healthz")).ok })
    far:mend()
    eventually(function() return rig:get("/readyz") == 200 end, 30000, "readyz 200")
    rig:vote(id, "ann", "p1")
    rig:vote(id, "bob", "p1")
    rig:commit(id)
    rig:await(id, "completed", 30000)
    local ordinals = rig:rows([[select ordinal from run_events_raw where run_id = $1 and ordinal is not null
      order by seq]], id)
    assert.equal(1 + 1 + 40 + 2 + 1, #ordinals)
    for i, row in ipairs(ordinals) do assert.equal(i, row.ordinal) end
    local seqs = rig:rows([[select seq from run_events_raw where run_id = $1 union all
      select seq from run_events_canonical where run_id = $1 order by seq]], id)
    for i, row in ipairs(seqs) do assert.equal(i, row.seq) end
    local status, accepted = rig:post("/runs", body)
    assert.is_true(status == 200 or status == 202, status)
    local runs = rig:rows("select id from runs where idempotency_key = $1", key)
    assert.same({ { id = accepted.runId } }, runs)
  end)

  test("costs a connection that is made no more than its time", function()
    start()
    far:cut()
    local pool = assert(pg.open({ conninfo = far:conninfo("postgres"), size = 1, connect_timeout_ms = 500,
      acquire_timeout_ms = 1000 }))
    local began = sys.mono_ms()
    local rows, err = pool:query("select 1")
    in_time(began, "a connection")
    assert.is_nil(rows)
    assert.is_true(err.code == "UNAVAILABLE" or err.code == "TIMEOUT", err.message)
    far:mend()
    eventually(function() return pool:query("select 1") end, 20000, "a connection")
    pool:close()
  end)

  test("leaves open whether a commit that it swallowed is done, and done again it is there once", function()
    start()
    local pool = assert(pg.open({ conninfo = far:conninfo("postgres"), size = 2, connect_timeout_ms = 1000,
      acquire_timeout_ms = 2000, statement_timeout_ms = 400, silence_timeout_ms = 200 }))
    assert(pool:query("create table kept (id int primary key)"))
    local unit = pool:unit()
    unit:add("insert into kept values (1)")
    local slow = pool:unit()
    slow:add("select 1")
    assert(slow:commit_on(1)) -- its connection is there
    far:cut()
    local began = sys.mono_ms()
    local waiting = task.spawn(function()
      local ok, err = unit:commit_on(1)
      return { ok = ok, err = err }
    end)
    local outcome = assert(waiting:join())
    in_time(began, "a commit")
    assert.is_nil(outcome.ok)
    assert.is_true(outcome.err.maybe_done)
    far:mend()
    eventually(function()
      local ok, err = unit:commit_on(1)
      return ok or err.sqlstate == "23505"
    end, 20000, "the commit")
    assert.equal(1, assert(pool:query("select count(*)::int as n from kept")).rows[1].n)
    pool:close()
  end)
end)
