-- Read endpoints of negotiations.
local macp = require "macp"

return {
  { "GET /proposals/:id", summary = "One proposal with its details in base64, who accepts it and who rejected it",
    handler = function(req)
      local s, id = req.state, req.params.id
      local own = s.proposals[id]
      if not own then return nil, { "NOT_FOUND", "there is no proposal '" .. id .. "'" } end
      local out = macp.copy(own)
      out.tags, out.details = macp.array(out.tags), macp.base64(own.details)
      local function about(list)
        return macp.array(macp.filter(list, function(entry) return entry.proposal_id == id end))
      end
      return { proposal = out, rejections = about(s.rejections),
        accepts = macp.array(macp.keys(macp.filter(s.accepts, function(accepted) return accepted == id end))) }
    end },

  { "GET /recent", scope = "mode", summary = "How the latest negotiations ended", handler = function(req)
    local page, out = req.ask("runs.list", { mode = "macp.mode.proposal.v1", status = "completed", limit = 20 }), {}
    for _, run in ipairs(page.data) do
      local view = req.ask("runs.view", { id = run.id })
      if view then -- nil: deleted meanwhile
        out[#out + 1] = { run = run.id, converged_on = view.converged_on, proposals = view.proposal_count }
      end
    end
    return macp.array(out)
  end },
}
