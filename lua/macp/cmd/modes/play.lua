-- `macp modes play`: a session at the keyboard. Type messages, let time pass, watch the state.

local json = require("host.json")
local log = require("host.log")
local sys = require("host.sys")

local console = require("macp.core.console")
local fixtures = require("macp.modes.fixtures")
local mode_folder = require("macp.cmd.shared.mode_folder")

local KEY, SYNTHETIC = "play", 1
local HELP = [[
  ann Seal {"digest":"..."}       ann sends a message; the payload is JSON with the field names
  ann Commitment {"action":"..."} missing fields are filled in
  wait 5000                       lets session time pass; timers fire
  state    view    ready          what the mode knows, shows, and could commit
  types                           messages and their fields
  quit]]

local M = {
  summary = "Play a session by typing messages.",
  help = [[
  macp modes play modes/auction --as seller --participants ann,bob
  macp modes play modes/decision --policy '{"voting":{"algorithm":"majority"}}'

Inside:

]] .. HELP,
  options = {
    { name = "as", value = "NAME", default = "ann", doc = "The initiator." },
    { name = "participants", value = "A,B", default = "ann,bob,cy", doc = "The declared participants." },
    { name = "policy", value = "JSON", doc = "Rules of the bound policy (schema version 3)." },
  },
  arguments = { { name = "FOLDER", required = true, doc = "Mode folder." } },
  config = false,
}

local Game = {}
Game.__index = Game

local function pretty(value)
  return json.encode(value, { sorted = true, pretty = true })
end

local function new_game(rev, opts)
  local participants = {}
  for name in opts.participants:gmatch("[^,%s]+") do participants[#participants + 1] = name end
  local rules = {}
  if opts.policy then
    local decoded, err = json.decode(opts.policy)
    if type(decoded) ~= "table" then return nil, "--policy is not JSON: " .. tostring(err and err.message) end
    local fine, reasons = rev:check_policy(decoded, 3)
    if not fine then return nil, table.concat(reasons, "\n") end
    rules = decoded
  end
  local game = setmetatable({ rev = rev, t = 0, sent = 0, fixture = { fills = true, mode_version = rev.version,
    configuration_version = "play" } }, Game)
  local ok, rejection = rev:start(KEY, { initiator = opts.as, participants = participants, mode_version = rev.version,
    configuration_version = "play", policy_version = "policy.play", ttl_ms = 86400000, t = 0,
    policy = { policy_id = "policy.play", mode = rev.id, rules = rules, schema_version = 3 },
    payload = { intent = "play", participants = participants } })
  if not ok then return nil, rejection.code .. ": " .. rejection.message end
  return game
end

local function explain(rejection)
  if rejection.error then
    return string.format("%s:%s: %s", tostring(rejection.error.file), tostring(rejection.error.line),
      rejection.error.text)
  end
  return rejection.message .. (rejection.rule and "   [" .. rejection.rule .. "]" or "")
end

function Game:send(by, name, text)
  local payload = {}
  if text ~= "" then
    local decoded, err = json.decode(text)
    if type(decoded) ~= "table" then return console.print("not JSON: " .. tostring(err and err.message)) end
    payload = decoded
  end
  self.sent = self.sent + 1
  if name == "Commitment" then payload = fixtures.fill_commitment(self.rev, self.fixture, payload, self.sent) end
  local _, bytes, problem = self.rev.iso:call("encode_payload", nil, name, payload)
  if bytes == nil then return console.print("refused   " .. tostring(problem)) end
  local verdict, detail, _, result = self.rev:submit(KEY, name, by, bytes, self.t, 0)
  if verdict == nil then return console.print("refused   " .. detail.code .. ": " .. explain(detail)) end
  console.print(verdict .. (result and "   result " .. result or "") .. "   " .. self.rev:summary(KEY))
  self.over = verdict == "resolved"
end

function Game:wait(ms)
  local target = self.t + ms
  local message, err = self.rev:fire(KEY, target)
  while message do
    local verdict, detail = self.rev:submit(KEY, message.type, message.sender, message.payload, message.at, SYNTHETIC)
    console.print(string.format("%8d  %s by the clock: %s", message.at, message.type,
      verdict or detail.code .. ": " .. explain(detail)))
    if verdict ~= "accepted" then break end
    message, err = self.rev:fire(KEY, target)
  end
  if err then console.print("timer failed   " .. explain(err)) end
  self.t = target
  console.print("it is " .. self.t .. " ms")
end

function Game:show(what)
  if what == "state" then
    local _, state = self.rev.iso:call("state", nil, KEY)
    return console.print(pretty(state))
  end
  local shown = json.decode((self.rev:render(KEY)))
  console.print(pretty(what == "view" and shown.view or shown.ready))
end

function Game:types()
  for _, message in ipairs(self.rev.model.messages) do
    local names = {}
    for i, field in ipairs(message.fields) do names[i] = field.name end
    console.print(string.format("  %-16s %s", message.type, table.concat(names, ", ")))
  end
end

-- One line of input. Returns false to end.
function Game:obey(line)
  local word, rest = line:match("^%s*(%S*)%s*(.-)%s*$")
  if word == "" then return true end
  if word == "quit" or word == "exit" then return false end
  if word == "help" then console.print(HELP)
  elseif word == "state" or word == "view" or word == "ready" then self:show(word)
  elseif word == "types" then self:types()
  elseif word == "wait" and tonumber(rest) then self:wait(tonumber(rest))
  else
    local name, text = rest:match("^(%a%w*)%s*(.*)$")
    if name then self:send(word, name, text) else console.print("type `help`") end
  end
  return not self.over
end

---(yields)
function M.run(opts)
  log.set_level("error")
  log.set_format("text")
  local rev, err = mode_folder(opts.args[1])
  if rev == nil then return nil, err end
  local game, problem = new_game(rev, opts)
  if game == nil then return nil, { code = "INVALID", message = problem } end
  console.print(string.format("%s %s; the initiator is %s. `help` explains.", rev.id, rev.version, opts.as))
  repeat
    if sys.is_tty(0) then sys.write(1, "> ") end
    local line = io.stdin:read("*l") -- blocks, and nothing else runs
  until line == nil or not game:obey(line)
  rev:close()
  return 0
end

return M
