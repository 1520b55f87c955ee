-- What the runtime says about a session reaches the plane by several ways, in any order: watch, acknowledgement, answers.
-- Each spec forces one order that happens once in thousands of times by itself.

local pg = require("host.pg")
local task = require("host.task")

local lifecycle = require("macp.protocol.lifecycle")
local standing = require("macp.plane.standing")

local db_door = require("macp.store.db")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")

local TOKENS = [=[[{"token":"boss","sender":"boss","is_observer":true},{"token":"ann","sender":"ann"},
  {"token":"bob","sender":"bob"}]]=]

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("the status of a run", function()
  local rig

  setup(function()
    rig = plane_rig.start({ env = { RUNTIME_BEARER_TOKEN = "boss" }, runtime_env = { MACP_AUTH_TOKENS_JSON = TOKENS } })
  end)
  teardown(function() rig:destroy() end)

  local function running()
    local run_id, session_id = rig:announce()
    rig:open_session(session_id)
    rig:await(run_id, "running")
    return run_id, session_id
  end

  local function metadata_of(session_id)
    return assert(rig.plane.client:get_session(session_id))
  end

  local function ask(method, session_id)
    assert(rig.runtime:call("boss", method, { session_id = session_id }))
  end

  local function changes(run_id)
    local out = {}
    for _, event in ipairs(rig:events(run_id)) do
      if event.type == "run.suspended" or event.type == "run.resumed" then out[#out + 1] = event.type end
    end
    return out
  end

  -- The next call of the runtime client about a session is answered by fn(real, ...); others go through.
  local function held(name, about, fn)
    local client = rig.plane.client
    client[name] = function(self, session_id, ...)
      local function real(...) return getmetatable(client)[name](self, ...) end
      if session_id ~= about then return real(session_id, ...) end
      client[name] = nil
      return fn(real, session_id, ...)
    end
  end

  -- Runs fn while no change of the run can be stored. (yields)
  local function unstorable(run_id, fn)
    local db = assert(pg.open({ conninfo = rig.url, size = 1 }))
    assert(db_door.tx(db, function(tx)
      assert(tx:query("select 1 from runs where id = $1 for update", { run_id }))
      fn()
      return true
    end))
    db:close()
  end

  it("is answered only once it is stored, also when the watch told before the acknowledgement", function()
    for _, way in ipairs({ { "suspend", "suspended" }, { "resume", "running" } }) do
      local run_id, session_id = running()
      if way[1] == "resume" then
        rig:post("/runs/" .. run_id .. "/suspend")
      end
      local live, answer = rig.plane.owner:of_session(session_id), nil
      held(way[1] .. "_session", session_id, function(real, ...)
        local ack = assert(real(...))
        eventually(function() return live.status == way[2] end, 5000, "the watch")
        return ack
      end)
      local asking
      unstorable(run_id, function()
        asking = task.spawn(function()
          answer = { rig:post("/runs/" .. run_id .. "/" .. way[1]) }
          return true
        end)
        eventually(function() return live.status == way[2] end, 5000, "the change")
        task.sleep(100)
        assert.is_nil(answer)
      end)
      asking:join()
      assert.same({ 200, way[2] }, { answer[1], answer[2].status })
      assert.equal(way[2], select(2, rig:get("/runs/" .. run_id)).status)
    end
  end)

  it("that cannot be stored is told as such, and is stored when it can be", function()
    local run_id = running()
    unstorable(run_id, function()
      local status, problem = rig:post("/runs/" .. run_id .. "/suspend")
      assert.same({ 503, "SERVICE_UNAVAILABLE", "the change is not stored yet: the database does not answer" },
        { status, problem.errorCode, problem.message })
    end)
    rig:await(run_id, "suspended", 15000)
  end)

  it("does not go back when the watch tells late that the session was created", function()
    local run_id, session_id = running()
    local asked = standing.moment()
    local as_created = metadata_of(session_id)
    local status, run = rig:post("/runs/" .. run_id .. "/suspend")
    assert.same({ 200, "suspended" }, { status, run.status })
    rig.plane.discovery:see(as_created, { asked = asked })
    assert.equal("suspended", rig.plane.owner:of_session(session_id).status)
    task.sleep(150) -- asked about again, and nothing new
    assert.equal("suspended", select(2, rig:get("/runs/" .. run_id)).status)
    assert.same({ "run.suspended" }, changes(run_id))
  end)

  it("does not go back when events of earlier changes come late", function()
    local run_id, session_id = running()
    local at_ms = require("host.sys").now_ms() - 60000
    local before = metadata_of(session_id)
    rig:post("/runs/" .. run_id .. "/suspend")
    rig.plane.discovery:see(before, { state = "SESSION_STATE_SUSPENDED", at_ms = at_ms })
    rig.plane.discovery:see(before, { state = "SESSION_STATE_OPEN", at_ms = at_ms + 1 })
    task.sleep(150)
    assert.equal("suspended", select(2, rig:get("/runs/" .. run_id)).status)
    assert.same({ "run.suspended" }, changes(run_id))
  end)

  it("follows the runtime when an acknowledgement is overtaken by a later change", function()
    local run_id, session_id = running()
    local live = rig.plane.owner:of_session(session_id)
    held("suspend_session", session_id, function(real, ...)
      local ack = assert(real(...))
      eventually(function() return live.status == "suspended" end, 5000)
      task.sleep(5) -- the runtime's clock goes on
      ask("ResumeSession", session_id)
      eventually(function() return live.status == "running" end, 5000)
      return ack
    end)
    local status, run = rig:post("/runs/" .. run_id .. "/suspend")
    assert.same({ 200, "running" }, { status, run.status })
    task.sleep(150)
    assert.equal("running", select(2, rig:get("/runs/" .. run_id)).status)
    assert.same({ "run.suspended", "run.resumed" }, changes(run_id))
  end)

  local ENDS = { { "SuspendSession", "suspended" }, { "CancelSession", "cancelled" } }
  for _, case in ipairs(ENDS) do
    it("is " .. case[2] .. " when that came between the answer that the session is open and binding it", function()
      local run_id, session_id = rig:announce()
      local told
      held("get_session", session_id, function(real, ...)
        rig:open_session(session_id)
        local metadata = assert(real(...))
        assert.equal(lifecycle.NAMES[lifecycle.OPEN], metadata.state)
        local discovery = rig.plane.discovery
        discovery.see = function(self, seen, order)
          discovery.see = nil
          told = seen
          return discovery.see(self, seen, order)
        end
        ask(case[1], session_id)
        eventually(function() return told end, 5000, "the watch")
        task.sleep(50)
        return metadata
      end)
      rig:await(run_id, case[2], 10000)
    end)
  end

  it("is right when the session was suspended while no plane was there", function()
    for _, how in ipairs({ "recovery", "discovery" }) do
      local run_id, session_id = running()
      rig.plane:close()
      ask("SuspendSession", session_id)
      rig.plane = rig:start_plane({ RUN_RECOVERY_ENABLED = how == "recovery" and "true" or "false" })
      rig:await(run_id, "suspended", 10000)
      assert.equal(200, (rig:post("/runs/" .. run_id .. "/resume")))
    end
  end)
end)
