local task = require("host.task")

local channel = require("macp.core.channel")

describe("channel", function()
  it("keeps order and bounds what is queued", function()
    local queue = channel.new(2)
    assert.is_true(queue:try_send(1))
    assert.is_true(queue:try_send(2))
    assert.same({ false, "full" }, { queue:try_send(3) })
    assert.equal(1, queue:recv())
    assert.is_true(queue:try_send(3))
    assert.same({ 2, 3 }, queue:recv_many(10))
    assert.equal(0, queue:len())
  end)

  it("makes a sender wait for room and a receiver for a value", function()
    local queue, seen = channel.new(1), {}
    local producer = task.spawn(function()
      for i = 1, 50 do assert(queue:send(i)) end
      queue:close()
    end)
    for value in function() return queue:recv() end do seen[#seen + 1] = value end
    producer:join()
    assert.equal(50, #seen)
    for i = 1, 50 do assert.equal(i, seen[i]) end
  end)

  it("hands out every value once among several receivers", function()
    local queue, sum, workers = channel.new(4), 0, {}
    for i = 1, 3 do
      workers[i] = task.spawn(function()
        for value in function() return queue:recv() end do
          task.sleep(0)
          sum = sum + value
        end
      end)
    end
    for i = 1, 100 do queue:send(i) end
    queue:close()
    for _, worker in ipairs(workers) do worker:join() end
    assert.equal(5050, sum)
  end)

  it("gives what is queued after close, then nil", function()
    local queue = channel.new(3)
    queue:try_send("a")
    queue:close()
    queue:close()
    assert.same({ false, "closed" }, { queue:try_send("b") })
    local sent, err = queue:send("b")
    assert.same({ nil, "CLOSED" }, { sent, err.code })
    assert.equal("a", queue:recv())
    assert.same({}, { queue:recv() })
    assert.is_nil(queue:recv_many(5))
  end)

  it("wakes a waiting sender with an error on close", function()
    local queue = channel.new(1)
    queue:try_send(1)
    local sender = task.spawn(function() return queue:send(2) end)
    task.sleep(1)
    queue:close()
    local sent, err = sender:join()
    assert.same({ nil, "CLOSED" }, { sent, err.code })
  end)

  it("ends a receive at its timeout and when the task is cancelled", function()
    local queue = channel.new(1)
    local value, err = queue:recv(5)
    assert.same({ nil, "TIMEOUT" }, { value, err.code })
    local code
    local receiver = task.spawn(function()
      local _, failure = queue:recv()
      code = failure.code
    end)
    task.sleep(1)
    receiver:cancel()
    receiver:join()
    assert.equal("CANCELLED", code)
  end)

  it("refuses nil and an impossible capacity", function()
    assert.has_error(function() channel.new(0) end)
    assert.has_error(function() channel.new(1):try_send(nil) end)
  end)
end)
