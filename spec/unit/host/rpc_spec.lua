-- host.rpc: unary calls over loopback.

local bytes = require("host.bytes")
local proto = require("host.proto")
local rpc = require("host.rpc")
local sys = require("host.sys")
local task = require("host.task")

local eventually = require("spec.support.eventually")
local pair = require("spec.support.rpc_pair")

local STATUS = rpc.status
local METHODS = pair.METHODS
local with_server = pair.run

local function echo(call) call:reply(call:request()) end

describe("a unary call", function()
  it("carries bytes both ways", function()
    with_server({ ["/t.S/Unary"] = echo }, function(channel)
      for _, size in ipairs({ 0, 1, 23, 24, 200, 70000, 1000000 }) do
        local payload = string.rep("\0x", size):sub(1, size)
        local reply, trailing = channel:unary("/t.S/Unary", payload)
        assert.equal(payload, reply)
        assert.same({}, trailing)
      end
      assert.equal("shared bytes are sent without a copy", channel:unary("/t.S/Unary",
        bytes.new("shared bytes are sent without a copy")))
    end)
  end)

  it("decodes a request and encodes an answer without strings in between", function()
    local pool = assert(proto.fields("Greeting", { { name = "text", number = 1, type = "string" } }))
    local codec = pool:codec("Greeting", { defaults = true })
    local seen, refused
    with_server({ ["/t.S/Unary"] = function(call)
      local request, err = call:decode(codec)
      seen = err or request
      if err then return call:fail(STATUS.INVALID_ARGUMENT, err.message) end
      refused = { pcall(call.reply_with, call, codec, { text = {} }) }
      call:reply_with(codec, { text = request.text .. "!" })
      assert.is_nil((call:reply_with(codec, {})))
    end }, function(channel)
      for _, text in ipairs({ "", "hello", ("long"):rep(50000) }) do
        assert.same({ text = text .. "!" }, codec:decode(channel:unary("/t.S/Unary", codec:encode({ text = text }))))
        assert.same({ text = text }, seen)
      end
      assert.is_false(refused[1])
      assert.matches("text", refused[2])
      local reply, err = channel:unary("/t.S/Unary", "\8\1garbage\255")
      assert.is_nil(reply)
      assert.equal(STATUS.INVALID_ARGUMENT, err.status)
    end)
  end)

  it("tells whether the request's bytes are the ones that encoding gives", function()
    local pool = assert(proto.fields("Note", {
      { name = "text", number = 1, type = "string" }, { name = "number", number = 2, type = "int64" },
      { name = "ratio", number = 3, type = "double" }, { name = "flag", number = 4, type = "bool" },
      { name = "data", number = 5, type = "bytes" }, { name = "list", number = 6, type = "string", repeated = true },
    }))
    local codec = pool:codec("Note", { defaults = true })
    local request, exact
    with_server({ ["/t.S/Unary"] = function(call)
      request, exact = call:decode_exact(codec)
      call:reply("")
    end }, function(channel)
      local text = "\10\2hi"
      for _, wire in ipairs({
        "", text, text .. "\16\5", text .. "\16\255\255\255\255\255\255\255\255\255\1",
        text .. "\25\0\0\0\0\0\0\240\63\32\1\42\1\0",
      }) do
        channel:unary("/t.S/Unary", wire)
        assert.equal(wire, exact)
        assert.equal(wire, codec:encode(request))
      end
      for what, wire in pairs({
        ["fields in another order"] = "\16\5" .. text,
        ["a field twice"] = text .. text,
        ["an unknown field"] = text .. "\120\1",
        ["a zero that need not be there"] = "\16\0",
        ["an empty string"] = "\10\0",
        ["a long form of a length"] = "\10\130\0hi",
        ["a long form of a number"] = "\16\133\0",
        ["a long form of a tag"] = "\138\0\2hi",
        ["a boolean that is not one"] = "\32\2",
        ["NaN with a payload"] = "\25\1\0\0\0\0\0\248\127",
        ["a list, which is left to the encoder"] = "\50\1a",
      }) do
        channel:unary("/t.S/Unary", wire)
        assert.is_table(request, what)
        assert.is_nil(exact, what)
      end
      channel:unary("/t.S/Unary", "\10\200")
      assert.is_nil(request)
      assert.matches("text", exact.message)
    end)
  end)

  it("reports the status, message and trailing metadata of a failure", function()
    with_server({ ["/t.S/Unary"] = function(call)
      call:fail(STATUS.FAILED_PRECONDITION, "not now: \195\164", { reason = "closed", ["detail-bin"] = "\0\255" })
    end }, function(channel)
      local reply, err = channel:unary("/t.S/Unary", "x")
      assert.is_nil(reply)
      assert.same({ code = "RPC", status = 9, message = "not now: \195\164",
        trailing = { reason = "closed", ["detail-bin"] = { "\0\255" } } },
        { code = err.code, status = err.status, message = err.message,
          trailing = { reason = err.trailing.reason, ["detail-bin"] = { err.trailing["detail-bin"] } } })
    end)
  end)

  it("carries metadata in both directions, raw in -bin keys", function()
    with_server({ ["/t.S/Unary"] = function(call)
      local metadata = call:metadata()
      assert(metadata["x-one"] == "1" and metadata["x-raw-bin"] == "\0\1\255")
      assert(metadata["x-many"] == "a, b")
      assert(call:header("x-one") == "1" and call:header("x-none") == nil and call:header("x-many") == "a, b")
      call:set_headers({ ["x-head"] = "h" })
      call:reply(call:header("authorization"), { ["x-tail"] = { "1", "2" }, ["x-tail-bin"] = "\0" })
    end }, function(channel)
      local reply, trailing = assert(channel:unary("/t.S/Unary", "", { metadata = {
        ["x-one"] = "1", ["x-raw-bin"] = "\0\1\255", ["x-many"] = { "a", "b" },
        authorization = "Bearer " .. string.rep("t", 20000),
      } }))
      assert.equal(20007, #reply)
      assert.equal("1, 2", trailing["x-tail"])
      assert.equal("\0", trailing["x-tail-bin"])
    end)
  end)

  it("refuses illegal metadata before anything is sent", function()
    with_server({ ["/t.S/Unary"] = function(call)
      local ok, err = call:reply("x", { ["bad"] = "line\nbreak" })
      assert(ok == nil and err.code == "INVALID")
      call:reply("still usable")
    end }, function(channel)
      for key, value in pairs({ ["Upper"] = "x", ["a b"] = "x", ["grpc-status"] = "0", ["ok"] = "\1", [""] = "x" }) do
        local reply, err = channel:unary("/t.S/Unary", "", { metadata = { [key] = value } })
        assert.is_nil(reply)
        assert.equal("INVALID", err.code)
      end
      assert.equal("still usable", channel:unary("/t.S/Unary", ""))
      assert.has_error(function() channel:unary("/t.S/Unary", "", { metadata = { a = 1 } }) end)
    end)
  end)

  it("answers UNIMPLEMENTED for unknown methods", function()
    with_server({}, function(channel, server)
      local _, err = channel:unary("/t.S/Nothing", "x")
      assert.equal(STATUS.UNIMPLEMENTED, err.status)
      assert.matches("unknown method /t.S/Nothing", err.message, 1, true)
      assert.equal(1, server:stats().unknown)
    end)
  end)

  it("answers INTERNAL when the handler fails or does not answer", function()
    with_server({ ["/t.S/Unary"] = function(call)
      if call:request() == "fail" then error("secret detail") end
    end }, function(channel)
      for _, request in ipairs({ "fail", "forget" }) do
        local _, err = channel:unary("/t.S/Unary", request)
        assert.equal(STATUS.INTERNAL, err.status)
        assert.is_nil(err.message:find("secret", 1, true))
      end
    end)
  end)

  it("tells what it was ended with", function()
    local told, handler_ended = {}, nil
    with_server({ ["/t.S/Unary"] = function(call)
      local request = call:request()
      local before = call:status()
      if request == "reply" then call:reply("") end
      if request == "fail" then call:fail(STATUS.NOT_FOUND, "no") end
      if request == "wait" then task.sleep(60000) end
      told[request] = { before, call:status() }
      handler_ended = call
    end }, function(channel, server)
      channel:unary("/t.S/Unary", "reply")
      channel:unary("/t.S/Unary", "fail")
      channel:unary("/t.S/Unary", "nothing")
      local caller = task.spawn(function() channel:unary("/t.S/Unary", "wait") end)
      eventually(function() return server:stats().live == 1 end)
      caller:cancel()
      eventually(function() return told.wait end)
      assert.same({ reply = { nil, 0 }, fail = { nil, STATUS.NOT_FOUND }, nothing = {},
        wait = { nil, STATUS.CANCELLED } }, told)
      assert.is_nil(handler_ended:status())
    end)
  end)

  it("limits the size of requests and responses", function()
    with_server({ ["/t.S/Unary"] = function(call)
      call:reply(string.rep("x", tonumber(call:request()) or 0))
    end }, function(channel)
      local _, err = channel:unary("/t.S/Unary", string.rep("1", 5000))
      assert.equal(STATUS.RESOURCE_EXHAUSTED, err.status)
      _, err = channel:unary("/t.S/Unary", "5000")
      assert.equal(STATUS.RESOURCE_EXHAUSTED, err.status)
      assert.equal(900, #channel:unary("/t.S/Unary", "900"))
    end, { max_message_bytes = 1000 }, { max_message_bytes = 1000 })
  end)

  it("ends at its deadline on both sides", function()
    local remaining, was_cancelled
    with_server({ ["/t.S/Unary"] = function(call)
      remaining = call:remaining_ms()
      task.sleep(60000)
      was_cancelled = call:cancelled() and task.cancelled()
    end }, function(channel)
      local began = sys.mono_ms()
      local _, err = channel:unary("/t.S/Unary", "", { timeout_ms = 1000 })
      assert.equal(STATUS.DEADLINE_EXCEEDED, err.status)
      assert.is_true(sys.mono_ms() - began < 30000)
      assert.is_true(remaining > 0 and remaining <= 1100) -- the wire has three digits, rounded up
      eventually(function() return was_cancelled end)
    end)
  end)

  it("has no deadline when asked for none", function()
    with_server({ ["/t.S/Unary"] = function(call) call:reply(tostring(call:remaining_ms())) end }, function(channel)
      assert.equal("nil", channel:unary("/t.S/Unary", "", { timeout_ms = 0 }))
      local remaining = channel:unary("/t.S/Unary", "")
      assert.is_true(tonumber(remaining) > 20000 and tonumber(remaining) <= 31000)
    end)
  end)

  it("is cancelled with the task that waits for it, and so is its handler", function()
    local handler_cancelled
    with_server({ ["/t.S/Unary"] = function(call)
      local _, err = task.sleep(5000)
      handler_cancelled = err and err.code == "CANCELLED" and call:cancelled()
    end }, function(channel, server)
      local outcome
      local caller = task.spawn(function() outcome = { channel:unary("/t.S/Unary", "") } end)
      eventually(function() return server:stats().live == 1 end)
      caller:cancel()
      eventually(function() return outcome and handler_cancelled end)
      assert.equal("CANCELLED", outcome[2].code)
      local _, err = task.with_deadline(30, channel.unary, channel, "/t.S/Unary", "")
      assert.equal("TIMEOUT", err.code)
      eventually(function() return server:stats().live == 0 end)
    end)
  end)

  it("fails at once when nobody listens, or waits when told to", function()
    local server = assert(rpc.listen({ methods = METHODS }))
    local port = server:port()
    server:close()
    local channel = assert(rpc.channel({ target = "127.0.0.1:" .. port }))
    local _, err = channel:unary("/t.S/Unary", "")
    assert.equal(STATUS.UNAVAILABLE, err.status)
    assert.equal("failure", channel:state())
    local reply
    task.spawn(function() reply = channel:unary("/t.S/Unary", "late", { wait_for_ready = true, timeout_ms = 5000 }) end)
    task.sleep(20)
    server = assert(rpc.listen({ methods = METHODS, address = "127.0.0.1:" .. port }))
    server:serve(echo)
    eventually(function() return reply == "late" end)
    assert.equal("ready", channel:state())
    channel:close()
    assert.equal("shutdown", channel:state())
    assert.has_error(function() channel:unary("/t.S/Unary", "") end, "the channel is closed")
    server:close()
  end)

  it("runs many at a time", function()
    with_server({ ["/t.S/Unary"] = function(call)
      if #call:request() % 3 == 0 then task.sleep(5) end
      call:reply(call:request())
    end }, function(channel)
      local good = 0
      assert(task.group(function(group)
        for i = 1, 500 do
          group:spawn(function()
            local reply = channel:unary("/t.S/Unary", string.rep("x", i))
            good = good + (reply == string.rep("x", i) and 1 or 0)
          end)
        end
      end))
      assert.equal(500, good)
    end)
  end)

  it("keeps the call object safe after its end", function()
    local kept
    with_server({ ["/t.S/Unary"] = function(call)
      kept = call
      call:reply("x")
      local ok, err = call:reply("twice")
      assert(ok == nil and err.code == "CLOSED")
    end }, function(channel)
      assert.equal("x", channel:unary("/t.S/Unary", ""))
      task.sleep(5)
    end)
    collectgarbage()
    assert.equal("/t.S/Unary", kept.method)
    assert.is_true(kept:cancelled())
    assert.same({}, kept:metadata())
    assert.is_nil(kept:header("x"))
    assert.equal("", kept:request())
    assert.equal("CLOSED", select(2, kept:reply("x")).code)
    assert.equal("CLOSED", select(2, kept:fail(13, "x")).code)
    assert.equal("CLOSED", select(2, kept:read()).code)
    assert.is_true(kept:wait_closed())
    assert.has_error(function() kept.reply(io.stdout, "x") end)
  end)
end)
