local modes = require("spec.support.modes")

local rev

local function open(parts, start)
  rev = modes.build(modes.source(parts))
  return rev:start("s", modes.start(start))
end

local function put(sender, payload, flags)
  return rev:submit("s", "Put", sender, modes.encode(rev, "Put", payload), 5, flags)
end

local function commit(sender, overrides)
  return rev:submit("s", "Commitment", sender, modes.commitment(rev, overrides), 5)
end

describe("judging a message", function()
  after_each(function()
    if rev then rev:close() end
    rev = nil
  end)

  it("checks type, sender, payload and needs in this order", function()
    open()
    local bad = "\255\255"
    local _, r = rev:submit("s", "Nope", "eve", bad, 0)
    assert.equal("INVALID_ENVELOPE", r.code)
    assert.equal("messages.type", r.rule)
    _, r = rev:submit("s", "Put", "eve", bad, 0)
    assert.equal("FORBIDDEN", r.code)
    assert.equal("messages.Put.from", r.rule)
    _, r = rev:submit("s", "Put", "ann", bad, 0)
    assert.equal("INVALID_ENVELOPE", r.code)
    _, r = put("ann", { key = "", n = -1 })
    assert.equal("messages.Put.payload.key", r.rule)
    _, r = put("ann", { key = "k", n = -1 })
    assert.equal("n is not negative", r.message)
    assert.equal("messages.Put.needs[1]", r.rule)
    assert.equal("accepted", (put("ann", { key = "k", n = 1 })))
  end)

  it("adds the detail of a predicate and takes its code", function()
    open({ messages = [[
      Put = { from = "participant", payload = "int64 n = 1;", needs = {
        { "n is small", function(s, p) return p.n < 5, "it is " .. p.n end, "POLICY_DENIED" },
      } },]] })
    local _, r = put("ann", { n = 9 })
    assert.equal("n is small: it is 9", r.message)
    assert.equal("POLICY_DENIED", r.code)
    assert.same({ reasons = { "n is small: it is 9" }, items = { { rule = "messages.Put.needs[1]",
      text = "n is small: it is 9" } } }, r.details)
  end)

  it("knows every role", function()
    open({ messages = [[
      P = { from = "participant" }, I = { from = "initiator" }, C = { from = "committer" },
      B = { from = { "initiator", "participant" } }, R = { from = "runtime" },]],
      rest = [[timers = { t = { due = function() end, emit = function() end } },]] },
      { initiator = "boss", participants = { "ann" } })
    local function code(name, sender, flags)
      local verdict, r = rev:submit("s", name, sender, "", 0, flags)
      return verdict or r.code
    end
    assert.equal("accepted", code("P", "ann"))
    assert.equal("FORBIDDEN", code("P", "boss"))
    assert.equal("accepted", code("I", "boss"))
    assert.equal("FORBIDDEN", code("I", "ann"))
    assert.equal("accepted", code("C", "boss"))
    assert.equal("FORBIDDEN", code("C", "ann"))
    assert.equal("accepted", code("B", "ann"))
    assert.equal("accepted", code("B", "boss"))
    assert.equal("INVALID_ENVELOPE", code("R", "boss"))
    assert.equal("accepted", code("R", "boss", 1))
    assert.equal("FORBIDDEN", code("P", "ann", 1))
  end)

  it("gives the context and keeps it read-only", function()
    open({ messages = [[
      Put = { from = "participant", payload = "string key = 1;", apply = function(s, p, by, c)
        s.seen = { t = c.t, seq = c.seq, n = c.n, initiator = c.initiator, first = c.participants[1],
          count = #c.participants,
          member = c.is_participant("bob"), intent = c.intent, policy = c.policy_id, version = c.schema_version,
          mode = c.mode_version, configuration = c.configuration_version, ttl = c.ttl_ms, synthetic = c.synthetic,
          hidden = c.context_id == nil and c.extensions == nil and c.message_id == nil,
          authority = c.rules.commitment.authority }
      end },]] })
    assert.equal("accepted", (put("bob", { key = "k" })))
    assert.same({ t = 5, seq = 2, n = 2, initiator = "ann", first = "ann", count = 2, member = true, intent = "spec",
      policy = "policy.default", version = 1, mode = "1.0.0", configuration = "cfg", ttl = 60000, synthetic = false,
      hidden = true, authority = "initiator_only" }, modes.state(rev).seen)
  end)

  it("restores participants and rules that a script wrote into, each by itself", function()
    for _, write in ipairs({ "c.participants[1] = 'eve'", "c.rules.commitment.authority = 'any_participant'" }) do
      open({ messages = [[
        Put = { from = "participant", payload = "string key = 1;", apply = function(s, p, by, c)
          if p.key == "write" then ]] .. write .. [[ end
          s.first, s.authority = c.participants[1], c.rules.commitment.authority
        end },]] })
      rev.quiet = true
      local verdict, r = put("bob", { key = "write" })
      assert.is_nil(verdict)
      assert.equal("INTERNAL_ERROR", r.code)
      rev:start("s", modes.start())
      assert.equal("accepted", (put("bob", { key = "look" })))
      assert.same({ first = "ann", authority = "initiator_only" },
        { first = modes.state(rev).first, authority = modes.state(rev).authority })
      rev:close()
    end
    rev = nil
  end)

  it("follows the commitment rules in their order", function()
    open({ outcomes = [[outcomes = { { action = "spec.completed", positive = true,
      when = function(s) return s.items.k end } },]],
      rest = [[policy = { evaluate = function(s, d) if s.items.k.n > 5 then d.deny("n is %d",
        s.items.k.n) end end },]] })
    local _, r = commit("bob")
    assert.equal("FORBIDDEN", r.code)
    _, r = rev:submit("s", "Commitment", "ann", "\255", 0)
    assert.equal("INVALID_ENVELOPE", r.code)
    _, r = commit("ann", { commitment_id = " ", mode_version = "2" })
    assert.equal("commitment.commitment_id", r.rule)
    _, r = commit("ann", { mode_version = "2", outcome_positive = false })
    assert.equal("commitment.mode_version", r.rule)
    _, r = commit("ann", { policy_version = "other", outcome_positive = false })
    assert.equal("commitment.policy_version", r.rule)
    _, r = commit("ann", { outcome_positive = false })
    assert.equal("commitment.outcome_positive", r.rule)
    _, r = commit("ann")
    assert.equal("no positive outcome is ready", r.message)
    put("ann", { key = "k", n = 6 })
    _, r = commit("ann")
    assert.equal("POLICY_DENIED", r.code)
    assert.same({ "n is 6" }, r.details.reasons)
    assert.same({ { rule = "policy", text = "n is 6" } }, r.details.items)
  end)

  it("resolves with the payload bytes, the result and the reasons", function()
    open({ outcomes = [[outcomes = { { action = "spec.completed", positive = true } },]],
      rest = [[result = function(s) return { items = 3 } end,
        policy = { evaluate = function(s, d) d.allow("fine for %s", d.by) end },]] })
    local bytes = modes.commitment(rev)
    local verdict, due, resolution, result, details = rev:submit("s", "Commitment", "ann", bytes, 9)
    assert.equal("resolved", verdict)
    assert.is_nil(due)
    assert.equal(bytes, resolution)
    assert.equal('{"items":3}', result)
    assert.equal('{"items":[{"rule":"policy","text":"fine for ann"}],"reasons":["fine for ann"]}', details)
  end)

  it("enforces actions when they are strict", function()
    open({ outcomes = [[outcomes = { { action = "spec.completed", positive = true }, { action = "spec.other" } },]],
      rest = "strict_actions = true," })
    local _, r = commit("ann", { action = "spec.done" })
    assert.equal("the action must be spec.completed or spec.other, not 'spec.done'", r.message)
    assert.equal("resolved", (commit("ann", { action = "spec.other" })))
  end)

  it("checks the strict form of supersession only when asked", function()
    local ref = { supersedes = { session_id = "s0", commitment_hash = "sha256:zz" } }
    open()
    assert.equal("resolved", (commit("ann", ref)))
    rev:close()
    rev = modes.build(modes.source(), { strict_supersedes = true })
    rev:start("s", modes.start())
    local _, r = commit("ann", ref)
    assert.equal("commitment.supersedes.commitment_hash", r.rule)
    ref.supersedes.commitment_hash = "sha256:" .. ("a0"):rep(32)
    assert.equal("resolved", (commit("ann", ref)))
  end)

  it("lets either polarity through only when that is asked for", function()
    open()
    local _, r = commit("ann", { action = "spec.ended", outcome_positive = false })
    assert.equal("no negative outcome is ready", r.message)
    rev:close()
    rev = modes.build(modes.source(), { lenient_outcomes = true })
    rev:start("s", modes.start())
    assert.equal("resolved", (commit("ann", { action = "spec.ended", outcome_positive = false })))
  end)

  it("denies commitments under a policy whose schema version it does not know", function()
    for version, allowed in pairs({ [0] = false, [1] = true, [3] = true, [4] = false }) do
      open(nil, { policy = { policy_id = "p", mode = "*", schema_version = version, rules = {} } })
      local verdict, r = commit("ann")
      assert.equal(allowed and "resolved" or nil, verdict)
      if not allowed then
        assert.same({ "POLICY_DENIED", "schema version " .. version .. " is not supported (1 to 3 are)" },
          { r.code, r.message })
      end
      rev:close()
    end
    rev = nil
  end)

  it("refuses starts by participants and by needs", function()
    local function reason(parts, start)
      local ok, r = open(parts, start)
      local text = ok == true and "ok" or r.message
      rev:close()
      return text
    end
    assert.equal("at least 3 participants are needed, not 2", reason({ rest = "participants = { min = 3 }," }))
    assert.equal("at most 1 participants are allowed, not 2", reason({ rest = "participants = { max = 1 }," }))
    assert.equal("at least 2 participants besides the initiator are needed, not 1",
      reason({ rest = "participants = { others = 2 }," }))
    assert.equal("the initiator must be a participant",
      reason({ rest = "participants = { initiator = 'required' }," }, { initiator = "boss" }))
    assert.equal("the initiator may not be a participant",
      reason({ rest = "participants = { initiator = 'excluded' }," }))
    assert.equal("an intent is given", reason({ messages = [[ Put = { from = "participant" },
      SessionStart = { needs = { { "an intent is given", function(s, p) return p.intent ~= "spec" end } } },]] }))
    assert.equal("ok", reason({ rest = "participants = { min = 3 }," }, { accepted = true }))
    assert.equal("ok", reason({ messages = [[ Put = { from = "participant" },
      SessionStart = { needs = { { "no context", function(s, p) return p.context_id == nil
        and p.extensions == nil end } },
        apply = function(s, p) s.intent = p.intent end },]] }))
    rev = nil
  end)

  it("refuses everything but a commitment beyond the state limit", function()
    rev = modes.build(modes.source(), { limits = { state_bytes = 40 } })
    rev:start("s", modes.start())
    assert.equal("accepted", (put("ann", { key = ("k"):rep(30) })))
    local _, r = put("ann", { key = ("j"):rep(30) })
    assert.equal("session state limit", r.message)
    assert.equal("resolved", (commit("ann")))
  end)

  it("measures what a mode keeps, not what it was sent", function()
    rev = modes.build(modes.source({ state = "{ last = '' }", messages = [[
      Put = { from = "participant", payload = "string key = 1;", apply = function(s, p) s.last = p.key end },]] }),
      { limits = { state_bytes = 4096 } })
    rev:start("s", modes.start())
    for i = 1, 100 do assert.equal("accepted", (put("ann", { key = ("k"):rep(500 + i) }))) end
    local _, r = put("ann", { key = ("k"):rep(4096) })
    assert.equal("session state limit", r.message)
  end)

  it("does not weigh a state of very many values", function()
    rev = modes.build(modes.source({ state = "{ items = {}, list = {} }", messages = [[
      Put = { from = "participant", payload = "string key = 1;", apply = function(s, p)
        for i = 1, 30000 do s.list[i] = i end
      end },]] }), { limits = { state_bytes = 100 } })
    rev:start("s", modes.start())
    assert.equal("accepted", (put("ann", { key = ("k"):rep(90) })))
    local _, r = put("ann", { key = ("k"):rep(90) })
    assert.equal("session state limit", r.message)
  end)

  it("never changes the state by a refusal", function()
    open()
    put("ann", { key = "k", n = 1 })
    local before = rev:state_hash("s")
    put("ann", { key = "k", n = 1 })
    put("eve", { key = "x" })
    put("ann", { key = "y", n = -1 })
    commit("bob")
    assert.equal(before, rev:state_hash("s"))
  end)
end)

describe("timers", function()
  local TIMER = {
    state = "{ items = {}, due = 100, fired = 0 }",
    messages = [[
      Put = { from = "participant", payload = "string key = 1; int64 n = 2;",
        apply = function(s, p, by, c) s.due = c.t + p.n end },
      Tick = { from = "runtime", payload = "int64 n = 1;", apply = function(s, p, by, c)
        s.fired, s.at, s.synthetic = s.fired + 1, c.t, c.synthetic
        s.due = nil
      end },]],
    rest = [[timers = { tick = { prefix = "auto", due = function(s) return s.due end,
      emit = function(s, c) return { type = "Tick", sender = c.initiator, key = s.fired,
        payload = { n = s.fired } } end } },]],
  }

  after_each(function()
    if rev then rev:close() end
    rev = nil
  end)

  it("tell their due time and emit at it", function()
    local ok, due = open(TIMER)
    assert.is_true(ok)
    assert.equal(100, due)
    assert.is_nil(rev:fire("s", 99))
    local message = rev:fire("s", 250)
    assert.equal("Tick", message.type)
    assert.equal("ann", message.sender)
    assert.equal("auto:0", message.message_id)
    assert.equal(100, message.at)
    local verdict, next_due = rev:submit("s", message.type, message.sender, message.payload, message.at, 1)
    assert.equal("accepted", verdict)
    assert.is_nil(next_due)
    assert.same({ 1, 100, true }, { modes.state(rev).fired, modes.state(rev).at, modes.state(rev).synthetic })
  end)

  it("are asked again after every accepted message", function()
    open(TIMER)
    local verdict, due = put("ann", { n = 7 })
    assert.equal("accepted", verdict)
    assert.equal(12, due)
  end)

  it("reserve their message ids", function()
    open(TIMER)
    assert.is_true(rev:is_reserved_id("auto:x"))
    assert.is_false(rev:is_reserved_id("automatic"))
    assert.is_false(rev:is_reserved_id("Auto:x"))
  end)

  it("report one that fires without end", function()
    open({ state = "{ items = {}, n = 0 }", messages = [[
      Tick = { from = "runtime", apply = function(s) s.n = s.n + 1 end },]],
      rest = [[timers = { tick = { due = function() return 1 end,
        emit = function(s, c) return { type = "Tick", sender = c.initiator, key = s.n } end } },]] })
    local err
    for _ = 1, 20 do
      local message, problem = rev:fire("s", 10)
      if problem then
        err = problem
        break
      end
      rev:submit("s", message.type, message.sender, message.payload, message.at, 1)
    end
    assert.truthy(err and err.error.text:find("fired more than 16 times", 1, true))
    assert.is_true(err.author_error)
  end)

  it("report an emission of a type that nobody may emit", function()
    open({ messages = [[ Put = { from = "participant" }, Tick = { from = "runtime" },]],
      rest = [[timers = { tick = { due = function() return 1 end,
        emit = function() return { type = "Put", sender = "ann", key = 1 } end } },]] })
    local message, err = rev:fire("s", 10)
    assert.is_nil(message)
    assert.truthy(err.error.text:find("no 'runtime' in its from", 1, true))
  end)
end)
