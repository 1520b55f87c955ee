local json = require("macp.core.json")
local announced = require("macp.plane.announced")
local fold = require("macp.plane.projection.fold")
local projection = require("macp.plane.projection.state")

describe("an announced run", function()
  local ID, SESSION = "0198c5a1-0000-7000-8000-000000000001", "7b0f3c1e-1111-4222-8333-444455556666"

  local function announce()
    return announced.new({ tenant = "acme", id = ID, session_id = SESSION, kind = "rust", trace_id = ("ab"):rep(16),
      created_ms = 1700000000123, mode_name = 'a "mode"', runtime_version = "1.2" })
  end

  it("has two events, which say what its row says", function()
    local waiting, documents = announce()
    assert.equal(2, #documents)
    local created, started = json.decode(documents[1]), json.decode(documents[2])
    assert.same({ 1, "run.created", ID, "2023-11-14T22:13:20.123Z", "queued", 'a "mode"', "rust", "1.2", SESSION },
      { created.seq, created.type, created.runId, created.ts, created.data.status, created.data.modeName,
        created.data.runtimeKind, created.data.runtimeVersion, created.data.sessionId })
    assert.same({ 2, "run.started", "starting", "2023-11-14T22:13:20.123Z", ("ab"):rep(16) },
      { started.seq, started.type, started.data.status, started.data.startedAt, started.traceId })
    assert.same({ "starting", 2 }, { waiting.status, waiting.seq })
  end)

  it("becomes the run that its stored events describe, and stores nothing again", function()
    local waiting, documents = announce()
    local writer = { owner = {}, open_for = function() error("nothing is written") end }
    local run = waiting:run(writer)
    local state = projection.new(ID)
    for _, document in ipairs(documents) do fold.apply(state, fold.from_stored(json.decode(document))) end
    assert.equal(projection.render(state, { sorted = true }), projection.render(run.state, { sorted = true }))
    assert.same({ "starting", 2, 2, 2, 2, 1700000000123 },
      { run.status, run.seq, run.committed_seq, run.event_seq, run.metrics.event_count, run.started_ms })
    assert.equal(writer, run.writer)
    assert.equal(run, waiting.became)
  end)
end)
