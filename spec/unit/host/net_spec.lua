local net = require("host.net")
local task = require("host.task")
local servers = require("spec.support.http_server")

local GET = "GET / HTTP/1.0\r\n\r\n"

describe("host.net", function()
  local port
  before_each(function()
    port = select(2, servers.start({}, function(_, res) res:send(200, nil, "ok") end))
  end)
  after_each(servers.stop_all)

  it("connects by address and by name, writes and reads to the end", function()
    for _, host in ipairs({ "127.0.0.1", "localhost" }) do
      local socket = assert(net.connect(host, port))
      assert.is_true(socket:write(GET))
      local parts = {}
      while true do
        local data, err = socket:read(7)
        assert.is_nil(err)
        if not data then break end
        assert.is_true(#data <= 7)
        parts[#parts + 1] = data
      end
      assert.matches("^HTTP/1.1 200 OK\r\n.*\r\n\r\nok$", table.concat(parts))
      socket:close()
    end
  end)

  it("reports who cannot be reached", function()
    local socket, err = net.connect("127.0.0.1", 1)
    assert.is_nil(socket)
    assert.equal("UNAVAILABLE", err.code)
    socket, err = net.connect("does-not-exist.invalid", port)
    assert.is_nil(socket)
    assert.matches("^connect", err.message)
  end)

  it("ends a wait when its task is cancelled or its deadline passes, and stays usable", function()
    local socket = assert(net.connect("127.0.0.1", port))
    local _, err = task.with_deadline(20, function() return socket:read() end)
    assert.equal("TIMEOUT", err.code)
    local reader = task.spawn(function() return socket:read() end)
    task.sleep(1)
    reader:cancel()
    assert.equal("CANCELLED", select(2, reader:join()).code)
    socket:write(GET)
    assert.matches("^HTTP", socket:read())
    socket:close()
  end)

  it("gives up connecting at the deadline", function()
    -- 192.0.2.0/24 is reserved for documentation: nobody answers, or the network refuses at once.
    local _, err = task.with_deadline(50, function() return net.connect("192.0.2.1", 9) end)
    assert.is_not_nil(err)
  end)

  it("is closed once and for all", function()
    local socket = assert(net.connect("127.0.0.1", port))
    local reader = task.spawn(function() return socket:read() end)
    task.sleep(1)
    socket:close()
    socket:close()
    assert.equal("CLOSED", select(2, reader:join()).code)
    assert.equal("CLOSED", select(2, socket:read()).code)
    assert.equal("CLOSED", select(2, socket:write("x")).code)
    socket:shutdown()
    socket:reset()
  end)

  it("lets one task read at a time", function()
    local socket = assert(net.connect("127.0.0.1", port))
    local reader = task.spawn(function() return socket:read() end)
    task.sleep(1)
    assert.has_error(function() socket:read() end, "another task is reading from this socket")
    socket:close()
    reader:join()
  end)
end)
