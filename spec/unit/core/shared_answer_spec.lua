local task = require("host.task")

local shared_answer = require("macp.core.shared_answer")

-- ask() counts its calls and takes `ms`; what it answers is settable.
local function question(ms)
  local asked = { calls = 0 }
  function asked.ask()
    asked.calls = asked.calls + 1
    local call = asked.calls
    local slept, err = task.sleep(ms)
    if not slept then return nil, err end
    if asked.fails then return nil, asked.fails end
    return "answer " .. call
  end
  return asked
end

local function get_all(answers, asked, count)
  local got = {}
  task.group(function(group)
    for i = 1, count do
      group:spawn(function() got[i] = { answers:get("q", asked.ask) } end)
    end
  end)
  return got
end

describe("a shared answer", function()
  it("is made once for all who ask meanwhile, and kept for its time", function()
    local answers, asked = shared_answer.new(60), question(10)
    for _, got in ipairs(get_all(answers, asked, 5)) do assert.same({ "answer 1" }, got) end
    assert.equal("answer 1", (answers:get("q", asked.ask)))
    task.sleep(80)
    assert.equal("answer 2", (answers:get("q", asked.ask)))
  end)

  it("belongs to one question", function()
    local answers, asked = shared_answer.new(1000), question(1)
    assert.equal("answer 1", (answers:get("q", asked.ask)))
    assert.equal("answer 2", (answers:get("other", asked.ask)))
  end)

  it("is not kept at all with a time of 0", function()
    local answers, asked = shared_answer.new(0), question(1)
    answers:get("q", asked.ask)
    assert.equal("answer 2", (answers:get("q", asked.ask)))
  end)

  it("that could not be made is told to everybody who waited, and made again for the next", function()
    local answers, asked = shared_answer.new(1000), question(10)
    asked.fails = { code = "SERVICE_UNAVAILABLE" }
    for _, got in ipairs(get_all(answers, asked, 3)) do assert.equal(asked.fails, got[2]) end
    assert.equal(1, asked.calls)
    asked.fails = nil
    assert.equal("answer 2", (answers:get("q", asked.ask)))
  end)

  it("is made by somebody else when its maker goes away", function()
    local answers, asked = shared_answer.new(1000), question(20)
    local maker = task.spawn(function() return answers:get("q", asked.ask) end)
    task.sleep(1)
    local got
    local waiter = task.spawn(function() got = answers:get("q", asked.ask) end)
    task.sleep(1)
    maker:cancel()
    maker:join()
    waiter:join()
    assert.equal("answer 2", got)
  end)

  it("is peeked at: what is known, while the rest is being made", function()
    local answers, asked = shared_answer.new(30, { until_ms = 100000, start = task.spawn }), question(10)
    assert.is_nil(answers:peek("q", asked.ask))
    assert.is_nil(answers:peek("q", asked.ask))
    assert.equal("answer 1", (answers:get("q", asked.ask))) -- waits for the one that is being made
    assert.equal("answer 1", answers:peek("q", asked.ask))
    task.sleep(50)
    assert.equal("answer 1", answers:peek("q", asked.ask)) -- old, and made again from now on
    task.sleep(30)
    assert.equal("answer 2", answers:peek("q", asked.ask))
    asked.fails = { code = "SERVICE_UNAVAILABLE" }
    assert.is_nil(answers:peek("other", asked.ask))
    task.sleep(30)
    assert.is_nil(answers:peek("other", asked.ask))
  end)

  it("that is old is still given while the next one is made, until it is too old", function()
    local started = {}
    local answers = shared_answer.new(20, { until_ms = 200, start = function(work)
      started[#started + 1] = task.spawn(work)
    end })
    local asked = question(30)
    assert.equal("answer 1", (answers:get("q", asked.ask)))
    task.sleep(25)
    for _ = 1, 3 do assert.equal("answer 1", (answers:get("q", asked.ask))) end
    assert.equal(1, #started)
    started[1]:join()
    assert.equal("answer 2", (answers:get("q", asked.ask)))
    task.sleep(25)
    asked.fails = { code = "UNAVAILABLE" }
    assert.equal("answer 2", (answers:get("q", asked.ask)))
    started[2]:join()
    assert.equal("answer 2", (answers:get("q", asked.ask)))
    started[3]:join()
    task.sleep(200)
    assert.same({ nil, asked.fails }, { answers:get("q", asked.ask) })
  end)
end)
