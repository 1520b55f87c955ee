local rpc = require("host.rpc")
local task = require("host.task")

local tenures = require("macp.runtime.tenures")

local eventually = require("spec.support.eventually")

describe("tenures", function()
  local held, running, now, answers, ended

  before_each(function()
    now, answers, ended = 1000000, {}, {}
    held = tenures.new({
      now_ms = function() return now end,
      identities = { again = function(_, call)
        local answer = answers[call]
        if answer.wait then answer.wait:wait() end
        return answer.identity, answer.reason, answer.kind
      end },
    })
    running = task.spawn(function() held:run() end)
  end)
  after_each(function()
    held:stop()
    running:join()
  end)

  -- An open call of a sender.
  local function enter(name, identity)
    local scope = { finish = function(status, text) ended[#ended + 1] = { name, status, text } end }
    identity = identity or {}
    identity.sender = identity.sender or name
    answers[name] = { identity = identity }
    held:enter(name, identity, scope)
    return scope
  end

  local function end_of(name, text) return { name, rpc.status.UNAUTHENTICATED, "Unauthenticated: " .. text } end

  it("end in the order of their expiry, whatever the order of their start", function()
    enter("later", { expires_at_ms = now + 40 })
    enter("never")
    enter("sooner", { expires_at_ms = now + 20 })
    local gone = enter("gone", { expires_at_ms = now + 10 })
    held:leave(gone)
    task.sleep(5)
    assert.same({}, ended)
    now = now + 100
    held.wake:broadcast()
    eventually(function() return #ended == 2 end, 1000)
    local text = "the credential has expired"
    assert.same({ end_of("sooner", text), end_of("later", text) }, ended)
    assert.equal(0, held.due.count)
  end)

  it("survive that a credential cannot be checked at the moment", function()
    enter("a")
    answers.a = { reason = "no keys", kind = "unavailable" }
    held:recheck()
    eventually(function() return not held.is_dirty end, 1000)
    task.sleep(5)
    assert.same({}, ended)
    answers.a = { reason = "unknown token", kind = "invalid" }
    held:recheck()
    eventually(function() return #ended == 1 end, 1000)
    assert.same({ end_of("a", "the credential is no longer valid") }, ended)
  end)

  it("do not end a call that left while it was looked at", function()
    local scope = enter("a")
    answers.a = { reason = "unknown token", wait = task.cond() }
    held:recheck()
    eventually(function() return not held.is_dirty end, 1000)
    held:leave(scope)
    answers.a.wait:broadcast()
    task.sleep(5)
    assert.same({}, ended)
  end)

  it("are looked at again when something changes during a round", function()
    enter("a")
    answers.a.wait = task.cond()
    held:recheck()
    eventually(function() return not held.is_dirty end, 1000)
    local first = answers.a
    answers.a = { reason = "unknown token" }
    held:recheck()
    first.wait:broadcast()
    eventually(function() return #ended == 1 end, 1000)
  end)

  it("look at very many without holding up the others", function()
    for i = 1, 5000 do enter("call" .. i) end
    local turns, is_over = 0, false
    local other = task.spawn(function()
      while not is_over do
        turns = turns + 1
        task.sleep(0)
      end
    end)
    for name in pairs(answers) do answers[name] = { reason = "unknown token" } end
    held:recheck()
    eventually(function() return #ended == 5000 end, 10000)
    is_over = true
    other:join()
    assert.truthy(turns >= 5000 / 64, turns)
    assert.is_nil((next(held.open)))
  end)

  it("change with the rights of their credential", function()
    local scope = enter("a", { expires_at_ms = now + 60000 })
    local changed
    function scope.change(identity) changed = identity end
    local other = { sender = "a", expires_at_ms = now + 10 }
    answers.a = { identity = other }
    held:recheck()
    eventually(function() return changed == other end, 1000)
    now = now + 10
    held.wake:broadcast()
    eventually(function() return #ended == 1 end, 1000)
  end)

  it("end a call that nobody serves yet by itself", function()
    local scope, finished = {}, nil
    local call = { finish = function(_, status) finished = status end }
    held:enter(call, { sender = "a", expires_at_ms = now }, scope)
    eventually(function() return finished end, 1000)
    assert.equal(rpc.status.UNAUTHENTICATED, finished)
  end)
end)
