-- Live: how the application uses a revision. Calls cross into the isolate with scalars on the hot path; whatever a
-- script does wrong comes back as a rejection with file and line, never as an error.

local json = require("host.json")
local log = require("host.log")

local describe = require("macp.modes.describe")
local live_view = require("macp.modes.live_view")
local policy = require("macp.modes.inside.policy")
local policy_rules = require("macp.modes.policy_rules")
local script_log = require("macp.modes.script_log")

local COMMITMENT = "Commitment"
local BYTES_PER_MESSAGE = 32 -- what a message adds to the state besides its payload, at most, in values
local EVENT_WIDTH = 7
local MAX_STATE_INSTRUCTIONS = 2 ^ 40

local Rev = {}
Rev.__index = Rev

local M = { Rev = Rev }

---@class macp.modes.Revision
---@field id string mode id
---@field version string
---@field hash string "sha256:..." of the rules
---@field presentation string hash of the presentation files
---@field descriptor table ModeDescriptor
---@field quiet boolean|nil failures are not logged (proving)
---@field faulty table|nil { count =, last = } author errors since it was built

---@param fields table model, hash, presentation, files, root, iso, entries, limits, views, maps, descriptor
function M.new(fields)
  local rev = setmetatable({}, Rev)
  for name, value in pairs(fields) do rev[name] = value end
  rev.id, rev.version = rev.model.id, rev.model.version
  rev.pins, rev.weights, rev.max_used = 0, {}, {}
  rev.script_log = fields.files and script_log.new(fields.files)
  rev.policy = policy.compile(rev.model.policy.rules)
  rev.prefixes = {}
  for i, timer in ipairs(rev.model.timers) do rev.prefixes[i] = timer.prefix .. ":" end
  return rev
end

---Frees the isolate. Nothing of the revision may be used afterwards.
function Rev:close()
  if self.iso then self.iso:close() end
  self.iso = nil
end

-- Budget of a Commitment: linear rules stay inside however long the session is.
local function commitment_budget(self, key)
  local limits = self.limits
  local by_state = (self.weights[key] or 0) * limits.commitment_per_value
  return math.min(math.max(limits.commitment_instructions, by_state), MAX_STATE_INSTRUCTIONS)
end

local function add_weight(self, key, payload)
  self.weights[key] = (self.weights[key] or 0) + #payload + BYTES_PER_MESSAGE
end

-- A failure found by our own code stands at the part of the mode that ran.
local function locate(self, err, subject)
  if err.file and not err.file:find("^inside%.") then return end
  local view, key = subject:match("^(%a+)%.(.+)$")
  local name = view and self.maps[view .. ".lua"] and view .. ".lua" or "mode.lua"
  local map = self.maps[name]
  err.file, err.line = self.root .. name, map and map:line(name == "mode.lua" and subject or key) or 1
end

-- Notes a failure of a script; returns phase, subject and whether the state has to be rebuilt.
local function note_failure(self, key, err)
  local _, phase, subject, broken = self.iso:call_fast(self.entries.failed, 0, 0)
  if phase == "payload" and err.code == "LIMIT" then return phase, subject, false end
  locate(self, err, tostring(subject))
  self.faulty = { count = (self.faulty and self.faulty.count or 0) + 1,
    last = { file = err.file, line = err.line, message = err.message, subject = subject, session = key } }
  if self.quiet then return phase, subject, broken ~= nil end
  log.error("mode.script_failed", { mode = self.id, revision = self.hash, session_id = key, code = err.code,
    subject = subject, file = err.file, line = err.line, message = err.message })
  return phase, subject, broken ~= nil
end

-- A script failure while a message was judged, as a rejection. A payload that is too costly to read is the sender's.
local function author_rejection(self, key, err)
  local phase, subject, broken = note_failure(self, key, err)
  if phase == "payload" and err.code == "LIMIT" then
    return { code = "INVALID_ENVELOPE", message = "the payload is too costly to read: " .. err.message, rule = subject }
  end
  local where = { file = err.file, line = err.line, text = err.message, limit = err.code == "LIMIT" }
  if phase == "evaluate" then
    return { code = "POLICY_DENIED", message = "evaluation failed", rule = subject, faulty = true, error = where,
      details = { reasons = json.array({ "evaluation failed" }),
        items = json.array({ { rule = "policy", text = "evaluation failed" } }) } }
  end
  return { code = "INTERNAL_ERROR", message = "the mode failed in " .. tostring(subject), rule = subject,
    author_error = true, faulty = true, rebuild = broken, error = where, file = err.file, line = err.line }
end

local function rejection(code, message, rule, details)
  return { code = code, message = message, rule = rule, details = details and json.decode(details) or nil }
end

---Judges and applies one message.
---@param key string session
---@param message_type string
---@param sender string
---@param payload string bytes
---@param t number session time
---@param flags integer|nil 1: synthetic
---@return string|nil "accepted" or "resolved"; nil, rejection
---@return number|table|nil next due of a timer, or the rejection
---@return string|nil resolution bytes
---@return string|nil result JSON
---@return string|nil policy details JSON
function Rev:submit(key, message_type, sender, payload, t, flags)
  local limits, is_commitment = self.limits, message_type == COMMITMENT
  local budget = is_commitment and commitment_budget(self, key) or limits.message_instructions
  local ok, verdict, a, b, c, d = self.iso:call_fast(self.entries.submit, budget, limits.growth_bytes, key,
    message_type,
    sender, payload, t, flags or 0)
  if self.script_log then self.script_log:show(self, key) end
  if not ok then return nil, author_rejection(self, key, verdict) end
  if verdict == nil then return nil, rejection(a, b, c, d) end
  if is_commitment then return verdict, a, b, c, d end
  self.weights[key] = (self.weights[key] or 0) + #payload + BYTES_PER_MESSAGE
  return verdict, a
end

---Starts a session's state.
---@return true|nil ok; nil, rejection
---@return number|table|nil next due
function Rev:start(key, start)
  local limits = self.limits
  local ok, started, due, message, rule = self.iso:call("start",
    { instructions = limits.message_instructions, growth_bytes = limits.growth_bytes }, key, start)
  if self.script_log then self.script_log:show(self, key) end
  if not ok then return nil, author_rejection(self, key, started) end
  if not started then return nil, rejection(due, message, rule) end
  self.weights[key] = #start.participants * 2
  return true, due
end

local function replay_budget(self, message_type, key)
  local limits = self.limits
  local base = message_type == COMMITMENT and commitment_budget(self, key) or limits.message_instructions
  return base * limits.replay_factor
end

local function replay_error(self, key, err)
  local _, subject, broken = note_failure(self, key, err)
  return { code = "INTERNAL_ERROR", message = tostring(err.message), file = err.file, line = err.line, rule = subject,
    author_error = true, rebuild = broken }
end

---Transition only, for replay. Returns true, next due; or nil, err.
function Rev:apply(key, message_type, sender, payload, t, flags, without_due)
  local ok, done, due = self.iso:call_fast(self.entries.apply, replay_budget(self, message_type, key), 0, key,
    message_type, sender, payload, t, flags or 0, without_due or false)
  if not ok then return nil, replay_error(self, key, done) end
  if not done then return nil, { code = "INVALID_ENVELOPE", message = due } end
  add_weight(self, key, payload)
  return true, due
end

---Applies a packed array { type, sender, payload, t, flags, type, ... }.
---@return integer|nil count; nil, err, index (1-based message) of the one that failed
---@return number|nil next due after the last one
function Rev:apply_many(key, packed)
  local iso, entry, budget = self.iso, self.entries.apply, self.limits.message_instructions * self.limits.replay_factor
  local count, weight = 0, self.weights[key] or 0
  for i = 1, #packed, 5 do
    local message_type, payload = packed[i], packed[i + 2]
    local limit = message_type == COMMITMENT and replay_budget(self, message_type, key) or budget
    local ok, done, reason = iso:call_fast(entry, limit, 0, key, message_type, packed[i + 1], payload, packed[i + 3],
      packed[i + 4], true)
    if not (ok and done) then
      self.weights[key] = weight
      local err = ok and { code = "INVALID_ENVELOPE", message = reason } or replay_error(self, key, done)
      return nil, err, count + 1
    end
    count, weight = count + 1, weight + #payload + BYTES_PER_MESSAGE
  end
  self.weights[key] = weight
  if self.script_log then self.script_log:drop(self) end
  local due, err = self:next_due(key)
  if err then return nil, err, count end
  return count, due
end

---When the earliest timer of a session fires; nil when none is armed; nil, err when a script failed.
function Rev:next_due(key)
  if #self.prefixes == 0 then return nil end
  local limits = self.limits
  local ok, due = self.iso:call_fast(self.entries.due, limits.message_instructions, limits.growth_bytes, key)
  if not ok then return nil, replay_error(self, key, due) end
  return due
end

---The synthetic message of the earliest timer due at or before t.
---@return table|nil { type, sender, message_id, payload, at }; nil, err when a script failed
function Rev:fire(key, t)
  local limits = self.limits
  local ok, message_type, sender, id, payload, at = self.iso:call_fast(self.entries.fire, limits.message_instructions,
    limits.growth_bytes, key, t)
  if not ok then return nil, author_rejection(self, key, message_type) end
  if message_type == nil then return nil end
  return { type = message_type, sender = sender, message_id = id, payload = payload, at = at }
end

---Whether a client may not use this message id because a timer could.
function Rev:is_reserved_id(message_id)
  for i = 1, #self.prefixes do
    local prefix = self.prefixes[i]
    if message_id:sub(1, #prefix) == prefix then return true end
  end
  return false
end

---Deterministic bytes of a session; nil, err when the state is not plain data.
function Rev:encode(key)
  local ok, bytes = self.iso:call_fast(self.entries.encode, 0, 0, key)
  if not ok then return nil, replay_error(self, key, bytes) end
  return bytes
end

---About how large the state of a session is: bytes of the payloads it was made from, and a little for each message.
function Rev:weight(key) return self.weights[key] or 0 end

---Begins with the bytes of encode in steps. Nothing may change the session until the last one. One at a time: an
---unfinished one is given up.
---@return true|nil, table? err
function Rev:encode_begin(key)
  local ok, err = self.iso:call_fast(self.entries.encode_begin, 0, 0, key)
  if not ok then return nil, replay_error(self, key, err) end
  return true
end

---The next bytes, which may be none, and whether these are the last ones; nil, err when the state is not plain data
---or nothing was begun.
---@return string|nil, boolean|table
function Rev:encode_step(key)
  local ok, bytes, is_last = self.iso:call_fast(self.entries.encode_step, 0, 0, key)
  if not ok then return nil, replay_error(self, key, bytes) end
  if bytes == nil then return nil, { code = "NOT_FOUND", message = "no encoding of this session is under way" } end
  return bytes, is_last
end

---Gives up what encode_begin has begun.
function Rev:encode_stop(key)
  if self.iso then self.iso:call_fast(self.entries.encode_stop, 0, 0, key) end
end

---Loads a session from the bytes of encode. Returns true, next due; or nil, err.
function Rev:restore(key, start, bytes)
  local ok, err = self.iso:call("restore", nil, key, start, bytes)
  if not ok then return nil, replay_error(self, key, err) end
  self.weights[key] = #bytes
  local due
  due, err = self:next_due(key)
  if err then return nil, err end
  return true, due
end

---SHA-256 of the state, hexadecimal.
function Rev:state_hash(key)
  local ok, hash = self.iso:call_fast(self.entries.hash, 0, 0, key)
  if not ok then return nil, replay_error(self, key, hash) end
  return hash
end

function Rev:drop(key)
  self.weights[key] = nil
  if self.iso then self.iso:call_fast(self.entries.drop, 0, 0, key) end
end

-- Collects the values of observe into event tables; a is the first of n * 7 values.
local function collect_events(n, ...)
  local events = {}
  for i = 1, n do
    local at = (i - 1) * EVENT_WIDTH
    local event_type, kind, id, label, vote, confidence, data = select(at + 1, ...)
    events[i] = { type = event_type, kind = kind, id = id, label = label, vote = vote, confidence = confidence,
      data = data }
  end
  return events
end

local function observed(self, key, message_type, payload, ok, payload_json, reason, due, n, ...)
  if not ok then
    local err = payload_json
    local phase, subject = note_failure(self, key, err)
    local text = string.format("%s: %s:%s: %s", tostring(subject), tostring(err.file), tostring(err.line), err.message)
    if phase ~= "view" then self.iso:call_fast(self.entries.degrade, 0, 0, key, text) end
    local _, shown = self.iso:call("payload_json", nil, message_type, payload)
    return type(shown) == "string" and shown or nil, {}, text
  end
  if reason then return payload_json, {}, reason end
  add_weight(self, key, payload)
  if n == 1 then
    local event_type, kind, id, label, vote, confidence, data = ...
    return payload_json, { { type = event_type, kind = kind, id = id, label = label, vote = vote,
      confidence = confidence, data = data } }, nil, due
  end
  return payload_json, collect_events(n, ...), nil, due
end

---Applies an observed message and maps it.
---@return string|nil payload JSON (lowerCamelCase, hidden fields removed); nil when it could not be decoded
---@return table[] events { type, kind, id, label, vote, confidence, data = JSON text }
---@return string|nil why the message could not be applied or mapped
---@return number|nil next due
function Rev:observe(key, message_type, sender, payload, t, message_id, time, flags)
  local limits = self.limits
  local budget = limits.view_instructions * limits.replay_factor
  local growth = limits.growth_bytes * 2 -- what acceptance allowed, and as much again for the mapping
  return observed(self, key, message_type, payload, self.iso:call_fast(self.entries.observe, budget, growth, key,
    message_type, sender, payload, t, message_id, time, flags or 0))
end

---Readiness and policy of both polarities now, without committing; JSON.
function Rev:explain(key)
  local ok, text = self.iso:call("explain", { instructions = commitment_budget(self, key) * 2 }, key)
  if not ok then return nil, replay_error(self, key, text) end
  return text
end

---Checks the rules of a policy for this mode.
---@param rules table
---@param schema_version integer
---@param opts table|nil see macp.modes.policy_rules
---@return boolean|nil ok
---@return string[] reasons, or warnings when it is fine: "rules.<path>: text"
function Rev:check_policy(rules, schema_version, opts)
  local problems, warnings = policy_rules.check(self.policy, rules, schema_version, opts)
  local out = {}
  for i, item in ipairs(#problems > 0 and problems or warnings) do out[i] = item.rule .. ": " .. item.text end
  if #problems > 0 then return nil, out end
  return true, out
end

---Everything about the revision as plain data.
Rev.describe = describe.describe

---A codec for payloads of one message type, or nil.
Rev.codec = describe.codec

live_view.install(Rev, note_failure)

return M
