-- Requests that come together are worked on together.

local task = require("host.task")

local gather = require("macp.core.gather")

local function closed() return { code = "CLOSED" } end

-- Runs body with a gather whose worker runs beside it. (yields)
local function with(opts, body)
  local self = gather.new({ max = opts.max or 10, work = opts.work, closed = closed })
  local worker = task.spawn(function() return self:run() end)
  body(self, worker)
  worker:cancel()
  return worker:join()
end

-- Asks with every value at once: { result, err } of each. (yields)
local function ask_all(self, values)
  local answers = {}
  assert(task.group(function(group)
    for i, value in ipairs(values) do
      group:spawn(function() answers[i] = { self:ask(value) } end)
    end
  end))
  return answers
end

describe("gathering", function()
  it("works on what comes together at once, and on what comes meanwhile afterwards", function()
    local lots = {}
    with({ max = 4, work = function(items)
      lots[#lots + 1] = #items
      task.sleep(5)
      for _, item in ipairs(items) do item:settle(item.value * 2) end
    end }, function(self)
      local answers = ask_all(self, { 1, 2, 3, 4, 5, 6, 7, 8, 9 })
      for i = 1, 9 do assert.same({ i * 2 }, answers[i]) end
      assert.same({ 4, 4, 1 }, lots)
      assert.equal(20, (self:ask(10)))
    end)
  end)

  it("gives everybody the error of their own", function()
    with({ work = function(items)
      for _, item in ipairs(items) do
        if item.value == "bad" then item:settle(nil, { code = "BAD" }) else item:settle(true) end
      end
    end }, function(self)
      local answers = ask_all(self, { "good", "bad", "good" })
      assert.same({ true }, answers[1])
      assert.equal("BAD", answers[2][2].code)
      assert.same({ true }, answers[3])
    end)
  end)

  it("tells who waits when the work fails, and the supervisor", function()
    local self = gather.new({ max = 2, work = function() error("broken") end, closed = closed })
    local worker = task.spawn(function()
      local ok, err = pcall(self.run, self)
      return { ok, err }
    end)
    local answer = { self:ask(1) }
    assert.equal("INTERNAL", answer[2].code)
    local outcome = worker:join()
    assert.is_false(outcome[1])
    assert.matches("broken", outcome[2])
  end)

  it("refuses when it has ended", function()
    local kept
    with({ work = function() end }, function(self) kept = self end)
    assert.same({ nil, { code = "CLOSED" } }, { kept:ask(1) })
  end)
end)
