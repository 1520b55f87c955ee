-- What must survive: a plane that stops in the middle, connections that die, envelopes that cannot be stored.

local crypto = require("host.crypto")
local task = require("host.task")

local json = require("macp.core.json")

local projection = require("macp.plane.projection.state")

local agreement = require("spec.support.agreement")
local event_lists = require("spec.support.event_lists")
local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")

-- Every envelope of the runtime is there once and in order, numbers have no gap, the projection is their fold.
local function check_history(rig, run_id, envelopes)
  local raw = rig:rows([[select ordinal from run_events_raw where tenant = 'default' and run_id = $1
    and ordinal is not null order by seq]], run_id)
  assert.equal(envelopes, #raw)
  for i, row in ipairs(raw) do assert.equal(i, row.ordinal) end
  local all = rig:rows([[select seq from run_events_raw where tenant = 'default' and run_id = $1
    union all select seq from run_events_canonical where tenant = 'default' and run_id = $1 order by 1]], run_id)
  for i, row in ipairs(all) do assert.equal(i, row.seq) end
  local events = rig:events(run_id)
  local _, state = rig:get("/runs/" .. run_id .. "/state")
  assert.equal(agreement.fold(run_id, events), agreement.host_part(state))
  return events, state
end

local stop_database, cluster

setup(function() stop_database, cluster = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("a plane that is started again", function()
  local rig

  before_each(function() rig = plane_rig.start() end)
  after_each(function() rig:destroy() end)

  it("P4: goes on where the stored history ends", function()
    local id = crypto.uuid4()
    rig:open_session(id)
    rig:await(id, "running")
    rig:propose(id, "p1")
    for i = 1, 120 do rig:evaluate(id, i % 2 == 0 and "ann" or "bob", "p1") end
    rig.plane:close()
    rig:vote(id, "ann", "p1") -- while nobody watches
    rig.plane = rig:start_plane()
    rig:vote(id, "bob", "p1")
    rig:commit(id)
    rig:await(id, "completed")
    local events, state = check_history(rig, id, 1 + 1 + 120 + 2 + 1)
    assert.equal(2, state.policy.voteTally[1].allow)
    assert.is_false(state.mode.degraded)
    local recovered = 0
    for _, event in ipairs(events) do
      if event.type == "session.stream.opened" and event.data.status == "recovered" then recovered = recovered + 1 end
    end
    assert.equal(1, recovered)
  end)

  it("takes the runs of a process that died without a word", function()
    local id = crypto.uuid4()
    rig:open_session(id)
    rig:await(id, "running")
    rig:propose(id, "p1")
    eventually(function() return #rig:events(id) >= 8 end)
    -- What is left of a killed process: its lease, unexpired, and no connection.
    rig.plane:close()
    rig:rows("update runs set lease_owner = 'macp-gone' where id = $1", id)
    rig:rows([[insert into plane_leases (tenant, owner, visible, expires_at)
      values ('default', 'macp-gone', true, now() + interval '1 hour'),
        ('default', 'macp-forgotten', true, now() - interval '2 days')]])
    rig.plane = rig:start_plane()
    assert.same({}, rig:rows("select owner from plane_leases where owner = 'macp-forgotten'"))
    rig:vote(id, "ann", "p1")
    rig:commit(id)
    rig:await(id, "completed")
    check_history(rig, id, 4)
  end)

  it("P24: leaves the runs of a living process alone", function()
    local id = crypto.uuid4()
    rig:open_session(id)
    rig:await(id, "running")
    local first = rig.plane
    local second = rig:start_plane()
    rig:propose(id, "p1")
    rig:vote(id, "ann", "p1")
    task.sleep(50)
    assert.is_nil(second.owner:get("default", id))
    -- ... but shows them and streams them.
    rig.plane = second
    local stream = rig:stream("/runs/" .. id .. "/stream?afterSeq=0")
    rig:commit(id)
    stream:read_all()
    rig:await(id, "completed")
    assert.same(event_lists.seqs(rig:events(id)), stream:seqs())
    rig.plane = first
    second:close()
    check_history(rig, id, 4)
  end)

  it("waits on for the session of a queued run", function()
    local id = crypto.uuid4()
    local _, accepted = rig:post("/runs", plane_rig.descriptor(id))
    rig.plane:close()
    rig.plane = rig:start_plane()
    rig:play(id)
    rig:await(accepted.runId, "completed")
    check_history(rig, accepted.runId, 5)
  end)

  it("gives back a run that it cannot load, and takes it when that has been mended", function()
    local id = crypto.uuid4()
    rig:open_session(id)
    rig:await(id, "running")
    rig:propose(id, "p1")
    eventually(function() return #rig:events(id) >= 10 end)
    rig.plane:close()
    local spoilt = rig:rows([[select seq, document from run_events_canonical where run_id = $1
      order by seq desc limit 1]], id)[1]
    rig:rows("delete from run_projections where run_id = $1", id)
    rig:rows("update run_events_canonical set document = 'broken' where run_id = $1 and seq = $2", id, spoilt.seq)
    rig.plane = rig:start_plane()
    eventually(function()
      return rig:rows("select lease_owner from runs where id = $1", id)[1].lease_owner == nil
    end)
    rig:rows("update run_events_canonical set document = $2 where run_id = $1 and seq = $3", id, spoilt.document,
      spoilt.seq)
    eventually(function() return rig.plane.owner:get("default", id) or rig.plane.recovery:run() and nil end)
    rig:commit(id)
    rig:await(id, "completed")
    check_history(rig, id, 3)
  end)

  it("rebuilds a stored projection that is missing or of another version", function()
    local id = crypto.uuid4()
    rig:play(id)
    rig:await(id, "completed")
    local _, before = rig:get("/runs/" .. id .. "/state")
    rig:rows("update run_projections set schema_version = 1, document = '{}' where run_id = $1", id)
    local _, rebuilt = rig:get("/runs/" .. id .. "/state")
    assert.same(before, rebuilt)
    assert.equal(projection.STORED_VERSION,
      rig:rows("select schema_version from run_projections where run_id = $1", id)[1].schema_version)
    rig:rows("delete from run_projections where run_id = $1", id)
    _, rebuilt = rig:get("/runs/" .. id .. "/state")
    assert.same(before, rebuilt)
  end)
end)

describe("trouble with the database", function()
  local rig

  before_each(function() rig = plane_rig.start() end)
  after_each(function() rig:destroy() end)

  it("P11: that kills connections under load loses and doubles nothing", function()
    local ids = {}
    for i = 1, 8 do
      ids[i] = crypto.uuid4()
      rig:open_session(ids[i])
      rig:propose(ids[i], "p1")
    end
    local killer = task.spawn(function()
      for _ = 1, 12 do
        task.sleep(60)
        rig:rows([[select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and pid <> pg_backend_pid()]])
      end
      return true
    end)
    for round = 1, 60 do
      for i = 1, 8 do rig:evaluate(ids[i], round % 2 == 0 and "ann" or "bob", "p1") end
    end
    killer:join()
    for i = 1, 8 do rig:commit(ids[i]) end
    for i = 1, 8 do
      rig:await(ids[i], "completed", 15000)
      check_history(rig, ids[i], 1 + 1 + 60 + 1)
    end
  end)

  it("P48: over one envelope costs only that envelope", function()
    local id = crypto.uuid4()
    rig:open_session(id)
    rig:await(id, "running")
    rig:rows([[alter table run_events_canonical add constraint poison check (document not like '%POISON%')]])
    local other = crypto.uuid4()
    rig:open_session(other)
    rig:propose(other, "p1")
    rig:propose(id, "p1")
    rig:evaluate(id, "ann", "p1", "POISON")
    rig:evaluate(id, "bob", "p1", "fine")
    rig:commit(id)
    rig:commit(other)
    rig:await(id, "completed", 10000)
    rig:await(other, "completed", 10000)
    check_history(rig, other, 3)
    local events = check_history(rig, id, 5)
    local kinds = rig:rows("select kind from run_events_raw where run_id = $1 and ordinal = 3", id)
    assert.equal("undecodable", kinds[1].kind)
    for _, event in ipairs(events) do assert.is_nil(json.encode(event):find("POISON", 1, true)) end
  end)

  it("P47: answers in time with an error while it is away, and goes on afterwards", function()
    local id = crypto.uuid4()
    rig:open_session(id)
    rig:await(id, "running")
    local status, body = rig:get("/healthz")
    assert.same({ 200, true }, { status, body.ok })
    if cluster == nil then return end -- the server is not ours to stop
    rig.db:close()
    local child = require("host.child")
    local stopped = assert(child.spawn({ file = "/bin/kill", args = { "-STOP", tostring(cluster:pid()) } }))
    stopped:wait()
    stopped:close()
    rig:propose(id, "p1")
    local resumed = assert(child.spawn({ file = "/bin/kill", args = { "-CONT", tostring(cluster:pid()) } }))
    resumed:wait()
    resumed:close()
    rig.db = assert(require("host.pg").open({ conninfo = rig.url, size = 2 }))
    rig:commit(id)
    rig:await(id, "completed", 15000)
    check_history(rig, id, 3)
  end)
end)

describe("migrations", function()
  local migrate = require("macp.store.migrate")
  local pg = require("host.pg")
  local postgres = require("spec.support.postgres")
  local db, stop

  before_each(function()
    local url
    url, stop = postgres.database()
    db = assert(pg.open({ conninfo = url, size = 4 }))
  end)
  after_each(function()
    db:close()
    stop()
  end)

  it("P40: are applied once, whoever starts at the same time", function()
    local results = {}
    assert(task.group(function(group)
      for i = 1, 4 do group:spawn(function() results[i] = assert(migrate.run(db)) end) end
    end))
    local applied = 0
    for _, names in ipairs(results) do applied = applied + #names end
    assert.equal(#migrate.files(), applied)
    assert.same({}, assert(migrate.run(db)))
  end)

  it("refuse to go on when an applied file was changed", function()
    local files = { { name = "0001_a.sql", text = "create table a (n integer);" } }
    assert.same({ "0001_a.sql" }, assert(migrate.run(db, files)))
    files[1].text = "create table a (n bigint);"
    local names, err = migrate.run(db, files)
    assert.is_nil(names)
    assert.truthy(err.message:find("0001_a.sql was changed", 1, true))
  end)

  it("leave nothing of a file that fails", function()
    local names, err = migrate.run(db, { { name = "0001_a.sql",
      text = "create table a (n integer);\nselect broken;" } })
    assert.is_nil(names)
    assert.truthy(err.message:find("0001_a.sql, statement 2", 1, true))
    assert.equal(0, assert(db:query("select count(*) as n from pg_tables where tablename = 'a'")).rows[1].n)
  end)
end)
