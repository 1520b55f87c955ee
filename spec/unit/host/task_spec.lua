local task = require("host.task")

describe("host.task", function()
  it("sleeps", function() assert.is_true(task.sleep(5)) end)

  it("ends the waits of a scope when its deadline passes", function()
    local result, err = task.with_deadline(10, function() return task.sleep(60000) end)
    assert.is_nil(result)
    assert.equal("TIMEOUT", err.code)
    assert.is_true(task.sleep(1))
  end)

  it("hands the results of a function to join", function()
    local a, b = task.spawn(function(n) task.sleep(1) return n + 1, "two" end, 4):join()
    assert.equal(5, a)
    assert.equal("two", b)
  end)

  it("hands an error to join, with its traceback", function()
    local result, err = task.spawn(function() error("boom") end):observe():join()
    assert.is_nil(result)
    assert.equal("TASK_FAILED", err.code)
    assert.matches("boom", err.message)
    assert.matches("traceback", err.message)
  end)

  it("hands a raised error table to join unchanged", function()
    local _, err = task.spawn(function() error({ code = "X", message = "typed" }) end):observe():join()
    assert.same({ code = "X", message = "typed" }, err)
  end)

  it("cancels a wait and every later one", function()
    local seen = {}
    local sleeper = task.spawn(function()
      for i = 1, 2 do
        local _, err = task.sleep(60000)
        seen[i] = err.code
      end
    end)
    task.sleep(1)
    sleeper:cancel()
    sleeper:join()
    assert.same({ "CANCELLED", "CANCELLED" }, seen)
    assert.equal("cancelled", sleeper:status())
  end)

  it("holds a cancel back inside a shield", function()
    local slept
    local worker = task.spawn(function()
      task.shield(function() slept = task.sleep(5) end)
      return task.sleep(60000)
    end)
    task.sleep(1)
    worker:cancel()
    local _, err = worker:join()
    assert.is_true(slept)
    assert.equal("CANCELLED", err.code)
  end)

  it("cancels the rest of a group when a member fails", function()
    local other
    local ok, err = task.group(function(group)
      group:spawn(function()
        local _, why = task.sleep(60000)
        other = why.code
        return nil, why
      end)
      group:spawn(function() return nil, { code = "FIRST" } end)
    end)
    assert.is_nil(ok)
    assert.equal("CANCELLED", other)
    assert.equal("FIRST", err.code)
  end)

  it("wakes waiters of a condition in order, and lets them time out", function()
    local cond, order = task.cond(), {}
    for i = 1, 3 do task.spawn(function() cond:wait() order[#order + 1] = i end) end
    task.sleep(1)
    cond:signal()
    task.sleep(1)
    assert.same({ 1 }, order)
    cond:broadcast()
    task.sleep(1)
    assert.same({ 1, 2, 3 }, order)
    local _, err = cond:wait(2)
    assert.equal("TIMEOUT", err.code)
  end)

  it("repeats a function until stopped, without overlap", function()
    local running, ticks = 0, 0
    local ticker = task.every(1, function()
      running = running + 1
      assert.equal(1, running)
      ticks = ticks + 1
      task.sleep(2)
      running = running - 1
    end)
    task.sleep(30)
    ticker:stop()
    assert.is_true(ticks >= 2)
  end)

  it("refuses a wait in a coroutine that is not a task", function()
    local ok, message = coroutine.resume(coroutine.create(function() task.sleep(1) end))
    assert.is_false(ok)
    assert.matches("inside a task", message)
  end)

  it("keeps the object of a wait alive while the task waits", function()
    local collected = false
    local function wait_for_ever()
      local cond = task.cond()
      local guard = newproxy(true)
      getmetatable(guard).__gc = function() collected = true end
      -- A tail call: nothing but the wait itself refers to the condition and the guard.
      return cond.wait(cond, 60000, guard)
    end
    local waiting = task.spawn(wait_for_ever)
    task.sleep(1)
    collectgarbage()
    collectgarbage()
    assert.is_false(collected)
    waiting:cancel()
    waiting:join()
  end)
end)

describe("the scope of a task", function()
  it("is what it was given, until it is taken away", function()
    assert.is_nil(task.scope())
    local scope = { request_id = "r" }
    task.set_scope(scope)
    assert.equal(scope, task.scope())
    task.sleep(1)
    assert.equal(scope, task.scope())
    task.set_scope(nil)
    assert.is_nil(task.scope())
  end)

  it("is shared with members of a group, and not with other tasks", function()
    local scope, seen = { request_id = "r" }, {}
    task.set_scope(scope)
    task.group(function(group) group:spawn(function() seen.member = task.scope() end) end)
    task.spawn(function() seen.other = task.scope() or "none" end):join()
    task.set_scope(nil)
    assert.equal(scope, seen.member)
    assert.equal("none", seen.other)
  end)

  it("does not pass to the next task that uses the coroutine", function()
    for _ = 1, 50 do
      local before
      task.spawn(function()
        before = task.scope()
        task.set_scope({ request_id = "r" })
      end):join()
      assert.is_nil(before)
    end
  end)

  it("is a table", function()
    assert.has_error(function() task.set_scope("x") end)
  end)
end)
