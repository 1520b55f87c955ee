-- Stand-ins for the runtime's surroundings: a journal whose flushes are operated by hand, a mode with every kind of
-- verdict, and a core without gRPC.

local host_json = require("host.json")
local task = require("host.task")

local M = {}

-- --- journal ---

local Journal = {}
Journal.__index = Journal

---A journal in memory. By default a wait flushes; with `held` set records stay pending until flush() or fail().
function M.journal()
  return setmetatable({
    logs = {}, parked = {}, pending = {}, states = {}, lsn = 0, decided = 0, held = false, changed = task.cond(),
    appends = 0, refuse = nil, failed = 0,
  }, Journal)
end

-- In memory until somebody needs it.
function Journal:park(key) self.parked[key] = true end

function Journal:append(key, bytes, tail, after)
  self.parked[key] = nil
  if tail then bytes = bytes .. tail end
  if after and self.states[after] == "failed" then return nil, { code = "IO", message = "the disk failed" } end
  if self.refuse then return nil, { code = "LIMIT", message = self.refuse } end
  self.lsn, self.appends = self.lsn + 1, self.appends + 1
  self.states[self.lsn] = "pending"
  self.pending[#self.pending + 1] = { lsn = self.lsn, key = key, bytes = bytes }
  local _, count = self:count(key)
  return self.lsn, count
end

function Journal:remove(key)
  self.parked[key] = nil
  self.lsn = self.lsn + 1
  self.states[self.lsn] = "pending"
  self.pending[#self.pending + 1] = { lsn = self.lsn, key = key, list = false }
  return self.lsn
end

function Journal:replace(key, list)
  local lsn = self:remove(key)
  self.pending[#self.pending].list = list
  return self:wait(lsn)
end

local function decide(journal, state)
  for _, entry in ipairs(journal.pending) do
    journal.states[entry.lsn] = state
    journal.decided = entry.lsn
    if state == "durable" then
      local log = journal.logs[entry.key] or {}
      if entry.bytes then log[#log + 1] = entry.bytes else log = entry.list or nil end
      journal.logs[entry.key] = log
    end
  end
  journal.pending = {}
  journal.changed:broadcast()
end

function Journal:flush() decide(self, "durable") end

function Journal:fail()
  self.failed = self.failed + 1
  decide(self, "failed")
end

function Journal:status(lsn) return self.states[lsn] end

function Journal:durable() return self.decided, self.failed end

function Journal:wait(lsn)
  if not self.held then self:flush() end
  while self.states[lsn] == "pending" do
    local ok, err = self.changed:wait()
    if not ok then return nil, err end
  end
  if self.states[lsn] == "durable" then return true end
  return nil, { code = "IO", message = "the disk failed" }
end

function Journal:read(key, from, max)
  local found = {}
  for i = from, math.min(from + max - 1, #(self.logs[key] or {})) do found[#found + 1] = self.logs[key][i] end
  return found
end

function Journal:count(key)
  local durable = #(self.logs[key] or {})
  local count = durable
  for _, entry in ipairs(self.pending) do
    if entry.key == key then count = entry.bytes and count + 1 or #(entry.list or {}) end
  end
  return durable, count
end

function Journal:keys()
  local keys = {}
  for key in pairs(self.logs) do keys[#keys + 1] = key end
  return keys
end

function Journal:scan(fn)
  for key, log in pairs(self.logs) do
    for index, bytes in ipairs(log) do fn(key, index, bytes) end
  end
  return true
end

-- --- a mode ---

local Revision = {}
Revision.__index = Revision

local function rejection(code, message, more)
  local found = { code = code, message = message }
  for key, value in pairs(more or {}) do found[key] = value end
  return nil, found
end

-- Message types: Say (participants), Arm (a timer so many ms ahead), Bug, Deny, Commitment (initiator).
local function check(state, type_, sender, synthetic)
  if type_ == "Bug" then
    return rejection("INTERNAL_ERROR", "attempt to index a nil value",
      { author_error = true, file = "mode.lua", line = 7 })
  end
  if type_ == "Deny" then return rejection("POLICY_DENIED", "denied", { details = { reasons = { "too few" } } }) end
  if type_ == "Ding" then
    if synthetic then return true end
    return rejection("FORBIDDEN", "only the clock sends Ding")
  end
  if type_ == "Commitment" then
    if sender == state.start.initiator then return true end
    return rejection("FORBIDDEN", "not the initiator")
  end
  if type_ ~= "Say" and type_ ~= "Arm" then return rejection("INVALID_ENVELOPE", "unknown type") end
  for _, name in ipairs(state.start.participants) do
    if name == sender then return true end
  end
  return rejection("FORBIDDEN", "not a participant")
end

local function apply(state, type_, sender, payload, t, flags)
  state.entries[#state.entries + 1] = table.concat({ type_, sender, payload, tostring(t), tostring(flags) }, "|")
  if type_ == "Arm" then state.due = t + tonumber(payload) end
  if type_ == "Ding" then state.due = nil end
end

function Revision:start(key, start)
  if start.payload.intent == "refuse" then return rejection("INVALID_ENVELOPE", "the mode does not like it") end
  self.states[key] = { start = start, entries = {} }
  return true, nil
end

function Revision:submit(key, type_, sender, payload, t, flags)
  local state = self.states[key]
  local ok, why = check(state, type_, sender, flags == 1)
  if type_ == "Bug" then state.entries[#state.entries + 1] = "half applied" end
  if not ok then return nil, why end
  apply(state, type_, sender, payload, t, flags)
  if type_ == "Commitment" then return "resolved", nil, payload end
  return "accepted", state.due
end

function Revision:fire(key, t)
  local due = self.states[key].due
  if not due or due > t then return nil end
  local initiator = self.states[key].start.initiator
  return { type = "Ding", sender = initiator, message_id = "timer:ding:" .. due, payload = "", at = due }
end

function Revision:apply_many(key, batch)
  local state = self.states[key]
  for i = 1, #batch, 5 do apply(state, batch[i], batch[i + 1], batch[i + 2], batch[i + 3], batch[i + 4]) end
  return #batch / 5, state.due
end

function Revision:encode(key)
  local state = self.states[key]
  return host_json.encode({ entries = host_json.array(state.entries), due = state.due }, { sorted = true })
end

function Revision:state_hash(key) return "hash of " .. self:encode(key) end

-- What a checkpoint takes the size of the state for: large, so that it is encoded in steps.
function Revision:weight() return self.weighs or math.huge end

-- The state in pieces of three bytes.
function Revision:encode_begin(key)
  self.rest = { key = key, bytes = self:encode(key) }
  return true
end

function Revision:encode_step(key)
  if self.rest == nil or self.rest.key ~= key then return nil, { message = "nothing was begun" } end
  local bytes = self.rest.bytes
  self.rest.bytes = bytes:sub(4)
  return bytes:sub(1, 3), #bytes <= 3
end

function Revision:encode_stop() self.rest = nil end

function Revision:restore(key, start, bytes)
  local state = host_json.decode(bytes)
  self.states[key] = { start = start, entries = state.entries, due = state.due }
  self.restored = self.restored + 1
  return true, state.due
end

function Revision:drop(key) self.states[key] = nil end

function Revision.is_reserved_id(_, id) return id:sub(1, 6) == "timer:" end

function Revision.check_policy(_, rules)
  if rules.bad then return nil, { "bad: unknown rule" } end
  return true, {}
end

---A registry with one strict mode, "macp.mode.talk.v1", and one extension, "ext.loose.v1".
function M.modes()
  local function revision(id, strict)
    return setmetatable({
      id = id, version = "1.0.0", hash = "sha256:" .. id, strict = strict, states = {}, restored = 0,
      descriptor = { mode = id, mode_version = "1.0.0" },
    }, Revision)
  end
  local revisions = { revision("macp.mode.talk.v1", true), revision("ext.loose.v1", false) }
  local modes = { pins = 0 }
  function modes.get(_, id, version)
    for _, rev in ipairs(revisions) do
      if rev.id == id and (version == nil or version == rev.version) then return rev end
    end
  end
  function modes:pinned(hash)
    for _, rev in ipairs(revisions) do
      if rev.hash == hash and not self.lost then return rev end
    end
    return nil, { code = "NOT_FOUND", message = "not archived" }
  end
  function modes:is_strict(id) return self:get(id).strict end
  function modes:pin() self.pins = self.pins + 1 end
  function modes:unpin() self.pins = self.pins - 1 end
  function modes.list() return { revisions[1].descriptor, revisions[2].descriptor } end
  function modes.check_policy(_, _, rules) return revisions[1]:check_policy(rules) end
  function modes.policy_checker(_, rev)
    return function(policy) return rev:check_policy(policy.rules) end
  end
  function modes.policy_meaning(_, _, rules) return host_json.encode(host_json.object(rules), { sorted = true }) end
  return modes
end

-- --- the core without gRPC ---

local Core = {}
Core.__index = Core

---A kernel, starts, sessions, log and loader over a journal. now is the clock's start; tick by core.now.
function M.core(opts)
  opts = opts or {}
  local core = setmetatable({
    now = opts.now or 1790000000000, journal = opts.journal or M.journal(), modes = opts.modes or M.modes(),
    published = {}, events = {}, lost = {},
  }, Core)
  local function now_ms() return core.now end
  core.mismatches = 0
  local counters = setmetatable({ mismatch = function() core.mismatches = core.mismatches + 1 end },
    { __index = function() return function() end end })
  core.policies = require("macp.runtime.policies").new({ modes = core.modes, now_ms = now_ms })
  core.log = require("macp.runtime.log").new(core.journal, {
    publish = function(session, frame)
      session.published = session.published + 1
      core.published[#core.published + 1] = frame
    end,
    event = function(event) core.events[#core.events + 1] = event end,
    stale = function(session) core.lost[#core.lost + 1] = session.id end,
  })
  core.loader = require("macp.runtime.recovery").new({
    journal = core.journal, modes = core.modes, policies = core.policies, strict = opts.strict, metrics = counters,
  })
  core.endings = require("macp.runtime.endings").new({
    log = core.log, journal = core.journal, mode = opts.compact or "keep",
    load_ids = function(session) return core.sessions:load_ids(session) end,
    on_deleted = function(id) core.sessions:deleted(id) end,
  })
  core.sessions = require("macp.runtime.sessions").new({
    loader = core.loader, journal = core.journal, retention_ms = 3600000,
    on_ended = function(session) core.endings:note(session) end,
    before_rebuild = function(session) core.log:wait(session.lsn) end,
  })
  core.checkpoints = require("macp.runtime.checkpoints").new({
    rest_ms = opts.rest_ms or 1,
    journal = core.journal, interval = opts.interval or 0,
    hold = function(session, fn) return core.sessions:hold(session, fn) end,
  })
  core.kernel = require("macp.runtime.kernel").new({
    sessions = core.sessions, log = core.log, modes = core.modes, policies = core.policies, metrics = counters,
    checkpoints = core.checkpoints,
    events = {
      lifecycle = function(_, session, type_, at)
        return { id = session.id, type = type_, at = at, state = session.state }
      end,
    },
    now_ms = now_ms,
  })
  core.starts = require("macp.runtime.starts").new({ kernel = core.kernel, max_clock_skew_ms = 300000 })
  return core
end

---An identity with every right.
function M.identity(sender, changes)
  local identity = { sender = sender, can_start = true, can_manage = false, observer = false }
  for key, value in pairs(changes or {}) do identity[key] = value end
  return identity
end

local START = {
  intent = "talk", participants = { "ann", "bob" }, mode_version = "1.0.0", configuration_version = "cfg",
  ttl_ms = 60000,
}

---Sends a SessionStart as "boss". payload changes the default one; envelope changes the envelope. (yields)
function Core:start(id, payload, envelope, identity)
  local messages = require("macp.protocol.messages")
  local fields = {}
  for key, value in pairs(START) do fields[key] = value end
  for key, value in pairs(payload or {}) do fields[key] = value end
  local message = {
    macp_version = "1.0", mode = "macp.mode.talk.v1", message_type = "SessionStart", message_id = "start",
    session_id = id, timestamp_unix_ms = 0,
    payload = assert(messages.codec("macp.v1.SessionStartPayload"):encode(fields)),
  }
  for key, value in pairs(envelope or {}) do message[key] = value end
  identity = identity or M.identity("boss")
  message.sender = identity.sender
  return self.starts:judge(self.sessions:find(id), identity, message)
end

---Sends a session message. (yields)
function Core:send(id, sender, type_, message_id, payload, changes)
  local session, err = self.sessions:find(id)
  if session == nil then return nil, "SESSION_NOT_FOUND", err and err.message end
  local envelope = {
    macp_version = "1.0", mode = session.mode, message_type = type_, message_id = message_id, session_id = id,
    sender = sender, timestamp_unix_ms = 0, payload = payload or "",
  }
  for key, value in pairs(changes or {}) do envelope[key] = value end
  return self.kernel:message(session, M.identity(sender), envelope)
end

---A fresh core on the same journal, as after a restart. (yields)
function Core:restart(opts)
  opts = opts or {}
  local fresh = M.core({
    journal = self.journal, modes = opts.modes or M.modes(), now = self.now, strict = opts.strict,
    interval = opts.interval, compact = opts.compact,
  })
  local parts = { loader = fresh.loader, endings = fresh.endings, journal = fresh.journal, strict = opts.strict }
  fresh.report, fresh.failure = require("macp.runtime.startup").recover(parts, {
    on_session = function(session) fresh.sessions:add(session) end,
    on_finished = function(id, entry) fresh.sessions:add_stub(id, entry.started_at, entry.ended_at) end,
    is_recent = function() return opts.keep_ended ~= false end,
  })
  return fresh
end

---Runs a background task of the core (`checkpoints` or `endings`) until it has nothing to do. (yields)
function Core:work(name)
  local part = self[name]
  local running = task.spawn(function() part:run() end)
  local function is_busy()
    if part.is_busy then return part:is_busy() end
    return part.head <= part.tail
  end
  while is_busy() do task.sleep(1) end
  task.sleep(1)
  part:close()
  running:join()
  part.closed = false
end

return M
