local checks = require("macp.config.checks")
local config = require("macp.config")

local GOOD = {
  MACP_ENV = "production", AUTH_API_KEYS = "0123456789abcdef", RUNTIME_BEARER_TOKEN = "t", RUNTIME_TLS = "true",
}

local function run(changes, roles)
  local environ = {}
  for name, value in pairs(GOOD) do environ[name] = value end
  for name, value in pairs(changes) do environ[name] = value end
  return checks.run(assert(config.load(environ)), roles or { "plane", "runtime" })
end

describe("start-up checks", function()
  it("pass a careful configuration", function()
    assert.same({ {}, {} }, { run({}) })
  end)

  local refused = {
    { { AUTH_API_KEYS = "" }, "AUTH_API_KEYS and AUTH_API_KEYS_FILE are empty: everybody could call the HTTP "
      .. "interface; `macp keys new NAME` makes a key" },
    { { CORS_ORIGIN = "*" }, "CORS_ORIGIN is a pattern: pages of every site could call with their "
      .. "visitors' credentials; name the one origin, like https://console.example.org" },
    { { CORS_ORIGIN = "https://*.example.org" }, "CORS_ORIGIN is a pattern: pages of every site could call with their "
      .. "visitors' credentials; name the one origin, like https://console.example.org" },
    { { RUNTIME_TLS = "" },
      "RUNTIME_TLS is off and RUNTIME_ALLOW_INSECURE does not allow that: switch one of them on" },
    { { DB_POOL_MAX = "1" }, "DB_POOL_MAX must be at least 2" },
    { { RUNTIME_USE_DEV_HEADER = "1", RUNTIME_BEARER_TOKEN = "" },
      "RUNTIME_USE_DEV_HEADER is on without RUNTIME_BEARER_TOKEN: give the token, or switch the header off" },
    { { LAUNCHER_ENABLED = "1" },
      "LAUNCHER_ENABLED is on without LAUNCHER_BEARER_TOKEN: give the launcher a token of its own" },
    { { LAUNCHER_ENABLED = "1", LAUNCHER_BEARER_TOKEN = "same", RUNTIME_BEARER_TOKEN = "same" },
      "LAUNCHER_BEARER_TOKEN is RUNTIME_BEARER_TOKEN: the launcher needs an identity of its own" },
  }
  for _, case in ipairs(refused) do
    it("refuse: " .. case[2], function()
      assert.same({ case[2] }, (run(case[1])))
      assert.same({}, (run(case[1], { "runtime" })))
    end)
    it("let development pass: " .. case[2], function()
      case[1].MACP_ENV = "development"
      assert.same({}, (run(case[1])))
    end)
  end

  it("refuse a Redis store whose address cannot be read, where sessions are stored there", function()
    local function problems(more, roles)
      local changes = { MACP_STORAGE_BACKEND = "redis", MACP_REDIS_URL = "nothing://x", MACP_ENV = "development" }
      for name, value in pairs(more) do changes[name] = value end
      return (run(changes, roles or { "runtime" }))
    end
    assert.equal(1, #problems({}))
    assert.matches("^MACP_REDIS_URL: the Redis URL has an unknown scheme", problems({})[1])
    assert.same({ {}, {}, {} }, { problems({ MACP_MEMORY_ONLY = "1" }), problems({ MACP_STORAGE_BACKEND = "file" }),
      problems({}, { "plane" }) })
  end)

  it("refuse streams over a Redis that is not named, or not properly, in development, too", function()
    local function problems(url)
      return (run({ STREAM_HUB_STRATEGY = "redis", REDIS_URL = url, MACP_ENV = "development" }))
    end
    local host = require("host.redis")
    if host.connect then assert.same({}, problems("redis://:hidden@cache.example/1")) end
    assert.same({ "STREAM_HUB_STRATEGY is redis without REDIS_URL: name the server, like redis://127.0.0.1:6379" },
      problems(""))
    assert.same({ "REDIS_URL: port of the Redis URL: a number from 1 to 65535 expected" },
      problems("redis://:hidden@cache.example:x"))
    if host.connect then
      assert.same({ "REDIS_URL: certificate authorities of Redis in /none.pem: No such file or directory" },
        problems("rediss://:hidden@cache.example?ca=/none.pem"))
    end
    assert.same({}, (run({ STREAM_HUB_STRATEGY = "redis" }, { "runtime" })))
  end)

  it("warn about what may be meant", function()
    local problems, warnings = run({ RUNTIME_BEARER_TOKEN = "", RUNTIME_REQUEST_TIMEOUT_MS = "1000" })
    assert.same({}, problems)
    assert.equal(2, #warnings)
    problems, warnings = run({ STREAM_HUB_STRATEGY = "memory" })
    assert.same({ {}, { "STREAM_HUB_STRATEGY is memory: event streams learn only once a second what other processes "
      .. "store" } }, { problems, warnings })
    problems, warnings = run({ RUNTIME_BEARER_TOKEN = "", MACP_AUTH_SERVICE_URL = "https://tokens.test" })
    assert.same({ {}, {} }, { problems, warnings })
  end)

  it("take a file of keys for keys", function()
    assert.same({ {}, {} }, { run({ AUTH_API_KEYS = "", AUTH_API_KEYS_FILE = "/etc/macp/keys.json" }) })
  end)

  it("warn about keys that can be guessed and about ways into the network", function()
    local problems, warnings = run({ AUTH_API_KEYS = "0123456789abcdef,short", OUTBOUND_ALLOW_PRIVATE = "1" })
    assert.same({}, problems)
    assert.same({
      "AUTH_API_KEYS holds a key of fewer than 16 characters, which can be guessed: `macp keys new NAME` makes a "
        .. "better one",
      "OUTBOUND_ALLOW_PRIVATE is on: webhooks and callbacks that callers name reach addresses inside this network; "
        .. "OUTBOUND_ALLOW_HOSTS allows single ones",
    }, warnings)
  end)

  it("open the runtime channel in development only", function()
    assert.is_true(config.load({}).plane.runtime_allow_insecure)
    assert.is_false(config.load({ MACP_ENV = "production" }).plane.runtime_allow_insecure)
    assert.is_true(config.load({ MACP_ENV = "production", RUNTIME_ALLOW_INSECURE = "1" }).plane.runtime_allow_insecure)
  end)
end)

describe("start-up checks of tracing", function()
  local WRONG = { OTEL_EXPORTER_OTLP_PROTOCOL = "grpc", OTEL_TRACES_SAMPLER = "jaeger_remote" }

  local function with(changes)
    local environ = { OTEL_ENABLED = "1", OTEL_EXPORTER_OTLP_ENDPOINT = "http://collector:4318" }
    for name, value in pairs(changes) do environ[name] = value end
    return { run(environ) }
  end

  it("refuse what cannot be done, in development too", function()
    local expected = { "OTEL_EXPORTER_OTLP_PROTOCOL is grpc: traces are sent as http/protobuf only",
      "OTEL_TRACES_SAMPLER is jaeger_remote: it must be always_on, always_off or traceidratio, perhaps with "
        .. "`parentbased_` before it" }
    assert.same({ expected, {} }, with(WRONG))
    WRONG.MACP_ENV = "development"
    assert.same({ expected, {} }, with(WRONG))
  end)

  it("leave variables alone that are meant for other programs", function()
    assert.same({ {}, {} }, { run({ OTEL_EXPORTER_OTLP_PROTOCOL = "grpc", OTEL_TRACES_SAMPLER = "x" }) })
  end)

  it("warn when nobody said where traces go", function()
    assert.same({ {}, { "OTEL_ENABLED is on without OTEL_EXPORTER_OTLP_ENDPOINT: traces go to localhost" } },
      with({ OTEL_EXPORTER_OTLP_ENDPOINT = "" }))
    assert.same({ {}, {} }, with({ OTEL_EXPORTER_OTLP_ENDPOINT = "",
      OTEL_EXPORTER_OTLP_TRACES_ENDPOINT = "http://x/y" }))
  end)

  for name, text in pairs({ OTEL_EXPORTER_OTLP_ENDPOINT = "collector:4318", OTEL_EXPORTER_OTLP_HEADERS = "x",
    OTEL_RESOURCE_ATTRIBUTES = "a", OTEL_TRACES_SAMPLER_ARG = "2", OTEL_BSP_MAX_QUEUE_SIZE = "0" }) do
    it("refuse " .. name .. "=" .. text, function()
      local cfg, problems = config.load({ [name] = text })
      assert.is_nil(cfg)
      assert.equal(1, #problems)
      assert.truthy(problems[1]:find(name .. " must be", 1, true), problems[1])
    end)
  end
end)
