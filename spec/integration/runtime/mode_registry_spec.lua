-- Modes registered, unregistered and promoted over the wire.

local json = require("host.json")
local task = require("host.task")

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local registered = require("spec.support.registered_modes")

local UNAUTHENTICATED, PERMISSION_DENIED, INVALID_ARGUMENT = 16, 7, 3
local descriptor, register, refusal = registered.descriptor, registered.register, registered.refusal
local ids, contains, supported = registered.ids, registered.contains, registered.supported
local start, send, state_of = registered.start, registered.send, registered.state_of

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
