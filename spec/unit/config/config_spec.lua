local config = require("macp.config")
local types = require("macp.config.types")

local function load_with(environ, overrides)
  local cfg, problems = config.load(environ or {}, overrides)
  assert.is_nil(problems)
  return cfg
end

local function entry_of(cfg, key)
  for _, entry in ipairs(config.entries(cfg)) do
    if entry.setting.key == key then return entry end
  end
end

describe("config.load", function()
  it("has the published defaults", function()
    local cfg = load_with()
    assert.same({ 3001, "0.0.0.0", "http://localhost:3000", 60000, 100, {} },
      { cfg.plane.port, cfg.plane.host, cfg.plane.cors_origin, cfg.plane.throttle_ttl_ms, cfg.plane.throttle_limit,
        cfg.plane.api_keys })
    assert.same({ "127.0.0.1:50051", "info", "development" },
      { cfg.runtime.bind_addr, cfg.log.level, cfg.app.environment })
  end)

  it("knows which settings somebody chose", function()
    local cfg = load_with({ PORT = "3001" }, { file = { plane = { host = "10.0.0.1" } },
      flags = { ["log.level"] = "info" } })
    assert.same({ ["plane.port"] = true, ["plane.host"] = true, ["log.level"] = true }, config.chosen(cfg))
    assert.same({}, config.chosen(load_with()))
  end)

  it("lets the environment win over the file and flags over both", function()
    local file = { plane = { port = 1, host = "10.0.0.1" } }
    assert.equal(1, load_with({}, { file = file }).plane.port)
    assert.equal(2, load_with({ PORT = "2" }, { file = file }).plane.port)
    local cfg = load_with({ PORT = "2" }, { file = file, flags = { ["plane.port"] = "3" } })
    assert.same({ 3, "10.0.0.1" }, { cfg.plane.port, cfg.plane.host })
    assert.same({ "flag", "--set plane.port" },
      { entry_of(cfg, "plane.port").source, entry_of(cfg, "plane.port").origin })
    assert.equal("file", entry_of(cfg, "plane.host").source)
    assert.equal("default", entry_of(cfg, "log.level").source)
  end)

  it("takes the first of several names that is set", function()
    assert.equal("warn", load_with({ MACP_LOG_LEVEL = "warn", LOG_LEVEL = "debug" }).log.level)
    assert.equal("debug", load_with({ LOG_LEVEL = "debug" }).log.level)
    assert.equal("production", load_with({ NODE_ENV = "production" }).app.environment)
  end)

  it("uses a foreign variable only when its value fits", function()
    assert.equal("error", load_with({ RUST_LOG = "error" }).log.level)
    assert.equal("info", load_with({ RUST_LOG = "macp=debug,h2=off" }).log.level)
    assert.equal("debug", load_with({ RUST_LOG = "error", LOG_LEVEL = "debug" }).log.level)
  end)

  it("tells a bad size of pages as such, although another size depends on it", function()
    for _, bad in ipairs({ "0", "x" }) do
      local cfg, problems = config.load({ MACP_LIST_SESSIONS_MAX_PAGE_SIZE = bad })
      assert.is_nil(cfg)
      assert.equal(1, #problems)
      assert.matches("^MACP_LIST_SESSIONS_MAX_PAGE_SIZE must be ", problems[1])
    end
    assert.equal(7, load_with({ MACP_LIST_SESSIONS_MAX_PAGE_SIZE = "7" }).runtime.list_sessions_default_page_size)
  end)

  it("treats an empty variable as unset", function()
    assert.equal(3001, load_with({ PORT = "" }).plane.port)
  end)

  it("reports every problem at once", function()
    local cfg, problems = config.load(
      { PORT = "x", LOG_LEVEL = "inof", MACP_BIND_ADDR = "localhost:1", THROTTLE_LIMIT = "0" },
      { flags = { ["plane.prot"] = "1" }, file = { plane = { zz = 1, throttle_ttl_ms = 0 } }, file_name = "m.json" })
    assert.is_nil(cfg)
    assert.same({
      "m.json: unknown setting plane.zz",
      "--set: unknown setting plane.prot (did you mean `plane.port`?)",
      "LOG_LEVEL must be one of debug, info, warn, error, not `inof` (did you mean `info`?)",
      "PORT must be a whole number, not `x`",
      "m.json: plane.throttle_ttl_ms must be at least 1, not `0`",
      "THROTTLE_LIMIT must be at least 1, not `0`",
      "MACP_BIND_ADDR must be IP:port, e.g. 127.0.0.1:50051, not `localhost:1`",
    }, problems)
  end)

  it("warns about unknown variables of ours, and of nobody else", function()
    local cfg = load_with({ MACP_BIND_ADRR = "x", MACP_ROOT = "/x", HOME = "/root" })
    assert.same({ "unknown variable MACP_BIND_ADRR (did you mean `MACP_BIND_ADDR`?)" }, config.warnings(cfg))
  end)

  it("tells of variables of other servers that have no effect here", function()
    local cfg = load_with({ STREAM_MAX_RETRIES = "9", RUNTIME_STREAM_SUBSCRIBER_ID = "x",
      RUNTIME_STREAM_SUBSCRIPTION_MESSAGE_TYPE = "" })
    assert.same({ "RUNTIME_STREAM_SUBSCRIBER_ID has no effect: the control plane subscribes as whoever its credential "
      .. "names", "STREAM_MAX_RETRIES has no effect: a lost session stream is opened again for as long as its session "
      .. "may go on" }, config.warnings(cfg))
  end)

  it("raises on a setting that nobody declared", function()
    local cfg = load_with()
    assert.has_error(function() return cfg.plane.prot end)
  end)

  it("does not share default tables", function()
    local first = load_with()
    table.insert(first.plane.api_keys, "x")
    assert.same({}, load_with().plane.api_keys)
  end)
end)

describe("config.read", function()
  local fs = require("host.fs")

  local function with_file(text, check)
    local dir = assert(fs.temp_dir("macp-config"))
    assert(fs.write(dir .. "/c.json", text))
    local ok, err = pcall(check, dir .. "/c.json")
    fs.remove_tree(dir)
    if not ok then error(err, 0) end
  end

  it("reads a JSON file and KEY=VALUE flags", function()
    with_file('{"plane":{"port":8080,"api_keys":["a","b"]},"log.level":"warn"}', function(path)
      local cfg = assert(config.read({ environ = {}, file = path, flags = { "plane.host=::1" } }))
      assert.same({ 8080, { "a", "b" }, "warn", "::1" },
        { cfg.plane.port, cfg.plane.api_keys, cfg.log.level, cfg.plane.host })
    end)
  end)

  local broken = { '{"plane":', "[]", '"x"' }
  for _, text in ipairs(broken) do
    it("names the file when it holds " .. text, function()
      with_file(text, function(path)
        local cfg, problems = config.read({ environ = {}, file = path })
        assert.is_nil(cfg)
        assert.truthy(problems[1]:find(path, 1, true))
      end)
    end)
  end

  it("names a missing file and a wrong flag", function()
    local cfg, problems = config.read({ environ = {}, file = "/nonexistent/c.json", flags = { "plane.port" } })
    assert.is_nil(cfg)
    assert.equal(2, #problems)
    assert.equal("--set expects KEY=VALUE, not `plane.port`", problems[1])
    assert.truthy(problems[2]:find("/nonexistent/c.json", 1, true))
  end)
end)

describe("config types", function()
  local cases = {
    { "boolean", "YES", true }, { "boolean", "on", true }, { "boolean", "1", true }, { "boolean", "true", true },
    { "boolean", "0", false }, { "boolean", "enabled", false }, { "boolean", false, false },
    { "one", "1", true }, { "one", "true", false }, { "list", " a, ,b,", { "a", "b" } }, { "list", "", {} },
    { "integer", "12", 12 }, { "integer", "1.5", nil }, { "integer", "1e3", nil }, { "integer", "0x10", nil },
    { "number", "2.5", 2.5 }, { "number", "nan", nil }, { "string", 5, "5" }, { "address", "0.0.0.0:0", "0.0.0.0:0" },
    { "address", "[::1]:50051", "[::1]:50051" }, { "address", "127.0.0.1:70000", nil }, { "address", "host:1", nil },
    { "json", '{"a":1}', { a = 1 } }, { "json", "{", nil },
  }
  for _, case in ipairs(cases) do
    it(string.format("%s reads %s", case[1], tostring(case[2])), function()
      assert.same(case[3], (types[case[1]]({}, case[2])))
    end)
  end
end)

describe("settings", function()
  local fields = {
    key = 1, env = 1, alias = 1, type = 1, default = 1, secret = 1, doc = 1, validate = 1, min = 1, max = 1,
    choices = 1, role = 1,
  }

  it("are complete, documented and unique", function()
    local seen = {}
    for _, setting in ipairs(config.settings()) do
      assert.truthy(setting.key:find("^%w+%.[%w_]+$"), setting.key)
      assert.truthy(types[setting.type], setting.key)
      assert.truthy(setting.doc and setting.doc:find("%.$"), setting.key .. " needs a sentence as doc")
      assert.is_nil(seen[setting.key], setting.key)
      seen[setting.key] = true
      for _, name in ipairs(type(setting.env) == "table" and setting.env or { setting.env }) do
        assert.is_nil(seen[name], name .. " is used twice")
        seen[name] = true
      end
      for field in pairs(setting) do assert.truthy(fields[field], setting.key .. " has unknown field " .. field) end
    end
  end)

  it("have defaults that their own rules accept", function()
    for _, setting in ipairs(config.settings()) do
      if setting.default ~= nil and type(setting.default) ~= "function" then
        local value, problem = types[setting.type](setting, setting.default)
        assert.is_nil(problem, setting.key)
        assert.same(setting.default, value)
        if setting.validate then assert.is_nil(setting.validate(value), setting.key) end
      end
    end
  end)
end)
