-- Words that no database holds, in every place where agents and scripts of modes put words: they are replaced, the run goes
-- on, and what was folded live is what its stored events fold to.

local crypto = require("host.crypto")
local fs = require("host.fs")
local sys = require("host.sys")

local json = require("macp.core.json")
local eventually = require("spec.support.eventually")
local runtime = require("spec.support.runtime_client")
local plane_rig = require("spec.support.plane_rig")

local MODE = [[
return {
  id = "ext.cut.v1", version = "1.0.0", title = "Cut", summary = "Labels cut words anywhere.",
  participants = { model = "peer", min = 1 }, determinism = "semantic-deterministic",
  state = { said = 0 },
  messages = { Say = { from = "participant", payload = "string text = 1;",
    apply = function(s) s.said = s.said + 1 end } },
  outcomes = { { action = "cut.completed", positive = true, when = function(s) return s.said > 0 end } },
}]]
local NORMALIZER = [[
local function cut(p) return p.text:sub(1, 3) end
return { events = { Say = { "proposal.updated", id = cut, label = cut } } }]]

local TEXTS = { "aa\195\169", "nu\0l", "plain", "\240\159\152\128", "\"\\\1" } -- two are cut within a character
local SHOWN = { "aa\239\191\189", "nu\239\191\189", "pla", "\239\191\189\239\191\189\239\191\189", "\"\\\1" }

describe("words that cannot be stored", function()
  local rig, dir

  setup(function()
    dir = assert(fs.temp_dir("macp-modes-"))
    assert(fs.mkdir_p(dir .. "/cut"))
    assert(fs.write(dir .. "/cut/mode.lua", MODE))
    assert(fs.write(dir .. "/cut/normalizer.lua", NORMALIZER))
    rig = plane_rig.start({ mode_dirs = { dir } })
  end)
  teardown(function()
    rig:destroy()
    fs.remove_tree(dir)
  end)

  local function say(id, mode, message_type, payload)
    local ack = rig.runtime:send("ann", runtime.envelope({ mode = mode, message_type = message_type,
      message_id = crypto.uuid4(), session_id = id, payload = payload, timestamp_unix_ms = sys.now_ms() }))
    assert(ack.ok, ack.error and ack.error.message)
  end

  -- The state as it was folded live, and as the stored events fold to.
  local function states(id)
    local _, live = rig:get("/runs/" .. id .. "/state")
    local status, rebuilt = rig:post("/runs/" .. id .. "/projection/rebuild")
    assert.same({ 200, live.timeline.latestSeq }, { status, rebuilt.latestSeq })
    local _, folded = rig:get("/runs/" .. id .. "/state")
    return live, folded
  end

  it("P48: become U+FFFD in what a mode's scripts say, and nothing is lost", function()
    local id = crypto.uuid4()
    local ack = rig.runtime:send("boss", runtime.start_envelope(id, { participants = { "ann" } },
      { mode = "ext.cut.v1" }))
    assert(ack.ok, ack.error and ack.error.message)
    rig:await(id, "running")
    for _, words in ipairs(TEXTS) do
      -- By hand: a string field that holds what was asked for.
      say(id, "ext.cut.v1", "Say", "\10" .. string.char(#words) .. words)
    end
    rig.runtime:send("boss", runtime.envelope({ mode = "ext.cut.v1", message_type = "Commitment", session_id = id,
      message_id = crypto.uuid4(), payload = runtime.payload("macp.v1.CommitmentPayload", { commitment_id = "c",
        action = "cut.completed", authority_scope = "team", reason = "nul \0 in it", mode_version = "1.0.0",
        configuration_version = "config.default", outcome_positive = true }) }))
    rig:await(id, "completed", 10000)
    local actions, subjects = {}, {}
    for _, event in ipairs(rig:events(id)) do
      if event.type == "proposal.updated" then
        actions[#actions + 1], subjects[#subjects + 1] = event.data.action, event.subject.id
      end
    end
    assert.same({ SHOWN, SHOWN }, { actions, subjects })
    local live, folded = states(id)
    assert.same(folded, live)
    assert.equal("nul \239\191\189 in it", live.decision.current.reasons[1])
    assert.is_nil(json.encode(live):find("\\u0000", 1, true))
  end)

  it("P48: are the same in the state that was folded live and in the stored events", function()
    local id = crypto.uuid4()
    rig:open_session(id)
    rig:await(id, "running")
    rig:propose(id, "p\0x", "nul \0 in it")
    local ack = rig.runtime:send("ann", runtime.envelope({ mode = "", session_id = "", message_type = "Signal",
      message_id = crypto.uuid4(), payload = runtime.payload("macp.v1.SignalPayload", { signal_type = "no\0te",
        correlation_session_id = id, data = '{"severity":"h\\u0000"}' }) }))
    assert(ack.ok, ack.error and ack.error.message)
    eventually(function()
      local _, state = rig:get("/runs/" .. id .. "/state")
      return #state.signals.signals == 1
    end, 5000, "the signal")
    rig:commit(id)
    rig:await(id, "completed", 10000)
    local live, folded = states(id)
    assert.same(folded, live)
    local signal = live.signals.signals[1]
    assert.same({ "nul \239\191\189 in it", "no\239\191\189te", "h\239\191\189" },
      { live.decision.current.proposals[1].action, signal.name, signal.severity })
    assert.is_nil(json.encode(live):find("\\u0000", 1, true))
  end)
end)
