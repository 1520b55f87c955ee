-- Clients that stop, stall, reset and talk nonsense at random against handlers of every kind. Whatever happens, nothing
-- may be left behind. TEST_SEED fixes the dice (not the timing), TEST_LONG makes it last.

local bytes = require("host.bytes")
local fetch = require("host.fetch")
local net = require("host.net")
local sys = require("host.sys")
local task = require("host.task")
local servers = require("spec.support.http_server")
local eventually = require("spec.support.eventually")

local SEED = require("spec.support.seed")

local rnd = math.random
local BIG = bytes.new(("b"):rep(9000))
local GET = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
local HEAD = "POST /a HTTP/1.1\r\nHost: h\r\n"

local OPTS = { max_connections = 60, max_pending_bytes = 65536, max_body_bytes = 100000, max_head_bytes = 4000,
  header_timeout_ms = 150, body_timeout_ms = 200, idle_timeout_ms = 100, write_timeout_ms = 200, half_close_ms = 50 }

local function stream(res)
  res:start(200)
  for _ = 1, rnd(50) do
    local ok = res:offer(rnd(2) == 1 and BIG or "small")
    if not ok and rnd(2) == 1 then res:wait_drained() end
    if rnd(5) == 1 then task.sleep(rnd(10)) end
    if rnd(10) == 1 and not res:write(BIG) then return end
  end
  if rnd(2) == 1 then res:finish() end
  if rnd(5) == 1 then task.with_deadline(300, function() return res:wait_closed() end) end
end

local function handler(req, res)
  local choice = rnd(10)
  if choice <= 3 then return stream(res) end
  if choice == 4 then task.sleep(rnd(300)) end
  if choice == 5 then return end
  if choice == 6 then return res:send(200, nil, ("x"):rep(rnd(500000))) end
  res:send(200, { ["x-a"] = "b" }, req.body or "nothing")
end

local utterances = {
  function(socket) socket:write(GET .. GET:gsub("/a", "/static") .. GET) end,
  function(socket) socket:write(HEAD .. "Content-Length: 50000\r\n\r\n" .. ("x"):rep(rnd(60000))) end,
  function(socket) socket:write(HEAD .. "Content-Length: 500000\r\n\r\n" .. ("x"):rep(rnd(60000))) end,
  function(socket)
    socket:write(GET:sub(1, 9))
    task.sleep(rnd(200))
    socket:write(GET:sub(10))
  end,
  function(socket) socket:write("nonsense\r\n\r\n") end,
  function(socket) socket:shutdown() end,
  function(socket) socket:write((GET:gsub("/a", "/static")):rep(rnd(2000))) end,
  function(socket)
    socket:write(HEAD .. "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
    task.sleep(rnd(50))
    socket:write("5\r\nhello\r\n0\r\n\r\n")
  end,
  function(socket) socket:write("GET /a HTTP/1.0\r\n\r\n") end,
}

local function talk(port)
  local socket = net.connect("127.0.0.1", port, rnd(3) == 1 and { recv_buffer = 4096 } or nil)
  if not socket then return end
  task.with_deadline(rnd(600), function()
    for _ = 1, rnd(6) do
      utterances[rnd(#utterances)](socket)
      for _ = 1, rnd(4) do
        if rnd(3) > 1 and not socket:read(rnd(70000)) then return end
      end
    end
  end)
  if rnd(2) == 1 then socket:close() else socket:reset() end
end

local function ask(port)
  local url = "http://127.0.0.1:" .. port .. (rnd(2) == 1 and "/static" or "/f")
  local choice = rnd(3)
  if choice == 1 then
    local reply = fetch.open({ url = url, timeout_ms = rnd(300) })
    task.with_deadline(rnd(300), function()
      for _ = 1, rnd(20) do
        if not reply or not reply:read() then return end
      end
    end)
    if reply then reply:close() end
  elseif choice == 2 then
    local left = rnd(20)
    fetch.request({ url = url, method = "POST", timeout_ms = rnd(400), body = function()
      left = left - 1
      if rnd(4) == 1 then task.sleep(rnd(5)) end
      if rnd(40) == 1 then error("no more") end
      return left > 0 and ("z"):rep(rnd(20000)) or nil
    end })
  else
    task.with_deadline(rnd(200), function() return fetch.request({ url = url, max_body_bytes = rnd(400000) }) end)
  end
end

describe("host.http under clients that misbehave", function()
  after_each(servers.stop_all)

  it("serves on and keeps nothing", function()
    local server, port = servers.start(OPTS, handler)
    server:respond_static("/static", 200, nil, "static")
    math.randomseed(SEED)
    local stop = sys.mono_ms() + (sys.env("TEST_LONG") and 30000 or 1500)
    local function often(fn)
      while sys.mono_ms() < stop do fn(port) end
    end
    assert(task.group(function(g)
      for _ = 1, 50 do g:spawn(often, talk) end
      for _ = 1, 5 do g:spawn(often, ask) end
    end))
    eventually(function() return server:stats().connections == 0 end, 3000, "the last close (seed " .. SEED .. ")")
    local stats = server:stats()
    assert.equal(0, stats.in_flight)
    assert.is_true(stats.requests > 100 and stats.bad_requests > 0 and stats.timeouts > 0)
    assert.equal(200, assert(fetch.request({ url = "http://127.0.0.1:" .. port .. "/static" })).status)
    assert.is_true(server:drain(1000))
  end)
end)
