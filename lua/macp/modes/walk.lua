-- Walk: a seeded random walk over a mode. Payloads come from the field lists, from what was accepted before (a task is
-- named again by the messages that follow) and from the names of the participants; senders and waits are drawn. It looks
-- for errors of the scripts, broken invariants, states that do not survive storage, and modes that never get ready.

local DEFAULT_SESSIONS, DEFAULT_STEPS = 24, 60
local MAX_EMISSIONS = 16
local SYNTHETIC = 1
local MAX_WORD = 100

local M = {}

-- Minimal standard generator: the same seed walks the same way everywhere.
local function generator(seed)
  local value = seed % 2147483647
  if value <= 0 then value = 42 end
  return function(limit)
    value = (value * 16807) % 2147483647
    return value % limit + 1
  end
end

local WORDS = { "a", "b", "x1", "p1", "p2", "", " ", "APPROVE", "closed", "caf\195\169", "0", "long text that goes on" }

local Walk = {}
Walk.__index = Walk

local function pick(self, list)
  return list[self.random(#list)]
end

local function map_key(state, name)
  local keys = {}
  for key in pairs(type(state[name]) == "table" and state[name] or {}) do keys[#keys + 1] = tostring(key) end
  table.sort(keys)
  return keys
end

local function random_number(self, field)
  local low, high = field.min or 0, field.max or (field.min or 0) + 100
  if self.random(10) == 1 then return low - 1 end
  if field.type == "double" or field.type == "float" then return low + (high - low) * self.random(1000) / 1000 end
  return low + self.random(math.max(1, math.floor(high - low))) - 1
end

-- Words of accepted messages by the name of their field: other messages mean the same by it.
local function remember(self, payload)
  for name, value in pairs(payload) do
    if type(value) == "string" and #value <= MAX_WORD then self.said[name] = value end
  end
end

local function random_one(self, field, state)
  local kind = field.type
  if kind == "bool" then return self.random(2) == 1 end
  if kind == "json" then return { note = pick(self, WORDS) } end
  if kind == "bytes" then return string.rep("\7", self.random(9) - 1) end
  if kind ~= "string" then return random_number(self, field) end
  if field.one_of and self.random(12) > 1 then return pick(self, field.one_of) end
  if field.ref then
    local keys = map_key(state, field.ref)
    if #keys > 0 and self.random(10) > 1 then return pick(self, keys) end
  end
  if field.new and self.random(6) > 1 then
    self.serial = self.serial + 1
    return "id" .. self.serial
  end
  local said = self.said[field.name]
  if said and self.random(4) > 1 then return said end
  if self.random(4) == 1 then return pick(self, self.senders) end
  return pick(self, WORDS)
end

local function random_value(self, field, state)
  if not field.repeated and not field.map then return random_one(self, field, state) end
  local out = {}
  for i = 1, self.random(4) - 1 do
    out[field.map and "k" .. i or i] = random_one(self, field, state)
  end
  return out
end

function Walk:payload(message, state)
  if message.type == "Commitment" then
    local outcome = pick(self, self.rev.model.outcomes)
    local positive = outcome.positive
    if positive == nil then positive = self.random(2) == 1 end
    return { commitment_id = "c", action = outcome.action, authority_scope = "walk", reason = "walk",
      mode_version = self.rev.version, configuration_version = "walk", outcome_positive = positive }
  end
  local payload = {}
  for _, field in ipairs(message.fields) do
    if self.random(12) > 1 then
      local value = random_value(self, field, state)
      local is_odd_integer = type(value) == "number" and value < 0 and field.type:find("^u")
      payload[field.name] = not is_odd_integer and value or nil
    end
  end
  return payload
end

function Walk:problem(err, what)
  err = err.error or err
  local key = tostring(err.file) .. ":" .. tostring(err.line) .. ":" .. tostring(err.text or err.message)
  if self.seen[key] then return end
  self.seen[key] = true
  self.problems[#self.problems + 1] = { path = err.file or self.rev.root .. "mode.lua", line = err.line or 1,
    severity = "error", rule = "walk", text = string.format("%s   [%s]", err.text or err.message, what) }
end

function Walk:check_after(key, what)
  local rev = self.rev
  local ok, index, text = rev.iso:call("broken_invariant", nil, key)
  if ok and index then
    local invariant = rev.model.invariants[index]
    self:problem({ file = rev.root .. "mode.lua", line = invariant.line, text = "the invariant '" .. text
      .. "' does not hold" },
      what)
  elseif not ok then
    self:problem(index, "invariants")
  end
  local bytes, err = rev:encode(key)
  if bytes == nil then self:problem(err, what) end
  local _, view_err = rev:render(key)
  if view_err then self:problem(view_err, "view after " .. what) end
  local _, positive, negative = rev.iso:call("ready", nil, key)
  if positive == true or negative == true then self.was_ready = true end
end

local function subject_of(rejection, message)
  return rejection.rule or "messages." .. message.type
end

-- Timers up to a session time. Returns false when the session cannot go on.
function Walk:fire(key, t)
  for _ = 1, MAX_EMISSIONS + 1 do
    local message, err = self.rev:fire(key, t)
    if err then
      self:problem(err, "timers")
      return false
    end
    if message == nil then return true end
    local verdict, rejection = self.rev:submit(key, message.type, message.sender, message.payload, message.at,
      SYNTHETIC)
    if verdict == nil then
      self:problem({ text = "the timer's " .. message.type .. " was refused: " .. rejection.message,
        error = rejection.error },
        "timers")
      return false
    end
  end
  self:problem({ text = "timers fire without end" }, "timers")
  return false
end

function Walk:session(index, senders)
  local rev, key, t = self.rev, "walk" .. index, 0
  local start = { initiator = senders[1], participants = { unpack(senders, 2) }, mode_version = rev.version,
    configuration_version = "walk", policy_version = "policy.default", ttl_ms = 86400000, t = 0,
    policy = { policy_id = "policy.default", mode = "*", schema_version = 1, rules = {} },
    payload = { intent = "walk", participants = { unpack(senders, 2) } } }
  local started, rejection = rev:start(key, start)
  if not started then
    if rejection.error then self:problem(rejection, "SessionStart") end
    return
  end
  self.started, self.said, self.senders = self.started + 1, {}, senders
  for _ = 1, self.steps do
    t = t + self.random(4) * self.random(4000)
    if not self:fire(key, t) then break end
    local message = self.random(15) == 1 and { type = "Commitment" } or pick(self, rev.model.messages)
    local _, state = rev.iso:call("state", nil, key)
    local payload = self:payload(message, state)
    local ok, bytes = rev.iso:call("encode_payload", nil, message.type, payload)
    if ok and bytes then
      local verdict, refused = rev:submit(key, message.type, pick(self, senders), bytes, t, 0)
      if verdict == nil and refused.error then
        self:problem(refused, subject_of(refused, message))
        if refused.rebuild then break end
      end
      if verdict then
        self.accepted[message.type] = true
        remember(self, payload)
        self:check_after(key, message.type)
      end
      if verdict == "resolved" then break end
    end
  end
  rev:drop(key)
end

-- Initiator first; participants with and without the initiator.
local function cast(self, index)
  local limits = self.rev.model.participants
  local count = math.max(limits.min, limits.others, index % 4 == 0 and 1 or 3)
  local senders = { "walker0" }
  if limits.initiator == "required" or (limits.initiator ~= "excluded" and index % 2 == 0) then
    senders[2] = "walker0"
    count = math.max(count - 1, limits.others)
  end
  for i = 1, math.min(count, limits.max) do senders[#senders + 1] = "walker" .. i end
  return senders
end

---Walks.
---@param rev macp.modes.Revision a revision without other sessions
---@param opts table|nil { seed, sessions, steps }
---@return table[] problems
---@return table[] notes
function M.run(rev, opts)
  opts = opts or {}
  local self = setmetatable({ rev = rev, random = generator(opts.seed or 1), steps = opts.steps or DEFAULT_STEPS,
    problems = {}, seen = {}, accepted = {}, serial = 0, started = 0, was_ready = false }, Walk)
  rev.quiet = true
  for index = 1, opts.sessions or DEFAULT_SESSIONS do self:session(index, cast(self, index)) end
  rev.faulty, rev.quiet = nil, nil
  local notes = {}
  if self.started > 0 and not self.was_ready then
    notes[1] = { path = rev.root .. "mode.lua", line = rev.maps["mode.lua"]:line("outcomes"), severity = "note",
      text = string.format("no outcome became ready in %d random sessions (seed %d)", self.started, opts.seed or 1) }
  end
  return self.problems, notes
end

return M
