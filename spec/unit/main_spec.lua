local log = require("host.log")
local sys = require("host.sys")

local main = require("macp.main")

describe("main", function()
  local out, err, stubs

  before_each(function()
    out, err = {}, {}
    stubs = {
      stub(sys, "write", function(fd, text) table.insert(fd == 1 and out or err, text) end),
      stub(sys, "is_tty", function() return false end), stub(log, "set_level"), stub(log, "set_format"),
    }
  end)
  after_each(function()
    for _, each in ipairs(stubs) do each:revert() end
  end)

  -- Runs the command line; returns exit code, standard output, standard error.
  local function run(...)
    local code = main.run({ ... })
    return code, table.concat(out), table.concat(err)
  end

  -- A command that exists for one test only.
  local function with_command(name, command, check)
    package.loaded["macp.cmd." .. name] = command
    local ok, failure = pcall(check)
    package.loaded["macp.cmd." .. name] = nil
    if not ok then error(failure, 0) end
  end

  for _, argv in ipairs({ {}, { "--help" }, { "-h" }, { "help" } }) do
    it("shows the overview for `" .. table.concat(argv, " ") .. "`", function()
      local code, text = run(unpack(argv))
      assert.equal(0, code)
      for _, name in ipairs({ "serve", "config", "spec", "version" }) do
        assert.truthy(text:find("\n  " .. name .. " ", 1, true), name)
      end
    end)
  end

  for _, argv in ipairs({ { "help", "spec" }, { "spec", "--help" }, { "spec", "-h", "x" } }) do
    it("explains a command for `" .. table.concat(argv, " ") .. "`", function()
      local code, text = run(unpack(argv))
      assert.equal(0, code)
      assert.truthy(text:find("Usage: macp spec [options] PATH...", 1, true))
      assert.truthy(text:find("macp spec spec/unit", 1, true))
    end)
  end

  it("suggests the command that was meant", function()
    local code, _, text = run("sevre")
    assert.equal(3, code)
    assert.truthy(text:find("unknown command `sevre` (did you mean `serve`?)", 1, true))
  end)

  for _, name in ipairs({ "../x", "a.b", "", "help.x" }) do
    it(string.format("loads no file for the command %q", name), function()
      assert.equal(3, (run(name)))
    end)
  end

  it("refuses wrong options with advice", function()
    local code, _, text = run("version", "--jsn")
    assert.equal(3, code)
    assert.truthy(text:find("unknown option `--jsn` (did you mean `--json`?)", 1, true))
    assert.truthy(text:find("Run `macp version --help`", 1, true))
  end)

  it("prints the version", function()
    local code, text = run("--version")
    assert.equal(0, code)
    assert.truthy(text:find("macp " .. sys.version, 1, true))
  end)

  it("ends with 2 and all problems when the configuration is wrong", function()
    local code, _, text = run("config", "--set", "plane.port=x", "--set", "log.level=y")
    assert.equal(2, code)
    assert.truthy(text:find("--set plane.port must be a whole number, not `x`", 1, true))
    assert.truthy(text:find("--set log.level must be one of", 1, true))
  end)

  it("shows a setting, its source and masks secrets", function()
    local code, text = run("config", "plane.port", "plane.api_keys", "--set", "plane.port=8080", "--set",
      "plane.api_keys=geheim")
    assert.equal(0, code)
    assert.truthy(text:find("plane.port = 8080  [flag]", 1, true))
    assert.truthy(text:find("plane.api_keys = ********", 1, true))
    assert.is_nil(text:find("geheim", 1, true))
  end)

  it("shows settings as JSON", function()
    local code, text = run("config", "log", "--json", "--changed", "--log-level", "error")
    assert.equal(0, code)
    local document = require("macp.core.json").decode(text)
    assert.same({ "log.level", "error", "flag" },
      { document.settings[1].key, document.settings[1].value, document.settings[1].source })
    assert.equal(1, #document.settings)
    assert.stub(log.set_level).was.called_with("error")
  end)

  it("refuses words that name no setting, also beside some that do", function()
    local code, shown, text = run("config", "plane.host", "plane.prot", "runtmie")
    assert.equal(3, code)
    assert.equal("", shown)
    assert.truthy(text:find("macp: config: no setting is called plane.prot (did you mean `plane.port`?), runtmie "
      .. "(did you mean `runtime`?)", 1, true), text)
  end)

  it("does not send readers of `macp config` to `macp config`", function()
    local code, _, text = run("config", "--set", "plane.port=x")
    assert.equal(2, code)
    assert.equal("macp: the configuration has problems:\n"
      .. "  --set plane.port must be a whole number, not `x`\n", text)
  end)

  local outcomes = {
    { "a number", function() return 7 end, 7, "" }, { "nothing", function() end, 0, "" },
    { "nil, err", function() return nil, { code = "X", message = "no way" } end, 1, "macp probe: no way" },
    { "a usage error", function() return nil, { code = "USAGE", message = "bad words" } end, 3,
      "macp: probe: bad words" },
    { "a located error", function() return nil, { code = "S", message = "bad", file = "m.lua", line = 3 } end, 1,
      "macp probe: m.lua:3: bad" },
    { "a raised typed error", function() error({ code = "X", message = "typed" }, 0) end, 1, "macp probe: typed" },
    { "a bug", function() error("boom") end, 1, "stack traceback" },
  }
  for _, case in ipairs(outcomes) do
    it("turns " .. case[1] .. " into an exit code", function()
      with_command("probe", { summary = "Probe.", config = false, run = case[2] }, function()
        local code, _, text = run("probe")
        assert.equal(case[3], code)
        assert.truthy(text:find(case[4], 1, true), text)
      end)
    end)
  end

  it("finds verbs and their options", function()
    local seen
    with_command("tool", { summary = "Tools.", verbs = { "check" }, help = "x" }, function()
      with_command("tool.check", {
        summary = "Check it.", config = false, arguments = { { name = "DIR" } },
        run = function(opts) seen = opts.args[1] end,
      }, function()
        assert.equal(0, (run("tool", "check", "here")))
        assert.equal("here", seen)
        local code, text = run("tool", "--help")
        assert.equal(0, code)
        assert.truthy(text:find("check       Check it.", 1, true))
        local _, _, problem = run("tool", "chek")
        assert.truthy(problem:find("unknown command `tool chek` (did you mean `check`?)", 1, true), problem)
      end)
    end)
  end)
end)
