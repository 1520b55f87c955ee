-- `macp run`: runs a Lua script inside the program, with the agent SDK at hand.

local fs = require("host.fs")
local log = require("host.log")

local config = require("macp.config")
local modes_option = require("macp.cmd.shared.modes_option")

local M = {
  summary = "Run an agent or any other script written in Lua.",
  help = [[
  macp run examples/quickstart/decision.lua      three agents decide; needs a runtime, e.g. `macp dev --no-demo`
  macp run agent.lua alice 127.0.0.1:50051       the words after the script are its arguments (...)
  macp run --modes ./modes agent.lua             sessions of your own modes

The script runs in a task: calls that wait look like ordinary calls. `require("macp.sdk")` is the agent SDK; modules
beside the script are found by `require`, too. A number that the script returns is the exit code.]],
  options = {
    modes_option,
  },
  options_first = true,
  arguments = {
    { name = "SCRIPT", required = true, doc = "The Lua file." },
    { name = "ARG", repeated = true, doc = "Arguments of the script." },
  },
}

local function use_modes(dirs)
  local registry = require("macp.modes.registry").new({ dirs = dirs })
  local ok, err = registry:load_all()
  if not ok then return nil, err end
  require("macp.sdk").use_registry(registry)
  return true
end

-- The frames of a traceback that are the script's: not the program's above main, not those of the SDK and C below.
local function own_frames(trace)
  local frames = {}
  for frame in trace:gmatch("\n\t([^\n]*)") do
    if frame:find("macp/cmd/run.lua", 1, true) then break end
    if not frame:find("^%[C%]") and not frame:find("lua/macp/", 1, true) then
      frames[#frames + 1] = (frame:gsub("in function 'chunk'$", "in main chunk"))
    end
  end
  return frames
end

-- What went wrong in a script and where. Errors that are tables (those of the SDK) do not carry their place.
local function failure_of(err)
  local frames = own_frames(debug.traceback("", 2))
  local text = tostring(err)
  if type(err) == "table" and not getmetatable(err) then
    text = tostring(err.message or err.code or "the script raised a table without a message")
  end
  local place = frames[1] and frames[1]:match("^(.-:%d+):")
  if place and text:sub(1, #place) ~= place then text = place .. ": " .. text end
  if #frames > 1 then text = text .. "\n\t" .. table.concat(frames, "\n\t") end
  return { code = "SCRIPT", message = text }
end

---(yields) Exit code: what the script returns if that is a number, else 0; 1 when it fails.
---@param opts { args: string[], modes: string[]|nil }
---@param cfg table
---@return integer|nil exit code
---@return table|nil err
function M.run(opts, cfg)
  if not config.chosen(cfg)["log.level"] then log.set_level("warn") end -- the script has the say
  local path = opts.args[1]
  local text, err = fs.read(path)
  if not text then return nil, err end
  text = text:gsub("^#[^\n]*", "") -- a first line for the shell: #!/usr/bin/env -S macp run
  local chunk, problem = loadstring(text, "@" .. path)
  if not chunk then return nil, { code = "SCRIPT", message = problem } end
  io.stdout:setvbuf("line") -- what an agent prints appears when it prints it, through pipes, too
  local dir = path:match("^(.*)/[^/]*$") or "."
  package.path = dir .. "/?.lua;" .. package.path
  if opts.modes then
    local is_usable, modes_err = use_modes(opts.modes)
    if not is_usable then return nil, modes_err end
  end
  local ok, code = xpcall(chunk, failure_of, unpack(opts.args, 2))
  if not ok then return nil, code end
  return type(code) == "number" and code or 0
end

return M
