local cli = require("macp.core.cli")

local COMMAND = {
  summary = "Do things.",
  options = {
    { name = "filter", short = "f", value = "TEXT", repeated = true, doc = "Only these." },
    { name = "count", short = "n", value = "N", type = "integer", default = 3, doc = "How many." },
    { name = "dry-run", short = "d", doc = "Change nothing." },
    { name = "verbose", short = "v", doc = "Say more." },
    { name = "output", value = "FORMAT", choices = { "plain", "json" }, doc = "Form." },
  },
  arguments = { { name = "PATH", required = true }, { name = "MORE", repeated = true } },
}

describe("cli.parse", function()
  local accepted = {
    { "fills defaults", { "a" }, { args = { "a" }, count = 3 } },
    { "reads separate and attached values", { "a", "--count", "5", "--filter=x", "-fy", "-f", "z" },
      { args = { "a" }, count = 5, filter = { "x", "y", "z" } } },
    { "reads clustered short flags", { "-dv", "a" }, { args = { "a" }, count = 3, dry_run = true, verbose = true } },
    { "reads a value at the end of a cluster", { "-dn7", "a" }, { args = { "a" }, count = 7, dry_run = true } },
    { "ends options at --", { "--", "-d", "--count" }, { args = { "-d", "--count" }, count = 3 } },
    { "takes a single dash as an argument", { "-" }, { args = { "-" }, count = 3 } },
    { "keeps an empty attached value", { "--filter=", "a" }, { args = { "a" }, count = 3, filter = { "" } } },
  }
  for _, case in ipairs(accepted) do
    it(case[1], function()
      local opts, problem = cli.parse(COMMAND, case[2])
      assert.is_nil(problem)
      assert.same(case[3], opts)
    end)
  end

  local refused = {
    { "an unknown option", { "a", "--cuont=1" }, "unknown option `--cuont` (did you mean `--count`?)" },
    { "an option without its value", { "a", "--count" }, "--count needs a value: --count N" },
    { "a wrong number", { "a", "--count", "1.5" }, "--count expects a whole number, not `1.5`" },
    { "a value for a flag", { "a", "--dry-run=yes" }, "--dry-run takes no value" },
    { "a missing argument", {}, "PATH is missing" },
    { "a value outside the choices", { "a", "--output", "jsn" },
      "--output must be one of plain, json, not `jsn` (did you mean `json`?)" },
    { "two different values", { "a", "-n1", "-n2" }, "--count is given twice with different values" },
  }
  for _, case in ipairs(refused) do
    it("refuses " .. case[1], function()
      local opts, problem = cli.parse(COMMAND, case[2])
      assert.is_nil(opts)
      assert.equal(case[3], problem)
    end)
  end

  it("refuses arguments beyond the last one", function()
    local _, problem = cli.parse({ arguments = { { name = "PATH" } } }, { "a", "b" })
    assert.equal("unexpected argument `b`", problem)
  end)

  it("leaves options after the first argument alone when asked to", function()
    local command = { options = COMMAND.options, arguments = COMMAND.arguments, options_first = true }
    assert.same({ args = { "script", "--count", "x", "-z" }, count = 3, verbose = true },
      cli.parse(command, { "-v", "script", "--count", "x", "-z" }))
  end)

  it("asks for a required option", function()
    local _, problem = cli.parse({ options = { { name = "url", value = "URL", required = true } } }, {})
    assert.equal("--url URL is required", problem)
  end)

  it("asks for nothing when help is wanted", function()
    local command = { options = { { name = "help", short = "h" } }, arguments = COMMAND.arguments }
    assert.is_true(cli.parse(command, { "-h" }).help)
  end)
end)

describe("cli.help", function()
  it("shows usage, arguments, options with defaults and choices", function()
    local text = cli.help("thing", COMMAND, {}, cli.style(false))
    assert.truthy(text:find("Usage: macp thing [options] PATH [MORE...]", 1, true))
    assert.truthy(text:find("-n, --count N               How many. (default: 3)", 1, true))
    assert.truthy(text:find("Form. One of: plain, json.", 1, true))
    assert.is_nil(text:find("\27", 1, true))
  end)

  it("colours only when asked", function()
    assert.truthy(cli.help("thing", COMMAND, {}, cli.style(true)):find("\27[1m", 1, true))
  end)

  it("wraps long documentation in its column", function()
    for line in cli.row("--x", string.rep("word ", 60), cli.style(false)):gmatch("[^\n]+") do
      assert.is_true(#line <= 100)
    end
  end)
end)
