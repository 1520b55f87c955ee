-- Contract of the presentation files: normalizer.lua, reducer.lua, webhook.lua, routes.lua.

local checker = require("macp.modes.checker")
local fields = require("macp.modes.fields")

local join = checker.join

-- Canonical events of the control plane that a mode may produce or fold.
local EVENTS = { "proposal.created", "proposal.updated", "decision.finalized", "signal.emitted", "signal.acknowledged",
  "progress.reported", "tool.called", "tool.completed", "llm.call.completed", "policy.resolved",
  "policy.commitment.evaluated", "policy.denied", "message.received", "message.sent", "message.send_failed",
  "artifact.created", "participant.seen", "session.bound", "session.stream.opened", "session.state.changed",
  "run.created", "run.started", "run.completed", "run.failed", "run.cancelled", "run.suspended", "run.resumed" }
local ENTRY_KEYS = { 1, "kind", "id", "label", "vote", "confidence", "data" }
local SCOPES = { "run", "mode" }
local MAX_EVENTS_PER_MESSAGE = 8

local M = {}

local function check_event_name(c, path, name)
  for _, known in ipairs(EVENTS) do
    if known == name then return end
  end
  if name:find("^ext%.[%w_%.%-]+$") or name:find("^[%w_%-]+%.[%w_%-]+%.[%w_%.%-]+$") then return end
  c:problem(path, "unknown event '" .. name .. "'" .. checker.hint(name, EVENTS)
    .. "; names of your own begin with 'ext.' or a reverse domain", "view.event")
end

local function find_message(model, name)
  for _, message in ipairs(model.messages) do
    if message.type == name then return message end
  end
  return nil
end

-- A Commitment is the same for every mode: always decision.finalized, always shown whole.
local function check_type_name(c, path, name, model)
  if find_message(model, name) then return true end
  if name == "Commitment" then
    c:problem(path, "a Commitment is always decision.finalized and shown as it is", "view.message")
    return false
  end
  local names = {}
  for _, message in ipairs(model.messages) do names[#names + 1] = message.type end
  c:problem(path, "there is no message '" .. tostring(name) .. "'" .. checker.hint(name, names), "view.message")
  return false
end

-- A subject or vote: a payload field's name, a literal, or a function.
local function check_value(c, entry, path, key, kinds)
  local value = entry[key]
  if value == nil then return nil end
  for _, kind in ipairs(kinds) do
    if checker.is_kind(value, kind) then return value end
  end
  c:problem(join(path, key), "must be a " .. table.concat(kinds, " or a ") .. ", not " .. checker.describe(value),
    "type")
  return nil
end

-- A subject by name is a field of the payload; anything else would be the same subject for every message.
local function check_subject(c, entry, path, message)
  local id = entry.id
  if not checker.is_kind(id, "string") then return end
  local names = {}
  for _, field in ipairs(message.fields) do
    if field.name == id then return end
    names[#names + 1] = field.name
  end
  c:problem(join(path, "id"), "there is no field '" .. id .. "'" .. checker.hint(id, names), "view.id")
end

local function check_entry(c, entry, path, message)
  if not checker.is_kind(entry, "table") then
    c:problem(path, "must be { event, kind =, id =, label =, vote =, confidence =, data = }", "view.event")
    return nil
  end
  c:keys(entry, path, ENTRY_KEYS)
  if not checker.is_kind(entry[1], "string") then
    c:problem(path, "the first element is the event's name", "view.event")
    return nil
  end
  check_event_name(c, path, entry[1])
  local out = { event = entry[1], kind = check_value(c, entry, path, "kind", { "string", "function" }),
    id = check_value(c, entry, path, "id", { "string", "function" }),
    label = check_value(c, entry, path, "label", { "string", "function" }),
    vote = check_value(c, entry, path, "vote", { "string", "function" }),
    confidence = check_value(c, entry, path, "confidence", { "number", "function" }),
    data = check_value(c, entry, path, "data", { "function" }) }
  check_subject(c, entry, path, message)
  if type(out.vote) == "string" and out.vote ~= checker.FUNCTION and out.vote ~= "allow" and out.vote ~= "deny" then
    c:problem(join(path, "vote"), "must be 'allow', 'deny' or a function", "view.vote")
  end
  return out
end

local function check_events(c, entry, path, message)
  if not (checker.is_kind(entry, "table") and checker.is_kind(entry[1], "table")) then
    return { check_entry(c, entry, path, message) }
  end
  local out = { many = true }
  c:array(entry, path, "events of one message are an array", "view.event")
  for index, one in ipairs(entry) do out[index] = check_entry(c, one, join(path, index), message) end
  if #entry > MAX_EVENTS_PER_MESSAGE then c:problem(path, "more than 8 events for one message", "view.event") end
  return out
end

local function check_hidden(c, list, path, message)
  local out, names, known = {}, {}, {}
  if not checker.is_kind(list, "table") then
    c:problem(path, "must be an array of field names, not " .. checker.describe(list), "view.hide")
    return out
  end
  for _, field in ipairs(message.fields) do names[#names + 1], known[field.name] = field.name, true end
  c:array(list, path, "hide is an array of field names", "view.hide")
  for index, field in ipairs(list) do
    if not known[field] then
      c:problem(join(path, index), "there is no field '" .. tostring(field) .. "'" .. checker.hint(field, names),
        "view.hide")
    end
    out[index] = field
  end
  return out
end

local function check_normalizer(c, tbl, model)
  c:keys(tbl, "", { "events", "hide" })
  local out = { events = {}, hide = {} }
  for part, check in pairs({ events = check_events, hide = check_hidden }) do
    local entries = c:get(tbl, "", part, "table") or {}
    for _, name in ipairs(c:ordered(entries, part)) do
      local path = join(part, name)
      if check_type_name(c, path, name, model) then
        out[part][name] = check(c, entries[name], path, find_message(model, name))
      end
    end
  end
  return out
end

local function check_reducer(c, tbl)
  c:keys(tbl, "", { "render", "reduce", "summary", "graph" })
  local out = { reduce = {} }
  for _, key in ipairs({ "render", "summary", "graph" }) do out[key] = c:get(tbl, "", key, "function") and true
    or false end
  local folds = c:get(tbl, "", "reduce", "table") or {}
  for _, name in ipairs(c:ordered(folds, "reduce")) do
    local path, fn = join("reduce", name), folds[name]
    if type(name) == "string" then check_event_name(c, path, name) end
    if fn ~= checker.FUNCTION then c:problem(path, "must be a function(extra, event, s, c)", "type") end
    out.reduce[name] = true
  end
  return out
end

local function check_webhook(c, tbl)
  c:keys(tbl, "", { "filter", "shape" })
  return { filter = c:get(tbl, "", "filter", "function") and true or false,
    shape = c:get(tbl, "", "shape", "function") and true or false }
end

-- A query is text after text: only single values have a place there.
local function check_query_fields(c, path, list)
  for _, field in ipairs(list) do
    if field.repeated or field.map or field.type == "json" or field.type == "bytes" or field.new or field.ref then
      c:problem(path, "query field '" .. field.name .. "' must be one text, number or bool", "routes.query")
    end
  end
end

local function check_route(c, index, route, seen)
  local path = join("", index)
  if not checker.is_kind(route, "table") then
    c:problem(path, "must be { \"GET /path\", handler = function(req) }", "routes.form")
    return nil
  end
  c:keys(route, path, { 1, "handler", "summary", "scope", "query" })
  c:get(route, path, "handler", "function", true)
  local pattern = checker.is_kind(route[1], "string") and route[1]:match("^GET (/[%w_%-/:%.]*)$")
  if not pattern or pattern:find("//", 1, true) then
    c:problem(path, "the first element is \"GET /path/:param\"", "routes.form")
    return nil
  end
  local scope = c:choice(route, path, "scope", SCOPES) or "run"
  local key = scope .. " " .. pattern:gsub(":[%w_]+", ":"):gsub("(.)/$", "%1")
  if seen[key] then c:problem(path, "the same route stands above", "routes.duplicate") end
  seen[key] = true
  local query = c:get(route, path, "query", "string")
  local list
  if query then
    local problems
    list, problems = fields.parse(query)
    for _, problem in ipairs(problems) do
      c:problem(join(path, "query"), problem.text:gsub("payload field", "query field"), "routes.query")
    end
    check_query_fields(c, join(path, "query"), list)
  end
  return { method = "GET", path = pattern, scope = scope, summary = c:get(route, path, "summary", "string"),
    query = list,
    index = index }
end

local function check_routes(c, tbl)
  local out, seen = {}, {}
  c:array(tbl, "", "routes.lua returns an array without holes", "routes.form")
  for index, route in ipairs(tbl) do out[#out + 1] = check_route(c, index, route, seen) end
  return out
end

local CHECKS = { ["normalizer.lua"] = check_normalizer, ["reducer.lua"] = check_reducer,
  ["webhook.lua"] = check_webhook,
  ["routes.lua"] = check_routes }
M.FILES = { "normalizer.lua", "reducer.lua", "webhook.lua", "routes.lua" }

---Validates one presentation file.
---@param name string "normalizer.lua" ...
---@param value any the returned value as plain data
---@param map table scanner map of the file
---@param file string path shown in problems
---@param model table the model of mode.lua
---@return table[] problems, table|nil view
function M.check(name, value, map, file, model)
  local problems = {}
  local c = checker.new(file, map, problems)
  if not checker.is_kind(value, "table") then
    c:problem("", name .. " must return a table, not " .. checker.describe(value), "syntax.return", map.return_line)
    return problems, nil
  end
  return problems, CHECKS[name](c, value, model)
end

return M
