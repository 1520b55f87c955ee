local bytes = require("host.bytes")
local task = require("host.task")
local raw = require("spec.support.raw_http")
local servers = require("spec.support.http_server")

local GET = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"

describe("host.http", function()
  after_each(servers.stop_all)

  local function ask(handler, text, method)
    local _, port = servers.start({}, handler)
    local client = raw.connect(port)
    local reply = assert(client:ask(text, method))
    client:close()
    return reply
  end

  describe("requests", function()
    it("carry method, path, query, version and peer", function()
      local seen
      ask(function(req, res)
        seen = req
        res:send(200)
      end, "DELETE /a%20b/c?x=1&y HTTP/1.1\r\nHost: h\r\n\r\n")
      assert.equal("DELETE", seen.method)
      assert.equal("/a%20b/c", seen.path)
      assert.equal("x=1&y", seen.query)
      assert.equal("1.1", seen.version)
      assert.equal("127.0.0.1", seen.peer)
      assert.is_nil(seen.body)
    end)

    it("have lower-case header names, and repeated fields joined", function()
      local seen
      ask(function(req, res)
        seen = req.headers
        res:send(200)
      end, "GET / HTTP/1.1\r\nHOST: h\r\nX-A: 1\r\nx-a: 2\r\nX-A:\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n")
      assert.same({ host = "h", ["x-a"] = "1, 2, ", cookie = "a=1; b=2" }, seen)
    end)

    it("carry a body of a given length, also an empty one", function()
      local seen = {}
      local function handler(req, res)
        seen[#seen + 1] = req.body
        res:send(200)
      end
      ask(handler, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n\0\1\255x")
      ask(handler, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
      assert.same({ "\0\1\255x", "" }, seen)
    end)

    it("carry a chunked body", function()
      local seen
      ask(function(req, res)
        seen = req.body
        res:send(200)
      end, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" ..
        "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n")
      assert.equal("abcde", seen)
    end)

    it("may arrive byte by byte", function()
      local _, port = servers.start({}, function(req, res) res:send(200, nil, req.body) end)
      local client = raw.connect(port)
      local text = "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
      for i = 1, #text do client:send(text:sub(i, i)) end
      assert.equal("abc", client:reply().body)
      client:close()
    end)
  end)

  describe("replies", function()
    it("carry status, fields, date and length", function()
      local reply = ask(function(_, res)
        res:send(201, { ["X-One"] = "1", ["x-num"] = 42, ["set-cookie"] = { "a=1", "b=2" } }, "hello")
      end, GET)
      assert.equal(201, reply.status)
      assert.equal("hello", reply.body)
      assert.equal("5", reply.headers["content-length"])
      assert.equal("1", reply.headers["x-one"])
      assert.equal("42", reply.headers["x-num"])
      assert.matches("^%a%a%a, %d%d %a%a%a %d%d%d%d %d%d:%d%d:%d%d GMT$", reply.headers.date)
      local cookies = 0
      for _, name in ipairs(reply.order) do cookies = cookies + (name == "set-cookie" and 1 or 0) end
      assert.equal(2, cookies)
    end)

    it("take shared bytes and big bodies unchanged", function()
      local big = string.rep("0123456789abcdef", 200000)
      local reply = ask(function(_, res) res:send(200, nil, bytes.new(big)) end, GET)
      assert.is_true(reply.body == big)
      reply = ask(function(_, res) res:send(200, nil, big) end, GET)
      assert.is_true(reply.body == big)
    end)

    it("ignore fields that the server writes itself", function()
      local reply = ask(function(_, res)
        res:send(200, { ["Content-Length"] = "999", ["Transfer-Encoding"] = "chunked", Date = "never",
          Connection = "upgrade" }, "ok")
      end, GET)
      assert.equal("2", reply.headers["content-length"])
      assert.is_nil(reply.headers["transfer-encoding"])
      assert.is_nil(reply.headers.connection)
      assert.is_not.equal("never", reply.headers.date)
    end)

    it("with large heads arrive whole", function()
      local value = string.rep("v", 9000)
      local reply = ask(function(_, res) res:send(200, { ["x-big"] = value }, "ok") end, GET)
      assert.equal(value, reply.headers["x-big"])
      assert.equal("ok", reply.body)
    end)

    it("to HEAD have the length and no body", function()
      local reply = ask(function(_, res) res:send(200, nil, "hello") end, "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", "HEAD")
      assert.equal("5", reply.headers["content-length"])
    end)

    it("without content have neither body nor length", function()
      local reply = ask(function(_, res) res:send(204, nil, "ignored") end, GET)
      assert.equal(204, reply.status)
      assert.is_nil(reply.headers["content-length"])
    end)

    it("refuse fields and statuses that would break the protocol", function()
      local failures = {}
      ask(function(_, res)
        local cases = { { 200, { ["bad name"] = "x" } }, { 200, { x = "a\r\nb: c" } }, { 200, { y = true } },
          { 150, {} }, { 700, {} } }
        for i, case in ipairs(cases) do failures[i] = not pcall(res.send, res, case[1], case[2]) end
        res:send(200)
      end, GET)
      assert.same({ true, true, true, true, true }, failures)
    end)

    it("cannot be sent twice", function()
      local first, again, reason
      ask(function(_, res)
        first = res:send(200)
        again, reason = res:send(200)
      end, GET)
      assert.is_true(first)
      assert.is_false(again)
      assert.equal("closed", reason)
    end)

    it("outlive their request harmlessly", function()
      local kept
      ask(function(_, res)
        kept = res
        res:send(200)
      end, GET)
      task.sleep(1)
      assert.is_true(kept:closed())
      assert.equal(0, kept:pending())
      assert.same({ false, "closed" }, { kept:offer("x") })
      assert.same({ false, "closed" }, { kept:start(200) })
      assert.same({ false, "closed" }, { kept:send(200) })
      assert.same({ false, "closed" }, { kept:finish() })
      local ok, err = kept:write("x")
      assert.is_nil(ok)
      assert.equal("CLOSED", err.code)
      assert.is_true(kept:wait_closed())
      assert.equal("CLOSED", select(2, kept:wait_drained()).code)
    end)
  end)

  describe("handlers", function()
    it("that fail are answered with 500 through on_error", function()
      local _, port = servers.start({}, function(req)
        if req.path == "/table" then error({ code = "X", message = "typed" }) end
        error("boom")
      end, function(status, reason)
        return { ["content-type"] = "application/json" }, ('{"s":%d,"r":"%s"}'):format(status, reason)
      end)
      local client = raw.connect(port)
      for _, path in ipairs({ "/text", "/table" }) do
        local reply = client:get(path)
        assert.equal(500, reply.status)
        assert.equal("application/json", reply.headers["content-type"])
        assert.equal('{"s":500,"r":"the handler failed"}', reply.body)
      end
      client:close()
    end)

    it("that end without a reply are answered with 500", function()
      local reply = ask(function() end, GET)
      assert.equal(500, reply.status)
      assert.equal("text/plain; charset=utf-8", reply.headers["content-type"])
      assert.equal("the handler did not reply\n", reply.body)
    end)

    it("are missing while the server starts: 503", function()
      assert.equal(503, ask(nil, GET).status)
    end)

    it("get plain text when on_error itself fails", function()
      local _, port = servers.start({}, function() end, function() error("worse") end)
      local client = raw.connect(port)
      assert.equal("the handler did not reply\n", client:get("/").body)
      client:close()
    end)
  end)

  describe("connections", function()
    it("stay open for the next request", function()
      local server, port = servers.start({}, function(req, res) res:send(200, nil, req.path) end)
      local client = raw.connect(port)
      for i = 1, 5 do assert.equal("/" .. i, client:get("/" .. i).body) end
      assert.equal(1, server:stats().accepted)
      assert.equal(5, server:stats().requests)
      client:close()
    end)

    it("close when the client or the handler asks for it", function()
      local _, port = servers.start({}, function(req, res)
        res:send(200, req.path == "/bye" and { connection = "close" } or nil, "ok")
      end)
      for _, text in ipairs({ "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n",
        "GET /bye HTTP/1.1\r\nHost: h\r\n\r\n" }) do
        local client = raw.connect(port)
        local reply = client:ask(text)
        assert.equal("close", reply.headers.connection)
        assert.equal("ok", reply.body)
        assert.is_true(client:is_closed_within(1000))
        client:close()
      end
    end)

    it("say that they stay open when the handler wants that said", function()
      local _, port = servers.start({}, function(_, res)
        res:start(200, { connection = "Keep-Alive" })
        res:write("ok")
        res:finish()
      end)
      local client = raw.connect(port)
      for _ = 1, 2 do
        local reply = client:ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert.same({ "keep-alive", "ok" }, { reply.headers.connection, reply.body })
      end
      local reply = client:ask("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
      assert.equal("close", reply.headers.connection)
      client:close()
    end)

    it("of HTTP/1.0 clients stay open on request", function()
      local _, port = servers.start({}, function(_, res) res:send(200, nil, "ok") end)
      local client = raw.connect(port)
      for _ = 1, 2 do
        local reply = client:ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert.equal("keep-alive", reply.headers.connection)
      end
      client:close()
    end)

    it("answer pipelined requests in order, one at a time", function()
      local running, most = 0, 0
      local _, port = servers.start({}, function(req, res)
        running = running + 1
        most = math.max(most, running)
        if req.path == "/1" then task.sleep(20) end
        running = running - 1
        res:send(200, nil, req.path .. (req.body or ""))
      end)
      local client = raw.connect(port)
      client:send("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nPOST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab"
        .. "GET /3 HTTP/1.1\r\nHost: h\r\n\r\nGET /4 HT")
      assert.equal("/1", client:reply().body)
      assert.equal("/2ab", client:reply().body)
      assert.equal("/3", client:reply().body)
      assert.equal("/4", client:ask("TP/1.1\r\nHost: h\r\n\r\n").body)
      assert.equal(1, most)
      client:close()
    end)

    it("survive more pipelined requests than are read ahead", function()
      local _, port = servers.start({}, function(req, res) res:send(200, nil, req.path) end)
      local client = raw.connect(port)
      local count, pad = 1000, string.rep("p", 300)
      local writer = task.spawn(function()
        for i = 1, count do client:send("GET /" .. i .. " HTTP/1.1\r\nHost: h\r\nPad: " .. pad .. "\r\n\r\n") end
      end)
      for i = 1, count do assert.equal("/" .. i, client:reply().body) end
      writer:join()
      client:close()
    end)

    it("tell the client to go on with its body when asked", function()
      local _, port = servers.start({}, function(req, res) res:send(200, nil, req.body) end)
      local client = raw.connect(port)
      client:send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
      assert.equal(100, client:reply().status)
      assert.equal("abc", client:ask("abc").body)
      client:close()
    end)

    it("ignore an offer to upgrade", function()
      local reply = ask(function(_, res) res:send(200, nil, "plain") end,
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" ..
        "HTTP2-Settings: AA\r\n\r\n")
      assert.equal(200, reply.status)
    end)
  end)

  it("answers a static path without a handler", function()
    local server, port = servers.start({}, function(_, res) res:send(404) end)
    server:respond_static("/ping", 200, { ["content-type"] = "text/plain" }, "pong")
    local client = raw.connect(port)
    local reply = client:get("/ping?x=1")
    assert.equal("pong", reply.body)
    assert.equal("text/plain", reply.headers["content-type"])
    assert.truthy(reply.headers.date)
    assert.equal("4", client:ask("HEAD /ping HTTP/1.1\r\nHost: h\r\n\r\n", "HEAD").headers["content-length"])
    assert.equal(404, client:get("/pingx").status)
    assert.equal(404, client:ask("POST /ping HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n").status)
    client:close()
  end)

  it("reports an address that is taken or not an address", function()
    local http = require("host.http")
    local _, port = servers.start({}, nil)
    local server, err = http.listen({ host = "127.0.0.1", port = port })
    assert.is_nil(server)
    assert.equal("IO", err.code)
    assert.matches("listen on 127.0.0.1", err.message)
    server, err = http.listen({ host = "example.org" })
    assert.is_nil(server)
    assert.equal("INVALID", err.code)
  end)

  it("shares a port between listeners when asked to", function()
    local _, port = servers.start({ reuseport = true }, nil)
    local other = servers.start({ reuseport = true, port = port }, nil)
    assert.equal(port, other:port())
  end)
end)
