-- `macp config`: every setting with its value, where the value comes from, and what it does.

local cli = require("macp.core.cli")
local config = require("macp.config")
local console = require("macp.core.console")
local json = require("macp.core.json")
local redact = require("macp.telemetry.redact")
local suggest = require("macp.core.suggest")
local tables = require("macp.core.tables")

local M = {
  summary = "Show every setting: value, source and meaning.",
  help = [[
  macp config                                   all settings
  macp config plane.port log                    some: a key, or a section
  PORT=8080 macp config plane.port              the environment sets them
  macp config --set plane.port=8080             so does --set, and wins
  macp config --config macp.json                a file gives them: { "plane": { "port": 8080 } }
  macp config --json                            for programs

Secrets are masked. Wrong values are all listed at once (exit code 2).]],
  options = {
    { name = "json", doc = "Print JSON." },
    { name = "changed", doc = "Only settings that differ from their default." },
  },
  arguments = { { name = "KEY", repeated = true, doc = "Keys or sections, e.g. plane.port or runtime." } },
  quiet_config = true,
}

local function shown(entry)
  local value = entry.value
  local empty = value == nil or value == "" or (type(value) == "table" and next(value) == nil)
  if entry.setting.secret == "url" and not empty then return redact.url(value) end
  if entry.setting.secret and not empty then return redact.MASK end
  return value
end

local function as_text(value)
  if value == nil or value == "" then return "(none)" end
  if type(value) ~= "table" then return tostring(value) end
  if #value == 0 and next(value) ~= nil then return json.canonical(value) end
  return #value == 0 and "(none)" or table.concat(value, ",")
end

local function env_text(setting)
  if setting.env == nil then return nil end
  return type(setting.env) == "table" and table.concat(setting.env, " or ") or setting.env
end

-- Words of the command line that are neither a key nor a section, as one line; nil when there are none.
local function unknown_words(entries, words)
  local names = {}
  for _, entry in ipairs(entries) do
    names[entry.setting.key], names[entry.setting.key:match("^(%w+)%.")] = true, true
  end
  local known, unknown = tables.sorted_keys(names), {}
  for _, word in ipairs(words) do
    if not names[word] then unknown[#unknown + 1] = word .. suggest.hint(word, known) end
  end
  return #unknown > 0 and "no setting is called " .. table.concat(unknown, ", ") or nil
end

local function selected(entries, opts)
  local wanted, words = {}, tables.set(opts.args)
  for _, entry in ipairs(entries) do
    local key = entry.setting.key
    local matches = #opts.args == 0 or words[key] or words[key:match("^(%w+)%.")]
    if matches and (not opts.changed or entry.source ~= "default") then wanted[#wanted + 1] = entry end
  end
  return wanted
end

local function print_json(entries, warnings)
  local list = json.array({})
  for i, entry in ipairs(entries) do
    local value = shown(entry)
    if type(value) == "table" and next(value) == nil then value = json.array({}) end
    list[i] = {
      key = entry.setting.key, value = json.nullable(value), source = entry.source, origin = entry.origin,
      env = json.nullable(env_text(entry.setting)), role = entry.setting.role, doc = entry.setting.doc,
    }
  end
  console.print(json.encode({ settings = list, warnings = json.array(warnings) }, { sorted = true, pretty = true }))
end

local function print_text(entries, warnings)
  local style = console.style()
  local role
  for _, entry in ipairs(entries) do
    if entry.setting.role ~= role then
      if role then console.print("") end
      role = entry.setting.role
      console.print(style.bold(role))
    end
    local source = entry.source == "default" and style.dim("default") or style.green(entry.source)
    console.print(string.format("  %s = %s  [%s]", style.cyan(entry.setting.key), as_text(shown(entry)), source))
    local env = env_text(entry.setting)
    for _, line in ipairs(cli.wrap(entry.setting.doc .. (env and " (" .. env .. ")" or ""), 94)) do
      console.print("      " .. style.dim(line))
    end
  end
  for _, warning in ipairs(warnings) do console.warn(console.error_style().yellow("warning: ") .. warning) end
end

---@param opts { args: string[], json: boolean|nil, changed: boolean|nil }
---@param cfg table
---@return integer|nil exit code; nil, err for words that name nothing
function M.run(opts, cfg)
  local all = config.entries(cfg)
  local problem = unknown_words(all, opts.args)
  if problem then return nil, { code = "USAGE", message = problem } end
  local entries, warnings = selected(all, opts), config.warnings(cfg)
  if opts.json then print_json(entries, warnings) else print_text(entries, warnings) end
  return 0
end

return M
