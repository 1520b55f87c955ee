-- Settings: default < configuration file < environment < --set. All are read and checked at start, all problems are
-- reported at once. One file per role lists its settings:
--
-- { key = "plane.port",      -> cfg.plane.port
--   env = "PORT",            or a list of names: the first one that is set wins
--   alias = "RUST_LOG",      a foreign variable: asked last and ignored unless its value fits
--   type = "string|integer|number|boolean|one|list|enum|address|json" (config/types.lua),
--   min =, max =, choices =, for numbers and enums
--   default = value or function(cfg) -> value (sees the settings listed before it), or nil
--   secret = true or "url",  masked by `macp config` (of a URL, the password only)
--   validate = function(value) -> nil or what it must be,
--   doc = "one sentence" }

local sys = require("host.sys")

local json = require("macp.core.json")
local suggest = require("macp.core.suggest")
local tables = require("macp.core.tables")
local retired = require("macp.config.retired")
local types = require("macp.config.types")

local ROLES = { "common", "plane", "runtime", "scripts", "telemetry" }
local SELF_DESCRIBING = { MACP_ROOT = true } -- read by the host before any setting

local M = {}

-- cfg -> { entries = , warnings = }
local details = setmetatable({}, { __mode = "k" })

local function names_of(setting)
  if setting.env == nil then return {} end
  return type(setting.env) == "table" and setting.env or { setting.env }
end

local function alias_value(setting, environ)
  local text = setting.alias and environ[setting.alias]
  if text ~= nil and text ~= "" and types[setting.type](setting, text) ~= nil then return text end
  return nil
end

---All settings in order, each with its `role`.
function M.settings()
  local all = {}
  for _, role in ipairs(ROLES) do
    for _, setting in ipairs(require("macp.config." .. role)) do
      setting.role = role
      all[#all + 1] = setting
    end
  end
  return all
end

-- Flattens { plane = { port = 1 } } to { ["plane.port"] = 1 }, as far as keys of settings go.
local function flatten(value, prefix, known, out)
  for key, item in pairs(value) do
    local path = prefix == "" and tostring(key) or (prefix .. "." .. tostring(key))
    if known[path] == nil and type(item) == "table" and not json.is_array(item) then
      flatten(item, path, known, out)
    else
      out[path] = item
    end
  end
  return out
end

local function check_keys(values, known, where, problems)
  local keys = tables.sorted_keys(known)
  for _, key in ipairs(tables.sorted_keys(values)) do
    if known[key] == nil then
      problems[#problems + 1] = string.format("%s: unknown setting %s%s", where, key, suggest.hint(key, keys))
    end
  end
end

-- The raw value of a setting, the kind of its source and its name there. An empty environment variable counts as unset.
local function find(setting, environ, from_file, from_flags)
  if from_flags[setting.key] ~= nil then return from_flags[setting.key], "flag", "--set " .. setting.key end
  for _, name in ipairs(names_of(setting)) do
    local text = environ[name]
    if text ~= nil and text ~= "" then return text, "env", name end
  end
  if from_file[setting.key] ~= nil then return from_file[setting.key], "file", setting.key end
  local text = alias_value(setting, environ)
  if text then return text, "env", setting.alias end
  return nil, "default", setting.key
end

local function describe_problem(setting, origin, raw, problem, hint)
  local shown = (setting.secret or type(raw) == "table") and "" or string.format(", not `%s`", tostring(raw))
  return origin .. " " .. problem .. shown .. (hint or "")
end

local function read_setting(setting, cfg, sources)
  local raw, source, origin = find(setting, sources.environ, sources.file, sources.flags)
  if raw == nil then
    local default = setting.default
    if type(default) == "function" then default = default(cfg) end
    return tables.deep_copy(default), source, origin
  end
  local value, problem, hint = types[setting.type](setting, raw)
  if value ~= nil and setting.validate then problem = setting.validate(value) end
  if problem then
    local where = source == "file" and sources.file_name .. ": " .. origin or origin
    return nil, source, origin, describe_problem(setting, where, raw, problem, hint)
  end
  return value, source, origin
end

-- Sections whose unknown names raise: a misspelt setting is a bug, not nil.
local function new_section(name, declared)
  return setmetatable({}, {
    __index = function(_, key)
      if not declared[key] then error("unknown setting " .. name .. "." .. tostring(key), 2) end
      return nil
    end,
  })
end

local function build_sections(settings)
  local cfg, declared = {}, {}
  for _, setting in ipairs(settings) do
    local section, name = setting.key:match("^(%w+)%.([%w_]+)$")
    if declared[section] == nil then
      declared[section] = {}
      cfg[section] = new_section(section, declared[section])
    end
    declared[section][name] = true
  end
  return cfg
end

-- Variables that do nothing: misspelt ones of ours, and those that only other servers know.
local function idle_variables(environ, settings)
  local names = {}
  for _, setting in ipairs(settings) do
    for _, name in ipairs(names_of(setting)) do names[#names + 1] = name end
  end
  local known, warnings = tables.set(names), {}
  for _, name in ipairs(tables.sorted_keys(environ)) do
    if retired[name] and environ[name] ~= "" then
      warnings[#warnings + 1] = string.format("%s has no effect: %s", name, retired[name])
    elseif name:sub(1, 5) == "MACP_" and not known[name] and not SELF_DESCRIBING[name] then
      warnings[#warnings + 1] = string.format("unknown variable %s%s", name, suggest.hint(name, names))
    end
  end
  return warnings
end

---Reads every setting.
---@param environ table<string, string>
---@param overrides table|nil { flags = { [key] = text }, file = decoded JSON, file_name = for messages }
---@return table|nil cfg
---@return string[]|nil problems one line each
function M.load(environ, overrides)
  overrides = overrides or {}
  local settings, known, problems = M.settings(), {}, {}
  for _, setting in ipairs(settings) do known[setting.key] = setting end
  local sources = {
    environ = environ, flags = overrides.flags or {}, file = flatten(overrides.file or {}, "", known, {}),
    file_name = overrides.file_name or "configuration file",
  }
  check_keys(sources.file, known, sources.file_name, problems)
  check_keys(sources.flags, known, "--set", problems)
  local cfg, entries = build_sections(settings), {}
  for i, setting in ipairs(settings) do
    local section, name = setting.key:match("^(%w+)%.([%w_]+)$")
    local value, source, origin, problem = read_setting(setting, cfg, sources)
    if problem then problems[#problems + 1] = problem end
    rawset(cfg[section], name, value)
    entries[i] = { setting = setting, value = value, source = source, origin = origin }
  end
  if #problems > 0 then return nil, problems end
  details[cfg] = { entries = entries, warnings = idle_variables(environ, settings) }
  return cfg
end

local function parse_flags(flags, problems)
  local values = {}
  for _, text in ipairs(flags or {}) do
    local key, value = text:match("^([%w_.]+)=(.*)$")
    if key then values[key] = value
    else problems[#problems + 1] = string.format("--set expects KEY=VALUE, not `%s`", text) end
  end
  return values
end

local function read_file(path, problems)
  local text, err = require("host.fs").read(path, 1048576)
  if text == nil then
    problems[#problems + 1] = string.format("%s: %s", path, err.message)
    return nil
  end
  local value
  value, err = json.decode(text)
  if type(value) ~= "table" or json.is_array(value) then
    problems[#problems + 1] = string.format("%s: %s", path, err and err.message or "must hold a JSON object")
    return nil
  end
  return value
end

---Reads the configuration file, if any, then every setting. (yields)
---@param from { environ: table, file: string|nil, flags: string[]|nil } flags are KEY=VALUE texts
---@return table|nil cfg
---@return string[]|nil problems
function M.read(from)
  local problems = {}
  local flags = parse_flags(from.flags, problems)
  local file = from.file and read_file(from.file, problems) or nil
  local cfg, more = M.load(from.environ or sys.environ(), { flags = flags, file = file, file_name = from.file })
  for _, problem in ipairs(more or {}) do problems[#problems + 1] = problem end
  if #problems > 0 then return nil, problems end
  return cfg
end

---What is worth a warning: unknown MACP_* variables, and those that have no effect here.
function M.warnings(cfg)
  return details[cfg].warnings
end

---Keys of the settings that somebody chose: what is not in it has its default.
---@return table<string, true>
function M.chosen(cfg)
  local set = {}
  for _, entry in ipairs(details[cfg].entries) do set[entry.setting.key] = entry.source ~= "default" or nil end
  return set
end

---Every setting with value and source, in order: { setting, value, source, origin }.
function M.entries(cfg)
  return details[cfg].entries
end

return M
