local sys = require("host.sys")
local task = require("host.task")

local supervisor = require("macp.core.supervisor")

local FAST = { backoff_ms = 1, max_backoff_ms = 2 }

local function with(opts)
  local out = {}
  for key, value in pairs(FAST) do out[key] = value end
  for key, value in pairs(opts) do out[key] = value end
  return out
end

local function wait_until(condition)
  for _ = 1, 5000 do
    if condition() then return true end
    task.sleep(2)
  end
  return false
end

describe("supervisor", function()
  local subject

  before_each(function() subject = supervisor.new("test") end)
  after_each(function() subject:drain(1000) end)

  it("forgets a task that ended well", function()
    local child = subject:start("once", function() return true end, FAST)
    assert.is_true(wait_until(function() return child.state == "ended" end))
    assert.same({ 0, 1 }, { subject.live, child.starts })
    assert.same({}, subject:status().tasks)
  end)

  it("restarts a task that returns an error and one that raises", function()
    local runs = 0
    local child = subject:start("flaky", function()
      runs = runs + 1
      if runs == 1 then return nil, { code = "DOWN", message = "first" } end
      if runs == 2 then error("second") end
      return true
    end, FAST)
    assert.is_true(wait_until(function() return child.state == "ended" end))
    assert.equal(3, runs)
    local failures = subject:status().failures
    assert.equal("DOWN: first", failures[1].error)
    assert.truthy(failures[2].error:find("second", 1, true))
    assert.truthy(failures[2].error:find("traceback", 1, true))
  end)

  it("restarts by the policy", function()
    local counts = { always = 0, never = 0, on_error = 0 }
    local function count(name, fails)
      return function()
        counts[name] = counts[name] + 1
        if fails then error("x") end
        return true
      end
    end
    subject:start("a", count("always"), with({ restart = "always" }))
    subject:start("n", count("never", true), with({ restart = "never" }))
    subject:start("o", count("on_error"), with({ restart = "on_error" }))
    assert.is_true(wait_until(function() return counts.always >= 3 end))
    assert.same({ 1, 1 }, { counts.never, counts.on_error })
  end)

  it("drains newest first and refuses newcomers", function()
    local ended = {}
    for _, name in ipairs({ "first", "second", "third" }) do
      subject:start(name, function()
        task.sleep(60000)
        ended[#ended + 1] = name
        return true
      end, with({ restart = "always" }))
    end
    task.sleep(1)
    assert.is_true(subject:drain(1000))
    assert.same({ "third", "second", "first" }, ended)
    local child, err = subject:start("late", function() end)
    assert.same({ nil, "SHUTTING_DOWN" }, { child, err.code })
    assert.is_true(subject:status().draining)
  end)

  it("asks politely when the task has a stop function", function()
    local stopping, finished = false, false
    subject:start("polite", function()
      while not stopping do task.sleep(1) end
      finished = true
      return true
    end, with({ stop = function() stopping = true end }))
    task.sleep(1)
    assert.is_true(subject:drain(1000))
    assert.is_true(finished)
  end)

  it("cancels what does not end in time and says so if even that fails", function()
    subject:start("deaf", function()
      while not task.cancelled() do task.sleep(1) end
      return true
    end, with({ stop = function() end }))
    task.sleep(1)
    assert.is_true(subject:drain(20))
  end)

  it("names what does not end at all, after one grace for all", function()
    for _, name in ipairs({ "stuck.1", "stuck.2", "stuck.3" }) do
      subject:start(name, function()
        task.shield(task.sleep, 2000)
        return true
      end, FAST)
    end
    task.sleep(1)
    local began = sys.mono_ms()
    local ok, err = subject:drain(10)
    assert.is_nil(ok)
    assert.equal("tasks did not end: stuck.3, stuck.2, stuck.1", err.message)
    assert.is_true(sys.mono_ms() - began < 1900)
    assert.is_true(wait_until(function() return subject.live == 0 end))
  end)

  it("drains a thousand children at once", function()
    for i = 1, 1000 do
      subject:start("child." .. i, function() return task.sleep(60000) end, FAST)
    end
    task.sleep(1)
    local began = sys.mono_ms()
    assert.is_true(subject:drain(5000))
    assert.is_true(sys.mono_ms() - began < 4900)
  end)

  it("ends a child that waits for its restart", function()
    subject:start("failing", function() error("x") end, { backoff_ms = 60000, max_backoff_ms = 60000 })
    assert.is_true(wait_until(function() return subject:status().tasks[1].state == "waiting" end))
    assert.is_true(subject:drain(500))
    assert.equal(0, subject.live)
  end)

  it("ends a child that was stopped before its first turn", function()
    local child = subject:start("early", function() return task.sleep(60000) end, FAST)
    child:stop()
    assert.is_true(subject:drain(500))
    assert.equal("ended", child.state)
  end)

  it("keeps a bounded list of failures", function()
    local runs = 0
    local child = subject:start("loop", function()
      runs = runs + 1
      if runs <= 30 then error("no " .. runs) end
      return true
    end, FAST)
    assert.is_true(wait_until(function() return child.state == "ended" end))
    assert.equal(20, #subject:status().failures)
  end)
end)
