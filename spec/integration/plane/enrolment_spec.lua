-- POST /runs by many at once: runs are inserted together, and each caller gets the answer for its own.

local crypto = require("host.crypto")
local task = require("host.task")

local announced_store = require("macp.store.announced_runs")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("runs that are announced at the same time", function()
  local rig

  setup(function() rig = plane_rig.start() end)
  teardown(function() rig:destroy() end)

  -- Posts all bodies at once: { status, answer } of each. (yields)
  local function post_all(bodies)
    local answers = {}
    assert(task.group(function(group)
      for i, body in ipairs(bodies) do
        group:spawn(function() answers[i] = { rig:post("/runs", body) } end)
      end
    end))
    return answers
  end

  local function with_key(session_id, key)
    return plane_rig.descriptor(session_id, { execution = { idempotencyKey = key } })
  end

  it("share transactions, and every answer is that of a stored run", function()
    local bodies = {}
    for i = 1, 100 do bodies[i] = plane_rig.descriptor(crypto.uuid4()) end
    local answers = post_all(bodies)
    local seen = {}
    for i, answer in ipairs(answers) do
      assert.equal(202, answer[1])
      assert.equal(bodies[i].session.sessionId, answer[2].sessionId)
      assert.is_nil(seen[answer[2].runId])
      seen[answer[2].runId] = true
      assert.equal("run.created", rig:events(answer[2].runId)[1].type)
    end
    local tried = rig.plane.enrolment.transactions
    assert.is_true(tried < 50, "transactions: " .. tried)
  end)

  it("are made once per key and per session, whoever comes first", function()
    local bodies, session_id, other_id = {}, crypto.uuid4(), crypto.uuid4()
    for i = 1, 10 do bodies[i] = with_key(session_id, "same-key") end
    for i = 11, 20 do bodies[i] = plane_rig.descriptor(other_id) end
    local answers = post_all(bodies)
    for i = 1, 10 do
      assert.is_true(answers[i][1] == 202 or answers[i][1] == 200, answers[i][1])
      assert.equal(answers[1][2].runId, answers[i][2].runId)
    end
    local created = 0
    for i = 11, 20 do
      if answers[i][1] == 202 then created = created + 1
      else assert.same({ 409, "SESSION_ALREADY_EXISTS" }, { answers[i][1], answers[i][2].errorCode }) end
    end
    assert.equal(1, created)
  end)

  -- The server fails the first `times` inserts into a table with a SQLSTATE.
  local function refuse(name, sqlstate, times)
    rig:rows("create sequence tries")
    rig:rows(([[create function collide() returns trigger language plpgsql as $f$
      begin
        if nextval('tries') <= %d then raise exception using errcode = '%s', message = 'in the way'; end if;
        return null;
      end $f$]]):format(times, sqlstate))
    rig:rows(("create trigger collide after insert on %s for each statement execute function collide()"):format(name))
  end

  local function relent(name)
    local tries = rig:rows("select last_value as n from tries")[1].n
    rig:rows("drop trigger collide on " .. name)
    rig:rows("drop function collide")
    rig:rows("drop sequence tries")
    return tries
  end

  for name, sqlstate in pairs({ ["a deadlock"] = "40P01", ["a serialization failure"] = "40001" }) do
    it("are stored in smaller transactions after " .. name, function()
      refuse("runs", sqlstate, 2)
      local bodies = {}
      for i = 1, 40 do bodies[i] = plane_rig.descriptor(crypto.uuid4()) end
      local answers, refused = post_all(bodies), 0
      for _, answer in ipairs(answers) do
        if answer[1] == 503 then refused = refused + 1 else assert.equal(202, answer[1]) end
      end
      assert.is_true(refused <= 1, refused) -- the first lot may be a single run, and the second too
      assert.is_true(relent("runs") > 2)
    end)

    it("are refused with 503 when they are alone and meet " .. name, function()
      refuse("runs", sqlstate, 1)
      local body = plane_rig.descriptor(crypto.uuid4())
      local status, problem, headers = rig:post("/runs", body)
      assert.same({ 503, "SERVICE_UNAVAILABLE", "others changed the same at the same time", "2" },
        { status, problem.errorCode, problem.message, headers["retry-after"] })
      assert.equal(202, (rig:post("/runs", body)))
      relent("runs")
    end)

    it("keep all their events when commits meet " .. name, function()
      local id = crypto.uuid4()
      assert.equal(202, (rig:post("/runs", plane_rig.descriptor(id))))
      refuse("run_events_canonical", sqlstate, 3)
      rig:play(id)
      local run = eventually(function()
        local found = rig:rows("select id, status from runs where runtime_session_id = $1", id)[1]
        return found.status == "completed" and found
      end, 20000, "the end")
      assert.is_true(relent("run_events_canonical") > 3)
      local stored = rig:rows([[select seq from run_events_canonical where run_id = $1 union all
        select seq from run_events_raw where run_id = $1 order by seq]], run.id)
      for i, row in ipairs(stored) do assert.equal(i, row.seq) end
    end)
  end

  it("fail alone when they cannot be stored", function()
    rig:rows("alter table runs add constraint poison check (source_ref is distinct from 'poison')")
    local bodies = {}
    for i = 1, 30 do
      bodies[i] = plane_rig.descriptor(crypto.uuid4())
      bodies[i].session.metadata = { sourceRef = i % 10 == 0 and "poison" or "fine" }
    end
    local answers = post_all(bodies)
    for i, answer in ipairs(answers) do assert.equal(i % 10 == 0 and 500 or 202, answer[1]) end
    rig:rows("alter table runs drop constraint poison")
  end)
end)

describe("runs that are announced with keys that others insert in another order", function()
  local rig

  -- A connection looks for a deadlock once, so long after it began to wait: the plane's do so when the other one
  -- waits, too.
  setup(function()
    rig = plane_rig.start({ no_plane = true })
    rig:rows([[do $$ begin
      execute format('alter database %I set deadlock_timeout = %L', current_database(), '3s');
    end $$]])
    rig.plane = rig:start_plane()
  end)
  teardown(function() rig:destroy() end)

  local INSERT = [[
    insert into runs (tenant, id, status, mode, runtime_kind, runtime_session_id, idempotency_key, tags)
    values ('default', gen_random_uuid(), 'queued', 'live', 'rust', gen_random_uuid()::text, $1, '[]')]]

  local function blocked()
    return #rig:rows([[select from pg_stat_activity where wait_event_type = 'Lock' and query like 'with given%'
      and datname = current_database()]]) > 0
  end

  -- Runs fn while each attempt to store is told to `before` and `after`.
  local function with_attempts(before, after, fn)
    local insert = announced_store.insert
    announced_store.insert = function(db, rows)
      before(rows)
      local stored, err = insert(db, rows)
      after(rows, err)
      return stored, err
    end
    local ok, err = pcall(fn)
    announced_store.insert = insert
    if not ok then error(err, 0) end
  end

  it("are stored after a real deadlock, of which they are the victim", function()
    local enrolment, answers, posts = rig.plane.enrolment, {}, {}
    local function post(key)
      posts[#posts + 1] = task.spawn(function()
        answers[key] = rig:post("/runs",
          plane_rig.descriptor(crypto.uuid4(), { execution = { idempotencyKey = key } }))
        return true
      end)
    end
    local before, is_inserted, failures = enrolment.transactions, false, {}
    with_attempts(function(rows)
      -- The half with the key tries again once the other one, which goes on when the lot is the victim, has it.
      if #rows == 1 and rows[1].idempotency_key == "first" then
        eventually(function() return is_inserted end, 20000, "the other's insert")
      end
    end, function(rows, err)
      if err then failures[#failures + 1] = { #rows, err.cause and err.cause.sqlstate } end
    end, function()
      local ok, why = rig.db:tx(function(tx)
        assert(tx:query("set local deadlock_timeout = '1h'"))
        assert(tx:query(INSERT, { "second" }))
        assert(tx:query("savepoint one"))
        assert(tx:query(INSERT, { "zeroth" }))
        post("zeroth") -- its lot waits, so that the next two share one
        eventually(function() return enrolment.transactions == before + 1 and blocked() end, 10000, "the lot before")
        post("first")
        eventually(function() return #enrolment.gather.queue == 1 end, 10000, "one that waits")
        post("second")
        eventually(function() return #enrolment.gather.queue == 2 end, 10000, "two that wait")
        assert(tx:query("rollback to one"))
        eventually(function() return enrolment.transactions == before + 2 and blocked() end, 10000, "the lot of both")
        assert(tx:query(INSERT, { "first" })) -- waits for the lot, which waits for this transaction
        is_inserted = true
        return nil, { code = "ENOUGH", message = "undone" }
      end)
      assert.same({ nil, "ENOUGH" }, { ok, why.code })
      for _, each in ipairs(posts) do assert(each:join()) end
    end)
    assert.same({ zeroth = 202, first = 202, second = 202 }, answers)
    assert.same({ { 2, "40P01" } }, failures)
    assert.equal(before + 4, enrolment.transactions)
  end)
end)
