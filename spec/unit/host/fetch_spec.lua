-- Requests to other servers: replies, limits, deadlines, and addresses that are closed to users.

local fetch = require("host.fetch")
local sys = require("host.sys")
local task = require("host.task")

local eventually = require("spec.support.eventually")
local fetch_rig = require("spec.support.fetch_rig")
local servers = require("spec.support.http_server")

describe("host.fetch", function()
  local rig

  before_each(function() rig = fetch_rig.start() end)
  after_each(servers.stop_all)

  it("returns status, headers, body and the server's address", function()
    local reply = assert(rig:request({ path = "/p?q=1", headers = { ["X-Mine"] = "yes", ["x-empty"] = "" } }))
    assert.equal(200, reply.status)
    assert.equal("hello", reply.body)
    assert.equal("1, 2", reply.headers["x-a"])
    assert.equal("text/plain", reply.headers["content-type"])
    assert.equal("127.0.0.1", reply.ip)
    assert.equal("GET", rig.seen.method)
    assert.equal("q=1", rig.seen.query)
    assert.equal("yes", rig.seen.headers["x-mine"])
    assert.equal("", rig.seen.headers["x-empty"])
    assert.equal("macp/" .. sys.version, rig.seen.headers["user-agent"])
    assert.is_nil(rig.seen.headers["content-type"])
    assert.is_nil(rig.seen.headers.expect)
  end)

  it("sends every method, with and without a body", function()
    for _, method in ipairs({ "GET", "POST", "PUT", "PATCH", "DELETE" }) do
      assert(rig:request({ method = method, body = "b\0dy", headers = { ["content-type"] = "x/y" } }))
      assert.equal(method, rig.seen.method)
      assert.equal("b\0dy", rig.seen.body)
      assert.equal("x/y", rig.seen.headers["content-type"])
      assert(rig:request({ method = method }))
      assert.equal(method, rig.seen.method)
      assert.equal(method == "POST" and "" or nil, rig.seen.body)
    end
    local reply = assert(rig:request({ method = "HEAD" }))
    assert.equal("HEAD", rig.seen.method)
    assert.equal("", reply.body)
    assert.equal("5", reply.headers["content-length"])
  end)

  it("reuses connections", function()
    for _ = 1, 5 do assert(rig:request({})) end
    assert.equal(1, rig.server:stats().accepted)
  end)

  it("owns no handle between requests", function()
    assert(rig:request({}))
    eventually(function() return (sys.handles().poll or 0) == 0 end, 1000)
  end)

  it("runs many requests at once", function()
    local there, most = 0, 0
    rig.routes["/slow"] = function(req, res)
      there = there + 1
      most = math.max(most, there)
      task.sleep(30)
      there = there - 1
      res:send(200, nil, req.query)
    end
    assert(task.group(function(g)
      for i = 1, 50 do
        g:spawn(function() assert.equal(tostring(i), assert(rig:request({ path = "/slow?" .. i })).body) end)
      end
    end))
    assert.is_true(most > 5, "at once at most: " .. most)
  end)

  it("does not follow redirects unless told to, and then not for ever", function()
    rig.routes["/from"] = function(_, res) res:send(302, { location = "/to" }, "moved") end
    rig.routes["/to"] = function(_, res) res:send(200, { ["x-at"] = "to" }, "there") end
    rig.routes["/loop"] = function(_, res) res:send(302, { location = "/loop" }) end
    local reply = assert(rig:request({ path = "/from" }))
    assert.equal(302, reply.status)
    assert.equal("moved", reply.body)
    reply = assert(rig:request({ path = "/from", follow = 2 }))
    assert.equal(200, reply.status)
    assert.equal("there", reply.body)
    assert.equal("to", reply.headers["x-at"])
    assert.is_nil(reply.headers.location)
    local _, err = rig:request({ path = "/loop", follow = 3 })
    assert.equal("LIMIT", err.code)
  end)

  describe("limits", function()
    it("the body", function()
      rig.routes["/big"] = function(_, res) res:send(200, nil, ("x"):rep(2000)) end
      assert.equal(2000, #assert(rig:request({ path = "/big", max_body_bytes = 2000 })).body)
      local reply, err = rig:request({ path = "/big", max_body_bytes = 1999 })
      assert.is_nil(reply)
      assert.equal("LIMIT", err.code)
      rig.routes["/big"] = function(_, res) res:send(200, nil, ("x"):rep(1048577)) end
      assert.equal("LIMIT", select(2, rig:request({ path = "/big" })).code)
    end)

    it("the fields", function()
      rig.routes["/fields"] = function(_, res)
        local headers = {}
        for i = 1, 5 do headers["x-" .. i] = ("v"):rep(60000) end
        res:send(200, headers)
      end
      assert.equal("LIMIT", select(2, rig:request({ path = "/fields" })).code)
    end)

    it("the time", function()
      rig.routes["/never"] = function() task.sleep(60000) end
      local started = sys.mono_ms()
      local _, err = rig:request({ path = "/never", timeout_ms = 80 })
      assert.equal("TIMEOUT", err.code)
      assert.is_true(sys.mono_ms() - started < 20000)
    end)
  end)

  it("ends with the deadline or the cancellation of its task, and the server notices", function()
    local code
    rig.routes["/never"] = function()
      local _, err = task.sleep(60000)
      code = err.code
    end
    local _, err = task.with_deadline(50, function() return rig:request({ path = "/never" }) end)
    assert.equal("TIMEOUT", err.code)
    eventually(function() return code end, 2000)
    local worker = task.spawn(function() return rig:request({ path = "/never" }) end)
    task.sleep(20)
    worker:cancel()
    assert.equal("CANCELLED", select(2, worker:join()).code)
  end)

  it("explains what cannot work", function()
    local function code(opts) return select(2, fetch.request(opts)).code end
    assert.equal("INVALID", code({ url = "ftp://127.0.0.1/" }))
    assert.equal("INVALID", code({ url = "nonsense" }))
    assert.equal("INVALID", code({ url = "http://127.0.0.1:0/" }))
    assert.equal("INVALID", code({ url = rig.base .. "/\r\nX: y" }))
    assert.equal("INVALID", code({ url = rig.base, method = "G T" }))
    assert.equal("INVALID", code({ url = rig.base, headers = { ["a\nb"] = "c" } }))
    assert.equal("INVALID", code({ url = rig.base, headers = { a = "b\r\nc: d" } }))
    assert.equal("INVALID", code({ url = rig.base, headers = { ["Content-Length"] = "3" } }))
    assert.equal("UNAVAILABLE", code({ url = "http://127.0.0.1:1/" }))
    assert.equal("UNAVAILABLE", code({ url = "http://does-not-exist.invalid/" }))
    assert.has_error(function() fetch.request({}) end)
    assert.has_error(function() fetch.request({ url = rig.base, guard = "none" }) end)
    assert.has_error(function() fetch.request({ url = rig.base, body = 5 }) end)
  end)

  it("reports a server that hangs up", function()
    rig.routes["/cut"] = function(_, res)
      res:start(200)
      res:write("part")
      task.sleep(5)
      error("cut")
    end
    local _, err = rig:request({ path = "/cut" })
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
      assert.equal(0, rig.server:stats().accepted)
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
      assert(rig:request({}))
      local _, err = rig:request({ guard = "public" })
      assert.equal("DENIED", err.code)
    end)

    it("lets named hosts through, but not their redirects", function()
      assert.equal(200, assert(rig:request({ guard = "public", allow_hosts = { "127.0.0.1" } })).status)
      local elsewhere = rig.base:gsub("127.0.0.1", "localhost") .. "/"
      rig.routes["/away"] = function(_, res) res:send(302, { location = elsewhere }) end
      local _, err = rig:request({ path = "/away", guard = "public", allow_hosts = { "127.0.0.1" }, follow = 1 })
      assert.equal("DENIED", err.code)
      assert(rig:request({ path = "/away", guard = "public", allow_hosts = { "127.0.0.1", "LocalHost" }, follow = 1 }))
    end)
  end)
end)
