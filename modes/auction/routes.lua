local macp = require "macp"

return {
  { "GET /board", summary = "Bids so far, highest first", handler = function(req) return req.view.board end },
  { "GET /winners", scope = "mode", summary = "Winners of the latest auctions",
    handler = function(req)
      local page, out = req.ask("runs.list", { mode = "ext.auction.v1", status = "completed", limit = 20 }), {}
      for _, run in ipairs(page.data) do
        local view = req.ask("runs.view", { id = run.id })
        if view then out[#out + 1] = { run = run.id, winner = view.winner } end -- nil: deleted meanwhile
      end
      return macp.array(out)
    end },
}
