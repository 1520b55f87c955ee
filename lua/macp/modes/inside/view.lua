-- View: what people see. Maps observed messages to canonical events, renders the projection, filters and shapes
-- webhooks, runs read endpoints. Works on the same state as the step; changes nothing but `extra`.

local native = native
local polarity = require("macp.modes.inside.polarity")
local sandbox = require("macp.modes.inside.sandbox")
local payloads = require("macp.modes.inside.payload")
local routes = require("macp.modes.inside.routes")
local step = require("macp.modes.inside.step")

local MAX_SUMMARY = 200
local RAW_NAME = "payloadBase64" -- bytes that nobody can read are shown under this name everywhere
-- Contribution votes of the standard modes.
local STANDARD_VOTES = { Accept = "allow", Approve = "allow", TaskAccept = "allow", HandoffAccept = "allow",
  Reject = "deny", TaskReject = "deny", HandoffDecline = "deny" }

local M = {}

local sessions = step.sessions
local program, view

-- Names of state keys that must not be shown.
local function collect_hidden(hide)
  local all = {}
  for _, list in next, hide do
    for _, name in ipairs(list) do all[name] = true end
  end
  return next(all) and all or nil
end

-- Subject, label and vote of a type that the normalizer does not mention.
local function derived_entry(spec, standard)
  local entry = { event = "proposal.updated", kind = "proposal" }
  local text_field
  for _, field in ipairs(spec.fields) do
    if field.new then entry.event = "proposal.created" end
    if (field.new or field.ref) and not entry.id_field then entry.id_field = field.name end
    if field.type == "string" and not field.repeated and not field.map and not field.new and not field.ref then
      text_field = text_field or field.name
    end
  end
  local hidden = view.hidden_fields[spec.type]
  if text_field and not (hidden and hidden[text_field]) then entry.label_field = text_field end
  entry.label = spec.type
  entry.vote = standard and STANDARD_VOTES[spec.type] or nil
  return entry
end

-- One entry of the normalizer with literals, field names and functions told apart.
local function declared_entry(spec, source)
  local names = {}
  for _, field in ipairs(spec.fields) do names[field.name] = true end
  local entry = { event = source[1], data = source.data }
  local default = derived_entry(spec, false)
  for _, key in ipairs({ "kind", "id", "label", "vote", "confidence" }) do
    local value = source[key]
    if type(value) == "function" then
      entry[key .. "_fn"] = value
    elseif (key == "id" or key == "kind") and names[value] then
      entry[key .. "_field"] = value
    else
      entry[key] = value
    end
  end
  if source.kind == nil then entry.kind = "proposal" end
  if source.id == nil then entry.id_field = default.id_field end
  if source.label == nil then entry.label, entry.label_field = default.label, default.label_field end
  return entry
end

local function compile_events(events)
  local out = {}
  for name, spec in next, program.types do
    if not spec.is_commitment then
      local source = events[name]
      if source == nil then
        out[name] = { derived_entry(spec, program.standard) }
      elseif type(source[1]) == "table" then
        out[name] = {}
        for i, entry in ipairs(source) do out[name][i] = declared_entry(spec, entry) end
      else
        out[name] = { declared_entry(spec, source) }
      end
    end
  end
  return out
end

-- Fields of a message that the payload shows: name, JSON name, kind.
local function compile_shown(spec)
  local hidden, out = view.hidden_fields[spec.type] or {}, {}
  for _, field in ipairs(spec.fields) do
    if not hidden[field.name] then
      local name = spec.is_raw and RAW_NAME or payloads.camel(field.name)
      out[#out + 1] = { name = field.name, json = name, is_bytes = field.type == "bytes",
        many = field.repeated or field.map, is_list = field.repeated }
    end
  end
  return out
end

---Takes the presentation files (each the returned table or nil).
function M.install(built, files)
  program = built
  local normalizer = files["normalizer.lua"] or {}
  view = { reducer = files["reducer.lua"] or {}, webhook = files["webhook.lua"] or {},
    routes = files["routes.lua"] or {}, hidden_fields = {}, shown = {} }
  for name, list in next, normalizer.hide or {} do
    view.hidden_fields[name] = {}
    for _, field in ipairs(list) do view.hidden_fields[name][field] = true end
  end
  view.hidden = collect_hidden(normalizer.hide or {})
  view.events = compile_events(normalizer.events or {})
  for name, spec in next, program.types do view.shown[name] = compile_shown(spec) end
end

local function shown_value(field, value)
  if not field.is_bytes then return field.is_list and native.array(value) or value end
  if not field.many then return native.base64_encode(value) end
  local out = {}
  for key, item in next, value do out[key] = native.base64_encode(item) end
  return field.is_list and native.array(out) or out
end

-- The payload as JSON: lowerCamelCase, bytes as base64, zero values absent, hidden fields removed.
local function payload_json(spec, p)
  local out = {}
  for _, field in ipairs(view.shown[spec.type]) do
    local value = p[field.name]
    local is_zero = value == "" or value == 0 or value == false or value == nil
      or (type(value) == "table" and next(value) == nil)
    if not is_zero then out[field.json] = shown_value(field, value) end
  end
  return next(out) and native.json_encode(out) or "{}"
end

-- A false polarity is absent on the wire, and so is the field of an old sender: the action tells them apart, else the
-- mode's own outcomes, else the standard mode, where the field is mandatory.
local function polarity_of(p)
  if p.outcome_positive then return true end
  local demanded = polarity.of(p.action)
  if demanded ~= nil then return demanded end
  for _, outcome in ipairs(program.outcomes) do
    if outcome.action == p.action and outcome.positive ~= nil then return outcome.positive end
  end
  if program.standard then return false end
  return nil
end

local function commitment_json(spec, p)
  local out = {}
  for _, field in ipairs(spec.fields) do
    local value = p[field.name]
    if field.name ~= "supersedes" and value ~= "" then out[payloads.camel(field.name)] = value end
  end
  out.outcomePositive = polarity_of(p)
  if p.supersedes then
    out.supersedes = { sessionId = p.supersedes.session_id, commitmentHash = p.supersedes.commitment_hash }
  end
  return native.json_encode(out)
end

local function evaluate(entry, key, p, by, session)
  local fn = entry[key .. "_fn"]
  if fn then return fn(p, by, session.s, session.view_c) end
  local field = entry[key .. "_field"]
  if field then return p[field] end
  return entry[key]
end

local function label_of(entry, p, by, session)
  if entry.label_fn then return entry.label_fn(p, by, session.s, session.view_c) end
  local text = entry.label_field and p[entry.label_field]
  if text and text ~= "" then return entry.label .. ": " .. text end
  return entry.label
end

local function as_text(value, what)
  if value == nil or type(value) == "string" then return value end
  if type(value) == "number" then return value % 1 == 0 and string.format("%.0f", value) or tostring(value) end
  error((what or "an event's kind, id and label") .. (what and " is a string" or " are strings"), 0)
end

-- Seven values per event: type, kind, id, label, vote, confidence, data.
local function append_event(out, n, entry, p, by, session, message_id)
  out[n + 1] = entry.event
  out[n + 2] = as_text(evaluate(entry, "kind", p, by, session))
  out[n + 3] = as_text(evaluate(entry, "id", p, by, session)) or message_id or ""
  out[n + 4] = as_text(label_of(entry, p, by, session))
  local vote = evaluate(entry, "vote", p, by, session)
  out[n + 5] = (vote == "allow" or vote == "deny") and vote or nil
  out[n + 6] = tonumber(evaluate(entry, "confidence", p, by, session))
  if entry.data then
    local data, problem = native.json_encode(entry.data(p, by, session.s, session.view_c))
    if data == nil then error("data of " .. entry.event .. ": " .. tostring(problem), 0) end
    out[n + 7] = data
  end
  return n + 7
end

---The payload of a message as JSON, without a session; nil when type or bytes are unknown.
function M.payload_json(name, bytes)
  local spec = program.types[name]
  local p = spec and spec.decode(bytes)
  if p == nil then return nil end
  if spec.is_commitment then return commitment_json(spec, p) end
  if spec.normalise then spec.normalise(p) end
  return payload_json(spec, p)
end

local buffer = {}

---Applies an observed message and maps it: payload JSON, reason when it could not be applied, next due, number of
---events, then seven values per event. The payload is nil when the type or the bytes are unknown.
function M.observe(key, name, sender, payload, t, message_id, time, flags)
  local session = sessions[key]
  local ok, due, p = step.apply(key, name, sender, payload, t, flags or 0)
  if not ok then
    if session and program.types[name] then session.degraded = session.degraded or due end
    return M.payload_json(name, payload), due, nil, 0
  end
  step.enter("view", "normalizer.events." .. name)
  local seen = session.view_fields
  seen.message_id, seen.time = message_id, time
  local spec = program.types[name]
  if spec.is_commitment then
    session.closed = true
    return commitment_json(spec, p), nil, nil, 1, "decision.finalized", "decision",
      p.commitment_id ~= "" and p.commitment_id or message_id, p.action, nil, nil, nil
  end
  local entries, n = view.events[name], 0
  for i = 1, #entries do n = append_event(buffer, n, entries[i], p, sender, session, message_id) end
  if n == 7 then
    local b = buffer
    local kind, subject, id, label, vote, confidence, data = b[1], b[2], b[3], b[4], b[5], b[6], b[7]
    b[5], b[6], b[7] = nil, nil, nil
    return payload_json(spec, p), nil, due, 1, kind, subject, id, label, vote, confidence, data
  end
  local out = {}
  for i = 1, n do out[i], buffer[i] = buffer[i], nil end
  return payload_json(spec, p), nil, due, #entries, unpack(out, 1, n)
end

---Remembers the first observed message that could not be applied.
function M.degrade(key, reason)
  local session = sessions[key]
  if session then session.degraded = session.degraded or reason end
end

local function without_hidden(value)
  if type(value) ~= "table" then return value end
  local out = {}
  for key, item in next, value do
    if not view.hidden[key] then out[key] = without_hidden(item) end
  end
  return native.is_array(value) and native.array(out) or out
end

local function set_extra(session, extra)
  if extra ~= nil then session.view_fields.extra = extra else session.view_fields.extra = session.extra or {} end
end

---The view as plain data.
function M.view_of(session)
  local render = view.reducer.render
  if render then return render(session.s, session.view_c) end
  return view.hidden and without_hidden(session.s) or session.s
end

local function timers_of(session, base_ms)
  local out
  for _, timer in ipairs(program.timers) do
    local due = timer.due(session.s, session.c)
    if due then
      out = out or {}
      out[timer.name] = base_ms and base_ms + due or due
    end
  end
  return out
end

-- One line about a session: what the reducer says, or the phase that most modes keep.
local function summary_of(session)
  local text
  if view.reducer.summary then
    step.enter("view", "reducer.summary")
    text = view.reducer.summary(session.s, session.view_c)
  elseif type(session.s.phase) == "string" then
    text = session.s.phase
  end
  text = as_text(text, "a summary") or ""
  return #text > MAX_SUMMARY and text:sub(1, MAX_SUMMARY) or text
end

local function graph_of(session)
  step.enter("view", "reducer.graph")
  local graph = view.reducer.graph(session.s, session.view_c)
  for _, part in ipairs({ "nodes", "edges" }) do
    if type(graph) ~= "table" or type(graph[part]) ~= "table" then
      error("graph must return { nodes =, edges = }", 0)
    end
  end
  return { nodes = native.array(sandbox.copy(graph.nodes)), edges = native.array(sandbox.copy(graph.edges)) }
end

---projection.mode as JSON. Timers are session times, or wall times when the caller gives the offset.
function M.render(key, extra_json, base_ms)
  local session = sessions[key]
  if session == nil then error("the state of this session is not loaded", 0) end
  set_extra(session, extra_json and native.json_decode(extra_json))
  local out = {
    id = program.id, version = program.version, revision = program.revision,
    ready = { positive = step.is_ready(session, true), negative = step.is_ready(session, false) },
    timers = not session.closed and timers_of(session, base_ms) or {},
    degraded = session.degraded ~= nil, error = session.degraded, view = M.view_of(session),
  }
  if view.reducer.summary then out.summary = summary_of(session) end
  if view.reducer.graph then out.graph = graph_of(session) end
  local text, problem = native.json_encode(out, true)
  step.enter("view", "reducer.render")
  if text == nil then error(tostring(problem), 0) end
  return text
end

---One line for lists.
function M.summary(key)
  local session = sessions[key]
  set_extra(session)
  return summary_of(session)
end

---Folds a canonical event into `extra`; returns whether the mode has a fold for it, and the new extra as JSON.
function M.reduce(key, event_json)
  local session = sessions[key]
  local event = native.json_decode(event_json)
  local folds = view.reducer.reduce
  local fold = folds and type(event) == "table" and folds[event.type]
  if not fold then return false end
  local extra = session.extra or {}
  step.enter("view", "reducer.reduce." .. event.type)
  local result = fold(extra, event, session.s, session.view_c)
  session.extra = type(result) == "table" and result or extra
  return true, native.json_encode(session.extra, true)
end

---Whether a delivery happens, and its data when the mode shapes it.
function M.webhook(key, event_json)
  local session = sessions[key]
  local hooks = view.webhook
  if not hooks.filter and not hooks.shape then return true end
  set_extra(session)
  local event = native.json_decode(event_json)
  step.enter("view", "webhook.filter")
  if hooks.filter and not hooks.filter(event, session.s, session.view_c) then return false end
  if not hooks.shape then return true end
  step.enter("view", "webhook.shape")
  local shaped = hooks.shape(event, session.s, session.view_c)
  if type(shaped) ~= "table" then error("shape must return a table, not " .. type(shaped), 0) end
  local text, problem = native.json_encode(shaped)
  if text == nil then error("shape: " .. tostring(problem), 0) end
  return true, text
end

---Runs a route: what macp.modes.inside.routes says, or "gone" when the session is not here (any more).
---@param index integer position in routes.lua
---@param request table params, query
---@param answers table[] of the asks so far
function M.route(key, index, request, answers)
  local session = key and sessions[key] or nil
  if key and session == nil then return "gone" end
  local req = { params = request.params or {}, query = request.query or {} }
  if session then
    set_extra(session)
    req.state, req.view, req.c = session.s, M.view_of(session), session.view_c
  end
  return routes.run(view.routes[index].handler, req, answers)
end

M.copy = sandbox.copy

return M
