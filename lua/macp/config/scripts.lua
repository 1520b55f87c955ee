-- Limits of mode scripts, for every role that runs them. Fields of an entry: see config/init.lua. Defaults and bounds
-- are those of macp.modes.limits; a spec compares them.

local suggest = require("macp.core.suggest")
local tables = require("macp.core.tables")

local INSTRUCTIONS = 1000000000000
local BYTES = 1099511627776
local MIB = 1048576

local function limit(name, env, default, max, doc)
  return { key = "script." .. name, env = env, type = "integer", min = 1, max = max, default = default, doc = doc }
end

local LIMITS = {
  limit("message_instructions", "MACP_SCRIPT_MESSAGE_INSTRUCTIONS", 1000000, INSTRUCTIONS,
    "Instructions of a mode's script for one message: its needs and apply together, or one due or emit of a timer."),
  limit("commitment_instructions", "MACP_SCRIPT_COMMITMENT_INSTRUCTIONS", 5000000, INSTRUCTIONS,
    "Instructions for one Commitment: when and evaluate together; large states get more."),
  limit("commitment_per_value", "MACP_SCRIPT_COMMITMENT_PER_VALUE", 40, 1000000,
    "Instructions for a Commitment per value of the session's state, when that is more."),
  limit("view_instructions", "MACP_SCRIPT_VIEW_INSTRUCTIONS", 5000000, INSTRUCTIONS,
    "Instructions of one call of a normalizer, reducer, webhook or route."),
  limit("load_instructions", "MACP_SCRIPT_LOAD_INSTRUCTIONS", 5000000, INSTRUCTIONS,
    "Instructions for loading one file of a mode."),
  limit("replay_factor", "MACP_SCRIPT_REPLAY_FACTOR", 10, 1000,
    "How many times the instructions a message may take when it is replayed: what was accepted must never fail then."),
  limit("growth_bytes", "MACP_SCRIPT_GROWTH_BYTES", 16 * MIB, BYTES, "Memory that one call of a script may add."),
  limit("state_bytes", "MACP_SCRIPT_STATE_BYTES", 16 * MIB, BYTES,
    "State of one session; beyond it only a Commitment is accepted."),
  limit("memory_bytes", "MACP_SCRIPT_MEMORY_BYTES", 1024 * MIB, BYTES,
    "Memory of all sessions of one revision of a mode together."),
  limit("wall_ms", "MACP_SCRIPT_WALL_MS", 2000, 3600000,
    "Processor time of one call of a script in milliseconds, whatever its instructions are."),
}

local BY_NAME = {}
for _, setting in ipairs(LIMITS) do BY_NAME[setting.key:match("%.(.+)$")] = setting end
BY_NAME.memory_bytes.min = 16 * MIB -- our own part of an isolate has to fit

local function check_limit(id, name, value)
  local setting = BY_NAME[name]
  if setting == nil then
    return string.format("must not give %s the unknown limit %s%s", id, name,
      suggest.hint(name, tables.sorted_keys(BY_NAME)))
  end
  if type(value) == "number" and value % 1 == 0 and value >= setting.min and value <= setting.max then return nil end
  return string.format("must give %s.%s a whole number from %d to %d", id, name, setting.min, setting.max)
end

-- What is wrong with { [mode id] = { [limit] = number } }, or nil.
local function check_by_mode(by_mode)
  if type(by_mode) ~= "table" or by_mode[1] ~= nil then
    return 'must be an object like {"ext.auction.v1": {"message_instructions": 2000000}}'
  end
  for _, id in ipairs(tables.sorted_keys(by_mode)) do
    if type(by_mode[id]) ~= "table" then return "must give " .. id .. " an object of limits" end
    for _, name in ipairs(tables.sorted_keys(by_mode[id])) do
      local problem = check_limit(id, name, by_mode[id][name])
      if problem then return problem end
    end
  end
  return nil
end

local settings = {}
for i, setting in ipairs(LIMITS) do settings[i] = setting end
settings[#settings + 1] = {
  key = "script.by_mode", env = "MACP_SCRIPT_LIMITS_JSON", type = "json",
  doc = 'Limits of single modes, e.g. {"ext.auction.v1": {"message_instructions": 2000000}}; the names are those of '
    .. "the settings of this section.",
  validate = check_by_mode,
}

return settings
