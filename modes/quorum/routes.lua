-- Read endpoints of quorums.
local macp = require "macp"

return {
  { "GET /ballots", summary = "Who approved, rejected or abstained, and who is silent", handler = function(req)
    local view = req.view
    return { request = view.request and view.request.id, status = view.status, ballots = view.ballots,
      silent = view.silent }
  end },

  { "GET /recent", scope = "mode", summary = "Results of the latest requests", handler = function(req)
    local page, out = req.ask("runs.list", { mode = "macp.mode.quorum.v1", status = "completed", limit = 20 }), {}
    for _, run in ipairs(page.data) do
      local view = req.ask("runs.view", { id = run.id })
      if view then out[#out + 1] = { run = run.id, status = view.status, tally = view.tally } end -- nil: deleted meanwhile
    end
    return macp.array(out)
  end },
}
