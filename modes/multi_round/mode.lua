-- Multi-round: everybody states a value and may change it, until all values are the same.
local macp = require "macp"

-- How many participants stand behind each value, so that convergence costs the same with any number of them. Values
-- can be long and are known by their digest.
local function move(s, from, to)
  if from then
    local key = macp.sha256(from)
    local left = s.support[key] - 1
    s.support[key] = left > 0 and left or nil
  end
  local key = macp.sha256(to)
  s.support[key] = (s.support[key] or 0) + 1
  return s.support[key]
end

return {
  id      = "ext.multi_round.v1",
  version = "1.0.0",
  title   = "Multi-Round Mode",
  summary = "Participants contribute values and revise them until all of them agree on one.",
  package = "macp.modes.multi_round.v1",
  schema_uris = {
    protobuf = "buf.build/multiagentcoordinationprotocol/macp",
    proto    = "buf.build/multiagentcoordinationprotocol/macp",
  },

  participants = { model = "peer", min = 1 },
  determinism  = "semantic-deterministic",

  -- round counts changes: a contribution that repeats the sender's value is accepted and is none
  state = { round = 0, contributions = {}, support = {}, converged = false },

  messages = {
    Contribute = {
      from     = "participant",
      encoding = "json|proto",                     -- older agents send {"value": "..."}
      payload  = [[ string value = 1 [min = 1]; ]],
      needs = {
        { "contributions have not converged", function(s) return not s.converged end },
      },
      apply = function(s, p, by, c)
        local before = s.contributions[by]
        if before == p.value then return end
        s.contributions[by] = p.value
        s.round = s.round + 1
        s.converged = move(s, before, p.value) == c.n
      end,
      doc = "States or changes the sender's value.",
    },
  },

  outcomes = {
    { action = "multi_round.converged", when = function(s) return s.converged end },
  },

  result = function(s)
    local _, value = macp.find(s.contributions, function() return true end)
    return { converged_value = value, round = s.round, final = true }
  end,
}
