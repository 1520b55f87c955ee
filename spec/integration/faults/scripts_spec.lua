-- Mode scripts that go wrong in the real program: a located report, the last good revision serves on, and nobody else
-- notices.

local crypto = require("host.crypto")
local fs = require("host.fs")
local sys = require("host.sys")
local task = require("host.task")

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local fault_lib = require("spec.support.fault_lib")
local system = require("spec.support.system")

local FAULTS = { "loop", "memory", "recursion", "error" }

-- A message whose text names a fault makes the named function of the mode fail.
local MODE = [[
local macp = require "macp"
local faults = require "lib.faults"

return {
  id = "ext.faulty.v1", version = "1.0.0", title = "Faulty", summary = "Fails on request.",
  participants = { model = "peer", min = 1 }, determinism = "semantic-deterministic",
  state = { greeted = {}, half = false },
  messages = {
    Hello = {
      from = "participant", payload = "string text = 1 [required, max = 200];",
      needs = { { "always", function(s, p) faults("needs", p.text) return true end } },
      apply = function(s, p, by)
        s.half = true
        faults("apply", p.text)
        s.half = false
        s.greeted[by] = p.text
      end,
    },
  },
  outcomes = { { action = "faulty.completed", positive = true } },
}
]]

local NORMALIZER = [[
local faults = require "lib.faults"
return {
  events = {
    Hello = { "proposal.updated", id = function(p, by) return by end,
      label = function(p) faults("normalizer", p.text) return p.text end },
  },
}
]]

local REDUCER = [[
local faults = require "lib.faults"
return {
  render = function(s)
    for _, text in pairs(s.greeted) do faults("reducer", text) end
    return { greetings = s.greeted }
  end,
}
]]

local FIXTURE = [[
return {
  about = "a greeting", initiator = "ann", participants = { "ann", "bob" },
  { "ann", "Hello", { text = "hi" } },
  { "ann", "Commitment", { action = "faulty.completed" } },
  final = "Resolved",
}
]]

-- What is wrong in mode.lua, and what is said about it.
local BROKEN = {
  { "a syntax error", "messages = {", "messages = {{", "mode%.lua", "expected" },
  { "a wrong key", "apply = function", "aply = function", "mode%.lua", "apply" },
  { "an endless loop while loading", "return {\n  id", "while true do end\nreturn {\n  id", "mode%.lua",
    "instruction limit exceeded" },
  { "runaway memory while loading", "return {\n  id", "local t = {} for i = 1, 1e8 do t[i] = { i } end\nreturn {\n  id",
    "mode%.lua", "limit exceeded" },
  { "deep recursion while loading", "return {\n  id",
    "local function deeper(n) return 1 + deeper(n) end deeper(1)\nreturn {\n  id", "mode%.lua", "call depth limit" },
  { "a fixture that fails", "s.greeted[by] = p.text", "error('never')", "%.lua", "never" },
}

local function replace(text, what, by)
  local from, to = text:find(what, 1, true)
  assert(from, what)
  return text:sub(1, from - 1) .. by .. text:sub(to + 1)
end

local function hello(text)
  return "\10" .. string.char(#text) .. text -- field 1, a string
end

describe("a mode script", function()
  local world, dir, folder

  setup(function()
    dir = assert(fs.temp_dir("macp-modes"))
    folder = dir .. "/faulty"
    for name, text in pairs({ ["mode.lua"] = MODE, ["lib/faults.lua"] = fault_lib, ["normalizer.lua"] = NORMALIZER,
      ["reducer.lua"] = REDUCER, ["fixtures/greeting.lua"] = FIXTURE }) do
      local path = folder .. "/" .. name
      assert(fs.mkdir_p(path:match("^(.*)/")))
      assert(fs.write(path, text))
    end
    world = system.start({ args = { "--modes", dir } })
  end)

  teardown(function()
    world:close()
    fs.remove_tree(dir)
  end)

  -- The folder's entry of GET /admin/modes. (yields)
  local function status()
    local code, body = world:get("/admin/modes")
    assert(code == 200, code)
    for _, entry in ipairs(body.modes or body) do
      if entry.path and entry.path:find(folder, 1, true) or entry.folder == "faulty" then return entry end
    end
  end

  local function open_session(mode)
    local id = crypto.uuid4()
    local ack = world:client():send("boss", client.start_envelope(id, { ttl_ms = 600000 }, { mode = mode }))
    assert(ack.ok, ack.error and ack.error.message)
    return id
  end

  local function greet(id, text, name, sender)
    return world:client():send(sender or "ann", client.envelope({
      mode = "ext.faulty.v1", message_type = "Hello", message_id = name or crypto.uuid4(), session_id = id,
      payload = hello(text),
    }))
  end

  -- Another session under steady load: how many messages it got through and how long the slowest took.
  local function bystander()
    local id = open_session("macp.mode.decision.v1")
    local self = { count = 0, slowest_ms = 0, stop = false }
    local rig = world:client()
    self.task = task.spawn(function()
      while not self.stop do
        local name = "p" .. self.count
        local began = sys.mono_ms()
        assert(rig:send("ann", client.envelope({ session_id = id, message_id = name,
          payload = client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = name, option = "A" }),
        })).ok)
        self.slowest_ms = math.max(self.slowest_ms, sys.mono_ms() - began)
        self.count = self.count + 1
        task.sleep(2)
      end
      return true
    end)
    return self
  end

  local function leave(other)
    other.stop = true
    assert.is_true(other.task:join())
    assert.is_true(other.count > 0)
    assert.is_true(other.slowest_ms < (system.is_slow and 10000 or 5000), other.slowest_ms .. " ms")
    assert.is_nil(world.program.status)
  end

  for _, case in ipairs(BROKEN) do
    it("with " .. case[1] .. " is refused with its place, and the last good revision serves on", function()
      local other, before = bystander(), status()
      assert.is_true(before.serving)
      local running = open_session("ext.faulty.v1")
      assert(fs.write(folder .. "/mode.lua", replace(MODE, case[2], case[3])))
      local problem = eventually(function()
        local candidate = status().candidate
        return type(candidate) == "table" and candidate.errors[1]
      end, 10000, "a report")
      assert.truthy(problem.path:find(case[4]), problem.path)
      assert.is_true(problem.line >= 1)
      assert.truthy(problem.text:find(case[5], 1, true), problem.text)
      local now = status()
      assert.is_true(now.serving)
      assert.equal(before.revision, now.revision)
      assert.is_true(greet(running, "still here").ok)
      assert.is_true(greet(open_session("ext.faulty.v1"), "and new").ok)
      assert(fs.write(folder .. "/mode.lua", MODE))
      eventually(function() return type(status().candidate) ~= "table" end, 10000, "the end of the report")
      leave(other)
    end)
  end

  for _, where in ipairs({ "needs", "apply" }) do
    for _, fault in ipairs(FAULTS) do
      it("that fails with " .. fault .. " in " .. where .. " refuses that message only", function()
        local other, before = bystander(), world:rss_mib()
        local id, neighbour = open_session("ext.faulty.v1"), open_session("ext.faulty.v1")
        assert.is_true(greet(id, "one", "first").ok)
        for _ = 1, 3 do
          local ack = greet(id, where .. " " .. fault)
          assert.is_false(ack.ok)
          assert.equal("INTERNAL_ERROR", ack.error.code)
          assert.truthy(ack.error.message:find("Hello." .. where, 1, true), ack.error.message)
        end
        assert.is_true(greet(id, "two", "second").ok)
        assert.is_true(greet(neighbour, "one").ok)
        assert.same({ "start", "first", "second" }, (world:history(id)))
        assert.is_true(system.is_slow or world:rss_mib() - before < 64)
        leave(other)
      end)
    end
  end

  for _, where in ipairs({ "normalizer", "reducer" }) do
    for _, fault in ipairs(FAULTS) do
      it("that fails with " .. fault .. " in the " .. where .. " leaves the run with its messages", function()
        local other, before = bystander(), world:rss_mib()
        local id = open_session("ext.faulty.v1")
        assert.is_true(greet(id, "one", "first").ok)
        assert.is_true(greet(id, where .. " " .. fault, "bad").ok)
        assert.is_true(greet(id, "three", "third", "bob").ok)
        local received
        eventually(function()
          local code, events = world:get("/runs/" .. id .. "/events?limit=1000")
          if code ~= 200 then return nil, code end
          received = {}
          for _, event in ipairs(events) do
            if event.type == "message.received" then received[#received + 1] = event.data.messageId end
          end
          return #received == 4, #received
        end, 10000, "the events")
        assert.same({ "start", "first", "bad", "third" }, received)
        local code, state = world:get("/runs/" .. id .. "/state")
        assert.equal(200, code)
        assert.equal("ext.faulty.v1", state.mode.id)
        if where == "reducer" then
          assert.is_true(state.mode.degraded)
          assert.truthy(state.mode.error:find("lua:%d+: "), state.mode.error)
        end
        assert.truthy(status().faulty.count > 0)
        assert.is_true(system.is_slow or world:rss_mib() - before < 64)
        leave(other)
      end)
    end
  end

  it("that failed all day lets the program end in order", function()
    world:stop()
  end)
end)
