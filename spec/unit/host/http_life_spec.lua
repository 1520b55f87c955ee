local sys = require("host.sys")
local task = require("host.task")
local net = require("host.net")
local raw = require("spec.support.raw_http")
local servers = require("spec.support.http_server")
local eventually = require("spec.support.eventually")

local GET = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"

describe("host.http, when a client goes away,", function()
  after_each(servers.stop_all)

  local function sleeper()
    local state = {}
    local server, port = servers.start({ half_close_ms = 150 }, function(_, res)
      state.started = true
      local _, err = task.sleep(5000)
      state.code = err and err.code
      state.sent, state.why = res:send(200)
      state.is_cancelled = task.cancelled()
    end)
    local client = raw.connect(port)
    client:send(GET)
    eventually(function() return state.started end, 2000)
    return client, state, server
  end

  it("cancels the task at once after a reset", function()
    local client, state, server = sleeper()
    client.socket:reset()
    eventually(function() return state.code end, 1000)
    assert.equal("CANCELLED", state.code)
    assert.is_false(state.sent)
    assert.equal("closed", state.why)
    assert.is_true(state.is_cancelled)
    assert.equal(0, server:stats().in_flight)
  end)

  it("cancels the task soon after a plain close", function()
    local client, state = sleeper()
    client:close()
    eventually(function() return state.code end, 1000)
    assert.equal("CANCELLED", state.code)
  end)

  it("still answers one that has only stopped sending", function()
    local _, port = servers.start({}, function(_, res)
      task.sleep(30)
      res:send(200, nil, "still here")
    end)
    local client = raw.connect(port)
    client:send(GET .. GET)
    client.socket:shutdown()
    assert.equal("still here", client:reply().body)
    assert.equal("still here", client:reply().body)
    assert.is_true(client:is_closed_within(1000))
    client:close()
  end)

  it("answers 400 to a request that ends early", function()
    local _, port = servers.start({}, function(_, res) res:send(200) end)
    for _, text in ipairs({ "GET / HT", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab" }) do
      local client = raw.connect(port)
      client:send(text)
      client.socket:shutdown()
      local reply = client:reply()
      assert.equal(400, reply.status)
      assert.equal("the request ends before it is complete\n", reply.body)
      assert.is_true(client:is_closed_within(1000))
      client:close()
    end
  end)

  it("wakes wait_closed and refuses further frames", function()
    local state = {}
    local _, port = servers.start({ half_close_ms = 50 }, function(_, res)
      res:start(200)
      res:offer("x")
      state.woken = res:wait_closed()
      state.closed = res:closed()
      state.offer = { res:offer("y") }
    end)
    local client = raw.connect(port)
    client:send(GET)
    client:head()
    client:close()
    eventually(function() return state.offer end, 1000)
    assert.is_true(state.woken)
    assert.is_true(state.closed)
    assert.same({ false, "closed" }, state.offer)
  end)

  it("keeps nothing of thousands of connections", function()
    local server, port = servers.start({}, function(_, res) res:send(200, nil, "ok") end)
    for i = 1, 2000 do
      local socket = assert(net.connect("127.0.0.1", port))
      socket:write(i % 3 == 0 and GET or i % 3 == 1 and "GET / HTTP/1.1\r\nHo" or "")
      if i % 2 == 0 then socket:close() else socket:reset() end
    end
    eventually(function() return server:stats().connections == 0 end, 5000)
    assert.equal(0, server:stats().in_flight)
  end)
end)

describe("host.http drain", function()
  after_each(servers.stop_all)

  local function start(ms)
    local server, port = servers.start({}, function(_, res)
      task.sleep(ms)
      res:send(200, nil, "done")
    end)
    return server, port
  end

  it("refuses new connections, closes idle ones and lets requests finish", function()
    local server, port = start(60)
    local idle, busy = raw.connect(port), raw.connect(port)
    assert.equal(200, idle:ask(GET).status)
    busy:send(GET)
    eventually(function() return server:stats().in_flight == 1 end, 1000)
    local started = sys.mono_ms()
    local drain = task.spawn(function() return server:drain(60000) end)
    assert.is_true(idle:is_closed_within(1000))
    assert.is_nil((net.connect("127.0.0.1", port)))
    local reply = busy:reply()
    assert.equal("done", reply.body)
    assert.equal("close", reply.headers.connection)
    assert.is_true(busy:is_closed_within(1000))
    busy:close()
    assert.is_true(drain:join())
    assert.is_true(sys.mono_ms() - started < 30000)
    assert.equal(0, server:stats().connections)
    idle:close()
  end)

  it("cuts what is left when its time is over", function()
    local server, port = start(60000)
    local client = raw.connect(port)
    client:send(GET)
    eventually(function() return server:stats().in_flight == 1 end, 1000)
    local started = sys.mono_ms()
    assert.is_true(server:drain(80))
    local took = sys.mono_ms() - started
    assert.is_true(took >= 70 and took < 20000)
    assert.is_true(client:is_closed_within(1000))
    client:close()
  end)

  it("returns at once when there is nothing to wait for", function()
    local server = start(1)
    assert.is_true(server:drain(5000))
  end)

  it("may stop listening only", function()
    local server, port = start(1)
    local client = raw.connect(port)
    assert.equal(200, client:ask(GET).status)
    server:stop_listening()
    assert.equal(200, client:ask(GET).status)
    client:close()
    local refused = eventually(function()
      local socket, err = net.connect("127.0.0.1", port)
      if socket then socket:close() end
      return err
    end, 1000)
    assert.equal("UNAVAILABLE", refused.code)
  end)

  it("close cuts everything and leaves no handle", function()
    local before = sys.handles()
    local cancelled = 0
    local server, port = servers.start({}, function(req, res)
      if req.path == "/stream" then
        res:start(200)
        res:wait_closed()
      else
        task.sleep(60000)
      end
      cancelled = cancelled + 1
    end)
    local clients = {}
    for i = 1, 10 do
      clients[i] = raw.connect(port)
      clients[i]:send(i % 2 == 0 and GET or "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n")
    end
    eventually(function() return server:stats().in_flight == 10 end, 1000)
    assert.is_true(server:close())
    assert.is_true(server:close())
    eventually(function() return cancelled == 10 end, 1000)
    for _, client in ipairs(clients) do client:close() end
    eventually(function()
      for kind, count in pairs(sys.handles()) do
        if (before[kind] or 0) < count and kind ~= "timer" then return false, kind end
      end
      return true
    end, 2000)
    assert.has_error(function() server:port() end, "the server is closed")
  end)
end)
