-- Folders with the same id and version: in one directory a mistake, in several of them a way to replace one.

local fs = require("host.fs")
local log = require("host.log")

local registry = require("macp.modes.registry")
local modes = require("spec.support.modes")

describe("two folders with the same id and version", function()
  local dir, reg, log_error

  before_each(function()
    log_error, log.error = log.error, function() end
    dir = assert(fs.temp_dir("macp-modes-"))
  end)
  after_each(function()
    reg:close()
    log.error = log_error
    fs.remove_tree(dir)
  end)

  local function write(path, title)
    assert(fs.mkdir_p(dir .. "/" .. path))
    local source = modes.source():gsub('title = "Spec"', 'title = "' .. title .. '"')
    assert(fs.write(dir .. "/" .. path .. "/mode.lua", source))
  end

  local function open(...)
    local dirs = {}
    for i, name in ipairs({ ... }) do dirs[i] = dir .. "/" .. name end
    reg = registry.new({ dirs = dirs, embedded = false })
    assert(reg:load_all())
  end

  local function title() return reg:get("ext.spec.v1") and reg:get("ext.spec.v1").descriptor.title end

  it("are refused in one directory: the first serves, the second is told where it is", function()
    write("all/a", "A")
    write("all/b", "B")
    open("all")
    assert.equal("A", title())
    local status = reg:status().modes
    assert.is_nil(status[1].candidate)
    assert.same({ { path = dir .. "/all/b/mode.lua", line = 1, key = "id", rule = "identity.duplicate",
      severity = "error", text = "ext.spec.v1 1.0.0 is also in " .. dir .. "/all/a" } }, status[2].candidate.errors)
    fs.remove_tree(dir .. "/all/a")
    write("all/b", "B2")
    reg:rescan()
    assert.equal("B2", title())
  end)

  it("follow a folder that was renamed and changed at once", function()
    write("all/a", "A")
    open("all")
    fs.remove_tree(dir .. "/all/a")
    write("all/b", "B")
    reg:rescan()
    assert.equal("B", title())
    assert.equal(1, #reg:status().modes)
  end)

  it("serve from the later of two directories, and from the earlier again when that is gone", function()
    write("one/a", "A")
    write("two/a", "B")
    open("one", "two")
    assert.equal("B", title())
    fs.remove_tree(dir .. "/two/a")
    reg:rescan()
    assert.equal("A", title())
    local rev = reg:get("ext.spec.v1")
    assert(rev:start("s", modes.start()))
  end)

  it("that are the same serve on when one of them is removed", function()
    write("all/a", "A")
    write("all/b", "A")
    open("all")
    fs.remove_tree(dir .. "/all/a")
    reg:rescan()
    assert.equal("A", title())
  end)
end)
