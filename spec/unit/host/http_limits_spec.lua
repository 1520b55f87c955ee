local sys = require("host.sys")
local task = require("host.task")
local raw = require("spec.support.raw_http")
local servers = require("spec.support.http_server")
local eventually = require("spec.support.eventually")

local HEAD = "GET / HTTP/1.1\r\nHost: h\r\n"

describe("host.http limits", function()
  after_each(servers.stop_all)

  local function ok(_, res) res:send(200, nil, "ok") end

  -- The server refuses text with that status, names a reason, closes, and serves the next client.
  local function refuses(opts, text, status)
    local server, port = servers.start(opts, ok, function(code, reason, given)
      assert.is_table(given)
      return { ["content-type"] = "text/x-error", ["x-given"] = given["x-asked"] }, code .. " " .. reason
    end)
    local client = raw.connect(port)
    client:send(text)
    local reply = assert(client:reply())
    assert.equal(status, reply.status)
    assert.equal("close", reply.headers.connection)
    assert.equal("text/x-error", reply.headers["content-type"])
    assert.matches("^" .. status .. " %a", reply.body)
    assert.is_true(client:is_closed_within(3000))
    client:close()
    assert.equal(1, server:stats().bad_requests)
    assert.equal(0, server:stats().requests)
    local other = raw.connect(port)
    assert.equal(200, other:ask(HEAD .. "\r\n").status)
    other:close()
    servers.stop_all()
  end

  it("refuse what is not HTTP/1.x", function()
    refuses({}, "\22\3\1\2\0\1\0\1\252\3\3", 400)
    refuses({}, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400)
    refuses({}, "GET / HTTP/1.1\nHost: h\n\n", 400)
    refuses({}, "HELLO\r\n", 400)
    refuses({}, "GET / HTTP/1.1\r\n\r\n", 400)
    refuses({}, "GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505)
    refuses({}, "CONNECT x:1 HTTP/1.1\r\nHost: h\r\n\r\n", 501)
    refuses({}, HEAD .. "Transfer-Encoding: gzip\r\n\r\n", 501)
    refuses({}, HEAD .. "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400)
    refuses({}, HEAD .. "Expect: tea\r\n\r\n", 417)
  end)

  it("refuse a head over its size", function()
    refuses({ max_head_bytes = 512 }, HEAD .. "A: " .. ("x"):rep(600) .. "\r\n\r\n", 431)
    refuses({ max_head_bytes = 512 }, "GET /" .. ("x"):rep(600) .. " HTTP/1.1\r\nHost: h\r\n\r\n", 414)
    refuses({ max_headers = 3 }, HEAD .. "A: 1\r\nB: 2\r\nC: 3\r\n\r\n", 431)
    refuses({}, HEAD .. "A: " .. ("x"):rep(65536) .. "\r\n\r\n", 431)
  end)

  it("give the refusal's words the fields of the request", function()
    local _, port = servers.start({ max_body_bytes = 10 }, ok, function(_, reason, given)
      return { ["x-given"] = given["x-asked"] }, reason
    end)
    local client = raw.connect(port)
    client:send(HEAD .. "X-Asked: me\r\nContent-Length: 11\r\n\r\n")
    assert.equal("me", client:reply().headers["x-given"])
    client:close()
  end)

  it("refuse a body over its size before reading it", function()
    refuses({ max_body_bytes = 10 }, HEAD .. "Content-Length: 11\r\n\r\n", 413)
    refuses({ max_body_bytes = 10 }, HEAD .. "Transfer-Encoding: chunked\r\n\r\nb\r\n", 413)
    refuses({ max_body_bytes = 10 }, HEAD .. "Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n1\r\n", 413)
    refuses({}, HEAD .. "Content-Length: 1048577\r\nExpect: 100-continue\r\n\r\n", 413)
  end)

  it("let the client read a refusal although it is still sending", function()
    local _, port = servers.start({ max_body_bytes = 10 }, ok)
    local client = raw.connect(port)
    client:send(HEAD .. "Content-Length: 3000000\r\n\r\n")
    local writer = task.spawn(function() client:send(("x"):rep(3000000)) end)
    assert.equal(413, client:reply().status)
    writer:join()
    client:close()
  end)

  it("take a head and a body of exactly their size", function()
    local _, port = servers.start({ max_head_bytes = 512, max_body_bytes = 10 }, ok)
    local client = raw.connect(port)
    local head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\nA: "
    head = head .. ("x"):rep(512 - #head - 4) .. "\r\n\r\n"
    for _ = 1, 2 do assert.equal(200, client:ask(head .. "0123456789").status) end
    client:close()
  end)

  it("answer 503 beyond the number of connections", function()
    local server, port = servers.start({ max_connections = 2 }, ok)
    local first, second, third = raw.connect(port), raw.connect(port), raw.connect(port)
    assert.equal(200, second:ask(HEAD .. "\r\n").status)
    assert.equal(503, third:reply().status)
    assert.is_true(third:is_closed_within(3000))
    assert.equal(1, server:stats().rejected)
    first:close()
    third:close()
    eventually(function() return server:stats().connections == 1 end, 2000)
    local fourth = raw.connect(port)
    assert.equal(200, fourth:ask(HEAD .. "\r\n").status)
    second:close()
    fourth:close()
  end)

  describe("in time", function()
    it("end a head that does not arrive, however it drips", function()
      local server, port = servers.start({ header_timeout_ms = 100 }, ok)
      local client = raw.connect(port)
      local started = sys.mono_ms()
      local dripping = true
      local dripper = task.spawn(function()
        client:send(HEAD)
        while dripping do
          client:send("A: b\r\n")
          task.sleep(20)
        end
      end)
      assert.equal(408, client:reply().status)
      assert.is_true(sys.mono_ms() - started < 10000)
      dripping = false
      dripper:join()
      client:close()
      assert.equal(1, server:stats().timeouts)
    end)

    it("close a connection that never says anything", function()
      local _, port = servers.start({ header_timeout_ms = 50 }, ok)
      local client = raw.connect(port)
      assert.is_true(client:is_closed_within(1000))
      client:close()
    end)

    it("end a body that does not arrive", function()
      local _, port = servers.start({ body_timeout_ms = 80 }, ok)
      local client = raw.connect(port)
      client:send(HEAD .. "Content-Length: 10\r\n\r\nabc")
      local reply = client:reply()
      assert.equal(408, reply.status)
      assert.equal("the request body did not arrive in time\n", reply.body)
      client:close()
    end)

    it("close an idle connection", function()
      local _, port = servers.start({ idle_timeout_ms = 60 }, ok)
      local client = raw.connect(port)
      assert.equal(200, client:ask(HEAD .. "\r\n").status)
      assert.is_true(client:is_closed_within(1000))
      client:close()
    end)

    it("do not touch a handler that takes its time", function()
      local _, port = servers.start({ header_timeout_ms = 30, idle_timeout_ms = 30, body_timeout_ms = 30 },
        function(_, res)
          task.sleep(150)
          res:send(200)
        end)
      local client = raw.connect(port)
      assert.equal(200, client:ask(HEAD .. "\r\n").status)
      client:close()
    end)

    it("cut a reader that does not read", function()
      local server, port = servers.start({ write_timeout_ms = 150 }, function(_, res)
        res:send(200, nil, ("x"):rep(16 * 1024 * 1024))
      end)
      local client = raw.connect(port, { recv_buffer = 4096 })
      client:send(HEAD .. "\r\n")
      eventually(function() return server:stats().timeouts == 1 end, 3000)
      eventually(function() return server:stats().connections == 0 end, 3000)
      client:close()
    end)

    it("let a slow reader finish that makes progress", function()
      local size = 6 * 1024 * 1024
      local _, port = servers.start({ write_timeout_ms = 1000 }, function(_, res)
        res:send(200, nil, ("x"):rep(size))
      end)
      local client = raw.connect(port, { recv_buffer = 262144 })
      local started = sys.mono_ms()
      client:send(HEAD .. "Connection: close\r\n\r\n")
      client:head()
      local got = #client.buffer
      client.buffer = ""
      while true do
        local data = client.socket:read(65536)
        if not data then break end
        got = got + #data
        task.sleep(13)
      end
      assert.equal(size, got)
      assert.is_true(sys.mono_ms() - started > 1000)
      client:close()
    end)
  end)

  it("do not let refused requests pile up memory", function()
    if sys.build == "asan" then return end -- freed memory stays in quarantine there
    local server, port = servers.start({ max_body_bytes = 100 }, ok)
    local function round()
      for _ = 1, 50 do
        local client = raw.connect(port)
        client:send(HEAD .. "A: " .. ("x"):rep(70000))
        client:reply()
        client:close()
      end
      eventually(function() return server:stats().connections == 0 end, 3000)
      collectgarbage()
      collectgarbage()
    end
    round()
    local before = sys.rss_bytes()
    for _ = 1, 5 do round() end
    assert.is_true(sys.rss_bytes() - before < 2 * 1024 * 1024)
  end)
end)
