-- Keys of an issuer that are fetched over HTTP, from a server that answers, rotates, fails and hangs.

local client = require("spec.support.runtime_client")

local crypto = require("host.crypto")
local rpc = require("host.rpc")
local sys = require("host.sys")
local task = require("host.task")

local eventually = require("spec.support.eventually")
local http_server = require("spec.support.http_server")
local issuer = require("spec.support.issuer")

describe("keys behind a URL", function()
  local rig, url, requests, answer, hung
  local company = issuer.new({ kid = "first" })

  before_each(function()
    requests, answer, hung = 0, { 200, company:jwks() }, nil
    local _, port = http_server.start({}, function(_, res)
      requests = requests + 1
      if hung then hung:wait() end
      res:send(answer[1], { ["content-type"] = "application/json" }, answer[2])
    end)
    url = "http://127.0.0.1:" .. port .. "/.well-known/jwks.json"
  end)
  after_each(function()
    if rig then rig:destroy() end
    rig = nil
    if hung then hung:broadcast() end
    http_server.stop_all()
  end)

  local function start(ttl_secs)
    rig = assert(client.start({ env = {
      MACP_AUTH_ISSUER = company.issuer, MACP_AUTH_JWKS_URL = url, MACP_AUTH_JWKS_TTL_SECS = ttl_secs or "300",
      MACP_AUTH_TOKENS_JSON = '[{"token":"static","sender":"boss"}]',
    } }))
  end

  local function code_of(token)
    local ack = rig:send(token, client.start_envelope(crypto.uuid4()))
    return ack.ok and "ok" or ack.error.code
  end

  -- The longest of n calls, in milliseconds.
  local function slowest(token, n)
    local longest = 0
    for _ = 1, n do
      local began = sys.mono_ms()
      assert(rig:call(token, "ListSessions"))
      longest = math.max(longest, sys.mono_ms() - began)
    end
    return longest
  end

  it("are fetched at their first use, once for many callers", function()
    start()
    assert.equal(0, requests)
    assert(task.group(function(group)
      for i = 1, 20 do
        group:spawn(function() assert(rig:call(company:token({ sub = "agent" .. i }), "ListSessions")) end)
      end
    end))
    assert.equal(1, requests)
  end)

  for name, bad in pairs({
    ["an error status"] = { 503, "later" }, ["a redirect"] = { 302, "" }, ["no JSON"] = { 200, "<html>" },
    ["no usable key"] = { 200, '{"keys":[]}' }, ["too large a document"] = { 200, (" "):rep(262145) },
  }) do
    it("W24: are not there after " .. name .. ": refused at once, not asked for again and again", function()
      answer = bad
      start()
      for _ = 1, 10 do assert.equal("UNAUTHENTICATED", code_of(company:token())) end
      assert.equal(1, requests)
      assert.equal("ok", code_of("static"))
    end)
  end

  it("W24: serve fast while their server hangs, and so does everybody else", function()
    start("1")
    assert.equal("ok", code_of(company:token()))
    hung = task.cond() -- every renewal hangs from now on
    eventually(function() return requests == 2 end, 3000, "the renewal")
    local stranger = issuer.new({ kid = "stranger" })
    local waiting = task.spawn(function() return rig:call(stranger:token(), "ListSessions") end)
    local until_ms = sys.mono_ms() + 2500 -- beyond the TTL
    local longest, calls = 0, 0
    while sys.mono_ms() < until_ms do
      longest = math.max(longest, slowest(company:token({ sub = "agent" .. calls }), 1), slowest("static", 1))
      calls = calls + 1
    end
    assert.truthy(calls > 10, calls)
    assert.truthy(longest < 2000, "a call took " .. longest .. " ms")
    hung:broadcast()
    hung = nil
    waiting:join()
  end)

  it("W24: that never came leave the others alone, and end after one attempt", function()
    hung = task.cond()
    start()
    local began, status = sys.mono_ms(), nil
    local waiting = task.spawn(function()
      local _, err = rig:call(company:token(), "ListSessions")
      status = err.status
    end)
    eventually(function() return requests == 1 end, 2000)
    assert.truthy(slowest("static", 50) < 2000)
    waiting:join()
    assert.equal(rpc.status.UNAUTHENTICATED, status)
    assert.truthy(sys.mono_ms() - began < 30000)
    began = sys.mono_ms()
    assert.equal("UNAUTHENTICATED", code_of(company:token()))
    assert.truthy(sys.mono_ms() - began < 4000)
    assert.equal(1, requests)
  end)

  it("are asked for anew when the role reads its files again", function()
    start()
    rig.role:reload()
    assert.equal("ok", code_of(company:token()))
    assert.equal(1, requests)
    local newer = issuer.new({ kid = "second" })
    answer = { 200, newer:jwks() }
    rig.role:reload()
    eventually(function() return code_of(newer:token()) == "ok" end, 2000, "the new keys")
    assert.equal(2, requests)
  end)

  it("are renewed in the background, and new ones replace the old", function()
    start("1")
    assert.equal("ok", code_of(company:token()))
    local newer = issuer.new({ kid = "second" })
    answer = { 200, newer:jwks() }
    eventually(function() return code_of(newer:token()) == "ok" end, 5000, "the new keys")
    assert.equal("UNAUTHENTICATED", code_of(company:token()))
  end)
end)
