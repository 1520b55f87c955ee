-- A mode whose functions fail while a session is restored from its checkpoint, though they did not when it was live: the
-- history decides then, and a session that it cannot rebuild either is set apart and can be ended.

local crypto = require("host.crypto")
local fs = require("host.fs")

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local layout = require("macp.runtime.layout")

local OPEN, CANCELLED = 1, 5

-- The hook's first calls in a process fail: starts that are repeated live, and restores and replays after a restart.
local SOURCE = [[
local HOOK, FAULT, FAILING = "%s", "%s", %d
local calls = 0
local function fault(hook)
  if hook ~= HOOK then return end
  calls = calls + 1
  if calls > FAILING then return end
  if FAULT == "loop" then while true do end end
  if FAULT == "memory" then
    local all = {}
    for i = 1, 100000000 do all[i] = { i } end
  end
  if FAULT == "value" then error({ no = "text" }) end
  local nothing
  return nothing.here
end
return {
  id = "%s", version = "1.0.0", title = "Restored", summary = "Fails at first.",
  participants = { model = "peer", min = 1 }, determinism = "semantic-deterministic",
  state = function() fault("state") return { said = 0 } end,
  messages = {
    Say = { from = { "participant", "runtime" }, payload = "string text = 1 [required, max = 200];",
      apply = function(s) s.said = s.said + 1 end },
  },
  timers = {
    late = { due = function() fault("due") end,
      emit = function() return { type = "Say", sender = "ann", key = "x", payload = { text = "x" } } end },
  },
  outcomes = { { action = "restored.completed", positive = true, when = function() return true end } },
}
]]

local CASES = {}
for _, hook in ipairs({ "state", "due" }) do
  for _, fault in ipairs({ "error", "value", "loop", "memory" }) do
    CASES[#CASES + 1] = { hook = hook, fault = fault, failing = 1 }
  end
  CASES[#CASES + 1] = { hook = hook, fault = "error", failing = 2 }
end

describe("a mode that fails when a session is restored", function()
  local rig, dir

  local function say(case, name)
    return rig:send("ann", client.envelope({ mode = case.mode, session_id = case.id, message_type = "Say",
      message_id = name, payload = "\10" .. string.char(#name) .. name }))
  end

  local function metadata(case) return assert(rig:call("boss", "GetSession", { session_id = case.id })).metadata end

  local function state_of(case) return rig.role.modes:get(case.mode):state_hash(case.id) end

  -- A session with a checkpoint; its start is repeated until the mode lets it be. (yields)
  local function begin(case)
    case.id = crypto.uuid4()
    local start = client.start_envelope(case.id, { participants = { "ann", "bob" }, ttl_ms = 3600000 },
      { mode = case.mode })
    for _ = 1, case.failing do
      local ack = rig:send("boss", start)
      assert.truthy(ack.error.message:find("^ModeFailed: the mode failed in "), ack.error.message)
    end
    assert.is_true(rig:send("boss", start).ok)
    for i = 1, 6 do assert.is_true(say(case, "m" .. i).ok) end
    eventually(function() return rig.role.journal:count(layout.checkpoint(case.id)) > 0 end, 5000, "a checkpoint")
    case.before, case.hash = metadata(case), state_of(case)
  end

  setup(function()
    dir = assert(fs.temp_dir("macp-restore-"))
    for i, case in ipairs(CASES) do
      case.mode = "ext.restored_" .. i .. ".v1"
      assert(fs.mkdir_p(dir .. "/restored_" .. i))
      assert(fs.write(dir .. "/restored_" .. i .. "/mode.lua",
        SOURCE:format(case.hook, case.fault, case.failing, case.mode)))
    end
    rig = assert(client.start({ mode_dirs = { dir }, env = { MACP_CHECKPOINT_INTERVAL = "1" } }))
    for _, case in ipairs(CASES) do begin(case) end
    rig = rig:again()
  end)
  teardown(function()
    if rig then rig:destroy() end
    fs.remove_tree(dir)
  end)

  for _, case in ipairs(CASES) do
    if case.failing == 1 then
      it("in " .. case.hook .. " (" .. case.fault .. ") is outlived: the history is replayed instead", function()
        assert.same(case.before, metadata(case))
        assert.equal(case.hash, state_of(case))
        assert.is_true(say(case, "m1").duplicate)
        assert.is_true(say(case, "m7").ok)
        assert.equal(OPEN, metadata(case).state)
      end)
    else
      it("in " .. case.hook .. ", and when it replays, has its session set apart: it is read and ended", function()
        assert.same(case.before, metadata(case))
        local ack = say(case, "m7")
        assert.equal("MODE_NOT_SUPPORTED", ack.error.code)
        assert.equal("UnknownMode: the history does not replay", ack.error.message)
        local stream = rig:stream("ann")
        stream:subscribe(case.id, 5)
        assert.same({ "m5", "m6" }, stream:ids(2))
        stream:cancel()
        assert.equal(CANCELLED, rig:call("boss", "CancelSession", { session_id = case.id }).ack.session_state)
      end)
    end
  end

  it("W8: refuses a strict start, with the session and the reason", function()
    rig:stop()
    local strict, err = client.start({ dir = rig.dir, mode_dirs = { dir }, env = { MACP_STRICT_RECOVERY = "1" } })
    local left = rig.dir
    rig = nil
    fs.remove_tree(left)
    assert.is_nil(strict)
    assert.truthy(err.message:find("session [%w-]+: its checkpoint: "), err.message)
  end)
end)
