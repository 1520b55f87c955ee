local due_queue = require("macp.core.due_queue")

describe("a queue of what is due", function()
  it("is empty at first", function()
    local queue = due_queue.new()
    assert.is_nil(queue:first())
    assert.is_nil(queue:pop())
    assert.equal(0, queue.n)
  end)

  it("gives the earliest first, whatever the order it was filled in", function()
    math.randomseed(7)
    local queue, wanted = due_queue.new(), {}
    for round = 1, 200 do
      local due = math.random(50)
      queue:push(due, "item " .. due)
      wanted[#wanted + 1] = due
      if round % 3 == 0 then
        table.sort(wanted)
        local first = table.remove(wanted, 1)
        assert.same({ first, "item " .. first }, { queue:first() })
        assert.same({ first, "item " .. first }, { queue:pop() })
      end
    end
    table.sort(wanted)
    assert.equal(#wanted, queue.n)
    for _, due in ipairs(wanted) do assert.equal(due, (queue:pop())) end
    assert.equal(0, queue.n)
  end)

  it("keeps nothing of what was taken", function()
    local queue = due_queue.new()
    local kept = setmetatable({}, { __mode = "v" })
    for i = 1, 20 do
      kept[i] = {}
      queue:push(i % 4, kept[i])
    end
    for _ = 1, 20 do queue:pop() end
    collectgarbage()
    assert.is_nil((next(kept)))
  end)
end)
