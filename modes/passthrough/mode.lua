-- Passthrough: the handler of every mode that is registered over the wire. Such a mode is its descriptor and nothing
-- else: payloads are opaque, any order of messages is fine, a Commitment ends the session.
local descriptor = require "lib.descriptor"

-- Not messages of a mode, whatever a descriptor says: the start has rules of its own, the others are the protocol's.
local PROTOCOL = {
  SessionStart = true, Commitment = true, Signal = true, Progress = true,
  SessionCancel = true, SessionSuspend = true, SessionResume = true, TtlExpired = true, Checkpoint = true,
}

local may_send = {
  "the sender is a participant",
  function(s, p, by, c) return c.n == 0 or c.is_participant(by) end, -- nobody declared: everybody may
  "FORBIDDEN",
}

local function keep(name)
  return function(s, p, by)
    s.message_type, s.sender, s.payload = name, by, p.payload
    s.count = s.count + 1
  end
end

local messages = {
  Commitment = {
    apply = function(s, p) s.committed = { action = p.action, commitment_id = p.commitment_id } end,
  },
}
for _, name in ipairs(descriptor.message_types) do
  if not PROTOCOL[name] then
    messages[name] = {
      from = "anyone", encoding = "raw", payload = [[ bytes payload = 1; ]], needs = { may_send }, apply = keep(name),
    }
  end
end

return {
  template = descriptor,
  package  = "ext.passthrough",

  participants = { min = 0 },

  state    = { count = 0, message_type = "", sender = "", payload = "" }, -- the last message
  messages = messages,
  outcomes = { { action = "committed" } },
  result   = function(s) return s.committed end,
}
