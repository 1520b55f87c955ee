-- The real program under a wall clock that is set forward and back by hours (spec/support/wall_clock.c, preloaded): what
-- sessions live by is the recorded time, which never falls.

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local program = require("spec.support.program")
local system = require("spec.support.system")

local crypto = require("host.crypto")
local fs = require("host.fs")
local sys = require("host.sys")

local HOUR = 3600000
local OPEN, EXPIRED, CANCELLED = 1, 3, 5
local LIBRARY = sys.executable():match("^(.*)/") .. "/spec/wall_clock.so"

-- Eight bytes, the lowest first, as the processors have them that this runs on.
local function int64(value)
  local out = {}
  for i = 1, 8 do
    out[i] = string.char(value % 256)
    value = math.floor(value / 256)
  end
  return table.concat(out)
end

local function why_not()
  if system.is_slow then return "the runtime of a sanitizer has to be the first library of a program" end
  local library = io.open(LIBRARY, "rb")
  if library == nil then return LIBRARY .. " is not built" end
  library:close()
  return nil
end

local reason = why_not()
if reason then
  describe("a program whose wall clock is set", function() pending("needs a preloaded clock: " .. reason) end)
  return
end

describe("a program whose wall clock is set", function()
  local dir, proc, calls

  local function boot(more)
    local env = {
      LD_PRELOAD = LIBRARY, WALL_CLOCK_FILE = dir .. "/offset", MACP_ENV = "development", MACP_LOG_FORMAT = "json",
      MACP_ALLOW_INSECURE = "1", MACP_BIND_ADDR = "127.0.0.1:0", MACP_DATA_DIR = dir .. "/data",
      MACP_CLEANUP_INTERVAL_SECS = "1",
    }
    for name, value in pairs(more or {}) do env[name] = value end
    proc = program.start({ args = { "runtime" }, env = env })
    calls = client.connect("127.0.0.1:" .. proc:wait_line("ready.*runtime 127%.0%.0%.1:(%d+)"))
  end

  local function stop()
    calls.channel:close()
    proc:kill("TERM")
    assert.equal(0, proc:wait(15000).code)
  end

  -- Sets the clock while the program stands still.
  local function set(ms)
    proc:kill("STOP")
    local file = assert(io.open(dir .. "/offset", "r+b"))
    file:write(int64(ms))
    file:close()
    proc:kill("CONT")
  end

  before_each(function()
    dir = assert(fs.temp_dir("macp-wall-clock-"))
    assert(fs.write(dir .. "/offset", int64(0)))
  end)
  after_each(function()
    stop()
    fs.remove_tree(dir)
  end)

  local function start(fields, changes)
    local id = crypto.uuid4()
    local ack = calls:send("boss", client.start_envelope(id, fields, changes))
    assert.is_true(ack.ok, ack.error and ack.error.message)
    return id, ack
  end

  local function propose(id, name)
    return calls:send("ann", client.envelope({ session_id = id, message_id = name,
      payload = client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = name, option = "A" }) }))
  end

  local function metadata(id) return assert(calls:call("boss", "GetSession", { session_id = id })).metadata end

  it("back takes nothing back, and forward again ends nothing early", function()
    boot()
    local id, ack = start({ ttl_ms = HOUR })
    local deadline = metadata(id).expires_at_unix_ms
    set(-5 * HOUR)
    local late = propose(id, "m1")
    assert.is_true(late.ok)
    assert.is_true(late.accepted_at_unix_ms >= ack.accepted_at_unix_ms)
    assert.equal(deadline, metadata(id).expires_at_unix_ms)
    local other, earlier = start({ ttl_ms = HOUR })
    assert.is_true(earlier.accepted_at_unix_ms <= sys.now_ms() - 4 * HOUR) -- the program does live then
    set(0)
    assert.same({ OPEN, EXPIRED }, { metadata(id).state, metadata(other).state })
    assert.is_true(propose(id, "m2").ok)
  end)

  it("forward ends what is over, back again does not open it, nor does a restart", function()
    boot()
    local id = start({ ttl_ms = HOUR })
    local long = start({ ttl_ms = 24 * HOUR })
    set(2 * HOUR)
    assert.equal("SESSION_NOT_OPEN", propose(id, "m1").error.code)
    set(0)
    assert.same({ EXPIRED, OPEN }, { metadata(id).state, metadata(long).state })
    stop()
    boot()
    assert.same({ EXPIRED, OPEN }, { metadata(id).state, metadata(long).state })
    assert.is_true(propose(long, "m1").ok)
  end)

  it("during a suspension banks what it shows, never less than nothing", function()
    boot()
    local id = start({ ttl_ms = HOUR, max_suspend_ms = 4 * HOUR })
    local deadline = metadata(id).expires_at_unix_ms
    assert.is_true(calls:call("boss", "SuspendSession", { session_id = id }).ack.ok)
    set(-5 * HOUR)
    assert.equal(OPEN, calls:call("boss", "ResumeSession", { session_id = id }).ack.session_state)
    assert.equal(deadline, metadata(id).expires_at_unix_ms)
    set(0)
    assert.is_true(calls:call("boss", "SuspendSession", { session_id = id }).ack.ok)
    set(2 * HOUR)
    assert.equal(OPEN, calls:call("boss", "ResumeSession", { session_id = id }).ack.session_state)
    local banked = metadata(id).expires_at_unix_ms - deadline
    assert.is_true(banked >= 2 * HOUR and banked < 3 * HOUR, tostring(banked))
    assert.is_true(calls:call("boss", "SuspendSession", { session_id = id }).ack.ok)
    set(7 * HOUR)
    eventually(function() return metadata(id).state == EXPIRED end, 5000, "the end of the suspension")
  end)

  it("back by hours collects nothing that is young, forward what is old", function()
    boot({ MACP_SESSION_RETENTION_SECS = "0", MACP_SESSION_DISK_RETENTION_SECS = "3600" })
    local id = start({ ttl_ms = HOUR })
    assert.is_true(calls:call("boss", "CancelSession", { session_id = id }).ack.ok)
    set(-5 * HOUR)
    local young = start({ ttl_ms = HOUR })
    assert.is_true(calls:call("boss", "CancelSession", { session_id = young }).ack.ok)
    assert.same({ CANCELLED, CANCELLED }, { metadata(id).state, metadata(young).state })
    set(2 * HOUR)
    eventually(function()
      local _, err = calls:call("boss", "GetSession", { session_id = id })
      return err and err.status == 5
    end, 10000, "the clean-up of storage")
  end)
end)
