-- host.redis against a real server.

local redis = require("host.redis")
local sys = require("host.sys")
local task = require("host.task")

local server_of = require("spec.support.redis")

describe("the check of a Redis URL", function()
  it("shows it without user and password", function()
    if redis.connect then assert.equal("redis://cache.example:6379/2", redis.check("redis://u:pw@cache.example/2")) end
  end)

  it("tells what is wrong", function()
    local shown, err = redis.check("http://cache.example")
    assert.is_nil(shown)
    assert.equal("INVALID", err.code)
    assert.truthy(err.message:find("unknown scheme", 1, true))
  end)
end)

if not redis.connect then
  describe("a connection to Redis", function() pending("is tested in builds with hiredis") end)
  return
end

describe("a connection to Redis", function()
  local server

  setup(function() server = server_of.start() end)
  teardown(function() server:stop() end)

  local function connect(url, opts) return assert(redis.connect(url or server.url, opts)) end

  it("gives replies as Lua values", function()
    local conn = connect()
    local function ask(...)
      assert(conn:send(...))
      return conn:next()
    end
    assert.equal("OK", ask("SET", "k", "a\0b"))
    assert.equal("a\0b", ask("GET", "k"))
    assert.is_false(ask("GET", "none"))
    assert.equal(3, ask("RPUSH", "list", "1", 2, "x"))
    assert.same({ "1", "2", "x" }, ask("LRANGE", "list", 0, -1))
    assert.truthy(ask("NOSUCH").error:find("unknown command", 1, true))
    conn:close()
    local reply, err = conn:next()
    assert.is_nil(reply)
    assert.equal("CLOSED", err.code)
    assert.equal("CLOSED", select(2, conn:send("PING")).code)
  end)

  it("carries published messages, large ones, too", function()
    local listening, sending = connect(), connect()
    assert(listening:send("SUBSCRIBE", "news"))
    assert.same({ "subscribe", "news", 1 }, listening:next())
    local large = ("x"):rep(1000000)
    for i = 1, 200 do assert(sending:send("PUBLISH", "news", i)) end
    assert(sending:send("PUBLISH", "news", large))
    for i = 1, 200 do assert.same({ "message", "news", tostring(i) }, listening:next()) end
    assert.equal(#large, #listening:next()[3])
    for _ = 1, 201 do assert.equal(1, sending:next()) end
    listening:close()
    sending:close()
  end)

  it("does not take more than it can send", function()
    local conn, piece = connect(), ("x"):rep(1000000)
    server:freeze()
    local sent, err = 0, nil
    while sent < 100 do
      local ok
      ok, err = conn:send("SET", "big", piece)
      if not ok then break end
      sent = sent + 1
      if sent % 2 == 0 then task.sleep(0) end
    end
    server:thaw()
    assert.equal("LIMIT", err.code)
    assert.truthy(err.message:find("takes commands too slowly: 8388608 bytes wait to be sent", 1, true))
    for _ = 1, sent do assert.equal("OK", conn:next()) end -- what was taken arrives
    conn:close()
  end)

  it("ends a wait that is cancelled, and goes on", function()
    local conn = connect()
    local reply, err = task.with_deadline(20, conn.next, conn)
    assert.is_nil(reply)
    assert.equal("TIMEOUT", err.code)
    assert(conn:send("PING"))
    assert.equal("PONG", conn:next())
    local waiting = task.spawn(function() return conn:next() end)
    task.sleep(0)
    conn:close()
    assert.equal("CLOSED", select(2, waiting:join()).code)
  end)

  it("notices that the server ends", function()
    local conn = connect()
    local waiting = task.spawn(function() return conn:next() end)
    task.sleep(0)
    server:kill()
    local _, err = waiting:join()
    server:start()
    assert.equal("UNAVAILABLE", err.code)
    assert.truthy(err.message:find("Redis at unix://", 1, true), err.message)
    assert.same(err.message, select(2, conn:next()).message)
    assert.equal("UNAVAILABLE", select(2, conn:send("PING")).code)
    conn:close()
  end)

  it("tells why there is none", function()
    local _, err = redis.connect("unix:///nowhere/at.all")
    assert.equal("UNAVAILABLE", err.code)
    assert.equal(1, err.message:find("Redis at unix:///nowhere/at.all", 1, true))
    _, err = redis.connect("redis://127.0.0.1:1")
    assert.equal("UNAVAILABLE", err.code)
    assert.equal("Redis at redis://127.0.0.1:1/0: connect: Connection refused", err.message)
    _, err = redis.connect("redis://no-such-host.invalid")
    assert.equal("UNAVAILABLE", err.code)
    assert.truthy(err.message:find("look up its host", 1, true))
    _, err = redis.connect("redis://:x@")
    assert.equal("INVALID", err.code)
  end)

  it("does not wait for ever for one", function()
    server:freeze()
    local began = sys.mono_ms()
    local _, err = redis.connect(server.url, { timeout_ms = 100 })
    local _, cancelled = task.with_deadline(50, redis.connect, server.url)
    server:thaw()
    assert.equal("TIMEOUT", err.code)
    assert.truthy(err.message:find("no connection within 100 ms", 1, true))
    assert.equal("TIMEOUT", cancelled.code)
    assert.is_true(sys.mono_ms() - began < 20000)
  end)

  it("is refused with a wrong password, which is not told", function()
    server:command("ACL", "SETUSER", "ann", "on", ">s3cret", "allchannels", "+ping", "+publish", "+subscribe")
    server:command("ACL", "SETUSER", "mute", "on", ">s3cret", "-@all")
    local account = "unix://%s@" .. server.socket
    local _, err = redis.connect(account:format("ann:wr0ng"))
    assert.equal("DENIED", err.code)
    assert.truthy(err.message:find("refuses the password of user `ann`: WRONGPASS", 1, true))
    assert.is_nil(err.message:find("wr0ng", 1, true))
    _, err = redis.connect(account:format("mute:s3cret"))
    assert.same({ "DENIED", true }, { err.code, err.message:find("NOPERM", 1, true) ~= nil })
    local conn = connect(account:format("ann:s3cret"))
    assert(conn:send("PUBLISH", "news", "x"))
    assert.equal(0, conn:next())
    conn:close()
    server:command("CONFIG", "SET", "requirepass", "s3cret")
    _, err = redis.connect(server.url)
    assert.same({ "DENIED", true }, { err.code, err.message:find("refuses: NOAUTH", 1, true) ~= nil })
    conn = connect("unix://:s3cret@" .. server.socket .. "?db=3")
    conn:close()
  end)
end)
