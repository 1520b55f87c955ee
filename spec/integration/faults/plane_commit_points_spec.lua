-- kill -9 of the plane at every point where it commits something: a batch of events with its outbox and its projections,
-- a launch, a change that is audited, its lease, a migration. The runtime goes on meanwhile. Afterwards each run's
-- events are the runtime's history without a gap, its projection is their fold, each announced end was delivered at
-- least once, and no change is half there. The program kills itself, so that the point is hit exactly.
-- KILL_ROUNDS=N repeats every row N times, each time some hits later.

local crypto = require("host.crypto")
local fs = require("host.fs")
local sys = require("host.sys")
local task = require("host.task")

local json = require("macp.core.json")

local agreement = require("spec.support.agreement")
local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")
local receiver = require("spec.support.receiver")
local system = require("spec.support.system")

local ROUNDS = tonumber(sys.env("KILL_ROUNDS")) or (sys.env("TEST_LONG") == "1" and 20) or 1
local DECISION = "macp.modes.decision.v1."
local PROPOSALS = 8

-- The point, how often it is passed before the program dies there, and how many more each further round.
local POINTS = {
  { "ingest.before_commit", 6, 3 }, { "ingest.committed", 7, 3 }, { "ingest.published", 8, 3 },
  { "projection.checkpoint", 3, 1 }, { "outbox.added", 2, 1 },
  { "launch.before_commit", 1, 1 }, { "launch.inserted", 1, 1 }, { "launch.bound", 1, 1 },
  { "opening.started", 0, 1 }, { "opening.kickoff_sent", 0, 1 },
  { "change.before_commit", 1, 1 }, { "change.committed", 1, 1 },
  { "lease.before_renew", 0, 0 }, { "lease.renewed", 0, 0 },
}

describe("a plane that is killed", function()
  local runtime, world, target
  local book -- what is known on this side: sessions with their run and whether they were ended
  local known, graves = {}, {} -- of all rounds: sessions by their run, and runs whose deletion was answered

  setup(function()
    target = receiver.start()
    runtime = system.start({ database = false, role = "runtime" })
    world = system.new({ role = "plane", env = { RUNTIME_ADDRESS = runtime.address, LAUNCHER_ENABLED = "true",
      OUTBOUND_ALLOW_PRIVATE = "true" } })
  end)
  teardown(function()
    world:close()
    runtime:close()
    target:close()
  end)

  -- --- what goes on ---

  local function send(id, sender, message_type, payload)
    local ack = runtime:client():send(sender, client.envelope({ session_id = id, message_type = message_type,
      message_id = crypto.uuid4(), payload = payload }))
    assert(ack.ok, ack.error and ack.error.message)
  end

  local function start(id) assert(runtime:client():send("boss", client.start_envelope(id, { ttl_ms = 3600000 })).ok) end

  local function play(session)
    local id = session.id
    for i = 1, PROPOSALS do
      send(id, "ann", "Proposal",
        client.payload(DECISION .. "ProposalPayload", { proposal_id = "p" .. i, option = "A" }))
    end
    send(id, "ann", "Vote", client.payload(DECISION .. "VotePayload", { proposal_id = "p1", vote = "APPROVE" }))
    send(id, "bob", "Vote", client.payload(DECISION .. "VotePayload", { proposal_id = "p1", vote = "APPROVE" }))
    send(id, "boss", "Commitment", client.payload("macp.v1.CommitmentPayload", { commitment_id = "c1",
      action = "decision.selected", authority_scope = "team", reason = "agreed", mode_version = "1.0.0",
      configuration_version = "config.default", outcome_positive = true }))
    session.ended = true
  end

  local function note(session)
    book[#book + 1] = session
    return session
  end

  -- A session that nobody announces; its run has its id.
  local function discovered()
    local session = note({ id = crypto.uuid4() })
    session.run_id = session.id
    known[session.id] = session
    start(session.id)
    play(session)
  end

  local function request(session)
    local body = plane_rig.descriptor(session.id, { execution = { idempotencyKey = session.key } })
    if session.is_launched then
      body.session.initiatorParticipantId = "boss"
      body.kickoff = { { from = "ann", to = { "bob" }, kind = "proposal", messageType = "Proposal", payloadEnvelope = {
        encoding = "proto", proto = { typeName = DECISION .. "ProposalPayload",
          value = { proposal_id = "kickoff", option = "A" } } } } }
    end
    return body
  end

  local function post(session)
    local status, accepted = world:request("POST", "/runs", request(session))
    if status == 202 or status == 200 then
      session.run_id = accepted.runId
      known[session.run_id] = session
    end
    return status, accepted
  end

  -- Its session is only opened once it is known to be announced: otherwise it would be discovered.
  local function open_announced(session)
    if session.run_id == nil or session.is_open then return end
    session.is_open = true
    start(session.id)
    play(session)
  end

  local function announced()
    local session = note({ id = crypto.uuid4(), key = crypto.uuid4() })
    post(session)
    open_announced(session)
  end

  local function launched()
    post(note({ id = crypto.uuid4(), key = crypto.uuid4(), is_launched = true }))
  end

  -- Archives the oldest ended run, and deletes the next.
  local function shelve()
    local ended = world:rows([[select id from runs where ended_at is not null and archived_at is null
      order by created_at]])
    if ended[1] then world:request("POST", "/runs/" .. ended[1].id .. "/archive") end
    if ended[2] and world:request("DELETE", "/runs/" .. ended[2].id) == 204 then graves[#graves + 1] = ended[2].id end
  end

  local STEPS = { discovered, announced, launched, shelve }

  -- Goes on until the plane is dead. (yields)
  local function live(program)
    local deadline, i = sys.mono_ms() + 40000, 0
    while not program.status and sys.mono_ms() < deadline do
      STEPS[i % #STEPS + 1]()
      i = i + 1
      task.sleep(20)
    end
  end

  -- --- what must hold ---

  local function run_row(session)
    return world:rows("select id, status, archived_at from runs where runtime_session_id = $1", session.id)[1]
  end

  local function is_deleted(session)
    return session.run_id and world:rows([[select 1 as n from audit_log where action = 'run.deleted'
      and resource_id = $1]], session.run_id)[1] ~= nil
  end

  -- The request of a run that is deleted, once more: it is known, and makes no other one.
  local function check_deleted(session)
    if session.key then
      local status, problem = post(session)
      assert.same({ 409, "CONFLICT", "the run of this idempotency key was deleted", session.run_id },
        { status, problem.errorCode, problem.message, problem.metadata.runId })
    end
    assert.equal(404, (world:request("GET", "/runs/" .. session.run_id)))
    assert.same({}, world:rows("select id from runs where runtime_session_id = $1", session.id))
  end

  -- The same request once more: it made a run, or makes it now, but never two.
  local function repeat_posts()
    for _, session in ipairs(book) do
      if session.key and not is_deleted(session) then
        local status, accepted = post(session)
        assert(status == 200 or status == 202, session.id .. ": " .. tostring(status) .. " " .. json.encode(accepted))
        if session.is_launched and not session.ended then
          eventually(function()
            local row = run_row(session)
            return row and row.status == "running", row and row.status
          end, 20000, "the launched run of " .. session.id)
          play(session)
        elseif not session.is_launched then
          open_announced(session)
        end
      end
    end
  end

  local function check_run(session)
    local ids = runtime:history(session.id)
    local count = 1 + PROPOSALS + 3 + (session.is_launched and 1 or 0)
    assert.equal(count, #ids, "envelopes of " .. session.id)
    eventually(function()
      local row = run_row(session)
      return row and row.status == "completed", row and row.status
    end, 30000, "the end of " .. session.id)
    agreement.stored(world, session.run_id, ids)
    agreement.projection(world, session.run_id)
    local told = world:rows([[select event from webhook_deliveries where run_id = $1 order by created_at]],
      session.run_id)
    assert.same({ "run.started", "run.completed" }, { told[1] and told[1].event, told[2] and told[2].event })
    assert.equal(2, #told)
  end

  local OF_RUNS = { "run_events_canonical", "run_events_raw", "run_projections", "run_projection_checkpoints",
    "run_metrics", "run_participant_stats", "run_activity", "run_artifacts", "runtime_sessions" }

  -- A deleted run is gone with all that was its own and does not come back, an archived one is marked, and each has its
  -- entry, once.
  local function check_changes()
    local half = world:rows([[
      select r.id, 'archived' as what from runs r where (r.archived_at is not null) <>
        exists (select 1 from audit_log a where a.action = 'run.archived' and a.resource_id = r.id::text)
      union all
      select d.id, 'deleted, and there' from deleted_runs d join runs r
        on r.id = d.id or r.runtime_session_id = d.runtime_session_id
      union all
      select d.id, 'deleted, with so many entries: ' || (select count(*) from audit_log a
        where a.action = 'run.deleted' and a.resource_id = d.id::text)
      from deleted_runs d where 1 <> (select count(*) from audit_log a
        where a.action = 'run.deleted' and a.resource_id = d.id::text)
      union all
      select a.resource_id::uuid, 'an entry without a deletion' from audit_log a where a.action = 'run.deleted'
        and not exists (select 1 from deleted_runs d where d.id::text = a.resource_id)]])
    assert.same({}, half)
    for _, run_id in ipairs(graves) do
      assert.equal(1, #world:rows("select id from deleted_runs where id = $1", run_id))
      if known[run_id] then check_deleted(known[run_id]) end
    end
    for _, name in ipairs(OF_RUNS) do
      assert.same({}, world:rows("select distinct e.run_id from " .. name
        .. " e where not exists (select 1 from runs r where r.id = e.run_id)"), name)
    end
  end

  local function check_deliveries()
    eventually(function()
      local row = world:rows("select count(*) as n from webhook_deliveries where status <> 'delivered'")[1]
      return row.n == 0, row.n .. " left"
    end, 30000, "deliveries")
    local came = {}
    for _, delivery in ipairs(target.requests) do came[delivery.headers["x-macp-delivery"]] = true end
    for _, row in ipairs(world:rows("select id from webhook_deliveries")) do
      assert(came[row.id], row.id .. " never came")
    end
  end

  local function die_at(point, passes)
    book = {}
    if world.program and not world.program.status then world:crash() end -- an earlier spec failed
    -- It may die before it has told that it is ready.
    local is_up = pcall(world.serve, world, { MACP_FAULT = point .. "=kill:" .. passes })
    if is_up then live(world.program) end
    eventually(function() return world.program.status end, 20000, "death at " .. point)
    assert.equal(9, world.program.status.signal, world.program:output())
    world.program:release()
    discovered() -- while nobody observes
    world:rows("update webhook_deliveries set next_attempt_at = now() where claimed_by is not null") -- claims ended
    world:serve()
    repeat_posts()
    for _, session in ipairs(book) do
      if not is_deleted(session) then check_run(session) end
    end
    check_changes()
    check_deliveries()
    world:stop()
  end

  local test = rawget(sys, "fault") and it or pending

  -- Files that were applied before the plane died stay applied; the one that was not leaves nothing.
  for _, row in ipairs({ { "migration.before_commit", 0 }, { "migration.before_commit", 2 },
    { "migration.applied", 0 }, { "migration.applied", 2 } }) do
    test("P40: at " .. row[1] .. " after " .. row[2] .. " files migrates on with its next start", function()
      world:rows("drop schema public cascade")
      world:rows("create schema public")
      pcall(world.serve, world, { MACP_FAULT = row[1] .. "=kill:" .. row[2] })
      assert.equal(9, world.program.status.signal, world.program:output())
      world.program:release()
      local applied = world:rows("select count(*) as n from _migrations")[1].n
      if row[1] == "migration.applied" then assert.equal(row[2] + 1, applied)
      else assert.is_true(applied >= row[2], applied .. " files") end -- those in no transaction do not pass it
      world:serve()
      assert.is_true(world:rows("select count(*) as n from _migrations")[1].n > applied)
      world:stop()
    end)
  end

  it("has every fault point of the plane in its table", function()
    local named = { ["migration.before_commit"] = true, ["migration.applied"] = true }
    for _, row in ipairs(POINTS) do named[row[1]] = true end
    for _, dir in ipairs({ "lua/macp/plane", "lua/macp/store", "lua/macp/launcher" }) do
      for _, entry in ipairs(assert(fs.list(dir))) do
        local text = entry.name:find("%.lua$") and tostring(assert(fs.read(dir .. "/" .. entry.name))) or ""
        for point in text:gmatch('fault%("([^"]+)"%)') do assert(named[point], point .. " is in no row") end
      end
    end
  end)

  it("is made ready", function()
    world:serve()
    local status, hook = world:request("POST", "/webhooks", { url = target.url, secret = "sixteen letters!" })
    assert.equal(201, status, json.encode(hook))
    world:stop()
  end)

  for _, row in ipairs(POINTS) do
    local point, passes, step = unpack(row)
    test("P10: at " .. point .. " loses nothing, repeats nothing and leaves nothing half done", function()
      for round = 1, ROUNDS do die_at(point, passes + (round - 1) * step) end
    end)
  end

  test("has answered deletions, which all of the above was asked about", function()
    assert.is_true(#graves > 0)
    local seen = 0
    for _, run_id in ipairs(graves) do seen = seen + (known[run_id] and 1 or 0) end
    assert.is_true(seen > 0, #graves .. " deletions")
  end)
end)
