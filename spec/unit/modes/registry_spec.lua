local fs = require("host.fs")
local log = require("host.log")
local sys = require("host.sys")
local task = require("host.task")

local archives = require("macp.modes.archive")
local registry = require("macp.modes.registry")
local eventually = require("spec.support.eventually")
local modes = require("spec.support.modes")

local FIXTURE = [[return { initiator = "ann", participants = { "ann", "bob" },
  { "ann", "Put", { key = "k", n = %d } },
  { "ann", "Put", { key = "k2", n = -1 }, reject = "INVALID_ENVELOPE" },
}]]

-- From the save to the first session under it; slower builds get more.
local RELOAD_LIMIT_MS = 2000 -- an idle machine takes less than 100, a crowded one several times that

local dir, reg, log_error

local function write(path, text)
  local full = dir .. "/" .. path
  assert(fs.mkdir_p(full:match("^(.*)/")))
  assert(fs.write(full, text))
end

local function write_mode(opts)
  opts = opts or {}
  local source = modes.source({ rest = "result = function() return { mark = '" .. (opts.mark or "one") .. "' } end," })
  if opts.version then source = source:gsub('version = "1.0.0"', 'version = "' .. opts.version .. '"') end
  write("spec/mode.lua", source)
end

local function open(opts)
  opts = opts or {}
  opts.dirs, opts.embedded = { dir }, false
  reg = registry.new(opts)
  assert(reg:load_all())
  return reg
end

-- The mark in the result of a session that resolves on this revision.
local function mark_of(rev, key)
  key = key or "probe"
  assert(rev:start(key, modes.start()))
  local verdict, _, _, result = rev:submit(key, "Commitment", "ann", modes.commitment(rev), 1)
  assert.equal("resolved", verdict)
  rev:drop(key)
  return result:match('"mark":"(%w+)"')
end

local function current()
  return reg:get("ext.spec.v1")
end

describe("the mode registry", function()
  before_each(function()
    log_error, log.error = log.error, function() end
    dir = assert(fs.temp_dir("macp-modes"))
    write_mode()
    write("spec/fixtures/one.lua", FIXTURE:format(1))
  end)

  after_each(function()
    if reg then reg:close() end
    reg = nil
    log.error = log_error
    fs.remove_tree(dir)
  end)

  it("loads folders and lists their descriptors", function()
    open()
    assert.equal("ext.spec.v1", current().id)
    assert.equal("1.0.0", current().version)
    assert.equal(1, #reg:list())
    assert.same({ "SessionStart", "Put", "Commitment" }, reg:list()[1].message_types)
    assert.is_nil(reg:get("ext.spec.v1", "9.9.9"))
    assert.is_nil(reg:get("ext.none.v1"))
  end)

  it("starts with a broken folder and serves it once it is mended, but not without its directory", function()
    write("spec/mode.lua", "return {")
    open()
    assert.is_nil(current())
    assert.equal("load", reg:status().modes[1].candidate.errors[1].rule)
    assert.is_false(reg:status().modes[1].serving)
    write_mode()
    reg:scan(dir)
    assert.equal("one", mark_of(current()))
    local other = registry.new({ dirs = { dir .. "/none" }, embedded = false })
    local ok, err = other:load_all()
    assert.is_nil(ok)
    assert.equal("directory of modes: list " .. dir .. "/none: No such file or directory", err.message)
  end)

  it("names a revision by its rules only, wherever they are", function()
    open()
    local hash, presentation = current().hash, current().presentation
    assert.truthy(hash:find("^sha256:%x+$"))
    write("spec/fixtures/two.lua", FIXTURE:format(2))
    reg:scan(dir)
    assert.equal(hash, current().hash)
    write("spec/reducer.lua", "return { summary = function() return 'x' end }")
    reg:scan(dir)
    assert.equal(hash, current().hash)
    assert.not_equal(presentation, current().presentation)
    write("spec/lib/a.lua", "return 1")
    reg:scan(dir)
    assert.not_equal(hash, current().hash)
  end)

  it("serves a changed folder to new sessions and keeps old ones where they are", function()
    open()
    local old = current()
    reg:pin(old)
    assert(old:start("s", modes.start()))
    write_mode({ mark = "two" })
    reg:scan(dir)
    assert.not_equal(old, current())
    assert.equal("two", mark_of(current()))
    assert.equal("accepted", (old:submit("s", "Put", "ann", modes.encode(old, "Put", { key = "k" }), 1)))
    assert.equal("one", mark_of(old))
    assert.equal(old, reg:pinned(old.hash))
  end)

  for name, case in pairs({
    ["does not compile"] = { "spec/mode.lua", "return {", "load" },
    ["breaks the contract"] = { "spec/mode.lua", "return { id = 'ext.spec.v1' }", "required" },
    ["fails a fixture"] = { "spec/fixtures/one.lua", FIXTURE:format(-5), "fixture", touch = true },
    ["never ends"] = { "spec/mode.lua", "while true do end", "limit" },
  }) do
    it("keeps the last good revision when a script " .. name, function()
      open()
      local good = current()
      if case.touch then write_mode({ mark = "two" }) end
      write(case[1], case[2])
      reg:scan(dir)
      assert.equal(good, current())
      local status = reg:status().modes[1]
      assert.equal(good.hash, status.revision)
      local first = status.candidate.errors[1]
      assert.equal(case[3], first.rule)
      assert.is_number(first.line)
      assert.equal(dir .. "/" .. case[1], first.path)
      write_mode({ mark = "three" })
      write("spec/fixtures/one.lua", FIXTURE:format(1))
      reg:scan(dir)
      assert.equal("three", mark_of(current()))
      assert.is_nil(reg:status().modes[1].candidate)
    end)
  end

  it("releases an old revision when its last session ends", function()
    open({ release_after_ms = 0 })
    local old = current()
    reg:pin(old)
    write_mode({ mark = "two" })
    reg:scan(dir)
    assert.equal(1, #reg:status().retired)
    reg:unpin(old)
    assert.same({}, reg:status().retired)
    assert.is_nil(old.iso)
  end)

  it("brings an archived revision back, by its hash", function()
    local archive = archives.files(dir .. "/../" .. dir:match("[^/]+$") .. "-archive")
    open({ archive = archive, release_after_ms = 0 })
    local hash = current().hash
    write_mode({ mark = "two" })
    reg:scan(dir)
    reg:close()
    open({ archive = archive })
    assert.not_equal(hash, current().hash)
    local old = assert(reg:pinned(hash))
    assert.equal(hash, old.hash)
    assert.equal("one", mark_of(old))
    assert.equal(old, reg:pinned(hash))
    local rev, err = reg:pinned("sha256:" .. ("0"):rep(64))
    assert.is_nil(rev)
    assert.truthy(err.message:find("the archive has no revision", 1, true))
    fs.remove_tree(archive.dir)
  end)

  it("refuses an archive whose files do not have the hash", function()
    local archive = archives.memory()
    open({ archive = archive })
    archive.kept["sha256:" .. ("1"):rep(64)] = { ["mode.lua"] = modes.source() }
    local rev, err = reg:pinned("sha256:" .. ("1"):rep(64))
    assert.is_nil(rev)
    assert.equal("CORRUPT", err.code)
  end)

  it("rolls back to an archived revision, proven again", function()
    open()
    local first = current().hash
    write_mode({ mark = "two" })
    reg:scan(dir)
    local rev = assert(reg:rollback("ext.spec.v1", first))
    assert.equal(first, rev.hash)
    assert.equal(rev, current())
    assert.equal("one", mark_of(current()))
    reg:scan(dir)
    assert.equal(first, current().hash)
    write_mode({ mark = "three" })
    reg:scan(dir)
    assert.equal("three", mark_of(current()))
    local none, err = reg:rollback("ext.spec.v1", "sha256:" .. ("2"):rep(64))
    assert.is_nil(none)
    assert.equal("NOT_FOUND", err.code)
  end)

  it("selects by version and answers with the latest", function()
    write("other/mode.lua", (modes.source():gsub('version = "1.0.0"', 'version = "1.10.0"')))
    open()
    assert.equal("1.10.0", current().version)
    assert.equal("1.0.0", reg:get("ext.spec.v1", "1.0.0").version)
  end)

  it("replaces presentation files of running and of pinned revisions", function()
    open()
    local old = current()
    reg:pin(old)
    assert(old:start("s", modes.start()))
    write_mode({ mark = "two" })
    reg:scan(dir)
    local new = current()
    assert(new:start("t", modes.start()))
    write("spec/reducer.lua", "return { summary = function(s, c) return 'by ' .. c.initiator end }")
    local told
    reg:on_change(function(rev) told = rev end)
    reg:scan(dir)
    assert.equal(new, current())
    assert.equal(new, told)
    assert.equal("by ann", new:summary("t"))
    assert.equal("by ann", old:summary("s"))
    write("spec/reducer.lua", "return { sumary = 1 }")
    reg:scan(dir)
    assert.equal("by ann", new:summary("t"))
    assert.equal("unknown-field", reg:status().modes[1].candidate.errors[1].rule)
  end)

  it("shares the proof of a folder with other registries of the process", function()
    open()
    local other = registry.new({ dirs = { dir }, embedded = false })
    assert(other:load_all())
    local prove = require("macp.modes.prove")
    local run, runs = prove.run, 0
    prove.run = function(...)
      runs = runs + 1
      task.sleep(20) -- the other one waits for it, and does not take it for granted
      return run(...)
    end
    write_mode({ mark = "shared" })
    task.group(function(g)
      g:spawn(function() reg:scan(dir) end)
      g:spawn(function() other:scan(dir) end)
    end)
    assert.equal(1, runs)
    assert.equal("shared", mark_of(current()))
    assert.equal("shared", mark_of(other:get("ext.spec.v1")))
    write("spec/fixtures/one.lua", FIXTURE:format(-7))
    write_mode({ mark = "broken" })
    task.group(function(g)
      g:spawn(function() reg:scan(dir) end)
      g:spawn(function() other:scan(dir) end)
    end)
    prove.run = run
    assert.equal("shared", mark_of(current()))
    assert.equal("shared", mark_of(other:get("ext.spec.v1")))
    assert.equal("fixture", other:status().modes[1].candidate.errors[1].rule)
    other:close()
  end)

  it("reads its directories again when asked to", function()
    open()
    write_mode({ mark = "two" })
    reg:rescan()
    assert.equal("two", mark_of(current()))
  end)

  it("withdraws a folder that is gone", function()
    open()
    local told = {}
    reg:on_change(function(rev, how) told[#told + 1] = how .. " " .. rev.id end)
    fs.remove_tree(dir .. "/spec")
    reg:scan(dir)
    assert.is_nil(current())
    assert.same({}, reg:list())
    assert.same({ "withdrawn ext.spec.v1" }, told)
  end)

  it("checks policies of one mode and of all", function()
    write("spec/mode.lua",
      modes.source({ rest = "policy = { rules = { ['spec.limit'] = { type = 'integer', min = 0 } } }," }))
    write("other/mode.lua", (modes.source({ rest = "policy = { rules = { ['other.x'] = { type = 'boolean' } } }," })
      :gsub("ext.spec.v1", "ext.other.v1")))
    open()
    assert.is_true((reg:check_policy("ext.spec.v1", { spec = { limit = 3 } }, 3)))
    local ok, reasons = reg:check_policy("ext.spec.v1", { spec = { limt = 3 } }, 3)
    assert.is_nil(ok)
    assert.same({ 'rules.spec.limt: unknown rule (did you mean "limit"?)' }, reasons)
    assert.is_nil((reg:check_policy("ext.spec.v1", { other = { x = true } }, 3)))
    assert.is_true((reg:check_policy("*", { other = { x = true }, spec = { limit = 1 } }, 3)))
    ok, reasons = reg:check_policy("*", { nobody = {} }, 3)
    assert.is_nil(ok)
    assert.same({ "rules.nobody: unknown rule" }, reasons)
    ok, reasons = reg:check_policy("*", { other = { x = 1 }, spec = { limit = -1 } }, 3)
    assert.is_nil(ok)
    assert.same({ "rules.other.x: expected true or false, got 1 (ext.other.v1)",
      "rules.spec.limit: expected a whole number of at least 0, got -1 (ext.spec.v1)" }, reasons)
    local _, warnings = reg:check_policy("ext.none.v1", { any = 1 }, 3)
    assert.is_nil((reg:check_policy("ext.none.v1", { commitment = { authority = "nobody" } }, 3)))
    assert.same({ 'mode: "ext.none.v1" is not registered; its rules are checked when it is' }, warnings)
  end)

  it("knows when two policies mean the same", function()
    write("spec/mode.lua", modes.source({ rest = "policy = { rules = { "
      .. "['spec.limit'] = { type = 'integer', default = 5 }, "
      .. "['spec.kind'] = { type = 'string', one_of = { 'new' }, alias = { old = 'new' } } } }," }))
    open()
    local function meaning(rules, mode) return reg:policy_meaning(mode or "ext.spec.v1", rules) end
    assert.equal("{}", meaning({ spec = { limit = 5, _why = "x" }, ["$schema"] = "y",
      commitment = { authority = "initiator_only", designated_roles = {} } }))
    assert.equal(meaning({ spec = { kind = "new" } }), meaning({ spec = { kind = "old" } }))
    assert.not_equal(meaning({ spec = { limit = 4 } }), meaning({}))
    assert.equal("{}", meaning({ spec = { limit = 5 } }, "*"))
    assert.equal('{"spec":{"limit":5}}', meaning({ spec = { limit = 5 } }, "ext.none.v1"))
  end)

  it("serves a save at once while messages flow", function()
    open()
    reg:watch()
    task.sleep(50)
    local busy, sent, failed = true, 0, 0
    local load_task = task.spawn(function()
      local rev = current()
      local bytes = modes.encode(rev, "Put", { key = "k" })
      while busy do
        for i = 1, 20 do
          local now = current()
          local key = "load" .. i
          local ok = now:start(key, modes.start()) and now:submit(key, "Put", "ann", bytes, 1)
          if ok ~= "accepted" then failed = failed + 1 end
          now:drop(key)
          sent = sent + 1
        end
        task.sleep(0)
      end
    end)
    local took = {}
    for round = 1, 5 do
      local before = current()
      write_mode({ mark = "round" .. round })
      local saved = sys.mono_ms()
      eventually(function() return current() ~= before end, 2000)
      took[round] = sys.mono_ms() - saved
      assert.equal("round" .. round, mark_of(current()))
    end
    busy = false
    load_task:join()
    assert.equal(0, failed)
    assert.is_true(sent > 0)
    table.sort(took)
    assert.is_true(took[1] < RELOAD_LIMIT_MS, "took " .. table.concat(took, ", ") .. " ms")
  end)
end)
