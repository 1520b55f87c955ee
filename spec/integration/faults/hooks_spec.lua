-- Every function of a mode that fails in every way, in the real role: the refusal, the state of before, and that
-- everybody else is served meanwhile; also after a restart. Failures while a mode is loaded are in scripts_spec.

local crypto = require("host.crypto")
local fs = require("host.fs")
local json = require("host.json")
local sys = require("host.sys")
local task = require("host.task")

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local fault_lib = require("spec.support.fault_lib")
local system = require("spec.support.system")

local MODE = "ext.hooks.v1"
local OPEN, RESOLVED, CANCELLED = 1, 2, 5
local SLOW_MS = system.is_slow and 20000 or 8000 -- many times what it takes, for a crowded machine
local MAX_MIB = 96 -- more, for a script that takes all it can get

local FAULTS = { "loop", "memory", "recursion", "error", "value", "pattern" }

local SOURCE = [[
local faults = require "lib.faults"
local BAD = {
  ["plain function"] = function(s) s.bad = function() end end,
  ["plain cycle"] = function(s) s.bad = { s } s.bad[1] = s.bad end,
  ["plain nan"] = function(s) s.bad = 0 / 0 end,
  ["plain shared"] = function(s) local t = {} s.bad = { a = t, b = t } end,
  ["plain mixed"] = function(s) s.bad = { 1, x = 2 } end,
  ["plain hole"] = function(s) s.bad = { [1] = 1, [3] = 3 } end,
}
return {
  id = "ext.hooks.v1", version = "1.0.0", title = "Hooks", summary = "Fails on request.",
  participants = { model = "peer", min = 1 }, determinism = "semantic-deterministic",
  state = function(c)
    for _, name in ipairs(c.participants) do faults("state", name) end
    return { said = {}, plan = "", half = false }
  end,
  messages = {
    Say = {
      from = { "participant", "runtime" }, payload = "string text = 1 [required, max = 200];",
      needs = { { "always", function(s, p) faults("needs", p.text) return true end } },
      apply = function(s, p, by)
        s.half = true
        faults("apply", p.text)
        if BAD[p.text] then BAD[p.text](s) end
        s.half = false
        s.said[by], s.plan = p.text, p.text
      end,
    },
  },
  timers = {
    late = {
      due = function(s, c)
        faults("due", s.plan)
        if s.plan:find("^emit") then return 1 end
      end,
      emit = function(s, c)
        faults("emit", s.plan)
        if s.plan == "emit nothing" then return { type = "None", sender = "ann", key = "x", payload = {} } end
        return { type = "Say", sender = "ann", key = "again", payload = { text = "emitted" } }
      end,
    },
  },
  outcomes = {
    { action = "hooks.completed", positive = true,
      when = function(s) faults("when", s.plan) return true end },
  },
  result = function(s) faults("result", s.plan) return { plan = s.plan } end,
  policy = { rules = {}, evaluate = function(s, d) faults("evaluate", s.plan) end },
}
]]

describe("a mode's function that fails", function()
  local rig, dir, bystander

  setup(function()
    dir = assert(fs.temp_dir("macp-hooks-"))
    assert(fs.mkdir_p(dir .. "/hooks/lib"))
    assert(fs.write(dir .. "/hooks/lib/faults.lua", fault_lib))
    assert(fs.write(dir .. "/hooks/mode.lua", SOURCE))
    rig = assert(client.start({ mode_dirs = { dir }, env = { MACP_CHECKPOINT_INTERVAL = "1" } }))
    bystander = { id = crypto.uuid4(), count = 0 }
    assert(rig:send("boss", client.start_envelope(bystander.id, { ttl_ms = 3600000 })).ok)
  end)
  teardown(function()
    rig:destroy()
    fs.remove_tree(dir)
  end)

  local function memory_mib()
    return tonumber(assert(fs.read("/proc/self/status")):match("VmRSS:%s*(%d+)")) / 1024
  end

  -- Runs fn while another session gets its messages through. (yields)
  local function with_bystander(fn)
    local before, slowest, stop = memory_mib(), 0, false
    local running = task.spawn(function()
      while not stop do
        bystander.count = bystander.count + 1
        local name, began = "p" .. bystander.count, sys.mono_ms()
        local payload = client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = name, option = "A" })
        assert(rig:send("bob", client.envelope({ session_id = bystander.id, message_id = name, payload = payload })).ok)
        slowest = math.max(slowest, sys.mono_ms() - began)
        task.sleep(1)
      end
      return true
    end)
    local ok, err = pcall(fn)
    stop = true
    assert(running:join())
    if not ok then error(err, 0) end
    assert.is_true(slowest < SLOW_MS, slowest .. " ms for somebody else's message")
    assert.is_true(system.is_slow or memory_mib() - before < MAX_MIB, before .. " MiB, then " .. memory_mib())
  end

  local function start(participants)
    local id = crypto.uuid4()
    return rig:send("boss", client.start_envelope(id, { participants = participants or { "ann", "bob" },
      ttl_ms = 3600000 }, { mode = MODE })), id
  end

  local function say(id, text, sender)
    return rig:send(sender or "ann", client.envelope({ mode = MODE, session_id = id, message_type = "Say",
      message_id = text, payload = "\10" .. string.char(#text) .. text }))
  end

  local function commit(id)
    return rig:send("boss", client.envelope({ mode = MODE, session_id = id, message_type = "Commitment",
      message_id = "commit", payload = client.payload("macp.v1.CommitmentPayload", {
        commitment_id = "c", action = "hooks.completed", authority_scope = "s", reason = "r", mode_version = "1.0.0",
        configuration_version = "config.default", outcome_positive = true,
      }) }))
  end

  local function metadata(id) return assert(rig:call("boss", "GetSession", { session_id = id })).metadata end

  local function state_of(id) return rig.role.modes:get(MODE):state_hash(id) end

  -- What is refused is refused with the mode's name for it, and nothing of it stays.
  local function expect_refused(ack, where)
    assert.is_false(ack.ok)
    assert.equal("INTERNAL_ERROR", ack.error.code)
    assert.truthy(ack.error.message:find("^ModeFailed: the mode failed in [%w_%.%[%]]*" .. where), ack.error.message)
    assert.is_nil(ack.error.message:find("lua:", 1, true), "a path in " .. ack.error.message)
  end

  for _, fault in ipairs(FAULTS) do
    it("with " .. fault .. " at the start makes no session, and the id stays free", function()
      with_bystander(function()
        local id = crypto.uuid4()
        local function try(participants)
          return rig:send("boss", client.start_envelope(id, { participants = participants, ttl_ms = 3600000 },
            { mode = MODE }))
        end
        expect_refused(try({ "ann", "state " .. fault }), "state")
        local _, err = rig:call("boss", "GetSession", { session_id = id })
        assert.equal(5, err.status)
        assert.is_true(try({ "ann" }).ok)
      end)
    end)

    for _, where in ipairs({ "needs", "apply", "due" }) do
      it("with " .. fault .. " in " .. where .. " refuses the message and keeps the state of before", function()
        with_bystander(function()
          local _, id = start()
          assert.is_true(say(id, "one").ok)
          local before, ordinals = state_of(id), rig.role.sessions.by_id[id].ordinals
          for _ = 1, 2 do expect_refused(say(id, where .. " " .. fault), where) end
          assert.equal(OPEN, metadata(id).state) -- whoever asks first has it rebuilt
          assert.same({ before, ordinals }, { state_of(id), rig.role.sessions.by_id[id].ordinals })
          assert.is_true(say(id, "two", "bob").ok)
          assert.equal(RESOLVED, commit(id).session_state)
        end)
      end)
    end

    for _, where in ipairs({ "when", "result" }) do
      it("with " .. fault .. " in " .. where .. " refuses the commitment, and the session goes on", function()
        with_bystander(function()
          local _, id = start()
          assert.is_true(say(id, where .. " " .. fault).ok)
          expect_refused(commit(id), where)
          assert.equal(OPEN, metadata(id).state)
          assert.is_true(say(id, "mended").ok)
          assert.equal(RESOLVED, commit(id).session_state)
        end)
      end)
    end

    it("with " .. fault .. " in evaluate denies the commitment with a reason", function()
      with_bystander(function()
        local _, id = start()
        assert.is_true(say(id, "evaluate " .. fault).ok)
        local ack = commit(id)
        assert.equal("POLICY_DENIED", ack.error.code)
        assert.same({ "evaluation failed" }, json.decode(ack.error.details).reasons)
        assert.is_true(say(id, "mended").ok)
        assert.equal(RESOLVED, commit(id).session_state)
      end)
    end)

    it("with " .. fault .. " in emit sets the session aside; it can be ended", function()
      with_bystander(function()
        local _, id = start()
        assert.is_true(say(id, "emit " .. fault).ok)
        eventually(function() return rig.role.sessions.by_id[id].quarantined end, 5000, "the quarantine")
        local ack = say(id, "more")
        assert.equal("MODE_NOT_SUPPORTED", ack.error.code)
        assert.equal("UnknownMode: a timer of the mode failed", ack.error.message)
        assert.equal(CANCELLED, rig:call("boss", "CancelSession", { session_id = id }).ack.session_state)
      end)
    end)
  end

  for _, what in ipairs({ "function", "cycle", "nan", "shared", "mixed", "hole" }) do
    it("by leaving a state that is no plain data (" .. what .. ") harms its own session at most", function()
      with_bystander(function()
        local _, id = start()
        assert.is_true(say(id, "one").ok)
        local ack = say(id, "plain " .. what)
        if not ack.ok then assert.equal("INTERNAL_ERROR", ack.error.code) end
        assert.equal(OPEN, metadata(id).state)
        task.sleep(50) -- checkpoints are due after every message here
        assert.equal(CANCELLED, rig:call("boss", "CancelSession", { session_id = id }).ack.session_state)
      end)
    end)
  end

  it("leaves the others whole over a restart: what was accepted is there, what was refused is not", function()
    local ids = {}
    for i, fault in ipairs(FAULTS) do
      local _, id = start()
      ids[i] = id
      assert.is_true(say(id, "one").ok)
      assert.is_false(say(id, "apply " .. fault).ok)
      assert.is_true(say(id, "two", "bob").ok)
    end
    local before = {}
    for i, id in ipairs(ids) do before[i] = { metadata(id), state_of(id) } end
    rig = rig:again()
    for i, id in ipairs(ids) do
      assert.same(before[i], { metadata(id), state_of(id) })
      assert.is_true(say(id, "one").duplicate)
      assert.is_true(say(id, "three").ok)
    end
    with_bystander(function() task.sleep(20) end)
  end)
end)
