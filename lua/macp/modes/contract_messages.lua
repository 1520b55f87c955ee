-- Contract of `messages`: senders, payload lists, needs, and the two special names SessionStart and Commitment.

local checker = require("macp.modes.checker")
local fields = require("macp.modes.fields")

local join = checker.join

local KEYS = { "from", "payload", "encoding", "needs", "apply", "doc" }
local ROLES = { "participant", "initiator", "committer", "runtime", "anyone" }
local ENCODINGS = { "proto", "json", "json|proto", "raw" }
local CODES = { "INVALID_ENVELOPE", "FORBIDDEN", "POLICY_DENIED" }
local SPECIAL = { SessionStart = { "needs", "apply", "doc" }, Commitment = { "from", "needs", "apply", "doc" } }
local RESERVED = { SessionCancel = true, SessionSuspend = true, SessionResume = true, TtlExpired = true,
  Checkpoint = true, Signal = true, Progress = true }
local MAX_MESSAGES = 64

local M = {}

local function check_role(c, path, role, from)
  if not checker.is_kind(role, "string") then
    return c:problem(path, "a role is a string, not " .. checker.describe(role), "type")
  end
  for _, known in ipairs(ROLES) do
    if known == role then
      from[role] = true
      return
    end
  end
  c:problem(path, "unknown role '" .. role .. "'" .. checker.hint(role, ROLES), "messages.role")
end

local function check_from(c, message, path, required)
  local value, from, at = message.from, {}, join(path, "from")
  if value == nil then
    if required then c:problem(path, "'from' is required: who may send this message?", "required") end
  elseif checker.is_kind(value, "table") then
    c:array(value, at, "from is a role or an array of roles", "messages.role")
    for index, role in ipairs(value) do check_role(c, join(at, index), role, from) end
    if #value == 0 then c:problem(at, "names nobody who may send", "messages.role") end
  else
    check_role(c, at, value, from)
  end
  return from
end

local function check_need(c, entry, path)
  if not checker.is_kind(entry, "table") then
    c:problem(path, "must be { text, function(s, p, by, c) [, code] }", "needs.form")
    return nil
  end
  if not checker.is_kind(entry[1], "string") or not entry[1]:find("%S") then
    c:problem(path, "the first element is the text of the rule", "needs.form")
    return nil
  end
  if entry[2] ~= checker.FUNCTION then
    c:problem(path, "the second element is a function(s, p, by, c), not " .. checker.describe(entry[2]), "needs.form")
    return nil
  end
  local code = entry[3] or "INVALID_ENVELOPE"
  local known = false
  for _, name in ipairs(CODES) do known = known or name == code end
  if not known then
    c:problem(path, "unknown code '" .. tostring(code) .. "'" .. checker.hint(code, CODES), "needs.code")
    code = "INVALID_ENVELOPE"
  end
  for key in pairs(entry) do
    if key ~= 1 and key ~= 2 and key ~= 3 then c:problem(join(path, key), "unknown field", "unknown-field") end
  end
  return { text = entry[1], code = code, line = c:line(path) }
end

local function check_needs(c, message, path)
  local list, out = c:get(message, path, "needs", "table"), {}
  for index, entry in ipairs(list or {}) do
    out[index] = check_need(c, entry, join(join(path, "needs"), index)) or { text = "", code = "INVALID_ENVELOPE" }
  end
  c:array(list or {}, join(path, "needs"), "needs is an array without holes", "needs.form")
  return out
end

local function check_payload(c, message, path, model)
  local text = c:get(message, path, "payload", "string")
  if not text then return {} end
  local at = join(path, "payload")
  local list, problems = fields.parse(text)
  for _, problem in ipairs(problems) do
    c.problems[#c.problems + 1] = { path = c.file, line = c.map:text_line(at, problem.line), text = problem.text,
      rule = "payload", severity = "error" }
  end
  for _, field in ipairs(list) do
    local map = field.new or field.ref
    if map and model.state_fields and model.state_fields[map] ~= "table" then
      local names = {}
      for name in pairs(model.state_fields) do names[#names + 1] = tostring(name) end
      c.problems[#c.problems + 1] = { path = c.file, line = c.map:text_line(at, field.line), severity = "error",
        rule = "payload.state", text = string.format("payload field '%s': '%s' is not a map of the state%s", field.name,
          map, checker.hint(map, names)) }
    end
  end
  return list
end

local function check_special(c, name, message, model)
  local path = join("messages", name)
  c:keys(message, path, SPECIAL[name])
  local out = { type = name, needs = check_needs(c, message, path), line = c:line(path),
    apply = c:get(message, path, "apply", "function") and true or false }
  if name == "Commitment" then
    out.from = message.from ~= nil and check_from(c, message, path) or { committer = true }
    model.commitment = out
  else
    model.session_start = out
  end
end

-- A raw payload is not looked into: its bytes are the value of the one declared field.
local function check_raw(c, entry, path)
  if entry.encoding ~= "raw" then return end
  local field = entry.fields[1]
  local is_one = #entry.fields == 1 and field.type == "bytes" and not field.repeated and not field.map
  if not is_one then
    c:problem(join(path, "encoding"), "'raw' needs a payload of one bytes field", "messages.encoding")
  end
end

local function check_message(c, name, message, model)
  local path = join("messages", name)
  if not checker.is_kind(message, "table") then
    return c:problem(path, "must be a table, not " .. checker.describe(message), "type")
  end
  if SPECIAL[name] then return check_special(c, name, message, model) end
  if RESERVED[name] then
    return c:problem(path, "'" .. name .. "' is a message of the protocol itself", "messages.reserved")
  end
  if not model.template and not name:find("^%a[%w]*$") then
    c:problem(path, "a message type is a word such as 'Proposal'", "messages.name")
  end
  c:keys(message, path, KEYS)
  local entry = {
    type = name, from = check_from(c, message, path, true), fields = check_payload(c, message, path, model),
    encoding = c:choice(message, path, "encoding", ENCODINGS) or "proto",
    needs = check_needs(c, message, path), doc = c:text(message, path, "doc"), line = c:line(path),
    apply = c:get(message, path, "apply", "function") and true or false,
  }
  check_raw(c, entry, path)
  model.messages[#model.messages + 1] = entry
end

---Fills model.messages (source order), model.session_start and model.commitment.
function M.check(c, mode, model)
  model.messages = {}
  model.commitment = { type = "Commitment", from = { committer = true }, needs = {}, apply = false }
  local messages = c:get(mode, "", "messages", "table", true)
  if not messages then return end
  for _, name in ipairs(c:ordered(messages, "messages")) do
    if type(name) == "string" then
      check_message(c, name, messages[name], model)
    else
      c:problem(join("messages", name), "messages are named: Name = { ... }", "type")
    end
  end
  if #model.messages == 0 and not model.template then
    c:problem("messages", "at least one message is needed", "messages.empty")
  end
  if #model.messages > MAX_MESSAGES then
    c:problem("messages", "more than " .. MAX_MESSAGES .. " messages", "messages.count")
  end
end

return M
