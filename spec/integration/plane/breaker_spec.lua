-- The circuit breaker and the credential chain of the plane's client, over real gRPC: which answers count, one probe at a
-- time, streams that pass it by; which credential a call carries.

local rpc = require("host.rpc")
local task = require("host.task")

local credentials = require("macp.plane.credentials")
local runtime_client = require("macp.plane.runtime_client")

local eventually = require("spec.support.eventually")
local odd = require("spec.support.odd_runtime")

local ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
local COUNTED = { "UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "RESOURCE_EXHAUSTED" }
local NEUTRAL = { "NOT_FOUND", "PERMISSION_DENIED", "UNAUTHENTICATED", "INVALID_ARGUMENT", "FAILED_PRECONDITION",
  "ABORTED", "ALREADY_EXISTS", "OUT_OF_RANGE", "UNIMPLEMENTED" }

describe("the circuit breaker", function()
  local runtime, client

  local function new_client(changes)
    local opts = { address = runtime.address, tls = false, kind = "rust", timeout_ms = 5000, breaker_threshold = 3,
      breaker_reset_ms = 200, version = "test", credentials = function() return {} end }
    for name, value in pairs(changes or {}) do opts[name] = value end
    client = assert(runtime_client.new(opts))
    return client
  end

  before_each(function() runtime = odd.start() end)
  after_each(function()
    client:close()
    runtime:close()
  end)

  local function answers(status)
    runtime.answers.GetSession = function(call) call:fail(rpc.status[status], status) end
  end

  local function ask()
    local _, err = client:get_session(ID)
    return err and err.code
  end

  for _, status in ipairs(COUNTED) do
    it("opens after three answers of " .. status, function()
      new_client({ breaker_reset_ms = 60000 })
      answers(status)
      for _ = 1, 3 do ask() end
      assert.equal("CIRCUIT_BREAKER_OPEN", ask())
      assert.equal(3, runtime.calls.GetSession)
    end)
  end

  it("stays closed whatever is refused for other reasons", function()
    new_client()
    for _, status in ipairs(NEUTRAL) do
      answers(status)
      for _ = 1, 4 do assert.not_equal("CIRCUIT_BREAKER_OPEN", ask(), status) end
    end
    assert.equal("CLOSED", client.breaker:state())
  end)

  it("opens when answers do not come in time", function()
    new_client({ timeout_ms = 50, breaker_reset_ms = 60000 })
    runtime.answers.GetSession = function(call) call:wait_closed() end
    for _ = 1, 3 do assert.equal("RUNTIME_TIMEOUT", ask()) end
    assert.equal("CIRCUIT_BREAKER_OPEN", ask())
  end)

  it("lets one call probe after its pause, others fail at once, and tells what happened", function()
    new_client()
    answers("UNAVAILABLE")
    for _ = 1, 3 do ask() end
    eventually(function() return client.breaker:state() == "HALF_OPEN" end, 5000)
    local release, codes = task.cond(), {}
    local released = false
    runtime.answers.GetSession = function(call)
      if not released then release:wait() end
      call:reply(odd.encode("macp.v1.GetSessionResponse", { metadata = odd.metadata(ID) }))
    end
    local before = runtime.calls.GetSession
    local probe = task.spawn(function()
      codes.probe = ask() or "none"
      return true
    end)
    eventually(function() return runtime.calls.GetSession == before + 1 end, 5000, "the probe")
    for _ = 1, 5 do assert.equal("CIRCUIT_BREAKER_OPEN", ask()) end
    assert.equal(before + 1, runtime.calls.GetSession)
    released = true
    release:broadcast()
    probe:join()
    assert.equal("none", codes.probe)
    assert.is_nil(ask())
    local told = {}
    for i, change in ipairs(client.breaker:changes()) do told[i] = change.state .. ": " .. change.reason end
    assert.same({ "CLOSED: initial", "OPEN: 3 consecutive failures", "HALF_OPEN: reset timeout after 200ms",
      "CLOSED: half-open probe succeeded" }, told)
  end)

  it("does not concern streams", function()
    new_client({ breaker_reset_ms = 60000 })
    answers("UNAVAILABLE")
    for _ = 1, 3 do ask() end
    runtime:stream(function() return { odd.frame(odd.start_envelope(ID)) } end)
    local stream = assert(client:subscribe(ID, 0))
    assert.equal(1, #assert(stream:read_many(1)))
    stream:cancel()
    assert.equal("CIRCUIT_BREAKER_OPEN", ask())
  end)

  -- What a call carries, by what is configured: the first that there is.
  local minter = { get = function() return "minted" end }
  local dry = { get = function() return nil end }
  for words, case in pairs({
    ["a token of the token service"] = { { minter = minter, bearer_token = "static", use_dev_header = true,
      dev_agent_id = "dev" }, "Bearer minted" },
    ["the static bearer without one"] = { { minter = dry, bearer_token = "static", use_dev_header = true,
      dev_agent_id = "dev" }, "Bearer static" },
    ["the development identity without both"] = { { minter = dry, use_dev_header = true, dev_agent_id = "dev" },
      "Bearer dev", "dev" },
    ["nothing when there is nothing"] = { { bearer_token = "", use_dev_header = false, dev_agent_id = "dev" } },
  }) do
    it("is passed by calls and streams that carry " .. words, function()
      new_client({ credentials = credentials.new(case[1]) })
      local carried = {}
      runtime.answers.GetSession = function(call)
        carried[1] = { call:header("authorization"), call:header("x-macp-agent-id") }
        call:fail(rpc.status.NOT_FOUND, "no")
      end
      runtime.answers.StreamSession = function(call)
        carried[2] = { call:header("authorization"), call:header("x-macp-agent-id") }
        call:finish(rpc.status.OK)
      end
      ask()
      local stream = assert(client:subscribe(ID, 0))
      stream:read_many(1)
      stream:cancel()
      for i = 1, 2 do assert.same({ case[2], case[3] }, carried[i]) end
    end)
  end
end)
