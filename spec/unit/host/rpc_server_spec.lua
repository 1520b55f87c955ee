-- host.rpc: the life of a server.

local rpc = require("host.rpc")
local sys = require("host.sys")
local task = require("host.task")

local eventually = require("spec.support.eventually")
local pair = require("spec.support.rpc_pair")

local STATUS = rpc.status
local METHODS = pair.METHODS
local with_server = pair.run

local function echo(call) call:reply(call:request()) end

describe("a server", function()
  it("listens on a unix socket", function()
    local path = os.tmpname()
    os.remove(path)
    with_server({ ["/t.S/Unary"] = echo }, function(channel, server)
      assert.equal(0, server:port())
      assert.equal("x", channel:unary("/t.S/Unary", "x"))
    end, { address = "unix:" .. path })
    os.remove(path)
  end)

  it("does not share its port and says why it cannot listen", function()
    local first = assert(rpc.listen({ methods = METHODS }))
    local second, err = rpc.listen({ methods = METHODS, address = "127.0.0.1:" .. first:port() })
    assert.is_nil(second)
    assert.equal("UNAVAILABLE", err.code)
    assert.matches("127.0.0.1:" .. first:port(), err.message, 1, true)
    first:close()
    assert.has_error(function() rpc.listen({ methods = { ["/a/b"] = "sideways" } }) end)
    assert.has_error(function() rpc.listen({ methods = { ["a/b"] = "unary" } }) end)
    assert.has_error(function() rpc.listen({}) end)
    assert.has_error(function() first:port() end, "the server is closed")
  end)

  it("drains: refuses new calls, lets unary calls finish, ends streams with UNAVAILABLE", function()
    local release = task.cond()
    local stream_task_ended
    with_server({
      ["/t.S/Unary"] = function(call)
        release:wait()
        call:reply("done")
      end,
      ["/t.S/Both"] = function(call)
        call:write("queued before")
        local _, err = call:read()
        stream_task_ended = err.code
      end,
    }, function(channel, server)
      local stream = assert(channel:stream("/t.S/Both"))
      assert.equal("queued before", stream:read())
      local reply
      task.spawn(function() reply = channel:unary("/t.S/Unary", "") end)
      eventually(function() return server:stats().live == 2 end)
      local drained
      task.spawn(function() drained = { server:drain(2000) } end)
      assert.equal(STATUS.UNAVAILABLE, select(2, stream:read()).status)
      local _, err = channel:unary("/t.S/Unary", "")
      assert.equal(STATUS.UNAVAILABLE, err.status)
      assert.equal("the server is shutting down", err.message)
      assert.is_nil(drained)
      release:signal()
      eventually(function() return drained end)
      assert.same({ true }, drained)
      assert.equal("done", reply)
      assert.is_true(stream_task_ended == "UNAVAILABLE" or stream_task_ended == "CANCELLED")
      assert.equal(1, server:stats().refused)
    end)
  end)

  it("gives up draining after the grace period and cancels what is left when closed", function()
    local outcome
    with_server({ ["/t.S/Unary"] = function() task.sleep(10000) end }, function(channel, server)
      task.spawn(function() outcome = { channel:unary("/t.S/Unary", "") } end)
      eventually(function() return server:stats().live == 1 end)
      local ok, err = server:drain(30)
      assert.is_nil(ok)
      assert.equal("TIMEOUT", err.code)
      assert.is_true(server:close())
      eventually(function() return outcome end)
      assert.equal("RPC", outcome[2].code)
      assert.equal(STATUS.UNAVAILABLE, outcome[2].status)
      assert.is_true(server:close())
    end)
  end)

  it("refuses calls beyond its limit", function()
    local release = task.cond()
    with_server({ ["/t.S/Unary"] = function(call)
      release:wait()
      call:reply("done")
    end }, function(channel, server)
      local first = task.spawn(function() return channel:unary("/t.S/Unary", "") end)
      eventually(function() return server:stats().live == 1 end)
      local _, err = channel:unary("/t.S/Unary", "")
      assert.same({ STATUS.RESOURCE_EXHAUSTED, "too many calls in progress" }, { err.status, err.message })
      release:signal()
      assert.equal("done", (first:join()))
      assert.equal(1, server:stats().refused)
    end, { max_calls = 1 })
  end)

  it("ends a unary call that is not answered in time, and tells its handler", function()
    local told
    with_server({
      ["/t.S/Unary"] = function(call)
        if call:request() == "quick" then return call:reply("done") end
        local _, err = task.sleep(5000)
        told = { err.code, call:cancelled() }
      end,
      ["/t.S/Both"] = function(call)
        local message = call:read()
        task.sleep(150)
        call:write(message)
        call:finish(STATUS.OK)
      end,
    }, function(channel, server)
      local stream = assert(channel:stream("/t.S/Both"))
      assert(stream:write("kept"))
      local began = sys.mono_ms()
      local outcomes = {}
      for i = 1, 3 do
        outcomes[i] = task.spawn(function()
          local _, err = channel:unary("/t.S/Unary", "")
          return err
        end)
      end
      assert.equal("done", channel:unary("/t.S/Unary", "quick"))
      for i = 1, 3 do
        local err = outcomes[i]:join()
        assert.same({ STATUS.DEADLINE_EXCEEDED, "the request took longer than 80 ms" }, { err.status, err.message })
      end
      assert.is_true(sys.mono_ms() - began < 20000)
      assert.same({ "CANCELLED", true }, told)
      assert.equal("kept", stream:read())
      assert.is_nil((stream:read()))
      assert.equal(3, server:stats().timed_out)
    end, { unary_timeout_ms = 80 })
  end)

  it("refuses headers beyond its limit", function()
    with_server({ ["/t.S/Unary"] = echo }, function(channel)
      local _, err = channel:unary("/t.S/Unary", "", { metadata = { big = string.rep("x", 5000) } })
      assert.equal("RPC", err.code)
      assert.equal(STATUS.RESOURCE_EXHAUSTED, err.status)
      assert.equal("x", channel:unary("/t.S/Unary", "x"))
    end, { max_metadata_bytes = 2000 })
  end)
end)
