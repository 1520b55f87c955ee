-- Acceptance: passive subscription, bound streams, WatchSessions.

local acceptance = require("spec.support.acceptance")
local crypto = require("host.crypto")
local rpc = require("host.rpc")
local task = require("host.task")

local eventually = require("spec.support.eventually")
local patience = require("spec.support.patience")

local ANN, EVE = "agent://ann", "agent://eve"

describe("acceptance: streams", function()
  local at, session

  setup(function() at = acceptance.start() end)
  teardown(function() at:stop() end)
  before_each(function()
    session = at:session({ mode = "decision" })
    session:tell(ANN, "Proposal", { proposal_id = "p1", option = "o" }, session.id .. "-p1")
  end)

  -- The next response within 5 s.
  local function read(stream) return task.with_deadline(patience(5000), function() return stream:read() end) end

  local function next_type(stream)
    local response, err = read(stream)
    if response == nil then return nil, err end
    return response.envelope and response.envelope.message_type or "error " .. response.error.code
  end

  it("replay from 0 in order, and end after the client's half-close", function()
    local stream = at.rig:stream(ANN)
    stream:subscribe(session.id, 0)
    assert.equal("SessionStart", next_type(stream))
    assert.equal("Proposal", next_type(stream))
    stream:half_close()
    local response, err = read(stream)
    assert.is_true(response == nil and err == nil)
  end)

  it("replay from 1 without the start, and go on live", function()
    local stream = at.rig:stream(ANN)
    stream:subscribe(session.id, 1)
    assert.equal("Proposal", next_type(stream))
    session:tell(ANN, "Vote", { proposal_id = "p1", vote = "APPROVE" })
    assert.equal("Vote", next_type(stream))
    stream:cancel()
  end)

  it("replay nothing from beyond the end, and go on live", function()
    local stream = at.rig:stream(session.by)
    stream:subscribe(session.id, 1000000)
    task.sleep(100)
    session:tell(ANN, "Vote", { proposal_id = "p1", vote = "APPROVE" })
    assert.equal("Vote", next_type(stream))
    stream:cancel()
  end)

  it("end with NOT_FOUND for an unknown session", function()
    local stream = at.rig:stream(ANN)
    stream:subscribe(crypto.uuid4())
    local _, err = read(stream)
    assert.equal(rpc.status.NOT_FOUND, err.status)
  end)

  it("refuse an outsider inline and stay open", function()
    local stream = at.rig:stream(EVE)
    stream:subscribe(session.id)
    assert.truthy(next_type(stream):find("FORBIDDEN", 1, true))
    local own = at:session({ mode = "decision", by = EVE })
    stream:subscribe(own.id)
    assert.equal("SessionStart", next_type(stream))
    stream:cancel()
  end)

  it("end with INVALID_ARGUMENT for a frame with both fields, and for a second session", function()
    local stream = at.rig:stream(ANN)
    stream:write({ envelope = session:envelope("Proposal", { proposal_id = "p2", option = "o" }),
      subscribe_session_id = session.id })
    local _, err = read(stream)
    assert.equal(rpc.status.INVALID_ARGUMENT, err.status)
    local other = at:session({ mode = "decision" })
    stream = at.rig:stream(ANN)
    stream:write({ envelope = session:envelope("Proposal", { proposal_id = "p3", option = "o" }) })
    assert.equal("Proposal", next_type(stream))
    stream:write({ envelope = other:envelope("Proposal", { proposal_id = "p3", option = "o" }) })
    _, err = read(stream)
    assert.equal(rpc.status.INVALID_ARGUMENT, err.status)
  end)

  it("echo the own start", function()
    local mine = at:new_session({ mode = "decision" })
    local stream = at.rig:stream(mine.by)
    stream:write({ envelope = mine:start_envelope() })
    assert.equal("SessionStart", next_type(stream))
    stream:cancel()
  end)

  it("W25: whose only frame was refused see no event of the session", function()
    local stream = at.rig:stream(EVE)
    stream:write({ envelope = session:envelope("Proposal", { proposal_id = "p9", option = "o" }) })
    assert.equal("error FORBIDDEN", next_type(stream))
    local heard
    local reader = task.spawn(function() heard = stream:read() end)
    session:tell(ANN, "Vote", { proposal_id = "p1", vote = "APPROVE" })
    task.sleep(300)
    stream:cancel()
    reader:join()
    assert.is_nil(heard)
  end)

  it("W36: go on after a refused message, and name it with code and id", function()
    local stream = at.rig:stream(ANN)
    for i, case in ipairs({ { "Vote", { proposal_id = "none", vote = "APPROVE" }, "INVALID_ENVELOPE" },
      { "Commitment", { action = "a" }, "FORBIDDEN" } }) do
      stream:write({ envelope = session:envelope(case[1], case[2], "bad" .. i) })
      local problem = assert(read(stream)).error
      assert.same({ case[3], "bad" .. i, session.id }, { problem.code, problem.message_id, problem.session_id })
    end
    stream:write({ envelope = session:envelope("Vote", { proposal_id = "p1", vote = "APPROVE" }) })
    assert.equal("Vote", next_type(stream))
    stream:cancel()
  end)

  it("W40: replay a finished session to a late subscriber", function()
    assert.is_true(session:tell(ANN, "Vote", { proposal_id = "p1", vote = "APPROVE" }).ok)
    assert.is_true(session:commit("go").ok)
    local stream = at.rig:stream(session.by)
    stream:subscribe(session.id)
    stream:half_close()
    local types = {}
    for word in function() return (next_type(stream)) end do types[#types + 1] = word end
    assert.same({ "SessionStart", "Proposal", "Vote", "Commitment" }, types)
  end)

  it("of WatchSessions announce a session from before and one from after exactly once", function()
    local watch = at:follow(EVE, "WatchSessions")
    local function created(id)
      local n = 0
      for _, response in ipairs(watch.seen) do
        local event = response.event
        if event.event_type == 1 and event.session.session_id == id then n = n + 1 end
      end
      return n
    end
    eventually(function() return created(session.id) > 0 end, 5000)
    local after = at:session({ mode = "decision" })
    eventually(function() return created(after.id) > 0 end, 5000)
    task.sleep(200)
    assert.same({ 1, 1 }, { created(session.id), created(after.id) })
    watch.cancel()
  end)
end)
