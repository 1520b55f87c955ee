-- Sessions stay on the revision of their mode that they began with, over edits and restarts.

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")

local crypto = require("host.crypto")
local fs = require("host.fs")

local MODE = "ext.hello.v1"

-- Everybody may say one word; `word` is the only one that is accepted.
local function mode_source(word)
  return string.format([[
return {
  id = "ext.hello.v1", version = "1.0.0", title = "Hello", summary = "One word is right.",
  participants = { model = "peer", min = 1 },
  determinism = "semantic-deterministic",
  state = { words = {} },
  messages = {
    Say = {
      from = "participant",
      payload = "string word = 1 [required];",
      needs = { { "the word is right", function(s, p) return p.word == "%s" end } },
      apply = function(s, p, by) s.words[by] = p.word end,
    },
    Crash = {
      from = "participant",
      apply = function(s) s.words.half = "applied"; s.words = s.nothing.at.all end,
    },
  },
  outcomes = { { action = "hello.completed", positive = true } },
}
]], word)
end

describe("revisions of a mode", function()
  it("stay with their sessions over an edit and a restart", function()
    local modes = assert(fs.temp_dir("macp-modes-"))
    assert(fs.mkdir_p(modes .. "/hello"))
    assert(fs.write(modes .. "/hello/mode.lua", mode_source("old")))
    local rig = assert(client.start({ mode_dirs = { modes } }))
    local function start()
      local id = crypto.uuid4()
      local ack = rig:send("boss", client.start_envelope(id, nil, { mode = MODE }))
      assert.is_true(ack.ok, ack.error and ack.error.message)
      return id
    end
    local function says(id, sender, word)
      local payload = assert(rig.role.modes:get(MODE):codec("Say"):encode({ word = word }))
      return rig:send(sender, client.envelope({
        mode = MODE, session_id = id, message_type = "Say", message_id = sender .. word, payload = payload,
      })).ok
    end
    local before = start()
    local hash = rig.role.modes:get(MODE).hash
    local watch = rig:watch(nil, "WatchModeRegistry")
    watch:read()
    assert(fs.write(modes .. "/hello/mode.lua", mode_source("new")))
    assert.equal("modes", assert(watch:read()).change.registry)
    watch:cancel()
    eventually(function() return rig.role.modes:get(MODE).hash ~= hash end, 3000)
    local after = start()
    assert.same({ true, false }, { says(before, "ann", "old"), says(before, "bob", "new") })
    assert.same({ false, true }, { says(after, "ann", "old"), says(after, "bob", "new") })
    rig = rig:again()
    assert.same({ true, false }, { says(before, "bob", "old"), says(before, "ann", "new") })
    assert.is_true(says(after, "ann", "new"))
    rig:destroy()
    fs.remove_tree(modes)
  end)

  it("that fail in the middle of a message refuse it and keep the state of before", function()
    local modes = assert(fs.temp_dir("macp-modes-"))
    assert(fs.mkdir_p(modes .. "/hello"))
    assert(fs.write(modes .. "/hello/mode.lua", mode_source("old")))
    local rig, id = assert(client.start({ mode_dirs = { modes } })), crypto.uuid4()
    rig:send("boss", client.start_envelope(id, nil, { mode = MODE }))
    local rev = rig.role.modes:get(MODE)
    local function send(type_, message_id, payload)
      return rig:send("ann", client.envelope({
        mode = MODE, session_id = id, message_type = type_, message_id = message_id, payload = payload or "",
      }))
    end
    assert.is_true(send("Say", "m1", assert(rev:codec("Say"):encode({ word = "old" }))).ok)
    local before = rev:state_hash(id)
    for i = 1, 3 do
      local ack = send("Crash", "x" .. i)
      assert.equal("INTERNAL_ERROR", ack.error.code)
    end
    local stream = rig:stream("ann") -- no failure of the store: inline, and the stream goes on
    for i = 1, 2 do
      stream:write({ envelope = client.envelope({ mode = MODE, session_id = id, message_type = "Crash",
        message_id = "y" .. i }) })
      local failure = assert(stream:read()).error
      assert.same({ "INTERNAL_ERROR", "y" .. i }, { failure.code, failure.message_id })
      assert.matches("^ModeFailed: ", failure.message)
    end
    stream:cancel()
    assert.is_true(send("Say", "m1").duplicate)
    assert.equal(before, rev:state_hash(id))
    assert.equal(2, rig.role.sessions.by_id[id].ordinals)
    rig:destroy()
    fs.remove_tree(modes)
  end)

  it("keep serving when the edit is broken", function()
    local modes = assert(fs.temp_dir("macp-modes-"))
    assert(fs.mkdir_p(modes .. "/hello"))
    assert(fs.write(modes .. "/hello/mode.lua", mode_source("old")))
    local rig = assert(client.start({ mode_dirs = { modes } }))
    local hash = rig.role.modes:get(MODE).hash
    assert(fs.write(modes .. "/hello/mode.lua", "return { id = "))
    require("host.task").sleep(150)
    assert.equal(hash, rig.role.modes:get(MODE).hash)
    assert.is_true(rig:send("boss", client.start_envelope(crypto.uuid4(), nil, { mode = MODE })).ok)
    rig:destroy()
    fs.remove_tree(modes)
  end)
end)
