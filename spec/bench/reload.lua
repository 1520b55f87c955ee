-- Hot reload under load: from the save of a mode file until a new session runs the new code; no request may fail.

local fs = require("host.fs")
local sys = require("host.sys")
local task = require("host.task")

local load = require("spec.bench.lib.load")
local stack = require("spec.bench.lib.stack")

local MODE = "ext.probe.v1"
local ROUNDS, SENDERS = 10, 8

-- A mode that tells its revision in the text of a refusal.
local SOURCE = [[
return {
  id = "ext.probe.v1", version = "1.0.0", title = "Probe", summary = "Tells its revision.",
  participants = { model = "peer" }, determinism = "semantic-deterministic",
  state = {},
  messages = { Ask = { from = "participant", needs = { { "revision %d", function() return false end } } } },
  outcomes = { { action = "probe.completed", positive = true } },
}
]]

-- The revision that a session started now runs. (yields)
local function ask(client)
  local session = client:session_of(MODE)
  local ack = client:send(session.ask(), { raise_on_nack = false })
  return tonumber(ack.error.message:match("revision (%d+)"))
end

-- Raw envelopes: this process does not load the probe's folder. (yields)
local function prober(target)
  local builder = require("macp.sdk").builder
  local client = load.client(target)
  local self = {}
  function self.send(_, envelope, opts) return client:send(envelope, opts) end
  function self.session_of(_, mode)
    local id = builder.new_id()
    client:send(builder.envelope({
      mode = mode, message_type = "SessionStart", session_id = id, sender = "lead",
      payload = builder.session_start({ intent = "probe", participants = { "lead" }, ttl_ms = 60000 }),
    }))
    return { ask = function()
      return builder.envelope({ mode = mode, message_type = "Ask", session_id = id, sender = "lead", payload = "" })
    end }
  end
  function self.close() client:close() end
  return self
end

local function background(target, tally)
  local client = load.client(target)
  return task.spawn(function()
    local session = client:session(load.MODE)
    session:start({ intent = "load", participants = { "lead" }, ttl_ms = 3600000 })
    session:proposal({ proposal_id = "p1", option = "one" })
    while not tally.stop do
      local ok = pcall(session.send, session, "Evaluation",
        { proposal_id = "p1", recommendation = "APPROVE", confidence = 0.5, reason = "fine" })
      tally.requests = tally.requests + 1
      if not ok then tally.failed = tally.failed + 1 end
    end
    session:close()
    client:close()
  end)
end

return {
  name = "reload",
  about = "save of a mode file until new sessions use it, under load",
  run = function(report)
    local st = stack.new()
    local folder = st.dir .. "/modes/probe"
    assert(fs.mkdir_p(folder))
    assert(fs.write(folder .. "/mode.lua", SOURCE:format(1)))
    local proc = st:serve("runtime", { args = { "--modes", st.dir .. "/modes" } })
    local tally, senders = { requests = 0, failed = 0 }, {}
    for i = 1, SENDERS do senders[i] = background(st.target, tally) end
    local client = prober(st.target)
    assert(ask(client) == 1)
    local worst = 0
    for revision = 2, ROUNDS + 1 do
      task.sleep(100)
      assert(fs.write(folder .. "/mode.lua", SOURCE:format(revision), { sync = false }))
      local saved = sys.mono_ms()
      repeat until ask(client) == revision or sys.mono_ms() - saved > 5000
      worst = math.max(worst, sys.mono_ms() - saved)
    end
    tally.stop = true
    for _, sender in ipairs(senders) do sender:join() end
    client:close()
    report:at_most("worst of " .. ROUNDS .. " saves", worst, 100, "ms")
    report:at_most("failed requests", tally.failed, 0, "")
    report:note("  %d requests meanwhile", tally.requests)
    proc:kill()
    proc:wait(30000)
    st:close()
  end,
}
