-- Sessions: how the state of a session begins, leaves as bytes and comes back. What happens in between is step.lua.

local native = native
local context = require("macp.modes.inside.context")
local policy = require("macp.modes.inside.policy")
local sandbox = require("macp.modes.inside.sandbox")
local state = require("macp.modes.inside.state")
local step = require("macp.modes.inside.step")

local INVALID = "INVALID_ENVELOPE"
local FORMAT = 1

local M = {}

local sessions, enter = step.sessions, step.enter
local program

---Takes the compiled mode.
function M.install(built)
  program = built
end

local function start_problem(start)
  local limits, count = program.participants, #start.participants
  local is_in = false
  local others = 0
  for _, name in ipairs(start.participants) do
    if name == start.initiator then is_in = true else others = others + 1 end
  end
  if count < limits.min then return string.format("at least %d participants are needed, not %d", limits.min, count),
    "min" end
  if count > limits.max then return string.format("at most %d participants are allowed, not %d", limits.max, count),
    "max" end
  if others < limits.others then
    return string.format("at least %d participants besides the initiator are needed, not %d", limits.others, others),
      "others"
  end
  if limits.initiator == "required" and not is_in then return "the initiator must be a participant", "initiator" end
  if limits.initiator == "excluded" and is_in then return "the initiator may not be a participant", "initiator" end
  return nil
end

-- What SessionStart rules see of the start payload: everything but what may not influence acceptance.
local function start_payload(start)
  local p = {}
  for name, value in next, start.payload or {} do
    if name ~= "context_id" and name ~= "extensions" then p[name] = value end
  end
  p.participants = sandbox.copy(start.participants)
  return p
end

-- Sessions under the same rules share one resolved tree.
local trees = setmetatable({}, { __mode = "v" })

local function resolve(rules)
  local text = native.json_encode(rules, true) or error("the rules of the policy are not plain data", 0)
  local tree = trees[text]
  if tree == nil then
    tree = context.rules(policy.resolve(program.policy, rules))
    trees[text] = tree
  end
  return tree
end

local function make_session(key, start)
  local session = context.new(key, start, resolve(start.policy and start.policy.rules or {}))
  enter("state", "state")
  session.s = program.state and program.state(session.c) or {}
  if type(session.s) ~= "table" then error("state(c) must return a table", 0) end
  return session
end

---Starts a session. Returns true, next due; or nil, code, message, rule. A start that another runtime has accepted
---(start.accepted) is not judged again.
function M.start(key, start)
  enter("start", "SessionStart")
  step.mark(nil)
  sessions[key] = nil
  local reason, rule
  if not start.accepted then reason, rule = start_problem(start) end
  if reason then return nil, INVALID, reason, "participants." .. rule end
  local session = make_session(key, start)
  local spec = program.session_start
  if spec then
    local p = start_payload(start)
    if not start.accepted then
      local code, why, need = step.check_needs(session, spec, p, start.initiator)
      if code then return nil, code, why, need end
    end
    if spec.apply then
      enter("apply", spec.apply_subject)
      spec.apply(session.s, p, start.initiator, session.c)
    end
  end
  sessions[key] = session
  return true, step.due(key)
end

---Everything of a session that its start record does not say, as a table that shares the state.
function M.checkpoint(key)
  local session = sessions[key]
  if session == nil then error("the state of this session is not loaded", 0) end
  enter("encode", "state")
  return { v = FORMAT, seq = session.seq, bytes = session.bytes, messages = session.messages,
    degraded = session.degraded, extra = session.extra, state = session.s }
end

---The same as deterministic bytes.
function M.encode(key)
  local bytes, problem = native.cbor_encode(M.checkpoint(key), "checkpoint")
  if bytes == nil then error((tostring(problem):gsub("checkpoint%.", "")), 0) end
  return bytes
end

---Puts a session back from the bytes of encode; raises when they are not such bytes.
function M.restore(key, start, bytes)
  enter("restore", "state")
  step.mark(nil)
  local stored = state.decode(bytes)
  local session = make_session(key, start)
  session.s, session.seq, session.bytes = stored.state, stored.seq, stored.bytes
  session.messages, session.degraded, session.extra = stored.messages, stored.degraded, stored.extra
  sessions[key] = session
  return true
end

---Forgets a session.
function M.drop(key)
  sessions[key] = nil
end

---What both polarities would meet now, as JSON: readiness and policy.
function M.explain(key)
  local session, out = sessions[key], {}
  for name, positive in next, { positive = true, negative = false } do
    local denied, reasons
    if step.is_ready(session, positive) then denied, reasons = step.evaluate(session, positive, "", "") end
    out[name] = { ready = denied ~= nil, allowed = denied == false, reasons = native.array(reasons or {}) }
  end
  return native.json_encode(out, true)
end

return M
