-- The power of the whole program is cut: what it wrote is recorded, and it starts again on what may be left after any of
-- its system calls, in every store of this machine. What was acknowledged until then is there: envelopes, ends of
-- sessions whose histories are dropped, policies, and the mode revisions that sessions depend on.
--
-- TEST_SEED=N repeats the cuts of a run, TEST_LONG=1 makes many.

local crypto = require("host.crypto")
local fs = require("host.fs")
local sys = require("host.sys")
local task = require("host.task")

local acceptance = require("spec.support.acceptance")
local client = require("spec.support.runtime_client")
local power_cut = require("spec.support.power_cut")
local random = require("spec.support.random")
local stores = require("spec.support.stores")
local syscalls = require("spec.support.syscalls")
local system = require("spec.support.system")

local SEED = require("spec.support.seed")
local CUTS = sys.env("TEST_LONG") == "1" and 150 or (system.is_slow and 3 or 7)
local LYING_CUTS = 5
local MESSAGES, OTHERS = 60, 12
local OPEN, CANCELLED = 1, 5

local function proposal(id, name)
  return client.envelope({ session_id = id, message_id = name,
    payload = client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = name, option = "A" }) })
end

-- --- what is known on this side of the wire: what was asked for, and when its answer was there ---

local function note(book, kind, id, name) book[#book + 1] = { kind = kind, id = id, name = name, at = sys.now_ms() } end

local function talk(rig, book, id, sender)
  for i = 1, MESSAGES do
    local name = sender .. i
    assert(rig:send(sender, proposal(id, name)).ok)
    note(book, "message", id, name)
  end
  return true
end

local function come_and_go(rig, book)
  for _ = 1, OTHERS do
    local id = crypto.uuid4()
    assert(rig:send("boss", client.start_envelope(id, { ttl_ms = 3600000 })).ok)
    note(book, "message", id, "start")
    assert(rig:send("ann", proposal(id, "p")).ok)
    assert(rig:call("boss", "CancelSession", { session_id = id }).ack.ok)
    note(book, "end", id)
  end
  return true
end

local function register(rig, book)
  for i = 1, 6 do
    assert(rig:call("boss", "RegisterPolicy", { policy_descriptor = { policy_id = "policy.p" .. i, mode = "*",
      rules = "{}", schema_version = 1 } }).ok)
    note(book, "policy", "policy.p" .. i)
  end
  return true
end

-- One life of the program under a recorder, from an empty directory to its end by TERM. (yields)
local function record(store, dir)
  local book, calls, root = {}, dir .. "/calls", dir .. "/live"
  assert(fs.mkdir_p(root))
  local env = { MACP_MEMORY_ONLY = "0", MACP_DATA_DIR = root .. "/data", MACP_COMPACT_TERMINAL = "drop",
    MACP_CHECKPOINT_INTERVAL = "4" }
  for name, value in pairs(store.env) do env[name] = value end
  acceptance.with({ env = env, prefix = power_cut.prefix(calls) }, function(at)
    local id = crypto.uuid4()
    assert(at.rig:send("boss", client.start_envelope(id, { ttl_ms = 3600000 })).ok)
    note(book, "message", id, "start")
    assert(task.group(function(group)
      group:spawn(talk, at.rig, book, id, "ann")
      group:spawn(talk, at.rig, book, id, "bob")
      group:spawn(come_and_go, at.rig, book)
      group:spawn(register, at.rig, book)
    end))
    at.proc:kill("TERM")
    assert(at:wait(20000), "it did not end")
  end)
  return power_cut.read(calls, root), book
end

-- --- what must hold ---

-- What was acknowledged before a moment: per session its envelopes and whether it has ended, and policies.
local function known_at(book, moment_ms)
  local known = { sessions = {}, policies = {} }
  for _, entry in ipairs(book) do
    if entry.at + 1 < moment_ms then -- the clocks count whole milliseconds
      if entry.kind == "policy" then
        known.policies[#known.policies + 1] = entry.id
      else
        local session = known.sessions[entry.id] or { ids = {} }
        known.sessions[entry.id] = session
        if entry.kind == "end" then session.has_ended = true else session.ids[#session.ids + 1] = entry.name end
      end
    end
  end
  return known
end

local function check_session(world, id, session)
  local found = assert(world:client():call("boss", "GetSession", { session_id = id })).metadata
  if session.has_ended then return assert.equal(CANCELLED, found.state) end
  if found.state ~= OPEN then return end -- its end was not acknowledged yet
  local there = {}
  for _, name in ipairs((world:history(id))) do
    assert(not there[name], name .. " is there twice")
    there[name] = true
  end
  for _, name in ipairs(session.ids) do assert(there[name], name .. " was acknowledged and is lost") end
  assert(world:client():send("ann", proposal(id, "after")).ok)
end

local function check(store, data, known, starts_again)
  local env = { MACP_STRICT_RECOVERY = "1" }
  for name, value in pairs(store.env) do env[name] = value end
  system.with({ database = false, role = "runtime", env = env, data = data }, function(world)
    for id, session in pairs(known.sessions) do check_session(world, id, session) end
    for _, id in ipairs(known.policies) do
      assert(world:client():call("boss", "GetPolicy", { policy_id = id }), id .. " was acknowledged and is lost")
    end
    if starts_again then -- what the first start has repaired stays so
      world:disconnect()
      world:crash()
      world:serve()
    end
    world:stop()
  end)
end

-- Makes what is left at a moment, and starts the program on it. (yields)
local function cut(store, dir, recording, book, opts)
  local left, moment = dir .. "/left", opts.moment
  recording:cut(moment, left, opts.dice, opts.lies)
  local ok, err = pcall(check, store, left .. "/data", known_at(book, moment * 1000), opts.starts_again)
  fs.remove_tree(left)
  return ok, err
end

local function first_after(events, moment)
  for i, event in ipairs(events) do
    if event.begun > moment then return i end
  end
end

local function text_of(err) return tostring(type(err) == "table" and err.message or err) end

describe("a power cut", function()
  if not syscalls.available() then
    pending("is tested where programs can be traced (strace)")
    return
  end

  for _, store in ipairs(stores.here()) do
    it(string.format("W2 W4: loses nothing acknowledged: %s, seed %d", store.name, SEED), function()
      local numbers = random.new(SEED)
      local function dice(limit) return numbers:int(1, limit) end
      acceptance.with_dir(function(dir)
        local recording, book = record(store, dir)
        local events = recording.events
        assert.is_true(#events > 200, #events .. " calls were recorded")
        local first = first_after(events, book[1].at / 1000)
        for i = 1, CUTS do -- most of them when something is known
          local at = numbers:int(i % 3 == 0 and 1 or first, #events)
          local ok, err = cut(store, dir, recording, book,
            { moment = events[at].begun, dice = dice, starts_again = i == CUTS })
          if not ok then error(string.format("cut %d, before call %d of %d: %s", i, at, #events, text_of(err)), 0) end
        end
        -- A disk that does not flush is noticed: these checks can fail.
        local is_noticed = false
        for _ = 1, LYING_CUTS do
          is_noticed = is_noticed or not cut(store, dir, recording, book,
            { moment = events[#events].begun, dice = dice, lies = { data = true } })
        end
        assert.is_true(is_noticed)
      end)
    end)
  end
end)
