local config = require("macp.config")
local limits = require("macp.modes.limits")

describe("limits of scripts as settings", function()
  it("have the defaults of the machinery, and are then no limits of their own", function()
    local cfg = assert(config.load({}))
    for name, default in pairs(limits.DEFAULTS) do assert.equal(default, cfg.script[name], name) end
    assert.is_nil(limits.from_settings(cfg.script))
  end)

  it("reach every mode, and single modes before that", function()
    local cfg = assert(config.load({
      MACP_SCRIPT_MESSAGE_INSTRUCTIONS = "5000", MACP_SCRIPT_WALL_MS = "300",
      MACP_SCRIPT_LIMITS_JSON = '{"ext.auction.v1":{"message_instructions":7000}}',
    }))
    local settings = limits.from_settings(cfg.script)
    assert.equal(5000, limits.resolve(settings, "ext.other.v1").message_instructions)
    assert.equal(7000, limits.resolve(settings, "ext.auction.v1").message_instructions)
    assert.equal(300, limits.resolve(settings, "ext.auction.v1").wall_ms)
    assert.equal(limits.DEFAULTS.state_bytes, limits.resolve(settings, "ext.auction.v1").state_bytes)
  end)

  it("are those of the modes that a role runs", function()
    local cfg = assert(config.load({
      MACP_SCRIPT_MESSAGE_INSTRUCTIONS = "5000",
      MACP_SCRIPT_LIMITS_JSON = '{"macp.mode.decision.v1":{"view_instructions":7000}}',
    }))
    local made = require("macp.cmd.shared.roles").services(cfg).modes()
    assert(made:load_all())
    local limits_used = made:get("macp.mode.decision.v1").limits
    assert.same({ 5000, 7000 }, { limits_used.message_instructions, limits_used.view_instructions })
    assert.equal(limits.DEFAULTS.view_instructions, made:get("ext.auction.v1").limits.view_instructions)
    made:close()
  end)

  local refusals = {
    { "MACP_SCRIPT_MESSAGE_INSTRUCTIONS", "0", "MACP_SCRIPT_MESSAGE_INSTRUCTIONS must be at least 1, not `0`" },
    { "MACP_SCRIPT_WALL_MS", "9999999999", "MACP_SCRIPT_WALL_MS must be at most 3600000, not `9999999999`" },
    { "MACP_SCRIPT_LIMITS_JSON", "[1]", "MACP_SCRIPT_LIMITS_JSON must be an object like" },
    { "MACP_SCRIPT_LIMITS_JSON", '{"a":1}', "MACP_SCRIPT_LIMITS_JSON must give a an object of limits" },
    { "MACP_SCRIPT_LIMITS_JSON", '{"a":{"wal_ms":1}}',
      "MACP_SCRIPT_LIMITS_JSON must not give a the unknown limit wal_ms (did you mean `wall_ms`" },
    { "MACP_SCRIPT_LIMITS_JSON", '{"a":{"wall_ms":0}}',
      "MACP_SCRIPT_LIMITS_JSON must give a.wall_ms a whole number from 1 to 3600000" },
    { "MACP_SCRIPT_LIMITS_JSON", "{", "MACP_SCRIPT_LIMITS_JSON must be JSON: " },
  }
  for _, case in ipairs(refusals) do
    it(string.format("refuse %s=%s", case[1], case[2]), function()
      local cfg, problems = config.load({ [case[1]] = case[2] })
      assert.is_nil(cfg)
      assert.equal(1, #problems)
      assert.equal(case[3], problems[1]:sub(1, #case[3]))
    end)
  end
end)
