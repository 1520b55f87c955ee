-- Runs that wait for their sessions: when the runtime is asked for them, and how often.

local crypto = require("host.crypto")
local sys = require("host.sys")
local task = require("host.task")

local eventually = require("spec.support.eventually")
local plane_rig = require("spec.support.plane_rig")

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("runs that wait for their sessions", function()
  local rig, asked

  -- A plane whose questions for sessions are noted: { session id, when }.
  local function start(env)
    rig = plane_rig.start({ env = env })
    asked = {}
    local client = rig.plane.client
    local get_session = client.get_session
    function client.get_session(self, session_id)
      asked[#asked + 1] = { id = session_id, at = sys.mono_ms() }
      return get_session(self, session_id)
    end
  end

  after_each(function() rig:destroy() end)

  local function times_of(session_id)
    local times = {}
    for _, question in ipairs(asked) do
      if question.id == session_id then times[#times + 1] = question.at end
    end
    return times
  end

  it("are asked for after a pause when nobody can know the session yet, then with pauses that double", function()
    start({ SESSION_POLL_BASE_MS = "40", SESSION_POLL_MAX_MS = "100" })
    local began = sys.mono_ms()
    local _, accepted = rig:post("/runs", plane_rig.descriptor(nil))
    local id = accepted.sessionId
    eventually(function() return #times_of(id) >= 5 end, 20000, "five questions")
    local times = times_of(id)
    assert.is_true(times[1] - began >= 40, "the first one after " .. times[1] - began)
    for i, pause in ipairs({ 40, 80, 100, 100 }) do
      assert.is_true(times[i + 1] - times[i] >= pause - 1, i .. ": " .. times[i + 1] - times[i])
    end
  end)

  it("are asked for at once when their session is named and nothing tells of sessions", function()
    start({ SESSION_POLL_BASE_MS = "600000", SESSION_POLL_MAX_MS = "600000", SESSION_POLL_TIMEOUT_MS = "3600000",
      SESSION_DISCOVERY_ENABLED = "false" })
    local id = crypto.uuid4()
    rig:open_session(id)
    local _, accepted = rig:post("/runs", plane_rig.descriptor(id))
    rig:await(accepted.runId, "running", 20000)
    assert.equal(1, #times_of(id))
  end)

  it("are found as soon as the runtime tells of their session, however long the pause", function()
    start({ SESSION_POLL_BASE_MS = "600000", SESSION_POLL_MAX_MS = "600000", SESSION_POLL_TIMEOUT_MS = "3600000" })
    local _, accepted = rig:post("/runs", plane_rig.descriptor(nil))
    rig:open_session(accepted.sessionId)
    rig:await(accepted.runId, "running", 20000)
  end)

  it("cause at most 500 questions a second, however many they are", function()
    start({ SESSION_POLL_BASE_MS = "1", SESSION_POLL_MAX_MS = "1" })
    local count = 400
    assert(task.group(function(group)
      for _ = 1, 20 do
        group:spawn(function()
          for _ = 1, count / 20 do assert(rig:post("/runs", plane_rig.descriptor(nil)) == 202) end
        end)
      end
    end))
    eventually(function() return rig.plane.launcher.polls.count == count end, 20000, "waiting runs")
    eventually(function() -- what was due while there were few has been asked
      return rig.plane.launcher.polls.queue:first() > sys.mono_ms()
    end, 20000, "nothing due")
    local from, began = #asked, sys.mono_ms()
    eventually(function() return #asked - from >= 150 end, 20000, "questions")
    local per_s = (#asked - from) * 1000 / (sys.mono_ms() - began)
    assert.is_true(per_s <= 1000, per_s .. " questions a second")
  end)

  it("fail when the time is over", function()
    start({ SESSION_POLL_BASE_MS = "20", SESSION_POLL_TIMEOUT_MS = "200" })
    local _, accepted = rig:post("/runs", plane_rig.descriptor(nil))
    local record = rig:await(accepted.runId, "failed", 20000)
    assert.equal("RUNTIME_TIMEOUT", record.errorCode)
    eventually(function() return rig.plane.launcher.polls.count == 0 end, 20000, "nobody waits")
  end)
end)
