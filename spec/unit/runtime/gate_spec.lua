local task = require("host.task")

local gate = require("macp.runtime.gate")

describe("the gate of a connection", function()
  local places, order

  local function request(peer, name, release)
    return task.spawn(function()
      local entered = places:enter(peer)
      order[#order + 1] = name .. (entered and " in" or " out")
      if not entered then return end
      release:wait()
      places:leave(peer)
    end)
  end

  before_each(function() places, order = gate.new(2), {} end)

  local function settle() for _ = 1, 5 do task.sleep(0) end end

  it("lets so many in at a time, the others in the order of their arrival", function()
    local release, tasks = task.cond(), {}
    for i = 1, 5 do tasks[i] = request("a", tostring(i), release) end
    settle()
    assert.same({ "1 in", "2 in" }, order)
    release:signal()
    settle()
    assert.same({ "1 in", "2 in", "3 in" }, order)
    while #order < 5 do
      release:signal()
      settle()
    end
    assert.same({ "1 in", "2 in", "3 in", "4 in", "5 in" }, order)
    release:broadcast()
    for _, running in ipairs(tasks) do running:join() end
    assert.same({}, places.active)
    assert.same({}, places.waiting)
  end)

  it("counts connections apart", function()
    local release, tasks = task.cond(), {}
    for i = 1, 6 do tasks[i] = request("peer " .. i % 3, tostring(i), release) end
    settle()
    assert.equal(6, #order)
    release:broadcast()
    for _, running in ipairs(tasks) do running:join() end
    assert.same({}, places.active)
  end)

  it("gives no place to a request whose call has ended", function()
    local release, tasks = task.cond(), {}
    for i = 1, 4 do tasks[i] = request("a", tostring(i), release) end
    settle()
    tasks[3]:cancel()
    settle()
    release:broadcast()
    settle()
    assert.same({ "1 in", "2 in", "3 out", "4 in" }, order)
    release:broadcast()
    for _, running in ipairs(tasks) do running:join() end
    assert.same({}, places.active)
    assert.same({}, places.waiting)
  end)
end)
