local fs = require("host.fs")
local sys = require("host.sys")
local task = require("host.task")

local dir

describe("host.fs", function()
  before_each(function() dir = assert(fs.temp_dir("macp-fs")) end)
  after_each(function() assert(fs.remove_tree(dir)) end)

  it("writes and reads whole files", function()
    assert(fs.write(dir .. "/a", "one\0two", { mode = 384 }))
    assert.equal("one\0two", fs.read(dir .. "/a"))
    assert.equal(384, fs.stat(dir .. "/a").mode)
    assert(fs.append(dir .. "/a", "!"))
    assert.equal("one\0two!", fs.read(dir .. "/a"))
    assert.equal(1, #fs.list(dir)) -- no temporary file is left
  end)

  it("refuses a file beyond the limit and names it", function()
    assert(fs.write(dir .. "/a", "0123456789"))
    local text, err = fs.read(dir .. "/a", 9)
    assert.is_nil(text)
    assert.equal("LIMIT", err.code)
    assert.matches("larger than 9 bytes", err.message)
  end)

  it("reports a missing file as NOT_FOUND", function()
    local _, err = fs.read(dir .. "/none")
    assert.equal("NOT_FOUND", err.code)
  end)

  it("makes, lists and removes trees", function()
    assert(fs.mkdir_p(dir .. "/x/y/z"))
    assert(fs.write(dir .. "/x/b", "1", { sync = false }))
    local names = {}
    for i, entry in ipairs(fs.list(dir .. "/x")) do names[i] = entry.name .. ":" .. entry.type end
    assert.same({ "b:file", "y:dir" }, names)
    assert(fs.remove_tree(dir .. "/x"))
    assert.equal("NOT_FOUND", select(2, fs.stat(dir .. "/x")).code)
    assert(fs.remove_tree(dir .. "/x"))
  end)

  it("locks a file against a second holder", function()
    local lock = assert(fs.lock(dir .. "/lock"))
    local second, err = fs.lock(dir .. "/lock")
    assert.is_nil(second)
    assert.equal("BUSY", err.code)
    lock:release()
    assert(fs.lock(dir .. "/lock")):release()
  end)

  describe("watch", function()
    local function changes(watch, fn)
      fn()
      return task.with_deadline(15000, function() return watch:next() end)
    end

    local function each_change(poll_ms)
      assert(fs.mkdir_p(dir .. "/m"))
      local watch = assert(fs.watch(dir, { poll_ms = poll_ms }))
      assert.is_true(changes(watch, function() fs.write(dir .. "/m/a", "1") end))
      assert.is_true(changes(watch, function() fs.append(dir .. "/m/a", "2") end))
      assert.is_true(changes(watch, function() fs.mkdir_p(dir .. "/n/deep") end))
      assert.is_true(changes(watch, function() fs.write(dir .. "/n/deep/b", "1") end))
      -- A folder swapped by rename: later writes into the new one must be seen.
      assert.is_true(changes(watch, function()
        fs.mkdir_p(dir .. "/.new")
        fs.rename(dir .. "/m", dir .. "/.old")
        fs.rename(dir .. "/.new", dir .. "/m")
      end))
      assert.is_true(changes(watch, function() fs.write(dir .. "/m/a", "3") end))
      watch:close()
    end

    it("sees writes, new folders and swapped folders", function() each_change(60000) end)

    it("tells within 100 ms", function()
      local watch = assert(fs.watch(dir))
      local best = math.huge
      for _ = 1, 20 do
        local start = sys.mono_ms()
        assert.is_true(changes(watch, function() fs.write(dir .. "/a", "1", { sync = false }) end))
        best = math.min(best, sys.mono_ms() - start)
        if best < 100 then break end
      end
      assert.is_true(best < 100, best)
      watch:close()
    end)

    it("tells a directory that never rests", function()
      local watch = assert(fs.watch(dir, { poll_ms = 60000, debounce_ms = 150 }))
      local writer = task.every(5, function() fs.write(dir .. "/a", tostring(sys.mono_ms()), { sync = false }) end)
      local ok = task.with_deadline(6000, function() return watch:next() end)
      writer:stop()
      writer.task:join()
      watch:close()
      assert.is_true(ok)
    end)

    it("wakes a waiting task when closed", function()
      local watch = assert(fs.watch(dir))
      local waiting = task.spawn(function() return watch:next() end)
      task.sleep(1)
      watch:close()
      assert.equal("CLOSED", select(2, waiting:join()).code)
    end)
  end)
end)
