-- The program as a process: exit codes, start, signals.

local fs = require("host.fs")
local sys = require("host.sys")

local program = require("spec.support.program")

describe("the program", function()
  local dir

  setup(function() dir = assert(fs.temp_dir("macp-process")) end)
  teardown(function() fs.remove_tree(dir) end)

  local function environment(more)
    local env = {
      MACP_ALLOW_INSECURE = "1", MACP_BIND_ADDR = "127.0.0.1:0", MACP_DATA_DIR = dir .. "/data",
      MACP_LOG_LEVEL = "info", MACP_LOG_FORMAT = "json", MACP_ENV = false, NODE_ENV = false, AUTH_API_KEYS = false,
    }
    for name, value in pairs(more or {}) do env[name] = value end
    return env
  end

  -- Runs to the end; returns the exit code and everything printed.
  local function run(args, env)
    local child = program.start({ args = args, env = environment(env) })
    local status = child:wait(10000)
    return status.code, child:output()
  end

  local endings = {
    { "explains itself", { "--help" }, 0, "Commands:" },
    { "refuses unknown commands", { "sevre" }, 3, "did you mean `serve`" },
    { "refuses unknown options", { "serve", "--rloe", "x" }, 3, "did you mean `--role`" },
    { "refuses unknown roles", { "serve", "--role", "x" }, 3, "the roles are plane and runtime" },
    { "lists every wrong setting", { "serve" }, 2, "PORT must be a whole number, not `x`",
      { PORT = "x", MACP_BIND_ADDR = "nowhere" } },
    { "refuses an open interface in production", { "serve", "--role", "plane" }, 2,
      "AUTH_API_KEYS and AUTH_API_KEYS_FILE are empty",
      { MACP_ENV = "production" } },
    { "refuses to run without authentication", { "runtime" }, 2, "no authentication configured",
      { MACP_ALLOW_INSECURE = false } },
    { "refuses to run without TLS", { "runtime" }, 2, "no TLS configured",
      { MACP_ALLOW_INSECURE = false, MACP_AUTH_TOKENS_JSON = '[{"token":"t","sender":"a"}]' } },
    { "names a policies directory that cannot be read", { "runtime" }, 2, "MACP_POLICIES_DIR",
      { MACP_POLICIES_DIR = "/nowhere/at/all" } },
    { "W38: refuses a clean-up without a pause", { "runtime" }, 2,
      "MACP_CLEANUP_INTERVAL_SECS must be at least 1, not `0`", { MACP_CLEANUP_INTERVAL_SECS = "0" } },
    { "takes a level from RUST_LOG", { "config", "log" }, 0, "log.level = debug  [env]",
      { RUST_LOG = "debug", MACP_LOG_LEVEL = false, LOG_LEVEL = false } },
    { "fails when a role cannot start", { "serve", "--role", "runtime" }, 1, "MACP_BIND_ADDR",
      { MACP_BIND_ADDR = "192.0.2.1:1" } },
    { "fails when there is no database, and says which setting names it", { "serve", "--role", "plane" }, 1,
      "macp serve: plane: the database of DATABASE_URL: connect to PostgreSQL: ",
      { DATABASE_URL = "postgres://u:p@127.0.0.1:1/none" } },
  }
  for _, case in ipairs(endings) do
    it(case[1], function()
      local code, output = run(case[2], case[5])
      assert.equal(case[3], code, output)
      assert.truthy(output:find(case[4], 1, true), output)
    end)
  end

  it("W38: says when it is ready and ends with 0 at TERM", function()
    local child = program.start({ args = { "serve", "--role", "runtime" }, env = environment() })
    local port = child:wait_line("ready.*runtime 127%.0%.0%.1:(%d+)")
    assert.is_true(tonumber(port) > 0)
    local began = sys.mono_ms()
    child:kill("TERM")
    local status = child:wait(10000)
    assert.equal(0, status.code, child:output())
    assert.is_true(sys.mono_ms() - began < 9000)
    assert.is_nil(child:output():find("were left open", 1, true), child:output())
  end)

  it("reads mode folders again at HUP and goes on", function()
    local child = program.start({ args = { "serve", "--role", "runtime" }, env = environment() })
    child:wait_line("(process%.ready)")
    child:kill("HUP")
    child:wait_line("(roles%.reloaded)")
    child:kill("INT")
    assert.equal(0, child:wait(10000).code)
  end)

  it("warns about variables that nobody reads", function()
    local child = program.start({ args = { "serve", "--role", "runtime" }, env = environment({ MACP_DATADIR = "/x" }) })
    child:wait_line("unknown variable MACP_DATADIR %(did you mean `(MACP_DATA_DIR)`")
    child:wait_line("(process%.ready)")
    child:kill("TERM")
    assert.equal(0, child:wait(10000).code)
  end)
end)
