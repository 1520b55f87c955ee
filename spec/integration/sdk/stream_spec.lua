-- Streams and watchers of the SDK against a real runtime.

local fs = require("host.fs")
local rpc = require("host.rpc")
local task = require("host.task")

local macp = require("macp.sdk")
local messages = require("macp.protocol.messages")

local sdk_rig = require("spec.support.sdk_rig")

local raised, start_fields, DECISION = sdk_rig.raised, sdk_rig.start_fields, sdk_rig.DECISION

describe("a stream", function()
  local rig, lead, ana

  setup(function()
    rig = sdk_rig.start()
    lead, ana = rig:client("lead"), rig:client("ana")
  end)
  teardown(function() rig:close() end)

  local function open()
    local session = lead:session(DECISION)
    session:start(start_fields())
    return session
  end

  local function envelope(session, message_type, payload)
    return macp.builder.envelope({ mode = DECISION, message_type = message_type, session_id = session.session_id,
      sender = "ana", payload = session.rev:codec(message_type):encode(payload) })
  end

  it("sends envelopes and reads their echo", function()
    local session = open()
    local stream = ana:session(DECISION, { session_id = session.session_id }):open_stream()
    assert.equal("SessionStart", stream:read().message_type)
    local sent = envelope(session, "Proposal", { proposal_id = "p1", option = "x" })
    stream:send(sent)
    local echo = stream:read()
    assert.same({ sent.message_id, "ana", sent.payload }, { echo.message_id, echo.sender, echo.payload })
    stream:cancel()
    session:close()
  end)

  it("tells refusals and goes on", function()
    local session = open()
    local stream = ana:open_stream()
    local refusals = {}
    stream:on_inline_error(function(failure) refusals[#refusals + 1] = failure end)
    stream:subscribe(session.session_id, 1)
    local bad = envelope(session, "Vote", { proposal_id = "none", vote = "APPROVE" })
    stream:send(bad)
    stream:send(envelope(session, "Proposal", { proposal_id = "p1", option = "x" }))
    assert.equal("Proposal", stream:read().message_type)
    assert.equal(1, #refusals)
    assert.same({ bad.message_id, session.session_id }, { refusals[1].message_id, refusals[1].session_id })
    assert.is_string(refusals[1].code)
    stream:cancel()
    session:close()
  end)

  it("ends after close() and stays ended", function()
    local session = open()
    local stream = session:open_stream()
    assert.equal("SessionStart", stream:read().message_type)
    stream:close()
    stream:close()
    assert.is_nil(stream:read())
    assert.is_nil(stream:read())
    local err = raised("MacpSdkError", stream.subscribe, stream, session.session_id)
    assert.equal("stream is already closed", err.message)
    session:close()
  end)

  it("wakes its reader at cancel(), once with an error, then with the end", function()
    local session = open()
    local stream = session:open_stream()
    stream:read()
    local problem
    local reader = task.spawn(function() problem = raised("MacpTransportError", stream.read, stream) end)
    task.sleep(20)
    stream:cancel()
    stream:cancel()
    reader:join()
    assert.equal("CANCELLED", problem.code)
    assert.is_nil(stream:read())
    raised("MacpSdkError", stream.send, stream, envelope(session, "Proposal", { proposal_id = "p", option = "x" }))
    session:close()
  end)

  it("may have a deadline of its own, but not the one of unary calls", function()
    local hurried = rig:client("lead", { default_timeout_ms = 100 })
    local session = hurried:session(DECISION)
    session:start(start_fields())
    local patient = session:open_stream()
    local limited = session:open_stream({ timeout_ms = 150 })
    patient:read()
    limited:read()
    assert.equal("DEADLINE_EXCEEDED", raised("MacpTimeoutError", limited.read, limited).code)
    assert.is_nil(limited:read())
    session:suspend()
    session:resume()
    session:proposal({ proposal_id = "p", option = "x" }, { auth = macp.auth.for_dev_agent("ana") })
    assert.equal("Proposal", patient:read().message_type)
    patient:cancel()
    session:close()
  end)

  it("lets a refusal end the reading when its callback raises", function()
    local session = open()
    local stranger = rig:client("stranger"):open_stream({ timeout_ms = 5000 })
    stranger:on_inline_error(function(failure) error(failure.code, 0) end)
    stranger:subscribe(session.session_id)
    local ok, err = pcall(stranger.read, stranger)
    assert.same({ false, "FORBIDDEN" }, { ok, err })
    stranger:cancel()
    local following = rig:client("stranger"):session(DECISION, { session_id = session.session_id })
    assert.equal("FORBIDDEN", raised("MacpSessionError", following.follow, following, function() end).code)
    session:close()
  end)

  it("reports frames that do not decode", function()
    local server = assert(rpc.listen({ methods = { [messages.rpc("StreamSession").path] = "bidi" } }))
    server:serve(function(call)
      call:write("\255\255\255")
      call:wait_closed()
      call:finish(0)
    end)
    local client = macp.client({ target = "127.0.0.1:" .. server:port(), allow_insecure = true,
      auth = macp.auth.for_dev_agent("ana") })
    local stream = client:open_stream()
    assert.equal("INTERNAL", raised("MacpTransportError", stream.read, stream).code)
    assert.is_nil(stream:read())
    client:close()
    server:close()
  end)
end)

describe("a watcher", function()
  local rig, lead, dir

  setup(function()
    dir = assert(fs.temp_dir("macp-sdk-watch"))
    rig = sdk_rig.start({ mode_dirs = { dir } })
    lead = rig:client("lead")
  end)
  teardown(function()
    rig:close()
    fs.remove_tree(dir)
  end)

  it("of sessions tells what exists first, then what happens", function()
    local known = lead:session(DECISION)
    known:start(start_fields())
    local watch = macp.watch.sessions(lead)
    local first = watch:next()
    assert.same({ "CREATED", known.session_id, "OPEN", false },
      { first.event_type, first.session.session_id, first.session.state, first.is_terminal })
    local later = lead:session(DECISION)
    later:start(start_fields())
    known:suspend()
    known:resume()
    known:cancel()
    local events = {}
    for item in watch:changes() do
      events[#events + 1] = item.event_type .. (item.session.session_id == known.session_id and "" or " later")
      if item.is_terminal then break end
    end
    assert.same({ "CREATED later", "SUSPENDED", "RESUMED", "CANCELLED" }, events)
    watch:close()
    watch:close()
    later:close()
    known:close()
  end)

  it("of signals tells signals and progress from now on", function()
    local watch = macp.watch.signals(lead)
    local got = {}
    local reader = task.spawn(function()
      for item in watch:changes() do
        got[#got + 1] = item
        if item.message_type == "Progress" then break end
      end
    end)
    -- The watch is open when the runtime has answered on it; until then signals may pass unseen.
    local ana = rig:client("ana")
    while #got == 0 do
      ana:send_signal({ signal_type = "note", data = "hello", confidence = 0.5 })
      task.sleep(10)
    end
    ana:send_progress({ progress_token = "t", progress = 1, total = 4 })
    reader:join()
    watch:close()
    local last = got[#got]
    assert.same({ "Signal", "ana", "Progress", "ana" },
      { got[1].message_type, got[1].sender, last.message_type, last.sender })
    local payload = messages.codec("macp.v1.SignalPayload"):decode(got[1].payload)
    assert.same({ "note", "hello", 0.5 }, { payload.signal_type, payload.data, payload.confidence })
  end)

  it("of modes tells that a folder came", function()
    local watch = macp.watch.modes(lead)
    assert.is_table(watch:next())
    assert(fs.mkdir_p(dir .. "/.new"))
    assert(fs.write(dir .. "/.new/mode.lua", [[
      return { id = "ext.added.v1", version = "1.0.0", title = "Added", summary = "Added.",
        determinism = "semantic-deterministic", state = { n = 0 },
        messages = { Tick = {
          from = "participant", payload = "int64 by = 1;", needs = {}, apply = function(s) s.n = 1 end } },
        outcomes = { { action = "spec.completed", positive = true } } }]]))
    assert(fs.rename(dir .. "/.new", dir .. "/added"))
    assert.is_table(watch:next())
    watch:close()
    local found = false
    for _, mode in ipairs(lead:list_ext_modes().modes) do found = found or mode.mode == "ext.added.v1" end
    assert.is_true(found)
  end)

  it("gives its first item and ends", function()
    assert.is_table(macp.watch.modes(lead):first())
  end)

  it("reports a failed watch", function()
    local server = assert(rpc.listen({ methods = {
      [messages.rpc("WatchSignals").path] = "server_stream", [messages.rpc("WatchSessions").path] = "server_stream",
    } }))
    server:serve(function(call)
      if call.method == messages.rpc("WatchSignals").path then return call:finish(0) end
      call:finish(rpc.status.RESOURCE_EXHAUSTED, "the reader fell behind")
    end)
    local client = macp.client({ target = "127.0.0.1:" .. server:port(), allow_insecure = true,
      auth = macp.auth.for_dev_agent("ana") })
    local watch = macp.watch.sessions(client)
    assert.equal("RESOURCE_EXHAUSTED", raised("MacpTransportError", watch.next, watch).code)
    watch = macp.watch.signals(client)
    assert.equal("the watch ended before its first item", raised("MacpSdkError", watch.first, watch).message)
    client:close()
    server:close()
  end)
end)
