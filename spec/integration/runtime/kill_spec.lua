-- The real program, killed at random points under load: what was acknowledged is there, in order, once.

local fs = require("host.fs")
local rpc = require("host.rpc")
local sys = require("host.sys")
local task = require("host.task")

local client = require("spec.support.runtime_client")
local program = require("spec.support.program")
local stores = require("spec.support.stores")

local SEED = require("spec.support.seed")
local ROUNDS = tonumber(sys.env("KILL_ROUNDS") or "6")
local WORKERS = 8

local function start_program(dir, store)
  local run = program.start({
    args = { "runtime", "--log-level", "info" },
    env = {
      MACP_STORAGE_BACKEND = store and store.name, MACP_DATA_DIR = dir, MACP_LOG_FORMAT = "json",
      MACP_ALLOW_INSECURE = "1", MACP_BIND_ADDR = "127.0.0.1:0",
      MACP_MESSAGE_LIMIT_PER_MINUTE = "1000000", MACP_SESSION_START_LIMIT_PER_MINUTE = "1000000",
      MACP_CHECKPOINT_INTERVAL = "16",
    },
  })
  local address = run:wait_line('"address":"([^"]+)"')
  return run, client.connect(address)
end

local function proposal(name)
  return client.payload("macp.modes.decision.v1.ProposalPayload", { proposal_id = name, option = "A" })
end

-- Sends into a session of its own until the program dies. Notes what was acknowledged, and what may or may not be.
local function load_session(rig, id, book, round)
  local mine = book[id]
  for i = 1, 100000 do
    local name = string.format("r%d-%d", round, i)
    local response, err = rig:call("ann", "Send", {
      envelope = client.envelope({ session_id = id, message_id = name, payload = proposal(name) }),
    })
    if response == nil then
      assert(err.code == "RPC", err.message)
      mine.open[name] = true
      return
    end
    assert(response.ack.ok, response.ack.error and response.ack.error.message)
    mine[#mine + 1] = name
  end
end

local function history(rig, id)
  local stream, ids = rig:stream("boss"), {}
  stream:subscribe(id)
  stream:half_close()
  while true do
    local response, err = stream:read()
    if response == nil then
      assert(err == nil, err and err.message)
      return ids
    end
    ids[#ids + 1] = response.envelope.message_id
  end
end

-- Every acknowledged id in order, once; besides those at most what was in flight when the program died.
local function check(rig, book)
  for id, mine in pairs(book) do
    local at, seen = 1, {}
    for index, name in ipairs(history(rig, id)) do
      assert.is_nil(seen[name])
      seen[name] = true
      if index == 1 then
        assert.equal("start", name)
      elseif name == mine[at] then
        at = at + 1
      else
        assert.is_true(mine.open[name], name .. " was neither acknowledged nor in flight")
        table.insert(mine, at, name)
        at = at + 1
      end
    end
    assert.equal(#mine, at - 1)
    if #mine > 0 then
      local ack = rig:send("ann", client.envelope({ session_id = id, message_id = mine[1], payload = "" }))
      assert.is_true(ack.duplicate)
    end
  end
end

describe("kill -9 under load", function()
  for _, store in ipairs(stores.here()) do
    it("loses nothing that was acknowledged: " .. store.name .. ", " .. ROUNDS .. " rounds", function()
      local dir, book = assert(fs.temp_dir("macp-kill-")), {}
      math.randomseed(SEED)
      local run, rig = start_program(dir, store)
      for i = 1, WORKERS do
        local id = string.format("killed-session-%08d", i)
        assert.is_true(rig:send("boss", client.start_envelope(id, { ttl_ms = 3600000 })).ok)
        book[id] = { open = {} }
      end
      for round = 1, ROUNDS do
        local tasks = {}
        for id in pairs(book) do tasks[#tasks + 1] = task.spawn(load_session, rig, id, book, round) end
        task.sleep(math.random(10, 150))
        run:crash()
        for _, running in ipairs(tasks) do running:join() end
        rig.channel:close()
        run, rig = start_program(dir, store)
        check(rig, book)
      end
      rig.channel:close()
      run:kill("TERM")
      assert.equal(0, run:wait(8000).code)
      fs.remove_tree(dir)
    end)
  end

  it("ends cleanly on TERM with open streams, and tells them", function()
    local dir = assert(fs.temp_dir("macp-term-"))
    local run, rig = start_program(dir)
    local watch = rig:watch("ann", "WatchSessions")
    task.sleep(50)
    run:kill("TERM")
    local _, err = watch:read()
    assert.equal(rpc.status.UNAVAILABLE, err.status)
    assert.equal(0, run:wait(8000).code)
    rig.channel:close()
    fs.remove_tree(dir)
  end)

  it("says on stderr why it does not start", function()
    local run = program.start({ args = { "runtime" }, env = { MACP_ALLOW_INSECURE = "0", MACP_MEMORY_ONLY = "1" } })
    local status = run:wait(8000)
    assert.is_true(status.code ~= 0)
    assert.truthy(run:output():find("no authentication configured", 1, true))
  end)
end)
