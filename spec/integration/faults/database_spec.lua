-- PostgreSQL is paused, killed, or loses its connections while sessions are played and runs are posted: every answer is
-- the right one or the documented 503, readyz tells, nothing is lost or there twice, and all of it mends by itself.

local crypto = require("host.crypto")
local sys = require("host.sys")
local task = require("host.task")

local json = require("macp.core.json")

local agreement = require("spec.support.agreement")
local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")
local system = require("spec.support.system")

local AWAY_MS = 1500

local function proposal(name)
  return client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = name, option = "A" })
end

local function open_session(world, id)
  assert(world:client():send("boss", client.start_envelope(id, { ttl_ms = 3600000 })).ok)
end

-- Envelopes into one session until it is told to stop. (yields)
local function keep_sending(world, load)
  local rig = world:client()
  while not load.stop do
    load.sent = load.sent + 1
    local name = "m" .. load.sent
    assert(rig:send("ann", client.envelope({ session_id = load.id, message_id = name, payload = proposal(name) })).ok)
    task.sleep(10)
  end
  return true
end

-- POST /runs and GET /runs until told to stop; what is answered is kept. (yields)
local function keep_asking(world, load)
  while not load.stop do
    local posted = { key = crypto.uuid4(), session_id = crypto.uuid4() }
    load.posted[#load.posted + 1] = posted
    posted.body = plane_rig.descriptor(posted.session_id, { execution = { idempotencyKey = posted.key } })
    for _, call in ipairs({ { "POST", "/runs", posted.body }, { "GET", "/runs?limit=1" },
      { "GET", "/runs/" .. load.id .. "/state" } }) do
      local began = sys.mono_ms()
      local status, body = world:request(call[1], call[2], call[3])
      local answer = string.format("%s %s: %s %s", call[1], call[2], tostring(status),
        type(body) == "table" and body.errorCode or "")
      if status == nil then
        load.unanswered[#load.unanswered + 1] = ("%s %s after %d ms: %s"):format(call[1], call[2],
          sys.mono_ms() - began, body.message)
      elseif status >= 500 and not (status == 503 and body.errorCode == "SERVICE_UNAVAILABLE") then
        load.wrong = load.wrong or answer .. " " .. json.encode(body)
      end
      if status == 503 then load.refused = load.refused + 1 end
    end
    task.sleep(10)
  end
  return true
end

local function under_load(world, fn)
  local load = { id = crypto.uuid4(), sent = 0, posted = {}, refused = 0, unanswered = {}, stop = false }
  open_session(world, load.id)
  eventually(function()
    local status, run = world:get("/runs/" .. load.id)
    return status == 200 and run.status == "running"
  end, 20000, "the run")
  local tasks = { task.spawn(keep_sending, world, load) }
  for i = 1, 3 do tasks[i + 1] = task.spawn(keep_asking, world, load) end
  task.sleep(300)
  local ok, err = pcall(fn, load)
  load.stop = true
  for _, running in ipairs(tasks) do assert(running:join()) end
  if not ok then error(err, 0) end
  return load
end

local function await_ready(world)
  eventually(function()
    local status, body = world:get("/readyz")
    return status == 200, body and json.encode(body)
  end, 40000, "readyz 200")
end

-- Every request that was made, made again, finds its one run; the session's copy is its history. (yields)
local function check(world, load)
  assert.is_nil(load.wrong, load.wrong)
  for _, posted in ipairs(load.posted) do
    local status, accepted
    eventually(function() -- readyz looks every other second only
      status, accepted = world:request("POST", "/runs", posted.body)
      return status ~= 503, "503"
    end, 20000, "an answer")
    assert(status == 200 or status == 202, tostring(status) .. " " .. json.encode(accepted))
    assert.equal(posted.session_id, accepted.sessionId)
  end
  local runs = world:rows("select count(*) as n, count(distinct runtime_session_id) as different from runs")[1]
  assert.same({ #load.posted + 1, #load.posted + 1 }, { runs.n, runs.different })
  local ids = world:history(load.id)
  assert.equal(load.sent + 1, #ids)
  agreement.await(world, load.id, #ids, 40000)
  agreement.stored(world, load.id, ids)
  agreement.projection(world, load.id)
end

describe("PostgreSQL under load", function()
  -- Posted runs wait for sessions that never come.
  local ENV = { SESSION_POLL_TIMEOUT_MS = "3600000" }

  -- Its connections stay, so that a request that has been sent waits for it.
  it("that is paused is told by readyz, and everything waits and goes on", function()
    system.with({ env = ENV }, function(world)
      local load = under_load(world, function()
        world:pause_database()
        eventually(function()
          local status, body = world:get("/readyz")
          return status == 503 and body.database == "unhealthy", status
        end, 30000, "readyz 503")
        assert.equal(200, (world:get("/healthz")))
        task.sleep(AWAY_MS)
        world:continue_database()
        await_ready(world)
        task.sleep(300)
      end)
      check(world, load)
      world:stop()
    end)
  end)

  -- Longer than any statement may take and any silence may last: connections are dropped, and what had been sent is
  -- done or not, which nobody knows before it is asked again.
  it("that is frozen for long is given up, and found again", function()
    local env = { DB_STATEMENT_TIMEOUT = "1000", DB_SILENCE_TIMEOUT = "500" }
    for name, value in pairs(ENV) do env[name] = value end
    system.with({ env = env }, function(world)
      local load = under_load(world, function(load)
        local before = load.refused
        world:pause_database()
        eventually(function() return load.refused >= before + 3 end, 30000, "503")
        eventually(function()
          local status, body = world:get("/readyz")
          return status == 503 and body.database == "unhealthy", status
        end, 30000, "readyz 503")
        assert.equal(200, (world:get("/healthz")))
        world:continue_database()
        await_ready(world)
        task.sleep(300)
      end)
      assert.same({}, load.unanswered)
      check(world, load)
      world:stop()
    end)
  end)

  it("that is killed and started again is caught up with", function()
    system.with({ env = ENV }, function(world)
      local load = under_load(world, function(load)
        for _ = 1, 2 do
          local before = load.refused
          world:crash_database()
          eventually(function() return load.refused > before end, 30000, "a 503")
          task.sleep(AWAY_MS)
          world:start_database()
          await_ready(world)
          task.sleep(300)
        end
      end)
      assert.same({}, load.unanswered)
      check(world, load)
      world:stop()
    end)
  end)

  it("whose processes die one by one is not away for long", function()
    system.with({ env = ENV }, function(world)
      local dice = system.dice(7)
      local load = under_load(world, function()
        for _ = 1, 4 do
          world:crash_backend(dice)
          task.sleep(400)
          await_ready(world)
        end
      end)
      check(world, load)
      world:stop()
    end)
  end)
end)
