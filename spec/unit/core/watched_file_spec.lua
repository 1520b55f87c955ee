local fs = require("host.fs")

local watched_file = require("macp.core.watched_file")

local eventually = require("spec.support.eventually")

describe("a watched file", function()
  local dir, path, file, seen

  before_each(function()
    dir = assert(fs.temp_dir("macp-watched-"))
    path = dir .. "/file"
    assert(fs.write(path, "one"))
    file = watched_file.new({ path = path, max_bytes = 100, period_ms = 5 })
    assert.equal("one", file:read())
    seen = {}
    file:watch(function(text, err) seen[#seen + 1] = text or err.code end)
  end)
  after_each(function()
    file:close()
    fs.remove_tree(dir)
  end)

  local function wait_for(text)
    eventually(function() return seen[#seen] == text end, 2000, text)
  end

  it("is read again when it is written, replaced, removed and back again", function()
    assert(fs.write(path, "second"))
    wait_for("second")
    assert(fs.write(dir .. "/next", "third one"))
    assert(fs.rename(dir .. "/next", path))
    wait_for("third one")
    assert(fs.remove(path))
    wait_for("NOT_FOUND")
    assert(fs.write(path, "fourth"))
    wait_for("fourth")
    assert.same({ "second", "third one", "NOT_FOUND", "fourth" }, seen)
  end)

  it("is followed through a link that is exchanged", function()
    file:close()
    assert(fs.write(dir .. "/a", "same size"))
    assert(fs.write(dir .. "/b", "other one"))
    assert(fs.symlink("a", dir .. "/link"))
    file = watched_file.new({ path = dir .. "/link", max_bytes = 100, period_ms = 5 })
    assert.equal("same size", file:read())
    file:watch(function(text) seen[#seen + 1] = text end)
    assert(fs.symlink("b", dir .. "/next"))
    assert(fs.rename(dir .. "/next", dir .. "/link"))
    wait_for("other one")
  end)

  it("is told when it is too large", function()
    assert(fs.write(path, ("x"):rep(101)))
    wait_for("LIMIT")
  end)
end)
