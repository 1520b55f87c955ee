-- Three agents decide together which cache to use. Each is a task of its own and speaks only through the runtime.
--
--   macp dev --no-demo                                   in one terminal
--   macp run examples/quickstart/decision.lua            in another
--
-- Arguments: the runtime's address (127.0.0.1:50051), the pause between messages in milliseconds (0), a session id.

local task = require("host.task")
local macp = require("macp.sdk")

local target, pause_ms, session_id = ...
target, pause_ms = target or "127.0.0.1:50051", tonumber(pause_ms) or 0

local MODE = "macp.mode.decision.v1"
local OPTIONS = {
  { proposal_id = "memory", option = "keep it in memory", rationale = "fastest, and the data fits" },
  { proposal_id = "redis", option = "a shared Redis", rationale = "survives restarts of a worker" },
}
-- What each reviewer thinks of each proposal.
local OPINIONS = {
  ana = { memory = { "REVIEW", 0.6, "lost at every restart" }, redis = { "APPROVE", 0.9, "shared by all workers" } },
  ben = { memory = { "APPROVE", 0.7, "simple" }, redis = { "APPROVE", 0.8, "we run one already" } },
}
local VOTES = { ana = "redis", ben = "redis" }

local function agent(name)
  return macp.client({ target = target, allow_insecure = true, auth = macp.auth.for_dev_agent(name) })
end

local function say(name, text) print(string.format("%-5s %s", name, text)) end

-- A reviewer evaluates each proposal as it comes, and votes when the last one is on the table.
local function review(name, id)
  local client = agent(name)
  local session = client:session(MODE, { session_id = id })
  session:follow(function(envelope, payload)
    if envelope.message_type ~= "Proposal" then return end
    local recommendation, confidence, reason = unpack(OPINIONS[name][payload.proposal_id])
    task.sleep(pause_ms)
    session:evaluation({
      proposal_id = payload.proposal_id, recommendation = recommendation, confidence = confidence, reason = reason,
    })
    say(name, "evaluates " .. payload.proposal_id .. ": " .. recommendation .. ", " .. reason)
    if payload.proposal_id ~= OPTIONS[#OPTIONS].proposal_id then return end
    task.sleep(pause_ms)
    session:vote({ proposal_id = VOTES[name], vote = "APPROVE", reason = "the better trade" })
    say(name, "votes for " .. VOTES[name])
  end)
  session:close()
  client:close()
end

-- The lead proposes, waits for both votes, and commits what was chosen.
local function lead(session)
  for _, option in ipairs(OPTIONS) do
    task.sleep(pause_ms)
    session:proposal(option)
    say("lead", "proposes " .. option.proposal_id .. ": " .. option.option)
  end
  local votes = 0
  session:follow(function(envelope)
    if envelope.message_type == "Vote" then votes = votes + 1 end
    return votes < 2
  end)
  task.sleep(pause_ms)
  session:commit({ action = "cache.selected", authority_scope = "platform", reason = "both reviewers chose redis" })
  say("lead", "commits: cache.selected")
end

local client = agent("lead")
local session = client:session(MODE, { session_id = session_id })
session:start({ intent = "choose a cache", participants = { "lead", "ana", "ben" }, ttl_ms = 10 * 60 * 1000 })
say("lead", "starts session " .. session.session_id)

local ok, err = task.group(function(group)
  group:spawn(review, "ana", session.session_id)
  group:spawn(review, "ben", session.session_id)
  group:spawn(lead, session)
end)
session:close()
client:close()
if not ok then error(tostring(err.message or err), 0) end
return 0
