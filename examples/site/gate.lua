-- A site's own rules beside those of modes and policies: nobody deploys outside office hours, only operators see handoffs of
-- others, and a proposal is not longer than people read.
--
--   MACP_INGRESS_FILE=examples/site/gate.lua macp runtime
--
-- Each function is optional and returns true, or false with reasons; an error refuses, too. It runs inside the runtime and
-- may wait (host.fetch, host.task), but must not compute long.

local OFFICE_HOURS = { from = 8, to = 18 } -- UTC
local MAX_PROPOSAL_BYTES = 20000
local OPERATORS = { ["agent://operator"] = true }

local function is_open()
  local hour = tonumber(os.date("!%H"))
  return hour >= OFFICE_HOURS.from and hour < OFFICE_HOURS.to
end

return {
  start = function(caller, message)
    local intent = message.start and message.start.intent or ""
    if intent:find("deploy", 1, true) and not OPERATORS[caller.sender] and not is_open() then
      return false, { "deployments are decided between 08:00 and 18:00 UTC" }
    end
    return true
  end,

  message = function(_, _, message)
    if message.message_type == "Proposal" and #message.payload > MAX_PROPOSAL_BYTES then
      return false, { string.format("a proposal has at most %d bytes here", MAX_PROPOSAL_BYTES) }
    end
    return true
  end,

  read = function(caller, session)
    if session.mode ~= "macp.mode.handoff.v1" or OPERATORS[caller.sender] then return true end
    for _, name in ipairs(session.participants) do
      if name == caller.sender then return true end
    end
    return caller.sender == session.initiator, { "handoffs are shown to those who take part" }
  end,
}
