-- POST /runs by many at once: runs are inserted together, and each caller gets the answer for its own.

local crypto = require("host.crypto")
local task = require("host.task")

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
