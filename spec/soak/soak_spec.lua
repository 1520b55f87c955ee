-- Minutes of mixed traffic over all modes on the real program, with followers and watchers, and kill -9 in between:
-- nothing acknowledged is lost, nobody falls behind, memory stays flat. SOAK_MINUTES sets how long (10).

local crypto = require("host.crypto")
local fetch = require("host.fetch")
local fs = require("host.fs")
local sys = require("host.sys")
local task = require("host.task")

local client = require("spec.support.runtime_client")
local fixtures = require("spec.support.conformance")
local ports = require("spec.support.ports")
local system = require("spec.support.system")

local MINUTES = tonumber(sys.env("SOAK_MINUTES")) or 10
local LIVES = 4
local WORKERS, CHECKERS = 12, 8
local WARM_SHARE = 0.3 -- of a life: what finished sessions and caches take has settled by then
local GROWTH, GROWTH_MIB = 1.25, 24
local SLOW_MS = system.is_slow and 20000 or 5000
local PACE_MS, NOTICE_MS = 10, 20
local CHAT = "ext.soak.v1" -- the registered mode
local SERVED = {}
for _, mode in ipairs({ "macp.mode.decision.v1", "macp.mode.proposal.v1", "macp.mode.task.v1", "macp.mode.handoff.v1",
  "macp.mode.quorum.v1", "ext.multi_round.v1" }) do
  SERVED[mode] = true
end

---@class Soak what a run counts
local function new_soak(list)
  return { list = list, acked = 0, refused = 0, sessions = 0, resumed = 0, followed = 0, events = 0, signals = 0,
    slowest_ms = 0, late_ms = 0, checked = 0, books = {}, modes = {}, ended = false }
end

-- How late this process itself gets to run: what a message waits for that is not the program's doing. (yields)
local function notice_lateness(soak)
  while not soak.ended do
    local began = sys.mono_ms()
    task.sleep(NOTICE_MS)
    soak.late_ms = math.max(soak.late_ms, sys.mono_ms() - began - NOTICE_MS)
  end
  return true
end

-- A run of the registered mode, as if there were a fixture of it.
local function chat_item()
  local item = { id = crypto.uuid4(), name = "chat", doc = { mode = CHAT, initiator = "boss", messages = {} } }
  for i = 1, 6 do item.doc.messages[i] = { sender = i % 2 == 0 and "ann" or "bob", expect = "accept" } end
  item.envelope = function(i)
    return client.envelope({ mode = CHAT, session_id = item.id, message_type = "Ping", message_id = "m" .. i,
      payload = crypto.random(64) })
  end
  item.start = client.start_envelope(item.id, { participants = { "ann", "bob" }, ttl_ms = 3600000,
    mode_version = "1.0.0" }, { mode = CHAT })
  return item
end

local function next_item(soak, number)
  local n = number % (#soak.list + 1)
  if n == 0 then return chat_item() end
  local from = soak.list[n]
  return { id = crypto.uuid4(), name = from.name, doc = from.doc }
end

-- Sends until somebody answers, over restarts: the same id again is a duplicate at most. (yields)
local function deliver(soak, sender, envelope)
  while true do
    local rig = soak.rig
    local began = sys.mono_ms()
    local response, err = nil, { code = "RPC" }
    if rig then response, err = rig:call(sender, "Send", { envelope = envelope }) end
    if response then
      if rig == soak.rig then soak.slowest_ms = math.max(soak.slowest_ms, sys.mono_ms() - began) end
      return response.ack
    end
    assert(err.code == "RPC", err.message)
    soak.resumed = soak.resumed + 1
    task.sleep(100)
  end
end

-- Follows one session, over restarts, until settle() ends it. (yields)
local function follow(soak, book)
  while not book.settled do
    local rig = soak.rig
    if rig then
      local stream = rig:stream(book.initiator)
      book.stream = stream
      stream:subscribe(book.id, #book.seen)
      while true do
        local response, err = stream:read()
        if response == nil then
          assert(err == nil or err.status ~= 8, "a follower fell behind")
          break
        end
        assert(response.envelope, response.error and response.error.message)
        book.seen[#book.seen + 1] = response.envelope.message_id
        soak.followed = soak.followed + 1
      end
    end
    task.sleep(20)
  end
  assert.same(book.acked, book.seen)
  return true
end

-- Ends a follower when it has seen everything: nothing is sent when a session ends. (yields)
local function settle(soak, book, follower)
  local began = sys.mono_ms()
  while #book.seen < #book.acked do
    if soak.rig == nil then began = sys.mono_ms() end
    assert(sys.mono_ms() < began + SLOW_MS + soak.late_ms, "a follower lags")
    task.sleep(10)
  end
  book.settled = true
  book.stream:cancel()
  assert(follower:join())
end

-- One session from start to end. (yields)
local function converse(soak, number)
  local item = next_item(soak, number)
  local book = { id = item.id, mode = item.doc.mode, initiator = item.doc.initiator, acked = {}, seen = {} }
  local ack = deliver(soak, item.doc.initiator, item.start or fixtures.start_of(item))
  assert(ack.ok, item.name .. ": " .. (ack.error and ack.error.message or ""))
  book.acked[1] = "start"
  soak.sessions, soak.modes[book.mode] = soak.sessions + 1, (soak.modes[book.mode] or 0) + 1
  soak.books[book.id] = book
  local follower = number % 3 == 0 and task.spawn(follow, soak, book)
  for i, message in ipairs(item.doc.messages) do
    local envelope = item.envelope and item.envelope(i) or fixtures.envelope_of(item, i)
    ack = deliver(soak, message.sender, envelope)
    assert(ack.ok == (message.expect == "accept"), string.format("%s: message %d: %s", item.name, i,
      ack.error and ack.error.message or "accepted"))
    if ack.ok then
      book.acked[#book.acked + 1] = envelope.message_id
      soak.acked = soak.acked + 1
    else
      soak.refused = soak.refused + 1
    end
    task.sleep(PACE_MS)
  end
  if number % 5 == 0 then
    soak.signals_sent = (soak.signals_sent or 0) + 1
    deliver(soak, "ann", client.envelope({ mode = "", session_id = "", message_type = "Signal",
      message_id = "s" .. number }))
  end
  local response
  while response == nil do
    local rig = soak.rig
    response = rig and rig:call(item.doc.initiator, "CancelSession", { session_id = book.id, reason = "done" })
    if response == nil then task.sleep(100) end
  end
  assert(response.ack.ok)
  book.done = true
  if follower then settle(soak, book, follower) end
end

local function work(soak, worker)
  local number = worker
  while not soak.ended do
    converse(soak, number)
    number = number + WORKERS
  end
  return true
end

-- Watches until the run ends, over restarts. (yields)
local function watch(soak, method, field)
  while not soak.ended do
    local rig = soak.rig
    if rig then
      local stream = rig:watch("boss", method)
      while true do
        local response, err = stream:read()
        if response == nil then
          assert(err == nil or err.status ~= 8, method .. " fell behind")
          break
        end
        soak[field] = soak[field] + 1
      end
    end
    task.sleep(50)
  end
  return true
end

-- Every session chosen has exactly what was acknowledged, or one more that was not answered. (yields)
local function check(world, soak, is_chosen)
  local books, checkers, at = {}, {}, 0
  for _, book in pairs(soak.books) do
    if is_chosen(book) then books[#books + 1] = book end
  end
  for c = 1, CHECKERS do
    checkers[c] = task.spawn(function()
      while at < #books do
        at = at + 1
        local book = books[at]
        local ids = world:history(book.id, book.initiator)
        for i, name in ipairs(book.acked) do assert.equal(name, ids[i]) end
        assert.is_true(#ids - #book.acked <= 1)
        soak.checked = soak.checked + 1
        if book.done then soak.books[book.id] = nil end
      end
      return true
    end)
  end
  for _, checker in ipairs(checkers) do assert(checker:join()) end
end

local function is_done(book) return book.done == true end

local function is_under_way(book) return not book.done end

local function metric(port, name)
  local body = tostring(assert(fetch.request({ url = "http://127.0.0.1:" .. port .. "/metrics" })).body)
  local sum = 0
  for value in body:gmatch("\n" .. name .. "{?[^\n]-}? ([%d%.]+)") do sum = sum + tonumber(value) end
  return sum
end

describe("a soak of " .. MINUTES .. " minutes", function()
  it("loses nothing, lags nowhere and takes no more memory", function()
    local list = fixtures.load_all("spec/conformance/fixtures", SERVED)
    local policies, port, soak = fixtures.policy_dir(list), ports.free(), new_soak(list)
    system.with({ database = false, role = "runtime", env = {
      MACP_POLICIES_DIR = policies, MACP_METRICS_ADDR = "127.0.0.1:" .. port, MACP_LOG_LEVEL = "warn",
      MACP_SESSION_RETENTION_SECS = "5", MACP_CLEANUP_INTERVAL_SECS = "5",
      -- The check after a life reads all of its sessions, which takes a share of the next; older ones go meanwhile.
      MACP_SESSION_DISK_RETENTION_SECS = tostring(math.ceil(MINUTES * 60 / LIVES * 1.5) + 60),
    } }, function(world)
      soak.rig = world:client()
      assert(soak.rig:call("boss", "RegisterExtMode", { mode_descriptor = { mode = CHAT, mode_version = "1.0.0",
        message_types = { "SessionStart", "Ping", "Commitment" }, terminal_message_types = { "Commitment" } } }).ok)
      local tasks = { task.spawn(watch, soak, "WatchSessions", "events"), task.spawn(watch, soak, "WatchSignals",
        "signals") }
      tasks[3] = task.spawn(notice_lateness, soak)
      for worker = 1, WORKERS do tasks[#tasks + 1] = task.spawn(work, soak, worker) end
      local life_ms, lag = MINUTES * 60000 / LIVES, 0
      for life = 1, LIVES do
        local first = world:rss_mib()
        task.sleep(life_ms * WARM_SHARE)
        local warm = world:rss_mib()
        task.sleep(life_ms * (1 - WARM_SHARE))
        local finally = world:rss_mib()
        lag = lag + metric(port, "[%w_]*lagged_streams_total")
        print(string.format("soak: life %d: %.1f -> %.1f -> %.1f MiB, %d sessions, %d acknowledged, %d refused, "
          .. "slowest %d ms, this process late by %d ms", life, first, warm, finally, soak.sessions, soak.acked,
          soak.refused, soak.slowest_ms, soak.late_ms))
        assert.is_true(system.is_slow or finally < warm * GROWTH + GROWTH_MIB, warm .. " -> " .. finally .. " MiB")
        assert.is_nil(world.program.status)
        for _, running in ipairs(tasks) do
          if running:status() == "failed" then assert(running:join()) end
        end
        if life == LIVES then soak.ended = true end
        soak.rig = nil
        if life < LIVES then
          world:crash()
          world:disconnect()
          world:serve()
          check(world, soak, is_under_way)
          soak.rig = world:client()
          -- Beside the traffic: to read them all takes longer than the sessions under way may live.
          check(world, soak, is_done)
        end
      end
      soak.rig = world:client()
      for i = 3, #tasks do assert(tasks[i]:join()) end
      check(world, soak, is_done)
      assert.is_nil(next(soak.books))
      soak.rig = nil
      world:stop()
      for i = 1, 2 do assert(tasks[i]:join()) end
      print(string.format("soak: %d sessions, %d acknowledged, %d refused, %d followed, %d events, %d of %d signals, "
        .. "%d histories checked, %d calls repeated", soak.sessions, soak.acked, soak.refused, soak.followed,
        soak.events, soak.signals, soak.signals_sent or 0, soak.checked, soak.resumed))
      assert.equal(0, lag)
      assert.is_true(soak.slowest_ms - soak.late_ms < SLOW_MS, soak.slowest_ms .. " ms for a message")
      SERVED[CHAT] = true
      for mode in pairs(SERVED) do assert.is_true((soak.modes[mode] or 0) > 0, "no session of " .. mode) end
    end)
    fs.remove_tree(policies)
  end)
end)
