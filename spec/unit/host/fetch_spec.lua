local fetch = require("host.fetch")
local sys = require("host.sys")
local task = require("host.task")
local servers = require("spec.support.http_server")
local eventually = require("spec.support.eventually")

describe("host.fetch", function()
  local server, base
  local seen -- the last request the server saw

  -- Routes of the server that these specs talk to, by path.
  local routes = {}

  before_each(function()
    seen = nil
    local port
    server, port = servers.start({ max_body_bytes = 16 * 1024 * 1024, half_close_ms = 50 }, function(req, res)
      seen = req
      local route = routes[req.path]
      if route then return route(req, res) end
      res:send(200, { ["x-a"] = { "1", "2" }, ["Content-Type"] = "text/plain" }, "hello")
    end)
    base = "http://127.0.0.1:" .. port
  end)
  after_each(servers.stop_all)

  local function request(opts)
    local all = { url = base .. (opts.path or "/") }
    for key, value in pairs(opts) do if key ~= "path" then all[key] = value end end
    return fetch.request(all)
  end

  it("returns status, headers, body and the server's address", function()
    local reply = assert(request({ path = "/p?q=1", headers = { ["X-Mine"] = "yes", ["x-empty"] = "" } }))
    assert.equal(200, reply.status)
    assert.equal("hello", reply.body)
    assert.equal("1, 2", reply.headers["x-a"])
    assert.equal("text/plain", reply.headers["content-type"])
    assert.equal("127.0.0.1", reply.ip)
    assert.equal("GET", seen.method)
    assert.equal("q=1", seen.query)
    assert.equal("yes", seen.headers["x-mine"])
    assert.equal("", seen.headers["x-empty"])
    assert.equal("macp/" .. sys.version, seen.headers["user-agent"])
    assert.is_nil(seen.headers["content-type"])
    assert.is_nil(seen.headers.expect)
  end)

  it("sends every method, with and without a body", function()
    for _, method in ipairs({ "GET", "POST", "PUT", "PATCH", "DELETE" }) do
      assert(request({ method = method, body = "b\0dy", headers = { ["content-type"] = "x/y" } }))
      assert.equal(method, seen.method)
      assert.equal("b\0dy", seen.body)
      assert.equal("x/y", seen.headers["content-type"])
      assert(request({ method = method }))
      assert.equal(method, seen.method)
      assert.equal(method == "POST" and "" or nil, seen.body)
    end
    local reply = assert(request({ method = "HEAD" }))
    assert.equal("HEAD", seen.method)
    assert.equal("", reply.body)
    assert.equal("5", reply.headers["content-length"])
  end)

  it("reuses connections", function()
    for _ = 1, 5 do assert(request({})) end
    assert.equal(1, server:stats().accepted)
  end)

  it("owns no handle between requests", function()
    assert(request({}))
    eventually(function() return (sys.handles().poll or 0) == 0 end, 1000)
  end)

  it("runs many requests at once", function()
    local there, most = 0, 0
    routes["/slow"] = function(req, res)
      there = there + 1
      most = math.max(most, there)
      task.sleep(30)
      there = there - 1
      res:send(200, nil, req.query)
    end
    assert(task.group(function(g)
      for i = 1, 50 do
        g:spawn(function() assert.equal(tostring(i), assert(request({ path = "/slow?" .. i })).body) end)
      end
    end))
    assert.is_true(most > 5, "at once at most: " .. most)
  end)

  it("does not follow redirects unless told to, and then not for ever", function()
    routes["/from"] = function(_, res) res:send(302, { location = "/to" }, "moved") end
    routes["/to"] = function(_, res) res:send(200, { ["x-at"] = "to" }, "there") end
    routes["/loop"] = function(_, res) res:send(302, { location = "/loop" }) end
    local reply = assert(request({ path = "/from" }))
    assert.equal(302, reply.status)
    assert.equal("moved", reply.body)
    reply = assert(request({ path = "/from", follow = 2 }))
    assert.equal(200, reply.status)
    assert.equal("there", reply.body)
    assert.equal("to", reply.headers["x-at"])
    assert.is_nil(reply.headers.location)
    local _, err = request({ path = "/loop", follow = 3 })
    assert.equal("LIMIT", err.code)
  end)

  describe("limits", function()
    it("the body", function()
      routes["/big"] = function(_, res) res:send(200, nil, ("x"):rep(2000)) end
      assert.equal(2000, #assert(request({ path = "/big", max_body_bytes = 2000 })).body)
      local reply, err = request({ path = "/big", max_body_bytes = 1999 })
      assert.is_nil(reply)
      assert.equal("LIMIT", err.code)
      routes["/big"] = function(_, res) res:send(200, nil, ("x"):rep(1048577)) end
      assert.equal("LIMIT", select(2, request({ path = "/big" })).code)
    end)

    it("the fields", function()
      routes["/fields"] = function(_, res)
        local headers = {}
        for i = 1, 5 do headers["x-" .. i] = ("v"):rep(60000) end
        res:send(200, headers)
      end
      assert.equal("LIMIT", select(2, request({ path = "/fields" })).code)
    end)

    it("the time", function()
      routes["/never"] = function() task.sleep(60000) end
      local started = sys.mono_ms()
      local _, err = request({ path = "/never", timeout_ms = 80 })
      assert.equal("TIMEOUT", err.code)
      assert.is_true(sys.mono_ms() - started < 20000)
    end)
  end)

  it("ends with the deadline or the cancellation of its task, and the server notices", function()
    local code
    routes["/never"] = function()
      local _, err = task.sleep(60000)
      code = err.code
    end
    local _, err = task.with_deadline(50, function() return request({ path = "/never" }) end)
    assert.equal("TIMEOUT", err.code)
    eventually(function() return code end, 2000)
    local worker = task.spawn(function() return request({ path = "/never" }) end)
    task.sleep(20)
    worker:cancel()
    assert.equal("CANCELLED", select(2, worker:join()).code)
  end)

  it("explains what cannot work", function()
    local function code(opts) return select(2, fetch.request(opts)).code end
    assert.equal("INVALID", code({ url = "ftp://127.0.0.1/" }))
    assert.equal("INVALID", code({ url = "nonsense" }))
    assert.equal("INVALID", code({ url = "http://127.0.0.1:0/" }))
    assert.equal("INVALID", code({ url = base .. "/\r\nX: y" }))
    assert.equal("INVALID", code({ url = base, method = "G T" }))
    assert.equal("INVALID", code({ url = base, headers = { ["a\nb"] = "c" } }))
    assert.equal("INVALID", code({ url = base, headers = { a = "b\r\nc: d" } }))
    assert.equal("INVALID", code({ url = base, headers = { ["Content-Length"] = "3" } }))
    assert.equal("UNAVAILABLE", code({ url = "http://127.0.0.1:1/" }))
    assert.equal("UNAVAILABLE", code({ url = "http://does-not-exist.invalid/" }))
    assert.has_error(function() fetch.request({}) end)
    assert.has_error(function() fetch.request({ url = base, guard = "none" }) end)
    assert.has_error(function() fetch.request({ url = base, body = 5 }) end)
  end)

  it("reports a server that hangs up", function()
    routes["/cut"] = function(_, res)
      res:start(200)
      res:write("part")
      task.sleep(5)
      error("cut")
    end
    local _, err = request({ path = "/cut" })
    assert.equal("CLOSED", err.code)
  end)

  describe("guard", function()
    it("refuses addresses that are not public", function()
      for _, host in ipairs({ "127.0.0.1", "10.1.2.3", "169.254.169.254", "192.168.0.1", "[::1]", "[::ffff:127.0.0.1]",
        "[fd00:ec2::254]", "0.0.0.0", "localhost", "2130706433", "0x7f.1", "0177.0.0.1" }) do
        local reply, err = fetch.request({ url = "http://" .. host .. ":9/", guard = "public", timeout_ms = 2000 })
        assert.is_nil(reply)
        assert.equal("DENIED", err.code, host .. ": " .. err.message)
      end
      assert.equal(0, server:stats().accepted)
    end)

    it("tells closed addresses in URLs before anybody connects", function()
      for _, host in ipairs({ "127.0.0.1", "127.1", "2130706433", "0x7f.1:80", "0177.0.0.1", "[::1]", "[fd00::1]:8080",
        "169.254.169.254", "[::ffff:10.0.0.1]", "user@10.0.0.1" }) do
        assert.is_true(fetch.names_closed_address("http://" .. host .. "/x"), host)
      end
      for _, url in ipairs({ "http://8.8.8.8/", "https://[2606:4700::1111]/", "http://localhost/", "http://10.example/",
        "no url", "" }) do
        assert.is_false(fetch.names_closed_address(url), url)
      end
    end)

    it("also applies to a connection that is kept open", function()
      assert(request({}))
      local _, err = request({ guard = "public" })
      assert.equal("DENIED", err.code)
    end)

    it("lets named hosts through, but not their redirects", function()
      assert.equal(200, assert(request({ guard = "public", allow_hosts = { "127.0.0.1" } })).status)
      routes["/away"] = function(_, res) res:send(302, { location = (base:gsub("127.0.0.1", "localhost")) .. "/" }) end
      local _, err = request({ path = "/away", guard = "public", allow_hosts = { "127.0.0.1" }, follow = 1 })
      assert.equal("DENIED", err.code)
      assert(request({ path = "/away", guard = "public", allow_hosts = { "127.0.0.1", "LocalHost" }, follow = 1 }))
    end)
  end)

  describe("streams", function()
    it("a request body from a function that may wait", function()
      local i = 0
      local reply = assert(request({ method = "POST", body = function()
        i = i + 1
        task.sleep(2)
        if i <= 5 then return "piece " .. i .. "\n" end
      end }))
      assert.equal(200, reply.status)
      assert.equal("chunked", seen.headers["transfer-encoding"])
      assert.equal("piece 1\npiece 2\npiece 3\npiece 4\npiece 5\n", seen.body)
    end)

    it("a large request body without gathering it", function()
      local sent = 0
      local piece = ("p"):rep(50000)
      assert(request({ method = "PUT", body = function()
        if sent < 10000000 then
          sent = sent + #piece
          return piece
        end
      end }))
      assert.equal(10000000, #seen.body)
    end)

    it("an empty request body", function()
      assert(request({ method = "PUT", body = function() end }))
      assert.equal("", seen.body)
    end)

    it("nothing when the function fails", function()
      local _, err = request({ method = "PUT", body = function() error("no more") end })
      assert.equal("SCRIPT", err.code)
      assert.matches("no more", err.message)
      _, err = request({ method = "PUT", body = function() return 5 end })
      assert.equal("SCRIPT", err.code)
    end)

    it("stop asking for the body when the server does not want it", function()
      local calls = 0
      local small = servers.start({ max_body_bytes = 1000 }, function(_, res) res:send(200) end)
      local reply, err = fetch.request({ url = "http://127.0.0.1:" .. small:port() .. "/", method = "PUT",
        timeout_ms = 3000, body = function()
          calls = calls + 1
          task.sleep(1)
          return ("x"):rep(900)
        end })
      assert.is_true(reply ~= nil and reply.status == 413 or err ~= nil and err.code == "CLOSED")
      local last = calls
      task.sleep(30)
      assert.is_true(calls <= last + 1)
    end)

    it("a reply piece by piece", function()
      routes["/stream"] = function(_, res)
        res:start(200, { ["x-kind"] = "stream" })
        for i = 1, 3 do
          res:write("piece " .. i)
          task.sleep(20)
        end
      end
      local reply = assert(fetch.open({ url = base .. "/stream" }))
      assert.equal(200, reply.status)
      assert.equal("stream", reply.headers["x-kind"])
      assert.equal("127.0.0.1", reply.ip)
      assert.is_nil(reply.nothing)
      local pieces = {}
      for piece in function() return reply:read() end do pieces[#pieces + 1] = piece end
      assert.same({ "piece 1", "piece 2", "piece 3" }, pieces)
      assert.is_nil((reply:read()))
      reply:close()
      assert.equal("CLOSED", select(2, reply:read()).code)
    end)

    it("hold the server back while nobody reads", function()
      local written = 0
      routes["/flood"] = function(_, res)
        res:start(200)
        local piece = ("f"):rep(65536)
        while written < 64 * 1024 * 1024 do
          if not res:write(piece) then return end
          written = written + #piece
        end
      end
      local reply = assert(fetch.open({ url = base .. "/flood" }))
      assert(reply:read())
      local last = -1
      eventually(function()
        local is_still = last == written
        last = written
        task.sleep(30)
        return is_still
      end, 3000)
      assert.is_true(written < 32 * 1024 * 1024)
      local total = 0
      for _ = 1, 200 do total = total + #assert(reply:read()) end
      assert.is_true(total > 200 * 1000)
      reply:close()
      eventually(function() return server:stats().connections == 0 end, 2000)
    end)

    it("deliver every byte of a held-back reply", function()
      local size = 8 * 1024 * 1024
      routes["/flood"] = function(_, res) res:send(200, nil, ("f"):rep(size)) end
      local reply = assert(fetch.open({ url = base .. "/flood" }))
      local total = 0
      while true do
        local piece, err = reply:read()
        assert.is_nil(err)
        if not piece then break end
        total = total + #piece
        if total % 7 == 0 then task.sleep(1) end
      end
      assert.equal(size, total)
      reply:close()
    end)

    it("report a reply that ends too early", function()
      routes["/cut"] = function(_, res)
        res:start(200)
        res:write("part")
        task.sleep(20)
        error("cut")
      end
      local reply = assert(fetch.open({ url = base .. "/cut" }))
      assert.equal("part", reply:read())
      local piece, err = reply:read()
      assert.is_nil(piece)
      assert.equal("CLOSED", err.code)
      reply:close()
    end)

    it("end at the head's deadline, a read's deadline and on close", function()
      routes["/never"] = function() task.sleep(60000) end
      routes["/stalls"] = function(_, res)
        res:start(200)
        res:write("x")
        res:wait_closed()
      end
      local _, err = fetch.open({ url = base .. "/never", timeout_ms = 50 })
      assert.equal("TIMEOUT", err.code)
      local reply = assert(fetch.open({ url = base .. "/stalls", timeout_ms = 50 }))
      assert.equal("x", reply:read())
      _, err = task.with_deadline(60, function() return reply:read() end)
      assert.equal("TIMEOUT", err.code)
      local reader = task.spawn(function() return reply:read() end)
      task.sleep(5)
      reply:close()
      assert.equal("CLOSED", select(2, reader:join()).code)
    end)

    it("let a forgotten reply go", function()
      routes["/stalls"] = function(_, res)
        res:start(200)
        res:write("x")
        res:wait_closed()
      end
      assert(fetch.open({ url = base .. "/stalls" }))
      eventually(function()
        collectgarbage()
        return server:stats().connections == 0
      end, 3000)
    end)
  end)


  describe("over TLS", function()
    local child = require("host.child")
    local fs = require("host.fs")
    local dir, process, tls_base, ca_pem

    local function openssl(...)
      local proc = assert(child.spawn({ file = "/usr/bin/openssl", args = { ... }, stdin = "null", stdout = "null",
        stderr = "null" }))
      assert.equal(0, proc:wait().code)
    end

    before_each(function()
      dir = assert(fs.temp_dir("macp-fetch-"))
      openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
        "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", dir .. "/key.pem", "-out",
        dir .. "/cert.pem")
      ca_pem = assert(fs.read(dir .. "/cert.pem"))
      process = assert(child.spawn({ file = "/usr/bin/openssl", stdin = "pipe", stdout = "pipe", stderr = "null",
        args = { "s_server", "-4", "-accept", "0", "-key", dir .. "/key.pem", "-cert", dir .. "/cert.pem", "-www" } }))
      local port
      repeat port = assert(process:read_line("stdout")):match("^ACCEPT .*:(%d+)") until port
      tls_base = ":" .. port .. "/"
    end)

    after_each(function()
      process:kill("KILL")
      process:close_stdin()
      repeat until not process:read("stdout")
      process:wait()
      fs.remove_tree(dir)
    end)

    it("trusts the given roots, and only for the name they vouch for", function()
      local url = "https://localhost" .. tls_base
      local reply = assert(fetch.request({ url = url, ca_pem = ca_pem }))
      assert.equal(200, reply.status)
      assert.matches("s_server", reply.body)
      local _, err = fetch.request({ url = url })
      assert.equal("DENIED", err.code)
      assert.matches("certificate", err.message)
      _, err = fetch.request({ url = "https://127.0.0.1" .. tls_base, ca_pem = ca_pem })
      assert.equal("DENIED", err.code)
      _, err = fetch.request({ url = url, ca_pem = "no certificate" })
      assert.is_not_nil(err)
    end)

    it("reports a server that does not speak it", function()
      local _, err = fetch.request({ url = (base:gsub("http:", "https:")) .. "/" })
      assert.is_not_nil(err)
      assert.equal("UNAVAILABLE", err.code)
    end)
  end)
end)
