local bytes = require("host.bytes")
local task = require("host.task")
local raw = require("spec.support.raw_http")
local servers = require("spec.support.http_server")
local eventually = require("spec.support.eventually")

local GET = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"

describe("host.http streams", function()
  after_each(servers.stop_all)

  it("are chunked and keep the connection", function()
    local _, port = servers.start({}, function(_, res)
      assert(res:start(200, { ["content-type"] = "text/plain" }))
      assert(res:write("one "))
      task.sleep(5)
      assert(res:offer(bytes.new("two ")))
      assert(res:write(""))
      assert(res:offer("three"))
      assert(res:finish())
    end)
    local client = raw.connect(port)
    for _ = 1, 2 do
      local reply = client:ask(GET)
      assert.equal("chunked", reply.headers["transfer-encoding"])
      assert.is_nil(reply.headers["content-length"])
      assert.equal("one two three", reply.body)
    end
    client:close()
  end)

  it("put everything of one turn in one chunk", function()
    local _, port = servers.start({}, function(_, res)
      res:start(200)
      for i = 1, 100 do res:offer(("event %d\n"):format(i)) end
      task.sleep(5)
      res:finish()
    end)
    local client = raw.connect(port)
    client:send(GET)
    client:head()
    local first = client:chunk()
    assert.matches("^event 1\n.*event 100\n$", first)
    assert.equal("", client:chunk())
    client:close()
  end)

  it("end with the connection for HTTP/1.0 clients", function()
    local _, port = servers.start({}, function(_, res)
      res:start(200)
      res:write("old")
    end)
    local client = raw.connect(port)
    local reply = client:ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert.is_nil(reply.headers["transfer-encoding"])
    assert.equal("close", reply.headers.connection)
    assert.equal("old", reply.body)
    client:close()
  end)

  it("to HEAD requests have no body", function()
    local _, port = servers.start({}, function(_, res)
      res:start(200)
      res:write("dropped")
      res:finish()
    end)
    local client = raw.connect(port)
    client:ask("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", "HEAD")
    client:ask("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", "HEAD")
    assert.equal("", client.buffer)
    client:close()
  end)

  it("are finished when the handler returns, and cut when it fails", function()
    local _, port = servers.start({}, function(req, res)
      res:start(200)
      res:write("part")
      task.sleep(1)
      if req.path == "/fail" then error("in the middle") end
    end)
    local client = raw.connect(port)
    assert.equal("part", client:ask(GET).body)
    client:send("GET /fail HTTP/1.1\r\nHost: h\r\n\r\n")
    client:head()
    assert.equal("part", client:chunk())
    assert.is_true(client:is_closed_within(1000))
    client:close()
  end)

  it("are cut on request, so that nobody takes a part for the whole", function()
    local _, port = servers.start({}, function(req, res)
      if req.path == "/early" then return res:abort() end
      res:start(200)
      res:write("part")
      task.sleep(1)
      res:abort()
      assert(res:closed())
    end, function(status, reason) return { ["content-type"] = "text/x-error" }, status .. " " .. reason:rep(3) end)
    local client = raw.connect(port)
    for _ = 1, 300 do assert.equal("text/x-error", client:get("/early").headers["content-type"]) end
    client:send(GET)
    client:head()
    assert.equal("part", client:chunk())
    assert.is_true(client:is_closed_within(1000))
    client:close()
  end)

  it("refuse calls out of order", function()
    local failures = {}
    local _, port = servers.start({}, function(_, res)
      failures[1] = not pcall(res.write, res, "x")
      failures[2] = not pcall(res.offer, res, "x")
      failures[3] = not pcall(res.finish, res)
      res:start(200)
      failures[4] = not pcall(res.start, res, 200)
      failures[5] = not pcall(res.send, res, 200)
    end)
    local client = raw.connect(port)
    client:ask(GET)
    assert.same({ true, true, true, true, true }, failures)
    client:close()
  end)

  describe("to a slow reader", function()
    local BLOCK = ("b"):rep(64 * 1024)

    it("make write wait, and go on when there is room", function()
      local written, stalled = 0, false
      local _, port = servers.start({ max_pending_bytes = 256 * 1024 }, function(_, res)
        res:start(200)
        for _ = 1, 200 do
          assert(res:write(BLOCK))
          written = written + 1
          stalled = stalled or res:pending() > 128 * 1024
          assert(res:pending() <= 256 * 1024 + #BLOCK)
        end
        res:finish()
      end)
      local client = raw.connect(port, { recv_buffer = 65536 })
      client:send(GET)
      local last = -1
      eventually(function() -- the writer stands still
        local is_still = last == written and written > 0
        last = written
        task.sleep(20)
        return is_still
      end, 3000)
      assert.is_true(written < 200)
      local total = #client:reply().body
      assert.equal(200 * #BLOCK, total)
      assert.is_true(stalled)
      client:close()
    end)

    it("make offer answer full, never more than the limit pending, and drain later", function()
      local refused, most, drained
      local _, port = servers.start({ max_pending_bytes = 128 * 1024 }, function(_, res)
        res:start(200)
        most = 0
        local shared = bytes.new(("s"):rep(5000))
        for i = 1, 4000 do
          local ok, why = res:offer(shared)
          most = math.max(most, res:pending())
          if not ok then
            refused = why
            break
          end
          if i % 10 == 0 then task.sleep(1) end
        end
        drained = res:wait_drained()
        assert(res:pending() == 0)
        assert(res:offer("last"))
      end)
      local client = raw.connect(port, { recv_buffer = 65536 })
      client:send(GET)
      eventually(function() return refused end, 8000)
      assert.equal("full", refused)
      assert.is_true(most <= 128 * 1024 + 200)
      assert.matches("last$", client:reply().body)
      assert.is_true(drained)
      client:close()
    end)

    it("take one piece that is bigger than the limit", function()
      local _, port = servers.start({ max_pending_bytes = 1000 }, function(_, res)
        res:start(200)
        res:wait_drained()
        assert(res:offer(BLOCK))
        assert(not res:offer("x"))
      end)
      local client = raw.connect(port)
      assert.equal(#BLOCK, #client:ask(GET).body)
      client:close()
    end)

    it("cut it when it takes nothing in time, and tell the handler", function()
      local reason
      local server, port = servers.start({ write_timeout_ms = 100, max_pending_bytes = 65536 }, function(_, res)
        res:start(200)
        while true do
          local ok, err = res:write(BLOCK)
          if not ok then
            reason = err.code
            return
          end
        end
      end)
      local client = raw.connect(port, { recv_buffer = 4096 })
      client:send(GET)
      eventually(function() return reason end, 3000)
      assert.equal("CLOSED", reason)
      eventually(function() return server:stats().connections == 0 end, 1000)
      client:close()
    end)

    it("end a wait at its deadline", function()
      local code
      local _, port = servers.start({ max_pending_bytes = 65536 }, function(_, res)
        res:start(200)
        local _, err = task.with_deadline(50, function()
          while true do
            local ok, failure = res:write(BLOCK)
            if not ok then return nil, failure end
          end
        end)
        code = err.code
      end)
      local client = raw.connect(port, { recv_buffer = 4096 })
      client:send(GET)
      eventually(function() return code end, 3000)
      assert.equal("TIMEOUT", code)
      client.socket:reset()
    end)
  end)

  it("fan out to many readers, each frame once and in order", function()
    local subscribers, closed = {}, 0
    local _, port = servers.start({}, function(_, res)
      res:start(200, { ["content-type"] = "text/event-stream" })
      subscribers[#subscribers + 1] = res
      res:wait_closed()
      closed = closed + 1
    end)
    local clients = {}
    for i = 1, 20 do
      clients[i] = raw.connect(port)
      clients[i]:send(GET)
      clients[i]:head()
    end
    local expected = {}
    for i = 1, 200 do
      local frame = bytes.new(("id: %d\ndata: %s\n\n"):format(i, ("d"):rep(i * 13 % 3000)))
      expected[i] = tostring(frame)
      for _, res in ipairs(subscribers) do assert.is_true(res:offer(frame)) end
      if i % 7 == 0 then task.sleep(1) end
    end
    for _, res in ipairs(subscribers) do res:finish() end
    local all = table.concat(expected)
    for _, client in ipairs(clients) do
      local parts = {}
      repeat
        local data = client:chunk()
        parts[#parts + 1] = data
      until data == ""
      assert.is_true(table.concat(parts) == all)
      client:close()
    end
    eventually(function() return closed == 20 end, 2000)
  end)
end)
