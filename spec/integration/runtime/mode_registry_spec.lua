-- Modes registered, unregistered and promoted over the wire, and their sessions.

local client = require("spec.support.runtime_client")

local crypto = require("host.crypto")
local fs = require("host.fs")
local json = require("host.json")
local task = require("host.task")

local eventually = require("spec.support.eventually")

local UNAUTHENTICATED, PERMISSION_DENIED, INVALID_ARGUMENT = 16, 7, 3
local OPEN, RESOLVED = 1, 2

local function descriptor(changes)
  local out = {
    mode = "ext.chat.v1", mode_version = "1.2.0", title = "Chat", description = "Talk.",
    message_types = { "SessionStart", "Ping", "Pong", "Commitment" }, terminal_message_types = { "Commitment" },
    schema_uris = { proto = "https://example.org/chat.proto" },
  }
  for key, value in pairs(changes or {}) do out[key] = value end
  return out
end

local function register(rig, changes, token)
  return rig:call(token or "boss", "RegisterExtMode", { mode_descriptor = descriptor(changes) })
end

local function refusal(rig, changes)
  local answer = assert(register(rig, changes))
  assert.is_false(answer.ok)
  return answer.error
end

local function ids(rig, method)
  local out = {}
  for i, mode in ipairs(assert(rig:call(nil, method)).modes) do out[i] = mode.mode end
  return out
end

local function contains(list, wanted)
  for _, item in ipairs(list) do
    if item == wanted then return true end
  end
  return false
end

local function supported(rig)
  return assert(rig:call(nil, "Initialize", { supported_protocol_versions = { "1.0" } })).supported_modes
end

-- A SessionStart with nothing but a time to live.
local function start(rig, mode, fields, id)
  id = id or crypto.uuid4()
  local payload = { participants = {}, mode_version = "", configuration_version = "", intent = "", ttl_ms = 60000 }
  for key, value in pairs(fields or {}) do payload[key] = value end
  return rig:send("host", client.start_envelope(id, payload, { mode = mode })), id
end

local serial = 0

local function send(rig, sender, id, mode, message_type, payload)
  serial = serial + 1
  return rig:send(sender, client.envelope({ mode = mode, session_id = id, message_type = message_type,
    message_id = "n" .. serial, payload = payload or "" }))
end

local function commitment(fields)
  local payload = { commitment_id = "c1", action = "chat.completed", authority_scope = "chat", reason = "done",
    mode_version = "1.2.0", configuration_version = "", policy_version = "", outcome_positive = true }
  for key, value in pairs(fields or {}) do payload[key] = value end
  return client.payload("macp.v1.CommitmentPayload", payload)
end

local function state_of(rig, id)
  return assert(rig:call("host", "GetSession", { session_id = id })).metadata
end

describe("the mode registry over the wire", function()
  local rig

  setup(function() rig = assert(client.start()) end)
  teardown(function() rig:destroy() end)

  it("lists a registered mode until it is unregistered", function()
    assert.same({ ok = true, error = "" }, assert(register(rig)))
    local listed
    for _, mode in ipairs(assert(rig:call(nil, "ListExtModes")).modes) do
      if mode.mode == "ext.chat.v1" then listed = mode end
    end
    local wanted = descriptor({ determinism_class = "", participant_model = "" })
    assert.same(wanted, listed)
    assert.is_false(contains(ids(rig, "ListModes"), "ext.chat.v1"))
    assert.is_true(contains(supported(rig), "ext.chat.v1"))
    local sorted = { unpack(supported(rig)) }
    table.sort(sorted)
    assert.same(sorted, supported(rig))
    local manifest = assert(rig:call(nil, "GetManifest", {})).manifest
    assert.same(supported(rig), manifest.supported_modes)
    assert.same({ ok = true, error = "" }, assert(rig:call("boss", "UnregisterExtMode", { mode = "ext.chat.v1" })))
    assert.is_false(contains(ids(rig, "ListExtModes"), "ext.chat.v1"))
    assert.is_false(contains(supported(rig), "ext.chat.v1"))
  end)

  for _, case in ipairs({
    { "without a name", { mode = " " }, "mode is empty: the descriptor must name it" },
    { "in the reserved namespace", { mode = "macp.mode.chat.v1" },
      "mode 'macp.mode.chat.v1' is in the namespace macp.mode.*, which is reserved for standard modes" },
    { "without message types", { message_types = {} }, "message_types is empty: the mode has no message types" },
    { "without a version", { mode_version = "" }, "mode_version is missing" },
    { "that cannot end", { terminal_message_types = {} },
      "terminal_message_types is empty: a session of this mode could not end" },
    { "that ends by another message", { terminal_message_types = { "Commitment", "Pong" } },
      "terminal message type 'Pong': only Commitment resolves a session" },
    { "whose terminal message is not one of its own", { message_types = { "Ping" } },
      "terminal message type 'Commitment' is not in message_types" },
    { "that a folder provides", { mode = "ext.multi_round.v1" },
      "mode 'ext.multi_round.v1' is already registered: a folder of the program provides it" },
    { "with white space around its name", { mode = " ext.chat.v1" },
      "mode must not have control characters or white space around it" },
    { "with a name that no envelope carries", { mode = ("x"):rep(1025) }, "mode is longer than 1024 bytes" },
    { "with an empty message type", { message_types = { "", "Commitment" } }, "message_types[1] is empty" },
    { "with a novel for a title", { title = ("x"):rep(8193) }, "title is longer than 8192 bytes" },
  }) do
    it("refuses a mode " .. case[1], function()
      local before = ids(rig, "ListExtModes")
      assert.equal(case[3], refusal(rig, case[2]))
      assert.same(before, ids(rig, "ListExtModes"))
    end)
  end

  it("refuses more message types than it can handle", function()
    local types = { "Commitment" }
    for i = 2, 65 do types[i] = "T" .. i end
    assert.equal("message_types has more than 64 entries", refusal(rig, { message_types = types }))
  end)

  it("refuses a descriptor by the first rule it breaks", function()
    assert.truthy(refusal(rig, { mode = "", message_types = {}, mode_version = "" }):find("mode is empty", 1, true))
    assert.truthy(refusal(rig, { mode = "macp.mode.x", message_types = {} }):find("reserved", 1, true))
    assert.truthy(refusal(rig, { message_types = {}, mode_version = "" }):find("message_types is empty", 1, true))
    assert.truthy(refusal(rig, { mode_version = " ", terminal_message_types = {} }):find("mode_version", 1, true))
    assert.truthy(refusal(rig, { mode = "ext.multi_round.v1", message_types = { "X" } }):find("not in", 1, true))
  end)

  it("refuses a second registration and what it cannot unregister", function()
    assert.is_true(assert(register(rig, { mode = "ext.twice.v1" })).ok)
    assert.equal("mode 'ext.twice.v1' is already registered", refusal(rig, { mode = "ext.twice.v1" }))
    local function reason(mode)
      local answer = assert(rig:call("boss", "UnregisterExtMode", { mode = mode }))
      assert.is_false(answer.ok)
      return answer.error
    end
    assert.equal("mode 'ext.none.v1' is not registered", reason("ext.none.v1"))
    assert.equal("mode '' is not registered", reason(""))
    assert.equal("mode 'ext.auction.v1' is built in: a folder of the program provides it", reason("ext.auction.v1"))
    assert.equal("mode 'macp.mode.decision.v1' is built in: a folder of the program provides it",
      reason("macp.mode.decision.v1"))
    assert.is_true(assert(rig:call("boss", "PromoteMode", { mode = "ext.twice.v1" })).ok)
    assert.equal("mode 'ext.twice.v1' is on the standards track and stays registered", reason("ext.twice.v1"))
  end)

  it("needs credentials, the right, and a descriptor", function()
    for method, request in pairs({ RegisterExtMode = { mode_descriptor = descriptor() },
      UnregisterExtMode = { mode = "ext.chat.v1" }, PromoteMode = { mode = "ext.chat.v1" } }) do
      local _, err = rig:call(nil, method, request)
      assert.equal(UNAUTHENTICATED, err.status)
    end
    local _, err = rig:call("boss", "RegisterExtMode", {})
    assert.equal(INVALID_ARGUMENT, err.status)
    assert.equal("mode_descriptor is absent", err.message)
  end)

  it("is closed to identities without the right, whatever they ask", function()
    local tokens = json.encode({ { token = "plain", sender = "ann" },
      { token = "admin", sender = "boss", can_manage_mode_registry = true } })
    local other = assert(client.start({ env = { MACP_AUTH_TOKENS_JSON = tokens } }))
    for method, request in pairs({ RegisterExtMode = {}, UnregisterExtMode = {}, PromoteMode = {} }) do
      local _, err = other:call("plain", method, request)
      assert.equal(PERMISSION_DENIED, err.status)
      assert.truthy(err.message:find("may not manage the mode registry", 1, true))
    end
    assert.is_true(assert(register(other, {}, "admin")).ok)
    other:destroy()
  end)

  it("promotes in place, and to a new name", function()
    register(rig, { mode = "ext.place.v1" })
    register(rig, { mode = "ext.rename.v1" })
    assert.same({ ok = true, error = "", mode = "ext.place.v1" },
      assert(rig:call("boss", "PromoteMode", { mode = "ext.place.v1" })))
    assert.is_true(contains(ids(rig, "ListModes"), "ext.place.v1"))
    assert.is_false(contains(ids(rig, "ListExtModes"), "ext.place.v1"))
    assert.same({ ok = true, error = "", mode = "org.rename.v1" },
      assert(rig:call("boss", "PromoteMode", { mode = "ext.rename.v1", promoted_mode_name = "org.rename.v1" })))
    local standard = ids(rig, "ListModes")
    assert.is_true(contains(standard, "org.rename.v1"))
    assert.is_false(contains(standard, "ext.rename.v1"))
    assert.equal("macp.mode.decision.v1", standard[1])
    assert.is_false(contains(supported(rig), "ext.rename.v1"))
    assert.equal("MODE_NOT_SUPPORTED", start(rig, "ext.rename.v1").error.code)
  end)

  it("lists promoted modes after those of the protocol, by id", function()
    for _, mode in ipairs({ "org.zz.v1", "aa.first.v1" }) do
      assert.is_true(assert(register(rig, { mode = mode })).ok)
      assert.is_true(assert(rig:call("boss", "PromoteMode", { mode = mode })).ok)
    end
    local standard, promoted = {}, {}
    for _, id in ipairs(ids(rig, "ListModes")) do
      if id:find("^macp%.mode%.") then
        assert.same({}, promoted)
        standard[#standard + 1] = id:match("^macp%.mode%.(%w+)")
      else
        promoted[#promoted + 1] = id
      end
    end
    local order = {}
    for i, name in ipairs({ "decision", "proposal", "task", "handoff", "quorum" }) do order[name] = i end
    for i = 2, #standard do assert.is_true(order[standard[i - 1]] < order[standard[i]]) end
    local sorted = { unpack(promoted) }
    table.sort(sorted)
    assert.same(sorted, promoted)
    assert.equal("aa.first.v1", promoted[1])
    local extensions = ids(rig, "ListExtModes")
    sorted = { unpack(extensions) }
    table.sort(sorted)
    assert.same(sorted, extensions)
  end)

  for _, case in ipairs({
    { "an unknown mode", "ext.none.v1", "", "mode 'ext.none.v1' is not registered" },
    { "a standard mode", "macp.mode.decision.v1", "",
      "mode 'macp.mode.decision.v1' is on the standards track already" },
    { "into the reserved namespace", "ext.bad.v1", "macp.mode.bad.v1",
      "'macp.mode.bad.v1' is in the namespace macp.mode.*, which is reserved" },
    { "to a blank name", "ext.bad.v1", "  ", "promoted_mode_name is blank" },
    { "to a name that is taken", "ext.bad.v1", "ext.auction.v1",
      "mode 'ext.auction.v1' is already registered: a folder of the program provides it" },
    { "to a name with white space", "ext.bad.v1", "org.bad.v1 ",
      "promoted_mode_name must not have control characters or white space around it" },
  }) do
    it("does not promote " .. case[1], function()
      register(rig, { mode = "ext.bad.v1" })
      local before = ids(rig, "ListExtModes")
      local answer = assert(rig:call("boss", "PromoteMode", { mode = case[2], promoted_mode_name = case[3] }))
      assert.same({ ok = false, error = case[4], mode = "" }, answer)
      assert.same(before, ids(rig, "ListExtModes"))
    end)
  end

  it("refuses to promote twice", function()
    register(rig, { mode = "ext.once.v1" })
    assert.is_true(assert(rig:call("boss", "PromoteMode", { mode = "ext.once.v1" })).ok)
    local answer = assert(rig:call("boss", "PromoteMode", { mode = "ext.once.v1" }))
    assert.equal("mode 'ext.once.v1' is on the standards track already", answer.error)
  end)

  it("has no roots to list, and says so once", function()
    assert.same({ roots = {} }, assert(rig:call(nil, "ListRoots")))
    local watch = rig:watch(nil, "WatchRoots")
    assert.is_true(assert(watch:read()).change.observed_at_unix_ms > 1600000000000)
    local is_over = false
    local reader = task.spawn(function()
      watch:read()
      is_over = true
    end)
    task.sleep(500)
    assert.is_false(is_over)
    watch:cancel()
    reader:join()
  end)

  it("tells what it serves", function()
    local response = assert(rig:call(nil, "Initialize", { supported_protocol_versions = { "1.0" } }))
    local capabilities = response.capabilities
    assert.same({ list_modes = true, list_changed = true }, capabilities.mode_registry)
    assert.same({ list_roots = true, list_changed = false }, capabilities.roots)
    assert.same({ features = { ext_mode_lifecycle = "true" } }, capabilities.experimental)
    assert.same({ stream = true, list_sessions = true, watch_sessions = true }, capabilities.sessions)
    assert.same({ get_manifest = true }, capabilities.manifest)
    assert.same({ progress = true }, capabilities.progress)
    assert.is_true(response.instructions:find("authorization: Bearer", 1, true) ~= nil)
  end)
end)

describe("sessions of a registered mode", function()
  local rig

  setup(function()
    rig = assert(client.start())
    assert(register(rig))
  end)
  teardown(function() rig:destroy() end)

  it("start with nothing but a time to live, and bind the version of the descriptor", function()
    local ack, id = start(rig, "ext.chat.v1")
    assert.is_true(ack.ok)
    assert.equal("1.2.0", state_of(rig, id).mode_version)
    assert.equal("policy.default", state_of(rig, id).policy_version)
    assert.equal("", state_of(rig, id).configuration_version)
  end)

  it("refuse a start without a time to live, without a payload and with another version", function()
    assert.equal("INVALID_ENVELOPE", start(rig, "ext.chat.v1", { ttl_ms = 0 }).error.code)
    assert.equal("INVALID_ENVELOPE", start(rig, "ext.chat.v1", { ttl_ms = 86400001 }).error.code)
    assert.equal("INVALID_ENVELOPE", start(rig, "ext.chat.v1", { mode_version = "1.0.0" }).error.code)
    local ack = rig:send("host", client.start_envelope(crypto.uuid4(), {}, { mode = "ext.chat.v1", payload = "" }))
    assert.equal("INVALID_ENVELOPE", ack.error.code)
    assert.is_true(start(rig, "ext.chat.v1", { mode_version = "1.2.0" }).ok)
  end)

  it("take opaque payloads of declared types from everybody when nobody was declared", function()
    local _, id = start(rig, "ext.chat.v1")
    assert.is_true(send(rig, "ann", id, "ext.chat.v1", "Ping", "\255\0\1").ok)
    assert.is_true(send(rig, "bob", id, "ext.chat.v1", "Pong").ok)
    assert.equal("INVALID_ENVELOPE", send(rig, "ann", id, "ext.chat.v1", "Pang").error.code)
    assert.equal("FORBIDDEN", send(rig, "ann", id, "ext.chat.v1", "SessionCancel").error.code)
    assert.equal("FORBIDDEN", send(rig, "ann", id, "ext.chat.v1", "Commitment", commitment()).error.code)
    assert.equal("INVALID_ENVELOPE",
      send(rig, "host", id, "ext.chat.v1", "Commitment", commitment({ reason = " " })).error.code)
    assert.equal("INVALID_ENVELOPE",
      send(rig, "host", id, "ext.chat.v1", "Commitment", commitment({ mode_version = "1.0.0" })).error.code)
    assert.equal("INVALID_ENVELOPE",
      send(rig, "host", id, "ext.chat.v1", "Commitment", commitment({ outcome_positive = false })).error.code)
    assert.is_true(send(rig, "host", id, "ext.chat.v1", "Commitment", commitment()).ok)
    assert.equal(RESOLVED, state_of(rig, id).state)
  end)

  it("count the messages of a participant once, however often it was named", function()
    local _, id = start(rig, "ext.chat.v1", { participants = { "ann", "ann", "bob" } })
    send(rig, "ann", id, "ext.chat.v1", "Ping")
    local metadata = state_of(rig, id)
    assert.same({ "ann", "ann", "bob" }, metadata.participants)
    assert.equal(1, #metadata.participant_activity)
    assert.equal(1, metadata.participant_activity[1].message_count)
  end)

  it("take messages only from declared participants", function()
    local _, id = start(rig, "ext.chat.v1", { participants = { "ann" } })
    assert.is_true(send(rig, "ann", id, "ext.chat.v1", "Ping").ok)
    assert.equal("FORBIDDEN", send(rig, "bob", id, "ext.chat.v1", "Ping").error.code)
    assert.equal("FORBIDDEN", send(rig, "host", id, "ext.chat.v1", "Ping").error.code)
  end)

  it("must be complete once the mode is promoted", function()
    register(rig, { mode = "ext.grow.v1" })
    assert.is_true(start(rig, "ext.grow.v1").ok)
    rig:call("boss", "PromoteMode", { mode = "ext.grow.v1" })
    local ack = start(rig, "ext.grow.v1")
    assert.equal("INVALID_ENVELOPE", ack.error.code)
    ack = start(rig, "ext.grow.v1", { participants = {}, mode_version = "1.2.0", configuration_version = "cfg" })
    assert.same({ "INVALID_ENVELOPE", "InvalidPayload: participants is empty" }, { ack.error.code, ack.error.message })
    assert.is_true(start(rig, "ext.grow.v1",
      { participants = { "ann" }, mode_version = "1.2.0", configuration_version = "cfg" }).ok)
  end)

  it("keep their handler when the mode is unregistered or renamed", function()
    register(rig, { mode = "ext.leave.v1" })
    register(rig, { mode = "ext.move.v1" })
    local _, left = start(rig, "ext.leave.v1")
    local _, moved = start(rig, "ext.move.v1")
    assert.is_true(assert(rig:call("boss", "UnregisterExtMode", { mode = "ext.leave.v1" })).ok)
    assert.is_true(assert(rig:call("boss", "PromoteMode",
      { mode = "ext.move.v1", promoted_mode_name = "org.move.v1" })).ok)
    assert.equal("MODE_NOT_SUPPORTED", start(rig, "ext.leave.v1").error.code)
    for mode, id in pairs({ ["ext.leave.v1"] = left, ["ext.move.v1"] = moved }) do
      assert.is_true(send(rig, "ann", id, mode, "Ping", "x").ok)
      assert.is_true(send(rig, "host", id, mode, "Commitment", commitment()).ok)
      assert.equal(RESOLVED, state_of(rig, id).state)
    end
  end)
end)

describe("a promoted folder", function()
  it("is offered under its new name and strict, before and after a restart", function()
    local rig = assert(client.start())
    local _, old = start(rig, "ext.multi_round.v1", { participants = { "ann" }, mode_version = "1.0.0",
      configuration_version = "cfg" })
    assert.same({ ok = true, error = "", mode = "org.rounds.v1" },
      assert(rig:call("boss", "PromoteMode", { mode = "ext.multi_round.v1", promoted_mode_name = "org.rounds.v1" })))
    local function check()
      assert.is_true(contains(ids(rig, "ListModes"), "org.rounds.v1"))
      assert.is_false(contains(ids(rig, "ListExtModes"), "ext.multi_round.v1"))
      assert.equal("MODE_NOT_SUPPORTED", start(rig, "ext.multi_round.v1").error.code)
      assert.equal("INVALID_ENVELOPE", start(rig, "org.rounds.v1").error.code)
      local ack, id = start(rig, "org.rounds.v1", { participants = { "ann" }, mode_version = "1.0.0",
        configuration_version = "cfg" })
      assert.is_true(ack.ok)
      assert.equal("org.rounds.v1", state_of(rig, id).mode)
      assert.equal("mode 'ext.multi_round.v1' is already registered: it was promoted to 'org.rounds.v1'",
        refusal(rig, { mode = "ext.multi_round.v1" }))
    end
    check()
    rig = rig:again()
    check()
    local value = client.payload("macp.modes.multi_round.v1.ContributePayload", { value = "x" })
    assert.is_true(send(rig, "ann", old, "ext.multi_round.v1", "Contribute", value).ok)
    rig:destroy()
  end)
end)

describe("WatchModeRegistry", function()
  local rig

  setup(function() rig = assert(client.start()) end)
  teardown(function() rig:destroy() end)

  local function hints(watch)
    local count = { n = 0 }
    local reader = task.spawn(function()
      while watch:read() do count.n = count.n + 1 end
    end)
    return count, function()
      watch:cancel()
      reader:join()
    end
  end

  it("tells every change once, and no refusal", function()
    local count, stop = hints(rig:watch(nil, "WatchModeRegistry"))
    eventually(function() return count.n == 1 end, 5000)
    local steps = {
      function() assert.is_true(assert(register(rig, { mode = "ext.seen.v1" })).ok) end,
      function() assert.is_true(assert(rig:call("boss", "UnregisterExtMode", { mode = "ext.seen.v1" })).ok) end,
      function() assert.is_true(assert(register(rig, { mode = "ext.seen.v1" })).ok) end,
      function()
        assert.is_true(assert(rig:call("boss", "PromoteMode",
          { mode = "ext.seen.v1", promoted_mode_name = "org.seen.v1" })).ok)
      end,
    }
    for i, step in ipairs(steps) do
      step()
      eventually(function() return count.n == i + 1 end, 5000)
    end
    refusal(rig, { mode = "" })
    rig:call("boss", "UnregisterExtMode", { mode = "ext.seen.v1" })
    rig:call("boss", "PromoteMode", { mode = "org.seen.v1" })
    task.sleep(200)
    assert.equal(#steps + 1, count.n)
    stop()
  end)

  it("W35: goes on after more changes than it has told, and tells the last", function()
    local watch = rig:watch(nil, "WatchModeRegistry")
    assert.equal("modes", assert(watch:read()).change.registry)
    for _ = 1, 200 do rig.role.watches:modes_changed() end
    assert.is_true(assert(register(rig, { mode = "ext.late.v1" })).ok)
    local count, stop = hints(watch)
    eventually(function() return count.n >= 1 end, 5000)
    task.sleep(100)
    local before = count.n
    assert.is_true(before <= 201)
    assert.is_true(assert(rig:call("boss", "UnregisterExtMode", { mode = "ext.late.v1" })).ok)
    eventually(function() return count.n == before + 1 end, 5000)
    stop()
  end)
end)

describe("the mode registry after a restart", function()
  it("W9: has what was registered and promoted; sessions go on", function()
    local rig = assert(client.start())
    register(rig)
    register(rig, { mode = "ext.gone.v1" })
    register(rig, { mode = "ext.up.v1", title = "quote \" back\\slash \n caf\195\169" })
    local _, chat = start(rig, "ext.chat.v1", { participants = { "ann" } })
    local _, gone = start(rig, "ext.gone.v1")
    local _, up = start(rig, "ext.up.v1")
    send(rig, "ann", chat, "ext.chat.v1", "Ping", "\0\1")
    send(rig, "ann", gone, "ext.gone.v1", "Ping")
    rig:call("boss", "UnregisterExtMode", { mode = "ext.gone.v1" })
    rig:call("boss", "PromoteMode", { mode = "ext.up.v1", promoted_mode_name = "org.up.v1" })
    local before = { ids(rig, "ListModes"), ids(rig, "ListExtModes"), state_of(rig, chat), state_of(rig, gone) }
    local described = assert(rig:call(nil, "ListModes")).modes
    rig = rig:again()
    assert.same(before, { ids(rig, "ListModes"), ids(rig, "ListExtModes"), state_of(rig, chat), state_of(rig, gone) })
    assert.same(described, assert(rig:call(nil, "ListModes")).modes)
    assert.is_true(start(rig, "ext.chat.v1").ok)
    assert.equal("INVALID_ENVELOPE", start(rig, "org.up.v1").error.code)
    for mode, id in pairs({ ["ext.chat.v1"] = chat, ["ext.gone.v1"] = gone, ["ext.up.v1"] = up }) do
      assert.is_true(send(rig, "ann", id, mode, "Pong", "y").ok, mode)
      assert.is_true(send(rig, "host", id, mode, "Commitment", commitment()).ok, mode)
    end
    rig:destroy()
  end)

  it("W9: replays a session without registry and archive, from the descriptor in its log", function()
    local rig = assert(client.start())
    register(rig)
    local _, id = start(rig, "ext.chat.v1", { participants = { "ann" } })
    send(rig, "ann", id, "ext.chat.v1", "Ping", "x")
    rig:stop()
    assert(fs.remove(rig.dir .. "/modes.json"))
    assert(fs.remove_tree(rig.dir .. "/modes"))
    local again = assert(client.start({ dir = rig.dir }))
    assert.is_false(contains(supported(again), "ext.chat.v1"))
    assert.equal(OPEN, state_of(again, id).state)
    assert.equal("FORBIDDEN", send(again, "bob", id, "ext.chat.v1", "Ping").error.code)
    assert.is_true(send(again, "ann", id, "ext.chat.v1", "Ping").ok)
    assert.is_true(send(again, "host", id, "ext.chat.v1", "Commitment", commitment()).ok)
    again:destroy()
  end)

  it("keeps a registration in memory when nothing is to be kept", function()
    local rig = assert(client.start({ env = { MACP_MEMORY_ONLY = "1" } }))
    assert.is_true(assert(register(rig)).ok)
    assert.is_true(start(rig, "ext.chat.v1").ok)
    assert.is_nil(fs.stat(rig.dir .. "/modes.json"))
    rig = rig:again()
    assert.is_false(contains(supported(rig), "ext.chat.v1"))
    rig:destroy()
  end)

  it("refuses a change it cannot store, and makes it when it can", function()
    local rig = assert(client.start())
    register(rig, { mode = "ext.first.v1" })
    assert(fs.remove(rig.dir .. "/modes.json"))
    assert(fs.mkdir_p(rig.dir .. "/modes.json/in the way"))
    local texts = {
      refusal(rig),
      assert(rig:call("boss", "UnregisterExtMode", { mode = "ext.first.v1" })).error,
      assert(rig:call("boss", "PromoteMode", { mode = "ext.first.v1" })).error,
    }
    for _, text in ipairs(texts) do
      assert.truthy(text:find("the registry cannot be stored: rename into " .. rig.dir .. "/modes.json", 1, true), text)
    end
    assert.is_false(contains(supported(rig), "ext.chat.v1"))
    assert.is_true(contains(ids(rig, "ListExtModes"), "ext.first.v1"))
    assert.is_true(start(rig, "ext.first.v1").ok)
    assert(fs.remove_tree(rig.dir .. "/modes.json"))
    assert.is_true(assert(register(rig)).ok)
    rig = rig:again()
    assert.is_true(contains(supported(rig), "ext.chat.v1"))
    assert.is_true(contains(supported(rig), "ext.first.v1"))
    rig:destroy()
  end)

  it("does not start on a registry it cannot read, and names what is wrong", function()
    local dir = assert(fs.temp_dir("macp-modes-"))
    local function reason(text)
      assert(fs.write(dir .. "/modes.json", text))
      local rig, err = client.start({ dir = dir })
      if rig then rig:stop() end
      return err and err.message
    end
    local path = "load the registered modes: " .. dir .. "/modes.json: "
    assert.equal(path .. "'format' must be 1, not 2", reason('{"format":2,"modes":[]}'))
    assert.equal(path .. "'modes' must be an array", reason('{"format":1}'))
    assert.truthy(reason("[{"):find(path .. "not a JSON object", 1, true))
    assert.equal(path .. "modes[1]: must be an object", reason('{"format":1,"modes":[5]}'))
    assert.equal(path .. "modes[1]: needs 'id' and 'standard'", reason('{"format":1,"modes":[{}]}'))
    assert.equal(path .. "modes[1]: has 'source' or 'descriptor'", reason(
      '{"format":1,"modes":[{"id":"a","standard":true,"source":"b","descriptor":{}}]}'))
    assert.equal(path .. "modes[1]: descriptor: must be an object", reason(
      '{"format":1,"modes":[{"id":"a","standard":false}]}'))
    local one = json.encode({ id = "ext.chat.v1", standard = false, descriptor = descriptor() })
    assert.equal(path .. "modes[1]: the descriptor is for 'ext.chat.v1'",
      reason('{"format":1,"modes":[' .. one:gsub('"id":"ext.chat.v1"', '"id":"ext.b.v1"') .. "]}"))
    assert.equal(path .. "modes[2]: 'ext.chat.v1' is listed twice",
      reason('{"format":1,"modes":[' .. one .. "," .. one .. "]}"))
    assert.is_nil(reason('{"format":1,"modes":[' .. one .. "]}"))
    fs.remove_tree(dir)
  end)
end)
