local json = require("macp.core.json")
local announced = require("macp.plane.announced")
local batches = require("macp.plane.batch")
local fold = require("macp.plane.projection.fold")
local projection = require("macp.plane.projection.state")
local text = require("macp.plane.text")

describe("an announced run", function()
  local ID, SESSION = "0198c5a1-0000-7000-8000-000000000001", "7b0f3c1e-1111-4222-8333-444455556666"

  local function announce()
    return announced.new({ tenant = "acme", id = ID, session_id = SESSION, kind = "rust", trace_id = ("ab"):rep(16),
      created_ms = 1700000000123, mode_name = 'a "mode"', runtime_version = "1.2" })
  end

  -- In place of a writer: one open batch, and who took over what was in it.
  local function new_writer()
    return { owner = {}, batch = batches.new(),
      open_for = function(self, run)
        self.batch:own(run)
        return self.batch
      end,
      rename = function(self, ...) self.batch:rename(...) end }
  end

  local function folded(documents)
    local state = projection.new(ID)
    for _, document in ipairs(documents) do fold.apply(state, fold.from_stored(json.decode(document))) end
    return projection.render(state, { sorted = true })
  end

  it("is queued, which its first event says", function()
    local waiting, document = announce()
    local created = json.decode(document)
    assert.same({ 1, "run.created", ID, "2023-11-14T22:13:20.123Z", "queued", 'a "mode"', "rust", "1.2", SESSION },
      { created.seq, created.type, created.runId, created.ts, created.data.status, created.data.modeName,
        created.data.runtimeKind, created.data.runtimeVersion, created.data.sessionId })
    assert.same({ "queued", 1, 1, nil }, { waiting.status, waiting.seq, waiting.committed_seq, waiting.started_ms })
  end)

  it("is starting once its launch began, which one event and one change of its row say", function()
    local waiting, writer = announce(), new_writer()
    assert.is_true(waiting:start(writer))
    local entry = writer.batch.by_run[waiting]
    local started = json.decode(entry.documents[1])
    assert.same({ 2, "run.started", "starting", text.iso(waiting.started_ms), ("ab"):rep(16), 'a "mode"' },
      { started.seq, started.type, started.data.status, started.data.startedAt, started.traceId,
        started.data.modeName })
    assert.same({ 2, 1, 2 }, { #writer.batch.ops, entry.n, entry.last_seq })
    assert.same({ "starting", 2, 1 }, { waiting.status, waiting.seq, waiting.committed_seq })
    assert.is_false(waiting:start(writer))
    assert.equal(2, #writer.batch.ops)
  end)

  it("becomes the run that its stored event describes, and stores nothing again", function()
    local waiting, document = announce()
    local writer = { owner = {}, open_for = function() error("nothing is written") end }
    local run = waiting:run(writer)
    assert.equal(folded({ document }), projection.render(run.state, { sorted = true }))
    assert.same({ "queued", 1, 1, 1, 1, nil },
      { run.status, run.seq, run.committed_seq, run.event_seq, run.metrics.event_count, run.started_ms })
    assert.equal(writer, run.writer)
    assert.equal(run, waiting.became)
  end)

  it("becomes the run that it is while its start is being stored, to which that is told then", function()
    local waiting, document = announce()
    local writer = new_writer()
    waiting:start(writer)
    local run = waiting:run(writer)
    local entry = writer.batch.by_run[run]
    assert.equal(folded({ document, entry.documents[1] }), projection.render(run.state, { sorted = true }))
    assert.same({ "starting", 2, 1, 1, 2, waiting.started_ms },
      { run.status, run.seq, run.committed_seq, run.event_seq, run.metrics.event_count, run.started_ms })
    assert.same({ run, nil, run, run }, { entry.run, writer.batch.by_run[waiting], writer.batch.op_run[1],
      writer.batch.op_run[2] })
    writer.batch:remove(run)
    assert.is_true(writer.batch:is_empty())
  end)
end)
