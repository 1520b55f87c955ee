-- The local copy of a session: what the accepted messages seen so far make of it, by the mode's own rules. It judges
-- nothing; it only shows, as the control plane does under projection.mode.view.

local log = require("host.log")
local sys = require("host.sys")

local json = require("macp.core.json")

local messages = require("macp.protocol.messages")

local NO_RULES = { rules = {}, schema_version = 1 }

local Replica = {}
Replica.__index = Replica

local M = {}

local serial = 0

---@class macp.sdk.Replica
---@field transcript table[] envelopes in the order they were observed
---@field start table|nil payload of SessionStart
---@field initiator string|nil
---@field commitment table|nil payload of Commitment
---@field problem string|nil why there is no (exact) view: the mode could not start or apply something

---@param rev table the mode's revision
---@param session_id string
---@param policy { rules: table, schema_version: integer }|nil what the session is bound to. Without it the copy uses the
---  mode's default for every rule: views that show a rule show the default, everything else is the same, because rules
---  decide what is accepted and a copy holds only what was.
function M.new(rev, session_id, policy)
  serial = serial + 1
  local self = setmetatable({ rev = rev, key = session_id .. "#" .. serial, policy = policy or NO_RULES }, Replica)
  self:reset()
  return self
end

---Forgets everything: the next observation is the first.
function Replica:reset()
  if self.has_state then self.rev:drop(self.key) end
  self.has_state, self.seen, self.transcript = false, {}, {}
  self.last_t, self.start, self.initiator, self.commitment, self.problem = 0, nil, nil, nil, nil
end

-- Session time as the control plane counts it: what the sender says, but never backwards nor ahead of the clock.
local function session_time(self, envelope)
  local t, now = tonumber(envelope.timestamp_unix_ms) or 0, sys.now_ms()
  if t <= 0 or t > now then t = now end
  self.last_t = math.max(t, self.last_t)
  return self.last_t
end

local function degrade(self, envelope, problem)
  self.problem = problem
  log.warn("sdk.replica.degraded", {
    session_id = envelope.session_id, message_type = envelope.message_type, error = problem,
  })
end

local function begin(self, envelope)
  local start, err = messages.codec("macp.v1.SessionStartPayload"):decode(envelope.payload)
  if not start then return degrade(self, envelope, err.message) end
  self.start, self.initiator = start, envelope.sender
  local policy = { policy_id = start.policy_version, mode = "*", rules = self.policy.rules,
    schema_version = self.policy.schema_version }
  local ok, rejection = self.rev:start(self.key, {
    initiator = envelope.sender, participants = start.participants, payload = start, policy = policy,
    mode_version = start.mode_version, configuration_version = start.configuration_version,
    policy_version = start.policy_version, ttl_ms = start.ttl_ms, t = session_time(self, envelope), accepted = true,
  })
  self.has_state = ok == true
  if not ok then degrade(self, envelope, rejection.message) end
end

---Takes in an accepted envelope; the same message again changes nothing.
---@return boolean whether it was new
function Replica:observe(envelope)
  local id = envelope.message_id
  if self.seen[id] then return false end
  self.seen[id] = true
  self.transcript[#self.transcript + 1] = envelope
  local message_type = envelope.message_type
  if message_type == "SessionStart" then
    begin(self, envelope)
    return true
  end
  if message_type == "Commitment" then
    self.commitment = messages.codec("macp.v1.CommitmentPayload"):decode(envelope.payload)
  end
  if self.has_state then
    local ok, err = self.rev:apply(self.key, message_type, envelope.sender, envelope.payload,
      session_time(self, envelope), self.rev:is_reserved_id(id) and 1 or 0)
    if not ok then degrade(self, envelope, err.message) end
  end
  return true
end

---The session as its mode shows it; nil before the first message.
function Replica:view()
  if not self.has_state then return nil end
  local shown = json.decode((self.rev:render(self.key)))
  return shown and shown.view
end

return M
