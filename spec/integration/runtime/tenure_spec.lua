-- Open streams and watches last as long as the credential they were opened with.

local client = require("spec.support.runtime_client")

local crypto = require("host.crypto")
local fs = require("host.fs")
local rpc = require("host.rpc")
local sys = require("host.sys")
local task = require("host.task")

local json = require("macp.core.json")

local eventually = require("spec.support.eventually")
local issuer = require("spec.support.issuer")

local UNAUTHENTICATED = rpc.status.UNAUTHENTICATED
local REVOKED = "Unauthenticated: the credential is no longer valid"
local BOUND_MS = 3000 -- one look at the file per second, and the round after it

describe("W39: the credential of an open stream", function()
  local rig, dir, path

  before_each(function()
    dir = assert(fs.temp_dir("macp-tenure-"))
    path = dir .. "/credentials.json"
  end)
  after_each(function()
    if rig then rig:destroy() end
    rig = nil
    fs.remove_tree(dir)
  end)

  local function write_tokens(list) assert(fs.write(path, json.encode({ tokens = list }))) end

  local function start_with_tokens(list)
    write_tokens(list)
    rig = assert(client.start({ env = { MACP_AUTH_TOKENS_FILE = path } }))
  end

  local function start_session(token)
    local id = crypto.uuid4()
    assert.is_true(rig:send(token, client.start_envelope(id)).ok)
    return id
  end

  -- A stream that has subscribed, so that it is known to be open.
  local function follow(token, id)
    local stream = rig:stream(token)
    stream:subscribe(id)
    assert.same({ "start" }, stream:ids(1))
    return stream
  end

  -- Reads until the end; status, text and how long that took.
  local function wait_end(stream)
    local began = sys.mono_ms()
    local response, err
    task.with_deadline(10000, function()
      repeat response, err = stream:read() until response == nil
    end)
    return err and err.status, err and err.message, sys.mono_ms() - began
  end

  local function proposal(id)
    return client.envelope({
      session_id = id, message_id = crypto.uuid4(),
      payload = client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = "p1", option = "one" }),
    })
  end

  it("ends stream and watches when the token leaves the file, and only those of that token", function()
    start_with_tokens({ { token = "a", sender = "boss" }, { token = "b", sender = "ann" } })
    local id = start_session("a")
    local streams = { follow("a", id), rig:watch("a", "WatchSessions"), rig:watch("a", "WatchSignals") }
    local kept, kept_watch = follow("b", id), rig:watch("b", "WatchSignals")
    eventually(function() return next(rig.role.watches.signal_watchers) end, 2000)
    write_tokens({ { token = "b", sender = "ann" } })
    for _, stream in ipairs(streams) do
      local status, text, ms = wait_end(stream)
      assert.same({ UNAUTHENTICATED, REVOKED }, { status, text })
      assert.truthy(ms < BOUND_MS, ms)
    end
    assert.is_false((rig:send("a", proposal(id)).ok))
    local ack = rig:send("b", proposal(id))
    assert.is_true(ack.ok)
    assert.same({ ack.message_id }, kept:ids(1))
    local signal = client.envelope({
      mode = "", message_type = "Signal", message_id = "sig",
      payload = client.payload("macp.v1.SignalPayload", { signal_type = "hint" }),
    })
    assert.is_true(rig:send("b", signal).ok)
    assert.equal("sig", kept_watch:read().envelope.message_id)
    kept:cancel()
    kept_watch:cancel()
  end)

  it("does not end because the file turned bad or was written again", function()
    start_with_tokens({ { token = "a", sender = "ann" } })
    local id = start_session("a")
    local stream = follow("a", id)
    assert(fs.write(path, "{"))
    rig.role:reload()
    write_tokens({ { token = "new", sender = "new" }, { token = "a", sender = "ann" } })
    rig.role:reload()
    assert.truthy(rig:call("new", "ListSessions"))
    local ack = rig:send("a", proposal(id))
    assert.is_true(ack.ok)
    assert.same({ ack.message_id }, stream:ids(1))
    stream:cancel()
  end)

  it("ends when the token becomes somebody else's, or loses the right to observe", function()
    start_with_tokens({ { token = "a", sender = "boss" }, { token = "o", sender = "eye", is_observer = true } })
    local id = start_session("a")
    local changed, reduced = follow("a", id), follow("o", id)
    write_tokens({ { token = "a", sender = "other" }, { token = "o", sender = "eye" } })
    rig.role:reload()
    local status, text = wait_end(changed)
    assert.same({ UNAUTHENTICATED, REVOKED }, { status, text })
    status, text = wait_end(reduced)
    assert.same({ UNAUTHENTICATED, "Unauthenticated: the credential has lost a right that this stream needs" },
      { status, text })
  end)

  it("gives an open stream its new rights", function()
    start_with_tokens({ { token = "a", sender = "boss" }, { token = "b", sender = "ann" } })
    local id = start_session("a")
    local stream = follow("b", id)
    write_tokens({
      { token = "a", sender = "boss" }, { token = "b", sender = "ann", allowed_modes = { "macp.mode.task.v1" } },
    })
    rig.role:reload()
    eventually(function()
      for scope in pairs(rig.role.tenures.open) do
        if scope.identity.sender == "ann" and scope.identity.allowed_modes then return true end
      end
    end, 2000)
    stream:write({ envelope = proposal(id) })
    assert.equal("FORBIDDEN", stream:read().error.code)
    stream:cancel()
  end)

  it("ends at the expiry of a signed token, leeway included, without a frame", function()
    local company = issuer.new({ alg = "HS256" })
    rig = assert(client.start({ env = {
      MACP_AUTH_ISSUER = company.issuer, MACP_AUTH_JWKS_JSON = company:jwks(), MACP_AUTH_JWT_ALGS = "HS256",
    } }))
    local now_s = sys.now_ms() / 1000
    local ending, lasting = company:token({ sub = "ann", exp = now_s - 60 + 1 }), company:token({ sub = "ann" })
    local id = start_session(lasting)
    local stream, watch, kept = follow(ending, id), rig:watch(ending, "WatchSignals"), follow(lasting, id)
    for _, open in ipairs({ stream, watch }) do
      local status, text, ms = wait_end(open)
      assert.same({ UNAUTHENTICATED, "Unauthenticated: the credential has expired" }, { status, text })
      assert.truthy(ms < BOUND_MS, ms)
    end
    assert.truthy(sys.now_ms() / 1000 >= now_s + 1)
    local ack = rig:send(lasting, proposal(id))
    assert.is_true(ack.ok)
    assert.same({ ack.message_id }, kept:ids(1))
    kept:cancel()
    eventually(function() return next(rig.role.tenures.open) == nil end, 2000, "no tenure is left")
    assert.equal(0, rig.role.tenures.due.count)
  end)

  it("ends when the key that signed it is withdrawn", function()
    local old, new = issuer.new({ alg = "HS256", kid = "old" }), issuer.new({ alg = "HS256", kid = "new" })
    assert(fs.write(path, old:jwks(new)))
    rig = assert(client.start({ env = {
      MACP_AUTH_ISSUER = old.issuer, MACP_AUTH_JWKS_FILE = path, MACP_AUTH_JWT_ALGS = "HS256",
    } }))
    local by_old, by_new = old:token({ sub = "ann" }), new:token({ sub = "ann" })
    local id = start_session(by_old)
    local ended, kept = follow(by_old, id), follow(by_new, id)
    assert(fs.write(path, new:jwks()))
    local status, text, ms = wait_end(ended)
    assert.same({ UNAUTHENTICATED, REVOKED }, { status, text })
    assert.truthy(ms < BOUND_MS, ms)
    local ack = rig:send(by_new, proposal(id))
    assert.is_true(ack.ok)
    assert.same({ ack.message_id }, kept:ids(1))
    kept:cancel()
  end)
end)
