-- MACP_EXTENSIONS_FILE: who hears of starts and ends of sessions, in which order, and what a provider cannot do.

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")

local crypto = require("host.crypto")
local fs = require("host.fs")

-- The providers write into this list, which the spec reads.
local TOLD = "spec.integration.runtime.providers_spec.told"
local FILE = [=[
local task = require("host.task")
local told = require("]=] .. TOLD .. [=[")
local function note(...) told[#told + 1] = table.concat({ ... }, " ") end
local function sorted(extensions)
  local list = {}
  for key, value in pairs(extensions) do list[#list + 1] = key .. "=" .. value end
  table.sort(list)
  return table.concat(list, ",")
end
return {
  { key = "a", on_session_start = function(id, extensions)
      task.sleep(20)
      note("a1", id, sorted(extensions))
      extensions.b = "changed"
    end,
    on_session_terminal = function(id, outcome) note("a1", id, outcome) end },
  { key = "b", on_session_start = function() error("broken") end,
    on_session_terminal = function() error("broken") end },
  { key = "a", on_session_start = function(id, extensions) note("a2", id, sorted(extensions)) end },
  { key = "c", on_session_start = function(id) note("c", id) end,
    on_session_terminal = function(id, outcome) note("c", id, outcome) end },
}
]=]

describe("extension providers", function()
  local rig, dir, told

  before_each(function()
    told = {}
    package.loaded[TOLD] = told
    dir = assert(fs.temp_dir("macp-providers-"))
    assert(fs.write(dir .. "/extensions.lua", FILE))
    rig = assert(client.start({ env = { MACP_EXTENSIONS_FILE = dir .. "/extensions.lua" } }))
  end)
  after_each(function()
    rig:destroy()
    fs.remove_tree(dir)
    package.loaded[TOLD] = nil
  end)

  local function start(fields)
    local id = crypto.uuid4()
    assert.is_true(rig:send("boss", client.start_envelope(id, fields)).ok)
    return id
  end

  local function expect(list)
    eventually(function() return #told >= #list end, 5000, "#" .. #list .. " calls")
    assert.same(list, told)
  end

  it("hear of starts with their key, in their order, with all values; of ends all hear", function()
    local id = start({ extensions = { a = "1", b = "\0\255", z = "" } })
    assert.is_true(rig:call("boss", "CancelSession", { session_id = id }).ack.ok)
    local plain = start()
    start({ extensions = { z = "1" } })
    assert.is_true(rig:call("boss", "CancelSession", { session_id = plain }).ack.ok)
    local all = "a=1,b=\0\255,z="
    expect({ "a1 " .. id .. " " .. all, "a2 " .. id .. " " .. all, "a1 " .. id .. " cancelled",
      "c " .. id .. " cancelled", "a1 " .. plain .. " cancelled", "c " .. plain .. " cancelled" })
  end)

  it("hear how a session ended", function()
    local short = start({ ttl_ms = 1 })
    expect({ "a1 " .. short .. " expired", "c " .. short .. " expired" })
    local id = start()
    assert.is_true(rig:send("ann", client.envelope({ session_id = id, message_id = "p",
      payload = client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = "p", option = "A" }) })).ok)
    assert.is_true(rig:send("boss", client.envelope({ session_id = id, message_type = "Commitment", message_id = "c",
      payload = client.payload("macp.v1.CommitmentPayload", { commitment_id = "c", action = "go", reason = "r",
        authority_scope = "s", mode_version = "1.0.0", configuration_version = "config.default",
        outcome_positive = true }) })).ok)
    expect({ "a1 " .. short .. " expired", "c " .. short .. " expired", "a1 " .. id .. " resolved",
      "c " .. id .. " resolved" })
  end)

  it("hear nothing of a suspension, of a refused start, and nothing again after a restart", function()
    local id = start({ extensions = { c = "1" } })
    rig:call("boss", "SuspendSession", { session_id = id })
    rig:call("boss", "ResumeSession", { session_id = id })
    local refused = client.start_envelope(crypto.uuid4(), { ttl_ms = 0, extensions = { c = "1" } })
    assert.is_false(rig:send("boss", refused).ok)
    assert.is_true(rig:send("boss", client.start_envelope(id, { extensions = { c = "1" } })).duplicate)
    expect({ "c " .. id })
    rig = rig:again()
    assert.is_true(rig:call("boss", "CancelSession", { session_id = id }).ack.ok)
    expect({ "c " .. id, "a1 " .. id .. " cancelled", "c " .. id .. " cancelled" })
  end)
end)

describe("a file of extension providers that cannot work", function()
  local CASES = {
    { "is no list", "return {}", ": expected a list of providers" },
    { "holds something else", "return { 'x' }", ": [1]: expected a table, got string" },
    { "has a provider without a key", "return { { key = 'a' }, {} }",
      ": [2]: key: expected a string that is not empty" },
    { "has a misspelt member", "return { { key = 'a', on_sesion_start = print } }",
      ": [1]: unknown member on_sesion_start (did you mean `on_session_start`?)" },
    { "has a member that is no function", "return { { key = 'a', on_session_start = 1 } }",
      ": [1]: on_session_start: expected a function, got number" },
  }
  for _, case in ipairs(CASES) do
    it("refuses the start: " .. case[1], function()
      local dir = assert(fs.temp_dir("macp-providers-"))
      assert(fs.write(dir .. "/extensions.lua", case[2]))
      local rig, err = client.start({ env = { MACP_EXTENSIONS_FILE = dir .. "/extensions.lua" } })
      fs.remove_tree(dir)
      assert.is_nil(rig)
      assert.same({ "MACP_EXTENSIONS_FILE: " .. dir .. "/extensions.lua" .. case[3] }, err.message)
    end)
  end
end)
