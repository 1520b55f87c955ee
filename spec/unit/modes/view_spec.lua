local json = require("host.json")

local modes = require("spec.support.modes")

local rev

local PUT = [==[
  Put = { from = "participant",
    payload = [[ string key = 1 [new = items]; string secret = 2; bytes raw = 3; int64 big_number = 4;
    repeated string tags = 5; ]], apply = function(s, p, by) s.items[p.key] = { by = by, secret = p.secret } end },
  Get = { from = "participant", payload = "string key = 1 [ref = items]; string note = 2;" },
  Say = { from = "participant", payload = "string text = 1;" },]==]

local function open(files, parts)
  parts = parts or { messages = PUT }
  files = files or {}
  files["mode.lua"] = modes.source(parts)
  rev = modes.build(files)
  assert(rev:start("s", modes.start()))
end

local function observe(name, payload, id)
  return rev:observe("s", name, "ann", modes.encode(rev, name, payload or {}), 7, id or "m1",
    "2031-01-01T00:00:00.000Z")
end

local function view()
  return json.decode((rev:render("s")))
end

describe("observed messages", function()
  after_each(function()
    if rev then rev:close() end
    rev = nil
  end)

  it("are applied and shown in lowerCamelCase, without zero values, bytes as base64", function()
    open()
    local payload = observe("Put", { key = "k", secret = "x", raw = "\0\1", big_number = 2 ^ 53, tags = { "a" } })
    assert.same({ key = "k", secret = "x", raw = "AAE=", bigNumber = 2 ^ 53, tags = { "a" } }, json.decode(payload))
    assert.equal("{}", (observe("Say")))
    assert.equal("ann", modes.state(rev).items.k.by)
  end)

  it("become derived events by the field list", function()
    open()
    local _, events = observe("Put", { key = "k", secret = "x" })
    assert.same({ { type = "proposal.created", kind = "proposal", id = "k", label = "Put: x" } }, events)
    _, events = observe("Get", { key = "k" })
    assert.same({ { type = "proposal.updated", kind = "proposal", id = "k", label = "Get" } }, events)
    _, events = observe("Say", { text = "hi" }, "m9")
    assert.same({ { type = "proposal.updated", kind = "proposal", id = "m9", label = "Say: hi" } }, events)
  end)

  it("become the events of the normalizer, hidden fields removed", function()
    open({ ["normalizer.lua"] = [[
      return {
        events = {
          Put = { { "proposal.created", kind = "item", id = "key", label = "stored", vote = "allow", confidence = 0.5,
                    data = function(p, by, s, c) return { by = by, id = c.message_id, at = c.time,
                      ctx = c.context_id } end },
                  { "ext.spec.put", id = function(p, by, s) return by .. "/" .. p.key end,
                    vote = function(p) return p.secret == "no" and "deny" or nil end } },
        },
        hide = { Put = { "secret" } },
      }]] })
    local payload, events = observe("Put", { key = "k", secret = "no" })
    assert.equal('{"key":"k"}', payload)
    assert.equal(2, #events)
    assert.same({ "proposal.created", "item", "k", "stored", "allow", 0.5 },
      { events[1].type, events[1].kind, events[1].id, events[1].label, events[1].vote, events[1].confidence })
    assert.same({ by = "ann", id = "m1", at = "2031-01-01T00:00:00.000Z", ctx = "ctx" }, json.decode(events[1].data))
    assert.same({ "ext.spec.put", "ann/k", "deny" }, { events[2].type, events[2].id, events[2].vote })
    assert.same({ items = { k = { by = "ann" } }, list = {} }, view().view)
  end)

  it("turn a commitment into decision.finalized with its polarity", function()
    open()
    local bytes = modes.commitment(rev, { action = "spec.rejected", outcome_positive = false,
      supersedes = { session_id = "s0", commitment_hash = "h" } })
    local payload, events = rev:observe("s", "Commitment", "ann", bytes, 9, "m2")
    assert.same({ commitmentId = "c1", action = "spec.rejected", authorityScope = "spec", reason = "spec",
      modeVersion = "1.0.0", configurationVersion = "cfg", outcomePositive = false,
      supersedes = { sessionId = "s0", commitmentHash = "h" } }, json.decode(payload))
    assert.same({ { type = "decision.finalized", kind = "decision", id = "c1", label = "spec.rejected" } }, events)
  end)

  it("that cannot be read degrade the view and nothing else", function()
    open()
    local payload, events, reason = rev:observe("s", "Put", "ann", "\255", 1, "m1")
    assert.is_nil(payload)
    assert.same({}, events)
    assert.truthy(reason:find("Put", 1, true))
    assert.is_true(view().degraded)
    assert.truthy(view().error:find("Put", 1, true))
    assert.is_string((observe("Put", { key = "k" })))
  end)

  it("of a session that was never started are still readable", function()
    open()
    local payload, events, reason = rev:observe("other", "Put", "ann", modes.encode(rev, "Put", { key = "k" }), 1, "m1")
    assert.equal('{"key":"k"}', payload)
    assert.same({}, events)
    assert.truthy(reason:find("not loaded", 1, true))
  end)

  it("tell the polarity of commitments whose sender did not", function()
    open(nil, { messages = PUT,
      outcomes = "outcomes = { { action = 'spec.sunk', positive = false }, { action = 'spec.up', positive = true } }," }
    )
    local function polarity(action)
      local bytes = modes.commitment(rev, { action = action, outcome_positive = false })
      return json.decode((rev:observe("s", "Commitment", "ann", bytes, 9, "m2"))).outcomePositive
    end
    assert.is_true(polarity("x.accepted"))
    assert.is_false(polarity("x.declined"))
    assert.is_false(polarity("spec.sunk"))
    assert.is_true(polarity("spec.up"))
    assert.is_nil(polarity("x.other"))
  end)

  it("of an unknown type are no failure of the mode", function()
    open()
    local payload, events, reason = rev:observe("s", "Signal", "ann", "x", 1, "m1")
    assert.is_nil(payload)
    assert.same({}, events)
    assert.truthy(reason:find("Signal", 1, true))
    assert.is_false(view().degraded)
  end)

  it("survive a failing normalizer: the state advances, the error is told", function()
    open({ ["normalizer.lua"] = [[return { events = {
      Put = { 'proposal.created', label = function(p) return p.no.x end } } }]] })
    local payload, _, reason = observe("Put", { key = "k" })
    assert.equal('{"key":"k"}', payload)
    assert.truthy(reason:find("normalizer.lua:2", 1, true), reason)
    assert.is_not_nil(modes.state(rev).items.k)
    assert.is_false(view().degraded)
  end)

  it("survive a failing apply and mark the view", function()
    open(nil, { messages = [[ Put = { from = "participant", payload = "string key = 1;",
      apply = function(s) s.a = s.b.c end },]] })
    local _, _, reason = observe("Put")
    assert.truthy(reason:find("messages.Put.apply", 1, true))
    assert.is_true(view().degraded)
  end)
end)

describe("the projection of a mode", function()
  after_each(function()
    if rev then rev:close() end
    rev = nil
  end)

  it("has identity, readiness, timers and the rendered view", function()
    open({ ["reducer.lua"] = [[return {
      render = function(s, c) return { n = c.n, extra = c.extra } end,
      summary = function(s, c) return "for " .. c.initiator end,
      graph = function() return { nodes = { { id = "x" } }, edges = {} } end,
      reduce = { ["signal.emitted"] = function(extra, event) extra.n = (extra.n or 0) + event.data.by end },
    }]] }, { messages = [[ Put = { from = "participant" }, Tick = { from = "runtime" },]],
      rest = [[timers = { tick = { due = function() return 500 end, emit = function() end } },]] })
    local shown = view()
    assert.same({ "ext.spec.v1", "1.0.0", rev.hash }, { shown.id, shown.version, shown.revision })
    assert.same({ positive = true, negative = false }, shown.ready)
    assert.same({ tick = 500 }, shown.timers)
    assert.same({ n = 2, extra = {} }, shown.view)
    assert.same({ { id = "x" } }, shown.graph.nodes)
    assert.same({ tick = 1500 }, json.decode((rev:render("s", nil, 1000))).timers)
    assert.equal("for ann", rev:summary("s"))
    assert.is_false((rev:reduce("s", '{"type":"tool.called"}')))
    rev:reduce("s", '{"type":"signal.emitted","data":{"by":2}}')
    local changed, extra = rev:reduce("s", '{"type":"signal.emitted","data":{"by":3}}')
    assert.is_true(changed)
    assert.equal('{"n":5}', extra)
    assert.equal(5, view().view.extra.n)
    local bytes = rev:encode("s")
    rev:drop("s")
    rev:restore("s", modes.start(), bytes)
    assert.equal(5, view().view.extra.n)
  end)

  it("says where a failing reducer fails", function()
    open({ ["reducer.lua"] = "return {\n render = function(s) return s.a.b end }" })
    local text, err = rev:render("s")
    assert.equal("spec/reducer.lua", err.file)
    assert.equal(2, err.line)
    assert.truthy(json.decode(text).error:find("reducer.lua:2", 1, true))
  end)

  it("filters and shapes deliveries, and delivers as is when that fails", function()
    open({ ["webhook.lua"] = [[return {
      filter = function(event, s) return event.type ~= "quiet" end,
      shape = function(event, s) if event.type == "bad" then return s.a.b end return { was = event.type } end }]] })
    assert.is_false((rev:webhook("s", '{"type":"quiet"}')))
    local deliver, data = rev:webhook("s", '{"type":"loud"}')
    assert.is_true(deliver)
    assert.equal('{"was":"loud"}', data)
    deliver, data = rev:webhook("s", '{"type":"bad"}')
    assert.is_true(deliver)
    assert.is_nil(data)
  end)

  it("answers routes, asking the host for what it may not read itself", function()
    open({ ["routes.lua"] = [[return {
      { "GET /state/:name", handler = function(req) return { req.params.name, req.view.list, req.query.q } end },
      { "GET /runs", scope = "mode", summary = "runs", query = "int32 limit = 1;", handler = function(req)
        local out = {}
        for i, run in ipairs(req.ask("runs.list", { limit = 2 }).data) do
          local view, err = req.ask("runs.view", { id = run })
          out[i] = view and view.v or err.code
        end
        return out, 201
      end },
      { "GET /none", handler = function() return nil, { "NOT_FOUND", "no such thing" } end },
      { "GET /fail", handler = function(req) return req.a.b end },
    }]] })
    local routes = rev:routes()
    assert.same({ "/runs", "mode", "runs", 2 }, { routes[2].path, routes[2].scope, routes[2].summary, routes[2].index })
    local status, body = rev:route("s", 1, { params = { name = "x" }, query = { q = "1" } })
    assert.equal(200, status)
    assert.equal('["x",{},"1"]', body)
    local asked = {}
    status, body = rev:route(nil, 2, {}, function(op, args)
      asked[#asked + 1] = op
      if op == "runs.list" then return { data = { "a", "b" } } end
      if args.id == "b" then return nil, { code = "FORBIDDEN", message = "no" } end
      return { v = 1 }
    end)
    assert.equal(201, status)
    assert.equal('[1,"FORBIDDEN"]', body)
    assert.same({ "runs.list", "runs.view", "runs.view" }, asked)
    local none, err = rev:route("s", 3, {})
    assert.is_nil(none)
    assert.same({ code = "NOT_FOUND", message = "no such thing" }, err)
    none, err = rev:route("s", 4, {})
    assert.is_nil(none)
    assert.equal("INTERNAL_ERROR", err.code)
    assert.equal("spec/routes.lua", err.file)
  end)
end)

describe("a session's bytes", function()
  after_each(function()
    if rev then rev:close() end
    rev = nil
  end)

  it("restore to the same hash and the same future", function()
    open(nil, {})
    for i = 1, 20 do
      assert(rev:submit("s", "Put", "ann", modes.encode(rev, "Put", { key = "k" .. i, n = i }), i))
    end
    local bytes, hash = rev:encode("s"), rev:state_hash("s")
    assert.is_true((rev:restore("t", modes.start(), bytes)))
    assert.equal(hash, rev:state_hash("t"))
    assert.equal(bytes, rev:encode("t"))
    local more = modes.encode(rev, "Put", { key = "more", n = 1 })
    assert(rev:submit("s", "Put", "bob", more, 30))
    assert(rev:submit("t", "Put", "bob", more, 30))
    assert.equal(rev:encode("s"), rev:encode("t"))
  end)

  it("are the same after a replay in one batch", function()
    open(nil, {})
    local packed = {}
    for i = 1, 20 do
      local bytes = modes.encode(rev, "Put", { key = "k" .. i, n = i })
      assert(rev:submit("s", "Put", "ann", bytes, i))
      for _, value in ipairs({ "Put", "ann", bytes, i, 0 }) do packed[#packed + 1] = value end
    end
    assert(rev:start("t", modes.start()))
    assert.equal(20, (rev:apply_many("t", packed)))
    assert.equal(rev:encode("s"), rev:encode("t"))
    packed[8] = "\255"
    assert(rev:start("u", modes.start()))
    local count, err, index = rev:apply_many("u", packed)
    assert.is_nil(count)
    assert.truthy(err.message:find("Put", 1, true))
    assert.equal(2, index)
  end)

  it("refuse what is not a state", function()
    open(nil, {})
    local ok, err = rev:restore("t", modes.start(), "nonsense")
    assert.is_nil(ok)
    assert.truthy(err.message:find("stored state", 1, true))
    rev:drop("t")
    rev:drop("never was")
  end)
end)

describe("the description of a revision", function()
  it("has descriptor, messages, authority and proto", function()
    open()
    local described = rev:describe()
    assert.same({ "participant" }, described.authority.Put)
    assert.same({ "committer" }, described.authority.Commitment)
    assert.equal("raw", described.messages.Put.fields[3].name)
    assert.truthy(described.proto:find("message PutPayload {\n  string key = 1;", 1, true))
    assert.equal("ext.spec.v1", described.descriptor.mode)
    local codec = rev:codec("Put")
    local bytes = codec:encode({ key = "k", raw = "\1" })
    assert.equal(modes.encode(rev, "Put", { key = "k", raw = "\1" }), bytes)
    assert.equal("k", codec:decode(bytes).key)
    assert.is_nil(rev:codec("Nope"))
    rev:close()
    rev = nil
  end)
end)
