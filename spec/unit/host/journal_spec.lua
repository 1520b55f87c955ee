-- host.journal as Lua sees it; the format, crashes and repairs are tested in C (spec/host/journal).

local fs = require("host.fs")
local journal = require("host.journal")
local task = require("host.task")

local eventually = require("spec.support.eventually")

local function contents(j)
  local seen = {}
  assert(j:scan(function(key, index, bytes)
    local log = seen[key] or {}
    seen[key] = log
    assert.equal(#log + 1, index)
    log[index] = bytes
  end))
  return seen
end

-- Backends of this build that need a directory and nothing else.
local HERE, ON_DISK, is_built = { "file", "memory" }, { "file" }, {}
for _, name in ipairs(journal.backends()) do is_built[name] = true end
if is_built.rocksdb then
  HERE[3], ON_DISK[2] = "rocksdb", "rocksdb"
end

it("has every backend that this program can have", function()
  assert.is_true(is_built.file and is_built.memory)
end)
if not is_built.rocksdb then pending("RocksDB: is tested in builds that have it") end

for _, backend in ipairs(HERE) do
  describe("journal backend " .. backend, function()
    local dir, j

    local function open(extra)
      local opts = { backend = backend, dir = dir }
      for k, v in pairs(extra or {}) do opts[k] = v end
      return assert(journal.open(opts))
    end

    before_each(function()
      dir = assert(fs.temp_dir("macp-journal")) .. "/a/b"
      j = open()
    end)

    after_each(function()
      if j then j:close() end
      j = nil
      fs.remove_tree((dir:gsub("/a/b$", "")))
    end)

    it("numbers each key's records from 1 and makes them durable", function()
      local lsn, index = assert(j:append("a", "one"))
      assert.equal(1, index)
      assert.equal(1, select(2, j:append("b", "other")))
      local last, second = j:append("a", "two")
      assert.equal(2, second)
      assert.is_true(last > lsn)
      assert.is_true(j:wait(last))
      assert.is_true(j:wait(lsn))
      assert.is_true(j:durable() >= last)
      assert.equal("durable", j:status(lsn))
      assert.equal(0, j:failures())
      assert.equal(0, select(2, j:durable()))
      assert.equal(j:stats().last_sync_ms, j:last_sync_ms())
      assert.equal(0, j:pending())
      assert.has_error(function() j:append("a", "three", nil, last + 1000) end)
      assert.same({ 2, 2 }, { j:count("a") })
      assert.equal(0, (j:count("nobody")))
      assert.same({ "one", "two" }, j:read("a", 1, 10))
    end)

    it("joins a record that is given in two parts", function()
      local long = ("x"):rep(2 * 1024 * 1024)
      local parts = { { "head", "tail" }, { "head", "" }, { "", "tail" }, { long, "tail" }, { "after", "wards" } }
      for _, pair in ipairs(parts) do assert(j:append("k", pair[1], pair[2])) end
      assert(j:wait(assert(j:append("k", "whole", nil))))
      assert.same({ "headtail", "head", "tail", long .. "tail", "afterwards", "whole" }, j:read("k", 1, 10))
      assert.has_error(function() j:append("k", "head", {}) end)
    end)

    it("reads parts of a log", function()
      for i = 1, 100 do j:append("k", ("%03d"):format(i)) end
      assert(j:wait(j:append("other", "")))
      assert.same({ "042", "043" }, j:read("k", 42, 2))
      assert.same({ "100" }, j:read("k", 100, 5))
      assert.same({}, j:read("k", 101, 5))
      assert.same({}, j:read("unknown", 1, 5))
      assert.same({ "001", "002" }, j:read("k", 1, 100, 7), "stops before max_bytes")
      assert.same({ "001" }, j:read("k", 1, 100, 1), "but gives one at least")
      assert.same({ "" }, j:read("other", 1, 1))
    end)

    it("keeps bytes exactly, from none to a megabyte", function()
      local big = ("\0\255x"):rep(400000)
      j:append("k", "")
      j:append("k", "\0\0\0")
      assert(j:wait((assert(j:append("k", big)))))
      assert.same({ "", "\0\0\0", big }, j:read("k", 1, 10))
    end)

    it("scans every key in order", function()
      for i = 1, 700 do j:append("k" .. i % 7, tostring(i)) end
      assert(j:wait((j:append("k0", "end"))))
      local seen = contents(j)
      for k = 0, 6 do
        for i, value in ipairs(seen["k" .. k]) do
          if value ~= "end" then assert.equal((i - (k == 0 and 0 or 1)) * 7 + k, tonumber(value)) end
        end
      end
      local keys = j:keys()
      table.sort(keys)
      assert.same({ "k0", "k1", "k2", "k3", "k4", "k5", "k6" }, keys)
    end)

    it("refuses a second scan, and passes on what the function raises", function()
      assert(j:wait((j:append("k", "v"))))
      local ok, message = pcall(j.scan, j, function()
        assert.equal("BUSY", select(2, j:scan(function() end)).code)
        task.sleep(1)
        error("stop here", 0)
      end)
      assert.is_false(ok)
      assert.equal("stop here", message)
      assert.same({ k = { "v" } }, contents(j))
    end)

    it("replaces a log and goes on behind it", function()
      for i = 1, 5 do j:append("k", "old" .. i) end
      assert.is_true(j:replace("k", { "new1", "new2" }))
      assert(j:wait((j:append("k", "new3"))))
      assert.same({ "new1", "new2", "new3" }, j:read("k", 1, 10))
      assert.is_true(j:replace("k", {}))
      assert.equal(0, (j:count("k")))
      assert.equal("NOT_FOUND", select(2, j:replace("k", {})).code)
    end)

    it("deletes a key; the next append begins a new log", function()
      j:append("gone", "1")
      j:append("stays", "1")
      assert.is_true(j:delete("gone"))
      assert.same({ "stays" }, j:keys())
      assert.equal("NOT_FOUND", select(2, j:delete("gone")).code)
      local lsn, index = j:append("gone", "again")
      assert.equal(1, index)
      assert(j:wait(lsn))
      assert.same({ "again" }, j:read("gone", 1, 10))
      assert(j:wait((assert(j:remove("gone")))))
      assert.same({}, j:read("gone", 1, 10))
    end)

    it("refuses what is too large, wrong or unknown", function()
      assert(j:close())
      j = open({ max_record_bytes = 10 })
      assert.equal("LIMIT", select(2, j:append("k", ("x"):rep(11))).code)
      assert.equal("INVALID", select(2, j:append("", "x")).code)
      assert.equal("INVALID", select(2, j:append(("k"):rep(256), "x")).code)
      assert.equal("INVALID", select(2, j:wait(99)).code)
      assert.is_true(j:wait((assert(j:append(("k"):rep(255), ("x"):rep(10))))))
      assert.has_error(function() j:append("k", {}) end)
      assert.has_error(function() j:wait(0) end)
    end)

    it("wakes all waiters of a flush, and a cancelled one with CANCELLED", function()
      local order = {}
      local lsn = j:append("k", "v")
      local tasks = {}
      for i = 1, 5 do
        tasks[i] = task.spawn(function()
          local ok, err = j:wait(lsn)
          order[#order + 1] = ok and i or err.code
        end)
      end
      for i = 1, 5 do assert(tasks[i]:join() == nil) end
      assert.same({ 1, 2, 3, 4, 5 }, order)
      local waiter = task.spawn(function() return j:wait((j:append("k", "w"))) end)
      waiter:cancel()
      local ok, err = waiter:join()
      if backend ~= "memory" then
        assert.is_nil(ok)
        assert.equal("CANCELLED", err.code)
      end
    end)

    it("is closed after close", function()
      assert.is_true(j:close())
      assert.is_true(j:close())
      assert.has_error(function() j:append("k", "v") end)
    end)

    it("lets a key leave memory that nobody will need soon, and brings it back", function()
      assert.is_true(j:replace("k", { "1", "2" }))
      j:park("k")
      j:park("unknown")
      if backend ~= "memory" then
        eventually(function() return j:stats().parked == 1 end, 10000, "a parked key")
      end
      assert.equal(1, j:stats().keys)
      assert.equal(2, (j:count("k")))
      assert.same({ "k" }, j:keys())
      assert.same({ "1", "2" }, j:read("k", 1, 10))
      assert.equal(0, j:stats().parked)
      assert.same({ k = { "1", "2" } }, contents(j))
    end)

    it("counts", function()
      for i = 1, 10 do j:append("k", tostring(i)) end
      assert(j:wait((j:append("k", "x"))))
      local stats = j:stats()
      assert.equal(1, stats.keys)
      assert.equal(11, stats.live)
      assert.equal(11, stats.appends)
      assert.equal(0, stats.pending_bytes)
      if backend == "file" then assert.equal(1, stats.segments) end
      if backend ~= "memory" then
        assert.equal(1, stats.syncs)
        assert.equal(11, stats.largest_group)
      end
    end)
  end)
end

for _, backend in ipairs(ON_DISK) do
  describe("the " .. backend .. " journal", function()
    local dir

    before_each(function() dir = assert(fs.temp_dir("macp-journal")) end)
    after_each(function() fs.remove_tree(dir) end)

    it("has everything again after a restart", function()
      local j = assert(journal.open({ backend = backend, dir = dir, segment_bytes = 4096 }))
      for i = 1, 300 do j:append("k" .. i % 10, ("%d"):format(i) .. ("."):rep(i)) end
      j:replace("k1", { "r1", "r2" })
      j:delete("k2")
      assert(j:wait((j:append("k1", "r3"))))
      local before = contents(j)
      local lsn = j:durable()
      assert(j:close())
      j = assert(journal.open({ backend = backend, dir = dir, segment_bytes = 4096 }))
      assert.same(before, contents(j))
      assert.same({ "r1", "r2", "r3" }, before.k1)
      assert.is_nil(before.k2)
      assert.equal(30, #before.k3)
      local next_lsn, index = j:append("k1", "r4")
      assert.is_true(next_lsn > lsn)
      assert.equal(4, index)
      assert(j:close())
    end)

    it("has a larger epoch with every opening", function()
      local last = 0
      for _ = 1, 3 do
        local j = assert(journal.open({ backend = backend, dir = dir }))
        assert.is_true(j:epoch() > last)
        assert.is_true(j:owned())
        last = j:epoch()
        assert(j:close())
      end
    end)

    it("accepts nothing any more once somebody else is its holder", function()
      local lock = dir .. (backend == "file" and "/LOCK" or "/OWNER")
      local j = assert(journal.open({ backend = backend, dir = dir }))
      assert(j:wait((j:append("k", "kept"))))
      assert(fs.remove(lock))
      assert(fs.write(lock, "4711 77 elsewhere 2030-01-01T00:00:00Z\n"))
      local lsn = assert(j:append("k", "lost"))
      local ok, err = j:wait(lsn)
      assert.is_nil(ok)
      assert.equal("FENCED", err.code)
      local said = "was taken over by process 4711 on elsewhere at 2030-01-01T00:00:00Z (epoch 77; ours was "
        .. j:epoch() .. ")"
      assert.truthy(err.message:find(said, 1, true), err.message)
      assert.equal("FENCED", select(2, j:owned()).code)
      assert.equal("FENCED", select(2, j:append("k", "refused")).code)
      assert.equal("FENCED", select(2, j:replace("k", { "refused" })).code)
      assert.equal("FENCED", select(2, j:remove("k")).code)
      assert.same({ "kept" }, j:read("k", 1, 10))
      assert(j:close())
      assert.equal("4711 77 elsewhere 2030-01-01T00:00:00Z\n", fs.read(lock))
      j = assert(journal.open({ backend = backend, dir = dir }))
      assert.equal(78, j:epoch())
      assert.same({ "kept" }, j:read("k", 1, 10))
      assert(j:close())
    end)

    it("does not go on when its lock has vanished", function()
      local lock = dir .. (backend == "file" and "/LOCK" or "/OWNER")
      local j = assert(journal.open({ backend = backend, dir = dir }))
      assert(fs.remove(lock))
      local epoch = j:epoch()
      local _, err = j:wait((j:append("k", "v")))
      assert.equal("FENCED", err.code)
      assert.truthy(err.message:find("the lock " .. lock .. " of this process is gone", 1, true), err.message)
      assert(j:close())
      j = assert(journal.open({ backend = backend, dir = dir }))
      assert.equal(epoch + 1, j:epoch())
      assert(j:close())
    end)

    it("is refused to a second opener, which learns who has it", function()
      local j = assert(journal.open({ backend = backend, dir = dir }))
      local second, err = journal.open({ backend = backend, dir = dir })
      assert.is_nil(second)
      assert.equal("BUSY", err.code)
      assert.matches("process " .. require("host.sys").pid(), err.message, 1, true)
      assert(j:close())
      local third = assert(journal.open({ backend = backend, dir = dir }))
      assert(third:close())
    end)
  end)
end

describe("opening a journal", function()
  local dir

  before_each(function() dir = assert(fs.temp_dir("macp-journal")) end)
  after_each(function() fs.remove_tree(dir) end)

  it("names what it cannot open", function()
    local _, err = journal.open({ dir = "/proc/no/such/place" })
    assert.matches("/proc/no/such/place", err.message, 1, true)
    assert.equal("INVALID", select(2, journal.open({ backend = "floppy" })).code)
    assert.equal("INVALID", select(2, journal.open({ backend = "file" })).code)
    assert.equal("INVALID", select(2, journal.open({ backend = "rocksdb" })).code)
    assert.has_error(function() journal.open({ dir = dir, repair = "pray" }) end)
  end)
end)
