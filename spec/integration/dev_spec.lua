-- `macp dev` as a process: what it plays, what it prints, what it leaves.

local child = require("host.child")
local fetch = require("host.fetch")
local fs = require("host.fs")
local http = require("host.http")
local sys = require("host.sys")
local task = require("host.task")

local json = require("macp.core.json")

local eventually = require("spec.support.eventually")
local ports = require("spec.support.ports")
local program = require("spec.support.program")

local START_MS = 45000 -- the first start makes a database
local IS_SLOW = sys.build:find("san", 1, true) ~= nil -- with a sanitizer
local STOP_MS = IS_SLOW and 30000 or 15000 -- "a few seconds"

-- Names of the settings that the specs' own environment must not bring along.
local CLEAN = {
  MACP_LOG_LEVEL = false, LOG_LEVEL = false, RUST_LOG = false, MACP_ENV = false, NODE_ENV = false, PORT = false,
  HOST = false, MACP_BIND_ADDR = false, AUTH_API_KEYS = false, MACP_AUTH_TOKENS_JSON = false, DATABASE_URL = false,
}

-- Processes that name a directory on their command line, as "pid name". (yields)
local function processes(dir)
  local found = {}
  for _, entry in ipairs(assert(fs.list("/proc"))) do
    local command = entry.name:find("^%d+$") and fs.read("/proc/" .. entry.name .. "/cmdline")
    if command and command:find(dir, 1, true) then found[#found + 1] = entry.name .. " " .. command:gsub("%z", " ") end
  end
  return found
end

-- A reply's body: GET of a URL, decoded. (yields)
local function text_of(url)
  local reply = assert(fetch.request({ url = url, max_body_bytes = 16 * 1024 * 1024 }))
  assert.equal(200, reply.status, url .. ": " .. tostring(reply.body))
  return tostring(reply.body), reply.headers["content-type"]
end

local function get(url) return json.decode((text_of(url))) end

-- Reads a stream until it holds a pattern. (yields)
local function read_until(url, pattern)
  local reply = assert(fetch.open({ url = url, timeout_ms = 20000 }))
  assert.equal(200, reply.status)
  assert.truthy(reply.headers["content-type"]:find("text/event-stream", 1, true))
  local text = ""
  while not text:find(pattern) do
    local chunk = reply:read()
    if chunk == nil then error(url .. " ended without " .. pattern) end
    text = text .. tostring(chunk)
  end
  reply:close()
  return text
end

describe("macp dev", function()
  local dir, grpc_port, http_port
  local started = {}

  setup(function()
    dir = assert(fs.temp_dir("macp-dev"))
    assert(fs.chmod(dir, 493)) -- 0755: the server's account must pass
    grpc_port, http_port = ports.free(), ports.free()
  end)
  teardown(function() fs.remove_tree(dir) end)

  local function start(args, opts)
    opts = opts or {}
    local all = { "dev", "--port", tostring(opts.port or http_port), "--grpc-port", tostring(grpc_port) }
    for _, word in ipairs(args or {}) do all[#all + 1] = word end
    local env = {}
    for name, value in pairs(CLEAN) do env[name] = value end
    for name, value in pairs(opts.env or {}) do env[name] = value end
    local proc = program.start({ args = all, env = env, cwd = opts.cwd or dir })
    started[#started + 1] = proc
    return proc
  end

  -- What a failed test left running would fail all that follow.
  after_each(function()
    for _, proc in ipairs(started) do
      if not proc.status then
        proc:kill("TERM")
        proc:wait(15000)
      end
    end
    started = {}
  end)

  local function assert_nothing_left(where)
    assert.same({}, eventually(function()
      local found = processes(where or dir)
      return #found == 0 and found, table.concat(found, ", ")
    end, 3000, "the end of every process"))
    for _, entry in ipairs(fs.list((where or dir) .. "/.macp/postgres/socket") or {}) do
      error("a socket is left: " .. entry.name)
    end
    for _, port in ipairs({ grpc_port, http_port }) do
      assert(http.listen({ host = "127.0.0.1", port = port })):close()
    end
  end

  local function index_of(proc, pattern)
    for i, line in ipairs(proc.lines) do
      if line:find(pattern) then return i end
    end
    error("no line like " .. pattern .. ":\n" .. proc:output())
  end

  it("plays a session, says what happens and nothing else, and ends", function()
    local proc = start({ "--once" })
    local run_id = proc:wait_line("/runs/(%x+%-[%x-]+)/stream", START_MS)
    proc:wait_line("(proposes memory)", 10000)
    assert.is_nil(proc:output():find("commits", 1, true), "lines come as they happen, not at the end")
    assert.equal(0, proc:wait(20000).code, proc:output())
    assert.is_true(index_of(proc, "lead +starts session") < index_of(proc, "ana +votes for redis"))
    assert.is_true(index_of(proc, "ben +votes for redis") < index_of(proc, "lead +commits"))
    -- A machine may let a process open few files only, which is told.
    local said = proc:output():gsub("[^\n]*process%.few_open_files[^\n]*", "")
    for _, word in ipairs({ "WARN", "warn", "INFO", '"level"', "auth%.", "tls%." }) do
      assert.is_nil(said:find(word), word .. " in\n" .. said)
    end
    assert.truthy(proc:output():find("only this machine can connect", 1, true))
    assert_nothing_left()

    -- The next start finds it again.
    local again = start({ "--no-demo" })
    again:wait_line("(ready)", START_MS)
    local url = "http://127.0.0.1:" .. http_port
    local found
    for _, run in ipairs(get(url .. "/runs").data) do found = run.id == run_id and run or found end
    assert.equal("completed", found and found.status)
    again:kill("INT")
    assert.equal(0, again:wait(15000).code, again:output())
    assert_nothing_left()
  end)

  it("prints commands that work", function()
    local proc = start({})
    local lines = {}
    for _, name in ipairs({ "live", "state", "events", "replay" }) do
      lines[name] = proc:wait_line("^  " .. name .. " +curl %-[Ns] '?(http://[^' ]+)'?$", START_MS)
    end
    local list, api = proc:wait_line("all runs +curl %-s (%S+)"), proc:wait_line("API +(%S+)")
    local live = read_until(lines.live, '"type":"run%.completed"')
    assert.truthy(live:find("event: snapshot", 1, true))
    assert.truthy(live:find('"type":"decision.finalized"', 1, true))
    proc:wait_line("(done)")
    local state = eventually(function()
      local shown = get(lines.state)
      return shown.run.status == "completed" and shown or nil, shown.run.status
    end, 5000, "the end of the run")
    assert.is_table(state.mode.view)
    assert.is_true(#get(lines.events) > 5)
    assert.truthy(read_until(lines.replay, "run%.completed"):find("decision.finalized", 1, true))
    assert.is_true(#get(list).data >= 1)
    local _, content_type = text_of(api)
    assert.matches("^text/html", content_type)
    assert.is_table(get(api .. "-json").paths)
    proc:kill("INT")
    assert.equal(0, proc:wait(15000).code, proc:output())
    assert_nothing_left()
  end)

  it("ends everything within seconds at INT, in the middle of the session", function()
    local proc = start({})
    proc:wait_line("(proposes memory)", START_MS)
    local began = sys.mono_ms()
    proc:kill("INT")
    assert.equal(0, proc:wait(15000).code, proc:output())
    assert.is_true(sys.mono_ms() - began < STOP_MS)
    assert.is_nil(proc:output():find("could not be played", 1, true), proc:output())
    assert_nothing_left()
  end)

  it("ends everything when INT comes while the database is made", function()
    local other = dir .. "/early"
    assert(fs.mkdir_p(other))
    local proc = start({ "--no-demo" }, { cwd = other })
    eventually(function() return #processes(other) > 0 end, START_MS, "initdb")
    proc:kill("INT")
    assert.equal(130, proc:wait(15000).code, proc:output())
    assert_nothing_left(other)
    proc = start({ "--no-demo" }, { cwd = other })
    proc:wait_line("(ready)", START_MS)
    proc:kill("TERM")
    assert.equal(0, proc:wait(15000).code, proc:output())
    assert_nothing_left(other)
  end)

  it("replaces the database server that a killed start left behind", function()
    local proc = start({ "--no-demo" })
    proc:wait_line("(ready)", START_MS)
    proc:crash()
    local left = processes(dir)
    assert.is_true(#left > 0, "a server survives")
    local again = start({ "--once" })
    again:wait_line("(lead +commits)", START_MS)
    assert.equal(0, again:wait(15000).code, again:output())
    assert_nothing_left()
  end)

  local busy = { { "HTTP", "--port", 1 }, { "gRPC", "--grpc-port", 2 } }
  for _, case in ipairs(busy) do
    it("says in one line that the " .. case[1] .. " port is taken, and starts nothing", function()
      local port = case[3] == 1 and http_port or grpc_port
      local server = assert(http.listen({ host = "127.0.0.1", port = port }))
      local proc = start({ "--no-demo" })
      local status = proc:wait(START_MS)
      server:close()
      assert.equal(1, status.code, proc:output())
      assert.equal(1, #proc.lines, proc:output())
      assert.truthy(proc.lines[1]:find("port " .. port .. " is not free", 1, true), proc.lines[1])
      assert.truthy(proc.lines[1]:find(case[2] .. " N", 1, true), proc.lines[1])
      assert_nothing_left()
    end)
  end

  it("refuses ports that cannot be, and starts nothing", function()
    for _, args in ipairs({ { "dev", "--port", "65536" }, { "dev", "--port", "0", "--grpc-port", "-1" } }) do
      local proc = program.start({ args = args, env = CLEAN, cwd = dir })
      assert.equal(3, proc:wait(START_MS).code, proc:output())
      assert.equal("macp: dev: " .. args[#args - 1] .. " must be from 0 to 65535, not `" .. args[#args] .. "`",
        proc.lines[1])
    end
    assert_nothing_left()
  end)

  it("does not share its data with a second one", function()
    local proc = start({ "--no-demo" })
    proc:wait_line("(ready)", START_MS)
    local second = program.start({ args = { "dev", "--port", "0", "--grpc-port", "0", "--no-demo" }, env = CLEAN,
      cwd = dir })
    assert.equal(1, second:wait(START_MS).code)
    assert.truthy(second:output():find("--data DIR", 1, true), second:output())
    proc:kill("TERM")
    assert.equal(0, proc:wait(15000).code, proc:output())
    assert_nothing_left()
  end)

  it("tells that a saved mode is served, and what is wrong with one that is not", function()
    local function mode(text)
      return [[return { id = "ext.dev.v1", version = "1.0.0", title = "Dev", summary = "Dev.", state = { n = 0 },
        determinism = "semantic-deterministic", outcomes = { { action = "dev.done", positive = true } },
        messages = { Bump = { from = "participant", payload = "int64 by = 1;",
          needs = { { "]] .. text .. [[", function(s, p) return p.by > 0 end } },
          apply = function(s) s.n = s.n + 1 end } } }]]
    end
    assert(fs.mkdir_p(dir .. "/modes/own"))
    assert(fs.write(dir .. "/modes/own/mode.lua", mode("a first text")))
    local proc = start({ "--no-demo" })
    proc:wait_line("(ready)", START_MS)
    assert(fs.write(dir .. "/modes/own/mode.lua", mode("a second text")))
    proc:wait_line("^mode +(ext%.dev%.v1) 1%.0%.0 is served as saved %(sha256:%x+%)$", 10000)
    assert(fs.write(dir .. "/modes/own/mode.lua", "return {"))
    proc:wait_line("(mode%.rejected)", 10000)
    assert.truthy(proc:output():find("modes/own/mode.lua", 1, true))
    assert(fs.write(dir .. "/modes/own/mode.lua", mode("a third text")))
    proc:wait_line("^mode .*%(sha256:(%x+)%)$", 10000)
    proc:kill("INT")
    assert.equal(0, proc:wait(15000).code, proc:output())
    assert.equal(1, select(2, proc:output():gsub("mode%.rejected", "")), proc:output()) -- once, though two roles read it
    assert(fs.remove_tree(dir .. "/modes"))
  end)

  it("logs what it is asked to log", function()
    local proc = start({ "--no-demo", "--log-level", "info" }, { env = { MACP_LOG_FORMAT = "json" } })
    proc:wait_line("(process%.ready)", START_MS)
    assert.truthy(proc:output():find("auth.insecure", 1, true))
    proc:kill("INT")
    assert.equal(0, proc:wait(15000).code, proc:output())
  end)

  local nobody = fs.user("nobody")
  local as_root = sys.uid() == 0 and nobody and it or pending
  as_root("runs as an ordinary user, too", function()
    local home = dir .. "/home"
    assert(fs.mkdir_p(home))
    assert(fs.chown(home, nobody.uid, nobody.gid))
    -- The program itself may live where only root can go.
    local copy = assert(child.spawn({ file = "/bin/cp", args = { sys.executable(), dir .. "/macp" } }))
    assert.equal(0, copy:wait().code)
    copy:close()
    local proc = assert(child.spawn({
      file = dir .. "/macp", cwd = home, uid = nobody.uid, gid = nobody.gid, stdout = "pipe", stderr = "inherit",
      args = { "dev", "--once", "--port", tostring(http_port), "--grpc-port", tostring(grpc_port) },
      env = { PATH = sys.env("PATH"), HOME = home, LD_LIBRARY_PATH = sys.env("LD_LIBRARY_PATH"),
        ASAN_OPTIONS = sys.env("ASAN_OPTIONS"), LSAN_OPTIONS = sys.env("LSAN_OPTIONS") },
    }))
    local lines = {}
    local reader = task.spawn(function()
      for line in function() return proc:read_line("stdout") end do lines[#lines + 1] = line end
    end)
    local status = proc:wait()
    reader:join()
    proc:close()
    assert.equal(0, status.code, table.concat(lines, "\n"))
    assert.truthy(table.concat(lines, "\n"):find("lead  commits: cache.selected", 1, true))
    assert_nothing_left(home)
  end)
end)
