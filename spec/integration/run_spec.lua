-- `macp run` as a process: arguments, modules, exit codes, failures.

local fs = require("host.fs")

local program = require("spec.support.program")

describe("macp run", function()
  local dir

  setup(function() dir = assert(fs.temp_dir("macp-run")) end)
  teardown(function() fs.remove_tree(dir) end)

  -- Runs a script with arguments; returns its exit code and everything printed. (yields)
  local function run(text, args, env)
    assert(fs.write(dir .. "/agent.lua", text))
    local all = { "run", dir .. "/agent.lua" }
    for _, word in ipairs(args or {}) do all[#all + 1] = word end
    local clean = { MACP_LOG_LEVEL = false, LOG_LEVEL = false, RUST_LOG = false }
    for name, value in pairs(env or {}) do clean[name] = value end
    local proc = program.start({ args = all, env = clean })
    return proc:wait(20000).code, proc:output()
  end

  it("hands over the words after the script, options and all", function()
    local code, output = run("print(select('#', ...), ...)", { "alice", "--help", "-x" })
    assert.same({ 0, "3\talice\t--help\t-x" }, { code, output })
  end)

  it("ends with the number that the script returns", function()
    assert.equal(7, (run("return 7")))
    assert.equal(0, (run("return 'seven'")))
  end)

  it("finds modules beside the script", function()
    assert(fs.write(dir .. "/helper.lua", "return { word = 'found' }"))
    local _, output = run("print(require('helper').word)")
    assert.equal("found", output)
  end)

  it("lets scripts wait, and prints what they print when they print it", function()
    local code, output = run("local t = require('host.task') print('a') t.sleep(10) io.stderr:write('b\\n') print('c')")
    assert.equal(0, code)
    assert.truthy(output:find("a", 1, true) and output:find("c", 1, true))
  end)

  it("passes over a first line for the shell, and keeps the numbers of lines", function()
    local code, output = run("#!/usr/bin/env -S macp run\nprint(debug.getinfo(1, 'l').currentline)")
    assert.same({ 0, "2" }, { code, output })
  end)

  it("says where a script is wrong", function()
    local code, output = run("local x =\nprint(")
    assert.equal(1, code)
    assert.truthy(output:find("agent.lua:2:", 1, true), output)
    code, output = run("\nerror('went wrong')")
    assert.equal(1, code)
    assert.truthy(output:find("agent.lua:2: went wrong", 1, true), output)
  end)

  it("tells an error of the SDK by its name", function()
    local code, output = run("require('macp.sdk').client({ target = 'x' , scure = true })")
    assert.equal(1, code)
    assert.truthy(output:find("unknown option 'scure' (did you mean `secure`", 1, true), output)
  end)

  it("tells where a script failed by its own lines only", function()
    local code, output = run("local function f()\n  error('went wrong')\nend\nf()\nreturn 0")
    local path = dir .. "/agent.lua"
    assert.equal(1, code)
    assert.equal(string.format("macp run: %s:2: went wrong\n\t%s:2: in function 'f'\n\t%s:4: in main chunk",
      path, path, path), output)
    code, output = run("error({ why = 1 })")
    assert.same({ 1, "macp run: " .. path .. ":1: the script raised a table without a message" }, { code, output })
    code, output = run("\nrequire('macp.sdk').client({ target = 'x', scure = true })")
    assert.equal(1, code)
    assert.truthy(output:find("^macp run: " .. path:gsub("%p", "%%%0") .. ":2: MacpSdkError: "), output)
    assert.is_nil(output:find("\n", 1, true), output)
  end)

  it("serves modes of one's own", function()
    assert(fs.mkdir_p(dir .. "/modes/own"))
    assert(fs.write(dir .. "/modes/own/mode.lua", [[return {
      id = "ext.own.v1", version = "3.2.1", title = "Own", summary = "Own.", determinism = "semantic-deterministic",
      state = { n = 0 }, outcomes = { { action = "own.done", positive = true } },
      messages = { Bump = { from = "participant", payload = "int64 by = 1;", needs = {},
        apply = function(s) s.n = s.n + 1 end } } }]]))
    assert(fs.write(dir .. "/own.lua",
      "local c = require('macp.sdk').client({ target = 'x:1', allow_insecure = true })\n"
      .. "local s = c:session('ext.own.v1') print(s.mode_version, type(s.bump)) c:close()"))
    local function play(level)
      local proc = program.start({ args = { "run", "--modes", dir .. "/modes", dir .. "/own.lua" },
        env = { MACP_LOG_LEVEL = level, LOG_LEVEL = false, RUST_LOG = false } })
      assert.equal(0, proc:wait(20000).code, proc:output())
      return proc:output()
    end
    assert.equal("3.2.1\tfunction", play(false)) -- the script has the say
    assert.truthy(play("info"):find("mode.loaded", 1, true))
  end)

  it("needs directories of modes that are there", function()
    local proc = program.start({ args = { "run", "--modes", dir .. "/none", dir .. "/agent.lua" } })
    assert.equal(1, proc:wait(20000).code)
    assert.equal("macp run: directory of modes: list " .. dir .. "/none: No such file or directory", proc:output())
  end)

  it("needs a file that is there", function()
    local proc = program.start({ args = { "run", dir .. "/none.lua" } })
    assert.equal(1, proc:wait(20000).code)
    assert.truthy(proc:output():find("none.lua", 1, true))
  end)
end)
