-- The command line: argv -> command -> exit code. The host calls main.run(argv) inside a task.
-- Exit codes: 0 done, 1 failed, 2 bad configuration, 3 wrong usage.

local log = require("host.log")
local sys = require("host.sys")

local cli = require("macp.core.cli")
local console = require("macp.core.console")
local suggest = require("macp.core.suggest")

local OK, FAILED, BAD_CONFIG, BAD_USAGE = 0, 1, 2, 3

-- Every command is lua/macp/cmd/<name>.lua; this list is the order of the overview.
local COMMANDS = {
  "dev", "serve", "runtime", "run", "modes", "sessions", "policies", "keys", "migrate", "config", "spec", "version",
}

local HELP_OPTIONS = { { name = "help", short = "h", doc = "Show this help." } }
local GLOBAL_OPTIONS = {
  HELP_OPTIONS[1],
  { name = "config", value = "FILE", doc = "Read settings from a JSON file; the environment wins over it." },
  { name = "set", value = "KEY=VALUE", repeated = true, doc = "Set one setting; wins over the environment." },
  { name = "log-level", value = "LEVEL", choices = { "debug", "info", "warn", "error" },
    doc = "Short for --set log.level=LEVEL." },
}

local M = { COMMANDS = COMMANDS }

-- A command's table, or nil when there is no such command. Errors inside the file are raised.
local function find(path)
  local module = "macp.cmd." .. path
  local ok, command = pcall(require, module)
  if ok then return command end
  if tostring(command):find("module '" .. module .. "' not found", 1, true) then return nil end
  error(command, 0)
end

local function overview()
  local style = console.style()
  console.print(style.bold("macp") .. " " .. sys.version .. ": coordination sessions, run and watched.\n")
  console.print(style.bold("Usage: ") .. "macp COMMAND [options]\n")
  console.print(style.bold("Commands:"))
  for _, name in ipairs(COMMANDS) do
    local ok, command = pcall(find, name)
    if command then console.print(cli.row(name, ok and command.summary or "(does not load)", style, 14)) end
  end
  console.print("\n" .. style.bold("Start here:"))
  console.print("  macp dev                 everything on this machine, with a session to watch")
  console.print("  macp COMMAND --help      what a command does, by example")
  console.print("  macp config              every setting, its value and where it comes from")
end

local function usage_error(text, advice)
  local style = console.error_style()
  console.warn(style.red("macp: ") .. text)
  if advice then console.warn(advice) end
  return BAD_USAGE
end

local function unknown_command(parent, word, known)
  return usage_error(string.format("unknown command `%s%s`%s", parent, word, suggest.hint(word, known)),
    "Run `macp " .. parent .. "--help` for the list.")
end

-- A command that reads no settings has no options to set them.
local function common_options(command)
  return (command.config == false or command.run == nil) and HELP_OPTIONS or GLOBAL_OPTIONS
end

local function show_help(name, command)
  local style = console.style()
  local text = cli.help(name, command, common_options(command), style)
  if command.verbs then
    local lines = { text, style.bold("Verbs:") }
    local base = name:gsub(" ", ".")
    for _, verb in ipairs(command.verbs) do
      local found = find(base .. "." .. verb)
      if found then lines[#lines + 1] = cli.row(verb, found.summary, style, 14) end
    end
    lines[#lines + 1] = "\nRun `macp " .. name .. " VERB --help` for one of them.\n"
    text = table.concat(lines, "\n")
  end
  console.print((text:gsub("%s+$", "")))
end

-- Follows `modes check` through nested verbs. Returns name, command, rest of argv; or nil, exit code.
local function resolve(argv)
  local name, at = argv[1], 1
  local command = find(name:match("^[%w_%-]+$") and name or "")
  if command == nil then return nil, unknown_command("", name, COMMANDS) end
  while command.verbs and argv[at + 1] and argv[at + 1]:sub(1, 1) ~= "-" do
    local verb = argv[at + 1]
    local found = verb:match("^[%w_%-]+$") and find(name:gsub(" ", ".") .. "." .. verb)
    if not found then return nil, unknown_command(name .. " ", verb, command.verbs) end
    name, command, at = name .. " " .. verb, found, at + 1
  end
  local rest = {}
  for i = at + 1, #argv do rest[#rest + 1] = argv[i] end
  return name, command, rest
end

local function with_global_options(command)
  local options = {}
  for _, option in ipairs(command.options or {}) do options[#options + 1] = option end
  for _, option in ipairs(common_options(command)) do options[#options + 1] = option end
  return { options = options, arguments = command.arguments, options_first = command.options_first }
end

local function report_config(name, problems)
  local style = console.error_style()
  console.warn(style.red("macp: ") .. "the configuration has problems:")
  for _, problem in ipairs(problems) do console.warn("  " .. problem) end
  if name ~= "config" then console.warn("Run `macp config` for all settings, their values and sources.") end
  return BAD_CONFIG
end

-- Settings from the file, the environment and --set, in this order; logging follows them. (yields)
local function load_config(command, opts)
  local config = require("macp.config")
  local flags = opts.set or {}
  if opts.log_level then flags[#flags + 1] = "log.level=" .. opts.log_level end
  local cfg, problems = config.read({ environ = sys.environ(), file = opts.config, flags = flags })
  if cfg == nil then return nil, problems end
  log.set_level(cfg.log.level)
  local format = cfg.log.format
  if format == "auto" then
    format = not console.logs_to_terminal() and "json" or (console.logs_coloured() and "colour" or "text")
  end
  log.set_format(format)
  if not command.quiet_config then
    for _, warning in ipairs(config.warnings(cfg)) do log.warn("config.warning", { message = warning }) end
  end
  return cfg
end

local function describe_failure(err)
  if type(err) ~= "table" then return tostring(err) end
  local text = err.message or err.code or "unknown error"
  if err.file then text = string.format("%s:%s: %s", err.file, err.line or "?", text) end
  return text
end

-- Runs a command to its exit code. A typed error is told in one line, a bug with its traceback.
local function execute(name, command, opts, cfg)
  local function on_error(err)
    return type(err) == "table" and err.code and err or debug.traceback(tostring(err), 2)
  end
  local ok, code, err = xpcall(command.run, on_error, opts, cfg)
  if ok and type(code) == "number" then return code end
  if ok and code == nil and err ~= nil then ok, code = false, err end
  if not ok and type(code) == "table" and code.code == "USAGE" then
    return usage_error(name .. ": " .. code.message, "Run `macp " .. name .. " --help` for its options.")
  end
  if ok then return OK end
  local style = console.error_style()
  console.warn(style.red("macp " .. name .. ": ") .. describe_failure(code))
  return FAILED
end

local function run_command(argv)
  local name, command, rest = resolve(argv)
  if name == nil then return command end
  local opts, problem = cli.parse(with_global_options(command), rest)
  if opts == nil then
    return usage_error(name .. ": " .. problem, "Run `macp " .. name .. " --help` for its options.")
  end
  if opts.help or command.run == nil then
    show_help(name, command)
    return (opts.help or #rest == 0) and OK or BAD_USAGE
  end
  local cfg
  if command.config ~= false then
    local problems
    cfg, problems = load_config(command, opts)
    if cfg == nil then
      return command.report_config and command.report_config(opts, problems) or report_config(name, problems)
    end
  end
  return execute(name, command, opts, cfg)
end

---Runs the command that argv names. (yields)
---@param argv string[] arguments without the program's name
---@return integer exit code
function M.run(argv)
  local first = argv[1]
  if first == nil or first == "--help" or first == "-h" or (first == "help" and argv[2] == nil) then
    overview()
    return OK
  end
  if first == "help" then
    local name, command = resolve({ unpack(argv, 2) })
    if name == nil then return command end
    show_help(name, command)
    return OK
  end
  if first == "--version" or first == "-V" then return run_command({ "version" }) end
  return run_command(argv)
end

return M
