-- Command-line options: one small parser and one help layout for all commands.
--
-- option   = { name=, short=, value="TEXT"|nil (nil: a flag), type="string|integer|number", choices={}, repeated=,
--              default=, required=, doc= }
-- argument = { name=, repeated=, required=, doc= }

local suggest = require("macp.core.suggest")

local HELP_COLUMN = 30

local M = {}

local function key_of(option)
  return (option.name:gsub("%-", "_"))
end

local function index_options(options)
  local by_flag, flags = {}, {}
  for _, option in ipairs(options) do
    by_flag["--" .. option.name] = option
    flags[#flags + 1] = "--" .. option.name
    if option.short then by_flag["-" .. option.short] = option end
  end
  return by_flag, flags
end

local function convert(option, text)
  if option.type == "integer" or option.type == "number" then
    local number = tonumber(text)
    if number == nil or (option.type == "integer" and number % 1 ~= 0) then
      return nil, string.format("--%s expects %s, not `%s`", option.name,
        option.type == "integer" and "a whole number" or "a number", text)
    end
    return number
  end
  if option.choices then
    for _, choice in ipairs(option.choices) do
      if choice == text then return text end
    end
    return nil, string.format("--%s must be one of %s, not `%s`%s", option.name,
      table.concat(option.choices, ", "), text, suggest.hint(text, option.choices))
  end
  return text
end

local function store(opts, option, value)
  local key = key_of(option)
  if option.repeated then
    opts[key] = opts[key] or {}
    table.insert(opts[key], value)
    return true
  end
  if opts[key] ~= nil and opts[key] ~= value then
    return nil, string.format("--%s is given twice with different values", option.name)
  end
  opts[key] = value
  return true
end

-- Splits `--name=value` and `-nvalue`; returns flag, attached value, rest of a cluster of short flags.
local function split_flag(word, by_flag)
  if word:sub(1, 2) == "--" then
    local name, value = word:match("^(%-%-[^=]+)=(.*)$")
    return name or word, value, nil
  end
  local flag, rest = word:sub(1, 2), word:sub(3)
  if rest == "" then return flag, nil, nil end
  local option = by_flag[flag]
  if option and option.value then return flag, rest, nil end
  return flag, nil, "-" .. rest
end

local function take_option(state, word)
  local flag, attached, rest = split_flag(word, state.by_flag)
  local option = state.by_flag[flag]
  if option == nil then
    return nil, string.format("unknown option `%s`%s", flag, suggest.hint(flag, state.flags))
  end
  local value = true
  if option.value then
    value = attached
    if value == nil then
      state.at = state.at + 1
      value = state.argv[state.at]
      if value == nil then
        return nil, string.format("--%s needs a value: --%s %s", option.name, option.name, option.value)
      end
    end
    local problem
    value, problem = convert(option, value)
    if value == nil then return nil, problem end
  elseif attached ~= nil then
    return nil, string.format("--%s takes no value", option.name)
  end
  local ok, problem = store(state.opts, option, value)
  if not ok then return nil, problem end
  if rest then return take_option(state, rest) end
  return true
end

local function check_arguments(arguments, words)
  local least, most = 0, #arguments
  for _, argument in ipairs(arguments) do
    if argument.required then least = least + 1 end
    if argument.repeated then most = math.huge end
  end
  if #words < least then
    return nil, string.format("%s is missing", arguments[#words + 1].name)
  end
  if #words > most then
    return nil, string.format("unexpected argument `%s`", words[most + 1])
  end
  return true
end

local function fill_defaults(options, opts)
  for _, option in ipairs(options) do
    local key = key_of(option)
    if opts[key] == nil and option.default ~= nil then opts[key] = option.default end
    if opts[key] == nil and option.required then
      return nil, string.format("--%s %s is required", option.name, option.value)
    end
  end
  return true
end

---Reads argv by the options and arguments of a command. Options and arguments may be mixed; `--` ends options, and so
---does the first argument of a command with options_first.
---@param command table { options=, arguments=, options_first= }
---@param argv string[]
---@return table|nil opts values by option name (`-` becomes `_`), arguments in opts.args
---@return string|nil problem one line
function M.parse(command, argv)
  local options, arguments = command.options or {}, command.arguments or {}
  local by_flag, flags = index_options(options)
  local state = { argv = argv, at = 1, opts = { args = {} }, by_flag = by_flag, flags = flags }
  local only_words = false
  while state.at <= #argv do
    local word = argv[state.at]
    if not only_words and word == "--" then
      only_words = true
    elseif only_words or word == "-" or word:sub(1, 1) ~= "-" then
      table.insert(state.opts.args, word)
      only_words = only_words or command.options_first == true
    else
      local ok, problem = take_option(state, word)
      if not ok then return nil, problem end
    end
    state.at = state.at + 1
  end
  if state.opts.help then return state.opts end
  local ok, problem = check_arguments(arguments, state.opts.args)
  if ok then ok, problem = fill_defaults(options, state.opts) end
  if not ok then return nil, problem end
  return state.opts
end

local function default_text(option)
  if option.default == nil then return "" end
  local value = option.default
  if type(value) == "table" then value = table.concat(value, ",") end
  return " (default: " .. tostring(value) .. ")"
end

---Wraps text into lines of at most `width` characters.
function M.wrap(text, width)
  local lines, line = {}, ""
  for word in text:gmatch("%S+") do
    if line ~= "" and #line + 1 + #word > width then
      lines[#lines + 1], line = line, word
    else
      line = line == "" and word or (line .. " " .. word)
    end
  end
  lines[#lines + 1] = line
  return lines
end

---One aligned row of a two-column list.
function M.row(left, right, style, column)
  column = column or HELP_COLUMN
  local lines = M.wrap(right, math.max(30, 100 - column))
  local head = "  " .. left
  local out = {}
  if #head + 2 > column then
    out[1] = "  " .. style.bold(left)
    out[2] = string.rep(" ", column) .. lines[1]
  else
    out[1] = "  " .. style.bold(left) .. string.rep(" ", column - #head) .. lines[1]
  end
  for i = 2, #lines do out[#out + 1] = string.rep(" ", column) .. lines[i] end
  return table.concat(out, "\n")
end

local function option_row(option, style)
  local left = (option.short and ("-" .. option.short .. ", ") or "    ") .. "--" .. option.name
  if option.value then left = left .. " " .. option.value end
  local doc = option.doc or ""
  if option.choices then doc = doc .. " One of: " .. table.concat(option.choices, ", ") .. "." end
  if option.repeated then doc = doc .. " May be repeated." end
  return M.row(left, doc .. default_text(option), style)
end

-- "macp spec [options] PATH..."
local function usage_line(name, command)
  local parts = { "macp " .. name }
  if command.verbs then parts[#parts + 1] = "VERB" end
  if #(command.options or {}) > 0 then parts[#parts + 1] = "[options]" end
  for _, argument in ipairs(command.arguments or {}) do
    local text = argument.name .. (argument.repeated and "..." or "")
    parts[#parts + 1] = argument.required and text or ("[" .. text .. "]")
  end
  return table.concat(parts, " ")
end

---The help page of one command; `global_options` are listed last.
function M.help(name, command, global_options, style)
  local out = { style.bold("Usage: ") .. usage_line(name, command), "", command.summary, "" }
  if command.help then
    out[#out + 1] = (command.help:gsub("%s+$", ""))
    out[#out + 1] = ""
  end
  local function section(title, list, row)
    if #list == 0 then return end
    out[#out + 1] = style.bold(title)
    for _, item in ipairs(list) do out[#out + 1] = row(item) end
    out[#out + 1] = ""
  end
  section("Arguments:", command.arguments or {}, function(item)
    return M.row(item.name, item.doc or "", style)
  end)
  section("Options:", command.options or {}, function(item) return option_row(item, style) end)
  section("Options of every command:", global_options or {}, function(item) return option_row(item, style) end)
  return table.concat(out, "\n")
end

local function paint(code)
  return function(text) return "\27[" .. code .. "m" .. text .. "\27[0m" end
end

local function plain(text) return text end

---Text styles; every one returns its argument unchanged when `coloured` is false.
function M.style(coloured)
  if not coloured then
    return { bold = plain, dim = plain, red = plain, green = plain, yellow = plain, cyan = plain }
  end
  return {
    bold = paint("1"), dim = paint("2"), red = paint("31"), green = paint("32"), yellow = paint("33"),
    cyan = paint("36"),
  }
end

return M
