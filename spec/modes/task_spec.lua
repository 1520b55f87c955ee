-- What people see of a task, what its messages carry, and that its cost does not grow with the number of updates.

local json = require("host.json")

local modes = require("spec.support.modes")

describe("the task mode", function()
  local rev

  setup(function() rev = modes.shipped("task") end)
  teardown(function() rev:close() end)

  before_each(function()
    assert(rev:start("s", modes.start({ initiator = "lead", participants = { "ann", "bob" } })))
  end)
  after_each(function() rev:drop("s") end)

  local function send(...) modes.send(rev, "s", ...) end

  local function play()
    send("lead", "TaskRequest", { task_id = "t1", title = "index", instructions = "rebuild", input = "\0\255",
      deadline_unix_ms = 1900000000000 })
    send("bob", "TaskReject", { task_id = "t1", reason = "busy" })
    send("ann", "TaskAccept", { task_id = "t1" })
    send("ann", "TaskUpdate", { task_id = "t1", status = "running", progress = 0.25, message = "a quarter",
      partial_output = "\1\2\3" })
  end

  local function view() return json.decode((rev:render("s"))).view end

  it("shows the task, who has it and how far it is", function()
    assert.equal("no task yet", rev:summary("s"))
    play()
    assert.same({
      status = "assigned", assignee = "ann", progress = 0.25, update_count = 1,
      task = { id = "t1", title = "index", instructions = "rebuild", by = "lead", deadline_unix_ms = 1900000000000,
        input_bytes = 2 },
      updates = { { by = "ann", status = "running", progress = 0.25, message = "a quarter", output_bytes = 3 } },
      rejections = { { by = "bob", reason = "busy" } },
      policy = { id = "policy.default", reassignment = false, output_required = false },
    }, view())
    assert.equal("assigned: index (ann), running", rev:summary("s"))
    send("ann", "TaskFail", { task_id = "t1", error_code = "E1", reason = "no disk", retryable = true })
    assert.same({ by = "ann", outcome = "failed", error_code = "E1", reason = "no disk", retryable = true },
      view().report)
    assert.equal("failed: index (ann)", rev:summary("s"))
  end)

  it("has empty lists as lists", function()
    local text = rev:render("s")
    for _, name in ipairs({ "updates", "rejections" }) do
      assert.truthy(text:find('"' .. name .. '":[]', 1, true), name)
    end
  end)

  it("maps messages to events of the task", function()
    assert(rev:start("o", modes.start({ initiator = "lead", participants = { "ann", "bob" } })))
    local function observe(by, name, payload)
      payload.task_id = "t1"
      local _, events = rev:observe("o", name, by, modes.encode(rev, name, payload), 1, "m")
      local event = events[1]
      assert.same({ "proposal", "t1" }, { event.kind, event.id })
      return { event.type, event.label, event.vote }
    end
    assert.same({ "proposal.created", "TaskRequest" }, observe("lead", "TaskRequest", { title = "index" }))
    assert.same({ "proposal.updated", "TaskReject", "deny" }, observe("bob", "TaskReject", {}))
    assert.same({ "proposal.updated", "TaskAccept", "allow" }, observe("ann", "TaskAccept", {}))
    assert.same({ "proposal.updated", "TaskUpdate" }, observe("ann", "TaskUpdate", { status = "running" }))
    assert.same({ "proposal.updated", "TaskUpdate" }, observe("ann", "TaskUpdate", {}))
    assert.same({ "proposal.updated", "TaskComplete" }, observe("ann", "TaskComplete", {}))
    assert.same({ "proposal.updated", "TaskFail" }, observe("ann", "TaskFail", {}))
    rev:drop("o")
  end)

  it("answers its routes and shapes deliveries", function()
    local none, err = rev:route("s", 1, {})
    assert.is_nil(none)
    assert.equal("NOT_FOUND", err.code)
    play()
    send("ann", "TaskComplete", { task_id = "t1", output = "\0\1", summary = "built" })
    local status, body = rev:route("s", 1, {})
    assert.equal(200, status)
    assert.same({ by = "ann", outcome = "completed", summary = "built", output = "AAE=", output_bytes = 2 },
      json.decode(body))
    status, body = rev:route("s", 2, {})
    assert.equal(200, status)
    assert.equal(1, json.decode(body).count)
  end)

  it("refuses progress that is no number", function()
    play()
    for _, bits in ipairs({ "\0\0\0\0\0\0\248\127", "\0\0\0\0\0\0\240\127", "\0\0\0\0\0\0\240\255" }) do
      local verdict, refused = rev:submit("s", "TaskUpdate", "ann", "\10\2t1\25" .. bits, 1)
      assert.is_nil(verdict)
      assert.equal("INVALID_ENVELOPE", refused.code)
      assert.truthy(refused.message:find("progress", 1, true), refused.message)
    end
  end)

  it("tells that a failure was not blocked where outcomes are read leniently", function()
    local lenient = modes.shipped("task", { lenient_outcomes = true })
    local function commit(action)
      assert(lenient:start("s", modes.start({ initiator = "lead", participants = { "ann" },
        policy = { policy_id = "p", mode = "*", schema_version = 1,
          rules = { completion = { require_output = true } } } })))
      for _, step in ipairs({ { "lead", "TaskRequest" }, { "ann", "TaskAccept" }, { "ann", "TaskComplete" } }) do
        assert(lenient:submit("s", step[2], step[1], modes.encode(lenient, step[2], { task_id = "t1" }), 1))
      end
      return lenient:submit("s", "Commitment", "lead", modes.commitment(lenient, { action = action,
        outcome_positive = action == "task.completed" }), 1)
    end
    local _, refused = commit("task.completed")
    assert.same({ "POLICY_DENIED", "completion.require_output" }, { refused.code, refused.rule })
    local verdict, _, _, _, details = commit("task.failed")
    assert.equal("resolved", verdict)
    assert.truthy(details:find("does not block a failure", 1, true), details)
    lenient:close()
  end)

  it("costs the same per update, per view and per commitment in a long session", function()
    play()
    local update = modes.encode(rev, "TaskUpdate", { task_id = "t1", status = "running", progress = 0.5 })
    local function used(call)
      call()
      return rev.iso:last_instructions()
    end
    local function measure()
      return used(function() rev:submit("s", "TaskUpdate", "ann", update, 1) end), used(function() rev:render("s") end),
        used(function() rev:submit("s", "Commitment", "lead", modes.commitment(rev, { action = "task.completed" }), 1,
          2) end)
    end
    rev.iso:set_step(10)
    for _ = 1, 100 do rev:submit("s", "TaskUpdate", "ann", update, 1) end
    local message, shown, commitment = measure()
    for _ = 1, 5000 do rev:submit("s", "TaskUpdate", "ann", update, 1) end
    local message_later, shown_later, commitment_later = measure()
    rev.iso:set_step(1000)
    assert.is_true(message_later <= message * 1.2, message .. " " .. message_later)
    assert.is_true(shown_later <= shown * 1.2, shown .. " " .. shown_later)
    assert.is_true(commitment_later <= commitment * 1.2, commitment .. " " .. commitment_later)
  end)
end)
