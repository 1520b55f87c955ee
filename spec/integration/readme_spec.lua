-- The ten minutes of README.md as a newcomer lives them: its texts are taken from there, only the ports are others.

local fetch = require("host.fetch")
local fs = require("host.fs")

local json = require("macp.core.json")

local eventually = require("spec.support.eventually")
local ports = require("spec.support.ports")
local program = require("spec.support.program")

local START_MS = 45000 -- the first start makes a database

local CLEAN = {
  MACP_LOG_LEVEL = false, LOG_LEVEL = false, RUST_LOG = false, MACP_ENV = false, NODE_ENV = false, PORT = false,
  HOST = false, MACP_BIND_ADDR = false, AUTH_API_KEYS = false, MACP_AUTH_TOKENS_JSON = false, DATABASE_URL = false,
}

describe("the README's mode of your own", function()
  local dir, grpc, port, dev, text

  -- The block of code of that language that holds a text.
  local function block(language, holds)
    for code in text:gmatch("```" .. language .. "\n(.-)```") do
      if code:find(holds, 1, true) then return code end
    end
    error("README.md has no such block: " .. holds)
  end

  local function start(args)
    return program.start({ args = args, env = CLEAN, cwd = dir })
  end

  -- Runs a command to its end; returns its exit code and what it printed. (yields)
  local function run(...)
    local proc = start({ ... })
    return proc:wait(20000).code, proc:output()
  end

  local function get(path)
    local reply = assert(fetch.request({ url = "http://127.0.0.1:" .. port .. path }))
    assert.equal(200, reply.status)
    return json.decode(tostring(reply.body))
  end

  local function edit(pattern, replacement)
    local source, count = assert(fs.read(dir .. "/modes/hello/mode.lua")):gsub(pattern, replacement)
    assert.equal(1, count, pattern)
    assert(fs.write(dir .. "/modes/hello/mode.lua", source))
  end

  setup(function()
    text = assert(fs.read("README.md"))
    dir, grpc, port = assert(fs.temp_dir("macp-readme")), ports.free(), ports.free()
    assert(fs.chmod(dir, 493)) -- 0755: the database server's account must pass
    local agent = block("lua", "macp.client"):gsub("127%.0%.0%.1:50051", "127.0.0.1:" .. grpc)
    assert(fs.write(dir .. "/hello.lua", agent))
    assert.equal(0, (run("modes", "new", "hello")))
    dev = start({ "dev", "--no-demo", "--port", tostring(port), "--grpc-port", tostring(grpc) })
    dev:wait_line("(ready)", START_MS)
  end)
  teardown(function()
    dev:kill("INT")
    dev:wait(15000)
    fs.remove_tree(dir)
  end)

  it("passes its check and says what the README says", function()
    local code, output = run("modes", "check", "modes/hello")
    assert.equal(0, code, output)
    local function squeezed(source) -- without comments, white space and commas at the end of lists
      return (source:gsub("%-%-[^\n]*", ""):gsub("//[^\n]*", ""):gsub("%s", ""):gsub(",}", "}"))
    end
    local scaffold = squeezed(assert(fs.read(dir .. "/modes/hello/mode.lua")))
    for part in block("lua", "Hello = {"):gmatch("[^\n]+,\n") do
      assert.truthy(scaffold:find((squeezed(part):gsub(",$", "")), 1, true), part)
    end
  end)

  it("is played by the README's agent, and shown", function()
    local code, output = run("run", "--modes", "modes", "hello.lua")
    assert.equal(0, code, output)
    assert.matches("^%x+%-%S+ is committed$", output)
    local row = eventually(function()
      local found = get("/runs").data[1]
      return found and found.status == "completed" and found
    end, 10000)
    assert.equal("hello.completed", row.metadata.finalAction)
  end)

  it("follows an edit of the payload, and serves on when the fixture does not fit the rule", function()
    edit("string text = 1 %[required, max = 200%];[^\n]*", "%0\n string mood = 2;")
    dev:wait_line("^mode +(ext%.hello%.v1) 1%.0%.0 is served as saved", 10000)
    edit("one greeting per participant", "greet once only")
    dev:wait_line("(mode%.rejected)", 10000)
    assert.truthy(dev:output():find("modes/hello/fixtures/everybody_greets.lua", 1, true), dev:output())
    local found = eventually(function() -- the plane reads folders by itself
      for _, mode in ipairs(get("/admin/modes").modes) do
        if mode.id == "ext.hello.v1" and mode.candidate then return mode end
      end
    end, 10000)
    assert.is_true(found.serving)
    assert.equal(8, found.candidate.errors[1].line)
  end)
end)
