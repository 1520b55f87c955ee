-- A runtime that answers nonsense: the plane stays up and serves everybody else, what it was told wrongly is an error
-- that says what is wrong, and nothing of another session gets into a run.

local crypto = require("host.crypto")
local rpc = require("host.rpc")
local task = require("host.task")

local json = require("macp.core.json")
local tables = require("macp.core.tables")

local eventually = require("spec.support.eventually")
local odd = require("spec.support.odd_runtime")
local plane_rig = require("spec.support.plane_rig")

local GARBAGE = "\255\255\255garbage"

local stop_database

setup(function() stop_database = plane_rig.share_database() end)
teardown(function() stop_database() end)

describe("a runtime that talks nonsense", function()
  local rig, runtime

  setup(function()
    runtime = odd.start()
    rig = plane_rig.start({ address = runtime.address, env = { SESSION_POLL_TIMEOUT_MS = "1500",
      RUNTIME_CIRCUIT_BREAKER_THRESHOLD = "1000" } })
  end)
  teardown(function()
    rig:destroy()
    runtime:close()
  end)
  before_each(function() runtime.answers = {} end)

  -- A bystander of every spec: the plane answers, and all of its tasks live.
  after_each(function()
    assert.equal(200, (rig:get("/runs")))
    for _, child in ipairs(rig.plane:status().tasks) do
      assert.not_equal("failed", child.state, json.encode(child))
    end
  end)

  local function announce(mode_name)
    local id = crypto.uuid4()
    local body = plane_rig.descriptor(id)
    body.session.modeName = mode_name or body.session.modeName
    local status, accepted = rig:post("/runs", body)
    assert.equal(202, status)
    return accepted.runId, id
  end

  local function fails_with(run_id, code, words)
    local run = rig:await(run_id, "failed", 10000)
    assert.same({ code }, { run.errorCode })
    assert.truthy(run.errorMessage:find(words, 1, true), run.errorMessage)
  end

  -- A run that observes a session, whose stream has been asked for; frames(id, after) is what its streams tell.
  local function observed(frames, changes)
    local run_id, id = announce()
    local is_asked = false
    runtime:stream(function(after, session_id)
      is_asked = is_asked or session_id == id
      return frames(id, after)
    end)
    runtime:know(odd.metadata(id, changes))
    rig:await(run_id, "running", 10000)
    eventually(function() return is_asked end, 10000, "the stream of the session")
    return run_id, id
  end

  local function only_start(id) return { odd.frame(odd.start_envelope(id)) } end

  local function received(run_id)
    return rig:rows([[select coalesce(string_agg(document::json->'data'->>'messageId', ' ' order by seq), '') as ids
      from run_events_canonical where run_id = $1 and type = 'message.received']], run_id)[1].ids
  end

  local function receives(run_id, ids)
    eventually(function() return received(run_id) == ids, received(run_id) end, 10000, "the messages")
  end

  local function statuses(run_id)
    local out = {}
    for _, event in ipairs(rig:events(run_id)) do
      if event.type == "session.stream.opened" then out[#out + 1] = event.data.status end
    end
    return out
  end

  -- --- answers ---

  it("fails a run when an answer is not readable, and says which", function()
    local run_id = announce()
    runtime.answers.GetSession = function(call) call:reply(GARBAGE) end
    fails_with(run_id, "INTERNAL_ERROR", "the runtime's answer to GetSession is not readable: ")
    runtime.answers = { Initialize = function(call) call:reply(GARBAGE) end }
    fails_with((announce("macp.mode.task.v1")), "INTERNAL_ERROR", -- of a known mode it is not asked again
      "the runtime's answer to Initialize is not readable: ")
  end)

  it("fails a run when it tells of another session than was asked for, and binds nothing of it", function()
    local other = crypto.uuid4()
    local run_id, id = announce()
    runtime.answers.GetSession = function(call)
      call:reply(odd.encode("macp.v1.GetSessionResponse", { metadata = odd.metadata(other) }))
    end
    fails_with(run_id, "INTERNAL_ERROR", "the runtime was asked for session " .. id .. " and told of session " .. other)
    assert.equal(0, rig:rows("select count(*) as n from runtime_sessions where run_id = $1", run_id)[1].n)
    runtime.answers.GetSession = function(call) call:reply("") end
    run_id, id = announce()
    fails_with(run_id, "INTERNAL_ERROR", "the runtime was asked for session " .. id .. " and told of none")
  end)

  it("fails a run when the session does not come, with the last answer", function()
    local run_id = announce()
    fails_with(run_id, "RUNTIME_TIMEOUT",
      "the session was not opened in time (the last answer: no session has this id)")
    run_id = announce()
    runtime.answers.GetSession = function(call)
      local id = call:decode(require("macp.protocol.messages").codec("macp.v1.GetSessionRequest")).session_id
      call:reply(odd.encode("macp.v1.GetSessionResponse", { metadata = odd.metadata(id, { state = 0 }) }))
    end
    fails_with(run_id, "RUNTIME_TIMEOUT", "(the last answer: SESSION_STATE_UNSPECIFIED)")
  end)

  it("fails a run with what the runtime refuses", function()
    for status, code in pairs({ INVALID_ARGUMENT = "VALIDATION_ERROR", UNAUTHENTICATED = "UNAUTHENTICATED",
      PERMISSION_DENIED = "FORBIDDEN", UNIMPLEMENTED = "NOT_IMPLEMENTED", INTERNAL = "INTERNAL_ERROR" }) do
      runtime.answers.GetSession = function(call) call:fail(rpc.status[status], "because of " .. status) end
      fails_with((announce()), code, "because of " .. status)
    end
  end)

  it("keeps a run of a mode that nobody knows, with what every envelope tells", function()
    local run_id = observed(function(id)
      return { odd.frame(odd.start_envelope(id, { mode = "ext.nobody.v9" })), odd.frame(odd.envelope(id, 1)) }
    end, { mode = "ext.nobody.v9" })
    receives(run_id, "m0 m1")
  end)

  it("keeps a run whose session has absurd times, as far as they can be stored", function()
    local run_id = observed(function(id)
      return { odd.frame(odd.start_envelope(id, { timestamp_unix_ms = "9223372036854775807" })),
        odd.frame(odd.envelope(id, 1, { timestamp_unix_ms = "-9223372036854775808" })),
        odd.frame(odd.envelope(id, 2, { timestamp_unix_ms = 1 })) }
    end, { started_at_unix_ms = "9223372036854775807", expires_at_unix_ms = "-5" })
    receives(run_id, "m0 m1 m2")
    local row = rig:rows("select started_at, expires_at from runtime_sessions where run_id = $1", run_id)[1]
    assert.is_nil(row.started_at)
    assert.is_nil(row.expires_at)
    assert.equal(200, (rig:get("/runs/" .. run_id .. "/state")))
  end)

  it("keeps a run whose session has ten thousand participants", function()
    local names = {}
    for i = 1, 10000 do names[i] = "p" .. i end
    local run_id = observed(only_start, { participants = names })
    receives(run_id, "m0")
    assert.equal(200, (rig:get("/runs/" .. run_id .. "/state")))
  end)

  -- --- streams ---

  it("keeps what it cannot read as bytes, and reads on", function()
    local run_id = observed(function(id)
      local broken = odd.frame(odd.envelope(id, 1, { message_id = "XXXX" })):gsub("XXXX", "\255\254\0\255")
      return { odd.frame(odd.start_envelope(id)), broken, GARBAGE, odd.frame(odd.envelope(id, 2)) }
    end)
    receives(run_id, "m0 m2")
    local rows = rig:rows([[select ordinal, frame from run_events_raw where run_id = $1 and kind = 'undecodable'
      order by seq]], run_id)
    assert.same({ 2, 2, 3, GARBAGE }, { #rows, rows[1].ordinal, rows[2].ordinal, rows[2].frame })
  end)

  it("stores nothing of other sessions", function()
    local run_id = observed(function(id)
      local other = crypto.uuid4()
      return { odd.frame(odd.start_envelope(other)), odd.frame(odd.start_envelope(id)),
        odd.frame(odd.envelope(other, 7)), odd.frame(odd.envelope(id, 1)) }
    end)
    receives(run_id, "m0 m1")
    assert.equal(2, rig:rows("select max(ordinal) as n from run_events_raw where run_id = $1", run_id)[1].n)
  end)

  it("stores what comes twice once, also when every stream begins at the beginning", function()
    local streams = 0
    local run_id, id = observed(function(session_id)
      streams = streams + 1
      local frames = only_start(session_id)
      for i = 1, 3 + streams do
        frames[#frames + 1] = odd.frame(odd.envelope(session_id, i))
        frames[#frames + 1] = odd.frame(odd.envelope(session_id, i))
      end
      return frames
    end)
    receives(run_id, "m0 m1 m2 m3 m4")
    rig.plane.owner:of_session(id).stream:cancel()
    receives(run_id, "m0 m1 m2 m3 m4 m5")
  end)

  it("takes envelopes in any order, a start in the middle and two of them", function()
    local run_id = observed(function(id)
      return { odd.frame(odd.envelope(id, 5)), odd.frame(odd.envelope(id, 1)), odd.frame(odd.start_envelope(id)),
        odd.frame(odd.start_envelope(id, { message_id = "again" })), odd.frame(odd.envelope(id, 3)) }
    end)
    receives(run_id, "m5 m1 m0 again m3")
    local status, state = rig:get("/runs/" .. run_id .. "/state")
    assert.equal(200, status)
    assert.equal("running", state.run.status)
  end)

  it("does not spin when every stream ends at once, or is refused for a gap that is none", function()
    for _, answer in ipairs({
      function(call) call:finish(rpc.status.OK) end,
      function(call) call:fail(rpc.status.FAILED_PRECONDITION, "the first ordinal is 0") end,
      function(call) call:fail(rpc.status.FAILED_PRECONDITION, "the first ordinal is 99999999999999999999999") end,
      function(call) call:fail(rpc.status.INTERNAL, "no") end,
    }) do
      local run_id, id = announce()
      runtime:know(odd.metadata(id))
      runtime.answers.StreamSession = answer
      rig:await(run_id, "running", 10000)
      local before = runtime.calls.StreamSession or 0
      task.sleep(600)
      local opened = runtime.calls.StreamSession - before
      assert.is_true(opened >= 1 and opened <= 60, opened .. " streams in 600 ms")
      assert.is_true(#statuses(run_id) <= 2 * opened + 4, #statuses(run_id) .. " events of " .. opened .. " streams")
      runtime:stream(function() return { odd.frame(odd.start_envelope(id)) } end)
      receives(run_id, "m0")
      runtime.answers.GetSession = nil
      rig.plane.owner:of_session(id).stream:cancel()
      fails_with(run_id, "STREAM_EXHAUSTED", "the runtime no longer knows the session")
    end
  end)

  it("goes on after a gap from where the runtime can tell, whichever of the two numbers it names", function()
    for _, smallest in ipairs({ 40, 41 }) do -- envelopes 41 and on are there
      local run_id, id = announce()
      runtime:know(odd.metadata(id))
      runtime.answers.StreamSession = function(call)
        local after = tonumber(odd.decode_subscribe(call:read()).after_sequence) or 0
        if after < 40 then
          call:write(odd.encode("macp.v1.StreamSessionResponse", { error = { code = "FAILED_PRECONDITION",
            message = "dropped in " .. id .. "; the smallest is " .. smallest } }))
        else
          for n = after + 1, 43 do call:write(odd.frame(odd.envelope(id, n))) end
        end
        call:wait_closed()
      end
      rig:await(run_id, "running", 10000)
      receives(run_id, "m41 m42 m43")
      assert.same({ "opened", "gap" }, statuses(run_id))
      local rows = rig:rows([[select min(ordinal) as a, max(ordinal) as z from run_events_raw
        where run_id = $1]], run_id)
      assert.same({ 41, 43 }, { rows[1].a, rows[1].z })
    end
  end)

  it("fails a run when the runtime was restarted empty, and when it serves another session under the id", function()
    local run_id, id = observed(only_start)
    receives(run_id, "m0")
    runtime.answers.GetSession = nil
    rig.plane.owner:of_session(id).stream:cancel()
    fails_with(run_id, "STREAM_EXHAUSTED", "the runtime no longer knows the session")

    run_id, id = observed(only_start)
    receives(run_id, "m0")
    runtime:know(odd.metadata(id, { started_at_unix_ms = 1790000099000 }))
    runtime:stream(function() return { odd.frame(odd.envelope(id, 9)) } end)
    rig.plane.owner:of_session(id).stream:cancel()
    fails_with(run_id, "STREAM_EXHAUSTED", "the runtime has another session under this id: it was started at "
      .. "2026-09-21T14:14:59.000Z, the one of this run at 2026-09-21T14:13:20.000Z")
    assert.equal("m0", received(run_id))
  end)

  -- --- the watch ---

  -- Ends the watch that is there; the next one follows the orders of now. (yields)
  local function watch_again()
    eventually(function() return rig.plane.discovery.stream end, 10000, "a watch")
    rig.plane.discovery.stream:cancel()
  end

  local function discovers(id)
    eventually(function() return rig:get("/runs/" .. id) == 200 end, 10000, "the run of " .. id)
  end

  it("P25: is not watched without a pause when every watch ends at once", function()
    runtime.answers.WatchSessions = function(call) call:finish(rpc.status.OK) end
    watch_again()
    eventually(function() return not rig.plane.discovery.connected end, 10000, "the end of the watch")
    local before = runtime.calls.WatchSessions or 0
    task.sleep(1500)
    local opened = (runtime.calls.WatchSessions or 0) - before
    runtime.answers.WatchSessions = nil
    assert.is_true(opened <= 12, opened .. " watches in 1500 ms")
  end)

  it("takes from the watch what makes sense and lets the rest go", function()
    local good, changed = crypto.uuid4(), crypto.uuid4()
    runtime:stream(function() return {} end)
    runtime:watch(function()
      local events = {
        { event_type = 1 }, { event_type = 17, session = odd.metadata(crypto.uuid4()) },
        { event_type = 1, session = odd.metadata("") }, { event_type = 1, session = odd.metadata(("x"):rep(70000)) },
        { event_type = 1, session = odd.metadata("nul\0nul") },
        { event_type = 1, session = odd.metadata(changed, { state = 99 }) },
        { event_type = 4, session = odd.metadata(changed, { state = 0 }), observed_at_unix_ms = "9223372036854775807" },
        { event_type = 5, session = odd.metadata(changed), observed_at_unix_ms = "-7" },
        { event_type = 1, session = { session_id = crypto.uuid4() } },
      }
      for _ = 1, 500 do events[#events + 1] = { event_type = 1, session = odd.metadata(good) } end
      return events
    end)
    watch_again()
    discovers(good)
    discovers(changed)
    assert.equal(1, rig:rows("select count(*) as n from runs where runtime_session_id = $1", good)[1].n)
    eventually(function() -- nothing is tried for ever
      return rig.plane.discovery.places.taken == 0, json.encode(tables.sorted_keys(rig.plane.discovery.entering))
    end, 10000, "the end of every entry")
  end)

  local NUL = "nul\0nul"
  for _, field in ipairs({ "mode", "mode_version", "configuration_version", "policy_version", "initiator", "context_id",
    "participants", "extension_keys" }) do
    it("is kept from the database when it has a NUL in " .. field, function()
      local value = NUL
      if field == "participants" or field == "extension_keys" then value = { NUL } end
      local id = crypto.uuid4()
      runtime:stream(function() return {} end)
      runtime:watch(function() return { { event_type = 1, session = odd.metadata(id, { [field] = value }) } } end)
      watch_again()
      discovers(id)
      local other = observed(only_start, { [field] = value })
      receives(other, "m0")
      local bystanders = {}
      for i = 1, 4 do bystanders[i] = observed(only_start) end -- of every writer
      for _, run_id in ipairs(bystanders) do receives(run_id, "m0") end
    end)
  end

  it("counts lists of sessions that cannot be read, and goes on watching", function()
    local counter = rig.plane.metrics.reconcile_failures
    local answers = {
      function(call) call:reply(GARBAGE) end,
      function(call) call:fail(rpc.status.INTERNAL, "no list") end,
      function(call) call:reply(odd.encode("macp.v1.ListSessionsResponse", { next_page_token = "again" })) end,
    }
    runtime:stream(function() return {} end)
    for _, answer in ipairs(answers) do
      runtime.answers.ListSessions = answer
      local before = counter.value
      watch_again()
      eventually(function() return counter.value == before + 1 end, 10000, "a failure that is counted")
      local id = crypto.uuid4()
      runtime:watch(function() return { { event_type = 1, session = odd.metadata(id) } } end)
      watch_again()
      discovers(id)
    end
  end)

  it("is not believed when it acknowledges nothing", function()
    local run_id = observed(only_start)
    runtime.answers.SuspendSession = function(call) call:reply("") end
    local status, problem = rig:post("/runs/" .. run_id .. "/suspend")
    assert.same({ 500, "INTERNAL_ERROR" }, { status, problem.errorCode })
    runtime.answers.SuspendSession = function(call) call:reply(GARBAGE) end
    status = rig:post("/runs/" .. run_id .. "/suspend")
    assert.equal(500, status)
    assert.equal("running", select(2, rig:get("/runs/" .. run_id)).status)
  end)
end)
