-- Isolation: one isolate with our trusted code booted, ready to load a mode. Nothing in it is shared with others.

local isolate = require("host.isolate")

local source = require("macp.modes.source")

local INSIDE = { "sandbox", "kit", "payload", "payload_json", "polarity", "commitment", "state", "policy", "context",
  "step", "sessions", "slices", "routes", "view", "boot" }
local LOADER = [[
local modules, texts = {}, {}
function require(name)
  local value = modules[name]
  if value == nil then
    local fn, problem = native.compile(texts[name], "=" .. name:gsub("^macp%.modes%.", ""), _G)
    if fn == nil then error(problem, 0) end
    texts[name] = nil
    value = fn()
    modules[name] = value
  end
  return value
end
return { define = function(name, text) texts[name] = text end }
]]
local START = [[return require("macp.modes.inside.boot")]]

-- Entry functions that are called per message: their numbers are looked up once.
local HOT = { "submit", "apply", "observe", "fire", "failed", "due", "encode", "hash", "drop", "render", "summary",
  "webhook", "reduce", "recode", "shuffle", "degrade", "encode_begin", "encode_step", "encode_stop" }

local M = {}

local function text_of(name)
  local path = "lua/macp/modes/inside/" .. name .. ".lua"
  return assert(source.own(path), path .. " is missing")
end

---A booted isolate and the numbers of its hot entries.
---@param name string for messages
---@param limits table memory_bytes, wall_ms
function M.new(name, limits)
  local iso = assert(isolate.new({ name = name, memory_bytes = limits.memory_bytes, wall_ms = limits.wall_ms }))
  local function must(ok, err)
    if not ok then error("mode machinery: " .. tostring(err.message) .. "\n" .. tostring(err.traceback), 0) end
  end
  must(iso:boot("=loader", LOADER))
  for _, module in ipairs(INSIDE) do must(iso:call("define", nil, "macp.modes.inside." .. module, text_of(module))) end
  must(iso:boot("=start", START))
  local entries = {}
  for _, entry in ipairs(HOT) do entries[entry] = assert(iso:entry(entry), entry) end
  return iso, entries
end

return M
