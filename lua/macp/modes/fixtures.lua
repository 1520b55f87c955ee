-- Fixtures: Lua and JSON transcripts -> one form that the prover plays.
--
-- fixture = { name, path, about, initiator, participants, final, policy (descriptor), mode_version,
--   configuration_version, ttl_ms, start = { code, because }, steps, expect = { state, resolution, has_resolution } }
-- step = { kind = "send|synthetic|wait|suspend|cancel|expire|state|ready|view", map and at (or line), ... }; the payload
-- of a message is a table to encode, or its bytes.

local json = require("host.json")

local checker = require("macp.modes.checker")
local policy = require("macp.modes.inside.policy")
local scanner = require("macp.modes.scanner")

local DEFAULT_TTL_MS = 86400000
local NEW_POLICY_VERSION = 3
local KEYS = { "about", "initiator", "participants", "final", "policy", "configuration_version", "ttl_ms", "start",
  "mode_version", "schema_version" }
local STEP_KEYS = { "reject", "because", "wait", "suspend", "cancel", "expire", "state", "ready", "view" }
local FINALS = { "Open", "Suspended", "Resolved", "Expired", "Cancelled" }
local DIRECT = { "wait", "suspend", "cancel", "expire", "state", "ready", "view" }
local STEP_TYPES = { wait = "number", suspend = "number", cancel = "string", expire = "boolean", state = "table",
  ready = "table", view = "table", reject = "string", because = "string" }
local KEY_TYPES = { about = "string", initiator = "string", participants = "table", final = "string", policy = "table",
  configuration_version = "string", ttl_ms = "number", mode_version = "string", schema_version = "number" }
local JSON_KEYS = { "initiator", "participants", "mode_version", "configuration_version", "ttl_ms", "policy",
  "messages", "expected_final_state", "expect_resolution_present" }
local JSON_TYPES = { initiator = "string", participants = "table", mode_version = "string",
  configuration_version = "string", ttl_ms = "number", policy = "table", messages = "table",
  expected_final_state = "string", expect_resolution_present = "boolean" }

local M = {}

local function contains(list, word)
  for _, item in ipairs(list) do
    if item == word then return true end
  end
  return false
end

local function policy_of(keys, mode_id)
  local given = keys.policy
  if given == nil then
    return { policy_id = "policy.default", mode = "*", schema_version = 1, rules = {} }
  end
  if type(given.rules) == "table" or given.policy_id then
    return { policy_id = given.policy_id or "policy.fixture", mode = given.mode or mode_id,
      schema_version = given.schema_version or NEW_POLICY_VERSION, rules = given.rules or {} }
  end
  return { policy_id = "policy.fixture", mode = mode_id, schema_version = keys.schema_version or NEW_POLICY_VERSION,
    rules = policy.unflatten(given) }
end

-- The first value whose type is not the expected one, as text.
local function type_problem(tbl, types, order)
  for _, key in ipairs(order) do
    local value, kind = tbl[key], types[key]
    if value ~= nil and kind and not checker.is_kind(value, kind) then
      return string.format("'%s' must be a %s, not %s", key, kind, checker.describe(value))
    end
  end
  return nil
end

-- A step that is no message: { wait = ms } and the like; nil when it is one, nil and the reason when it is neither.
local function direct_step(entry)
  local step
  for _, kind in ipairs(DIRECT) do
    local value = entry.keys[kind]
    if value ~= nil then
      if step then return nil, "a step says one thing, not '" .. step.kind .. "' and '" .. kind .. "'" end
      step = { kind = kind, value = value }
    end
  end
  if step == nil then return nil end
  if next(entry.list) ~= nil or entry.keys.reject ~= nil or entry.keys.because ~= nil then
    return nil, "a step with '" .. step.kind .. "' sends no message"
  end
  local value = step.value
  if (step.kind == "wait" or step.kind == "suspend") and not (value >= 0 and value < math.huge) then
    return nil, "'" .. step.kind .. "' is a number of milliseconds, not " .. tostring(value)
  end
  if value == false then return nil, "'expire' is true or not there" end
  return step
end

local function step_of(entry)
  for key in pairs(entry.keys) do
    if not contains(STEP_KEYS, key) then
      return nil, "unknown field '" .. tostring(key) .. "' in a step" .. checker.hint(key, STEP_KEYS)
    end
  end
  local problem = type_problem(entry.keys, STEP_TYPES, STEP_KEYS)
  if problem then return nil, problem end
  local direct, wrong = direct_step(entry)
  if direct or wrong then return direct, wrong end
  local by, name, payload = entry.list[1], entry.list[2], entry.list[3]
  local is_payload = payload == nil or checker.is_kind(payload, "table") or checker.is_kind(payload, "string")
  if type(by) ~= "string" or type(name) ~= "string" or not is_payload or #entry.list > 3 then
    return nil, "a step is { sender, \"Type\", { payload } or \"bytes\" } or { wait = ms } and the like"
  end
  if entry.keys.because ~= nil and entry.keys.reject == nil then
    return nil, "'because' needs 'reject': only a refusal has a reason"
  end
  local kind = by == "runtime" and "synthetic" or "send"
  return { kind = kind, by = by, type = name, payload = payload or {}, reject = entry.keys.reject,
    because = entry.keys.because }
end

local function check_keys(keys)
  for key in pairs(keys) do
    if not contains(KEYS, key) then return "unknown field '" .. tostring(key) .. "'" .. checker.hint(key, KEYS) end
  end
  local problem = type_problem(keys, KEY_TYPES, KEYS)
  if problem then return problem end
  if keys.initiator == nil then return "'initiator' is required" end
  if keys.participants == nil then return "'participants' is required" end
  for key, name in pairs(keys.participants) do
    if type(key) ~= "number" or type(name) ~= "string" then return "'participants' must be an array of strings" end
  end
  local start = keys.start
  if start ~= nil and not (type(start) == "string" or type(start) == "table" and (start.reject or start[1])) then
    return "'start' must be { code, because }"
  end
  if keys.final and not contains(FINALS, keys.final) then
    return "'final' must be one of " .. table.concat(FINALS, ", ") .. checker.hint(keys.final, FINALS)
  end
  return nil
end

local function start_of(start)
  if start == nil then return nil end
  if type(start) == "string" then return { code = start } end
  return { code = start.reject or start[1], because = start.because or start[2] }
end

---A Lua fixture, evaluated inside the revision's isolate.
---@return table|nil fixture; nil, text, line
function M.from_lua(rev, text, path)
  local ok, loaded, reason, step_index = rev.iso:call("load_fixture", { instructions = rev.limits.load_instructions },
    text, "@" .. path)
  if not ok then return nil, loaded.message, loaded.file == path and loaded.line or 1 end
  local map = scanner.lazy(text)
  if loaded == nil then
    return nil, reason, step_index and map:line(string.format("[%d]", step_index)) or map.return_line
  end
  local keys = loaded.keys
  local problem = check_keys(keys)
  if problem then return nil, problem, map.return_line end
  if keys.start ~= nil and #loaded.steps > 0 then
    return nil, "a fixture whose 'start' is refused has no steps", map:line("[1]")
  end
  local fixture = { path = path, about = keys.about, initiator = keys.initiator, participants = keys.participants,
    final = keys.final or "Open", policy = policy_of(keys, rev.id), mode_version = keys.mode_version or rev.version,
    configuration_version = keys.configuration_version or "fixture", ttl_ms = keys.ttl_ms or DEFAULT_TTL_MS,
    start = start_of(keys.start), steps = {}, expect = {}, fills = true }
  for i, entry in ipairs(loaded.steps) do
    local step, wrong = step_of(entry)
    if step == nil then return nil, wrong, map:line(string.format("[%d]", i)) end
    step.map, step.at = map, string.format("[%d]", i)
    fixture.steps[i] = step
  end
  return fixture
end

-- JSON payload values as a codec takes them: [] is empty bytes, arrays of numbers are bytes.
local function json_bytes(value)
  if type(value) ~= "table" then return value end
  local out = {}
  for i, byte in ipairs(value) do out[i] = string.char(byte) end
  return table.concat(out)
end

local function json_payload(rev, name, payload)
  local fields = {}
  for _, message in ipairs(rev.model.messages) do
    if message.type == name then fields = message.fields end
  end
  local out = {}
  for key, value in pairs(payload) do
    if not key:find("^_") then out[key] = value end
  end
  for _, field in ipairs(fields) do
    if field.type == "bytes" and out[field.name] ~= nil then out[field.name] = json_bytes(out[field.name]) end
  end
  if name == "Commitment" and out.outcome_positive == nil then out.outcome_positive = true end
  return out
end

-- What is wrong with the shape of a JSON fixture; nil when nothing is.
local function json_problem(doc)
  local problem = type_problem(doc, JSON_TYPES, JSON_KEYS)
  if problem then return problem end
  if doc.initiator == nil then return "'initiator' is required" end
  if doc.participants == nil then return "'participants' is required" end
  for _, name in ipairs(doc.participants) do
    if type(name) ~= "string" then return "'participants' must be an array of strings" end
  end
  for i, message in ipairs(doc.messages or {}) do
    if type(message) ~= "table" or type(message.sender) ~= "string" or type(message.message_type) ~= "string"
      or message.payload ~= nil and type(message.payload) ~= "table" then
      return "messages[" .. i .. "] must be { sender, message_type, payload }"
    end
  end
  return nil
end

---A JSON fixture of the protocol's conformance suite.
---@return table|nil fixture; nil, text, line
function M.from_json(rev, text, path)
  local doc, err = json.decode(text)
  if type(doc) ~= "table" then return nil, "not JSON: " .. tostring(err and err.message), 1 end
  if doc.mode ~= rev.id then return nil, "the fixture is for " .. tostring(doc.mode) .. ", not " .. rev.id, 1 end
  local problem = json_problem(doc)
  if problem then return nil, problem, 1 end
  local given = doc.policy
  local fixture = { path = path, about = doc.description, initiator = doc.initiator, participants = doc.participants,
    final = doc.expected_final_state, mode_version = doc.mode_version,
      configuration_version = doc.configuration_version,
    ttl_ms = doc.ttl_ms, steps = {}, policy = policy_of({ policy = given }, rev.id),
    expect = { state = doc.expected_mode_state, resolution = doc.expected_resolution,
      has_resolution = doc.expect_resolution_present } }
  if given then fixture.policy.schema_version = given.schema_version or 1 end
  for i, message in ipairs(doc.messages or {}) do
    fixture.steps[i] = { kind = "send", by = message.sender, type = message.message_type, line = 1,
      payload = json_payload(rev, message.message_type, message.payload or {}),
      reject = message.expect == "reject" and (message.expected_error_code or true) or nil }
  end
  return fixture
end

---Loads a fixture by its file name.
---@return table|nil fixture; nil, problem { path, line, text }
function M.load(rev, name, text, path)
  local read = name:find("%.json$") and M.from_json or M.from_lua
  local fixture, reason, line = read(rev, text, path)
  if fixture == nil then return nil, { path = path, line = line or 1, text = reason, severity = "error",
    rule = "fixture" } end
  fixture.name = name:match("([^/]+)$")
  return fixture
end

local function polarity(model, action)
  for _, outcome in ipairs(model.outcomes) do
    if outcome.action == action and outcome.positive ~= nil then return outcome.positive end
  end
  return not (action:find("rejected$") or action:find("failed$") or action:find("declined$"))
end

---The line of a step; found only when somebody asks.
function M.line_of(step)
  return step.map and step.map:line(step.at) or step.line or 1
end

---A Commitment of a Lua fixture with the fields that it leaves out; polarity from the outcome list.
function M.fill_commitment(rev, fixture, payload, serial)
  if not fixture.fills then return payload end
  local full = { commitment_id = "c" .. serial, authority_scope = "fixture", reason = "fixture",
    mode_version = fixture.mode_version, configuration_version = fixture.configuration_version,
    outcome_positive = polarity(rev.model, tostring(payload.action or "")) }
  for key, value in pairs(payload) do full[key] = value end
  return full
end

local function shown(value)
  if type(value) == "string" then return string.format("%q", value) end
  if type(value) == "table" then return "a table" end
  return tostring(value)
end

---Whether expected is contained in actual: objects by key, arrays by position. Returns nil or what differs.
function M.difference(expected, actual, path)
  if type(expected) ~= "table" then
    if expected == actual then return nil end
    if expected == json.null and actual == nil then return nil end
    return string.format("%s is %s, expected %s", path, shown(actual), shown(expected))
  end
  if type(actual) ~= "table" then return string.format("%s is %s, expected a table", path, shown(actual)) end
  local keys = {}
  for key in pairs(expected) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for _, key in ipairs(keys) do
    local text = M.difference(expected[key], actual[key], checker.join(path, key))
    if text then return text end
  end
  return nil
end

return M
