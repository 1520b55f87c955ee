-- host.rpc: streams over loopback.

local bytes = require("host.bytes")
local rpc = require("host.rpc")
local task = require("host.task")

local eventually = require("spec.support.eventually")
local pair = require("spec.support.rpc_pair")

local STATUS = rpc.status
local with_server = pair.run

describe("a server stream", function()
  it("delivers messages in order and ends cleanly", function()
    with_server({ ["/t.S/Down"] = function(call)
      for i = 1, tonumber(call:request()) do assert(call:write("m" .. i)) end
      call:finish(STATUS.OK, nil, { total = call:request() })
    end }, function(channel)
      local stream = assert(channel:server_stream("/t.S/Down", "1000"))
      local count = 0
      for i = 1, 1000 do
        assert.equal("m" .. i, stream:read())
        count = count + 1
      end
      assert.same({}, { stream:read() })
      assert.same({}, { stream:read() })
      assert.equal(1000, count)
      assert.same({ total = "1000" }, stream:trailing())
    end)
  end)

  it("hands out what has arrived in arrays", function()
    with_server({ ["/t.S/Down"] = function(call)
      local shared = bytes.new(string.rep("s", 100))
      for _ = 1, 2000 do assert(call:write(shared)) end
      call:finish(0)
    end }, function(channel)
      local stream = assert(channel:server_stream("/t.S/Down", ""))
      local count, reads = 0, 0
      while true do
        local batch, err = stream:read_many(100)
        assert.is_nil(err)
        if batch == nil then break end
        assert.is_true(#batch >= 1 and #batch <= 100)
        for _, message in ipairs(batch) do assert.equal(100, #message) end
        count, reads = count + #batch, reads + 1
      end
      assert.equal(2000, count)
      assert.is_true(reads < 1000)
    end)
  end)

  it("sends its headers before the first message", function()
    local release = task.cond()
    with_server({ ["/t.S/Down"] = function(call)
      release:wait()
      call:finish(0)
    end }, function(channel)
      local stream = assert(channel:server_stream("/t.S/Down", ""))
      assert.same({}, (task.with_deadline(1000, stream.headers, stream)))
      release:signal()
      assert.is_nil(stream:read())
    end)
  end)

  it("ends with an error after the messages before it", function()
    with_server({ ["/t.S/Down"] = function(call)
      call:offer("one")
      call:fail(STATUS.ABORTED, "enough")
    end }, function(channel)
      local stream = assert(channel:server_stream("/t.S/Down", ""))
      assert.equal("one", stream:read())
      local message, err = stream:read()
      assert.is_nil(message)
      assert.same({ "RPC", STATUS.ABORTED, "enough" }, { err.code, err.status, err.message })
      assert.equal(STATUS.ABORTED, select(2, stream:read_many()).status)
    end)
  end)

  it("bounds the queue of a slow reader", function()
    local refused, queued_messages, queued_bytes, waited
    with_server({ ["/t.S/Down"] = function(call)
      local message = string.rep("x", 64 * 1024)
      local ok
      repeat ok, refused = call:offer(message) until not ok
      queued_messages, queued_bytes = call:queued()
      assert(call:write(message))
      waited = true
      call:finish(0)
    end }, function(channel)
      local stream = assert(channel:server_stream("/t.S/Down", "", { prefetch_messages = 2 }))
      eventually(function() return refused end)
      task.sleep(50)
      assert.equal("full", refused)
      assert.is_true(queued_messages <= 8)
      assert.is_true(queued_bytes <= 8 * 64 * 1024)
      local count = 0
      while stream:read() do count = count + 1 end
      assert.is_true(count > 8)
      assert.is_true(waited)
    end, { queue_messages = 8 })
  end)

  it("cancels the handler when the client cancels", function()
    local ended
    with_server({ ["/t.S/Down"] = function(call)
      call:write("first")
      ended = { call:wait_closed() }
      assert(select(2, call:offer("x")) == "closed")
    end }, function(channel, server)
      local stream = assert(channel:server_stream("/t.S/Down", ""))
      assert.equal("first", stream:read())
      stream:cancel()
      assert.equal("CANCELLED", select(2, stream:read()).code)
      eventually(function() return ended and server:stats().live == 0 end)
      assert.equal(1, server:stats().cancelled)
    end)
  end)

  it("ends at the deadline of the client", function()
    with_server({ ["/t.S/Down"] = function(call) call:wait_closed() end }, function(channel)
      local stream = assert(channel:server_stream("/t.S/Down", "", { timeout_ms = 50 }))
      assert.equal(STATUS.DEADLINE_EXCEEDED, select(2, stream:read()).status)
    end)
  end)

  it("is cancelled when its object is collected", function()
    with_server({ ["/t.S/Down"] = function(call) call:wait_closed() end }, function(channel, server)
      assert(channel:server_stream("/t.S/Down", ""))
      eventually(function() return server:stats().live == 1 end)
      eventually(function()
        collectgarbage()
        return server:stats().live == 0
      end)
    end)
  end)
end)

describe("a client stream", function()
  it("is read until the client has finished", function()
    with_server({ ["/t.S/Up"] = function(call)
      local total = 0
      for message in function() return call:read() end do total = total + #message end
      call:reply(tostring(total), { kind = "sum" })
    end }, function(channel)
      local stream = assert(channel:stream("/t.S/Up"))
      for i = 1, 500 do assert(stream:write(string.rep("x", i))) end
      stream:half_close()
      assert.equal("CLOSED", select(2, stream:write("late")).code)
      assert.equal("125250", stream:read())
      assert.is_nil(stream:read())
      assert.equal("sum", stream:trailing().kind)
    end)
  end)

  it("slows the client down while nobody reads", function()
    local go = task.cond()
    with_server({ ["/t.S/Up"] = function(call)
      go:wait()
      local count = 0
      while call:read() do count = count + 1 end
      call:reply(tostring(count))
    end }, function(channel)
      local stream = assert(channel:stream("/t.S/Up", { queue_messages = 4 }))
      local sent = 0
      local writer = task.spawn(function()
        for _ = 1, 400 do
          assert(stream:write(string.rep("x", 64 * 1024)))
          sent = sent + 1
        end
        stream:half_close()
      end)
      task.sleep(100)
      assert.is_true(sent < 300)
      go:signal()
      writer:join()
      assert.equal("400", stream:read())
    end)
  end)
end)

describe("a bidirectional stream", function()
  it("talks both ways", function()
    with_server({ ["/t.S/Both"] = function(call)
      for message in function() return call:read() end do call:write("re: " .. message) end
      call:finish(0)
    end }, function(channel)
      local stream = assert(channel:stream("/t.S/Both", { metadata = { token = "t" } }))
      for i = 1, 20 do
        assert(stream:write("m" .. i))
        assert.equal("re: m" .. i, stream:read())
      end
      stream:half_close()
      assert.same({}, { stream:read() })
    end)
  end)

  it("lets the handler set late headers", function()
    with_server({ ["/t.S/Late"] = function(call)
      task.sleep(5)
      assert(call:set_headers({ ["x-chosen"] = "late", ["x-raw-bin"] = "\0" }))
      call:write("m")
      assert(call:set_headers({ a = "b" }) == nil)
      call:finish(0)
    end, ["/t.S/Both"] = function(call)
      assert(select(2, call:set_headers({ a = "b" })).code == "CLOSED")
      call:finish(0)
    end }, function(channel)
      local stream = assert(channel:stream("/t.S/Late"))
      assert.same({ ["x-chosen"] = "late", ["x-raw-bin"] = "\0" }, stream:headers())
      assert.equal("m", stream:read())
      assert.is_nil(stream:read())
      assert.same({}, { assert(channel:stream("/t.S/Both")):read() })
    end)
  end)

  it("tells a half-close from a cancel", function()
    local ends = {}
    with_server({ ["/t.S/Both"] = function(call)
      local first = call:read()
      local message, err = call:read()
      ends[first] = message == nil and (err and err.code or "clean")
      call:finish(0)
    end }, function(channel)
      local clean = assert(channel:stream("/t.S/Both"))
      clean:write("clean")
      clean:half_close()
      local cancelled = assert(channel:stream("/t.S/Both"))
      cancelled:write("cancelled")
      eventually(function() return ends.clean end)
      cancelled:cancel()
      eventually(function() return ends.cancelled end)
      assert.same({ clean = "clean", cancelled = "CANCELLED" }, ends)
    end)
  end)

  it("lets deadlines end waiting reads and writes, and keeps the order of writers", function()
    local go = task.cond()
    with_server({ ["/t.S/Both"] = function(call)
      go:wait()
      for message in function() return call:read() end do call:write(message:sub(1, 1)) end
      call:finish(0)
    end }, function(channel)
      local stream = assert(channel:stream("/t.S/Both", { queue_messages = 2 }))
      local big = string.rep("x", 500000)
      local _, err = task.with_deadline(20, stream.read, stream)
      assert.equal("TIMEOUT", err.code)
      local filled = 0
      repeat
        local ok = stream:offer(big)
        filled = filled + (ok and 1 or 0)
        task.sleep(1)
      until not ok and select(2, stream:queued()) >= 2 * #big
      repeat -- a busy transport may still take some
        local sent
        sent, err = task.with_deadline(50, stream.write, stream, big)
        filled = filled + (sent and 1 or 0)
      until not sent
      assert.equal("TIMEOUT", err.code)
      for i = 1, 5 do task.spawn(function() assert(stream:write(tostring(i))) end) end
      task.sleep(1)
      assert.same({ false, "full" }, { stream:offer("behind the writers") })
      go:signal()
      for _ = 1, filled do assert.equal("x", stream:read()) end
      for i = 1, 5 do assert.equal(tostring(i), stream:read()) end
      stream:half_close()
      assert.is_nil(stream:read())
    end)
  end)

  it("has one reader at a time", function()
    with_server({ ["/t.S/Both"] = function(call)
      call:read()
      call:finish(0)
    end }, function(channel)
      local stream = assert(channel:stream("/t.S/Both"))
      local reader = task.spawn(function() return stream:read() end)
      task.sleep(5)
      assert.has_error(function() stream:read() end, "another task already reads this call")
      stream:half_close()
      assert.is_nil(reader:join())
    end)
  end)

  it("wakes writers and readers of other tasks when it ends", function()
    local results = {}
    with_server({ ["/t.S/Both"] = function(call)
      task.spawn(function() results.read = select(2, call:read()).code end)
      task.spawn(function()
        local ok, err
        repeat ok, err = call:write(string.rep("x", 100000)) until not ok
        results.write = err.code
      end)
      task.sleep(50)
      call:fail(STATUS.ABORTED, "over")
    end }, function(channel)
      local stream = assert(channel:stream("/t.S/Both"))
      eventually(function() return results.read and results.write end)
      assert.same({ read = "CLOSED", write = "CLOSED" }, results)
      stream:cancel()
    end, { queue_messages = 4 })
  end)

  it("survives a thousand streams that are opened and dropped", function()
    with_server({ ["/t.S/Both"] = function(call)
      while call:read() do call:offer("x") end
    end }, function(channel, server)
      for round = 1, 4 do
        local streams = {}
        for i = 1, 250 do
          streams[i] = assert(channel:stream("/t.S/Both"))
          if i % 2 == 0 then streams[i]:write("hello") end
        end
        if round % 2 == 0 then
          for _, stream in ipairs(streams) do stream:cancel() end
        end
        streams = nil -- luacheck: ignore
        collectgarbage()
      end
      eventually(function()
        collectgarbage()
        return server:stats().live == 0
      end)
    end, { max_concurrent_streams = 2000 })
  end)
end)
