local sys = require("host.sys")
local task = require("host.task")

local jwks_source = require("macp.auth.jwks_source")
local jwt_bearer = require("macp.auth.jwt_bearer")

local eventually = require("spec.support.eventually")
local issuer = require("spec.support.issuer")

describe("a source of keys", function()
  local company, newer = issuer.new({ alg = "HS256", kid = "old" }), issuer.new({ alg = "HS256", kid = "new" })
  local source, answer, loads, gate, now

  before_each(function()
    answer, loads, gate, now = company:jwks(), 0, nil, 1000000
  end)
  after_each(function() if source then source:close() end end)

  -- A source whose place answers `answer`, after `gate` has been opened if there is one.
  local function open(opts)
    opts = opts or {}
    source = jwks_source.new({
      name = "spec", ttl_ms = opts.ttl_ms or 300000, retry_ms = opts.retry_ms, mono_ms = opts.mono_ms,
      load = function()
        loads = loads + 1
        if gate then gate:wait() end
        if type(answer) == "table" then return nil, answer end
        return answer
      end,
    })
    return source
  end

  local function injected() return now end

  local function resolver()
    return jwt_bearer.new({
      issuer = company.issuer, audience = "macp-runtime", algs = { "HS256" }, keys = source,
    })
  end

  it("asks for nothing before its first use, then once", function()
    open()
    task.sleep(5)
    assert.equal(0, loads)
    assert.truthy(source:get())
    assert.truthy(source:get())
    assert.equal(1, loads)
  end)

  it("asks once for all who wait", function()
    open()
    gate = task.cond()
    local got = 0
    local waiting = {}
    for i = 1, 20 do waiting[i] = task.spawn(function() if source:get() then got = got + 1 end end) end
    task.sleep(5)
    assert.same({ 1, 0 }, { loads, got })
    gate:broadcast()
    for _, waiter in ipairs(waiting) do waiter:join() end
    assert.same({ 1, 20 }, { loads, got })
  end)

  it("W24: after a failure answers at once, and tries again after the pause only", function()
    answer = { message = "nobody there" }
    open({ mono_ms = injected })
    local keys, reason = source:get()
    assert.same({ nil, "the keys of the issuer are not available" }, { keys, reason })
    for _ = 1, 100 do source:get() end
    assert.equal(1, loads)
    now = now + 9999
    source:get()
    assert.equal(1, loads)
    now = now + 1
    answer = company:jwks()
    assert.truthy(source:get())
    assert.equal(2, loads)
  end)

  it("renews in the background when four fifths of the time have passed", function()
    open({ ttl_ms = 100 })
    local began = sys.mono_ms()
    source:get()
    eventually(function() return loads == 2 end, 2000)
    local passed = sys.mono_ms() - began
    assert.truthy(passed >= 79, "renewed after " .. passed .. " ms")
  end)

  it("W24: known keys serve at once while their place does not answer, for an hour beyond their time", function()
    open({ mono_ms = injected })
    local first = source:get()
    gate = task.cond() -- from now on it hangs
    now = now + 300001
    source:start_attempt()
    eventually(function() return loads == 2 end, 1000)
    local began = sys.mono_ms()
    for _ = 1, 1000 do assert.equal(first, source:get()) end
    assert.truthy(sys.mono_ms() - began < 5000)
    assert.equal(2, loads)
    gate:broadcast()
    eventually(function() return not source.running end, 1000)
    -- the place fails now
    answer, gate = { message = "down" }, nil
    local loaded_at = now
    now = loaded_at + 300000 + 3600000 - 1
    assert.equal(first, source:get())
    now = now + 1
    assert.is_nil((source:get()))
    assert.is_nil(source:current())
  end)

  it("keeps the keys when the document turns bad", function()
    open({ mono_ms = injected })
    local first = source:get()
    answer = '{"keys":[]}'
    source:start_attempt()
    eventually(function() return not source.running end, 1000)
    assert.equal(first, source:current())
    assert.is_true(source.has_failed)
  end)

  it("tells who listens when other keys are there, and only then", function()
    open({ mono_ms = injected })
    local told = 0
    source:on_change(function() told = told + 1 end)
    source:get()
    for _, expected in ipairs({ { company:jwks(), 0 }, { newer:jwks(), 1 }, { newer:jwks(), 1 } }) do
      answer = expected[1]
      source:start_attempt()
      eventually(function() return not source.running end, 1000)
      assert.equal(expected[2], told)
    end
  end)

  it("looks for a kid it does not know, at most once per pause", function()
    open({ mono_ms = injected })
    local jwt = resolver()
    assert.truthy(jwt:resolve(company:token(), true))
    answer = company:jwks(newer)
    local identity, reason = jwt:resolve(newer:token(), true)
    assert.same({ nil, "no key has the token's kid" }, { identity, reason })
    assert.equal(1, loads)
    now = now + 10000
    assert.equal("agent://ann", jwt:resolve(newer:token(), true).sender)
    assert.equal(2, loads)
    local stranger = issuer.new({ alg = "HS256", kid = "stranger" })
    for _ = 1, 50 do assert.is_nil((jwt:resolve(stranger:token(), true))) end
    now = now + 10000
    for _ = 1, 50 do assert.is_nil((jwt:resolve(stranger:token(), true))) end
    assert.equal(3, loads)
  end)

  it("tells an unreachable issuer from a bad token", function()
    answer = { message = "down" }
    open({ mono_ms = injected })
    local jwt = resolver()
    local identity, reason, kind = jwt:resolve(company:token(), true)
    assert.same({ nil, "the keys of the issuer are not available", "unavailable" }, { identity, reason, kind })
  end)

  it("without a place to ask only has what it was given", function()
    source = jwks_source.new({ name = "spec" })
    assert.is_nil((source:get()))
    assert(source:accept(company:jwks()))
    assert.truthy(source:get())
    assert.is_false(source:look_again(source:current()))
  end)

  it("ends what runs when it is closed", function()
    open({ ttl_ms = 100000 })
    source:get()
    gate = task.cond()
    source:start_attempt()
    source:close()
    assert.is_nil(source.running)
    source:start_attempt()
    assert.equal(2, loads)
  end)
end)
