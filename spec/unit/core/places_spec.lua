-- A bounded number of tasks at once, whose places come back.

local task = require("host.task")

local places = require("macp.core.places")
local supervisor = require("macp.core.supervisor")

local log = require("host.log")

describe("places", function()
  local tasks, silent

  before_each(function()
    tasks = supervisor.new("places")
    silent = stub(log, "warn")
  end)
  after_each(function()
    silent:revert()
    assert(tasks:drain(1000))
  end)

  it("hold so many tasks at once and no more", function()
    local self, running, most = places.new(3), 0, 0
    for _ = 1, 12 do
      assert(self:start(tasks, "work", function()
        running = running + 1
        most = math.max(most, running)
        task.sleep(1)
        running = running - 1
      end))
    end
    while self.taken > 0 do task.sleep(1) end
    assert.equal(3, most)
  end)

  it("come back from tasks that raise, fail, are cancelled or never start", function()
    local self, ended = places.new(2), 0
    local function at_end() ended = ended + 1 end
    for _ = 1, 20 do assert(self:start(tasks, "raise", function() error("a bug") end, at_end)) end
    for _ = 1, 20 do assert(self:start(tasks, "fail", function() return nil, { code = "X" } end, at_end)) end
    assert(self:start(tasks, "wait", function() return task.cond():wait() end, at_end))
    tasks:drain(1000)
    assert.equal("SHUTTING_DOWN", select(2, self:start(tasks, "late", function() end, at_end)).code)
    assert.same({ 42, 0 }, { ended, self.taken })
  end)

  it("are not taken by who stops waiting for one", function()
    local self, release, ended = places.new(1), task.cond(), 0
    assert(self:start(tasks, "first", function() return release:wait() end))
    local waiting = task.spawn(function()
      return self:start(tasks, "second", function() end, function() ended = ended + 1 end)
    end)
    task.sleep(1)
    waiting:cancel()
    assert.equal("CANCELLED", select(2, waiting:join()).code)
    assert.same({ 1, 1 }, { self.taken, ended })
    release:signal()
    while self.taken > 0 do task.sleep(1) end
  end)
end)
