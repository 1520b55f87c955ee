-- Read endpoints of decisions.
local macp = require "macp"

return {
  { "GET /tally", summary = "Votes per proposal", handler = function(req)
    local out = {}
    for i, proposal in ipairs(req.view.proposals) do
      out[i] = { proposal = proposal.id, option = proposal.option, tally = proposal.tally }
    end
    return { phase = req.view.phase, proposals = out }
  end },

  { "GET /proposals/:id", summary = "One proposal with its votes, evaluations and objections", handler = function(req)
    local s, id = req.state, req.params.id
    local proposal = s.proposals[id]
    if not proposal then return nil, { "NOT_FOUND", "there is no proposal '" .. id .. "'" } end
    local function about(list)
      return macp.array(macp.filter(list, function(entry) return entry.proposal_id == id end))
    end
    return { proposal = proposal, tally = s.tally.proposals[id], votes = s.votes[id] or {},
      evaluations = about(s.evaluations), objections = about(s.objections) }
  end },

  { "GET /recent", scope = "mode", summary = "Outcomes of the latest decisions", handler = function(req)
    local page, out = req.ask("runs.list", { mode = "macp.mode.decision.v1", status = "completed", limit = 20 }), {}
    for _, run in ipairs(page.data) do
      local view = req.ask("runs.view", { id = run.id })
      if view then out[#out + 1] = { run = run.id, tally = view.tally } end -- nil: deleted meanwhile
    end
    return macp.array(out)
  end },
}
