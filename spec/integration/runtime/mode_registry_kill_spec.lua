-- The real program, killed while modes are registered: what was answered is there after the restart, nothing is half.

local fs = require("host.fs")
local json = require("host.json")
local task = require("host.task")

local client = require("spec.support.runtime_client")
local eventually = require("spec.support.eventually")
local program = require("spec.support.program")

local ROUNDS, WORKERS = 4, 4

local function start_program(dir)
  local run = program.start({
    args = { "runtime", "--log-level", "info" },
    env = {
      MACP_ALLOW_INSECURE = "1", MACP_BIND_ADDR = "127.0.0.1:0", MACP_DATA_DIR = dir, MACP_LOG_FORMAT = "json",
      MACP_SESSION_START_LIMIT_PER_MINUTE = "1000000", MACP_STRICT_RECOVERY = "1",
    },
  })
  return run, client.connect(run:wait_line('"address":"([^"]+)"'))
end

local function register(rig, mode)
  return rig:call("boss", "RegisterExtMode", { mode_descriptor = { mode = mode, mode_version = "1",
    message_types = { "Ping", "Commitment" }, terminal_message_types = { "Commitment" } } })
end

local function is_listed(rig)
  local listed = {}
  for _, method in ipairs({ "ListModes", "ListExtModes" }) do
    for _, mode in ipairs(assert(rig:call(nil, method)).modes) do listed[mode.mode] = method end
  end
  return listed
end

-- Registers, promotes and unregisters until the program dies. book[mode] is the list an answered mode is in, false after
-- an answered unregistration; what was under way when it died is not in the book.
local function churn(rig, book, prefix)
  for i = 1, 100000 do
    local mode = prefix .. i .. ".v1"
    local answer = register(rig, mode)
    if answer == nil then return end
    assert(answer.ok, answer.error)
    book[mode] = "ListExtModes"
    if i % 3 == 0 then
      book[mode] = nil
      if not rig:call("boss", "PromoteMode", { mode = mode }) then return end
      book[mode] = "ListModes"
    elseif i % 3 == 1 then
      book[mode] = nil
      if not rig:call("boss", "UnregisterExtMode", { mode = mode }) then return end
      book[mode] = false
    end
  end
end

describe("the mode registry of a program that is killed", function()
  it("W9: has what was answered, and its sessions go on", function()
    local dir, book = assert(fs.temp_dir("macp-registry-")), {}
    local run, rig = start_program(dir)
    assert(register(rig, "ext.kept.v1").ok)
    local id = "registry-kill-session-1"
    assert.is_true(rig:send("host", client.start_envelope(id,
      { participants = {}, mode_version = "", configuration_version = "" }, { mode = "ext.kept.v1" })).ok)
    assert(rig:call("boss", "UnregisterExtMode", { mode = "ext.kept.v1" }).ok)
    for round = 1, ROUNDS do
      local workers = {}
      for w = 1, WORKERS do
        workers[w] = task.spawn(churn, rig, book, string.format("ext.r%d_w%d_", round, w))
      end
      eventually(function() return next(book) ~= nil end, 10000, "an answer")
      task.sleep(60 + 90 * round)
      run:crash()
      for _, worker in ipairs(workers) do worker:join() end
      rig.channel:close()
      assert(json.decode(assert(fs.read(dir .. "/modes.json"))))
      run, rig = start_program(dir)
      local listed = is_listed(rig)
      for mode, where in pairs(book) do assert.equal(where or nil, listed[mode], mode) end
      local ack = rig:send("ann", client.envelope({ mode = "ext.kept.v1", session_id = id, message_type = "Ping",
        message_id = "p" .. round, payload = "x" }))
      assert.is_true(ack.ok, ack.error and ack.error.message)
    end
    assert.truthy(next(book))
    rig.channel:close()
    run:kill("TERM")
    assert.equal(0, run:wait().code)
    fs.remove_tree(dir)
  end)

  it("says at start which folder stands in front of which registration", function()
    local dir = assert(fs.temp_dir("macp-registry-"))
    local run, rig = start_program(dir)
    assert(register(rig, "ext.auction2.v1").ok)
    rig.channel:close()
    run:kill("TERM")
    run:wait()
    assert(fs.mkdir_p(dir .. "/folders/auction"))
    local text = assert(fs.read("modes/auction/mode.lua"))
    assert(fs.write(dir .. "/folders/auction/mode.lua", (text:gsub("ext%.auction%.v1", "ext.auction2.v1"))))
    run = program.start({
      args = { "runtime", "--log-level", "info", "--modes", dir .. "/folders" },
      env = { MACP_ALLOW_INSECURE = "1", MACP_BIND_ADDR = "127.0.0.1:0", MACP_DATA_DIR = dir,
        MACP_LOG_FORMAT = "json" },
    })
    local line = run:wait_line('"event":"mode.conflict"(.*)')
    for _, part in ipairs({ "mode 'ext.auction2.v1' is provided by the folder ", "/folders/auction", "/modes.json",
      "Unregister the mode or remove the folder" }) do
      assert.truthy(line:find(part, 1, true), line)
    end
    run:wait_line('"address":"([^"]+)"')
    run:kill("TERM")
    run:wait()
    fs.remove_tree(dir)
  end)
end)
