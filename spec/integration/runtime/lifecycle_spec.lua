local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")

local crypto = require("host.crypto")
local fs = require("host.fs")
local sys = require("host.sys")
local task = require("host.task")

local function propose(rig, id, name, sender)
  return rig:send(sender or "ann", client.envelope({
    session_id = id, message_id = name,
    payload = client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = name, option = "A" }),
  }))
end

local function start(rig, fields, token)
  local id = crypto.uuid4()
  local ack = rig:send(token or "boss", client.start_envelope(id, fields))
  assert.is_true(ack.ok, ack.error and ack.error.message)
  return id
end

local function metadata(rig, id) return assert(rig:call("boss", "GetSession", { session_id = id })).metadata end

local function control(rig, method, id, token) return rig:call(token or "boss", method, { session_id = id }) end

describe("the life of a session", function()
  local rig

  after_each(function()
    if rig then rig:destroy() end
    rig = nil
  end)

  local STATES = {
    open = function() return start(rig) end,
    suspended = function()
      local id = start(rig)
      control(rig, "SuspendSession", id)
      return id
    end,
    cancelled = function()
      local id = start(rig)
      control(rig, "CancelSession", id)
      return id
    end,
    expired = function()
      local id = start(rig, { ttl_ms = 1 })
      eventually(function() return metadata(rig, id).state == 3 end, 2000)
      return id
    end,
  }
  -- state, method, ok, state afterwards, head of the error text
  local REPEATED = {
    { "suspended", "SuspendSession", false, 4, "SessionNotOpen: " },
    { "open", "ResumeSession", false, 1, "SessionNotOpen: " },
    { "cancelled", "SuspendSession", false, 5, "SessionNotOpen: " },
    { "cancelled", "ResumeSession", false, 5, "SessionNotOpen: " },
    { "expired", "SuspendSession", false, 3, "TtlExpired: " }, { "expired", "ResumeSession", false, 3, "TtlExpired: " },
    { "cancelled", "CancelSession", true, 5 }, { "expired", "CancelSession", true, 3 },
    { "suspended", "CancelSession", true, 5 }, { "suspended", "ResumeSession", true, 1 },
  }
  for _, case in ipairs(REPEATED) do
    it(string.format("answers %s of a session that is %s", case[2], case[1]), function()
      rig = assert(client.start())
      local id = STATES[case[1]]()
      local records = rig.role.journal:count(id)
      local ack = assert(control(rig, case[2], id)).ack
      assert.equal(case[3], ack.ok)
      assert.equal("", ack.message_id)
      assert.equal(id, ack.session_id)
      if case[3] then
        assert.equal(case[4], ack.session_state)
      else
        assert.equal("SESSION_NOT_OPEN", ack.error.code)
        assert.equal(case[5], ack.error.message:sub(1, #case[5]))
        assert.equal(records, (rig.role.journal:count(id)))
      end
      assert.equal(case[4], metadata(rig, id).state)
    end)
  end

  it("expires on a resume past the cap, with one event", function()
    rig = assert(client.start())
    local id = start(rig, { max_suspend_ms = 200 })
    local watch = rig:watch("boss", "WatchSessions")
    watch:read()
    control(rig, "SuspendSession", id)
    -- The deadline task would come first: resume while the clock has already passed the cap.
    local now_ms, kernel = sys.now_ms, rig.role.kernel
    kernel.now_ms = function() return now_ms() + 500 end
    local ack = assert(control(rig, "ResumeSession", id)).ack
    kernel.now_ms = now_ms
    assert.equal("SESSION_NOT_OPEN", ack.error.code)
    assert.truthy(ack.error.message:find("TtlExpired", 1, true))
    assert.equal(3, metadata(rig, id).state)
    assert.equal(4, watch:read().event.event_type)
    assert.equal(3, watch:read().event.event_type)
    local other = start(rig)
    assert.equal(other, watch:read().event.session.session_id)
    watch:cancel()
  end)

  it("has at most 1024 suspensions, also after a restart", function()
    rig = assert(client.start())
    local id = start(rig, { ttl_ms = 600000 })
    for _ = 1, 1024 do
      assert.is_true(control(rig, "SuspendSession", id).ack.ok)
      assert.is_true(control(rig, "ResumeSession", id).ack.ok)
    end
    local before = metadata(rig, id)
    local function refused()
      local ack = control(rig, "SuspendSession", id).ack
      assert.equal("SESSION_NOT_OPEN", ack.error.code)
      assert.truthy(ack.error.message:find("1024", 1, true))
    end
    refused()
    rig = rig:again()
    assert.same(before, metadata(rig, id))
    refused()
    assert.is_true(propose(rig, id, "m1").ok)
    local stream = rig:stream("ann")
    stream:subscribe(id, 1)
    assert.same({ "m1" }, stream:ids(1))
    stream:cancel()
  end)

  it("W28: counts for its initiator while it is suspended", function()
    rig = assert(client.start({ env = {
      MACP_AUTH_TOKENS_JSON = '[{"token":"boss","sender":"boss","max_open_sessions":1}]',
    } }))
    local function try() return rig:send("boss", client.start_envelope(crypto.uuid4())) end
    local id = start(rig)
    control(rig, "SuspendSession", id)
    assert.equal("RateLimited: 1 sessions are open already", try().error.message)
    rig = rig:again()
    assert.equal("RATE_LIMITED", try().error.code)
    control(rig, "ResumeSession", id)
    assert.equal("RATE_LIMITED", try().error.code)
    control(rig, "CancelSession", id)
    id = start(rig, { max_suspend_ms = 50 }) -- its place is free when the suspension has outlasted its cap
    control(rig, "SuspendSession", id)
    eventually(function() return try().ok end, 5000, "the place of a session that nobody asked about")
    assert.equal(3, metadata(rig, id).state)
  end)

  it("is in the hands of the initiator and of whom the policy names", function()
    rig = assert(client.start())
    local function register(id, rules)
      local answer = assert(rig:call("boss", "RegisterPolicy", { policy_descriptor = {
        policy_id = id, mode = "*", description = "", rules = rules, schema_version = 1,
      } }))
      assert.is_true(answer.ok, answer.error)
    end
    register("policy.any", '{"commitment":{"authority":"any_participant"}}')
    register("policy.role", '{"commitment":{"authority":"designated_role","designated_roles":["bob"]}}')
    for policy, allowed in pairs({
      ["policy.any"] = { boss = true, ann = true, bob = true }, ["policy.role"] = { boss = true, bob = true },
      ["policy.default"] = { boss = true },
    }) do
      for _, who in ipairs({ "boss", "ann", "bob", "eve" }) do
        local id = start(rig, { policy_version = policy })
        for _, method in ipairs({ "SuspendSession", "ResumeSession", "CancelSession" }) do
          local answer, err = control(rig, method, id, who)
          if allowed[who] then
            assert.is_true(answer.ack.ok)
          else
            assert.equal(7, err.status)
          end
        end
      end
    end
  end)

  for strict, hashes in pairs({
    ["1"] = { [("sha256:" .. ("a"):rep(64))] = true, ["sha256:abc"] = false, [("sha256:" .. ("A"):rep(64))] = false,
      [(" sha256:" .. ("a"):rep(64))] = false },
    ["0"] = { ["anything"] = true, [" "] = false },
  }) do
    it("commits what supersedes another commitment with MACP_STRICT_SUPERSEDES=" .. strict, function()
      rig = assert(client.start({ env = { MACP_STRICT_SUPERSEDES = strict } }))
      for hash, accepted in pairs(hashes) do
        local id = start(rig, { participants = { "boss", "ann" } })
        assert.is_true(propose(rig, id, "p1").ok)
        local ack = rig:send("boss", client.envelope({
          session_id = id, message_id = "c", message_type = "Commitment",
          payload = client.payload("macp.v1.CommitmentPayload", {
            commitment_id = "c", action = "decision.selected", authority_scope = "demo", reason = "so be it",
            mode_version = "1.0.0", configuration_version = "config.default", outcome_positive = true,
            supersedes = { session_id = "before", commitment_hash = hash },
          }),
        }))
        assert.equal(accepted, ack.ok, ack.error and ack.error.message)
        if not accepted then assert.equal("INVALID_ENVELOPE", ack.error.code) end
      end
    end)
  end
end)

describe("a wall clock that jumps", function()
  local now_ms, offset, rig = sys.now_ms, 0, nil

  before_each(function()
    offset = 0
    sys.now_ms = function() return now_ms() + offset end -- luacheck: ignore 122
    rig = assert(client.start({ env = { MACP_MAX_CLOCK_SKEW_MS = "0" } }))
  end)
  after_each(function()
    rig:destroy()
    sys.now_ms = now_ms -- luacheck: ignore 122
  end)

  it("backwards takes nothing back: times do not fall, the deadline stays, a restart changes nothing", function()
    local id = start(rig)
    local first = propose(rig, id, "m1")
    local before = metadata(rig, id)
    offset = -3600000
    local second = propose(rig, id, "m2")
    assert.is_true(second.ok)
    assert.is_true(second.accepted_at_unix_ms >= first.accepted_at_unix_ms)
    assert.equal(before.expires_at_unix_ms, metadata(rig, id).expires_at_unix_ms)
    local facts = metadata(rig, id)
    rig = rig:again({ MACP_MAX_CLOCK_SKEW_MS = "0" })
    assert.same(facts, metadata(rig, id))
    assert.is_true(propose(rig, id, "m3").ok)
  end)

  it("backwards during a suspension banks nothing and ends nothing", function()
    local id = start(rig)
    local deadline = metadata(rig, id).expires_at_unix_ms
    control(rig, "SuspendSession", id)
    offset = -3600000
    assert.equal(1, control(rig, "ResumeSession", id).ack.session_state)
    assert.equal(deadline, metadata(rig, id).expires_at_unix_ms)
  end)

  it("forwards ends what is over, for good", function()
    local id = start(rig)
    offset = 3600000
    local ack = propose(rig, id, "m1")
    assert.equal("SESSION_NOT_OPEN", ack.error.code)
    assert.truthy(ack.error.message:find("TtlExpired", 1, true))
    offset = 0
    assert.equal(3, metadata(rig, id).state)
    rig = rig:again({ MACP_MAX_CLOCK_SKEW_MS = "0" })
    assert.equal(3, metadata(rig, id).state)
  end)

  it("forwards while nobody is there ends it at the next start", function()
    local id = start(rig)
    offset = 3600000
    rig = rig:again({ MACP_MAX_CLOCK_SKEW_MS = "0" })
    eventually(function() return metadata(rig, id).state == 3 end, 2000)
  end)
end)

describe("lists and watches of sessions", function()
  local rig

  after_each(function() rig:destroy() end)

  it("come in pages of the default size when there are more than fit the largest", function()
    rig = assert(client.start({ env = {
      MACP_LIST_SESSIONS_MAX_PAGE_SIZE = "5", MACP_LIST_SESSIONS_DEFAULT_PAGE_SIZE = "2",
    } }))
    local expected = {}
    for _ = 1, 5 do expected[#expected + 1] = start(rig) end
    local page = assert(rig:call("eve", "ListSessions", {}))
    assert.same({ 5, "" }, { #page.sessions, page.next_page_token })
    expected[#expected + 1] = start(rig)
    table.sort(expected)
    assert.equal(2, #assert(rig:call("eve", "ListSessions", {})).sessions)
    page = assert(rig:call("eve", "ListSessions", { page_size = 1000 }))
    assert.equal(5, #page.sessions)
    assert.equal(crypto.base64url_encode("v1:" .. expected[5]), page.next_page_token)
    page = assert(rig:call("eve", "ListSessions", { page_token = page.next_page_token }))
    assert.same({ expected[6], "" }, { page.sessions[1].session_id, page.next_page_token })
    page = assert(rig:call("eve", "ListSessions", { page_token = crypto.base64url_encode("v1:\195\164") }))
    assert.same({ 0, "" }, { #page.sessions, page.next_page_token })
    for _, bad in ipairs({ "v1:x", crypto.base64url_encode("v1:\255"), crypto.base64url_encode("v1:"),
      crypto.base64url_encode("v1:x") .. "=", ("A"):rep(1025) }) do
      local _, err = rig:call("eve", "ListSessions", { page_token = bad })
      assert.same({ 3, "page_token is not valid" }, { err.status, err.message })
    end
  end)

  it("show what existed all the time exactly once while others come and go, and what ran out as expired", function()
    rig = assert(client.start({ env = { MACP_SESSION_RETENTION_SECS = "0" } }))
    local kept, running = {}, true
    for _ = 1, 40 do kept[start(rig)] = 0 end
    local churn = task.spawn(function()
      while running do control(rig, "CancelSession", start(rig)) end
    end)
    local token = ""
    repeat
      local page = assert(rig:call("eve", "ListSessions", { page_size = 3, page_token = token }))
      for _, session in ipairs(page.sessions) do
        local id = session.session_id
        if kept[id] then kept[id] = kept[id] + 1 end
      end
      token = page.next_page_token
    until token == ""
    running = false
    churn:join()
    for _, times in pairs(kept) do assert.equal(1, times) end
  end)

  it("announce every session exactly once to watchers that come at any moment", function()
    rig = assert(client.start())
    local seen, watchers, ids = {}, {}, {}
    local starter = task.spawn(function()
      for i = 1, 60 do ids[i] = start(rig) end
    end)
    for w = 1, 6 do
      task.sleep(3)
      local watch = rig:watch("eve", "WatchSessions")
      seen[w] = {}
      watchers[w] = { watch = watch, task = task.spawn(function()
        while true do
          local response = watch:read()
          if response == nil then return end
          local event = response.event
          assert(event.event_type == 1)
          seen[w][event.session.session_id] = (seen[w][event.session.session_id] or 0) + 1
        end
      end) }
    end
    starter:join()
    for w = 1, 6 do
      eventually(function()
        local n = 0
        for _ in pairs(seen[w]) do n = n + 1 end
        return n == 60
      end, 3000, "60 sessions")
      watchers[w].watch:cancel()
      watchers[w].task:join()
      for _, id in ipairs(ids) do assert.equal(1, seen[w][id]) end
    end
  end)

  it("W18: still show finished sessions after a restart, oldest first, without loading them", function()
    rig = assert(client.start())
    local ids = {}
    for i = 1, 5 do
      ids[i] = start(rig)
      control(rig, "CancelSession", ids[i])
      task.sleep(2)
    end
    rig = rig:again()
    assert.is_true(rig.role.sessions.by_id[ids[1]].is_stub)
    assert.equal(5, #assert(rig:call("eve", "ListSessions", {})).sessions)
    local watch = rig:watch("eve", "WatchSessions")
    for i = 1, 5 do
      local event = assert(watch:read()).event
      assert.same({ 1, ids[i], 5, event.session.started_at_unix_ms }, { event.event_type, event.session.session_id,
        event.session.state, event.observed_at_unix_ms })
    end
    watch:cancel()
  end)

  it("W21: know nothing of sessions that only a refused frame has named", function()
    rig = assert(client.start())
    local stream = rig:stream("eve")
    for _ = 1, 20 do
      stream:write({ envelope = client.envelope({ session_id = "no-session-has-this-id-at-all" }) })
      assert.equal("SESSION_NOT_FOUND", assert(stream:read()).error.code)
    end
    local role = rig.role
    assert.same({ 0, 0, nil }, { role.sessions.count, role.sessions.by_name.count, next(role.sessions.cold.weights) })
    stream:cancel()
  end)
end)

describe("a store with a damaged record", function()
  it("W8: names the session in strict mode, and serves the others otherwise", function()
    local rig = assert(client.start())
    local id, fine = start(rig), start(rig)
    for i = 1, 3 do assert.is_true(propose(rig, id, "m" .. i).ok) end
    rig:stop()
    local path
    for _, entry in ipairs(assert(fs.list(rig.dir .. "/journal"))) do
      local text = fs.read(rig.dir .. "/journal/" .. entry.name)
      local at = text and text:find("\18\2m2", 1, true) or text and text:find("m2", 1, true)
      if at then path = { rig.dir .. "/journal/" .. entry.name, text:sub(1, at - 1) .. "\255" .. text:sub(at + 1) } end
    end
    assert(fs.write(path[1], path[2]))
    local strict, err = client.start({ dir = rig.dir, env = { MACP_STRICT_RECOVERY = "1" } })
    assert.is_nil(strict)
    assert.truthy(err.message:find(id, 1, true) or err.message:find("damaged at offset", 1, true), err.message)
    rig = assert(client.start({ dir = rig.dir }))
    assert.equal(1, metadata(rig, fine).state)
    assert.equal("SESSION_ALREADY_EXISTS", rig:send("boss", client.start_envelope(id)).error.code)
    assert.is_false(propose(rig, id, "m4").ok)
    rig:destroy()
  end)
end)
