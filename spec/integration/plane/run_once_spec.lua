-- A run whose request names a key (execution.idempotencyKey): asked for again it is the same run, whatever became of it.

local crypto = require("host.crypto")
local task = require("host.task")

local plane_rig = require("spec.support.plane_rig")

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("a request with a key", function()
  local rig

  setup(function() rig = plane_rig.start() end)
  teardown(function() rig:destroy() end)

  it("P2: is one run, however many ask for it at once and again while it runs", function()
    local body = plane_rig.descriptor(nil, { execution = { idempotencyKey = crypto.uuid4() } }) -- no session id
    local answers, asking = {}, {}
    for i = 1, 8 do
      asking[i] = task.spawn(function()
        answers[i] = { rig:post("/runs", body) }
        return true
      end)
    end
    for i = 1, 8 do assert(asking[i]:join()) end
    local count, first = {}, answers[1][2]
    for i = 1, 8 do
      local status, told = unpack(answers[i])
      count[status] = (count[status] or 0) + 1
      assert.same({ first.runId, first.sessionId, first.traceId }, { told.runId, told.sessionId, told.traceId })
    end
    assert.same({ [202] = 1, [200] = 7 }, count)
    rig:open_session(first.sessionId)
    rig:await(first.runId, "running")
    rig:propose(first.sessionId, "p1")
    local status, told, headers = rig:post("/runs", body)
    assert.same({ 200, { runId = first.runId, sessionId = first.sessionId, status = "running",
      traceId = first.traceId }, "true" }, { status, told, headers["idempotent-replayed"] })
    rig:vote(first.sessionId, "ann", "p1")
    rig:vote(first.sessionId, "bob", "p1")
    rig:commit(first.sessionId)
    rig:await(first.runId, "completed")
    assert.equal("completed", select(2, rig:post("/runs", body)).status)
    local starts = 0
    for _, event in ipairs(rig:events(first.runId)) do if event.type == "run.started" then starts = starts + 1 end end
    assert.equal(1, starts)
  end)

  it("P2: answers the same request with the same run, and another one with a conflict", function()
    local body = plane_rig.descriptor(crypto.uuid4(), { execution = { idempotencyKey = crypto.uuid4(),
      tags = { "a" } } })
    local status, first = rig:post("/runs", body)
    assert.equal(202, status)
    local again, second, headers = rig:post("/runs", body)
    assert.equal(200, again)
    assert.same({ first.runId, first.sessionId, first.traceId }, { second.runId, second.sessionId, second.traceId })
    assert.equal("true", headers["idempotent-replayed"])
    body.session.ttlMs = 70000
    local conflict, problem = rig:post("/runs", body)
    assert.same({ 409, "CONFLICT" }, { conflict, problem.errorCode })
    body.execution = nil
    conflict, problem = rig:post("/runs", body)
    assert.same({ 409, "SESSION_ALREADY_EXISTS" }, { conflict, problem.errorCode })
  end)
end)
