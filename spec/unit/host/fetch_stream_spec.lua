-- Bodies of requests and replies that are not gathered: piece by piece, no faster than the other side takes them.

local fetch = require("host.fetch")
local task = require("host.task")

local eventually = require("spec.support.eventually")
local fetch_rig = require("spec.support.fetch_rig")
local servers = require("spec.support.http_server")

describe("host.fetch streams", function()
  local rig

  before_each(function() rig = fetch_rig.start() end)
  after_each(servers.stop_all)

  it("a request body from a function that may wait", function()
    local i = 0
    local reply = assert(rig:request({ method = "POST", body = function()
      i = i + 1
      task.sleep(2)
      if i <= 5 then return "piece " .. i .. "\n" end
    end }))
    assert.equal(200, reply.status)
    assert.equal("chunked", rig.seen.headers["transfer-encoding"])
    assert.equal("piece 1\npiece 2\npiece 3\npiece 4\npiece 5\n", rig.seen.body)
  end)

  it("a large request body without gathering it", function()
    local sent = 0
    local piece = ("p"):rep(50000)
    assert(rig:request({ method = "PUT", body = function()
      if sent < 10000000 then
        sent = sent + #piece
        return piece
      end
    end }))
    assert.equal(10000000, #rig.seen.body)
  end)

  it("an empty request body", function()
    assert(rig:request({ method = "PUT", body = function() end }))
    assert.equal("", rig.seen.body)
  end)

  it("nothing when the function fails", function()
    local _, err = rig:request({ method = "PUT", body = function() error("no more") end })
    assert.equal("SCRIPT", err.code)
    assert.matches("no more", err.message)
    _, err = rig:request({ method = "PUT", body = function() return 5 end })
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
    rig.routes["/stream"] = function(_, res)
      res:start(200, { ["x-kind"] = "stream" })
      for i = 1, 3 do
        res:write("piece " .. i)
        task.sleep(20)
      end
    end
    local reply = assert(fetch.open({ url = rig.base .. "/stream" }))
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
    rig.routes["/flood"] = function(_, res)
      res:start(200)
      local piece = ("f"):rep(65536)
      while written < 64 * 1024 * 1024 do
        if not res:write(piece) then return end
        written = written + #piece
      end
    end
    local reply = assert(fetch.open({ url = rig.base .. "/flood" }))
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
    eventually(function() return rig.server:stats().connections == 0 end, 2000)
  end)

  it("deliver every byte of a held-back reply", function()
    local size = 8 * 1024 * 1024
    rig.routes["/flood"] = function(_, res) res:send(200, nil, ("f"):rep(size)) end
    local reply = assert(fetch.open({ url = rig.base .. "/flood" }))
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
    rig.routes["/cut"] = function(_, res)
      res:start(200)
      res:write("part")
      task.sleep(20)
      error("cut")
    end
    local reply = assert(fetch.open({ url = rig.base .. "/cut" }))
    assert.equal("part", reply:read())
    local piece, err = reply:read()
    assert.is_nil(piece)
    assert.equal("CLOSED", err.code)
    reply:close()
  end)

  it("end at the head's deadline, a read's deadline and on close", function()
    rig.routes["/never"] = function() task.sleep(60000) end
    rig.routes["/stalls"] = function(_, res)
      res:start(200)
      res:write("x")
      res:wait_closed()
    end
    local _, err = fetch.open({ url = rig.base .. "/never", timeout_ms = 50 })
    assert.equal("TIMEOUT", err.code)
    local reply = assert(fetch.open({ url = rig.base .. "/stalls", timeout_ms = 50 }))
    assert.equal("x", reply:read())
    _, err = task.with_deadline(60, function() return reply:read() end)
    assert.equal("TIMEOUT", err.code)
    local reader = task.spawn(function() return reply:read() end)
    task.sleep(5)
    reply:close()
    assert.equal("CLOSED", select(2, reader:join()).code)
  end)

  it("let a forgotten reply go", function()
    rig.routes["/stalls"] = function(_, res)
      res:start(200)
      res:write("x")
      res:wait_closed()
    end
    assert(fetch.open({ url = rig.base .. "/stalls" }))
    eventually(function()
      collectgarbage()
      return rig.server:stats().connections == 0
    end, 3000)
  end)
end)
