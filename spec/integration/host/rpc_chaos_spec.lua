-- host.rpc under calls that are cancelled, time out, fail and are cut off by a closing server, all at random moments.
-- What must hold: every task ends, every complete answer is the right one, and the server always closes.

local rpc = require("host.rpc")
local task = require("host.task")

local SEED = require("spec.support.seed")
local METHODS = { ["/c.S/Unary"] = "unary", ["/c.S/Both"] = "bidi", ["/c.S/Down"] = "server_stream",
  ["/c.S/Up"] = "client_stream" }
local ROUNDS, TASKS, CALLS = 4, 60, 12

local random = math.random

local handlers = {
  ["/c.S/Unary"] = function(call)
    if random(2) == 1 then task.sleep(random(20)) end
    if random(8) == 1 then call:fail(rpc.status.NOT_FOUND, "no") else call:reply(call:request()) end
  end,
  ["/c.S/Down"] = function(call)
    for i = 1, random(100) do
      if not call:write(string.rep(tostring(i % 10), random(2000))) then return end
      if random(20) == 1 then task.sleep(1) end
    end
    call:finish(0)
  end,
  ["/c.S/Up"] = function(call)
    local count = 0
    for batch in function() return call:read_many(10) end do count = count + #batch end
    call:reply(tostring(count))
  end,
  ["/c.S/Both"] = function(call)
    for message in function() return call:read() end do
      if random(50) == 1 then call:fail(rpc.status.ABORTED, "stop") end
      if not call:write(message) then return end
    end
    call:finish(0)
  end,
}

local function unary(channel, opts)
  local request = string.rep("u", random(3000))
  local reply = channel:unary("/c.S/Unary", request, opts)
  return reply == nil or reply == request
end

local clients = {
  function(channel) return unary(channel, { timeout_ms = random(50) }) end,
  function(channel) return unary(channel) end,
  function(channel)
    local good = true
    task.with_deadline(random(15), function() good = unary(channel) end)
    return good
  end,
  function(channel)
    local stream = assert(channel:server_stream("/c.S/Down", "", { prefetch_messages = 4 }))
    for _ = 1, random(60) do
      if not stream:read() then break end
    end
    if random(2) == 1 then stream:cancel() end
    return true
  end,
  function(channel)
    local stream, sent = assert(channel:stream("/c.S/Up")), random(50)
    for _ = 1, sent do stream:write("m") end
    stream:half_close()
    local reply = task.with_deadline(50, stream.read, stream)
    return reply == nil or reply == tostring(sent)
  end,
  function(channel)
    local stream = assert(channel:stream("/c.S/Both", { timeout_ms = 60 }))
    for i = 1, random(20) do
      if not stream:write("m" .. i) then return true end
      local reply = stream:read()
      if reply == nil then return true end
      if reply ~= "m" .. i then return false end
    end
    return true
  end,
}

local function play(channel, tally)
  for _ = 1, CALLS do
    local ok, good = pcall(clients[random(#clients)], channel)
    if ok and not good then tally.wrong = tally.wrong + 1 end
    if not ok and not tostring(good):find("closed", 1, true) then tally.failure = good end
  end
end

local function run_round(round, tally)
  local server = assert(rpc.listen{ methods = METHODS, max_concurrent_streams = 1000, queue_messages = 4 })
  server:serve(function(call) handlers[call.method](call) end)
  local channel = assert(rpc.channel{ target = "127.0.0.1:" .. server:port(), own_connection = true })
  local players = {}
  for i = 1, TASKS do players[i] = task.spawn(play, channel, tally) end
  task.sleep(random(100))
  for i = 1, TASKS, 5 do players[i]:cancel() end
  collectgarbage()
  if round % 2 == 0 then channel:close() else server:drain(random(60)) end
  assert.is_true(server:close())
  for _, player in ipairs(players) do player:join() end
  channel:close()
end

it("survives calls that end at random moments", function()
  math.randomseed(SEED)
  local tally = { wrong = 0 }
  for round = 1, ROUNDS do run_round(round, tally) end
  assert.same({ 0, nil }, { tally.wrong, tally.failure }, "seed " .. SEED)
end)
