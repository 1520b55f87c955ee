local fs = require("host.fs")
local json = require("host.json")
local log = require("host.log")
local task = require("host.task")

local archives = require("macp.modes.archive")
local modes = require("spec.support.modes")
local registered_file = require("macp.modes.registered_file")
local registry = require("macp.modes.registry")
local source = require("macp.modes.source")

local FOLDER = [[return {
  id = "ext.chat.v1", version = "2.0.0", title = "Chat", summary = "By hand.", determinism = "semantic-deterministic",
  messages = { Say = { from = "participant" } }, outcomes = { { action = "said" } },
}]]

local dir, reg, archive

local function descriptor(changes)
  local out = { mode = "ext.chat.v1", mode_version = "1", message_types = { "Ping", "Commitment" },
    terminal_message_types = { "Commitment" } }
  for key, value in pairs(changes or {}) do out[key] = value end
  return out
end

local function write(path, text)
  local full = dir .. "/" .. path
  assert(fs.mkdir_p(full:match("^(.*)/")))
  assert(fs.write(full, text))
end

-- The template of the tree, in a directory of this test.
local function write_template(change)
  for name, text in pairs(assert(source.read("modes/passthrough"))) do
    if name == "mode.lua" and change then
      local changed, count = text:gsub(change[1], change[2])
      assert.equal(1, count)
      text = changed
    end
    write("modes/passthrough/" .. name, text)
  end
end

local function open(opts)
  opts = opts or {}
  opts.dirs, opts.embedded, opts.archive, opts.depth = { dir .. "/modes" }, false, archive, "validate"
  reg = registry.new(opts)
  assert(reg:load_all())
  assert(reg.registered:open(registered_file.file(dir .. "/modes.json")))
  return reg
end

local function ids()
  local out = {}
  for i, entry in ipairs(reg:entries()) do out[i] = entry.id end
  return out
end

local function stored()
  local out = {}
  for i, item in ipairs(assert(json.decode(assert(fs.read(dir .. "/modes.json")))).modes) do out[i] = item.id end
  return out
end

-- Runs fn with the errors of the log collected.
local function collecting(fn)
  local lines, original = {}, log.error
  log.error = function(event, fields) lines[#lines + 1] = { event, fields.message } end
  fn()
  log.error = original
  return lines
end

local function ping(rev, key)
  local verdict, rejection = rev:submit(key, "Ping", "ann", "x", 1)
  return verdict or rejection.message
end

local function started(rev, key)
  assert(rev:start(key, modes.start({ mode_version = "1", participants = {} })))
  return rev
end

describe("registered modes", function()
  before_each(function()
    dir = assert(fs.temp_dir("macp-registered-"))
    archive = archives.memory()
    write_template()
  end)

  after_each(function()
    if reg then reg:close() end
    reg = nil
    fs.remove_tree(dir)
  end)

  it("are not the template itself", function()
    open()
    assert.same({}, ids())
    assert.is_nil(reg:get("ext.sample.v1"))
    local folder = reg:status().modes[1]
    assert.same({ "passthrough", true, true }, { folder.folder, folder.template, folder.serving })
    assert.same({}, reg:status().registered)
  end)

  it("are revisions of their own: equal descriptors are equal, others are not", function()
    open()
    assert(reg.registered:register(descriptor()))
    local first = reg:get("ext.chat.v1")
    assert.same({ "ext.chat.v1", "1" }, { first.id, first.version })
    assert.equal("accepted", ping(started(first, "s"), "s"))
    assert(reg.registered:unregister("ext.chat.v1"))
    assert(reg.registered:register(descriptor({ title = "other" })))
    assert.is_true(reg:get("ext.chat.v1").hash ~= first.hash)
    assert(reg.registered:unregister("ext.chat.v1"))
    assert(reg.registered:register(descriptor()))
    assert.equal(first, reg:get("ext.chat.v1"))
    assert.is_nil(reg:get("ext.chat.v1", "2"))
  end)

  it("are freed when nobody uses them, and not before", function()
    open({ release_after_ms = 0 })
    assert(reg.registered:register(descriptor()))
    local rev = started(reg:get("ext.chat.v1"), "s")
    reg:pin(rev)
    assert(reg.registered:unregister("ext.chat.v1"))
    assert.is_nil(reg:get("ext.chat.v1"))
    assert.equal("accepted", ping(rev, "s"))
    reg:unpin(rev)
    assert.is_nil(rev.iso)
    assert.is_truthy(reg:pinned(rev.hash)) -- from the archive
  end)

  it("leave nothing in an archive that lives in memory", function()
    archive = require("macp.runtime.memory_archive").new()
    open({ release_after_ms = 0 })
    local function archived()
      local n = 0
      for _ in pairs(archive.revisions) do n = n + 1 end
      return n
    end
    local before = archived()
    for i = 1, 3 do
      assert(reg.registered:register(descriptor({ title = "t" .. i })))
      assert.equal(before + 1, archived())
      local rev = reg:get("ext.chat.v1")
      reg:pin(rev)
      assert(reg.registered:unregister("ext.chat.v1"))
      assert.equal(before + 1, archived())
      reg:unpin(rev)
      assert.equal(before, archived())
    end
  end)

  it("change nothing when the change cannot be stored", function()
    open()
    assert(reg.registered:register(descriptor()))
    assert(reg.registered:register(descriptor({ mode = "ext.b.v1" })))
    local changes = 0
    reg:on_change(function() changes = changes + 1 end)
    reg.registered.store = registered_file.file(dir .. "/gone/modes.json")
    local before = { ids(), reg:get("ext.chat.v1").hash, reg:get("ext.b.v1").hash }
    for _, outcome in ipairs({
      { reg.registered:register(descriptor({ mode = "ext.c.v1" })) },
      { reg.registered:unregister("ext.chat.v1") },
      { reg.registered:promote("ext.b.v1", "org.b.v1") },
      { reg.registered:promote("ext.b.v1", "") },
    }) do
      assert.is_nil(outcome[1])
      assert.truthy(outcome[2]:find("the registry cannot be stored: ", 1, true))
    end
    assert.same(before, { ids(), reg:get("ext.chat.v1").hash, reg:get("ext.b.v1").hash })
    assert.is_false(reg.registered:is_standard("ext.b.v1"))
    assert.equal(0, changes)
    assert.equal("accepted", ping(started(reg:get("ext.b.v1"), "s"), "s"))
  end)

  it("need an archive that keeps their handler", function()
    write("plain", "a file")
    archive = require("macp.runtime.archive").new(dir .. "/archive")
    open()
    archive.dir = dir .. "/plain"
    local ok, reason = reg.registered:register(descriptor())
    assert.is_nil(ok)
    assert.truthy(reason:find("mode 'ext.chat.v1' cannot be handled: the revision cannot be archived: ", 1, true))
    assert.same({}, ids())
    archive.dir = dir .. "/archive"
    assert.is_true(reg.registered:register(descriptor()))
  end)

  it("promoted while a folder stands in front are that folder's", function()
    open()
    assert(reg.registered:register(descriptor()))
    write("modes/chat/mode.lua", FOLDER)
    collecting(function() reg:rescan() end)
    assert.same({ true, "org.chat.v1" }, { reg.registered:promote("ext.chat.v1", "org.chat.v1") })
    assert.same({ "org.chat.v1" }, ids())
    assert.equal("2.0.0", reg:get("org.chat.v1").version)
    assert.is_nil(reg:get("ext.chat.v1"))
  end)

  it("change one after another, and all of them are stored", function()
    open()
    local outcomes, group = {}, {}
    for i = 1, 8 do
      group[i] = task.spawn(function()
        outcomes[i] = reg.registered:register(descriptor({ mode = "ext.m" .. math.ceil(i / 2) .. ".v1" })) or false
      end)
    end
    for _, running in ipairs(group) do running:join() end
    local accepted = 0
    for i = 1, 8 do accepted = accepted + (outcomes[i] and 1 or 0) end
    assert.equal(4, accepted)
    assert.same({ "ext.m1.v1", "ext.m2.v1", "ext.m3.v1", "ext.m4.v1" }, stored())
    assert.same(stored(), ids())
  end)

  it("finish a change whose caller has gone", function()
    open()
    local told = {}
    reg:on_change(function(rev, how) told[#told + 1] = how .. " " .. rev.id end)
    local caller = task.spawn(function() reg.registered:register(descriptor()) end)
    task.sleep(0)
    caller:cancel()
    caller:join()
    require("spec.support.eventually")(function() return told[1] ~= nil end, 2000)
    assert.same({ "registered ext.chat.v1" }, told)
    assert.same({ "ext.chat.v1" }, stored())
    assert.is_truthy(reg:get("ext.chat.v1"))
  end)

  it("take no change while the registry closes", function()
    open()
    reg.registered:close()
    local ok, reason = reg.registered:register(descriptor())
    assert.same({ nil, "the runtime is shutting down" }, { ok, reason })
  end)

  it("have an end to their number", function()
    open()
    local records = reg.registered.records
    for i = 1, 256 do records["ext.m" .. i .. ".v1"] = { id = "ext.m" .. i .. ".v1", source = "x", standard = true } end
    local ok, reason = reg.registered:register(descriptor())
    assert.same({ nil, "256 modes are registered, which is as many as can be" }, { ok, reason })
  end)

  it("need the template", function()
    fs.remove_tree(dir .. "/modes/passthrough")
    open()
    local ok, reason = reg.registered:register(descriptor())
    assert.is_nil(ok)
    assert.equal("mode 'ext.chat.v1' cannot be handled: the template modes/passthrough is not loaded", reason)
  end)

  it("have one template: others are told", function()
    open()
    local lines, original = {}, log.warn
    log.warn = function(event, fields) lines[#lines + 1] = { event, fields.folder } end
    for name, text in pairs(assert(source.read("modes/passthrough"))) do
      write("modes/echo/" .. name, (text:gsub("local PROTOCOL", "-- another\nlocal PROTOCOL")))
    end
    reg:rescan()
    log.warn = original
    assert.same({ { "mode.template_unused", dir .. "/modes/echo" } }, lines)
    assert.same({}, ids())
  end)

  it("get the new template for new sessions", function()
    open()
    assert(reg.registered:register(descriptor()))
    local old = started(reg:get("ext.chat.v1"), "s")
    reg:pin(old)
    write_template({ "local may_send = {\n  \"the sender is a participant\",\n  function%b() return [^\n]*,[^\n]*\n",
      "local may_send = {\n  \"nobody may send\",\n  function() return false end,\n" })
    reg:rescan()
    local new = reg:get("ext.chat.v1")
    assert.is_true(new ~= old)
    assert.equal("nobody may send", ping(started(new, "s"), "s"))
    assert.equal("accepted", ping(old, "s"))
    reg:unpin(old)
  end)

  it("keep the handler they have when the new template does not load", function()
    open()
    assert(reg.registered:register(descriptor()))
    local old = reg:get("ext.chat.v1")
    local lines = collecting(function()
      write("modes/passthrough/mode.lua", "return { template = 5 }")
      reg:rescan()
    end)
    assert.equal("mode.rejected", lines[1][1])
    assert.equal(old, reg:get("ext.chat.v1"))
  end)

  it("are covered by a folder of the same id, which is told, and come back without it", function()
    open()
    assert(reg.registered:register(descriptor()))
    local lines = collecting(function()
      write("modes/chat/mode.lua", FOLDER)
      reg:rescan()
      reg:rescan()
    end)
    assert.same({ { "mode.conflict", "mode 'ext.chat.v1' is provided by the folder " .. dir
      .. "/modes/chat/ and also registered in " .. dir .. "/modes.json; the folder serves. Unregister the mode or "
      .. "remove the folder" } }, lines)
    assert.equal("2.0.0", reg:get("ext.chat.v1").version)
    assert.same({ "ext.chat.v1" }, ids())
    assert.is_true(reg:is_strict("ext.chat.v1"))
    assert.is_true(reg:status().registered[1].covered)
    fs.remove_tree(dir .. "/modes/chat")
    reg:rescan()
    assert.equal("1", reg:get("ext.chat.v1").version)
    assert.is_false(reg:is_strict("ext.chat.v1"))
  end)

  it("that a folder covers are told at start, and can be unregistered", function()
    open()
    assert(reg.registered:register(descriptor()))
    reg:close()
    write("modes/chat/mode.lua", FOLDER)
    local lines = collecting(open)
    assert.equal("mode.conflict", lines[1][1])
    assert.equal("2.0.0", reg:get("ext.chat.v1").version)
    assert.is_true(reg.registered:unregister("ext.chat.v1"))
    assert.same({}, stored())
    assert.equal("2.0.0", reg:get("ext.chat.v1").version)
    local _, reason = reg.registered:unregister("ext.chat.v1")
    assert.equal("mode 'ext.chat.v1' is built in: a folder of the program provides it", reason)
  end)

  it("that were promoted from a folder which is gone are told", function()
    write("modes/chat/mode.lua", FOLDER)
    open()
    assert(reg.registered:promote("ext.chat.v1", "org.chat.v1"))
    assert.same({ "org.chat.v1" }, ids())
    assert.equal("org.chat.v1", reg:entries()[1].descriptor.mode)
    reg:close()
    fs.remove_tree(dir .. "/modes/chat")
    local lines = collecting(open)
    assert.same({ { "mode.missing", "mode 'org.chat.v1' is promoted from 'ext.chat.v1' in " .. dir
      .. "/modes.json, but no folder provides 'ext.chat.v1'" } }, lines)
    assert.same({}, ids())
  end)

  it("may have names and texts of any kind", function()
    open()
    local odd = descriptor({ mode = "x", title = "a\"b\\c\nd\0e\127\u{e9}]]", message_types = { "not a word!", "end",
      "SessionCancel", "Signal", "Commitment" }, schema_uris = { ["a b"] = "\"" } })
    assert(reg.registered:register(odd))
    local rev = started(reg:get("x"), "s")
    for _, name in ipairs({ "not a word!", "end" }) do
      assert.equal("accepted", (rev:submit("s", name, "ann", "", 1)))
    end
    for _, name in ipairs({ "SessionCancel", "Signal" }) do
      assert.equal("INVALID_ENVELOPE", select(2, rev:submit("s", name, "ann", "", 1)).code)
    end
    assert.equal(odd.title, reg:entries()[1].descriptor.title)
    reg:close()
    open()
    assert.equal(rev.hash, reg:get("x").hash)
  end)

  it("can be a mode that only ends", function()
    open()
    assert(reg.registered:register(descriptor({ message_types = { "Commitment" } })))
    assert.equal("INVALID_ENVELOPE",
      select(2, started(reg:get("ext.chat.v1"), "s"):submit("s", "Ping", "ann", "", 1)).code)
  end)
end)
