-- What a restart finds of the modes that were registered over the wire.

local fs = require("host.fs")
local json = require("host.json")

local client = require("spec.support.runtime_client")
local registered = require("spec.support.registered_modes")

local OPEN = 1
local descriptor, register, refusal = registered.descriptor, registered.register, registered.refusal
local ids, contains, supported = registered.ids, registered.contains, registered.supported
local start, send, commitment, state_of = registered.start, registered.send, registered.commitment, registered.state_of

describe("the mode registry after a restart", function()
  it("W9: has what was registered and promoted; sessions go on", function()
    local rig = assert(client.start())
    register(rig)
    register(rig, { mode = "ext.gone.v1" })
    register(rig, { mode = "ext.up.v1", title = "quote \" back\\slash \n caf\195\169" })
    local _, chat = start(rig, "ext.chat.v1", { participants = { "ann" } })
    local _, gone = start(rig, "ext.gone.v1")
    local _, up = start(rig, "ext.up.v1")
    send(rig, "ann", chat, "ext.chat.v1", "Ping", "\0\1")
    send(rig, "ann", gone, "ext.gone.v1", "Ping")
    rig:call("boss", "UnregisterExtMode", { mode = "ext.gone.v1" })
    rig:call("boss", "PromoteMode", { mode = "ext.up.v1", promoted_mode_name = "org.up.v1" })
    local before = { ids(rig, "ListModes"), ids(rig, "ListExtModes"), state_of(rig, chat), state_of(rig, gone) }
    local described = assert(rig:call(nil, "ListModes")).modes
    rig = rig:again()
    assert.same(before, { ids(rig, "ListModes"), ids(rig, "ListExtModes"), state_of(rig, chat), state_of(rig, gone) })
    assert.same(described, assert(rig:call(nil, "ListModes")).modes)
    assert.is_true(start(rig, "ext.chat.v1").ok)
    assert.equal("INVALID_ENVELOPE", start(rig, "org.up.v1").error.code)
    for mode, id in pairs({ ["ext.chat.v1"] = chat, ["ext.gone.v1"] = gone, ["ext.up.v1"] = up }) do
      assert.is_true(send(rig, "ann", id, mode, "Pong", "y").ok, mode)
      assert.is_true(send(rig, "host", id, mode, "Commitment", commitment()).ok, mode)
    end
    rig:destroy()
  end)

  it("W9: replays a session without registry and archive, from the descriptor in its log", function()
    local rig = assert(client.start())
    register(rig)
    local _, id = start(rig, "ext.chat.v1", { participants = { "ann" } })
    send(rig, "ann", id, "ext.chat.v1", "Ping", "x")
    rig:stop()
    assert(fs.remove(rig.dir .. "/modes.json"))
    assert(fs.remove_tree(rig.dir .. "/modes"))
    local again = assert(client.start({ dir = rig.dir }))
    assert.is_false(contains(supported(again), "ext.chat.v1"))
    assert.equal(OPEN, state_of(again, id).state)
    assert.equal("FORBIDDEN", send(again, "bob", id, "ext.chat.v1", "Ping").error.code)
    assert.is_true(send(again, "ann", id, "ext.chat.v1", "Ping").ok)
    assert.is_true(send(again, "host", id, "ext.chat.v1", "Commitment", commitment()).ok)
    again:destroy()
  end)

  it("keeps a registration in memory when nothing is to be kept", function()
    local rig = assert(client.start({ env = { MACP_MEMORY_ONLY = "1" } }))
    assert.is_true(assert(register(rig)).ok)
    assert.is_true(start(rig, "ext.chat.v1").ok)
    assert.is_nil(fs.stat(rig.dir .. "/modes.json"))
    rig = rig:again()
    assert.is_false(contains(supported(rig), "ext.chat.v1"))
    rig:destroy()
  end)

  it("refuses a change it cannot store, and makes it when it can", function()
    local rig = assert(client.start())
    register(rig, { mode = "ext.first.v1" })
    assert(fs.remove(rig.dir .. "/modes.json"))
    assert(fs.mkdir_p(rig.dir .. "/modes.json/in the way"))
    local texts = {
      refusal(rig),
      assert(rig:call("boss", "UnregisterExtMode", { mode = "ext.first.v1" })).error,
      assert(rig:call("boss", "PromoteMode", { mode = "ext.first.v1" })).error,
    }
    for _, text in ipairs(texts) do
      assert.truthy(text:find("the registry cannot be stored: rename into " .. rig.dir .. "/modes.json", 1, true), text)
    end
    assert.is_false(contains(supported(rig), "ext.chat.v1"))
    assert.is_true(contains(ids(rig, "ListExtModes"), "ext.first.v1"))
    assert.is_true(start(rig, "ext.first.v1").ok)
    assert(fs.remove_tree(rig.dir .. "/modes.json"))
    assert.is_true(assert(register(rig)).ok)
    rig = rig:again()
    assert.is_true(contains(supported(rig), "ext.chat.v1"))
    assert.is_true(contains(supported(rig), "ext.first.v1"))
    rig:destroy()
  end)

  it("does not start on a registry it cannot read, and names what is wrong", function()
    local dir = assert(fs.temp_dir("macp-modes-"))
    local function reason(text)
      assert(fs.write(dir .. "/modes.json", text))
      local rig, err = client.start({ dir = dir })
      if rig then rig:stop() end
      return err and err.message
    end
    local path = "load the registered modes: " .. dir .. "/modes.json: "
    assert.equal(path .. "'format' must be 1, not 2", reason('{"format":2,"modes":[]}'))
    assert.equal(path .. "'modes' must be an array", reason('{"format":1}'))
    assert.truthy(reason("[{"):find(path .. "not a JSON object", 1, true))
    assert.equal(path .. "modes[1]: must be an object", reason('{"format":1,"modes":[5]}'))
    assert.equal(path .. "modes[1]: needs 'id' and 'standard'", reason('{"format":1,"modes":[{}]}'))
    assert.equal(path .. "modes[1]: has 'source' or 'descriptor'", reason(
      '{"format":1,"modes":[{"id":"a","standard":true,"source":"b","descriptor":{}}]}'))
    assert.equal(path .. "modes[1]: descriptor: must be an object", reason(
      '{"format":1,"modes":[{"id":"a","standard":false}]}'))
    local one = json.encode({ id = "ext.chat.v1", standard = false, descriptor = descriptor() })
    assert.equal(path .. "modes[1]: the descriptor is for 'ext.chat.v1'",
      reason('{"format":1,"modes":[' .. one:gsub('"id":"ext.chat.v1"', '"id":"ext.b.v1"') .. "]}"))
    assert.equal(path .. "modes[2]: 'ext.chat.v1' is listed twice",
      reason('{"format":1,"modes":[' .. one .. "," .. one .. "]}"))
    assert.is_nil(reason('{"format":1,"modes":[' .. one .. "]}"))
    fs.remove_tree(dir)
  end)
end)
