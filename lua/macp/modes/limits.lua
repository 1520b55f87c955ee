-- Limits of mode scripts: defaults, and the settings of one registry or one mode laid over them.

local M = {}

M.DEFAULTS = {
  message_instructions = 1000000,     -- needs and apply together; due and emit
  commitment_instructions = 5000000,  -- when and evaluate; grows with the state
  commitment_per_value = 40,
  view_instructions = 5000000,
  load_instructions = 5000000,
  replay_factor = 10,
  growth_bytes = 16 * 1048576,
  state_bytes = 16 * 1048576,
  memory_bytes = 1024 * 1048576,     -- all sessions of a revision together; one call may add growth_bytes
  wall_ms = 2000,                    -- one call, of processor time
}

---What the settings say, as `resolve` takes it; nil when they say what is so anyway.
---@param script table the section `script` of the settings
function M.from_settings(script)
  local out, differs = { modes = script.by_mode }, next(script.by_mode or {}) ~= nil
  for name, default in pairs(M.DEFAULTS) do
    local value = script[name]
    out[name] = value
    differs = differs or value ~= default
  end
  return differs and out or nil
end

---Limits of a mode.
---@param settings table|nil fields of DEFAULTS, and `modes` = { [mode id] = fields }
---@param mode_id string|nil
function M.resolve(settings, mode_id)
  local out = {}
  for name, value in pairs(M.DEFAULTS) do out[name] = value end
  for _, layer in ipairs({ settings or {}, mode_id and settings and settings.modes and settings.modes[mode_id]
    or {} }) do
    for name in pairs(M.DEFAULTS) do
      if layer[name] ~= nil then out[name] = layer[name] end
    end
  end
  return out
end

return M
