-- The site's own files (MACP_INGRESS_FILE, MACP_EXTENSIONS_FILE) of a running program are exchanged.

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local program = require("spec.support.program")

local crypto = require("host.crypto")
local fs = require("host.fs")

-- Refuses every start with its number, and counts the questions in a variable of the file.
local GATE = [=[local asked = 0
return { start = function()
  asked = asked + 1
  return false, "gate %d, question " .. asked
end }]=]

describe("the site's gate in a running program", function()
  local dir, proc, calls

  before_each(function()
    dir = assert(fs.temp_dir("macp-site-"))
    assert(fs.write(dir .. "/gate.lua", GATE:format(1)))
    proc = program.start({ args = { "runtime" }, env = {
      MACP_ENV = "development", MACP_LOG_FORMAT = "json", MACP_ALLOW_INSECURE = "1", MACP_BIND_ADDR = "127.0.0.1:0",
      MACP_MEMORY_ONLY = "1", MACP_INGRESS_FILE = dir .. "/gate.lua",
    } })
    calls = client.connect("127.0.0.1:" .. proc:wait_line("ready.*runtime 127%.0%.0%.1:(%d+)"))
  end)
  after_each(function()
    calls.channel:close()
    proc:kill("TERM")
    assert.equal(0, proc:wait(15000).code)
    fs.remove_tree(dir)
  end)

  local function refusal() return calls:send("boss", client.start_envelope(crypto.uuid4())).error.message end

  it("is the one of the file as it is now", function()
    assert.matches("gate 1, question 1$", refusal())
    assert(fs.write(dir .. "/gate.lua", GATE:format(2)))
    proc:wait_line('("event":"site_file.reloaded")') -- nobody has asked for it
    assert.matches("gate 2, question 1$", refusal())
  end)

  it("stays when the new one is bad or gone, and tells why", function()
    assert(fs.write(dir .. "/gate.lua", "return { strat = print }"))
    proc:kill("HUP")
    local variable, path, message = proc:wait_line(
      '"event":"site_file.reload_failed","file":"([^"]*)","message":"([^"]*)","variable":"([^"]*)"')
    assert.same({ dir .. "/gate.lua", "unknown member strat (did you mean `start`?)", "MACP_INGRESS_FILE" },
      { variable, path, message })
    assert.matches("gate 1, question 1$", refusal())
    assert(fs.remove(dir .. "/gate.lua"))
    proc:kill("HUP")
    proc:wait_line('"event":"site_file.reload_failed".*(No such file or directory)')
    assert.matches("gate 1, question 2$", refusal())
    assert(fs.write(dir .. "/gate.lua", GATE:format(3)))
    proc:kill("HUP")
    proc:wait_line('("event":"site_file.reloaded")')
    assert.matches("gate 3, question 1$", refusal())
  end)

  it("keeps what it has counted when the file says the same again", function()
    assert.matches("gate 1, question 1$", refusal())
    assert(fs.write(dir .. "/gate.lua", GATE:format(1)))
    proc:kill("HUP")
    proc:wait_line('("event":"roles.reloaded")')
    assert.matches("gate 1, question 2$", refusal())
  end)
end)

describe("the site's extension providers", function()
  local TOLD = "spec.integration.runtime.site_reload_spec.told"
  local dir, rig, told

  local function provider(name, key)
    return string.format([[local told = require(%q)
      return { { key = %q, on_session_start = function(id) told[#told + 1] = %q .. id end } }]], TOLD, key, name)
  end

  before_each(function()
    told = {}
    package.loaded[TOLD] = told
    dir = assert(fs.temp_dir("macp-site-"))
    assert(fs.write(dir .. "/told.lua", provider("one ", "a")))
    rig = assert(client.start({ env = { MACP_EXTENSIONS_FILE = dir .. "/told.lua" } }))
  end)
  after_each(function()
    rig:destroy()
    fs.remove_tree(dir)
    package.loaded[TOLD] = nil
  end)

  local function start(key)
    local id = crypto.uuid4()
    assert.is_true(rig:send("boss", client.start_envelope(id, { extensions = { [key] = "1" } })).ok)
    return id
  end

  it("are those of the file as it is now, with the keys that it has now", function()
    local first = start("a")
    eventually(function() return #told == 1 end, 5000, "the first provider")
    assert(fs.write(dir .. "/told.lua", "return {}"))
    rig.role:reload()
    local second = start("a")
    eventually(function() return #told == 2 end, 5000, "the first provider again")
    assert(fs.write(dir .. "/told.lua", provider("two ", "b")))
    rig.role:reload()
    start("a")
    local third = start("b")
    eventually(function() return #told == 3 end, 5000, "the second provider")
    assert.same({ "one " .. first, "one " .. second, "two " .. third }, told)
  end)
end)
