-- MACP_INGRESS_FILE: the site's own gate on starts, messages and reads, after everything that the protocol checks.

local client = require("spec.support.runtime_client")
local refusals = require("spec.support.refusals")

local crypto = require("host.crypto")
local fs = require("host.fs")
local rpc = require("host.rpc")
local task = require("host.task")

local json = require("macp.core.json")

local expect_text, proposal = refusals.expect_text, refusals.proposal
local S = rpc.status

-- Hooks whose answers depend on who asks and on the words in what is sent.
local FILE = [=[
local task = require("host.task")
local asked = {}
return {
  start = function(caller, message)
    if caller.sender == "eve" then return false, "no starts by eve" end
    if message.start and message.start.intent == "forbidden" then return false, { "one", "two" } end
    return true
  end,
  message = function(caller, session, message)
    asked[#asked + 1] = message.message_id
    if message.message_id:find("^slow") then task.sleep(150) end
    if message.message_id == "broken" then error("a secret of the site") end
    if message.message_id == "nothing" then return end
    if message.message_id == "odd" then return "yes" end
    if message.message_id == "asked" then return false, { table.concat(asked, " ") } end
    session.participants[1], session.state = "changed", 9
    return not message.payload:find("bad", 1, true) and session.mode == message.mode, "no bad words"
  end,
  read = function(caller, session)
    local who = caller.sender
    return who ~= "bob" and who ~= "shy", "not for " .. who .. " in " .. session.session_id
  end,
}
]=]

local TOKENS = [=[[{"token":"boss","sender":"boss"},{"token":"ann","sender":"ann"},{"token":"bob","sender":"bob"},
  {"token":"eve","sender":"eve"},{"token":"shy","sender":"shy","is_observer":true},
  {"token":"quiet","sender":"quiet","can_start_sessions":false}]]=]

describe("the site's own gate", function()
  local rig, dir, id

  setup(function()
    dir = assert(fs.temp_dir("macp-ingress-"))
    assert(fs.write(dir .. "/ingress.lua", FILE))
    rig = assert(client.start({ env = { MACP_INGRESS_FILE = dir .. "/ingress.lua", MACP_AUTH_TOKENS_JSON = TOKENS,
      MACP_MEMORY_ONLY = "1" } }))
  end)
  teardown(function()
    rig:destroy()
    fs.remove_tree(dir)
  end)
  before_each(function()
    id = crypto.uuid4()
    assert.is_true(rig:send("boss", client.start_envelope(id)).ok)
  end)

  local function propose(who, message_id, option)
    return rig:send(who, client.envelope({ session_id = id, message_id = message_id,
      payload = client.payload("macp.modes.decision.v1.ProposalPayload",
        { proposal_id = message_id, option = option or "fine" }) }))
  end

  local function expect_denied(ack, text, ...)
    assert.same({ false, "POLICY_DENIED", 0 }, { ack.ok, ack.error.code, ack.session_state })
    expect_text("PolicyDenied: " .. text, ack.error.message)
    assert.same({ ... }, json.decode(ack.error.details).reasons)
  end

  it("refuses starts with its reasons, and nothing is left of them", function()
    local other = crypto.uuid4()
    expect_denied(rig:send("eve", client.start_envelope(other)), "no starts by eve", "no starts by eve")
    expect_denied(rig:send("boss", client.start_envelope(other, { intent = "forbidden" })), "one; two", "one", "two")
    local _, err = rig:call("boss", "GetSession", { session_id = other })
    assert.equal(S.NOT_FOUND, err.status)
    assert.is_true(rig:send("boss", client.start_envelope(other)).ok)
  end)

  it("refuses messages; their ids stay free", function()
    expect_denied(propose("ann", "m1", "bad"), "no bad words", "no bad words")
    local ack = propose("ann", "m1")
    assert.same({ true, false }, { ack.ok, ack.duplicate })
    assert.same({ "ann", "bob" }, rig:call("boss", "GetSession", { session_id = id }).metadata.participants)
  end)

  it("refuses what is not plainly allowed, and tells nothing of its own failures", function()
    expect_denied(propose("ann", "nothing"), "refused by the site's policy", "refused by the site's policy")
    expect_denied(propose("ann", "odd"), "refused by the site's policy", "refused by the site's policy")
    expect_denied(propose("ann", "broken"), "the site's policy failed", "the site's policy failed")
  end)

  it("is asked after the protocol's own checks of who sends, and not of what has no session", function()
    assert.equal("FORBIDDEN", rig:send("quiet", client.start_envelope(crypto.uuid4())).error.code)
    local anonymous = client.envelope({ session_id = id, message_id = "anonymous" })
    assert.equal("UNAUTHENTICATED", rig:send(nil, anonymous).error.code)
    local unknown = client.envelope({ session_id = "nobody-knows-this-session", message_id = "unknown" })
    assert.equal("SESSION_NOT_FOUND", rig:send("ann", unknown).error.code)
    for _, type_ in ipairs({ "Signal", "Progress" }) do
      local ambient = client.envelope({ message_type = type_, mode = "", session_id = "", message_id = "ambient" })
      assert.is_true(rig:send("eve", ambient).ok)
    end
    local progress = client.envelope({ message_type = "Progress", session_id = id, message_id = "ambient" })
    assert.is_true(rig:send("ann", progress).ok)
    local asked = json.decode(propose("ann", "asked").error.details).reasons[1]
    for _, name in ipairs({ "anonymous", "unknown", "ambient" }) do
      assert.is_nil(asked:find(name, 1, true), asked)
    end
  end)

  it("may wait: the session is judged as it is afterwards, and others go on meanwhile", function()
    local slow = task.spawn(function() return propose("ann", "slow1") end)
    task.sleep(20)
    assert.is_true(propose("ann", "quick").ok)
    assert.is_true(rig:call("boss", "CancelSession", { session_id = id }).ack.ok)
    assert.equal("SESSION_NOT_OPEN", slow:join().error.code)
  end)

  it("refuses reads: GetSession with a status, subscriptions inline, and senders hear nothing", function()
    local text = "not for bob in " .. id
    local _, err = rig:call("bob", "GetSession", { session_id = id })
    assert.same({ S.PERMISSION_DENIED, "FORBIDDEN: " .. text }, { err.status, err.message })
    _, err = rig:call("shy", "GetSession", { session_id = id })
    assert.equal(S.PERMISSION_DENIED, err.status)
    _, err = rig:call("eve", "GetSession", { session_id = id }) -- by the protocol's own rule
    assert.equal("FORBIDDEN: only the initiator, participants and observers may read", err.message)
    assert.is_truthy(rig:call("ann", "GetSession", { session_id = id }))
    local stream = rig:stream("bob")
    stream:subscribe(id)
    local failure = assert(stream:read()).error
    assert.same({ "FORBIDDEN", "Forbidden: " .. text, id }, { failure.code, failure.message, failure.session_id })
    stream:write({ envelope = client.envelope({ session_id = id, message_id = "m1", payload = proposal("m1") }) })
    stream:write({ envelope = client.envelope({ session_id = id, message_id = "m2", payload = "bad" }) })
    failure = assert(stream:read()).error -- no echo of m1 before it
    assert.same({ "POLICY_DENIED", "m2" }, { failure.code, failure.message_id })
    assert.same({ "no bad words" }, json.decode(failure.details).reasons)
    stream:half_close()
    assert.is_nil(stream:read())
    assert.equal(2, rig.role.sessions.by_id[id].ordinals)
  end)

  it("lets those follow whom it lets read", function()
    local stream = rig:stream("ann")
    stream:write({ envelope = client.envelope({ session_id = id, message_id = "m1", payload = proposal("m1") }) })
    assert.same({ "m1" }, stream:ids(1))
    stream:subscribe(id)
    assert.same({ "start", "m1" }, stream:ids(2))
    stream:cancel()
    local own = crypto.uuid4()
    stream = rig:stream("boss")
    stream:write({ envelope = client.start_envelope(own) })
    assert.same({ "start" }, stream:ids(1))
    stream:cancel()
  end)
end)

describe("a site's file that cannot work", function()
  local CASES = {
    { "is not there", nil, ": No such file or directory" },
    { "does not parse", "return {", "ingress.lua:1: unexpected symbol near '<eof>'" },
    { "fails", "error('x')", "ingress.lua:1: x" },
    { "returns nothing", "", ": expected a table of functions, got nil" },
    { "has a misspelt member", "return { massage = print }", ': unknown member massage (did you mean `message`?)' },
    { "has a member that is no function", "return { read = true }", ": read: expected a function, got boolean" },
  }
  for _, case in ipairs(CASES) do
    it("refuses the start: " .. case[1], function()
      local dir = assert(fs.temp_dir("macp-ingress-"))
      if case[2] then assert(fs.write(dir .. "/ingress.lua", case[2])) end
      local rig, err = client.start({ env = { MACP_INGRESS_FILE = dir .. "/ingress.lua" } })
      fs.remove_tree(dir)
      assert.is_nil(rig)
      assert.equal(1, #err.message)
      assert.matches("^MACP_INGRESS_FILE: " .. dir:gsub("%p", "%%%0") .. "/ingress.lua: ", err.message[1])
      assert.is_truthy(err.message[1]:find(case[3], 1, true), err.message[1])
    end)
  end
end)
