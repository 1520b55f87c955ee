-- Prove: plays the fixtures of a revision. Each runs live (rejections must not change the state, predicates and views
-- must not change it either), then its history is replayed plainly, with the state encoded and decoded after every
-- message, and with tables rebuilt in random order; all four must end in the same state hash.

local json = require("host.json")

local fixtures = require("macp.modes.fixtures")
local source = require("macp.modes.source")

local DRY, SYNTHETIC = 2, 1
local MAX_EMISSIONS = 16
local INSTRUCTION_STEP, DEFAULT_STEP = 10, 1000
local CHECKPOINT_EVERY = 5
local TIME = "2026-01-01T00:00:00.000Z"
local DELIVERIES = { "run.started", "run.suspended", "run.resumed", "run.completed", "run.failed", "run.cancelled" }

local M = {}

local Play = {}
Play.__index = Play

-- Raised inside a play and caught in M.play: the first thing that is wrong.
-- where is a line or a step, whose line is looked up only now.
local function fail(where, format, ...)
  local line = type(where) == "table" and fixtures.line_of(where) or where
  error({ line = line, text = string.format(format, ...) }, 0)
end

local function describe_error(err)
  if err.error then err = err.error end
  local text = err.text or err.message or "failed"
  return err.file and string.format("%s:%s: %s", err.file, tostring(err.line), text) or text
end

local function start_record(fixture)
  return { initiator = fixture.initiator, participants = fixture.participants, policy = fixture.policy,
    mode_version = fixture.mode_version, configuration_version = fixture.configuration_version,
    policy_version = fixture.policy.policy_id, ttl_ms = fixture.ttl_ms, t = 0,
    payload = { intent = "fixture", participants = fixture.participants, mode_version = fixture.mode_version,
      configuration_version = fixture.configuration_version, policy_version = fixture.policy.policy_id,
      ttl_ms = fixture.ttl_ms, roots = {}, context_id = "", extensions = {}, max_suspend_ms = 0 } }
end

local function new_play(rev, fixture, cover)
  return setmetatable({ rev = rev, fixture = fixture, key = "fixture", t = 0, state = "Open", history = {},
    cover = cover,
    start = start_record(fixture), sent = 0, accepted = 0 }, Play)
end

function Play:hash(where)
  local hash, err = self.rev:state_hash(self.key)
  if hash == nil then fail(where, "%s", describe_error(err)) end
  return hash
end

function Play:note_use(name)
  local used = self.rev.iso:last_instructions()
  if used > (self.cover.instructions[name] or 0) then self.cover.instructions[name] = used end
end

-- A delivery may be due at any moment, whatever has been said in the session so far. One that the mode fails to shape
-- goes out as it is: worth a note, each failure once.
function Play:tell()
  local unshaped = self.cover.unshaped
  for _, event in ipairs(DELIVERIES) do
    local _, _, err = self.rev:webhook(self.key, '{"type":"' .. event .. '","data":{}}')
    local key = err and describe_error(err)
    if key and not unshaped[key] then
      unshaped[key] = true
      unshaped[#unshaped + 1] = { path = err.file or self.rev.root .. "webhook.lua", line = err.line or 1,
        severity = "note", text = string.format("%s can be due here and goes out as it is: %s", event, err.message) }
    end
  end
end

-- Everything that only reads must leave the state as it was.
function Play:look(where)
  local before = self:hash(where)
  local text, err = self.rev:render(self.key)
  if err then fail(where, "view: %s", describe_error(err)) end
  local shown = json.decode(text).view
  if shown == nil or shown == json.null then fail(where, "view: render returned nothing") end
  self:tell()
  local _, due_err = self.rev:next_due(self.key)
  if due_err then fail(where, "due: %s", describe_error(due_err)) end
  if self:hash(where) ~= before then fail(where, "a view or timer function changed the state") end
  local ok, index, broken = self.rev.iso:call("broken_invariant", nil, self.key)
  if not ok then fail(where, "invariant: %s", describe_error(index)) end
  if index then fail(where, "the invariant '%s' does not hold", broken) end
  return text
end

-- Predicates, outcomes and policy judge a message without leaving a trace.
function Play:judge_only(step, bytes)
  local before = self:hash(step)
  self.rev:submit(self.key, step.type, step.by, bytes, self.t, DRY)
  if self:hash(step) ~= before then fail(step, "a predicate of %s changed the state", step.type) end
  return before
end

-- What the control plane makes of an accepted message: it follows with a state of its own, to which the mode's
-- normalizer and reducer add nothing.
function Play:show(where, name, sender, bytes, flags, t)
  local rev, key, id = self.rev, self.key .. " shown", "m" .. self.accepted
  local payload, events, reason = rev:observe(key, name, sender, bytes, t, id, TIME, flags)
  if reason then fail(where, "normalizer: %s", reason) end
  local seen = { modeName = rev.id, messageType = name, messageId = id, sessionId = key, sender = sender }
  self:fold(where, { type = "message.received", kind = "message", id = id }, seen, "payload", payload)
  for _, event in ipairs(events) do self:fold(where, event, seen, "decodedPayload", event.data or payload) end
  local _, err = rev:render(key)
  if err then fail(where, "view: %s", describe_error(err)) end
  if rev:state_hash(key) ~= self:hash(where) then self.strayed = self.strayed or where end
end

-- Hands the reducer a canonical event as the control plane writes it.
function Play:fold(where, event, seen, member, payload)
  self.folded = (self.folded or 0) + 1
  local data = { action = event.label, vote = event.vote, confidence = event.confidence,
    proposalId = event.kind == "proposal" and event.id or nil, [member] = json.decode(payload) }
  for name, value in pairs(seen) do data[name] = value end
  local _, _, err = self.rev:reduce(self.key .. " shown", json.encode({ id = "e" .. self.folded, runId = self.key,
    seq = self.folded, ts = TIME, type = event.type, source = { kind = "runtime", name = "fixture" },
    subject = { kind = event.kind, id = event.id }, data = data }))
  if err then fail(where, "reduce of %s: %s", event.type, describe_error(err)) end
end

function Play:record(name, sender, bytes, flags, t)
  local history = self.history
  history[#history + 1] = { name, sender, bytes, t, flags }
  self.accepted = self.accepted + 1
  self.cover.accepted[name] = true
end

function Play:payload_of(step)
  local payload = step.payload
  if type(payload) == "string" then return payload end
  if step.type == "Commitment" then payload = fixtures.fill_commitment(self.rev, self.fixture, payload, self.sent) end
  local ok, bytes, problem = self.rev.iso:call("encode_payload", nil, step.type, payload)
  if not ok then fail(step, "payload of %s: %s", step.type, describe_error(bytes)) end
  -- The fixtures of the conformance suite refuse payloads that have no wire form; nothing else stands for one.
  local stands_for_refusal = step.reject and (not self.fixture.fills or not self.cover.known[step.type])
  if bytes == nil and not stands_for_refusal then fail(step, "payload of %s: %s", step.type, tostring(problem)) end
  return bytes or ""
end

function Play:check_rejection(step, rejection, before)
  if not step.reject then
    fail(step, "%s by %s was refused: %s: %s", step.type, step.by, rejection.code,
      rejection.error and describe_error(rejection) or rejection.message)
  end
  if rejection.author_error and step.reject ~= "INTERNAL_ERROR" then
    fail(step, "%s: %s", step.type, describe_error(rejection))
  end
  if rejection.rule then self.cover.refused[rejection.rule] = true end
  if step.reject ~= true and rejection.code ~= step.reject then
    fail(step, "%s was refused with %s (%s), expected %s", step.type, rejection.code, rejection.message,
      step.reject)
  end
  if step.because and not rejection.message:find(step.because, 1, true) then
    fail(step, "%s was refused because \"%s\", expected \"%s\"", step.type, rejection.message, step.because)
  end
  if before and self:hash(step) ~= before then fail(step, "the refused %s changed the state", step.type) end
end

function Play:send(step)
  self.sent = self.sent + 1
  if self.state ~= "Open" then
    return self:check_rejection(step, { code = "SESSION_NOT_OPEN", message = "the session is " .. self.state })
  end
  local bytes = self:payload_of(step)
  local before = self:judge_only(step, bytes)
  local verdict, detail, resolution = self.rev:submit(self.key, step.type, step.by, bytes, self.t, 0)
  if self.cover.known[step.type] then self:note_use(step.type) end
  if verdict == nil then return self:check_rejection(step, detail, before) end
  if step.reject then
    fail(step, "%s by %s was accepted, expected %s", step.type, step.by, tostring(step.reject))
  end
  self:record(step.type, step.by, bytes, 0, self.t)
  self:show(step, step.type, step.by, bytes, 0, self.t)
  if verdict == "resolved" then self.state, self.resolution = "Resolved", resolution end
  self:look(step)
end

-- Lets the clock run to a session time; timers fire on the way, but not beyond the end of the session.
function Play:advance(where, to)
  if self.state ~= "Open" then return end
  for _ = 1, MAX_EMISSIONS + 1 do
    local message, err = self.rev:fire(self.key, math.min(to, self.fixture.ttl_ms))
    if err then fail(where, "timer: %s", describe_error(err)) end
    if message == nil then
      self.t = to
      if to > self.fixture.ttl_ms then self.state = "Expired" end
      return
    end
    local at = math.max(message.at, self.t)
    local verdict, detail = self.rev:submit(self.key, message.type, message.sender, message.payload, at, SYNTHETIC)
    if verdict == nil then fail(where, "the timer's %s was refused: %s", message.type, describe_error(detail)) end
    self.t = at
    self:record(message.type, message.sender, message.payload, SYNTHETIC, at)
    self:show(where, message.type, message.sender, message.payload, SYNTHETIC, at)
    self.cover.synthetic[message.type] = true
  end
  fail(where, "timers fired more than %d times in one wait", MAX_EMISSIONS)
end

function Play:check_synthetic(step)
  local last = self.history[#self.history]
  if last == nil or last[5] ~= SYNTHETIC or last[1] ~= step.type then
    fail(step, "the last entry is %s, expected %s from the runtime", last and last[1] or "nothing", step.type)
  end
  local _, payload = self.rev.iso:call("decode_payload", nil, last[1], last[3])
  local text = fixtures.difference(step.payload, payload, step.type)
  if text then fail(step, "%s", text) end
end

local STEPS = {
  send = Play.send,
  synthetic = Play.check_synthetic,
  wait = function(self, step) self:advance(step, self.t + step.value) end,
  suspend = function() end, -- session time stands still
  cancel = function(self) self.state = "Cancelled" end,
  expire = function(self) self.state = "Expired" end,
  state = function(self, step)
    local _, state = self.rev.iso:call("state", nil, self.key)
    local text = fixtures.difference(step.value, state, "state")
    if text then fail(step, "%s", text) end
  end,
  ready = function(self, step)
    local shown = json.decode((self.rev:render(self.key)))
    local text = fixtures.difference(step.value, shown.ready, "ready")
    if text then fail(step, "%s", text) end
  end,
  view = function(self, step)
    local shown = json.decode((self.rev:render(self.key)))
    local text = fixtures.difference(step.value, shown.view, "view")
    if text then fail(step, "%s", text) end
  end,
}

function Play:begin()
  local fixture = self.fixture
  local fine, reasons = self.rev:check_policy(fixture.policy.rules, fixture.policy.schema_version)
  if not fine then fail(1, "policy: %s", table.concat(reasons, "; ")) end
  local started, rejection = self.rev:start(self.key, self.start)
  if fixture.start then
    if started then fail(1, "the start was accepted, expected %s", tostring(fixture.start.code)) end
    self.cover.refused[rejection.rule or ""] = true
    if rejection.code ~= fixture.start.code or not rejection.message:find(fixture.start.because or "", 1, true) then
      fail(1, "the start was refused with %s (%s)", rejection.code, rejection.message)
    end
    return false
  end
  if not started then fail(1, "the start was refused: %s: %s", rejection.code, describe_error(rejection)) end
  self.rev:start(self.key .. " shown", self.start)
  self:look(1)
  return true
end

function Play:check_end()
  local fixture, expect = self.fixture, self.fixture.expect
  if self.state ~= fixture.final then fail(1, "the session ends %s, expected %s", self.state, fixture.final) end
  if expect.has_resolution ~= nil and expect.has_resolution ~= (self.resolution ~= nil) then
    fail(1, "a resolution is %s", self.resolution and "present" or "missing")
  end
  if expect.resolution then
    local _, payload = self.rev.iso:call("decode_payload", nil, "Commitment", self.resolution or "")
    local text = fixtures.difference(expect.resolution, payload, "resolution")
    if text then fail(1, "%s", text) end
  end
  if expect.state then STEPS.state(self, { value = expect.state, line = 1 }) end
end

-- Applies the history to a fresh state, disturbing it after every message; returns its hash.
function Play:replay(how, disturb)
  local key, rev = self.key .. " " .. how, self.rev
  local ok, err = rev:start(key, self.start)
  if not ok then fail(1, "%s: the start failed: %s", how, describe_error(err)) end
  for i, entry in ipairs(self.history) do
    local done, problem = rev:apply(key, entry[1], entry[2], entry[3], entry[4], entry[5])
    if not done then fail(1, "%s: message %d (%s): %s", how, i, entry[1], describe_error(problem)) end
    if disturb then disturb(key, i) end
  end
  local hash, problem = rev:state_hash(key)
  if hash == nil then fail(1, "%s: %s", how, describe_error(problem)) end
  rev:drop(key)
  return hash
end

function Play:check_replays()
  local rev, live = self.rev, self:hash(1)
  local ways = {
    { "replayed" },
    { "replayed with encode and decode", function(key) rev.iso:call_fast(rev.entries.recode, 0, 0, key) end },
    { "replayed in another table order", function(key, i) rev.iso:call_fast(rev.entries.shuffle, 0, 0, key,
      i * 7919) end },
    { "restored from a checkpoint", function(key, i)
      if i % CHECKPOINT_EVERY ~= 0 and i ~= #self.history then return end
      local bytes = rev:encode(key)
      rev:drop(key)
      rev:restore(key, self.start, bytes)
    end },
  }
  for _, way in ipairs(ways) do
    if self:replay(way[1], way[2]) ~= live then fail(1, "%s, the session ends in another state", way[1]) end
  end
  -- Only now: a state that no replay reproduces strays by itself.
  if self.strayed then fail(self.strayed, "the normalizer or reducer changed the state") end
end

---Plays one fixture.
---@return table result { name, ok, messages, problem = { path, line, text }|nil }
function M.play(rev, fixture, cover)
  local play = new_play(rev, fixture, cover)
  local ok, err = xpcall(function()
    if play:begin() then
      for _, step in ipairs(fixture.steps) do STEPS[step.kind](play, step) end
      play:check_end()
      play:check_replays()
      local _, values, bytes = rev.iso:call("size", nil, play.key)
      cover.values, cover.bytes = math.max(cover.values, values or 0), math.max(cover.bytes, bytes or 0)
    end
  end, function(err)
    return type(err) == "table" and err or { line = 1, text = debug.traceback(tostring(err), 2) }
  end)
  rev:drop(play.key)
  rev:drop(play.key .. " shown")
  local result = { name = fixture.name, ok = ok, messages = play.accepted }
  if not ok then
    result.problem = { path = fixture.path, line = err.line or 1, text = err.text, severity = "error",
      rule = "fixture" }
  end
  return result
end

---What the fixtures of a folder have touched.
function M.new_cover(rev)
  local known = { Commitment = true }
  for _, message in ipairs(rev.model.messages) do known[message.type] = true end
  return { known = known, accepted = {}, refused = {}, synthetic = {}, unshaped = {},
    instructions = {}, values = 0, bytes = 0 }
end

-- Rules that no fixture refuses, messages that none accepts.
local function coverage_notes(rev, cover)
  local notes, path = {}, rev.root .. "mode.lua"
  local function note(line, text) notes[#notes + 1] = { path = path, line = line, text = text, severity = "note" } end
  local function of_message(message)
    for i, need in ipairs(message.needs) do
      local rule = string.format("messages.%s.needs[%d]", message.type, i)
      if not cover.refused[rule] then
        note(need.line, string.format("%s '%s' is never refused by a fixture", rule, need.text))
      end
    end
  end
  for _, message in ipairs(rev.model.messages) do
    if not cover.accepted[message.type] then
      note(message.line, string.format("messages.%s is never accepted by a fixture", message.type))
    end
    of_message(message)
  end
  if rev.model.session_start then of_message(rev.model.session_start) end
  of_message(rev.model.commitment)
  return notes
end

---Plays all fixtures of a folder.
---@param rev macp.modes.Revision a revision without other sessions
---@param files table files of the folder, fixtures included
---@param opts table|nil { measure = count instructions exactly (slower), between = function() called between
--- fixtures (may yield) }
---@return table report { results, problems, notes, cover, failed }
function M.run(rev, files, opts)
  local report = { results = {}, problems = {}, cover = M.new_cover(rev), failed = 0 }
  opts = opts or {}
  if opts.measure then rev.iso:set_step(INSTRUCTION_STEP) end
  rev.quiet = true
  for _, name in ipairs(source.fixtures(files)) do
    local fixture, problem = fixtures.load(rev, name, files[name], rev.root .. name)
    local result = fixture and M.play(rev, fixture, report.cover)
      or { name = name:match("([^/]+)$"), ok = false, messages = 0, problem = problem }
    report.results[#report.results + 1] = result
    if not result.ok then
      report.failed = report.failed + 1
      report.problems[#report.problems + 1] = result.problem
    end
    if opts.between then opts.between() end
  end
  rev.iso:set_step(DEFAULT_STEP)
  rev.faulty, rev.quiet = nil, nil
  report.notes = coverage_notes(rev, report.cover)
  for _, note in ipairs(report.cover.unshaped) do table.insert(report.notes, note) end
  return report
end

return M
