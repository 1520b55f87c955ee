-- Context: the read-only `c` of a session. Scalars live in a table that is updated per message; participants and
-- rules are real tables (so `#` works), each compared with a copy whenever a script has looked at it.

local sandbox = require("macp.modes.inside.sandbox")

local AUTHORITIES = { initiator_only = true, any_participant = true, designated_role = true }

local M = {}

local Session = {}
local NO_ROOTS = sandbox.freeze({})

local function members(list)
  local set = {}
  for _, name in ipairs(list) do set[name] = true end
  return set
end

local function refuse_assignment(_, key)
  error("c is read-only (assignment to 'c." .. tostring(key) .. "')", 2)
end

local function readonly_proxy(fields)
  return setmetatable({}, { __index = fields, __newindex = refuse_assignment, __metatable = false })
end

-- Fields that only presentation sees: they may not influence acceptance.
local function view_fields(fields, payload)
  local seen = { context_id = payload.context_id or "", extensions = payload.extensions or {} }
  return setmetatable(seen, { __index = fields })
end

-- What only presentation needs is made when it is asked for: a runtime has many sessions that nobody looks at.
local LAZY = {
  view_fields = function(session)
    return view_fields(session.fields, { context_id = session.context_id, extensions = session.extensions })
  end,
  view_c = function(session) return readonly_proxy(session.view_fields) end,
}

local SESSION = {
  __index = function(session, name)
    local method = Session[name]
    if method ~= nil then return method end
    local make = LAZY[name]
    if make == nil then return nil end
    local value = make(session)
    rawset(session, name, value)
    return value
  end,
}

---A resolved rule tree as sessions use it: { frozen, copy, designated, authority }.
function M.rules(tree)
  local group = tree.commitment or {}
  local designated = type(group.designated_roles) == "table" and group.designated_roles or {}
  return { frozen = sandbox.freeze(sandbox.copy(tree)), copy = tree, designated = members(designated),
    authority = AUTHORITIES[group.authority] and group.authority or "initiator_only" }
end

-- What c.participants and c.rules lead to; remembers that a script has looked.
local function touch(session)
  return function(_, name)
    if name == "participants" then
      session.participants_copy = session.participants_copy or sandbox.copy(session.participants)
      session.touched, session.saw_participants = true, true
      return session.participants
    elseif name == "rules" then
      session.touched, session.saw_rules = true, true
      return session.rules.frozen
    end
    return nil
  end
end

local function roots_of(payload)
  local roots = payload.roots
  if roots == nil or next(roots) == nil then return NO_ROOTS end
  return sandbox.freeze(sandbox.copy(roots))
end

---Builds a session from its start record.
---@param key string
---@param start table initiator, participants, payload, policy, mode_version, configuration_version, policy_version,
--- ttl_ms, t
---@param rules table of M.rules
function M.new(key, start, rules)
  local payload = start.payload or {}
  local session = setmetatable({
    key = key, initiator = start.initiator, seq = 1, bytes = 0, messages = 0,
    mode_version = start.mode_version or payload.mode_version or "",
    configuration_version = start.configuration_version or payload.configuration_version or "",
    policy_id = start.policy_version or (start.policy and start.policy.policy_id) or "policy.default",
    policy_problem = start.policy and start.policy.problem, -- why the policy of the session cannot be evaluated
    context_id = payload.context_id ~= "" and payload.context_id or nil,
    extensions = payload.extensions and next(payload.extensions) ~= nil and payload.extensions or nil,
    is_member = members(start.participants), touched = false,
  }, SESSION)
  local participants = {}
  for i, name in ipairs(start.participants) do participants[i] = name end
  session.participants = sandbox.freeze(participants)
  session.rules = rules
  local is_member = session.is_member
  session.fields = setmetatable({
    initiator = start.initiator, n = #participants, is_participant = function(name) return is_member[name] == true end,
    schema_version = start.policy and start.policy.schema_version or 1, policy_id = session.policy_id,
    mode_version = session.mode_version, configuration_version = session.configuration_version,
    intent = payload.intent or "", roots = roots_of(payload),
    ttl_ms = start.ttl_ms or payload.ttl_ms or 0, t = start.t or 0, seq = 1, synthetic = false,
  }, { __index = touch(session) })
  session.c = readonly_proxy(session.fields)
  return session
end

---Whether a sender may commit.
function Session:may_commit(sender)
  local rules = self.rules
  if rules.authority == "any_participant" then return sender == self.initiator or self.is_member[sender] == true end
  if rules.authority == "designated_role" then return rules.designated[sender] == true end
  return sender == self.initiator
end

---Raises when a script wrote into c.participants or c.rules; both are restored first.
function Session:verify()
  local changed = self.saw_participants and sandbox.restore(self.participants, self.participants_copy)
  if self.saw_rules and sandbox.restore(self.rules.frozen, self.rules.copy) then changed = true end
  self.touched, self.saw_participants, self.saw_rules = false, false, false
  if changed then
    error("c.participants and c.rules are read-only; a script changed them", 0)
  end
end

return M
