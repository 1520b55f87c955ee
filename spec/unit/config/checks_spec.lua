local checks = require("macp.config.checks")
local config = require("macp.config")

local GOOD = {
  MACP_ENV = "production", AUTH_API_KEYS = "k", RUNTIME_BEARER_TOKEN = "t", RUNTIME_TLS = "true",
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
    { { AUTH_API_KEYS = "" }, "AUTH_API_KEYS is empty: everybody could call the HTTP interface" },
    { { RUNTIME_TLS = "" }, "RUNTIME_TLS is off and RUNTIME_ALLOW_INSECURE does not allow that" },
    { { DB_POOL_MAX = "1" }, "DB_POOL_MAX must be at least 2" },
    { { RUNTIME_USE_DEV_HEADER = "1", RUNTIME_BEARER_TOKEN = "" },
      "RUNTIME_USE_DEV_HEADER is on without RUNTIME_BEARER_TOKEN" },
    { { LAUNCHER_ENABLED = "1" }, "LAUNCHER_ENABLED is on without LAUNCHER_BEARER_TOKEN" },
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

  it("warn about what may be meant", function()
    local problems, warnings = run({ RUNTIME_BEARER_TOKEN = "", RUNTIME_REQUEST_TIMEOUT_MS = "1000" })
    assert.same({}, problems)
    assert.equal(2, #warnings)
    problems, warnings = run({ RUNTIME_BEARER_TOKEN = "", MACP_AUTH_SERVICE_URL = "https://tokens.test" })
    assert.same({ {}, {} }, { problems, warnings })
  end)

  it("open the runtime channel in development only", function()
    assert.is_true(config.load({}).plane.runtime_allow_insecure)
    assert.is_false(config.load({ MACP_ENV = "production" }).plane.runtime_allow_insecure)
    assert.is_true(config.load({ MACP_ENV = "production", RUNTIME_ALLOW_INSECURE = "1" }).plane.runtime_allow_insecure)
  end)
end)
